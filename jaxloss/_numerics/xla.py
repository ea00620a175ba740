"""Operations written in an unusual form, which XLA compiles to faster programs on CPU.

XLA on CPU hands a sum or a maximum of floats to a library that reads one stored array: a selection,
or an array that is used elsewhere too, is written to memory first. A reduction of several arrays at
once, or of integers, is compiled into one loop together with the operations that compute them.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from .kinks import closed_form


def at_most(size: Any, bound: int) -> bool:
    """Whether a size is at most `bound`: what is larger is computed in parts, or twice.

    A size that is symbolic, as in an export for batches of any size, is taken as small.
    """
    return not isinstance(size, int) or size <= bound


def _flipped(bits: jax.Array) -> jax.Array:
    """Integers in the order of the floats that have these bits; its own inverse."""
    integers = jnp.iinfo(bits.dtype)
    return bits ^ ((bits >> (integers.bits - 1)) & integers.max)


def _bits(x: jax.Array) -> jax.Array:
    return jax.lax.bitcast_convert_type(x, f"int{8 * x.dtype.itemsize}")


def ordered_bits(x: jax.Array) -> jax.Array:
    """Integers in the order of the numbers, with -0 below 0 and NaN above inf."""
    return _flipped(_bits(x))


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def score_and_rival(
    axes: tuple[int, ...], x: jax.Array, hit: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The score of the class where `hit` is true, and the largest of the others, held constant.

    Both keep the axes of the classes. Without other classes the rival is -inf; with a NaN among
    them it is NaN.
    """
    # One reduction of integers, which XLA reorders and vectorises. Floats would be handed to a
    # library, after the masked scores are written to memory, or be reduced one by one; and two
    # reductions would read the scores twice.
    bits, least = _bits(x), _flipped(_bits(jnp.full((), -jnp.inf, x.dtype)))
    # Shifted, so that -inf is 0 and a NaN of either sign is above all numbers.
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


# A long row is added up in this many columns, whose sums are then added: XLA vectorises that, and
# rounding errors grow less than in one sum of the row.
_GROUP = 8


def is_long(size: Any) -> bool:
    """Whether a row is: from this size on grouped sums are worth their groups."""
    return not at_most(size, 31)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def sums(axes: tuple[int, ...], *columns: jax.Array) -> tuple[jax.Array, ...]:
    """The sums of several arrays of one shape, in one pass."""
    *outer, size = columns[0].shape
    last = len(outer)
    if axes != (last,) or not is_long(size):
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
    # The value and the slopes of a loss use different ones of the sums. Without the barrier XLA
    # splits this reduction into one for each of them, in two passes.
    return jax.lax.optimization_barrier(totals)


@sums.defjvp
def _(axes: tuple[int, ...], primals: Any, tangents: Any) -> Any:
    return sums(axes, *primals), tuple(jnp.sum(x, axes) for x in tangents)


def difference_again(u: jax.Array, v: jax.Array) -> jax.Array:
    """u - v, computed again: XLA would store a difference that it reuses, which takes longer."""
    u, v = jax.lax.optimization_barrier((u, v))
    return u - v


@closed_form(lambda x: (jnp.ones_like(x),))
def keep_out_of_sum(x: jax.Array) -> jax.Array:
    """`x`, computed in a loop of its own before it is summed.

    XLA on CPU hands a sum to a library together with the products, quotients and roots that it
    sums, and the library computes those ten times slower than XLA does. The library takes no
    selection: this one, which changes no value, keeps the computation of `x` in XLA.
    """
    return jnp.where(jnp.isnan(x), jnp.nan, x)


def fuse_into_users(x: jax.Array) -> jax.Array:
    """An exponential or a quotient `x` < 2, computed in the loops of the operations that use it.

    XLA on CPU computes an exponential or a quotient that several operations use in a loop of its
    own, and stores it. A minimum, such as this one, which changes no value, it computes again in
    each of these operations.
    """
    return jnp.minimum(x, 2)
