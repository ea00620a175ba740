"""Images and label maps: what all losses of segmentation make of them.

An image holds a vector over the classes in each pixel. Labels are a map of the numbers of the
classes, or of the shape of the image, one-hot or soft.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Bool, Float, Int, Real

from .._contract import inputs
from .._contract.inputs import Axis
from .._numerics.softmax import complemented_softmax
from .._numerics.special import sigmoids

Predictions = Float[ArrayLike, "batch *space classes"] | Sequence[Any]
Targets = Int[ArrayLike, "batch *space"] | Real[ArrayLike, "batch *space classes"] | Sequence[Any]
Where = Bool[ArrayLike, "*#batch"] | Bool[ArrayLike, "batch *#space"] | None


class Images(NamedTuple):
    """Probabilities and labels, ready for arithmetic, the classes last.

    Attributes:
        p: The probability of each class in each pixel.
        q: 1 - p, with digits of its own.
        hits: The labels; 0 in an excluded pixel.
        others: 1 less the labels; 0 in an excluded pixel.
        axes: Those of the pixels.
        entries: The mask of the pixels.
        where: The mask of the images.
        known: Whether all labels and probabilities of an image are such.
    """

    p: jax.Array
    q: jax.Array
    hits: jax.Array
    others: jax.Array
    axes: tuple[int, ...]
    entries: jax.Array | None
    where: jax.Array | None
    known: jax.Array

    @property
    def classes(self) -> int:
        return self.p.shape[-1]

    def option(self, name: str, value: ArrayLike) -> jax.Array:
        """A hyperparameter: one number, or one for each image; with an axis for the classes."""
        shape = inputs.outer(self.p.shape[:-1], self.axes)
        rows = inputs.field(name, value, shape, "the loss").astype(self.p.dtype)
        rows = jnp.broadcast_to(rows, shape)
        rows = rows if self.where is None else jnp.where(self.where, rows, 1)
        return jnp.expand_dims(rows, -1)

    def by_class(self, class_weights: Any) -> jax.Array:
        """The weights of the classes, for each image."""
        array = inputs.real("class_weights", class_weights)
        message = (
            f"class_weights must have shape {[self.classes]}, a weight for each class, "
            f"got {inputs.described(class_weights=array)}"
        )
        inputs.check_shapes([array, self.p[(0,) * (self.p.ndim - 1)]], custom_message=message)
        shape = (*inputs.outer(self.p.shape[:-1], self.axes), self.classes)
        return jnp.broadcast_to(array.astype(self.p.dtype), shape)


def pixel_axes(axis: Axis, name: str, array: jax.Array, last: int) -> tuple[int, ...]:
    """The axes of the pixels: if not given, all but the first one and the `last` ones."""
    if axis is None:
        return tuple(range(1, array.ndim - last))
    axes = inputs.consumed(axis, name, array)
    if last and array.ndim - 1 in axes:
        got = inputs.described(**{name: array})
        raise ValueError(f"axis names the pixels, not the classes, which are last; got {got}")
    return axes


def images(
    predictions: Predictions,
    targets: Targets,
    axis: Axis,
    where: Where,
    activate: bool,
    name: str = "targets",
) -> Images:
    """Logits, or probabilities if not `activate`, and their labels."""
    x, labels = inputs.floating("predictions", predictions), inputs.real(name, targets)
    got = inputs.described(**{"predictions": x, name: labels})
    if x.ndim == labels.ndim - 1 and labels.shape[-1] == 1:
        x = x[..., None]
    numbers = labels.ndim == x.ndim - 1
    if labels.shape != (x.shape[:-1] if numbers else x.shape) or not x.ndim:
        raise ValueError(
            f"{name} must have the shape of predictions, where the classes are last, or that "
            f"shape without them, got {got}"
        )
    if numbers and x.shape[-1] == 1:
        labels, numbers = labels[..., None], False
    if numbers:
        message = f"{name} must be integers, the numbers of the classes, got {got}"
        inputs.check_type(labels, int, custom_message=f"{message}; cast with .astype(int)")
    axes = pixel_axes(axis, "predictions", x, 1)
    dtype = inputs.computing_dtype([x, labels])
    x = x.astype(dtype)
    labels = labels if numbers else labels.astype(dtype)
    entries = selected = None
    if where is not None:
        entries, selected = inputs.selection(where, "the label map", x.shape[:-1], axes)
        x = jnp.where(entries[..., None], x, 0)
        labels = jnp.where(entries if numbers else entries[..., None], labels, 0)
    hits, known = (_one_hot if numbers else _soft)(labels, x, axes)
    others = 1 - hits
    if entries is not None:
        hits, others = (jnp.where(entries[..., None], y, 0) for y in (hits, others))
    if not activate:
        known &= jnp.all((x >= 0) & (x <= 1), (*axes, x.ndim - 1))
        p, q = x, 1 - x
    elif x.shape[-1] == 1:
        _, q, p = sigmoids(x)
    else:
        p, q = complemented_softmax(x)
    return Images(p, q, hits, others, axes, entries, selected, known)


def _one_hot(labels: jax.Array, x: jax.Array, axes: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
    index, known = inputs.class_index(labels, x.shape[-1])
    number = jax.lax.broadcasted_iota(jnp.int32, (*[1] * labels.ndim, x.shape[-1]), labels.ndim)
    return (number == index[..., None]).astype(x.dtype), jnp.all(known, axes)


def _soft(labels: jax.Array, x: jax.Array, axes: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
    return labels, jnp.all((labels >= 0) & (labels <= 1), (*axes, x.ndim - 1))
