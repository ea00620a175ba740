"""Lengths and products of vectors whose squares may leave the range of floats.

One reduction keeps the largest entry so far, and sums relative to it: where two parts of a vector
meet, those of the part with the smaller entries are scaled to the other's. On CPUs this takes three
times as long as sums of squares: there those come first, and this only if one of them left the
range.

Sums along axes keep these axes.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .reductions import sums
from .special import one_if_zero
from .xla import at_once_or_again

Axes = tuple[int, ...]
Parts = Sequence[jax.Array]


def _ordinary(*squares: jax.Array) -> jax.Array:
    """Whether squares are far from where float32 loses digits: of sizes 1e-12 to 3e18."""
    return jnp.all(functools.reduce(jnp.logical_and, ((x > 1e-24) & (x < 1e37) for x in squares)))


def _against_larger(x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The one of larger size, and the ratios of x and y to it."""
    first = jnp.abs(x) >= jnp.abs(y)
    larger, smaller = jnp.where(first, x, y), jnp.where(first, y, x)
    # Of two that are 0, or infinite, too.
    ratio = jnp.where(smaller == larger, 1, smaller / larger)
    return larger, jnp.where(first, 1, ratio), jnp.where(first, ratio, 1)


def _joined_lengths(a: Parts, b: Parts) -> tuple[jax.Array, jax.Array]:
    """Of the largest entry m and the sum s of two parts, of squares m^2 s."""
    largest, of_a, of_b = _against_larger(a[0], b[0])
    return largest, a[1] * (of_a * of_a) + b[1] * (of_b * of_b)


def _joined_products(a: Parts, b: Parts) -> tuple[jax.Array, ...]:
    """Of two vectors, that for each of them, and their product over both largest entries."""
    largest, *ratios = zip(*(_against_larger(a[i], b[i]) for i in (0, 2)), strict=True)
    (first, second), ((u, v), (x, y)) = largest, ratios
    return (
        first,
        a[1] * (u * u) + b[1] * (x * x),
        second,
        a[3] * (v * v) + b[3] * (y * y),
        a[4] * (u * v) + b[4] * (x * y),
    )


def _reduced(parts: Parts, join: Any, axes: Axes) -> Parts:
    zeros = tuple(jnp.zeros((), x.dtype) for x in parts)
    # The value and the slopes of a loss use different ones of the sums: see `running.py`.
    found = jax.lax.optimization_barrier(jax.lax.reduce(tuple(parts), zeros, join, axes))
    return [jnp.expand_dims(x, axes) for x in found]


def distance(axes: Axes, u: jax.Array, v: jax.Array, square: jax.Array) -> jax.Array:
    """sqrt(sum (u - v)^2 + square), where the square has the axes of the vectors."""
    return at_once_or_again(*_distance_forms(axes), u, v, square)


@functools.cache
def _distance_forms(axes: Axes) -> tuple[Any, Any]:
    @jax.jit
    def at_once(u: jax.Array, v: jax.Array, square: jax.Array) -> jax.Array:
        parts = _reduced((jnp.abs(u - v), jnp.ones_like(u)), _joined_lengths, axes)
        largest, total = _joined_lengths(parts, (jnp.sqrt(square), jnp.ones_like(square)))
        return largest * jnp.sqrt(total)

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
    @jax.jit
    def at_once(a: jax.Array, b: jax.Array) -> Products:
        one = jnp.ones_like(a)
        x, of_a, y, of_b, product = _reduced((a, one, b, one, one), _joined_products, axes)
        # Of a vector of zeros the sums are those of its entries over 0, which read 1.
        some = x != 0, y != 0
        scale = tuple(one_if_zero(jnp.abs(largest)) for largest in (x, y))
        square = jnp.where(some[0], of_a, 0), jnp.where(some[1], of_b, 0)
        return Products(scale, square, jnp.sign(x) * jnp.sign(y) * product)

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
