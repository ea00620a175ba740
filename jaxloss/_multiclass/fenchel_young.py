"""Fenchel-Young losses: a convex function of the scores less what the targets have of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Float, Real

from .._contract import inputs
from .._contract.inputs import Axis, ClassWeights
from .._contract.jit import jit
from .._contract.reduce import Losses, Reduction, Weights, Where, reduced
from .._numerics.exact import lost_in_difference
from .._numerics.kinks import closed_form
from .labels import Axes, Classes, ClassNumbers, Scores, number_of, scored


def _above(s: jax.Array, top: jax.Array, high: jax.Array, low: jax.Array) -> jax.Array:
    """s - (top + high + low), to its last bits where it is small too."""
    return ((s - top) - high) + (lost_in_difference(s, top) - low)


def _threshold(s: jax.Array, axes: Axes) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The number whose excesses, max(s - number, 0), sum to 1: as arguments of `_above`.

    By Newton's method. The sum is convex and made of lines, so that steps from below never pass
    the number and are there after few, where sorting takes many passes.
    """
    top = jnp.max(s, axes, keepdims=True)
    gap = s - top

    def approach(state: Any) -> Any:
        high, count, _ = state
        above = gap - high
        fewer = number_of(above > 0, axes)
        excess = jnp.sum(jnp.where(above > 0, above, 0), axes, keepdims=True) - 1
        step = excess / jnp.maximum(fewer, 1).astype(s.dtype)
        return jnp.where(step > 0, high + step, high), fewer, count

    everything = jnp.full(top.shape, math.prod(s.shape[i] for i in axes) + 1, jnp.int32)
    start = (jnp.full_like(top, -1), everything, everything + 1)
    high, *_ = jax.lax.while_loop(lambda state: jnp.any(state[1] < state[2]), approach, start)

    # Multiples of 1 / grid that sum to 1 are summed without rounding.
    grid = 2.0**52 if s.dtype == jnp.float64 else 2.0**23
    coarse = jnp.round(gap * grid) / grid
    fine = (gap - coarse) + lost_in_difference(s, top)
    high, low = jnp.round(high * grid) / grid, jnp.zeros_like(top)
    # Twice, lest the first step changes which classes are above.
    for _ in range(2):
        above = _above(s, top, high, low) > 0
        excess = jnp.sum(jnp.where(above, coarse - high, 0), axes, keepdims=True) - 1
        excess += jnp.sum(jnp.where(above, fine - low, 0), axes, keepdims=True)
        low += excess / jnp.maximum(number_of(above, axes), 1).astype(s.dtype)
    return top, high, low


