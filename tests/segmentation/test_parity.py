"""The same numbers as optax and Keras, values and gradients; and where a peer is wrong."""

from __future__ import annotations

import functools
from typing import Any

import jax
import numpy as np
import pytest
import scipy.special

import jaxloss
from tests.laws.peers import Evaluated, as_jax_ships, close, evaluated, of_keras, of_optax, of_torch
from tests.laws.values import EPS, single

RNG = np.random.default_rng(5)
X = single(RNG.normal(0, 2, (3, 6, 5, 4)))
MAP = RNG.integers(0, 4, (3, 6, 5)).astype(np.int32)
T = single(np.eye(4)[MAP])
P = single(scipy.special.softmax(X, -1))
BINARY = single(MAP > 1)


def near(ours: Evaluated, theirs: Evaluated) -> None:
    """Values are differences from 1; derivatives of the softmax are rounded with the largest."""
    close(ours[0], theirs[0], rtol=2 * EPS, largest=1)
    close(ours[1], theirs[1], rtol=16 * EPS, largest=None)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"smooth": 0.1, "alpha": 0.3, "beta": 0.7},
        {"class_weights": np.arange(1, 5, dtype=np.float32)},
        {"ignore_background": True},
        {"axis": (0, 1, 2)},
        {"axis": 1},
    ],
    ids=str,
)
@pytest.mark.parametrize("over_classes", ["mean", "sum", "none"])
def test_dice_of_optax(options: Any, over_classes: Any) -> None:
    near(
        evaluated(lambda x: jaxloss.dice_loss(x, MAP, class_reduction=over_classes, **options), X),
        of_optax(lambda o, x: o.dice_loss(x, T, reduction=over_classes, **options), X),
    )


@pytest.mark.parametrize("smooth", [1.0, 0.1])
def test_other_dices_of_optax(smooth: float) -> None:
    for background in (False, True):
        options: dict[str, Any] = {"smooth": smooth, "ignore_background": background}

        def generalized(losses: Any, x: Any, options: Any = options) -> Any:
            return losses.multiclass_generalized_dice_loss(x, T, **options)

        near(evaluated(functools.partial(generalized, jaxloss), X), of_optax(generalized, X))
    for x, t in ((X[..., 0], BINARY), (X[..., :1], BINARY[..., None])):

        def binary(losses: Any, x: Any, t: Any = t) -> Any:
            return losses.binary_dice_loss(x, t, smooth=smooth)

        near(evaluated(functools.partial(binary, jaxloss), x), of_optax(binary, x))
    # Ranks that differ by the axis of a single class.
    for x, t in ((X[..., :1], BINARY), (X[..., 0], BINARY[..., None])):

        def dice(losses: Any, x: Any, t: Any = t) -> Any:
            return losses.dice_loss(x, t)

        near(evaluated(functools.partial(dice, jaxloss), x), of_optax(dice, x))


def test_dice_and_tversky_of_keras() -> None:
    options: dict[str, Any] = {"smooth": 0.0, "apply_softmax": False, "class_reduction": "none"}
    near(
        evaluated(lambda p: jaxloss.dice_loss(p, MAP, **options), P),
        of_keras(lambda k, p: k.dice(T, p, axis=(1, 2)), P),
    )
    # Keras 3.15 gives alpha to the false negatives, against its documentation.
    near(
        evaluated(lambda p: jaxloss.tversky_loss(p, MAP, alpha=0.7, beta=0.3, **options), P),
        of_keras(lambda k, p: k.tversky(T, p, alpha=0.3, beta=0.7, axis=(1, 2)), P),
    )


def shares_of_monai(p: Any, t: Any, squared: bool, over: Any, under: Any, jaccard: bool) -> Any:
    """1 less the soft Dice or Jaccard coefficients of images and classes, as MONAI defines them."""
    both, power = (p * t).sum((1, 2)), 2 if squared else 1
    whole = (p**power + t**power).sum((1, 2))
    if jaccard:
        whole = 2 * (whole - both)
    return 1 - (2 * both + over) / (whole + under)


@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize(("over", "under"), [(1e-5, 1e-5), (0.5, 1.5)])
def test_dice_and_jaccard_of_monai(squared: bool, over: float, under: float) -> None:
    """Its smoothings are of 2 I over P + T, and so twice ours."""
    torch = pytest.importorskip("torch")
    labels = torch.tensor(np.eye(4)[MAP])
    options: dict[str, Any] = {
        "apply_softmax": False,
        "squared_predictions": squared,
        "smooth": over / 2,
        "smooth_denominator": under / 2,
        "class_reduction": "none",
    }
    for loss, jaccard in ((jaxloss.dice_loss, False), (jaxloss.jaccard_loss, True)):
        near(
            evaluated(lambda p, loss=loss: loss(p, MAP, **options), P),
            of_torch(
                lambda F, p, j=jaccard: shares_of_monai(p, labels, squared, over, under, j), P
            ),
        )


