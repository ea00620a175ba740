from __future__ import annotations

from typing import Any

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxloss
from jaxloss import (
    contrastive_loss,
    cosine_distance,
    cosine_embedding_loss,
    hinge_embedding_loss,
    margin_ranking_loss,
)
from tests.laws.values import Row, check, evaluated, row_id, single

ZERO, B = [0.0, 0.0], [3.0, 4.0]
A = [2.0, 0.0]

ROWS: list[Row] = [
    (margin_ranking_loss, (2.0, 1.5, 1.0), {}, 0, 0),
    (margin_ranking_loss, (2.0, 1.5, -1.0), {}, 0.5, 1),
    (margin_ranking_loss, (2.0, 1.5, 1.0), {"margin": 0.75}, 0.75 - 0.5, -1),
    (margin_ranking_loss, (2.0, 1.5, 0.0), {"margin": 0.75}, 0.75 + 0.5, 1),
    (hinge_embedding_loss, (0.25, 1.0), {}, 0.25, 1),
    (hinge_embedding_loss, (-0.25, 1.0), {}, -0.25, 1),
    (hinge_embedding_loss, (0.25, -1.0), {}, 1 - 0.25, -1),
    (hinge_embedding_loss, (0.25, 0.0), {"margin": 2.0}, 2 - 0.25, -1),
    (hinge_embedding_loss, (1.25, -1.0), {}, 0, 0),
    # The cosine is 3/5, and its gradient (b/|b| - cos a/|a|) / |a|.
    (cosine_embedding_loss, (A, B, 1.0), {}, 1 - 3 / 5, [0, -4 / 5 / 2]),
    (cosine_embedding_loss, (A, B, -1.0), {}, 3 / 5, [0, 4 / 5 / 2]),
    (cosine_embedding_loss, (A, B, 0.0), {"margin": 0.5}, 3 / 5 - 0.5, [0, 4 / 5 / 2]),
    (cosine_embedding_loss, (A, B, 0.0), {"margin": 0.625}, 0, [0, 0]),
    (contrastive_loss, (ZERO, B, 1.0), {}, 5**2 / 2, [-3, -4]),
    (contrastive_loss, (ZERO, B, -1.0), {}, 0, [0, 0]),
    (contrastive_loss, (ZERO, B, -1.0), {"margin": 7.0}, 2**2 / 2, [2 * 3 / 5, 2 * 4 / 5]),
]


@pytest.mark.parametrize("row", ROWS, ids=row_id)
def test_values(row: Row) -> None:
    check(row)


ELEMENTS = (single([0.5, 0.1, -0.3]),)
VECTORS = (single([[1, 2], [0.5, 0.1], [3, 0]]), single([[1, 0]] * 3))
LOSSES = [
    (margin_ranking_loss, (*ELEMENTS, single([0.4, 0.4, 0.4]))),
    (hinge_embedding_loss, ELEMENTS),
    (cosine_embedding_loss, VECTORS),
    (contrastive_loss, VECTORS),
]
each_loss = pytest.mark.parametrize(("loss", "data"), LOSSES)


@each_loss
def test_a_label_above_0_is_positive_and_any_other_negative(loss: Any, data: Any) -> None:
    signs = single([1, -1, 1])
    expected = np.asarray(loss(*data, signs, margin=0.6))
    assert np.any(expected != np.asarray(loss(*data, -signs, margin=0.6)))
    for labels in (signs > 0, np.array([1, 0, 1]), [0.5, -3.0, 2.0], np.array([9, -9, 1])):
        np.testing.assert_array_equal(loss(*data, labels, margin=0.6), expected)
    np.testing.assert_array_equal(np.asarray(loss(*data, -1, margin=0.6))[1], expected[1])


@each_loss
def test_a_label_of_nan_is_nan(loss: Any, data: Any) -> None:
    losses, (slopes,) = evaluated(loss, *data, single([1, np.nan, 0]))
    for found in (slopes, losses):
        rows = np.isnan(found).reshape(3, -1)
        np.testing.assert_array_equal(rows.any(-1), [False, True, False])


@each_loss
def test_labels_of_another_shape_are_refused(loss: Any, data: Any) -> None:
    for labels in (np.ones(shape, np.float32) for shape in ((3, 1), 2, 1, (1, 3))):
        with pytest.raises(ValueError, match="float32") as error:
            loss(*data, labels)
        assert f"float32{list(labels.shape)}" in str(error.value)
    with pytest.raises(ValueError, match=r"drop the last axis of (y|labels): (y|labels)\[..., 0\]"):
        loss(*data, np.ones((3, 1), np.float32))


@each_loss
def test_wrong_dtypes_are_refused(loss: Any, data: Any) -> None:
    labels = np.ones(3, np.float32)
    with pytest.raises(TypeError, match="must be floating-point"):
        loss(data[0].astype(int), *data[1:], labels)
    with pytest.raises(TypeError, match=r"(y|labels) must be real"):
        loss(*data, labels.astype(complex))
    with pytest.raises(TypeError, match=r"(y|labels) must be an array or a number, got None"):
        loss(*data, None)


