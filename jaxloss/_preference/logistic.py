"""Logistic."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from .._numerics.exact import exact_product, finite
from .._numerics.kinks import closed_form
from .._numerics.special import decayed, safe_product, small_log1p


def _parts(z: jax.Array, lost: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Whether z + lost is positive, the size of z, and exp of minus the size of z + lost.

    Far out an exponential is the steeper the larger z, whose rounding would cost it 40 units in
    the last place.
    """
    right, size, decay = decayed(z)
    return right, size, decay - decay * jnp.where(right, lost, -lost)


def _logistic_slopes(
    z: jax.Array, lost: jax.Array, doubt: jax.Array
) -> tuple[ArrayLike, ArrayLike, ArrayLike]:
    right, _, decay = _parts(z, lost)
    trust = 1 - doubt
    slope = jnp.where(right, doubt - trust * decay, doubt * decay - trust) / (1 + decay)
    return slope, 0, z


@closed_form(_logistic_slopes)
def _logistic(z: jax.Array, lost: jax.Array, doubt: jax.Array) -> jax.Array:
    """(1 - doubt) softplus(-z - lost) + doubt softplus(z + lost)."""
    right, size, decay = _parts(z, lost)
    return small_log1p(decay) + safe_product(jnp.where(right, doubt, 1 - doubt), size)


def _surprise(z: jax.Array, lost: jax.Array) -> jax.Array:
    """softplus(-z - lost)."""
    return _logistic(z, lost, jnp.zeros((), z.dtype))


def _chance_slopes(z: jax.Array, lost: jax.Array) -> tuple[ArrayLike, ArrayLike]:
    _, _, decay = _parts(z, lost)
    share = 1 / (1 + decay)
    return decay * share * share, 0


@closed_form(_chance_slopes)
def _chance(z: jax.Array, lost: jax.Array) -> jax.Array:
    """1 / (1 + exp(-z - lost))."""
    right, _, decay = _parts(z, lost)
    return jnp.where(right, 1, decay) / (1 + decay)


def _times(
    factor: jax.Array, difference: tuple[jax.Array, jax.Array]
) -> tuple[jax.Array, jax.Array]:
    """The factor times a number and what its rounding lost, in the same two parts."""
    number, lost = difference
    value, rounding = exact_product(factor, number)
    return value, finite(rounding + factor * lost)
