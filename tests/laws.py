"""The laws: what every loss keeps, each a function of a row of `cases.py`.

`test_contract.py` runs each law on each row, and on losses with a planted fault, which it has to
catch.
"""

from __future__ import annotations

import functools
import inspect
import pickle
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import REAL, Case
from exactness import EPS, LIMIT
from jax.test_util import check_grads

LAWS: list[Callable[[Case], None]] = []


def law(function: Callable[[Case], None]) -> Callable[[Case], None]:
    LAWS.append(function)
    return function


def call(case: Case, *args: Any, **options: Any) -> Any:
    return case.loss(*args, **{**case.options, **options})


def eager(case: Case) -> Callable[..., Any]:
    """The loss without its `jit`."""
    return vars(case.loss)["__wrapped__"]


def arrays(case: Case, seed: int = 0, shape: tuple[int, ...] = (3, 4)) -> list[jax.Array]:
    return [jnp.asarray(x) for x in case.draw(seed, shape)]


def everywhere(case: Case) -> tuple[int, ...]:
    """The positions of the data, to differentiate in all of it."""
    return tuple(range(len(case.data)))


def total(case: Case, **options: Any) -> Callable[..., jax.Array]:
    return lambda *args: jnp.sum(call(case, *args, **options))


def gradients(case: Case, args: Any, **options: Any) -> list[np.ndarray]:
    found = jax.jit(jax.grad(total(case, **options), everywhere(case)))(*args)
    return [np.asarray(x) for x in found]


def assert_close(got: Any, expected: Any, units: float = 2 * LIMIT) -> None:
    """Equal up to `units` eps of the largest entry: two results, each within the accuracy law."""
    got, expected = np.asarray(got, float), np.asarray(expected, float)
    assert got.shape == expected.shape
    assert np.all(np.isfinite(expected))
    assert np.all(np.isfinite(got))
    scale = max(1.0, np.abs(expected).max(initial=0.0))
    np.testing.assert_allclose(got, expected, rtol=0, atol=units * EPS * scale)


@law
def compiled_eager_and_mapped_agree(case: Case) -> None:
    args = arrays(case)
    expected = call(case, *args)
    assert expected.shape == ((3,) if case.axis else (3, 4))
    assert_close(eager(case)(*args, **case.options), expected)
    mapped = jax.vmap(functools.partial(call, case))
    assert_close(mapped(*args), expected)
    slopes = gradients(case, args)
    for got, slope in zip(
        jax.vmap(jax.grad(total(case), everywhere(case)))(*args), slopes, strict=True
    ):
        assert_close(got, slope)
    slowly = jax.grad(lambda *x: jnp.sum(eager(case)(*x, **case.options)), everywhere(case))
    for got, slope in zip(slowly(*args), slopes, strict=True):
        assert_close(got, slope)


@law
def derivatives_are_those_of_the_value(case: Case) -> None:
    """First and second order, forward and reverse, in data and hyperparameters, in float64."""
    if case.not_numerical:
        pytest.skip(case.not_numerical)
    knobs = {
        name: float(value)
        for name, value in case.options.items()
        if not isinstance(value, bool) and name not in case.not_differentiated
    }
    with jax.enable_x64(True):
        args = [jnp.asarray(x, jnp.float64) for x in case.draw(1, (2, 3))]

        @jax.jit
        def value(args: Any, knobs: Any) -> Any:
            return call(case, *args, **knobs)

        # Central differences of step 1e-5 leave 1e-10 of truncation and 1e-11 of rounding, the
        # second order 1e-6 of a curvature that is O(10) here at most.
        check_grads(value, (args, knobs), order=2, eps=1e-5, atol=1e-6, rtol=1e-6)


