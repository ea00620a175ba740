"""Surprisals of what belongs together in two views: of matrices of pairs, and in tiles."""

from __future__ import annotations

import functools
from collections.abc import Hashable

import jax
import jax.numpy as jnp

from .._numerics.cross_entropy import surprisal
from .._numerics.special import softplus
from .batch import Batch, alone
from .belonging import Belonging, Scale
from .cosines import products
from .meeting import (
    ATTRACTION,
    LOG_SUM,
    Examples,
    is_met_in_tiles,
    lead,
    log_of_both,
    sums,
)


def surprisals(pairs: Batch, scores: jax.Array, *extra: jax.Array, axis: int = -1) -> jax.Array:
    """-log of the softmax of each example's own partner, among the others and the extra ones.

    Args:
        pairs: The examples.
        scores: Of all pairs of examples.
        *extra: Scores of each example with further negatives, `[..., examples, any number]`.
        axis: That of the partners, -1 or -2.
    """
    own = alone(pairs.data[0], pairs.axis_name)
    scores = jnp.where(own | pairs.negative, scores, -jnp.inf)
    for more in extra:
        scores = jnp.concatenate([scores, more], -1)
        own = jnp.concatenate([own, jnp.zeros_like(more, bool)], -1)
    if scores.shape[-1] == 1:
        # There is nothing to be told from; a score of NaN still shows.
        return 0 * jnp.squeeze(scores, -1)
    return surprisal(scores, own, (scores.ndim + axis,))


def matched(
    pairs: Batch,
    several: Belonging | None,
    x: jax.Array,
    y: jax.Array,
    scale: Scale,
    axis_name: Hashable | None,
    symmetric: bool,
    *extra: jax.Array,
) -> jax.Array:
    """The surprisal of what belongs to x among all y, or the mean of it and of that of x among y.

    Args:
        pairs: The examples.
        several: What belongs together; None for those of one place.
        x, y: Their directions.
        scale: Of the cosines.
        axis_name: See `clip_loss`.
        symmetric: Whether to take the mean of both.
        *extra: Directions of further partners of x.
    """
    by_targets = several is not None and several.labels is None
    if in_tiles(axis_name, y, *extra) and not by_targets:
        if several is None:
            own = scale.of(jnp.sum(x * y, -1))
            found = _leads(pairs, x, y, scale.factor(), own, axis_name, symmetric, *extra)
            there, back = softplus(found[0]), None if found[1] is None else softplus(found[1])
        else:
            there, back = _attracted(
                pairs, several, x, y, scale.factor(), axis_name, symmetric, *extra
            )
        return pairs.reduced(there if back is None else 0.5 * (there + back))
    surprisal = functools.partial(surprisals, pairs) if several is None else several.surprisal
    s = products(x, y)
    further = [scale.of(products(x, n), -1) for n in extra]
    losses = surprisal(scale.of(s, -1), *further)
    if symmetric:
        losses = 0.5 * (losses + surprisal(scale.of(s, -2), axis=-2))
    if several is None or not by_targets:
        return pairs.reduced(losses)
    counted, known = several.some(), several.known()
    if symmetric:
        counted, known = counted | several.some(-2), known & several.known(-2)
    return pairs.inside(known).reduced(losses, counted=counted)


def _attracted(
    pairs: Batch,
    several: Belonging,
    x: jax.Array,
    y: jax.Array,
    scale: jax.Array,
    axis_name: Hashable | None,
    symmetric: bool,
    *extra: jax.Array,
) -> tuple[jax.Array, jax.Array | None]:
    """The mean surprisals of the partners of one label, from x and from y; see `_leads`."""
    rows, columns = (Examples(z, scale, there=pairs.where, labels=several.labels) for z in (x, y))
    # Not the places of one batch, of which none is its own partner.
    (top, log, _, there), back = sums(
        ATTRACTION, rows, columns, of_columns=symmetric, further=True, axis_name=axis_name
    )
    for more in extra:
        (highest, rest), _ = sums(
            LOG_SUM,
            rows._replace(labels=None),
            Examples(more),
            further=True,
            axis_name=axis_name,
        )
        # One that is not there meets nobody.
        nobody = jnp.maximum(top, highest) == -jnp.inf
        highest, first = (jnp.where(nobody, 0, z) for z in (highest, top))
        gap = softplus((highest - first) + (rest - log))
        there, log = there + gap, log + gap
    return there, back[-1] if symmetric else None


def in_tiles(axis_name: Hashable | None, *columns: jax.Array) -> bool:
    """Whether the pairs of as many examples as the first array has are summed in tiles."""
    sizes = [x.shape[-2] for x in columns]
    return is_met_in_tiles(axis_name, sizes[0], sum(sizes))


def _leads(
    pairs: Batch,
    x: jax.Array,
    y: jax.Array,
    scale: jax.Array,
    own: jax.Array,
    axis_name: Hashable | None,
    symmetric: bool,
    *extra: jax.Array,
) -> tuple[jax.Array, jax.Array | None]:
    """The log-odds of all others against each example's own partner, from x and from y.

    Args:
        pairs: The examples.
        x, y: Their directions.
        scale: Of the cosines.
        own: The score of each pair.
        axis_name: See `clip_loss`.
        symmetric: Whether those from y are wanted.
        *extra: Directions of further partners of x.
    """
    rows, columns = (Examples(z, scale, there=pairs.where) for z in (x, y))
    there, back = sums(LOG_SUM, rows, columns, of_columns=symmetric, axis_name=axis_name)
    found = lead(there, own)
    for more in extra:
        further, _ = sums(LOG_SUM, rows, Examples(more), further=True, axis_name=axis_name)
        found = log_of_both(found, lead(further, own))
    return found, lead(back, own) if symmetric else None
