"""Directions: the von Mises distribution at its ends, and what a turn is to it."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from jaxloss import gaussian_nll_loss, von_mises_nll_loss
from tests.laws.values import Row, check, row_id

MEAN_COSINE = scipy.special.i1(2) / scipy.special.i0(2)
ROWS: list[Row] = [
    (von_mises_nll_loss, (5.0, 2.0, 2.0), {}, -scipy.stats.vonmises.logpdf(3, 2), 2 * math.sin(3)),
    (von_mises_nll_loss, (0.0, 0.0, 2.0), {}, math.log(2 * math.pi * scipy.special.i0e(2)), 0),
    (von_mises_nll_loss, (1.0, 0.0, 0.0), {}, math.log(2 * math.pi), 0),
]


@pytest.mark.parametrize("row", ROWS, ids=row_id)
def test_values(row: Row) -> None:
    check(row)


def test_slopes_in_the_concentration() -> None:
    for e in (0.0, 1.0, 3.0):
        slope = jax.grad(von_mises_nll_loss, 2)(e, 0.0, 2.0)
        assert slope == pytest.approx(MEAN_COSINE - math.cos(e), rel=1e-6)
    # Of directions that are all alike 1 - cos is 1 on the average.
    assert jax.grad(von_mises_nll_loss, 2)(0.0, 0.0, 0.0) == pytest.approx(-1, rel=1e-6)


def test_a_whole_turn_is_nothing() -> None:
    e = jnp.linspace(-3, 3, 13)
    turned = von_mises_nll_loss(e + 2 * math.pi, 0.0, 2.0)
    # A turn and its sum are rounded, by 1e-6 at most.
    np.testing.assert_allclose(turned, von_mises_nll_loss(e, 0.0, 2.0), atol=4e-6)
    assert von_mises_nll_loss(3.0, -3.0, 2.0) < von_mises_nll_loss(3.0, 2.0, 2.0)


def test_what_a_difference_of_many_turns_loses_counts() -> None:
    """1e5 - 0.3 has a float 0.0031 away, and the loss is that of the exact difference."""
    a, b = np.float32(1e5), np.float32(0.3)
    exact = -scipy.stats.vonmises.logpdf(float(a) - float(b), 50)
    assert von_mises_nll_loss(a, b, 50.0) == pytest.approx(exact, rel=1e-6)
    assert abs(von_mises_nll_loss(a - b, 0.0, 50.0) - exact) > 1e-3


@pytest.mark.parametrize("k", [1e3, 1e6, 1e12, 1e18])
def test_where_it_is_concentrated_it_is_a_gaussian(k: float) -> None:
    e = 1.5 / math.sqrt(k)
    loss, slopes = jax.value_and_grad(von_mises_nll_loss, (0, 2))(e, 0.0, k)
    gaussian = jax.value_and_grad(lambda m, k: gaussian_nll_loss(m, 0.0, 1 / k, full=True), (0, 1))(
        e, k
    )
    np.testing.assert_allclose(loss, gaussian[0], rtol=1e-6, atol=1 / k)
    np.testing.assert_allclose(slopes, gaussian[1], rtol=2 / k + 1e-5)


def test_the_series_and_the_midpoints_meet() -> None:
    """In both precisions, and either side against SciPy's ratio."""
    slope = jax.jit(jax.vmap(jax.grad(von_mises_nll_loss, 2), (None, None, 0)))
    with jax.enable_x64(True):
        for dtype, k, rtol in ((np.float32, 12, 1e-6), (np.float64, 25, 1e-13)):
            at = np.asarray([0.1, 1, 0.999 * k, k, 1.001 * k, 4 * k], dtype)
            wide = at.astype(float)
            exact = (scipy.special.i1e(wide) - scipy.special.i0e(wide)) / scipy.special.i0e(wide)
            np.testing.assert_allclose(slope(dtype(0), dtype(0), at), exact, rtol=rtol)


def test_infinite_angles_and_negative_concentrations_are_nan() -> None:
    assert jnp.isnan(von_mises_nll_loss(jnp.inf, 0.0, 1.0))
    assert jnp.isnan(von_mises_nll_loss(0.0, 0.0, -1.0))


def test_what_does_not_fit_is_named() -> None:
    with pytest.raises(ValueError, match="concentration"):
        von_mises_nll_loss(jnp.zeros(3), jnp.zeros(3), jnp.ones((3, 1)))
