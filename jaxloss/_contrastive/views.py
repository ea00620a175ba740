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
from .._contract.prepared import Hyper
from .._contract.reduce import Reduction, Request, Weights, Where
from .._numerics.devices import joined
from .._numerics.sharding import whole_along
from .._numerics.special import softplus
from .batch import Batch, Embeddings, Identities, batch, check_sets, diagonal, total
from .belonging import Scale, Targets, belonging, scaling
from .cosines import directions, products
from .matching import in_tiles, matched, surprisals
from .meeting import SIGNED_SUM, SOFTPLUS_SUM, Examples, sums
from .references import NO_REFERENCES


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
    return pairs.reduced(surprisals(pairs, products(a, joined(p, -2, axis_name))))


@jit("axis_name", "symmetric")
def info_nce_loss(
    queries: Embeddings,
    keys: Embeddings,
    *,
    labels: Identities | None = None,
    targets: Targets = None,
    negatives: Embeddings | None = None,
    temperature: ArrayLike | None = None,
    logit_scale: ArrayLike | None = None,
    symmetric: bool = False,
    axis_name: Hashable | None = None,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """InfoNCE: each query's key against all keys of the batch, and against extra negatives.

        -log(exp(cos(q_i, k_i) / T) / (sum_j exp(cos(q_i, k_j) / T) + sum_m exp(cos(q_i, n_m) / T)))

    Of several keys that belong to a query, by labels or targets, this is the mean over them.

    Args:
        queries: q, shape `[..., N, D]`. Not normalised by the user.
        keys: k, the shape of `queries`: key i belongs to query i.
        labels: Integers of shape `[..., N]`: all keys j of the label of i belong to query i.
        targets: How far key j belongs to query i, shape `[..., N, N]`: conditions, or numbers of
            at least 0, NaN below, by which the mean is weighed.
        negatives: n, extra negatives for every query, shape `[..., M, D]`, such as MoCo's queue.
        temperature: T, a number or one for each query; 0.07 by default. NaN unless positive.
        logit_scale: 1 / T, in the place of `temperature`. NaN if negative.
        symmetric: Whether to take the mean of this and of the loss with queries and keys
            exchanged, which has no extra negatives.
        axis_name: The mesh axis, or a tuple of them, along which a batch is cut that lies on
            several devices; also the axis of a `jax.vmap`. See `clip_loss`.
            Extra negatives are cut, too: each device has its own, and every query meets all.
            Targets, which are of all pairs, are refused.
        where: Which pairs are there at all, shape `[..., N]`; see `jaxloss.reduce`.
        weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per query, shape `[..., N]`. A query that nothing belongs to, by targets, has loss
        0, and is left out of the mean if no query belongs to its key either.

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
    hyper = scaling(temperature, logit_scale, {"temperature": 0.07})
    pairs = batch({"queries": queries, "keys": keys}, request, None, None, NO_REFERENCES, **hyper)
    *vectors, value = pairs.arrays
    scale = Scale(value, "temperature" in hyper)
    check_axis_name(axis_name, {"queries": vectors[0], "keys": vectors[1]})
    several = belonging(pairs, "queries", labels, targets, axis_name)
    others = () if negatives is None else (_negatives(pairs, negatives, axis_name),)
    q, k, *others = map(directions, (*vectors, *others))
    return matched(pairs, several, q, k, scale, axis_name, symmetric, *others)


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
    labels: Identities | None = None,
    targets: Targets = None,
    logit_scale: ArrayLike | None = None,
    temperature: ArrayLike | None = None,
    axis_name: Hashable | None = None,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """CLIP's loss: images and texts find each other in the batch.

        (H_i(t cos(images_i, texts_j)) + H_i(t cos(texts_i, images_j))) / 2

    with the softmax cross-entropy H_i over j of the right partner i, or the mean over all that are
    right, by labels or targets.

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
        labels: Integers of shape `[..., N]`: all texts j of the label of i belong to image i.
        targets: How far text j belongs to image i, shape `[..., N, N]`: conditions, or numbers of
            at least 0, NaN below, by which the means are weighed. Not with `axis_name`.
        logit_scale: t, a number or one for each pair: the exponential of the parameter that is
            learnt, which the authors keep at 100 or less; 1 / 0.07 by default. NaN if negative.
        temperature: 1 / t, in the place of `logit_scale`. NaN unless positive.
        axis_name: The mesh axis, or a tuple of them, along which a batch is cut that lies on
            several devices; also the axis of a `jax.vmap`.
        where: Which pairs are there at all, shape `[..., N]`; see `jaxloss.reduce`.
        weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per pair, shape `[..., N]`. By targets an image may have no text, or a text no
        image: its cross-entropy is 0, and a pair of two such is left out of the mean.

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
    hyper = scaling(temperature, logit_scale, {"logit_scale": 1 / 0.07})
    pairs = batch({"images": images, "texts": texts}, request, None, None, NO_REFERENCES, **hyper)
    *vectors, value = pairs.arrays
    scale = Scale(value, "temperature" in hyper)
    check_axis_name(axis_name, {"images": vectors[0], "texts": vectors[1]})
    several = belonging(pairs, "images", labels, targets, axis_name)
    x, y = map(directions, vectors)
    return matched(pairs, several, x, y, scale, axis_name, True)


@jit("axis_name")
def siglip_loss(
    images: Embeddings,
    texts: Embeddings,
    *,
    labels: Identities | None = None,
    targets: Targets = None,
    logit_scale: ArrayLike | None = None,
    temperature: ArrayLike | None = None,
    logit_bias: ArrayLike = -10.0,
    axis_name: Hashable | None = None,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """SigLIP's loss: whether an image and a text belong together, each pair by itself.

        sum_j log(1 + exp(-z_ij (t cos(images_i, texts_j) + b))),  z_ij = 1 if i = j, else -1

    or 1 wherever text j belongs to image i, by labels or targets.

    Args:
        images: Shape `[..., N, D]`. Not normalised by the user.
        texts: The shape of `images`: text i belongs to image i.
        labels: Integers of shape `[..., N]`: all texts j of the label of i belong to image i.
        targets: How far text j belongs to image i, shape `[..., N, N]`: conditions, or numbers
            from 0 to 1, NaN outside, that weigh the terms of z = 1 and z = -1. Not with
            `axis_name`.
        logit_scale: t, a number or one for each image: the exponential of the parameter that is
            learnt; 10 by default. NaN if negative.
        temperature: 1 / t, in the place of `logit_scale`. NaN unless positive.
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
    hyper = scaling(temperature, logit_scale, {"logit_scale": 10.0})
    bias_of = {"logit_bias": Hyper(logit_bias)}
    views = {"images": images, "texts": texts}
    pairs = batch(views, request, None, None, NO_REFERENCES, **hyper, **bias_of)
    *vectors, value, bias = pairs.arrays
    scale = Scale(value, "temperature" in hyper)
    check_axis_name(axis_name, {"images": vectors[0], "texts": vectors[1]})
    several = belonging(pairs, "images", labels, targets, axis_name, most=1)
    x, y = map(directions, vectors)
    numbers = None if several is None else several.labels
    if in_tiles(axis_name, y) and (several is None or numbers is not None):
        rows = Examples(x, scale.factor(), bias, there=pairs.where, labels=numbers)
        columns = Examples(y, there=pairs.where, labels=numbers)
        if several is not None:
            (losses,), _ = sums(SIGNED_SUM, rows, columns, further=True, axis_name=axis_name)
            return pairs.reduced(losses)
        (repulsion,), _ = sums(SOFTPLUS_SUM, rows, columns, axis_name=axis_name)
        own = scale.of(jnp.sum(x * y, -1)) + bias
        return pairs.reduced(repulsion + softplus(-own))
    logits = scale.of(products(x, y), -1) + bias[..., None]
    there = diagonal(pairs.data[0]) | pairs.negative
    if several is None or numbers is not None:
        right = diagonal(pairs.data[0]) if several is None else several.share > 0
        return pairs.reduced(total(softplus(jnp.where(right, -logits, logits)), there))
    share = several.share
    terms = share * softplus(-logits) + (1 - share) * softplus(logits)
    return pairs.inside(several.known()).reduced(total(terms, there))
