"""What the arrays of several devices make together, inside of a `shard_map` or a named `vmap`.

Axis names of None stand for one device, on which each of these is what it is given. All are linear
or constant under differentiation, so that JAX transposes them.

In a `shard_map` the axes over whose devices an array varies are part of its type. The branches of a
`lax.cond` and the carries of a loop take arrays of one type only: `varying` makes them so. The
gradient in an array that does not vary is added over the devices by JAX, at every use; in one that
is made varying it is each device's own. With `check_vma=False`, and under `jax.vmap`, types say
nothing: no array is known to vary.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
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


def varying(tree: Any, axes: Iterable[Hashable]) -> Any:
    """The arrays of a tree, as arrays that vary over these axes of a `shard_map` too."""
    manual = jax.sharding.get_abstract_mesh().manual_axes
    wanted = [axis for axis in axes if axis in manual]

    def cast(x: jax.Array) -> jax.Array:
        known = axes_of(x)
        missing: Any = tuple(axis for axis in wanted if axis not in known)
        return jax.lax.pcast(x, missing, to="varying") if missing else x

    return jax.tree.map(cast, tree) if wanted else tree


def varying_like(tree: Any, *like: Any) -> Any:
    """Arrays that do not come of the data, such as a loop starts from, varying as the data do.

    Args:
        tree: A tree of them.
        *like: Trees of the data.
    """
    return varying(tree, axes_of(like))


def all_varying(tree: Any) -> Any:
    """The arrays of a tree, varying over all axes over which one of them does."""
    return varying_like(tree, tree)


def summed(x: Any, axes: Iterable[Hashable]) -> Any:
    """The array, added over some axes, or over none."""
    names: Any = tuple(axes)
    return jax.lax.psum(x, names) if names else x


def names_of(axis_name: AxisName) -> tuple[Hashable, ...]:
    """One or more axes, or none."""
    if axis_name is None:
        return ()
    return axis_name if isinstance(axis_name, tuple) else (axis_name,)


def added(x: Any, axis_name: AxisName) -> Any:
    """The arrays of a tree, added over the devices."""
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
