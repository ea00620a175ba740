"""One curve, of which all losses here are made, and what follows from it in closed form.

    f(e) = max over |y| <= limit of  y e - dead |y| - bend y^2 / 2

A maximum of lines: |e| with bend = 0 and limit = 1, e^2 / 2 with bend = 1 and no limit, Huber's
loss with both, zero up to |e| = dead. A factor for either side of 0 makes quantiles and hinges.

A proximal step only adds its length to `bend`: the Moreau envelope is the same curve, flatter, the
y that attains the maximum is its slope, and the proximal point is what is left of a descent
along that slope. Everything is written in terms of u = |e| - dead, which has three pieces:

    dead   u < 0                       y = 0
    bent   between                     y = u / (bend + step)
    line   u >= limit (bend + step)    y = limit
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from .._numerics.kinks import absolute, closed_form, in_range
from .._numerics.special import one_if_zero, reciprocal, safe_product


class Curve(NamedTuple):
    """Numbers, or arrays that broadcast against the data.

    Attributes:
        above: The factor of the curve for e > 0.
        below: That for e <= 0.
        dead: Up to where it is 0.
        bend: The inverse of its second derivative next to there.
        limit: Its largest slope.
    """

    above: ArrayLike = 1.0
    below: ArrayLike = 1.0
    dead: ArrayLike = 0.0
    bend: ArrayLike = 0.0
    limit: ArrayLike = jnp.inf


def _share(part: jax.Array, other: jax.Array) -> jax.Array:
    """part / (part + other) where one of the two may be 0 or infinite; 0 of nothing."""
    total = part + other
    ordinary = (total != 0) & (total != jnp.inf)
    share = jnp.where(ordinary, part, 0) / jnp.where(ordinary, total, 1)
    return jnp.where((part == jnp.inf) & (other != jnp.inf), 1, share)


def _kept_slopes(bend: jax.Array, step: jax.Array) -> tuple[jax.Array, jax.Array]:
    inverse = in_range(reciprocal(bend + step))
    return moved(bend, step) * inverse, -kept(bend, step) * inverse


@closed_form(_kept_slopes)
def kept(bend: jax.Array, step: jax.Array) -> jax.Array:
    """bend / (bend + step): how much a proximal step keeps; all if it has no length."""
    still = (step == 0) | (bend == jnp.inf)
    return jnp.where(still, 1, _share(bend, step))


@closed_form(lambda bend, step: tuple(-x for x in _kept_slopes(bend, step)))
def moved(bend: jax.Array, step: jax.Array) -> jax.Array:
    """step / (bend + step) = 1 - kept."""
    still = (step == 0) | (bend == jnp.inf)
    return jnp.where(still, 0, _share(step, bend))


class _Pieces(NamedTuple):
    """Which piece of the curve an error lies on.

    Attributes:
        side: The sign of e.
        u: |e| - dead.
        stiffness: bend + step.
        line: Whether it is the line.
        bent: 1 where it is the bent piece, else 0, and NaN for NaN.
    """

    side: jax.Array
    u: jax.Array
    stiffness: jax.Array
    line: jax.Array
    bent: jax.Array


def _pieces(hinged: bool, x: jax.Array, t: jax.Array, *curve: jax.Array) -> _Pieces:
    dead, bend, limit, step = curve
    e = x - t
    right = e > 0 if hinged else e >= 0
    u = jnp.where(right, e, -e) - dead
    stiffness = bend + step
    # Where nothing is bent, a corner at 0 has slope 0, and that of a hinge the active side's.
    at_corner = (u > 0) | (dead > 0) | hinged
    line = at_corner & (u >= safe_product(limit, stiffness)) & (limit < jnp.inf)
    bent = jnp.where(jnp.isnan(u), u, jnp.where(line | (u < 0), 0, 1))
    side = jnp.where(right, 1, -1).astype(x.dtype)
    return _Pieces(side, u, stiffness, line, bent.astype(x.dtype))


class Core(NamedTuple):
    """Functions of x, t, dead, bend, limit and step, with derivatives in all of them."""

    dual: Callable[..., jax.Array]
    envelope: Callable[..., jax.Array]
    point: Callable[..., jax.Array]


@functools.cache
def _core(hinged: bool) -> Core:
    """The curve of e = x - t, of factor 1 on either side.

    Args:
        hinged: Whether a corner at e = 0 has the slope of the side below, and not 0.
    """

    def dual_slopes(*given: jax.Array) -> tuple[jax.Array, ...]:
        side, _, stiffness, line, bent = _pieces(hinged, *given)
        slope = bent * in_range(reciprocal(stiffness))
        flatter = -slope * dual(*given)
        return slope, -slope, -side * slope, flatter, jnp.where(line, side, 0), flatter

    @closed_form(dual_slopes)
    def dual(*given: jax.Array) -> jax.Array:
        side, u, stiffness, line, _ = _pieces(hinged, *given)
        bent = jnp.where(u < 0, 0, u) / one_if_zero(stiffness)
        return jnp.where(line, side * given[4], jnp.where(bent == 0, 0, side * bent))

    def envelope_slopes(*given: jax.Array) -> tuple[jax.Array, ...]:
        _, u, stiffness, line, _ = _pieces(hinged, *given)
        y = dual(*given)
        flatter = in_range(-0.5 * y * y)
        # An infinite limit must not meet the derivative of the stiffness, which may be 0.
        beyond = jnp.where(line, u - jnp.where(line, given[4], 0) * stiffness, 0)
        return y, -y, -absolute(y), flatter, beyond, flatter

    @closed_form(envelope_slopes)
    def envelope(*given: jax.Array) -> jax.Array:
        _, u, stiffness, line, _ = _pieces(hinged, *given)
        limit = jnp.where(line, given[4], 0)
        # u / stiffness first: u^2 may overflow or vanish where the loss does not.
        bent = 0.5 * u * (u / one_if_zero(stiffness))
        return jnp.where(line, limit * (u - 0.5 * limit * stiffness), jnp.where(u < 0, 0, bent))

    def point_slopes(*given: jax.Array) -> tuple[jax.Array, ...]:
        _, _, _, bend, limit, step = given
        side, _, _, line, bent = _pieces(hinged, *given)
        y, stays, moves = dual(*given), kept(bend, step), moved(bend, step)
        slope = jnp.where(bent == 0, 1, bent * stays)
        gone = bent * moves
        along = jnp.where(line, -side, 0)
        return (
            slope,
            gone,
            side * gone,
            jnp.where(bent == 0, 0, in_range(y) * gone),
            along * step,
            jnp.where(line, along * limit, -in_range(y) * bent * stays),
        )

    @closed_form(point_slopes)
    def point(*given: jax.Array) -> jax.Array:
        x, t, dead, bend, limit, step = given
        side, u, _, line, _ = _pieces(hinged, *given)
        # As a mean of x and of where the curve begins: next to 0 no digits cancel, and where
        # nothing is kept the point is exactly there.
        begin = t + side * dead
        bent = safe_product(kept(bend, step), x) + safe_product(moved(bend, step), begin)
        far = x - side * safe_product(step, jnp.where(line, limit, 0))
        # No negative zeros.
        return jnp.where(line, far, jnp.where(u < 0, x, jnp.where(bent == 0, 0, bent)))

    return Core(dual, envelope, point)


Arrays = tuple[jax.Array, ...]


def _of_side(x: jax.Array, t: jax.Array, curve: Curve, step: jax.Array) -> tuple[jax.Array, Arrays]:
    """The factor of the side, and what the core takes, all of one dtype."""
    above, below, *others = (jnp.asarray(number, x.dtype) for number in curve)
    factor = jnp.where(x - t > 0, above, below)
    return factor, (x, t, *others, safe_product(factor, step))


@functools.partial(jax.jit, static_argnames="hinged")
def point(
    x: jax.Array, t: jax.Array, curve: Curve, step: jax.Array, hinged: bool = False
) -> jax.Array:
    """The proximal point of x: the p that minimises f(p - t) + (p - x)^2 / (2 step)."""
    return _core(hinged).point(*_of_side(x, t, curve, step)[1])


@functools.partial(jax.jit, static_argnames="hinged")
def envelope(
    x: jax.Array, t: jax.Array, curve: Curve, step: jax.Array, hinged: bool = False
) -> jax.Array:
    """That minimum; with a step of 0 the curve itself."""
    factor, given = _of_side(x, t, curve, step)
    # A side of factor 0 costs nothing, and has no slope, infinitely far out either.
    nothing = (factor == 0) & jnp.isinf(x - t)
    x, t = (jnp.where(nothing, 0, z) for z in given[:2])
    return factor * _core(hinged).envelope(x, t, *given[2:])


@jax.custom_jvp
def infinite_outside(value: jax.Array, inside: jax.Array) -> jax.Array:
    """`value`, and inf where it is not inside: there it has no derivative, NaN."""
    return jnp.where(inside, value, jnp.where(jnp.isnan(value), value, jnp.inf))


@infinite_outside.defjvp
def _(primals: Any, tangents: Any) -> Any:
    value, inside = primals
    return infinite_outside(value, inside), tangents[0] * jnp.where(inside, 1, jnp.nan).astype(
        value.dtype
    )


@jax.jit
def conjugate(y: jax.Array, t: jax.Array, curve: Curve) -> jax.Array:
    """The largest y p - f(p - t) over all p; inf where there is none."""
    above, below, dead, bend, limit = (jnp.asarray(number, y.dtype) for number in curve)
    factor = jnp.where(y > 0, above, below)
    size = absolute(y)
    inside = (y == 0) | (size <= safe_product(factor, limit))
    factor = jnp.where(inside & (factor != 0), factor, 1)
    bent = 0.5 * safe_product(bend, size * (size / factor))
    value = safe_product(dead, size) + bent + safe_product(y, t)
    return infinite_outside(value, inside)


@jax.jit
def conjugate_point(y: jax.Array, t: jax.Array, curve: Curve, step: jax.Array) -> jax.Array:
    """The proximal point of y under the conjugate."""
    above, below, dead, bend, limit = (jnp.asarray(number, y.dtype) for number in curve)
    z = y - step * t
    factor = jnp.where(z > 0, above, below)
    side = jnp.where(z >= 0, 1, -1).astype(z.dtype)
    u = side * z - step * dead
    bent = u * jnp.where(factor == 0, 0, kept(factor, step * bend))
    most = safe_product(factor, limit)
    size = jnp.where(u < 0, 0, jnp.where(bent >= most, most, bent))
    return jnp.where(size == 0, size, side * size)
