from __future__ import annotations

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.stats

from jaxloss import (
    beta_nll_loss,
    gaussian_crps,
    gaussian_nll_loss,
    laplace_nll_loss,
    student_t_nll_loss,
)
from tests.laws.values import Row, check, row_id

ROWS: list[Row] = [
    (gaussian_nll_loss, (5.0, 2.0, 4.0), {}, (math.log(4) + 9 / 4) / 2, 3 / 4),
    (
        gaussian_nll_loss,
        (5.0, 2.0, 4.0),
        {"full": True},
        -scipy.stats.norm.logpdf(2, 5, 2),
        3 / 4,
    ),
    (gaussian_nll_loss, (5.0, 2.0, 1.0), {"eps": 4.0}, (math.log(4) + 9 / 4) / 2, 3 / 4),
    (beta_nll_loss, (5.0, 2.0, 4.0), {}, 2 * (math.log(4) + 9 / 4) / 2, 2 * 3 / 4),
    (beta_nll_loss, (5.0, 2.0, 4.0), {"beta": 1.0}, 4 * (math.log(4) + 9 / 4) / 2, 3),
    (laplace_nll_loss, (5.0, 2.0, 4.0), {}, math.log(8) + 3 / 4, 1 / 4),
    (laplace_nll_loss, (2.0, 5.0, 4.0), {}, -scipy.stats.laplace.logpdf(5, 2, 4), -1 / 4),
    (
        student_t_nll_loss,
        (5.0, 2.0, 4.0, 3.0),
        {},
        -scipy.stats.t.logpdf(2, 3, 5, 4),
        4 * 3 / (3 * 16 + 9),
    ),
    (
        student_t_nll_loss,
        (5.0, 2.0, 4.0, math.inf),
        {},
        -scipy.stats.norm.logpdf(2, 5, 4),
        3 / 16,
    ),
    (gaussian_crps, (5.0, 2.0, 0.0), {}, 3, 1),
]


@pytest.mark.parametrize("row", ROWS, ids=row_id)
def test_values(row: Row) -> None:
    check(row)


@pytest.mark.parametrize(("mean", "target", "scale"), [(0.0, 0.3, 1.0), (1.0, -2.0, 0.5)])
def test_crps_is_the_integral_it_is_named_for(mean: float, target: float, scale: float) -> None:
    def gap(x: float) -> float:
        return float(scipy.stats.norm.cdf(x, mean, scale) - (x >= target)) ** 2

    ends = [mean - 12 * scale, target, mean + 12 * scale]
    parts = [scipy.integrate.quad(gap, a, b)[0] for a, b in itertools.pairwise(ends)]
    np.testing.assert_allclose(gaussian_crps(mean, target, scale), sum(parts), rtol=1e-5)


def test_a_clamped_variance_still_trains() -> None:
    """The gradient of PyTorch's clamp: that at the clamped value."""

    def slope(variance: float, eps: float) -> jax.Array:
        return jax.grad(gaussian_nll_loss, 2)(5.0, 2.0, variance, eps=eps)

    assert slope(1e-3, 0.5) == slope(0.5, 0.0) == pytest.approx((1 / 0.5 - 9 / 0.25) / 2)
    assert jnp.isnan(gaussian_nll_loss(5.0, 2.0, -1.0, eps=0.5))


def test_a_variance_of_zero_is_infinitely_sure() -> None:
    assert jnp.isnan(gaussian_nll_loss(2.0, 2.0, 0.0))
    assert not jnp.isfinite(gaussian_nll_loss(5.0, 2.0, 0.0))


def test_beta_nll_gradient_is_the_papers() -> None:
    """v^beta times the gradient of the likelihood, in the mean and in the variance."""
    at = (5.0, 2.0, 4.0)
    plain = jax.grad(gaussian_nll_loss, (0, 2))(*at)
    for beta in (0.0, 0.5, 1.0):
        weighted = jax.grad(beta_nll_loss, (0, 2))(*at, beta=beta)
        np.testing.assert_allclose(weighted, 4**beta * np.array(plain), rtol=1e-6)
    assert jax.grad(lambda beta: beta_nll_loss(*at, beta=beta))(0.5) == 0


def test_exact_predictions_are_curved() -> None:
    """Where a slope that is a sign times a size would have derivative 0."""
    student = jax.hessian(lambda mu: student_t_nll_loss(mu, 2.0, 0.5, 3.0))
    assert student(2.0) == pytest.approx((3 + 1) / (3 * 0.5**2))
    crps = jax.hessian(lambda mu: gaussian_crps(mu, 2.0, 0.5))
    assert crps(2.0) == pytest.approx(2 * scipy.stats.norm.pdf(0) / 0.5)


def test_curvature_of_the_crps_far_out() -> None:
    """0 where the density is, at z = 1e24 as at a scale of 0: that of the L1 loss."""
    curved = jax.jit(jax.hessian(gaussian_crps, (0, 2)))
    for scale in (1e-4, 0.0):
        np.testing.assert_array_equal(curved(1e20, 0.0, scale), np.zeros((2, 2)))


def test_fields_broadcast_over_the_predictions() -> None:
    predictions = jnp.arange(6.0).reshape(2, 3)
    shared = gaussian_nll_loss(predictions, predictions + 1, jnp.array([[1.0], [4.0]]))
    np.testing.assert_allclose(shared[1], [(math.log(4) + 1 / 4) / 2] * 3, rtol=1e-6)
    slope = jax.grad(lambda v: jnp.sum(gaussian_nll_loss(predictions, predictions + 1, v)))(2.0)
    assert slope == pytest.approx(6 * (1 / 2 - 1 / 4) / 2)
