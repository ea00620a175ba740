"""What theorems about losses need: samples, minimisers, and losses that are one and the same."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st

from tests.laws import values
from tests.laws.values import EPS

ERRORS = values.single([-1e3, -30.0, -2.0, -0.5, -1e-3, 0.0, 0.25, 1.0, 7.0])
ZEROS = np.zeros_like(ERRORS)
# Predictions and targets.
POINTS = values.single([3.0, -1.25, 0.5, 8.0, 2.0]), values.single([1, -1, 0.5, -24, 2.125])


def samples(low: float, high: float) -> st.SearchStrategy[np.ndarray]:
    """Nine multiples of 1/1024: one shape compiles once, and an odd count has one median."""
    numbers = st.integers(int(low * 1024), int(high * 1024))
    return st.lists(numbers, min_size=9, max_size=9).map(lambda x: np.array(x, np.float32) / 1024)


def gradients(loss: Callable[..., Any], *inputs: Any) -> tuple[Any, tuple[jax.Array, ...]]:
    """The losses, and the derivatives of their sum in each input."""
    return jax.jit(functools.partial(values.gradients, loss))(*inputs)


def pull(loss: Callable[..., Any], predictions: Any) -> jax.Array:
    """The derivative in predictions alone."""
    return gradients(loss, predictions)[1][0]


def agree(actual: Any, expected: Any, largest: float = 0) -> None:
    """Equal up to rounding; `largest` is the largest term where terms cancel.

    Two losses that each keep within 8 eps of the truth may be 16 apart.
    """
    np.testing.assert_allclose(actual, expected, rtol=16 * EPS, atol=16 * EPS * largest)


def same(left: Callable[..., Any], right: Callable[..., Any], *inputs: Any, largest: float = 0):
    """Equal values and derivatives."""
    losses, slopes = zip(gradients(left, *inputs), gradients(right, *inputs), strict=True)
    agree(*losses, largest=largest)
    for ours, theirs in zip(*slopes, strict=True):
        agree(ours, theirs, largest=largest)


@functools.partial(jax.jit, static_argnames=("loss", "low", "high"))
def _bisected(loss: Callable[..., Any], targets: jax.Array, low: float, high: float, **knobs: Any):
    def total(constant):
        return jnp.sum(loss(jnp.full_like(targets, constant), targets, **knobs))

    def halve(_, bounds):
        left, right = bounds
        middle = (left + right) / 2
        rises = jax.grad(total)(middle) >= 0
        return jnp.where(rises, left, middle), jnp.where(rises, middle, right)

    found = jax.lax.fori_loop(0, 48, halve, (jnp.float32(low), jnp.float32(high)))[1]
    return found, total(found), jnp.min(jax.vmap(total)(jnp.linspace(low, high, 257)))


def minimiser(
    loss: Callable[..., Any],
    targets: Any,
    low: float = -128.0,
    high: float = 128.0,
    **knobs: Any,
) -> float:
    """The constant at which the slope of the total loss turns positive."""
    found, least, on_grid = _bisected(loss, jnp.asarray(targets), low, high, **knobs)
    # The values have to agree with the slopes.
    assert least <= on_grid + 1e-5 * abs(on_grid), (least, on_grid)
    return float(found)


def meet(left: Callable[..., Any], right: Callable[..., Any]) -> None:
    """Equal as functions of predictions and targets."""
    same(left, right, ERRORS, ZEROS)
    same(left, right, ERRORS + 2, ERRORS[::-1])


def follows_its_unit(power: int, loss: Callable[..., Any]) -> None:
    """In another unit the loss grows by a power of the unit; another origin changes nothing.

    `loss` takes predictions, targets and its scale.
    """
    predictions, targets = POINTS
    one, unit = np.float32(1), np.float32(8)
    value = np.asarray(loss(predictions, targets, one))
    # 8 and 64 are exact in binary, so that little but a logarithm is rounded.
    agree(loss(8 * predictions, 8 * targets, unit), 8.0**power * value, largest=2)
    np.testing.assert_array_equal(loss(predictions + 64, targets + 64, one), value)


def is_even(loss: Callable[..., Any]) -> None:
    """Errors of either sign cost the same."""
    one = np.float32(1)
    np.testing.assert_array_equal(loss(*POINTS, one), loss(*POINTS[::-1], one))
