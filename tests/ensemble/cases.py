"""Rows of the losses of ensembles and intervals."""

from __future__ import annotations

from typing import Any

import numpy as np

import jaxloss
from tests.laws.case import REAL, Case, Kind

# One for each ensemble.
TARGET = Kind(lambda rng, shape: rng.normal(0, 2, shape[:-1]), REAL.edges, single=True)
# One vector for each ensemble of vectors.
VECTOR = Kind(lambda rng, shape: rng.normal(0, 2, (*shape[:-2], *shape[-1:])), REAL.edges)
# The probability of a target outside.
SHARE = Kind(
    lambda rng, shape: rng.uniform(0.02, 0.9, shape),
    (0.0, 1e-30, 1e-4, 0.1, 0.5, 0.9, 1.0),
    whole=lambda x: np.round(x),
)
SCORE: dict[str, Any] = {"optional_targets": False, "zero_when_exact": False}
MEET = "the members of an ensemble meet each other"


CRPS: dict[str, Any] = SCORE | {
    "data": (REAL, TARGET),
    "axis": True,
    "gathered": MEET,
}
ENERGY: dict[str, Any] = SCORE | {
    "data": (REAL, VECTOR),
    "axis": True,
    "inner": (4, 3),
    "entries": False,
    "gathered": MEET,
}

CASES = [
    Case(
        jaxloss.crps_ensemble,
        variants=[{"lower": -0.8, "upper": 2.1}, {"lower": 0.2}],
        stated=[
            # Equal members have the mean of their slopes, and a member that is the target that of
            # both sides.
            (([1.0, 1.0, 3.0], 2.0), {}, ([-1 / 6, -1 / 6, 0.0], 1 / 3)),
            (([1.0, 2.0, 3.0, 5.0], 2.0), {}, ([0.0, 1 / 12, 1 / 6, 0.0], -0.25)),
            # At a threshold a number has the slope between them.
            (([1.0, 2.0, 3.0], 5.0), {"lower": 3.0}, ([0.0, 0.0, -1 / 3], 1.0)),
        ],
        **CRPS,
    ),
    Case(
        jaxloss.energy_score,
        # A distance of 0 has slope 0: of equal members, and of one that is the target.
        stated=[
            (([[4.0, 0.0], [0.0, 0.0]], [0.0, 0.0]), {}, ([[0.0, 0.0], [0.5, 0.0]], [-0.5, 0.0])),
            (([[4.0, 0.0], [4.0, 0.0]], [0.0, 0.0]), {}, ([[0.5, 0.0], [0.5, 0.0]], [-1.0, 0.0])),
        ],
        **ENERGY,
    ),
    Case(
        jaxloss.interval_score,
        data=(REAL, REAL, REAL),
        options={"alpha": 0.3},
        variants=[{"alpha": 1.0}, {"alpha": 1e-3}],
        kink=lambda lower, upper, targets, **_: targets in (lower, upper),
        stated=[
            ((1.0, 3.0, 1.0), {"alpha": 0.5}, (0.0, 1.0, -1.0)),
            ((1.0, 3.0, 3.0), {"alpha": 0.5}, (-1.0, 0.0, 1.0)),
        ],
        **SCORE,
    ),
    Case(
        jaxloss.weighted_interval_score,
        data=(REAL, REAL, TARGET, TARGET, SHARE),
        axis=True,
        kink=lambda lower, upper, median, targets, *_: bool(
            np.any(np.concatenate([lower, upper, [median]]) == targets)
        ),
        stated=[
            (([1.0], [4.0], 2.0, 2.0, [0.5]), {}, ([-1 / 6], [1 / 6], 0.0, 0.0)),
            (([1.0], [4.0], 2.0, 1.0, [0.5]), {}, ([0.0], [1 / 6], 1 / 3, -0.5)),
        ],
        outside=[(4, -0.1), (4, 1.1)],
        **SCORE,
    ),
]

VARIATIONS = [
    Case(
        jaxloss.crps_ensemble,
        options={"kind": "almost_fair", "alpha": 0.7},
        variants=[
            {"kind": "almost_fair", "alpha": 0.95, "lower": -0.8, "upper": 2.1},
            {"kind": "almost_fair", "alpha": 1.0},
        ],
        **CRPS,
    ),
    Case(jaxloss.crps_ensemble, options={"kind": "biased"}, **CRPS),
    Case(
        jaxloss.energy_score,
        options={"kind": "almost_fair", "alpha": 0.7},
        variants=[{"kind": "biased"}],
        **ENERGY,
    ),
]
