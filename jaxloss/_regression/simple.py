"""Losses of a real prediction against a real target, element by element.

In the formulas e = predictions - targets. Like optax, `targets=None` stands for zeros.
Integer and boolean targets are read as numbers.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from .._contract.jit import jit
from .._contract.prepared import Hyper, non_negative
from .._contract.reduce import Reduction, Request, Weights, Where
from .._numerics.kinks import Slopes, absolute, closed_form, square
from .._numerics.special import small_log1p, tanh
from .errors import Predictions, Targets, errors, exact_errors


@jit()
def l1_loss(
    predictions: Predictions,
    targets: Targets = None,
    *,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """L1 loss, the absolute error: every wrong prediction pulls equally hard.

        |e|

    The gradient is sign(e). At e = 0 it is 0, the subgradient of least norm, in predictions
    and in targets: a prediction that is exact stays where it is. The second derivative is 0.

    Args:
        predictions: Any shape.
        targets: The shape of `predictions`, a scalar, or None for zeros.
        where, weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per element, in the unit of `targets`.

    Reference:
        Boscovich, "De litteraria expeditione", 1757; Laplace, "Sur quelques points du système
        du monde", 1789.

    Example:
        >>> l1_loss(jnp.array([1.0, 2.0, 5.0]), jnp.array([1.0, 4.0, 4.0]))
        Array([0., 2., 1.], dtype=float32)
    """
    request = Request(where, weights, reduction)
    given = errors(predictions, targets, request)
    (error,) = given.arrays
    return given.reduced(absolute(error), plain_sum=True)


@jit()
def squared_error(
    predictions: Predictions,
    targets: Targets = None,
    *,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Squared error, whose mean is the MSE.

        e^2

    Args:
        predictions: Any shape.
        targets: The shape of `predictions`, a scalar, or None for zeros.
        where, weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per element, in the squared unit of `targets`.

    Reference:
        Legendre, "Nouvelles méthodes pour la détermination des orbites des comètes", 1805.

    Example:
        >>> squared_error(jnp.array([1.0, 2.0, 5.0]), jnp.array([1.0, 4.0, 4.0]))
        Array([0., 4., 1.], dtype=float32)
    """
    request = Request(where, weights, reduction)
    given = errors(predictions, targets, request)
    (error,) = given.arrays
    return given.reduced(square(error), plain_sum=True)


