"""Laws of what goes in and comes out: derivatives, precision, NaN, and numbers out of a domain."""

from __future__ import annotations

import functools
from collections.abc import Callable
from operator import methodcaller
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from .kinds import REAL
from .subject import (
    SHAPE,
    DoesNotApply,
    Options,
    Subject,
    arrays,
    assert_close,
    at_entry,
    call,
    evaluated,
    filled,
    floats,
    given,
    knobs_of,
    program,
    shown,
)


def derivatives_are_those_of_the_value(subject: Subject) -> None:
    """Forward mode, reverse mode and finite differences agree, to second order, in float64."""
    # In data and hyperparameters.
    if subject.not_numerical:
        raise DoesNotApply(subject.not_numerical)
    knobs = {
        name: float(value)
        for name, value in knobs_of(subject.options).items()
        if name not in subject.not_differentiated
    }
    with jax.enable_x64(True):
        drawn = subject.draw(1, (2, 3))
        args = [jnp.asarray(drawn[i], jnp.float64) for i in subject.moved]

        def value(args: Any, knobs: Any) -> Any:
            return call(subject, *filled(map(jnp.asarray, drawn), subject.moved, args), **knobs)

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
        step, rng = 1e-5, np.random.default_rng(2)
        where = f"at {given(subject, drawn)}"
        for _ in range(2):
            direction = jnp.asarray(rng.normal(size=at.shape))
            weights = jnp.asarray(rng.normal(size=shape))
            run = functools.partial(derivatives, direction=back(direction), weights=weights)
            low, high = run(back(at - step * direction)), run(back(at + step * direction))
            _, forward, reverse, second = run(back(at))
            difference = (high[0] - low[0]) / (2 * step)
            near(difference, forward, f"finite differences and jax.jvp {where}")
            near(jnp.sum(reverse * direction), forward, f"jax.grad and jax.jvp {where}")
            difference = (high[2] - low[2]) / (2 * step)
            near(difference, second, f"differences of jax.grad and its jax.jvp {where}")


def near(got: Any, expected: Any, told: str) -> None:
    """Equal to 1e-6, absolutely and of each number."""
    got, expected = np.broadcast_arrays(np.asarray(got), np.asarray(expected))
    far = ~(np.abs(got - expected) <= 1e-6 * (1 + np.abs(expected)))
    assert not np.any(far), f"{told}: {shown(got[far])} and {shown(expected[far])}"


def half_precision(subject: Subject) -> None:
    """float16 and bfloat16 are computed in float32, with slopes in the dtype of their input."""
    args = arrays(subject)
    dtype = jnp.result_type(call(subject, *args))
    assert dtype == jnp.float32, f"float32 data give losses of {dtype}"
    for half in (jnp.bfloat16, jnp.float16):
        name = jnp.dtype(half).name
        low = floats(subject, args, methodcaller("astype", half))
        up = floats(subject, low, lambda x: x.astype(jnp.float32))
        losses, slopes = program(subject)(*low)
        same, _ = evaluated(subject, up)
        check_half(subject, losses, same, up, f"{name} data")
        mixed = call(subject, low[0], *up[1:])
        check_half(subject, mixed, same, up, f"{name} and float32 data")
        for i, slope in zip(subject.floating, slopes, strict=True):
            told = f"{name} data have a slope in {subject.names[i]} of {slope.dtype}"
            assert slope.dtype == half, told


def check_half(subject: Subject, found: Any, same: Any, up: Any, told: str) -> None:
    """As good as float32 can be, hence better than the plain formula in half precision."""
    assert found.dtype == jnp.float32, f"{told} give losses of {found.dtype}"
    told = f"{told}, and the same numbers in float32"
    assert_close(found, same, told, at_entry(subject, up))


