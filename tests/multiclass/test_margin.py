from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from jax.scipy.special import logsumexp

import jaxloss
from jaxloss import (
    make_fenchel_young_loss,
    multi_margin_loss,
    multiclass_hinge_loss,
    multiclass_perceptron_loss,
    multiclass_sparsemax_loss,
    softmax_cross_entropy,
)
from tests.laws import rules as laws
from tests.laws.values import evaluated, in_both_modes, single
from tests.multiclass.cases import SQUARES

LOSSES: list[Any] = [
    multi_margin_loss,
    functools.partial(multi_margin_loss, p=2),
    multiclass_hinge_loss,
    multiclass_perceptron_loss,
    multiclass_sparsemax_loss,
]
INF = np.inf

# Loss, scores, label, options, value, gradient in the scores.
Row = tuple[Any, tuple[float, ...], int, dict[str, Any], float, tuple[float, ...]]
ROWS: list[Row] = [
    (multi_margin_loss, (2, 1.5, 0), 0, {}, (1 - 2 + 1.5) / 3, (-1 / 3, 1 / 3, 0)),
    (multi_margin_loss, (2, 1.5, 0), 2, {}, (3 + 2.5) / 3, (1 / 3, 1 / 3, -2 / 3)),
    (
        multi_margin_loss,
        (2, 1.5, 0),
        2,
        {"margin": 0.25},
        (2.25 + 1.75) / 3,
        (1 / 3, 1 / 3, -2 / 3),
    ),
    (multi_margin_loss, (2, 1.5, 0), 2, {"p": 2}, (9 + 2.5**2) / 3, (6 / 3, 5 / 3, -11 / 3)),
    (multi_margin_loss, (2, 1), 0, {"p": 2}, 0, (0, 0)),
    (multi_margin_loss, (2, 1), 0, {"class_weights": (3.0, 1.0)}, 0, (-3 / 2, 3 / 2)),
    (multiclass_hinge_loss, (2, 1.5, 0), 0, {}, 1 - 2 + 1.5, (-1, 1, 0)),
    (multiclass_hinge_loss, (2, 1.5, 0), 1, {}, 1 + 2 - 1.5, (1, -1, 0)),
    (multiclass_hinge_loss, (2, 1.5, 0), 0, {"margin": 4.0}, 4 - 2 + 1.5, (-1, 1, 0)),
    (multiclass_hinge_loss, (2, 0.5, 0.5), 0, {"margin": 1.0}, 0, (0, 0, 0)),
    (multiclass_hinge_loss, (1, 0.5, 0.5, 0.5), 0, {}, 0.5, (-1, 1 / 3, 1 / 3, 1 / 3)),
    (multiclass_hinge_loss, (2, 1, 0), 0, {}, 0, (-1, 1, 0)),
    (multiclass_perceptron_loss, (2, 1.5, 0), 2, {}, 2, (1, 0, -1)),
    (multiclass_perceptron_loss, (2, 1.5, 0), 0, {}, 0, (0, 0, 0)),
    (multiclass_perceptron_loss, (0, 0, 0), 0, {}, 0, (-1, 1 / 2, 1 / 2)),
    (multiclass_sparsemax_loss, (2, 1.5, 0), 0, {}, (0.25**2 + 0.25**2) / 2, (-0.25, 0.25, 0)),
    # p = (3/4, 1/4, 0) and tau = 5/4.
    (
        multiclass_sparsemax_loss,
        (2, 1.5, 0),
        2,
        {},
        (1 + 9 / 16 + 1 / 16) / 2 + 5 / 4,
        (0.75, 0.25, -1),
    ),
    (multiclass_sparsemax_loss, (0, 0, 0), 0, {}, (4 / 9 + 2 / 9) / 2, (-2 / 3, 1 / 3, 1 / 3)),
    (multiclass_sparsemax_loss, (3, 1, 0), 0, {}, 0, (0, 0, 0)),
    (multiclass_sparsemax_loss, (1e30, 0), 1, {}, 1e30, (1, -1)),
    # A class of score -inf costs nothing, and everything where it is the right one.
    (multi_margin_loss, (0.5, 0, -INF), 0, {}, 0.5 / 3, (-1 / 3, 1 / 3, 0)),
    (multi_margin_loss, (0.5, 0, -INF), 0, {"p": 2}, 0.25 / 3, (-1 / 3, 1 / 3, 0)),
    (multi_margin_loss, (-INF, 0, -INF), 0, {}, INF, (-2 / 3, 1 / 3, 1 / 3)),
    (multiclass_hinge_loss, (0.5, 0, -INF), 0, {}, 0.5, (-1, 1, 0)),
    (multiclass_hinge_loss, (-INF, 0, -INF), 0, {}, INF, (-1, 1, 0)),
    (multiclass_hinge_loss, (0.5, -INF, -INF), 0, {}, 0, (0, 0, 0)),
    (multiclass_hinge_loss, (INF, 0, -INF), 0, {}, 0, (0, 0, 0)),
    (multiclass_perceptron_loss, (0.5, 1, -INF), 0, {}, 0.5, (-1, 1, 0)),
    (multiclass_perceptron_loss, (-INF, 1, 0), 0, {}, INF, (-1, 1, 0)),
    (multiclass_perceptron_loss, (INF, 0, 0), 0, {}, 0, (0, 0, 0)),
    (multiclass_perceptron_loss, (INF, INF, 0), 0, {}, 0, (-1, 1, 0)),
    (multiclass_hinge_loss, (INF, INF, 0), 0, {}, 1, (-1, 1, 0)),
    (multi_margin_loss, (INF, INF, 0), 0, {}, 1 / 3, (-1 / 3, 1 / 3, 0)),
    (multiclass_sparsemax_loss, (0, 0, -INF), 0, {}, 0.25, (-0.5, 0.5, 0)),
    (multiclass_sparsemax_loss, (-INF, 0, 0), 0, {}, INF, (-1, 0.5, 0.5)),
]


