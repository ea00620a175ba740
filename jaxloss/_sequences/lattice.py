"""The probability of labels under a transducer: sums over paths through a grid.

Cell (t, u) of the grid says frame t after u labels. A path goes from (0, 0) to (frames, labels);
its steps are blanks, to (t + 1, u), and labels, to (t, u + 1). One recursion adds up the
probabilities of the beginnings of paths by the cell that they have come to, another those of their
ends; both go over the anti-diagonals of the grid.

A padded frame has a blank of probability 1, and so has a frame after the last: the paths wait
there for the diagonal on which the last of the batch ends.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .._numerics.devices import all_varying
from .._numerics.kinks import closed_form, with_slopes
from .._numerics.softmax import below, largest
from .._numerics.special import one_if_zero
from .._numerics.xla import along, computed_anew, in_steps
from . import scaled
from .diagonals import ahead, passing, skewed, upright
from .scaled import Scaled


class Steps(NamedTuple):
    """What each cell says of its next step; `[batch, frames, labels + 1]`.

    Attributes:
        blank: The log-probability of the blank.
        label: That of the next label; -inf where there is none.
        astray: The probability of all other classes.
        known: Whether no logit is NaN or inf.
    """

    blank: jax.Array
    label: jax.Array
    astray: jax.Array
    known: jax.Array


class Odds(NamedTuple):
    """The odds of the classes of each cell against its likeliest; `[batch, frames, labels + 1]`.

    Attributes:
        top: The largest logit, a constant under differentiation.
        blank: The logarithm of the odds of the blank.
        label: That of the odds of the next label, 0 where there is none.
        others: The sum of the odds of all other classes.
    """

    top: jax.Array
    blank: jax.Array
    label: jax.Array
    others: jax.Array


class Cells(NamedTuple):
    """The logits, and what is asked of them.

    Attributes:
        logits: `[batch, frames, labels + 1, classes]`.
        read: Which cells count; the logits of the others read 0.
        labels: The next label of each column, -1 for none; `[batch, labels + 1]`.
        blank: The class of the blank; `[batch]`.
    """

    logits: jax.Array
    read: jax.Array
    labels: jax.Array
    blank: jax.Array

    def hits(self) -> tuple[jax.Array, jax.Array]:
        """Whether a class is the blank, and whether it is the label."""
        classes = jnp.arange(self.logits.shape[3], dtype=self.labels.dtype)[None, None, None]
        found = self.blank[:, None, None, None] == classes, self.labels[:, None, :, None] == classes
        is_blank, is_label = (jnp.broadcast_to(x, self.logits.shape) for x in found)
        return is_blank, is_label

    def gaps(self, top: jax.Array) -> jax.Array:
        x = jnp.where(self.read[..., None], self.logits, 0).astype(top.dtype)
        return below(x, top[..., None], (3,))


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _odds(dtype: Any, *cells: jax.Array) -> Odds:
    """The odds, of which no array of the size of the logits is kept."""
    return Odds(*in_steps(*(along(f, dtype) for f in (_frame_by_frame, _at_once)), *cells))


def _at_once(dtype: Any, *cells: jax.Array) -> tuple[jax.Array, ...]:
    given = Cells(*cells)
    top = jnp.where(given.read, largest(given.logits, (3,))[..., 0], 0).astype(dtype)
    gap, (is_blank, is_label) = given.gaps(top), given.hits()
    own = [jnp.sum(jnp.where(hit, gap, 0), 3) for hit in (is_blank, is_label)]
    return top, *own, jnp.sum(jnp.where(is_blank | is_label, 0, jnp.exp(gap)), 3)


def _frame_by_frame(dtype: Any, *cells: jax.Array) -> tuple[jax.Array, ...]:
    logits, read, *codes = cells
    if not logits.shape[1]:
        return _at_once(dtype, *cells)

    def of_frame(t: jax.Array) -> tuple[jax.Array, ...]:
        at = (jax.lax.dynamic_index_in_dim(x, t, 1) for x in (logits, read))
        return tuple(x[:, 0] for x in _at_once(dtype, *at, *codes))

    found = jax.lax.map(of_frame, jnp.arange(logits.shape[1]))
    return tuple(x.swapaxes(0, 1) for x in found)


@_odds.defjvp
def _(dtype: Any, primals: Any, tangents: Any) -> Any:
    value = _odds(dtype, *primals)
    given = Cells(*computed_anew(primals[0]), *primals[1:])
    tangent = jnp.where(given.read[..., None], tangents[0], 0).astype(dtype)
    is_blank, is_label = given.hits()
    others = jnp.where(is_blank | is_label, 0, jnp.exp(given.gaps(value.top)))
    moved = [jnp.where(is_blank, tangent, 0), jnp.where(is_label, tangent, 0), others * tangent]
    return value, Odds(jnp.zeros_like(value.top), *(jnp.sum(x, 3) for x in moved))


def _share_slopes(own: jax.Array, other: jax.Array, rest: jax.Array) -> tuple[jax.Array, ...]:
    """1 less a share near 1 is the sum of the other shares."""
    others = jnp.exp(other) + rest
    total = one_if_zero(jnp.exp(own) + others)
    return others / total, -jnp.exp(other) / total, -1 / total


@closed_form(_share_slopes)
def _log_share(own: jax.Array, other: jax.Array, rest: jax.Array) -> jax.Array:
    """The logarithm of a share, of the logarithms of two odds and the sum of all others."""
    return own - jnp.log(one_if_zero(jnp.exp(own) + jnp.exp(other) + rest))


def steps(cells: Cells, dtype: Any) -> Steps:
    """The probabilities of the steps, in this dtype."""
    odds = _odds(dtype, *all_varying(cells))
    none = cells.labels[:, None] < 0
    label = jnp.where(none, -jnp.inf, odds.label)
    total = one_if_zero(jnp.exp(odds.blank) + jnp.exp(label) + odds.others)
    known = ~((odds.top == jnp.inf) | jnp.isnan(total))
    return Steps(
        _log_share(odds.blank, label, odds.others),
        jnp.where(none, -jnp.inf, _log_share(label, odds.blank, odds.others)),
        odds.others / total,
        known,
    )


class Grid(NamedTuple):
    """The steps by diagonals, and where the paths end; `[diagonals, columns, batch]`.

    Attributes:
        blank: Log-probabilities of blanks.
        label: Log-probabilities of labels.
        astray: Probabilities of what is neither.
        end: Whether a column is that after the last label; `[columns, batch]`.
    """

    blank: jax.Array
    label: jax.Array
    astray: jax.Array
    end: jax.Array

    @property
    def each(self) -> tuple[jax.Array, ...]:
        return self.blank, self.label, self.astray


def _grid(blank: jax.Array, label: jax.Array, astray: jax.Array, length: jax.Array) -> Grid:
    columns = jnp.arange(blank.shape[2], dtype=length.dtype)
    end = columns[:, None] == length[None]
    return Grid(skewed(blank, 0), skewed(label, -jnp.inf), skewed(astray, 0), end)


def _marked(place: jax.Array, like: jax.Array) -> Scaled:
    """1 at a place, else 0."""
    nothing = scaled.zeros_like(Scaled(like, like))
    return Scaled(jnp.where(place, 1, nothing.m), jnp.where(place, 0, nothing.e))


def _begun(grid: Grid) -> tuple[Scaled, jax.Array, Scaled]:
    """What is begun after the last diagonal, what went astray, and what was begun on each."""
    like = jnp.zeros_like(grid.end, grid.blank.dtype)
    first = jnp.broadcast_to(jnp.arange(like.shape[0])[:, None] == 0, like.shape)

    def body(carry: tuple[Scaled, jax.Array], each: tuple[jax.Array, ...]) -> Any:
        cells, lost = carry
        blank, label, astray = each
        lost += jnp.sum(scaled.plain(cells) * astray, 0)
        across = scaled.shifted(scaled.product(cells, scaled.exp(label)))
        after = scaled.add(scaled.product(cells, scaled.exp(blank)), across)
        return (scaled.normal(after), lost), cells

    start = all_varying((_marked(first, like), like[0]))
    (cells, lost), before = jax.lax.scan(body, start, grid.each)
    return cells, lost, before


def _value(grid: Grid, cells: Scaled, lost: jax.Array) -> tuple[jax.Array, Scaled]:
    """-log of the probability of the labels, and that."""
    total = jax.tree.map(lambda x: jnp.sum(jnp.where(grid.end, x, 0), 0), cells)
    # Of a probability near 1 the logarithm comes from what is missing to 1.
    missing = lost + jnp.sum(jnp.where(grid.end, 0, scaled.plain(cells)), 0)
    likely = (total.m > 0) & (total.e >= -1)
    losses = jnp.where(likely, -jnp.log1p(-jnp.where(likely, missing, 0)), -scaled.log(total))
    return losses, total


def _taken(grid: Grid, before: Scaled, total: Scaled) -> tuple[jax.Array, jax.Array]:
    """The shares of the paths, among those with these labels, that take a step."""
    like = jnp.zeros_like(grid.end, grid.blank.dtype)

    def body(cells: Scaled, each: Any) -> Any:
        begun, blank, label = each
        down = scaled.product(cells, scaled.exp(blank))
        across = scaled.product(ahead(cells), scaled.exp(label))
        shares = passing(begun, down, total), passing(begun, across, total)
        return scaled.normal(scaled.add(down, across)), shares

    start = all_varying(_marked(grid.end, like))
    return jax.lax.scan(body, start, (before, grid.blank, grid.label), reverse=True)[1]


@with_slopes
def surprise(
    slopes: bool,
    blank: jax.Array,
    label: jax.Array,
    astray: jax.Array,
    length: jax.Array,
    haste: jax.Array,
) -> Any:
    """-log of the probability of the labels, for each example.

    Differentiated in the log-probabilities of blanks and labels.

    Args:
        slopes: Whether derivatives are wanted.
        blank: Log-probabilities of blanks; `[batch, frames, labels + 1]`.
        label: Log-probabilities of the next label.
        astray: The probabilities of what is neither; a constant.
        length: The number of labels; `[batch]`.
        haste: The weight of FastEmit; `[batch]`.
    """
    grid = _grid(*all_varying((blank, label, astray, length)))
    cells, lost, before = _begun(grid)
    losses, total = _value(grid, cells, lost)
    if not slopes:
        return losses, ()
    down, across = (upright(x, blank.shape[1]) for x in _taken(grid, before, total))
    return losses, (-down, -(1 + haste)[:, None, None] * across)
