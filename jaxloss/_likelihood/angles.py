"""Negative log-likelihood of angles."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from .._contract.jit import jit
from .._contract.reduce import Reduction, Request, Weights, Where
from .._numerics.exact import lost_in_difference
from .._numerics.kinks import Slopes, closed_form
from .._numerics.special import polynomial
from .observed import Field, Predictions, Targets, observed


def _spread_series(terms: int) -> list[float]:
    """1 - I1(k) / I0(k) in powers of 1/k, from the differential equation of the ratio.

    With B for it, B' = 1/k - B/k - 2 B + B^2.
    """
    b = [0.0]
    for n in range(1, terms):
        squares = sum(b[i] * b[n - i] for i in range(1, n))
        b.append(0.5 * ((n == 1) + (n - 2) * b[n - 1] + squares))
    return b


def _concentrated(k: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The mean of 1 - cos of an angle, 1 - I1(k) / I0(k), and the variance of its cosine.

    The ratio alone would leave no digits of the first where k is large. From `far` on it is a
    series; below, a mean over angles, at which the rule of the midpoints is as exact as floats: its
    error is about I(2 nodes, k) / I0(k): 1e-8 of the result in float32, as is that of the series.
    """
    far, nodes, terms = (25, 26, 22) if k.dtype == jnp.float64 else (12, 14, 13)
    held = jnp.minimum(k, far)
    heights = [1 - math.cos((j + 0.5) * math.pi / nodes) for j in range(nodes)]
    chances = [jnp.exp(-height * held) for height in heights]
    total = sum(chances)
    moments = [sum(h**n * p for h, p in zip(heights, chances, strict=True)) / total for n in (1, 2)]
    x = 1 / jnp.maximum(k, far)
    b = _spread_series(terms)
    slopes = [n * c for n, c in enumerate(b)]
    near = k < far
    return (
        jnp.where(near, moments[0], polynomial(b, x)),
        jnp.where(near, moments[1] - jnp.square(moments[0]), x * polynomial(slopes, x)),
    )


def _sine_and_cosine(e: jax.Array, lost: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Of e + lost: of angles of many turns what was lost may be a part of a turn."""
    sine, cosine = jnp.sin(e), jnp.cos(e)
    moved, rest = jnp.sin(lost), jnp.cos(lost)
    return sine * rest + cosine * moved, cosine * rest - sine * moved


def _half_sine(e: jax.Array, lost: jax.Array) -> jax.Array:
    return _sine_and_cosine(0.5 * e, 0.5 * lost)[0]


def _von_mises_slopes(e: jax.Array, k: jax.Array, lost: jax.Array) -> Slopes:
    in_e = k * _sine_and_cosine(e, lost)[0]
    return in_e, 2 * jnp.square(_half_sine(e, lost)) - _concentrated(k)[0], in_e


def _von_mises_curvatures(e: jax.Array, k: jax.Array, lost: jax.Array) -> tuple[Slopes, Slopes]:
    sine, cosine = _sine_and_cosine(e, lost)
    return (k * cosine,), (sine, _concentrated(k)[1])


@closed_form(_von_mises_slopes, second=_von_mises_curvatures)
def _von_mises(e: jax.Array, k: jax.Array, lost: jax.Array) -> jax.Array:
    sine = _half_sine(e, lost)
    return jnp.log(2 * math.pi * jax.lax.bessel_i0e(k)) + 2 * (sine * (sine * k))


@jit()
def von_mises_nll_loss(
    predictions: Predictions,
    targets: Targets,
    concentration: Field,
    *,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Negative log-likelihood of the von Mises distribution: of directions, hours and phases.

        log(2 pi I0(k)) - k cos(e)

    with e = predictions - targets, computed as log(2 pi I0(k) exp(-k)) + 2 k sin(e / 2)^2, which
    holds digits where k is large. A whole turn more or less is the same loss.

    Args:
        predictions: The mean direction, in radians, of any number of turns.
        targets: The shape of `predictions`, or a scalar, in radians.
        concentration: k: at 0 all directions are alike, and where it is large it is one over the
            variance. NaN below 0.
        where, weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per element.

    Reference:
        Mardia and Jupp, "Directional statistics", 2000, section 3.5.4.

    Example:
        >>> von_mises_nll_loss(jnp.array([0.0, 3.0]), jnp.array([0.0, -3.0]), 2.0)
        Array([0.66187, 0.7415 ], dtype=float32)
    """
    request = Request(where, weights, reduction)
    given = observed(predictions, targets, request, fields={"concentration": concentration})
    angle, y, k = given.data
    losses = _von_mises(angle - y, k, lost_in_difference(angle, y))
    return given.inside(k >= 0).reduced(losses)
