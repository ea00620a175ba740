"""Errors of second derivatives against exact ones, over the whole domain of a loss.

Hessian-vector products are asked for in three modes, in data and hyperparameters, at some of the
points of the accuracy law and at excluded entries.
"""

from __future__ import annotations

import functools
import inspect
from typing import Any, NamedTuple

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


class _Stack(NamedTuple):
    """Copies of the rows of a question, each with one or two directions to differentiate in.

    Attributes:
        at: The arrays to differentiate in, of all copies: data, then hyperparameters.
        data: All data.
        knobs: Hyperparameters.
        keep: Which copies count; None of what has no mask.
        first: Directions, of the shapes of `at`.
        second: Directions to differentiate in again.
    """

    at: list[Any]
    data: list[Any]
    knobs: dict[str, Any]
    keep: Any
    first: list[Any]
    second: list[Any]


def _moved(wrt: Hessian) -> tuple[list[int], list[str]]:
    """The positions of the data and the names of the hyperparameters to differentiate in."""
    data = {x[0] if isinstance(x, tuple) else x for x in wrt.places if not isinstance(x, str)}
    return sorted(data), [x for x in wrt.places if isinstance(x, str)]


def _stacked(wrt: Hessian, columns: list[Any], knobs: dict[str, Any], keep: Any) -> _Stack:
    """One array for all pairs of directions and all rows, which a loss takes without `vmap`.

    Of derivatives of derivatives under two of them JAX traced three times as much.
    """
    moved, names = _moved(wrt)
    pairs = [(i, j) for i in wrt.columns for j in range(len(wrt.places))]

    def laid(x: Any) -> Any:
        return np.tile(x, (len(pairs), *[1] * (np.ndim(x) - 1)))

    data = [laid(x) for x in columns]
    # Of the rank of the loss: of batches, one for each example.
    fields = {name: laid(x) if np.ndim(x) else x for name, x in knobs.items()}
    at = [data[i] for i in moved] + [fields[name] for name in names]

    def directions(places: list[int]) -> list[Any]:
        found = [np.zeros_like(x) for x in at]
        for copy, i in enumerate(np.repeat(places, len(columns[0]))):
            place = wrt.places[i]
            if isinstance(place, str):
                found[len(moved) + names.index(place)][copy] = 1
            else:
                index, component = place if isinstance(place, tuple) else (place, ())
                found[moved.index(index)][(copy, *component)] = 1
        return found

    first, second = (directions(list(x)) for x in zip(*pairs, strict=True))
    return _Stack(at, data, fields, None if keep is None else laid(keep), first, second)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _products(
    loss: Any, fixed: tuple[Any, ...], wrt: Hessian, modes: tuple[str, ...], stack: _Stack
) -> Any:
    """For each copy of a row the loss, its gradients, and products of its Hessian, in these modes.

    Reverse over reverse is the transpose of forward over reverse, as `jax.vjp` itself makes it.
    Forward over reverse is a `jax.jvp`: of a derivative of a derivative `jax.linearize` traces
    several times as much.
    """
    moved, names = _moved(wrt)

    def losses(at: Any) -> Any:
        filled = dict(enumerate(stack.data)) | dict(zip(moved, at, strict=False))
        given = stack.knobs | dict(zip(names, at[len(moved) :], strict=True))
        masked = {} if stack.keep is None else {"where": stack.keep}
        found = loss(*filled.values(), **given, **dict(fixed), **masked)
        return jnp.sum(found, tuple(range(1, found.ndim)))

    def slopes(at: Any) -> Any:
        return jax.grad(lambda at: jnp.sum(losses(at)))(at)

    @jax.jit
    def pushed(at: Any, direction: Any) -> Any:
        """Traced once for both modes."""
        return jax.jvp(slopes, (at,), (direction,))

    def along(at: Any) -> Any:
        return jax.jvp(losses, (at,), (stack.second,))

    if modes == MODES[-1:]:
        (value, slope), (_, twice) = jax.jvp(along, (stack.at,), (stack.first,))
        return value, [slope], [twice]
    pulled = jax.linear_transpose(lambda direction: pushed(stack.at, direction)[1], stack.at)
    reverse = pulled(stack.first)[0]
    gradient, forward = pushed(stack.at, stack.first)
    products: list[Any] = [forward, reverse]
    if len(modes) == len(products):
        return losses(stack.at), [gradient], products
    (value, slope), (_, twice) = jax.jvp(along, (stack.at,), (stack.first,))
    return value, [gradient, slope], [*products, twice]


