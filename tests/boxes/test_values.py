from __future__ import annotations

import functools
import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from jaxloss import (
    box_iou,
    ciou_loss,
    decode_boxes,
    diou_loss,
    encode_boxes,
    giou_loss,
    iou_loss,
)
from tests.boxes.cases import FORMATS, as_format, corners_of, level
from tests.laws.values import evaluated

LOSSES = (iou_loss, giou_loss, diou_loss, ciou_loss)
exact = functools.partial(np.testing.assert_allclose, rtol=1e-6, atol=1e-7)


def float32(numbers: Any) -> np.ndarray:
    return np.asarray(numbers, np.float32)


def both(loss: Any, *boxes: Any, box_format: Any = "xyxy") -> tuple[np.ndarray, np.ndarray]:
    """The loss of two boxes and its gradients in both."""
    losses, slopes = evaluated(loss, *map(float32, boxes), wrt=(0, 1), box_format=box_format)
    return np.asarray(losses), np.stack(slopes)


def value(loss: Any, *boxes: Any) -> np.ndarray:
    return both(loss, *boxes)[0]


def slopes(loss: Any, *boxes: Any, box_format: Any = "xyxy") -> np.ndarray:
    return both(loss, *boxes, box_format=box_format)[1]


def test_values() -> None:
    # Overlap 2 x 1 of areas 8 and 8; hull 4 x 5; centres (2, 1) and (3, 3).
    a, b = [0.0, 0.0, 4.0, 2.0], [2.0, 1.0, 4.0, 5.0]
    exact(value(box_iou, a, b), 2 / 14)
    exact(value(iou_loss, a, b), 1 - 2 / 14)
    exact(value(giou_loss, a, b), 1 - 2 / 14 + 6 / 20)
    exact(value(diou_loss, a, b), 1 - 2 / 14 + 5 / 41)
    v = 4 / math.pi**2 * (math.atan(2) - math.atan(0.5)) ** 2
    exact(value(ciou_loss, a, b), 1 - 2 / 14 + 5 / 41 + v**2 / (12 / 14 + v))


def test_gradients_by_hand() -> None:
    # Overlap 1 x 2 of areas 4 and 8: I = 2, U = 10, and (1 - IoU)' = (I U' - I' U) / U^2.
    a, b = [0.0, 0.0, 2.0, 2.0], [1.0, -1.0, 3.0, 3.0]
    found, _ = slopes(iou_loss, a, b)
    # The right end grows by 2, all of it inside the other box; the left by 2, none of it; the
    # lower and the upper by 2, half of it.
    right, left, inside = (2 * 0 - 2 * 10) / 100, (2 * 2 - 0) / 100, (2 * 1 - 1 * 10) / 100
    exact(found, [-left, -inside, right, inside])
    # Apart: 1 + (C - U) / C, with C = 4 x 1 and U = 2.
    apart = [0.0, 0.0, 1.0, 1.0], [3.0, 0.0, 4.0, 1.0]
    found, _ = slopes(giou_loss, *apart)
    exact(found[[0, 2]], [-(2 / 16) + 1 / 4, -1 / 4])
    assert not np.any(slopes(iou_loss, *apart))
    # d^2 / c^2 with d = 3 and c^2 = 16 + 1.
    found, _ = slopes(diou_loss, *apart)
    exact(found[[0, 2]], [-3 / 17 + 2 * 9 * 4 / 17**2, -3 / 17])


def cells(box: Any) -> set[tuple[int, int]]:
    x1, y1, x2, y2 = map(int, box)
    return set(itertools.product(range(x1, x2), range(y1, y2)))


