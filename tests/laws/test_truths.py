"""The exact truths that are kept on disk are those of the oracles as they are."""

from __future__ import annotations

import numpy as np
import pytest

from tests.laws import accuracy, second_order, truths
from tests.laws.case import FAMILIES
from tests.laws.rows import ROWS_OF

STALE = "the oracles of {} have changed: make truths"


def stale(store: truths.Store) -> str:
    return "" if store.fresh else STALE.format(store.family)


@pytest.mark.parametrize("family", FAMILIES)
def test_truths_are_fresh_and_whole(family: str) -> None:
    store = truths.Store(family)
    assert not stale(store), stale(store)
    wanted = {ask.question() for ask in second_order.all_asks(family)}
    assert wanted == store.answers.keys(), f"the rows of {family} have changed: make truths"


@pytest.mark.parametrize("family", [family for family in FAMILIES if ROWS_OF[family]])
def test_some_truths_asked_again(family: str) -> None:
    """A few values and derivatives of each family, at points that change with the oracles."""
    rng = np.random.default_rng(int(truths.source(family)[:8], 16))
    every = second_order.all_asks(family)
    for i in rng.choice(len(every), 5):
        kept, now = truths.ask_again(*every[i], place=int(rng.integers(len(every[i].rows))))
        np.testing.assert_array_equal(kept.exact, now.exact)
        np.testing.assert_array_equal(kept.largest, now.largest)


def test_a_wrong_truth_is_noticed() -> None:
    (ask, *_) = accuracy.asks(ROWS_OF["regression"][0])
    kept, now = truths.ask_again(*ask, place=1)
    assert np.all(kept.exact == now.exact)
    assert not np.any(kept.exact * (1 + 1e-12) == now.exact)


def test_a_changed_oracle_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(truths, "source", lambda family: "another")
    store = truths.Store("regression")
    assert stale(store)
    assert not store.answers
