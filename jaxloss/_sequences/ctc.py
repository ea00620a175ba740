"""Connectionist temporal classification: the likelihood of labels without an alignment."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Integer, Real

from .._contract import inputs
from .._contract.jit import jit
from .._contract.prepared import Prepared
from .._contract.reduce import Reduction, Request, Weights, Where
from .._numerics.sharding import sharded_like
from . import alignment, scaled
from .alignment import Chain

Logits = Float[ArrayLike, "*batch frames classes"] | Sequence[Any]
Labels = Integer[ArrayLike, "*batch labels"] | Sequence[Any]
Paddings = Real[ArrayLike, "*batch length"] | Sequence[Any]


@dataclass(frozen=True, eq=False, kw_only=True)
class _Examples(Prepared):
    """The arguments of a call, with an axis of the batch also where the user gave one example.

    Attributes:
        known: Where labels, paddings and hyperparameters are in the domain.
        logits: 0 in padded frames; `[batch, frames, classes]`.
        chain: The labels and which frames count.
    """

    known: Any = None
    logits: jax.Array
    chain: Chain

    def without_batch(self, x: jax.Array, axis: int = 0) -> jax.Array:
        """A result without its axis of the batch if the user gave one example."""
        return x if self.shape else jnp.squeeze(x, axis)


def _checked(
    logits: Any, logit_paddings: Any, labels: Any, label_paddings: Any
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """The data as arrays of the right kinds, whose shapes agree."""
    x = inputs.floating("logits", logits)
    late = inputs.real("logit_paddings", logit_paddings)
    classes = _integers("labels", labels)
    spare = inputs.real("label_paddings", label_paddings)
    got = inputs.described(logits=x, logit_paddings=late, labels=classes, label_paddings=spare)
    message = (
        "expected logits [batch, frames, classes], logit_paddings [batch, frames], labels and "
        f"label_paddings [batch, labels], or all of them without the batch; got {got}"
    )
    if x.ndim not in (2, 3) or classes.ndim != x.ndim - 1:
        raise ValueError(message)
    inputs.check_shape(late, x.shape[:-1], message)
    for array in (classes, spare):
        inputs.check_shape(array, (*x.shape[:-2], classes.shape[-1]), message)
    return x, late, classes, spare


def _integers(name: str, value: Any) -> jax.Array:
    array = inputs.real(name, value, numbers=True)
    got = inputs.described(**{name: array})
    inputs.check_integers(array, f"{name} must be integers, got {got}")
    return array


def _examples(
    logits: Any,
    logit_paddings: Any,
    labels: Any,
    label_paddings: Any,
    blank_id: Any,
    log_epsilon: Any,
    request: Request,
) -> _Examples:
    x, late, numbers, spare = _checked(logits, logit_paddings, labels, label_paddings)
    batch, dtype = x.shape[:-2], inputs.computing_dtype([x])
    where = True if request.where is None else request.where
    fields = [
        inputs.field("blank_id", _integers("blank_id", blank_id), batch, "the loss"),
        inputs.field("log_epsilon", log_epsilon, batch, "the loss").astype(dtype),
        inputs.mask(where, batch, "the loss", x, (-2, -1)),
    ]
    fields = [sharded_like(jnp.broadcast_to(field, batch), x, (-2, -1)) for field in fields]
    arrays = [x, late, numbers, spare, *fields]
    if not batch:
        arrays = [array[None] for array in arrays]
    x, late, numbers, spare, blank, log_epsilon, selected = arrays

    # An excluded example reads as one of which all is padding.
    late, spare = (jnp.where(selected[:, None], y.astype(dtype), 1) for y in (late, spare))
    blank, log_epsilon = (jnp.where(selected, field, 0) for field in (blank, log_epsilon))
    codes, known = _codes(numbers, spare, blank, x.shape[-1])
    known &= jnp.all((late == 0) | (late == 1), 1) & jnp.all((spare == 0) | (spare == 1), 1)
    known &= jnp.all(spare[:, :-1] <= spare[:, 1:], 1) & (log_epsilon <= 0)
    frames = late != 1
    return _Examples(
        request=request,
        shape=batch,
        dtype=dtype,
        where=None if request.where is None else selected.reshape(batch),
        known=known.reshape(batch),
        logits=jnp.where(frames[:, :, None], x.astype(dtype), 0),
        chain=Chain(codes, frames, scaled.exp(jax.lax.stop_gradient(log_epsilon[None]))),
    )


def _codes(
    numbers: jax.Array, spare: jax.Array, blank: jax.Array, classes: int
) -> tuple[jax.Array, jax.Array]:
    """The codes of the chain, and whether the labels and the blank are in the domain; `[batch]`."""
    blank, blank_known = inputs.class_index(blank[:, None], classes)
    numbers, known = inputs.class_index(numbers, classes)
    known &= numbers != blank
    codes = jnp.pad(jnp.where(known & (spare != 1), numbers, -1), ((0, 0), (0, 1)))
    # Not concatenated: the blank, unlike the labels, may not be sharded.
    last = jnp.arange(codes.shape[1]) == numbers.shape[1]
    codes = jnp.where(last[None], blank, codes)
    return codes, jnp.all(known | (spare == 1), 1) & blank_known[:, 0]


@jit("zero_infinity")
def ctc_loss(
    logits: Logits,
    logit_paddings: Paddings,
    labels: Labels,
    label_paddings: Paddings,
    *,
    blank_id: ArrayLike = 0,
    log_epsilon: ArrayLike = -math.inf,
    zero_infinity: bool = False,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Connectionist temporal classification: labels in order, at unknown times.

        -log sum over paths of prod_t softmax(logits_t)[path_t]

    A path names one class for each frame; it counts if the labels are what is left of it when
    repetitions are merged and then blanks dropped. Labels that need more frames than there are
    have loss inf and gradient 0. A logit of -inf rules a class out; NaN and inf make the loss
    NaN, but in padded frames nothing is read.

    Args:
        logits: `[batch, frames, classes]`, the blank among the classes, or without the batch.
        logit_paddings: 1 or true for a padded frame, else 0; it is skipped wherever it stands.
        labels: `[batch, labels]`, integers. NaN results for one outside [0, classes) or equal to
            `blank_id`, but a padded label may be anything.
        label_paddings: 1 or true for a padded label, else 0. NaN results unless those that are
            padded come last.
        blank_id: The class of the blank.
        log_epsilon: The log-probability of what is impossible, 0 or less: to start in the middle
            of the labels, or to repeat a label without a blank between. A finite value, such as
            optax's -1e5, makes the loss of labels that do not fit about as large instead of inf.
        zero_infinity: Whether a loss of inf becomes 0, as for data with labels that do not fit.
        where, weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per example, never negative. PyTorch's mean divides each loss by its number of
        labels first.

    Reference:
        Graves et al., "Connectionist temporal classification: labelling unsegmented sequence data
        with recurrent neural networks", 2006, eq. 6 to 16,
        https://doi.org/10.1145/1143844.1143891.

    Example:
        >>> logits = jnp.log(jnp.array([[0.5, 0.5], [0.2, 0.8], [0.9, 0.1]]))
        >>> ctc_loss(logits, jnp.zeros(3), jnp.array([1]), jnp.zeros(1))  # -log(1 - 0.09 - 0.01)
        Array(0.10536, dtype=float32)
    """
    request = Request(where, weights, reduction)
    given = _examples(
        logits, logit_paddings, labels, label_paddings, blank_id, log_epsilon, request
    )
    losses = given.without_batch(alignment.surprise(given.logits, given.chain))
    if zero_infinity:
        # Not outside the domain, where the derivative of a constant would be 0 instead of NaN.
        losses = jnp.where((losses == jnp.inf) & given.known, 0, losses)
    return given.reduced(losses)


