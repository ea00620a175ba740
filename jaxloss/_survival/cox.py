"""The partial likelihood of proportional hazards: who of those at risk has the event."""

from __future__ import annotations

from typing import Any, Literal

import jax
import jax.numpy as jnp

from .._contract import inputs
from .._contract.jit import jit
from .._contract.reduce import Reduction, Request, Weights, Where
from .._numerics.order import entries, positions
from .cohort import Cohort, Events, Scores, Strata, Times, cohort, in_blocks
from .sums import Sum, added, exponentials, log_quotient, only, sum_along


def _running(x: Sum, fresh: jax.Array) -> Sum:
    """Sums of all so far along the last axis, begun anew wherever it is `fresh`.

    Each round adds the sums that end 1, 2, 4, ... places earlier. As a loop: rounds that are
    written out, as by `lax.associative_scan`, took minutes to compile for 1,000 examples.
    """
    size = x.top.shape[-1]

    def earlier(y: jax.Array, nothing: float | bool, places: jax.Array) -> jax.Array:
        longer = jnp.concatenate([jnp.full_like(y, nothing), y], -1)
        return jax.lax.dynamic_slice_in_dim(longer, size - places, size, y.ndim - 1)

    def step(carry: tuple[jax.Array, Sum], places: jax.Array) -> tuple[Any, None]:
        begun, sums = carry
        nothing = (-jnp.inf, 0.0, 0.0)
        before = Sum(*(earlier(y, z, places) for y, z in zip(sums, nothing, strict=True)))
        return (begun | earlier(begun, False, places), added(only(~begun, before), sums)), None

    rounds = 2 ** jnp.arange(max(0, size - 1).bit_length())
    return jax.lax.scan(step, (fresh, x), rounds)[0][1]


def _flipped(x: Any) -> Any:
    return jax.tree.map(lambda y: jnp.flip(y, -1), x)


def _before(sums: Sum, fresh: jax.Array) -> Sum:
    """Running sums without the entry itself."""
    moved = (jnp.concatenate([jnp.zeros_like(y[:, :1]), y[:, :-1]], -1) for y in sums)
    return only(~fresh, Sum(*moved))


def _cost(x: jax.Array, others: Sum, left: jax.Array) -> jax.Array:
    """log(left + e^others / e^x), where `left` is what is left of e^x itself, at most 1."""
    return jnp.log(left) + log_quotient(others, Sum(x, left, jnp.zeros_like(x)))


def _costs_in_order(given: Cohort, efron: bool) -> jax.Array:
    """The terms of all events, from sums along the order of the times."""
    place = positions(given.scores)
    size = place.shape[-1]
    keys = [given.times, (~given.happened).astype(jnp.int32)]
    keys = keys if given.strata is None else [given.strata, *keys]
    # At one time the events come first: censored examples of that time are still at risk.
    *ordered, order = jax.lax.sort((*keys, place), num_keys=len(keys))
    x, there, happened = (entries(y, order) for y in (given.scores, given.there, given.happened))

    def differs(parts: list[jax.Array]) -> jax.Array:
        """Whether one differs from the one before it."""
        changes = [y[:, 1:] != y[:, :-1] for y in parts]
        first = jnp.ones_like(there[:, :1])
        return jnp.concatenate([first, jnp.any(jnp.stack(changes), 0)], -1)

    def last(first: jax.Array) -> jax.Array:
        return jnp.concatenate([first[:, 1:], jnp.ones_like(first[:, :1])], -1)

    first = differs(ordered)
    begins = place == 0 if given.strata is None else differs(ordered[:1])
    start = jax.lax.cummax(jnp.where(first, place, 0), 1)
    end = jax.lax.cummin(jnp.where(last(first), place + 1, size), 1, reverse=True)
    one = exponentials(x, there)
    # Of those that have their event at the same time, in front of each and behind it, and of all
    # from each on.
    marks = [first, _flipped(last(first)), _flipped(last(begins))]
    terms = jax.tree.map(lambda *y: jnp.stack(y), one, _flipped(one), _flipped(one))
    sums = _running(terms, jnp.stack(marks))
    front, behind, from_here = (Sum(*(y[i] for y in sums)) for i in range(3))
    tied = added(_before(front, first), _flipped(_before(behind, marks[1])))
    from_here = _flipped(from_here)
    following = jnp.minimum(end, size - 1)
    later = Sum(*(entries(y, following) for y in from_here))
    later = only((end < size) & ~entries(begins, following), later)
    left = _left(place - start, end - start, given.dtype) if efron else jnp.ones_like(x)
    tied = tied._replace(lead=left * tied.lead, rest=left * tied.rest)
    costs = _cost(x, added(later, tied), left)
    return jnp.where(happened, costs, 0)


def _left(number: jax.Array, of: jax.Array, dtype: Any) -> jax.Array:
    """Of those whose events are tied what is left, on average, at the event of this number."""
    # Of what is no event, 1.
    return jnp.where(of > 0, (of - number).astype(dtype) / jnp.maximum(of, 1).astype(dtype), 1)


