"""Ranking a list as a whole, by softmaxes of each document and those that it competes with.

In the formulas s are the scores and y the labels of the documents of one list, along the last
axis.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from .._contract.jit import jit
from .._contract.reduce import Reduction, Request, Weights, Where
from .._numerics.kinks import with_slopes
from .._numerics.order import in_order, positions
from .._numerics.reductions import ordered_bits
from .._numerics.special import one_if_zero, sigmoids
from .._numerics.xla import along, looped
from .blocks import at_once
from .lists import DocumentWeights, Labels, Lists, Scores, SegmentNumbers, Segments, gains, lists


def _order(keys: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The order of the documents by rising keys; ties stay in order of index, NaN comes last.

    Returns:
        The index of the document at each place; the place of each document; whether the key at a
        place differs from that at the place before it.
    """
    codes, order, places = in_order(ordered_bits(jnp.where(keys == 0, 0, keys)))
    first = positions(codes)[:, :1] == 0
    return order, places, jnp.append(first, codes[:, 1:] > codes[:, :-1], -1)


def _along(step: Callable[..., Any], start: Any, columns: Any, reverse: bool = False) -> Any:
    """What the step of a `lax.scan` along the documents, of all lists at once, emits at each.

    Args:
        step: As `lax.scan` takes it, of arrays `[lists]`.
        start: The first carry.
        columns: A tree of arrays `[lists, documents]`.
        reverse: Whether to begin with the last document.
    """
    columns = jax.tree.map(jnp.transpose, columns)
    _, emitted = jax.lax.scan(step, start, columns, reverse=reverse)
    return jax.tree.map(jnp.transpose, emitted)


def _behind(s: jax.Array, last: jax.Array) -> tuple[jax.Array, jax.Array]:
    """log(sum of e^s_k) - s_i over the documents k after i, and over those after the ties of i.

    -inf if there is none. Sums are relative to their largest score: differences of scores are
    exact where scores are near each other.

    Args:
        s: Scores in the order of their labels.
        last: Whether a document is the last of its ties.
    """

    def step(carry: Any, document: Any) -> Any:
        after, lower = carry
        s, end = document
        lower = tuple(jnp.where(end, x, y) for x, y in zip(after, lower, strict=True))
        old, total = after
        top = jax.lax.stop_gradient(jnp.where(s > old, s, old))
        grown = jnp.exp(jnp.where(old == top, 0, old - top)) * total
        total = grown + jnp.exp(jnp.where(s == jnp.inf, 0, s - top))
        return ((top, total), lower), (after, lower)

    of_list = jnp.sum(s, -1)
    none = jnp.full_like(of_list, jnp.finfo(s.dtype).min), jnp.zeros_like(of_list)
    after, lower = _along(step, (none, none), (s, last), reverse=True)
    return _lead(s, *after), _lead(s, *lower)


def _lead(s: jax.Array, top: jax.Array, total: jax.Array) -> jax.Array:
    """log(sum of e^s_k) - s_i, of the largest s_k and a sum relative to it; -inf of a sum of 0."""
    some = total > 0
    size = jnp.log(jnp.where(some, total, 1))
    return jnp.where(some, top - jnp.where(some, s, 0) + size, -jnp.inf)


def _drawing_cost(rows: Lists, gain: jax.Array | None, ties: bool) -> jax.Array:
    """The sum of -log of the probability of each document to be drawn before those after it.

    Args:
        rows: Scores and labels.
        gain: A factor of each document's cost; None for 1.
        ties: Whether a document competes with all after it, its ties among them, and not with the
            documents of lower labels alone.
    """
    s = rows.filled(rows.scores, -jnp.inf)
    # Documents that are excluded read NaN: they come last, and are neither above nor below others.
    keys = rows.filled(-jax.lax.stop_gradient(rows.labels), jnp.nan)
    forms = (along(form, ties) for form in (_cost_in_order, _cost_of_pairs))
    return looped(*forms, s.shape[-1], s, keys, gain)


