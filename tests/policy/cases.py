"""Rows of the losses of policies and values."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

import jaxloss
from tests.laws.case import LOGITS, REAL, Case, Kind

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


def at_the_end(v: float, target: float, old: float, *, clip: float = 0.2) -> bool:
    """Where the errors of the value and of the end of its band are equal."""
    at, goal, middle, half = (np.longdouble(x) for x in (v, target, old, clip))
    near = np.clip(at, middle - half, middle + half)
    return bool(abs(at - goal) == abs(near - goal) and abs(at - middle) >= half)


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
    Case(
        jaxloss.kl_estimate,
        variants=[{"kind": "k2"}, {"kind": "k1"}],
        optional_targets=False,
    ),
    Case(
        jaxloss.value_loss,
        data=(REAL, REAL, REAL),
        options={"clip": 0.7},
        variants=[{}, {"clip": 40.0}],
        kink=at_the_end,
        stated=[
            ((0.5, 3.0, 0.0), {"clip": 0.5}, (-2.5, 2.5)),
            ((5.5, 3.0, 0.0), {"clip": 0.5}, (2.5, -2.5)),
            ((2.0, 3.0, 0.0), {"clip": 0.5}, (0.0, 2.5)),
        ],
        outside=[("clip", -1.0)],
        # An oracle takes what is infinite for constant, but for the first two arguments.
        no_hessian=lambda *numbers, **_: bool(np.isinf(numbers[2])),
        **POLICY,
    ),
    Case(jaxloss.entropy_loss, data=(LOGITS,), axis=True, **POLICY),
    Case(
        jaxloss.quantile_huber_loss,
        options={"delta": 0.7},
        variants=[{}, {"delta": 0.0}],
        axis=True,
        entries=False,
        gathered="every quantile meets every target",
        kink=lambda p, t, delta=1.0, **_: bool(
            np.any(np.abs(p[:, None] - t) == delta) or (delta == 0 and np.any(p[:, None] == t))
        ),
        outside=[("delta", -1.0)],
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

FUNCTIONS = [
    Case(
        jaxloss.reduce_tokens,
        data=(REAL,),
        variants=[
            {"normalizer": "constant", "length": 5.0},
            {"normalizer": "token"},
        ],
        axis=True,
        **POLICY,
    ),
]
