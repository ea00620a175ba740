"""Sequences: logits of some frames, the labels that they spell, and paddings of both.

Four arrays of three shapes are no row of the laws: `test_ctc.py` has those. Here are examples for
the accuracy law and that of second order, small enough for all their paths to be written out.
"""

from __future__ import annotations

import numpy as np

import jaxloss
from tests.laws.case import LOGITS, Case, Kind

# Of integers, none of which has a derivative.
WHOLE = Kind(lambda rng, shape: rng.integers(0, 2, shape), index=True, whole=None)
ENDS = (0.0, 0.5, 1.0, -1.0, 2.25, -17.0, 17.0)


def spoken(seed: int) -> list[tuple[np.ndarray, ...]]:
    """Four frames of four classes, and labels 1 and 2: a frame may be padded, and a label.

    In every third example a frame rules a class out, and in one all frames rule out a label.
    """
    rng = np.random.default_rng(seed)
    found = []
    for i in range(36):
        logits = LOGITS.draw(rng, (4, 4)) if i % 2 else rng.choice(ENDS, (4, 4))
        labels = rng.integers(1, 3, 2)
        if i % 3 == 0:
            logits[rng.integers(4), 3 - labels[0]] = -np.inf
        if i == 7:
            logits[:, labels[0]] = -np.inf
        late, spare = np.arange(4) >= 4 - i % 5 // 4, np.arange(2) >= 2 - i % 4 // 3
        parts = (late, labels, spare)
        found.append((logits.astype(np.float32), *(x.astype(np.int32) for x in parts)))
    return found


CASES: list[Case] = []
FUNCTIONS = [
    Case(
        jaxloss.ctc_loss,
        data=(LOGITS, WHOLE, WHOLE, WHOLE),
        variants=[{"zero_infinity": True}, {"blank_id": 3}],
        axis=True,
        points=spoken,
    ),
]
