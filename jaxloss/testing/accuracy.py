"""Errors of values and slopes against exact ones, over the whole domain of a loss."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .subject import EPS, HYPER_LIMIT, LIMIT, Options, Subject, filled, given, is_knob, shown

# XLA flushes subnormal numbers to 0 on CPU, as accelerators do: what it reads and what it returns
# may be 0 below the smallest normal number.
TINY = float(np.finfo(np.float32).tiny)
# A number that was flushed on the way may have been multiplied by the weights of the rows.
FLUSHED = 16 * TINY
LARGEST = float(np.finfo(np.float32).max)

# The size of a term that says that no exact number is known.
NO_TRUTH = -1.0

# How many points an eager evaluation has.
LENGTHS = (24, 84, 432)

# How many of the points are ordinary ones, as their kinds are drawn: the first.
ORDINARY = 24

Point = tuple[Any, ...]
# Of a loss, points, options, what is differentiated (None for the value) and the shape of the
# result at a point: the exact numbers, and what an error of each is measured against.
Truths = Callable[[Any, list[Point], Options, Any, tuple[int, ...]], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Error:
    """An error in units of float32's eps, and where it stands."""

    units: float
    what: str
    point: Point
    options: Options
    got: float
    exact: float

    def told(self, subject: Subject, leeway: float) -> str:
        """The error in words."""
        what = "the loss"
        if self.what != "value":
            name = self.what.removeprefix("d/d")
            what = f"the slope in {subject.names[int(name)] if name.isdigit() else name}"
        return (
            f"{what} is {shown(self.got)}, and should be {shown(self.exact)}, "
            f"{self.units:.3g} eps away ({leeway * limit(subject, self):g} are allowed), at "
            f"{given(subject, self.point, **self.options)}"
        )


def points(subject: Subject, seed: int = 0) -> list[Point]:
    """Ordinary points, close ones, combinations of the ends of the domain, single infinities."""
    if subject.points:
        return [tuple(x) for x in subject.points(seed)]
    if subject.mixed or subject.together:
        return drawn_points(subject, seed)
    rng = np.random.default_rng(seed)
    if subject.axis:
        drawn = subject.draw(seed, (ORDINARY, 4))
        # Vectors whose entries are ends of the domain; labels as drawn.
        ends = [
            x if not len(kind.edges) else rng.choice(kind.edges, x.shape).astype(np.float32)
            for x, kind in zip(subject.draw(seed + 1, (60, 4)), subject.data, strict=True)
        ]
        return [*zip(*drawn, strict=True), *zip(*ends, strict=True)]
    ordinary = [
        tuple(map(float, row)) for row in zip(*subject.draw(seed, (ORDINARY,)), strict=True)
    ]
    alike = ordinary[:8] if len(subject.data) > 1 and subject.data[0] is subject.data[1] else []
    close = [(row[0], row[0] + 1e-3 * abs(row[0]) + 1e-4, *row[2:]) for row in alike]
    ends = list(itertools.product(*(kind.edges for kind in subject.data)))
    if len(ends) > subject.edges:
        ends = [ends[i] for i in sorted(rng.choice(len(ends), subject.edges, replace=False))]
    infinite = [
        (*row[:i], end, *row[i + 1 :])
        for i, kind in enumerate(subject.data)
        for end in kind.infinite
        for row in ordinary[:2]
    ]
    rows = ordinary + close + ends + infinite
    return [tuple(map(float, row)) for row in np.asarray(rows, np.float32)]


def drawn_points(subject: Subject, seed: int) -> list[Point]:
    """Of a loss whose arguments are drawn together, or that is of all its rows."""
    if subject.mixed:
        return [tuple(subject.draw(seed + i)) for i in range(6)]
    sets = [subject.draw(seed + i) for i in range(8 if subject.axis else 18)]
    columns = [np.concatenate(column) for column in zip(*sets, strict=True)]
    if subject.axis:
        return list(zip(*columns, strict=True))
    return [tuple(map(float, row)) for row in zip(*map(np.ravel, columns), strict=True)]


def limit(subject: Subject, error: Error) -> float:
    """What the contract allows, in units of eps."""
    return HYPER_LIMIT if in_hyper(error) else LIMIT * (2 if subject.axis or subject.mixed else 1)


def in_hyper(error: Error) -> bool:
    """Whether it is of a derivative in a hyperparameter."""
    return error.what.removeprefix("d/d") in error.options


def settings(subject: Subject) -> list[Options]:
    """The options as float32 holds them: their own rounding is no error of the loss."""
    return [
        {k: float(np.float32(v)) if is_knob(v) else v for k, v in given.items()}
        for given in (subject.options, *subject.variants)
    ]


