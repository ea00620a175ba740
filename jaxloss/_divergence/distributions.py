"""How divergences are prepared: two distributions of one shape. And what several formulas share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Float

from .._contract import inputs
from .._contract.inputs import Axis
from .._contract.prepared import Hyper, Vectors, vectors
from .._contract.reduce import Request
from .._numerics.kinks import closed_form
from .._numerics.reductions import sum_of_terms
from .._numerics.xla import nan_by_row

Axes = tuple[int, ...]
Distributions = Float[ArrayLike, "*batch classes"] | Sequence[Any]
_NUMBERS = (
    "; for class numbers: nll_loss or softmax_cross_entropy_with_integer_labels, "
    "which need no distribution of targets"
)


def pairs(
    data: dict[str, Any],
    axis: Axis,
    request: Request,
    *,
    absent: tuple[float, float] = (0, 0),
    **hyper: Hyper,
) -> Vectors:
    """The model's distributions and the targets.

    Args:
        data: Predictions, then targets.
        axis: The axis of the distributions, several, or None for all.
        request: The user's mask, weights and reduction.
        absent: What an excluded entry of each reads.
        **hyper: Hyperparameters.
    """
    _, targets = (inputs.real(name, x) for name, x in data.items())
    hint = _NUMBERS if jnp.issubdtype(targets.dtype, jnp.integer) else ""
    return vectors(data, axis, request, hyper=hyper, absent=absent, hint=hint, scalar=False)


def summed(
    term: Callable[..., jax.Array],
    slopes: Callable[..., tuple[jax.Array, ...]],
    given: Vectors,
    product: Callable[..., jax.Array] | None = None,
) -> jax.Array:
    """The sum of the terms over the axes, with NaN derivatives outside of their domain.

    Args:
        term: Takes predictions and targets, elementwise; NaN outside of their domain.
        slopes: The derivatives of a term in both, by `nan_by_entry`.
        given: Predictions and targets.
        product: The term without selections, where there is such a form: equal, or NaN.
    """

    @closed_form(slopes, given.axes)
    def total(p: jax.Array, t: jax.Array) -> jax.Array:
        if product is not None:
            return sum_of_terms(given.axes, (term, product), p, t)
        return jnp.sum(term(p, t), given.axes)

    return nan_by_row(total(*given.data))


def nan_unless(known: jax.Array, like: jax.Array) -> jax.Array:
    """A factor for terms and their slopes: 1, or NaN outside of their domain.

    It costs no pass over the data, as a condition on each sum of the terms would.
    """
    return jnp.where(known, 1, jnp.nan).astype(like.dtype)


def nan_if_negative(p: jax.Array, t: jax.Array) -> jax.Array:
    """That factor for two probabilities: NaN where one is below 0 or NaN."""
    return nan_unless((p >= 0) & (t >= 0), p)
