"""The softmax, its logarithm and cross-entropies, accurate to a few units in the last place.

The largest logit is subtracted from all of them first. The softmax depends on differences of logits
only, and the difference of logits near each other is exact. A logit of -inf is a class that is not
there.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from . import running
from .kinks import closed_form, instantiated
from .reductions import is_long, sums, unlike_before
from .xla import in_passes

Axes = tuple[int, ...]


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


class RowSums(NamedTuple):
    """What the odds of a row, and its labels, add up to; axes kept.

    Attributes:
        top: The largest logit.
        rest: The sum of the odds of all classes but one most likely class.
        alone: Whether only one class is most likely; perhaps false where its p is 1/2 or less.
        labels: The sum of the labels.
        others: The sum of the labels of all but the most likely classes, or but one of them.
        missed: The sum of labels times gaps.
        beside: The sum of labels times odds of the classes in `others`.
        most: The sum of the labels of the rest.
    """

    top: jax.Array
    rest: jax.Array
    alone: jax.Array
    labels: jax.Array
    others: jax.Array
    missed: jax.Array
    beside: Any = None
    most: Any = None


def largest(x: jax.Array, axes: Axes) -> jax.Array:
    """The largest logit, a constant under differentiation: -inf if there is none; axes kept."""
    return jax.lax.stop_gradient(jnp.max(x, axes, keepdims=True, initial=-jnp.inf))


@closed_form(lambda x, top: (jnp.where(x > top, 0, 1).astype(x.dtype), 0))
def _capped(x: jax.Array, top: jax.Array) -> jax.Array:
    """min(x, top), with slope 1 in x where they are equal; `top` is held constant."""
    return jnp.minimum(x, top)


def below(
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


def odds_against(
    x: jax.Array, top: jax.Array, axes: Axes, *temperature: jax.Array, again: bool = False
) -> Odds:
    """The odds of softmax(x / T), against the largest logit.

    Args:
        x: Logits.
        top: The largest of each row, axes kept.
        axes: Those of the classes.
        *temperature: T, if it is not 1.
        again: Whether the program computes the same odds elsewhere too; see `unlike_before`.
    """
    gap = below(x, top, axes, *temperature, bound=unlike_before(x, axes) if again else None)
    return Odds(gap, jnp.exp(gap), gap == 0, top == jnp.inf)


def odds_against_top(x: jax.Array, axes: Axes, *temperature: jax.Array) -> Odds:
    """The odds of softmax(x / T)."""
    return odds_against(x, largest(x, axes), axes, *temperature)


def row_sums(
    x: jax.Array, labels: jax.Array, axes: Axes, *temperature: jax.Array, shared: bool = False
) -> RowSums:
    """The sums over the classes, constants under differentiation.

    Args:
        x: Logits.
        labels: Of the shape of `x`.
        axes: Those of the classes.
        *temperature: T, if it is not 1.
        shared: Whether `beside` and `most` are wanted.
    """
    return RowSums(*in_passes(*_forms(axes, shared), x, labels, *temperature))


@functools.cache
def _forms(axes: Axes, shared: bool) -> tuple[Callable[..., Any], ...]:
    """Two functions of logits, labels and temperature: the fields of `RowSums`."""

    def counted(x: jax.Array, labels: jax.Array, *temperature: jax.Array) -> Any:
        found = _in_two_passes(axes, True, shared, x, labels, *temperature)
        top, rest, count, *of_labels = found
        # Where all logits are -inf, or several are inf, the softmax is undefined.
        undefined = (count < 1) | ((top == jnp.inf) & (count > 1))
        return top, jnp.where(undefined, jnp.nan, rest + (count - 1)), count == 1, *of_labels

    def in_one_pass(x: jax.Array, labels: jax.Array, *temperature: jax.Array) -> Any:
        found = running.totals(axes, shared, x, labels, *temperature)
        rest = _defined(found.top, found.rest)
        results = found.top, rest, rest < 1, found.others + found.first, found.others, found.missed
        return (*results, found.beside, found.first) if shared else results

    return counted, in_one_pass


def _in_two_passes(
    axes: Axes, labelled: bool, shared: bool, x: jax.Array, *more: jax.Array
) -> tuple[jax.Array, ...]:
    """The fields of `RowSums`, of `more`: labels, if there are any, and temperature.

    But for `rest`, the sum of the odds of all that are not most likely, and `alone`, the number of
    those that are.
    """
    top = largest(x, axes)
    parts = odds_against(x, top, axes, *more[labelled:])
    # The most likely classes, of odds 1, are counted.
    odds = jnp.where(parts.most, 0, parts.odds)
    columns = [parts.most.astype(odds.dtype)]
    if labelled:
        labels = more[0]
        others = jnp.where(parts.most, 0, labels)
        columns += [labels, others, jnp.where(labels == 0, 0, labels * parts.gap)]
        if shared:
            columns += [others * parts.odds, jnp.where(parts.most, labels * parts.odds, 0)]
    if not is_long(odds.shape[axes[-1]]):
        # An exponential in one reduction of several arrays over few classes is not vectorised:
        # the odds are summed by themselves.
        totals = jnp.sum(odds, axes), *sums(axes, *columns)
    else:
        totals = sums(axes, odds, *columns)
    return top, *(jnp.expand_dims(x, axes) for x in totals)


def top_and_rest(x: jax.Array, axes: Axes, *temperature: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The largest logit, and the sum of the odds of all but it; constants, axes kept.

    Where no class is there, all of logits of -inf, they are -inf and no number of use.
    """
    return in_passes(*_forms_of_rest(axes), x, *temperature)


