"""Values and gradients of losses: numbers of both precisions, and rows worked out by hand."""

from __future__ import annotations

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


def gradients(loss: Callable[..., Any], *inputs: Any) -> tuple[Any, tuple[jax.Array, ...]]:
    """The losses, and the derivatives of their sum in each input."""

    def summed(*inputs: Any) -> Any:
        losses = loss(*inputs)
        return jnp.sum(losses), losses

    slopes = jax.grad(summed, tuple(range(len(inputs))), has_aux=True)
    derivatives, losses = slopes(*map(jnp.asarray, inputs))
    return losses, derivatives


def check(row: Row) -> None:
    """A row is a call and what it has to give."""
    loss, data, options, value, gradient = row
    data = tuple(np.float32(x) for x in data)
    np.testing.assert_allclose(loss(*data, **options), value, rtol=RTOL)
    np.testing.assert_allclose(jax.grad(loss)(*data, **options), gradient, rtol=RTOL)


def row_id(row: Any) -> str:
    loss, data, options, *_ = row
    return f"{loss.__name__}{data}{options or ''}"
