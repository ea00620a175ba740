"""Overlap losses: values by hand, optax's numbers, masks of pixels, theorems."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from jax.test_util import check_grads

from jaxloss import (
    binary_dice_loss,
    dice_loss,
    focal_tversky_loss,
    generalized_dice_loss,
    jaccard_loss,
    lovasz_softmax_loss,
    matthews_correlation_loss,
    multiclass_generalized_dice_loss,
    tversky_loss,
)
from tests.laws.values import evaluated, single

# Two pixels, two classes. Class 0: I = 0.9, FP = 0.2, FN = 0.1; class 1: 0.8, 0.1, 0.2.
P = single([[[[0.9, 0.1], [0.2, 0.8]]]])
MAP = np.array([[[0, 1]]])
PROBABILITIES: dict[str, Any] = {"apply_softmax": False}
MULTICLASS = (dice_loss, tversky_loss, focal_tversky_loss, jaccard_loss)
IMAGES = single(np.random.default_rng(0).normal(0, 2, (2, 4, 5, 3)))
LABELS = np.random.default_rng(1).integers(0, 3, (2, 4, 5)).astype(np.int32)
ONE_HOT = single(np.eye(3)[LABELS])


@pytest.mark.parametrize(
    ("loss", "options", "classes"),
    [
        (dice_loss, {}, (0.15 / 2.05, 0.15 / 1.95)),
        (dice_loss, {"smooth": 0.0}, (0.15 / 1.05, 0.15 / 0.95)),
        (dice_loss, {"class_weights": [2.0, 3.0]}, (2 * 0.15 / 2.05, 3 * 0.15 / 1.95)),
        (tversky_loss, {"alpha": 0.3, "beta": 0.7}, (0.13 / 2.03, 0.17 / 1.97)),
        (tversky_loss, {"alpha": 1.0, "beta": 0.0, "smooth": 0.0}, (0.2 / 1.1, 0.1 / 0.9)),
        (focal_tversky_loss, {"gamma": 2.0}, ((0.15 / 2.05) ** 2, (0.15 / 1.95) ** 2)),
        (jaccard_loss, {"smooth": 0.0}, (0.3 / 1.2, 0.3 / 1.1)),
    ],
)
def test_values(loss: Any, options: Any, classes: Any) -> None:
    for targets in (MAP, single(np.eye(2)[MAP])):
        call = functools.partial(loss, P, targets, **options, **PROBABILITIES)
        np.testing.assert_allclose(call(), [np.mean(classes)], rtol=1e-6)
        np.testing.assert_allclose(call(class_reduction="sum"), [np.sum(classes)], rtol=1e-6)
        np.testing.assert_allclose(call(class_reduction="none"), [classes], rtol=1e-6)
        np.testing.assert_allclose(call(ignore_background=True), classes[1:], rtol=1e-6)


def test_squares_and_another_smoothing_of_the_denominator() -> None:
    # Of class 0: p^2 is 0.81 + 0.04, t^2 is 1, p t is 0.9; of class 1: 0.01 + 0.64, 1, 0.8.
    call = functools.partial(dice_loss, P, MAP, class_reduction="none", **PROBABILITIES)
    found = call(squared_predictions=True, smooth=0.0)
    np.testing.assert_allclose(found, [[1 - 1.8 / 1.85, 1 - 1.6 / 1.65]], rtol=1e-6)
    found = call(squared_predictions=True, smooth=0.25, smooth_denominator=0.5)
    np.testing.assert_allclose(found, [[1 - 2.3 / 2.85, 1 - 2.1 / 2.65]], rtol=1e-6)
    found = call(smooth=0.25, smooth_denominator=0.5)
    np.testing.assert_allclose(found, [[1 - 2.3 / 3.1, 1 - 2.1 / 2.9]], rtol=1e-6)
    # A smaller smoothing of the denominator makes a loss below 0.
    found = call(smooth=0.5, smooth_denominator=0.25)
    np.testing.assert_allclose(found, [[1 - 2.8 / 2.6, 1 - 2.6 / 2.4]], rtol=1e-6)
    squares = jaccard_loss(P, MAP, smooth=0.0, squared_predictions=True, **PROBABILITIES)
    np.testing.assert_allclose(squares, [(0.05 / 0.95 + 0.05 / 0.85) / 2], rtol=1e-6)


def test_logarithms() -> None:
    for loss in (dice_loss, tversky_loss, jaccard_loss):
        call = functools.partial(loss, P, MAP, class_reduction="none", **PROBABILITIES)
        logs = -np.log1p(-np.asarray(call()))
        np.testing.assert_allclose(call(log_loss=True), logs, rtol=1e-6)
    one = functools.partial(binary_dice_loss, P[..., 0], 1 - MAP, apply_sigmoid=False)
    np.testing.assert_allclose(one(log_loss=True), -np.log1p(-np.asarray(one())), rtol=1e-6)
    # What is found of a nearly missed class has its logarithm, also where its share is below the
    # least number of float32.
    x, labels = single([[[60.0, 0.0], [60.0, 0.0]]]), np.array([[1, 1]])
    options: dict[str, Any] = {"smooth": 0.0, "log_loss": True, "class_reduction": "none"}
    losses, (slope,) = evaluated(dice_loss, x, labels, **options)
    np.testing.assert_allclose(losses[0, 1], 60 - np.log(2), rtol=1e-6)
    assert np.all(np.isfinite(slope[0, :, 1]))
    assert losses[0, 0] == np.inf


def test_the_mean_over_present_classes() -> None:
    # The labels of the image have classes 0 and 2.
    p, labels = single([[[0.5, 0.25, 0.25], [0.25, 0.25, 0.5]]]), np.array([[0, 2]])
    for loss in MULTICLASS:
        call = functools.partial(loss, p, labels, **PROBABILITIES)
        each = np.asarray(call(class_reduction="none"))[0]
        np.testing.assert_allclose(call(class_reduction="present"), [each[[0, 2]].mean()])
        found = call(class_reduction="present", ignore_background=True, class_weights=[1, 1, 3])
        np.testing.assert_allclose(found, [3 * each[2]], rtol=1e-6)
    soft = np.zeros((1, 2, 3), np.float32)
    assert dice_loss(p, soft, class_reduction="present", **PROBABILITIES) == 0


def test_weights_of_the_sums_of_classes() -> None:
    # Class 0 has two pixels of three: I = 1.7, P = 2.0; class 1: I = 0.6, P = 1.0.
    p = single([[[0.9, 0.1], [0.6, 0.4], [0.8, 0.2]]])
    p[0, 1] = [0.3, 0.7]
    labels = np.array([[0, 1, 0]])
    found, whole = np.array([1.7, 0.7]), np.array([2.0 + 2, 1.0 + 1])
    weightings: dict[Any, Any] = {"square": (0.25, 1), "simple": (0.5, 1), "uniform": (1, 1)}
    for weighting, w in weightings.items():
        for smooth in (0.0, 0.5):
            share = (2 * (w @ found) + 2 * smooth) / (w @ whole + 2 * smooth)
            losses = generalized_dice_loss(
                p, labels, class_weighting=weighting, smooth=smooth, apply_softmax=False
            )
            np.testing.assert_allclose(losses, [1 - share], rtol=1e-5)
    alone = generalized_dice_loss(p, labels, ignore_background=True, apply_softmax=False)
    np.testing.assert_allclose(alone, [1 - 1.4 / 2], rtol=1e-6)
    # A class without a label weighs as the rarest that has one.
    absent = single([[[0.9, 0.0, 0.1], [0.9, 0.0, 0.1], [0.9, 0.0, 0.1]]])
    losses = generalized_dice_loss(absent, np.zeros((1, 3), int), apply_softmax=False)
    np.testing.assert_allclose(losses, [1 - 5.4 / (5.7 + 0.3)], rtol=1e-6)


def test_matthews_correlation() -> None:
    # Class 0: TP 0.9, FP 0.2, FN 0.1, TN 0.8; class 1: TP 0.8, FP 0.1, FN 0.2, TN 0.9.
    coefficient = (0.9 * 0.8 - 0.2 * 0.1) / np.sqrt(1.1 * 1.0 * 0.9 * 1.0)
    call = functools.partial(matthews_correlation_loss, P, MAP, **PROBABILITIES)
    for over in ({}, {"ignore_background": True}, {"class_reduction": "present"}):
        np.testing.assert_allclose(call(**over), [1 - coefficient], rtol=1e-6)
    np.testing.assert_allclose(call(class_weights=[1, 3]), [2 * (1 - coefficient)], rtol=1e-6)
    right = single(np.eye(2)[MAP])
    assert matthews_correlation_loss(right, MAP, **PROBABILITIES) == 0
    np.testing.assert_allclose(matthews_correlation_loss(1 - right, MAP, **PROBABILITIES), [2])


def test_a_guess_has_no_correlation() -> None:
    """The same prediction for all pixels costs 1, however frequent the class is."""
    labels = (np.arange(40) < 3).astype(int)[None]
    for p in (0.075, 0.5, 0.925):
        guess = np.full((1, 40, 1), p, np.float32)
        found = matthews_correlation_loss(guess, labels, apply_softmax=False)
        np.testing.assert_allclose(found, [1], atol=2e-6)
    # Where labels or predictions are of one kind there is none to be had, and no slope.
    x = single(np.random.default_rng(0).normal(size=(1, 5, 1)))
    for labels in (np.zeros((1, 5), int), np.ones((1, 5), int)):
        losses, (slope,) = evaluated(matthews_correlation_loss, x, labels)
        assert losses == 1
        assert np.all(slope == 0)


def test_binary_dice_loss() -> None:
    p, t = P[..., 0], 1 - MAP
    for given in ((p, t), (p[..., None], t), (p, t[..., None]), (p[..., None], t[..., None])):
        np.testing.assert_allclose(binary_dice_loss(*given, apply_sigmoid=False), 0.15 / 2.05)
    x = np.log(p) - np.log1p(-p)
    np.testing.assert_allclose(binary_dice_loss(x, t), [0.15 / 2.05], rtol=1e-6)
    loss = functools.partial(binary_dice_loss, apply_sigmoid=False, axis=(-2, -1))
    np.testing.assert_allclose(jax.jit(jax.vmap(loss))(p, t), [0.15 / 2.05], rtol=1e-6)


def test_generalized_dice() -> None:
    # Frequencies 3 and 1: weights 1/9 and 1 of mean 1, which are 0.2 and 1.8.
    p = single([[[0.9, 0.1], [0.9, 0.1]], [[0.9, 0.1], [0.2, 0.8]]])
    t = np.array([[0, 0], [0, 1]])
    first = (0.2 * 0.1 / 2.9 + 1.8 * 0.1 / 1.1) / 2
    second = (0.2 * 0.15 / 2.05 + 1.8 * 0.15 / 1.95) / 2
    loss = functools.partial(multiclass_generalized_dice_loss, p, t, **PROBABILITIES)
    np.testing.assert_allclose(loss(), (first + second) / 2, rtol=1e-5)
    np.testing.assert_allclose(loss(reduction="none"), [first, second], rtol=1e-5)
    # Each image by itself: of the second the frequencies are equal; the first has no class 1.
    alone = loss(reduction="none", per_image=True, epsilon=0.0)
    np.testing.assert_allclose(alone, [0.1 / 1.1, (0.15 / 2.05 + 0.15 / 1.95) / 2], rtol=1e-5)
    # With an epsilon near 0, class 0 of the first image has half an epsilon of the weight.
    slopes = jax.jacobian(lambda e: loss(reduction="none", per_image=True, epsilon=e))(0.0)
    np.testing.assert_allclose(slopes, [(0.1 / 2.9 - 0.1 / 1.1) / 4, 0], rtol=1e-5, atol=1e-7)
    # An excluded image is not counted.
    only = multiclass_generalized_dice_loss(p[1:], t[1:], **PROBABILITIES)
    np.testing.assert_allclose(loss(where=np.array([False, True])), only, rtol=1e-6)


def test_a_nearly_perfect_prediction_keeps_its_digits() -> None:
    x = single([[[30.0, 0.0], [0.0, 30.0]]])
    losses, (slope,) = evaluated(jaccard_loss, x, np.array([[0, 1]]), smooth=0.0)
    np.testing.assert_allclose(losses, 2 * np.exp(-30.0), rtol=2e-6)
    np.testing.assert_allclose(slope[0, 0, 0], -np.exp(-30.0), rtol=2e-6)


def test_an_absent_class_costs_nothing_without_smoothing() -> None:
    p, labels = single([[[0.75, 0.25, 0.0], [0.5, 0.5, 0.0]]]), np.array([[0, 1]])
    for loss in MULTICLASS:
        call = functools.partial(loss, smooth=0.0, class_reduction="none", **PROBABILITIES)
        assert np.asarray(call(p, labels))[0, 2] == 0
        slope = np.asarray(jax.jit(jax.jacobian(call))(p, labels))
        assert np.all(np.isfinite(slope))
        assert np.all(slope[0, 2] == 0)
    # Predicted anywhere, it costs all.
    wrong = single([[[0.75, 0.25, 0.0], [0.5, 0.25, 0.25]]])
    call = functools.partial(jaccard_loss, smooth=0.0, class_reduction="none", **PROBABILITIES)
    assert np.asarray(call(wrong, labels))[0, 2] == 1


def test_a_perfect_prediction_has_slope_0_under_a_power_below_1() -> None:
    t = single(np.eye(2)[MAP])
    assert focal_tversky_loss(t, MAP, **PROBABILITIES) == 0

    @jax.jit
    def derivatives(p: Any, gamma: Any) -> Any:
        loss = lambda p: focal_tversky_loss(p, MAP, gamma=gamma, **PROBABILITIES)[0]  # noqa: E731
        return jax.grad(loss)(p), jax.hessian(loss)(p)

    for gamma in (0.5, 2.0):
        slope, curvature = derivatives(t, gamma)
        assert np.all(slope == 0)
        assert np.all(np.isfinite(curvature))


@pytest.mark.parametrize(
    "loss", [*MULTICLASS, multiclass_generalized_dice_loss, lovasz_softmax_loss]
)
def test_excluded_pixels_add_nothing(loss: Any) -> None:
    """The loss of the pixels that are left, with every derivative, whatever the others hold."""
    keep = np.array([True, False, True, True, False, True])
    mask = np.broadcast_to(keep, (2, 6))
    x, labels = IMAGES.reshape(2, 20, 3)[:, :6], LABELS.reshape(2, 20)[:, :6]
    small = x[:, keep], labels[:, keep]
    losses, (plain,) = evaluated(loss, *small)
    dirty = np.where(mask[..., None], x, np.float32(np.nan))

    @jax.jit
    def all_of(x: Any, labels: Any) -> Any:
        def slope(x: Any) -> Any:
            return jax.grad(lambda x: jnp.sum(loss(x, labels, where=mask)))(x)

        return loss(x, labels, where=mask), *jax.jvp(slope, (x,), (jnp.ones_like(x),))

    for wrong in (255, -1):
        junk = np.where(mask, labels, np.int32(wrong))
        found, slope, curved = map(np.asarray, all_of(dirty, junk))
        np.testing.assert_allclose(found, losses, rtol=2e-6)
        np.testing.assert_allclose(slope[:, keep], plain, atol=2e-7)
        assert np.all(slope[:, ~keep] == 0)
        assert np.all(np.isfinite(curved))
    # Without a pixel, an image is itself excluded.
    none = mask & np.array([[False], [True]])
    mean = loss(dirty, junk, where=none, reduction="mean")
    np.testing.assert_allclose(mean, loss(small[0][1:], small[1][1:], reduction="mean"), 2e-6)


@pytest.mark.parametrize("loss", [*MULTICLASS, lovasz_softmax_loss])
def test_one_image_and_probabilities_under_jit_and_vmap(loss: Any) -> None:
    p = single(scipy.special.softmax(IMAGES, -1))
    batch = loss(IMAGES, LABELS)
    np.testing.assert_allclose(loss(p, LABELS, **PROBABILITIES), batch, rtol=1e-5)
    one = functools.partial(loss, axis=(0, 1), **PROBABILITIES)
    np.testing.assert_allclose(jax.jit(jax.vmap(one))(p, LABELS), batch, rtol=1e-5)
    np.testing.assert_allclose(loss(IMAGES, ONE_HOT), batch, rtol=1e-6)
    assert jax.eval_shape(loss, IMAGES.astype(jnp.bfloat16), LABELS).dtype == jnp.float32


def test_many_classes() -> None:
    """More classes than are written out are summed in another way."""
    rng = np.random.default_rng(2)
    x, labels = single(rng.normal(0, 2, (2, 7, 20))), rng.integers(0, 20, (2, 7))
    p, t = scipy.special.softmax(x.astype(np.float64), -1), np.eye(20)[labels]
    i = (p * t).sum(1)
    expected = (1 - (i + 1) / (p.sum(1) / 2 + t.sum(1) / 2 + 1)).mean(-1)
    np.testing.assert_allclose(dice_loss(x, labels), expected, rtol=1e-5)
    check_grads(jax.jit(lambda x: dice_loss(x, labels)), (x,), 1, rtol=1e-2, atol=1e-3)


def test_theorems() -> None:
    dice = dice_loss(IMAGES, LABELS, smooth=0.0, class_reduction="none")
    jaccard = jaccard_loss(IMAGES, LABELS, smooth=0.0, class_reduction="none")
    np.testing.assert_array_equal(tversky_loss(IMAGES, LABELS), dice_loss(IMAGES, LABELS))
    both = tversky_loss(IMAGES, LABELS, alpha=1.0, beta=1.0)
    np.testing.assert_array_equal(both, jaccard_loss(IMAGES, LABELS))
    dice = np.asarray(dice)
    np.testing.assert_allclose(jaccard, 2 * dice / (1 + dice), rtol=1e-6)
    one = focal_tversky_loss(IMAGES, LABELS, gamma=1.0)
    np.testing.assert_allclose(one, tversky_loss(IMAGES, LABELS), rtol=1e-6)
    # Two classes through a softmax are one through the sigmoid of the difference.
    x, t = IMAGES[..., :2], (LABELS > 0).astype(np.int32)
    single = binary_dice_loss(x[..., 1] - x[..., 0], t)
    np.testing.assert_allclose(dice_loss(x, t, ignore_background=True), single, rtol=1e-6)


@pytest.mark.parametrize("label", [-1, 3, 255])
def test_a_class_that_is_not_there_is_nan(label: int) -> None:
    bad = LABELS.copy()
    bad[0, 0, 0] = label
    for loss in (*MULTICLASS, lovasz_softmax_loss):
        losses, (slope,) = jax.tree.map(np.asarray, evaluated(loss, IMAGES, bad))
        assert np.isnan(losses[0])
        assert np.isfinite(losses[1])
        assert np.all(np.isnan(slope[0]))
        assert np.all(np.isfinite(slope[1]))


def test_refusals() -> None:
    with pytest.raises(ValueError, match=r"predictions float32\[2, 4, 5, 3\], targets int32\[2, 4"):
        dice_loss(IMAGES, LABELS[:, :, :4])
    with pytest.raises(ValueError, match="classes are last"):
        dice_loss(IMAGES, np.moveaxis(ONE_HOT, -1, 1))
    with pytest.raises(TypeError, match=r"targets must be integers.*astype\(int\)"):
        dice_loss(IMAGES, LABELS.astype(np.float32))
    with pytest.raises(TypeError, match=r"labels must be integers"):
        lovasz_softmax_loss(IMAGES, LABELS.astype(np.float32))
    with pytest.raises(ValueError, match=r"class_weights must have shape \[3\]"):
        dice_loss(IMAGES, LABELS, class_weights=[1.0, 2.0])
    with pytest.raises(ValueError, match="class_reduction must be one of"):
        dice_loss(IMAGES, LABELS, class_reduction="max")  # type: ignore
    with pytest.raises(ValueError, match="axis names the pixels, not the classes"):
        dice_loss(IMAGES, LABELS, axis=(1, -1))
    with pytest.raises(ValueError, match="where must be a scalar"):
        dice_loss(IMAGES, LABELS, where=np.ones((2, 4, 5, 3), bool))
    with pytest.raises(ValueError, match="predictions float32"):
        binary_dice_loss(IMAGES[..., 0], IMAGES[..., 0, 0])
