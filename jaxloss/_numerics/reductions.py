"""Sums, maxima and entries of rows, in the forms that XLA on CPU compiles to fast programs.

Each has a plain form for all other platforms; see `xla.py`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from . import running, xla
from .devices import axes_of, varying
from .sharding import parts

# A float32 array of up to this many numbers, 4 MiB, stays in the caches of a processor between two
# passes over it.
_CACHED = 2**20


def unlike_before(x: jax.Array, axes: Sequence[int]) -> float | None:
    """A bound on logits, for odds that a program computes a second time; None for the usual one.

    XLA merges equal operations and stores their result, and an array larger than the caches takes
    longer to read than to compute. A bound of one float less than the largest changes no result,
    but makes the operations unequal. On other platforms it changes nothing at all.
    """
    if not is_long(x.shape[axes[-1]]) or xla.at_most(x.size, _CACHED):
        return None
    return np.nextafter(jnp.finfo(x.dtype).max, 0)


def _flipped(bits: jax.Array) -> jax.Array:
    """Integers in the order of the floats that have these bits; its own inverse."""
    integers = jnp.iinfo(bits.dtype)
    return bits ^ ((bits >> (integers.bits - 1)) & integers.max)


def ordered_bits(x: jax.Array) -> jax.Array:
    """Integers in the order of the numbers, with -0 below 0 and NaN above inf."""
    return _flipped(xla.bits(x))


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def score_and_rival(
    axes: tuple[int, ...], x: jax.Array, hit: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The score of the class where `hit` is true, and the largest of the others, held constant.

    Both keep the axes of the classes. Without other classes the rival is -inf; with a NaN among
    them it is NaN.
    """
    forms = xla.along(score_and_rival_of_bits, axes), xla.along(_score_and_rival_of_floats, axes)
    return tuple(xla.either(*forms, x, hit))


def _score_and_rival_of_floats(axes: tuple[int, ...], x: jax.Array, hit: jax.Array) -> Any:
    found = jax.lax.reduce(
        (jnp.where(hit, x, 0), jnp.where(hit, -jnp.inf, x)),
        (jnp.zeros((), x.dtype), jnp.full((), -jnp.inf, x.dtype)),
        lambda a, b: (a[0] + b[0], jnp.maximum(a[1], b[1])),
        axes,
    )
    return tuple(jnp.expand_dims(y, axes) for y in found)


def score_and_rival_of_bits(
    axes: tuple[int, ...], x: jax.Array, hit: jax.Array
) -> tuple[jax.Array, ...]:
    """`score_and_rival` in the form for CPUs, without its derivative."""
    # One reduction of integers, which XLA reorders and vectorises. Floats would be handed to a
    # library, after the masked scores are written to memory, or be reduced one by one; and two
    # reductions would read the scores twice.
    bits, least = xla.bits(x), _flipped(xla.bits(jnp.full((), -jnp.inf, x.dtype)))
    # Shifted, so that -inf is 0 and a NaN of either sign is above all numbers.
    order = (_flipped(bits) - least).astype(f"uint{8 * x.dtype.itemsize}")
    score, rival = jax.lax.reduce(
        (jnp.where(hit, bits, 0), jnp.where(hit, 0, order)),
        (jnp.zeros((), bits.dtype), jnp.zeros((), order.dtype)),
        lambda a, b: (a[0] + b[0], jnp.maximum(a[1], b[1])),
        axes,
    )
    rival = _flipped(rival.astype(bits.dtype) + least)
    found = (jax.lax.bitcast_convert_type(y, x.dtype) for y in (score, rival))
    return tuple(jnp.expand_dims(y, axes) for y in found)


def rival_and_ties(axes: tuple[int, ...], x: jax.Array, hit: jax.Array) -> tuple[jax.Array, ...]:
    """`score_and_rival`, and how many of the others are as large as the largest; constants."""
    forms = xla.along(_rival_then_ties, axes), xla.along(running.rival_and_ties, axes)
    return tuple(xla.in_passes(*forms, jax.lax.stop_gradient(x), hit))


def _rival_then_ties(axes: tuple[int, ...], x: jax.Array, hit: jax.Array) -> tuple[jax.Array, ...]:
    score, rival = score_and_rival_of_bits(axes, x, hit)
    first = ~(hit | (x < rival))
    ties = jnp.sum(first, axes, keepdims=True, dtype=jnp.int32)
    return score, rival, ties.astype(x.dtype)


@score_and_rival.defjvp
def _(axes: tuple[int, ...], primals: Any, tangents: Any) -> Any:
    score, rival = score_and_rival(axes, *primals)
    in_score = jnp.sum(jnp.where(primals[1], tangents[0], 0), axes, keepdims=True)
    return (score, rival), (in_score, jnp.zeros_like(rival))


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def entry_of(axes: tuple[int, ...], x: jax.Array, index: jax.Array, slope: jax.Array) -> jax.Array:
    """The entry of each row at an index along the axes.

    CPUs and GPUs read that entry alone; a TPU, which gathers slowly, the row. A compiled program
    whose rows are sharded along the axis gathers no data either; but the type of such an array, in
    a mesh of Explicit axes, has none for what is gathered.

    Args:
        axes: Those of a row.
        x: The rows.
        index: One for each row, which it has.
        slope: The derivative in each entry: 1 at the index, 0 at others; NaN in a row without any.
    """
    sharded = any(jax.typeof(x).sharding.spec[i] for i in axes)
    if len(axes) > 1 or sharded:
        return _selected_entry(axes, x, index, slope)
    x, index, slope = varying((x, index, slope), axes_of((x, index, slope)))
    whole, one = (xla.along(form, axes) for form in (_selected_entry, _gathered_entry))
    return jax.lax.platform_dependent(x, index, slope, tpu=whole, default=one)


