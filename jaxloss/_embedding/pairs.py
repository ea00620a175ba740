"""Losses of pairs: of two scores, of a distance, or of two vectors, and of what a label says.

In the formulas s is 1 where the label y is above 0, for a positive pair, and -1 elsewhere, so that
labels of {-1, 1}, {0, 1} and booleans all mean the same; [x]+ is max(x, 0). NaN labels give NaN.
Losses are flat in the labels.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from .._contract.jit import jit
from .._contract.prepared import Hyper, elementwise
from .._contract.reduce import Reduction, Request, Weights, Where
from .._numerics.distance import direction, distance
from .._numerics.exact import lost_in_difference
from .._numerics.kinks import closed_form, hinge, sign, step
from .._numerics.xla import beside_value, difference_again
from .angles import Angle, angle
from .vectors import Embeddings, Labels, Numbers, labelled_pairs


def _by_label(y: jax.Array, positive: jax.Array, negative: jax.Array) -> jax.Array:
    """One of the two; NaN for a NaN label."""
    return jnp.where(y > 0, positive, jnp.where(y <= 0, negative, y))


def _ranking_slopes(
    d: jax.Array, lost: jax.Array, y: jax.Array, margin: jax.Array
) -> tuple[jax.Array, ...]:
    s = sign(y)
    # Next to the margin, the sign is that of what the difference lost in rounding.
    active = step((margin - s * d) - s * lost)
    return -s * active, -s * active, jnp.zeros_like(y), active


@closed_form(_ranking_slopes)
def _ranking(d: jax.Array, lost: jax.Array, y: jax.Array, margin: jax.Array) -> jax.Array:
    del lost  # only the slopes depend on it
    return jnp.maximum(margin - sign(y) * d, 0)


@jit()
def margin_ranking_loss(
    x1: Numbers,
    x2: Numbers,
    y: Labels,
    *,
    margin: ArrayLike = 0.0,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Margin ranking loss: of two scores the right one is to be higher, by a margin.

        [margin - s (x1 - x2)]+

    Exactly at the margin the gradient in x1 is -s, that of the active side: a tie still trains.

    Args:
        x1: Scores, of any shape.
        x2: Scores to be compared with them, the shape of `x1`, or a scalar.
        y: Above 0 where x1 is to be higher, else x2 is; the shape of `x1`, or a scalar.
        margin: By how much higher.
        where, weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per element.

    Reference:
        Herbrich, Graepel and Obermayer, "Large margin rank boundaries for ordinal regression",
        2000.

    Example:
        >>> margin_ranking_loss(jnp.array([2.0, 2.0]), jnp.array([1.5, 1.5]), jnp.array([1, -1]))
        Array([0. , 0.5], dtype=float32)
    """
    request = Request(where, weights, reduction)
    data = {"x1": x1, "x2": x2, "y": y}
    given = elementwise(data, request, hyper={"margin": Hyper(margin)})
    first, second, labels, length = given.arrays
    lost = lost_in_difference(first, second)
    return given.reduced(_ranking(first - second, lost, labels, length))


def _hinge_slopes(d: jax.Array, y: jax.Array, margin: jax.Array) -> tuple[jax.Array, ...]:
    active = step(margin - d)
    one, none = jnp.where(jnp.isnan(d), d, 1), jnp.zeros_like(d)
    return _by_label(y, one, -active), jnp.zeros_like(y), _by_label(y, none, active)


@closed_form(_hinge_slopes)
def _hinge(d: jax.Array, y: jax.Array, margin: jax.Array) -> jax.Array:
    return _by_label(y, d, jnp.maximum(margin - d, 0))