def test_areas_by_counting_cells() -> None:
    """All boxes on a grid against all others, in every format."""
    sides = list(itertools.combinations(range(4), 2))
    grid = np.array([(a, c, b, d) for (a, b), (c, d) in itertools.product(sides, sides)])
    pairs = np.array(list(itertools.product(grid, grid)), np.float32)
    common, either, around = [], [], []
    for a, b in pairs:
        hull = [*np.minimum(a, b)[:2], *np.maximum(a, b)[2:]]
        common.append(len(cells(a) & cells(b)))
        either.append(len(cells(a) | cells(b)))
        around.append(len(cells(hull)))
    common, either, around = (np.array(x) for x in (common, either, around))
    for box_format in FORMATS:
        given: Any = {"box_format": box_format}
        a, b = (as_format(pairs[:, i], box_format) for i in (0, 1))
        exact(box_iou(a, b, **given), common / either)
        exact(iou_loss(a, b, **given), 1 - common / either)
        exact(giou_loss(a, b, **given), 1 - common / either + (around - either) / around)


# None so small that a difference of two is flushed to 0.
NUMBERS = st.floats(-100, 100, width=16)


@st.composite
def two_boxes(draw: Any) -> np.ndarray:
    ends = np.array([[draw(NUMBERS) for _ in range(4)] for _ in range(2)], np.float32)
    return np.concatenate(
        [np.minimum(ends[:, :2], ends[:, 2:]), np.maximum(*np.split(ends, 2, 1))], 1
    )


@given(two_boxes())
def test_theorems(pair: np.ndarray) -> None:
    a, b = pair
    iou, *losses = (float(value(f, a, b)) for f in (box_iou, *LOSSES))
    points = np.all(pair[:, :2] == pair[:, 2:], 1)  # whose aspect ratio is a convention
    assert 0 <= iou <= 1
    exact(losses[0], 1 - iou)
    for loss, found, most in zip(LOSSES, losses, (1, 2, 2, 3), strict=True):
        assert losses[0] - 1e-6 <= found <= most
        # Symmetric; mirrored and turned boxes are no nearer.
        exact(value(loss, b, a), found)
        exact(value(loss, mirrored(a), mirrored(b)), found, atol=1e-6)
        if loss is not ciou_loss or not np.any(points):
            exact(value(loss, a[[1, 0, 3, 2]], b[[1, 0, 3, 2]]), found, atol=2e-6)
        area = np.prod(a[2:] - a[:2])
        exact(value(loss, a, a), 0 if area > 0 else 1)


def mirrored(box: np.ndarray) -> np.ndarray:
    return box[[2, 1, 0, 3]] * float32([-1, 1, -1, 1])


@given(two_boxes())
def test_what_moves_both_boxes_changes_nothing(pair: np.ndarray) -> None:
    """The gradients along a shift and along a zoom of both cancel (Euler's theorem)."""
    a, b = pair
    assume(not level(a, b))
    for loss in (iou_loss, giou_loss, diou_loss):
        first, second = slopes(loss, a, b)
        size = np.abs([first, second]).max()
        shift = (first + second).reshape(2, 2).sum(0)
        np.testing.assert_allclose(shift, 0, atol=1e-5 * size)


@pytest.mark.parametrize("box_format", FORMATS)
def test_equal_boxes_stay(box_format: Any) -> None:
    """No slope at all at the best place, though it is the corner of a kink."""
    for corners in ([0.0, 0.0, 4.0, 2.0], [1e3, -7.0, 1003.7, 0.3], [0.1, 0.2, 0.1, 0.7]):
        box = as_format(np.array(corners), box_format).astype(np.float32)
        for loss in LOSSES:
            found = slopes(loss, box, box, box_format=box_format)
            np.testing.assert_array_equal(found, np.zeros((2, 4)))


