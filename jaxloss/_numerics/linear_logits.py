"""The logits of linear layers, tile by tile, and sums of their tangents; see `tiles`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .devices import place, varying_like
from .special import soft_cap
from .tiles import (
    Columns,
    Piece,
    RowLoop,
    Rows,
    Tiles,
    class_axis,
    columns_at,
    piece_at,
    pieces,
    scanned,
    sums_in,
    width_of,
)


def contract(a: jax.Array, b: jax.Array, axes: tuple[int, int], dtype: Any) -> jax.Array:
    """A matrix product with sums of float32; a factor that is wider than `dtype` is rounded to it.

    XLA rounds it, as the algorithm says, also in the products that JAX derives of this.
    """
    wide, precision = sums_in(dtype), None
    if a.dtype != b.dtype:
        a, b = a.astype(wide), b.astype(wide)
        # Of float16 there is no such algorithm on a CPU: the product is one of float32.
        if dtype == jnp.bfloat16:
            precision = jax.lax.DotAlgorithmPreset.BF16_BF16_F32
    dimensions = ((axes[:1], axes[1:]), ((), ()))
    return jax.lax.dot_general(a, b, dimensions, precision, preferred_element_type=wide)


def products(tiles: Tiles, hidden: jax.Array, kernel: jax.Array, dtype: Any) -> jax.Array:
    return contract(hidden, kernel, (1, 1 - class_axis(tiles)), dtype)


def finished(x: jax.Array, bias: Any, cap: Any, temperature: Any) -> jax.Array:
    """The logits of products."""
    if bias is not None:
        x = x + bias[None]
    if cap is not None:
        absent = x == -jnp.inf
        capped = soft_cap(jnp.where(absent, 0, x), jnp.broadcast_to(cap[:, None], x.shape))
        x = jnp.where(absent, x, capped)
    return x if temperature is None else x / temperature[:, None]


class Tile(NamedTuple):
    """The logits of a tile: -inf in columns that are not fresh; and where they are the label's."""

    x: jax.Array
    hit: jax.Array


def tile_of(tiles: Tiles, rows: Rows, columns: Columns, first: Any, piece: Piece) -> Tile:
    """Of some rows and some columns, whose first has that number among the device's first."""
    x = products(tiles, rows.hidden, columns.kernel, rows.hidden.dtype)
    x = finished(x, columns.bias, rows.cap, rows.temperature)
    number = jnp.arange(piece.size, dtype=jnp.int32)[None]
    start = jnp.asarray(first + piece.start, jnp.int32)
    hit = rows.labels[:, None] - start == number
    if piece.fresh is not None:
        x, hit = jnp.where(piece.fresh[None], x, -jnp.inf), hit & piece.fresh[None]
    return Tile(x, hit)


def first_column(tiles: Tiles, columns: Columns) -> Any:
    """The number of the first column that this device has."""
    return place(tiles.axis) * width_of(tiles, columns)


def wide(tree: Any) -> Any:
    """Tangents in float32 at least, and so what is added up of their cotangents."""
    return jax.tree.map(lambda x: x.astype(sums_in(x.dtype)), tree)


def moves(by: Any) -> bool:
    return bool(jax.tree.leaves(by))


def moved(
    tiles: Tiles, rows: Rows, columns: Columns, by_rows: Rows, by_columns: Columns
) -> jax.Array:
    """The tangent of the logits of a tile."""
    dtype = rows.hidden.dtype
    x, change = products(tiles, rows.hidden, columns.kernel, dtype), None
    if by_rows.hidden is not None:
        change = products(tiles, by_rows.hidden, columns.kernel, dtype)
    if by_columns.kernel is not None:
        more = products(tiles, rows.hidden, by_columns.kernel, dtype)
        change = more if change is None else change + more
    moving: dict[str, Any] = {} if change is None else {"x": (x, change)}
    for name, at, by in (
        ("bias", columns.bias, by_columns.bias),
        ("cap", rows.cap, by_rows.cap),
        ("temperature", rows.temperature, by_rows.temperature),
    ):
        if by is not None:
            moving[name] = (at, by)
    fixed = {"x": x, "bias": columns.bias, "cap": rows.cap, "temperature": rows.temperature}
    at, by = ({name: pair[i] for name, pair in moving.items()} for i in (0, 1))
    if not moving:
        return jnp.zeros_like(x)
    return jax.jvp(lambda moving: finished(**(fixed | moving)), (at,), (by,))[1]


