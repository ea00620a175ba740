"""The transducer: the likelihood of labels of which a frame may have none, one or several."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Float

from .._contract import inputs
from .._contract.jit import jit
from .._contract.reduce import Reduction, Request, Weights, Where
from . import lattice
from .batch import Examples, Labels, Paddings, transcribed
from .lattice import Cells

Logits = Float[ArrayLike, "*batch frames labels_and_1 classes"] | Sequence[Any]


@jit()
def rnnt_loss(
    logits: Logits,
    logit_paddings: Paddings,
    labels: Labels,
    label_paddings: Paddings,
    *,
    blank_id: ArrayLike = 0,
    fastemit_lambda: ArrayLike = 0.0,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Recurrent neural network transducer: labels in order, each said in a frame of its choice.

        -log sum over paths of prod_k softmax(logits_k)[path_k]

    A path starts at frame 0 after 0 labels. It names the blank, and goes on to the next frame,
    or the next label, and stays in its frame; logits_k are those of the frame, and of the
    number of labels, that it has come to. It ends with the blank of the last frame, after all
    labels. Unlike in CTC labels may be more than frames. The logits are never normalised in
    memory: a gradient takes that of its result and little more.

    A logit of -inf rules a class out; where that leaves no path the loss is inf and its gradient
    0. NaN and inf make the loss NaN, but nothing is read of padded frames and after the last
    label.

    Args:
        logits: `[batch, frames, labels + 1, classes]`, the blank among the classes, or without
            the batch: of each frame after 0, 1, ... labels.
        logit_paddings: 1 or true for a padded frame, else 0; it is skipped wherever it stands.
        labels: `[batch, labels]`, integers. NaN results for one outside [0, classes) or equal to
            `blank_id`, but a padded label may be anything.
        label_paddings: 1 or true for a padded label, else 0. NaN results unless those that are
            padded come last.
        blank_id: The class of the blank.
        fastemit_lambda: FastEmit's weight, 0 or more. Labels pull 1 + `fastemit_lambda` times as
            hard in the gradient, so that they are said early; the loss itself does not change.
        where, weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per example, never negative. torchaudio's mean is that of these.

    Reference:
        Graves, "Sequence transduction with recurrent neural networks", 2012, sections 2.4 and
        2.5, https://arxiv.org/abs/1211.3711; FastEmit: Yu et al., "FastEmit: low-latency
        streaming ASR with sequence-level emission regularization", 2021,
        https://arxiv.org/abs/2010.11148.

    Example:
        >>> p = jnp.array([[[0.4, 0.6], [0.5, 0.5]], [[0.2, 0.8], [0.9, 0.1]]])
        >>> # 0.6 * 0.5 * 0.9: the label in the first frame; 0.4 * 0.8 * 0.9: in the second.
        >>> rnnt_loss(jnp.log(p), jnp.zeros(2), jnp.array([1]), jnp.zeros(1))
        Array(0.583396, dtype=float32)
    """
    request = Request(where, weights, reduction)
    given = transcribed(
        logits,
        logit_paddings,
        labels,
        label_paddings,
        blank_id,
        ("fastemit_lambda", fastemit_lambda),
        request,
        "frames, labels + 1, classes",
    )
    record = Examples(**given.record)
    # After the last label there is none: as a sum of -1 and 1, as labels may be sharded.
    codes = jnp.pad(given.labels + 1, ((0, 0), (0, 1))) - 1
    length = jnp.sum(codes >= 0, 1, dtype=codes.dtype)
    # Of an example outside the domain all cells count: its whole gradient is NaN.
    last = jnp.where(jnp.reshape(given.record["known"], length.shape), length, codes.shape[1])
    reached = jnp.arange(codes.shape[1], dtype=codes.dtype)[None] <= last[:, None]
    read = given.frames[:, :, None] & reached[:, None]
    said = lattice.steps(Cells(given.logits, read, codes, given.blank), record.dtype)

    frames = given.frames[:, :, None]
    blank = jnp.where(frames, said.blank, 0)
    label = jnp.where(frames, said.label, -jnp.inf)
    astray = jnp.where(read, said.astray, 0)
    haste = jax.lax.stop_gradient(given.number)
    losses = lattice.surprise(blank, label, astray, length, haste)
    losses = inputs.nan_outside(losses, jnp.all(said.known | ~read, (1, 2)))
    record = record.inside((given.number >= 0).reshape(record.shape))
    return record.reduced(record.without_batch(losses))
