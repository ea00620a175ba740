"""The normal distribution between two bounds, of which one is far out, or both are close."""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .exact import exact_product, exp_sum, lost_in_difference, square_parts
from .kinks import Slopes, closed_form, in_range
from .special import one_if_zero, small_log1p

# Nodes and weights of Gauss's quadrature on [0, 1], in float32 and in float64.
_RULES = [
    ((0.5 * (x + 1)).tolist(), (0.5 * w).tolist())
    for x, w in map(np.polynomial.legendre.leggauss, (5, 10))
]

# The scale of the map u = (n - 3.5) / (n + 3.5) of [0, inf) to [-1, 1]: there (n + 1) m0 and
# (n + 1)^2 m1 of `_tail_moments` are these series of Chebyshev polynomials, computed in 60 digits.
_MIDDLE = 3.5
_MILLS = (
    1.172393455532457,
    -0.15886590183330635,
    -0.036487534254121308,
    0.030950942391140116,
    -0.0092892602254433575,
    0.0012977851006954148,
    3.8681712374716254e-5,
    -4.1169373209947886e-5,
    1.8164546608482848e-6,
    1.3248620638832655e-6,
    -9.3315170096438427e-8,
    -5.20800564476838e-8,
    2.7556948017586288e-9,
    2.3836758103984539e-9,
    6.2181270745013568e-12,
    -1.1349554719854006e-10,
    -9.9117444503373336e-12,
    4.8847083673651783e-12,
    1.0659311695923002e-12,
    -1.3943087514462558e-13,
    -7.8934474887485779e-14,
    -3.1436735185394766e-15,
    4.2465226499422087e-15,
    8.8152045681525268e-16,
    -1.1603762231301812e-16,
    -7.7516236347054311e-17,
)
_MILLS_SLOPE = (
    1.1864522428282757,
    -0.071824134441346385,
    -0.17998805054225735,
    0.075726210517873191,
    -0.0078928028193578379,
    -0.0038234536901185441,
    0.0014811555579549293,
    -8.5944795279997933e-5,
    -5.4639968571485187e-5,
    7.6970038465926472e-6,
    2.2010581588167891e-6,
    -3.9038455871365356e-7,
    -1.1244101341766269e-7,
    1.6230698444076319e-8,
    6.7150300282247675e-9,
    -4.296218032344831e-10,
    -4.0985406605925467e-10,
    -1.4789514309848954e-11,
    2.2540119297337107e-11,
    3.6349873742573354e-12,
    -9.1237314240453786e-13,
    -3.6176897851641949e-13,
    3.316445871855051e-15,
    2.4481942110853421e-14,
    4.0187327160219195e-15,
    -9.5271256939419046e-16,
    -4.6331706182798774e-16,
    -2.4123586778794812e-17,
)


def _chebyshev(coefficients: tuple[float, ...], u: jax.Array) -> jax.Array:
    """c0 + c1 T1(u) + c2 T2(u) + ..., by Clenshaw's recurrence."""
    before = last = jnp.zeros_like(u)
    for c in reversed(coefficients[1:]):
        before, last = last, 2 * u * last - before + c
    return u * last - before + coefficients[0]


