"""Boxes: rows of four numbers, in each of the formats."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

import jaxloss
from tests.laws.case import Case, Kind, Options

FORMATS = ("xyxy", "xywh", "cxcywh")


def as_format(corners: np.ndarray, box_format: str) -> np.ndarray:
    """Boxes `[..., 4]` from their corners."""
    low, high = corners[..., :2], corners[..., 2:]
    if box_format == "xyxy":
        return corners
    return np.concatenate([low if box_format == "xywh" else (low + high) / 2, high - low], -1)


def corners_of(box: Any, box_format: str) -> np.ndarray:
    """In float64, in which the corners of ordinary boxes are exact."""
    box = np.asarray(box, np.float64)
    first, second = box[..., :2], box[..., 2:]
    if box_format == "xyxy":
        return box
    low = first if box_format == "xywh" else first - second / 2
    return np.concatenate([low, low + second], -1)


def drawn(box_format: str, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    low = rng.uniform(-2, 0, (*shape[:-1], 2))
    high = rng.uniform(0.5, 3, (*shape[:-1], 2))
    return as_format(np.concatenate([low, high], -1), box_format)


BOXES = {
    name: Kind(functools.partial(drawn, name), whole=np.round if name == "xyxy" else None)
    for name in FORMATS
}


def level(first: Any, second: Any, box_format: str = "xyxy") -> bool:
    """Whether corners are level, or boxes touch."""
    a, b = (corners_of(box, box_format) for box in (first, second))
    return any(a[i] == b[j] for i in range(4) for j in (i % 2, i % 2 + 2))


def points(box_format: str, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Boxes that overlap, lie apart, contain each other, are thin, small, large, nearly equal."""
    rng = np.random.default_rng(seed)

    def random(count: int) -> np.ndarray:
        ends = np.sort(rng.normal(0, 2, (count, 2, 2, 2)), -2)
        return ends.reshape(count, 2, 4)

    pairs = [random(60)]
    # Sides of all sizes beside each other, and all of one size.
    thin = random(40) * np.tile(10.0 ** rng.integers(-4, 5, (40, 2, 2)), (1, 1, 2))
    sized = random(60) * np.tile(10.0 ** rng.integers(-30, 31, (60, 1, 2)), (1, 1, 2))
    alike = random(40) * 10.0 ** rng.integers(-30, 31, (40, 1, 1))
    pairs += [thin, sized, alike]
    # The same again and a little more; far from the origin too.
    near = random(40)
    near[:, 1] = near[:, 0] + np.abs(rng.normal(0, 1e-4, (40, 4))) * [-1, -1, 1, 1]
    pairs += [near, near[:20] + 1e3, random(20) + 1e4 * rng.normal(size=(20, 1, 1))]
    # Without a width, without an area.
    flat = random(20)
    flat[:, 0, 2] = flat[:, 0, 0]
    flat[:10, 0, 3] = flat[:10, 0, 1]
    pairs.append(flat)
    found = as_format(np.concatenate(pairs).astype(np.float32).astype(float), box_format)
    return [(a, b) for a, b in found.astype(np.float32)]


def end_terms(name: str, pair: np.ndarray, index: int, axis: int, end: int) -> list[float]:
    """Of the derivative in one end of a box, by the rules for products and quotients.

    Args:
        name: Of the loss.
        pair: Both boxes by their corners, `[box, end, axis]`.
        index: Which box moves.
        axis: Along which axis.
        end: 0 for its low end, 1 for its high one.
    """
    own, other = pair[index], pair[1 - index]
    sides = own[1] - own[0], other[1] - other[0]
    shared = np.minimum(own[1], other[1]) - np.maximum(own[0], other[0])
    both = np.maximum(shared, 0)
    hull = np.maximum(own[1], other[1]) - np.minimum(own[0], other[0])
    common, around, across = np.prod(both), np.prod(hull), 1 - axis
    union = np.prod(sides[0]) + np.prod(sides[1]) - common
    outer = (own[1, axis] > other[1, axis], own[0, axis] < other[0, axis])[1 - end]
    gained = 0.0 if outer or np.any(shared < 0) else both[across]
    grown = sides[0][across]
    iou = (gained * (union + common) - common * grown) / union**2 if union else 0.0
    terms = [iou]
    if name == "giou_loss" and around:
        terms += [(grown - gained) / around, outer * union / around / hull[axis]]
    if name in ("diou_loss", "ciou_loss") and np.any(hull):
        shift, square = np.mean(own - other, 0), np.sum(hull**2)
        part = np.sum(shift**2) / square
        terms += [shift[axis] / square, outer * 2 * part * hull[axis] / square]
    if name == "ciou_loss" and np.any(sides[0]):
        angles = [np.arctan2(*side) for side in sides]
        gap = 4 / np.pi**2 * (angles[0] - angles[1]) ** 2
        alpha = gap / (1 - common / union + gap) if union and gap else float(gap > 0)
        turn = grown / np.sum(sides[0] ** 2)
        terms.append(alpha * 8 / np.pi**2 * max(angles) * turn)
    return [abs(float(term)) for term in terms]


