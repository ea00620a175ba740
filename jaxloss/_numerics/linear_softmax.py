"""A linear layer and the softmax of its outputs, tile by tile: the logits are never held whole.

A tile is some rows (tokens) by some columns (classes). `statistics` reads each tile once and keeps
a few numbers of each row. Its derivatives compute the tiles again, which costs one matrix product
more than the derivatives of whole logits, four for three; `weighted_sum` computes them in the
forward pass, from rows of logits that are whole, and holds as many gradients as it is asked for.

Sums of float16 and bfloat16 are float32, those of tiles included: each gradient is rounded once,
whatever the number of tiles. `lax.scan` transposes a slice by adding to a part of one array.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero

from .reductions import score_and_rival
from .sharding import varying
from .special import soft_cap, softplus


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
    cap: jax.Array | None = None
    temperature: jax.Array | None = None


class Columns(NamedTuple):
    """What belongs to columns.

    Attributes:
        kernel: `[D, V]`, or `[V, D]` if `Tiles.transposed`.
        bias: `[V]`. A column of bias -inf is not there.
        weights: Class weights, `[V]`.
    """

    kernel: jax.Array
    bias: jax.Array | None = None
    weights: jax.Array | None = None


class Statistics(NamedTuple):
    """Of each row of logits x, with p = softmax(x) and the label y.

    Attributes:
        own: x_y.
        others: log(sum of exp(x_c) over c != y).
        spread: mean over c of w_c (-log p_c), of the columns that are there; None if not asked for.
        entropy: sum of p_c (-log p_c); None if not asked for.
        best: The first column with the largest logit; None if `entropy` is not asked for.
        mass: mean over c of w_c, as `spread`.
        count: How many columns are there, as `spread`.
    """

    own: jax.Array
    others: jax.Array
    spread: jax.Array | None = None
    entropy: jax.Array | None = None
    best: jax.Array | None = None
    mass: jax.Array | None = None
    count: jax.Array | None = None

    @property
    def surprisal(self) -> jax.Array:
        """-log p_y, to all digits of p_y and of 1 - p_y."""
        return softplus(self.others - self.own)

    @property
    def log_normalizer(self) -> jax.Array:
        """log(sum of exp(x))."""
        return log_sum(self.own, self.others)


class Asked(NamedTuple):
    """Which of the statistics are computed besides the first two."""

    spread: bool = False
    entropy: bool = False


def log_sum(a: jax.Array, b: jax.Array) -> jax.Array:
    """log(exp(a) + exp(b)), of which one is finite."""
    first = a > b
    gap = jnp.where(first, b - a, a - b)
    return jnp.where(first, a, b) + softplus(gap)


# Loops over tiles. Where pieces of one size do not fill an array, the last one starts earlier, and
# what it shares with the one before is masked: not `fresh`.


def _sums_in(dtype: Any) -> Any:
    """The dtype of sums of numbers of `dtype`."""
    return jnp.dtype(jnp.float64 if dtype == jnp.float64 else jnp.float32)


class _Piece(NamedTuple):
    start: Any
    size: int
    fresh: jax.Array | None


def _pieces(total: int, size: int) -> tuple[int, int]:
    """How many pieces of about that size, and their size."""
    if not isinstance(total, int):
        return 1, total
    count = max(-(-total // max(size, 1)), 1)
    return count, -(-total // count)


def _piece(i: Any, total: int, size: int) -> _Piece:
    if total is size or not total or total % size == 0:
        return _Piece(i * size, size, None)
    start = jnp.minimum(i * size, total - size)
    return _Piece(start, size, start + jnp.arange(size) >= i * size)


def _at(tree: Any, piece: _Piece, axis: int = 0) -> Any:
    def of(x: jax.Array) -> jax.Array:
        whole = piece.size == x.shape[axis]
        return x if whole else jax.lax.dynamic_slice_in_dim(x, piece.start, piece.size, axis)

    return jax.tree.map(of, tree)


def _put(tree: Any, update: Any, piece: _Piece, axis: int = 0) -> Any:
    def into(x: jax.Array, y: jax.Array) -> jax.Array:
        whole = piece.size == x.shape[axis]
        return y if whole else jax.lax.dynamic_update_slice_in_dim(x, y, piece.start, axis)

    return jax.tree.map(into, tree, update)


def _scanned(step: Callable[[Any, Any], Any], state: Any, count: int) -> Any:
    if count == 1:
        return step(state, 0)
    return jax.lax.scan(lambda state, i: (step(state, i), None), state, jnp.arange(count))[0]


class _RowLoop(NamedTuple):
    """Pieces of the rows, which take as many from each of several parts of them."""

    parts: int
    each: int
    count: int
    size: int

    @classmethod
    def of(cls, tiles: Tiles, rows: Rows) -> _RowLoop:
        each = rows.hidden.shape[0] // tiles.parts
        return cls(tiles.parts, each, *_pieces(each, tiles.rows // tiles.parts))

    def piece(self, i: Any) -> _Piece:
        return _piece(i, self.each, self.size)

    def split(self, tree: Any) -> Any:
        return jax.tree.map(lambda x: x.reshape(self.parts, self.each, *x.shape[1:]), tree)

    def merged(self, tree: Any) -> Any:
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), tree)

    def at(self, tree: Any, piece: _Piece) -> Any:
        return self.merged(_at(self.split(tree), piece, 1))

    def put(self, tree: Any, update: Any, piece: _Piece) -> Any:
        block = jax.tree.map(lambda x: x.reshape(self.parts, self.size, *x.shape[1:]), update)
        return self.merged(_put(self.split(tree), block, piece, 1))

    def fresh(self, piece: _Piece) -> jax.Array | None:
        return None if piece.fresh is None else jnp.tile(piece.fresh, self.parts)

    def each_piece(self, function: Callable[[Any], Any], data: Any, like: Any) -> Any:
        """The results of a function of rows, for all of them."""
        if self.count == 1:
            return function(data)
        some = jax.eval_shape(function, self.at(data, self.piece(0)))
        rows = self.parts * self.each
        empty = jax.tree.map(lambda x: jnp.zeros((rows, *x.shape[1:]), x.dtype), some)

        def step(found: Any, i: Any) -> Any:
            piece = self.piece(i)
            return self.put(found, function(self.at(data, piece)), piece)

        return _scanned(step, varying(empty, like), self.count)


def _class_axis(tiles: Tiles) -> int:
    return 0 if tiles.transposed else 1


def _width(tiles: Tiles, columns: Columns) -> int:
    return columns.kernel.shape[_class_axis(tiles)]


def _columns_at(tiles: Tiles, columns: Columns, piece: _Piece) -> Columns:
    kernel = _at(columns.kernel, piece, _class_axis(tiles))
    return Columns(kernel, *_at(columns[1:], piece))


def _contract(a: jax.Array, b: jax.Array, axes: tuple[int, int], dtype: Any) -> jax.Array:
    """A matrix product with sums of float32; a factor that is wider than `dtype` is rounded to it.

    XLA rounds it, as the algorithm says, also in the products that JAX derives of this.
    """
    wide, precision = _sums_in(dtype), None
    if a.dtype != b.dtype:
        presets = jax.lax.DotAlgorithmPreset
        half = {jnp.bfloat16: presets.BF16_BF16_F32, jnp.float16: presets.F16_F16_F32}
        precision = {jnp.dtype(kind): preset for kind, preset in half.items()}[jnp.dtype(dtype)]
        a, b = a.astype(wide), b.astype(wide)
    dimensions = ((axes[:1], axes[1:]), ((), ()))
    return jax.lax.dot_general(a, b, dimensions, precision, preferred_element_type=wide)


def _products(tiles: Tiles, hidden: jax.Array, kernel: jax.Array, dtype: Any) -> jax.Array:
    return _contract(hidden, kernel, (1, 1 - _class_axis(tiles)), dtype)


def _finished(x: jax.Array, bias: Any, cap: Any, temperature: Any) -> jax.Array:
    """The logits of products."""
    if bias is not None:
        x = x + bias[None]
    if cap is not None:
        absent = x == -jnp.inf
        capped = soft_cap(jnp.where(absent, 0, x), jnp.broadcast_to(cap[:, None], x.shape))
        x = jnp.where(absent, x, capped)
    return x if temperature is None else x / temperature[:, None]


class _Tile(NamedTuple):
    """The logits of a tile: -inf in columns that are not fresh; and where they are the label's."""

    x: jax.Array
    hit: jax.Array


