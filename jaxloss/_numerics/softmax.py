"""Softmax and its logarithm to the last bits, for every loss that is built on them.

Logits are shifted by the largest of them before anything else: differences of logits are all that
a softmax knows, and they are exact for logits that are near each other. A logit of -inf is a class
that is not there.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero
from jax.typing import ArrayLike

from .kinks import closed_form, derivative_only
from .xla import LONG, score_and_rival, sums

Axes = tuple[int, ...]
# Arrays of up to so many float32 numbers, 4 MiB, stay in a processor's caches from pass to pass.
_CACHED = 2**20


class Odds(NamedTuple):
    """The odds of each class against the most likely one, with the axes of the classes kept.

    Attributes:
        gap: The logarithm of the odds of each class against the most likely: 0 or less, and a
            large number where that one has an infinite logit.
        odds: Its exponential.
        most: Whether a class is the most likely, or as likely as that one.
        infinite: Whether that one has an infinite logit.
    """

    gap: jax.Array
    odds: jax.Array
    most: jax.Array
    infinite: jax.Array

    def surprisals(self, rest: jax.Array) -> jax.Array:
        """-log of the softmax."""
        return jnp.where(self.infinite & ~self.most, jnp.inf, jnp.log1p(rest) - self.gap)

    def sums(self, axes: Axes, *columns: jax.Array) -> tuple[jax.Array, ...]:
        """In one pass over the classes, with the axes kept.

        Returns:
            The sum of the odds of all classes but one of odds 1; whether no other has 1; the sums
            of the columns.
        """
        # The odds of the most likely are 1, and yet have a derivative.
        odds = jnp.where(self.most, derivative_only(self.odds), self.odds)
        columns = self.most.astype(odds.dtype), *columns
        if odds.shape[axes[-1]] < LONG:
            # XLA on CPU does not vectorise an exponential in a joint reduction of few classes.
            totals = jnp.sum(odds, axes), *sums(axes, *columns)
        else:
            totals = sums(axes, odds, *columns)
        beside, count, *totals = (jnp.expand_dims(x, axes) for x in totals)
        # No logit but -inf, and several of inf, have no softmax.
        undefined = (count < 1) | (self.infinite & (count > 1))
        return jnp.where(undefined, jnp.nan, beside + (count - 1)), count == 1, *totals


def largest(x: jax.Array, axes: Axes) -> jax.Array:
    """The largest logit, a constant under differentiation: -inf if there is none; axes kept."""
    return jax.lax.stop_gradient(jnp.max(x, axes, keepdims=True, initial=-jnp.inf))


@closed_form(lambda x, top: (jnp.where(x > top, 0, 1).astype(x.dtype), 0))
def _held(x: jax.Array, top: jax.Array) -> jax.Array:
    """min(x, top), with slope 1 in x at `top`, which is held constant."""
    return jnp.minimum(x, top)


def _below(
    x: jax.Array, top: jax.Array, axes: Axes, *temperature: jax.Array, bound: float | None = None
) -> jax.Array:
    """min(x, top) - top, over the temperature; 0 at x = top even if that is infinite."""
    # Shifted before it is scaled: XLA would contract x / T - top / T to a fused multiply-add,
    # which rounds one of the two.
    largest = jnp.finfo(x.dtype).max if bound is None else bound
    top = jax.lax.stop_gradient(jnp.clip(top, -largest, largest))
    gap = _held(x, top) - top
    for scale in temperature:
        gap = gap / jnp.expand_dims(scale, axes)
    return gap


def odds_against_top(
    x: jax.Array, axes: Axes, *temperature: jax.Array, again: bool = False
) -> Odds:
    """The odds, over the temperature if there is one.

    Args:
        again: Whether the program has them already and is to compute them anew, if they are many.
    """
    top = largest(x, axes)
    bound = None
    if again and x.shape[axes[-1]] >= LONG and x.size > _CACHED:
        # XLA stores the first result of operations that it finds twice, and arrays beyond the
        # caches take longer to read than to compute. A bound one float below the largest changes
        # no result, but makes the operations different ones.
        bound = np.nextafter(jnp.finfo(x.dtype).max, 0)
    gap = _below(x, top, axes, *temperature, bound=bound)
    return Odds(gap, jnp.exp(gap), gap == 0, top == jnp.inf)


def _with_rest(
    x: jax.Array, axes: Axes, *temperature: jax.Array
) -> tuple[Odds, jax.Array, jax.Array]:
    parts = odds_against_top(x, axes, *temperature)
    rest, alone = parts.sums(axes)
    return parts, rest, alone


def without_first(odds: jax.Array, first: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Two columns. The sum of the first, and of the second less 1, is that of the odds less 1.

    With all digits of small odds, which a sum near 1 would lose; `first` are the odds of 1, of
    the most likely classes.
    """
    return jnp.where(first, odds - 1, odds), jnp.where(first, 1, 0).astype(odds.dtype)


