"""What belongs together in two views, besides example i of one and example i of the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Real

from .._contract import inputs
from .._contract.prepared import Hyper, non_negative, positive
from .._numerics.cross_entropy import cross_entropy
from .._numerics.devices import AxisName
from .._numerics.sharding import whole_along
from .batch import Batch, diagonal, number
from .references import identities

Targets = Real[ArrayLike, "*batch examples examples"] | None


class Belonging(NamedTuple):
    """Several partners of each example.

    Attributes:
        labels: Integers, equal ones of what belongs together; None for targets.
        share: How far each pair belongs together, `[..., examples, examples]`; 0 of what is not
            there.
        there: Which pairs are there.
        inside: Which shares are in their domain.
    """

    labels: jax.Array | None
    share: jax.Array
    there: jax.Array
    inside: jax.Array

    def surprisal(self, scores: jax.Array, *extra: jax.Array, axis: int = -1) -> jax.Array:
        """The cross-entropy of the shares, as parts of their sum, with softmax(scores).

        Args:
            scores: Of all pairs.
            *extra: Scores of each example with further negatives.
            axis: That of the partners, -1 or -2.
        """
        whole = jnp.sum(self.share, axis, keepdims=True)
        part = jnp.where(whole > 0, self.share / jnp.where(whole > 0, whole, 1), 0)
        scores = jnp.where(self.there, scores, -jnp.inf)
        for more in extra:
            scores = jnp.concatenate([scores, more], axis)
            part = jnp.concatenate([part, jnp.zeros_like(more)], axis)
        return cross_entropy(scores, part, (scores.ndim + axis,))

    def known(self, axis: int = -1) -> jax.Array:
        """Whether all shares of an example are in their domain."""
        return jnp.all(self.inside, axis)

    def some(self, axis: int = -1) -> jax.Array:
        """Which examples have a partner."""
        return number(self.share > 0, self.share.dtype, axis) > 0


def belonging(
    pairs: Batch, name: str, labels: Any, targets: Any, axis_name: AxisName, most: float = jnp.inf
) -> Belonging | None:
    """Several partners of each example, if the user gave some.

    Args:
        pairs: The examples.
        name: That of the first view.
        labels: Integers.
        targets: A number for each pair.
        axis_name: Over whose devices the batch is spread.
        most: What a target may be at most.
    """
    if labels is None and targets is None:
        return None
    if labels is not None and targets is not None:
        raise ValueError("labels and targets both say what belongs together: give one of them")
    first = pairs.data[0]
    there = diagonal(first) | pairs.negative
    if labels is not None:
        numbers = identities(name, first, labels)
        same = numbers[..., :, None] == numbers[..., None, :]
        return Belonging(numbers, (there & same).astype(pairs.dtype), there, there)
    if axis_name is not None:
        raise ValueError("targets are of all pairs of a batch: with axis_name labels say them")
    array = inputs.real("targets", targets)
    shape = (*first.shape[:-1], first.shape[-2])
    got = inputs.described(**{name: first, "targets": array})
    message = f"targets must be of shape {list(shape)}, a number for each pair, got {got}"
    inputs.check_shape(array, shape, message)
    share = whole_along(array.astype(pairs.dtype), (-2, -1))
    inside = ~there | ((share >= 0) & (share <= most))
    return Belonging(None, jnp.where(there, share, 0), there, inside)


class Scale(NamedTuple):
    """What cosines are multiplied by.

    Attributes:
        value: A number for each example.
        divides: Whether it is a temperature, which they are divided by.
    """

    value: jax.Array
    divides: bool

    def factor(self) -> jax.Array:
        return 1 / self.value if self.divides else self.value

    def of(self, cosines: jax.Array, axis: int | None = None) -> jax.Array:
        """Scores of examples, or of all pairs whose partners are along an axis."""
        value = self.value if axis is None else jnp.expand_dims(self.value, axis)
        return cosines / value if self.divides else value * cosines


def scaling(temperature: Any, logit_scale: Any, otherwise: Mapping[str, float]) -> dict[str, Hyper]:
    """The one of the two that is given, or what stands for none."""
    given = {"temperature": temperature, "logit_scale": logit_scale}
    given = {name: value for name, value in given.items() if value is not None}
    if len(given) > 1:
        raise ValueError("temperature is 1 / logit_scale: give one of them")
    domains = {"temperature": positive, "logit_scale": non_negative}
    return {name: Hyper(value, domains[name]) for name, value in (given or otherwise).items()}
