"""Negative log-likelihood of a Gaussian of several numbers that vary together."""

from __future__ import annotations

import math
from collections.abc import Sequence
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


def _observed(predictions: Any, targets: Any, factor: Any, request: Request) -> Vectors:
    """Predictions, targets and a square matrix for each vector."""
    data = {"predictions": predictions, "targets": targets}
    means, y = inputs.same_shape(data, scalar=False)
    matrix = inputs.floating("factor", factor)
    axes = inputs.consumed(-1, "predictions", means)
    square = (*means.shape, means.shape[-1])
    got = inputs.described(predictions=means, factor=matrix)
    if matrix.shape != square[-2:]:
        inputs.check_shape(matrix, square, f"factor must be [D, D] or [..., D, D], got {got}")
    dtype = inputs.computing_dtype([means, y, matrix])
    means, y, matrix = (x.astype(dtype) for x in (means, y, matrix))
    matrix = jnp.broadcast_to(matrix, square)
    selected = None
    if request.where is not None:
        selected = inputs.mask(request.where, means.shape[:-1], "the loss", means, axes)
        there = selected[..., None]
        means, y = (sharded_like(jnp.where(there, x, 0), means) for x in (means, y))
        identity = jnp.broadcast_to(jnp.eye(square[-1], dtype=dtype), square)
        matrix = jnp.where(there[..., None], matrix, identity)
    return Vectors(
        request=request,
        shape=means.shape[:-1],
        dtype=dtype,
        where=selected,
        data=(means, y, matrix),
        axes=axes,
    )


def _diagonal(matrix: jax.Array) -> jax.Array:
    """Selected, not gathered: that would bring vectors of several devices together."""
    size = matrix.shape[-1]
    on_it = jnp.broadcast_to(jnp.eye(size, dtype=bool), matrix.shape)
    return jnp.sum(jnp.where(on_it, matrix, 0), -1)


def _solved(lower: jax.Array, e: jax.Array) -> jax.Array:
    """L^-1 e, by forward substitution.

    In elementwise steps, one for each column: XLA's triangular solve is a call of a library, to
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
    given = _observed(predictions, targets, factor, Request(where, weights, reduction))
    *_, matrix = given.data
    given = given.inside(jnp.all(_diagonal(matrix) > 0, -1))
    return given.reduced(_nll(kind, *given.data))
