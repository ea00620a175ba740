"""Arrays that do not come of the data, sharded as the data are.

In a mesh of Explicit axes the sharding of an array is part of its type. Selections, sorts, the
carries of a loop and the branches of a `lax.cond` take arrays of one type only, and an array made
of a shape, as by `jnp.ones` or by a broadcast of a number, is whole on every device.
`jnp.zeros_like` and its kin make arrays of the type of their argument; this is for all others.
Without such a mesh these functions return what they are given.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.sharding import NamedSharding, PartitionSpec

Axes = tuple[int, ...]


def placed(x: jax.Array, mesh: Any, spec: PartitionSpec) -> jax.Array:
    """`x`, distributed over a mesh of Explicit axes as the spec says."""
    if jax.typeof(x).sharding.spec == spec:
        return x
    return jax.sharding.reshard(x, NamedSharding(mesh, spec))


def sharded_like(x: jax.Array, data: jax.Array, without: Axes = ()) -> jax.Array:
    """`x`, sharded as `data` is.

    Args:
        x: Of the shape of `data` without some of its axes.
        data: What the user gave, or what was computed of it.
        without: The axes that `x` lacks.
    """
    kind, lacking = jax.typeof(data).sharding, {i % data.ndim for i in without}
    names = (name for i, name in enumerate(kind.spec) if i not in lacking)
    return placed(x, kind.mesh, PartitionSpec(*names))


def whole_along(x: jax.Array, axes: Axes) -> jax.Array:
    """`x`, gathered along axes whose entries meet each other."""
    kind, gathered = jax.typeof(x).sharding, {i % x.ndim for i in axes}
    names = (None if i in gathered else name for i, name in enumerate(kind.spec))
    return placed(x, kind.mesh, PartitionSpec(*names))


def alike(arrays: Sequence[jax.Array]) -> list[jax.Array]:
    """Arrays of one shape: those that are whole on every device, sharded like one that is not."""
    sharded = [any(jax.typeof(x).sharding.spec) for x in arrays]
    if not any(sharded) or all(sharded):
        return list(arrays)
    first = arrays[sharded.index(True)]
    return [x if own else sharded_like(x, first) for x, own in zip(arrays, sharded, strict=True)]


def by_rows(function: Callable[[Any], Any], data: Any, axis: int = 0) -> Any:
    """A function of rows that never meet: each device applies it to the rows that it has.

    For loops over blocks of rows, whose slices would gather rows of other devices. In a mesh of
    Auto axes, of which types say nothing, the function itself has to see to it: see `parts`.

    Args:
        function: Takes a tree like `data`, of any number of rows; returns a tree of arrays that
            have as many.
        data: A tree of arrays.
        axis: The axis of the rows in all arrays, 0 or -1.
    """
    kind = jax.typeof(jax.tree.leaves(data)[0]).sharding
    name = kind.spec[axis]
    if name is None:
        return function(data)

    def spec(x: Any) -> PartitionSpec:
        names = [None] * x.ndim
        names[axis] = name
        return PartitionSpec(*names)

    data = jax.tree.map(lambda x: placed(x, kind.mesh, spec(x)), data)
    # Of all rows, as if they were on one device: the results have the ranks of those of some.
    plain = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), data)
    given, found = (jax.tree.map(spec, x) for x in (plain, jax.eval_shape(function, plain)))
    return jax.shard_map(function, in_specs=(given,), out_specs=found)(data)


def parts(rows: Any) -> int:
    """In how many parts of one size a loop over blocks of rows is to split the rows of an array.

    A trace in a mesh of Auto axes does not know on which devices they lie. If each block has some
    rows of each part, no device asks another for rows. 1 where a device has the rows to itself: on
    a machine of one device, in `by_rows`, and in a `shard_map` of the user's.

    Args:
        rows: How many there are.
    """
    if not isinstance(rows, int) or jax.sharding.get_abstract_mesh().manual_axes:
        return 1
    return math.gcd(rows, jax.device_count())
