"""Preferences: log-probabilities of a chosen and of a rejected answer, or of one and its label."""

from __future__ import annotations

import functools
import inspect
import math
from typing import Any

import numpy as np
from scipy.special import expit

import jaxloss
from tests.laws.case import REAL, SIGNS, Case, Kind

LOG_PROBABILITY = Kind(
    lambda rng, shape: rng.uniform(-3, -0.1, shape),
    (0.0, -1e-30, -1e-12, -1e-4, -0.3, -0.6931472, -2.5, -17.0, -80.0, -100.0, -1e5, -1e30),
    whole=lambda x: np.floor(x),
    infinite=(-np.inf,),
)
LENGTH = Kind(
    lambda rng, shape: rng.uniform(0.5, 3, shape),
    (1.0, 2.0, 3.0, 7.0, 100.0, 1e5),
    whole=lambda x: np.ceil(x),
)
PREFERENCE: dict[str, Any] = {"optional_targets": False, "zero_when_exact": False}
DPO: dict[str, Any] = PREFERENCE | {"data": (REAL, REAL, REAL, REAL), "edges": 300}


def on_the_margin(*numbers: float, beta: float = 0.1, **_: Any) -> bool:
    """Whether the hinge is at its kink."""
    chosen, rejected, first, second = map(np.float64, numbers)
    return bool(np.float64(beta) * ((chosen - first) - (rejected - second)) == 1)


def beyond_measure(c: float, r: float, **_: float) -> bool:
    """Where the entries of ORPO's Hessian in log-probabilities cannot be told.

    With even odds of r = log 1/2 the loss is linear in c: the terms, of sizes up to 1e8, cancel to
    less than their rounding. Nearer to 0 than 1e-19 some entries overflow, and 0 times these is
    NaN; log-odds, of which ORPO is smooth, are the row below.
    """
    return abs(r + math.log(2)) < 1e-6 or max(c, r) > -1e-19


def with_lengths() -> Any:
    """`dpo_loss` with the lengths of both answers taken by position."""
    loss, added = jaxloss.dpo_loss, ("chosen_lengths", "rejected_lengths")
    body = vars(loss)["__wrapped__"]

    @functools.wraps(loss)
    def call(*data: Any, **options: Any) -> Any:
        return loss(*data[:4], **dict(zip(added, data[4:], strict=True)), **options)

    parameters = dict(inspect.signature(loss).parameters)
    lengths = [parameters.pop(name) for name in added]
    moved = [x.replace(kind=x.POSITIONAL_OR_KEYWORD, default=x.empty) for x in lengths]
    given = list(parameters.values())
    call.__signature__ = inspect.Signature([*given[:4], *moved, *given[4:]])  # type: ignore
    call.__wrapped__ = lambda *data, **options: body(
        *data[:4], **dict(zip(added, data[4:], strict=True)), **options
    )
    return call


def infinite(*numbers: float, **_: Any) -> bool:
    """An oracle takes what is infinite for constant, but for the first two arguments."""
    return bool(np.any(np.isinf(numbers)))


def difference_in_exponent(row: Any, options: Any, wrt: Any) -> float | None:
    """The loss and its slopes, times the larger of two exponentials whose difference is z.

    The rounding of each is a change of z, by which the loss, exp(-z), changes.
    """
    c, r = row[0] - row[2], row[1] - row[3]
    alpha, beta = options.get("alpha", 1.0), options["beta"]
    scores = beta / alpha * np.exp(-alpha * np.array([c, r, c, r]))
    z = (np.expm1(-alpha * r) - np.expm1(-alpha * c)) * beta / alpha
    term = max(1.0, float(scores.max()))
    if wrt is None:
        return term * float(np.logaddexp(0, -z))
    slopes = alpha * scores * float(expit(-z))
    return term * float(slopes[wrt]) if isinstance(wrt, int) else None


# A quotient is kept with what its rounding lost, but not with what was lost of that: of gains per
# token 48 bits are known.
IN_48_BITS = Kind(
    REAL.draw, (0.0, 1e-4, *(s * x for s in (1, -1) for x in (0.3, 2.5, 17, 80, 1e5)))
)
# Gains whose exponentials are in range.
GAIN = Kind(REAL.draw, (0.0, 1e-12, -1e-4, 0.3, -2.5, 9.0, -9.0, 17.0, -17.0, 30.0))
NO_GAIN: dict[str, Any] = PREFERENCE | {"data": (REAL, REAL, REAL, REAL), "edges": 120}