def rest_of_odds(odds: jax.Array, first: jax.Array, axes: Axes) -> jax.Array:
    """The sum of the odds less 1, with all digits of small odds; axes kept."""
    beside, count = (jnp.sum(x, axes, keepdims=True) for x in without_first(odds, first))
    return beside + (count - 1)


def _slopes_at(
    slope: jax.Array, gap: jax.Array, axes: Axes, *temperature: jax.Array
) -> tuple[jax.Array, ...]:
    """The derivatives in logits and temperature, from that in the scaled logits.

    That one sums to 0 over the classes, so the shift of the logits does not matter.
    """
    if not temperature:
        return (slope,)
    own = slope * (1 / jnp.expand_dims(temperature[0], axes))
    return own, -jnp.sum(jnp.where(slope == 0, 0, own * gap), axes)


def surprisal(x: jax.Array, hit: jax.Array, axes: Axes, *temperature: jax.Array) -> jax.Array:
    """-log softmax(x / T) of the one class along `axes` where `hit` is true."""

    def scaled(gap: jax.Array, *temperature: jax.Array) -> jax.Array:
        return gap / jnp.expand_dims(temperature[0], axes) if temperature else gap

    def against_best(
        x: jax.Array, hit: jax.Array, *temperature: jax.Array
    ) -> tuple[jax.Array, ...]:
        # Against the most likely of the other classes: with the odds held at its 1, the class
        # itself counts for 1 or less, and what it leaves for 1 or more. Nothing cancels.
        own, top = score_and_rival(axes, x, hit)
        gap = _below(x, top, axes, *temperature)
        odds = jnp.exp(gap)
        ahead = scaled(top - own, *temperature)
        # Selected last, or the exponential joins the sum, in a library that is slow at rows of
        # one number. At a tie the class counts, as it does in the sum.
        first = ahead < 0
        counted = jnp.where(first, 1, jnp.exp(-jnp.where(first, 0, ahead)))
        return gap, odds, jnp.sum(odds, axes, keepdims=True) - counted, ahead

    def slopes(x: jax.Array, hit: jax.Array, *temperature: jax.Array) -> tuple[ArrayLike, ...]:
        gap, odds, others, ahead = against_best(x, hit, *temperature)
        share = 1 / (jnp.exp(-ahead) + others)
        # At the class itself p - 1, without the difference.
        slope = jnp.where(hit, -others, odds) * share
        if temperature:
            gap = jnp.where(hit, -ahead, gap)
        own, *turned = _slopes_at(slope, gap, axes, *temperature)
        return own, 0, *turned

    @closed_form(slopes, axes)
    def loss(x: jax.Array, hit: jax.Array, *temperature: jax.Array) -> jax.Array:
        others, ahead = (jnp.squeeze(part, axes) for part in against_best(x, hit, *temperature)[2:])
        behind = ahead <= 0
        less = jnp.exp(jnp.where(behind, ahead, -ahead))
        rest = jnp.where(behind, others * less, (others - 1) + less)
        return jnp.where(behind, 0, ahead) + jnp.log1p(rest)

    return loss(x, hit, *temperature)


class _Sums(NamedTuple):
    """Sums over the classes, with their axes kept.

    Attributes:
        rest, alone: See `Odds.sums`.
        labels: Of all labels.
        others: Of all but those of the most likely classes.
        missed: Of labels times gaps.
        beside: Of the odds of the others times their labels, for `misplaced`.
        most: Of the odds of the most likely times their labels, likewise.
    """

    rest: jax.Array
    alone: jax.Array
    labels: jax.Array
    others: jax.Array
    missed: jax.Array
    beside: Any = None
    most: Any = None


def _labelled(parts: Odds, labels: jax.Array, axes: Axes, misplacing: bool) -> _Sums:
    others = jnp.where(parts.most, 0, labels)
    columns = [labels, others, jnp.where(labels == 0, 0, labels * parts.gap)]
    if misplacing:
        columns += [others * parts.odds, jnp.where(parts.most, labels * parts.odds, 0)]
    return _Sums(*parts.sums(axes, *columns))


