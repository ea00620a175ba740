"""Special functions to the last bits, where XLA has none or the plain formula loses digits."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from .exact import exp_sum, leading, quotient, square_parts
from .kinks import closed_form, divide, in_range, with_slope
from .xla import fuse_into_users


def _kernel_slopes(
    e: jax.Array, scale: jax.Array, lost: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    kernel = gaussian_kernel(e, scale, lost)
    r = jnp.where(kernel == 0, 0, e) / scale
    slope = -(r * (1 / scale)) * kernel
    return slope, -r * slope, slope


@closed_form(_kernel_slopes)
def gaussian_kernel(e: jax.Array, scale: jax.Array, lost: jax.Array) -> jax.Array:
    """exp(-((e + lost) / scale)^2 / 2), in its tails too.

    There the exponent reaches -87, and its rounding, 2^-24 of it, would cost 40 units in the
    last place of the kernel. So the exponent is split into a part that is exact and a rest.
    """
    far = jnp.abs(e) / 64 > scale  # 0 in float32 and in float64
    r, r_lost = quotient(jnp.where(far, 0, e), scale)
    exact, rest = square_parts(r, r_lost + lost / scale)
    return jnp.where(far, 0, exp_sum(-0.5 * exact, -0.5 * rest))


def ratio(e: jax.Array, scale: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Whether |e| <= scale, the larger of the two, and the smaller over it, with the sign of e.

    The ratio is 0 where it is 0/0 or inf/inf. Multiply it by a reciprocal, never divide it: XLA
    makes (a / b) / c of it a / (b c), and the product may overflow.
    """
    near = jnp.abs(e) <= scale
    larger = jnp.where(near, scale, e)
    defined = (larger != 0) & (jnp.abs(larger) != jnp.inf)
    smaller = jnp.where(near, e, scale)
    return near, larger, divide(jnp.where(defined, smaller, 0), jnp.where(defined, larger, 1))


