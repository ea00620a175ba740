"""The oracles of two classes and of several labels against optax and brute force."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from tests.laws.precise import as_in_optax, at_the_end, equal, value


@pytest.mark.parametrize(
    ("name", "args", "options", "wrt"),
    [
        ("sigmoid_binary_cross_entropy", (1.3, 0.2), {}, (0, 1)),
        ("sigmoid_focal_loss", (1.3, 0.2), {"alpha": 0.3, "gamma": 1.5}, (0, 1)),
        ("sparsemax_loss", (0.4, 1.0), {}, (0,)),
        ("hinge_loss", (0.4, -1.0), {}, (0,)),
        ("perceptron_loss", (0.4, -1.0), {}, (0,)),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_optax(name: str, args: Any, options: Any, wrt: Any) -> None:
    as_in_optax(name, args, options, wrt)


def test_margins_by_brute_force() -> None:
    scores, labels = np.random.default_rng(0).normal(0, 2, 4), np.array([1.0, 0.0, -1.0, 1.0])
    pairs = itertools.product((0, 3), (1, 2))
    expected = sum(max(0, 1 - (scores[j] - scores[i])) for j, i in pairs) / 4
    equal(value("multilabel_margin_loss", scores, labels), expected)


@pytest.mark.parametrize(
    ("name", "args", "options", "wrt", "expected"),
    [
        ("sigmoid_binary_cross_entropy", (np.inf, 1.0), {}, None, 0),
        ("sigmoid_binary_cross_entropy", (np.inf, 0.0), {}, None, np.inf),
        ("sigmoid_binary_cross_entropy", (0.0, 1.5), {}, None, np.nan),
        # A label at an end, and a prediction: the slope from inside.
        ("sigmoid_binary_cross_entropy", (3.0, 1.0), {}, 1, -3),
        ("binary_cross_entropy", (0.0, 0.0), {}, 0, 1),
        ("binary_cross_entropy", (0.0, 1.0), {"epsilon": 0.25}, 0, -4),
        ("binary_cross_entropy", (1.5, 1.0), {}, None, np.nan),
        # A target that selects has no slope, wherever it is.
        ("hinge_loss", (0.5, 0.0), {}, 1, 0),
    ],
)
def test_ends(name: str, args: Any, options: Any, wrt: Any, expected: float) -> None:
    at_the_end(name, args, options, wrt, expected)
