"""Other embeddings than the batch that its anchors meet: a memory bank, or a gathered batch."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Bool, Float, Int

from .._contract import inputs
from .._contract.devices import AxisName, check_axis_name
from .._numerics.devices import greatest, joined, place
from .._numerics.sharding import sharded_like, whole_along

Vectors = Float[ArrayLike, "*batch references features"] | None
Labels = Int[ArrayLike, "*batch references"] | None
There = Bool[ArrayLike, "*batch references"] | bool | None
Places = Int[ArrayLike, "*batch examples"] | None

_NAMES = ("references", "reference_labels", "reference_where", "own_reference")


class References(NamedTuple):
    """What the user gave.

    Attributes:
        vectors: None if anchors meet their own batch.
        labels: Integers.
        where: Which of them are there; None for all.
        own: The place of each anchor's own copy, which it does not meet; None for no copies.
        axis_name: Over whose devices they are spread.
    """

    vectors: Any = None
    labels: Any = None
    where: Any = None
    own: Any = None
    axis_name: AxisName = None


NO_REFERENCES = References()


class Partners(NamedTuple):
    """The references of this device, ready for arithmetic.

    Attributes:
        vectors: Of ones where there is none.
        labels: Integers, of the dtype of those of the anchors.
        there: Which of them are there.
        own: The place of each anchor's own copy, among those of all devices; -1 for none.
    """

    vectors: jax.Array
    labels: jax.Array
    there: jax.Array
    own: jax.Array

    def is_own(self, axis_name: AxisName) -> jax.Array:
        """Which partner is the anchor's own copy, `[..., examples, references]`."""
        *outer, size, _ = self.vectors.shape
        first = place(axis_name) * size
        number = first + jax.lax.broadcasted_iota(jnp.int32, (*outer, size), len(outer))
        number = joined(sharded_like(number, self.vectors, (-1,)), -1, axis_name)
        return self.own[..., :, None] == number[..., None, :]


def check_alone(given: References) -> None:
    """Refuse what goes with references, if there are none."""
    for name, value in zip(_NAMES[1:], given[1:4], strict=True):
        if value is not None:
            raise ValueError(f"{name} goes with references, which are not given")


def partners(
    given: References, anchors: jax.Array, labels: jax.Array, selected: jax.Array | None
) -> tuple[Partners, jax.Array]:
    """The references, and the labels of the anchors in the dtype of theirs.

    Args:
        given: What the user gave.
        anchors: `[..., examples, features]`.
        labels: Of the anchors.
        selected: Which anchors are there; None for all. References of a batch without any are not
            read.
    """
    vectors = inputs.floating("references", given.vectors)
    *outer, _, width = anchors.shape
    if (
        vectors.ndim != anchors.ndim
        or vectors.shape[:-2] != (*outer,)
        or vectors.shape[-1] != width
    ):
        wanted = ", ".join(map(str, (*outer, "any number", width)))
        got = inputs.described(embeddings=anchors, references=vectors)
        raise ValueError(f"references must be of shape [{wanted}], got {got}")
    check_axis_name(given.axis_name, {"references": vectors})
    vectors = whole_along(vectors.astype(anchors.dtype), (-2, -1))
    if given.labels is None:
        raise ValueError("references go with reference_labels, integers, one for each: none given")
    theirs = identities("references", vectors, given.labels, "reference_labels")
    there = _there(given.where, vectors)
    if selected is not None:
        some = greatest(jnp.any(selected, -1), given.axis_name)
        there = there & some[..., None]
    vectors = jnp.where(there[..., None], vectors, 1)
    labels, theirs = _comparable(labels, theirs)
    return Partners(vectors, theirs, there, _own(given.own, anchors)), labels


def identities(name: str, examples: jax.Array, labels: Any, called: str = "labels") -> jax.Array:
    """Integer labels, one for each example.

    Args:
        name: That of the examples.
        examples: `[..., examples, features]`.
        labels: As the user gave them.
        called: Their name.
    """
    if isinstance(inputs.as_array(called, labels), inputs.Wide):
        raise ValueError(
            f"{called} hold numbers that int32 cannot tell apart; number them anew, "
            f"numpy.unique({called}, return_inverse=True)[1], or enable jax_enable_x64"
        )
    labels, shape = inputs.real(called, labels), examples.shape[:-1]
    got = f"got {inputs.described(**{name: examples, called: labels})}"
    hint = ""
    if labels.shape == (*shape, 1):
        hint = f"; drop the last axis of {called}: {called}[..., 0]"
    elif labels.ndim and labels.shape == shape[:-1]:
        flat = f"{name}.reshape(-1, {examples.shape[-1]})"
        many = f"jnp.repeat({called}, {shape[-1]})"
        hint = f"; of several views of each make one batch: {flat}, {many}"
    expected = f"{called} must be of shape {list(shape)}, one for each example, {got}{hint}"
    inputs.check_shape(labels, shape, expected)
    expected = f"{called} must be integers, of which equal ones belong together, {got}"
    inputs.check_integers(labels, f"{expected}; {called}.astype(int) if they do")
    return sharded_like(labels, examples, (-1,))


def _there(where: Any, vectors: jax.Array) -> jax.Array:
    shape = vectors.shape[:-1]
    if where is None:
        return sharded_like(jnp.ones(shape, bool), vectors, (-1,))
    array = inputs.field("reference_where", where, shape, "reference_labels")
    if array.dtype != bool:
        got = inputs.described(reference_where=array)
        raise TypeError(f"reference_where must be boolean, got {got}")
    return sharded_like(jnp.broadcast_to(array, shape), vectors, (-1,))


def _own(own: Any, anchors: jax.Array) -> jax.Array:
    shape = anchors.shape[:-1]
    if own is None:
        return sharded_like(jnp.full(shape, -1, jnp.int32), anchors, (-1,))
    array = inputs.real("own_reference", own, numbers=True)
    got = f"got {inputs.described(embeddings=anchors, own_reference=array)}"
    expected = f"own_reference must be of shape {list(shape)}, a place for each anchor, {got}"
    inputs.check_shape(array, shape, expected)
    inputs.check_integers(array, f"own_reference must be integers, -1 for none, {got}")
    return sharded_like(array.astype(jnp.int32), anchors, (-1,))


def _comparable(ours: jax.Array, theirs: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Labels of two integer dtypes in one that holds both."""
    if ours.dtype == theirs.dtype:
        return ours, theirs
    both = np.promote_types(ours.dtype, theirs.dtype)
    if jax.dtypes.canonicalize_dtype(both) != both:
        got = inputs.described(labels=ours, reference_labels=theirs)
        raise TypeError(f"labels and reference_labels must be of one dtype, got {got}")
    return ours.astype(both), theirs.astype(both)
