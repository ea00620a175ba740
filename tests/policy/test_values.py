"""Values of states, entropies, and quantiles of returns, by hand and in float64."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxloss import entropy_loss, l2_loss, quantile_huber_loss, quantile_loss, value_loss

EPS = float(np.finfo(np.float32).eps)


def test_the_larger_error_counts() -> None:
    """Of a return of 3 and an old value of 0, with a band of 0.5."""
    values = jnp.array([0.2, 0.5, 2.0, 5.0, 5.5, 6.0, -0.5, -1.0])
    returns, old = jnp.full(8, 3.0), jnp.zeros(8)
    losses = value_loss(values, returns, old, clip=0.5)
    errors = np.array([2.8, 2.5, 2.5, 2.5, 2.5, 3.0, 3.5, 4.0])
    np.testing.assert_allclose(losses, errors**2 / 2, rtol=4 * EPS)
    slope = jax.grad(lambda v: jnp.sum(value_loss(v, returns, old, clip=0.5)))(values)
    # Held between the end of the band and as far beyond the return; at both ends it trains.
    np.testing.assert_allclose(slope, [-2.8, -2.5, 0, 0, 2.5, 3.0, -3.5, -4.0], rtol=4 * EPS)


def test_without_a_band_it_is_the_squared_error() -> None:
    v, r, old = np.random.default_rng(0).normal(size=(3, 16)).astype(np.float32)
    np.testing.assert_array_equal(value_loss(v, r, old, clip=np.inf), l2_loss(v, r))


def test_entropy_of_illegal_actions() -> None:
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 3, (6, 5)).astype(np.float32)
    legal = rng.uniform(size=(6, 5)) < 0.6
    legal[:, 0] = True
    x = np.float64(logits)
    p = np.where(legal, np.exp(x), 0)
    p /= p.sum(-1, keepdims=True)
    expected = np.sum(np.where(legal, p * np.log(np.where(legal, p, 1)), 0), -1)
    absent = jnp.where(legal, logits, -jnp.inf)
    masked = entropy_loss(jnp.where(legal, logits, jnp.nan), where=jnp.asarray(legal))
    for found in (entropy_loss(absent), masked):
        np.testing.assert_allclose(found, expected, rtol=8 * EPS, atol=4 * EPS)
    slope = jax.grad(lambda x: jnp.sum(entropy_loss(x)))(absent)
    np.testing.assert_array_equal(slope[~legal], 0)
    wanted = p * (np.log(np.where(legal, p, 1)) - expected[:, None])
    np.testing.assert_allclose(slope, wanted, rtol=8 * EPS, atol=8 * EPS)


def test_entropy_of_a_policy_that_is_nearly_certain() -> None:
    """log(1 + e) + 30 e / (1 + e) for e = exp(-30), where 1 + e is 1 in float32."""
    e = np.exp(-30.0)
    found = entropy_loss(jnp.array([30.0, 0.0]))
    np.testing.assert_allclose(found, -(np.log1p(e) + 30 * e / (1 + e)), rtol=8 * EPS)
    slope = jax.grad(lambda x: entropy_loss(x))(jnp.array([30.0, 0.0]))
    np.testing.assert_allclose(slope, [30 * e, -30 * e], rtol=8 * EPS)


def test_quantiles_meet_all_targets() -> None:
    """The loop of the paper, in float64, with its own number of targets."""
    rng = np.random.default_rng(2)
    predictions = rng.normal(size=(4, 5)).astype(np.float32)
    targets = rng.normal(size=(4, 3)).astype(np.float32)
    quantiles = rng.uniform(size=(4, 5)).astype(np.float32)
    for given in (None, quantiles[0], quantiles):
        q = np.broadcast_to((np.arange(5) + 0.5) / 5 if given is None else given, (4, 5))
        for delta in (1.0, 0.3):
            expected = np.zeros(4)
            for b in range(4):
                for i in range(5):
                    for t in targets[b]:
                        u = np.float64(t) - predictions[b, i]
                        near = abs(u) <= delta
                        huber = u * u / 2 if near else delta * (abs(u) - delta / 2)
                        expected[b] += abs(q[b, i] - (u < 0)) * huber / delta / 3
            found = quantile_huber_loss(predictions, targets, quantiles=given, delta=delta)
            np.testing.assert_allclose(found, expected, rtol=16 * EPS)


def test_delta_0_is_quantile_regression() -> None:
    rng = np.random.default_rng(3)
    predictions, target = rng.normal(size=(6, 4)), rng.normal(size=(6, 1))
    predictions, target = jnp.float32(predictions), jnp.float32(target)
    found = quantile_huber_loss(predictions, target, delta=0.0)
    levels = (jnp.arange(4.0) + 0.5) / 4
    each = quantile_loss(predictions, jnp.repeat(target, 4, 1), quantile=levels[None])
    np.testing.assert_allclose(found, jnp.sum(each, -1), rtol=8 * EPS)
    at_target = jax.grad(lambda p: quantile_huber_loss(p, jnp.ones(1), delta=0.0))(jnp.ones(2))
    np.testing.assert_array_equal(at_target, 0)


def test_what_is_refused() -> None:
    p = np.zeros((2, 3), np.float32)
    with pytest.raises(ValueError, match=r"^expected equal shapes but for the last axis"):
        quantile_huber_loss(p, np.zeros((3, 3), np.float32))
    with pytest.raises(ValueError, match=r"^expected equal shapes but for the last axis"):
        quantile_huber_loss(p, np.zeros(3, np.float32))
    with pytest.raises(ValueError, match=r"^quantiles must have the shape of predictions"):
        quantile_huber_loss(p, p, quantiles=np.full((2, 1), 0.5))
    assert np.all(np.isnan(quantile_huber_loss(p, p, quantiles=[0.1, 0.5, 1.1])))
    assert np.all(np.isnan(value_loss(p, p, p, clip=-0.1)))
    with pytest.raises(
        ValueError, match=r"^old_values must be a scalar or have the rank of values"
    ):
        value_loss(p, p, p[0])
