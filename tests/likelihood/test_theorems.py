"""What likelihoods and scores are for: what they learn, limits, units and the truth."""

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
from scipy import stats

import jaxloss
from tests.laws.theorems import (
    ERRORS,
    ZEROS,
    agree,
    follows_its_unit,
    gradients,
    is_even,
    meet,
    minimiser,
    same,
    samples,
)
from tests.laws.values import single


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


LIMITS = {
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
    meet(*LIMITS[name])


LOGARITHMS = single([-5.0, -1.0, 0.0, 0.5, 1.0, 2.0, 3.0])
AMOUNTS = single([1.0, 0.125, 1.0, 2.0, 3.0, 7.0, 50.0])
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
    predictions = LOGARITHMS if log_input else np.exp(LOGARITHMS)
    # y f, the largest term, is 150.
    same(special, plain, predictions, AMOUNTS, largest=150)


@pytest.mark.parametrize("name", ["poisson_nll_loss", "gamma_nll_loss", "tweedie_loss"])
def test_logarithms_and_means_are_two_ways_to_say_the_same(name):
    loss = getattr(jaxloss, name)
    same(loss, lambda f, y: loss(jnp.exp(f), y, log_input=False), LOGARITHMS, AMOUNTS, largest=150)


VARIANCES = single([4.0, 0.25, 1.0, 9.0, 2.0, 1e-3, 50.0, 0.5, 3.0])


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
    agree(in_variance, VARIANCES * np.asarray(plain), largest=0.5)


def test_student_t_runs_from_cauchy_to_gauss():
    def cauchy(p, t, s):
        return jaxloss.cauchy_loss(p, t, scale=s / np.sqrt(2)) + jnp.log(np.pi * s)

    def gauss(p, t, s):
        return jaxloss.gaussian_nll_loss(p, t, s * s, full=True)

    inputs = (ERRORS, ZEROS, np.sqrt(VARIANCES))
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
    chances, outcomes = single(chances / np.sum(chances)), single(outcomes)

    def expected(parameters):
        mean = jnp.full_like(outcomes, parameters[0])
        return jnp.sum(chances * score(mean, parameters[1], outcomes))

    # The truth first.
    moves = itertools.product((1.0, 0.9, 0.97, 1.03, 1.1), repeat=2)
    candidates = single(np.array(TRUTH) * np.array(list(moves)))
    least, *others = np.asarray(jax.jit(jax.vmap(expected))(candidates))
    assert min(others) > least + 1e-5
    # Quadrature over a kink is good to the square of its step, 1e-4.
    np.testing.assert_allclose(jax.jit(jax.grad(expected))(candidates[0]), 0, atol=1e-4)


# The power of the unit that a loss is measured in, and the loss with its scale in that unit.
UNITS: dict[str, tuple[int, Callable[..., Any]]] = {
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
    follows_its_unit(*UNITS[name])


@pytest.mark.parametrize("name", UNITS)
def test_errors_of_either_sign_cost_the_same(name):
    is_even(UNITS[name][1])


def test_likelihoods_of_amounts_in_another_unit():
    predictions, targets = single([3.0, 0.5, 8.0]), single([1.0, 0.75, 24.0])

    def tweedie(unit, power):
        scaled = single(unit * predictions), single(unit * targets)
        return np.asarray(jaxloss.tweedie_loss(*scaled, power=power, log_input=False))

    for power in (0.0, 1.5, 3.0):
        agree(tweedie(8.0, power), 8.0 ** (2 - power) * tweedie(1.0, power), largest=8)
    gamma = functools.partial(jaxloss.gamma_nll_loss, log_input=False)
    expected = np.asarray(gamma(predictions, targets)) + np.log(8)
    agree(gamma(8 * predictions, 8 * targets), expected, largest=2)
