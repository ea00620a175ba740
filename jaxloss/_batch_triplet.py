"""Triplets that are found in a batch with labels.

There are as many triplets as the cube of the batch, but a loss needs none of them by itself: with
the distances of an anchor in order, what is active or hardest is a matter of counts.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from . import _inputs
from ._jit import jit
from ._kinks import closed_form, hinge
from ._pairs import Embeddings, Identities, batch, distances
from ._reduce import Losses, Reduction, Weights, Where

Mining = Literal["all", "hard", "semi_hard"]


def _ordered(key: jax.Array, positive: jax.Array, negative: jax.Array, *more: jax.Array) -> Any:
    """The partners of each anchor from the smallest key on, negatives first among equal ones.

    Returns:
        Where each stood; 1 for a positive and for a negative, else 0; and `more`.
    """
    place = jax.lax.broadcasted_iota(jnp.int32, key.shape, key.ndim - 1)
    kind = jnp.where(negative, 0, jnp.where(positive, 1, 2)).astype(jnp.int32)
    key = jnp.where(kind == 2, jnp.inf, key)
    _, kind, place, *ordered = jax.lax.sort((key, kind, place, *more), num_keys=2)
    one = (kind == 1).astype(key.dtype), (kind == 0).astype(key.dtype)
    return place, *one, *ordered


def _back(place: jax.Array, x: jax.Array) -> jax.Array:
    """`x` in the order in which the partners stood."""
    return jax.lax.sort((place, x), num_keys=1)[1]


def _sum(x: jax.Array) -> jax.Array:
    return jnp.sum(x, -1)


def _running(x: jax.Array) -> jax.Array:
    return jax.lax.cumsum(x, x.ndim - 1)


def _all_slopes(
    d: jax.Array, margin: jax.Array, positive: jax.Array, negative: jax.Array
) -> tuple[jax.Array, jax.Array, float, float]:
    """How many negatives a positive is active with, and how many positives a negative."""
    key = jnp.where(positive, d + margin[..., None], d)
    place, is_positive, is_negative = _ordered(key, positive, negative)
    pulled = is_positive * _running(is_negative)
    after = _sum(is_positive)[..., None] - _running(is_positive)
    return _back(place, pulled - is_negative * after), _sum(pulled), 0.0, 0.0


@closed_form(_all_slopes, (-1,))
def _all(d: jax.Array, margin: jax.Array, positive: jax.Array, negative: jax.Array) -> jax.Array:
    """The sum over all triplets."""
    key = jnp.where(positive, d + margin[..., None], d)
    near = jnp.where(positive, key, 0)
    far = jnp.where(negative, d, 0)
    _, is_positive, is_negative, near, far = _ordered(key, positive, negative, near, far)
    return _sum(is_positive * (near * _running(is_negative) - _running(far)))


def _first(d: jax.Array, extreme: jax.Array, present: jax.Array) -> jax.Array:
    """1 at the first of the present that reaches the extreme, else 0."""
    size = d.shape[-1]
    place = jax.lax.broadcasted_iota(jnp.int32, d.shape, d.ndim - 1)
    place = jnp.where(present & (d == extreme[..., None]), place, size)
    return (place == jnp.min(place, -1, keepdims=True, initial=size)).astype(d.dtype)


def _most_slopes(d: jax.Array, present: jax.Array) -> tuple[jax.Array, float]:
    return _first(d, _most(d, present), present), 0.0


@closed_form(_most_slopes, (-1,))
def _most(d: jax.Array, present: jax.Array) -> jax.Array:
    """The largest of the present; the first of equal ones has the slope."""
    return jnp.max(jnp.where(present, d, -jnp.inf), -1, initial=-jnp.inf)


def _semi_hard_order(
    d: jax.Array, margin: jax.Array, positive: jax.Array, negative: jax.Array
) -> tuple[jax.Array, ...]:
    """In order of the distance: place, kinds, the farthest negative, the positives' hinges."""
    d = jnp.where(positive | negative, d, 0)
    place, is_positive, is_negative, d = _ordered(d, positive, negative, d)
    last = d.ndim - 1
    farther = jax.lax.cummin(jnp.where(is_negative == 1, d, jnp.inf), last, reverse=True)
    farthest = _most(d, is_negative == 1)
    length = d - jnp.where(farther == jnp.inf, farthest[..., None], farther) + margin[..., None]
    return place, is_positive, is_negative, _first(d, farthest, is_negative == 1), length


def _semi_hard_slopes(
    d: jax.Array, margin: jax.Array, positive: jax.Array, negative: jax.Array
) -> tuple[jax.Array, jax.Array, float, float]:
    order = _semi_hard_order(d, margin, positive, negative)
    place, is_positive, is_negative, is_farthest, length = order
    active = is_positive * jnp.where(length < 0, 0, 1).astype(d.dtype)
    # A negative pushes the active positives since the negative before; the farthest, also the rest.
    so_far = _running(active)
    seen = jax.lax.cummax(is_negative * so_far, d.ndim - 1)
    before = jnp.concatenate([jnp.zeros_like(seen[..., :1]), seen[..., :-1]], -1)
    until = jnp.where(is_farthest == 1, _sum(active)[..., None], so_far)
    slope = active - is_negative * (until - before)
    return _back(place, slope), _sum(active), 0.0, 0.0


@closed_form(_semi_hard_slopes, (-1,))
def _semi_hard(
    d: jax.Array, margin: jax.Array, positive: jax.Array, negative: jax.Array
) -> jax.Array:
    """The sum over the positives."""
    _, is_positive, *_, length = _semi_hard_order(d, margin, positive, negative)
    return _sum(jnp.where((is_positive == 1) & ~(length < 0), length, 0))


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
        clustering", 2015, https://arxiv.org/abs/1503.03832 (semi-hard); Hermans, Beyer and Leibe,
        "In defense of the triplet loss for person re-identification", 2017,
        https://arxiv.org/abs/1703.07737 (all and hard).

    Example:
        >>> x = jnp.array([[0.0], [1.0], [1.5], [3.0]])
        >>> batch_triplet_loss(x, jnp.array([0, 0, 1, 1]))
        Array([0.5, 0. , 1. , 0.5], dtype=float32)
    """
    if mining not in get_args(Mining):
        options = ", ".join(map(repr, get_args(Mining)))
        raise ValueError(f"mining must be one of {options}, got {mining!r}")
    pairs = batch({"embeddings": embeddings}, where, labels)
    margin = pairs.option("margin", margin)
    d = distances(pairs.examples[0])
    positive, negative = pairs.positive, pairs.negative
    if mining == "hard":
        losses = hinge(_most(d, positive) + _most(-d, negative) + margin)
    else:
        mined = _all if mining == "all" else _semi_hard
        count = pairs.positives()
        if mining == "all":
            count = count * jnp.sum(negative, -1, dtype=jnp.int32).astype(d.dtype)
        losses = mined(d, margin, positive, negative) / jnp.maximum(count, 1)
    # An order takes NaN for the largest number.
    unknown = jnp.any((positive | negative) & jnp.isnan(d), -1)
    losses = _inputs.within(losses, ~unknown & ~jnp.isnan(margin))
    return pairs.reduced(losses, weights, reduction, pairs.complete())
