"""Values and gradients by hand: a row is a call and what it has to give."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

# Arithmetic in float64 against the loss in float32: a few eps.
RTOL = 1e-6

# Loss, data, options, value, gradient in predictions.
Row = tuple[Any, tuple[Any, ...], dict[str, Any], Any, Any]


def single(x: Any) -> np.ndarray:
    return np.asarray(x, np.float32)


def double(x: Any) -> np.ndarray:
    return np.asarray(x, np.float64)


def check(row: Row) -> None:
    loss, data, options, value, gradient = row
    data = tuple(np.float32(x) for x in data)
    np.testing.assert_allclose(loss(*data, **options), value, rtol=RTOL)
    np.testing.assert_allclose(jax.grad(loss)(*data, **options), gradient, rtol=RTOL)


def row_id(row: Any) -> str:
    loss, data, options, *_ = row
    return f"{loss.__name__}{data}{options or ''}"
