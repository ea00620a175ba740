"""Losses of ordered classes by hand, against other formulas, and what they refuse."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import norm

import jaxloss
from jaxloss import (
    coral_loss,
    corn_loss,
    cumulative_link_nll,
    ordinal_levels,
    sigmoid_binary_cross_entropy,
    squared_emd_loss,
)

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(12, 4)).astype(np.float32)
RISING = np.sort(LOGITS, 1)
CLASSES = (np.arange(12) % 5).astype(np.int32)
# Of sums of at most four terms.
CLOSE: Any = {"rtol": 1e-6, "atol": 1e-6}


def test_two_classes_are_yes_or_no() -> None:
    x, y = LOGITS[:, :1], CLASSES % 2
    for loss, yes in ((coral_loss, y), (corn_loss, y), (cumulative_link_nll, 1 - y)):
        expected = sigmoid_binary_cross_entropy(x[:, 0], yes)
        np.testing.assert_allclose(loss(x, y), expected, **CLOSE)
    both = np.concatenate([np.zeros_like(x), x], 1)
    brier = (expit(x[:, 0].astype(float)) - y) ** 2
    np.testing.assert_allclose(squared_emd_loss(both, y), brier, **CLOSE)


@pytest.mark.parametrize(
    ("kind", "cdf"),
    [("logit", expit), ("probit", norm.cdf), ("cloglog", lambda x: -np.expm1(-np.exp(x)))],
)
def test_cumulative_link(kind: Any, cdf: Any) -> None:
    """The probabilities of all classes are differences of the distribution function."""
    f = cdf(RISING.astype(float))
    probabilities = np.diff(np.pad(f, ((0, 0), (1, 1)), constant_values=(0, 1))[:, :], axis=1)
    expected = -np.log(probabilities[np.arange(12), CLASSES])
    # The differences lose some digits in float64, none that float32 has.
    np.testing.assert_allclose(cumulative_link_nll(RISING, CLASSES, kind=kind), expected, **CLOSE)


def coral_in_numpy(logits: Any, levels: Any) -> Any:
    """As the authors' coral-pytorch has it: log-sigmoids weighed by levels, summed over these."""
    x = logits.astype(float)
    log_sigmoid = np.log(expit(x))
    return -np.sum(log_sigmoid * levels + (log_sigmoid - x) * (1 - levels), 1)


def corn_in_numpy(logits: Any, labels: Any) -> tuple[float, int]:
    """As coral-pytorch has it, task by task on the examples that reach it; and their number."""
    x, total, count = logits.astype(float), 0.0, 0
    for task in range(x.shape[1]):
        reached = labels > task - 1
        yes, score = labels[reached] > task, x[reached, task]
        total -= np.sum(np.log(expit(score)) * yes + (np.log(expit(score)) - score) * ~yes)
        count += reached.sum()
    return total, count


def test_coral_and_corn_are_their_authors() -> None:
    levels = ordinal_levels(CLASSES, 5)
    expected = coral_in_numpy(LOGITS, np.asarray(levels, float))
    np.testing.assert_allclose(coral_loss(LOGITS, CLASSES), expected, **CLOSE)
    total, count = corn_in_numpy(LOGITS, CLASSES)
    np.testing.assert_allclose(corn_loss(LOGITS, CLASSES, reduction="sum"), total, rtol=1e-6)
    # Theirs divides by what depends on the labels: here a mean is over examples.
    assert count != len(CLASSES)
    np.testing.assert_allclose(corn_loss(LOGITS, CLASSES, reduction="mean"), total / 12, rtol=1e-6)


def test_corn_is_the_likelihood_of_conditional_probabilities() -> None:
    reach = expit(LOGITS.astype(float))
    above = np.cumprod(np.pad(reach, ((0, 0), (1, 0)), constant_values=1), 1)
    probabilities = above - np.pad(above[:, 1:], ((0, 0), (0, 1)))
    expected = -np.log(probabilities[np.arange(12), CLASSES])
    np.testing.assert_allclose(corn_loss(LOGITS, CLASSES), expected, **CLOSE)


def test_squared_emd_by_hand() -> None:
    x, y = LOGITS.astype(float), CLASSES % 4
    p = np.exp(x) / np.exp(x).sum(1, keepdims=True)
    steps = np.cumsum(p, 1) - (y[:, None] <= np.arange(4))
    np.testing.assert_allclose(squared_emd_loss(LOGITS, y), np.sum(steps**2, 1), **CLOSE)


def test_a_far_class_costs_more() -> None:
    sure = jnp.array([[30.0, 0, 0, 0]] * 4)
    np.testing.assert_allclose(squared_emd_loss(sure, jnp.arange(4)), [0, 1, 2, 3], atol=1e-12)


def test_close_thresholds_keep_their_digits() -> None:
    """A gap of 2^-20 at -10: the difference of two sigmoids in float32 has no digit of it."""
    x = jnp.array([-10.0, -10.0 + 2**-20, 3.0])
    p = expit(-10.0) * expit(10.0) * 2**-20
    np.testing.assert_allclose(cumulative_link_nll(x, 1), -math.log(p), rtol=1e-6)


def test_order_of_logits() -> None:
    """Decreasing: NaN with its slope. Equal: no probability, inf for that class alone."""
    falling, equal = jnp.array([0.0, -1.0]), jnp.array([0.0, 0.0])
    value, slope = jax.value_and_grad(lambda x: jnp.sum(cumulative_link_nll(x, 0)))(falling)
    assert np.isnan(value)
    assert np.all(np.isnan(slope))
    losses = [float(cumulative_link_nll(equal, y)) for y in range(3)]
    np.testing.assert_allclose(losses, [math.log(2), np.inf, math.log(2)], rtol=1e-6)


def test_levels() -> None:
    levels = ordinal_levels([0, 2, 3, 4, -1], 4)
    expected = [[0, 0, 0], [1, 1, 0], [1, 1, 1], [np.nan] * 3, [np.nan] * 3]
    np.testing.assert_array_equal(levels, expected)
    np.testing.assert_array_equal(jnp.sum(ordinal_levels(CLASSES, 5), -1), CLASSES)


def test_refusals() -> None:
    x, y = jnp.zeros((2, 3)), jnp.array([0, 1])
    with pytest.raises(ValueError, match=r"kind must be one of 'logit', 'probit', 'cloglog'"):
        cumulative_link_nll(x, y, kind="log")  # type: ignore
    for loss in (cumulative_link_nll, coral_loss, corn_loss, squared_emd_loss):
        with pytest.raises(ValueError, match=r"where must exclude examples, of shape \[2\]"):
            loss(x, y, where=jnp.ones((2, 3), bool))
        with pytest.raises(ValueError, match=r"labels must be class numbers of shape \[2\]"):
            loss(x, jnp.zeros((2, 3), int))
        with pytest.raises(TypeError, match="labels must be integers"):
            loss(x, jnp.zeros(2))
        with pytest.raises(ValueError, match="axis must be one axis"):
            loss(x, y, axis=(0, 1))
    with pytest.raises(ValueError, match="two classes or more"):
        squared_emd_loss(x[:, :1], y)
    with pytest.raises(ValueError, match="num_classes must be two or more, got 1"):
        ordinal_levels(y, 1)
    with pytest.raises(TypeError, match="num_classes must be an integer"):
        ordinal_levels(y, 2.0)  # type: ignore
    with pytest.raises(TypeError, match="labels must be integers"):
        ordinal_levels(x, 3)
    assert jaxloss.coral_loss is coral_loss
