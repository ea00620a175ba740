"""`aft_nll_loss`, against SciPy's distributions in float64 and by hand."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxloss import aft_nll_loss, gaussian_nll_loss
from tests.laws.values import EPS

KINDS: dict[str, Any] = {
    "weibull": lambda mu, scale: stats.weibull_min(1 / scale, scale=np.exp(mu)),
    "log_logistic": lambda mu, scale: stats.fisk(1 / scale, scale=np.exp(mu)),
    "log_normal": lambda mu, scale: stats.lognorm(scale, scale=np.exp(mu)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_scipy(kind: Any) -> None:
    rng = np.random.default_rng(3)
    mu = rng.normal(0, 1, 40).astype(np.float32)
    t = rng.uniform(0.1, 6, 40).astype(np.float32)
    e, scale = rng.uniform(size=40) < 0.5, np.float32(0.625)
    peer = KINDS[kind](mu.astype(float), float(scale))
    expected = -np.where(e, peer.logpdf(t), peer.logsf(t))
    found = aft_nll_loss(mu, t, e, scale=scale, kind=kind)
    np.testing.assert_allclose(found, expected, rtol=8 * EPS, atol=8 * EPS)


def test_log_normal_is_the_gaussian_of_logarithms() -> None:
    mu, t = jnp.array([0.5, -1.0, 2.0]), jnp.array([1.5, 3.0, 0.2])
    found = aft_nll_loss(mu, t, jnp.ones(3), scale=0.5, kind="log_normal")
    # Without the logarithms of 2 pi and of the time.
    gauss = gaussian_nll_loss(mu, jnp.log(t), 0.25, full=True)
    np.testing.assert_allclose(found, gauss + jnp.log(t), rtol=16 * EPS, atol=16 * EPS)


@pytest.mark.parametrize("kind", KINDS)
def test_times_in_another_unit(kind: Any) -> None:
    """Twice the times and log(2) more: an event's density is half as large, nothing else moves."""
    mu, t = jnp.array([0.5, 0.5]), jnp.array([1.5, 1.5])
    e = jnp.array([True, False])
    one = aft_nll_loss(mu, t, e, kind=kind)
    two = aft_nll_loss(mu + jnp.log(2.0), 2 * t, e, kind=kind)
    np.testing.assert_allclose(two - one, [np.log(2), 0], atol=8 * EPS)


@pytest.mark.parametrize("kind", KINDS)
def test_long_after_the_expected_time(kind: Any) -> None:
    """Far in both tails the likelihood of being censored has its own digits, and a slope."""
    loss = jax.value_and_grad(lambda mu: aft_nll_loss(mu, 1.0, False, kind=kind))
    late, slope = loss(jnp.float32(-12.0))
    assert np.isfinite(late)
    assert slope < -0.9
    early, slope = loss(jnp.float32(8.0))
    peer = KINDS[kind](8.0, 1.0)
    np.testing.assert_allclose(early, -np.log1p(-peer.cdf(1.0)), rtol=16 * EPS)
    assert slope < 0


def test_refusals_and_what_is_outside() -> None:
    mu, t, e = jnp.zeros(2), jnp.ones(2), jnp.ones(2, bool)
    with pytest.raises(ValueError, match="kind must be one of 'weibull', 'log_logistic'"):
        aft_nll_loss(mu, t, e, kind="gamma")  # type: ignore
    with pytest.raises(ValueError, match="expected equal shapes"):
        aft_nll_loss(mu, t, jnp.ones((2, 1)))
    assert np.isnan(aft_nll_loss(mu, jnp.array([0.0, -1.0]), e)).all()
    assert np.isnan(aft_nll_loss(mu, t, jnp.array([0.5, 2.0]))).all()
    assert np.isnan(aft_nll_loss(mu, t, e, scale=0.0)).all()