def sine_and_cosine(e: jax.Array, scale: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """e / h, scale / h and 1 / h with h = sqrt(e^2 + scale^2), also where a square overflows."""
    near, larger, q = ratio(e, scale)
    root = jnp.sqrt(1 + q * q)
    sine, cosine = jnp.where(near, q, jnp.sign(e)) / root, jnp.where(near, 1, jnp.abs(q)) / root
    return sine, cosine, 1 / (jnp.abs(larger) * root)


def _log1p_square_slopes(e: jax.Array, scale: jax.Array) -> tuple[jax.Array, jax.Array]:
    near, larger, q = ratio(e, scale)
    damping = 1 + q * q
    slope = jnp.where(near, 2 * q, 2) * (1 / (larger * damping))
    # q / scale before the second q: q^2 alone may vanish.
    in_scale = jnp.where(near, 2 * q * (q * (1 / scale)), 2 / scale)
    return slope, -in_scale * (1 / damping)


@closed_form(_log1p_square_slopes)
def log1p_square(e: jax.Array, scale: jax.Array) -> jax.Array:
    """log(1 + (e / scale)^2), also where the square or the ratio overflows."""
    size = jnp.abs(e)
    r = size / scale
    far = r > 2**30  # from here on the 1 is lost
    distance = jnp.log(jnp.where(far, size, 1)) - jnp.log(jnp.where(far, scale, 1))
    return jnp.where(far, 2 * distance, jnp.log1p(r * r))


def log1p_square_less_share(e: jax.Array, scale: jax.Array) -> jax.Array:
    """log(1 + t) - t / (1 + t) with t = (e / scale)^2: for small t the terms cancel."""
    near, _, q = ratio(e, scale)
    t = jnp.where(near, q * q, 0)
    far = log1p_square(e, scale) - 1 / (1 + q * q)
    return jnp.where(near, t * t * (1 / (1 + t) - log1p_gap(t)), far)


def _atanh_tail(square: jax.Array) -> jax.Array:
    """(atanh(s) - s) / s^3 as a series in s^2 <= 1/9."""
    terms = 18 if square.dtype == jnp.float64 else 8
    return polynomial([1 / (2 * k + 3) for k in range(terms)], square)


def small_log1p(x: jax.Array) -> jax.Array:
    """log(1 + x) for -1/2 <= x <= 1: a few multiplications, where XLA's costs two logarithms."""
    return _twice_atanh(fuse_into_users(x / (2 + x)))


def decayed(x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Whether x is positive, its size, and exp(-size), of which softplus and sigmoid are made."""
    right = x > 0
    size = jnp.where(right, x, -x)
    return right, size, fuse_into_users(jnp.exp(-size))


def sigmoid(x: jax.Array) -> jax.Array:
    """1 / (1 + exp(-x))."""
    right, _, decay = decayed(x)
    return jnp.where(right, 1, decay) / (1 + decay)


@jax.custom_jvp
def sigmoids(x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """softplus(-x), sigmoid(-x) and sigmoid(x), from one exponential."""
    e = jnp.exp(-jnp.abs(x))
    large = 1 / (1 + e)
    small, ahead = e * large, x > 0
    cost = jnp.where(ahead, 0, -x) + jnp.log1p(e)
    return cost, jnp.where(ahead, small, large), jnp.where(ahead, large, small)


@sigmoids.defjvp
def _(primals: Any, tangents: Any) -> Any:
    cost, low, high = sigmoids(*primals)
    moved = low * high * tangents[0]
    return (cost, low, high), (-low * tangents[0], -moved, moved)


def _tanh_slope(x: jax.Array) -> tuple[jax.Array]:
    decay = jnp.exp(-2 * jnp.abs(x))
    return (4 * decay / jnp.square(1 + decay),)


@closed_form(_tanh_slope)
def tanh(x: jax.Array) -> jax.Array:
    """The hyperbolic tangent t, with its slope in the tails too, where 1 - t^2 is rounded to 0."""
    return jnp.tanh(x)


@closed_form(lambda x: (jnp.exp(x),))
def expm1(x: jax.Array) -> jax.Array:
    """exp(x) - 1; JAX's own derivative adds the 1 again and is 0 far below 0."""
    return jnp.expm1(x)


def exp_gap_share(d: jax.Array) -> jax.Array:
    """(exp(d) - 1 - d) / d^2 for |d| <= 1: 1/2 at 0."""
    terms = 18 if d.dtype == jnp.float64 else 10
    return polynomial([1 / math.factorial(k + 2) for k in range(terms)], d)


@closed_form(lambda d: (expm1(d),))
def exp_gap(d: jax.Array) -> jax.Array:
    """exp(d) - 1 - d, which is d^2 / 2 near 0 and never negative."""
    # The leading terms cancel where d is small: at 1e-3 the difference would lose 2,700 units in
    # the last place. From 1 on at most two are lost.
    near = jnp.abs(d) < 1
    small = jnp.where(near, d, 0)
    far = jnp.where(d == jnp.inf, d, jnp.expm1(d) - d)  # inf - inf is NaN
    return jnp.where(near, small * small * exp_gap_share(small), far)


@closed_form(lambda x: (sigmoid(x),))
def softplus(x: jax.Array) -> jax.Array:
    """log(1 + exp(x))."""
    right, size, decay = decayed(x)
    return small_log1p(decay) + jnp.where(right, size, 0)


# (sinh(2 r) - 2 r) / (2 r^3) in powers of r^2.
_CAPPED = [4.0**k / math.factorial(2 * k + 1) for k in range(1, 9)]


def _soft_cap_slopes(x: jax.Array, cap: jax.Array) -> tuple[jax.Array, jax.Array]:
    r, lost = quotient(x, cap)
    # The slope of tanh, which 1 - tanh^2 rounds to 0 from 9 on. What the rounding of a large
    # quotient loses its exponential would show.
    odds = exp_sum(-2 * jnp.abs(r), -2 * jnp.sign(r) * jnp.where(jnp.abs(r) < 90, lost, 0))
    slope = 4 * odds / jnp.square(1 + odds)
    # tanh(r) - r slope, of which small r cancel the leading terms.
    small = jnp.abs(r) < 1
    near = jnp.where(small, r, 0)
    series = near * jnp.square(near) * polynomial(_CAPPED, jnp.square(near)) * slope
    far = jnp.tanh(r) - jnp.where(odds == 0, 0, r) * slope
    return slope, jnp.where(small, series, far)


@closed_form(_soft_cap_slopes)
def soft_cap(x: jax.Array, cap: jax.Array) -> jax.Array:
    """cap tanh(x / cap)."""
    return cap * jnp.tanh(x / cap)


def exp_parts(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """exp(x) for x <= 0 as a number of half the digits and a rest."""
    if x.dtype == jnp.float64:
        value = jnp.exp(x)
        return leading(value), value - leading(value)
    x = jnp.maximum(x, -200)  # 0 in float32
    k = jax.lax.stop_gradient(jnp.round(x * (1 / math.log(2))))
    # log(2) in two parts (Cody and Waite, 1980): x - 0.693145751953125 k is exact.
    r = x - k * 0.693145751953125
    lost = k * -1.4286068203094e-6
    curve = r * r * polynomial([1 / math.factorial(j) for j in range(2, 9)], r)
    tail = curve + lost * (1 + r + curve)
    # No digits to spare next to the smallest numbers.
    high = jnp.where(k < -100, 1 + r + tail, leading(1 + r + tail))
    power = jax.lax.bitcast_convert_type((k.astype(jnp.int32) + 127).clip(0) << 23, x.dtype)
    return high * power, ((1 - high) + r + tail) * power


@jax.custom_jvp
def sigmoid_parts(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """1 / (1 + exp(-x)), and what its rounding lost."""
    right = x > 0
    high, low = exp_parts(jnp.where(right, -x, x))
    top, top_low = jnp.where(right, 1, high), jnp.where(right, 0, low)
    value = fuse_into_users((top + top_low) / (1 + (high + low)))
    half = leading(value)
    # top - value * (1 + high), whose terms are exact and cancel.
    rest = ((top - value) - half * high) - (value - half) * high + (top_low - value * low)
    return value, rest / (1 + high)


@sigmoid_parts.defjvp
def _(primals: Any, tangents: Any) -> Any:
    value, lost = sigmoid_parts(*primals)
    return (value, lost), (value * sigmoid(-primals[0]) * tangents[0], jnp.zeros_like(lost))


def log_ratio(p: jax.Array, t: jax.Array) -> jax.Array:
    """log((1 + p) / (1 + t)), every digit of it where p is near t."""
    return log_quotient(1 + p, 1 + t, p - t)


def log_quotient(a: jax.Array, b: jax.Array, difference: jax.Array) -> jax.Array:
    """log(a / b), every digit of it where a is near b, if their difference has all of its own."""
    s = difference / (a + b)
    near = s * s < 1 / 9
    far = jnp.log(jnp.where(near, 1, a / jnp.where(near, 1, b)))
    return jnp.where(near, _twice_atanh(jnp.where(near, s, 0)), far)


def _twice_atanh(s: jax.Array) -> jax.Array:
    """2 atanh(s), which is log((1 + s) / (1 - s)), for |s| <= 1/3."""
    square = s * s
    return 2 * s + 2 * s * square * _atanh_tail(square)


def _angle_slopes(y: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    square = x * x + y * y
    return x / square, -y / square


@closed_form(_angle_slopes)
def angle(y: jax.Array, x: jax.Array) -> jax.Array:
    """atan2(y, x) for x >= 0 and sizes near 1: multiplications, where XLA calls a function."""
    size = jnp.abs(y)
    steep = size > x
    s = jnp.where(steep, x, size) / jnp.where(steep, size, x)
    # tan(pi / 8), from which on the angle to the diagonal is the smaller.
    wide = s > math.sqrt(2) - 1
    t = jnp.where(wide, (1 - s) / (1 + s), s)
    terms = 21 if y.dtype == jnp.float64 else 9
    # t - t^3 / 3 + t^5 / 5 - ...
    found = t + t * (t * t) * polynomial([(-1) ** k / (2 * k + 1) for k in range(1, terms)], t * t)
    found = jnp.where(wide, 0.25 * math.pi - found, found)
    return jnp.sign(y) * jnp.where(steep, 0.5 * math.pi - found, found)


def log1p_gap(u: jax.Array) -> jax.Array:
    """(u - log(1 + u)) / u^2 for u >= -1/2: 1/2 at 0."""
    # log(1 + u) = 2 atanh(s) with s = u / (2 + u), whose leading term is taken out exactly.
    near = u < 1
    held = jnp.where(near, u, 1)
    s = held / (2 + held)
    tail = _atanh_tail(s * s)
    far = jnp.where(near, 1, u)
    return jnp.where(
        near,
        (1 - 2 * s * tail / (2 + held)) / (2 + held),
        (1 - jnp.log1p(far) / far) / far,
    )


def polynomial(coefficients: Sequence[float], x: jax.Array) -> jax.Array:
    """c0 + c1 x + c2 x^2 + ..., by Horner's rule."""
    total = jnp.full_like(x, coefficients[-1])
    for c in reversed(coefficients[:-1]):
        total = total * x + c
    return total


def safe_product(count: jax.Array, factor: jax.Array) -> jax.Array:
    """count * factor, with 0 * inf = 0."""
    return count * jnp.where((count == 0) & (jnp.abs(factor) == jnp.inf), 0, factor)


def steep_product(count: jax.Array, factor: jax.Array) -> jax.Array:
    """`safe_product` in slopes: its own slope in `count` is finite where the factor is not."""
    value = safe_product(jax.lax.stop_gradient(count), factor)
    return with_slope(value, count, in_range(factor))


def finite_top(top: jax.Array) -> jax.Array:
    """What scores are compared with: the largest of them, or 0 if there is none, at -inf."""
    return jnp.where(top == -jnp.inf, 0, top)


def one_if_zero(x: jax.Array) -> jax.Array:
    """x, or 1 where it is 0: a divisor."""
    return jnp.where(x == 0, 1, x)


def reciprocal(x: jax.Array) -> jax.Array:
    """1 / x, and 0 for 0."""
    return jnp.where(x == 0, 0, divide(jnp.ones_like(x), one_if_zero(x)))


def root(x: jax.Array) -> jax.Array:
    """The square root, with slope 0 at 0."""
    return jnp.where(x == 0, 0, jnp.sqrt(one_if_zero(x)))


def squares_in_range(squares: jax.Array) -> jax.Array:
    """Whether sums of squares are far from where float32 loses digits: of sizes 1e-12 to 3e18."""
    return (squares > 1e-24) & (squares < 1e37)


def rescaled_if_extreme(
    squares: Sequence[jax.Array],
    plain: Callable[..., Any],
    rescaled: Callable[..., Any],
    *arrays: jax.Array,
) -> Any:
    """`plain(*arrays)`, or `rescaled(*arrays)` if not all `squares_in_range`.

    To divide vectors by their largest entry, so that no square overflows or vanishes, takes
    further passes over them; ordinary vectors are spared these.
    """
    ordinary = functools.reduce(operator.and_, map(squares_in_range, squares))
    return jax.lax.cond(jnp.all(ordinary), plain, rescaled, *arrays)
