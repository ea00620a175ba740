"""Checking and converting single arguments; `prepared.py` makes a record of them all."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Real

from .._numerics.sharding import alike, sharded_like

Axis = int | Sequence[int] | None


def check_shape(array: jax.Array, shape: tuple[int, ...], message: str) -> None:
    """Refuse a user's array of another shape.

    Not by chex: `chex.disable_asserts()` anywhere in a process would let wrong shapes through.
    """
    if array.shape != shape:
        raise ValueError(message)


def check_integers(array: jax.Array, message: str) -> None:
    if not jnp.issubdtype(array.dtype, jnp.integer):
        raise TypeError(message)


def described(**arrays: Any) -> str:
    """`predictions float32[4], targets float32[4, 1]`."""
    return ", ".join(f"{name} {x.dtype}{list(x.shape)}" for name, x in arrays.items())


class Wide(NamedTuple):
    """Integers of 64 bits some of which JAX would wrap, as its 64-bit types are off.

    Attributes:
        numbers: As the integers that JAX has, those out of their range at its ends: no class has
            such a number.
        real: As float32.
    """

    numbers: Any
    real: Any


def _unwrapped(array: np.ndarray) -> Any:
    """The array, `Wide` if JAX would wrap some of its numbers."""
    if array.dtype.kind not in "iu" or not array.size:
        return array
    kept = jax.dtypes.canonicalize_dtype(array.dtype)
    ends = np.iinfo(kept)
    if kept == array.dtype or (array.min() >= ends.min and array.max() <= ends.max):
        return array
    return Wide(np.clip(array, ends.min, ends.max).astype(kept), array.astype(np.float32))


def as_array(name: str, value: Any) -> Any:
    """An array, a list or a number as an array; anything else is refused by name.

    A NumPy array is checked and left to `jax.jit` to move.
    """
    if isinstance(value, Wide):
        return value
    array = value
    try:
        if isinstance(value, np.integer) or (isinstance(value, int) and abs(value) >= 2**31):
            array = np.asarray(value)
        if isinstance(value, list | tuple) and not any(
            isinstance(x, jax.Array) for x in jax.tree.leaves(value)
        ):
            array = np.asarray(value)
        if isinstance(array, np.ndarray) and array.dtype.kind not in "OSUMm":
            return _unwrapped(array)
        if array is not None and not isinstance(array, str | bytes | np.ndarray):
            return jnp.asarray(array)
    except (TypeError, ValueError):
        pass
    shown = "None" if value is None else f"{type(value).__name__} {value!r}"[:60]
    raise TypeError(f"{name} must be an array or a number, got {shown}")


def real(name: str, value: Any, *, numbers: bool = False) -> jax.Array:
    """A real array: floating, integer or boolean.

    Args:
        name: That of the argument.
        value: What the user gave.
        numbers: Whether integers are compared with numbers of classes, not computed with.
    """
    array = as_array(name, value)
    if isinstance(array, Wide):
        array = array.numbers if numbers else array.real
    array = jnp.asarray(array)
    kinds = (jnp.floating, jnp.integer, jnp.bool_)
    if not any(jnp.issubdtype(array.dtype, kind) for kind in kinds):
        raise TypeError(f"{name} must be real, got {described(**{name: array})}")
    return array


def floating(name: str, value: Any) -> jax.Array:
    """A floating-point array."""
    array = real(name, value)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise TypeError(f"{name} must be floating-point, got {described(**{name: array})}")
    return array


def computing_dtype(arrays: Sequence[jax.Array]) -> Any:
    """float64 where an array asks for it, float32 for all else; Python numbers ask for nothing."""
    arrays = [x for x in arrays if jnp.issubdtype(x.dtype, jnp.floating)]
    strong = [x for x in arrays if not getattr(x, "weak_type", False)]
    wide = any(x.dtype == jnp.float64 for x in strong or arrays)
    return jnp.float64 if wide else jnp.float32


def field(name: str, value: ArrayLike, shape: tuple[int, ...], like: str) -> jax.Array:
    """A real scalar, or an array of the rank of `shape` that broadcasts to it."""
    array = real(name, value)
    fits = all(size in (1, whole) for size, whole in zip(array.shape, shape, strict=False))
    if array.ndim not in (0, len(shape)) or not fits:
        raise ValueError(
            f"{name} must be a scalar or have the rank of {like}, with its sizes or 1; "
            f"expected {list(shape)}, got {described(**{name: array})}"
        )
    return array


def one_of(name: str, value: Any, options: Sequence[Any]) -> None:
    """Refuse a setting that is none of the options."""
    if value not in options:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, options))}, got {value!r}")


def mask(
    where: ArrayLike,
    shape: tuple[int, ...],
    like: str,
    data: jax.Array,
    without: tuple[int, ...] = (),
) -> jax.Array:
    """The boolean `where`, broadcast to `shape`, that of `data` without some axes."""
    array = field("where", where, shape, like)
    if array.dtype != bool:
        raise TypeError(f"where must be boolean, got {described(where=array)}")
    return sharded_like(jnp.broadcast_to(array, shape), data, without)


def same_shape(data: Mapping[str, Any], hint: str = "", scalar: bool = True) -> list[jax.Array]:
    """Floating predictions and real targets of one shape, or a scalar target.

    Args:
        data: Predictions, then targets.
        hint: What the user may have wanted, if the shapes differ.
        scalar: Whether a scalar target stands for an array of it.
    """
    (first, predictions), *others = data.items()
    arrays = {first: floating(first, predictions)}
    arrays |= {name: real(name, value) for name, value in others}
    shape = arrays[first].shape
    compared = [x for name, x in arrays.items() if x.ndim or not scalar or name == first]
    for (name, x), (_, y) in itertools.permutations(arrays.items(), 2):
        if not hint and x.shape == (*y.shape, 1):
            hint = f"; drop the last axis of {name}: {name}[..., 0]"
    if any(x.shape != shape for x in compared):
        raise ValueError(f"expected equal shapes, got {described(**arrays)}{hint}")
    return alike([jnp.broadcast_to(x, shape) for x in arrays.values()])


def blanked(
    x: jax.Array,
    entries: jax.Array,
    selected: jax.Array,
    axes: tuple[int, ...],
    nothing: float,
) -> jax.Array:
    """`x` with excluded entries that read `nothing`, and excluded vectors of ones."""
    blank = jnp.where(jnp.expand_dims(selected, axes), nothing, 1).astype(x.dtype)
    return jnp.where(entries, x, blank)


def selection(
    where: ArrayLike, name: str, data: jax.Array, axes: tuple[int, ...]
) -> tuple[jax.Array, jax.Array]:
    """The mask of the entries, and that of the vectors: those that have an entry left."""
    given, shape = real("where", where), data.shape
    if given.ndim == len(shape) and given.ndim:
        entries = mask(where, shape, name, data)
        return entries, jnp.any(entries, axis=axes)
    selected = mask(where, outer(shape, axes), f"the loss or of {name}", data, axes)
    entries = jnp.broadcast_to(jnp.expand_dims(selected, axes), shape)
    return sharded_like(entries, data), selected


def outer(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(size for i, size in enumerate(shape) if i not in axes)


def consumed(axis: Axis, name: str, array: jax.Array) -> tuple[int, ...]:
    if axis is None:
        axis = tuple(range(array.ndim))
    given: tuple[Any, ...] = tuple(axis) if isinstance(axis, tuple | list) else (axis,)
    try:
        chosen = [operator.index(i) for i in given]
    except TypeError:
        raise TypeError(f"axis must be an integer or a tuple of integers, got {axis!r}") from None
    rank = array.ndim
    if not all(-rank <= i < rank for i in chosen):
        got = described(**{name: array})
        raise ValueError(f"axis must lie in [{-rank}, {rank}) for {got}, got {axis!r}")
    axes = tuple(i % rank for i in chosen)
    if len(set(axes)) < len(axes):
        raise ValueError(f"axis must not name an axis twice, got {axis!r}")
    return axes


def class_index(numbers: jax.Array, count: int) -> tuple[jax.Array, jax.Array]:
    """Class numbers as int32, 0 where they are outside [0, count), and whether they are inside."""
    inside = numbers >= 0
    # A type that does not hold `count` holds nothing beyond it, but would wrap it.
    if jnp.iinfo(numbers.dtype).max >= count:
        inside &= numbers < count
    return jnp.where(inside, numbers, 0).astype(jnp.int32), inside


def nan_outside(losses: jax.Array, domain: jax.Array) -> jax.Array:
    """Losses inside their domain, NaN with NaN derivatives outside.

    A factor, not a selection: a selected constant would have derivative 0, and a loss out of
    its domain would look trained.
    """
    return losses * jnp.where(domain, 1, jnp.nan).astype(losses.dtype)


ClassWeights = Real[ArrayLike, "classes"] | Sequence[float] | None


def by_class(class_weights: Any, scores: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    """A weight for each class, to be multiplied with scores."""
    array = real("class_weights", class_weights)
    shape = tuple(scores.shape[i] for i in axes)
    message = (
        f"class_weights must have shape {list(shape)}, a weight for each class, "
        f"got {described(class_weights=array)}"
    )
    check_shape(array, shape, message)
    order = sorted(range(len(axes)), key=axes.__getitem__)
    others = [i for i in range(scores.ndim) if i not in axes]
    return jnp.expand_dims(array.transpose(order), others).astype(scores.dtype)
