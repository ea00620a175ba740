"""Soft dynamic time warping against all alignments written out."""

from __future__ import annotations

import functools
import inspect
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

import jaxloss
from tests.laws.compiling import as_users
from tests.laws.values import evaluated

EPS = float(np.finfo(np.float32).eps)


@functools.cache
def alignments(rows: int, columns: int) -> list[list[tuple[int, int]]]:
    if rows == columns == 1:
        return [[(0, 0)]]
    before = [(rows - 1, columns), (rows, columns - 1), (rows - 1, columns - 1)]
    found = [path for i, j in before if i and j for path in alignments(i, j)]
    return [[*path, (rows - 1, columns - 1)] for path in found]


def of_costs(costs: Any, gamma: Any) -> Any:
    sums = jnp.stack([sum(costs[i, j] for i, j in path) for path in alignments(*costs.shape)])
    return -gamma * jax.nn.logsumexp(-sums / gamma)


def of_pair(x: Any, y: Any, gamma: Any) -> Any:
    return of_costs(jnp.sum((x[:, None] - y[None]) ** 2, -1), gamma)


def divergence(x: Any, y: Any, gamma: Any) -> Any:
    return of_pair(x, y, gamma) - (of_pair(x, x, gamma) + of_pair(y, y, gamma)) / 2


def padded(loss: Any, x: Any, y: Any, late: Any, spare: Any, **options: Any) -> Any:
    return loss(x, y, prediction_paddings=late, target_paddings=spare, **options)


def batch(seed: int = 0, size: int = 8) -> Any:
    rng = np.random.default_rng(seed)
    x, y = (rng.normal(size=(size, n, 2)).astype(np.float32) for n in (4, 3))
    late, spare = (
        (np.arange(n)[None] >= rng.integers(1, n + 1, (size, 1))).astype(np.float32) for n in (4, 3)
    )
    return x, y, late, spare


@pytest.mark.parametrize(
    ("ours", "truth"),
    [
        (jaxloss.soft_dtw, of_pair),
        (jaxloss.soft_dtw_divergence, divergence),
        (lambda x, y, gamma: jaxloss.soft_dtw_from_costs(x @ y.T, gamma=gamma), None),
    ],
    ids=["soft_dtw", "soft_dtw_divergence", "soft_dtw_from_costs"],
)
def test_all_alignments_written_out(ours: Any, truth: Any) -> None:
    """Values, both modes, and second derivatives in both sequences and in gamma."""
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        data = (*(jnp.asarray(rng.normal(size=(n, 2))) for n in (4, 3)), jnp.asarray(0.7))
        waves = (jnp.cos(jnp.arange(x.size, dtype=x.dtype)) for x in data)
        tangents = tuple(x.reshape(y.shape) for x, y in zip(waves, data, strict=True))
        names = inspect.signature(ours).parameters

        def mine(x: Any, y: Any, gamma: Any) -> Any:
            return ours(x, y, gamma=gamma) if "gamma" in names else ours(x, y, gamma)

        def exact(x: Any, y: Any, gamma: Any) -> Any:
            return truth(x, y, gamma) if truth else of_costs(x @ y.T, gamma)

        def all_of(function: Any) -> Any:
            slopes = jax.grad(function, (0, 1, 2))

            def along(*data: Any) -> Any:
                return sum(jnp.sum(a * b) for a, b in zip(slopes(*data), tangents, strict=True))

            value, forward = jax.jvp(function, data, tangents), jax.jvp(slopes, data, tangents)
            return value, forward, jax.grad(along, (0, 1, 2))(*data)

        compare = functools.partial(np.testing.assert_allclose, rtol=1e-10, atol=1e-11)
        results = jax.jit(all_of, static_argnums=0)
        jax.tree.map(compare, results(mine), results(exact))


