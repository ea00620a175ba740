"""Lengths and products of vectors whose squares may leave the range of floats.

In one pass squares are summed of the entries, and of the entries times a small and a large power of
two: one of these sums is in range. On CPUs that of the entries comes first, and these only if it
left the range.

Sums along axes keep these axes.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .reductions import sums
from .special import squares_in_range
from .xla import at_once_or_again

Axes = tuple[int, ...]


def _ordinary(*squares: jax.Array) -> jax.Array:
    """Whether squares are far from where float32 loses digits: of sizes 1e-12 to 3e18."""
    return jnp.all(functools.reduce(jnp.logical_and, map(squares_in_range, squares)))


def _powers(dtype: Any) -> list[float]:
    """Powers of two, from smallest to largest, of which each is the middle one's square root.

    In float32 they are 2^-96, 2^-48, 1, 2^48 and 2^96. Entries times the first are squared without
    overflow, and those below 2^-40 times the last to what keeps its digits.
    """
    step = 3 * jnp.finfo(dtype).maxexp // 8
    return [2.0 ** (i * step) for i in range(-2, 3)]


def _too_small(square: jax.Array) -> jax.Array:
    """1 where a sum of squares is too small for its digits, -1 where it is too large, else 0."""
    end = jnp.finfo(square.dtype).maxexp
    low, high = 2.0 ** (-5 * end // 8), 2.0 ** (end - 6)
    return jnp.where(square < low, 1, jnp.where(square > high, -1, 0))


def _picked(index: jax.Array, given: Sequence[Any], like: jax.Array) -> jax.Array:
    """The one of an odd number of arrays, or numbers, of this index; 0 is that in the middle."""
    middle = len(given) // 2
    found = jnp.broadcast_to(jnp.asarray(given[middle], like.dtype), like.shape)
    for i, x in enumerate(given):
        found = found if i == middle else jnp.where(index == i - middle, x, found)
    return found


def lengths(axes: Axes, u: jax.Array, v: jax.Array) -> jax.Array:
    """sqrt(sum (u - v)^2), in one pass; without derivatives."""
    powers = low, _, high = _powers(u.dtype)[::2]
    # Three differences that a compiler does not know to be equal: a GPU's would store what is used
    # for three sums.
    columns = u * low - v * low, u - v, (v - u) * high
    totals = [jnp.sum(x * x, axes, keepdims=True) for x in columns]
    index = _too_small(totals[1])
    found = jnp.sqrt(_picked(index, totals, totals[1]))
    return found * _picked(-index, powers, found)


def _hypotenuse(x: jax.Array, y: jax.Array) -> jax.Array:
    """sqrt(x^2 + y^2) of lengths."""
    longer, shorter = jnp.maximum(x, y), jnp.minimum(x, y)
    # Of two that are 0, or infinite, too.
    ratio = jnp.where(shorter == longer, 1, shorter / longer)
    return longer * jnp.sqrt(1 + ratio * ratio)


def distance(axes: Axes, u: jax.Array, v: jax.Array, square: jax.Array) -> jax.Array:
    """sqrt(sum (u - v)^2 + square), where the square has the axes of the vectors."""
    return at_once_or_again(*_distance_forms(axes), u, v, square)


@functools.cache
def _distance_forms(axes: Axes) -> tuple[Any, Any]:
    def at_once(u: jax.Array, v: jax.Array, square: jax.Array) -> jax.Array:
        return _hypotenuse(lengths(axes, u, v), jnp.sqrt(square))

    def again(u: jax.Array, v: jax.Array, square: jax.Array) -> jax.Array:
        e = u - v
        total = jnp.sum(e * e, axes, keepdims=True) + square
        # Of the vectors: a difference that a condition is given would be stored.
        return jax.lax.cond(_ordinary(total), lambda *_: jnp.sqrt(total), at_once, u, v, square)

    return again, at_once


class Products(NamedTuple):
    """Of vectors a and b, each divided by a scale.

    Attributes:
        scale: The scale of each, above 0.
        square: |a|^2 and |b|^2.
        product: <a, b>.
    """

    scale: tuple[jax.Array, ...]
    square: tuple[jax.Array, ...]
    product: jax.Array


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def products(axes: Axes, a: jax.Array, b: jax.Array) -> Products:
    """The squares and the product, whose tangents take the scales as constants."""
    return at_once_or_again(*_product_forms(axes), a, b)


@products.defjvp
def _(axes: Axes, primals: Any, tangents: Any) -> Any:
    found = products(axes, *primals)
    a, b, of_a, of_b = (
        x / scale for x, scale in zip((*primals, *tangents), found.scale * 2, strict=True)
    )
    columns = 2 * a * of_a, 2 * b * of_b, of_a * b + a * of_b
    of_squares = [jnp.sum(x, axes, keepdims=True) for x in columns]
    still = tuple(map(jnp.zeros_like, found.scale))
    return found, Products(still, tuple(of_squares[:2]), of_squares[2])


@functools.cache
def _product_forms(axes: Axes) -> tuple[Any, Any]:
    def at_once(a: jax.Array, b: jax.Array) -> Products:
        powers = _powers(a.dtype)
        scaled = [(a * p, b * p) for p in powers]
        columns = [x * x for pair in zip(*scaled[::2], strict=True) for x in pair]
        found = _totals(axes, *columns, *(x * y for x, y in scaled))
        squares, both = (found[:3], found[3:6]), found[6:]
        index = [_too_small(x[1]) for x in squares]
        return Products(
            tuple(_picked(-i, powers[::2], both[0]) for i in index),
            tuple(_picked(i, x, both[0]) for i, x in zip(index, squares, strict=True)),
            _picked(index[0] + index[1], both, both[0]),
        )

    def again(a: jax.Array, b: jax.Array) -> Products:
        columns = a * a, b * b, a * b
        if axes == (a.ndim - 1,):
            found = [jnp.expand_dims(x, axes) for x in sums(axes, *columns)]
        else:
            # One reduction of several arrays along another axis takes nine times as long.
            found = [jnp.sum(x, axes, keepdims=True) for x in columns]
        *square, product = found
        one = jnp.ones_like(product)
        plain = Products((one, one), tuple(square), product)
        return jax.lax.cond(_ordinary(*square), lambda *_: plain, at_once, a, b)

    return again, at_once


def _totals(axes: Axes, *columns: jax.Array) -> list[jax.Array]:
    """The sums of several arrays in one pass, which as many sums of their own would not take."""
    zeros = tuple(jnp.zeros((), x.dtype) for x in columns)
    # The value and the slopes of a loss use different ones of the sums: see `running.py`.
    found = jax.lax.optimization_barrier(jax.lax.reduce(columns, zeros, _add_all, axes))
    return [jnp.expand_dims(x, axes) for x in found]


def _add_all(a: Sequence[jax.Array], b: Sequence[jax.Array]) -> tuple[jax.Array, ...]:
    return tuple(map(jnp.add, a, b))
