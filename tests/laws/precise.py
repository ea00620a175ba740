"""What the tests of oracles share: the numbers these take and return, and how near to others.

Tests of losses, in float32, have theirs in `values.py` and `peers.py`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mpmath import mp

from tests.laws import oracle as oracles
from tests.laws.peers import as_jax_ships


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


def equal(a: Any, b: Any) -> None:
    """As `same`, also of small numbers, infinities and NaN."""
    np.testing.assert_allclose(a, b, rtol=1e-12)


def value(name: str, *args: Any, **options: Any) -> float:
    return float(oracles.value(name, args, options)[0])


def slope(name: str, args: Any, options: Any, wrt: Any) -> float:
    return float(oracles.derivative(name, args, options, wrt)[0])


def as_in_optax(name: str, args: Any, options: Any, wrt: Any, batched: bool = False) -> None:
    """The oracle's value, and derivatives in the arguments `wrt`, are those of optax's float64.

    `batched` is for a loss of optax that takes no single example.
    """
    loss = getattr(pytest.importorskip("optax.losses"), name)

    def theirs(*args: Any) -> Any:
        if batched:
            return loss(*(x[None] for x in args), **options)[0]
        return loss(*args, **options)

    with jax.enable_x64(True), as_jax_ships():
        given = [jnp.asarray(x) for x in args]
        losses, slopes = jax.jit(jax.value_and_grad(theirs, wrt))(*given)
        equal(value(name, *args, **options), losses)
    for index, expected in zip(wrt, map(np.asarray, slopes), strict=True):
        for place in np.ndindex(np.shape(args[index])):
            ours = slope(name, args, options, (index, place) if place else index)
            np.testing.assert_allclose(ours, expected[place], rtol=1e-9, atol=1e-14)


def at_the_end(name: str, args: Any, options: Any, wrt: Any, expected: float) -> None:
    """The value of an oracle, or its derivative in `wrt`, at an end of the domain."""
    ours = value(name, *args, **options) if wrt is None else slope(name, args, options, wrt)
    equal(ours, expected)
