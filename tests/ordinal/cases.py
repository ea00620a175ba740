"""Rows of the losses of ordered classes."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

import jaxloss
from tests.laws.case import CLASS, LOGITS, Case, Kind

# A class more than there are logits.
ABOVE = Kind(lambda rng, shape: rng.integers(0, shape[-1] + 1, shape[:-1]), index=True, whole=None)
# Logits of thresholds: they increase.
INCREASING = Kind(
    lambda rng, shape: np.cumsum(rng.uniform(0.1, 2, shape), -1) - 0.5 * shape[-1], whole=None
)

Points = Callable[[int], list[tuple[np.ndarray, ...]]]


def increasing(seed: int, lowest: float, highest: float) -> list[tuple[np.ndarray, ...]]:
    """Ordinary logits; far out, and with gaps of any size."""
    rng = np.random.default_rng(seed)
    ordinary = INCREASING.draw(rng, (16, 4))
    gaps = rng.choice([1e-5, 1e-3, 0.1, 1.0, 4.0], (40, 4))
    far = np.cumsum(np.concatenate([rng.uniform(lowest, highest, (40, 1)), gaps[:, 1:]], 1), 1)
    x = np.concatenate([ordinary, far]).astype(np.float32)
    # Rounded away, where they are far out.
    x = x[np.all(np.diff(x) > 0, 1)]
    return list(zip(x, ABOVE.draw(rng, x.shape).astype(np.int32), strict=True))


def points(labels: Kind) -> Points:
    """Ordinary logits and ends of the domain."""

    def draw(seed: int) -> list[tuple[np.ndarray, ...]]:
        rng = np.random.default_rng(seed)
        ends = rng.choice(LOGITS.edges, (36, 4))
        x = np.concatenate([LOGITS.draw(rng, (16, 4)), ends]).astype(np.float32)
        return list(zip(x, labels.draw(rng, x.shape).astype(np.int32), strict=True))

    return draw


CASES = [
    Case(
        jaxloss.cumulative_link_nll,
        data=(INCREASING, ABOVE),
        points=functools.partial(increasing, lowest=-80, highest=80),
        gathered="each logit is compared with the one before it",
        outside=[(1, -1), (1, 4)],
        axis=True,
        entries=False,
        optional_targets=False,
        zero_when_exact=False,
    ),
    *(
        Case(
            loss,
            data=(LOGITS, ABOVE),
            points=points(ABOVE),
            outside=[(1, -1), (1, 4)],
            axis=True,
            entries=False,
            optional_targets=False,
            zero_when_exact=False,
        )
        for loss in (jaxloss.coral_loss, jaxloss.corn_loss)
    ),
    Case(
        jaxloss.squared_emd_loss,
        data=(LOGITS, CLASS),
        points=points(CLASS),
        gathered="the probability up to a class is a sum over those before it",
        outside=[(1, -1), (1, 4)],
        axis=True,
        entries=False,
        optional_targets=False,
        zero_when_exact=False,
    ),
]

VARIATIONS = [
    Case(
        jaxloss.cumulative_link_nll,
        data=(INCREASING, ABOVE),
        options={"kind": kind},
        points=functools.partial(increasing, lowest=lowest, highest=highest),
        axis=True,
        entries=False,
        optional_targets=False,
        zero_when_exact=False,
    )
    for kind, lowest, highest in (("probit", -13, 10), ("cloglog", -80, 3))
]
