"""Sums over all pairs of documents, without an array of them.

Block by block, or in reductions that compute the pairs they read: memory grows with the documents
and not with their pairs, and derivatives compute the pairs anew.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from .._numerics.reductions import sums
from .._numerics.sharding import by_rows, parts
from .._numerics.xla import at_most, looped, unshared

# Pairs in one block: arrays of 1 MiB in float32, which processors' caches hold.
_PAIRS = 2**18

Terms = Callable[[Any, Any], Sequence[jax.Array]]


def both(documents: Any) -> tuple[Any, Any]:
    """The documents i and j of all pairs (i, j), as arrays that broadcast against each other.

    Args:
        documents: A tree of arrays `[lists, documents]` or, of what is known of pairs,
            `[lists, documents, documents]`.

    Returns:
        Two trees of three axes each. Of an array of pairs the first has the (i, j), the second
        the (j, i).
    """
    of_i = jax.tree.map(lambda x: x[:, :, None] if x.ndim == 2 else x, documents)
    of_j = jax.tree.map(lambda x: x[:, None, :] if x.ndim == 2 else x.mT, documents)
    return of_i, of_j


def pair_sums(
    terms: Terms, documents: Any, plain: Callable[[Any], tuple[jax.Array, ...]] | None = None
) -> tuple[jax.Array, ...]:
    """The sums over j of terms of the pairs (i, j) of the documents of each list.

    Args:
        terms: Takes the documents i and the documents j; see `both`. Returns arrays of one shape.
        documents: A tree of arrays; see `both`.
        plain: Takes the documents and returns the same sums without a loop, if not as `at_once`
            does.

    Returns:
        An array `[lists, documents]` for each term.
    """
    plain = functools.partial(at_once, terms) if plain is None else plain
    return by_rows(functools.partial(_pair_sums, terms, plain), documents)


def _pair_sums(
    terms: Terms, plain: Callable[[Any], tuple[jax.Array, ...]], documents: Any
) -> tuple[jax.Array, ...]:
    size = jax.tree.leaves(documents)[0].shape[1]
    return looped(functools.partial(_in_blocks, terms), plain, size, documents)


def at_once(
    terms: Terms,
    documents: Any,
    reduce: Callable[[jax.Array, int], jax.Array] = jnp.sum,
    over_i: int = 0,
) -> tuple[jax.Array, ...]:
    """`pair_sums` as a reduction for each term, which computes the pairs of that term anew.

    Args:
        terms: See `pair_sums`.
        documents: See `pair_sums`.
        reduce: Takes an array and the axis to reduce.
        over_i: How many of the terms, the last ones, are reduced over i instead of j.
    """

    @jax.checkpoint
    def totals(documents: Any) -> list[jax.Array]:
        columns = terms(*both(documents))
        over_j = len(columns) - over_i
        return [reduce(x, 2 if k < over_j else 1) for k, x in enumerate(columns)]

    documents = unshared(documents)
    found = totals(documents)
    for k in range(1, len(found)):
        documents = unshared(documents)
        found[k] = totals(documents)[k]
    return tuple(found)


def _in_blocks(terms: Terms, documents: Any) -> tuple[jax.Array, ...]:
    """Up to `_PAIRS` pairs at once, more of them in a loop over blocks."""
    count, size = jax.tree.leaves(documents)[0].shape

    @jax.checkpoint
    def block(of_i: Any, of_j: Any) -> tuple[jax.Array, ...]:
        columns = terms(of_i, of_j)
        return sums((columns[0].ndim - 1,), *columns)

    groups = parts(count)
    if at_most(size * size, _PAIRS) and at_most(count * size * size, _PAIRS * groups):
        return block(*both(documents))
    if groups == 1:
        return _in_loops(block, documents)
    apart = jax.tree.map(lambda x: x.reshape(groups, count // groups, *x.shape[1:]), documents)
    found = jax.vmap(functools.partial(_in_loops, block))(apart)
    return jax.tree.map(lambda x: x.reshape(count, size), found)


def _in_loops(block: Callable[..., tuple[jax.Array, ...]], documents: Any) -> tuple[jax.Array, ...]:
    """A function of the documents of some pairs, summed up over blocks of them."""
    count, size = jax.tree.leaves(documents)[0].shape

    def of_lists(first: jax.Array, number: int) -> tuple[jax.Array, ...]:
        # Arrays of pairs are cut once, in `of_rows`: a list of them may be large.
        some = jax.tree.map(
            lambda x: jax.lax.dynamic_slice_in_dim(x, first, number) if x.ndim == 2 else x,
            documents,
        )

        def of_rows(start: jax.Array, width: int) -> tuple[jax.Array, ...]:
            def rows(x: jax.Array) -> jax.Array:
                if x.ndim == 2:
                    return jax.lax.dynamic_slice_in_dim(x, start, width, 1)[:, :, None]
                return jax.lax.dynamic_slice(x, (first, start, 0), (number, width, size))

            def columns(x: jax.Array) -> jax.Array:
                if x.ndim == 2:
                    return x[:, None, :]
                return jax.lax.dynamic_slice(x, (first, 0, start), (number, size, width)).mT

            return block(jax.tree.map(rows, some), jax.tree.map(columns, some))

        # In two blocks at least: the slice of the lists would become a part of the sums, which then
        # take five times as long.
        return _looped(of_rows, size, min(max(1, _PAIRS // size), -(-size // 2)), 1)

    return _looped(of_lists, count, max(1, _PAIRS // size**2), 0)


def _looped(part: Callable[..., Any], total: int, width: int, axis: int) -> Any:
    """Parts of an axis, computed one after the other and joined.

    Args:
        part: Takes where a part starts and the width of all parts; returns a tree of arrays.
        total: The size of the axis.
        width: The size of a part. The last starts earlier if it would be shorter, and of what it
            has in common with the one before it is read once.
        axis: The axis, of the arrays that `part` returns.
    """
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