@functools.cache
def _by_rows(loss: Any) -> Any:
    """A loss whose hyperparameters, or mask, are one for all its rows, with one for each."""

    def mapped(*data: Any, **options: Any) -> Any:
        each = {name: x for name, x in options.items() if np.ndim(x)}
        fixed = {name: x for name, x in options.items() if name not in each}
        return jax.vmap(lambda data, each: loss(*data, **each, **fixed))(data, each)

    return mapped


def _evaluated(
    case: Case, ask: Ask, modes: tuple[str, ...], columns: Any, options: Options, keep: Any
) -> tuple[np.ndarray, list[np.ndarray], list[np.ndarray]]:
    """Of each row the loss, its gradients `[places]` and its Hessians `[columns, places]`."""
    wrt, rows = ask.wrt, len(keep)
    # Of batches, one for each example.
    shape = (rows, *columns[0].shape[1:-1]) if case.batch else (rows,)
    knobs, garbage = {}, np.array(GARBAGE, np.float32)
    for name, value in options.items():
        if is_knob(value):
            field = np.full(shape, value, np.float32)
            field[~keep] = garbage[: np.sum(~keep)].reshape(-1, *[1] * (len(shape) - 1))
            # What is held constant may be one number for all.
            knobs[name] = field if name in wrt.places else np.float32(value)
    fixed = tuple((name, value) for name, value in options.items() if name not in knobs)
    mask = np.broadcast_to(keep.reshape(-1, *[1] * (len(shape) - 1)), shape)
    mask = mask if _masked(case) else None
    stack = _stacked(wrt, columns, knobs, mask)
    try:
        results = _products(case.loss, fixed, wrt, modes, stack)
    except ValueError as error:
        if not any(x in str(error) for x in ("must be one number", "where must be a scalar")):
            raise
        results = _products(_by_rows(case.loss), fixed, wrt, modes, stack)
    losses, slopes, products = jax.tree.map(lambda x: np.asarray(x, float), results)
    moved, names = _moved(wrt)
    copies = len(wrt.columns), len(wrt.places), rows

    def by_place(arrays: list[Any]) -> np.ndarray:
        """The entries `[rows, columns, places]` of those copies that stand for a column."""
        found = []
        for place in wrt.places:
            index = place[0] if isinstance(place, tuple) else place
            component = place[1] if isinstance(place, tuple) else ()
            i = len(moved) + names.index(place) if isinstance(place, str) else moved.index(index)
            x = arrays[i].reshape(*copies, *arrays[i].shape[1:])[:, 0]
            if isinstance(place, str):
                found.append(x.reshape(*x.shape[:2], -1).sum(-1))
            else:
                found.append(x[(slice(None), slice(None), *component)])
        return np.moveaxis(np.array(found), 0, -1).swapaxes(0, 1)

    def by_copy(x: np.ndarray) -> np.ndarray:
        return np.moveaxis(x.reshape(copies), -1, 0)

    def of_rows(found: Any) -> np.ndarray:
        return by_place(found) if isinstance(found, list) else by_copy(found)

    return losses[:rows], [of_rows(x)[:, 0] for x in slopes], [of_rows(x) for x in products]


def _masked(case: Case) -> bool:
    return "where" in inspect.signature(case.loss).parameters


