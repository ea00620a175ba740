"""The oracle of CTC against optax, and where no alignment is possible."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.laws.precise import as_in_optax, at_the_end


def test_optax() -> None:
    frames, late = np.random.default_rng(0).normal(0, 2, (5, 3)), np.array([0.0] * 4 + [1.0])
    labels, spare = np.array([1, 1, 0]), np.array([0.0, 0.0, 1.0])
    as_in_optax("ctc_loss", (frames, late, labels, spare), {}, (0,), batched=True)


@pytest.mark.parametrize(
    ("name", "args", "options", "wrt", "expected"),
    [
        ("ctc_loss", ([[0.0, 1.0]], [0.0], [1, 1], [0.0, 0.0]), {}, None, np.inf),
        (
            "ctc_loss",
            ([[0.0, 1.0]], [0.0], [1, 1], [0.0, 0.0]),
            {"zero_infinity": True},
            None,
            0,
        ),
        ("ctc_loss", ([[0.0, 1.0]], [1.0], [1], [1.0]), {}, None, 0),
    ],
)
def test_ends(name: str, args: Any, options: Any, wrt: Any, expected: float) -> None:
    at_the_end(name, args, options, wrt, expected)
