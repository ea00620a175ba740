"""Logistic functions of sums, with what the rounding of the sums lost.

The losses of this family are steep in differences of log-probabilities: half a unit in the last
place of a difference of 80 changes its exponential by 40 units. So a sum z is passed on together
with what its rounding lost, and the functions here are those of z + lost.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from .._numerics.exact import exact_product, finite
from .._numerics.kinks import closed_form
from .._numerics.special import decayed, safe_product, small_log1p


def _parts(z: jax.Array, lost: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Whether z is positive, the size of z, and the exponential of minus the size of z + lost."""
    right, size, decay = decayed(z)
    # Where the exponential is 0, what was lost may be as large as 1e31, and its product with a
    # tangent of that size would overflow.
    lost = jnp.where(decay == 0, 0, lost)
    return right, size, decay - decay * jnp.where(right, lost, -lost)


def _logistic_slopes(
    z: jax.Array, lost: jax.Array, doubt: jax.Array
) -> tuple[ArrayLike, ArrayLike, ArrayLike]:
    right, _, decay = _parts(z, lost)
    trust = 1 - doubt
    slope = jnp.where(right, doubt - trust * decay, doubt * decay - trust) / (1 + decay)
    return slope, 0, z


@closed_form(_logistic_slopes)
def logistic(z: jax.Array, lost: jax.Array, doubt: jax.Array) -> jax.Array:
    """(1 - doubt) softplus(-z - lost) + doubt softplus(z + lost)."""
    right, size, decay = _parts(z, lost)
    return small_log1p(decay) + safe_product(jnp.where(right, doubt, 1 - doubt), size)


def surprise(z: jax.Array, lost: jax.Array) -> jax.Array:
    """softplus(-z - lost), which is -log of the chance."""
    return logistic(z, lost, jnp.zeros((), z.dtype))


def _chance_curvatures(z: jax.Array, lost: jax.Array) -> tuple[ArrayLike, ArrayLike]:
    right, size, _ = _parts(z, lost)
    # 1 - 2 / (1 + exp(-size)) would lose its digits where z is small.
    away = jnp.tanh(0.5 * (size + jnp.where(right, lost, -lost)))
    return _density(z, lost) * jnp.where(right, -away, away), 0


@closed_form(_chance_curvatures)
def _density(z: jax.Array, lost: jax.Array) -> jax.Array:
    """The slope of `chance`."""
    _, _, decay = _parts(z, lost)
    share = 1 / (1 + decay)
    return decay * share * share


def _chance_slopes(z: jax.Array, lost: jax.Array) -> tuple[ArrayLike, ArrayLike]:
    return _density(z, lost), 0


@closed_form(_chance_slopes)
def chance(z: jax.Array, lost: jax.Array) -> jax.Array:
    """1 / (1 + exp(-z - lost))."""
    right, _, decay = _parts(z, lost)
    return jnp.where(right, 1, decay) / (1 + decay)


def _held(x: jax.Array) -> jax.Array:
    """A number in slopes, an infinite one as 1e30.

    Where a logistic function is flat its slope of 0 is multiplied by it: the limit is 0, and
    0 * inf is NaN, as would be 0 times the largest float if beta, above 1, came between.
    """
    return jnp.where(jnp.isinf(x), jnp.sign(x) * 1e30, x)


@jax.custom_jvp
def _times(factor: jax.Array, number: jax.Array) -> jax.Array:
    return factor * number


@_times.defjvp
def _(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    factor, number = primals
    return _times(factor, number), factor * tangents[1] + _held(number) * tangents[0]


@jax.custom_jvp
def per_token(number: jax.Array, length: jax.Array) -> jax.Array:
    return number / length


@per_token.defjvp
def _(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    value, (_, length) = per_token(*primals), primals
    return value, (tangents[0] - _held(value) * tangents[1]) / length


def times_rounded(
    factor: jax.Array, number: jax.Array, lost: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """factor * (number + lost), rounded, and what that rounding lost."""
    _, rounding = exact_product(factor, number)
    return _times(factor, number), finite(rounding + factor * lost)
