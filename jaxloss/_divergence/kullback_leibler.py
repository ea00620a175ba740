"""Kullback-Leibler divergences of a model that is given by its log-probabilities.

In the formulas p is the model's probability, t that of the target, and sums run over `axis`.
Neither is normalised for the user. Targets below 0 give NaN; a target of 0 has gradient 0, for
the reason that `symmetric.py` gives.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from .._contract.inputs import Axis
from .._contract.jit import jit
from .._contract.reduce import Reduction, Request, Weights, Where
from .._numerics.exact import lost_in_difference
from .._numerics.special import exp_gap_share, one_if_zero
from .._numerics.xla import nan_by_entry
from .distributions import Distributions, nan_unless, pairs, summed


def _term(log_p: jax.Array, t: jax.Array) -> jax.Array:
    zero = t == 0
    gap = jnp.log(one_if_zero(t)) - log_p
    return jnp.where(zero, jnp.where(jnp.isnan(log_p), log_p, 0), t * gap)


def _term_slopes(log_p: jax.Array, t: jax.Array) -> tuple[jax.Array, jax.Array]:
    zero = t == 0
    in_t = jnp.where(zero, 0, jnp.log(one_if_zero(t)) - log_p + 1)
    return nan_by_entry(-t, nan_unless((t >= 0) & ~jnp.isnan(log_p), t)), in_t


@jit("axis")
def kl_divergence(
    log_predictions: Distributions,
    targets: Distributions,
    axis: Axis = -1,
    where: Where = None,
    *,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Kullback-Leibler divergence of the target's distribution from the predicted one.

        sum t (log t - log p),   where t = 0 adds 0 whatever p, also p = 0

    The gradient in a target of 0 is 0, as if the entry were absent; its limit is -inf.

    Args:
        log_predictions: log p; any shape.
        targets: t, the shape of `log_predictions`. NaN below 0.
        axis: The axis of the distributions, several, or None for all.
        where: Which losses count, or, of the shape of `log_predictions`, which entries of the
            distributions; see `jaxloss.reduce`.
        weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per pair of distributions: the shape of `log_predictions` without `axis`.

    Reference:
        Kullback and Leibler, "On information and sufficiency", 1951,
        https://doi.org/10.1214/aoms/1177729694.

    Example:
        >>> kl_divergence(jnp.log(jnp.array([0.5, 0.25, 0.25])), jnp.array([0.5, 0.5, 0.0]))
        Array(0.34657, dtype=float32)
    """
    data = {"log_predictions": log_predictions, "targets": targets}
    given = pairs(data, axis, Request(where, weights, reduction))
    return given.reduced(summed(_term, _term_slopes, given))


def _product(log_t: jax.Array, x: jax.Array) -> jax.Array:
    """t x, in range also where t alone would underflow: as a product of two roots of t and x."""
    root = jnp.exp(0.5 * log_t)
    return root * x * root


def _weighed(log_t: jax.Array, x: jax.Array) -> jax.Array:
    """The same, and x where that is infinite."""
    return jnp.where(jnp.isinf(x), x, _product(log_t, x))


def _ordinary_term(log_p: jax.Array, log_t: jax.Array) -> jax.Array:
    """The term, or NaN where one of the two logarithms is infinite."""
    return _product(log_t, log_t - log_p)


def _term_of_logarithms(log_p: jax.Array, log_t: jax.Array) -> jax.Array:
    absent = log_t == -jnp.inf
    value = _weighed(log_t, log_t - log_p)
    return jnp.where(absent, jnp.where(jnp.isnan(log_p), log_p, 0), value)


def _term_of_logarithms_slopes(log_p: jax.Array, log_t: jax.Array) -> tuple[jax.Array, jax.Array]:
    absent = log_t == -jnp.inf
    x, y = jnp.where(absent, 0, log_p), jnp.where(absent, 0, log_t)
    growth = (y - x + 1) + lost_in_difference(y, x)
    in_p = nan_by_entry(-jnp.exp(log_t), nan_unless(~jnp.isnan(log_p), log_p))
    return in_p, jnp.where(absent, 0, _weighed(y, growth))


