"""Negative log-likelihood of a Gaussian of several numbers that vary together."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Float, Real

from .._contract import inputs
from .._contract.jit import jit
from .._contract.prepared import Vectors
from .._contract.reduce import Reduction, Request, Weights, Where
from .._numerics.kinks import divide
from .._numerics.sharding import sharded_like

Predictions = Float[ArrayLike, "*batch features"] | Sequence[Any]
Targets = Real[ArrayLike, "*batch features"] | Sequence[Any]
Factor = Float[ArrayLike, "*#batch features features"] | Sequence[Any]


Columns = Float[ArrayLike, "*#batch features rank"] | Sequence[Any]


def _observed(data: dict[str, Any], factor: Any, request: Request, square: bool) -> Vectors:
    """Predictions, targets and what else is of their shape, and a matrix for each vector."""
    vectors = inputs.same_shape(data, scalar=False)
    matrix = inputs.floating("factor", factor)
    first = vectors[0]
    axes = inputs.consumed(-1, "predictions", first)
    columns = first.shape[-1] if square else (*matrix.shape, 0)[matrix.ndim - 1]
    shape = (*first.shape, columns)
    got = inputs.described(predictions=first, factor=matrix)
    if matrix.shape != shape[-2:]:
        sizes = "[D, D] or [..., D, D]" if square else "[D, R] or [..., D, R]"
        inputs.check_shape(matrix, shape, f"factor must be {sizes}, got {got}")
    dtype = inputs.computing_dtype([*vectors, matrix])
    vectors = [x.astype(dtype) for x in vectors]
    matrix = jnp.broadcast_to(matrix.astype(dtype), shape)
    selected = None
    if request.where is not None:
        selected = inputs.mask(request.where, first.shape[:-1], "the loss", first, axes)
        there = selected[..., None]
        vectors = [sharded_like(jnp.where(there, x, 1), first) for x in vectors]
        identity = jnp.broadcast_to(jnp.eye(*shape[-2:], dtype=dtype), shape)
        matrix = jnp.where(there[..., None], matrix, identity)
    return Vectors(
        request=request,
        shape=first.shape[:-1],
        dtype=dtype,
        where=selected,
        data=(*vectors, matrix),
        axes=axes,
    )


def _diagonal(matrix: jax.Array) -> jax.Array:
    """Selected, not gathered: that would bring vectors of several devices together."""
    size = matrix.shape[-1]
    on_it = jnp.broadcast_to(jnp.eye(size, dtype=bool), matrix.shape)
    return jnp.sum(jnp.where(on_it, matrix, 0), -1)


def _solved(lower: jax.Array, e: jax.Array) -> jax.Array:
    """L^-1 e, by forward substitution.

    In elementwise steps, one for each column: JAX's triangular solve is a call of a library, to
    which all vectors are brought if they lie on several devices.
    """
    place = jax.lax.broadcasted_iota(jnp.int32, e.shape, e.ndim - 1)

    def step(left: jax.Array, column: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        entries, j = column
        here = place == j
        pivot, found = (jnp.sum(jnp.where(here, x, 0), -1) for x in (entries, left))
        found = divide(found, pivot)
        return left - entries * found[..., None], found

    columns = jnp.moveaxis(lower, -1, 0), jnp.arange(e.shape[-1], dtype=jnp.int32)
    return jnp.moveaxis(jax.lax.scan(step, e, columns)[1], 0, -1)


def _nll(kind: str, means: jax.Array, y: jax.Array, factor: jax.Array) -> jax.Array:
    e, lower = means - y, jnp.tril(factor)
    log_diagonal = jnp.sum(jnp.log(_diagonal(lower)), -1)
    if kind == "covariance":
        scaled = _solved(lower, e)
    else:
        scaled = jnp.sum(lower * e[..., None], -2)
        log_diagonal = -log_diagonal
    constant = 0.5 * math.log(2 * math.pi) * means.shape[-1]
    return 0.5 * jnp.sum(scaled * scaled, -1) + log_diagonal + constant


@jit("kind")
def multivariate_gaussian_nll_loss(
    predictions: Predictions,
    targets: Targets,
    factor: Factor,
    *,
    kind: Literal["covariance", "precision"] = "covariance",
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Negative log-likelihood of a Gaussian vector with predicted mean and covariance.

        |L^-1 e|^2 / 2 + sum of log(L_ii) + D log(2 pi) / 2   of the covariance
        |L^T e|^2 / 2 - sum of log(L_ii) + D log(2 pi) / 2    of the precision

    with e = predictions - targets and L L^T the covariance, or its inverse, the precision. No
    matrix is inverted: of the covariance a triangular system is solved, in D steps.

    Args:
        predictions: The mean, `[..., D]`.
        targets: `[..., D]`.
        factor: L, `[..., D, D]`, or `[D, D]` for all; its lower triangle alone is read. NaN unless
            the diagonal is positive: let a network give its logarithm.
        kind: What L is the Cholesky factor of: "covariance" or "precision".
        where, weights, reduction: See `jaxloss.reduce`. A mask takes whole vectors out.

    Returns:
        One loss per vector.

    Raises:
        ValueError: If `kind` is none of the two.

    Reference:
        Williams, "Using neural networks to model conditional multivariate densities", 1996,
        https://doi.org/10.1162/neco.1996.8.4.843, which gives the factor of the precision.

    Example:
        >>> factor = jnp.array([[1.0, 0.0], [0.5, 2.0]])
        >>> multivariate_gaussian_nll_loss(jnp.zeros((1, 2)), jnp.array([[1.0, -1.0]]), factor)
        Array([3.31227], dtype=float32)
    """
    inputs.one_of("kind", kind, ("covariance", "precision"))
    data = {"predictions": predictions, "targets": targets}
    given = _observed(data, factor, Request(where, weights, reduction), square=True)
    *_, matrix = given.data
    given = given.inside(jnp.all(_diagonal(matrix) > 0, -1))
    return given.reduced(_nll(kind, *given.data))


