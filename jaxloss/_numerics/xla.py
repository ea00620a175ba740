"""All that is done for the sake of one compiler, XLA on CPU, and the plain form of each of it.

XLA on CPU hands a sum or a maximum of floats to a library that reads one stored array: a selection,
or an array that is used elsewhere too, is written to memory first. It computes what two operations
share once and stores it, and its sorts of pairs are slow. On GPUs and TPUs none of this holds, and
there what helps a CPU costs whole passes over device memory: every function here has a plain form
for all other platforms, chosen when a program is lowered.

`benchmarks/tricks.py` measures what each of them is worth, in the rows that it was written for; its
figures, with their date, are in `benchmarks/TRICKS.md`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from .devices import axes_of, varying


def either(
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
    axes = axes_of(args)
    if axes:
        args = varying(args, axes)
        cpu, plain = along(_varying, axes, cpu), along(_varying, axes, plain)
        gpu = gpu and along(_varying, axes, gpu)
    on_gpu = {} if gpu is None else {"cuda": gpu, "rocm": gpu}
    return jax.lax.platform_dependent(*args, cpu=cpu, default=plain, **on_gpu)


def _varying(axes: tuple[Hashable, ...], form: Callable[..., Any], *args: Any) -> Any:
    """A form whose results vary over all axes, as those of the other forms do: see `devices.py`."""
    return varying(form(*args), axes)


@functools.cache
def along(function: Callable[..., Any], *first: Any) -> Callable[..., Any]:
    """A function of settings, such as axes, and arrays, with these settings: always one object."""
    return functools.partial(function, *first)


def _as_they_are(*arrays: jax.Array) -> tuple[jax.Array, ...]:
    return arrays


def fenced(*arrays: jax.Array) -> tuple[jax.Array, ...]:
    return tuple(jax.lax.optimization_barrier(arrays))


def computed_anew(*arrays: jax.Array) -> tuple[jax.Array, ...]:
    """The arrays: what is computed of them is computed apart from what else is, not shared.

    For the slopes of an elementwise function, which share operations with its value. XLA on CPU
    would store these, and memory takes longer than arithmetic; on a GPU the barrier would split the
    value and the slopes, which one kernel computes, into two that each read the inputs.
    """
    return tuple(either(fenced, _as_they_are, *arrays, gpu=_disguised))


@jax.custom_jvp
def _disguised(*arrays: jax.Array) -> tuple[jax.Array, ...]:
    """The arrays, in operations that XLA does not simplify.

    XLA on GPU overestimates what operations cost: those that a sum and a gradient share it computes
    in a kernel of their own and stores, unless they differ. LLVM, which compiles its kernels, sees
    that these change nothing and computes what is shared once. Without them log_cosh moved 2.33
    times its floor on an H100, with them 1.00.
    """
    return tuple(map(_flipped_twice, arrays))


def _flipped_twice(x: jax.Array, flips: int = 1) -> jax.Array:
    if not x.ndim or not jnp.issubdtype(x.dtype, jnp.floating):
        return x
    return jax.lax.bitcast_convert_type((bits(x) ^ flips) ^ flips, x.dtype)


_disguised.defjvp(lambda primals, tangents: (_disguised(*primals), tuple(tangents)))


def computed_apart(*arrays: jax.Array) -> tuple[jax.Array, ...]:
    """The arrays: what is computed of them shares no operation with what else is, but on a CPU."""
    return tuple(either(_as_they_are, _disguised, *arrays))


def unshared_copies(count: int, *arrays: jax.Array) -> list[tuple[jax.Array, ...]]:
    """The arrays, so many times: what is computed of one copy is not shared with that of another.

    For the columns of one reduction, in plain forms without derivatives. Of `renyi_divergence` a
    GPU stored five arrays that several of eight columns need; see `_disguised`.
    """
    same = along(_copies, (0,) * count)
    return list(either(same, same, *arrays, gpu=along(_copies, tuple(range(1, count + 1)))))


def _copies(flips: tuple[int, ...], *arrays: jax.Array) -> list[tuple[jax.Array, ...]]:
    return [tuple(_flipped_twice(x, by) if by else x for x in arrays) for by in flips]


def apart(function: Callable[..., Any]) -> Callable[..., Any]:
    """An elementwise function whose derivatives share no operation with its value, but on a CPU.

    For a function that computes something before, or beside, a `closed_form`, whose slopes do so
    by themselves on a GPU; and for one whose value and slopes a TPU too would compute in kernels of
    their own. See `_disguised`.
    """
    core = jax.custom_jvp(function)

    def rule(primals: tuple[jax.Array, ...], tangents: tuple[Any, ...]) -> Any:
        again = list(computed_apart(*primals))
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
    return either(cpu, plain, *args)


def with_slopes_of_two_passes(
    cpu: Callable[..., Any], plain: Callable[..., Any]
) -> Callable[..., Any]:
    """`in_passes` of functions of axes and arrays, whose derivatives are those of the first."""

    @functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
    def sums(axes: tuple[int, ...], *arrays: jax.Array) -> Any:
        return in_passes(along(cpu, axes), along(plain, axes), *arrays)

    @sums.defjvp
    def _(axes: tuple[int, ...], primals: Any, tangents: Any) -> Any:
        moved = jax.jvp(functools.partial(cpu, axes), primals, tangents)[1]
        return sums(axes, *primals), moved

    return sums


# The most pairs of one row that are summed at once: from here on they are summed in a loop.
_PAIRS = 2**30


def unselected(cpu: Callable[..., Any], plain: Callable[..., Any], *args: Any) -> Any:
    """A formula with selections: elsewhere than on a CPU one without, if it takes more arithmetic.

    A GPU stores the condition of a selection that a sum and a gradient share, and reads the data
    once more for it: on an H100 `binary_dice_loss` moved 3.1 times its floor, for 2.0.
    """
    return either(cpu, plain, *args)


def sorted_alone(cpu: Callable[..., Any], plain: Callable[..., Any], *args: Any) -> Any:
    """An order of integers: on a CPU these are sorted alone, and each is then searched for.

    XLA on CPU sorts them ten times faster than pairs of an integer and its index. On other
    platforms pairs are sorted: each step of a search would read and write all of them. On an H100
    `lovasz_hinge_loss` moved 21.9 times its floor, for 8.3.
    """
    return either(cpu, plain, *args)


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
    return either(cpu, plain, *args) if at_most(size * size, _PAIRS) else cpu(*args)


def unshared(tree: Any) -> Any:
    """The arrays of a tree: what is computed of them is not shared with what else is.

    For plain forms alone, of which several reductions compute the same pairs. XLA on GPUs would
    store what they share, such as which pairs count: 0.5 GB for 256 rows of 1,000.
    """
    return jax.lax.optimization_barrier(tree)


def beside_value(*arrays: jax.Array) -> tuple[jax.Array, ...]:
    """Numbers of each row, of which slopes are computed: on a GPU in a kernel without the value.

    XLA on GPUs would compute both in one, and the slopes would wait for the sums that the value
    alone takes: two vectors were read a third time for `cosine_embedding_loss`.
    """
    return tuple(either(_as_they_are, _as_they_are, *arrays, gpu=fenced))


def stored(x: jax.Array) -> jax.Array:
    """A matrix of all pairs, of which many things are computed: it is stored, and not all of these.

    XLA for TPUs fuses what is computed of a product of matrices with the product, and stores each
    of its results: of the circle loss nineteen matrices were moved.
    """
    return jax.lax.optimization_barrier(x)


@jax.custom_jvp
def sum_beside(x: jax.Array, weight: jax.Array) -> jax.Array:
    """The sum of x, of which a mean is made with the sum of the weights.

    The gradient of a mean waits for the weights' sum, so that weights are read twice: 5/4 of the
    floor of a loss of two arrays. Under differentiation a TPU adds up x in the kernel that writes
    the gradient; else it would do so with the weights, and read all data twice, 7/4 of the floor.
    """
    return jnp.sum(x)


@sum_beside.defjvp
def _(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    x, weight = primals
    later = jax.lax.platform_dependent(x, weight, tpu=_later, default=_first_of)
    return jnp.sum(later), jnp.sum(tangents[0])


def _later(x: jax.Array, number: jax.Array) -> jax.Array:
    zero, _ = jax.lax.optimization_barrier((jnp.zeros((), x.dtype), number))
    return x + zero


def in_steps(cpu: Callable[..., Any], plain: Callable[..., Any], *args: Any) -> Any:
    """Sums over pairs, or over a third index of pairs: on a CPU in a loop, over what it caches.

    On other platforms in one reduction of all terms, which a compiler computes as it adds them up;
    a loop there launches several kernels a step, and reads all entries, or reads and writes all
    pairs, in each. XLA on CPU would store the terms.
    """
    return either(cpu, plain, *args)


def in_turn(cpu: Callable[..., Any], plain: Callable[..., Any], *args: Any) -> Any:
    """Two recursions over the same steps: on a CPU in two loops, elsewhere in one.

    Elsewhere each kernel of a step costs more than its arithmetic. XLA on CPU computes the states
    of the one loop again for each of the arrays that it stores.
    """
    return either(cpu, plain, *args)


def symmetric_product(once: Callable[..., Any], twice: Callable[..., Any], *args: Any) -> Any:
    """A product of matrices plus its transpose; on a TPU plus a second product.

    There reverse mode would store the transpose of a matrix of all pairs, to add it: NT-Xent of
    4,096 examples moved five such matrices.
    """
    return either(once, twice, *args, gpu=once)


def all_on_cpu(condition: jax.Array) -> jax.Array:
    """Whether a condition holds everywhere, for a `lax.cond` of a faster formula; false elsewhere.

    On other platforms XLA sees that the condition is false and removes the `lax.cond`. There the
    formula for all cases is as fast, and a branch would be a kernel of its own, which reads what it
    takes from memory and writes what it returns.
    """
    return either(_all, _never, condition)


def _all(condition: jax.Array) -> jax.Array:
    return jnp.all(condition)


def _never(condition: jax.Array) -> jax.Array:
    del condition
    return jnp.asarray(False)


def nan_by_row(losses: jax.Array) -> jax.Array:
    """Losses, whose derivatives are NaN where they are: on a CPU; elsewhere see `nan_by_entry`."""
    return either(_nan_where_nan, _as_it_is, losses)


def _nan_where_nan(losses: jax.Array) -> jax.Array:
    return losses * jnp.where(jnp.isnan(losses), jnp.nan, 1).astype(losses.dtype)


def nan_by_entry(slope: jax.Array, factor: jax.Array) -> jax.Array:
    """A slope of a term of a sum, times a factor that is 1 or NaN; on a CPU the slope.

    On a CPU, where a selection in each entry makes the gradient of `kl_divergence` at [8192, 1000]
    take twice as long, all slopes of a row are NaN where its sum is; see `nan_by_row`. On other
    platforms they would wait for that sum, and a second kernel would read the data again.
    """
    return either(_first_of, jnp.multiply, slope, factor)


def _first_of(x: jax.Array, _: jax.Array) -> jax.Array:
    return x


def in_domain(x: jax.Array, known: jax.Array, rows: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Numbers, and in which rows all of them are in their domain: others are to give NaN.

    On a CPU as they are. On other platforms, where the answer takes another pass over the numbers,
    those outside are NaN themselves, which the sums of the row then are, and the answer is yes:
    `poly_loss_cross_entropy` moved 2.00 times its floor on a TPU, for 1.67.

    Args:
        x: Numbers.
        known: Which of them are in their domain.
        rows: In which rows all are.
    """
    return tuple(either(_by_row, _by_entry, x, known, rows))


