"""Ranking by relaxed permutations, and by sampled orders.

In the formulas s are the scores and y the labels of the documents of one list, along the last
axis.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Float, Key, UInt32

from .._contract import inputs
from .._contract.jit import jit
from .._contract.prepared import Hyper, positive
from .._contract.reduce import Reduction, Request, Weights, Where
from .._numerics.cross_entropy import cross_entropy
from .._numerics.exact import leading
from .._numerics.kinks import absolute
from .lists import Labels, Scores, SegmentNumbers, Segments, lists
from .segments import whole_number


@jit("num_segments", "segment_size")
def neural_sort_loss(
    scores: Scores,
    labels: Labels,
    *,
    temperature: ArrayLike = 1.0,
    segments: SegmentNumbers = None,
    num_segments: int | None = None,
    segment_size: int | None = None,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Cross-entropy of the permutation that sorts the labels with a relaxed one of the scores.

        -(1/n) (sum over i, j of T_ij log P_ij)
        P_ij = softmax over j of
               ((n + 1 - 2 i) s_j - b_j) / temperature
        b_j = sum over k of |s_j - s_k|

    for places i from 1 to n. Row i of P is nearly 1 at the document of the i-th greatest score, as
    the temperature falls. T_ij is 1 if document j has the i-th greatest label; documents of equal
    labels have equal parts of their places. 0 with gradient 0 for a list whose labels are all
    equal. Between equal scores |s_j - s_k| has slope 0.

    Args:
        scores: s, `[..., documents]`, greater for a document that is to come first.
        labels: y, the shape of `scores`, greater for a document that is more relevant; any real
            numbers, of which the order alone matters.
        temperature: Positive, else NaN: one number, or one for each list.
        segments, num_segments, segment_size: See `ranking_softmax_loss`.
        where: Which lists count, or, of the shape of `scores`, which documents are there.
        weights, reduction: See `jaxloss.reduce`. A list whose labels are all equal does not count
            in the mean.

    Returns:
        One loss per list: the shape of `scores` without its last axis. P is an array of all places
        and documents: a list of 1,000 documents takes some 10 MiB.

    Reference:
        Grover et al., "Stochastic optimization of sorting networks via continuous relaxations",
        2019, eq. 5 and section 6.1, https://arxiv.org/abs/1903.08850. TF-Ranking's
        `NeuralSortCrossEntropyLoss` has a relaxed permutation of the labels as T.

    Example:
        >>> neural_sort_loss(jnp.array([[2.0, 1.0, 3.0]]), jnp.array([[1, 0, 2]]))
        Array([0.40152335], dtype=float32)
    """
    request = Request(where, weights, reduction)
    data = {"scores": scores, "labels": labels}
    rows = lists(
        data,
        request,
        segments=Segments(segments, num_segments, segment_size),
        together=True,
        temperature=Hyper(temperature, positive),
    )
    s, y, scale = rows.arrays
    # Relative to the greatest: an offset that all have in common costs no digits.
    top = jnp.max(rows.filled(s, -jnp.inf), -1, keepdims=True, initial=-jnp.inf)
    s = rows.filled(s - jax.lax.stop_gradient(top), 0)
    there = jnp.ones_like(s, bool) if rows.there is None else rows.there
    pairs = there[:, :, None] & there[:, None, :]
    gaps = jnp.where(pairs, s[:, :, None] - s[:, None, :], 0)
    spread = jnp.sum(absolute(gaps), -1)

    size = rows.sizes()[:, None]
    place = 1 + jax.lax.broadcasted_iota(s.dtype, s.shape, 1)
    # Products of halves are exact: computed anew, with an FMA or without, they are the same.
    # Else the largest of a row, which a compiler computes apart, would not be among them.
    factor = (size + 1 - 2 * place)[:, :, None]
    half = jax.lax.stop_gradient(leading(s))
    logits = factor * half[:, None, :] - spread[:, None, :] + factor * (s - half)[:, None, :]
    logits = jnp.where(there[:, None, :], logits / scale[:, None, None], -jnp.inf)

    y = jax.lax.stop_gradient(rows.filled(y, jnp.nan))
    above = jnp.sum(y[:, :, None] < y[:, None, :], -1, dtype=s.dtype)
    ties = jnp.sum(y[:, :, None] == y[:, None, :], -1, dtype=s.dtype)
    first, last = above[:, None, :], (above + ties)[:, None, :]
    own = (first < place[:, :, None]) & (place[:, :, None] <= last)
    target = jnp.where(own, 1 / jnp.maximum(ties, 1)[:, None, :], 0)
    losses = jnp.sum(cross_entropy(logits, target, (2,)), -1) / jnp.maximum(size, 1)[:, 0]
    return rows.reduced(losses, counted=rows.ordered())


@jit("samples")
def gumbel_scores(
    scores: Scores,
    key: Key[ArrayLike, ""] | UInt32[ArrayLike, 2],
    *,
    samples: int = 8,
    scale: ArrayLike = 1.0,
) -> Float[jax.Array, "samples *batch documents"]:
    """Scores with Gumbel noise, whose orders are samples of the Plackett-Luce model.

        s_i + scale g_i,  g_i = -log(-log(u_i))

    with u uniform on (0, 1). At a scale of 1 the order of the sampled scores has the probability
    exp(-`listmle_loss`). The mean of a ranking loss over samples is a loss of that distribution of
    orders: give labels as often, or map the loss over the first axis.

    Args:
        scores: s, `[..., documents]`.
        key: A key of `jax.random`; another one for each step.
        samples: How many, a positive integer.
        scale: Of the noise; 0 for none.

    Returns:
        `[samples, ..., documents]`, with slope 1 in the scores.

    Raises:
        ValueError: If `samples` is not a positive integer.

    Reference:
        Bruch et al., "A stochastic treatment of learning to rank scoring functions", 2020. rax's
        `gumbel_t12n` draws the same numbers from the same key.

    Example:
        >>> sampled = gumbel_scores(jnp.array([2.0, 1.0, 3.0]), jax.random.key(0), samples=4)
        >>> sampled.shape
        (4, 3)
        >>> labels = jnp.array([1, 0, 2])
        >>> jax.vmap(lambda s: neural_sort_loss(s, labels))(sampled).shape
        (4,)
    """
    whole_number("samples", samples)
    (s,) = inputs.same_shape({"scores": scores})
    inputs.consumed(-1, "scores", s)
    s = s.astype(inputs.computing_dtype([s]))
    noise = jax.random.gumbel(key, (samples, *s.shape), s.dtype)
    return s[None] + inputs.number("scale", scale).astype(s.dtype) * noise
