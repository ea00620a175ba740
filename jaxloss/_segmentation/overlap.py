"""Overlap of a predicted segmentation with the true one: a single formula in several settings.

In the formulas p are the probabilities of the pixels of an image, t their labels, and of each class

    I = sum of p t,  FP = sum of p (1 - t),  FN = sum of (1 - p) t

are what is found, what is found wrongly and what is missed. The losses are 1 less a share of I,
computed as the share of the rest, which keeps its digits when the prediction is nearly perfect.
"""

from __future__ import annotations

from typing import Literal, get_args

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from .._contract import inputs
from .._contract.devices import AxisName, check_axis_name
from .._contract.inputs import Axis, ClassWeights
from .._contract.jit import jit
from .._contract.prepared import Hyper, in_unit_interval, non_negative
from .._contract.reduce import Reduction, Request, Weights, Where
from .._numerics.devices import added, greatest
from .._numerics.reductions import sums_of_pixels
from .._numerics.sharding import sharded_like, whole_along
from .._numerics.shares import inverse_shares
from .images import Images, Predictions, Targets, images, one_number_each
from .parts import share, share_to_power

ClassReduction = Literal["mean", "sum", "none"]


def _hypers(
    smooth: ArrayLike, alpha: ArrayLike, beta: ArrayLike, **others: ArrayLike
) -> dict[str, Hyper]:
    """Those of `_missed_shares` and others, all of which are 0 or more."""
    values = {"smooth": smooth, "alpha": alpha, "beta": beta, **others}
    return {name: Hyper(value, non_negative) for name, value in values.items()}


def _or_nan(x: jax.Array) -> jax.Array:
    """Numbers in [0, 1]; any other makes the sums that it is in NaN."""
    return x + jnp.where(in_unit_interval(x), 0, jnp.nan).astype(x.dtype)


def _missed_shares(image: Images) -> tuple[Images, jax.Array, jax.Array]:
    """The images, with what lies outside the domain; the loss of each class; and 1 - loss.

    The last is computed without cancellation.
    """
    smooth = jnp.expand_dims(image.hyper[0], -1)
    alpha, beta = (jnp.expand_dims(x, (*image.axes, image.p.ndim - 1)) for x in image.hyper[1:3])
    p, q, hits, others = image.p, image.q, image.hits, image.others
    hits = _or_nan(hits) if image.soft else hits
    p = _or_nan(p) if image.given else p
    found, wrong = sums_of_pixels(image.axes, p * hits, alpha * (p * others) + beta * (q * hits))
    if image.soft or image.given:
        image = image.inside(~jnp.any(jnp.isnan(found), -1))
    found = found + smooth
    return image, share(wrong, found), share(found, wrong)


def _over_classes(
    image: Images,
    losses: jax.Array,
    class_weights: ClassWeights = None,
    ignore_background: bool = False,
    class_reduction: ClassReduction = "mean",
) -> jax.Array:
    """The losses of the classes of each image as one loss, and those as the user asked for them."""
    inputs.one_of("class_reduction", class_reduction, get_args(ClassReduction))
    if class_weights is not None:
        losses = inputs.by_class(class_weights, losses, (losses.ndim - 1,)) * losses
    if ignore_background and image.classes > 1:
        losses = whole_along(losses, (-1,))[..., 1:]
    if class_reduction != "none":
        count = losses.shape[-1] if class_reduction == "mean" else 1
        return image.reduced(jnp.sum(losses, -1) / count)
    known, where = (
        None if x is None else jnp.broadcast_to(jnp.expand_dims(x, -1), losses.shape)
        for x in (image.known, image.where)
    )
    return image.replace(shape=losses.shape, known=known, where=where).reduced(losses)


_OPTIONS = ("apply_softmax", "ignore_background", "class_reduction", "axis")


