"""Likelihoods: a predicted distribution and what was observed."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np

import jaxloss
from tests.laws import oracle
from tests.laws.case import COUNT, LOGARITHM, MODERATE, NON_NEGATIVE, POSITIVE, REAL, Case, equal
from tests.likelihood import density_cases

DEGREES = dataclasses.replace(MODERATE, infinite=(np.inf,))
BOUND = dataclasses.replace(REAL, edges=(), infinite=(), whole=None)


def bounds(rng: np.random.Generator, shape: tuple[int, ...]) -> list[np.ndarray]:
    """Locations, bounds of intervals of which a third each is open on a side, and scales."""
    location = rng.normal(0, 2, shape)
    # Each lower bound is below all upper ones.
    lower, upper = rng.uniform(-3, -0.1, shape), rng.uniform(0.1, 3, shape)
    kind = rng.permuted(np.arange(lower.size) % 3).reshape(shape)
    lower, upper = np.where(kind == 1, -np.inf, lower), np.where(kind == 2, np.inf, upper)
    return [location, lower, upper, rng.uniform(0.3, 3, shape)]


def far_bounds(seed: int, lowest: float, highest: float) -> list[tuple[Any, ...]]:
    """Ordinary intervals; narrow, wide and open ones anywhere from a tail to the other."""
    rng = np.random.default_rng(seed)
    ordinary = list(zip(*(x.tolist() for x in bounds(rng, (24,))), strict=True))
    found = []
    for _ in range(40):
        location = rng.choice([0.0, 0.3, -17.0, 1e5, 1e-12])
        scale = rng.choice([1e-3, 0.3, 1.0, 2.5, 1e5])
        start = rng.uniform(lowest, highest)
        lower = np.float32(location + scale * start)
        upper = np.float32(lower + scale * rng.choice([1e-6, 1e-3, 0.1, 1.0, 5.0, 14.0, np.inf]))
        if rng.uniform() < 0.2:
            lower, upper = -np.inf, lower
        if lower < upper:
            found.append((location, lower, upper, scale))
    return [tuple(row) for row in np.array([*ordinary, *found], np.float32).tolist()]


def untold(
    location: float,
    lower: float,
    upper: float,
    scale: float,
    *,
    truncation_lower: float = -np.inf,
    truncation_upper: float = np.inf,
) -> bool:
    outside = upper <= truncation_lower or lower >= truncation_upper
    # Of a truncation far narrower than the scale: log(B - A) - log(scale) has no mixed derivative,
    # and the terms that cancel in it are 1e8 times what the density adds.
    return outside or (np.isfinite(truncation_upper - truncation_lower) and scale > 1e3)


def pull_of_the_gap(row: Any, options: Any, place: Any) -> float | None:
    """What the width of an interval adds to the slope in the scale; the rest may cancel it."""
    if place != 3:
        return None
    name, (location, lower, upper, scale) = "censored_nll_loss", row
    kind = {"kind": options.get("kind", "normal")}
    low, high = (
        options.get(f"truncation_{x}", y) for x, y in (("lower", -np.inf), ("upper", np.inf))
    )
    sizes = [abs(oracle.derivative(name, row, options, 3)[1])]
    for a, b in ((max(lower, low), min(upper, high)), (low, high)):
        if np.isfinite(b - a) and a < b:
            of_upper = oracle.derivative(name, (location, a, b, scale), kind, 2)[1]
            sizes.append(of_upper * (b - a) / scale)
    return float(max(sizes))


CASES = [
    Case(
        jaxloss.gaussian_nll_loss,
        data=(REAL, REAL, POSITIVE),
        variants=[{"full": True}, {"eps": 0.5}],
        optional_targets=False,
        zero_when_exact=False,
        outside=[(2, -1.0), ("eps", -1.0)],
    ),
    Case(
        jaxloss.beta_nll_loss,
        data=(REAL, REAL, POSITIVE),
        options={"beta": 0.3},
        variants=[{"beta": 0.5}, {"beta": 1.0}],
        optional_targets=False,
        zero_when_exact=False,
        outside=[(2, -1.0)],
        not_differentiated={"beta": "the paper holds the weight v^beta constant"},
        not_numerical="the paper's gradient holds v^beta constant, a difference does not",
    ),
    Case(
        jaxloss.laplace_nll_loss,
        data=(REAL, REAL, POSITIVE),
        kink=equal,
        stated=[((2.0, 2.0, 0.5), {}, (0.0, 0.0))],
        optional_targets=False,
        zero_when_exact=False,
        outside=[(2, -1.0)],
    ),
    Case(
        jaxloss.student_t_nll_loss,
        data=(REAL, REAL, POSITIVE, DEGREES),
        optional_targets=False,
        zero_when_exact=False,
        outside=[(2, 0.0), (2, -1.0), (3, 0.0), (3, -1.0)],
        edges=60,
    ),
    Case(
        jaxloss.gaussian_crps,
        data=(REAL, REAL, NON_NEGATIVE),
        kink=lambda p, t, scale: scale == 0 and p == t,
        stated=[((2.0, 2.0, 0.0), {}, (0.0, 0.0))],
        optional_targets=False,
        zero_when_exact=False,
        outside=[(2, -1.0)],
    ),
    Case(
        jaxloss.poisson_nll_loss,
        data=(LOGARITHM, COUNT),
        variants=[{"full": True}],
        optional_targets=False,
        zero_when_exact=False,
        outside=[(1, -1.0)],
    ),
    Case(
        jaxloss.gamma_nll_loss,
        data=(LOGARITHM, POSITIVE),
        optional_targets=False,
        zero_when_exact=False,
        outside=[(1, 0.0), (1, -1.0)],
    ),
    Case(
        jaxloss.tweedie_loss,
        branches=("power",),
        data=(LOGARITHM, NON_NEGATIVE),
        options={"power": 1.3},
        variants=[{"power": p} for p in (-0.7, 0.0, 0.3, 1.0, 1.5, 1.9, 2.0, 2.6, 3.0)],
        optional_targets=False,
        zero_when_exact=False,
        outside=[(1, -1.0)],
    ),
    Case(
        jaxloss.negative_binomial_nll_loss,
        data=(LOGARITHM, COUNT, MODERATE),
        optional_targets=False,
        zero_when_exact=False,
        outside=[(1, -1.0), (2, -1.0)],
        edges=60,
    ),
    Case(
        jaxloss.censored_nll_loss,
        data=(REAL, BOUND, BOUND, POSITIVE),
        variants=[{"truncation_lower": -5.0}, {"truncation_lower": -5.0, "truncation_upper": 4.0}],
        # Outside it is NaN; the oracle takes an infinite bound for a constant.
        no_hessian=untold,
        largest=pull_of_the_gap,
        together=bounds,
        points=functools.partial(far_bounds, lowest=-13, highest=13),
        optional_targets=False,
        zero_when_exact=False,
        outside=[(3, 0.0), (3, -1.0), (1, np.inf), (2, -np.inf)],
    ),
    *density_cases.CASES,
]

# The same losses of a mean instead of its logarithm: the laws that differ are those of accuracy.
VARIATIONS = [
    *density_cases.VARIATIONS,
    Case(
        jaxloss.poisson_nll_loss,
        data=(NON_NEGATIVE, COUNT),
        options={"log_input": False},
        variants=[{"log_input": False, "eps": 1e-3}],
        outside=[(0, -1.0), (1, -1.0)],
    ),
    Case(
        jaxloss.gamma_nll_loss,
        data=(POSITIVE, POSITIVE),
        options={"log_input": False},
        outside=[(0, -1.0), (1, 0.0), (1, -1.0)],
    ),
    Case(
        jaxloss.tweedie_loss,
        branches=("power",),
        data=(POSITIVE, NON_NEGATIVE),
        options={"log_input": False, "power": 1.3},
        variants=[{"log_input": False, "power": p} for p in (-0.7, 0.0, 0.3, 1.0, 1.5, 2.0, 2.6)],
        outside=[(0, -1.0), (1, -1.0)],
    ),
    Case(
        jaxloss.negative_binomial_nll_loss,
        data=(POSITIVE, COUNT, MODERATE),
        options={"log_input": False},
        outside=[(0, -1.0), (1, -1.0), (2, -1.0)],
        edges=60,
    ),
    Case(
        jaxloss.censored_nll_loss,
        data=(REAL, BOUND, BOUND, POSITIVE),
        options={"kind": "logistic"},
        together=bounds,
        points=functools.partial(far_bounds, lowest=-80, highest=80),
        outside=[(3, 0.0), (3, -1.0), (1, np.inf), (2, -np.inf)],
    ),
    Case(
        jaxloss.censored_nll_loss,
        data=(REAL, BOUND, BOUND, POSITIVE),
        options={"kind": "gumbel"},
        largest=pull_of_the_gap,
        together=bounds,
        points=functools.partial(far_bounds, lowest=-80, highest=4),
        outside=[(3, 0.0), (3, -1.0), (1, np.inf), (2, -np.inf)],
    ),
]
