"""Mixtures of Gaussians, and what they learn that one Gaussian does not."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jaxloss import gaussian_nll_loss, mixture_density_nll_loss
from tests.laws.values import gradients, single


def test_values() -> None:
    """Of shares 1/4 and 3/4, with the share of the first in the gradient."""
    parts = 0.25 * scipy.stats.norm.pdf(1, 0, 1), 0.75 * scipy.stats.norm.pdf(1, 4, 2)
    first = parts[0] / sum(parts)
    data = map(single, ([0.0, 4.0], 1.0, [1.0, 2.0], [0.0, math.log(3)]))
    loss, slopes = gradients(mixture_density_nll_loss, *data)
    assert loss == pytest.approx(-math.log(sum(parts)), rel=1e-6)
    second = 1 - first
    expected: list[Any] = [
        [-first, second * 3 / 4],
        first - second * 3 / 4,
        [first * (1 - 1), second * (1 - 9 / 4) / 2],
        [0.25 - first, 0.75 - second],
    ]
    for got, wanted in zip(slopes, expected, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-6, atol=1e-7)


def test_one_component_is_a_gaussian() -> None:
    m, y, s = single(np.random.default_rng(0).uniform(0.5, 2, (3, 7)))
    one = mixture_density_nll_loss(m[:, None], y, s[:, None], np.zeros((7, 1), np.float32))
    np.testing.assert_allclose(one, gaussian_nll_loss(m, y, s * s, full=True), rtol=1e-5)
    # Of vectors the sum over their numbers.
    whole = mixture_density_nll_loss(m[None], y, s[None], np.zeros(1, np.float32))
    np.testing.assert_allclose(whole, jnp.sum(one), rtol=1e-6)


def test_far_from_all_components_digits_stay() -> None:
    """Squares of 5e9 that differ by 1: their plain difference is a multiple of 512."""
    means = single([0.0, 1e-5])
    shares = jax.grad(lambda z: mixture_density_nll_loss(means, single(1e5), 1.0, z))(jnp.zeros(2))
    ahead = (1e10 - (1e5 - float(means[1])) ** 2) / 2
    assert ahead == pytest.approx(1, rel=1e-3)
    first = 1 / (1 + math.exp(ahead))
    np.testing.assert_allclose(shares, [0.5 - first, first - 0.5], rtol=1e-3)
    plain = jax.nn.softmax(-0.5 * jnp.square(means - jnp.float32(1e5)))
    assert abs(float(plain[0]) - first) > 0.1


def test_a_component_that_is_not_there() -> None:
    """By a logit of -inf, or by the mask, whatever it holds."""
    m, s, z = jnp.array([0.0, 4.0]), jnp.array([1.0, 2.0]), jnp.array([0.0, 1.0])
    whole = jax.value_and_grad(mixture_density_nll_loss, (0, 2, 3))
    wanted, slopes = whole(m, 1.0, s, z)
    with_third = [jnp.append(x, 1.0) for x in (m, s)]
    got, found = whole(with_third[0], 1.0, with_third[1], jnp.append(z, -jnp.inf))
    np.testing.assert_allclose(got, wanted, rtol=1e-6)
    for a, b in zip(found, slopes, strict=True):
        np.testing.assert_allclose(a, [*b, 0], rtol=1e-6, atol=1e-7)
    masked = jax.value_and_grad(
        lambda m: mixture_density_nll_loss(
            m, 1.0, jnp.append(s, jnp.nan), jnp.append(z, jnp.inf), where=jnp.array([1, 1, 0]) > 0
        )
    )
    got, found = masked(jnp.append(m, jnp.nan))
    np.testing.assert_allclose(got, wanted, rtol=1e-6)
    np.testing.assert_allclose(found, [*slopes[0], 0], rtol=1e-6)


def test_vectors_with_masked_components_and_examples() -> None:
    rng = np.random.default_rng(2)
    m, y, z = single(rng.normal(size=(2, 3, 2))), single(rng.normal(size=(2, 2))), np.zeros((2, 3))
    there = np.array([[True, True, False], [False, False, False]])
    slope = jax.grad(
        lambda m, z: jnp.sum(mixture_density_nll_loss(m, y, 0.7, z, where=there)), (0, 1)
    )
    for x in slope(jnp.asarray(m).at[0, 2].set(jnp.nan).at[1].set(jnp.inf), single(z)):
        assert np.all(np.isfinite(x))
        assert np.all(np.asarray(x)[~there] == 0)
        assert np.all(np.asarray(x)[0, :2] != 0)


def test_a_mixture_keeps_two_answers_apart() -> None:
    """Targets of -1 and 1: at means of -1 and 1 the mixture costs less than any one Gaussian."""
    targets = jnp.array([-1.0, 1.0])
    best = gaussian_nll_loss(jnp.zeros(2), targets, 1.0, full=True, reduction="mean")
    means = jnp.broadcast_to(targets, (2, 2))
    mixture = mixture_density_nll_loss(means, targets, 0.1, jnp.zeros((2, 2)), reduction="mean")
    assert mixture < best - 1


def test_what_does_not_fit_is_named() -> None:
    m, y, z = jnp.zeros((5, 4)), jnp.zeros(5), jnp.zeros((5, 4))
    with pytest.raises(ValueError, match=r"a logit for each.*targets float32\[4\]"):
        mixture_density_nll_loss(m, jnp.zeros(4), 1.0, z)
    with pytest.raises(ValueError, match=r"logits float32\[5, 3\]"):
        mixture_density_nll_loss(m, y, 1.0, jnp.zeros((5, 3)))
    with pytest.raises(ValueError, match=r"scale float32\[5, 1\]"):
        mixture_density_nll_loss(m, y, jnp.ones((5, 1)), z)
    with pytest.raises(ValueError, match="a logit for each"):
        mixture_density_nll_loss(0.0, 0.0, 1.0, 0.0)
    assert jnp.isnan(mixture_density_nll_loss(m[0], 0.0, 0.0, z[0]))
