"""Tiles of the logits of linear layers, and loops over them: the logits are never held whole.

A tile is some rows (tokens) by some columns (classes). Sums of float16 and bfloat16 are float32,
those over tiles included: each gradient is rounded once, whatever the number of tiles.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .sharding import varying

# The columns of a tile of a TPU's registers.
_LANES = 128


class Tiles(NamedTuple):
    """How the logits are split.

    Attributes:
        rows: Of a tile.
        columns: Of a tile.
        apart: Whether gradients in the rows and in the columns have loops of their own: a fifth
            matrix product, and no float32 array as large as the rows are in bfloat16.
        parts: The rows of a tile come from so many parts of all rows, as the devices hold them
            when a compiler distributes them.
        transposed: Whether the kernel is `[V, D]`.
        axis: The mesh axes over which the columns are distributed, inside `shard_map`.
    """

    rows: int
    columns: int
    apart: bool = False
    parts: int = 1
    transposed: bool = False
    axis: Hashable = None


class Rows(NamedTuple):
    """What belongs to rows.

    Attributes:
        hidden: `[N, D]`.
        labels: A column of each row, which exists: int32 `[N]`.
        cap: Bounds the logits smoothly, `[N]`.
        temperature: What they are divided by then, `[N]`.
    """

    hidden: jax.Array
    labels: jax.Array
    cap: Any = None
    temperature: Any = None


class Columns(NamedTuple):
    """What belongs to columns.

    Attributes:
        kernel: `[D, V]`, or `[V, D]` if `Tiles.transposed`.
        bias: `[V]`. A column of bias -inf is not there.
        weights: Class weights, `[V]`.
    """

    kernel: jax.Array
    bias: Any = None
    weights: Any = None


# what it shares with the one before is masked: not `fresh`.


def sums_in(dtype: Any) -> Any:
    """The dtype of sums of numbers of `dtype`."""
    return jnp.dtype(jnp.float64 if dtype == jnp.float64 else jnp.float32)


class Piece(NamedTuple):
    start: Any
    size: int
    fresh: jax.Array | None


def pieces(total: int, size: int) -> tuple[int, int]:
    """How many pieces, of about that size at most, and their size.

    Of 128 or more it is a multiple of 128: a TPU otherwise stores a gradient transposed, and copies
    it in the end, 1125 MiB of 256,000 columns of 2304. One without a remainder, if there is one,
    leaves nothing to be masked.
    """
    if not isinstance(total, int):
        return 1, total
    count = max(-(-total // max(size, 1)), 1)
    even = -(-total // count)
    if count == 1 or even < _LANES:
        return count, even
    groups, rest = divmod(total, _LANES)
    most = -(-even // _LANES)
    for each in range(most, most // 2, -1):
        if not rest and groups % each == 0:
            return groups // each, each * _LANES
    return -(-total // (most * _LANES)), most * _LANES


def piece_at(i: Any, total: int, size: int) -> Piece:
    if total is size or not total or total % size == 0:
        return Piece(i * size, size, None)
    start = jnp.minimum(i * size, total - size)
    return Piece(start, size, start + jnp.arange(size) >= i * size)


def at_piece(tree: Any, piece: Piece, axis: int = 0) -> Any:
    def of(x: jax.Array) -> jax.Array:
        whole = piece.size == x.shape[axis]
        return x if whole else jax.lax.dynamic_slice_in_dim(x, piece.start, piece.size, axis)

    return jax.tree.map(of, tree)


def put_piece(tree: Any, update: Any, piece: Piece, axis: int = 0) -> Any:
    def into(x: jax.Array, y: jax.Array) -> jax.Array:
        whole = piece.size == x.shape[axis]
        return y if whole else jax.lax.dynamic_update_slice_in_dim(x, y, piece.start, axis)

    return jax.tree.map(into, tree, update)


def scanned(step: Callable[[Any, Any], Any], state: Any, count: int) -> Any:
    if count == 1:
        return step(state, 0)
    return jax.lax.scan(lambda state, i: (step(state, i), None), state, jnp.arange(count))[0]


class RowLoop(NamedTuple):
    """Pieces of the rows, which take as many from each of several parts of them."""

    parts: int
    each: int
    steps: int
    size: int

    @property
    def total(self) -> int:
        """The number of all rows."""
        return self.parts * self.each

    @classmethod
    def of(cls, tiles: Tiles, rows: Rows) -> RowLoop:
        each = rows.hidden.shape[0] // tiles.parts
        return cls(tiles.parts, each, *pieces(each, tiles.rows // tiles.parts))

    def piece(self, i: Any) -> Piece:
        return piece_at(i, self.each, self.size)

    def split(self, tree: Any) -> Any:
        return jax.tree.map(lambda x: x.reshape(self.parts, self.each, *x.shape[1:]), tree)

    def merged(self, tree: Any) -> Any:
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), tree)

    def at(self, tree: Any, piece: Piece) -> Any:
        return self.merged(at_piece(self.split(tree), piece, 1))

    def put(self, tree: Any, update: Any, piece: Piece) -> Any:
        block = jax.tree.map(lambda x: x.reshape(self.parts, self.size, *x.shape[1:]), update)
        return self.merged(put_piece(self.split(tree), block, piece, 1))

    def fresh(self, piece: Piece) -> jax.Array | None:
        return None if piece.fresh is None else jnp.tile(piece.fresh, self.parts)

    def each_piece(self, function: Callable[[Any], Any], data: Any, like: Any) -> Any:
        """The results of a function of rows, for all of them."""
        if self.steps == 1:
            return function(data)
        some = jax.eval_shape(function, self.at(data, self.piece(0)))
        empty = jax.tree.map(lambda x: jnp.zeros((self.total, *x.shape[1:]), x.dtype), some)

        def step(found: Any, i: Any) -> Any:
            piece = self.piece(i)
            return self.put(found, function(self.at(data, piece)), piece)

        return scanned(step, varying(empty, like), self.steps)


def class_axis(tiles: Tiles) -> int:
    return 0 if tiles.transposed else 1


def width_of(tiles: Tiles, columns: Columns) -> int:
    return columns.kernel.shape[class_axis(tiles)]


def columns_at(tiles: Tiles, columns: Columns, piece: Piece) -> Columns:
    kernel = at_piece(columns.kernel, piece, class_axis(tiles))
    return Columns(kernel, *at_piece(columns[1:], piece))