def _defined(top: jax.Array, rest: jax.Array) -> jax.Array:
    """The sum of odds, NaN where all logits are -inf, or several are inf."""
    undefined = (top == -jnp.inf) | ((top == jnp.inf) & (rest >= 1))
    return jnp.where(undefined, jnp.nan, rest)


@functools.cache
def _forms_of_rest(axes: Axes) -> tuple[Callable[..., Any], ...]:
    def counted(x: jax.Array, *temperature: jax.Array) -> tuple[jax.Array, jax.Array]:
        top, rest, count = _in_two_passes(axes, False, False, x, *temperature)
        return top, rest + (count - 1)

    return counted, functools.partial(running.top_and_rest, axes)


def _with_rest(x: jax.Array, axes: Axes, *temperature: jax.Array) -> tuple[Odds, jax.Array]:
    """The odds, and the sum of those of all classes but one most likely class."""
    top, rest = top_and_rest(x, axes, *temperature)
    return odds_against(x, top, axes, *temperature), _defined(top, rest)


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


def scaled_tangent(tangents: tuple[Any, ...], gap: jax.Array, axes: Axes, *temperature: Any) -> Any:
    """The tangents of the scaled logits, up to a constant, from those of logits and temperature."""
    in_logits, *in_temperature = map(instantiated, tangents, (gap, *temperature))
    if not temperature:
        return in_logits
    scale, in_scale = (jnp.expand_dims(x, axes) for x in (temperature[0], *in_temperature))
    return (in_logits - jnp.where(gap == -jnp.inf, 0, gap) * in_scale) / scale


def with_doubt(x: jax.Array, axes: Axes, *temperature: jax.Array) -> tuple[jax.Array, jax.Array]:
    """p = softmax(x / T), and 1 - p of the most likely class, whose axes are kept.

    Both are accurate where they are small, and so are their derivatives of all orders.
    """

    @jax.custom_jvp
    def pair(x: jax.Array, *temperature: jax.Array) -> tuple[jax.Array, jax.Array]:
        parts, rest = _with_rest(x, axes, *temperature)
        share = 1 / (1 + rest)
        return parts.odds * share, rest * share

    @pair.defjvp
    def _(primals: Any, tangents: Any) -> Any:
        p, doubt = pair(*primals)
        of_p = -p * change_of_surprisals(axes, primals, tangents)
        return (p, doubt), (of_p, -jnp.sum(jnp.where(p > 0.5, of_p, 0), axes, keepdims=True))

    return pair(x, *temperature)


def change_of_surprisals(axes: Axes, primals: Any, tangents: Any) -> jax.Array:
    """The tangents of -log softmax(x / T) of all classes.

    That of a class is the mean of the tangents of the scaled logits, weighted by p, less its own.
    """
    gap, _, most, _ = odds_against_top(primals[0], axes, *primals[1:])
    moved = scaled_tangent(tangents, gap, axes, *primals[1:])
    p, doubt = with_doubt(primals[0], axes, *primals[1:])
    return mean_less(moved, p, doubt, most & (doubt < 0.5), axes)


def mean_less(
    x: jax.Array, p: jax.Array, doubt: jax.Array, most: jax.Array, axes: Axes
) -> jax.Array:
    """The mean of x, weighted by a softmax p, less each x.

    The most likely class, whose p is near 1, makes up most of the mean: it enters its own with
    p - 1 instead, and the part of the others keeps its digits.

    Args:
        x: One number for each class.
        p: The softmax.
        doubt: 1 - p of the most likely class; see `with_doubt`.
        most: Whether a class is the most likely one, of p above 1/2.
        axes: Those of the classes.
    """
    others, first = apart(p * x, most, axes)
    return others + jnp.where(most, -doubt * x, first - x)


def apart(terms: jax.Array, most: jax.Array, axes: Axes) -> tuple[jax.Array, jax.Array]:
    """The sums over the classes: of all but the most likely one, and of that."""
    parts = jnp.where(most, 0, terms), jnp.where(most, terms, 0)
    others, first = (jnp.sum(x, axes, keepdims=True) for x in parts)
    return others, first


def surprisals(x: jax.Array, axes: Axes, *temperature: jax.Array) -> jax.Array:
    """-log softmax(x / T) of every class: 0 or more, accurate for probabilities near 1 too."""

    @jax.custom_jvp
    def every(x: jax.Array, *temperature: jax.Array) -> jax.Array:
        parts, rest = _with_rest(x, axes, *temperature)
        return parts.surprisals(rest)

    def rule(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
        return every(*primals), change_of_surprisals(axes, primals, tangents)

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
        share, _ = with_doubt(x, axes, *temperature)
        if not temperature:
            return (share,)
        (scale,) = temperature
        top = largest(x, axes)
        # An absent class, of share 0, has no infinite gap.
        gap = below(jnp.where(x == -jnp.inf, top, x), top, axes, scale)
        mean = jnp.squeeze(top, axes) / scale + jnp.sum(share * gap, axes)
        return share * (1 / jnp.expand_dims(scale, axes)), -mean / scale

    @closed_form(slopes, axes)
    def value(x: jax.Array, *temperature: jax.Array) -> jax.Array:
        top, rest = (jnp.squeeze(y, axes) for y in top_and_rest(x, axes, *temperature))
        rest = _defined(top, rest)
        for scale in temperature:
            top = top / scale
        return top + jnp.log1p(rest)

    return value(x, *temperature)
