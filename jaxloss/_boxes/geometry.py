"""Two boxes, axis by axis: the areas, the penalties and the derivatives of every loss of boxes.

Arrays have the two axes of the plane, x and y, in front; areas have a 1 there.

Areas are made of lengths that are 0 or more and never subtracted from each other, so that what two
nearly equal boxes do not share keeps its digits. Lengths are divided before they are multiplied,
as areas of boxes of side 1e30, or 1e-30, are no float32; and derivatives by a reciprocal, as XLA
makes (a / b) / c of what it is not given like that a / (b c).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from .._numerics.exact import exact_sum
from .._numerics.special import angle

Format = Literal["xyxy", "xywh", "cxcywh"]
Pair = tuple[jax.Array, jax.Array]


class Span(NamedTuple):
    """Two boxes along each axis, the first and the second.

    Attributes:
        own: The sides of both.
        low: By how much the first begins before the second.
        high: By how much it ends after it.
        shift: How far its centre is beyond the other's.
        overlap: The length that they share.
        gap: What lies between them.
        beyond: The part of each that the other does not cover.
        hull: From where the first of them begins to where the last of them ends.
    """

    own: Pair
    low: jax.Array
    high: jax.Array
    shift: jax.Array
    overlap: jax.Array
    gap: jax.Array
    beyond: Pair
    hull: jax.Array

    def over(self, length: jax.Array) -> Span:
        """In units of a length; of one that is 0, as it is."""
        length = _positive(length)
        return jax.tree.map(lambda x: x / length, self)

    def swapped(self) -> Span:
        """As the second box sees it."""
        return self._replace(
            own=self.own[::-1],
            low=-self.low,
            high=-self.high,
            shift=-self.shift,
            beyond=self.beyond[::-1],
        )

    def spare(self) -> jax.Array:
        """The part of the hull beyond the first box."""
        return _part(-self.low) + _part(-self.high)

    def valid(self) -> jax.Array:
        """Whether no side is negative, and no number NaN."""
        first, second = self.own
        right = (first >= 0) & (second >= 0) & ~jnp.isnan(self.low + self.high)
        return jnp.all(right, 0)


def _positive(x: jax.Array) -> jax.Array:
    """x, and 1 instead of 0: what is divided by it is 0 then too."""
    return jnp.where(x == 0, 1, x)


def _part(x: jax.Array) -> jax.Array:
    return jnp.where(x > 0, x, 0)


def _total(*terms: jax.Array) -> jax.Array:
    return functools.reduce(jnp.add, terms)


def _sum(*terms: jax.Array) -> jax.Array:
    return exact_sum(*terms)[0]


def offset(box_format: Format, first: Pair, second: Pair) -> tuple[Pair, jax.Array, jax.Array]:
    """From the two numbers that a format has for an axis of each box.

    Returns:
        The sides of both; how far the centre of the first is beyond that of the second; by how much
        its side is longer.
    """
    (a, b), (c, d) = first, second
    if box_format == "xyxy":
        return (b - a, d - c), 0.5 * _sum(b, -d, a, -c), _sum(b, -d, c, -a)
    shift = a - c if box_format == "cxcywh" else _sum(a, -c, 0.5 * b, -0.5 * d)
    return (b, d), shift, b - d


def span(box_format: Format, first: Pair, second: Pair) -> Span:
    """From the two numbers that a format has for an axis of each box."""
    own, shift, _ = offset(box_format, first, second)
    (a, b), (c, d) = first, second
    if box_format == "xyxy":
        low, high, ahead, behind = c - a, b - d, b - c, d - a
    elif box_format == "xywh":
        low, high, ahead, behind = c - a, _sum(a, -c, b, -d), _sum(a, -c, b), _sum(c, -a, d)
    else:
        half, other = 0.5 * b, 0.5 * d
        low, high = _sum(c, -a, half, -other), _sum(a, -c, half, -other)
        ahead, behind = _sum(a, -c, half, other), _sum(c, -a, half, other)
    # From where the last begins to where the first ends, and from the first to the last.
    inner = jnp.where(
        high < 0, jnp.where(low < 0, own[0], ahead), jnp.where(low < 0, behind, own[1])
    )
    hull = jnp.where(
        high < 0, jnp.where(low < 0, own[1], behind), jnp.where(low < 0, ahead, own[0])
    )
    meet = inner >= 0
    beyond = (
        jnp.where(meet, _part(low) + _part(high), own[0]),
        jnp.where(meet, _part(-low) + _part(-high), own[1]),
    )
    return Span(own, low, high, shift, _part(inner), _part(-inner), beyond, hull)


class Lengths(NamedTuple):
    """How lengths of the first box change along an axis, or what a loss changes by for each.

    Attributes:
        covered: What its side gains inside the other box.
        bare: What it gains elsewhere.
        hull: What the hull gains.
        outer: What its side and the hull gain together, on top of both.
        shift: How far the centre moves.
    """

    covered: jax.Array
    bare: jax.Array
    hull: jax.Array
    outer: jax.Array
    shift: jax.Array


def _both(operation: Callable[..., jax.Array], x: jax.Array) -> jax.Array:
    """Of the two axes: their product, sum, larger one."""
    return operation(x[:1], x[1:])


class Areas(NamedTuple):
    """The part of both boxes and the parts of only one, in units of the larger sides."""

    span: Span
    size: jax.Array
    common: jax.Array
    apart: jax.Array

    @property
    def union(self) -> jax.Array:
        return self.common + self.apart


def _less_common(s: Span) -> list[jax.Array]:
    """The area of each box less what it shares."""
    return [s.beyond[i][:1] * s.own[i][1:] + s.overlap[:1] * s.beyond[i][1:] for i in (0, 1)]


def areas(s: Span) -> Areas:
    size = jax.lax.stop_gradient(_positive(jnp.maximum(*s.own)))
    s = s.over(size)
    return Areas(s, size, _both(jnp.multiply, s.overlap), _total(*_less_common(s)))


def distinct(s: Span) -> jax.Array:
    """1 - IoU."""
    parts = areas(s)
    none = parts.union == 0
    return jnp.where(none, 1, parts.apart) / jnp.where(none, 1, parts.union)


def shared(s: Span) -> jax.Array:
    """IoU."""
    parts = areas(s)
    return parts.common / _positive(parts.union)


def distinct_partials(s: Span) -> Lengths:
    parts = areas(s)
    s, union = parts.span, _positive(parts.union)
    # Of the first box the side along the axis, and that across.
    across = s.own[0][::-1]
    reach = s.overlap[::-1] / union * (1 / parts.size)
    # (1 - IoU)' = (I A' - I' (U + I)) / U^2, where A' and I' are the sides across what grows.
    missed = (_both(jnp.multiply, s.own[1]) + s.beyond[0] * across) / union
    none, wasted = jnp.zeros_like(reach), reach * (s.overlap * across / union)
    return Lengths(-reach * missed, wasted, none, wasted, none)


def shared_partials(s: Span) -> Lengths:
    return jax.tree.map(jnp.negative, distinct_partials(s))


def emptiness(s: Span) -> jax.Array:
    """The part of the hull that neither box covers; 0 of a hull without an area."""
    s = s.over(s.hull)
    corners = s.beyond[0] * s.beyond[1][::-1]
    between = s.gap[:1] * s.hull[1:] + (s.hull - s.gap)[:1] * s.gap[1:]
    return _both(jnp.add, corners) + between


def emptiness_partials(s: Span) -> Lengths:
    flat, unit = _both(jnp.logical_or, s.hull == 0), _positive(s.hull)
    s = s.over(s.hull)
    own, other = _less_common(s)
    found = Lengths(
        covered=-s.beyond[0][::-1],
        bare=-s.own[0][::-1],
        hull=own + other + _both(jnp.multiply, s.overlap),
        # The sum of the two above, of which most would cancel.
        outer=other - s.own[0][::-1] * s.spare(),
        shift=jnp.zeros_like(unit),
    )
    return jax.tree.map(lambda slope: jnp.where(flat, 0, slope) * (1 / unit), found)


def _diagonal(s: Span) -> tuple[Span, jax.Array, jax.Array]:
    """In units of the larger side of the hull; that unit; the diagonal squared."""
    unit = jax.lax.stop_gradient(_positive(_both(jnp.maximum, s.hull)))
    s = s.over(unit)
    return s, unit, _positive(_both(jnp.add, s.hull * s.hull))


def distance(s: Span) -> jax.Array:
    """The squared distance of the centres over the squared diagonal of the hull."""
    s, _, square = _diagonal(s)
    return _both(jnp.add, s.shift * s.shift) / square


def distance_partials(s: Span) -> Lengths:
    part = distance(s)
    s, unit, square = _diagonal(s)
    hull, shift = (2 * slope / square * (1 / unit) for slope in (-part * s.hull, s.shift))
    none = jnp.zeros_like(shift)
    return Lengths(none, none, hull, hull, shift)


def _direction(sides: jax.Array) -> jax.Array:
    """Of the diagonal: the sides, of which the larger is about 1. Of a point, upwards."""
    larger = jax.lax.stop_gradient(_both(jnp.maximum, sides))
    upwards = jnp.concatenate([jnp.zeros_like(larger), jnp.ones_like(larger)])
    return jnp.where(larger == 0, upwards, sides / _positive(larger))


def _aspect_parts(s: Span) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The gap of the angles, in right angles; its square v; and v / (1 - IoU + v)."""
    first, second = map(_direction, s.own)
    # The angle between two directions, instead of the difference of two arctangents.
    cross, dot = first[:1] * second[1:] - second[:1] * first[1:], _both(jnp.add, first * second)
    gap = (2 / math.pi) * angle(cross, dot)
    square = gap * gap
    alpha = square / _positive(distinct(s) + square)
    return gap, square, jax.lax.stop_gradient(alpha)


