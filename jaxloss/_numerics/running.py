"""Sums over the classes of a row in one reduction, which keeps the largest logit so far.

The usual two passes read the row once for its largest logit, and once more for sums relative to it.
Here each part of a row has sums relative to its own largest logit; where two parts meet, those of
the one with the smaller logits are scaled to the other's. Logits of -inf are classes that are not
there. Nothing here has a derivative: what is computed of these sums has its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

Axes = tuple[int, ...]
Parts = Sequence[jax.Array]


def reduced(parts: Parts, start: Sequence[float], join: Callable[..., Any], axes: Axes) -> Parts:
    """One reduction of several arrays of one shape, axes kept."""
    empty = tuple(jnp.full((), s, x.dtype) for s, x in zip(start, parts, strict=True))
    totals = jax.lax.reduce(tuple(parts), empty, join, axes)
    # The value and the slopes of a loss use different ones of the totals. Without the barrier a
    # compiler drops the others from each, and reads the row once for the value and once more for
    # the slopes: on a TPU soft cross-entropy moved 2.33 times its floor, for 1.67.
    totals = jax.lax.optimization_barrier(totals)
    return [jnp.expand_dims(x, axes) for x in totals]


def _repeated(temperature: tuple[jax.Array, ...], x: jax.Array, axes: Axes) -> list[jax.Array]:
    """One for each class."""
    return [jnp.broadcast_to(jnp.expand_dims(t, axes), x.shape) for t in temperature]


def _odds(low: jax.Array, high: jax.Array, temperature: Parts) -> tuple[jax.Array, jax.Array]:
    """The logarithm of the odds of the smaller logit against the larger, and the odds."""
    gap = low - high
    for scale in temperature:
        gap = gap / scale
    # Of two that are infinite, too.
    gap = jnp.where(low == high, 0, gap)
    return gap, jnp.exp(gap)


def _hotter(a: Parts, b: Parts) -> list[jax.Array]:
    """The temperature, which is 0 in an empty part."""
    return [jnp.maximum(s, t) for s, t in zip(a, b, strict=True)]


def rival_and_others(
    axes: Axes, x: jax.Array, hit: jax.Array, *temperature: jax.Array
) -> tuple[jax.Array, ...]:
    """The score of the class where `hit` is true, the largest other, and the odds of the others.

    These are summed, relative to the largest of them; axes are kept.
    """

    def odds(a: Parts, b: Parts) -> tuple[jax.Array, ...]:
        top, scale = jnp.maximum(a[0], b[0]), _hotter(a[2:], b[2:])
        low, high = (part[1] * _odds(part[0], top, scale)[1] for part in (a, b))
        return top, low + high, *scale

    def join(a: Parts, b: Parts) -> tuple[jax.Array, ...]:
        return a[0] + b[0], *odds(a[1:], b[1:])

    others = jnp.where(hit, 0, 1).astype(x.dtype)
    own, rivals = jnp.where(hit, x, 0), jnp.where(hit, -jnp.inf, x)
    scales = _repeated(temperature, x, axes)
    zeros = [0.0 for _ in scales]
    if axes != (x.ndim - 1,):
        # A GPU stores what a reduction of three or more arrays along another axis than the last
        # adds up: seven passes over the logits. Of two arrays it takes one, as does this sum.
        top, total, *_ = reduced((rivals, others, *scales), (-jnp.inf, 0, *zeros), odds, axes)
        return jnp.sum(own, axes, keepdims=True), top, total
    parts = own, rivals, others
    score, top, total, *_ = reduced((*parts, *scales), (0, -jnp.inf, 0, *zeros), join, axes)
    return score, top, total


def top_and_rest(axes: Axes, x: jax.Array, *temperature: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The largest logit, and the sum of the odds against it of all but it; axes are kept."""

    def join(a: Parts, b: Parts) -> tuple[jax.Array, ...]:
        top, scale = jnp.maximum(a[0], b[0]), _hotter(a[2:], b[2:])
        # The largest of the part with the smaller logits is one of the rest now, of odds 1 in its
        # part; where both are equal, one of them is.
        second = a[0] < b[0]
        lower, higher = jnp.where(second, a[1], b[1]), jnp.where(second, b[1], a[1])
        _, odds = _odds(jnp.minimum(a[0], b[0]), top, scale)
        return top, higher + (lower + 1) * odds, *scale

    scales = _repeated(temperature, x, axes)
    parts = (x, jnp.zeros_like(x), *scales)
    top, rest, *_ = reduced(parts, (-jnp.inf, -1, *(0 for _ in scales)), join, axes)
    return top, rest


