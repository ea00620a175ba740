from __future__ import annotations

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxloss
from jaxloss import (
    Mean,
    asymmetric_loss,
    binary_cross_entropy,
    hinge_loss,
    huber_loss,
    perceptron_loss,
    sigmoid_binary_cross_entropy,
    sigmoid_focal_loss,
    soft_margin_loss,
    sparsemax_loss,
    squared_hinge_loss,
)
from tests.laws.compiling import as_users
from tests.laws.values import Row, check, evaluated, row_id, single

LOG3 = math.log(3.0)  # of which the sigmoid is 3/4
AT = (LOG3, 1.0), (LOG3, 0.0)
YES, NO = -math.log(3 / 4), -math.log(1 / 4)
M = 3 / 4 - 1 / 4

ROWS: list[Row] = [
    (sigmoid_binary_cross_entropy, AT[0], {}, YES, 3 / 4 - 1),
    (sigmoid_binary_cross_entropy, AT[1], {}, NO, 3 / 4),
    (sigmoid_binary_cross_entropy, (LOG3, 0.5), {}, (YES + NO) / 2, 1 / 4),
    (sigmoid_binary_cross_entropy, AT[0], {"pos_weight": 5.0}, 5 * YES, -5 / 4),
    (sigmoid_binary_cross_entropy, AT[1], {"pos_weight": 5.0}, NO, 3 / 4),
    (
        sigmoid_binary_cross_entropy,
        AT[0],
        {"label_smoothing": 0.25},
        0.875 * YES + 0.125 * NO,
        3 / 4 - 0.875,
    ),
    (sigmoid_binary_cross_entropy, (1e30, 0.0), {}, 1e30, 1),
    (sigmoid_binary_cross_entropy, (-80.0, 0.0), {}, math.exp(-80), math.exp(-80)),
    (binary_cross_entropy, (0.75, 1.0), {}, YES, -4 / 3),
    (binary_cross_entropy, (0.75, 0.0), {}, NO, 4),
    (binary_cross_entropy, (0.75, 0.5), {}, (YES + NO) / 2, (4 - 4 / 3) / 2),
    (binary_cross_entropy, (0.75, 1.0), {"pos_weight": 5.0}, 5 * YES, -20 / 3),
    (binary_cross_entropy, (0.0, 0.0), {}, 0, 1),
    (binary_cross_entropy, (1.0, 1.0), {}, 0, -1),
    (binary_cross_entropy, (0.0, 1.0), {}, math.inf, -math.inf),
    (binary_cross_entropy, (1.0, 0.0), {}, math.inf, math.inf),
    (binary_cross_entropy, (1e-30, 1.0), {}, 30 * math.log(10), -1e30),
    (binary_cross_entropy, (1e-30, 0.0), {}, 1e-30, 1),
    (binary_cross_entropy, (0.0, 1.0), {"epsilon": 0.25}, math.log(4), -4),
    (binary_cross_entropy, (1.0, 1.0), {"epsilon": 0.25}, YES, -4 / 3),
    (sigmoid_focal_loss, AT[0], {}, YES / 16, -(1 / 64 + 2 * 3 / 64 * YES)),
    (sigmoid_focal_loss, AT[1], {}, 9 / 16 * NO, 27 / 64 + 2 * 9 / 64 * NO),
    (sigmoid_focal_loss, AT[0], {"gamma": 1.0}, YES / 4, -(1 / 16 + 3 / 16 * YES)),
    (sigmoid_focal_loss, AT[0], {"gamma": 0.5}, YES / 2, -(1 / 8 + 3 / 16 * YES)),
    (sigmoid_focal_loss, AT[0], {"gamma": 0.0}, YES, -1 / 4),
    (
        sigmoid_focal_loss,
        AT[0],
        {"alpha": 0.25, "gamma": 1.0},
        YES / 16,
        -(1 / 16 + 3 / 16 * YES) / 4,
    ),
    (sigmoid_focal_loss, AT[1], {"alpha": 0.25, "gamma": 0.0}, 3 / 4 * NO, 9 / 16),
    (asymmetric_loss, AT[0], {}, YES / 4, -(1 / 16 + 3 / 16 * YES)),
    (
        asymmetric_loss,
        AT[1],
        {"clip": 0.25, "gamma_negative": 2.0},
        -(M**2) * math.log(1 - M),
        3 / 16 * (-2 * M * math.log(1 - M) + M**2 / (1 - M)),
    ),
    (asymmetric_loss, (-LOG3, 0.0), {"clip": 0.3}, 0, 0),
    (soft_margin_loss, (LOG3, 1.0), {}, YES, -1 / 4),
    (soft_margin_loss, (LOG3, -1.0), {}, NO, 3 / 4),
    (soft_margin_loss, (-1e30, 1.0), {}, 1e30, -1),
    (hinge_loss, (0.25, 1.0), {}, 0.75, -1),
    (hinge_loss, (0.25, -1.0), {}, 1.25, 1),
    (hinge_loss, (0.25, 0.0), {}, 1.25, 1),
    (hinge_loss, (2.0, 1.0), {}, 0, 0),
    (squared_hinge_loss, (0.25, 1.0), {}, 0.75**2, -1.5),
    (squared_hinge_loss, (0.25, 0.0), {}, 1.25**2, 2.5),
    (squared_hinge_loss, (2.0, 1.0), {}, 0, 0),
    (perceptron_loss, (0.25, 1.0), {}, 0, 0),
    (perceptron_loss, (0.25, 0.0), {}, 0.25, 1),
    (perceptron_loss, (-3.0, 1.0), {}, 3, -1),
    (sparsemax_loss, (0.5, 1.0), {}, 0.5**2 / 4, -0.25),
    (sparsemax_loss, (0.5, 0.0), {}, 1.5**2 / 4, 0.75),
    (sparsemax_loss, (2.0, 1.0), {}, 0, 0),
    (sparsemax_loss, (2.0, 0.0), {}, 2, 1),
]


