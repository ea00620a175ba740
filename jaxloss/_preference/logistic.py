"""Logistic functions of sums, with what the rounding of the sums lost.

The losses of this family are steep in differences of log-probabilities: half a unit in the last
place of a difference of 80 changes its exponential by 40 units. So a sum z is passed on together
with what its rounding lost, and the functions here are those of z + lost.
"""

from __future__ import annotations

from typing import Any, NamedTuple

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


def _chance_curvatures(z: jax.Array, lost: jax.Array) -> tuple[jax.Array, int]:
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


# (z, temperature or doubt, what the rounding of z lost): constants come last.


def _from_target(z: jax.Array, doubt: jax.Array, lost: jax.Array) -> jax.Array:
    """z less the log-odds at which `divergence_to` is 0."""
    return _held(z) + lost + (jnp.log(doubt) - jnp.log1p(-doubt))


def _cross_slopes(
    z: jax.Array, doubt: jax.Array, lost: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    in_z = _density(z, lost) * _from_target(z, doubt, lost)
    in_doubt = chance(z, lost) / (1 - doubt) - chance(-z, -lost) / doubt
    return in_z, in_doubt, jnp.zeros_like(in_z)


def _cross_curvatures(
    z: jax.Array, doubt: jax.Array, lost: jax.Array
) -> tuple[tuple[jax.Array, ...], ...]:
    density, trust = _density(z, lost), 1 - doubt
    bend, _ = _chance_curvatures(z, lost)
    in_z = bend * _from_target(z, doubt, lost) + density
    win, lose = chance(z, lost), chance(-z, -lost)
    return (in_z,), (density / (doubt * trust), win / (trust * trust) + lose / (doubt * doubt))


@closed_form(_cross_slopes, second=_cross_curvatures)
def divergence_to(z: jax.Array, doubt: jax.Array, lost: jax.Array) -> jax.Array:
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


class _Blend(NamedTuple):
    """What `discovered` is made of, with u = z / t at a temperature t.

    Attributes:
        u: Held where its square would overflow.
        cost: softplus(-z), held where it is infinite.
        lose, density: sigmoid(-z), and its slope but for the sign.
        away, bell, bend: sigmoid(-u); its slope but for the sign, and the slope of that.
        power: exp(-z) sigmoid(u).
    """

    u: jax.Array
    cost: jax.Array
    lose: jax.Array
    density: jax.Array
    away: jax.Array
    bell: jax.Array
    bend: jax.Array
    power: jax.Array


# Exponentials below the smallest normal number are 0, and may be multiplied by large numbers: from
# exponents of -64 on they are computed times exp(16).
_LIFT = 16.0


def _lift(exponent: jax.Array) -> jax.Array:
    return jnp.where(exponent < -64, _LIFT, 0).astype(exponent.dtype)


def _power(z: jax.Array, temperature: jax.Array, lost: jax.Array, lifted: bool) -> Any:
    """exp(-z) sigmoid(z / temperature), whose factors are infinite and 0 where it is finite.

    If `lifted` it is divided by the second of what is returned.
    """
    right, size = z > 0, jnp.abs(z)
    _, _, decay = parts(*mean_rounded(z, lost, temperature))
    # exp(-size) over 1 + decay if z is positive; else exp(size (1 - 1 / temperature)) over that.
    above = exact_sum(temperature, -jnp.ones_like(temperature))
    rate, rate_lost = mean_rounded(*above, temperature)
    rate, rate_lost = jnp.where(right, -1, rate), jnp.where(right, 0, rate_lost)
    exponent, rounding = exact_product(size, rate)
    exponent = jnp.where(rate == 0, 0, exponent)
    rest = rounding + size * rate_lost + jnp.where(right, lost, -lost) * rate
    rest = jnp.where(jnp.abs(exponent) < 1e3, finite(rest), 0)
    lift = _lift(exponent) if lifted else jnp.zeros_like(exponent)
    return exp_sum(exponent + lift, rest) / (1 + decay), jnp.exp(-lift)


def _blend(z: jax.Array, temperature: jax.Array, lost: jax.Array) -> _Blend:
    u, u_lost = mean_rounded(z, lost, temperature)
    bend, _ = _chance_curvatures(u, u_lost)
    power, _ = _power(z, temperature, lost, lifted=False)
    return _Blend(
        jnp.clip(u, -1e15, 1e15),
        _held(surprise(z, lost)),
        chance(-z, -lost),
        _density(z, lost),
        chance(-u, -u_lost),
        _density(u, u_lost),
        bend,
        power,
    )


def _discovered_slopes(
    z: jax.Array, temperature: jax.Array, lost: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    x, t = _blend(z, temperature, lost), temperature
    in_z = -x.lose * x.away - x.cost * (x.bell / t) + x.power * (x.away / t - 1)
    power, power_unit = _power(z, temperature, lost, lifted=True)
    u, u_lost = mean_rounded(z, lost, temperature)
    right, size, _ = parts(u, u_lost)
    lift = _lift(-size)
    decay = exp_sum(lift - size, jnp.where(size < 1e3, jnp.where(right, -u_lost, u_lost), 0))
    bell = decay * jnp.square(jnp.maximum(x.away, 1 - x.away))
    in_t = x.cost * (bell * x.u / t) * jnp.exp(-lift) - power * (x.away * x.u / t) * power_unit
    return in_z, in_t, jnp.zeros_like(in_z)


def _discovered_curvatures(
    z: jax.Array, temperature: jax.Array, lost: jax.Array
) -> tuple[tuple[jax.Array, ...], ...]:
    x, t = _blend(z, temperature, lost), temperature
    slope, bell, bend = x.away / t - 1, x.bell / t, x.bend / t
    in_z = x.density * x.away + 2 * x.lose * bell - x.cost * (bend / t)
    in_z += x.power * (slope * slope - bell / t)
    mixed = x.cost * ((bend * x.u + bell) / t) - x.lose * (bell * x.u)
    mixed -= x.power * (slope * (x.away * x.u / t) + (x.away - x.bell * x.u) / (t * t))
    in_t = -x.cost * (x.u * (bend * x.u + 2 * bell) / t)
    in_t += x.power * (((x.away * x.u) ** 2 + (2 * x.away - x.bell * x.u) * x.u) / (t * t))
    return (in_z,), (mixed, in_t)


@closed_form(_discovered_slopes, second=_discovered_curvatures)
def discovered(z: jax.Array, temperature: jax.Array, lost: jax.Array) -> jax.Array:
    """softplus(-z), and exp(-z) instead where z is some temperatures above 0."""
    u, u_lost = mean_rounded(z, lost, temperature)
    power, _ = _power(z, temperature, lost, lifted=False)
    return chance(-u, -u_lost) * surprise(z, lost) + power
