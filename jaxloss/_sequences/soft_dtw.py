"""Soft dynamic time warping: sequences that say the same at different speeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Float, Real

from .._contract import inputs
from .._contract.jit import jit
from .._contract.reduce import Reduction, Request, Weights, Where
from .._numerics.sharding import sharded_like
from . import warping
from .batch import Examples

Entries = Float[ArrayLike, "*batch length features"] | Sequence[Any]
Costs = Float[ArrayLike, "*batch rows columns"] | Sequence[Any]
Paddings = Real[ArrayLike, "*batch length"] | Sequence[Any] | None


class _Pair(NamedTuple):
    """Two sequences, or the costs between them, with an axis of the batch.

    Attributes:
        record: The arguments of the call.
        data: Costs, or both sequences; 0 where they are padded.
        gamma: 1 outside its domain; `[batch]`.
        kept: Which entries of the first count, and which of the second.
    """

    record: Examples
    data: list[jax.Array]
    gamma: jax.Array
    kept: tuple[jax.Array, jax.Array]


def _prepared(
    data: dict[str, Any], lengths: dict[str, Any], gamma: Any, request: Request, inner: str
) -> _Pair:
    """The arguments of a call, checked and converted.

    Args:
        data: Costs, or the two sequences.
        lengths: The paddings of both, by name; None for none.
        gamma: The temperature.
        request: The user's mask, weights and reduction.
        inner: What shapes are expected.
    """
    arrays = [inputs.floating(name, x) for name, x in data.items()]
    late = {k: inputs.real(k, x) for k, x in lengths.items() if x is not None}
    message = f"expected {inner}, or all of them without the batch; got " + inputs.described(
        **dict(zip(data, arrays, strict=True)), **late
    )
    x = arrays[0]
    sizes = x.shape[-2:] if len(arrays) == 1 else tuple(y.shape[-2] for y in arrays if y.ndim > 1)
    if x.ndim not in (2, 3) or any(
        y.ndim != x.ndim or y.shape[:-2] != x.shape[:-2] or y.shape[-1] != x.shape[-1]
        for y in arrays[1:]
    ):
        raise ValueError(message)
    if not all(sizes):
        raise ValueError(f"sequences must have at least one entry; {message}")
    batch, dtype = x.shape[:-2], inputs.computing_dtype(arrays)
    for size, name in zip(sizes, lengths, strict=True):
        if name in late:
            inputs.check_shape(late[name], (*batch, size), message)
    where = True if request.where is None else request.where
    selected = inputs.mask(where, batch, "the loss", x, (-2, -1))
    scale = inputs.field("gamma", gamma, batch, "the loss").astype(dtype)
    scale = sharded_like(jnp.broadcast_to(scale, batch), x, (-2, -1))
    if not batch:
        arrays, late = [y[None] for y in arrays], {k: y[None] for k, y in late.items()}
        selected, scale = selected[None], scale[None]

    known = (scale > 0) & (scale < jnp.inf)
    kept = []
    for size, name in zip(sizes, lengths, strict=True):
        none = jnp.broadcast_to(jnp.zeros_like(selected, dtype)[:, None], (len(selected), size))
        spare = jnp.where(selected[:, None], late[name].astype(dtype) if name in late else none, 0)
        known &= jnp.all((spare == 0) | (spare == 1), 1) & (spare[:, 0] != 1)
        known &= jnp.all(spare[:, :-1] <= spare[:, 1:], 1)
        # Of an example outside the domain all entries count: its whole gradient is NaN.
        kept.append((spare != 1) & selected[:, None])
    kept = [there | (selected & ~known)[:, None] for there in kept]
    if len(arrays) == 1:
        masks = [kept[0][:, :, None] & kept[1][:, None]]
    else:
        masks = [there[..., None] for there in kept]
    arrays = [jnp.where(there, y.astype(dtype), 0) for there, y in zip(masks, arrays, strict=True)]
    record = Examples(
        request=request,
        shape=batch,
        dtype=dtype,
        where=None if request.where is None else selected.reshape(batch),
        known=(known | ~selected).reshape(batch),
    )
    gamma = jnp.where(known & selected, scale, 1)
    return _Pair(record, arrays, gamma, (kept[0], kept[1]))


def _squares(x: jax.Array, y: jax.Array) -> jax.Array:
    """The squared distances of all entries of one sequence from all of the other.

    Differences, of which products of matrices lose the digits where the entries lie together.
    """

    # One entry after another, anew for the derivatives: the differences of all pairs are features
    # times as many numbers as the costs.
    @jax.checkpoint
    def from_entry(entry: jax.Array) -> jax.Array:
        return jnp.sum((x - entry[:, None]) ** 2, 2)

    return jax.lax.map(from_entry, y.swapaxes(0, 1)).transpose(1, 2, 0)


def _aligned(costs: jax.Array, gamma: jax.Array, kept: Sequence[jax.Array]) -> jax.Array:
    """The soft minimum of the costs of all alignments of entries that count."""
    rows, columns = (jnp.maximum(jnp.sum(x, 1, dtype=jnp.int32), 1) for x in kept)
    losses = gamma * warping.soft_minimum(costs / gamma[:, None, None], rows, columns)
    # -inf forbids no pair, and a NaN would pass for a pair that is forbidden.
    return inputs.nan_outside(losses, jnp.all(costs > -jnp.inf, (1, 2)))


_SEQUENCES = (
    "predictions [batch, frames, features] and targets [batch, other frames, features], with "
    "prediction_paddings [batch, frames] and target_paddings [batch, other frames]"
)
_COSTS = (
    "costs [batch, rows, columns], with row_paddings [batch, rows] and column_paddings "
    "[batch, columns]"
)


@jit()
def soft_dtw(
    predictions: Entries,
    targets: Entries,
    *,
    gamma: ArrayLike = 1.0,
    prediction_paddings: Paddings = None,
    target_paddings: Paddings = None,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Soft dynamic time warping: the cost of the best alignment, smoothed.

        -gamma log sum over alignments of exp(-cost / gamma),
        cost = sum over pairs (i, j) of |x_i - y_j|^2

    An alignment is a list of pairs, from the first entries of both sequences to the last; from
    one pair to the next i, j or both rise by 1. As gamma falls to 0 the loss rises to the cost
    of the best alignment, that of dynamic time warping, and its gradient becomes that of this
    alignment; where several are best, the mean over them. The loss is not 0 for equal
    sequences, and may be negative: `soft_dtw_divergence` is neither.

    Args:
        predictions: `[batch, frames, features]`, or without the batch.
        targets: `[batch, other frames, features]`; lengths may differ.
        gamma: The smoothing, above 0, in the unit of the squared distances.
        prediction_paddings: `[batch, frames]`, 1 or true for a padded frame, else 0; none if not
            given. NaN results unless those that are padded come last, after one that is not.
        target_paddings: `[batch, other frames]`.
        where, weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per example.

    Reference:
        Cuturi and Blondel, "Soft-DTW: a differentiable loss function for time-series", 2017,
        algorithms 1 and 2, https://arxiv.org/abs/1703.01541.

    Example:
        >>> x, y = jnp.array([[0.0], [1.0]]), jnp.array([[0.0], [0.0], [1.0]])
        >>> soft_dtw(x, y, gamma=1e-3)  # The 0 lies beside both zeros.
        Array(0., dtype=float32)
        >>> soft_dtw(x, y)  # -log(1 + 3 exp(-1) + exp(-2)), of five alignments
        Array(-0.8060176, dtype=float32)
    """
    given = _prepared(
        {"predictions": predictions, "targets": targets},
        {"prediction_paddings": prediction_paddings, "target_paddings": target_paddings},
        gamma,
        Request(where, weights, reduction),
        _SEQUENCES,
    )
    losses = _aligned(_squares(*given.data), given.gamma, given.kept)
    return given.record.reduced(given.record.without_batch(losses))