def errors(
    subject: Subject,
    truths: Truths,
    rows: list[Point] | None = None,
    *,
    compiled: bool = True,
    jit: Callable[..., Any] = jax.jit,
    largest: Callable[..., float] | None = None,
    choose: Callable[..., Error] | None = None,
) -> list[Error]:
    """The worst error of the value and of each slope, for each set of hyperparameters.

    Eagerly, where it takes long, for one of those that differ only in numbers that choose no
    branch of the program.

    Args:
        subject: The loss.
        truths: Says what is exact.
        rows: The points, if not those of `points`.
        compiled: Whether the loss is compiled. What is not has a body `__wrapped__`.
        jit: Compiles.
        largest: Of a point, options, what is differentiated, a component and the largest term
            that `truths` told, another one.
        choose: Of all errors of a result the one to tell, the largest if None.
    """
    rows = points(subject) if rows is None else rows
    count = len(rows)
    if not compiled:
        # To one of few lengths, so that losses share the programs of single operations.
        rows = [rows[i % count] for i in range(min([n for n in LENGTHS if n >= count] or [count]))]
    columns = columns_of(subject, rows)
    run = _evaluation(subject, compiled, jit)
    found, seen = [], set()
    for options in settings(subject):
        fixed = {k: v for k, v in options.items() if not is_knob(v)}
        chosen = {k: options[k] for k in subject.branches if k in options}
        setting = repr((fixed, chosen, sorted(options)))
        if not compiled and setting in seen:
            continue
        seen.add(setting)
        knobs = {
            k: jnp.full((len(rows),), v, jnp.float32) for k, v in options.items() if k not in fixed
        }
        results = run(columns, knobs, fixed)
        losses, slopes, knob_slopes = jax.tree.map(lambda x: np.asarray(x)[:count], results)
        judged = functools.partial(differences, subject, truths, largest, rows[:count], options)
        every = [("value", losses, None)]
        every += [(f"d/d{i}", x, i) for i, x in zip(subject.floating, slopes, strict=True)]
        every += [
            (f"d/d{name}", x, name)
            for name, x in knob_slopes.items()
            if name not in subject.not_differentiated
        ]
        found += [(choose or worst)(judged(*each), each[0], options) for each in every]
    return found


def columns_of(subject: Subject, rows: list[Point]) -> list[jax.Array]:
    """One array for each argument."""
    columns = [jnp.asarray(np.stack(column)) for column in zip(*rows, strict=True)]
    return [
        x if kind.index else x.astype(jnp.float32)
        for x, kind in zip(columns, subject.data, strict=True)
    ]


def _evaluation(subject: Subject, compiled: bool, jit: Callable[..., Any]) -> Callable[..., Any]:
    """Losses, and the derivatives of each in the data and in its hyperparameters."""
    loss = subject.loss if compiled else vars(subject.loss)["__wrapped__"]
    # One number for all vectors, or one for each element.
    one_for_all = subject.axis or subject.mixed

    def run(fixed: Options, columns: Any, knobs: Any) -> Any:
        def total(trained: Any, knobs: Any) -> Any:
            data = filled(columns, subject.floating, trained)
            if subject.mixed:
                losses = jax.vmap(lambda *data: loss(*data, **knobs, **fixed))(*data)
            else:
                losses = loss(*data, **knobs, **fixed)
            return jnp.sum(losses), losses

        def mapped(knobs: Any) -> Any:
            each = jax.vmap(lambda columns, knobs: loss(*columns, **knobs, **fixed))
            return jnp.sum(each(columns, knobs))

        shared = {k: v[0] for k, v in knobs.items()} if one_for_all else knobs
        trained = [columns[i] for i in subject.floating]
        slopes = jax.grad(total, (0, 1), has_aux=True)
        (slopes, knob_slopes), losses = slopes(trained, shared)
        if one_for_all and knobs:
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
        program = programs.setdefault(repr(fixed), jit(functools.partial(run, fixed)))
        return program(columns, knobs)

    return compile_once


def differences(
    subject: Subject,
    truths: Truths,
    largest: Callable[..., float] | None,
    rows: list[Point],
    options: Options,
    what: str,
    got: Any,
    wrt: Any,
) -> list[Error]:
    """All errors of numbers at these points; for the arguments see `errors`."""
    got, found = np.asarray(got, float), []
    numbers = {k: v for k, v in options.items() if k not in subject.layout}
    read = [tuple(map(flushed, row)) for row in rows]
    exact, terms = truths(subject, read, numbers, wrt, got.shape[1:])
    for i, row in enumerate(rows):
        if wrt is not None and subject.kink(*read[i], **numbers):
            continue
        for component in np.ndindex(got.shape[1:]):
            place = i, *component
            term = float(terms[place])
            if term == NO_TRUTH:
                continue
            if largest:
                term = largest(read[i], numbers, wrt, component, term)
            pair = float(got[place]), float(exact[place])
            units = units_of(*pair, term)
            if units > 0:
                found.append(Error(units, what, row, options, *pair))
    return found


def worst(found: list[Error], what: str, options: Options) -> Error:
    """The largest error, which is 0 if there is none."""
    return max(
        found, key=lambda error: error.units, default=Error(0.0, what, (), options, 0.0, 0.0)
    )


def simplest(
    subject: Subject, leeway: float, found: list[Error], what: str, options: Options
) -> Error:
    """Of the errors beyond the limit that of the most ordinary numbers; else the largest."""
    far = [error for error in found if error.units > leeway * limit(subject, error)]
    if not far:
        return worst(found, what, options)
    return min(far, key=lambda error: strangeness(error.point))


def strangeness(row: Point) -> float:
    """How many powers of ten the numbers of a point are away from 1; of 0, two."""
    sizes = np.abs(np.concatenate([np.ravel(x) for x in row]).astype(float))
    return float(np.max(np.abs(np.log10(np.where(sizes == 0, 0.01, sizes)))))


def flushed(x: Any) -> Any:
    """Numbers as XLA reads them."""
    return np.where(np.abs(x) < TINY, 0, x) if np.ndim(x) else x * 0 if abs(x) < TINY else x


def units_of(got: float, exact: float, largest: float) -> float:
    """An error in eps of the largest term; infinite where it is not one of rounding."""
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