@pytest.mark.parametrize("row", ROWS, ids=row_id)
def test_values(row: Row) -> None:
    check(row)


LOGITS = single([-1e30, -104.0, -17.0, -2.5, -1e-30, 0.0, 0.3, 1.0, 4.0, 80.0, 1e5])
SOFT = single([0.0, 1.0, 0.25, 0.9, 0.5, 1.0, 0.0, 1e-6, 0.75, 1.0, 0.0])
SIGNS = np.where(SOFT > 0.5, 1, -1)
HARD = np.round(SOFT)


def derivatives(loss: Any, *args: Any, **options: Any) -> tuple[Any, Any]:
    """Losses, and the derivative of their sum in the first argument."""
    losses, (slope,) = evaluated(loss, *args, **options)
    return losses, slope


def agree(ours: Any, theirs: Any, rtol: float = 1e-6) -> None:
    for mine, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(mine, other, rtol=rtol, atol=1e-37)


@pytest.mark.parametrize("label", [0.0, 0.5, 1.0])
def test_infinite_logits_have_their_limits(label: float) -> None:
    """PyTorch and optax give NaN, even where the label agrees."""
    logits, labels = single([np.inf, -np.inf]), single([label, label])
    wrong = single([1 - label, label])
    cost = np.where(wrong > 0, np.inf, 0)
    for options in ({}, {"pos_weight": 3.0}):
        losses, slope = derivatives(sigmoid_binary_cross_entropy, logits, labels, **options)
        np.testing.assert_array_equal(losses, cost)
        weight = options.get("pos_weight", 1.0)
        np.testing.assert_array_equal(slope, [1 - label, -weight * label])
    for gamma in (0.0, 0.5, 2.0):
        losses, slope = derivatives(
            sigmoid_focal_loss, logits, labels, gamma=np.array(gamma, np.float32)
        )
        np.testing.assert_array_equal(losses, cost)
        agree(slope, single([1.0, -1.0]) * wrong * wrong**gamma)
    losses, slope = derivatives(asymmetric_loss, logits, labels, clip=0.0)
    np.testing.assert_array_equal(losses, cost)
    assert np.all(np.isfinite(slope))
    losses, slope = derivatives(soft_margin_loss, logits, labels)
    assert np.all(np.isfinite(slope))


