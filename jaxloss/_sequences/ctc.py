"""Connectionist temporal classification: the likelihood of labels without an alignment."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Integer, Real

from .._contract import inputs
from .._contract.jit import jit
from .._contract.reduce import Losses, Reduction, Weights, Where, reduced
from . import alignment, scaled
from .alignment import Chain

Logits = Float[ArrayLike, "*batch frames classes"] | Sequence[Any]
Labels = Integer[ArrayLike, "*batch labels"] | Sequence[Any]
Paddings = Real[ArrayLike, "*batch length"] | Sequence[Any]


class _Inputs(NamedTuple):
    """A batch, ready for arithmetic.

    Attributes:
        logits: 0 in padded frames and excluded examples.
        chain: Without labels in an excluded example.
        domain: Whether labels, paddings and hyperparameters are what they may be; `[batch]`.
        single: Whether the user gave one example and no batch.
    """

    logits: jax.Array
    chain: Chain
    domain: jax.Array
    single: bool

    def finished(self, x: jax.Array, axis: int = 0) -> jax.Array:
        """Results inside the domain, without the axis of the batch if there was none."""
        others = [i for i in range(x.ndim) if i != axis]
        x = inputs.nan_outside(x, jnp.expand_dims(self.domain, others))
        return jnp.squeeze(x, axis) if self.single else x


def _prepared(
    logits: Any,
    logit_paddings: Any,
    labels: Any,
    label_paddings: Any,
    blank_id: Any,
    log_epsilon: Any,
    where: Where = None,
) -> _Inputs:
    x = inputs.floating("logits", logits)
    late = inputs.real("logit_paddings", logit_paddings)
    classes = inputs.real("labels", labels)
    spare = inputs.real("label_paddings", label_paddings)
    blank = inputs.real("blank_id", blank_id)
    for name, array in (("labels", classes), ("blank_id", blank)):
        got = inputs.described(**{name: array})
        inputs.check_type(array, int, custom_message=f"{name} must be integers, got {got}")
    got = inputs.described(logits=x, logit_paddings=late, labels=classes, label_paddings=spare)
    message = (
        "expected logits [batch, frames, classes], logit_paddings [batch, frames], labels and "
        f"label_paddings [batch, labels], or all of them without the batch; got {got}"
    )
    options: dict[str, Any] = {
        "exception_type": ValueError,
        "custom_message": message,
        "include_default_message": False,
    }
    chex.assert_rank(x, {2, 3}, **options)
    batch = x.shape[:-2]
    chex.assert_shape(late, x.shape[:-1], **options)
    chex.assert_shape(classes, (*batch, None), **options)
    chex.assert_shape(spare, classes.shape, **options)

    fields = {"blank_id": blank, "log_epsilon": log_epsilon}
    knobs = [inputs.field(name, value, batch, "the loss") for name, value in fields.items()]
    knobs.append(inputs.mask(True if where is None else where, batch, "the loss"))
    arrays = [x, late, classes, spare, *(jnp.broadcast_to(knob, batch) for knob in knobs)]
    if not batch:
        arrays = [array[None] for array in arrays]
    x, late, classes, spare, blank, log_epsilon, selected = arrays

    dtype = inputs.computing_dtype([x])
    x, late, spare, log_epsilon = (y.astype(dtype) for y in (x, late, spare, log_epsilon))
    classes, blank = _class_numbers(classes), _class_numbers(blank)[:, None]
    frames = (late != 1) | ~selected[:, None]
    there = (spare != 1) & selected[:, None]
    right = (classes >= 0) & (classes < x.shape[-1]) & (classes != blank)
    domain = jnp.all(((late == 0) | (late == 1)), 1)
    domain &= jnp.all(((spare == 0) | (spare == 1)), 1) & jnp.all(spare[:, :-1] <= spare[:, 1:], 1)
    domain &= jnp.all(right | ~there, 1)
    domain &= (blank[:, 0] >= 0) & (blank[:, 0] < x.shape[-1]) & (log_epsilon <= 0)
    codes = jnp.pad(jnp.where(right & there, classes, -1), ((0, 0), (0, 1)))
    # Not concatenated: the blank, unlike the labels, may not be sharded.
    last = jnp.arange(codes.shape[1]) == classes.shape[1]
    codes = jnp.where(last[None], blank, codes)
    log_epsilon = jax.lax.stop_gradient(log_epsilon)
    return _Inputs(
        jnp.where((frames & selected[:, None])[:, :, None], x, 0),
        Chain(codes, frames, scaled.exp(log_epsilon[None])),
        domain | ~selected,
        not batch,
    )


def _class_numbers(x: jax.Array) -> jax.Array:
    """As int32, -2 where that cannot hold them."""
    number = x.astype(jnp.int32)
    return jnp.where((number >= 0) & (number.astype(x.dtype) == x), number, -2)


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
) -> Losses:
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
    given = _prepared(logits, logit_paddings, labels, label_paddings, blank_id, log_epsilon, where)
    losses = given.finished(alignment.surprise(given.logits, given.chain))
    if zero_infinity:
        losses = jnp.where(losses == jnp.inf, 0, losses)
    return reduced(losses, where, weights, reduction)


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
    given = _prepared(logits, logit_paddings, labels, label_paddings, blank_id, log_epsilon)
    reading = alignment.read(given.logits, given.chain.codes)
    begun = alignment.begin(reading.log_shares, given.chain)
    final = jnp.arange(len(begun.states[0].m)) == len(begun.states[0].m) - 1
    blanks = jnp.where(
        final[:, None, None], scaled.log(begun.closed)[None], scaled.log(begun.states[0])
    )

    def finished(logs: jax.Array) -> jax.Array:
        known = inputs.nan_outside(logs.swapaxes(1, 2), reading.known[None, :, None])
        return given.finished(known, axis=1)

    losses = given.finished(alignment.surprise(given.logits, given.chain))
    return losses, finished(blanks), finished(scaled.log(begun.states[1]))