def _tile(tiles: Tiles, rows: Rows, columns: Columns, first: Any, piece: _Piece) -> _Tile:
    """Of some rows and some columns, whose first has that number among the device's first."""
    x = _products(tiles, rows.hidden, columns.kernel, rows.hidden.dtype)
    x = _finished(x, columns.bias, rows.cap, rows.temperature)
    number = jnp.arange(piece.size, dtype=jnp.int32)[None]
    start = jnp.asarray(first + piece.start, jnp.int32)
    hit = rows.labels[:, None] - start == number
    if piece.fresh is not None:
        x, hit = jnp.where(piece.fresh[None], x, -jnp.inf), hit & piece.fresh[None]
    return _Tile(x, hit)


class _Sums(NamedTuple):
    """Sums over the columns so far; `top` is the largest logit but the label's, its odds are 1.

    Attributes:
        odds: Of exp(x - top), without the label's, as are `gaps`.
        gaps: Of exp(x - top) (top - x).
        missed: Of w (top - x).
        mass: Of w.
        count: Of the columns that are there.
        best: The first column with the largest logit but the label's.
    """

    own: jax.Array
    top: jax.Array
    odds: jax.Array
    missed: Any = None
    mass: Any = None
    count: Any = None
    gaps: Any = None
    best: Any = None


