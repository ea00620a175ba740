"""The probability of labels: sums over the paths that spell them, frame by frame.

A path names one class for each frame. Two recursions over the frames add up the probabilities of
paths by the state that they are in, one from the first frame on, for the loss, and one back from
the last, for its derivatives. Read backwards, the second is the first: one loop takes both.

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
    """The probabilities of parts of paths, by the state that they have come to or start from.

    Attributes:
        first: Of beginnings, before the first frame.
        seen: What the loop emits: the parts of the numbers of the states, for each direction;
            `[frames, parts, directions, states, batch]`. Beginnings come first, then endings
            backwards, if they are wanted.
        final: After the last frame.
        closed: The final ones of the blanks, each with that of the label before it added.
        total: The probability of the labels: `closed` at the last blank; `[batch]`.
    """

    first: States
    seen: jax.Array
    final: States
    closed: Scaled
    total: Scaled

    @property
    def states(self) -> States:
        """Of beginnings, after each frame."""
        return _real(_unpacked(self.seen[:, :, 0]))

    @property
    def endings(self) -> States:
        """Of all that may follow each frame."""
        return _backwards(_unpacked(self.seen[::-1, :, 1]))


def _unpacked(parts: jax.Array) -> States:
    blanks, blanks_e, labels, labels_e = (parts[:, i] for i in range(4))
    return Scaled(blanks, blanks_e), Scaled(labels, labels_e)


def walk(log_shares: jax.Array, chain: Chain, endings: bool) -> Paths:
    """The recursion from the first frame to the last and, for endings, beside it that back."""
    length, count = _length(chain), chain.codes.shape[1]
    differs = jnp.pad(_differs(chain.codes).T, ((0, 1), (0, 0)))
    frames = chain.frames.T[:, None]
    first = scaled.one_where(_is(jnp.zeros_like(length), count), chain.epsilon)
    no_label = scaled.one_where(_is(jnp.full_like(length, -1), count), chain.epsilon)
    ways = [((first, no_label), differs, log_shares, frames)]
    if endings:
        nothing = scaled.zeros_like(no_label)
        last = scaled.one_where(_is(count - 1 - length, count), nothing)
        # Frames and labels backwards; the blank comes last all the same.
        shares = jnp.concatenate([log_shares[::-1, -2::-1], log_shares[::-1, -1:]], 1)
        ways.append(((last, nothing), differs[::-1], shares, frames[::-1]))
    start, differs, shares, frames = (
        jax.tree.map(lambda *x: jnp.stack(x, -3), *parts) for parts in zip(*ways, strict=True)
    )

    def step(states: States, frame: tuple[jax.Array, jax.Array]) -> tuple[States, jax.Array]:
        log_shares, kept = frame
        sums = _sums(states, scaled.one_where(differs, chain.epsilon))
        share = scaled.exp(log_shares)
        entered = (
            scaled.product(sums[0], scaled.cut(share, -1, None)),
            scaled.product(sums[1], share),
        )
        states = scaled.where(kept, entered, states)
        # What may follow a frame is without the share of the frame itself.
        seen = jax.tree.map(lambda x, y: jnp.concatenate([x[:1], y[1:]]), states, sums)
        # As one array: each would be a kernel of its own in each step on a GPU.
        return states, jnp.stack(jax.tree.leaves(seen))

    last, seen = jax.lax.scan(step, start, (shares, frames))
    blanks, labels = jax.tree.map(lambda x: x[0], last)
    closed = scaled.add(blanks, scaled.shifted(labels))
    end = _is(length, count)
    total = jax.tree.map(lambda x: jnp.sum(jnp.where(end, x, 0), 0), closed)
    return Paths(
        first=_real((first, no_label)),
        seen=seen,
        final=_real((blanks, labels)),
        closed=closed,
        total=scaled.normal(total),
    )


def _real(states: States) -> States:
    """Without the state that labels have in the loop."""
    return states[0], scaled.cut(states[1], None, -1)


def _backwards(states: States) -> States:
    return jax.tree.map(lambda x: x[..., ::-1, :], _real(states))


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


def _slopes(reading: Reading, chain: Chain, paths: Paths) -> jax.Array:
    """Derivatives of the loss in the logits: the share of a class, less the wanted one.

    Wanted is, among the paths with these labels, the share of those that name the class in that
    frame.
    """
    total = paths.total
    possible = total.m > 0
    inverse = jnp.where(possible, 1 / jnp.where(possible, total.m, 1), 0)
    exponent = jnp.where(possible, total.e, 0)

    def passing(begun: Scaled, ending: Scaled) -> jax.Array:
        scale = scaled.power(begun.e + ending.e - exponent[None, None])
        return begun.m * (ending.m * inverse[None, None]) * scale

    blanks, labels = map(passing, paths.states, paths.endings)
    passed = jnp.concatenate([labels, jnp.sum(blanks, 1, keepdims=True)], 1)
    # The sum over the states is 1 but for roundings, which are divided out.
    sums = jnp.sum(passed, 1)
    passed = _einsum("tnb,bnk->btk", passed, reading.hot)
    wanted = passed / jnp.where(sums > 0, sums, 1).T[:, :, None]
    counts = chain.frames & possible[:, None]
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
        paths = walk(reading.log_shares, chain, slopes)
        value = _loss(reading, chain, paths)
        return value, (_slopes(reading, chain, paths),) if slopes else ()

    return losses(logits, *leaves)
