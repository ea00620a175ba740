"""Ranking a list as a whole, by one softmax over its documents.

In the formulas s are the scores and y the labels of the documents of one list, along the last
axis.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from .._contract import inputs
from .._contract.jit import jit
from .._contract.prepared import Hyper
from .._contract.reduce import Reduction, Request, Weights, Where
from .._numerics.cross_entropy import cross_entropy, misplaced
from .._numerics.softmax import probabilities
from .._numerics.special import one_if_zero
from .lists import DocumentWeights, Labels, Scores, SegmentNumbers, Segments, lists


@jit("reduce_fn", "num_segments", "segment_size")
def ranking_softmax_loss(
    logits: Scores,
    labels: Labels,
    *,
    reduce_fn: Callable[..., Any] | None = jnp.mean,
    document_weights: DocumentWeights = None,
    segments: SegmentNumbers = None,
    num_segments: int | None = None,
    segment_size: int | None = None,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "mean",
) -> jax.Array:
    """Cross-entropy of the documents' softmax with their labels.

        -(sum over i of y_i log(e^s_i / (sum over j of e^s_j)))

    The labels need not sum to 1: a list counts for as much as it has relevance, and nothing
    without any. As in optax that list still counts in the mean.

    Args:
        logits: s, `[..., documents]`, greater for a document that is to come first.
        labels: y, the shape of `logits`: relevance, 0 or more; negative labels give NaN.
        reduce_fn: optax's name for the reduction: None for none, or a function of the masked and
            weighted losses. `jnp.mean`, the default, leaves it to `reduction`; any other has the
            last word.
        document_weights: Factors of the terms of the documents, of the shape of `logits` or with
            sizes of 1, or a scalar, which the mean is not divided by; 1 if None.
        segments: For lists of several lengths in one vector, without padding: the number of each
            document's list, integers of the shape of `logits`, in any order. There is then a loss
            for each of `num_segments` lists, and `where` is of documents. A number that is negative
            or too large makes all losses of its vector NaN, if `where` does not take it out.
        num_segments: How many lists the segments number, an integer; as many as documents if None.
        segment_size: How many documents a list has at most, an integer; all of them if None. A
            longer list is NaN. Memory and time are those of lists of this length.
        where: Which lists count, or, of the shape of `logits`, which documents are there.
        weights: Of the rank of the loss, what each list counts for; see `jaxloss.reduce`. Of the
            rank of `logits`, factors of the labels, as in optax, which the mean is not divided by.
        reduction: See `jaxloss.reduce`.

    Returns:
        The mean over the lists, or one loss per list: the shape of `logits` without its last axis,
        or with `num_segments` there.

    Reference:
        Bruch et al., "An analysis of the softmax cross entropy loss for learning-to-rank with
        binary relevance", 2019, eq. 2; Cao et al., "Learning to rank: from pairwise approach to
        listwise approach", 2007.

    Example:
        >>> ranking_softmax_loss(jnp.array([[2.0, 1.0, 3.0]]), jnp.array([[1, 0, 0]]))
        Array(1.4076059, dtype=float32)

        A list of three documents and one of two:

        >>> s, y = jnp.array([2.0, 1.0, 3.0, 0.0, 0.0]), jnp.array([1, 0, 0, 1, 0])
        >>> lists = {"segments": jnp.array([0, 0, 0, 1, 1]), "num_segments": 2}
        >>> ranking_softmax_loss(s, y, **lists, reduction="none")
        Array([1.4076059, 0.6931472], dtype=float32)
    """
    replaced = reduce_fn is not jnp.mean
    if reduce_fn is not None:
        inputs.check_function("reduce_fn", reduce_fn)
    inputs.check_reduction(reduction)
    request = Request(where, weights, "none" if replaced else reduction)
    vectors = Segments(segments, num_segments, segment_size)
    data = {"logits": logits, "labels": labels}
    rows = lists(data, request, segments=vectors, factors=document_weights, relevance=True)
    y = rows.labels if rows.factors is None else rows.labels * rows.factors
    if weights is not None:
        given, shape = inputs.real("weights", weights), (*rows.shape, y.shape[-1])
        if given.ndim == len(shape):
            factors = inputs.field("weights", given, shape, "logits").astype(y.dtype)
            y = y * rows.filled(jnp.broadcast_to(factors, shape).reshape(y.shape), 0)
            rows = rows.replace(request=request._replace(weights=None))
    losses = rows.reduced(cross_entropy(rows.filled(rows.scores, -jnp.inf), y, (1,)))
    return reduce_fn(losses) if replaced and reduce_fn is not None else losses


@jit("num_segments", "segment_size")
def listnet_loss(
    scores: Scores,
    labels: Labels,
    *,
    document_weights: DocumentWeights = None,
    segments: SegmentNumbers = None,
    num_segments: int | None = None,
    segment_size: int | None = None,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Cross-entropy of the documents' softmax with that of their labels.

        -(sum over i of p_i log(e^s_i / (sum over j of e^s_j)))
        p_i = e^y_i / (sum over j of e^y_j)

    p_i is the probability that document i is the first of the list, if labels are scores.

    Args:
        scores: s, `[..., documents]`, greater for a document that is to come first.
        labels: y, the shape of `scores`, greater for a document that is more relevant; any real
            numbers.
        document_weights: See `ranking_softmax_loss`.
        segments, num_segments, segment_size: See `ranking_softmax_loss`.
        where: Which lists count, or, of the shape of `scores`, which documents are there.
        weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per list: the shape of `scores` without its last axis.

    Reference:
        Cao et al., "Learning to rank: from pairwise approach to listwise approach", 2007, eq. 3
        with the probabilities of the first place.

    Example:
        >>> listnet_loss(jnp.array([[2.0, 1.0, 3.0]]), jnp.array([[1, 0, 0]]))
        Array([1.], dtype=float32)
    """
    request = Request(where, weights, reduction)
    vectors = Segments(segments, num_segments, segment_size)
    data = {"scores": scores, "labels": labels}
    rows = lists(data, request, segments=vectors, factors=document_weights)
    s, y = (rows.filled(x, -jnp.inf) for x in (rows.scores, rows.labels))
    p = probabilities(y, (1,))
    losses = cross_entropy(s, p if rows.factors is None else p * rows.factors, (1,))
    if segments is not None:
        return rows.reduced(losses)
    # A loss of NaN tells of a NaN in its list, without another pass over scores and labels.
    rows = rows.replace(known=~jnp.isnan(losses).reshape(rows.shape))
    return rows.reduced(losses)


