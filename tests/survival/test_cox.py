"""`cox_partial_likelihood`: values by hand and by brute force, what it refuses, its memory."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxloss
from jaxloss import cox_partial_likelihood
from tests.laws.values import EPS

TIES = ("efron", "breslow")


def brute(
    scores: Any, times: Any, events: Any, ties: str, entry: Any = None, strata: Any = None
) -> tuple[float, np.ndarray]:
    """The loss and its gradient from sums over risk sets in float64, as the papers have them."""
    s = np.asarray(scores, np.float64)
    entry = np.full(len(s), -np.inf) if entry is None else np.asarray(entry)
    strata = np.zeros(len(s)) if strata is None else np.asarray(strata)
    loss, slopes, sizes = 0.0, np.zeros(len(s)), np.exp(s - s.max())
    for stratum in np.unique(strata):
        own = strata == stratum
        for time in np.unique(times[own & events]):
            risk = own & (times >= time) & (entry < time)
            dead = own & events & (times == time)
            count = dead.sum()
            for k in range(count):
                part = k / count if ties == "efron" else 0.0
                weighed = sizes * risk - part * sizes * dead
                loss += np.log(weighed.sum()) + s.max()
                slopes += weighed / weighed.sum()
            loss -= s[dead].sum()
            slopes -= dead
    return loss, slopes


def drawn(size: int, spread: float, seed: int = 0) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    scores = rng.normal(0, spread, size).astype(np.float32)
    times = rng.integers(1, max(2, size // 4), size).astype(np.float32)
    return scores, times, rng.uniform(size=size) < 0.6


@pytest.mark.parametrize("ties", TIES)
@pytest.mark.parametrize("form", ["", "strata", "entry_times"])
def test_is_the_sum_over_risk_sets(ties: Any, form: str) -> None:
    """The form of sums in order, with and without strata, and the form of pairs."""
    scores, times, events = drawn(60, 2.0)
    rng = np.random.default_rng(1)
    side: Any = {
        "": None,
        "strata": rng.integers(0, 3, 60),
        "entry_times": (times - rng.integers(1, 8, 60)).astype(np.float32),
    }[form]
    loss = functools.partial(cox_partial_likelihood, ties=ties, **({form: side} if form else {}))
    value, slopes = jax.jit(jax.value_and_grad(loss))(scores, times, events)
    given = {form.removesuffix("_times"): side} if form else {}
    expected, wanted = brute(scores, times, events, ties, **given)
    np.testing.assert_allclose(value, expected, rtol=4 * EPS)
    np.testing.assert_allclose(slopes, wanted, atol=32 * EPS)


def test_by_hand() -> None:
    """Two events at time 2 among all four, one at time 5 among two."""
    scores, times = jnp.log(jnp.array([1.0, 2.0, 3.0, 4.0])), jnp.array([5.0, 2.0, 2.0, 9.0])
    events = jnp.array([1, 1, 1, 0])
    breslow = np.log(10 / 2 * 10 / 3 * 5 / 1)
    efron = np.log(10 / 2 * (10 - 5 / 2) / 3 * 5 / 1)
    for ties, expected in zip(TIES, (efron, breslow), strict=True):
        loss = functools.partial(cox_partial_likelihood, scores, times, events, ties=ties)
        np.testing.assert_allclose(loss(), expected, rtol=4 * EPS)
        np.testing.assert_allclose(loss(reduction="mean"), expected / 3, rtol=4 * EPS)
    mean = jaxloss.Mean.of(cox_partial_likelihood, scores, times, events)
    np.testing.assert_allclose([mean.total, mean.weight], [efron, 3], rtol=4 * EPS)


def test_spread_of_60_with_ties() -> None:
    """A sum in the order of times alone, as peers have it, is wrong with ties."""
    scores, times, events = drawn(200, 20.0)
    for ties in TIES:
        value, slopes = jax.value_and_grad(cox_partial_likelihood)(scores, times, events, ties=ties)
        expected, wanted = brute(scores, times, events, ties)
        np.testing.assert_allclose(value, expected, rtol=4 * EPS)
        np.testing.assert_allclose(slopes, wanted, atol=64 * EPS)
    order = np.argsort(-times, kind="stable")
    naive = np.log(np.cumsum(np.exp(np.float64(scores[order])))) - scores[order]
    breslow = brute(scores, times, events, "breslow")[0]
    assert abs(naive[events[order]].sum() - breslow) > 1e-3 * breslow


def test_pairs_in_blocks() -> None:
    """More examples than pairs fit in one block; entry times that exclude nobody change nothing."""
    scores, times, events = drawn(1100, 3.0)
    strata = np.arange(1100) % 2
    loss = functools.partial(cox_partial_likelihood, strata=strata)
    entry = np.full(1100, -1, np.float32)
    pairs = jax.value_and_grad(functools.partial(loss, entry_times=entry))
    expected, wanted = jax.value_and_grad(loss)(scores, times, events)
    value, slopes = pairs(scores, times, events)
    np.testing.assert_allclose(value, expected, rtol=8 * EPS)
    np.testing.assert_allclose(slopes, wanted, atol=256 * EPS)


def temporary(size: int, **options: Any) -> int:
    """The bytes that value and gradient need beside what goes in and comes out."""
    shape = jax.ShapeDtypeStruct((size,), jnp.float32)
    given = [shape, shape, jax.ShapeDtypeStruct((size,), bool)]
    function = jax.value_and_grad(functools.partial(cox_partial_likelihood, **options))
    compiled = jax.jit(function).lower(*given).compile()
    memory: Any = compiled.memory_analysis()
    return memory.temp_size_in_bytes


def test_no_array_of_all_pairs() -> None:
    assert temporary(4096) < 200 * 4 * 4096 < 4096**2
    entry = jnp.zeros(4096)
    assert temporary(4096, entry_times=entry) < 4 * 4096**2


def test_nothing_happened() -> None:
    times, events = jnp.arange(3.0), jnp.zeros(3, bool)
    mean = functools.partial(cox_partial_likelihood, reduction="mean")
    value, slopes = jax.value_and_grad(mean)(jnp.arange(3.0), times, events)
    assert value == 0
    assert not np.any(slopes)
    both = jnp.stack([events, ~events])
    scores = jnp.stack([jnp.arange(3.0)] * 2)
    alone = mean(scores[1], times, ~events)
    np.testing.assert_allclose(mean(scores, jnp.stack([times] * 2), both), alone, rtol=2 * EPS)


def test_a_cohort_without_events_and_a_nan() -> None:
    """Its NaN is not hidden because it counts no events."""
    loss = functools.partial(cox_partial_likelihood, reduction="mean")
    scores = jnp.array([jnp.nan, 0.0])
    assert np.isnan(loss(scores, jnp.arange(2.0), jnp.zeros(2, bool)))
    assert np.isnan(loss(jnp.zeros(2), jnp.array([1.0, jnp.nan]), jnp.ones(2, bool)))


def test_only_order_and_differences_matter() -> None:
    scores, times, events = drawn(50, 2.0)
    expected = cox_partial_likelihood(scores, times, events)
    assert cox_partial_likelihood(scores, np.exp(times / 4) - 9, events) == expected
    assert cox_partial_likelihood(
        scores, np.where(times == times.max(), np.inf, times), events
    ) == (expected)
    order = np.random.default_rng(2).permutation(50)
    moved = cox_partial_likelihood(scores[order], times[order], events[order])
    np.testing.assert_allclose(moved, expected, rtol=4 * EPS)
    np.testing.assert_allclose(
        cox_partial_likelihood(scores + 64, times, events), expected, rtol=1e-4
    )
    slopes = jax.grad(cox_partial_likelihood)(scores, times, events)
    np.testing.assert_allclose(np.sum(slopes), 0, atol=50 * EPS)


def test_times_that_float32_would_tie() -> None:
    """int32 times are not cast: 2^24 and 2^24 + 1 are two times."""
    scores, events = jnp.array([0.0, 3.0]), jnp.array([False, True])
    times = jnp.array([2**24, 2**24 + 1])
    assert cox_partial_likelihood(scores, times, events) == 0
    assert cox_partial_likelihood(scores, times[::-1], events) > 0


def test_late_entrants_are_not_at_risk() -> None:
    scores, times = jnp.array([0.0, 50.0]), jnp.array([1.0, 2.0])
    loss = functools.partial(cox_partial_likelihood, scores, times, jnp.array([True, False]))
    np.testing.assert_allclose(loss(entry_times=jnp.array([0.0, 0.5])), 50.0)
    # Who enters at the time of the event has not been at risk before it.
    assert loss(entry_times=jnp.array([0.0, 1.0])) == 0
    assert np.isnan(loss(entry_times=jnp.array([0.0, 2.0])))


WRONG: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "ties": ({"ties": "exact"}, ValueError, "ties must be one of 'efron', 'breslow'"),
    "weights": ({"weights": jnp.ones(3)}, ValueError, "weights must be those of whole cohorts"),
    "strata": ({"strata": jnp.zeros(3)}, TypeError, "strata must be integers, got strata float32"),
    "entry": ({"entry_times": jnp.zeros(3, int)}, TypeError, "must have the dtype of times"),
    "shape": ({"strata": jnp.zeros((3, 1), int)}, ValueError, "expected equal shapes"),
    "wide": ({"strata": np.array([2**40, 0, 0])}, ValueError, "int32 cannot tell apart"),
}


@pytest.mark.parametrize("name", WRONG)
def test_refusals(name: str) -> None:
    options, error, message = WRONG[name]
    with pytest.raises(error, match=message):
        cox_partial_likelihood(jnp.zeros(3), jnp.arange(3.0), jnp.ones(3, bool), **options)