def _finite(top: jax.Array) -> jax.Array:
    return jnp.where(top == -jnp.inf, 0, top)


def _nothing(rows: Rows, asked: Asked) -> _Sums:
    zero = jnp.zeros(rows.labels.shape, _sums_in(rows.hidden.dtype))
    sums = _Sums(zero, jnp.full_like(zero, -jnp.inf), zero)
    if asked.spread:
        sums = sums._replace(missed=zero, mass=zero, count=zero)
    if asked.entropy:
        sums = sums._replace(gaps=zero, best=jnp.zeros_like(rows.labels))
    return sums


def _rescaled(sums: _Sums, top: jax.Array) -> _Sums:
    """The sums, against a logit that is not below theirs."""
    # Without others there are no odds, and `missed` is the label's, against 0.
    lift = _finite(top) - _finite(sums.top)
    less = jnp.exp(-jnp.where(sums.top == -jnp.inf, 0, lift))
    if sums.gaps is not None:
        sums = sums._replace(gaps=(sums.gaps + sums.odds * lift) * less)
    if sums.missed is not None:
        sums = sums._replace(missed=sums.missed + sums.mass * lift)
    return sums._replace(top=top, odds=sums.odds * less)


def _sums_of(tile: _Tile, weights: Any, first: Any, asked: Asked) -> _Sums:
    """Of the columns of one tile."""
    x, hit = tile
    own, top = (jnp.squeeze(y, -1) for y in score_and_rival((1,), x, hit))
    below = _finite(top)[:, None] - x
    # The selection comes last: XLA on CPU would store a bare exponential before it is summed.
    odds = jnp.where(hit, 0, jnp.exp(-below))
    sums = _Sums(own, top, jnp.sum(odds, -1))
    if asked.spread:
        there = x > -jnp.inf
        w = there.astype(x.dtype) if weights is None else jnp.where(there, weights[None], 0)
        missed = jnp.sum(jnp.where(there, w * (_finite(top)[:, None] - x), 0), -1)
        count = jnp.sum(there, -1, dtype=x.dtype)
        sums = sums._replace(missed=missed, mass=jnp.sum(w, -1), count=count)
    if asked.entropy:
        gaps = jnp.sum(jnp.where(odds == 0, 0, odds * below), -1)
        best = jnp.argmax(jnp.where(hit, -jnp.inf, x), -1).astype(jnp.int32) + jnp.asarray(
            first, jnp.int32
        )
        sums = sums._replace(gaps=gaps, best=best)
    return sums


