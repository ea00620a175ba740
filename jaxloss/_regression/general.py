"""Barron's general robust loss: one parameter runs through L2, Charbonnier, Cauchy and Welsch.

With z = (e / scale)^2, b = |alpha - 2|, B = 1 + z / b and L = log(B) the loss is
b / alpha (B^(alpha/2) - 1), its derivative in e is e W / scale^2 with the weight
W = B^(alpha/2 - 1), and its derivative in alpha is

    b / 4 * integral from 0 to L of exp(alpha v / 2) (v - 1 + exp(-v)) dv.

The weight is what takes care: its exponent multiplies the rounding errors of B.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from .._contract.jit import jit
from .._contract.prepared import Hyper, positive
from .._contract.reduce import Losses, Reduction, Request, Weights, Where
from .._numerics.exact import exp_sum, leading, quotient, square_parts
from .._numerics.kinks import absolute, closed_form
from .._numerics.special import log1p_gap, log1p_square, polynomial
from .errors import Predictions, Targets, exact_errors

# From this ratio of error to scale on the 1 in 1 + z / b is lost, and z may overflow.
_FAR = 2.0**30
# From this size of alpha on W is exp(+-z / 2) with a correction; beyond a ratio of 64 it is 0
# or infinite then.
_HUGE, _SATURATED = 2.0**16, 64.0
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(32)


def _gap(alpha: jax.Array) -> tuple[jax.Array, jax.Array]:
    """|alpha - 2|, and what its rounding lost."""
    gap = alpha - 2
    lost = jnp.where(jnp.abs(alpha) > 2, (alpha - gap) - 2, alpha - (gap + 2))
    return jnp.abs(gap), jax.lax.stop_gradient(jnp.sign(gap) * lost)


def _share(r: jax.Array, r_lost: jax.Array, alpha: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The ratio z / b, and what its rounding lost."""
    gap, gap_lost = _gap(alpha)
    exact, rest = square_parts(r, r_lost)
    t = r * r / gap
    t_high, gap_high = leading(t), leading(gap)
    t_lost = exact - t_high * gap_high
    t_lost += rest - t_high * (gap - gap_high) - (t - t_high) * gap - t * gap_lost
    return t, jax.lax.stop_gradient(t_lost / gap)


