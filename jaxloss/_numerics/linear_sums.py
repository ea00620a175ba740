"""Sums over the rows of a linear layer's losses, and their gradients; see `linear_softmax`."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .devices import added, varying_like
from .kinks import present
from .linear_logits import (
    Tile,
    contract,
    finished,
    first_column,
    jvp_of_moving,
    moves,
    products,
)
from .linear_softmax import Asked, Statistics, found_of, over_devices, statistics, sums_of
from .special import finite_top
from .tiles import (
    Columns,
    RowLoop,
    Rows,
    Tiles,
    at_piece,
    class_axis,
    piece_at,
    pieces,
    put_piece,
    scanned,
    width_of,
)


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
    by = by_rows, by_columns, by_amounts = tuple(present(x) for x in tangents)
    others = (by_rows.cap, by_rows.temperature, by_columns.weights)
    if moves(others):
        return jvp_of_moving(functools.partial(summed, tiles), primals, by)
    asked = _Gradients(by_rows.hidden, by_columns.kernel, by_columns.bias)
    value, parts, slopes = _with_gradients(
        tiles, _Gradients(*(x is not None for x in asked)), *primals
    )
    of_classes = [
        jnp.sum(slope * move)
        for slope, move in zip(slopes[1:], asked[1:], strict=True)
        if move is not None
    ]
    change = sum(of_classes, jnp.zeros_like(value))
    if of_classes:
        change = added(change, tiles.axis)
    if asked.hidden is not None:
        change += jnp.sum(slopes.hidden * asked.hidden)
    for part, move in zip(parts, by_amounts, strict=True):
        if move is not None:
            change += jnp.sum(part * move)
    return value, change


def _slopes(tile: Tile, found: Statistics, amounts: Amounts, weights: Any) -> jax.Array:
    """The derivatives of the sum in the logits of whole rows."""
    x, hit = tile
    below = x - finite_top(found.top)[:, None]
    p, more = jnp.exp(below - found.above[:, None]), jnp.zeros_like(found.own)
    if amounts.square is not None:
        more += 2 * amounts.square * found.log_normalizer
    if amounts.spread is not None:
        more += amounts.spread * found.mass
    # p - 1 at the label is minus the share of the others, which keeps its digits.
    own, others = found.shares
    own = more * own - amounts.own * others
    slopes = jnp.where(hit, own[:, None], (amounts.own + more)[:, None] * p)
    if amounts.spread is None:
        return slopes
    each = (amounts.spread / jnp.maximum(found.there, 1))[:, None]
    each = jnp.broadcast_to(each, x.shape) if weights is None else each * weights[None]
    return slopes - jnp.where(x > -jnp.inf, each, 0)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _with_gradients(
    tiles: Tiles, asked: _Gradients, rows: Rows, columns: Columns, amounts: Amounts
) -> tuple[jax.Array, Amounts, _Gradients]:
    """The sum, what is summed of each row, and gradients of the sum."""
    loop, width = RowLoop.of(tiles, rows), width_of(tiles, columns)
    count, size = pieces(width, tiles.columns)
    first = first_column(tiles, columns)
    wanted = Asked(spread=amounts.spread is not None)
    # Of the rows of this device alone, where all have the columns.
    columns = varying_like(columns, rows, amounts)

    def of_kernel(slopes: jax.Array, hidden: jax.Array, total: jax.Array) -> jax.Array:
        """The gradient so far and that of some rows, in pieces: a product of its size is none."""

        def step(total: jax.Array, j: Any) -> jax.Array:
            piece = piece_at(j, width, size)
            some = at_piece(slopes, piece, 1)
            if piece.fresh is not None:
                some = jnp.where(piece.fresh[None], some, 0)
            factors = (some, hidden) if tiles.transposed else (hidden, some)
            more = contract(*factors, (0, 0), hidden.dtype)
            axis = class_axis(tiles)
            return put_piece(total, at_piece(total, piece, axis) + more, piece, axis)

        return scanned(step, total, count)

    def step(state: tuple[Amounts, _Gradients], i: Any) -> tuple[Amounts, _Gradients]:
        parts, totals = state
        piece = loop.piece(i)
        some, amount = loop.at((rows, amounts), piece)
        if (fresh := loop.fresh(piece)) is not None:
            amount = jax.tree.map(lambda x: jnp.where(fresh, x, 0), amount)
        given = {"x": products(tiles, some.hidden, columns.kernel, some.hidden.dtype)}
        if asked.bias:
            given["bias"] = columns.bias
        fixed = {"bias": columns.bias, "cap": some.cap, "temperature": some.temperature}
        x, back = jax.vjp(lambda given: finished(**(fixed | given)), given)
        labels = some.labels[:, None] - jnp.asarray(first, jnp.int32)
        tile = Tile(x, labels == jnp.arange(width, dtype=jnp.int32)[None])
        sums = over_devices(tiles, sums_of(tile, columns.weights, first, wanted))
        found = found_of(some.labels, sums)
        (slopes,) = back(_slopes(tile, found, amount, columns.weights))
        hidden, kernel, bias = totals
        if asked.bias:
            bias += slopes["bias"]
        if asked.hidden:
            more = contract(slopes["x"], columns.kernel, (1, class_axis(tiles)), hidden.dtype)
            old = loop.at(hidden, piece)
            more = more if fresh is None else jnp.where(fresh[:, None], more, old)
            hidden = loop.put(hidden, more, piece)
        if asked.kernel:
            kernel = of_kernel(slopes["x"], some.hidden, kernel)
        return loop.put(parts, amounts.of(found), piece), _Gradients(hidden, kernel, bias)

    parts = varying_like(jax.tree.map(jnp.zeros_like, amounts), rows, amounts)
    arrays = _Gradients(rows.hidden, columns.kernel, columns.bias)
    totals = [jnp.zeros_like(x) if ask else None for x, ask in zip(arrays, asked, strict=True)]
    totals = varying_like(_Gradients(*totals), rows, columns, amounts)
    parts, totals = scanned(step, (parts, totals), loop.steps)
    if asked.hidden:
        totals = totals._replace(hidden=added(totals.hidden, tiles.axis))
    return jnp.sum(total(jax.tree.map(jnp.multiply, amounts, parts))), parts, totals


@functools.partial(_with_gradients.defjvp, symbolic_zeros=True)
def _(tiles: Tiles, asked: _Gradients, primals: Any, tangents: Any) -> Any:
    def again(rows: Rows, columns: Columns, amounts: Amounts) -> Any:
        """The same, of what can be differentiated."""
        columns = varying_like(columns, rows, amounts)
        arrays = _Gradients(rows.hidden, columns.kernel, columns.bias)
        moving = [x for x, ask in zip(arrays, asked, strict=True) if ask]

        def of(*moving: jax.Array) -> jax.Array:
            given = iter(moving)
            hidden, kernel, bias = (
                next(given) if ask else x for x, ask in zip(arrays, asked, strict=True)
            )
            some = Columns(kernel, bias, columns.weights)
            return summed(tiles, rows._replace(hidden=hidden), some, amounts)

        value, found = jax.value_and_grad(of, tuple(range(len(moving))))(*moving)
        slopes = iter(found)
        wanted = Asked(spread=amounts.spread is not None)
        parts = amounts.of(statistics(tiles, wanted, rows, columns))
        return value, parts, _Gradients(*(next(slopes) if ask else None for ask in asked))

    _, change = jvp_of_moving(again, primals, tuple(present(x) for x in tangents))
    rows, columns, amounts = primals
    found: Any = _with_gradients
    return found(tiles, asked, rows, columns, amounts), change
