"""The losses, their proximal points and their conjugates, as books have them, in mpmath.

`LOSSES[name]` takes the hyperparameters by name and gives three functions: of the error e, or of
the margin z of a hinge, of e and the step, and of the slope y.
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
