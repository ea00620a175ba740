"""Losses of a batch with labels that have margins: of cosines, and of distances.

Each example is an anchor. P is the set of its positives, the other examples of its label, N that
of its negatives, the examples of other labels.
"""

from __future__ import annotations

from typing import Literal, get_args

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from .._contract import inputs
from .._contract.devices import AxisName
from .._contract.jit import jit
from .._contract.prepared import Hyper, non_negative
from .._contract.reduce import Reduction, Request, Weights, Where
from .._numerics.kinks import hinge
from .._numerics.special import softplus
from .._numerics.xla import stored
from .batch import Average, Embeddings, Identities, labelled, log_sum, number, total
from .distances import Distance, check_distance
from .references import Labels, Places, References, There, Vectors

Chosen = Literal["both", "positive", "negative"]


@jit("axis_name")
def circle_loss(
    embeddings: Embeddings,
    labels: Identities,
    *,
    margin: ArrayLike = 0.25,
    gamma: ArrayLike = 256.0,
    references: Vectors = None,
    reference_labels: Labels = None,
    reference_where: There = None,
    own_reference: Places = None,
    axis_name: AxisName = None,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Circle loss: each similarity pulled the harder, the farther it is from its optimum.

        log(1 + sum_N exp(gamma a_n (s_n - m)) sum_P exp(-gamma a_p (s_p - 1 + m)))
        a_n = max(s_n + m, 0),  a_p = max(1 + m - s_p, 0)

    The weights a are held constant by all derivatives, as in the paper.

    Args:
        embeddings: Shape `[..., N, D]`. Not normalised by the user.
        labels: Integers of shape `[..., N]`: equal ones are positives of each other.
        margin: m, a number or one for each anchor.
        gamma: The scale, likewise. NaN if negative.
        references, reference_labels, reference_where, own_reference: See `ntxent`.
        axis_name: See `ntxent`.
        where: Which examples are there at all, shape `[..., N]`; see `jaxloss.reduce`.
        weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per anchor, shape `[..., N]`. An anchor without a negative has loss 0 too, and is
        left out of the mean.

    Reference:
        Sun et al., "Circle loss: a unified perspective of pair similarity optimization", 2020,
        https://arxiv.org/abs/2002.10857, equations 4 and 6.

    Example:
        >>> x = jnp.array([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]])
        >>> circle_loss(x, jnp.array([0, 0, 1]), gamma=8.0)
        Array([0.4098667, 2.3050833, 0.       ], dtype=float32)
    """
    request = Request(where, weights, reduction)
    bank = References(references, reference_labels, reference_where, own_reference, axis_name)
    hyper = {"margin": Hyper(margin), "gamma": Hyper(gamma, non_negative)}
    pairs = labelled(embeddings, labels, request, axis_name, bank, **hyper)
    _, margin, gamma = pairs.arrays
    s, m, scale = pairs.cosines(), margin[..., None], gamma[..., None]
    lack = jax.lax.stop_gradient(jnp.maximum(1 + m - s, 0))
    excess = jax.lax.stop_gradient(jnp.maximum(s + m, 0))
    of_positives = log_sum(-scale * lack * (s - 1 + m), pairs.positive)
    of_negatives = log_sum(scale * excess * (s - m), pairs.negative)
    losses = softplus(of_positives + of_negatives)
    return pairs.reduced(losses, counted=pairs.complete())


@jit("distance", "axis_name")
def lifted_structure_loss(
    embeddings: Embeddings,
    labels: Identities,
    *,
    margin: ArrayLike = 1.0,
    distance: Distance = "euclidean",
    references: Vectors = None,
    reference_labels: Labels = None,
    reference_where: There = None,
    own_reference: Places = None,
    axis_name: AxisName = None,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Lifted structure loss, generalised to all positives of an anchor.

        max(0, log sum_P exp(d(a, p)) + log sum_N exp(margin - d(a, n)))

    with distances d. At the kink, a loss of exactly 0, the slope is that of the active
    side, so that it still trains; between equal embeddings a distance has slope 0.

    Args:
        embeddings: Shape `[..., N, D]`.
        labels: Integers of shape `[..., N]`: equal ones are positives of each other.
        margin: By how much negatives should be farther, a number or one for each anchor.
        distance: See `batch_triplet_loss`.
        references, reference_labels, reference_where, own_reference: See `ntxent`.
        axis_name: See `ntxent`.
        where: Which examples are there at all, shape `[..., N]`; see `jaxloss.reduce`.
        weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per anchor, shape `[..., N]`. An anchor without a negative has loss 0 too, and is
        left out of the mean.

    Reference:
        Hermans, Beyer and Leibe, "In defense of the triplet loss for person re-identification",
        2017, https://arxiv.org/abs/1703.07737, the generalised form of Song et al. 2016.

    Example:
        >>> x = jnp.array([[0.0, 0.0], [3.0, 4.0], [0.0, 2.0]])
        >>> lifted_structure_loss(x, jnp.array([0, 0, 1]))
        Array([4.       , 2.3944488, 0.       ], dtype=float32)
    """
    request = Request(where, weights, reduction)
    bank = References(references, reference_labels, reference_where, own_reference, axis_name)
    check_distance(distance)
    pairs = labelled(embeddings, labels, request, axis_name, bank, margin=Hyper(margin))
    _, margin = pairs.arrays
    d = stored(pairs.distances(distance))
    losses = hinge(log_sum(d, pairs.positive) + (margin + log_sum(-d, pairs.negative)))
    return pairs.reduced(losses, counted=pairs.complete())


