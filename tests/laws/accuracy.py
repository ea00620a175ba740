"""Errors of values and gradients against the oracles, over the whole domain of a loss."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tests.laws import oracle as oracles
from tests.laws.rows import Case, Options
from tests.laws.compiling import as_users

EPS = float(np.finfo(np.float32).eps)
# XLA flushes subnormal numbers to 0 on CPU, as accelerators do: what it reads and what it returns
# may be 0 below the smallest normal number.
TINY = float(np.finfo(np.float32).tiny)
# A number that was flushed on the way may have been multiplied by the weights of the rows.
FLUSHED = 16 * TINY
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
    if case.points:
        return [tuple(x) for x in case.points(seed)]
    rng = np.random.default_rng(seed)
    if case.axis:
        drawn = case.draw(seed, (24, 4))
        # Vectors whose entries are ends of the domain; labels as drawn.
        ends = [
            x if kind.index else rng.choice(kind.edges, x.shape).astype(np.float32)
            for x, kind in zip(case.draw(seed + 1, (60, 4)), case.data, strict=True)
        ]
        return [*zip(*drawn, strict=True), *zip(*ends, strict=True)]
    ordinary = [tuple(map(float, row)) for row in zip(*case.draw(seed, (24,)), strict=True)]
    alike = ordinary[:8] if case.data[0] is case.data[1] else []
    close = [(row[0], row[0] + 1e-3 * abs(row[0]) + 1e-4, *row[2:]) for row in alike]
    ends = list(itertools.product(*(kind.edges for kind in case.data)))
    if len(ends) > case.edges:
        ends = [ends[i] for i in sorted(rng.choice(len(ends), case.edges, replace=False))]
    return [tuple(map(float, row)) for row in np.asarray(ordinary + close + ends, np.float32)]


def is_knob(value: Any) -> bool:
    """Whether an option is a number to differentiate in, neither a setting nor an array."""
    return isinstance(value, float | np.floating)


def errors(case: Case, compiled: bool = True) -> list[Error]:
    """The worst error of the value and of each derivative, for each set of hyperparameters.

    Eagerly, where it takes long, for one of those that differ in numbers only.
    """
    rows = points(case)
    columns = [jnp.asarray(np.stack(column)) for column in zip(*rows, strict=True)]
    columns = [
        x if kind.index else x.astype(jnp.float32)
        for x, kind in zip(columns, case.data, strict=True)
    ]
    run = _evaluation(case, compiled)
    found, seen = [], set()
    for given in (case.options, *case.variants):
        # As float32 holds them: a hyperparameter's own rounding is no error of the loss.
        options = {k: float(np.float32(v)) if is_knob(v) else v for k, v in given.items()}
        fixed = {k: v for k, v in options.items() if not is_knob(v)}
        setting = repr((fixed, sorted(options)))
        if not compiled and setting in seen:
            continue
        seen.add(setting)
        knobs = {
            k: jnp.full((len(rows),), v, jnp.float32) for k, v in options.items() if k not in fixed
        }
        losses, slopes, knob_slopes = run(columns, knobs, fixed)
        found.append(worst(case, "value", rows, options, losses, None))
        for index, slope in zip(case.floating, slopes, strict=True):
            found.append(worst(case, f"d/d{index}", rows, options, slope, index))
        for name, slope in knob_slopes.items():
            if name not in case.not_differentiated:
                found.append(worst(case, f"d/d{name}", rows, options, slope, name))
    return found


def _evaluation(case: Case, compiled: bool) -> Callable[..., Any]:
    """Losses, and the derivatives of each in the data and in its hyperparameters."""
    loss = case.loss if compiled else vars(case.loss)["__wrapped__"]

    def run(fixed: Options, columns: Any, knobs: Any) -> Any:
        def total(trained: Any, knobs: Any) -> Any:
            filled = dict(enumerate(columns)) | dict(zip(case.floating, trained, strict=True))
            losses = loss(*filled.values(), **knobs, **fixed)
            return jnp.sum(losses), losses

        def mapped(knobs: Any) -> Any:
            each = jax.vmap(lambda columns, knobs: loss(*columns, **knobs, **fixed))
            return jnp.sum(each(columns, knobs))

        # One number for all vectors, or one for each element.
        shared = {k: v[0] for k, v in knobs.items()} if case.axis else knobs
        trained = [columns[i] for i in case.floating]
        slopes = jax.grad(total, (0, 1), has_aux=True)
        (slopes, knob_slopes), losses = slopes(trained, shared)
        if case.axis and knobs:
            # Of one number for all there is the sum only. Eagerly that takes too long.
            knob_slopes = jax.grad(mapped)(knobs) if compiled else {}
        return losses, slopes, knob_slopes

    if not compiled:
        return lambda columns, knobs, fixed: run(fixed, columns, knobs)
    # One compilation for all that differ in numbers only.
    programs: dict[str, Any] = {}

    def compile_once(columns: Any, knobs: Any, fixed: Options) -> Any:
        program = programs.setdefault(repr(fixed), as_users(functools.partial(run, fixed)))
        return program(columns, knobs)

    return compile_once


def worst(case: Case, what: str, rows: list[Point], options: Options, got: Any, wrt: Any) -> Error:
    got = np.asarray(got, float)
    worst = Error(0.0, what, (), options, 0.0, 0.0)
    numbers = {k: v for k, v in options.items() if k not in case.layout}
    for row, result in zip(rows, got, strict=True):
        read = tuple(np.where(np.abs(x) < TINY, 0, x) if np.ndim(x) else _flushed(x) for x in row)
        if wrt is not None and case.kink(*read, **numbers):
            continue
        for component in np.ndindex(np.shape(result)):
            exact = _exact(case, read, numbers, wrt, component)
            if exact is None:
                continue
            number = float(result[component])
            units = _units(number, *exact)
            if not units <= worst.units:
                worst = Error(units, what, row, options, number, exact[0])
    return worst


def _exact(
    case: Case, row: Point, options: Options, wrt: Any, component: tuple[int, ...]
) -> tuple[float, float] | None:
    """The exact number and its largest term, or None where neither exists."""
    at = [options]
    if case.batch:
        # One of its losses, or the derivative of the sum of all.
        anchors = range(len(row[0])) if wrt is not None else component
        at = [{**options, "anchor": i} for i in anchors]
        component = () if wrt is None else component
    place = (wrt, component) if component else wrt
    try:
        found = [_call(case.name, row, options, place) for options in at]
    except (ZeroDivisionError, ValueError):
        return None
    exact, terms = sum(x for x, _ in found), [x for _, x in found]
    if wrt is not None and not np.isfinite(float(exact)):
        return None  # one-sided: the difference quotient leaves the domain
    if case.largest:
        told = [case.largest(row, options, place) for options in at]
        terms = [term if x is None else x for x, term in zip(told, terms, strict=True)]
    return float(exact), float(max(terms))


def _flushed(x: Any) -> Any:
    return x * 0 if abs(x) < TINY else x


_TRUTH: dict[Any, Any] = {}


def _call(name: str, row: Point, options: Options, wrt: Any) -> Any:
    """The oracle's word, asked once: the compiled and the eager loss are held against the same."""
    key = (name, *(np.asarray(x).tobytes() for x in row), repr(options), wrt)
    if key not in _TRUTH:
        try:
            if wrt is None:
                _TRUTH[key] = oracles.value(name, row, options)
            else:
                _TRUTH[key] = oracles.derivative(name, row, options, wrt)
        except (ZeroDivisionError, ValueError) as error:
            _TRUTH[key] = error
    if isinstance(_TRUTH[key], Exception):
        raise _TRUTH[key]
    return _TRUTH[key]


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
    return max(0.0, abs(got - exact) - FLUSHED) / (EPS * max(largest, TINY))