def _joined(a: _Sums, b: _Sums) -> _Sums:
    """The sums of both, of which `a` has the first columns."""
    top = jnp.maximum(a.top, b.top)
    best = None if a.best is None else jnp.where(b.top > a.top, b.best, a.best)
    a, b = (_rescaled(x, top)._replace(top=None, best=None) for x in (a, b))
    return jax.tree.map(jnp.add, a, b)._replace(top=top, best=best)


def _over_devices(tiles: Tiles, sums: _Sums) -> _Sums:
    """The sums of the columns of all devices, by collectives of a few numbers of each row."""
    if tiles.axis is None:
        return sums
    axis: Any = tiles.axis
    top = jax.lax.pmax(sums.top, axis)
    best = None
    if sums.best is not None:
        last = jnp.iinfo(jnp.int32).max
        best = jax.lax.pmin(jnp.where(sums.top == top, sums.best, last), axis)
    local = _rescaled(sums, top)._replace(top=None, best=None)
    return jax.lax.psum(local, axis)._replace(top=top, best=best)


def _found(labels: jax.Array, sums: _Sums) -> Statistics:
    """What the sums say of each row."""
    others = sums.top + jnp.log(sums.odds)
    found = Statistics(sums.own, others)
    if sums.missed is not None:
        some = jnp.maximum(sums.count, 1)
        risen = jnp.where(sums.mass == 0, 0, found.log_normalizer - _finite(sums.top))
        spread = (sums.missed + sums.mass * risen) / some
        found = found._replace(spread=spread, mass=sums.mass / some, count=sums.count)
    if sums.gaps is not None:
        # The label's part, and that of the others: their share, times its surprisal and their own
        # entropy. No digits cancel.
        u, rest = found.surprisal, softplus(sums.own - others)
        among = jnp.log(sums.odds) + sums.gaps / sums.odds
        parts = [
            jnp.where(x == jnp.inf, 0, jnp.exp(-x) * y) for x, y in ((u, u), (rest, rest + among))
        ]
        ahead = (sums.own > sums.top) | ((sums.own == sums.top) & (labels < sums.best))
        best = jnp.where(ahead, labels, sums.best)
        found = found._replace(entropy=parts[0] + parts[1], best=best)
    return found


def _first_column(tiles: Tiles, columns: Columns) -> Any:
    """The number of the first column that this device has."""
    if tiles.axis is None:
        return 0
    axis: Any = tiles.axis
    return jax.lax.axis_index(axis) * _width(tiles, columns)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def statistics(tiles: Tiles, asked: Asked, rows: Rows, columns: Columns) -> Statistics:
    """What losses need of each row of logits."""
    loop, width = _RowLoop.of(tiles, rows), _width(tiles, columns)
    count, size = _pieces(width, tiles.columns)
    first = _first_column(tiles, columns)

    def of(rows: Rows) -> _Sums:
        def step(sums: _Sums, j: Any) -> _Sums:
            piece = _piece(j, width, size)
            some = _columns_at(tiles, columns, piece)
            tile = _tile(tiles, rows, some, first, piece)
            return _joined(sums, _sums_of(tile, some.weights, first + piece.start, asked))

        return _scanned(step, varying(_nothing(rows, asked), rows, columns), count)

    sums = loop.each_piece(of, rows, (rows, columns))
    return _found(rows.labels, _over_devices(tiles, sums))


def _present(tree: Any) -> Any:
    """Tangents, None where they are 0."""
    return jax.tree.map(
        lambda x: None if isinstance(x, SymbolicZero) else x,
        tree,
        is_leaf=lambda x: isinstance(x, SymbolicZero),
    )


def _wide(tree: Any) -> Any:
    """Tangents in float32 at least, and so what is added up of their cotangents."""
    return jax.tree.map(lambda x: x.astype(_sums_in(x.dtype)), tree)


def _moves(by: Any) -> bool:
    return bool(jax.tree.leaves(by))


