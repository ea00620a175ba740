"""Linear-chain conditional random fields: labels that depend on the labels before them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Float, Integer, Real

from .._contract import inputs
from .._contract.jit import jit
from .._contract.reduce import Reduction, Request, Weights, Where
from .._numerics.sharding import sharded_like
from . import chain
from .batch import Examples, integers

Emissions = Float[ArrayLike, "*batch frames states"] | Sequence[Any]
Labels = Integer[ArrayLike, "*batch frames"] | Sequence[Any]
Transitions = Float[ArrayLike, "states states"] | Sequence[Any]
Ends = Float[ArrayLike, "states"] | Sequence[Any] | None
Paddings = Real[ArrayLike, "*batch frames"] | Sequence[Any] | None


@jit()
def crf_nll_loss(
    emissions: Emissions,
    labels: Labels,
    transitions: Transitions,
    *,
    start_transitions: Ends = None,
    end_transitions: Ends = None,
    paddings: Paddings = None,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Negative log-likelihood of a linear-chain conditional random field.

        log sum over y of exp(score(y)) - score(labels),
        score(y) = start[y_1] + sum_t x_t[y_t]
                   + sum_t A[y_(t-1), y_t] + end[y_T]

    Its gradient in the emissions x is the marginal probability of each state less the label,
    and in the transitions A that of each pair of neighbours. A score of -inf forbids: a
    transition (in BIO tags, from O to I), a state in a frame, a start or an end. It stays
    forbidden, and all gradients are finite. Labels that are forbidden have loss inf and
    gradient 0. NaN and inf make the loss NaN, but in padded frames nothing is read.

    Args:
        emissions: Scores `[batch, frames, states]`, or without the batch.
        labels: `[batch, frames]`, integers. NaN results for one outside [0, states), but in a
            padded frame it may be anything.
        transitions: Scores `[states, states]`, of going from the first to the second.
        start_transitions: Scores `[states]` of the first label; 0 if not given.
        end_transitions: Scores `[states]` of the last label; 0 if not given.
        paddings: `[batch, frames]`, 1 or true for a padded frame, else 0; none if not given. NaN
            results unless those that are padded come last.
        where, weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per example, never negative. An example of which all is padding has loss 0.

    Reference:
        Lafferty, McCallum and Pereira, "Conditional random fields: probabilistic models for
        segmenting and labeling sequence data", 2001, section 3.

    Example:
        Two frames of two states, of which the first may not follow the second:

        >>> x = jnp.array([[0.0, 0.0], [1.0, 0.0]])
        >>> transitions = jnp.array([[0.0, 0.0], [-jnp.inf, 0.0]])
        >>> crf_nll_loss(x, jnp.array([0, 0]), transitions)  # log(e + 1 + 1) - 1
        Array(0.551445, dtype=float32)
    """
    request = Request(where, weights, reduction)
    record, given = _prepared(
        emissions, labels, transitions, start_transitions, end_transitions, paddings, request
    )
    return record.reduced(record.without_batch(chain.surprise(*given)))


def _checked(emissions: Any, labels: Any, paddings: Any) -> tuple[jax.Array, ...]:
    x = inputs.floating("emissions", emissions)
    y = integers("labels", labels)
    arrays = {"emissions": x, "labels": y}
    if paddings is not None:
        arrays["paddings"] = inputs.real("paddings", paddings)
    message = (
        "expected emissions [batch, frames, states], labels and paddings [batch, frames], or all "
        f"of them without the batch; got {inputs.described(**arrays)}"
    )
    if x.ndim not in (2, 3):
        raise ValueError(message)
    for name in arrays.keys() - {"emissions"}:
        inputs.check_shape(arrays[name], x.shape[:-1], message)
    if not x.shape[-2]:
        raise ValueError(f"emissions must have at least one frame, got {inputs.kind_of(x)}")
    return x, y, arrays.get("paddings", jnp.zeros_like(y))


def _scores(name: str, value: Any, shape: tuple[int, ...], x: jax.Array) -> jax.Array:
    array = jnp.zeros(shape, x.dtype) if value is None else inputs.floating(name, value)
    got = inputs.described(emissions=x, **{name: array})
    inputs.check_shape(array, shape, f"{name} must have shape {list(shape)}, got {got}")
    return array


def _prepared(
    emissions: Any,
    labels: Any,
    transitions: Any,
    start: Any,
    end: Any,
    paddings: Any,
    request: Request,
) -> tuple[Examples, tuple[jax.Array, ...]]:
    """The record, and the arguments of the chain."""
    x, y, late = _checked(emissions, labels, paddings)
    batch, states = x.shape[:-2], x.shape[-1]
    tables = [
        _scores("transitions", transitions, (states, states), x),
        _scores("start_transitions", start, (states,), x),
        _scores("end_transitions", end, (states,), x),
    ]
    dtype = inputs.computing_dtype([x, *tables])
    where = True if request.where is None else request.where
    selected = inputs.mask(where, batch, "the loss", x, (-2, -1))
    given = [x, y, late, selected] if batch else [a[None] for a in (x, y, late, selected)]
    x, y, late, selected = given

    late = jnp.where(selected[:, None], late.astype(dtype), 1)
    y, inside = inputs.class_index(y, states)
    frames = late != 1
    known = jnp.all(inside | ~frames, 1) & jnp.all((late == 0) | (late == 1), 1)
    known &= jnp.all(late[:, :-1] <= late[:, 1:], 1)
    # Of an example outside the domain all frames count: its whole gradient is NaN.
    x = jnp.where((frames | ~known[:, None])[..., None], x.astype(dtype), 0)

    def of_each(table: jax.Array) -> jax.Array:
        """A table of each example: its gradient is the sum over the examples."""
        whole = jnp.broadcast_to(table.astype(dtype), (x.shape[0], *table.shape))
        whole = sharded_like(whole, x if table.ndim == 2 else x[:, 0]) if batch else whole
        return jnp.where(jnp.expand_dims(selected, range(1, whole.ndim)), whole, 0)

    arrays = [x, *map(of_each, tables)]
    # NaN and inf; -inf forbids.
    for array in arrays:
        known &= jnp.all(array < jnp.inf, range(1, array.ndim))
    record = Examples(
        request=request,
        shape=batch,
        dtype=dtype,
        where=None if request.where is None else selected.reshape(batch),
        known=known.reshape(batch),
    )
    return record, (*arrays, y, frames)
