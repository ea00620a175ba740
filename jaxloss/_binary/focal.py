"""Cross-entropies that turn away from what is easy, element by element.

In the formulas x are logits, p = 1 / (1 + exp(-x)) probabilities of yes, y labels from 0, no, to 1,
yes.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from .._contract import inputs
from .._contract.jit import jit
from .._contract.prepared import Hyper, in_unit_interval, non_negative
from .._contract.reduce import Reduction, Request, Weights, Where
from .._numerics.kinks import closed_form, derivative_only, divide, in_range, log, with_slope
from .._numerics.special import (
    decayed,
    one_if_zero,
    reciprocal,
    safe_product,
    sigmoid_parts,
    small_log1p,
    softplus,
    steep_product,
)
from .._numerics.xla import fuse_into_users
from .labels import Labels, Logits, logits_and_labels
from .powers import Power, by_powers


def _log(x: jax.Array, complement: jax.Array) -> jax.Array:
    """log(x), to all digits also next to x = 1, if those of 1 - x are given."""
    return jnp.where(complement < 0.5, small_log1p(-complement), jnp.log(x))


class _Doubt(NamedTuple):
    """How far logits and labels disagree.

    Attributes:
        right: Whether the logit is positive.
        size: The size of the logit.
        smaller: The smaller of p and 1 - p.
        against: How far the label is from the side that the logit is on, from 0 to 1.
        doubt: (1 - y) p + y (1 - p).
        entropy: The binary cross-entropy.
    """

    right: jax.Array
    size: jax.Array
    smaller: jax.Array
    against: jax.Array
    doubt: jax.Array
    entropy: jax.Array


def _doubt(x: jax.Array, y: jax.Array) -> _Doubt:
    right, size, decay = decayed(x)
    smaller = fuse_into_users(decay / (1 + decay))
    against = jnp.where(right, 1 - y, y)
    doubt = against + (1 - 2 * against) * smaller
    entropy = small_log1p(decay) + safe_product(against, size)
    return _Doubt(right, size, smaller, against, doubt, entropy)


def _value(
    doubt: Callable[..., _Doubt],
    power: Power,
    x: jax.Array,
    y: jax.Array,
    gamma: jax.Array,
    alpha: jax.Array,
) -> jax.Array:
    parts = doubt(x, y)
    weight = alpha * y + (1 - alpha) * (1 - y)
    return safe_product(weight * power(parts.doubt, gamma), parts.entropy)


def _turning(size: jax.Array, gamma: jax.Array) -> jax.Array:
    """The second derivative in the label of u^gamma (size y - log(1 - u)), u = exp(-size) at 0."""
    root = jnp.exp(0.5 * (1 - gamma) * size)
    return gamma * in_range(root * (2 * size + gamma - 1) * root)


def _focal_slopes(
    power: Power, x: jax.Array, y: jax.Array, gamma: jax.Array, alpha: jax.Array
) -> tuple[jax.Array, ...]:
    right, size, smaller, against, doubt, entropy = _doubt(x, y)
    weight, factor = alpha * y + (1 - alpha) * (1 - y), power(doubt, gamma)
    # A small doubt, which is exp(-size) there, and its power may vanish where their products and
    # quotients with other numbers do not.
    deep = (against == 0) & (size > 17)
    finite_size = jnp.where(size == jnp.inf, 0, size)
    # smaller / doubt and entropy / doubt tend to 1 where both vanish.
    share = jnp.where(doubt == 0, 1, divide(smaller, one_if_zero(doubt)))
    relative = jnp.where(deep, 1, divide(entropy, one_if_zero(doubt)))
    turn = gamma * (2 * against - 1) * safe_product(share, entropy)
    in_size = factor * ((against - smaller) + (1 - smaller) * turn)
    steep = size + safe_product(gamma * jnp.tanh(0.5 * size), relative)
    root = power(jnp.where(deep, jnp.exp(-0.5 * size), 1), gamma)
    in_against = steep_product(jnp.where(deep, root, factor), steep) * jnp.where(deep, root, 1)
    in_against = with_slope(in_against, against, jnp.where(deep, _turning(finite_size, gamma), 0))
    loss = steep_product(factor, entropy)
    trust = jnp.where(right, y, 1 - y) - (1 - 2 * against) * smaller
    logarithms = jnp.where(
        deep,
        with_slope(-finite_size * smaller, against, in_range(1 - finite_size * finite_size)),
        safe_product(_log(one_if_zero(doubt), trust), jnp.where(deep, 0, entropy)),
    )
    in_label = steep_product(weight, jnp.where(right, -in_against, in_against))
    return (
        weight * jnp.where(right, in_size, -in_size),
        in_label + steep_product(2 * alpha - 1, loss),
        weight * steep_product(factor, logarithms),
        steep_product(2 * y - 1, loss),
    )


_focal = closed_form(by_powers(_focal_slopes, 2))(by_powers(functools.partial(_value, _doubt), 2))


def _given_doubt(p: jax.Array, y: jax.Array) -> _Doubt:
    """Of a probability as the user gave it; the size of its logit is not known to all digits."""
    right = p >= 0.5
    smaller = jnp.where(right, 1 - p, p)
    against = jnp.where(right, 1 - y, y)
    doubt = against + (1 - 2 * against) * smaller
    size = log(1 - smaller) - log(smaller)
    entropy = safe_product(against, -log(smaller)) - (1 - against) * small_log1p(-smaller)
    return _Doubt(right, size, smaller, against, doubt, entropy)


def _given_slopes(
    power: Power, p: jax.Array, y: jax.Array, gamma: jax.Array, alpha: jax.Array
) -> tuple[jax.Array, ...]:
    right, size, smaller, against, doubt, entropy = _given_doubt(p, y)
    weight, factor = alpha * y + (1 - alpha) * (1 - y), power(doubt, gamma)
    # entropy / doubt tends to 1 where both vanish; where the entropy is infinite, its slope is
    # the steeper.
    relative = jnp.where(doubt == 0, 1, divide(entropy, one_if_zero(doubt)))
    relative = gamma * jnp.where(entropy == jnp.inf, 0, relative)
    free = (against == 0) & (smaller == 0)
    slope = (1 - against) / (1 - smaller) - divide(against, jnp.where(free, 1, smaller))
    in_smaller = factor * (slope + (1 - 2 * against) * relative)
    in_against = steep_product(factor, size) + factor * (1 - 2 * smaller) * relative
    loss = steep_product(factor, entropy)
    trust = jnp.where(right, y, 1 - y) - (1 - 2 * against) * smaller
    logarithm = jnp.where(doubt == 0, 0, _log(one_if_zero(doubt), trust))
    return (
        weight * jnp.where(right, -in_smaller, in_smaller),
        weight * jnp.where(right, -in_against, in_against) + steep_product(2 * alpha - 1, loss),
        weight * safe_product(logarithm, loss),
        steep_product(2 * y - 1, loss),
    )


_focal_of_given = closed_form(by_powers(_given_slopes, 2))(
    by_powers(functools.partial(_value, _given_doubt), 2)
)


MeanOver = Literal["all", "positives"]


@jit("apply_sigmoid", "mean_over")
def sigmoid_focal_loss(
    logits: Logits,
    labels: Labels,
    *,
    alpha: ArrayLike | None = None,
    gamma: ArrayLike = 2.0,
    apply_sigmoid: bool = True,
    mean_over: MeanOver = "all",
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Focal loss: binary cross-entropy times how far the prediction is off.

        a u^gamma (y log(1 + exp(-x)) + (1 - y) log(1 + exp(x)))
        with u = (1 - y) p + y (1 - p) and a = alpha y + (1 - alpha) (1 - y), or 1 without alpha

    With gamma = 0 and no alpha it is `sigmoid_binary_cross_entropy`.

    Args:
        logits: x, of any shape.
        labels: y, the shape of `logits`, or a scalar: booleans, integers or soft labels. NaN
            outside [0, 1].
        alpha: What a positive counts for, of 1 for both. NaN outside [0, 1]. (torchvision's
            default is 0.25, and -1 means None there.)
        gamma: How much less what is easy counts. NaN below 0. Whole numbers up to 7 are fastest.
        apply_sigmoid: False if `logits` are probabilities p; outside [0, 1] they give NaN.
        mean_over: What the mean divides by: "all" for the number of elements, "positives" for the
            sum of their labels, as detectors do, of which most elements are background. Masks
            and weights are those of the elements in both. Without a positive that mean is 0;
            `Mean.of` adds those of several batches exactly.
        where, weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per element.

    Reference:
        Lin et al., "Focal loss for dense object detection", 2017,
        https://arxiv.org/abs/1708.02002.

    Example:
        >>> sigmoid_focal_loss(jnp.array([0.0, 4.0, 4.0]), jnp.array([1, 1, 0]))
        Array([1.732868e-01, 5.871570e-06, 3.874907e+00], dtype=float32)
    """
    inputs.one_of("mean_over", mean_over, get_args(MeanOver))
    request = Request(where, weights, reduction)
    data = {"logits": logits, "labels": labels}
    given = logits_and_labels(
        data,
        request,
        "softmax_focal_loss",
        gamma=Hyper(gamma, non_negative),
        alpha=Hyper(0.5 if alpha is None else alpha, in_unit_interval),
    )
    labels = given.data[1]
    if apply_sigmoid:
        losses = _focal(*given.arrays)
    else:
        given = given.inside(in_unit_interval(given.data[0]))
        losses = _focal_of_given(*given.arrays)
    if mean_over == "positives":
        given = given.replace(counts=labels)
    # Without alpha both sides count for 1: twice what they count for with alpha = 1/2.
    return given.reduced(losses * (2 if alpha is None else 1))


