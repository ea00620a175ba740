"""Losses of times in intervals, and of pairs: values by hand, and as pycox publishes them."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxloss import (
    deephit_ranking_loss,
    logistic_hazard_loss,
    pmf_loss,
    sigmoid_binary_cross_entropy,
)
from tests.laws.values import EPS

OF_ONE: list[Any] = [logistic_hazard_loss, pmf_loss]


def drawn(size: int = 12, intervals: int = 5) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(4)
    z = rng.normal(0, 1.5, (size, intervals)).astype(np.float32)
    return z, rng.integers(0, intervals, size), rng.uniform(size=size) < 0.6


def probabilities(z: np.ndarray) -> np.ndarray:
    """Of each interval and of none, in float64."""
    sizes = np.exp(np.concatenate([np.float64(z), np.zeros((len(z), 1))], 1))
    return sizes / sizes.sum(1, keepdims=True)


def test_hazards_are_a_cross_entropy_of_what_was_seen() -> None:
    """Also what pycox's nll_logistic_hazard is: a masked binary cross-entropy, summed."""
    z, n, e = drawn()
    number = np.arange(5)
    labels = ((number == n[:, None]) & e[:, None]).astype(np.float32)
    expected = sigmoid_binary_cross_entropy(z, labels, where=number <= n[:, None]).sum(1)
    np.testing.assert_allclose(logistic_hazard_loss(z, n, e), expected, rtol=4 * EPS)


def test_both_are_likelihoods() -> None:
    """Over all that may be seen of a time that is not censored before the end, they sum to 1."""
    z = drawn(1)[0][0]
    number, events = jnp.array([0, 1, 2, 3, 4, 4]), jnp.array([1, 1, 1, 1, 1, 0])
    for loss in OF_ONE:
        likelihoods = jnp.exp(-loss(jnp.broadcast_to(z, (6, 5)), number, events))
        np.testing.assert_allclose(jnp.sum(likelihoods), 1, rtol=8 * EPS)


def test_pmf_is_that_of_a_softmax_with_a_logit_of_0() -> None:
    z, n, e = drawn()
    p = probabilities(z)
    own = p[np.arange(12), n]
    after = np.array([row[k + 1 :].sum() for row, k in zip(p, n, strict=True)])
    expected = -np.log(np.where(e, own, after))
    np.testing.assert_allclose(pmf_loss(z, n, e), expected, rtol=8 * EPS)


def test_of_what_is_nearly_certain_all_digits_are_left() -> None:
    """pycox adds 1e-7 inside the logarithm: its loss ends at 16.1, and this one at no number."""
    z = jnp.array([-60.0, 20.0, 80.0])
    np.testing.assert_allclose(pmf_loss(z, 0, True), 140, rtol=EPS)
    np.testing.assert_allclose(pmf_loss(z, 2, True), np.exp(-60), rtol=8 * EPS)
    np.testing.assert_allclose(pmf_loss(z, 1, False), np.exp(-60), rtol=8 * EPS)


def test_multi_task_logistic_regression() -> None:
    """Logits that are sums from each interval on, as the docstring has it."""
    z, n, e = drawn()
    sums = jnp.cumsum(z[..., ::-1], -1)[..., ::-1]
    by_hand = np.array([[row[k:].sum() for k in range(5)] for row in z.astype(np.float64)])
    p = probabilities(by_hand)
    own = p[np.arange(12), n]
    after = np.array([row[k + 1 :].sum() for row, k in zip(p, n, strict=True)])
    np.testing.assert_allclose(pmf_loss(sums, n, e), -np.log(np.where(e, own, after)), rtol=1e-5)


@pytest.mark.parametrize("loss", OF_ONE)
def test_numbers_of_no_interval_are_nan(loss: Any) -> None:
    z = jnp.zeros((4, 3))
    n, e = jnp.array([-1, 3, 2**31 - 1, 2]), jnp.ones(4, bool)
    assert np.array_equal(np.isnan(loss(z, n, e)), [True, True, True, False])
    assert np.array_equal(loss(z.T, n, e, axis=0), loss(z, n, e), equal_nan=True)


