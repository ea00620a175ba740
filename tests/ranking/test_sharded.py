"""Lists on several devices, whose pairs are more than fit into one block."""

from __future__ import annotations

import contextlib
import inspect
from typing import Any

import jax
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import jaxloss
from jaxloss._ranking import blocks
from jaxloss.testing.subject import assert_close
from tests.laws.rules import assert_no_data_moves

LISTS, SIZE = 24, 11


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
@pytest.mark.parametrize("pairs", [40, 300])
def test_each_device_loops_over_its_own_lists(pairs: int, kind: AxisType, monkeypatch: Any) -> None:
    """Over blocks of a few documents, or of a few lists."""
    rng = np.random.default_rng(0)
    args = rng.normal(size=(LISTS, SIZE)), rng.integers(0, 4, (LISTS, SIZE))
    args = (*args, rng.uniform(1, 2, (LISTS, SIZE, SIZE)))
    args = tuple(x.astype(np.float32) for x in args)

    def evaluate(scores: Any, labels: Any, pair_weights: Any) -> Any:
        def total(scores: Any, pair_weights: Any) -> Any:
            logistic = inspect.unwrap(jaxloss.pairwise_logistic_loss)
            losses = logistic(scores, labels, pair_weights=pair_weights)
            return losses.sum() + inspect.unwrap(jaxloss.approx_ndcg_loss)(scores, labels).sum()

        return jax.value_and_grad(total, (0, 1))(scores, pair_weights)

    expected = jax.jit(evaluate)(*args)
    monkeypatch.setattr(blocks, "_PAIRS", pairs)
    mesh = jax.make_mesh((8,), ("lists",), axis_types=(kind,))
    explicit = kind is AxisType.Explicit
    with jax.set_mesh(mesh) if explicit else contextlib.nullcontext():
        placed = jax.device_put(args, NamedSharding(mesh, PartitionSpec("lists")))
        program = jax.jit(lambda *args: evaluate(*args)).lower(*placed).compile()
        found = program(*placed)
    for got, want in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert_close(got, want)
    text = program.as_text()
    assert text
    assert "while" in text
    assert_no_data_moves(text, LISTS)
