"""Contrastive losses of a batch with labels: examples of one label attract, others repel.

Each example is an anchor. P is the set of its positives, the other examples of its label, N that
of its negatives, the examples of other labels. An anchor without a positive has loss 0 and is left
out of the mean. s(a, b) is the cosine of the angle between two embeddings, 0 with a vector of 0.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from .._contract.devices import AxisName, check_axis_name
from .._contract.jit import jit
from .._contract.prepared import Hyper, positive
from .._contract.reduce import Reduction, Request, Weights, Where
from .._numerics.cross_entropy import cross_entropy
from .._numerics.kinks import closed_form
from .._numerics.softmax import change_of_surprisals, top_and_rest
from .._numerics.special import sigmoid, softplus
from .._numerics.xla import computed_anew
from .batch import Embeddings, Identities, labelled, log_sum, total
from .cosines import directions
from .meeting import ATTRACTION, Examples, is_met_in_tiles, sums
from .references import Labels, Places, References, There, Vectors


def _attraction_slopes(
    against: jax.Array, s: jax.Array, present: jax.Array
) -> tuple[jax.Array, jax.Array, int]:
    against, s = computed_anew(against, s)
    pull = jnp.where(present, sigmoid(against[..., None] - s), 0)
    # Summed here, and not with the cotangents of the anchors, in the pass that has the value.
    return jnp.sum(pull, -1), -pull, 0


@closed_form(_attraction_slopes, (-1,))
def _attraction(against: jax.Array, s: jax.Array, present: jax.Array) -> jax.Array:
    """The sum of log(1 + exp(against - s)) over the partners that are present."""
    return total(softplus(against[..., None] - s), present)


@jit("axis_name")
def ntxent(
    embeddings: Embeddings,
    labels: Identities,
    temperature: ArrayLike = 0.07,
    *,
    references: Vectors = None,
    reference_labels: Labels = None,
    reference_where: There = None,
    own_reference: Places = None,
    axis_name: AxisName = None,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "mean",
) -> jax.Array:
    """Normalised temperature-scaled cross-entropy (NT-Xent), of SimCLR.

    For each positive p of an anchor a, against the anchor's negatives,

        log(1 + sum_{n in N} exp((s(a, n) - s(a, p)) / T))

    An anchor's loss is the sum over its positives, the mean that over all positive pairs. Other
    positives of the anchor are not among the negatives, unlike in `supervised_contrastive_loss`.

    Args:
        embeddings: Shape `[..., N, D]`. Not normalised by the user.
        labels: Integers of shape `[..., N]`: equal ones are positives of each other.
        temperature: T, a number or one for each anchor. NaN unless positive.
        references: Other embeddings, shape `[..., M, D]`, that anchors meet in place of the batch,
            such as a memory bank: those of the anchor's label are its positives.
        reference_labels: Their labels, integers of shape `[..., M]`.
        reference_where: Which of them are there at all, shape `[..., M]`: of a bank, what has been
            filled.
        own_reference: The place of each anchor's own copy among the references, shape `[..., N]`,
            which it does not meet; -1 for none. By default there are no copies: one would be a
            positive at no distance.
        axis_name: The axis of a `jax.shard_map`, or several, over whose devices the batch is
            spread: the partners of an anchor are those of all devices, whose embeddings are
            gathered. None for those of its own device. Without `shard_map` a batch on several
            devices needs no name. References are spread, too: each device has its own, and places
            count through those of all.
        where: Which examples are there at all, shape `[..., N]`; see `jaxloss.reduce`.
        weights, reduction: See `jaxloss.reduce`. The default is the mean, as in optax; an anchor
            counts in it as often as it has positives.

    Returns:
        The mean over the positive pairs, 0 if there is none; unreduced, one loss per anchor, 0 for
        one without a positive.

    Reference:
        Chen et al., "A simple framework for contrastive learning of visual representations",
        2020, https://arxiv.org/abs/2002.05709, equation 1.

    Example:
        >>> x = jnp.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]])
        >>> ntxent(x, jnp.array([0, 0, 1, 1]), temperature=0.5)
        Array(0.28987798, dtype=float32)
    """
    request = Request(where, weights, reduction)
    bank = References(references, reference_labels, reference_where, own_reference, axis_name)
    hyper = {"temperature": Hyper(temperature, positive)}
    pairs = labelled(embeddings, labels, request, axis_name, bank, **hyper)
    _, scale = pairs.arrays
    s = pairs.cosines() / scale[..., None]
    losses = _attraction(log_sum(s, pairs.negative), s, pairs.positive)
    return pairs.reduced(losses, counted=pairs.positives())


@jit("axis_name")
def supervised_contrastive_loss(
    embeddings: Embeddings,
    labels: Identities,
    *,
    temperature: ArrayLike = 0.1,
    references: Vectors = None,
    reference_labels: Labels = None,
    reference_where: There = None,
    own_reference: Places = None,
    axis_name: Hashable | None = None,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Supervised contrastive loss (SupCon).

    The mean over an anchor's positives p of

        -log(exp(s(a, p) / T) / sum_{i != a} exp(s(a, i) / T))

    Args:
        embeddings: Shape `[..., N, D]`. Not normalised by the user.
        labels: Integers of shape `[..., N]`: equal ones are positives of each other.
        temperature: T, a number or one for each anchor. NaN unless positive.
        references, reference_labels, reference_where, own_reference: See `ntxent`; the sum is then
            over all references that the anchor meets.
        axis_name: The mesh axis, or a tuple of them, along which a batch is cut that lies on
            several devices; also the axis of a `jax.vmap`.
            Positives and negatives are those of all devices, and the losses those of the device's
            own anchors; see `clip_loss`. References are cut, too, and places count through those of
            all devices.
        where: Which examples are there at all, shape `[..., N]`; see `jaxloss.reduce`.
        weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per anchor, shape `[..., N]`. An anchor without a positive has loss 0, and is left
        out of the mean.

    Raises:
        ValueError: If the shapes do not fit, if `axis_name` is no axis around the call, or if the
            examples are known to be the same on all its devices.

    Reference:
        Khosla et al., "Supervised contrastive learning", 2020,
        https://arxiv.org/abs/2004.11362, equation 2, without the factor of the temperatures.

    Example:
        >>> x = jnp.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]])
        >>> supervised_contrastive_loss(x, jnp.array([0, 0, 1]), temperature=0.5)
        Array([0.12811637, 0.15424965, 0.        ], dtype=float32)
    """
    request = Request(where, weights, reduction)
    bank = References(references, reference_labels, reference_where, own_reference, axis_name)
    hyper = {"temperature": Hyper(temperature, positive)}
    pairs = labelled(embeddings, labels, request, references=bank, **hyper)
    x, scale = pairs.arrays
    check_axis_name(axis_name, {"embeddings": x})
    met = pairs.partners
    if is_met_in_tiles(axis_name, x.shape[-2], (x if met is None else met.vectors).shape[-2]):
        columns = Examples(directions(x), there=pairs.where, labels=pairs.labels)
        rows = columns._replace(scale=1 / scale)
        if met is not None:
            rows = rows._replace(number=met.own)
            columns = Examples(directions(met.vectors), there=met.there, labels=met.labels)
        (*_, count, losses), _ = sums(ATTRACTION, rows, columns, axis_name=axis_name)
        return pairs.reduced(losses, counted=count > 0)
    s = pairs.cosines() / scale[..., None]
    others = pairs.positive | pairs.negative
    s = jnp.where(others, s, jnp.where(jnp.any(others, -1, keepdims=True), -jnp.inf, 0))
    count = pairs.positives()
    share = pairs.positive.astype(s.dtype) / jnp.maximum(count, 1)[..., None]
    losses = cross_entropy(s, share, (s.ndim - 1,))
    return pairs.reduced(losses, counted=count > 0)


