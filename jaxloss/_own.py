"""The score of the right class and the best of the others, in one pass over the scores."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp


def _ordered(bits: jax.Array) -> jax.Array:
    """The bits of floats as integers of their order, and back; a negative NaN comes first."""
    integers = jnp.iinfo(bits.dtype)
    return bits ^ ((bits >> (integers.bits - 1)) & integers.max)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def own_and_best(
    axes: tuple[int, ...], x: jax.Array, hit: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The score where `hit` is true, and the largest other one, which is held constant.

    With the axes of the classes kept. Without others the best is -inf. A NaN among them may not
    be seen.
    """
    # As integers, whose reductions the compiler may reorder: those of floats go to a library on
    # CPU, before which the mask would be written to memory, or run number by number. In one
    # reduction, or XLA splits it and does the same.
    integer = jnp.int64 if x.dtype == jnp.float64 else jnp.int32
    start = jnp.full((), -jnp.inf, x.dtype)
    bits, least = (jax.lax.bitcast_convert_type(y, integer) for y in (x, start))
    columns = jnp.where(hit, bits, 0), jnp.where(hit, _ordered(least), _ordered(bits))
    own, best = jax.lax.reduce(
        columns,
        (jnp.zeros((), integer), _ordered(least)),
        lambda a, b: (a[0] + b[0], jnp.maximum(a[1], b[1])),
        axes,
    )
    own, best = (jax.lax.bitcast_convert_type(y, x.dtype) for y in (own, _ordered(best)))
    return jnp.expand_dims(own, axes), jnp.expand_dims(best, axes)


@own_and_best.defjvp
def _(axes: tuple[int, ...], primals: Any, tangents: Any) -> Any:
    own, best = own_and_best(axes, *primals)
    moved = jnp.sum(jnp.where(primals[1], tangents[0], 0), axes, keepdims=True)
    return (own, best), (moved, jnp.zeros_like(best))
