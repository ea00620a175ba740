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


def _log_share_slopes(part: jax.Array, rest: jax.Array) -> tuple[jax.Array, jax.Array]:
    inverse = reciprocal(part + rest)
    return inverse, jnp.where(part == 0, 0, -(part * inverse)) / jnp.where(part == 0, 1, rest)


@closed_form(_log_share_slopes)
def log_share(part: jax.Array, rest: jax.Array) -> jax.Array:
    """-log(rest / (part + rest)), and 0 for 0 / 0."""
    quotient = part / jnp.where(part == 0, 1, rest)
    # The quotient may be beyond float32 where its logarithm is not.
    beyond = jnp.log(one_if_zero(part + rest)) - jnp.log(jnp.where(part == 0, 1, rest))
    return jnp.where(quotient < 1e30, jnp.log1p(quotient), beyond)


def _mean_share_slopes(a: jax.Array, b: jax.Array, c: jax.Array) -> tuple[jax.Array, ...]:
    beside_b, beside_c = reciprocal(a + b), reciprocal(a + c)
    missing = 0.5 * (b * beside_b + c * beside_c)
    by_root = jnp.sqrt(beside_b) * jnp.sqrt(beside_c)
    half = 0.5 * a * by_root
    return missing * by_root, -half * beside_b, -half * beside_c


@closed_form(_mean_share_slopes)
def mean_share(a: jax.Array, b: jax.Array, c: jax.Array) -> jax.Array:
    """The geometric mean of a / (a + b) and a / (a + c), none of whose divisors is 0."""
    return jnp.sqrt(a / (a + b)) * jnp.sqrt(a / (a + c))


@closed_form(lambda *parts: tuple(-x for x in _mean_share_slopes(*parts)))
def mean_share_lack(a: jax.Array, b: jax.Array, c: jax.Array) -> jax.Array:
    """1 - `mean_share`, without cancellation where that is near 1."""
    u, v = b / (a + b), c / (a + c)
    return (u + v - u * v) / (1 + mean_share(a, b, c))