def test_level_corners_take_the_smaller_slope() -> None:
    # The upper ends are level; the others are not. The loss grows both ways.
    a, b = float32([0, 0, 2, 2]), float32([1, -1, 3, 2])
    step = float32([0, 0, 0, 1e-3])
    for loss in LOSSES:
        assert slopes(loss, a, b)[0][3] == 0
        up, down = (slopes(loss, a + d, b)[0][3] for d in (step, -step))
        assert down < 0 < up
    # Here it falls both ways: a thin box above a wide one, whose right ends are level. Either way
    # of the right end the hull's waste shrinks; the smaller of the slopes is inside.
    thin, wide = float32([9, 1, 10, 6]), float32([0, 0, 10, 0.25])
    step = float32([0, 0, 1e-3, 0])
    out, into = (slopes(giou_loss, thin + d, wide)[0][2] for d in (step, -step))
    at = slopes(giou_loss, thin, wide)[0][2]
    assert max(out, into) < 0
    np.testing.assert_allclose(at, max(out, into), rtol=1e-2)


def test_touching_boxes_train() -> None:
    a, b = [0.0, 0.0, 1.0, 1.0], [1.0, 0.0, 2.0, 1.0]
    loss, (first, second) = both(iou_loss, a, b)
    assert loss == 1
    exact(first, [0, 0, -1 / 2, 0])
    exact(second, [1 / 2, 0, 0, 0])
    # But for boxes that meet in a point, whose loss has no slope.
    assert not np.any(slopes(iou_loss, a, [1.0, 1.0, 2.0, 2.0]))


def test_degenerate_boxes() -> None:
    point, other, line, square = (
        float32(x) for x in ([1, 1, 1, 1], [3, 1, 3, 1], [0, 1, 2, 1], [0, 0, 2, 2])
    )
    assert [value(loss, point, point) for loss in LOSSES] == [1, 1, 1, 1]
    assert [value(loss, point, other) for loss in LOSSES] == [1, 1, 2, 2]
    assert [value(loss, point, square) for loss in LOSSES[:3]] == [1, 1, 1]
    # Angles of pi / 2 and pi / 4: v = 1 / 4, a = v / (1 + v).
    exact(value(ciou_loss, line, square), 1.05)
    assert value(box_iou, point, point) == value(box_iou, line, line) == 0
    # All finite, to the second order too.
    for loss in (box_iou, *LOSSES):
        curvature = jax.jit(jax.hessian(loss, (0, 1)))
        for a, b in itertools.product((point, other, line, square), repeat=2):
            assert np.all(np.isfinite(slopes(loss, a, b)))
            assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(curvature(a, b)))
    # A line across a box gains by growing.
    first, _ = slopes(iou_loss, [1.0, 0.0, 1.0, 2.0], square)
    exact(first, [1 / 2, 0, -1 / 2, 0])


@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1e-8, 1e8, 1e20, 1e30])
def test_areas_neither_overflow_nor_vanish(scale: float) -> None:
    a, b = float32([0, 0, 4, 2]), float32([2, 1, 4, 5])
    for loss in (box_iou, *LOSSES):
        loss_there, found = both(loss, a * np.float32(scale), b * np.float32(scale))
        loss_here, expected = both(loss, a, b)
        exact(loss_there, loss_here, rtol=2e-6)
        np.testing.assert_allclose(found.astype(np.float64) * scale, expected, atol=1e-6)


@pytest.mark.parametrize("box_format", FORMATS)
def test_nearly_equal_boxes_keep_their_digits(box_format: Any) -> None:
    """Far from the origin, where the corners of centres and sides would round the sides away."""
    rng = np.random.default_rng(0)
    corners = rng.uniform(1, 9, (64, 4)) * [1, 1, 0, 0]
    corners[:, 2:] = corners[:, :2] + rng.uniform(1, 9, (64, 2))
    a = as_format(corners + 1e4, box_format).astype(np.float32)
    b = a + np.spacing(a) * rng.integers(-2, 3, a.shape).astype(np.float32)
    first, second = corners_of(a, box_format), corners_of(b, box_format)
    low, high = np.maximum(first, second)[:, :2], np.minimum(first, second)[:, 2:]
    common = np.prod(high - low, -1)
    areas = [np.prod(x[:, 2:] - x[:, :2], -1) for x in (first, second)]
    expected = (sum(areas) - 2 * common) / (sum(areas) - common)
    losses = np.asarray(iou_loss(a, b, box_format=box_format))
    np.testing.assert_allclose(losses, expected, rtol=2e-6)
    assert np.all(np.asarray(giou_loss(a, b, box_format=box_format)) >= losses)


