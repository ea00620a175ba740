"""Divergences between two distributions: the model's, and the one it should have.

In the formulas p is the model's probability, t that of the target, and sums run over `axis`.
Neither is normalised for the user. Probabilities below 0 give NaN.

The derivative of t log t is -inf at 0. There the gradient is 0, that of an absent entry: a
probability that has underflowed comes from a softmax, whose own derivative is then 0, and
0 * inf would be NaN where the product tends to 0.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from .._contract.inputs import Axis
from .._contract.jit import jit
from .._contract.reduce import Reduction, Request, Weights, Where
from .._numerics.kinks import closed_form, in_range
from .._numerics.special import one_if_zero, polynomial, reciprocal, root, small_log1p
from .._numerics.xla import keep_out_of_sum, nan_by_entry, shared_or_apart
from .distributions import Distributions, nan_if_negative, pairs, summed


def _log_share_slopes(p: jax.Array, t: jax.Array) -> tuple[jax.Array, jax.Array]:
    inverse = jnp.where((p == 0) | (t == 0), 0, 1 / one_if_zero(p + t))
    return t * inverse * reciprocal(p), -inverse


@closed_form(_log_share_slopes)
def _log_share(p: jax.Array, t: jax.Array) -> jax.Array:
    """log(p / m) with m = (p + t) / 2, but 0 for p = 0 < t, where it is -inf."""
    total = p + t
    empty = total == 0
    total = one_if_zero(total)
    share = 2 * jnp.where(empty, 1, p) / total
    gap = (p - t) / total
    near = (jnp.abs(gap) < 0.5) & ~empty
    far = jnp.log(jnp.where(near | (share == 0), 1, share))
    return jnp.where(near, small_log1p(jnp.where(near, gap, 0)), far)


def _jensen_shannon_slopes(p: jax.Array, t: jax.Array) -> tuple[jax.Array, jax.Array]:
    known = nan_if_negative(p, t)
    in_p, in_t = 0.5 * _log_share(p, t), 0.5 * _log_share(t, p)
    return nan_by_entry(in_p, known), nan_by_entry(in_t, known)


def _by_shares(p: jax.Array, t: jax.Array) -> jax.Array:
    """Twice the term of p and t that are far apart."""
    return p * _log_share(p, t) + t * _log_share(t, p)


def _by_one_logarithm(p: jax.Array, t: jax.Array) -> jax.Array:
    """The same: with r the smaller over the larger, up to 1/3.

    Over the larger it is log(2 / (1 + r)) + r log(2 r / (1 + r)).
    """
    larger, smaller = jnp.maximum(p, t), jnp.minimum(p, t)
    r = jnp.where(3 * smaller > larger, 0, smaller) / one_if_zero(larger)
    return larger * ((1 + r) * (math.log(2) - small_log1p(r)) + r * jnp.log(one_if_zero(r)))


def _jensen_shannon(p: jax.Array, t: jax.Array) -> jax.Array:
    total = p + t
    gap = (p - t) / one_if_zero(total)
    near = jnp.abs(gap) < 0.5
    square = jnp.where(near, gap * gap, 0)
    # ((1 + u) log(1 + u) + (1 - u) log(1 - u)) / 2 as a series: all its terms are positive.
    terms = 25 if p.dtype == jnp.float64 else 10
    series = polynomial([1 / ((2 * k + 1) * (2 * k + 2)) for k in range(terms)], square)
    far = shared_or_apart(_by_shares, _by_one_logarithm, p, t)
    return keep_out_of_sum(
        0.5 * jnp.where(near, total * square * series, far) * nan_if_negative(p, t)
    )


@jit("axis")
def jensen_shannon_divergence(
    predictions: Distributions,
    targets: Distributions,
    *,
    axis: Axis = -1,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Jensen-Shannon divergence: symmetric, finite, from 0 to log 2.

        sum (p log(p/m) + t log(t/m)) / 2   with m = (p + t) / 2

    Its square root is a metric. The gradient in an entry that is 0 where the other is not is 0,
    as if the entry were absent; its limit is -inf.

    Args:
        predictions: p; any shape. NaN below 0.
        targets: t, the shape of `predictions`. NaN below 0.
        axis: The axis of the distributions, several, or None for all.
        where: Which losses count, or, of the shape of `predictions`, which entries of the
            distributions; see `jaxloss.reduce`.
        weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per pair of distributions: the shape of `predictions` without `axis`.

    Reference:
        Lin, "Divergence measures based on the Shannon entropy", 1991, eq. 4.1,
        https://doi.org/10.1109/18.61115.

    Example:
        >>> jensen_shannon_divergence(jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0]))
        Array(0.69315, dtype=float32)
    """
    data = {"predictions": predictions, "targets": targets}
    given = pairs(data, axis, Request(where, weights, reduction))
    return given.reduced(summed(_jensen_shannon, _jensen_shannon_slopes, given))


