"""Scores and the number of the right class: how the data of losses of ordered classes are prepared.

K classes, numbered from 0 in their order, have K - 1 thresholds between them: level k says whether
the class is above the k-th.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from .._contract import inputs
from .._contract.inputs import Axis
from .._contract.jit import jit
from .._contract.prepared import Vectors, vectors
from .._contract.reduce import Request
from .._numerics.sharding import sharded_like

Levels = Float[ArrayLike, "*batch levels"] | Sequence[Any]
ClassNumbers = Int[ArrayLike, "*batch"] | Sequence[Any]


@dataclass(frozen=True, eq=False, kw_only=True)
class Ordered(Vectors):
    """Scores and class numbers, ready for arithmetic.

    Attributes:
        place: The number of each score, along its axis.
        label: The class number, 0 if it is none, with the axis of the scores kept.
    """

    place: jax.Array
    label: jax.Array

    @property
    def scores(self) -> jax.Array:
        """The scores, NaN outside the domain: all slopes are, not only those of a few levels."""
        (scores,), known = self.data, self.known
        if known is None:
            return scores
        return inputs.nan_outside(scores, jnp.expand_dims(known, self.axes))


def ordered(
    scores: Any, labels: Any, axis: Axis, request: Request, *, name: str = "logits", more: int = 1
) -> Ordered:
    """Scores and class numbers, ready for arithmetic; a mask excludes whole examples.

    Args:
        scores, labels, axis: As the user gave them.
        request: The user's mask, weights and reduction.
        name: That of the scores.
        more: How many more classes there are than scores.
    """
    array = inputs.leading({name: scores, "labels": labels})
    numbers = inputs.real("labels", labels, numbers=True)
    axes = inputs.consumed(axis, name, array)
    got = inputs.described(**{name: array, "labels": numbers})
    if len(axes) != 1:
        raise ValueError(f"axis must be one axis, that of the classes, got {axis!r}")
    if array.shape[axes[0]] + more < 2:
        raise ValueError(f"there must be two classes or more, got {got}")
    shape = inputs.outer(array.shape, axes)
    hint = inputs.spare_axis("labels", numbers.shape, shape)
    inputs.check_shape(
        numbers, shape, f"labels must be class numbers of shape {list(shape)}, got {got}{hint}"
    )
    inputs.check_integers(numbers, f"labels must be integers, the numbers of classes, got {got}")
    if request.where is not None and np.ndim(request.where) == array.ndim:
        raise ValueError(
            f"where must exclude examples, of shape {list(shape)}, not scores of them, "
            f"got {inputs.described(where=inputs.real('where', request.where))}"
        )
    given = vectors({name: scores}, axes, request)
    count = array.shape[axes[0]] + more
    label, known = inputs.class_index(sharded_like(numbers, array, axes), count)
    if given.where is not None:
        known = known | ~given.where
    place = jax.lax.broadcasted_iota(jnp.int32, array.shape, axes[0])
    return Ordered(
        request=request,
        shape=given.shape,
        dtype=given.dtype,
        where=given.where,
        known=known,
        data=given.data,
        axes=axes,
        entries=given.entries,
        place=sharded_like(place, array),
        label=jnp.expand_dims(label, axes),
    )


@jit("num_classes")
def ordinal_levels(labels: ClassNumbers, num_classes: int) -> Float[Array, "*batch levels"]:
    """Class numbers as the levels that they have reached.

        levels_k = [y > k]   for k = 0, ..., K - 2

    The class is the number of levels reached: of predicted logits of levels,
    `jnp.sum(logits > 0, -1)`.

    Args:
        labels: y, integers of any shape. NaN outside [0, K).
        num_classes: K, two or more.

    Returns:
        K - 1 levels for each label, 0.0 or 1.0, on a new last axis.

    Raises:
        ValueError: If there are less than two classes.
        TypeError: If labels are no integers, or the number of classes is none.

    Reference:
        Frank and Hall, "A simple approach to ordinal classification", 2001,
        https://doi.org/10.1007/3-540-44795-4_13.

    Example:
        >>> ordinal_levels(jnp.array([0, 2, 3]), 4)
        Array([[0., 0., 0.],
               [1., 1., 0.],
               [1., 1., 1.]], dtype=float32)
    """
    if isinstance(num_classes, bool) or not isinstance(num_classes, int | np.integer):
        raise TypeError(f"num_classes must be an integer, got {inputs.shown(num_classes)}")
    if num_classes < 2:
        raise ValueError(f"num_classes must be two or more, got {num_classes}")
    numbers = inputs.real("labels", labels, numbers=True)
    inputs.check_integers(
        numbers, f"labels must be integers, got {inputs.described(labels=numbers)}"
    )
    label, known = inputs.class_index(numbers, num_classes)
    shape = (*label.shape, num_classes - 1)
    levels = label[..., None] > jax.lax.broadcasted_iota(jnp.int32, shape, label.ndim)
    return jnp.where(known[..., None], levels.astype(jnp.float32), jnp.nan)