@jit(*_OPTIONS)
def dice_loss(
    predictions: Predictions,
    targets: Targets,
    *,
    class_weights: ClassWeights = None,
    smooth: ArrayLike = 1.0,
    alpha: ArrayLike = 0.5,
    beta: ArrayLike = 0.5,
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
        alpha: The weight of false positives: 0 or more, else NaN.
        beta: The weight of false negatives: 0 or more, else NaN.
        apply_softmax: False if `predictions` are probabilities. They need not sum to 1, but
            outside [0, 1] they give NaN.
        ignore_background: Whether to leave class 0 out of the mean, if it is not the only one.
        class_reduction: "mean" or "sum" over the classes, or "none" for a loss of each class.
            What optax calls `reduction`.
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
    hyper = _hypers(smooth, alpha, beta)
    image = images(predictions, targets, axis, apply_softmax, request, hyper=hyper)
    image, losses, _ = _missed_shares(image)
    return _over_classes(image, losses, class_weights, ignore_background, class_reduction)


@jit(*_OPTIONS)
def tversky_loss(
    predictions: Predictions,
    targets: Targets,
    *,
    alpha: ArrayLike = 0.5,
    beta: ArrayLike = 0.5,
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
    """Tversky loss: `dice_loss`, made for unequal weights of false positives and negatives.

        mean over c of w_c (alpha FP + beta FN) / (I + alpha FP + beta FN + smooth)

    Args:
        predictions, targets, class_weights, smooth: See `dice_loss`.
        alpha: The weight of false positives: 0 or more, else NaN.
        beta: The weight of false negatives, which is larger where small regions are missed.
        apply_softmax, ignore_background, class_reduction, axis, where: See `dice_loss`.
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
    hyper = _hypers(smooth, alpha, beta)
    image = images(predictions, targets, axis, apply_softmax, request, hyper=hyper)
    image, losses, _ = _missed_shares(image)
    return _over_classes(image, losses, class_weights, ignore_background, class_reduction)


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
    hyper = _hypers(smooth, alpha, beta, gamma=gamma)
    image = images(predictions, targets, axis, apply_softmax, request, hyper=hyper)
    image, losses, lack = _missed_shares(image)
    power = jnp.broadcast_to(jnp.expand_dims(image.hyper[3], -1), losses.shape)
    power = sharded_like(power, losses)
    losses = share_to_power(losses, lack, power)
    return _over_classes(image, losses, class_weights, ignore_background, class_reduction)


@jit(*_OPTIONS)
def jaccard_loss(
    predictions: Predictions,
    targets: Targets,
    *,
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
    """1 less the soft intersection over union, the mean over the classes.

        mean over c of w_c (FP + FN) / (I + FP + FN + smooth)

    Args:
        predictions, targets, class_weights, smooth, apply_softmax: See `dice_loss`.
        ignore_background, class_reduction, axis, where: See `dice_loss`.
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
    hyper = _hypers(smooth, 1.0, 1.0)
    image = images(predictions, targets, axis, apply_softmax, request, hyper=hyper)
    image, losses, _ = _missed_shares(image)
    return _over_classes(image, losses, class_weights, ignore_background, class_reduction)


@jit("apply_sigmoid", "axis")
def binary_dice_loss(
    predictions: Predictions,
    targets: Targets,
    *,
    smooth: ArrayLike = 1.0,
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
    image = images(x, t, axis, apply_sigmoid, request, hyper=_hypers(smooth, 0.5, 0.5))
    image, losses, _ = _missed_shares(image)
    return _over_classes(image, losses)


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
    half = _hypers(smooth, 0.5, 0.5)
    image = images(predictions, targets, axis, apply_softmax, request, hyper=half)
    small = inputs.number("epsilon", epsilon).astype(image.dtype)
    check_axis_name(axis_name, {"predictions": image.p})
    batch = None if per_image else axis_name
    if image.where is not None:
        small = jnp.where(greatest(jnp.any(image.where), batch), small, 1)
    frequency = jnp.sum(image.hits, image.axes if per_image else range(image.hits.ndim - 1))
    frequency = added(frequency, batch)
    class_weights = inverse_shares(frequency * frequency + small) * image.classes
    image, losses, _ = _missed_shares(image)
    losses *= jnp.broadcast_to(class_weights, losses.shape)
    return _over_classes(image.inside(small >= 0), losses, ignore_background=ignore_background)