def cross_entropy(
    x: jax.Array, labels: jax.Array, axes: Axes, *temperature: jax.Array, misplacing: bool = False
) -> jax.Array:
    """The sum over `axes` of labels * -log softmax(x / T).

    In the same pass as `misplaced`, if `misplacing` says that it is wanted too.
    """

    def slopes(x: jax.Array, labels: jax.Array, *temperature: jax.Array) -> tuple[jax.Array, ...]:
        total = _labelled(odds_against_top(x, axes, *temperature), labels, axes, misplacing)
        parts = odds_against_top(x, axes, *temperature, again=True)
        share = total.labels * (1 / (1 + total.rest))
        # For the most likely class p - label would cancel: the others have what it lacks.
        first = jnp.where(total.alone, total.others - total.rest * share, 0)
        slope = jnp.where(
            total.alone & parts.most,
            first + share * derivative_only(parts.odds),
            share * parts.odds - labels,
        )
        u = parts.surprisals(total.rest)
        in_labels = jnp.where((u == jnp.inf) & (labels == 0), 0, u)
        own, *turned = _slopes_at(slope, parts.gap, axes, *temperature)
        return own, in_labels, *turned

    @closed_form(slopes, axes)
    def loss(x: jax.Array, labels: jax.Array, *temperature: jax.Array) -> jax.Array:
        parts = odds_against_top(x, axes, *temperature)
        total = _labelled(parts, labels, axes, misplacing)
        infinite = parts.infinite & (total.others > 0)
        missed = jnp.where(infinite, -jnp.inf, total.missed)
        return jnp.squeeze(total.labels * jnp.log1p(total.rest) - missed, axes)

    return loss(x, labels, *temperature)


