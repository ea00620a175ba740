"""Lovász extensions of the Jaccard loss: convex in the errors, and exact for hard predictions.

    sum over the pixels, the largest error first, of e_i (J_i - J_(i-1))

with the errors e of the pixels and J_i the Jaccard loss if the first i of them were wrong. The
slope of an error is its step of J. Where errors are equal every order gives the same loss;
positives then come first, and pixels of one label share their steps equally.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, cast, get_args

import jax
import jax.numpy as jnp

from .._contract import inputs
from .._contract.inputs import Axis, ClassWeights
from .._contract.jit import jit
from .._contract.prepared import in_unit_interval
from .._contract.reduce import Reduction, Request, Weights, Where
from .._numerics.kinks import hinge
from .._numerics.order import entries, number_below, positions
from .._numerics.sharding import whole_along
from .._numerics.special import one_if_zero, safe_product
from .._numerics.xla import sorted_alone
from .images import BinaryMaps, Maps, Predictions, Targets, binary_images, images

PresentClasses = Literal["present", "all"]


def _codes(
    errors: jax.Array, lack: jax.Array | None, positive: jax.Array, counted: jax.Array
) -> jax.Array:
    """An integer for each error, in the order of the errors; the least one if it is not counted.

    Among equal errors a positive pixel has the larger code. The bits of non-negative floats, read
    as integers, are in the order of the floats, and their sign bit is free: shifted by one, they
    leave the lowest bit for the label. If `lack`, 1 - error without cancellation, is given, errors
    above 1/2 are ordered by it, as those near 1 round to the same float.
    """
    wide = errors.dtype == jnp.float64
    integer, lowest = (jnp.int64, -(2**63)) if wide else (jnp.int32, -(2**31))

    def bits(x: jax.Array) -> jax.Array:
        return jax.lax.bitcast_convert_type(jnp.where(x > 0, x, 0), integer)

    order = bits(errors)
    if lack is not None:
        one = 2 * bits(jnp.full((), 0.5, errors.dtype))
        order = jnp.where(errors > 0.5, one - bits(lack), order)
    return jnp.where(counted, 2 * order + 1 + positive.astype(integer), 0) ^ lowest


def _steps(
    errors: jax.Array, lack: jax.Array | None, positive: jax.Array, negative: jax.Array
) -> jax.Array:
    """The step of the Jaccard loss at each pixel of each row; 0 for an error below 0."""
    codes = _codes(errors, lack, positive, (positive | negative) & (errors >= 0))
    # Sorted in ascending order, the largest error first.
    return sorted_alone(_steps_by_search, _steps_by_sorts, errors, ~codes, positive)


def _steps_by_search(errors: jax.Array, keys: jax.Array, positive: jax.Array) -> jax.Array:
    """The rank of a pixel is found by a search for its key."""
    ordered = jax.lax.sort(keys, is_stable=False)
    first, end = number_below(ordered, keys), number_below(ordered, keys, equal=True)
    wrong = (~ordered & 1).astype(jnp.int32)
    extra = entries(jnp.cumsum(wrong, -1) - wrong, first)
    total = jnp.sum(positive, -1, keepdims=True, dtype=jnp.int32)
    step = _step(
        errors, positive, total + extra, total - (first - extra), total + extra + end - first
    )
    return jnp.where(keys == jnp.iinfo(keys.dtype).max, 0, step)


def _steps_by_sorts(errors: jax.Array, keys: jax.Array, positive: jax.Array) -> jax.Array:
    """Pixels are sorted with their keys, and the steps back into the order of the pixels."""
    place = positions(keys)
    ordered, pixel = jax.lax.sort((keys, place), num_keys=1, is_stable=False)
    wrong = (~ordered & 1).astype(jnp.int32)
    ahead = jnp.cumsum(wrong, -1) - wrong
    # Of each run of equal keys, its start and its end.
    last = keys.ndim - 1
    alike, rows = ordered[..., 1:] == ordered[..., :-1], [(0, 0)] * last
    starts = jnp.where(jnp.pad(alike, [*rows, (1, 0)]), 0, place)
    ends = jnp.where(jnp.pad(alike, [*rows, (0, 1)]), keys.shape[-1], place + 1)
    first, end = jax.lax.cummax(starts, last), jax.lax.cummin(ends, last, reverse=True)
    total = jnp.sum(positive, -1, keepdims=True, dtype=jnp.int32)
    low = total + ahead - wrong * (place - first)
    step = _step(errors, wrong == 0, low, total - (place - ahead), total + ahead + end - place)
    step = jnp.where(ordered == jnp.iinfo(keys.dtype).max, 0, step)
    return jax.lax.sort((pixel, step), num_keys=1, is_stable=False)[1]


def _step(errors: jax.Array, positive: jax.Array, *counts: jax.Array) -> jax.Array:
    """With m positives and n negatives ahead, from P + n, P - m and P + n with those alike.

    J = (m + n) / (P + n): a positive adds 1 / (P + n), and b negatives
    (P - m) b / ((P + n) (P + n + b)) together.
    """
    low, left, high = (x.astype(errors.dtype) for x in counts)
    by_positive = 1 / one_if_zero(low)
    by_negative = jnp.where(low == 0, 1, left * by_positive) * (1 / jnp.maximum(high, 1))
    return jnp.where(positive, by_positive, by_negative)


def _extension(
    errors: jax.Array,
    lack: jax.Array | None,
    positive: jax.Array,
    negative: jax.Array,
    axes: tuple[int, ...],
) -> jax.Array:
    """The sum over the pixels of error times step, NaN if an error is; those below 0 count as 0."""
    outer = inputs.outer(errors.shape, axes)
    size = math.prod(errors.shape[i] for i in axes)
    if not errors.size:
        return jnp.sum(errors, axes)

    # Images and classes that lie on several devices are no single axis of rows.
    leading = outer if any(jax.typeof(errors).sharding.spec) else (-1,)

    def rows(x: jax.Array) -> jax.Array:
        # Pixels are sorted: those of an image are gathered on one device.
        last = jnp.moveaxis(whole_along(x, axes), axes, range(-len(axes), 0))
        return last.reshape(*leading, size)

    errors, positive, negative = rows(errors), rows(positive), rows(negative)
    lack = None if lack is None else jax.lax.stop_gradient(rows(lack))
    step = _steps(jax.lax.stop_gradient(errors), lack, positive, negative)
    # An infinite error may have a step of 0, which makes it cost 0.
    losses = jnp.sum(safe_product(step, hinge(errors)), -1)
    losses = inputs.nan_outside(losses, ~jnp.any(jnp.isnan(errors), -1))
    return losses.reshape(outer)


@jit("axis")
def lovasz_hinge_loss(
    logits: Maps,
    labels: BinaryMaps,
    *,
    axis: Axis = None,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Lovász extension of the Jaccard loss of the positive pixels, over hinges.

        sum over i, the largest e first, of max(0, e_i) (J_i - J_(i-1)),  e = 1 - s x

    with J_i = 1 - (P - m) / (P + n), m positives and n negatives being among the first i pixels
    and P in all. Without a positive that is max(0, e) of the worst pixel. At e = 0 the slope is
    that of the active side. Of equal errors positives come first, and pixels of one label share
    their steps equally.

    Args:
        logits: x, `[batch, *space]`, positive for a positive pixel.
        labels: The shape of `logits`. s is 1 where a label is greater than 0 and -1 elsewhere,
            so that {0, 1}, {-1, 1} and booleans mean the same.
        axis: The axes of the pixels; all but the first if None.
        where: Of the shape of the loss, which images count; of the shape of `logits`, which
            pixels. An excluded pixel may hold anything; an image without a pixel is excluded.
        weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per image: `[batch]`.

    Reference:
        Berman, Triki and Blaschko, "The Lovász-softmax loss: a tractable surrogate for the
        optimization of the intersection-over-union measure in neural networks", 2018, eq. 9,
        https://arxiv.org/abs/1705.08790.

    Example:
        >>> lovasz_hinge_loss(jnp.array([[2.0, 0.5, -3.0]]), jnp.array([[1, 0, 0]]))
        Array([0.75], dtype=float32)
    """
    image = binary_images(logits, labels, axis, Request(where, weights, reduction))
    errors = 1 + jnp.where(image.positive, -image.logits, image.logits)
    return image.reduced(_extension(errors, None, image.positive, image.negative, image.axes))


