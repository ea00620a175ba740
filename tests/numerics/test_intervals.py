"""Log probabilities of intervals against mpmath, in both precisions, and at their ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mpmath import mp

from jaxloss._numerics import intervals
from tests.laws.compiling import as_users

INF = np.inf
EPS = float(np.finfo(np.float32).eps)


class Exact(NamedTuple):
    """A distribution: the mass between two bounds, the density, and its slope over itself."""

    mass: Callable
    density: Callable
    slope: Callable


def logistic(x: Any) -> Any:
    return 1 / (1 + mp.exp(-x))


NORMAL = Exact(
    # The mass in the left tail, where the distribution function has all its digits.
    lambda a, b: mp.ncdf(b) - mp.ncdf(a) if a < 0 else mp.ncdf(-a) - mp.ncdf(-b),
    mp.npdf,
    lambda x: -x,
)
LOGISTIC = Exact(
    lambda a, b: logistic(b) - logistic(a) if a < 0 else logistic(-a) - logistic(-b),
    lambda x: logistic(x) * logistic(-x),
    lambda x: logistic(-x) - logistic(x),
)
GUMBEL = Exact(
    lambda a, b: mp.exp(-mp.exp(a)) - mp.exp(-mp.exp(b)),
    lambda x: mp.exp(x - mp.exp(x)),
    lambda x: 1 - mp.exp(x),
)


def points(lowest: float, highest: float) -> np.ndarray:
    """Lower bounds and gaps: of ordinary size, close together, far out, open."""
    rng = np.random.default_rng(0)

    def on_grid(x: Any, digits: int) -> Any:
        # So that float32 has the upper bound exactly.
        return np.round(np.ldexp(x, digits)) / 2.0**digits

    ordinary = on_grid(rng.uniform(lowest, highest, 60), 18)
    wide = np.maximum(on_grid(10 ** rng.uniform(-6, 1.2, 60), 18), 2.0**-18)
    at_zero = on_grid(rng.uniform(-0.01, 0.01, 10), 30)
    narrow = np.maximum(on_grid(10 ** rng.uniform(-9, -3, 10), 30), 2.0**-30)
    lower = np.concatenate([ordinary, at_zero, ordinary[:20]])
    return np.stack([lower, np.concatenate([wide, narrow, 20 * [INF]])], 1)


ROWS = {
    "normal": (intervals.log_interval_normal, NORMAL, points(-12, 12)),
    "logistic": (intervals.log_interval_logistic, LOGISTIC, points(-30, 30)),
    "gumbel": (intervals.log_interval_gumbel, GUMBEL, points(-30, 4)),
}


def exact(d: Exact, x: Any, g: Any) -> list[float]:
    """The value, its slopes in x and g, and the curvatures xx, xg and gg."""
    near, far = d.density(x), mp.zero if mp.isinf(g) else d.density(x + g)
    mass = d.mass(x, x + g)
    near_slope, far_slope = near * d.slope(x), 0 if mp.isinf(g) else far * d.slope(x + g)
    in_x, in_g = (far - near) / mass, far / mass
    curves = (
        (far_slope - near_slope) / mass - in_x**2,
        far_slope / mass - in_g * in_x,
        far_slope / mass - in_g**2,
    )
    return [float(v) for v in (mp.log(mass), in_x, in_g, *curves)]


@pytest.mark.parametrize("wide", [False, True], ids=["float32", "float64"])
@pytest.mark.parametrize("name", ROWS)
def test_value_slopes_and_curvatures(name: str, wide: bool) -> None:
    """In x and g of the interval from x to x + g, so that one moves both bounds."""
    function, law, rows = ROWS[name]

    def of_gap(x: Any, g: Any) -> Any:
        return function(x, x + g, g)

    with jax.enable_x64(wide):
        rows = rows.astype(np.float64 if wide else np.float32)
        at = jnp.asarray(rows).T
        value = as_users(jax.vmap(of_gap))(*at)
        slopes = as_users(jax.vmap(jax.grad(of_gap, (0, 1))))(*at)
        (xx, xg), (_, gg) = as_users(jax.vmap(jax.hessian(of_gap, (0, 1))))(*at)
    with mp.workdps(100):
        truths = np.array([exact(law, *map(mp.mpf, row.tolist())) for row in rows]).T
    got = np.array([value, *slopes, xx, xg, gg], float)
    eps = np.finfo(rows.dtype).eps
    error = np.abs(got - truths) / eps
    # What each error is measured against: the result; or the larger of two terms of either sign, of
    # which the slope in x consists.
    size = np.abs(truths)
    x, g = rows.astype(float).T
    with np.errstate(over="ignore"):
        if name == "logistic":
            size[1] = 1 / (1 + np.exp(-x)) + 1 / (1 + np.exp(x + g))
        if name == "gumbel":
            size[1] += np.exp(x)
    worst = np.max(error / (size + np.finfo(rows.dtype).tiny / eps), axis=1)
    # In float64 what the exponential of a bound lost is not known, and another one shows it.
    limit = 12 if wide and name == "gumbel" else 5
    assert np.all(worst <= limit), worst


FAR = [4.0, -4.0, 0.0, 1e-30, -1e-30, 12.0, -12.0, 13.5, 100.0, 1e5, 1e15]


def test_normal_tails() -> None:
    """Where JAX's own float32 is thousands of units off, and far beyond."""
    x = jnp.array(FAR, jnp.float32)
    for function, side in ((intervals.log_survival_normal, 1), (intervals.log_cdf_normal, -1)):
        value, slope = as_users(jax.vmap(jax.value_and_grad(function)))(side * x)
        curve = as_users(jax.vmap(jax.grad(jax.grad(function))))(side * x)
        with mp.workdps(80):
            for i, at in enumerate(map(mp.mpf, x.tolist())):
                tail = mp.ncdf(-at)
                # Its asymptotic series, where mpmath has no more digits of the quotient.
                rate = at + 1 / at if at > 1e4 else mp.npdf(at) / tail
                curvature = 1 / at**2 - 1 if at > 1e4 else rate * (at - rate)
                log = -(at**2) / 2 - mp.log(mp.sqrt(2 * mp.pi) * at) if at > 1e4 else mp.log(tail)
                np.testing.assert_allclose(value[i], float(log), rtol=4 * EPS)
                np.testing.assert_allclose(slope[i], float(-side * rate), rtol=4 * EPS, atol=1e-37)
                np.testing.assert_allclose(curve[i], float(curvature), rtol=4 * EPS, atol=1e-37)


@pytest.mark.parametrize("name", ROWS)
def test_ends(name: str) -> None:
    """Everything has probability 1, nothing 0, less than nothing none; derivatives are finite."""
    function, _, _ = ROWS[name]
    lower = jnp.array([-INF, 1.0, 2.0, -INF, 3.0])
    upper = jnp.array([INF, 1.0, 1.0, -1e30, 1e30])
    value = function(lower, upper)
    np.testing.assert_array_equal(value[:3], [0, -INF, np.nan])
    np.testing.assert_allclose(value[3], -INF if name == "normal" else -1e30)
    real = np.array([0, 1, 3, 4])
    for bound, open_at in ((0, [0, 3]), (1, [0])):
        slopes = jax.vmap(jax.grad(function, bound))(lower, upper)
        assert np.all(np.isfinite(slopes[real])), slopes
        np.testing.assert_array_equal(slopes[np.array(open_at)], 0)
        curves = jax.vmap(jax.grad(jax.grad(function, bound), bound))(lower, upper)
        assert np.all(np.isfinite(curves[real])), curves
