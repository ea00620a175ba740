"""Alignments of two sequences: the soft minimum of their costs, over all of them.

Cell (i, j) of a grid says that entry i of the one sequence lies beside entry j of the other. An
alignment goes from (0, 0) to the last cell; its steps raise i, j or both by 1. One recursion adds
up the weights, exp(-cost), of the beginnings of alignments by the cell that they have come to,
another those of their ends; both go over the anti-diagonals of the grid.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .._numerics.devices import all_varying
from .._numerics.kinks import with_slopes
from . import scaled
from .diagonals import ahead, passing, skewed, upright
from .scaled import Scaled


class _Grid(NamedTuple):
    """The costs by diagonals, and where alignments end; `[diagonals, columns, batch]`.

    Attributes:
        scores: The costs, negative; -inf for what is no cell.
        end: Whether a cell is the last.
    """

    scores: jax.Array
    end: jax.Array


def _grid(costs: jax.Array, rows: jax.Array, columns: jax.Array) -> _Grid:
    scores = skewed(-costs, -jnp.inf)
    count, width = scores.shape[:2]
    n = jnp.arange(count, dtype=rows.dtype)[:, None, None]
    j = jnp.arange(width, dtype=rows.dtype)[None, :, None]
    end = (n == (rows + columns - 2)[None, None]) & (j == (columns - 1)[None, None])
    return _Grid(scores, end)


def _nothing(grid: _Grid) -> Scaled:
    like = jnp.zeros_like(grid.scores[0])
    return scaled.zeros_like(Scaled(like, like))


def _begun(grid: _Grid) -> tuple[Scaled, Scaled]:
    """The weight of all alignments, and that of the beginnings on each diagonal."""
    nothing = _nothing(grid)
    place = jnp.broadcast_to(jnp.arange(nothing.m.shape[0])[:, None] == 0, nothing.m.shape)

    def body(carry: Any, each: tuple[jax.Array, jax.Array]) -> Any:
        one, two, ended, first = carry
        scores, end = each
        entered = scaled.add(one, scaled.shifted(one), scaled.shifted(two), first)
        cells = scaled.normal(scaled.product(entered, scaled.exp(scores)))
        ended = scaled.where(end, cells, ended)
        return (cells, one, ended, nothing), cells

    start = all_varying((nothing, nothing, nothing, scaled.one_where(place, nothing)))
    (_, _, ended, _), cells = jax.lax.scan(body, start, (grid.scores, grid.end))
    return scaled.normal(scaled.total(ended, 0)), cells


def _shares(grid: _Grid, cells: Scaled, every: Scaled) -> jax.Array:
    """The share of the alignments that go through each cell."""
    nothing = _nothing(grid)

    def body(carry: Any, each: Any) -> Any:
        # What may follow, with the weight of its own cell: one and two diagonals later.
        one, two = carry
        begun, scores, end = each
        after = scaled.add(one, ahead(one), ahead(two))
        after = scaled.where(end, scaled.one_where(end, after), after)
        share = passing(begun, after, every)
        ending = scaled.normal(scaled.product(after, scaled.exp(scores)))
        return (ending, one), share

    start = all_varying((nothing, nothing))
    return jax.lax.scan(body, start, (cells, *grid), reverse=True)[1]


@with_slopes
def soft_minimum(slopes: bool, costs: jax.Array, rows: jax.Array, columns: jax.Array) -> Any:
    """-log of the sum over all alignments of exp(-cost), for each example.

    Args:
        slopes: Whether derivatives are wanted.
        costs: Of each cell; `[batch, rows, columns]`.
        rows: How many rows there are, of those of the grid the first; 1 or more; `[batch]`.
        columns: How many columns.
    """
    grid = _grid(*all_varying((costs, rows, columns)))
    every, cells = _begun(grid)
    losses = -scaled.log(every)
    if not slopes:
        return losses, ()
    return losses, (upright(_shares(grid, cells, every), costs.shape[1]),)
