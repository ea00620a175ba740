"""Sequences: logits of some frames, the labels that they spell, and paddings of both.

Four arrays of three shapes are no row of the laws: `test_ctc.py` has those. Here are examples for
the accuracy law and that of second order, small enough for all their paths to be written out.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from mpmath import mp

import jaxloss
from tests.laws import oracle
from tests.laws.case import LOGITS, Case, Kind, Options

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


def impossible(*row: Any, blank_id: int = 0, **_: Any) -> bool:
    """Where the loss is inf: its gradient is 0 there, by its docstring, and not the limit."""
    return bool(mp.isinf(oracle.value("ctc_loss", row, {"blank_id": blank_id})[0]))


def larger_share(row: Any, options: Options, wrt: Any) -> float | None:
    """A slope is a softmax less the share of the paths that name the class: the larger one."""
    if not isinstance(wrt, tuple):
        return None
    x, late, labels, spare = row
    x, blank = np.float64(x[late == 0]), options.get("blank_id", 0)
    frame, symbol = wrt[1]
    p = np.exp(x - np.logaddexp.reduce(x, -1, keepdims=True))
    if frame >= len(p):
        return None
    wanted = {True: 0.0, False: 0.0}
    for path in itertools.product({blank, *labels.tolist()}, repeat=len(p)):
        spelled = [k for k, _ in itertools.groupby(path) if k != blank]
        if spelled == labels[spare == 0].tolist():
            wanted[path[frame] == symbol] += float(np.prod(p[np.arange(len(p)), path]))
    named = wanted[True] / sum(wanted.values()) if any(wanted.values()) else 0.0
    return max(float(p[frame, symbol]), named)


def said(seed: int) -> list[tuple[np.ndarray, ...]]:
    """Three frames, two labels and four classes: a frame may be padded, and labels.

    In every fourth example a cell rules a class out, and in one all cells rule out a label.
    """
    rng = np.random.default_rng(seed)
    found = []
    for i in range(24):
        logits = LOGITS.draw(rng, (3, 3, 4)) if i % 2 else rng.choice(ENDS, (3, 3, 4))
        labels = rng.integers(1, 3, 2)
        if i % 4 == 0:
            logits[rng.integers(3), rng.integers(3), 3 - labels[0]] = -np.inf
        if i == 7:
            logits[:, :, labels[0]] = -np.inf
        late, spare = np.arange(3) >= 3 - i % 5 // 4, np.arange(2) >= 2 - i % 4 // 3
        parts = (late, labels, spare)
        found.append((logits.astype(np.float32), *(x.astype(np.int32) for x in parts)))
    return found


def unreachable(*row: Any, blank_id: int = 0, **_: Any) -> bool:
    """Where the loss is inf: its gradient is 0 there, by its docstring, and not the limit."""
    return bool(mp.isinf(oracle.value("rnnt_loss", row, {"blank_id": blank_id})[0]))


def larger_part(row: Any, options: Options, wrt: Any) -> float | None:
    """A slope is the share of a class of what a cell sends on, less what names it: the larger."""
    if not isinstance(wrt, tuple):
        return None
    x, late, labels, spare = row
    frames, codes, blank = np.flatnonzero(late == 0), labels[spare == 0], options.get("blank_id", 0)
    t, u, symbol = wrt[1]
    if t not in frames or u > len(codes):
        return None
    x = np.asarray(x[frames], np.float64)
    with np.errstate(divide="ignore"):
        logs = x - np.logaddexp.reduce(x, -1, keepdims=True)
    sums = {True: 0.0, False: 0.0, None: 0.0}
    for places in itertools.combinations(range(len(x) - 1 + len(codes)), len(codes)):
        at, path, named = [0, 0], 0.0, None
        for step in range(len(x) + len(codes)):
            said = int(step in places)
            code = codes[at[1]] if said else blank
            named = code == symbol if at == [t, u] else named
            path += logs[at[0], at[1], code]
            at[said] += 1
        sums[named] += np.exp(path)
    through, every = sums[True] + sums[False], sum(sums.values())
    return max(through * float(np.exp(logs[t, u, symbol])), sums[True]) / every if every else None


CASES: list[Case] = []
FUNCTIONS = [
    Case(
        jaxloss.ctc_loss,
        data=(LOGITS, WHOLE, WHOLE, WHOLE),
        variants=[{"zero_infinity": True}, {"blank_id": 3}],
        axis=True,
        points=spoken,
        kink=impossible,
        largest=larger_share,
    ),
    Case(
        jaxloss.rnnt_loss,
        data=(LOGITS, WHOLE, WHOLE, WHOLE),
        variants=[{"blank_id": 3}],
        axis=True,
        points=said,
        kink=unreachable,
        largest=larger_part,
    ),
]
