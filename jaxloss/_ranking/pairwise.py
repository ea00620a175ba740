"""Ranking by pairs: who of two documents belongs before the other.

In the formulas s are the scores and y the labels of the documents of one list, along the last
axis. Sums over pairs are computed in blocks: a list of 16,384 documents takes some MiB for value
and gradient, and not the 1 GiB of its pairs. `pair_weights` is an array of all pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Real

from .._contract import inputs
from .._contract.jit import jit
from .._contract.prepared import Hyper
from .._contract.reduce import Reduction, Request, Weights, Where
from .._numerics.kinks import hinge, step, with_slopes
from .._numerics.order import positions
from .._numerics.sharding import whole_along
from .._numerics.special import one_if_zero, sigmoids
from .blocks import at_once, both, pair_sums
from .lists import Labels, Lists, Scores, SegmentNumbers, Segments, lists

PairWeights = Real[ArrayLike, "*batch documents documents"] | Sequence[Any] | None
# Takes gaps between scores; returns what they cost, and the derivatives of that in the gaps.
Cost = Callable[[jax.Array], tuple[jax.Array, jax.Array]]


def _checked(pair_weights: PairWeights, rows: Lists) -> jax.Array | None:
    """The weights of pairs `[lists, documents, documents]`, if there are any."""
    if pair_weights is None:
        return None
    array, size = inputs.real("pair_weights", pair_weights), rows.scores.shape[-1]
    wanted = (*rows.shape, size, size)
    message = (
        f"pair_weights must have the shape {list(wanted)} of all pairs of the scores, "
        f"got {inputs.described(pair_weights=array)}"
    )
    inputs.check_shape(array, wanted, message)
    array = whole_along(array, (-2, -1))
    return array.reshape(-1, size, size).astype(rows.dtype)


def _cost_of_order(
    cost: Cost, rows: Lists, pair_weights: PairWeights, margin: jax.Array | None = None
) -> jax.Array:
    """The mean of w_ij times the cost of s_i - s_j - margin over the pairs with y_i > y_j.

    0 in a list without such a pair.

    Args:
        cost: Of a gap.
        rows: Scores and labels.
        pair_weights: w, as the user gave them; None for 1.
        margin: One for each list; None for 0.
    """

    def compared(of_i: Any, of_j: Any) -> tuple[jax.Array, ...]:
        """Whether i belongs before j, and after; the cost of their gap, and its derivative."""
        (s, y, margin, _), (t, z, _, _) = of_i, of_j
        before, after = y > z, y < z
        # By how much the one that belongs before the other is ahead.
        gap = jnp.where(before, s - t, jnp.where(after, t - s, 0))
        return before, after, *cost(gap if margin is None else gap - margin)

    def values(of_i: Any, of_j: Any) -> list[jax.Array]:
        before, _, value, _ = compared(of_i, of_j)
        return [before.astype(value.dtype), _weighed(before, value, of_i[-1])]

    def values_and_slopes(of_i: Any, of_j: Any) -> list[jax.Array]:
        before, after, value, slope = compared(of_i, of_j)
        in_score = _weighed(before, slope, of_i[-1]) - _weighed(after, slope, of_j[-1])
        return [before.astype(value.dtype), _weighed(before, value, of_i[-1]), in_score]

    def slopes_in_gap(of_i: Any, of_j: Any) -> list[jax.Array]:
        before, _, _, slope = compared(of_i, of_j)
        return [_weighed(before, slope, of_i[-1])]

    def all_at_once(documents: Any) -> tuple[jax.Array, ...]:
        """`values_and_slopes`, which reads no weight of a pair (j, i): no array is transposed."""

        def each(of_i: Any, of_j: Any) -> list[jax.Array]:
            return values(of_i, of_j) + 2 * slopes_in_gap(of_i, of_j)

        *sums, ahead, behind = at_once(each, documents, over_i=1)
        return *sums, ahead - behind

    def evaluate(
        slopes: bool,
        s: jax.Array,
        margin: jax.Array | None,
        pair_weights: jax.Array | None,
        y: jax.Array,
    ) -> Any:
        margins = None if margin is None else jnp.broadcast_to(margin[:, None], s.shape)
        documents = s, y, margins, pair_weights
        forms = (values_and_slopes, all_at_once) if slopes else (values, None)
        number, total, *in_score = pair_sums(forms[0], documents, forms[1])
        share = 1 / one_if_zero(jnp.sum(number, -1))
        losses = share * jnp.sum(total, -1)
        if not slopes:
            return losses, ()
        in_margin = in_weights = None
        if margin is not None:
            # In a loop of its own, which the compiler drops if the margin is not trained.
            in_margin = -share * jnp.sum(pair_sums(slopes_in_gap, documents)[0], -1)
        if pair_weights is not None:
            # The terms of weight 1.
            before, _, value, _ = compared(*both(documents))
            in_weights = share[:, None, None] * _weighed(before, value, None)
        return losses, (share[:, None] * in_score[0], in_margin, in_weights)

    # Documents that are excluded read NaN, which is neither greater nor less than a label: they
    # are in no pair.
    y = jax.lax.stop_gradient(rows.filled(rows.labels, jnp.nan))
    return with_slopes(evaluate)(rows.scores, margin, _checked(pair_weights, rows), y)


def _weighed(pairs: jax.Array, x: jax.Array, weight: jax.Array | None) -> jax.Array:
    """`x` times the weight if there is one, and 0 for pairs that are not among `pairs`."""
    return jnp.where(pairs, x if weight is None else x * weight, 0)


def _logistic(gap: jax.Array) -> tuple[jax.Array, jax.Array]:
    cost, low, _ = sigmoids(gap)
    return cost, -low


def _hinge(gap: jax.Array) -> tuple[jax.Array, jax.Array]:
    return hinge(-gap), -step(-gap)


@jit("num_segments", "segment_size")
def pairwise_logistic_loss(
    scores: Scores,
    labels: Labels,
    *,
    pair_weights: PairWeights = None,
    segments: SegmentNumbers = None,
    num_segments: int | None = None,
    segment_size: int | None = None,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Negative log-likelihood that of two documents the more relevant one wins: RankNet.

        mean over the pairs with y_i > y_j of w_ij log(1 + e^(s_j - s_i))

    0 with gradient 0 for a list without a pair, whose labels are all equal. With `lambda_weights`
    as w it is the loss of LambdaRank and of LambdaLoss.

    Args:
        scores: s, `[..., documents]`, greater for a document that is to come first.
        labels: y, the shape of `scores`, greater for a document that is more relevant; any real
            numbers.
        pair_weights: w, `[..., documents, documents]`, such as `lambda_weights`; 1 if None. They
            multiply the terms, and the mean is still over the number of pairs.
        segments, num_segments, segment_size: See `ranking_softmax_loss`.
        where: Which lists count, or, of the shape of `scores`, which documents are there.
        weights, reduction: See `jaxloss.reduce`. A list without a pair does not count in the mean.

    Returns:
        One loss per list: the shape of `scores` without its last axis.

    Reference:
        Burges et al., "Learning to rank using gradient descent", 2005, eq. 3.

    Example:
        >>> pairwise_logistic_loss(jnp.array([[3.0, 1.0, 2.0]]), jnp.array([[2, 0, 1]]))
        Array([0.2511505], dtype=float32)
    """
    request = Request(where, weights, reduction)
    vectors = Segments(segments, num_segments, segment_size)
    rows = lists({"scores": scores, "labels": labels}, request, segments=vectors, together=True)
    losses = _cost_of_order(_logistic, rows, pair_weights)
    return rows.reduced(losses, counted=rows.ordered())