@jit("num_segments", "segment_size")
def poly1_softmax_loss(
    scores: Scores,
    labels: Labels,
    *,
    epsilon: ArrayLike = 1.0,
    document_weights: DocumentWeights = None,
    segments: SegmentNumbers = None,
    num_segments: int | None = None,
    segment_size: int | None = None,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """`ranking_softmax_loss` and a multiple of the chance to miss what is relevant.

        -(sum over i of y_i log p_i) + epsilon (1 - sum over i of q_i p_i)
        p_i = e^s_i / (sum over j of e^s_j)
        q_i = y_i / (sum over j of y_j)

    That is the first polynomial term of the logarithm, with another coefficient. 0 with gradient 0
    for a list without relevance, of which there is no q.

    Args:
        scores: s, `[..., documents]`, greater for a document that is to come first.
        labels: y, the shape of `scores`: relevance, 0 or more; negative labels give NaN.
        epsilon: By how much the coefficient is more than 1: any number, or one for each list.
        document_weights: Factors of y; see `ranking_softmax_loss`.
        segments, num_segments, segment_size: See `ranking_softmax_loss`.
        where: Which lists count, or, of the shape of `scores`, which documents are there.
        weights, reduction: See `jaxloss.reduce`. A list without relevance counts in the mean, as
            in `ranking_softmax_loss`.

    Returns:
        One loss per list: the shape of `scores` without its last axis.

    Reference:
        Leng et al., "PolyLoss: a polynomial expansion perspective of classification loss
        functions", 2022, eq. 6, https://arxiv.org/abs/2204.12511, with the softmax of Jagerman et
        al., "Rax: composable learning-to-rank using JAX", 2022; there a list without relevance
        costs epsilon.

    Example:
        >>> poly1_softmax_loss(jnp.array([[2.0, 1.0, 3.0]]), jnp.array([[1, 0, 0]]))
        Array([2.1628776], dtype=float32)
    """
    request = Request(where, weights, reduction)
    vectors = Segments(segments, num_segments, segment_size)
    data = {"scores": scores, "labels": labels}
    rows = lists(
        data,
        request,
        segments=vectors,
        factors=document_weights,
        relevance=True,
        epsilon=Hyper(epsilon),
    )
    s, y, epsilon = rows.arrays
    y = y if rows.factors is None else y * rows.factors
    s = rows.filled(s, -jnp.inf)
    q = y / one_if_zero(jnp.sum(y, -1, keepdims=True))
    return rows.reduced(cross_entropy(s, y, (1,)) + epsilon * misplaced(s, q, (1,)))
