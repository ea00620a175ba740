"""What the losses of regression are for: minimisers, outliers, descent and limits."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import jaxloss
from tests.laws.theorems import (
    ERRORS,
    POINTS,
    agree,
    follows_its_unit,
    gradients,
    is_even,
    meet,
    minimiser,
    pull,
    same,
    samples,
)
from tests.laws.values import EPS, single


@settings(max_examples=30)
@given(samples(-100, 100))
def test_l1_learns_the_median(targets):
    assert minimiser(jaxloss.l1_loss, targets) == pytest.approx(np.median(targets), abs=1e-5)


@pytest.mark.parametrize("loss", [jaxloss.l2_loss, jaxloss.squared_error])
@settings(max_examples=20)
@given(targets=samples(-100, 100))
def test_l2_learns_the_mean(loss, targets):
    mean = np.mean(targets, dtype=np.float64)
    assert minimiser(loss, targets) == pytest.approx(mean, abs=1e-4)


# Of nine numbers, 9 q must not be whole, or the quantile is an interval.
@settings(max_examples=30)
@given(samples(-100, 100), st.sampled_from([0.05, 0.1, 0.25, 0.5, 0.75, 0.9]))
def test_the_pinball_loss_learns_the_quantile(targets, q):
    quantile = np.quantile(targets, q, method="inverted_cdf")
    found = minimiser(jaxloss.quantile_loss, targets, quantile=q)
    assert found == pytest.approx(quantile, abs=1e-5)


@settings(max_examples=30)
@given(samples(-100, 100), st.sampled_from([0.1, 0.25, 0.5, 0.9]))
def test_the_expectile_loss_learns_the_expectile(targets, q):
    expectile = stats.expectile(targets.astype(np.float64), q)
    found = minimiser(jaxloss.expectile_loss, targets, expectile=q)
    assert found == pytest.approx(expectile, abs=1e-3)


@settings(max_examples=10)
@given(samples(0, 30).map(lambda x: np.append(x, x[:1])))
def test_of_targets_that_are_150_for_nine_in_ten_l1_predicts_150_and_l2_the_mean(others):
    targets = np.concatenate([np.full(90, 150, np.float32), others])
    assert minimiser(jaxloss.l1_loss, targets, 0.0, 256.0) == pytest.approx(150, abs=1e-4)
    mean = np.mean(targets, dtype=np.float64)
    assert minimiser(jaxloss.l2_loss, targets, 0.0, 256.0) == pytest.approx(mean, abs=1e-3)
    assert mean < 140


# One prediction of 1000 among ten whose truth is 1; the others are wrong by 1/16.
OUTLIER = single([1000.0] + 4 * [1 + 1 / 16, 1 - 1 / 16] + [1 + 1 / 16])


def test_one_outlier_is_nearly_all_of_the_l2_loss_and_of_its_gradient():
    losses, (slopes,) = gradients(lambda p: jaxloss.l2_loss(p, 1.0), OUTLIER)
    losses, pulls = np.asarray(losses), np.abs(slopes)
    assert losses[0] > 0.999 * np.sum(losses)
    assert pulls[0] > 0.999 * np.sum(pulls)


@pytest.mark.parametrize(
    ("loss", "predictions"),
    [
        (jaxloss.l1_loss, OUTLIER),
        (functools.partial(jaxloss.smooth_l1_loss, beta=1 / 16), OUTLIER),
        # "Wrong" is wrong by beta at least, which is 1 unless one says otherwise.
        (jaxloss.smooth_l1_loss, np.where(OUTLIER < 1, 0, 2 * OUTLIER)),
    ],
    ids=["l1", "smooth_l1", "smooth_l1-of-beta-1"],
)
def test_under_l1_and_smooth_l1_an_outlier_pulls_no_harder_than_any_wrong_point(loss, predictions):
    slopes = pull(lambda p: loss(p, 1.0), predictions)
    np.testing.assert_array_equal(np.abs(slopes), np.ones_like(predictions))


def test_redescending_losses_let_an_outlier_go():
    errors = single([1.0, 100.0])
    for loss in (jaxloss.tukey_biweight_loss, jaxloss.welsch_loss):
        assert np.asarray(pull(loss, errors))[1] == 0
    near, far = np.asarray(pull(jaxloss.geman_mcclure_loss, errors))
    assert 0 < far < 1e-4 * near


def _costs(lines: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The total L1 loss of each line [start, slope]."""
    predictions = np.float32(lines[:, :1] + lines[:, 1:] * x)
    return np.sum(jaxloss.l1_loss(predictions, np.float32(np.tile(y, (len(lines), 1)))), axis=1)