def _moved(
    tiles: Tiles, rows: Rows, columns: Columns, by_rows: Rows, by_columns: Columns
) -> jax.Array:
    """The tangent of the logits of a tile."""
    dtype = rows.hidden.dtype
    x, change = _products(tiles, rows.hidden, columns.kernel, dtype), None
    if by_rows.hidden is not None:
        change = _products(tiles, by_rows.hidden, columns.kernel, dtype)
    if by_columns.kernel is not None:
        more = _products(tiles, rows.hidden, by_columns.kernel, dtype)
        change = more if change is None else change + more
    moving = {} if change is None else {"x": (x, change)}
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
    return jax.jvp(lambda moving: _finished(**(fixed | moving)), (at,), (by,))[1]


class _Changes(NamedTuple):
    """Tangents of statistics, or the parts of them that are due to some columns.

    Attributes:
        own: Of that.
        others: Of that.
        weighed: The sum of w_c times the tangent of x_c, of the columns that are there.
        weights: The sum of the tangent of w_c times -log p_c.
        mass: The sum of the tangent of w_c.
        entropy: Of that.
    """

    own: jax.Array
    others: jax.Array
    weighed: Any = None
    weights: Any = None
    mass: Any = None
    entropy: Any = None


def _changes(
    asked: Asked, tile: _Tile, moved: jax.Array, found: Statistics, weights: Any, by_weights: Any
) -> _Changes:
    """The parts that are due to the columns of a tile."""
    x, hit = tile
    odds = jnp.exp(jnp.where(hit, -jnp.inf, x) - _finite(found.others)[:, None])
    changes = _Changes(
        jnp.sum(jnp.where(hit, moved, 0), -1), jnp.sum(jnp.where(odds == 0, 0, odds * moved), -1)
    )
    if not any(asked):
        return changes
    there = x > -jnp.inf
    moved = jnp.where(there, moved, 0)
    u = jnp.where(there, found.log_normalizer[:, None] - x, 0)
    if asked.spread:
        w = 1 if weights is None else weights[None]
        changes = changes._replace(weighed=jnp.sum(w * moved, -1))
        if by_weights is not None:
            by_weights = jnp.where(there, by_weights[None], 0)
            changes = changes._replace(
                weights=jnp.sum(by_weights * u, -1), mass=jnp.sum(by_weights, -1)
            )
    if asked.entropy:
        p = jnp.where(there, jnp.exp(-u), 0)
        slope = p * jnp.where(p == 0, 0, u - found.entropy[:, None])
        changes = changes._replace(entropy=jnp.sum(slope * moved, -1))
    return changes


@functools.partial(statistics.defjvp, symbolic_zeros=True)
def _(tiles: Tiles, asked: Asked, primals: Any, tangents: Any) -> Any:
    rows, columns = primals
    found = statistics(tiles, asked, rows, columns)
    by_rows, by_columns = (_present(x) for x in tangents)
    changes = _all_changes(tiles, asked, (rows, found, columns), (by_rows, by_columns))
    if tiles.axis is not None:
        changes = jax.lax.psum(changes, tiles.axis)
    of_own, of_others = changes.own, changes.others
    moved = Statistics(of_own, of_others)
    u, rest = found.surprisal, softplus(found.own - found.others)
    of_lse = jnp.exp(-u) * of_own + jnp.exp(-rest) * of_others
    if asked.spread:
        some = jnp.maximum(found.count, 1)
        of_spread = found.mass * of_lse - changes.weighed / some
        of_mass = jnp.zeros_like(of_own)
        if changes.weights is not None:
            of_spread, of_mass = of_spread + changes.weights / some, changes.mass / some
        moved = moved._replace(spread=of_spread, mass=of_mass, count=jnp.zeros_like(of_own))
    if asked.entropy:
        none = np.zeros(found.best.shape, jax.dtypes.float0)
        moved = moved._replace(entropy=changes.entropy, best=none)
    return found, moved


