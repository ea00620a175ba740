"""Losses of one class out of several, through the softmax of logits.

In the formulas x are the logits, p their softmax along `axis`, u = -log p, y the labels: 1 at the
right class and 0 elsewhere, or any distribution over the classes. A logit of -inf is a class that
is not there. Integer labels are class numbers; one outside [0, classes), or of a class that
`where` excludes, gives NaN.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array

from .._contract import inputs
from .._contract.inputs import Axis, ClassWeights
from .._contract.jit import jit
from .._contract.prepared import Hyper, in_unit_interval, positive, vectors
from .._contract.reduce import Reduction, Request, Weights, Where
from .._numerics.cross_entropy import cross_entropy, misplaced, surprisal
from .._numerics.reductions import entry_of
from .._numerics.softmax import log_normalizer
from .._numerics.special import expm1, soft_cap
from .labels import (
    Classes,
    ClassNumbers,
    Distributions,
    Labels,
    Scores,
    class_numbers,
    distributions,
    either,
)
from .targets import smoothed, smoothing, targets

_NUMBERS = "; for class numbers: softmax_cross_entropy_with_integer_labels"
_OTHERS = (
    "; for one-hot or soft labels: softmax_cross_entropy"
    "; for one logit per example: sigmoid_binary_cross_entropy"
)


def _options(
    label_smoothing: ArrayLike,
    z_loss: ArrayLike,
    logit_softcap: ArrayLike | None,
    temperature: ArrayLike,
) -> dict[str, Hyper]:
    return {
        "label_smoothing": smoothing(label_smoothing),
        "z_loss": Hyper(z_loss, off=(0,)),
        "logit_softcap": Hyper(logit_softcap, positive, off=(None,)),
        "temperature": Hyper(temperature, positive, off=(1,)),
    }


def _softmax_cross_entropy(given: Classes) -> jax.Array:
    """The loss of both kinds of labels, with the hyperparameters of `_options`."""
    epsilon, z_loss, cap, temperature = given.hyper
    x, axes = given.scores, given.axes
    scale = () if temperature is None else (temperature,)
    if cap is not None:
        cap = jnp.expand_dims(cap, axes)
        absent = x == -jnp.inf
        capped = soft_cap(jnp.where(absent, 0, x), jnp.broadcast_to(cap, x.shape))
        x = jnp.where(absent, x, capped)
        given = given.replace(scores=x)
    labels = targets(given, epsilon)
    if labels is None:
        losses = given.weighted(surprisal(x, given.labels, axes, *scale))
    else:
        losses = cross_entropy(x, labels, axes, *scale)
    if z_loss is not None:
        losses += z_loss * given.mass() * log_normalizer(x, axes, *scale) ** 2
    return given.reduced(losses)


@jit("axis")
def softmax_cross_entropy(
    logits: Scores,
    labels: Distributions,
    axis: Axis = -1,
    where: Where = None,
    *,
    class_weights: ClassWeights = None,
    label_smoothing: ArrayLike = 0.0,
    z_loss: ArrayLike = 0.0,
    logit_softcap: ArrayLike | None = None,
    temperature: ArrayLike = 1.0,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Cross-entropy of a softmax against one-hot or soft labels.

        sum over c of w_c z_c u_c + z_loss (sum over c of w_c y_c) log(sum of exp(x))^2

    with u = -log softmax(x) and the class weights w (1 if absent). The options change x, and the
    labels y to z:

        x = cap tanh(x / cap),   x = x / temperature,   z = (1 - e) y + e / K

    for `logit_softcap` cap, `label_smoothing` e and K classes that are there: neither excluded
    nor of logit -inf. Labels are used as they are, whether or not they sum to 1: the loss is linear
    in them, and some may be negative, as advantages and differences of distributions are.

    Args:
        logits: x, of any shape.
        labels: y, the shape of `logits`. Booleans and integers will do.
        axis: The axis of the classes, or several, or None for all.
        where: Which losses count, or, of the shape of `logits`, which classes are there; see
            `jaxloss.reduce`.
        class_weights: w, a weight for each class. In the mean a row counts for the sum of
            w_c y_c, so that one-hot and integer labels agree.
        label_smoothing: From 0 to 1, else NaN.
        z_loss: What keeps the logits from drifting; usually 1e-4 or less.
        logit_softcap: Bounds the logits smoothly; positive, else NaN.
        temperature: Positive, else NaN.
        weights, reduction: See `jaxloss.reduce`.

    `label_smoothing`, `z_loss`, `logit_softcap` and `temperature` may also be arrays of the rank
    of the loss.

    Returns:
        One loss per example: the shape of `logits` without `axis`.

    Reference:
        Bridle, "Training stochastic model recognition algorithms as networks can lead to maximum
        mutual information estimation of parameters", 1989. Label smoothing: Szegedy et al.,
        "Rethinking the inception architecture for computer vision", 2016, section 7. z-loss:
        Chowdhery et al., "PaLM", 2022, section 5.

    Example:
        >>> softmax_cross_entropy(jnp.array([[2.0, 0.0, 1.0]]), jnp.array([[1.0, 0.0, 0.0]]))
        Array([0.40761], dtype=float32)
    """
    data, request = {"logits": logits, "labels": labels}, Request(where, weights, reduction)
    hyper = _options(label_smoothing, z_loss, logit_softcap, temperature)
    given = distributions(
        data, axis, request, class_weights, hyper=hyper, hint=_NUMBERS, signed=True
    )
    return _softmax_cross_entropy(given)


