"""Errors of second derivatives against exact ones, over the whole domain of a loss.

Hessian-vector products are asked for in three modes, in data and hyperparameters, at some of the
points of the accuracy law and at excluded entries.
"""

from __future__ import annotations

import functools
import inspect
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tests.laws import rows as rows_of
from tests.laws.accuracy import (
    EPS,
    FLUSHED,
    LARGEST,
    TINY,
    Ask,
    Error,
    Point,
    flushed,
    is_knob,
    points,
    settings,
)
from tests.laws.accuracy import asks as first_asks
from tests.laws.case import Case, Options
from tests.laws.hessian import Hessian
from tests.laws.truths import NO_TRUTH, truths

# Eps of float32, of the largest entry of the Hessian.
LIMIT = 64
MODES = ("forward over reverse", "reverse over reverse", "forward over forward")

# What excluded examples hold.
GARBAGE = (np.nan, np.inf, -100.0)

# An exact Hessian of n numbers takes n^2 evaluations in mpmath: of vectors fewer points are asked,
# and of many numbers only some of the columns.
_EVALUATIONS = 1200
_FEWEST, _MOST = 3, 32
_WHOLE, _COLUMNS = 10, 4


def chosen(case: Case) -> list[Point]:
    """Some of the points of the accuracy law, and exact predictions."""
    rows = points(case)
    size = 1 + sum(np.size(rows[0][i]) for i in case.floating)
    count = int(np.clip(_EVALUATIONS // size**2, _FEWEST, _MOST))
    some = [rows[i] for i in np.unique(np.linspace(0, len(rows) - 1, count).astype(int))]
    return [tuple(map(flushed, row)) for row in (*some, *_exact(case))]


def _exact(case: Case) -> list[Point]:
    """Predictions that equal their targets, and zeros."""
    if len(case.data) < 2 or case.data[0] is not case.data[1] or case.batch:
        return []
    rows = points(case)
    finite = [row for row in rows if _finite(row)]
    found = [(row[1], row[1], *row[2:]) for row in (finite[0], finite[-1])]
    return [*found, (rows[1][0] * 0, rows[1][1] * 0, *rows[1][2:])]


def _finite(row: Point) -> bool:
    return all(np.all(np.isfinite(x)) for x in row)


def _ordinary(row: Point) -> bool:
    sizes = np.abs(np.concatenate([np.ravel(x) for x in row]))
    return bool(np.all((sizes == 0) | ((sizes > 1e-3) & (sizes < 1e3))))


def places_of(case: Case, row: Point, options: Options) -> Hessian:
    """What to differentiate in."""
    data: list[Any] = []
    for i in case.floating:
        if case.names[i] not in case.not_differentiated:
            places = list(np.ndindex(np.shape(row[i])))
            data += [(i, place) if place else i for place in places]
    knobs = [k for k, v in options.items() if is_knob(v) and k not in case.not_differentiated]
    columns = list(range(len(data)))
    if len(data) + len(knobs) > _WHOLE:
        rng = np.random.default_rng(0)
        columns = sorted(rng.choice(len(data), _COLUMNS, replace=False).tolist())
    columns += range(len(data), len(data) + len(knobs))
    return Hessian((*data, *knobs), tuple(columns))


def _program(options: Options) -> str:
    """What a program depends on."""
    return repr([(k, None if is_knob(v) else v) for k, v in options.items()])


def tried(case: Case) -> list[Options]:
    """The hyperparameters: of a loss over an axis those of its first and of its last program.

    The last variants of a row have the most options, and a program of three modes takes seconds.
    """
    every = settings(case)
    programs = list(map(_program, every))
    kept = {programs[0], programs[-1]} if case.axis else set(programs)
    return [given for given, program in zip(every, programs, strict=True) if program in kept]


def asks(case: Case) -> list[Ask]:
    rows = chosen(case)
    found = []
    for options in tried(case):
        numbers = {k: v for k, v in options.items() if k not in case.layout}
        wrt = places_of(case, rows[0], numbers)
        found.append(Ask(case, rows, numbers, wrt, (len(wrt.columns), len(wrt.places))))
    return found


def all_asks(family: str) -> list[Ask]:
    """What the accuracy law and that of second order ask of the oracles of a family."""
    rows = rows_of.ROWS_OF[family]
    return [ask for each in (first_asks, asks) for case in rows for ask in each(case)]


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _products(
    loss: Any,
    fixed: tuple[Any, ...],
    wrt: Hessian,
    modes: tuple[str, ...],
    columns: Any,
    knobs: Any,
    keep: Any,
) -> Any:
    """For each row the loss, its gradients, and columns of its Hessian, in these modes.

    Each derivative is traced once: reverse over reverse is the transpose of forward over reverse,
    as `jax.vjp` itself makes it.
    """
    names = [x for x in wrt.places if isinstance(x, str)]
    moved = {x[0] if isinstance(x, tuple) else x for x in wrt.places if not isinstance(x, str)}

    def of(row: Any, knobs: Any, keep: Any) -> Any:
        numbers = [*(row[i] for i in sorted(moved)), *(knobs[name] for name in names)]
        cuts = np.cumsum([x.size for x in numbers])[:-1]

        def value(at: Any) -> Any:
            parts = zip(jnp.split(at, cuts), numbers, strict=True)
            parts = [part.reshape(like.shape) for part, like in parts]
            filled = dict(enumerate(row)) | dict(zip(sorted(moved), parts, strict=False))
            given = knobs | dict(zip(names, parts[len(moved) :], strict=True))
            return jnp.sum(loss(*filled.values(), **given, **dict(fixed), **keep))

        at = jnp.concatenate([jnp.ravel(x) for x in numbers])
        unit = jnp.eye(at.size, dtype=at.dtype)[np.array(wrt.columns)]
        (loss_at, slope), pushed = jax.linearize(jax.value_and_grad(value), at)
        pulled = jax.linear_transpose(lambda v: pushed(v)[1], at)
        slopes, products = [slope], [lambda v: pushed(v)[1], lambda v: pulled(v)[0]]
        if len(modes) > len(products):
            forward, twice = jax.linearize(jax.jacfwd(value), at)
            slopes.append(forward)
            products.append(twice)
        return loss_at, slopes, [jax.vmap(product)(unit) for product in products]

    return jax.vmap(of)(columns, knobs, keep)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _in_predictions(
    loss: Any, fixed: tuple[Any, ...], moved: tuple[int, ...], columns: Any, knobs: Any, keep: Any
) -> Any:
    """For each row columns of the Hessian in the first argument, forward over forward."""

    def of(row: Any, knobs: Any, keep: Any) -> Any:
        def value(at: Any) -> Any:
            first = at.reshape(row[0].shape)
            return jnp.sum(loss(first, *row[1:], **knobs, **dict(fixed), **keep))

        at = jnp.ravel(row[0])
        _, twice = jax.linearize(jax.jacfwd(value), at)
        return jax.vmap(twice)(jnp.eye(at.size, dtype=at.dtype)[np.array(moved)])

    return jax.vmap(of)(columns, knobs, keep)


def errors(case: Case) -> list[Error]:
    """The worst error of each mode, for each set of hyperparameters; of excluded rows too."""
    found = []
    masked = "where" in inspect.signature(case.loss).parameters
    for ask, options in zip(asks(case), tried(case), strict=True):
        count = len(ask.rows)
        dirty = [
            tuple(
                np.full_like(x, -100 if kind.index else garbage)
                for x, kind in zip(ask.rows[0], case.data, strict=True)
            )
            for garbage in (GARBAGE if masked else ())
        ]
        columns = [
            np.stack(column).astype(np.int32 if kind.index else np.float32)
            for column, kind in zip(zip(*ask.rows, *dirty, strict=True), case.data, strict=True)
        ]
        knobs = {
            name: np.array([value] * count + list(GARBAGE)[: len(dirty)], np.float32)
            for name, value in options.items()
            if is_knob(value)
        }
        fixed = tuple((name, value) for name, value in options.items() if name not in knobs)
        keep = {"where": np.arange(count + len(dirty)) < count} if masked else {}
        # A program of three modes takes JAX half a second to trace: of a row one has the third.
        first = _program(options) == _program(case.options)
        names = MODES if first else MODES[:2]
        results = _products(case.loss, fixed, ask.wrt, names, columns, knobs, keep)
        losses, slopes, modes = jax.tree.map(lambda x: np.asarray(x, float), results)
        data = np.array([not isinstance(x, str) for x in ask.wrt.places])
        # In forward mode a tangent of 0 times the slope in a hyperparameter that has none is NaN.
        finite = np.isfinite(losses) & np.isfinite(slopes[0][:, ~data]).all(1)
        found += _disagreements(ask, finite, [x[:, data] for x in slopes], "first order")
        of_data = [x[:, [data[i] for i in ask.wrt.columns]][:, :, data] for x in modes]
        found += _disagreements(ask, finite, of_data, "second order")
        # A loss that is out of float32's range has no derivatives in it.
        known = ~(np.isinf(losses[:count]) & [_finite(row) for row in ask.rows])
        # The tangent of a tangent multiplies with zeros, also what is infinite: forward over
        # forward cannot tell an entry whose neighbours, or the gradient, are not finite.
        tame = np.isfinite(modes[0]).all((1, 2)) & np.isfinite(slopes[0]).all(1)
        for what, products in zip(names, modes, strict=True):
            asked = known & tame[:count] if what == MODES[-1] else known
            found.append(_worst(ask, what, asked, products[:count]))
            left = products[count:]
            if np.any(left != 0):
                most = float(np.max(np.abs(left)))
                found.append(Error(np.inf, what, dirty[0], options, most, 0.0))
        if first:
            # In predictions alone it can, if these have finite ones.
            places = [place[0] if isinstance(place, tuple) else place for place in ask.wrt.places]
            inside = np.array([place == 0 for place in places])
            moved = [i for i in ask.wrt.columns if inside[i]]
            block = np.ix_(np.arange(count), inside[list(ask.wrt.columns)], inside)
            whole = np.isfinite(modes[0][block]).all((1, 2))
            whole &= np.isfinite(slopes[0][:count, inside]).all(1) & known & ~tame[:count]
            if moved and np.any(whole):
                twice = _in_predictions(case.loss, fixed, tuple(moved), columns, knobs, keep)
                products = modes[0][:count].copy()
                products[block] = np.asarray(twice, float)[:count]
                found.append(_worst(ask, MODES[-1], whole, products))
    return found


def _disagreements(ask: Ask, finite: np.ndarray, modes: list[np.ndarray], what: str) -> list[Error]:
    """Where modes differ, or are not finite, at an ordinary point and at exact predictions.

    These may be kinks, of which there is no exact derivative to compare with. Of derivatives in the
    data: at a kink the Hessian in data and hyperparameters need not be symmetric, and a
    hyperparameter may be where it has no derivative, as Tweedie's power is at 0, 1 and 2.
    """
    found = []
    exact = len(_exact(ask.case))
    for r, row in enumerate(ask.rows):
        if 0 < r < len(ask.rows) - exact or not finite[r] or not _ordinary(row):
            continue
        first, *others = (mode[r] for mode in modes)
        scale = EPS * max(1.0, float(np.abs(first).max()))
        for other in others:
            units = float(np.abs(other - first).max()) / scale
            if not units <= LIMIT:
                found.append(Error(np.inf, what, row, ask.options, units, 0.0))
    return found


def _worst(ask: Ask, what: str, asked: np.ndarray, got: np.ndarray) -> Error:
    worst = Error(0.0, what, (), ask.options, 0.0, 0.0)
    for r, (row, exact, terms) in enumerate(zip(ask.rows, *truths(*ask), strict=True)):
        if not asked[r] or ask.case.kink(*row, **ask.options):
            continue
        if ask.case.no_hessian(*row, **ask.options):
            continue
        sizes = np.where(terms == NO_TRUTH, 0, np.abs(exact))
        compared = (terms != NO_TRUTH) & (sizes <= LARGEST)
        against = np.clip(np.maximum(_largest(ask.wrt, sizes), terms), TINY, LARGEST)
        far = np.maximum(0, np.abs(got[r] - exact) - FLUSHED) / (EPS * against)
        units = np.where(compared, np.where(np.isnan(far), np.inf, far), 0)
        at = np.unravel_index(np.argmax(units), units.shape)
        if units[at] > worst.units:
            places = ask.wrt.places[ask.wrt.columns[at[0]]], ask.wrt.places[at[1]]
            where = f"{what} in {places[0]} and {places[1]}"
            numbers = (float(x[at]) for x in (units, got[r], exact))
            worst = Error(next(numbers), where, row, ask.options, *numbers)
    return worst


def _largest(wrt: Hessian, sizes: np.ndarray) -> np.ndarray:
    """What the error of each entry is measured against: the largest of its two arguments.

    Of data, it is the largest in these arguments only: the Hessian in logits is not hidden behind
    that in labels. Of a hyperparameter it is the largest of all entries of either.
    """
    columns = np.array([x[0] if isinstance(x, tuple) else x for x in wrt.places], object)
    rows = columns[list(wrt.columns)]
    found = np.zeros_like(sizes)
    for a in dict.fromkeys(columns):
        for b in dict.fromkeys(columns):
            in_rows, in_columns = ((x == a) | (x == b) for x in (rows, columns))
            inside = np.outer(in_rows, in_columns)
            if isinstance(a, str) or isinstance(b, str):
                inside = in_rows[:, None] | in_columns
            found[np.outer(rows == a, columns == b)] = sizes[inside].max(initial=0)
    return found
