"""What is written in another way than usual because XLA compiles it to faster programs on CPU.

XLA on CPU hands a sum or a maximum of floats to a library that reads one stored array: what is
selected, or used twice, is written to memory first. A reduction of several arrays at once, or of
integers, is compiled into one loop together with what it is computed from.
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
def score_and_rival(
    axes: tuple[int, ...], x: jax.Array, hit: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The score of the class where `hit` is true, and the largest other one, held constant.

    With the axes of the classes kept. Without other classes the rival is -inf; with a NaN among
    them it is NaN.
    """
    # As integers, in one reduction: XLA may reorder and vectorise reductions of integers. Those of
    # floats go to a library, after the masked scores are written to memory, or run number by
    # number; and two reductions are two passes.
    bits, least = _bits(x), _flipped(_bits(jnp.full((), -jnp.inf, x.dtype)))
    # 0 for -inf, and above all others a NaN of either sign.
    order = (_flipped(bits) - least).astype(f"uint{8 * x.dtype.itemsize}")
    score, rival = jax.lax.reduce(
        (jnp.where(hit, bits, 0), jnp.where(hit, 0, order)),
        (jnp.zeros((), bits.dtype), jnp.zeros((), order.dtype)),
        lambda a, b: (a[0] + b[0], jnp.maximum(a[1], b[1])),
        axes,
    )
    rival = _flipped(rival.astype(bits.dtype) + least)
    score, rival = (jax.lax.bitcast_convert_type(y, x.dtype) for y in (score, rival))
    return jnp.expand_dims(score, axes), jnp.expand_dims(rival, axes)


@score_and_rival.defjvp
def _(axes: tuple[int, ...], primals: Any, tangents: Any) -> Any:
    score, rival = score_and_rival(axes, *primals)
    in_score = jnp.sum(jnp.where(primals[1], tangents[0], 0), axes, keepdims=True)
    return (score, rival), (in_score, jnp.zeros_like(rival))


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
    # Behind a barrier. Value and slopes each need some of the sums only: without it XLA makes two
    # different reductions of this one, in two passes.
    return jax.lax.optimization_barrier(totals)


@sums.defjvp
def _(axes: tuple[int, ...], primals: Any, tangents: Any) -> Any:
    return sums(axes, *primals), tuple(jnp.sum(x, axes) for x in tangents)


def difference_again(u: jax.Array, v: jax.Array) -> jax.Array:
    """u - v, computed anew although the program has it: to reuse it XLA would store it."""
    u, v = jax.lax.optimization_barrier((u, v))
    return u - v


@closed_form(lambda x: (jnp.ones_like(x),))
def keep_out_of_sum(x: jax.Array) -> jax.Array:
    """`x`, computed in a loop of its own before it is summed.

    XLA on CPU hands a sum to a library together with the products, quotients and roots that are
    summed, and the library computes those ten times slower than XLA does. A selection, such as
    this one, which changes nothing, stays with XLA.
    """
    return jnp.where(jnp.isnan(x), jnp.nan, x)


def fuse_into_users(x: jax.Array) -> jax.Array:
    """`x` < 2, an exponential or a quotient, computed in the loop of the operations that use it.

    If several do, XLA on CPU computes an exponential or a quotient in a loop of its own and stores
    it; a minimum, such as this one, which changes nothing, it computes where it is used.
    """
    return jnp.minimum(x, 2)