def _all_changes(
    tiles: Tiles,
    asked: Asked,
    at: tuple[Rows, Statistics, Columns],
    by: tuple[Rows, Columns],
) -> _Changes:
    """The sums over all columns: linear in `by`, and transposed by JAX."""
    rows, found, columns = at
    loop, width = _RowLoop.of(tiles, rows), _width(tiles, columns)
    count, size = _pieces(width, tiles.columns)
    first = _first_column(tiles, columns)

    # Without the checkpoint the tiles that the tangents are multiplied with would be kept; and with
    # slices that are taken outside of it, these would be.
    @functools.partial(jax.checkpoint, prevent_cse=False)
    def due(i: Any, j: Any, by_rows: Rows, by_columns: Columns) -> _Changes:
        """The parts that are due to a tile, whose tangents are given."""
        piece = _piece(j, width, size)
        some_rows, some_found = loop.at((rows, found), loop.piece(i))
        some = _columns_at(tiles, columns, piece)
        tile = _tile(tiles, some_rows, some, first, piece)
        moved = _moved(tiles, some_rows, some, by_rows, by_columns)
        if piece.fresh is not None:
            moved = jnp.where(piece.fresh[None], moved, 0)
        changes = _changes(asked, tile, moved, some_found, some.weights, by_columns.weights)
        if (fresh := loop.fresh(loop.piece(i))) is not None:
            changes = jax.tree.map(lambda x: jnp.where(fresh, x, 0), changes)
        return changes

    def of_columns(by: Columns, j: Any) -> Columns:
        return _wide(_columns_at(tiles, by, _piece(j, width, size)))

    def of_rows(by: Any, i: Any) -> Any:
        return _wide(loop.at(by, loop.piece(i)))

    def nothing(by: tuple[Rows, Columns], count: int) -> _Changes:
        weighs = asked.spread and by[1].weights is not None
        wanted = (True, True, asked.spread, weighs, weighs, asked.entropy)
        zero = jnp.zeros((count,), found.own.dtype)
        return varying(_Changes(*(zero if x else None for x in wanted)), rows, columns, by)

    def added(total: _Changes, more: _Changes, i: Any) -> _Changes:
        piece = loop.piece(i)
        return loop.put(total, jax.tree.map(jnp.add, loop.at(total, piece), more), piece)

    def together(by: tuple[Rows, Columns]) -> _Changes:
        """In one loop over all tiles."""
        by_rows, by_columns = _wide(by[0]), by[1]

        def step(total: _Changes, k: Any) -> _Changes:
            i, j = k % loop.count, k // loop.count
            more = due(i, j, of_rows(by_rows, i), of_columns(by_columns, j))
            return added(total, more, i)

        return _scanned(step, nothing(by, rows.labels.size), loop.count * count)

    def by_row(by_rows: Rows) -> _Changes:
        """In a loop over the rows, around one over the columns."""
        still = Columns(None)

        def step(total: _Changes, i: Any) -> _Changes:
            some = of_rows(by_rows, i)

            def inner(more: _Changes, j: Any) -> _Changes:
                return jax.tree.map(jnp.add, more, due(i, j, some, still))

            empty = nothing((by_rows, still), loop.size * loop.parts)
            return added(total, _scanned(inner, empty, count), i)

        return _scanned(step, nothing((by_rows, still), rows.labels.size), loop.count)

    def by_column(by_columns: Columns) -> _Changes:
        """In a loop over the columns, around one over the rows."""
        still = Rows(None, None)

        def step(total: _Changes, j: Any) -> _Changes:
            some = of_columns(by_columns, j)
            return _scanned(
                lambda total, i: added(total, due(i, j, still, some), i), total, loop.count
            )

        return _scanned(step, nothing((still, by_columns), rows.labels.size), count)

    if not (tiles.apart and _moves(by[0]) and _moves(by[1])):
        return together(by)
    both = by_row(by[0]), by_column(by[1])
    none = lambda x: x is None  # noqa: E731
    return jax.tree.map(lambda a, b: b if a is None else a + b, *both, is_leaf=none)


class Amounts(NamedTuple):
    """How much of what a sum over rows takes of each: numbers, one for each row.

    Attributes:
        own: Of -log p_y.
        spread: Of `Statistics.spread`; None for nothing.
        square: Of the square of `Statistics.log_normalizer`; None for nothing.
    """

    own: jax.Array
    spread: Any = None
    square: Any = None

    def of(self, found: Statistics) -> Amounts:
        """What these are the amounts of."""
        spread = None if self.spread is None else found.spread
        square = None if self.square is None else found.log_normalizer**2
        return Amounts(found.surprisal, spread, square)