def tangent_sums(
    tiles: Tiles,
    heads: Sequence[tuple[Rows, Columns]],
    by: Sequence[tuple[Rows, Columns]],
    found: Any,
    change: Callable[..., Any],
    nothing: Any,
) -> Any:
    """Sums over all columns that are linear in tangents, and that JAX transposes.

    Args:
        tiles: How the logits are split.
        heads: Linear layers of the same rows and columns.
        by: The tangents of what belongs to them, None where it does not move.
        found: What else is known of each row.
        change: Takes the tiles of the heads, the tangents of their logits, `found` and the columns
            of these tiles, and the tangents of the columns; returns a tree of sums of each row.
        nothing: A tree like that, with whether the sum is wanted; None where it is not.

    Returns:
        A tree like `nothing`.
    """
    first = first_column(tiles, heads[0][1])
    loop, span = RowLoop.of(tiles, heads[0][0]), width_of(tiles, heads[0][1])
    count, size = pieces(span, tiles.columns)
    rows, columns = [x for x, _ in heads], [x for _, x in heads]
    by_rows, by_columns = [x for x, _ in by], [x for _, x in by]
    dtype = sums_in(rows[0].hidden.dtype)

    # Without the checkpoint the tiles that the tangents are multiplied with would be kept; and with
    # slices that are taken outside of it, these would be.
    @functools.partial(jax.checkpoint, prevent_cse=False)
    def due(i: Any, j: Any, by_rows: Any, by_columns: Any) -> Any:
        """The parts that are due to a tile, whose tangents are given."""
        rows_at, across = loop.piece(i), piece_at(j, span, size)
        some_rows, some_found = loop.at((rows, found), rows_at)
        some = [columns_at(tiles, x, across) for x in columns]
        given = [tile_of(tiles, x, y, first, across) for x, y in zip(some_rows, some, strict=True)]
        moves = []
        for head in zip(some_rows, some, by_rows, by_columns, strict=True):
            change_of = moved(tiles, *head)
            fresh = across.fresh
            moves.append(change_of if fresh is None else jnp.where(fresh[None], change_of, 0))
        changes = change(given, moves, some_found, some, by_columns)
        if (new := loop.fresh(rows_at)) is not None:
            changes = jax.tree.map(lambda x: jnp.where(new, x, 0), changes)
        return changes

    def of_columns(by: Any, j: Any) -> Any:
        return [wide(columns_at(tiles, x, piece_at(j, span, size))) for x in by]

    def of_rows(by: Any, i: Any) -> Any:
        return wide(loop.at(by, loop.piece(i)))

    def zeros(length: int, *by: Any) -> Any:
        empty = jax.tree.map(lambda _: jnp.zeros((length,), dtype), nothing)
        return varying_like(empty, rows, columns, by)

    def added(total: Any, more: Any, i: Any) -> Any:
        rows_at = loop.piece(i)
        return loop.put(total, jax.tree.map(jnp.add, loop.at(total, rows_at), more), rows_at)

    def together(by_rows: Any, by_columns: Any) -> Any:
        """In one loop over all tiles."""
        large = wide(by_rows)

        def step(total: Any, k: Any) -> Any:
            i, j = k % loop.steps, k // loop.steps
            return added(total, due(i, j, of_rows(large, i), of_columns(by_columns, j)), i)

        start = zeros(loop.total, by_rows, by_columns)
        return scanned(step, start, loop.steps * count)

    def by_row(by_rows: Any, still: Any) -> Any:
        """In a loop over the rows, around one over the columns."""

        def step(total: Any, i: Any) -> Any:
            some = of_rows(by_rows, i)

            def inner(more: Any, j: Any) -> Any:
                return jax.tree.map(jnp.add, more, due(i, j, some, still))

            return added(total, scanned(inner, zeros(loop.size * loop.parts, by_rows), count), i)

        return scanned(step, zeros(loop.total, by_rows), loop.steps)

    def by_column(still: Any, by_columns: Any) -> Any:
        """In a loop over the columns, around one over the rows."""

        def step(total: Any, j: Any) -> Any:
            some = of_columns(by_columns, j)

            def inner(total: Any, i: Any) -> Any:
                return added(total, due(i, j, still, some), i)

            return scanned(inner, total, loop.steps)

        return scanned(step, zeros(loop.total, by_columns), count)

    if not (tiles.apart and moves(by_rows) and moves(by_columns)):
        return together(by_rows, by_columns)
    none: Any = None
    still = [Rows(none, none) for _ in heads], [Columns(none) for _ in heads]
    both = by_row(by_rows, still[1]), by_column(still[0], by_columns)
    return jax.tree.map(jnp.add, *both)


def jvp_of_moving(function: Callable[..., Any], primals: Any, tangents: Any) -> Any:
    """`jax.jvp` in those leaves of the primals whose tangent is not None."""
    leaves, tree = jax.tree.flatten(primals)
    moves = jax.tree.leaves(tangents, is_leaf=lambda x: x is None)
    # An optional array that is absent is no leaf of the primals, but a None of the tangents.
    places = jax.tree.leaves(primals, is_leaf=lambda x: x is None)
    moves = [move for move, place in zip(moves, places, strict=True) if place is not None]
    at = [i for i, move in enumerate(moves) if move is not None]

    def of(*moving: jax.Array) -> Any:
        given = list(leaves)
        for i, x in zip(at, moving, strict=True):
            given[i] = x
        return function(*jax.tree.unflatten(tree, given))

    return jax.jvp(of, tuple(leaves[i] for i in at), tuple(moves[i] for i in at))
