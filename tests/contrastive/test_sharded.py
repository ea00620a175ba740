"""A batch whose examples lie on several devices: each example meets all others."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import Any

import jax
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import jaxloss
from jaxloss.testing.subject import assert_close, evaluation
from tests.contrastive.cases import CASES
from tests.laws.case import Case

ROWS = 8


def placed(kind: AxisType, *args: Any) -> tuple[Any, Any]:
    """The examples, each on a device of its own, and the mesh that has to be set."""
    mesh = jax.make_mesh((ROWS,), ("examples",), axis_types=(kind,))
    sharding = NamedSharding(mesh, PartitionSpec("examples"))
    explicit = kind is AxisType.Explicit
    return jax.device_put(args, sharding), jax.set_mesh(mesh) if explicit else None


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_pairs_of_examples_on_different_devices(case: Case) -> None:
    row = dataclasses.replace(case, inner=(ROWS, 3))
    args = [x[0] for x in row.draw(shape=(1,))]
    program = jax.jit(evaluation(row))
    expected = program(*args)
    for kind in (AxisType.Auto, AxisType.Explicit):
        examples, mesh = placed(kind, *args)
        with mesh or contextlib.nullcontext():
            found = program(*examples)
        for got, want in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            assert_close(got, want)
        # In a mesh of Auto axes that is the compiler's choice.
        for gradient, x in zip(found[1], examples, strict=False):
            same = gradient.sharding.is_equivalent_to(x.sharding, gradient.ndim)
            assert same or kind is AxisType.Auto


@pytest.mark.parametrize("function", [jaxloss.pairwise_distance, jaxloss.pairwise_similarity])
def test_matrices_of_pairs(function: Any) -> None:
    x, y = np.random.default_rng(0).normal(size=(2, ROWS, 3)).astype(np.float32)
    expected = function(x), function(x, y)
    for kind in (AxisType.Auto, AxisType.Explicit):
        (a, b), mesh = placed(kind, x, y)
        with mesh or contextlib.nullcontext():
            found = function(a), function(a, b)
        for got, want in zip(found, expected, strict=True):
            assert_close(got, want)


def test_masks_and_weights_on_different_devices() -> None:
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(ROWS, 3)).astype(np.float32), np.arange(ROWS) % 3
    mask, weights = np.arange(ROWS) != 3, rng.uniform(1, 2, ROWS).astype(np.float32)

    @jax.jit
    def means(x: Any, labels: Any, where: Any, weights: Any, views: Any) -> Any:
        options = {"where": where, "weights": weights, "reduction": "mean"}
        return (
            jaxloss.supervised_contrastive_loss(x, labels, **options),
            jaxloss.info_nce_loss(x, views, negatives=views, temperature=0.5, **options),
            jaxloss.vicreg_loss(x, views, where=where),
        )

    args = x, labels.astype(np.int32), mask, weights, np.flip(x, 1)
    expected = means(*args)
    examples, mesh = placed(AxisType.Explicit, *args)
    with mesh or contextlib.nullcontext():
        found = means(*examples)
    for got, want in zip(found, expected, strict=True):
        assert_close(got, want)
