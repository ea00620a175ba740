"""What the horizontal axis of a picture means for losses of further fields.

See `_line.py`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ._line import Line, each, pair, rows, vector


def policy_lines() -> dict[str, Line]:
    def value(x: Any, target: Any) -> tuple[Any, ...]:
        return x, target, 0.0

    def middle(found: Any) -> Any:
        return found[1]

    atoms, number = (-1.0, 0.0, 1.0), "a number, of atoms at -1, 0 and 1"
    return {
        "ppo_loss": Line(
            lambda x, target: (x, 0.0, target),
            "log-ratio of the policies, for an advantage of {target}",
            (-1.5, 1.5),
            1.0,
        ),
        "kl_estimate": Line(pair, "log-ratio of the policy and its reference", (-2.0, 2.0)),
        "value_loss": Line(
            value,
            "value, for a return of {target} and an old value of 0",
            (-1.0, 3.5),
            1.5,
            {"clip": 0.5},
        ),
        "entropy_loss": Line(
            lambda x, _: (vector(x, 0.0),), "logit of one of two actions", (-6.0, 6.0)
        ),
        "quantile_huber_loss": Line(
            lambda x, target: (vector(x), vector(target)),
            "prediction of the quantile, for the target {target}",
            (-3.0, 3.0),
            given={"quantiles": (0.8,)},
        ),
        "reduce_tokens": Line(
            lambda x, _: (vector(x, 0.5, 1.0),),
            "loss of one of three tokens",
            (-3.0, 3.0),
        ),
        "group_advantages": Line(
            lambda x, _: (vector(x, -1.0, 0.0, 1.0),),
            "reward of one of four answers, the others' being -1, 0 and 1",
            (-4.0, 4.0),
            read=lambda found: found[0],
            y="advantage",
        ),
        "two_hot": Line(
            lambda x, _: (x, vector(*atoms)),
            number,
            (-2.0, 2.0),
            read=middle,
            y="share of the middle atom",
        ),
        "hl_gauss": Line(
            lambda x, _: (x, vector(-1.5, -0.5, 0.5, 1.5)),
            "a number, of bins around -1, 0 and 1",
            (-3.0, 3.0),
            read=middle,
            y="share of the middle bin",
        ),
        "categorical_projection": Line(
            lambda x, _: (vector(0.5, 0.5), vector(x, 0.0), vector(*atoms)),
            f"one of two numbers, the other being 0: {number[10:]}",
            (-2.0, 2.0),
            read=middle,
            y="share of the middle atom",
        ),
    }


def ensemble_lines() -> dict[str, Line]:
    member = Line(
        lambda x, target: (vector(x, -1.0, 0.0, 1.0), target),
        "one of four members, the others -1, 0 and 1, for the target {target}",
        (-3.0, 3.0),
        0.5,
    )
    target = "target, for the interval from -1 to 1"
    ends = Line(lambda x, _: (-1.0, 1.0, x), target, (-3.0, 3.0), given={"alpha": 0.2})
    several = Line(
        lambda x, _: (vector(-2.0, -1.0), vector(2.0, 1.0), 0.0, x, vector(0.1, 0.5)),
        "target, for intervals from -2 to 2 and from -1 to 1, and the median 0",
        (-4.0, 4.0),
    )
    line = Line(
        lambda x, target: (rows([x, 0.0], [-1.0, 0.0], [1.0, 1.0]), vector(target, 0.0)),
        "a member (x, 0), the others (-1, 0) and (1, 1), for the target ({target}, 0)",
        (-3.0, 3.0),
        0.5,
    )
    return {
        "crps_ensemble": member,
        "energy_score": line,
        "interval_score": ends,
        "weighted_interval_score": several,
    }


def ordinal_lines() -> dict[str, Line]:
    thresholds = vector(-2.0, 0.0, 2.0)
    score = Line(
        lambda x, label: (thresholds - x, label),
        "score, for class {target} of four",
        (-6.0, 6.0),
        1,
    )
    return {
        "cumulative_link_nll": score,
        # Whether the class is above a threshold, not below.
        **each("coral_loss corn_loss", replace(score, of=lambda x, label: (x - thresholds, label))),
        "squared_emd_loss": Line(
            lambda x, label: (vector(0.0, x, 0.0, 0.0), label),
            "logit of the second of four classes, for class {target}",
            (-6.0, 6.0),
            1,
        ),
    }


def survival_lines() -> dict[str, Line]:
    years, events = np.array([1.0, 2.0, 3.0], np.float32), np.array([True, True, False])

    def interval(x: Any, _: Any) -> tuple[Any, ...]:
        return vector(x, 0.0, 0.0), 0, True

    def cohort(x: Any, _: Any) -> tuple[Any, ...]:
        return rows([x, 0.0, 0.0], [0.0, 1.0, 0.0]), np.array([0, 1]), np.array([True, False])

    first = Line(interval, "logit of the interval in which the event was", (-6.0, 6.0))
    return {
        "cox_partial_likelihood": Line(
            lambda x, _: (vector(x, 0.0, 0.0), years, events),
            "log-hazard of the first of three to have an event, the others' being 0",
            (-6.0, 6.0),
        ),
        **each("logistic_hazard_loss pmf_loss", first),
        "deephit_ranking_loss": replace(
            first, of=cohort, x="logit of the interval of an event, another surviving it"
        ),
        "aft_nll_loss": Line(
            lambda x, target: (x, target, True),
            "predicted logarithm of the time, for an event at {target}",
            (-3.0, 3.0),
            1.0,
        ),
    }
