"""Times in intervals: the probability of an event in each, given that it has not come before.

In the formulas z are the logits of the K intervals 0, 1, ..., K - 1, and n is the number of the
interval in which the event happened, or the last one that a censored example survived.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Bool, Float, Int, Real

from .._contract import inputs
from .._contract.jit import jit
from .._contract.prepared import Vectors, vectors
from .._contract.reduce import Reduction, Request, Weights, Where
from .._numerics.sharding import sharded_like
from .._numerics.special import sigmoids
from .cohort import told
from .sums import added, exponentials, log_quotient, sum_along

Logits = Float[ArrayLike, "*batch intervals"] | Sequence[Any]
Durations = Int[ArrayLike, "*batch"] | Sequence[Any]
Happened = Bool[ArrayLike, "*batch"] | Real[ArrayLike, "*batch"] | Sequence[Any]


@dataclass(frozen=True, eq=False, kw_only=True)
class Intervals(Vectors):
    """Logits of intervals, and in which of them the event happened.

    Attributes:
        axis: That of the intervals.
        own: Whether an interval is that of the event, or the last one survived.
        before: Whether it comes before that one.
        happened: Whether the example has an event, in the shape of the losses.
    """

    axis: int
    own: jax.Array
    before: jax.Array
    happened: jax.Array

    def along(self, x: jax.Array) -> jax.Array:
        """An array of the examples beside those of their intervals."""
        return jnp.expand_dims(x, self.axis)


def intervals(logits: Any, durations: Any, events: Any, axis: int, request: Request) -> Intervals:
    """Logits of intervals, numbers of intervals and events, ready for arithmetic."""
    z = inputs.floating("logits", logits)
    axes = inputs.consumed(axis, "logits", z)
    if len(axes) != 1:
        raise ValueError(f"axis must name the one axis of the intervals, got {axis!r}")
    if request.where is not None and z.ndim > 1:
        mask = inputs.real("where", request.where)
        if mask.ndim == z.ndim:
            raise ValueError(
                "where must be of the rank of the loss, as an example without some of its "
                f"intervals has no likelihood, got {inputs.described(where=mask)}"
            )
    data = {"logits": z}
    given = vectors(data, axes, request)
    numbers = inputs.real("durations", durations, numbers=True)
    got = inputs.described(durations=numbers)
    inputs.check_integers(
        numbers,
        f"durations must be integers, the numbers of intervals, got {got}; of times with the ends "
        "of intervals, numpy.searchsorted(ends, times)",
    )
    numbers = given.of_each("durations", numbers, data, "a number for each example", 0)
    happened, valid = told(given.of_each("events", events, data, "an event for each example", 0))
    place, inside = inputs.class_index(numbers, z.shape[axes[0]])
    number = jax.lax.broadcasted_iota(jnp.int32, z.shape, axes[0])
    number = sharded_like(number, given.data[0])
    places = jnp.expand_dims(place, axes)
    known = inside & valid & ~jnp.any(jnp.isnan(given.data[0]), axes)
    # Of labels outside the domain no slope is to look like one.
    scores = inputs.nan_outside(given.data[0], jnp.expand_dims(known, axes))
    return Intervals(
        request=given.request,
        shape=given.shape,
        dtype=given.dtype,
        where=given.where,
        known=known,
        data=(scores,),
        axes=given.axes,
        axis=axes[0],
        own=number == places,
        before=number < places,
        happened=happened,
    )


@jit("axis")
def logistic_hazard_loss(
    logits: Logits,
    durations: Durations,
    events: Happened,
    *,
    axis: int = -1,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Negative log-likelihood of a time in intervals, from the hazard of each interval.

        (sum over k < n of softplus(z_k)) + softplus(-z_n)   event
        (sum over k <= n of softplus(z_k))                   censored

    The hazard sigmoid(z_k) is the probability of an event in interval k of those who have survived
    the intervals before. Also known as nnet-survival: a binary cross-entropy for each interval that
    the example has seen.

    Args:
        logits: z, `[..., intervals]`.
        durations: n, integers of the shape of the loss: the number of the interval of the event, or
            that of the last interval that a censored example is known to have survived. NaN outside
            0 to K - 1: exclude an example that was censored in the first.
        events: Of that shape: true or 1 for an event, false or 0 if the example was censored; NaN
            for any other number.
        axis: The axis of the intervals.
        where: Which examples count.
        weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per example: the shape of `logits` without its axis of intervals.

    Raises:
        TypeError: If `durations` are no integers.
        ValueError: If the shapes differ, or `where` takes out intervals.

    Reference:
        Gensheimer and Narasimhan, "A scalable discrete-time survival model for neural networks",
        2019; Kvamme and Borgan, "Continuous and discrete-time survival prediction with neural
        networks", 2019.

    Example:
        >>> logits = jnp.array([[0.0, 0.0, 0.0], [0.0, 2.0, 0.0]])
        >>> logistic_hazard_loss(logits, jnp.array([0, 1]), jnp.array([True, False]))
        Array([0.6931472, 2.8200753], dtype=float32)
    """
    given = intervals(logits, durations, events, axis, Request(where, weights, reduction))
    (z,) = given.data
    cost, _, _ = sigmoids(jnp.where(given.own & given.along(given.happened), z, -z))
    seen = given.own | given.before
    return given.reduced(jnp.sum(jnp.where(seen, cost, 0), given.axis))


