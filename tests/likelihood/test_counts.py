from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jaxloss import (
    gamma_nll_loss,
    negative_binomial_nll_loss,
    poisson_nll_loss,
    tweedie_loss,
)
from tests.laws.values import Row, check, row_id

MEAN = {"log_input": False}
F = math.log(2.0)


def negative_binomial(y: int, mean: float, dispersion: float) -> float:
    size = 1 / dispersion
    return -float(scipy.stats.nbinom.logpmf(y, size, size / (size + mean)))


ROWS: list[Row] = [
    (poisson_nll_loss, (F, 3.0), {}, 2 - 3 * F, 2 - 3),
    (poisson_nll_loss, (F, 3.0), {"full": True}, -scipy.stats.poisson.logpmf(3, 2), 2 - 3),
    (poisson_nll_loss, (2.0, 3.0), MEAN, 2 - 3 * F, 1 - 3 / 2),
    (poisson_nll_loss, (1.0, 3.0), {**MEAN, "eps": 1.0}, 1 - 3 * F, 1 - 3 / 2),
    (poisson_nll_loss, (0.0, 0.0), MEAN, 0, 1),
    (gamma_nll_loss, (F, 3.0), {}, F + 3 / 2, 1 - 3 / 2),
    (gamma_nll_loss, (2.0, 3.0), MEAN, F + 3 / 2, (1 - 3 / 2) / 2),
    (tweedie_loss, (2 * F, 3.0), {}, 2 / 0.5 + 3 / 2 / 0.5, 2 - 3 / 2),
    (tweedie_loss, (4.0, 3.0), MEAN, 2 / 0.5 + 3 / 2 / 0.5, (2 - 3 / 2) / 4),
    (tweedie_loss, (0.0, 0.0), MEAN, 0, math.inf),
    (tweedie_loss, (F, 3.0), {"power": 0.0}, (2 - 3) ** 2 / 2, 2 * (2 - 3)),
    (tweedie_loss, (F, 3.0), {"power": 3.0}, -1 / 2 + 3 / 4 / 2, 1 / 2 - 3 / 4),
    (tweedie_loss, (-2.0, 3.0), {**MEAN, "power": 0.0}, 25 / 2, -5),
    (tweedie_loss, (-2.0, 0.0), {**MEAN, "power": 0.0}, 4 / 2, -2),
    (
        negative_binomial_nll_loss,
        (F, 3.0, 0.5),
        {},
        negative_binomial(3, 2, 0.5),
        (2 - 3) / (1 + 0.5 * 2),
    ),
    (
        negative_binomial_nll_loss,
        (2.0, 3.0, 0.5),
        MEAN,
        negative_binomial(3, 2, 0.5),
        (2 - 3) / (1 + 0.5 * 2) / 2,
    ),
    (
        negative_binomial_nll_loss,
        (F, 3.0, 0.0),
        {},
        -scipy.stats.poisson.logpmf(3, 2),
        2 - 3,
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=row_id)
def test_values(row: Row) -> None:
    check(row)


def test_the_ends_of_the_poisson() -> None:
    """Rate 0 is sure of count 0 and rules out every other."""
    assert poisson_nll_loss(-jnp.inf, 0) == 0
    assert poisson_nll_loss(-jnp.inf, 2) == jnp.inf
    assert poisson_nll_loss(jnp.inf, 2) == jnp.inf
    assert poisson_nll_loss(0.0, 2, log_input=False) == jnp.inf
    assert jax.grad(poisson_nll_loss)(0.0, 0, log_input=False) == 1


def test_full_adds_the_factorial_and_not_stirlings() -> None:
    """PyTorch's approximation is 0 at counts 0 and 1, and 4 % off at 2."""
    counts = jnp.array([0, 1, 2, 5, 30])
    logarithms = jnp.zeros(5)
    added = poisson_nll_loss(logarithms, counts, full=True) - poisson_nll_loss(logarithms, counts)
    exact = [math.lgamma(y + 1) for y in (0, 1, 2, 5, 30)]
    np.testing.assert_allclose(added, exact, rtol=1e-6)


def test_the_tweedie_loss_jumps_in_its_power_and_its_gradient_does_not() -> None:
    def loss(f: float, power: float) -> jax.Array:
        return tweedie_loss(f, 3.0, power=power)

    for power in (0.0, 1.0, 2.0):
        assert abs(loss(F, power + 1e-3) - loss(F, power)) > 0.1
        beside = jax.grad(loss)(F, power + 1e-3)
        np.testing.assert_allclose(jax.grad(loss)(F, power), beside, atol=0.01)
        assert jnp.isnan(jax.grad(loss, 1)(F, power))
        assert jnp.isfinite(jax.jit(jax.grad(loss))(F, power))


def test_powers_beyond_the_distributions() -> None:
    """Any real power; between 0 and 1 no distribution exists, yet the loss is consistent."""
    for power in (-1.5, 0.4, 2.5, 7.0):
        targets = jnp.array([0.5, 2.0, 4.0])

        def mean(f: jax.Array, power: float = power, targets: jax.Array = targets) -> jax.Array:
            return tweedie_loss(jnp.full(3, f), targets, power=power, reduction="mean")

        at_the_mean = jax.grad(mean)(jnp.log(jnp.mean(targets)))
        np.testing.assert_allclose(at_the_mean, 0, atol=1e-5)


def test_dispersion_fades_into_poisson() -> None:
    f, y = jnp.array([-1.0, 0.5, 3.0]), jnp.array([0, 2, 25])
    for dispersion in (1e-6, 1e-12, 0.0):
        losses = negative_binomial_nll_loss(f, y, dispersion)
        poisson = poisson_nll_loss(f, y, full=True)
        np.testing.assert_allclose(losses, poisson, rtol=1e-5, atol=1e-4 * bool(dispersion))
    slope = jax.grad(negative_binomial_nll_loss, 2)(0.5, 2.0, 0.0)
    mean = math.exp(0.5)
    # The next term of the expansion in the dispersion, by hand.
    assert slope == pytest.approx(2 * mean - mean**2 / 2 - 1, rel=1e-5)


def test_curvature_at_the_ends_of_the_domain() -> None:
    """Where a target of 0 or a power of 0 takes the mean out of the denominator."""
    poisson = jax.hessian(lambda mean: poisson_nll_loss(mean, 0.0, log_input=False))
    assert poisson(0.0) == 0
    squares = jax.hessian(lambda mean: tweedie_loss(mean, 1.0, power=0.0, log_input=False))
    assert squares(-3.0) == 1


def test_curvature_where_the_mean_overflows() -> None:
    """At f = 100, power 1.9: 0.1 exp(0.1 f), the term of the target being nothing."""
    curved = jax.jit(jax.hessian(lambda f: tweedie_loss(f, 17.0, power=1.9)))
    assert curved(100.0) == pytest.approx(0.1 * math.exp(10), rel=1e-5)
