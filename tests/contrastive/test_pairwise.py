"""Distances and similarities of all pairs, and the memory of what is made of them."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxloss import (
    batch_triplet_loss,
    lifted_structure_loss,
    ntxent,
    pairwise_distance,
    pairwise_similarity,
)
from tests.laws.compiling import as_users
from tests.laws.test_platforms import plain_forms
from tests.laws.values import double, single

DEGREES = (1, 1.5, 2, 3, np.inf)
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(2, 4, 3)).astype(np.float32), RNG.normal(size=(2, 5, 3)).astype(np.float32)
# The weights of the pairs, in sums to differentiate.
W = RNG.normal(size=(2, 4, 5)).astype(np.float32)
EPS = float(np.finfo(np.float32).eps)

each_degree = pytest.mark.parametrize("degree", DEGREES)


@functools.cache
def compiled(degree: Any) -> Any:
    """Distances of two sets, and first and second derivatives of their weighted sum."""

    def total(x: Any, y: Any) -> Any:
        return jnp.sum(pairwise_distance(x, y, norm_degree=degree) * W)

    @jax.jit
    def compute(x: Any, y: Any) -> Any:
        tangents = jnp.cos(x), jnp.sin(y)
        both = jax.grad(total, (0, 1))
        return {
            "distances": pairwise_distance(x, y, norm_degree=degree),
            "slopes": both(x, y),
            "forward": jax.jvp(total, (x, y), tangents)[1],
            "curvature": jax.jvp(both, (x, y), tangents)[1],
        }

    return compute


def evaluated(degree: Any, x: Any, y: Any = Y) -> Any:
    return jax.tree.map(np.asarray, compiled(degree)(single(x), single(y)))


def gaps(x: Any, y: Any) -> Any:
    return double(x)[..., :, None, :] - double(y)[..., None, :, :]


def distances(x: Any, y: Any, degree: float) -> Any:
    return np.linalg.norm(gaps(x, y), degree, -1)


def pulls(x: Any, y: Any, degree: float) -> Any:
    """The slope of each distance in x: sign(gap) |gap / d|^(k - 1), and 0 at a distance of 0.

    Of the largest gap it is its sign, shared by all that are as large.
    """
    gap, d = gaps(x, y), distances(x, y, degree)[..., None]
    if degree == np.inf:
        largest = np.abs(gap) == d
        return np.sign(gap) * largest / np.sum(largest, -1, keepdims=True)
    return np.sign(gap) * (np.abs(gap) / np.where(d == 0, 1, d)) ** (degree - 1)


def slopes(x: Any, y: Any, degree: float) -> Any:
    each = W[..., None] * pulls(x, y, degree)
    return each.sum(2), -each.sum(1)


# ---- distances ----


def test_distances_by_hand() -> None:
    x, y = np.array([[0.0, 0.0], [3.0, 4.0]]), np.array([[3.0, 4.0], [0.0, 1.0], [-5.0, 12.0]])
    np.testing.assert_allclose(
        pairwise_distance(x, y), [[5, 1, 13], [0, np.sqrt(18), np.sqrt(128)]], rtol=1e-6
    )
    one = pairwise_distance(x, y, norm_degree=1)
    np.testing.assert_allclose(one, [[7, 1, 17], [0, 6, 16]], rtol=1e-6)
    three = pairwise_distance(x, y, norm_degree=3)
    np.testing.assert_allclose(three[0], [91 ** (1 / 3), 1, 1853 ** (1 / 3)], rtol=1e-6)
    largest = pairwise_distance(x, y, norm_degree=np.inf)
    np.testing.assert_array_equal(largest, [[4, 1, 12], [0, 3, 8]])
    np.testing.assert_allclose(pairwise_distance(x), [[0, 5], [5, 0]], rtol=1e-6)


def test_several_largest_gaps_share_the_slope() -> None:
    """The subgradient of least norm."""
    y = np.array([[2.0, -2.0, 1.0], [0.0, 0.0, 0.0], [np.nan, 1.0, 1.0]], np.float32)

    @jax.jit
    @jax.vmap
    def compute(y: Any) -> Any:
        return jax.value_and_grad(
            lambda x: pairwise_distance(x[None], y[None], norm_degree=np.inf)[0, 0]
        )(jnp.zeros(3))

    values, found = compute(y)
    np.testing.assert_array_equal(values, [2, 0, np.nan])
    np.testing.assert_array_equal(found, [[-0.5, 0.5, 0], [0, 0, 0], [np.nan] * 3])


@each_degree
def test_distances_and_slopes_written_out(degree: float) -> None:
    found = evaluated(degree, X)
    np.testing.assert_allclose(found["distances"], distances(X, Y, degree), rtol=16 * EPS)
    exact = slopes(X, Y, degree)
    for got, want in zip(found["slopes"], exact, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=2e-6)
    along = np.sum(exact[0] * np.cos(X)) + np.sum(exact[1] * np.sin(Y))
    np.testing.assert_allclose(found["forward"], along, rtol=1e-5)
    # Against differences of the exact slopes along the same direction.
    h = 1e-6
    x, y = double(X), double(Y)
    ends = [slopes(x + s * h * np.cos(X), y + s * h * np.sin(Y), degree) for s in (1, -1)]
    for got, above, below in zip(found["curvature"], *ends, strict=True):
        np.testing.assert_allclose(got, (above - below) / (2 * h), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("degree", [1.5, 2])
def test_more_examples_and_features_than_a_step_takes(degree: float) -> None:
    """Sizes that nothing divides: what fills up the last step must not count."""
    x, y = RNG.normal(size=(2, 37, 19)).astype(np.float32)
    y, weights = y[:23], np.cos(np.arange(37 * 23.0)).reshape(37, 23)

    @jax.jit
    def compute(x: Any, y: Any) -> Any:
        def total(x: Any, y: Any) -> Any:
            d = pairwise_distance(x, y, norm_degree=degree)
            return jnp.sum(d * single(weights)), d

        return jax.grad(total, (0, 1), has_aux=True)(x, y)

    slopes, d = compute(x, y)
    np.testing.assert_allclose(d, distances(x, y, degree), rtol=32 * EPS)
    each = weights[..., None] * pulls(x, y, degree)
    for got, want in zip(slopes, (each.sum(1), -each.sum(0)), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


@each_degree
def test_distances_of_one_set(degree: float) -> None:
    """Those of the set with itself: symmetric, 0 on the diagonal, slopes from both sides."""
    x = X[0]

    @jax.jit
    def compute(x: Any) -> Any:
        distance = functools.partial(pairwise_distance, norm_degree=degree)
        return distance(x), jax.grad(lambda x: jnp.sum(distance(x) * W[0, :, :4]))(x)

    d, slope = compute(x)
    np.testing.assert_allclose(d, distances(x, x, degree), rtol=16 * EPS)
    np.testing.assert_array_equal(d, d.T)
    assert np.all(np.diagonal(d) == 0)
    each = (W[0, :, :4] + W[0, :, :4].T)[..., None] * pulls(x, x, degree)
    np.testing.assert_allclose(slope, each.sum(1), rtol=1e-5, atol=2e-6)


@each_degree
def test_distances_at_the_ends_of_float32(degree: float) -> None:
    for scale in (1e30, 1e-30):
        found = evaluated(degree, scale * X, scale * Y)
        exact = distances(single(scale * X), single(scale * Y), degree)
        np.testing.assert_allclose(found["distances"], exact, rtol=16 * EPS)
        for got, want in zip(found["slopes"], slopes(X, Y, degree), strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
        assert all(np.all(np.isfinite(c)) for c in found["curvature"])


@pytest.mark.parametrize("scale", [1e-30, 1e20])
def test_curvature_of_a_distance(scale: float) -> None:
    """(1 - u u^T) / d with the direction u: 1 / d^2 does not fit into float32."""

    def distance(x: Any) -> Any:
        return pairwise_distance(x[None], jnp.zeros((1, 2)))[0, 0]

    x = single([3 * scale, 4 * scale])
    exact = np.array([[16, -12], [-12, 9]]) / 25 / 5
    for hessian in (jax.hessian(distance), jax.jacrev(jax.grad(distance))):
        np.testing.assert_allclose(double(hessian(x)) * scale, exact, rtol=1e-6)


@each_degree
def test_distances_of_all_sizes_at_once(degree: float) -> None:
    sizes = np.array([[1e30], [1e-30], [1], [1e-12]])
    x, y = single(sizes * X), single(np.concatenate([sizes, [[1e-30]]]) * Y)
    found = evaluated(degree, x, y)
    np.testing.assert_allclose(found["distances"], distances(x, y, degree), rtol=16 * EPS)
    for got, want in zip(found["slopes"], slopes(x, y, degree), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


@each_degree
def test_equal_vectors_have_slope_0(degree: float) -> None:
    x, y = X.copy(), Y.copy()
    x[0], y[0] = 0.7, 0.7
    y[1, 2] = x[1, 3]
    found = evaluated(degree, x, y)
    assert np.all(found["distances"][0] == 0)
    assert found["distances"][1, 3, 2] == 0
    for got, want in zip(found["slopes"], slopes(x, y, degree), strict=True):
        assert np.all(got[0] == 0)
        np.testing.assert_allclose(got[1], want[1], rtol=1e-5, atol=2e-6)
    assert np.isfinite(found["forward"])
    assert all(np.all(np.isfinite(c)) for c in found["curvature"])


@each_degree
def test_distances_of_other_platforms(degree: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Vectors of all sizes, equal ones, and such as are not finite, against the loops of a CPU."""
    sizes = np.array([[1e30], [1e-30], [1], [1e-12]])
    x, y = single(sizes * X), single(np.concatenate([sizes, [[0]]]) * Y)
    y[0, 3], x[1, 0, 0], x[1, 1, 1] = x[0, 3], np.inf, np.nan
    loops = evaluated(degree, x, y)
    with plain_forms(monkeypatch):
        found = jax.tree.map(np.asarray, compiled.__wrapped__(degree)(x, y))
    for got, want in zip(found["slopes"], loops["slopes"], strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found["distances"], loops["distances"], rtol=16 * EPS)
    for got, want in zip(found["curvature"], loops["curvature"], strict=True):
        np.testing.assert_array_equal(np.isnan(got), np.isnan(want))


