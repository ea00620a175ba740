"""Losses of triplets: an anchor is to be nearer to its positive than to its negative.

In the formulas a, p and n are an anchor, its positive and its negative, [x]+ is max(x, 0).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from .._contract import inputs
from .._contract.jit import jit
from .._contract.prepared import Hyper, non_negative
from .._contract.reduce import Reduction, Request, Weights, Where
from .._numerics.distance import distance
from .._numerics.kinks import hinge
from .vectors import Embeddings, distinct_triplets, triplets

Distance = Callable[[jax.Array, jax.Array], jax.Array]


def _excess(between: Distance, triplets: Sequence[jax.Array], swap: bool) -> jax.Array:
    """By how much the positive is farther from the anchor than the negative is."""
    anchors, positives, negatives = triplets
    near, far = between(anchors, positives), between(anchors, negatives)
    if swap:
        other = between(positives, negatives)
        far = jnp.where((other < far) | jnp.isnan(other), other, far)
    return near - far


@jit("axis", "swap")
def triplet_margin_loss(
    anchors: Embeddings,
    positives: Embeddings,
    negatives: Embeddings,
    axis: int | Sequence[int] = -1,
    norm_degree: ArrayLike = 2,
    margin: ArrayLike = 1.0,
    eps: ArrayLike = 1e-6,
    *,
    swap: bool = False,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Triplet loss: the negative is to be farther from the anchor than the positive, by a margin.

        [D(a, p) - D(a, n) + margin]+   with D(u, v) = (sum of |u - v|^k + eps)^(1/k)

    At a length of exactly 0 under the bracket the gradient is that above it: a tie still trains.
    An entry of two vectors that is equal in both has slope 0, and with eps = 0 so has the distance
    of equal vectors. For k = inf, D is the largest |u - v|, without eps; several that are as large
    share its slope.

    Args:
        anchors: a, of any shape.
        positives: p, the shape of `anchors`.
        negatives: n, the shape of `anchors`.
        axis: The axis of the vectors, or several.
        norm_degree: k, a number; NaN below 1. 1, 2 and inf are the fastest. It is held constant
            for derivatives.
        margin: By how much farther the negative is to be: one number, or one for each triplet.
        eps: Shifts the k-th power of a distance, as in optax, where it keeps the gradient finite;
            here it is that for 0 too. NaN below 0.
        swap: Whether the negative's distance is the smaller of those to the anchor and to the
            positive; that to the anchor, where they are equal.
        where: Which losses count, or, of the shape of `anchors`, which entries of the vectors; see
            `jaxloss.reduce`.
        weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per triplet: the shape of `anchors` without `axis`.

    Reference:
        Balntas et al., "Learning local feature descriptors with triplets and shallow convolutional
        neural networks", 2016, https://doi.org/10.5244/C.30.119.

    Example:
        >>> anchors, positives = jnp.zeros((2, 2)), jnp.array([[3.0, 4.0], [0.0, 1.0]])
        >>> triplet_margin_loss(anchors, positives, jnp.array([[0.0, 2.0], [3.0, 4.0]]), eps=0.0)
        Array([4., 0.], dtype=float32)
    """
    if isinstance(axis, float):
        # PyTorch has the margin in its place.
        got = f"got {axis!r}; margin is a keyword: margin={axis!r}"
        raise TypeError(f"axis must be an integer or a tuple of integers, {got}")
    request = Request(where, weights, reduction)
    hyper = {"margin": Hyper(margin), "eps": Hyper(eps, non_negative)}
    given = triplets(anchors, positives, negatives, axis, request, **hyper)
    length, shift = given.hyper
    degree = norm_degree
    if not isinstance(degree, int | float):
        degree = inputs.number("norm_degree", degree).astype(given.dtype)
    given = given.inside(jnp.asarray(degree >= 1))
    excess = _excess(lambda u, v: distance(u, v, given.axes, degree, shift), given.data, swap)
    return given.reduced(hinge(excess + length))


@jit("swap", uncompiled="distance_function")
def triplet_margin_with_distance_loss(
    anchors: Embeddings,
    positives: Embeddings,
    negatives: Embeddings,
    *,
    distance_function: Distance | None = None,
    margin: ArrayLike = 1.0,
    swap: bool = False,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Triplet loss of a distance of one's own.

        [d(a, p) - d(a, n) + margin]+

    At a length of exactly 0 under the bracket the gradient is that above it: a tie still trains.
    The gradient of d is the function's own; that of the Euclidean distance of equal vectors is 0.

    Args:
        anchors: a, of any shape; vectors lie along the last axis.
        positives: p, the shape of `anchors`.
        negatives: n, the shape of `anchors`.
        distance_function: d, from two arrays of vectors `[..., D]` to their distances `[...]`; None
            for the Euclidean distance. It is called anew each time, and may be a model: to compile
            it, call this loss within `jax.jit`.
        margin: By how much farther the negative is to be: one number, or one for each triplet.
        swap: Whether the negative's distance is the smaller of those to the anchor and to the
            positive; that to the anchor, where they are equal.
        where: Which losses count; see `jaxloss.reduce`. In place of vectors that do not count
            the function is given others, of which no two are equal.
        weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per triplet: the shape of `anchors` without the last axis.

    Reference:
        Schroff, Kalenichenko and Philbin, "FaceNet: a unified embedding for face recognition and
        clustering", 2015, eq. 1, https://arxiv.org/abs/1503.03832, where d is squared.

    Example:
        >>> furthest = lambda u, v: jnp.max(jnp.abs(u - v), axis=-1)
        >>> a, p, n = jnp.zeros(2), jnp.array([3.0, 4.0]), jnp.array([2.0, 1.0])
        >>> triplet_margin_with_distance_loss(a, p, n, distance_function=furthest)
        Array(3., dtype=float32)
    """
    if distance_function is not None:
        inputs.check_function("distance_function", distance_function)
    request = Request(where, weights, reduction)
    given = distinct_triplets(anchors, positives, negatives, request, margin=Hyper(margin))

    def between(u: jax.Array, v: jax.Array) -> jax.Array:
        if distance_function is None:
            return distance(u, v, given.axes)
        d = inputs.real("what distance_function returns", distance_function(u, v))
        message = (
            f"distance_function must return a distance for each pair of vectors, of shape "
            f"{list(u.shape[:-1])}, got {inputs.described(distances=d)}"
        )
        inputs.check_shape(d, u.shape[:-1], message)
        return d.astype(u.dtype)

    (length,) = given.hyper
    return given.reduced(hinge(_excess(between, given.data, swap) + length))
