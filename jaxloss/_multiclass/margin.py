"""Losses of one class out of several, from how far its score stands above the others'.

In the formulas s are the scores and y is the number of the right class; a number outside
[0, classes), or of a class that `where` excludes, gives NaN. A score of -inf is the least there
is: such a class costs nothing, and everything where it is the right one.
"""

from __future__ import annotations

import math
from typing import Literal

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from .._contract.inputs import Axis, ClassWeights
from .._contract.jit import jit
from .._contract.prepared import Hyper
from .._contract.reduce import Reduction, Request, Weights, Where
from .._numerics.kinks import closed_form, hinge, step
from .._numerics.reductions import entry_of, rival_and_ties, sums
from .labels import Classes, ClassNumbers, Scores, labelled_scores


def _lead(s: jax.Array, right: jax.Array) -> jax.Array:
    """How far scores are above that of the right class.

    Infinite if that one is -inf; 0 for a score of +inf if that one is +inf too.
    """
    tie = jnp.isinf(right) & (s == right)
    return jnp.where(right == -jnp.inf, jnp.inf, jnp.where(tie, 0, s - right))


def _count(given: Classes) -> ArrayLike:
    """How many classes are there; 1 for an excluded example, which has none."""
    if given.entries is None:
        return math.prod(given.scores.shape[i] for i in given.axes)
    there = jnp.sum(given.entries, given.axes, dtype=jnp.int32)
    return jnp.maximum(there, 1).astype(given.dtype)


def _hinges_of_all(given: Classes, p: int, margin: jax.Array) -> jax.Array:
    """The sum of max(0, margin + s_j - s_y)^p over the other classes j."""
    axes = given.axes

    def violations(s: jax.Array, hit: jax.Array, number: jax.Array, margin: jax.Array) -> jax.Array:
        """margin + s_j - s_y, and -inf at the right class."""
        right = jnp.expand_dims(entry_of(axes, s, number, hit.astype(s.dtype)), axes)
        return jnp.where(hit, -jnp.inf, jnp.expand_dims(margin, axes) + _lead(s, right))

    def totals(z: jax.Array) -> tuple[jax.Array, ...]:
        """The sum of the hinges^p, and that of their slopes."""
        costs = jnp.where(z < 0, 0, z)
        if p == 1:
            return sums(axes, costs, (z >= 0).astype(costs.dtype))
        return sums(axes, costs * costs, 2 * hinge(z))

    def slopes(
        s: jax.Array, hit: jax.Array, number: jax.Array, margin: jax.Array
    ) -> tuple[ArrayLike, ...]:
        z = violations(s, hit, number, margin)
        if p == 1:
            slope, (cost, active) = step(z), totals(jax.lax.stop_gradient(z))
            total = jnp.where(jnp.isnan(cost), jnp.nan, active)
        else:
            slope, (_, total) = 2 * hinge(z), totals(z)
        return jnp.where(hit, -jnp.expand_dims(total, axes), slope), 0, 0, total

    @closed_form(slopes, axes)
    def loss(s: jax.Array, hit: jax.Array, number: jax.Array, margin: jax.Array) -> jax.Array:
        return totals(violations(s, hit, number, margin))[0]

    return loss(given.scores, given.labels, given.number, margin)


