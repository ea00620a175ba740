"""The oracles of ensembles and intervals against integrals, SciPy and NumPy's float64."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from mpmath import mp

from tests.ensemble import oracles
from tests.laws.precise import exact, mpf, near, total

scipy_stats = pytest.importorskip("scipy.stats")

MEMBERS, TARGET = [1.5, -0.25, 0.75, 0.75, 3.0], 0.5
KINDS = ("fair", "almost_fair", "biased")


def integral(members: list[float], target: float, low: float = -9.0, high: float = 9.0) -> float:
    """Of the squared distance between two distribution functions, both of which are steps."""
    places = sorted({low, high, *(x for x in (*members, target) if low < x < high)})
    found = 0.0
    for left, right in itertools.pairwise(places):
        middle = (left + right) / 2
        share = np.mean(np.array(members) <= middle) - (target <= middle)
        found += float((right - left) * share**2)
    return found


def test_biased_is_the_integral() -> None:
    for low, high in ((-9.0, 9.0), (0.0, 1.0), (-9.0, 0.6)):
        options = {"lower": mp.mpf(low), "upper": mp.mpf(high)}
        found = oracles.crps_ensemble(mpf(MEMBERS), mp.mpf(TARGET), kind="biased", **options)
        assert total(found) == near(integral(MEMBERS, TARGET, low, high))


def test_biased_is_half_the_energy_distance_of_scipy() -> None:
    """SciPy has the square root of twice the integral."""
    found = oracles.crps_ensemble(mpf(MEMBERS), mp.mpf(TARGET), kind="biased")
    assert total(found) == near(scipy_stats.energy_distance(MEMBERS, [TARGET]) ** 2 / 2)


def test_fair_is_a_mean_over_pairs_of_members() -> None:
    """Of ensembles of two, each without the bias of the other members."""
    pairs = [(a, b) for i, a in enumerate(MEMBERS) for b in MEMBERS[:i]]
    each = [abs(a - TARGET) / 2 + abs(b - TARGET) / 2 - abs(a - b) / 2 for a, b in pairs]
    found = oracles.crps_ensemble(mpf(MEMBERS), mp.mpf(TARGET), kind="fair")
    assert total(found) == near(np.mean(each))
    mixed = oracles.crps_ensemble(mpf(MEMBERS), mp.mpf(TARGET), kind="almost_fair", alpha=0.25)
    biased = oracles.crps_ensemble(mpf(MEMBERS), mp.mpf(TARGET), kind="biased")
    assert total(mixed) == near(0.25 * np.mean(each) + 0.75 * total(biased))


@pytest.mark.parametrize("kind", KINDS)
def test_energy(kind: str) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(5, 3)), rng.normal(size=3)
    between = np.linalg.norm(x[:, None] - x, axis=-1).sum()
    to_target = np.linalg.norm(x - y, axis=-1).mean()
    biased, fair = (to_target - between / (2 * n) for n in (25, 20))
    expected = {"fair": fair, "almost_fair": 0.75 * fair + 0.25 * biased, "biased": biased}[kind]
    found = oracles.energy_score(exact(x), exact(y), kind=kind, alpha=mp.mpf("0.75"))
    assert total(found) == near(expected)
    # Of one number it is the CRPS.
    one = oracles.energy_score([[a] for a in mpf(MEMBERS)], [mp.mpf(TARGET)], kind=kind)
    assert total(one) == near(total(oracles.crps_ensemble(mpf(MEMBERS), mp.mpf(TARGET), kind=kind)))


@pytest.mark.parametrize("target", [-2.0, 0.0, 3.0])
def test_intervals(target: float) -> None:
    """As they are written in their papers: a width and two misses; crossed too."""
    low, high, alpha = [-1.0, -0.5, 1.0], [1.0, 2.0, 0.25], [0.1, 0.5, 0.9]
    scores = []
    for a, b, share in zip(low, high, alpha, strict=True):
        beyond = max(a - target, 0) + max(target - b, 0)
        scores.append(b - a + 2 / share * beyond)
        found = oracles.interval_score(*mpf([a, b, target]), alpha=mp.mpf(share))
        assert total(found) == near(scores[-1])
    weighted = abs(target - 0.3) / 2 + np.dot(np.array(alpha) / 2, scores)
    ends = [mpf(low), mpf(high), mp.mpf("0.3"), mp.mpf(target), mpf(alpha)]
    assert total(oracles.weighted_interval_score(*ends)) == near(weighted / 3.5)
