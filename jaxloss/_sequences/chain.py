"""The probability of labels in a chain: sums over all other labellings, frame by frame.

All scores are relative to those of the labels: a labelling weighs the exponential of its score less
theirs, the labels themselves weigh 1, and their surprise is log(1 + the weight of all others). No
difference of two large sums is taken, and what is small keeps its digits.

Arrays are `[frames, states, batch]` inside, or have some of these axes. A transition goes from the
first of two axes of states to the second.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .._numerics.devices import all_varying
from .._numerics.kinks import with_slopes
from . import scaled
from .diagonals import passing
from .scaled import Scaled


class _Chain(NamedTuple):
    """Scores less those of the labels, and the labels.

    Attributes:
        scores: Of each state in each frame; 0 for the label.
        transitions: As factors; those of the labels are in `moves`.
        moves: The score of the transition between labels into each frame but the first.
        end: The factor of ending in a state.
        hot: Whether a state is the label.
        last: Whether a state is the last label; `[states, batch]`.
        frames: Whether a frame is not padded; `[frames, batch]`.
    """

    scores: jax.Array
    transitions: Scaled
    moves: jax.Array
    end: Scaled
    hot: jax.Array
    last: jax.Array
    frames: jax.Array

    @property
    def each(self) -> tuple[jax.Array, ...]:
        """Of all frames but the first; of the labels before them too."""
        parts = self.scores[1:], self.moves, self.hot[:-1], self.hot[1:], self.frames[1:]
        return parts


def _chosen(hot: jax.Array, x: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    """The entry at the label."""
    return jnp.sum(jnp.where(hot, x, 0), axes)


def _relative(x: jax.Array, hot: jax.Array, axis: int) -> tuple[jax.Array, jax.Array]:
    """The scores less that of the label, and whether that is possible; all if there is none."""
    own = jnp.expand_dims(_chosen(hot, x, (axis,)), axis)
    possible = own > -jnp.inf
    return jnp.where(hot, 0, x - jnp.where(possible, own, 0)), jnp.squeeze(possible, axis)


def _chain(
    emissions: jax.Array,
    transitions: jax.Array,
    start: jax.Array,
    end: jax.Array,
    labels: jax.Array,
    frames: jax.Array,
) -> tuple[_Chain, jax.Array]:
    """The chain, and whether the labels are possible in it; `[batch]`."""
    x, moves = emissions.transpose(1, 2, 0), transitions.transpose(1, 2, 0)
    states = jnp.arange(x.shape[1], dtype=labels.dtype)[None, :, None]
    kept = frames.T
    hot = (labels.T[:, None] == states) & kept[:, None]
    last = jnp.any(hot & (kept & ~jnp.pad(kept[1:], ((0, 1), (0, 0))))[:, None], 0)

    at_start = jnp.arange(x.shape[0])[:, None, None] == 0
    scores, possible = _relative(x + jnp.where(at_start, start.T[None], 0), hot, 1)
    ends, can_end = _relative(end.T, last, 0)
    # Frame by frame: not all transitions of all frames at once.
    taken = jax.lax.map(
        lambda pair: _chosen(pair[0][:, None] & pair[1][None], moves, (0, 1)), (hot[:-1], hot[1:])
    )
    can_move = taken > -jnp.inf
    possible = jnp.all(possible, 0) & jnp.all(can_move, 0) & can_end
    taken = jnp.where(can_move, taken, 0)
    return _Chain(scores, scaled.exp(moves), taken, scaled.exp(ends), hot, last, kept), possible


def _first(chain: _Chain) -> Scaled:
    scores = jnp.where(chain.hot[0], -jnp.inf, chain.scores[0])
    return scaled.exp(jnp.where(chain.frames[0][None], scores, -jnp.inf))


def _all_begun(others: Scaled, hot: jax.Array) -> Scaled:
    """The beginnings of all labellings, those of the labels among them."""
    own = scaled.one_where(hot, scaled.zeros_like(others))
    return scaled.normal(scaled.add(others, own))


def _expanded(x: Scaled, axis: int) -> Scaled:
    return jax.tree.map(lambda part: jnp.expand_dims(part, axis), x)


def _entry(scores: jax.Array, move: jax.Array) -> Scaled:
    """The factor of entering each state of a frame, but for the transition."""
    return scaled.product(scaled.exp(scores), _expanded(scaled.exp(-move), 0))


def _begun(chain: _Chain) -> tuple[Scaled, Scaled]:
    """The beginnings of other labellings after the last frame, and before each but the first."""

    @jax.checkpoint
    def body(others: Scaled, each: Any) -> Any:
        scores, move, before, hot, kept = each
        every = _all_begun(others, before)
        # The labels themselves stay apart.
        labelled = before[:, None] & hot[None]
        begun = scaled.where(labelled, _expanded(others, 1), _expanded(every, 1))
        entered = scaled.total(scaled.product(begun, chain.transitions), 0)
        after = scaled.normal(scaled.product(entered, _entry(scores, move)))
        return scaled.where(kept[None], after, others), others

    return jax.lax.scan(body, _first(chain), chain.each)


def _marginals(
    chain: _Chain, begun: tuple[Scaled, Scaled], every: Scaled
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The shares of all labellings, less what the labels have: in frames, moves and at the end.

    What the labels have is 1 less the shares of all other states: the sum of these.
    """
    last, before = begun

    def less(shares: jax.Array, hot: jax.Array, axes: tuple[int, ...]) -> jax.Array:
        shares = jnp.where(hot, 0, shares)
        return jnp.where(hot, -jnp.sum(shares, axes, keepdims=True), shares)

    @jax.checkpoint
    def body(carry: Any, each: Any) -> Any:
        ending, moved = carry
        others, (scores, move, earlier, hot, kept) = each
        after = scaled.product(ending, _entry(scores, move))
        ways = scaled.product(chain.transitions, _expanded(after, 0))
        shares = passing(_expanded(_all_begun(others, earlier), 1), ways, every)
        labelled = earlier[:, None] & hot[None]
        other = jnp.where(labelled | ~kept[None, None], 0, shares)
        moved = moved + less(other, labelled, (0, 1))
        ending = scaled.where(kept[None], scaled.normal(scaled.total(ways, 1)), ending)
        return (ending, moved), less(jnp.sum(other, 0), hot, (0,))

    start = all_varying((chain.end, jnp.zeros_like(chain.transitions.m)))
    (ending, moved), later = jax.lax.scan(body, start, (before, chain.each), reverse=True)
    first = less(passing(_first(chain), ending, every), chain.hot[0], (0,))
    ended = less(passing(last, chain.end, every), chain.last, (0,))
    return jnp.concatenate([first[None], later]), moved, ended


