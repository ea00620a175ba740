from __future__ import annotations

from typing import Any

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxloss import byol_loss, cosine_distance, cosine_similarity, simsiam_loss
from tests.laws.compiling import as_users

A = jnp.array([3.0, 0.0])
B = jnp.array([3.0, 4.0])


def test_values() -> None:
    np.testing.assert_allclose(cosine_similarity(A, B), 3 / 5, rtol=1e-6)
    np.testing.assert_allclose(cosine_distance(A, B), 2 / 5, rtol=1e-6)
    np.testing.assert_allclose(cosine_distance(A, -A), 2, rtol=1e-6)
    # (b/|b| - cos a/|a|) / |a|
    slope = (np.array([3 / 5, 4 / 5]) - 3 / 5 * np.array([1, 0])) / 3
    np.testing.assert_allclose(jax.grad(cosine_similarity)(A, B), slope, atol=1e-7)
    np.testing.assert_allclose(jax.grad(cosine_distance)(A, B), -slope, atol=1e-7)


@pytest.mark.parametrize("scale", [1e20, 1e-25, 1e30, 1e-30])
def test_norms_neither_overflow_nor_vanish(scale: float) -> None:
    np.testing.assert_allclose(cosine_similarity(scale * A, B), 3 / 5, rtol=1e-6)
    np.testing.assert_allclose(cosine_similarity(scale * A, scale * B), 3 / 5, rtol=1e-6)
    slope = jax.grad(cosine_similarity)(scale * A, B)
    np.testing.assert_allclose(slope * scale, [0, 4 / 5 / 3], rtol=1e-6, atol=1e-7)


def test_zero_vectors() -> None:
    zero = jnp.zeros(2)
    for a, b in ((zero, B), (B, zero), (zero, zero)):
        assert cosine_similarity(a, b) == 0
        assert cosine_distance(a, b) == 1
        for loss in (cosine_similarity, cosine_distance):
            np.testing.assert_array_equal(jax.grad(loss, (0, 1))(a, b), np.zeros((2, 2)))
            assert np.all(np.isfinite(jax.hessian(loss)(a, b)))


def test_a_distance_is_never_negative() -> None:
    """optax's distance of a vector from itself is, in 17 of these 64 cases."""
    x = jax.random.normal(jax.random.key(0), (64, 300))
    compiled = as_users(cosine_distance)
    distances = np.asarray(compiled(x, x))
    assert np.all(distances >= 0)
    assert np.all(distances < 1e-12)
    close = x + 1e-4 * x[::-1]
    exact = 1 - np.sum(np.float64(x) * np.float64(close), -1) / np.linalg.norm(
        np.float64(x), axis=-1
    ) / np.linalg.norm(np.float64(close), axis=-1)
    # Of a distance of 5e-9, digits that 1 - cosine would not have.
    np.testing.assert_allclose(compiled(x, close), exact, rtol=0.01)


def test_distances_of_a_batch_without_near_vectors() -> None:
    """Where 1 - cosine cancels nowhere it is computed so, in one pass less."""
    x = np.asarray(jax.random.normal(jax.random.key(0), (2, 64, 8)), np.float64)
    cosines = np.sum(x[0] * x[1], -1) / np.prod(np.linalg.norm(x, axis=-1), 0)
    far = cosines < 0.5
    a, b = (jnp.asarray(v, jnp.float32) for v in x)
    for kept in (far, far | True):
        found = cosine_distance(a[kept], b[kept])
        np.testing.assert_allclose(found, 1 - cosines[kept], rtol=0, atol=1e-6)
    zero = cosine_distance(a[far].at[0].set(0), b[far])
    assert zero[0] == 1


def test_epsilon_is_a_lower_bound_of_squared_norms() -> None:
    np.testing.assert_allclose(cosine_similarity(A, B, epsilon=16.0), 9 / (4 * 5), rtol=1e-6)
    np.testing.assert_allclose(cosine_distance(A, B, epsilon=16.0), 1 - 9 / (4 * 5), rtol=1e-6)
    # Linear in a short vector, also at 0.
    slope = jax.grad(cosine_similarity)(0 * A, B, epsilon=16.0)
    np.testing.assert_allclose(slope, B / (4 * 5), rtol=1e-6)


