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
from jax.custom_derivatives import SymbolicZero


def _either(
    cpu: Callable[..., Any],
    plain: Callable[..., Any],
    *args: Any,
    gpu: Callable[..., Any] | None = None,
) -> Any:
    """`cpu(*args)` in a program for a CPU, `plain(*args)` in one for any other platform.

    All are traced. Functions of a module, not closures, are traced once for arrays of a type.

    Args:
        cpu: The form for CPUs.
        plain: The form for all other platforms.
        *args: What they take.
        gpu: The form for GPUs, if it is not the plain one.
    """
    on_gpu = {} if gpu is None else {"cuda": gpu, "rocm": gpu}
    return jax.lax.platform_dependent(*args, cpu=cpu, default=plain, **on_gpu)


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
    return tuple(_either(_fenced, _as_they_are, *arrays, gpu=_disguised))


@jax.custom_jvp
def _disguised(*arrays: jax.Array) -> tuple[jax.Array, ...]:
    """The arrays, in operations that XLA does not simplify.

    XLA on GPU overestimates what operations cost: those that a sum and a gradient share it computes
    in a kernel of their own and stores, unless they differ. LLVM, which compiles its kernels, sees
    that these change nothing and computes what is shared once. Without them log_cosh moved 2.33
    times its floor on an H100, with them 1.00.
    """
    return tuple(map(_flipped_twice, arrays))


def _flipped_twice(x: jax.Array) -> jax.Array:
    return jax.lax.bitcast_convert_type((_bits(x) ^ 1) ^ 1, x.dtype) if x.ndim else x


_disguised.defjvp(lambda primals, tangents: (_disguised(*primals), tuple(tangents)))


