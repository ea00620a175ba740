"""The chain against all labellings written out, and against the textbook's in float64."""

from __future__ import annotations

import functools
import inspect
import itertools
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
FORBIDDEN = [[0.0, 1.0, -np.inf], [0.5, -np.inf, 2.0], [-1.0, 0.0, 0.3]]


def by_enumeration(x: Any, labels: Any, moves: Any, start: Any, end: Any) -> Any:
    """log of the sum over all labellings, less the score of the labels."""

    def score(path: Any) -> Any:
        total = start[path[0]] + end[path[-1]] + sum(x[t, y] for t, y in enumerate(path))
        return total + sum(moves[i, j] for i, j in itertools.pairwise(path))

    paths = itertools.product(range(x.shape[1]), repeat=len(x))
    return jax.nn.logsumexp(jnp.stack([score(path) for path in paths])) - score(labels)


def loss(*data: Any, **options: Any) -> Any:
    """With all arrays by position."""
    x, y, moves, start, end, late = data
    return jaxloss.crf_nll_loss(
        x, y, moves, start_transitions=start, end_transitions=end, paddings=late, **options
    )


def batch(seed: int = 0, size: int = 8, frames: int = 5, states: int = 3) -> Any:
    """Examples of all lengths, with padding."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(size, frames, states)) * 2
    late = np.arange(frames)[None] >= rng.integers(1, frames + 1, size=(size, 1))
    tables = (rng.normal(size=shape) for shape in ((states, states), states, states))
    x, *tables = (a.astype(np.float32) for a in (x, *tables))
    y = rng.integers(0, states, (size, frames)).astype(np.int32)
    return x, y, *tables, late.astype(np.float32)


def test_all_labellings_written_out() -> None:
    """Values, both modes, and second derivatives in all four tables of scores."""
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        shapes = (4, 3), (3, 3), (3,), (3,)
        tables = [jnp.asarray(rng.normal(size=shape)) for shape in shapes]
        tangents = [jnp.cos(jnp.arange(x.size, dtype=x.dtype)).reshape(x.shape) for x in tables]
        y = (0, 2, 2, 1)

        def ours(x: Any, *rest: Any) -> Any:
            return loss(x, np.array(y), *rest, None)

        def truth(x: Any, *rest: Any) -> Any:
            return by_enumeration(x, y, *rest)

        def all_of(function: Any) -> Any:
            def squared(*tables: Any) -> Any:
                return function(*tables) ** 2

            slopes = jax.grad(squared, (0, 1, 2, 3))

            def along(*tables: Any) -> Any:
                return sum(jnp.sum(a * b) for a, b in zip(slopes(*tables), tangents, strict=True))

            forward = jax.jvp(slopes, tables, tangents)
            value = jax.jvp(function, tables, tangents)
            return value, forward, jax.grad(along, (0, 1, 2, 3))(*tables)

        compare = functools.partial(np.testing.assert_allclose, rtol=1e-11, atol=1e-12)
        results = jax.jit(lambda function: all_of(function), static_argnums=0)
        jax.tree.map(compare, results(ours), results(truth))


def test_forbidden_transitions() -> None:
    """Right where a product of exponentials would have nothing left; slopes are finite."""
    x = np.zeros((3, 3), np.float32)
    x[0, 0], x[1, 2] = 900, 900  # From 0 to 2 none may go.
    y = np.array([0, 0, 1], np.int32)
    data = x, y, np.array(FORBIDDEN, np.float32), np.zeros(3, np.float32), np.zeros(3, np.float32)
    value, slopes = evaluated(loss, *data, np.zeros(3, np.float32), wrt=(0, 2))
    with jax.enable_x64(True):
        wide: Any = [jnp.asarray(a, jnp.float64) if a.dtype == np.float32 else a for a in data]
        finite = wide[2].at[0, 2].set(-1e5).at[1, 1].set(-1e5)
        truth = jax.value_and_grad(
            lambda x, moves: by_enumeration(x, y.tolist(), moves, *wide[3:]), (0, 1)
        )(wide[0], finite)
    np.testing.assert_allclose(value, truth[0], rtol=4 * EPS)
    for mine, exact in zip(slopes, truth[1], strict=True):
        np.testing.assert_allclose(mine, exact, atol=4 * EPS)


def test_forbidden_labels_cost_inf() -> None:
    rest = np.array(FORBIDDEN, np.float32), np.zeros(3, np.float32), np.zeros(3, np.float32)
    for y in ([0, 2, 1], [1, 1, 1]):
        data = np.ones((3, 3), np.float32), np.array(y, np.int32), *rest
        value, slopes = evaluated(loss, *data, np.zeros(3, np.float32), wrt=(0, 2, 3, 4))
        assert value == np.inf
        for slope in slopes:
            np.testing.assert_array_equal(slope, 0)
    x = np.full((3, 3), -np.inf, np.float32)
    value, slopes = evaluated(
        loss, x, np.array([0, 1, 2], np.int32), *rest, np.zeros(3, np.float32), wrt=(0, 2, 3, 4)
    )
    assert value == np.inf
    assert all(np.all(np.asarray(slope) == 0) for slope in slopes)


def textbook(x: np.ndarray, y: np.ndarray, moves: np.ndarray) -> tuple[float, np.ndarray]:
    """Forward-backward in logarithms and float64, of one example: the loss and its gradient."""
    before, after = np.zeros_like(x), np.zeros_like(x)
    before[0] = x[0]
    for t in range(1, len(x)):
        before[t] = x[t] + np.logaddexp.reduce(before[t - 1][:, None] + moves, 0)
    for t in range(len(x) - 2, -1, -1):
        after[t] = np.logaddexp.reduce(moves + (x[t + 1] + after[t + 1])[None], 1)
    total = np.logaddexp.reduce(before[-1])
    shares = np.exp(before + after - total)
    shares[np.arange(len(x)), y] -= 1
    return total - x[np.arange(len(x)), y].sum() - moves[y[:-1], y[1:]].sum(), shares


@pytest.mark.parametrize("boost", [0.0, 4.0])
def test_accuracy_in_float32(boost: float) -> None:
    """400 frames: the derivatives of a loop in logarithms of float32 have 4,050 eps."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(400, 8)).astype(np.float32), rng.integers(0, 8, 400)
    x[np.arange(400), y] += np.float32(boost)
    moves = rng.normal(size=(8, 8)).astype(np.float32)
    value, slopes = textbook(x.astype(float), y, moves.astype(float))
    found = as_users(jax.value_and_grad(jaxloss.crf_nll_loss))(x, y.astype(np.int32), moves)
    np.testing.assert_allclose(found[0], value, rtol=8 * EPS)
    # Products of 800 rounded factors: 28 eps, which is the square root of that.
    np.testing.assert_allclose(found[1], slopes, atol=28 * EPS, rtol=0)