CASES = [
    Case(
        jaxloss.bradley_terry_loss,
        options={"margin": 0.7},
        variants=[{}, {"margin": 1e5}, {"margin": -80.0}],
        **PREFERENCE,
    ),
    Case(
        jaxloss.dpo_loss,
        options={"beta": 0.3, "label_smoothing": 0.2},
        variants=[{"beta": 0.1}, {"beta": 1.0, "label_smoothing": 0.0}, {"beta": 1e-12}],
        outside=[("beta", -1.0), ("label_smoothing", -0.1), ("label_smoothing", 1.1)],
        **DPO,
    ),
    Case(
        jaxloss.simpo_loss,
        data=(REAL, REAL, LENGTH, LENGTH),
        options={"beta": 2.3, "gamma": 0.7},
        variants=[{"beta": 10.0, "gamma": 5.0}, {"beta": 0.1, "gamma": -1e5}],
        outside=[(2, 0.0), (2, -1.0), (3, 0.0), (3, -1.0), ("beta", -1.0)],
        **PREFERENCE,
    ),
    Case(
        jaxloss.bco_loss,
        data=(REAL, REAL, SIGNS),
        options={"beta": 0.3, "reward_shift": 0.7},
        variants=[{"beta": 1.0}, {"beta": 0.1, "reward_shift": 1e5}],
        not_differentiated={"labels": "of which only the sign is read"},
        **PREFERENCE,
    ),
    Case(
        jaxloss.orpo_loss,
        data=(LOG_PROBABILITY, LOG_PROBABILITY),
        options={"beta": 0.3},
        variants=[{"beta": 1.0}, {"beta": 0.0}, {"beta": 10.0}],
        outside=[(0, 0.5), (1, 0.5), ("beta", -1.0)],
        no_hessian=beyond_measure,
        **PREFERENCE,
    ),
    Case(
        jaxloss.kto_loss,
        data=(REAL, REAL, SIGNS),
        options={
            "beta": 0.3,
            "reference_point": 0.7,
            "desirable_weight": 1.3,
            "undesirable_weight": 0.6,
        },
        variants=[{"beta": 1.0}, {"beta": 0.1, "reference_point": 1e5}],
        outside=[("beta", -1.0)],
        not_differentiated={"labels": "of which only the sign is read"},
        **PREFERENCE,
    ),
]

VARIATIONS = [
    Case(
        jaxloss.dpo_loss,
        options={"kind": "robust", "beta": 0.3, "label_smoothing": 0.2},
        variants=[{"kind": "robust", "beta": 1.0, "label_smoothing": 0.49}],
        outside=[("beta", -1.0), ("label_smoothing", -0.1), ("label_smoothing", 0.5)],
        **DPO,
    ),
    Case(
        jaxloss.dpo_loss,
        options={"kind": "hinge", "beta": 0.3},
        variants=[{"kind": "hinge", "beta": 1.0}],
        kink=on_the_margin,
        outside=[("beta", -1.0)],
        **DPO,
    ),
    Case(
        jaxloss.orpo_loss,
        options={"log_odds": True, "beta": 0.3},
        variants=[{"log_odds": True, "beta": 0.0}, {"log_odds": True, "beta": 10.0}],
        outside=[("beta", -1.0)],
        **PREFERENCE,
    ),
    Case(
        jaxloss.dpo_loss,
        options={"kind": "ipo", "beta": 0.3},
        variants=[{"kind": "ipo", "beta": 1.0}, {"kind": "ipo", "beta": 1e-12}],
        # An oracle takes what is infinite for constant, but for the first two arguments.
        no_hessian=lambda *numbers, **_: bool(np.any(np.isinf(numbers[2:]))),
        outside=[("beta", -1.0)],
        **DPO,
    ),
    Case(
        jaxloss.bradley_terry_loss,
        options={"margin": 0.7, "center_rewards_coefficient": 0.3},
        variants=[{"center_rewards_coefficient": 1e-3}],
        no_hessian=infinite,
        **PREFERENCE,
    ),
    Case(
        jaxloss.simpo_loss,
        data=(REAL, REAL, LENGTH, LENGTH),
        options={"beta": 2.3, "gamma": 0.7, "label_smoothing": 0.2},
        **PREFERENCE,
    ),
    Case(
        with_lengths(),
        options={"beta": 0.3, "label_smoothing": 0.2},
        outside=[(4, 0.0), (4, -1.0), (5, 0.0), (5, -1.0)],
        **{**DPO, "data": (*(4 * (IN_48_BITS,)), LENGTH, LENGTH)},
    ),
    *(
        Case(jaxloss.dpo_loss, options={"kind": kind, "beta": 0.3}, **NO_GAIN)
        for kind in ("nca_pair", "apo_zero", "apo_down")
    ),
    Case(
        jaxloss.dpo_loss,
        options={"kind": "sppo_hard", "beta": 0.3},
        no_hessian=infinite,
        **NO_GAIN,
    ),
    Case(
        jaxloss.dpo_loss,
        options={"kind": "exo_pair", "beta": 0.3, "label_smoothing": 0.2},
        variants=[{"kind": "exo_pair", "beta": 0.5, "label_smoothing": 1e-3}],
        **NO_GAIN,
    ),
    Case(
        jaxloss.dpo_loss,
        options={"kind": "discopop", "beta": 0.3, "temperature": 0.05},
        variants=[{"kind": "discopop", "beta": 1.0, "temperature": 0.9}],
        **NO_GAIN,
    ),
    Case(jaxloss.dpo_loss, options={"divergence": "js", "beta": 0.3}, **NO_GAIN),
    *(
        Case(
            jaxloss.dpo_loss,
            options={"divergence": divergence, "beta": 0.3, **alpha},
            largest=difference_in_exponent,
            **{**NO_GAIN, "data": (GAIN, GAIN, GAIN, GAIN)},
        )
        for divergence, alpha in (("forward_kl", {}), ("alpha", {"alpha": 0.3}))
    ),
]
