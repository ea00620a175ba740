"""Questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Float, Real

from .._contract import inputs

Logits = Float[ArrayLike, "*batch"] | Sequence[Any]
Labels = Real[ArrayLike, "*batch"] | Sequence[Any]
_EXCLUSIVE = "softmax_cross_entropy_with_integer_labels"


def instead(data: Mapping[str, Any], exclusive: str) -> str:
    """What the user may have wanted, from the shapes and dtypes of logits and labels.

    Args:
        data: Logits, then labels.
        exclusive: The loss of the same kind for class numbers.
    """
    (first, logits), (second, labels) = data.items()
    logits, labels = inputs.real(first, logits), inputs.real(second, labels)
    if not jnp.issubdtype(logits.dtype, jnp.floating) and jnp.issubdtype(
        labels.dtype, jnp.floating
    ):
        got = inputs.described(**{first: logits, second: labels})
        raise TypeError(f"{first} must be floating-point and come before {second}, got {got}")
    x, y = logits.shape, labels.shape
    if x == (*y, 1) or y == (*x, 1):
        return ""
    if x and x[:-1] == y:
        return f"; for {second} that name one of {x[-1]} classes: {exclusive}"
    if x and x[:-1] == y[:-1] and not jnp.issubdtype(labels.dtype, jnp.floating):
        return f"; for {second} that list the numbers of several classes: multi_hot"
    return ""


def questions(
    data: Mapping[str, Any], where: Any, exclusive: str = _EXCLUSIVE, **hyper: Any
) -> list[jax.Array]:
    """Logits and labels, then the hyperparameters."""
    return inputs.elementwise(data, where, hyper=hyper, hint=instead(data, exclusive))


def probabilities(*numbers: jax.Array) -> jax.Array:
    """Whether all lie from 0 to 1."""
    inside = jnp.asarray(True)
    for x in numbers:
        inside = inside & (x >= 0) & (x <= 1)
    return inside