@each_degree
def test_distances_are_a_metric(degree: float) -> None:
    d = evaluated(degree, X)["distances"]
    # A whole shift, in which float32 loses no digit.
    x, y = np.round(64 * X) / 64, np.round(64 * Y) / 64
    shifted = evaluated(degree, x + 16, y + 16)["distances"]
    np.testing.assert_array_equal(shifted, evaluated(degree, x, y)["distances"])
    np.testing.assert_allclose(evaluated(degree, -2 * X, -2 * Y)["distances"], 2 * d, rtol=1e-6)
    inside = distances(X, X, degree)
    around = inside[..., :, :, None] + d[..., None, :, :]
    assert np.all(d <= np.min(around, 2) * (1 + 1e-6))


def test_near_vectors_keep_their_digits() -> None:
    """|x|^2 + |y|^2 - 2 <x, y> has none of them left: torch.cdist for more than 25 vectors."""
    x = single([[1000, 1000, 1000]])
    y = x + single([[1, 2, 2]]) * 2.0**-12
    d = as_users(pairwise_distance)(jnp.asarray(x), jnp.asarray(y))
    np.testing.assert_allclose(d, [[3 * 2.0**-12]], rtol=1e-6)


def test_nan_stays_where_it_is() -> None:
    x = X.copy()
    x[0, 1, 0] = np.nan
    found = evaluated(2, x)["distances"]
    assert np.all(np.isnan(found[0, 1]))
    assert np.sum(np.isnan(found)) == 5


