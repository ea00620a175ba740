"""What a user writes, run here and read by pyright, basedpyright and mypy (`make lint`).

Deliberate mistakes are marked, in the words of mypy. All three report a mark without a mistake.
"""

# pyright: strict, reportUnnecessaryTypeIgnoreComment=true
from __future__ import annotations

import functools
from typing import Any, assert_type

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


@jaxloss.elementwise
def quartic(predictions: jax.Array, targets: jax.Array, *, scale: ArrayLike = 1.0) -> jax.Array:
    """A loss of one's own."""
    return ((predictions - targets) / scale) ** 4


@jaxloss.over_axis(axis=0, domain={"margin": lambda x: x >= 0}, per_example=["y"])
def separation(x: jax.Array, y: jax.Array, *, margin: ArrayLike = 1.0) -> jax.Array:
    return jnp.maximum(margin - y * jnp.max(x), 0)


def cube(x: jax.Array) -> jax.Array:
    return x**3


def of_cube(x: jax.Array) -> jax.Array:
    return 3 * x**2


def test_a_loss_of_ones_own_is_a_loss() -> None:
    assert_type(quartic(P, T, scale=0.5), jax.Array)
    assert_type(quartic(P, T, where=[True, True, False], weights=2, reduction="mean"), jax.Array)
    assert_type(Mean.of(quartic, P, T, weights=P), Mean)
    assert_type(separation(P, 1, margin=2), jax.Array)
    cubed = jaxloss.elementwise(cube, derivative=of_cube)
    assert_type(cubed(P), jax.Array)
    assert_type(jax.vmap(cubed)(P), jax.Array)


def warmup(step: ArrayLike) -> ArrayLike:
    return jnp.minimum(step, 10) / 10


def test_a_sum_of_losses_is_a_number_and_what_they_were() -> None:
    first, second = quartic(P, T, reduction="mean"), Mean.of(quartic, P, T)
    total, terms = jaxloss.combine({"first": first, "second": second})
    assert_type(total, jax.Array)
    assert_type(terms, dict[str, Any])
    terms = {"first": first, "last": second.value()}
    total, _ = jaxloss.combine(terms, weights={"first": 2.0, "last": warmup}, step=3)
    assert_type(total, jax.Array)

    def loss(s: jax.Array) -> tuple[jax.Array, dict[str, Any]]:
        return jaxloss.combine({"first": first}, log_variances={"first": s})

    assert loss(T[0])[1] == {"first": first}


def test_gradients_of_parts_are_as_jax_has_them() -> None:
    def loss_fn(scale: jax.Array, x: jax.Array) -> Mean:
        return Mean.of(jaxloss.l2_loss, scale * x)

    def scaled(scale: jax.Array, x: jax.Array) -> jax.Array:
        return scale * x

    for value_and_grad in (
        jaxloss.accumulate_value_and_grad(loss_fn, microbatches=3),
        jaxloss.cached_value_and_grad(scaled, loss_fn, chunks=3),
    ):
        assert_type(value_and_grad(P[0], P), tuple[Any, Any])


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
    with pytest.raises(AttributeError):
        _ = quartic(P, T).total  # type: ignore[attr-defined]
    with pytest.raises(TypeError):
        jaxloss.elementwise(quartic, derivative=2)  # type: ignore[call-overload]
    with pytest.raises(TypeError):
        jaxloss.combine({"mask": jaxloss.l1_loss})  # type: ignore[dict-item]


def test_parts_are_asked_for_by_mean_of_alone() -> None:
    """It works when run, but every loss is an array to a checker."""
    part = jaxloss.l1_loss(P, T, reduction="partial")  # type: ignore[arg-type]
    assert isinstance(part, Mean)
