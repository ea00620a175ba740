"""Losses between vectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Float

from . import _inputs
from ._jit import jit
from ._kinks import derived_from
from ._reduce import Losses, Reduction, Weights, Where, reduced

Vectors = Float[ArrayLike, "*batch dim"] | Sequence[Any]


def _unit(x: jax.Array, axes: tuple[int, ...], epsilon: jax.Array) -> tuple[jax.Array, jax.Array]:
    """x / sqrt(max(|x|^2, epsilon)), and by how much its squared norm misses 1.

    The norm is that of x over its largest entry, which neither overflows nor vanishes. The
    result does not depend on that entry, so its derivatives may take it for a constant. A zero
    vector gives zeros, with derivative 0 where epsilon = 0.
    """
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(x), axes, keepdims=True, initial=0))
    largest = jnp.where(largest == 0, 1, largest)
    scaled = x / largest
    square = jnp.sum(scaled * scaled, axes, keepdims=True)
    zero = square == 0
    norm = jnp.sqrt(jnp.where(zero, 1, square))
    least = jnp.sqrt(jnp.where(epsilon > 0, epsilon, 1))
    short = (epsilon > 0) & (jnp.where(zero, 0, largest * norm) < least)
    unit = jnp.where(zero, 0, scaled / norm)
    clipped = jnp.where(short, x, 0) / least
    lack = 1 - jnp.sum(clipped * clipped, axes, keepdims=True)
    return jnp.where(short, clipped, unit), jnp.where(short, lack, jnp.where(zero, 1, 0))


def _prepared(
    predictions: Vectors,
    targets: Vectors,
    epsilon: ArrayLike,
    axis: int | Sequence[int],
    where: Where,
) -> tuple[list[jax.Array], tuple[int, ...], jax.Array | None]:
    """Both vectors and epsilon, the axes, and the mask of the loss."""
    data = {"predictions": predictions, "targets": targets}
    (a, b), axes, selected = _inputs.vectors(data, axis, where)
    epsilon = _inputs.real("epsilon", epsilon).astype(a.dtype)
    return [a, b, epsilon], axes, selected


def _cosine(axes: tuple[int, ...]) -> Callable[..., jax.Array]:
    def cosine(a: jax.Array, b: jax.Array, epsilon: jax.Array) -> jax.Array:
        return jnp.sum(_unit(a, axes, epsilon)[0] * _unit(b, axes, epsilon)[0], axes)

    return cosine


@jit("axis")
def cosine_similarity(
    predictions: Vectors,
    targets: Vectors,
    *,
    epsilon: ArrayLike = 0.0,
    axis: int | Sequence[int] = -1,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> Losses:
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
    vectors, axes, selected = _prepared(predictions, targets, epsilon, axis, where)
    similarities = _inputs.within(_cosine(axes)(*vectors), vectors[-1] >= 0)
    return reduced(similarities, selected, weights, reduction)


@jit("axis")
def cosine_distance(
    predictions: Vectors,
    targets: Vectors,
    *,
    epsilon: ArrayLike = 0.0,
    axis: int | Sequence[int] = -1,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> Losses:
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
    vectors, axes, selected = _prepared(predictions, targets, epsilon, axis, where)

    # |a - b|^2 = |a|^2 + |b|^2 - 2 <a, b>: a sum of squares, where 1 - <a, b> would cancel. In
    # the derivative it is the squares that would cancel.
    @derived_from(lambda *vectors: -_cosine(axes)(*vectors))
    def distance(a: jax.Array, b: jax.Array, epsilon: jax.Array) -> jax.Array:
        (a, lack_a), (b, lack_b) = _unit(a, axes, epsilon), _unit(b, axes, epsilon)
        return 0.5 * (jnp.sum((a - b) ** 2, axes) + jnp.squeeze(lack_a + lack_b, axes))

    distances = _inputs.within(distance(*vectors), vectors[-1] >= 0)
    return reduced(distances, selected, weights, reduction)
