"""Pairs of examples, of which the one whose event comes first is to have the greater risk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Float, Int

from .._contract import inputs
from .._contract.jit import jit
from .._contract.prepared import Hyper, positive
from .._contract.reduce import Reduction, Request, Weights, Where
from .._numerics.order import entries
from .._numerics.sharding import whole_along
from .cohort import Events, cohort, in_blocks

Logits = Float[ArrayLike, "*batch examples intervals"] | Sequence[Any]
Durations = Int[ArrayLike, "*batch examples"] | Sequence[Any]


def _distributions(z: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The probability of an event up to each interval, and that of one after it.

    As two sums of positive terms: neither is 1 less the other, which would lose its digits.
    """
    top = jax.lax.stop_gradient(jnp.max(z, -1, keepdims=True, initial=0))
    odds, beyond = jnp.exp(z - top), jnp.exp(-top)
    total = jnp.sum(odds, -1, keepdims=True) + beyond
    until = jnp.cumsum(odds, -1)
    # From interval k on, less k itself.
    after = jnp.flip(jnp.cumsum(jnp.flip(odds, -1), -1), -1)
    after = jnp.concatenate([after[..., 1:], jnp.zeros_like(after[..., :1])], -1) + beyond
    return until / total, after / total


@jit()
def deephit_ranking_loss(
    logits: Logits,
    durations: Durations,
    events: Events,
    *,
    temperature: ArrayLike = 0.1,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """The ranking loss of DeepHit: who has an event was more likely to than who survived it.

        sum over i with an event and j with n_j > n_i of
            exp(-(F_i - F_j) / temperature)

    F is the probability of an event up to interval n_i, that of the event of i: from the softmax of
    the logits of i or j and of a logit 0 for an event after the last interval, as in `pmf_loss`,
    which this is a term beside. An example j that was censored in n_i has survived it, and is in a
    pair with i as well.

    Args:
        logits: `[..., examples, intervals]`: each row of examples is a cohort.
        durations: n, integers `[..., examples]`: the number of the interval of the event, or that
            of the last interval that a censored example is known to have survived. NaN for a cohort
            with one outside 0 to K - 1.
        events: Of that shape: true or 1 for an event, false or 0 if the example was censored; NaN
            for a cohort with any other number.
        temperature: By how much probabilities differ that differ much. NaN unless positive.
        where: Of the shape of `durations`, which examples are there; of a rank less, which cohorts.
        weights: Of whole cohorts; see `jaxloss.reduce`. Those of examples are refused.
        reduction: See `jaxloss.reduce`. The mean is that over pairs: the sum of the losses divided
            by how many pairs there are. A cohort without pairs costs 0 and counts nothing.

    Returns:
        One loss per cohort, the sum over its pairs, in blocks: the shape of `durations` without its
        last axis.

    Raises:
        TypeError: If `durations` are no integers.
        ValueError: If the shapes differ, or `weights` are of examples.

    Reference:
        Lee et al., "DeepHit: a deep learning approach to survival analysis with competing risks",
        2018, the second of its two losses, for one kind of event.

    Example:
        >>> logits = jnp.array([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0]])
        >>> durations, events = jnp.array([0, 1]), jnp.array([True, False])
        >>> deephit_ranking_loss(logits, durations, events, temperature=0.5)
        Array(0.46849793, dtype=float32)
    """
    z = inputs.floating("logits", logits)
    numbers = inputs.real("durations", durations, numbers=True)
    got = inputs.described(logits=z, durations=numbers)
    if z.ndim < 2:
        raise ValueError(f"logits must be of shape [..., examples, intervals], got {got}")
    inputs.check_shape(
        numbers, z.shape[:-1], f"durations must be of the shape {list(z.shape[:-1])}, got {got}"
    )
    inputs.check_integers(numbers, f"durations must be numbers of intervals, integers, got {got}")
    z = whole_along(z, (-1, -2)).astype(inputs.computing_dtype([z]))
    request = Request(where, weights, reduction)
    # What is NaN for an example is so for all its logits, and they are excluded together.
    carrier = jnp.sum(z, -1) if z.shape[-1] else jnp.zeros(z.shape[:-1], z.dtype)
    given = cohort("logits", carrier, numbers, events, request)
    given = given.with_hyper({"temperature": Hyper(temperature, positive)}, carrier, (-1,))
    (temperature,) = (x.reshape(-1, 1, 1) for x in given.hyper)
    place, inside = inputs.class_index(given.times, z.shape[-1])
    inside = jnp.all(inside | ~given.there, -1).reshape(given.shape)
    given = given.inside(inside)
    z = z.reshape(*given.scores.shape, z.shape[-1])
    z = jnp.where(given.there[..., None], z, 0)
    known = jnp.asarray(given.known).reshape(-1, 1, 1)
    until, after = _distributions(inputs.nan_outside(z, known))

    def at(x: jax.Array, numbers: jax.Array) -> jax.Array:
        """Of each example, at intervals `[cohorts, numbers]`: `[cohorts, examples, numbers]`."""
        shape = (*x.shape[:2], numbers.shape[-1])
        return entries(x, jnp.broadcast_to(numbers[:, None, :], shape))

    def compared(events: Any) -> tuple[jax.Array, jax.Array]:
        """Which examples `[cohorts, examples, events]` have survived an event; what that costs."""
        number, happened, own_until, own_after = (x[:, None, :] for x in events)
        beyond = (place[..., None] > number) | ((place[..., None] == number) & survived)
        pair = happened & beyond
        early = at(until, events[0])
        # The smaller two of the four probabilities have the smaller rounding errors.
        gap = jnp.where(own_until + early < 1, own_until - early, at(after, events[0]) - own_after)
        return pair, jnp.where(pair, jnp.exp(-gap / temperature), 0)

    survived = (given.there & ~given.happened)[..., None]
    own = (entries(x, place[..., None])[..., 0] for x in (until, after))
    examples = (place, given.happened, *own)
    there = given.there[..., None]
    number = in_blocks(lambda x: jnp.sum(compared(x)[0] & there, 1, dtype=jnp.int32), examples)
    costs = in_blocks(lambda x: jnp.sum(jnp.where(there, compared(x)[1], 0), 1), examples)
    return given.reduced(jnp.sum(costs, -1), counted=jnp.sum(number, -1, dtype=jnp.int32))
