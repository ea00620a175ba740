"""What is found on a curve: its heights, kinks, thresholds and jumps, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxloss
from jaxloss._curves import Curve, derivatives, roundest, traced


def curve_of(f: Callable[[Any], Any], orders: int = 3, points: int = 61) -> Curve:
    return traced(derivatives(f, orders), (-3.0, 3.0), points)


def found(curve: Curve) -> list[tuple[float, int]]:
    return [(place.x, place.order) for place in curve.breaks]


STEPS = [(0.53125, 0), (0.5625, 0), (0.59375, 0)]


@pytest.mark.parametrize(
    ("f", "breaks"),
    [
        (lambda x: jaxloss.l1_loss(x, 0.0), [(0.0, 1)]),
        # Whose slope at the kink, between those beside it, is met on the way.
        (lambda x: jaxloss.absolute_percentage_error(x, 1.0), [(1.0, 1)]),
        # Off the grid, and at a number that no float holds.
        (lambda x: jaxloss.epsilon_insensitive_loss(x, 0.0, epsilon=0.27), [(-0.27, 1), (0.27, 1)]),
        (lambda x: jaxloss.huber_loss(x, 0.0, delta=0.7), [(-0.7, 2), (0.7, 2)]),
        (lambda x: jaxloss.squared_hinge_loss(x, 1.0), [(1.0, 2)]),
        (lambda x: jnp.where(x < 0.4321, 0.0, 1.0), [(0.4321, 0)]),
        (lambda x: jnp.where(x >= 1.5, x, x - 0.1), [(1.5, 0)]),
        # Several between two neighbours of the grid, which are 0.1 apart.
        (lambda x: jaxloss.epsilon_insensitive_loss(x, 0.03, epsilon=0.01), [(0.02, 1), (0.04, 1)]),
        (lambda x: jnp.floor(jnp.clip(x, 0.5, 0.6) / 0.03125), STEPS),
    ],
)
def test_breaks_are_found(f: Callable[[Any], Any], breaks: list[tuple[float, int]]) -> None:
    assert found(curve_of(f)) == breaks


@pytest.mark.parametrize(
    "f",
    [
        lambda x: x**3,
        lambda x: jnp.sin(9 * x),
        # Steep, but without a jump.
        lambda x: jnp.tanh(300 * x),
        lambda x: jnp.sqrt(x * x + 1e-4),
        jaxloss.log_cosh,
        lambda x: jnp.exp(4 * x),
        lambda x: 0 * x + 2,
    ],
)
def test_what_is_smooth_has_no_breaks(f: Callable[[Any], Any]) -> None:
    assert found(curve_of(f, 2)) == []


def test_a_steep_root_is_no_jump() -> None:
    """More than a hundredth is left of it at the end, but less and less."""
    assert found(curve_of(lambda x: jnp.sign(x) * jnp.abs(x) ** 0.18, 1)) == []


def test_heights_are_those_of_the_function() -> None:
    def f(x: Any) -> Any:
        return jaxloss.cauchy_loss(x, 0.5, scale=0.8)

    curve = curve_of(f)
    for order in range(3):
        np.testing.assert_allclose(
            curve.orders[order], jax.vmap(f)(curve.x.astype(np.float32)), rtol=1e-6, atol=1e-6
        )
        f = jax.grad(f)
    assert len(curve.x) == 61


def test_a_kink_has_the_slope_of_grad() -> None:
    for loss, slope in (
        (lambda x: jaxloss.l1_loss(x, 0.0), 0.0),
        (jnp.abs, 1.0),
        (lambda x: jaxloss.hinge_loss(x + 1.0, 1), -1.0),
        (lambda x: jnp.maximum(x, 0.0), 0.5),
    ):
        (kink,) = curve_of(loss, 2).breaks
        assert kink.x == 0
        assert kink.heights[1] == jax.grad(loss)(0.0) == slope


def test_lines_are_interrupted_where_they_jump_and_only_there() -> None:
    step = curve_of(lambda x: jnp.where(x < 0.5, 0.0, 1.0))
    (gap,) = np.flatnonzero(np.isnan(step.orders[0]))
    assert step.x[gap] == 0.5
    np.testing.assert_array_equal(step.orders[0][[gap - 1, gap + 1]], [0, 1])
    # Just before and just after: the picture shows no slant.
    np.testing.assert_allclose(step.x[[gap - 1, gap + 1]], 0.5, atol=1e-5)
    corner = curve_of(lambda x: jaxloss.l1_loss(x, 0.0))
    assert np.isfinite(corner.orders[0]).all()
    assert corner.orders[0][corner.x == 0] == 0
    np.testing.assert_array_equal(corner.x[np.isnan(corner.orders[1])], [0])


def test_what_is_not_finite_is_left_out() -> None:
    curve = curve_of(lambda x: jnp.log(x))
    for height in curve.orders:
        np.testing.assert_array_equal(np.isnan(height), curve.x <= 0)
    assert found(curve) == []
    pole = curve_of(lambda x: 1 / x, 2)
    assert np.isnan(pole.orders[0][pole.x == 0]).all()
    nothing = curve_of(lambda x: x * jnp.nan)
    assert np.isnan(nothing.orders).all()


def test_more_breaks_than_there_is_room_for() -> None:
    stairs = curve_of(lambda x: jnp.floor(x * 4.0), points=101)
    assert len(stairs.breaks) == 16
    assert all(place.x * 4 == round(place.x * 4) for place in stairs.breaks)


def test_roundest() -> None:
    assert roundest(0.49999999, 1e-6) == 0.5
    assert roundest(-1e-9, 1e-6) == 0
    assert roundest(0.25, 0) == 0.25
    assert roundest(1 / 3, 1e-6) == np.float32(1 / 3)
