"""Shares of overlaps, and their powers."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from .._numerics.kinks import closed_form
from .._numerics.special import one_if_zero, reciprocal


def _share_slopes(part: jax.Array, rest: jax.Array) -> tuple[jax.Array, jax.Array]:
    inverse = reciprocal(part + rest)
    return rest * inverse * inverse, -(part * inverse * inverse)


@closed_form(_share_slopes)
def share(part: jax.Array, rest: jax.Array) -> jax.Array:
    """part / (part + rest), and 0 for 0 / 0."""
    return part / one_if_zero(part + rest)


def _power_slopes(x: jax.Array, lack: jax.Array, gamma: jax.Array) -> tuple[jax.Array, ...]:
    some = x > 0
    base = jnp.where(some, x, 1)
    power = jnp.power(base, gamma)
    at_zero = jnp.where(gamma == 1, 1, 0).astype(x.dtype)
    near = some & (lack < 0.5)
    log = jnp.where(near, jnp.log1p(-jnp.where(near, lack, 0)), jnp.log(jnp.where(near, 1, base)))
    in_x = jnp.where(some, gamma * power * (1 / base), jnp.where(x == 0, at_zero, x))
    return in_x, jnp.zeros_like(x), power * log


@closed_form(_power_slopes)
def share_to_power(x: jax.Array, lack: jax.Array, gamma: jax.Array) -> jax.Array:
    """x^gamma, with slope 0 at x = 0 unless gamma is 1; `lack` is 1 - x."""
    return jnp.power(x, gamma)
