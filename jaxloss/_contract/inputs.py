"""Checking and converting single arguments; `prepared.py` makes a record of them all."""

from __future__ import annotations

import itertools
import operator
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike
from jaxtyping import Real

from .._numerics.sharding import alike, sharded_like

Axis = int | Sequence[int] | None
Reduction: TypeAlias = Literal["none", "sum", "mean"]


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
    return ", ".join(f"{name} {kind_of(x)}" for name, x in arrays.items())


def kind_of(array: Any) -> str:
    """`float32[4, 1]`."""
    return f"{array.dtype}{list(array.shape)}"


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

    What NumPy can read is checked and left to `jax.jit` to move.
    """
    if isinstance(value, Wide):
        return value
    try:
        if _is_for_numpy(value):
            array = _numeric(value)
            if array is not None:
                return _unwrapped(array)
        elif value is not None and not isinstance(value, str | bytes):
            # The items of a list have one type in the end, also where JAX promotes none.
            with jax.numpy_dtype_promotion("standard"):
                return jnp.asarray(value)
    except (TypeError, ValueError, OverflowError):
        pass
    advice = _conversion(name, value)
    raise TypeError(f"{name} must be an array or a number, got {shown(value)}{advice}")


def _is_for_numpy(value: Any) -> bool:
    """Whether NumPy is to read it: lists without arrays of JAX in them, large integers, tensors."""
    if isinstance(value, list | tuple):
        return not any(isinstance(x, jax.Array) for x in jax.tree.leaves(value))
    if isinstance(value, int):
        return abs(value) >= 2**31
    ours = isinstance(value, jax.Array) or hasattr(value, "__jax_array__")
    return not ours and hasattr(value, "__array__")


def _numeric(value: Any) -> np.ndarray | None:
    """What NumPy reads; None for what it cannot read, and for types that JAX has not."""
    try:
        array = np.asarray(value)
    except RuntimeError:  # Of a torch tensor that takes part in a derivative.
        return None
    long = array.dtype.type in (np.longdouble, np.clongdouble)
    other = long or array.dtype.kind in "OSTUMm" or array.dtype.names is not None
    return None if other or isinstance(value, np.ma.MaskedArray) else array


def shown(value: Any) -> str:
    """What the user gave, on one line of at most 60 characters."""
    text = "" if value is None else type(value).__name__ + " "
    if isinstance(value, jax.Array):
        text = "traced array " if isinstance(value, Tracer) else "array "
    dtype, shape = getattr(value, "dtype", None), getattr(value, "shape", None)
    if dtype is not None and isinstance(shape, tuple):
        text += f"{dtype}{list(shape)}"
    elif callable(value):
        text += getattr(value, "__name__", "")
    elif " object at 0x" not in repr(value):
        text += repr(value)
    text = " ".join(text.split())
    return text if len(text) <= 60 else f"{text[:57]}..."


# What to write in the place of what JAX cannot trace.
_FOR_TRACERS = {
    jax.errors.TracerArrayConversionError: "; jax.numpy takes it, numpy does not",
    jax.errors.TracerBoolConversionError: "; jnp.where takes it, a Python if does not",
}


def reason(error: Exception) -> str:
    """What an error of somebody's function says, on one line of at most 400 characters.

    Of JAX's errors the first line: advice on tracers follows.
    """
    said, kind = str(error).strip(), type(error)
    if kind.__module__.partition(".")[0] == "jax":
        said = said.partition("\n")[0] + _FOR_TRACERS.get(kind, "")
    said = textwrap.shorten(said, 400, placeholder=" ...")
    return (
        said
        if said and kind in (TypeError, ValueError)
        else ": ".join(filter(None, (kind.__name__, said)))
    )


# How another library's tensor becomes an array.
_CONVERSIONS = {
    "tensorflow": "tensor.numpy()",
    "torch": "tensor.detach().cpu().numpy() or jnp.from_dlpack(tensor.detach())",
}


def _conversion(name: str, value: Any) -> str:
    """How what was refused becomes an array, if it may: the end of a message."""
    if isinstance(value, np.ma.MaskedArray):
        return f"; write {name}.data, with where=~{name}.mask"
    for leaf in jax.tree.leaves(value):
        for base in type(leaf).__mro__:
            written = _CONVERSIONS.get(base.__module__.partition(".")[0])
            if written:
                return f"; write {written}"
    if isinstance(value, list | tuple):
        return "; a list must hold numbers, in rows of one length"
    return ""


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


def leading(data: Mapping[str, Any]) -> jax.Array:
    """The first of the data, floating-point; what may be labels in its place is refused as such."""
    first, *others = data
    x = real(first, data[first])
    for name in {"labels", "targets"}.intersection(others):
        y = real(name, data[name])
        if jnp.issubdtype(y.dtype, jnp.floating) and not jnp.issubdtype(x.dtype, jnp.floating):
            got = described(**{first: x, name: y})
            raise TypeError(f"{first} must be floating-point and come before {name}, got {got}")
    return floating(first, x)


def computing_dtype(arrays: Sequence[jax.Array]) -> Any:
    """float64 where an array asks for it, float32 for all else; Python numbers ask for nothing."""
    arrays = [x for x in arrays if jnp.issubdtype(x.dtype, jnp.floating)]
    strong = [x for x in arrays if not getattr(x, "weak_type", False)]
    wide = any(x.dtype == jnp.float64 for x in strong or arrays)
    return jnp.float64 if wide else jnp.float32


def field(name: str, value: Any, shape: tuple[int, ...], like: str) -> jax.Array:
    """A real scalar, or an array of the rank of `shape` that broadcasts to it."""
    array = real(name, value)
    fits = all(size in (1, whole) for size, whole in zip(array.shape, shape, strict=False))
    if array.ndim not in (0, len(shape)) or not fits:
        raise ValueError(
            f"{name} must be a scalar or have the rank of {like}, with its sizes or 1; "
            f"expected {list(shape)}, got {described(**{name: array})}"
        )
    return array


def number(name: str, value: Any) -> jax.Array:
    """A real scalar."""
    array = real(name, value)
    check_shape(array, (), f"{name} must be one number, got {described(**{name: array})}")
    return array


def one_of(name: str, value: Any, options: Sequence[Any]) -> None:
    """Refuse a setting that is none of the options."""
    if value not in options:
        got = shown(value) if callable(value) else repr(value)
        raise ValueError(f"{name} must be one of {', '.join(map(repr, options))}, got {got}")


def check_function(name: str, value: Any) -> None:
    if not callable(value):
        raise TypeError(f"{name} must be a function, got {shown(value)}")


def check_reduction(reduction: Any) -> None:
    """Refuse an unknown one; "partial" is for `Mean.of` alone."""
    if reduction != "partial":
        one_of("reduction", reduction, get_args(Reduction))


def mask(
    where: Any,
    shape: tuple[int, ...],
    like: str,
    data: jax.Array,
    without: tuple[int, ...] = (),
) -> jax.Array:
    """The boolean `where`, broadcast to `shape`, that of `data` without some axes."""
    array = field("where", where, shape, like)
    if array.dtype != bool:
        got = described(where=array)
        advice = "if what is not 0 counts, where.astype(bool)"
        raise TypeError(f"where must be boolean, got {got}; {advice}")
    return sharded_like(jnp.broadcast_to(array, shape), data, without)


def same_shape(data: Mapping[str, Any], hint: str = "", scalar: bool = True) -> list[jax.Array]:
    """Floating predictions and real targets of one shape, or a scalar target.

    Args:
        data: Predictions, then targets.
        hint: What the user may have wanted, if the shapes differ.
        scalar: Whether a scalar target stands for an array of it.
    """
    first, *others = data
    arrays = {first: leading(data)} | {name: real(name, data[name]) for name in others}
    shape = arrays[first].shape
    compared = [x for name, x in arrays.items() if x.ndim or not scalar or name == first]
    if any(x.shape != shape for x in compared):
        for (name, x), (_, y) in itertools.permutations(arrays.items(), 2):
            hint = hint or spare_axis(name, x.shape, y.shape)
        raise ValueError(f"expected equal shapes, got {described(**arrays)}{hint}")
    return alike([jnp.broadcast_to(x, shape) for x in arrays.values()])


def spare_axis(name: str, shape: tuple[int, ...], other: tuple[int, ...]) -> str:
    """Which axis of size 1 an array has and another has not: the end of a message."""
    if shape == (*other, 1):
        return f"; drop the last axis of {name}: {name}[..., 0]"
    for i, size in enumerate(shape):
        if size == 1 and shape[:i] + shape[i + 1 :] == other:
            return f"; drop axis {i} of {name}: jnp.squeeze({name}, {i})"
    return ""


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
    where: Any, name: str, data: jax.Array, axes: tuple[int, ...]
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
    if given and not rank:
        raise ValueError(f"{name} must have at least one axis, got {described(**{name: array})}")
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
