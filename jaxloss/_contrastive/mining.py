"""Triplets that are found in a batch with labels.

There are as many triplets as the cube of the batch, of which none is stored: their memory is that
of the pairs.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from .._contract import inputs
from .._contract.devices import AxisName
from .._contract.jit import jit
from .._contract.prepared import Hyper, any_number
from .._contract.reduce import Reduction, Request, Weights, Where
from .._numerics.kinks import derivative_only
from .._numerics.order import positions
from .._numerics.special import softplus
from .._numerics.xla import at_most, in_steps, keep_out_of_sum
from .batch import Average, Embeddings, Identities, labelled, total
from .distances import Distance, check_distance
from .references import Labels, Places, References, There, Vectors

Mining = Literal["all", "hard", "semi_hard"]

# Up to this many triplets of a batch, those of 1024 examples, all of them are looked at in one
# reduction, also if few are of a positive and a negative. Of more a loop takes less time.
_TRIPLETS = 2**30


def _first(hit: jax.Array) -> jax.Array:
    """The index of the first true entry of each row, axis kept; the number of columns if none."""
    size = hit.shape[-1]
    return jnp.min(jnp.where(hit, positions(hit), size), -1, keepdims=True, initial=size)


def _nearest(d: jax.Array, present: jax.Array) -> jax.Array:
    """The least distance of the partners that are present, axis kept; inf if none is."""
    return jnp.min(jnp.where(present, d, jnp.inf), -1, keepdims=True, initial=jnp.inf)


def _farthest(d: jax.Array, present: jax.Array) -> jax.Array:
    """The greatest distance of the partners that are present, axis kept; -inf if none is."""
    return jnp.max(jnp.where(present, d, -jnp.inf), -1, keepdims=True, initial=-jnp.inf)


def _mined_negative(
    mining: Mining, d: jax.Array, negative: jax.Array, to_positive: jax.Array
) -> jax.Array:
    """The distance of the negative that is taken with a positive of each anchor, axis kept."""
    if mining == "hard":
        return _nearest(d, negative)
    farther = _nearest(d, negative & (d > to_positive))
    return jnp.where(farther == jnp.inf, _farthest(d, negative), farther)


class _HingeSums(NamedTuple):
    """Sums over triplets of each anchor, the axis of the partners kept.

    Attributes:
        value: Of the hinges max(0, d(a, p) - d(a, n) + margin).
        slopes: Of their derivatives in the distance of each partner.
        active: Of their derivatives in the margin: how many hinges are active.
    """

    value: jax.Array
    slopes: jax.Array
    active: jax.Array


def _against_negatives(
    mining: Mining,
    d: jax.Array,
    margin: jax.Array,
    negative: jax.Array,
    to_positive: jax.Array,
    is_positive: jax.Array,
) -> _HingeSums:
    """Sums over the triplets of one positive of each anchor.

    Args:
        mining: Which negatives make triplets with it.
        d: The distances of all pairs.
        margin: One for each anchor.
        negative: Which partners are negatives.
        to_positive: The distance of the positive.
        is_positive: Which partner is the positive.
    """
    if mining == "all":
        excess = to_positive - d + margin
        active = negative & ~(excess < 0)
        hinges = jnp.where(active, excess, 0)
        count = jnp.sum(active, -1, keepdims=True, dtype=jnp.int32).astype(d.dtype)
        slopes = jnp.where(is_positive, count, 0) - active.astype(d.dtype)
        return _HingeSums(jnp.sum(hinges, -1, keepdims=True), slopes, count)
    to_negative = _mined_negative(mining, d, negative, to_positive)
    excess = to_positive - to_negative + margin
    active = ~(excess < 0)
    is_negative = positions(d) == _first(negative & (d == to_negative))
    slopes = jnp.where(active, is_positive.astype(d.dtype) - is_negative.astype(d.dtype), 0)
    return _HingeSums(jnp.where(active, excess, 0), slopes, active.astype(d.dtype))


def _in_loop(
    mining: Mining, d: jax.Array, margin: jax.Array, positive: jax.Array, negative: jax.Array
) -> _HingeSums:
    """Sums over all triplets of each anchor: one positive of every anchor at a time."""
    column = positions(d)

    def next_positive(
        _: jax.Array, state: tuple[jax.Array, _HingeSums]
    ) -> tuple[jax.Array, _HingeSums]:
        """Add the triplets of one more positive of every anchor that has one left."""
        last, so_far = state
        following = _first(positive & (column > last))
        left = following < d.shape[-1]
        is_positive = column == following
        to_positive = jnp.sum(jnp.where(is_positive, d, 0), -1, keepdims=True)
        found = _against_negatives(mining, d, margin, negative, to_positive, is_positive)
        return following, jax.tree.map(lambda a, b: a + jnp.where(left, b, 0), so_far, found)

    most = jnp.max(jnp.sum(positive, -1, dtype=jnp.int32), initial=0)
    before = jnp.full_like(_first(positive), -1)
    none = jnp.zeros_like(before, d.dtype)
    start = before, _HingeSums(none, jnp.zeros_like(d), none)
    return jax.lax.fori_loop(0, most, next_positive, start)[1]


def _at_once(
    mining: Mining, d: jax.Array, margin: jax.Array, positive: jax.Array, negative: jax.Array
) -> _HingeSums:
    """The same sums, of reductions of arrays `[..., anchors, positives, negatives]`."""
    to_positive, to_negative = d[..., :, None], d[..., None, :]
    is_negative = negative[..., None, :]
    if mining == "all":
        excess = to_positive - to_negative + margin[..., None]
        active = positive[..., :, None] & is_negative & ~(excess < 0)
        hinges = jnp.sum(jnp.where(active, excess, 0), -1)
        positives, negatives = (jnp.sum(active, i, dtype=jnp.int32) for i in (-1, -2))
    else:
        farther = jnp.where(is_negative & (to_negative > to_positive), to_negative, jnp.inf)
        nearest = jnp.min(farther, -1, initial=jnp.inf)
        nearest = jnp.where(nearest == jnp.inf, _farthest(d, negative), nearest)
        excess = d - nearest + margin
        hit = positive & ~(excess < 0)
        hinges = jnp.where(hit, excess, 0)
        level = is_negative & (to_negative == nearest[..., None])
        index = positions(d)[..., None, :]
        taken = jnp.min(jnp.where(level, index, d.shape[-1]), -1, initial=d.shape[-1])
        negatives = jnp.sum(hit[..., None] & (taken[..., None] == index), -2, dtype=jnp.int32)
        positives = hit.astype(jnp.int32)
    value, count = (jnp.sum(x, -1, keepdims=True) for x in (hinges, positives))
    return _HingeSums(value, (positives - negatives).astype(d.dtype), count.astype(d.dtype))


@functools.cache
def _forms(mining: Mining) -> tuple[Callable[..., _HingeSums], Callable[..., _HingeSums]]:
    return functools.partial(_in_loop, mining), functools.partial(_at_once, mining)


def _mined(
    mining: Mining, d: jax.Array, margin: jax.Array, positive: jax.Array, negative: jax.Array
) -> _HingeSums:
    """Sums over all triplets of each anchor that the mining takes."""
    margin = margin[..., None]
    if mining == "hard":
        to_positive = _farthest(d, positive)
        is_positive = positions(d) == _first(positive & (d == to_positive))
        return _against_negatives(mining, d, margin, negative, to_positive, is_positive)
    loop, at_once = _forms(mining)
    if not at_most(d.shape[-2] * d.shape[-1] ** 2, _TRIPLETS):
        at_once = loop
    return in_steps(loop, at_once, d, margin, positive, negative)


def _soft_against_negatives(
    mining: Mining, d: jax.Array, negative: jax.Array, is_positive: jax.Array
) -> jax.Array:
    """The sum of log(1 + exp(d(a, p) - d(a, n))) over the triplets of one positive of each anchor.

    Of derivatives d(a, p) and d(a, n) have some, and which triplets there are has none.
    """
    to_positive = jnp.sum(jnp.where(is_positive, d, 0), -1, keepdims=True)
    if mining == "all":
        return total(softplus(to_positive - d), negative)
    fixed, at = jax.lax.stop_gradient((d, to_positive))
    level = negative & (fixed == _mined_negative(mining, fixed, negative, at))
    is_negative = positions(d) == _first(level)
    to_negative = jnp.sum(jnp.where(is_negative, d, 0), -1, keepdims=True)
    return softplus(to_positive - to_negative)[..., 0]


def _soft_sums(mining: Mining, d: jax.Array, positive: jax.Array, negative: jax.Array) -> jax.Array:
    """The sums of log(1 + exp(d(a, p) - d(a, n))) over all triplets that the mining takes.

    One positive of every anchor at a time; steps without any are left out. Reverse mode computes
    the steps again, and stores no triplets.
    """
    column = positions(d)
    if mining == "hard":
        fixed = jax.lax.stop_gradient(d)
        farthest = _first(positive & (fixed == _farthest(fixed, positive)))
        return _soft_against_negatives(mining, d, negative, column == farthest)

    @jax.checkpoint
    def next_positive(
        state: tuple[jax.Array, jax.Array], _: jax.Array
    ) -> tuple[tuple[jax.Array, jax.Array], None]:
        last, so_far = state
        following = _first(positive & (column > last))

        def triplets(d: jax.Array) -> jax.Array:
            found = _soft_against_negatives(mining, d, negative, column == following)
            return jnp.where(following[..., 0] < d.shape[-1], found, 0)

        some = jnp.any(following < d.shape[-1])
        more = jax.lax.cond(some, triplets, lambda d: jnp.zeros_like(d[..., 0]), d)
        return (following, so_far + more), None

    before = jnp.full_like(_first(positive), -1)
    start = before, jnp.zeros_like(before[..., 0], d.dtype)
    return jax.lax.scan(next_positive, start, jnp.arange(d.shape[-1]))[0][1]


@jit("mining", "distance", "average", "axis_name")
def batch_triplet_loss(
    embeddings: Embeddings,
    labels: Identities,
    *,
    mining: Mining = "semi_hard",
    margin: ArrayLike | None = 1.0,
    distance: Distance = "euclidean",
    average: Average = "anchors",
    references: Vectors = None,
    reference_labels: Labels = None,
    reference_where: There = None,
    own_reference: Places = None,
    axis_name: AxisName = None,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Triplet loss with the triplets mined in the batch.

        max(0, d(a, p) - d(a, n) + margin)

    with distances d, of each anchor a and

        all        every positive p with every negative n: the mean
        hard       the farthest positive with the nearest negative
        semi_hard  every positive with the nearest negative that is farther than it, or with the
                   farthest negative if none is: the mean over the positives

    Positives are the other examples of the anchor's label, negatives those of other labels. A tie
    on the margin trains, with slope 1; of equally far examples the first is taken; between equal
    embeddings a distance has slope 0. Which triplets are taken is held constant by derivatives.

    The time of "all" and "semi_hard" grows with the positives of the anchor that has most of them,
    or, on accelerators in batches of up to 1024, with the cube of the batch.

    Args:
        embeddings: Shape `[..., N, D]`.
        labels: Integers of shape `[..., N]`: equal ones are positives of each other.
        mining: "all", "hard" or "semi_hard".
        margin: By how much negatives should be farther, a number or one for each anchor; None for
            the soft margin, log(1 + exp(d(a, p) - d(a, n))).
        distance: "euclidean"; "squared", its square; "cosine", 1 less the cosine; or the degree of
            a norm, a Python number of at least 1: 1 for the sum of the gaps, inf for the largest.
        average: "anchors" for the means above, or "active": an anchor's loss is the sum over its
            triplets, and it counts in a mean as often as it has triplets whose hinge is active, on
            the margin included. Of the soft margin all are.
        references, reference_labels, reference_where, own_reference: See `ntxent`.
        axis_name: See `ntxent`.
        where: Which examples are there at all, shape `[..., N]`; see `jaxloss.reduce`.
        weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per anchor, shape `[..., N]`. An anchor that lacks a positive or a negative has
        loss 0 and is left out of the mean; triplets of loss 0 are not, but for "active".

    Reference:
        Schroff, Kalenichenko and Philbin, "FaceNet: a unified embedding for face recognition and
        clustering", 2015, https://arxiv.org/abs/1503.03832 (semi-hard, there of squared distances
        and without a word on anchors that have no such negative); Hermans, Beyer and Leibe,
        "In defense of the triplet loss for person re-identification", 2017,
        https://arxiv.org/abs/1703.07737 (all, hard, the soft margin, and the mean over what is
        active).

    Example:
        >>> x = jnp.array([[0.0], [1.0], [1.5], [3.0]])
        >>> batch_triplet_loss(x, jnp.array([0, 0, 1, 1]))
        Array([0.5, 0. , 1. , 0.5], dtype=float32)
    """
    inputs.one_of("mining", mining, get_args(Mining))
    inputs.one_of("average", average, get_args(Average))
    check_distance(distance)
    request = Request(where, weights, reduction)
    bank = References(references, reference_labels, reference_where, own_reference, axis_name)
    hyper = {"margin": Hyper(margin, any_number, off=(None,))}
    pairs = labelled(embeddings, labels, request, axis_name, bank, **hyper)
    _, limit = pairs.arrays
    d = pairs.distances(distance)
    each = jnp.ones(pairs.shape, pairs.dtype) if mining == "hard" else pairs.positives()
    if limit is None:
        losses = _soft_sums(mining, d, pairs.positive, pairs.negative)
        active = each * pairs.negatives() if mining == "all" else each
    else:
        fixed = jax.lax.stop_gradient((d, limit))
        mined = jax.lax.stop_gradient(_mined(mining, *fixed, pairs.positive, pairs.negative))
        # With the triplets held constant the loss is linear in distances and margin. This sum has
        # its derivatives; its value is not used, as its terms cancel.
        active = mined.active[..., 0]
        linear = jnp.sum(keep_out_of_sum(mined.slopes * d), -1) + active * limit
        losses = mined.value[..., 0] + derivative_only(linear)
    if average == "anchors" and mining != "hard":
        losses = losses / jnp.maximum(each, 1)
        if mining == "all":
            losses = losses / jnp.maximum(pairs.negatives(), 1)
    counted = pairs.complete()
    if average == "active":
        counted = jnp.where(counted, active, 0)
    # A NaN may not show in the loss: comparisons with it are false.
    unknown = jnp.any((pairs.positive | pairs.negative) & jnp.isnan(d), -1)
    return pairs.inside(~unknown).reduced(losses, counted=counted)
