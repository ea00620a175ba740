"""The probability of labels: sums over the paths that spell them, frame by frame.

A path names one class for each frame. Two recursions over the frames add up the probabilities of
paths by the state that they are in, one from the first frame on, for the loss, and one back from
the last, for its derivatives. Read backwards, the second is the first.

Arrays are `[frames, directions, states, batch]` inside, or have some of these axes. There is a
state for each label, and one for the blank before each label and after the last: label n lies
between the blanks n and n + 1. In the loop labels have one state more, so that they are as many as
blanks: no path leaves it.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .._contract import inputs
from .._numerics import xla
from .._numerics.kinks import with_slopes
from .._numerics.softmax import odds_against_top
from .._numerics.special import one_if_zero
from . import scaled
from .scaled import Scaled

# Numbers for each state: of the blanks, then of the labels.
States = tuple[Scaled, Scaled]
_einsum = functools.partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)


class Chain(NamedTuple):
    """The states that a path goes through, and the frames in which it does.

    Attributes:
        codes: The class of each label, -1 where it is padded, then that of the blank; `[batch,
            labels + 1]`.
        frames: Whether a frame is not padded; `[batch, frames]`.
        epsilon: The probability of an impossible step or first state; `[1, batch]`.
    """

    codes: jax.Array
    frames: jax.Array
    epsilon: Scaled


class Reading(NamedTuple):
    """The probabilities of the classes in each frame.

    Attributes:
        shares: The softmax of the logits; `[batch, frames, classes]`.
        hot: The codes, one-hot; 0 for a padded label; `[batch, labels + 1, classes]`.
        log_shares: The logarithms of the shares of the codes; `[frames, labels + 1, batch]`.
        known: Whether no logit of an example is NaN or inf; `[batch]`.
    """

    shares: jax.Array
    hot: jax.Array
    log_shares: jax.Array
    known: jax.Array


def read(logits: jax.Array, codes: jax.Array) -> Reading:
    """The softmax of the logits `[batch, frames, classes]`, for all classes and for the codes."""
    gap, odds, _, infinite = odds_against_top(logits, (2,))
    total = one_if_zero(jnp.sum(odds, -1, keepdims=True))
    classes = jnp.arange(logits.shape[-1], dtype=codes.dtype)
    hot = (codes[:, :, None] == classes[None, None]).astype(logits.dtype)
    # A product of matrices, which is faster than a gather. Its zeros would make NaN of -inf.
    log_shares = _einsum("btk,bnk->tnb", jnp.maximum(gap, 10 * scaled.IMPOSSIBLE), hot)
    log_shares -= jnp.log(total).transpose(1, 2, 0)
    log_shares = jnp.where((codes >= 0).T, log_shares, -jnp.inf)
    unknown = jnp.any(infinite | jnp.isnan(total), (1, 2))
    return Reading(odds / total, hot, log_shares, ~unknown)


def _differs(codes: jax.Array) -> jax.Array:
    """Whether a label differs from the one before; true for the first."""
    labels = codes[:, :-1]
    return jnp.concatenate([labels[:, :1] >= -1, labels[:, 1:] != labels[:, :-1]], 1)


def _is(position: jax.Array, states: int) -> jax.Array:
    """Whether a state is the one at this position of the example; `[states, batch]`."""
    return jnp.arange(states, dtype=position.dtype)[:, None] == position[None]


def _length(chain: Chain) -> jax.Array:
    """The number of labels that are not padded."""
    return jnp.sum(chain.codes[:, :-1] >= 0, 1, dtype=chain.codes.dtype)


def _sums(states: States, skip: Scaled) -> States:
    """For each state the sum over the states from which a path may enter it, itself included.

    `skip` is the factor of the step from one label to the next without a blank between.
    """
    blanks, labels = map(scaled.normal, states)
    previous = scaled.shifted(labels)
    direct = scaled.product(previous, skip)
    return scaled.add(blanks, previous), scaled.add(labels, blanks, direct)


class Paths(NamedTuple):
    """The probabilities of beginnings of paths, by the state that they have come to.

    Attributes:
        first: Before the first frame.
        states: After each frame.
        final: After the last frame.
        closed: The final ones of the blanks, each with that of the label before it added.
        total: The probability of the labels: `closed` at the last blank; `[batch]`.
    """

    first: States
    states: States
    final: States
    closed: Scaled
    total: Scaled


class Way(NamedTuple):
    """One direction of the recursion: where it starts, and what it takes in each frame."""

    start: States
    differs: jax.Array
    log_shares: jax.Array
    frames: jax.Array

    @property
    def each(self) -> tuple[jax.Array, jax.Array]:
        return self.log_shares, self.frames


def _forth(log_shares: jax.Array, chain: Chain) -> Way:
    count = chain.codes.shape[1]
    nowhere = jnp.zeros_like(chain.codes[:, 0])
    first = scaled.one_where(_is(nowhere, count), chain.epsilon)
    no_label = scaled.one_where(_is(nowhere - 1, count), chain.epsilon)
    differs = jnp.pad(_differs(chain.codes).T, ((0, 1), (0, 0)))
    return Way((first, no_label), differs, log_shares, chain.frames.T[:, None])


def _back(log_shares: jax.Array, chain: Chain) -> Way:
    """The labels backwards, but the blank last; for a loop over the frames backwards."""
    forth, count = _forth(log_shares, chain), chain.codes.shape[1]
    nothing = scaled.zeros_like(forth.start[1])
    last = scaled.one_where(_is(count - 1 - _length(chain), count), nothing)
    shares = jnp.concatenate([log_shares[:, -2::-1], log_shares[:, -1:]], 1)
    return Way((last, nothing), forth.differs[::-1], shares, forth.frames)


def _step(
    differs: jax.Array, epsilon: Scaled, states: States, frame: tuple[jax.Array, jax.Array]
) -> tuple[States, States]:
    """The states after a frame, and the sums before its share is taken: what may follow it."""
    log_shares, kept = frame
    sums = _sums(states, scaled.one_where(differs, epsilon))
    share = scaled.exp(log_shares)
    entered = (
        scaled.product(sums[0], scaled.cut(share, -1, None)),
        scaled.product(sums[1], share),
    )
    return scaled.where(kept, entered, states), sums


def begun(log_shares: jax.Array, chain: Chain) -> Paths:
    """The recursion from the first frame to the last."""
    way = _forth(log_shares, chain)

    def body(states: States, frame: tuple[jax.Array, jax.Array]) -> tuple[States, States]:
        states, _ = _step(way.differs, chain.epsilon, states, frame)
        return states, states

    return _paths(chain, way, *jax.lax.scan(body, way.start, way.each))


def _paths(chain: Chain, way: Way, last: States, states: States) -> Paths:
    blanks, labels = last
    closed = scaled.add(blanks, scaled.shifted(labels))
    end = _is(_length(chain), chain.codes.shape[1])
    total = jax.tree.map(lambda x: jnp.sum(jnp.where(end, x, 0), 0), closed)
    return Paths(_real(way.start), _real(states), _real(last), closed, scaled.normal(total))


def _real(states: States) -> States:
    """Without the state that labels have in the loop."""
    return states[0], scaled.cut(states[1], None, -1)


def _passing(total: Scaled, begun: States, ending: States) -> tuple[jax.Array, jax.Array]:
    """The share of the paths through a state in a frame, of blanks and of labels."""
    leading = tuple(range(begun[0].m.ndim - 1))
    total = jax.tree.map(lambda x: jnp.expand_dims(x, leading), total)
    possible = total.m > 0
    inverse = jnp.where(possible, 1 / jnp.where(possible, total.m, 1), 0)
    exponent = jnp.where(possible, total.e, 0)

    def of(begun: Scaled, ending: Scaled) -> jax.Array:
        return begun.m * (ending.m * inverse) * scaled.power(begun.e + ending.e - exponent)

    (blanks, labels), (after, behind) = begun, ending
    return of(blanks, after), of(labels, behind)


def _in_turn(log_shares: jax.Array, chain: Chain) -> tuple[Paths, jax.Array]:
    """The paths and what passes: the recursion back in a loop of its own."""
    paths, way = begun(log_shares, chain), _back(log_shares, chain)

    def body(states: States, frame: Any) -> Any:
        before, *frame = frame
        states, sums = _step(way.differs, chain.epsilon, states, tuple(frame))
        return states, _by_code(*_passing(paths.total, before, _turned(_real(sums))))

    _, passed = jax.lax.scan(body, way.start, (paths.states, *way.each), reverse=True)
    return paths, passed


def _turned(states: States) -> States:
    return jax.tree.map(lambda x: x[..., ::-1, :], states)


def _by_code(blanks: jax.Array, labels: jax.Array) -> jax.Array:
    """Of each label, and of all blanks."""
    return jnp.concatenate([labels, jnp.sum(blanks, -2, keepdims=True)], -2)


def _at_once(log_shares: jax.Array, chain: Chain) -> tuple[Paths, jax.Array]:
    """The paths and what passes: one loop for both recursions."""
    back = _back(log_shares, chain)
    back = back._replace(log_shares=back.log_shares[::-1], frames=back.frames[::-1])
    ways = _forth(log_shares, chain), back
    both: Way = jax.tree.map(lambda *x: jnp.stack(x, -3), *ways)

    def body(states: States, frame: tuple[jax.Array, jax.Array]) -> tuple[States, jax.Array]:
        states, sums = _step(both.differs, chain.epsilon, states, frame)
        seen = jax.tree.map(lambda x, y: jnp.concatenate([x[:1], y[1:]]), states, sums)
        # As one array: each would be a kernel of its own in each step.
        return states, jnp.stack(jax.tree.leaves(seen))

    last, seen = jax.lax.scan(body, both.start, both.each)
    seen = jax.tree.unflatten(jax.tree.structure(last), list(jnp.moveaxis(seen, 1, 0)))
    states, sums = (jax.tree.map(lambda x, i=i: x[:, i], seen) for i in (0, 1))
    paths = _paths(chain, ways[0], jax.tree.map(lambda x: x[0], last), states)
    endings = _turned(_real(jax.tree.map(lambda x: x[::-1], sums)))
    return paths, _by_code(*_passing(paths.total, paths.states, endings))


def _missing(reading: Reading, chain: Chain, paths: Paths) -> jax.Array:
    """1 less the probability of the labels, as a sum of positive terms.

    These are the probabilities that a beginning of a path goes on, in the next frame, to a class
    that does not fit the labels, and that a path ends before the last label.
    """
    labels, blank = reading.hot[:, :-1], reading.hot[:, -1:]
    after = jnp.where(_differs(chain.codes)[:, 1:, None], labels[:, 1:], 0)
    astray = (
        1 - blank - jnp.pad(labels, ((0, 0), (0, 1), (0, 0))),
        1 - blank - labels - jnp.pad(after, ((0, 0), (0, 1), (0, 0)))[:, : labels.shape[1]],
    )
    lost = jnp.zeros_like(chain.epsilon.m[0])
    for first, states, classes in zip(paths.first, paths.states, astray, strict=True):
        before = jnp.concatenate([scaled.plain(first)[None], scaled.plain(states)])[:-1]
        shares = _einsum("btk,bnk->tnb", reading.shares, classes)
        lost += jnp.sum(jnp.where(chain.frames.T[:, None], before * shares, 0), (0, 1))
    blanks, last = map(scaled.plain, paths.final)
    length = _length(chain)
    early = jnp.sum(jnp.where(_is(length, blanks.shape[0]), 0, blanks), 0)
    early += jnp.sum(jnp.where(_is(length - 1, last.shape[0]), 0, last), 0)
    return lost + early


def _loss(reading: Reading, chain: Chain, paths: Paths) -> jax.Array:
    """-log of the probability of the labels."""
    total = paths.total
    # Of a probability near 1 the logarithm comes from what is missing to 1. With an epsilon the
    # total counts some of the other paths too, and is not 1 less what is missing.
    likely = (total.m > 0) & (total.e >= -1) & (chain.epsilon.e[0] < -200)
    missing = jax.lax.cond(
        jnp.any(likely & jnp.any(chain.frames, 1)),
        lambda: _missing(reading, chain, paths),
        lambda: jnp.zeros_like(total.m),
    )
    losses = jnp.where(likely, -jnp.log1p(-jnp.where(likely, missing, 0)), -scaled.log(total))
    return inputs.nan_outside(losses, reading.known)


def _less(a: jax.Array, b: jax.Array) -> jax.Array:
    """a - b of shares of 1 along the last axis; no difference of two near 1 cancels.

    A share above 3/4, of which roundings make no second one, is 1 less the others, in its
    derivatives too.
    """

    def parts(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        most = x > 0.75
        others = jnp.sum(jnp.where(most, 0, x), -1, keepdims=True)
        return most.astype(x.dtype), jnp.where(most, -others, x)

    (whole, rest), (of_whole, of_rest) = parts(a), parts(b)
    return (whole - of_whole) + (rest - of_rest)


def _slopes(reading: Reading, chain: Chain, total: Scaled, passed: jax.Array) -> jax.Array:
    """Derivatives of the loss in the logits: the share of a class, less the wanted one.

    Wanted is, among the paths with these labels, the share of those that name the class in that
    frame.
    """
    # The sum over the states is 1 but for roundings, which are divided out.
    sums = jnp.sum(passed, 1)
    passed = _einsum("tnb,bnk->btk", passed, reading.hot)
    wanted = passed / jnp.where(sums > 0, sums, 1).T[:, :, None]
    counts = chain.frames & (total.m > 0)[:, None]
    slopes = _less(reading.shares, wanted)
    slopes = jnp.where(counts[:, :, None], slopes, 0)
    return inputs.nan_outside(slopes, reading.known[:, None, None])


def surprise(logits: jax.Array, chain: Chain) -> jax.Array:
    """-log of the probability of the labels, for each example; differentiated in the logits."""
    leaves, structure = jax.tree.flatten(chain)

    @with_slopes
    def losses(slopes: bool, logits: jax.Array, *leaves: jax.Array) -> Any:
        chain = jax.tree.unflatten(structure, leaves)
        reading = read(logits, chain.codes)
        if not slopes:
            return _loss(reading, chain, begun(reading.log_shares, chain)), ()
        paths, passed = xla.in_turn(_in_turn, _at_once, reading.log_shares, chain)
        value = _loss(reading, chain, paths)
        return value, (_slopes(reading, chain, paths.total, passed),)

    return losses(logits, *leaves)
