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

BOTH = pytest.mark.parametrize("transform", [arcface_logits, cosface_logits])
# The cosine of a 3-4-5 triangle has sine 3/5; a right angle more makes of it -3/5.
COSINES = jnp.array([[0.8, -0.8, 0.1]] * 3)
LABELS = jnp.array([0, 1, 2])
RIGHT = jnp.pi / 2


def test_values() -> None:
    found = arcface_logits(COSINES, LABELS, margin=RIGHT, scale=10.0)
    expected = 10 * np.array(COSINES)
    expected[0, 0] = -6
    # The angle of -0.8 and a right one are beyond pi.
    expected[1, 1] = 10 * (-0.8 - np.pi / 2)
    expected[2, 2] = -10 * np.sin(np.arccos(0.1))
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    found = cosface_logits(COSINES, LABELS, margin=0.3, scale=10.0)
    np.testing.assert_allclose(found, 10 * (COSINES - 0.3 * jnp.eye(3)), rtol=1e-6)


def test_gradients() -> None:
    def own(transform: Any, c: Any, **options: Any) -> Any:
        return transform(jnp.stack([c, jnp.float32(0.3)]), jnp.array(0), scale=10.0, **options)[0]

    # d/dc of c cos(m) - sqrt(1 - c^2) sin(m) = cos(m) + c / sqrt(1 - c^2) sin(m)
    slope = jax.grad(lambda c: own(arcface_logits, c, margin=RIGHT))(jnp.float32(0.8))
    np.testing.assert_allclose(slope, 10 * 0.8 / 0.6, rtol=1e-6)
    beyond = jax.grad(lambda c: own(arcface_logits, c, margin=RIGHT))(jnp.float32(-0.8))
    np.testing.assert_allclose(beyond, 10, rtol=1e-6)
    in_margin = jax.grad(lambda m: own(arcface_logits, jnp.float32(0.8), margin=m))(RIGHT)
    np.testing.assert_allclose(in_margin, -10 * 0.8, rtol=1e-6)
    assert jax.grad(lambda c: own(cosface_logits, c))(jnp.float32(0.8)) == 10
    assert jax.grad(lambda m: own(cosface_logits, jnp.float32(0.8), margin=m))(0.3) == -10


@pytest.mark.parametrize("margin", [0.0, 0.3, 0.5, 1.5, 3.0])
def test_slopes_at_the_ends_are_the_stated_ones(margin: float) -> None:
    """The sine has slope 0 at cosines of 1 and -1, and beyond them, where rounding may put one."""
    c = jnp.array([1.0, 1 + 1e-6, 1 + 9e-4, -1.0, -1 - 1e-6, -1 - 9e-4], jnp.float32)

    def logits(c: jax.Array) -> jax.Array:
        rows = jnp.stack([c, 0 * c], -1)
        return arcface_logits(rows, jnp.zeros(6, int), margin=margin, scale=10.0)[:, 0]

    low = -1.0 if margin == 0 else -1 - margin * np.sin(margin)
    expected = 10 * np.repeat([np.cos(margin), low], 3)
    np.testing.assert_allclose(logits(c), expected, rtol=1e-6)
    slopes = np.repeat([10 * np.cos(margin), 10], 3)
    for found in (
        jax.grad(lambda c: jnp.sum(logits(c)))(c),
        jax.jvp(logits, (c,), (jnp.ones_like(c),))[1],
    ):
        np.testing.assert_allclose(found, slopes, rtol=1e-6)
    assert np.all(np.isfinite(jax.hessian(lambda c: jnp.sum(logits(c)))(c)))


def test_cosines_that_are_none_are_nan() -> None:
    """At every class; the others of the row are as they were."""
    rows = jnp.array([[1.01, 0.5], [-1.01, 0.5], [jnp.nan, 0.5], [jnp.inf, 0.5]])
    zero, one = jnp.zeros(4, int), jnp.ones(4, int)
    found = arcface_logits(rows, zero)
    assert np.all(np.isnan(found[:, 0]))
    np.testing.assert_array_equal(found[:, 1], 32)
    slope = jax.grad(lambda x: jnp.sum(arcface_logits(x, zero)))(rows)
    assert np.all(np.isnan(slope[:, 0]))
    assert np.all(np.isnan(arcface_logits(rows, one)[:, 0]))


@BOTH
@pytest.mark.parametrize("label", [-1, 3, 255, -(2**31)])
def test_a_label_that_is_not_there_makes_its_row_nan(transform: Any, label: int) -> None:
    labels = jnp.array([0, label, 2])
    for found in (
        transform(COSINES, labels),
        jax.grad(lambda x: jnp.sum(transform(x, labels)))(COSINES),
    ):
        np.testing.assert_array_equal(np.isnan(found).all(-1), [False, True, False])
        assert np.all(np.isfinite(found[::2]))


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


