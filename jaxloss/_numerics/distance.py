"""The distance between two vectors, (sum of |u - v|^k + eps)^(1/k), or the largest |u - v|.

Entries are scaled before a power of them could overflow or vanish. A distance of 0 has slope 0, the
subgradient of least norm; so is the equal part that each of several largest entries has.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jax.typing import ArrayLike

from . import squares
from .exact import lost_in_difference, quotient
from .kinks import absolute, closed_form, sign_of_largest
from .sharding import sharded_like
from .special import one_if_zero, reciprocal
from .xla import difference_again

Axes = tuple[int, ...]
Formula = Callable[..., jax.Array]
Parts = tuple[jax.Array, jax.Array, jax.Array]


def distance(
    u: jax.Array, v: jax.Array, axes: Axes, degree: Any = 2, eps: ArrayLike = 0
) -> jax.Array:
    """The distance along `axes`, with derivatives in closed form.

    Args:
        u, v: Arrays of one shape.
        axes: The axes of the vectors.
        degree: k, held constant. A Python number selects the formula while the program is traced,
            an array while it runs. inf is the largest |u - v|, in which eps has no part.
        eps: One number, or one for each pair of vectors.
    """
    number = jax.lax.stop_gradient(jnp.asarray(degree, u.dtype))
    eps = _for_each(jnp.asarray(eps, u.dtype), u, axes)
    formulas = {1: _manhattan, 2: _euclidean, jnp.inf: _chebyshev}
    if isinstance(degree, int | float):
        return formulas.get(degree, _minkowski)(axes)(u, v, number, eps)
    chosen = [number == k for k in formulas]
    index = jnp.argmax(jnp.stack([*chosen, jnp.array(True)]))
    forms = [formula(axes) for formula in (*formulas.values(), _minkowski)]
    return jax.lax.switch(index, forms, u, v, number, eps)


def direction(u: jax.Array, v: jax.Array, axes: Axes) -> jax.Array:
    """(u - v) / |u - v|, the slope of the Euclidean distance in u; 0 between equal vectors."""
    degree, eps = (jnp.asarray(x, u.dtype) for x in (2, 0))
    return _euclidean_parts(axes)(u, v, degree, _for_each(eps, u, axes))[1]


def _for_each(x: jax.Array, u: jax.Array, axes: Axes) -> jax.Array:
    """A number for each vector."""
    shape = tuple(size for i, size in enumerate(u.shape) if i not in axes)
    return sharded_like(jnp.broadcast_to(x, shape), u, axes)


def _scale(size: jax.Array, least: jax.Array, axes: Axes) -> jax.Array:
    """The largest size, at least `least`, by which entries are divided; with the axes kept.

    Held constant: the distance does not depend on it.
    """
    largest = jnp.maximum(jnp.max(size, axes, keepdims=True, initial=0), least)
    return jax.lax.stop_gradient(one_if_zero(largest))


@functools.cache
def _manhattan(axes: Axes) -> Formula:
    def slopes(
        u: jax.Array, v: jax.Array, degree: jax.Array, eps: jax.Array
    ) -> tuple[ArrayLike, ...]:
        side = jnp.sign(difference_again(u, v))
        return side, -side, 0, jnp.ones_like(eps)

    @closed_form(slopes, axes)
    def length(u: jax.Array, v: jax.Array, degree: jax.Array, eps: jax.Array) -> jax.Array:
        return jnp.sum(jnp.abs(u - v), axes) + eps

    return length


def _smooth(axes: Axes, evaluate: Callable[..., Parts]) -> Callable[..., Parts]:
    """A distance with its slopes in u and in eps, all with derivatives in closed form.

    1 / distance, of which the slopes are made, has derivatives that overflow where theirs do not.
    """
    parts = jax.custom_jvp(jax.jit(evaluate))

    @parts.defjvp
    def _(primals: Any, tangents: Any) -> Any:
        d, unit, in_eps = parts(*primals)
        # Where it is infinite, 0 times it is to be 0: it reaches other derivatives with factor 0.
        steep, in_eps = in_eps, jnp.minimum(in_eps, jnp.finfo(in_eps.dtype).max)
        u, v, degree, eps = primals
        numbers = reciprocal(d), eps, in_eps, tangents[3]
        inverse, eps, by_eps, of_eps = (jnp.expand_dims(x, axes) for x in numbers)
        # With r = (u - v) / d, of which the sum of |r|^k and eps / d^k is 1, the slope in u is
        # sign(r) |r|^(k-1). Its tangent is (k - 1) |r|^(k-2) (moved - r * that of d) / d. An entry
        # that makes up most of d is taken out of the tangent of d, so that nothing cancels.
        r, moved = (u - v) * inverse, tangents[0] - tangents[1]
        power, change = unit * r, unit * moved
        most = power > 0.75  # of one entry at most, roundings included

        def total(selected: jax.Array, x: jax.Array) -> jax.Array:
            return jnp.sum(jnp.where(selected, x, 0), axes, keepdims=True)

        first, others = total(most, change), total(~most, change) + by_eps * of_eps
        share = total(~most, power) + degree * (by_eps * (eps * inverse))
        turn = jnp.where(most, moved * share - r * others, moved - r * (first + others))
        level = (r == 0) | (degree == 2)
        bend = jnp.power(jnp.where(level, 1, jnp.abs(r)), degree - 2)
        bend = jnp.where((r == 0) & (degree != 2), 0, (degree - 1) * bend)
        longer = jnp.squeeze(first + others, axes)
        moved_in_eps = in_eps * ((1 - degree) * (longer * jnp.squeeze(inverse, axes)))
        return (d, unit, steep), (longer, bend * (turn * inverse), moved_in_eps)

    return parts


def _length_of(axes: Axes, parts: Callable[..., Parts]) -> Formula:
    """The distance alone: its derivatives, and it with them, come from one evaluation."""

    @jax.custom_jvp
    def length(*arguments: jax.Array) -> jax.Array:
        return parts(*arguments)[0]

    def rule(primals: Any, tangents: Any) -> Any:
        d, unit, in_eps = parts(*primals)
        moved = jnp.zeros_like(d)
        for side, tangent in zip((1, -1), tangents, strict=False):
            # A slope may be infinite, and 0 times it is NaN.
            if not isinstance(tangent, SymbolicZero):
                moved += side * jnp.sum(unit * tangent, axes)
        if not isinstance(tangents[3], SymbolicZero):
            moved += in_eps * tangents[3]
        return d, moved

    length.defjvp(rule, symbolic_zeros=True)
    return length


@functools.cache
def _euclidean_parts(axes: Axes) -> Callable[..., Parts]:
    def evaluate(u: jax.Array, v: jax.Array, degree: jax.Array, eps: jax.Array) -> Parts:
        d = squares.distance(axes, u, v, jnp.expand_dims(eps, axes))
        inverse = reciprocal(d)
        unit = difference_again(u, v) * inverse
        d, inverse = (jnp.squeeze(x, axes) for x in (d, inverse))
        return d, unit, 0.5 * inverse

    return _smooth(axes, evaluate)


@functools.cache
def _euclidean(axes: Axes) -> Formula:
    return _length_of(axes, _euclidean_parts(axes))


@functools.cache
def _chebyshev(axes: Axes) -> Formula:
    def slopes(
        u: jax.Array, v: jax.Array, degree: jax.Array, eps: jax.Array
    ) -> tuple[ArrayLike, ...]:
        e = difference_again(u, v)
        unit = sign_of_largest(e, jnp.max(jnp.abs(e), axes, keepdims=True, initial=0), axes)
        return unit, -unit, 0, jnp.zeros_like(eps)

    @closed_form(slopes, axes)
    def length(u: jax.Array, v: jax.Array, degree: jax.Array, eps: jax.Array) -> jax.Array:
        return jnp.max(jnp.abs(u - v), axes, initial=0)

    return length


def _powers(
    u: jax.Array, v: jax.Array, degree: jax.Array, eps: jax.Array, axes: Axes
) -> tuple[jax.Array, ...]:
    """What the distance and its slopes are made of, in terms of r = |u - v| / scale.

    Returns:
        With the axes kept: the scale, which is the largest |u - v| or, if larger, the distance of
        equal vectors; r^(degree - 1), 0 for r = 0; the sum of r^degree and of eps / scale^degree.
    """
    e, eps = u - v, jnp.expand_dims(eps, axes)
    size = absolute(e)
    scale = _scale(size, jnp.power(jax.lax.stop_gradient(eps), 1 / degree), axes)
    r, lost = quotient(size, scale)
    # A power multiplies the relative error of its base: that of r, `rest`, is corrected for.
    tiny, zero = r < 1e-15, size == 0
    rest = lost + jnp.sign(e) * lost_in_difference(u, v) / scale
    rest = jnp.where(tiny, 0, rest / jnp.where(tiny, 1, r))
    # r may be too small for a float where a low power of it is not: a power of its root is taken.
    root = jnp.sqrt(one_if_zero(size)) / jnp.sqrt(scale)
    base = jnp.where(zero, 1, jnp.where(tiny, root, r))
    power = jnp.power(base, jnp.where(tiny, 2, 1) * (degree - 1)) * (1 + (degree - 1) * rest)
    power = jnp.where(zero, 0, power)
    share = jnp.where(eps == 0, 0, eps * jnp.power(scale, -degree))
    return scale, power, jnp.sum(power * (r * (1 + rest)), axes, keepdims=True) + share


@functools.cache
def _minkowski(axes: Axes) -> Formula:
    def evaluate(u: jax.Array, v: jax.Array, degree: jax.Array, eps: jax.Array) -> Parts:
        scale, power, total = _powers(u, v, degree, eps, axes)
        d = scale * jnp.power(total, 1 / degree)
        shrunk = jnp.power(one_if_zero(total), (1 - degree) / degree)
        unit = jnp.sign(u - v) * (power * shrunk)
        in_eps = jnp.where(total == 0, 0, jnp.power(scale, 1 - degree) * shrunk / degree)
        return jnp.squeeze(d, axes), unit, jnp.squeeze(in_eps, axes)

    return _length_of(axes, _smooth(axes, evaluate))