def test_gradient_is_the_expected_alignment() -> None:
    costs = np.random.default_rng(0).normal(size=(3, 3)).astype(np.float32)
    _, (slopes,) = evaluated(jaxloss.soft_dtw_from_costs, costs)
    sums = np.array([sum(costs[i, j] for i, j in path) for path in alignments(3, 3)], float)
    weights = np.exp(-sums) / np.exp(-sums).sum()
    expected = np.zeros((3, 3))
    for path, weight in zip(alignments(3, 3), weights, strict=True):
        for i, j in path:
            expected[i, j] += weight
    np.testing.assert_allclose(slopes, expected, rtol=16 * EPS)


@pytest.mark.parametrize("gamma", [1e-4, 1e-6])
def test_small_gamma_is_dynamic_time_warping(gamma: float) -> None:
    rng = np.random.default_rng(1)
    x, y = (rng.normal(size=(n, 2)).astype(np.float32) for n in (5, 4))
    costs = ((x[:, None].astype(float) - y[None]) ** 2).sum(-1)
    sums = [sum(costs[i, j] for i, j in path) for path in alignments(5, 4)]
    best = alignments(5, 4)[int(np.argmin(sums))]
    np.testing.assert_allclose(jaxloss.soft_dtw(x, y, gamma=gamma), min(sums), rtol=8 * EPS)
    squares = costs.astype(np.float32)
    _, (slopes,) = evaluated(jaxloss.soft_dtw_from_costs, squares, gamma=gamma)
    hard = np.zeros((5, 4))
    hard[tuple(np.transpose(best))] = 1
    np.testing.assert_allclose(slopes, hard, atol=4 * EPS)
    tied, (shared,) = evaluated(
        jaxloss.soft_dtw_from_costs, np.zeros((2, 2), np.float32), gamma=gamma
    )
    np.testing.assert_allclose(tied, -gamma * np.log(3), rtol=4 * EPS)
    np.testing.assert_allclose(shared, [[1, 1 / 3], [1 / 3, 1]], rtol=4 * EPS)


def test_accuracy_in_float32() -> None:
    """100 entries beside 80, against the recursion in float64."""
    rng = np.random.default_rng(0)
    costs = rng.normal(size=(100, 80)).astype(np.float32) ** 2
    wide = np.pad(costs.astype(float), ((1, 1), (1, 1)), constant_values=np.inf)
    begun, ending = np.full((102, 82), -np.inf), np.full((102, 82), -np.inf)
    begun[0, 0] = ending[101, 81] = 0
    for i, j in np.ndindex(100, 80):
        steps = begun[i, j + 1], begun[i + 1, j], begun[i, j]
        begun[i + 1, j + 1] = np.logaddexp.reduce(steps) - wide[i + 1, j + 1]
    for i in range(100, 0, -1):
        for j in range(80, 0, -1):
            steps = ending[i + 1, j], ending[i, j + 1], ending[i + 1, j + 1]
            ending[i, j] = np.logaddexp.reduce(steps) - wide[i, j]
    total = begun[100, 80]
    shares = np.exp(begun + ending + np.where(np.isinf(wide), 0, wide) - total)[1:-1, 1:-1]
    found = as_users(jax.value_and_grad(jaxloss.soft_dtw_from_costs))(costs)
    np.testing.assert_allclose(found[0], -total, rtol=4 * EPS)
    # Products of 360 rounded factors: 19 eps, which is the square root of that.
    np.testing.assert_allclose(found[1], shares, atol=19 * EPS, rtol=0)


def test_equal_sequences() -> None:
    """The divergence is 0 there, and no less elsewhere; soft-DTW itself is below 0."""
    x, y, *_ = batch()
    value, (slopes,) = evaluated(jaxloss.soft_dtw_divergence, x, x)
    np.testing.assert_array_equal(value, 0)
    np.testing.assert_allclose(slopes, 0, atol=16 * EPS)
    assert np.all(np.asarray(jaxloss.soft_dtw(x, x)) < 0)
    assert np.all(np.asarray(jaxloss.soft_dtw_divergence(x, y)) > 0)
    # One of them twice as slow is near.
    slow = np.repeat(x, 2, axis=1)
    near = jaxloss.soft_dtw_divergence(x, slow, gamma=1e-3)
    np.testing.assert_allclose(near, 0, atol=1e-2)


