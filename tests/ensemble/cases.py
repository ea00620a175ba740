"""Rows of the losses of ensembles and intervals."""

from __future__ import annotations

from typing import Any

import jaxloss
from tests.laws.case import REAL, Case, Kind

# One for each ensemble.
TARGET = Kind(lambda rng, shape: rng.normal(0, 2, shape[:-1]), REAL.edges, single=True)
SCORE: dict[str, Any] = {"optional_targets": False, "zero_when_exact": False}
MEET = "the members of an ensemble meet each other"


CRPS: dict[str, Any] = SCORE | {
    "data": (REAL, TARGET),
    "axis": True,
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
]