# optax's name for the loss that is right at logits of -inf.
safe_softmax_cross_entropy = softmax_cross_entropy


@jit("axis")
def softmax_cross_entropy_with_integer_labels(
    logits: Scores,
    labels: ClassNumbers,
    axis: Axis = -1,
    where: Where = None,
    *,
    class_weights: ClassWeights = None,
    label_smoothing: ArrayLike = 0.0,
    z_loss: ArrayLike = 0.0,
    logit_softcap: ArrayLike | None = None,
    temperature: ArrayLike = 1.0,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Cross-entropy of a softmax against class numbers.

        w_y u_y + z_loss w_y log(sum of exp(x))^2,   u = -log softmax(x)

    `softmax_cross_entropy` of one-hot labels, without making them: the options mean what they
    mean there. To leave out padding that is labelled -100 say `where=labels >= 0`.

    Args:
        logits: x, of any shape.
        labels: The number of the right class: integers of the shape of `logits` without `axis`.
            NaN outside [0, classes).
        axis: The axis of the classes. If several, `labels` count through the last one first; None
            for all.
        where: Which losses count, or, of the shape of `logits`, which classes are there; see
            `jaxloss.reduce`.
        class_weights: w, a weight for each class. In the mean a row counts for w_y.
        label_smoothing, z_loss, logit_softcap, temperature: See `softmax_cross_entropy`.
        weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per example: the shape of `labels`.

    Reference:
        See `softmax_cross_entropy`.

    Example:
        >>> logits = jnp.array([[2.0, 0.0, 1.0], [80.0, 0.0, 0.0]])
        >>> softmax_cross_entropy_with_integer_labels(logits, jnp.array([0, 0]))
        Array([4.07606e-01, 3.60970e-35], dtype=float32)
    """
    data, request = {"logits": logits, "labels": labels}, Request(where, weights, reduction)
    hyper = _options(label_smoothing, z_loss, logit_softcap, temperature)
    given = class_numbers(data, axis, request, class_weights, hyper=hyper, hint=_OTHERS)
    return _softmax_cross_entropy(given)


@jit("axis")
def nll_loss(
    log_predictions: Scores,
    labels: ClassNumbers,
    *,
    axis: Axis = -1,
    class_weights: ClassWeights = None,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Negative log-likelihood of the right class, from log-probabilities.

        -w_y l_y

    From logits take `softmax_cross_entropy_with_integer_labels`, which keeps more digits. Images
    `[N, C, H, W]` go with labels `[N, H, W]` and `axis=1`.

    Args:
        log_predictions: l, of any shape.
        labels: The number of the right class: integers of the shape of `log_predictions` without
            `axis`. NaN outside [0, classes).
        axis: The axis of the classes, or several, or None for all.
        class_weights: w, a weight for each class. In the mean a row counts for w_y.
        where, weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per example: the shape of `labels`.

    Reference:
        Fisher, "On the mathematical foundations of theoretical statistics", 1922.

    Example:
        >>> nll_loss(jnp.log(jnp.array([[0.5, 0.25, 0.25]])), jnp.array([1]))
        Array([1.38629], dtype=float32)
    """
    data = {"log_predictions": log_predictions, "labels": labels}
    request = Request(where, weights, reduction)
    hint = "; for one-hot or soft labels: kl_divergence"
    given = class_numbers(data, axis, request, class_weights, hint=hint)
    slope = given.nan_outside(given.labels.astype(given.dtype))
    losses = -entry_of(given.axes, given.scores, given.number, slope)
    # The loss is linear, and would have the slope of a finite one where a score is NaN.
    return given.inside(~jnp.isnan(losses)).reduced(given.weighted(losses))


@jit("axis")
def poly_loss_cross_entropy(
    logits: Scores,
    labels: Labels,
    *,
    epsilon: ArrayLike = 2.0,
    axis: Axis = -1,
    where: Where = None,
    class_weights: ClassWeights = None,
    label_smoothing: ArrayLike = 0.0,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Cross-entropy with another weight of the first term of its series in 1 - p.

        sum over c of w_c y_c (u_c + epsilon (1 - p_c)),   p = softmax(x), u = -log p

    Args:
        logits: x, of any shape.
        labels: Class numbers, integers of the shape of `logits` without `axis`; or y, of the
            shape of `logits`.
        epsilon: 0 is cross-entropy; -1 takes the first term away.
        axis: The axis of the classes, or several, or None for all.
        class_weights, label_smoothing: See `softmax_cross_entropy`.
        where, weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per example: the shape of `logits` without `axis`.

    Reference:
        Leng et al., "PolyLoss: a polynomial expansion perspective of classification loss
        functions", 2022, eq. 5, https://arxiv.org/abs/2204.12511.

    Example:
        >>> poly_loss_cross_entropy(jnp.array([[2.0, 0.0, 1.0]]), jnp.array([[1.0, 0.0, 0.0]]))
        Array([1.07712], dtype=float32)
    """
    data, request = {"logits": logits, "labels": labels}, Request(where, weights, reduction)
    hyper = {"label_smoothing": smoothing(label_smoothing), "epsilon": Hyper(epsilon)}
    given = either(data, axis, request, class_weights, hyper=hyper)
    smooth, factor = given.hyper
    x, axes, y = given.scores, given.axes, targets(given, smooth)
    if y is None:
        u = surprisal(x, given.labels, axes)
        return given.reduced(given.weighted(u - factor * expm1(-u)))
    u = cross_entropy(x, y, axes, misplacing=True)
    return given.reduced(u + factor * misplaced(x, y, axes))


@jit("axis")
def smooth_labels(
    labels: Distributions,
    alpha: ArrayLike,
    *,
    axis: Axis = -1,
    where: Where = None,
) -> Array:
    """Labels with a share of every class.

        (1 - alpha) y + alpha / K

    The losses here take `label_smoothing=alpha` instead, which needs no array of its own.

    Args:
        labels: y, one-hot or soft, floating-point.
        alpha: From 0 to 1, else NaN.
        axis: The axis of the K classes, or several, or None for all.
        where: Which classes are there, of the shape of `labels`, or which examples. Those that
            are not get 0.

    Returns:
        Labels of the same shape, in float32 at least.

    Reference:
        Szegedy et al., "Rethinking the inception architecture for computer vision", 2016,
        section 7, https://arxiv.org/abs/1512.00567.

    Example:
        >>> smooth_labels(jnp.array([[1.0, 0.0]]), 0.1)
        Array([[0.95, 0.05]], dtype=float32)
    """
    hyper = {"alpha": Hyper(alpha)}
    given = vectors({"labels": labels}, axis, Request(where), hyper=hyper)
    (labels, alpha), axes = given.arrays, given.axes
    there = jnp.ones_like(labels, bool) if given.entries is None else given.entries
    soft = smoothed(jnp.where(there, labels, 0), alpha, there, axes)
    return inputs.nan_outside(soft, jnp.expand_dims(in_unit_interval(alpha), axes))
