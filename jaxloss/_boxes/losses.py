"""Losses between axis-aligned boxes.

Boxes are rows of four numbers: two corners (x1, y1, x2, y2) in the format "xyxy", a corner and the
sides (x1, y1, w, h) in "xywh", the centre and the sides (cx, cy, w, h) in "cxcywh". A side of
negative length gives NaN. A box without an area is allowed, and has an IoU of 0 with every box,
itself included.

Corners that are level are kinks. There a coordinate has the smaller of the slopes on its two sides,
0 if the loss grows both ways: equal boxes stay where they are. Boxes that touch are another; there
the slope is that of boxes that overlap, so that they still train.
"""

from __future__ import annotations

import jax

from .._contract.jit import jit
from .._contract.reduce import Reduction, Request, Weights, Where
from .gradients import sum_of
from .pairs import Boxes, box_pairs
from .spans import Format
from .terms import ASPECT, DISTANCE, EMPTINESS, IOU, IOU_LOSS, Term


def _between(
    boxes1: Boxes, boxes2: Boxes, box_format: Format, request: Request, *terms: Term
) -> jax.Array:
    """The sum of the terms for each pair of boxes."""
    given = box_pairs({"boxes1": boxes1, "boxes2": boxes2}, box_format, request)
    return given.reduced(sum_of(terms, box_format, *given.data, selected=given.where))


