"""Errors relative to the target: in percent, and of logarithms."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from .._contract.jit import jit
from .._contract.prepared import Hyper, non_negative
from .._contract.reduce import Reduction, Request, Weights, Where
from .._numerics.kinks import Slopes, absolute, closed_form
from .._numerics.special import log_ratio
from .errors import Predictions, Targets, pairs


def _percentage_slopes(
    p: jax.Array, t: jax.Array, epsilon: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    size = absolute(t)
    large = size >= epsilon
    unit = jnp.where(large, size, epsilon)
    slope = jnp.sign(p - t) / unit
    # Of |p / t - 1| the derivative in t is one term; that of |p - t| / |t| two that cancel.
    in_target = slope * jnp.where(large, -p / jnp.where(large, t, 1), -1)
    return slope, in_target, jnp.where(large, 0, -(absolute(p - t) / unit) * (1 / unit))


def _percentage_curvatures(
    p: jax.Array, t: jax.Array, epsilon: jax.Array
) -> tuple[Slopes, Slopes, Slopes]:
    size = jnp.abs(t)
    large = size >= epsilon
    inverse = 1 / jnp.where(large, size, epsilon)
    mixed = jnp.sign(p - t) * inverse * inverse
    in_epsilon = jnp.where(large, 0, mixed)
    return (
        (jnp.zeros_like(p),),
        (jnp.where(large, -mixed * jnp.sign(t), 0), jnp.where(large, 2 * mixed * p * inverse, 0)),
        (-in_epsilon, in_epsilon, 2 * in_epsilon * (p - t) * inverse),
    )


@closed_form(_percentage_slopes, second=_percentage_curvatures)
def _percentage(p: jax.Array, t: jax.Array, epsilon: jax.Array) -> jax.Array:
    return jnp.abs(p - t) / jnp.maximum(jnp.abs(t), epsilon)


@jit()
def absolute_percentage_error(
    predictions: Predictions,
    targets: Targets = None,
    *,
    epsilon: ArrayLike = 1e-7,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Absolute error as a fraction of the target, whose mean is the MAPE.

        |e| / max(|targets|, epsilon)

    A fraction, not a percentage: Keras's value is 100 times this one. At e = 0 the gradient
    is 0; in targets, at |targets| = epsilon, it is that of |targets| > epsilon.

    Args:
        predictions: Any shape.
        targets: The shape of `predictions`, a scalar, or None for zeros.
        epsilon: The least target that is divided by, in the unit of `targets`. With 0 a
            target of 0 gives inf, and NaN for a prediction of 0. NaN below 0.
        where, weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per element, without unit.

    Reference:
        de Myttenaere et al., "Mean absolute percentage error for regression models", 2016,
        https://arxiv.org/abs/1605.02541.

    Example:
        >>> absolute_percentage_error(jnp.array([1.5, 9.0]), jnp.array([1.0, 10.0]))
        Array([0.5, 0.1], dtype=float32)
    """
    request = Request(where, weights, reduction)
    given = pairs(predictions, targets, request, epsilon=Hyper(epsilon, non_negative))
    predictions, targets, epsilon = given.arrays
    return given.reduced(_percentage(predictions, targets, epsilon), plain_sum=True)


def _squared_log_ratio_curvatures(p: jax.Array, t: jax.Array) -> tuple[Slopes, Slopes]:
    ratio, in_p, in_t = log_ratio(p, t), 1 / (1 + p), 1 / (1 + t)
    return (2 * in_p * ((1 - ratio) * in_p),), (-2 * in_p * in_t, 2 * in_t * ((1 + ratio) * in_t))


@closed_form(
    lambda p, t: (2 * log_ratio(p, t) / (1 + p), -2 * log_ratio(p, t) / (1 + t)),
    second=_squared_log_ratio_curvatures,
)
def _squared_log_ratio(p: jax.Array, t: jax.Array) -> jax.Array:
    return jnp.square(log_ratio(p, t))


@jit()
def squared_logarithmic_error(
    predictions: Predictions,
    targets: Targets = None,
    *,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Squared error of the logarithms, whose mean is the MSLE.

        (log(1 + predictions) - log(1 + targets))^2

    Args:
        predictions: Any shape, above -1; NaN below. (Keras reads what is below 0 as 0, which
            leaves a negative prediction without gradient.)
        targets: The shape of `predictions`, a scalar, or None for zeros; above -1.
        where, weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per element, without unit.

    Reference:
        Tofallis, "A better measure of relative prediction accuracy for model selection and
        model estimation", 2015, https://doi.org/10.1057/jors.2014.103.

    Example:
        >>> squared_logarithmic_error(jnp.array([jnp.e - 1, 0.0]), jnp.array([0.0, 0.0]))
        Array([1., 0.], dtype=float32)
    """
    request = Request(where, weights, reduction)
    given = pairs(predictions, targets, request)
    p, t = given.arrays
    return given.inside((p >= -1) & (t >= -1)).reduced(_squared_log_ratio(p, t))
