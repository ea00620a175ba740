"""Times to events: cohorts whose examples are at risk together."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

import jaxloss
from tests.laws.case import CLASS, LABELS, LOGITS, Case, Kind, taking

# Few, so that some are equal.
TIMES = Kind(lambda rng, shape: rng.integers(1, 4, shape).astype(float))
# Before all times, or after some.
ENTRIES = Kind(lambda rng, shape: rng.choice([-3.0, 0.5], shape))


def one_event(rng: np.random.Generator, shape: tuple[int, ...]) -> list[np.ndarray]:
    """Cohorts whose mean is divided by 1: scores, times, and one event, not the last."""
    times = rng.permuted(np.broadcast_to(np.arange(shape[-1]) // 2 + 1.0, shape), axis=-1)
    events = np.zeros(shape)
    np.put_along_axis(events, times.argmin(-1, keepdims=True), 1, -1)
    return [LOGITS.draw(rng, shape), times, events]


def cohorts(seed: int) -> list[tuple[np.ndarray, ...]]:
    """Ordinary log hazards, common offsets and ends of the domain; ties, and no event at times."""
    rng, size = np.random.default_rng(seed), 5
    ordinary = LOGITS.draw(rng, (16, size))
    offset = LOGITS.draw(rng, (8, size)) + rng.choice((1e3, 1e5, -1e5), (8, 1))
    ends = rng.choice(LOGITS.edges, (32, size))
    scores = np.concatenate([ordinary, offset, ends])
    times = TIMES.draw(rng, scores.shape)
    times[::3] = rng.permuted(np.broadcast_to(np.arange(size) - 2.0, times[::3].shape), axis=-1)
    events = (rng.uniform(size=scores.shape) < 0.7).astype(float)
    events[5] = 0
    events[6] = 1
    rows = zip(scores, times, events, strict=True)
    return [tuple(x.astype(np.float32) for x in row) for row in rows]


def entering(seed: int) -> list[tuple[np.ndarray, ...]]:
    """Some of them, of which some examples enter late."""
    rows = cohorts(seed)[::3]
    entries = np.random.default_rng(seed).choice([1.0, 2.0, 9.0], (len(rows), 5))
    return [
        (*row, (row[1] - gap).astype(np.float32)) for row, gap in zip(rows, entries, strict=True)
    ]


def one_event_of_those_entered(rng: np.random.Generator, shape: tuple[int, ...]) -> list[Any]:
    return [*one_event(rng, shape), ENTRIES.draw(rng, shape)]


# Why the examples of a cohort are gathered on one device.
AT_RISK = "examples are sorted by times"
SELECTING: dict[str, str] = {
    "times": "only their order matters",
    "events": "they select terms",
}

COX = Case(
    jaxloss.cox_partial_likelihood,
    data=(LOGITS, TIMES, LABELS),
    together=one_event,
    axis=True,
    optional_targets=False,
    zero_when_exact=False,
    gathered=AT_RISK,
    not_differentiated=SELECTING,
    options={"ties": "efron"},
    variants=[{"ties": "breslow"}],
    points=cohorts,
    outside=[(0, np.nan), (1, np.nan), (2, 0.5), (2, -1.0), (2, np.nan)],
)
# Whether each example has an event.
HAPPENED = Kind(
    lambda rng, shape: LABELS.draw(rng, shape[:-1]), (0.0, 1.0), single=True, whole=LABELS.whole
)
IN_INTERVALS: dict[str, Any] = {
    "data": (LOGITS, CLASS, HAPPENED),
    "axis": True,
    "entries": False,
    "optional_targets": False,
    "zero_when_exact": False,
    "not_differentiated": {"events": "they select terms"},
    "outside": [(2, 0.5), (2, -1.0), (2, np.nan)],
}


def one_pair(rng: np.random.Generator, shape: tuple[int, ...]) -> list[np.ndarray]:
    """Cohorts whose mean is divided by 1: one event, which one other example survived."""
    *batch, size, _ = shape
    events = np.zeros((*batch, size))
    events[..., 0] = 1
    durations = np.zeros((*batch, size), int)
    durations[..., :2] = 1, 2
    return [LOGITS.draw(rng, shape), durations, events]


def compared(seed: int) -> list[tuple[np.ndarray, ...]]:
    """Ordinary logits and some far apart, of four examples, with ties of their intervals."""
    rng, shape = np.random.default_rng(seed), (12, 4, 3)
    logits = LOGITS.draw(rng, shape)
    logits[6:] = rng.choice((0.0, 0.5, 1.0, -1.0, 2.25, -17.0, 17.0), logits[6:].shape)
    durations, events = CLASS.draw(rng, shape), LABELS.draw(rng, shape[:-1])
    rows = zip(logits, durations, events, strict=True)
    return [(z.astype(np.float32), n.astype(np.int32), e.astype(np.float32)) for z, n, e in rows]


def probabilities_of_pairs(row: Any, options: Any, wrt: Any) -> float | None:
    """In the temperature, by the two probabilities of a pair: their difference may be near 0."""
    if wrt != "temperature":
        return None
    z, n, e = (np.asarray(x, np.float64) for x in row)
    sizes = np.exp(np.concatenate([z, np.zeros_like(z[:, :1])], 1))
    # Of j, at the interval of i: of an event up to it, or of one after it.
    until = (np.cumsum(sizes, 1) / sizes.sum(1, keepdims=True))[:, n.astype(int)].T
    after = (np.cumsum(sizes[:, ::-1], 1)[:, ::-1] - sizes) / sizes.sum(1, keepdims=True)
    after = after[:, n.astype(int)].T
    own = np.diag(until)[:, None]
    size = np.where(
        own + until < 1, np.maximum(own, until), np.maximum(after, np.diag(after)[:, None])
    )
    pair = (e == 1)[:, None] & ((n > n[:, None]) | ((n == n[:, None]) & (e == 0)))
    terms = size * np.exp((until - own) / options["temperature"])
    return float(np.max(np.where(pair, terms, 0)) / options["temperature"] ** 2)


CASES: list[Case] = [
    COX,
    Case(jaxloss.logistic_hazard_loss, **IN_INTERVALS),
    Case(jaxloss.pmf_loss, gathered="a logit of an event after all intervals", **IN_INTERVALS),
    Case(
        jaxloss.deephit_ranking_loss,
        inner=(4, 3),
        options={"temperature": 0.5},
        variants=[{"temperature": 0.125}, {"temperature": 2.0}],
        points=compared,
        gathered="each example meets each other one",
        together=one_pair,
        largest=probabilities_of_pairs,
        **IN_INTERVALS,
    ),
]
# Of which exponentials and squares are finite.
LOCATIONS = Kind(
    lambda rng, shape: rng.normal(0, 1, shape), (0.0, 0.7, -0.7, 3.0, -5.0, 12.0, -12.0)
)
LENGTHS = Kind(
    lambda rng, shape: rng.uniform(0.3, 3, shape), (1.0, 1e-6, 1e-2, 0.5, 2.5, 80.0, 1e5)
)
AFT = Case(
    jaxloss.aft_nll_loss,
    data=(LOCATIONS, LENGTHS, LABELS),
    options={"scale": 0.7, "kind": "weibull"},
    variants=[{"scale": 1.5, "kind": "weibull"}],
    optional_targets=False,
    zero_when_exact=False,
    not_differentiated={"events": "they select terms"},
    outside=[(1, 0.0), (1, -1.0), (2, 0.5), (2, -1.0)],
)
CASES.append(AFT)

VARIATIONS = [
    *(
        dataclasses.replace(
            AFT,
            options={"scale": 0.7, "kind": kind},
            variants=[{"scale": 1.5, "kind": kind}],
        )
        for kind in ("log_logistic", "log_normal")
    ),
    dataclasses.replace(
        COX,
        loss=taking(COX.loss, "entry_times"),
        data=(*COX.data, ENTRIES),
        together=one_event_of_those_entered,
        points=entering,
        not_differentiated={**SELECTING, "entry_times": "only their order matters"},
    ),
]