@jit("num_segments", "segment_size")
def pairwise_hinge_loss(
    scores: Scores,
    labels: Labels,
    *,
    margin: ArrayLike = 1.0,
    pair_weights: PairWeights = None,
    segments: SegmentNumbers = None,
    num_segments: int | None = None,
    segment_size: int | None = None,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Hinge loss of the more relevant document of each pair against the other.

        mean over the pairs with y_i > y_j of w_ij max(0, margin - (s_i - s_j))

    0 with gradient 0 for a list without a pair, whose labels are all equal. Exactly at the margin
    the slope is that inside it, so that a tie still trains.

    Args:
        scores: s, `[..., documents]`, greater for a document that is to come first.
        labels: y, the shape of `scores`, greater for a document that is more relevant; any real
            numbers.
        margin: By how much the more relevant one is to be ahead: one number, or one for each list.
        pair_weights: w, `[..., documents, documents]`, such as `lambda_weights`; 1 if None. They
            multiply the terms, and the mean is still over the number of pairs.
        segments, num_segments, segment_size: See `ranking_softmax_loss`.
        where: Which lists count, or, of the shape of `scores`, which documents are there.
        weights, reduction: See `jaxloss.reduce`. A list without a pair does not count in the mean.

    Returns:
        One loss per list: the shape of `scores` without its last axis.

    Reference:
        Herbrich, Graepel and Obermayer, "Large margin rank boundaries for ordinal regression",
        2000; Joachims, "Optimizing search engines using clickthrough data", 2002.

    Example:
        >>> pairwise_hinge_loss(jnp.array([[3.0, 1.0, 2.5]]), jnp.array([[2, 0, 1]]))
        Array([0.16666667], dtype=float32)
    """
    request = Request(where, weights, reduction)
    vectors = Segments(segments, num_segments, segment_size)
    data = {"scores": scores, "labels": labels}
    rows = lists(data, request, segments=vectors, together=True, margin=Hyper(margin))
    _, _, margin = rows.arrays
    losses = _cost_of_order(_hinge, rows, pair_weights, margin)
    return rows.reduced(losses, counted=rows.ordered())


def _mean_of_squares(rows: Lists, number: jax.Array, there: jax.Array) -> jax.Array:
    """The mean over all pairs of the squared error of the gap, without the pairs.

    That is twice the unbiased variance of y - s.
    """

    def evaluate(
        slopes: bool, s: jax.Array, y: jax.Array, number: jax.Array, there: jax.Array
    ) -> Any:
        del slopes

        def centred(x: jax.Array) -> jax.Array:
            # First less the least, so that an offset that all have in common costs no digits.
            least = jnp.min(jnp.where(there, x, jnp.inf), -1, keepdims=True, initial=jnp.inf)
            x = jnp.where(there, x - jax.lax.stop_gradient(least), 0)
            mean = jnp.sum(x, -1, keepdims=True) / jnp.maximum(number, 1)[:, None]
            return jnp.where(there, x - mean, 0)

        error = centred(y) - centred(s)
        share = jnp.where(number > 1, 2 / jnp.maximum(number - 1, 1), 0)
        slope = 2 * share[:, None] * error
        return share * jnp.sum(error * error, -1), (-slope, slope)

    return with_slopes(evaluate)(rows.scores, rows.labels, number, there)


def _weighed_mean_of_squares(
    rows: Lists, number: jax.Array, there: jax.Array, pair_weights: jax.Array
) -> jax.Array:
    """The mean over all pairs of weight times the squared error of the gap."""

    def errors(of_i: Any, of_j: Any) -> tuple[jax.Array, jax.Array]:
        """Whether i and j are a pair, and the error of their gap."""
        (s, y, there, i, _), (t, z, too, j, _) = of_i, of_j
        pairs = (i != j) & there & too
        return pairs, jnp.where(pairs, (y - z) - (s - t), 0)

    def terms(of_i: Any, of_j: Any) -> list[jax.Array]:
        pairs, error = errors(of_i, of_j)
        weight, reverse = of_i[-1], of_j[-1]
        in_label = jnp.where(pairs, (weight + reverse) * (2 * error), 0)
        return [jnp.where(pairs, weight * error * error, 0), in_label]

    def all_at_once(documents: Any) -> tuple[jax.Array, ...]:
        """The terms, which read no weight of a pair (j, i): no array is transposed."""

        def each(of_i: Any, of_j: Any) -> list[jax.Array]:
            pairs, error = errors(of_i, of_j)
            weighed = _weighed(pairs, error, of_i[-1])
            return [weighed * error, 2 * weighed, 2 * weighed]

        total, ahead, behind = at_once(each, documents, over_i=1)
        return total, ahead - behind

    def evaluate(
        slopes: bool,
        s: jax.Array,
        y: jax.Array,
        pair_weights: jax.Array,
        number: jax.Array,
        there: jax.Array,
    ) -> Any:
        del slopes
        share = jnp.where(number > 1, 1 / jnp.maximum(number * (number - 1), 1), 0)
        documents = s, y, there, positions(s), pair_weights
        total, in_label = pair_sums(terms, documents, all_at_once)
        in_label = share[:, None] * in_label
        _, error = errors(*both(documents))
        in_weights = share[:, None, None] * error * error
        return share * jnp.sum(total, -1), (-in_label, in_label, in_weights)

    return with_slopes(evaluate)(rows.scores, rows.labels, pair_weights, number, there)


@jit("num_segments", "segment_size")
def pairwise_mse_loss(
    scores: Scores,
    labels: Labels,
    *,
    pair_weights: PairWeights = None,
    segments: SegmentNumbers = None,
    num_segments: int | None = None,
    segment_size: int | None = None,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Squared error of the gap between the scores of two documents.

        mean over the pairs i != j of w_ij ((y_i - y_j) - (s_i - s_j))^2

    A common offset of the scores or of the labels changes nothing. Documents of equal labels are
    pairs too. Without `pair_weights` it is computed without the pairs, as twice the unbiased
    variance of y - s. 0 with gradient 0 for a list of one document.

    Args:
        scores: s, `[..., documents]`, greater for a document that is to come first.
        labels: y, the shape of `scores`, greater for a document that is more relevant; any real
            numbers.
        pair_weights: w, `[..., documents, documents]`, such as `lambda_weights`; 1 if None. They
            multiply the terms, and the mean is still over the number of pairs.
        segments, num_segments, segment_size: See `ranking_softmax_loss`.
        where: Which lists count, or, of the shape of `scores`, which documents are there.
        weights, reduction: See `jaxloss.reduce`. A list without a pair does not count in the mean.

    Returns:
        One loss per list: the shape of `scores` without its last axis.

    Reference:
        Jagerman et al., "Rax: composable learning-to-rank using JAX", 2022; there the mean also
        counts the pairs i = j, whose error is 0.

    Example:
        >>> pairwise_mse_loss(jnp.array([[3.0, 1.0, 2.5]]), jnp.array([[2, 0, 1]]))
        Array([0.16666667], dtype=float32)
    """
    request = Request(where, weights, reduction)
    vectors = Segments(segments, num_segments, segment_size)
    weighed = pair_weights is not None
    rows = lists({"scores": scores, "labels": labels}, request, segments=vectors, together=weighed)
    number, checked = rows.sizes(), _checked(pair_weights, rows)
    there = jnp.ones_like(rows.scores, bool) if rows.there is None else rows.there
    if checked is None:
        losses = _mean_of_squares(rows, number, there)
    else:
        losses = _weighed_mean_of_squares(rows, number, there, checked)
    return rows.reduced(losses, counted=number > 1)
