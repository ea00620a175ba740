from __future__ import annotations

import functools
from typing import Any

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxloss import (
    arcface_logits,
    cosface_logits,
    softmax_cross_entropy_with_integer_labels,
)
from tests.laws import oracle as oracles
from tests.laws.accuracy import EPS
from tests.laws.compiling import as_users
from tests.laws.values import evaluated, single

BOTH = pytest.mark.parametrize("transform", [arcface_logits, cosface_logits])
# The cosine of a 3-4-5 triangle has sine 3/5; a right angle more makes of it -3/5.
COSINES = single([[0.8, -0.8, 0.1]] * 3)
LABELS = np.array([0, 1, 2])
RIGHT = np.pi / 2


def test_values() -> None:
    found = arcface_logits(COSINES, LABELS, margin=RIGHT, scale=10.0)
    expected = 10 * COSINES
    expected[0, 0] = -6
    # The angle of -0.8 and a right one are beyond pi.
    expected[1, 1] = 10 * (-0.8 - np.pi / 2)
    expected[2, 2] = -10 * np.sin(np.arccos(0.1))
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    found = cosface_logits(COSINES, LABELS, margin=0.3, scale=10.0)
    np.testing.assert_allclose(found, 10 * (COSINES - 0.3 * np.eye(3)), rtol=1e-6)


def test_gradients() -> None:
    @functools.partial(jax.jit, static_argnums=0)
    @functools.partial(jax.grad, argnums=(1, 2))
    def slopes(transform: Any, c: Any, margin: Any) -> Any:
        return transform(jnp.stack([c, jnp.float32(0.3)]), 0, margin=margin, scale=10.0)[0]

    # d/dc of c cos(m) - sqrt(1 - c^2) sin(m) = cos(m) + c / sqrt(1 - c^2) sin(m)
    inside, in_margin = slopes(arcface_logits, np.float32(0.8), RIGHT)
    np.testing.assert_allclose(inside, 10 * 0.8 / 0.6, rtol=1e-6)
    np.testing.assert_allclose(in_margin, -10 * 0.8, rtol=1e-6)
    beyond, _ = slopes(arcface_logits, np.float32(-0.8), RIGHT)
    np.testing.assert_allclose(beyond, 10, rtol=1e-6)
    assert slopes(cosface_logits, np.float32(0.8), 0.3) == (10, -10)


@jax.jit
def at_the_ends(c: jax.Array, margin: Any) -> Any:
    """Of the right class: values, slopes in both modes, and curvature."""

    def own(c: jax.Array) -> jax.Array:
        rows = jnp.stack([c, 0 * c], -1)
        return arcface_logits(rows, np.zeros(6, int), margin=margin, scale=10.0)[:, 0]

    reverse = jax.grad(lambda c: jnp.sum(own(c)))
    found, forward = jax.jvp(own, (c,), (jnp.ones_like(c),))
    return found, (reverse(c), forward), jax.jacfwd(reverse)(c)


@pytest.mark.parametrize("margin", [0.0, 0.3, 0.5, 1.5, 3.0])
def test_slopes_at_the_ends_are_the_stated_ones(margin: float) -> None:
    """The sine has slope 0 at cosines of 1 and -1, and beyond them, where rounding may put one."""
    c = single([1, 1 + 1e-6, 1 + 9e-4, -1, -1 - 1e-6, -1 - 9e-4])
    low = -1.0 if margin == 0 else -1 - margin * np.sin(margin)
    found, slopes, curvature = at_the_ends(c, margin)
    np.testing.assert_allclose(found, 10 * np.repeat([np.cos(margin), low], 3), rtol=1e-6)
    for slope in slopes:
        expected = np.repeat([10 * np.cos(margin), 10], 3)
        np.testing.assert_allclose(slope, expected, rtol=1e-6)
    assert np.all(np.isfinite(curvature))


def test_cosines_that_are_none_are_nan() -> None:
    """At every class; the others of the row are as they were."""
    rows = single([[1.01, 0.5], [-1.01, 0.5], [np.nan, 0.5], [np.inf, 0.5]])
    found, (slope,) = evaluated(arcface_logits, rows, np.zeros(4, int))
    assert np.all(np.isnan(found)[:, 0])
    np.testing.assert_array_equal(np.asarray(found)[:, 1], 32)
    assert np.all(np.isnan(slope)[:, 0])
    assert np.all(np.isnan(evaluated(arcface_logits, rows, np.ones(4, int))[0])[:, 0])


@BOTH
@pytest.mark.parametrize("label", [-1, 3, 255, -(2**31)])
def test_a_label_that_is_not_there_makes_its_row_nan(transform: Any, label: int) -> None:
    logits, (slopes,) = evaluated(transform, COSINES, np.array([0, label, 2], np.int32))
    for found in (logits, slopes):
        np.testing.assert_array_equal(np.isnan(found).all(-1), [False, True, False])
        assert np.all(np.isfinite(found)[::2])