@jit("axis")
def kl_divergence_with_log_targets(
    log_predictions: Distributions,
    log_targets: Distributions,
    axis: Axis = -1,
    where: Where = None,
    *,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Kullback-Leibler divergence of distributions that are both given by their logarithms.

        sum t (log t - log p),   where log t = -inf adds 0 whatever p, also p = 0

    Args:
        log_predictions: log p; any shape.
        log_targets: log t, the shape of `log_predictions`.
        axis: The axis of the distributions, several, or None for all.
        where: Which losses count, or, of the shape of `log_predictions`, which entries of the
            distributions; see `jaxloss.reduce`.
        weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per pair of distributions: the shape of `log_predictions` without `axis`.

    Reference:
        Kullback and Leibler, "On information and sufficiency", 1951,
        https://doi.org/10.1214/aoms/1177729694.

    Example:
        >>> target = jnp.log(jnp.array([0.5, 0.5, 0.0]))
        >>> kl_divergence_with_log_targets(jnp.log(jnp.array([0.5, 0.25, 0.25])), target)
        Array(0.34657, dtype=float32)
    """
    data = {"log_predictions": log_predictions, "log_targets": log_targets}
    given = pairs(data, axis, Request(where, weights, reduction))
    slopes = _term_of_logarithms_slopes
    return given.reduced(summed(_term_of_logarithms, slopes, given, _ordinary_term))


def _log_quotient(log_p: jax.Array, t: jax.Array) -> jax.Array:
    """log(p / t), 0 for a target of 0."""
    zero = t == 0
    return jnp.where(zero, 0, log_p - jnp.log(one_if_zero(t)))


def _generalized_term_slopes(log_p: jax.Array, t: jax.Array) -> tuple[jax.Array, jax.Array]:
    known = nan_unless((t >= 0) & ~jnp.isnan(log_p), t)
    in_p, in_t = jnp.exp(log_p) - t, -_log_quotient(log_p, t)
    return nan_by_entry(in_p, known), nan_by_entry(in_t, known)


def _generalized_term(log_p: jax.Array, t: jax.Array) -> jax.Array:
    d = _log_quotient(log_p, t)
    near = (t > 0) & (jnp.abs(d) < 1)
    small = jnp.where(near, d, 0)
    p = jnp.exp(log_p)
    far = jnp.where(p == jnp.inf, p, p - t - t * d)
    # For near p and t as a square: p - t and t d would cancel, and their sum might be negative.
    return jnp.where(near, t * small * small * exp_gap_share(small), far)


@jit("axis")
def generalized_kl_divergence(
    log_predictions: Distributions,
    targets: Distributions,
    axis: Axis = -1,
    where: Where = None,
    *,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Kullback-Leibler divergence for masses that need not sum to 1.

        sum t (log t - log p) + p - t,   where t = 0 adds p

    It is the Bregman divergence of x log x - x: never negative, and 0 only where p = t. The
    gradient in a target of 0 is 0; its limit is -inf.

    Args:
        log_predictions: log p; any shape.
        targets: t, the shape of `log_predictions`. NaN below 0.
        axis: The axis of the distributions, several, or None for all.
        where: Which losses count, or, of the shape of `log_predictions`, which entries of the
            distributions; see `jaxloss.reduce`.
        weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per pair of distributions: the shape of `log_predictions` without `axis`.

    Reference:
        Csiszár, "Why least squares and maximum entropy?", 1991,
        https://doi.org/10.1214/aos/1176348385.

    Example:
        >>> generalized_kl_divergence(jnp.log(jnp.array([2.0, 1.0])), jnp.array([2.0, 0.0]))
        Array(1., dtype=float32)
    """
    data = {"log_predictions": log_predictions, "targets": targets}
    given = pairs(data, axis, Request(where, weights, reduction), absent=(-jnp.inf, 0))
    return given.reduced(summed(_generalized_term, _generalized_term_slopes, given))


# optax's old name.
convex_kl_divergence = generalized_kl_divergence
