"""The argument `axis_name`: over which devices of a `shard_map` a batch is spread."""

from __future__ import annotations

from collections.abc import Mapping

import jax

from .._numerics.devices import AxisName as AxisName
from .._numerics.devices import axes_of, names_of
from . import inputs


def check_axis_name(axis_name: AxisName, arrays: Mapping[str, jax.Array]) -> None:
    """Refuse a name that is none of an axis around the call, and arrays that are no device's own.

    Args:
        axis_name: One or more mesh axes, or a `vmap` axis; None for one device.
        arrays: Those of which each device has its own part, by name.
    """
    if axis_name is None:
        return
    try:
        if any(isinstance(name, int) for name in names_of(axis_name)):
            raise NameError  # To JAX the axis of an array.
        index = jax.lax.axis_index(axis_name)
    except (NameError, TypeError, ValueError):
        raise ValueError(
            f"axis_name must be an axis of a jax.shard_map, or of a jax.vmap, around the loss, "
            f"got {inputs.shown(axis_name)}, which is none there"
        ) from None
    for name, x in arrays.items():
        if set(axes_of(index)) - set(axes_of(x)):
            raise ValueError(
                f"{name} must be a part of the batch for each device of axis_name {axis_name!r}, "
                f"got the same {inputs.kind_of(x)} on all of them; see in_specs of jax.shard_map"
            )
