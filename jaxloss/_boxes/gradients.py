"""Losses of boxes with their gradients in the coordinates, whatever the format.

A box is its two ends along each axis. While an end moves, either it stays within the ends of the
other box and the hull stays as it is, or it is an end of the hull and moves that too. Where the
ends of both boxes are level, both may be: the loss has a kink there.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from .._contract.inputs import nan_outside
from .._numerics.kinks import closed_form
from .._numerics.xla import in_rows, told_apart
from .spans import Format, Pair, Span, places, spans, spans_of_each
from .terms import ASPECT, Lengths, Term, total


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
        meet: Whether the boxes meet.
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


def _gradient(
    box_format: Format, s: Span, meet: jax.Array, partials: Lengths
) -> tuple[jax.Array, jax.Array]:
    """The gradient in the two numbers of the first box along an axis."""
    low, high = _end(s.low, -1, meet, partials), _end(s.high, 1, meet, partials)
    if box_format == "xyxy":
        return -low.slope, high.slope
    down, up = low.change(-1, meet), high.change(1, meet)
    # The first number moves both ends the same way. Their changes are added before they are
    # multiplied, as they may cancel: if the box loses `bare` length at one end and gains `outer`
    # length at the other, only the hull changes.
    moved = jax.tree.map(jnp.subtract, up, down)
    outer = jnp.where(moved.bare == 0, moved.outer, 0)
    apart = moved.outer - outer
    moved = moved._replace(bare=moved.bare + apart, hull=apart, outer=outer)
    if box_format == "xywh":
        return _slope(moved, partials), high.slope
    wider = jax.tree.map(lambda h, g: 0.5 * (h + g), up, down)
    return _slope(moved, partials), _slope(wider, partials)


def _of_first(box_format: Format, terms: Sequence[Term], s: Span, across: Span) -> Pair:
    """The gradient of the sum of the terms in the two numbers of the first box along an axis."""
    partials = jax.tree.map(total, *(term.partials(s, across) for term in terms))
    return _gradient(box_format, s, (s.gap == 0) & (across.gap == 0), partials)


def _filled(a: jax.Array, b: jax.Array, *selected: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The boxes; of ones where there is a mask that excludes them."""
    for mask in selected:
        a, b = (jnp.where(mask[..., None], x, 1) for x in (a, b))
    return a, b


def _gradients(
    box_format: Format, terms: Sequence[Term], *boxes: jax.Array
) -> tuple[jax.Array, ...]:
    """The gradients in both boxes, of arrays of one number for each pair of boxes."""
    x, y = spans(box_format, *_filled(*boxes))
    found = []
    for along in ((x, y), (x.swapped(), y.swapped())):
        by_x, by_y = (_of_first(box_format, terms, *pair) for pair in (along, along[::-1]))
        gradient = jnp.stack([by_x[0], by_y[0], by_x[1], by_y[1]], -1)
        found.append(nan_outside(gradient, jnp.expand_dims(x.valid() & y.valid(), -1)))
    return tuple(found)


def _gradients_of_each(
    box_format: Format, terms: Sequence[Term], a: jax.Array, b: jax.Array, *selected: jax.Array
) -> tuple[jax.Array, ...]:
    """The gradients in both boxes, of arrays of one number for each coordinate."""
    # Filled after that, or the filled boxes, which the value has too, would be stored.
    a, b = _filled(*told_apart(a, b), *selected)
    s, across = spans_of_each(box_format, a, b)
    first, domain = places(a) < 2, s.valid() & across.valid()
    found = []
    for pair in ((s, across), (s.swapped(), across.swapped())):
        low, high = _of_first(box_format, terms, *pair)
        found.append(nan_outside(jnp.where(first, low, high), domain))
    return tuple(found)


def _value_at(terms: Sequence[Term], s: Span, across: Span) -> jax.Array:
    value = total(*(term.value(s, across) for term in terms))
    return nan_outside(value, s.valid() & across.valid())


def _value(box_format: Format, terms: Sequence[Term], *boxes: jax.Array) -> jax.Array:
    return _value_at(terms, *spans(box_format, *_filled(*boxes)))


def _value_of_each(
    box_format: Format, terms: Sequence[Term], a: jax.Array, b: jax.Array, *selected: jax.Array
) -> jax.Array:
    """The value in the shape of boxes, in the first place of each, and summed over these."""
    # Not filled: the mean leaves out the value of what is excluded, whatever it is, and of filled
    # boxes the sixteen numbers of a pair would be stored.
    del selected
    found = _value_at(terms, *spans_of_each(box_format, a, b))
    return jnp.sum(jnp.where(places(a) == 0, found, 0), -1)


@functools.cache
def _loss(terms: tuple[Term, ...], box_format: Format, axis: int) -> Callable[..., jax.Array]:
    value, value_of_each = (
        functools.partial(f, box_format, terms) for f in (_value, _value_of_each)
    )
    gradients, gradients_of_each = (
        functools.partial(f, box_format, terms) for f in (_gradients, _gradients_of_each)
    )

    def slopes(a: jax.Array, b: jax.Array, *selected: jax.Array) -> tuple[ArrayLike, ...]:
        # In other formats an end depends on both numbers, and the angle of CIoU on both axes: what
        # gradients share is computed again for each of them unless it has their shape.
        if box_format != "xyxy" or ASPECT in terms:
            found = gradients_of_each(a, b, *selected)
        else:
            found = in_rows(gradients, gradients_of_each, a, b, *selected)
        return *found, *(0 for _ in selected)

    @closed_form(slopes, (axis,))
    def loss(a: jax.Array, b: jax.Array, *selected: jax.Array) -> jax.Array:
        return in_rows(value, value_of_each, a, b, *selected)

    return loss


def sum_of(
    terms: tuple[Term, ...],
    box_format: Format,
    boxes1: jax.Array,
    boxes2: jax.Array,
    selected: jax.Array | None = None,
) -> jax.Array:
    """The sum of the terms for each pair of boxes, which lie along the last axis.

    NaN for boxes with a negative side. Pairs that are not `selected`, if that is given, are read as
    boxes of ones.
    """
    mask = () if selected is None else (selected,)
    return _loss(terms, box_format, boxes1.ndim - 1)(boxes1, boxes2, *mask)