def total(parts: Amounts) -> jax.Array:
    """The sum of what is taken, for each row."""
    return functools.reduce(jnp.add, jax.tree.leaves(parts))


def summed(tiles: Tiles, rows: Rows, columns: Columns, amounts: Amounts) -> jax.Array:
    """The sum over all rows; its derivatives compute the tiles again."""
    found = statistics(tiles, Asked(spread=amounts.spread is not None), rows, columns)
    return jnp.sum(total(jax.tree.map(jnp.multiply, amounts, amounts.of(found))))


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def summed_with_gradients(
    tiles: Tiles, rows: Rows, columns: Columns, amounts: Amounts
) -> jax.Array:
    """`summed`, whose derivatives are computed beside it, from rows of logits that are whole.

    Only where it is differentiated, and only those that are asked for. All arrays are of the dtype
    of the sums: the gradients are what is added to.
    """
    return summed(tiles, rows, columns, amounts)


class _Gradients(NamedTuple):
    """Of which arrays; or the gradients, None where they are not asked for."""

    hidden: Any
    kernel: Any
    bias: Any


@functools.partial(summed_with_gradients.defjvp, symbolic_zeros=True)
def _(tiles: Tiles, primals: Any, tangents: Any) -> Any:
    by = by_rows, by_columns, by_amounts = tuple(_present(x) for x in tangents)
    others = (by_rows.cap, by_rows.temperature, by_columns.weights)
    if _moves(others):
        return _jvp_of_moving(functools.partial(summed, tiles), primals, by)
    asked = _Gradients(by_rows.hidden, by_columns.kernel, by_columns.bias)
    value, parts, slopes = _with_gradients(
        tiles, _Gradients(*(x is not None for x in asked)), *primals
    )
    of_classes = [
        jnp.vdot(slope, move)
        for slope, move in zip(slopes[1:], asked[1:], strict=True)
        if move is not None
    ]
    change = sum(of_classes, jnp.zeros_like(value))
    if tiles.axis is not None and of_classes:
        change = jax.lax.psum(change, tiles.axis)
    if asked.hidden is not None:
        change += jnp.vdot(slopes.hidden, asked.hidden)
    for part, move in zip(parts, by_amounts, strict=True):
        if move is not None:
            change += jnp.vdot(part, move)
    return value, change


def _jvp_of_moving(function: Callable[..., Any], primals: Any, tangents: Any) -> Any:
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


