"""The correlation of a predicted segmentation with the true one."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from .._contract.inputs import Axis, ClassWeights
from .._contract.jit import jit
from .._contract.reduce import Reduction, Request, Weights, Where
from .classes import ClassReduction, in_domain, over_classes, summed
from .images import Predictions, Targets, images
from .parts import mean_share, mean_share_lack


@jit("apply_softmax", "ignore_background", "class_reduction", "axis")
def matthews_correlation_loss(
    predictions: Predictions,
    targets: Targets,
    *,
    class_weights: ClassWeights = None,
    apply_softmax: bool = True,
    ignore_background: bool = False,
    class_reduction: ClassReduction = "mean",
    axis: Axis = None,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """1 less Matthews' correlation coefficient of each class, the mean over the classes.

        1 - (TP TN - FP FN) / sqrt((TP + FP)(TP + FN)(TN + FP)(TN + FN))

    with TP, FP, FN and TN the sums over the pixels of p t, p (1 - t), (1 - p) t and
    (1 - p) (1 - t): from 0 to 2, times w_c. Unlike Dice it counts what is rightly left out. Of a
    class that all pixels have, or none, in the labels or with probability 1 in the predictions,
    there is no correlation: it costs 1, with gradient 0.

    Args:
        predictions, targets: See `dice_loss`.
        class_weights: w, a weight for each class. The sum is still divided by their number.
        apply_softmax, ignore_background, class_reduction, axis, where: See `dice_loss`.
        weights, reduction: See `jaxloss.reduce`.

    Returns:
        See `dice_loss`.

    Reference:
        Abhishek and Hamarneh, "Matthews correlation coefficient loss for deep convolutional
        networks: application to skin lesion segmentation", 2021,
        https://arxiv.org/abs/2010.13454.

    Example:
        >>> image = jnp.array([[[[0.9, 0.1], [0.2, 0.8]]]])
        >>> matthews_correlation_loss(image, jnp.array([[[0, 1]]]), apply_softmax=False)
        Array([0.296474], dtype=float32)
    """
    request = Request(where, weights, reduction)
    image = in_domain(images(predictions, targets, axis, apply_softmax, request))
    p, q, hits, others = image.p, image.q, image.hits, image.others
    image, sums = summed(image, p * hits, p * others, q * hits, q * others)
    a, b, c, d = sums
    # (TP TN - FP FN) / D is a product of two geometric means of shares, less another one.
    # NaN is no 0 and stays.
    defined = (a + b != 0) & (a + c != 0) & (d + b != 0) & (d + c != 0)
    if image.known is not None:
        # Outside the domain derivatives are NaN too.
        defined |= ~jnp.expand_dims(image.known, -1)
    a, b, c, d = (jnp.where(defined, x, 1) for x in (a, b, c, d))
    lost = mean_share_lack(a, b, c) + mean_share(a, b, c) * mean_share_lack(d, b, c)
    losses = jnp.where(defined, lost + mean_share(b, a, d) * mean_share(c, a, d), 1)
    return over_classes(image, losses, class_weights, ignore_background, class_reduction)
