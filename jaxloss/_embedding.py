"""Losses between vectors."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Float

from . import _inputs
from ._jit import jit
from ._kinks import closed_form
from ._reduce import Losses, Reduction, Weights, Where, reduced

Vectors = Float[ArrayLike, "*batch dim"] | Sequence[Any]


class _Sides(NamedTuple):
    """Two vectors side by side, all with the axes of the vectors kept.

    Attributes:
        cosine: Of the angle between them, with norms not read below sqrt(epsilon).
        inverse: 1 over the norm of each; 0 for a zero vector, and so is its derivative.
        whole: Whether that norm is the vector's own.
        lack: By how much the squared norm of each, divided by that norm, misses 1.
    """

    cosine: jax.Array
    inverse: tuple[jax.Array, jax.Array]
    whole: tuple[jax.Array, jax.Array]
    lack: tuple[jax.Array, jax.Array]


def _sides(axes: tuple[int, ...], a: jax.Array, b: jax.Array, epsilon: jax.Array) -> _Sides:
    def dot(x: jax.Array, y: jax.Array) -> jax.Array:
        return jnp.sum(x * y, axes, keepdims=True)

    def plainly(a: jax.Array, b: jax.Array) -> tuple[jax.Array, ...]:
        one = jnp.ones_like(squares[0])
        return one, one, *squares, dot(a, b)

    def scaled(a: jax.Array, b: jax.Array) -> tuple[jax.Array, ...]:
        scales = []
        for x in (a, b):
            # The result does not depend on it: its derivatives may take it for a constant.
            largest = jnp.max(jnp.abs(jax.lax.stop_gradient(x)), axes, keepdims=True, initial=0)
            scales.append(jnp.where(largest == 0, 1, largest))
        a, b = a / scales[0], b / scales[1]
        return *scales, dot(a, a), dot(b, b), dot(a, b)

    # Only where squares might overflow or vanish are vectors divided by their largest entry.
    squares = dot(a, a), dot(b, b)
    least, largest = jnp.minimum(*squares), jnp.maximum(*squares)
    ordinary = jnp.all((least > 1e-24) & (largest < 1e37))
    *parts, product = jax.lax.cond(ordinary, plainly, scaled, a, b)

    shortest = jnp.sqrt(jnp.where(epsilon > 0, epsilon, 1))
    cosine, inverse, whole, lack = product, [], [], []
    for scale, square in zip(parts[:2], parts[2:], strict=True):
        zero = square == 0
        norm = jnp.where(zero, 0, jnp.sqrt(jnp.where(zero, 1, square)))
        short = (epsilon > 0) & (scale * norm < shortest)
        own = jnp.where(zero, 0, 1 / jnp.where(zero, 1, norm))
        cosine = cosine * jnp.where(short, scale / shortest, own)
        inverse.append(jnp.where(short, 1 / shortest, own / scale))
        whole.append(~short)
        part = jnp.where(short, scale * norm, 0) / shortest
        lack.append(jnp.where(short, (1 - part) * (1 + part), jnp.where(zero, 1, 0)))
    return _Sides(cosine, tuple(inverse), tuple(whole), tuple(lack))


def _slopes(
    axes: tuple[int, ...], a: jax.Array, b: jax.Array, epsilon: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The derivatives of the cosine in a, b and epsilon."""
    sides = _sides(axes, a, b, epsilon)
    u, v = a * sides.inverse[0], b * sides.inverse[1]
    along_a, along_b = (jnp.where(whole, sides.cosine, 0) for whole in sides.whole)
    clipped = sum(jnp.where(whole, 0, 1) for whole in sides.whole)
    in_epsilon = -0.5 * clipped * sides.cosine / jnp.where(epsilon > 0, epsilon, 1)
    return (
        (v - along_a * u) * sides.inverse[0],
        (u - along_b * v) * sides.inverse[1],
        jnp.squeeze(in_epsilon, axes),
    )


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
    return [a, b, _inputs.real("epsilon", epsilon).astype(a.dtype)], axes, selected


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

    @closed_form(functools.partial(_slopes, axes), axes)
    def similarity(a: jax.Array, b: jax.Array, epsilon: jax.Array) -> jax.Array:
        return jnp.squeeze(_sides(axes, a, b, epsilon).cosine, axes)

    similarities = similarity(*vectors)
    similarities = _inputs.within(similarities, vectors[-1] >= 0)
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
    @closed_form(lambda *arguments: tuple(-x for x in _slopes(axes, *arguments)), axes)
    def distance(a: jax.Array, b: jax.Array, epsilon: jax.Array) -> jax.Array:
        sides = _sides(axes, a, b, epsilon)
        gap = a * sides.inverse[0] - b * sides.inverse[1]
        return 0.5 * (jnp.sum(gap * gap, axes) + jnp.squeeze(sides.lack[0] + sides.lack[1], axes))

    distances = _inputs.within(distance(*vectors), vectors[-1] >= 0)
    return reduced(distances, selected, weights, reduction)
