"""Exact forms of the losses of ordered classes, in mpmath."""

import itertools

from mpmath import mp


def _sigmoid(x):
    return 1 / (1 + mp.exp(-x))


def _normal(a, b):
    return mp.ncdf(-a) - mp.ncdf(-b) if a > 0 else mp.ncdf(b) - mp.ncdf(a)


def _logistic(a, b):
    return _sigmoid(-a) - _sigmoid(-b) if a > 0 else _sigmoid(b) - _sigmoid(a)


def _extreme(a, b):
    if a == -mp.inf:
        return -mp.expm1(-mp.exp(b))
    return mp.exp(-mp.exp(a)) - (mp.zero if b == mp.inf else mp.exp(-mp.exp(b)))


_MASSES = {"logit": _logistic, "probit": _normal, "cloglog": _extreme}


def cumulative_link_nll(logits, labels, *, kind="logit"):
    if not 0 <= labels <= len(logits) or any(a > b for a, b in itertools.pairwise(logits)):
        return [mp.nan]
    bounds = [-mp.inf, *logits, mp.inf]
    return [-mp.log(_MASSES[kind](bounds[labels], bounds[labels + 1]))]


def coral_loss(logits, labels):
    if not 0 <= labels <= len(logits):
        return [mp.nan]
    return [mp.log1p(mp.exp(-x if labels > k else x)) for k, x in enumerate(logits)]


def corn_loss(logits, labels):
    if not 0 <= labels <= len(logits):
        return [mp.nan]
    terms = [mp.log1p(mp.exp(-x)) for x in logits[:labels]]
    return terms + [mp.log1p(mp.exp(x)) for x in logits[labels : labels + 1]]


def squared_emd_loss(logits, labels):
    if not 0 <= labels < len(logits):
        return [mp.nan]
    top = max(logits)
    weights = [mp.exp(x - top) for x in logits]
    p = [w / mp.fsum(weights) for w in weights]
    low = [mp.fsum(p[: k + 1]) ** 2 for k in range(labels)]
    return [*low, *(mp.fsum(p[k + 1 :]) ** 2 for k in range(labels, len(p) - 1))]