@pytest.mark.parametrize(
    ("transform", "margin"),
    [(arcface_logits, m) for m in (0.0, 1e-4, 0.3, 0.5, 1.4, 2.5)] + [(cosface_logits, 0.35)],
)
def test_accuracy(transform: Any, margin: float) -> None:
    """Within 8 eps of the largest term, in value and in every derivative, compiled and eager."""
    name = transform.__name__
    options = {"margin": float(np.float32(margin)), "scale": 30.0}
    labels = np.zeros(len(ROWS), np.int32)

    def evaluated(run: Any) -> Any:
        def own(c: jax.Array, margin: jax.Array, scale: jax.Array) -> Any:
            logits = run(c, jnp.asarray(labels), margin=margin, scale=scale)
            return jnp.sum(logits[:, 0]), logits

        knobs = (jnp.full(len(ROWS), x, jnp.float32) for x in options.values())
        slopes, logits = jax.grad(own, (0, 1, 2), has_aux=True)(jnp.asarray(ROWS), *knobs)
        return logits, *slopes

    compiled = as_users(lambda: evaluated(transform))()
    for logits, in_cosine, *in_knobs in (compiled, evaluated(vars(transform)["__wrapped__"])):
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


@BOTH
def test_what_where_excludes_is_inert(transform: Any) -> None:
    """Rows with the label -100, garbage in their cosines; and classes."""
    dirty = COSINES.at[1].set(jnp.nan)
    labels, kept = LABELS.at[1].set(-100), jnp.array([True, False, True])

    def mean(c: jax.Array, labels: jax.Array, where: Any) -> Any:
        logits = transform(c, labels, where=where)
        return softmax_cross_entropy_with_integer_labels(
            logits, labels, where=where, reduction="mean"
        )

    value, slope = jax.value_and_grad(mean)(dirty, labels, kept)
    expected, wanted = jax.value_and_grad(mean)(COSINES[::2], LABELS[::2], None)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    np.testing.assert_allclose(slope[::2], wanted, rtol=1e-6)
    np.testing.assert_array_equal(slope[1], 0)
    # A class.
    entries = jnp.broadcast_to(jnp.array([True, False, True]), (1, 3))
    value, slope = jax.value_and_grad(mean)(COSINES[:1].at[0, 1].set(jnp.nan), LABELS[:1], entries)
    expected, wanted = jax.value_and_grad(mean)(COSINES[:1, ::2], LABELS[:1], None)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    np.testing.assert_allclose(slope[:, ::2], wanted, rtol=1e-6)
    np.testing.assert_array_equal(slope[:, 1], 0)


@BOTH
def test_a_margin_and_a_scale_for_each_row(transform: Any) -> None:
    margins, scales = jnp.array([0.1, 0.2, 0.3]), jnp.array([10.0, 20.0, 30.0])
    found = transform(COSINES, LABELS, margin=margins, scale=scales)
    for i in range(3):
        one = transform(COSINES[i], LABELS[i], margin=margins[i], scale=scales[i])
        np.testing.assert_allclose(found[i], one, rtol=1e-6)


@BOTH
def test_dtypes_shapes_and_transformations(transform: Any) -> None:
    expected = transform(COSINES, LABELS)
    assert expected.shape == COSINES.shape
    for half in (jnp.bfloat16, jnp.float16):
        low = COSINES.astype(half)
        found = transform(low, LABELS)
        assert found.dtype == jnp.float32
        np.testing.assert_array_equal(found, transform(low.astype(jnp.float32), LABELS))
        assert jax.grad(lambda x: jnp.sum(transform(x, LABELS)))(low).dtype == half
    with jax.enable_x64(True):
        assert transform(np.float64(COSINES), LABELS).dtype == jnp.float64
    np.testing.assert_allclose(jax.vmap(transform)(COSINES, LABELS), expected, rtol=1e-6)
    np.testing.assert_allclose(
        transform(np.asarray(COSINES).tolist(), LABELS.tolist()), expected, rtol=1e-6
    )
    assert transform(COSINES[:0], LABELS[:0]).shape == (0, 3)
    stacked = transform(jnp.stack([COSINES] * 2), jnp.stack([LABELS] * 2))
    np.testing.assert_array_equal(stacked[1], expected)


@BOTH
def test_bad_input(transform: Any) -> None:
    with pytest.raises(TypeError, match="argmax"):
        transform(COSINES, jnp.array([0.0, 1.0, 2.0]))
    with pytest.raises(
        ValueError, match=r"cosines float32\[3, 3\], labels float32\[3, 3\].*argmax"
    ):
        transform(COSINES, jnp.eye(3))
    with pytest.raises(ValueError, match=r"labels int32\[3, 1\]; drop the last axis of labels"):
        transform(COSINES, LABELS[:, None])
    with pytest.raises(TypeError, match="cosines must be floating-point"):
        transform(COSINES.astype(int), LABELS)
    with pytest.raises(ValueError, match="scale must be a scalar or have the rank of the loss"):
        transform(COSINES, LABELS, scale=jnp.ones((3, 3)))


@hypothesis.given(
    st.floats(-1, 1, width=32), st.floats(0, 3, width=32), st.floats(0.125, 100, width=32)
)
def test_theorems(c: float, margin: float, scale: float) -> None:
    row, label = jnp.array([0.25, c], jnp.float32), jnp.array(1)
    arcface = functools.partial(arcface_logits, row, label, scale=scale)
    plain, found = scale * row, arcface(margin=margin)
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
    assert np.isnan(transform(jnp.array([[0.8, 6.0]]), jnp.array([0]))[0, 1])
    assert np.isfinite(transform(jnp.array([[0.8, 6.0]]), jnp.array([0]))[0, 0])
    with pytest.raises(ValueError, match="labels must be class numbers") as refusal:
        transform(jnp.ones((4, 3)), jnp.array([0, 1, 2]))
    assert "axis" not in str(refusal.value)
