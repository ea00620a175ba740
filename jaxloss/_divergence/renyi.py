"""Rényi divergence, of every order alpha.

Everything is made of one sum, that of t (t / p)^a over the entries with a = alpha - 1. The loss is
its logarithm over a, and the derivatives are means with weights proportional to its terms. Special
cases are a = 0, where the loss is the Kullback-Leibler divergence, an infinite a, and entries
where one of p and t is 0.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from .._contract.inputs import Axis
from .._contract.jit import jit
from .._contract.prepared import Hyper, non_negative
from .._contract.reduce import Reduction, Request, Weights, Where
from .._numerics.kinks import closed_form, in_range
from .._numerics.special import one_if_zero, polynomial, reciprocal, small_log1p
from .._numerics.xla import computed_apart
from .distributions import Axes, Distributions, pairs
from .power_sums import Entries, defect, power_sums


class _Tilt(NamedTuple):
    """The terms of sum t (t / p)^a with a = alpha - 1, axes kept.

    Attributes:
        log_ratio: log(t / p), 0 where t or p is 0.
        both: Whether neither t nor p is 0.
        alone: Whether only p is 0.
        root: (t / p)^(a/2), over a reference where it would overflow; 0 where t is 0.
        log_reference: The logarithm of the reference, 0 if there is none.
        total: sum t root^2.
        missed: Whether p alone is 0 somewhere.
        mass: The sum of t there.
    """

    log_ratio: jax.Array
    both: jax.Array
    alone: jax.Array
    root: jax.Array
    log_reference: jax.Array
    total: jax.Array
    missed: jax.Array
    mass: jax.Array


def _tilt(axes: Axes, p: jax.Array, t: jax.Array, order: jax.Array) -> _Tilt:
    sums = power_sums(axes, p, t, order)
    p, t = computed_apart(p, t)
    a, entries = order - 1, Entries.of(p, t)
    root, log_reference = entries.root(a, sums.reference), jnp.log(sums.reference)
    of_entries = entries.log_ratio, entries.both, entries.alone, root
    return _Tilt(*of_entries, log_reference, sums.total, sums.missed, sums.mass)


def _value(axes: Axes, p: jax.Array, t: jax.Array, alpha: jax.Array) -> jax.Array:
    a, kl = alpha - 1, alpha == 1
    sums = power_sums(axes, p, t, jnp.expand_dims(alpha, axes))
    reference, total, excess, gap, missed, *_ = (jnp.squeeze(x, axes) for x in sums)
    near = (total > 0.5) & (total < 2) & (reference == 1) & (alpha < jnp.inf)
    far = jnp.log(jnp.where(near, 1, total))
    near_log = small_log1p(jnp.where(near & ~kl, gap, 0))
    value = jnp.log(reference) + jnp.where(near, near_log, far) / one_if_zero(a)
    missed &= alpha >= 1
    return jnp.where(missed, jnp.inf, jnp.where(kl, excess, value))


def _weights(
    axes: Axes, p: jax.Array, t: jax.Array, alpha: jax.Array, tilt: _Tilt
) -> tuple[jax.Array, jax.Array]:
    """The weights w of the means, over p and over t: the shares of the terms in their sum.

    At order 1, where the loss is a plain sum, the weights are the targets. Where p is 0 and w / p
    infinite, but the loss is not, it reads 0.
    """
    order = jnp.expand_dims(alpha, axes)
    a, kl = order - 1, order == 1

    # The share of each term in the sum, over t. Where terms are infinite they share it alone.
    infinite = tilt.missed & (a > 0)
    empty = tilt.total == 0
    total = jnp.where(infinite, 1, one_if_zero(tilt.total))
    root = jnp.where(infinite, 0, tilt.root)
    part = root / total
    share = root * part
    alone = jnp.where(tilt.alone, 1, 0) / one_if_zero(tilt.mass)
    share = jnp.where(kl, 1, jnp.where(infinite, alone, share))

    ratio = t / jnp.where(tilt.both, p, 1)
    # Multiplied in an order in which no product leaves the range of floats.
    over_p = jnp.where(kl, ratio, jnp.where(a > 0, part * ratio * root, root * ratio * part))
    over_p = jnp.where(tilt.both, over_p, jnp.where(tilt.alone & (a >= 0), jnp.inf, 0))
    # At order 0 all entries with a target have the same slope, also those of p = 0.
    same = jnp.where(empty, jnp.inf, 1 / total)
    over_p = jnp.where((order == 0) & (t > 0), same, over_p)

    return over_p, jnp.where(t > 0, share, 0)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _slopes(
    axes: Axes, p: jax.Array, t: jax.Array, alpha: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    order = jnp.expand_dims(alpha, axes)
    a, kl = order - 1, order == 1
    tilt = _tilt(axes, p, t, order)
    over_p, share = _weights(axes, p, t, alpha, tilt)

    inverse = 1 / one_if_zero(a)
    entropy = jnp.where(tilt.alone, jnp.inf, tilt.log_ratio + 1)
    in_t = jnp.where(t > 0, jnp.where(kl, entropy, share + inverse * share), 0)

    value = jnp.expand_dims(_renyi(axes)(p, t, alpha), axes)
    in_order = _slope_in_order(axes, jnp.where(tilt.both, t, 0), share, tilt.log_ratio, a, value)
    return -over_p, in_t, in_order


@_slopes.defjvp
def _(axes: Axes, primals: Any, tangents: Any) -> Any:
    """The tangents of the slopes -w / p, (1 + 1 / a) w / t and D' in p, t and the order.

    The logarithm of a term has the tangent l = alpha dt / t - a dp / p + log(t / p) da, and that
    of its weight w has the tangent l less its mean.
    """
    (p, t, alpha), (in_p, in_t, in_alpha) = primals, tangents
    slopes = _slopes(axes, *primals)
    order, moved = (jnp.expand_dims(x, axes) for x in (alpha, in_alpha))
    # The weights of an infinite order do not move, and those of order 1 are the targets.
    flat, kl = jnp.isinf(order), order == 1
    tilt = _tilt(axes, p, t, order)
    over_p, over_t = _weights(axes, p, t, alpha, tilt)
    # Of an absent target too at order 2, where the terms are t^2 / p.
    square = (2 * reciprocal(p)) * (jnp.exp(-tilt.log_reference) / one_if_zero(tilt.total))
    in_t_twice = jnp.where(flat, -1, order) * over_t * reciprocal(t)
    in_t_twice = in_range(jnp.where((t == 0) & (order == 2), square, in_t_twice))
    order, moved = jnp.where(flat, 1, order), jnp.where(flat, 0, moved)
    a = order - 1
    inverse = reciprocal(a)

    def total(x: jax.Array) -> jax.Array:
        return jnp.sum(x, axes, keepdims=True)

    weight = jnp.where(tilt.both, t * over_t, 0)
    center = total(weight * tilt.log_ratio)
    gap = tilt.log_ratio - center
    gained = order * over_t * in_t - a * over_p * in_p  # w l, without the part of the order
    steps = gap * moved - jnp.where(kl | flat, 0, total(gained))
    in_both = jnp.where(flat, 0, in_range(order * over_t * reciprocal(p)))
    in_p_twice = in_range(order * over_p * reciprocal(p))
    of_p = in_p_twice * in_p - in_both * in_t - over_p * steps
    of_t = in_t_twice * in_t - in_both * in_p
    of_t = of_t + inverse * over_t * (order * steps - inverse * moved)

    spread = total(weight * gap * gap) - 2 * jnp.expand_dims(slopes[2], axes)
    of_order = total(gap * gained - inverse * over_t * in_t) + spread * moved
    # At order 1 by the series log sum / a = mean + a variance / 2 + a^2 skewness / 6 + ...
    in_target = jnp.where(t > 0, 0.5 * (gap * gap - center * center) + gap, 0)
    of_order_1 = total(in_target * in_t - over_p * gap * in_p + weight * gap**3 * moved / 3)
    of_order = jnp.where(kl, of_order_1, inverse * of_order)
    return slopes, (of_p, of_t + jnp.where(kl, in_target * moved, 0), jnp.squeeze(of_order, axes))


def _slope_in_order(
    axes: Axes, t: jax.Array, share: jax.Array, log_ratio: jax.Array, a: jax.Array, value: jax.Array
) -> jax.Array:
    """The derivative in a = alpha - 1: sum w log(w / t) / a^2 for the weights w = t * share.

    With y = log(w / t) = a (log(t / p) - value) and sum w = 1 it is

        (sum (w y - w + t) - (sum t - 1)) / a^2

    where no term of the first sum is negative. For small y a term is t (y / a)^2 times a series,
    which holds at a = 0 too.
    """
    finite = jnp.isfinite(value) & jnp.isfinite(a)
    some = finite & (t > 0) & (share > 0)
    a, inverse = jnp.where(finite, a, 0), jnp.where(finite, reciprocal(a), 0)
    # y as a difference of small logarithms, else as the logarithm of the share.
    gap = jnp.where(some, log_ratio - value, 0)
    close = jnp.abs(a * jnp.where(some, log_ratio, 0)) < 0.5
    y = jnp.where(close, a * gap, jnp.log(jnp.where(some & ~close, share, 1)))
    near = some & (jnp.abs(y) < 1)
    gap = jnp.where(close, gap, y * inverse)
    terms = 20 if t.dtype == jnp.float64 else 12
    series = polynomial(
        [(k + 1) / math.factorial(k + 2) for k in range(terms)], jnp.where(near, y, 0)
    )
    far = (share * (y - 1) + 1) * inverse * inverse
    total = jnp.sum(t * jnp.where(near, gap * gap * series, far), axes)
    return total - jnp.squeeze(defect(t, axes) * (inverse * inverse), axes)


@functools.cache
def _renyi(axes: Axes):
    return closed_form(functools.partial(_slopes, axes), axes)(functools.partial(_value, axes))


@jit("axis")
def renyi_divergence(
    predictions: Distributions,
    targets: Distributions,
    *,
    alpha: ArrayLike,
    axis: Axis = -1,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Rényi divergence of order alpha of the target's distribution from the predicted one.

        log(sum t^alpha p^(1 - alpha)) / (alpha - 1)

        alpha = 0    -log sum p, over the entries with t > 0
        alpha = 1    sum t log(t / p), the Kullback-Leibler divergence
        alpha = inf  log max t / p

    Never negative for distributions, and greater for a greater order. From order 1 on it is
    inf where p = 0 < t. Where a probability is 0 and the gradient in it has the limit -inf,
    but the loss is finite, the gradient is 0, as if the entry were absent. At order 1 the
    gradient is that of the Kullback-Leibler divergence, and in alpha that for targets which sum
    to 1; for any others the divergence has no limit there.

    Args:
        predictions: p; any shape. NaN below 0.
        targets: t, the shape of `predictions`. NaN below 0.
        alpha: The order, 0 or more: a number, or one for each loss. NaN below 0.
        axis: The axis of the distributions, several, or None for all.
        where: Which losses count, or, of the shape of `predictions`, which entries of the
            distributions; see `jaxloss.reduce`.
        weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per pair of distributions: the shape of `predictions` without `axis`.

    Reference:
        Rényi, "On measures of entropy and information", 1961; van Erven and Harremoës,
        "Rényi divergence and Kullback-Leibler divergence", 2014,
        https://doi.org/10.1109/TIT.2014.2320500.

    Example:
        >>> renyi_divergence(jnp.array([0.5, 0.25, 0.25]), jnp.array([0.5, 0.5, 0.0]), alpha=2.0)
        Array(0.40547, dtype=float32)
    """
    data = {"predictions": predictions, "targets": targets}
    request = Request(where, weights, reduction)
    given = pairs(data, axis, request, alpha=Hyper(alpha, non_negative))
    p, t, alpha = given.arrays
    held = (jax.lax.stop_gradient(x) for x in (p, t, jnp.expand_dims(alpha, given.axes)))
    known = jnp.squeeze(power_sums(given.axes, *held).known, given.axes)
    return given.inside(known).reduced(_renyi(given.axes)(p, t, alpha))
