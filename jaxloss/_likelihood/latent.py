"""How far a predicted Gaussian is from another: what latent variables cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Float

from .._contract.inputs import Axis
from .._contract.jit import jit
from .._contract.prepared import Hyper, any_number, non_negative, vectors
from .._contract.reduce import Reduction, Request, Weights, Where
from .._numerics.exact import lost_in_difference
from .._numerics.kinks import Slopes, closed_form, in_range
from .._numerics.special import exp_gap

Vectors = Float[ArrayLike, "*batch features"] | Sequence[Any]
Priors = Vectors | Float[ArrayLike, ""]


def _variances(
    log_variance: jax.Array, prior: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """The difference d of the logarithms, what its rounding lost, exp(d) and exp(d) - 1."""
    d, lost = log_variance - prior, lost_in_difference(log_variance, prior)
    # The rounding of a difference of 80 would cost 40 units in the last place of its exponential.
    ratio = jnp.exp(d)
    return d, lost, ratio + in_range(ratio) * lost, jnp.expm1(d) + in_range(ratio) * lost


def _half_square(x: jax.Array) -> jax.Array:
    """x^2 / 2, also where x^2 overflows and that does not."""
    return x * (0.5 * x)


def _apart_slopes(e: jax.Array, log_variance: jax.Array, prior: jax.Array) -> Slopes:
    *_, growth = _variances(log_variance, prior)
    # The precision as two factors, which alone may overflow.
    root = jnp.exp(-0.5 * prior)
    return e * root * root, 0.5 * growth, -(0.5 * growth + _half_square(e * root))


def _apart_curvatures(
    e: jax.Array, log_variance: jax.Array, prior: jax.Array
) -> tuple[Slopes, Slopes, Slopes]:
    _, _, ratio, _ = _variances(log_variance, prior)
    root = jnp.exp(-0.5 * prior)
    return (
        (root * root,),
        (jnp.zeros_like(e), 0.5 * ratio),
        (-e * root * root, -0.5 * ratio, 0.5 * ratio + _half_square(e * root)),
    )


@closed_form(_apart_slopes, second=_apart_curvatures)
def _apart(e: jax.Array, log_variance: jax.Array, prior: jax.Array) -> jax.Array:
    d, lost, _, growth = _variances(log_variance, prior)
    gap = exp_gap(d) + in_range(growth) * lost
    return 0.5 * gap + _half_square(e * jnp.exp(-0.5 * prior))


@jit("axis")
def gaussian_kl(
    mean: Vectors,
    log_variance: Vectors,
    prior_mean: Priors = 0.0,
    prior_log_variance: Priors = 0.0,
    *,
    free_bits: ArrayLike = 0.0,
    axis: Axis = -1,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Kullback-Leibler divergence of a diagonal Gaussian from a prior: of a latent vector.

        sum of (exp(d) - 1 - d + (m - m0)^2 exp(-l0)) / 2
        with d = l - l0

    for means m and m0 and log-variances l and l0; to the standard normal by default. It is 0 at
    the prior alone. A dimension that costs exactly `free_bits` has its gradient.

    Args:
        mean: m, that of the posterior, `[..., D]`.
        log_variance: l, the logarithm of its variance, as encoders of variational autoencoders
            give it; of a deviation s, 2 log(s).
        prior_mean: m0, of the same shape, or a scalar.
        prior_log_variance: l0, of the same shape, or a scalar.
        free_bits: What each dimension costs at least, in nats, so that it is not given up: below,
            its gradient is 0. 0 or more.
        axis: That of the dimensions.
        where, weights, reduction: See `jaxloss.reduce`.

    Returns:
        One divergence per vector, in nats: the sum over its dimensions.

    Reference:
        Kingma and Welling, "Auto-encoding variational Bayes", 2014, appendix B,
        https://arxiv.org/abs/1312.6114; free bits: Kingma et al., "Improved variational inference
        with inverse autoregressive flow", 2016, section C.8, https://arxiv.org/abs/1606.04934,
        there of the mean of a batch.

    Example:
        >>> gaussian_kl(jnp.array([[0.0, 1.0]]), jnp.array([[0.0, 0.0]]))
        Array([0.5], dtype=float32)
    """
    data = {
        "mean": mean,
        "log_variance": log_variance,
        "prior_mean": prior_mean,
        "prior_log_variance": prior_log_variance,
    }
    request = Request(where, weights, reduction)
    free = Hyper(free_bits, non_negative, off=(0,))
    given = vectors(data, axis, request, hyper={"free_bits": free})
    mean, log_variance, center, log_width = given.data
    costs = _apart(mean - center, log_variance, log_width)
    (free,) = given.hyper
    if free is not None:
        least = jnp.expand_dims(free, given.axes)
        costs = jnp.where(costs < least, least, costs)
    if given.entries is not None:
        costs = jnp.where(given.entries, costs, 0)
    # A NaN variance shows in the slope of the mean too.
    given = given.inside(jnp.all(any_number(log_variance), given.axes))
    return given.reduced(jnp.sum(costs, given.axes))