@pytest.mark.parametrize("loss", [cosine_embedding_loss, contrastive_loss])
def test_vectors_of_unequal_width_are_refused(loss: Any) -> None:
    vectors, labels = np.ones((2, 3), np.float32), np.ones(2, np.float32)
    with pytest.raises(ValueError, match=r"x1 float32\[2, 3\], x2 float32\[2, 4\]"):
        loss(vectors, np.ones((2, 4), np.float32), labels)
    with pytest.raises(ValueError, match=r"drop the last axis of x2"):
        loss(vectors, vectors[..., None], labels)


@each_loss
def test_an_empty_batch(loss: Any, data: Any) -> None:
    empty = [x[:0] for x in (*data, np.ones(3, np.float32))]
    assert loss(*empty).shape == (0,)
    mean, (slope,) = evaluated(loss, *empty, reduction="mean")
    assert mean == 0
    assert slope.shape == empty[0].shape


def test_what_rounding_loses_decides_next_to_the_margin() -> None:
    """x1 - x2 is just above 1, or just below, and 1 in float32."""
    data = np.ones(2, np.float32), single([-1e-30, 1e-30]), 1
    _, (slopes,) = evaluated(margin_ranking_loss, *data, margin=1.0)
    np.testing.assert_array_equal(slopes, [0, -1])


def test_a_margin_for_each_pair() -> None:
    margins = single([0.25, 2, 5])
    for loss, data in LOSSES:
        expected = [
            loss(*(x[i] for x in data), -1, margin=margin) for i, margin in enumerate(margins)
        ]
        np.testing.assert_allclose(loss(*data, -1, margin=margins), expected, rtol=1e-6)


def test_contrastive_second_derivatives() -> None:
    """Of a positive pair that of a parabola, at equal vectors too."""
    a, b = single(A), single(B)
    hessian = jax.jit(jax.hessian(contrastive_loss))
    for x in (a, b):
        np.testing.assert_allclose(hessian(x, a, 1), np.eye(2), atol=1e-6)
    np.testing.assert_array_equal(hessian(a, a, -1), np.zeros((2, 2)))
    # (m - d)^2 / 2 along a line through the other vector, on the margin.
    edge = hessian(single([4]), single([3]), -1)
    np.testing.assert_array_equal(edge, [[1.0]])


@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1e20, 1e30])
def test_distances_neither_overflow_nor_vanish(scale: float) -> None:
    a, b, margin = single(ZERO), scale * single(B), single(6 * scale)
    _, (slope,) = evaluated(contrastive_loss, a, b, -1, margin=margin)
    np.testing.assert_allclose(slope, scale * np.array([3 / 5, 4 / 5]), rtol=1e-6)
    _, (slope,) = evaluated(contrastive_loss, a, b, 1)
    np.testing.assert_allclose(slope, -b, rtol=1e-6)


@pytest.mark.parametrize("y", [1, -1])
def test_a_zero_vector_has_cosine_0(y: int) -> None:
    zero, b = single(ZERO), single(B)
    for x1, x2 in ((zero, b), (b, zero), (zero, zero)):
        found, slopes = evaluated(cosine_embedding_loss, x1, x2, y, wrt=(0, 1), margin=-0.5)
        assert found == (1 if y > 0 else 0.5)
        np.testing.assert_array_equal(slopes, np.zeros((2, 2)))


NUMBERS = st.floats(-1e3, 1e3, width=32)
PAIR = st.tuples(*[st.lists(NUMBERS, min_size=3, max_size=3)] * 2)


@hypothesis.given(PAIR, st.sampled_from([-1.0, 1.0]), st.floats(0, 10, width=32))
def test_theorems(pair: Any, y: float, margin: float) -> None:
    x1, x2 = single(pair)
    found = cosine_embedding_loss(x1, x2, y)
    assert 0 <= found <= 2
    np.testing.assert_allclose(found, cosine_embedding_loss(x2, x1, y), atol=1e-6)
    if y > 0:
        np.testing.assert_array_equal(found, cosine_distance(x1, x2))
    d = float(np.linalg.norm(np.float64(x1) - np.float64(x2)))
    found = contrastive_loss(x1, x2, y, margin=margin)
    hinged = hinge_embedding_loss(np.float32(d), y, margin=margin)
    # Half the square of that loss of the distance.
    np.testing.assert_allclose(found, hinged**2 / 2, rtol=1e-5, atol=1e-5 * max(d, margin) ** 2)
    # Of margin 1 a hinge loss of the difference.
    found = margin_ranking_loss(x1, x2, y, margin=1.0)
    np.testing.assert_array_equal(found, jaxloss.hinge_loss(jnp.asarray(x1) - x2, y))
