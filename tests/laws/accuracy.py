"""Errors of values and gradients against exact ones, over the whole domain of a loss."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tests.laws.case import Case, Options
from tests.laws.compiling import as_users
from tests.laws.truths import NO_TRUTH, anchored, question, truths

EPS = float(np.finfo(np.float32).eps)
# XLA flushes subnormal numbers to 0 on CPU, as accelerators do: what it reads and what it returns
# may be 0 below the smallest normal number.
TINY = float(np.finfo(np.float32).tiny)
# A number that was flushed on the way may have been multiplied by the weights of the rows.
FLUSHED = 16 * TINY
LARGEST = float(np.finfo(np.float32).max)

# Eps of float32, of the true result or of its largest term; twice that for losses that sum over
# an axis. Derivatives in hyperparameters, which are few and cost little to be wrong, have more.
LIMIT = 8
HYPER_LIMIT = 64

# How many points an eager evaluation has.
LENGTHS = (24, 84, 432)

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
    """Ordinary points, close ones, combinations of the ends of the domain, single infinities."""
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
    infinite = [
        (*row[:i], end, *row[i + 1 :])
        for i, kind in enumerate(case.data)
        for end in kind.infinite
        for row in ordinary[:2]
    ]
    rows = ordinary + close + ends + infinite
    return [tuple(map(float, row)) for row in np.asarray(rows, np.float32)]


def is_knob(value: Any) -> bool:
    """Whether an option is a number to differentiate in, neither a setting nor an array."""
    return isinstance(value, float | np.floating)


def limit(case: Case, error: Error) -> float:
    """What the contract allows, in units of eps."""
    return HYPER_LIMIT if in_hyper(error) else LIMIT * (2 if case.axis else 1)


def in_hyper(error: Error) -> bool:
    """Whether it is of a derivative in a hyperparameter."""
    return error.what.removeprefix("d/d") in error.options


def settings(case: Case) -> list[Options]:
    """The options as float32 holds them: their own rounding is no error of the loss."""
    return [
        {k: float(np.float32(v)) if is_knob(v) else v for k, v in given.items()}
        for given in (case.options, *case.variants)
    ]


def errors(case: Case, compiled: bool = True) -> list[Error]:
    """The worst error of the value and of each derivative, for each set of hyperparameters.

    Eagerly, where it takes long, for one of those that differ only in numbers that choose no
    branch of the program.
    """
    rows = points(case)
    count = len(rows)
    if not compiled:
        # To one of few lengths, so that losses share the programs of single operations.
        rows = [rows[i % count] for i in range(min([n for n in LENGTHS if n >= count] or [count]))]
    columns = [jnp.asarray(np.stack(column)) for column in zip(*rows, strict=True)]
    columns = [
        x if kind.index else x.astype(jnp.float32)
        for x, kind in zip(columns, case.data, strict=True)
    ]
    run = _evaluation(case, compiled)
    found, seen = [], set()
    for options in settings(case):
        fixed = {k: v for k, v in options.items() if not is_knob(v)}
        chosen = {k: options[k] for k in case.branches if k in options}
        setting = repr((fixed, chosen, sorted(options)))
        if not compiled and setting in seen:
            continue
        seen.add(setting)
        knobs = {
            k: jnp.full((len(rows),), v, jnp.float32) for k, v in options.items() if k not in fixed
        }
        results = run(columns, knobs, fixed)
        losses, slopes, knob_slopes = jax.tree.map(lambda x: np.asarray(x)[:count], results)
        found.append(worst(case, "value", rows[:count], options, losses, None))
        for index, slope in zip(case.floating, slopes, strict=True):
            found.append(worst(case, f"d/d{index}", rows[:count], options, slope, index))
        for name, slope in knob_slopes.items():
            if name not in case.not_differentiated:
                found.append(worst(case, f"d/d{name}", rows[:count], options, slope, name))
    return found


class Ask(NamedTuple):
    """What `errors` asks the truths of a row at once: the arguments of `truths.truths`."""

    case: Case
    rows: list[Point]
    options: Options
    wrt: Any
    shape: tuple[int, ...]

    def question(self) -> str:
        return question(self.case.name, self.rows, self.options, self.wrt)


def asks(case: Case) -> list[Ask]:
    rows = [tuple(map(flushed, row)) for row in points(case)]
    found = []
    for options in settings(case):
        numbers = {k: v for k, v in options.items() if k not in case.layout}
        found.append(Ask(case, rows, numbers, None, (len(rows[0][0]),) if case.batch else ()))
        found += [Ask(case, rows, numbers, i, np.shape(rows[0][i])) for i in case.floating]
        knobs = [k for k, v in numbers.items() if is_knob(v) and k not in case.not_differentiated]
        found += [Ask(case, rows, numbers, k, ()) for k in knobs]
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

        def operation_by_operation(columns: Any, knobs: Any, fixed: Options) -> Any:
            with jax.disable_jit():
                return run(fixed, columns, knobs)

        return operation_by_operation
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
    read = [tuple(map(flushed, row)) for row in rows]
    exact, terms = truths(case, read, numbers, wrt, got.shape[1:])
    for i, row in enumerate(rows):
        if wrt is not None and case.kink(*read[i], **numbers):
            continue
        for component in np.ndindex(got.shape[1:]):
            place = i, *component
            if terms[place] == NO_TRUTH:
                continue
            largest = _largest(case, read[i], numbers, wrt, component, terms[place])
            units = units_of(float(got[place]), float(exact[place]), largest)
            if not units <= worst.units:
                number = float(got[place])
                worst = Error(units, what, row, options, number, float(exact[place]))
    return worst


def _largest(
    case: Case, row: Point, options: Options, wrt: Any, component: tuple[int, ...], term: float
) -> float:
    """What an error is measured against: the largest term that the row tells, or the oracle."""
    if not case.largest:
        return float(term)
    at, place = anchored(case, row, options, wrt, component)
    told = [case.largest(row, given, place) for given in at]
    return max(float(term) if x is None else float(x) for x in told)


def flushed(x: Any) -> Any:
    return np.where(np.abs(x) < TINY, 0, x) if np.ndim(x) else x * 0 if abs(x) < TINY else x


def units_of(got: float, exact: float, largest: float) -> float:
    if np.isnan(exact):
        return 0.0 if np.isnan(got) else np.inf
    if np.isinf(exact) and np.isfinite(got):
        return np.inf
    if largest > LARGEST * (1 - LIMIT * EPS) and not np.isfinite(got):
        # Out of float32's range: infinite, or, for a sum of terms of either sign, anything but
        # a plausible number.
        several = abs(largest - abs(exact)) > 1e-9 * largest
        return 0.0 if several or got == np.copysign(np.inf, exact) else np.inf
    if not np.isfinite(got):
        return np.inf
    return max(0.0, abs(got - exact) - FLUSHED) / (EPS * max(largest, TINY))
