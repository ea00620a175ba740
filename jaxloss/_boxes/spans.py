"""Two boxes along each axis: sides, overlap, gap and hull, from any format.

Arrays have the two axes of the plane, x and y, in front. Lengths are differences of coordinates,
each rounded once, and no length is subtracted from another: what two nearly equal boxes do not
share keeps its digits.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from .._numerics.exact import exact_sum
from .._numerics.special import one_if_zero

Format = Literal["xyxy", "xywh", "cxcywh"]
Pair = tuple[jax.Array, jax.Array]


class Span(NamedTuple):
    """Two boxes along each axis, the first and the second.

    Attributes:
        own: The side of the first box, and that of the second.
        low: By how much the first begins before the second; negative if it begins after it.
        high: By how much the first ends after the second; negative if it ends before it.
        shift: Its centre less the centre of the second.
        overlap: The length that both cover; 0 if they do not meet.
        gap: The length between them; 0 if they meet.
        beyond: The part of each side that the other box does not cover.
        hull: The length from the first begin to the last end.
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
        """All lengths divided by `length`; unchanged where that is 0."""
        length = one_if_zero(length)
        return jax.tree.map(lambda x: x / length, self)

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
        right = (first >= 0) & (second >= 0) & ~jnp.isnan(self.low + self.high)
        return jnp.all(right, 0)


def halves(boxes: jax.Array) -> Pair:
    """The first two of the four numbers along the last axis, and the other two."""
    return boxes[..., :2], boxes[..., 2:]


def _positive_part(x: jax.Array) -> jax.Array:
    return jnp.where(x > 0, x, 0)


def _sum(*terms: jax.Array) -> jax.Array:
    """Their sum, rounded once."""
    return exact_sum(*terms)[0]


def offset(box_format: Format, first: Pair, second: Pair) -> tuple[Pair, jax.Array, jax.Array]:
    """Sides and distance of two boxes.

    Args:
        box_format: What the two numbers of a box along an axis mean.
        first, second: The two numbers of each box, for both axes.

    Returns:
        The sides of both; the centre of the first less that of the second; the side of the first
        less that of the second.
    """
    (a, b), (c, d) = first, second
    if box_format == "xyxy":
        return (b - a, d - c), 0.5 * _sum(b, -d, a, -c), _sum(b, -d, c, -a)
    shift = a - c if box_format == "cxcywh" else _sum(a, -c, 0.5 * b, -0.5 * d)
    return (b, d), shift, b - d


def span(box_format: Format, first: Pair, second: Pair) -> Span:
    """All lengths of two boxes, from the arguments of `offset`."""
    own, shift, _ = offset(box_format, first, second)
    (a, b), (c, d) = first, second
    # `ahead`: the end of the first less the begin of the second; `behind`: the other way round.
    if box_format == "xyxy":
        low, high, ahead, behind = c - a, b - d, b - c, d - a
    elif box_format == "xywh":
        low, high, ahead, behind = c - a, _sum(a, -c, b, -d), _sum(a, -c, b), _sum(c, -a, d)
    else:
        half, other = 0.5 * b, 0.5 * d
        low, high = _sum(c, -a, half, -other), _sum(a, -c, half, -other)
        ahead, behind = _sum(a, -c, half, other), _sum(c, -a, half, other)
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
    return Span(own, low, high, shift, overlap, gap, beyond, hull)


def span_of(box_format: Format, a: jax.Array, b: jax.Array) -> Span:
    """All lengths of boxes with their four numbers along the last axis."""
    first, second = (jnp.moveaxis(x, -1, 0) for x in (a, b))
    return span(box_format, (first[:2], first[2:]), (second[:2], second[2:]))