def misplaced(x: jax.Array, labels: jax.Array, axes: Axes) -> jax.Array:
    """The sum over `axes` of labels * (1 - softmax(x))."""

    def slopes(x: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
        total = _labelled(odds_against_top(x, axes), labels, axes, True)
        parts = odds_against_top(x, axes, again=True)
        share = 1 / (1 + total.rest)
        p, most = parts.odds * share, total.alone & parts.most
        lost = jnp.where(most, (total.rest - derivative_only(parts.odds)) * share, 1 - p)
        # p times the mean label less the class's own: of the most likely class in two parts,
        # as its p, all but 1, would cancel.
        mean = (total.beside + total.most) * share
        return p * jnp.where(most, total.beside * share - labels * lost, mean - labels), lost

    @closed_form(slopes, axes)
    def value(x: jax.Array, labels: jax.Array) -> jax.Array:
        total = _labelled(odds_against_top(x, axes), labels, axes, True)
        share = 1 / (1 + total.rest)
        # An odds of 1 at most, over 2 or more: what is subtracted is half or less.
        lost = (total.others - total.beside * share) + total.most * (total.rest * share)
        return jnp.squeeze(lost, axes)

    return value(x, labels)


def surprisals(x: jax.Array, axes: Axes, *temperature: jax.Array) -> jax.Array:
    """-log softmax(x / T) of every class: 0 or more, with the digits of probabilities near 1."""

    @jax.custom_jvp
    def every(x: jax.Array, *temperature: jax.Array) -> jax.Array:
        parts, rest, _ = _with_rest(x, axes, *temperature)
        return parts.surprisals(rest)

    def rule(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
        parts, rest, alone = _with_rest(primals[0], axes, *primals[1:])
        gap, odds, most, _ = parts
        share = 1 / (1 + rest)
        # Of the gap of every class.
        turned = jnp.zeros_like(gap)
        if not isinstance(tangents[0], SymbolicZero):
            turned = tangents[0]
        if len(primals) > 1:
            scale = 1 / jnp.expand_dims(primals[1], axes)
            turned = turned * scale
            if not isinstance(tangents[1], SymbolicZero):
                there = jnp.where(parts.surprisals(rest) == jnp.inf, 0, gap)
                turned = turned - there * scale * jnp.expand_dims(tangents[1], axes)
        # The mean of all tangents less a class's own. Of the most likely class only the others'
        # part remains, whose digits the whole mean would lose.
        most = alone & most
        terms = odds * share * turned
        others = jnp.sum(jnp.where(most, 0, terms), axes, keepdims=True)
        first = jnp.sum(jnp.where(most, terms, 0), axes, keepdims=True)
        return every(*primals), others + jnp.where(
            most, (derivative_only(odds) - rest) * share * turned, first - turned
        )

    every.defjvp(rule, symbolic_zeros=True)
    return every(x, *temperature)


def probabilities(x: jax.Array, axes: Axes) -> jax.Array:
    """The softmax of every class; derivatives are those of its logarithm, with their digits."""

    @jax.custom_jvp
    def every(x: jax.Array) -> jax.Array:
        _, odds, _, infinite = odds_against_top(x, axes)
        total = jnp.sum(odds, axes, keepdims=True)
        return odds * jnp.where(infinite & (total > 1), jnp.nan, 1 / total)

    @every.defjvp
    def _(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
        p = every(*primals)
        _, lost = jax.jvp(lambda x: surprisals(x, axes), primals, tangents)
        return p, -p * lost

    return every(x)


def log_normalizer(x: jax.Array, axes: Axes, *temperature: jax.Array) -> jax.Array:
    """log of the sum over `axes` of exp(x / T)."""

    def slopes(x: jax.Array, *temperature: jax.Array) -> tuple[jax.Array, ...]:
        (gap, odds, *_), rest, _ = _with_rest(x, axes, *temperature)
        share = odds * (1 / (1 + rest))
        if not temperature:
            return (share,)
        (scale,) = temperature
        top = jax.lax.stop_gradient(jnp.max(x, axes))
        mean = top / scale + jnp.sum(jnp.where(share == 0, 0, share * gap), axes)
        return share * (1 / jnp.expand_dims(scale, axes)), -mean / scale

    @closed_form(slopes, axes)
    def value(x: jax.Array, *temperature: jax.Array) -> jax.Array:
        top = jnp.max(x, axes, initial=-jnp.inf)
        for scale in temperature:
            top = top / scale
        _, rest, _ = _with_rest(x, axes, *temperature)
        return top + jnp.log1p(jnp.squeeze(rest, axes))

    return value(x, *temperature)


# Up to so many classes their sum is written out, term by term. XLA on CPU hands other sums to a
# library, with every array that is summed stored first: three times slower, of segmentations.
_FEW = 8


def _split(x: jax.Array) -> list[jax.Array]:
    return [x[..., c] for c in range(x.shape[-1])]


def _class_sums(*terms: jax.Array) -> tuple[jax.Array, ...]:
    if terms[0].shape[-1] <= _FEW:
        return tuple(functools.reduce(jnp.add, _split(x)) for x in terms)
    return sums((terms[0].ndim - 1,), *terms)


def _spread(x: jax.Array, classes: int) -> jax.Array:
    """A number of each pixel to all its classes, in a form whose transpose is a fast sum."""
    if classes <= _FEW:
        return jnp.concatenate([x[..., None]] * classes, -1)
    return jnp.tensordot(x[..., None], jnp.ones((1, classes), x.dtype), 1, precision="highest")


@jax.custom_jvp
def complemented_softmax(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The softmax over the last axis and 1 less it, each with digits of its own.

    NaN where infinite logits are the largest.
    """
    few = x.shape[-1] <= _FEW
    top = functools.reduce(jnp.maximum, _split(x)) if few else jnp.max(x, -1)
    first = x == top[..., None]
    odds = jnp.exp(jnp.where(first, 0, x - top[..., None]))
    p, q = _normalized(odds, first)
    undefined = first & (jnp.abs(top) == jnp.inf)[..., None] & (p <= 0.5)
    return jnp.where(undefined, jnp.nan, p), jnp.where(undefined, jnp.nan, q)


@complemented_softmax.defjvp
def _(primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> Any:
    p, q = complemented_softmax(*primals)
    moved = _softmax_tangent(p, q, tangents[0])
    return (p, q), (moved, -moved)


@jax.custom_jvp
def inverse_shares(x: jax.Array) -> jax.Array:
    """1 / x over the sum of 1 / x along the last axis, for x of 0 and more."""
    least = jnp.min(x, -1, keepdims=True)
    first = x == least
    odds = jnp.where(first, 1, least / jnp.where(first, 1, x))
    return _normalized(odds, first)[0]


@inverse_shares.defjvp
def _(primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> Any:
    (x,), (moved,) = primals, tangents
    p = inverse_shares(x)
    some = x != 0
    log_odds = jnp.where(some, -moved / jnp.where(some, x, 1), 0)
    most = p > 0.5
    others = jnp.sum(jnp.where(most, 0, p), -1, keepdims=True)
    return p, _softmax_tangent(p, jnp.where(most, others, 1 - p), log_odds)


def _normalized(odds: jax.Array, first: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Odds against the most likely ones as probabilities p, and 1 - p."""
    rest, count = _class_sums(*without_first(odds, first))
    rest += count - 1
    share = 1 / (1 + rest)
    p = odds * share[..., None]
    # Of the most likely class 1 - p is the rest, whose digits p alone would not know.
    return p, jnp.where(p > 0.5, (rest * share)[..., None], 1 - p)


def _softmax_tangent(p: jax.Array, q: jax.Array, log_odds: jax.Array) -> jax.Array:
    """The derivative of p, from that of the logarithms of its odds."""
    parts = p * log_odds
    # A class loses the mean of all but keeps its own; of the most likely class only the others'
    # part remains.
    most = p > 0.5
    others = _spread(jnp.sum(jnp.where(most, 0, parts), -1), p.shape[-1])
    first = _spread(jnp.sum(jnp.where(most, parts, 0), -1), p.shape[-1])
    return jnp.where(most, q * parts - p * others, parts - p * (others + first))
