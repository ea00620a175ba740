"""Divergences: two distributions of one shape, as probabilities, logarithms or logits."""

from __future__ import annotations

import numpy as np

import jaxloss
from tests.laws.case import LOG_PROBABILITIES, LOGITS, PROBABILITIES, Case, Kind

Points = list[tuple[np.ndarray, ...]]


def near(first: Kind, second: Kind, seed: int) -> Points:
    """Ordinary pairs, pairs of ends of the domain, and pairs of almost the same distribution."""
    rng = np.random.default_rng(seed)
    pairs = [kind.draw(rng, (24, 4)) for kind in (first, second)]
    ends = [rng.choice(kind.edges, (60, 4)) for kind in (first, second)]
    p, q = PROBABILITIES.draw(rng, (2, 16, 4))
    steps = 10.0 ** rng.uniform(-4, 0, (16, 1))
    close = [
        np.log(x) if kind is not PROBABILITIES else x
        for x, kind in ((p, first), ((1 - steps) * p + steps * q, second))
    ]
    rows = [np.concatenate(column) for column in zip(pairs, ends, close, strict=True)]
    return list(zip(*(x.astype(np.float32) for x in rows), strict=True))


def probabilities(seed: int) -> Points:
    return near(PROBABILITIES, PROBABILITIES, seed)


def with_logarithms(seed: int) -> Points:
    return near(LOG_PROBABILITIES, PROBABILITIES, seed)


def logarithms(seed: int) -> Points:
    return near(LOG_PROBABILITIES, LOG_PROBABILITIES, seed)


def logits(seed: int) -> Points:
    return near(LOGITS, LOGITS, seed)


CASES = [
    *(
        Case(
            loss,
            data=(LOG_PROBABILITIES, PROBABILITIES),
            axis=True,
            points=with_logarithms,
            positional=("axis", "where"),
            optional_targets=False,
            zero_when_exact=False,
            outside=[(1, -1.0)],
        )
        for loss in (jaxloss.kl_divergence, jaxloss.generalized_kl_divergence)
    ),
    Case(
        jaxloss.kl_divergence_with_log_targets,
        data=(LOG_PROBABILITIES, LOG_PROBABILITIES),
        axis=True,
        points=logarithms,
        positional=("axis", "where"),
        optional_targets=False,
    ),
    *(
        Case(
            loss,
            data=(PROBABILITIES, PROBABILITIES),
            axis=True,
            points=probabilities,
            optional_targets=False,
            outside=[(0, -1.0), (1, -1.0)],
        )
        for loss in (
            jaxloss.jensen_shannon_divergence,
            jaxloss.total_variation_distance,
            jaxloss.hellinger_distance,
        )
    ),
    Case(
        jaxloss.renyi_divergence,
        branches=("alpha",),
        data=(PROBABILITIES, PROBABILITIES),
        options={"alpha": 0.7},
        # At 0 and 1, which are whole here, there is no derivative in alpha from both sides.
        variants=[{"alpha": a} for a in (0, 0.3, 0.5, 0.99, 1, 1.01, 2.0, 10.0, np.inf)],
        axis=True,
        points=probabilities,
        optional_targets=False,
        # log(sum p) / (alpha - 1) for p = t: the rounding of the sum of the probabilities.
        zero_when_exact=False,
        outside=[(0, -1.0), (1, -1.0), ("alpha", -1.0)],
    ),
    Case(
        jaxloss.distillation_loss,
        data=(LOGITS, LOGITS),
        options={"temperature": 1.7},
        variants=[{"temperature": x} for x in (1.0, 0.05, 20.0, 1e4)],
        axis=True,
        points=logits,
        optional_targets=False,
        outside=[("temperature", 0.0), ("temperature", -1.0), ("temperature", np.inf)],
    ),
]