def double_precision(subject: Subject) -> None:
    """float64 data give losses in float64, float32 data in float32 though JAX has 64 bits."""
    expected = call(subject, *arrays(subject))
    with jax.enable_x64(True):
        wide = floats(subject, subject.draw(), lambda x: x.astype(np.float64))
        losses = call(subject, *wide)
        assert losses.dtype == jnp.float64, f"float64 data give losses of {losses.dtype}"
        narrow = jax.eval_shape(functools.partial(call, subject), *subject.draw())
        told = f"float32 data give losses of {narrow.dtype} if JAX has 64 bits"
        assert narrow.dtype == jnp.float32, told
        mixed = jax.eval_shape(functools.partial(call, subject), wide[0], *subject.draw()[1:])
        told = f"float64 data beside float32 data give losses of {mixed.dtype}"
        assert mixed.dtype == jnp.float64, told
        losses, expected = np.asarray(losses), np.asarray(expected, float)
        near_float32 = np.abs(losses - expected) <= 1e-5 + 1e-4 * np.abs(expected)
        told = f"in float64 {shown(losses)}, and in float32 {shown(expected)}"
        assert np.all(near_float32), f"{told}, at {given(subject, wide)}"


def nan_is_never_hidden(subject: Subject) -> None:
    """A NaN in the data is a NaN in its own loss and slope, and in no other."""
    args = subject.draw()
    for i in subject.floating:
        dirty = list(args)
        dirty[i] = dirty[i].copy()
        dirty[i][0] = np.nan
        losses, slopes = evaluated(subject, dirty)
        told = f"a NaN in {subject.names[i]}"
        if subject.mixed:
            assert np.any(np.isnan(losses)), f"{told} does not show in the losses {shown(losses)}"
            continue
        assert np.all(np.isnan(losses[0])), f"{told} does not show in its loss {shown(losses[0])}"
        # A linear loss of a vector has a constant slope at the others.
        found = (np.any if subject.axis else np.all)(np.isnan(slopes[0][0]))
        assert found, f"{told} does not show in its slope {shown(slopes[0][0])}"
        for x in (losses, slopes[0]):
            assert np.all(np.isfinite(x[1:])), f"{told} is in the losses or slopes of others"


# Numbers of options, of which some lie in the domain and move what depends on the option.
TRIED = (0.0, 0.01, 0.2, 0.5, 0.9, 1.5, 3.0, 20.0, 1e3, -0.7, -1.5, -20.0, -1e3)


def numbers_of(subject: Subject) -> dict[str, Any]:
    """All options that are numbers: given as such, by a variant, or by default."""
    found = knobs_of(subject.defaults)
    for options in (*reversed(subject.variants), subject.options):
        found |= knobs_of(options)
    return found


def options_that_are_nan_show(subject: Subject) -> None:
    """A loss that depends on an option is NaN where that is, with its slope; not an excluded one.

    It depends on an option if another number of it gives another loss.
    """
    options = numbers_of(subject)
    if subject.mixed or not options:
        raise DoesNotApply("of losses with options that are numbers and one loss for each row")
    run = with_numbers(subject, options)
    rows = np.arange(SHAPE[0]) < 2
    keep = ~rows.reshape(-1, *[1] * (len(subject.shape(SHAPE[0])) - 1))
    everywhere = np.ones_like(keep)
    for name in options:
        # Options that are off by default are on only where they are tried.
        on = {k: v for k, v in options.items() if k == name or k in subject.options}
        try:
            losses, _ = run({**on, name: options[name]}, everywhere)
        except jax.errors.ConcretizationTypeError:
            # Of losses that keep the contract all options may be traced.
            if subject.takes("where", "weights", "reduction"):
                raise
            continue
        unknown, slopes = run({**on, name: np.nan}, everywhere)
        others = [run({**on, name: x}, everywhere)[0] for x in TRIED]
        depends = np.any([np.isfinite(x) & (x != losses) for x in others], 0)
        # A variant may read an option that the row does not.
        told = f"{name} changes no loss, at none of {TRIED}"
        assert np.any(depends) or name not in subject.options, told
        told = f"{name}=nan gives the losses {shown(unknown)}, of which those that depend on it"
        assert np.all(np.isnan(unknown[depends])), f"{told} should be NaN"
        for slope in slopes[:1]:
            slope = slope.reshape(*unknown.shape, -1)
            told = f"{name}=nan gives slopes that are not NaN: {shown(slope)}"
            assert np.all(np.any(np.isnan(slope), -1)[depends]), told
        if subject.takes("where") and subject.examples:
            unknown, slopes = run({**on, name: np.nan}, keep)
            for x in (unknown, *slopes):
                told = f"{name}=nan reaches what `where` excludes: {shown(x[rows])}"
                assert np.all(x[rows] == 0), told


