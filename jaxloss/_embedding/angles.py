"""The angle between two vectors: its cosine, the derivatives of that, and 1 - cosine.

Vectors are scaled before squares could overflow or vanish. The cosine with a zero vector is 0, and
so are its derivatives, the choice of least norm.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from .._numerics.special import root
from .._numerics.squares import products
from .._numerics.xla import at_once_or_again, beside_value

Axes = tuple[int, ...]


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


@functools.partial(jax.jit, static_argnums=0)
def _sides(axes: Axes, a: jax.Array, b: jax.Array, epsilon: jax.Array) -> Sides:
    """The two vectors, of which `angle` is made."""
    scales, squares, product = products(axes, a, b)
    shortest = jnp.sqrt(jnp.where(epsilon > 0, epsilon, 1))
    cosine, inverse, unclipped, lack = product, [], [], []
    for scale, square in zip(scales, squares, strict=True):
        norm, zero = root(square), square == 0
        short = (epsilon > 0) & (scale * norm < shortest)
        # As `reciprocal`, but zero by the square: by the norm, it takes two loops more.
        own = jnp.where(zero, 0, 1 / jnp.where(zero, 1, norm))
        cosine = cosine * jnp.where(short, scale / shortest, own)
        inverse.append(jnp.where(short, 1 / shortest, own / scale))
        unclipped.append(~short)
        share = jnp.where(short, scale * norm, 0) / shortest
        lack.append(jnp.where(short, (1 - share) * (1 + share), jnp.where(zero, 1, 0)))
    # Without a barrier these divisions are repeated for each entry of a vector.
    inverse, lack = jax.lax.optimization_barrier((tuple(inverse), tuple(lack)))
    (cosine,) = beside_value(cosine)
    return Sides(cosine, inverse, tuple(unclipped), lack)


class Angle(NamedTuple):
    """An angle between vectors, and the derivatives of its cosine.

    Attributes:
        cosine: In the shape of the losses, as the gap.
        gap: 1 - cosine.
        slopes: The derivatives of the cosine in a, b and epsilon.
    """

    cosine: jax.Array
    gap: jax.Array
    slopes: tuple[jax.Array, jax.Array, jax.Array]


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def angle(
    axes: Axes, exact: bool, a: jax.Array, b: jax.Array, epsilon: jax.Array, wanted: jax.Array
) -> Angle:
    """The angle of vectors along `axes`, whose squared norms are at least epsilon, or read so.

    Args:
        axes: Those of the vectors.
        exact: Whether the gap is wanted without cancellation, for some pairs.
        a, b: Vectors.
        epsilon: One number.
        wanted: Which pairs these are: one truth value, or one for each of them.
    """
    parts = _sides(axes, a, b, epsilon)
    u, v = a * parts.inverse[0], b * parts.inverse[1]
    along_a, along_b = (jnp.where(own, parts.cosine, 0) for own in parts.unclipped)
    clipped = sum(jnp.where(own, 0, 1) for own in parts.unclipped)
    in_epsilon = -0.5 * clipped * parts.cosine / jnp.where(epsilon > 0, epsilon, 1)
    slopes = (
        (v - along_a * u) * parts.inverse[0],
        (u - along_b * v) * parts.inverse[1],
        jnp.squeeze(in_epsilon, axes),
    )
    gap = _gap(axes, a, b, parts, wanted) if exact else 1 - parts.cosine
    return Angle(jnp.squeeze(parts.cosine, axes), jnp.squeeze(gap, axes), slopes)


@angle.defjvp
def _(axes: Axes, exact: bool, primals: Any, tangents: Any) -> Any:
    # In terms of the unit vectors and their tangents: that of 1 / norm, which is -1 / norm^2 times
    # that of the norm, would overflow for vectors whose slopes have derivatives in range.
    found = angle(axes, exact, *primals)
    a, b, epsilon, _ = primals
    parts, slopes = _sides(axes, a, b, epsilon), found.slopes
    per_epsilon = 1 / jnp.where(epsilon > 0, epsilon, 1)
    growth_of_epsilon = tangents[2] * per_epsilon
    units, turned, growths = [], [], []
    vectors = zip((a, b), tangents[:2], parts.inverse, parts.unclipped, strict=True)
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
        return change * parts.inverse[i] - slopes[i] * growths[i]

    clipped = sum(jnp.where(own, 0, 1) for own in parts.unclipped)
    in_epsilon = jnp.squeeze(-0.5 * clipped * of_cosine * per_epsilon, axes)
    of_slopes = of_slope(0), of_slope(1), in_epsilon - slopes[2] * growth_of_epsilon
    moved = _moved(axes, slopes, tangents)
    return found, Angle(moved, -moved, of_slopes)


def _moved(axes: Axes, slopes: tuple[jax.Array, ...], tangents: Any) -> jax.Array:
    """The tangent of the cosine."""
    total = jnp.zeros_like(slopes[2])
    for slope, tangent in zip(slopes, tangents, strict=False):
        if not isinstance(tangent, SymbolicZero):
            moved = slope * tangent
            total += moved if moved.ndim == total.ndim else jnp.sum(moved, axes)
    return total


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _cosine_and_gap(axes: Axes, exact: bool, *arguments: jax.Array) -> tuple[jax.Array, jax.Array]:
    found = angle(axes, exact, *arguments)
    return found.cosine, found.gap


def _cosine_and_gap_rule(axes: Axes, exact: bool, primals: Any, tangents: Any) -> Any:
    # One evaluation has the values and the slopes. Those of the gap come from the cosine: its sum
    # of squares has slopes that cancel.
    found = angle(axes, exact, *primals)
    moved = _moved(axes, found.slopes, tangents)
    return (found.cosine, found.gap), (moved, -moved)


_cosine_and_gap.defjvp(_cosine_and_gap_rule, symbolic_zeros=True)


def cosine(axes: Axes, a: jax.Array, b: jax.Array, epsilon: jax.Array) -> jax.Array:
    """The cosine; see `angle`."""
    return _cosine_and_gap(axes, False, a, b, epsilon, jnp.array(True))[0]


def gap(axes: Axes, a: jax.Array, b: jax.Array, epsilon: jax.Array) -> jax.Array:
    """1 - cosine, without cancellation."""
    return _cosine_and_gap(axes, True, a, b, epsilon, jnp.array(True))[1]


def _gap(axes: Axes, a: jax.Array, b: jax.Array, parts: Sides, wanted: jax.Array) -> jax.Array:
    """1 - cosine, axes kept."""
    if wanted.ndim:
        wanted = jnp.expand_dims(wanted, axes)
    forms = _gap_forms(axes)
    return at_once_or_again(
        *forms, a, b, parts.cosine, parts.inverse, parts.lack[0] + parts.lack[1], wanted
    )


@functools.cache
def _gap_forms(axes: Axes) -> tuple[Any, Any]:
    def squared(
        a: jax.Array, b: jax.Array, cosine: jax.Array, inverse: Any, lack: jax.Array, _: Any
    ) -> jax.Array:
        # 1 - <u, v> would cancel; |u - v|^2 = |u|^2 + |v|^2 - 2 <u, v> is a sum of squares.
        e = a * inverse[0] - b * inverse[1]
        return 0.5 * (jnp.sum(e * e, axes, keepdims=True) + lack)

    def if_it_cancels(*arguments: Any) -> jax.Array:
        cosine, wanted = arguments[2], arguments[5]
        cancels = jnp.any(wanted & (cosine > 0.5))
        return jax.lax.cond(cancels, squared, lambda *_: 1 - cosine, *arguments)

    return if_it_cancels, squared
