"""Negative log-likelihoods of what is known only to lie between two bounds."""

from __future__ import annotations

import math
from typing import Literal

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Real

from .._contract.inputs import nan_outside, one_of
from .._contract.jit import jit
from .._contract.prepared import Hyper, elementwise
from .._contract.reduce import Reduction, Request, Weights, Where
from .._numerics.exact import lost_in_difference, quotient
from .._numerics.intervals import (
    log_interval_gumbel,
    log_interval_logistic,
    log_interval_normal,
)
from .._numerics.kinks import closed_form, divide, square
from .._numerics.sharding import sharded_like
from .._numerics.special import sigmoid, softplus, tanh
from .observed import Field, Predictions
from .real import log

Bound = Real[ArrayLike, "*batch"] | ArrayLike
Pair = tuple[jax.Array, jax.Array]

_INTERVALS = {
    "normal": log_interval_normal,
    "logistic": log_interval_logistic,
    "gumbel": log_interval_gumbel,
}


@closed_form(lambda z: (tanh(0.5 * z),), second=lambda z: ((2 * sigmoid(z) * sigmoid(-z),),))
def _logistic(z: jax.Array) -> jax.Array:
    return softplus(z) + softplus(-z)


@closed_form(lambda z: (jnp.expm1(z),), second=lambda z: ((jnp.exp(z),),))
def _gumbel(z: jax.Array) -> jax.Array:
    return jnp.where(z == jnp.inf, z, jnp.exp(z) - z)


# -log of the density at z, of scale 1.
_DENSITIES = {
    "normal": lambda z: 0.5 * square(z) + 0.5 * math.log(2 * math.pi),
    "logistic": _logistic,
    "gumbel": _gumbel,
}


def _over_scale(a: jax.Array, b: jax.Array, scale: jax.Array) -> Pair:
    """(a - b) / scale, and what its rounding lost; where that is infinite it is a constant."""
    end = jax.lax.stop_gradient(a - b)
    open_ended = jnp.isinf(end)
    a, b = jnp.where(open_ended, 0, a), jnp.where(open_ended, 0, b)
    z, (_, lost) = divide(a - b, scale), quotient(a - b, scale)
    lost = lost + lost_in_difference(a, b) / scale
    return jnp.where(open_ended, end, z), jnp.where(open_ended, 0, lost)


def _log_interval(
    kind: str, location: jax.Array, scale: jax.Array, lower: jax.Array, upper: jax.Array
) -> jax.Array:
    pairs = (lower, location), (upper, location), (upper, lower)
    (a, a_lost), (b, b_lost), (gap, lost) = (_over_scale(x, y, scale) for x, y in pairs)
    return _INTERVALS[kind](a, b, gap, (a_lost, b_lost, lost))


@jit("kind")
def censored_nll_loss(
    predictions: Predictions,
    lower: Bound,
    upper: Bound,
    scale: Field,
    *,
    kind: Literal["normal", "logistic", "gumbel"] = "normal",
    truncation_lower: ArrayLike = -jnp.inf,
    truncation_upper: ArrayLike = jnp.inf,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Negative log-likelihood of what is known only to lie between two bounds.

        -log(F(b) - F(a))         in an interval, a < b
        -log F(b)                 censored on the left, a = -inf
        -log(1 - F(a))            censored on the right, b = inf
        -log f(a)                 observed exactly, a = b
        + log(F(B) - F(A))        truncated

    with f and F the density and the distribution function of location + scale Z. Where numbers
    outside (A, B) never enter the data, the likelihood is that among those which do, and a and b
    are read as max(a, A) and min(b, B).

    Logarithms of bounds of positive amounts have the lognormal distribution with "normal", the
    log-logistic with "logistic" and the Weibull distribution of shape 1 / scale with "gumbel". The
    densities of the amounts themselves differ by the term log(a) where a = b, which depends on
    data alone.

    Args:
        predictions: The location; any shape. The mean of "normal" and of "logistic".
        lower: a, the shape of `predictions`, or a scalar. -inf: no lower bound is known.
        upper: b, the shape of `predictions`, or a scalar. inf: no upper bound is known. NaN below
            a. Where a = b each has half the gradient, and outside (A, B) the loss is NaN.
        scale: The scale, in the unit of the bounds; the standard deviation of "normal". NaN
            unless positive.
        kind: The distribution of Z: "normal"; "logistic", F(z) = 1 / (1 + exp(-z)); or "gumbel",
            that of least values, F(z) = 1 - exp(-exp(z)).
        truncation_lower: A; a number for all, or an array that broadcasts against them.
        truncation_upper: B, likewise. NaN unless above A. NaN if (a, b) has no part in (A, B).
        where, weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per element.

    Raises:
        ValueError: If `kind` is none of these.

    Reference:
        Tobin, "Estimation of relationships for limited dependent variables", 1958,
        https://doi.org/10.2307/1907382.

    Example:
        Observed exactly, more than 1, and between 0 and 2:

        >>> lower, upper = jnp.array([1.0, 1.0, 0.0]), jnp.array([1.0, jnp.inf, 2.0])
        >>> censored_nll_loss(jnp.array([1.0, 1.0, 1.0]), lower, upper, 1.0)
        Array([0.9189385 , 0.6931472 , 0.38171515], dtype=float32)
    """
    one_of("kind", kind, tuple(_INTERVALS))
    request = Request(where, weights, reduction)
    given = elementwise(
        {"predictions": predictions, "lower": lower, "upper": upper},
        request,
        fields={"scale": scale},
        hyper={
            "truncation_lower": Hyper(truncation_lower, off=(-jnp.inf,)),
            "truncation_upper": Hyper(truncation_upper, off=(jnp.inf,)),
        },
    )
    location, a, b, scale, low, high = given.arrays
    known = (a <= b) & (scale > 0) & (a < jnp.inf) & (b > -jnp.inf)
    exact = a == b
    truncated = low is not None or high is not None
    # An excluded element has no truncation.
    there = True if given.where is None else given.where
    low, high = (
        jnp.where(there, sharded_like(jnp.broadcast_to(x, a.shape).astype(a.dtype), a), nothing)
        for x, nothing in (
            (-jnp.inf if low is None else low, -jnp.inf),
            (jnp.inf if high is None else high, jnp.inf),
        )
    )
    known &= jnp.where(exact, (low <= a) & (b <= high), low < high) & (low < b) & (a < high)
    given = given.inside(known)
    # Also infinite bounds, whose slope is 0, have to be NaN outside the domain.
    a, b = nan_outside(a, known), nan_outside(b, known)
    if truncated:
        # What may lie anywhere below b lies above the truncation.
        a, b = jnp.where(~exact & (a < low), low, a), jnp.where(~exact & (b > high), high, b)
    # What is observed exactly is not an interval, and an interval is not observed.
    z, _ = _over_scale(jnp.where(exact, 0.5 * a + 0.5 * b, location), location, scale)
    density = _DENSITIES[kind](z) + log(scale)
    interval = _log_interval(kind, location, scale, a, jnp.where(exact, jnp.inf, b))
    losses = jnp.where(exact, density, -interval)
    if truncated:
        losses = losses + _log_interval(kind, location, scale, low, high)
    return given.reduced(losses)
