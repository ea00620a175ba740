"""Values of states, quantiles of returns, and how undecided a policy is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Float, Real

from .._contract import inputs
from .._contract.inputs import Axis
from .._contract.jit import jit
from .._contract.prepared import (
    Hyper,
    Prepared,
    elementwise,
    in_unit_interval,
    non_negative,
    vectors,
)
from .._contract.reduce import Reduction, Request, Weights, Where
from .._numerics.exact import exact_sum
from .._numerics.kinks import Slopes, absolute, closed_form, square
from .._numerics.sharding import sharded_like, whole_along
from .._numerics.softmax import mean_less, odds_against_top, surprisals, with_doubt
from .._numerics.xla import keep_out_of_sum

Values = Float[ArrayLike, "*batch"] | Sequence[Any]
Returns = Real[ArrayLike, "*batch"] | Sequence[Any]
Quantiles = Real[ArrayLike, "..."] | Sequence[Any] | None


def _chosen_error(
    v: jax.Array, target: jax.Array, old: jax.Array, clip: jax.Array
) -> tuple[jax.Array, ...]:
    """The error that counts, whether it is that at the end of the band, and which end, 1 or -1."""
    up, down = exact_sum(v, -old, -clip)[0] > 0, exact_sum(v, -old, clip)[0] < 0
    end = jnp.where(up, clip, -clip)
    # Which error is larger: their difference is v less the end of the band, and this their sum.
    both = exact_sum(old, end, v, -target, -target)[0]
    held = (up & (both < 0)) | (down & (both > 0))
    error = jnp.where(jnp.isnan(old), old, v - target)
    return jnp.where(held, exact_sum(old, end, -target)[0], error), held, jnp.where(up, 1, -1)


def _value_slopes(v: jax.Array, target: jax.Array, old: jax.Array, clip: jax.Array) -> Slopes:
    error, held, side = _chosen_error(v, target, old, clip)
    at_the_end = jnp.where(held, error, 0)
    return jnp.where(held, 0, error), -error, at_the_end, side * at_the_end


@closed_form(_value_slopes)
def _clipped_value(v: jax.Array, target: jax.Array, old: jax.Array, clip: jax.Array) -> jax.Array:
    return 0.5 * square(_chosen_error(v, target, old, clip)[0])


@jit()
def value_loss(
    values: Values,
    returns: Returns,
    old_values: Returns,
    *,
    clip: ArrayLike = 0.2,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Clipped value loss of PPO: values do not gain from leaving a band around the old ones.

        max((v - R)^2, (clip(v, v_old - clip, v_old + clip) - R)^2) / 2

    It is the larger of the two errors, not the smaller: a value that left its band towards the
    return R, and is not yet as far beyond R, has slope 0. Where the two errors are equal, at the
    end of the band and as far beyond R, the slope is v - R, that of the side that trains. Without
    a band, with clip=inf, it is `l2_loss`.

    Args:
        values: v, those of the critic that is trained, any shape.
        returns: R, of that shape, or a scalar.
        old_values: v_old, of the critic when the returns were collected; of that shape, or one that
            broadcasts to it.
        clip: Half the width of the band, in the unit of values; 0 or more, else NaN.
        where, weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per value.

    Reference:
        Schulman et al., "Proximal policy optimization algorithms", 2017, of which the first
        implementation clips values so, https://arxiv.org/abs/1707.06347; Engstrom et al.,
        "Implementation matters in deep RL: a case study on PPO and TRPO", 2020, section 3,
        https://arxiv.org/abs/2005.12729.

    Example:
        >>> value_loss(jnp.array([1.0, 2.0, -1.0]), jnp.full(3, 3.0), jnp.zeros(3), clip=0.5)
        Array([3.125, 3.125, 8.   ], dtype=float32)
    """
    request = Request(where, weights, reduction)
    data = {"values": values, "returns": returns}
    hyper = {"clip": Hyper(clip, non_negative)}
    given = elementwise(data, request, fields={"old_values": old_values}, hyper=hyper)
    return given.reduced(_clipped_value(*given.arrays))