def test_logarithms_of_segmentation_models() -> None:
    """-log of the Dice coefficient, of the classes that an image has."""
    torch = pytest.importorskip("torch")
    labels = torch.tensor(np.eye(4)[MAP])
    there = labels.any(1).any(1)

    def logs(F: Any, p: Any) -> Any:
        each = -(1 - shares_of_monai(p, labels, False, 0.0, 0.0, False)).log()
        return (each * there).sum(-1) / there.sum(-1)

    options: dict[str, Any] = {"smooth": 0.0, "log_loss": True, "class_reduction": "present"}
    near(
        evaluated(lambda p: jaxloss.dice_loss(p, MAP, apply_softmax=False, **options), P),
        of_torch(logs, P),
    )


@pytest.mark.parametrize(("weighting", "power"), [("square", 2), ("simple", 1), ("uniform", 0)])
def test_generalized_dice_of_monai(weighting: Any, power: int) -> None:
    torch = pytest.importorskip("torch")
    labels = torch.tensor(np.eye(4)[MAP])

    def generalized(F: Any, p: Any) -> Any:
        w = labels.sum((1, 2)) ** -power
        whole = ((labels + p).sum((1, 2)) * w).sum(-1)
        return 1 - 2 * ((labels * p).sum((1, 2)) * w).sum(-1) / whole

    ours = functools.partial(
        jaxloss.generalized_dice_loss, class_weighting=weighting, apply_softmax=False
    )
    near(evaluated(lambda p: ours(p, MAP), P), of_torch(generalized, P))


def test_matthews_correlation_of_sklearn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    answers = np.where(RNG.uniform(size=MAP.shape) < 0.3, 1 - BINARY, BINARY)
    theirs = [
        metrics.matthews_corrcoef(b.ravel(), o.ravel())
        for b, o in zip(BINARY, answers, strict=True)
    ]
    options: dict[str, Any] = {"apply_softmax": False}
    ours = jaxloss.matthews_correlation_loss(answers[..., None], BINARY, **options)
    np.testing.assert_allclose(ours, 1 - np.array(theirs), rtol=16 * EPS)


def torch_lovasz(errors: Any, positive: Any) -> Any:
    """The sum of sorted errors times the differences of the Jaccard losses, as published."""
    errors, order = errors.sort(descending=True)
    hits = positive[order].cumsum(0)
    extra = (1 - positive[order]).cumsum(0)
    total = positive.sum()
    losses = 1 - (total - hits) / (total + extra)
    return errors @ losses.diff(prepend=losses.new_zeros(1))


def test_lovasz_by_the_autograd_of_torch() -> None:
    torch = pytest.importorskip("torch")
    labels = torch.tensor(MAP).reshape(3, 30)

    def hinge(F: Any, x: Any) -> Any:
        each = []
        for scores, positive in zip(x[..., 0].reshape(3, 30), (labels > 1).double(), strict=True):
            margins = F.relu(1 - (2 * positive - 1) * scores)
            each.append(torch_lovasz(margins, positive))
        return torch.stack(each)

    def softmax(F: Any, x: Any) -> Any:
        images = []
        for p, found in zip(x.reshape(3, 30, 4).softmax(-1), labels, strict=True):
            rows = [(found == c).double() for c in range(4)]
            each = [torch_lovasz((t - p[:, c]).abs(), t) for c, t in enumerate(rows) if t.any()]
            images.append(torch.stack(each).mean())
        return torch.stack(images)

    for loss, peer in (
        (lambda x: jaxloss.lovasz_hinge_loss(x[..., 0], BINARY), hinge),
        (lambda x: jaxloss.lovasz_softmax_loss(x, MAP), softmax),
    ):
        losses, (slopes,) = evaluated(loss, X)
        theirs, (wanted,) = of_torch(peer, X, dtype=np.float64)
        np.testing.assert_allclose(losses, theirs, rtol=2e-6)
        np.testing.assert_allclose(slopes, wanted, rtol=1e-4, atol=1e-7)


def test_optax_cannot_compile_probabilities() -> None:
    losses = pytest.importorskip("optax.losses")
    with as_jax_ships(), pytest.raises(jax.errors.TracerBoolConversionError):
        jax.jit(lambda p: losses.dice_loss(p, T, apply_softmax=False))(P)
    with as_jax_ships(), pytest.raises(ValueError, match="valid"):
        losses.binary_dice_loss(P[..., 0], BINARY, apply_sigmoid=False)
    ours = jax.jit(lambda p: jaxloss.dice_loss(p, T, apply_softmax=False))(P)
    np.testing.assert_allclose(ours, jaxloss.dice_loss(X, T), rtol=1e-5)


def test_optax_is_nan_for_an_absent_class_without_smoothing() -> None:
    losses = pytest.importorskip("optax.losses")
    x = X.copy()
    x[..., 3] = -np.inf
    t = single(np.eye(4)[np.minimum(MAP, 2)])
    with as_jax_ships():
        assert np.all(np.isnan(jax.jit(functools.partial(losses.dice_loss, smooth=0.0))(x, t)))
    ours = jaxloss.dice_loss(x, t, smooth=0.0)
    three = jaxloss.dice_loss(x[..., :3], t[..., :3], smooth=0.0)
    np.testing.assert_allclose(ours, 0.75 * np.asarray(three), rtol=1e-6)
