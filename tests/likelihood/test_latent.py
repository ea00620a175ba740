"""What latent variables cost: the divergence of a Gaussian from its prior."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxloss import gaussian_kl
from tests.laws.values import gradients, single


def test_values() -> None:
    """Of N(2, 4) from N(-1, 9), and of N(1, 1) from N(0, 1)."""
    logs = math.log(4), math.log(9)
    value, slopes = gradients(gaussian_kl, *map(single, ([2.0], [logs[0]], [-1.0], [logs[1]])))
    assert value == pytest.approx((4 / 9 - 1 - logs[0] + logs[1] + 1) / 2, rel=1e-6)
    expected = [3 / 9, (4 / 9 - 1) / 2, -3 / 9, (1 - 4 / 9 - 1) / 2]
    np.testing.assert_allclose(np.ravel(slopes), expected, rtol=1e-6)
    assert gaussian_kl(jnp.ones(1), jnp.zeros(1)) == 0.5


def test_it_is_never_negative_and_0_at_the_prior() -> None:
    near = jnp.array([0.0, 1e-6, -1e-4, 1e-2])
    costs = jax.vmap(lambda f: gaussian_kl(jnp.zeros(1), f[None]))(near)
    assert costs[0] == 0
    np.testing.assert_allclose(costs, [0, *(x * x / 4 * (1 + x / 3) for x in near[1:])], rtol=1e-4)
    # As it is written elsewhere: of 1e-4 no digit is right.
    plain = -0.5 * (1 + near - jnp.exp(near))
    assert abs(plain[2] - costs[2]) > 0.1 * costs[2]


def test_it_is_what_a_lot_of_draws_say() -> None:
    rng = np.random.default_rng(1)
    m, f, m0, f0 = 0.7, -0.4, -0.2, 0.5
    x = m + math.exp(f / 2) * rng.normal(size=400_000)
    logs = [-0.5 * (g + (x - a) ** 2 / math.exp(g)) for a, g in ((m, f), (m0, f0))]
    drawn = np.mean(logs[0] - logs[1])
    exact = gaussian_kl(*(jnp.array([v]) for v in (m, f, m0, f0)))
    # Three deviations of the mean of the draws, which is about 0.001.
    assert exact == pytest.approx(drawn, abs=0.004)


def test_free_bits_spare_each_dimension() -> None:
    mean, log_variance = jnp.array([[0.1, 2.0, 1.0]]), jnp.zeros((1, 3))
    kl = jax.jit(jax.value_and_grad(lambda m, b: gaussian_kl(m, log_variance, free_bits=b)[0]))
    value, slope = kl(mean, 0.5)
    assert value == pytest.approx(0.5 + 2 + 0.5)
    # The last costs exactly that: it still trains.
    np.testing.assert_allclose(slope, [[0, 2, 1]])
    assert jnp.isnan(kl(mean, -0.1)[0])
    assert jnp.isnan(gaussian_kl(mean.at[0, 0].set(jnp.nan), log_variance, free_bits=0.5)[0])


def test_absent_dimensions_have_no_free_bits() -> None:
    there = jnp.array([[True, False]])
    mean = jnp.array([[1.0, jnp.nan]])
    cost = gaussian_kl(mean, jnp.zeros((1, 2)), free_bits=0.25, where=there)
    assert cost == 0.5


def test_along_another_axis_and_of_scalar_priors() -> None:
    rng = np.random.default_rng(0)
    mean, log_variance = single(rng.normal(size=(2, 3, 4)))
    rows = gaussian_kl(mean, log_variance, 0.5, -0.3)
    columns = gaussian_kl(mean.T, log_variance.T, 0.5, -0.3, axis=0)
    np.testing.assert_allclose(rows, columns, rtol=1e-6)
    whole = gaussian_kl(mean, log_variance, np.full((3, 4), 0.5), np.full((3, 4), -0.3))
    np.testing.assert_array_equal(rows, whole)


def test_what_does_not_fit_is_named() -> None:
    with pytest.raises(ValueError, match=r"mean float32\[3, 2\], log_variance float32\[3, 1\]"):
        gaussian_kl(jnp.zeros((3, 2)), jnp.zeros((3, 1)))
