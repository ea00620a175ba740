"""Penalties against mpmath: points, envelopes and conjugates, with all their derivatives."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mpmath import mp

from jaxloss import prox
from tests.laws.values import EPS
from tests.prox.oracles import PENALTIES, PenaltyOracle

# Numbers that are exact in binary, inside and outside of the sets, with ties.
HYPER: dict[str, dict[str, float]] = {
    "l1": {"scale": 0.75},
    "l2": {"scale": 0.75},
    "elastic_net": {"l1": 0.5, "l2": 0.75},
    "group_lasso": {"scale": 1.5},
    "non_negative": {},
    "box": {"low": -0.5, "high": 2.0},
    "simplex": {"total": 2.0},
    "l1_ball": {"radius": 3.0},
    "l2_ball": {"radius": 3.0},
}
ROW = np.array([-3, -0.8, 0.3, 0.9, 2.3], np.float32)
ROWS = np.stack(
    [
        ROW,
        ROW[::-1] * np.float32(0.15),
        ROW * np.float32(1e-30),
        ROW * np.float32(1e30),
        np.array([0, 1.5, 1.5, -1.5, 0.25], np.float32),
        np.zeros(5, np.float32),
        -np.abs(ROW),
    ]
)
METHODS = ("__call__", "prox", "envelope", "conjugate", "conjugate_prox")
STEP = np.float32(0.8)
WEIGHTS = np.array([1, -0.5, 0.75, 2, -1.25], np.float32)
# The contract's: of sums along an axis, and of derivatives in hyperparameters.
SUM, HYPERPARAMETER = 16, 64


@functools.cache
def program(name: str) -> Any:
    """Values of all methods, and derivatives of their weighted sums, of each row."""
    keys = tuple(HYPER[name])

    def both(*given):
        def weighted(method, x, step, *numbers):
            penalty = getattr(prox, name)(**dict(zip(keys, numbers, strict=True)))
            found = getattr(penalty, method)(*(x, step)[: 1 + takes_step(method)])
            # A value counts once.
            return jnp.sum(found * WEIGHTS) if found.ndim else found, found

        slopes = jax.grad(weighted, tuple(range(1, 1 + len(given))), has_aux=True)
        return [slopes(method, *given) for method in METHODS]

    return jax.jit(jax.vmap(both, in_axes=(0,) + (None,) * (1 + len(keys))))


def takes_step(method: str) -> bool:
    return method in ("prox", "envelope", "conjugate_prox")


def terms(made: PenaltyOracle, method: str, x: list[Any], step: Any) -> list[Any]:
    """What the result consists of: terms of a sum, or entries of a point."""
    if method == "__call__":
        return made.value(x)
    if method == "prox":
        return made.prox(x, step)
    if method == "conjugate":
        return made.conjugate(x)
    if method == "envelope":
        p = made.prox(x, step)
        return made.value(p) + [(a - b) ** 2 / (2 * step) for a, b in zip(p, x, strict=True)]
    # Moreau's decomposition.
    points = made.prox([e / step for e in x], 1 / step)
    return [e - step * p for e, p in zip(x, points, strict=True)]


def derivative(call: Any, middle: list[Any], at: list[Any], place: int) -> Any:
    """Difference quotients of each term; None at a kink and outside."""
    h = mp.mpf(10) ** -90
    quotients = []
    for sign in (-1, 1):
        moved = [z + sign * h if i == place else z for i, z in enumerate(at)]
        found = [(a - b) / (sign * h) for a, b in zip(call(moved), middle, strict=True)]
        if not all(map(mp.isfinite, found)):
            return None
        quotients.append(found)
    apart = max(abs(a - b) for a, b in zip(*quotients, strict=True))
    return None if apart > mp.mpf(10) ** -40 * max(map(abs, quotients[0])) else quotients[0]


@pytest.mark.parametrize("name", HYPER)
def test_penalty(name: str) -> None:
    """Within the contract's eps of the largest term; at kinks, another test has what is stated."""
    numbers = list(HYPER[name].values())
    found = program(name)(ROWS, STEP, *map(np.float32, numbers))

    def agrees(what: Any, got: Any, weighted: list[Any], units: float, least: Any = 0) -> None:
        largest = max(max(map(abs, weighted)), least)
        # Subnormal numbers are flushed to 0.
        room = units * EPS * largest + 16 * float(np.finfo(np.float32).tiny)
        assert abs(mp.mpf(float(got)) - sum(weighted)) <= room, (what, float(got), weighted)

    with mp.workdps(220):
        for i, row in enumerate(ROWS):
            at = [mp.mpf(float(e)) for e in (*row, STEP, *numbers)]
            size = max(map(abs, at[: len(row)]))
            for j, method in enumerate(METHODS):

                def call(at, method=method):
                    made = PENALTIES[name](*at[6:])
                    return terms(made, method, at[:5], at[5])

                slopes, got = jax.tree.map(lambda z, i=i: np.asarray(z[i]), found[j])
                true = call(at)
                weights = [mp.mpf(float(w)) for w in WEIGHTS] if got.ndim else [1] * len(true)
                if not all(map(mp.isfinite, true)) or sum(true) > np.finfo(np.float32).max:
                    assert got == np.inf, (method, i)
                    continue
                if got.ndim:
                    for e, t in zip(got, true, strict=True):
                        agrees((method, i), e, [t], SUM, size)
                else:
                    agrees((method, i), got, true, SUM)
                for place in range(len(at)):
                    if place == 5 and not takes_step(method):
                        continue
                    quotients = derivative(call, true, at, place)
                    if quotients is None:
                        continue
                    slope = slopes[0][place] if place < 5 else slopes[place - 4]
                    weighted = [w * q for w, q in zip(weights, quotients, strict=True)]
                    units = SUM if place < 5 else HYPERPARAMETER
                    agrees((method, i, place), slope, weighted, units)


def test_stated_derivatives_of_conjugates() -> None:
    """At corners: of largest entries that tie equal parts, of a box the least slope there is."""

    @functools.partial(jax.jit, static_argnums=0)
    def slope(make, y):
        return jax.grad(make().conjugate)(y)

    def slopes(make, *y):
        return slope(make, np.array(y, np.float32)).tolist()

    assert slopes(lambda: prox.l1_ball(3.0), 2, -2, 0, 1) == [1.5, -1.5, 0, 0]
    assert slopes(lambda: prox.l1_ball(3.0), 0, 0, 0, 0) == [0] * 4
    assert slopes(lambda: prox.simplex(3.0), 2, -2, 0, 2) == [1.5, 0, 0, 1.5]
    assert slopes(lambda: prox.l2_ball(3.0), 0, 0, 0, 0) == [0] * 4
    assert slopes(lambda: prox.box(-1.0, 2.0), 0, 3, -3, 1) == [0, 2, -1, 2]
    assert slopes(lambda: prox.box(1.0, 2.0), 0, 3, -3, 1) == [1, 2, 1, 2]
    assert slopes(lambda: prox.box(-2.0, -1.0), 0, 3, -3, 1) == [-1, -1, -2, -1]
    assert slopes(lambda: prox.elastic_net(1.0, 0.5), 0, 1, -1, 2) == [0, 0, 0, 2]