def test_far_from_zero_the_digits_stay() -> None:
    """Differences are taken: products of vectors of 1e4 would lose all of them."""
    x, y, *_ = batch()
    grid = np.round(x * 64) / 64, np.round(y * 64) / 64
    found = jaxloss.soft_dtw(*(np.float32(a + 1e4) for a in grid))
    np.testing.assert_allclose(found, jaxloss.soft_dtw(*map(np.float32, grid)), rtol=8 * EPS)


@pytest.mark.parametrize("name", ["soft_dtw", "soft_dtw_divergence"])
def test_padding_is_inert(name: str) -> None:
    x, y, late, spare = batch()
    loss = functools.partial(padded, getattr(jaxloss, name))
    compiled = jax.jit(jax.value_and_grad(functools.partial(loss, reduction="sum"), (0, 1)))

    def dirty(garbage: float) -> Any:
        both = ((x, late), (y, spare))
        parts = [np.where(pad[..., None] == 1, np.float32(garbage), a) for a, pad in both]
        return compiled(*parts, late, spare)

    for garbage in (np.nan, np.inf, 1e30):
        jax.tree.map(np.testing.assert_array_equal, dirty(garbage), dirty(0))
    found = loss(x, y, late, spare)
    for i in range(3):
        alone = getattr(jaxloss, name)(x[i][late[i] == 0], y[i][spare[i] == 0])
        np.testing.assert_allclose(found[i], alone, rtol=8 * EPS, atol=8 * EPS)


def test_costs_are_padded_and_forbidden() -> None:
    costs = np.random.default_rng(0).normal(size=(2, 3, 3)).astype(np.float32)
    rows, columns = np.array([[0, 0, 1], [0, 0, 0]]), np.array([[0, 0, 0], [0, 1, 1]])
    spoiled = np.where((rows[:, :, None] | columns[:, None]) == 1, np.float32(np.nan), costs)
    found, (slopes,) = evaluated(
        jaxloss.soft_dtw_from_costs, spoiled, row_paddings=rows, column_paddings=columns
    )
    alone = [jaxloss.soft_dtw_from_costs(x) for x in (costs[0, :2], costs[1, :, :1])]
    np.testing.assert_allclose(found, alone, rtol=4 * EPS)
    assert np.all(np.isfinite(slopes))
    shut = costs[0].copy()
    shut[1] = np.inf
    value, (slopes,) = evaluated(jaxloss.soft_dtw_from_costs, shut)
    assert value == np.inf
    np.testing.assert_array_equal(slopes, 0)


def test_one_example_a_batch_and_vmap_agree() -> None:
    x, y, *_ = batch()
    losses, (slopes,) = evaluated(jaxloss.soft_dtw, x, y)
    np.testing.assert_allclose(jaxloss.soft_dtw(x[0], y[0]), losses[0], rtol=8 * EPS)
    mapped = jax.jit(jax.vmap(jax.value_and_grad(jaxloss.soft_dtw)))(x, y)
    np.testing.assert_allclose(mapped[0], losses, rtol=8 * EPS)
    np.testing.assert_allclose(mapped[1], slopes, atol=16 * EPS)
    eager = inspect.unwrap(jaxloss.soft_dtw)(x, y)
    np.testing.assert_allclose(eager, losses, rtol=8 * EPS)


def test_masks_weights_and_reductions() -> None:
    x, y, *_ = batch()
    losses = jaxloss.soft_dtw(x, y)
    where, weights = np.arange(8) % 3 > 0, np.arange(8, dtype=np.float32)
    spoiled = np.where(where[:, None, None], x, np.float32(np.nan))
    kept = np.where(where, losses * weights, 0)
    found, (slopes,) = evaluated(jaxloss.soft_dtw, spoiled, y, where=where, weights=weights)
    np.testing.assert_allclose(found, kept, rtol=8 * EPS)
    assert np.all(np.isfinite(slopes))
    np.testing.assert_array_equal(slopes[~where], 0)
    mean = jaxloss.soft_dtw(spoiled, y, where=where, weights=weights, reduction="mean")
    np.testing.assert_allclose(mean, np.sum(kept) / np.sum(weights[where]), rtol=8 * EPS)