def _moderate(r: jax.Array, r_lost: jax.Array, alpha: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Half of W and the other, for a ratio and an alpha not huge and not 2.

    In two halves, B^(alpha/4) / B and B^(alpha/4), because a product with e may be in range
    where W is not.
    """
    t, t_lost = _share(r, r_lost, alpha)
    base = leading(1 + t, cleared=4)
    base_lost = (1 - base) + t + t_lost
    half = jnp.power(base, alpha / 4)
    half = half * jnp.exp(alpha / 4 * jax.lax.stop_gradient(base_lost / base))
    return half / (1 + t), half


def _parts(
    e: jax.Array, alpha: jax.Array, scale: jax.Array, lost: jax.Array
) -> tuple[jax.Array, ...]:
    """W, W e / scale, W z, and the logarithm of W where alpha is huge."""
    # The limits at an infinite error are those of the largest float, but for what grows slowly.
    largest = jnp.finfo(e.dtype).max
    r, r_lost = quotient(jnp.where(jnp.isinf(e), jnp.sign(e) * largest, e), scale)
    r_lost = jnp.where(jnp.isinf(r), 0, r_lost + lost / scale)
    size = absolute(r)
    square, huge, far = alpha == 2, jnp.abs(alpha) >= _HUGE, size > _FAR

    plain = ~(square | huge | far)
    plain_r = jnp.where(plain, r, 1)
    small, large = _moderate(plain_r, jnp.where(plain, r_lost, 0), jnp.where(plain, alpha, 1))

    distant = far & ~huge & ~square
    far_r, far_alpha = jnp.where(distant, size, 1), jnp.where(distant, alpha, 1)
    gap, _ = _gap(far_alpha)
    root = jnp.power(far_r / jnp.sqrt(gap), far_alpha / 2)
    root = root * (1 + far_alpha / 2 * jnp.where(distant, jnp.sign(r) * r_lost, 0) / far_r)
    pull = (root / far_r) * (gap * root)

    weight, logarithm = _huge_weight(
        jnp.where(huge, size, 0), jnp.where(huge, jnp.sign(r) * r_lost, 0), alpha
    )
    weight = jnp.where(square, 1, weight)
    straight = ~(plain | distant)
    held = jnp.where(straight & (weight != 0), r, 0)
    return (
        jnp.where(distant, pull / far_r, jnp.where(plain, small * large, weight)),
        jnp.where(
            distant,
            jnp.sign(r) * pull,
            jnp.where(plain, small * (large * plain_r), held * weight),
        ),
        jnp.where(
            distant,
            (root * gap) * root,
            jnp.where(plain, (small * plain_r) * (large * plain_r), held * (held * weight)),
        ),
        logarithm,
    )


def _huge_weight(size: jax.Array, lost: jax.Array, alpha: jax.Array) -> tuple[jax.Array, jax.Array]:
    """W and its logarithm for a huge alpha: exp(+-z / 2), with a correction in z / b."""
    held = jnp.where(jnp.abs(alpha) >= _HUGE, alpha, _HUGE)
    saturated = size > _SATURATED
    r, r_lost = jnp.where(saturated, 0, size), jnp.where(saturated, 0, lost)
    exact, rest = square_parts(r, r_lost)
    half, u = 0.5 * jnp.sign(held), r * r / jnp.abs(held - 2)
    bend = -half * r * r * u * polynomial((1 / 2, -1 / 3, 1 / 4), u)
    limit = jnp.where(held > 0, jnp.inf, 0)
    return (
        jnp.where(saturated, limit, exp_sum(half * exact, half * rest + bend)),
        jnp.where(saturated, 2 * half * _SATURATED, half * r * r + bend),
    )


def _moment(k: int) -> Callable[..., jax.Array]:
    """W (e / scale)^k with its derivatives: W itself, the pull, or W z."""

    def slopes(
        e: jax.Array, alpha: jax.Array, scale: jax.Array, lost: jax.Array
    ) -> tuple[jax.Array, ...]:
        parts = _parts(e, alpha, scale, lost)
        r = jnp.clip(e / scale, -_FAR, _FAR)
        gap = jnp.abs(alpha - 2)
        t = jnp.where(alpha == 2, 0, r * r / jnp.where(alpha == 2, 1, gap))
        # (alpha - 2) z / (z + b), which is finite for an infinite alpha.
        bend = jnp.sign(alpha - 2) * jnp.where(t > 1, gap / (1 + 1 / jnp.where(t > 1, t, 1)), 0)
        bend = jnp.where(t > 1, bend, jnp.sign(alpha - 2) * r * r / (1 + t))
        lower = parts[k - 1] if k else parts[0] / jnp.where(r == 0, 1, r)
        in_r = jnp.where(jnp.isinf(alpha) & (lower == 0), 0, lower * (k + bend))
        in_alpha = jnp.where(jnp.isinf(alpha), 0, 0.5 * parts[k] * (jnp.log1p(t) - t / (1 + t)))
        return in_r / scale, in_alpha, -(r / scale) * in_r, in_r / scale

    return closed_form(slopes)(lambda *arguments: _parts(*arguments)[k])


_weight, _pull, _work = map(_moment, range(3))


def _slopes(
    e: jax.Array, alpha: jax.Array, scale: jax.Array, lost: jax.Array
) -> tuple[jax.Array, ...]:
    pull, work = _pull(e, alpha, scale, lost), _work(e, alpha, scale, lost)
    slow = jnp.isinf(e) & (alpha != 1)
    pull = jnp.where(slow, jnp.where(alpha > 1, e, 0), pull)
    work = jnp.where(jnp.isinf(e) & (alpha > 0), jnp.inf, work)
    return pull / scale, _alpha_slope(e, alpha, scale, lost), -work / scale, pull / scale


def _alpha_slope(e: jax.Array, alpha: jax.Array, scale: jax.Array, lost: jax.Array) -> jax.Array:
    # At alpha = 2 the derivative is infinite, as a logarithm is: taken one float away.
    finite = jnp.where(jnp.isinf(alpha), 0, alpha)
    finite = jnp.where(finite == 2, 2 - jnp.finfo(alpha.dtype).eps, finite)
    gap = jnp.abs(finite - 2)
    # The integral goes as the cube of its length, and so do the errors.
    r, r_lost = quotient(e, scale)
    near = absolute(r) <= _FAR
    held, held_lost = jnp.where(near, r, 0), jnp.where(near, r_lost + lost / scale, 0)
    t, t_lost = _share(held, held_lost, finite)
    far_length = log1p_square(e, jnp.sqrt(gap) * scale)
    length = jnp.where(near, jnp.log1p(t) + t_lost / (1 + t), far_length)
    rate = jnp.abs(finite) / 2
    # The integrand falls off as exp(-rate x) from one end of the interval; 50 is far enough.
    width = jnp.minimum(length, 50 / jnp.where(rate == 0, 1, rate))
    width = jnp.where(rate == 0, length, width)
    total = jnp.zeros_like(e)
    for node, share in zip(_NODES, _WEIGHTS, strict=True):
        x = width * (0.5 + 0.5 * float(node))
        v = jnp.where(finite > 0, length - x, x)
        total += float(share) * jnp.exp(-rate * x) * _lag(v)
    # b B W for alpha > 0, b for alpha < 0.
    rising = gap * _weight(e, finite, scale, lost) + _work(e, finite, scale, lost)
    front = jnp.where(finite > 0, rising, gap)
    return jnp.where(jnp.isinf(alpha) | (total == 0), 0, 0.125 * width * front * total)


def _lag(v: jax.Array) -> jax.Array:
    """v - 1 + exp(-v)."""
    near = v < 0.5
    held = jnp.where(near, v, 0)
    terms = (1 / 2, -1 / 6, 1 / 24, -1 / 120, 1 / 720, -1 / 5040, 1 / 40320, -1 / 362880)
    series = held * held * polynomial(terms, held)
    return jnp.where(near, series, v + jnp.expm1(-v))


@closed_form(_slopes)
def _general_robust(e: jax.Array, alpha: jax.Array, scale: jax.Array, lost: jax.Array) -> jax.Array:
    weight, _, work, logarithm = _parts(e, alpha, scale, lost)
    r = jnp.abs(e / scale)
    square, huge = alpha == 2, jnp.abs(alpha) >= _HUGE

    plain = jnp.where(square | huge, 1, alpha)
    gap = jnp.abs(plain - 2)
    length = log1p_square(e, jnp.sqrt(gap) * scale)
    y = 0.5 * plain * length
    near = jnp.abs(y) < 1
    held = jnp.where(near & (y != 0), y, 1)
    growth = jnp.where(y == 0, 1, jnp.expm1(held) / held)
    t = r * r / gap
    short = t < 1
    half_gap_length = jnp.where(
        short,
        0.5 * r * r * (1 - jnp.where(short, t, 0) * log1p_gap(jnp.where(short, t, 0))),
        0.5 * gap * length,
    )
    value = jnp.where(
        near,
        half_gap_length * growth,
        (work + gap * weight - gap) / jnp.where(near, 1, plain),
    )

    sign, inverse = jnp.sign(alpha), 1 / jnp.where(huge, jnp.abs(alpha), _HUGE)
    change = jnp.where(jnp.abs(logarithm) < 1, jnp.expm1(logarithm), weight - 1)
    extra = jnp.where(jnp.isinf(alpha), 0, work * inverse)
    extreme = sign * (extra + (1 - 2 * sign * inverse) * change)
    value = jnp.where(square, 0.5 * r * r, jnp.where(huge, extreme, value))
    return jnp.where(jnp.isinf(e) & (alpha >= 0), jnp.inf, value)


@jit()
def general_robust_loss(
    predictions: Predictions,
    targets: Targets = None,
    *,
    alpha: ArrayLike,
    scale: ArrayLike = 1.0,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> Losses:
    """General robust loss, whose parameter alpha sets how much outliers pull, and can be learned.

        b / alpha ((z / b + 1)^(alpha/2) - 1)   with z = (e / scale)^2, b = |alpha - 2|
        z / 2                                   at alpha = 2, L2
        log(z / 2 + 1)                          at alpha = 0, `cauchy_loss`
        1 - exp(-z / 2)                         at alpha = -inf, `welsch_loss`
        exp(z / 2) - 1                          at alpha = +inf

    Further, alpha = 1 is `pseudo_huber_loss` and alpha = -2 is `geman_mcclure_loss`. The loss
    does not fall as alpha grows. At alpha = 2 its derivative in alpha is infinite, as a
    logarithm is; what is returned there is the derivative at the nearest float.

    Args:
        predictions: Any shape.
        targets: The shape of `predictions`, a scalar, or None for zeros.
        alpha: Any number, infinities included.
        scale: The error around which outliers begin, in the unit of `targets`. NaN unless
            positive.
        where, weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per element, without unit.

    Reference:
        Barron, "A general and adaptive robust loss function", 2019, eq. 8,
        https://arxiv.org/abs/1701.03077.

    Example:
        >>> general_robust_loss(jnp.array([0.0, 1.0, 10.0]), alpha=1.0)
        Array([0.        , 0.41421, 9.0499  ], dtype=float32)
        >>> general_robust_loss(jnp.array([0.0, 1.0, 10.0]), alpha=-2.0)
        Array([0.       , 0.4      , 1.92308], dtype=float32)
    """
    request = Request(where, weights, reduction)
    given = exact_errors(
        predictions, targets, request, alpha=Hyper(alpha), scale=Hyper(scale, positive)
    )
    error, lost, alpha, scale = given.arrays
    return given.reduced(_general_robust(error, alpha, scale, lost))
