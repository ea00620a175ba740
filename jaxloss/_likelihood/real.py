"""Negative log-likelihoods and a proper score of a predicted distribution of real numbers.

In the formulas e = predictions - targets. Parameters that go with each prediction, such as a
variance, are scalars or arrays of the rank of the predictions, where a dimension of size 1 is
broadcast. Outside the domain losses are NaN.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from .._contract.jit import jit
from .._contract.prepared import Hyper, non_negative
from .._contract.reduce import Reduction, Request, Weights, Where
from .._numerics.exact import lost_in_difference
from .._numerics.gamma import half_step
from .._numerics.kinks import Slopes, clamped, closed_form
from .._numerics.special import (
    gaussian_kernel,
    log1p_square,
    log1p_square_less_share,
    one_if_zero,
    ratio,
    sine_and_cosine,
)
from .._numerics.xla import apart
from .observed import Field, Predictions, Targets, observed


def _gaussian_curvatures(
    e: jax.Array, variance: jax.Array, weight: jax.Array
) -> tuple[Slopes, Slopes]:
    # In factors of which none overflows or vanishes where their product does not:
    # (z^2 - 1/2) / variance^2, as four of them.
    in_e, inverse, z = weight / variance, 1 / variance, jnp.abs(e) / jnp.sqrt(variance)
    in_variance = (in_e * (z - math.sqrt(0.5))) * ((z + math.sqrt(0.5)) * inverse)
    return (in_e,), (-(in_e * e) * inverse, in_variance)


@closed_form(
    lambda e, variance, weight: (
        (weight / variance) * e,
        0.5 * (weight / variance) - (weight / variance * e) * (0.5 * e / variance),
        0.5 * jnp.log(variance) + (e / variance) * (0.5 * e),
    ),
    second=_gaussian_curvatures,
)
def _gaussian(e: jax.Array, variance: jax.Array, weight: jax.Array) -> jax.Array:
    return 0.5 * weight * jnp.log(variance) + (weight / variance * e) * (0.5 * e)


@jit("full")
def gaussian_nll_loss(
    predictions: Predictions,
    targets: Targets,
    variance: Field,
    *,
    full: bool = False,
    eps: ArrayLike = 0.0,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Negative log-likelihood of a Gaussian with predicted mean and variance.

        (log(v) + e^2 / v) / 2,   with full + log(2 pi) / 2

    Args:
        predictions: The mean; any shape.
        targets: The shape of `predictions`, or a scalar.
        variance: v, in the squared unit of `targets`. NaN unless positive.
        full: Whether to add the constant.
        eps: The variance is not read lower than this; 0 or more. The gradient in a clamped
            variance is that at `eps`, as in PyTorch, whose default is 1e-6: it still trains.
        where, weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per element.

    Reference:
        Nix and Weigend, "Estimating the mean and variance of the target probability
        distribution", 1994, https://doi.org/10.1109/ICNN.1994.374138.

    Example:
        >>> gaussian_nll_loss(jnp.array([1.0, 3.0]), jnp.array([1.0, 1.0]), jnp.array([1.0, 4.0]))
        Array([0.       , 1.19315], dtype=float32)
    """
    request = Request(where, weights, reduction)
    given = observed(
        predictions,
        targets,
        request,
        fields={"variance": variance},
        eps=Hyper(eps, non_negative),
    )
    mu, y, variance, eps = given.arrays
    losses = _gaussian(mu - y, clamped(variance, eps), jnp.ones_like(y))
    losses = losses + full * 0.5 * math.log(2 * math.pi)
    return given.inside(variance >= 0).reduced(losses)


@apart
def _beta_nll(mu: jax.Array, y: jax.Array, variance: jax.Array, beta: jax.Array) -> jax.Array:
    weight = jax.lax.stop_gradient(jnp.power(variance, beta))
    return _gaussian(mu - y, variance, weight)


