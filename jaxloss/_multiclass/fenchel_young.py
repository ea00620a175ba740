"""Fenchel-Young losses: a convex function of the scores, minus the scores of the targets.

In the formulas s are the scores and t the targets; of class numbers y, 1 at the right class and 0
elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Float, Real

from .._contract import inputs
from .._contract.calls import refusing
from .._contract.inputs import Axis, ClassWeights
from .._contract.jit import jit
from .._contract.prepared import vectors
from .._contract.reduce import Reduction, Request, Weights, Where
from .._numerics.exact import lost_in_difference
from .._numerics.kinks import closed_form
from .._numerics.special import safe_product
from .labels import Axes, Classes, ClassNumbers, Scores, labelled_scores, number_of


def _above(s: jax.Array, top: jax.Array, high: jax.Array, low: jax.Array) -> jax.Array:
    """s - (top + high + low), with all its digits where it is near 0 too."""
    return ((s - top) - high) + (lost_in_difference(s, top) - low)


def _threshold(s: jax.Array, axes: Axes) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The threshold tau of the sparsemax, where the sum of max(s - tau, 0) is 1.

    By Newton's method: the sum is convex and piecewise linear in tau, so that steps from below
    never pass the solution, and a few of them reach it, where sorting takes many passes.

    Returns:
        The largest score, and two numbers that are added to it: the arguments of `_above`.
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

    # Until no step leaves fewer classes above the threshold than the step before it.
    beyond = jnp.full_like(top, math.prod(s.shape[i] for i in axes) + 1, jnp.int32)
    start = (jnp.full_like(top, -1), beyond, beyond + 1)
    high, *_ = jax.lax.while_loop(lambda state: jnp.any(state[1] < state[2]), approach, start)

    # `gap` in two parts: multiples of 1 / grid, whose sum is not rounded while it is 1 or less,
    # and the rest.
    grid = 2.0**52 if s.dtype == jnp.float64 else 2.0**23
    coarse = jnp.round(gap * grid) / grid
    fine = (gap - coarse) + lost_in_difference(s, top)
    high, low = jnp.round(high * grid) / grid, jnp.zeros_like(top)
    # Two steps: the first may change which classes are above.
    for _ in range(2):
        above = _above(s, top, high, low) > 0
        excess = jnp.sum(jnp.where(above, coarse - high, 0), axes, keepdims=True) - 1
        excess += jnp.sum(jnp.where(above, fine - low, 0), axes, keepdims=True)
        low += excess / jnp.maximum(number_of(above, axes), 1).astype(s.dtype)
    return top, high, low


def _sparsemax(given: Classes) -> jax.Array:
    axes = given.axes

    def probabilities(s: jax.Array, hit: jax.Array, *threshold: jax.Array) -> tuple[jax.Array, ...]:
        """The sparsemax p, its sum over the wrong classes, and s minus the threshold."""
        above = _above(s, *threshold)
        p = jnp.where(above <= 0, 0, above)
        return p, jnp.sum(jnp.where(hit, 0, p), axes, keepdims=True), above

    @jax.custom_jvp
    def slope(s: jax.Array, hit: jax.Array, *threshold: jax.Array) -> jax.Array:
        p, wrong, _ = probabilities(s, hit, *threshold)
        # p - 1 at the right class is minus the sum of the others, which keeps its digits.
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

    # The threshold is held constant. The derivative of the loss in it is 0, and that of the slopes
    # has a rule of its own.
    s = given.scores
    return given.weighted(loss(s, given.labels, *_threshold(jax.lax.stop_gradient(s), axes)))


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
) -> jax.Array:
    """The loss that is to the sparsemax what cross-entropy is to the softmax.

        w_y (((1 - p_y)^2 + sum over j != y of p_j^2) / 2 + max(0, tau - s_y))

    with the sparsemax p_j = max(0, s_j - tau) of the scores, the distribution nearest to them,
    whose tau makes it sum to 1. The gradient is p less the one-hot labels; the loss is 0 where the
    right class stands 1 or more above all others. The second derivative jumps where s_j = tau, and
    is there that of s_j < tau.

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
    request = Request(where, weights, reduction)
    given = labelled_scores(scores, labels, axis, request, class_weights)
    return given.reduced(_sparsemax(given))


class MaxFunction(Protocol):
    """Takes one vector of scores, and what else the loss is called with, to a number."""

    def __call__(self, scores: jax.Array, /, *args: Any, **kwargs: Any) -> ArrayLike: ...


@refusing
def make_fenchel_young_loss(max_fun: MaxFunction) -> Callable[..., jax.Array]:
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
    inputs.check_function("max_fun", max_fun)

    def fenchel_young_loss(
        scores: Float[ArrayLike, "*batch classes"],
        targets: Real[ArrayLike, "*batch classes"],
        *args: Any,
        where: Where = None,
        weights: Weights = None,
        reduction: Reduction = "none",
        **kwargs: Any,
    ) -> jax.Array:
        data = {"scores": scores, "targets": targets}
        request = Request(where, weights, reduction)
        given = vectors(data, -1, request, absent=(-jnp.inf, 0), scalar=False)
        s, t = given.data

        def best(s: jax.Array) -> jax.Array:
            value = inputs.real("what max_fun returns", max_fun(s, *args, **kwargs))
            got = inputs.described(value=value)
            inputs.check_shape(value, (), f"max_fun must return one number, got {got}")
            return value

        gain = jnp.sum(safe_product(t, s), given.axes)
        return given.reduced(jnp.vectorize(best, signature="(n)->()")(s) - gain)

    return fenchel_young_loss
