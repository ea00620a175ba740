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
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero


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
    on_gpu = {} if gpu is None else {"cuda": gpu, "rocm": gpu}
    return jax.lax.platform_dependent(*args, cpu=cpu, default=plain, **on_gpu)


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


def _flipped_twice(x: jax.Array) -> jax.Array:
    if not x.ndim or not jnp.issubdtype(x.dtype, jnp.floating):
        return x
    return jax.lax.bitcast_convert_type((bits(x) ^ 1) ^ 1, x.dtype)


_disguised.defjvp(lambda primals, tangents: (_disguised(*primals), tuple(tangents)))


def apart(function: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """An elementwise function whose derivatives share no operation with its value, but on a CPU.

    For a function that computes something before, or beside, a `closed_form`, whose slopes do so
    by themselves on a GPU; and for one whose value and slopes a TPU too would compute in kernels of
    their own. See `_disguised`.
    """
    core = jax.custom_jvp(function)

    def rule(primals: tuple[jax.Array, ...], tangents: tuple[Any, ...]) -> Any:
        again = list(either(_as_they_are, _disguised, *primals))
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


# The most pairs of one row that are summed at once: from here on they are summed in a loop.
_PAIRS = 2**30


def sorted_alone(cpu: Callable[..., Any], plain: Callable[..., Any], *args: Any) -> Any:
    """Ranks of integers: on a CPU these are sorted alone, and each is then searched for.

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


def stored(x: jax.Array) -> jax.Array:
    """A matrix of all pairs, of which many things are computed: it is stored, and not all of these.

    XLA for TPUs fuses what is computed of a product of matrices with the product, and stores each
    of its results: of the circle loss nineteen matrices were moved.
    """
    return jax.lax.optimization_barrier(x)


def in_steps(cpu: Callable[..., Any], plain: Callable[..., Any], *args: Any) -> Any:
    """Sums over pairs, or over a third index of pairs: on a CPU in a loop, over what it caches.

    On other platforms in one reduction of all terms, which a compiler computes as it adds them up;
    a loop there launches several kernels a step, and reads all entries, or reads and writes all
    pairs, in each. XLA on CPU would store the terms.
    """
    return either(cpu, plain, *args)


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
    return either(_divided, _multiplied, arrays, power)


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
