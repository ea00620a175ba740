"""The focal loss of a softmax; in the formulas u = -log p and p = softmax(x)."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from .._contract.inputs import Axis, ClassWeights
from .._contract.jit import jit
from .._contract.prepared import Hyper, non_negative
from .._contract.reduce import Reduction, Request, Weights, Where
from .._numerics.kinks import closed_form
from .._numerics.special import one_if_zero
from .labels import (
    Labels,
    Scores,
    either,
)
from .targets import over_classes, smoothing


class _Doubt(NamedTuple):
    """Of u = -log p and gamma, what the focal loss m^gamma u, m = 1 - p, is made of.

    Attributes:
        p: The probability.
        power: m^gamma.
        ratio: u / m.
        logarithm: log m; 0 where m is 0.
        certain: Whether m is 0.
        held: m, or 1 where it is 0.
    """

    p: jax.Array
    power: jax.Array
    ratio: jax.Array
    logarithm: jax.Array
    certain: jax.Array
    held: jax.Array


def _doubt(u: jax.Array, gamma: jax.Array) -> _Doubt:
    p, missing = jnp.exp(-u), -jnp.expm1(-u)
    certain, held = missing == 0, one_if_zero(missing)
    ratio = jnp.where(certain | (p == 0), 1, u) / held
    # log(1 - p), for small p not from 1 - p, which has lost their digits.
    small = p < 0.5
    logarithm = jnp.where(small, jnp.log1p(-jnp.where(small, p, 0)), jnp.log(held))
    return _Doubt(p, jnp.power(missing, gamma), ratio, logarithm, certain, held)


def _focal_slopes(u: jax.Array, gamma: jax.Array) -> tuple[jax.Array, jax.Array]:
    p, power, ratio, logarithm, certain, _ = _doubt(u, gamma)
    in_gamma = power * jnp.where(certain, 0, u) * logarithm
    return power * (1 + gamma * p * ratio), jnp.where(p == 0, 0, in_gamma)


def _focal_curvatures(u: jax.Array, gamma: jax.Array) -> tuple[tuple[jax.Array, ...], ...]:
    p, power, ratio, logarithm, certain, held = _doubt(u, gamma)
    # Of p and u, whose product is 0 at u = inf.
    size = jnp.where(certain | (p == 0), 0, u)
    bend = gamma * (power / held) * p * (2 + (gamma - 1) * p * ratio - size)
    mixed = power * (logarithm * (1 + gamma * p * ratio) + p * ratio)
    twice = power * size * logarithm * logarithm
    return (jnp.where(certain, 0, bend),), (jnp.where(certain, 0, mixed), twice)


@closed_form(_focal_slopes, second=_focal_curvatures)
def _focal(u: jax.Array, gamma: jax.Array) -> jax.Array:
    return jnp.power(-jnp.expm1(-u), gamma) * u


@jit("axis")
def softmax_focal_loss(
    logits: Scores,
    labels: Labels,
    *,
    gamma: ArrayLike = 2.0,
    axis: Axis = -1,
    class_weights: ClassWeights = None,
    label_smoothing: ArrayLike = 0.0,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Cross-entropy that neglects examples that are classified well already.

        sum over c of w_c y_c (1 - p_c)^gamma u_c,   p = softmax(x), u = -log p

    Of a probability of the right class as it is, `sigmoid_focal_loss` with `apply_sigmoid=False`
    and the label 1 is the same.

    Args:
        logits: x, of any shape.
        labels: Class numbers, integers of the shape of `logits` without `axis`; or y, of the
            shape of `logits`.
        gamma: 0 or more, else NaN; 0 is cross-entropy.
        axis: The axis of the classes, or several, or None for all.
        class_weights, label_smoothing: See `softmax_cross_entropy`.
        where, weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per example: the shape of `logits` without `axis`.

    Reference:
        Lin et al., "Focal loss for dense object detection", 2017, eq. 5,
        https://arxiv.org/abs/1708.02002.

    Example:
        >>> softmax_focal_loss(jnp.array([[2.0, 0.0, 1.0]]), jnp.array([0]))
        Array([0.04568], dtype=float32)
    """
    data, request = {"logits": logits, "labels": labels}, Request(where, weights, reduction)
    hyper = {"label_smoothing": smoothing(label_smoothing), "gamma": Hyper(gamma, non_negative)}
    given = either(data, axis, request, class_weights, hyper=hyper)
    smooth, power = given.hyper
    return given.reduced(over_classes(given, smooth, _focal, power))
