"""Cohorts: examples with times, of which each that has an event is compared with others."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Bool, Float, Int, Real

from .._contract import inputs
from .._contract.prepared import Prepared
from .._contract.reduce import Request
from .._numerics.sharding import alike, whole_along

# Of pairs of examples at once: 4 MiB of float32.
_PAIRS = 2**20

Scores = Float[ArrayLike, "*batch examples"] | Sequence[Any]
Times = Real[ArrayLike, "*batch examples"] | Sequence[Any]
Events = Bool[ArrayLike, "*batch examples"] | Real[ArrayLike, "*batch examples"] | Sequence[Any]
Strata = Int[ArrayLike, "*batch examples"] | Sequence[Any] | None


@dataclass(frozen=True, eq=False, kw_only=True)
class Cohort(Prepared):
    """The arguments of a loss of cohorts, whose batch dimensions are flattened into one.

    Attributes:
        scores: `[cohorts, examples]`; 0 for an example that the mask excludes.
        times: In the dtype that they were given in, of which no two are to become equal.
        happened: Whether an example has an event; it is not excluded then.
        there: Which examples are not excluded.
        entry_times: In the dtype of the times, if there are any.
        strata: Integers, if there are any.
    """

    scores: jax.Array
    times: jax.Array
    happened: jax.Array
    there: jax.Array
    entry_times: jax.Array | None = None
    strata: jax.Array | None = None

    def reduced(
        self, losses: jax.Array, *, counted: jax.Array | None = None, plain_sum: bool = False
    ) -> jax.Array:
        """The losses `[cohorts]` as the user asked for them.

        Args:
            losses: Sums over what each cohort has of what is counted.
            counted: How much that is. A cohort without any costs and weighs nothing, but for one
                out of the domain: that counts, so that its NaN reaches the mean.
            plain_sum: See `as_requested`.
        """
        losses = losses.reshape(self.shape)
        if counted is not None and self.known is not None:
            counted = jnp.where(self.known, counted.reshape(self.shape), 1)
        return super().reduced(losses, counted=counted, plain_sum=plain_sum)


def cohort(
    name: str,
    scores: Any,
    times: Any,
    events: Any,
    request: Request,
    *,
    entry_times: Any = None,
    strata: Any = None,
) -> Cohort:
    """Scores, times and events of cohorts, ready for arithmetic.

    Args:
        name: That of the scores.
        scores: `[..., examples]`.
        times: Of that shape, as are all others.
        events: 1 or true for an event, 0 or false for a time after which nothing is known.
        request: The user's mask, of examples or of cohorts, weights of cohorts and reduction.
        entry_times: From when on each example is at risk; None for always.
        strata: Integers: examples of different ones are never at risk together; None for one.
    """
    given = {name: scores, "times": times, "events": events}
    if entry_times is not None:
        given["entry_times"] = entry_times
    if strata is not None:
        given["strata"] = strata
    for key in given:
        if key != name and isinstance(inputs.as_array(key, given[key]), inputs.Wide):
            raise ValueError(
                f"{key} hold numbers that int32 cannot tell apart; count from a later start or in "
                "a larger unit, or enable jax_enable_x64"
            )
    data = dict(zip(given, inputs.same_shape(given, scalar=False), strict=True))
    (axis,) = inputs.consumed(-1, name, data[name])
    _check_kinds(data)
    _check_weights(request, data[name])
    dtype = inputs.computing_dtype([data[name]])
    data[name] = data[name].astype(dtype)
    arrays = {key: whole_along(x, (axis,)) for key, x in data.items()}
    first = arrays[name]
    shape, size = first.shape[:axis], first.shape[axis]
    there, selected = jnp.ones_like(first, bool), None
    if request.where is not None:
        there, selected = inputs.selection(request.where, name, first, (axis,))
        there = alike([there, first])[0]
    if not size:
        selected = jnp.any(there, axis)
    nothing = {"times": 1}
    arrays = {
        key: jnp.where(there, x, jnp.asarray(nothing.get(key, 0), x.dtype))
        for key, x in arrays.items()
    }
    known = _known(name, arrays)
    # Comparisons with NaN leave out terms: all slopes of such a cohort are to be NaN.
    arrays[name] = inputs.nan_outside(arrays[name], known[..., None])
    # Times and events are compared, and have no derivative: JAX's rule of a sort would make some.
    flat = {
        key: (x if key == name else jax.lax.stop_gradient(x)).reshape(math.prod(shape), size)
        for key, x in arrays.items()
    }
    there = there.reshape(math.prod(shape), size)
    return Cohort(
        request=request,
        shape=shape,
        dtype=dtype,
        where=selected,
        known=known,
        scores=flat[name],
        times=flat["times"],
        happened=there & told(flat["events"])[0],
        there=there,
        entry_times=flat.get("entry_times"),
        strata=flat.get("strata"),
    )


def told(events: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Whether there is an event, and whether what is given says so: 0 or 1, false or true."""
    if events.dtype == bool:
        return events, jnp.ones_like(events)
    events = jax.lax.stop_gradient(events)
    return events != 0, (events == 0) | (events == 1)


def _known(name: str, arrays: dict[str, jax.Array]) -> jax.Array:
    """Which cohorts hold no NaN, no event but 0 and 1, and nobody who enters after the end."""
    x, t = (jax.lax.stop_gradient(arrays[key]) for key in (name, "times"))
    fine = ~jnp.isnan(x) & ~jnp.isnan(t) & told(arrays["events"])[1]
    if "entry_times" in arrays:
        fine &= arrays["entry_times"] < t
    return jnp.all(fine, -1)


def _check_kinds(data: dict[str, jax.Array]) -> None:
    if "strata" in data:
        got = inputs.described(strata=data["strata"])
        inputs.check_integers(data["strata"], f"strata must be integers, got {got}")
    entry, times = data.get("entry_times"), data["times"]
    if entry is not None and entry.dtype != times.dtype:
        got = inputs.described(times=times, entry_times=entry)
        raise TypeError(f"entry_times must have the dtype of times, as the two meet, got {got}")


def _check_weights(request: Request, scores: jax.Array) -> None:
    """Refuse weights of examples, which would have to enter risk sets and terms alike."""
    if request.weights is None:
        return
    weights = inputs.real("weights", request.weights)
    if weights.ndim and weights.ndim == scores.ndim:
        raise ValueError(
            "weights must be those of whole cohorts, as the terms of a cohort share its examples, "
            f"got {inputs.described(weights=weights)}; where excludes examples"
        )


def in_blocks(function: Callable[[Any], jax.Array], examples: Any) -> jax.Array:
    """A function of examples that meets all others, in blocks whose pairs fit in the cache.

    Args:
        function: Takes a tree like `examples` of any number of them; returns `[cohorts, examples]`.
        examples: A tree of arrays `[cohorts, examples]`.
    """
    rows, size = jax.tree.leaves(examples)[0].shape
    if not isinstance(rows, int) or rows * size * size <= _PAIRS:
        return function(examples)
    block = max(1, _PAIRS // max(1, rows * size))
    number = -(-size // block)

    def split(x: jax.Array) -> jax.Array:
        x = jnp.pad(x, ((0, 0), (0, number * block - size)))
        return jnp.moveaxis(x.reshape(rows, number, block), 1, 0)

    # Without the checkpoint a derivative would keep all pairs.
    found = jax.lax.map(jax.checkpoint(function), jax.tree.map(split, examples))
    return jnp.moveaxis(found, 0, 1).reshape(rows, number * block)[:, :size]
