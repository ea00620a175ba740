"""Predicted parameters and what was observed: how the data of likelihoods are prepared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jax.typing import ArrayLike
from jaxtyping import Float, Real

from .._contract.prepared import Elements, Hyper, elementwise
from .._contract.reduce import Request

Predictions = Float[ArrayLike, "*batch"] | Sequence[Any]
Targets = Real[ArrayLike, "*batch"] | Sequence[Any]
Field = Float[ArrayLike, "*#batch"] | Sequence[Any]


def observed(
    predictions: Any,
    targets: Any,
    request: Request,
    *,
    fields: Mapping[str, Any] | None = None,
    **hyper: Hyper,
) -> Elements:
    """Predictions, targets and fields, then hyperparameters."""
    data = {"predictions": predictions, "targets": targets}
    return elementwise(data, request, fields=fields, hyper=hyper)
