"""Labels of classes: what all losses that have a class axis make of them.

Labels are class numbers, integers without the axis of the classes, or distributions, one-hot or
soft, of the shape of the scores.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Float, Int, Real

from .._contract import inputs
from .._contract.inputs import Axis, ClassWeights, by_class, given
from .._contract.reduce import Losses, Reduction, Weights, Where, reduced
from .._numerics.softmax import surprisal, surprisals

Scores = Float[ArrayLike, "*batch classes"] | Sequence[Any]
ClassNumbers = Int[ArrayLike, "*batch"] | Sequence[Any]
Distributions = Real[ArrayLike, "*batch classes"] | Sequence[Any]
Labels = ClassNumbers | Distributions


class Classes(NamedTuple):
    """Scores and labels, ready for arithmetic.

    Attributes:
        scores: -inf for a class that the mask excludes; 1 in an excluded example.
        labels: The distributions; or, from class numbers, whether a class is the right one.
        axes: Those of the classes, in the order given.
        where: The mask of the loss.
        known: Whether the label is a class that is there, or a distribution of 0 and more.
        counts: What an example counts for in a mean, if not 1: its labels times class weights.
        class_weights: To be multiplied with scores.
    """

    scores: jax.Array
    labels: jax.Array
    axes: tuple[int, ...]
    where: jax.Array | None
    known: jax.Array
    counts: jax.Array | None = None
    class_weights: jax.Array | None = None

    def option(self, name: str, value: ArrayLike) -> jax.Array:
        """A hyperparameter: one number, or one for each example; 1 where that is excluded."""
        shape = inputs.outer(self.scores.shape, self.axes)
        return inputs.option(name, value, shape, self.scores.dtype, self.where)

    def weighted(self, losses: jax.Array) -> jax.Array:
        """Losses of class numbers, times the weight of the class."""
        return losses if self.counts is None else self.counts * losses

    def mass(self) -> jax.Array:
        """The sum of the labels times their weights."""
        if self.counts is not None:
            return self.counts
        return jnp.sum(self.labels.astype(self.scores.dtype), self.axes)

    def reduced(self, losses: jax.Array, weights: Weights, reduction: Reduction) -> Losses:
        losses = inputs.nan_outside(losses, self.known)
        return reduced(losses, self.where, weights, reduction, counts=self.counts)


def class_numbers(
    data: Mapping[str, Any],
    axis: Axis,
    where: Where,
    class_weights: ClassWeights = None,
    hint: str = "",
    *,
    movable: bool = True,
) -> Classes:
    """Scores, and the number of the right class of each example.

    Args:
        data: Scores, then labels.
        axis: The axis of the classes; of several, labels count through the last one first.
        where: The user's mask.
        class_weights: The user's weights.
        hint: What the user may have wanted, if the labels are no class numbers.
        movable: Whether the loss has a parameter `axis`.
    """
    (name, scores), (other, labels) = data.items()
    scores, labels = inputs.floating(name, scores), inputs.real(other, labels)
    axes = inputs.consumed(axis, name, scores)
    shape = inputs.outer(scores.shape, axes)
    got = f"got {inputs.described(**{name: scores, other: labels})}"
    wanted = _laid_out(other, labels.shape, scores.shape, axes, movable) or hint
    expected = f"{other} must be class numbers of shape {list(shape)}, {got}{wanted}"
    inputs.check_shapes([labels, np.broadcast_to(0, shape)], custom_message=expected)
    cast = f"; if they are, whatever their dtype: {other}.astype(int){hint}"
    expected = f"{other} must be integers, the numbers of the classes, {got}{cast}"
    inputs.check_type(labels, int, custom_message=expected)
    _check_several(name, scores, axes)
    scores = scores.astype(inputs.computing_dtype([scores]))
    number, count = jnp.zeros((1,) * scores.ndim, jnp.int32), 1
    for i in axes:
        along = [size if i == j else 1 for j, size in enumerate(scores.shape)]
        number = number * scores.shape[i] + jax.lax.broadcasted_iota(jnp.int32, along, i)
        count *= scores.shape[i]
    index, known = inputs.class_index(labels, count)
    hit = jnp.broadcast_to(number == jnp.expand_dims(index, axes), scores.shape)
    selected = None
    if where is not None:
        entries, selected = inputs.selection(where, name, scores.shape, axes)
        known = (known & jnp.any(hit & entries, axis=axes)) | ~selected
        scores = inputs.blanked(scores, entries, selected, axes, -jnp.inf)
    return _weighted(Classes(scores, hit, axes, selected, known), class_weights)


def _laid_out(
    name: str,
    labels: tuple[int, ...],
    scores: tuple[int, ...],
    axes: tuple[int, ...],
    movable: bool,
) -> str:
    """What class numbers of the wrong shape may be, if they are class numbers."""
    if len(axes) == 1:
        if labels == (*inputs.outer(scores, axes), 1):
            return f"; drop the last axis of {name}: {name}[..., 0]"
        others = [i for i in range(len(scores)) if labels == inputs.outer(scores, (i,))]
        if others and movable:
            return f"; for classes along another axis: axis={others[0]}"
    return ""


def distributions(
    data: Mapping[str, Any],
    axis: Axis,
    where: Where,
    class_weights: ClassWeights = None,
    hint: str = "",
) -> Classes:
    """Scores, and one-hot or soft labels of their shape; arguments as in `class_numbers`."""
    (scores, labels), axes, selected = inputs.vectors(
        data, axis, where, absent=(-jnp.inf, 0), hint=hint, scalar=False
    )
    _check_several(next(iter(data)), scores, axes)
    # A minimum, as what is compared would be written to memory before it is reduced.
    known = jnp.min(jax.lax.stop_gradient(labels), axes, initial=0) >= 0
    return _weighted(Classes(scores, labels, axes, selected, known), class_weights)


def either(
    data: Mapping[str, Any], axis: Axis, where: Where, class_weights: ClassWeights = None
) -> Classes:
    """Class numbers or distributions: the rank of the labels says which."""
    (name, scores), (other, labels) = data.items()
    arrays = {name: inputs.floating(name, scores), other: inputs.real(other, labels)}
    alike = arrays[name].ndim == arrays[other].ndim
    return (distributions if alike else class_numbers)(arrays, axis, where, class_weights)


def _weighted(classes: Classes, class_weights: ClassWeights) -> Classes:
    if class_weights is None:
        return classes
    axes, scores = classes.axes, classes.scores
    weights = by_class(class_weights, scores, axes)
    terms = weights * classes.labels.astype(scores.dtype)
    return classes._replace(counts=jnp.sum(terms, axes), class_weights=weights)


def _check_several(name: str, scores: jax.Array, axes: tuple[int, ...]) -> None:
    if all(scores.shape[i] == 1 for i in axes):
        raise ValueError(
            f"there must be two classes or more along axis {list(axes)}, "
            f"got {inputs.described(**{name: scores})}"
            "; for one logit per example: sigmoid_binary_cross_entropy"
        )


def smoothed(
    labels: jax.Array, epsilon: jax.Array, there: jax.Array, axes: tuple[int, ...]
) -> jax.Array:
    """(1 - epsilon) labels + epsilon / K, where K classes are there."""
    epsilon = jnp.expand_dims(epsilon, axes)
    count = jnp.sum(there, axes, keepdims=True, dtype=jnp.int32).astype(labels.dtype)
    # One factor of epsilon, or its derivative would be a difference of sums.
    return labels + epsilon * (jnp.where(there, 1 / jnp.maximum(count, 1), 0) - labels)


def targets(classes: Classes, label_smoothing: ArrayLike = 0.0) -> tuple[Classes, jax.Array | None]:
    """Labels times class weights, smoothed; None where the right class alone has one.

    In that case `Classes.weighted` gives the loss its class weight. A class whose logit is -inf
    takes no part in the smoothing.
    """
    x, labels, axes = classes.scores, classes.labels, classes.axes
    y = labels.astype(x.dtype)
    if given(label_smoothing, 0):
        epsilon = classes.option("label_smoothing", label_smoothing)
        classes = classes._replace(known=classes.known & (epsilon >= 0) & (epsilon <= 1))
        y = smoothed(y, epsilon, x > -jnp.inf, axes)
    elif labels.dtype == bool:
        return classes, None
    by_class = classes.class_weights
    return classes, y if by_class is None else by_class * y


def over_classes(
    classes: Classes,
    label_smoothing: ArrayLike,
    loss: Callable[..., jax.Array],
    *options: jax.Array,
) -> tuple[Classes, jax.Array]:
    """The sum over the classes of labels times a loss of u = -log softmax(x)."""
    axes = classes.axes
    classes, labels = targets(classes, label_smoothing)
    if labels is None:
        u = surprisal(classes.scores, classes.labels, axes)
        return classes, classes.weighted(loss(u, *options))
    u = surprisals(classes.scores, axes)
    # Of an absent class the loss may be infinite, but the label is 0.
    absent = (labels == 0) & (u == jnp.inf)
    knobs = (jnp.expand_dims(option, axes) for option in options)
    losses = loss(jnp.where(absent, 1, u), *knobs)
    return classes, jnp.sum(jnp.where(absent, 0, labels * losses), axes)


Axes = tuple[int, ...]
_HINT = "; for one-hot labels: jnp.argmax(labels, axis) gives the numbers"


def scored(
    scores: Scores, labels: ClassNumbers, axis: Axis, where: Where, class_weights: ClassWeights
) -> Classes:
    return class_numbers({"scores": scores, "labels": labels}, axis, where, class_weights, _HINT)


def number_of(condition: jax.Array, axes: Axes) -> jax.Array:
    """How many there are, with the axes of the classes kept."""
    return jnp.sum(condition, axes, keepdims=True, dtype=jnp.int32)