def _sparsemax(classes: Classes) -> jax.Array:
    axes = classes.axes

    def probabilities(s: jax.Array, hit: jax.Array, *threshold: jax.Array) -> tuple[jax.Array, ...]:
        """p; the sum of those of the wrong classes; s less the threshold."""
        above = _above(s, *threshold)
        p = jnp.where(above <= 0, 0, above)
        return p, jnp.sum(jnp.where(hit, 0, p), axes, keepdims=True), above

    @jax.custom_jvp
    def slope(s: jax.Array, hit: jax.Array, *threshold: jax.Array) -> jax.Array:
        p, wrong, _ = probabilities(s, hit, *threshold)
        # At the right class p - 1, without the difference.
        return jnp.where(hit, -wrong, p)

    @slope.defjvp
    def _(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
        s, _, *threshold = primals
        support = _above(s, *threshold) > 0
        turned = jnp.where(support, tangents[0], 0)
        count = jnp.maximum(number_of(support, axes), 1).astype(s.dtype)
        mean = jnp.sum(turned, axes, keepdims=True) / count
        return slope(*primals), jnp.where(support, turned - mean, 0)

    @closed_form(lambda *args: (slope(*args), 0, 0, 0, 0), axes)
    def loss(s: jax.Array, hit: jax.Array, *threshold: jax.Array) -> jax.Array:
        p, wrong, above = probabilities(s, hit, *threshold)
        squares = jnp.sum(jnp.where(hit, 0, p * p), axes)
        below = jnp.sum(jnp.where(hit & (above < 0), -above, 0), axes)
        return (jnp.squeeze(wrong, axes) ** 2 + squares) / 2 + below

    # The threshold moves with the scores, but at it that does not change the loss; how it changes
    # the slopes, they say themselves.
    s = classes.scores
    return classes.weighted(loss(s, classes.labels, *_threshold(jax.lax.stop_gradient(s), axes)))


@jit("axis")
def multiclass_sparsemax_loss(
    scores: Scores,
    labels: ClassNumbers,
    *,
    axis: Axis = -1,
    class_weights: ClassWeights = None,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> Losses:
    """What cross-entropy is to the softmax, for the sparsemax.

        w_y (((1 - p_y)^2 + sum over j != y of p_j^2) / 2 + max(0, tau - s_y))

    with the sparsemax p_j = max(0, s_j - tau) of the scores, the distribution nearest to them,
    whose tau makes it sum to 1. The gradient is p less the one-hot labels; the loss is 0 where the
    right class stands 1 or more above all others. The second derivative jumps where s_j = tau, and
    there is that of p_j = 0.

    Args:
        scores: s, of any shape.
        labels: y, integers of the shape of `scores` without `axis`. NaN outside [0, classes).
        axis: The axis of the classes, or several, or None for all.
        class_weights: w, a weight for each class. In the mean a row counts for w_y.
        where, weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per example: the shape of `labels`.

    Reference:
        Martins and Astudillo, "From softmax to sparsemax: a sparse model of attention and
        multi-label classification", 2016, section 3.3, https://arxiv.org/abs/1602.02068.

    Example:
        >>> multiclass_sparsemax_loss(jnp.array([[2.0, 1.5], [2.0, 0.0]]), jnp.array([0, 0]))
        Array([0.0625, 0.    ], dtype=float32)
    """
    classes = scored(scores, labels, axis, where, class_weights)
    return classes.reduced(_sparsemax(classes), weights, reduction)


class MaxFunction(Protocol):
    """Takes one vector of scores, and what else the loss is called with, to a number."""

    def __call__(self, scores: jax.Array, /, *args: Any, **kwargs: Any) -> ArrayLike: ...


def make_fenchel_young_loss(max_fun: MaxFunction) -> Callable[..., Losses]:
    """The Fenchel-Young loss of a function that replaces the maximum.

        max_fun(s) - sum of t s

    over the last axis, for scores s and targets t. Of logsumexp it is softmax cross-entropy; of
    the maximum itself the perceptron loss. Its gradient in s is the gradient of `max_fun` less t,
    and its kinks are those of `max_fun`.

    Args:
        max_fun: Takes a vector to a number, convex; `jax.scipy.special.logsumexp` for instance.

    Returns:
        A pure function loss(scores, targets, *args, where=None, weights=None, reduction="none",
        **kwargs) of scores and targets of one shape, which hands `args` and `kwargs` on to
        `max_fun`. It has one loss per example, the shape of `scores` without the last axis, and
        reduces as `jaxloss.reduce` says. A score that a `where` of the rank of `scores` excludes
        reads -inf.

    Reference:
        Blondel, Martins and Niculae, "Learning with Fenchel-Young losses", 2020,
        https://arxiv.org/abs/1901.02324.

    Example:
        >>> loss = make_fenchel_young_loss(jax.scipy.special.logsumexp)
        >>> loss(jnp.array([[2.0, 0.0, 1.0]]), jnp.array([[1.0, 0.0, 0.0]]))
        Array([0.40761], dtype=float32)
    """

    def fenchel_young_loss(
        scores: Float[ArrayLike, "*batch classes"],
        targets: Real[ArrayLike, "*batch classes"],
        *args: Any,
        where: Where = None,
        weights: Weights = None,
        reduction: Reduction = "none",
        **kwargs: Any,
    ) -> Losses:
        data = {"scores": scores, "targets": targets}
        inputs_ = inputs.vectors(data, -1, where, absent=(-jnp.inf, 0), scalar=False)
        (s, t), axes, selected = inputs_

        def best(s: jax.Array) -> jax.Array:
            return jnp.asarray(max_fun(s, *args, **kwargs))

        nothing = (t == 0) & (s == -jnp.inf)
        gain = jnp.sum(jnp.where(nothing, 0, t * jnp.where(nothing, 0, s)), axes)
        losses = jnp.vectorize(best, signature="(n)->()")(s) - gain
        return reduced(losses, selected, weights, reduction)

    return fenchel_young_loss