@jit()
def l2_loss(
    predictions: Predictions,
    targets: Targets = None,
    *,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """L2 loss: half the squared error, so that its gradient is the error.

        e^2 / 2

    The factor 1/2 is optax's; PyTorch's `mse_loss` is `squared_error` here.

    Args:
        predictions: Any shape.
        targets: The shape of `predictions`, a scalar, or None for zeros.
        where, weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per element, in the squared unit of `targets`.

    Reference:
        Bishop, "Pattern Recognition and Machine Learning", 2006, eq. 1.2.

    Example:
        >>> l2_loss(jnp.array([1.0, 2.0, 5.0]), jnp.array([1.0, 4.0, 4.0]))
        Array([0. , 2. , 0.5], dtype=float32)
    """
    request = Request(where, weights, reduction)
    given = errors(predictions, targets, request)
    (error,) = given.arrays
    return given.reduced(0.5 * square(error), plain_sum=True)


def _within(e: jax.Array, bound: jax.Array, lost: jax.Array) -> jax.Array:
    """Whether |e + lost| < bound."""
    return (jnp.abs(e) - bound) + jnp.sign(e) * lost < 0


def _smooth_l1_slopes(e: jax.Array, beta: jax.Array, lost: jax.Array) -> Slopes:
    # Divided in the square part only: beta = 0 has none.
    del lost  # felt in the second derivatives only
    square = absolute(e) < beta
    ratio = e / jnp.where(square, beta, 1)
    slope = jnp.where(square, ratio, jnp.sign(e))
    return slope, jnp.where(square, -0.5 * ratio * ratio, -0.5), slope


def _smooth_l1_curvatures(e: jax.Array, beta: jax.Array, lost: jax.Array) -> tuple[Slopes, Slopes]:
    square = _within(e, beta, lost)
    inverse = jnp.where(square, 1 / jnp.where(square, beta, 1), 0)
    ratio = e * inverse
    return (inverse,), (-ratio * inverse, ratio * ratio * inverse)


@closed_form(_smooth_l1_slopes, second=_smooth_l1_curvatures)
def _smooth_l1(e: jax.Array, beta: jax.Array, lost: jax.Array) -> jax.Array:
    del lost
    size = absolute(e)
    square = size < beta
    # e / beta first: e^2 may overflow or vanish where the loss does not.
    return jnp.where(square, 0.5 * e * (e / jnp.where(square, beta, 1)), size - 0.5 * beta)


@jit()
def smooth_l1_loss(
    predictions: Predictions,
    targets: Targets = None,
    *,
    beta: ArrayLike = 1.0,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Smooth L1 loss: L1 with its corner rounded off within beta of the target.

        e^2 / (2 beta)   where |e| < beta
        |e| - beta / 2   elsewhere

    The gradient is e / beta, then sign(e): continuous, at most 1 in size. It is
    `huber_loss(delta=beta) / beta`. With beta = 0 it is exactly `l1_loss`, and its gradient at
    e = 0 is 0. The second derivative at |e| = beta is that of the line, 0.

    Args:
        predictions: Any shape.
        targets: The shape of `predictions`, a scalar, or None for zeros.
        beta: Where the square turns into a line, in the unit of `targets`. NaN below 0.
        where, weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per element, in the unit of `targets`.

    Reference:
        Girshick, "Fast R-CNN", 2015, eq. 3, https://arxiv.org/abs/1504.08083.

    Example:
        >>> smooth_l1_loss(jnp.array([1.0, 2.0, 5.0]), jnp.array([1.5, 4.0, 4.0]))
        Array([0.125, 1.5  , 0.5  ], dtype=float32)
    """
    request = Request(where, weights, reduction)
    given = exact_errors(predictions, targets, request, beta=Hyper(beta, non_negative))
    error, lost, beta = given.arrays
    return given.reduced(_smooth_l1(error, beta, lost))


def _huber_slopes(e: jax.Array, delta: jax.Array, lost: jax.Array) -> Slopes:
    size, sign = absolute(e), jnp.sign(e)
    square = (size < delta) | (delta == jnp.inf)
    slope = jnp.where(square, e, delta * sign)
    # What e lost in rounding is all that is left where |e| is next to delta.
    beyond = (size - delta) + sign * lost
    return slope, jnp.where(square | (beyond < 0), 0, beyond), slope


def _huber_curvatures(e: jax.Array, delta: jax.Array, lost: jax.Array) -> tuple[Slopes, Slopes]:
    square = _within(e, delta, lost) | (delta == jnp.inf)
    mixed = jnp.where(square, 0, jnp.sign(e))
    return (square.astype(e.dtype),), (mixed, -mixed * mixed)


@closed_form(_huber_slopes, second=_huber_curvatures)
def _huber(e: jax.Array, delta: jax.Array, lost: jax.Array) -> jax.Array:
    del lost  # felt in the slopes only
    size = absolute(e)
    square = (size < delta) | (delta == jnp.inf)
    return jnp.where(square, 0.5 * e * e, delta * (size - 0.5 * delta))


@jit()
def huber_loss(
    predictions: Predictions,
    targets: Targets = None,
    *,
    delta: ArrayLike = 1.0,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Huber loss: L2 for small errors, a line for large ones.

        e^2 / 2                  where |e| < delta
        delta (|e| - delta / 2)  elsewhere

    The gradient is e, held between -delta and delta: continuous. With delta = inf it is
    exactly `l2_loss`, with delta = 0 it is 0. The second derivative at |e| = delta is that of
    the line, 0.

    Args:
        predictions: Any shape.
        targets: The shape of `predictions`, a scalar, or None for zeros.
        delta: Where the square turns into a line, in the unit of `targets`. NaN below 0.
        where, weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per element, in the squared unit of `targets`.

    Reference:
        Huber, "Robust estimation of a location parameter", 1964,
        https://doi.org/10.1214/aoms/1177703732.

    Example:
        >>> huber_loss(jnp.array([1.0, 2.0, 5.0]), jnp.array([1.5, 4.0, 4.0]), delta=0.5)
        Array([0.125, 0.875, 0.375], dtype=float32)
    """
    request = Request(where, weights, reduction)
    given = exact_errors(predictions, targets, request, delta=Hyper(delta, non_negative))
    error, lost, delta = given.arrays
    return given.reduced(_huber(error, delta, lost))


@closed_form(lambda e: (tanh(e),))
def _log_cosh(e: jax.Array) -> jax.Array:
    # Near 0 log cosh e = -log(1 - tanh(e)^2) / 2 keeps every digit; far out it would lose the
    # last of 1 - tanh(e)^2, where |e| - log 2 + log(1 + exp(-2 |e|)) loses none. One logarithm
    # serves both, at -0.41 to 0.23.
    size = jnp.abs(e)
    near = size < 0.75
    tangent = jnp.tanh(e)
    logarithm = small_log1p(jnp.where(near, -tangent * tangent, jnp.exp(-2 * size)))
    return jnp.where(near, -0.5 * logarithm, size - math.log(2) + logarithm)


@jit()
def log_cosh(
    predictions: Predictions,
    targets: Targets = None,
    *,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Log-cosh loss: e^2 / 2 for small errors, |e| - log 2 for large ones, smooth between.

        log(cosh(e))

    The gradient is tanh(e).

    Args:
        predictions: Any shape.
        targets: The shape of `predictions`, a scalar, or None for zeros.
        where, weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per element.

    Reference:
        Chen et al., "Log hyperbolic cosine loss improves variational auto-encoder", 2019,
        https://openreview.net/forum?id=rkglvsC9Ym.

    Example:
        >>> log_cosh(jnp.array([0.0, 1e-4, 1e4]))
        Array([0.00, 5.00e-09, 9.9993066e+03], dtype=float32)
    """
    request = Request(where, weights, reduction)
    given = errors(predictions, targets, request)
    (error,) = given.arrays
    return given.reduced(_log_cosh(error))
