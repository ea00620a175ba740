"""What a user writes, run here and read by pyright, basedpyright and mypy (`make lint`).

Deliberate mistakes are marked, in the words of mypy. All three report a mark without a mistake.
"""

# pyright: strict, reportUnnecessaryTypeIgnoreComment=true
from __future__ import annotations

import functools
from typing import assert_type

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.typing import ArrayLike

import jaxloss
from jaxloss import Mean, Reduction, Weights, Where

# Not by `jnp.array`, of whose type JAX leaves a part unknown.
P = jaxloss.reduce([1.0, 2.0, 4.0])
T = 0 * P


def halved(
    predictions: ArrayLike,
    targets: ArrayLike,
    *,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """A wrapper."""
    losses = jaxloss.l1_loss(predictions, targets, where=where)
    return jaxloss.reduce(losses / 2, where=where, weights=weights, reduction=reduction)


def test_a_loss_is_an_array() -> None:
    assert_type(jaxloss.l1_loss(P, T), jax.Array)
    assert_type(jaxloss.l1_loss(P, T, reduction="mean"), jax.Array)
    assert_type(jaxloss.softmax_cross_entropy_with_integer_labels(P, np.int32(1)), jax.Array)
    assert_type(jaxloss.dice_loss(P[:, None, None], np.ones((3, 1, 1)), axis=None), jax.Array)
    assert_type(jaxloss.make_fenchel_young_loss(jnp.max)(P, T), jax.Array)
    assert_type(jaxloss.reduce([1.0, 2.0], reduction="sum"), jax.Array)
    loss = jaxloss.huber_loss([1.0, 2.0], [0, 1], delta=0.5)
    assert loss.shape == (2,)


def test_a_wrapper_is_annotated_with_public_names() -> None:
    assert_type(halved(P, T, where=P > 1, weights=P, reduction="sum"), jax.Array)
    for where in (None, True, np.array([True, False, True]), [True, False, True]):
        assert halved(P, T, where=where).shape == (3,)
    for weights in (None, 2, 0.5, True, np.ones(3, int), P > 1, [1.0, 2.0, 0.5], [1, 0, 2]):
        assert halved(P, T, weights=weights).shape == (3,)
    nested: Where = [[True], [False]]
    assert jaxloss.l1_loss(np.ones((2, 3)), where=nested).shape == (2, 3)


def test_a_mean_is_a_mean() -> None:
    mean = Mean.of(jaxloss.l1_loss, P, T, where=[True, True, False])
    assert_type(mean, Mean)
    assert_type(mean + mean, Mean)
    assert_type(sum([mean, mean], Mean.zero()), Mean)
    assert_type(mean.total, jax.Array)
    assert_type(mean.value(), jax.Array)
    assert float(mean) == 1.5
    assert_type(Mean.of(halved, P, T, weights=P), Mean)
    assert_type(Mean.of(functools.partial(jaxloss.huber_loss, delta=0.5), P, T), Mean)
    assert_type(Mean.of(jaxloss.reduce, P, where=P > 1), Mean)

    def of_one(prediction: jax.Array) -> Mean:
        return Mean.of(jaxloss.l1_loss, prediction)

    assert_type(jax.vmap(of_one)(P), Mean)
    assert_type(jax.vmap(of_one, axis_name="i")(P).value(), jax.Array)


def test_mistakes_are_reported() -> None:
    """By the checkers, and by Python."""
    mean = Mean.of(jaxloss.l1_loss, P, T)
    with pytest.raises(AttributeError):
        _ = mean.totl  # type: ignore[attr-defined]
    with pytest.raises(AttributeError):
        _ = jaxloss.l1_loss(P, T).total  # type: ignore[attr-defined]
    with pytest.raises(TypeError):
        _ = mean / 2  # type: ignore[operator]
    with pytest.raises(TypeError):
        _ = mean < 2  # type: ignore[operator]
    with pytest.raises(TypeError):
        _ = mean + 1.0  # type: ignore[operator]
    with pytest.raises(TypeError):
        jaxloss.l1_loss(P, tragets=T)  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        Mean.of(jaxloss.l1_loss, P, tragets=T)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="reduction must be one of"):
        jaxloss.l1_loss(P, T, reduction="avg")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        jaxloss.l1_loss(P, T, where=object())  # type: ignore[arg-type]
    with pytest.raises(AttributeError):
        _ = jaxloss.mse_loss  # type: ignore[attr-defined]


def test_parts_are_asked_for_by_mean_of_alone() -> None:
    """It works when run, but every loss is an array to a checker."""
    part = jaxloss.l1_loss(P, T, reduction="partial")  # type: ignore[arg-type]
    assert isinstance(part, Mean)
