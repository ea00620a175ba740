"""The oracles of boxes against counted cells and hand arithmetic."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mpmath import mp

from tests.boxes import oracles as boxes
from tests.laws import oracle as oracles
from tests.laws.precise import mpf, same, total

FORMATS = ["xyxy", "xywh", "cxcywh"]


def as_format(corners, box_format):
    x1, y1, x2, y2 = corners
    w, h = x2 - x1, y2 - y1
    return {
        "xyxy": corners,
        "xywh": (x1, y1, w, h),
        "cxcywh": (x1 + w / 2, y1 + h / 2, w, h),
    }[box_format]


def cells(box):
    x1, y1, x2, y2 = box
    return set(itertools.product(range(x1, x2), range(y1, y2)))


def grid_boxes():
    sides = list(itertools.combinations(range(4), 2))
    return [(x1, y1, x2, y2) for (x1, x2), (y1, y2) in itertools.product(sides, sides)]


LOSSES = boxes.box_iou, boxes.iou_loss, boxes.giou_loss, boxes.diou_loss, boxes.ciou_loss


def counted(a, b):
    """What `LOSSES` have to give, and CIoU with the factor 3."""
    hull = (*map(min, a[:2], b[:2]), *map(max, a[2:], b[2:]))
    both, either, around = (len(s) for s in (cells(a) & cells(b), cells(a) | cells(b), cells(hull)))
    iou = both / either
    x, y = (a[i] + a[i + 2] - b[i] - b[i + 2] for i in (0, 1))
    w, h = hull[2] - hull[0], hull[3] - hull[1]
    diou = 1 - iou + (x**2 + y**2) / 4 / (w**2 + h**2)
    angles = [np.arctan((c[2] - c[0]) / (c[3] - c[1])) for c in (a, b)]
    v = 4 / np.pi**2 * (angles[0] - angles[1]) ** 2
    alpha = v / (1 - iou + v) if a != b else 0
    giou = 1 - iou + (around - either) / around
    return iou, 1 - iou, giou, diou, diou + alpha * v, diou + 3 * v


def test_areas_by_counting_cells():
    pairs = list(itertools.product(grid_boxes(), repeat=2))
    expected = [counted(*pair) for pair in pairs]
    for box_format in FORMATS:
        found = []
        for pair in pairs:
            args = [mpf(as_format(box, box_format)) for box in pair]
            values = [loss(*args, box_format=box_format) for loss in LOSSES]
            fixed = boxes.ciou_loss(*args, box_format=box_format, trade_off=mp.mpf(3))
            found.append([*map(total, values), total(fixed)])
        same(found, expected)


def test_boxes_by_hand():
    a, b = mpf([0, 0, 4, 2]), mpf([2, 1, 4, 5])
    # Overlap 2 x 1 of areas 8 and 8; hull 4 x 5; centres (2, 1) and (3, 3).
    same(total(boxes.box_iou(a, b)), 2 / 14)
    same(total(boxes.giou_loss(a, b)), 1 - 2 / 14 + 6 / 20)
    same(total(boxes.diou_loss(a, b)), 1 - 2 / 14 + 5 / 41)
    v = 4 / np.pi**2 * (np.arctan(2) - np.arctan(0.5)) ** 2
    same(total(boxes.ciou_loss(a, b)), 1 - 2 / 14 + 5 / 41 + v**2 / (12 / 14 + v))


def test_degenerate_boxes():
    point, same_point, other = mpf([1, 1, 1, 1]), mpf([1, 1, 1, 1]), mpf([3, 1, 3, 1])
    line, square = mpf([0, 1, 2, 1]), mpf([0, 0, 2, 2])
    losses = boxes.iou_loss, boxes.giou_loss, boxes.diou_loss, boxes.ciou_loss
    for loss in losses:
        assert total(loss(point, same_point)) == 1
        assert total(loss(line, line)) == 1
    assert [total(loss(point, other)) for loss in losses] == [1, 1, 2, 2]
    assert [total(loss(point, square)) for loss in losses[:3]] == [1, 1, 1]
    assert [total(loss(line, square)) for loss in losses[:3]] == [1, 1, 1]
    # Angles pi / 2 and pi / 4: v = 1 / 4, alpha = (1 / 4) / (5 / 4).
    same(total(boxes.ciou_loss(line, square)), 1.05)
    bad = ([2, 0, 1, 1], [0, 2, 1, 1], ["nan", 0, 1, 1], [0, 0, 1, "nan"])
    for box, loss in itertools.product(bad, (boxes.box_iou, *losses)):
        assert mp.isnan(mp.fsum(loss(mpf(box), square)))
        assert mp.isnan(mp.fsum(loss(square, mpf(box))))
    for box_format in ("xywh", "cxcywh"):
        assert mp.isnan(boxes.box_iou(mpf([0, 0, -1, 1]), square, box_format=box_format)[0])


@pytest.mark.parametrize("box_format", FORMATS)
def test_coding(box_format):
    box, anchor, weights = mpf([1, 2, 5, 4]), mpf([0, 0, 2, 8]), (10, 10, 5, 5)
    args = [mpf(as_format(b, box_format)) for b in (box, anchor)]
    code = boxes.encode_boxes(*args, weights=weights, box_format=box_format)
    expected = [10 * (3 - 1) / 2, 10 * (3 - 4) / 8, 5 * np.log(2), 5 * np.log(1 / 4)]
    same([float(x) for x in code], expected)
    back = boxes.decode_boxes(code, args[1], weights=weights, box_format=box_format)
    same([float(x) for x in back], [float(x) for x in args[0]])
    capped = boxes.decode_boxes([0, 0, 9, -9], anchor, max_log_scale=mp.log(3))
    same([float(x) for x in capped], [-2, 4 - 4 * np.exp(-9), 4, 4 + 4 * np.exp(-9)])


def test_coding_at_the_edges():
    code = boxes.encode_boxes(mpf([1, 2, 1, 4]), mpf([0, 0, 2, 8]))
    assert code[2] == -mp.inf
    assert boxes.decode_boxes(code, mpf([0, 0, 2, 8])) == [1, 2, 1, 4]
    for pair in (([2, 0, 1, 1], [0, 0, 1, 1]), ([0, 0, 1, 1], [0, 0, 0, 1])):
        assert all(mp.isnan(x) for x in boxes.encode_boxes(*map(mpf, pair)))


def ciou_in_jax(a, b):
    """With the trade-off held constant."""
    overlap = jnp.clip(jnp.minimum(a[2:], b[2:]) - jnp.maximum(a[:2], b[:2]), 0).prod()
    iou = overlap / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - overlap)
    hull = jnp.maximum(a[2:], b[2:]) - jnp.minimum(a[:2], b[:2])
    apart = (a[:2] + a[2:] - b[:2] - b[2:]) / 2
    first, second = (jnp.arctan((c[2] - c[0]) / (c[3] - c[1])) for c in (a, b))
    v = 4 / jnp.pi**2 * (first - second) ** 2
    alpha = jax.lax.stop_gradient(v / (1 - iou + v))
    return 1 - iou + (apart**2).sum() / (hull**2).sum() + alpha * v


def test_derivatives():
    """The difference quotients of `oracles.derivative` work on these formulas."""
    a, b = [0.0, 0.5, 4.0, 2.0], [2.0, 1.0, 5.0, 5.0]
    args = [np.array(a), np.array(b)]
    ours = [float(oracles.derivative("ciou_loss", args, {}, (0, (i,)))[0]) for i in range(4)]
    with jax.enable_x64(True):
        expected = jax.jit(jax.grad(ciou_in_jax))(*args)
        same(ours, np.asarray(expected))
