"""Losses of two views without negatives: what keeps embeddings from collapsing is redundancy.

They compare the features of a batch with each other, and are one number for a batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from .._contract import inputs
from .._contract.jit import jit
from .._contract.reduce import Losses, Reduction, Weights, Where, reduced
from .._numerics.kinks import hinge
from .batch import Embeddings, diagonal, directions, of_examples, products


class _Views(NamedTuple):
    """Two views of a batch.

    Attributes:
        examples: As given; 0 in an excluded example.
        features: Transposed, `[..., features, examples]`, each feature less its mean over the
            batch; 0 in an excluded example.
        number: Of the examples, for each batch.
        where: The mask of the batches.
    """

    examples: list[jax.Array]
    features: list[jax.Array]
    number: jax.Array
    where: jax.Array | None

    def option(self, name: str, value: ArrayLike) -> jax.Array:
        """A hyperparameter: one number, or one for each batch; 1 where that is excluded."""
        return inputs.option(name, value, self.number.shape, self.number.dtype, self.where)


def _views(data: Mapping[str, Any], where: Where) -> _Views:
    arrays = of_examples(data)
    shape, dtype = arrays[0].shape, arrays[0].dtype
    outer, size = shape[:-2], shape[-2]
    there = jnp.ones((*outer, size), bool)
    if where is not None:
        given = inputs.real("where", where)
        if given.ndim == len(shape) - 1:
            there = inputs.mask(given, shape[:-1], "the examples")
        else:
            there = jnp.broadcast_to(
                inputs.mask(given, outer, "the loss or of the examples")[..., None], there.shape
            )
        arrays = [jnp.where(there[..., None], x, 0) for x in arrays]
    count = jnp.sum(there, -1, dtype=jnp.int32).astype(dtype)
    selected = None if where is None and size else count > 0
    mean = jnp.maximum(count, 1)[..., None, None]
    features = []
    for x in arrays:
        x, some = jnp.swapaxes(x, -1, -2), there[..., None, :]
        # From one of its values first, so that a constant feature is 0 and not the rounding of its
        # mean. No derivative depends on which.
        start = jnp.max(jnp.where(some, x, -jnp.inf), -1, keepdims=True, initial=-jnp.inf)
        x = jnp.where(some, x - jax.lax.stop_gradient(start), 0)
        # Twice: what the rounding of the first mean has left is as small as that.
        for _ in range(2):
            x = jnp.where(some, x - jnp.sum(x, -1, keepdims=True) / mean, 0)
        features.append(x)
    return _Views(arrays, features, count, selected)


def _off_diagonal(squares: jax.Array) -> jax.Array:
    return jnp.sum(jnp.where(diagonal(squares.shape), 0, squares), (-1, -2))


@jit()
def barlow_twins_loss(
    x: Embeddings,
    y: Embeddings,
    *,
    off_diagonal: ArrayLike = 5e-3,
    epsilon: ArrayLike = 0.0,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> Losses:
    """Barlow Twins: the features of two views correlate with themselves, and not with others.

        sum_i (1 - C_ii)^2 + off_diagonal sum_{i != j} C_ij^2

    with the correlation C_ij, over the batch, of feature i of x and feature j of y. A feature that
    is the same in all examples correlates with none, and its gradient is 0.

    Args:
        x: The embeddings of one view, shape `[..., N, D]`.
        y: Those of the other, the shape of `x`.
        off_diagonal: The weight of the correlations of different features.
        epsilon: Added to the variances, of which the correlations are made (1e-5 in the authors'
            code). NaN if negative.
        where: Which examples are there, shape `[..., N]`, or which batches; see `jaxloss.reduce`.
        weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per batch, shape `[...]`: a scalar for `[N, D]`. In a batch of one example every
        feature is constant: D.

    Reference:
        Zbontar et al., "Barlow Twins: self-supervised learning via redundancy reduction", 2021,
        https://arxiv.org/abs/2103.03230, equations 1 and 2.

    Example:
        >>> x = jnp.array([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]])
        >>> barlow_twins_loss(x, x, off_diagonal=1.0)
        Array(0.5, dtype=float32)
    """
    views = _views({"x": x, "y": y}, where)
    epsilon = views.option("epsilon", epsilon)
    some = epsilon > 0
    extra = jnp.where(some, jnp.sqrt(jnp.where(some, views.number * epsilon, 1)), 0)
    # Standardised features are directions; epsilon is one more example, that all features share.
    extra = jnp.broadcast_to(extra[..., None, None], (*views.features[0].shape[:-1], 1))
    u, v = (directions(jnp.concatenate([f, extra], -1)) for f in views.features)
    correlations = products(u[..., :-1], v[..., :-1])
    # 1 - C_ii as half of |u - v|^2 and of what u and v lack of length 1, which does not cancel.
    lack = 0.0
    for f, unit in zip(views.features, (u, v), strict=True):
        constant = jnp.all(f == 0, -1) & ~some[..., None]
        lack = lack + jnp.where(constant, 1, jnp.square(unit[..., -1]))
    gap = 0.5 * (jnp.sum(jnp.square(u - v)[..., :-1], -1) + lack)
    others = views.option("off_diagonal", off_diagonal) * _off_diagonal(jnp.square(correlations))
    losses = inputs.nan_outside(jnp.sum(jnp.square(gap), -1) + others, epsilon >= 0)
    return reduced(losses, views.where, weights, reduction)


def _deviation(variance: jax.Array, epsilon: jax.Array) -> jax.Array:
    square = variance + epsilon
    zero = square == 0
    return jnp.where(zero, 0, jnp.sqrt(jnp.where(zero, 1, square)))


@jit()
def vicreg_loss(
    x: Embeddings,
    y: Embeddings,
    *,
    invariance: ArrayLike = 25.0,
    variance: ArrayLike = 25.0,
    covariance: ArrayLike = 1.0,
    epsilon: ArrayLike = 1e-4,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> Losses:
    """VICReg: two views agree, each feature varies, and features do not vary together.

        invariance  mean (x - y)^2
        + variance  the mean over both views and all features of max(0, 1 - sqrt(Var + epsilon))
        + covariance  the sum over both views of sum_{i != j} Cov_ij^2 / D

    with the unbiased variances and covariances of features over the batch. At a deviation of
    exactly 1 the slope is that of the active side; a deviation of 0 has slope 0.

    Args:
        x: The embeddings of one view, shape `[..., N, D]`.
        y: Those of the other, the shape of `x`.
        invariance, variance, covariance: The weights of the three terms.
        epsilon: Added to the variances. NaN if negative.
        where: Which examples are there, shape `[..., N]`, or which batches; see `jaxloss.reduce`.
        weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per batch, shape `[...]`: a scalar for `[N, D]`. NaN for a single example, which
        has no unbiased variance.

    Reference:
        Bardes, Ponce and LeCun, "VICReg: variance-invariance-covariance regularization for
        self-supervised learning", 2022, https://arxiv.org/abs/2105.04906, equation 6. As the
        authors' code, this takes the mean over both views where the paper adds the variance
        terms, and the mean over features in the first term where the paper has their sum.

    Example:
        >>> x = jnp.array([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]])
        >>> vicreg_loss(x, x)
        Array(0.5, dtype=float32)
    """
    views = _views({"x": x, "y": y}, where)
    knobs = {"invariance": invariance, "variance": variance, "covariance": covariance}
    of_gap, of_spread, of_pairs = (views.option(name, value) for name, value in knobs.items())
    epsilon = views.option("epsilon", epsilon)
    a, b = views.examples
    count, width = views.number, a.shape[-1]
    gaps = jnp.sum(jnp.square(a - b), (-1, -2)) / (jnp.maximum(count, 1) * max(width, 1))
    spreads, redundancies = [], []
    for features in views.features:
        freedom = jnp.where(count == 1, jnp.nan, jnp.maximum(count - 1, 1))[..., None]
        spread = jnp.sum(jnp.square(features), -1) / freedom
        spreads.append(jnp.sum(hinge(1 - _deviation(spread, epsilon[..., None])), -1))
        together = products(features, features) / freedom[..., None]
        redundancies.append(_off_diagonal(jnp.square(together)) / max(width, 1))
    spread = 0.5 * sum(spreads) / max(width, 1)
    losses = of_gap * gaps + of_spread * spread + of_pairs * sum(redundancies)
    losses = inputs.nan_outside(losses, epsilon >= 0)
    return reduced(losses, views.where, weights, reduction)