@pytest.mark.parametrize("loss", OF_ONE)
def test_refusals(loss: Any) -> None:
    z, n, e = jnp.zeros((4, 3)), jnp.zeros(4, int), jnp.ones(4, bool)
    with pytest.raises(TypeError, match="durations must be integers, the numbers of intervals"):
        loss(z, jnp.zeros(4), e)
    with pytest.raises(ValueError, match="durations must be a number for each example"):
        loss(z, jnp.zeros(3, int), e)
    with pytest.raises(ValueError, match="events must be an event for each example"):
        loss(z, n, jnp.ones(3))
    with pytest.raises(ValueError, match="where must be of the rank of the loss"):
        loss(z, n, e, where=jnp.ones((4, 3), bool))
    with pytest.raises(ValueError, match="axis must name the one axis"):
        loss(z, n, e, axis=(0, 1))


# Pairs.


def ranked(z: np.ndarray, n: np.ndarray, e: np.ndarray, sigma: float) -> tuple[float, int]:
    """The sum over the pairs that pycox's `pair_rank_mat` has, and how many they are."""
    p = probabilities(z)
    total, count = 0.0, 0
    for i in range(len(z)):
        for j in range(len(z)):
            if e[i] and (n[i] < n[j] or (n[i] == n[j] and not e[j])):
                gap = p[i, : n[i] + 1].sum() - p[j, : n[i] + 1].sum()
                total, count = total + np.exp(-gap / sigma), count + 1
    return total, count


@pytest.mark.parametrize("temperature", [0.1, 0.7])
def test_pairs(temperature: float) -> None:
    z, n, e = drawn()
    loss = functools.partial(deephit_ranking_loss, z, n, e, temperature=temperature)
    total, count = ranked(z, n, e, temperature)
    np.testing.assert_allclose(loss(), total, rtol=32 * EPS)
    np.testing.assert_allclose(loss(reduction="mean"), total / count, rtol=32 * EPS)
    keep = np.arange(12) % 3 > 0
    total, count = ranked(z[keep], n[keep], e[keep], temperature)
    masked = loss(where=jnp.asarray(keep), reduction="mean")
    np.testing.assert_allclose(masked, total / count, rtol=32 * EPS)


def test_pairs_in_blocks() -> None:
    """More examples than pairs fit in one block: the sum of two cohorts and of what is between."""
    z, n, e = (np.tile(x, (100, *[1] * (x.ndim - 1))) for x in drawn())
    few = functools.partial(deephit_ranking_loss, temperature=0.5)
    value, slopes = jax.value_and_grad(few)(jnp.asarray(z), n, e)
    first, wanted = jax.value_and_grad(few)(*drawn())
    np.testing.assert_allclose(value, 100**2 * first, rtol=64 * EPS)
    scale = float(np.abs(wanted).max())
    np.testing.assert_allclose(slopes[:12] / 100, wanted, atol=256 * EPS * scale)


def test_no_array_of_all_pairs() -> None:
    shape = jax.ShapeDtypeStruct((4096, 8), jnp.float32)
    given = [shape, jax.ShapeDtypeStruct((4096,), jnp.int32), jax.ShapeDtypeStruct((4096,), bool)]
    compiled = jax.jit(jax.value_and_grad(deephit_ranking_loss)).lower(*given).compile()
    memory: Any = compiled.memory_analysis()
    assert memory.temp_size_in_bytes < 4 * 4096**2


def test_no_pairs() -> None:
    z, n = jnp.zeros((3, 2)), jnp.array([1, 1, 1])
    mean = functools.partial(deephit_ranking_loss, reduction="mean")
    value, slopes = jax.value_and_grad(mean)(z, n, jnp.ones(3, bool))
    assert value == 0
    assert not np.any(slopes)


def test_refusals_of_pairs() -> None:
    z, n, e = jnp.zeros((4, 3)), jnp.zeros(4, int), jnp.ones(4, bool)
    with pytest.raises(ValueError, match="logits must be of shape"):
        deephit_ranking_loss(z[0], n, e)
    with pytest.raises(ValueError, match="durations must be of the shape"):
        deephit_ranking_loss(z, n[:3], e)
    with pytest.raises(TypeError, match="durations must be numbers of intervals"):
        deephit_ranking_loss(z, jnp.zeros(4), e)
    with pytest.raises(ValueError, match="weights must be those of whole cohorts"):
        deephit_ranking_loss(z, n, e, weights=jnp.ones(4))
    assert np.isnan(deephit_ranking_loss(z, n.at[0].set(7), e))
