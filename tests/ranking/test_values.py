from __future__ import annotations

import functools
import itertools
from typing import Any

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxloss
from jaxloss import (
    approx_mrr_loss,
    approx_ndcg_loss,
    lambda_weights,
    listmle_loss,
    listnet_loss,
    pairwise_hinge_loss,
    pairwise_logistic_loss,
    pairwise_mse_loss,
    ranking_softmax_loss,
    unique_softmax_loss,
)
from tests.laws.compiling import as_users
from tests.laws.values import double, evaluated, in_both_modes, single

softmax = functools.partial(ranking_softmax_loss, reduction="none")
PAIRWISE: list[Any] = [pairwise_logistic_loss, pairwise_hinge_loss, pairwise_mse_loss]
APPROXIMATE: list[Any] = [approx_ndcg_loss, approx_mrr_loss]
LOSSES: list[Any] = [
    softmax,
    listnet_loss,
    listmle_loss,
    unique_softmax_loss,
    *PAIRWISE,
    *APPROXIMATE,
]
# Those whose labels are gains.
OF_GAINS: list[Any] = [softmax, unique_softmax_loss, *APPROXIMATE]
# Those of which a list of equal labels has nothing to order.
OF_ORDERS: list[Any] = [unique_softmax_loss, *PAIRWISE[:2]]
INF, E = np.inf, np.e


def name(loss: Any) -> str:
    return getattr(loss, "__name__", "ranking_softmax_loss")


every = functools.partial(pytest.mark.parametrize, "loss", ids=name)


def sigma(x: float) -> float:
    return 1 / (1 + np.exp(-x))


def log(*odds: float) -> float:
    """-log of the first out of the sum of all."""
    return float(np.log(sum(odds) / odds[0]))


