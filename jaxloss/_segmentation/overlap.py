"""Overlap of a predicted segmentation with the true one: a single formula in several settings.

In the formulas p are the probabilities of the pixels of an image, t their labels, and of each class

    I = sum of p t,  FP = sum of p (1 - t),  FN = sum of (1 - p) t

are what is found, what is found wrongly and what is missed. The losses are 1 less a share of I,
computed as the share of the rest, which keeps its digits when the prediction is nearly perfect.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from .._contract import inputs
from .._contract.inputs import Axis, ClassWeights
from .._contract.jit import jit
from .._contract.reduce import Reduction, Request, Weights, Where
from .._numerics.sharding import sharded_like
from .classes import ClassReduction, over_classes, overlap_hypers, overlaps
from .images import Predictions, Targets, images, one_number_each
from .parts import log_share, share, share_to_power

_OPTIONS = (
    "apply_softmax",
    "ignore_background",
    "class_reduction",
    "axis",
    "squared_predictions",
    "log_loss",
)


@jit(*_OPTIONS)
def dice_loss(
    predictions: Predictions,
    targets: Targets,
    *,
    class_weights: ClassWeights = None,
    smooth: ArrayLike = 1.0,
    smooth_denominator: ArrayLike | None = None,
    alpha: ArrayLike = 0.5,
    beta: ArrayLike = 0.5,
    squared_predictions: bool = False,
    log_loss: bool = False,
    apply_softmax: bool = True,
    ignore_background: bool = False,
    class_reduction: ClassReduction = "mean",
    axis: Axis = None,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Dice loss, the mean over the classes.

        mean over c of w_c (alpha FP + beta FN) / (I + alpha FP + beta FN + smooth)

    with I, FP and FN the sums over the pixels of p t, p (1 - t) and (1 - p) t: from 0 to w_c. With
    `smooth=0` a class that is neither predicted nor labelled costs 0, with gradient 0.

    Args:
        predictions: Logits `[batch, *space, classes]`, the classes last. A single class is one
            against the rest: its probability is the sigmoid of its logit.
        targets: The numbers of the classes, integers `[batch, *space]`, or t, one-hot or soft,
            of the shape of `predictions`. With a single class `[batch, *space]` holds t itself.
            A class number outside [0, classes) or a t outside [0, 1] makes its image NaN.
        class_weights: w, a weight for each class. The sum is still divided by their number.
        smooth: 0 or more, else NaN. One number or one for each image, as are alpha and beta.
        smooth_denominator: Another smoothing of the denominator: the loss is then 1 less
            (I + smooth) / (I + alpha FP + beta FN + smooth_denominator). Above 0, else NaN.
            The smoothings of MONAI, of 2 I over P + T, are twice these.
        alpha: The weight of false positives: 0 or more, else NaN.
        beta: The weight of false negatives: 0 or more, else NaN.
        squared_predictions: Whether FP is the sum of p^2 - p t and FN that of t^2 - p t. The
            denominator is then half the sum of p^2 and t^2, as in the reference; with
            probabilities between 0 and 1, unsure pixels weigh less.
        log_loss: Whether the loss of a class is -log(1 - loss), which is steep where nothing is
            found: inf without smoothing.
        apply_softmax: False if `predictions` are probabilities. They need not sum to 1, but
            outside [0, 1] they give NaN.
        ignore_background: Whether to leave class 0 out of the mean, if it is not the only one.
        class_reduction: "mean" or "sum" over the classes, "present" for the mean over those
            that the labels of the image have, or "none" for a loss of each class. What optax
            calls `reduction`.
        axis: The axes of the pixels; all but the first and last if None. All but the last for
            one image without a batch.
        where: Of the shape of the loss, which images count; of the shape of the label map, which
            pixels. An excluded pixel may hold anything; an image without a pixel is excluded.
        weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per image, `[batch]`; `[batch, classes]` with `class_reduction="none"`.

    Reference:
        Milletari et al., "V-Net: fully convolutional neural networks for volumetric medical image
        segmentation", 2016, section 3, https://arxiv.org/abs/1606.04797.

    Example:
        >>> image = jnp.array([[[[0.9, 0.1], [0.2, 0.8]]]])
        >>> dice_loss(image, jnp.array([[[0, 1]]]), smooth=0.0, apply_softmax=False)
        Array([0.150376], dtype=float32)
    """
    request = Request(where, weights, reduction)
    hyper = overlap_hypers(smooth, alpha, beta, smooth_denominator)
    image = images(predictions, targets, axis, apply_softmax, request, hyper=hyper)
    image, *parts = overlaps(image, squared_predictions)
    losses = log_share(*parts) if log_loss else share(*parts)
    return over_classes(image, losses, class_weights, ignore_background, class_reduction)