def _negative_entropy(x: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    def parts(x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        p, doubt = with_doubt(x, axes)
        # 0 times the infinite surprisal of an action of probability 0.
        return p, doubt, jnp.where(p == 0, 0, surprisals(x, axes))

    def slopes(x: jax.Array) -> tuple[jax.Array]:
        p, doubt, u = parts(x)
        most = odds_against_top(x, axes).most & (doubt < 0.5)
        return (p * mean_less(u, p, doubt, most, axes),)

    @closed_form(slopes, axes)
    def value(x: jax.Array) -> jax.Array:
        p, _, u = parts(x)
        return -jnp.sum(keep_out_of_sum(p * u), axes)

    return value(x)


@jit("axis")
def entropy_loss(
    logits: Float[ArrayLike, "*batch actions"] | Sequence[Any],
    *,
    axis: Axis = -1,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Negative entropy of a policy: to minimise it keeps the policy undecided.

        sum over a of p log p   with p = softmax(logits)

    An action with a logit of -inf, or that a mask of the rank of `logits` excludes, is illegal: it
    has p = 0, costs nothing and has slope 0. A policy that is nearly certain keeps its digits.

    Args:
        logits: Scores of actions.
        axis: The axis, or axes, of the actions.
        where, weights, reduction: See `jaxloss.reduce`. A mask of the rank of `logits` excludes
            actions.

    Returns:
        One loss per policy, in nats: from -log(actions) to 0.

    Reference:
        Williams and Peng, "Function optimization using connectionist reinforcement learning
        algorithms", 1991; Mnih et al., "Asynchronous methods for deep reinforcement learning",
        2016, section 4, https://arxiv.org/abs/1602.01783.

    Example:
        >>> entropy_loss(jnp.array([[0.0, 0.0, -jnp.inf], [0.0, 20.0, -jnp.inf]]))
        Array([-6.931472e-01, -4.328422e-08], dtype=float32)
    """
    request = Request(where, weights, reduction)
    given = vectors({"logits": logits}, axis, request, absent=(-jnp.inf,))
    return given.reduced(_negative_entropy(given.data[0], given.axes))


def _tilted(u: jax.Array, quantile: jax.Array) -> jax.Array:
    """What an error counts for."""
    return jnp.where(u < 0, 1 - quantile, quantile)


def _pair_slopes(u: jax.Array, quantile: jax.Array, delta: jax.Array) -> Slopes:
    near = absolute(u) < delta
    ratio = u / jnp.where(near, delta, 1)
    tilt, size = _tilted(u, quantile), _huber(u, delta)
    return (
        tilt * jnp.where(near, ratio, jnp.sign(u)),
        jnp.where(u < 0, -size, size),
        tilt * jnp.where(near, -0.5 * ratio * ratio, -0.5),
    )


def _huber(u: jax.Array, delta: jax.Array) -> jax.Array:
    """The Huber loss over delta, which is |u| for a delta of 0."""
    size = absolute(u)
    near = size < delta
    return jnp.where(near, 0.5 * u * (u / jnp.where(near, delta, 1)), size - 0.5 * delta)


@closed_form(_pair_slopes)
def _quantile_huber(u: jax.Array, quantile: jax.Array, delta: jax.Array) -> jax.Array:
    return _tilted(u, quantile) * _huber(u, delta)


def _quantiles_of(predictions: jax.Array, quantiles: Any) -> jax.Array:
    size = predictions.shape[-1]
    if quantiles is None:
        return (jnp.arange(size, dtype=predictions.dtype) + 0.5) / size
    array = inputs.real("quantiles", quantiles)
    if array.shape not in ((size,), predictions.shape):
        got = inputs.described(predictions=predictions, quantiles=array)
        raise ValueError(
            "quantiles must have the shape of predictions, or be one for each entry of its last "
            f"axis, got {got}"
        )
    return array.astype(predictions.dtype)


@jit()
def quantile_huber_loss(
    predictions: Float[ArrayLike, "*batch quantiles"] | Sequence[Any],
    targets: Real[ArrayLike, "*batch samples"] | Sequence[Any],
    *,
    quantiles: Quantiles = None,
    delta: ArrayLike = 1.0,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Quantile Huber loss: predictions become quantiles of the distribution of the targets.

        sum over i of mean over j of |q_i - (u < 0)| h(u)
        h(u) = u^2 / (2 delta)    if |u| < delta
        h(u) = |u| - delta / 2    otherwise

    with u = targets_j - predictions_i: every prediction against every target. With delta=0 it is
    the quantile regression of `quantile_loss`, with slope 0 at u = 0. The paper divides by delta,
    its kappa, as here; some libraries do not, whose loss is delta times this one.

    Args:
        predictions: `[..., N]`.
        targets: Samples, or quantiles of the target's distribution: `[..., M]`, of any number M.
        quantiles: q, from 0 to 1, else NaN: `[N]`, or `[..., N]` where they are drawn, as in IQN.
            None for the midpoints (i + 1/2) / N.
        delta: Where the loss turns from a parabola to a line; 0 or more, else NaN.
        where, weights, reduction: See `jaxloss.reduce`; masks have the rank of the loss.

    Returns:
        One loss per distribution, the shape of `predictions` without its last axis.

    Raises:
        ValueError: If the shapes differ but for the last axis, or `quantiles` do not fit.

    Reference:
        Dabney et al., "Distributional reinforcement learning with quantile regression", 2018,
        eq. 9 and 10, https://arxiv.org/abs/1710.10044.

    Example:
        >>> quantile_huber_loss(jnp.array([[0.0, 2.0]]), jnp.array([[0.0, 2.0, 4.0]]))
        Array([0.9166667], dtype=float32)
    """
    request = Request(where, weights, reduction)
    arrays = {"predictions": predictions, "targets": targets}
    p, t = inputs.leading(arrays), inputs.real("targets", targets)
    if not p.ndim or t.ndim != p.ndim or t.shape[:-1] != p.shape[:-1]:
        got = inputs.described(predictions=p, targets=t)
        raise ValueError(f"expected equal shapes but for the last axis, got {got}")
    dtype, shape = inputs.computing_dtype([p, t]), p.shape[:-1]
    p, t, selected = p.astype(dtype), t.astype(dtype), None
    if where is not None:
        selected = inputs.mask(where, shape, "the loss", p, (p.ndim - 1,))
        p, t = (jnp.where(selected[..., None], x, 1) for x in (p, t))
    given = Prepared(request=request, shape=shape, dtype=dtype, where=selected)
    hyper = {"delta": Hyper(delta, non_negative)}
    given = given.with_hyper(hyper, p, (p.ndim - 1,))
    q = sharded_like(jnp.broadcast_to(_quantiles_of(p, quantiles), p.shape), p)
    given = given.inside(jnp.all(in_unit_interval(q), -1))
    # Every device needs all targets of its distributions.
    errors = whole_along(t, (-1,))[..., None, :] - p[..., :, None]
    losses = _quantile_huber(errors, q[..., :, None], given.hyper[0][..., None, None])
    return given.reduced(jnp.sum(keep_out_of_sum(jnp.mean(losses, -1)), -1))
