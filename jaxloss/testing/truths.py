"""What is exact: a loss itself in float64, or a formula of its user's.

An oracle is the written formula of a loss. It takes the numbers of one element, as mpmath's `mpf`
(lists of them for vectors, an int for the number of a class), and hyperparameters by keyword, and
returns the loss, or the terms whose sum it is. One that cannot, such as a function of NumPy or
SciPy, takes float64 arrays of all elements at once instead.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .accuracy import NO_TRUTH, Point, Truths
from .subject import EPS, LIMIT, Options, Subject, filled, is_knob

Exact = tuple[np.ndarray, np.ndarray]

# By how many eps of float32 each number is moved, to see what its rounding may do.
MOVED = LIMIT / 2


def in_float64() -> Truths:
    """The loss and its slopes themselves in float64, at the same numbers.

    An error is measured against the result or, where that is more, against what the result moves
    if one of the numbers that the loss reads is moved by `MOVED` eps, or each of those of a whole
    batch, whose roundings add up as a random walk does. So a sum of large terms of either sign is
    not asked for more digits than its data have; at a kink any slope will do.
    """
    known: dict[Any, Any] = {}

    def truths(
        subject: Subject, rows: list[Point], options: Options, wrt: Any, shape: Any
    ) -> Exact:
        key = repr(sorted(options.items(), key=str)), len(rows)
        if key not in known:
            known[key] = _measured(subject, rows, options)
        values, slopes, in_knobs = known[key]
        found = values if wrt is None else in_knobs[wrt] if isinstance(wrt, str) else slopes[wrt]
        exact, *moved = found
        with np.errstate(all="ignore"):
            changes = [np.nan_to_num(np.abs(x - exact)) for x in moved]
            # Down and up, hence half of the squares.
            both = np.sqrt(np.sum(np.square(changes), 0) / 2) if subject.mixed else 0.0
            change = np.fmax(np.max(changes, 0), both)
            sizes = np.fmax(np.abs(exact), change / (MOVED * EPS))
        return exact, np.where(np.isnan(exact), NO_TRUTH, sizes)

    return truths


def _measured(subject: Subject, rows: list[Point], options: Options) -> Any:
    """Values, slopes by position and slopes by option: exact ones, and those at moved numbers."""
    knobs = {k: v for k, v in options.items() if is_knob(v)}
    fixed = {k: v for k, v in options.items() if k not in knobs}
    for name, value in subject.defaults.items():
        if is_knob(value) and name not in options:
            fixed[name] = float(np.float32(value))
    with jax.enable_x64(True):
        columns = [
            jnp.asarray(np.stack(column), jnp.int32 if kind.index else jnp.float64)
            for column, kind in zip(zip(*rows, strict=True), subject.data, strict=True)
        ]

        def losses(trained: Any, knobs: Any, data: Any) -> Any:
            data = filled(data, subject.floating, trained)
            if not subject.mixed:
                # A batch of one.
                data = [x[None] for x in data]
            found = subject.loss(*data, **knobs, **fixed)
            found = found if subject.mixed else found[0]
            return jnp.sum(found), found

        @jax.jit
        @jax.vmap
        def at(trained: Any, knobs: Any, data: Any) -> Any:
            (_, found), slopes = jax.value_and_grad(losses, (0, 1), has_aux=True)(
                trained, knobs, data
            )
            return found, *slopes

        trained = [columns[i] for i in subject.floating]
        fields = {k: jnp.full(len(rows), v, jnp.float64) for k, v in knobs.items()}
        tries = [(trained, fields), *_moves(trained, fields)]
        results = [jax.tree.map(np.asarray, at(*each, columns)) for each in tries]
    values = [value for value, *_ in results]
    slopes = {i: [slope[n] for _, slope, _ in results] for n, i in enumerate(subject.floating)}
    return values, slopes, {k: [slope[k] for *_, slope in results] for k in knobs}


def _moves(trained: list[jax.Array], fields: dict[str, jax.Array]) -> list[Any]:
    """The numbers with one in each row moved, down and up."""
    found = []
    for sign in (1 - MOVED * EPS, 1 + MOVED * EPS):
        for n, column in enumerate(trained):
            for place in np.ndindex(column.shape[1:]):
                moved = column.at[(slice(None), *place)].multiply(sign)
                found.append(([*trained[:n], moved, *trained[n + 1 :]], fields))
        found += [(trained, {**fields, k: x * sign}) for k, x in fields.items()]
    return found


def of_oracle(oracle: Callable[..., Any]) -> Truths:
    """Those of a formula: see above.

    An error is measured against the result or the largest term. Slopes are difference quotients
    with hundreds of digits; of a formula in float64 there are none, and those of the loss itself
    in float64 serve.
    """
    own = in_float64()

    def truths(
        subject: Subject, rows: list[Point], options: Options, wrt: Any, shape: Any
    ) -> Exact:
        if not subject.mixed and _takes_digits(oracle, rows[0], options):
            places = list(np.ndindex(shape))
            found = [
                _asked(oracle, row, options, (wrt, place) if isinstance(wrt, int) else wrt)
                for row in rows
                for place in places
            ]
            exact, largest = (np.array(x) for x in zip(*found, strict=True))
            return exact.reshape(len(rows), *shape), largest.reshape(len(rows), *shape)
        if wrt is not None:
            return own(subject, rows, options, wrt, shape)
        exact, largest = _of_arrays(oracle, subject, rows, options)
        return exact, np.where(np.isnan(exact), NO_TRUTH, largest)

    return truths


def _of_arrays(
    oracle: Callable[..., Any], subject: Subject, rows: list[Point], options: Options
) -> Exact:
    """Of a formula in float64 the results at all points, and their largest terms."""

    def asked(args: Any) -> Exact:
        data = [
            np.asarray(x, None if kind.index else np.float64)
            for x, kind in zip(args, subject.data, strict=True)
        ]
        with np.errstate(all="ignore"):
            terms = [np.asarray(term, float) for term in _terms(oracle(*data, **options))]
        return np.asarray(sum(terms)), np.max(np.abs(np.broadcast_arrays(*terms)), 0)

    if subject.mixed:
        # One call for each batch.
        exact, largest = zip(*map(asked, rows), strict=True)
        return np.stack(exact), np.stack(largest)
    return asked(list(zip(*rows, strict=True)))


def _takes_digits(oracle: Callable[..., Any], row: Point, options: Options) -> bool:
    """Whether a formula computes with mpmath's numbers."""
    try:
        from mpmath import mp
    except ImportError:
        return False
    args, named = _exactly(row, options)
    try:
        answer = oracle(*args, **named)
    except (TypeError, AttributeError, ValueError, IndexError):
        return False
    return all(isinstance(term, mp.mpf | int) for term in _terms(answer))


