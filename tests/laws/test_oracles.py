"""The exact forms against other people's float64, brute force, and the ends of the domain."""

from __future__ import annotations

import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mpmath import mp
from scipy import special
from scipy.spatial import distance

from tests.laws import oracle as oracles

losses = pytest.importorskip("optax.losses")

_RNG = np.random.default_rng(0)
X, Y = _RNG.normal(0, 2, (2, 4))
P, T = _RNG.dirichlet(np.ones(4), 2)
WEIGHTS = _RNG.uniform(0.3, 2, 4)
IMAGE, MAP = _RNG.normal(0, 2, (2, 3, 3)), np.array([[0, 2, 0], [1, 1, 0]])
ONE_HOT = np.eye(3)[MAP]
MASK = np.array([[True, False, False], [False, True, False]])
FRAMES, PADS = _RNG.normal(0, 2, (5, 3)), np.array([0.0, 0.0, 0.0, 0.0, 1.0])


def value(name: str, *args: Any, **options: Any) -> float:
    return float(oracles.value(name, args, options)[0])


def slope(name: str, args: Any, options: Any, wrt: Any) -> float:
    return float(oracles.derivative(name, args, options, wrt)[0])


def batched(loss: Any, *args: Any, **options: Any) -> Any:
    return loss(*(x[None] for x in args), **options)[0]


