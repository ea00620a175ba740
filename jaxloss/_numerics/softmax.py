"""The softmax, its logarithm and cross-entropies, accurate to a few units in the last place.

The largest logit is subtracted from all of them first. The softmax depends on differences of logits
only, and the difference of logits near each other is exact. A logit of -inf is a class that is not
there.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from .kinks import closed_form, derivative_only, instantiated
from .special import safe_product
from .xla import at_most, is_long, score_and_rival, sums

Axes = tuple[int, ...]
# A float32 array of up to this many numbers, 4 MiB, stays in the caches of a processor between two
# passes over it.
_CACHED = 2**20


class Odds(NamedTuple):
    """The odds of each class against the most likely one; the axes of the classes are kept.

    Attributes:
        gap: The logarithm of the odds: 0 or less, and a large negative number where the most
            likely class has an infinite logit and the other does not.
        odds: Its exponential.
        most: Whether a class is a most likely one; there may be several.
        infinite: Whether the logit of the most likely class is infinite.
    """

    gap: jax.Array
    odds: jax.Array
    most: jax.Array
    infinite: jax.Array

    def surprisals(self, rest: jax.Array) -> jax.Array:
        """-log of the softmax."""
        return jnp.where(self.infinite & ~self.most, jnp.inf, jnp.log1p(rest) - self.gap)

    def sums(self, axes: Axes, *columns: jax.Array) -> tuple[jax.Array, ...]:
        """Sums over the classes in one pass, with the axes kept.

        Returns:
            The sum of the odds of all classes but one most likely class; whether there is only
            one such class; the sums of the columns.
        """
        # The most likely classes, of odds 1, are counted; their odds leave only derivatives here.
        odds = jnp.where(self.most, derivative_only(self.odds), self.odds)
        columns = self.most.astype(odds.dtype), *columns
        if not is_long(odds.shape[axes[-1]]):
            # XLA on CPU does not vectorise an exponential in one reduction of several arrays over
            # few classes: the odds are summed by themselves.
            totals = jnp.sum(odds, axes), *sums(axes, *columns)
        else:
            totals = sums(axes, odds, *columns)
        others, count, *totals = (jnp.expand_dims(x, axes) for x in totals)
        # Where all logits are -inf, or several are inf, the softmax is undefined.
        undefined = (count < 1) | (self.infinite & (count > 1))
        return jnp.where(undefined, jnp.nan, others + (count - 1)), count == 1, *totals


def largest(x: jax.Array, axes: Axes) -> jax.Array:
    """The largest logit, a constant under differentiation: -inf if there is none; axes kept."""
    return jax.lax.stop_gradient(jnp.max(x, axes, keepdims=True, initial=-jnp.inf))


@closed_form(lambda x, top: (jnp.where(x > top, 0, 1).astype(x.dtype), 0))
def _capped(x: jax.Array, top: jax.Array) -> jax.Array:
    """min(x, top), with slope 1 in x where they are equal; `top` is held constant."""
    return jnp.minimum(x, top)


def _below(
    x: jax.Array, top: jax.Array, axes: Axes, *temperature: jax.Array, bound: float | None = None
) -> jax.Array:
    """(min(x, top) - top) / T; 0 at x = top also where that is infinite.

    Args:
        bound: The largest size of `top`: that of the largest float if not given.
    """
    # Subtracted before the division: XLA would compute x / T - top / T as a fused multiply-add,
    # which rounds only one of the quotients, and the difference would not be 0 at x = top.
    largest = jnp.finfo(x.dtype).max if bound is None else bound
    top = jax.lax.stop_gradient(jnp.clip(top, -largest, largest))
    gap = _capped(x, top) - top
    for scale in temperature:
        gap = gap / jnp.expand_dims(scale, axes)
    return gap


def odds_against_top(
    x: jax.Array, axes: Axes, *temperature: jax.Array, again: bool = False
) -> Odds:
    """The odds of softmax(x / T).

    Args:
        again: Whether the program computes the same odds elsewhere too. If they are many, they are
            then written so that XLA computes them again instead of storing them.
    """
    top = largest(x, axes)
    bound = None
    if again and is_long(x.shape[axes[-1]]) and not at_most(x.size, _CACHED):
        # XLA merges equal operations and stores their result, and an array larger than the caches
        # takes longer to read than to compute. A bound of one float less changes no result, but
        # makes the operations unequal.
        bound = np.nextafter(jnp.finfo(x.dtype).max, 0)
    gap = _below(x, top, axes, *temperature, bound=bound)
    return Odds(gap, jnp.exp(gap), gap == 0, top == jnp.inf)


def _with_rest(
    x: jax.Array, axes: Axes, *temperature: jax.Array
) -> tuple[Odds, jax.Array, jax.Array]:
    """The odds, and the first two of their `sums`."""
    parts = odds_against_top(x, axes, *temperature)
    rest, alone = parts.sums(axes)
    return parts, rest, alone


def without_first(odds: jax.Array, first: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Two columns to be summed: sum of the first + (sum of the second - 1) = sum of the odds - 1.

    The left side keeps the digits of small odds, which a sum near 1 would lose.

    Args:
        odds: Against the most likely class.
        first: Whether a class is a most likely one, of odds 1.
    """
    return jnp.where(first, odds - 1, odds), jnp.where(first, 1, 0).astype(odds.dtype)