@pytest.mark.parametrize(
    "change",
    [
        {"gamma": 0.0},
        {"gamma": -1.0},
        {"gamma": np.nan},
        {"gamma": np.inf},
        {"prediction_paddings": [1.0, 0.0]},
        {"prediction_paddings": [1.0, 1.0]},
        {"target_paddings": [0.0, 0.5]},
        {"predictions": [[0.0], [np.nan]]},
    ],
    ids=str,
)
def test_outside_the_domain(change: dict[str, Any]) -> None:
    given: dict[str, Any] = {
        "predictions": [[0.0], [1.0]],
        "targets": [[0.5], [2.0]],
        "gamma": 1.0,
        "prediction_paddings": [0.0, 0.0],
        "target_paddings": [0.0, 0.0],
    } | change
    arrays = {name: jnp.asarray(x) for name, x in given.items()}
    value, slopes = jax.value_and_grad(jaxloss.soft_dtw)(arrays.pop("predictions"), **arrays)
    assert np.isnan(value)
    assert np.all(np.isnan(slopes))


def test_bad_input_is_refused_by_name() -> None:
    x, y = np.zeros((2, 4, 3)), np.zeros((2, 5, 3))
    for data in ((x, y[0]), (x, y[:1]), (x, y[..., :2]), (x[0, 0], y[0, 0])):
        with pytest.raises(ValueError, match=r"expected predictions .* got predictions float"):
            jaxloss.soft_dtw(*data)
    with pytest.raises(ValueError, match=r"expected .* target_paddings float"):
        jaxloss.soft_dtw_divergence(x, y, target_paddings=np.zeros((2, 4)))
    with pytest.raises(ValueError, match=r"expected costs .* got costs float"):
        jaxloss.soft_dtw_from_costs(np.zeros(3))
    with pytest.raises(ValueError, match=r"expected costs .*row_paddings float"):
        jaxloss.soft_dtw_from_costs(x, row_paddings=np.zeros((2, 3)))
    with pytest.raises(ValueError, match=r"sequences must have at least one entry"):
        jaxloss.soft_dtw(x[:, :0], y)
    with pytest.raises(TypeError, match=r"predictions must be floating-point"):
        jaxloss.soft_dtw(x.astype(np.int32), y)


def test_memory_of_a_gradient() -> None:
    """Of all features of all pairs nothing is kept: that would be 41 MB."""
    data = [jax.ShapeDtypeStruct((8, 100, 128), jnp.float32)] * 2
    function = jax.value_and_grad(functools.partial(jaxloss.soft_dtw, reduction="sum"), (0, 1))
    program: Any = as_users(function)
    found = program.lower(*data).compile().memory_analysis()
    assert found.temp_size_in_bytes < 5e6


def test_sharded_batch() -> None:
    x, y, late, spare = batch()
    loss = functools.partial(padded, jaxloss.soft_dtw)
    total = functools.partial(loss, reduction="sum")
    expected, slopes = jax.jit(jax.value_and_grad(total))(x, y, late, spare)
    devices = np.array(jax.devices("cpu")[:8])

    def local(*data: Any) -> Any:
        return jaxloss.Mean.of(loss, *data).psum("batch").total

    mesh = Mesh(devices, ("batch",))
    mapped = jax.shard_map(local, mesh=mesh, in_specs=P("batch"), out_specs=P())
    found = [jax.jit(jax.value_and_grad(mapped))(x, y, late, spare)]
    mesh = Mesh(devices, ("batch",), axis_types=(AxisType.Explicit,))
    with jax.set_mesh(mesh):
        placed = [jax.device_put(a, NamedSharding(mesh, P("batch"))) for a in (x, y, late, spare)]
        found.append(jax.jit(jax.value_and_grad(total))(*placed))
    assert found[-1][1].sharding.spec[0] == "batch"
    for value, gradient in found:
        np.testing.assert_allclose(value, expected, rtol=8 * EPS)
        np.testing.assert_allclose(gradient, slopes, atol=16 * EPS)
