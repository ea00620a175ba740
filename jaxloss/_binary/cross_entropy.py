"""Cross-entropies of yes-or-no questions, element by element.

In the formulas x are logits, p = 1 / (1 + exp(-x)) probabilities of yes, y labels from 0, no, to 1,
yes. Labels keep the digits that they come with, whatever the dtype of the logits. Several
questions about one example are as many elements; for one question with several answers, of which
one is right, there is `softmax_cross_entropy`.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from .._contract.jit import jit
from .._contract.prepared import Hyper, in_unit_interval, non_negative
from .._contract.reduce import Reduction, Request, Weights, Where
from .._numerics.kinks import closed_form, divide, log
from .._numerics.special import decayed, safe_product, small_log1p, steep_product
from .labels import Labels, Logits, logits_and_labels


def _smoothed(y: jax.Array, smoothing: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The smoothed label, and 1 less that, in which a y next to 0 or 1 keeps its digits."""
    return (1 - smoothing) * y + 0.5 * smoothing, (1 - smoothing) * (1 - y) + 0.5 * smoothing


def logistic_slopes(
    x: jax.Array, y: jax.Array, pos_weight: jax.Array, smoothing: jax.Array
) -> tuple[jax.Array, ...]:
    right, size, decay = decayed(x)
    yes, no = _smoothed(y, smoothing)
    a, b = pos_weight * yes, no
    in_logits = jnp.where(right, b - a * decay, b * decay - a) / (1 + decay)
    # pos_weight softplus(-x) - softplus(x), without the logarithms where those cancel.
    remainder = small_log1p(decay)
    line = jnp.where(right, -size, steep_product(pos_weight, size))
    gap = (pos_weight - 1) * remainder + line
    in_weight = steep_product(yes, remainder + jnp.where(right, 0, size))
    return in_logits, (1 - smoothing) * gap, in_weight, steep_product(0.5 - y, gap)


@closed_form(logistic_slopes)
def logistic(x: jax.Array, y: jax.Array, pos_weight: jax.Array, smoothing: jax.Array) -> jax.Array:
    """Binary cross-entropy of logits."""
    right, size, decay = decayed(x)
    yes, no = _smoothed(y, smoothing)
    a, b = pos_weight * yes, no
    return (a + b) * small_log1p(decay) + safe_product(jnp.where(right, b, a), size)


