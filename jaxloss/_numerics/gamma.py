"""The logarithm of the gamma function in differences, whose leading terms do not cancel."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable

import jax
import jax.numpy as jnp

from .special import log1p_gap, polynomial

# The asymptotic series of log gamma beyond Stirling's formula: B_2k / (2k (2k - 1)) x^(1 - 2k)
# (Abramowitz and Stegun, 1964, 6.1.41).
_STIRLING = (
    1 / 12,
    -1 / 360,
    1 / 1260,
    -1 / 1680,
    1 / 1188,
    -691 / 360360,
    1 / 156,
    -3617 / 122400,
)


def _stirling_rest(inverse: jax.Array) -> jax.Array:
    """log gamma(x) - (x - 1/2) log x + x - log(2 pi)/2 at x = 1 / inverse."""
    return inverse * polynomial(_STIRLING, inverse * inverse)


def _stirling_slope(low: jax.Array, high: jax.Array) -> jax.Array:
    """The difference of `_stirling_rest` at two points over that of the points."""
    x, y = low * low, high * high
    total, slope = jnp.full_like(x, _STIRLING[-1]), jnp.zeros_like(x)
    for c in reversed(_STIRLING[:-1]):
        total, slope = total * x + c, slope * y + total
    return total + slope * high * (low + high)


def _zeta_minus_one(k: int, terms: int = 200) -> float:
    """zeta(k) - 1 by the Euler-Maclaurin formula, to double precision."""
    head = math.fsum(n**-k for n in range(2, terms))
    tail = terms ** (1 - k) / (k - 1) + terms**-k / 2 + k * terms ** (-k - 1) / 12
    return head + tail - k * (k + 1) * (k + 2) * terms ** (-k - 3) / 720


# log gamma(2 + h) = sum of c_k h^k (Abramowitz and Stegun, 1964, 6.1.33); c_1 = 1 - Euler's gamma.
_LOG_GAMMA_AT_2 = (
    0.4227843350984671394,
    *((-1) ** k * _zeta_minus_one(k) / k for k in range(2, 28)),
)


def log_factorial(y: jax.Array) -> jax.Array:
    """log y! for real y >= 0, with every digit next to its zeros at 0 and 1."""
    steps = 8
    far = y > steps + 0.5
    held = jnp.where(far, 0, y)
    n = jax.lax.stop_gradient(jnp.round(held))
    h = held - n
    product = jnp.where(n == 0, 1 / (1 + h), 1)
    for k in range(2, steps + 1):
        product = product * jnp.where(n >= k, h + k, 1)
    terms = 27 if y.dtype == jnp.float64 else 13
    near = h * polynomial(_LOG_GAMMA_AT_2[:terms], h) + jnp.where(
        n == 0, -jnp.log1p(h), jnp.log(jnp.where(n == 0, 1, product))
    )
    x = jnp.where(far, y, steps) + 1
    stirling = (x - 0.5) * jnp.log(x) - x + 0.5 * math.log(2 * math.pi) + _stirling_rest(1 / x)
    return jnp.where(far, stirling, near)


def log_rising(y: jax.Array, a: jax.Array) -> jax.Array:
    """log of (1 + a)(1 + 2a)...(1 + (y - 1) a), for real y >= 0 and a >= 0.

    That is log gamma(y + 1/a) - log gamma(1/a) + y log a, without the cancellation, and 0 at
    a = 0: Stirling's formula at 1/a + n, where n steps make it exact enough if 1/a is small.
    """
    steps = 8 if y.dtype == jnp.float64 else 4
    n = jnp.where(steps * a < 1, 0, steps).astype(a.dtype)
    # log1p((y - 1) a) is the last factor: without it the rest is 0 at y = 1 to every digit. The
    # first of the steps would take it away again.
    whole = y >= 1
    y = jnp.where(whole, y - 1, y)
    last = jnp.where(whole & (n == 0), y, 0)
    low, high = a / (1 + n * a), a / (1 + (n + y) * a)
    v = y * low
    taken = _log_product(
        jnp.where((k < n) & ~whole if k == 0 else k < n, y * (a / (1 + k * a)), 0)
        for k in range(steps)
    )
    rising = y * (jnp.log1p((n + y) * a) - v * log1p_gap(v)) - 0.5 * jnp.log1p(v)
    change = -y * low * high * _stirling_slope(low, high)
    return jnp.log1p(last * a) + rising + change - taken


def _log_product(terms: Iterable[jax.Array]) -> jax.Array:
    """log of (1 + t1)(1 + t2)... for t >= 0, with the digits of small t."""
    return jnp.log1p(functools.reduce(lambda total, t: total + t + total * t, terms))


# log gamma(x + 1/2) - log gamma(x) - log(x)/2, in odd powers of 1/x (Tricomi and Erdelyi, 1951).
_HALF_STEP = (-1 / 8, 1 / 192, -1 / 640, 17 / 14336, -31 / 18432, 691 / 180224)


def half_step(x: jax.Array) -> jax.Array:
    """log(x)/2 + log gamma(x) - log gamma(x + 1/2) for x > 0: 0 at infinity."""
    n = 16 if x.dtype == jnp.float64 else 4
    inverse = 1 / (x + n)
    series = inverse * polynomial(_HALF_STEP, inverse * inverse)
    return _log_product(0.5 / (x + k) for k in range(n)) - 0.5 * jnp.log1p(n / x) - series
