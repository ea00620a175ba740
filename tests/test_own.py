"""The score of the right class and the best of the others."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxloss._own import own_and_best

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


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_equals_a_sum_and_a_maximum(dtype: str) -> None:
    with jax.enable_x64(True):
        x = ROWS.astype(dtype)
        for label in range(3):
            hit = np.broadcast_to(np.arange(3) == label, x.shape)
            own, best = own_and_best((1,), jnp.asarray(x), jnp.asarray(hit))
            assert own.dtype == best.dtype == dtype
            np.testing.assert_array_equal(own[:, 0], x[:, label])
            np.testing.assert_array_equal(best[:, 0], np.delete(x, label, 1).max(1))


def test_a_single_class_has_no_rival() -> None:
    own, best = own_and_best((1,), jnp.array([[3.0]]), jnp.array([[True]]))
    assert own == 3
    assert best == -INF


def test_nan_of_the_right_class_is_seen() -> None:
    own, _ = own_and_best((1,), jnp.array([[np.nan, 1.0]]), jnp.array([[True, False]]))
    assert np.isnan(own)


def test_the_best_is_held_constant() -> None:
    x, hit = jnp.array([[1.0, 2.0]]), jnp.array([[True, False]])
    slopes = jax.jacrev(lambda x: own_and_best((1,), x, hit))(x)
    np.testing.assert_array_equal(slopes[0][0, 0], [[1, 0]])
    np.testing.assert_array_equal(slopes[1][0, 0], [[0, 0]])
