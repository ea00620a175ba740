"""The angle between two vectors: its cosine, the derivatives of that, and 1 - cosine.

Vectors are scaled before squares could overflow or vanish. The cosine with a zero vector is 0, and
so are its derivatives, the choice of least norm.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .._numerics.special import one_if_zero, rescaled_if_extreme, root


class Sides(NamedTuple):
    """Two vectors and their cosine; arrays keep the axes of the vectors, with size 1.

    Attributes:
        cosine: Of the angle between them, a norm below sqrt(epsilon) being replaced by that.
        inverse: 1 over the norm of each vector, so replaced; 0 for a norm of 0.
        unclipped: Whether the norm is the vector's own.
        lack: 1 - |u|^2 of each vector u times its `inverse`: 0 unless the norm is replaced or 0.
    """

    cosine: jax.Array
    inverse: tuple[jax.Array, jax.Array]
    unclipped: tuple[jax.Array, jax.Array]
    lack: tuple[jax.Array, jax.Array]


def sides(axes: tuple[int, ...], a: jax.Array, b: jax.Array, epsilon: jax.Array) -> Sides:
    """The cosine of vectors along `axes`, whose squared norms are at least epsilon, or read so."""

    def dot(x: jax.Array, y: jax.Array) -> jax.Array:
        return jnp.sum(x * y, axes, keepdims=True)

    def plain(a: jax.Array, b: jax.Array) -> tuple[jax.Array, ...]:
        one = jnp.ones_like(squares[0])
        return one, one, *squares, dot(a, b)

    def rescaled(a: jax.Array, b: jax.Array) -> tuple[jax.Array, ...]:
        scales = []
        for x in (a, b):
            # Held constant: the result does not depend on the scale.
            size = jnp.abs(jax.lax.stop_gradient(x))
            scales.append(one_if_zero(jnp.max(size, axes, keepdims=True, initial=0)))
        a, b = a / scales[0], b / scales[1]
        return *scales, dot(a, a), dot(b, b), dot(a, b)

    squares = dot(a, a), dot(b, b)
    *parts, product = rescaled_if_extreme(squares, plain, rescaled, a, b)

    shortest = jnp.sqrt(jnp.where(epsilon > 0, epsilon, 1))
    cosine, inverse, unclipped, lack = product, [], [], []
    for scale, square in zip(parts[:2], parts[2:], strict=True):
        norm, zero = root(square), square == 0
        short = (epsilon > 0) & (scale * norm < shortest)
        # As `reciprocal`, but zero by the square: by the norm, XLA makes two loops more of it.
        own = jnp.where(zero, 0, 1 / jnp.where(zero, 1, norm))
        cosine = cosine * jnp.where(short, scale / shortest, own)
        inverse.append(jnp.where(short, 1 / shortest, own / scale))
        unclipped.append(~short)
        share = jnp.where(short, scale * norm, 0) / shortest
        lack.append(jnp.where(short, (1 - share) * (1 + share), jnp.where(zero, 1, 0)))
    # Without a barrier XLA repeats these divisions for each entry of a vector.
    inverse, lack = jax.lax.optimization_barrier((tuple(inverse), tuple(lack)))
    return Sides(cosine, inverse, tuple(unclipped), lack)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def slopes(
    axes: tuple[int, ...], a: jax.Array, b: jax.Array, epsilon: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The derivatives of the cosine in a, b and epsilon."""
    parts = sides(axes, a, b, epsilon)
    u, v = a * parts.inverse[0], b * parts.inverse[1]
    along_a, along_b = (jnp.where(own, parts.cosine, 0) for own in parts.unclipped)
    clipped = sum(jnp.where(own, 0, 1) for own in parts.unclipped)
    in_epsilon = -0.5 * clipped * parts.cosine / jnp.where(epsilon > 0, epsilon, 1)
    return (
        (v - along_a * u) * parts.inverse[0],
        (u - along_b * v) * parts.inverse[1],
        jnp.squeeze(in_epsilon, axes),
    )


@slopes.defjvp
def _(axes: tuple[int, ...], primals: Any, tangents: Any) -> Any:
    # In terms of the unit vectors and their tangents: that of 1 / norm, which is -1 / norm^2 times
    # that of the norm, would overflow for vectors whose slopes have derivatives in range.
    parts, found = sides(axes, *primals), slopes(axes, *primals)
    per_epsilon = 1 / jnp.where(primals[2] > 0, primals[2], 1)
    growth_of_epsilon = tangents[2] * per_epsilon
    units, turned, growths = [], [], []
    vectors = zip(primals[:2], tangents[:2], parts.inverse, parts.unclipped, strict=True)
    for x, move, inverse, own in vectors:
        unit, moved = x * inverse, move * inverse
        growth = jnp.sum(unit * moved, axes, keepdims=True)
        # The tangent of the norm, divided by it.
        growth = jnp.where(own, growth, 0.5 * growth_of_epsilon)
        units.append(unit)
        turned.append(moved - unit * growth)
        growths.append(growth)
    (u, v), (of_u, of_v) = units, turned
    of_cosine = jnp.sum(of_u * v + u * of_v, axes, keepdims=True)

    def of_slope(i: int) -> jax.Array:
        along = of_cosine * units[i] + parts.cosine * turned[i]
        change = turned[1 - i] - jnp.where(parts.unclipped[i], along, 0)
        return change * parts.inverse[i] - found[i] * growths[i]

    clipped = sum(jnp.where(own, 0, 1) for own in parts.unclipped)
    in_epsilon = jnp.squeeze(-0.5 * clipped * of_cosine * per_epsilon, axes)
    return found, (of_slope(0), of_slope(1), in_epsilon - found[2] * growth_of_epsilon)


def gap(
    axes: tuple[int, ...],
    a: jax.Array,
    b: jax.Array,
    parts: Sides,
    wanted: jax.Array | bool = True,
) -> jax.Array:
    """1 - cosine, with the axes kept; without cancellation for the pairs where `wanted`."""

    def squared() -> jax.Array:
        # 1 - <u, v> would cancel; |u - v|^2 = |u|^2 + |v|^2 - 2 <u, v> is a sum of squares.
        e = a * parts.inverse[0] - b * parts.inverse[1]
        return 0.5 * (jnp.sum(e * e, axes, keepdims=True) + (parts.lack[0] + parts.lack[1]))

    cancels = jnp.any(wanted & (parts.cosine > 0.5))
    return jax.lax.cond(cancels, squared, lambda: 1 - parts.cosine)