def _cost_in_order(ties: bool, s: jax.Array, keys: jax.Array, gain: jax.Array | None) -> jax.Array:
    """`_drawing_cost`, from one document to the next in the order of their keys."""

    def evaluate(
        slopes: bool,
        s: jax.Array,
        gain: jax.Array | None,
        order: jax.Array,
        places: jax.Array,
        fresh: jax.Array,
    ) -> Any:
        s = jnp.take_along_axis(s, order, -1)
        after, lower = _behind(s, jnp.append(fresh[:, 1:], jnp.ones_like(fresh[:, :1]), -1))
        cost, lost, _ = sigmoids(-lower)
        if gain is None:
            losses = jnp.sum(cost, -1)
        else:
            gain = jnp.take_along_axis(gain, order, -1)
            lost = gain * lost
            losses = jnp.sum(jnp.where(gain == 0, 0, gain * cost), -1)
        if not slopes:
            return losses, ()

        # Document k is a rival of every document before it but its ties, with a share of e^s_k in
        # the sum over that one and its rivals. The shares of one document and of the next differ by
        # the factor `left`, as their sums do.
        def step(carry: Any, document: Any) -> Any:
            shares, waiting, left_before = carry
            lost, own, left, fresh = document
            shares = shares * left_before + jnp.where(fresh, waiting, 0)
            waiting = jnp.where(fresh, 0, waiting) + lost
            return (shares, waiting, left), own * shares - lost

        _, left, own = sigmoids(-after)
        zero = jnp.zeros_like(losses)
        in_score = _along(step, (zero, zero, zero), (lost, own, left, fresh))
        in_gain = None if gain is None else jnp.take_along_axis(cost, places, -1)
        return losses, (jnp.take_along_axis(in_score, places, -1), in_gain)

    order, places, fresh = _order(keys)
    if ties:
        fresh = jnp.ones_like(fresh)
    return with_slopes(evaluate)(s, gain, order, places, fresh)


def _cost_of_pairs(ties: bool, s: jax.Array, keys: jax.Array, gain: jax.Array | None) -> jax.Array:
    """`_drawing_cost`, from all pairs of documents at once."""

    def rivals(of_i: Any, of_j: Any) -> jax.Array:
        """Whether i competes with j, which comes after it."""
        (_, key, place, *_), (_, other, later, *_) = of_i, of_j
        lower = key < other
        return lower | ((key == other) & (place < later)) if ties else lower

    def odds(of_i: Any, of_j: Any) -> jax.Array:
        """Of the rivals j of i, against the first of the best of them; 0 of what is no rival.

        The odds of that one are a constant: its derivatives in two ways would cancel each other.
        """
        (best, top), (s, _, place, *_) = of_i[3:5], of_j
        some = rivals(of_i, of_j) & (s > -jnp.inf)
        gap = jnp.where(some & (s < jnp.inf) & (place != best), s - top, 0)
        return jnp.where(some, jnp.exp(gap), 0)

    def scores_of_rivals(of_i: Any, of_j: Any) -> list[jax.Array]:
        return [jnp.where(rivals(of_i, of_j), of_j[0], -jnp.inf)]

    def score_of_best(of_i: Any, of_j: Any) -> list[jax.Array]:
        return [jnp.where(of_j[2] == of_i[3], of_j[0], 0)]

    def odds_of_rivals(of_i: Any, of_j: Any) -> list[jax.Array]:
        return [odds(of_i, of_j)]

    def lost_to_rival(of_i: Any, of_j: Any) -> list[jax.Array]:
        return [of_j[5] * odds(of_j, of_i)]

    def evaluate(
        slopes: bool, s: jax.Array, gain: jax.Array | None, keys: jax.Array, place: jax.Array
    ) -> Any:
        documents = s, keys, place
        (best,) = at_once(scores_of_rivals, jax.lax.stop_gradient(documents), _index_of_largest)
        (top,) = at_once(score_of_best, (*documents, best))
        (total,) = at_once(odds_of_rivals, (*documents, best, top))
        cost, lost, _ = sigmoids(-_lead(s, top, total))
        if gain is None:
            losses = jnp.sum(cost, -1)
        else:
            lost = gain * lost
            losses = jnp.sum(jnp.where(gain == 0, 0, gain * cost), -1)
        if not slopes:
            return losses, ()
        share = lost / one_if_zero(total)
        (in_score,) = at_once(lost_to_rival, (*documents, best, top, share))
        return losses, (in_score - lost, None if gain is None else cost)

    return with_slopes(evaluate)(s, gain, keys, positions(s))


