"""One class out of several, by the margin of its score: scores against class numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

import jaxloss
from tests.multiclass.cases import WEIGHTS, points
from tests.laws.case import CLASS, LOGITS, Case


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

CASES = [
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
