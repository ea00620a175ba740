"""Lists that lie in one vector, one after the other or mixed, become rows.

Where the longest list is short, rows of that length take less memory and less time than pairs of
all documents of the vector, which would be compared only to find that most are of two lists.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Int

from .._contract import inputs
from .._numerics.order import argsort, entries
from .._numerics.sharding import whole_along

SegmentNumbers = Int[ArrayLike, "*batch documents"] | Sequence[Any] | None


class Segments(NamedTuple):
    """Which documents of a vector make a list, as the user gave it.

    Attributes:
        numbers: `[..., documents]`, that of each document's list; None for vectors that are lists.
        lists: How many lists there are at most; None for as many as documents.
        longest: How many documents a list has at most; None for all.
    """

    numbers: SegmentNumbers = None
    lists: int | None = None
    longest: int | None = None


# Each vector is one list.
WHOLE = Segments()


class Rows(NamedTuple):
    """Vectors as rows of lists.

    Attributes:
        order: `[..., lists, size]`: the place in the vector of each document of a row.
        there: Whether there is such a document.
        known: `[..., lists]`: where a list lost no document, and no number is out of range.
    """

    order: jax.Array
    there: jax.Array
    known: jax.Array

    def of(self, x: jax.Array) -> jax.Array:
        """Numbers of documents `[..., documents]` as rows."""
        lists, size = self.order.shape[-2:]
        flat = self.order.reshape(*self.order.shape[:-2], lists * size)
        return _at(x, flat).reshape(self.order.shape)


def _at(x: jax.Array, index: jax.Array) -> jax.Array:
    """The entries of vectors at some places of each."""
    return entries(x[None], index[None])[0]


def _counts(numbers: jax.Array, count: int) -> jax.Array:
    """How often each number below `count` is among those of a vector."""

    def of_vector(numbers: jax.Array) -> jax.Array:
        return jnp.zeros(count, jnp.int32).at[numbers].add(1, mode="drop")

    for _ in numbers.shape[:-1]:
        of_vector = jax.vmap(of_vector)
    return of_vector(numbers)


def whole_number(name: str, value: Any) -> None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise ValueError(f"{name} must be a positive integer, got {inputs.shown(value)}")


def rows_of(name: str, scores: jax.Array, segments: Segments, where: Any) -> Rows | None:
    """The lists of vectors of documents.

    Args:
        name: That of the scores.
        scores: `[..., documents]`.
        segments: Which documents make a list.
        where: A mask of documents or None.
    """
    if segments.numbers is None:
        options = {"num_segments": segments.lists, "segment_size": segments.longest}
        for given, value in options.items():
            if value is not None:
                raise ValueError(f"{given} needs segments, which are not given")
        return None
    whole_number("num_segments", segments.lists)
    whole_number("segment_size", segments.longest)
    numbers = inputs.real("segments", segments.numbers)
    got = inputs.described(**{name: scores, "segments": numbers})
    inputs.check_integers(numbers, f"segments must be integers, got {got}")
    inputs.check_shape(numbers, scores.shape, f"segments must have the shape of {name}, got {got}")
    length = scores.shape[-1]
    count = length if segments.lists is None else segments.lists
    size = length if segments.longest is None else min(segments.longest, length)
    numbers = whole_along(numbers, (-1,)).astype(jnp.int32)
    counted = jnp.ones(numbers.shape, bool)
    if where is not None:
        counted = inputs.mask(where, scores.shape, name, scores)
    inside = (numbers >= 0) & (numbers < count)
    # Documents that are excluded come last, behind all lists.
    keys = jnp.where(counted & inside, numbers, count)
    order = argsort(keys)
    held = _counts(keys, count)
    first = jnp.cumsum(held, -1, dtype=jnp.int32) - held
    steps = jnp.arange(size, dtype=jnp.int32).reshape((1,) * keys.ndim + (-1,))
    place, there = first[..., None] + steps, steps < held[..., None]
    at = jnp.where(there, place, 0).reshape(*place.shape[:-2], count * size)
    known = held <= size
    known &= jnp.all(inside | ~counted, -1, keepdims=True)
    return Rows(_at(order, at).reshape(place.shape), there, known)
