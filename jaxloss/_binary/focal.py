"""Cross-entropies that turn away from what is easy, element by element.

In the formulas x are logits, p = 1 / (1 + exp(-x)) probabilities of yes, y labels from 0, no, to 1,
yes.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from .._contract import inputs
from .._contract.jit import jit
from .._contract.reduce import Losses, Reduction, Weights, Where, reduced
from .._numerics.kinks import closed_form
from .._numerics.special import decayed, safe_product, sigmoid_parts, small_log1p, softplus
from .._numerics.xla import fuse_into_users
from .questions import Labels, Logits, probabilities, questions

Power = Callable[[jax.Array, jax.Array], jax.Array]


def _whole_power(x: jax.Array, n: jax.Array) -> jax.Array:
    """x^n for n in 0, 1, ..., 7."""
    n = n.astype(jnp.int32)
    total = jnp.where(n & 1 == 1, x, 1)
    total *= jnp.where(n & 2 == 2, x * x, 1)
    return total * jnp.where(n & 4 == 4, (x * x) * (x * x), 1)


def _by_powers(function: Callable[..., Any], *exponents: int) -> Callable[..., Any]:
    """A function whose first argument is a power, with the cheapest that will do.

    `jnp.power` takes longer than all the rest of a loss, and the usual exponents are whole.
    """

    def chosen(*args: jax.Array) -> Any:
        whole = jnp.asarray(True)
        for i in exponents:
            whole &= jnp.all((args[i] >= 0) & (args[i] <= 7) & (args[i] == jnp.floor(args[i])))
        branches = [functools.partial(function, power) for power in (_whole_power, jnp.power)]
        return jax.lax.cond(whole, *branches, *args)

    return chosen


def _doubt(x: jax.Array, y: jax.Array) -> tuple[jax.Array, ...]:
    """What the focal loss is made of.

    Returns:
        Whether the logit is positive, its size, exp(-size), the smaller of p and 1 - p, how far
        the label disagrees with the sign of the logit, and the doubt 1 - p_t.
    """
    right, size, decay = decayed(x)
    smaller = fuse_into_users(decay / (1 + decay))
    against = jnp.where(right, 1 - y, y)
    return right, size, decay, smaller, against, against + (1 - 2 * against) * smaller


def _log_doubt(x: jax.Array, y: jax.Array) -> jax.Array:
    """log(1 - p_t), 0 for a doubt of 0, whose every power is 0 or 1."""
    right, _, _, smaller, against, doubt = _doubt(x, y)
    trust = jnp.where(right, y, 1 - y) - (1 - 2 * against) * smaller
    near = trust < 0.5
    held = jnp.where(near | (doubt == 0), 1, doubt)
    return jnp.where(near, small_log1p(-jnp.where(near, trust, 0)), jnp.log(held))


@functools.cache
def _modulation(power: Power) -> Callable[..., jax.Array]:
    """(1 - p_t)^gamma, whose derivative in logits is bounded where that of the power is not."""

    def slopes(x: jax.Array, y: jax.Array, gamma: jax.Array) -> tuple[jax.Array, ...]:
        right, size, _, smaller, against, doubt = _doubt(x, y)
        factor = modulation(x, y, gamma)
        in_size = gamma * factor * (2 * against - 1) * (1 - smaller) * _share(x, y)
        in_against = gamma * jnp.tanh(0.5 * size) * (factor / jnp.where(doubt == 0, 1, doubt))
        return (
            jnp.where(right, in_size, -in_size),
            jnp.where(right, -in_against, in_against),
            factor * _log_doubt(x, y),
        )

    @closed_form(slopes)
    def modulation(x: jax.Array, y: jax.Array, gamma: jax.Array) -> jax.Array:
        return power(_doubt(x, y)[-1], gamma)

    return modulation


def _share(x: jax.Array, y: jax.Array) -> jax.Array:
    """What of the doubt comes from the decay: all of it where the label agrees with the logit."""
    right, _, decay = decayed(x)
    total = jnp.where(right, 1 - y, y) + jnp.where(right, y, 1 - y) * decay
    return fuse_into_users(jnp.where(total == 0, 1, decay) / jnp.where(total == 0, 1, total))


def _focal_value(
    power: Power, x: jax.Array, y: jax.Array, gamma: jax.Array, alpha: jax.Array
) -> jax.Array:
    _, size, decay, _, against, _ = _doubt(x, y)
    entropy = small_log1p(decay) + safe_product(against, size)
    weight = alpha * y + (1 - alpha) * (1 - y)
    return safe_product(weight * _modulation(power)(x, y, gamma), entropy)


def _focal_slopes(
    power: Power, x: jax.Array, y: jax.Array, gamma: jax.Array, alpha: jax.Array
) -> tuple[jax.Array, ...]:
    right, size, decay, smaller, against, doubt = _doubt(x, y)
    entropy = small_log1p(decay) + safe_product(against, size)
    factor = _modulation(power)(x, y, gamma)
    weight = alpha * y + (1 - alpha) * (1 - y)
    turn = gamma * (2 * against - 1) * safe_product(_share(x, y), entropy)
    in_size = factor * ((against - smaller) + (1 - smaller) * turn)
    # entropy / doubt tends to 1 where both vanish.
    relative = jnp.where(doubt == 0, 1, entropy / jnp.where(doubt == 0, 1, doubt))
    steep = size + safe_product(gamma * jnp.tanh(0.5 * size), relative)
    # The power of a small doubt may vanish where its product with a large size does not.
    deep = (against == 0) & (size > 17)
    root = power(jnp.where(deep, jnp.exp(-0.5 * size), 1), gamma)
    in_against = safe_product(jnp.where(deep, root, factor), steep) * jnp.where(deep, root, 1)
    loss = safe_product(factor, entropy)
    return (
        weight * jnp.where(right, in_size, -in_size),
        weight * jnp.where(right, -in_against, in_against) + safe_product(2 * alpha - 1, loss),
        weight * safe_product(factor, safe_product(_log_doubt(x, y), entropy)),
        safe_product(2 * y - 1, loss),
    )


_focal = closed_form(_by_powers(_focal_slopes, 2))(_by_powers(_focal_value, 2))


@jit()
def sigmoid_focal_loss(
    logits: Logits,
    labels: Labels,
    *,
    alpha: ArrayLike | None = None,
    gamma: ArrayLike = 2.0,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> Losses:
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
    data = {"logits": logits, "labels": labels}
    # Both count for 1 where the loss is twice that of alpha = 1/2.
    hyper = {"gamma": gamma, "alpha": 0.5 if alpha is None else alpha}
    x, y, gamma, halves = questions(data, where, "softmax_focal_loss", **hyper)
    losses = _focal(x, y, gamma, halves) * (2 if alpha is None else 1)
    losses = inputs.nan_outside(losses, probabilities(y, halves) & (gamma >= 0))
    return reduced(losses, where, weights, reduction)


def _minus_log(x: jax.Array, complement: jax.Array) -> jax.Array:
    """-log(x), where the complement 1 - x is known to all its digits too."""
    near = complement < 0.5
    return jnp.where(
        near,
        -small_log1p(-jnp.where(near, complement, 0)),
        -jnp.log(jnp.where(near, 1, x)),
    )


def _shifted(x: jax.Array, clip: jax.Array) -> tuple[jax.Array, ...]:
    """Whether p is above clip, p - clip and 1 - (p - clip) there, p and 1 - p."""
    p, lost = sigmoid_parts(x)
    right, _, decay = decayed(x)
    q = fuse_into_users(jnp.where(right, decay, 1) / (1 + decay))
    # What p lost in rounding would be all of the difference next to clip.
    above = (p - clip) + lost
    active = ~(above <= 0)
    return active, jnp.where(active, above, 0.5), jnp.where(active, q + clip, 0.5), p, q


@functools.cache
def _modulations(power: Power) -> tuple[Callable[..., jax.Array], Callable[..., jax.Array]]:
    """(1 - p)^gamma and (p - clip)^gamma, 0 below clip, with their derivatives."""

    def positive_slopes(x: jax.Array, gamma: jax.Array) -> tuple[jax.Array, ...]:
        factor = positive(x, gamma)
        *_, p, _ = _shifted(x, jnp.zeros_like(gamma))
        return -gamma * p * factor, -safe_product(factor, softplus(x))

    @closed_form(positive_slopes)
    def positive(x: jax.Array, gamma: jax.Array) -> jax.Array:
        return power(_shifted(x, jnp.zeros_like(gamma))[-1], gamma)

    def negative_slopes(x: jax.Array, gamma: jax.Array, clip: jax.Array) -> tuple[jax.Array, ...]:
        factor = negative(x, gamma, clip)
        _, shifted, complement, p, q = _shifted(x, clip)
        steep = gamma * factor / shifted
        return steep * p * q, -factor * _minus_log(shifted, complement), -steep

    @closed_form(negative_slopes)
    def negative(x: jax.Array, gamma: jax.Array, clip: jax.Array) -> jax.Array:
        active, shifted, *_ = _shifted(x, clip)
        return jnp.where(active, power(shifted, gamma), 0)

    return positive, negative


def _softplus_product(x: jax.Array) -> jax.Array:
    """softplus(x) softplus(-x)."""
    _, size, decay = decayed(x)
    remainder = small_log1p(decay)
    return safe_product(remainder, remainder + size)


def _asymmetric_parts(
    power: Power,
    x: jax.Array,
    gamma_negative: jax.Array,
    gamma_positive: jax.Array,
    clip: jax.Array,
) -> tuple[jax.Array, ...]:
    """The modulation and the cross-entropy of positives, then those of negatives."""
    positive, negative = _modulations(power)
    _, shifted, complement, _, _ = _shifted(x, clip)
    # Without clip the complement may vanish where its logarithm does not.
    clipped = _minus_log(jnp.where(clip == 0, 1, complement), shifted)
    entropy = jnp.where(clip == 0, softplus(x), clipped)
    return positive(x, gamma_positive), softplus(-x), negative(x, gamma_negative, clip), entropy


def _asymmetric_value(
    power: Power,
    x: jax.Array,
    y: jax.Array,
    gamma_negative: jax.Array,
    gamma_positive: jax.Array,
    clip: jax.Array,
) -> jax.Array:
    of_yes, yes, of_no, no = _asymmetric_parts(power, x, gamma_negative, gamma_positive, clip)
    return safe_product(y * of_yes, yes) + safe_product((1 - y) * of_no, no)


def _asymmetric_slopes(
    power: Power,
    x: jax.Array,
    y: jax.Array,
    gamma_negative: jax.Array,
    gamma_positive: jax.Array,
    clip: jax.Array,
) -> tuple[jax.Array, ...]:
    of_yes, yes, of_no, no = _asymmetric_parts(power, x, gamma_negative, gamma_positive, clip)
    active, shifted, complement, p, q = _shifted(x, clip)
    inside = jnp.where(active, 1 - y, 0) * of_no
    # q / complement is 1 without clip.
    ratio = jnp.where(complement == 0, 1, q) / jnp.where(complement == 0, 1, complement)
    in_yes = y * of_yes * (gamma_positive * safe_product(p, yes) + q)
    in_no = inside * p * (gamma_negative * safe_product(q, no) / shifted + ratio)
    return (
        in_no - in_yes,
        safe_product(of_yes, yes) - safe_product(of_no, no),
        safe_product((1 - y) * of_no * -_minus_log(shifted, complement), no),
        y * of_yes * -_softplus_product(x),
        -safe_product(inside, gamma_negative * no / shifted + 1 / complement),
    )


_asymmetric = closed_form(_by_powers(_asymmetric_slopes, 2, 3))(_by_powers(_asymmetric_value, 2, 3))


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
) -> Losses:
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
    data = {"logits": logits, "labels": labels}
    hyper = {"gamma_negative": gamma_negative, "gamma_positive": gamma_positive, "clip": clip}
    x, y, gamma_negative, gamma_positive, clip = questions(
        data, where, "softmax_focal_loss", **hyper
    )
    losses = _asymmetric(x, y, gamma_negative, gamma_positive, clip)
    inside = probabilities(y, clip) & (gamma_negative >= 0) & (gamma_positive >= 0)
    return reduced(inputs.nan_outside(losses, inside), where, weights, reduction)
