"""Scores, distances and vectors in pairs or triplets: how the data of embeddings are prepared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Float, Real

from .._contract import inputs
from .._contract.inputs import Axis
from .._contract.prepared import Hyper, Vectors, vectors
from .._contract.reduce import Request
from .._numerics.order import positions

Numbers = Float[ArrayLike, "*batch"] | Sequence[Any]
Labels = Real[ArrayLike, "*batch"] | Sequence[Any]
Embeddings = Float[ArrayLike, "*batch dim"] | Sequence[Any]


def two_vectors(
    predictions: Embeddings, targets: Embeddings, axis: Axis, request: Request, epsilon: ArrayLike
) -> Vectors:
    """Predictions, targets, and epsilon: a number of 0 or more."""
    given = vectors({"predictions": predictions, "targets": targets}, axis, request)
    epsilon = inputs.number("epsilon", epsilon).astype(given.dtype)
    return given.replace(hyper=(epsilon,)).inside(epsilon >= 0)


@dataclass(frozen=True, eq=False, kw_only=True)
class LabelledPairs(Vectors):
    """Two vectors, and what the label says of each pair.

    Attributes:
        labels: In the shape of the losses; 1 where that is excluded.
    """

    labels: jax.Array

    @property
    def arrays(self) -> tuple[jax.Array, ...]:
        """Both vectors, labels and hyperparameters, in order."""
        return (*self.data, self.labels, *self.hyper)


def labelled_pairs(
    x1: Embeddings, x2: Embeddings, y: Labels, axis: Axis, request: Request, **hyper: Hyper
) -> LabelledPairs:
    """Two vectors with a label for each pair of them, or a scalar for all."""
    labels = inputs.real("y", y)
    got = {"x1": inputs.floating("x1", x1), "x2": inputs.real("x2", x2)}
    given = vectors(got, axis, request)
    labels = given.of_each("y", labels, got, "a label for each pair of vectors")
    labels = labels.astype(given.dtype)
    return LabelledPairs(**vars(given), labels=labels).with_hyper(hyper, given.data[0], given.axes)


def triplets(
    anchors: Embeddings,
    positives: Embeddings,
    negatives: Embeddings,
    axis: Axis,
    request: Request,
    **hyper: Hyper,
) -> Vectors:
    """Anchors, positives and negatives."""
    return vectors(_named(anchors, positives, negatives), axis, request, hyper=hyper, scalar=False)


def distinct_triplets(
    anchors: Embeddings,
    positives: Embeddings,
    negatives: Embeddings,
    request: Request,
    **hyper: Hyper,
) -> Vectors:
    """The same along the last axis, for a distance whose derivatives nothing is known of.

    They may be infinite between equal vectors, or parallel ones: excluded triplets read 1, 2, 3,
    1, ... from a different one of these numbers on, instead of three vectors of ones. A mask is of
    triplets, as such a distance knows nothing of excluded entries.
    """
    given = vectors(_named(anchors, positives, negatives), -1, Request(), scalar=False)
    given, first = given.replace(request=request), given.data[0]
    if request.where is not None:
        selected = inputs.mask(request.where, given.shape, "the loss", first, (-1,))
        data = tuple(
            jnp.where(selected[..., None], x, (1 + (positions(x) + i) % 3).astype(given.dtype))
            for i, x in enumerate(given.data)
        )
        given = given.replace(where=selected, data=data)
    return given.with_hyper(hyper, first, (-1,))


def _named(anchors: Any, positives: Any, negatives: Any) -> dict[str, Any]:
    return {"anchors": anchors, "positives": positives, "negatives": negatives}
