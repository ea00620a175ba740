"""The losses of boxes, live against torchvision's public formulas in PyTorch, and Keras.

torchvision is no dependency: its formulas are written here, in float64.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxloss
from tests.boxes.cases import as_format
from tests.laws.peers import Evaluated, alike, as_jax_ships, evaluated, of_torch, torch_loss
from tests.laws.values import EPS

_RNG = np.random.default_rng(7)
# Overlapping, apart, one in the other; nowhere level corners. Sides of tens, in which the peers'
# epsilon of 1e-7 is lost.
_ENDS = np.sort(_RNG.uniform(0, 90, (64, 2, 2, 2)), -2)
A, B = (x.astype(np.float32) for x in np.moveaxis(_ENDS.reshape(64, 2, 4), 1, 0))


def torchvision(name: str, F: Any, a: Any, b: Any) -> Any:
    """iou_loss, generalized_box_iou_loss, distance_box_iou_loss and complete_box_iou_loss."""
    (x1, y1, x2, y2), (u1, v1, u2, v2) = a.unbind(-1), b.unbind(-1)
    common = F.relu(x2.minimum(u2) - x1.maximum(u1)) * F.relu(y2.minimum(v2) - y1.maximum(v1))
    union = (x2 - x1) * (y2 - y1) + (u2 - u1) * (v2 - v1) - common
    iou = common / (union + 1e-7)
    across = x2.maximum(u2) - x1.minimum(u1)
    down = y2.maximum(v2) - y1.minimum(v1)
    losses = 1 - iou
    if name == "giou_loss":
        losses = losses + (across * down - union) / (across * down + 1e-7)
    if name in ("diou_loss", "ciou_loss"):
        apart = (x1 + x2 - u1 - u2) ** 2 / 4 + (y1 + y2 - v1 - v2) ** 2 / 4
        losses = losses + apart / (across**2 + down**2 + 1e-7)
    if name == "ciou_loss":
        angles = [((box[:, 2] - box[:, 0]) / (box[:, 3] - box[:, 1])).atan() for box in (a, b)]
        v = 4 / math.pi**2 * (angles[0] - angles[1]) ** 2
        losses = losses + (v / (1 - iou + v + 1e-7)).detach() * v
    return losses


def of_torchvision(name: str, a: np.ndarray, b: np.ndarray) -> Evaluated:
    return of_torch(functools.partial(torchvision, name), a, b, dtype=np.float64)


@pytest.mark.parametrize("name", ["iou_loss", "giou_loss", "diou_loss", "ciou_loss"])
def test_torchvision(name: str) -> None:
    ours = evaluated(getattr(jaxloss, name), A, B)
    alike(ours, of_torchvision(name, A, B), rtol=16 * EPS, largest=None)


@pytest.mark.parametrize("box_format", ["xywh", "cxcywh"])
def test_formats_are_changes_of_coordinates(box_format: Any) -> None:
    """torchvision converts boxes first; the gradients follow by the chain rule."""
    a, b = (as_format(x.astype(np.float64), box_format).astype(np.float32) for x in (A, B))
    ours = evaluated(functools.partial(jaxloss.giou_loss, box_format=box_format), a, b)
    losses, slopes = of_torchvision("giou_loss", A, B)
    changed = []
    for slope in slopes:
        low, high = slope[:, :2], slope[:, 2:]
        side = high if box_format == "xywh" else (high - low) / 2
        changed.append(np.concatenate([low + high, side], 1))
    for mine, other in zip([ours[0], *ours[1]], [losses, *changed], strict=True):
        # Centres and sides of such boxes are rounded.
        np.testing.assert_allclose(mine, other, atol=1e-5 * np.abs(other).max())


def test_torchvision_has_another_loss_for_small_boxes() -> None:
    """In parts of an image, 3 by 3 pixels of 10,000 by 10,000 have an area of 1e-7, its epsilon."""
    small = np.array([[0.5, 0.5, 0.5003, 0.5003]], np.float32)
    theirs, _ = of_torchvision("iou_loss", small, small)
    assert theirs > 0.5
    assert jaxloss.iou_loss(small, small) == 0


@pytest.fixture
def bounding_boxes() -> Any:
    return pytest.importorskip("keras").utils.bounding_boxes


def test_keras_iou(bounding_boxes: Any) -> None:
    with as_jax_ships():
        theirs = jax.jit(lambda a, b: bounding_boxes.compute_iou(a, b, "xyxy"))(A[:8], B)
    ours = jax.jit(jax.vmap(jax.vmap(jaxloss.box_iou, (None, 0)), (0, None)))(A[:8], B)
    np.testing.assert_allclose(ours, theirs, rtol=16 * EPS, atol=1e-9)


def test_keras_differentiates_the_factor_of_ciou(bounding_boxes: Any) -> None:
    def theirs(a: Any, b: Any) -> Any:
        return 1 - bounding_boxes.compute_ciou(a, b, "xyxy")

    with as_jax_ships():
        losses, slopes = evaluated(theirs, A, B)
    ours = evaluated(jaxloss.ciou_loss, A, B)
    np.testing.assert_allclose(ours[0], losses, rtol=16 * EPS)
    _, held = of_torchvision("ciou_loss", A, B)
    assert np.abs(slopes[0] - held[0]).max() > 1e-2 * np.abs(held[0]).max()


def test_keras_coding(bounding_boxes: Any) -> None:
    options: dict[str, Any] = {"anchor_format": "xyxy", "box_format": "xyxy"}
    variance = [0.1, 0.1, 0.2, 0.2]
    weights = tuple(1 / x for x in variance)
    with as_jax_ships():
        encode = bounding_boxes.encode_box_to_deltas
        theirs = encode(B, A, encoding_format="center_xywh", variance=variance, **options)
        decode = bounding_boxes.decode_deltas_to_boxes
        back = decode(B, theirs, encoded_format="center_xywh", variance=variance, **options)
    codes = jaxloss.encode_boxes(A, B, weights=weights)
    np.testing.assert_allclose(codes, theirs, rtol=1e-5, atol=2e-6 * np.abs(theirs).max())
    ours = jaxloss.decode_boxes(theirs, B, weights=weights)
    np.testing.assert_allclose(ours, back, atol=1e-4)
    np.testing.assert_allclose(ours, A, atol=1e-4)


def test_smooth_l1_of_codes_is_that_of_torch() -> None:
    """The regression loss of Fast R-CNN, in PyTorch's words."""
    sides, centres = B[:, 2:] - B[:, :2], (B[:, 2:] + B[:, :2]) / 2
    own, middles = A[:, 2:] - A[:, :2], (A[:, 2:] + A[:, :2]) / 2
    targets = np.concatenate([(middles - centres) / sides, np.log(own / sides)], 1)
    predictions = _RNG.normal(size=targets.shape).astype(np.float32)
    peer = torch_loss("smooth_l1_loss", labels=targets, beta=1 / 9)
    theirs, _ = of_torch(peer, predictions)
    codes = jaxloss.encode_boxes(A, B)
    ours = jaxloss.smooth_l1_loss(jnp.asarray(predictions), codes, beta=1 / 9, reduction="mean")
    np.testing.assert_allclose(ours, theirs.mean(), rtol=1e-5)
