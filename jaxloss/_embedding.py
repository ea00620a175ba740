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


def _norm(x: jax.Array, axes: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
    """A scale and the norm over that scale, 0 for a zero vector.

    Where squares might overflow or vanish the scale is the largest entry, and 1 else. The
    product does not depend on it, so its derivatives may take it for a constant.
    """

    def plainly(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        return jnp.ones_like(square), square

    def scaled(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        largest = jax.lax.stop_gradient(jnp.max(jnp.abs(x), axes, keepdims=True, initial=0))
        largest = jnp.where(largest == 0, 1, largest)
        return largest, jnp.sum(jnp.square(x / largest), axes, keepdims=True)

    square = jnp.sum(x * x, axes, keepdims=True)
    ordinary = jnp.all((square > 1e-24) & (square < 1e37))
    scale, square = jax.lax.cond(ordinary, plainly, scaled, x)
    zero = square == 0
    return scale, jnp.where(zero, 0, jnp.sqrt(jnp.where(zero, 1, square)))


class _Unit(NamedTuple):
    """A vector over sqrt(max(|x|^2, epsilon)).

    Attributes:
        vector: The quotient; zeros for a zero vector.
        first: One factor of its reciprocal divisor; two, so that each is in range.
        second: The other; 0 for a zero vector, and so is its derivative.
        whole: Whether the divisor is |x|.
        lack: By how much the squared norm of the quotient misses 1.
    """

    vector: jax.Array
    first: jax.Array
    second: jax.Array
    whole: jax.Array
    lack: jax.Array


def _unit(x: jax.Array, axes: tuple[int, ...], epsilon: jax.Array) -> _Unit:
    scale, norm = _norm(x, axes)
    least = jnp.sqrt(jnp.where(epsilon > 0, epsilon, 1))
    short = (epsilon > 0) & (scale * norm < least)
    zero = ~short & (norm == 0)
    first = jnp.where(short, 1, 1 / scale)
    second = jnp.where(short, 1 / least, jnp.where(zero, 0, 1 / jnp.where(norm == 0, 1, norm)))
    part = jnp.where(short, scale * norm, 0) / least
    lack = jnp.where(short, (1 - part) * (1 + part), jnp.where(zero, 1, 0))
    return _Unit((x * first) * second, first, second, ~short, lack)


def _slopes(
    axes: tuple[int, ...], a: jax.Array, b: jax.Array, epsilon: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The derivatives of the cosine in a, b and epsilon."""
    u, v = _unit(a, axes, epsilon), _unit(b, axes, epsilon)
    cosine = jnp.sum(u.vector * v.vector, axes, keepdims=True)
    in_a = (v.vector - jnp.where(u.whole, cosine, 0) * u.vector) * u.second * u.first
    in_b = (u.vector - jnp.where(v.whole, cosine, 0) * v.vector) * v.second * v.first
    clipped = jnp.where(u.whole, 0, 1) + jnp.where(v.whole, 0, 1)
    in_epsilon = -0.5 * clipped * cosine / jnp.where(epsilon > 0, epsilon, 1)
    return in_a, in_b, jnp.squeeze(in_epsilon, axes)


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
        return jnp.sum(_unit(a, axes, epsilon).vector * _unit(b, axes, epsilon).vector, axes)

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
        u, v = _unit(a, axes, epsilon), _unit(b, axes, epsilon)
        square = jnp.sum(jnp.square(u.vector - v.vector), axes)
        return 0.5 * (square + jnp.squeeze(u.lack + v.lack, axes))

    distances = _inputs.within(distance(*vectors), vectors[-1] >= 0)
    return reduced(distances, selected, weights, reduction)
