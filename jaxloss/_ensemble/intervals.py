"""Proper scores of central prediction intervals.

An interval from l to u is to hold the target y with the probability 1 - alpha: l is the quantile
alpha / 2 of the predicted distribution, and u the quantile 1 - alpha / 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Float, Real

from .._contract import inputs
from .._contract.jit import jit
from .._contract.prepared import Hyper, any_number, elementwise, in_unit_interval, vectors
from .._contract.reduce import Reduction, Request, Weights, Where
from .._numerics.kinks import Slopes, absolute, closed_form

Ends = Float[ArrayLike, "*batch"] | Sequence[Any]
Targets = Real[ArrayLike, "*batch"] | Sequence[Any]
SeveralEnds = Float[ArrayLike, "*batch intervals"] | Sequence[Any]
Alphas = Real[ArrayLike, "*batch intervals"] | Sequence[Any]


def _miss_curvatures(e: jax.Array, alpha: jax.Array) -> tuple[Slopes, Slopes]:
    out, inverse = jnp.where(e > 0, -2, 0) * jnp.abs(jnp.sign(e)), 1 / alpha
    mixed = out * inverse * inverse
    return (jnp.zeros_like(e),), (mixed, -2 * mixed * (e * inverse))


@closed_form(
    lambda e, alpha: (
        jnp.where(e > 0, (2 - alpha) / alpha, -1) * jnp.abs(jnp.sign(e)),
        jnp.where(e > 0, -2 * (e * (1 / alpha)) * (1 / alpha), 0 * e),
    ),
    second=_miss_curvatures,
)
def _miss(e: jax.Array, alpha: jax.Array) -> jax.Array:
    """-e + 2 / alpha max(e, 0): what an end costs that is e too far inside, outside if below 0."""
    return jnp.where(e > 0, (2 - alpha) / alpha, -1) * e


@jit()
def interval_score(
    lower: Ends,
    upper: Ends,
    targets: Targets,
    *,
    alpha: ArrayLike,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Interval score (Winkler's score): the width of an interval, and what its target is off by.

        u - l + 2 / alpha (max(l - y, 0) + max(y - u, 0))

    It is 2 / alpha times the sum of the quantile losses of both ends, whichever is the larger: ends
    that have crossed are paid for as the quantiles that they are, it is never negative, and its
    gradient brings them back in order.

    At y = l or y = u the gradient of that end is 0, the subgradient of least norm.

    Args:
        lower: l, any shape.
        upper: u, the shape of `lower`, or a scalar.
        targets: y, the shape of `lower`, or a scalar.
        alpha: The probability of a target outside, 0.1 for an interval of 90 %: above 0, at most 1,
            else NaN. An array broadcasts against the data: `[K]` is for K intervals, `[..., K]`.
        where, weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per interval, in the unit of `targets`.

    Reference:
        Gneiting and Raftery, "Strictly proper scoring rules, prediction, and estimation", 2007,
        eq. 43, https://doi.org/10.1198/016214506000001437; Winkler, "A decision-theoretic approach
        to interval estimation", 1972, https://doi.org/10.1080/01621459.1972.10481224.

    Example:
        >>> lower, upper = jnp.array([1.0, 1.0]), jnp.array([3.0, 3.0])
        >>> interval_score(lower, upper, jnp.array([2.0, 4.0]), alpha=0.5)
        Array([2., 6.], dtype=float32)
    """
    request = Request(where, weights, reduction)
    data = {"lower": lower, "upper": upper, "targets": targets}
    hyper = {"alpha": Hyper(alpha, lambda alpha: (alpha > 0) & (alpha <= 1))}
    given = elementwise(data, request, hyper=hyper)
    low, high, y, a = given.arrays
    # Each end has a slope that does not know of the other.
    given = given.inside(any_number(low) & any_number(high))
    return given.reduced(_miss(low - y, a) + _miss(y - high, a))


def _part_slopes(e: jax.Array, tail: jax.Array) -> Slopes:
    return jnp.where(e > 0, 1 - tail, -tail) * jnp.abs(jnp.sign(e)), -e


@closed_form(_part_slopes)
def _part(e: jax.Array, tail: jax.Array) -> jax.Array:
    """The quantile loss of an end, for the probability of a target beyond it."""
    return jnp.where(e > 0, 1 - tail, -tail) * e


@jit()
def weighted_interval_score(
    lower: SeveralEnds,
    upper: SeveralEnds,
    median: Ends,
    targets: Targets,
    alpha: Alphas,
    *,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Weighted interval score: of a median and K intervals around it.

        (|y - m| / 2 + sum_k alpha_k / 2 S_k) / (K + 1/2)

    with the `interval_score` S_k of each interval. It is twice the mean of the quantile losses of
    all 2 K + 1 quantiles, and tends to the continuous ranked probability score as they become many
    that are equally spaced. Ends that have crossed are paid for as there.

    At y = m, at y = l and at y = u the gradient of that quantile is 0, the subgradient of least
    norm.

    Args:
        lower: l, `[..., K]`.
        upper: u, the shape of `lower`, or a scalar.
        median: m, `[...]`, or a scalar.
        targets: y, `[...]`, or a scalar.
        alpha: The probability of a target outside of each interval: `[K]`, the shape of `lower`, or
            a scalar; from 0 to 1, else NaN.
        where: Which forecasts count, or, of the shape of `lower`, which intervals there are: K is
            their number. A forecast without any does not count.
        weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per forecast, in the unit of `targets`.

    Reference:
        Bracher, Ray, Gneiting and Reich, "Evaluating epidemic forecasts in an interval format",
        2021, https://doi.org/10.1371/journal.pcbi.1008618.

    Example:
        >>> lower, upper = jnp.array([[1.0, 2.0]]), jnp.array([[5.0, 4.0]])
        >>> median, targets = jnp.array([3.0]), jnp.array([4.5])
        >>> weighted_interval_score(lower, upper, median, targets, alpha=[0.1, 0.5])
        Array([0.78], dtype=float32)
    """
    request = Request(where, weights, reduction)
    low = inputs.floating("lower", lower)
    shares = inputs.real("alpha", alpha)
    if shares.ndim == 1 and shares.shape == low.shape[-1:]:
        shares = jnp.broadcast_to(shares, low.shape)
    ends = {"lower": low, "upper": upper, "alpha": shares}
    beside = {"median": inputs.real("median", median), "targets": inputs.real("targets", targets)}
    dtype = inputs.computing_dtype([low, inputs.real("upper", upper), *beside.values()])
    given = vectors(ends | {"lower": low.astype(dtype)}, -1, request)
    m, y = (
        given.of_each(name, x, {"lower": low}, "a number for each forecast").astype(given.dtype)
        for name, x in beside.items()
    )
    low, high, share = given.data
    entries, target = given.entries, y[..., None]
    parts = _part(low - target, 0.5 * share) + _part(target - high, 0.5 * share)
    number = jnp.asarray(low.shape[-1], given.dtype)
    if entries is not None:
        parts = jnp.where(entries, parts, 0)
        number = jnp.sum(entries, -1, dtype=jnp.int32).astype(given.dtype)
    losses = (0.5 * absolute(m - y) + jnp.sum(parts, -1)) / (number + 0.5)
    known = any_number(low) & any_number(high) & in_unit_interval(share)
    return given.inside(jnp.all(known, -1) & any_number(m)).reduced(losses)
