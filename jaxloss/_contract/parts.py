"""A batch in parts, taken one after the other, and what is added over parts and devices."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

from .._numerics.varying import summed, varying, varying_axes
from . import inputs
from .reduce import Mean

Names: TypeAlias = Hashable | Sequence[Hashable] | None


@dataclass(frozen=True)
class Batch:
    """The arrays of a batch, in parts.

    Attributes:
        arrays: A tree of arrays.
        number: That of the parts.
        axis: The axis of the parts in all arrays.
    """

    arrays: Any
    number: int
    axis: int

    def part(self, m: Any) -> Any:
        def of_one(x: Any) -> Any:
            return jax.lax.dynamic_index_in_dim(x, m, self.axis, keepdims=False)

        return jax.tree.map(of_one, self.arrays)

    def map(self, function: Callable[[Any], Any]) -> Any:
        """What a function returns of each part, along a new leading axis."""
        parts = jnp.arange(self.number)
        return jax.lax.scan(lambda _, m: (None, function(self.part(m))), None, parts)[1]

    def gradient(
        self, function: Callable[..., Any], params: Any, slopes: Callable[[Any], Any], start: Any
    ) -> tuple[Any, Any, Any]:
        """The gradient of what a function returns, added up over the parts.

        Args:
            function: Of the parameters and a part; returns floating-point arrays, and others.
            params: What to differentiate in.
            slopes: Those of the loss in what the function returns of the part of a number.
            start: What the gradient is added to.

        Returns:
            The gradient, and what the function returns of each part.
        """

        def step(gradient: Any, m: Any) -> tuple[Any, Any]:
            part = self.part(m)
            found, pull, aux = jax.vjp(lambda x: function(x, part), params, has_aux=True)
            (more,) = pull(jax.tree.map(as_slope, slopes(m), found))
            gradient = jax.tree.map(lambda x, y: x + y.astype(x.dtype), gradient, more)
            return gradient, (found, aux)

        gradient, (found, aux) = jax.lax.scan(step, start, jnp.arange(self.number))
        return gradient, found, aux


def split(function: str, others: Mapping[int, Any], number: int | None, option: str) -> Batch:
    """The arguments by position that are a batch, in parts.

    Args:
        function: The name of the function that takes them, for messages.
        others: The arguments, by their places.
        number: That of the parts; None if the leading axes are that of the parts.
        option: The name of that number.
    """
    found, arrays = number, []
    leaves, tree = jax.tree_util.tree_flatten_with_path(dict(others))
    for (place, *path), value in leaves:
        name = f"argument {place.key} of {function}{jax.tree_util.keystr(tuple(path))}"
        array = inputs.as_array(name, value)
        array = jnp.asarray(array.numbers if isinstance(array, inputs.Wide) else array)
        if not array.ndim:
            got = inputs.kind_of(array)
            raise ValueError(
                f"{name} must have a leading axis of examples, got {got}; what is the same for "
                "all goes by keyword"
            )
        found = len(array) if found is None else found
        rows, left = divmod(len(array), found)
        got = f"got {inputs.kind_of(array)}"
        if number is None and len(array) != found:
            raise ValueError(f"{name} must have a leading axis of {found} {option}, {got}")
        if left:
            raise ValueError(
                f"{option} must divide the leading axis of {name}, got {number} and "
                f"{inputs.kind_of(array)}; fill up with examples that where excludes"
            )
        if number is not None:
            devices = _devices(array)
            if rows % devices:
                raise ValueError(
                    f"a part of {name} must divide by the {devices} devices that its examples are "
                    f"on, {got} for {number} {option}"
                )
            array = in_parts(array, number)
        arrays.append(array)
    if not arrays:
        raise ValueError(f"{function} must be given a batch by position, after its parameters")
    assert found is not None
    return Batch(jax.tree.unflatten(tree, arrays), found, axis=0 if number is None else 1)


def _devices(x: jax.Array) -> int:
    """On how many devices the rows are, as far as the type of an array says."""
    kind = jax.typeof(x).sharding
    names = kind.spec[0] or ()
    names = names if isinstance(names, tuple) else (names,)
    return math.prod(kind.mesh.shape[name] for name in names)


def in_parts(x: jax.Array, number: int) -> jax.Array:
    """Rows in parts, on the second axis: each part has some of the rows of each device."""
    return x.reshape(len(x) // number, number, *x.shape[1:])


def joined(x: jax.Array) -> jax.Array:
    """The rows of all parts, which are on the first axis, in the order in which they came."""
    if x.ndim < 2:
        got = inputs.kind_of(x[0])
        raise ValueError(f"encode must return arrays with a leading axis of examples, got {got}")
    return x.swapaxes(0, 1).reshape(-1, *x.shape[2:])


def apart(tree: Any) -> tuple[Any, Any]:
    """A tree of floating-point arrays, and one of the others, with None where others are."""
    tree = jax.tree.map(jnp.asarray, tree)
    return (
        jax.tree.map(lambda x: x if differentiable(x) else None, tree),
        jax.tree.map(lambda x: None if differentiable(x) else x, tree),
    )


def together(floating: Any, others: Any) -> Any:
    return jax.tree.map(
        lambda x, y: y if x is None else x, floating, others, is_leaf=lambda x: x is None
    )


def differentiable(x: jax.Array) -> bool:
    return jnp.issubdtype(x.dtype, jnp.inexact)


def wide(dtype: Any) -> Any:
    """The dtype of sums: float32 at least."""
    kept = jnp.issubdtype(dtype, jnp.inexact) and jnp.finfo(dtype).bits >= 32
    return dtype if kept else jnp.float32


def as_slope(slope: jax.Array, x: jax.Array) -> jax.Array:
    """The derivative in an array, in the type of the array."""
    return varying(slope.astype(x.dtype), varying_axes(x))


def added(means: Any, names: tuple[Hashable, ...]) -> Any:
    """Means of each part, added over parts and devices."""
    return jax.tree.map(lambda x: summed(jnp.sum(x, 0), names), means)


def gathered(aux: Any, names: tuple[Hashable, ...]) -> Any:
    """What a loss returns besides, of each part: means are added."""

    def of_one(x: Any) -> Any:
        return added(wide_mean(x), names) if isinstance(x, Mean) else x

    return jax.tree.map(of_one, aux, is_leaf=lambda x: isinstance(x, Mean))


def finished(gradient: Any, params: Any, names: tuple[Hashable, ...], direct: Any = None) -> Any:
    """The gradient, added over the devices, in the dtypes of the parameters.

    Args:
        gradient: That of each device.
        params: The parameters. Of one that is known to vary each device has its own.
        names: The axes of the devices.
        direct: What is added to the sum, of the loss in the parameters themselves.
    """

    def of_one(slope: Any, x: Any, more: Any = None) -> Any:
        slope = summed(slope, [axis for axis in names if axis not in varying_axes(x)])
        return (slope if more is None else slope + more.astype(slope.dtype)).astype(x.dtype)

    trees = (gradient, params) if direct is None else (gradient, params, direct)
    return jax.tree.map(of_one, *trees)


def count(name: str, value: Any) -> int:
    message = f"{name} must be a positive integer, got {inputs.shown(value)}"
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(message) from None
    if isinstance(value, bool) or number < 1:
        raise (TypeError if isinstance(value, bool) else ValueError)(message)
    return number


def axis_names(axis_name: Names) -> tuple[Hashable, ...]:
    if axis_name is None:
        return ()
    return tuple(axis_name) if isinstance(axis_name, list | tuple) else (axis_name,)


def check_axes(names: tuple[Hashable, ...]) -> None:
    for name in names:
        try:
            jax.lax.psum(1, name)
        except NameError:
            raise ValueError(
                f"axis_name {name!r} is no axis of a jax.shard_map or a jax.vmap around this call"
            ) from None


def places_of(argnums: int | Sequence[int], number: int) -> tuple[int, ...]:
    """Which arguments by position to differentiate in, counted from the first."""
    places = []
    for place in (argnums,) if isinstance(argnums, int) else argnums:
        if not -number <= place < number:
            got = f"got {number} by position"
            raise ValueError(f"argnums names argument {place}, which is not there: {got}")
        places.append(place % number)
    return tuple(places)


def parameters(name: str, tree: Any) -> Any:
    """Arrays that can be differentiated in."""

    def of_one(path: Any, value: Any) -> jax.Array:
        where = f"{name}{jax.tree_util.keystr(path)}"
        array = jnp.asarray(inputs.as_array(where, value))
        if not differentiable(array):
            got = inputs.kind_of(array)
            raise TypeError(f"{where} must be floating-point to be differentiated in, got {got}")
        return array

    return jax.tree_util.tree_map_with_path(of_one, tree)


def pair(function: str, found: Any) -> tuple[Any, Any]:
    if not isinstance(found, tuple) or len(found) != 2:
        got = inputs.shown(found)
        raise TypeError(f"{function} must return a pair, as has_aux says, got {got}")
    return found


def checked_means(function: str, found: Any, *, tree: bool = False) -> Any:
    """The `Mean` of numbers that a function returned, or the tree of them, in float32 at least."""

    def of_one(mean: Any) -> Mean:
        if not isinstance(mean, Mean):
            what = "a tree of jaxloss.Mean" if tree else "a jaxloss.Mean"
            got = f"got {inputs.shown(mean)}; Mean.of(loss, ...) makes one"
            raise TypeError(f"{function} must return {what}, {got}")
        mean = wide_mean(mean)
        if mean.total.shape or mean.weight.shape:
            got = inputs.described(total=mean.total, weight=mean.weight)
            raise TypeError(f"{function} must return a Mean of numbers, got {got}")
        return mean

    if not tree:
        return of_one(found)
    return jax.tree.map(of_one, found, is_leaf=lambda x: isinstance(x, Mean))


def wide_mean(mean: Mean) -> Mean:
    """The mean, in float32 at least."""

    def of_one(name: str, part: Any) -> jax.Array:
        array = inputs.real(name, part)
        return array.astype(wide(array.dtype))

    return Mean(of_one("the total of a Mean", mean.total), of_one("its weight", mean.weight))


def checked_number(function: str, found: Any) -> jax.Array:
    array = inputs.floating(f"what {function} returns", found)
    inputs.check_shape(array, (), f"{function} must return one number, got {inputs.kind_of(array)}")
    return array
