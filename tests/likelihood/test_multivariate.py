"""Gaussian vectors whose numbers vary together."""

from __future__ import annotations

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from mpmath import mp

from jaxloss import gaussian_nll_loss, low_rank_gaussian_nll_loss, multivariate_gaussian_nll_loss
from tests.laws.values import gradients, single
from tests.likelihood.oracles import low_rank_gaussian_nll_loss as low_rank_in_mpmath

FACTOR = single([[1.0, 0.0], [0.5, 2.0]])
KINDS = ("covariance", "precision")


def _density(y: Any, m: Any, covariance: Any) -> Any:
    return scipy.stats.multivariate_normal.logpdf(y, m, covariance)


def test_values() -> None:
    """With e = (-1, 1): L^-1 e = (-1, 3/4) and L^T e = (-1/2, 2)."""
    m, y = single([0.0, 0.0]), single([1.0, -1.0])
    exact = -_density(y, m, FACTOR @ FACTOR.T)
    loss, (slope, _, in_factor) = gradients(multivariate_gaussian_nll_loss, m, y, FACTOR)
    assert loss == pytest.approx(exact, rel=1e-6)
    assert loss == pytest.approx((1 + 9 / 16) / 2 + math.log(2) + math.log(2 * math.pi), rel=1e-6)
    w = [-1 - 0.5 * 3 / 8, 3 / 8]
    np.testing.assert_allclose(slope, w, rtol=1e-6)
    expected = [[1 + w[0], 0], [w[1], 1 / 2 - w[1] * 3 / 4]]
    np.testing.assert_allclose(in_factor, expected, rtol=1e-6, atol=1e-6)
    loss = multivariate_gaussian_nll_loss(m, y, FACTOR, kind="precision")
    assert loss == pytest.approx((1 / 4 + 4) / 2 - math.log(2) + math.log(2 * math.pi), rel=1e-6)


def _of(kind: Any, m: Any, y: Any, matrix: Any) -> Any:
    """The loss of a covariance or of a precision, by its own factor."""
    return multivariate_gaussian_nll_loss(m, y, jnp.linalg.cholesky(matrix), kind=kind)


def test_the_two_factors_say_the_same() -> None:
    rng = np.random.default_rng(3)
    m, y = single(rng.normal(size=(2, 4)))
    root = rng.normal(size=(4, 6))
    covariance = root @ root.T
    exact = -_density(y, m, covariance)
    for kind, matrix in zip(KINDS, (covariance, np.linalg.inv(covariance)), strict=True):
        assert _of(kind, m, y, single(matrix)) == pytest.approx(exact, rel=1e-5)


def test_a_diagonal_factor_is_one_gaussian_for_each() -> None:
    m, y, s = single(np.random.default_rng(4).uniform(0.5, 2, (3, 5)))
    each = gaussian_nll_loss(m, y, s * s, full=True)
    together = multivariate_gaussian_nll_loss(m, y, np.diag(s))
    np.testing.assert_allclose(together, jnp.sum(each), rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_above_the_diagonal_is_not_read(kind: Any) -> None:
    m, y = jnp.zeros(2), jnp.ones(2)
    loss = jax.value_and_grad(functools.partial(multivariate_gaussian_nll_loss, kind=kind), 2)
    value, slope = loss(m, y, jnp.asarray(FACTOR).at[0, 1].set(7.0))
    assert value == loss(m, y, jnp.asarray(FACTOR))[0]
    assert slope[0, 1] == 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan])
def test_a_diagonal_that_is_not_positive_is_nan(kind: Any, bad: float) -> None:
    factor = jnp.asarray(FACTOR).at[1, 1].set(bad)
    loss = functools.partial(multivariate_gaussian_nll_loss, kind=kind)
    for x in (
        loss(jnp.zeros(2), jnp.ones(2), factor),
        *jax.grad(loss, (0, 1))(jnp.zeros(2), jnp.ones(2), factor),
    ):
        assert np.all(np.isnan(x))
    assert np.all(
        np.isnan(jax.grad(loss, 2)(jnp.zeros(2), jnp.ones(2), factor)[np.tril_indices(2)])
    )