@jit()
def sigmoid_binary_cross_entropy(
    logits: Logits,
    labels: Labels,
    *,
    pos_weight: ArrayLike = 1.0,
    label_smoothing: ArrayLike = 0.0,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Binary cross-entropy of logits.

        w y log(1 + exp(-x)) + (1 - y) log(1 + exp(x))   with y = (1 - e) y + e / 2

    for `pos_weight` w and `label_smoothing` e. An infinite logit costs nothing where the label
    agrees with it, else inf; its gradient is the limit, 0 or 1 in size.

    Args:
        logits: x, of any shape.
        labels: y, the shape of `logits`, or a scalar: booleans, integers or soft labels. NaN
            outside [0, 1].
        pos_weight: w, what a positive counts for; above 1 it trades precision for recall. NaN
            below 0. For a weight to each of several questions, an array of their number.
        label_smoothing: e, how far labels are moved towards 1/2. NaN outside [0, 1].
        where, weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per element.

    Reference:
        Good, "Rational decisions", 1952, https://doi.org/10.1111/j.2517-6161.1952.tb00104.x.

    Example:
        >>> sigmoid_binary_cross_entropy(jnp.array([0.0, 2.0, jnp.inf]), jnp.array([1, 0, 1]))
        Array([0.6931472, 2.126928 , 0.       ], dtype=float32)
    """
    request = Request(where, weights, reduction)
    data = {"logits": logits, "labels": labels}
    given = logits_and_labels(
        data,
        request,
        pos_weight=Hyper(pos_weight, non_negative),
        label_smoothing=Hyper(label_smoothing, in_unit_interval),
    )
    return given.reduced(logistic(*given.arrays))


def _nearer(p: jax.Array, epsilon: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """How far p is from the nearer of 0 and 1.

    Returns:
        Whether 0 is the nearer; the distance, at least epsilon; whether epsilon was the larger.
    """
    low = p < 0.5
    distance = jnp.where(low, p, 1 - p)
    held = distance < epsilon
    return low, jnp.where(held, epsilon, distance), held


def _entropy_slopes(
    p: jax.Array, y: jax.Array, pos_weight: jax.Array, smoothing: jax.Array, epsilon: jax.Array
) -> tuple[jax.Array, ...]:
    low, distance, held = _nearer(p, epsilon)
    yes, no = _smoothed(y, smoothing)
    near, far = jnp.where(low, pos_weight * yes, no), jnp.where(low, no, pos_weight * yes)
    # The derivative in the distance, where 0 / 0 is 0.
    free = (near == 0) & (distance == 0)
    slope = far / (1 - distance) - divide(near, jnp.where(free, 1, distance))
    large, small = -log(distance), -small_log1p(-distance)
    if_yes, if_no = jnp.where(low, large, small), jnp.where(low, small, large)
    gap = steep_product(pos_weight, if_yes) - if_no
    return (
        jnp.where(low, slope, -slope),
        (1 - smoothing) * gap,
        steep_product(yes, if_yes),
        steep_product(0.5 - y, gap),
        jnp.where(held, slope, 0),
    )


@closed_form(_entropy_slopes)
def _entropy(
    p: jax.Array, y: jax.Array, pos_weight: jax.Array, smoothing: jax.Array, epsilon: jax.Array
) -> jax.Array:
    low, distance, _ = _nearer(p, epsilon)
    yes, no = _smoothed(y, smoothing)
    near, far = jnp.where(low, pos_weight * yes, no), jnp.where(low, no, pos_weight * yes)
    # 1 - p is exact from p = 1/2 on, and log(1 - distance) a short series for distances up to 1/2.
    return safe_product(near, -jnp.log(distance)) - far * small_log1p(-distance)


@jit()
def binary_cross_entropy(
    predictions: Logits,
    labels: Labels,
    *,
    pos_weight: ArrayLike = 1.0,
    label_smoothing: ArrayLike = 0.0,
    epsilon: ArrayLike = 0.0,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Binary cross-entropy of probabilities.

        -w y log(p) - (1 - y) log(1 - p)   with y = (1 - e) y + e / 2 and 0 log(0) = 0

    for `pos_weight` w and `label_smoothing` e. A probability of exactly 0 or 1 costs nothing
    where the label agrees, else inf. (PyTorch reads a logarithm below -100 as -100, Keras a
    probability below 1e-7 as 1e-7, without gradient.) If you have logits,
    `sigmoid_binary_cross_entropy` also knows probabilities nearer to 1 than float32 does.

    Args:
        predictions: p, of any shape. NaN outside [0, 1].
        labels: y, the shape of `predictions`, or a scalar: booleans, integers or soft labels. NaN
            outside [0, 1].
        pos_weight: w, what a positive counts for. NaN below 0.
        label_smoothing: e, how far labels are moved towards 1/2. NaN outside [0, 1].
        epsilon: p is read from epsilon to 1 - epsilon only. The gradient in a clamped p is that
            at the clamp: it still trains. NaN outside [0, 1/2].
        where, weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per element.

    Reference:
        Good, "Rational decisions", 1952, https://doi.org/10.1111/j.2517-6161.1952.tb00104.x.

    Example:
        >>> binary_cross_entropy(jnp.array([0.5, 0.25, 1.0]), jnp.array([1, 0, 1]))
        Array([0.69315, 0.28768, 0.        ], dtype=float32)
    """
    request = Request(where, weights, reduction)
    data = {"predictions": predictions, "labels": labels}
    given = logits_and_labels(
        data,
        request,
        "nll_loss",
        pos_weight=Hyper(pos_weight, non_negative),
        label_smoothing=Hyper(label_smoothing, in_unit_interval),
        epsilon=Hyper(epsilon, lambda epsilon: in_unit_interval(2 * epsilon)),
    )
    given = given.inside(in_unit_interval(given.data[0]))
    return given.reduced(_entropy(*given.arrays))
