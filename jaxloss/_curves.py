"""A function of one number measured for drawing: its values, slopes, bends, and where they break.

Where a loss bends or jumps is not asked of the loss: it is found. Each gap between two points of
the grid is halved, always towards the greater difference. What is continuous comes to differ less
and less; what does not is a jump.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

# Halvings of a gap: a width of 1e-9 of the domain, or neighbours in float32.
_HALVINGS = 24
# A jump is a difference that is left of at least this share of all that the curve moves through.
_SEEN = 0.01
# Room for breaks, each drawn as three points; of more, the largest are kept.
_BREAKS = 16
# How often what is left of a gap beside a break is searched for another one.
_TIMES = 3


class Break(NamedTuple):
    """A place where a curve is broken.

    Attributes:
        x: Where.
        order: What jumps there: 0 the value, 1 the slope (a kink), 2 the curvature (a threshold).
        heights: Value, slope and so on exactly there, as JAX gives them.
    """

    x: float
    order: int
    heights: np.ndarray


class Curve(NamedTuple):
    """A function along a line.

    Attributes:
        x: From left to right, `[points]`.
        orders: Value, slope and so on, `[orders, points]`; NaN where a line is to be interrupted.
        breaks: Where something jumps.
    """

    x: np.ndarray
    orders: np.ndarray
    breaks: tuple[Break, ...]


def derivatives(function: Callable[..., Any], orders: int) -> Callable[..., np.ndarray]:
    """The value of a function of a number and its derivatives, for many numbers at once.

    Args:
        function: Takes a number, and what else it needs; returns a number.
        orders: 1 for the value alone, 2 with the slope, 3 with the curvature.

    Returns:
        A compiled function of numbers `[points]`, and what else it needs, to `[orders, points]`.
    """

    def valued(x: jax.Array, *given: Any) -> tuple[jax.Array, tuple[jax.Array, ...]]:
        y = function(x, *given)
        return y, (y,)

    def raised(lower: Callable[..., Any]) -> Callable[..., Any]:
        def higher(x: jax.Array, *given: Any) -> Any:
            slope, found = jax.grad(lower, has_aux=True)(x, *given)
            return slope, (*found, slope)

        return higher

    each = valued
    for _ in range(orders - 1):
        each = raised(each)

    @jax.jit
    def many(x: jax.Array, *given: Any) -> jax.Array:
        inner = (0,) + (None,) * len(given)
        return jnp.stack(jax.vmap(lambda *args: each(*args)[1], inner)(x, *given))

    return lambda x, *given: np.asarray(many(jnp.asarray(x, jnp.result_type(float)), *given), float)


def traced(
    measure: Callable[[np.ndarray], np.ndarray], domain: tuple[float, float], points: int
) -> Curve:
    """The curve of what `derivatives` measures, with its breaks.

    Args:
        measure: Of numbers `[n]` gives `[orders, n]`; it is always asked for as many.
        domain: From where to where.
        points: How many points are on a curve without breaks.
    """
    low, high = domain
    size = points + 3 * _BREAKS

    def ask(x: np.ndarray) -> np.ndarray:
        padded = np.concatenate([x, np.full(size - len(x), x[-1])])
        return measure(padded)[:, : len(x)]

    x = np.linspace(low, high, points).astype(jnp.result_type(float)).astype(float)
    heights = ask(x)
    # Beside a break the curve is asked just before and just after it.
    step = max(1e-6 * (high - low), 4 * float(np.spacing(np.float32(max(abs(low), abs(high))))))
    breaks = _found(ask, x, heights, step)
    places = np.array([place.x for place in breaks])
    beside = np.array([[at - step, at, at + step] for at in places]).ravel()
    beside = beside[(low <= beside) & (beside <= high)]
    free = np.all(np.abs(x[:, None] - places) > step, 1) if len(places) else np.full(len(x), True)
    x = np.sort(np.concatenate([x[free], beside]))
    heights = ask(x)
    # Without a value there is no slope either, though JAX may give one: 1 / x for the log of -1.
    heights[:, ~np.isfinite(heights[0])] = np.nan
    heights[~np.isfinite(heights)] = np.nan
    for place in breaks:
        heights[place.order :, x == place.x] = np.nan
    return Curve(x, heights, breaks)


def _found(
    ask: Callable[[np.ndarray], np.ndarray], x: np.ndarray, heights: np.ndarray, step: float
) -> tuple[Break, ...]:
    """The breaks, from left to right, at each place the lowest order that jumps."""
    found: dict[float, tuple[int, float]] = {}
    gap, spread = x[1] - x[0], x[-1] - x[0]
    for order, height in enumerate(heights):
        finite = height[np.isfinite(height)]
        if len(finite) < 2:
            continue
        reach = max(_reach(finite), 1e-30)
        starts, ends, room = x[:-1], x[1:], gap / 2
        for _ in range(_TIMES):
            jumps = _jumps(lambda at, k=order: ask(at)[k], starts, ends, reach, spread)
            new = [(at, jump) for at, jump in jumps if all(abs(at - y) >= room for y in found)]
            found |= {at: (order, jump / reach) for at, jump in new}
            if not new:
                break
            # Of several in a gap one was found: the rest of it is searched again.
            sides = [side for at, _ in new for side in _sides(x, at, step)]
            starts, ends = np.reshape(sides, (-1, 2)).T
            room = 8 * step
    largest = sorted(found, key=lambda at: (found[at][0], -found[at][1]))[:_BREAKS]
    if not largest:
        return ()
    exact = ask(np.array(largest))
    places = zip(largest, exact.T, strict=True)
    return tuple(sorted(Break(at, found[at][0], there) for at, there in places))


def _sides(x: np.ndarray, at: float, step: float) -> list[tuple[float, float]]:
    """What is left of a gap on both sides of a place."""
    before, after = x[x < at - step], x[x > at + step]
    left = [(before[-1], at - step)] if len(before) else []
    return left + ([(at + step, after[0])] if len(after) else [])


def _reach(finite: np.ndarray) -> float:
    """How far a curve moves, but for a pole."""
    low, high = np.quantile(finite, [0.02, 0.98])
    return float(high - low) or float(np.ptp(finite))


def _jumps(
    height_at: Callable[[np.ndarray], np.ndarray],
    starts: np.ndarray,
    ends: np.ndarray,
    reach: float,
    spread: float,
) -> list[tuple[float, float]]:
    """The places in gaps where a height jumps, each with by how much."""
    kind = jnp.result_type(float)
    a, b, at_a, at_b = starts, ends, height_at(starts), height_at(ends)
    before = np.abs(at_b - at_a)
    for halving in range(_HALVINGS):
        middle = ((a + b) / 2).astype(kind).astype(float)
        there = height_at(middle)
        left = np.abs(there - at_a) > np.abs(at_b - there)
        a, at_a = np.where(left, a, middle), np.where(left, at_a, there)
        b, at_b = np.where(left, middle, b), np.where(left, there, at_b)
        if halving == _HALVINGS // 2:
            before = np.abs(at_b - at_a)
    after = np.abs(at_b - at_a)
    # A square root shrinks to a 45th meanwhile, what is smooth to less. A jump stays, or its half,
    # if the height exactly there, between those beside it, is met.
    with np.errstate(invalid="ignore"):
        kept = (after > _SEEN * reach) & (after > 0.3 * before) & np.isfinite(after)
    places: list[tuple[float, float]] = []
    for left, right, jump in zip(a[kept], b[kept], after[kept], strict=True):
        at = roundest((left + right) / 2, max(right - left, 2e-7 * spread))
        if places and at - places[-1][0] <= 4e-7 * spread:
            # Both sides of one place, whose own height lies between theirs.
            places[-1] = min(at, places[-1][0], key=lambda at: len(f"{at:g}")), jump
        else:
            places.append((at, jump))
    return places


def roundest(number: float, tolerance: float) -> float:
    """The number with the fewest decimals within a tolerance: a kink is at 0.5, not beside it.

    One with more than four is left: a third is a third of JAX's floats, not 0.333333.
    """
    for digits in range(5):
        near = round(float(number), digits)
        if abs(near - number) <= tolerance:
            return near + 0.0
    return float(np.asarray(number).astype(jnp.result_type(float)))
