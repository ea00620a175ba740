"""The laws: what every loss keeps, each a function of a row of `cases.py` of a family.

`test_laws.py` runs each law on each row, and on losses with a planted fault, which it has to
catch. To compile takes most of their time: laws that evaluate a loss do so at one shape, with one
program.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import pickle
import re
from collections.abc import Callable, Iterator
from operator import methodcaller
from typing import Any

import chex
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import jaxloss
from tests.laws import oracle
from tests.laws.accuracy import EPS, LIMIT, is_knob, units_of
from tests.laws.case import REAL, SHAPE, Kind
from tests.laws.domains import domains, ends
from tests.laws.rows import Case
from tests.laws.slopes import slopes_of
from tests.laws.truths import anchored

LAWS: list[Callable[[Case], None]] = []


def law(function: Callable[[Case], None]) -> Callable[[Case], None]:
    LAWS.append(function)
    return function


def call(case: Case, *args: Any, **options: Any) -> Any:
    return case.loss(*args, **{**case.options, **options})


def arrays(case: Case, seed: int = 0, shape: tuple[int, ...] = SHAPE) -> list[jax.Array]:
    return [jnp.asarray(x) for x in case.draw(seed, shape)]


def floats(case: Case, args: Any, change: Callable[[Any], Any]) -> list[Any]:
    """The arguments, with those that may be differentiated changed."""
    return [change(x) if i in case.floating else x for i, x in enumerate(args)]


def total(case: Case, **options: Any) -> Callable[..., jax.Array]:
    return lambda *args: jnp.sum(call(case, *args, **options))


def evaluation(case: Case, **options: Any) -> Callable[..., tuple[jax.Array, list[jax.Array]]]:
    """Of arguments, the losses and the derivatives of their sum."""

    def of(*args: Any) -> Any:
        losses = call(case, *args, **options)
        return jnp.sum(losses), losses

    slopes = jax.grad(of, case.floating, has_aux=True)
    return lambda *args: slopes(*args)[::-1]


_PROGRAMS: dict[int, tuple[Case, Any]] = {}


def program(case: Case) -> Any:
    """The losses and their derivatives, compiled for all laws of a row."""
    if id(case) not in _PROGRAMS:
        # Of one row at a time: the laws come row by row.
        _PROGRAMS.clear()
        _PROGRAMS[id(case)] = case, jax.jit(evaluation(case))
    return _PROGRAMS[id(case)][1]


def evaluated(case: Case, args: Any) -> Any:
    return jax.tree.map(np.asarray, program(case)(*args))


def assert_close(got: Any, expected: Any, units: float = 2 * LIMIT) -> None:
    """Equal up to `units` eps of the largest entry: two results, each within the accuracy law."""
    got, expected = np.asarray(got, float), np.asarray(expected, float)
    assert got.shape == expected.shape
    assert np.all(np.isfinite(expected))
    assert np.all(np.isfinite(got))
    scale = max(1.0, np.abs(expected).max(initial=0.0))
    np.testing.assert_allclose(got, expected, rtol=0, atol=units * EPS * scale)


@law
def compiled_and_mapped_agree(case: Case) -> None:
    """That it is the same eagerly, values and gradients, is seen by the accuracy law."""
    args = arrays(case)
    expected, slopes = evaluated(case, args)
    assert expected.shape == case.shape(len(args[0]))
    assert_close(call(case, *args), expected)
    mapped, mapped_slopes = jax.jit(jax.vmap(evaluation(case)))(*args)
    assert_close(mapped, expected)
    for got, slope in zip(mapped_slopes, slopes, strict=True):
        assert_close(got, slope)


@law
def derivatives_are_those_of_the_value(case: Case) -> None:
    """First and second order, forward and reverse, in data and hyperparameters, in float64."""
    if case.not_numerical:
        pytest.skip(case.not_numerical)
    knobs = {
        name: float(value)
        for name, value in case.options.items()
        if is_knob(value) and name not in case.not_differentiated
    }
    with jax.enable_x64(True):
        drawn = case.draw(1, (2, 3))
        moved = [i for i in case.floating if case.names[i] not in case.not_differentiated]
        args = [jnp.asarray(drawn[i], jnp.float64) for i in moved]

        def value(args: Any, knobs: Any) -> Any:
            filled = dict(enumerate(map(jnp.asarray, drawn)))
            filled |= dict(zip(moved, args, strict=True))
            return call(case, *filled.values(), **knobs)

        @jax.jit
        def derivatives(at: Any, direction: Any, weights: Any) -> Any:
            """The weighed sum of the losses and its gradient, and the derivatives of both."""

            def weighed(at: Any) -> Any:
                return jnp.sum(weights * value(*at))

            both = jax.jvp(jax.value_and_grad(weighed), (at,), (direction,))
            (total, reverse), (forward, second) = both
            return total, forward, ravel_pytree(reverse)[0], ravel_pytree(second)[0]

        at, back = ravel_pytree((args, knobs))
        shape = jax.eval_shape(value, args, knobs).shape
        # Central differences of step 1e-5 leave 1e-10 of truncation and 1e-11 of rounding.
        step, near = 1e-5, functools.partial(np.testing.assert_allclose, rtol=1e-6, atol=1e-6)
        rng = np.random.default_rng(2)
        for _ in range(2):
            direction = jnp.asarray(rng.normal(size=at.shape))
            weights = jnp.asarray(rng.normal(size=shape))
            run = functools.partial(derivatives, direction=back(direction), weights=weights)
            low, high = run(back(at - step * direction)), run(back(at + step * direction))
            _, forward, reverse, second = run(back(at))
            near((high[0] - low[0]) / (2 * step), forward)
            near(jnp.sum(reverse * direction), forward)
            near((high[2] - low[2]) / (2 * step), second)


GARBAGE = (np.nan, np.inf, -np.inf, 3e38, -100.0, 0.0)
WRONG_CLASSES = (-100, -1, 3, 255, -(2**31), 2**31 - 1)


def dirtied(x: np.ndarray) -> np.ndarray:
    """With a piece of garbage in each of the first rows."""
    kinds = np.asarray(GARBAGE if x.dtype.kind == "f" else WRONG_CLASSES, x.dtype)
    x = x.copy()
    x[: len(kinds)] = kinds.reshape(-1, *[1] * (x.ndim - 1))
    return x


@law
def excluded_entries_are_inert(case: Case) -> None:
    """Value and derivatives of every mode are those without the garbage, and 0 at it.

    Garbage in the data, in the weights, and in hyperparameters of which each loss has its own.
    """
    clean, weights = case.draw(), np.full(SHAPE, 1.5, np.float32)
    rows = np.arange(SHAPE[0]) < len(GARBAGE)
    dirty = [dirtied(x) for x in clean]
    if case.batch:
        masks = [~rows[:, None]]
        weights = np.full(case.shape(SHAPE[0]), 1.5, np.float32)
    elif case.axis:
        masks = [~rows]
        if case.entries:
            masks.append(np.broadcast_to(~rows[:, None], SHAPE))
        weights = weights[:, 0]
    else:
        masks = [np.broadcast_to(~rows[:, None], SHAPE)]
        # A dimension of size 1 is broadcast.
        column = call(case, *dirty, where=~rows[:, None], weights=weights)
        assert_close(column, call(case, *dirty, where=masks[0], weights=weights))
    excluded = rows.reshape(-1, *[1] * (weights.ndim - 1))
    options = {k: v for k, v in case.options.items() if is_knob(v)}
    fields = {"weights": weights}
    fields |= {k: np.full(weights.shape, v, np.float32) for k, v in options.items()}
    dirty_fields = {k: np.where(excluded, np.float32(np.nan), x) for k, x in fields.items()}

    def derivatives(mask: Any, fields: Any, *args: Any) -> Any:
        def mean(trained: Any, fields: Any) -> Any:
            filled = dict(enumerate(args)) | dict(zip(case.floating, trained, strict=True))
            return call(case, *filled.values(), where=mask, reduction="mean", **fields)

        at = [args[i] for i in case.floating], fields
        tangents = [jnp.ones_like(x) for x in at[0]], jax.tree.map(jnp.zeros_like, fields)
        both = jax.jvp(jax.value_and_grad(mean, (0, 1)), at, tangents)
        (value, (reverse, in_fields)), (forward, (second, _)) = both
        return {
            "losses": call(case, *args, where=mask, **fields),
            "mean": value,
            "reverse": reverse,
            "forward": forward,
            "second": second,
            "in fields": in_fields,
        }

    compute = jax.jit(derivatives)
    for mask in masks:
        expected = compute(mask, fields, *clean)
        found = compute(mask, dirty_fields, *dirty)
        for got, want in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            assert_close(got, want)
        for name in ("losses", "reverse", "second", "in fields"):
            for x in jax.tree.leaves(found[name]):
                assert np.all(np.asarray(x)[rows] == 0)
        # Not by making everything 0.
        assert np.any(np.asarray(found["losses"])[~rows] != 0)


@law
def masked_entries_of_a_vector_are_absent(case: Case) -> None:
    """A mask along a consumed axis gives the loss of the shorter vectors, or smaller batches."""
    if case.batch and case.entries:
        smaller_batches(case)
    if case.batch or not case.axis or not case.entries:
        return
    short = case.draw()
    rows, size = short[0].shape
    keep = np.array([True, True, False, True, False, True])[: size + 2]

    def lengthened(x: np.ndarray, kind: Kind) -> np.ndarray:
        if kind.index:
            # Class k is the k-th of those that are kept.
            return np.flatnonzero(keep).astype(np.int32)[x]
        if kind.single:
            return x
        longer = np.full((rows, len(keep)), np.nan, np.float32)
        longer[:, keep] = x
        return longer

    dirty = [lengthened(x, kind) for x, kind in zip(short, case.data, strict=True)]
    mask = np.broadcast_to(keep, (rows, len(keep)))
    losses, slopes = jax.jit(evaluation(case, where=mask))(*dirty)
    expected, wanted = evaluated(case, short)
    assert_close(losses, expected)
    for i, got, want in zip(case.floating, slopes, wanted, strict=True):
        if case.data[i].single:
            assert_close(got, want)
        else:
            assert_close(got[:, keep], want)
            assert np.all(got[:, ~keep] == 0)


def smaller_batches(case: Case) -> None:
    keep = np.array([True, True, False, True, False, True])
    short = case.draw()
    rows = len(short[0])
    dirty = [
        np.full((rows, 6, *x.shape[2:]), np.nan if i in case.floating else -7).astype(x.dtype)
        for i, x in enumerate(short)
    ]
    for x, y in zip(dirty, short, strict=True):
        x[:, keep] = y
    mask = np.broadcast_to(keep, (rows, 6))
    found, expected = jax.jit(evaluation(case, where=mask))(*dirty), evaluated(case, short)
    for got, want in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert_close(got[:, keep], want)
        assert np.all(got[:, ~keep] == 0)


@law
def weights_multiply_and_means_divide_by_them(case: Case) -> None:
    args = arrays(case)
    losses = np.asarray(call(case, *args), float)
    rng = np.random.default_rng(3)
    weights = rng.uniform(0.5, 2, losses.shape).astype(np.float32)
    mask = rng.uniform(size=losses.shape) < 0.6
    if case.batch:
        # Whole ones: what is left of a batch is another batch.
        mask = np.broadcast_to(mask[:, :1], losses.shape)
    selected = weights * mask
    row = weights[:1]

    @jax.jit
    def compute(weights: Any, mask: Any, *args: Any) -> Any:
        results = {
            reduction: call(case, *args, weights=weights, where=mask, reduction=reduction)
            for reduction in ("none", "sum", "mean")
        }
        asked = functools.partial(call, case)
        results["parts"] = jaxloss.Mean.of(asked, *args, weights=weights, where=mask)
        results["plain mean"] = call(case, *args, reduction="mean")
        results["masked mean"] = call(case, *args, where=mask, reduction="mean")
        results["twice"] = call(case, *args, weights=2.0)
        results["one row"] = call(case, *args, weights=weights[:1])
        return results

    results = compute(weights, mask, *args)
    assert_close(results["none"], losses * selected)
    assert_close(results["sum"], np.sum(losses * selected))
    assert_close(results["mean"], np.sum(losses * selected) / np.sum(selected))
    assert_close(results["parts"].value(), results["mean"])
    assert_close(results["parts"].weight, np.sum(selected))
    assert_close(results["plain mean"], np.mean(losses))
    assert_close(results["masked mean"], np.mean(losses[mask]))
    assert_close(results["twice"], 2 * losses)
    assert_close(results["one row"], losses * row)


@law
def nothing_selected_gives_zero(case: Case) -> None:
    args = [
        np.full_like(x, -100 if kind.index else np.nan)
        for x, kind in zip(case.draw(), case.data, strict=True)
    ]
    mean = functools.partial(call, case, reduction="mean")

    @jax.jit
    def excluded(*args: Any) -> Any:
        return [
            jax.value_and_grad(functools.partial(mean, **options), case.floating)(*args)
            for options in ({"where": False}, {"where": False, "weights": 2.0})
        ]

    assert all(np.all(np.asarray(x) == 0) for x in jax.tree.leaves(excluded(*args)))

    @jax.jit
    def without_any(*args: Any) -> Any:
        losses, total = call(case, *args), call(case, *args, reduction="sum")
        return losses, total, *jax.value_and_grad(mean, case.floating)(*args)

    losses, *numbers, slopes = without_any(*(x[:0] for x in args))
    assert losses.shape == case.shape(0)
    assert numbers == [0, 0]
    for i, slope in zip(case.floating, slopes, strict=True):
        assert slope.shape == (0, *args[i].shape[1:])


@law
def dtypes(case: Case) -> None:
    """At least float32 inside and out; gradients in the dtype of their input."""
    args = arrays(case)
    expected = call(case, *args)
    assert expected.dtype == jnp.float32

    for half in (jnp.bfloat16, jnp.float16):
        low = floats(case, args, methodcaller("astype", half))
        up = floats(case, low, lambda x: x.astype(jnp.float32))
        losses, slopes = program(case)(*low)
        same, _ = evaluated(case, up)
        mixed = call(case, low[0], *up[1:])
        assert losses.dtype == mixed.dtype == jnp.float32
        # So in half precision it is as good as float32 can be, hence better than the plain
        # formula in that dtype.
        assert_close(losses, same)
        assert_close(mixed, same)
        assert all(x.dtype == half for x in slopes)
    with jax.enable_x64(True):
        wide = floats(case, case.draw(), lambda x: x.astype(np.float64))
        losses = call(case, *wide)
        assert losses.dtype == jnp.float64
        narrow = jax.eval_shape(functools.partial(call, case), *case.draw())
        assert narrow.dtype == jnp.float32
        mixed = jax.eval_shape(functools.partial(call, case), wide[0], *case.draw()[1:])
        assert mixed.dtype == jnp.float64
        # A float32 step inside would cost 1e-7.
        np.testing.assert_allclose(losses, expected, rtol=1e-4, atol=1e-5)


@law
def arguments_of_every_kind_are_accepted(case: Case) -> None:
    args = case.draw()
    expected = call(case, *arrays(case))
    assert_close(call(case, *args), expected)
    assert_close(call(case, *(x.tolist() for x in args)), expected)
    assert_close(call(case, *(jnp.asarray(x) for x in args)), expected)
    if not case.axis:
        first = [float(x[0, 0]) for x in args]
        assert_close(call(case, *first), expected[0, 0])
        scalar = call(case, args[0], first[1], *args[2:])
        assert_close(scalar[0, 0], expected[0, 0])
        if len(args) > 2:
            assert_close(call(case, *args[:2], *first[2:])[0, 0], expected[0, 0])
    if case.optional_targets:
        assert_close(call(case, args[0]), call(case, args[0], 0 * args[0]))
    for i, kind in enumerate(case.data):
        if kind.index:
            wide = [x.astype(np.int64) + 2**32 if i == j else x for j, x in enumerate(args)]
            integers_of_64_bits_are_not_wrapped(case, wide)
    whole = case.data[1].whole
    if whole is not None:
        targets = whole(args[1])
        integers = call(case, args[0], targets.astype(np.int32), *args[2:])
        assert_close(integers, call(case, args[0], targets, *args[2:]))


def integers_of_64_bits_are_not_wrapped(case: Case, args: Any) -> None:
    """No class has such a number; identities, as of a batch, are only compared: refused."""
    if case.batch:
        with pytest.raises(ValueError, match="int32"):
            call(case, *args)
    else:
        assert np.all(np.isnan(call(case, *args)))


@law
def lists_are_arrays(case: Case) -> None:
    """As data, weights, mask and hyperparameters; of plain numbers, or with a traced one.

    The weights are integers.
    """
    args, losses = case.draw(), np.asarray(call(case, *arrays(case)))
    knobs = {name: value for name, value in case.options.items() if is_knob(value)}
    whole = {name: np.full(losses.shape, value, np.float32) for name, value in knobs.items()}
    weights, mask = np.full(losses.shape, 2, np.int32), np.ones(losses.shape, bool)
    mask[1] = False
    given = args, whole | {"weights": weights, "where": mask}

    def compute(data: Any, options: Any) -> Any:
        return call(case, *data, **options)

    plain = jax.tree.map(np.ndarray.tolist, given)
    assert_close(compute(*plain), losses * weights * mask)
    firsts = jax.tree.map(lambda x: x.flat[0], given)
    mixed = jax.jit(lambda *firsts: compute(*jax.tree.map(starting_with, given, firsts)))
    assert_close(mixed(*firsts), losses * weights * mask)


def starting_with(x: np.ndarray, first: Any) -> list[Any]:
    """An array as a list, with another number in the first place."""
    rows = x.tolist()
    place = rows
    while isinstance(place[0], list):
        place = place[0]
    place[0] = first
    return rows


@law
def scalars_are_broadcast_or_refused(case: Case) -> None:
    """In place of an array it stands for an array of it, or is refused by name in one sentence."""
    args = case.draw()
    for i, name in enumerate(case.names):
        first = args[i].flat[0]
        for scalar in (first.item(), jnp.asarray(first)):
            given = [*args[:i], scalar, *args[i + 1 :]]
            losses, message = losses_or_refusal(case, given)
            if losses is None:
                assert f"{name} {args[i].dtype}[]" in message
                assert "\n" not in message
            else:
                given[i] = np.full_like(args[i], first)
                assert_close(losses, call(case, *given))


def losses_or_refusal(case: Case, args: Any) -> tuple[Any, str]:
    try:
        return call(case, *args), ""
    except (TypeError, ValueError) as error:
        return None, str(error)


@law
def defaults_written_out_change_nothing(case: Case) -> None:
    """Though a number that is given is traced, and one that is not may leave work out."""
    parameters = list(inspect.signature(case.loss).parameters.values())[len(case.data) :]
    defaults = {x.name: x.default for x in parameters if x.default is not x.empty}
    options = {name: case.options[name] for name in case.options if name not in defaults}
    args = arrays(case)
    assert_close(case.loss(*args, **options, **defaults), case.loss(*args, **options))


@law
def hyperparameters_broadcast_and_trace(case: Case) -> None:
    """An array of hyperparameters gives each element its own; tracing one changes nothing."""
    knobs = {name: value for name, value in case.options.items() if is_knob(value)}
    if case.axis or not knobs:
        return

    @jax.jit
    def compute(knobs: Any, *args: Any) -> Any:
        found = {}
        for name, values in knobs.items():

            def column(value: Any, *args: Any, name: str = name) -> Any:
                return call(case, *args, **{name: value})

            mapped = jax.vmap(column, (0, *[1] * len(args)), 1)(values, *args)
            found[name] = call(case, *args, **{name: values}), mapped
        return found

    args = arrays(case)
    factors = np.array([1.0, 0.9, 1.1])
    moved = {name: jnp.asarray(value * factors, jnp.float32) for name, value in knobs.items()}
    for name, found in compute(moved, *args).items():
        columns = [
            call(case, *args, **knobs | {name: float(v)})[:, i] for i, v in enumerate(moved[name])
        ]
        for losses in found:
            assert_close(losses, jnp.stack(columns, axis=1))


def with_options(case: Case) -> Callable[[Any, Any], list[Any]]:
    """Of arguments and options, the losses and their derivatives in what has them.

    Compiled for the two laws on what is outside a domain and at its ends.
    """
    moved = [i for i in case.floating if case.names[i] not in case.not_differentiated]

    def compute(args: Any, options: Any) -> Any:
        def of(trained: Any) -> Any:
            filled = dict(enumerate(args)) | dict(zip(moved, trained, strict=True))
            losses = call(case, *filled.values(), **options)
            return jnp.sum(losses), losses

        slopes, losses = jax.grad(of, has_aux=True)([args[i] for i in moved])
        return [losses, *slopes]

    if id(case) not in _WITH_OPTIONS:
        _WITH_OPTIONS.clear()
        _WITH_OPTIONS[id(case)] = case, jax.jit(compute)
    return _WITH_OPTIONS[id(case)][1]


_WITH_OPTIONS: dict[int, tuple[Case, Any]] = {}


def of_few(case: Case) -> list[jax.Array]:
    """Arguments of one vector, or of elements: the last have no error, and an infinite one."""
    args = arrays(case, shape=(8,) if not case.axis else (1, 3))
    if not case.axis and case.data[:2] == (REAL, REAL):
        args[0] = args[0].at[6:].set(jnp.stack([args[1][6], jnp.inf]))
    return args


def numbers(case: Case) -> dict[str, Any]:
    """The options that have a domain, or are tried outside of one, and their ordinary numbers."""
    defaults = {name: x.default for name, x in inspect.signature(case.loss).parameters.items()}
    names = {where for where, _ in case.outside if isinstance(where, str)}
    names |= domains(case).keys()
    return {name: case.options.get(name, defaults[name]) for name in sorted(names)}


def traced(options: dict[str, Any]) -> dict[str, jax.Array]:
    # An option that is off by default is on only where it is tried.
    return {name: jnp.float32(x) for name, x in options.items() if x is not None}


@law
def outside_the_domain_is_nan(case: Case) -> None:
    """In value and in every gradient, whatever is differentiated."""
    valid, given = of_few(case), numbers(case)
    tried = list(case.outside)
    for name, domain in domains(case).items():
        tried += [(name, bad) for bad in ends(domain)[1]]
    for where, bad in tried:
        args, options = list(valid), dict(given)
        if isinstance(where, str):
            options[where] = bad
        else:
            args[where] = jnp.full_like(args[where], bad)
        for found in with_options(case)(args, traced(options)):
            assert np.all(np.isnan(found)), (where, bad)


@law
def ends_of_the_domain_belong_to_it(case: Case) -> None:
    """Where an option takes an end the value is the exact one; nothing that is finite turns NaN."""
    args, given = of_few(case), numbers(case)
    rows = list(zip(*map(np.asarray, args), strict=True))
    finite = np.all([np.isfinite(x).reshape(len(x), -1).all(-1) for x in args], 0)
    fixed = {k: v for k, v in case.options.items() if k not in (*given, *case.layout)}
    for name, domain in domains(case).items():
        for end in ends(domain)[0]:
            options = {**given, name: end}
            losses, *slopes = map(np.asarray, with_options(case)(args, traced(options)))
            told = fixed | {k: float(v) for k, v in traced(options).items()}
            for place, row in zip(np.ndindex(losses.shape), rows, strict=False):
                (at, *_), _ = anchored(case, row, told, None, place[1:])
                try:
                    exact, largest = map(float, oracle.value(case.name, row, at))
                except (ZeroDivisionError, ValueError):
                    continue
                if not np.isnan(exact):
                    units = units_of(float(losses[place]), exact, largest)
                    assert units <= 2 * LIMIT, (name, end, row, losses[place], exact)
            for slope in slopes:
                assert not np.any(np.isnan(slope[finite])), (name, end)


@law
def nan_is_never_hidden(case: Case) -> None:
    args = case.draw()
    for i in case.floating:
        dirty = list(args)
        dirty[i] = dirty[i].copy()
        dirty[i][0] = np.nan
        losses, slopes = evaluated(case, dirty)
        assert np.all(np.isnan(losses[0]))
        # A linear loss of a vector has a constant slope at the others.
        assert (np.any if case.axis else np.all)(np.isnan(slopes[0][0]))
        assert np.all(np.isfinite(losses[1:]))
        assert np.all(np.isfinite(slopes[0][1:]))


# Numbers of options, of which some lie in the domain and move what depends on the option.
TRIED = (0.0, 0.01, 0.2, 0.5, 0.9, 1.5, 3.0, 20.0, 1e3, -0.7, -1.5, -20.0, -1e3)


def numbers_of(case: Case) -> dict[str, Any]:
    """All options that are numbers: given by the row, by a variant, or by default."""
    parameters = list(inspect.signature(case.loss).parameters.values())[len(case.data) :]
    found = {x.name: x.default for x in parameters if is_knob(x.default)}
    for options in (*reversed(case.variants), case.options):
        found |= {name: value for name, value in options.items() if is_knob(value)}
    return found


@law
def options_that_are_nan_show(case: Case) -> None:
    """A loss that depends on an option is NaN where that is, with its slope; not an excluded one.

    It depends on an option if another number of it gives another loss.
    """
    args, given = case.draw(), numbers_of(case)
    fixed = {name: value for name, value in case.options.items() if name not in given}
    rows = np.arange(SHAPE[0]) < 2
    keep = ~rows.reshape(-1, *[1] * (len(case.shape(SHAPE[0])) - 1))
    everywhere = np.ones_like(keep)

    @functools.partial(jax.jit, static_argnames="names")
    def compute(where: Any, numbers: Any, names: Any) -> Any:
        def of(trained: Any) -> Any:
            filled = dict(enumerate(args)) | dict(zip(case.floating, trained, strict=True))
            options = dict(zip(names, numbers, strict=True))
            losses = case.loss(*filled.values(), where=where, **fixed, **options)
            return jnp.sum(losses), losses

        slopes, losses = jax.grad(of, has_aux=True)([args[i] for i in case.floating])
        return losses, slopes

    for name in given:
        # Options that are off by default are on only where they are tried.
        on = {k: v for k, v in given.items() if k == name or k in case.options}
        run = functools.partial(compute, names=tuple(on))

        def at(value: float, where: Any, on: Any = on, name: str = name, run: Any = run) -> Any:
            numbers = [np.float32(x) for x in {**on, name: value}.values()]
            return jax.tree.map(np.asarray, run(where, numbers))

        (losses, _), (unknown, slopes) = (at(x, everywhere) for x in (given[name], np.nan))
        others = [at(x, everywhere)[0] for x in TRIED]
        depends = np.any([np.isfinite(x) & (x != losses) for x in others], 0)
        # A variant may read an option that the row does not.
        assert np.any(depends) or name not in case.options, name
        assert np.all(np.isnan(unknown[depends])), name
        for slope in slopes[:1]:
            slope = slope.reshape(*unknown.shape, -1)
            assert np.all(np.any(np.isnan(slope), -1)[depends]), name
        unknown, slopes = at(np.nan, keep)
        for x in (unknown, *slopes):
            assert np.all(x[rows] == 0), name


@law
def stated_subgradients(case: Case) -> None:
    programs: dict[str, Any] = {}
    for point, options, expected in case.stated:
        args = [
            jnp.asarray(x, jnp.int32 if kind.index else jnp.float32)
            for x, kind in zip(point, case.data, strict=True)
        ]
        knobs = {name: value for name, value in options.items() if is_knob(value)}
        fixed = {name: value for name, value in options.items() if name not in knobs}
        moved = case.floating[: len(expected)]

        def slopes(args: Any, knobs: Any, fixed: Any = fixed, moved: Any = moved) -> Any:
            value = functools.partial(call, case, **knobs, **fixed)
            return [[way(value, i)(*args) for way in (jax.grad, jax.jacfwd)] for i in moved]

        program = programs.setdefault(repr((fixed, moved)), jax.jit(slopes))
        for slope, found in zip(expected, program(args, knobs), strict=False):
            for derivative in found:
                np.testing.assert_array_equal(derivative, np.float32(slope))


@law
def exact_predictions_cost_nothing(case: Case) -> None:
    if not case.zero_when_exact:
        return
    predictions, targets, *rest = arrays(case)
    exact = np.asarray(call(case, predictions, predictions, *rest))
    assert np.all((exact >= 0) & (exact <= 1e-14))
    assert np.all(np.asarray(call(case, predictions, targets, *rest)) >= 0)


@law
def what_is_constant_has_no_derivative(case: Case) -> None:
    """What a docstring holds constant, and what only selects, in forward and in reverse mode."""
    constant = slopes_of(oracle.LOSSES[case.name]).constant
    names = {*case.not_differentiated, *(case.names[i] for i in constant if i in case.floating)}
    if not names:
        return
    args = dict(zip(case.names, arrays(case, shape=(3,) if not case.axis else (1, 3)), strict=True))
    held = {name: args.pop(name, None) for name in sorted(names)}
    for name, x in held.items():
        held[name] = jnp.float32(case.options.get(name, 2.0)) if x is None else x

    @jax.jit
    def derivatives(held: Any, args: Any) -> Any:
        def value(held: Any) -> Any:
            given = {**args, **held}
            data = [given.pop(name) for name in case.names]
            return jnp.sum(call(case, *data, **given))

        ones = jax.tree.map(jnp.ones_like, held)
        return jax.grad(value)(held), jax.jvp(value, (held,), (ones,))[1]

    for slope in jax.tree.leaves(derivatives(held, args)):
        np.testing.assert_array_equal(slope, np.zeros_like(slope))


@law
def another_axis_is_the_same_loss(case: Case) -> None:
    """Vectors that lie along the first axis."""
    if "axis" in case.layout or "axis" not in inspect.signature(case.loss).parameters:
        return
    args = arrays(case)
    moved = [jnp.swapaxes(x, 0, 1) if x.ndim > 1 else x for x in args]
    losses, slopes = jax.jit(evaluation(case, axis=0))(*moved)
    expected, wanted = evaluated(case, args)
    assert_close(losses, expected)
    for got, want in zip(slopes, wanted, strict=True):
        assert_close(got.T, want)


@law
def ordinary_function(case: Case) -> None:
    """Pickled by name, with its signature; hyperparameters by keyword only."""
    assert pickle.loads(pickle.dumps(case.loss)) is case.loss
    assert inspect.isfunction(case.loss)
    parameters = inspect.signature(case.loss).parameters
    ruled = ["where", "weights", "reduction"]
    assert [name for name in parameters if name in ruled] == ruled
    assert list(parameters)[-2:] == ruled[1:]
    for name, parameter in list(parameters.items())[max(2, len(case.data)) :]:
        positional = name in case.positional
        assert (parameter.kind is parameter.KEYWORD_ONLY) == (not positional)
    assert parameters["reduction"].default == case.reduction


@law
def inside_other_transformations(case: Case) -> None:
    """`lax.scan`, `jax.checkpoint` and `jit` around a gradient."""
    args = arrays(case)

    def scanned(*args: Any) -> Any:
        def step(carry: Any, rows: Any) -> Any:
            return carry + jax.checkpoint(total(case))(*rows), None

        return jax.lax.scan(step, jnp.float32(0), args)[0]

    slopes = jax.jit(jax.grad(scanned, case.floating))(*args)
    for got, expected in zip(slopes, evaluated(case, args)[1], strict=True):
        assert_close(got, expected)


@law
def exported_for_any_batch(case: Case) -> None:
    """With a symbolic number of examples; serialised and restored it gives the same numbers."""
    args, (losses, slopes) = arrays(case), evaluated(case, arrays(case))
    if case.batch:
        # The examples of one batch, each a partner of the others.
        args, losses, slopes = jax.tree.map(lambda x: x[0], (args, losses, slopes))
    (size,) = jax.export.symbolic_shape("b")
    shapes = [jax.ShapeDtypeStruct((size, *x.shape[1:]), x.dtype) for x in args]
    exported = jax.export.export(program(case))(*shapes)
    found, moved = jax.export.deserialize(exported.serialize()).call(*args)
    assert_close(found, losses)
    for got, expected in zip(moved, slopes, strict=True):
        assert_close(got, expected)


@law
def examples_may_be_sharded(case: Case) -> None:
    """Over devices, in a mesh of either kind: the same numbers, sharded as the data are.

    No device asks another for data. What all of them know, such as whether any example is extreme,
    is less than one number for each example.
    """
    args = arrays(case)
    expected = evaluated(case, args)
    for kind in (AxisType.Auto, AxisType.Explicit):
        mesh = jax.make_mesh((len(args[0]),), ("examples",), axis_types=(kind,))
        sharding = NamedSharding(mesh, PartitionSpec("examples"))
        placed = jax.device_put(args, sharding)
        # Of Auto axes traces know nothing: without the mesh, the one of the other laws is used.
        explicit = kind is AxisType.Explicit
        with jax.set_mesh(mesh) if explicit else contextlib.nullcontext():
            compiled = program(case).lower(*placed).compile()
            found = compiled(*placed)
            if explicit:
                check_masked_mean(case, placed)
        for got, want in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            assert_close(got, want)
            # A gradient that is 0 whatever the data are is made on every device.
            whole = not explicit and not np.any(want)
            assert whole or got.sharding.is_equivalent_to(sharding, got.ndim)
        assert_no_data_moves(compiled.as_text(), len(args[0]))


def check_masked_mean(case: Case, args: Any) -> None:
    """It is of one type in a mesh of Explicit axes, whose types say where arrays are."""

    def mean(trained: Any, weights: Any) -> Any:
        filled = dict(enumerate(args)) | dict(zip(case.floating, trained, strict=True))
        mask = weights > 0
        return call(case, *filled.values(), where=mask, weights=weights, reduction="mean")

    weights = jax.device_put(jnp.ones(case.shape(len(args[0]))), args[0].sharding)
    jax.eval_shape(jax.grad(mean), [args[i] for i in case.floating], weights)


_MOVES = re.compile(r"= (.*?) (all-gather|all-to-all|collective-permute|all-reduce)(?:-start)?\(")


def assert_no_data_moves(text: str | None, examples: int) -> None:
    """Between devices, in a compiled program; sums are of fewer numbers than there are examples."""
    assert text
    for shapes, operation in _MOVES.findall(text):
        assert operation == "all-reduce"
        for dimensions in re.findall(r"\[([0-9,]*)\]", shapes):
            assert np.prod([int(x) for x in dimensions.split(",") if x]) < examples


@law
def shapes_are_refused_by_name(case: Case) -> None:
    """In one sentence, whether or not chex's own assertions are switched off in the process."""
    predictions, targets, *rest = arrays(case, shape=(4, 2) if case.axis else (4, 1))
    first, second = case.names[:2]
    other = targets[:, None] if case.data[1].index else targets[:, 0]
    # Where labels may be class numbers too, those of another rank have the wrong dtype.
    refused = (ValueError, TypeError)
    for bad in (other, targets[:3]):
        with without_chex(), pytest.raises(refused, match=f"{first} float32") as error:
            call(case, predictions, bad, *rest)
        assert f"{second} {bad.dtype}{list(bad.shape)}" in str(error.value)
        assert "\n" not in str(error.value)
        assert "[Chex]" not in str(error.value)
        assert not hasattr(error.value, "__notes__")
        with pytest.raises(refused, match=f"{first} float32"):
            jax.jit(functools.partial(call, case))(predictions, bad, *rest)
    for name in ("where", "weights"):
        value = jnp.ones((2, 2, 2, 2), bool if name == "where" else float)
        with without_chex(), pytest.raises(ValueError, match=f"^{name} must be a scalar"):
            call(case, predictions, targets, *rest, **{name: value})


@contextlib.contextmanager
def without_chex() -> Iterator[None]:
    chex.disable_asserts()
    try:
        yield
    finally:
        chex.enable_asserts()