@jit()
def beta_nll_loss(
    predictions: Predictions,
    targets: Targets,
    variance: Field,
    *,
    beta: ArrayLike = 0.5,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Gaussian negative log-likelihood that does not neglect points of large variance.

        v^beta (log(v) + e^2 / v) / 2,   where v^beta is a constant under differentiation

    The gradient is v^beta times that of `gaussian_nll_loss`, hence 0 in beta: with beta = 0
    that of the likelihood, with beta = 1 in the mean that of `l2_loss`.

    Args:
        predictions: The mean; any shape.
        targets: The shape of `predictions`, or a scalar.
        variance: v, in the squared unit of `targets`. NaN unless positive.
        beta: Usually from 0 to 1.
        where, weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per element.

    Reference:
        Seitzer et al., "On the pitfalls of heteroscedastic uncertainty estimation with
        probabilistic neural networks", 2022, eq. 5, https://arxiv.org/abs/2203.09168.

    Example:
        >>> beta_nll_loss(jnp.array([1.0, 3.0]), jnp.array([1.0, 1.0]), jnp.array([1.0, 4.0]))
        Array([0.       , 2.38629], dtype=float32)
    """
    request = Request(where, weights, reduction)
    fields = {"variance": variance}
    given = observed(predictions, targets, request, fields=fields, beta=Hyper(beta))
    _, _, variance = given.data
    return given.inside(variance >= 0).reduced(_beta_nll(*given.arrays))


def _laplace_curvatures(e: jax.Array, scale: jax.Array) -> tuple[Slopes, Slopes]:
    inverse = 1 / scale
    in_scale = (2 * (jnp.abs(e) / scale) - 1) * inverse * inverse
    return (jnp.zeros_like(e),), (-jnp.sign(e) * inverse * inverse, in_scale)


@closed_form(
    lambda e, scale: (jnp.sign(e) / scale, (1 - jnp.abs(e) / scale) / scale),
    second=_laplace_curvatures,
)
def _laplace(e: jax.Array, scale: jax.Array) -> jax.Array:
    return jnp.log(2 * scale) + jnp.abs(e) / scale


@jit()
def laplace_nll_loss(
    predictions: Predictions,
    targets: Targets,
    scale: Field,
    *,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Negative log-likelihood of a Laplace distribution: L1 with a learned scale.

        log(2 b) + |e| / b

    At e = 0 the gradient in predictions and targets is 0, the subgradient of least norm.

    Args:
        predictions: The median; any shape.
        targets: The shape of `predictions`, or a scalar.
        scale: b, the mean absolute error, in the unit of `targets`. NaN unless positive.
        where, weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per element.

    Reference:
        Laplace, "Mémoire sur la probabilité des causes par les évènements", 1774.

    Example:
        >>> laplace_nll_loss(jnp.array([1.0, 3.0]), jnp.array([1.0, 1.0]), 0.5)
        Array([0., 4.], dtype=float32)
    """
    request = Request(where, weights, reduction)
    given = observed(predictions, targets, request, fields={"scale": scale})
    mu, y, scale = given.data
    return given.inside(scale >= 0).reduced(_laplace(mu - y, scale))


# JAX's own second derivative is NaN in other directions where 1 / x^2 overflows.
log = closed_form(lambda x: (1 / x,), second=lambda x: ((-(1 / x) * (1 / x),),))(jnp.log)


def _student_tail_slopes(e: jax.Array, scale: jax.Array, df: jax.Array) -> Slopes:
    width = jnp.sqrt(df) * scale
    near, larger, q = ratio(e, width)
    total = 1 + q * q
    share = jnp.where(near, q * q, 1) / total  # e^2 / (df scale^2 + e^2)
    slope = jnp.where(near, q, 1) * (1 / (larger * total))
    in_scale = jnp.where(near, q * (q * (1 / scale)), 1 / scale) * (1 / total)
    in_df = 0.5 * (log1p_square_less_share(e, width) - share / df)
    return (df + 1) * slope, -(df + 1) * in_scale, in_df


def _student_tail_curvatures(
    e: jax.Array, scale: jax.Array, df: jax.Array
) -> tuple[Slopes, Slopes, Slopes]:
    sine, cosine, inverse = sine_and_cosine(e, jnp.sqrt(df) * scale)
    share, rest = sine * sine, cosine * cosine
    in_e = (df + 1) * inverse * inverse * (rest - share)
    mixed = -2 * (df + 1) * (sine * inverse) * (rest / scale)
    in_scale = (df + 1) * share * (1 / scale) * ((1 + 2 * rest) / scale)
    of_df = share - rest / df
    in_df = 0.5 * share * ((1 + rest) / df - share) / df
    return (
        (in_e,),
        (mixed, in_scale),
        (sine * inverse * of_df, -share * (of_df / scale), in_df),
    )


@closed_form(_student_tail_slopes, second=_student_tail_curvatures)
def _student_tail(e: jax.Array, scale: jax.Array, df: jax.Array) -> jax.Array:
    return 0.5 * (df + 1) * log1p_square(e, jnp.sqrt(df) * scale)


@apart
def _student_t(mu: jax.Array, y: jax.Array, scale: jax.Array, df: jax.Array) -> jax.Array:
    df = jnp.minimum(df, 1e30)  # the same loss as at inf, without inf * 0
    # The gamma functions and log(df)/2 in one function: as terms they cancel for large df.
    constant = half_step(0.5 * df) + 0.5 * math.log(2 * math.pi)
    return log(scale) + _student_tail(mu - y, scale, df) + constant


@jit()
def student_t_nll_loss(
    predictions: Predictions,
    targets: Targets,
    scale: Field,
    df: Field,
    *,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Negative log-likelihood of Student's t: a robust loss that knows its tails.

        log(s) + (df + 1)/2 log(1 + e^2 / (df s^2))
            + log gamma(df/2) - log gamma((df + 1)/2) + log(pi df)/2

    Args:
        predictions: The location; any shape.
        targets: The shape of `predictions`, or a scalar.
        scale: s, in the unit of `targets`. NaN unless positive.
        df: Degrees of freedom: 1 is Cauchy's distribution, inf Gauss's. NaN unless positive.
        where, weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per element.

    Reference:
        Lange, Little and Taylor, "Robust statistical modeling using the t distribution", 1989,
        https://doi.org/10.2307/2290063.

    Example:
        >>> student_t_nll_loss(jnp.array([1.0, 3.0]), jnp.array([1.0, 1.0]), 2.0, 1.0)
        Array([1.83788 , 2.53102], dtype=float32)
    """
    request = Request(where, weights, reduction)
    given = observed(predictions, targets, request, fields={"scale": scale, "df": df})
    _, _, scale, df = given.data
    return given.inside((scale > 0) & (df > 0)).reduced(_student_t(*given.data))


def _crps_slopes(e: jax.Array, scale: jax.Array, lost: jax.Array) -> Slopes:
    """The derivatives of the CRPS in e and in the scale.

    With z = e / scale, the first is the probability of (-|z|, |z|) with the sign of z.
    """
    del lost  # felt in the tails of the second derivatives only
    z = e / jnp.where(e == 0, 1, scale)  # 0 at e = 0, also with a scale of 0
    in_e, density = jax.lax.erf(z * math.sqrt(0.5)), jnp.exp(-0.5 * z * z)
    return in_e, math.sqrt(2 / math.pi) * density - 1 / math.sqrt(math.pi), in_e


def _crps_curvatures(e: jax.Array, scale: jax.Array, lost: jax.Array) -> tuple[Slopes, Slopes]:
    density = gaussian_kernel(e, scale, lost)
    z = jnp.where(density == 0, 0, e / one_if_zero(scale))
    in_e = math.sqrt(2 / math.pi) * (density / one_if_zero(scale))
    return (in_e,), (-z * in_e, z * (z * in_e))


@closed_form(_crps_slopes, second=_crps_curvatures)
def _crps(e: jax.Array, scale: jax.Array, lost: jax.Array) -> jax.Array:
    in_e, in_scale, _ = _crps_slopes(e, scale, lost)
    return e * in_e + scale * in_scale


@jit()
def gaussian_crps(
    predictions: Predictions,
    targets: Targets,
    scale: Field,
    *,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Continuous ranked probability score of a Gaussian with predicted mean and scale.

        e (2 Phi(z) - 1) + s (2 phi(z) - 1/sqrt(pi))   with z = e / s

    Phi and phi are the standard normal distribution function and density. It is the integral of
    (F(x) - [x >= y])^2, F the predicted distribution function, and the L1 loss at s = 0, where
    its gradient at e = 0 is 0.

    Args:
        predictions: The mean; any shape.
        targets: The shape of `predictions`, or a scalar.
        scale: s, the standard deviation, in the unit of `targets`. NaN below 0.
        where, weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per element, in the unit of `targets`.

    Reference:
        Gneiting and Raftery, "Strictly proper scoring rules, prediction, and estimation",
        2007, section 4.2, https://doi.org/10.1198/016214506000001437.

    Example:
        >>> gaussian_crps(jnp.array([1.0, 3.0]), jnp.array([1.0, 1.0]), jnp.array([1.0, 0.0]))
        Array([0.23369, 2.        ], dtype=float32)
    """
    request = Request(where, weights, reduction)
    given = observed(predictions, targets, request, fields={"scale": scale})
    mu, y, scale = given.data
    return given.inside(scale >= 0).reduced(_crps(mu - y, scale, lost_in_difference(mu, y)))
