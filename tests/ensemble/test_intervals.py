"""Scores of intervals: values by hand, quantile losses, formulas of peers in float64, masks."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxloss import (
    crps_ensemble,
    gaussian_crps,
    interval_score,
    quantile_loss,
    weighted_interval_score,
)
from tests.laws.values import EPS, Row, check, double, evaluated, row_id, single

ROWS: list[Row] = [
    (interval_score, (1, 3, 2), {"alpha": 0.5}, 2, -1),
    (interval_score, (1, 3, 0), {"alpha": 0.5}, 6, 3),
    (interval_score, (1, 3, 4), {"alpha": 0.1}, 22, -1),
    (interval_score, (1, 3, 0), {"alpha": 1.0}, 4, 1),
    # At an end.
    (interval_score, (1, 3, 1), {"alpha": 0.5}, 2, 0),
    # Crossed: 3 above 1, each as the quantile that it is.
    (interval_score, (3, 1, 2), {"alpha": 0.5}, 6, 3),
    (interval_score, (3, 1, 0), {"alpha": 0.5}, 10, 3),
    (interval_score, (1, 3, np.inf), {"alpha": 0.5}, np.inf, -1),
    (interval_score, (-np.inf, 3, 2), {"alpha": 0.5}, np.inf, -1),
]


@pytest.mark.parametrize("row", ROWS, ids=row_id)
def test_by_hand(row: Row) -> None:
    check(row)


def test_weighted_by_hand() -> None:
    """(|4.5 - 3| / 2 + 0.05 * 4 + 0.25 * (2 + 4 * 0.5)) / 2.5."""
    data = single([1.0, 2.0]), single([5.0, 4.0]), np.float32(3.0), np.float32(4.5)
    alpha = single([0.1, 0.5])
    loss, slopes = evaluated(weighted_interval_score, *data, alpha, wrt=(0, 1, 2, 3))
    np.testing.assert_allclose(loss, 0.78, rtol=1e-6)
    expected = [-0.02, -0.1], [0.02, -0.3], -0.2, 0.6
    for found, slope in zip(slopes, expected, strict=True):
        np.testing.assert_allclose(found, slope, rtol=1e-6)


@pytest.fixture(scope="module")
def drawn() -> list[np.ndarray]:
    """Lower and upper ends of five intervals, some of which have crossed, medians and targets."""
    rng = np.random.default_rng(0)
    low, high = rng.normal(-1, 1, (64, 5)), rng.normal(1, 1, (64, 5))
    return list(map(single, (low, high, rng.normal(size=64), rng.normal(0, 2, 64))))


ALPHA = single([0.02, 0.1, 0.3, 0.5, 0.9])


def winkler(low: Any, high: Any, y: Any, alpha: Any) -> Any:
    """As its papers and scoringrules write it, in float64."""
    low, high, y, alpha = map(double, (low, high, y, alpha))
    beyond = np.maximum(low - y, 0) + np.maximum(y - high, 0)
    return high - low + 2 / alpha * beyond


def test_the_formulas_of_peers(drawn: Any) -> None:
    low, high, m, y = drawn
    found = interval_score(low, high, np.repeat(y[:, None], 5, 1), alpha=ALPHA)
    wanted = winkler(low, high, y[:, None], ALPHA)
    largest = np.abs(low) + np.abs(high) + np.abs(wanted)
    assert np.all(np.abs(found - wanted) <= 8 * EPS * largest)
    weighted = 0.5 * np.abs(double(m) - y) + (0.5 * double(ALPHA) * wanted).sum(-1)
    # To 16 eps of the result, whose terms are of one sign.
    found = weighted_interval_score(low, high, m, y, ALPHA)
    np.testing.assert_allclose(found, weighted / 5.5, rtol=16 * EPS)


def test_an_interval_is_two_quantiles(drawn: Any) -> None:
    """Crossed or not: value and gradient."""
    low, high, _, y = drawn
    y = np.repeat(y[:, None], 5, 1)
    score, slopes = evaluated(interval_score, low, high, y, wrt=(0, 1, 2), alpha=ALPHA)

    def quantiles(low: Any, high: Any, y: Any) -> Any:
        lower = quantile_loss(low, y, quantile=ALPHA / 2)
        return 2 / ALPHA[None] * (lower + quantile_loss(high, y, quantile=1 - ALPHA / 2))

    losses, back = jax.vjp(quantiles, low, high, y)
    np.testing.assert_allclose(score, losses, rtol=1e-5)
    assert np.any(low > high)
    assert np.all(np.asarray(score) >= 0)
    for found, expected in zip(slopes, back(jnp.ones_like(losses)), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_weighted_is_twice_the_mean_quantile_loss(drawn: Any) -> None:
    low, high, m, y = drawn
    score, slopes = evaluated(weighted_interval_score, low, high, m, y, ALPHA, wrt=(0, 1, 2, 3))
    levels = np.concatenate([ALPHA / 2, 1 - ALPHA / 2, [0.5]]).astype(np.float32)

    def mean(low: Any, high: Any, m: Any, y: Any) -> Any:
        quantiles = jnp.concatenate([low, high, m[:, None]], -1)
        return 2 * jnp.mean(quantile_loss(quantiles, y, quantile=levels), -1)

    losses, back = jax.vjp(mean, low, high, m, y)
    np.testing.assert_allclose(score, losses, rtol=16 * EPS)
    for found, expected in zip(slopes, back(jnp.ones_like(losses)), strict=True):
        np.testing.assert_allclose(found, expected, atol=16 * EPS)


def test_many_intervals_are_the_crps() -> None:
    """Of the quantiles of a Gaussian, equally spaced: 2 K + 1 of them, an error of 1 / K^2."""
    count = 200
    level = np.arange(1, 2 * count + 2) / (2 * count + 2)
    quantiles = np.sqrt(2) * np.asarray(jax.scipy.special.erfinv(2 * level - 1))
    low, high = quantiles[:count], quantiles[:count:-1]
    alpha = 2 * level[:count]
    found = weighted_interval_score(single(low), single(high), 0.0, 0.7, single(alpha))
    np.testing.assert_allclose(found, gaussian_crps(0.0, 0.7, 1.0), rtol=0.01)


def test_an_ensemble_is_its_quantiles() -> None:
    """The biased score of M members is that of them as quantiles of levels (k - 1/2) / M."""
    rng = np.random.default_rng(2)
    members, y = np.sort(single(rng.normal(size=(16, 9))), -1), single(rng.normal(0, 2, 16))
    alpha = single(2 * (np.arange(1, 5) - 0.5) / 9)
    found = weighted_interval_score(members[:, :4], members[:, :4:-1], members[:, 4], y, alpha)
    expected = crps_ensemble(members, y, kind="biased")
    np.testing.assert_allclose(found, expected, rtol=16 * EPS)


def test_masked_intervals_are_absent(drawn: Any) -> None:
    low, high, m, y = drawn
    keep = np.random.default_rng(1).uniform(size=low.shape) < 0.6
    keep[0] = False
    dirty = np.where(keep, low, np.nan)
    shares = np.where(keep, ALPHA, -1).astype(np.float32)
    found, (slope,) = evaluated(weighted_interval_score, dirty, high, m, y, shares, where=keep)
    none = ~keep.any(-1)
    for i in np.flatnonzero(~none):
        some = keep[i]
        expected = weighted_interval_score(low[i][some], high[i][some], m[i], y[i], ALPHA[some])
        np.testing.assert_allclose(found[i], expected, rtol=16 * EPS)
    # A forecast without an interval does not count.
    np.testing.assert_array_equal(np.asarray(found)[none], 0)
    assert not np.any(slope[~keep])
    assert np.all(np.isfinite(slope))


def test_alphas_of_every_shape(drawn: Any) -> None:
    low, high, m, y = drawn
    expected = weighted_interval_score(low, high, m, y, np.full_like(low, 0.3))
    for alpha in (0.3, [0.3] * 5):
        np.testing.assert_array_equal(weighted_interval_score(low, high, m, y, alpha), expected)
    # One is out of the domain, in one forecast.
    shares = np.full_like(low, 0.3)
    shares[3, 2] = 1.5
    found = weighted_interval_score(low, high, m, y, shares)
    np.testing.assert_array_equal(np.isnan(found), np.arange(64) == 3)


def test_bad_input_is_refused_by_name(drawn: Any) -> None:
    low, high, m, y = drawn
    with pytest.raises(ValueError, match=r"^expected equal shapes, got lower .*upper .*targets"):
        interval_score(low, high, y, alpha=0.1)
    with pytest.raises(ValueError, match=r"^hyperparameters must broadcast against the data"):
        interval_score(low, high, low, alpha=ALPHA[:2])
    with pytest.raises(ValueError, match=r"^median must be a number for each forecast, of shape"):
        weighted_interval_score(low, high, m[:, None], y, ALPHA)
    with pytest.raises(ValueError, match=r"^targets must be a number for each forecast, of shape"):
        weighted_interval_score(low, high, m, low, ALPHA)
    with pytest.raises(ValueError, match=r"^expected equal shapes, got lower .*alpha float32\[2\]"):
        weighted_interval_score(low, high, m, y, ALPHA[:2])
    with pytest.raises(TypeError, match=r"^lower must be floating-point"):
        weighted_interval_score(low.astype(int), high, m, y, ALPHA)