@pytest.mark.parametrize("gap", [5.0, 30.0, 80.0])
def test_small_losses_to_the_last_digits(gap: float) -> None:
    """Without transitions the loss is a sum of cross-entropies, which are small here."""
    x = np.array([[gap, 0.0, 1.0], [0.5, gap, 0.0]], np.float32)
    y = np.array([0, 1], np.int32)
    rest = np.zeros((3, 3), np.float32), np.zeros(3, np.float32), np.zeros(3, np.float32)
    value, (slopes,) = evaluated(loss, x, y, *rest, np.zeros(2, np.float32))
    own = x.astype(float)[[0, 1], y]
    others = np.exp(x.astype(float) - own[:, None])
    others[[0, 1], y] = 0
    np.testing.assert_allclose(value, np.log1p(others.sum(1)).sum(), rtol=8 * EPS)
    shares = others / (1 + others.sum(1, keepdims=True))
    shares[[0, 1], y] = -shares.sum(1)
    np.testing.assert_allclose(slopes, shares, rtol=8 * EPS)


def test_one_frame_is_a_cross_entropy() -> None:
    x = np.random.default_rng(0).normal(size=(5, 1, 4)).astype(np.float32)
    y = np.arange(5).reshape(5, 1) % 4
    expected = jaxloss.softmax_cross_entropy_with_integer_labels(x[:, 0], y[:, 0])
    found = jaxloss.crf_nll_loss(x, y, np.ones((4, 4), np.float32))
    np.testing.assert_allclose(found, expected, rtol=4 * EPS)


