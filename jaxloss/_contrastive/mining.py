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
from .._numerics.xla import at_most, in_steps, keep_out_of_sum
from .batch import Embeddings, Identities, labelled

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
    if mining == "hard":
        to_negative = _nearest(d, negative)
    else:
        farther = _nearest(d, negative & (d > to_positive))
        to_negative = jnp.where(farther == jnp.inf, _farthest(d, negative), farther)
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
    if not at_most(d.shape[-1] ** 3, _TRIPLETS):
        at_once = loop
    return in_steps(loop, at_once, d, margin, positive, negative)


@jit("mining", "axis_name")
def batch_triplet_loss(
    embeddings: Embeddings,
    labels: Identities,
    *,
    mining: Mining = "semi_hard",
    margin: ArrayLike = 1.0,
    axis_name: AxisName = None,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
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

    The time of "all" and "semi_hard" grows with the positives of the anchor that has most of them,
    or, on accelerators in batches of up to 1024, with the cube of the batch.

    Args:
        embeddings: Shape `[..., N, D]`.
        labels: Integers of shape `[..., N]`: equal ones are positives of each other.
        mining: "all", "hard" or "semi_hard".
        margin: By how much negatives should be farther, a number or one for each anchor.
        axis_name: See `ntxent`.
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
    request = Request(where, weights, reduction)
    hyper = {"margin": Hyper(margin, any_number)}
    pairs = labelled(embeddings, labels, request, axis_name, **hyper)
    _, margin = pairs.arrays
    d = pairs.distances()
    fixed = jax.lax.stop_gradient((d, margin))
    mined = jax.lax.stop_gradient(_mined(mining, *fixed, pairs.positive, pairs.negative))
    # With the triplets held constant the loss is linear in distances and margin. This sum has its
    # derivatives; its value is not used, as its terms cancel.
    linear = jnp.sum(keep_out_of_sum(mined.slopes * d), -1) + mined.active[..., 0] * margin
    losses = mined.value[..., 0] + derivative_only(linear)
    if mining != "hard":
        losses = losses / jnp.maximum(pairs.positives(), 1)
    if mining == "all":
        losses = losses / jnp.maximum(pairs.negatives(), 1)
    # A NaN may not show in the loss: comparisons with it are false.
    unknown = jnp.any((pairs.positive | pairs.negative) & jnp.isnan(d), -1)
    return pairs.inside(~unknown).reduced(losses, counted=pairs.complete())
