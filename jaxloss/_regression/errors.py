"""What a prediction is off by: how the data of regressions are prepared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jax.typing import ArrayLike
from jaxtyping import Float, Real

from .._contract.prepared import Elements, Hyper, elementwise
from .._contract.reduce import Request
from .._numerics.exact import lost_in_difference

Predictions = Float[ArrayLike, "*batch"] | Sequence[Any]
Targets = Real[ArrayLike, "*batch"] | Sequence[Any] | None


def pairs(predictions: Any, targets: Any, request: Request, **hyper: Hyper) -> Elements:
    """Predictions and targets; targets that are None are zeros."""
    data = {"predictions": predictions, "targets": 0.0 if targets is None else targets}
    return elementwise(data, request, hyper=hyper)


def errors(predictions: Any, targets: Any, request: Request, **hyper: Hyper) -> Elements:
    """The error of each prediction."""
    given = pairs(predictions, targets, request, **hyper)
    predictions, targets = given.data
    return given.replace(data=(predictions - targets,))


def exact_errors(predictions: Any, targets: Any, request: Request, **hyper: Hyper) -> Elements:
    """The error of each prediction, and what its rounding lost."""
    given = pairs(predictions, targets, request, **hyper)
    predictions, targets = given.data
    lost = lost_in_difference(predictions, targets)
    return given.replace(data=(predictions - targets, lost))
