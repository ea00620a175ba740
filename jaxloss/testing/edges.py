"""Laws over the whole domain: accuracy, no NaN at its ends and kinks, second derivatives."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .accuracy import ORDINARY, Point, columns_of, errors, limit, points, simplest, strangeness
from .subject import (
    EPS,
    Subject,
    call,
    filled,
    given,
    program,
    shown,
)
from .truths import in_float64, of_oracle

# Eps of float32, of the largest entry of the Hessian.
SECOND_LIMIT = 64


def accurate(subject: Subject, oracle: Callable[..., Any] | None = None) -> None:
    """Losses and slopes are within a few eps of float32 of the exact ones, over the whole domain.

    Within 8, 16 of losses of vectors, and 64 of slopes in hyperparameters. What is exact says the
    oracle. Without one it is the loss itself in float64, and twice as much is allowed, as the sizes
    of the terms whose rounding counts are not known; and the vectors of a point are of one size,
    as a large number beside a small one hides such terms.
    """
    truths, leeway = (of_oracle(oracle), 1) if oracle else (in_float64(), 2)
    rows = points(subject) if oracle else [*_sized(subject), *special(subject)]
    choose = functools.partial(simplest, subject, leeway)
    found = errors(subject, truths, rows, choose=choose)
    far = [error for error in found if not error.units <= leeway * limit(subject, error)]
    assert not far, "; ".join(error.told(subject, leeway) for error in far)


def _sized(subject: Subject) -> list[Point]:
    """`points`, with vectors of real numbers in many sizes in place of those of mixed ends."""
    found = points(subject)
    if not subject.axis or subject.points or subject.mixed or subject.together:
        return found
    kinds = subject.data
    real = [len(kind.edges) > 0 and min(kind.edges) < -1 and max(kind.edges) > 1 for kind in kinds]
    if not any(real):
        return found
    ordinary, ends = found[:ORDINARY], found[ORDINARY:]
    sizes = sorted({abs(x) for x in kinds[real.index(True)].edges} - {0.0})
    rng = np.random.default_rng(2)
    drawn = zip(*subject.draw(2, (len(ends), 4)), strict=True)
    return ordinary + [
        tuple(
            (size * x).astype(np.float32) if wide else end
            for x, wide, end in zip(row, real, others, strict=True)
        )
        for row, others, size in zip(drawn, ends, rng.choice(sizes, len(ends)), strict=True)
    ]


def special(subject: Subject) -> list[Point]:
    """Where kinks and quotients of zero are: exact predictions, zeros and ties.

    As far as these belong to the kinds of the arguments.
    """
    if subject.mixed or subject.together or subject.inner:
        return []
    drawn = [x[0] for x in subject.draw(5, (1, 4) if subject.axis else (1,))]
    kinds, size = subject.data, drawn[0].shape
    found: list[list[Any]] = []
    alike = [i for i, kind in enumerate(kinds) if kind is kinds[0]]
    if len(alike) > 1:
        found.append([drawn[0] if i in alike else x for i, x in enumerate(drawn)])
    zeros = [i for i in alike if 0.0 in kinds[i].edges]
    for moved in [[i] for i in zeros] + [zeros] * (len(zeros) > 1):
        found.append([np.zeros_like(x) if i in moved else x for i, x in enumerate(drawn)])
    if subject.axis:
        for i in subject.floating:
            if drawn[i].shape == size and len(kinds[i].edges):
                tied = np.full_like(drawn[i], drawn[i][0])
                found.append([tied if i == j else x for j, x in enumerate(drawn)])
    return [tuple(row) for row in found]


# By how much a point is moved to its neighbours: relatively and, of zeros, as it is.
NEAR = 1e-3


def nothing_turns_nan(subject: Subject) -> None:
    """No loss or slope is NaN in the domain: not at ordinary numbers, and not at an end or a kink.

    At an end or a kink it may be NaN where its neighbours are.
    """
    if subject.mixed:
        check_drawn(subject)
        return
    rows = [*points(subject), *special(subject)]
    rows = [row for row in rows if all(np.all(np.isfinite(x)) for x in row)]
    columns = list(map(np.asarray, columns_of(subject, rows)))
    losses, slopes = jax.tree.map(np.asarray, program(subject)(*columns))
    nan = _rows_with(np.isnan, [losses, *slopes])
    if not np.any(nan):
        return
    # Neighbours in one argument, or in all of them.
    known = np.zeros(len(rows), bool)
    known[: len(rows) if subject.together else 0 if subject.points else ORDINARY] = True
    for i in (*subject.floating, None):
        for sign in (-1, 1):
            moved = [
                _moved(x, sign) if i in (None, j) and j in subject.floating else x
                for j, x in enumerate(columns)
            ]
            results = jax.tree.map(np.asarray, program(subject)(*moved))
            known |= ~_rows_with(lambda x: ~np.isfinite(x), jax.tree.leaves(results))
    bad = np.flatnonzero(nan & known)
    if not len(bad):
        return
    # The simplest: of the most ordinary numbers.
    first = min(bad, key=lambda r: strangeness(rows[r]))
    raise AssertionError(_told(subject, rows[first], losses[first], [x[first] for x in slopes]))


def check_drawn(subject: Subject) -> None:
    """That of batches as they are drawn nothing is NaN."""
    for seed in range(3):
        args = subject.draw(seed)
        losses, slopes = jax.tree.map(np.asarray, program(subject)(*args))
        if any(np.any(np.isnan(x)) for x in (losses, *slopes)):
            raise AssertionError(_told(subject, args, losses, slopes))


def _told(subject: Subject, row: Any, loss: Any, slopes: Any) -> str:
    named = dict(zip((subject.names[i] for i in subject.floating), slopes, strict=True))
    parts = [f"the loss is {shown(loss)}"] * bool(np.any(np.isnan(loss)))
    parts += [
        f"the slope in {name} is {shown(x)}" for name, x in named.items() if np.any(np.isnan(x))
    ]
    return f"{', '.join(parts)}, at {given(subject, row)}"


def _rows_with(what: Callable[[Any], Any], results: list[np.ndarray]) -> np.ndarray:
    return np.any([what(x).reshape(len(x), -1).any(-1) for x in results], 0)


def _moved(x: np.ndarray, sign: int) -> np.ndarray:
    return (x + sign * np.where(x == 0, NEAR, NEAR * np.abs(x))).astype(x.dtype)


# In the order of `_hessians`.
MODES = ("forward over reverse", "reverse over reverse")


def second_derivatives_agree(subject: Subject) -> None:
    """The Hessian, forward over reverse, equals the gradient of a gradient, and both are finite.

    At ordinary numbers, and without NaN where predictions are exact, at zeros and at ties; but for
    those where it is infinite: nearby it is at least 1 over the distance then.
    """
    some, rest = _few(subject), special(subject)
    rows = [*some, *rest]
    columns = list(map(np.asarray, columns_of(subject, rows)))
    hessians = jax.jit(jax.vmap(functools.partial(_hessians, subject)))

    def at(data: Any) -> list[np.ndarray]:
        return [
            np.concatenate([x.reshape(len(rows), -1) for x in jax.tree.leaves(found)], 1)
            for found in hessians(data)
        ]

    both = at(columns)
    at_an_edge = np.arange(len(rows))[:, None] >= len(some)
    known = [np.where(at_an_edge, ~np.isnan(x), np.isfinite(x)) for x in both]
    if not np.all(known):
        nearby, _ = at([_moved(x, 1) if i in subject.moved else x for i, x in enumerate(columns)])
        steep = np.max(np.abs(nearby), 1, keepdims=True) > 0.5 / NEAR
        known = [x | (at_an_edge & steep) for x in known]
    for r, row in enumerate(rows):
        where = f"at {given(subject, row)}"
        for name, found, is_known in zip(MODES, both, known, strict=True):
            assert np.all(is_known[r]), f"the Hessian, {name}, is {shown(found[r])} {where}"
        first, second = (found[r] for found in both)
        with np.errstate(invalid="ignore"):
            far = np.nanmax(np.abs(first - second)) / (EPS * max(1.0, np.abs(first).max()))
        told = f"the Hessian in two modes: {shown(first)} and {shown(second)} {where}"
        assert far <= SECOND_LIMIT or not np.isfinite(far), told


def _hessians(subject: Subject, data: Any) -> list[Any]:
    """Those of one example, in two modes."""

    def loss(*trained: Any) -> Any:
        args = filled(data, subject.moved, trained)
        return jnp.sum(call(subject, *(args if subject.mixed else [x[None] for x in args])))

    at = [data[i] for i in subject.moved]
    places = tuple(range(len(at)))
    slopes = jax.grad(loss, places)
    return [way(slopes, places)(*at) for way in (jax.jacfwd, jax.jacrev)]


def _few(subject: Subject) -> list[Point]:
    """A few ordinary points."""
    if subject.mixed:
        return [tuple(subject.draw())]
    if subject.together:
        return points(subject)[:6]
    return list(zip(*subject.draw(3, (6, 4) if subject.axis else (6,)), strict=True))


LAWS = (accurate, nothing_turns_nan, second_derivatives_agree)