def aspect(s: Span) -> jax.Array:
    """What the aspect ratios differ by, times a factor that is constant for derivatives."""
    _, square, alpha = _aspect_parts(s)
    return alpha * square


def aspect_partials(s: Span) -> Lengths:
    gap, _, alpha = _aspect_parts(s)
    unit = jax.lax.stop_gradient(_positive(_both(jnp.maximum, s.own[0])))
    sides = s.own[0] / unit
    turn = (4 / math.pi) * alpha * gap / _positive(_both(jnp.add, sides * sides)) * (1 / unit)
    slope = jnp.concatenate([turn * sides[1:], -turn * sides[:1]])
    none = jnp.zeros_like(slope)
    return Lengths(slope, slope, none, slope, none)


class Term(NamedTuple):
    """A term of a loss, and what changes of the first box do to it."""

    value: Callable[[Span], jax.Array]
    partials: Callable[[Span], Lengths]


SHARED = Term(shared, shared_partials)
DISTINCT = Term(distinct, distinct_partials)
EMPTINESS = Term(emptiness, emptiness_partials)
DISTANCE = Term(distance, distance_partials)
ASPECT = Term(aspect, aspect_partials)


class End(NamedTuple):
    """An end of the first box that moves outwards.

    Attributes:
        inwards: Whether it moves inside the other box.
        outwards: Whether the hull grows with it. Where two ends are level, that of the two which
            costs or gains less; neither if the loss grows both ways.
        slope: What the loss changes by.
    """

    inwards: jax.Array
    outwards: jax.Array
    slope: jax.Array

    def change(self, sign: float, meet: jax.Array) -> Lengths:
        """What lengths change by; `sign` is 1 if outwards is upwards, else -1."""
        number = functools.partial(jnp.asarray, dtype=self.slope.dtype)
        return Lengths(
            covered=number(self.inwards & meet),
            bare=number(self.inwards & ~meet),
            hull=jnp.zeros_like(self.slope),
            outer=number(self.outwards),
            shift=0.5 * sign * number(self.inwards | self.outwards),
        )