def odds_above_zero(axes: Axes, *columns: jax.Array) -> Parts:
    """Of each array the largest of 0 and its numbers, and the sum of their odds against that.

    They come one array after the other, axes kept.
    """

    def join(a: Parts, b: Parts) -> tuple[jax.Array, ...]:
        found = []
        for i in range(0, len(a), 2):
            top = jnp.maximum(a[i], b[i])
            sides = (part[i + 1] * _odds(part[i], top, ())[1] for part in (a, b))
            found += [top, jnp.add(*sides)]
        return tuple(found)

    parts = [part for x in columns for part in (x, jnp.ones_like(x))]
    return reduced(parts, [0 for _ in parts], join, axes)


class Totals(NamedTuple):
    """Sums over the classes of a row, axes kept.

    Attributes:
        top: The largest logit; -inf if there is none.
        ties: How many classes have it.
        odds: The sum of the odds of all others against one of these.
        others: The sum of the labels of all others.
        first: That of the labels of the largest logits.
        missed: The sum of labels times the logarithms of odds.
        beside: The sum of labels times odds, of all but the largest logits.
    """

    top: jax.Array
    ties: jax.Array
    odds: jax.Array
    others: Any = None
    first: Any = None
    missed: Any = None
    beside: Any = None


def totals(axes: Axes, labelled: bool, x: jax.Array, *rest: jax.Array) -> Totals:
    """The sums, in one pass.

    Args:
        axes: Those of the classes.
        labelled: Whether labels come first of the rest.
        x: Logits.
        *rest: Labels of the shape of `x`, if there are any; then, if there is one, a temperature
            without the axes of the classes.
    """
    columns, temperature = rest[:labelled], rest[labelled:]
    scales = _repeated(temperature, x, axes)
    size = 7 if labelled else 3

    def lowered(part: Parts, top: jax.Array, scale: Parts) -> tuple[jax.Array, ...]:
        """The sums of a part relative to a logit that is as large as any of it, or larger."""
        own, count, odds, *of_labels = part[:size]
        gap, share = _odds(own, top, scale)
        lower = own < top
        found = [jnp.where(lower, 0, count), jnp.where(lower, (odds + count) * share, odds)]
        if labelled:
            others, first, missed, beside = of_labels
            labels = others + first
            found += [
                jnp.where(lower, labels, others),
                jnp.where(lower, 0, first),
                missed + jnp.where(lower & (labels != 0), labels * gap, 0),
                jnp.where(lower, (beside + first) * share, beside),
            ]
        return tuple(found)

    def join(a: Parts, b: Parts) -> tuple[jax.Array, ...]:
        top, scale = jnp.maximum(a[0], b[0]), _hotter(a[size:], b[size:])
        sides = lowered(a, top, scale), lowered(b, top, scale)
        return top, *map(jnp.add, *sides), *scale

    zero = jnp.zeros_like(x)
    parts = [x, jnp.ones_like(x), zero]
    if labelled:
        parts += [zero, columns[0], zero, zero]
    start = (-jnp.inf, *(0 for _ in parts[1:]), *(0 for _ in scales))
    found = reduced((*parts, *scales), start, join, axes)
    top, ties, *sums = found[:size]
    # Among NaN there is no largest, nor where no class is there.
    return Totals(top, jnp.where(top > -jnp.inf, ties, 0), *sums)
