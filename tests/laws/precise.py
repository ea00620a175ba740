"""The numbers that oracles take and return, and what is near them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from mpmath import mp


def exact(x: Any) -> Any:
    """A number, or nested lists of them, without rounding."""
    return [exact(row) for row in x] if np.ndim(x) else mp.mpf(float(x))


def mpf(numbers: Iterable[Any]) -> list[Any]:
    return [mp.mpf(x) for x in numbers]


def total(terms: Any) -> float:
    return float(mp.fsum(terms))


def near(value: Any) -> Any:
    return pytest.approx(value, rel=1e-9, abs=1e-11)


def near_relative(value: Any) -> Any:
    return pytest.approx(value, rel=1e-12, abs=0)


def same(a: Any, b: Any) -> None:
    np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13)
