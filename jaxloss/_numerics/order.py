"""Sorts and searches along the last axis, whose rows may be sharded.

JAX's own make indices and bounds that are not; see `sharding.py`.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from . import xla
from .sharding import sharded_like


def positions(x: jax.Array) -> jax.Array:
    """The index of each entry along the last axis, of the shape of `x`."""
    return sharded_like(jax.lax.broadcasted_iota(jnp.int32, x.shape, x.ndim - 1), x)


def entries(x: jax.Array, index: jax.Array) -> jax.Array:
    """Those of each row at some places of it, which are not looked at for being outside."""
    rows = jax.vmap(
        lambda row, i: row.at[i].get(mode="promise_in_bounds", wrap_negative_indices=False)
    )
    for _ in x.shape[:-2]:
        rows = jax.vmap(rows)
    return rows(x, index)


def argsort(x: jax.Array) -> jax.Array:
    """The index of each entry in ascending order; of equal ones the first comes first."""
    return jax.lax.sort((x, positions(x)), num_keys=1)[1]


def in_order(codes: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Integers in ascending order; the index of the entry at each place; the place of each entry.

    Of equal ones the first comes first.
    """
    size = codes.shape[-1]
    single = size * size <= jnp.iinfo(jnp.int32).max
    return xla.sorted_alone(_as_integers if single else _in_pairs, _in_pairs, codes)


def _in_pairs(codes: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    ordered, order = jax.lax.sort((codes, positions(codes)), num_keys=1)
    return ordered, order, argsort(order)


def _as_integers(codes: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Each entry as one integer: how many are below it, times their number, plus its index."""
    size, place = codes.shape[-1], positions(codes)
    ordered = jax.lax.sort(codes, is_stable=False)

    def places(keys: jax.Array) -> jax.Array:
        return jax.lax.sort(keys * size + place, is_stable=False) % max(1, size)

    order = places(number_below(ordered, codes))
    return ordered, order, places(order)


# Up to so many entries places are counted, each compared with each as they are computed: of 8,192
# rows of 64 in 11 ms on two CPU cores, where XLA took 970 ms for the sorts.
_COUNTED = 64


def is_counted(x: jax.Array) -> bool:
    """Whether rows are so short that `middle_places` does not sort them."""
    size = x.shape[-1]
    return isinstance(size, int) and size <= _COUNTED


def middle_places(x: jax.Array) -> jax.Array:
    """Twice the place of each entry of a matrix in its row, in ascending order, from 0.

    Equal ones have the mean of their places. NaN is not counted, and its own place means nothing.
    """
    return (_counted_places if is_counted(x) else _sorted_places)(x)


def _counted_places(x: jax.Array) -> jax.Array:
    total = jnp.full_like(x, -1)  # each is equal to itself
    for i in range(x.shape[-1]):
        other = x[:, i : i + 1]
        total += jnp.where(other < x, 2, jnp.where(other == x, 1, 0))
    return total


def _sorted_places(x: jax.Array) -> jax.Array:
    last, place = x.ndim - 1, positions(x)
    ordered, order = jax.lax.sort((x, place), num_keys=1)
    change = ordered[:, 1:] != ordered[:, :-1]
    edge = jnp.ones_like(x[:, :1], bool)
    starts, ends = (jnp.concatenate(parts, -1) for parts in ((edge, change), (change, edge)))
    first = jax.lax.cummax(jnp.where(starts, place, 0), axis=last)
    final = jax.lax.cummin(jnp.where(ends, place, place.shape[-1]), axis=last, reverse=True)
    return jax.lax.sort((order, first + final), num_keys=1)[1].astype(x.dtype)


@jax.custom_jvp
def descending(x: jax.Array) -> jax.Array:
    """The entries, the largest first; in derivatives equal ones stay in order of index."""
    return -jax.lax.sort(-x)


@descending.defjvp
def _(primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> Any:
    order = argsort(-primals[0])
    return tuple(entries(x, order) for x in (*primals, *tangents))


def number_below(ordered: jax.Array, keys: jax.Array, *, equal: bool = False) -> jax.Array:
    """How many entries of its row are less than each key, or not greater.

    Args:
        ordered: Rows in ascending order.
        keys: Of the shape of `ordered`, in any order.
        equal: Whether entries that are equal to the key are counted.
    """

    def halved(bounds: tuple[jax.Array, jax.Array], _: None) -> tuple[Any, None]:
        low, high = bounds
        middle = (low + high) >> 1
        entry = entries(ordered, middle)
        below = entry <= keys if equal else entry < keys
        return (jnp.where(below, middle, low), jnp.where(below, high, middle)), None

    size = ordered.shape[-1]
    bounds = jnp.full_like(keys, 0, jnp.int32), jnp.full_like(keys, size, jnp.int32)
    steps = size.bit_length()
    return jax.lax.scan(halved, bounds, None, steps, unroll=max(1, steps))[0][1]
