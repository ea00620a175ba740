"""Errors of second derivatives against exact ones, over the whole domain of a loss."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tests.laws.accuracy import EPS, FLUSHED, LARGEST, TINY, Point, is_knob, points, settings
from tests.laws.accuracy import _flushed as flushed
from tests.laws.case import Case, Options
from tests.laws.truths import NO_TRUTH, Hessian, truths


def chosen(case: Case) -> list[Point]:
    """Some of the points of the accuracy law, and exact predictions."""
    rows = points(case)
    size = sum(np.size(rows[0][i]) for i in case.floating)
    most = int(np.clip(1200 // (size + 1) ** 2, 3, 32))
    some = [rows[i] for i in np.unique(np.linspace(0, len(rows) - 1, most).astype(int))]
    if case.data[0] is case.data[1] and not case.batch:
        some += [(row[1], row[1], *row[2:]) for row in (rows[0], rows[-1])]
        some += [tuple(x * 0 if i < 2 else x for i, x in enumerate(rows[1]))]
    return [tuple(map(flushed, row)) for row in some]


def places_of(case: Case, row: Point, options: Options) -> tuple[Any, ...]:
    found: list[Any] = []
    for i in case.floating:
        if case.names[i] in case.not_differentiated:
            continue
        shape = np.shape(row[i])
        found += [(i, place) for place in np.ndindex(shape)] if shape else [i]
    knobs = [k for k, v in options.items() if is_knob(v) and k not in case.not_differentiated]
    return (*found, *knobs)


def question(case: Case, row: Point, options: Options) -> Hessian:
    places = places_of(case, row, options)
    columns = range(len(places))
    if len(places) > 10:
        rng = np.random.default_rng(0)
        data = [i for i in columns if not isinstance(places[i], str)]
        knobs = [i for i in columns if isinstance(places[i], str)]
        columns = [*sorted(rng.choice(data, 4, replace=False).tolist()), *knobs]
    return Hessian(places, tuple(columns))


def asks(case: Case) -> Iterator[tuple[Any, ...]]:
    rows = chosen(case)
    for options in settings(case):
        numbers = {k: v for k, v in options.items() if k not in case.layout}
        wrt = question(case, rows[0], numbers)
        yield case, rows, numbers, wrt, (len(wrt.columns), len(wrt.places))


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _hessians(loss: Any, fixed: Any, wrt: Hessian, columns: Any, knobs: Any) -> Any:
    names = [x for x in wrt.places if isinstance(x, str)]
    moved = list(dict.fromkeys(x[0] if isinstance(x, tuple) else x for x in wrt.places if not isinstance(x, str)))

    def of(row: Any, knobs: Any) -> Any:
        flat = jnp.concatenate([jnp.ravel(row[i]) for i in moved] + [jnp.stack([knobs[k] for k in names])] if names else [jnp.ravel(row[i]) for i in moved])

        def value(flat: Any) -> Any:
            filled, at = list(row), 0
            for i in moved:
                filled[i] = flat[at : at + row[i].size].reshape(row[i].shape)
                at += row[i].size
            given = {**knobs, **{k: flat[at + j] for j, k in enumerate(names)}}
            return jnp.sum(loss(*filled, **given, **dict(fixed)))

        unit = jnp.eye(flat.size, dtype=flat.dtype)[jnp.asarray(wrt.columns)]
        slope = jax.grad(value)
        forward = jax.vmap(lambda v: jax.jvp(slope, (flat,), (v,))[1])(unit)
        reverse = jax.vmap(jax.vjp(slope, flat)[1])(unit)[0]
        ahead = jax.vmap(lambda v: jax.jacfwd(lambda x: jax.jvp(value, (x,), (v,))[1])(flat))(unit)
        return forward, reverse, ahead

    return jax.vmap(of)(columns, knobs)


def found(case: Case) -> Iterator[Any]:
    for case, rows, options, wrt, shape in asks(case):
        given = [o for o in settings(case) if {k: v for k, v in o.items() if k not in case.layout} == options][0]
        columns = [jnp.asarray(np.stack(column)) for column in zip(*rows, strict=True)]
        columns = [x if kind.index else x.astype(jnp.float32) for x, kind in zip(columns, case.data, strict=True)]
        knobs = {k: jnp.full((len(rows),), v, jnp.float32) for k, v in given.items() if is_knob(v)}
        fixed = tuple((k, v) for k, v in given.items() if not is_knob(v))
        modes = _hessians(case.loss, fixed, wrt, columns, knobs)
        exact, terms = truths(case, rows, options, wrt, shape)
        for r, row in enumerate(rows):
            numbers = {k: v for k, v in options.items()}
            if case.kink(*row, **numbers):
                continue
            known = terms[r] != NO_TRUTH
            if not known.any():
                continue
            big = np.where(known, np.abs(exact[r]), 0)
            scale = min(max(big.max(), TINY), LARGEST)
            for name, mode in zip(("fwd-rev", "rev-rev", "fwd-fwd"), modes, strict=True):
                got = np.asarray(mode[r], float)
                largest = np.clip(np.where(known, terms[r], 0), scale, LARGEST)
                error = np.maximum(0, np.abs(got - exact[r]) - FLUSHED) / (EPS * largest)
                error = np.where(known & (big <= LARGEST), np.where(np.isnan(error), np.inf, error), 0)
                at = np.unravel_index(np.argmax(error), error.shape)
                yield error[at], name, row, given, (wrt.places[wrt.columns[at[0]]], wrt.places[at[1]]), got[at], exact[r][at], scale
