"""Regression as in PyTorch, optax, Keras and scikit-learn, where those are right.

Every row compares values and derivatives; the tests at the end record where a peer is off, so
that one learns when it no longer is.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

import jaxloss
from tests.laws.peers import (
    AMOUNTS,
    COUNTS,
    KINKS,
    MEANS,
    Row,
    alike,
    as_jax_ships,
    close,
    compare,
    evaluated,
    float32,
    float64,
    last,
    of_keras,
    of_optax,
    of_scikit_learn,
    of_torch,
    rows,
)
from tests.laws.values import EPS, single

_RNG = np.random.default_rng(3)
# Errors on both sides of every default, and some that are not binary fractions.
ORDINARY = float32(3 * _RNG.normal(size=32), 2 * _RNG.normal(size=32))
POINTS = tuple(np.concatenate(pair) for pair in zip(ORDINARY, KINKS, strict=True))
# Keras and scikit-learn have a slope of their own choice where an absolute error is 0.
OFF_ZERO = tuple(x[POINTS[0] != POINTS[1]] for x in POINTS)
WEIGHTS = single(_RNG.uniform(size=POINTS[0].shape))


@rows(
    Row("l1", jaxloss.l1_loss, lambda F, p, t: F.l1_loss(p, t, reduction="none"), POINTS),
    Row("mse", jaxloss.squared_error, lambda F, p, t: F.mse_loss(p, t, reduction="none"), POINTS),
    *(
        Row(
            f"smooth_l1-{beta}",
            lambda p, t, beta=beta: jaxloss.smooth_l1_loss(p, t, beta=beta),
            lambda F, p, t, beta=beta: F.smooth_l1_loss(p, t, reduction="none", beta=beta),
            POINTS,
        )
        for beta in (0.0, 0.5, 1.0, 3.0)
    ),
    *(
        Row(
            f"huber-{delta}",
            lambda p, t, delta=delta: jaxloss.huber_loss(p, t, delta=delta),
            lambda F, p, t, delta=delta: F.huber_loss(p, t, reduction="none", delta=delta),
            POINTS,
        )
        for delta in (0.5, 1.0, 3.0, float("inf"))
    ),
    Row(
        "l1-weighted-mean",
        lambda p, t: jaxloss.l1_loss(p, t, weights=WEIGHTS, reduction="mean"),
        lambda F, p, t: F.l1_loss(p, t, weight=p.new_tensor(WEIGHTS)),
        POINTS,
    ),
    Row(
        "mse-weighted-mean",
        lambda p, t: jaxloss.squared_error(p, t, weights=WEIGHTS, reduction="mean"),
        lambda F, p, t: F.mse_loss(p, t, weight=p.new_tensor(WEIGHTS)),
        POINTS,
    ),
)
def test_torch(row):
    compare(row, of_torch(row.theirs, *row.inputs))


@rows(
    Row("squared_error", jaxloss.squared_error, lambda o, p, t: o.squared_error(p, t), POINTS),
    Row("l2_loss", jaxloss.l2_loss, lambda o, p, t: o.l2_loss(p, t), POINTS),
    Row("l2_loss-of-errors", jaxloss.l2_loss, lambda o, p: o.l2_loss(p), POINTS[:1]),
    *(
        Row(
            f"huber_loss-{delta}",
            lambda p, t, delta=delta: jaxloss.huber_loss(p, t, delta=delta),
            lambda o, p, t, delta=delta: o.huber_loss(p, t, delta=delta),
            POINTS,
        )
        for delta in (0.0, 0.5, 1.0, 3.0)
    ),
    # Optax subtracts log 2 from a logarithm.
    Row("log_cosh", jaxloss.log_cosh, lambda o, p, t: o.log_cosh(p, t), POINTS, largest=1),
)
def test_optax(row):
    compare(row, of_optax(row.theirs, *row.inputs))


@rows(
    Row(
        "mean_squared_error",
        jaxloss.squared_error,
        lambda k, p, t: k.mean_squared_error(last(t), last(p)),
        POINTS,
    ),
    Row(
        "mean_absolute_error",
        jaxloss.l1_loss,
        lambda k, p, t: k.mean_absolute_error(last(t), last(p)),
        OFF_ZERO,
    ),
    Row(
        "mean_absolute_percentage_error",
        jaxloss.absolute_percentage_error,
        lambda k, p, t: k.mean_absolute_percentage_error(last(t), last(p)) / 100,
        OFF_ZERO,
        # Keras's derivative in targets is the difference of 1 / t and e / t^2.
        largest=1 / np.maximum(np.abs(OFF_ZERO[1]), 1e-7),
    ),
    Row(
        "mean_squared_logarithmic_error",
        jaxloss.squared_logarithmic_error,
        lambda k, p, t: k.mean_squared_logarithmic_error(last(t), last(p)),
        (MEANS, AMOUNTS),
        # The difference of two logarithms up to 3.
        largest=3,
    ),
    *(
        Row(
            f"huber-{delta}",
            lambda p, t, delta=delta: jaxloss.huber_loss(p, t, delta=delta),
            lambda k, p, t, delta=delta: k.huber(last(t), last(p), delta),
            POINTS,
        )
        for delta in (0.5, 1.0, 3.0)
    ),
    Row(
        "log_cosh",
        jaxloss.log_cosh,
        lambda k, p, t: k.log_cosh(last(t), last(p)),
        POINTS,
        # e + softplus(-2 e) - log 2, of which the first two cancel below 0.
        largest=10,
    ),
)
def test_keras(row):
    compare(row, of_keras(row.theirs, *row.inputs))


@rows(
    Row("squared", jaxloss.l2_loss, lambda m: m.HalfSquaredError(), POINTS),
    Row("absolute", jaxloss.l1_loss, lambda m: m.AbsoluteError(), OFF_ZERO),
    *(
        Row(
            f"pinball-{q}",
            lambda p, t, q=q: jaxloss.quantile_loss(p, t, quantile=q),
            lambda m, q=q: m.PinballLoss(quantile=q),
            OFF_ZERO,
        )
        for q in (0.1, 0.5, 0.75)
    ),
    *(
        Row(
            f"huber-{delta}",
            lambda p, t, delta=delta: jaxloss.huber_loss(p, t, delta=delta),
            lambda m, delta=delta: m.HuberLoss(delta=delta),
            POINTS,
        )
        for delta in (0.5, 1.0)
    ),
)
def test_scikit_learn_losses(row):
    losses, (slopes, _) = evaluated(row.ours, *row.inputs)
    theirs = of_scikit_learn(row.theirs, *row.inputs)
    alike((losses, [slopes]), theirs, largest=row.largest)


@rows(
    *(
        Row(
            f"mean_pinball_loss-{q}",
            lambda p, t, w, q=q: jaxloss.quantile_loss(
                p, t, quantile=q, weights=w, reduction="mean"
            ),
            lambda m, p, t, w, q=q: m.mean_pinball_loss(t, p, alpha=q, sample_weight=w),
            (*POINTS, WEIGHTS),
        )
        for q in (0.1, 0.5, 0.9)
    ),
    Row(
        "mean_absolute_percentage_error",
        lambda p, t, w: jaxloss.absolute_percentage_error(p, t, weights=w, reduction="mean"),
        lambda m, p, t, w: m.mean_absolute_percentage_error(t, p, sample_weight=w),
        # Where a target is 0 the two read different small numbers instead.
        tuple(x[POINTS[1] != 0] for x in (*POINTS, WEIGHTS)),
    ),
    Row(
        "mean_squared_log_error",
        lambda p, t, w: jaxloss.squared_logarithmic_error(p, t, weights=w, reduction="mean"),
        lambda m, p, t, w: m.mean_squared_log_error(t, p, sample_weight=w),
        (MEANS, COUNTS, WEIGHTS[:8]),
    ),
)
def test_scikit_learn_metrics(row):
    metrics = pytest.importorskip("sklearn.metrics")
    expected = row.theirs(metrics, *float64(*row.inputs))
    close(row.ours(*row.inputs), expected, largest=row.largest)


def test_keras_pushes_an_exact_prediction_where_torch_does_not():
    """JAX's own slope of |x| at 0 is 1."""
    exact = float32([0.0, 2.0], [0.0, 2.0])
    _, (slopes, _) = of_keras(lambda k, p, t: k.mean_absolute_error(last(t), last(p)), *exact)
    np.testing.assert_array_equal(np.abs(slopes), [1, 1])
    for derivative in evaluated(jaxloss.l1_loss, *exact)[1]:
        np.testing.assert_array_equal(derivative, [0, 0])


