"""The oracles of one class out of several against optax, SciPy and brute force."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from mpmath import mp
from scipy import special

from tests.laws import oracle as oracles
from tests.laws.precise import as_in_optax, at_the_end, equal, value

_RNG = np.random.default_rng(0)
X = _RNG.normal(0, 2, 4)
T = _RNG.dirichlet(np.ones(4))
WEIGHTS = _RNG.uniform(0.3, 2, 4)


@pytest.mark.parametrize(
    ("name", "args", "options", "wrt"),
    [
        ("softmax_cross_entropy", (X, T), {}, (0, 1)),
        ("softmax_cross_entropy_with_integer_labels", (X, 2), {}, (0,)),
        ("poly_loss_cross_entropy", (X, T), {"epsilon": -0.7}, (0, 1)),
        ("multiclass_hinge_loss", (X, 3), {}, (0,)),
        ("multiclass_perceptron_loss", (X, 3), {}, (0,)),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_optax(name: str, args: Any, options: Any, wrt: Any) -> None:
    as_in_optax(name, args, options, wrt)


def test_sparsemax_of_optax() -> None:
    as_in_optax("multiclass_sparsemax_loss", (X / 3, np.array(1)), {}, (0,), batched=True)


def test_scipy() -> None:
    p = special.softmax(X)
    y, smoothed = np.eye(4)[2], 0.9 * np.eye(4)[2] + 0.025
    options = {"class_weights": WEIGHTS, "label_smoothing": 0.1}
    terms = -WEIGHTS * smoothed * np.log(p)
    normaliser = 0.2 * WEIGHTS[2] * np.log(np.exp(X).sum()) ** 2
    equal(value("softmax_cross_entropy", X, y, z_loss=0.2, **options), terms.sum() + normaliser)
    equal(value("softmax_cross_entropy", X, 2, z_loss=0.2, **options), terms.sum() + normaliser)
    equal(value("softmax_focal_loss", X, 2, gamma=0.5, **options), (terms * (1 - p) ** 0.5).sum())
    equal(value("generalized_cross_entropy", X, 2, q=0.5), 2 * (1 - p[2] ** 0.5))
    reverse = -0.5 * WEIGHTS[2] * (p * np.maximum(np.log(np.maximum(y, 1e-9)), -3)).sum()
    symmetric = {"alpha": 0.3, "beta": 0.5, "log_zero": -3.0, "class_weights": WEIGHTS}
    forward = -0.3 * WEIGHTS[2] * np.log(p[2])
    equal(value("symmetric_cross_entropy", X, y, **symmetric), forward + reverse)
    equal(value("symmetric_cross_entropy", X, 2, **symmetric), forward + reverse)


def test_margins_by_brute_force() -> None:
    for p in (1, 2):
        rows = [max(0, 0.7 - X[1] + X[i]) ** p for i in (0, 2, 3)]
        ours = value("multi_margin_loss", X, 1, p=p, margin=0.7, class_weights=WEIGHTS)
        equal(ours, WEIGHTS[1] * sum(rows) / 4)


@pytest.mark.parametrize(
    ("name", "args", "options", "wrt", "expected"),
    [
        # One class has all the probability: what is left is its rivals'.
        ("softmax_cross_entropy", ([0.0, -600.0], 0), {}, None, np.exp(-600)),
        ("softmax_cross_entropy", ([0.0, -600.0], 0), {}, (0, (1,)), np.exp(-600)),
        ("softmax_cross_entropy", ([1e30, -1e30], 1), {}, None, 2 * np.float64(1e30)),
        ("softmax_cross_entropy", ([1.0, -np.inf], [1.0, 0.0]), {}, None, 0),
        ("softmax_cross_entropy", ([1.0, -np.inf], [1.0, 1.0]), {}, None, np.inf),
        ("softmax_cross_entropy", ([1.0, 2.0], 2), {}, None, np.nan),
        ("softmax_cross_entropy", ([1.0, 2.0], -1), {}, None, np.nan),
        ("softmax_focal_loss", ([0.0, -100.0], 0), {"gamma": 0.5}, None, np.exp(-150)),
    ],
)
def test_ends(name: str, args: Any, options: Any, wrt: Any, expected: float) -> None:
    at_the_end(name, args, options, wrt, expected)


def test_tails_are_exact() -> None:
    tail, _ = oracles.value("softmax_cross_entropy", ([0.0, -1e5], 0), {})
    with mp.workprec(400):
        assert abs(mp.log(tail) + 100000) < mp.mpf("1e-60")