def _tail_moments(n: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(n + 1) m0 and (n + 1)^2 m1 for n >= 0: integrals over a tail of the normal density.

    m0 is the integral of exp(-n t - t^2 / 2) over t > 0, Mills' ratio; m1 that of t times this.
    """
    u = 1 - 2 * _MIDDLE / (n + _MIDDLE)
    wide = u.dtype == jnp.float64
    counts = (len(_MILLS), len(_MILLS_SLOPE)) if wide else (12, 14)
    return _chebyshev(_MILLS[: counts[0]], u), _chebyshev(_MILLS_SLOPE[: counts[1]], u)


class _Normal(NamedTuple):
    """The normal density on [n, n + g], with n >= -g / 2: the bound nearer to 0, and the gap.

    Attributes:
        log_mass: The logarithm of the probability.
        fall: The density at n less that at n + g, over the probability.
        far: The density at n + g over the probability.
        mean: The mean distance of the variable from n.
        far_gap: The product of `far` and g; 0 where g is infinite.
        far_mean: That of `far` and `mean`.
    """

    log_mass: jax.Array
    fall: jax.Array
    far: jax.Array
    mean: jax.Array
    far_gap: jax.Array
    far_mean: jax.Array


def _normal_parts(n: jax.Array, g: jax.Array, n_lost: jax.Array, g_lost: jax.Array) -> _Normal:
    # Far to the left a probability of 1 has no more digits to lose, and squares would overflow.
    n = jnp.maximum(n, -1e9)
    open_ended = g == jnp.inf
    held = jnp.where(open_ended, 0, g)
    total = 2 * n + held
    # By which exponent the density falls. The exponential would show its rounding.
    q, lost = exact_product(0.5 * held, total)
    lost = lost + 0.5 * held * lost_in_difference(2 * n, -held)
    # More than 1 is lost only where both densities are 0.
    lost = jnp.clip(lost + held * n_lost + (n + held) * g_lost, -1, 1)
    lost = jnp.where(q < 200, lost, 0)
    q = jnp.where(open_ended, jnp.inf, q)
    decay, fallen = exp_sum(-q, -lost), -jnp.expm1(-q)
    held = jnp.where(decay == 0, 0, held)

    behind, short = n < 0, q < 1
    forms = (
        _of_tails(jnp.where(behind, 0, n), held, decay, fallen),
        _of_short(jnp.where(behind | ~short, 0, n), jnp.where(short, held, 0), total, q, decay),
        _around_zero(
            _Near(jnp.where(behind, n, 0), n_lost),
            _Near(jnp.where(behind, n + g, 1), n_lost + g_lost + lost_in_difference(n, -g)),
            held,
            decay,
            fallen,
        ),
    )
    return _Normal(
        *(jnp.where(behind, z, jnp.where(short, y, x)) for x, y, z in zip(*forms, strict=True))
    )


def _of_tails(n: jax.Array, g: jax.Array, decay: jax.Array, fallen: jax.Array) -> _Normal:
    """For n >= 0, if the density falls to less than 1 / e: one tail less the other."""
    m0, m1 = _tail_moments(n)
    far_m0, far_m1 = _tail_moments(n + g)
    r = (n + 1) / (n + g + 1)
    # Times (n + 1) and its square: the moments themselves may be below the smallest number.
    mass = m0 - decay * r * far_m0
    first = m1 - decay * r * (r * far_m1 + g * (n + 1) * far_m0)
    near, mean = (n + 1) / mass, first / mass / (n + 1)
    log_mass = _log_density(n) + (jnp.log(mass) - jnp.log1p(n))
    far = near * decay
    return _Normal(log_mass, near * fallen, far, mean, far * g, far * mean)


def _of_short(
    n: jax.Array, g: jax.Array, total: jax.Array, q: jax.Array, decay: jax.Array
) -> _Normal:
    """For n >= 0, if the density falls to no less than 1 / e: Gauss's quadrature."""
    places, sizes = _RULES[n.dtype == jnp.float64]
    x, half = n * g, 0.5 * g * g
    terms = [w * jnp.exp(-u * (x + u * half)) for u, w in zip(places, sizes, strict=True)]
    # The probability over that at constant density, and the mean over the gap.
    mass = sum(terms[1:], terms[0])
    mean = sum(u * term for u, term in zip(places, terms, strict=True)) / mass
    # (1 - exp(-q)) / q.
    share = jnp.where(q == 0, 1, -jnp.expm1(-q) / one_if_zero(q))
    return _Normal(
        _log_density(n) + jnp.log(g) + jnp.log(mass),
        0.5 * total * share / mass,
        decay / (g * mass),
        g * mean,
        decay / mass,
        decay * mean / mass,
    )


class _Near(NamedTuple):
    """A number, and what its rounding lost."""

    value: jax.Array
    lost: jax.Array


def _around_zero(
    left: _Near, right: _Near, g: jax.Array, decay: jax.Array, fallen: jax.Array
) -> _Normal:
    """For n < 0: the parts to the left and to the right of 0 have one sign."""
    n = left.value
    mass = 0.5 * (_erf(-n) + _erf(right.value))
    rest = _upper_tail(left) + _upper_tail(right)
    likely = rest < 0.5
    log_mass = jnp.where(likely, small_log1p(-jnp.where(likely, rest, 0)), jnp.log(mass))
    near = _density(left) / mass
    fall, far = near * fallen, near * decay
    mean = fall - n
    return _Normal(log_mass, fall, far, mean, far * g, far * mean)


def _log_density(n: jax.Array) -> jax.Array:
    return -0.5 * n * n - 0.5 * math.log(2 * math.pi)


def _erf(x: jax.Array) -> jax.Array:
    return jax.lax.erf(x * math.sqrt(0.5))


def _density(x: _Near) -> jax.Array:
    near = jnp.abs(x.value) < 200
    exact, rest = square_parts(jnp.where(near, x.value, 200), jnp.where(near, x.lost, 0))
    return exp_sum(-0.5 * exact, -0.5 * rest) * (1 / math.sqrt(2 * math.pi))


def _upper_tail(x: _Near) -> jax.Array:
    """The probability of more than |x|."""
    size = jnp.abs(x.value)
    return _density(x) * _tail_moments(size)[0] / (1 + size)


def _normal_slopes(n: jax.Array, g: jax.Array, n_lost: jax.Array, g_lost: jax.Array) -> Slopes:
    parts = _normal_parts(n, g, n_lost, g_lost)
    far = in_range(parts.far)
    return -parts.fall, far, -parts.fall, far


def _normal_curvatures(
    n: jax.Array, g: jax.Array, n_lost: jax.Array, g_lost: jax.Array
) -> tuple[Slopes, Slopes]:
    parts = _normal_parts(n, g, n_lost, g_lost)
    # The variance of the variable less 1, without the difference.
    in_n = -(parts.fall * parts.mean + parts.far_gap)
    mixed = parts.far_mean - parts.far_gap
    in_g = -parts.far * (jnp.where(parts.far == 0, 0, n + g) + parts.far)
    return (in_n,), (mixed, in_g)


@closed_form(_normal_slopes, second=_normal_curvatures)
def log_normal(n: jax.Array, g: jax.Array, n_lost: jax.Array, g_lost: jax.Array) -> jax.Array:
    """The log probability of [n, n + g], with n >= -g / 2, of the standard normal distribution.

    The last two are what the roundings of the first two lost.
    """
    return jnp.where(g >= 0, _normal_parts(n, g, n_lost, g_lost).log_mass, jnp.nan)
