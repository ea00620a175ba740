from __future__ import annotations

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
