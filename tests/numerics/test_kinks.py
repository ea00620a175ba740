from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxloss._numerics import kinks
from tests.laws.values import evaluated, in_both_modes, single

AT = single([-2, 0, 3])


@pytest.mark.parametrize(
    ("function", "values", "slopes"),
    [
        (kinks.absolute, [2, 0, 3], [-1, 0, 1]),
        (kinks.hinge, [0, 0, 3], [0, 1, 1]),
        (lambda x: kinks.clamped(x, jnp.float32(1.0)), [1, 1, 3], [1, 1, 1]),
    ],
)
def test_stated_slopes(function: jax.stages.Wrapped, values: list, slopes: list) -> None:
    found, *derivatives = jax.vmap(in_both_modes(function))(AT)
    np.testing.assert_array_equal(found, values)
    for derivative in derivatives:
        np.testing.assert_array_equal(derivative, slopes)
    assert np.isnan(function(jnp.nan))
    assert np.isfinite(jax.vmap(jax.jit(jax.hessian(function)))(AT)).all()


@kinks.closed_form(lambda x, y: (1 / x, jnp.log(x)))
def y_log_x(x: jax.Array, y: jax.Array) -> jax.Array:
    return y * jnp.log(x)


def test_an_undifferentiated_argument_is_not_multiplied_by_its_slope() -> None:
    """At x = 0 the slope in y is -inf, and 0 * inf would be NaN."""
    one = jnp.float32(1.0)
    assert jax.jvp(lambda x: y_log_x(x, one), (0 * one,), (one,))[1] == jnp.inf
    assert jax.grad(y_log_x)(0 * one, one) == jnp.inf
    assert jax.jit(jax.grad(y_log_x))(0 * one, one) == jnp.inf


def hessians(function: Any, *at: jax.Array) -> list[np.ndarray]:
    """Forward over reverse, reverse over reverse and forward over forward."""
    every = tuple(range(len(at)))
    outer = (jax.jacfwd, jax.jacrev, jax.jacfwd)
    inner = (jax.jacrev, jax.jacrev, jax.jacfwd)
    modes = zip(outer, inner, strict=True)
    return [np.array(jax.jit(after(first(function, every), every))(*at)) for after, first in modes]


def test_a_quotient_squares_no_divisor() -> None:
    """Of 1e-30 and 1e30 the square is 0 and inf in float32."""
    for size in single([1e-30, 1e30]):
        np.testing.assert_allclose(jax.jit(jax.grad(kinks.divide, 1))(size, size), -1 / size)


def test_second_derivatives_are_those_stated() -> None:
    """Of x y^2, with a constant in the last place and an entry of its own to tell them apart."""

    @functools.partial(
        kinks.closed_form,
        second=lambda x, y, z: ((0.25 * jnp.ones_like(x),), (2 * y, 2 * x)),
    )
    def slopes(x: jax.Array, y: jax.Array, z: jax.Array) -> tuple[jax.Array, ...]:
        return y * y, 2 * x * y, z

    function = slopes(lambda x, y, z: x * y * y + 0 * z)
    for found in hessians(lambda x, y: function(x, y, jnp.float32(1)), *single([3, 5])):
        np.testing.assert_array_equal(found, [[0.25, 10], [10, 6]])


def test_a_second_derivative_that_overflows_leaves_the_others_finite() -> None:
    function = kinks.closed_form(
        lambda x, y: (1 / x, y),
        second=lambda x, y: ((-(1 / x) * (1 / x),), (jnp.zeros_like(x), jnp.ones_like(y))),
    )(lambda x, y: jnp.log(x) + 0.5 * y * y)
    largest = np.finfo(np.float32).max
    for found in hessians(function, *single([1e-30, 1])):
        np.testing.assert_array_equal(found, [[-largest, 0], [0, 1]])


def test_an_axis_is_consumed() -> None:
    @kinks.closed_form(lambda x, scale: (scale * 2 * x, jnp.sum(x * x, 1)), (1,))
    def scaled_square(x: jax.Array, scale: jax.Array) -> jax.Array:
        return scale * jnp.sum(x * x, 1)

    x, scale = single([[0, 1, 2], [3, 4, 5]]), single(3)
    found, slopes = evaluated(scaled_square, x, scale, wrt=(0, 1))
    np.testing.assert_array_equal(found, [15, 150])
    np.testing.assert_array_equal(slopes[0], 6 * x)
    assert slopes[1] == 55
    along = jax.jit(lambda x, scale: jax.jvp(scaled_square, (x, scale), (1 + 0 * x, scale)))
    _, tangent = along(x, scale)
    np.testing.assert_array_equal(tangent, [6 * 3 + 15, 6 * 12 + 150])