@pytest.mark.parametrize("margin", [-0.1, 3.2, jnp.nan])
def test_margins_that_are_no_angle_are_nan(margin: float) -> None:
    found = arcface_logits(COSINES, LABELS, margin=margin)
    np.testing.assert_array_equal(np.isnan(found), np.eye(3, dtype=bool))


@BOTH
@pytest.mark.parametrize("scale", [0.0, -1.0, jnp.nan])
def test_scales_that_are_not_positive_are_nan(transform: Any, scale: float) -> None:
    assert np.all(np.isnan(transform(COSINES, LABELS, scale=scale)))


ENDS = [0.0, 1e-30, 1e-6, 0.1, 0.5, 0.8, 0.999, 1 - 1e-5, 1 - 2**-23, 1 - 2**-24, 1.0]
ROWS = np.array([[sign * c, 0.3, -0.7] for c in ENDS for sign in (1, -1)], np.float32)


@functools.cache
def at_the_anchor(transform: Any) -> Any:
    """The logits, and the derivatives of those of the first class."""

    def own(c: jax.Array, margin: jax.Array, scale: jax.Array) -> Any:
        logits = transform(c, np.zeros(len(ROWS), np.int32), margin=margin, scale=scale)
        return jnp.sum(logits[:, 0]), logits

    slopes = jax.grad(own, (0, 1, 2), has_aux=True)
    return as_users(lambda *given: slopes(*map(jnp.asarray, given))[::-1])


@pytest.mark.parametrize(
    ("transform", "margin"),
    [(arcface_logits, m) for m in (0.0, 1e-4, 0.3, 0.5, 1.4, 2.5)] + [(cosface_logits, 0.35)],
)
def test_accuracy(transform: Any, margin: float) -> None:
    """Within 8 eps of the largest term, in value and in every derivative, compiled and eager."""
    name = transform.__name__
    options = {"margin": float(np.float32(margin)), "scale": 30.0}
    knobs = [np.full(len(ROWS), x, np.float32) for x in options.values()]
    compiled = at_the_anchor(transform)(ROWS, *knobs)
    with jax.disable_jit():
        eager = at_the_anchor(transform)(ROWS, *knobs)
    for found in (compiled, eager):
        logits, (in_cosine, *in_knobs) = jax.device_get(found)
        for i, row in enumerate(ROWS):
            beyond = np.arccos(np.float64(row[0])) + options["margin"] - np.pi
            if abs(beyond) < 1e-6:
                continue  # it jumps there
            for j in range(3):
                exact, largest = oracles.value(name, (row, 0), {"anchor": j, **options})
                assert abs(float(logits[i, j]) - exact) <= 8 * EPS * largest
            wanted: list[Any] = list(zip(("margin", "scale"), in_knobs, strict=True))
            if abs(row[0]) < 1:  # where the slope is not the oracle's but the stated one
                wanted.append(((0, (0,)), in_cosine[:, 0]))
            for wrt, found in wanted:
                exact, largest = oracles.derivative(name, (row, 0), {"anchor": 0, **options}, wrt)
                assert abs(float(found[i]) - exact) <= 8 * EPS * largest


def mean(c: jax.Array, labels: jax.Array, where: Any = None, *, of: Any) -> Any:
    loss = softmax_cross_entropy_with_integer_labels
    return loss(of(c, labels, where=where), labels, where=where, reduction="mean")


@BOTH
def test_what_where_excludes_is_inert(transform: Any) -> None:
    """Rows with the label -100, garbage in their cosines; and classes."""
    there = np.array([True, False, True])
    dirty = np.where(there[:, None], COSINES, np.float32(np.nan))
    value, (slope,) = evaluated(mean, dirty, np.where(there, LABELS, -100), there, of=transform)
    expected, (wanted,) = evaluated(mean, COSINES[::2], LABELS[::2], of=transform)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    np.testing.assert_allclose(np.asarray(slope)[::2], wanted, rtol=1e-6)
    np.testing.assert_array_equal(np.asarray(slope)[1], 0)
    # A class.
    dirty = np.where(there, COSINES, np.float32(np.nan))[:1]
    value, (slope,) = evaluated(mean, dirty, LABELS[:1], there[None], of=transform)
    expected, (wanted,) = evaluated(mean, COSINES[:1, ::2], LABELS[:1], of=transform)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    np.testing.assert_allclose(np.asarray(slope)[:, ::2], wanted, rtol=1e-6)
    np.testing.assert_array_equal(np.asarray(slope)[:, 1], 0)


@BOTH
def test_a_margin_and_a_scale_for_each_row(transform: Any) -> None:
    margins, scales = single([0.1, 0.2, 0.3]), single([10, 20, 30])
    found = np.asarray(transform(COSINES, LABELS, margin=margins, scale=scales))
    for i in range(3):
        one = transform(COSINES[i], LABELS[i], margin=margins[i], scale=scales[i])
        np.testing.assert_allclose(found[i], one, rtol=1e-6)


