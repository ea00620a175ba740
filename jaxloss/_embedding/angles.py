"""Angles."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Sides(NamedTuple):
    """Two vectors side by side, all with the axes of the vectors kept.

    Attributes:
        cosine: Of the angle between them, with norms not read below sqrt(epsilon).
        inverse: 1 over the norm of each; 0 for a zero vector, and so is its derivative.
        whole: Whether that norm is the vector's own.
        lack: By how much the squared norm of each, divided by that norm, misses 1.
    """

    cosine: jax.Array
    inverse: tuple[jax.Array, jax.Array]
    whole: tuple[jax.Array, jax.Array]
    lack: tuple[jax.Array, jax.Array]


def sides(axes: tuple[int, ...], a: jax.Array, b: jax.Array, epsilon: jax.Array) -> Sides:
    def dot(x: jax.Array, y: jax.Array) -> jax.Array:
        return jnp.sum(x * y, axes, keepdims=True)

    def plainly(a: jax.Array, b: jax.Array) -> tuple[jax.Array, ...]:
        one = jnp.ones_like(squares[0])
        return one, one, *squares, dot(a, b)

    def scaled(a: jax.Array, b: jax.Array) -> tuple[jax.Array, ...]:
        scales = []
        for x in (a, b):
            # The result does not depend on it: its derivatives may take it for a constant.
            largest = jnp.max(jnp.abs(jax.lax.stop_gradient(x)), axes, keepdims=True, initial=0)
            scales.append(jnp.where(largest == 0, 1, largest))
        a, b = a / scales[0], b / scales[1]
        return *scales, dot(a, a), dot(b, b), dot(a, b)

    # Only where squares might overflow or vanish are vectors divided by their largest entry.
    squares = dot(a, a), dot(b, b)
    least, largest = jnp.minimum(*squares), jnp.maximum(*squares)
    ordinary = jnp.all((least > 1e-24) & (largest < 1e37))
    *parts, product = jax.lax.cond(ordinary, plainly, scaled, a, b)

    shortest = jnp.sqrt(jnp.where(epsilon > 0, epsilon, 1))
    cosine, inverse, whole, lack = product, [], [], []
    for scale, square in zip(parts[:2], parts[2:], strict=True):
        zero = square == 0
        norm = jnp.where(zero, 0, jnp.sqrt(jnp.where(zero, 1, square)))
        short = (epsilon > 0) & (scale * norm < shortest)
        own = jnp.where(zero, 0, 1 / jnp.where(zero, 1, norm))
        cosine = cosine * jnp.where(short, scale / shortest, own)
        inverse.append(jnp.where(short, 1 / shortest, own / scale))
        whole.append(~short)
        part = jnp.where(short, scale * norm, 0) / shortest
        lack.append(jnp.where(short, (1 - part) * (1 + part), jnp.where(zero, 1, 0)))
    # Behind a barrier, or XLA divides anew for each entry of a vector.
    inverse, lack = jax.lax.optimization_barrier((tuple(inverse), tuple(lack)))
    return Sides(cosine, inverse, tuple(whole), lack)


def slopes(
    axes: tuple[int, ...], a: jax.Array, b: jax.Array, epsilon: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The derivatives of the cosine in a, b and epsilon."""
    parts = sides(axes, a, b, epsilon)
    u, v = a * parts.inverse[0], b * parts.inverse[1]
    along_a, along_b = (jnp.where(whole, parts.cosine, 0) for whole in parts.whole)
    clipped = sum(jnp.where(whole, 0, 1) for whole in parts.whole)
    in_epsilon = -0.5 * clipped * parts.cosine / jnp.where(epsilon > 0, epsilon, 1)
    return (
        (v - along_a * u) * parts.inverse[0],
        (u - along_b * v) * parts.inverse[1],
        jnp.squeeze(in_epsilon, axes),
    )


def gap(
    axes: tuple[int, ...],
    a: jax.Array,
    b: jax.Array,
    parts: Sides,
    wanted: jax.Array | bool = True,
) -> jax.Array:
    """1 - cosine, with the axes kept; every digit of it where it is wanted."""

    def squared() -> jax.Array:
        # |u - v|^2 = |u|^2 + |v|^2 - 2 <u, v>: a sum of squares, where 1 - <u, v> would cancel.
        e = a * parts.inverse[0] - b * parts.inverse[1]
        return 0.5 * (jnp.sum(e * e, axes, keepdims=True) + (parts.lack[0] + parts.lack[1]))

    cancels = jnp.any(wanted & (parts.cosine > 0.5))
    return jax.lax.cond(cancels, squared, lambda: 1 - parts.cosine)