def _selected_entry(
    axes: tuple[int, ...], x: jax.Array, index: jax.Array, slope: jax.Array
) -> jax.Array:
    del index
    return jnp.sum(jnp.where(slope == 0, 0, x), axes)


def _gathered_entry(
    axes: tuple[int, ...], x: jax.Array, index: jax.Array, slope: jax.Array
) -> jax.Array:
    del slope
    index = jnp.expand_dims(index, axes)
    return jnp.squeeze(jnp.take_along_axis(x, index, axes[0], mode="promise_in_bounds"), axes)


@entry_of.defjvp
def _(axes: tuple[int, ...], primals: Any, tangents: Any) -> Any:
    return entry_of(axes, *primals), jnp.sum(primals[2] * tangents[0], axes)


# A long row is added up in this many columns, whose sums are then added: XLA on CPU vectorises
# that, and rounding errors grow less than in one sum of the row.
_GROUP = 8


def is_long(size: Any) -> bool:
    """Whether a row is: from this size on grouped sums are worth their groups."""
    return not xla.at_most(size, 31)


def _may_be_grouped(x: jax.Array) -> bool:
    """Whether rows are long, and groups of them lie on one device each.

    Of 1000 classes on 8 devices each has 125, which are no whole groups: all would be gathered.
    """
    size = x.shape[-1]
    if not is_long(size) or jax.typeof(x).sharding.spec[-1]:
        return False
    devices = parts(size)
    return devices == 1 or size % (_GROUP * devices) == 0


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def sums(axes: tuple[int, ...], *columns: jax.Array) -> tuple[jax.Array, ...]:
    """The sums of several arrays of one shape, in one pass."""
    grouped = axes == (columns[0].ndim - 1,) and _may_be_grouped(columns[0])
    cpu = _grouped_sums if grouped else xla.along(_fenced_sums, axes)
    return tuple(xla.either(cpu, xla.along(_added, axes), *columns))


def _added(axes: tuple[int, ...], *columns: jax.Array) -> tuple[jax.Array, ...]:
    zeros = tuple(jnp.zeros((), x.dtype) for x in columns)
    return tuple(jax.lax.reduce(columns, zeros, _add_all, axes))


def _add_all(a: Sequence[jax.Array], b: Sequence[jax.Array]) -> tuple[jax.Array, ...]:
    return tuple(map(jnp.add, a, b))


def _fenced_sums(axes: tuple[int, ...], *columns: jax.Array) -> tuple[jax.Array, ...]:
    # The value and the slopes of a loss use different ones of the sums. Without the barrier XLA
    # splits this reduction into one for each of them, in two passes.
    return xla.fenced(*_added(axes, *columns))


def _grouped_sums(*columns: jax.Array) -> tuple[jax.Array, ...]:
    *outer, size = columns[0].shape
    last = len(outer)
    whole = size - size % _GROUP
    groups = [x[..., :whole].reshape(*outer, -1, _GROUP) for x in columns]
    totals = [jnp.sum(x, last) for x in _fenced_sums((last + 1,), *groups)]
    if whole < size:
        ends = _fenced_sums((last,), *(x[..., whole:] for x in columns))
        totals = [x + end for x, end in zip(totals, ends, strict=True)]
    return tuple(totals)


@sums.defjvp
def _(axes: tuple[int, ...], primals: Any, tangents: Any) -> Any:
    return sums(axes, *primals), _summed(axes, *tangents)


def _summed(axes: tuple[int, ...], *columns: jax.Array) -> tuple[jax.Array, ...]:
    return tuple(jnp.sum(x, axes, dtype=x.dtype) for x in columns)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def sums_of_pixels(axes: tuple[int, ...], *columns: jax.Array) -> tuple[jax.Array, ...]:
    """The sums of several arrays of one shape over other axes than the last.

    On a CPU in one pass. On other platforms each is a sum of its own, which the compiler puts
    together: for a reduction of several arrays along such axes a GPU stores all of them first.
    """
    return tuple(xla.either(xla.along(_fenced_sums, axes), xla.along(_summed, axes), *columns))


@sums_of_pixels.defjvp
def _(axes: tuple[int, ...], primals: Any, tangents: Any) -> Any:
    return sums_of_pixels(axes, *primals), _summed(axes, *tangents)


def sum_of_terms(
    axes: tuple[int, ...],
    terms: tuple[Callable[..., jax.Array], Callable[..., jax.Array]],
    *args: jax.Array,
) -> jax.Array:
    """The sum over `axes` of the first of two elementwise functions.

    The second is the same without selections: its sum is equal, or NaN. XLA on CPU hands it to its
    library as a whole, in one pass that stores nothing, and computes the first only if the sum of
    the second is NaN: `kl_divergence_with_log_targets` at [512, 32768] took 2.6 times as long.
    """
    cpu, plain = (xla.along(form, axes, terms) for form in (_sum_of_second, _sum_of_first))
    return xla.either(cpu, plain, *args)


def _sum_of_first(axes: tuple[int, ...], terms: Any, *args: jax.Array) -> jax.Array:
    return jnp.sum(terms[0](*args), axes)


def _sum_of_second(axes: tuple[int, ...], terms: Any, *args: jax.Array) -> jax.Array:
    # The barrier keeps the two sums apart: as one of all terms it would be another pass.
    (total,) = xla.fenced(jnp.sum(terms[1](*args), axes))
    careful = xla.along(_sum_of_first, axes, terms)
    # One sum of numbers is faster than one of truth values, and NaN if any of them is.
    return jax.lax.cond(jnp.isnan(jnp.sum(total)), careful, lambda *_: total, *args)
