"""What else is asked of the logits of a linear layer, token by token; see `linear`."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Float, Int

from .._contract.jit import jit
from .._contract.reduce import Request, Where
from .._numerics.linear_softmax import Asked, statistics
from .._numerics.tiles import Columns, Rows
from .linear_layer import (
    Bias,
    ClassOf,
    Hidden,
    Kernel,
    tokens,
)
from .linear_layout import (
    SETTINGS,
    Layout,
    LogitsSharding,
    Options,
    scaling,
    with_options,
)


class LogProbs(NamedTuple):
    """What `linear_log_probs` returns, in the shape of the labels.

    Attributes:
        log_prob: log p_y.
        log_normalizer: log(sum of exp(x)).
    """

    log_prob: Float[jax.Array, "*tokens"]
    log_normalizer: Float[jax.Array, "*tokens"]


@jit(*SETTINGS)
def linear_log_probs(
    hidden: Hidden,
    kernel: Kernel,
    labels: ClassOf,
    *,
    bias: Bias = None,
    logit_softcap: ArrayLike | None = None,
    temperature: ArrayLike = 1.0,
    transposed: bool = False,
    block_size: int | None = None,
    class_axis_name: Any = None,
    logits_sharding: LogitsSharding = None,
    where: Where = None,
) -> LogProbs:
    """The log-probability of each token, and the log-sum-exp of its logits, which are not held.

        x_y - log(sum of exp(x)),   log(sum of exp(x))   with x = hidden W + bias

    What preference and policy losses, perplexities and importance ratios are made of. Summed over
    the tokens of an answer the first is `sequence_log_probabilities` of the logits. Both are
    differentiated in every argument, as `linear_softmax_cross_entropy` is.

    Args:
        hidden, kernel, labels, bias, logit_softcap, temperature: See
            `linear_softmax_cross_entropy`.
        transposed, block_size, class_axis_name, logits_sharding: See there.
        where: Which tokens count, of the rank of `labels`; both are 0 of the others, whatever
            these hold.

    Returns:
        `log_prob` and `log_normalizer`, a pair of arrays of the shape of `labels`.

    Reference:
        See `linear_softmax_cross_entropy`.

    Example:
        >>> hidden, kernel = jnp.eye(2), jnp.array([[2.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
        >>> linear_log_probs(hidden, kernel, jnp.array([0, 1])).log_prob
        Array([-0.40760595, -1.0986123 ], dtype=float32)
    """
    layout = Layout(block_size, transposed, class_axis_name, logits_sharding)
    hyper = scaling(logit_softcap, temperature)
    given = tokens(hidden, kernel, labels, Request(where), layout, bias=bias, hyper=hyper)

    def local(axis: Any, rows: Rows, columns: Columns, *fields: Any) -> tuple[jax.Array, jax.Array]:
        rows = with_options(rows, Options(*fields))
        found = statistics(given.layout.tiles(rows, columns, axis), Asked(), rows, columns)
        return -found.surprisal, found.log_normalizer

    return LogProbs(*map(given.reduced, given.on_devices(local, *given.hyper)))


class TokenStatistics(NamedTuple):
    """What `linear_token_statistics` returns, in the shape of the labels.

    Attributes:
        prediction: The class with the largest logit, of equal ones the first.
        correct: 1 where that is the label, else 0.
        entropy: -sum of p log p.
    """

    prediction: Int[jax.Array, "*tokens"]
    correct: Float[jax.Array, "*tokens"]
    entropy: Float[jax.Array, "*tokens"]


@jit(*SETTINGS)
def linear_token_statistics(
    hidden: Hidden,
    kernel: Kernel,
    labels: ClassOf,
    *,
    bias: Bias = None,
    logit_softcap: ArrayLike | None = None,
    temperature: ArrayLike = 1.0,
    transposed: bool = False,
    block_size: int | None = None,
    class_axis_name: Any = None,
    logits_sharding: LogitsSharding = None,
    where: Where = None,
) -> TokenStatistics:
    """The most likely class of each token, whether it is the right one, and the entropy.

        argmax x,   argmax x = y,   -sum p log p   with x = hidden W + bias, p = softmax(x)

    Accuracy beside the loss, and the entropy that policies are kept at, without holding the logits.
    The entropy is differentiated in `hidden`, `kernel`, `bias`, `logit_softcap` and `temperature`;
    the others are constants.

    Args:
        hidden, kernel, labels, bias, logit_softcap, temperature: See
            `linear_softmax_cross_entropy`.
        transposed, block_size, class_axis_name, logits_sharding: See there.
        where: Which tokens count, of the rank of `labels`. Of the others `correct` and `entropy`
            are 0 and `prediction` is -1.

    Returns:
        `prediction`, `correct` and `entropy`, arrays of the shape of `labels`.

    Reference:
        Shannon, "A mathematical theory of communication", 1948, section 6.

    Example:
        >>> hidden, kernel = jnp.eye(2), jnp.array([[2.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
        >>> found = linear_token_statistics(hidden, kernel, jnp.array([0, 1]))
        >>> found.entropy
        Array([0.83239555, 1.0986123 ], dtype=float32)
    """
    layout = Layout(block_size, transposed, class_axis_name, logits_sharding)
    hyper = scaling(logit_softcap, temperature)
    given = tokens(hidden, kernel, labels, Request(where), layout, bias=bias, hyper=hyper)

    def local(axis: Any, rows: Rows, columns: Columns, *fields: Any) -> tuple[jax.Array, jax.Array]:
        rows = with_options(rows, Options(*fields))
        tiles = given.layout.tiles(rows, columns, axis)
        found = statistics(tiles, Asked(entropy=True), rows, columns)
        return found.best, found.entropy

    best, entropy = given.on_devices(local, *given.hyper)
    correct = given.reduced((best == given.number).astype(given.dtype))
    if given.where is not None:
        best = jnp.where(given.where, best, -1)
    return TokenStatistics(best, correct, given.reduced(entropy))