def test_scikit_learn_pushes_an_exact_prediction():
    module = pytest.importorskip("sklearn._loss.loss")
    exact = np.zeros(1)
    assert module.AbsoluteError().gradient(exact, exact) == -1
    assert module.PinballLoss(quantile=0.9).gradient(exact, exact) == -0.9
    for loss in (jaxloss.l1_loss, lambda p, t: jaxloss.quantile_loss(p, t, quantile=0.9)):
        _, slopes = evaluated(loss, *float32(exact, exact))
        np.testing.assert_array_equal(slopes, np.zeros((2, 1)))


@pytest.mark.parametrize(
    ("peer", "loss"),
    [
        (of_optax, lambda o, e: o.log_cosh(e)),
        (of_keras, lambda k, e: k.log_cosh(last(jnp.zeros_like(e)), last(e))),
    ],
    ids=["optax", "keras"],
)
def test_the_log_cosh_of_peers_is_7_percent_off_at_a_thousandth(peer, loss):
    (errors,) = float32([1e-4, 1e-3, -1e-3])
    truth = np.log1p(2 * np.sinh(np.float64(errors) / 2) ** 2)
    wrong = peer(loss, errors)[0] / truth - 1
    assert np.all(np.abs(wrong) > 0.05)
    np.testing.assert_allclose(jaxloss.log_cosh(errors), truth, rtol=8 * EPS)


