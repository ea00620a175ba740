"""The terms that losses of boxes consist of, and their slopes in the lengths of the first box.

Terms are computed from the spans of two boxes along an axis, `s`, and across it, and their slopes
are those in lengths along the axis; terms themselves are the same along either. Lengths are divided
by powers of two before they are multiplied: areas of boxes of side 1e30, or 1e-30, are out of the
range of float32.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from .._numerics.special import angle, one_if_zero
from .._numerics.xla import over_power
from .spans import Pair, Span, power_near


class Lengths(NamedTuple):
    """Something for each length along an axis that changes with the first box.

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
    """A term of a loss, as functions of the spans along an axis and across it.

    Attributes:
        value: Of two boxes.
        partials: Its derivatives in the lengths of the first box along the axis; as terms are
            symmetric, those of the second box are the partials of the spans `swapped`.
    """

    value: Callable[[Span, Span], jax.Array]
    partials: Callable[[Span, Span], Lengths]


def total(*terms: jax.Array) -> jax.Array:
    return functools.reduce(jnp.add, terms)


class Areas(NamedTuple):
    """Areas, of lengths that are divided by a power of two along each axis.

    Attributes:
        s: The lengths along the axis.
        across: Those across it.
        power: By what lengths along the axis are divided.
        common: The area that both boxes cover.
        apart: The area that only one of them covers.
    """

    s: Span
    across: Span
    power: jax.Array
    common: jax.Array
    apart: jax.Array

    @property
    def union(self) -> jax.Array:
        return self.common + self.apart


def _areas_beyond(s: Span, across: Span) -> list[jax.Array]:
    """The area of each box that the other does not cover."""
    return [s.beyond[i] * across.own[i] + s.overlap * across.beyond[i] for i in (0, 1)]


def _areas(s: Span, across: Span) -> Areas:
    power, other = (power_near(jnp.maximum(*each.own)) for each in (s, across))
    s, across = s.over(power), across.over(other)
    return Areas(s, across, power, s.overlap * across.overlap, total(*_areas_beyond(s, across)))


def _iou_loss(s: Span, across: Span) -> jax.Array:
    parts = _areas(s, across)
    return jnp.where(parts.union == 0, 1, parts.apart) / one_if_zero(parts.union)


def _iou_loss_partials(s: Span, across: Span) -> Lengths:
    parts = _areas(s, across)
    s, across, union = parts.s, parts.across, one_if_zero(parts.union)
    overlap_across = across.overlap / union * (1 / parts.power)
    # With the areas I of the intersection, U of the union, A and B of the boxes, U = A + B - I and
    # (1 - I / U)' = (I A' - (U + I) I') / U^2. If `covered` grows, A' is the side across and I' the
    # overlap across; if `bare` grows, I' is 0.
    lost = (s.own[1] * across.own[1] + s.beyond[0] * across.own[0]) / union
    none, bare = jnp.zeros_like(lost), overlap_across * (s.overlap * across.own[0] / union)
    return Lengths(-overlap_across * lost, bare, none, bare, none)


IOU_LOSS = Term(_iou_loss, _iou_loss_partials)


def _iou(s: Span, across: Span) -> jax.Array:
    parts = _areas(s, across)
    return parts.common / one_if_zero(parts.union)


def _iou_partials(s: Span, across: Span) -> Lengths:
    return jax.tree.map(jnp.negative, _iou_loss_partials(s, across))


IOU = Term(_iou, _iou_partials)


def _in_hull(s: Span, across: Span) -> tuple[Span, Span, jax.Array]:
    """Lengths of which those of the hull are near 1, and by what those along `s` are divided."""
    power, other = power_near(s.hull), power_near(across.hull)
    return s.over(power), across.over(other), power


def _emptiness(s: Span, across: Span) -> jax.Array:
    """The share of the hull that neither box covers; 0 if the hull has no area."""
    s, across, _ = _in_hull(s, across)
    corners = s.beyond[0] * across.beyond[1] + across.beyond[0] * s.beyond[1]
    between = s.gap * across.hull + (s.hull - s.gap) * across.gap
    return (corners + between) / one_if_zero(s.hull * across.hull)


def _emptiness_partials(s: Span, across: Span) -> Lengths:
    s, across, power = _in_hull(s, across)
    area = s.hull * across.hull
    per_area = jnp.where(area == 0, 0, 1 / one_if_zero(area)) * (1 / power)
    per_hull = per_area / one_if_zero(s.hull)
    own, other = _areas_beyond(s, across)
    return Lengths(
        covered=-across.beyond[0] * per_area,
        bare=-across.own[0] * per_area,
        hull=(own + other + s.overlap * across.overlap) * per_hull,
        # bare + hull, most of which would cancel.
        outer=(other - across.own[0] * s.spare()) * per_hull,
        shift=jnp.zeros_like(area),
    )


EMPTINESS = Term(_emptiness, _emptiness_partials)


def _by_diagonal(s: Span, across: Span) -> tuple[Span, Span, jax.Array, jax.Array]:
    """Lengths of which the larger side of the hull is near 1; its diagonal squared; the divisor."""
    power = power_near(jnp.maximum(s.hull, across.hull))
    s, across = s.over(power), across.over(power)
    return s, across, one_if_zero(s.hull * s.hull + across.hull * across.hull), power


def _distance(s: Span, across: Span) -> jax.Array:
    """The squared distance of the centres over the squared diagonal of the hull."""
    s, across, square, _ = _by_diagonal(s, across)
    return (s.shift * s.shift + across.shift * across.shift) / square


def _distance_partials(s: Span, across: Span) -> Lengths:
    value = _distance(s, across)
    s, _, square, power = _by_diagonal(s, across)
    factor = 2 / square * (1 / power)
    none = jnp.zeros_like(factor)
    hull = -value * s.hull * factor
    return Lengths(none, none, hull, hull, s.shift * factor)


DISTANCE = Term(_distance, _distance_partials)


def _direction(s: Span, across: Span, i: int) -> Pair:
    """The direction of a box's diagonal, of a length near 1; upwards for a point."""
    larger = jnp.maximum(s.own[i], across.own[i])
    sides = over_power((s.own[i], across.own[i]), power_near(larger))
    first, second = (
        jnp.where(larger == 0, x.upwards, side) for x, side in zip((s, across), sides, strict=True)
    )
    return first, second


def _aspect_parts(s: Span, across: Span) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The angle between the diagonals, in right angles; its square v; and v / (1 - IoU + v)."""
    first, second = (_direction(s, across, i) for i in (0, 1))
    # From their cross and dot products: a difference of two arctangents would cancel.
    cross = first[0] * second[1] - second[0] * first[1]
    gap = (2 / math.pi) * angle(cross, first[0] * second[0] + first[1] * second[1])
    square = gap * gap
    alpha = square / one_if_zero(_iou_loss(s, across) + square)
    return gap, square, jax.lax.stop_gradient(alpha)


def _aspect(s: Span, across: Span) -> jax.Array:
    """The squared angle between the diagonals, times a factor that is held constant."""
    _, square, alpha = _aspect_parts(s, across)
    return alpha * square


def _aspect_partials(s: Span, across: Span) -> Lengths:
    gap, _, alpha = _aspect_parts(s, across)
    power = power_near(jnp.maximum(s.own[0], across.own[0]))
    own, side = over_power((s.own[0], across.own[0]), power)
    square = one_if_zero(own * own + side * side)
    slope = (4 / math.pi) * alpha * gap / square * (1 / power) * side
    none = jnp.zeros_like(slope)
    return Lengths(slope, slope, none, slope, none)


ASPECT = Term(_aspect, _aspect_partials)
