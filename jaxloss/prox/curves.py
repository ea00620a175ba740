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


def product(a: jax.Array, b: jax.Array) -> jax.Array:
    """a b, with 0 inf = 0 whichever of the two is 0."""
    return safe_product(jnp.where((b == 0) & jnp.isinf(a), 0, a), b)


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
        stiffness: bend + factor step.
        line: Whether it is the line.
        bent: 1 where it is the bent piece, else 0, and NaN for NaN.
    """

    side: jax.Array
    u: jax.Array
    stiffness: jax.Array
    line: jax.Array
    bent: jax.Array


def _pieces(hinged: bool, x: jax.Array, t: jax.Array, *curve: jax.Array) -> _Pieces:
    dead, bend, limit, factor, step = curve
    e = x - t
    right = e > 0 if hinged else e >= 0
    u = jnp.where(right, e, -e) - dead
    stiffness = bend + product(factor, step)
    most = safe_product(limit, stiffness)
    # Where nothing is bent, a corner at 0 has slope 0, and that of a hinge the active side's.
    at_corner = (u > 0) | (dead > 0) | (limit == 0) | hinged
    line = at_corner & (u >= most) & (most < jnp.inf)
    bent = jnp.where(jnp.isnan(u), u, jnp.where(line | (u < 0), 0, 1))
    side = jnp.where(right, 1, -1).astype(x.dtype)
    return _Pieces(side, u, stiffness, line, bent.astype(x.dtype))


class Core(NamedTuple):
    """Functions of x, t, dead, bend, limit, factor and step, with derivatives in all of them."""

    envelope: Callable[..., jax.Array]
    point: Callable[..., jax.Array]


@functools.cache
def _core(hinged: bool) -> Core:
    """The curve of e = x - t, of one factor on either side.

    Args:
        hinged: Whether a corner at e = 0 has the slope of the side below, and not 0.
    """

    def slope_slopes(*given: jax.Array) -> tuple[jax.Array, ...]:
        factor, step = given[5:]
        side, _, stiffness, line, bent = _pieces(hinged, *given)
        inverse = bent * in_range(reciprocal(stiffness))
        flatter = -inverse * slope(*given)
        along = jnp.where(line, side, 0)
        by_factor, by_step = flatter * step, flatter * factor
        return inverse, -inverse, -side * inverse, flatter, along, by_factor, by_step

    @closed_form(slope_slopes)
    def slope(*given: jax.Array) -> jax.Array:
        """That of the envelope, without the factor."""
        side, u, stiffness, line, _ = _pieces(hinged, *given)
        bent = jnp.where(u < 0, 0, u) / one_if_zero(stiffness)
        return jnp.where(line, side * given[4], jnp.where(bent == 0, 0, side * bent))

    def pull(*given: jax.Array) -> jax.Array:
        """The slope of the envelope."""
        bend, _, factor, step = given[3:]
        side, u, stiffness, line, _ = _pieces(hinged, *given)
        # A factor that is infinite, or overflows times a step, leaves the distance over the step.
        rigid = ~line & (stiffness == jnp.inf) & (bend < jnp.inf)
        away = jnp.where(rigid, jnp.where(u < 0, 0, u), 0) / jnp.where(rigid, step, 1)
        return jnp.where(rigid, side * away, product(factor, slope(*given)))

    def envelope_slopes(*given: jax.Array) -> tuple[jax.Array, ...]:
        _, bend, limit, factor, step = given[2:]
        side, u, stiffness, line, _ = _pieces(hinged, *given)
        y, pulled = slope(*given), pull(*given)
        # A longer step changes nothing at a minimiser, whatever slope a corner has there.
        half = jnp.where(u <= 0, 0, in_range(0.5 * y * y))
        # An infinite limit must not meet the derivative of the stiffness, which may be 0.
        limit = jnp.where(line, limit, 0)
        beyond = jnp.where(line, u - limit * stiffness, 0)
        # The curve at the proximal point.
        there = limit * (u - limit * (0.5 * bend + product(factor, step)))
        return (
            pulled,
            -pulled,
            -side * pulled,
            -factor * half,
            factor * beyond,
            jnp.where(line, there, safe_product(half, bend)),
            jnp.where(u <= 0, 0, -in_range(0.5 * pulled * pulled)),
        )

    @closed_form(envelope_slopes)
    def envelope(*given: jax.Array) -> jax.Array:
        _, u, stiffness, line, _ = _pieces(hinged, *given)
        limit = jnp.where(line, given[4], 0)
        # The slope first: u^2 may overflow or vanish where the loss does not.
        bent = 0.5 * u * jnp.abs(pull(*given))
        far = product(given[5], limit * (u - 0.5 * limit * stiffness))
        return jnp.where(line, far, jnp.where(u <= 0, 0, bent))

    def point_slopes(*given: jax.Array) -> tuple[jax.Array, ...]:
        x, t, _, bend, limit, factor, step = given
        side, u, _, line, bent = _pieces(hinged, *given)
        length = product(factor, step)
        stays, moves = bent * kept(bend, length), bent * moved(bend, length)
        y = in_range(slope(*given))
        along = jnp.where(line & (u > 0), -side, 0)
        limit = jnp.where(line, limit, 0)
        return (
            jnp.where(bent == 0, 1, stays),
            moves,
            jnp.sign(x - t) * moves,
            y * moves,
            along * length,
            along * limit * step - (y * step) * stays,
            along * limit * factor - (y * factor) * stays,
        )

    @closed_form(point_slopes)
    def point(*given: jax.Array) -> jax.Array:
        x, t, dead, bend, limit, factor, step = given
        side, u, _, line, _ = _pieces(hinged, *given)
        length = product(factor, step)
        # As a mean of x and of where the curve begins: next to 0 no digits cancel, and where
        # nothing is kept the point is exactly there.
        begin = t + side * dead
        bent = safe_product(kept(bend, length), x) + safe_product(moved(bend, length), begin)
        far = x - side * safe_product(length, jnp.where(line, limit, 0))
        # No negative zeros.
        return jnp.where(line, far, jnp.where(u < 0, x, jnp.where(bent == 0, 0, bent)))

    return Core(envelope, point)


def _of_side(
    x: jax.Array, t: jax.Array, curve: Curve, step: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    """Where a side costs nothing infinitely far out, and what the core takes, 0 for x and t there.

    All are of one dtype, with the factor of the side.
    """
    above, below, dead, bend, limit = (jnp.asarray(number, x.dtype) for number in curve)
    factor = jnp.where(x - t > 0, above, below)
    flat = (factor == 0) | (dead == jnp.inf) | (bend == jnp.inf)
    free = flat & jnp.isinf(x - t)
    x, t = (jnp.where(free, 0, z) for z in (x, t))
    return free, (x, t, dead, bend, limit, factor, step)


@functools.partial(jax.jit, static_argnames="hinged")
def point(
    x: jax.Array, t: jax.Array, curve: Curve, step: jax.Array, hinged: bool = False
) -> jax.Array:
    """The proximal point of x: the p that minimises f(p - t) + (p - x)^2 / (2 step)."""
    free, given = _of_side(x, t, curve, step)
    return jnp.where(free, x, _core(hinged).point(*given))


@functools.partial(jax.jit, static_argnames="hinged")
def envelope(
    x: jax.Array, t: jax.Array, curve: Curve, step: jax.Array, hinged: bool = False
) -> jax.Array:
    """That minimum; with a step of 0 the curve itself."""
    return _core(hinged).envelope(*_of_side(x, t, curve, step)[1])


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


def _nan_alone(x: jax.Array) -> jax.Array:
    return jnp.where(jnp.isnan(x), x, 0)


# The slope is a factor, so that one of NaN outside reaches all of x, infinite entries too.
@closed_form(lambda x: (_nan_alone(x),))
def nothing_of(x: jax.Array) -> jax.Array:
    """0, and NaN of NaN: the value inside of what is infinite outside."""
    return _nan_alone(x)


@jax.jit
def conjugate(y: jax.Array, t: jax.Array, curve: Curve) -> jax.Array:
    """The largest y p - f(p - t) over all p; inf where there is none."""
    above, below, dead, bend, limit = (jnp.asarray(number, y.dtype) for number in curve)
    factor = jnp.where(y > 0, above, below)
    size = absolute(y)
    finite = (size <= product(factor, limit)) & (dead < jnp.inf) & (bend < jnp.inf)
    inside = finite | (y == 0)
    factor = jnp.where(inside & (factor != 0), factor, 1)
    # An infinite factor has no bent piece.
    held = jnp.where(factor == jnp.inf, 0, size)
    bent = 0.5 * product(bend, held * (held / factor))
    # An infinite slope is outside, or what is bent outweighs the line.
    line = product(jnp.where(jnp.isinf(y), 0, y), t)
    return infinite_outside(product(dead, size) + bent + line, inside)


def _dual(*given: jax.Array) -> tuple[_Pieces, jax.Array]:
    """The pieces of the conjugate's proximal operator, and how much is kept of what is bent."""
    y, t, dead, bend, limit, factor, step = given
    curve = (product(step, dead), product(step, bend), limit, factor, jnp.ones_like(step))
    share = jnp.where(factor == 0, 0, kept(factor, product(step, bend)))
    return _pieces(False, y, product(step, t), *curve), share


