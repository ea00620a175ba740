"""Distances and similarities of all pairs: what losses of a user's own are made of."""

from __future__ import annotations

from numbers import Real
from typing import Any

import jax
from jaxtyping import Array, Float

from .._contract import inputs
from .._contract.jit import jit
from .._numerics.sharding import whole_along
from .batch import Embeddings, check_sets
from .cosines import cosines, directions, products
from .distances import distances


def _sets(x: Any, y: Any) -> list[jax.Array]:
    """One set of vectors, or two of one width and of the same leading dimensions."""
    data = {"x": x} if y is None else {"x": x, "y": y}
    arrays = {name: inputs.floating(name, value) for name, value in data.items()}
    check_sets(arrays, "expected x [..., N, D] and y [..., M, D]")
    dtype = inputs.computing_dtype(list(arrays.values()))
    return [whole_along(a.astype(dtype), (-2, -1)) for a in arrays.values()]


@jit("norm_degree")
def pairwise_distance(
    x: Embeddings, y: Embeddings | None = None, *, norm_degree: float = 2
) -> Float[Array, "*batch n m"]:
    """Distance between each vector of x and each of y.

        (sum_k |x_ik - y_jk|^norm_degree)^(1 / norm_degree)

    Exact for near vectors, unlike |x|^2 + |y|^2 - 2 <x, y>, and without an array of all pairs and
    all features. Between equal vectors the slope is 0, the choice of least norm.

    There is no mask: what is in a vector that is not to count must be replaced before.

    Args:
        x: Shape `[..., N, D]`.
        y: Shape `[..., M, D]`; x if not given.
        norm_degree: 2 for the Euclidean distance, 1 for the sum of the gaps, inf for the largest
            one: a Python number of at least 1.

    Returns:
        Shape `[..., N, M]`.

    Raises:
        ValueError: If the shapes do not fit or `norm_degree` is below 1.

    Reference:
        Deza and Deza, "Encyclopedia of distances", 2009, chapter 5.

    Example:
        >>> import jax.numpy as jnp
        >>> pairwise_distance(jnp.array([[0.0, 0.0], [3.0, 4.0]]))
        Array([[0., 5.],
               [5., 0.]], dtype=float32)
    """
    if not isinstance(norm_degree, Real) or not norm_degree >= 1:
        raise ValueError(f"norm_degree must be a number of at least 1, got {norm_degree!r}")
    return distances(*_sets(x, y), degree=float(norm_degree))


@jit()
def pairwise_similarity(x: Embeddings, y: Embeddings | None = None) -> Float[Array, "*batch n m"]:
    """Cosine of the angle between each vector of x and each of y.

        <x_i, y_j> / (|x_i| |y_j|)

    A vector of 0 has similarity 0 with every vector, and gradient 0.

    There is no mask: what is in a vector that is not to count must be replaced before.

    Args:
        x: Shape `[..., N, D]`.
        y: Shape `[..., M, D]`; x if not given.

    Returns:
        Shape `[..., N, M]`.

    Raises:
        ValueError: If the shapes do not fit.

    Reference:
        Salton and McGill, "Introduction to Modern Information Retrieval", 1983.

    Example:
        >>> import jax.numpy as jnp
        >>> pairwise_similarity(jnp.array([[1.0, 0.0], [3.0, 4.0]]), jnp.array([[0.0, 2.0]]))
        Array([[0. ],
               [0.8]], dtype=float32)
    """
    first, *rest = _sets(x, y)
    return products(directions(first), directions(rest[0])) if rest else cosines(first)
