"""Ranking by pairs: who of two documents belongs before the other.

In the formulas s are the scores and y the labels of the documents of one list, along the last
axis. Sums over pairs need memory for the documents and not for their pairs: a list of 16,384
documents takes some MiB for value and gradient. `pair_weights` is an array of all pairs.
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
from .._contract.reduce import Losses, Reduction, Weights, Where
from .._numerics.kinks import with_slopes
from .._numerics.special import sigmoids
from .lists import Labels, Lists, Scores, lists, pair_sums

PairWeights = Real[ArrayLike, "*batch documents documents"] | Sequence[Any] | None
# Of gaps: the losses, and their slopes in the gaps.
Cost = Callable[[jax.Array], tuple[jax.Array, jax.Array]]


def _square(pair_weights: PairWeights, rows: Lists) -> tuple[jax.Array, ...]:
    """The weights of pairs `[lists, documents, documents]`, or nothing."""
    if pair_weights is None:
        return ()
    array, size = inputs.real("pair_weights", pair_weights), rows.scores.shape[-1]
    wanted = (*rows.shape, size, size)
    message = (
        f"pair_weights must have the shape {list(wanted)} of all pairs of the scores, "
        f"got {inputs.described(pair_weights=array)}"
    )
    inputs.check_shapes([array, jnp.broadcast_to(0, wanted)], custom_message=message)
    return (array.reshape(-1, size, size).astype(rows.scores.dtype),)


def _both(x: Sequence[jax.Array]) -> tuple[list[jax.Array], list[jax.Array]]:
    """What is known of documents, for i and for j."""
    return [a[:, :, None] for a in x], [a[:, None, :] for a in x]


def _ranked(cost: Cost, rows: Lists, margin: jax.Array, *square: jax.Array) -> jax.Array:
    """The mean of a cost of s_i - s_j - margin over the pairs with y_i > y_j; 0 without a pair."""

    def compared(near: Any, far: Any) -> tuple[jax.Array, ...]:
        (s, y, wide), (t, z, _) = near, far
        above, below = y > z, y < z
        # By how much the one that belongs before the other is ahead.
        gap = jnp.where(above, s - t, jnp.where(below, t - s, 0)) - wide
        return above, below, *cost(gap)

    def values(near: Any, far: Any, *weights: jax.Array) -> list[jax.Array]:
        above, _, value, _ = compared(near, far)
        return [above.astype(value.dtype), _weighed(above, value, weights[:1])]

    def all_terms(near: Any, far: Any, *weights: jax.Array) -> list[jax.Array]:
        above, below, value, slope = compared(near, far)
        won, lost = _weighed(above, slope, weights[:1]), _weighed(below, slope, weights[1:])
        return [above.astype(value.dtype), _weighed(above, value, weights[:1]), won - lost]

    def lead(near: Any, far: Any, *weights: jax.Array) -> list[jax.Array]:
        above, _, _, slope = compared(near, far)
        return [_weighed(above, slope, weights[:1])]

    def evaluate(slopes: bool, s: jax.Array, margin: jax.Array, *others: jax.Array) -> Any:
        *weights, y = others
        documents = s, y, jnp.broadcast_to(margin[:, None], s.shape)
        number, total, *turned = pair_sums(all_terms if slopes else values, documents, *weights)
        number = jnp.sum(number, -1)
        share = 1 / jnp.where(number > 0, number, 1)
        losses = share * jnp.sum(total, -1)
        if not slopes:
            return losses, ()
        # A loop of its own, which the compiler drops where the margin is not trained.
        in_margin = -share * jnp.sum(pair_sums(lead, documents, *weights)[0], -1)
        partial = [share[:, None] * turned[0], in_margin]
        if weights:
            terms = values(*_both(documents))[1]
            partial.append(share[:, None, None] * terms)
        return losses, tuple(partial)

    # A comparison with NaN is false: a document that is excluded is in no pair.
    y = jax.lax.stop_gradient(rows.filled(rows.labels, jnp.nan))
    return with_slopes(evaluate)(rows.scores, margin, *square, y)


def _weighed(pairs: jax.Array, x: jax.Array, weight: Sequence[jax.Array]) -> jax.Array:
    """Of the pairs alone: `x`, times the weight if there is one."""
    return jnp.where(pairs, x * weight[0] if weight else x, 0)


def _logistic(gap: jax.Array) -> tuple[jax.Array, jax.Array]:
    cost, low, _ = sigmoids(gap)
    return cost, -low


def _hinge(gap: jax.Array) -> tuple[jax.Array, jax.Array]:
    slope = jnp.where(gap > 0, 0, jnp.where(gap <= 0, -1, gap))
    return jnp.where(gap > 0, 0, -gap), slope.astype(gap.dtype)


@jit()
def pairwise_logistic_loss(
    scores: Scores,
    labels: Labels,
    *,
    pair_weights: PairWeights = None,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> Losses:
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
    rows = lists({"scores": scores, "labels": labels}, where)
    losses = _ranked(_logistic, rows, rows.option("margin", 0), *_square(pair_weights, rows))
    return rows.reduced(losses, weights, reduction, rows.ordered())


@jit()
def pairwise_hinge_loss(
    scores: Scores,
    labels: Labels,
    *,
    margin: ArrayLike = 1.0,
    pair_weights: PairWeights = None,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> Losses:
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
    rows = lists({"scores": scores, "labels": labels}, where)
    losses = _ranked(_hinge, rows, rows.option("margin", margin), *_square(pair_weights, rows))
    return rows.reduced(losses, weights, reduction, rows.ordered())


def _variance(rows: Lists, there: jax.Array, number: jax.Array) -> jax.Array:
    """Twice the unbiased variance of y - s: the mean over the pairs, without the pairs."""

    def evaluate(
        slopes: bool, s: jax.Array, y: jax.Array, number: jax.Array, there: jax.Array
    ) -> Any:
        del slopes

        def centred(x: jax.Array) -> jax.Array:
            # Of what is above the least: a common offset then costs no digits.
            least = jnp.min(jnp.where(there, x, jnp.inf), -1, keepdims=True, initial=jnp.inf)
            x = jnp.where(there, x - jax.lax.stop_gradient(least), 0)
            mean = jnp.sum(x, -1, keepdims=True) / jnp.maximum(number, 1)[:, None]
            return jnp.where(there, x - mean, 0)

        error = centred(y) - centred(s)
        share = jnp.where(number > 1, 2 / jnp.maximum(number - 1, 1), 0)
        slope = 2 * share[:, None] * error
        return share * jnp.sum(error * error, -1), (-slope, slope)

    return with_slopes(evaluate)(rows.scores, rows.labels, number, there)


def _squared_gaps(rows: Lists, there: jax.Array, number: jax.Array, square: jax.Array) -> jax.Array:
    """The mean over all pairs of weight times the squared error of the gap."""

    def gaps(near: Any, far: Any) -> tuple[jax.Array, jax.Array]:
        (s, y, there, i), (t, z, too, j) = near, far
        pairs = (i != j) & there & too
        return pairs, jnp.where(pairs, (y - z) - (s - t), 0)

    def terms(near: Any, far: Any, weight: jax.Array, reverse: jax.Array) -> list[jax.Array]:
        pairs, error = gaps(near, far)
        turned = jnp.where(pairs, (weight + reverse) * (2 * error), 0)
        return [jnp.where(pairs, weight * error * error, 0), turned]

    def evaluate(
        slopes: bool,
        s: jax.Array,
        y: jax.Array,
        square: jax.Array,
        number: jax.Array,
        there: jax.Array,
    ) -> Any:
        del slopes
        share = jnp.where(number > 1, 1 / jnp.maximum(number * (number - 1), 1), 0)
        documents = s, y, there, jax.lax.broadcasted_iota(jnp.int32, s.shape, 1)
        total, slope = pair_sums(terms, documents, square)
        slope = share[:, None] * slope
        _, errors = gaps(*_both(documents))
        in_square = share[:, None, None] * errors * errors
        return share * jnp.sum(total, -1), (-slope, slope, in_square)

    return with_slopes(evaluate)(rows.scores, rows.labels, square, number, there)


@jit()
def pairwise_mse_loss(
    scores: Scores,
    labels: Labels,
    *,
    pair_weights: PairWeights = None,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> Losses:
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
    rows = lists({"scores": scores, "labels": labels}, where)
    number, square = rows.size(), _square(pair_weights, rows)
    there = jnp.ones(rows.scores.shape, bool) if rows.there is None else rows.there
    losses = (_squared_gaps if square else _variance)(rows, there, number, *square)
    return rows.reduced(losses, weights, reduction, number > 1)