def _conjugate_point_slopes(*given: jax.Array) -> tuple[jax.Array, ...]:
    y, t, dead, bend, limit, factor, step = given
    (side, u, stiffness, line, bent), share = _dual(*given)
    share, inverse = bent * share, bent * in_range(reciprocal(stiffness))
    # A mean: the slopes less the point, over the step, would cancel.
    primal = safe_product(bend * inverse, y) + safe_product(share, t + side * dead)
    size = safe_product(share, jnp.where(u < 0, 0, u))
    away = jnp.where(line & (u > 0), side, 0)
    by_factor = side * u * (moved(factor, product(step, bend)) * inverse)
    return (
        share,
        -product(share, step),
        -jnp.sign(y - product(step, t)) * product(share, step),
        -side * size * product(inverse, step),
        away * factor,
        jnp.where(line, away * jnp.where(line, limit, 0), by_factor),
        -share * primal,
    )


@closed_form(_conjugate_point_slopes)
def _conjugate_point(*given: jax.Array) -> jax.Array:
    (side, u, _, line, _), share = _dual(*given)
    most = product(given[5], jnp.where(line, given[4], 0))
    size = jnp.where(line, most, jnp.where(u < 0, 0, safe_product(share, u)))
    # No negative zeros.
    return jnp.where(size == 0, 0, side * size)


@jax.jit
def conjugate_point(y: jax.Array, t: jax.Array, curve: Curve, step: jax.Array) -> jax.Array:
    """The proximal point of y under the conjugate."""
    above, below, dead, *others = (jnp.asarray(number, y.dtype) for number in curve)
    # Nothing is as steep as the end of an infinite dead zone.
    y = jnp.where(jnp.isinf(dead) & jnp.isinf(y), 0, y)
    factor = jnp.where(y - product(step, t) > 0, above, below)
    return _conjugate_point(y, t, dead, *others, factor, step)
