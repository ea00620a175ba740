from __future__ import annotations

import contextlib
import functools
import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import jaxloss
from jaxloss import (
    multi_hot,
    multilabel_margin_loss,
    multilabel_soft_margin_loss,
    sigmoid_binary_cross_entropy,
    zlpr_loss,
)
from jaxloss._binary import class_pairs
from tests.laws.rules import assert_no_data_moves
from tests.laws.values import evaluated, single

LOSSES = [multilabel_margin_loss, multilabel_soft_margin_loss, zlpr_loss]
X, T = single([[0.1, 0.2, 0.4, 0.8]]), np.array([[1, 0, 0, 1]])
LOG3 = math.log(3.0)


def agree(got: Any, expected: Any, rtol: float = 2e-6) -> None:
    np.testing.assert_allclose(got, expected, rtol=rtol, atol=1e-7)


def drawn(rows: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = single(rng.normal(0, 2, (rows, classes)))
    return x, rng.uniform(size=x.shape) < 0.3


def test_margins_by_hand() -> None:
    """PyTorch's documented example: classes 3 and 0 against 1 and 2."""
    pairs = (1 - (0.1 - 0.2)) + (1 - (0.1 - 0.4)) + (1 - (0.8 - 0.2)) + (1 - (0.8 - 0.4))
    losses, (slope,) = evaluated(multilabel_margin_loss, X, T)
    agree(losses, [pairs / 4])
    agree(slope, [[-0.5, 0.5, 0.5, -0.5]])
    in_margin = jax.jit(jax.value_and_grad(lambda m: multilabel_margin_loss(X, T, margin=m)[0]))
    agree(in_margin(1.0), (pairs / 4, 1))
    agree(in_margin(0.5)[0], (0.6 + 0.8 + 0.1) / 4)
    agree(multilabel_margin_loss(X, T, margin=single([0.0])), [(0.1 + 0.3) / 4])


def test_soft_margins_by_hand() -> None:
    x, y = single([[LOG3, -LOG3]]), single([[1.0, 0.5]])
    yes, no = math.log(4 / 3), math.log(4)
    losses, (slope,) = evaluated(multilabel_soft_margin_loss, x, y)
    agree(losses, [(yes + (yes + no) / 2) / 2])
    agree(slope, [[-1 / 8, -1 / 8]])
    weighted = multilabel_soft_margin_loss(x, y, class_weights=single([3.0, 1.0]))
    agree(weighted, [(3 * yes + (yes + no) / 2) / 2])


def test_zlpr_by_hand() -> None:
    x, y = single([[LOG3, 0.0, -LOG3]]), np.array([[1, 0, 0]])
    losses, (slope,) = evaluated(zlpr_loss, x, y)
    agree(losses, [math.log(1 + 1 + 1 / 3) + math.log(1 + 1 / 3)])
    agree(slope, [[-(1 / 3) / (4 / 3), 1 / (7 / 3), (1 / 3) / (7 / 3)]])


def test_weights_of_classes() -> None:
    """A pair counts for the weight of its named class, an exponential of ZLPR for its own."""
    weights = single([2.0, 0.5, 3.0, 0.25])
    pairs = 2 * ((1 - (0.1 - 0.2)) + (1 - (0.1 - 0.4)))
    pairs += 0.25 * ((1 - (0.8 - 0.2)) + (1 - (0.8 - 0.4)))
    losses, (slope,) = evaluated(multilabel_margin_loss, X, T, class_weights=weights)
    agree(losses, [pairs / 4])
    agree(slope, [[-4 / 4, 2.25 / 4, 2.25 / 4, -0.5 / 4]])
    of_weights = jax.jacobian(lambda w: multilabel_margin_loss(X, T, class_weights=w)[0])
    agree(of_weights(weights), [2.4 / 4, 0, 0, 1.0 / 4])
    in_margin = jax.grad(lambda m: multilabel_margin_loss(X, T, margin=m, class_weights=weights)[0])
    agree(in_margin(1.0), 4.5 / 4)
    x, y = single([[LOG3, 0.0, -LOG3]]), np.array([[1, 0, 0]])
    call = jax.jit(lambda w: zlpr_loss(x, y, class_weights=w)[0])
    agree(call(single([2.0, 3.0, 6.0])), math.log(1 + 3 + 2) + math.log(1 + 2 / 3))
    agree(jax.grad(call)(single([2.0, 3.0, 6.0])), [(1 / 3) / (5 / 3), 1 / 6, (1 / 3) / 6])
    # A class of weight 0 is left out; a weight below 0 has no logarithm.
    agree(call(single([0.0, 3.0, 0.0])), math.log(4))
    assert np.isnan(call(single([1.0, -1.0, 1.0])))
    # Far out the weight keeps its digits: exp(-80) in place of 80 rounded additions of log w.
    far = zlpr_loss(single([[-80.0, 80.0]]), np.array([[0, 1]]), class_weights=single([3.0, 0.1]))
    agree(far, [3.1 * math.exp(-80.0)], rtol=1e-6)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_class_count_of_one_half_or_none(loss: Any) -> None:
    """No label at all, and every label: one side has nothing to say."""
    x = single([[1.0, -2.0, 0.5]])
    expected = {
        multilabel_margin_loss: (0.0, 0.0),
        multilabel_soft_margin_loss: (
            sum(math.log1p(math.exp(a)) for a in (1, -2, 0.5)) / 3,
            sum(math.log1p(math.exp(-a)) for a in (1, -2, 0.5)) / 3,
        ),
        zlpr_loss: (
            math.log1p(sum(math.exp(a) for a in (1, -2, 0.5))),
            math.log1p(sum(math.exp(-a) for a in (1, -2, 0.5))),
        ),
    }[loss]
    for y, cost in zip((0.0, 1.0), expected, strict=True):
        losses, (slope,) = evaluated(loss, x, np.full_like(x, y))
        agree(losses, [cost])
        assert np.all(np.isfinite(slope))


def test_margin_tie_still_trains() -> None:
    losses, (slope,) = evaluated(multilabel_margin_loss, single([[1, 0]]), np.array([[1, 0]]))
    assert losses[0] == 0
    np.testing.assert_array_equal(slope, [[-0.5, 0.5]])


def test_one_label_is_the_multi_margin_loss() -> None:
    x, _ = drawn(7, 5)
    numbers = np.arange(7) % 5
    hot = multi_hot(numbers[:, None], 5)
    ours = evaluated(multilabel_margin_loss, x, hot)
    theirs = evaluated(jaxloss.multi_margin_loss, x, numbers)
    jax.tree.map(agree, ours, theirs)


def test_soft_margin_is_the_mean_of_binary_cross_entropies() -> None:
    x, y = drawn(6, 5)
    agree(multilabel_soft_margin_loss(x, y), np.mean(sigmoid_binary_cross_entropy(x, y), -1))


def test_zlpr_of_one_class_is_binary_cross_entropy() -> None:
    x, y = drawn(6, 1)
    agree(zlpr_loss(x, y), np.asarray(sigmoid_binary_cross_entropy(x, y))[:, 0])


def test_margins_meet_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of any width, also with a rest, give what all pairs at once give."""
    x, y = drawn(23, 6)

    def pairs(x: jax.Array, y: jax.Array) -> jax.Array:
        cost = jnp.maximum(1 - (x[:, :, None] - x[:, None, :]), 0)
        both = y[:, :, None] & ~y[:, None, :]
        return jnp.sum(jnp.where(both, cost, 0), (1, 2)) / 6

    expected = evaluated(pairs, x, y)
    for block in (1, 24, 60, 10**6):
        monkeypatch.setattr(class_pairs, "_BLOCK", block)
        # A function of its own, for a program of its own.
        loss = functools.partial(vars(multilabel_margin_loss)["__wrapped__"])
        jax.tree.map(agree, evaluated(loss, x, y), expected)


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
def test_each_device_loops_over_its_own_rows(
    kind: AxisType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In blocks with a rest: of two rows of each device, which has three."""
    args = drawn(24, 6)
    expected = evaluated(multilabel_margin_loss, *args)
    monkeypatch.setattr(class_pairs, "_BLOCK", 12)

    def evaluate(x: Any, y: Any) -> Any:
        loss = vars(multilabel_margin_loss)["__wrapped__"]
        return loss(x, y), (jax.grad(lambda x: jnp.sum(loss(x, y)))(x),)

    mesh = jax.make_mesh((8,), ("rows",), axis_types=(kind,))
    explicit = kind is AxisType.Explicit
    with jax.set_mesh(mesh) if explicit else contextlib.nullcontext():
        placed = jax.device_put(args, NamedSharding(mesh, PartitionSpec("rows")))
        program = jax.jit(evaluate).lower(*placed).compile()
        jax.tree.map(agree, program(*placed), expected)
    text = program.as_text()
    assert text
    assert "while" in text
    assert_no_data_moves(text, len(args[0]))


def test_margins_take_memory_of_the_size_of_the_scores() -> None:
    x, y = drawn(16, 2048)
    gradient = jax.jit(jax.grad(lambda x: multilabel_margin_loss(x, y, reduction="mean")))
    memory = gradient.lower(x).compile().memory_analysis()
    assert memory
    assert memory.temp_size_in_bytes < 16 * x.nbytes  # of all pairs: 2048


def test_large_and_infinite_logits_of_zlpr() -> None:
    x, y = single([[1e30, -1e30, 5.0]]), np.array([[1, 0, 0]])
    agree(zlpr_loss(x, y), [math.log1p(math.exp(5))])
    agree(zlpr_loss(-x, y), [2e30])
    agree(zlpr_loss(single([[-80.0, 80.0, -np.inf]]), np.array([[0, 1, 0]])), [2 * math.exp(-80)])
    right = single([[np.inf, -np.inf, 0.0]])
    for x, cost in ((right, math.log(2)), (-right, math.inf)):
        losses, (slope,) = evaluated(zlpr_loss, x, y)
        agree(losses, [cost])
        assert np.all(np.isfinite(slope))


def test_small_zlpr_has_every_digit() -> None:
    x = single([[-80.0, -81.0, 60.0]])
    exact = math.exp(-80) + math.exp(-81) + math.exp(-60)
    np.testing.assert_allclose(zlpr_loss(x, np.array([[0, 0, 1]])), [exact], rtol=5e-7)


@pytest.mark.parametrize("loss", LOSSES)
def test_axes(loss: Any) -> None:
    rng = np.random.default_rng(4)
    x = single(rng.normal(size=(2, 3, 4)))
    y = rng.uniform(size=x.shape) < 0.5
    agree(loss(x, y, axis=1), loss(np.moveaxis(x, 1, -1), np.moveaxis(y, 1, -1)))
    flat = loss(x.reshape(2, 12), y.reshape(2, 12))
    agree(loss(x, y, axis=(1, 2)), flat)
    agree(loss(x, y, axis=(2, 1)), flat)
    agree(loss(x, y, axis=None), loss(x.ravel(), y.ravel()))


def test_class_weights_follow_the_axes() -> None:
    rng = np.random.default_rng(4)
    x = single(rng.normal(size=(2, 3, 4)))
    y, w = x > 0, single(rng.uniform(size=(3, 4)))
    loss = functools.partial(multilabel_soft_margin_loss, x, y)
    expected = np.mean(w[None] * sigmoid_binary_cross_entropy(x, y), (1, 2))
    agree(loss(axis=(1, 2), class_weights=w), expected)
    agree(loss(axis=(2, 1), class_weights=w.T), expected)
    with pytest.raises(ValueError, match=r"class_weights must have shape \[4\]"):
        loss(class_weights=w)


@pytest.mark.parametrize("loss", LOSSES)
def test_labels_that_are_lists_of_numbers_are_nan(loss: Any) -> None:
    """PyTorch's format has the shape and dtype of multi-hot integers: only its values tell."""
    x = np.zeros((2, 4), np.float32)
    lists = np.array([[3, 0, -1, 1], [1, -1, -1, -1]])
    losses, slopes = evaluated(loss, x, lists)
    assert np.all(np.isnan(losses))
    assert np.all(np.isnan(slopes))
    assert np.all(np.isfinite(loss(x, multi_hot(lists, 4))))


@pytest.mark.parametrize("loss", LOSSES)
def test_a_nan_that_meets_nothing_is_not_hidden(loss: Any) -> None:
    x = single([[np.nan, 1.0], [0.0, 1.0]])
    for y in (0, 1):
        losses = np.asarray(loss(x, np.full((2, 2), y)))
        assert np.isnan(losses[0])
        assert np.isfinite(losses[1])


LISTS = [
    ([[3, 0, -1, 1]], 4, [[1, 0, 0, 1]]),
    ([[-1, 0, 1, 2]], 4, [[0, 0, 0, 0]]),
    ([[2, 2, 2]], 3, [[0, 0, 1]]),
    ([[1, -1], [0, 1]], 3, [[0, 1, 0], [1, 1, 0]]),
    ([0, 2], 3, [1, 0, 1]),
    ([[[1]], [[0]]], 2, [[[0, 1]], [[1, 0]]]),
    ([[0, 4, -1]], 4, [[math.nan] * 4]),
    ([[0, -2, -1], [1, -1, -2]], 2, [[math.nan] * 2, [0, 1]]),
    ([[1, -1, 77]], 2, [[0, 1]]),
]


@pytest.mark.parametrize(("indices", "classes", "expected"), LISTS)
def test_multi_hot_by_hand(indices: Any, classes: int, expected: Any) -> None:
    got = multi_hot(np.array(indices), classes)
    assert got.dtype == jnp.float32
    np.testing.assert_array_equal(got, np.float32(expected))
    np.testing.assert_array_equal(multi_hot(indices, classes), got)
    mapped = jax.vmap(lambda x: multi_hot(x, classes))(np.array([indices]))
    np.testing.assert_array_equal(mapped[0], got)


def test_multi_hot_takes_every_integer_type() -> None:
    for dtype in (np.int8, np.uint8, np.int16, np.uint32):
        # 300 is beyond what the narrow ones hold.
        got = multi_hot(np.array([[0, 200 if dtype == np.uint8 else 2]], dtype), 300)
        assert np.sum(got) == 2
    assert multi_hot(np.zeros((3, 0), np.int32), 2).shape == (3, 2)
    assert multi_hot(np.zeros((0, 2), np.int32), 2).shape == (0, 2)


def test_multi_hot_refuses() -> None:
    with pytest.raises(TypeError, match="indices must be lists of integers"):
        multi_hot(np.array([[0.0, 1.0]]), 2)
    with pytest.raises(TypeError, match="indices must be lists of integers"):
        multi_hot(np.array(1), 2)
    with pytest.raises(ValueError, match="num_classes must be a positive integer"):
        multi_hot(np.array([[0]]), 0)


@pytest.mark.parametrize("loss", LOSSES)
def test_wrong_formats_are_refused_with_the_right_loss(loss: Any) -> None:
    single = "multi_margin_loss" if loss is multilabel_margin_loss else "softmax_cross_entropy"
    with pytest.raises(ValueError, match=f"name one of 4 classes: {single}"):
        loss(np.zeros((3, 4)), np.array([0, 1, 2]))
    with pytest.raises(ValueError, match="numbers of several classes: multi_hot"):
        loss(np.zeros((3, 4)), np.array([[0, -1]] * 3))
    with pytest.raises(ValueError, match="expected equal shapes"):
        loss(np.zeros((3, 4)), 1)
    with pytest.raises(TypeError, match="must be floating-point and come before labels"):
        loss(np.zeros((3, 4), np.int32), np.zeros((3, 4)))


def test_zlpr_is_a_softmax_over_pairs() -> None:
    """e^loss = 1 + sum_i e^x_i + sum_j e^-x_j + sum_ij e^(x_i - x_j): hence its name."""
    x, y = drawn(5, 4)
    for row, here, loss in zip(x.astype(float), y, zlpr_loss(x, y), strict=True):
        pairs = itertools.product([0.0, *row[~here]], [0.0, *row[here]])
        agree(loss, math.log(sum(math.exp(i - j) for i, j in pairs)))


def test_confident_multilabel_examples_have_second_derivatives() -> None:
    # log(1 + exp(17)) has the second derivative p (1 - p), which 1 - p as a difference makes 0.
    found = jax.hessian(lambda x: zlpr_loss(x, jnp.zeros(1)))(jnp.array([17.0]))
    p = 1 / (1 + math.exp(-17))
    assert float(found[0, 0]) == pytest.approx(p * math.exp(-17) * p, rel=1e-6)