def test_leading_dimensions_and_empty_sets() -> None:
    x = np.stack([X, 2 * X, 3 * X])
    y = np.stack([Y, Y, Y])
    together = pairwise_distance(x, y)
    assert together.shape == (3, 2, 4, 5)
    np.testing.assert_allclose(together, distances(x, y, 2), rtol=16 * EPS)
    cosines = pairwise_similarity(x, y)
    np.testing.assert_allclose(cosines[2], cosines[0], atol=1e-6)
    mapped = jax.vmap(pairwise_distance)(X, Y)
    np.testing.assert_allclose(mapped, distances(X, Y, 2), rtol=16 * EPS)
    for pairwise in (pairwise_distance, pairwise_similarity):
        assert pairwise(X[0, :0], Y[0]).shape == (0, 5)
        assert pairwise(X[0], Y[0, :0]).shape == (4, 0)
        assert pairwise(X[0, :0]).shape == (0, 0)
        # No features: nothing lies between.
        np.testing.assert_array_equal(pairwise(X[0, :, :0], Y[0, :, :0]), np.zeros((4, 5)))


def test_dtypes() -> None:
    for pairwise in (pairwise_distance, pairwise_similarity):
        half = jnp.asarray(X, jnp.bfloat16)
        d, pull = jax.vjp(pairwise, half)
        assert d.dtype == jnp.float32
        assert pull(d)[0].dtype == jnp.bfloat16
        with jax.enable_x64(True):
            assert jax.eval_shape(pairwise, double(X)).dtype == jnp.float64


# ---- similarities ----


@jax.jit
def similar(x: Any, y: Any) -> Any:
    slopes = jax.grad(lambda x, y: jnp.sum(pairwise_similarity(x, y) * W), (0, 1))
    tangents = jnp.cos(x), jnp.sin(y)
    return pairwise_similarity(x, y), slopes(x, y), jax.jvp(slopes, (x, y), tangents)[1]


def cosine_slopes(x: Any, y: Any) -> Any:
    (u, m), (v, n) = ((z / np.linalg.norm(z, axis=-1, keepdims=True), z) for z in (x, y))
    m, n = (np.linalg.norm(z, axis=-1)[..., None] for z in (m, n))
    c = W * (u @ np.swapaxes(v, -1, -2))
    to_x = (W @ v - c.sum(-1)[..., None] * u) / m
    return to_x, (np.swapaxes(W, -1, -2) @ u - c.sum(-2)[..., None] * v) / n