def _shifted(x: jax.Array, clip: jax.Array) -> tuple[jax.Array, ...]:
    """Whether p is above clip, p - clip and 1 - (p - clip) there, p and 1 - p."""
    p, lost = sigmoid_parts(x)
    right, _, decay = decayed(x)
    q = fuse_into_users(jnp.where(right, decay, 1) / (1 + decay))
    # Next to clip the difference is as small as what p lost in rounding.
    above = (p - clip) + lost
    active = ~(above <= 0)
    return active, jnp.where(active, above, 0.5), jnp.where(active, q + clip, 0.5), p, q


def _cross_entropies(
    x: jax.Array, clip: jax.Array, shifted: jax.Array, complement: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The cross-entropy of positives, and that of negatives."""
    # Without clip the complement may vanish where its logarithm does not.
    clipped = -_log(jnp.where(clip == 0, 1, complement), shifted)
    free = with_slope(softplus(x), clip, -reciprocal(complement))
    return softplus(-x), jnp.where(clip == 0, free, clipped)


def _asymmetric_value(
    power: Power,
    x: jax.Array,
    y: jax.Array,
    gamma_negative: jax.Array,
    gamma_positive: jax.Array,
    clip: jax.Array,
) -> jax.Array:
    active, shifted, complement, _, q = _shifted(x, clip)
    yes, no = _cross_entropies(x, clip, shifted, complement)
    of_yes = y * power(q, gamma_positive)
    of_no = jnp.where(active, 1 - y, 0) * power(shifted, gamma_negative)
    return safe_product(of_yes, yes) + safe_product(of_no, no)


def _asymmetric_slopes(
    power: Power,
    x: jax.Array,
    y: jax.Array,
    gamma_negative: jax.Array,
    gamma_positive: jax.Array,
    clip: jax.Array,
) -> tuple[jax.Array, ...]:
    active, shifted, complement, p, q = _shifted(x, clip)
    yes, no = _cross_entropies(x, clip, shifted, complement)
    of_yes = power(q, gamma_positive)
    of_no = jnp.where(active, power(shifted, gamma_negative), 0)
    inside = (1 - y) * of_no
    # q / complement is 1 without clip, also where both vanish. Its derivatives are taken of
    # 1 - clip / complement, where those of q and of the complement do not cancel.
    held = one_if_zero(complement)
    ratio = jax.lax.stop_gradient(jnp.where(complement == 0, 1, q / held))
    ratio = ratio - derivative_only(divide(clip, held))
    in_yes = y * of_yes * (gamma_positive * safe_product(p, yes) + q)
    in_no = inside * p * (divide(gamma_negative * safe_product(q, no), shifted) + ratio)
    # log(1 - p) log(p) vanishes at both ends.
    logarithms = jnp.where(jnp.isinf(x), 0, softplus(x) * yes)
    # The slope of 1 / complement in the logit is p q / complement^2. Without clip the square alone,
    # by which reverse mode would multiply first, overflows from x = 44 on.
    inverse = jax.lax.stop_gradient(1 / complement)
    in_clip = jnp.where(active, -in_range(inverse * inverse), 0)
    in_logit = jnp.where(active, p * ratio * in_range(inverse), 0)
    inverse = with_slope(with_slope(inverse, clip, in_clip), x, in_logit)
    rate = divide(gamma_negative * no, shifted) + inverse
    # Of a rate that does not count the derivative may be infinite.
    rate = jnp.where(inside == 0, jax.lax.stop_gradient(rate), rate)
    return (
        in_no - in_yes,
        steep_product(of_yes, yes) - steep_product(of_no, no),
        steep_product(inside * _log(shifted, complement), no),
        -y * of_yes * logarithms,
        -steep_product(inside, rate),
    )


_asymmetric = closed_form(by_powers(_asymmetric_slopes, 2, 3))(by_powers(_asymmetric_value, 2, 3))


@jit()
def asymmetric_loss(
    logits: Logits,
    labels: Labels,
    *,
    gamma_negative: ArrayLike = 4.0,
    gamma_positive: ArrayLike = 1.0,
    clip: ArrayLike = 0.05,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Asymmetric loss: a focal loss that turns away from easy negatives soonest.

        y (1 - p)^g+ (-log(p)) + (1 - y) m^g- (-log(1 - m))   with m = max(p - clip, 0)

    for `gamma_positive` g+ and `gamma_negative` g-. Below p = clip a negative costs nothing and
    pulls nowhere. It is made for many labels of which few are positive; sum over them.

    Args:
        logits: x, of any shape.
        labels: y, the shape of `logits`, or a scalar: booleans, integers or soft labels. NaN
            outside [0, 1].
        gamma_negative: How much less an easy negative counts. NaN below 0.
        gamma_positive: How much less an easy positive counts. NaN below 0. Whole numbers up to 7
            are fastest for both.
        clip: The probability below which a negative is well known. NaN outside [0, 1].
        where, weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per element.

    Reference:
        Ridnik et al., "Asymmetric loss for multi-label classification", 2021,
        https://arxiv.org/abs/2009.14119.

    Example:
        >>> asymmetric_loss(jnp.array([0.0, 0.0, -4.0]), jnp.array([1, 0, 0]))
        Array([0.3465736 , 0.02451505, 0.        ], dtype=float32)
    """
    request = Request(where, weights, reduction)
    data = {"logits": logits, "labels": labels}
    given = logits_and_labels(
        data,
        request,
        "softmax_focal_loss",
        gamma_negative=Hyper(gamma_negative, non_negative),
        gamma_positive=Hyper(gamma_positive, non_negative),
        clip=Hyper(clip, in_unit_interval),
    )
    return given.reduced(_asymmetric(*given.arrays))
