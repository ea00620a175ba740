"""Lengths and products of vectors of every size, in both forms that platforms have."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxloss._numerics import squares, xla

INF, NAN = np.inf, np.nan
SIZES = (1.0, 1e30, 1e20, 1e-3, 1e-25, 1e-30)
FORMS = ("cpu", "plain")


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The form of CPUs, then that of all others."""
    chosen = FORMS.index(request.param)
    monkeypatch.setattr(xla, "either", lambda *forms_and_args: _apply(chosen, *forms_and_args))


def _apply(chosen: int, cpu: Any, plain: Any, *args: Any) -> Any:
    return (cpu, plain)[chosen](*args)


def vectors(seed: int) -> np.ndarray:
    """Two of each size, of which some entries are much smaller, and vectors of zeros."""
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 1, (2 * len(SIZES) + 1, 40)) * np.append(np.repeat(SIZES, 2), 0)[:, None]
    x[::2, ::3] *= 1e-6
    return rng.permutation(x).astype(np.float32)


@pytest.mark.usefixtures("form")
def test_distances_of_every_size() -> None:
    u, v = vectors(0), vectors(1)
    compute = jax.jit(functools.partial(squares.distance, (1,)))
    for square in (0.0, 1e-30, 0.25, 1e30):
        # The difference as it is rounded.
        e = np.concatenate([np.float64(u - v).T, np.full((1, len(u)), np.sqrt(square))])
        exact = np.sqrt(np.sum(e * e, 0))
        found = compute(u, v, jnp.full((len(u), 1), square))[:, 0]
        np.testing.assert_allclose(found, exact, rtol=5e-7)


@pytest.mark.usefixtures("form")
def test_ends_of_distances() -> None:
    u = jnp.array([[INF, 1.0], [INF, -INF], [NAN, INF], [1e-37, 0.0], [3e38, 0.0], [0.0, 0.0]])
    found = squares.distance((1,), u, jnp.zeros_like(u), jnp.zeros((len(u), 1)))[:, 0]
    np.testing.assert_array_equal(found, single([INF, INF, NAN, 1e-37, 3e38, 0.0]))


def single(x: Any) -> np.ndarray:
    return np.asarray(x, np.float32)


@pytest.mark.usefixtures("form")
def test_products_of_vectors_of_every_size() -> None:
    a, b = vectors(2), vectors(3)
    scale, square, product = jax.jit(functools.partial(squares.products, (1,)))(a, b)
    s, t = (np.float64(x) for x in scale)
    u, v = a / s, b / t
    exact = *(np.sum(x * x, 1, keepdims=True) for x in (u, v)), np.sum(u * v, 1, keepdims=True)
    lengths = np.sqrt(exact[0] * exact[1])
    assert np.all((s > 0) & (t > 0))
    for found, expected in zip(square, exact[:2], strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert np.all(np.abs(product - exact[2]) <= 1e-6 * lengths)


@pytest.mark.usefixtures("form")
def test_derivatives_of_products() -> None:
    a, b = (jnp.asarray(x[:1] / np.abs(x[:1]).max()) for x in (vectors(5), vectors(6)))
    moved = jnp.cos(a), jnp.sin(b)
    found, tangents = jax.jvp(functools.partial(squares.products, (1,)), (a, b), moved)
    assert not np.any(tangents.scale)

    def unscaled(a: jax.Array, b: jax.Array) -> list[jax.Array]:
        u, v = (x / scale for x, scale in zip((a, b), found.scale, strict=True))
        return [jnp.sum(x, 1, keepdims=True) for x in (u * u, v * v, u * v)]

    _, expected = jax.jvp(unscaled, (a, b), moved)
    for x, y in zip((*tangents.square, tangents.product), expected, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5)
