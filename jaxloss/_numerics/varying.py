"""Arrays that differ from device to device inside a `jax.shard_map`, and those that do not.

The type of an array says over which axes of the mesh it varies. The gradient in one that does not
is added over the devices by JAX, at every use; in one that is made varying it is each device's own.
With `check_vma=False`, and under `jax.vmap`, types say nothing: no array is known to vary.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Any

import jax


def varying_axes(x: Any) -> frozenset[Hashable]:
    """The axes over which an array is known to vary."""
    kind: Any = jax.typeof(x)
    # JAX 0.8 has the axes themselves, later releases a record with them.
    found = getattr(kind, "manual_axis_type", None)
    return kind.vma if found is None else found.varying


def varying(x: Any, axes: Iterable[Hashable]) -> Any:
    """The array, as one that varies over some axes of a `jax.shard_map`, or of none."""
    known = varying_axes(x)
    manual = jax.sharding.get_abstract_mesh().manual_axes
    missing: Any = tuple(axis for axis in axes if axis in manual and axis not in known)
    return jax.lax.pcast(x, missing, to="varying") if missing else x


def summed(x: Any, axes: Iterable[Hashable]) -> Any:
    """The array, added over some axes."""
    names: Any = tuple(axes)
    return jax.lax.psum(x, names) if names else x
