"""Losses and penalties, their proximal points and their conjugates, as books have them, in mpmath.

`LOSSES[name]` takes the hyperparameters by name and gives three functions: of the error e, or of
the margin z of a hinge, of e and the step, and of the slope y. Those of `PENALTIES[name]` are of
lists, and give the terms of a sum, or a list.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from mpmath import mp


class Oracle(NamedTuple):
    """Functions of mpf numbers.

    Attributes:
        value: f(e).
        prox: Of e and the step.
        conjugate: f*(y).
        start: Where a margin begins; None for a loss of the error.
    """

    value: Callable[[Any], Any]
    prox: Callable[[Any, Any], Any]
    conjugate: Callable[[Any], Any]
    start: Any = None


def sgn(x):
    return mp.sign(x)


def soft(e, threshold):
    """Soft thresholding."""
    return sgn(e) * max(abs(e) - threshold, 0)


def indicator(inside):
    return mp.zero if inside else mp.inf


def l1_loss():
    return Oracle(abs, soft, lambda y: indicator(abs(y) <= 1))


def l2_loss():
    return Oracle(lambda e: e * e / 2, lambda e, s: e / (1 + s), lambda y: y * y / 2)


def squared_error():
    return Oracle(lambda e: e * e, lambda e, s: e / (1 + 2 * s), lambda y: y * y / 4)


def huber_loss(delta):
    def value(e):
        return e * e / 2 if abs(e) < delta else delta * (abs(e) - delta / 2)

    def prox(e, s):
        # Beck, 2017, example 6.66: shrinks by at most s delta.
        return e - s * e / max(1 + s, abs(e) / delta) if delta else e

    return Oracle(value, prox, lambda y: y * y / 2 + indicator(abs(y) <= delta))


def smooth_l1_loss(beta):
    def value(e):
        return e * e / (2 * beta) if abs(e) < beta else abs(e) - beta / 2

    def prox(e, s):
        return beta * e / (beta + s) if abs(e) < beta + s else e - s * sgn(e)

    return Oracle(value, prox, lambda y: beta * y * y / 2 + indicator(abs(y) <= 1))


def quantile_loss(quantile):
    q = quantile

    def value(e):
        return max(q * -e, (q - 1) * -e)

    def prox(e, s):
        # The clip of Gu et al., 2018, eq. 11.
        return e - max(s * -q, min(e, s * (1 - q)))

    return Oracle(value, prox, lambda y: indicator(-q <= y <= 1 - q))


def expectile_loss(expectile):
    def factor(e):
        return 1 - expectile if e > 0 else expectile

    def conjugate(y):
        c = factor(y)
        if not c:
            return indicator(y == 0)
        return y * y / (4 * c)

    return Oracle(lambda e: factor(e) * e * e, lambda e, s: e / (1 + 2 * factor(e) * s), conjugate)


def epsilon_insensitive_loss(epsilon):
    def prox(e, s):
        if abs(e) <= epsilon:
            return e
        return sgn(e) * max(epsilon, abs(e) - s)

    return Oracle(
        lambda e: max(abs(e) - epsilon, 0),
        prox,
        lambda y: epsilon * abs(y) + indicator(abs(y) <= 1),
    )


def squared_epsilon_insensitive_loss(epsilon):
    def prox(e, s):
        return e if abs(e) <= epsilon else (e + 2 * s * epsilon * sgn(e)) / (1 + 2 * s)

    return Oracle(
        lambda e: max(abs(e) - epsilon, 0) ** 2,
        prox,
        lambda y: epsilon * abs(y) + y * y / 4,
    )


def hinge_loss():
    return Oracle(
        lambda z: max(1 - z, 0),
        lambda z, s: z if z > 1 else min(z + s, mp.one),
        lambda y: y + indicator(-1 <= y <= 0),
        mp.one,
    )


def squared_hinge_loss():
    return Oracle(
        lambda z: max(1 - z, 0) ** 2,
        lambda z, s: z if z >= 1 else (z + 2 * s) / (1 + 2 * s),
        lambda y: y + y * y / 4 + indicator(y <= 0),
        mp.one,
    )


def perceptron_loss():
    return Oracle(
        lambda z: max(-z, 0),
        lambda z, s: z if z > 0 else min(z + s, mp.zero),
        lambda y: indicator(-1 <= y <= 0),
        mp.zero,
    )


def sparsemax_loss():
    def value(z):
        if z >= 1:
            return mp.zero
        return -z if z <= -1 else (1 - z) ** 2 / 4

    def prox(z, s):
        if z >= 1:
            return z
        return z + s if z <= -1 - s else (2 * z + s) / (2 + s)

    return Oracle(value, prox, lambda y: y + y * y + indicator(-1 <= y <= 0), mp.one)


LOSSES = {
    f.__name__: f
    for f in (
        l1_loss,
        l2_loss,
        squared_error,
        huber_loss,
        smooth_l1_loss,
        quantile_loss,
        expectile_loss,
        epsilon_insensitive_loss,
        squared_epsilon_insensitive_loss,
        hinge_loss,
        squared_hinge_loss,
        perceptron_loss,
        sparsemax_loss,
    )
}
# Hyperparameters to try: ordinary ones and the ends of the domain.
HYPER: dict[str, list[dict[str, float]]] = {
    "huber_loss": [{"delta": x} for x in (0.75, 2.0**-20, 0.0)],
    "smooth_l1_loss": [{"beta": x} for x in (0.75, 2.0**20, 0.0)],
    "quantile_loss": [{"quantile": x} for x in (0.75, 0.0, 1.0)],
    "expectile_loss": [{"expectile": x} for x in (0.75, 0.0, 1.0)],
    "epsilon_insensitive_loss": [{"epsilon": x} for x in (0.75, 2.0**-20, 0.0)],
    "squared_epsilon_insensitive_loss": [{"epsilon": x} for x in (0.75, 0.0)],
}
ROWS = [(name, hyper) for name in LOSSES for hyper in HYPER.get(name, [{}])]


class PenaltyOracle(NamedTuple):
    """Functions of lists of mpf numbers.

    Attributes:
        value: f(x), as the terms of a sum.
        prox: Of x and the step: a list.
        conjugate: f*(y), as the terms of a sum.
    """

    value: Callable[[Any], Any]
    prox: Callable[[Any, Any], Any]
    conjugate: Callable[[Any], Any]


def norm(x):
    return mp.sqrt(mp.fdot(x, x))


def each(value, prox, conjugate):
    """A penalty of each entry by itself."""
    return PenaltyOracle(
        lambda x: [value(e) for e in x],
        lambda x, s: [prox(e, s) for e in x],
        lambda y: [conjugate(e) for e in y],
    )


def l1(scale):
    return each(
        lambda x: scale * abs(x),
        lambda x, s: soft(x, s * scale),
        lambda y: indicator(abs(y) <= scale),
    )


def l2(scale):
    return each(
        lambda x: scale * x * x / 2, lambda x, s: x / (1 + scale * s), lambda y: y * y / (2 * scale)
    )


def elastic_net(l1, l2):
    return each(
        lambda x: l1 * abs(x) + l2 * x * x / 2,
        lambda x, s: soft(x, s * l1) / (1 + l2 * s),
        lambda y: max(abs(y) - l1, 0) ** 2 / (2 * l2),
    )


def group_lasso(scale):
    return PenaltyOracle(
        lambda x: [scale * norm(x)],
        # Parikh and Boyd, 2014, section 6.5.4.
        lambda x, s: [e * (max(0, 1 - s * scale / norm(x)) if norm(x) else 1) for e in x],
        lambda y: [indicator(norm(y) <= scale)],
    )


def non_negative():
    return each(
        lambda x: indicator(x >= 0), lambda x, s: max(x, mp.zero), lambda y: indicator(y <= 0)
    )


def box(low, high):
    return each(
        lambda x: indicator(low <= x <= high),
        lambda x, s: min(max(x, low), high),
        lambda y: max(low * y, high * y),
    )


def threshold(x, total):
    """The tau at which sum max(x - tau, 0) is the total: Held, Wolfe and Crowder, 1974."""
    ordered = sorted(x, reverse=True)
    guesses = [(sum(ordered[: k + 1]) - total) / (k + 1) for k in range(len(x))]
    return next(
        tau
        for k, tau in enumerate(guesses)
        if k + 1 == len(x) or (ordered[k + 1] <= tau and ordered[k] >= tau)
    )


def simplex(total):
    return PenaltyOracle(
        lambda x: [indicator(min(x) >= 0 and abs(sum(x) - total) <= 1e-150 * (total + 1))],
        lambda x, s: [max(e - threshold(x, total), mp.zero) for e in x],
        lambda y: [total * max(y)],
    )


def l1_ball(radius):
    def prox(x, s):
        size = [abs(e) for e in x]
        return x if sum(size) <= radius else [soft(e, threshold(size, radius)) for e in x]

    return PenaltyOracle(
        lambda x: [indicator(sum(map(abs, x)) <= radius * (1 + mp.mpf(10) ** -150))],
        prox,
        lambda y: [radius * max(map(abs, y))],
    )


def l2_ball(radius):
    return PenaltyOracle(
        lambda x: [indicator(norm(x) <= radius * (1 + mp.mpf(10) ** -150))],
        lambda x, s: [e if norm(x) <= radius else e * radius / norm(x) for e in x],
        lambda y: [radius * norm(y)],
    )


PENALTIES = {
    f.__name__: f
    for f in (
        l1,
        l2,
        elastic_net,
        group_lasso,
        non_negative,
        box,
        simplex,
        l1_ball,
        l2_ball,
    )
}
