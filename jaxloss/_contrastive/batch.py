"""A batch of examples, prepared for losses of its pairs, and sums over an anchor's partners.

A batch is `[..., examples, features]`. Arrays of its pairs are `[..., examples, examples]`, with
the partners of one anchor along the last axis: the examples of all devices, if the batch is spread
over those of an axis name.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Float, Int

from .._contract import inputs
from .._contract.devices import AxisName, check_axis_name
from .._contract.prepared import Hyper, Prepared
from .._contract.reduce import Request
from .._numerics.devices import joined, place
from .._numerics.kinks import closed_form
from .._numerics.sharding import sharded_like, whole_along
from .._numerics.softmax import below, change_of_surprisals, top_and_rest
from .._numerics.xla import keep_out_of_sum, stored
from . import cosines, distances
from .distances import Distance
from .references import (
    NO_REFERENCES,
    Partners,
    References,
    check_alone,
    identities,
    partners,
)

Embeddings = Float[ArrayLike, "*batch examples features"] | Sequence[Any]
# Over what a mean is: over anchors, each with the mean of its terms, or over all terms that cost.
Average = Literal["anchors", "active"]
Identities = Int[ArrayLike, "*batch examples"] | Sequence[Any]


@dataclass(frozen=True, eq=False, kw_only=True)
class Batch(Prepared):
    """The arguments of a loss that has one number for each anchor, which is each example.

    Attributes:
        data: One or more arrays of examples; ones in an excluded example.
        positive: Whether an example is another one of the anchor's label, if there are labels.
        negative: Whether it is of another label.
        labels: Integers, if there are labels.
        axis_name: Over which devices the batch is spread, whose anchors are those of this device.
        partners: Whom the anchors meet, if these are not the batch itself.
    """

    positive: jax.Array
    negative: jax.Array
    labels: jax.Array | None = None
    axis_name: AxisName = None
    partners: Partners | None = None

    def cosines(self) -> jax.Array:
        """Of the angles between each anchor and its partners."""
        (x,) = self.data
        if self.axis_name is None and self.partners is None:
            return cosines.cosines(x)
        units = cosines.directions(x)
        others = units if self.partners is None else cosines.directions(self.partners.vectors)
        return stored(cosines.products(units, joined(others, -2, self.axis_name)))

    def distances(self, distance: Distance = "euclidean") -> jax.Array:
        """Between each anchor and its partners."""
        if distance == "cosine":
            return 1 - self.cosines()
        (x,) = self.data
        others = x if self.partners is None else self.partners.vectors
        within = self.axis_name is None and self.partners is None
        y = None if within else joined(others, -2, self.axis_name)
        return distances.distances(x, y, distances.degree_of(distance))

    def positives(self) -> jax.Array:
        """How many each anchor has."""
        return number(self.positive, self.dtype)

    def negatives(self) -> jax.Array:
        """How many each anchor has."""
        return number(self.negative, self.dtype)

    def complete(self) -> jax.Array:
        """Whether an anchor has a positive and a negative."""
        return jnp.any(self.positive, -1) & jnp.any(self.negative, -1)


def number(partners: jax.Array, dtype: Any, axis: int = -1) -> jax.Array:
    """How many each anchor has."""
    return jnp.sum(partners, axis, dtype=jnp.int32).astype(dtype)


def batch(
    data: Mapping[str, Any],
    request: Request,
    labels: Any = None,
    axis_name: AxisName = None,
    references: References = NO_REFERENCES,
    **hyper: Hyper,
) -> Batch:
    """Examples of one shape, with labels or, without, each of a label of its own.

    Args:
        data: One or more arrays of examples, by name.
        request: The user's mask, of the examples, weights and reduction.
        labels: Integers; examples of equal ones are positives of each other.
        axis_name: Over which devices the batch is spread; those have labels.
        references: Whom the anchors meet in place of the batch; those have labels.
        **hyper: Hyperparameters, of which each anchor may have its own.
    """
    arrays = of_examples(data)
    check_axis_name(axis_name, dict(zip(data, arrays, strict=True)))
    *outer, size, _ = arrays[0].shape
    shape = (*outer, size)
    itself = alone(arrays[0], axis_name)
    same = itself
    if labels is not None:
        labels = identities(next(iter(data)), arrays[0], labels)
        same = _pairs(labels, axis_name, operator.eq)
    positive, negative = same & ~itself, ~same
    selected = met = None
    if request.where is not None:
        selected = inputs.mask(request.where, shape, "the loss", arrays[0], (-1,))
        arrays = [jnp.where(selected[..., None], x, 1) for x in arrays]
        both = _pairs(selected, axis_name, operator.and_)
        positive, negative = positive & both, negative & both
    if labels is None or references.vectors is None:
        check_alone(references)
    else:
        met, labels = partners(references, arrays[0], labels, selected)
        same = labels[..., :, None] == joined(met.labels, -1, axis_name)[..., None, :]
        both = joined(met.there, -1, axis_name)[..., None, :] & ~met.is_own(axis_name)
        both = both if selected is None else both & selected[..., :, None]
        positive, negative = both & same, both & ~same
    given = Batch(
        request=request,
        shape=shape,
        dtype=arrays[0].dtype,
        where=selected,
        data=tuple(arrays),
        positive=positive,
        negative=negative,
        labels=labels,
        axis_name=axis_name,
        partners=met,
    )
    return given.with_hyper(hyper, arrays[0], (-1,))


def labelled(
    embeddings: Any,
    labels: Any,
    request: Request,
    axis_name: AxisName = None,
    references: References = NO_REFERENCES,
    **hyper: Hyper,
) -> Batch:
    """Embeddings with labels; see `batch`."""
    return batch({"embeddings": embeddings}, request, labels, axis_name, references, **hyper)


def _pairs(x: jax.Array, axis_name: AxisName, compare: Callable[..., jax.Array]) -> jax.Array:
    """What is compared of each anchor and each of its partners."""
    return compare(x[..., :, None], joined(x, -1, axis_name)[..., None, :])


def alone(anchors: jax.Array, axis_name: AxisName) -> jax.Array:
    """Which partner is the anchor itself."""
    if axis_name is None:
        return diagonal(anchors)
    *outer, size, _ = anchors.shape
    number = place(axis_name) * size + jax.lax.broadcasted_iota(
        jnp.int32, (*outer, size), len(outer)
    )
    return _pairs(number, axis_name, operator.eq)


def diagonal(rows: jax.Array) -> jax.Array:
    """Whether the two of a pair of rows are the same, `[..., rows, rows]`."""
    *outer, size, _ = rows.shape
    number = jax.lax.broadcasted_iota(jnp.int32, (*outer, size), len(outer))
    number = sharded_like(number, rows, (-1,))
    return number[..., :, None] == number[..., None, :]


def of_examples(data: Mapping[str, Any]) -> list[jax.Array]:
    """Arrays `[..., examples, features]` of one shape, in one dtype, each batch on one device."""
    arrays = inputs.same_shape(data, scalar=False)
    check_sets(dict(zip(data, arrays, strict=True)), "expected [..., examples, features]")
    dtype = inputs.computing_dtype(arrays)
    return [whole_along(x.astype(dtype), (-2, -1)) for x in arrays]


def check_sets(arrays: Mapping[str, jax.Array], expected: str) -> None:
    """Refuse what is not sets of vectors, of one width and of the same leading dimensions."""
    kinds = {(x.ndim, x.shape[:-2], x.shape[-1:]) for x in arrays.values()}
    if len(kinds) != 1 or any(x.ndim < 2 for x in arrays.values()):
        raise ValueError(f"{expected}, got {inputs.described(**arrays)}")


@jax.custom_jvp
def _shares(x: jax.Array) -> jax.Array:
    """Those of exp(x) in their sum, over the last axis; 0 where all are -inf."""
    axes = (x.ndim - 1,)
    top, rest = top_and_rest(x, axes)
    share = jnp.where(top == -jnp.inf, 0, 1 / (1 + rest))
    return jnp.exp(below(x, top, axes)) * share


@_shares.defjvp
def _(primals: Any, tangents: Any) -> Any:
    shares, (x,) = _shares(*primals), primals
    some = jnp.max(x, -1, keepdims=True) > -jnp.inf
    moved = change_of_surprisals((x.ndim - 1,), (jnp.where(some, x, 0),), tangents)
    return shares, -shares * moved


@closed_form(lambda x: (_shares(x),), (-1,))
def _log_sum(x: jax.Array) -> jax.Array:
    top, rest = (jnp.squeeze(y, -1) for y in top_and_rest(x, (x.ndim - 1,)))
    return jnp.where(top == -jnp.inf, top, top + jnp.log1p(rest))


def log_sum(x: jax.Array, present: jax.Array) -> jax.Array:
    """log of the sum of exp(x) over partners that are `present`; -inf, with slope 0, of none."""
    return _log_sum(jnp.where(present, x, -jnp.inf))


def total(x: jax.Array, present: jax.Array) -> jax.Array:
    """The sum of x over partners that are `present`."""
    return jnp.sum(keep_out_of_sum(jnp.where(present, x, 0)), -1)
