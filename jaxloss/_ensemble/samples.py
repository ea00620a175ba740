"""Proper scores of ensembles: samples of a predicted distribution against what was observed.

In the formulas x_1 ... x_M are the members of an ensemble and y is its target. The mean distance of
two members is that of all M^2 pairs, of which M are a member with itself, in the biased score, and
of the other M (M - 1) in the fair one, whose mean over samples does not depend on M.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from .._contract.jit import jit
from .._contract.prepared import Hyper, any_number
from .._contract.reduce import Reduction, Request, Weights, Where
from .._numerics.devices import varying_like
from .._numerics.distance import distance
from .._numerics.kinks import closed_form, with_slopes
from .._numerics.order import is_counted, middle_places, positions
from .._numerics.special import one_if_zero
from .members import (
    Kind,
    Members,
    Targets,
    VectorMembers,
    Vectors,
    ensembles,
    share_of_fair,
    shares,
    vector_ensembles,
)


def _slopes(d: jax.Array, place: jax.Array, number: jax.Array) -> tuple[jax.Array, jax.Array]:
    """M (M - 1) times the slope of the fair score in each member, and M^2 that of the biased one.

    They are 2 n - 2 and 2 n - 1 with the sign of d, where n counts members on one side of the
    target, from 1 for the outermost; and for a member that is the target the mean of those of both
    sides.

    Args:
        d: Members less their targets.
        place: Twice their places among all, from 0 for the least.
        number: How many members there are.
    """
    from_above = 2 * number[:, None] - place
    at_target = jnp.where(d == 0, 0.5 * (from_above - place) - 1, d)  # or NaN
    fair = jnp.where(d > 0, from_above - 2, jnp.where(d < 0, -place, at_target))
    biased = jnp.where(d > 0, from_above - 1, jnp.where(d < 0, -place - 1, at_target))
    return fair, biased


def _rank_score(
    slopes: bool,
    members: jax.Array,
    targets: jax.Array,
    fair: jax.Array,
    biased: jax.Array,
    number: jax.Array,
    there: jax.Array | None,
) -> Any:
    """The sum over members of x - y times the slope in x.

    No term is negative, so that nothing cancels, which the mean distance of pairs does from that of
    the target. Members are put in order before the target is subtracted: the rounding of x - y may
    make different ones equal.

    Args:
        slopes: See `with_slopes`.
        members: `[rows, members]`.
        targets: `[rows]`, as what follows, but for the last.
        fair, biased: What the scores count for.
        number: How many members there are.
        there: Which ones, if not all.
    """
    # NaN comes last in a sort, and is neither less nor equal.
    keys = members if there is None else jnp.where(there, members, jnp.nan)
    keys = jax.lax.stop_gradient(keys)
    if slopes or is_counted(members):
        d, place = members - targets[:, None], middle_places(keys)
    else:
        d = jax.lax.sort(keys) - targets[:, None]
        place = 2 * positions(d).astype(d.dtype)
        there = None if there is None else place < 2 * number[:, None]
    parts = _slopes(d, place, number)
    if there is not None:
        *parts, d = (jnp.where(there, x, 0) for x in (*parts, d))
    slope = fair[:, None] * parts[0] + biased[:, None] * parts[1]
    # To the fair score the outermost member does not matter, at infinity either.
    d = jnp.where((slope == 0) & (jnp.abs(d) == jnp.inf), 0, d)
    losses = jnp.sum(slope * d, -1)
    if not slopes:
        return losses, ()
    # Distances between members do not depend on the target.
    in_targets = -jnp.sum(jnp.sign(d), -1) / one_if_zero(number)
    in_fair, in_biased = (jnp.sum(part * d, -1) for part in parts)
    return losses, (slope, in_targets, in_fair, in_biased)


_score_of_ranks = with_slopes(_rank_score)


@closed_form(lambda x, low: (jnp.where(x < low, 0, 1), jnp.where(x < low, 1, 0)))
def _larger(x: jax.Array, low: jax.Array) -> jax.Array:
    return jnp.maximum(x, low)


def _at_least(x: jax.Array, low: jax.Array) -> jax.Array:
    """The larger of the two, with slope 1 in x where they are equal."""
    return _larger(x, jnp.broadcast_to(low, x.shape))


@jit("axis", "kind")
def crps_ensemble(
    predictions: Members,
    targets: Targets,
    *,
    axis: int = -1,
    kind: Kind = "fair",
    alpha: ArrayLike = 0.95,
    lower: ArrayLike | None = None,
    upper: ArrayLike | None = None,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Continuous ranked probability score of an ensemble.

        mean |x_m - y| - c sum |x_i - x_j|   over all i, j
        fair          c = 1 / (2 M (M - 1))
        biased        c = 1 / (2 M^2)
        almost_fair   alpha fair + (1 - alpha) biased

    "biased" is the score of the distribution of which each member has the part 1 / M. It prefers
    ensembles that are too narrow, the more so the fewer members they have. "fair" is best in the
    mean for members and targets of one distribution. To it the member furthest from the target on
    either side does not matter, nor two members with the target between them; "almost_fair" lets
    every member train. None is ever negative.

    With thresholds it is threshold-weighted: of max(x, lower) and max(y, lower), and the least of
    these and `upper`, so that only what happens from `lower` to `upper` counts.

    A distance of 0 has slope 0, between a member and the target and between two members: equal
    members have equal slopes. At a threshold a number has the slope of those between the two. Time
    grows as M log(M) from 65 members on, memory as M.

    Args:
        predictions: x, the members along `axis`: `[..., members]`.
        targets: y, one for each ensemble: `[...]`, or a scalar.
        axis: The axis of the members.
        kind: "fair", "almost_fair" or "biased".
        alpha: The part of "fair" in "almost_fair", which alone reads it; from 0 to 1, else NaN.
        lower: In the unit of `targets`, below which nothing counts; None for no end.
        upper: Above which nothing counts; NaN if below `lower`.
        where: Which ensembles count, or, of the shape of `predictions`, which members there are.
            Of a single one that a mask leaves, the kinds other than "biased" are NaN.
        weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per ensemble, in the unit of `targets`: the shape of `predictions` without `axis`.

    Raises:
        ValueError: If an ensemble has no member, or a single one and `kind` is not "biased".

    Reference:
        Gneiting and Raftery, "Strictly proper scoring rules, prediction, and estimation", 2007,
        eq. 21, https://doi.org/10.1198/016214506000001437. "fair": Ferro, "Fair scores for ensemble
        forecasts", 2014, https://doi.org/10.1002/qj.2270. "almost_fair": Lang et al., "AIFS-CRPS:
        ensemble forecasting using a model trained with a loss function based on the continuous
        ranked probability score", 2024, https://arxiv.org/abs/2412.15832. Thresholds: Gneiting and
        Ranjan, "Comparing density forecasts using threshold- and quantile-weighted scoring rules",
        2011, https://doi.org/10.1198/jbes.2010.08110.

    Example:
        >>> crps_ensemble(jnp.array([[1.0, 2.0, 6.0], [1.0, 1.0, 1.0]]), jnp.array([4.0, 3.0]))
        Array([0.6666667, 2.       ], dtype=float32)

        On a grid of latitudes an area weighs as the cosine of its latitude:

        >>> latitudes = jnp.deg2rad(jnp.array([0.0, 60.0]))
        >>> members = jnp.array([[[1.0, 2.0], [3.0, 5.0]]])  # [times, latitudes, members]
        >>> observed = jnp.array([[2.5, 2.0]])  # [times, latitudes]
        >>> area = jnp.cos(latitudes)[None]
        >>> print(f"{crps_ensemble(members, observed, weights=area, reduction='mean'):.4f}")
        0.6667
    """
    request = Request(where, weights, reduction)
    hyper = share_of_fair(kind, alpha)
    hyper |= {"lower": Hyper(lower, any_number, off=(None,))}
    hyper |= {"upper": Hyper(upper, any_number, off=(None,))}
    given = ensembles(predictions, targets, axis, kind, request, **hyper)
    share, low, high = given.hyper
    x, y = given.members, given.targets
    if low is not None:
        x, y = _at_least(x, low[:, None]), _at_least(y, low)
    if high is not None:
        x, y = -_at_least(-x, -high[:, None]), -_at_least(-y, -high)
    if low is not None and high is not None:
        given = given.inside((low <= high).reshape(given.shape))
    fair, biased = shares(kind, share, given.number)
    return given.reduced(_score_of_ranks(x, y, fair, biased, given.number, given.there))