def test_labels_keep_their_digits() -> None:
    """optax casts 0.999 to bfloat16, which is 1."""
    logits, labels = np.array([5.0], jnp.bfloat16), single([0.999])
    exact = math.log1p(math.exp(-5)) + (1 - 0.999) * 5
    assert sigmoid_binary_cross_entropy(logits, labels)[0] == pytest.approx(exact, rel=1e-4)


def test_positive_weight_counts_positives() -> None:
    weighted = sigmoid_binary_cross_entropy(LOGITS, SOFT, pos_weight=2.0)
    plain = sigmoid_binary_cross_entropy(LOGITS, SOFT)
    positives = sigmoid_binary_cross_entropy(LOGITS, np.ones_like(SOFT))
    agree(weighted, plain + SOFT * positives)
    questions = sigmoid_binary_cross_entropy(
        LOGITS[:, None], SOFT[:, None], pos_weight=single([1.0, 2.0])
    )
    agree(questions, np.stack([plain, weighted], 1))


@pytest.mark.parametrize("loss", [sigmoid_binary_cross_entropy, binary_cross_entropy])
def test_smoothing_moves_labels_towards_a_half(loss: Any) -> None:
    p = np.linspace(0.05, 0.95, 11, dtype=np.float32)
    towards, half = np.float32(0.8) * SOFT + np.float32(0.1), np.full_like(p, 0.5)
    agree(loss(p, SOFT, label_smoothing=0.2), loss(p, towards), rtol=3e-6)
    agree(loss(p, SOFT, label_smoothing=1.0), loss(p, half))


def test_it_is_softmax_cross_entropy_of_two_classes() -> None:
    logits = np.stack([np.zeros_like(LOGITS), LOGITS], -1)
    labels = np.stack([1 - SOFT, SOFT], -1)
    agree(sigmoid_binary_cross_entropy(LOGITS, SOFT), jaxloss.softmax_cross_entropy(logits, labels))


def of_sigmoid(x: jax.Array, y: jax.Array) -> jax.Array:
    return binary_cross_entropy(jax.nn.sigmoid(x), y)


def test_it_is_the_likelihood_of_a_probability() -> None:
    x = np.linspace(-8.0, 8.0, 33, dtype=np.float32)
    for label in (0.0, 0.3, 1.0):
        y = np.float32(label)
        ours = derivatives(of_sigmoid, x, y)
        agree(ours, derivatives(sigmoid_binary_cross_entropy, x, y), rtol=4e-4)


def test_focal_loss_of_probabilities() -> None:
    """The numbers of the logits, and those next to 0 and 1, of which logits lose the digits."""
    x = np.linspace(-4, 4, 9).astype(np.float32)
    p = np.asarray(jax.nn.sigmoid(x.astype(np.float64)), np.float32)
    for y in (0.0, 0.3, 1.0):
        labels = np.full_like(x, y)
        options: dict[str, Any] = {"gamma": np.float32(1.5), "alpha": np.float32(0.25)}
        of_logits, (slope,) = evaluated(sigmoid_focal_loss, x, labels, **options)
        losses, (moved,) = evaluated(sigmoid_focal_loss, p, labels, apply_sigmoid=False, **options)
        # p was rounded: 1 - p of 0.982 is off by 1.7e-6 of itself, and its power 2.5 in both.
        np.testing.assert_allclose(losses, of_logits, rtol=5e-6)
        np.testing.assert_allclose(moved * p * (1 - p), slope, rtol=5e-6, atol=1e-6)
    p, labels = single([1e-30, 0.0, 1.0, 0.0, 1.0]), np.array([0, 0, 1, 1, 0])
    losses, (slope,) = evaluated(sigmoid_focal_loss, p, labels, gamma=1.0, apply_sigmoid=False)
    np.testing.assert_array_equal(losses, [0, 0, 0, np.inf, np.inf])
    np.testing.assert_array_equal(slope[1:], [0, 0, -np.inf, np.inf])
    outside = sigmoid_focal_loss(single([-0.1, 1.1, np.nan]), np.ones(3), apply_sigmoid=False)
    assert np.all(np.isnan(outside))