def apart(function: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """An elementwise function whose derivatives share no operation with its value, but on a CPU.

    For a function that computes something before, or beside, a `closed_form`, whose slopes do so
    by themselves on a GPU; and for one whose value and slopes a TPU too would compute in kernels of
    their own. See `_disguised`.
    """
    core = jax.custom_jvp(function)

    def rule(primals: tuple[jax.Array, ...], tangents: tuple[Any, ...]) -> Any:
        again = list(_either(_as_they_are, _disguised, *primals))
        moved = [i for i, x in enumerate(tangents) if not isinstance(x, SymbolicZero)]

        def of_moved(*some: jax.Array) -> jax.Array:
            filled = dict(enumerate(again)) | dict(zip(moved, some, strict=True))
            return function(*filled.values())

        at, towards = ([x[i] for i in moved] for x in (again, tangents))
        return core(*primals), jax.jvp(of_moved, at, towards)[1]

    core.defjvp(rule, symbolic_zeros=True)
    return functools.wraps(function)(core)


def in_passes(cpu: Callable[..., Any], plain: Callable[..., Any], *args: Any) -> Any:
    """Sums over the classes of a row: on a CPU in two passes, the first of them for the largest.

    On other platforms in one, as `running.py` does it: there a pass over the row takes longer than
    arithmetic. XLA on CPU does not vectorise an exponential inside of a reduction.
    """
    return _either(cpu, plain, *args)


# The most pairs of one row that are summed at once: from here on they are summed in a loop.
_PAIRS = 2**30


def looped(cpu: Callable[..., Any], plain: Callable[..., Any], size: Any, *args: Any) -> Any:
    """Sums over the pairs of each row: on a CPU in a loop, whose parts its caches hold.

    On other platforms over all pairs at once, in reductions that read the rows and compute the
    pairs: there each step of a loop launches kernels, of the ranking losses 8,700 to 11,300 for 256
    rows of 1,000, where these launch 9 to 14. A row of more than 2^30 pairs takes the loop there
    too.

    Args:
        cpu: The loop.
        plain: The sums over all pairs.
        size: Of a row.
        *args: Arrays of both functions, or trees of them.
    """
    return _either(cpu, plain, *args) if at_most(size * size, _PAIRS) else cpu(*args)


def unshared(tree: Any) -> Any:
    """The arrays of a tree: what is computed of them is not shared with what else is.

    For plain forms alone, of which several reductions compute the same pairs. XLA on GPUs would
    store what they share, such as which pairs count: 0.5 GB for 256 rows of 1,000.
    """
    return jax.lax.optimization_barrier(tree)


def stored(x: jax.Array) -> jax.Array:
    """A matrix of all pairs, of which many things are computed: it is stored, and not all of these.

    XLA for TPUs fuses what is computed of a product of matrices with the product, and stores each
    of its results: of the circle loss nineteen matrices were moved.
    """
    return jax.lax.optimization_barrier(x)


def in_steps(cpu: Callable[..., Any], plain: Callable[..., Any], *args: Any) -> Any:
    """Sums over a third index of pairs: on a CPU in a loop, of which a step has all pairs.

    On other platforms in one reduction of all terms, which a compiler computes as it adds them up;
    a loop there launches several kernels a step, and reads and writes all pairs in each. XLA on CPU
    would store the terms.
    """
    return _either(cpu, plain, *args)


def all_on_cpu(condition: jax.Array) -> jax.Array:
    """Whether a condition holds everywhere, for a `lax.cond` of a faster formula; false elsewhere.

    On other platforms XLA sees that the condition is false and removes the `lax.cond`. There the
    formula for all cases is as fast, and a branch would be a kernel of its own, which reads what it
    takes from memory and writes what it returns.
    """
    return _either(_all, _never, condition)


def _all(condition: jax.Array) -> jax.Array:
    return jnp.all(condition)


def _never(condition: jax.Array) -> jax.Array:
    del condition
    return jnp.asarray(False)


def of_pairs(cpu: Callable[..., Any], plain: Callable[..., Any], *args: Any) -> Any:
    """Sums over the pairs of a row's entries: on a CPU in a loop, over entries that it caches.

    On other platforms in one reduction, in which no pair is ever stored: each step of a loop is a
    kernel there, and reads all entries again. XLA on CPU would store the pairs.
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


def all_known(axes: tuple[int, ...], sums: jax.Array, known: jax.Array) -> jax.Array:
    """Whether all entries of a row are `known`, of which the sum is NaN if one is not.

    On a CPU the sum says it. On other platforms it is read off the entries: the slopes, which
    depend on it, would wait for the sum, and then read once more all that it is made of.
    """
    return _either(_along(_of_sum, axes), _along(_of_each, axes), sums, known)


def _of_sum(axes: tuple[int, ...], sums: jax.Array, known: jax.Array) -> jax.Array:
    del axes, known
    return ~jnp.isnan(sums)


def _of_each(axes: tuple[int, ...], sums: jax.Array, known: jax.Array) -> jax.Array:
    del sums
    return jnp.all(known, axes)


def in_rows(cpu: Callable[..., Any], plain: Callable[..., Any], *args: Any) -> Any:
    """What is computed of short rows, such as the four numbers of a box, and is of their shape.

    On a CPU from arrays of one number for each row, which are stacked at the end. Elsewhere from
    arrays of the shape of the rows, though each row is then computed once for each of its numbers:
    one kernel reads rows and writes rows, and what its numbers share it computes once. Of arrays
    of other shapes a GPU would store most: the gradient of GIoU moved 7.8 times its floor, for 1.
    """
    return _either(cpu, plain, *args)


def told_apart(*arrays: jax.Array) -> list[jax.Array]:
    """The arrays, plus a zero of which the compiler knows nothing.

    What is computed of them has, to the compiler, nothing in common with what else is computed of
    the arrays. On a GPU it then fuses each of the two wholly, and in the end both into one kernel,
    as they read the same. Of what two share it may find that storing it costs less: the gradients
    of box losses moved up to 17 times their floor, for 1.
    """
    zero = jax.lax.optimization_barrier(jnp.zeros((), arrays[0].dtype))
    return [x + zero for x in arrays]


def over_power(arrays: Any, power: jax.Array) -> Any:
    """Arrays divided by a power of two, which is exact.

    XLA on CPU stores a quotient that several operations use, and computes a product again in each
    of them: of boxes, 6 times slower. Elsewhere a product takes less time.
    """
    return _either(_divided, _multiplied, arrays, power)


def _divided(arrays: Any, power: jax.Array) -> Any:
    return jax.tree.map(lambda x: x / power, arrays)


def _multiplied(arrays: Any, power: jax.Array) -> Any:
    factor = 1 / power
    return jax.tree.map(lambda x: x * factor, arrays)


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
    return jax.lax.platform_dependent(
        x, index, slope, tpu=_along(_selected_entry, axes), default=_along(_gathered_entry, axes)
    )


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
    return sums(axes, *primals), _summed(axes, *tangents)


def _summed(axes: tuple[int, ...], *columns: jax.Array) -> tuple[jax.Array, ...]:
    return tuple(jnp.sum(x, axes) for x in columns)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def sums_of_pixels(axes: tuple[int, ...], *columns: jax.Array) -> tuple[jax.Array, ...]:
    """The sums of several arrays of one shape over other axes than the last.

    On a CPU in one pass. On other platforms each is a sum of its own, which the compiler puts
    together: for a reduction of several arrays along such axes a GPU stores all of them first.
    """
    return tuple(_either(_along(_fenced_sums, axes), _along(_summed, axes), *columns))


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
