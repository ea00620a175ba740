"""Losses, proximal points, envelopes and conjugates against mpmath, over the whole domain."""

from __future__ import annotations

import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mpmath import mp

from jaxloss import prox
from tests.prox.oracles import LOSSES, ROWS, Oracle

EPS = float(np.finfo(np.float32).eps)
LARGEST = float(np.finfo(np.float32).max)
# Subnormal numbers are flushed to 0, as elsewhere in the laws.
FLUSHED = 16 * float(np.finfo(np.float32).tiny)
# The contract's: of values, of derivatives in data, of those in hyperparameters and of second ones.
VALUE, SECOND = 8, 64

SIZES = [0.0, 2e-38, 1e-30, 1e-3, 0.3, 1.0, 1.3, 7.0, 1e5, 1e30]
ENDS = sorted({sign * size for sign in (-1, 1) for size in SIZES})
CENTERS = [0.0, 1.0, -1e5]
STEPS = [0.0, 1e-30, 0.45, 3.0, 1e30]
POINTS = np.array(list(itertools.product(ENDS, CENTERS, STEPS)), np.float32)


def oracle(name: str, hyper: dict[str, Any]) -> Oracle:
    return LOSSES[name](**{k: mp.mpf(v) for k, v in hyper.items()})


def made(name: str, hyper: dict[str, Any]) -> prox.Loss:
    return getattr(prox, name)(**hyper)


@functools.cache
def program(name: str, method: str, wrt: tuple[int, ...], knobs: tuple[str, ...]) -> Any:
    """A method and its derivatives, element by element."""

    def call(x, t, step, *numbers):
        loss = made(name, dict(zip(knobs, numbers, strict=True)))
        steps = (step,) if method in ("prox", "envelope", "conjugate_prox") else ()
        return getattr(loss, method)(x, t, *steps)

    def both(*given):
        slopes = jax.grad(lambda *args: jnp.sum(call(*args)), wrt)(*given)
        return call(*given), slopes

    return jax.jit(both)


def found(name: str, hyper: dict[str, Any], method: str, points: np.ndarray, wrt: tuple[int, ...]):
    numbers = [np.full(len(points), v, np.float32) for v in hyper.values()]
    wrt += tuple(3 + i for i in range(len(numbers)))
    value, slopes = program(name, method, wrt, tuple(hyper))(*points.T, *numbers)
    return np.asarray(value), dict(zip(wrt, map(np.asarray, slopes), strict=True))


class Truth:
    """A loss as a function of exact numbers: x, t, step and the hyperparameters in order."""

    def __init__(self, name: str, hyper: dict[str, Any]) -> None:
        self.name, self.keys = name, tuple(hyper)

    def parts(self, x, t, *numbers):
        made = LOSSES[self.name](**dict(zip(self.keys, numbers, strict=True)))
        if made.start is None:
            return made, x - t, t, 1
        side = 1 if t > 0 else -1
        return made, side * x, mp.zero, side

    def value(self, x, t, step, *numbers):
        made, e, _, _ = self.parts(x, t, *numbers)
        return made.value(e)

    def prox(self, x, t, step, *numbers):
        made, e, origin, side = self.parts(x, t, *numbers)
        return origin + side * made.prox(e, step)

    def envelope(self, x, t, step, *numbers):
        made, e, _, _ = self.parts(x, t, *numbers)
        p = made.prox(e, step)
        return made.value(p) + ((p - e) ** 2 / (2 * step) if step else 0)

    def slope(self, x, t, step, *numbers):
        """Of the envelope in x, where the step is not 0."""
        made, e, _, side = self.parts(x, t, *numbers)
        return side * (e - made.prox(e, step)) / step

    def conjugate(self, y, t, step, *numbers):
        made, e, origin, _ = self.parts(y, mp.mpf(t), *numbers)
        if made.start is None:
            return made.conjugate(y) + y * origin
        return made.conjugate(e)

    def conjugate_prox(self, y, t, step, *numbers):
        return y - step * self.prox(y / step, t, 1 / step, *numbers) if step else None


def exact(row: Any) -> list[Any]:
    return [mp.mpf(float(x)) for x in row]


DOMAIN = {"quantile": (0, 1), "expectile": (0, 1)}


def derivative(truth: Truth, method: str, at: list[Any], place: int) -> Any:
    """The difference quotient; None at a kink or outside, one-sided at an end of the domain."""
    call = getattr(truth, method)
    low, high = -mp.inf, mp.inf
    if place == 2:
        low = 0
    if place > 2:
        low, high = DOMAIN.get(truth.keys[place - 3], (0, mp.inf))
    h = mp.mpf(10) ** -90
    quotients = []
    for sign in (-1, 1):
        moved = [x + sign * h if i == place else x for i, x in enumerate(at)]
        if low <= moved[place] <= high:
            quotients.append((call(*moved) - call(*at)) / (sign * h))
    if not all(map(mp.isfinite, quotients)):
        return None
    if len(quotients) == 2 and abs(quotients[0] - quotients[1]) > 1e-20 * abs(quotients[0]):
        return None
    return quotients[0]


