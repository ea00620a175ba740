"""Images and label maps: how the data of segmentation are prepared.

An image holds a vector over the classes in each pixel. Its labels are a map of class numbers, or
an array of the shape of the image, one-hot or soft. A binary image holds one number in each pixel.
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
from .._contract.inputs import Axis
from .._contract.prepared import Hypers, Prepared
from .._contract.reduce import Request
from .._numerics.sharding import sharded_like
from .._numerics.shares import complemented_sigmoid, complemented_softmax

Predictions = Float[ArrayLike, "batch *space classes"] | Sequence[Any]
Targets = Int[ArrayLike, "batch *space"] | Real[ArrayLike, "batch *space classes"] | Sequence[Any]
Maps = Float[ArrayLike, "batch *space"] | Sequence[Any]
BinaryMaps = Real[ArrayLike, "batch *space"] | Sequence[Any]


@dataclass(frozen=True, eq=False, kw_only=True)
class Images(Prepared):
    """Probabilities and labels, the classes last; the losses are those of the images.

    Attributes:
        p: The probability of each class in each pixel.
        q: 1 - p, computed without cancellation.
        hits: The labels; 0 in an excluded pixel.
        others: 1 - labels; 0 in an excluded pixel.
        axes: The axes of the pixels, as non-negative integers.
        soft: Whether `hits` are labels as the user gave them, which may lie outside of [0, 1].
        given: Whether `p` are probabilities as the user gave them.
    """

    p: jax.Array
    q: jax.Array
    hits: jax.Array
    others: jax.Array
    axes: tuple[int, ...]
    soft: bool
    given: bool

    @property
    def classes(self) -> int:
        return self.p.shape[-1]


@dataclass(frozen=True, eq=False, kw_only=True)
class BinaryImages(Prepared):
    """Logits of a single class and its labels; the losses are those of the images.

    Attributes:
        logits: Of each pixel; NaN where the label is, 0 in an excluded pixel.
        positive: Whether a pixel that counts is of the class.
        negative: Whether it is not.
        axes: The axes of the pixels, as non-negative integers.
    """

    logits: jax.Array
    positive: jax.Array
    negative: jax.Array
    axes: tuple[int, ...]


def images(
    predictions: Predictions,
    targets: Targets,
    axis: Axis,
    activate: bool,
    request: Request,
    *,
    name: str = "targets",
    hyper: Hypers | None = None,
) -> Images:
    """Images and their labels, ready for arithmetic.

    Args:
        predictions: Logits, or probabilities if not `activate`.
        targets: Labels.
        axis: The axes of the pixels; all but the first and last if None.
        activate: Whether probabilities are the softmax of the predictions, or of a single class
            their sigmoid.
        request: The user's mask, weights and reduction.
        name: What the loss calls `targets`.
        hyper: Hyperparameters, a number or one for each image.
    """
    x, labels, numbered = _of_one_shape(predictions, targets, name)
    axes = _pixel_axes(axis, "predictions", x, 1)
    dtype = inputs.computing_dtype([x, labels])
    x = x.astype(dtype)
    labels = labels if numbered else labels.astype(dtype)
    entries = selected = None
    if request.where is not None:
        label_map = sharded_like(jnp.zeros(x.shape[:-1], bool), x, (-1,))
        entries, selected = inputs.selection(request.where, "the label map", label_map, axes)
        x = jnp.where(entries[..., None], x, 0)
        labels = jnp.where(entries if numbered else entries[..., None], labels, 0)
    if numbered:
        hits, known = _one_hot(labels, x)
        known = jnp.all(known, axes)
    else:
        # Whether they lie in [0, 1] is found where they are summed, without a pass of its own.
        hits, known = labels, None
    others = 1 - hits
    if entries is not None:
        hits, others = (jnp.where(entries[..., None], y, 0) for y in (hits, others))
    if not activate:
        p, q = x, 1 - x
    elif x.shape[-1] == 1:
        p, q = complemented_sigmoid(x)
    else:
        p, q = complemented_softmax(x)
    given = Images(
        request=request,
        shape=inputs.outer(x.shape[:-1], axes),
        dtype=dtype,
        where=selected,
        known=known,
        p=p,
        q=q,
        hits=hits,
        others=others,
        axes=axes,
        soft=not numbered,
        given=not activate,
    )
    return given.with_hyper(hyper or {}, x, (*axes, x.ndim - 1))


def binary_images(logits: Maps, labels: BinaryMaps, axis: Axis, request: Request) -> BinaryImages:
    """Binary images and their labels, ready for arithmetic; `axis` is that of the pixels."""
    x, t = one_number_each({"logits": logits, "labels": labels})
    axes = _pixel_axes(axis, "logits", x, 0)
    dtype = inputs.computing_dtype([x, t])
    x, t = x.astype(dtype), t.astype(dtype)
    positive, negative, selected = t > 0, t <= 0, None
    x = x + jnp.where(positive | negative, 0, jnp.nan).astype(dtype)
    if request.where is not None:
        entries, selected = inputs.selection(request.where, "logits", x, axes)
        x, positive, negative = jnp.where(entries, x, 0), positive & entries, negative & entries
    return BinaryImages(
        request=request,
        shape=inputs.outer(x.shape, axes),
        dtype=dtype,
        where=selected,
        logits=x,
        positive=positive,
        negative=negative,
        axes=axes,
    )


def one_number_each(data: Mapping[str, Any]) -> list[jax.Array]:
    """Binary images and their labels, of one shape."""
    (name, x), (_, t) = ((name, inputs.real(name, x)) for name, x in data.items())
    hint = ""
    if x.ndim > 2 and t.shape == (*x.shape[:1], *x.shape[2:]) and x.shape[1] > 1:
        moved = f"jnp.moveaxis({name}, 1, -1)"
        hint = f"; with several classes along axis 1: dice_loss or lovasz_softmax_loss of {moved}"
    return inputs.same_shape(data, hint, scalar=False)


def _of_one_shape(
    predictions: Predictions, targets: Targets, name: str
) -> tuple[jax.Array, jax.Array, bool]:
    """Predictions with an axis for the classes, labels, and whether those are class numbers."""
    x = inputs.leading({"predictions": predictions, name: targets})
    labels = inputs.real(name, targets)
    got = inputs.described(**{"predictions": x, name: labels})
    if x.ndim == labels.ndim - 1 and labels.shape[-1] == 1:
        x = x[..., None]
    numbered = labels.ndim == x.ndim - 1
    if labels.shape != (x.shape[:-1] if numbered else x.shape) or not x.ndim:
        raise ValueError(
            f"{name} must have the shape of predictions, where the classes are last, or that "
            f"shape without them, got {got}"
            f"{_layout('predictions', x.shape, name, labels.shape)}"
        )
    if numbered and x.shape[-1] == 1:
        return x, labels[..., None], False
    if numbered:
        labels = inputs.real(name, targets, numbers=True)
        message = f"{name} must be integers, the numbers of the classes, got {got}"
        inputs.check_integers(labels, f"{message}; cast with .astype(int)")
    return x, labels, numbered


def _layout(first: str, x: tuple[int, ...], second: str, labels: tuple[int, ...]) -> str:
    """What predictions and labels whose shapes do not fit may be: the end of a message.

    Either may have its classes along axis 1, as in PyTorch; the other one's shape tells.
    """
    for name, shape, other in ((first, x, labels), (second, labels, x)):
        moved = (*shape[:1], *shape[2:], *shape[1:2])
        if len(shape) > 2 and other in (moved, moved[:-1]):
            return f"; with classes along axis 1: jnp.moveaxis({name}, 1, -1)"
    return inputs.spare_axis(second, labels, x[:-1])


def _pixel_axes(axis: Axis, name: str, array: jax.Array, last: int) -> tuple[int, ...]:
    """The axes of the pixels; if None, all but the first one and the `last` ones."""
    if axis is None:
        return tuple(range(1, array.ndim - last))
    axes = inputs.consumed(axis, name, array)
    if last and array.ndim - 1 in axes:
        got = inputs.described(**{name: array})
        raise ValueError(f"axis names the pixels, not the classes, which are last; got {got}")
    return axes


def _one_hot(labels: jax.Array, like: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Class numbers one-hot, as the predictions are, and whether they are class numbers."""
    classes = like.shape[-1]
    index, inside = inputs.class_index(sharded_like(labels, like, (-1,)), classes)
    number = jax.lax.broadcasted_iota(jnp.int32, (*[1] * labels.ndim, classes), labels.ndim)
    return sharded_like((number == index[..., None]).astype(like.dtype), like), inside
