"""Times to events: cohorts whose examples are at risk together."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

import jaxloss
from tests.laws.case import LABELS, LOGITS, Case, Kind, taking

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
    "entry_times": "only their order matters",
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
CASES: list[Case] = [COX]
VARIATIONS = [
    dataclasses.replace(
        COX,
        loss=taking(COX.loss, "entry_times"),
        data=(*COX.data, ENTRIES),
        together=one_event_of_those_entered,
        points=entering,
    )
]
