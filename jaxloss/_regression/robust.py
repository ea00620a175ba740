"""Robust losses: the further off a prediction, the less it pulls.

In the formulas e = predictions - targets. Each is written in the ratio q <= 1 of the smaller to
the larger of |e| and the scale, so that no square overflows or vanishes before the loss does.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from .._contract.jit import jit
from .._contract.prepared import Hyper, non_negative, positive
from .._contract.reduce import Reduction, Request, Weights, Where
from .._numerics.exact import lost_in_difference
from .._numerics.kinks import Slopes, absolute, closed_form
from .._numerics.special import gaussian_kernel, log1p_square, ratio, sine_and_cosine
from .._numerics.xla import apart
from .errors import Predictions, Targets, errors, exact_errors, pairs


def _pseudo_huber_slopes(e: jax.Array, delta: jax.Array) -> Slopes:
    size = absolute(e)
    near, _, q = ratio(size, delta)
    root = jnp.sqrt(1 + q * q)
    gap = root - q
    # delta gap^2, one factor at a time: delta may be infinite, and gap^2 vanish.
    step = q / (1 + root)
    in_delta = jnp.where(near, (size * step) * q * step, size * gap * gap)
    return jnp.where(near, e, delta * jnp.sign(e)) / root, in_delta / root


def _pseudo_huber_curvatures(e: jax.Array, delta: jax.Array) -> tuple[Slopes, Slopes]:
    sine, cosine, _ = sine_and_cosine(e, delta)
    rest = sine * sine / (1 + cosine)  # 1 - cosine
    return (cosine**3,), (sine**3, -rest * rest * (2 + cosine))


@closed_form(_pseudo_huber_slopes, second=_pseudo_huber_curvatures)
def _pseudo_huber(e: jax.Array, delta: jax.Array) -> jax.Array:
    size = jnp.abs(e)
    near, _, q = ratio(size, delta)
    root = jnp.sqrt(1 + q * q)
    return size * jnp.where(near, size / (1 + root), delta / (q + root))


@jit()
def pseudo_huber_loss(
    predictions: Predictions,
    targets: Targets = None,
    *,
    delta: ArrayLike = 1.0,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Pseudo-Huber (Charbonnier) loss: Huber's shape, smooth everywhere.

        delta^2 (sqrt(1 + (e / delta)^2) - 1)

    Near 0 it is e^2 / 2, far out delta |e|. With delta = inf it is `l2_loss`.

    Args:
        predictions: Any shape.
        targets: The shape of `predictions`, a scalar, or None for zeros.
        delta: The error around which the square turns into a line. NaN below 0.
        where, weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per element, in the squared unit of `targets`.

    Reference:
        Charbonnier et al., "Two deterministic half-quadratic regularization algorithms for
        computed imaging", 1994, https://doi.org/10.1109/ICIP.1994.413553.

    Example:
        >>> pseudo_huber_loss(jnp.array([0.0, 0.75, 1e18]))
        Array([0.0, 0.25, 1.0e+18], dtype=float32)
    """
    request = Request(where, weights, reduction)
    given = errors(predictions, targets, request, delta=Hyper(delta, non_negative))
    error, delta = given.arrays
    return given.reduced(_pseudo_huber(error, delta))


