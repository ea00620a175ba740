"""The likelihoods of PyTorch, Keras, scikit-learn and SciPy, where those are right."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import jaxloss
from tests.laws.peers import (
    AMOUNTS,
    COUNTS,
    KINKS,
    LOGARITHMS,
    MEANS,
    Row,
    alike,
    close,
    compare,
    evaluated,
    float32,
    float64,
    last,
    of_keras,
    of_scikit_learn,
    of_torch,
    rows,
)
from tests.laws.values import EPS, single

# The largest terms of the Poisson likelihood and of its derivatives.
POISSON = MEANS + COUNTS * (1 + np.abs(LOGARITHMS) + 1 / MEANS) + 1
WEIGHTS = single(np.random.default_rng(3).uniform(size=MEANS.shape))


@rows(
    Row(
        "poisson",
        jaxloss.poisson_nll_loss,
        lambda F, p, t: F.poisson_nll_loss(p, t, reduction="none"),
        (LOGARITHMS, COUNTS),
        largest=POISSON,
    ),
    Row(
        "poisson-of-means",
        lambda p, t: jaxloss.poisson_nll_loss(p, t, log_input=False, eps=1e-8),
        lambda F, p, t: F.poisson_nll_loss(p, t, log_input=False, reduction="none"),
        (MEANS, COUNTS),
        largest=POISSON,
    ),
    *(
        Row(
            f"gaussian{'-full' * full}",
            lambda p, t, v, full=full: jaxloss.gaussian_nll_loss(p, t, v, full=full, eps=1e-6),
            lambda F, p, t, v, full=full: F.gaussian_nll_loss(p, t, v, full, reduction="none"),
            # The last variance lies below eps.
            (*KINKS, *float32([0.5, 1.0, 2.0, 4.0, 0.1, 3.0, 9.0, 1e-8])),
            largest=2,
        )
        for full in (False, True)
    ),
)
def test_torch(row):
    compare(row, of_torch(row.theirs, *row.inputs))


@rows(
    Row(
        "poisson",
        lambda p, t: jaxloss.poisson_nll_loss(p, t, log_input=False, eps=1e-7),
        lambda k, p, t: k.poisson(last(t), last(p)),
        (MEANS, COUNTS),
        largest=POISSON,
    ),
)
def test_keras(row):
    compare(row, of_keras(row.theirs, *row.inputs))


def _tweedie(power: float, log_input: bool) -> Callable[..., Any]:
    return lambda p, t: jaxloss.tweedie_loss(p, t, power=power, log_input=log_input)


def _tweedie_terms(power: float) -> np.ndarray:
    """mu^(2 - p) and y mu^(1 - p), over what they are divided by, and the amounts."""
    high, low = MEANS ** (2 - power), AMOUNTS * MEANS ** (1 - power)
    return high / (abs(2 - power) or 1) + low / (abs(1 - power) or 1) + POISSON


@rows(
    Row(
        "poisson",
        jaxloss.poisson_nll_loss,
        lambda m: m.HalfPoissonLoss(),
        (LOGARITHMS, COUNTS),
        largest=POISSON,
    ),
    Row(
        "gamma",
        jaxloss.gamma_nll_loss,
        lambda m: m.HalfGammaLoss(),
        (LOGARITHMS, AMOUNTS),
        largest=np.abs(LOGARITHMS) + AMOUNTS / MEANS,
    ),
    *(
        Row(
            f"tweedie-{power}",
            _tweedie(power, True),
            lambda m, power=power: m.HalfTweedieLoss(power=power),
            (LOGARITHMS, AMOUNTS if power >= 2 else COUNTS),
            largest=_tweedie_terms(power),
        )
        for power in (-1.0, 0.0, 0.5, 1.0, 1.5, 2.0, 3.0)
    ),
)
def test_scikit_learn_losses(row):
    losses, (slopes, _) = evaluated(row.ours, *row.inputs)
    theirs = of_scikit_learn(row.theirs, *row.inputs)
    alike((losses, [slopes]), theirs, largest=row.largest)


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 1.5, 2.0, 3.0])
def test_scikit_learn_tweedie_of_means_differs_by_what_targets_alone_decide(power):
    theirs = of_scikit_learn(lambda m: m.HalfTweedieLossIdentity(power=power), MEANS, AMOUNTS)
    losses, (slopes, _) = evaluated(_tweedie(power, False), MEANS, AMOUNTS)
    at_truth, _ = evaluated(_tweedie(power, False), AMOUNTS, AMOUNTS)
    # There the loss is half the deviance, which is 0 at the truth.
    alike((losses - at_truth, [slopes]), theirs, largest=_tweedie_terms(power))


def _deviance(power: float) -> Callable[..., Any]:
    def deviance(p, t, w):
        half = _tweedie(power, False)(p, t) - _tweedie(power, False)(t, t)
        return jaxloss.reduce(2 * half, weights=w, reduction="mean")

    return deviance


@rows(
    *(
        Row(
            f"mean_tweedie_deviance-{power}",
            _deviance(power),
            lambda m, p, t, w, power=power: m.mean_tweedie_deviance(
                t, p, sample_weight=w, power=power
            ),
            (MEANS, AMOUNTS, WEIGHTS),
            largest=np.max(_tweedie_terms(power)),
        )
        for power in (0, 1, 1.5, 2, 3)
    ),
)
def test_scikit_learn_metrics(row):
    metrics = pytest.importorskip("sklearn.metrics")
    expected = row.theirs(metrics, *float64(*row.inputs))
    close(row.ours(*row.inputs), expected, largest=row.largest)


SCALES = float32([0.5, 1.0, 2.0, 4.0, 0.1, 3.0, 9.0, 1.0])[0]
DEGREES = float32([1.0, 2.0, 3.5, 5.0, 30.0, 0.5, 1e3, 1e6])[0]
DISPERSIONS = float32([0.5, 1.0, 2.0, 0.1, 3.0, 0.01, 0.25, 7.0])[0]
MOVED = float32([0.3, -2.0, 1.5, 4.0, -0.2, 9.0, -20.0, 2.0], [0.0, 1.0, 1.0, -4.0, 0.3, 1, 5, 6])


@rows(
    Row(
        "norm",
        lambda m, y, s: jaxloss.gaussian_nll_loss(m, y, s * s, full=True),
        lambda stats, m, y, s: stats.norm.logpdf(y, m, s),
        (*MOVED, SCALES),
        largest=5,
    ),
    Row(
        "laplace",
        jaxloss.laplace_nll_loss,
        lambda stats, m, y, s: stats.laplace.logpdf(y, m, s),
        (*MOVED, SCALES),
        largest=5,
    ),
    Row(
        "t",
        jaxloss.student_t_nll_loss,
        lambda stats, m, y, s, df: stats.t.logpdf(y, df, m, s),
        (*MOVED, SCALES, DEGREES),
        # The gamma functions at 500,000 cancel to eps * 6e6 of float64, nothing here.
        largest=5,
    ),
    Row(
        "cauchy",
        lambda m, y, s: jaxloss.student_t_nll_loss(m, y, s, 1.0),
        lambda stats, m, y, s: stats.cauchy.logpdf(y, m, s),
        (*MOVED, SCALES),
        largest=5,
    ),
    Row(
        "poisson",
        lambda m, y: jaxloss.poisson_nll_loss(m, y, log_input=False, full=True),
        lambda stats, m, y: stats.poisson.logpmf(y, m),
        (MEANS, COUNTS),
        largest=POISSON,
    ),
    Row(
        "nbinom",
        lambda m, y, a: jaxloss.negative_binomial_nll_loss(m, y, a, log_input=False),
        lambda stats, m, y, a: stats.nbinom.logpmf(y, 1 / a, 1 / (1 + a * m)),
        (MEANS, COUNTS, DISPERSIONS),
        largest=POISSON,
    ),
)
def test_scipy_log_densities(row):
    stats = pytest.importorskip("scipy.stats")
    exact = float64(*row.inputs)
    losses, derivatives = evaluated(row.ours, *row.inputs)
    close(losses, -row.theirs(stats, *exact), largest=row.largest)
    for i, derivative in enumerate(derivatives):
        # Counts have no density between them.
        if row.name in ("poisson", "nbinom") and i == 1:
            continue
        # A central difference, good to the square of its relative step: 1e-10.
        step = np.zeros((len(exact), 1)) * exact[0]
        step[i] = 1e-5 * np.where(exact[i] == 0, 0.1, np.abs(exact[i]))
        after = row.theirs(stats, *(x + h for x, h in zip(exact, step, strict=True)))
        before = row.theirs(stats, *(x - h for x, h in zip(exact, step, strict=True)))
        close(derivative, (before - after) / (2 * step[i]), largest=row.largest)


def test_torch_adds_an_approximation_of_log_factorials():
    """Stirling's, and nothing at all for a count of 1 or less."""
    special = pytest.importorskip("scipy.special")
    inputs = float32([0.0, 0.0, 0.0], [2.0, 3.0, 5.0])
    truth = 1 + special.gammaln(np.float64(inputs[1]) + 1)
    losses, _ = of_torch(
        lambda F, p, t: F.poisson_nll_loss(p, t, full=True, reduction="none"), *inputs
    )
    assert np.all(truth - losses > 0.01)
    np.testing.assert_allclose(jaxloss.poisson_nll_loss(*inputs, full=True), truth, rtol=8 * EPS)


def test_peers_hide_an_impossible_count_behind_an_epsilon():
    """A rate of 0 cannot bring forth a count of 1."""
    impossible = float32([0.0], [1.0])
    losses, _ = of_torch(lambda F, p, t: F.poisson_nll_loss(p, t, log_input=False), *impossible)
    assert losses < 20
    losses, _ = of_keras(lambda k, p, t: k.poisson(last(t), last(p)), *impossible)
    assert losses < 20
    assert np.isposinf(jaxloss.poisson_nll_loss(*impossible, log_input=False))
