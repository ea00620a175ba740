"""The oracles of segmentation against optax, NumPy and an integral over thresholds."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from scipy import special

from tests.laws.precise import as_in_optax, equal, value

_RNG = np.random.default_rng(0)
IMAGE, MAP = _RNG.normal(0, 2, (2, 3, 3)), np.array([[0, 2, 0], [1, 1, 0]])
ONE_HOT = np.eye(3)[MAP]
MASK = np.array([[True, False, False], [False, True, False]])
WEIGHTS = _RNG.uniform(0.3, 2, 3)


def test_dice_of_optax() -> None:
    options: dict[str, Any] = {"alpha": 0.3, "smooth": 0.5, "ignore_background": True}
    options["class_weights"] = WEIGHTS
    as_in_optax("dice_loss", (IMAGE, ONE_HOT), options, (0, 1), batched=True)


def test_generalized_dice_of_optax() -> None:
    as_in_optax("multiclass_generalized_dice_loss", (IMAGE, ONE_HOT), {}, (0,))


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
        equal(ours, expected)
    found = np.where(MAP == 1, 0, MAP)
    errors = abs(np.eye(3)[found] - special.softmax(IMAGE, -1)).reshape(6, 3).T
    each = [lovasz(errors[c], set(np.flatnonzero(found == c).tolist())) for c in range(3)]
    for classes, expected in (("present", (each[0] + each[2]) / 2), ("all", sum(each) / 3)):
        ours = value("lovasz_softmax_loss", IMAGE, found, classes=classes)
        equal(ours, expected)


def test_overlaps() -> None:
    p = special.softmax(IMAGE, -1)
    both, model, truth = ((a).sum((0, 1)) for a in (p * ONE_HOT, p, ONE_HOT))
    ratio = (both + 1) / (both + 0.3 * (model - both) + 0.7 * (truth - both) + 1)
    options = {"alpha": 0.3, "beta": 0.7}
    equal(value("tversky_loss", IMAGE, MAP, **options), (1 - ratio).mean())
    equal(value("tversky_loss", p, MAP, apply_softmax=False, **options), (1 - ratio).mean())
    focal = value("focal_tversky_loss", IMAGE, MAP, gamma=0.75, **options)
    equal(focal, ((1 - ratio) ** 0.75).mean())
    union = model + truth - both
    equal(value("jaccard_loss", IMAGE, MAP), (1 - (both + 1) / (union + 1)).mean())
