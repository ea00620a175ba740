from __future__ import annotations

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxloss import (
    cauchy_loss,
    geman_mcclure_loss,
    general_robust_loss,
    l2_loss,
    pseudo_huber_loss,
    tukey_biweight_loss,
    welsch_loss,
)
from tests.laws.values import Row, check, evaluated, row_id, single

ROWS: list[Row] = [
    (pseudo_huber_loss, (5.0, 2.0), {"delta": 4.0}, 16 * (5 / 4 - 1), 3 / (5 / 4)),
    (pseudo_huber_loss, (1e-4, 0.0), {}, 1e-8 / 2, 1e-4),
    (pseudo_huber_loss, (1e18, 0.0), {}, 1e18, 1),
    (pseudo_huber_loss, (3.0, 0.0), {"delta": math.inf}, 4.5, 3),
    (pseudo_huber_loss, (3.0, 0.0), {"delta": 0.0}, 0, 0),
    (cauchy_loss, (5.0, 1.0), {"scale": 2.0}, math.log(1 + 4 / 2), 1 / 2 * 2 / (1 + 4 / 2)),
    (cauchy_loss, (1e30, 0.0), {}, 60 * math.log(10) - math.log(2), 2e-30),
    (geman_mcclure_loss, (5.0, 1.0), {"scale": 2.0}, 2 * 4 / 8, 16 * 2 / (2 * 8**2)),
    (welsch_loss, (5.0, 1.0), {"scale": 2.0}, 1 - math.exp(-2), 2 / 2 * math.exp(-2)),
    (tukey_biweight_loss, (3.0, 0.0), {"c": 6.0}, 6 * (1 - 0.75**3), 3 * 0.75**2),
    (tukey_biweight_loss, (7.0, 0.0), {"c": 6.0}, 6, 0),
    (tukey_biweight_loss, (3.0, 0.0), {"c": math.inf}, 4.5, 3),
    (general_robust_loss, (2.0, 0.0), {"alpha": 4.0}, 0.5 * ((4 / 2 + 1) ** 2 - 1), 2 * 3),
    (general_robust_loss, (2.0, 0.0), {"alpha": 1.0}, math.sqrt(5) - 1, 2 / math.sqrt(5)),
    (general_robust_loss, (2.0, 0.0), {"alpha": -2.0}, 1, 2 / 4),
    (
        general_robust_loss,
        (2.0, 0.0),
        {"alpha": math.inf, "scale": 2.0},
        math.expm1(0.5),
        0.5 * math.exp(0.5),
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=row_id)
def test_values(row: Row) -> None:
    check(row)


# Alpha, the value and the gradient at an infinite error of scale 2.
LIMITS = [
    (-math.inf, 1, 0),
    (-3.0, 5 / 3, 0),
    (0.0, math.inf, 0),
    (0.5, math.inf, 0),
    (1.0, math.inf, 1 / 2),
    (1.5, math.inf, math.inf),
    (2.0, math.inf, math.inf),
    (math.inf, math.inf, math.inf),
]


INFINITE = single([math.inf, -math.inf])


@pytest.mark.parametrize(("alpha", "value", "slope"), LIMITS)
def test_the_general_loss_at_infinite_errors(alpha: float, value: float, slope: float) -> None:
    losses, (slopes,) = evaluated(
        general_robust_loss, INFINITE, alpha=single(alpha), scale=single(2)
    )
    np.testing.assert_allclose(losses, [value, value], rtol=1e-6)
    np.testing.assert_allclose(slopes, [slope, -slope], rtol=1e-6)


@pytest.mark.parametrize(
    ("loss", "value"),
    [(pseudo_huber_loss, math.inf), (cauchy_loss, math.inf), (geman_mcclure_loss, 2)],
)
def test_infinite_errors(loss: jax.stages.Wrapped, value: float) -> None:
    losses, (slopes,) = evaluated(loss, INFINITE)
    np.testing.assert_array_equal(losses, [value, value])
    assert not np.any(np.isnan(slopes))


def test_the_general_loss_is_smooth_in_alpha() -> None:
    """Through 0, and through 2, where its derivative in alpha is a logarithm."""
    in_alpha = jax.jit(jax.grad(lambda alpha: general_robust_loss(3.0, alpha=alpha)))
    assert in_alpha(1e-6) == pytest.approx(float(in_alpha(-1e-6)), rel=1e-4)
    assert in_alpha(0.0) == pytest.approx(float(in_alpha(1e-6)), rel=1e-4)
    assert np.isfinite(in_alpha(2.0))
    assert in_alpha(2.0) > in_alpha(2.01) > in_alpha(2.1)
    assert in_alpha(math.inf) == in_alpha(-math.inf) == 0


@jax.jit
def curvature(x: float, alpha: float) -> jax.Array:
    return jax.grad(jax.grad(lambda x: general_robust_loss(x, alpha=alpha, scale=2.0)))(x)


@pytest.mark.parametrize("alpha", [-math.inf, -1e5, -2.0, 0.0, 1.0, 2.0, 3.0, 1e5])
def test_curvature_at_the_target(alpha: float) -> None:
    """1 / scale^2 for every alpha: Barron's normalisation."""
    assert curvature(0.0, alpha) == 0.25


@pytest.mark.parametrize(
    "loss", [cauchy_loss, geman_mcclure_loss, welsch_loss, general_robust_loss]
)
def test_an_exact_prediction_is_curved(loss: Any) -> None:
    """1 / scale^2, where a slope that is a sign times a size would have derivative 0."""
    options = {"alpha": 1.0} if loss is general_robust_loss else {}
    curved = jax.jit(jax.hessian(lambda x: loss(x, x * 0 + 3.0, scale=0.5, **options)))
    assert curved(3.0) == pytest.approx(4, rel=1e-6)


def test_curvature_in_alpha() -> None:
    def written(alpha: float) -> float:
        b = 2 - alpha
        return b / alpha * ((1 + 1 / b) ** (alpha / 2) - 1)

    step = 1e-4
    expected = (written(1 + step) - 2 * written(1) + written(1 - step)) / step**2
    curved = jax.jit(jax.hessian(lambda alpha: general_robust_loss(1.0, alpha=alpha)))
    assert curved(1.0) == pytest.approx(expected, rel=1e-5)


def test_alpha_is_learned_by_gradient_descent() -> None:
    """With a penalty on large alpha, outliers pull alpha down and their absence up."""

    @jax.jit
    def fitted(errors: jax.Array) -> jax.Array:
        def objective(alpha: jax.Array) -> jax.Array:
            return jnp.mean(general_robust_loss(errors, alpha=alpha)) - 0.3 * alpha

        def step(_: int, alpha: jax.Array) -> jax.Array:
            return alpha - 0.05 * jnp.clip(jax.grad(objective)(alpha), -1, 1)

        # From where the derivative is infinite.
        return jax.lax.fori_loop(0, 200, step, jnp.float32(2.0))

    small = np.linspace(-1, 1, 9, dtype=np.float32)
    assert fitted(np.append(small[1:], np.float32(20.0))) < 1 < fitted(small)


def test_an_infinite_tukey_is_l2() -> None:
    errors = single([-3.0, 0.0, 1e18])
    np.testing.assert_allclose(tukey_biweight_loss(errors, c=np.inf), l2_loss(errors), rtol=1e-6)


SCALED = (
    cauchy_loss,
    geman_mcclure_loss,
    welsch_loss,
    functools.partial(general_robust_loss, alpha=1.5),
)


@pytest.mark.parametrize("loss", SCALED)
@pytest.mark.parametrize("exponent", [-20, 20])
def test_errors_are_measured_in_scales(loss: Any, exponent: int) -> None:
    # Of unlike sizes: what their difference loses counts too, and is measured in scales as well.
    rng = np.random.default_rng(3)
    x, y = single(rng.normal(0, 2, 200)), single(rng.normal(0, 1e-3, 200))
    power = 2.0**exponent
    total = jax.value_and_grad(lambda x, y, scale: jnp.sum(loss(x, y, scale=scale)), (0, 1))
    value, slopes = total(x, y, 1.0)
    moved, of_moved = total(power * x, power * y, power)
    np.testing.assert_allclose(moved, value, rtol=1e-6)
    for ours, plain in zip(of_moved, slopes, strict=True):
        np.testing.assert_array_max_ulp(np.asarray(power * ours), np.asarray(plain), 2)


@pytest.mark.parametrize("loss", SCALED)
def test_at_an_infinite_scale_finite_errors_cost_nothing(loss: Any) -> None:
    total = jax.value_and_grad(lambda x, scale: jnp.sum(loss(x, [0.0] * 4, scale=scale)), (0, 1))
    value, slopes = total(jnp.array([0.0, 3.0, -1e-30, 1e30]), jnp.inf)
    assert value == 0
    assert not np.any(slopes[0])
    assert slopes[1] == 0


def test_an_infinite_error_at_the_largest_scale() -> None:
    assert jax.value_and_grad(welsch_loss)(jnp.inf, 0.0, scale=3e38) == (1, 0)