@jit()
def soft_dtw_divergence(
    predictions: Entries,
    targets: Entries,
    *,
    gamma: ArrayLike = 1.0,
    prediction_paddings: Paddings = None,
    target_paddings: Paddings = None,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Soft-DTW of two sequences, less what equal ones cost.

        soft_dtw(x, y) - (soft_dtw(x, x) + soft_dtw(y, y)) / 2

    It is 0, with gradient 0, where the sequences are equal. As gamma falls to 0 it tends to
    the cost of dynamic time warping.

    Args:
        predictions: `[batch, frames, features]`, or without the batch.
        targets: `[batch, other frames, features]`; lengths may differ.
        gamma: The smoothing, above 0, in the unit of the squared distances.
        prediction_paddings: See `soft_dtw`.
        target_paddings: See `soft_dtw`.
        where, weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per example.

    Reference:
        Blondel, Mensch and Vert, "Differentiable divergences between time series", 2021,
        https://arxiv.org/abs/2010.08354.

    Example:
        >>> x, y = jnp.array([[0.0], [1.0]]), jnp.array([[0.0], [0.0], [1.0]])
        >>> soft_dtw_divergence(x, x), soft_dtw_divergence(x, y)
        (Array(0., dtype=float32), Array(0.38308352, dtype=float32))
    """
    given = _prepared(
        {"predictions": predictions, "targets": targets},
        {"prediction_paddings": prediction_paddings, "target_paddings": target_paddings},
        gamma,
        Request(where, weights, reduction),
        _SEQUENCES,
    )

    def cost(i: int, j: int) -> jax.Array:
        costs = _squares(given.data[i], given.data[j])
        return _aligned(costs, given.gamma, (given.kept[i], given.kept[j]))

    losses = cost(0, 1) - (cost(0, 0) + cost(1, 1)) / 2
    return given.record.reduced(given.record.without_batch(losses))


@jit()
def soft_dtw_from_costs(
    costs: Costs,
    *,
    gamma: ArrayLike = 1.0,
    row_paddings: Paddings = None,
    column_paddings: Paddings = None,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Soft-DTW of given costs, such as distances of another kind.

        -gamma log sum over alignments of exp(-cost / gamma),
        cost = sum over pairs (i, j) of c_ij

    Its gradient is the expected alignment: the share of the alignments, by their weights, that
    lay entry i beside entry j. For what gamma does, see `soft_dtw`. A cost of inf forbids a
    pair; where none of the alignments is left the loss is inf and its gradient 0.

    Args:
        costs: `[batch, rows, columns]`, or without the batch: of laying entry i of one sequence
            beside entry j of the other.
        gamma: The smoothing, above 0, in the unit of the costs.
        row_paddings: `[batch, rows]`, 1 or true for a padded entry, else 0; none if not given. NaN
            results unless those that are padded come last, after one that is not.
        column_paddings: `[batch, columns]`.
        where, weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per example.

    Reference:
        Cuturi and Blondel, "Soft-DTW: a differentiable loss function for time-series", 2017,
        algorithms 1 and 2, https://arxiv.org/abs/1703.01541.

    Example:
        >>> costs = jnp.array([[0.0, 2.0], [1.0, 3.0]])
        >>> soft_dtw_from_costs(costs)  # -log(exp(-3) + exp(-4) + exp(-5))
        Array(2.592395, dtype=float32)
    """
    given = _prepared(
        {"costs": costs},
        {"row_paddings": row_paddings, "column_paddings": column_paddings},
        gamma,
        Request(where, weights, reduction),
        _COSTS,
    )
    losses = _aligned(given.data[0], given.gamma, given.kept)
    return given.record.reduced(given.record.without_batch(losses))
