"""What the losses are for: theorems about minimisers, outliers, descent and limits."""

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

EPS = float(np.finfo(np.float32).eps)
ERRORS = jnp.array([-1e3, -30.0, -2.0, -0.5, -1e-3, 0.0, 0.25, 1.0, 7.0])
ZEROS = jnp.zeros_like(ERRORS)


def samples(low: float, high: float) -> st.SearchStrategy[np.ndarray]:
    """Nine multiples of 1/1024: one shape compiles once, and an odd count has one median."""
    numbers = st.integers(int(low * 1024), int(high * 1024))
    return st.lists(numbers, min_size=9, max_size=9).map(lambda x: np.array(x, np.float32) / 1024)


def gradients(loss: Callable[..., Any], *inputs: Any) -> tuple[Any, tuple[jax.Array, ...]]:
    """The losses, and the derivatives of their sum in each input."""

    def summed(*inputs):
        losses = loss(*inputs)
        return jnp.sum(losses), losses

    slopes = jax.grad(summed, tuple(range(len(inputs))), has_aux=True)
    derivatives, losses = jax.jit(slopes)(*map(jnp.asarray, inputs))
    return losses, derivatives


def pull(loss: Callable[..., Any], predictions: Any) -> jax.Array:
    """The derivative in predictions alone."""
    return gradients(loss, predictions)[1][0]


def agree(actual: Any, expected: Any, largest: float = 0) -> None:
    """Equal up to rounding; `largest` is the largest term where terms cancel.

    Two losses that each keep within 8 eps of the truth may be 16 apart.
    """
    np.testing.assert_allclose(actual, expected, rtol=16 * EPS, atol=16 * EPS * largest)


def same(left: Callable[..., Any], right: Callable[..., Any], *inputs: Any, largest: float = 0):
    """Equal values and derivatives."""
    values, slopes = zip(gradients(left, *inputs), gradients(right, *inputs), strict=True)
    agree(*values, largest=largest)
    for ours, theirs in zip(*slopes, strict=True):
        agree(ours, theirs, largest=largest)


@functools.partial(jax.jit, static_argnames=("loss", "low", "high"))
def _bisected(loss: Callable[..., Any], targets: jax.Array, low: float, high: float, **knobs: Any):
    def total(constant):
        return jnp.sum(loss(jnp.full_like(targets, constant), targets, **knobs))

    def halve(_, bounds):
        left, right = bounds
        middle = (left + right) / 2
        rises = jax.grad(total)(middle) >= 0
        return jnp.where(rises, left, middle), jnp.where(rises, middle, right)

    found = jax.lax.fori_loop(0, 48, halve, (jnp.float32(low), jnp.float32(high)))[1]
    return found, total(found), jnp.min(jax.vmap(total)(jnp.linspace(low, high, 257)))


def minimiser(
    loss: Callable[..., Any],
    targets: Any,
    low: float = -128.0,
    high: float = 128.0,
    **knobs: Any,
) -> float:
    """The constant at which the slope of the total loss turns positive."""
    found, least, on_grid = _bisected(loss, jnp.asarray(targets), low, high, **knobs)
    # The values have to agree with the slopes.
    assert least <= on_grid + 1e-5 * abs(on_grid)
    return float(found)


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


@pytest.mark.parametrize(
    "loss",
    [
        jaxloss.poisson_nll_loss,
        jaxloss.gamma_nll_loss,
        jaxloss.tweedie_loss,
        functools.partial(jaxloss.tweedie_loss, power=3.0),
        functools.partial(jaxloss.negative_binomial_nll_loss, dispersion=0.5),
    ],
    ids=["poisson", "gamma", "tweedie-1.5", "tweedie-3", "negative-binomial"],
)
@settings(max_examples=20)
@given(targets=samples(0.125, 100))
def test_likelihoods_of_amounts_learn_the_logarithm_of_the_mean(loss, targets):
    mean = np.mean(targets, dtype=np.float64)
    assert minimiser(loss, targets, -8.0, 8.0) == pytest.approx(np.log(mean), abs=1e-4)


def _laplace_of_scale(scale: Any, targets: Any):
    return jaxloss.laplace_nll_loss(jnp.zeros_like(targets), targets, scale)