def test_the_factor_of_the_aspect_is_constant() -> None:
    """As in the paper: its gradient would drop a factor of about 2 of the pull, or reverse it."""
    a, b = float32([0.0, 0.5, 4.0, 2.0]), float32([2.0, 1.0, 5.0, 5.0])

    def with_aspect(a: Any, held: Any) -> Any:
        sides = [box[2:] - box[:2] for box in (a, b)]
        first, second = (jnp.arctan2(side[0], side[1]) for side in sides)
        v = 4 / math.pi**2 * (first - second) ** 2
        return diou_loss(a, b) + v * held(v / (iou_loss(a, b) + v))

    @functools.partial(jax.jit, static_argnums=0)
    def derivatives(loss: Any, a: Any, *rest: Any) -> Any:
        return jax.grad(loss)(a, *rest), jax.hessian(loss)(a, *rest)

    found, curvature = derivatives(ciou_loss, a, b)
    expected, bent = derivatives(lambda a: with_aspect(a, jax.lax.stop_gradient), a)
    exact(found, expected, atol=1e-6)
    through = jax.jit(jax.grad(lambda a: with_aspect(a, lambda x: x)))(a)
    assert np.abs(found - through).max() > 1e-3
    exact(curvature, bent, atol=1e-5)


@pytest.mark.parametrize("box_format", FORMATS)
def test_bad_boxes_are_nan(box_format: Any) -> None:
    square = as_format(np.array([0.0, 0.0, 2.0, 2.0]), box_format).astype(np.float32)
    bad = [square.copy() for _ in range(6)]
    for i in (0, 1):
        if box_format == "xyxy":
            bad[i][i], bad[i][i + 2] = 2, 1
        else:
            bad[i][i + 2] = -1
    for i in range(4):
        bad[i + 2][i] = np.nan
    for box, loss in itertools.product(bad, (box_iou, *LOSSES)):
        for pair in ((box, square), (square, box)):
            for found in both(loss, *pair, box_format=box_format):
                assert np.all(np.isnan(found)), (loss, pair)
    losses = giou_loss(np.stack([bad[0], square]), np.stack([square] * 2), box_format=box_format)
    np.testing.assert_array_equal(np.isnan(losses), [True, False])


def test_bad_input() -> None:
    boxes = np.zeros((3, 4), np.float32)
    for function in (box_iou, *LOSSES):
        with pytest.raises(ValueError, match="box_format must be one of 'xyxy', 'xywh', 'cxcywh'"):
            function(boxes, boxes, box_format="xxyy")  # type: ignore
        for shape in ((3, 5), (4, 3), ()):
            other = np.zeros(shape, np.float32)
            with pytest.raises(ValueError, match="last axis of boxes1 must have the 4 numbers"):
                function(other, other)
        for shape in ((1, 4), (4,), (3, 1, 4)):
            with pytest.raises(ValueError, match=r"boxes1 float32\[3, 4\], boxes2 float32"):
                function(boxes, np.zeros(shape, np.float32))
        # A mask is of boxes, not of their coordinates.
        with pytest.raises(ValueError, match=r"where must be a scalar .* got where bool\[3, 4\]"):
            function(boxes, boxes, where=np.ones((3, 4), bool))
        with pytest.raises(TypeError, match="boxes1 must be floating-point"):
            function(boxes.astype(int), boxes)