def test_a_mean_over_positives() -> None:
    """What detectors divide by; microbatches add up to it, whatever they hold."""
    x = single(np.random.default_rng(0).normal(size=(6, 4)))
    y = np.random.default_rng(1).integers(0, 2, (6, 4))
    y[0] = 0
    known = np.random.default_rng(2).uniform(size=(6, 4)) < 0.7
    each = np.asarray(sigmoid_focal_loss(x, y, alpha=0.25))
    call = functools.partial(sigmoid_focal_loss, alpha=0.25, mean_over="positives")
    np.testing.assert_allclose(call(x, y, reduction="mean"), each.sum() / y.sum(), rtol=1e-6)
    np.testing.assert_allclose(call(x, y), each, rtol=1e-7)
    found = call(x, y, where=known, weights=np.float32(3), reduction="mean")
    np.testing.assert_allclose(found, (each * known).sum() / (y * known).sum(), rtol=1e-6)
    parts = [Mean.of(call, x[i : i + 1], y[i : i + 1], where=known[i : i + 1]) for i in range(6)]
    np.testing.assert_allclose(sum(parts[1:], parts[0]).value(), found, rtol=1e-6)
    assert parts[0].value() == 0
    other: Any = "positive"
    with pytest.raises(ValueError, match="mean_over must be one of 'all', 'positives'"):
        call(x, y, mean_over=other)


def test_focal_loss_without_focus_is_cross_entropy() -> None:
    agree(
        derivatives(sigmoid_focal_loss, LOGITS, SOFT, gamma=0.0),
        derivatives(sigmoid_binary_cross_entropy, LOGITS, SOFT),
    )


@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.0, 3.0, 5.0, 7.0])
def test_whole_powers_are_powers(gamma: float) -> None:
    """The shortcut for whole exponents against the general branch, which an array takes."""
    x, y = np.append(LOGITS, np.float32(0)), np.append(HARD, np.float32(0))
    mixed = np.full_like(x, gamma)
    mixed[-1] = 0.5
    for loss, name in ((sigmoid_focal_loss, "gamma"), (asymmetric_loss, "gamma_negative")):
        whole = derivatives(loss, LOGITS, HARD, **{name: np.array(gamma, np.float32)})
        general = derivatives(loss, x, y, **{name: mixed})
        agree(whole, tuple(part[:-1] for part in general), rtol=2e-6)