def rest_of_odds(odds: jax.Array, first: jax.Array, axes: Axes) -> jax.Array:
    """The sum of the odds less 1, with all digits of small odds; axes kept."""
    beside, count = (jnp.sum(x, axes, keepdims=True) for x in without_first(odds, first))
    return beside + (count - 1)


def _slopes_at(
    slope: jax.Array, gap: jax.Array, axes: Axes, *temperature: jax.Array
) -> tuple[jax.Array, ...]:
    """The derivatives in logits and temperature, from `slope`, that in the scaled logits.

    `slope` sums to 0 over the classes. The derivative in the temperature, which multiplies it with
    the scaled logits, can therefore take the gaps instead, which differ from them by a constant.
    """
    if not temperature:
        return (slope,)
    in_logits = slope * (1 / jnp.expand_dims(temperature[0], axes))
    return in_logits, -jnp.sum(safe_product(in_logits, gap), axes)


def _tangent(tangents: tuple[Any, ...], gap: jax.Array, axes: Axes, *temperature: Any) -> Any:
    """The tangents of the scaled logits, up to a constant, from those of logits and temperature."""
    in_logits, *in_temperature = map(instantiated, tangents, (gap, *temperature))
    if not temperature:
        return in_logits
    scale, in_scale = (jnp.expand_dims(x, axes) for x in (temperature[0], *in_temperature))
    return (in_logits - jnp.where(gap == -jnp.inf, 0, gap) * in_scale) / scale


def _with_doubt(x: jax.Array, axes: Axes, *temperature: jax.Array) -> tuple[jax.Array, jax.Array]:
    """p = softmax(x / T), and 1 - p of the most likely class, whose axes are kept.

    Both are accurate where they are small, and so are their derivatives of all orders.
    """

    @jax.custom_jvp
    def pair(x: jax.Array, *temperature: jax.Array) -> tuple[jax.Array, jax.Array]:
        parts, rest, _ = _with_rest(x, axes, *temperature)
        share = 1 / (1 + rest)
        return parts.odds * share, rest * share

    @pair.defjvp
    def _(primals: Any, tangents: Any) -> Any:
        p, doubt = pair(*primals)
        of_p = -p * _change_of_surprisals(axes, primals, tangents)
        return (p, doubt), (of_p, -jnp.sum(jnp.where(p > 0.5, of_p, 0), axes, keepdims=True))

    return pair(x, *temperature)


def _change_of_surprisals(axes: Axes, primals: Any, tangents: Any) -> jax.Array:
    """The tangents of -log softmax(x / T) of all classes.

    That of a class is the mean of the tangents of the scaled logits, weighted by p, less its own.
    The most likely class, whose p is near 1, makes up most of the mean: it enters its own with
    p - 1 instead, and the part of the others keeps its digits.
    """
    gap, _, most, _ = odds_against_top(primals[0], axes, *primals[1:])
    moved = _tangent(tangents, gap, axes, *primals[1:])
    p, doubt = _with_doubt(primals[0], axes, *primals[1:])
    most &= doubt < 0.5
    others, first = _apart(p * moved, most, axes)
    return others + jnp.where(most, -doubt * moved, first - moved)


def _apart(terms: jax.Array, most: jax.Array, axes: Axes) -> tuple[jax.Array, jax.Array]:
    """The sums over the classes: of all but the most likely one, and of that."""
    parts = jnp.where(most, 0, terms), jnp.where(most, terms, 0)
    others, first = (jnp.sum(x, axes, keepdims=True) for x in parts)
    return others, first


