"""Connectionist temporal classification: the likelihood of labels without an alignment."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from .._contract import inputs
from .._contract.jit import jit
from .._contract.reduce import Reduction, Request, Weights, Where
from . import alignment, scaled
from .alignment import Chain
from .batch import Examples, Labels, Paddings, transcribed

Logits = Float[ArrayLike, "*batch frames classes"] | Sequence[Any]


@dataclass(frozen=True, eq=False, kw_only=True)
class _Spoken(Examples):
    """The arguments of a call.

    Attributes:
        logits: 0 in padded frames; `[batch, frames, classes]`.
        chain: The labels and which frames count.
    """

    logits: jax.Array
    chain: Chain


def _examples(
    logits: Any,
    logit_paddings: Any,
    labels: Any,
    label_paddings: Any,
    blank_id: Any,
    log_epsilon: Any,
    request: Request,
) -> _Spoken:
    given = transcribed(
        logits,
        logit_paddings,
        labels,
        label_paddings,
        blank_id,
        ("log_epsilon", log_epsilon),
        request,
        "frames, classes",
    )
    x, dtype = given.logits, given.record["dtype"]
    codes = jnp.pad(given.labels, ((0, 0), (0, 1)))
    # Not concatenated: the blank, unlike the labels, may not be sharded.
    last = jnp.arange(codes.shape[1]) == codes.shape[1] - 1
    codes = jnp.where(last[None], given.blank[:, None], codes)
    epsilon = scaled.exp(jax.lax.stop_gradient(given.number[None]))
    found = _Spoken(
        **given.record,
        logits=jnp.where(given.frames[:, :, None], x.astype(dtype), 0),
        chain=Chain(codes, given.frames, epsilon),
    )
    return found.replace(known=found.known & (given.number <= 0).reshape(found.shape))


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
