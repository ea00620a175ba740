"""Lists of documents to be ranked: the preparation of scores and labels, and gains of labels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Float, Real

from .._contract import inputs
from .._contract.prepared import Hyper, Prepared
from .._contract.reduce import Request
from .._numerics.sharding import sharded_like, whole_along
from .segments import WHOLE, rows_of
from .segments import SegmentNumbers as SegmentNumbers
from .segments import Segments as Segments

Scores = Float[ArrayLike, "*batch documents"] | Sequence[Any]
Labels = Real[ArrayLike, "*batch documents"] | Sequence[Any]
DocumentWeights = Real[ArrayLike, "..."] | Sequence[Any] | None


@dataclass(frozen=True, eq=False, kw_only=True)
class Lists(Prepared):
    """The arguments of a loss of lists, whose batch dimensions are flattened into one.

    Attributes:
        scores, labels: `[lists, documents]`; 0 for a document that the mask excludes.
        there: Which documents are not excluded, in that shape; None if none is.
        hyper: `[lists]`.
        known: Where a list holds no NaN, no negative relevance, and hyperparameters in their
            domain; of the shape of the loss, and never None.
        factors: Of the terms of documents, in the shape of the scores; None for 1.
    """

    scores: jax.Array
    labels: jax.Array
    there: jax.Array | None
    known: Any = None
    factors: jax.Array | None = None

    @property
    def arrays(self) -> tuple[jax.Array, ...]:
        """Scores, labels and hyperparameters, in order."""
        return (self.scores, self.labels, *self.hyper)

    def filled(self, x: jax.Array, absent: float) -> jax.Array:
        """`x` with another number for documents that are excluded."""
        return x if self.there is None else jnp.where(self.there, x, absent)

    def sizes(self) -> jax.Array:
        """The number of documents of each list."""
        if self.there is None:
            return jnp.full_like(self.known, self.scores.shape[-1], self.dtype).reshape(-1)
        return jnp.sum(self.there, -1, dtype=jnp.int32).astype(self.dtype)

    def ordered(self) -> jax.Array:
        """Whether a list has two labels that differ."""
        highest = jnp.max(self.filled(self.labels, -jnp.inf), -1, initial=-jnp.inf)
        lowest = jnp.min(self.filled(self.labels, jnp.inf), -1, initial=jnp.inf)
        return highest > lowest

    def reduced(
        self, losses: jax.Array, *, counted: jax.Array | None = None, plain_sum: bool = False
    ) -> jax.Array:
        """The losses as the user asked for them.

        Args:
            losses: `[lists]`.
            counted: `[lists]`: which lists count. The others cost and weigh nothing, but for those
                out of the domain: these count, so that their NaN reaches the mean and the gradient.
            plain_sum: See `as_requested`.
        """
        if counted is not None:
            counted = counted.reshape(self.shape) | ~self.known
        losses = losses.reshape(self.shape)
        return super().reduced(losses, counted=counted, plain_sum=plain_sum)


def lists(
    data: Mapping[str, Any],
    request: Request,
    *,
    segments: Segments = WHOLE,
    factors: DocumentWeights = None,
    relevance: bool = False,
    together: bool = False,
    **hyper: Hyper,
) -> Lists:
    """The arguments of a ranking loss, ready for arithmetic.

    Args:
        data: Scores, then labels.
        request: The user's mask, weights and reduction.
        segments: Which documents make a list, if not all of a vector.
        factors: The weights of documents, if the loss takes such.
        relevance: Whether labels are relevances, of which negative ones are out of the domain.
        together: Whether the documents of a list are sorted or meet in pairs: each list is then
            gathered on one device.
        **hyper: Hyperparameters, of which each list may have its own.
    """
    s, y = inputs.same_shape(data, scalar=False)
    name = next(iter(data))
    (axis,) = inputs.consumed(-1, name, s)
    dtype = inputs.computing_dtype([s, y])
    s, y = s.astype(dtype), y.astype(dtype)
    w = None
    if factors is not None:
        w = inputs.field("document_weights", factors, s.shape, name).astype(dtype)
        w = sharded_like(jnp.broadcast_to(w, s.shape), s)
    rows = rows_of(name, s, segments, request.where)
    if rows is not None:
        s, y = rows.of(s), rows.of(y)
        w = None if w is None else rows.of(w)
        request, axis = request._replace(where=rows.there), axis + 1
    if together:
        s, y = (whole_along(x, (axis,)) for x in (s, y))
    shape, size = s.shape[:axis], s.shape[axis]
    there, selected = None, None
    if request.where is not None:
        there, selected = inputs.selection(request.where, name, s, (axis,))
        s, y = jnp.where(there, s, 0), jnp.where(there, y, 0)
        w = None if w is None else jnp.where(there, w, 0)
        there = there.reshape(-1, size) if size else None
    if not size:
        selected = jnp.any(s, axis)
    s, y = (x.reshape(math.prod(shape), size) for x in (s, y))
    # NaN and negative numbers are looked for in the extremes: comparisons of all documents would
    # be stored before they are reduced.
    highest = jnp.max(jax.lax.stop_gradient(s), -1, initial=-jnp.inf)
    lowest = jnp.min(jax.lax.stop_gradient(y), -1, initial=jnp.inf)
    fine = (lowest >= 0) if relevance else ~jnp.isnan(lowest)
    known = (~jnp.isnan(highest) & fine).reshape(shape)
    if rows is not None:
        known &= rows.known
    given = Lists(
        request=request,
        shape=shape,
        dtype=dtype,
        where=selected,
        scores=s,
        labels=y,
        there=there,
        known=known,
        factors=None if w is None else w.reshape(s.shape),
    ).with_hyper(hyper, known)
    return given.replace(hyper=tuple(x.reshape(-1) for x in given.hyper))


def gains(labels: jax.Array, relative: bool = True) -> jax.Array:
    """2^y - 1, with all digits where y is small.

    2^y is a power of 2, which is exact, times what is left of it between 0.7 and 1.4.

    Args:
        labels: y, `[lists, documents]`.
        relative: Whether to divide by a power of 2 near the largest 2^y of the list, so that no
            gain overflows.
    """
    y = jax.lax.stop_gradient(labels)
    whole, top = jnp.round(y), jnp.zeros((), y.dtype)
    if relative:
        top = jnp.round(jnp.max(y, -1, keepdims=True, initial=0))
    scale, one = _power(whole - top), _power(-top)
    return scale * jnp.expm1((labels - whole) * math.log(2)) + (scale - one)


def _power(exponents: jax.Array) -> jax.Array:
    """2 to the power of whole numbers, 0 where it is below the smallest normal number."""
    info = jnp.finfo(exponents.dtype)
    within = jnp.clip(exponents, info.minexp, info.maxexp - 1).astype(jnp.int32)
    power = jnp.ldexp(jnp.ones_like(exponents), within)
    power = jnp.where(exponents < info.minexp, 0, power)
    return jnp.where(exponents >= info.maxexp, jnp.inf, power)