def with_numbers(subject: Subject, numbers: Options) -> Callable[..., Any]:
    """Of options that are numbers and a mask, the losses and their slopes."""
    args = subject.draw()
    fixed = {name: value for name, value in subject.options.items() if name not in numbers}

    @functools.partial(jax.jit, static_argnames="names")
    def compute(where: Any, numbers: Any, names: Any) -> Any:
        masked = {"where": where} if subject.takes("where") and subject.examples else {}

        def of(trained: Any) -> Any:
            options = dict(zip(names, numbers, strict=True))
            data = filled(args, subject.floating, trained)
            losses = subject.loss(*data, **masked, **fixed, **options)
            return jnp.sum(losses), losses

        slopes, losses = jax.grad(of, has_aux=True)([args[i] for i in subject.floating])
        return losses, slopes

    def run(options: Options, where: Any) -> Any:
        numbers = [np.float32(x) for x in options.values()]
        return jax.tree.map(np.asarray, compute(where, numbers, names=tuple(options)))

    return run


def with_options(subject: Subject) -> Callable[[Any, Any], list[Any]]:
    """Of arguments and options, the losses and their derivatives in what has them.

    Compiled for the laws on what is outside a domain and at its ends.
    """

    def compute(args: Any, options: Any) -> Any:
        def of(trained: Any) -> Any:
            losses = call(subject, *filled(args, subject.moved, trained), **options)
            return jnp.sum(losses), losses

        slopes, losses = jax.grad(of, has_aux=True)([args[i] for i in subject.moved])
        return [losses, *slopes]

    if id(subject) not in _WITH_OPTIONS:
        _WITH_OPTIONS.clear()
        _WITH_OPTIONS[id(subject)] = subject, jax.jit(compute)
    return _WITH_OPTIONS[id(subject)][1]


_WITH_OPTIONS: dict[int, tuple[Subject, Any]] = {}


def of_few(subject: Subject) -> list[jax.Array]:
    """Arguments of one vector, or of elements: the last have no error, and an infinite one."""
    if subject.mixed:
        return arrays(subject)
    args = arrays(subject, shape=(8,) if not subject.axis else (1, 3))
    if not subject.axis and subject.data[:2] == (REAL, REAL):
        args[0] = args[0].at[6:].set(jnp.stack([args[1][6], jnp.inf]))
    return args


def traced(options: Options) -> dict[str, jax.Array]:
    """The numbers of options as arrays."""
    # An option that is off by default is on only where it is tried.
    return {name: jnp.float32(x) for name, x in options.items() if x is not None}


def outside_the_domain_is_nan(subject: Subject) -> None:
    """A number outside its domain, such as a label of no class, is a NaN in loss and slopes."""
    tried = subject.tried_outside()
    if not tried:
        raise DoesNotApply("no argument has numbers outside its domain, as class numbers have")
    valid, numbers = of_few(subject), subject.numbers()
    for where, bad in tried:
        args, options = list(valid), dict(numbers)
        name = where
        if isinstance(where, str):
            options[where] = bad
        else:
            name = subject.names[where]
            args[where] = jnp.full_like(args[where], bad)
        for found in with_options(subject)(args, traced(options)):
            assert np.all(np.isnan(found)), (
                f"{name}={bad:g} is outside the domain, and should give NaN, not {shown(found)}, "
                f"at {given(subject, args, **options)}"
            )


LAWS = (
    derivatives_are_those_of_the_value,
    half_precision,
    double_precision,
    nan_is_never_hidden,
    options_that_are_nan_show,
    outside_the_domain_is_nan,
)