def _end(outside: jax.Array, sign: float, meet: jax.Array, partials: Lengths) -> End:
    """That which is outside of the other box's by so much; `meet` says whether the boxes do."""
    drift = 0.5 * sign * partials.shift
    inner = jnp.where(meet, partials.covered, partials.bare) + drift
    outer = partials.outer + drift
    level = (outside == 0) & (jnp.sign(inner) * jnp.sign(outer) >= 0)
    less = jnp.abs(inner) <= jnp.abs(outer)
    inwards = (outside < 0) | (level & less)
    outwards = (outside > 0) | (level & ~less)
    return End(inwards, outwards, jnp.where(inwards, inner, jnp.where(outwards, outer, 0)))


def _cost(change: Lengths, partials: Lengths) -> jax.Array:
    """What a change costs; of a length that does not change, nothing."""
    terms = [jnp.where(x == 0, 0, x * p) for x, p in zip(change, partials, strict=True)]
    return _total(*terms)


def _gradient(box_format: Format, s: Span, meet: jax.Array, partials: Lengths) -> jax.Array:
    """In the first box."""
    low, high = _end(s.low, -1, meet, partials), _end(s.high, 1, meet, partials)
    if box_format == "xyxy":
        return jnp.concatenate([-low.slope, high.slope])
    down, up = low.change(-1, meet), high.change(1, meet)
    # Both ends before they are multiplied, as they may cancel. That the hull grows at one end while
    # the side grows at the other are two lengths.
    moved = jax.tree.map(jnp.subtract, up, down)
    outer = jnp.where(moved.bare == 0, moved.outer, 0)
    apart = moved.outer - outer
    moved = moved._replace(bare=moved.bare + apart, hull=apart, outer=outer)
    if box_format == "xywh":
        return jnp.concatenate([_cost(moved, partials), high.slope])
    wider = jax.tree.map(lambda h, g: 0.5 * (h + g), up, down)
    return jnp.concatenate([_cost(moved, partials), _cost(wider, partials)])


def span_of(box_format: Format, a: jax.Array, b: jax.Array) -> Span:
    """From boxes with their four numbers along the last axis."""
    first, second = (jnp.moveaxis(x, -1, 0) for x in (a, b))
    return span(box_format, (first[:2], first[2:]), (second[:2], second[2:]))


def gradients(
    box_format: Format, terms: Sequence[Term], a: jax.Array, b: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Of the sum of the terms in both boxes."""
    s = span_of(box_format, a, b)
    meet = _both(jnp.logical_and, s.gap == 0)
    first, second = (
        _gradient(
            box_format, side, meet, jax.tree.map(_total, *(term.partials(side) for term in terms))
        )
        for side in (s, s.swapped())
    )
    return jnp.moveaxis(first, 0, -1), jnp.moveaxis(second, 0, -1)
