"""Ranking by the measures of search engines, NDCG and reciprocal ranks, and weights of pairs.

In the formulas s are the scores and y the labels of the documents of one list, along the last
axis.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Float

from .._contract import inputs
from .._contract.jit import jit
from .._contract.prepared import Hyper, positive
from .._contract.reduce import Reduction, Request, Weights, Where
from .._numerics.kinks import closed_form, with_slopes
from .._numerics.order import argsort, descending
from .._numerics.special import one_if_zero, sigmoids
from .blocks import both, pair_sums
from .lists import Labels, Lists, Scores, SegmentNumbers, Segments, gains, lists
from .segments import whole_number

Kind = Literal["ndcg", "ndcg2", "ndcg2++"]
# Takes ranks; returns what a document counts for there, and the derivatives of that in the ranks.
Discount = Callable[[jax.Array], tuple[jax.Array, jax.Array]]
_LOG_2 = math.log(2)


def _logarithmic(rank: jax.Array) -> tuple[jax.Array, jax.Array]:
    size = jnp.log1p(rank)
    return _LOG_2 / size, -_LOG_2 / ((1 + rank) * (size * size))


def _reciprocal(rank: jax.Array) -> tuple[jax.Array, jax.Array]:
    return 1 / rank, -1 / (rank * rank)


@closed_form(lambda s, t: (-1.0, 1.0))
def _ahead(s: jax.Array, t: jax.Array) -> jax.Array:
    """t - s, and 0 of two equal scores, two of -inf among them: none is ahead."""
    return jnp.where(s == t, 0, t - s)


def _shortfall(discount: Discount, rows: Lists, gain: jax.Array, ideal: jax.Array) -> jax.Array:
    """1 - the sum over the documents of gain / ideal times the discount of the soft rank.

    Args:
        discount: Of a rank.
        rows: Scores, and the temperature.
        gain: What each document counts for, at a discount of 1.
        ideal: The largest sum of discounted gains; 0 in a list without a relevant document.
    """

    def compared(of_i: Any, of_j: Any) -> tuple[jax.Array, ...]:
        """By how many temperatures j is ahead of i, and the sigmoids of minus that and of that."""
        (s, scale, there, _), (t, _, too, _) = of_i, of_j
        ahead = _ahead(s, t)
        if there is not None:
            ahead = jnp.where(there & too, ahead, -jnp.inf)
        ahead = ahead / scale
        _, low, high = sigmoids(ahead)
        return ahead, low, high

    def ranks(of_i: Any, of_j: Any) -> list[jax.Array]:
        return [compared(of_i, of_j)[2]]

    def slopes_in_score(of_i: Any, of_j: Any) -> list[jax.Array]:
        _, low, high = compared(of_i, of_j)
        return [low * high * (of_j[3] - of_i[3])]

    def slopes_in_scale(of_i: Any, of_j: Any) -> list[jax.Array]:
        ahead, low, high = compared(of_i, of_j)
        slope = low * high
        return [jnp.where(slope == 0, 0, slope * ahead)]

    def evaluate(
        slopes: bool, s: jax.Array, share: jax.Array, scale: jax.Array, there: jax.Array | None
    ) -> Any:
        documents = s, jnp.broadcast_to(scale[:, None], s.shape), there
        # The sum has 1/2 for the document itself, which is to count 1.
        rank = 0.5 + pair_sums(ranks, (*documents, None))[0]
        worth, steepness = discount(rank)
        # Rounding must not make the best of lists better than the best.
        losses = jnp.maximum(1 - jnp.sum(share * worth, -1), 0)
        if not slopes:
            return losses, ()
        in_rank = -share * steepness
        inverse = 1 / scale
        in_score = inverse[:, None] * pair_sums(slopes_in_score, (*documents, in_rank))[0]
        # In a loop of its own, which the compiler drops if the temperature is not trained.
        of_scale = pair_sums(slopes_in_scale, (*documents, None))[0]
        in_scale = -inverse * jnp.sum(in_rank * of_scale, -1)
        return losses, (in_score, -worth, in_scale)

    s, _, scale = rows.arrays
    return with_slopes(evaluate)(s, _shares(gain, ideal), scale, rows.there)


def _ideal(gain: jax.Array, discounts: _Discounts | None = None) -> jax.Array:
    """The DCG of the best order."""
    rank = 1 + jax.lax.broadcasted_iota(gain.dtype, gain.shape, 1)
    worth = _logarithmic(rank)[0] if discounts is None else discounts.of(rank)
    return jnp.sum(descending(gain) * worth, -1)


def _shares(gain: jax.Array, ideal: jax.Array) -> jax.Array:
    """Gains over the ideal, 0 if that is 0."""
    return gain / one_if_zero(ideal)[:, None]


@jit("num_segments", "segment_size")
def approx_ndcg_loss(
    scores: Scores,
    labels: Labels,
    *,
    temperature: ArrayLike = 0.1,
    segments: SegmentNumbers = None,
    num_segments: int | None = None,
    segment_size: int | None = None,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """How much of the best discounted gain is missed, with ranks that are sums of sigmoids.

        1 - (sum over i of g_i / log2(1 + r_i)) / (the same sum in the best order)
        g_i = 2^y_i - 1,  r_i = 1 + (sum over j != i of 1 / (1 + e^((s_i - s_j) / temperature)))

    As the temperature goes to 0 this is 1 - NDCG. 0 with gradient 0 for a list without a relevant
    document. In the labels the gradient is that of the formula with the best order held fixed,
    where equal labels stay in order of index.

    Args:
        scores: s, `[..., documents]`, greater for a document that is to come first.
        labels: y, the shape of `scores`: relevance, 0 or more; negative labels give NaN.
        temperature: Over which gap of scores two documents change places, positive: one number,
            or one for each list. Far below the gaps nothing trains.
        segments, num_segments, segment_size: See `ranking_softmax_loss`.
        where: Which lists count, or, of the shape of `scores`, which documents are there.
        weights, reduction: See `jaxloss.reduce`. A list without a relevant document does not
            count in the mean.

    Returns:
        One loss per list, from 0 to 1: the shape of `scores` without its last axis. It loops over
        blocks of pairs: a list of 16,384 documents takes some MiB.

    Reference:
        Qin, Liu and Li, "A general approximation framework for direct optimization of information
        retrieval measures", 2010; Bruch et al., "Revisiting approximate metric optimization in
        the age of deep neural networks", 2019.

    Example:
        >>> approx_ndcg_loss(jnp.array([[2.0, 1.0, 3.0]]), jnp.array([[1, 0, 0]]))
        Array([0.36907], dtype=float32)
    """
    request, data = Request(where, weights, reduction), {"scores": scores, "labels": labels}
    vectors = Segments(segments, num_segments, segment_size)
    sharpness = Hyper(temperature, positive)
    rows = lists(
        data, request, segments=vectors, relevance=True, together=True, temperature=sharpness
    )
    gain = gains(rows.labels)
    ideal = _ideal(gain)
    losses = _shortfall(_logarithmic, rows, gain, ideal)
    return rows.reduced(losses, counted=ideal > 0)


@jit("num_segments", "segment_size")
def approx_mrr_loss(
    scores: Scores,
    labels: Labels,
    *,
    temperature: ArrayLike = 0.1,
    segments: SegmentNumbers = None,
    num_segments: int | None = None,
    segment_size: int | None = None,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """1 - the mean reciprocal rank of the relevant documents, with ranks that are sums of sigmoids.

        1 - (sum over i of y_i / r_i) / (sum over i of y_i)
        r_i = 1 + (sum over j != i of 1 / (1 + e^((s_i - s_j) / temperature)))

    As in TF-Ranking the mean is over all relevant documents of a list, weighed by their labels,
    where the measure counts the first of them alone. 0 with gradient 0 for a list without a
    relevant document.

    Args:
        scores: s, `[..., documents]`, greater for a document that is to come first.
        labels: y, the shape of `scores`: relevance, 0 or more; negative labels give NaN.
        temperature: See `approx_ndcg_loss`.
        segments, num_segments, segment_size: See `ranking_softmax_loss`.
        where: Which lists count, or, of the shape of `scores`, which documents are there.
        weights, reduction: See `jaxloss.reduce`. A list without a relevant document does not
            count in the mean.

    Returns:
        One loss per list, from 0 to 1: the shape of `scores` without its last axis. Memory as in
        `approx_ndcg_loss`.

    Reference:
        Qin, Liu and Li, "A general approximation framework for direct optimization of information
        retrieval measures", 2010.

    Example:
        >>> approx_mrr_loss(jnp.array([[2.0, 1.0, 3.0]]), jnp.array([[1, 0, 0]]))
        Array([0.5], dtype=float32)
    """
    request, data = Request(where, weights, reduction), {"scores": scores, "labels": labels}
    vectors = Segments(segments, num_segments, segment_size)
    sharpness = Hyper(temperature, positive)
    rows = lists(
        data, request, segments=vectors, relevance=True, together=True, temperature=sharpness
    )
    total = jnp.sum(rows.labels, -1)
    losses = _shortfall(_reciprocal, rows, rows.labels, total)
    return rows.reduced(losses, counted=total > 0)


def _given(name: str, function: Callable[[jax.Array], jax.Array], x: jax.Array) -> jax.Array:
    """What a function of the user returns, of the shape of what it takes."""
    found = inputs.real(name, function(x))
    got = inputs.described(**{name: found})
    inputs.check_shape(found, x.shape, f"{name} must return an array {list(x.shape)}, got {got}")
    return jax.lax.stop_gradient(found.astype(x.dtype))


class _Discounts(NamedTuple):
    """What a document counts for at a rank.

    Attributes:
        function: That of the user; None for 1 / log2(1 + r).
        top: The last rank that counts; None for all.
    """

    function: Callable[[jax.Array], jax.Array] | None = None
    top: int | None = None

    def whole(self, rank: jax.Array) -> jax.Array:
        """As if all ranks counted."""
        if self.function is None:
            return _logarithmic(rank)[0]
        return _given("discount_fn", self.function, rank)

    def of(self, rank: jax.Array) -> jax.Array:
        found = self.whole(rank)
        return found if self.top is None else jnp.where(rank <= self.top, found, 0)

    def apart(self, rank: jax.Array, other: jax.Array) -> jax.Array:
        """|D(r) - D(q)|, with all digits also where the two are near."""
        low, high = jnp.minimum(rank, other), jnp.maximum(rank, other)
        if self.function is not None:
            return jnp.abs(self.of(low) - self.of(high))
        gap = jnp.log1p((high - low) / (1 + low))
        apart = _LOG_2 * gap / (jnp.log1p(low) * jnp.log1p(high))
        if self.top is None:
            return apart
        return jnp.where(high <= self.top, apart, self.of(low))

    def bound(self, rank: jax.Array, other: jax.Array) -> jax.Array:
        """|D(p) - D(p + 1)| of two documents that are p places apart; 0 of one and itself."""
        places = jnp.maximum(rank - other, other - rank)
        one = jnp.maximum(places, 1)
        bound = self._replace(top=None).apart(one, one + 1)
        if self.top is not None:
            last = jnp.maximum(rank, other)
            beyond = last > self.top
            bound = jnp.where(beyond, bound / (1 - self.whole(jnp.where(beyond, last, 2))), bound)
        return jnp.where(places == 0, 0, bound)


@jit("kind", "topn", "normalize", "gain_fn", "discount_fn", "num_segments", "segment_size")
def lambda_weights(
    scores: Scores,
    labels: Labels,
    *,
    kind: Kind = "ndcg",
    mu: ArrayLike = 10.0,
    topn: int | None = None,
    normalize: bool = True,
    gain_fn: Callable[[jax.Array], jax.Array] | None = None,
    discount_fn: Callable[[jax.Array], jax.Array] | None = None,
    segments: SegmentNumbers = None,
    num_segments: int | None = None,
    segment_size: int | None = None,
    where: Where = None,
) -> Float[jax.Array, "*batch documents documents"]:
    """Weights of pairs for `pairwise_logistic_loss` that make it LambdaRank or LambdaLoss.

        ndcg      |G_i - G_j| d(r_i, r_j)
        ndcg2     |G_i - G_j| d(|r_i - r_j|, |r_i - r_j| + 1)
        ndcg2++   |G_i - G_j| (d(r_i, r_j) + mu d(|r_i - r_j|, |r_i - r_j| + 1))

    with d(r, q) = |D(r) - D(q)|, the discount D(r) = 1 / log2(1 + r), the ranks r of the scores,
    the greatest first and ties in order of index, and the gain G = 2^y - 1, over the DCG of the
    best order. "ndcg" is by how much NDCG changes when the two documents change places. No loss,
    but constants: there is no derivative in scores or labels.

    With `topn` the discount of ranks beyond it is 0, in the best order too; in the bound, of the
    pairs with a document beyond it, d is divided by 1 - D(the greater of both ranks) instead.

    Args:
        scores: s, `[..., documents]`.
        labels: y, the shape of `scores`: relevance, 0 or more; negative labels give NaN.
        kind: "ndcg" for LambdaRank, "ndcg2" for the bound of LambdaLoss, "ndcg2++" for both.
        mu: What the bound counts for in "ndcg2++": one number, or one for each list.
        topn: How many places count, a positive integer; all of them if None.
        normalize: Whether gains are divided by the DCG of the best order; the weights of DCG else.
        gain_fn: Takes labels and returns gains, of the same shape; 2^y - 1 if None. It is
            compiled: give the same function in each call.
        discount_fn: Takes ranks, from 1, and returns discounts, which fall; 1 / log2(1 + r) if
            None. For the bound of LambdaLoss with `topn` they must be below 1 beyond it.
        segments, num_segments, segment_size: See `ranking_softmax_loss`.
        where: Which lists count, or, of the shape of `scores`, which documents are there.

    Returns:
        `[..., documents, documents]`, symmetric; 0 in a list without a relevant document, on the
        diagonal, and for documents that are excluded. With segments
        `[..., num_segments, segment_size, segment_size]`, the documents of each list in order of
        index, which is what losses with the same segments take as `pair_weights`.

    Raises:
        ValueError: If `topn` is not a positive integer, or what `gain_fn` or `discount_fn` returns
            has another shape than what it takes.

    Reference:
        Burges, "From RankNet to LambdaRank to LambdaMART: an overview", 2010, section 4; Wang et
        al., "The LambdaLoss framework for ranking metric optimization", 2018, eq. 16 to 18. The
        bound with `topn`: Jagerman et al., "On optimizing top-K metrics for neural ranking models",
        2022.

    Example:
        >>> lambda_weights(jnp.array([3.0, 1.0]), jnp.array([1, 0]))
        Array([[0.     , 0.36907],
               [0.36907, 0.     ]], dtype=float32)
    """
    inputs.one_of("kind", kind, get_args(Kind))
    if topn is not None:
        whole_number("topn", topn)
    for name, function in (("gain_fn", gain_fn), ("discount_fn", discount_fn)):
        if function is not None:
            inputs.check_function(name, function)
    data = {"scores": scores, "labels": labels}
    vectors = Segments(segments, num_segments, segment_size)
    request = Request(where)
    rows = lists(data, request, segments=vectors, relevance=True, together=True, mu=Hyper(mu))
    s, y, mu = rows.arrays
    s, y = jax.lax.stop_gradient((s, y))
    if gain_fn is None:
        gain = gains(y, relative=normalize)
    else:
        gain = rows.filled(_given("gain_fn", gain_fn, y), 0)
    discounts = _Discounts(discount_fn, topn)
    if normalize:
        gain = _shares(gain, _ideal(gain, discounts))
    keys = rows.filled(-s, jnp.inf)
    rank = 1 + argsort(argsort(keys)).astype(gain.dtype)
    (g, r, there), (h, q, too) = both((gain, rank, rows.there))

    apart = discounts.apart(r, q) if kind != "ndcg2" else 0
    if kind != "ndcg":
        bound = discounts.bound(r, q)
        apart = bound if kind == "ndcg2" else apart + mu[:, None, None] * bound
    weights = jnp.maximum(g - h, h - g) * apart
    weights = inputs.nan_outside(weights, rows.known.reshape(-1, 1, 1))
    if rows.there is not None:
        weights = jnp.where(there & too, weights, 0)
    return weights.reshape(*rows.shape, *weights.shape[1:])