@jit()
def cauchy_loss(
    predictions: Predictions,
    targets: Targets = None,
    *,
    scale: ArrayLike = 1.0,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Cauchy (Lorentzian) loss: grows as the logarithm of the error.

        log(1 + z / 2)   with z = (e / scale)^2

    It is `general_robust_loss` with alpha = 0.

    Args:
        predictions: Any shape.
        targets: The shape of `predictions`, a scalar, or None for zeros.
        scale: The error around which outliers begin, in the unit of `targets`. NaN unless
            positive.
        where, weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per element, without unit.

    Reference:
        Black and Anandan, "The robust estimation of multiple motions", 1996,
        https://doi.org/10.1006/cviu.1996.0006, in the normalisation of Barron, 2019.

    Example:
        >>> cauchy_loss(jnp.array([0.0, 2.0]), scale=jnp.sqrt(2.0))
        Array([0.       , 0.69315], dtype=float32)
    """
    request = Request(where, weights, reduction)
    given = errors(predictions, targets, request, scale=Hyper(scale, positive))
    error, scale = given.arrays
    return given.reduced(log1p_square(error, math.sqrt(2) * scale))


def _geman_mcclure_slopes(e: jax.Array, scale: jax.Array) -> Slopes:
    near, larger, q = ratio(e, scale)
    damping = jnp.where(near, q * q + 4, 1 + 4 * q * q)
    # q over the larger before the second q: q^2 alone may vanish.
    pull = 16 * (q * (1 / larger))
    return pull * jnp.where(near, 1, q) / damping**2, -pull * jnp.where(near, q, 1) / damping**2


@closed_form(_geman_mcclure_slopes)
def _geman_mcclure(e: jax.Array, scale: jax.Array) -> jax.Array:
    near, _, q = ratio(e, scale)
    return 2 * jnp.where(near, q * q, 1) / jnp.where(near, q * q + 4, 1 + 4 * q * q)


@jit()
def geman_mcclure_loss(
    predictions: Predictions,
    targets: Targets = None,
    *,
    scale: ArrayLike = 1.0,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Geman-McClure loss: bounded by 2, outliers hardly pull.

        2 z / (z + 4)   with z = (e / scale)^2

    It is `general_robust_loss` with alpha = -2.

    Args:
        predictions: Any shape.
        targets: The shape of `predictions`, a scalar, or None for zeros.
        scale: The error around which outliers begin, in the unit of `targets`. NaN unless
            positive.
        where, weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per element, without unit.

    Reference:
        Geman and McClure, "Bayesian image analysis: an application to single photon emission
        tomography", 1985, in the normalisation of Barron, 2019.

    Example:
        >>> geman_mcclure_loss(jnp.array([0.0, 2.0, 1e30]))
        Array([0., 1., 2.], dtype=float32)
    """
    request = Request(where, weights, reduction)
    given = errors(predictions, targets, request, scale=Hyper(scale, positive))
    error, scale = given.arrays
    return given.reduced(_geman_mcclure(error, scale))


def _welsch_slopes(e: jax.Array, scale: jax.Array, lost: jax.Array) -> Slopes:
    kernel = gaussian_kernel(e, scale, lost)
    r = jnp.where(kernel == 0, 0, e) / scale
    slope = (r * (1 / scale)) * kernel
    return slope, -r * slope, slope


@closed_form(_welsch_slopes)
def _welsch(e: jax.Array, scale: jax.Array, lost: jax.Array) -> jax.Array:
    del lost  # felt in the tails of the slopes only
    r = e / scale
    return -jnp.expm1(-0.5 * r * r)


@jit()
def welsch_loss(
    predictions: Predictions,
    targets: Targets = None,
    *,
    scale: ArrayLike = 1.0,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Welsch (Leclerc) loss: bounded by 1, outliers do not pull at all.

        1 - exp(-z / 2)   with z = (e / scale)^2

    It is `general_robust_loss` with alpha = -inf.

    Args:
        predictions: Any shape.
        targets: The shape of `predictions`, a scalar, or None for zeros.
        scale: The error around which outliers begin, in the unit of `targets`. NaN unless
            positive.
        where, weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per element, without unit.

    Reference:
        Dennis and Welsch, "Techniques for nonlinear least squares and robust regression", 1978,
        https://doi.org/10.1080/03610917808812083, in the normalisation of Barron, 2019.

    Example:
        >>> welsch_loss(jnp.array([0.0, 1.0, 1e30]))
        Array([0.        , 0.39347, 1.        ], dtype=float32)
    """
    request = Request(where, weights, reduction)
    given = exact_errors(predictions, targets, request, scale=Hyper(scale, positive))
    error, lost, scale = given.arrays
    return given.reduced(_welsch(error, scale, lost))


def _tukey_parts(e: jax.Array, c: jax.Array, lost: jax.Array) -> tuple[jax.Array, ...]:
    """|e|, whether it lies inside c, |e| / c, and 1 - (e / c)^2 with every digit near c."""
    size = absolute(e)
    finite = jnp.where(c == jnp.inf, 1, c)
    inside = ~(size >= c) | (c == jnp.inf)
    held = jnp.where((c == jnp.inf) | ~inside, 0, size)
    gap = ((finite - held) - jnp.where(held == 0, 0, jnp.sign(e) * lost)) / finite
    return size, inside, held / finite, gap * ((finite + held) / finite)


def _tukey_slopes(e: jax.Array, c: jax.Array, lost: jax.Array) -> Slopes:
    size, inside, q, u = _tukey_parts(e, c, lost)
    slope = jnp.where(inside, e, 0) * u * u
    in_c = (jnp.where(q == 0, 0, size) * q) * q * q * (1 + 2 * u)
    return slope, jnp.where(inside, in_c, c) / 3, slope


@closed_form(_tukey_slopes)
def _tukey_of_error(e: jax.Array, c: jax.Array, lost: jax.Array) -> jax.Array:
    size, inside, _, u = _tukey_parts(e, c, lost)
    held = jnp.where(inside, size, c)
    return held * (held * jnp.where(inside, 1 + u + u * u, 1) / 6)


@apart
def _tukey(p: jax.Array, t: jax.Array, c: jax.Array) -> jax.Array:
    return _tukey_of_error(p - t, c, lost_in_difference(p, t))


@jit()
def tukey_biweight_loss(
    predictions: Predictions,
    targets: Targets = None,
    *,
    c: ArrayLike = 4.685,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Tukey's biweight loss: beyond c an outlier has no influence whatever.

        c^2 / 6 (1 - (1 - (e / c)^2)^3)   where |e| < c
        c^2 / 6                           elsewhere

    The gradient is e (1 - (e / c)^2)^2, exactly 0 from c on. With c = inf it is `l2_loss`.

    Args:
        predictions: Any shape.
        targets: The shape of `predictions`, a scalar, or None for zeros.
        c: Where the loss turns flat, in the unit of `targets`. 4.685 times the standard
            deviation has 95 % efficiency on Gaussian errors. NaN unless positive.
        where, weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per element, in the squared unit of `targets`.

    Reference:
        Beaton and Tukey, "The fitting of power series, meaning polynomials, illustrated on
        band-spectroscopic data", 1974, https://doi.org/10.2307/1267936.

    Example:
        >>> tukey_biweight_loss(jnp.array([0.0, 6.0, 600.0]), c=6.0)
        Array([0., 6., 6.], dtype=float32)
    """
    request = Request(where, weights, reduction)
    given = pairs(predictions, targets, request, c=Hyper(c, positive))
    return given.reduced(_tukey(*given.arrays))
