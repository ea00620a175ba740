"""Losses of the margin by which a score takes the right side of 0, element by element.

In the formulas x are the scores, s is 1 where the target is above 0 and -1 elsewhere, so that
targets of {-1, 1}, {0, 1} and booleans all mean the same. Losses are flat in the targets.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Float, Real

from .._contract.jit import jit
from .._contract.reduce import Reduction, Request, Weights, Where
from .._numerics.kinks import closed_form, hinge, sign, step
from .._numerics.special import sigmoid, softplus
from .labels import scores_and_targets

Scores = Float[ArrayLike, "*batch"] | Sequence[Any]
Targets = Real[ArrayLike, "*batch"] | Sequence[Any]


def _of_miss(
    slope: Callable[[jax.Array], jax.Array],
) -> Callable[[Callable[[jax.Array], jax.Array]], Callable[[jax.Array, jax.Array], jax.Array]]:
    """Turn a function of -s x into one of scores and targets, flat in the targets.

    Args:
        slope: The derivative of the function.
    """

    def decorate(loss: Callable[[jax.Array], jax.Array]) -> Callable[..., jax.Array]:
        def slopes(x: jax.Array, t: jax.Array) -> tuple[jax.Array, jax.Array]:
            miss = -sign(t)
            return miss * slope(miss * x), jnp.zeros_like(t)

        return closed_form(slopes)(lambda x, t: loss(-sign(t) * x))

    return decorate


@_of_miss(lambda z: step(1 + z))
def _hinge(z: jax.Array) -> jax.Array:
    return jnp.maximum(1 + z, 0)


@jit()
def hinge_loss(
    predictor_outputs: Scores,
    targets: Targets,
    *,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Hinge loss: a score is to be beyond 1 on its side.

        max(0, 1 - s x)

    At s x = 1 the gradient is -s, that of the active side: a tie still trains.

    Args:
        predictor_outputs: x, of any shape.
        targets: The shape of `predictor_outputs`, or a scalar: positive above 0, else negative.
        where, weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per element.

    Reference:
        Cortes and Vapnik, "Support-vector networks", 1995, https://doi.org/10.1007/BF00994018.

    Example:
        >>> hinge_loss(jnp.array([0.5, 0.5, 3.0]), jnp.array([1, -1, 1]))
        Array([0.5, 1.5, 0. ], dtype=float32)
    """
    request = Request(where, weights, reduction)
    data = {"predictor_outputs": predictor_outputs, "targets": targets}
    given = scores_and_targets(data, request, "multiclass_hinge_loss")
    return given.reduced(_hinge(*given.data))


@_of_miss(lambda z: 2 * hinge(1 + z))
def _squared_hinge(z: jax.Array) -> jax.Array:
    return jnp.square(jnp.maximum(1 + z, 0))


@jit()
def squared_hinge_loss(
    predictor_outputs: Scores,
    targets: Targets,
    *,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Squared hinge loss: a score far on the wrong side pulls harder.

        max(0, 1 - s x)^2

    The second derivative at s x = 1 is that of the active side, 2.

    Args:
        predictor_outputs: x, of any shape.
        targets: The shape of `predictor_outputs`, or a scalar: positive above 0, else negative.
        where, weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per element.

    Reference:
        Chang, Hsieh and Lin, "Coordinate descent method for large-scale L2-loss linear support
        vector machines", 2008, https://www.jmlr.org/papers/v9/chang08a.html.

    Example:
        >>> squared_hinge_loss(jnp.array([0.5, 0.5, 3.0]), jnp.array([1, -1, 1]))
        Array([0.25, 2.25, 0.  ], dtype=float32)
    """
    request = Request(where, weights, reduction)
    data = {"predictor_outputs": predictor_outputs, "targets": targets}
    given = scores_and_targets(data, request, "multi_margin_loss(p=2)")
    return given.reduced(_squared_hinge(*given.data))


@_of_miss(step)
def _perceptron(z: jax.Array) -> jax.Array:
    return jnp.maximum(z, 0)


@jit()
def perceptron_loss(
    predictor_outputs: Scores,
    targets: Targets,
    *,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Perceptron loss: a score is to be on its side, however narrowly.

        max(0, -s x)

    At x = 0 the gradient is -s, that of the active side: a score of 0 still trains.

    Args:
        predictor_outputs: x, of any shape.
        targets: The shape of `predictor_outputs`, or a scalar: positive above 0, else negative.
        where, weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per element.

    Reference:
        Rosenblatt, "The perceptron: a probabilistic model for information storage and
        organization in the brain", 1958, https://doi.org/10.1037/h0042519.

    Example:
        >>> perceptron_loss(jnp.array([0.5, 0.5, 3.0]), jnp.array([1, -1, 1]))
        Array([0. , 0.5, 0. ], dtype=float32)
    """
    request = Request(where, weights, reduction)
    data = {"predictor_outputs": predictor_outputs, "targets": targets}
    given = scores_and_targets(data, request, "multiclass_perceptron_loss")
    return given.reduced(_perceptron(*given.data))


_softplus = _of_miss(sigmoid)(softplus)


@jit()
def soft_margin_loss(
    predictor_outputs: Scores,
    targets: Targets,
    *,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Soft margin (logistic) loss: a hinge without a corner.

        log(1 + exp(-s x))

    It is `sigmoid_binary_cross_entropy` for targets of either sign.

    Args:
        predictor_outputs: x, of any shape.
        targets: The shape of `predictor_outputs`, or a scalar: positive above 0, else negative.
        where, weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per element.

    Reference:
        Friedman, Hastie and Tibshirani, "Additive logistic regression: a statistical view of
        boosting", 2000, https://doi.org/10.1214/aos/1016218223.

    Example:
        >>> soft_margin_loss(jnp.array([0.0, 2.0, 100.0]), jnp.array([1, -1, -1]))
        Array([  0.6931472,   2.126928 , 100.       ], dtype=float32)
    """
    request = Request(where, weights, reduction)
    data = {"predictor_outputs": predictor_outputs, "targets": targets}
    given = scores_and_targets(data, request)
    return given.reduced(_softplus(*given.data))


@_of_miss(lambda z: jnp.where(z >= 1, 1, jnp.where(z <= -1, 0, 0.5 * (z + 1))))
def _sparse_plus(z: jax.Array) -> jax.Array:
    held = jnp.clip(z, -1, 1) + 1
    return jnp.where(z >= 1, z, 0.25 * held * held)


@jit()
def sparsemax_loss(
    logits: Scores,
    labels: Targets,
    *,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Binary sparsemax loss: a hinge whose corner is rounded off by a parabola.

        0             where s x >= 1
        (1 - s x)^2/4 between
        -s x          where s x <= -1

    The second derivative is 1/2 from -1 to 1, without the ends, and 0 elsewhere. It is half the
    `huber_loss` of 1 - s x with delta = 2, where that is positive.

    Args:
        logits: x, of any shape.
        labels: The shape of `logits`, or a scalar: positive above 0, else negative.
        where, weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per element.

    Reference:
        Blondel, Martins and Niculae, "Learning with Fenchel-Young losses", 2020, section 4.4,
        https://www.jmlr.org/papers/v21/19-021.html.

    Example:
        >>> sparsemax_loss(jnp.array([0.0, 2.0, 2.0]), jnp.array([1, 1, 0]))
        Array([0.25, 0.  , 2.  ], dtype=float32)
    """
    request = Request(where, weights, reduction)
    data = {"logits": logits, "labels": labels}
    given = scores_and_targets(data, request, "multiclass_sparsemax_loss")
    return given.reduced(_sparse_plus(*given.data))