def _chosen(classes: PresentClasses | Sequence[int], count: int, without_first: bool) -> list[int]:
    """The numbers of the classes whose losses the mean is over."""
    if isinstance(classes, str):
        inputs.one_of("classes", classes, get_args(PresentClasses))
        chosen = list(range(count))
    else:
        chosen = list(classes) if isinstance(classes, Sequence) else []
        whole = all(isinstance(c, int) and not isinstance(c, bool) for c in chosen)
        if not chosen or not whole or len(set(chosen)) < len(chosen):
            raise ValueError(
                f'classes must be "present", "all" or different numbers of classes, got {classes!r}'
            )
        if not all(0 <= c < count for c in chosen):
            raise ValueError(f"classes must lie in [0, {count}), got {classes!r}")
    return [c for c in chosen if c or not without_first or count == 1]


@jit("apply_softmax", "classes", "ignore_background", "axis")
def lovasz_softmax_loss(
    predictions: Predictions,
    labels: Targets,
    *,
    apply_softmax: bool = True,
    classes: PresentClasses | Sequence[int] = "present",
    ignore_background: bool = False,
    class_weights: ClassWeights = None,
    axis: Axis = None,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Lovász extension of the Jaccard loss of each class, the mean over the classes.

        mean over c of w_c sum over i, the largest e first, of e_i (J_i - J_(i-1))

    with the errors e = 1 - p in the pixels of class c and p in the others, and
    J_i = 1 - (P - m) / (P + n), m pixels of the class and n others being among the first i and P
    in all. Of equal errors the pixels of the class come first, and pixels that agree in it share
    their steps equally.

    Args:
        predictions: Logits `[batch, *space, classes]`; see `dice_loss`.
        labels: The numbers of the classes, integers `[batch, *space]`, or one-hot of the shape of
            `predictions`; else NaN.
        apply_softmax: False if `predictions` are probabilities; outside [0, 1] they give NaN.
        classes: "present" for the mean over the classes that the image has, "all" for that over
            all of them, of which an absent one costs its largest probability, or the numbers of
            the classes that the mean is over, present or not.
        ignore_background: Whether to leave class 0 out, if it is not the only one.
        class_weights: w, a weight for each class. The sum is still divided by their number.
        axis: The axes of the pixels; all but the first and last if None.
        where: Which images, or which pixels; see `dice_loss`.
        weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per image: `[batch]`.

    Reference:
        Berman, Triki and Blaschko, "The Lovász-softmax loss: a tractable surrogate for the
        optimization of the intersection-over-union measure in neural networks", 2018, eq. 12,
        https://arxiv.org/abs/1705.08790.

    Example:
        >>> image = jnp.array([[[0.9, 0.1], [0.2, 0.8]]])
        >>> lovasz_softmax_loss(image, jnp.array([[0, 1]]), apply_softmax=False)
        Array([0.175], dtype=float32)
    """
    request = Request(where, weights, reduction)
    image = images(predictions, labels, axis, apply_softmax, request, name="labels")
    chosen = _chosen(classes, image.classes, ignore_background)
    positive, negative = image.hits > 0, image.others > 0
    rest = (*image.axes, image.hits.ndim - 1)
    domain = (image.hits == 0) | (image.hits == 1)
    if not apply_softmax:
        domain &= in_unit_interval(image.p)
    image = image.inside(jnp.all(domain, rest))
    errors = jnp.where(positive, image.q, jnp.where(negative, image.p, 0))
    # The errors too, or of an image outside the domain those of absent classes would have
    # derivative 0.
    known = cast("jax.Array", image.known)
    errors = inputs.nan_outside(errors, jnp.expand_dims(known, rest))
    lack = jnp.where(positive, image.p, image.q)
    weighing = None
    if class_weights is not None:
        weighing = inputs.by_class(class_weights, image.p, (image.p.ndim - 1,)).ravel()
    if len(chosen) < image.classes:
        take = jnp.array(chosen, jnp.int32)
        errors, lack, positive, negative = (
            whole_along(x, (-1,))[..., take] for x in (errors, lack, positive, negative)
        )
        weighing = None if weighing is None else weighing[take]
    losses = _extension(errors, lack, positive, negative, image.axes)
    if weighing is not None:
        losses = inputs.by_class(weighing, losses, (losses.ndim - 1,)) * losses
    count = jnp.full(losses.shape[:-1], len(chosen), losses.dtype)
    if classes == "present":
        there = jnp.any(positive, image.axes)
        losses = jnp.where(there, losses, 0)
        count = jnp.sum(there, -1, dtype=jnp.int32).astype(losses.dtype)
    losses = jnp.sum(losses, -1) / jnp.maximum(count, 1)
    return image.reduced(losses)
