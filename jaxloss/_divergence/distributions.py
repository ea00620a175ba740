"""Distributions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Float

from .._contract import inputs
from .._contract.reduce import Where
from .._numerics.kinks import closed_form
from .._numerics.special import polynomial

Axes = tuple[int, ...]
Axis = int | Sequence[int] | None
Distributions = Float[ArrayLike, "*batch classes"] | Sequence[Any]
_HINT = (
    "; for class numbers: nll_loss or softmax_cross_entropy_with_integer_labels, "
    "which need no distribution of targets"
)


def paired(
    data: dict[str, Any], axis: Axis, where: Where, absent: tuple[float, float] = (0, 0)
) -> tuple[list[jax.Array], Axes, jax.Array | None]:
    """Two distributions of one shape, the axes, and the mask of the loss."""
    return inputs.vectors(data, axis, where, absent=absent, hint=_HINT, scalar=False)


def per_loss(
    name: str, value: ArrayLike, data: jax.Array, axes: Axes, selected: jax.Array | None
) -> jax.Array:
    """A hyperparameter for each loss."""
    return inputs.option(name, value, inputs.outer(data.shape, axes), data.dtype, selected)


def summed(
    term: Callable[..., jax.Array],
    slopes: Callable[..., tuple[jax.Array, ...]],
    axes: Axes,
    p: jax.Array,
    t: jax.Array,
) -> jax.Array:
    """The sum of the terms, with NaN derivatives where it is NaN."""

    @closed_form(slopes, axes)
    def total(p: jax.Array, t: jax.Array) -> jax.Array:
        return jnp.sum(term(p, t), axes)

    losses = total(p, t)
    return inputs.nan_outside(losses, ~jnp.isnan(losses))


def valid(p: jax.Array, t: jax.Array) -> jax.Array:
    """1 for two probabilities, NaN for what is none."""
    return jnp.where((p >= 0) & (t >= 0), 1, jnp.nan).astype(p.dtype)


def exp_gap(d: jax.Array) -> jax.Array:
    """(exp(d) - 1 - d) / d^2 for |d| <= 1: 1/2 at 0."""
    terms = 18 if d.dtype == jnp.float64 else 10
    return polynomial([1 / math.factorial(k + 2) for k in range(terms)], d)