def _mean_distance(x: jax.Array, y: jax.Array, share: jax.Array, there: Any) -> jax.Array:
    """The sum over members of their distance from the target times a share, `[rows]`."""
    d = distance(x, jnp.broadcast_to(y[:, None], x.shape), (2,))
    return jnp.sum(share[:, None] * (d if there is None else jnp.where(there, d, 0)), -1)


def _between(x: jax.Array, share: jax.Array, there: Any) -> jax.Array:
    """The sum over pairs of members of their distance times a share, `[rows]`.

    Each member meets the one after it, then the one after that, and so on through half of them: an
    array of all pairs is never there, and derivatives compute distances anew.
    """
    size = x.shape[1]

    @jax.checkpoint
    def met(x: jax.Array, share: jax.Array, step: jax.Array) -> jax.Array:
        d = distance(x, jnp.roll(x, -step, 1), (2,))
        if there is not None:
            d = jnp.where(there & jnp.roll(there, -step, 1), d, 0)
        # Through half of an even number each pair meets twice.
        once = jnp.where(2 * step == size, 0.5, 1).astype(x.dtype)
        return jnp.sum((once * share)[:, None] * d, -1)

    def add(total: jax.Array, step: jax.Array) -> tuple[jax.Array, None]:
        return total + met(x, share, step), None

    steps = jnp.arange(1, size // 2 + 1, dtype=jnp.int32)
    return jax.lax.scan(add, varying_like(jnp.zeros_like(share), x), steps)[0]


@jit("kind")
def energy_score(
    predictions: VectorMembers,
    targets: Vectors,
    *,
    kind: Kind = "fair",
    alpha: ArrayLike = 0.95,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Energy score of an ensemble of vectors: the CRPS of several numbers that belong together.

        mean |x_m - y| - c sum |x_i - x_j|   over all i, j
        fair          c = 1 / (2 M (M - 1))
        biased        c = 1 / (2 M^2)
        almost_fair   alpha fair + (1 - alpha) biased

    with Euclidean distances. Of vectors of one number it is `crps_ensemble`, where the kinds are
    explained. Features count in the unit they have: divide them by their usual sizes first.

    A distance of 0 has slope 0, between a member and the target and between two members. Time grows
    as M^2, memory as M.

    Args:
        predictions: x, `[..., members, features]`.
        targets: y, `[..., features]`.
        kind: "fair", "almost_fair" or "biased".
        alpha: The part of "fair" in "almost_fair", which alone reads it; from 0 to 1, else NaN.
        where: Which ensembles count, `[...]`, or which members there are, `[..., members]`. Of a
            single one that a mask leaves, the kinds other than "biased" are NaN.
        weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per ensemble, in the unit of `targets`.

    Raises:
        ValueError: If an ensemble has no member, or a single one and `kind` is not "biased".

    Reference:
        Gneiting and Raftery, "Strictly proper scoring rules, prediction, and estimation", 2007,
        eq. 22, https://doi.org/10.1198/016214506000001437.

    Example:
        >>> members = jnp.array([[0.0, 0.0], [3.0, 4.0]])
        >>> energy_score(members, jnp.array([3.0, 0.0]))
        Array(1., dtype=float32)
    """
    request = Request(where, weights, reduction)
    given = vector_ensembles(predictions, targets, kind, request, **share_of_fair(kind, alpha))
    x, there = given.members, given.there
    fair, biased = shares(kind, given.hyper[0], given.number)
    mean = _mean_distance(x, given.targets, 1 / one_if_zero(given.number), there)
    losses = mean - _between(x, fair + biased, there)
    # Never negative but by rounding, as where a target lies on the line between two members.
    return given.reduced(losses + jax.lax.stop_gradient(jnp.maximum(-losses, 0)))
