"""Constraints, as penalties that are 0 in a convex set and infinite outside.

The proximal point is the nearest point of the set whatever the step, the envelope the squared
distance over 2 step, and the conjugate the support function of the set.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from .._contract.inputs import Axis, nan_outside
from .._contract.prepared import any_number
from .._contract.prepared import non_negative as not_below_zero
from .._numerics.kinks import absolute, closed_form, divide, sign_of_largest
from .._numerics.order import descending
from .curves import infinite_outside, nothing_of, product
from .norms import group_point, in_ball, length
from .penalties import Function, Kind, Penalty, penalty, registered

Array = jax.Array


def _value(contains: Function, vectors: bool) -> Function:
    """0 in a set and inf outside, from whether a point, or an entry of it, is in the set."""

    def value(x: Array, *hyper: Array) -> Array:
        zero = jnp.sum(nothing_of(x), -1, keepdims=True) if vectors else nothing_of(x)
        return infinite_outside(zero, contains(x, *hyper))

    return value


def _envelope(project: Function) -> Function:
    """Half the squared distance from a set over the step, from the nearest point."""

    def envelope(x: Array, step: Array, *hyper: Array) -> Array:
        nearest = project(x, *hyper)
        # An infinite point of the set is no distance from itself.
        infinite = (jnp.abs(x) == jnp.inf) & (x == nearest)
        away = jnp.where(infinite, 0, x - jnp.where(infinite, 0, nearest))
        # In the set a step of 0 costs nothing.
        step = jnp.where((away == 0) & (step == 0), 1, step)
        return 0.5 * product(away, divide(away, step))

    return envelope


def _not_in(project: Function) -> Function:
    """The proximal point of y under the support function of a set of some size.

    By Moreau's decomposition, of the set times the step, so that nothing is rounded inside of it.
    """

    def point(y: Array, step: Array, size: Array) -> Array:
        nearest = project(y, product(step, size))
        # A bounded set has nothing to take from infinite slopes, a set of everything leaves none.
        endless = jnp.isinf(y)
        left = jnp.where(endless, 0, y) - jnp.where(endless, 0, nearest)
        return jnp.where(endless & (y != nearest), y, left)

    return point


def _to_box(x: Array, low: Array, high: Array) -> Array:
    # A box that is a point has no inside.
    return jnp.where(x < low, low, jnp.where((x > high) | (low == high), high, x))


def _support_slopes(y: Array, low: Array, high: Array) -> tuple[Array, Array, Array]:
    least = _to_box(jnp.where(jnp.isnan(y), y, 0), low, high)
    slope = jnp.where(y > 0, high, jnp.where(y < 0, low, least))
    return slope, jnp.where(y < 0, y, 0), jnp.where(y > 0, y, 0)


@closed_form(_support_slopes)
def _finite_support(y: Array, low: Array, high: Array) -> Array:
    return product(y, jnp.where(y > 0, high, low))


def _support_of_box(y: Array, low: Array, high: Array) -> Array:
    endless = jnp.isinf(jnp.where(y > 0, high, low)) & (y != 0)
    low, high = (jnp.where(endless, 0, bound) for bound in (low, high))
    return infinite_outside(_finite_support(y, low, high), ~endless)


def _off_box(y: Array, step: Array, low: Array, high: Array) -> Array:
    above, below = y - product(step, high), y - product(step, low)
    outside = (below < 0) | (low == high)
    return jnp.where(above > 0, above, jnp.where(outside, below, jnp.where(jnp.isnan(y), y, 0)))


def _to_orthant(x: Array) -> Array:
    return jnp.where(x < 0, 0, x)


_NON_NEGATIVE = registered(
    Kind(
        name="non_negative",
        domains={},
        value=_value(lambda x: x >= 0, False),
        prox=lambda x, step: _to_orthant(x),
        envelope=_envelope(_to_orthant),
        conjugate=lambda y: infinite_outside(nothing_of(y), y <= 0),
        conjugate_prox=lambda y, step: jnp.where(y >= 0, 0, y),
    )
)

_BOX = registered(
    Kind(
        name="box",
        domains={"low": any_number, "high": any_number},
        value=_value(lambda x, low, high: (x >= low) & (x <= high), False),
        prox=lambda x, step, low, high: _to_box(x, low, high),
        envelope=_envelope(_to_box),
        conjugate=_support_of_box,
        conjugate_prox=_off_box,
        known=lambda low, high: low <= high,
    )
)


def non_negative() -> Penalty:
    """The constraint that no parameter is below 0.

        f(x)      0 where all x_i >= 0, else inf
        prox      max(x, 0)
        envelope  sum min(x_i, 0)^2 / (2 step)
        f*(y)     0 where all y_i <= 0, else inf

    At x_i = 0 the derivative of `prox` is 1, so that a parameter on the bound still trains.

    Returns:
        The constraint, a `Penalty`.

    Reference:
        Parikh and Boyd, "Proximal algorithms", 2014, section 6.2.4,
        https://doi.org/10.1561/2400000003.

    Example:
        >>> non_negative().prox(jnp.array([2.0, -0.5]))
        Array([2., 0.], dtype=float32)
    """
    return penalty(_NON_NEGATIVE)


def box(low: Any, high: Any) -> Penalty:
    """The constraint that parameters lie between two bounds.

        f(x)      0 where all low <= x_i <= high, else inf
        prox      x_i, held between low and high
        envelope  the squared distance from the box over 2 step
        f*(y)     sum max(low y_i, high y_i)

    At a bound the derivative of `prox` is 1, so that a parameter on the bound still trains, but for
    a box that is a point.

    Args:
        low: The lower bound, -inf for none. One number, or a tree of numbers or arrays; see
            `Penalty`.
        high: The upper bound, inf for none. NaN where it is below `low`.

    Returns:
        The constraint, a `Penalty`.

    Reference:
        Parikh and Boyd, "Proximal algorithms", 2014, section 6.2.4,
        https://doi.org/10.1561/2400000003.

    Example:
        >>> box(-1.0, 1.0).prox(jnp.array([2.0, -0.5]))
        Array([ 1. , -0.5], dtype=float32)
    """
    return penalty(_BOX, low=low, high=high)


def _to_simplex(x: Array, total: Array) -> Array:
    """The nearest vector of entries of at least 0 that add up to `total`."""
    # One infinite entry takes all, and is the only one that stays; of several none is known to.
    highest = x == jnp.inf
    several = jnp.sum(highest, -1, keepdims=True, dtype=jnp.int32) > 1
    endless = jnp.max(x, -1, keepdims=True) == jnp.inf
    x = jnp.where(endless, jnp.where(highest, 0, -jnp.inf), x)
    # Where all entries are moved alike, the nearest point is the same.
    still = jax.lax.stop_gradient(x)
    origin = jnp.max(still, -1, keepdims=True)
    target = jax.lax.stop_gradient(total)
    ordered = descending(still - origin)
    count = jnp.arange(1, x.shape[-1] + 1, dtype=x.dtype).reshape((1,) * (x.ndim - 1) + (-1,))
    excess = jnp.cumsum(ordered, -1) - target
    some = jnp.sum(ordered * count > excess, -1, keepdims=True, dtype=jnp.int32)
    last = jnp.take_along_axis(excess, jnp.maximum(some, 1) - 1, -1)
    active = still - origin > last / jnp.maximum(some, 1).astype(x.dtype)
    # Of the entries that stay above 0 the threshold is linear, and has its derivative.
    above = x - origin
    number = jnp.maximum(jnp.sum(active, -1, keepdims=True, dtype=jnp.int32), 1).astype(x.dtype)
    threshold = (jnp.sum(jnp.where(active, above, 0), -1, keepdims=True) - total) / number
    left = above - threshold
    found = jnp.where(active & (left > 0), left, jnp.where(jnp.isnan(left), left, 0))
    return nan_outside(found, ~several)


def _finite(total: Array) -> Array:
    return (total >= 0) & (total < jnp.inf)


def _in_simplex(x: Array, total: Array) -> Array:
    sums = jnp.sum(x, -1, keepdims=True)
    near = jnp.abs(sums - total) <= x.shape[-1] * jnp.finfo(x.dtype).eps * total
    return near & jnp.all(x >= 0, -1, keepdims=True)


_SIMPLEX = registered(
    Kind(
        name="simplex",
        domains={"total": _finite},
        value=_value(_in_simplex, True),
        prox=lambda x, step, total: _to_simplex(x, total),
        envelope=_envelope(_to_simplex),
        conjugate=lambda y, total: product(total, jnp.max(y, -1, keepdims=True)),
        conjugate_prox=_not_in(_to_simplex),
        vectors=True,
    )
)


def simplex(total: Any = 1.0, *, axis: Axis = -1) -> Penalty:
    """The constraint that vectors are distributions: at least 0, with a given sum.

        f(x)      0 where all x_i >= 0 and sum x_i = total, else inf
        prox      max(0, x_i - tau), with tau such that the sum is right
        envelope  the squared distance from the simplex over 2 step
        f*(y)     total max y_i

    That is the sparsemax of x. Entries at the threshold tau are 0, with derivative 0. A sum is
    right up to rounding: within eps of the dtype times the size of the vector.

    Args:
        total: The sum, at least 0 and finite, else NaN. One number, or a tree; an array has size 1
            along `axis`.
        axis: The axes of each array that make up a vector, or None for all.

    Returns:
        The constraint, a `Penalty`.

    Reference:
        Held, Wolfe and Crowder, "Validation of subgradient optimization", 1974,
        https://doi.org/10.1007/BF01580223; Duchi, Shalev-Shwartz, Singer and Chandra, "Efficient
        projections onto the l1-ball for learning in high dimensions", 2008,
        https://doi.org/10.1145/1390156.1390191.

    Example:
        >>> simplex().prox(jnp.array([1.0, 0.5, -2.0]))
        Array([0.75, 0.25, 0.  ], dtype=float32)
    """
    return penalty(_SIMPLEX, axis, total=total)


def _size(x: Array) -> Array:
    return jnp.sum(absolute(x), -1, keepdims=True)


def _to_l1_ball(x: Array, radius: Array) -> Array:
    # A ball that is a point has no inside.
    inside = (_size(x) <= radius) & (radius > 0)
    side = jnp.sign(jax.lax.stop_gradient(x))
    left = _to_simplex(absolute(jnp.where(inside, 0, x)), jnp.where(inside, 1, radius))
    return jnp.where(inside, x, jnp.where(left == 0, left, side * left))


@closed_form(lambda y: (sign_of_largest(y, _largest(y), (y.ndim - 1,)),), axes=(-1,))
def _summed_largest(y: Array) -> Array:
    return jnp.max(jnp.abs(y), -1, initial=0)


def _largest(y: Array) -> Array:
    return jnp.max(jnp.abs(y), -1, keepdims=True, initial=0)


def _support_of_ball(size: Array, radius: Array) -> Array:
    endless = (radius == jnp.inf) & (size != 0)
    value = product(jnp.where(endless, 0, radius), size)
    return infinite_outside(jnp.where(endless, nothing_of(size), value), ~endless)


_L1_BALL = registered(
    Kind(
        name="l1_ball",
        domains={"radius": not_below_zero},
        value=_value(
            lambda x, radius: _size(x) <= radius * (1 + x.shape[-1] * jnp.finfo(x.dtype).eps), True
        ),
        prox=lambda x, step, radius: _to_l1_ball(x, radius),
        envelope=_envelope(_to_l1_ball),
        conjugate=lambda y, radius: _support_of_ball(_summed_largest(y)[..., None], radius),
        conjugate_prox=_not_in(_to_l1_ball),
        vectors=True,
    )
)

_L2_BALL = registered(
    Kind(
        name="l2_ball",
        domains={"radius": not_below_zero},
        value=_value(
            lambda x, radius: length(x) <= radius * (1 + 4 * jnp.finfo(x.dtype).eps), True
        ),
        prox=lambda x, step, radius: in_ball(x, radius),
        envelope=_envelope(in_ball),
        conjugate=lambda y, radius: _support_of_ball(length(y), radius),
        conjugate_prox=group_point,
        vectors=True,
    )
)


def l1_ball(radius: Any, *, axis: Axis = None) -> Penalty:
    """The constraint that the absolute values of a vector add up to at most a radius.

        f(x)      0 where sum |x_i| <= radius, else inf
        prox      x inside; else sign(x_i) max(0, |x_i| - tau),
                  with tau such that the sum is the radius
        envelope  the squared distance from the ball over 2 step
        f*(y)     radius max |y_i|

    It is the lasso with a budget in place of a price. On the surface the derivative of `prox` is
    that inside, 1, unless the radius is 0; entries at the threshold tau are 0, with derivative 0.
    A sum is right up to rounding: within eps of the dtype times the size of the vector.

    Args:
        radius: At least 0, NaN below; with inf nothing is outside. One number, or a tree; an array
            has size 1 along `axis`.
        axis: The axes of each array that make up a vector, or None for all.

    Returns:
        The constraint, a `Penalty`.

    Reference:
        Duchi, Shalev-Shwartz, Singer and Chandra, "Efficient projections onto the l1-ball for
        learning in high dimensions", 2008, https://doi.org/10.1145/1390156.1390191.

    Example:
        >>> l1_ball(2.0).prox(jnp.array([2.5, -1.0, 0.25]))
        Array([ 1.75, -0.25,  0.  ], dtype=float32)
    """
    return penalty(_L1_BALL, axis, radius=radius)


def l2_ball(radius: Any, *, axis: Axis = None) -> Penalty:
    """The constraint that a vector is at most as long as a radius.

        f(x)      0 where |x| <= radius, else inf
        prox      x inside, else radius x / |x|
        envelope  max(0, |x| - radius)^2 / (2 step)
        f*(y)     radius |y|

    with the Euclidean norm: max-norm regularisation. On the surface the derivative of `prox` is
    that inside, 1, unless the radius is 0, and a length is right up to four roundings.

    Args:
        radius: At least 0, NaN below; with inf nothing is outside. One number, or a tree; an array
            has size 1 along `axis`.
        axis: The axes of each array that make up a vector, or None for all.

    Returns:
        The constraint, a `Penalty`.

    Reference:
        Parikh and Boyd, "Proximal algorithms", 2014, section 6.5.1,
        https://doi.org/10.1561/2400000003.

    Example:
        >>> l2_ball(1.0).prox(jnp.array([3.0, 4.0]))
        Array([0.6, 0.8], dtype=float32)
    """
    return penalty(_L2_BALL, axis, radius=radius)
