"""Boxes: lists of the four numbers that box_format names. A side of negative length gives NaN."""

from mpmath import mp

from tests.laws.slopes import slopes


def box_iou(boxes1, boxes2, *, box_format="xyxy"):
    intersection, union = _areas(*_pair(boxes1, boxes2, box_format))
    return [_ratio(intersection, union)]


def iou_loss(boxes1, boxes2, *, box_format="xyxy"):
    return [mp.one, *(-iou for iou in box_iou(boxes1, boxes2, box_format=box_format))]


def giou_loss(boxes1, boxes2, *, box_format="xyxy"):
    pair = _pair(boxes1, boxes2, box_format)
    _, union = _areas(*pair)
    (width, height), _ = _hull(*pair)
    empty = _ratio(width * height - union, width * height)
    return [*iou_loss(boxes1, boxes2, box_format=box_format), empty]


def diou_loss(boxes1, boxes2, *, box_format="xyxy"):
    (width, height), (x, y) = _hull(*_pair(boxes1, boxes2, box_format))
    distance = _ratio(x**2 + y**2, width**2 + height**2)
    return [*iou_loss(boxes1, boxes2, box_format=box_format), distance]


@slopes(held=lambda *args, **options: {"trade_off": _trade_off(*args, **options)})
def ciou_loss(boxes1, boxes2, *, box_format="xyxy", trade_off=None):
    """trade_off, by default `_trade_off` of the boxes, is a constant for derivatives."""
    if trade_off is None:
        trade_off = _trade_off(boxes1, boxes2, box_format=box_format)
    v = _aspect_gap(*_pair(boxes1, boxes2, box_format))
    return [*diou_loss(boxes1, boxes2, box_format=box_format), trade_off * v]


def encode_boxes(boxes, anchors, *, anchor=None, weights=(1, 1, 1, 1), box_format="xyxy"):
    """No loss: the four numbers of the code, or that at the place `anchor`."""
    (x, y, w, h), (ax, ay, aw, ah) = (_centred(b) for b in _pair(boxes, anchors, box_format))
    if not (aw > 0 and ah > 0):
        return [mp.nan] * (4 if anchor is None else 1)
    code = (x - ax) / aw, (y - ay) / ah, mp.log(w / aw), mp.log(h / ah)
    code = [weight * part for weight, part in zip(weights, code, strict=True)]
    return code if anchor is None else [code[anchor]]


def decode_boxes(
    codes,
    anchors,
    *,
    anchor=None,
    weights=(1, 1, 1, 1),
    box_format="xyxy",
    max_log_scale=mp.inf,
):
    """No loss: the four numbers of the box, or the terms of that at the place `anchor`."""
    x, y, w, h = _centred(_corners(anchors, box_format))
    if 0 in weights or not (w >= 0 and h >= 0):
        return [mp.nan] * (4 if anchor is None else 1)
    dx, dy, *scales = (mp.mpf(part) / weight for part, weight in zip(codes, weights, strict=True))
    centre = [x, dx * w], [y, dy * h]
    sides = [a * mp.exp(min(b, max_log_scale)) for a, b in zip((w, h), scales, strict=True)]
    low, high = (
        [[*c, sign * s / 2] for c, s in zip(centre, sides, strict=True)] for sign in (-1, 1)
    )
    box = {
        "xyxy": [*low, *high],
        "xywh": [*low, *([s] for s in sides)],
        "cxcywh": [*centre, *([s] for s in sides)],
    }[box_format]
    return [mp.fsum(terms) for terms in box] if anchor is None else box[anchor]


def _corners(box, box_format):
    """x1, y1, x2, y2, all NaN where a side has a negative length or a number is NaN."""
    a, b, c, d = (mp.mpf(x) for x in box)
    corners = {
        "xyxy": [a, b, c, d],
        "xywh": [a, b, a + c, b + d],
        "cxcywh": [a - c / 2, b - d / 2, a + c / 2, b + d / 2],
    }[box_format]
    return corners if corners[0] <= corners[2] and corners[1] <= corners[3] else [mp.nan] * 4


def _pair(boxes1, boxes2, box_format):
    """The corners of two boxes, NaN for both where they are for one."""
    pair = [_corners(box, box_format) for box in (boxes1, boxes2)]
    return [[mp.nan] * 4] * 2 if any(mp.isnan(x) for box in pair for x in box) else pair


def _sides(corners):
    x1, y1, x2, y2 = corners
    return x2 - x1, y2 - y1


def _centred(corners):
    x1, y1, x2, y2 = corners
    return (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1


def _areas(first, second):
    """The areas of the intersection and of the union."""
    lows, highs = map(max, first[:2], second[:2]), map(min, first[2:], second[2:])
    width, height = (max(high - low, mp.zero) for low, high in zip(lows, highs, strict=True))
    intersection = width * height
    (w1, h1), (w2, h2) = _sides(first), _sides(second)
    return intersection, w1 * h1 + w2 * h2 - intersection


def _hull(first, second):
    """The sides of the smallest box around both, and the vector between their centres."""
    corners = [*map(min, first[:2], second[:2]), *map(max, first[2:], second[2:])]
    (x, y, *_), (u, v, *_) = _centred(first), _centred(second)
    return _sides(corners), (x - u, y - v)


def _aspect_gap(first, second):
    """The v of CIoU. A box without a height has the angle pi / 2, a point the angle 0."""
    return 4 / mp.pi**2 * (mp.atan2(*_sides(first)) - mp.atan2(*_sides(second))) ** 2


def _trade_off(boxes1, boxes2, *, box_format="xyxy"):
    """The alpha of CIoU."""
    pair = _pair(boxes1, boxes2, box_format)
    v = _aspect_gap(*pair)
    return _ratio(v, 1 - _ratio(*_areas(*pair)) + v)


def _ratio(part, whole):
    return part / whole if whole else mp.zero
