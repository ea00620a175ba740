"""Barron's general robust loss: one parameter runs through L2, Charbonnier, Cauchy and Welsch.

With z = (e / scale)^2, b = |alpha - 2|, B = 1 + z / b and L = log(B) the loss is
b / alpha (B^(alpha/2) - 1), its derivative in e is e W / scale^2 with the weight
W = B^(alpha/2 - 1), and its derivative in alpha is

    b / 4 * integral from 0 to L of exp(alpha v / 2) (v - 1 + exp(-v)) dv.

The weight is what takes care: its exponent multiplies the rounding errors of B.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from .._contract.jit import jit
from .._contract.prepared import Hyper, any_number, positive
from .._contract.reduce import Reduction, Request, Weights, Where
from .._numerics.exact import exact_product, exp_sum, leading, quotient, square_parts
from .._numerics.kinks import absolute, closed_form
from .._numerics.special import (
    log1p_gap,
    log1p_square,
    log1p_square_less_share,
    one_if_zero,
    polynomial,
    safe_product,
    sine_and_cosine,
)
from .._numerics.xla import apart
from .errors import Predictions, Targets, exact_errors

# From this ratio of error to scale on the 1 in 1 + z / b is lost, and z may overflow.
_FAR = 2.0**30
# Sixteen nodes integrate exp(-x) over [0, 24] to 1e-9.
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(16)
_LENGTH = 24.0


def _finite(alpha: jax.Array) -> jax.Array:
    """An alpha so large that the loss is that of an infinite one to all digits, for those beyond.

    The weights differ by z^2 / (4 b) of themselves, and are 0 or infinite from z = 175 on, in
    float64 from 1500.
    """
    most = 2.0**80 if alpha.dtype == jnp.float64 else 2.0**40
    return jnp.clip(alpha, -most, most)


def _gap(alpha: jax.Array) -> tuple[jax.Array, jax.Array]:
    """b = |alpha - 2|, and what its rounding lost."""
    gap = alpha - 2
    lost = jnp.where(jnp.abs(alpha) > 2, (alpha - gap) - 2, alpha - (gap + 2))
    return jnp.abs(gap), jax.lax.stop_gradient(jnp.sign(gap) * lost)


def _ratio(r: jax.Array, r_lost: jax.Array, alpha: jax.Array) -> tuple[jax.Array, jax.Array]:
    """t = z / b, and what its rounding lost."""
    gap, gap_lost = _gap(alpha)
    exact, rest = square_parts(r, r_lost)
    t = r * r / gap
    t_high, gap_high = leading(t), leading(gap)
    t_lost = exact - t_high * gap_high
    t_lost += rest - t_high * (gap - gap_high) - (t - t_high) * gap - t * gap_lost
    return t, jax.lax.stop_gradient(t_lost / gap)


class _Near(NamedTuple):
    """B where the 1 in it counts, as a number of 20 bits and a rest.

    Of such a number a power is right to its last digits.

    Attributes:
        t: z / b.
        base: The number of 20 bits.
        exponent: alpha / 4 log(B / base).
        lost: What its rounding lost.
    """

    t: jax.Array
    base: jax.Array
    exponent: jax.Array
    lost: jax.Array


def _near(r: jax.Array, r_lost: jax.Array, alpha: jax.Array) -> _Near:
    """For an alpha that is not 2."""
    t, t_lost = _ratio(r, r_lost, alpha)
    base = leading(1 + t, cleared=4)
    rest, rest_lost = jax.lax.stop_gradient(quotient((1 - base) + t, base))
    rest_lost = rest_lost + jax.lax.stop_gradient(t_lost / base)
    # alpha / 4 log(1 + rest): the square counts where alpha is large.
    exponent, lost = exact_product(0.25 * alpha, rest)
    return _Near(t, base, exponent, lost + 0.25 * alpha * (rest_lost - 0.5 * rest * rest))


def _factors(near: _Near, power: jax.Array) -> tuple[jax.Array, jax.Array]:
    """W as the product of B^(alpha/4) / B and B^(alpha/4), given that power of the base.

    As two factors, because the product of W with e may be in range where W is not.
    """
    # A power of 0 or inf is one of B too: the rest is less than half of what B exceeds 1 by.
    ended = (power == 0) | (power == jnp.inf)
    exponent, lost = (jnp.where(ended, 0, x) for x in (near.exponent, near.lost))
    power = power * exp_sum(exponent, lost)
    return power / (1 + near.t), power


def _parts(
    e: jax.Array, alpha: jax.Array, scale: jax.Array, lost: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """W, W e / scale and W z."""
    alpha = _finite(alpha)
    # The limits at an infinite error are those of the largest float, but for what grows slowly.
    largest = jnp.finfo(e.dtype).max
    r, r_lost = quotient(jnp.where(jnp.isinf(e), jnp.sign(e) * largest, e), scale)
    r_lost = jnp.where(jnp.isinf(r), 0, r_lost + lost / scale)
    size = absolute(r)
    square, far = alpha == 2, size > _FAR
    plain, distant = ~(square | far), far & ~square

    near_r, near_alpha = jnp.where(plain, r, 1), jnp.where(plain, alpha, 1)
    near = _near(near_r, jnp.where(plain, r_lost, 0), near_alpha)
    far_r, far_alpha = jnp.where(distant, size, 1), jnp.where(distant, alpha, 1)
    gap, _ = _gap(far_alpha)
    # One power for both: it takes longer than the rest.
    power = jnp.power(
        jnp.where(distant, far_r / jnp.sqrt(gap), near.base),
        jnp.where(distant, far_alpha / 2, 0.25 * near_alpha),
    )
    small, large = _factors(near, jnp.where(distant, 1, power))
    root = jnp.where(distant, power, 1)
    root = root * (1 + far_alpha / 2 * jnp.where(distant, jnp.sign(r) * r_lost, 0) / far_r)
    pull = (root / far_r) * (gap * root)

    held = jnp.where(square, r, 0)
    weight = jnp.where(distant, pull / far_r, jnp.where(plain, small * large, 1))
    weighed = jnp.where(plain, small * (large * near_r), held)
    work = jnp.where(plain, (small * near_r) * (large * near_r), held * held)
    return (
        weight,
        jnp.where(distant, jnp.sign(r) * pull, weighed),
        jnp.where(distant, (root * gap) * root, work),
    )


def _slopes(
    e: jax.Array, alpha: jax.Array, scale: jax.Array, lost: jax.Array
) -> tuple[jax.Array, ...]:
    _, pull, work = _parts(e, alpha, scale, lost)
    slow = jnp.isinf(e) & (alpha != 1)
    pull = jnp.where(slow, jnp.where(alpha > 1, e, 0), pull)
    work = jnp.where(jnp.isinf(e) & (alpha != 0), jnp.where(alpha > 0, jnp.inf, 0), work)
    in_alpha = _alpha_slope(e, *_trained(alpha), scale, lost)
    return pull / scale, in_alpha, -work / scale, pull / scale


def _trained(alpha: jax.Array) -> tuple[jax.Array, jax.Array]:
    """An alpha to take derivatives in, and whether the loss does not depend on it."""
    endless = jnp.isinf(alpha)
    alpha = jnp.where(endless, 1, alpha)
    # At alpha = 2 the derivative is infinite, as a logarithm is: taken one float away.
    return jnp.where(alpha == 2, 2 - jnp.finfo(alpha.dtype).eps, alpha), endless


def _alpha_slope(
    e: jax.Array, alpha: jax.Array, endless: jax.Array, scale: jax.Array, lost: jax.Array
) -> jax.Array:
    width, mean, front = _integral(_lag, e, alpha, scale, lost)
    constant = (mean == 0) | endless
    return jnp.where(constant, 0, 0.125 * (jnp.abs(alpha - 2) * width * mean) * front)


def _integral(
    integrand: Callable[[jax.Array], jax.Array],
    e: jax.Array,
    alpha: jax.Array,
    scale: jax.Array,
    lost: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Twice the integral from 0 to L of exp(alpha v / 2) integrand(v) dv, as three factors."""
    gap = jnp.abs(alpha - 2)
    # The integral goes as the cube of its length, and so do the errors.
    r, r_lost = quotient(e, scale)
    near = ~(absolute(r) > _FAR)
    held, held_lost = jnp.where(near, r, 0), jnp.where(near, r_lost + lost / scale, 0)
    t, t_lost = _ratio(held, held_lost, alpha)
    far_length = log1p_square(e, jnp.sqrt(gap) * scale)
    length = jnp.where(near, jnp.log1p(t) + t_lost / (1 + t), far_length)
    rate = jnp.abs(alpha) / 2
    # The integrand falls off as exp(-rate x) from one end of the interval.
    width = jnp.where(rate == 0, length, jnp.minimum(length, _LENGTH / one_if_zero(rate)))
    total = jnp.zeros_like(e)
    for node, share in zip(_NODES, _WEIGHTS, strict=True):
        x = width * (0.5 + 0.5 * float(node))
        v = jnp.where(alpha > 0, length - x, x)
        total += float(share) * jnp.exp(-rate * x) * integrand(v)
    # B W for alpha > 0, 1 for alpha < 0.
    weight, _, work = _parts(e, alpha, scale, lost)
    return width, total, jnp.where(alpha > 0, weight + work / gap, 1)


