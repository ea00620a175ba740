"""Accelerated failure times: the logarithm of a time has a location and a scale."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Bool, Float, Real

from .._contract import inputs
from .._contract.jit import jit
from .._contract.prepared import Hyper, elementwise, positive
from .._contract.reduce import Reduction, Request, Weights, Where
from .._numerics.exact import exact_sum, finite, quotient
from .._numerics.intervals import log_survival_normal
from .._numerics.kinks import Slopes, closed_form
from .._numerics.special import sigmoids, softplus, tanh

Kind = Literal["weibull", "log_logistic", "log_normal"]
Predictions = Float[ArrayLike, "*batch"] | Sequence[Any]
Times = Real[ArrayLike, "*batch"] | Sequence[Any]
Events = Bool[ArrayLike, "*batch"] | Real[ArrayLike, "*batch"] | Sequence[Any]
# A function of z, its slope and its curvature.
Parts = tuple[jax.Array, jax.Array, jax.Array]
# log 2 in two parts. The first has few bits, so that its product with a whole number is exact.
_LOG_2 = 355 / 512, math.log(2) - 355 / 512


def _weibull(z: jax.Array, event: jax.Array) -> Parts:
    size = jnp.exp(z)
    return size - event * z, jnp.where(event == 1, jnp.expm1(z), size), size


def _log_logistic(z: jax.Array, event: jax.Array) -> Parts:
    _, high, low = sigmoids(-z)
    value = softplus(z) + jnp.where(event == 1, softplus(-z), 0)
    return value, jnp.where(event == 1, tanh(0.5 * z), high), (1 + event) * high * low


def _log_normal(z: jax.Array, event: jax.Array) -> Parts:
    def cost(z: jax.Array) -> jax.Array:
        return -log_survival_normal(z)

    def slope(z: jax.Array) -> tuple[jax.Array, jax.Array]:
        return jax.jvp(cost, (z,), (jnp.ones_like(z),))

    (value, first), (_, second) = jax.jvp(slope, (z,), (jnp.ones_like(z),))
    own = event == 1
    whole = 0.5 * z * z + 0.5 * math.log(2 * math.pi)
    return jnp.where(own, whole, value), jnp.where(own, z, first), jnp.where(own, 1, second)


_KINDS: dict[str, Callable[[jax.Array, jax.Array], Parts]] = {
    "weibull": _weibull,
    "log_logistic": _log_logistic,
    "log_normal": _log_normal,
}


def _standardised(mu: jax.Array, t: jax.Array, scale: jax.Array) -> tuple[jax.Array, jax.Array]:
    """z = (log(t) - mu) / scale, and what its rounding lost, which its exponential shows."""
    m, k = jnp.frexp(t)
    k = k.astype(t.dtype)
    difference, lost = exact_sum(k * _LOG_2[0], jnp.log(m) + k * _LOG_2[1], -mu)
    z, rest = quotient(difference, scale)
    return z, finite(rest + lost / scale)


def _of_kind(kind: str) -> Callable[..., jax.Array]:
    """The loss of a kind, with its derivatives."""
    parts = _KINDS[kind]

    def at(mu: jax.Array, t: jax.Array, e: jax.Array, scale: jax.Array) -> tuple[jax.Array, ...]:
        z, rest = _standardised(mu, t, scale)
        value, slope, curvature = parts(z, e)
        # To first order: what is lost is an eps of z.
        return z, value + slope * rest, slope + curvature * rest, curvature

    def slopes(mu: jax.Array, t: jax.Array, e: jax.Array, scale: jax.Array) -> Slopes:
        z, _, slope, _ = at(mu, t, e, scale)
        steep = slope / scale
        return -steep, (steep + e) / t, jnp.zeros_like(e), e / scale - steep * z

    def second(
        mu: jax.Array, t: jax.Array, e: jax.Array, scale: jax.Array
    ) -> tuple[Slopes, Slopes, Slopes, Slopes]:
        z, _, slope, curvature = at(mu, t, e, scale)
        steep, bent = slope / scale, curvature / scale / scale
        mixed, none = bent * z + steep / scale, jnp.zeros_like(e)
        in_times = -bent / t, (bent - steep - e) / t / t
        in_scale = mixed, -mixed / t, none, (bent * z + 2 * steep / scale) * z - e / scale / scale
        return (bent,), in_times, (none, none, none), in_scale

    @closed_form(slopes, second=second)
    def loss(mu: jax.Array, t: jax.Array, e: jax.Array, scale: jax.Array) -> jax.Array:
        _, value, _, _ = at(mu, t, e, scale)
        return value + jnp.where(e == 1, jnp.log(scale) + jnp.log(t), 0)

    return loss


_LOSSES = {kind: _of_kind(kind) for kind in _KINDS}


@jit("kind")
def aft_nll_loss(
    predictions: Predictions,
    times: Times,
    events: Events,
    *,
    scale: ArrayLike = 1.0,
    kind: Kind = "weibull",
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Negative log-likelihood of an accelerated failure time, some of them censored.

        weibull       e^z - z + log(scale) + log(t)
        log_logistic  2 softplus(z) - z + log(scale) + log(t)
        log_normal    z^2 / 2 + log(2 pi) / 2 + log(scale) + log(t)

        z = (log(t) - mu) / scale

    of an event at t, and that of an event after t if the example was censored:

        weibull       e^z
        log_logistic  softplus(z)
        log_normal    -log(1 - Phi(z))

    A mu that is greater by log(2) makes all times twice as long. With kind "weibull" and a scale of
    1 times are exponential, and with any scale hazards are proportional.

    Args:
        predictions: mu, the location of the logarithm of the time.
        times: t, of that shape: when the event happened, or until when it had not. NaN unless
            positive.
        events: Of that shape: true or 1 for an event, false or 0 if the example was censored; NaN
            for any other number.
        scale: The deviation of the logarithm of the time, in units of the distribution's own. NaN
            unless positive.
        kind: The distribution of the time: "weibull", "log_logistic" or "log_normal".
        where, weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per element.

    Raises:
        ValueError: If `kind` is none of the three, or the shapes differ.

    Reference:
        Kalbfleisch and Prentice, "The statistical analysis of failure time data", 2002, chapter 3.

    Example:
        >>> aft_nll_loss(jnp.array([0.0, 0.0]), jnp.array([1.0, 2.0]), jnp.array([True, False]))
        Array([1., 2.], dtype=float32)
    """
    inputs.one_of("kind", kind, get_args(Kind))
    data = {"predictions": predictions, "times": times, "events": events}
    request = Request(where, weights, reduction)
    given = elementwise(data, request, hyper={"scale": Hyper(scale, positive)})
    mu, t, e, scale = given.arrays
    given = given.inside((t > 0) & ((e == 0) | (e == 1)))
    scale = jnp.broadcast_to(scale, mu.shape)
    return given.reduced(_LOSSES[kind](mu, t, e, scale))