@jit("box_format")
def box_iou(
    boxes1: Boxes,
    boxes2: Boxes,
    *,
    box_format: Format = "xyxy",
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Intersection over union of two boxes, from 0 to 1. Not a loss: greater is better.

        |A and B| / |A or B|

    Of two boxes without an area it is 0. Where corners are level the slope of a coordinate is 0;
    where boxes touch it is that of boxes that overlap.

    Args:
        boxes1: A, of shape `[..., 4]`; a box with a negative side gives NaN.
        boxes2: B, the shape of `boxes1`: pairs, each with its own. For all pairs of two sets, call
            it under `jax.vmap` twice.
        box_format: "xyxy", "xywh" or "cxcywh".
        where: Which pairs count, of the shape of the result; see `jaxloss.reduce`.
        weights, reduction: See `jaxloss.reduce`.

    Returns:
        One number per pair: the shape of `boxes1` without its last axis.

    Raises:
        ValueError: If the last axis is not 4, shapes differ, or `box_format` is unknown.

    Reference:
        Jaccard, "The distribution of the flora in the alpine zone", 1912,
        https://doi.org/10.1111/j.1469-8137.1912.tb05611.x.

    Example:
        >>> box_iou(jnp.array([0.0, 0.0, 2.0, 2.0]), jnp.array([1.0, 0.0, 3.0, 2.0]))
        Array(0.33333334, dtype=float32)
    """
    request = Request(where, weights, reduction)
    return _between(boxes1, boxes2, box_format, request, IOU)


@jit("box_format")
def iou_loss(
    boxes1: Boxes,
    boxes2: Boxes,
    *,
    box_format: Format = "xyxy",
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """IoU loss: how much of two boxes they do not share, from 0 to 1.

        1 - |A and B| / |A or B|

    With every digit for nearly equal boxes. Boxes that are apart have loss 1 and gradient 0; the
    losses below pull them together. Where corners are level the slope of a coordinate is 0; where
    boxes touch it is that of boxes that overlap.

    Args:
        boxes1: A, of shape `[..., 4]`; a box with a negative side gives NaN.
        boxes2: B, the shape of `boxes1`.
        box_format: "xyxy", "xywh" or "cxcywh".
        where: Which pairs count, of the shape of the result; see `jaxloss.reduce`.
        weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per pair of boxes; 1 where neither has an area.

    Reference:
        Yu et al., "UnitBox: an advanced object detection network", 2016,
        https://arxiv.org/abs/1608.01471; theirs is -log IoU.

    Example:
        >>> iou_loss(jnp.array([0.0, 0.0, 2.0, 2.0]), jnp.array([1.0, 0.0, 3.0, 2.0]))
        Array(0.6666667, dtype=float32)
    """
    request = Request(where, weights, reduction)
    return _between(boxes1, boxes2, box_format, request, IOU_LOSS)


@jit("box_format")
def giou_loss(
    boxes1: Boxes,
    boxes2: Boxes,
    *,
    box_format: Format = "xyxy",
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Generalized IoU loss: boxes that are apart still train. From 0 to 2.

        1 - IoU + (|C| - |A or B|) / |C|

    with C the smallest box around both; of a C without an area the last term is 0. Where corners
    are level a coordinate has the smaller of the slopes on its two sides, 0 if the loss grows both
    ways; where boxes touch it has that of boxes that overlap.

    Args:
        boxes1: A, of shape `[..., 4]`; a box with a negative side gives NaN.
        boxes2: B, the shape of `boxes1`.
        box_format: "xyxy", "xywh" or "cxcywh".
        where: Which pairs count, of the shape of the result; see `jaxloss.reduce`.
        weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per pair of boxes.

    Reference:
        Rezatofighi et al., "Generalized intersection over union: a metric and a loss for bounding
        box regression", 2019, algorithm 1, https://arxiv.org/abs/1902.09630.

    Example:
        >>> giou_loss(jnp.array([0.0, 0.0, 1.0, 1.0]), jnp.array([3.0, 0.0, 4.0, 1.0]))
        Array(1.5, dtype=float32)
    """
    request = Request(where, weights, reduction)
    return _between(boxes1, boxes2, box_format, request, IOU_LOSS, EMPTINESS)


@jit("box_format")
def diou_loss(
    boxes1: Boxes,
    boxes2: Boxes,
    *,
    box_format: Format = "xyxy",
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Distance IoU loss: pulls the centres together. From 0 to 2.

        1 - IoU + d^2 / c^2

    with d the distance of the centres and c the diagonal of the smallest box around both; of two
    equal points the last term is 0. Where corners are level a coordinate has the smaller of the
    slopes on its two sides, 0 if the loss grows both ways; where boxes touch it has that of boxes
    that overlap.

    Args:
        boxes1: A, of shape `[..., 4]`; a box with a negative side gives NaN.
        boxes2: B, the shape of `boxes1`.
        box_format: "xyxy", "xywh" or "cxcywh".
        where: Which pairs count, of the shape of the result; see `jaxloss.reduce`.
        weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per pair of boxes.

    Reference:
        Zheng et al., "Distance-IoU loss: faster and better learning for bounding box regression",
        2020, eq. 7, https://arxiv.org/abs/1911.08287.

    Example:
        >>> diou_loss(jnp.array([0.0, 0.0, 1.0, 1.0]), jnp.array([3.0, 0.0, 4.0, 1.0]))
        Array(1.5294118, dtype=float32)
    """
    request = Request(where, weights, reduction)
    return _between(boxes1, boxes2, box_format, request, IOU_LOSS, DISTANCE)


@jit("box_format")
def ciou_loss(
    boxes1: Boxes,
    boxes2: Boxes,
    *,
    box_format: Format = "xyxy",
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Complete IoU loss: the distance IoU loss, and the aspect ratios are to agree too.

        1 - IoU + d^2 / c^2 + a v
        v = 4 / pi^2 (atan(w1 / h1) - atan(w2 / h2))^2,   a = v / (1 - IoU + v)

    with d and c as in `diou_loss`, and a held constant under differentiation, as in the paper. A
    point has the angle 0. Where corners are level a coordinate has the smaller of the slopes on its
    two sides, 0 if the loss grows both ways; where boxes touch it has that of boxes that overlap.

    Args:
        boxes1: A, of shape `[..., 4]`; a box with a negative side gives NaN.
        boxes2: B, the shape of `boxes1`.
        box_format: "xyxy", "xywh" or "cxcywh".
        where: Which pairs count, of the shape of the result; see `jaxloss.reduce`.
        weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per pair of boxes.

    Reference:
        Zheng et al., "Distance-IoU loss: faster and better learning for bounding box regression",
        2020, eq. 8 to 11, https://arxiv.org/abs/1911.08287.

    Example:
        >>> ciou_loss(jnp.array([0.0, 0.0, 4.0, 1.0]), jnp.array([0.0, 0.0, 1.0, 4.0]))
        Array(1.1662354, dtype=float32)
    """
    request = Request(where, weights, reduction)
    return _between(boxes1, boxes2, box_format, request, IOU_LOSS, DISTANCE, ASPECT)
