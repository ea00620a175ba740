"""The terms that losses of boxes consist of, and their slopes in the lengths of the first box.

Arrays have the two axes of the plane, x and y, in front; areas have a 1 there. Lengths are divided
before they are multiplied: areas of boxes of side 1e30, or 1e-30, are out of the range of float32.
Slopes are multiplied by a reciprocal: XLA rewrites (a / b) / c as a / (b c), which may overflow.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from .._numerics.special import angle, one_if_zero
from .spans import Span


class Lengths(NamedTuple):
    """Something for each length that changes with the first box, along each axis.

    That is either the derivative of a loss in the length, or the derivative of the length in a
    coordinate.

    Attributes:
        covered: The part of its side that the other box covers.
        bare: The part that the other box does not cover, while the hull stays as it is.
        hull: The hull, while the side stays as it is.
        outer: `bare` and `hull` at once: an end of the hull moves.
        shift: The coordinate of its centre, while all other lengths stay as they are.
    """

    covered: jax.Array
    bare: jax.Array
    hull: jax.Array
    outer: jax.Array
    shift: jax.Array


class Term(NamedTuple):
    """A term of a loss.

    Attributes:
        value: Of two boxes.
        partials: Its derivatives in the lengths of the first box; as terms are symmetric, those of
            the second box are the partials of `Span.swapped`.
    """

    value: Callable[[Span], jax.Array]
    partials: Callable[[Span], Lengths]


def total(*terms: jax.Array) -> jax.Array:
    return functools.reduce(jnp.add, terms)


def over_axes(operation: Callable[..., jax.Array], x: jax.Array) -> jax.Array:
    """The sum, product or the like of x along one axis and x along the other."""
    return operation(x[:1], x[1:])


class Areas(NamedTuple):
    """Areas in units of the larger side along each axis.

    Attributes:
        span: The lengths in these units.
        unit: The larger sides.
        common: The area that both boxes cover.
        apart: The area that only one of them covers.
    """

    span: Span
    unit: jax.Array
    common: jax.Array
    apart: jax.Array

    @property
    def union(self) -> jax.Array:
        return self.common + self.apart


def _areas_beyond(s: Span) -> list[jax.Array]:
    """The area of each box that the other does not cover."""
    return [s.beyond[i][:1] * s.own[i][1:] + s.overlap[:1] * s.beyond[i][1:] for i in (0, 1)]


def _areas(s: Span) -> Areas:
    unit = jax.lax.stop_gradient(one_if_zero(jnp.maximum(*s.own)))
    s = s.over(unit)
    return Areas(s, unit, over_axes(jnp.multiply, s.overlap), total(*_areas_beyond(s)))


def _iou_loss(s: Span) -> jax.Array:
    parts = _areas(s)
    return jnp.where(parts.union == 0, 1, parts.apart) / one_if_zero(parts.union)


def _iou_loss_partials(s: Span) -> Lengths:
    parts = _areas(s)
    s, union = parts.span, one_if_zero(parts.union)
    across = s.own[0][::-1]  # the side of the first box along the other axis
    overlap_across = s.overlap[::-1] / union * (1 / parts.unit)
    # With the areas I of the intersection, U of the union, A and B of the boxes, U = A + B - I and
    # (1 - I / U)' = (I A' - (U + I) I') / U^2. If `covered` grows, A' is the side across and I' the
    # overlap across; if `bare` grows, I' is 0.
    lost = (over_axes(jnp.multiply, s.own[1]) + s.beyond[0] * across) / union
    none, bare = jnp.zeros_like(across), overlap_across * (s.overlap * across / union)
    return Lengths(-overlap_across * lost, bare, none, bare, none)


IOU_LOSS = Term(_iou_loss, _iou_loss_partials)


def _iou(s: Span) -> jax.Array:
    parts = _areas(s)
    return parts.common / one_if_zero(parts.union)


def _iou_partials(s: Span) -> Lengths:
    return jax.tree.map(jnp.negative, _iou_loss_partials(s))


IOU = Term(_iou, _iou_partials)


def _emptiness(s: Span) -> jax.Array:
    """The share of the hull that neither box covers; 0 if the hull has no area."""
    s = s.over(s.hull)
    corners = s.beyond[0] * s.beyond[1][::-1]
    between = s.gap[:1] * s.hull[1:] + (s.hull - s.gap)[:1] * s.gap[1:]
    return over_axes(jnp.add, corners) + between


def _emptiness_partials(s: Span) -> Lengths:
    flat, unit = over_axes(jnp.logical_or, s.hull == 0), one_if_zero(s.hull)
    s = s.over(s.hull)
    own, other = _areas_beyond(s)
    found = Lengths(
        covered=-s.beyond[0][::-1],
        bare=-s.own[0][::-1],
        hull=own + other + over_axes(jnp.multiply, s.overlap),
        # bare + hull, most of which would cancel.
        outer=other - s.own[0][::-1] * s.spare(),
        shift=jnp.zeros_like(unit),
    )
    return jax.tree.map(lambda slope: jnp.where(flat, 0, slope) * (1 / unit), found)


EMPTINESS = Term(_emptiness, _emptiness_partials)


def _by_diagonal(s: Span) -> tuple[Span, jax.Array, jax.Array]:
    """Lengths in units of the larger side of the hull; that unit; the diagonal squared, in it."""
    unit = jax.lax.stop_gradient(one_if_zero(over_axes(jnp.maximum, s.hull)))
    s = s.over(unit)
    return s, unit, one_if_zero(over_axes(jnp.add, s.hull * s.hull))


def _distance(s: Span) -> jax.Array:
    """The squared distance of the centres over the squared diagonal of the hull."""
    s, _, square = _by_diagonal(s)
    return over_axes(jnp.add, s.shift * s.shift) / square


def _distance_partials(s: Span) -> Lengths:
    value = _distance(s)
    s, unit, square = _by_diagonal(s)
    hull, shift = (2 * slope / square * (1 / unit) for slope in (-value * s.hull, s.shift))
    none = jnp.zeros_like(shift)
    return Lengths(none, none, hull, hull, shift)


DISTANCE = Term(_distance, _distance_partials)


def _direction(sides: jax.Array) -> jax.Array:
    """The direction of a box's diagonal: its sides over the larger one; (0, 1) for a point."""
    larger = jax.lax.stop_gradient(over_axes(jnp.maximum, sides))
    upwards = jnp.concatenate([jnp.zeros_like(larger), jnp.ones_like(larger)])
    return jnp.where(larger == 0, upwards, sides / one_if_zero(larger))


