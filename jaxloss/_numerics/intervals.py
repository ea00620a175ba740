"""Logarithms of the probability that a variable lies between two bounds.

A difference of two values of a distribution function loses all digits where the bounds are close,
or both far out in a tail. Here it is computed from one bound and the gap to the other, which a
caller who knows it better than the difference of two rounded bounds passes as an argument of its
own. A bound may be infinite; a gap below 0 is NaN, a gap of 0 has probability 0, -inf.

Exponentials show in the tails what the rounding of a bound lost: of one that is computed, such as
(y - location) / scale, the caller may know it.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from .exact import finite, lost_in_difference, quotient
from .kinks import Slopes, closed_form, in_range
from .normal import log_normal
from .special import exp_parts, polynomial, sigmoid, small_log1p, softplus

Lost = tuple[jax.Array, jax.Array, jax.Array] | None


def _gap_and_lost(
    lower: jax.Array, upper: jax.Array, gap: jax.Array | None, lost: Lost
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    gap = upper - lower if gap is None else gap
    if lost is None:
        nothing = jnp.zeros_like(gap)
        return gap, nothing, nothing, nothing
    a, b, c = map(jax.lax.stop_gradient, lost)
    return gap, a, b, c


def log_interval_normal(
    lower: jax.Array, upper: jax.Array, gap: jax.Array | None = None, lost: Lost = None
) -> jax.Array:
    """log(Phi(upper) - Phi(lower)), of the standard normal distribution function Phi.

    Args:
        lower: The lower bound, or -inf.
        upper: The upper bound, or inf.
        gap: upper - lower, for a caller who has more digits of it. Derivatives are those of one
            bound and of the gap: all three have to depend on a parameter as they do, such as a gap
            that is constant where both bounds move.
        lost: What the roundings of the three lost, constants; None for exact ones.
    """
    gap, lower_lost, upper_lost, gap_lost = _gap_and_lost(lower, upper, gap, lost)
    # By symmetry the bound nearer to 0 is on the left, whence the density falls.
    # A NaN has to reach all derivatives.
    flipped = (jax.lax.stop_gradient(lower + upper) < 0) | jnp.isnan(upper)
    near = jnp.where(flipped, -upper, lower)
    return log_normal(near, gap, jnp.where(flipped, -upper_lost, lower_lost), gap_lost)


def log_survival_normal(x: jax.Array) -> jax.Array:
    """log(1 - Phi(x)), of the standard normal distribution function Phi."""
    nothing = jnp.zeros_like(x)
    return log_normal(x, jnp.full_like(x, jnp.inf), nothing, nothing)


def log_cdf_normal(x: jax.Array) -> jax.Array:
    """log Phi(x), of the standard normal distribution function Phi."""
    return log_survival_normal(-x)


def _odds(x: jax.Array) -> jax.Array:
    """1 / (exp(x) - 1) for x >= 0."""
    return jnp.exp(-x) / -jnp.expm1(-x)


def _odds_near(x: jax.Array, lost: jax.Array) -> jax.Array:
    odds = _odds(x)
    return jnp.where(lost == 0, odds, odds * (1 - (1 + odds) * lost))


def _log1mexp_slopes(x: jax.Array, lost: jax.Array) -> Slopes:
    slope = in_range(_odds_near(x, lost))
    return slope, slope


def _log1mexp_curvature(x: jax.Array, lost: jax.Array) -> tuple[Slopes]:
    odds = _odds_near(x, lost)
    return ((-odds * (1 + odds),),)


@closed_form(_log1mexp_slopes, second=_log1mexp_curvature)
def _log1mexp_near(x: jax.Array, lost: jax.Array) -> jax.Array:
    near = x < math.log(2)
    close = jnp.log(-jnp.expm1(-jnp.where(near, x, 1)))
    far = small_log1p(-jnp.exp(-jnp.where(near, 1, x)))
    return jnp.where(near, close, far) + jnp.where(lost == 0, 0, _odds(x) * lost)


def log1mexp(x: jax.Array) -> jax.Array:
    """log(1 - exp(-x)) for x >= 0: -inf at 0."""
    return _log1mexp_near(x, jnp.zeros_like(x))


def _sigmoid_near(x: jax.Array, lost: jax.Array) -> jax.Array:
    return sigmoid(x) * (1 + sigmoid(-x) * lost)


def _softplus_slopes(x: jax.Array, lost: jax.Array) -> Slopes:
    slope = _sigmoid_near(x, lost)
    return slope, slope


@closed_form(
    _softplus_slopes,
    second=lambda x, lost: ((_sigmoid_near(x, lost) * _sigmoid_near(-x, -lost),),),
)
def _softplus_near(x: jax.Array, lost: jax.Array) -> jax.Array:
    return softplus(x) + sigmoid(x) * lost


def log_interval_logistic(
    lower: jax.Array, upper: jax.Array, gap: jax.Array | None = None, lost: Lost = None
) -> jax.Array:
    """log(sigmoid(upper) - sigmoid(lower)); as `log_interval_normal`."""
    gap, lower_lost, upper_lost, gap_lost = _gap_and_lost(lower, upper, gap, lost)
    # (1 - exp(-gap)) sigmoid(upper) (1 - sigmoid(lower)): no term cancels another.
    tails = _softplus_near(lower, lower_lost) + _softplus_near(-upper, -upper_lost)
    return _log1mexp_near(gap, gap_lost) - tails


# (x / (exp(x) - 1) + x - 1) / x in powers of x: 1/2, then Bernoulli's numbers over factorials.
_BERNOULLI = (
    *(1 / 2, 1 / 12, 0, -1 / 720, 0, 1 / 30240, 0, -1 / 1209600, 0, 1 / 47900160),
    *(0, -691 / 1307674368000, 0, 1 / 74724249600, 0, -3617 / 10670622842880000),
    *(0, 43867 / 5109094217170944000),
)


def _share_of_odds(x: jax.Array, lost: jax.Array) -> tuple[jax.Array, jax.Array]:
    """k = x / (exp(x) - 1) for x >= 0, and (k + x - 1) / x."""
    held = jnp.where((x > 0) & (x < 1000), x, 1)
    k = jnp.where(x > 0, jnp.where(x < 1000, held * _odds(held), 0), 1)
    small = x < 1
    k = jnp.where(small, k, k * (1 - lost))
    far = 1 - (1 - k) / jnp.where(small, 1, x)
    return k, jnp.where(small, polynomial(_BERNOULLI, jnp.where(small, x, 0)), far)


def _exp_near(x: jax.Array, lost: jax.Array) -> tuple[jax.Array, jax.Array]:
    """exp(x + lost), and what its rounding lost."""
    high, low = exp_parts(-jnp.abs(x))
    decay = high + low
    decay_lost = (high - decay) + low
    growth, growth_lost = quotient(jnp.ones_like(x), decay)
    growth_lost = growth_lost - growth * (decay_lost / decay)
    value = jnp.where(x > 0, growth, decay)
    value_lost = finite(jnp.where(x > 0, growth_lost, decay_lost) + value * lost)
    return value + value_lost, lost_in_difference(value, -value_lost)


class _Width(NamedTuple):
    """exp(lower), exp(upper) - exp(lower) and what its rounding lost, and 1 / (exp(gap) - 1)."""

    start: jax.Array
    width: jax.Array
    lost: jax.Array
    odds: jax.Array


def _gumbel_width(
    lower: jax.Array,
    upper: jax.Array,
    gap: jax.Array,
    lower_lost: jax.Array,
    upper_lost: jax.Array,
    gap_lost: jax.Array,
) -> _Width:
    start, start_lost = _exp_near(lower, lower_lost)
    end, end_lost = _exp_near(upper, upper_lost)
    close = gap < 0.5
    narrow = end * -(jnp.expm1(-gap) - jnp.exp(-gap) * gap_lost)
    lost = finite(lost_in_difference(end, start) + (end_lost - start_lost))
    width = jnp.where(close, narrow, end - start)
    return _Width(start, width, jnp.where(close, 0, lost), _odds_near(gap, gap_lost))


def _gumbel_slopes(*given: jax.Array) -> Slopes:
    start, width, lost, odds = _gumbel_width(*given)
    k, _ = _share_of_odds(width, lost)
    slopes = -start, k, in_range(odds * k)
    return *slopes, *slopes


def _gumbel_curvatures(*given: jax.Array) -> tuple[Slopes, Slopes, Slopes]:
    start, width, lost, odds = _gumbel_width(*given)
    k, rest = _share_of_odds(width, lost)
    # Where k is 0 these may be infinite. `start` is the product of `odds` and `width`.
    in_upper, mixed = (jnp.where(k == 0, 0, x * k * rest) for x in (width, start))
    zero = jnp.zeros_like(k)
    return (-start,), (zero, -in_upper), (zero, -mixed, -odds * (k * (1 + odds) + mixed))


@closed_form(_gumbel_slopes, second=_gumbel_curvatures)
def _log_gumbel(*given: jax.Array) -> jax.Array:
    _, upper, gap, *_ = given
    start, width, lost, _ = _gumbel_width(*given)
    wide = width > math.log(2)
    held = jnp.where(wide | (width == 0), 1, width)
    share = jnp.where(width == 0, 0, jnp.log(-jnp.expm1(-held) / held))
    # The logarithm of the width, which may be below the smallest number.
    close = jnp.where(wide, 0, upper) + log1mexp(gap) + share
    far = _log1mexp_near(jnp.where(wide, width, 1), jnp.where(wide, lost, 0))
    return jnp.where(wide, far, close) - start


def log_interval_gumbel(
    lower: jax.Array, upper: jax.Array, gap: jax.Array | None = None, lost: Lost = None
) -> jax.Array:
    """log(exp(-exp(lower)) - exp(-exp(upper))); as `log_interval_normal`.

    The variable is the logarithm of one that has the standard exponential distribution.
    """
    gap, *roundings = _gap_and_lost(lower, upper, gap, lost)
    return _log_gumbel(lower, upper, gap, *roundings)