def _curvatures(
    e: jax.Array, alpha: jax.Array, scale: jax.Array, lost: jax.Array
) -> tuple[tuple[jax.Array, ...], ...]:
    """The second derivatives in e, alpha and scale.

    That in alpha is the integral of the module's docstring with
    b / 2 (v - 1 + exp(-v))^2 - sign(alpha - 2) (1 - exp(-v))^2 in place of b (v - 1 + exp(-v)).
    """
    weight, pull, work = _parts(e, alpha, scale, lost)
    trained, endless = _trained(alpha)
    power = _finite(alpha)
    sine, cosine, _ = sine_and_cosine(e, jnp.sqrt(jnp.abs(power - 2)) * scale)
    # z / (z + b) and b / (z + b): of these k + (alpha - 2) z / (z + b) keeps its digits.
    far, near = sine * sine, cosine * cosine
    growth = 0.5 * log1p_square_less_share(e, jnp.sqrt(jnp.abs(trained - 2)) * scale)
    growth = jnp.where(endless, 0, growth)

    def integrand(v: jax.Array) -> jax.Array:
        lag, rise = _lag(v), jnp.expm1(-v)
        return 0.5 * jnp.abs(trained - 2) * lag * lag - jnp.sign(trained - 2) * rise * rise

    width, mean, front = _integral(integrand, e, trained, scale, lost)
    inverse = 1 / scale
    pull_in_alpha, work_in_alpha = (safe_product(x, growth) * inverse for x in (pull, work))
    return (
        ((weight * inverse) * ((near + (power - 1) * far) * inverse),),
        (
            pull_in_alpha,
            jnp.where((mean == 0) | endless, 0, 0.125 * (width * mean) * front),
        ),
        (
            -(pull * inverse) * ((2 * near + power * far) * inverse),
            -work_in_alpha,
            (work * inverse) * ((3 * near + (power + 1) * far) * inverse),
        ),
    )


