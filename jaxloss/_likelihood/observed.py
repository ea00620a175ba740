"""Observed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
from jax.typing import ArrayLike
from jaxtyping import Float, Real

from .._contract import inputs

Predictions = Float[ArrayLike, "*batch"] | Sequence[Any]
Targets = Real[ArrayLike, "*batch"] | Sequence[Any]
Field = Float[ArrayLike, "*#batch"] | Sequence[Any]


def observed(
    predictions: Any, targets: Any, where: Any, hyper: dict[str, Any] | None = None, **fields: Any
) -> list[jax.Array]:
    """Predictions, targets, fields and hyperparameters, in order."""
    data = {"predictions": predictions, "targets": targets}
    return inputs.elementwise(data, where, fields=fields, hyper=hyper)
