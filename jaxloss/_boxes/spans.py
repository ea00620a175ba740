"""Two boxes along one axis: sides, overlap, gap and hull, from any format.

Lengths are differences of coordinates with digits of their own, and no length is subtracted from
another: what two nearly equal boxes do not share keeps its digits.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from .._numerics.exact import lost_in_difference
from .._numerics.sharding import sharded_like
from .._numerics.special import one_if_zero
from .._numerics.xla import in_rows, last_index, over_power

Format = Literal["xyxy", "xywh", "cxcywh"]
Pair = tuple[jax.Array, jax.Array]


class Span(NamedTuple):
    """Two boxes along an axis, the first and the second.

    Attributes:
        own: The side of the first box, and that of the second.
        low: By how much the first begins before the second; negative if it begins after it.
        high: By how much the first ends after the second; negative if it ends before it.
        shift: Its centre less the centre of the second.
        overlap: The length that both cover; 0 if they do not meet.
        gap: The length between them; 0 if they meet.
        beyond: The part of each side that the other box does not cover.
        hull: The length from the first begin to the last end.
        upwards: The direction upwards along this axis: 0 along x, 1 along y.
    """

    own: Pair
    low: jax.Array
    high: jax.Array
    shift: jax.Array
    overlap: jax.Array
    gap: jax.Array
    beyond: Pair
    hull: jax.Array
    upwards: jax.Array

    def over(self, power: jax.Array) -> Span:
        """All lengths divided by a power of two, which is exact."""
        return over_power(self, power)._replace(upwards=self.upwards)

    def swapped(self) -> Span:
        """The same two boxes, the second one first."""
        return self._replace(
            own=self.own[::-1],
            low=-self.low,
            high=-self.high,
            shift=-self.shift,
            beyond=self.beyond[::-1],
        )

    def spare(self) -> jax.Array:
        """The length of the hull that the first box does not cover."""
        return _positive_part(-self.low) + _positive_part(-self.high)

    def valid(self) -> jax.Array:
        """Whether no side is negative, and no number NaN."""
        first, second = self.own
        return (first >= 0) & (second >= 0) & ~jnp.isnan(self.low + self.high)


def power_near(length: jax.Array) -> jax.Array:
    """A power of two near a length, held where its reciprocal is in range; 1 for 0."""
    real = jnp.finfo(length.dtype)
    length = jax.lax.stop_gradient(one_if_zero(length))
    return jnp.clip(jax.lax.reduce_precision(length, real.nexp, 0), real.tiny, 1 / float(real.tiny))


def halves(boxes: jax.Array) -> Pair:
    """The first two of the four numbers along the last axis, and the other two."""
    return boxes[..., :2], boxes[..., 2:]


def _positive_part(x: jax.Array) -> jax.Array:
    return jnp.where(x > 0, x, 0)


class Ends(NamedTuple):
    """Two boxes along an axis, by sides and distances of which each has the digits of its own.

    Attributes:
        own: The side of the first box, and that of the second.
        low: The begin of the second less that of the first.
        high: The end of the first less that of the second.
        ahead: The end of the first less the begin of the second.
        behind: The end of the second less the begin of the first.
        shift: The centre of the first less that of the second.
        growth: The side of the first less that of the second.
    """

    own: Pair
    low: jax.Array
    high: jax.Array
    ahead: jax.Array
    behind: jax.Array
    shift: jax.Array
    growth: jax.Array


def ends(box_format: Format, first: Pair, second: Pair) -> Ends:
    """Sides and distances of two boxes along an axis.

    Distances are sums of the differences of the numbers of the boxes. What the rounding of these
    lost is added last: of what remains where they cancel it is the leading part.

    Args:
        box_format: What the two numbers of a box along an axis mean.
        first, second: The two numbers of each box.
    """
    (a, b), (c, d) = first, second
    u, u_lost = a - c, lost_in_difference(a, c)
    v, v_lost = b - d, lost_in_difference(b, d)
    if box_format == "xyxy":
        shift = 0.5 * ((u + v) + (u_lost + v_lost))
        return Ends((b - a, d - c), -u, v, b - c, d - a, shift, (v - u) + (v_lost - u_lost))
    if box_format == "xywh":
        high = (u + v) + (u_lost + v_lost)
        ahead, behind = (u + b) + u_lost, (d - u) - u_lost
        return Ends((b, d), -u, high, ahead, behind, _plus_half(u, u_lost, v, v_lost), v)
    w, w_lost = b + d, lost_in_difference(b, -d)
    low, behind = (_plus_half(-u, -u_lost, *more) for more in ((v, v_lost), (w, w_lost)))
    high, ahead = (_plus_half(u, u_lost, *more) for more in ((v, v_lost), (w, w_lost)))
    return Ends((b, d), low, high, ahead, behind, u, v)


def _plus_half(x: jax.Array, x_lost: jax.Array, y: jax.Array, y_lost: jax.Array) -> jax.Array:
    return (x + 0.5 * y) + (x_lost + 0.5 * y_lost)


def span(box_format: Format, first: Pair, second: Pair, upwards: jax.Array) -> Span:
    """All lengths of two boxes along an axis, from the arguments of `ends`."""
    own, low, high, ahead, behind, shift, _ = ends(box_format, first, second)
    # The first end less the last begin, negative where boxes are apart; the last end less the
    # first begin.
    inner = jnp.where(
        high < 0, jnp.where(low < 0, own[0], ahead), jnp.where(low < 0, behind, own[1])
    )
    hull = jnp.where(
        high < 0, jnp.where(low < 0, own[1], behind), jnp.where(low < 0, ahead, own[0])
    )
    meet = inner >= 0
    beyond = (
        jnp.where(meet, _positive_part(low) + _positive_part(high), own[0]),
        jnp.where(meet, _positive_part(-low) + _positive_part(-high), own[1]),
    )
    overlap, gap = _positive_part(inner), _positive_part(-inner)
    return Span(own, low, high, shift, overlap, gap, beyond, hull, upwards)


def spans(box_format: Format, a: jax.Array, b: jax.Array) -> tuple[Span, Span]:
    """Two boxes, whose four numbers lie along the last axis, along x and along y."""
    x, y = (
        span(
            box_format,
            (a[..., i], a[..., i + 2]),
            (b[..., i], b[..., i + 2]),
            jnp.full((), i, a.dtype),
        )
        for i in (0, 1)
    )
    return x, y


def places(boxes: jax.Array) -> jax.Array:
    """The place of each number in its box, from 0 to 3."""
    return sharded_like(last_index(boxes), boxes)


def spans_of_each(box_format: Format, a: jax.Array, b: jax.Array) -> tuple[Span, Span]:
    """Two boxes along the axis of each of their numbers, and across it, in the shape of boxes."""
    place = places(a)
    along_y = place & 1
    pairs = [_along_and_across(box, place) for box in (a, b)]
    s, across = (
        span(box_format, first, second, upwards.astype(a.dtype))
        for first, second, upwards in zip(*pairs, (along_y, 1 - along_y), strict=True)
    )
    return s, across


def _along_and_across(box: jax.Array, place: jax.Array) -> tuple[Pair, Pair]:
    return in_rows(_cut_out, _moved, box, place)


def _cut_out(box: jax.Array, place: jax.Array) -> tuple[Pair, Pair]:
    x, y, x_too, y_too = (jnp.broadcast_to(box[..., i : i + 1], box.shape) for i in range(4))
    along_y = (place & 1) == 1
    own = jnp.where(along_y, y, x), jnp.where(along_y, y_too, x_too)
    return own, (jnp.where(along_y, x, y), jnp.where(along_y, x_too, y_too))


def _moved(box: jax.Array, place: jax.Array) -> tuple[Pair, Pair]:
    """The same: numbers that are cut out of a box may each be stored."""
    on = {steps: _steps_on(box, steps) for steps in (-3, -2, -1, 1, 2, 3)}
    along = jnp.where(place < 2, box, on[-2]), jnp.where(place < 2, on[2], box)
    ends = place == 0, place == 3
    first = jnp.where(ends[0], on[1], jnp.where(ends[1], on[-3], on[-1]))
    second = jnp.where(ends[0], on[3], jnp.where(ends[1], on[-1], on[1]))
    return along, (first, second)


def _steps_on(box: jax.Array, steps: int) -> jax.Array:
    """The number that comes so many places after each, or before it; 0 beyond the box."""
    still = [(0, 0, 0)] * (box.ndim - 1)
    return jax.lax.pad(box, jnp.zeros((), box.dtype), [*still, (-steps, steps, 0)])