def _gaussian_of_variance(variance: Any, targets: Any):
    return jaxloss.gaussian_nll_loss(jnp.zeros_like(targets), targets, variance)


@settings(max_examples=20)
@given(samples(0.125, 8))
def test_learned_scales_are_the_mean_error_and_the_mean_square(errors):
    exact = errors.astype(np.float64)
    scale = minimiser(_laplace_of_scale, errors, 0.01, 128.0)
    assert scale == pytest.approx(np.mean(exact), rel=1e-5)
    variance = minimiser(_gaussian_of_variance, errors, 0.01, 128.0)
    assert variance == pytest.approx(np.mean(exact**2), rel=1e-5)


@settings(max_examples=10)
@given(samples(0, 30).map(lambda x: np.append(x, x[:1])))
def test_of_targets_that_are_150_for_nine_in_ten_l1_predicts_150_and_l2_the_mean(others):
    targets = np.concatenate([np.full(90, 150, np.float32), others])
    assert minimiser(jaxloss.l1_loss, targets, 0.0, 256.0) == pytest.approx(150, abs=1e-4)
    mean = np.mean(targets, dtype=np.float64)
    assert minimiser(jaxloss.l2_loss, targets, 0.0, 256.0) == pytest.approx(mean, abs=1e-3)
    assert mean < 140


# One prediction of 1000 among ten whose truth is 1; the others are wrong by 1/16.
OUTLIER = jnp.array([1000.0] + 4 * [1 + 1 / 16, 1 - 1 / 16] + [1 + 1 / 16])


def test_one_outlier_is_nearly_all_of_the_l2_loss_and_of_its_gradient():
    losses, (slopes,) = gradients(lambda p: jaxloss.l2_loss(p, 1.0), OUTLIER)
    assert losses[0] > 0.999 * jnp.sum(losses)
    assert jnp.abs(slopes[0]) > 0.999 * jnp.sum(jnp.abs(slopes))


@pytest.mark.parametrize(
    ("loss", "predictions"),
    [
        (jaxloss.l1_loss, OUTLIER),
        (functools.partial(jaxloss.smooth_l1_loss, beta=1 / 16), OUTLIER),
        # "Wrong" is wrong by beta at least, which is 1 unless one says otherwise.
        (jaxloss.smooth_l1_loss, jnp.where(OUTLIER < 1, 0.0, 2 * OUTLIER)),
    ],
    ids=["l1", "smooth_l1", "smooth_l1-of-beta-1"],
)
def test_under_l1_and_smooth_l1_an_outlier_pulls_no_harder_than_any_wrong_point(loss, predictions):
    slopes = pull(lambda p: loss(p, 1.0), predictions)
    np.testing.assert_array_equal(jnp.abs(slopes), jnp.ones_like(predictions))


def test_redescending_losses_let_an_outlier_go():
    errors = jnp.array([1.0, 100.0])
    assert pull(jaxloss.tukey_biweight_loss, errors)[1] == 0
    assert pull(jaxloss.welsch_loss, errors)[1] == 0
    near, far = pull(jaxloss.geman_mcclure_loss, errors)
    assert 0 < far < 1e-4 * near


def _costs(lines: np.ndarray, x: np.ndarray, y: np.ndarray) -> jax.Array:
    """The total L1 loss of each line [start, slope]."""
    predictions = np.float32(lines[:, :1] + lines[:, 1:] * x)
    return jnp.sum(jaxloss.l1_loss(predictions, np.float32(np.tile(y, (len(lines), 1)))), axis=1)


