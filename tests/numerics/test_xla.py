"""Several reductions in one pass over the classes."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxloss._numerics.reductions import score_and_rival, sums
from jaxloss._numerics.xla import _disguised, apart
from tests.laws.values import single

INF = np.inf
# Zeros of both signs, the ends of the range, subnormals.
ROWS = np.array(
    [
        [1.0, 2.0, -3.0],
        [-1.0, -2.0, -3.0],
        [0.0, -0.0, -1e-45],
        [-0.0, -INF, -3e38],
        [INF, 3e38, -INF],
        [-INF, -INF, -INF],
        [1e-45, 1e-38, -1e-38],
    ]
)


rivals = jax.jit(functools.partial(score_and_rival, (1,)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_equals_a_sum_and_a_maximum(dtype: str) -> None:
    with jax.enable_x64(True):
        x = ROWS.astype(dtype)
        for label in range(3):
            hit = np.broadcast_to(np.arange(3) == label, x.shape)
            own, best = map(np.asarray, rivals(x, hit))
            assert own.dtype == best.dtype == dtype
            np.testing.assert_array_equal(own[:, 0], x[:, label])
            np.testing.assert_array_equal(best[:, 0], np.delete(x, label, 1).max(1))


def test_a_single_class_has_no_rival() -> None:
    own, best = rivals(single([[3]]), np.array([[True]]))
    assert own == 3
    assert best == -INF


@pytest.mark.parametrize("sign", [1, -1])
def test_nan_is_seen(sign: int) -> None:
    x = single([[np.copysign(np.nan, sign), 1, np.inf]])
    own, best = rivals(x, np.array([[True, False, False]]))
    assert np.isnan(own)
    assert best == np.inf
    own, best = rivals(x, np.array([[False, True, False]]))
    assert own == 1
    assert np.isnan(best)


def test_the_best_is_held_constant() -> None:
    slopes = jax.jit(jax.jacrev(rivals))(single([[1, 2]]), np.array([[True, False]]))
    of_own, of_best = map(np.asarray, slopes)
    np.testing.assert_array_equal(of_own[0, 0], [[1, 0]])
    np.testing.assert_array_equal(of_best[0, 0], [[0, 0]])


@pytest.mark.parametrize(("shape", "axes"), [((3, 5), (1,)), ((2, 75), (1,)), ((4, 40, 2), (0, 1))])
def test_sums_and_their_derivatives(shape: tuple[int, ...], axes: tuple[int, ...]) -> None:
    """Of rows that are short, that are no whole number of groups, and of several axes."""
    rng = np.random.default_rng(0)
    columns = single(rng.normal(size=(2, *shape)))

    @jax.jit
    def both(x: jax.Array, y: jax.Array) -> Any:
        slopes = jax.grad(lambda x, y: jnp.sum(jnp.cos(sums(axes, x * x, y)[0])))
        return sums(axes, x, y), slopes(x, y)

    found, slopes = both(*columns)
    for got, x in zip(found, columns, strict=True):
        exact = np.sum(np.float64(x), axes)
        np.testing.assert_allclose(got, exact, rtol=0, atol=1e-5)
    exact = -np.sin(np.sum(np.float64(columns[0]) ** 2, axes, keepdims=True)) * 2 * columns[0]
    np.testing.assert_allclose(slopes, exact, rtol=0, atol=1e-3)


def test_the_sum_of_a_long_row_keeps_its_digits() -> None:
    """Added up one by one, 100,000 numbers lose three of them."""
    x = single(np.random.default_rng(1).uniform(size=(2, 100_003)))
    exact = np.sum(np.float64(x), 1)
    np.testing.assert_allclose(sums((1,), x, 2 * x)[0], exact, rtol=4 * 2.0**-23)


def test_a_disguise_changes_no_bit() -> None:
    x = jnp.array([0.0, -0.0, 1e-45, -1.5, jnp.inf, -jnp.inf, jnp.nan], jnp.float32)
    (found,) = _disguised(x)
    np.testing.assert_array_equal(bits(found), bits(x))
    value, slope = jax.jvp(lambda x: _disguised(x, x)[1], (x,), (2 * jnp.ones_like(x),))
    np.testing.assert_array_equal(bits(value), bits(x))
    np.testing.assert_array_equal(slope, 2 * np.ones(len(x)))


def bits(x: jax.Array) -> np.ndarray:
    return np.asarray(x).view(np.int32)


def test_apart_keeps_value_and_derivatives_of_all_orders() -> None:
    def plain(x: jax.Array, y: jax.Array) -> jax.Array:
        return jnp.sin(x) * jnp.log(y)

    x, y = jnp.array([0.3, -2.0]), jnp.array([1.5, 0.2])
    for way in (
        lambda f: jnp.sum(f(x, y)),
        lambda f: jax.grad(lambda *at: jnp.sum(f(*at)), (0, 1))(x, y),
        lambda f: jax.hessian(lambda *at: jnp.sum(f(*at)), (0, 1))(x, y),
        lambda f: jax.vmap(jax.grad(f, 1))(x, y),
    ):
        for found, expected in zip(
            jax.tree.leaves(way(apart(plain))), jax.tree.leaves(way(plain)), strict=True
        ):
            np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_apart_multiplies_no_infinite_slope_by_a_zero_tangent() -> None:
    # At y = 0 the derivative in y is infinite.
    root = apart(lambda x, y: x + jnp.sqrt(y))
    assert jax.grad(root)(jnp.float32(1), jnp.float32(0)) == 1