def _least_absolute_line(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Some best line passes through two of the points, so the best of those is exact."""
    pairs = itertools.combinations(range(len(x)), 2)
    slopes = [(i, (y[j] - y[i]) / (x[j] - x[i])) for i, j in pairs]
    lines = np.array([(y[i] - slope * x[i], slope) for i, slope in slopes])
    costs = _costs(lines, x, y)
    line = lines[np.argmin(costs)]
    # Better than every line around it, so better than every line: the loss is convex.
    angles = np.linspace(0, 2 * np.pi, 64)
    around = line + 0.01 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    assert np.min(_costs(around, x, y)) > np.min(costs) + 1e-4
    return line


def _least_squares_line(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """One Newton step, which is exact on a quadratic."""
    x_, y_ = single(x), single(y)

    def cost(line):
        return jaxloss.l2_loss(line[0] + line[1] * x_, y_, reduction="sum")

    slope, bend = (jax.jit(of(cost))(np.zeros(2, np.float32)) for of in (jax.grad, jax.hessian))
    return -np.linalg.solve(np.float64(bend), np.float64(slope))


def test_a_datum_moved_by_a_thousandth_makes_the_least_absolute_line_jump():
    y = np.array([0.0, 2.0, 1.0, 2.0, 0.0])
    # With the fourth datum at 3 the lines x / 2 and 2 - x / 2 cost the same.
    left, right = (np.array([0.0, 1.0, 2.0, 3.0 + move, 4.0]) for move in (-5e-4, 5e-4))
    np.testing.assert_allclose(_least_absolute_line(left, y), [2, -0.5], atol=1e-6)
    np.testing.assert_allclose(_least_absolute_line(right, y), [0, 0.5], atol=1e-6)
    moved = np.abs(_least_squares_line(left, y) - _least_squares_line(right, y))
    assert 1e-4 < np.max(moved) < 1e-3


@jax.jit
def _smooth_l1_slopes(errors: jax.Array, beta: Any) -> jax.Array:
    return jax.grad(lambda e: jaxloss.smooth_l1_loss(e, beta=beta, reduction="sum"))(errors)


@settings(max_examples=30)
@given(samples(-1e4, 1e4), st.floats(2**-10, 2**10, width=32))
def test_smooth_l1_pulls_by_at_most_1_and_less_and_less_near_the_target(errors, beta):
    for scale in (1.0, 1e-3, 1e-6):
        near = errors * np.float32(scale)
        slopes = np.asarray(_smooth_l1_slopes(near, beta))
        assert np.all(np.abs(slopes) <= 1)
        assert np.all(np.abs(slopes) <= np.abs(near) / beta * (1 + 4 * EPS))
        assert np.all(slopes * near >= 0)


@jax.jit
def _huber_and_smooth_l1(predictions: Any, targets: Any, delta: Any):
    """Values and derivatives, in delta too, of two losses that should be one."""

    def huber(p, t, d):
        return jaxloss.huber_loss(p, t, delta=d)

    def scaled(p, t, d):
        return d * jaxloss.smooth_l1_loss(p, t, beta=d)

    inputs = (predictions, targets, jnp.full_like(predictions, delta))
    return gradients(huber, *inputs), gradients(scaled, *inputs)


@settings(max_examples=30)
@given(samples(-1e3, 1e3), samples(-1e3, 1e3), st.floats(2**-10, 2**10, width=32))
def test_huber_is_delta_times_smooth_l1(predictions, targets, delta):
    (huber, of_huber), (scaled, of_scaled) = _huber_and_smooth_l1(predictions, targets, delta)
    agree(huber, scaled)
    for ours, theirs in zip(of_huber[:2], of_scaled[:2], strict=True):
        agree(ours, theirs)
    # A difference of the size of the error.
    agree(of_huber[2], of_scaled[2], largest=2e3)


@pytest.mark.parametrize("delta", [0.0, 0.25, 1.0, 2.0, 30.0])
def test_huber_is_delta_times_smooth_l1_at_the_kinks(delta):
    same(
        lambda e: jaxloss.huber_loss(e, delta=delta),
        lambda e: delta * jaxloss.smooth_l1_loss(e, beta=delta),
        ERRORS,
    )


@functools.partial(jax.jit, static_argnames="loss")
def _descent(loss: Callable[..., Any], start: float, steps: jax.Array) -> jax.Array:

    def move(prediction, step):
        prediction -= step * jax.grad(loss)(prediction)
        return prediction, prediction

    return jax.lax.scan(move, jnp.float32(start), steps)[1]


def descent(loss: Callable[..., Any], start: float, steps: np.ndarray) -> np.ndarray:
    """The path of gradient descent on one prediction whose target is 0."""
    return np.asarray(_descent(loss, start, steps))


STEP, COUNT = 0.1, 1000
CONSTANT = np.full(COUNT, STEP, np.float32)


def test_descent_on_l1_with_a_constant_step_ends_in_a_cycle_of_its_width():
    path = descent(jaxloss.l1_loss, 1.234, CONSTANT)
    even, odd = path[-100::2], path[-99::2]
    assert np.ptp(even) < 1e-5
    assert np.ptp(odd) < 1e-5
    np.testing.assert_allclose(np.abs(even - odd), STEP, rtol=1e-5)
    assert np.all(even * odd < 0)
    assert np.min(np.abs(path[-100:])) > 0.03


def test_descent_on_l1_with_a_decaying_step_converges():
    steps = 1 / np.arange(1, COUNT + 1, dtype=np.float32)
    path = descent(jaxloss.l1_loss, 1.234, steps)
    assert np.all(np.abs(path[100:]) <= steps[99])
    assert np.abs(path[-1]) <= steps[-2]


def test_descent_on_smooth_l1_converges_with_the_constant_step():
    path = descent(jaxloss.smooth_l1_loss, 1.234, CONSTANT)
    assert np.all(np.diff(np.abs(path[:100])) < 0)
    assert np.abs(path[-1]) < 1e-9


def test_descent_on_l1_stays_on_a_target_that_it_hits():
    path = descent(jaxloss.l1_loss, 1.25, np.full_like(CONSTANT, 0.125))
    np.testing.assert_array_equal(path[9:], 0)


SCALE = 0.75


@pytest.mark.parametrize(
    ("alpha", "special"),
    [
        (2.0, lambda e: jaxloss.l2_loss(e / SCALE)),
        (1.0, lambda e: jaxloss.pseudo_huber_loss(e, delta=SCALE) / SCALE**2),
        (0.0, lambda e: jaxloss.cauchy_loss(e, scale=SCALE)),
        (-2.0, lambda e: jaxloss.geman_mcclure_loss(e, scale=SCALE)),
        (-np.inf, lambda e: jaxloss.welsch_loss(e, scale=SCALE)),
    ],
    ids=["l2", "pseudo-huber", "cauchy", "geman-mcclure", "welsch"],
)
def test_the_general_robust_loss_runs_through_the_others(alpha, special):
    def general(e):
        return jaxloss.general_robust_loss(e, alpha=alpha, scale=SCALE)

    # From e / scale = 18 on exp(-z / 2) is so small that its rounding is all there is.
    same(general, special, ERRORS[2:] if alpha == -np.inf else ERRORS)


def test_the_general_robust_loss_rises_with_alpha_and_pulls_at_most_1_up_to_alpha_1():
    alphas = single([-np.inf, -100, -2, -1e-3, 0, 0.5, 1, 1.999, 2, 2.001, 4, np.inf])
    errors = np.linspace(-12, 12, 48, dtype=np.float32)

    @jax.jit
    @functools.partial(jax.vmap, in_axes=(None, 0))
    def rows(errors, alpha):
        return gradients(lambda e: jaxloss.general_robust_loss(e, alpha=alpha), errors)

    values, (slopes,) = jax.tree.map(np.asarray, rows(errors, alphas))
    assert np.all(values[1:] >= values[:-1] * (1 - 16 * EPS))
    assert np.all(values[2::2] > values[:-2:2])
    assert np.all(np.abs(slopes[alphas <= 1]) <= 1 + 16 * EPS)
    assert np.all(slopes * errors[None] > 0)


LIMITS = {
    "smooth_l1 at beta 0": (
        functools.partial(jaxloss.smooth_l1_loss, beta=0.0),
        jaxloss.l1_loss,
    ),
    "huber at delta inf": (
        functools.partial(jaxloss.huber_loss, delta=jnp.inf),
        jaxloss.l2_loss,
    ),
    "pseudo_huber at delta inf": (
        functools.partial(jaxloss.pseudo_huber_loss, delta=jnp.inf),
        jaxloss.l2_loss,
    ),
    "tukey at c inf": (
        functools.partial(jaxloss.tukey_biweight_loss, c=jnp.inf),
        jaxloss.l2_loss,
    ),
    "epsilon_insensitive at 0": (
        functools.partial(jaxloss.epsilon_insensitive_loss, epsilon=0.0),
        jaxloss.l1_loss,
    ),
    "squared_epsilon_insensitive at 0": (
        functools.partial(jaxloss.squared_epsilon_insensitive_loss, epsilon=0.0),
        jaxloss.squared_error,
    ),
    "pinball at 1/2": (
        functools.partial(jaxloss.quantile_loss, quantile=0.5),
        lambda p, t: 0.5 * jaxloss.l1_loss(p, t),
    ),
    "expectile at 1/2": (
        functools.partial(jaxloss.expectile_loss, expectile=0.5),
        jaxloss.l2_loss,
    ),
}


@pytest.mark.parametrize("name", LIMITS)
def test_limits(name):
    meet(*LIMITS[name])


# The power of the unit that a loss is measured in, and the loss with its scale in that unit.
UNITS: dict[str, tuple[int, Callable[..., Any]]] = {
    "l1": (1, lambda p, t, k: jaxloss.l1_loss(p, t)),
    "l2": (2, lambda p, t, k: jaxloss.l2_loss(p, t)),
    "squared_error": (2, lambda p, t, k: jaxloss.squared_error(p, t)),
    "smooth_l1": (1, lambda p, t, k: jaxloss.smooth_l1_loss(p, t, beta=k)),
    "huber": (2, lambda p, t, k: jaxloss.huber_loss(p, t, delta=k)),
    "pseudo_huber": (2, lambda p, t, k: jaxloss.pseudo_huber_loss(p, t, delta=k)),
    "cauchy": (0, lambda p, t, k: jaxloss.cauchy_loss(p, t, scale=k)),
    "geman_mcclure": (0, lambda p, t, k: jaxloss.geman_mcclure_loss(p, t, scale=k)),
    "welsch": (0, lambda p, t, k: jaxloss.welsch_loss(p, t, scale=k)),
    "tukey": (2, lambda p, t, k: jaxloss.tukey_biweight_loss(p, t, c=4 * k)),
    "general": (0, lambda p, t, k: jaxloss.general_robust_loss(p, t, alpha=-1.0, scale=k)),
    "quantile": (1, lambda p, t, k: jaxloss.quantile_loss(p, t, quantile=0.25)),
    "expectile": (2, lambda p, t, k: jaxloss.expectile_loss(p, t, expectile=0.25)),
    "tube": (1, lambda p, t, k: jaxloss.epsilon_insensitive_loss(p, t, epsilon=0.5 * k)),
    "squared_tube": (
        2,
        lambda p, t, k: jaxloss.squared_epsilon_insensitive_loss(p, t, epsilon=0.5 * k),
    ),
}


@pytest.mark.parametrize("name", UNITS)
def test_a_change_of_unit_or_of_origin_changes_no_more_than_the_unit_of_the_loss(name):
    follows_its_unit(*UNITS[name])


@pytest.mark.parametrize("name", sorted(UNITS.keys() - {"quantile", "expectile"}))
def test_errors_of_either_sign_cost_the_same(name):
    is_even(UNITS[name][1])


def test_an_error_of_the_other_sign_costs_what_the_opposite_quantile_asks():
    predictions, targets = POINTS
    for loss in (
        lambda p, t, q: jaxloss.quantile_loss(p, t, quantile=q),
        lambda p, t, q: jaxloss.expectile_loss(p, t, expectile=q),
    ):
        np.testing.assert_array_equal(
            loss(predictions, targets, 0.25), loss(targets, predictions, 0.75)
        )


def test_the_percentage_error_does_not_know_the_unit():
    predictions, targets = single([3.0, 0.5, 8.0]), single([1.0, 0.75, 24.0])
    percentage = jaxloss.absolute_percentage_error(predictions, targets)
    scaled = jaxloss.absolute_percentage_error(8 * predictions, 8 * targets)
    np.testing.assert_array_equal(scaled, percentage)