def _least_absolute_line(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Some best line passes through two of the points, so the best of those is exact."""
    pairs = itertools.combinations(range(len(x)), 2)
    slopes = [(i, (y[j] - y[i]) / (x[j] - x[i])) for i, j in pairs]
    lines = np.array([(y[i] - slope * x[i], slope) for i, slope in slopes])
    costs = _costs(lines, x, y)
    line = lines[jnp.argmin(costs)]
    # Better than every line around it, so better than every line: the loss is convex.
    angles = np.linspace(0, 2 * np.pi, 64)
    around = line + 0.01 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    assert jnp.min(_costs(around, x, y)) > jnp.min(costs) + 1e-4
    return line


def _least_squares_line(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """One Newton step, which is exact on a quadratic."""
    x_, y_ = jnp.float32(x), jnp.float32(y)

    def cost(line):
        return jaxloss.l2_loss(line[0] + line[1] * x_, y_, reduction="sum")

    slope, bend = jax.grad(cost)(jnp.zeros(2)), jax.hessian(cost)(jnp.zeros(2))
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
        near = jnp.asarray(errors * np.float32(scale))
        slopes = _smooth_l1_slopes(near, beta)
        assert jnp.all(jnp.abs(slopes) <= 1)
        assert jnp.all(jnp.abs(slopes) <= jnp.abs(near) / beta * (1 + 4 * EPS))
        assert jnp.all(slopes * near >= 0)


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
def descent(loss: Callable[..., Any], start: float, steps: jax.Array) -> jax.Array:
    """The path of gradient descent on one prediction whose target is 0."""

    def move(prediction, step):
        prediction -= step * jax.grad(loss)(prediction)
        return prediction, prediction

    return jax.lax.scan(move, jnp.float32(start), steps)[1]


STEP, COUNT = 0.1, 1000
CONSTANT = jnp.full(COUNT, STEP)


def test_descent_on_l1_with_a_constant_step_ends_in_a_cycle_of_its_width():
    path = descent(jaxloss.l1_loss, 1.234, CONSTANT)
    even, odd = path[-100::2], path[-99::2]
    assert jnp.ptp(even) < 1e-5
    assert jnp.ptp(odd) < 1e-5
    np.testing.assert_allclose(jnp.abs(even - odd), STEP, rtol=1e-5)
    assert jnp.all(even * odd < 0)
    assert jnp.min(jnp.abs(path[-100:])) > 0.03


def test_descent_on_l1_with_a_decaying_step_converges():
    steps = 1 / jnp.arange(1.0, COUNT + 1)
    path = descent(jaxloss.l1_loss, 1.234, steps)
    assert jnp.all(jnp.abs(path[100:]) <= steps[99])
    assert jnp.abs(path[-1]) <= steps[-2]


def test_descent_on_smooth_l1_converges_with_the_constant_step():
    path = descent(jaxloss.smooth_l1_loss, 1.234, CONSTANT)
    assert jnp.all(jnp.diff(jnp.abs(path[:100])) < 0)
    assert jnp.abs(path[-1]) < 1e-9


def test_descent_on_l1_stays_on_a_target_that_it_hits():
    path = descent(jaxloss.l1_loss, 1.25, jnp.full(COUNT, 0.125))
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
    alphas = jnp.array([-jnp.inf, -100, -2, -1e-3, 0, 0.5, 1, 1.999, 2, 2.001, 4, jnp.inf])
    errors = jnp.linspace(-12.0, 12.0, 48)

    @jax.jit
    @functools.partial(jax.vmap, in_axes=(None, 0))
    def rows(errors, alpha):
        return gradients(lambda e: jaxloss.general_robust_loss(e, alpha=alpha), errors)

    values, (slopes,) = rows(errors, alphas)
    assert jnp.all(values[1:] >= values[:-1] * (1 - 16 * EPS))
    assert jnp.all(values[2::2] > values[:-2:2])
    assert jnp.all(jnp.abs(slopes[alphas <= 1]) <= 1 + 16 * EPS)
    assert jnp.all(slopes * errors[None] > 0)


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
    "crps at scale 0": (
        functools.partial(jaxloss.gaussian_crps, scale=0.0),
        jaxloss.l1_loss,
    ),
    "tweedie of means at 0": (
        functools.partial(jaxloss.tweedie_loss, power=0.0, log_input=False),
        jaxloss.l2_loss,
    ),
}


@pytest.mark.parametrize("name", LIMITS)
def test_limits(name):
    special, plain = LIMITS[name]
    same(special, plain, ERRORS, ZEROS)
    same(special, plain, ERRORS + 2, ERRORS[::-1])


LOGARITHMS = jnp.array([-5.0, -1.0, 0.0, 0.5, 1.0, 2.0, 3.0])
AMOUNTS = jnp.array([1.0, 0.125, 1.0, 2.0, 3.0, 7.0, 50.0])
COUNTS = {
    "tweedie at 1 is poisson": (
        functools.partial(jaxloss.tweedie_loss, power=1.0),
        jaxloss.poisson_nll_loss,
    ),
    "tweedie at 2 is gamma": (
        functools.partial(jaxloss.tweedie_loss, power=2.0),
        jaxloss.gamma_nll_loss,
    ),
    "negative binomial at 0 is poisson": (
        functools.partial(jaxloss.negative_binomial_nll_loss, dispersion=0.0),
        functools.partial(jaxloss.poisson_nll_loss, full=True),
    ),
}


@pytest.mark.parametrize("log_input", [True, False])
@pytest.mark.parametrize("name", COUNTS)
def test_likelihoods_of_amounts_meet(name, log_input):
    special, plain = (functools.partial(loss, log_input=log_input) for loss in COUNTS[name])
    predictions = LOGARITHMS if log_input else jnp.exp(LOGARITHMS)
    # y f, the largest term, is 150.
    same(special, plain, predictions, AMOUNTS, largest=150)


@pytest.mark.parametrize("name", ["poisson_nll_loss", "gamma_nll_loss", "tweedie_loss"])
def test_logarithms_and_means_are_two_ways_to_say_the_same(name):
    loss = getattr(jaxloss, name)
    same(loss, lambda f, y: loss(jnp.exp(f), y, log_input=False), LOGARITHMS, AMOUNTS, largest=150)


VARIANCES = jnp.array([4.0, 0.25, 1.0, 9.0, 2.0, 1e-3, 50.0, 0.5, 3.0])


def test_beta_nll_at_beta_0_is_the_gaussian_likelihood():
    same(
        functools.partial(jaxloss.beta_nll_loss, beta=0.0),
        jaxloss.gaussian_nll_loss,
        ERRORS,
        ZEROS,
        VARIANCES,
    )


def test_beta_nll_at_beta_1_has_the_gradient_of_l2_in_the_mean():
    inputs = (ERRORS, ZEROS, VARIANCES)
    weighed = functools.partial(jaxloss.beta_nll_loss, beta=1.0)
    in_mean, in_target, in_variance = gradients(weighed, *inputs)[1]
    agree(in_mean, ERRORS)
    agree(in_target, -ERRORS)
    # v times the likelihood's derivative: no derivative passes through the weight.
    _, _, plain = gradients(jaxloss.gaussian_nll_loss, *inputs)[1]
    agree(in_variance, VARIANCES * plain, largest=0.5)


def test_student_t_runs_from_cauchy_to_gauss():
    def cauchy(p, t, s):
        return jaxloss.cauchy_loss(p, t, scale=s / np.sqrt(2)) + jnp.log(np.pi * s)

    def gauss(p, t, s):
        return jaxloss.gaussian_nll_loss(p, t, s * s, full=True)

    inputs = (ERRORS, ZEROS, jnp.sqrt(VARIANCES))
    same(lambda p, t, s: jaxloss.student_t_nll_loss(p, t, s, 1.0), cauchy, *inputs, largest=10)
    same(lambda p, t, s: jaxloss.student_t_nll_loss(p, t, s, jnp.inf), gauss, *inputs, largest=1)


# The first and the second parameter of the truth.
TRUTH = (1.5, 0.75)
REALS = TRUTH[0] + np.linspace(-40, 40, 8001)
NUMBERS = np.arange(200.0)


def _density(family: Any, *shapes: float) -> np.ndarray:
    return family(*shapes, *TRUTH).pdf(REALS)


def _negative_binomial(mean: float, dispersion: float) -> np.ndarray:
    return stats.nbinom.pmf(NUMBERS, 1 / dispersion, 1 / (1 + dispersion * mean))


SCORES = {
    "gaussian_nll_loss": (
        lambda mu, s, y: jaxloss.gaussian_nll_loss(mu, y, s * s),
        _density(stats.norm),
        REALS,
    ),
    "gaussian_crps": (
        lambda mu, s, y: jaxloss.gaussian_crps(mu, y, s),
        _density(stats.norm),
        REALS,
    ),
    "laplace_nll_loss": (
        lambda mu, s, y: jaxloss.laplace_nll_loss(mu, y, s),
        _density(stats.laplace),
        REALS,
    ),
    "student_t_nll_loss": (
        lambda mu, s, y: jaxloss.student_t_nll_loss(mu, y, s, 5.0),
        _density(stats.t, 5),
        REALS,
    ),
    "negative_binomial_nll_loss": (
        lambda mu, a, y: jaxloss.negative_binomial_nll_loss(mu, y, a, log_input=False),
        _negative_binomial(*TRUTH),
        NUMBERS,
    ),
}


@pytest.mark.parametrize("name", SCORES)
def test_the_expected_score_is_least_at_the_truth(name):
    score, chances, outcomes = SCORES[name]
    chances, outcomes = jnp.float32(chances / np.sum(chances)), jnp.float32(outcomes)

    def expected(parameters):
        mean = jnp.full_like(outcomes, parameters[0])
        return jnp.sum(chances * score(mean, parameters[1], outcomes))

    # The truth first.
    moves = itertools.product((1.0, 0.9, 0.97, 1.03, 1.1), repeat=2)
    candidates = jnp.array(TRUTH)[None] * jnp.array(list(moves))
    least, *others = jax.jit(jax.vmap(expected))(candidates)
    assert min(others) > least + 1e-5
    # Quadrature over a kink is good to the square of its step, 1e-4.
    np.testing.assert_allclose(jax.grad(expected)(candidates[0]), 0, atol=1e-4)


POINTS = jnp.array([3.0, -1.25, 0.5, 8.0, 2.0]), jnp.array([1.0, -1.0, 0.5, -24.0, 2.125])
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
    "crps": (1, lambda p, t, k: jaxloss.gaussian_crps(p, t, k)),
    "gaussian": (
        0,
        lambda p, t, k: jaxloss.gaussian_nll_loss(p, t, k * k) - jnp.log(k),
    ),
    "laplace": (0, lambda p, t, k: jaxloss.laplace_nll_loss(p, t, k) - jnp.log(k)),
    "student_t": (0, lambda p, t, k: jaxloss.student_t_nll_loss(p, t, k, 3.0) - jnp.log(k)),
}


@pytest.mark.parametrize("name", UNITS)
def test_a_change_of_unit_or_of_origin_changes_no_more_than_the_unit_of_the_loss(name):
    power, loss = UNITS[name]
    predictions, targets = POINTS
    one, unit = jnp.float32(1), jnp.float32(8)
    value = loss(predictions, targets, one)
    # 8 and 64 are exact in binary, so that little but a logarithm is rounded.
    agree(loss(8 * predictions, 8 * targets, unit), 8.0**power * value, largest=2)
    np.testing.assert_array_equal(loss(predictions + 64, targets + 64, one), value)


@pytest.mark.parametrize("name", sorted(UNITS.keys() - {"quantile", "expectile"}))
def test_errors_of_either_sign_cost_the_same(name):
    _, loss = UNITS[name]
    one = jnp.float32(1)
    np.testing.assert_array_equal(loss(*POINTS, one), loss(*POINTS[::-1], one))


def test_an_error_of_the_other_sign_costs_what_the_opposite_quantile_asks():
    predictions, targets = POINTS
    for loss in (
        lambda p, t, q: jaxloss.quantile_loss(p, t, quantile=q),
        lambda p, t, q: jaxloss.expectile_loss(p, t, expectile=q),
    ):
        np.testing.assert_array_equal(
            loss(predictions, targets, 0.25), loss(targets, predictions, 0.75)
        )


def test_relative_losses_do_not_know_the_unit():
    predictions, targets = inputs = jnp.array([3.0, 0.5, 8.0]), jnp.array([1.0, 0.75, 24.0])

    def tweedie(unit, power):
        scaled = unit * predictions, unit * targets
        return jaxloss.tweedie_loss(*scaled, power=power, log_input=False)

    percentage = jaxloss.absolute_percentage_error(predictions, targets)
    scaled = jaxloss.absolute_percentage_error(8 * predictions, 8 * targets)
    np.testing.assert_array_equal(scaled, percentage)
    for power in (0.0, 1.5, 3.0):
        agree(tweedie(8.0, power), 8.0 ** (2 - power) * tweedie(1.0, power), largest=8)
    gamma = functools.partial(jaxloss.gamma_nll_loss, log_input=False)
    agree(gamma(8 * predictions, 8 * targets), gamma(predictions, targets) + np.log(8), largest=2)
    for loss in (jaxloss.cosine_similarity, jaxloss.cosine_distance):
        np.testing.assert_array_equal(loss(8 * predictions, targets / 4), loss(*inputs))