@jit(*_OPTIONS)
def tversky_loss(
    predictions: Predictions,
    targets: Targets,
    *,
    alpha: ArrayLike = 0.5,
    beta: ArrayLike = 0.5,
    class_weights: ClassWeights = None,
    smooth: ArrayLike = 1.0,
    smooth_denominator: ArrayLike | None = None,
    log_loss: bool = False,
    apply_softmax: bool = True,
    ignore_background: bool = False,
    class_reduction: ClassReduction = "mean",
    axis: Axis = None,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Tversky loss: `dice_loss`, made for unequal weights of false positives and negatives.

        mean over c of w_c (alpha FP + beta FN) / (I + alpha FP + beta FN + smooth)

    Args:
        predictions, targets, class_weights, smooth, smooth_denominator: See `dice_loss`.
        alpha: The weight of false positives: 0 or more, else NaN.
        beta: The weight of false negatives, which is larger where small regions are missed.
        log_loss, apply_softmax, ignore_background, class_reduction: See `dice_loss`.
        axis, where: See `dice_loss`.
        weights, reduction: See `jaxloss.reduce`.

    Returns:
        See `dice_loss`.

    Reference:
        Salehi, Erdogmus and Gholipour, "Tversky loss function for image segmentation using 3D
        fully convolutional deep networks", 2017, eq. 4, https://arxiv.org/abs/1706.05721.

    Example:
        >>> image = jnp.array([[[[0.9, 0.1], [0.2, 0.8]]]])
        >>> options = dict(alpha=0.3, beta=0.7, smooth=0.0, apply_softmax=False)
        >>> tversky_loss(image, jnp.array([[[0, 1]]]), **options)
        Array([0.150736], dtype=float32)
    """
    request = Request(where, weights, reduction)
    hyper = overlap_hypers(smooth, alpha, beta, smooth_denominator)
    image = images(predictions, targets, axis, apply_softmax, request, hyper=hyper)
    image, *parts = overlaps(image)
    losses = log_share(*parts) if log_loss else share(*parts)
    return over_classes(image, losses, class_weights, ignore_background, class_reduction)


@jit(*_OPTIONS)
def focal_tversky_loss(
    predictions: Predictions,
    targets: Targets,
    *,
    alpha: ArrayLike = 0.5,
    beta: ArrayLike = 0.5,
    gamma: ArrayLike = 0.75,
    class_weights: ClassWeights = None,
    smooth: ArrayLike = 1.0,
    apply_softmax: bool = True,
    ignore_background: bool = False,
    class_reduction: ClassReduction = "mean",
    axis: Axis = None,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Tversky loss to a power, of each class before the mean.

        mean over c of w_c ((alpha FP + beta FN) / (I + alpha FP + beta FN + smooth))^gamma

    For gamma below 1 the slope grows without bound towards a perfect prediction, and is taken as
    0 at it.

    Args:
        predictions, targets, class_weights, smooth: See `dice_loss`.
        alpha, beta: The weights of false positives and negatives: 0 or more, else NaN.
        gamma: 0 or more, else NaN. The reference writes 1/gamma for it, 4/3 for the default.
        apply_softmax, ignore_background, class_reduction, axis, where: See `dice_loss`.
        weights, reduction: See `jaxloss.reduce`.

    Returns:
        See `dice_loss`.

    Reference:
        Abraham and Khan, "A novel focal Tversky loss function with improved attention U-Net for
        lesion segmentation", 2018, eq. 4, https://arxiv.org/abs/1810.07842.

    Example:
        >>> image = jnp.array([[[[0.9, 0.1], [0.2, 0.8]]]])
        >>> focal_tversky_loss(image, jnp.array([[[0, 1]]]), smooth=0.0, apply_softmax=False)
        Array([0.241425], dtype=float32)
    """
    request = Request(where, weights, reduction)
    hyper = overlap_hypers(smooth, alpha, beta, gamma=gamma)
    image = images(predictions, targets, axis, apply_softmax, request, hyper=hyper)
    image, wrong, found = overlaps(image)
    losses, lack = share(wrong, found), share(found, wrong)
    power = jnp.broadcast_to(jnp.expand_dims(image.hyper[3], -1), losses.shape)
    power = sharded_like(power, losses)
    losses = share_to_power(losses, lack, power)
    return over_classes(image, losses, class_weights, ignore_background, class_reduction)


@jit(*_OPTIONS)
def jaccard_loss(
    predictions: Predictions,
    targets: Targets,
    *,
    class_weights: ClassWeights = None,
    smooth: ArrayLike = 1.0,
    smooth_denominator: ArrayLike | None = None,
    squared_predictions: bool = False,
    log_loss: bool = False,
    apply_softmax: bool = True,
    ignore_background: bool = False,
    class_reduction: ClassReduction = "mean",
    axis: Axis = None,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """1 less the soft intersection over union, the mean over the classes.

        mean over c of w_c (FP + FN) / (I + FP + FN + smooth)

    Args:
        predictions, targets, class_weights, smooth, smooth_denominator: See `dice_loss`.
        squared_predictions, log_loss, apply_softmax, ignore_background: See `dice_loss`.
        class_reduction, axis, where: See `dice_loss`.
        weights, reduction: See `jaxloss.reduce`.

    Returns:
        See `dice_loss`.

    Reference:
        Rahman and Wang, "Optimizing intersection-over-union in deep neural networks for image
        segmentation", 2016, eq. 3 to 5.

    Example:
        >>> image = jnp.array([[[[0.9, 0.1], [0.2, 0.8]]]])
        >>> jaccard_loss(image, jnp.array([[[0, 1]]]), smooth=0.0, apply_softmax=False)
        Array([0.261364], dtype=float32)
    """
    request = Request(where, weights, reduction)
    hyper = overlap_hypers(smooth, 1.0, 1.0, smooth_denominator)
    image = images(predictions, targets, axis, apply_softmax, request, hyper=hyper)
    image, *parts = overlaps(image, squared_predictions)
    losses = log_share(*parts) if log_loss else share(*parts)
    return over_classes(image, losses, class_weights, ignore_background, class_reduction)


@jit("apply_sigmoid", "axis", "squared_predictions", "log_loss")
def binary_dice_loss(
    predictions: Predictions,
    targets: Targets,
    *,
    smooth: ArrayLike = 1.0,
    smooth_denominator: ArrayLike | None = None,
    squared_predictions: bool = False,
    log_loss: bool = False,
    apply_sigmoid: bool = True,
    axis: Axis = None,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Dice loss of a single class against the rest.

        (FP + FN) / (2 I + FP + FN + 2 smooth)

    Args:
        predictions: Logits `[batch, *space]`, or `[batch, *space, 1]`: a last axis of size 1 is
            that of the class.
        targets: t, in [0, 1], of that shape with or without the axis of the class.
        smooth: 0 or more, else NaN. One number or one for each image.
        smooth_denominator, squared_predictions, log_loss: See `dice_loss`.
        apply_sigmoid: False if `predictions` are probabilities; outside [0, 1] they give NaN.
        axis: The axes of the pixels, that of the class not counted; all but the first if None.
        where: Which images, or which pixels; see `dice_loss`.
        weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per image: `[batch]`.

    Reference:
        Milletari et al., "V-Net", 2016, section 3, https://arxiv.org/abs/1606.04797.

    Example:
        >>> binary_dice_loss(jnp.array([[0.9, 0.2]]), jnp.array([[1, 0]]), apply_sigmoid=False)
        Array([0.073171], dtype=float32)
    """
    x, t = inputs.floating("predictions", predictions), inputs.real("targets", targets)
    if t.ndim == x.ndim + 1 and t.shape[-1] == 1:
        x = x[..., None]
    elif x.ndim == t.ndim + 1 and x.shape[-1] == 1:
        t = t[..., None]
    elif x.shape[-1:] != (1,):
        one_number_each({"predictions": x, "targets": t})
        x, t = x[..., None], t[..., None]
    if axis is not None:
        axis = inputs.consumed(axis, "predictions without classes", x[..., 0])
    request = Request(where, weights, reduction)
    hyper = overlap_hypers(smooth, 0.5, 0.5, smooth_denominator)
    image = images(x, t, axis, apply_sigmoid, request, hyper=hyper)
    image, *parts = overlaps(image, squared_predictions)
    losses = log_share(*parts) if log_loss else share(*parts)
    return over_classes(image, losses)
