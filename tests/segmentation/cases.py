"""Segmentation: an image of class scores against the numbers of the classes, or soft labels."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

import jaxloss
from tests.laws.case import (
    CLASS,
    LABELS,
    LOGITS,
    PROBABILITIES,
    SIGNS,
    SOFT_LABELS,
    Case,
    Kind,
    Options,
)

# Logits whose probabilities float32 holds: a power below 1 would show that smaller ones vanish.
NEAR = Kind(LOGITS.draw, (0.0, 0.5, 1.0, -1.0, 2.25, -17.0, 17.0, 40.0, -40.0))
# Three pixels and two classes. The axis of the pixels is named, so that an image without the axis
# of the batch means the same.
IMAGE: Options = {"axis": -2}
LAID_OUT: dict[str, Any] = {
    "axis": True,
    "inner": (3, 2),
    "entries": False,
    "layout": ("axis", "reduction", "per_image"),
    "optional_targets": False,
    "zero_when_exact": False,
}
# Why pixels are gathered on one device; for a mesh of Auto axes, the images of classes too.
SORTED = "pixels are sorted by their errors"
EACH_IMAGE: Options = {**IMAGE, "reduction": "none", "per_image": True}
# What the losses of overlap share, in two rows.
OVER_CLASSES: tuple[Options, ...] = (
    {"class_weights": (1.5, 0.25), "class_reduction": "sum"},
    {"class_weights": (1.5, 0.25), "ignore_background": True},
)
SHARES_OF = (("alpha", 0.5), ("beta", 0.5), ("smooth", 1.0))
SHARES = [("smooth", -1.0), ("alpha", -0.1), ("beta", -0.1)]


def tied(logits: np.ndarray, labels: np.ndarray) -> bool:
    """Whether hinges are equal, as float32 computes them, or at their kink."""
    signs = np.where(np.asarray(labels) > 0, np.float32(1), np.float32(-1))
    errors = 1 - signs * np.asarray(logits, np.float32)
    return len(np.unique(errors)) < errors.size or bool(np.any(errors == 0))


def tied_pixels(predictions: Any, labels: Any, apply_softmax: bool = True, **_: Any) -> bool:
    """Whether two pixels have the same error in a class."""
    x = np.asarray(predictions, np.float32)
    signs = 1 - 2 * (np.arange(2) == np.asarray(labels)[:, None])
    errors = signs * (x - x[:, ::-1] if apply_softmax else x - 0.5)
    return any(len(np.unique(column)) < len(column) for column in errors.T)


def overlap_term(row: Any, options: Options, wrt: Any) -> float:
    """The largest term of an overlap loss or of its derivative, whose terms are of either sign."""
    x, t = (np.asarray(array, np.float64) for array in row)
    if x.ndim == 1:
        x, t = x[:, None], t[:, None]
    alone = x.shape[-1] == 1
    if options.get("apply_softmax", options.get("apply_sigmoid", True)):
        odds = np.concatenate([x, 0 * x], -1) if alone else x
        odds = np.exp(odds - odds.max(-1, keepdims=True))
        p, q = (y[:, : x.shape[-1]] / odds.sum(-1, keepdims=True) for y in (odds, odds[:, ::-1]))
        slope_of_p = p[:, None] * np.where(np.eye(x.shape[-1]), q[:, None], p[:, :, None])
    else:
        p, q = x, 1 - x
        slope_of_p = np.broadcast_to(np.eye(x.shape[-1]), (len(x), *[x.shape[-1]] * 2))
    a, b, s = (options.get(name, other) for name, other in SHARES_OF)
    extra, missed, found = (p * (1 - t)).sum(0), (q * t).sum(0), (p * t).sum(0) + s
    wrong = a * extra + b * missed
    whole, weights = wrong + found, np.asarray(options.get("class_weights", np.ones(x.shape[-1])))
    if options.get("ignore_background"):
        weights = np.where(np.arange(len(weights)) == 0, 0, weights)
        weights = weights * len(weights) / (len(weights) - 1)
    if options.get("class_reduction", "mean") == "mean":
        weights = weights / len(weights)
    in_found, in_wrong = weights * wrong / whole**2, weights * found / whole**2
    if wrt is None:
        return float((weights * wrong / whole).max())
    if isinstance(wrt, str):
        terms = {"smooth": in_found, "alpha": extra * in_wrong, "beta": missed * in_wrong}
        return float(terms[wrt].max())
    index, (pixel, *last) = wrt
    place = pixel, *(last or [0])
    if index == 1:
        terms = [p * in_found, p * a * in_wrong, q * b * in_wrong]
        return float(np.max(terms, 0)[place])
    terms = np.max([t * in_found, (1 - t) * a * in_wrong, t * b * in_wrong], 0)
    return float((terms[:, None] * slope_of_p)[place].max())


def few(data: Sequence[Kind], inner: tuple[int, ...], seed: int) -> list[tuple[Any, ...]]:
    """Ordinary images and images of the ends of the domain: their oracles are slow."""
    row = Case(jaxloss.dice_loss, data=data, inner=inner)
    ends, rng = row.draw(seed + 1, (16,)), np.random.default_rng(seed)
    for i in row.floating:
        ends[i] = rng.choice(data[i].edges, ends[i].shape).astype(np.float32)
    return [*zip(*row.draw(seed, (8,)), strict=True), *zip(*ends, strict=True)]


def variants(*others: Options) -> list[Options]:
    return [{**IMAGE, **options} for options in others]


ROWS = [
    Case(
        jaxloss.dice_loss,
        data=(LOGITS, SOFT_LABELS),
        options={**IMAGE, "smooth": 0.7, "alpha": 0.3, "beta": 0.6},
        variants=variants(
            {},
            {"smooth": 1e-3},
            {"smooth": 0.5, "class_weights": (1.5, 0.25), "ignore_background": True},
            {"class_weights": (1.5, 0.25), "class_reduction": "sum"},
        ),
        largest=overlap_term,
        outside=[*SHARES, (1, -0.1), (1, 1.5)],
        **LAID_OUT,
    ),
    Case(
        jaxloss.tversky_loss,
        data=(LOGITS, CLASS),
        options={**IMAGE, "alpha": 0.3, "beta": 0.7},
        variants=variants({"alpha": 0.7, "beta": 0.1, "smooth": 1e-6}, *OVER_CLASSES),
        outside=[*SHARES, (1, -1), (1, 2)],
        **LAID_OUT,
    ),
    Case(
        jaxloss.focal_tversky_loss,
        data=(NEAR, CLASS),
        options={**IMAGE, "alpha": 0.3, "beta": 0.7, "gamma": 0.6},
        variants=variants(
            {"gamma": 1.0}, {"gamma": 2.0}, {"gamma": 1.3, "smooth": 1e-3}, *OVER_CLASSES
        ),
        outside=[*SHARES, ("gamma", -0.5), (1, -1), (1, 2)],
        **LAID_OUT,
    ),
    Case(
        jaxloss.jaccard_loss,
        data=(LOGITS, CLASS),
        options={**IMAGE, "smooth": 0.7},
        variants=variants({"smooth": 1e-6}, *OVER_CLASSES),
        outside=[("smooth", -1.0), (1, -1), (1, 2)],
        **LAID_OUT,
    ),
    Case(
        jaxloss.multiclass_generalized_dice_loss,
        data=(LOGITS, CLASS),
        options={**EACH_IMAGE, "smooth": 0.7},
        variants=[
            {**EACH_IMAGE, "epsilon": 0.5},
            {**EACH_IMAGE, "epsilon": 2.0, "ignore_background": True},
        ],
        outside=[("smooth", -1.0), ("epsilon", -1.0), (1, -1), (1, 2)],
        reduction="mean",
        **LAID_OUT,
    ),
    Case(
        jaxloss.generalized_dice_loss,
        data=(LOGITS, CLASS),
        options={**IMAGE, "smooth": 0.7},
        variants=variants(
            {"class_weighting": "simple"},
            {"class_weighting": "uniform", "smooth": 0.3, "ignore_background": True},
        ),
        outside=[("smooth", -1.0), (1, -1), (1, 2)],
        **LAID_OUT,
    ),
    Case(
        jaxloss.matthews_correlation_loss,
        data=(NEAR, CLASS),
        options=IMAGE,
        variants=variants(*OVER_CLASSES),
        outside=[(1, -1), (1, 2)],
        **LAID_OUT,
    ),
    Case(
        jaxloss.binary_dice_loss,
        data=(LOGITS, SOFT_LABELS),
        options={"axis": -1, "smooth": 0.7},
        variants=[{"axis": -1}, {"axis": -1, "smooth": 1e-6}],
        largest=overlap_term,
        outside=[("smooth", -1.0), (1, -0.1), (1, 1.5)],
        **{**LAID_OUT, "inner": (3,), "entries": True},
    ),
    Case(
        jaxloss.lovasz_hinge_loss,
        data=(LOGITS, SIGNS),
        options={"axis": -1},
        kink=tied,
        gathered=SORTED,
        **{**LAID_OUT, "inner": (), "entries": True},
    ),
    Case(
        jaxloss.lovasz_softmax_loss,
        data=(LOGITS, CLASS),
        options=IMAGE,
        gathered=SORTED,
        variants=variants(
            {"classes": "all"},
            {"classes": (1,)},
            {"ignore_background": True},
            {"class_weights": (1.5, 0.25)},
        ),
        kink=tied_pixels,
        outside=[(1, -1), (1, 2)],
        **LAID_OUT,
    ),
]


def measured(case: Case) -> Case:
    return dataclasses.replace(case, points=functools.partial(few, case.data, case.inner or (4,)))


CASES = [measured(row) for row in ROWS]


def of_probabilities(loss: Any, labels: Kind, flag: str) -> Case:
    """The row of a loss of probabilities, which may be exactly 0 or 1."""
    row = next(case for case in CASES if case.loss is loss)
    options = {**row.options, flag: False}
    changed = Case(
        loss,
        data=(PROBABILITIES, labels),
        options=options,
        variants=[{**options, "smooth": 0.0}] if loss is jaxloss.jaccard_loss else (),
        kink=row.kink,
        largest=row.largest if labels is SOFT_LABELS else None,
        outside=[(0, -0.1), (0, 1.5)],
        **{**LAID_OUT, "inner": row.inner},
    )
    return measured(changed)


def of_form(loss: Any, labels: Kind, **options: Any) -> Case:
    """The row of a loss with what other libraries make of its formula."""
    row = next(case for case in CASES if case.loss is loss)
    pixels = {"axis": row.options["axis"]}
    changed = Case(
        loss,
        data=(LOGITS, labels),
        options={**pixels, "smooth": 0.7, "smooth_denominator": 0.9, "log_loss": True, **options},
        variants=[
            {**pixels, "smooth": 0.7, "smooth_denominator": 0.9, **options},
            {**pixels, **options},
            {**pixels, "log_loss": True},
        ],
        outside=[("smooth_denominator", 0.0)],
        **{**LAID_OUT, "inner": row.inner, "entries": row.entries},
    )
    return measured(changed)


SQUARED: Options = {"squared_predictions": True}
VARIATIONS = [
    of_form(jaxloss.dice_loss, CLASS, class_reduction="present", **SQUARED),
    of_form(jaxloss.tversky_loss, CLASS, alpha=0.3, beta=0.7),
    of_form(jaxloss.jaccard_loss, CLASS, **SQUARED),
    of_form(jaxloss.binary_dice_loss, LABELS, **SQUARED),
    of_probabilities(jaxloss.dice_loss, SOFT_LABELS, "apply_softmax"),
    of_probabilities(jaxloss.tversky_loss, CLASS, "apply_softmax"),
    of_probabilities(jaxloss.focal_tversky_loss, CLASS, "apply_softmax"),
    of_probabilities(jaxloss.jaccard_loss, CLASS, "apply_softmax"),
    of_probabilities(jaxloss.multiclass_generalized_dice_loss, CLASS, "apply_softmax"),
    of_probabilities(jaxloss.generalized_dice_loss, CLASS, "apply_softmax"),
    of_probabilities(jaxloss.matthews_correlation_loss, CLASS, "apply_softmax"),
    of_probabilities(jaxloss.binary_dice_loss, SOFT_LABELS, "apply_sigmoid"),
    of_probabilities(jaxloss.lovasz_softmax_loss, CLASS, "apply_softmax"),
]
