"""Losses of one class out of several that tolerate wrong labels.

In the formulas x are the logits, p their softmax along `axis`, u = -log p, y the labels and w the
class weights, as in `cross_entropy.py`.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from .._contract.inputs import Axis, ClassWeights
from .._contract.jit import jit
from .._contract.prepared import Hyper, in_unit_interval, non_negative
from .._contract.reduce import Reduction, Request, Weights, Where
from .._numerics.cross_entropy import cross_entropy, surprisal
from .._numerics.exact import exp_product
from .._numerics.kinks import closed_form
from .._numerics.softmax import surprisals
from .._numerics.special import expm1, polynomial
from .labels import Labels, Scores, either
from .targets import over_classes, targets

# (1 - exp(-t) (1 + t)) / t^2 = sum of (-1)^k (k + 1) / (k + 2)! t^k.
_GAP = [(-1) ** k * (k + 1) / math.factorial(k + 2) for k in range(19)]


def _box_cox_slopes(u: jax.Array, q: jax.Array) -> tuple[jax.Array, jax.Array]:
    # Bounded, because 0 * inf is NaN: the slope in u, exp(-q u), is 1 for q = 0.
    bounded = jnp.minimum(u, 1e30)
    t = q * bounded
    slope = exp_product(0, q, bounded)
    near, far = t < 1, jnp.where(t < 1, 1, q)
    # Bounded, so that its square is finite: a label of 0 times an infinite derivative is NaN.
    size = jnp.minimum(u, 1e19)
    series = size * size * polynomial(_GAP, jnp.where(near, t, 0))
    held = jnp.where(near | (slope == 0), 0, t)
    return slope, -jnp.where(near, series, (1 - slope * (1 + held)) * (1 / far) * (1 / far))


@closed_form(_box_cox_slopes)
def _box_cox(u: jax.Array, q: jax.Array) -> jax.Array:
    """(1 - exp(-q u)) / q, and u at q = 0."""
    # For small t the first terms of the series: the quotient is 0 / 0 at q = 0, and loses the
    # digits of a subnormal t.
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
) -> jax.Array:
    """Cross-entropy that tolerates wrong labels: bounded by 1/q.

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
    data, request = {"logits": logits, "labels": labels}, Request(where, weights, reduction)
    hyper = {"q": Hyper(q, in_unit_interval)}
    given = either(data, axis, request, class_weights, hyper=hyper)
    return given.reduced(over_classes(given, None, _box_cox, *given.hyper))


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
) -> jax.Array:
    """Cross-entropy in both directions: the reverse one tolerates wrong labels.

        alpha sum over c of w_c y_c u_c - beta r sum over c of p_c max(log y_c, log_zero)

    with p = softmax(x), u = -log p and r = sum over c of w_c y_c. Labels below exp(log_zero) have
    no gradient of the reverse part; a label equal to it has that of larger ones.

    Args:
        logits: x, of any shape.
        labels: Class numbers, integers of the shape of `logits` without `axis`; or y, of the
            shape of `logits`.
        alpha: The weight of cross-entropy; 0 or more, else NaN.
        beta: The weight of reverse cross-entropy; 0 or more, else NaN.
        log_zero: The least value of the logarithm of a label; negative, else NaN.
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
    data, request = {"logits": logits, "labels": labels}, Request(where, weights, reduction)
    hyper = {
        "alpha": Hyper(alpha, non_negative),
        "beta": Hyper(beta, non_negative),
        "log_zero": Hyper(log_zero, lambda x: x < 0),
    }
    given = either(data, axis, request, class_weights, hyper=hyper)
    forward, backward, least = given.hyper
    x, axes, y = given.scores, given.axes, targets(given)
    if y is None:
        u = surprisal(x, given.labels, axes)
        # log y is 0 at the right class and log_zero at the others, whose p sum to 1 - p_y.
        return given.reduced(given.weighted(forward * u + backward * least * expm1(-u)))
    least = jnp.expand_dims(least, axes)
    large = given.labels >= jnp.exp(least)
    logarithm = jnp.where(large, jnp.log(jnp.where(large, given.labels, 1)), least)
    reverse = given.mass() * jnp.sum(jnp.exp(-surprisals(x, axes)) * logarithm, axes)
    return given.reduced(forward * cross_entropy(x, y, axes) - backward * reverse)