def _index_of_largest(x: jax.Array, axis: int) -> jax.Array:
    """0 if there is none."""
    if not x.shape[axis]:
        return jnp.zeros(x.shape[:axis], jnp.int32)
    return jax.lax.argmax(x, axis % x.ndim, jnp.int32)


@jit("num_segments", "segment_size")
def listmle_loss(
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
    """Negative log-likelihood of the order of the labels under the Plackett-Luce model.

        sum over i, the greatest label first, of -log(e^s_i / (sum over k from i on of e^s_k))

    Documents are drawn one after the other without replacement, with odds e^s. Equal labels are
    taken in order of index. A document that is the last one left costs nothing.

    Args:
        scores: s, `[..., documents]`, greater for a document that is to come first.
        labels: y, the shape of `scores`, greater for a document that is more relevant; any real
            numbers, of which the order alone matters.
        document_weights: See `ranking_softmax_loss`.
        segments, num_segments, segment_size: See `ranking_softmax_loss`.
        where: Which lists count, or, of the shape of `scores`, which documents are there.
        weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per list: the shape of `scores` without its last axis.

    Reference:
        Xia et al., "Listwise approach to learning to rank: theory and algorithm", 2008, eq. 9.

    Example:
        >>> listmle_loss(jnp.array([[0.0, 0.0, 0.0]]), jnp.array([[1, 0, 2]]))
        Array([1.7917595], dtype=float32)
    """
    request = Request(where, weights, reduction)
    vectors = Segments(segments, num_segments, segment_size)
    data = {"scores": scores, "labels": labels}
    rows = lists(data, request, segments=vectors, factors=document_weights, together=True)
    return rows.reduced(_drawing_cost(rows, rows.factors, ties=True))


@jit("num_segments", "segment_size")
def unique_softmax_loss(
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
    """Softmax of each document among those of lower labels, so that equals do not compete.

        -(sum over i of (2^y_i - 1) log(e^s_i / (e^s_i + (sum over j with y_j < y_i of e^s_j))))

    0 with gradient 0 for a list whose labels are all equal. In the labels the gradient is that of
    the factor.

    Args:
        scores: s, `[..., documents]`, greater for a document that is to come first.
        labels: y, the shape of `scores`: relevance, 0 or more; negative labels give NaN.
        document_weights: See `ranking_softmax_loss`.
        segments, num_segments, segment_size: See `ranking_softmax_loss`.
        where: Which lists count, or, of the shape of `scores`, which documents are there.
        weights, reduction: See `jaxloss.reduce`. A list of equal labels does not count in the
            mean.

    Returns:
        One loss per list: the shape of `scores` without its last axis.

    Reference:
        Zhu and Klabjan, "Listwise learning to rank by exploring unique ratings", 2020, eq. 6.

    Example:
        >>> unique_softmax_loss(jnp.array([[2.0, 1.0, 3.0]]), jnp.array([[1, 0, 1]]))
        Array([0.4401897], dtype=float32)
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
        together=True,
    )
    gain = gains(rows.labels, relative=False)
    gain = gain if rows.factors is None else gain * rows.factors
    losses = _drawing_cost(rows, gain, ties=False)
    return rows.reduced(losses, counted=rows.ordered())