# Loss, scores, labels, options, value, gradient in the scores.
Row = tuple[Any, tuple[float, ...], tuple[float, ...], dict[str, Any], float, Any]
THIRD = 1 / 3
ROWS: list[Row] = [
    (softmax, (0, 0, 0), (1, 0, 0), {}, log(1, 1, 1), (-2 * THIRD, THIRD, THIRD)),
    (softmax, (0, 0, 0), (2, 1, 0), {}, 3 * log(1, 1, 1), (-1, 0, 1)),
    (softmax, (5, 0, 0), (0, 0, 0), {}, 0, (0, 0, 0)),
    (softmax, (5,), (3,), {}, 0, (0,)),
    (listnet_loss, (0, 0), (0, 0), {}, np.log(2), (0, 0)),
    (listnet_loss, (1, 0), (0, 0), {}, np.log(1 + E) - 0.5, (E / (1 + E) - 0.5, 1 / (1 + E) - 0.5)),
    (listnet_loss, (5,), (3,), {}, 0, (0,)),
    (listmle_loss, (0, 0, 0), (1, 0, 2), {}, np.log(6), (-1 / 6, 5 / 6, -2 * THIRD)),
    # Equal labels in order of index.
    (listmle_loss, (1, 0), (4, 4), {}, log(E, 1), (sigma(1) - 1, sigma(-1))),
    (listmle_loss, (0, 1), (4, 4), {}, log(1, E), (sigma(-1) - 1, sigma(1))),
    (listmle_loss, (5,), (3,), {}, 0, (0,)),
    (listmle_loss, (INF, 2, -INF), (2, 1, 0), {}, 0, None),
    (listmle_loss, (2, INF), (1, 0), {}, INF, None),
    (
        unique_softmax_loss,
        (1, 2, 3),
        (2, 2, 1),
        {},
        3 * np.log1p(E**2) + 3 * np.log1p(E),
        (-3 * sigma(2), -3 * sigma(1), 3 * sigma(2) + 3 * sigma(1)),
    ),
    (unique_softmax_loss, (0, 0, 0), (2, 1, 0), {}, 3 * np.log(3) + np.log(2), (-2, 0.5, 1.5)),
    (unique_softmax_loss, (1, 2, 3), (2, 2, 2), {}, 0, (0, 0, 0)),
    (unique_softmax_loss, (5,), (3,), {}, 0, (0,)),
    (
        pairwise_logistic_loss,
        (1, 3, 0),
        (2, 1, 1),
        {},
        (np.log1p(E**2) + np.log1p(1 / E)) / 2,
        ((-sigma(2) - sigma(-1)) / 2, sigma(2) / 2, sigma(-1) / 2),
    ),
    (pairwise_logistic_loss, (1, 2, 3), (2, 2, 2), {}, 0, (0, 0, 0)),
    (pairwise_logistic_loss, (5,), (3,), {}, 0, (0,)),
    (pairwise_logistic_loss, (INF, 2, -INF), (2, 1, 0), {}, 0, None),
    (pairwise_hinge_loss, (1, 3, 0), (2, 1, 1), {}, 3 / 2, (-1, 0.5, 0.5)),
    (pairwise_hinge_loss, (1, 3, 0), (2, 1, 1), {"margin": 0.5}, 2.5 / 2, (-0.5, 0.5, 0)),
    (pairwise_hinge_loss, (1, 3, 0), (2, 1, 1), {"margin": 4.0}, (6 + 3) / 2, (-1, 0.5, 0.5)),
    (pairwise_hinge_loss, (1, 2, 3), (2, 2, 2), {}, 0, (0, 0, 0)),
    (pairwise_hinge_loss, (5,), (3,), {}, 0, (0,)),
    # Gaps of the labels 1, 1, 0; of the scores -2, 1, 3.
    (pairwise_mse_loss, (1, 3, 0), (2, 1, 1), {}, 2 * (9 + 0 + 9) / 6, (-2, 4, -2)),
    (pairwise_mse_loss, (1, 3, 0), (-8, -9, -9), {}, 2 * (9 + 0 + 9) / 6, (-2, 4, -2)),
    (
        pairwise_mse_loss,
        (1, 3, 0),
        (2, 2, 2),
        {},
        2 * (4 + 1 + 9) / 6,
        (-2 * THIRD, 10 * THIRD, -8 * THIRD),
    ),
    (pairwise_mse_loss, (5,), (3,), {}, 0, (0,)),
    # Ranks 1.5 and 1.5.
    (approx_ndcg_loss, (0, 0), (1, 0), {}, 1 - 1 / np.log2(2.5), None),
    (approx_ndcg_loss, (0, 0), (0, 0), {}, 0, (0, 0)),
    (approx_ndcg_loss, (5,), (3,), {}, 0, (0,)),
    (approx_ndcg_loss, (9, 0, 5), (3, 0, 1), {}, 0, (0, 0, 0)),
    # Gains 3 and 1 at ranks 2 and 1.
    (
        approx_ndcg_loss,
        (0, 9),
        (2, 1),
        {},
        1 - (3 / np.log2(3) + 1) / (3 + 1 / np.log2(3)),
        (0, 0),
    ),
    (approx_mrr_loss, (0, 0), (1, 0), {"temperature": 2.0}, 1 / 3, (-1 / 18, 1 / 18)),
    (approx_mrr_loss, (0, 9, 50), (3, 0, 1), {}, 1 - (3 / 3 + 1) / 4, (0, 0, 0)),
    (approx_mrr_loss, (0, 0), (0, 0), {}, 0, (0, 0)),
    (approx_mrr_loss, (5,), (3,), {}, 0, (0,)),
]


def row_id(row: Any) -> str:
    loss, scores, labels, options, *_ = row
    return f"{name(loss)}{scores}{labels}{options or ''}"


@pytest.mark.parametrize("row", ROWS, ids=row_id)
def test_values(row: Row) -> None:
    loss, scores, labels, options, value, gradient = row
    got, *derivatives = in_both_modes(loss, **options)(single(scores), single(labels))
    np.testing.assert_allclose(got, value, rtol=1e-6, atol=1e-7)
    if gradient is not None:
        for derivative in derivatives:
            np.testing.assert_allclose(derivative, gradient, rtol=1e-6, atol=1e-7)


