"""Contrastive losses of two views: example i of one belongs to example i of the other.

All other combinations are negatives; a pair that is alone has nothing to be told from, and loss 0.
cos is the cosine of the angle between two vectors, 0 with a vector of 0.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from .._contract import inputs
from .._contract.devices import AxisName, check_axis_name
from .._contract.jit import jit
from .._contract.prepared import Hyper, non_negative, positive
from .._contract.reduce import Reduction, Request, Weights, Where
from .._numerics.cross_entropy import surprisal
from .._numerics.devices import joined
from .._numerics.sharding import whole_along
from .._numerics.special import softplus
from .batch import Batch, Embeddings, Identities, alone, batch, check_sets, diagonal, total
from .cosines import directions, products
from .meeting import (
    LOG_SUM,
    SOFTPLUS_SUM,
    Examples,
    is_met_in_tiles,
    lead,
    log_of_both,
    sums,
)


def _surprisals(pairs: Batch, scores: jax.Array, *extra: jax.Array, axis: int = -1) -> jax.Array:
    """-log of the softmax of each example's own partner, among the others and the extra ones.

    Args:
        pairs: The examples.
        scores: Of all pairs of examples.
        *extra: Scores of each example with further negatives, `[..., examples, any number]`.
        axis: That of the partners, -1 or -2.
    """
    own = alone(pairs.data[0], pairs.axis_name)
    scores = jnp.where(own | pairs.negative, scores, -jnp.inf)
    for more in extra:
        scores = jnp.concatenate([scores, more], -1)
        own = jnp.concatenate([own, jnp.zeros_like(more, bool)], -1)
    if scores.shape[-1] == 1:
        # There is nothing to be told from; a score of NaN still shows.
        return 0 * jnp.squeeze(scores, -1)
    return surprisal(scores, own, (scores.ndim + axis,))


@jit("axis_name")
def n_pairs_loss(
    anchors: Embeddings,
    positives: Embeddings,
    *,
    labels: Identities | None = None,
    axis_name: AxisName = None,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """N-pairs loss: each anchor's positive against the positives of all others.

        log(1 + sum_{j != i} exp(<a_i, p_j> - <a_i, p_i>))

    Of dot products, not of cosines: the authors keep the embeddings short by a penalty on their
    squared norms, which is the user's to add.

    Args:
        anchors: a, shape `[..., N, D]`.
        positives: p, the shape of `anchors`.
        labels: Integers of shape `[..., N]`; then examples j of the label of i are left out. By
            default each example has a label of its own.
        axis_name: The axis of a `jax.shard_map`, or several, over whose devices the batch is
            spread: an anchor meets the positives of all devices, which are gathered. None for those
            of its own device.
        where: Which pairs are there at all, shape `[..., N]`; see `jaxloss.reduce`.
        weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per anchor, shape `[..., N]`.

    Reference:
        Sohn, "Improved deep metric learning with multi-class N-pair loss objective", 2016,
        equation 7.

    Example:
        >>> x = jnp.array([[1.0, 0.0], [0.0, 2.0]])
        >>> n_pairs_loss(x, x)
        Array([0.3132617 , 0.01814993], dtype=float32)
    """
    request = Request(where, weights, reduction)
    pairs = batch({"anchors": anchors, "positives": positives}, request, labels, axis_name)
    a, p = pairs.data
    return pairs.reduced(_surprisals(pairs, products(a, joined(p, -2, axis_name))))


@jit("axis_name", "symmetric")
def info_nce_loss(
    queries: Embeddings,
    keys: Embeddings,
    *,
    negatives: Embeddings | None = None,
    temperature: ArrayLike = 0.07,
    symmetric: bool = False,
    axis_name: Hashable | None = None,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """InfoNCE: each query's key against all keys of the batch, and against extra negatives.

        -log(exp(cos(q_i, k_i) / T) / (sum_j exp(cos(q_i, k_j) / T) + sum_m exp(cos(q_i, n_m) / T)))

    Args:
        queries: q, shape `[..., N, D]`. Not normalised by the user.
        keys: k, the shape of `queries`: key i belongs to query i.
        negatives: n, extra negatives for every query, shape `[..., M, D]`, such as MoCo's queue.
        temperature: T, a number or one for each query. NaN unless positive.
        symmetric: Whether to take the mean of this and of the loss with queries and keys
            exchanged, which has no extra negatives.
        axis_name: The mesh axis, or a tuple of them, along which a batch is cut that lies on
            several devices; also the axis of a `jax.vmap`. See `clip_loss`.
            Extra negatives are cut, too: each device has its own, and every query meets all.
        where: Which pairs are there at all, shape `[..., N]`; see `jaxloss.reduce`.
        weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per query, shape `[..., N]`.

    Raises:
        ValueError: If the shapes do not fit, if `axis_name` is no axis around the call, or if the
            examples are known to be the same on all its devices.

    Reference:
        van den Oord, Li and Vinyals, "Representation learning with contrastive predictive
        coding", 2018, https://arxiv.org/abs/1807.03748, equation 4; He et al., "Momentum
        contrast for unsupervised visual representation learning", 2020, equation 1.

    Example:
        >>> q, k = jnp.eye(2), jnp.array([[1.0, 0.0], [0.6, 0.8]])
        >>> info_nce_loss(q, k, temperature=1.0)
        Array([0.5130153 , 0.37110063], dtype=float32)
    """
    request = Request(where, weights, reduction)
    hyper = {"temperature": Hyper(temperature, positive)}
    pairs = batch({"queries": queries, "keys": keys}, request, **hyper)
    *vectors, scale = pairs.arrays
    check_axis_name(axis_name, {"queries": vectors[0], "keys": vectors[1]})
    others = () if negatives is None else (_negatives(pairs, negatives, axis_name),)
    q, k, *others = map(directions, (*vectors, *others))
    if _in_tiles(axis_name, k, *others):
        own = jnp.sum(q * k, -1) / scale
        there, back = _leads(pairs, q, k, 1 / scale, own, axis_name, symmetric, *others)
        losses = softplus(there)
        return pairs.reduced(0.5 * (losses + softplus(back)) if symmetric else losses)
    extra = [products(q, n) / scale[..., None] for n in others]
    s = products(q, k)
    losses = _surprisals(pairs, s / scale[..., None], *extra)
    if symmetric:
        losses = 0.5 * (losses + _surprisals(pairs, s / scale[..., None, :], axis=-2))
    return pairs.reduced(losses)


def _in_tiles(axis_name: Hashable | None, *columns: jax.Array) -> bool:
    """Whether the pairs of as many examples as the first array has are summed in tiles."""
    sizes = [x.shape[-2] for x in columns]
    return is_met_in_tiles(axis_name, sizes[0], sum(sizes))


def _leads(
    pairs: Batch,
    x: jax.Array,
    y: jax.Array,
    scale: jax.Array,
    own: jax.Array,
    axis_name: Hashable | None,
    symmetric: bool,
    *extra: jax.Array,
) -> tuple[jax.Array, jax.Array | None]:
    """The log-odds of all others against each example's own partner, from x and from y.

    Args:
        pairs: The examples.
        x, y: Their directions.
        scale: Of the cosines.
        own: The score of each pair.
        axis_name: See `clip_loss`.
        symmetric: Whether those from y are wanted.
        *extra: Directions of further partners of x.
    """
    rows, columns = (Examples(z, scale, there=pairs.where) for z in (x, y))
    there, back = sums(LOG_SUM, rows, columns, of_columns=symmetric, axis_name=axis_name)
    found = lead(there, own)
    for more in extra:
        further, _ = sums(LOG_SUM, rows, Examples(more), further=True, axis_name=axis_name)
        found = log_of_both(found, lead(further, own))
    return found, lead(back, own) if symmetric else None


def _negatives(pairs: Batch, negatives: Any, axis_name: Hashable | None) -> jax.Array:
    """Vectors of the width of the examples, and of their leading dimensions."""
    array, queries = inputs.floating("negatives", negatives), pairs.data[0]
    *outer, _, width = queries.shape
    wanted = ", ".join(map(str, (*outer, "any number", width)))
    message = f"negatives must be of shape [{wanted}]"
    check_sets({"queries": queries, "negatives": array}, message)
    check_axis_name(axis_name, {"negatives": array})
    array = array.astype(pairs.dtype)
    if pairs.where is not None:
        # Those of a batch without a pair are not read.
        some = jnp.any(pairs.where, -1)
        if axis_name is not None:
            some = jax.lax.pmax(some.astype(jnp.int32), axis_name) > 0
        array = jnp.where(some[..., None, None], array, 1)
    return whole_along(array, (-2, -1))


@jit("axis_name")
def clip_loss(
    images: Embeddings,
    texts: Embeddings,
    *,
    logit_scale: ArrayLike = 1 / 0.07,
    axis_name: Hashable | None = None,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """CLIP's loss: images and texts find each other in the batch.

        (H_i(t cos(images_i, texts_j)) + H_i(t cos(texts_i, images_j))) / 2

    with the softmax cross-entropy H_i over j of the right partner i.

    With `axis_name` the batch lies on several devices, as in a `jax.shard_map`. Each calls the loss
    with its own part of every array, and its pairs meet the examples of all devices, which go
    around in a ring: no device holds all of them, or all pairs of its own. Losses and reductions
    are those of the device's own pairs, so that
    `Mean.of(clip_loss, ..., axis_name="data").psum("data").value()` is the mean over all.

    Gradients are then those of the sum of all devices' losses: an example is moved by the losses of
    other devices, too. In `jax.grad` of the device's own sum, inside of the `shard_map`, what is
    the same on all devices, such as parameters and `logit_scale`, has the sum over the devices
    with `check_vma=True`; with `check_vma=False` it has the device's part of that, and
    `jax.lax.psum` of the gradient is the whole. There do not differentiate what is summed over
    devices already: its gradients come out as many times too large as there are devices.

    Args:
        images: Shape `[..., N, D]`. Not normalised by the user.
        texts: The shape of `images`: text i belongs to image i.
        logit_scale: t, a number or one for each pair: the exponential of the parameter that is
            learnt, which the authors keep at 100 or less. NaN if negative.
        axis_name: The mesh axis, or a tuple of them, along which a batch is cut that lies on
            several devices; also the axis of a `jax.vmap`.
        where: Which pairs are there at all, shape `[..., N]`; see `jaxloss.reduce`.
        weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per pair, shape `[..., N]`.

    Raises:
        ValueError: If the shapes do not fit, if `axis_name` is no axis around the call, or if the
            examples are known to be the same on all its devices.

    Reference:
        Radford et al., "Learning transferable visual models from natural language supervision",
        2021, https://arxiv.org/abs/2103.00020, figure 3.

    Example:
        >>> clip_loss(jnp.eye(2), jnp.array([[1.0, 0.0], [0.6, 0.8]]), logit_scale=1.0)
        Array([0.41313848, 0.4846198 ], dtype=float32)
    """
    request = Request(where, weights, reduction)
    hyper = {"logit_scale": Hyper(logit_scale, non_negative)}
    pairs = batch({"images": images, "texts": texts}, request, **hyper)
    *vectors, scale = pairs.arrays
    check_axis_name(axis_name, {"images": vectors[0], "texts": vectors[1]})
    x, y = map(directions, vectors)
    if _in_tiles(axis_name, y):
        own = scale * jnp.sum(x * y, -1)
        there, back = _leads(pairs, x, y, scale, own, axis_name, True)
        return pairs.reduced(0.5 * (softplus(there) + softplus(back)))
    s = products(x, y)
    there = _surprisals(pairs, scale[..., None] * s)
    back = _surprisals(pairs, scale[..., None, :] * s, axis=-2)
    return pairs.reduced(0.5 * (there + back))


@jit("axis_name")
def siglip_loss(
    images: Embeddings,
    texts: Embeddings,
    *,
    logit_scale: ArrayLike = 10.0,
    logit_bias: ArrayLike = -10.0,
    axis_name: Hashable | None = None,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """SigLIP's loss: whether an image and a text belong together, each pair by itself.

        sum_j log(1 + exp(-z_ij (t cos(images_i, texts_j) + b))),  z_ij = 1 if i = j, else -1

    Args:
        images: Shape `[..., N, D]`. Not normalised by the user.
        texts: The shape of `images`: text i belongs to image i.
        logit_scale: t, a number or one for each image: the exponential of the parameter that is
            learnt. NaN if negative.
        logit_bias: b, a number or one for each image.
        axis_name: The mesh axis, or a tuple of them, along which a batch is cut that lies on
            several devices; also the axis of a `jax.vmap`. See `clip_loss`.
        where: Which pairs are there at all, shape `[..., N]`; see `jaxloss.reduce`.
        weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per image, shape `[..., N]`, whose mean is the paper's loss.

    Raises:
        ValueError: If the shapes do not fit, if `axis_name` is no axis around the call, or if the
            examples are known to be the same on all its devices.

    Reference:
        Zhai et al., "Sigmoid loss for language image pre-training", 2023,
        https://arxiv.org/abs/2303.15343, algorithm 1.

    Example:
        >>> siglip_loss(jnp.eye(2), jnp.eye(2))
        Array([0.6931926, 0.6931926], dtype=float32)
    """
    request = Request(where, weights, reduction)
    hyper = {"logit_scale": Hyper(logit_scale, non_negative), "logit_bias": Hyper(logit_bias)}
    pairs = batch({"images": images, "texts": texts}, request, **hyper)
    *vectors, scale, bias = pairs.arrays
    check_axis_name(axis_name, {"images": vectors[0], "texts": vectors[1]})
    x, y = map(directions, vectors)
    if _in_tiles(axis_name, y):
        rows, columns = Examples(x, scale, bias, there=pairs.where), Examples(y, there=pairs.where)
        (repulsion,), _ = sums(SOFTPLUS_SUM, rows, columns, axis_name=axis_name)
        own = scale * jnp.sum(x * y, -1) + bias
        return pairs.reduced(repulsion + softplus(-own))
    logits = scale[..., None] * products(x, y) + bias[..., None]
    own = diagonal(pairs.data[0])
    losses = total(softplus(jnp.where(own, -logits, logits)), own | pairs.negative)
    return pairs.reduced(losses)
