"""Formulas of one vector."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from inspect import Parameter
from typing import Any, overload

import jax
import jax.numpy as jnp

from .._contract import inputs
from .._contract.calls import refusing
from .._contract.inputs import Axis
from .._contract.prepared import Hyper, Vectors, vectors
from .._contract.reduce import Request
from .._numerics.kinks import closed_form
from .._numerics.sharding import sharded_like
from .formula import Domain, Formula, check_known, check_names, read
from .loss import RULED, Loss, keyword


@overload
def over_axis(
    fn: Callable[..., Any],
    *,
    derivative: Callable[..., Any] | None = None,
    axis: Axis = -1,
    per_example: Sequence[str] = (),
    class_numbers: Sequence[str] = (),
    per_entry: Sequence[str] = (),
    domain: Domain = None,
    static: Sequence[str] = (),
) -> Callable[..., jax.Array]: ...


@overload
def over_axis(
    fn: None = None,
    *,
    derivative: Callable[..., Any] | None = None,
    axis: Axis = -1,
    per_example: Sequence[str] = (),
    class_numbers: Sequence[str] = (),
    per_entry: Sequence[str] = (),
    domain: Domain = None,
    static: Sequence[str] = (),
) -> Callable[[Callable[..., Any]], Callable[..., jax.Array]]: ...


@refusing
def over_axis(
    fn: Any = None,
    *,
    derivative: Callable[..., Any] | None = None,
    axis: Axis = -1,
    per_example: Sequence[str] = (),
    class_numbers: Sequence[str] = (),
    per_entry: Sequence[str] = (),
    domain: Domain = None,
    static: Sequence[str] = (),
) -> Callable[..., Any]:
    """A loss of your own over an axis, from its formula for one vector.

        loss(*data, <hyperparameters>, axis=-1, where=None, weights=None, reduction="none")

    The formula sees the vectors of one example; the loss takes any number of examples and drops the
    axis. It keeps the contract as a loss of `elementwise` does. Hyperparameters are numbers or one
    for each example.

    Args:
        fn: The formula: a function of vectors, in float32 or float64, which returns one number.
            What it takes by position are data, of one shape: floating-point predictions, then
            real arrays. What it takes by keyword only are hyperparameters and settings, as for
            `elementwise`. If it takes `where` by keyword only, a mask of the shape of the
            predictions excludes entries: `fn` gets it as a vector, True where an entry is there,
            and 0 for what is not. Without such a mask `fn` gets its default, or all True.
        derivative: A function of the same arguments, which returns the gradient in the
            predictions, a vector, or a tuple as for `elementwise`: vectors for vectors, numbers for
            numbers.
        axis: Where vectors lie unless a call says otherwise: an axis, several, whose entries make
            one vector, or None for all.
        per_example: The data, after the predictions, of which an example has one number.
        class_numbers: Those of which it has the number of an entry: integers. Outside
            [0, entries), or of an entry that the mask excludes, the loss is NaN, and `fn` gets
            the number of another entry.
        per_entry: The hyperparameters that are one vector for all examples, such as weights of
            classes.
        domain: As for `elementwise`.
        static: As for `elementwise`.

    Returns:
        The loss, or a decorator. It has the name and the signature of `fn`, and pickles if `fn`
        does.

    Raises:
        TypeError: As for `elementwise`.
        ValueError: If an option names an argument that is not there.

    Reference:
        `jax.vmap`, which takes the formula to all examples:
        https://docs.jax.dev/en/latest/_autosummary/jax.vmap.html.

    Example:
        >>> @over_axis
        ... def variance_of_error(predictions, targets, *, where=None):
        ...     return jnp.var(predictions - targets, where=where)
        >>> x, y = jnp.array([[1.0, 5.0, jnp.nan], [2.0, 2.0, 2.0]]), jnp.zeros((2, 3))
        >>> variance_of_error(x, y, where=jnp.isfinite(x))
        Array([4., 0.], dtype=float32)
        >>> entropy = over_axis(lambda x, label: -jax.nn.log_softmax(x)[label],
        ...                     class_numbers=["label"])
        >>> entropy(jnp.array([[2.0, 0.0, 1.0]]), [0], reduction="mean")
        Array(0.40761, dtype=float32)
    """
    lists = {"per_example": per_example, "class_numbers": class_numbers, "per_entry": per_entry}
    options: dict[str, Any] = {"derivative": derivative, "domain": domain, "static": static}
    make = functools.partial(over_axis, axis=axis, **lists, **options)
    if fn is None:
        return make
    added = (keyword("axis", axis, Axis), *RULED)
    formula = read("over_axis", fn, derivative, domain, static, added)
    layout = _layout(formula, **lists)

    def loss(*args: Any, **kwargs: Any) -> jax.Array:
        given = formula.bound(args, kwargs)
        axis, *ruled = (given.pop(x.name) for x in added)
        record, arrays = _prepared(formula, layout, given, axis, Request(*ruled))
        over_examples = _of_one(formula, tuple(arrays), given)
        for _ in record.shape:
            over_examples = jax.vmap(over_examples)
        losses = over_examples(*arrays.values()).astype(record.dtype)
        return record.reduced(sharded_like(losses, record.data[0], record.axes))

    return Loss(make, formula, loss, "axis")


@dataclass(frozen=True)
class _Layout:
    """How the arguments of a formula lie.

    Attributes:
        vectors: The data that are vectors.
        numbers: Those of which each example has a number.
        classes: Those of which it has the number of an entry.
        shared: The hyperparameters that are one vector for all.
    """

    vectors: tuple[str, ...]
    numbers: tuple[str, ...]
    classes: tuple[str, ...]
    shared: tuple[str, ...]


def _layout(formula: Formula, **lists: Sequence[str]) -> _Layout:
    lists = {option: check_names(option, names) for option, names in lists.items()}
    for option, names in lists.items():
        known = formula.hyper if option == "per_entry" else formula.data[1:]
        what = "hyperparameter" if option == "per_entry" else "further data"
        for name in names:
            check_known(f"{option}: {formula.name}", name, known, what)
    numbers, classes, shared = map(tuple, lists.values())
    vectors = tuple(x for x in formula.data if x not in (*numbers, *classes))
    return _Layout(vectors, numbers, classes, shared)


def _prepared(
    formula: Formula, layout: _Layout, given: dict[str, Any], axis: Axis, request: Request
) -> tuple[Vectors, dict[str, jax.Array]]:
    """The record of the vectors, and by name all arrays, of which the last axis is theirs.

    What is no array is left in `given`.
    """
    left_out = {x for x in formula.data if given[x] is None and formula.is_optional(x)}
    data = {x: given.pop(x) for x in layout.vectors if x not in left_out}
    rows = [x for x in formula.hyper if x not in layout.shared]
    hyper = {x: Hyper(given.pop(x), formula.domain_of(x), off=(None,)) for x in rows}
    record = vectors(data, axis, request, hyper=hyper)
    _check_mask(formula, record, next(iter(data)))
    lined = (_lined_up(x, record.axes) for x in record.data)
    arrays = dict(zip(data, lined, strict=True))
    for name in formula.data:
        if name in layout.numbers and name not in left_out:
            values = record.of_each(name, given.pop(name), data, "a number for each vector")
            arrays[name] = values.astype(record.dtype)
        elif name in layout.classes and name not in left_out:
            record, arrays[name] = _class_number(record, name, given.pop(name), data)
    arrays |= dict(zip(hyper, record.hyper, strict=True))
    there = _there(record)
    for name in layout.shared:
        if given[name] is not None:
            arrays[name] = _for_all(record, there, name, given.pop(name))
    given |= {name: None for name, x in arrays.items() if x is None}
    arrays = {name: x for name, x in arrays.items() if x is not None}
    for name in formula.domain.keys() & arrays.keys() - set(rows):
        inside = formula.inside(name, arrays[name])
        if inside.ndim > len(record.shape):
            inside = jnp.all(inside if there is None else inside | ~there, -1)
        record = record.inside(inside)
    if formula.selects:
        default = inspect.signature(formula.function).parameters["where"].default
        if there is not None:
            arrays["where"] = there
        elif default is Parameter.empty:
            arrays["where"] = jnp.ones_like(next(iter(arrays.values())), bool)
        else:
            given["where"] = default
    return record, arrays


def _check_mask(formula: Formula, record: Vectors, first: str) -> None:
    """Refuse a mask of entries, unless the formula takes one."""
    if formula.selects or record.request.where is None:
        return
    where = inputs.real("where", record.request.where)
    if where.ndim == record.data[0].ndim:
        got = inputs.described(**{first: record.data[0], "where": where})
        raise ValueError(
            f"where must be a scalar or have the rank of the loss, with its sizes or 1; expected "
            f"{list(record.shape)}, got {got}; to exclude entries, {formula.name} must take where"
        )


def _lined_up(x: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    """With the axes of the vectors as one axis, the last."""
    last = tuple(range(x.ndim - len(axes), x.ndim))
    x = x if axes == last else jnp.moveaxis(x, axes, last)
    if len(axes) == 1:
        return x
    outer, inner = x.shape[: x.ndim - len(axes)], x.shape[x.ndim - len(axes) :]
    return x.reshape(*outer, math.prod(inner))


def _there(record: Vectors) -> jax.Array | None:
    """Which entries are there, lined up; all those of an excluded vector, which reads 1."""
    if record.entries is None or record.where is None:
        return None
    return _lined_up(record.entries, record.axes) | ~record.where[..., None]


def _class_number(
    record: Vectors, name: str, value: Any, data: Mapping[str, Any]
) -> tuple[Vectors, jax.Array]:
    """The number of an entry of each vector; the domain of the loss is where the entry is there."""
    numbers = inputs.real(name, value, numbers=True)
    got = f"got {inputs.described(**{name: numbers})}"
    inputs.check_integers(numbers, f"{name} must be integers, the numbers of entries, {got}")
    numbers = record.of_each(
        name, numbers, data, "the number of an entry for each vector", nothing=0
    )
    size = math.prod(record.data[0].shape[i] for i in record.axes)
    index, known = inputs.class_index(numbers, size)
    there = _there(record)
    if there is not None:
        place = jax.lax.broadcasted_iota(jnp.int32, there.shape, there.ndim - 1)
        known &= jnp.any((place == index[..., None]) & there, -1)
        # One that is there: of one that is not a formula may have no derivative to turn NaN.
        index = jnp.where(known, index, jnp.argmax(there, -1).astype(jnp.int32))
    return record.inside(known), index


def _for_all(record: Vectors, there: jax.Array | None, name: str, value: Any) -> jax.Array:
    """A hyperparameter of one number for each entry, beside the vectors of every example."""
    array, data = inputs.real(name, value), _lined_up(record.data[0], record.axes)
    shape = tuple(record.data[0].shape[i] for i in record.axes)
    got = f"got {inputs.described(**{name: array})}"
    message = f"{name} must have shape {list(shape)}, a number for each entry, {got}"
    inputs.check_shape(array, shape, message)
    array = array.reshape(data.shape[-1]).astype(record.dtype)
    array = sharded_like(jnp.broadcast_to(array, data.shape), data)
    return array if there is None else jnp.where(there, array, 0)


def _of_one(
    formula: Formula, names: tuple[str, ...], fixed: Mapping[str, Any]
) -> Callable[..., jax.Array]:
    """The formula of one example, with its derivative if it has one.

    Args:
        formula: The formula.
        names: Those of its arrays.
        fixed: What is no array, by name.
    """
    call = formula.calling(names, fixed)

    def value(*at: jax.Array) -> jax.Array:
        got = call(formula.function, at)
        return formula.returned(got, (), at[0].dtype, "one number for the vectors of an example")

    def slopes(*at: jax.Array) -> tuple[Any, ...]:
        told = formula.slopes(call(formula.derivative, at))
        found: list[Any] = []
        for i, (name, x) in enumerate(zip(names, at, strict=True)):
            if not jnp.issubdtype(x.dtype, jnp.floating):
                found.append(0.0)
            elif name in told:
                found.append(formula.slope(name, told[name], x))
            else:
                found.append(jax.grad(value, i)(*at))
        return tuple(found)

    return value if formula.derivative is None else closed_form(slopes, axes=(0,))(value)