def _by_row(x: jax.Array, _: jax.Array, rows: jax.Array) -> tuple[jax.Array, jax.Array]:
    return x, rows


def _by_entry(x: jax.Array, known: jax.Array, rows: jax.Array) -> tuple[jax.Array, jax.Array]:
    return x * jnp.where(known, 1, jnp.nan).astype(x.dtype), jnp.ones_like(rows)


def nan_as_the_loss(losses: jax.Array) -> jax.Array:
    """Losses of numbers `in_domain`: where they are NaN all their derivatives are, too."""
    return either(_as_it_is, _nan_where_nan, losses)


def shared_or_apart(cpu: Callable[..., Any], plain: Callable[..., Any], *args: Any) -> Any:
    """A part of a value that its slopes have too: XLA on CPU computes it once and stores it.

    On other platforms the value has it in another form, or a GPU's compiler would store it too,
    which there takes longer than to compute it again.
    """
    return either(cpu, plain, *args)


def at_once_or_again(cpu: Callable[..., Any], plain: Callable[..., Any], *args: Any) -> Any:
    """Sums of squares that may leave the range of floats: on a CPU again, if one of them did.

    On other platforms in one pass that keeps them in range: a condition on the data ends a kernel
    there, and what it chooses from reads them again.
    """
    return either(cpu, plain, *args)


