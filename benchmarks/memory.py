"""Temporary bytes of losses of pairs and of lattices, beside the form that is usually written.

Value and gradient are compiled for a CPU and not run: bytes of a program need no quiet machine.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from _common import Parser, goal, publish, table
from tqdm import tqdm

import jaxloss

RESULTS = Path(os.path.relpath(Path(__file__).with_name("RESULTS.md")))
PART = "memory"
MEBIBYTE = 2**20


class Row(NamedTuple):
    """A loss and the usual form of it.

    Attributes:
        loss: Its name here.
        told: The usual form.
        arguments: Shapes and dtypes of the arguments; the first are differentiated.
        differentiated: How many are.
        ours, theirs: Of the arguments, a number.
    """

    loss: str
    told: str
    arguments: Sequence[tuple[tuple[int, ...], Any]]
    ours: Callable[..., Any]
    theirs: Callable[..., Any]
    differentiated: int = 1


REAL, WHOLE, YES = jnp.float32, jnp.int32, jnp.bool_


def pairs_of_members(x: Any, y: Any) -> Any:
    """The fair CRPS of ensembles along the last axis."""
    size = x.shape[-1]
    apart = jnp.sum(jnp.abs(x[..., :, None] - x[..., None, :]), (-1, -2))
    return jnp.mean(jnp.mean(jnp.abs(x - y[..., None]), -1) - apart / (2 * size * (size - 1)))


def pairs_of_vectors(x: Any, y: Any) -> Any:
    """The fair energy score of ensembles `[..., members, features]`."""
    size = x.shape[-2]

    def norm(e: Any) -> Any:
        return jnp.sqrt(jnp.sum(e * e, -1) + 1e-12)

    apart = jnp.sum(norm(x[..., :, None, :] - x[..., None, :, :]), (-1, -2))
    return jnp.mean(jnp.mean(norm(x - y[..., None, :]), -1) - apart / (2 * size * (size - 1)))


def normalised_transducer(logits: Any, _: Any, labels: Any, __: Any) -> Any:
    """The logarithms of the softmax, then a scan over the frames in the log domain."""
    log_probs = jax.nn.log_softmax(logits)
    blank = log_probs[..., 0]
    index = jnp.broadcast_to(labels[:, None, :, None], (*logits.shape[:2], labels.shape[1], 1))
    emit = jnp.take_along_axis(log_probs[:, :, :-1], index, -1)[..., 0]

    def along(start: Any, emit: Any) -> Any:
        """The states of a frame, from those that the frame before handed over."""

        def step(before: Any, x: Any) -> Any:
            handed, said = x
            now = jnp.logaddexp(handed, before + said)
            return now, now

        first = start[:, 0]
        _, rest = jax.lax.scan(step, first, (start[:, 1:].T, emit.T))
        return jnp.concatenate([first[:, None], rest.T], 1)

    width = labels.shape[1] + 1
    begin = jnp.where(jnp.arange(width)[None] == 0, 0.0, -1e30) + jnp.zeros((len(logits), 1))

    def frame(states: Any, x: Any) -> Any:
        blank, emit = x
        return along(states, emit) + blank, None

    over = (jnp.moveaxis(blank, 1, 0), jnp.moveaxis(emit, 1, 0))
    states, _ = jax.lax.scan(frame, begin, over)
    return -jnp.mean(states[:, -1])


def scanned_chain(emissions: Any, labels: Any, transitions: Any) -> Any:
    """A scan of logsumexp over `[batch, states, states]`."""

    def step(states: Any, scores: Any) -> Any:
        joint = states[:, :, None] + transitions[None] + scores[:, None, :]
        return jax.nn.logsumexp(joint, 1), None

    states, _ = jax.lax.scan(step, emissions[:, 0], jnp.moveaxis(emissions[:, 1:], 1, 0))
    own = jnp.sum(jnp.take_along_axis(emissions, labels[..., None], -1)[..., 0], -1)
    own += jnp.sum(transitions[labels[:, :-1], labels[:, 1:]], -1)
    return jnp.mean(jax.nn.logsumexp(states, -1) - own)


def scanned_warping(x: Any, y: Any) -> Any:
    """All squared distances, then a scan over the rows and, in each, over the columns."""
    costs = jnp.sum(jnp.square(x[:, :, None] - y[:, None]), -1)

    def row(before: Any, cost: Any) -> Any:
        diagonal = jnp.concatenate([jnp.full_like(before[:, :1], 1e30), before[:, :-1]], 1)

        def step(left: Any, x: Any) -> Any:
            cost, above, corner = x
            near = jnp.stack([left, above, corner])
            now = cost - jax.nn.logsumexp(-near, 0)
            return now, now

        start = jnp.full_like(before[:, 0], 1e30)
        _, now = jax.lax.scan(step, start, (cost.T, before.T, diagonal.T))
        return now.T, None

    first = jnp.cumsum(costs[:, 0], -1)
    last, _ = jax.lax.scan(row, first, jnp.moveaxis(costs[:, 1:], 1, 0))
    return jnp.mean(last[:, -1])


def risk_sets(log_hazards: Any, times: Any, events: Any) -> Any:
    """The risk set of each example as a row of a matrix."""
    there = times[None, :] >= times[:, None]
    risks = jax.nn.logsumexp(jnp.where(there, log_hazards[None, :], -jnp.inf), 1)
    return jnp.sum(jnp.where(events, risks - log_hazards, 0)) / jnp.sum(events)


def all_comparisons(logits: Any, durations: Any, events: Any) -> Any:
    """The probability of each example at the time of each other one."""
    reached = jnp.cumsum(jax.nn.softmax(logits), -1)
    met = jnp.take_along_axis(
        jnp.broadcast_to(reached[None], (len(logits), *logits.shape)),
        jnp.broadcast_to(durations[:, None, None], (len(logits), len(logits), 1)),
        -1,
    )[..., 0]
    own = jnp.diagonal(met)
    pair = events[:, None] & (durations[:, None] < durations[None, :])
    costs = jnp.where(pair, jnp.exp((met - own[:, None]) / 0.1), 0)
    return jnp.sum(costs) / jnp.sum(pair)


def all_margins(scores: Any, labels: Any) -> Any:
    lack = 1 - (scores[:, :, None] - scores[:, None, :])
    pair = (labels > 0)[:, :, None] & (labels == 0)[:, None, :]
    return jnp.mean(jnp.sum(jnp.where(pair, jnp.maximum(lack, 0), 0), (1, 2)) / scores.shape[1])


def all_triplets(embeddings: Any, labels: Any) -> Any:
    squares = jnp.sum(jnp.square(embeddings[:, None] - embeddings[None]), -1)
    apart = jnp.sqrt(squares + 1e-12)
    same = labels[:, None] == labels[None, :]
    lack = jnp.maximum(apart[:, :, None] - apart[:, None, :] + 1, 0)
    other = ~jnp.eye(len(labels), dtype=bool)
    triplet = (same & other)[:, :, None] & ~same[:, None, :]
    return jnp.sum(jnp.where(triplet, lack, 0)) / jnp.sum(triplet)


def all_documents(scores: Any, labels: Any) -> Any:
    pair = labels[:, :, None] > labels[:, None, :]
    costs = jax.nn.softplus(scores[:, None, :] - scores[:, :, None])
    return jnp.sum(jnp.where(pair, costs, 0)) / jnp.sum(pair)


MEAN: dict[str, Any] = {"reduction": "mean"}
# Sixteen utterances of 200 frames and 60 labels of 512 symbols: logits of 381 MiB.
SPOKEN = (((16, 200, 61, 512), REAL), ((16, 200), REAL), ((16, 60), WHOLE), ((16, 60), REAL))
ROWS = [
    Row(
        "crps_ensemble",
        "all pairs of members",
        [((4096, 512), REAL), ((4096,), REAL)],
        lambda x, y: jaxloss.crps_ensemble(x, y, **MEAN),
        pairs_of_members,
    ),
    Row(
        "energy_score",
        "differences of all pairs of members",
        [((256, 64, 128), REAL), ((256, 128), REAL)],
        lambda x, y: jaxloss.energy_score(x, y, **MEAN),
        pairs_of_vectors,
    ),
    Row(
        "rnnt_loss",
        "log-softmax and a scan in the log domain",
        SPOKEN,
        lambda *args: jaxloss.rnnt_loss(*args, **MEAN),
        normalised_transducer,
    ),
    Row(
        "ctc_loss",
        "optax",
        [((16, 1000, 512), REAL), ((16, 1000), REAL), ((16, 100), WHOLE), ((16, 100), REAL)],
        lambda *args: jaxloss.ctc_loss(*args, **MEAN),
        lambda *args: jnp.mean(optax.losses.ctc_loss(*args)),
    ),
    Row(
        "crf_nll_loss",
        "a scan of logsumexp",
        [((16, 512, 64), REAL), ((16, 512), WHOLE), ((64, 64), REAL)],
        lambda *args: jaxloss.crf_nll_loss(*args, **MEAN),
        scanned_chain,
    ),
    Row(
        "soft_dtw",
        "all differences and a scan of logsumexp",
        [((16, 256, 32), REAL), ((16, 256, 32), REAL)],
        lambda x, y: jaxloss.soft_dtw(x, y, **MEAN),
        scanned_warping,
    ),
    Row(
        "cox_partial_likelihood",
        "a matrix of risk sets",
        [((16384,), REAL), ((16384,), REAL), ((16384,), YES)],
        lambda *args: jaxloss.cox_partial_likelihood(*args, **MEAN),
        risk_sets,
    ),
    Row(
        "deephit_ranking_loss",
        "all pairs of examples",
        [((4096, 32), REAL), ((4096,), WHOLE), ((4096,), YES)],
        lambda *args: jaxloss.deephit_ranking_loss(*args, **MEAN),
        all_comparisons,
    ),
    Row(
        "multilabel_margin_loss",
        "all pairs of classes",
        [((256, 1024), REAL), ((256, 1024), WHOLE)],
        lambda *args: jaxloss.multilabel_margin_loss(*args, **MEAN),
        all_margins,
    ),
    Row(
        "batch_triplet_loss",
        "all triplets",
        [((512, 128), REAL), ((512,), WHOLE)],
        lambda *args: jaxloss.batch_triplet_loss(*args, mining="all", **MEAN),
        all_triplets,
    ),
    Row(
        "pairwise_logistic_loss",
        "all pairs of documents",
        [((64, 2048), REAL), ((64, 2048), WHOLE)],
        lambda *args: jaxloss.pairwise_logistic_loss(*args, **MEAN),
        all_documents,
    ),
]


def temporaries(function: Callable[..., Any], row: Row) -> int:
    places = tuple(range(row.differentiated))
    arguments = [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in row.arguments]
    compiled = jax.jit(jax.value_and_grad(function, places)).lower(*arguments).compile()
    return compiled.memory_analysis().temp_size_in_bytes


def main() -> None:
    parser = Parser(__doc__)
    parser.set_defaults(write=RESULTS)
    args = parser.parse_args()
    rows = [row for row in ROWS if args.losses is None or row.loss in args.losses]
    lines, missed = [], []
    for row in tqdm(rows, unit="loss", file=sys.stderr):
        ours, theirs = (temporaries(function, row) for function in (row.ours, row.theirs))
        shapes = ", ".join("x".join(map(str, shape)) for shape, _ in row.arguments)
        line = f"{ours / MEBIBYTE:.1f}", f"{theirs / MEBIBYTE:.1f}", f"1/{theirs / ours:.1f}"
        lines.append((f"`{row.loss}`", row.told, shapes, *line))
        if ours > theirs:
            missed.append(f"`{row.loss}`: {ours / theirs:.2f}")
    head = ("loss", "usual form", "arguments", "ours, MiB", "usual, MiB", "of it")
    text = "\n".join(
        [
            "## Memory",
            "",
            "Temporary bytes of value and gradient, compiled for a CPU (`make bench-memory`).",
            "",
            goal("No more than the usual form", missed),
            "",
            table(head, lines, words=(0, 1, 2)),
        ]
    )
    publish(text, args.write if args.losses is None else None, PART)


if __name__ == "__main__":
    main()