def test_padding_is_inert() -> None:
    x, y, *tables, late = batch()
    padded = np.broadcast_to(late[:, :, None] == 1, x.shape)

    @jax.jit
    def all_of(x: Any, y: Any) -> Any:
        def total(x: Any) -> Any:
            return loss(x, y, *tables, late, reduction="sum")

        return total(x), jax.jvp(jax.grad(total), (x,), (jnp.ones_like(x),))

    def dirty(garbage: float, label: int) -> Any:
        return all_of(np.where(padded, np.float32(garbage), x), np.where(late == 1, label, y))

    clean = dirty(0, 0)
    for garbage, label in ((np.nan, -1), (np.inf, 99), (-np.inf, 0), (1e38, 2)):
        jax.tree.map(np.testing.assert_array_equal, dirty(garbage, label), clean)
    for row, labels, left_out, found in zip(x, y, late, loss(x, y, *tables, late), strict=True):
        kept = left_out == 0
        with jax.enable_x64(True):
            scores = [jnp.asarray(a, jnp.float64) for a in (row[kept], *tables)]
            truth = by_enumeration(scores[0], labels[kept].tolist(), *scores[1:])
        np.testing.assert_allclose(found, truth, rtol=8 * EPS, atol=4 * EPS)
    none = np.ones_like(late)
    np.testing.assert_array_equal(loss(x, y, *tables, none), 0)


def test_one_example_a_batch_and_vmap_agree() -> None:
    x, y, *tables, late = batch()
    losses, (slopes,) = evaluated(loss, x, y, *tables, late)
    rows = [loss(x[i], y[i], *tables, late[i]) for i in range(2)]
    np.testing.assert_allclose(rows, losses[:2], rtol=4 * EPS)
    axes = (0, 0, None, None, None, 0)
    mapped = jax.jit(jax.vmap(jax.value_and_grad(loss), axes))(x, y, *tables, late)
    np.testing.assert_allclose(mapped[0], losses, rtol=8 * EPS)
    np.testing.assert_allclose(mapped[1], slopes, atol=4 * EPS)
    eager = inspect.unwrap(jaxloss.crf_nll_loss)(x, y, tables[0], paddings=late)
    compiled = jaxloss.crf_nll_loss(x, y, tables[0], paddings=late)
    np.testing.assert_allclose(eager, compiled, rtol=8 * EPS)


def test_masks_weights_and_reductions() -> None:
    x, y, *tables, late = batch()
    losses = loss(x, y, *tables, late)
    where, weights = np.arange(8) % 3 > 0, np.arange(8, dtype=np.float32)
    spoiled = np.where(where[:, None, None], x, np.float32(np.nan))
    labels = np.where(where[:, None], y, np.int32(99))
    data = spoiled, labels, *tables, late
    kept = np.where(where, losses * weights, 0)
    found, slopes = evaluated(loss, *data, where=where, weights=weights, wrt=(0, 2, 3, 4))
    np.testing.assert_allclose(found, kept, rtol=8 * EPS)
    assert all(np.all(np.isfinite(slope)) for slope in slopes)
    np.testing.assert_array_equal(slopes[0][~where], 0)
    mean = loss(*data, where=where, weights=weights, reduction="mean")
    np.testing.assert_allclose(mean, np.sum(kept) / np.sum(weights[where]), rtol=8 * EPS)
    given = functools.partial(loss, *data, where=where, weights=weights)
    np.testing.assert_array_equal(jaxloss.Mean.of(given).value(), mean)


