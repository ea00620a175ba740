"""Likelihoods of bounds against SciPy's distributions, and their ends."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jaxloss import censored_nll_loss, gaussian_nll_loss
from tests.laws.values import EPS

PEERS = {
    "normal": scipy.stats.norm,
    "logistic": scipy.stats.logistic,
    "gumbel": scipy.stats.gumbel_l,
}
RNG = np.random.default_rng(0)
LOCATION, SCALE = RNG.normal(size=20), RNG.uniform(0.5, 2, 20)
LOWER = LOCATION + RNG.normal(size=20)
UPPER = LOWER + RNG.uniform(0.5, 2, 20)
LOCATION, SCALE, LOWER, UPPER = map(np.float32, (LOCATION, SCALE, LOWER, UPPER))
# Differences of SciPy's distribution functions have 12 digits at such points; of terms of size 1.
CLOSE: Any = {"rtol": 8 * EPS, "atol": 8 * EPS}


@pytest.mark.parametrize("kind", PEERS)
def test_likelihoods_of_scipy(kind: Any) -> None:
    law = PEERS[kind](*(x.astype(float) for x in (LOCATION, SCALE)))

    def loss(lower: Any, upper: Any, **options: Any) -> Any:
        return censored_nll_loss(LOCATION, lower, upper, SCALE, kind=kind, **options)

    def mass(lower: Any, upper: Any) -> Any:
        return law.cdf(upper) - law.cdf(lower)

    low, high = LOWER.astype(float), UPPER.astype(float)
    np.testing.assert_allclose(loss(LOWER, UPPER), -np.log(mass(low, high)), **CLOSE)
    np.testing.assert_allclose(loss(-np.inf, UPPER), -law.logcdf(high), **CLOSE)
    np.testing.assert_allclose(loss(LOWER, np.inf), -law.logsf(low), **CLOSE)
    np.testing.assert_allclose(loss(LOWER, LOWER), -law.logpdf(low), **CLOSE)
    np.testing.assert_array_equal(loss(-np.inf, np.inf), 0)
    cut = {"truncation_lower": LOWER - 1, "truncation_upper": UPPER + 2}
    among = np.log(mass(*(np.float32(x).astype(float) for x in cut.values())))
    np.testing.assert_allclose(loss(LOWER, LOWER, **cut), among - law.logpdf(low), **CLOSE)
    np.testing.assert_allclose(loss(LOWER, UPPER, **cut), among - np.log(mass(low, high)), **CLOSE)


def test_observed_exactly_it_is_the_gaussian_likelihood() -> None:
    """With its derivatives of both orders; each of the two bounds has half of the slope."""

    def ours(mean: Any, target: Any, scale: Any) -> Any:
        return jnp.sum(censored_nll_loss(mean, target, target, scale))

    def gaussian(mean: Any, target: Any, scale: Any) -> Any:
        return jnp.sum(gaussian_nll_loss(mean, target, scale * scale, full=True))

    def both(loss: Any) -> Any:
        def of(*at: Any) -> Any:
            slopes = jax.grad(loss, (0, 1, 2))
            return slopes(*at), jax.jvp(lambda *x: slopes(*x), at, tuple(map(jnp.ones_like, at)))[1]

        return jax.jit(of)(*map(jnp.asarray, (LOCATION, LOWER, SCALE)))

    for got, expected in zip(*(jax.tree.leaves(both(f)) for f in (ours, gaussian)), strict=True):
        size = float(np.abs(expected).max())
        np.testing.assert_allclose(got, expected, atol=8 * EPS * size)
    halves = jax.grad(lambda a, b: censored_nll_loss(0.0, a, b, 1.0), (0, 1))(1.0, 1.0)
    np.testing.assert_array_equal(halves, [0.5, 0.5])


def test_a_narrow_interval_is_a_density() -> None:
    """Its loss is that of the density less the logarithm of the width, also 9 deviations out."""
    width = np.float32(2**-16)
    for y in np.array([0.5, -3, 9], np.float32):
        exact = censored_nll_loss(0.0, y, y, 1.0)
        interval = censored_nll_loss(0.0, y - width / 2, y + width / 2, 1.0)
        # The density bends by y^2 width^2 / 24 over the width.
        np.testing.assert_allclose(interval, exact - np.log(width), rtol=4 * EPS)


def test_truncation_cuts_intervals() -> None:
    """What is only known to be below b is above the truncation; what may be anything is certain."""
    cut: Any = {"truncation_lower": -1.0, "truncation_upper": 2.0}
    whole = censored_nll_loss(0.5, -1.0, 0.3, 0.7, **cut)
    np.testing.assert_array_equal(censored_nll_loss(0.5, -np.inf, 0.3, 0.7, **cut), whole)
    np.testing.assert_array_equal(censored_nll_loss(0.5, -3.0, 0.3, 0.7, **cut), whole)
    np.testing.assert_array_equal(censored_nll_loss(0.5, -np.inf, np.inf, 0.7, **cut), 0)


def test_out_of_the_domain() -> None:
    options: Any
    for lower, upper, options in (
        (1.0, 0.0, {}),
        (np.inf, np.inf, {}),
        (0.0, 0.0, {"truncation_lower": 0.5}),
        (1.0, 1.0, {"truncation_upper": 0.5}),
        (0.0, 1.0, {"truncation_lower": 1.5}),
        (0.0, 1.0, {"truncation_upper": -0.5}),
        (0.0, 1.0, {"truncation_lower": 2.0, "truncation_upper": 1.0}),
    ):
        assert np.isnan(censored_nll_loss(0.0, lower, upper, 1.0, **options))
    with pytest.raises(ValueError, match="kind must be one of 'normal', 'logistic', 'gumbel'"):
        censored_nll_loss(0.0, 0.0, 1.0, 1.0, kind="weibull")  # type: ignore
    with pytest.raises(ValueError, match=r"lower float32\[2\]"):
        censored_nll_loss(jnp.zeros(3), jnp.zeros(2), jnp.zeros(3), 1.0)