@law
def modes_agree_and_are_finite_at_kinks(case: Case) -> None:
    args = arrays(case, shape=(4,))
    if case.data[0] is case.data[1]:
        args[1] = args[1].at[:2].set(args[0][:2])  # exact predictions
    points = [[x * 0 for x in args[:2]] + args[2:], args] if case.data[0] is REAL else [args]
    value = total(case)

    @jax.jit
    def derivatives(*args: Any) -> Any:
        slope = jax.grad(value)
        return {
            "forward": jax.jacfwd(value)(*args),
            "reverse": slope(*args),
            "hessian": jax.hessian(value)(*args),
            "reverse over reverse": jax.jacrev(slope)(*args),
            "forward over forward": jax.jacfwd(jax.jacfwd(value))(*args),
            "gradient of gradient": jax.grad(lambda *x: jnp.sum(slope(*x)))(*args),
        }

    for point in points:
        found = derivatives(*point)
        assert_close(found["forward"], found["reverse"])
        for name in ("reverse over reverse", "forward over forward"):
            assert_close(found[name], found["hessian"], units=4 * LIMIT)
        rows = jnp.sum(found["hessian"], 0)
        assert_close(found["gradient of gradient"], rows, units=4 * LIMIT)


GARBAGE = (np.nan, np.inf, -np.inf, 3e38, -100.0, 0.0)


@law
def excluded_entries_are_inert(case: Case) -> None:
    """Value and derivatives of every mode are those without the garbage, and 0 at it."""
    shape = (len(GARBAGE) + 2, 3)
    clean, weights = arrays(case, shape=shape), jnp.full(shape, 1.5)
    rows = np.arange(shape[0]) < len(GARBAGE)
    dirty = [x.at[rows].set(jnp.asarray(GARBAGE, x.dtype)[:, None]) for x in clean]
    if case.axis:
        masks = [jnp.asarray(~rows), jnp.broadcast_to(~rows[:, None], shape)]
        weights = weights[:, 0]
    else:
        masks = [jnp.asarray(np.broadcast_to(~rows[:, None], shape)), jnp.asarray(~rows[:, None])]
    dirty_weights = weights.at[rows].set(jnp.nan)

    def derivatives(mask: Any, weights: Any, *args: Any) -> Any:
        def mean(*args: Any) -> Any:
            return call(case, *args, where=mask, weights=weights, reduction="mean")

        tangents = tuple(jnp.ones_like(x) for x in args)
        slopes = jax.grad(mean, everywhere(case))
        return {
            "losses": call(case, *args, where=mask, weights=weights),
            "mean": mean(*args),
            "reverse": slopes(*args),
            "forward": jax.jvp(mean, args, tangents)[1],
            "second": jax.jvp(slopes, args, tangents)[1],
            "in weights": jax.grad(
                lambda w: call(case, *args, where=mask, weights=w, reduction="mean")
            )(weights),
        }

    compute = jax.jit(derivatives)
    for mask in masks:
        expected = compute(mask, weights, *clean)
        found = compute(mask, dirty_weights, *dirty)
        for got, want in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            assert_close(got, want)
        for name in ("losses", "reverse", "second", "in weights"):
            for x in jax.tree.leaves(found[name]):
                assert np.all(np.asarray(x)[rows] == 0)
        # Not by making everything 0.
        assert np.any(np.asarray(found["losses"])[~rows] != 0)


@law
def masked_entries_of_a_vector_are_absent(case: Case) -> None:
    """A mask along a consumed axis gives the loss of the shorter vectors."""
    if not case.axis:
        return
    args = arrays(case, shape=(2, 5))
    keep = jnp.array([True, True, False, True, False])
    dirty = [jnp.where(keep, x, jnp.nan) for x in args]
    short = [x[:, keep] for x in args]
    mask = jnp.broadcast_to(keep, (2, 5))
    assert_close(call(case, *dirty, where=mask), call(case, *short))
    for got, want in zip(gradients(case, dirty, where=mask), gradients(case, short), strict=True):
        assert_close(got[:, keep], want)
        assert np.all(got[:, ~keep] == 0)


