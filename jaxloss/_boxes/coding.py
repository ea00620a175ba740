"""The coding of boxes that detectors are trained on; `losses.py` describes the formats."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from .._contract import inputs
from .._contract.jit import jit
from .._contract.prepared import Hyper
from .._numerics.kinks import closed_form, divide
from .._numerics.special import log_quotient
from .pairs import Boxes, box_pairs
from .spans import Format, ends, halves


def _factors(weights: Any, codes: jax.Array) -> jax.Array:
    """The weight of each number of the codes."""
    factors = inputs.real("weights", weights)
    if factors.shape != (4,):
        got = inputs.described(weights=factors)
        raise ValueError(f"weights must be four numbers, one for each of a code, got {got}")
    return jnp.broadcast_to(factors.astype(codes.dtype), codes.shape)


def _inverse(x: jax.Array) -> jax.Array:
    return divide(jnp.ones_like(x), x)


@closed_form(lambda a, b, difference: (_inverse(a), -_inverse(b), 0))
def _log_scale(a: jax.Array, b: jax.Array, difference: jax.Array) -> jax.Array:
    return log_quotient(a, b, difference)


@jit("box_format")
def encode_boxes(
    boxes: Boxes,
    anchors: Boxes,
    *,
    weights: Float[ArrayLike, 4] | Sequence[float] = (1.0, 1.0, 1.0, 1.0),
    box_format: Format = "xyxy",
) -> Float[Array, "*batch 4"]:
    """What is to be predicted of a box, given an anchor: the targets of Smooth L1. Not a loss.

        (cx - ax) / aw, (cy - ay) / ah, log(w / aw), log(h / ah)

    times the weights, with the centres (cx, cy), (ax, ay) and the sides of box and anchor. Such
    codes are of about the size 1 whatever the size of the object: `smooth_l1_loss` between them and
    a model's codes is the regression loss of Fast R-CNN.

    Args:
        boxes: Of shape `[..., 4]`. A box with a negative side gives NaN, with a side of 0 a code of
            -inf.
        anchors: Proposals, or whatever boxes the model starts from; the shape of `boxes`. NaN
            unless their sides are positive.
        weights: Four factors, one for each number of a code. Detectors often take
            (10, 10, 5, 5), the inverse deviations of codes.
        box_format: That of boxes and anchors: "xyxy", "xywh" or "cxcywh".

    Returns:
        Codes of the shape of `boxes`.

    Reference:
        Girshick, "Fast R-CNN", 2015, section 2.3, https://arxiv.org/abs/1504.08083; the code is
        that of Girshick et al., "Rich feature hierarchies for accurate object detection and
        semantic segmentation", 2014, appendix C, https://arxiv.org/abs/1311.2524.

    Example:
        >>> encode_boxes(jnp.array([1.0, 2.0, 5.0, 6.0]), jnp.array([0.0, 2.0, 4.0, 4.0]))
        Array([0.25     , 0.5      , 0.       , 0.6931472], dtype=float32)
    """
    data = {"boxes": boxes, "anchors": anchors}
    first, second = box_pairs(data, box_format).data
    (own, base), *_, shift, growth = ends(box_format, halves(first), halves(second))
    codes = jnp.concatenate([divide(shift, base), _log_scale(own, base, growth)], -1)
    domain = jnp.all((own >= 0) & (base > 0), -1, keepdims=True)
    return inputs.nan_outside(_factors(weights, codes) * codes, domain)


@jit("box_format")
def decode_boxes(
    codes: Float[ArrayLike, "*batch 4"] | Sequence[Any],
    anchors: Boxes,
    *,
    weights: Float[ArrayLike, 4] | Sequence[float] = (1.0, 1.0, 1.0, 1.0),
    box_format: Format = "xyxy",
    max_log_scale: ArrayLike = float("inf"),
) -> Float[Array, "*batch 4"]:
    """The box that a code means: the inverse of `encode_boxes`. Not a loss.

        cx = ax + dx aw,   cy = ay + dy ah,   w = aw exp(min(dw, m)),   h = ah exp(min(dh, m))

    of codes (dx, dy, dw, dh) divided by the weights, with m = `max_log_scale`. At m the slope is
    that of smaller codes; beyond it is 0.

    Args:
        codes: Of shape `[..., 4]`: predictions of a model.
        anchors: The boxes that the codes start from, of that shape; NaN for a negative side.
        weights: Those of `encode_boxes`; NaN if one is 0.
        box_format: That of the anchors and of the result: "xyxy", "xywh" or "cxcywh".
        max_log_scale: m, beyond which a side is held, lest it overflow: one number, or one for each
            box. torchvision's is log(1000 / 16).

    Returns:
        Boxes of the shape of `codes`.

    Reference:
        Girshick et al., "Rich feature hierarchies for accurate object detection and semantic
        segmentation", 2014, appendix C, https://arxiv.org/abs/1311.2524.

    Example:
        >>> decode_boxes(jnp.array([0.25, 0.5, 0.0, 0.0]), jnp.array([0.0, 2.0, 4.0, 4.0]))
        Array([1., 3., 5., 5.], dtype=float32)
    """
    data = {"codes": codes, "anchors": anchors}
    given = box_pairs(data, box_format, hyper={"max_log_scale": Hyper(max_log_scale)})
    scaled, starts, limit = given.arrays
    factors = _factors(weights, scaled)
    first, second = halves(starts)
    base = second - first if box_format == "xyxy" else second
    steps, scales = halves(scaled / factors)
    limit = jnp.expand_dims(limit, -1)
    sides = base * jnp.exp(jnp.where(scales > limit, limit, scales))
    centre = first + steps * base + (0.0 if box_format == "cxcywh" else 0.5 * base)
    half = 0.5 * sides
    found = {
        "xyxy": [centre - half, centre + half],
        "xywh": [centre - half, sides],
        "cxcywh": [centre, sides],
    }[box_format]
    domain = jnp.all(base >= 0, -1, keepdims=True) & jnp.all(factors != 0, -1, keepdims=True)
    # A comparison of a code with a limit of NaN is false, as if there were none.
    domain &= ~jnp.isnan(limit)
    return inputs.nan_outside(jnp.concatenate(found, -1), domain)