@jit()
def ctc_loss_with_forward_probs(
    logits: Logits,
    logit_paddings: Paddings,
    labels: Labels,
    label_paddings: Paddings,
    *,
    blank_id: ArrayLike = 0,
    log_epsilon: ArrayLike = -math.inf,
) -> tuple[
    Float[Array, "*batch"],
    Float[Array, "frames *batch blanks"],
    Float[Array, "frames *batch labels"],
]:
    """`ctc_loss`, and how probable each of its states is at each frame.

    Args:
        logits: See `ctc_loss`, also for what follows.
        logit_paddings: 1 for a padded frame.
        labels: Integers.
        label_paddings: 1 for a padded label.
        blank_id: The class of the blank.
        log_epsilon: The log-probability of what is impossible.

    Returns:
        One loss per example; the log-probability of the beginnings of paths, up to each frame,
        that have come to blank n, `[frames, batch, labels + 1]`; and of those that have come to
        label n, `[frames, batch, labels]`. At the last frame a blank stands for the label before
        it as well. A padded frame repeats the one before it.

    Reference:
        Graves et al., "Connectionist temporal classification: labelling unsegmented sequence data
        with recurrent neural networks", 2006, eq. 5 to 8,
        https://doi.org/10.1145/1143844.1143891.

    Example:
        >>> logits = jnp.log(jnp.array([[0.5, 0.5], [0.2, 0.8]]))
        >>> inputs = logits, jnp.zeros(2), jnp.array([1]), jnp.zeros(1)
        >>> loss, blanks, labels = ctc_loss_with_forward_probs(*inputs)
        >>> jnp.exp(blanks)  # 0.9: one of the labels, with or without a blank after it
        Array([[0.5       , 0.        ],
               [0.1, 0.9       ]], dtype=float32)
        >>> jnp.exp(labels)
        Array([[0.5],
               [0.8]], dtype=float32)
    """
    given = _examples(
        logits, logit_paddings, labels, label_paddings, blank_id, log_epsilon, Request()
    )
    reading = alignment.read(given.logits, given.chain.codes)
    paths = alignment.begun(reading.log_shares, given.chain)
    blanks, labelled = map(scaled.log, paths.states)
    final = jnp.arange(len(blanks)) == len(blanks) - 1
    blanks = jnp.where(final[:, None, None], scaled.log(paths.closed)[None], blanks)

    known = given.known & reading.known

    def finished(logs: jax.Array) -> jax.Array:
        logs = inputs.nan_outside(logs, known[None, None])
        return given.without_batch(logs.swapaxes(1, 2), axis=1)

    losses = given.without_batch(alignment.surprise(given.logits, given.chain))
    return given.reduced(losses), finished(blanks), finished(labelled)