@law
def weights_multiply_and_means_divide_by_them(case: Case) -> None:
    args = arrays(case)
    losses = np.asarray(call(case, *args), float)
    rng = np.random.default_rng(3)
    weights = rng.uniform(0.5, 2, losses.shape).astype(np.float32)
    mask = rng.uniform(size=losses.shape) < 0.6
    selected = weights * mask
    results = {
        reduction: call(case, *args, weights=weights, where=mask, reduction=reduction)
        for reduction in ("none", "sum", "mean", "partial")
    }
    assert_close(results["none"], losses * selected)
    assert_close(results["sum"], np.sum(losses * selected))
    assert_close(results["mean"], np.sum(losses * selected) / np.sum(selected))
    assert_close(results["partial"].value(), results["mean"])
    assert_close(results["partial"].weight, np.sum(selected))
    assert_close(call(case, *args, reduction="mean"), np.mean(losses))
    assert_close(call(case, *args, where=mask, reduction="mean"), np.mean(losses[mask]))
    assert_close(call(case, *args, weights=2.0), 2 * losses)
    row = weights[:1]
    assert_close(call(case, *args, weights=row), losses * row)


@law
def nothing_selected_gives_zero(case: Case) -> None:
    args = [jnp.full_like(x, jnp.nan) for x in arrays(case)]
    for options in ({"where": False}, {"where": False, "weights": 2.0}):
        assert call(case, *args, reduction="mean", **options) == 0
        for slope in gradients(case, args, reduction="mean", **options):
            assert np.all(slope == 0)
    empty = [x[:0] for x in args]
    for reduction in ("sum", "mean"):
        assert call(case, *empty, reduction=reduction) == 0
    assert call(case, *empty).shape == ((0,) if case.axis else (0, 4))
    for slope in gradients(case, empty, reduction="mean"):
        assert slope.shape == (0, 4)


@law
def dtypes(case: Case) -> None:
    """At least float32 inside and out; gradients in the dtype of their input."""
    args = arrays(case)
    assert call(case, *args).dtype == jnp.float32
    for half in (jnp.bfloat16, jnp.float16):
        low = [x.astype(half) for x in args]
        up = [x.astype(jnp.float32) for x in low]
        losses = call(case, *low)
        assert losses.dtype == jnp.float32
        # So in half precision it is as good as float32 can be, hence better than the plain
        # formula in that dtype.
        assert_close(losses, call(case, *up))
        slopes = jax.grad(total(case), everywhere(case))(*low)
        assert all(x.dtype == half for x in slopes)
        mixed = [low[0], *up[1:]]
        assert_close(call(case, *mixed), call(case, *up))
    with jax.enable_x64(True):
        wide = [x.astype(np.float64) for x in case.draw()]
        losses = call(case, *wide)
        assert losses.dtype == jnp.float64
        assert call(case, *case.draw()).dtype == jnp.float32
        assert call(case, wide[0], *case.draw()[1:]).dtype == jnp.float64
        # A float32 step inside would cost 1e-7.
        np.testing.assert_allclose(losses, call(case, *args), rtol=1e-4, atol=1e-5)


@law
def arguments_of_every_kind_are_accepted(case: Case) -> None:
    args = case.draw(shape=(4,))
    expected = call(case, *arrays(case, shape=(4,)))
    assert_close(call(case, *args), expected)
    assert_close(call(case, *(x.tolist() for x in args)), expected)
    assert_close(call(case, *(jnp.asarray(x) for x in args)), expected)
    if not case.axis:
        assert_close(call(case, *(float(x[0]) for x in args)), expected[0])
        scalar = call(case, args[0], float(args[1][0]), *args[2:])
        assert_close(scalar[0], expected[0])
        field = [float(x[0]) for x in args[2:]]
        assert_close(call(case, *args[:2], *field)[0], expected[0])
    if case.optional_targets:
        assert_close(call(case, args[0]), call(case, args[0], 0 * args[0]))
    whole = np.round(args[1]) + 1
    integers = call(case, args[0], whole.astype(np.int32), *args[2:])
    assert_close(integers, call(case, args[0], whole, *args[2:]))


@law
def hyperparameters_broadcast_and_trace(case: Case) -> None:
    """An array of hyperparameters gives each element its own; tracing one changes nothing."""
    args = arrays(case, shape=(2, 3))
    for name, value in case.options.items():
        if isinstance(value, bool) or case.axis:
            continue
        values = jnp.asarray([value, 0.9 * value, 1.1 * value], jnp.float32)
        columns = [call(case, *args, **{name: v})[:, i] for i, v in enumerate(values)]
        expected = jnp.stack(columns, axis=1)
        assert_close(call(case, *args, **{name: values}), expected)

        def column(value: Any, *args: Any, name: str = name) -> Any:
            return call(case, *args, **{name: value})

        traced = jax.vmap(column, (0, *[1] * len(args)), 1)
        assert_close(traced(values, *args), expected)