def largest(name: str, row: Any, options: Options, wrt: Any) -> float | None:
    """The largest term; of a derivative in a centre or a side, from either end."""
    if wrt is None:
        return None
    box_format = options.get("box_format", "xyxy")
    index, (place,) = wrt
    pair = np.stack([corners_of(box, box_format).reshape(2, 2) for box in row])
    ends = (place // 2,) if box_format == "xyxy" else (0, 1)
    return max(max(end_terms(name, pair, index, place % 2, end)) for end in ends)


ROW: dict[str, Any] = {
    "axis": True,
    "inner": (4,),
    "entries": False,
    "optional_targets": False,
    "kink": level,
}
SQUARE, APART = (0.0, 0.0, 2.0, 2.0), (3.0, 0.0, 5.0, 2.0)
LOSSES = (jaxloss.iou_loss, jaxloss.giou_loss, jaxloss.diou_loss, jaxloss.ciou_loss)
HELD: dict[str, Any] = {
    "not_numerical": "the factor of the aspect ratios is held constant, not by a difference"
}
EQUAL = ((SQUARE, SQUARE), {}, (np.zeros(4), np.zeros(4)))
POINTS = (((1.0, 1.0, 1.0, 1.0),) * 2, {}, (np.zeros(4), np.zeros(4)))


def case(loss: Any, box_format: str = "xyxy", **more: Any) -> Case:
    kind = BOXES[box_format]
    return Case(
        loss,
        data=(kind, kind),
        options={} if box_format == "xyxy" else {"box_format": box_format},
        points=functools.partial(points, box_format),
        largest=functools.partial(largest, loss.__name__),
        **ROW,
        **(HELD if loss is jaxloss.ciou_loss else {}),
        **more,
    )


CASES = [
    case(jaxloss.box_iou, zero_when_exact=False, stated=[EQUAL, POINTS]),
    *(case(loss, stated=[EQUAL, POINTS]) for loss in LOSSES),
]

VARIATIONS = [
    *(
        case(loss, box_format)
        for box_format in FORMATS[1:]
        for loss in (jaxloss.box_iou, jaxloss.giou_loss, jaxloss.ciou_loss)
    ),
    case(jaxloss.iou_loss, "xywh"),
    case(jaxloss.diou_loss, "cxcywh"),
]


def codes(box_format: str, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Ordinary codes and codes of the ends of the domain, of anchors of all sizes."""
    rng = np.random.default_rng(seed)
    anchors = [anchor for _, anchor in points(box_format, seed)[::4]]
    found = rng.normal(0, 1, (len(anchors), 4))
    found[::3] = rng.choice([0.0, 1e-30, 1e-6, -3.0, 9.0], found[::3].shape)
    return list(zip(found.astype(np.float32), anchors, strict=True))


def coding(function: Any, box_format: str, places: Any, **more: Any) -> Case:
    weights: Options = {"weights": (10.0, 5.0, 2.5, 0.5)}
    return Case(
        function,
        data=(BOXES[box_format],) * 2,
        options={"box_format": box_format, **weights, **more},
        axis=True,
        batch=True,
        points=functools.partial(places, box_format),
    )


FUNCTIONS = [
    *(coding(jaxloss.encode_boxes, name, points) for name in FORMATS),
    *(coding(jaxloss.decode_boxes, name, codes, max_log_scale=1.5) for name in FORMATS),
]