def terms(truth: Truth, method: str, at: list[Any]) -> Any:
    """The largest of those that are compared: data and thresholds, or slopes and steps of them."""
    x, t, step, *numbers = at
    start = LOSSES[truth.name](*numbers).start
    dead = numbers[0] if "epsilon" in truth.name else start or 0
    away = max(t if start is None else 0, -t if start is None else 0, dead)
    return max(abs(x), away if method == "prox" else step * away)


def kept(truth: Truth, at: list[Any], method: str) -> Any:
    """The derivative in x; None where another rounding of data or step lies on another piece."""
    x, *others = at
    room = 8 * mp.mpf(EPS) * terms(truth, method, at)
    found = [derivative(truth, method, [x + away, *others], 0) for away in (-room, 0, room)]
    near = None in found or max(found) - min(found) > mp.mpf("1e-3") * max(found)
    return None if near else found[1]


def compare(what: Any, got: np.ndarray, true: list[Any], scale: list[Any], units: float) -> None:
    """Within some eps of the scale, which is at least the true number."""
    worst, where = 0.0, None
    for i, (g, x) in enumerate(zip(got, true, strict=True)):
        if x is None:
            continue
        if abs(x) > LARGEST * (1 - EPS):
            # A derivative may be held at the largest float, times factors of the loss.
            fine = abs(float(g)) >= LARGEST / 64 and (g > 0) == (x > 0)
            error = 0 if fine else np.inf
        else:
            room = max(abs(x), abs(scale[i]))
            away = max(abs(mp.mpf(float(g)) - x) - FLUSHED, 0)
            error = 0.0 if away == 0 else float(away / room / EPS) if room else np.inf
        # NaN is worse than anything.
        if not error <= worst:
            worst, where = error, i
    if where is not None:
        assert worst <= units, (what, worst, where, got[where], float(true[where] or 0))


@pytest.fixture(autouse=True)
def _digits():
    with mp.workdps(220):
        yield


def without_dead_zone(name: str, at: list[Any]) -> list[Any]:
    """The same error beyond no dead zone: the terms of |e| - epsilon, whose digits may cancel."""
    x, t, step, *numbers = at
    if "epsilon" not in name:
        return at
    e, epsilon = x - t, numbers[0]
    return [t + (1 if e >= 0 else -1) * (abs(e) + epsilon), t, step, mp.zero]


def hyper_scale(name: str, at: list[Any]) -> Any:
    """The size of the error, of which hyperparameters subtract something."""
    x, t, _, *numbers = at
    size = abs(x - t) + (numbers[0] if "epsilon" in name else 0)
    return size * size if name in ("expectile_loss", "squared_epsilon_insensitive_loss") else size


@pytest.mark.parametrize(("name", "hyper"), ROWS, ids=str)
def test_envelope(name: str, hyper: dict[str, float]) -> None:
    truth, numbers = Truth(name, hyper), exact(hyper.values())
    at = [exact(row) + numbers for row in POINTS]
    larger = [without_dead_zone(name, x) for x in at]
    slope = [derivative(truth, "envelope", x, 0) for x in at]
    same = larger == at
    larger_slope = slope if same else [derivative(truth, "envelope", x, 0) for x in larger]
    larger_slope = [abs(y or 0) for y in larger_slope]
    value, slopes = found(name, hyper, "envelope", POINTS, (0, 1, 2))
    values = [truth.envelope(*x) for x in at]
    scale = values if same else [truth.envelope(*x) for x in larger]
    compare("value", value, values, scale, VALUE)
    compare("d/dx", slopes[0], slope, larger_slope, VALUE)
    if LOSSES[name](*numbers).start is None:
        opposite = [None if y is None else -y for y in slope]
        compare("d/dt", slopes[1], opposite, larger_slope, VALUE)
    squares = [y * y for y in larger_slope]
    compare(
        "d/dstep", slopes[2], [derivative(truth, "envelope", x, 2) for x in at], squares, SECOND
    )
    for i, key in enumerate(hyper):
        true = [derivative(truth, "envelope", x, 3 + i) for x in at]
        compare(f"d/d{key}", slopes[3 + i], true, [hyper_scale(name, x) for x in at], SECOND)


