"""The distance between two vectors, (sum of |u - v|^k + eps)^(1/k), or the largest |u - v|.

Entries are scaled before a power of them could overflow or vanish. A distance of 0 has slope 0, the
subgradient of least norm; so is the equal part that each of several largest entries has.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from .._contract.inputs import outer
from .._numerics.exact import lost_in_difference, quotient
from .._numerics.kinks import absolute, closed_form, sign_of_largest
from .._numerics.special import one_if_zero, reciprocal, rescaled_if_extreme
from .._numerics.xla import difference_again

Axes = tuple[int, ...]
Formula = Callable[..., jax.Array]
Slopes = Callable[..., tuple[jax.Array, jax.Array]]


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
    eps = jnp.broadcast_to(jnp.asarray(eps, u.dtype), outer(u.shape, axes))
    formulas = {1: _manhattan(axes), 2: _euclidean(axes)[0], jnp.inf: _chebyshev(axes)}
    if isinstance(degree, int | float):
        return formulas.get(degree, _minkowski(axes))(u, v, number, eps)
    chosen = [number == k for k in formulas]
    index = jnp.argmax(jnp.stack([*chosen, jnp.array(True)]))
    return jax.lax.switch(index, (*formulas.values(), _minkowski(axes)), u, v, number, eps)


def direction(u: jax.Array, v: jax.Array, axes: Axes) -> jax.Array:
    """(u - v) / |u - v|, the slope of the Euclidean distance in u; 0 between equal vectors."""
    degree, eps = jnp.asarray(2, u.dtype), jnp.zeros(outer(u.shape, axes), u.dtype)
    return _euclidean(axes)[1](u, v, degree, eps)[0]


def _scale(size: jax.Array, least: jax.Array, axes: Axes) -> jax.Array:
    """The largest size, at least `least`, by which entries are divided; with the axes kept.

    Held constant: the distance does not depend on it.
    """
    largest = jnp.maximum(jnp.max(size, axes, keepdims=True, initial=0), least)
    return jax.lax.stop_gradient(one_if_zero(largest))


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


def _smooth(axes: Axes, length: Formula, slopes: Slopes) -> tuple[Formula, Slopes]:
    """A distance and its slopes in u and eps, both with derivatives in closed form.

    1 / distance, of which the slopes are made, has derivatives that overflow where theirs do not.
    """
    slopes = jax.custom_jvp(slopes)

    def partials(*arguments: jax.Array) -> tuple[ArrayLike, ...]:
        unit, in_eps = slopes(*arguments)
        return unit, -unit, 0, in_eps

    length = closed_form(partials, axes)(length)

    @slopes.defjvp
    def _(primals: Any, tangents: Any) -> Any:
        found = unit, in_eps = slopes(*primals)
        # Where it is infinite, 0 times it is to be 0: it reaches other derivatives with factor 0.
        in_eps = jnp.minimum(in_eps, jnp.finfo(in_eps.dtype).max)
        u, v, degree, eps = primals
        numbers = reciprocal(length(*primals)), eps, in_eps, tangents[3]
        inverse, eps, by_eps, of_eps = (jnp.expand_dims(x, axes) for x in numbers)
        # With r = (u - v) / d, of which the sum of |r|^k and eps / d^k is 1, the slope in u is
        # sign(r) |r|^(k-1). Its tangent is (k - 1) |r|^(k-2) (moved - r * that of d) / d. An entry
        # that makes up most of d is taken out of the tangent of d, so that nothing cancels.
        r, moved = (u - v) * inverse, tangents[0] - tangents[1]
        power, parts = unit * r, unit * moved
        most = power > 0.75  # of one entry at most, roundings included

        def total(selected: jax.Array, x: jax.Array) -> jax.Array:
            return jnp.sum(jnp.where(selected, x, 0), axes, keepdims=True)

        first, others = total(most, parts), total(~most, parts) + by_eps * of_eps
        share = total(~most, power) + degree * (by_eps * (eps * inverse))
        turn = jnp.where(most, moved * share - r * others, moved - r * (first + others))
        level = (r == 0) | (degree == 2)
        bend = jnp.power(jnp.where(level, 1, jnp.abs(r)), degree - 2)
        bend = jnp.where((r == 0) & (degree != 2), 0, (degree - 1) * bend)
        longer = jnp.squeeze((first + others) * inverse, axes)
        return found, (bend * (turn * inverse), in_eps * ((1 - degree) * longer))

    return length, slopes


def _euclidean(axes: Axes) -> tuple[Formula, Slopes]:
    def slopes(
        u: jax.Array, v: jax.Array, degree: jax.Array, eps: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        inverse = reciprocal(length(u, v, degree, eps))
        return difference_again(u, v) * jnp.expand_dims(inverse, axes), 0.5 * inverse

    def rescaled(u: jax.Array, v: jax.Array, eps: jax.Array) -> jax.Array:
        e, root = u - v, jnp.sqrt(eps)
        scale = _scale(jnp.abs(e), root, axes)
        part, rest = e / scale, root / scale
        return scale * jnp.sqrt(jnp.sum(part * part, axes, keepdims=True) + rest * rest)

    def length(u: jax.Array, v: jax.Array, degree: jax.Array, eps: jax.Array) -> jax.Array:
        e, eps = u - v, jnp.expand_dims(eps, axes)
        square = jnp.sum(e * e, axes, keepdims=True) + eps
        d = rescaled_if_extreme([square], lambda *_: jnp.sqrt(square), rescaled, u, v, eps)
        return jnp.squeeze(d, axes)

    return _smooth(axes, length, slopes)


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


def _minkowski(axes: Axes) -> Formula:
    def slopes(
        u: jax.Array, v: jax.Array, degree: jax.Array, eps: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        scale, power, total = _powers(u, v, degree, eps, axes)
        shrunk = jnp.power(one_if_zero(total), (1 - degree) / degree)
        unit = jnp.sign(u - v) * (power * shrunk)
        in_eps = jnp.where(total == 0, 0, jnp.power(scale, 1 - degree) * shrunk / degree)
        return unit, jnp.squeeze(in_eps, axes)

    def length(u: jax.Array, v: jax.Array, degree: jax.Array, eps: jax.Array) -> jax.Array:
        scale, _, total = _powers(u, v, degree, eps, axes)
        return jnp.squeeze(scale * jnp.power(total, 1 / degree), axes)

    return _smooth(axes, length, slopes)[0]
