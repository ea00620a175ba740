"""Losses of one class out of several that bear wrong labels.

The notation is that of `_multiclass`: x are the logits, p their softmax along `axis`, u = -log p,
y the labels, w the class weights.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from .._contract import inputs
from .._contract.inputs import Axis, ClassWeights
from .._contract.jit import jit
from .._contract.reduce import Losses, Reduction, Weights, Where
from .._numerics.exact import exp_product
from .._numerics.kinks import closed_form
from .._numerics.softmax import cross_entropy, surprisal, surprisals
from .._numerics.special import polynomial
from .labels import Labels, Scores, either, over_classes, targets

# (1 - exp(-t) (1 + t)) / t^2 = sum of (-1)^k (k + 1) / (k + 2)! t^k.
_GAP = [(-1) ** k * (k + 1) / math.factorial(k + 2) for k in range(19)]


def _box_cox_slopes(u: jax.Array, q: jax.Array) -> tuple[jax.Array, jax.Array]:
    # At u = inf p is 0, but for q = 0.
    bounded = jnp.minimum(u, 1e30)
    t = q * bounded
    p = exp_product(0, q, bounded)
    near, far = t < 1, jnp.where(t < 1, 1, q)
    # A derivative that is no number would survive a label of 0.
    size = jnp.minimum(u, 1e19)
    series = size * size * polynomial(_GAP, jnp.where(near, t, 0))
    held = jnp.where(near | (p == 0), 0, t)
    return p, -jnp.where(near, series, (1 - p * (1 + held)) * (1 / far) * (1 / far))


@closed_form(_box_cox_slopes)
def _box_cox(u: jax.Array, q: jax.Array) -> jax.Array:
    """(1 - exp(-q u)) / q, and u at q = 0."""
    # For small t its product with u, or the quotient would be 0 / 0 or lose subnormal numbers.
    t = q * jnp.minimum(u, 1e30)
    small = t < 1e-4
    divisor = jnp.where(small, 1, q)
    return jnp.where(small, u * (1 - t * (0.5 - t / 6)), -jnp.expm1(-t) * (1 / divisor))


@jit("axis")
def generalized_cross_entropy(
    logits: Scores,
    labels: Labels,
    *,
    q: ArrayLike = 0.7,
    axis: Axis = -1,
    class_weights: ClassWeights = None,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> Losses:
    """Cross-entropy that bears wrong labels: bounded by 1/q.

        sum over c of w_c y_c (1 - p_c^q) / q

    Args:
        logits: x, of any shape.
        labels: Class numbers, integers of the shape of `logits` without `axis`; or y, of the
            shape of `logits`.
        q: From 0, cross-entropy, to 1, the mean absolute error of p; else NaN.
        axis: The axis of the classes, or several, or None for all.
        class_weights: See `softmax_cross_entropy`.
        where, weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per example: the shape of `logits` without `axis`.

    Reference:
        Zhang and Sabuncu, "Generalized cross entropy loss for training deep neural networks with
        noisy labels", 2018, eq. 6, https://arxiv.org/abs/1805.07836.

    Example:
        >>> generalized_cross_entropy(jnp.array([[2.0, 0.0, 1.0]]), jnp.array([0]))
        Array([0.35461], dtype=float32)
    """
    classes = either({"logits": logits, "labels": labels}, axis, where, class_weights)
    q = classes.option("q", q)
    classes, losses = over_classes(classes, 0.0, _box_cox, q)
    losses = inputs.nan_outside(losses, (q >= 0) & (q <= 1))
    return classes.reduced(losses, weights, reduction)


@jit("axis")
def symmetric_cross_entropy(
    logits: Scores,
    labels: Labels,
    *,
    alpha: ArrayLike = 0.1,
    beta: ArrayLike = 1.0,
    log_zero: ArrayLike = -4.0,
    axis: Axis = -1,
    class_weights: ClassWeights = None,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> Losses:
    """Cross-entropy in both directions: the reverse one bears wrong labels.

        alpha sum over c of w_c y_c u_c - beta r sum over c of p_c max(log y_c, log_zero)

    with p = softmax(x), u = -log p and r = sum over c of w_c y_c. Labels below exp(log_zero) have
    no gradient of the reverse part; at it that of larger ones.

    Args:
        logits: x, of any shape.
        labels: Class numbers, integers of the shape of `logits` without `axis`; or y, of the
            shape of `logits`.
        alpha: The weight of cross-entropy; 0 or more, else NaN.
        beta: The weight of reverse cross-entropy; 0 or more, else NaN.
        log_zero: What the logarithm of a label is not read below; negative, else NaN.
        axis: The axis of the classes, or several, or None for all.
        class_weights: See `softmax_cross_entropy`.
        where, weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per example: the shape of `logits` without `axis`.

    Reference:
        Wang et al., "Symmetric cross entropy for robust learning with noisy labels", 2019, eq. 7,
        https://arxiv.org/abs/1908.06112.

    Example:
        >>> symmetric_cross_entropy(jnp.array([[2.0, 0.0, 1.0]]), jnp.array([0]))
        Array([1.37979], dtype=float32)
    """
    classes = either({"logits": logits, "labels": labels}, axis, where, class_weights)
    names = {"alpha": alpha, "beta": beta, "log_zero": log_zero}
    alpha, beta, log_zero = (classes.option(name, value) for name, value in names.items())
    classes, soft = targets(classes)
    axes = classes.axes
    if soft is None:
        u = surprisal(classes.scores, classes.labels, axes)
        # Of the label's own class log y is 0: the reverse part is that of all others.
        losses = classes.weighted(alpha * u + beta * log_zero * jnp.expm1(-u))
    else:
        y, least = classes.labels, jnp.expand_dims(log_zero, axes)
        large = y >= jnp.exp(least)
        logarithm = jnp.where(large, jnp.log(jnp.where(large, y, 1)), least)
        reverse = classes.mass() * jnp.sum(
            jnp.exp(-surprisals(classes.scores, axes)) * logarithm, axes
        )
        losses = alpha * cross_entropy(classes.scores, soft, axes) - beta * reverse
    losses = inputs.nan_outside(losses, (alpha >= 0) & (beta >= 0) & (log_zero < 0))
    return classes.reduced(losses, weights, reduction)
