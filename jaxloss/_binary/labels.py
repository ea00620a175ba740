"""Scores, logits or probabilities with their labels: how yes-or-no losses prepare their data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Float, Real

from .._contract import inputs
from .._contract.prepared import Elements, Hyper, elementwise, in_unit_interval
from .._contract.reduce import Request

Logits = Float[ArrayLike, "*batch"] | Sequence[Any]
Labels = Real[ArrayLike, "*batch"] | Sequence[Any]
# What class numbers are for, unless a loss has a counterpart of its own.
EXCLUSIVE = "softmax_cross_entropy_with_integer_labels"


def format_hint(data: Mapping[str, Any], exclusive: str) -> str:
    """Which other format the labels seem to have, by shapes and dtypes: the end of a message.

    Args:
        data: Logits, then labels.
        exclusive: The loss of the same kind for class numbers.
    """
    (first, logits), (second, labels) = data.items()
    logits, labels = inputs.real(first, logits), inputs.real(second, labels)
    x, y = logits.shape, labels.shape
    if x == (*y, 1) or y == (*x, 1):
        return ""
    if x and x[:-1] == y:
        return f"; for {second} that name one of {x[-1]} classes: {exclusive}"
    if x and x[:-1] == y[:-1] and not jnp.issubdtype(labels.dtype, jnp.floating):
        return f"; for {second} that list the numbers of several classes: multi_hot"
    return ""


def scores_and_targets(
    data: Mapping[str, Any], request: Request, exclusive: str = EXCLUSIVE, **hyper: Hyper
) -> Elements:
    """Scores, and targets of which only the sign counts.

    Args:
        data: Scores, then targets.
        request: The user's mask, weights and reduction.
        exclusive: The loss of the same kind for class numbers.
        **hyper: Hyperparameters.
    """
    return elementwise(data, request, hyper=hyper, hint=format_hint(data, exclusive))


def logits_and_labels(
    data: Mapping[str, Any], request: Request, exclusive: str = EXCLUSIVE, **hyper: Hyper
) -> Elements:
    """Logits or probabilities, and labels from 0 to 1; see `scores_and_targets`."""
    given = scores_and_targets(data, request, exclusive, **hyper)
    return given.inside(in_unit_interval(given.data[1]))