def all_known(axes: tuple[int, ...], sums: jax.Array, known: jax.Array) -> jax.Array:
    """Whether all entries of a row are `known`, of which the sum is NaN if one is not.

    On a CPU the sum says it. On other platforms it is read off the entries: the slopes, which
    depend on it, would wait for the sum, and then read once more all that it is made of.
    """
    return either(along(_of_sum, axes), along(_of_each, axes), sums, known)


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
    return either(cpu, plain, *args)


def last_index(x: jax.Array) -> jax.Array:
    """The index of each entry along the last axis, whose size is a power of two.

    For a GPU that of the row is added, and cut off again: its compiler would compute what depends
    on the index by itself, for `giou_loss` in three more kernels. A TPU's would store the sums.
    """
    return either(_last_index, _last_index, x, gpu=_last_index_of_row)


def _last_index(x: jax.Array) -> jax.Array:
    return jax.lax.broadcasted_iota(jnp.int32, x.shape, x.ndim - 1)


def _last_index_of_row(x: jax.Array) -> jax.Array:
    if x.ndim < 2:
        return _last_index(x)
    size = x.shape[-1]
    row = jax.lax.broadcasted_iota(jnp.int32, x.shape, x.ndim - 2)
    return (_last_index(x) + size * row) & (size - 1)