@pytest.mark.parametrize("kind", KINDS)
def test_scales_far_from_1(kind: Any) -> None:
    """A unit of 1e-15: each loss moves by the logarithm alone, and no square is lost."""
    rng = np.random.default_rng(5)
    m, y = single(rng.normal(size=(2, 2)))
    size = np.float32(1e-15)
    factor = FACTOR * size if kind == "covariance" else FACTOR / size
    loss = functools.partial(multivariate_gaussian_nll_loss, kind=kind)
    moved = loss(m * size, y * size, factor) - loss(m, y, FACTOR)
    assert moved == pytest.approx(2 * math.log(1e-15), rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_masked_vectors_hold_anything(kind: Any) -> None:
    m, y = jnp.array([[0.0, 1.0], [jnp.nan, 0.0]]), jnp.zeros((2, 2))
    factor = jnp.stack([jnp.asarray(FACTOR), jnp.zeros((2, 2))])
    where = jnp.array([True, False])

    def mean(*data: Any) -> Any:
        options = {"kind": kind, "where": where, "reduction": "mean"}
        return multivariate_gaussian_nll_loss(*data, **options)

    value, slopes = jax.value_and_grad(mean, (0, 1, 2))(m, y, factor)
    assert value == multivariate_gaussian_nll_loss(m[0], y[0], FACTOR, kind=kind)
    for x in slopes:
        assert np.all(np.asarray(x)[1] == 0)
        assert np.any(np.asarray(x)[0] != 0)
    # A factor for all: the excluded vector is no part of its slope.
    shared = jax.grad(mean, 2)(m, y, jnp.asarray(FACTOR))
    np.testing.assert_allclose(shared, slopes[2][0], rtol=1e-6)


def test_a_low_rank_is_a_covariance_of_its_own() -> None:
    rng = np.random.default_rng(6)
    m, y, v = single(rng.uniform(0.5, 2, (3, 5)))
    factor = single(rng.normal(size=(5, 2)))
    covariance = factor.astype(float) @ factor.T.astype(float) + np.diag(v.astype(float))
    loss = low_rank_gaussian_nll_loss(m, y, v, factor)
    assert loss == pytest.approx(-_density(y, m, covariance), rel=1e-6)
    # Without a factor it is one Gaussian for each number.
    alone = low_rank_gaussian_nll_loss(m, y, v, np.zeros((5, 1), np.float32))
    np.testing.assert_allclose(alone, jnp.sum(gaussian_nll_loss(m, y, v, full=True)), rtol=1e-6)


def test_a_large_factor_leaves_the_digits_of_what_is_beside_it() -> None:
    """An error of which 1e5 is along the factor and 1 beside it, at a variance of 1."""
    along, beside = np.array([3.0, 4.0]) / 5, np.array([-4.0, 3.0]) / 5
    e = single(1e5 * along + beside)
    factor = single(1e6 * along[:, None])
    with mp.workprec(200):
        lists = [[mp.mpf(float(x)) for x in row] for row in (e, [0, 0], [1, 1])]
        columns = [[mp.mpf(float(x))] for x in factor[:, 0]]
        exact = float(mp.fsum(low_rank_in_mpmath(lists[0], lists[1], lists[2], columns)))
    zero, one = np.zeros(2, np.float32), np.ones(2, np.float32)
    loss = low_rank_gaussian_nll_loss(e, zero, one, factor)
    # The largest number that cancels is 1e5, of which float32 has 0.008.
    assert loss == pytest.approx(exact, abs=0.02)
    inner = float(np.float32(np.sum(e * e)))
    plain = inner - float(np.float32(np.sum(e * factor[:, 0])) ** 2) / (
        1 + float(np.sum(factor**2))
    )
    assert abs(plain / 2 - (exact - math.log(2 * math.pi) - math.log(1e6))) > 10


def test_low_rank_vectors_that_are_masked_hold_anything() -> None:
    m, y = jnp.array([[0.0, 1.0], [jnp.nan, 0.0]]), jnp.zeros((2, 2))
    variance = jnp.array([[1.0, 2.0], [-1.0, jnp.inf]])
    factor = jnp.stack([jnp.array([[1.0], [0.5]]), jnp.full((2, 1), jnp.nan)])
    slopes = jax.grad(
        lambda *data: low_rank_gaussian_nll_loss(
            *data, where=jnp.array([True, False]), reduction="sum"
        ),
        (0, 1, 2, 3),
    )(m, y, variance, factor)
    for x in slopes:
        assert np.all(np.asarray(x)[1] == 0)
        assert np.any(np.asarray(x)[0] != 0)
        assert np.all(np.isfinite(x))


def test_factors_that_do_not_fit_are_named() -> None:
    m = jnp.ones((5, 3))
    with pytest.raises(ValueError, match=r"\[D, R\].*factor float32\[2, 3\]"):
        low_rank_gaussian_nll_loss(m, m, m, jnp.ones((2, 3)))
    with pytest.raises(ValueError, match="factor"):
        low_rank_gaussian_nll_loss(m, m, m, 1.0)
    with pytest.raises(ValueError, match="variance"):
        low_rank_gaussian_nll_loss(m, m, jnp.ones(3), jnp.ones((3, 2)))


def test_what_does_not_fit_is_named() -> None:
    m, y = jnp.zeros((5, 3)), jnp.zeros((5, 3))
    with pytest.raises(ValueError, match=r"factor must be .*factor float32\[3\]"):
        multivariate_gaussian_nll_loss(m, y, jnp.ones(3))
    with pytest.raises(ValueError, match=r"factor float32\[4, 3, 3\]"):
        multivariate_gaussian_nll_loss(m, y, jnp.ones((4, 3, 3)))
    with pytest.raises(ValueError, match="targets"):
        multivariate_gaussian_nll_loss(m, jnp.zeros(5), jnp.eye(3))
    with pytest.raises(ValueError, match="kind"):
        multivariate_gaussian_nll_loss(m, y, jnp.eye(3), kind="root")  # type: ignore
    with pytest.raises(ValueError, match="where"):
        multivariate_gaussian_nll_loss(m, y, jnp.eye(3), where=m == 0)
    with pytest.raises(ValueError, match="at least one axis"):
        multivariate_gaussian_nll_loss(0.0, 0.0, 1.0)