def row_id(row: Any) -> str:
    loss, scores, label, options, *_ = row
    return f"{loss.__name__}{scores}{label}{options or ''}"


@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "eager"])
@pytest.mark.parametrize("row", ROWS, ids=row_id)
def test_values(row: Row, compiled: bool) -> None:
    loss, scores, label, options, value, gradient = row
    with jax.disable_jit(not compiled):
        got, *derivatives = in_both_modes(loss, **options)(single(scores), label)
    np.testing.assert_allclose(got, value, rtol=1e-6)
    for derivative in derivatives:
        np.testing.assert_allclose(derivative, gradient, rtol=1e-6)


def drawn(shape: tuple[int, ...], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    scores = rng.normal(0, 2, shape).astype(np.float32)
    return scores, rng.integers(0, shape[-1], shape[:-1])


def slope(loss: Callable[..., Any], scores: Any, *args: Any, **options: Any) -> np.ndarray:
    return np.asarray(evaluated(loss, scores, *args, **options)[1][0])


@pytest.mark.parametrize("law", laws.LAWS, ids=lambda law: law.__name__)
def test_squares_keep_the_laws(law: Any) -> None:
    law(SQUARES[0])


def test_the_second_derivative_of_squares_is_the_active_one_at_the_margin() -> None:
    hessian = jax.jit(jax.hessian(functools.partial(multi_margin_loss, p=2)))
    np.testing.assert_array_equal(hessian(single([1, 0]), 0), [[1, -1], [-1, 1]])


@pytest.mark.parametrize("loss", LOSSES)
def test_any_batch_rank_and_any_axis(loss: Any) -> None:
    scores, labels = drawn((2, 3, 5))
    expected = loss(scores, labels)
    assert expected.shape == (2, 3)
    np.testing.assert_allclose(loss(np.moveaxis(scores, -1, 1), labels, axis=1), expected)
    np.testing.assert_allclose(jax.vmap(jax.vmap(loss))(scores, labels), expected, rtol=1e-6)
    first = loss(scores[0, 0], labels[0, 0])
    np.testing.assert_allclose(first, np.asarray(expected)[0, 0], rtol=1e-6)
    flat = scores.reshape(2, 15)
    several = loss(scores, labels[:, 0], axis=(1, 2))
    np.testing.assert_allclose(several, loss(flat, labels[:, 0]), rtol=1e-6)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_common_offset_costs_no_digits(loss: Any) -> None:
    scores, labels = drawn((64, 5))
    scores = np.round(scores * 64) / 64
    expected, wanted = evaluated(loss, scores, labels)
    for offset in (-1e5, 1e5):
        losses, slopes = evaluated(loss, single(scores + offset), labels)
        np.testing.assert_array_equal(losses, expected)
        np.testing.assert_array_equal(slopes, wanted)


@pytest.mark.parametrize("loss", LOSSES)
def test_one_nan_reaches_the_loss_and_the_right_class(loss: Any) -> None:
    for place in range(3):
        scores = np.zeros(3, np.float32)
        scores[place] = np.nan
        value, slopes = evaluated(loss, scores, 1)
        assert np.isnan(value)
        assert np.all(np.isnan(slopes[0])[[1, place]])


def test_excluded_classes_do_not_count() -> None:
    scores = single([[0.5, 0.0, 9.0], [0.5, 0.0, -INF]])
    there = np.array([[True, True, False], [True, True, True]])
    losses = multi_margin_loss(scores, np.array([0, 0]), where=there)
    np.testing.assert_allclose(losses, [0.5 / 2, 0.5 / 3], rtol=1e-6)


def test_class_weights_weigh_the_mean() -> None:
    scores, labels = np.zeros((2, 2), np.float32), np.array([0, 1])
    weights = single([3, 1])
    for loss, cost in zip(LOSSES, (0.5, 0.5, 1, 0, 0.25), strict=True):
        part = jaxloss.Mean.of(loss, scores, labels, class_weights=weights)
        assert part.total == 4 * cost
        assert part.weight == 4


@pytest.mark.parametrize("loss", LOSSES)
def test_bad_input_is_refused_by_name(loss: Any) -> None:
    scores, labels = drawn((4, 3))
    one_hot = np.eye(3, dtype=np.float32)[labels]
    with pytest.raises(ValueError, match=r"class numbers of shape \[4\].*labels float32\[4, 3\]"):
        loss(scores, one_hot)
    with pytest.raises(TypeError, match=r"labels must be integers.*float32"):
        loss(scores, labels.astype(np.float32))
    with pytest.raises(TypeError, match="scores must be floating-point, got scores int"):
        loss(scores.astype(int), labels)
    with pytest.raises(ValueError, match=r"class_weights must have shape \[3\]"):
        loss(scores, labels, class_weights=[1.0, 2.0])


@pytest.mark.parametrize("p", [0, 3, 1.5])
def test_other_powers_are_refused(p: Any) -> None:
    with pytest.raises(ValueError, match="p must be 1 or 2, got"):
        multi_margin_loss(jnp.zeros((1, 3)), jnp.array([0]), p=p)


def test_the_perceptron_is_a_hinge_without_margin() -> None:
    scores, labels = drawn((64, 5))
    ours, (slopes,) = evaluated(multiclass_perceptron_loss, scores, labels)
    losses, (wanted,) = evaluated(multiclass_hinge_loss, scores, labels, margin=0.0)
    np.testing.assert_array_equal(ours, losses)
    np.testing.assert_array_equal(slopes, wanted)


def test_of_two_classes_the_sum_is_half_the_largest() -> None:
    scores, labels = drawn((64, 2))
    largest, (slopes,) = evaluated(multiclass_hinge_loss, scores, labels)
    found, (wanted,) = evaluated(multi_margin_loss, scores, labels)
    np.testing.assert_allclose(found, 0.5 * np.asarray(largest), rtol=1e-6)
    np.testing.assert_allclose(wanted, 0.5 * np.asarray(slopes), rtol=1e-6)


def bisected(scores: np.ndarray) -> np.ndarray:
    """The projection onto the simplex, row by row, in float64."""
    x = scores.astype(np.float64)
    high = x.max(-1, keepdims=True)
    low = high - 1
    for _ in range(80):
        middle = (low + high) / 2
        enough = np.maximum(x - middle, 0).sum(-1, keepdims=True) >= 1
        low, high = np.where(enough, middle, low), np.where(enough, high, middle)
    return np.maximum(x - low, 0)


@pytest.mark.parametrize("scale", [1e-4, 0.03, 1.0, 30.0, 1e5])
@pytest.mark.parametrize("size", [2, 7, 300])
def test_sparsemax_is_the_projection(scale: float, size: int) -> None:
    scores, labels = drawn((32, size))
    scores = scores * np.float32(scale)
    p, hot = bisected(scores), np.eye(size)[labels]
    got, (slopes,) = evaluated(multiclass_sparsemax_loss, scores, labels)
    np.testing.assert_allclose(slopes, p - hot, rtol=0, atol=2e-7)
    losses = ((p - hot) * scores).sum(-1) - (p**2).sum(-1) / 2 + 1 / 2
    np.testing.assert_allclose(got, losses, rtol=1e-6, atol=1e-6)


def test_the_curvature_of_sparsemax_is_that_of_the_projection() -> None:
    scores = single([1, 0.75, 0.5, -3])
    support = np.array([1, 1, 1, 0])
    jacobian = np.diag(support) - np.outer(support, support) / 3
    forward = jax.jit(jax.hessian(multiclass_sparsemax_loss))
    reverse = jax.jit(jax.jacrev(jax.grad(multiclass_sparsemax_loss)))
    for label in range(4):
        curvature = forward(scores, label)
        np.testing.assert_allclose(curvature, jacobian, rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(reverse(scores, label), jacobian, atol=1e-7)


def test_sparsemax_costs_nothing_from_a_margin_of_1_on() -> None:
    gaps = np.array([0.0, 0.5, 0.999, 0.99999994, 1.0, 1.0000001, 2.0, 1e30, np.inf], np.float32)
    scores = np.stack([np.zeros_like(gaps), -gaps, -gaps - 1], -1)
    losses = np.asarray(multiclass_sparsemax_loss(scores, np.zeros(gaps.shape, int)))
    np.testing.assert_array_equal(losses == 0, gaps >= 1)
    # (1 - gap)^2 / 4, whose last digits are those of the scores.
    exact = np.maximum(1 - np.float64(gaps), 0) ** 2 / 4
    np.testing.assert_allclose(losses, exact, rtol=1e-6)


def test_sparsemax_of_many_classes_keeps_its_digits() -> None:
    """A sum of 30000 probabilities is near 1, and each is far below the last digit of 1."""
    scores = drawn((2, 30000))[0] * np.float32(1e-6)
    p = bisected(scores)
    slopes = slope(multiclass_sparsemax_loss, scores, np.array([0, 1]))
    np.testing.assert_allclose(slopes[:, 2:], p[:, 2:], rtol=1e-5)


cross_entropy = make_fenchel_young_loss(logsumexp)


def test_fenchel_young_of_logsumexp_is_cross_entropy() -> None:
    scores = drawn((2, 3, 5))[0]
    targets = single(scipy.special.softmax(drawn((2, 3, 5), 1)[0], -1))
    expected, slopes = evaluated(softmax_cross_entropy, scores, targets)
    np.testing.assert_allclose(cross_entropy(scores, targets), expected, rtol=1e-5)
    compiled, found = evaluated(cross_entropy, scores, targets)
    np.testing.assert_allclose(compiled, expected, rtol=1e-5)
    np.testing.assert_allclose(jax.vmap(cross_entropy)(scores, targets), expected, rtol=1e-5)
    np.testing.assert_allclose(found, slopes, atol=1e-6)


def test_fenchel_young_of_the_maximum_is_the_perceptron() -> None:
    scores, labels = drawn((6, 4))
    hot = np.eye(4, dtype=np.float32)[labels]
    losses = make_fenchel_young_loss(jnp.max)(scores, hot)
    expected = multiclass_perceptron_loss(scores, labels)
    np.testing.assert_allclose(losses, expected, rtol=1e-6, atol=1e-6)


def test_fenchel_young_hands_on_what_its_function_takes() -> None:
    def smoothed(scores: jax.Array, temperature: Any, *, times: Any) -> jax.Array:
        return times * temperature * logsumexp(scores / temperature)

    loss = make_fenchel_young_loss(smoothed)
    value = loss(jnp.zeros(2), jnp.zeros(2), 3.0, times=2.0)
    np.testing.assert_allclose(value, 2 * 3 * np.log(2), rtol=1e-6)


def test_fenchel_young_masks_weighs_and_reduces() -> None:
    scores = single([[0, 0, np.nan], [np.nan, np.nan, np.nan], [0, 0, 0]])
    targets = single([[1, 0, np.nan], [np.nan, 0, 0], [0, 1, 0]])
    there = np.array([[True, True, False], [False] * 3, [True] * 3])
    options = {"where": there, "weights": single([3, np.nan, 1]), "reduction": "mean"}
    mean, (slopes,) = evaluated(cross_entropy, scores, targets, **options)
    np.testing.assert_allclose(mean, (3 * np.log(2) + np.log(3)) / 4, rtol=1e-6)
    np.testing.assert_allclose(slopes[0], [-3 / 8, 3 / 8, 0], rtol=1e-6)
    np.testing.assert_array_equal(slopes[1], [0, 0, 0])


def test_fenchel_young_refuses_by_name() -> None:
    zeros = np.zeros((4, 3), np.float32)
    with pytest.raises(ValueError, match=r"scores float32\[4, 3\], targets float32\[4\]"):
        cross_entropy(zeros, zeros[:, 0])
    with pytest.raises(TypeError, match="scores must be floating-point"):
        cross_entropy(zeros.astype(int), zeros)
    with pytest.raises(ValueError, match="reduction must be one of"):
        cross_entropy(zeros, zeros, reduction="avg")