@jit("axis")
def pmf_loss(
    logits: Logits,
    durations: Durations,
    events: Happened,
    *,
    axis: int = -1,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Negative log-likelihood of a time in intervals, from a softmax over them.

        -log(p_n)                        event
        -log(p_(n + 1) + ... + p_K)      censored

        p_k = e^z_k / (e^z_0 + ... + e^z_(K - 1) + 1)
        p_K = 1 / (e^z_0 + ... + e^z_(K - 1) + 1)

    p_K is the probability of an event after the last interval, whose logit is 0. The likelihood of
    DeepHit for a single kind of event. With sums of the logits from each interval on,
    `jnp.cumsum(z[..., ::-1], -1)[..., ::-1]`, it is that of multi-task logistic regression.

    Args:
        logits: z, `[..., intervals]`.
        durations: n, integers of the shape of the loss: the number of the interval of the event, or
            that of the last interval that a censored example is known to have survived. NaN outside
            0 to K - 1.
        events: Of that shape: true or 1 for an event, false or 0 if the example was censored; NaN
            for any other number.
        axis: The axis of the intervals.
        where: Which examples count.
        weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per example: the shape of `logits` without its axis of intervals.

    Raises:
        TypeError: If `durations` are no integers.
        ValueError: If the shapes differ, or `where` takes out intervals.

    Reference:
        Kvamme and Borgan, "Continuous and discrete-time survival prediction with neural networks",
        2019; Lee et al., "DeepHit: a deep learning approach to survival analysis with competing
        risks", 2018; Yu et al., "Learning patient-specific cancer survival distributions as a
        sequence of dependent regressors", 2011.

    Example:
        >>> logits = jnp.array([[0.0, 0.0, 0.0], [0.0, 2.0, 0.0]])
        >>> pmf_loss(logits, jnp.array([0, 1]), jnp.array([True, False]))
        Array([1.3862944, 1.6476058], dtype=float32)
    """
    given = intervals(logits, durations, events, axis, Request(where, weights, reduction))
    (z,) = given.data
    happened = given.happened
    # What is consistent with what was seen; an event after all intervals is, of a censored example.
    right = jnp.where(given.along(happened), given.own, ~(given.own | given.before))
    one = jnp.ones_like(z)
    beyond = jnp.zeros_like(happened, given.dtype)
    likely, others = (
        added(sum_along(z, jnp.where(chosen, one, 0), given.axis), exponentials(beyond, too))
        for chosen, too in ((right, ~happened), (~right, happened))
    )
    return given.reduced(log_quotient(others, likely))