@jit()
def hinge_embedding_loss(
    distances: Numbers,
    labels: Labels,
    *,
    margin: ArrayLike = 1.0,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Hinge embedding loss: positive pairs are to be near, negative ones a margin apart.

        d              where y > 0
        [margin - d]+  elsewhere

    Exactly at the margin the gradient is -1, that of the active side: a tie still trains.

    Args:
        distances: d, of any shape; any measure of distance, smaller for more similar pairs.
        labels: y, above 0 for a positive pair; the shape of `distances`, or a scalar.
        margin: How far apart negative pairs are to be, in the unit of `distances`.
        where, weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per element, in the unit of `distances`.

    Reference:
        PyTorch's `HingeEmbeddingLoss`; Chopra, Hadsell and LeCun, "Learning a similarity metric
        discriminatively, with application to face verification", 2005, for the idea.

    Example:
        >>> hinge_embedding_loss(jnp.array([0.25, 0.25, 2.0]), jnp.array([1, -1, -1]))
        Array([0.25, 0.75, 0.  ], dtype=float32)
    """
    request = Request(where, weights, reduction)
    data = {"distances": distances, "labels": labels}
    given = elementwise(data, request, hyper={"margin": Hyper(margin)})
    return given.reduced(_hinge(*given.arrays))


def _cosine(axes: tuple[int, ...], *arguments: jax.Array) -> jax.Array:
    def between(a: jax.Array, b: jax.Array, y: jax.Array) -> Angle:
        # The same call for the value as for the slopes: it is compiled once.
        return angle(axes, True, a, b, jnp.zeros((), a.dtype), y > 0)

    def in_arguments(
        a: jax.Array, b: jax.Array, y: jax.Array, margin: jax.Array
    ) -> tuple[jax.Array, ...]:
        cosine, _, (in_a, in_b, _) = between(a, b, y)
        cosine, y = beside_value(cosine, y)
        active = step(cosine - margin)
        side = jnp.expand_dims(_by_label(y, -jnp.ones_like(active), active), axes)
        in_margin = _by_label(y, jnp.zeros_like(active), -active)
        # Selections: where nothing is active, a factor 0 would make NaN of an infinite derivative.
        in_a, in_b = (jnp.where(side == 0, 0, side * x) for x in (in_a, in_b))
        return in_a, in_b, jnp.zeros_like(y), in_margin

    @closed_form(in_arguments, axes)
    def loss(a: jax.Array, b: jax.Array, y: jax.Array, margin: jax.Array) -> jax.Array:
        cosine, gap, _ = between(a, b, y)
        return _by_label(y, gap, jnp.maximum(cosine - margin, 0))

    return loss(*arguments)


@jit("axis")
def cosine_embedding_loss(
    x1: Embeddings,
    x2: Embeddings,
    y: Labels,
    *,
    margin: ArrayLike = 0.0,
    axis: int | Sequence[int] = -1,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Cosine embedding loss: positive pairs are to point the same way, negative ones not.

        1 - cos           where y > 0
        [cos - margin]+   elsewhere,   with cos = <x1, x2> / (|x1| |x2|)

    Where the cosine of a negative pair is exactly the margin the gradient is that of the active
    side: a tie still trains. A zero vector has cosine 0, and gradient 0 there.

    Args:
        x1: Vectors, of any shape.
        x2: Vectors, the shape of `x1`.
        y: Above 0 for a positive pair; the shape of `x1` without `axis`, or a scalar.
        margin: The cosine up to which negative pairs cost nothing, from -1 to 1: one number, or one
            for each pair.
        axis: The axis of the vectors, or several.
        where: Which losses count, or, of the shape of `x1`, which entries of the vectors; see
            `jaxloss.reduce`.
        weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per pair of vectors: the shape of `x1` without `axis`.

    Reference:
        PyTorch's `CosineEmbeddingLoss`.

    Example:
        >>> x1, x2 = jnp.array([[2.0, 0.0, 0.0, 0.0]] * 2), jnp.ones((2, 4))
        >>> cosine_embedding_loss(x1, x2, jnp.array([1, -1]), margin=0.25)
        Array([0.5 , 0.25], dtype=float32)
    """
    request = Request(where, weights, reduction)
    given = labelled_pairs(x1, x2, y, axis, request, margin=Hyper(margin))
    return given.reduced(_cosine(given.axes, *given.arrays))


def _contrastive(axes: tuple[int, ...], *arguments: jax.Array) -> jax.Array:
    def in_arguments(
        a: jax.Array, b: jax.Array, y: jax.Array, margin: jax.Array
    ) -> tuple[jax.Array, ...]:
        d = distance(a, b, axes)
        short = hinge(margin - d)
        y_kept, pull = (jnp.expand_dims(x, axes) for x in (y, short))
        own = _by_label(y_kept, difference_again(a, b), -pull * direction(a, b, axes))
        return own, -own, jnp.zeros_like(y), _by_label(y, jnp.zeros_like(d), short)

    @closed_form(in_arguments, axes)
    def loss(a: jax.Array, b: jax.Array, y: jax.Array, margin: jax.Array) -> jax.Array:
        d = distance(a, b, axes)
        length = _by_label(y, d, jnp.maximum(margin - d, 0))
        return 0.5 * length * length

    return loss(*arguments)


@jit("axis")
def contrastive_loss(
    x1: Embeddings,
    x2: Embeddings,
    y: Labels,
    *,
    margin: ArrayLike = 1.0,
    axis: int | Sequence[int] = -1,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Contrastive loss: springs that pull positive pairs together and push negative ones apart.

        d^2 / 2             where y > 0
        [margin - d]+^2 / 2   elsewhere,   with d the Euclidean distance of x1 and x2

    Of a negative pair of equal vectors the gradient is 0, the subgradient of least norm. The second
    derivative at the margin is that of the active side.

    Args:
        x1: Vectors, of any shape.
        x2: Vectors, the shape of `x1`.
        y: Above 0 for a positive pair; the shape of `x1` without `axis`, or a scalar. (The paper's
            Y is 0 for those.)
        margin: The distance from which negative pairs cost nothing: one number, or one for each
            pair.
        axis: The axis of the vectors, or several.
        where: Which losses count, or, of the shape of `x1`, which entries of the vectors; see
            `jaxloss.reduce`.
        weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per pair of vectors: the shape of `x1` without `axis`.

    Reference:
        Hadsell, Chopra and LeCun, "Dimensionality reduction by learning an invariant mapping",
        2006, eq. 4, https://doi.org/10.1109/CVPR.2006.100.

    Example:
        >>> x1, x2 = jnp.zeros((2, 2)), jnp.array([[0.3, 0.4]] * 2)
        >>> contrastive_loss(x1, x2, jnp.array([1, 0]))
        Array([0.125, 0.125], dtype=float32)
    """
    request = Request(where, weights, reduction)
    given = labelled_pairs(x1, x2, y, axis, request, margin=Hyper(margin))
    return given.reduced(_contrastive(given.axes, *given.arrays))