@jit("distance", "pairs", "average", "axis_name")
def batch_contrastive_loss(
    embeddings: Embeddings,
    labels: Identities,
    *,
    pos_margin: ArrayLike = 0.0,
    neg_margin: ArrayLike = 1.0,
    distance: Distance = "euclidean",
    pairs: Chosen = "both",
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
    """Contrastive loss of all pairs of a batch, with a margin for either kind.

        mean_P max(0, d(a, p) - pos_margin) + mean_N max(0, neg_margin - d(a, n))

    with distances d, which are not squared, unlike in `contrastive_loss`. On a margin the slope is
    that of the active side, so that a tie still trains; between equal embeddings a distance has
    slope 0.

    Args:
        embeddings: Shape `[..., N, D]`.
        labels: Integers of shape `[..., N]`: equal ones are positives of each other.
        pos_margin: The distance up to which positives cost nothing, a number or one for each
            anchor.
        neg_margin: The distance from which negatives cost nothing, likewise.
        distance: See `batch_triplet_loss`.
        pairs: "both", or of one kind only, "positive" or "negative": the other term is 0.
        average: "anchors" for the means above, or "active": an anchor's loss is the sum over its
            pairs, and it counts in a mean as often as it has pairs that cost more than 0.
        references, reference_labels, reference_where, own_reference: See `ntxent`.
        axis_name: See `ntxent`.
        where: Which examples are there at all, shape `[..., N]`; see `jaxloss.reduce`.
        weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per anchor, shape `[..., N]`. An anchor that has none of these pairs has loss 0,
        and is left out of the mean.

    Reference:
        Hadsell, Chopra and LeCun, "Dimensionality reduction by learning an invariant mapping",
        2006, https://doi.org/10.1109/CVPR.2006.100, equation 4, there squared and with a margin
        for negatives only.

    Example:
        >>> x = jnp.array([[0.0], [1.0], [1.5], [3.0]])
        >>> batch_contrastive_loss(x, jnp.array([0, 0, 1, 1]))
        Array([1.  , 1.25, 1.75, 1.5 ], dtype=float32)
    """
    check_distance(distance)
    inputs.one_of("pairs", pairs, get_args(Chosen))
    inputs.one_of("average", average, get_args(Average))
    request = Request(where, weights, reduction)
    bank = References(references, reference_labels, reference_where, own_reference, axis_name)
    hyper = {"pos_margin": Hyper(pos_margin), "neg_margin": Hyper(neg_margin)}
    given = labelled(embeddings, labels, request, axis_name, bank, **hyper)
    _, near, far = given.arrays
    d = stored(given.distances(distance))
    terms = []
    if pairs != "negative":
        terms.append((d - near[..., None], given.positive))
    if pairs != "positive":
        terms.append((far[..., None] - d, given.negative))
    losses, counted = jnp.zeros(given.shape, given.dtype), jnp.zeros(given.shape, given.dtype)
    for excess, present in terms:
        costs = total(hinge(excess), present)
        if average == "anchors":
            costs = costs / jnp.maximum(number(present, given.dtype), 1)
        else:
            # Not where it is above 0: NaN costs, too.
            present = present & ~(excess <= 0)
        losses, counted = losses + costs, counted + number(present, given.dtype)
    if average == "anchors":
        counted = counted > 0
    return given.reduced(losses, counted=counted)