@pytest.mark.parametrize(
    "change",
    [
        {"labels": [0, 3, 0]},
        {"labels": [0, -1, 0]},
        {"paddings": [1.0, 0.0, 0.0]},
        {"paddings": [0.0, 0.0, 0.5]},
        {"emissions": [[0.0, np.nan, 0.0]] * 3},
        {"emissions": [[0.0, np.inf, 0.0]] * 3},
        {"transitions": [[0.0, np.nan, 0.0]] * 3},
        {"start_transitions": [0.0, np.inf, 0.0]},
        {"end_transitions": [0.0, np.nan, 0.0]},
    ],
    ids=str,
)
def test_outside_the_domain(change: dict[str, Any]) -> None:
    given: dict[str, Any] = {
        "emissions": np.ones((3, 3), np.float32),
        "labels": [0, 1, 2],
        "transitions": np.ones((3, 3), np.float32),
        "start_transitions": [0.0, 1.0, 2.0],
        "end_transitions": [0.0, 1.0, 2.0],
        "paddings": [0.0, 0.0, 0.0],
    } | change
    arrays = {name: jnp.asarray(x) for name, x in given.items()}
    value, slopes = jax.value_and_grad(jaxloss.crf_nll_loss)(arrays.pop("emissions"), **arrays)
    assert np.isnan(value)
    assert np.all(np.isnan(slopes))


def test_bad_input_is_refused_by_name() -> None:
    x, y, moves = np.zeros((2, 4, 3)), np.zeros((2, 4), np.int32), np.zeros((3, 3))
    for data in ((x, y[:, :3]), (x[0], y), (x[0, 0], y[0, 0])):
        with pytest.raises(ValueError, match=r"expected emissions .* got emissions float.*labels"):
            jaxloss.crf_nll_loss(*data, moves)
    with pytest.raises(ValueError, match=r"got emissions .*paddings float"):
        jaxloss.crf_nll_loss(x, y, moves, paddings=np.zeros(4))
    with pytest.raises(ValueError, match=r"transitions must have shape \[3, 3\], got"):
        jaxloss.crf_nll_loss(x, y, np.zeros((3, 4)))
    with pytest.raises(ValueError, match=r"end_transitions must have shape \[3\], got"):
        jaxloss.crf_nll_loss(x, y, moves, end_transitions=np.zeros(4))
    with pytest.raises(ValueError, match=r"emissions must have at least one frame"):
        jaxloss.crf_nll_loss(x[:, :0], y[:, :0], moves)
    with pytest.raises(TypeError, match=r"labels must be integers, got labels float"):
        jaxloss.crf_nll_loss(x, y * 1.0, moves)


def test_memory_of_a_gradient() -> None:
    """Of all pairs of states in all frames nothing is kept: that would be 33 MB."""
    shapes = (8, 256, 64), (8, 256), (64, 64)
    kinds = jnp.float32, jnp.int32, jnp.float32
    data = [jax.ShapeDtypeStruct(x, kind) for x, kind in zip(shapes, kinds, strict=True)]
    function: Any = jax.value_and_grad(
        functools.partial(jaxloss.crf_nll_loss, reduction="sum"), argnums=(0, 2)
    )
    program: Any = as_users(function)
    found = program.lower(*data).compile().memory_analysis()
    assert found.temp_size_in_bytes < 4e6


def test_sharded_batch() -> None:
    data = batch()
    losses, (slopes,) = evaluated(loss, *data)
    expected, devices = np.sum(losses), np.array(jax.devices("cpu")[:8])
    total = functools.partial(loss, reduction="sum")

    def local(*data: Any) -> Any:
        return jaxloss.Mean.of(loss, *data).psum("batch").total

    specs = (P("batch"), P("batch"), P(), P(), P(), P("batch"))
    mesh = Mesh(devices, ("batch",))
    mapped = jax.shard_map(local, mesh=mesh, in_specs=specs, out_specs=P())
    found = [jax.jit(jax.value_and_grad(mapped))(*data)]
    for kind in (AxisType.Auto, AxisType.Explicit):
        mesh = Mesh(devices, ("batch",), axis_types=(kind,))
        with jax.set_mesh(mesh):
            pairs = zip(data, specs, strict=True)
            placed = [jax.device_put(x, NamedSharding(mesh, spec)) for x, spec in pairs]
            found.append(jax.jit(jax.value_and_grad(total))(*placed))
        assert found[-1][1].sharding.spec[0] == "batch"
    for value, gradient in found:
        np.testing.assert_allclose(value, expected, rtol=8 * EPS)
        np.testing.assert_allclose(gradient, slopes, atol=8 * EPS)
