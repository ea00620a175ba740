"""The laws: what every loss keeps, each a function of a row of `cases.py` of a family.

`test_laws.py` runs each law on each row, and on losses with a planted fault, which it has to
catch. To compile takes most of their time: laws that evaluate a loss do so at one shape, with one
program.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxloss.testing import calls, edges, masks, values
from jaxloss.testing.calls import misfits
from jaxloss.testing.subject import (
    arrays,
    assert_close,
    call,
    evaluated,
    evaluation,
    filled,
    knobs_of,
    program,
)
from jaxloss.testing.values import of_few, traced, with_options
from tests.laws import oracle
from tests.laws.accuracy import LIMIT, units_of
from tests.laws.domains import domains, ends
from tests.laws.rows import Case
from tests.laws.slopes import slopes_of
from tests.laws.truths import anchored

# Those of any loss, but the two of digits and second derivatives: `test_laws.py` holds our losses
# to oracles in both.
LAWS: list[Callable[[Any], None]] = [
    *calls.LAWS,
    *masks.LAWS,
    *values.LAWS,
    edges.nothing_turns_nan,
]


def law(function: Callable[[Case], None]) -> Callable[[Case], None]:
    LAWS.append(function)
    return function


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
    # Of a loss of one array there is nothing more to read.
    whole = case.data[1].whole if len(args) > 1 else None
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
    knobs = knobs_of(case.options)
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
def ends_of_the_domain_belong_to_it(case: Case) -> None:
    """Where an option takes an end the value is the exact one; nothing that is finite turns NaN."""
    args, given = of_few(case), case.numbers()
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
def stated_subgradients(case: Case) -> None:
    programs: dict[str, Any] = {}
    for point, options, expected in case.stated:
        args = [
            jnp.asarray(x, jnp.int32 if kind.index else jnp.float32)
            for x, kind in zip(point, case.data, strict=True)
        ]
        knobs = knobs_of(options)
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
def ordinary_function(case: Case) -> None:
    """With its signature; hyperparameters by keyword only."""
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
        data = filled(args, case.floating, trained)
        return call(case, *data, where=weights > 0, weights=weights, reduction="mean")

    weights = jax.device_put(jnp.ones(case.shape(len(args[0]))), args[0].sharding)
    jax.eval_shape(jax.grad(mean), [args[i] for i in case.floating], weights)


# On 8 devices each has 5, which are no whole groups of a grouped sum; in the (2, 4) mesh 10.
CLASSES = 40
# How many numbers each device tells the others of a row: the most are 33, of
# `poly_loss_cross_entropy`, in programs without optimisations.
TOLD = 40


@law
def classes_may_be_sharded(case: Case) -> None:
    """Over devices, alone or with the examples: the same numbers, sharded as the data are.

    Devices tell each other sums and maxima of their parts of a row, and never a row.
    """
    if not case.axis or case.batch:
        return
    inner = (*case.inner[:-1], CLASSES) if case.inner else ()
    wide = dataclasses.replace(case, inner=inner, features=(CLASSES,))
    args = arrays(wide, shape=(4, CLASSES))
    if args[0].shape[-1] != CLASSES:
        return  # A box has four sides, whatever is asked for.
    compute = jax.jit(evaluation(wide))
    expected = jax.tree.map(np.asarray, compute(*args))
    for kind, sizes in ((AxisType.Auto, (1, 8)), (AxisType.Explicit, (2, 4))):
        mesh = jax.make_mesh(sizes, ("examples", "classes"), axis_types=(kind, kind))
        explicit = kind is AxisType.Explicit

        def placed(x: Any, mesh: Any = mesh) -> Any:
            last = x.ndim == args[0].ndim and x.shape[-1] == CLASSES
            names = ("examples", *[None] * (x.ndim - 2), *["classes"] * last)
            return jax.device_put(x, NamedSharding(mesh, PartitionSpec(*names[: x.ndim])))

        data = [placed(x) for x in args]
        with jax.set_mesh(mesh) if explicit else contextlib.nullcontext():
            compiled = compute.lower(*data).compile()
            found = compiled(*data)
            if explicit:
                check_options(wide, data, placed)
        for got, want in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            assert_close(got, want)
        for i, slope in zip(case.floating, found[1], strict=True):
            same = slope.sharding.is_equivalent_to(data[i].sharding, slope.ndim)
            # In a mesh of Auto axes that is the compiler's choice where the slope is of the labels
            # alone, or where documents meet in pairs.
            assert same or (not explicit and (case.gathered or is_constant(case, found, i)))
        if not case.gathered:
            rows = args[0].size // CLASSES // sizes[0]
            assert_few_numbers_move(compiled.as_text(), rows, sizes[1])


def is_constant(case: Case, found: Any, place: int) -> bool:
    """Whether a slope is 0, or has the same entry in all classes of a row but one."""
    slope = np.asarray(found[1][case.floating.index(place)])
    return not np.any(slope) or (
        slope.ndim > 1 and bool(np.all((slope == 0).sum(-1) >= CLASSES - 1))
    )


def check_options(case: Case, args: Any, placed: Callable[[Any], Any]) -> None:
    """Masks, weights and class weights have types that agree with those of sharded classes."""

    def mean(trained: Any, entries: Any, weights: Any) -> Any:
        data = filled(args, case.floating, trained)
        more: dict[str, Any] = {}
        if case.takes("class_weights"):
            more["class_weights"] = jnp.ones(CLASSES)
        if case.takes("label_smoothing"):
            more["label_smoothing"] = 0.1
        where = entries if case.entries else weights > 0
        return call(case, *data, where=where, weights=weights, **{**more, "reduction": "mean"})

    losses = jax.eval_shape(lambda *args: call(case, *args), *args)
    weights = placed(jnp.ones(losses.shape))
    trained = [args[i] for i in case.floating]
    jax.eval_shape(jax.grad(mean), trained, jnp.ones_like(args[0], bool), weights)


def assert_few_numbers_move(text: str | None, rows: int, devices: int) -> None:
    """Between devices, in a compiled program: a few for each row, from each device.

    Args:
        text: The program.
        rows: How many a device has a part of.
        devices: How many have a part of a row.
    """
    assert text
    told = 0
    for shapes, operation in _MOVES.findall(text):
        assert operation in ("all-reduce", "all-gather"), operation
        # What is gathered is that of each device: a sum of several arrays is added up by all.
        parts = rows * (devices if operation == "all-gather" else 1)
        for dimensions in re.findall(r"\[([0-9,]*)\]", shapes):
            numbers = np.prod([int(x) for x in dimensions.split(",") if x])
            assert numbers <= parts, (operation, dimensions)
            told += 1
    assert told <= TOLD, told


@law
def inside_a_shard_map(case: Case) -> None:
    """Of types that vary over its devices, value and slopes, also in hyperparameters that do not.

    Each device then runs the program of the other laws, for its own examples.
    """
    knobs = {k: jnp.float32(v) for k, v in knobs_of(case.options).items()}
    args = arrays(case)

    def compute(args: Any, knobs: Any) -> Any:
        def value(trained: Any, knobs: Any) -> Any:
            return jnp.sum(call(case, *filled(args, case.floating, trained), **knobs))

        return jax.grad(value, (0, 1))([args[i] for i in case.floating], knobs)

    mesh = jax.make_mesh((len(args[0]),), ("examples",), axis_types=(AxisType.Auto,))
    each, all_of_them = PartitionSpec("examples"), PartitionSpec()
    specs = (each, all_of_them)
    mapped = jax.shard_map(compute, mesh=mesh, in_specs=specs, out_specs=specs)
    slopes, of_knobs = jax.eval_shape(mapped, args, knobs)
    assert [x.shape for x in slopes] == [args[i].shape for i in case.floating]
    assert all(not x.shape for x in of_knobs.values())


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
    predictions, *others = arrays(case, shape=(4, 2) if case.axis else (4, 1))
    rest, first = others[1:], case.names[0]
    # Where labels may be class numbers too, those of another rank have the wrong dtype.
    refused = (ValueError, TypeError)
    for bad in misfits(case, others[0]) if others else ():
        second = case.names[1]
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
            call(case, predictions, *others, **{name: value})


@contextlib.contextmanager
def without_chex() -> Iterator[None]:
    chex.disable_asserts()
    try:
        yield
    finally:
        chex.enable_asserts()