def errors(case: Case) -> list[Error]:
    """The worst error of each mode, for each set of hyperparameters; of excluded rows too."""
    found = []
    for ask, options in zip(asks(case), tried(case), strict=True):
        count = len(ask.rows)
        dirty = [
            tuple(
                np.full_like(x, -100 if kind.index else garbage)
                for x, kind in zip(ask.rows[0], case.data, strict=True)
            )
            for garbage in (GARBAGE if _masked(case) else ())
        ]
        keep = np.arange(count + len(dirty)) < count
        # A program of three modes takes longer to trace: of a row one has the third.
        first = _program(options) == _program(case.options)
        names = MODES if first else MODES[:2]
        # Where one number is extreme a loss may take another formula for all: once more without.
        tame = [_finite(row) and _ordinary(row) for row in ask.rows]
        tried_rows = [ask.rows]
        if any(tame) and not all(tame):
            plain = ask.rows[tame.index(True)]
            tried_rows.append([r if t else plain for r, t in zip(ask.rows, tame, strict=True)])
        for rows in tried_rows:
            columns = [
                np.stack(column).astype(np.int32 if kind.index else np.float32)
                for column, kind in zip(zip(*rows, *dirty, strict=True), case.data, strict=True)
            ]
            results = _evaluated(case, ask, names, columns, options, keep)
            asked = np.ones(count, bool) if rows is ask.rows else np.array(tame)
            found += _judged(ask, names, results, asked, dirty)
            if first and rows is ask.rows:
                given = columns, options, keep
                found += _in_predictions(case, ask, results, given)
    return found


def _known(ask: Ask, losses: np.ndarray) -> np.ndarray:
    """A loss that is out of float32's range has no derivatives in it."""
    return ~(np.isinf(losses[: len(ask.rows)]) & [_finite(row) for row in ask.rows])


def _in_predictions(case: Case, ask: Ask, results: Any, given: Any) -> list[Error]:
    """Forward over forward in predictions alone, at rows where it can be told of these alone."""
    (losses, slopes, modes), count = results, len(ask.rows)
    inside = np.array([(x[0] if isinstance(x, tuple) else x) == 0 for x in ask.wrt.places])
    numbers = [i for i, x in enumerate(inside) if x]
    columns = [i for i in ask.wrt.columns if inside[i]]
    if not columns:
        return []
    block = np.ix_(np.arange(count), inside[list(ask.wrt.columns)], inside)
    whole = np.isfinite(modes[0][block]).all((1, 2)) & _known(ask, losses)
    whole &= np.isfinite(slopes[0][:count, inside]).all(1)
    whole &= ~(np.isfinite(modes[0]).all((1, 2)) & np.isfinite(slopes[0]).all(1))[:count]
    if not np.any(whole):
        return []
    places = tuple(ask.wrt.places[i] for i in numbers)
    wrt = ask.wrt._replace(places=places, columns=tuple(numbers.index(i) for i in columns))
    _, _, (twice,) = _evaluated(case, ask._replace(wrt=wrt), MODES[-1:], *given)
    products = modes[0][:count].copy()
    products[block] = twice[:count]
    return [_worst(ask, MODES[-1], whole, products)]


def _judged(
    ask: Ask, names: tuple[str, ...], results: Any, rows: np.ndarray, dirty: list[Point]
) -> list[Error]:
    """The worst error of each mode, and each disagreement between modes, at some of the rows."""
    (losses, slopes, modes), count, found = results, len(ask.rows), []
    data = np.array([not isinstance(x, str) for x in ask.wrt.places])
    # In forward mode a tangent of 0 times the slope in a hyperparameter that has none is NaN.
    finite = np.isfinite(losses) & np.isfinite(slopes[0][:, ~data]).all(1)
    finite[:count] &= rows
    found += _disagreements(ask, finite, [x[:, data] for x in slopes], "first order")
    of_data = [x[:, [data[i] for i in ask.wrt.columns]][:, :, data] for x in modes]
    found += _disagreements(ask, finite, of_data, "second order")
    known = rows & _known(ask, losses)
    # The tangent of a tangent multiplies with zeros, also what is infinite: forward over
    # forward cannot tell an entry whose neighbours, or the gradient, are not finite.
    tame = np.isfinite(modes[0]).all((1, 2)) & np.isfinite(slopes[0]).all(1)
    for what, products in zip(names, modes, strict=True):
        asked = known & tame[:count] if what == MODES[-1] else known
        found.append(_worst(ask, what, asked, products[:count]))
        left = products[count:]
        if np.any(left != 0):
            most = float(np.max(np.abs(left)))
            found.append(Error(np.inf, what, dirty[0], ask.options, most, 0.0))
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