def told_apart(*arrays: jax.Array) -> list[jax.Array]:
    """The arrays, plus a zero of which the compiler knows nothing.

    What is computed of them has, to the compiler, nothing in common with what else is computed of
    the arrays. On a GPU it then fuses each of the two wholly, and in the end both into one kernel,
    as they read the same. Of what two share it may find that storing it costs less: the gradients
    of box losses moved up to 17 times their floor, for 1. A TPU's stores these sums, 2.3 times the
    floor, but 4.3 times without them.
    """
    zero = jax.lax.optimization_barrier(jnp.zeros((), arrays[0].dtype))
    return [x + zero for x in arrays]


def over_power(arrays: Any, power: jax.Array) -> Any:
    """Arrays divided by a power of two, which is exact.

    XLA on CPU stores a quotient that several operations use, and computes a product again in each
    of them: of boxes, 6 times slower. Elsewhere a product takes less time.
    """
    return either(_divided, _multiplied, arrays, power)


def _divided(arrays: Any, power: jax.Array) -> Any:
    return jax.tree.map(lambda x: x / power, arrays)


def _multiplied(arrays: Any, power: jax.Array) -> Any:
    factor = 1 / power
    return jax.tree.map(lambda x: x * factor, arrays)


def difference_again(u: jax.Array, v: jax.Array) -> jax.Array:
    """u - v, computed again: a compiler would store a difference that is used before."""
    u, v = either(fenced, _disguised, u, v)
    return u - v


def at_most(size: Any, bound: int) -> bool:
    """Whether a size is at most `bound`: what is larger is computed in parts, or twice.

    A size that is symbolic, as in an export for batches of any size, is taken as small.
    """
    return not isinstance(size, int) or size <= bound


def bits(x: jax.Array) -> jax.Array:
    return jax.lax.bitcast_convert_type(x, f"int{8 * x.dtype.itemsize}")


@jax.custom_jvp
def keep_out_of_sum(x: jax.Array) -> jax.Array:
    """`x`, computed in a loop of its own before it is summed.

    XLA on CPU hands a sum to a library together with the products, quotients and roots that it
    sums, and the library computes those ten times slower than XLA does. The library takes no
    selection: this one, which changes no value, keeps the computation of `x` in XLA.
    """
    return either(_selected, _as_it_is, x)


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
    return either(_at_most_two, _as_it_is, x)


def _at_most_two(x: jax.Array) -> jax.Array:
    return jnp.minimum(x, 2)


fuse_into_users.defjvp(lambda primals, tangents: (fuse_into_users(*primals), *tangents))