def test_excluded_boxes_may_hold_anything() -> None:
    box = float32([[0.0, 0.0, 2.0, 2.0], [5.0, 5.0, 1.0, 1.0], [np.nan] * 4])
    other = float32([[1.0, 0.0, 3.0, 2.0]] * 3)
    mask = np.array([True, False, False])
    for loss in LOSSES:
        mean = functools.partial(loss, where=mask, reduction="mean")

        @jax.jit
        def all_of(box: Any, other: Any, mean: Any = mean) -> Any:
            return jax.value_and_grad(mean)(box, other), jax.jacfwd(jax.grad(mean))(box, other)

        (found, slope), curvature = all_of(box, other)
        exact(found, value(loss, box[0], other[0]))
        assert np.any(slope[0] != 0)
        assert not np.any(slope[1:])
        assert not np.any(curvature[1:])


def test_all_pairs() -> None:
    rng = np.random.default_rng(1)
    low = rng.uniform(0, 1, (7, 2))
    boxes = np.concatenate([low, low + rng.uniform(0.1, 1, (7, 2))], 1).astype(np.float32)
    table = jax.jit(jax.vmap(jax.vmap(box_iou, (None, 0)), (0, None)))(boxes[:3], boxes)
    assert table.shape == (3, 7)
    for i, j in np.ndindex(3, 7):
        exact(np.asarray(table)[i, j], value(box_iou, boxes[i], boxes[j]))


@pytest.mark.parametrize("box_format", FORMATS)
def test_coding(box_format: Any) -> None:
    corners = np.array([[1.0, 2.0, 5.0, 4.0], [0.0, 0.0, 2.0, 8.0]])
    box, anchor = as_format(corners, box_format).astype(np.float32)
    options: dict[str, Any] = {"weights": (10.0, 10.0, 5.0, 5.0), "box_format": box_format}
    codes = encode_boxes(box, anchor, **options)
    exact(codes, [10 * (3 - 1) / 2, 10 * (3 - 4) / 8, 5 * math.log(2), 5 * math.log(1 / 4)])
    exact(decode_boxes(codes, anchor, **options), box)
    exact(encode_boxes(box, anchor, box_format=box_format), codes / float32(options["weights"]))
    np.testing.assert_array_equal(encode_boxes(anchor, anchor, box_format=box_format), np.zeros(4))
    exact(decode_boxes(np.zeros(4, np.float32), anchor, box_format=box_format), anchor)


@given(two_boxes(), st.sampled_from(FORMATS))
def test_decoding_inverts_encoding(pair: np.ndarray, box_format: Any) -> None:
    corners = pair + float32([0, 0, 1, 1])
    box, anchor = as_format(corners, box_format).astype(np.float32)
    options: dict[str, Any] = {"weights": (10.0, 10.0, 5.0, 5.0), "box_format": box_format}
    back = decode_boxes(encode_boxes(box, anchor, **options), anchor, **options)
    np.testing.assert_allclose(back, box, atol=1e-4)
    # Never a box that the losses refuse.
    assert np.isfinite(both(giou_loss, back, box, box_format=box_format)[0])


def test_codes_of_nearly_equal_sides_keep_their_digits() -> None:
    anchor = float32([1000, 1000, 1003, 1005])
    box = anchor + float32([0, 0, 2**-13, -(2**-12)])
    codes = encode_boxes(box, anchor)
    expected = [2**-14 / 3, -(2**-13) / 5, math.log1p(2**-13 / 3), math.log1p(-(2**-12) / 5)]
    np.testing.assert_allclose(codes, expected, rtol=1e-6)


def test_derivatives_of_the_coding() -> None:
    rng = np.random.default_rng(2)
    low = rng.uniform(0, 1, (2, 2))
    corners = np.concatenate([low, low + rng.uniform(0.5, 2, (2, 2))], 1)
    for box_format in FORMATS:
        encode = functools.partial(encode_boxes, box_format=box_format)
        decode = functools.partial(decode_boxes, box_format=box_format)

        @jax.jit
        def derivatives(box: Any, anchor: Any, encode: Any = encode, decode: Any = decode) -> Any:
            own, other = jax.jacobian(encode, (0, 1))(box, anchor)
            return own, other, jax.jacobian(decode)(encode(box, anchor), anchor)

        with jax.enable_x64(True):
            own, other, back = map(np.asarray, derivatives(*as_format(corners, box_format)))
        np.testing.assert_allclose(own @ back, np.eye(4), atol=1e-12)
        # In the anchors, what a shift of both changes is nothing.
        moved = [1.0, 1.0, 1.0, 1.0] if box_format == "xyxy" else [1.0, 1.0, 0.0, 0.0]
        np.testing.assert_allclose((own + other) @ np.array(moved), 0, atol=1e-12)