def _slopes(tile: _Tile, found: Statistics, amounts: Amounts, weights: Any) -> jax.Array:
    """The derivatives of the sum in the logits of whole rows."""
    x, hit = tile
    lse = found.log_normalizer
    p, more = jnp.exp(x - lse[:, None]), jnp.zeros_like(lse)
    if amounts.square is not None:
        more += 2 * amounts.square * lse
    if amounts.spread is not None:
        more += amounts.spread * found.mass
    # p - 1 at the label is minus the share of the others, which keeps its digits.
    own = more * jnp.exp(-found.surprisal) - amounts.own * jnp.exp(
        -softplus(found.own - found.others)
    )
    slopes = jnp.where(hit, own[:, None], (amounts.own + more)[:, None] * p)
    if amounts.spread is None:
        return slopes
    each = (amounts.spread / jnp.maximum(found.count, 1))[:, None]
    each = jnp.broadcast_to(each, x.shape) if weights is None else each * weights[None]
    return slopes - jnp.where(x > -jnp.inf, each, 0)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _with_gradients(
    tiles: Tiles, asked: _Gradients, rows: Rows, columns: Columns, amounts: Amounts
) -> tuple[jax.Array, Amounts, _Gradients]:
    """The sum, what is summed of each row, and gradients of the sum."""
    loop, width = _RowLoop.of(tiles, rows), _width(tiles, columns)
    count, size = _pieces(width, tiles.columns)
    first = _first_column(tiles, columns)
    wanted = Asked(spread=amounts.spread is not None)
    # Of the rows of this device alone, where all have the columns.
    columns = varying(columns, rows, amounts)

    def of_kernel(slopes: jax.Array, hidden: jax.Array, total: jax.Array) -> jax.Array:
        """The gradient so far and that of some rows, in pieces: a product of its size is none."""

        def step(total: jax.Array, j: Any) -> jax.Array:
            piece = _piece(j, width, size)
            some = _at(slopes, piece, 1)
            if piece.fresh is not None:
                some = jnp.where(piece.fresh[None], some, 0)
            factors = (some, hidden) if tiles.transposed else (hidden, some)
            more = _contract(*factors, (0, 0), hidden.dtype)
            axis = _class_axis(tiles)
            return _put(total, _at(total, piece, axis) + more, piece, axis)

        return _scanned(step, total, count)

    def step(state: tuple[Amounts, _Gradients], i: Any) -> tuple[Amounts, _Gradients]:
        parts, totals = state
        piece = loop.piece(i)
        some, amount = loop.at((rows, amounts), piece)
        if (fresh := loop.fresh(piece)) is not None:
            amount = jax.tree.map(lambda x: jnp.where(fresh, x, 0), amount)
        given = {"x": _products(tiles, some.hidden, columns.kernel, some.hidden.dtype)}
        if asked.bias:
            given["bias"] = columns.bias
        fixed = {"bias": columns.bias, "cap": some.cap, "temperature": some.temperature}
        x, back = jax.vjp(lambda given: _finished(**(fixed | given)), given)
        labels = some.labels[:, None] - jnp.asarray(first, jnp.int32)
        tile = _Tile(x, labels == jnp.arange(width, dtype=jnp.int32)[None])
        sums = _over_devices(tiles, _sums_of(tile, columns.weights, first, wanted))
        found = _found(some.labels, sums)
        (slopes,) = back(_slopes(tile, found, amount, columns.weights))
        hidden, kernel, bias = totals
        if asked.bias:
            bias += slopes["bias"]
        if asked.hidden:
            more = _contract(slopes["x"], columns.kernel, (1, _class_axis(tiles)), hidden.dtype)
            old = loop.at(hidden, piece)
            more = more if fresh is None else jnp.where(fresh[:, None], more, old)
            hidden = loop.put(hidden, more, piece)
        if asked.kernel:
            kernel = of_kernel(slopes["x"], some.hidden, kernel)
        return loop.put(parts, amounts.of(found), piece), _Gradients(hidden, kernel, bias)

    parts = varying(jax.tree.map(jnp.zeros_like, amounts), rows, amounts)
    arrays = _Gradients(rows.hidden, columns.kernel, columns.bias)
    totals = [jnp.zeros_like(x) if ask else None for x, ask in zip(arrays, asked, strict=True)]
    totals = varying(_Gradients(*totals), rows, columns, amounts)
    parts, totals = _scanned(step, (parts, totals), loop.count)
    if tiles.axis is not None and asked.hidden:
        totals = totals._replace(hidden=jax.lax.psum(totals.hidden, tiles.axis))
    return jnp.sum(total(jax.tree.map(jnp.multiply, amounts, parts))), parts, totals


@functools.partial(_with_gradients.defjvp, symbolic_zeros=True)
def _(tiles: Tiles, asked: _Gradients, primals: Any, tangents: Any) -> Any:
    def again(rows: Rows, columns: Columns, amounts: Amounts) -> Any:
        """The same, of what can be differentiated."""
        columns = varying(columns, rows, amounts)
        arrays = _Gradients(rows.hidden, columns.kernel, columns.bias)
        moving = [x for x, ask in zip(arrays, asked, strict=True) if ask]

        def of(*moving: jax.Array) -> jax.Array:
            given = iter(moving)
            hidden, *rest = (
                next(given) if ask else x for x, ask in zip(arrays, asked, strict=True)
            )
            some = Columns(*rest, columns.weights)
            return summed(tiles, rows._replace(hidden=hidden), some, amounts)

        value, found = jax.value_and_grad(of, tuple(range(len(moving))))(*moving)
        slopes = iter(found)
        wanted = Asked(spread=amounts.spread is not None)
        parts = amounts.of(statistics(tiles, wanted, rows, columns))
        return value, parts, _Gradients(*(next(slopes) if ask else None for ask in asked))

    _, change = _jvp_of_moving(again, primals, tuple(_present(x) for x in tangents))
    return _with_gradients(tiles, asked, *primals), change
