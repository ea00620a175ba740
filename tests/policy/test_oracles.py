"""The exact forms against other people's float64: SciPy, and formulas of trainers in NumPy.

rlax is not installed: its formulas are restated here.
"""

from __future__ import annotations

import numpy as np
from scipy.special import softmax as scipy_softmax
from scipy.stats import entropy

from tests.laws import oracle

RNG = np.random.default_rng(5)
TIGHT = 1e-12


def exactly(name: str, *row: object, **options: object) -> float:
    return float(oracle.value(name, row, options)[0])


def test_ppo_is_the_smaller_of_two_gains() -> None:
    """rlax's `clipped_surrogate_pg_loss`, of a ratio; and a dual clip as published."""
    for p, q, a in RNG.normal(0, 1, (40, 3)):
        ratio = np.exp(p - q)
        gain = min(ratio * a, np.clip(ratio, 0.8, 1.2) * a)
        assert np.isclose(exactly("ppo_loss", p, q, a, clip=0.2), -gain, rtol=TIGHT)
        dual = max(gain, 2 * a) if a < 0 else gain
        found = exactly("ppo_loss", p, q, a, clip=0.2, dual_clip=2.0)
        assert np.isclose(found, -dual, rtol=TIGHT)


def test_estimates_of_divergences() -> None:
    for p, q in RNG.normal(0, 1, (20, 2)):
        d = q - p
        for kind, expected in (("k1", -d), ("k2", d * d / 2), ("k3", np.expm1(d) - d)):
            assert np.isclose(exactly("kl_estimate", p, q, kind=kind), expected, rtol=1e-9)


def test_values_are_clipped_as_in_the_first_implementation() -> None:
    for v, r, old in RNG.normal(0, 1, (40, 3)):
        near = old + np.clip(v - old, -0.3, 0.3)
        expected = 0.5 * max((v - r) ** 2, (near - r) ** 2)
        assert np.isclose(exactly("value_loss", v, r, old, clip=0.3), expected, rtol=TIGHT)


def test_entropy_is_that_of_scipy() -> None:
    for logits in RNG.normal(0, 3, (20, 6)):
        expected = -entropy(scipy_softmax(logits))
        assert np.isclose(exactly("entropy_loss", logits), expected, rtol=TIGHT)


def test_quantile_huber_is_that_of_rlax_over_delta() -> None:
    """`quantile_regression_loss` of rlax with a Huber parameter, which it does not divide by."""
    for row in RNG.normal(0, 1, (20, 10)):
        p, t, delta = row[:5], row[5:], 0.7
        u = t[None, :] - p[:, None]
        size = np.abs(u)
        near = np.minimum(size, delta)
        huber = 0.5 * near**2 + delta * (size - near)
        weight = np.abs((np.arange(5) + 0.5)[:, None] / 5 - (u < 0))
        expected = np.sum(np.mean(weight * huber, -1)) / delta
        assert np.isclose(exactly("quantile_huber_loss", p, t, delta=delta), expected, rtol=TIGHT)