def test_log_scales_are_held() -> None:
    anchor, codes = float32([0, 0, 2, 8]), float32([0, 0, 9, -9])
    decoded = functools.partial(decode_boxes, max_log_scale=math.log(3))
    expected = [1 - 3, 4 - 4 * math.exp(-9), 1 + 3, 4 + 4 * math.exp(-9)]
    exact(decoded(codes, anchor), expected)
    slope = jax.jit(jax.jacobian(decoded))(codes, anchor)
    assert not np.any(slope[:, 2])
    flat = jax.jit(jax.jacobian(functools.partial(decode_boxes, max_log_scale=0.0)))
    at = flat(float32([0] * 4), anchor)
    exact(at[:, 2], [-1, 0, 1, 0])
    assert np.all(np.isinf(decode_boxes(codes * 100, anchor)[::2]))


def test_bad_codes() -> None:
    anchor, zeros = float32([0, 0, 2, 8]), float32([0] * 4)
    for box, base in (([2, 0, 1, 1], anchor), (anchor, [2, 0, 1, 1]), (anchor, [0, 0, 0, 1])):
        assert np.all(np.isnan(encode_boxes(float32(box), float32(base))))
    assert np.all(np.isnan(decode_boxes(zeros, float32([2, 0, 1, 1]))))
    assert np.all(np.isnan(decode_boxes(zeros, anchor, weights=(1.0, 1.0, 0.0, 1.0))))
    assert np.all(np.isnan(decode_boxes(zeros, anchor, max_log_scale=math.nan)))
    # A box without a width has a code, and comes back.
    line = float32([1, 2, 1, 4])
    codes = encode_boxes(line, anchor)
    assert codes[2] == -math.inf
    exact(decode_boxes(codes, anchor), line)
    for function, name in ((encode_boxes, "boxes"), (decode_boxes, "codes")):
        with pytest.raises(ValueError, match=f"last axis of {name} must have the 4 numbers"):
            function(zeros[:3], zeros[:3])
        with pytest.raises(ValueError, match=rf"{name} float32\[4\], anchors float32\[1, 4\]"):
            function(zeros, zeros[None])
        with pytest.raises(ValueError, match="weights must be four numbers"):
            function(anchor, anchor, weights=(1.0, 1.0))
        with pytest.raises(ValueError, match="box_format must be one of"):
            function(anchor, anchor, box_format="yxyx")  # type: ignore


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_codes_in_half_precision(dtype: Any) -> None:
    box, anchor = np.array([1, 2, 5, 4], dtype), np.array([0, 0, 2, 8], dtype)
    codes = encode_boxes(box, anchor)
    assert codes.dtype == jnp.float32
    exact(codes, encode_boxes(float32(box), float32(anchor)))
    _, (slope,) = evaluated(decode_boxes, np.asarray(codes).astype(dtype), anchor)
    assert slope.dtype == dtype


def test_the_bound_of_a_scale_is_for_each_box() -> None:
    codes, anchors = float32([[5] * 4] * 2), float32([[0, 0, 1, 1]] * 2)
    found = decode_boxes(codes, anchors, max_log_scale=float32([0, 1]))
    sides = np.subtract(*np.split(np.asarray(found), 2, 1)[::-1])
    np.testing.assert_allclose(sides, [[1.0, 1.0], [np.e, np.e]], rtol=1e-6)
    with pytest.raises(ValueError, match="max_log_scale must be a scalar or have the rank"):
        decode_boxes(codes, anchors, max_log_scale=np.ones((3, 2)))