def _costs_of_pairs(given: Cohort, efron: bool) -> jax.Array:
    """The terms of all events, each from its own risk set: entry times cut both ends of a sum."""
    strata = jnp.zeros_like(given.times) if given.strata is None else given.strata
    place = positions(given.scores)
    of_all = (given.scores, given.times, given.happened, strata, place)

    def costs(events: Any) -> jax.Array:
        """Those of some `[cohorts, events]`."""
        x, times, happened, strata, number = (y[:, :, None] for y in events)
        others, theirs, theirs_happened, stratum, place = (y[:, None, :] for y in of_all)
        entered = jnp.asarray(given.entry_times)[:, None, :] < times
        at_risk = given.there[:, None, :] & entered & (theirs >= times) & (stratum == strata)
        tied = at_risk & theirs_happened & (theirs == times)
        at_risk &= place != number
        number_tied = jnp.sum(tied & (place < number), -1, dtype=jnp.int32)
        size_of_tie = jnp.sum(tied, -1, dtype=jnp.int32)
        left = _left(number_tied, jnp.where(happened[..., 0], size_of_tie, 0), given.dtype)
        left = left if efron else jnp.ones_like(left)
        weights = jnp.where(at_risk, jnp.where(tied, left[..., None], 1), 0)
        exponents = jnp.broadcast_to(others, weights.shape)
        return jnp.where(
            happened[..., 0], _cost(x[..., 0], sum_along(exponents, weights, 2), left), 0
        )

    return in_blocks(costs, of_all)


@jit("ties")
def cox_partial_likelihood(
    log_hazards: Scores,
    times: Times,
    events: Events,
    *,
    entry_times: Times | None = None,
    strata: Strata = None,
    ties: Literal["efron", "breslow"] = "efron",
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Negative log partial likelihood of Cox's model of proportional hazards.

        sum over i with an event of
            log(sum over j with t_j >= t_i of e^s_j) - s_i

    the negative logarithm of the probability that i, of all who are at risk at its time, is the
    one that has the event, if e^s is to the hazard of each as its factor. Only the order of the
    times matters, and no common offset of the s.

    Events at the same time t, d of them, are either each compared with all at risk ("breslow"), or
    the k-th, k = 0, 1, ..., d - 1, with a sum in which these d count (1 - k/d) ("efron", closer to
    the likelihood of times that are tied by rounding). An example that is censored at t is still at
    risk at t.

    Args:
        log_hazards: s, `[..., examples]`: each row is a cohort, whose examples are at risk
            together.
        times: t, of that shape: when the event happened, or until when it had not; any numbers, in
            any order. float32 and int32 times are compared in their own dtype.
        events: Of that shape: true or 1 for an event, false or 0 if the example was censored; NaN
            for a cohort with any other number.
        entry_times: Of that shape and of the dtype of `times`: j is at risk at t_i only if its
            entry time is below t_i (left truncation), below its own time too, or the loss of the
            cohort is NaN. Risk sets are then summed one by one, in blocks: N^2 steps in memory of
            N. None if all are at risk from the start.
        strata: Of that shape, integers: only examples of one stratum are at risk together. None for
            one stratum.
        ties: "efron" or "breslow".
        where: Of the shape of `log_hazards`, which examples are there, in risk sets too; of a rank
            less, which cohorts.
        weights: Of whole cohorts; see `jaxloss.reduce`. Those of examples are refused.
        reduction: See `jaxloss.reduce`. The mean is that over events: the sum of the losses divided
            by how many events there are. A cohort without events costs 0 and counts nothing.

    Returns:
        One loss per cohort, the sum over its events: the shape of `log_hazards` without its last
        axis, so a scalar of one cohort. Of minibatches, each a cohort of its own, the sum is not
        the loss of the whole.

    Raises:
        TypeError: If `strata` are no integers, or `entry_times` differ from `times` in their dtype.
        ValueError: If the shapes differ, if `weights` are of examples, or if times or strata hold
            integers that JAX would wrap.

    Reference:
        Cox, "Regression models and life-tables", 1972; Breslow, "Covariance analysis of censored
        survival data", 1974; Efron, "The efficiency of Cox's likelihood function for censored
        data", 1977.

    Example:
        >>> log_hazards = jnp.array([0.0, 1.0, 0.0, 2.0])
        >>> times, events = jnp.array([5.0, 2.0, 2.0, 9.0]), jnp.array([True, True, True, False])
        >>> cox_partial_likelihood(log_hazards, times, events, reduction="mean")
        Array(1.9826139, dtype=float32)
    """
    inputs.one_of("ties", ties, ("efron", "breslow"))
    request = Request(where, weights, reduction)
    given = cohort(
        "log_hazards",
        log_hazards,
        times,
        events,
        request,
        entry_times=entry_times,
        strata=strata,
    )
    form = _costs_in_order if given.entry_times is None else _costs_of_pairs
    losses = jnp.sum(form(given, ties == "efron"), -1)
    return given.reduced(losses, counted=jnp.sum(given.happened, -1, dtype=jnp.int32))
