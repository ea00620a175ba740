"""Rankings: the scores of the documents of a list against their labels."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy.special import expit

import jaxloss
from tests.laws.case import LOGITS, NON_NEGATIVE, REAL, Case, Kind, taking

# Relevance, of which 2^y - 1 is the gain.
GAINS = Kind(
    lambda rng, shape: rng.uniform(0.1, 4, shape),
    (0.0, 0.0, 0.0, 1.0, 2.0, 3.0, 4.0, 1e-30, 1e-4, 0.51, 30.0),
)
# Of each pair of documents.
PAIR_WEIGHTS = Kind(lambda rng, shape: rng.uniform(0.3, 3, (*shape, shape[-1])))
# Gains that are the labels themselves.
RELEVANCE = Kind(GAINS.draw, (*GAINS.edges, 1e5, 1e30))


def points(labels: Kind, offsets: Sequence[float] = (1e3, 1e5, -1e5)) -> Callable[..., Any]:
    """Ordinary scores and labels, common offsets, and ends of the domain."""

    def draw(seed: int) -> list[tuple[np.ndarray, ...]]:
        rng = np.random.default_rng(seed)
        ordinary = LOGITS.draw(rng, (12, 4))
        offset = LOGITS.draw(rng, (8, 4)) + rng.choice(offsets, (8, 1))
        ends = rng.choice(LOGITS.edges, (32, 4))
        s = np.concatenate([ordinary, offset, ends]).astype(np.float32)
        y = np.concatenate([labels.draw(rng, (32, 4)), rng.choice(labels.edges, (20, 4))])
        # Grades, as they are in use.
        y[4:8] = rng.integers(0, 3, (4, 4))
        return list(zip(s, y.astype(np.float32), strict=True))

    return draw


def weighed_pairs(seed: int) -> list[tuple[np.ndarray, ...]]:
    """Some of the lists of `ANY`, with weights of their pairs, a few of them 0."""
    rows = points(LOGITS)(seed)[::4]
    w = PAIR_WEIGHTS.draw(np.random.default_rng(seed), (len(rows), 4))
    w *= w > 0.6
    return [(*row, x) for row, x in zip(rows, w.astype(np.float32), strict=True)]


def weighed_documents(points: Any) -> Callable[[int], list[tuple[np.ndarray, ...]]]:
    """Some of the lists of a row, with weights of their documents, a few of them 0."""

    def draw(seed: int) -> list[tuple[np.ndarray, ...]]:
        rows = points(seed)[::5]
        w = NON_NEGATIVE.draw(np.random.default_rng(seed), (len(rows), 4))
        w *= w > 0.6
        return [(*row, x) for row, x in zip(rows, w.astype(np.float32), strict=True)]

    return draw


def near_points(seed: int) -> list[tuple[np.ndarray, ...]]:
    """Those of `ANY` without the ends: exponents of all pairs have a rounding of their own."""
    return points(LOGITS)(seed)[:20:2]


def level(scores: Any, labels: Any, **_: Any) -> bool:
    """Whether two scores are equal."""
    return len(np.unique(np.asarray(scores))) < len(scores)


def at_the_margin(scores: Any, labels: Any, *_: Any, margin: Any = 1.0) -> bool:
    s, y = (np.asarray(x, np.float64) for x in (scores, labels))
    gaps = s[:, None] - s
    return bool(np.any((gaps == margin) & (y[:, None] > y)))


def tied(scores: Any, labels: Any, *_: Any, **__: Any) -> bool:
    """Where a step of a label changes which documents are below it, or the best order."""
    return len(np.unique(np.asarray(labels))) < len(labels)


def nothing_relevant(scores: Any, labels: Any, **_: Any) -> bool:
    return not np.any(np.asarray(labels))


def parts_of_the_quotient(gains: bool) -> Callable[..., float | None]:
    """In a label, by the two parts of the derivative of its quotient, which may cancel."""

    def largest(row: Any, options: Any, wrt: Any) -> float | None:
        if not isinstance(wrt, tuple) or wrt[0] != 1:
            return None
        s, y = (np.asarray(x, np.float64) for x in row)
        rank = 0.5 + expit((s - s[:, None]) / options["temperature"]).sum(-1)
        best = 1.0 + np.argsort(np.argsort(-y, kind="stable"))
        gain, slope, worth, ideal = y, 1.0, 1 / rank, np.ones(len(y))
        if gains:
            gain, slope = np.exp2(y) - 1, np.log(2) * np.exp2(y)[wrt[1]]
            worth, ideal = 1 / np.log2(1 + rank), 1 / np.log2(1 + best)
        whole = gain @ ideal
        parts = worth[wrt[1]], ideal[wrt[1]] * (gain @ worth) / whole
        return float(slope * max(parts) / whole)

    return largest


ROW: dict[str, Any] = {
    "axis": True,
    "optional_targets": False,
    "zero_when_exact": False,
}
# Apart by less than 87 or by far more: a probability below the smallest normal number is 0, which
# a score of 1e30 would show.
NEAR = Kind(LOGITS.draw, (0.0, 0.5, 1.0, -1.0, 2.25, -17.0, 17.0, 1e5, -1e5))
ANY: dict[str, Any] = {**ROW, "data": (REAL, REAL), "points": points(LOGITS)}
RELEVANT: dict[str, Any] = {
    **ROW,
    "data": (REAL, GAINS),
    "points": points(GAINS),
    "outside": [(1, -0.5)],
}
APPROXIMATE: dict[str, Any] = {
    **RELEVANT,
    # Powers of 2, as the rounding of a gap over the temperature shows in its exponential.
    "options": {"temperature": 0.5},
    "variants": [{"temperature": 2.0}, {"temperature": 16.0}],
    "outside": [(1, -0.5), ("temperature", 0.0), ("temperature", -1.0)],
}


def decided(scores: Any, labels: Any, *, temperature: float) -> bool:
    """Where all sigmoids round to 0 or 1: of second derivatives of 1e-17 some modes leave 0."""
    gaps = np.diff(np.sort(np.float64(scores)))
    return bool(np.all(gaps > 17 * temperature))


# Why the documents of a list are gathered on one device.
SORTED = "documents are sorted by labels"
IN_PAIRS = "each document meets each other one"

CASES = [
    Case(
        jaxloss.ranking_softmax_loss,
        options={"reduction": "none"},
        layout=("reduction",),
        reduction="mean",
        **RELEVANT,
    ),
    Case(
        jaxloss.poly1_softmax_loss,
        options={"epsilon": 0.7},
        variants=[{"epsilon": -0.5}, {"epsilon": 0.0}],
        **RELEVANT,
    ),
    Case(jaxloss.listnet_loss, **{**ANY, "points": points(NEAR)}),
    Case(jaxloss.listmle_loss, gathered=SORTED, **ANY),
    Case(jaxloss.unique_softmax_loss, kink=tied, gathered=SORTED, **RELEVANT),
    Case(
        jaxloss.neural_sort_loss,
        gathered=IN_PAIRS,
        options={"temperature": 2.0},
        variants=[{"temperature": 8.0}],
        kink=level,
        not_differentiated={"labels": "of which only the order is read"},
        **{**ANY, "points": near_points},
    ),
    Case(jaxloss.pairwise_logistic_loss, gathered=IN_PAIRS, **ANY),
    Case(
        jaxloss.pairwise_hinge_loss,
        gathered=IN_PAIRS,
        options={"margin": 1.3},
        variants=[{"margin": 0.0}, {"margin": 80.0}],
        kink=at_the_margin,
        stated=[
            (((1.0, 0.0), (1.0, 0.0)), {"margin": 1.0}, ((-1.0, 1.0), (0.0, 0.0))),
            (((0.0, 0.0, 0.0), (2.0, 0.0, 0.0)), {"margin": 0.0}, ((-1.0, 0.5, 0.5),)),
        ],
        **ANY,
    ),
    Case(jaxloss.pairwise_mse_loss, **ANY),
    Case(
        jaxloss.approx_ndcg_loss,
        kink=tied,
        largest=parts_of_the_quotient(True),
        gathered=SORTED,
        **APPROXIMATE,
    ),
    Case(
        jaxloss.approx_mrr_loss,
        gathered=IN_PAIRS,
        kink=nothing_relevant,
        no_hessian=decided,
        largest=parts_of_the_quotient(False),
        **APPROXIMATE,
    ),
]

# The losses of pairs whose pairs have weights.
VARIATIONS = [
    dataclasses.replace(
        case,
        loss=taking(case.loss, "pair_weights"),
        data=(*case.data, PAIR_WEIGHTS),
        points=weighed_pairs,
        variants=(),
        stated=(),
        entries=False,
    )
    for case in CASES
    if case.loss
    in (jaxloss.pairwise_logistic_loss, jaxloss.pairwise_hinge_loss, jaxloss.pairwise_mse_loss)
]

# The losses whose documents have weights.
VARIATIONS += [
    dataclasses.replace(
        case,
        loss=taking(case.loss, "document_weights"),
        data=(*case.data, NON_NEGATIVE),
        points=weighed_documents(case.points),
        variants=(),
        entries=False,
    )
    for case in CASES
    if case.loss
    in (
        jaxloss.ranking_softmax_loss,
        jaxloss.poly1_softmax_loss,
        jaxloss.listnet_loss,
        jaxloss.listmle_loss,
        jaxloss.unique_softmax_loss,
    )
]


@functools.wraps(jaxloss.lambda_weights)
def weights_of_the_first(scores: Any, labels: Any, **options: Any) -> Any:
    return jaxloss.lambda_weights(scores, labels, **options)[..., 0, :]


FUNCTIONS = [
    Case(
        weights_of_the_first,
        options={"kind": "ndcg2++", "mu": 3.0},
        variants=[{"kind": "ndcg"}, {"kind": "ndcg2"}],
        batch=True,
        **RELEVANT,
    )
]
