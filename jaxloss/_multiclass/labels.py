"""Scores of classes and their labels: how the data of losses with a class axis are prepared.

Labels are class numbers, integers without the axis of the classes, or distributions, one-hot or
soft, of the shape of the scores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Float, Int, Real

from .._contract import inputs
from .._contract.inputs import Axis, ClassWeights
from .._contract.prepared import Hyper, Hypers, Prepared, Vectors, vectors
from .._contract.reduce import Request
from .._numerics.sharding import sharded_like
from .._numerics.xla import in_domain, nan_as_the_loss

Axes = tuple[int, ...]
Scores = Float[ArrayLike, "*batch classes"] | Sequence[Any]
ClassNumbers = Int[ArrayLike, "*batch"] | Sequence[Any]
Distributions = Real[ArrayLike, "*batch classes"] | Sequence[Any]
Labels = ClassNumbers | Distributions


@dataclass(frozen=True, eq=False, kw_only=True)
class Classes(Prepared):
    """Scores and labels, ready for arithmetic.

    Attributes:
        known: Also whether the label is a class that is there, or a distribution without negative
            numbers if the loss wants one.
        counts: The class weight of an example: the sum of its labels times those of the classes.
        scores: -inf for a class that the mask excludes; 1 in an excluded example.
        labels: The distributions; or, from class numbers, whether a class is the right one.
        number: The class number, 0 if it is none; None for distributions.
        axes: Those of the classes, in the order given.
        entries: The mask of the classes, in the shape of the scores; None if all are there.
        class_weights: To be multiplied with scores; None if all are 1.
        signed: Whether labels may be negative.
    """

    scores: jax.Array
    labels: jax.Array
    axes: Axes
    number: jax.Array | None = None
    entries: jax.Array | None = None
    class_weights: jax.Array | None = None
    signed: bool = True

    def nan_outside(self, x: jax.Array) -> jax.Array:
        """Losses or scores, NaN outside the domain of the loss."""
        known = self.known
        if known is None:
            return x
        return inputs.nan_outside(
            x, known if x.ndim == known.ndim else jnp.expand_dims(known, self.axes)
        )

    def weighted(self, losses: jax.Array) -> jax.Array:
        """Losses of class numbers, times the weight of the right class."""
        return losses if self.counts is None else self.counts * losses

    def reduced(self, losses: jax.Array, **options: Any) -> jax.Array:
        """As in `Prepared`."""
        return super().reduced(losses if self.signed else nan_as_the_loss(losses), **options)

    def mass(self) -> jax.Array:
        """The sum over the classes of labels times class weights."""
        if self.counts is not None:
            return self.counts
        return jnp.sum(self.labels.astype(self.dtype), self.axes)


def class_numbers(
    data: Mapping[str, Any],
    axis: Axis,
    request: Request,
    class_weights: ClassWeights = None,
    *,
    hyper: Hypers | None = None,
    hint: str = "",
    movable: bool = True,
) -> Classes:
    """Scores, and the number of the right class of each example.

    Args:
        data: Scores, then labels.
        axis: The axis of the classes; of several, labels count through the last one first.
        request: The user's mask, weights and reduction.
        class_weights: The user's weights of the classes.
        hyper: Hyperparameters.
        hint: What the user may have wanted, if the labels are no class numbers.
        movable: Whether the loss has a parameter `axis`.
    """
    (name, _), (other, labels) = data.items()
    scores = inputs.leading(data)
    labels = inputs.real(other, labels, numbers=True)
    axes = inputs.consumed(axis, name, scores)
    # Before the mask is read: where `axis` is wrong, this refusal says which one is right.
    _check_numbers({name: scores, other: labels}, axes, hint, movable)
    given = vectors({name: scores}, axes, request, hyper=hyper, absent=(-jnp.inf,))
    shape = scores.shape
    number, count = jnp.zeros((1,) * len(shape), jnp.int32), 1
    for i in axes:
        along = [size if i == j else 1 for j, size in enumerate(shape)]
        number = number * shape[i] + jax.lax.broadcasted_iota(jnp.int32, along, i)
        count *= shape[i]
    labels = sharded_like(labels, scores, axes)
    index, known = inputs.class_index(labels, count)
    right = jnp.broadcast_to(number == jnp.expand_dims(index, axes), shape)
    right = sharded_like(right, scores)
    if given.entries is not None and given.where is not None:
        known = (known & jnp.any(right & given.entries, axes)) | ~given.where
    return _classes(given.inside(known), given.data[0], right, class_weights, index)


def distributions(
    data: Mapping[str, Any],
    axis: Axis,
    request: Request,
    class_weights: ClassWeights = None,
    *,
    hyper: Hypers | None = None,
    hint: str = "",
    signed: bool = False,
) -> Classes:
    """Scores, and one-hot or soft labels of their shape; arguments as in `class_numbers`.

    A negative label is out of the domain, unless the loss takes labels that are `signed`.
    """
    absent = (-jnp.inf, 0)
    if hint:
        hint += _layout_of(data, axis)
    given = vectors(data, axis, request, hyper=hyper, absent=absent, hint=hint, scalar=False)
    scores, labels = given.data
    _check_several(next(iter(data)), scores, given.axes)
    if not signed:
        # The minimum is compared, not each label: an array of comparisons would be stored before
        # it is reduced.
        least = jnp.min(jax.lax.stop_gradient(labels), given.axes, initial=0)
        labels, known = in_domain(labels, labels >= 0, least >= 0)
        given = given.inside(known)
    return _classes(given, scores, labels, class_weights).replace(signed=signed)


def either(
    data: Mapping[str, Any],
    axis: Axis,
    request: Request,
    class_weights: ClassWeights = None,
    *,
    hyper: Hypers | None = None,
) -> Classes:
    """Class numbers or distributions: the rank of the labels says which."""
    (name, scores), (other, labels) = data.items()
    alike = inputs.real(name, scores).ndim == inputs.real(other, labels).ndim
    door = distributions if alike else class_numbers
    return door(data, axis, request, class_weights, hyper=hyper)


def labelled_scores(
    scores: Scores,
    labels: ClassNumbers,
    axis: Axis,
    request: Request,
    class_weights: ClassWeights,
    **hyper: Hyper,
) -> Classes:
    """The arguments `scores` and `labels` of a loss that takes class numbers only."""
    data = {"scores": scores, "labels": labels}
    hint = "; for one-hot labels: jnp.argmax(labels, axis) gives the numbers"
    return class_numbers(data, axis, request, class_weights, hyper=hyper, hint=hint)


def number_of(condition: jax.Array, axes: Axes) -> jax.Array:
    """For how many classes a condition holds, with the axes of the classes kept."""
    return jnp.sum(condition, axes, keepdims=True, dtype=jnp.int32)


def _classes(
    given: Vectors,
    scores: jax.Array,
    labels: jax.Array,
    class_weights: ClassWeights,
    number: jax.Array | None = None,
) -> Classes:
    """The record of scores and labels, from that of the vectors they are."""
    axes, by_class, counts = given.axes, None, None
    if class_weights is not None:
        by_class = inputs.by_class(class_weights, scores, axes)
        counts = jnp.sum(by_class * labels.astype(given.dtype), axes)
    return Classes(
        request=given.request,
        shape=given.shape,
        dtype=given.dtype,
        where=given.where,
        known=given.known,
        counts=counts,
        hyper=given.hyper,
        scores=scores,
        labels=labels,
        axes=axes,
        number=number,
        entries=given.entries,
        class_weights=by_class,
    )


def _check_numbers(arrays: Mapping[str, jax.Array], axes: Axes, hint: str, movable: bool) -> None:
    """Refuse labels that are no class numbers; arguments as in `class_numbers`."""
    (name, scores), (other, labels) = arrays.items()
    shape = inputs.outer(scores.shape, axes)
    got = inputs.described(**arrays)
    wanted = _intended_layout(other, labels.shape, scores.shape, axes, movable)
    if labels.shape == scores.shape:
        wanted = wanted or hint
    check_numbers(other, labels, shape, got, wanted)
    _check_several(name, scores, axes)


def check_numbers(
    name: str, labels: jax.Array, shape: tuple[int, ...], got: str, hint: str = ""
) -> None:
    """Refuse labels of another shape, or that are no integers.

    Args:
        name: That of the labels.
        labels: What the user gave.
        shape: That of the losses.
        got: The arguments, described.
        hint: What the user may have wanted, if the shape is another.
    """
    expected = f"{name} must be class numbers of shape {list(shape)}, got {got}{hint}"
    inputs.check_shape(labels, shape, expected)
    cast = f"; if they are, whatever their dtype: {name}.astype(int)"
    expected = f"{name} must be integers, the numbers of the classes, got {got}{cast}"
    inputs.check_integers(labels, expected)


def _layout_of(data: Mapping[str, Any], axis: Axis) -> str:
    """What else is to be said of labels that are class numbers, for a loss of distributions."""
    (name, scores), (other, labels) = data.items()
    scores, labels = inputs.real(name, scores), inputs.real(other, labels)
    if scores.shape == labels.shape:
        return ""
    axes = inputs.consumed(axis, name, scores)
    return _intended_layout(other, labels.shape, scores.shape, axes, True)


def _intended_layout(
    name: str,
    labels: tuple[int, ...],
    scores: tuple[int, ...],
    axes: Axes,
    movable: bool,
) -> str:
    """What class numbers of the wrong shape may be, if they are class numbers."""
    if len(axes) == 1 and movable:
        for i in range(len(scores)):
            if labels == inputs.outer(scores, (i,)):
                return f"; for classes along another axis: axis={i}"
    return inputs.spare_axis(name, labels, inputs.outer(scores, axes))


def _check_several(name: str, scores: jax.Array, axes: Axes) -> None:
    """Refuse a single class."""
    if all(scores.shape[i] == 1 for i in axes):
        raise ValueError(
            f"there must be two classes or more along axis {list(axes)}, "
            f"got {inputs.described(**{name: scores})}"
            "; for one logit per example: sigmoid_binary_cross_entropy"
        )