def test_second_derivatives_at_a_whole_power() -> None:
    """In gamma too, of which the shortcut for gamma = 2 does not depend."""
    value = jax.jit(jax.hessian(lambda v: sigmoid_focal_loss(v[0], v[1], gamma=v[2])))
    at, near = single([[0.4, 0.3, 2.0], [0.4, 0.3, 2.0 + 1e-6]])
    np.testing.assert_allclose(value(at), value(near), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "loss",
    [sigmoid_binary_cross_entropy, sigmoid_focal_loss, asymmetric_loss, soft_margin_loss],
)
def test_nothing_is_lost_at_saturation(loss: Any) -> None:
    options = [{}]
    if loss is sigmoid_focal_loss:
        options += [{"gamma": g} for g in (0.0, 0.5, 1.0)]
    if loss is asymmetric_loss:
        options += [{"gamma_negative": 0.5, "gamma_positive": 0.5}, {"clip": 0.0}]
    x = np.tile(single([-1e30, -200.0, -104.0, 0.0, 104.0, 200.0, 1e30]), 2)
    y = np.repeat(single([0.0, 1.0]), x.size // 2)

    @jax.jit
    def all_of(x: jax.Array, y: jax.Array, option: dict[str, float]) -> Any:
        def slopes(x: jax.Array) -> jax.Array:
            return jax.grad(lambda x: jnp.sum(loss(x, y, **option)))(x)

        def along(function: Any) -> Any:
            return lambda x: jax.jvp(function, (x,), (jnp.ones_like(x),))[1]

        backward = jax.grad(lambda x: jnp.sum(slopes(x)))(x)
        return slopes(x), backward, along(along(lambda x: loss(x, y, **option)))(x)

    for option in options:
        for derivative in all_of(x, y, option):
            assert np.all(np.isfinite(derivative))


def test_asymmetric_loss_without_asymmetry_is_focal() -> None:
    focal = derivatives(sigmoid_focal_loss, LOGITS, HARD, gamma=2.0)
    options = {"gamma_negative": 2.0, "gamma_positive": 2.0, "clip": 0.0}
    agree(derivatives(asymmetric_loss, LOGITS, HARD, **options), focal, rtol=2e-6)


def test_asymmetric_loss_leaves_easy_negatives_alone() -> None:
    losses, slope = derivatives(asymmetric_loss, single([-3.0, -2.9]), np.zeros(2))
    p = 1 / (1 + math.exp(-np.float32(-2.9)))
    m = p - float(np.float32(0.05))
    assert losses[0] == slope[0] == 0
    assert losses[1] == pytest.approx(-(m**4) * math.log1p(-m), rel=1e-6)
    assert slope[1] > 0


@pytest.mark.parametrize(
    "loss",
    [hinge_loss, squared_hinge_loss, perceptron_loss, soft_margin_loss, sparsemax_loss],
)
def test_targets_may_be_signs_bits_or_booleans(loss: Any) -> None:
    """optax's hinge gives {0, 1} targets a constant 1 for every negative, without gradient."""
    expected = derivatives(loss, LOGITS, SIGNS)
    bits = SIGNS > 0
    for targets in (bits, bits.astype(np.int32), SIGNS.astype(np.float32), 3 * SIGNS):
        agree(derivatives(loss, LOGITS, targets), expected)


def test_a_tie_still_trains() -> None:
    """With zero weights all scores of a perceptron are 0."""
    slopes = [jax.jit(jax.grad(loss)) for loss in (hinge_loss, perceptron_loss)]
    curves = [jax.jit(jax.grad(jax.grad(loss))) for loss in (squared_hinge_loss, sparsemax_loss)]
    for y in (1.0, -1.0):
        assert slopes[0](y, y) == -y
        assert slopes[1](0.0, y) == -y
        assert curves[0](y, y) == 2
        assert curves[1](0.5 * y, y) == 0.5


def test_soft_margin_is_cross_entropy_of_signs() -> None:
    agree(
        derivatives(soft_margin_loss, LOGITS, SIGNS),
        derivatives(sigmoid_binary_cross_entropy, LOGITS, SOFT > 0.5),
    )


def test_sparsemax_is_half_a_huber() -> None:
    x = np.linspace(-4.0, 0.999, 41, dtype=np.float32)
    agree(sparsemax_loss(x, 1), 0.5 * huber_loss(1 - x, delta=2.0), rtol=2e-6)


FLOATS = st.floats(-200, 200, width=32)
UNIT = st.floats(0, 1, width=32)


@settings(max_examples=50)
@given(FLOATS, st.integers(0, 2**12))
def test_yes_of_a_logit_is_no_of_its_opposite(x: float, n: int) -> None:
    # 1 - y is exact.
    y = np.float32(n / 2**12)
    for loss in (sigmoid_binary_cross_entropy, sigmoid_focal_loss):
        mirrored = loss(np.float32(-x), 1 - y)
        # Of two results, each within 8 eps.
        np.testing.assert_allclose(loss(np.float32(x), y), mirrored, rtol=16 * 2.0**-23)


@as_users
def every_loss(logit: jax.Array, label: jax.Array) -> list[jax.Array]:
    return [
        loss(logit, label)
        for loss in (
            sigmoid_binary_cross_entropy,
            sigmoid_focal_loss,
            asymmetric_loss,
            hinge_loss,
            squared_hinge_loss,
            perceptron_loss,
            soft_margin_loss,
            sparsemax_loss,
        )
    ]


@settings(max_examples=50)
@given(FLOATS, UNIT)
def test_losses_are_never_negative(x: float, y: float) -> None:
    assert all(loss >= 0 for loss in every_loss(np.float32(x), np.float32(y)))


ROWS_OF_THREE, LABELS = np.zeros((4, 3), np.float32), np.array([0, 2, 1, 0], np.int32)
REFUSED = [
    (sigmoid_binary_cross_entropy, "softmax_cross_entropy_with_integer_labels"),
    (sigmoid_focal_loss, "softmax_focal_loss"),
    (asymmetric_loss, "softmax_focal_loss"),
    (binary_cross_entropy, "nll_loss"),
    (soft_margin_loss, "softmax_cross_entropy_with_integer_labels"),
    (hinge_loss, "multiclass_hinge_loss"),
    (squared_hinge_loss, r"multi_margin_loss\(p=2\)"),
    (perceptron_loss, "multiclass_perceptron_loss"),
    (sparsemax_loss, "multiclass_sparsemax_loss"),
]


@pytest.mark.parametrize(("loss", "wanted"), REFUSED)
def test_wrong_formats_are_refused_with_the_right_loss(loss: Any, wanted: str) -> None:
    with pytest.raises(ValueError, match=rf"name one of 3 classes: {wanted}"):
        loss(ROWS_OF_THREE, LABELS)
    with pytest.raises(ValueError, match=r"drop the last axis of \w+: \w+\[\.\.\., 0\]"):
        loss(ROWS_OF_THREE[:, :1], LABELS)
    with pytest.raises(ValueError, match=r"drop the last axis of \w+: \w+\[\.\.\., 0\]"):
        loss(ROWS_OF_THREE[:, 0], LABELS[:, None])
    with pytest.raises(ValueError, match=r"several classes: multi_hot"):
        loss(ROWS_OF_THREE, LABELS.reshape(4, 1).repeat(2, 1))
    with pytest.raises(TypeError, match=r"must be floating-point and come before"):
        loss(LABELS, np.zeros(4))
    with pytest.raises(TypeError, match=r"must be floating-point, got \w+ int32\[4\]"):
        loss(LABELS, LABELS)
    with pytest.raises(ValueError, match=r"expected equal shapes"):
        loss(np.zeros(3), np.zeros(4))


def test_confident_examples_have_second_derivatives() -> None:
    @jax.jit
    def curvature(x: Any) -> Any:
        return jax.hessian(sigmoid_focal_loss)(x, 1.0)

    # q^2 log(1 + exp(-x)) is exp(-3 x) there, whose square root alone is in range at x = 50.
    assert curvature(20.0) == pytest.approx(9 * math.exp(-60), rel=1e-6)
    assert [float(curvature(x)) for x in (50.0, 70.0, 90.0, 1e30)] == [0, 0, 0, 0]


def test_second_derivatives_in_labels_and_clip() -> None:
    # At a label of 1 the slope is -q (x + 1), and its own slope 2 x, also where q underflows.
    in_label = jax.hessian(lambda y: sigmoid_focal_loss(1e4, y, gamma=1.0))
    assert in_label(1.0) == 2e4
    # -m log(1 - m) has the second derivative 2 / (1 - m) + m / (1 - m)^2, here at m = 1/2.
    in_clip = jax.hessian(lambda c: asymmetric_loss(0.0, 0.0, gamma_negative=1.0, clip=c))
    assert in_clip(0.0) == pytest.approx(6, rel=1e-6)
