"""Losses of ordered classes, from a logit at each threshold between two of them.

In the formulas x_0, ..., x_(K-2) are the logits of an example and y is the number of its class,
from 0 to K - 1; a number outside gives NaN.
"""

from __future__ import annotations

import operator
from typing import Literal

import jax
import jax.numpy as jnp

from .._contract.inputs import Axis, one_of
from .._contract.jit import jit
from .._contract.reduce import Reduction, Request, Weights, Where
from .._numerics.exact import lost_in_difference
from .._numerics.intervals import (
    log_interval_gumbel,
    log_interval_logistic,
    log_interval_normal,
)
from .._numerics.sharding import whole_along
from .._numerics.special import softplus
from .levels import ClassNumbers, Levels, Ordered, ordered

_LINKS = {
    "logit": log_interval_logistic,
    "probit": log_interval_normal,
    "cloglog": log_interval_gumbel,
}


def _at(given: Ordered, place: jax.Array, nothing: float) -> jax.Array:
    """The logit at a place, with its axis dropped; `nothing` where there is none."""
    found = jnp.where(given.place == place, given.scores, 0)
    none = (place < 0) | (place >= given.scores.shape[given.axes[0]])
    none = jnp.squeeze(none, given.axes)
    return jnp.where(none, nothing, jnp.sum(found, given.axes))


@jit("axis", "kind")
def cumulative_link_nll(
    logits: Levels,
    labels: ClassNumbers,
    *,
    kind: Literal["logit", "probit", "cloglog"] = "logit",
    axis: Axis = -1,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Negative log-likelihood of a cumulative link model: ordinal regression.

        -log(F(x_y) - F(x_(y-1)))   with F(x_-1) = 0, F(x_(K-1)) = 1

    F(x_k) is the probability of a class up to k: the logits increase. A model of one score per
    example, with K - 1 thresholds that increase, has logits x = thresholds - score[..., None]: with
    "logit" it is the proportional odds model. Two classes are the binary case: with "logit" the
    loss is `sigmoid_binary_cross_entropy` of x_0 and [y = 0].

    Digits are those of the gap between two logits, however close or far out these are.

    Args:
        logits: x, along `axis` one for each threshold, K - 1. NaN where they decrease; a class
            between two equal ones has probability 0, loss inf.
        labels: y, integers of the shape of `logits` without `axis`. NaN outside [0, K).
        kind: The link: "logit", F(x) = 1 / (1 + exp(-x)); "probit", the normal distribution
            function; or "cloglog", F(x) = 1 - exp(-exp(x)).
        axis: That of the thresholds.
        where, weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per example.

    Raises:
        ValueError: If `kind` is none of these, or `where` excludes single logits.

    Reference:
        McCullagh, "Regression models for ordinal data", 1980,
        https://doi.org/10.1111/j.2517-6161.1980.tb01109.x.

    Example:
        >>> thresholds, score = jnp.array([-1.0, 1.0]), jnp.array([0.0, 3.0])
        >>> cumulative_link_nll(thresholds[None] - score[:, None], jnp.array([1, 2]))
        Array([0.7719369 , 0.12692802], dtype=float32)
    """
    one_of("kind", kind, tuple(_LINKS))
    given = ordered(logits, labels, axis, Request(where, weights, reduction))
    x, along = whole_along(given.scores, given.axes), given.axes[0]
    last = x.shape[along] - 1
    steps = (jax.lax.slice_in_dim(x, i, last + i, axis=along) for i in (0, 1))
    increase = jnp.all(operator.le(*steps), along)
    given = given.inside(increase if given.where is None else increase | ~given.where)
    lower, upper = _at(given, given.label - 1, -jnp.inf), _at(given, given.label, jnp.inf)
    lost = lost_in_difference(upper, lower)
    nothing = jnp.zeros_like(lost)
    interval = _LINKS[kind](lower, upper, upper - lower, (nothing, nothing, lost))
    return given.reduced(-interval)


def _of_levels(given: Ordered) -> jax.Array:
    """The binary cross-entropy of each level."""
    x = given.scores
    return softplus(jnp.where(given.label > given.place, -x, x))


@jit("axis")
def coral_loss(
    logits: Levels,
    labels: ClassNumbers,
    *,
    axis: Axis = -1,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Binary cross-entropy of all levels: is the class above the first, the second, ...?

        sum over k of log(1 + exp(-x_k))   if y > k
                      log(1 + exp(x_k))    if not

    The logits of CORAL are a score that all levels share plus a bias of each, and consistent if the
    biases decrease. Without that constraint this is the loss of Niu et al., 2016, too. It is a sum,
    of which each example has all terms.

    Args:
        logits: x, along `axis` one for each level, K - 1.
        labels: y, integers of the shape of `logits` without `axis`. NaN outside [0, K).
        axis: That of the levels.
        where, weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per example.

    Raises:
        ValueError: If `where` excludes single logits.

    Reference:
        Cao, Mirjalili and Raschka, "Rank consistent ordinal regression for neural networks with
        application to age estimation", 2020, https://arxiv.org/abs/1901.07884.

    Example:
        >>> coral_loss(jnp.array([[2.0, 0.0, -2.0], [2.0, 0.0, -2.0]]), jnp.array([1, 3]))
        Array([0.94700325, 2.9470034 ], dtype=float32)
    """
    given = ordered(logits, labels, axis, Request(where, weights, reduction))
    return given.reduced(jnp.sum(_of_levels(given), given.axes))


@jit("axis")
def corn_loss(
    logits: Levels,
    labels: ClassNumbers,
    *,
    axis: Axis = -1,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Binary cross-entropy of the levels that an example reaches: is it above the next one too?

        sum over k < y of log(1 + exp(-x_k))
            + log(1 + exp(x_y))   if y < K - 1

    sigmoid(x_k) is the probability of y > k among those with y >= k, so that the loss is the
    negative log-likelihood of the class. The authors' code divides the sum over a batch by the
    number of all terms, which depends on the labels; here a mean is over examples.

    Args:
        logits: x, along `axis` one for each level, K - 1.
        labels: y, integers of the shape of `logits` without `axis`. NaN outside [0, K).
        axis: That of the levels.
        where, weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per example.

    Raises:
        ValueError: If `where` excludes single logits.

    Reference:
        Shi, Cao and Raschka, "Deep neural networks for rank-consistent ordinal regression based on
        conditional probabilities", 2021, https://arxiv.org/abs/2111.08851.

    Example:
        >>> corn_loss(jnp.array([[2.0, 0.0, -2.0], [2.0, 0.0, -2.0]]), jnp.array([1, 3]))
        Array([0.820075, 2.947003], dtype=float32)
    """
    given = ordered(logits, labels, axis, Request(where, weights, reduction))
    asked = given.place <= given.label
    return given.reduced(jnp.sum(jnp.where(asked, _of_levels(given), 0), given.axes))
