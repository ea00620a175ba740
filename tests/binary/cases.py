"""Yes or no: logits, probabilities and scores against labels; and several labels at once."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

import jaxloss
from tests.laws.case import LABELS, LOGITS, SIGNS, SOFT_LABELS, Case, Kind, Options

# Beyond softplus's linear end too, and where its derivatives vanish.
ANY_LOGIT = dataclasses.replace(
    LOGITS,
    edges=(*LOGITS.edges, 1e-30, -1e-30, 1e-4, -1e-4, -2.5, -2.9, 30.0, -30.0, np.inf, -np.inf),
)
PROBABILITY = Kind(
    lambda rng, shape: rng.uniform(0, 1, shape),
    (0.0, 1e-30, 1e-6, 0.25, 0.4999, 0.5, 0.75, 1 - 1e-6, 1.0),
    whole=None,
)

LABELED: dict[str, Any] = {"optional_targets": False, "zero_when_exact": False}
MULTI_HOT: dict[str, Any] = LABELED | {
    "not_differentiated": {"labels": "at both ends of their domain; the loss is flat in them"}
}
OUTSIDE = [(1, -0.1), (1, 1.1)]


def at_the_clamp(p: float, y: float, epsilon: float = 0.0, **_: Any) -> bool:
    return epsilon > 0 and min(p, 1 - p) == epsilon


def at_one(x: float, t: float) -> bool:
    return x == np.sign(t)


def at_zero(x: float, t: float) -> bool:
    return x == 0


def at_the_margin(x: Any, y: Any, margin: float = 1.0, **_: Any) -> bool:
    """Whether a pair stands exactly at the margin, in float64."""
    x = np.asarray(x, float)
    gaps = x[np.asarray(y) > 0][:, None] - x[np.asarray(y) <= 0]
    return bool(np.any(gaps == margin))


def focal_term(row: Any, options: Options, wrt: Any) -> float | None:
    """The largest term of the focal loss, or, by the product rule, of its derivative."""
    x, y = map(float, row)
    if wrt not in (0, 1) or np.isinf(x):
        return None
    gamma, alpha = float(options.get("gamma", 2.0)), options.get("alpha")
    if options.get("apply_sigmoid", True):
        p, q = (np.exp(-np.logaddexp(0.0, s * x)) for s in (-1, 1))
        yes, no = np.logaddexp(0.0, -x), np.logaddexp(0.0, x)
        either, moved = max(y * q, (1 - y) * p), p * q
    elif x in (0, 1):
        return None
    else:
        p, q, yes, no = x, 1 - x, -np.log(x), -np.log1p(-x)
        either, moved = max(y / p, (1 - y) / q), 1
    u, entropy = (1 - y) * p + y * q, y * yes + (1 - y) * no
    weight = 1.0 if alpha is None else alpha * y + (1 - alpha) * (1 - y)
    turn = weight * gamma * u**gamma * (entropy / u if u else 1.0)
    if wrt == 0:
        return max(weight * u**gamma * either, turn * abs(1 - 2 * y) * moved)
    tilt = 0.0 if alpha is None else abs(2 * alpha - 1)
    return max(weight * u**gamma * max(yes, no), turn * abs(p - q), tilt * u**gamma * entropy)


def any_in_labels(row: Any, options: Options, wrt: Any) -> float | None:
    """That of the oracle, but for derivatives in labels, where the loss jumps at 0."""
    del row, options
    return np.inf if isinstance(wrt, tuple) and wrt[0] == 1 else None


def turning(x: float, y: float, *, gamma: float = 2.0, **_: float) -> bool:
    """Near an inflection of the focal loss in the logit: terms of sizes near 1 cancel there."""

    def loss(x: Any) -> Any:
        p, decay = 1 / (1 + np.exp(-x)), np.logaddexp(0, -np.abs(x))
        entropy = y * (decay + np.maximum(-x, 0)) + (1 - y) * (decay + np.maximum(x, 0))
        return (y + p - 2 * p * y) ** gamma * entropy

    with np.errstate(over="ignore", invalid="ignore"):
        around = np.float64(x) + np.array([-1.0, 0.0, 1.0])
        bend = np.abs(loss(around + 0.01) - 2 * loss(around) + loss(around - 0.01))
        return bool(bend[1] < 0.05 * max(bend[0], bend[2]))


CASES = [
    Case(
        jaxloss.sigmoid_binary_cross_entropy,
        data=(ANY_LOGIT, SOFT_LABELS),
        options={"pos_weight": 1.7, "label_smoothing": 0.1},
        variants=[
            {},
            {"pos_weight": 0.0, "label_smoothing": 0.0},
            {"pos_weight": 1.0, "label_smoothing": 1.0},
            {"pos_weight": 1e3},
        ],
        outside=[
            *OUTSIDE,
            ("pos_weight", -1.0),
            ("label_smoothing", -0.1),
            ("label_smoothing", 1.1),
        ],
        **LABELED,
    ),
    Case(
        jaxloss.binary_cross_entropy,
        data=(PROBABILITY, SOFT_LABELS),
        options={"pos_weight": 1.7, "label_smoothing": 0.1, "epsilon": 1e-3},
        variants=[
            {},
            {"pos_weight": 0.0},
            {"pos_weight": 1.0, "label_smoothing": 1.0},
            {"epsilon": 1e-7},
            {"epsilon": 0.3, "pos_weight": 2.0},
        ],
        kink=at_the_clamp,
        stated=[
            ((0.0, 1.0), {"epsilon": 0.25, "pos_weight": 1.0, "label_smoothing": 0.0}, (-4.0,)),
            ((1.0, 0.0), {"epsilon": 0.25, "pos_weight": 1.0, "label_smoothing": 0.0}, (4.0,)),
        ],
        outside=[
            *OUTSIDE,
            (0, -0.1),
            (0, 1.1),
            ("pos_weight", -1.0),
            ("label_smoothing", -0.1),
            ("label_smoothing", 1.1),
            ("epsilon", -0.1),
            ("epsilon", 0.6),
        ],
        **LABELED,
    ),
    Case(
        jaxloss.sigmoid_focal_loss,
        no_hessian=turning,
        branches=("gamma",),
        data=(ANY_LOGIT, SOFT_LABELS),
        options={"alpha": 0.3, "gamma": 2.0},
        variants=[{}, *({"gamma": g} for g in (0.0, 0.5, 1.0, 1.5, 3.0, 5.0)), {"alpha": 1.0}],
        outside=[*OUTSIDE, ("alpha", -0.1), ("alpha", 1.1), ("gamma", -1.0)],
        largest=focal_term,
        **LABELED,
    ),
    Case(
        jaxloss.asymmetric_loss,
        branches=("gamma_negative", "gamma_positive"),
        # There 1 - p is below the smallest normal number, and reads as 0.
        no_hessian=lambda x, y, *, clip, **_: clip == 0 and x > 87,
        data=(ANY_LOGIT, SOFT_LABELS),
        options={"gamma_negative": 4.0, "gamma_positive": 1.0, "clip": 0.05},
        variants=[
            {"gamma_negative": 2.5, "gamma_positive": 0.5, "clip": 0.2},
            {"gamma_negative": 2.0, "gamma_positive": 0.0, "clip": 0.0},
        ],
        outside=[
            *OUTSIDE,
            ("gamma_negative", -1.0),
            ("gamma_positive", -1.0),
            ("clip", -0.1),
            ("clip", 1.1),
        ],
        **LABELED,
    ),
    Case(jaxloss.soft_margin_loss, data=(ANY_LOGIT, SIGNS), **LABELED),
    Case(
        jaxloss.hinge_loss,
        data=(ANY_LOGIT, SIGNS),
        kink=at_one,
        stated=[((1.0, 1.0), {}, (-1.0, 0.0)), ((-1.0, -1.0), {}, (1.0, 0.0))],
        **LABELED,
    ),
    Case(
        jaxloss.squared_hinge_loss,
        data=(ANY_LOGIT, SIGNS),
        stated=[((1.0, 1.0), {}, (0.0, 0.0))],
        **LABELED,
    ),
    Case(
        jaxloss.perceptron_loss,
        data=(ANY_LOGIT, SIGNS),
        kink=at_zero,
        stated=[((0.0, 1.0), {}, (-1.0, 0.0)), ((0.0, -1.0), {}, (1.0, 0.0))],
        **LABELED,
    ),
    Case(
        jaxloss.sparsemax_loss,
        data=(ANY_LOGIT, SIGNS),
        stated=[((1.0, 1.0), {}, (0.0, 0.0)), ((-1.0, 1.0), {}, (-1.0, 0.0))],
        **LABELED,
    ),
    Case(
        jaxloss.multilabel_margin_loss,
        data=(LOGITS, LABELS),
        options={"margin": 1.3},
        variants=[{"margin": 1.0}, {"class_weights": (0.5, 2.0, 1.0, 0.25)}],
        axis=True,
        gathered="each class of the labels meets each other class",
        kink=at_the_margin,
        largest=any_in_labels,
        stated=[(((1.0, 0.0), (1.0, 0.0)), {"margin": 1.0}, ((-0.5, 0.5), (0.0, 0.0)))],
        outside=[*OUTSIDE, (1, 3.0), (1, -1.0)],
        **MULTI_HOT,
    ),
    Case(
        jaxloss.multilabel_soft_margin_loss,
        data=(LOGITS, SOFT_LABELS),
        variants=[{"class_weights": (0.5, 2.0, 1.0, 0.25)}],
        axis=True,
        outside=OUTSIDE,
        **LABELED,
    ),
    Case(
        jaxloss.zlpr_loss,
        data=(LOGITS, LABELS),
        variants=[{"class_weights": (0.5, 2.0, 1.0, 0.25)}],
        axis=True,
        largest=any_in_labels,
        outside=[*OUTSIDE, (1, 3.0), (1, -1.0)],
        **MULTI_HOT,
    ),
]

VARIATIONS = [
    Case(
        jaxloss.sigmoid_focal_loss,
        branches=("gamma",),
        data=(PROBABILITY, SOFT_LABELS),
        options={"alpha": 0.3, "gamma": 2.0, "apply_sigmoid": False},
        variants=[{"gamma": g, "apply_sigmoid": False} for g in (0.0, 0.5, 1.5)],
        outside=[*OUTSIDE, (0, -0.1), (0, 1.1), ("alpha", 1.1), ("gamma", -1.0)],
        largest=focal_term,
        **LABELED,
    ),
]
