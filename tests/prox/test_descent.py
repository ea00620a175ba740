"""Proximal steps in optax: other people's solvers find the same minimisers, with the same zeros."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.optimize import nnls
from sklearn.datasets import load_diabetes
from sklearn.linear_model import ElasticNet, Lasso, QuantileRegressor

from jaxloss import prox
from tests.laws.peers import as_jax_ships


def diabetes() -> tuple[np.ndarray, np.ndarray]:
    """Standardised measurements of 442 patients, and how far their disease went."""
    data: Any = load_diabetes()
    inputs, targets = data.data, data.target
    return (inputs / inputs.std(0)).astype(np.float64), (targets - targets.mean()) / targets.std()


INPUTS, TARGETS = diabetes()
COUNT = len(TARGETS)
# 1 / L of half the mean squared error.
RATE = float(COUNT / np.linalg.norm(INPUTS, 2) ** 2)


def trained(optimizer: Any, steps: int, start: Any = None) -> Any:
    """The parameters and the state after some steps on half the mean squared error, in float64."""
    inputs, targets = jnp.asarray(INPUTS), jnp.asarray(TARGETS)

    def loss(params):
        return jnp.mean((inputs @ params - targets) ** 2) / 2

    def step(_, carry):
        params, state = carry
        updates, state = optimizer.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, updates), state

    params = jnp.zeros(INPUTS.shape[1]) if start is None else start
    return jax.jit(lambda: jax.lax.fori_loop(0, steps, step, (params, optimizer.init(params))))()


@pytest.fixture(autouse=True)
def _double():
    with as_jax_ships(), jax.enable_x64(True):
        yield


def same_with_zeros(found: Any, expected: np.ndarray) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(np.asarray(found) == 0, expected == 0)
    assert 0 < np.sum(expected == 0) < len(expected)


def lasso(alpha: float) -> np.ndarray:
    return Lasso(alpha, fit_intercept=False, tol=1e-14, max_iter=100_000).fit(INPUTS, TARGETS).coef_


@pytest.mark.parametrize("alpha", [0.03, 0.2])
def test_lasso(alpha: float) -> None:
    expected = lasso(alpha)
    same_with_zeros(trained(prox.proximal_gradient(prox.l1(alpha), RATE), 4000)[0], expected)
    fast = prox.proximal_gradient(prox.l1(alpha), RATE, accelerated=True)
    params, state = trained(fast, 400)
    same_with_zeros(state.solution, expected)
    same_with_zeros(params, expected)


def test_elastic_net() -> None:
    alpha, ratio = 0.2, 0.6
    peer = ElasticNet(alpha, l1_ratio=ratio, fit_intercept=False, tol=1e-14, max_iter=100_000)
    penalty = prox.elastic_net(l1=alpha * ratio, l2=alpha * (1 - ratio))
    fast = prox.proximal_gradient(penalty, RATE, accelerated=True)
    same_with_zeros(trained(fast, 400)[1].solution, peer.fit(INPUTS, TARGETS).coef_)


def test_non_negative_least_squares() -> None:
    step = optax.chain(optax.sgd(RATE), prox.proximal_step(prox.non_negative(), RATE))
    same_with_zeros(trained(step, 4000)[0], nnls(INPUTS, TARGETS)[0])


def test_quantile_regression() -> None:
    """By the primal-dual method of Chambolle and Pock, which takes both proximal operators.

    From the mean of each thousand steps it starts anew: linear programs then converge linearly
    (Applegate, Hinder, Lu and Lubin, "Faster first-order primal-dual methods for linear
    programming using restarts and sharpness", 2023).
    """
    quantile, alpha = 0.75, 0.02
    peer = QuantileRegressor(quantile=quantile, alpha=alpha, fit_intercept=False, solver="highs")
    matrix, targets = jnp.asarray(INPUTS), jnp.asarray(TARGETS)
    # Both sums are over patients: scikit-learn's mean times their number.
    loss, penalty = prox.quantile_loss(quantile=quantile), prox.l1(alpha * COUNT)
    size, count = np.linalg.norm(INPUTS, 2), 1000
    primal, dual = 0.03 / size, 1 / (0.03 * size)

    def step(_, carry):
        x, ahead, y, mean_x, mean_y = carry
        y = loss.conjugate_prox(y + dual * (matrix @ ahead), targets, dual)
        new = penalty.prox(x - primal * (matrix.T @ y), primal)
        return new, 2 * new - x, y, mean_x + new / count, mean_y + y / count

    def again(_, carry):
        x, y = carry[3:]
        start = (x, x, y, jnp.zeros_like(x), jnp.zeros_like(y))
        return jax.lax.fori_loop(0, count, step, start)

    zeros = jnp.zeros(INPUTS.shape[1])
    start = (zeros, zeros, jnp.zeros(COUNT), zeros, jnp.zeros(COUNT))
    found = jax.jit(lambda: jax.lax.fori_loop(0, 15, again, start))()[0]
    same_with_zeros(found, peer.fit(INPUTS, TARGETS).coef_)


def test_momentum_needs_the_whole_step() -> None:
    """As its docstring says: the rate over 1 - momentum; with less it minimises something else."""
    alpha, momentum = 0.2, 0.5
    sgd = optax.sgd(RATE / 4, momentum=momentum)
    penalty = prox.l1(alpha)
    whole = optax.chain(sgd, prox.proximal_step(penalty, RATE / 4 / (1 - momentum)))
    np.testing.assert_allclose(trained(whole, 8000)[0], lasso(alpha), rtol=0, atol=1e-6)
    less = optax.chain(sgd, prox.proximal_step(penalty, RATE / 4))
    np.testing.assert_allclose(trained(less, 8000)[0], lasso(alpha / 2), rtol=0, atol=1e-6)


def test_plain_form_is_a_chain() -> None:
    penalty = prox.l1(0.2)
    schedule = optax.exponential_decay(RATE, 50, 0.9)
    for rate in (RATE, schedule):
        chain = optax.chain(optax.sgd(rate), prox.proximal_step(penalty, rate))
        one, two = trained(chain, 30)[0], trained(prox.proximal_gradient(penalty, rate), 30)[0]
        np.testing.assert_allclose(one, two, rtol=0, atol=1e-14)
    decayed = trained(prox.proximal_gradient(penalty, schedule), 30)[0]
    assert np.max(np.abs(decayed - trained(prox.proximal_gradient(penalty, RATE), 30)[0])) > 1e-4


def test_rates_and_scales_may_be_traced() -> None:
    alphas = jnp.array([0.03, 0.2])
    many = jax.vmap(
        lambda a: trained(prox.proximal_gradient(prox.l1(a), RATE, accelerated=True), 400)[0]
    )(alphas)
    for found, alpha in zip(many, alphas, strict=True):
        same_with_zeros(found, lasso(float(alpha)))
    make = optax.inject_hyperparams(lambda rate: prox.proximal_gradient(prox.l1(0.2), rate))
    params, state = trained(make(rate=RATE), 4000)
    same_with_zeros(params, lasso(0.2))
    assert float(state.hyperparams["rate"]) == RATE


def test_acceleration_is_faster() -> None:
    penalty, expected = prox.l1(0.001), lasso(0.001)

    def away(accelerated: bool, steps: int) -> float:
        optimizer = prox.proximal_gradient(penalty, RATE, accelerated=accelerated)
        params, state = trained(optimizer, steps)
        return float(np.max(np.abs((state.solution if accelerated else params) - expected)))

    assert away(True, 100) < away(False, 1000)
    assert away(True, 300) < 1e-9 < 1e-2 < away(False, 300)


def test_trees_keep_their_dtypes_and_what_is_left_out() -> None:
    params = {
        "kernel": jnp.array([[0.3, -2.0], [1e-3, 5.0]], jnp.bfloat16),
        "bias": jnp.array([1.0, 0.1], jnp.float32),
    }
    penalty = prox.masked(prox.l1(1.0), {"kernel": True, "bias": False})
    gradients = jax.tree.map(jnp.zeros_like, params)
    for optimizer in (
        optax.chain(optax.sgd(0.5), prox.proximal_step(penalty, 0.5)),
        prox.proximal_gradient(penalty, 0.5),
        prox.proximal_gradient(penalty, 0.5, accelerated=True),
        optax.masked(prox.proximal_gradient(prox.l1(1.0), 0.5), {"kernel": True, "bias": False}),
    ):
        state = optimizer.init(params)
        updates, after = optimizer.update(gradients, state, params)
        assert jax.tree.structure(state) == jax.tree.structure(after)
        for one, two in zip(jax.tree.leaves(state), jax.tree.leaves(after), strict=True):
            assert one.dtype == two.dtype
        found: Any = optax.apply_updates(params, updates)
        assert found["kernel"].dtype == jnp.bfloat16
        np.testing.assert_array_equal(found["kernel"], jnp.array([[0, -1.5], [0, 4.5]]))
        np.testing.assert_array_equal(found["bias"], params["bias"])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: prox.proximal_step(0.1, prox.l1(0.1)),  # type: ignore
            r"penalty must have a method prox, as prox.l1\(0.1\) has, got float 0.1",
        ),
        (
            lambda: prox.proximal_gradient(prox.l1(0.1), prox.l1(0.1)),
            r"learning_rate must be a number or a schedule, got .*; "
            r"proximal_gradient\(penalty, learning_rate\)",
        ),
        (
            lambda: prox.proximal_step(prox.l1(0.1), "fast"),  # type: ignore
            "learning_rate must be an array or a number, got str 'fast'",
        ),
        (
            lambda: prox.proximal_gradient(prox.l1(0.1), np.ones(3)),
            r"learning_rate must be one number, got learning_rate float64\[3\]",
        ),
        (
            lambda: prox.proximal_gradient(prox.l1(0.1), 0.1, accelerated="yes"),  # type: ignore
            "accelerated must be True or False, got str 'yes'",
        ),
        (
            lambda: prox.proximal_step(prox.l1(0.1), 0.1).update(
                jnp.ones(2), prox.proximal_step(prox.l1(0.1), 0.1).init(jnp.ones(2))
            ),
            r"proximal_step needs the parameters: update\(updates, state, params\)",
        ),
    ],
)
def test_mistakes_are_named(call: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError)) as error:
        call()
    assert re.fullmatch(message, str(error.value))


def test_optax_is_optional() -> None:
    code = """
import sys
sys.modules["optax"] = None
from jaxloss import prox
prox.l1(0.1).prox(1.0)
try:
    prox.proximal_step(prox.l1(0.1), 0.1)
except ImportError as error:
    print(error, error.name)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == ("proximal steps as transformations need optax: pip install optax optax\n")
