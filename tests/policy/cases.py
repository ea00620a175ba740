"""Rows of the losses of policies and values."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

import jaxloss
from tests.laws.case import REAL, Case, Kind

POLICY: dict[str, Any] = {"optional_targets": False, "zero_when_exact": False}
# An advantage of a whole sequence.
ADVANTAGE = dataclasses.replace(
    REAL, draw=lambda rng, shape: rng.normal(0, 2, shape[:-1]), single=True
)
LOG_PROBABILITY = Kind(
    lambda rng, shape: rng.uniform(-9, -0.1, shape),
    (0.0, -1e-12, -1e-4, -0.3, -0.6931472, -2.5, -4.0),
    whole=None,
)


def at_a_bound(
    log_probs: Any, old_log_probs: Any, advantages: float, *, clip: float = 0.2, **options: Any
) -> bool:
    """Without an advantage; and a ratio of 1 that is held there. No other bound is a float."""
    bounds = clip, options.get("clip_high", clip), options.get("dual_clip", 3.0) - 1
    return bool(advantages == 0 or (np.all(log_probs == old_log_probs) and 0 in bounds))


CASES: list[Case] = [
    Case(
        jaxloss.ppo_loss,
        data=(REAL, REAL, REAL),
        options={"clip": 0.2, "clip_high": 0.3, "dual_clip": 3.0},
        variants=[{}, {"clip": 0.4}, {"clip": 1.7, "clip_high": 1e3}, {"dual_clip": 40.0}],
        kink=at_a_bound,
        stated=[
            ((-1.0, -1.0, 2.0), {"clip": 0.0}, (-2.0, 2.0)),
            ((-1.0, -1.0, -2.0), {"clip": 0.0}, (2.0, -2.0)),
            ((0.0, -100.0, 0.0), {}, (0.0, 0.0)),
        ],
        outside=[("clip", -1.0), ("clip_high", -1.0), ("dual_clip", 0.5)],
        **POLICY,
    ),
]

VARIATIONS = [
    Case(
        jaxloss.ppo_loss,
        data=(REAL, REAL, REAL),
        options={"kind": "cispo", "clip": 0.2, "clip_high": 0.3},
        variants=[{"kind": "cispo", "clip": 1.7, "clip_high": 4.0}],
        outside=[("clip", -1.0), ("clip_high", -1.0)],
        not_differentiated={
            "old_log_probs": "the ratio is held constant",
            "clip": "the ratio is held constant",
            "clip_high": "the ratio is held constant",
        },
        not_numerical="the ratio is held constant, a difference does not",
        **POLICY,
    ),
    Case(
        jaxloss.ppo_loss,
        data=(LOG_PROBABILITY, LOG_PROBABILITY, ADVANTAGE),
        options={"level": "sequence", "clip": 0.2, "clip_high": 0.3, "dual_clip": 3.0},
        variants=[{"level": "sequence", "clip": 0.4}],
        axis=True,
        kink=at_a_bound,
        outside=[("clip", -1.0), ("clip_high", -1.0), ("dual_clip", 0.5)],
        **POLICY,
    ),
]