def _half_gap(p: jax.Array, t: jax.Array) -> jax.Array:
    return 0.5 * jnp.abs(p - t) * nan_if_negative(p, t)


def _half_gap_slopes(p: jax.Array, t: jax.Array) -> tuple[jax.Array, jax.Array]:
    slope = nan_by_entry(0.5 * jnp.sign(p - t), nan_if_negative(p, t))
    return slope, -slope


@jit("axis")
def total_variation_distance(
    predictions: Distributions,
    targets: Distributions,
    *,
    axis: Axis = -1,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Total variation: by how much the probability of an event can differ, from 0 to 1.

        sum |p - t| / 2

    At p = t the gradient is 0, the subgradient of least norm.

    Args:
        predictions: p; any shape. NaN below 0.
        targets: t, the shape of `predictions`. NaN below 0.
        axis: The axis of the distributions, several, or None for all.
        where: Which losses count, or, of the shape of `predictions`, which entries of the
            distributions; see `jaxloss.reduce`.
        weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per pair of distributions: the shape of `predictions` without `axis`.

    Reference:
        Levin, Peres and Wilmer, "Markov Chains and Mixing Times", 2009, section 4.1.

    Example:
        >>> total_variation_distance(jnp.array([0.5, 0.25, 0.25]), jnp.array([0.5, 0.5, 0.0]))
        Array(0.25, dtype=float32)
    """
    data = {"predictions": predictions, "targets": targets}
    given = pairs(data, axis, Request(where, weights, reduction))
    return given.reduced(summed(_half_gap, _half_gap_slopes, given))


def _root_share_slopes(p: jax.Array, t: jax.Array) -> tuple[jax.Array, jax.Array]:
    both = (p > 0) & (t > 0)
    inverse, inverse_t = (1 / jnp.where(both, root(x), 1) for x in (p, t))
    in_p = in_range(0.5 * (inverse * root(t)) * inverse * inverse)
    return jnp.where(both, in_p, 0), jnp.where(both, -0.5 * inverse * inverse_t, 0)


@closed_form(_root_share_slopes)
def _root_share(p: jax.Array, t: jax.Array) -> jax.Array:
    """1 - sqrt(t / p), but 0 for p = 0 < t, where it is -inf."""
    alone = jnp.where(t == 0, 1, 0).astype(p.dtype)
    share = shared_or_apart(_share_by_roots, _share_of_difference, p, t)
    return jnp.where((p > 0) & (t > 0), share, alone)


def _share_by_roots(p: jax.Array, t: jax.Array) -> jax.Array:
    return _root_gap(p, t) * (1 / one_if_zero(root(p)))


def _share_of_difference(p: jax.Array, t: jax.Array) -> jax.Array:
    return (p - t) / one_if_zero(p + root(p) * root(t))


def _root_gap(p: jax.Array, t: jax.Array) -> jax.Array:
    """sqrt(p) - sqrt(t), every digit of it where p is near t."""
    return (p - t) / one_if_zero(root(p) + root(t))


@jit("axis")
def hellinger_distance(
    predictions: Distributions,
    targets: Distributions,
    *,
    axis: Axis = -1,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Hellinger distance: Euclid's between the roots of probabilities, from 0 to 1.

        sqrt(sum (sqrt(p) - sqrt(t))^2 / 2)

    The gradient is 0 where the distributions are equal, the subgradient of least norm, and 0 in
    an entry that is 0 where the other is not, as if it were absent; its limit there is -inf.

    Args:
        predictions: p; any shape. NaN below 0.
        targets: t, the shape of `predictions`. NaN below 0.
        axis: The axis of the distributions, several, or None for all.
        where: Which losses count, or, of the shape of `predictions`, which entries of the
            distributions; see `jaxloss.reduce`.
        weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per pair of distributions: the shape of `predictions` without `axis`.

    Reference:
        Le Cam and Yang, "Asymptotics in Statistics", 2000, chapter 3.

    Example:
        >>> hellinger_distance(jnp.array([0.36, 0.64]), jnp.array([1.0, 0.0]))
        Array(0.63246, dtype=float32)
    """
    data = {"predictions": predictions, "targets": targets}
    given = pairs(data, axis, Request(where, weights, reduction))

    def slopes(p: jax.Array, t: jax.Array) -> tuple[jax.Array, jax.Array]:
        length = jnp.expand_dims(distance(p, t), given.axes)
        inverse = 0.25 * reciprocal(length)
        return inverse * _root_share(p, t), inverse * _root_share(t, p)

    @closed_form(slopes, given.axes)
    def distance(p: jax.Array, t: jax.Array) -> jax.Array:
        gap = _root_gap(p, t)
        return root(0.5 * jnp.sum(gap * gap, given.axes))

    # The root of a number below 0 is NaN, and reaches the length and by it all slopes.
    return given.reduced(distance(*given.data))