def test_optax_huber_is_nan_at_an_infinite_delta_and_negative_at_a_negative_one():
    (errors,) = float32([1.0, -2.0])
    losses, (slopes,) = of_optax(lambda o, e: o.huber_loss(e, delta=jnp.inf), errors)
    assert np.all(np.isnan(losses) & np.isnan(slopes))
    assert np.all(of_optax(lambda o, e: o.huber_loss(e, delta=-1.0), errors)[0] < 0)
    losses, (slopes,) = evaluated(lambda e: jaxloss.huber_loss(e, delta=jnp.inf), errors)
    np.testing.assert_array_equal(losses, [0.5, 2])
    np.testing.assert_array_equal(slopes, errors)
    losses, (slopes,) = evaluated(lambda e: jaxloss.huber_loss(e, delta=-1.0), errors)
    assert np.all(np.isnan(losses) & np.isnan(slopes))


def test_keras_huber_has_no_derivative_at_an_infinite_error():
    (errors,) = float32([np.inf, -np.inf])
    _, (slopes,) = of_keras(lambda k, p: k.huber(last(jnp.zeros_like(p)), last(p)), errors)
    assert np.all(np.isnan(slopes))
    losses, (slopes,) = evaluated(jaxloss.huber_loss, errors)
    np.testing.assert_array_equal(losses, [np.inf, np.inf])
    np.testing.assert_array_equal(slopes, [1, -1])


def test_keras_lets_a_nan_of_weight_0_into_the_mean():
    keras = pytest.importorskip("keras")
    (errors,) = float32([np.nan, 1.0])
    with as_jax_ships():
        loss = keras.losses.MeanSquaredError()
        value = loss(jnp.zeros((2, 1)), errors[:, None], sample_weight=jnp.array([0.0, 1.0]))
    assert np.isnan(value)
    assert jaxloss.squared_error(errors, where=np.array([False, True]), reduction="mean") == 1


def test_keras_leaves_predictions_below_0_without_derivative_in_the_logarithmic_error():
    inputs = float32([-0.5, -0.5], [1.0, 0.25])
    losses, (slopes, _) = of_keras(
        lambda k, p, t: k.mean_squared_logarithmic_error(last(t), last(p)), *inputs
    )
    np.testing.assert_array_equal(slopes, [0, 0])
    truth = (np.log(0.5) - np.log1p(np.float64(inputs[1]))) ** 2
    assert np.all(truth - losses > 0.5)
    losses, (slopes, _) = evaluated(jaxloss.squared_logarithmic_error, *inputs)
    np.testing.assert_allclose(losses, truth, rtol=8 * EPS)
    np.testing.assert_allclose(slopes, -2 * np.sqrt(truth) / 0.5, rtol=8 * EPS)


def test_torch_huber_and_keras_divide_a_weighted_mean_by_the_count():
    """PyTorch's own l1 and mse divide by the sum of the weights."""
    errors, weights = float32([1.0, 1.0], [1.0, 3.0])
    losses, _ = of_torch(lambda F, e: F.huber_loss(e, 0 * e, weight=e.new_tensor(weights)), errors)
    assert losses == 1
    keras = pytest.importorskip("keras")
    with as_jax_ships():
        theirs = keras.losses.Huber()(jnp.zeros((2, 1)), errors[:, None], sample_weight=weights)
    assert theirs == 1
    assert jaxloss.huber_loss(errors, weights=weights, reduction="mean") == 0.5
    assert jnp.mean(jaxloss.huber_loss(errors, weights=weights)) == 1


def test_torch_hides_a_nan_error_from_the_derivative_of_l1():
    (errors,) = float32([np.nan, 1.0])
    _, (slopes,) = of_torch(lambda F, e: F.l1_loss(e, 0 * e.detach(), reduction="none"), errors)
    np.testing.assert_array_equal(slopes, [0, 1])
    np.testing.assert_array_equal(evaluated(jaxloss.l1_loss, errors)[1], [[np.nan, 1]])


def test_torch_has_no_mean_of_nothing():
    (nothing,) = float32([])
    assert np.isnan(of_torch(lambda F, e: F.l1_loss(e, 0 * e), nothing)[0])
    assert jaxloss.l1_loss(nothing, reduction="mean") == 0
