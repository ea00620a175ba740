"""Losses of boxes with their gradients in the coordinates, whatever the format.

A box is its two ends along each axis. While an end moves, either it stays within the ends of the
other box and the hull stays as it is, or it is an end of the hull and moves that too. Where the
ends of both boxes are level, both may be: the loss has a kink there.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from .._numerics.kinks import closed_form
from .spans import Format, Span, span_of
from .terms import Lengths, Term, over_axes, total


class End(NamedTuple):
    """An end of the first box that moves outwards, away from the centre of its box.

    Attributes:
        within: Whether it stays within the ends of the other box.
        outside: Whether it is an end of the hull. Where ends are level, it is the one of the two
            of which the slope is smaller, or neither if the loss grows both ways.
        slope: The derivative of the loss.
    """

    within: jax.Array
    outside: jax.Array
    slope: jax.Array

    def change(self, sign: float, meet: jax.Array) -> Lengths:
        """The derivatives of lengths; `sign` is 1 for the upper end, -1 for the lower one."""
        number = functools.partial(jnp.asarray, dtype=self.slope.dtype)
        return Lengths(
            covered=number(self.within & meet),
            bare=number(self.within & ~meet),
            hull=jnp.zeros_like(self.slope),
            outer=number(self.outside),
            shift=0.5 * sign * number(self.within | self.outside),
        )


def _end(excess: jax.Array, sign: float, meet: jax.Array, partials: Lengths) -> End:
    """An end that is outside of that of the other box by `excess`.

    Args:
        excess: Negative if it is within the other box's ends.
        sign: 1 for the upper end, -1 for the lower one.
        meet: Whether the boxes meet along this axis.
        partials: The derivatives of the loss in lengths.
    """
    by_shift = 0.5 * sign * partials.shift
    slope_within = jnp.where(meet, partials.covered, partials.bare) + by_shift
    slope_outside = partials.outer + by_shift
    level = (excess == 0) & (jnp.sign(slope_within) * jnp.sign(slope_outside) >= 0)
    flatter_within = jnp.abs(slope_within) <= jnp.abs(slope_outside)
    within = (excess < 0) | (level & flatter_within)
    outside = (excess > 0) | (level & ~flatter_within)
    slope = jnp.where(within, slope_within, jnp.where(outside, slope_outside, 0))
    return End(within, outside, slope)


def _slope(change: Lengths, partials: Lengths) -> jax.Array:
    """The derivative of the loss, by the chain rule.

    A length that does not change adds 0, even if the derivative in it is not finite.
    """
    terms = [jnp.where(x == 0, 0, x * p) for x, p in zip(change, partials, strict=True)]
    return total(*terms)


def _gradient(box_format: Format, s: Span, meet: jax.Array, partials: Lengths) -> jax.Array:
    """The gradient in the four numbers of the first box."""
    low, high = _end(s.low, -1, meet, partials), _end(s.high, 1, meet, partials)
    if box_format == "xyxy":
        return jnp.concatenate([-low.slope, high.slope])
    down, up = low.change(-1, meet), high.change(1, meet)
    # The first number moves both ends the same way. Their changes are added before they are
    # multiplied, as they may cancel: if the box loses `bare` length at one end and gains `outer`
    # length at the other, only the hull changes.
    moved = jax.tree.map(jnp.subtract, up, down)
    outer = jnp.where(moved.bare == 0, moved.outer, 0)
    apart = moved.outer - outer
    moved = moved._replace(bare=moved.bare + apart, hull=apart, outer=outer)
    if box_format == "xywh":
        return jnp.concatenate([_slope(moved, partials), high.slope])
    wider = jax.tree.map(lambda h, g: 0.5 * (h + g), up, down)
    return jnp.concatenate([_slope(moved, partials), _slope(wider, partials)])


def _gradients(
    box_format: Format, terms: Sequence[Term], a: jax.Array, b: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The gradients of the sum of the terms in both boxes."""
    s = span_of(box_format, a, b)
    meet = over_axes(jnp.logical_and, s.gap == 0)
    first, second = (
        _gradient(
            box_format, side, meet, jax.tree.map(total, *(term.partials(side) for term in terms))
        )
        for side in (s, s.swapped())
    )
    return jnp.moveaxis(first, 0, -1), jnp.moveaxis(second, 0, -1)


def sum_of(
    terms: Sequence[Term], box_format: Format, boxes1: jax.Array, boxes2: jax.Array
) -> jax.Array:
    """The sum of the terms for each pair of boxes, which lie along the last axis."""

    @closed_form(functools.partial(_gradients, box_format, terms), (boxes1.ndim - 1,))
    def loss(a: jax.Array, b: jax.Array) -> jax.Array:
        s = span_of(box_format, a, b)
        return total(*(term.value(s)[0] for term in terms))

    return loss(boxes1, boxes2)
