"""All that is done for the sake of one compiler, XLA on CPU, and the plain form of each of it.

XLA on CPU hands a sum or a maximum of floats to a library that reads one stored array: a selection,
or an array that is used elsewhere too, is written to memory first. It computes what two operations
share once and stores it, and its sorts of pairs are slow. On GPUs and TPUs none of this holds, and
there what helps a CPU costs whole passes over device memory: every function here has a plain form
for all other platforms, chosen when a program is lowered.

`benchmarks/tricks.py` measures what each of them is worth; the figures are times of the plain form
over those of the form for CPUs, in the rows that are named.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def _either(cpu: Callable[..., Any], plain: Callable[..., Any], *args: Any) -> Any:
    """`cpu(*args)` in a program for a CPU, `plain(*args)` in one for any other platform.

    Both are traced. Functions of a module, not closures, are traced once for arrays of a type.
    """
    return jax.lax.platform_dependent(*args, cpu=cpu, default=plain)


@functools.cache
def _along(function: Callable[..., Any], axes: tuple[int, ...]) -> Callable[..., Any]:
    """A function of axes and arrays, with these axes: the same object each time."""
    return functools.partial(function, axes)


def _as_they_are(*arrays: jax.Array) -> tuple[jax.Array, ...]:
    return arrays


def _fenced(*arrays: jax.Array) -> tuple[jax.Array, ...]:
    return tuple(jax.lax.optimization_barrier(arrays))


def computed_anew(*arrays: jax.Array) -> tuple[jax.Array, ...]:
    """The arrays: what is computed of them is computed apart from what else is, not shared.

    For the slopes of an elementwise function, which share operations with its value. XLA on CPU
    would store these, and memory takes longer than arithmetic; on a GPU the barrier would split the
    value and the slopes, which one kernel computes, into two that each read the inputs.
    """
    return tuple(_either(_fenced, _as_they_are, *arrays))


def in_passes(cpu: Callable[..., Any], plain: Callable[..., Any], *args: Any) -> Any:
    """Sums over the classes of a row: on a CPU in two passes, the first of them for the largest.

    On other platforms in one, as `running.py` does it: there a pass over the row takes longer than
    arithmetic. XLA on CPU does not vectorise an exponential inside of a reduction.
    """
    return _either(cpu, plain, *args)


def nan_by_row(losses: jax.Array) -> jax.Array:
    """Losses, whose derivatives are NaN where they are: on a CPU; elsewhere see `nan_by_entry`."""
    return _either(_nan_where_nan, _as_it_is, losses)


def _nan_where_nan(losses: jax.Array) -> jax.Array:
    return losses * jnp.where(jnp.isnan(losses), jnp.nan, 1).astype(losses.dtype)


def nan_by_entry(slope: jax.Array, factor: jax.Array) -> jax.Array:
    """A slope of a term of a sum, times a factor that is 1 or NaN; on a CPU the slope.

    On a CPU, where a selection in each entry makes the gradient of `kl_divergence` at [8192, 1000]
    take twice as long, all slopes of a row are NaN where its sum is; see `nan_by_row`. On other
    platforms they would wait for that sum, and a second kernel would read the data again.
    """
    return _either(_first_of, jnp.multiply, slope, factor)


def _first_of(x: jax.Array, _: jax.Array) -> jax.Array:
    return x


def shared_or_apart(cpu: Callable[..., Any], plain: Callable[..., Any], *args: Any) -> Any:
    """A part of a value that its slopes have too: XLA on CPU computes it once and stores it.

    On other platforms the value has it in another form, or a GPU's compiler would store it too,
    which there takes longer than to compute it again.
    """
    return _either(cpu, plain, *args)


def at_once_or_again(cpu: Callable[..., Any], plain: Callable[..., Any], *args: Any) -> Any:
    """Sums of squares that may leave the range of floats: on a CPU again, if one of them did.

    On other platforms in one pass that keeps them in range: a condition on the data ends a kernel
    there, and what it chooses from reads them again.
    """
    return _either(cpu, plain, *args)


def difference_again(u: jax.Array, v: jax.Array) -> jax.Array:
    """u - v, computed again: XLA on CPU would store a difference that is used before."""
    u, v = computed_anew(u, v)
    return u - v


def at_most(size: Any, bound: int) -> bool:
    """Whether a size is at most `bound`: what is larger is computed in parts, or twice.

    A size that is symbolic, as in an export for batches of any size, is taken as small.
    """
    return not isinstance(size, int) or size <= bound


# A float32 array of up to this many numbers, 4 MiB, stays in the caches of a processor between two
# passes over it.
_CACHED = 2**20


def unlike_before(x: jax.Array, axes: Sequence[int]) -> float | None:
    """A bound on logits, for odds that a program computes a second time; None for the usual one.

    XLA merges equal operations and stores their result, and an array larger than the caches takes
    longer to read than to compute. A bound of one float less than the largest changes no result,
    but makes the operations unequal. On other platforms it changes nothing at all.
    """
    if not is_long(x.shape[axes[-1]]) or at_most(x.size, _CACHED):
        return None
    return np.nextafter(jnp.finfo(x.dtype).max, 0)


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
    forms = _along(_score_and_rival_of_bits, axes), _along(_score_and_rival_of_floats, axes)
    score, rival = _either(*forms, x, hit)
    return jnp.expand_dims(score, axes), jnp.expand_dims(rival, axes)


def _score_and_rival_of_floats(axes: tuple[int, ...], x: jax.Array, hit: jax.Array) -> Any:
    return tuple(
        jax.lax.reduce(
            (jnp.where(hit, x, 0), jnp.where(hit, -jnp.inf, x)),
            (jnp.zeros((), x.dtype), jnp.full((), -jnp.inf, x.dtype)),
            lambda a, b: (a[0] + b[0], jnp.maximum(a[1], b[1])),
            axes,
        )
    )


def _score_and_rival_of_bits(axes: tuple[int, ...], x: jax.Array, hit: jax.Array) -> Any:
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
    return tuple(jax.lax.bitcast_convert_type(y, x.dtype) for y in (score, rival))


@score_and_rival.defjvp
def _(axes: tuple[int, ...], primals: Any, tangents: Any) -> Any:
    score, rival = score_and_rival(axes, *primals)
    in_score = jnp.sum(jnp.where(primals[1], tangents[0], 0), axes, keepdims=True)
    return (score, rival), (in_score, jnp.zeros_like(rival))


# A long row is added up in this many columns, whose sums are then added: XLA on CPU vectorises
# that, and rounding errors grow less than in one sum of the row.
_GROUP = 8


def is_long(size: Any) -> bool:
    """Whether a row is: from this size on grouped sums are worth their groups."""
    return not at_most(size, 31)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def sums(axes: tuple[int, ...], *columns: jax.Array) -> tuple[jax.Array, ...]:
    """The sums of several arrays of one shape, in one pass."""
    grouped = axes == (columns[0].ndim - 1,) and is_long(columns[0].shape[-1])
    cpu = _grouped_sums if grouped else _along(_fenced_sums, axes)
    return tuple(_either(cpu, _along(_added, axes), *columns))


def _added(axes: tuple[int, ...], *columns: jax.Array) -> tuple[jax.Array, ...]:
    zeros = tuple(jnp.zeros((), x.dtype) for x in columns)
    return tuple(jax.lax.reduce(columns, zeros, _add_all, axes))


def _add_all(a: Sequence[jax.Array], b: Sequence[jax.Array]) -> tuple[jax.Array, ...]:
    return tuple(map(jnp.add, a, b))


def _fenced_sums(axes: tuple[int, ...], *columns: jax.Array) -> tuple[jax.Array, ...]:
    # The value and the slopes of a loss use different ones of the sums. Without the barrier XLA
    # splits this reduction into one for each of them, in two passes.
    return _fenced(*_added(axes, *columns))


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
    return sums(axes, *primals), tuple(jnp.sum(x, axes) for x in tangents)


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
    cpu, plain = (_along_all(form, axes, terms) for form in (_sum_of_second, _sum_of_first))
    return _either(cpu, plain, *args)


@functools.cache
def _along_all(function: Callable[..., Any], *first: Any) -> Callable[..., Any]:
    return functools.partial(function, *first)


def _sum_of_first(axes: tuple[int, ...], terms: Any, *args: jax.Array) -> jax.Array:
    return jnp.sum(terms[0](*args), axes)


def _sum_of_second(axes: tuple[int, ...], terms: Any, *args: jax.Array) -> jax.Array:
    # The barrier keeps the two sums apart: as one of all terms it would be another pass.
    (total,) = _fenced(jnp.sum(terms[1](*args), axes))
    careful = _along_all(_sum_of_first, axes, terms)
    # One sum of numbers is faster than one of truth values, and NaN if any of them is.
    return jax.lax.cond(jnp.isnan(jnp.sum(total)), careful, lambda *_: total, *args)


@jax.custom_jvp
def keep_out_of_sum(x: jax.Array) -> jax.Array:
    """`x`, computed in a loop of its own before it is summed.

    XLA on CPU hands a sum to a library together with the products, quotients and roots that it
    sums, and the library computes those ten times slower than XLA does. The library takes no
    selection: this one, which changes no value, keeps the computation of `x` in XLA.
    """
    return _either(_selected, _as_it_is, x)


def _selected(x: jax.Array) -> jax.Array:
    return jnp.where(jnp.isnan(x), jnp.nan, x)


def _as_it_is(x: jax.Array) -> jax.Array:
    return x


keep_out_of_sum.defjvp(lambda primals, tangents: (keep_out_of_sum(*primals), *tangents))


@jax.custom_jvp
def fuse_into_users(x: jax.Array) -> jax.Array:
    """An exponential or a quotient `x` < 2, computed in the loops of the operations that use it.

    XLA on CPU computes an exponential or a quotient that several operations use in a loop of its
    own, and stores it. A minimum, such as this one, which changes no value, it computes again in
    each of these operations.
    """
    return _either(_at_most_two, _as_it_is, x)


def _at_most_two(x: jax.Array) -> jax.Array:
    return jnp.minimum(x, 2)


fuse_into_users.defjvp(lambda primals, tangents: (fuse_into_users(*primals), *tangents))