def _exactly(row: Point, options: Options) -> tuple[list[Any], dict[str, Any]]:
    """Numbers as mpf, without rounding; class numbers and flags as they are."""
    from mpmath import mp

    def convert(x: Any) -> Any:
        if x is None or isinstance(x, bool | str | int):
            return x
        if np.ndim(x):
            return [convert(entry) for entry in x]
        return x.item() if np.asarray(x).dtype.kind in "iub" else mp.mpf(float(x))

    return [convert(x) for x in row], {name: convert(x) for name, x in options.items()}


def _asked(
    oracle: Callable[..., Any], row: Point, options: Options, wrt: Any
) -> tuple[float, float]:
    """The exact number and its largest term; (0, NO_TRUTH) where there is none."""
    from mpmath import mp

    args, named = _exactly(row, options)
    spread = _spread(args, named)
    with mp.workprec(1000 + 10 * spread):
        try:
            if wrt is None:
                terms = _terms(oracle(*args, **named))
            else:
                terms = _quotients(oracle, args, named, wrt, mp.ldexp(1, -250 - 2 * spread))
            exact, largest = mp.fsum(terms), max(abs(term) for term in terms)
            return (0.0, NO_TRUTH) if mp.isnan(exact) else (float(exact), float(largest))
        except (ArithmeticError, ValueError, TypeError):
            return 0.0, NO_TRUTH


def _terms(answer: Any) -> list[Any]:
    return list(answer) if isinstance(answer, list | tuple) else [answer]


def _quotients(oracle: Any, args: Any, named: Any, wrt: Any, step: Any) -> list[Any]:
    """The slope of each term; ValueError at a kink, at an end of the domain, at infinity."""
    from mpmath import mp

    def moved(by: Any) -> list[Any]:
        if isinstance(wrt, str):
            return _terms(oracle(*args, **{**named, wrt: named[wrt] + by}))
        index, place = wrt
        return _terms(oracle(*_replaced(args, (index, *place), by), **named))

    low, at, high = moved(-step), moved(mp.zero), moved(step)
    left, right = (
        [(b - a) / step for a, b in zip(*pair, strict=True)] for pair in ((low, at), (at, high))
    )
    two_sides = mp.fsum(left), mp.fsum(right)
    if not all(map(mp.isfinite, two_sides)):
        raise ValueError("no slope")
    if abs(two_sides[0] - two_sides[1]) > mp.ldexp(1 + abs(two_sides[0]), -100):
        raise ValueError("a kink")
    return [(a + b) / 2 for a, b in zip(left, right, strict=True)]


def _replaced(x: Any, place: tuple[int, ...], by: Any) -> Any:
    if not place:
        return x + by
    first, *rest = place
    return [_replaced(a, tuple(rest), by) if i == first else a for i, a in enumerate(x)]


def _numbers(x: Any) -> list[Any]:
    return [y for entry in x for y in _numbers(entry)] if isinstance(x, list) else [x]


def _spread(args: Any, named: Any) -> int:
    """How many binary orders of magnitude lie between the numbers of a call, 1 among them."""
    from mpmath import mp

    sizes = [0]
    for entry in _numbers([*args, *named.values()]):
        if isinstance(entry, mp.mpf) and entry and mp.isfinite(entry):
            sizes.append(mp.mag(entry))
    return max(sizes) - min(sizes)
