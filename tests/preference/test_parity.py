"""Preference, live against TRL's public formulas on PyTorch's logsigmoid, in float64."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import jaxloss
from tests.laws.peers import alike, close, evaluated, float32, of_torch

# Of the chosen and the rejected answer, under the model and under its reference.
NUMBERS = np.random.default_rng(6).normal(-20, 8, (4, 64)).astype(np.float32)
MEANS = NUMBERS[:2] / 20 - 1.5
LENGTHS = np.random.default_rng(8).integers(1, 40, (2, 64)).astype(np.float32)
LABELS = (np.arange(64) % 3 == 0).astype(np.float32)


def compare(
    ours: Callable[..., Any], theirs: Callable[..., Any], *inputs: np.ndarray, largest: float = 0.0
) -> None:
    alike(evaluated(ours, *inputs), of_torch(theirs, *inputs, dtype=np.float64), largest=largest)


def dpo_of_trl(kind: str, e: float, F: Any, c: Any, r: Any, c0: Any, r0: Any) -> Any:
    beta = 0.25
    logits = (c - r) - (c0 - r0)
    wins, loses = -F.logsigmoid(beta * logits), -F.logsigmoid(-beta * logits)
    return {
        "sigmoid": lambda: (1 - e) * wins + e * loses,
        "robust": lambda: ((1 - e) * wins - e * loses) / (1 - 2 * e),
        "hinge": lambda: F.relu(1 - beta * logits),
        "ipo": lambda: (logits - 1 / (2 * beta)) ** 2,
    }[kind]()


@pytest.mark.parametrize(
    ("kind", "smoothing"),
    [("sigmoid", 0.0), ("sigmoid", 0.125), ("hinge", 0.0), ("ipo", 0.0)],
)
def test_dpo(kind: Any, smoothing: float) -> None:
    options: dict[str, Any] = {"label_smoothing": smoothing} if smoothing else {}
    ours = functools.partial(jaxloss.dpo_loss, beta=0.25, kind=kind, **options)
    compare(ours, functools.partial(dpo_of_trl, kind, smoothing), *NUMBERS)


def test_robust_dpo() -> None:
    ours = functools.partial(jaxloss.dpo_loss, beta=0.25, kind="robust", label_smoothing=0.125)
    theirs = functools.partial(dpo_of_trl, "robust", 0.125)
    losses, slopes = evaluated(ours, *NUMBERS)
    expected, wanted = of_torch(theirs, *NUMBERS, dtype=np.float64)
    # A difference of two losses.
    close(losses, expected, largest=10)
    close(slopes, wanted)


def test_bradley_terry() -> None:
    ours = functools.partial(jaxloss.bradley_terry_loss, margin=0.5)
    compare(ours, lambda F, c, r: -F.logsigmoid(c - r - 0.5), *NUMBERS[:2])


def test_simpo() -> None:
    def theirs(F: Any, c: Any, r: Any, m: Any, n: Any) -> Any:
        return -F.logsigmoid(2.5 * ((c / m - r / n) - 1.25 / 2.5))

    ours = functools.partial(jaxloss.simpo_loss, beta=2.5, gamma=1.25)
    compare(ours, theirs, *NUMBERS[:2], *LENGTHS)


def orpo_of_trl(F: Any, c: Any, r: Any) -> Any:
    odds = (c - r) - ((-c.exp()).log1p() - (-r.exp()).log1p())
    return -c - 0.5 * F.logsigmoid(odds)


def test_orpo() -> None:
    assert MEANS.max() < 0
    compare(functools.partial(jaxloss.orpo_loss, beta=0.5), orpo_of_trl, *MEANS)


def test_orpo_of_log_odds() -> None:
    def theirs(F: Any, c: Any, r: Any) -> Any:
        return orpo_of_trl(F, F.logsigmoid(c), F.logsigmoid(r))

    ours = functools.partial(jaxloss.orpo_loss, beta=0.5, log_odds=True)
    compare(ours, theirs, *NUMBERS[:2] / 8)


def test_kto() -> None:
    def theirs(F: Any, p: Any, p0: Any) -> Any:
        good = 1.5 * (1 - (0.25 * (p - p0 - 0.5)).sigmoid())
        bad = 0.75 * (1 - (0.25 * (0.5 - (p - p0))).sigmoid())
        return good.where(good.new_tensor(LABELS) > 0, bad)

    options = {"reference_point": 0.5, "desirable_weight": 1.5, "undesirable_weight": 0.75}
    ours = functools.partial(jaxloss.kto_loss, labels=LABELS, beta=0.25, **options)
    # Theirs is 1 - sigmoid, of which digits of float64 are lost near 1: 1e-15.
    compare(ours, theirs, *NUMBERS[:2], largest=1e-9)


def test_trl_cannot_be_sure_in_float32() -> None:
    """1 - exp(c) is 0 for an answer that is nearly certain: no number, and no gradient."""
    pair = float32([-1e-9], [-1.0])
    _, (slope, _) = of_torch(orpo_of_trl, *pair)
    assert np.isnan(slope)
    value, (slope, _) = evaluated(jaxloss.orpo_loss, *pair)
    assert value > 0
    assert np.all(np.isfinite(slope))
