"""Log-probabilities and log-odds of sequences of tokens: what losses of preference are made of."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Bool, Float, Int

from .._contract import inputs
from .._contract.jit import jit
from .._contract.reduce import Request
from .._numerics.cross_entropy import surprisal
from .._numerics.kinks import closed_form
from .._numerics.reductions import score_and_rival
from .._numerics.special import decayed, one_if_zero, reciprocal
from .._numerics.xla import keep_out_of_sum
from .labels import Classes, class_numbers

Logits = Float[ArrayLike, "*batch tokens vocabulary"]
Tokens = Int[ArrayLike, "*batch tokens"]
Counted = Bool[ArrayLike, "*#batch #tokens"] | None


def _prepared(logits: Any, tokens: Any, where: Any) -> tuple[Classes, jax.Array]:
    """The record of all tokens, and how many of each sequence count: 1 if none does."""
    data = {"logits": logits, "tokens": tokens}
    if jnp.ndim(logits) < 2:
        got = inputs.described(logits=inputs.real("logits", logits))
        raise ValueError(f"logits must have an axis of tokens before that of classes, got {got}")
    given = class_numbers(data, -1, Request(where), movable=False)
    if given.where is None:
        count = jnp.full(given.shape[:-1], given.shape[-1], jnp.int32)
    else:
        count = jnp.sum(given.where, -1, dtype=jnp.int32)
    return given, jnp.maximum(count, 1).astype(given.dtype)


@jit("normalize")
def sequence_log_probabilities(
    logits: Logits,
    tokens: Tokens,
    *,
    where: Counted = None,
    normalize: bool = False,
) -> Float[jax.Array, "*batch"]:
    """The log-probability of each sequence of tokens: what the losses of preference take.

        sum over t of log softmax(logits_t) at token_t

    Gradients are those of the cross-entropy, with all its digits.

    Args:
        logits: Those that predict `tokens`: of a causal model, whose logits at t are of token
            t + 1, `logits[..., :-1, :]` with `tokens[..., 1:]`.
        tokens: Integers, the shape of `logits` without its last axis. NaN outside
            [0, vocabulary).
        where: Which tokens count: those of the answer, not of the prompt, nor the padding. What
            the others hold does not matter.
        normalize: Whether to divide by the number of tokens that count, as ORPO asks for.

    Returns:
        One number per sequence, the shape of `tokens` without its last axis; 0 where no token
        counts.

    Reference:
        Bridle, "Probabilistic interpretation of feedforward classification network outputs", 1990,
        https://doi.org/10.1007/978-3-642-76153-9_28.

    Example:
        >>> logits, tokens = jnp.zeros((3, 4)), jnp.array([0, 3, -1])
        >>> sequence_log_probabilities(logits, tokens, where=tokens >= 0)
        Array(-2.7725887, dtype=float32)
    """
    given, count = _prepared(logits, tokens, where)
    losses = given.nan_outside(surprisal(given.scores, given.labels, given.axes))
    if given.where is not None:
        losses = jnp.where(given.where, losses, 0)
    totals = -jnp.sum(keep_out_of_sum(losses), -1)
    return totals / count if normalize else totals


@closed_form(lambda x, top: (jnp.ones_like(x), 0))
def _capped(x: jax.Array, top: jax.Array) -> jax.Array:
    """min(x, top), with slope 1 in x above `top` too."""
    return jnp.minimum(x, top)


def _lead(x: jax.Array, hit: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    """log p - log(1 - p) of the one class along `axes` where `hit` is true.

    That is its logit less the log-sum-exp of the others, and infinite if one of these is.
    """

    def against_rival(x: jax.Array, hit: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """How far the class is ahead of its rival, the odds of all against it, and their sum."""
        score, rival = score_and_rival(axes, x, hit)
        largest = jnp.finfo(x.dtype).max
        top = jnp.clip(rival, -largest, largest)
        # A sum without selection, which would be stored first. What the class adds to it, 1
        # at most, is subtracted; that cancels no digits of the others, of which the rival has 1.
        odds, own = (jnp.exp(_capped(y, top) - top) for y in (x, score))
        return score - rival, odds, jnp.sum(odds, axes, keepdims=True) - own

    def slopes(x: jax.Array, hit: jax.Array) -> tuple[jax.Array, int]:
        _, odds, others = against_rival(x, hit)
        return jnp.where(hit, 1, -odds * reciprocal(others)), 0

    @closed_form(slopes, axes)
    def lead(x: jax.Array, hit: jax.Array) -> jax.Array:
        ahead, _, others = against_rival(x, hit)
        return jnp.squeeze(ahead - jnp.log(others), axes)

    return lead(x, hit)


def _surprisals(d: jax.Array, count: jax.Array) -> tuple[jax.Array, ...]:
    """-log p of tokens of log-odds d along the last axis, and the mean; scaled, lest they vanish.

    exp(-90) is 0 in float32. So the surprisals are multiplied by exp(D), with the least log-odds D
    of the sequence, or 0 if these are negative.

    Args:
        d: inf for a token that does not count.
        count: How many do.

    Returns:
        The scaled surprisals, their mean, D, and exp(-D); of the last three the axis is kept.
    """
    least = jnp.maximum(jnp.min(d, -1, keepdims=True, initial=jnp.inf), 0)
    least = jax.lax.stop_gradient(jnp.where(least == jnp.inf, 0, least))
    ahead, _, odds = decayed(d)
    # log(1 + x) / x at x = exp(-d).
    ratio = jnp.where(odds == 0, 1, jnp.log1p(odds) / one_if_zero(odds))
    scaled = jnp.where(ahead, jnp.exp(least - jnp.where(ahead, d, 0)) * ratio, jnp.log1p(odds) - d)
    mean = jnp.sum(keep_out_of_sum(scaled), -1, keepdims=True) / count[..., None]
    return scaled, mean, least, jnp.exp(-least)


def _doubt(surprisal: jax.Array, scale: jax.Array) -> jax.Array:
    """(1 - exp(-scale * surprisal)) / scale, for a scale of 0 too."""
    size = scale * surprisal
    doubt = -jnp.expm1(-size)
    small = surprisal * jnp.where(size == 0, 1, doubt / one_if_zero(size))
    return jnp.where(scale < 1, small, doubt)


@jax.custom_jvp
def _shares(d: jax.Array, count: jax.Array) -> jax.Array:
    """The slopes of `_mean_log_odds` in d: (1 - p) / (1 - P) over the count."""
    scaled, mean, _, scale = _surprisals(d, count)
    return _doubt(scaled, scale) / one_if_zero(count[..., None] * _doubt(mean, scale))


@_shares.defjvp
def _(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    share, move = _shares(*primals), tangents[0]
    scaled, mean, _, scale = _surprisals(*primals)
    p, p_of_mean = jnp.exp(-scale * scaled), jnp.exp(-scale * mean)
    return share, share * (p_of_mean * jnp.sum(share * move, -1, keepdims=True) - p * move)


@closed_form(lambda d, count: (_shares(d, count), 0), (-1,))
def _mean_log_odds(d: jax.Array, count: jax.Array) -> jax.Array:
    """log(P / (1 - P)) of the geometric mean P of the probabilities p of tokens of log-odds d."""
    _, mean, least, scale = _surprisals(d, count)
    return jnp.squeeze(least - scale * mean - jnp.log(_doubt(mean, scale)), -1)


@jit()
def sequence_log_odds(
    logits: Logits, tokens: Tokens, *, where: Counted = None
) -> Float[jax.Array, "*batch"]:
    """The log-odds of each sequence of tokens, with all digits of a model that is certain.

        log(P / (1 - P))   with log P = mean over t of log softmax(logits_t) at token_t

    P is the probability of a token in the geometric mean, of which ORPO takes the odds. Near 1 it
    is the log-odds that hold the digits: a logit that is 90 ahead of all others has log P = -8e-40,
    which is 0 in float32, and log-odds of 90. From them log P = -softplus(-log-odds).

    Args:
        logits: As in `sequence_log_probabilities`.
        tokens: As there; NaN outside [0, vocabulary).
        where: Which tokens count.

    Returns:
        One number per sequence, the shape of `tokens` without its last axis; inf where no token
        counts, or where no other token is possible, and -inf where a token is impossible. Gradients
        are finite there too.

    Reference:
        Hong, Lee and Thorne, "ORPO: monolithic preference optimization without reference model",
        2024, eq. 3 and 4, https://arxiv.org/abs/2403.07691.

    Example:
        >>> logits = jnp.array([[90.0, 0.0], [0.0, 100.0]])
        >>> sequence_log_odds(logits, jnp.array([0, 1]))
        Array(90.6931, dtype=float32)
    """
    given, count = _prepared(logits, tokens, where)
    leads = given.nan_outside(_lead(given.scores, given.labels, given.axes))
    if given.where is not None:
        leads = jnp.where(given.where, leads, jnp.inf)
    return _mean_log_odds(leads, count)
