"""Lists of documents to be ranked: their preparation, and sums over their pairs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Float, Real

from .._contract import inputs
from .._contract.reduce import Losses, Reduction, Weights, Where, reduced
from .._numerics.xla import sums

Scores = Float[ArrayLike, "*batch documents"] | Sequence[Any]
Labels = Real[ArrayLike, "*batch documents"] | Sequence[Any]
# Pairs in one block: arrays of 1 MiB, which caches hold.
_PAIRS = 2**18


class Lists(NamedTuple):
    """Scores and labels `[lists, documents]`, ready for arithmetic.

    Attributes:
        scores, labels: 0 for a document that the mask excludes.
        there: Which documents are not excluded; None if none is.
        known: Whether nothing in a list is NaN, and no gain negative.
        where: The mask of the loss.
        shape: That of the loss.
    """

    scores: jax.Array
    labels: jax.Array
    there: jax.Array | None
    known: jax.Array
    where: jax.Array | None
    shape: tuple[int, ...]

    def filled(self, x: jax.Array, absent: float) -> jax.Array:
        """`x` with another number for documents that are excluded."""
        return x if self.there is None else jnp.where(self.there, x, absent)

    def option(self, name: str, value: ArrayLike) -> jax.Array:
        """A hyperparameter, one for each list."""
        return inputs.option(name, value, self.shape, self.scores.dtype).reshape(-1)

    def size(self) -> jax.Array:
        """The number of documents of each list."""
        count, size = self.scores.shape
        if self.there is None:
            return jnp.full((count,), size, self.scores.dtype)
        return jnp.sum(self.there, -1, dtype=jnp.int32).astype(self.scores.dtype)

    def ordered(self) -> jax.Array:
        """Whether there are two labels that differ."""
        highest = jnp.max(self.filled(self.labels, -jnp.inf), -1, initial=-jnp.inf)
        lowest = jnp.min(self.filled(self.labels, jnp.inf), -1, initial=jnp.inf)
        return highest > lowest

    def reduced(
        self,
        losses: jax.Array,
        weights: Weights,
        reduction: Reduction,
        counted: jax.Array | None = None,
    ) -> Losses:
        """Reduced losses of lists; those that are not `counted` cost and weigh nothing."""
        counts = None
        if counted is not None:
            # What is unknown counts, or its derivative would be 0.
            counted |= ~self.known
            losses = jnp.where(counted, losses, 0)
            counts = counted.astype(losses.dtype).reshape(self.shape)
        losses = inputs.nan_outside(losses, self.known).reshape(self.shape)
        return reduced(losses, self.where, weights, reduction, counts=counts)


def lists(data: Mapping[str, Any], where: Where, *, gains: bool = False) -> Lists:
    """The inputs of a ranking loss.

    Args:
        data: Scores, then labels.
        where: The user's mask.
        gains: Whether negative labels are out of the domain.
    """
    s, y = inputs.same_shape(data, scalar=False)
    name = next(iter(data))
    (axis,) = inputs.consumed(-1, name, s)
    dtype = inputs.computing_dtype([s, y])
    s, y = s.astype(dtype), y.astype(dtype)
    shape, size = s.shape[:axis], s.shape[axis]
    there, selected = None, None
    if where is not None:
        there, selected = inputs.selection(where, name, s.shape, (axis,))
        s, y = jnp.where(there, s, 0), jnp.where(there, y, 0)
        there = there.reshape(-1, size) if size else None
    if not size:
        selected = jnp.zeros(shape, bool)
    s, y = (x.reshape(math.prod(shape), size) for x in (s, y))
    # By extremes, as what is compared would be written to memory before it is reduced.
    highest = jnp.max(jax.lax.stop_gradient(s), -1, initial=-jnp.inf)
    lowest = jnp.min(jax.lax.stop_gradient(y), -1, initial=jnp.inf)
    fine = (lowest >= 0) if gains else ~jnp.isnan(lowest)
    return Lists(s, y, there, ~jnp.isnan(highest) & fine, selected, shape)


Terms = Callable[..., Sequence[jax.Array]]


def pair_sums(terms: Terms, documents: Any, *square: jax.Array) -> tuple[jax.Array, ...]:
    """The sums over j of terms of the pairs (i, j) of the documents of each list.

    Above `_PAIRS` pairs in a loop over blocks of them, so that memory grows with the documents
    and not with their pairs; derivatives compute a block anew.

    Args:
        terms: Takes what is known of the documents i and of the documents j, so that they
            broadcast, and, if there is a square, its (i, j) and its (j, i). Returns arrays of one
            shape.
        documents: A tree of arrays `[lists, documents]`.
        square: An array `[lists, documents, documents]`, or none.

    Returns:
        An array `[lists, documents]` for each term.
    """
    count, size = jax.tree.leaves(documents)[0].shape

    @jax.checkpoint
    def block(near: Any, far: Any, *square: jax.Array) -> tuple[jax.Array, ...]:
        near = jax.tree.map(lambda x: x[..., :, None], near)
        far = jax.tree.map(lambda x: x[..., None, :], far)
        columns = terms(near, far, *square)
        return sums((columns[0].ndim - 1,), *columns)

    if count * size * size <= _PAIRS:
        return block(documents, documents, *(y for x in square for y in (x, x.mT)))

    def of_lists(first: jax.Array, number: int) -> tuple[jax.Array, ...]:
        far = jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, first, number), documents)

        def of_rows(start: jax.Array, width: int) -> tuple[jax.Array, ...]:
            near = jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, start, width, 1), far)
            parts = []
            for x in square:
                row = jax.lax.dynamic_slice(x, (first, start, 0), (number, width, size))
                column = jax.lax.dynamic_slice(x, (first, 0, start), (number, size, width))
                parts += [row, column.mT]
            return block(near, far, *parts)

        # In two blocks at least: XLA on CPU would take the slice of the lists into the sums, which
        # it then computes five times slower.
        return _looped(of_rows, size, min(max(1, _PAIRS // size), -(-size // 2)), 1)

    return _looped(of_lists, count, max(1, _PAIRS // size**2), 0)


def _looped(part: Callable[..., Any], total: int, width: int, axis: int) -> Any:
    """The parts of `width` from a start on, for all starts, joined. The last two may overlap."""
    width = min(width, total)
    steps = -(-total // width)
    starts = jnp.minimum(jnp.arange(steps, dtype=jnp.int32) * width, total - width)
    parts = jax.lax.map(lambda start: part(start, width), starts)

    def joined(x: jax.Array) -> jax.Array:
        shape = list(x.shape[1:])
        shape[axis] *= steps - 1
        whole = jnp.moveaxis(x[:-1], 0, axis).reshape(shape)
        rest = jax.lax.slice_in_dim(x[-1], steps * width - total, width, axis=axis)
        return jnp.concatenate([whole, rest], axis)

    return jax.tree.map(joined, parts)


def gains(labels: jax.Array, relative: bool = True) -> jax.Array:
    """2^y - 1, with the digits of small y; relative to about the largest 2^y of the list, if so.

    2^y is a power of 2, which is exact, times what is left of it between 0.7 and 1.4.
    """
    y = jax.lax.stop_gradient(labels)
    whole, top = jnp.round(y), jnp.zeros((), y.dtype)
    if relative:
        top = jnp.round(jnp.max(y, -1, keepdims=True, initial=0))
    scale, one = _power(whole - top), _power(-top)
    return scale * jnp.expm1((labels - whole) * math.log(2)) + (scale - one)


def _power(exponents: jax.Array) -> jax.Array:
    """2 to whole numbers, 0 where it is below the smallest normal number."""
    info = jnp.finfo(exponents.dtype)
    within = jnp.clip(exponents, info.minexp, info.maxexp - 1).astype(jnp.int32)
    power = jnp.ldexp(jnp.ones_like(exponents), within)
    power = jnp.where(exponents < info.minexp, 0, power)
    return jnp.where(exponents >= info.maxexp, jnp.inf, power)
