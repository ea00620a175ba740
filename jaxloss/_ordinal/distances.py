"""A loss of ordered classes, from a logit for each class: how far probability has to move."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from .._contract.inputs import Axis
from .._contract.jit import jit
from .._contract.reduce import Reduction, Request, Weights, Where
from .._numerics.kinks import Slopes, closed_form, square
from .._numerics.sharding import whole_along
from .._numerics.special import finite_top
from .levels import ClassNumbers, Levels, ordered


def _share_slopes(a: jax.Array, b: jax.Array) -> Slopes:
    total = a + b
    return b / total / total, -a / total / total


def _share_curvatures(a: jax.Array, b: jax.Array) -> tuple[Slopes, Slopes]:
    total = a + b
    inverse = 1 / total / total / total
    return (-2 * b * inverse,), ((a - b) * inverse, 2 * a * inverse)


@closed_form(_share_slopes, second=_share_curvatures)
def _share(a: jax.Array, b: jax.Array) -> jax.Array:
    """a / (a + b), whose slope in a is no difference from 1."""
    return a / (a + b)


@jit("axis")
def squared_emd_loss(
    logits: Levels,
    labels: ClassNumbers,
    *,
    axis: Axis = -1,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Squared earth mover's distance from the predicted distribution to the right class.

        sum over k of (P(class <= k) - [y <= k])^2   with probabilities softmax(x)

    The ranked probability score of meteorology. Probability on a class next to the right one costs
    less than on a far one. With two classes it is the squared error of a probability.

    Args:
        logits: x, along `axis` one for each class, K.
        labels: y, integers of the shape of `logits` without `axis`. NaN outside [0, K).
        axis: That of the classes.
        where, weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per example, from 0 to K - 1.

    Raises:
        ValueError: If `where` excludes single logits.

    Reference:
        Hou, Yu and Samaras, "Squared earth mover's distance-based loss for training deep neural
        networks", 2016, https://arxiv.org/abs/1611.05916; Epstein, "A scoring system for
        probability forecasts of ranked categories", 1969.

    Example:
        >>> squared_emd_loss(jnp.array([[0.0, 0.0, 0.0], [9.0, 0.0, 0.0]]), jnp.array([1, 2]))
        Array([0.22222224, 1.99926   ], dtype=float32)
    """
    given = ordered(logits, labels, axis, Request(where, weights, reduction), more=0)
    along = given.axes[0]
    # Sums of positive terms on both sides of each threshold: 1 - P(class <= k) is no difference.
    x, place = (whole_along(array, given.axes) for array in (given.scores, given.place))
    top = jax.lax.stop_gradient(jnp.max(x, along, keepdims=True))
    e = jnp.exp(x - finite_top(top))
    last = e.shape[along] - 1
    low = jax.lax.slice_in_dim(jax.lax.cumsum(e, along), 0, last, axis=along)
    high = jax.lax.slice_in_dim(jax.lax.cumsum(e, along, reverse=True), 1, None, axis=along)
    below = jax.lax.slice_in_dim(place < given.label, 0, last, axis=along)
    wrong, right = jnp.where(below, low, high), jnp.where(below, high, low)
    return given.reduced(jnp.sum(square(_share(wrong, right)), along))
