"""Negative log-likelihood of a mixture of Gaussians."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Float, Real

from .._contract import inputs
from .._contract.jit import jit
from .._contract.prepared import Vectors
from .._contract.reduce import Reduction, Request, Weights, Where
from .._numerics.exact import exact_sum, exp_sum, lost_in_difference, quotient, square_parts
from .._numerics.kinks import derivative_only, divide, with_slopes
from .._numerics.special import finite_top

Components = Float[ArrayLike, "*batch components"] | Float[ArrayLike, "*batch components features"]
Observations = Real[ArrayLike, "*batch"] | Real[ArrayLike, "*batch features"] | Sequence[Any]


def _mixture(predictions: Any, targets: Any, scale: Any, logits: Any, request: Request) -> Vectors:
    """Means, targets, scales and logits; targets of one number have a last axis of size 1."""
    named = {"predictions": predictions, "targets": targets, "scale": scale, "logits": logits}
    means, scales = inputs.same_shape({"predictions": predictions, "scale": scale})
    scores, observed = inputs.floating("logits", logits), inputs.real("targets", targets)
    got = inputs.described(**{name: inputs.real(name, x) for name, x in named.items()})
    if means.shape == scores.shape:
        means, scales = means[..., None], scales[..., None]
        if observed.ndim == 0:
            observed = jnp.broadcast_to(observed, scores.shape[:-1])
        observed = observed[..., None]
    message = (
        "expected means of one number [..., K] or of several [..., K, D], a logit for each and a "
        f"target of [...] or of [..., D], got {got}"
    )
    if scores.ndim == 0:
        raise ValueError(message)
    inputs.check_shape(scores, means.shape[:-1], message)
    inputs.check_shape(observed, (*scores.shape[:-1], *means.shape[-1:]), message)
    dtype = inputs.computing_dtype([means, observed, scales, scores])
    means, observed, scales, scores = (x.astype(dtype) for x in (means, observed, scales, scores))
    entries = selected = None
    if request.where is not None:
        axes = (scores.ndim - 1,)
        entries, selected = inputs.selection(request.where, "logits", scores, axes)
        scores = inputs.blanked(scores, entries, selected, axes, -jnp.inf)
        means, scales = (jnp.where(entries[..., None], x, 1) for x in (means, scales))
        observed = jnp.where(selected[..., None], observed, 1)
    return Vectors(
        request=request,
        shape=scores.shape[:-1],
        dtype=dtype,
        where=selected,
        data=(means, observed, scales, scores),
        axes=(scores.ndim - 1,),
        entries=entries,
    )


def _against_best(
    means: jax.Array, y: jax.Array, scale: jax.Array, logits: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The likelihood of each component over that of the best; the logit and the cost of the best.

    Far from all of them exponents are large and near each other: their squares are exact numbers
    and small rests, so that the differences have their digits.
    """
    e = means - y[..., None, :]
    r, lost = quotient(e, scale)
    exact, rest = square_parts(r, lost + lost_in_difference(means, y[..., None, :]) / scale)
    high, rest = (-0.5 * jnp.sum(x, -1) for x in (exact, rest))
    width = -jnp.sum(jnp.log(scale), -1)
    parts = (high, logits, width, rest)
    last = logits.ndim - 1
    scores = logits - finite_top(jnp.max(logits, -1, keepdims=True))
    best = jax.lax.argmax(high + (scores + width + rest), last, jnp.int32)[..., None]
    # Selected, not gathered: components may lie on several devices.
    first = jax.lax.broadcasted_iota(jnp.int32, logits.shape, last) == best
    tops = [jnp.sum(jnp.where(first, x, 0), -1, keepdims=True) for x in parts]
    pairs = zip(parts, tops, strict=True)
    behind, lost = exact_sum(*(x for part, top in pairs for x in (part, -top)))
    gone = (logits == -jnp.inf) | (high == -jnp.inf) | (jnp.exp(behind) == 0)
    odds = jnp.where(gone, 0, exp_sum(behind, jnp.where(gone, 0, lost)))
    square, score, *others = (x[..., 0] for x in tops)
    return odds, score, -(square + sum(others))


def _doubt(shares: jax.Array) -> jax.Array:
    """What is missing of a share above 1/2 to 1, with its digits."""
    return jnp.sum(jnp.where(shares > 0.5, 0, shares), -1, keepdims=True)


@with_slopes
def _nll(slopes: bool, means: Any, y: Any, scale: Any, logits: Any) -> Any:
    held = jax.lax.stop_gradient((means, y, scale, logits))
    likelihoods, score, cost = _against_best(*held)
    top = jax.lax.stop_gradient(finite_top(jnp.max(logits, -1)))
    odds = jnp.exp(logits - top[..., None])
    total, all_odds = jnp.sum(likelihoods, -1), jnp.sum(odds, -1)
    constant = 0.5 * math.log(2 * math.pi) * means.shape[-1]
    losses = jnp.log(all_odds) + (top - score) + cost - jnp.log(total) + constant
    if not slopes:
        return losses, ()
    # Of components that are not felt: their slopes may overflow.
    gone = (likelihoods == 0)[..., None]
    e, s = jnp.where(gone, 0, means - y[..., None, :]), jnp.where(gone, 1, scale)
    r = divide(e, s)
    exponents = jnp.where(gone[..., 0], 0, logits) - jnp.sum(jnp.log(s) + 0.5 * r * r, -1)
    likelihoods = likelihoods * jnp.exp(derivative_only(exponents))
    shares = likelihoods / jnp.sum(likelihoods, -1, keepdims=True)
    share = shares[..., None]
    in_means = divide(share * r, s)
    in_scale = divide(share * (1 - r * r), s)
    prior = odds / all_odds[..., None]
    in_logits = jnp.where(
        (prior > 0.5) & (shares > 0.5), _doubt(shares) - _doubt(prior), prior - shares
    )
    return losses, (in_means, -jnp.sum(in_means, -2), in_scale, in_logits)


@jit()
def mixture_density_nll_loss(
    predictions: Components,
    targets: Observations,
    scale: Components,
    logits: Float[ArrayLike, "*batch components"],
    *,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Negative log-likelihood of a mixture of Gaussians: of a mixture density network.

        -log(sum over k of w_k N(y; m_k, s_k))
        with w = softmax(logits)

    N is the density of a Gaussian, of several independent ones for targets that are vectors. A
    component may narrow down on one target without bound: keep scales from 0.

    Args:
        predictions: Means m of K components, `[..., K]`, or `[..., K, D]` for targets of D numbers.
        targets: y, `[...]` or `[..., D]`.
        scale: s, the deviations, of the shape of `predictions` or a scalar, in the unit of
            `targets`. NaN unless positive.
        logits: The components' logits, `[..., K]`. A component of -inf is not there.
        where, weights, reduction: See `jaxloss.reduce`; a mask of the shape of `logits` takes
            components out.

    Returns:
        One loss per target, `[...]`.

    Reference:
        Bishop, "Mixture density networks", 1994.

    Example:
        >>> means, logits = jnp.array([[0.0, 4.0]]), jnp.array([[0.0, 0.0]])
        >>> mixture_density_nll_loss(means, jnp.array([1.0]), 1.0, logits)
        Array([2.09394], dtype=float32)
    """
    given = _mixture(predictions, targets, scale, logits, Request(where, weights, reduction))
    _, _, scales, _ = given.data
    return given.inside(jnp.all(scales > 0, (-2, -1))).reduced(_nll(*given.data))
