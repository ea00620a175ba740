"""Losses of two views without negatives, which keep embeddings from collapsing to a constant.

They compare the features of a batch with each other, and are one number for a batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from .._contract import inputs
from .._contract.devices import AxisName, check_axis_name
from .._contract.jit import jit
from .._contract.prepared import Hyper, Prepared, non_negative
from .._contract.reduce import Reduction, Request, Weights, Where
from .._numerics.devices import added, greatest, place
from .._numerics.kinks import divide, hinge
from .._numerics.sharding import sharded_like
from .._numerics.special import root
from .batch import Embeddings, diagonal, of_examples
from .cosines import directions, products


@dataclass(frozen=True, eq=False, kw_only=True)
class _Views(Prepared):
    """The arguments of a loss that is one number for two views of a batch.

    Attributes:
        data: Both arrays as given; 0 in an excluded example.
        features: Transposed, `[..., features, examples]`, each feature less its mean over the
            batch; 0 in an excluded example.
        number: Of the examples that are not excluded, for each batch.

    Examples are those of this device, means and numbers are over all devices of an axis name.
    """

    features: tuple[jax.Array, ...]
    number: jax.Array


def _views(
    data: Mapping[str, Any], request: Request, axis_name: AxisName, **hyper: Hyper
) -> _Views:
    """Two arrays of examples, ready for arithmetic.

    A mask of the rank of the loss excludes batches, one of a rank more examples. A batch without
    an example is itself excluded.
    """
    arrays = of_examples(data)
    check_axis_name(axis_name, dict(zip(data, arrays, strict=True)))
    *outer, size, _ = arrays[0].shape
    there = sharded_like(jnp.ones((*outer, size), bool), arrays[0], (-1,))
    if request.where is not None:
        given = inputs.real("where", request.where)
        if given.ndim == there.ndim:
            there = inputs.mask(given, there.shape, "the examples", there)
        else:
            like = "the loss or of the examples"
            batches = inputs.mask(given, tuple(outer), like, there, (-1,))
            there = jnp.broadcast_to(batches[..., None], there.shape)
        arrays = [jnp.where(there[..., None], x, 0) for x in arrays]
    count = added(jnp.sum(there, -1, dtype=jnp.int32), axis_name)
    number = count.astype(arrays[0].dtype)
    views = _Views(
        request=request,
        shape=tuple(outer),
        dtype=number.dtype,
        where=None if request.where is None and size else number > 0,
        data=tuple(arrays),
        features=tuple(_centred(x, there, number, axis_name) for x in arrays),
        number=number,
    )
    return views.with_hyper(hyper, number)


def _centred(
    examples: jax.Array, there: jax.Array, number: jax.Array, axis_name: AxisName
) -> jax.Array:
    """The features `[..., features, examples]` less their mean; 0 in examples not there."""
    x, there = jnp.swapaxes(examples, -1, -2), there[..., None, :]
    number = jnp.maximum(number, 1)[..., None, None]
    # First less one of its values, so that a constant feature becomes 0 and not the rounding error
    # of its mean. The result does not depend on which value: derivatives take it for a constant.
    start = jnp.max(jnp.where(there, x, -jnp.inf), -1, keepdims=True, initial=-jnp.inf)
    x = jnp.where(there, x - greatest(start, axis_name), 0)
    # The second pass takes away the rounding error of the first mean.
    for _ in range(2):
        total = added(jnp.sum(x, -1, keepdims=True), axis_name)
        x = jnp.where(there, x - total / number, 0)
    return x


def _off_diagonal(squares: jax.Array) -> jax.Array:
    """The sum of square matrices without their diagonals."""
    return jnp.sum(jnp.where(diagonal(squares), 0, squares), (-1, -2))


@jit("axis_name")
def barlow_twins_loss(
    x: Embeddings,
    y: Embeddings,
    *,
    off_diagonal: ArrayLike = 5e-3,
    epsilon: ArrayLike = 0.0,
    axis_name: AxisName = None,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
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
        axis_name: The axis of a `jax.shard_map`, or several, over whose devices the batch is
            spread: the loss, the same on all of them, is that of the whole batch, and only sums
            of features and of their products pass between devices. None for the batch of each
            device by itself. Without `shard_map` a batch on several devices needs no name.
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
    request = Request(where, weights, reduction)
    hyper = {"off_diagonal": Hyper(off_diagonal), "epsilon": Hyper(epsilon, non_negative)}
    views = _views({"x": x, "y": y}, request, axis_name, **hyper)
    _, _, of_others, epsilon = views.arrays
    extra = root(views.number * epsilon)
    # Standardised features are vectors of length 1 over the examples. An epsilon in the variances
    # is one more example, in which all features are alike; the first device has it.
    extra = jnp.where(place(axis_name) == 0, extra, 0)
    extra = jnp.broadcast_to(extra[..., None, None], (*views.features[0].shape[:-1], 1))
    # 0, but for its derivatives, which a root has not at an epsilon of 0.
    start = jnp.where(epsilon > 0, 0, views.number * epsilon)[..., None]
    # 1 - C_ii as the half of |u - v|^2 + (1 - |u|^2) + (1 - |v|^2), which does not cancel, with u
    # and v without the extra example.
    lack, rest, units = 0.0, 0.0, []
    for f in views.features:
        unit = directions(jnp.concatenate([f, extra], -1), axis_name)
        varies = greatest(jnp.any(f != 0, -1), axis_name)
        constant = ~varies & ~(epsilon > 0)[..., None]
        square = added(jnp.sum(jnp.square(f), -1), axis_name)
        square = jnp.maximum(square, jnp.finfo(f.dtype).tiny)
        more = divide(start, jnp.where(constant, 1, square))
        units.append(unit[..., :-1] / jnp.sqrt(1 + more)[..., None])
        lack = lack + jnp.square(unit[..., -1])
        rest = rest + jnp.where(constant, 1, more / (1 + more))
    u, v = units
    correlations = added(products(u, v), axis_name)
    gap = 0.5 * (added(jnp.sum(jnp.square(u - v), -1) + lack, axis_name) + rest)
    others = of_others * _off_diagonal(jnp.square(correlations))
    return views.reduced(jnp.sum(jnp.square(gap), -1) + others)


@jit("axis_name")
def vicreg_loss(
    x: Embeddings,
    y: Embeddings,
    *,
    invariance: ArrayLike = 25.0,
    variance: ArrayLike = 25.0,
    covariance: ArrayLike = 1.0,
    epsilon: ArrayLike = 1e-4,
    axis_name: AxisName = None,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
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
        axis_name: See `barlow_twins_loss`.
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
    request = Request(where, weights, reduction)
    hyper = {
        "invariance": Hyper(invariance),
        "variance": Hyper(variance),
        "covariance": Hyper(covariance),
        "epsilon": Hyper(epsilon, non_negative),
    }
    views = _views({"x": x, "y": y}, request, axis_name, **hyper)
    a, b, of_gap, of_spread, of_pairs, epsilon = views.arrays
    count, width = views.number, a.shape[-1]
    gaps = added(jnp.sum(jnp.square(a - b), (-1, -2)), axis_name)
    gaps = gaps / (jnp.maximum(count, 1) * max(width, 1))
    spreads, redundancies = [], []
    for features in views.features:
        freedom = jnp.where(count == 1, jnp.nan, jnp.maximum(count - 1, 1))[..., None]
        spread = added(jnp.sum(jnp.square(features), -1), axis_name) / freedom
        spreads.append(jnp.sum(hinge(1 - root(spread + epsilon[..., None])), -1))
        together = added(products(features, features), axis_name) / freedom[..., None]
        redundancies.append(_off_diagonal(jnp.square(together)) / max(width, 1))
    spread = 0.5 * sum(spreads) / max(width, 1)
    losses = of_gap * gaps + of_spread * spread + of_pairs * sum(redundancies)
    return views.reduced(losses)
