"""Values and gradients of losses: numbers of both precisions, and rows worked out by hand."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

EPS = float(np.finfo(np.float32).eps)

# Arithmetic in float64 against the loss in float32: a few eps.
RTOL = 1e-6

# Loss, data, options, value, gradient in predictions.
Row = tuple[Any, tuple[Any, ...], dict[str, Any], Any, Any]


def single(x: Any) -> np.ndarray:
    return np.asarray(x, np.float32)


def double(x: Any) -> np.ndarray:
    return np.asarray(x, np.float64)


# Some are asked of functions that live no longer than a test.
@functools.lru_cache(256)
def _program(loss: Callable[..., Any], wrt: tuple[int, ...], options: tuple[Any, ...]) -> Any:
    def summed(*inputs: Any, **given: Any) -> Any:
        losses = loss(*inputs, **{k: v for k, v, _ in options}, **given)
        return jnp.sum(losses), losses

    return jax.jit(jax.grad(summed, wrt, has_aux=True))


def evaluated(
    loss: Callable[..., Any], *inputs: Any, wrt: tuple[int, ...] = (0,), **options: Any
) -> tuple[Any, tuple[jax.Array, ...]]:
    """The losses, and the derivatives of their sum, by one program.

    To make a program takes longer than to run it here, and `jax.grad` outside of `jax.jit` makes
    several: this one serves all inputs of the same shapes.

    Args:
        loss: A public loss, or another function that lasts: it is what the program is kept by.
        *inputs: Its data.
        wrt: The positions to differentiate in.
        **options: Arrays are traced; everything else, numbers too, the program depends on.
    """
    arrays = {k: v for k, v in options.items() if isinstance(v, jax.Array | np.ndarray)}
    # 1, 1.0 and True are equal, but make different programs.
    fixed = tuple((k, v, type(v)) for k, v in options.items() if k not in arrays)
    slopes, losses = _program(loss, wrt, fixed)(*map(jnp.asarray, inputs), **arrays)
    return losses, slopes


def gradients(loss: Callable[..., Any], *inputs: Any) -> tuple[Any, tuple[jax.Array, ...]]:
    """The losses, and the derivatives of their sum in each input."""
    return evaluated(loss, *inputs, wrt=tuple(range(len(inputs))))


@functools.lru_cache(256, typed=True)
def in_both_modes(loss: Callable[..., Any], **options: Any) -> Callable[..., list[jax.Array]]:
    """The loss of some data, and its derivatives in the first: in reverse, and forward."""
    call = functools.partial(loss, **options)
    return jax.jit(lambda *data: [f(*data) for f in (call, jax.grad(call), jax.jacfwd(call))])


def check(row: Row) -> None:
    """A row is a call and what it has to give."""
    loss, data, options, value, gradient = row
    data = tuple(np.float32(x) for x in data)
    found, (slope,) = evaluated(loss, *data, **options)
    np.testing.assert_allclose(found, value, rtol=RTOL)
    np.testing.assert_allclose(slope, gradient, rtol=RTOL)


def row_id(row: Any) -> str:
    loss, data, options, *_ = row
    return f"{loss.__name__}{data}{options or ''}"
