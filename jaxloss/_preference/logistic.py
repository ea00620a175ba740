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

from .._numerics.exact import exact_product, exact_sum, exp_sum, finite, quotient
from .._numerics.kinks import closed_form
from .._numerics.special import decayed, safe_product, small_log1p


def parts(z: jax.Array, lost: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Whether z is positive, the size of z, and the exponential of minus the size of z + lost."""
    right, size, decay = decayed(z)
    # Where the exponential is 0, what was lost may be as large as 1e31, and its product with a
    # tangent of that size would overflow.
    lost = jnp.where(decay == 0, 0, lost)
    return right, size, decay - decay * jnp.where(right, lost, -lost)


def _logistic_slopes(
    z: jax.Array, lost: jax.Array, doubt: jax.Array
) -> tuple[ArrayLike, ArrayLike, ArrayLike]:
    right, _, decay = parts(z, lost)
    trust = 1 - doubt
    slope = jnp.where(right, doubt - trust * decay, doubt * decay - trust) / (1 + decay)
    return slope, 0, z


@closed_form(_logistic_slopes)
def logistic(z: jax.Array, lost: jax.Array, doubt: jax.Array) -> jax.Array:
    """(1 - doubt) softplus(-z - lost) + doubt softplus(z + lost)."""
    right, size, decay = parts(z, lost)
    return small_log1p(decay) + safe_product(jnp.where(right, doubt, 1 - doubt), size)


def surprise(z: jax.Array, lost: jax.Array) -> jax.Array:
    """softplus(-z - lost), which is -log of the chance."""
    return logistic(z, lost, jnp.zeros((), z.dtype))


def _chance_curvatures(z: jax.Array, lost: jax.Array) -> tuple[ArrayLike, ArrayLike]:
    right, size, _ = parts(z, lost)
    # 1 - 2 / (1 + exp(-size)) would lose its digits where z is small.
    away = jnp.tanh(0.5 * (size + jnp.where(right, lost, -lost)))
    return _density(z, lost) * jnp.where(right, -away, away), 0


@closed_form(_chance_curvatures)
def _density(z: jax.Array, lost: jax.Array) -> jax.Array:
    """The slope of `chance`."""
    _, _, decay = parts(z, lost)
    share = 1 / (1 + decay)
    return decay * share * share


def _chance_slopes(z: jax.Array, lost: jax.Array) -> tuple[ArrayLike, ArrayLike]:
    return _density(z, lost), 0


@closed_form(_chance_slopes)
def chance(z: jax.Array, lost: jax.Array) -> jax.Array:
    """1 / (1 + exp(-z - lost))."""
    right, _, decay = parts(z, lost)
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


def mean_rounded(
    number: jax.Array, lost: jax.Array, length: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """(number + lost) / length, rounded, and what that rounding lost."""
    _, rounding = quotient(number, length)
    return per_token(number, length), finite(rounding + lost / length)


def _cross_slopes(
    z: jax.Array, lost: jax.Array, doubt: jax.Array
) -> tuple[ArrayLike, ArrayLike, ArrayLike]:
    # Minus the log-odds at which the divergence is 0.
    target = jnp.log(doubt) - jnp.log1p(-doubt)
    in_z = _density(z, lost) * (_held(z) + lost + target)
    return in_z, 0, chance(z, lost) / (1 - doubt) - chance(-z, -lost) / doubt


@closed_form(_cross_slopes)
def divergence_to(z: jax.Array, lost: jax.Array, doubt: jax.Array) -> jax.Array:
    """The KL divergence of a chance of 1 / (1 + exp(-z - lost)) from one of 1 - doubt."""
    right, size, decay = parts(z, lost)
    win, lose = chance(z, lost), chance(-z, -lost)
    # softplus(-z) and softplus(z), each of them finite with its chance.
    small = small_log1p(decay)
    surprise_win = jnp.where(win == 0, 0, small + jnp.where(right, 0, size))
    surprise_lose = jnp.where(lose == 0, 0, small + jnp.where(right, size, 0))
    won = win * (-surprise_win - jnp.log1p(-doubt))
    # Rounding must not make it negative.
    return jnp.maximum(won + lose * (-surprise_lose - jnp.log(doubt)), 0)


def _tilted_parts(
    z: jax.Array, lost: jax.Array, temperature: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """z / temperature, and what its rounding lost."""
    return mean_rounded(z, lost, temperature)


def _tilted_slopes(
    z: jax.Array, lost: jax.Array, temperature: jax.Array
) -> tuple[ArrayLike, ArrayLike, ArrayLike]:
    u, u_lost = _tilted_parts(z, lost, temperature)
    value = tilted(z, lost, temperature)
    away = chance(-u, -u_lost) / temperature
    return value * (away - 1), 0, -value * (away * _held(u))


@closed_form(_tilted_slopes)
def tilted(z: jax.Array, lost: jax.Array, temperature: jax.Array) -> jax.Array:
    """exp(-z) / (1 + exp(-z / temperature)), whose parts are infinite and 0 where it is finite."""
    right, size = z > 0, jnp.abs(z)
    u, u_lost = _tilted_parts(z, lost, temperature)
    _, _, decay = parts(u, u_lost)
    # exp(-size) over 1 + decay if z is positive; else exp(size (1 - 1 / temperature)) over that.
    above, above_lost = exact_sum(temperature, -jnp.ones_like(temperature))
    rate, rate_lost = mean_rounded(above, above_lost, temperature)
    rate, rate_lost = jnp.where(right, -1, rate), jnp.where(right, 0, rate_lost)
    exponent, rounding = exact_product(size, rate)
    exponent = jnp.where(rate == 0, 0, exponent)
    rest = rounding + size * rate_lost + jnp.where(right, lost, -lost) * rate
    return exp_sum(exponent, jnp.where(jnp.abs(exponent) < 1e3, finite(rest), 0)) / (1 + decay)


def _blend_slopes(
    z: jax.Array, lost: jax.Array, temperature: jax.Array
) -> tuple[ArrayLike, ArrayLike, ArrayLike]:
    u, u_lost = _tilted_parts(z, lost, temperature)
    cost, bell = _held(surprise(z, lost)), _density(u, u_lost) / temperature
    in_z = -chance(-z, -lost) * chance(-u, -u_lost) - cost * bell
    # The density times u first: its product with the cost may vanish.
    return in_z, 0, cost * (bell * _held(u))


@closed_form(_blend_slopes)
def _blend(z: jax.Array, lost: jax.Array, temperature: jax.Array) -> jax.Array:
    """softplus(-z) times the chance of -z / temperature."""
    u, u_lost = _tilted_parts(z, lost, temperature)
    return chance(-u, -u_lost) * surprise(z, lost)


def discovered(z: jax.Array, lost: jax.Array, temperature: jax.Array) -> jax.Array:
    """softplus(-z), and exp(-z) instead where z is some temperatures above 0."""
    return _blend(z, lost, temperature) + tilted(z, lost, temperature)