Pair = tuple[jax.Array, jax.Array]


def _total(parts: Iterable[jax.Array]) -> jax.Array:
    return functools.reduce(operator.add, parts)


def _orthogonal(columns: Pair, b: Pair) -> tuple[Pair, jax.Array]:
    """What is left of b beside the columns, and the logarithm of the volume that these span.

    By the modified method of Gram and Schmidt, in elementwise steps, one for each column.

    Args:
        columns: Their upper and their lower part.
        b: The same of a vector.
    """
    numbers = jnp.arange(columns[0].shape[-1], dtype=jnp.int32)
    places = [jax.lax.broadcasted_iota(jnp.int32, x.shape, x.ndim - 1) for x in columns]

    def step(carry: tuple[Any, Any], j: jax.Array) -> Any:
        columns, b = carry
        picked = [
            jnp.sum(jnp.where(place == j, x, 0), -1)
            for place, x in zip(places, columns, strict=True)
        ]
        length = jnp.sqrt(_total(jnp.sum(x * x, -1) for x in picked))
        units = [x / length[..., None] for x in picked]
        pairs = list(zip(units, columns, b, strict=True))
        along = _total(jnp.sum(x * unit[..., None], -2) for unit, x, _ in pairs)
        along_b = _total(jnp.sum(x * unit, -1) for unit, _, x in pairs)
        columns = tuple(x - unit[..., None] * along[..., None, :] for unit, x, _ in pairs)
        b = tuple(x - unit * along_b[..., None] for unit, _, x in pairs)
        return (columns, b), jnp.log(length)

    (_, b), logs = jax.lax.scan(step, (columns, b), numbers)
    return b, jnp.sum(logs, 0)


def _low_rank_nll(
    means: jax.Array, y: jax.Array, diagonal: jax.Array, factor: jax.Array
) -> jax.Array:
    root = jnp.sqrt(diagonal)
    # Below the scaled factor an identity: the columns are those of a least-squares problem whose
    # residual is the distance. The difference of two squares that others take has no digits where
    # the factor is large.
    nothing = jnp.zeros_like(jnp.sum(factor, -2))
    rank, lead = factor.shape[-1], (1,) * (factor.ndim - 2)
    identity = nothing[..., None, :] + jnp.eye(rank, dtype=factor.dtype).reshape(*lead, rank, rank)
    columns, b = (factor / root[..., None], identity), ((means - y) / root, nothing)
    left, log_volume = _orthogonal(columns, b)
    constant = 0.5 * math.log(2 * math.pi) * means.shape[-1]
    log_diagonal = 0.5 * jnp.sum(jnp.log(diagonal), -1)
    distance = 0.5 * _total(jnp.sum(x * x, -1) for x in left)
    return distance + log_volume + log_diagonal + constant


@jit()
def low_rank_gaussian_nll_loss(
    predictions: Predictions,
    targets: Targets,
    variance: Predictions,
    factor: Columns,
    *,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Negative log-likelihood of a Gaussian vector whose numbers share a few factors.

        e^T S^-1 e / 2 + log(det S) / 2 + D log(2 pi) / 2
        with S = W W^T + diag(v)

    with e = predictions - targets. Of D numbers and R factors it takes D R^2 products, and no
    matrix of [D, D].

    Args:
        predictions: The mean, `[..., D]`.
        targets: `[..., D]`.
        variance: v, `[..., D]`, of each number by itself. NaN unless positive.
        factor: W, `[..., D, R]`, or `[D, R]` for all: what a deviation of 1 of each factor adds.
        where, weights, reduction: See `jaxloss.reduce`. A mask takes whole vectors out.

    Returns:
        One loss per vector.

    Reference:
        Bishop, "Pattern recognition and machine learning", 2006, section 12.2.4.

    Example:
        >>> mean, one, factor = jnp.zeros((1, 2)), jnp.ones((1, 2)), jnp.ones((2, 1))
        >>> low_rank_gaussian_nll_loss(mean, one, one, factor)
        Array([2.72051], dtype=float32)
    """
    data = {"predictions": predictions, "targets": targets, "variance": variance}
    given = _observed(data, factor, Request(where, weights, reduction), square=False)
    _, _, diagonal, _ = given.data
    return given.inside(jnp.all(diagonal > 0, -1)).reduced(_low_rank_nll(*given.data))