@pytest.mark.parametrize(("name", "hyper"), ROWS, ids=str)
def test_prox(name: str, hyper: dict[str, float]) -> None:
    truth, numbers = Truth(name, hyper), exact(hyper.values())
    at = [exact(row) + numbers for row in POINTS]
    start = LOSSES[name](*numbers).start
    value, slopes = found(name, hyper, "prox", POINTS, (0, 1, 2))
    keeps = [kept(truth, x, "prox") for x in at]

    def derivatives(place: int, points: list[Any]) -> list[Any]:
        return [
            None if k is None else derivative(truth, "prox", x, place)
            for x, k in zip(points, keeps, strict=True)
        ]

    # A point is x less a step, which may cancel, or a mean of x and the target.
    origin = [x[1] if start is None else start for x in at]
    scale = [
        0 if o == 0 and k not in (1, None) else max(abs(x[0]), abs(o))
        for x, k, o in zip(at, keeps, origin, strict=True)
    ]
    compare("value", value, [truth.prox(*x) for x in at], scale, VALUE)
    compare("d/dx", slopes[0], keeps, [0] * len(at), VALUE)
    if start is None:
        moves = [k if k is None else 1 - k for k in keeps]
        compare("d/dt", slopes[1], moves, [0] * len(at), VALUE)
    larger = [without_dead_zone(name, x) for x in at]
    for place, key in enumerate(("step", *hyper), 2):
        true = derivatives(place, at)
        scale = true if larger == at else derivatives(place, larger)
        compare(f"d/d{key}", slopes[place], true, [x or 0 for x in scale], SECOND)


# The step is of no account.
SLOPES = POINTS[np.float32(0.45) == POINTS[:, 2]]


@pytest.mark.parametrize(("name", "hyper"), ROWS, ids=str)
def test_conjugate(name: str, hyper: dict[str, float]) -> None:
    truth, numbers = Truth(name, hyper), exact(hyper.values())
    at = [exact(row) + numbers for row in SLOPES]
    start = LOSSES[name](*numbers).start
    value, slopes = found(name, hyper, "conjugate", SLOPES, (0, 1))
    values = [truth.conjugate(*x) for x in at]
    # The conjugate of the error, and its product with where the error begins.
    line = [abs(x[0] * (x[1] if start is None else start)) for x in at]
    scale = [max(size, abs(v)) for size, v in zip(line, values, strict=True)]
    compare("value", value, values, scale, VALUE)
    outside = np.array([v == mp.inf for v in values])
    assert np.all(np.isnan(slopes[0][outside]))
    true = [derivative(truth, "conjugate", x, 0) for x in at]
    compare("d/dy", slopes[0], true, [x[1] if start is None else start for x in at], VALUE)
    if start is None:
        y, t, _ = SLOPES.T
        np.testing.assert_array_equal(slopes[1][~outside], y[~outside])
        # The subgradient of least norm, but for the target, where a dead zone makes a corner.
        np.testing.assert_array_equal(slopes[0][y == 0], t[y == 0])
    for i, key in enumerate(hyper):
        true = [derivative(truth, "conjugate", x, 3 + i) for x in at]
        compare(f"d/d{key}", slopes[3 + i], true, [0] * len(at), SECOND)


@pytest.mark.parametrize(("name", "hyper"), ROWS, ids=str)
def test_conjugate_prox(name: str, hyper: dict[str, float]) -> None:
    truth, numbers = Truth(name, hyper), exact(hyper.values())
    rows = POINTS[POINTS[:, 2] > 0]
    at = [exact(row) + numbers for row in rows]
    value, slopes = found(name, hyper, "conjugate_prox", rows, (0, 1, 2))
    keeps = [kept(truth, x, "conjugate_prox") for x in at]

    def derivatives(place: int) -> list[Any]:
        return [
            None if k is None else derivative(truth, "conjugate_prox", x, place)
            for x, k in zip(at, keeps, strict=True)
        ]

    largest = [terms(truth, "conjugate_prox", x) for x in at]
    scale = [(1 if k is None else k) * x for k, x in zip(keeps, largest, strict=True)]
    compare("value", value, [truth.conjugate_prox(*x) for x in at], scale, VALUE)
    compare("d/dy", slopes[0], keeps, [0] * len(at), VALUE)
    if LOSSES[name](*numbers).start is None:
        compare("d/dt", slopes[1], derivatives(1), [0] * len(at), VALUE)
    # The proximal point of the loss, of which a part is kept: a mean of slopes and the target.
    origin = [terms(truth, "prox", [mp.zero, *x[1:]]) for x in at]
    means = [
        0 if k is None else k * max(k * o, (1 - k) * abs(x[0]) / x[2])
        for k, o, x in zip(keeps, origin, at, strict=True)
    ]
    compare("d/dstep", slopes[2], derivatives(2), means, SECOND)
    for place, key in enumerate(hyper, 3):
        compare(f"d/d{key}", slopes[place], derivatives(place), [0] * len(at), SECOND)
