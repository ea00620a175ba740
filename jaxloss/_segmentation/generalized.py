"""Dice losses in which rare classes weigh as much as frequent ones."""

from __future__ import annotations

from typing import Literal, get_args

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from .._contract import inputs
from .._contract.devices import AxisName, check_axis_name
from .._contract.inputs import Axis
from .._contract.jit import jit
from .._contract.reduce import Reduction, Request, Weights, Where
from .._numerics.devices import added, greatest
from .._numerics.shares import inverse_shares
from .classes import over_classes, overlap_hypers, overlaps
from .images import Predictions, Targets, images
from .parts import share

ClassWeighting = Literal["square", "simple", "uniform"]


@jit("apply_softmax", "ignore_background", "per_image", "axis", "axis_name")
def multiclass_generalized_dice_loss(
    predictions: Predictions,
    targets: Targets,
    *,
    smooth: ArrayLike = 1.0,
    apply_softmax: bool = True,
    ignore_background: bool = False,
    epsilon: ArrayLike = 1e-7,
    per_image: bool = False,
    axis: Axis = None,
    axis_name: AxisName = None,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "mean",
) -> jax.Array:
    """Dice loss with rare classes weighing as much as frequent ones.

        mean over c of w_c (FP + FN) / (2 I + FP + FN + 2 smooth)
        w_c = v_c / mean of v,  v_c = 1 / (T_c^2 + epsilon)

    with T_c the sum of the labels of class c, over the batch unless `per_image`. A class that
    has no label outweighs all others by T^2 / epsilon.

    Args:
        predictions, targets, smooth: See `dice_loss`.
        apply_softmax: False if `predictions` are probabilities; see `dice_loss`.
        ignore_background: Whether to leave class 0 out of the mean; it still takes part in the
            mean of v.
        epsilon: 0 or more, else NaN; one number. At 0 classes without a label have all weight.
        per_image: Whether classes are counted in each image; otherwise the loss of an image
            depends on the other images that count.
        axis: The axes of the pixels; see `dice_loss`.
        axis_name: The axis of a `jax.shard_map`, or several, over whose devices the batch is
            spread: labels are counted on all of them, unless `per_image`. None for the images of
            each device by themselves. Without `shard_map` a batch on several devices needs no
            name.
        where: Which images, or which pixels; see `dice_loss`.
        weights, reduction: See `jaxloss.reduce`; the mean if not given, as in optax.

    Returns:
        The mean over the images; one loss per image, `[batch]`, with `reduction="none"`.

    Reference:
        Sudre et al., "Generalised Dice overlap as a deep learning loss function for highly
        unbalanced segmentations", 2017; as in optax, weights are of losses, not of sums.

    Example:
        >>> image = jnp.array([[[[2.0, 0.0], [0.0, 1.0]]]])
        >>> multiclass_generalized_dice_loss(image, jnp.array([[[0, 1]]]))
        Array(0.097172, dtype=float32)
    """
    request = Request(where, weights, reduction)
    half = overlap_hypers(smooth, 0.5, 0.5)
    image = images(predictions, targets, axis, apply_softmax, request, hyper=half)
    small = inputs.number("epsilon", epsilon).astype(image.dtype)
    check_axis_name(axis_name, {"predictions": image.p})
    batch = None if per_image else axis_name
    if image.where is not None:
        small = jnp.where(greatest(jnp.any(image.where), batch), small, 1)
    frequency = jnp.sum(image.hits, image.axes if per_image else range(image.hits.ndim - 1))
    frequency = added(frequency, batch)
    class_weights = inverse_shares(frequency * frequency + small) * image.classes
    image, wrong, found = overlaps(image)
    losses = share(wrong, found)
    losses *= jnp.broadcast_to(class_weights, losses.shape)
    return over_classes(image.inside(small >= 0), losses, ignore_background=ignore_background)


@jit("class_weighting", "apply_softmax", "ignore_background", "axis")
def generalized_dice_loss(
    predictions: Predictions,
    targets: Targets,
    *,
    class_weighting: ClassWeighting = "square",
    smooth: ArrayLike = 0.0,
    apply_softmax: bool = True,
    ignore_background: bool = False,
    axis: Axis = None,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Dice loss of all classes together, rare ones weighing as much as frequent ones.

        (sum over c of w_c (FP + FN)) / (sum over c of w_c (2 I + FP + FN) + 2 smooth)
        w_c = 1 / T_c^2, over the largest of them

    with T_c the sum of the labels of class c in the image. A class that has no label weighs as
    much as the rarest one that has. The weights are of the sums, those of
    `multiclass_generalized_dice_loss` of the losses of the classes.

    Args:
        predictions, targets: See `dice_loss`. The weights are held constant in soft labels.
        class_weighting: "square" for w_c as above, "simple" for 1 / T_c, "uniform" for 1.
        smooth: 0 or more, else NaN, in pixels of the rarest class. One number or one for each
            image.
        apply_softmax: False if `predictions` are probabilities; see `dice_loss`.
        ignore_background: Whether to leave class 0 out of the sums, if it is not the only one.
        axis: The axes of the pixels; see `dice_loss`. With the axis of the batch among them its
            images are one.
        where: Which images, or which pixels; see `dice_loss`.
        weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per image: `[batch]`.

    Reference:
        Sudre et al., "Generalised Dice overlap as a deep learning loss function for highly
        unbalanced segmentations", 2017, https://arxiv.org/abs/1707.03237.

    Example:
        >>> image = jnp.array([[[[2.0, 0.0], [0.0, 1.0], [2.0, 0.0]]]])
        >>> generalized_dice_loss(image, jnp.array([[[0, 1, 0]]]))
        Array([0.213021], dtype=float32)
    """
    inputs.one_of("class_weighting", class_weighting, get_args(ClassWeighting))
    request = Request(where, weights, reduction)
    hyper = overlap_hypers(smooth, 0.5, 0.5)
    image = images(predictions, targets, axis, apply_softmax, request, hyper=hyper)
    labels = jax.lax.stop_gradient(jnp.sum(image.hits, image.axes))
    # Class 0, if it is left out, is below the first that counts.
    first = int(ignore_background and image.classes > 1)
    counted = jax.lax.broadcasted_iota(jnp.int32, labels.shape, labels.ndim - 1) >= first
    there = (labels > 0) & counted
    least = jnp.min(jnp.where(there, labels, jnp.inf), -1, keepdims=True)
    power = get_args(ClassWeighting)[::-1].index(class_weighting)
    rarity = jnp.where(there, least / jnp.where(there, labels, 1), 1) ** power
    rarity = jnp.where(counted, rarity, 0)
    image, wrong, found = overlaps(image, smoothed=False)
    wrong, found = jnp.sum(rarity * wrong, -1), jnp.sum(rarity * found, -1)
    return image.reduced(share(wrong, found + image.hyper[0]))
