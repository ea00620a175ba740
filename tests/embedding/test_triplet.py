from __future__ import annotations

import functools
from typing import Any

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxloss import (
    cosine_distance,
    squared_error,
    triplet_margin_loss,
    triplet_margin_with_distance_loss,
)
from tests.laws.accuracy import EPS
from tests.laws.compiling import as_users
from tests.laws.values import Row, check, double, evaluated, row_id, single

ZERO, P, N = [0.0, 0.0], [3.0, 4.0], [0.0, 2.0]
EXACT: dict[str, Any] = {"eps": 0.0}

ROWS: list[Row] = [
    (triplet_margin_loss, (ZERO, P, N), EXACT, 5 - 2 + 1, [-3 / 5, -4 / 5 + 1]),
    (triplet_margin_loss, (ZERO, N, P), EXACT, 0, [0, 0]),
    (triplet_margin_loss, (ZERO, P, N), {"margin": 3.0, **EXACT}, 5 - 2 + 3, [-3 / 5, 1 - 4 / 5]),
    (triplet_margin_loss, (ZERO, P, N), {"norm_degree": 1, **EXACT}, 7 - 2 + 1, [-1, 0]),
    # 27 + 64 = 91; the slope of its cube root is (|x| / root)^2.
    (
        triplet_margin_loss,
        (ZERO, P, N),
        {"norm_degree": 3, **EXACT},
        91 ** (1 / 3) - 2 + 1,
        [-9 / 91 ** (2 / 3), -16 / 91 ** (2 / 3) + 1],
    ),
    (
        triplet_margin_loss,
        (ZERO, P, N),
        {"eps": 11.0},
        6 - 15**0.5 + 1,
        [-3 / 6, -4 / 6 + 2 / 15**0.5],
    ),
    # The positive is nearer to the negative, at 13^(1/2), than the anchor, at 5: swapped.
    (
        triplet_margin_loss,
        (P, ZERO, [3.0, 2.0]),
        {"swap": True, **EXACT},
        5 - 2 + 1,
        [3 / 5, 4 / 5 - 1],
    ),
    (
        triplet_margin_loss,
        ([3.0, 9.0], ZERO, N),
        {"swap": True, **EXACT},
        90**0.5 - 2 + 1,
        [3 / 90**0.5, 9 / 90**0.5],
    ),
    (triplet_margin_with_distance_loss, (ZERO, P, N), {}, 5 - 2 + 1, [-3 / 5, -4 / 5 + 1]),
    (
        triplet_margin_with_distance_loss,
        (ZERO, P, N),
        {"margin": 3.0},
        5 - 2 + 3,
        [-3 / 5, 1 - 4 / 5],
    ),
    (
        triplet_margin_with_distance_loss,
        ([3.0, 9.0], ZERO, N),
        {"swap": True},
        90**0.5 - 2 + 1,
        [3 / 90**0.5, 9 / 90**0.5],
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=row_id)
def test_values(row: Row) -> None:
    check(row)


A3, P3, N3 = TRIPLETS = single(np.random.default_rng(0).normal(size=(3, 5, 4)))


def by_numpy(k: float, eps: float = 0.0, margin: float = 1.0) -> np.ndarray:
    a, p, n = double(TRIPLETS)
    e = np.abs(np.stack([a - p, a - n]))
    if k == np.inf:
        return np.maximum(np.subtract(*np.max(e, -1)) + margin, 0)
    root = eps ** (1 / k)
    top = np.maximum(np.max(e, -1), root)
    near, far = top * (np.sum((e / top[..., None]) ** k, -1) + (root / top) ** k) ** (1 / k)
    return np.maximum(near - far + margin, 0)


@pytest.mark.parametrize("k", [1, 1.25, 2, 2.5, 3, 4, 7, 50, 1000, np.inf])
@pytest.mark.parametrize("eps", [0.0, 1e-6, 0.5])
def test_any_degree(k: float, eps: float) -> None:
    loss = functools.partial(triplet_margin_loss, *TRIPLETS, margin=2.0, eps=eps)
    expected = by_numpy(k, eps, 2.0)
    # As Python's number, where the formula is chosen before the program runs; one for each program.
    with jax.disable_jit():
        eagerly = loss(norm_degree=k)
    for found in (loss(norm_degree=k), eagerly, loss(norm_degree=np.float32(k))):
        np.testing.assert_allclose(found, expected, rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("k", [10, 100, 1000])
def test_slopes_of_high_degrees(k: int) -> None:
    """To every digit, though a power multiplies the rounding of differences and of quotients."""
    rng = np.random.default_rng(1)
    anchors, far = np.zeros((64, 4), np.float32), np.full((64, 4), 100, np.float32)
    anchors = anchors + np.float32(rng.uniform(0, 1, (64, 4)))
    near = np.float32(rng.uniform(7.95, 8.05, (64, 4)))

    options: dict[str, Any] = {"norm_degree": k, "eps": 0.0, "margin": 200.0}
    slopes = functools.partial(evaluated, triplet_margin_loss, wrt=(1,), **options)
    _, (found,) = as_users(slopes)(anchors, near, far)
    with jax.enable_x64(True):
        _, (expected,) = slopes(*map(double, (anchors, near, far)))
    np.testing.assert_allclose(found, expected, rtol=16 * EPS, atol=1e-30)


@pytest.mark.parametrize("scale", [1e-30, 1e20])
def test_curvature_of_a_distance(scale: float) -> None:
    """(1 - u u^T) / d with the direction u: 1 / d^2 does not fit into float32."""

    def loss(p: Any, eps: Any = 0.0) -> Any:
        return triplet_margin_loss(single(ZERO), p, single(ZERO), eps=eps)

    exact = np.array([[16, -12], [-12, 9]]) / 25 / 5
    for hessian in (jax.hessian(loss), jax.jacrev(jax.grad(loss))):
        np.testing.assert_allclose(
            double(hessian(single(scale * double(P)))) * scale, exact, rtol=1e-6
        )


def test_curvature_in_eps() -> None:
    """Of (x^3 + eps)^(1/3), whose slope in eps is x^-2 / 3 at eps = 0."""

    def loss(x: Any, eps: Any) -> Any:
        return triplet_margin_loss([0.0], x[None], [0.0], 0, 3, 100.0, eps)

    for first, second in ((0, 1), (1, 0)):
        mixed = jax.grad(jax.grad(loss, first), second)(single(2), single(0))
        np.testing.assert_allclose(mixed, -2 / 3 / 8, rtol=1e-6)


def test_degrees_map() -> None:
    degrees = single([1, 2, 3.5, np.inf])

    def slopes(k: Any) -> Any:
        return evaluated(triplet_margin_loss, *TRIPLETS, norm_degree=k)[1][0]

    expected = np.stack([slopes(np.array(k)) for k in degrees])
    np.testing.assert_allclose(jax.vmap(slopes)(degrees), expected, rtol=1e-5, atol=1e-6)


def test_a_degree_is_one_number_and_constant() -> None:
    with pytest.raises(ValueError, match=r"norm_degree must be one number, .* float32\[5\]"):
        triplet_margin_loss(*TRIPLETS, norm_degree=np.ones(5, np.float32))
    loss = functools.partial(triplet_margin_loss, *TRIPLETS, reduction="sum")
    assert jax.grad(lambda k: loss(norm_degree=k))(3.0) == 0


@jax.jit
def to_second_order(k: Any, *triplet: Any) -> Any:
    loss = functools.partial(triplet_margin_loss, eps=0.0, norm_degree=k)
    slopes = jax.grad(loss, (0, 1, 2))(*triplet)
    return loss(*triplet, margin=2.0), slopes, jax.hessian(loss)(*triplet)


@pytest.mark.parametrize("k", [1.0, 1.5, 2.0, 3.0])
def test_equal_vectors_have_slope_0(k: float) -> None:
    """Also in the second order; optax's gradient is NaN."""
    x = single([0.5, -2])
    for triplet in ((x, x, x), (x, x, x + 0.25), (x, x + 0.25, x)):
        value, slopes, curvature = to_second_order(k, *triplet)
        assert value >= 0
        for found in (*slopes, curvature):
            assert np.all(np.isfinite(found))
    np.testing.assert_array_equal(to_second_order(k, x, x, x)[1], np.zeros((3, 2)))


@pytest.mark.parametrize("k", [1, 1.5, 2, 3])
@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1e20, 1e30])
def test_distances_neither_overflow_nor_vanish(k: float, scale: float) -> None:
    loss = functools.partial(evaluated, triplet_margin_loss, eps=0.0, norm_degree=k)
    expected, (slope,) = loss(*TRIPLETS, margin=single(9))
    found, (large,) = loss(*single(scale * TRIPLETS), margin=single(9 * scale))
    np.testing.assert_allclose(large, slope, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(double(found) / scale, expected, rtol=1e-6)


@pytest.mark.parametrize("loss", [triplet_margin_loss, triplet_margin_with_distance_loss])
def test_a_swap_at_a_tie_stays_with_the_anchor(loss: Any) -> None:
    a, p, n = single([[2, 0], [-2, 0], [0, 0]])
    _, (_, slope, _) = evaluated(loss, a, p, n, wrt=(0, 1, 2), swap=True)
    np.testing.assert_allclose(slope, [-1, 0], rtol=1e-6)


def test_options_of_each_triplet() -> None:
    margins, eps = single(np.arange(5)), single(np.linspace(0.1, 2, 5))
    found = triplet_margin_loss(*TRIPLETS, margin=margins, eps=eps)
    expected = [
        by_numpy(2, float(e), float(m))[i]
        for i, (m, e) in enumerate(zip(margins, eps, strict=True))
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


def test_axes() -> None:
    x, y, z = single(np.random.default_rng(0).normal(size=(3, 2, 3, 4)))
    expected = triplet_margin_loss(*(v.reshape(2, 12) for v in (x, y, z)))
    np.testing.assert_allclose(triplet_margin_loss(x, y, z, axis=(1, 2)), expected, rtol=1e-6)
    rows = triplet_margin_loss(x, y, z)
    x, y, z = (v.swapaxes(1, 2) for v in (x, y, z))
    np.testing.assert_allclose(triplet_margin_loss(x, y, z, 1), rows, rtol=1e-6)


@pytest.mark.parametrize("loss", [triplet_margin_loss, triplet_margin_with_distance_loss])
def test_bad_input(loss: Any) -> None:
    with pytest.raises(ValueError, match=r"anchors float32\[5, 4\].*negatives float32\[5, 3\]"):
        loss(A3, P3, N3[:, :3])
    with pytest.raises(ValueError, match=r"positives float32\[4\]"):
        loss(A3, P3[0], N3)
    with pytest.raises(ValueError, match=r"negatives float32\[\]"):
        loss(A3, P3, 0.0)
    with pytest.raises(ValueError, match=r"drop the last axis of anchors: anchors\[..., 0\]"):
        loss(A3[..., None], P3, N3)
    with pytest.raises(TypeError, match="anchors must be floating-point, got anchors int32"):
        loss(A3.astype(int), P3, N3)
    with pytest.raises(TypeError, match="negatives must be real"):
        loss(A3, P3, N3.astype(complex))
    with pytest.raises(ValueError, match=r"margin must be a scalar or have the rank of the loss"):
        loss(A3, P3, N3, margin=np.ones((5, 1), np.float32))
    assert loss(A3[:0], P3[:0], N3[:0], reduction="mean") == 0


@pytest.mark.parametrize("k", [0.5, 0, -1, jnp.nan])
def test_other_degrees_are_nan(k: float) -> None:
    for eager in (False, True):
        with jax.disable_jit(eager):
            assert np.all(np.isnan(triplet_margin_loss(*TRIPLETS, norm_degree=k)))


def maximum(u: jax.Array, v: jax.Array) -> jax.Array:
    return jnp.max(jnp.abs(u - v), axis=-1)


def squared(u: jax.Array, v: jax.Array) -> jax.Array:
    return jnp.sum(squared_error(u, v), axis=-1)


def test_a_distance_of_ones_own() -> None:
    loss = triplet_margin_with_distance_loss
    for between in (maximum, squared, cosine_distance, jax.jit(maximum)):
        pairs = ((A3, P3), (A3, N3), (P3, N3))
        near, far, apart = (np.asarray(between(*pair)) for pair in pairs)
        expected = np.maximum(near - far + 0.5, 0)
        found = loss(*TRIPLETS, distance_function=between, margin=0.5)
        np.testing.assert_allclose(found, expected, rtol=1e-6)
        compiled = jax.jit(functools.partial(loss, distance_function=between, margin=0.5))
        np.testing.assert_allclose(compiled(*TRIPLETS), expected, rtol=1e-6)
        swapped = loss(*TRIPLETS, distance_function=between, swap=True)
        expected = np.maximum(near - np.minimum(far, apart) + 1, 0)
        np.testing.assert_allclose(swapped, expected, rtol=1e-6)
    euclidean = triplet_margin_loss(*TRIPLETS, eps=0.0)
    np.testing.assert_array_equal(loss(*TRIPLETS), euclidean)
    lists = loss(*TRIPLETS.tolist(), distance_function=maximum)
    np.testing.assert_allclose(lists, loss(*TRIPLETS, distance_function=maximum), rtol=1e-6)


def test_a_distance_that_learns_is_never_compiled_in() -> None:
    """What it closes over is trained, and may be changed from call to call."""
    model = {"weight": jnp.ones((1, 4))}

    def between(u: jax.Array, v: jax.Array) -> jax.Array:
        return squared(u * model["weight"], v * model["weight"])

    def loss() -> Any:
        return triplet_margin_with_distance_loss(
            *TRIPLETS, distance_function=between, margin=300.0, reduction="sum"
        )

    before = loss()
    model["weight"] = 2 * model["weight"]
    np.testing.assert_allclose(loss() - 1500, 4 * (before - 1500), rtol=1e-4)

    def trained(weight: jax.Array) -> Any:
        return triplet_margin_with_distance_loss(
            *TRIPLETS,
            distance_function=lambda u, v: squared(u * weight, v * weight),
            margin=300.0,
            reduction="sum",
        )

    (slope,) = jax.jit(jax.grad(trained))(jnp.ones((1, 4)))
    np.testing.assert_allclose(slope, 2 * np.sum((A3 - P3) ** 2 - (A3 - N3) ** 2, 0), rtol=1e-5)


def test_a_distance_of_ones_own_does_not_see_what_is_excluded() -> None:
    """Though its own derivative is NaN for equal vectors, which the excluded ones become."""

    def norm(u: jax.Array, v: jax.Array) -> jax.Array:
        return jnp.sqrt(jnp.sum((u - v) ** 2, -1))

    dirty, kept = TRIPLETS.copy(), np.arange(5) > 0
    dirty[:, 0] = np.nan
    mean: dict[str, Any] = {"margin": 3.0, "reduction": "mean"}
    value, (slope,) = evaluated(
        triplet_margin_with_distance_loss, *dirty, distance_function=norm, where=kept, **mean
    )
    expected, (wanted,) = evaluated(triplet_margin_loss, *TRIPLETS[:, 1:], eps=0.0, **mean)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    np.testing.assert_allclose(slope, np.pad(wanted, ((1, 0), (0, 0))), rtol=1e-5)


def test_distances_of_another_shape_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"for each pair .* shape \[5\], got distances float32\[5, 4\]"
    ):
        triplet_margin_with_distance_loss(*TRIPLETS, distance_function=lambda u, v: u - v)
    with pytest.raises(ValueError, match=r"distances float32\[\]"):
        triplet_margin_with_distance_loss(
            *TRIPLETS, distance_function=lambda u, v: jnp.sum(squared(u, v))
        )


def test_a_nan_of_either_distance_is_kept_in_a_swap() -> None:
    def between(u: jax.Array, v: jax.Array) -> jax.Array:
        bad = (u[..., 0] == 1) & (v[..., 0] == 2)
        return jnp.where(bad, jnp.nan, jnp.abs(u - v)[..., 0])

    loss = functools.partial(
        triplet_margin_with_distance_loss, distance_function=between, swap=True
    )
    one, two = single([1]), single([2])
    assert jnp.isnan(loss(one, 3 * two, two))
    assert jnp.isnan(loss(3 * two, one, two))
    assert jnp.isfinite(loss(two, one, 3 * two))


NUMBERS = st.lists(st.floats(-100, 100, width=32), min_size=3, max_size=3)


@hypothesis.given(NUMBERS, NUMBERS, NUMBERS, st.sampled_from([1.0, 1.7, 2.0, 3.0]))
def test_theorems(a: Any, p: Any, n: Any, k: float) -> None:
    a, p, n = single([a, p, n])
    loss = functools.partial(triplet_margin_loss, norm_degree=k, eps=0.0)
    found = loss(a, p, n)
    assert found >= 0
    # The inequality of the triangle bounds it by the distance between positive and negative.
    apart = loss(n, p, n)
    assert found <= apart * (1 + 1e-5) + 1e-4
    assert loss(a, p, n, swap=True) >= found
    np.testing.assert_allclose(loss(a[::-1], p[::-1], n[::-1]), found, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(loss(-a, -p, -n), found, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(
        loss(2 * a, 2 * p, 2 * n, margin=2.0), 2 * found, rtol=1e-5, atol=1e-4
    )


def test_a_mask_is_inert_in_what_a_distance_function_learns() -> None:
    """Whose own slope may be infinite between equal vectors, and between parallel ones."""
    a = single([[1, 0.2], [0.1, 1], [3, 4]])

    def norm(u: Any, v: Any) -> Any:
        return jnp.linalg.norm(u - v, axis=-1)

    def angle(u: Any, v: Any) -> Any:
        lengths = jnp.linalg.norm(u, axis=-1) * jnp.linalg.norm(v, axis=-1)
        return jnp.arccos(jnp.sum(u * v, -1) / lengths)

    for between in (norm, angle):

        def mean(weights: Any, rows: Any, where: Any = None, between: Any = between) -> Any:
            return triplet_margin_with_distance_loss(
                *rows,
                margin=5.0,
                where=where,
                distance_function=lambda u, v: between(u * weights, v * weights),
                reduction="mean",
            )

        rows = np.stack([a, a + single([0.5, 0.2]), -a + 0.1])
        slopes, weights = jax.jit(jax.grad(mean)), np.ones((1, 2), np.float32)
        short = slopes(weights, rows[:, :2])
        rows[:, 2] = np.nan
        masked = slopes(weights, rows, np.array([True, True, False]))
        np.testing.assert_allclose(masked, short, rtol=1e-5)