def _aspect_parts(s: Span) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The angle between the diagonals, in right angles; its square v; and v / (1 - IoU + v)."""
    first, second = map(_direction, s.own)
    # From their cross and dot products: a difference of two arctangents would cancel.
    cross = first[:1] * second[1:] - second[:1] * first[1:]
    gap = (2 / math.pi) * angle(cross, over_axes(jnp.add, first * second))
    square = gap * gap
    alpha = square / one_if_zero(_iou_loss(s) + square)
    return gap, square, jax.lax.stop_gradient(alpha)


def _aspect(s: Span) -> jax.Array:
    """The squared angle between the diagonals, times a factor that is held constant."""
    _, square, alpha = _aspect_parts(s)
    return alpha * square


def _aspect_partials(s: Span) -> Lengths:
    gap, _, alpha = _aspect_parts(s)
    unit = jax.lax.stop_gradient(one_if_zero(over_axes(jnp.maximum, s.own[0])))
    sides = s.own[0] / unit
    square = one_if_zero(over_axes(jnp.add, sides * sides))
    turn = (4 / math.pi) * alpha * gap / square * (1 / unit)
    slope = jnp.concatenate([turn * sides[1:], -turn * sides[:1]])
    none = jnp.zeros_like(slope)
    return Lengths(slope, slope, none, slope, none)


ASPECT = Term(_aspect, _aspect_partials)
