"""The oracles of divergences against optax and SciPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import special
from scipy.spatial import distance

from tests.laws.precise import as_in_optax, at_the_end, equal, value

_RNG = np.random.default_rng(0)
X, Y = _RNG.normal(0, 2, (2, 4))
P, T = _RNG.dirichlet(np.ones(4), 2)


@pytest.mark.parametrize(
    ("name", "args", "options", "wrt"),
    [
        ("kl_divergence", (np.log(P), T), {}, (0, 1)),
        ("generalized_kl_divergence", (np.log(P), 2 * T), {}, (0, 1)),
        ("kl_divergence_with_log_targets", (np.log(P), np.log(T)), {}, (0, 1)),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_optax(name: str, args: Any, options: Any, wrt: Any) -> None:
    as_in_optax(name, args, options, wrt)


def test_scipy() -> None:
    equal(value("jensen_shannon_divergence", P, T), np.square(distance.jensenshannon(P, T)))
    equal(value("total_variation_distance", P, T), distance.cityblock(P, T) / 2)
    roots = distance.euclidean(np.sqrt(P), np.sqrt(T)) / np.sqrt(2)
    equal(value("hellinger_distance", P, T), roots)
    kl = special.rel_entr(T, P).sum()
    equal(value("renyi_divergence", P, T, alpha=1.0), kl)
    np.testing.assert_allclose(value("renyi_divergence", P, T, alpha=1 + 1e-7), kl, rtol=1e-6)
    equal(value("renyi_divergence", P, T, alpha=0.5), -2 * np.log((P * T) ** 0.5 @ np.ones(4)))
    student, teacher = special.softmax(X / 3), special.softmax(Y / 3)
    kl = special.rel_entr(teacher, student).sum()
    equal(value("distillation_loss", X, Y, temperature=3.0), 9 * kl)


@pytest.mark.parametrize(
    ("name", "args", "options", "wrt", "expected"),
    [
        ("kl_divergence", ([-np.inf, 0.0], [0.0, 1.0]), {}, None, 0),
        ("kl_divergence", ([-1.0, 0.0], [0.0, 1.0]), {}, (1, (0,)), -np.inf),
        ("jensen_shannon_divergence", ([0.0, 1.0], [0.0, 1.0]), {}, (0, (0,)), np.log(2) / 2),
        ("jensen_shannon_divergence", ([0.0, 1.0], [0.5, 0.5]), {}, (0, (0,)), -np.inf),
        ("renyi_divergence", ([0.0, 1.0], [1.0, 0.0]), {"alpha": 0.5}, None, np.inf),
        ("renyi_divergence", ([0.0, 1.0], [0.5, 0.5]), {"alpha": 2.0}, None, np.inf),
        ("renyi_divergence", ([0.25, 0.75], [0.0, 1.0]), {"alpha": 0.0}, None, np.log(4 / 3)),
        ("renyi_divergence", ([0.25, 0.75], [0.5, 0.5]), {"alpha": np.inf}, None, np.log(2)),
    ],
)
def test_ends(name: str, args: Any, options: Any, wrt: Any, expected: float) -> None:
    at_the_end(name, args, options, wrt, expected)
