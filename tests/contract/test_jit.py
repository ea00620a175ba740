from __future__ import annotations

import inspect
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxloss._contract.jit import jit

traces: list[tuple[Any, ...]] = []


@jit("axis")
def example(x: Any, *, axis: Any = 0, scale: Any = 1.0, reduction: str = "none") -> jax.Array:
    """Documented."""
    traces.append((axis, reduction))
    return jnp.sum(jnp.asarray(x) * scale, axis)


def test_remains_an_ordinary_function() -> None:
    assert inspect.isfunction(example)
    assert example.__doc__ == "Documented."
    assert list(inspect.signature(example).parameters) == ["x", "axis", "scale", "reduction"]
    assert not isinstance(vars(example)["__wrapped__"], type(jax.jit(lambda: 0)))


def test_numbers_are_traced_and_settings_are_not() -> None:
    traces.clear()
    x = jnp.ones((2, 3))
    for scale in (1.0, 2.0, 3.5):
        np.testing.assert_array_equal(example(x, scale=scale), jnp.full(3, 2 * scale))
    assert len(traces) == 1
    assert example(x, axis=(0, 1)) == 6
    assert example(x, axis=1, reduction="sum").shape == (2,)
    assert traces[1:] == [((0, 1), "none"), (1, "sum")]


def test_everything_is_differentiable_and_mapped_through_it() -> None:
    x = jnp.ones((2, 3))
    np.testing.assert_array_equal(jax.grad(lambda x: jnp.sum(example(x, scale=2.0)))(x), 2 * x)
    np.testing.assert_array_equal(jax.vmap(example)(x), [3, 3])
    assert jax.grad(lambda s: jnp.sum(example(x, scale=s)))(1.0) == 6


def test_a_setting_cannot_be_traced() -> None:
    with pytest.raises(TypeError, match="axis must be a hashable Python value"):
        jax.jit(lambda axis: example(jnp.ones(3), axis=axis))(0)
    with pytest.raises(TypeError, match="reduction must be a hashable Python value, got dict"):
        example(jnp.ones(3), reduction={})  # pyright: ignore[reportArgumentType]


@jit(uncompiled="function")
def applied(x: Any, *, function: Any = None) -> Any:
    return x if function is None else function(x)


def test_a_function_is_called_each_time() -> None:
    """What it reads besides its arguments may have changed."""
    weight = [1.0]

    def scaled(x: Any) -> Any:
        return weight[0] * x

    assert applied(2.0, function=scaled) == 2
    weight[0] = 3.0
    assert applied(2.0, function=scaled) == 6
    assert jax.grad(lambda x: applied(x, function=scaled))(2.0) == 3
    assert applied(2.0) == 2
