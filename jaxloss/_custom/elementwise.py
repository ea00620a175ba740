"""Formulas of single elements."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, overload

import jax
import jax.numpy as jnp

from .._contract import prepared
from .._contract.calls import refusing
from .._contract.prepared import Hyper
from .._contract.reduce import Request
from .._numerics.kinks import closed_form
from .._numerics.sharding import sharded_like
from .formula import Domain, Formula, read
from .loss import RULED, Loss


@overload
def elementwise(
    fn: Callable[..., Any],
    *,
    derivative: Callable[..., Any] | None = None,
    domain: Domain = None,
    static: Sequence[str] = (),
) -> Callable[..., jax.Array]: ...


@overload
def elementwise(
    fn: None = None,
    *,
    derivative: Callable[..., Any] | None = None,
    domain: Domain = None,
    static: Sequence[str] = (),
) -> Callable[[Callable[..., Any]], Callable[..., jax.Array]]: ...


@refusing
def elementwise(
    fn: Any = None,
    *,
    derivative: Callable[..., Any] | None = None,
    domain: Domain = None,
    static: Sequence[str] = (),
) -> Callable[..., Any]:
    """A loss of your own, from its formula for one element.

        loss(*data, <hyperparameters>, where=None, weights=None, reduction="none")

    It keeps the contract of the losses here: data that do not fit are refused by name, half
    precision is computed in float32, an excluded entry has value 0 and gradient 0 whatever it
    holds, in every mode and order, and means are those of `jaxloss.reduce` and `jaxloss.Mean`.
    Its kinks are those of the formula, of `jnp.abs` and `jnp.maximum` for instance, unless there is
    a `derivative`.

    Args:
        fn: The formula: a function of arrays of one shape, in float32 or float64, which returns
            one loss for each element. What it takes by position are data: floating-point
            predictions, and any number of real arrays of their shape, or scalars. What it takes by
            keyword only are hyperparameters: numbers, or arrays that broadcast against the data;
            but settings, which no program can trace, if the default or the annotation is a bool, a
            string, a tuple, an `enum.Enum` or a function. None that is given to a parameter of
            default None is passed on. It is compiled: what it reads besides its arguments is read
            once. Without `fn` the result is a decorator.
        derivative: A function of the same arguments, which returns the slope in the predictions, or
            a tuple of slopes in the order of the parameters, data before hyperparameters, each of
            the shape of the loss or a number. A slope that is missing, or None, is JAX's own of
            `fn`. Second derivatives are those of the slopes.
        domain: For data or hyperparameters, by name, a function that says where their numbers are
            allowed: elsewhere the loss and its gradients are NaN.
        static: Further keywords that are settings.

    Returns:
        The loss, or a decorator. It has the name and the signature of `fn`, and pickles if `fn`
        does.

    Raises:
        TypeError: If `fn` takes `*args` or `**kwargs`, nothing by position, or an argument that
            every loss has, or if `derivative` takes other arguments.
        ValueError: If `domain` or `static` name an argument that is not there.

    Reference:
        `jax.custom_jvp`, which `derivative` becomes:
        https://docs.jax.dev/en/latest/notebooks/Custom_derivative_rules_for_Python_code.html.

    Example:
        >>> @elementwise
        ... def cubed(predictions, targets=0.0, *, scale=1.0):
        ...     return jnp.abs((predictions - targets) / scale) ** 3
        >>> cubed(jnp.array([1.0, jnp.nan]), scale=0.5, where=jnp.array([True, False]))
        Array([8., 0.], dtype=float32)
        >>> absolute = elementwise(lambda x: jnp.abs(x), derivative=lambda x: jnp.sign(x))
        >>> jax.grad(absolute)(0.0)
        Array(0., dtype=float32, weak_type=True)
    """
    options: dict[str, Any] = {"derivative": derivative, "domain": domain, "static": static}
    make = functools.partial(elementwise, **options)
    if fn is None:
        return make
    formula = read("elementwise", fn, derivative, domain, static, RULED)

    def loss(*args: Any, **kwargs: Any) -> jax.Array:
        given = formula.bound(args, kwargs)
        request = Request(*(given.pop(x.name) for x in RULED))
        return _reduced(formula, given, request)

    return Loss(make, formula, loss)


def _reduced(formula: Formula, given: dict[str, Any], request: Request) -> jax.Array:
    optional = [x for x in formula.data if given[x] is None and formula.is_optional(x)]
    data = [x for x in formula.data if x not in optional]
    hyper = {x: Hyper(given.pop(x), formula.domain_of(x), off=(None,)) for x in formula.hyper}
    record = prepared.elementwise({x: given.pop(x) for x in data}, request, hyper=hyper)
    for name, array in zip(data, record.data, strict=True):
        if name in formula.domain:
            record = record.inside(formula.inside(name, array))
    arrays = dict(zip([*data, *hyper], record.arrays, strict=True))
    given |= {name: None for name, x in arrays.items() if x is None}
    arrays = {name: x for name, x in arrays.items() if x is not None}
    losses = _evaluated(formula, arrays, given, record.shape, record.dtype)
    return record.reduced(sharded_like(losses, record.data[0]))


def _evaluated(
    formula: Formula,
    arrays: Mapping[str, jax.Array],
    fixed: Mapping[str, Any],
    shape: tuple[int, ...],
    dtype: Any,
) -> jax.Array:
    """The formula, with its derivative if it has one.

    Args:
        formula: The formula.
        arrays: Data and hyperparameters.
        fixed: What is no array.
        shape: That of the losses.
        dtype: Theirs.
    """
    call = formula.calling(tuple(arrays), fixed)
    wanted = f"one loss for each element, of shape {list(shape)}"

    def value(*at: jax.Array) -> jax.Array:
        return formula.returned(call(formula.function, at), shape, dtype, wanted)

    def slopes(*at: jax.Array) -> tuple[jax.Array, ...]:
        told = formula.slopes(call(formula.derivative, at))
        like = jax.ShapeDtypeStruct(shape, dtype)
        return tuple(
            formula.slope(name, told[name], like, number=True)
            if name in told
            else _slope(value, at, i)
            for i, name in enumerate(arrays)
        )

    core = value if formula.derivative is None else closed_form(slopes)(value)
    return core(*arrays.values())


def _slope(value: Callable[..., jax.Array], at: Sequence[jax.Array], place: int) -> jax.Array:
    """JAX's own slope of an elementwise function in one argument."""

    def moved(x: jax.Array) -> jax.Array:
        return value(*at[:place], x, *at[place + 1 :])

    return jax.jvp(moved, (at[place],), (jnp.ones_like(at[place]),))[1]
