from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxloss
from jaxloss import (
    absolute_percentage_error,
    huber_loss,
    l1_loss,
    l2_loss,
    log_cosh,
    smooth_l1_loss,
    squared_error,
    squared_logarithmic_error,
)
from tests.laws.values import Row, check, evaluated, row_id, single

ROWS: list[Row] = [
    (l1_loss, (3.0, 5.0), {}, 2, -1),
    (l1_loss, (5.0, 3.0), {}, 2, 1),
    (l1_loss, (-3.0,), {}, 3, -1),
    (squared_error, (3.0, 5.0), {}, 4, -4),
    (l2_loss, (3.0, 5.0), {}, 2, -2),
    (smooth_l1_loss, (3.0, 5.0), {}, 2 - 0.5, -1),
    (smooth_l1_loss, (3.0, 5.0), {"beta": 4.0}, 4 / (2 * 4), -2 / 4),
    (smooth_l1_loss, (3.0, 5.0), {"beta": 0.0}, 2, -1),
    (smooth_l1_loss, (1.0, 0.0), {}, 0.5, 1),
    (huber_loss, (3.0, 5.0), {}, 1 * (2 - 0.5), -1),
    (huber_loss, (3.0, 5.0), {"delta": 0.5}, 0.5 * (2 - 0.25), -0.5),
    (huber_loss, (3.0, 5.0), {"delta": 4.0}, 2, -2),
    (huber_loss, (1e18, 0.0), {"delta": math.inf}, 1e36 / 2, 1e18),
    (huber_loss, (1e30, 0.0), {}, 1e30, 1),
    (huber_loss, (1e30, 0.0), {"delta": 0.0}, 0, 0),
    (log_cosh, (3.0, 5.0), {}, math.log(math.cosh(2)), -math.tanh(2)),
    (log_cosh, (1e-4, 0.0), {}, 1e-8 / 2, 1e-4),
    (log_cosh, (1e4, 0.0), {}, 1e4 - math.log(2), 1),
    (absolute_percentage_error, (3.0, 4.0), {}, 1 / 4, -1 / 4),
    (absolute_percentage_error, (3.0, 4.0), {"epsilon": 8.0}, 1 / 8, -1 / 8),
    (absolute_percentage_error, (3.0, -4.0), {}, 7 / 4, 1 / 4),
    (
        squared_logarithmic_error,
        (1.0, 7.0),
        {},
        (math.log(2) - math.log(8)) ** 2,
        2 * (math.log(2) - math.log(8)) / 2,
    ),
    (squared_logarithmic_error, (0.0, 1e30), {}, math.log(1e30) ** 2, -2 * math.log(1e30)),
]


@pytest.mark.parametrize("row", ROWS, ids=row_id)
def test_values(row: Row) -> None:
    check(row)


def test_l1_leaves_exact_predictions_alone() -> None:
    """`jax.grad(jnp.abs)(0.)` is 1: a naive L1 pushes them."""
    predictions, targets = single([1.0, 2.0, -0.0]), single([1.0, 5.0, 0.0])
    _, slopes = evaluated(l1_loss, predictions, targets, wrt=(0, 1))
    np.testing.assert_array_equal(slopes, [[0, -1, 0], [0, 1, 0]])
    assert jax.grad(jnp.abs)(0.0) == 1


def test_l1_has_no_curvature() -> None:
    backward, forward = jax.jit(jax.grad(jax.grad(l1_loss))), jax.jit(jax.hessian(l1_loss))
    for x in (0.0, 1.0, -2.0):
        assert backward(x) == 0
        assert forward(x) == 0


@pytest.mark.parametrize("beta", [0.0, jnp.float32(0.0)])
def test_smooth_l1_at_beta_0_is_l1(beta: float) -> None:
    errors = single([-1e30, -2.0, -1e-30, 0.0, 1e-30, 0.5, 7.0])

    def total(x: jax.Array, beta: float) -> jax.Array:
        return smooth_l1_loss(x, beta=beta, reduction="sum")

    for grad in (jax.grad(total), jax.jit(jax.grad(total))):
        np.testing.assert_array_equal(grad(errors, beta), np.sign(errors))
    np.testing.assert_array_equal(smooth_l1_loss(errors, beta=beta), l1_loss(errors))
    second = jax.jit(jax.grad(lambda x: jnp.sum(jax.grad(total)(x, beta))))(errors)
    np.testing.assert_array_equal(second, 0 * errors)


def test_huber_at_an_infinite_delta_is_l2() -> None:
    errors = single([-1e18, -2.0, 0.0, 0.5, 1e18, np.inf])
    losses, (slope,) = evaluated(huber_loss, errors, delta=np.inf)
    np.testing.assert_array_equal(losses, l2_loss(errors))
    np.testing.assert_array_equal(slope, errors)


@pytest.mark.parametrize("loss", [smooth_l1_loss, huber_loss])
def test_second_derivative_turns_from_square_to_line(loss: jax.stages.Wrapped) -> None:
    second = jax.jit(jax.vmap(jax.grad(jax.grad(loss))))(single([0.0, 0.999, 1.0, -1.0, 3.0]))
    np.testing.assert_array_equal(second, [1, 1, 0, 0, 0])


@pytest.mark.parametrize(
    "loss",
    [l1_loss, squared_error, l2_loss, smooth_l1_loss, huber_loss, log_cosh],
)
def test_infinite_errors_cost_infinitely(loss: jax.stages.Wrapped) -> None:
    losses, (slopes,) = evaluated(loss, single([np.inf, -np.inf]))
    np.testing.assert_array_equal(losses, [np.inf, np.inf])
    assert not np.any(np.isnan(slopes))


def test_percentage_of_nothing() -> None:
    """Nothing is divided by less than epsilon, and by 0 only if epsilon is 0."""
    assert absolute_percentage_error(1.0, 0.0) == pytest.approx(1e7)
    assert absolute_percentage_error(1.0, 0.0, epsilon=0.0) == jnp.inf


def test_squared_logarithmic_error_at_its_end() -> None:
    assert squared_logarithmic_error(0.0, -1.0) == jnp.inf
    assert jnp.isnan(squared_logarithmic_error(-2.0, -3.0))


def test_log_cosh_is_curved_in_its_tails() -> None:
    """sech(e)^2, which is 4 exp(-2 |e|) there; 1 - tanh(e)^2 would be rounded to 0."""
    curved = jax.jit(jax.hessian(log_cosh))
    assert curved(20.0) == pytest.approx(4 * math.exp(-40), rel=1e-5, abs=0)
    assert curved(0.0) == 1


@pytest.mark.parametrize("loss", [huber_loss, smooth_l1_loss])
def test_an_error_rounded_to_the_end_of_the_square_lies_in_it(loss: Any) -> None:
    """In float32 1 - 1e-12 is 1, where the line begins; the curvature is that of the square."""
    curved = jax.jit(jax.hessian(lambda x, t: loss(x, t)))
    assert curved(1.0, 1e-12) == 1
    assert curved(1.0, 0.0) == curved(1.0, -1e-12) == 0


def test_the_readme_example_of_a_naive_masked_mean() -> None:
    """0 * NaN is NaN; a mask that reaches the inputs is not multiplied."""
    predictions, mask = jnp.array([1.0, jnp.nan]), jnp.array([True, False])
    naive = jnp.sum(jnp.abs(predictions) * jnp.array([1.0, 0.0])) / 1.0
    assert jnp.isnan(naive)
    assert jaxloss.l1_loss(predictions, where=mask, reduction="mean") == 1
