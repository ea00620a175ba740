"""Of each row of a linear layer's logits, what its losses need; see `tiles`.

`statistics` reads each tile once and keeps a few numbers of each row. Its derivatives compute the
tiles again, which costs one matrix product more than those of whole logits: four for three.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .devices import added, varying_like
from .kinks import present
from .linear_logits import (
    Tile,
    first_column,
    tangent_sums,
    tile_of,
)
from .reductions import score_and_rival
from .special import finite_top, one_if_zero
from .tiles import (
    Columns,
    RowLoop,
    Rows,
    Tiles,
    columns_at,
    piece_at,
    pieces,
    scanned,
    sums_in,
    width_of,
)


class Statistics(NamedTuple):
    """Of each row of logits x, with p = softmax(x) and the label y.

    What is relative to the largest logit keeps its digits where all logits are large.

    Attributes:
        own: x_y.
        top: The largest x_c with c != y; a constant.
        odds: The sum of exp(x_c - top) over c != y, 0 without others.
        spread: mean over c of w_c (-log p_c), of the columns that are there; None if not asked for.
        entropy: sum of p_c (-log p_c); None if not asked for.
        best: The first column with the largest logit; None if `entropy` is not asked for.
        mass: mean over c of w_c, as `spread`.
        there: How many columns are, as `spread`.
    """

    own: jax.Array
    top: jax.Array
    odds: jax.Array
    spread: Any = None
    entropy: Any = None
    best: Any = None
    mass: Any = None
    there: Any = None

    def _against_label(self) -> tuple[jax.Array, jax.Array, jax.Array]:
        """`top` less x_y, whether it is not above it, and the odds of the lesser of the two."""
        lead = jnp.where(self.odds == 0, -jnp.inf, finite_top(self.top) - self.own)
        first = lead <= 0
        return lead, first, jnp.exp(jnp.where(first, lead, -lead))

    def _relative(self) -> jax.Array:
        """log(sum of exp(x)), less the largest logit."""
        _, first, less = self._against_label()
        return jnp.log1p(jnp.where(first, self.odds * less, (self.odds - 1) + less))

    @property
    def surprisal(self) -> jax.Array:
        """-log p_y, to all digits of p_y and of 1 - p_y."""
        lead, first, _ = self._against_label()
        return jnp.where(first, 0, lead) + self._relative()

    @property
    def above(self) -> jax.Array:
        """log(sum of exp(x)), less `top`, or less 0 if that is -inf."""
        _, first, _ = self._against_label()
        return jnp.where(first, self.own - finite_top(self.top), 0) + self._relative()

    @property
    def shares(self) -> tuple[jax.Array, jax.Array]:
        """p_y and 1 - p_y."""
        _, first, less = self._against_label()
        own, others = jnp.where(first, 1, less), jnp.where(first, self.odds * less, self.odds)
        return own / (own + others), others / (own + others)

    @property
    def log_normalizer(self) -> jax.Array:
        """log(sum of exp(x))."""
        return finite_top(self.top) + self.above


class Asked(NamedTuple):
    """Which of the statistics are computed besides the first three."""

    spread: bool = False
    entropy: bool = False


class _Sums(NamedTuple):
    """Sums over the columns so far; `top` is the largest logit but the label's, its odds are 1.

    Attributes:
        odds: Of exp(x - top), without the label's, as are `gaps`.
        gaps: Of exp(x - top) (top - x).
        missed: Of w (top - x).
        mass: Of w.
        there: The number of columns that are.
        best: The first column with the largest logit but the label's.
    """

    own: jax.Array
    top: jax.Array
    odds: jax.Array
    missed: Any = None
    mass: Any = None
    there: Any = None
    gaps: Any = None
    best: Any = None


def _nothing(rows: Rows, asked: Asked) -> _Sums:
    zero = jnp.zeros(rows.labels.shape, sums_in(rows.hidden.dtype))
    sums = _Sums(zero, jnp.full_like(zero, -jnp.inf), zero)
    if asked.spread:
        sums = sums._replace(missed=zero, mass=zero, there=zero)
    if asked.entropy:
        sums = sums._replace(gaps=zero, best=jnp.zeros_like(rows.labels))
    return sums


def _rescaled(sums: _Sums, top: jax.Array) -> _Sums:
    """The sums, against a logit that is not below theirs."""
    # Without others there are no odds, and `missed` is the label's, against 0.
    lift = finite_top(top) - finite_top(sums.top)
    less = jnp.exp(-jnp.where(sums.top == -jnp.inf, 0, lift))
    if sums.gaps is not None:
        sums = sums._replace(gaps=(sums.gaps + sums.odds * lift) * less)
    if sums.missed is not None:
        sums = sums._replace(missed=sums.missed + sums.mass * lift)
    return sums._replace(top=top, odds=sums.odds * less)


def sums_of(tile: Tile, weights: Any, first: Any, asked: Asked) -> _Sums:
    """Of the columns of one tile."""
    x, hit = tile
    own, top = (jnp.squeeze(y, -1) for y in score_and_rival((1,), x, hit))
    below = finite_top(top)[:, None] - x
    # The selection comes last: XLA on CPU would store a bare exponential before it is summed.
    odds = jnp.where(hit, 0, jnp.exp(-below))
    sums = _Sums(own, top, jnp.sum(odds, -1))
    if asked.spread:
        there = x > -jnp.inf
        w = there.astype(x.dtype) if weights is None else jnp.where(there, weights[None], 0)
        missed = jnp.sum(jnp.where(there, w * (finite_top(top)[:, None] - x), 0), -1)
        sums = sums._replace(
            missed=missed, mass=jnp.sum(w, -1), there=jnp.sum(there, -1, dtype=x.dtype)
        )
    if asked.entropy:
        gaps = jnp.sum(jnp.where(odds == 0, 0, odds * below), -1)
        best = jnp.argmax(jnp.where(hit, -jnp.inf, x), -1).astype(jnp.int32)
        sums = sums._replace(gaps=gaps, best=best + jnp.asarray(first, jnp.int32))
    return sums


def _joined(a: _Sums, b: _Sums) -> _Sums:
    """The sums of both, of which `a` has the first columns."""
    top = jnp.maximum(a.top, b.top)
    best = None if a.best is None else jnp.where(b.top > a.top, b.best, a.best)
    a, b = (_rescaled(x, top)._replace(top=None, best=None) for x in (a, b))
    return jax.tree.map(jnp.add, a, b)._replace(top=top, best=best)


def over_devices(tiles: Tiles, sums: _Sums) -> _Sums:
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


def found_of(labels: jax.Array, sums: _Sums) -> Statistics:
    """What the sums say of each row."""
    found = Statistics(sums.own, sums.top, sums.odds)
    if sums.missed is not None:
        some = jnp.maximum(sums.there, 1)
        spread = (sums.missed + jnp.where(sums.mass == 0, 0, sums.mass * found.above)) / some
        found = found._replace(spread=spread, mass=sums.mass / some, there=sums.there)
    if sums.gaps is not None:
        # The label's part; and that of the others: of each the share, times what it lies below
        # `top` and `top` below the normalizer. No digits cancel.
        (own, others), u = found.shares, found.surprisal
        below = sums.gaps / one_if_zero(sums.odds) + found.above
        parts = (jnp.where(x == 0, 0, x * y) for x, y in ((own, u), (others, below)))
        entropy = functools.reduce(jnp.add, parts)
        ahead = (sums.own > sums.top) | ((sums.own == sums.top) & (labels < sums.best))
        best = jnp.where(ahead, labels, sums.best)
        found = found._replace(entropy=entropy, best=best)
    return found


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def statistics(tiles: Tiles, asked: Asked, rows: Rows, columns: Columns) -> Statistics:
    """What losses need of each row of logits."""
    loop, width = RowLoop.of(tiles, rows), width_of(tiles, columns)
    count, size = pieces(width, tiles.columns)
    first = first_column(tiles, columns)

    def of(rows: Rows) -> _Sums:
        def step(sums: _Sums, j: Any) -> _Sums:
            piece = piece_at(j, width, size)
            some = columns_at(tiles, columns, piece)
            tile = tile_of(tiles, rows, some, first, piece)
            return _joined(sums, sums_of(tile, some.weights, first + piece.start, asked))

        return scanned(step, varying_like(_nothing(rows, asked), rows, columns), count)

    sums = loop.each_piece(of, rows, (rows, columns))
    return found_of(rows.labels, over_devices(tiles, sums))


class _Changes(NamedTuple):
    """Tangents of statistics, or the parts of them that are due to some columns.

    Attributes:
        own: Of that.
        odds: Of that.
        weighed: The sum of w_c times the tangent of x_c, of the columns that are there.
        weights: The sum of the tangent of w_c times -log p_c.
        mass: The sum of the tangent of w_c.
        entropy: Of that.
    """

    own: Any
    odds: Any
    weighed: Any = None
    weights: Any = None
    mass: Any = None
    entropy: Any = None


def _changes(
    asked: Asked,
    weighs: bool,
    tile: Tile,
    moved: jax.Array,
    found: Statistics,
    weights: Any,
    by_weights: Any,
) -> _Changes:
    """The parts that are due to the columns of a tile."""
    x, hit = tile
    below = x - finite_top(found.top)[:, None]
    odds = jnp.where(hit, 0, jnp.exp(below))
    changes = _Changes(
        jnp.sum(jnp.where(hit, moved, 0), -1), jnp.sum(jnp.where(odds == 0, 0, odds * moved), -1)
    )
    if not any(asked):
        return changes
    there = x > -jnp.inf
    moved = jnp.where(there, moved, 0)
    u = jnp.where(there, found.above[:, None] - below, 0)
    if asked.spread:
        w = 1 if weights is None else weights[None]
        changes = changes._replace(weighed=jnp.sum(w * moved, -1))
        if weighs:
            by_weights = jnp.zeros_like(x) if by_weights is None else by_weights[None]
            by_weights = jnp.where(there, by_weights, 0)
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
    by_rows, by_columns = (present(x) for x in tangents)
    weighs = asked.spread and by_columns.weights is not None
    wanted = (True, True, asked.spread, weighs, weighs, asked.entropy)
    nothing = _Changes(*(x or None for x in wanted))

    def change(tiles: Any, moves: Any, found: Any, columns: Any, by_columns: Any) -> _Changes:
        weights = columns[0].weights, by_columns[0].weights
        return _changes(asked, weighs, tiles[0], moves[0], found, *weights)

    changes = tangent_sums(tiles, [primals], [(by_rows, by_columns)], found, change, nothing)
    changes = added(changes, tiles.axis)
    of_own, of_odds = changes.own, changes.odds
    moved = Statistics(of_own, jnp.zeros_like(of_own), of_odds)
    own, others = found.shares
    of_lse = own * of_own + others * (of_odds / one_if_zero(found.odds))
    if asked.spread:
        some = jnp.maximum(found.there, 1)
        of_spread = found.mass * of_lse - changes.weighed / some
        of_mass = jnp.zeros_like(of_own)
        if changes.weights is not None:
            of_spread, of_mass = of_spread + changes.weights / some, changes.mass / some
        moved = moved._replace(spread=of_spread, mass=of_mass, there=jnp.zeros_like(of_own))
    if asked.entropy:
        none = np.zeros(found.best.shape, jax.dtypes.float0)
        moved = moved._replace(entropy=changes.entropy, best=none)
    return found, moved
