"""Losses of the angle between vectors."""

from __future__ import annotations

from collections.abc import Sequence

import jax
from jax.typing import ArrayLike

from .._contract.inputs import Axis
from .._contract.jit import jit
from .._contract.prepared import Vectors
from .._contract.reduce import Reduction, Request, Weights, Where
from .angles import cosine, gap
from .vectors import Embeddings, two_vectors


@jit("axis")
def cosine_similarity(
    predictions: Embeddings,
    targets: Embeddings,
    *,
    epsilon: ArrayLike = 0.0,
    axis: int | Sequence[int] = -1,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Cosine of the angle between two vectors, from -1 to 1. Not a loss: greater is better.

        <a, b> / (|a| |b|)

    A zero vector has similarity 0 with every vector. Its gradient there is 0, the choice of
    least norm.

    Args:
        predictions: a, of any shape.
        targets: b, the shape of `predictions`.
        epsilon: Squared norms are not read lower than this (as optax computes; its
            documentation speaks of norms). Then similarity is linear in a short vector.
        axis: The axis of the vectors, or several.
        where: Which losses count, or, of the shape of `predictions`, which entries of the
            vectors; see `jaxloss.reduce`.
        weights, reduction: See `jaxloss.reduce`.

    Returns:
        One similarity per pair of vectors: the shape of `predictions` without `axis`.

    Reference:
        Salton and McGill, "Introduction to Modern Information Retrieval", 1983.

    Example:
        >>> cosine_similarity(jnp.array([[3.0, 0.0], [0.0, 0.0]]), jnp.array([[3.0, 4.0]] * 2))
        Array([0.6, 0. ], dtype=float32)
    """
    request = Request(where, weights, reduction)
    given = two_vectors(predictions, targets, axis, request, epsilon)
    return given.reduced(cosine(given.axes, *given.arrays))


@jit("axis")
def cosine_distance(
    predictions: Embeddings,
    targets: Embeddings,
    *,
    epsilon: ArrayLike = 0.0,
    axis: int | Sequence[int] = -1,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Cosine distance between two vectors, from 0 to 2.

        1 - <a, b> / (|a| |b|)

    Never below 0, and to every digit for nearly equal vectors. A zero vector has distance 1
    from every vector. Its gradient there is 0, the choice of least norm.

    Args:
        predictions: a, of any shape.
        targets: b, the shape of `predictions`.
        epsilon: Squared norms are not read lower than this; see `cosine_similarity`.
        axis: The axis of the vectors, or several.
        where: Which losses count, or, of the shape of `predictions`, which entries of the
            vectors; see `jaxloss.reduce`.
        weights, reduction: See `jaxloss.reduce`.

    Returns:
        One distance per pair of vectors: the shape of `predictions` without `axis`.

    Reference:
        Salton and McGill, "Introduction to Modern Information Retrieval", 1983.

    Example:
        >>> cosine_distance(jnp.array([[3.0, 0.0], [0.0, 0.0]]), jnp.array([[3.0, 4.0]] * 2))
        Array([0.4, 1. ], dtype=float32)
    """
    request = Request(where, weights, reduction)
    given = two_vectors(predictions, targets, axis, request, epsilon)
    return given.reduced(gap(given.axes, *given.arrays))


def _to_constants(
    predictions: Embeddings, targets: Embeddings, axis: Axis, request: Request
) -> tuple[Vectors, jax.Array]:
    """The arguments, and the cosine distance to targets that are held constant."""
    given = two_vectors(predictions, targets, axis, request, 0.0)
    a, b, epsilon = given.arrays
    return given, gap(given.axes, a, jax.lax.stop_gradient(b), epsilon)


@jit("axis")
def byol_loss(
    predictions: Embeddings,
    targets: Embeddings,
    *,
    axis: int | Sequence[int] = -1,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """BYOL's loss: the squared distance of two vectors, each divided by its length.

        2 - 2 <a, b> / (|a| |b|)

    It is twice the `cosine_distance`, with the targets held constant: the gradient in them is 0. A
    zero vector has loss 2 and gradient 0.

    Args:
        predictions: a, the online network's predictions, of any shape.
        targets: b, the target network's projections, the shape of `predictions`.
        axis: The axis of the vectors, or several.
        where: Which losses count, or, of the shape of `predictions`, which entries of the
            vectors; see `jaxloss.reduce`.
        weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per pair of vectors: the shape of `predictions` without `axis`. The paper's loss is
        the sum of those of both views.

    Reference:
        Grill et al., "Bootstrap your own latent: a new approach to self-supervised learning", 2020,
        eq. 2, https://arxiv.org/abs/2006.07733.

    Example:
        >>> byol_loss(jnp.array([[3.0, 0.0], [1.0, 2.0]]), jnp.array([[3.0, 4.0], [2.0, 4.0]]))
        Array([0.8, 0. ], dtype=float32)
    """
    request = Request(where, weights, reduction)
    given, distances = _to_constants(predictions, targets, axis, request)
    return given.reduced(2 * distances)


@jit("axis")
def simsiam_loss(
    predictions: Embeddings,
    targets: Embeddings,
    *,
    axis: int | Sequence[int] = -1,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """SimSiam's loss: the cosine distance to targets that are held constant.

        1 - <a, b> / (|a| |b|)

    The paper's loss is less by 1; this one is 0 at best. The gradient in the targets is 0. A zero
    vector has loss 1 and gradient 0.

    Args:
        predictions: a, the predictor's output for one view, of any shape.
        targets: b, the encoder's for the other, the shape of `predictions`.
        axis: The axis of the vectors, or several.
        where: Which losses count, or, of the shape of `predictions`, which entries of the
            vectors; see `jaxloss.reduce`.
        weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per pair of vectors: the shape of `predictions` without `axis`. The paper's is the
        mean of those of both views.

    Reference:
        Chen and He, "Exploring simple siamese representation learning", 2021, eq. 1 and 3,
        https://arxiv.org/abs/2011.10566.

    Example:
        >>> simsiam_loss(jnp.array([[3.0, 0.0], [1.0, 2.0]]), jnp.array([[3.0, 4.0], [2.0, 4.0]]))
        Array([0.4, 0. ], dtype=float32)
    """
    request = Request(where, weights, reduction)
    given, distances = _to_constants(predictions, targets, axis, request)
    return given.reduced(distances)