@law
def outside_the_domain_is_nan(case: Case) -> None:
    """In value and in every gradient, whatever is differentiated."""
    for where, bad in case.outside:
        args = arrays(case, shape=(3,) if not case.axis else (1, 3))
        options = {}
        if isinstance(where, str):
            options[where] = bad
        else:
            args[where] = jnp.full_like(args[where], bad)
        assert np.all(np.isnan(call(case, *args, **options))), (where, bad)
        for slope in gradients(case, args, **options):
            assert np.all(np.isnan(slope)), (where, bad)


@law
def nan_is_never_hidden(case: Case) -> None:
    args = arrays(case, shape=(2, 3))
    for i in everywhere(case):
        dirty = list(args)
        dirty[i] = dirty[i].at[0].set(jnp.nan)
        losses = np.asarray(call(case, *dirty))
        slopes = gradients(case, dirty)
        assert np.all(np.isnan(losses[0]))
        assert np.all(np.isnan(slopes[0][0]))
        assert np.all(np.isfinite(losses[1]))
        assert np.all(np.isfinite(slopes[0][1]))


@law
def stated_subgradients(case: Case) -> None:
    for point, options, expected in case.stated:
        args = [jnp.float32(x) for x in point]
        value = functools.partial(call, case, **options)
        assert jax.grad(value, (0, 1))(*args) == expected
        for i, slope in enumerate(expected):
            tangents = [jnp.float32(i == j) for j in range(len(args))]
            assert jax.jvp(value, args, tangents)[1] == slope


@law
def exact_predictions_cost_nothing(case: Case) -> None:
    if not case.zero_when_exact:
        return
    predictions, targets, *rest = arrays(case)
    exact = np.asarray(call(case, predictions, predictions, *rest))
    assert np.all((exact >= 0) & (exact <= 1e-14))
    assert np.all(np.asarray(call(case, predictions, targets, *rest)) >= 0)


@law
def ordinary_function(case: Case) -> None:
    """Pickled by name, with its signature; hyperparameters by keyword only."""
    assert pickle.loads(pickle.dumps(case.loss)) is case.loss
    assert inspect.isfunction(case.loss)
    parameters = inspect.signature(case.loss).parameters
    assert list(parameters)[-3:] == ["where", "weights", "reduction"]
    for parameter in list(parameters.values())[max(2, len(case.data)) :]:
        assert parameter.kind is parameter.KEYWORD_ONLY
    assert parameters["reduction"].default == "none"


@law
def inside_other_transformations(case: Case) -> None:
    """`lax.scan`, `jax.checkpoint` and `jit` around a gradient."""
    args = arrays(case)

    def scanned(*args: Any) -> Any:
        def step(carry: Any, rows: Any) -> Any:
            return carry + jax.checkpoint(total(case))(*rows), None

        return jax.lax.scan(step, jnp.float32(0), args)[0]

    slopes = jax.jit(jax.grad(scanned, everywhere(case)))(*args)
    for got, expected in zip(slopes, gradients(case, args), strict=True):
        assert_close(got, expected)


@law
def shapes_are_refused_by_name(case: Case) -> None:
    predictions, targets, *rest = arrays(case, shape=(4, 1))
    flat, short = targets[:, 0], targets[:3]
    for bad in (flat, short):
        with pytest.raises(ValueError, match="predictions float32") as error:
            call(case, predictions, bad, *rest)
        assert f"targets float32{list(bad.shape)}" in str(error.value)
        with pytest.raises(ValueError, match="predictions float32"):
            jax.jit(functools.partial(call, case))(predictions, bad, *rest)
    for name in ("where", "weights"):
        value = jnp.ones((2, 2, 2, 2), bool if name == "where" else float)
        with pytest.raises(ValueError, match=f"{name} must be a scalar"):
            call(case, predictions, targets, *rest, **{name: value})
