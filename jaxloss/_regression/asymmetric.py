"""Regression losses with a slope of one's choice or a dead zone: quantiles, expectiles, tubes.

In the formulas e = predictions - targets.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from .._contract import inputs
from .._contract.jit import jit
from .._contract.prepared import Hyper, in_unit_interval, non_negative
from .._contract.reduce import Reduction, Request, Weights, Where
from .._numerics.kinks import absolute, closed_form, hinge, square
from .errors import Predictions, Targets, errors


def _of_each(predictions: Any, targets: Any, levels: ArrayLike) -> Any:
    """Targets as they are, or repeated along the axis of the levels if they lack it."""
    if targets is None:
        return None
    p, t = inputs.floating("predictions", predictions), inputs.real("targets", targets)
    outer, last = p.shape[:-1], jnp.shape(levels)[-1:]
    if t.ndim and last and last == p.shape[-1:] and t.shape in (outer, (*outer, 1)):
        return jnp.broadcast_to(t.reshape(*outer, 1), p.shape)
    return targets


def _quantile_slopes(e: jax.Array, quantile: jax.Array) -> tuple[jax.Array, jax.Array]:
    return jnp.where(e > 0, 1 - quantile, -quantile) * jnp.abs(jnp.sign(e)), -e


@closed_form(_quantile_slopes)
def _pinball(e: jax.Array, quantile: jax.Array) -> jax.Array:
    return jnp.where(e > 0, 1 - quantile, -quantile) * e


@jit()
def quantile_loss(
    predictions: Predictions,
    targets: Targets = None,
    *,
    quantile: ArrayLike,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Quantile (pinball) loss, which the given quantile of the targets minimises.

        max(q d, (q - 1) d)   with d = targets - predictions

    At d = 0 the gradient is 0, the subgradient of least norm.

    Args:
        predictions: Any shape. For Q quantiles at once `[..., Q]`.
        targets: The shape of `predictions`, a scalar, or None for zeros. For Q quantiles of one
            target `[...]` or `[..., 1]` will do.
        quantile: q, from 0 to 1 and NaN outside. An array broadcasts against the data: `[Q]`
            gives each of the last axis its own.
        where, weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per element, in the unit of `targets`.

    Reference:
        Koenker and Bassett, "Regression quantiles", 1978, https://doi.org/10.2307/1913643.

    Example:
        >>> quantile_loss(jnp.array([1.0, 3.0]), jnp.array([2.0, 2.0]), quantile=0.9)
        Array([0.9       , 0.1], dtype=float32)
    """
    request = Request(where, weights, reduction)
    targets = _of_each(predictions, targets, quantile)
    given = errors(predictions, targets, request, quantile=Hyper(quantile, in_unit_interval))
    error, quantile = given.arrays
    return given.reduced(_pinball(error, quantile))


def _expectile_slopes(e: jax.Array, expectile: jax.Array) -> tuple[jax.Array, jax.Array]:
    square = e * e
    return 2 * jnp.where(e > 0, 1 - expectile, expectile) * e, jnp.where(e > 0, -square, square)


@closed_form(_expectile_slopes)
def _expectile(e: jax.Array, expectile: jax.Array) -> jax.Array:
    return jnp.where(e > 0, 1 - expectile, expectile) * e * e


@jit()
def expectile_loss(
    predictions: Predictions,
    targets: Targets = None,
    *,
    expectile: ArrayLike,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Expectile loss, which the given expectile of the targets minimises.

        |q - [d < 0]| d^2   with d = targets - predictions

    With q = 1/2 it is `l2_loss`. The second derivative at d = 0 is that of d > 0, 2 q.

    Args:
        predictions: Any shape. For Q expectiles at once `[..., Q]`.
        targets: The shape of `predictions`, a scalar, or None for zeros. For Q expectiles of one
            target `[...]` or `[..., 1]` will do.
        expectile: q, from 0 to 1 and NaN outside. An array broadcasts against the data.
        where, weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per element, in the squared unit of `targets`.

    Reference:
        Newey and Powell, "Asymmetric least squares estimation and testing", 1987,
        https://doi.org/10.2307/1911031.

    Example:
        >>> expectile_loss(jnp.array([1.0, 3.0]), jnp.array([2.0, 2.0]), expectile=0.9)
        Array([0.9       , 0.1], dtype=float32)
    """
    request = Request(where, weights, reduction)
    targets = _of_each(predictions, targets, expectile)
    given = errors(predictions, targets, request, expectile=Hyper(expectile, in_unit_interval))
    error, expectile = given.arrays
    return given.reduced(_expectile(error, expectile))


@jit()
def epsilon_insensitive_loss(
    predictions: Predictions,
    targets: Targets = None,
    *,
    epsilon: ArrayLike = 0.1,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Epsilon-insensitive loss of support vector regression.

        max(0, |e| - epsilon)

    At |e| = epsilon > 0 the gradient is that of the active side, sign(e). With epsilon = 0 it
    is `l1_loss`, and its gradient at e = 0 is 0.

    Args:
        predictions: Any shape.
        targets: The shape of `predictions`, a scalar, or None for zeros.
        epsilon: The error that costs nothing, in the unit of `targets`. NaN below 0.
        where, weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per element, in the unit of `targets`.

    Reference:
        Vapnik, "The Nature of Statistical Learning Theory", 1995, section 6.1.

    Example:
        >>> epsilon_insensitive_loss(jnp.array([0.0, 1.0, -3.0]), epsilon=0.5)
        Array([0. , 0.5, 2.5], dtype=float32)
    """
    request = Request(where, weights, reduction)
    given = errors(predictions, targets, request, epsilon=Hyper(epsilon, non_negative))
    error, epsilon = given.arrays
    return given.reduced(hinge(absolute(error) - epsilon))


@closed_form(
    lambda e, epsilon: (
        jnp.where(absolute(e) < epsilon, 0, jnp.ones_like(e)),
        jnp.where(absolute(e) < epsilon, 0, -jnp.sign(e)),
    )
)
def _excess(e: jax.Array, epsilon: jax.Array) -> jax.Array:
    """What of e lies outside [-epsilon, epsilon], signed."""
    return jnp.where(jnp.abs(e) < epsilon, 0, e - epsilon * jnp.sign(e))


@jit()
def squared_epsilon_insensitive_loss(
    predictions: Predictions,
    targets: Targets = None,
    *,
    epsilon: ArrayLike = 0.1,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Squared epsilon-insensitive loss of support vector regression.

        max(0, |e| - epsilon)^2

    The gradient is continuous. The second derivative at |e| = epsilon > 0 is that of the
    active side, 2. With epsilon = 0 it is `squared_error`.

    Args:
        predictions: Any shape.
        targets: The shape of `predictions`, a scalar, or None for zeros.
        epsilon: The error that costs nothing, in the unit of `targets`. NaN below 0.
        where, weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per element, in the squared unit of `targets`.

    Reference:
        Lee, Hsieh and Huang, "epsilon-SSVR: a smooth support vector machine for
        epsilon-insensitive regression", 2005, https://doi.org/10.1109/TKDE.2005.77.

    Example:
        >>> squared_epsilon_insensitive_loss(jnp.array([0.0, 1.0, -3.0]), epsilon=0.5)
        Array([0.  , 0.25, 6.25], dtype=float32)
    """
    request = Request(where, weights, reduction)
    given = errors(predictions, targets, request, epsilon=Hyper(epsilon, non_negative))
    error, epsilon = given.arrays
    return given.reduced(square(_excess(error, epsilon)))
