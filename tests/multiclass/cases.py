"""One class out of several: logits or scores against class numbers, one-hot and soft labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import jaxloss
from tests.laws.case import CLASS, LOG_PROBABILITIES, LOGITS, PROBABILITIES, Case, Kind, Options

Points = Callable[[int], list[tuple[np.ndarray, ...]]]


def points(labels: Kind, edges: Sequence[float] = LOGITS.edges) -> Points:
    """Ordinary logits, common offsets of 1e5, and ends of the domain, with labels of a kind.

    In the first rows a class is absent: its logit is -inf, its label 0.
    """

    def draw(seed: int) -> list[tuple[np.ndarray, ...]]:
        rng = np.random.default_rng(seed)
        ordinary = LOGITS.draw(rng, (16, 4))
        offset = LOGITS.draw(rng, (8, 4)) + rng.choice([1e3, 1e5, -1e5], (8, 1))
        ends = rng.choice(edges, (36, 4))
        x = np.concatenate([ordinary, offset, ends]).astype(np.float32)
        y = labels.draw(rng, x.shape)
        absent = np.arange(6)
        if labels.index:
            x[absent, (y[absent] + 1 + absent % 3) % 4] = -np.inf
            return list(zip(x, y.astype(np.int32), strict=True))
        hot = np.eye(4)[rng.integers(0, 4, len(x))]
        y = np.where(rng.uniform(size=(len(x), 1)) < 0.5, y, hot)
        x[absent, absent % 4], y[absent, absent % 4] = -np.inf, 0
        y[absent] += y.sum(-1, keepdims=True)[absent] == 0
        y[absent, absent % 4] = 0
        return list(zip(x, y.astype(np.float32), strict=True))

    return draw


WEIGHTS = (0.5, 2.0, 1.0, 0.25)


# Where the rounding of log p, half a unit of 80 or 30 eps of 1, does not show in a power of p.
NEAR = (0.0, 0.5, 1.0, -1.0, 2.25, -17.0, 17.0, 1e5, -1e5)


def both(
    loss: Callable[..., Any],
    edges: Sequence[float] = LOGITS.edges,
    outside: Sequence[tuple[int | str, float]] = (),
    **row: Any,
) -> list[Case]:
    """The rows of a loss that takes class numbers and distributions."""
    return [
        Case(
            loss,
            data=(LOGITS, labels),
            axis=True,
            points=points(labels, edges),
            optional_targets=False,
            zero_when_exact=False,
            outside=[*outside, *bad],
            **row,
        )
        for labels, bad in ((CLASS, [(1, -1), (1, 3), (1, -100)]), (PROBABILITIES, [(1, -0.5)]))
    ]


def capped_term(row: Any, options: Options, wrt: Any) -> float | None:
    """That of the oracle, but for the derivative in the cap.

    It is the sum over the classes of the slopes in the capped logits, which sum to 0, times those
    of the capped logits in the cap, which are all 1 where all logits are far beyond it.
    """
    if wrt != "logit_softcap":
        return None
    x, cap = np.asarray(row[0], np.float64), options["logit_softcap"]
    y = np.eye(4)[row[1]] if np.ndim(row[1]) == 0 else np.asarray(row[1], np.float64)
    scale, e = options.get("temperature", 1.0), options.get("label_smoothing", 0.0)
    z = np.where(np.isinf(x), x, cap * np.tanh(x / cap)) / scale
    total = np.logaddexp.reduce(z)
    p, mass = np.exp(z - total), np.sum(y)
    by_class = (
        np.abs(p - (1 - e) * y - e / 4) + 2 * options.get("z_loss", 0.0) * mass * abs(total) * p
    )
    r = np.clip(x / cap, -300, 300)
    return float(np.max(by_class * np.abs(np.tanh(r) - r / np.cosh(r) ** 2)) / scale)


def all_capped(logits: Any, labels: Any, *, logit_softcap: float = np.inf, **_: Any) -> bool:
    """Where all classes are at the cap: terms of its second derivative, of sizes near 1, cancel."""
    return bool(np.all(np.abs(logits) > 5 * logit_softcap))


CROSS_ENTROPY: dict[str, Any] = {
    "no_hessian": all_capped,
    "largest": capped_term,
    "variants": [
        {"label_smoothing": 0.1},
        {"class_weights": WEIGHTS},
        {"class_weights": WEIGHTS, "label_smoothing": 0.25, "z_loss": 1e-3},
        {"z_loss": 0.5, "temperature": 2.0},
        {"temperature": 0.5},
        {"logit_softcap": 3.0},
        {"logit_softcap": 30.0, "label_smoothing": 0.1, "z_loss": 0.5, "temperature": 2.0},
    ],
    "positional": ("axis", "where"),
}
KNOBS = [
    ("label_smoothing", -0.1),
    ("label_smoothing", 1.1),
    ("temperature", 0.0),
    ("temperature", -1.0),
    ("logit_softcap", 0.0),
]

FOCAL = both(
    jaxloss.softmax_focal_loss,
    options={"gamma": 1.3},
    variants=[
        *({"gamma": g} for g in (0.0, 0.5, 1.0, 2.0, 5.0)),
        {"gamma": 2.0, "label_smoothing": 0.1, "class_weights": WEIGHTS},
    ],
    outside=[("gamma", -1.0)],
)
POLY = both(
    jaxloss.poly_loss_cross_entropy,
    options={"epsilon": 1.3},
    variants=[{"epsilon": 2.0, "label_smoothing": 0.1, "class_weights": WEIGHTS}],
)


def even_odds(logits: Any, labels: Any, *, q: float, **_: Any) -> bool:
    """At q = 1 the loss is 1 - p, which turns at p = 1/2: p^2 (1 - p) and p (1 - p)^2 cancel."""
    odds = np.exp(np.float64(logits) - np.max(logits))
    p = odds / np.sum(odds)
    return q == 1 and bool(np.any(np.abs(p - 0.5) < 1e-6))


GENERALIZED = both(
    jaxloss.generalized_cross_entropy,
    NEAR,
    options={"q": 0.6},
    variants=[*({"q": q} for q in (0.0, 1e-7, 0.7, 1.0)), {"q": 0.6, "class_weights": WEIGHTS}],
    outside=[("q", -0.1), ("q", 1.1)],
    no_hessian=even_odds,
)
SYMMETRIC = both(
    jaxloss.symmetric_cross_entropy,
    options={"alpha": 0.3, "beta": 0.7, "log_zero": -5.0},
    variants=[{"alpha": 0.1, "beta": 1.0, "log_zero": -4.0, "class_weights": WEIGHTS}],
    outside=[("alpha", -0.1), ("beta", -0.1), ("log_zero", 0.5)],
)

ENTROPIES = [
    Case(
        jaxloss.softmax_cross_entropy,
        data=(LOGITS, PROBABILITIES),
        axis=True,
        points=points(PROBABILITIES),
        optional_targets=False,
        zero_when_exact=False,
        outside=KNOBS,
        **CROSS_ENTROPY,
    ),
    Case(
        jaxloss.softmax_cross_entropy_with_integer_labels,
        data=(LOGITS, CLASS),
        axis=True,
        points=points(CLASS),
        optional_targets=False,
        zero_when_exact=False,
        outside=[*KNOBS, (1, -1), (1, 3), (1, -100)],
        **CROSS_ENTROPY,
    ),
    Case(
        jaxloss.nll_loss,
        data=(LOG_PROBABILITIES, CLASS),
        axis=True,
        variants=[{"class_weights": WEIGHTS}],
        optional_targets=False,
        zero_when_exact=False,
        outside=[(1, -1), (1, 3), (1, -100)],
    ),
    FOCAL[0],
    POLY[1],
    GENERALIZED[0],
    SYMMETRIC[0],
]

# The same losses with labels of the other kind.
OTHER_LABELS = [FOCAL[1], POLY[0], GENERALIZED[1], SYMMETRIC[1]]


def gaps(scores: Any, labels: Any) -> np.ndarray:
    """How far each other class is above the right one; exact, for the scores of the rows."""
    x = np.asarray(scores, np.float64)
    return np.delete(x, int(labels)) - x[int(labels)]


def at_the_margin(scores: Any, labels: Any, *, margin: Any = 1.0, **_: Any) -> bool:
    return bool(np.any(gaps(scores, labels) == -np.float64(margin)))


def between_rivals(scores: Any, labels: Any, *, margin: Any = 1.0, **_: Any) -> bool:
    """At the margin, or where several classes are the runner-up."""
    gap = gaps(scores, labels)
    return bool(gap.max() == -np.float64(margin) or np.sum(gap == gap.max()) > 1)


def between_the_best(scores: Any, labels: Any, **_: Any) -> bool:
    return between_rivals(scores, labels, margin=0.0)


ROW: dict[str, Any] = {
    "data": (LOGITS, CLASS),
    "axis": True,
    "points": points(CLASS),
    "optional_targets": False,
    "zero_when_exact": False,
    "outside": [(1, -1), (1, 3), (1, -100)],
}

# The gradients in the scores that the docstrings state, one for each argument with a derivative.
STATED: dict[str, Any] = {
    "multi_margin": [
        (((1.0, 0.0), 0), {"margin": 1.0}, ((-0.5, 0.5),)),
        (((1.0, 0.0, 0.0, -9.0), 0), {"margin": 1.0}, ((-0.5, 0.25, 0.25, 0.0),)),
        (((1.5, 0.0), 0), {"margin": 1.0}, ((0.0, 0.0),)),
    ],
    "hinge": [
        (((1.0, 0.0, -5.0), 0), {"margin": 1.0}, ((-1.0, 1.0, 0.0),)),
        (((1.0, 0.5, 0.5), 0), {"margin": 1.0}, ((-1.0, 0.5, 0.5),)),
        (((1.5, 0.0, 0.0), 0), {"margin": 1.0}, ((0.0, 0.0, 0.0),)),
    ],
    "perceptron": [
        (((1.0, 1.0, 0.0), 0), {}, ((-1.0, 1.0, 0.0),)),
        (((0.0, 0.0, 0.0), 0), {}, ((-1.0, 0.5, 0.5),)),
        (((1.0, 0.0, 0.0), 0), {}, ((0.0, 0.0, 0.0),)),
    ],
    "sparsemax": [
        (((0.0, 0.0), 0), {}, ((-0.5, 0.5),)),
        (((2.0, 1.0, 0.0), 0), {}, ((0.0, 0.0, 0.0),)),
        (((2.0, 1.0, 0.0), 1), {}, ((1.0, -1.0, 0.0),)),
    ],
    "squared": [(((1.0, 0.0), 0), {"margin": 1.0, "p": 2}, ((0.0, 0.0),))],
}

MARGINS = [
    Case(
        jaxloss.multi_margin_loss,
        options={"margin": 1.3},
        variants=[{"margin": 1.0}, {"margin": 0.0, "class_weights": WEIGHTS}],
        kink=at_the_margin,
        stated=STATED["multi_margin"],
        **ROW,
    ),
    Case(
        jaxloss.multiclass_hinge_loss,
        options={"margin": 1.3},
        variants=[{"margin": 1.0, "class_weights": WEIGHTS}, {"margin": 0.0}],
        kink=between_rivals,
        stated=STATED["hinge"],
        **ROW,
    ),
    Case(
        jaxloss.multiclass_perceptron_loss,
        variants=[{"class_weights": WEIGHTS}],
        kink=between_the_best,
        stated=STATED["perceptron"],
        **ROW,
    ),
    Case(
        jaxloss.multiclass_sparsemax_loss,
        variants=[{"class_weights": WEIGHTS}],
        stated=STATED["sparsemax"],
        **ROW,
    ),
]

# The formula with squares; the largest terms of its margins are squares too.
SQUARES = [
    Case(
        jaxloss.multi_margin_loss,
        options={"margin": 1.3, "p": 2},
        variants=[{"margin": 1.0, "p": 2, "class_weights": WEIGHTS}],
        kink=at_the_margin,
        stated=STATED["squared"],
        **ROW,
    )
]

CASES = [*ENTROPIES, *MARGINS]
VARIATIONS = [*OTHER_LABELS, *SQUARES]


def sequences(seed: int) -> list[tuple[np.ndarray, ...]]:
    """Three tokens each, out of a vocabulary of four."""
    logits, tokens = (
        np.stack(column)[:60].reshape(20, 3, *shape)
        for column, shape in zip(zip(*points(CLASS)(seed), strict=True), ((4,), ()), strict=True)
    )
    return list(zip(logits, tokens, strict=True))


FUNCTIONS = [
    Case(
        jaxloss.smooth_labels,
        data=(PROBABILITIES,),
        options={"alpha": 0.3},
        variants=[{"alpha": 0.0}, {"alpha": 1.0}],
        axis=True,
        batch=True,
        points=lambda seed: [(y,) for _, y in points(PROBABILITIES)(seed)],
    ),
    Case(
        jaxloss.sequence_log_probabilities,
        data=(LOGITS, CLASS),
        variants=[{"normalize": True}],
        axis=True,
        points=sequences,
    ),
]