@BOTH
def test_dtypes_shapes_and_transformations(transform: Any) -> None:
    expected = transform(COSINES, LABELS)
    assert expected.shape == COSINES.shape
    for half in (jnp.bfloat16, jnp.float16):
        low = COSINES.astype(half)
        found, (slopes,) = evaluated(transform, low, LABELS)
        assert found.dtype == jnp.float32
        np.testing.assert_array_equal(found, evaluated(transform, single(low), LABELS)[0])
        assert slopes.dtype == half
    with jax.enable_x64(True):
        assert transform(np.float64(COSINES), LABELS).dtype == jnp.float64
    np.testing.assert_allclose(jax.vmap(transform)(COSINES, LABELS), expected, rtol=1e-6)
    np.testing.assert_allclose(transform(COSINES.tolist(), LABELS.tolist()), expected, rtol=1e-6)
    assert transform(COSINES[:0], LABELS[:0]).shape == (0, 3)
    stacked = transform(np.stack([COSINES] * 2), np.stack([LABELS] * 2))
    np.testing.assert_array_equal(np.asarray(stacked)[1], expected)


@BOTH
@pytest.mark.parametrize(
    ("dtype", "beyond"), [(jnp.bfloat16, 4 * 2**-7), (jnp.float16, 4 * 2**-10), (jnp.float32, 1e-3)]
)
def test_a_cosine_that_rounding_put_beyond_1_reads_as_1(
    transform: Any, dtype: Any, beyond: float
) -> None:
    """Of the right class and of wrong ones; a little further out it is NaN."""
    ends, labels = single([[1, -1, 0.5]] * 2), np.array([0, 1], np.int32)
    at = {
        size: evaluated(transform, jnp.asarray(ends * single(1 + size), dtype), labels)
        for size in (0, float(jnp.finfo(dtype).eps), beyond, 1.25 * beyond)
    }
    (expected, (slopes,)), *near, (far, (lost,)) = at.values()
    for found, (moved,) in near:
        np.testing.assert_array_equal(found[:, :2], expected[:, :2])
        np.testing.assert_array_equal(moved, slopes)
    np.testing.assert_array_equal(np.isnan(far), [[True, True, False]] * 2)
    np.testing.assert_array_equal(np.isnan(single(lost)), np.isnan(far))


@BOTH
def test_cosines_of_vectors_normalised_in_bfloat16(transform: Any) -> None:
    drawn = np.random.default_rng(0).normal(size=(400, 32))
    vectors = jnp.asarray(drawn, jnp.bfloat16)
    unit = vectors / jnp.linalg.norm(vectors, axis=-1, keepdims=True)
    cosines = jnp.sum(unit * unit, -1).reshape(-1, 2)
    assert np.mean(np.asarray(cosines) > 1) > 0.05
    losses, (slopes,) = evaluated(transform, cosines, np.zeros(200, np.int32))
    assert np.all(np.isfinite(losses))
    assert np.all(np.isfinite(single(slopes)))


@BOTH
def test_bad_input(transform: Any) -> None:
    with pytest.raises(TypeError, match=r"labels.astype\(int\)"):
        transform(COSINES, single(LABELS))
    with pytest.raises(
        ValueError, match=r"cosines float32\[3, 3\], labels float32\[3, 3\].*argmax"
    ):
        transform(COSINES, np.eye(3, dtype=np.float32))
    with pytest.raises(ValueError, match=r"labels int32\[3, 1\]; drop the last axis of labels"):
        transform(COSINES, LABELS[:, None])
    with pytest.raises(TypeError, match="cosines must be floating-point"):
        transform(COSINES.astype(int), LABELS)
    with pytest.raises(ValueError, match="scale must be a scalar or have the rank of the loss"):
        transform(COSINES, LABELS, scale=np.ones((3, 3), np.float32))


@hypothesis.given(
    st.floats(-1, 1, width=32), st.floats(0, 3, width=32), st.floats(0.125, 100, width=32)
)
def test_theorems(c: float, margin: float, scale: float) -> None:
    row = single([0.25, c])
    arcface = functools.partial(arcface_logits, row, np.array(1), scale=scale)
    # Small numbers become 0 in XLA, but not in NumPy.
    plain, found = map(np.asarray, (scale * jnp.asarray(row), arcface(margin=margin)))
    np.testing.assert_allclose(arcface(margin=0.0), plain, rtol=1e-6)
    assert found[0] == plain[0]
    # Never larger than without a margin.
    assert found[1] <= plain[1] + 1e-5 * scale
    angle = np.arccos(np.float64(c)) + margin
    if angle < np.pi - 1e-3:
        np.testing.assert_allclose(found[1], scale * np.cos(angle), atol=1e-5 * scale)


@pytest.mark.parametrize("transform", [arcface_logits, cosface_logits])
def test_scores_that_are_no_cosines(transform: Any) -> None:
    """Vectors that were not divided by their lengths; and a message without an `axis`."""
    found = transform(single([[0.8, 6]]), np.array([0]))
    np.testing.assert_array_equal(np.isnan(found), [[False, True]])
    assert np.all(np.isfinite(found)[0, :1])
    with pytest.raises(ValueError, match="labels must be class numbers") as refusal:
        transform(np.ones((4, 3), np.float32), np.array([0, 1, 2]))
    assert "axis" not in str(refusal.value)
