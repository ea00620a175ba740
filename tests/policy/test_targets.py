"""Distributions over a grid: masses, means, and what lies outside."""

from __future__ import annotations

import itertools
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mpmath import mp

from jaxloss import categorical_projection, hl_gauss, softmax_cross_entropy, two_hot

EPS = float(np.finfo(np.float32).eps)
ATOMS = np.array([-2.0, -0.5, 0.0, 1.0, 3.0, 3.25], np.float32)


def test_two_hot_is_on_the_two_atoms_beside() -> None:
    x = np.random.default_rng(0).uniform(-2, 3.25, 64).astype(np.float32)
    p = np.asarray(two_hot(x, ATOMS), float)
    assert np.all((p > 0).sum(-1) <= 2)
    np.testing.assert_allclose(p.sum(-1), 1, rtol=2 * EPS)
    np.testing.assert_allclose(p @ ATOMS, x, atol=4 * EPS * 3)
    # On an atom, and outside.
    on = two_hot(jnp.concatenate([jnp.asarray(ATOMS), jnp.array([-9.0, 1e30, jnp.inf])]), ATOMS)
    np.testing.assert_array_equal(on, np.eye(6)[[0, 1, 2, 3, 4, 5, 0, 5, 5]])
    assert np.all(np.isnan(two_hot(jnp.array([jnp.nan]), ATOMS)))
    assert np.all(np.isnan(two_hot(jnp.array([0.0]), [0.0, 2.0, 1.0])))


def projected(p: np.ndarray, x: np.ndarray, atoms: np.ndarray) -> list[Fraction]:
    """In rational numbers: mass goes to the atoms beside, as much as is near to them."""
    z = [Fraction(float(a)) for a in atoms]
    found = [Fraction(0)] * len(z)
    for mass, value in zip(p, x, strict=True):
        share = Fraction(float(mass))
        at = min(max(Fraction(float(value)), z[0]), z[-1])
        k = max(i for i in range(len(z)) if z[i] <= at)
        if z[k] == at:
            found[k] += share
        else:
            up = (at - z[k]) / (z[k + 1] - z[k])
            found[k] += share * (1 - up)
            found[k + 1] += share * up
    return found


def test_projection_is_exact() -> None:
    """Some numbers are exactly on an atom, and some outside."""
    rng = np.random.default_rng(1)
    p = rng.dirichlet(np.ones(7), 5).astype(np.float32)
    x = rng.uniform(-2.5, 4, (5, 7)).astype(np.float32)
    x[:, :3] = ATOMS[rng.integers(0, 6, (5, 3))]
    found = categorical_projection(p, x, ATOMS)
    expected = [[float(y) for y in projected(*row, ATOMS)] for row in zip(p, x, strict=True)]
    np.testing.assert_allclose(found, expected, rtol=16 * EPS, atol=EPS)
    np.testing.assert_allclose(np.sum(found, -1), p.sum(-1), rtol=8 * EPS)
    same = categorical_projection(p, np.tile(x[0], (5, 1)), ATOMS)
    np.testing.assert_array_equal(categorical_projection(p, x[0], ATOMS), same)


def test_projection_keeps_mass_and_mean() -> None:
    rng = np.random.default_rng(2)
    p = rng.dirichlet(np.ones(9), 8).astype(np.float32)
    x = rng.uniform(-2, 3.25, (8, 9)).astype(np.float32)
    found = np.asarray(categorical_projection(p, x, ATOMS), float)
    np.testing.assert_allclose(found.sum(-1), p.sum(-1), rtol=8 * EPS)
    # Of numbers of size 3.
    np.testing.assert_allclose(found @ ATOMS, np.sum(np.float64(p) * x, -1), atol=3 * 8 * EPS)


def test_a_distribution_on_the_atoms_stays() -> None:
    p = np.random.default_rng(3).dirichlet(np.ones(6)).astype(np.float32)
    np.testing.assert_array_equal(categorical_projection(p, ATOMS, ATOMS), p)


@pytest.mark.parametrize("away", [0.0, 1.3, 7.0, 40.0])
def test_hl_gauss_of_numbers_in_and_outside(away: float) -> None:
    """Against 60 digits: where the difference of two float32 values of F is 0."""
    edges, sigma = np.linspace(-1, 1, 9).astype(np.float32), np.float32(0.3)
    for side in (-1, 1):
        x = np.float32(side * (1 + away * sigma) if away else 0.1)
        found = np.asarray(hl_gauss(x, edges, sigma=sigma), float)
        with mp.workdps(1000):
            f = [mp.ncdf((mp.mpf(float(e)) - float(x)) / float(sigma)) for e in edges]
            expected = [float((b - a) / (f[-1] - f[0])) for a, b in itertools.pairwise(f)]
        # The logarithm of a mass n sigma away is n^2 / 2, whose rounding its exponential shows.
        n = away + 2 / 0.3
        np.testing.assert_allclose(found, expected, rtol=8 * EPS * (1 + n * n / 2), atol=1e-37)
        np.testing.assert_allclose(found.sum(), 1, rtol=4 * EPS)


def test_hl_gauss_far_outside_is_the_last_bin() -> None:
    edges = np.linspace(-5, 5, 11).astype(np.float32)
    found = hl_gauss(jnp.array([1e4, -1e30, jnp.inf]), edges)
    np.testing.assert_array_equal(found, np.eye(10)[[9, 0, 9]])
    assert np.all(np.isnan(hl_gauss(jnp.array([jnp.nan]), edges)))
    assert np.all(np.isnan(hl_gauss(jnp.array([0.0]), edges, sigma=0.0)))
    assert np.all(np.isnan(hl_gauss(jnp.array([0.0]), edges[::-1], sigma=1.0)))


def test_hl_gauss_of_a_small_sigma_is_one_hot() -> None:
    edges = np.linspace(0, 4, 5).astype(np.float32)
    found = hl_gauss(jnp.array([0.5, 3.5]), edges, sigma=0.01)
    np.testing.assert_array_equal(found, np.eye(4)[[0, 3]])
    # The default is 3/4 of a bin.
    by_default, said = hl_gauss(jnp.array([1.2]), edges), hl_gauss(1.2, edges, sigma=0.75)
    np.testing.assert_array_equal(by_default[0], said)


def test_targets_are_held() -> None:
    def cost(x: jax.Array) -> jax.Array:
        targets = two_hot(x, ATOMS), hl_gauss(x, ATOMS), categorical_projection(x, ATOMS[:2], ATOMS)
        # Under even logits all targets cost the same.
        logits = (jnp.arange(float(n)) for n in (6, 5, 6))
        pairs = zip(logits, (t if t.ndim == 1 else t[0] for t in targets), strict=True)
        return sum(softmax_cross_entropy(z, t) for z, t in pairs)  # type: ignore

    np.testing.assert_array_equal(jax.grad(cost)(jnp.array([0.5, 0.5])), 0)


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^atoms must be a list of two numbers or more"):
        two_hot(jnp.zeros(3), jnp.zeros((2, 2)))
    with pytest.raises(ValueError, match=r"^edges must be a list of two numbers or more"):
        hl_gauss(jnp.zeros(3), [1.0])
    with pytest.raises(ValueError, match=r"^sigma must be one number"):
        hl_gauss(jnp.zeros(3), ATOMS, sigma=jnp.ones(3))
    with pytest.raises(ValueError, match=r"^values must have the shape of probabilities"):
        categorical_projection(jnp.zeros((2, 3)), jnp.zeros((2, 1)), ATOMS)
