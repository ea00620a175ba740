"""Errors of values and gradients against the oracles, over the whole domain of a loss."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import oracles
from cases import Case, Options

EPS = float(np.finfo(np.float32).eps)
# XLA flushes subnormal numbers to 0 on CPU, as accelerators do: what it reads and what it returns
# may be 0 below the smallest normal number.
TINY = float(np.finfo(np.float32).tiny)
LARGEST = float(np.finfo(np.float32).max)

# Eps of float32, of the true result or of its largest term; twice that for losses that sum over
# an axis.
LIMIT = 8

Point = tuple[Any, ...]


@dataclass(frozen=True)
class Error:
    """An error in units of float32's eps, and where it stands."""

    units: float
    what: str
    point: Point
    options: Options
    got: float
    exact: float


def points(case: Case, seed: int = 0) -> list[Point]:
    """Ordinary points, close ones, and combinations of the ends of the domain."""
    rng = np.random.default_rng(seed)
    if case.axis:
        pairs = [tuple(x[i] for x in case.draw(seed, (24, 4))) for i in range(24)]
        scales = rng.choice([1.0, 1e20, 1e-25, 1e-3], (24, 2))
        scaled = [(a * s, b * r) for (a, b), (s, r) in zip(pairs, scales, strict=True)]
        close = [(a, a + np.float32(1e-3) * b) for a, b in pairs[:8]]
        return [tuple(np.asarray(x, np.float32) for x in row) for row in scaled + close]
    ordinary = [tuple(map(float, row)) for row in zip(*case.draw(seed, (24,)), strict=True)]
    alike = ordinary[:8] if case.data[0] is case.data[1] else []
    close = [(row[0], row[0] + 1e-3 * abs(row[0]) + 1e-4, *row[2:]) for row in alike]
    ends = list(itertools.product(*(kind.edges for kind in case.data)))
    if len(ends) > case.edges:
        ends = [ends[i] for i in sorted(rng.choice(len(ends), case.edges, replace=False))]
    return [tuple(map(float, row)) for row in np.asarray(ordinary + close + ends, np.float32)]


def errors(case: Case, compiled: bool = True) -> list[Error]:
    """The worst error of the value and of each derivative, for each set of hyperparameters."""
    rows = points(case)
    columns = [jnp.asarray(np.asarray(column), jnp.float32) for column in zip(*rows, strict=True)]
    found = []
    for given in (case.options, *case.variants):
        # As float32 holds them: a hyperparameter's own rounding is no error of the loss.
        options = {k: v if isinstance(v, bool) else float(np.float32(v)) for k, v in given.items()}
        flags = {k: v for k, v in options.items() if isinstance(v, bool)}
        knobs = {
            k: jnp.asarray(v, jnp.float32) if case.axis else jnp.full(len(rows), v, jnp.float32)
            for k, v in options.items()
            if k not in flags
        }

        def total(columns: Any, knobs: Any, flags: Any = flags) -> Any:
            loss = case.loss if compiled else vars(case.loss)["__wrapped__"]
            losses = loss(*columns, **knobs, **flags)
            return jnp.sum(losses), losses

        run = jax.grad(total, (0, 1), has_aux=True)
        (slopes, knob_slopes), losses = (jax.jit(run) if compiled else run)(columns, knobs)
        found.append(worst(case, "value", rows, options, losses, None))
        for index, slope in enumerate(slopes):
            found.append(worst(case, f"d/d{index}", rows, options, slope, index))
        if not case.axis:
            for name, slope in knob_slopes.items():
                if name not in case.not_differentiated:
                    found.append(worst(case, f"d/d{name}", rows, options, slope, name))
    return found


def worst(case: Case, what: str, rows: list[Point], options: Options, got: Any, wrt: Any) -> Error:
    got = np.asarray(got, float)
    worst = Error(0.0, what, (), options, 0.0, 0.0)
    for row, result in zip(rows, got, strict=True):
        for component, number in enumerate(np.atleast_1d(result)):
            place = (wrt, component) if np.ndim(result) else wrt
            exact = _exact(case, row, options, place)
            if exact is None:
                continue
            units = _units(number, *exact)
            if not units <= worst.units:
                worst = Error(units, what, row, options, float(number), exact[0])
    return worst


def _exact(case: Case, row: Point, options: Options, wrt: Any) -> tuple[float, float] | None:
    """The exact number and its largest term, or None at a kink or where neither exists."""
    if case.axis:
        return float(_call(case.name, row, options, wrt)[0]), _largest(case, row, options, wrt)
    row = tuple(0.0 if abs(x) < TINY else x for x in row)
    if wrt is not None and case.kink(*row, **options):
        return None
    try:
        exact, largest = _call(case.name, row, options, wrt)
    except (ZeroDivisionError, ValueError):
        return None
    if wrt is not None and not np.isfinite(float(exact)):
        return None  # one-sided: the difference quotient leaves the domain
    return float(exact), float(largest)


def _largest(case: Case, row: Point, options: Options, wrt: Any) -> float:
    """The largest term of a cosine, or of its derivative (v - <u, v> u) / |a|."""
    a, b = (np.asarray(x, np.float64) for x in row)
    least = np.sqrt(options.get("epsilon", 0.0))
    norms = [max(np.linalg.norm(x), least) for x in (a, b)]
    u, v = a / norms[0], b / norms[1]
    if wrt is None:
        return max(float(case.name == "cosine_distance"), np.abs(u * v).max())
    own, component = wrt
    first, second = (u, v) if own == 0 else (v, u)
    along = abs(np.dot(u, v)) * abs(first[component])
    return float(max(abs(second[component]), along) / norms[own])


def _call(name: str, row: Point, options: Options, wrt: Any) -> Any:
    if wrt is None:
        return oracles.value(name, row, options)
    return oracles.derivative(name, row, options, wrt)


def _units(got: float, exact: float, largest: float) -> float:
    if np.isnan(exact):
        return 0.0 if np.isnan(got) else np.inf
    if largest > LARGEST * (1 - LIMIT * EPS) and not np.isfinite(got):
        # Out of float32's range: infinite, or, for a sum of terms of either sign, anything but
        # a plausible number.
        several = abs(largest - abs(exact)) > 1e-9 * largest
        return 0.0 if several or got == np.copysign(np.inf, exact) else np.inf
    if not np.isfinite(got):
        return np.inf
    return max(0.0, abs(got - exact) - TINY) / (EPS * max(largest, TINY))
