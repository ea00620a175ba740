"""Means over tokens, over sequences, and sums over a constant length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Float

from .._contract import inputs
from .._contract.jit import jit
from .._contract.prepared import Hyper, positive, vectors
from .._contract.reduce import Reduction, Request, Weights, Where

Normalizer = Literal["token", "sequence", "constant"]


@jit("normalizer")
def reduce_tokens(
    losses: Float[ArrayLike, "*batch tokens"] | Sequence[Any],
    *,
    normalizer: Normalizer = "sequence",
    length: ArrayLike | None = None,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Losses of sequences from those of their tokens, for each of the means in use.

        sequence  sum over t of m l / sum over t of m
        constant  sum over t of m l / length
        token     sum over t of m l, counted (sum over t of m) times

    with losses l and mask m. In a mean over sequences "sequence" is that of GRPO, where tokens of
    long answers count for less, "constant" that of Dr. GRPO, and "token" that of DAPO, the mean
    over all tokens.

    `Mean.of(reduce_tokens, losses, normalizer=..., where=mask)` has the two sums of that mean. They
    add over microbatches and devices of any sizes to those of the whole batch, where a mean of the
    means does not. A sequence without a token is 0 and does not count.

    Args:
        losses: Of tokens, which are on the last axis, such as those of `ppo_loss`.
        normalizer: "sequence", "constant" or "token".
        length: What "constant" divides by, such as the longest answer that may be given; positive,
            else NaN. Of each batch the same.
        where, weights, reduction: See `jaxloss.reduce`. A mask of the rank of `losses` excludes
            tokens; weights are of sequences.

    Returns:
        One loss per sequence, the shape of `losses` without its last axis.

    Raises:
        ValueError: If `normalizer` is none of the three, or `length` is not given where, and only
            where, it is "constant".

    Reference:
        Shao et al., "DeepSeekMath: pushing the limits of mathematical reasoning in open language
        models", 2024, eq. 3, https://arxiv.org/abs/2402.03300 ("sequence"); Yu et al., "DAPO: an
        open-source LLM reinforcement learning system at scale", 2025,
        https://arxiv.org/abs/2503.14476 ("token"); Liu et al., "Understanding R1-zero-like
        training: a critical perspective", 2025, https://arxiv.org/abs/2503.20783 ("constant").

    Example:
        >>> losses = jnp.array([[1.0, 2.0, 3.0], [6.0, 0.0, 0.0]])
        >>> mask = jnp.array([[True, True, True], [True, False, False]])
        >>> reduce_tokens(losses, where=mask)
        Array([2., 6.], dtype=float32)
        >>> reduce_tokens(losses, normalizer="token", where=mask, reduction="mean")
        Array(3., dtype=float32)
    """
    inputs.one_of("normalizer", normalizer, get_args(Normalizer))
    if (length is not None) != (normalizer == "constant"):
        got = "none" if length is None else inputs.shown(length)
        raise ValueError(
            f"length is of normalizer='constant', which needs it, got {normalizer!r} and {got}"
        )
    request = Request(where, weights, reduction)
    hyper = {"length": Hyper(length, positive, off=(None,))}
    given = vectors({"losses": losses}, -1, request, hyper=hyper)
    ((tokens,), (divisor,)) = given.data, given.hyper
    totals = jnp.sum(tokens, -1)
    if divisor is not None:
        return given.reduced(totals / divisor)
    if given.entries is None:
        count = jnp.full_like(totals, tokens.shape[-1])
    else:
        count = jnp.sum(given.entries, -1).astype(given.dtype)
    if normalizer == "token":
        return given.replace(counts=count).reduced(totals)
    return given.reduced(totals / jnp.maximum(count, 1))
