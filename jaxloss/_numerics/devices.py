"""What the arrays of several devices make together, inside of a `shard_map` or a named `vmap`.

Axis names of None stand for one device, on which each of these is what it is given. All are linear
or constant under differentiation, so that JAX transposes them.

In a `shard_map` the axes over whose devices an array varies are part of its type. The branches of a
`lax.cond` and the carries of a loop take arrays of one type only: `varying` makes them so.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import jax
import jax.numpy as jnp

AxisName = Hashable | None


def axes_of(tree: Any) -> tuple[Hashable, ...]:
    """The mesh axes over whose devices an array of a tree is known to vary."""
    found: frozenset[Any] = frozenset()
    for x in jax.tree.leaves(tree):
        kind: Any = jax.typeof(x)
        # The newest JAX has it under another name than the oldest that is supported.
        axes = getattr(kind, "vma", None)
        found |= kind.manual_axis_type.varying if axes is None else axes
    return tuple(sorted(found, key=str))


def varying(tree: Any, axes: tuple[Hashable, ...]) -> Any:
    """The arrays of a tree, as arrays that vary over these axes too."""

    def cast(x: jax.Array) -> jax.Array:
        missing = tuple(axis for axis in axes if axis not in axes_of(x))
        return jax.lax.pcast(x, missing, to="varying") if missing else x

    return jax.tree.map(cast, tree) if axes else tree


def added(x: jax.Array, axis_name: AxisName) -> jax.Array:
    return x if axis_name is None else jax.lax.psum(x, axis_name)


def greatest(x: jax.Array, axis_name: AxisName) -> jax.Array:
    """The entrywise maximum, constant under differentiation; of conditions, whether one holds."""
    if axis_name is None:
        return jax.lax.stop_gradient(x)
    if x.dtype == bool:
        return jax.lax.pmax(x.astype(jnp.int32), axis_name) > 0
    return jax.lax.pmax(jax.lax.stop_gradient(x), axis_name)


def joined(x: jax.Array, axis: int, axis_name: AxisName) -> jax.Array:
    """The arrays of all devices, one after the other along an axis."""
    if axis_name is None:
        return x
    return jax.lax.all_gather(x, axis_name, axis=axis % x.ndim, tiled=True)


def place(axis_name: AxisName) -> jax.Array | int:
    """The number of this device among all."""
    return 0 if axis_name is None else jax.lax.axis_index(axis_name)