@jax.custom_jvp
def _against_zero(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """-log of the softmax over the last axis and one more number, a 0: of all, and of the 0."""
    top, rest = top_and_rest(x, (x.ndim - 1,))
    above = top > 0
    most = jnp.where(above, top, 0)
    rest = jnp.where(above, rest + jnp.exp(-most), (rest + 1) * jnp.exp(jnp.where(above, 0, top)))
    lost = jnp.log1p(rest)
    return lost - (x - most), jnp.squeeze(lost + most, -1)


@_against_zero.defjvp
def _(primals: Any, tangents: Any) -> Any:
    every, moved = (
        jnp.concatenate([y, jnp.zeros_like(y[..., :1])], -1) for y in (*primals, *tangents)
    )
    changes = change_of_surprisals((every.ndim - 1,), (every,), (moved,))
    return _against_zero(*primals), (changes[..., :-1], changes[..., -1])


def _of_present(z: jax.Array, sharpness: jax.Array, present: jax.Array) -> jax.Array:
    return jnp.where(present, sharpness[..., None] * z, -jnp.inf)


def _soft_excess_slopes(
    z: jax.Array, sharpness: jax.Array, present: jax.Array
) -> tuple[jax.Array, jax.Array, float]:
    surprise, of_zero = _against_zero(_of_present(z, sharpness, present))
    absent = surprise == jnp.inf
    share = jnp.where(absent, 0, jnp.exp(-surprise))
    # In the sharpness the slope is an entropy. Its terms are of one sign; those that the product
    # rule gives would cancel.
    entropy = jnp.sum(share * jnp.where(absent, 0, surprise), -1) + jnp.exp(-of_zero) * of_zero
    return share, -entropy / jnp.square(sharpness), 0.0


@closed_form(_soft_excess_slopes, (-1,))
def _soft_excess(z: jax.Array, sharpness: jax.Array, present: jax.Array) -> jax.Array:
    """log(1 + sum exp(sharpness z)) / sharpness over the partners that are present."""
    return _against_zero(_of_present(z, sharpness, present))[1] / sharpness


@jit("axis_name")
def multi_similarity_loss(
    embeddings: Embeddings,
    labels: Identities,
    *,
    alpha: ArrayLike = 2.0,
    beta: ArrayLike = 50.0,
    base: ArrayLike = 0.5,
    references: Vectors = None,
    reference_labels: Labels = None,
    reference_where: There = None,
    own_reference: Places = None,
    axis_name: AxisName = None,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Multi-similarity loss, over all pairs: without the paper's mining.

        log(1 + sum_P exp(-alpha (s - base))) / alpha + log(1 + sum_N exp(beta (s - base))) / beta

    Args:
        embeddings: Shape `[..., N, D]`. Not normalised by the user.
        labels: Integers of shape `[..., N]`: equal ones are positives of each other.
        alpha: How sharply positives are weighed, a number or one for each anchor. NaN unless
            positive.
        beta: The same for negatives.
        base: The similarity that positives should exceed and negatives should not.
        references, reference_labels, reference_where, own_reference: See `ntxent`.
        axis_name: See `ntxent`.
        where: Which examples are there at all, shape `[..., N]`; see `jaxloss.reduce`.
        weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per anchor, shape `[..., N]`. An anchor without a positive is left out, which the
        paper does not say.

    Reference:
        Wang et al., "Multi-similarity loss with general pair weighting for deep metric
        learning", 2019, https://arxiv.org/abs/1904.06627, equation 15.

    Example:
        >>> x = jnp.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]])
        >>> multi_similarity_loss(x, jnp.array([0, 0, 1]))
        Array([0.1579704, 0.1579704, 0.       ], dtype=float32)
    """
    request = Request(where, weights, reduction)
    bank = References(references, reference_labels, reference_where, own_reference, axis_name)
    hyper = {"alpha": Hyper(alpha, positive), "beta": Hyper(beta, positive), "base": Hyper(base)}
    pairs = labelled(embeddings, labels, request, axis_name, bank, **hyper)
    _, alpha, beta, base = pairs.arrays
    s = pairs.cosines() - base[..., None]
    losses = _soft_excess(-s, alpha, pairs.positive) + _soft_excess(s, beta, pairs.negative)
    return pairs.reduced(losses, counted=pairs.positives() > 0)