def test_axes() -> None:
    x = jnp.arange(24.0).reshape(2, 3, 4) - 7
    y = jnp.sin(x)
    last = cosine_similarity(x, y)
    assert last.shape == (2, 3)
    np.testing.assert_allclose(cosine_similarity(x.mT, y.mT, axis=1), last, rtol=1e-5)
    flat = cosine_similarity(x.reshape(2, 12), y.reshape(2, 12))
    np.testing.assert_allclose(cosine_similarity(x, y, axis=(1, 2)), flat, rtol=1e-5)
    np.testing.assert_allclose(cosine_similarity(x, y, axis=[-1, 1]), flat, rtol=1e-5)


SIAMESE = pytest.mark.parametrize(("loss", "factor"), [(byol_loss, 2), (simsiam_loss, 1)])


@SIAMESE
def test_siamese_values(loss: Any, factor: int) -> None:
    np.testing.assert_allclose(loss(A, B), factor * 2 / 5, rtol=1e-6)
    # -(b/|b| - cos a/|a|) / |a|
    slope = factor * (3 / 5 * np.array([1, 0]) - np.array([3 / 5, 4 / 5])) / 3
    np.testing.assert_allclose(jax.grad(loss)(A, B), slope, atol=1e-6)
    normalised = jnp.sum((A / 3 - B / 5) ** 2)
    np.testing.assert_allclose(loss(A, B), factor / 2 * normalised, rtol=1e-6)
    assert loss(B, 7 * B) == 0


@SIAMESE
def test_targets_are_held_constant(loss: Any, factor: int) -> None:
    """In both modes and orders; and what is shared by both sides trains through the first alone."""
    assert np.all(jax.grad(loss, 1)(A, B) == 0)
    assert np.all(jax.jacfwd(loss, 1)(A, B) == 0)
    assert np.all(jax.jacfwd(jax.grad(loss), 1)(A, B) == 0)
    both = jax.grad(lambda w: loss(w * A, w * B))(jnp.array([1.0, 2.0]))
    targets = jnp.array([1.0, 2.0]) * B
    first = jax.grad(lambda w: loss(w * A, targets))(jnp.array([1.0, 2.0]))
    np.testing.assert_allclose(both, first, rtol=1e-6)


@SIAMESE
def test_siamese_bad_input(loss: Any, factor: int) -> None:
    with pytest.raises(ValueError, match=r"predictions float32\[2, 3\], targets float32\[2, 4\]"):
        loss(jnp.ones((2, 3)), jnp.ones((2, 4)))
    with pytest.raises(ValueError, match="drop the last axis of targets"):
        loss(jnp.ones((2, 3)), jnp.ones((2, 3, 1)))
    with pytest.raises(TypeError, match="predictions must be floating-point"):
        loss(jnp.ones((2, 3), int), jnp.ones((2, 3)))
    assert loss(jnp.ones((0, 3)), jnp.ones((0, 3)), reduction="mean") == 0


VECTOR = st.lists(st.floats(-100, 100, width=32), min_size=3, max_size=3)


@hypothesis.given(VECTOR, VECTOR, st.sampled_from([1e-25, 1e-3, 7.0, 1e25]))
def test_siamese_theorems(a: Any, b: Any, scale: float) -> None:
    """Within [0, 2] and [0, 4]; lengths do not matter, nor does a rotation of both."""
    a, b = (jnp.asarray(x, jnp.float32) for x in (a, b))
    found = simsiam_loss(a, b)
    assert 0 <= found <= 2 + 1e-6
    np.testing.assert_allclose(byol_loss(a, b), 2 * found, rtol=1e-6)
    if min(jnp.max(jnp.abs(a)), jnp.max(jnp.abs(b))) > 1e-6:
        np.testing.assert_allclose(simsiam_loss(scale * a, b), found, atol=1e-6)
        np.testing.assert_allclose(simsiam_loss(a, scale * b), found, atol=1e-6)
    np.testing.assert_allclose(simsiam_loss(a[::-1], b[::-1]), found, atol=1e-6)


def test_cosines_do_not_know_the_unit_of_either_vector() -> None:
    a, b = jnp.array([3.0, 0.5, 8.0]), jnp.array([1.0, 0.75, 24.0])
    for loss in (cosine_similarity, cosine_distance):
        np.testing.assert_array_equal(loss(8 * a, b / 4), loss(a, b))