def drawn(shape: tuple[int, ...], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Scores, and labels of five grades."""
    rng = np.random.default_rng(seed)
    return single(rng.normal(0, 2, shape)), single(rng.integers(0, 5, shape))


# Nearly all tests draw this many lists of this many documents, to share the programs.
SHAPE = (3, 6)


def numbers(loss: Any, *data: Any, **options: Any) -> tuple[np.ndarray, np.ndarray]:
    """The losses, and their slopes in the scores."""
    losses, (slopes,) = evaluated(loss, *data, **options)
    return np.asarray(losses), np.asarray(slopes)


def slopes(loss: Any, *data: Any, **options: Any) -> np.ndarray:
    return numbers(loss, *data, **options)[1]


@every(LOSSES)
def test_any_batch_rank(loss: Any) -> None:
    s, y = drawn((2, *SHAPE))
    expected = np.asarray(loss(s, y))
    assert expected.shape == (2, 3)
    np.testing.assert_allclose(jax.vmap(jax.vmap(loss))(s, y), expected, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(loss(s[0, 0], y[0, 0]), expected[0, 0], rtol=1e-6, atol=1e-7)


@every(LOSSES)
def test_the_order_of_the_documents_does_not_matter(loss: Any) -> None:
    s, y = drawn(SHAPE)
    y = single(np.argsort(y, axis=-1))  # without ties
    order = [3, 1, 5, 0, 2, 4]
    moved, slope = numbers(loss, s[:, order], y[:, order])
    expected, wanted = numbers(loss, s, y)
    np.testing.assert_allclose(moved, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(slope, wanted[:, order], rtol=1e-5, atol=1e-6)


@every(LOSSES)
def test_a_common_offset_costs_no_digits(loss: Any) -> None:
    s, y = drawn(SHAPE)
    s = np.round(s * 64) / 64
    expected, wanted = numbers(loss, s, y)
    for offset in (-1e5, 1e5):
        losses, slope = numbers(loss, single(s + offset), y)
        np.testing.assert_array_equal(losses, expected)
        np.testing.assert_array_equal(slope, wanted)


@every(LOSSES)
def test_documents_that_are_absent_are_inert(loss: Any) -> None:
    """Whatever they hold; rax has NaN in the gradients of five of its losses there."""
    s, y = drawn(SHAPE)
    there = np.isin(np.arange(9), [0, 2, 4, 5, 6, 8])
    mask = np.broadcast_to(there, (3, 9))
    expected, wanted = numbers(loss, s, y)
    for garbage in (np.nan, np.inf, -np.inf, 1e30, -7.0):
        dirty = np.full((2, 3, 9), garbage, np.float32)
        dirty[..., there] = s, y
        losses, slope = numbers(loss, *dirty, where=mask)
        np.testing.assert_allclose(losses, expected, rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(slope[:, there], wanted, rtol=1e-5, atol=1e-6)
        assert np.all(slope[:, ~there] == 0)


@every(LOSSES)
def test_one_nan_makes_its_list_nan(loss: Any) -> None:
    for at, which in itertools.product(range(SHAPE[-1]), (0, 1)):
        data = drawn(SHAPE)
        data[which][0, at] = np.nan
        losses, slope = numbers(loss, *data)
        assert np.isnan(losses[0])
        assert np.all(np.isnan(slope[0]))
        assert np.all(np.isfinite(losses[1:]))
        assert np.all(np.isfinite(slope[1:]))


@every(OF_GAINS)
def test_negative_gains_are_nan_unless_excluded(loss: Any) -> None:
    s, y = drawn(SHAPE)
    y[0, 1] = -1
    losses, slope = numbers(loss, s, y)
    assert np.isnan(losses[0])
    assert np.all(np.isfinite(losses[1:]))
    assert np.all(np.isnan(slope[0]))
    assert np.all(np.isfinite(loss(s, y, where=y >= 0)))


@every([loss for loss in LOSSES if loss not in OF_GAINS])
def test_labels_that_only_compare_may_be_negative(loss: Any) -> None:
    s, y = drawn(SHAPE)
    np.testing.assert_allclose(numbers(loss, s, y - 7)[0], numbers(loss, s, y)[0], rtol=1e-6)


@every(LOSSES)
def test_lists_without_documents(loss: Any) -> None:
    empty = np.zeros((3, 0), np.float32)
    np.testing.assert_array_equal(loss(empty, empty), [0, 0, 0])
    value, slope = numbers(loss, empty, empty, reduction="mean")
    assert value == 0
    assert slope.shape == (3, 0)
    assert float(loss(empty[0], empty[0])) == 0
    # Neither counts a list of which none is there.
    s, y = drawn(SHAPE)
    mask = np.zeros(SHAPE, bool)
    mask[0] = True
    mean = loss(s, y, where=mask, reduction="mean")
    np.testing.assert_array_equal(mean, numbers(loss, s, y)[0][0])


@every(LOSSES)
def test_lists_that_have_nothing_to_order_do_not_count(loss: Any) -> None:
    s, y = drawn(SHAPE)
    others = numbers(loss, s, y)[0][1:]
    equal, none = y.copy(), y.copy()
    equal[0], none[0] = 2, 0
    if loss in OF_ORDERS:
        assert numbers(loss, s, equal)[0][0] == 0
        mean, slope = numbers(loss, s, equal, reduction="mean")
        np.testing.assert_allclose(mean, np.mean(others), rtol=1e-6)
        assert np.all(slope[0] == 0)
    if loss in [*OF_ORDERS, *APPROXIMATE]:
        assert numbers(loss, s, none)[0][0] == 0
        part = jaxloss.Mean.of(loss, s, none, weights=single([5, 2, 1]))
        assert float(part.weight) == 3
        expected = np.average(others, weights=[2, 1])
        np.testing.assert_allclose(part.value(), expected, rtol=1e-6)
        assert np.all(slopes(loss, s, none, reduction="mean")[0] == 0)
    one = np.ones(SHAPE, bool)
    one[0, 1:] = False
    np.testing.assert_allclose(np.asarray(loss(s, y, where=one))[0], 0, atol=1e-7)
    if loss in [*PAIRWISE, unique_softmax_loss]:
        mean = loss(s, y, where=one, reduction="mean")
        np.testing.assert_allclose(mean, np.mean(others), rtol=1e-6)


@every(LOSSES)
def test_bad_input_is_refused_by_name(loss: Any) -> None:
    s, y = drawn((2, 4))
    first = "logits" if loss is softmax else "scores"
    with pytest.raises(ValueError, match=rf"{first} float32\[2, 4\], labels float32\[2\]"):
        loss(s, y[:, 0])
    with pytest.raises(ValueError, match=rf"{first} float32\[2, 4\], labels float32\[2, 3\]"):
        loss(s, y[:, :3])
    with pytest.raises(TypeError, match=f"{first} must be floating-point and come before labels"):
        loss(s.astype(int), y)
    with pytest.raises(TypeError, match="labels must be real, got labels complex64"):
        loss(s, y.astype(jnp.complex64))
    with pytest.raises(ValueError, match="must have at least one axis"):
        loss(jnp.float32(1.0), jnp.float32(1.0))
    with pytest.raises(TypeError, match="where must be boolean"):
        loss(s, y, where=jnp.ones((2, 4)))


# The softmax of the list, as optax has it.


def test_optax_weights_and_reductions() -> None:
    s, y = drawn((3, 4))
    by_document = np.abs(drawn((3, 4), 1)[0])
    weighed = ranking_softmax_loss(s, y, weights=by_document)
    np.testing.assert_allclose(weighed, np.mean(softmax(s, y * by_document)), rtol=1e-6)
    losses = np.asarray(softmax(s, y))
    by_list = single([1, 2, 4])
    expected = np.average(losses, weights=by_list)
    np.testing.assert_allclose(ranking_softmax_loss(s, y, weights=by_list), expected, rtol=1e-6)
    np.testing.assert_array_equal(ranking_softmax_loss(s, y, reduce_fn=None), losses)
    total = ranking_softmax_loss(s, y, reduce_fn=jnp.sum, where=by_list > 1)
    np.testing.assert_allclose(total, np.sum(losses[1:]), rtol=1e-6)
    assert ranking_softmax_loss(s, y, reduction="sum") == jnp.sum(losses)
    # A weight that an absent document has is not read.
    keep = [0, 2, 3]
    mask = np.isin(np.broadcast_to(np.arange(4), s.shape), keep)
    dirty = np.where(mask, by_document, np.float32(np.nan))
    got = ranking_softmax_loss(s, y, where=mask, weights=dirty)
    expected = ranking_softmax_loss(s[:, keep], y[:, keep], weights=by_document[:, keep])
    np.testing.assert_allclose(got, expected, rtol=1e-6)


# Theorems.


def test_listmle_is_a_distribution_of_orders() -> None:
    s = np.broadcast_to(drawn((4,))[0], (24, 4))
    orders = single(list(itertools.permutations(range(4))))
    probabilities = np.exp(-np.asarray(listmle_loss(s, orders)))
    np.testing.assert_allclose(np.sum(probabilities), 1, rtol=1e-6)


def test_of_two_documents_all_are_the_logistic_loss() -> None:
    s = drawn((7, 2))[0]
    y = np.broadcast_to(single([1, 0]), s.shape)
    expected = numbers(pairwise_logistic_loss, s, y)
    for loss in (softmax, listmle_loss, unique_softmax_loss):
        for got, wanted in zip(numbers(loss, s, y), expected, strict=True):
            np.testing.assert_allclose(got, wanted, rtol=1e-6)


@hypothesis.given(st.lists(st.integers(-64, 64), min_size=6, max_size=6), st.integers(0, 2**16))
@hypothesis.settings(max_examples=25)
def test_squares_over_pairs_are_a_variance(sixteenths: list[int], seed: int) -> None:
    s = single(sixteenths) / 16
    y = single(np.random.default_rng(seed).integers(-9, 9, 6))
    pairs = pairwise_mse_loss(s, y, pair_weights=np.ones((6, 6), np.float32))
    np.testing.assert_allclose(pairs, 2 * np.var(y - s, ddof=1), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(pairwise_mse_loss(s, y), pairs, rtol=1e-5, atol=1e-6)


@every(APPROXIMATE)
def test_as_the_temperature_falls_the_measure_is_left(loss: Any) -> None:
    s, y = drawn((5, 8))
    rank = 1 + np.argsort(np.argsort(-s))
    if loss is approx_ndcg_loss:
        gain, best = 2**y - 1, -np.sort(-(2**y - 1))
        ideal = np.sum(best / np.log2(1 + np.arange(1, 9)), -1)
        measure = np.sum(gain / np.log2(1 + rank), -1) / ideal
    else:
        measure = np.sum(y / rank, -1) / np.sum(y, -1)
    np.testing.assert_allclose(loss(s, y, temperature=1e-4), 1 - measure, atol=1e-6)
    # Never below 0: the ranks are means over some random order.
    y = np.abs(drawn((500, 8))[0])
    for temperature in (1e-4, 0.1, 3.0):
        assert np.all(np.asarray(loss(y, y, temperature=temperature)) >= 0)


def test_curvature_where_scores_are_equal() -> None:
    """1 - 1 / r with r = 3/2, whose slope in the score is -1 / (4 T) there too."""
    temperature = 0.5

    def loss(s: Any, temperature: Any) -> Any:
        return approx_mrr_loss(jnp.stack([s, jnp.ones_like(s)]), [1, 0], temperature=temperature)

    curved = jax.jit(jax.jacfwd(jax.grad(loss), (0, 1)))(single(1), single(temperature))
    # -2 r'^2 / r^3, and the derivative of -1 / (9 T).
    exact = [-1 / (27 * temperature**2), 1 / (9 * temperature**2)]
    np.testing.assert_allclose(curved, exact, rtol=1e-6)


def test_gains_of_every_size() -> None:
    # Of 2^y - 1 only the quotients matter, which neither overflow nor vanish.
    s = single([0, 1])
    for low, high in ((200.0, 201.0), (1e5, 1e5 + 1), (1e-20, 2e-20)):
        share = 1 / 3
        ranks = 1 + 1 / (1 + np.exp(np.array([1, -1]) / 1.0))
        ranks = np.array([1 + sigma(1), 1 + sigma(-1)])
        worth = np.array([share, 1 - share]) @ (1 / np.log2(1 + ranks))
        best = (1 - share) + share / np.log2(3)
        got = approx_ndcg_loss(s, single([low, high]), temperature=1.0)
        np.testing.assert_allclose(got, 1 - worth / best, rtol=1e-5)


# Weights of pairs.


def weighted(s: Any, y: Any, w: Any, of: Any) -> Any:
    return of(s, y, pair_weights=w)


def by_brute_force(s: Any, y: Any, w: Any, of: Any) -> Any:
    i, j = (np.array(x) for x in zip(*itertools.permutations(range(5), 2), strict=True))
    gap, wanted, by = s[:, i] - s[:, j], y[:, i] - y[:, j], w[:, i, j]
    if of is pairwise_mse_loss:
        return jnp.mean(by * (wanted - gap) ** 2, -1)
    terms = jax.nn.softplus(-gap) if of is pairwise_logistic_loss else jax.nn.relu(1 - gap)
    pairs = wanted > 0
    return jnp.sum(jnp.where(pairs, by * terms, 0), -1) / jnp.sum(pairs, -1, dtype=jnp.float32)


@every(PAIRWISE)
def test_weights_of_pairs(loss: Any) -> None:
    """In value and in the gradients in scores and in weights."""
    s, y = drawn((2, 5))
    w = single(np.random.default_rng(2).uniform(0, 3, (2, 5, 5)))
    got, ours = evaluated(weighted, s, y, w, wrt=(0, 2), of=loss)
    expected, theirs = evaluated(by_brute_force, s, y, w, wrt=(0, 2), of=loss)
    np.testing.assert_allclose(got, expected, rtol=1e-5)
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-5, atol=1e-6)
    # Pairs of absent documents, and of a document with itself, are not read.
    there = np.array([True, True, False, True, True])
    pairs = np.outer(there, there) & ~np.eye(5, dtype=bool)
    dirty = np.where(pairs, w, np.float32(np.nan))
    got = loss(s, y, pair_weights=dirty, where=np.broadcast_to(there, s.shape))
    few = loss(s[:, there], y[:, there], pair_weights=w[:, there][:, :, there])
    np.testing.assert_allclose(got, few, rtol=1e-5)
    with pytest.raises(ValueError, match=r"pair_weights must have the shape \[2, 5, 5\]"):
        loss(s, y, pair_weights=w[0])


def ndcg(labels: np.ndarray, order: list[int]) -> float:
    discount = 1 / np.log2(np.arange(2, len(order) + 2))
    gain = 2**labels - 1
    return float(gain[order] @ discount / (-np.sort(-gain) @ discount))


def test_lambda_weights_are_changes_of_ndcg() -> None:
    s, y = drawn((6,), 3)
    order = list(np.argsort(-s, kind="stable"))
    weights, y = np.asarray(lambda_weights(s, y)), double(y)
    for a, b in itertools.combinations(range(6), 2):
        swapped = list(order)
        swapped[a], swapped[b] = order[b], order[a]
        change = abs(ndcg(y, swapped) - ndcg(y, order))
        for i, j in ((order[a], order[b]), (order[b], order[a])):
            np.testing.assert_allclose(weights[i, j], change, rtol=1e-5, atol=1e-7)


def test_lambda_weights_of_lambdaloss() -> None:
    # Ranks 1, 2, 3; gains 3, 0, 1 out of 3 + 1 / log2(3).
    s, y = single([3, 2, 1]), np.array([2, 0, 1])
    ideal = 3 + 1 / np.log2(3)
    bound = np.array([0, 1 - 1 / np.log2(3), 1 / np.log2(3) - 1 / 2])
    gap = np.array([[0, 1, 2], [1, 0, 1], [2, 1, 0]])
    gains = np.abs(np.subtract.outer([3, 0, 1], [3, 0, 1])) / ideal
    np.testing.assert_allclose(lambda_weights(s, y, kind="ndcg2"), gains * bound[gap], rtol=1e-6)
    both = lambda_weights(s, y) + 3 * gains * bound[gap]
    np.testing.assert_allclose(lambda_weights(s, y, kind="ndcg2++", mu=3.0), both, rtol=1e-6)


def test_lambda_weights_at_the_edges() -> None:
    s, y = drawn((2, 4))
    np.testing.assert_array_equal(lambda_weights(s, 0 * y), np.zeros((2, 4, 4)))
    np.testing.assert_array_equal(lambda_weights(s[:, :1], y[:, :1]), np.zeros((2, 1, 1)))
    assert lambda_weights(s[:, :0], y[:, :0]).shape == (2, 0, 0)
    negative = np.where([[True], [False]], np.float32(-1), y)
    assert np.all(np.isnan(lambda_weights(s, negative)[0]))
    there = np.array([True, False, True, True])
    dirty = np.where(there, s, np.float32(np.nan))
    weights = np.asarray(lambda_weights(dirty, y, where=np.broadcast_to(there, s.shape)))
    few = lambda_weights(s[:, there], y[:, there])
    np.testing.assert_allclose(weights[:, there][:, :, there], few, rtol=1e-6)
    assert np.all(weights[:, 1] == 0)
    assert np.all(weights[:, :, 1] == 0)
    # Ties in order of index.
    falling = np.array([2, 1, 0])
    tied = lambda_weights(np.zeros(3, np.float32), falling)
    np.testing.assert_array_equal(tied, lambda_weights(single([3, 2, 1]), falling))
    with pytest.raises(ValueError, match=r"kind must be one of 'ndcg', .*, got 'map'"):
        lambda_weights(s, y, kind="map")  # type: ignore
    with pytest.raises(ValueError, match=r"scores float32\[2, 4\], labels float32\[4\]"):
        lambda_weights(s, y[0])
    np.testing.assert_array_equal(slopes(lambda_weights, s, y), 0 * s)


def test_lambda_weights_of_low_ranks_keep_their_digits() -> None:
    """Discounts of neighbours differ in their last digits only."""
    size = 3000
    s = -np.arange(size, dtype=np.float32)
    y = single(s == s[-1])
    weights = double(lambda_weights(s, y))[-1, -2]
    exact = np.diff(1 / np.log2(1 + np.arange(size - 1.0, size + 1)))[0]
    np.testing.assert_allclose(weights, -exact, rtol=1e-5)


# Long lists, in blocks.


def plainly(s: Any, y: Any, of: Any) -> Any:
    """Of all pairs at once, in float64."""
    gap, wanted = s[..., :, None] - s[..., None, :], y[..., :, None] - y[..., None, :]
    pairs = wanted > 0
    if of in PAIRWISE:
        terms = jax.nn.softplus(-gap) if of is pairwise_logistic_loss else jax.nn.relu(1 - gap)
        if of is pairwise_mse_loss:
            return jnp.sum((wanted - gap) ** 2, (-1, -2)) / (s.shape[-1] * (s.shape[-1] - 1))
        return jnp.sum(jnp.where(pairs, terms, 0), (-1, -2)) / jnp.sum(pairs, (-1, -2))
    rank = 0.5 + jnp.sum(jax.nn.sigmoid(-gap / 0.5), -1)
    if of is approx_mrr_loss:
        return 1 - jnp.sum(y / rank, -1) / jnp.sum(y, -1)
    discount = 1 / jnp.log2(1 + jnp.arange(1.0, 1 + s.shape[-1]))
    ideal = -jnp.sort(-(2**y - 1)) @ discount
    return 1 - jnp.sum((2**y - 1) / jnp.log2(1 + rank), -1) / ideal


@every([*PAIRWISE, *APPROXIMATE])
@pytest.mark.parametrize("shape", [(3, 700), (40, 101), (2, 1030)])
def test_blocks(loss: Any, shape: tuple[int, ...]) -> None:
    """Of several lists, of a part of one, and the last of them cut off."""
    s, y = drawn(shape)
    options = {"temperature": 0.5} if loss in APPROXIMATE else {}
    value, (slope,) = as_users(functools.partial(evaluated, loss, **options))(s, y)
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        exact, (exact_slope,) = evaluated(plainly, double(s), double(y), of=loss)
    np.testing.assert_allclose(value, exact, rtol=3e-6)
    largest = np.abs(np.asarray(exact_slope)).max()
    np.testing.assert_allclose(slope, exact_slope, rtol=1e-5, atol=1e-5 * largest)


def test_blocks_with_weights_of_pairs() -> None:
    s, y = drawn((2, 600))
    w = single(np.random.default_rng(4).uniform(0, 1, (2, 600, 600)))
    turned = w.swapaxes(1, 2)
    for loss in PAIRWISE:
        got = slopes(loss, s, y, pair_weights=w)
        half = [slopes(loss, s, y, pair_weights=x) for x in (w / 2, turned / 2)]
        symmetric = slopes(loss, s, y, pair_weights=(w + turned) / 2)
        np.testing.assert_allclose(half[0] + half[1], symmetric, rtol=1e-3, atol=1e-6)
        for row in range(2):
            alone = slopes(loss, s[row], y[row], pair_weights=w[row])
            np.testing.assert_allclose(got[row], alone, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("loss", LOSSES, ids=name)
def test_curvature_of_blocks(loss: Any) -> None:
    """Forward over reverse and reverse over reverse, through the loops."""
    s, y = drawn((1, 600))
    towards = drawn((1, 600), 1)[0]

    @jax.jit
    def products(s: Any) -> Any:
        def slope(s: Any) -> Any:
            return evaluated(loss, s, y)[1][0]

        _, forward = jax.jvp(slope, (s,), (towards,))
        return forward, jax.grad(lambda s: jnp.sum(slope(s) * towards))(s)

    forward, reverse = map(np.asarray, products(s))
    largest = np.abs(forward).max()
    np.testing.assert_allclose(forward, reverse, atol=1e-4 * largest)


@every(LOSSES)
def test_a_list_of_16384_documents_fits(loss: Any) -> None:
    """All pairs of it would take a gigabyte for each of their arrays."""
    row = jax.ShapeDtypeStruct((1, 16384), jnp.float32)
    both: Any = as_users(jax.value_and_grad(lambda s, y: jnp.sum(loss(s, y))))
    memory = both.lower(row, row).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 2**26


def test_blocks_under_vmap() -> None:
    s, y = drawn((3, 600))
    for loss in PAIRWISE:
        np.testing.assert_allclose(jax.vmap(loss)(s, y), loss(s, y), rtol=1e-5)


def test_an_order_of_more_documents_than_places_fit_into_its_codes() -> None:
    size = 46_500
    s = np.random.default_rng(5).normal(0, 1, size).astype(np.float32)
    y = np.random.default_rng(6).integers(-4, 4, size).astype(np.float32)
    y[::5] *= 0  # of either sign
    ranked = s[np.argsort(-y, kind="stable")].astype(np.float64)
    exact = np.sum(np.logaddexp.accumulate(ranked[::-1])[::-1] - ranked)
    value, slope = numbers(listmle_loss, s, y)
    np.testing.assert_allclose(value, exact, rtol=1e-5)
    np.testing.assert_allclose(np.sum(slope), 0, atol=1e-4 * size)


def test_an_absent_document_comes_after_the_least_label() -> None:
    there = np.array([True, False, True])
    s, y = single([0, 1, 2]), single([1, -INF, -INF])
    got = listmle_loss(s, y, where=there)
    np.testing.assert_allclose(got, listmle_loss(s[there], y[there]), rtol=1e-6)


def test_a_document_that_is_certainly_last() -> None:
    """A score of -inf ranks below all others, and level with its like."""
    labels = single([1, 0, 0])
    for loss in (approx_ndcg_loss, approx_mrr_loss):
        value, slope = numbers(loss, single([0, -INF, 1]), labels)
        near, _ = numbers(loss, single([0, -1e6, 1]), labels)
        np.testing.assert_array_equal(value, near)
        assert np.all(np.isfinite(slope))
        assert np.isfinite(numbers(loss, single([0, -INF, -INF]), single([0, 1, 0]))[0])


def test_listnet_where_a_label_is_infinite() -> None:
    s = single([1, 2, 3])
    certain, infinite = (numbers(listnet_loss, s, single([x, 0, 0]))[0] for x in (200, INF))
    np.testing.assert_array_equal(infinite, certain)
    # Two such, or none but -inf, have no probabilities.
    for labels in ([INF, INF, 0], [-INF] * 3):
        value, slope = numbers(listnet_loss, s, single(labels))
        assert np.isnan(value)
        assert np.all(np.isnan(slope))
