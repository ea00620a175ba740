"""The log-probabilities of sequences of tokens, of which the losses of preference are made."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Bool, Float, Int

from .._contract import inputs
from .._contract.jit import jit
from .._contract.reduce import Request
from .._numerics.softmax import surprisal
from .._numerics.xla import keep_out_of_sum
from .labels import class_numbers


@jit("normalize")
def sequence_log_probabilities(
    logits: Float[ArrayLike, "*batch tokens vocabulary"],
    tokens: Int[ArrayLike, "*batch tokens"],
    *,
    where: Bool[ArrayLike, "*#batch #tokens"] | None = None,
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
    data = {"logits": logits, "tokens": tokens}
    if jnp.ndim(logits) < 2:
        got = inputs.described(logits=inputs.real("logits", logits))
        raise ValueError(f"logits must have an axis of tokens before that of classes, got {got}")
    given = class_numbers(data, -1, Request(where), movable=False)
    losses = given.nan_outside(surprisal(given.scores, given.labels, given.axes))
    count = jnp.asarray(losses.shape[-1], jnp.int32)
    if given.where is not None:
        losses = jnp.where(given.where, losses, 0)
        count = jnp.sum(given.where, -1, dtype=jnp.int32)
    totals = -jnp.sum(keep_out_of_sum(losses), -1)
    return totals / jnp.maximum(count, 1).astype(totals.dtype) if normalize else totals