@jit("p", "axis")
def multi_margin_loss(
    scores: Scores,
    labels: ClassNumbers,
    *,
    p: Literal[1, 2] = 1,
    margin: ArrayLike = 1.0,
    axis: Axis = -1,
    class_weights: ClassWeights = None,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Hinge loss of the right class against every other one.

        w_y / C * (sum over j != y of max(0, margin + s_j - s_y)^p)

    for C classes. `multiclass_hinge_loss` takes the largest of the terms instead. A class exactly
    at the margin has the slope of those inside it, so that a tie still trains; for p = 2 the
    second derivative is theirs.

    Args:
        scores: s, of any shape.
        labels: y, integers of the shape of `scores` without `axis`. NaN outside [0, classes).
        p: 1 or 2.
        margin: How far the right class is to stand above the others: one number, or one for each
            example.
        axis: The axis of the classes. If several, `labels` count through the last one first; None
            for all.
        class_weights: w, a weight for each class. In the mean a row counts for w_y.
        where, weights, reduction: See `jaxloss.reduce`. Classes that `where` excludes do not count
            in C.

    Returns:
        One loss per example: the shape of `labels`.

    Reference:
        Weston and Watkins, "Support vector machines for multi-class pattern recognition", 1999,
        section 3.

    Example:
        >>> multi_margin_loss(jnp.array([[2.0, 1.5], [0.0, 0.0]]), jnp.array([0, 1]))
        Array([0.25, 0.5 ], dtype=float32)
    """
    if p not in (1, 2):
        raise ValueError(f"p must be 1 or 2, got {p!r}")
    request = Request(where, weights, reduction)
    given = labelled_scores(scores, labels, axis, request, class_weights, margin=Hyper(margin))
    losses = _hinges_of_all(given, p, *given.hyper) / _count(given)
    return given.reduced(given.weighted(losses))


def _hinge_of_rival(given: Classes, *margin: jax.Array) -> jax.Array:
    """max(0, margin + s_j - s_y) of the best other class j; without a margin if none is given."""
    axes = given.axes

    def violation(s: jax.Array, hit: jax.Array, *margin: jax.Array) -> tuple[jax.Array, ...]:
        """margin + s_j - s_y, s_j, and how many have it."""
        right, rival, ties = rival_and_ties(axes, s, hit)
        z = _lead(rival, right)
        for distance in margin:
            z += jnp.expand_dims(distance, axes)
        return z, rival, ties

    def slopes(s: jax.Array, hit: jax.Array, *margin: jax.Array) -> tuple[ArrayLike, ...]:
        z, rival, ties = violation(s, hit, *margin)
        first = ~(hit | (s < rival))
        active = step(z)
        share = active / ties
        slope = jnp.where(hit, -active, jnp.where(first, share, 0))
        return slope, 0, *(jnp.squeeze(active, axes) for _ in margin)

    @closed_form(slopes, axes)
    def loss(s: jax.Array, hit: jax.Array, *margin: jax.Array) -> jax.Array:
        z, *_ = violation(s, hit, *margin)
        return jnp.squeeze(jnp.where(z < 0, 0, z), axes)

    return given.weighted(loss(given.scores, given.labels, *margin))


@jit("axis")
def multiclass_hinge_loss(
    scores: Scores,
    labels: ClassNumbers,
    *,
    margin: ArrayLike = 1.0,
    axis: Axis = -1,
    class_weights: ClassWeights = None,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Hinge loss of the right class against the best of the others.

        w_y max(0, margin + (max over j != y of s_j) - s_y)

    Exactly at the margin the slope is that inside it, so that a tie still trains. Runners-up that
    are equal share the slope equally.

    Args:
        scores: s, of any shape.
        labels: y, integers of the shape of `scores` without `axis`. NaN outside [0, classes).
        margin: How far the right class is to stand above the others: one number, or one for each
            example.
        axis: The axis of the classes. If several, `labels` count through the last one first; None
            for all.
        class_weights: w, a weight for each class. In the mean a row counts for w_y.
        where, weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per example: the shape of `labels`.

    Reference:
        Crammer and Singer, "On the algorithmic implementation of multiclass kernel-based vector
        machines", 2001.

    Example:
        >>> multiclass_hinge_loss(jnp.array([[2.0, 1.5, 0.0], [0.0, 0.0, 0.0]]), jnp.array([0, 2]))
        Array([0.5, 1. ], dtype=float32)
    """
    request = Request(where, weights, reduction)
    given = labelled_scores(scores, labels, axis, request, class_weights, margin=Hyper(margin))
    return given.reduced(_hinge_of_rival(given, *given.hyper))


@jit("axis")
def multiclass_perceptron_loss(
    scores: Scores,
    labels: ClassNumbers,
    *,
    axis: Axis = -1,
    class_weights: ClassWeights = None,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """How far the right class is behind the best.

        w_y max(0, (max over j != y of s_j) - s_y)

    `multiclass_hinge_loss` without a margin. Where the right class shares the first place it
    trains as if it were behind, so that scores that are all equal do; runners-up that are equal
    share the slope equally.

    Args:
        scores: s, of any shape.
        labels: y, integers of the shape of `scores` without `axis`. NaN outside [0, classes).
        axis: The axis of the classes, or several, or None for all.
        class_weights: w, a weight for each class. In the mean a row counts for w_y.
        where, weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per example: the shape of `labels`.

    Reference:
        Collins, "Discriminative training methods for hidden Markov models: theory and experiments
        with perceptron algorithms", 2002.

    Example:
        >>> multiclass_perceptron_loss(jnp.array([[2.0, 1.5, 0.0]]), jnp.array([1]))
        Array([0.5], dtype=float32)
    """
    request = Request(where, weights, reduction)
    given = labelled_scores(scores, labels, axis, request, class_weights)
    return given.reduced(_hinge_of_rival(given))
