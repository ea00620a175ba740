"""Hinges of all pairs of a named class and a class that is not, for each example."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from .._numerics.devices import axes_of, varying
from .._numerics.kinks import closed_form
from .._numerics.sharding import by_rows, parts
from .._numerics.special import safe_product
from .._numerics.xla import at_most, in_steps

# Numbers in a block of scores that stays in the cache while each class of it meets all others.
_BLOCK = 2**18


def _by_blocks(function: Callable[..., jax.Array], *arrays: jax.Array) -> jax.Array:
    """A function of columns, applied to as many of them at a time as fit into a block."""
    return by_rows(lambda arrays: _in_blocks(function, *arrays), arrays, axis=-1)


def _in_blocks(function: Callable[..., jax.Array], *arrays: jax.Array) -> jax.Array:
    columns, height = arrays[0].shape[-1], max(len(arrays[0]), 1)
    width = max(_BLOCK // height, 1)
    groups = parts(columns)
    if at_most(columns, width * groups):
        return function(*arrays)
    each = columns // groups
    blocks = -(-columns // (width * groups))
    # An axis of one part would change the program of a single device.
    apart = (groups,) if groups > 1 else ()

    def split(x: jax.Array) -> jax.Array:
        # Block i takes columns i, i + blocks, ... of each part.
        outer, padding = (*x.shape[:-1], *apart), width * blocks - each
        padded = jnp.pad(x.reshape(*outer, each), [(0, 0)] * len(outer) + [(0, padding)])
        strided = jnp.moveaxis(padded.reshape(*outer, width, blocks), -1, 0)
        return strided.reshape(blocks, *x.shape[:-1], groups * width)

    results = jax.lax.map(lambda block: function(*block), tuple(map(split, arrays)))
    outer = results.shape[1:-1]
    joined = jnp.moveaxis(results.reshape(blocks, *outer, *apart, width), 0, -1)
    return joined.reshape(*outer, *apart, width * blocks)[..., :each].reshape(*outer, columns)


# The cost of a named class may be weighed: a weight for each class, in the shape of the scores.


def _cost_of_one(
    score: jax.Array, side: jax.Array, x: jax.Array, sides: jax.Array, margin: jax.Array
) -> jax.Array:
    """The sum of the hinges of one class where it is named, for each column."""
    costs = jnp.maximum(margin[None] - (score[None] - x), 0)
    return jnp.sum(jnp.where((side > 0)[None] & (sides < 0), costs, 0), 0)


def _pair_costs(x: jax.Array, sides: jax.Array, margin: jax.Array, *worth: jax.Array) -> jax.Array:
    """For each column, the sum of the hinges of all pairs of its classes."""

    def add(
        total: jax.Array, score: jax.Array, side: jax.Array, *worth: jax.Array
    ) -> tuple[jax.Array, None]:
        return total + _weighed(_cost_of_one(score, side, x, sides, margin), worth), None

    return _over_named_classes(add, jnp.zeros_like(margin), x, sides, *worth)[0]


def _pair_slopes(x: jax.Array, sides: jax.Array, margin: jax.Array, *worth: jax.Array) -> jax.Array:
    """How many hinges push each score up, less how many push it down."""

    def add(
        total: jax.Array, score: jax.Array, side: jax.Array, *worth: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        near = margin[None] - (score[None] - x) >= 0
        active = ((side > 0)[None] & (sides < 0) & near).astype(x.dtype)
        pushed = active if not worth else active * worth[0][None]
        return total + pushed, jnp.sum(pushed, 0)

    up, down = _over_named_classes(add, jnp.zeros_like(x), x, sides, *worth)
    return up - down


def _pair_costs_of_each(x: jax.Array, sides: jax.Array, margin: jax.Array) -> jax.Array:
    """The sum of the hinges of each named class, for each column."""

    def add(total: jax.Array, score: jax.Array, side: jax.Array) -> tuple[jax.Array, jax.Array]:
        return total, _cost_of_one(score, side, x, sides, margin)

    return _over_named_classes(add, jnp.zeros_like(margin), x, sides)[1]


def _weighed(costs: jax.Array, worth: tuple[jax.Array, ...]) -> jax.Array:
    return safe_product(worth[0], costs) if worth else costs


def _over_named_classes(
    step: Callable[..., Any], start: jax.Array, x: jax.Array, sides: jax.Array, *worth: jax.Array
) -> tuple[jax.Array, Any]:
    """A scan over the classes, whose step is skipped for one that the labels of no example name."""
    # Before the loop: which classes are named takes a sum over the devices of a sharded batch.
    named = jnp.any(sides > 0, 1)

    def passed(total: jax.Array, *row: jax.Array) -> Any:
        shapes = jax.eval_shape(step, total, *row)[1]
        return total, jax.tree.map(lambda _: jnp.zeros_like(row[0]), shapes)

    start = varying(start, axes_of((start, x, sides, *worth)))

    def taken(total: jax.Array, rows: tuple[jax.Array, ...]) -> tuple[jax.Array, Any]:
        *row, named = rows
        return jax.lax.cond(named, step, passed, total, *row)

    return jax.lax.scan(taken, start, (x, sides, *worth, named))


def _costs_by_class(
    x: jax.Array, sides: jax.Array, margin: jax.Array, *worth: jax.Array
) -> jax.Array:
    return _by_blocks(_pair_costs, x.T, sides.T, margin, *(w.T for w in worth))


def _slopes_by_class(
    x: jax.Array, sides: jax.Array, margin: jax.Array, *worth: jax.Array
) -> jax.Array:
    return _by_blocks(_pair_slopes, x.T, sides.T, margin, *(w.T for w in worth)).T


def _costs_of_each_by_class(x: jax.Array, sides: jax.Array, margin: jax.Array) -> jax.Array:
    return _by_blocks(_pair_costs_of_each, x.T, sides.T, margin).T


def _all_costs(x: jax.Array, sides: jax.Array, margin: jax.Array) -> jax.Array:
    """The hinges of all pairs of each row; 0 where the first is not named, or the second is."""
    between = (sides > 0)[:, :, None] & (sides < 0)[:, None, :]
    lack = margin[:, None, None] - (x[:, :, None] - x[:, None, :])
    return jnp.where(between, jnp.maximum(lack, 0), 0)


def _costs_of_each_in_steps(x: jax.Array, sides: jax.Array, margin: jax.Array) -> jax.Array:
    return jnp.sum(_all_costs(x, sides, margin), 2)


def _costs_in_steps(
    x: jax.Array, sides: jax.Array, margin: jax.Array, *worth: jax.Array
) -> jax.Array:
    if worth:
        return jnp.sum(_weighed(_costs_of_each_in_steps(x, sides, margin), worth), 1)
    return jnp.sum(_all_costs(x, sides, margin), (1, 2))


def _slopes_in_steps(
    x: jax.Array, sides: jax.Array, margin: jax.Array, *worth: jax.Array
) -> jax.Array:
    # Each class meets all others along the last axis, on whichever side it is: sums along either
    # axis of one array of pairs would have it stored.
    named = (sides > 0)[:, :, None]
    ahead = jnp.where(named, x[:, :, None] - x[:, None, :], x[:, None, :] - x[:, :, None])
    between = sides[:, :, None] * sides[:, None, :] < 0
    active = between & (margin[:, None, None] - ahead >= 0)
    if worth:
        (w,) = worth
        each = jnp.where(named, -w[:, :, None], w[:, None, :])
        return jnp.sum(jnp.where(active, each, 0), 2)
    return jnp.sum(jnp.where(active, jnp.where(named, -1, 1), 0), 2, dtype=x.dtype)


def _margin_slopes(
    x: jax.Array, sides: jax.Array, margin: jax.Array, *worth: jax.Array
) -> tuple[jax.Array, ...]:
    slope = in_steps(_slopes_by_class, _slopes_in_steps, x, sides, margin, *worth)
    slopes = slope, jnp.zeros_like(sides), jnp.sum(jnp.where(sides < 0, slope, 0), 1)
    if not worth:
        return slopes
    each = in_steps(_costs_of_each_by_class, _costs_of_each_in_steps, x, sides, margin)
    return *slopes, each


@closed_form(_margin_slopes, (1,))
def margin_costs(x: jax.Array, sides: jax.Array, margin: jax.Array, *worth: jax.Array) -> jax.Array:
    """The sum of the hinges of each row, of the scores and sides of its classes.

    Args:
        x: Scores of the classes, `[rows, classes]`.
        sides: 1 for a named class, -1 for another, 0 for one that is not there.
        margin: One for each row.
        *worth: What a named class counts for, in the shape of the scores; 1 if not given.
    """
    return in_steps(_costs_by_class, _costs_in_steps, x, sides, margin, *worth)
