"""Overlap losses: values by hand, optax's numbers, masks of pixels, theorems."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxloss import (
    binary_dice_loss,
    dice_loss,
    focal_tversky_loss,
    jaccard_loss,
    lovasz_softmax_loss,
    multiclass_generalized_dice_loss,
    tversky_loss,
)

# Two pixels, two classes. Class 0: I = 0.9, FP = 0.2, FN = 0.1; class 1: 0.8, 0.1, 0.2.
P = jnp.array([[[[0.9, 0.1], [0.2, 0.8]]]])
MAP = jnp.array([[[0, 1]]])
PROBABILITIES: dict[str, Any] = {"apply_softmax": False}
MULTICLASS = (dice_loss, tversky_loss, focal_tversky_loss, jaccard_loss)
IMAGES = jnp.asarray(np.random.default_rng(0).normal(0, 2, (2, 4, 5, 3)), jnp.float32)
LABELS = jnp.asarray(np.random.default_rng(1).integers(0, 3, (2, 4, 5)), jnp.int32)
ONE_HOT = jax.nn.one_hot(LABELS, 3)


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
    for targets in (MAP, jax.nn.one_hot(MAP, 2)):
        call = functools.partial(loss, P, targets, **options, **PROBABILITIES)
        np.testing.assert_allclose(call(), [np.mean(classes)], rtol=1e-6)
        np.testing.assert_allclose(call(class_reduction="sum"), [np.sum(classes)], rtol=1e-6)
        np.testing.assert_allclose(call(class_reduction="none"), [classes], rtol=1e-6)
        np.testing.assert_allclose(call(ignore_background=True), classes[1:], rtol=1e-6)


def test_binary_dice_loss() -> None:
    p, t = P[..., 0], 1 - MAP
    for given in ((p, t), (p[..., None], t), (p, t[..., None]), (p[..., None], t[..., None])):
        np.testing.assert_allclose(binary_dice_loss(*given, apply_sigmoid=False), 0.15 / 2.05)
    x = jnp.log(p) - jnp.log1p(-p)
    np.testing.assert_allclose(binary_dice_loss(x, t), [0.15 / 2.05], rtol=1e-6)
    loss = functools.partial(binary_dice_loss, apply_sigmoid=False, axis=(-2, -1))
    np.testing.assert_allclose(jax.jit(jax.vmap(loss))(p, t), [0.15 / 2.05], rtol=1e-6)


def test_generalized_dice() -> None:
    # Frequencies 3 and 1: weights 1/9 and 1 of mean 1, which are 0.2 and 1.8.
    p = jnp.array([[[0.9, 0.1], [0.9, 0.1]], [[0.9, 0.1], [0.2, 0.8]]])
    t = jnp.array([[0, 0], [0, 1]])
    first = (0.2 * 0.1 / 2.9 + 1.8 * 0.1 / 1.1) / 2
    second = (0.2 * 0.15 / 2.05 + 1.8 * 0.15 / 1.95) / 2
    loss = functools.partial(multiclass_generalized_dice_loss, p, t, **PROBABILITIES)
    np.testing.assert_allclose(loss(), (first + second) / 2, rtol=1e-5)
    np.testing.assert_allclose(loss(reduction="none"), [first, second], rtol=1e-5)
    # Each image by itself: of the second the frequencies are equal; the first has no class 1.
    alone = loss(reduction="none", per_image=True, epsilon=0.0)
    np.testing.assert_allclose(alone, [0.1 / 1.1, (0.15 / 2.05 + 0.15 / 1.95) / 2], rtol=1e-5)
    # An excluded image is not counted.
    only = multiclass_generalized_dice_loss(p[1:], t[1:], **PROBABILITIES)
    np.testing.assert_allclose(loss(where=jnp.array([False, True])), only, rtol=1e-6)


def test_a_nearly_perfect_prediction_keeps_its_digits() -> None:
    x = jnp.array([[[30.0, 0.0], [0.0, 30.0]]])
    loss = jaccard_loss(x, jnp.array([[0, 1]]), smooth=0.0)
    np.testing.assert_allclose(loss, 2 * np.exp(-30.0), rtol=2e-6)
    slope = jax.grad(lambda x: jaccard_loss(x, jnp.array([[0, 1]]), smooth=0.0)[0])(x)
    np.testing.assert_allclose(slope[0, 0, 0], -np.exp(-30.0), rtol=2e-6)


def test_an_absent_class_costs_nothing_without_smoothing() -> None:
    p = jnp.array([[[0.75, 0.25, 0.0], [0.5, 0.5, 0.0]]])
    for loss in MULTICLASS:
        call = functools.partial(loss, smooth=0.0, class_reduction="none", **PROBABILITIES)
        assert call(p, jnp.array([[0, 1]]))[0, 2] == 0
        slope = jax.jacobian(call)(p, jnp.array([[0, 1]]))
        assert np.all(np.isfinite(slope))
        assert np.all(slope[0, 2] == 0)
    # Predicted anywhere, it costs all.
    wrong = jnp.array([[[0.75, 0.25, 0.0], [0.5, 0.25, 0.25]]])
    call = functools.partial(jaccard_loss, smooth=0.0, class_reduction="none", **PROBABILITIES)
    assert call(wrong, jnp.array([[0, 1]]))[0, 2] == 1


def test_a_perfect_prediction_has_slope_0_under_a_power_below_1() -> None:
    t = jax.nn.one_hot(MAP, 2)
    assert focal_tversky_loss(t, MAP, **PROBABILITIES) == 0
    for gamma in (0.5, 2.0):
        loss = lambda p, g=gamma: focal_tversky_loss(p, MAP, gamma=g, **PROBABILITIES)[0]  # noqa: E731
        assert np.all(jax.grad(loss)(t) == 0)
        assert np.all(np.isfinite(jax.hessian(loss)(t)))


def masked_loss(loss: Any, mask: Any, x: Any, labels: Any) -> Any:
    return jnp.sum(loss(x, labels, where=mask))


@pytest.mark.parametrize(
    "loss", [*MULTICLASS, multiclass_generalized_dice_loss, lovasz_softmax_loss]
)
def test_excluded_pixels_add_nothing(loss: Any) -> None:
    """The loss of the pixels that are left, with every derivative, whatever the others hold."""
    keep = np.array([[True, False], [True, True], [False, True]])
    mask = jnp.broadcast_to(keep.reshape(-1), (2, 6))
    kept = np.flatnonzero(keep)
    x, labels = IMAGES.reshape(2, 20, 3)[:, :6], LABELS.reshape(2, 20)[:, :6]
    small = jax.jit(functools.partial(loss))(x[:, kept], labels[:, kept])
    dirty = jnp.where(mask[..., None], x, jnp.nan)
    for wrong in (255, -1):
        junk = jnp.where(mask, labels, wrong)
        np.testing.assert_allclose(loss(dirty, junk, where=mask), small, rtol=2e-6)
        value = functools.partial(masked_loss, loss, mask)
        slope = jax.grad(value)(dirty, junk)
        plain = jax.grad(lambda y: jnp.sum(loss(y, labels[:, kept])))(x[:, kept])
        np.testing.assert_allclose(slope[:, kept], plain, atol=2e-7)
        assert np.all(slope[~np.asarray(mask)] == 0)
        gradient = jax.grad(functools.partial(value, labels=junk))
        curved = jax.jvp(gradient, (dirty,), (jnp.ones_like(x),))[1]
        assert np.all(np.isfinite(curved))
    # Without a pixel, an image is itself excluded.
    none = mask.at[0].set(False)
    mean = loss(dirty, junk, where=none, reduction="mean")
    np.testing.assert_allclose(mean, loss(x[1:, kept], labels[1:, kept], reduction="mean"), 2e-6)


@pytest.mark.parametrize("loss", [*MULTICLASS, lovasz_softmax_loss])
def test_one_image_and_probabilities_under_jit_and_vmap(loss: Any) -> None:
    p = jax.nn.softmax(IMAGES)
    batch = loss(IMAGES, LABELS)
    np.testing.assert_allclose(loss(p, LABELS, **PROBABILITIES), batch, rtol=1e-5)
    one = functools.partial(loss, axis=(0, 1), **PROBABILITIES)
    np.testing.assert_allclose(jax.jit(jax.vmap(one))(p, LABELS), batch, rtol=1e-5)
    np.testing.assert_allclose(loss(IMAGES, ONE_HOT), batch, rtol=1e-6)
    assert loss(IMAGES.astype(jnp.bfloat16), LABELS).dtype == jnp.float32


def test_many_classes() -> None:
    """More classes than are written out are summed in another way."""
    rng = np.random.default_rng(2)
    x = jnp.asarray(rng.normal(0, 2, (2, 7, 20)), jnp.float32)
    labels = jnp.asarray(rng.integers(0, 20, (2, 7)), jnp.int32)
    p, t = np.asarray(jax.nn.softmax(x), np.float64), np.eye(20)[np.asarray(labels)]
    i = (p * t).sum(1)
    expected = (1 - (i + 1) / (p.sum(1) / 2 + t.sum(1) / 2 + 1)).mean(-1)
    np.testing.assert_allclose(dice_loss(x, labels), expected, rtol=1e-5)
    check_grads(lambda x: dice_loss(x, labels), (x,), 1, rtol=1e-2, atol=1e-3)


def test_theorems() -> None:
    dice = dice_loss(IMAGES, LABELS, smooth=0.0, class_reduction="none")
    jaccard = jaccard_loss(IMAGES, LABELS, smooth=0.0, class_reduction="none")
    np.testing.assert_array_equal(tversky_loss(IMAGES, LABELS), dice_loss(IMAGES, LABELS))
    both = tversky_loss(IMAGES, LABELS, alpha=1.0, beta=1.0)
    np.testing.assert_array_equal(both, jaccard_loss(IMAGES, LABELS))
    np.testing.assert_allclose(jaccard, 2 * dice / (1 + dice), rtol=1e-6)
    one = focal_tversky_loss(IMAGES, LABELS, gamma=1.0)
    np.testing.assert_allclose(one, tversky_loss(IMAGES, LABELS), rtol=1e-6)
    # Two classes through a softmax are one through the sigmoid of the difference.
    x, t = IMAGES[..., :2], (LABELS > 0).astype(jnp.int32)
    single = binary_dice_loss(x[..., 1] - x[..., 0], t)
    np.testing.assert_allclose(dice_loss(x, t, ignore_background=True), single, rtol=1e-6)


@pytest.mark.parametrize("label", [-1, 3, 255])
def test_a_class_that_is_not_there_is_nan(label: int) -> None:
    bad = LABELS.at[0, 0, 0].set(label)
    for loss in (*MULTICLASS, lovasz_softmax_loss):
        losses = loss(IMAGES, bad)
        assert np.isnan(losses[0])
        assert np.isfinite(losses[1])
        slope = jax.grad(lambda x, loss=loss: jnp.sum(loss(x, bad)))(IMAGES)
        assert np.all(np.isnan(slope[0]))
        assert np.all(np.isfinite(slope[1]))


def test_refusals() -> None:
    with pytest.raises(ValueError, match=r"predictions float32\[2, 4, 5, 3\], targets int32\[2, 4"):
        dice_loss(IMAGES, LABELS[:, :, :4])
    with pytest.raises(ValueError, match="classes are last"):
        dice_loss(IMAGES, jnp.moveaxis(ONE_HOT, -1, 1))
    with pytest.raises(TypeError, match=r"targets must be integers.*astype\(int\)"):
        dice_loss(IMAGES, LABELS.astype(jnp.float32))
    with pytest.raises(TypeError, match=r"labels must be integers"):
        lovasz_softmax_loss(IMAGES, LABELS.astype(jnp.float32))
    with pytest.raises(ValueError, match=r"class_weights must have shape \[3\]"):
        dice_loss(IMAGES, LABELS, class_weights=[1.0, 2.0])
    with pytest.raises(ValueError, match="class_reduction must be one of"):
        dice_loss(IMAGES, LABELS, class_reduction="max")  # type: ignore
    with pytest.raises(ValueError, match="axis names the pixels, not the classes"):
        dice_loss(IMAGES, LABELS, axis=(1, -1))
    with pytest.raises(ValueError, match="where must be a scalar"):
        dice_loss(IMAGES, LABELS, where=jnp.ones((2, 4, 5, 3), bool))
    with pytest.raises(ValueError, match="predictions float32"):
        binary_dice_loss(IMAGES[..., 0], IMAGES[..., 0, 0])