@with_slopes
def surprise(
    slopes: bool,
    emissions: jax.Array,
    transitions: jax.Array,
    start: jax.Array,
    end: jax.Array,
    labels: jax.Array,
    frames: jax.Array,
) -> Any:
    """-log of the probability of the labels, for each example.

    Args:
        slopes: Whether derivatives are wanted.
        emissions: Scores; `[batch, frames, states]`.
        transitions: Scores; `[batch, states, states]`.
        start: Scores of the first state; `[batch, states]`.
        end: Scores of the last.
        labels: The states; `[batch, frames]`.
        frames: Whether a frame is not padded. Those that are come last.
    """
    data = all_varying((emissions, transitions, start, end, labels, frames))
    chain, possible = _chain(*data)
    begun = _begun(chain)
    others = scaled.total(scaled.product(begun[0], chain.end), 0)
    losses = scaled.log1p(others)
    losses = jnp.where(possible, losses, jnp.inf)
    if not slopes:
        return losses, ()
    one = scaled.one_where(jnp.ones_like(possible), others)
    every = scaled.normal(scaled.add(others, one))
    in_frames, in_moves, at_end = _marginals(chain, begun, every)
    counts = possible & chain.frames[0]
    found = in_frames.transpose(2, 0, 1), in_moves.transpose(2, 0, 1), in_frames[0].T, at_end.T
    return losses, tuple(jnp.where(jnp.expand_dims(counts, range(1, x.ndim)), x, 0) for x in found)
