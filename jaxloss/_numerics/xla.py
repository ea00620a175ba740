"""Several reductions in one pass over the classes.

XLA on CPU gives a sum or a maximum to a library that reads one stored array for each; what is
selected, or used by two of them, is written to memory first. A reduction of several arrays is
compiled together with what they are computed from.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from .kinks import closed_form


def _flipped(bits: jax.Array) -> jax.Array:
    """The bits of floats as integers of their order, and back."""
    integers = jnp.iinfo(bits.dtype)
    return bits ^ ((bits >> (integers.bits - 1)) & integers.max)


def _bits(x: jax.Array) -> jax.Array:
    return jax.lax.bitcast_convert_type(x, f"int{8 * x.dtype.itemsize}")


def ordered_bits(x: jax.Array) -> jax.Array:
    """Integers of the order of numbers, with -0 below 0 and NaN above inf."""
    return _flipped(_bits(x))


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def own_and_best(
    axes: tuple[int, ...], x: jax.Array, hit: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The score where `hit` is true, and the largest other one, which is held constant.

    With the axes of the classes kept. Without others the best is -inf; with a NaN among them it
    is NaN.
    """
    # As integers, whose reductions the compiler may reorder: those of floats go to a library on
    # CPU, before which the mask would be written to memory, or run number by number. In one
    # reduction, or XLA splits it and does the same.
    bits, least = _bits(x), _flipped(_bits(jnp.full((), -jnp.inf, x.dtype)))
    # 0 for -inf, and above all others a NaN of either sign.
    order = (_flipped(bits) - least).astype(f"uint{8 * x.dtype.itemsize}")
    own, best = jax.lax.reduce(
        (jnp.where(hit, bits, 0), jnp.where(hit, 0, order)),
        (jnp.zeros((), bits.dtype), jnp.zeros((), order.dtype)),
        lambda a, b: (a[0] + b[0], jnp.maximum(a[1], b[1])),
        axes,
    )
    best = _flipped(best.astype(bits.dtype) + least)
    own, best = (jax.lax.bitcast_convert_type(y, x.dtype) for y in (own, best))
    return jnp.expand_dims(own, axes), jnp.expand_dims(best, axes)


@own_and_best.defjvp
def _(axes: tuple[int, ...], primals: Any, tangents: Any) -> Any:
    own, best = own_and_best(axes, *primals)
    moved = jnp.sum(jnp.where(primals[1], tangents[0], 0), axes, keepdims=True)
    return (own, best), (moved, jnp.zeros_like(best))


# A row's sum is made of sums of this many: they are vectorised, and errors do not add up.
_GROUP = 8
LONG = 32


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def sums(axes: tuple[int, ...], *columns: jax.Array) -> tuple[jax.Array, ...]:
    """The sums of arrays of one shape."""
    *outer, size = columns[0].shape
    last = len(outer)
    if axes != (last,) or size < LONG:
        return _added(columns, axes)
    whole = size - size % _GROUP
    groups = [x[..., :whole].reshape(*outer, -1, _GROUP) for x in columns]
    totals = [jnp.sum(x, last) for x in _added(groups, (last + 1,))]
    if whole < size:
        ends = _added([x[..., whole:] for x in columns], axes)
        totals = [x + end for x, end in zip(totals, ends, strict=True)]
    return tuple(totals)


def _added(columns: Sequence[jax.Array], axes: tuple[int, ...]) -> tuple[jax.Array, ...]:
    zeros = tuple(jnp.zeros((), x.dtype) for x in columns)
    totals = jax.lax.reduce(tuple(columns), zeros, lambda a, b: tuple(map(jnp.add, a, b)), axes)
    # Behind a barrier, or XLA drops what the value does not need, and what the slopes do not, and
    # sees two passes where there was one.
    return jax.lax.optimization_barrier(totals)


@sums.defjvp
def _(axes: tuple[int, ...], primals: Any, tangents: Any) -> Any:
    return sums(axes, *primals), tuple(jnp.sum(x, axes) for x in tangents)


def difference(u: jax.Array, v: jax.Array) -> jax.Array:
    """u - v, computed again: XLA would write the difference that it had to memory."""
    u, v = jax.lax.optimization_barrier((u, v))
    return u - v


@closed_form(lambda x: (jnp.ones_like(x),))
def fenced(x: jax.Array) -> jax.Array:
    """`x`, behind a selection that XLA on CPU does not take into a sum.

    It hands a sum to a library, together with the products, quotients and roots before it, which
    that library computes ten times slower than XLA itself.
    """
    return jnp.where(jnp.isnan(x), jnp.nan, x)


def reused(x: jax.Array) -> jax.Array:
    """`x` < 2, an exponential or a quotient that several operations use.

    XLA on CPU would write it to memory between two loops; a minimum it computes within one.
    """
    return jnp.minimum(x, 2)
