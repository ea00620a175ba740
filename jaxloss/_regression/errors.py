"""Errors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
from jax.typing import ArrayLike
from jaxtyping import Float, Real

from .._contract import inputs
from .._numerics.exact import lost_in_difference

Predictions = Float[ArrayLike, "*batch"] | Sequence[Any]
Targets = Real[ArrayLike, "*batch"] | Sequence[Any] | None


def pairs(predictions: Any, targets: Any, where: Any, **hyper: Any) -> list[jax.Array]:
    """Predictions and targets, then the hyperparameters."""
    data = {"predictions": predictions, "targets": 0.0 if targets is None else targets}
    return inputs.elementwise(data, where, hyper=hyper)


def errors(predictions: Any, targets: Any, where: Any, **hyper: Any) -> list[jax.Array]:
    """The error of each prediction, then the hyperparameters."""
    predictions, targets, *knobs = pairs(predictions, targets, where, **hyper)
    return [predictions - targets, *knobs]


def exact_errors(predictions: Any, targets: Any, where: Any, **hyper: Any) -> list[jax.Array]:
    """The error of each prediction, what its rounding lost, then the hyperparameters."""
    predictions, targets, *knobs = pairs(predictions, targets, where, **hyper)
    return [predictions - targets, lost_in_difference(predictions, targets), *knobs]