def _lag(v: jax.Array) -> jax.Array:
    """v - 1 + exp(-v)."""
    near = v < 0.5
    held = jnp.where(near, v, 0)
    terms = (1 / 2, -1 / 6, 1 / 24, -1 / 120, 1 / 720, -1 / 5040, 1 / 40320, -1 / 362880)
    series = held * held * polynomial(terms, held)
    return jnp.where(near, series, v + jnp.expm1(-v))


@closed_form(_slopes, second=_curvatures)
def _of_error(e: jax.Array, alpha: jax.Array, scale: jax.Array, lost: jax.Array) -> jax.Array:
    weight, _, work = _parts(e, alpha, scale, lost)
    alpha, r = _finite(alpha), jnp.abs(e / scale)
    square = alpha == 2
    plain = jnp.where(square, 1, alpha)
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
    divisor = jnp.where(near, 1, plain)
    far = work / divisor + (gap / divisor) * (weight - 1)
    value = jnp.where(square, 0.5 * r * r, jnp.where(near, half_gap_length * growth, far))
    # (z / b + 1)^(alpha / 2), which is 0 for alpha < 0: float32 holds no size at which it is so for
    # an alpha near 0.
    limit = jnp.where(alpha < 0, gap / jnp.abs(one_if_zero(alpha)), jnp.inf)
    return jnp.where(jnp.isinf(e), limit, value)


@apart
def _general_robust(e: jax.Array, lost: jax.Array, alpha: jax.Array, scale: jax.Array) -> jax.Array:
    return _of_error(e, alpha, scale, lost)


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
) -> jax.Array:
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
    hyper = {"alpha": Hyper(alpha, any_number), "scale": Hyper(scale, positive)}
    given = exact_errors(predictions, targets, request, **hyper)
    return given.reduced(_general_robust(*given.arrays))
