from __future__ import annotations

import functools
from typing import Any

import hypothesis
import hypothesis.strategies as st
import jax
import numpy as np
import pytest

from jaxloss import byol_loss, cosine_distance, cosine_similarity, simsiam_loss
from tests.laws.compiling import as_users
from tests.laws.values import double, evaluated, single

A = single([3, 0])
B = single([3, 4])


def test_values() -> None:
    # (b/|b| - cos a/|a|) / |a|
    slope = (np.array([3 / 5, 4 / 5]) - 3 / 5 * np.array([1, 0])) / 3
    for loss, value, sign in ((cosine_similarity, 3 / 5, 1), (cosine_distance, 2 / 5, -1)):
        found, (slopes,) = evaluated(loss, A, B)
        np.testing.assert_allclose(found, value, rtol=1e-6)
        np.testing.assert_allclose(slopes, sign * slope, atol=1e-7)
    np.testing.assert_allclose(evaluated(cosine_distance, A, -A)[0], 2, rtol=1e-6)


@pytest.mark.parametrize("scale", [1e20, 1e-25, 1e30, 1e-30])
def test_norms_neither_overflow_nor_vanish(scale: float) -> None:
    a, b = single(scale * A), single(scale * B)
    found, (slope,) = evaluated(cosine_similarity, a, B)
    np.testing.assert_allclose(found, 3 / 5, rtol=1e-6)
    np.testing.assert_allclose(evaluated(cosine_similarity, a, b)[0], 3 / 5, rtol=1e-6)
    np.testing.assert_allclose(double(slope) * scale, [0, 4 / 5 / 3], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("scale", [1e-25, 1e30])
def test_curvature_beside_a_vector_of_another_size(scale: float) -> None:
    """Of parallel vectors only what is across them counts: its part is 1 / (|a| |b|)."""
    a, b = single([2, 0]), single([scale, 0])
    both = jax.jit(jax.jacfwd(jax.grad(cosine_similarity), 1))(a, b)
    np.testing.assert_allclose(double(both) * scale, [[0, 0], [0, 1 / 2]], rtol=1e-6)


def test_zero_vectors() -> None:
    zero = 0 * A
    for loss, value in ((cosine_similarity, 0), (cosine_distance, 1)):
        hessian = jax.jit(jax.hessian(loss))
        for a, b in ((zero, B), (B, zero), (zero, zero)):
            found, slopes = evaluated(loss, a, b, wrt=(0, 1))
            assert found == value
            np.testing.assert_array_equal(slopes, np.zeros((2, 2)))
            assert np.all(np.isfinite(hessian(a, b)))


def test_a_distance_is_never_negative() -> None:
    """optax's distance of a vector from itself is, in 17 of these 64 cases."""
    x = np.asarray(jax.random.normal(jax.random.key(0), (64, 300)))
    compiled = as_users(cosine_distance)
    distances = np.asarray(compiled(x, x))
    assert np.all(distances >= 0)
    assert np.all(distances < 1e-12)
    close = x + np.float32(1e-4) * x[::-1]
    a, b = double(x), double(close)
    lengths = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    exact = 1 - np.sum(a * b, -1) / lengths
    # Of a distance of 5e-9, digits that 1 - cosine would not have.
    np.testing.assert_allclose(compiled(x, close), exact, rtol=0.01)


def test_distances_of_a_batch_without_near_vectors() -> None:
    """Where 1 - cosine cancels nowhere it is computed so, in one pass less."""
    x = np.asarray(jax.random.normal(jax.random.key(0), (2, 64, 8)), np.float64)
    cosines = np.sum(x[0] * x[1], -1) / np.prod(np.linalg.norm(x, axis=-1), 0)
    far = cosines < 0.5
    a, b = single(x)
    for kept in (far, far | True):
        found = cosine_distance(a[kept], b[kept])
        np.testing.assert_allclose(found, 1 - cosines[kept], rtol=0, atol=1e-6)
    a, b = a[far], b[far]
    a[0] = 0
    assert np.asarray(cosine_distance(a, b))[0] == 1


def test_epsilon_is_a_lower_bound_of_squared_norms() -> None:
    similarity = functools.partial(evaluated, cosine_similarity, epsilon=16.0)
    np.testing.assert_allclose(similarity(A, B)[0], 9 / (4 * 5), rtol=1e-6)
    np.testing.assert_allclose(cosine_distance(A, B, epsilon=16.0), 1 - 9 / (4 * 5), rtol=1e-6)
    # Linear in a short vector, also at 0.
    _, (slope,) = similarity(0 * A, B)
    np.testing.assert_allclose(slope, B / (4 * 5), rtol=1e-6)


def test_axes() -> None:
    x = single(np.arange(24).reshape(2, 3, 4) - 7)
    y = np.sin(x)
    last = cosine_similarity(x, y)
    assert last.shape == (2, 3)
    columns = cosine_similarity(x.swapaxes(1, 2), y.swapaxes(1, 2), axis=1)
    np.testing.assert_allclose(columns, last, rtol=1e-5)
    flat = cosine_similarity(x.reshape(2, 12), y.reshape(2, 12))
    np.testing.assert_allclose(cosine_similarity(x, y, axis=(1, 2)), flat, rtol=1e-5)
    np.testing.assert_allclose(cosine_similarity(x, y, axis=[-1, 1]), flat, rtol=1e-5)


SIAMESE = pytest.mark.parametrize(("loss", "factor"), [(byol_loss, 2), (simsiam_loss, 1)])


@SIAMESE
def test_siamese_values(loss: Any, factor: int) -> None:
    found, (slopes,) = evaluated(loss, A, B)
    np.testing.assert_allclose(found, factor * 2 / 5, rtol=1e-6)
    # -(b/|b| - cos a/|a|) / |a|
    slope = factor * (3 / 5 * np.array([1, 0]) - np.array([3 / 5, 4 / 5])) / 3
    np.testing.assert_allclose(slopes, slope, atol=1e-6)
    normalised = np.sum((A / 3 - B / 5) ** 2)
    np.testing.assert_allclose(found, factor / 2 * normalised, rtol=1e-6)
    assert evaluated(loss, B, 7 * B)[0] == 0


@SIAMESE
def test_targets_are_held_constant(loss: Any, factor: int) -> None:
    """In both modes and orders; and what is shared by both sides trains through the first alone."""
    in_targets = (jax.grad(loss, 1), jax.jacfwd(loss, 1), jax.jacfwd(jax.grad(loss), 1))
    for found in jax.jit(lambda a, b: [slope(a, b) for slope in in_targets])(A, B):
        assert not np.any(found)

    @jax.jit
    def slopes(weights: Any, targets: Any) -> Any:
        shared = jax.grad(lambda w: loss(w * A, w * B))
        return shared(weights), jax.grad(lambda w: loss(w * A, targets))(weights)

    both, first = slopes(single([1, 2]), single([1, 2]) * B)
    np.testing.assert_allclose(both, first, rtol=1e-6)


@SIAMESE
def test_siamese_bad_input(loss: Any, factor: int) -> None:
    x = np.ones((2, 3), np.float32)
    with pytest.raises(ValueError, match=r"predictions float32\[2, 3\], targets float32\[2, 4\]"):
        loss(x, np.ones((2, 4), np.float32))
    with pytest.raises(ValueError, match="drop the last axis of targets"):
        loss(x, x[..., None])
    with pytest.raises(TypeError, match="predictions must be floating-point"):
        loss(x.astype(int), x)
    assert loss(x[:0], x[:0], reduction="mean") == 0


VECTOR = st.lists(st.floats(-100, 100, width=32), min_size=3, max_size=3)


@hypothesis.given(VECTOR, VECTOR, st.sampled_from([1e-25, 1e-3, 7.0, 1e25]))
def test_siamese_theorems(a: Any, b: Any, scale: float) -> None:
    """Within [0, 2] and [0, 4]; lengths do not matter, nor does a rotation of both."""
    a, b = single([a, b])
    found = simsiam_loss(a, b)
    assert 0 <= found <= 2 + 1e-6
    np.testing.assert_allclose(byol_loss(a, b), 2 * found, rtol=1e-6)
    if min(np.max(np.abs(a)), np.max(np.abs(b))) > 1e-6:
        np.testing.assert_allclose(simsiam_loss(single(scale * a), b), found, atol=1e-6)
        np.testing.assert_allclose(simsiam_loss(a, single(scale * b)), found, atol=1e-6)
    np.testing.assert_allclose(simsiam_loss(a[::-1], b[::-1]), found, atol=1e-6)


def test_cosines_do_not_know_the_unit_of_either_vector() -> None:
    a, b = single([[3, 0.5, 8], [1, 0.75, 24]])
    for loss in (cosine_similarity, cosine_distance):
        np.testing.assert_array_equal(loss(8 * a, b / 4), loss(a, b))
