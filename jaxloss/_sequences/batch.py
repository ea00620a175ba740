"""The door of losses whose labels have no times: logits, labels, and the paddings of both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Integer, Real

from .._contract import inputs
from .._contract.prepared import Prepared
from .._contract.reduce import Request
from .._numerics.sharding import sharded_like

Labels = Integer[ArrayLike, "*batch labels"] | Sequence[Any]
Paddings = Real[ArrayLike, "*batch length"] | Sequence[Any]


@dataclass(frozen=True, eq=False, kw_only=True)
class Examples(Prepared):
    """A record whose arrays have an axis of the batch also where the user gave one example.

    Attributes:
        known: Where labels, paddings and hyperparameters are in the domain.
    """

    known: Any = None

    def without_batch(self, x: jax.Array, axis: int = 0) -> jax.Array:
        """A result without its axis of the batch if the user gave one example."""
        return x if self.shape else jnp.squeeze(x, axis)


class Transcribed(NamedTuple):
    """Logits and what they should say, with an axis of the batch.

    An example that `where` excludes reads as one of which all is padding.

    Attributes:
        record: The arguments that an `Examples` has.
        logits: As they are given; `[batch, frames, ..., classes]`.
        frames: Whether a frame is not padded; `[batch, frames]`.
        labels: The class of each label, -1 where it is padded; `[batch, labels]`.
        blank: The class of the blank; `[batch]`.
        number: The hyperparameter; `[batch]`.
    """

    record: dict[str, Any]
    logits: jax.Array
    frames: jax.Array
    labels: jax.Array
    blank: jax.Array
    number: jax.Array


def integers(name: str, value: Any) -> jax.Array:
    array = inputs.real(name, value, numbers=True)
    got = inputs.described(**{name: array})
    inputs.check_integers(array, f"{name} must be integers, got {got}")
    return array


def _checked(
    logits: Any, logit_paddings: Any, labels: Any, label_paddings: Any, inner: str
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """The data as arrays of the right kinds, whose shapes agree."""
    x = inputs.floating("logits", logits)
    late = inputs.real("logit_paddings", logit_paddings)
    classes = integers("labels", labels)
    spare = inputs.real("label_paddings", label_paddings)
    got = inputs.described(logits=x, logit_paddings=late, labels=classes, label_paddings=spare)
    message = (
        f"expected logits [batch, {inner}], logit_paddings [batch, frames], labels and "
        f"label_paddings [batch, labels], or all of them without the batch; got {got}"
    )
    own = inner.count(",") + 1
    if x.ndim not in (own, own + 1) or classes.ndim != x.ndim - own + 1:
        raise ValueError(message)
    batch = x.shape[: x.ndim - own]
    inputs.check_shape(late, (*batch, x.shape[-own]), message)
    for array in (classes, spare):
        inputs.check_shape(array, (*batch, classes.shape[-1]), message)
    if own == 3 and x.shape[-2] != classes.shape[-1] + 1:
        raise ValueError(message)
    return x, late, classes, spare


def transcribed(
    logits: Any,
    logit_paddings: Any,
    labels: Any,
    label_paddings: Any,
    blank_id: Any,
    number: tuple[str, Any],
    request: Request,
    inner: str,
) -> Transcribed:
    """The data of a call.

    Args:
        logits: See `Transcribed`.
        logit_paddings: 1 for a padded frame.
        labels: Integers.
        label_paddings: 1 for a padded label.
        blank_id: The class of the blank.
        number: The name of a hyperparameter, and the number for all or for each example.
        request: The user's mask, weights and reduction.
        inner: The names of the axes of the logits but the batch, such as "frames, classes".
    """
    x, late, numbers, spare = _checked(logits, logit_paddings, labels, label_paddings, inner)
    own = tuple(range(-inner.count(",") - 1, 0))
    batch, dtype = x.shape[: own[0]], inputs.computing_dtype([x])
    where = True if request.where is None else request.where
    name, value = number
    fields = [
        inputs.field("blank_id", integers("blank_id", blank_id), batch, "the loss"),
        inputs.field(name, value, batch, "the loss").astype(dtype),
        inputs.mask(where, batch, "the loss", x, own),
    ]
    fields = [sharded_like(jnp.broadcast_to(field, batch), x, own) for field in fields]
    arrays = [x, late, numbers, spare, *fields]
    if not batch:
        arrays = [array[None] for array in arrays]
    x, late, numbers, spare, blank, knob, selected = arrays

    late, spare = (jnp.where(selected[:, None], y.astype(dtype), 1) for y in (late, spare))
    blank, knob = (jnp.where(selected, field, 0) for field in (blank, knob))
    blank, blank_known = inputs.class_index(blank[:, None], x.shape[-1])
    numbers, inside = inputs.class_index(numbers, x.shape[-1])
    inside &= numbers != blank
    known = jnp.all(inside | (spare == 1), 1) & blank_known[:, 0]
    known &= jnp.all((late == 0) | (late == 1), 1) & jnp.all((spare == 0) | (spare == 1), 1)
    known &= jnp.all(spare[:, :-1] <= spare[:, 1:], 1)
    record: dict[str, Any] = {
        "request": request,
        "shape": batch,
        "dtype": dtype,
        "where": None if request.where is None else selected.reshape(batch),
        "known": known.reshape(batch),
    }
    codes = jnp.where(inside & (spare != 1), numbers, -1)
    return Transcribed(record, x, late != 1, codes, blank[:, 0], knob)