@pytest.mark.parametrize(
    ("name", "args", "options", "wrt", "theirs"),
    [
        ("softmax_cross_entropy", (X, T), {}, (0, 1), losses.softmax_cross_entropy),
        (
            "softmax_cross_entropy_with_integer_labels",
            (X, 2),
            {},
            (0,),
            losses.softmax_cross_entropy_with_integer_labels,
        ),
        (
            "poly_loss_cross_entropy",
            (X, T),
            {"epsilon": -0.7},
            (0, 1),
            functools.partial(losses.poly_loss_cross_entropy, epsilon=-0.7),
        ),
        ("multiclass_hinge_loss", (X, 3), {}, (0,), losses.multiclass_hinge_loss),
        ("multiclass_perceptron_loss", (X, 3), {}, (0,), losses.multiclass_perceptron_loss),
        (
            "multiclass_sparsemax_loss",
            (X / 3, 1),
            {},
            (0,),
            functools.partial(batched, losses.multiclass_sparsemax_loss),
        ),
        ("sigmoid_binary_cross_entropy", (1.3, 0.2), {}, (0, 1), None),
        ("sigmoid_focal_loss", (1.3, 0.2), {"alpha": 0.3, "gamma": 1.5}, (0, 1), None),
        ("sparsemax_loss", (0.4, 1.0), {}, (0,), None),
        ("hinge_loss", (0.4, -1.0), {}, (0,), None),
        ("perceptron_loss", (0.4, -1.0), {}, (0,), None),
        ("kl_divergence", (np.log(P), T), {}, (0, 1), losses.kl_divergence),
        ("generalized_kl_divergence", (np.log(P), 2 * T), {}, (0, 1), None),
        ("kl_divergence_with_log_targets", (np.log(P), np.log(T)), {}, (0, 1), None),
        (
            "dice_loss",
            (IMAGE, ONE_HOT),
            {"alpha": 0.3, "smooth": 0.5, "class_weights": WEIGHTS[:3], "ignore_background": True},
            (0, 1),
            functools.partial(
                batched,
                functools.partial(
                    losses.dice_loss,
                    alpha=0.3,
                    smooth=0.5,
                    class_weights=WEIGHTS[:3],
                    ignore_background=True,
                ),
            ),
        ),
        (
            "multiclass_generalized_dice_loss",
            (IMAGE, ONE_HOT),
            {},
            (0,),
            losses.multiclass_generalized_dice_loss,
        ),
        (
            "ctc_loss",
            (FRAMES, PADS, np.array([1, 1, 0]), np.array([0.0, 0.0, 1.0])),
            {},
            (0,),
            functools.partial(batched, losses.ctc_loss),
        ),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_optax(name: str, args: Any, options: Any, wrt: Any, theirs: Any) -> None:
    theirs = theirs or functools.partial(getattr(losses, name), **options)
    with (
        jax.enable_x64(True),
        jax.numpy_dtype_promotion("standard"),
        jax.numpy_rank_promotion("allow"),
    ):
        given = [jnp.asarray(x) for x in args]
        slopes = jax.grad(theirs, wrt)(*given)
        np.testing.assert_allclose(value(name, *args, **options), theirs(*given), rtol=1e-12)
    for index, expected in zip(wrt, slopes, strict=True):
        for place in np.ndindex(np.shape(args[index])):
            ours = slope(name, args, options, (index, place) if place else index)
            np.testing.assert_allclose(ours, expected[place], rtol=1e-9, atol=1e-14)


def test_scipy() -> None:
    close = functools.partial(np.testing.assert_allclose, rtol=1e-12)
    p = special.softmax(X)
    y, smoothed = np.eye(4)[2], 0.9 * np.eye(4)[2] + 0.025
    options = {"class_weights": WEIGHTS, "label_smoothing": 0.1}
    terms = -WEIGHTS * smoothed * np.log(p)
    normaliser = 0.2 * WEIGHTS[2] * np.log(np.exp(X).sum()) ** 2
    close(value("softmax_cross_entropy", X, y, z_loss=0.2, **options), terms.sum() + normaliser)
    close(value("softmax_cross_entropy", X, 2, z_loss=0.2, **options), terms.sum() + normaliser)
    close(value("softmax_focal_loss", X, 2, gamma=0.5, **options), (terms * (1 - p) ** 0.5).sum())
    close(value("generalized_cross_entropy", X, 2, q=0.5), 2 * (1 - p[2] ** 0.5))
    reverse = -0.5 * WEIGHTS[2] * (p * np.maximum(np.log(np.maximum(y, 1e-9)), -3)).sum()
    symmetric = {"alpha": 0.3, "beta": 0.5, "log_zero": -3.0, "class_weights": WEIGHTS}
    forward = -0.3 * WEIGHTS[2] * np.log(p[2])
    close(value("symmetric_cross_entropy", X, y, **symmetric), forward + reverse)
    close(value("symmetric_cross_entropy", X, 2, **symmetric), forward + reverse)
    close(value("jensen_shannon_divergence", P, T), np.square(distance.jensenshannon(P, T)))
    close(value("total_variation_distance", P, T), distance.cityblock(P, T) / 2)
    roots = distance.euclidean(np.sqrt(P), np.sqrt(T)) / np.sqrt(2)
    close(value("hellinger_distance", P, T), roots)
    kl = special.rel_entr(T, P).sum()
    close(value("renyi_divergence", P, T, alpha=1.0), kl)
    np.testing.assert_allclose(value("renyi_divergence", P, T, alpha=1 + 1e-7), kl, rtol=1e-6)
    close(value("renyi_divergence", P, T, alpha=0.5), -2 * np.log((P * T) ** 0.5 @ np.ones(4)))
    student, teacher = special.softmax(X / 3), special.softmax(Y / 3)
    kl = special.rel_entr(teacher, student).sum()
    close(value("distillation_loss", X, Y, temperature=3.0), 9 * kl)


def test_margins_by_brute_force() -> None:
    for p in (1, 2):
        rows = [max(0, 0.7 - X[1] + X[i]) ** p for i in (0, 2, 3)]
        ours = value("multi_margin_loss", X, 1, p=p, margin=0.7, class_weights=WEIGHTS)
        np.testing.assert_allclose(ours, WEIGHTS[1] * sum(rows) / 4, rtol=1e-12)
    pairs = itertools.product((0, 3), (1, 2))
    expected = sum(max(0, 1 - (X[j] - X[i])) for j, i in pairs) / 4
    labels = np.array([1.0, 0.0, -1.0, 1.0])
    np.testing.assert_allclose(value("multilabel_margin_loss", X, labels), expected, rtol=1e-12)


def jaccard(wrong: set[int], positive: set[int]) -> float:
    return 1 - len(positive - wrong) / len(positive | wrong) if wrong else 0.0


def lovasz(errors: np.ndarray, positive: set[int]) -> float:
    """The extension as an integral over thresholds of the Jaccard loss of what exceeds them."""
    levels = sorted({0.0, *errors.tolist()})
    return sum(
        (high - low) * jaccard({i for i, e in enumerate(errors) if e >= high}, positive)
        for low, high in itertools.pairwise(levels)
    )


def test_lovasz_by_integration() -> None:
    logits = IMAGE[..., 0]
    for mask in (MASK, MASK & False, MASK | True):
        errors = np.maximum(0, 1 - np.where(mask, 1, -1) * logits).ravel()
        expected = lovasz(errors, set(np.flatnonzero(mask).tolist()))
        ours = value("lovasz_hinge_loss", logits, mask.astype(float))
        np.testing.assert_allclose(ours, expected, rtol=1e-12)
    found = np.where(MAP == 1, 0, MAP)
    errors = abs(np.eye(3)[found] - special.softmax(IMAGE, -1)).reshape(6, 3).T
    each = [lovasz(errors[c], set(np.flatnonzero(found == c).tolist())) for c in range(3)]
    for classes, expected in (("present", (each[0] + each[2]) / 2), ("all", sum(each) / 3)):
        ours = value("lovasz_softmax_loss", IMAGE, found, classes=classes)
        np.testing.assert_allclose(ours, expected, rtol=1e-12)


def test_overlaps() -> None:
    p = special.softmax(IMAGE, -1)
    both, model, truth = ((a).sum((0, 1)) for a in (p * ONE_HOT, p, ONE_HOT))
    ratio = (both + 1) / (both + 0.3 * (model - both) + 0.7 * (truth - both) + 1)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-12)
    options = {"alpha": 0.3, "beta": 0.7}
    close(value("tversky_loss", IMAGE, MAP, **options), (1 - ratio).mean())
    close(value("tversky_loss", p, MAP, apply_softmax=False, **options), (1 - ratio).mean())
    focal = value("focal_tversky_loss", IMAGE, MAP, gamma=0.75, **options)
    close(focal, ((1 - ratio) ** 0.75).mean())
    union = model + truth - both
    close(value("jaccard_loss", IMAGE, MAP), (1 - (both + 1) / (union + 1)).mean())


@pytest.mark.parametrize(
    ("name", "args", "options", "wrt", "expected"),
    [
        # One class has all the probability: what is left is its rivals'.
        ("softmax_cross_entropy", ([0.0, -600.0], 0), {}, None, np.exp(-600)),
        ("softmax_cross_entropy", ([0.0, -600.0], 0), {}, (0, (1,)), np.exp(-600)),
        ("softmax_cross_entropy", ([1e30, -1e30], 1), {}, None, 2 * np.float64(1e30)),
        ("softmax_cross_entropy", ([1.0, -np.inf], [1.0, 0.0]), {}, None, 0),
        ("softmax_cross_entropy", ([1.0, -np.inf], [1.0, 1.0]), {}, None, np.inf),
        ("softmax_cross_entropy", ([1.0, 2.0], 2), {}, None, np.nan),
        ("softmax_cross_entropy", ([1.0, 2.0], -1), {}, None, np.nan),
        ("softmax_focal_loss", ([0.0, -100.0], 0), {"gamma": 0.5}, None, np.exp(-150)),
        ("sigmoid_binary_cross_entropy", (np.inf, 1.0), {}, None, 0),
        ("sigmoid_binary_cross_entropy", (np.inf, 0.0), {}, None, np.inf),
        ("sigmoid_binary_cross_entropy", (0.0, 1.5), {}, None, np.nan),
        # A label at an end, and a prediction: the slope from inside.
        ("sigmoid_binary_cross_entropy", (3.0, 1.0), {}, 1, -3),
        ("binary_cross_entropy", (0.0, 0.0), {}, 0, 1),
        ("binary_cross_entropy", (0.0, 1.0), {"epsilon": 0.25}, 0, -4),
        ("binary_cross_entropy", (1.5, 1.0), {}, None, np.nan),
        # A target that selects has no slope, wherever it is.
        ("hinge_loss", (0.5, 0.0), {}, 1, 0),
        ("kl_divergence", ([-np.inf, 0.0], [0.0, 1.0]), {}, None, 0),
        ("kl_divergence", ([-1.0, 0.0], [0.0, 1.0]), {}, (1, (0,)), -np.inf),
        ("jensen_shannon_divergence", ([0.0, 1.0], [0.0, 1.0]), {}, (0, (0,)), np.log(2) / 2),
        ("jensen_shannon_divergence", ([0.0, 1.0], [0.5, 0.5]), {}, (0, (0,)), -np.inf),
        ("renyi_divergence", ([0.0, 1.0], [1.0, 0.0]), {"alpha": 0.5}, None, np.inf),
        ("renyi_divergence", ([0.0, 1.0], [0.5, 0.5]), {"alpha": 2.0}, None, np.inf),
        ("renyi_divergence", ([0.25, 0.75], [0.0, 1.0]), {"alpha": 0.0}, None, np.log(4 / 3)),
        ("renyi_divergence", ([0.25, 0.75], [0.5, 0.5]), {"alpha": np.inf}, None, np.log(2)),
        ("ctc_loss", ([[0.0, 1.0]], [0.0], [1, 1], [0.0, 0.0]), {}, None, np.inf),
        (
            "ctc_loss",
            ([[0.0, 1.0]], [0.0], [1, 1], [0.0, 0.0]),
            {"zero_infinity": True},
            None,
            0,
        ),
        ("ctc_loss", ([[0.0, 1.0]], [1.0], [1], [1.0]), {}, None, 0),
    ],
)
def test_ends(name: str, args: Any, options: Any, wrt: Any, expected: float) -> None:
    ours = value(name, *args, **options) if wrt is None else slope(name, args, options, wrt)
    np.testing.assert_allclose(ours, expected, rtol=1e-12)


def test_tails_are_exact() -> None:
    tail, _ = oracles.value("softmax_cross_entropy", ([0.0, -1e5], 0), {})
    with mp.workprec(400):
        assert abs(mp.log(tail) + 100000) < mp.mpf("1e-60")
