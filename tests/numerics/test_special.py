"""The special functions alone, in both precisions; the losses' accuracy law covers the rest."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mpmath import mp

from jaxloss._numerics import exact, gamma, special
from tests.laws.compiling import as_users

RNG = np.random.default_rng(0)
SMALL_AND_LARGE = np.concatenate(
    [10 ** RNG.uniform(-12, 0, 60) * RNG.choice([-1, 1], 60), RNG.uniform(-80, 80, 40), [-1, 1]]
)
POSITIVE = np.concatenate([10 ** RNG.uniform(-12, 12, 40), RNG.uniform(0, 12, 40)])


def rising(y: Any, a: Any) -> Any:
    return mp.loggamma(y + 1 / a) - mp.loggamma(1 / a) + y * mp.log(a)


# The function, its exact form, arguments, and the size its error is measured against besides
# that of its result: of the terms it is added to where it is used.
ROWS = [
    (gamma.log_factorial, lambda y: mp.loggamma(y + 1), [POSITIVE], 0.0),
    (jax.grad(gamma.log_factorial), lambda y: mp.digamma(y + 1), [POSITIVE], 0.6),
    (special.log1p_gap, lambda u: (u - mp.log1p(u)) / u**2, [POSITIVE], 0.0),
    (special.exp_gap, lambda d: mp.exp(d) - 1 - d, [SMALL_AND_LARGE], 0.0),
    (jax.grad(special.exp_gap), mp.expm1, [SMALL_AND_LARGE], 0.0),
    (jax.grad(jax.grad(special.exp_gap)), mp.exp, [SMALL_AND_LARGE], 0.0),
    (special.small_log1p, mp.log1p, [RNG.uniform(-0.5, 1, 40)], 0.0),
    (
        gamma.half_step,
        lambda x: mp.log(x) / 2 + mp.loggamma(x) - mp.loggamma(x + mp.mpf("0.5")),
        [10 ** RNG.uniform(-3, 10, 40)],
        0.9,
    ),
    (
        gamma.log_rising,
        rising,
        [np.round(10 ** RNG.uniform(0, 4, 40)), 10 ** RNG.uniform(-8, 3, 40)],
        1.0,
    ),
    (
        lambda e, s: special.gaussian_kernel(e, s, 0 * e),
        lambda e, s: mp.exp(-((e / s) ** 2) / 2),
        [RNG.uniform(-13, 13, 40), RNG.uniform(1, 3, 40)],
        0.0,
    ),
    (
        lambda p, f: exact.exp_product(2, p, f),
        lambda p, f: mp.exp((2 - p) * f),
        [RNG.uniform(-1, 3, 40), RNG.uniform(-28, 28, 40)],
        0.0,
    ),
    (
        lambda p, x: exact.root_of_power(2, p, x) ** 2,
        lambda p, x: x ** (2 - p),
        [RNG.uniform(0, 4, 40), 10 ** RNG.uniform(-12, 12, 40)],
        0.0,
    ),
    (
        special.angle,
        mp.atan2,
        [RNG.normal(size=200) * 10 ** RNG.uniform(-8, 0, 200), 10 ** RNG.uniform(-8, 0, 200)],
        0.0,
    ),
    (
        lambda e, s: special.log1p_square(e, s),
        lambda e, s: mp.log1p((e / s) ** 2),
        [10 ** RNG.uniform(-15, 30, 40), 10 ** RNG.uniform(-3, 3, 40)],
        0.0,
    ),
]


@pytest.mark.parametrize("wide", [False, True], ids=["float32", "float64"])
@pytest.mark.parametrize(("function", "exact", "arguments", "size"), ROWS)
def test_every_digit(
    function: Callable, exact: Callable, arguments: Any, size: float, wide: bool
) -> None:
    with jax.enable_x64(wide), mp.workprec(400):
        inputs = [jnp.asarray(x, jnp.float64 if wide else jnp.float32) for x in arguments]
        got = np.asarray(jax.jit(jax.vmap(function))(*inputs), float)
        rows = zip(*(np.asarray(x, float) for x in inputs), strict=True)
        expected = np.array([float(exact(*map(mp.mpf, row))) for row in rows])
    eps = np.finfo(np.float64 if wide else np.float32).eps
    assert np.all(np.isfinite(got))
    # In float64 XLA's own logarithms and exponentials are off by a few units more.
    errors = np.abs(got - expected) / np.maximum(np.abs(expected), size) / eps
    assert errors.max() < (32 if wide else 6)


def test_what_a_difference_lost() -> None:
    a = jnp.array([1e-4, 1.0, 1e-12, 3e38, -5.0, 1.5])
    b = jnp.array([-17.0, 1e-9, 1.0, 1.0, 1e-7, 1.25])
    lost = jax.jit(exact.lost_in_difference)(a, b)
    rounded = np.float64(a - b) + np.float64(lost)
    np.testing.assert_allclose(rounded, np.float64(a) - np.float64(b), rtol=1e-13)


@pytest.mark.parametrize("wide", [False, True], ids=["float32", "float64"])
def test_what_sums_and_products_lost(wide: bool) -> None:
    rng = np.random.default_rng(3)
    dtype = np.float64 if wide else np.float32
    terms = rng.normal(size=(4, 200)) * 10.0 ** rng.integers(-8, 9, (4, 200))
    terms[2, :100] = -terms[0, :100]  # of which little is left
    terms[3, :50] = -terms[1, :50]
    terms = terms.astype(dtype)
    eps = float(np.finfo(dtype).eps)

    def compute(*terms: Any) -> Any:
        return exact.exact_sum(*terms), exact.exact_product(*terms[:2])

    with jax.enable_x64(wide), mp.workprec(400):
        for run in (as_users(compute), compute):
            total, product = np.asarray(run(*map(jnp.asarray, terms)), float).transpose(0, 2, 1)
            for numbers, (value, lost), (times, rest) in zip(terms.T, total, product, strict=True):
                given = [mp.mpf(float(x)) for x in numbers]
                truth, largest = mp.fsum(given), max(map(abs, given))
                assert abs(mp.mpf(value) - truth) <= eps * abs(truth) + 4 * eps**2 * largest
                assert abs(mp.mpf(value) + mp.mpf(lost) - truth) <= 4 * eps**2 * (
                    abs(truth) + largest
                )
                truth = given[0] * given[1]
                # The rest has half the digits.
                assert abs(mp.mpf(times) + mp.mpf(rest) - truth) <= 8 * eps**1.5 * abs(truth)


def test_nothing_is_lost_of_an_infinite_number() -> None:
    inf = jnp.float32(jnp.inf)
    for x in (jnp.float32(1), -jnp.float32(3e38)):
        assert [float(y) for y in exact.exact_sum(inf, x)] == [np.inf, 0]
        assert [float(y) for y in exact.exact_product(inf, x)] == [np.sign(x) * np.inf, 0]
    assert np.isnan(exact.exact_sum(inf, -inf)[0])


def test_the_gap_of_the_exponential_at_its_ends() -> None:
    at = jnp.array([0.0, jnp.inf, -jnp.inf, 100.0, -1e30, jnp.nan])
    for order, expected in enumerate(
        (
            [0, np.inf, np.inf, np.inf, 1e30, np.nan],
            [0, np.inf, -1, np.inf, -1, np.nan],
            [1, np.inf, 0, np.inf, 0, np.nan],
        )
    ):
        derivative = functools.reduce(lambda f, _: jax.grad(f), range(order), special.exp_gap)
        np.testing.assert_array_equal(jax.vmap(derivative)(at), np.array(expected, np.float32))