def test_similarities_by_hand() -> None:
    x, y = np.array([[1.0, 0.0], [3.0, 4.0]]), np.array([[0.0, 2.0], [-4.0, 3.0], [0.0, 0.0]])
    np.testing.assert_allclose(
        pairwise_similarity(x, y), [[0, -0.8, 0], [0.8, 0, 0]], rtol=1e-6, atol=1e-7
    )
    np.testing.assert_allclose(pairwise_similarity(x), [[1, 0.6], [0.6, 1]], rtol=1e-6)


def test_similarities_and_slopes_written_out() -> None:
    x, y = double(X), double(Y)
    c, slopes, curvature = similar(X, Y)
    lengths = np.linalg.norm(x, axis=-1)[..., :, None] * np.linalg.norm(y, axis=-1)[..., None, :]
    np.testing.assert_allclose(c, x @ np.swapaxes(y, -1, -2) / lengths, atol=16 * EPS)
    for got, want in zip(slopes, cosine_slopes(x, y), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
    h = 1e-6
    ends = [cosine_slopes(x + s * h * np.cos(X), y + s * h * np.sin(Y)) for s in (1, -1)]
    for got, above, below in zip(curvature, *ends, strict=True):
        np.testing.assert_allclose(got, (above - below) / (2 * h), rtol=1e-4, atol=2e-4)


def test_similarities_ignore_lengths() -> None:
    plain, slopes, _ = similar(X, Y)
    sizes = single([1e30, 1e-30, 7, 1e10])[:, None]
    c, scaled, _ = similar(sizes * X, 1e-30 * Y)
    np.testing.assert_allclose(c, plain, atol=4 * EPS)
    np.testing.assert_allclose(np.asarray(scaled[0]) * sizes, slopes[0], rtol=1e-4, atol=1e-5)
    assert np.all(np.abs(plain) <= 1 + 2 * EPS)


def test_a_zero_vector_is_similar_to_none() -> None:
    x = X.copy()
    x[:, 0] = 0
    c, slopes, curvature = similar(x, Y)
    assert np.all(c[:, 0] == 0)
    assert np.all(slopes[0][:, 0] == 0)
    for z in (*slopes, *curvature):
        assert np.all(np.isfinite(z))


# ---- bad input ----


def test_bad_input_is_refused() -> None:
    x, y = X[0], Y[0]
    for pairwise in (pairwise_distance, pairwise_similarity):
        for other in (y[:, :2], y[0], Y):
            with pytest.raises(ValueError, match=r"expected x \[..., N, D\].*y float32"):
                pairwise(x, other)
        with pytest.raises(ValueError, match="x float32"):
            pairwise(x[0])
        with pytest.raises(TypeError, match="x int32"):
            pairwise(np.ones((4, 3), np.int32))
    for degree in (0.5, 0, -1, np.nan):
        with pytest.raises(ValueError, match="norm_degree must be a number of at least 1"):
            pairwise_distance(x, norm_degree=degree)
    with pytest.raises(TypeError, match="norm_degree must be a hashable Python value"):
        jax.jit(lambda k: pairwise_distance(x, norm_degree=k))(2.0)


# ---- memory ----

EXAMPLES, FEATURES = 512, 64


def temporaries(loss: Any) -> int:
    """Bytes beside inputs and outputs that value_and_grad asks for, as users compile it."""
    x = jax.ShapeDtypeStruct((EXAMPLES, FEATURES), jnp.float32)
    labels = jax.ShapeDtypeStruct((EXAMPLES,), jnp.int32)
    compiled: Any = as_users(jax.value_and_grad(loss))
    memory = compiled.lower(x, labels).compile().memory_analysis()
    assert memory
    return memory.temp_size_in_bytes


@pytest.mark.parametrize(
    "loss",
    [
        *(
            functools.partial(batch_triplet_loss, mining=mining, reduction="mean")
            for mining in ("all", "hard", "semi_hard")
        ),
        functools.partial(lifted_structure_loss, reduction="mean"),
        ntxent,
        *(
            lambda x, _, degree=degree: jnp.sum(pairwise_distance(x, norm_degree=degree))
            for degree in (1, 2)
        ),
    ],
    ids=["all", "hard", "semi_hard", "lifted_structure", "ntxent", "distance_1", "distance_2"],
)
def test_memory_is_that_of_a_few_matrices_of_pairs(loss: Any) -> None:
    """Never features, nor triplets, for each pair.

    The losses keep a dozen numbers for each pair at most: distances, masks, and what sorts them
    and their slopes. The gaps of all features would take 64 such matrices, triplets 512.
    """
    matrix = 4 * EXAMPLES**2
    used = temporaries(loss) / matrix
    assert 1 <= used < 16 < min(FEATURES, EXAMPLES) / 2