def surprisal(x: jax.Array, hit: jax.Array, axes: Axes, *temperature: jax.Array) -> jax.Array:
    """-log softmax(x / T) of the one class along `axes` where `hit` is true."""

    def scaled(gap: jax.Array, *temperature: jax.Array) -> jax.Array:
        return gap / jnp.expand_dims(temperature[0], axes) if temperature else gap

    def against_rival(
        x: jax.Array, hit: jax.Array, *temperature: jax.Array
    ) -> tuple[jax.Array, ...]:
        """Log-odds and odds against the rival, the most likely of the other classes.

        Those of the class itself are capped at 0 and 1.

        Returns:
            Log-odds and odds; the sum of the odds of the others; the log-odds of the rival
            against the class.
        """
        # In the sum of all odds the class counts for 1 or less and the others, of which the rival
        # has 1, for 1 or more: subtracting the class cancels no digits.
        score, rival = score_and_rival(axes, x, hit)
        gap = _below(x, rival, axes, *temperature)
        odds = jnp.exp(gap)
        lead = scaled(rival - score, *temperature)
        # The selection comes last: XLA would hand a bare exponential, together with the sum, to a
        # library that is slow at rows of one number. At a tie the class counts as it does in the
        # sum.
        first = lead < 0
        counted = jnp.where(first, 1, jnp.exp(-jnp.where(first, 0, lead)))
        return gap, odds, jnp.sum(odds, axes, keepdims=True) - counted, lead

    @jax.custom_jvp
    def slope_and_gap(
        x: jax.Array, hit: jax.Array, *temperature: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        gap, odds, others, lead = against_rival(x, hit, *temperature)
        share = 1 / (jnp.exp(-lead) + others)
        # p - 1 at the class itself is minus the sum of the others, which keeps its digits.
        slope = jnp.where(hit, -others, odds) * share
        return slope, jnp.where(hit, -lead, gap)

    def curvature(primals: Any, tangents: Any) -> Any:
        (x, _, *temperature), (in_logits, _, *in_temperature) = primals, tangents
        at, towards = (x, *temperature), (in_logits, *in_temperature)
        slope, gap = slope_and_gap(*primals)
        p, _ = _with_doubt(x, axes, *temperature)
        moved = _tangent(towards, gap, axes, *temperature)
        return (slope, gap), (-p * _change_of_surprisals(axes, at, towards), moved)

    slope_and_gap.defjvp(curvature, symbolic_zeros=True)

    def slopes(x: jax.Array, hit: jax.Array, *temperature: jax.Array) -> tuple[ArrayLike, ...]:
        slope, gap = slope_and_gap(x, hit, *temperature)
        in_logits, *in_temperature = _slopes_at(slope, gap, axes, *temperature)
        return in_logits, 0, *in_temperature

    @closed_form(slopes, axes)
    def loss(x: jax.Array, hit: jax.Array, *temperature: jax.Array) -> jax.Array:
        parts = against_rival(x, hit, *temperature)
        others, lead = (jnp.squeeze(part, axes) for part in parts[2:])
        first = lead <= 0
        less = jnp.exp(jnp.where(first, lead, -lead))
        rest = jnp.where(first, others * less, (others - 1) + less)
        return jnp.where(first, 0, lead) + jnp.log1p(rest)

    return loss(x, hit, *temperature)


class _Sums(NamedTuple):
    """Sums over the classes, with their axes kept.

    Attributes:
        rest, alone: The first two of `Odds.sums`.
        labels: The sum of the labels.
        others: The sum of the labels of all but the most likely classes.
        missed: The sum of labels times gaps.
        beside: The sum of labels times odds of all but the most likely classes; for `misplaced`.
        most: The sum of labels times odds of the most likely classes; for `misplaced`.
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

    Args:
        misplacing: Whether `misplaced` of the same logits and labels is computed too: XLA then
            computes the sums of both in one pass.
    """

    @jax.custom_jvp
    def slopes_and_gap(
        x: jax.Array, labels: jax.Array, *temperature: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        total = _labelled(odds_against_top(x, axes, *temperature), labels, axes, misplacing)
        parts = odds_against_top(x, axes, *temperature, again=True)
        share = total.labels * (1 / (1 + total.rest))
        # p - label of the most likely class would cancel; it is minus the sum of the others'.
        first = jnp.where(total.alone, total.others - total.rest * share, 0)
        slope = jnp.where(total.alone & parts.most, first, share * parts.odds - labels)
        u = parts.surprisals(total.rest)
        in_labels = jnp.where((u == jnp.inf) & (labels == 0), 0, u)
        return slope, in_labels, parts.gap

    def curvature(primals: Any, tangents: Any) -> Any:
        (x, labels, *temperature), (in_logits, in_labels, *in_temperature) = primals, tangents
        at, towards = (x, *temperature), (in_logits, *in_temperature)
        slope, u, gap = slopes_and_gap(*primals)
        p, doubt = _with_doubt(x, axes, *temperature)
        lost, moved = _change_of_surprisals(axes, at, towards), instantiated(in_labels, labels)
        most = p > 0.5
        others, first = _apart(moved, most, axes)
        total = others + first
        of_labels = jnp.where(most, others - doubt * total, p * total - moved)
        of_slope = of_labels - jnp.sum(labels, axes, keepdims=True) * p * lost
        of_u = jnp.where((p == 0) & (u == 0), 0, lost)
        return (slope, u, gap), (of_slope, of_u, _tangent(towards, gap, axes, *temperature))

    slopes_and_gap.defjvp(curvature, symbolic_zeros=True)

    def slopes(x: jax.Array, labels: jax.Array, *temperature: jax.Array) -> tuple[jax.Array, ...]:
        slope, in_labels, gap = slopes_and_gap(x, labels, *temperature)
        in_logits, *in_temperature = _slopes_at(slope, gap, axes, *temperature)
        return in_logits, in_labels, *in_temperature

    @closed_form(slopes, axes)
    def loss(x: jax.Array, labels: jax.Array, *temperature: jax.Array) -> jax.Array:
        parts = odds_against_top(x, axes, *temperature)
        total = _labelled(parts, labels, axes, misplacing)
        infinite = parts.infinite & (total.others != 0)
        missed = jnp.where(infinite, -jnp.inf * jnp.sign(total.others), total.missed)
        return jnp.squeeze(total.labels * jnp.log1p(total.rest) - missed, axes)

    return loss(x, labels, *temperature)


def misplaced(x: jax.Array, labels: jax.Array, axes: Axes) -> jax.Array:
    """The sum over `axes` of labels * (1 - softmax(x))."""

    @jax.custom_jvp
    def slopes(x: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
        total = _labelled(odds_against_top(x, axes), labels, axes, True)
        parts = odds_against_top(x, axes, again=True)
        share = 1 / (1 + total.rest)
        p, most = parts.odds * share, total.alone & parts.most
        lost = jnp.where(most, total.rest * share, 1 - p)
        # The slope in a logit is p (mean label - label of the class). The most likely class, whose
        # p is near 1, makes up most of the mean: its label is subtracted from its part first, or
        # they would cancel.
        mean = (total.beside + total.most) * share
        return p * jnp.where(most, total.beside * share - labels * lost, mean - labels), lost

    @slopes.defjvp
    def _(primals: Any, tangents: Any) -> Any:
        (x, labels), (in_logits, moved) = primals, tangents
        p, doubt = _with_doubt(x, axes)
        of_p = -p * _change_of_surprisals(axes, (x,), (in_logits,))
        # With the labels less that of the most likely class, which changes no difference.
        most = p > 0.5
        above = labels - jnp.sum(jnp.where(most, labels, 0), axes, keepdims=True)
        mean = jnp.sum(p * above, axes, keepdims=True)
        of_mean = jnp.sum(of_p * above, axes, keepdims=True)
        others, first = _apart(p * moved, most, axes)
        of_labels = others + jnp.where(most, -doubt * moved, first - moved)
        return slopes(x, labels), (of_p * (mean - above) + p * (of_mean + of_labels), -of_p)

    @closed_form(slopes, axes)
    def value(x: jax.Array, labels: jax.Array) -> jax.Array:
        total = _labelled(odds_against_top(x, axes), labels, axes, True)
        share = 1 / (1 + total.rest)
        # No digits cancel: of all but the most likely classes p is 1/2 or less, and what is
        # subtracted is at most half of `others`.
        lost = (total.others - total.beside * share) + total.most * (total.rest * share)
        return jnp.squeeze(lost, axes)

    return value(x, labels)


def surprisals(x: jax.Array, axes: Axes, *temperature: jax.Array) -> jax.Array:
    """-log softmax(x / T) of every class: 0 or more, accurate for probabilities near 1 too."""

    @jax.custom_jvp
    def every(x: jax.Array, *temperature: jax.Array) -> jax.Array:
        parts, rest, _ = _with_rest(x, axes, *temperature)
        return parts.surprisals(rest)

    def rule(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
        return every(*primals), _change_of_surprisals(axes, primals, tangents)

    every.defjvp(rule, symbolic_zeros=True)
    return every(x, *temperature)


def probabilities(x: jax.Array, axes: Axes) -> jax.Array:
    """The softmax of every class; its derivatives come from those of its logarithm."""

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
        share, _ = _with_doubt(x, axes, *temperature)
        if not temperature:
            return (share,)
        (scale,) = temperature
        top = largest(x, axes)
        # An absent class, of share 0, has no infinite gap.
        gap = _below(jnp.where(x == -jnp.inf, top, x), top, axes, scale)
        mean = jnp.squeeze(top, axes) / scale + jnp.sum(share * gap, axes)
        return share * (1 / jnp.expand_dims(scale, axes)), -mean / scale

    @closed_form(slopes, axes)
    def value(x: jax.Array, *temperature: jax.Array) -> jax.Array:
        top = jnp.max(x, axes, initial=-jnp.inf)
        for scale in temperature:
            top = top / scale
        _, rest, _ = _with_rest(x, axes, *temperature)
        return top + jnp.log1p(jnp.squeeze(rest, axes))

    return value(x, *temperature)
