"""Sequences: logits are a list over time of lists over the symbols, labels a list of ints."""

import functools
import itertools

from mpmath import mp

from tests.laws.arithmetic import softmax
from tests.laws.slopes import slopes


@slopes(constant=(1, 3))
def ctc_loss(
    logits,
    logit_paddings,
    labels,
    label_paddings,
    *,
    blank_id=0,
    log_epsilon=-mp.inf,
    zero_infinity=False,
):
    """-log of the sum over all alignments, around the likeliest one."""
    frames = [
        softmax(x)[0] for x, padding in zip(logits, logit_paddings, strict=True) if not padding > 0
    ]
    labels = tuple(y for y, padding in zip(labels, label_paddings, strict=True) if not padding > 0)
    if any(not 0 <= y < len(logits[0]) for y in labels):
        return [mp.nan, mp.nan]
    costs = [
        mp.fsum(frame[symbol] for frame, symbol in zip(frames, path, strict=True))
        for path in _alignments(len(frames), labels, blank_id)
    ]
    least = min(costs, default=mp.inf)
    if mp.isinf(least):
        if mp.isfinite(log_epsilon):
            raise ValueError("a finite log_epsilon gives impossible labels a number of its own")
        return [mp.zero if zero_infinity else mp.inf, mp.zero]
    return [least, -mp.log(mp.fsum(mp.exp(least - cost) for cost in costs))]


@slopes(constant=(1, 3))
def ctc_loss_with_forward_probs(*args, **options):
    """The first of its results."""
    return ctc_loss(*args, **options)


@slopes(constant=(1, 3))
def rnnt_loss(
    logits, logit_paddings, labels, label_paddings, *, blank_id=0, fastemit_lambda=mp.zero
):
    """-log of the sum over all paths through the grid, around the likeliest one."""
    if fastemit_lambda:
        raise ValueError("FastEmit changes the gradient and not the loss")
    frames = [
        [softmax(x)[0] for x in cells]
        for cells, padding in zip(logits, logit_paddings, strict=True)
        if not padding > 0
    ]
    labels = [y for y, padding in zip(labels, label_paddings, strict=True) if not padding > 0]
    if any(not 0 <= y < len(logits[0][0]) for y in labels):
        return [mp.nan, mp.nan]
    costs = []
    for places in itertools.combinations(range(len(frames) - 1 + len(labels)), len(labels)):
        t, u, cost = 0, 0, []
        for step in range(len(frames) + len(labels)):
            if step in places:
                cost.append(frames[t][u][labels[u]])
                u += 1
            else:
                cost.append(frames[t][u][blank_id])
                t += 1
        costs.append(mp.fsum(cost))
    least = min(costs, default=mp.inf)
    if mp.isinf(least):
        return [mp.inf, mp.zero]
    return [least, -mp.log(mp.fsum(mp.exp(least - cost) for cost in costs))]


@functools.cache
def _alignments(frames, labels, blank):
    """The paths that give the labels once repeated symbols and then blanks are dropped."""
    paths = itertools.product({blank, *labels}, repeat=frames)
    return [
        path
        for path in paths
        if tuple(symbol for symbol, _ in itertools.groupby(path) if symbol != blank) == labels
    ]
