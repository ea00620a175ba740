"""Triplets that are found in a batch with labels.

There are as many triplets as the cube of the batch. A loop takes one positive of every anchor at a
time, against all negatives: its memory is that of the pairs.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from .._contract import inputs
from .._contract.jit import jit
from .._contract.reduce import Losses, Reduction, Weights, Where
from .._numerics.kinks import derivative_only
from .._numerics.xla import keep_out_of_sum
from .batch import Embeddings, Identities, batch, distances

Mining = Literal["all", "hard", "semi_hard"]


def _first(hit: jax.Array) -> jax.Array:
    """Where the first true entry of each row is, and only that; the number of columns if none."""
    place = jax.lax.broadcasted_iota(jnp.int32, hit.shape, hit.ndim - 1)
    return jnp.min(jnp.where(hit, place, hit.shape[-1]), -1, keepdims=True, initial=hit.shape[-1])


def _nearest(d: jax.Array, present: jax.Array) -> jax.Array:
    return jnp.min(jnp.where(present, d, jnp.inf), -1, keepdims=True, initial=jnp.inf)


def _farthest(d: jax.Array, present: jax.Array) -> jax.Array:
    return jnp.max(jnp.where(present, d, -jnp.inf), -1, keepdims=True, initial=-jnp.inf)


class _Mined(NamedTuple):
    """Sums over the triplets of each anchor.

    Attributes:
        value: Of the hinges.
        slopes: Of their derivatives in the distance of each partner.
        active: Of their derivatives in the margin.
    """

    value: jax.Array
    slopes: jax.Array
    active: jax.Array


def _triplets(
    mining: Mining,
    d: jax.Array,
    margin: jax.Array,
    negative: jax.Array,
    near: jax.Array,
    pulled: jax.Array,
) -> _Mined:
    """Those with the positive that is `pulled`, at distance `near`, axes kept."""
    if mining == "all":
        length = near - d + margin
        active = negative & ~(length < 0)
        hinges = jnp.where(active, length, 0)
        count = jnp.sum(active, -1, keepdims=True, dtype=jnp.int32).astype(d.dtype)
        slopes = jnp.where(pulled, count, 0) - active.astype(d.dtype)
        return _Mined(jnp.sum(hinges, -1, keepdims=True), slopes, count)
    if mining == "hard":
        far = _nearest(d, negative)
    else:
        farther = _nearest(d, negative & (d > near))
        far = jnp.where(farther == jnp.inf, _farthest(d, negative), farther)
    length = near - far + margin
    active = ~(length < 0)
    place = jax.lax.broadcasted_iota(jnp.int32, d.shape, d.ndim - 1)
    pushed = place == _first(negative & (d == far))
    slopes = jnp.where(active, pulled.astype(d.dtype) - pushed.astype(d.dtype), 0)
    return _Mined(jnp.where(active, length, 0), slopes, active.astype(d.dtype))


def _mined(
    mining: Mining, d: jax.Array, margin: jax.Array, positive: jax.Array, negative: jax.Array
) -> _Mined:
    place = jax.lax.broadcasted_iota(jnp.int32, d.shape, d.ndim - 1)
    margin = margin[..., None]
    if mining == "hard":
        near = _farthest(d, positive)
        pulled = place == _first(positive & (d == near))
        return _triplets(mining, d, margin, negative, near, pulled)

    def next_positive(_: jax.Array, state: tuple[jax.Array, _Mined]) -> tuple[jax.Array, _Mined]:
        """One positive of every anchor that has one left."""
        last, so_far = state
        following = _first(positive & (place > last))
        left = following < d.shape[-1]
        pulled = place == following
        near = jnp.sum(jnp.where(pulled, d, 0), -1, keepdims=True)
        found = _triplets(mining, d, margin, negative, near, pulled)
        return following, jax.tree.map(lambda a, b: a + jnp.where(left, b, 0), so_far, found)

    most = jnp.max(jnp.sum(positive, -1, dtype=jnp.int32), initial=0)
    none = jnp.zeros((*d.shape[:-1], 1), d.dtype)
    start = jnp.full(none.shape, -1, jnp.int32), _Mined(none, jnp.zeros_like(d), none)
    return jax.lax.fori_loop(0, most, next_positive, start)[1]


@jit("mining")
def batch_triplet_loss(
    embeddings: Embeddings,
    labels: Identities,
    *,
    mining: Mining = "semi_hard",
    margin: ArrayLike = 1.0,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> Losses:
    """Triplet loss with the triplets mined in the batch.

        max(0, d(a, p) - d(a, n) + margin)

    with Euclidean distances d, of each anchor a and

        all        every positive p with every negative n: the mean
        hard       the farthest positive with the nearest negative
        semi_hard  every positive with the nearest negative that is farther than it, or with the
                   farthest negative if none is: the mean over the positives

    Positives are the other examples of the anchor's label, negatives those of other labels. A tie
    on the margin trains, with slope 1; of equally far examples the first is taken; between equal
    embeddings a distance has slope 0. Which triplets are taken is held constant by derivatives.

    The time of "all" and "semi_hard" grows with the positives of the anchor that has most of them.

    Args:
        embeddings: Shape `[..., N, D]`.
        labels: Integers of shape `[..., N]`: equal ones are positives of each other.
        mining: "all", "hard" or "semi_hard".
        margin: By how much negatives should be farther, a number or one for each anchor.
        where: Which examples are there at all, shape `[..., N]`; see `jaxloss.reduce`.
        weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per anchor, shape `[..., N]`. An anchor that lacks a positive or a negative has
        loss 0 and is left out of the mean; triplets of loss 0 are not.

    Reference:
        Schroff, Kalenichenko and Philbin, "FaceNet: a unified embedding for face recognition and
        clustering", 2015, https://arxiv.org/abs/1503.03832 (semi-hard, there of squared distances
        and without a word on anchors that have no such negative); Hermans, Beyer and Leibe,
        "In defense of the triplet loss for person re-identification", 2017,
        https://arxiv.org/abs/1703.07737 (all and hard).

    Example:
        >>> x = jnp.array([[0.0], [1.0], [1.5], [3.0]])
        >>> batch_triplet_loss(x, jnp.array([0, 0, 1, 1]))
        Array([0.5, 0. , 1. , 0.5], dtype=float32)
    """
    inputs.one_of("mining", mining, get_args(Mining))
    pairs = batch({"embeddings": embeddings}, where, labels)
    margin = pairs.option("margin", margin)
    d = distances(pairs.examples[0])
    fixed = jax.lax.stop_gradient((d, margin))
    mined = jax.lax.stop_gradient(_mined(mining, *fixed, pairs.positive, pairs.negative))
    # Linear in the distances as long as the same triplets are active: all derivatives are those of
    # the sum, whose value would cancel.
    moved = jnp.sum(keep_out_of_sum(mined.slopes * d), -1) + mined.active[..., 0] * margin
    losses = mined.value[..., 0] + derivative_only(moved)
    if mining != "hard":
        losses = losses / jnp.maximum(pairs.positives(), 1)
    if mining == "all":
        negatives = jnp.sum(pairs.negative, -1, dtype=jnp.int32).astype(d.dtype)
        losses = losses / jnp.maximum(negatives, 1)
    # A comparison with NaN is false.
    unknown = jnp.any((pairs.positive | pairs.negative) & jnp.isnan(d), -1)
    losses = inputs.nan_outside(losses, ~unknown & ~jnp.isnan(margin))
    return pairs.reduced(losses, weights, reduction, pairs.complete())
