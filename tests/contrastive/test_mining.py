"""Triplets mined in the batch against all triplets written out, ties included."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxloss import Mean, batch_triplet_loss
from tests.laws.values import double, single

MININGS = ("all", "hard", "semi_hard")
LABELS = np.array([0, 0, 0, 1, 1, 2], np.int32)
# From the first, positives at 1 and 4, negatives at 2, 3 and 6.
LINE = np.array([[0], [1], [4], [2], [-3], [6]], np.float32)

every = pytest.mark.parametrize("mining", MININGS)


@functools.cache
def compiled(mining: Any) -> Callable[..., Any]:
    """Losses, mean, its weight, and their gradients, of a stack of batches of six."""

    @jax.jit
    @jax.vmap
    def compute(x: Any, labels: Any, margin: Any, where: Any, weights: Any) -> Any:
        def run(x: Any) -> Any:
            loss = functools.partial(
                batch_triplet_loss,
                mining=mining,
                labels=labels,
                margin=margin,
                where=where,
                weights=weights,
            )
            return loss(x), loss(x, reduction="mean"), Mean.of(loss, x).weight

        (losses, mean, weight), pull = jax.vjp(run, x)
        ones, one = jnp.ones_like(losses), jnp.ones_like(mean)
        directions = jnp.stack([ones, 0 * ones]), jnp.stack([0 * one, one]), jnp.zeros(2)
        return losses, mean, weight, *jax.vmap(pull)(directions)[0]

    return compute


STACK = 48


def evaluated(mining: str, x: Any, labels: Any, margin: Any, where: Any, weights: Any) -> Any:
    """Of a stack of at most `STACK` batches."""
    given = [np.asarray(a) for a in (x, labels, margin, where, weights)]
    padded = [np.concatenate([a, np.zeros((STACK - len(a), *a.shape[1:]), a.dtype)]) for a in given]
    x, labels, margin, where, weights = padded
    results = compiled(mining)(single(x), np.int32(labels), single(margin), where, single(weights))
    return [np.asarray(r)[: len(given[0])] for r in results]


def one(mining: str, x: Any, labels: Any = LABELS, margin: float = 1.0, **options: Any) -> Any:
    """The losses of one batch and the gradient of their sum."""
    x = np.asarray(x)
    x = np.concatenate([x, np.zeros((6, 2 - x.shape[1]))], -1)
    where = options.get("where", np.ones(6, bool))
    weights = options.get("weights", np.ones(6))
    results = evaluated(
        mining, x[None], np.asarray(labels)[None], [margin], where[None], weights[None]
    )
    return results[0][0], results[3][0]


def mined(mining: str, d: Any, labels: Any, there: Any, a: Any) -> Iterator[tuple[int, int]]:
    """The pairs of a positive and a negative that the documentation names for an anchor."""
    p = [i for i in there if i != a and labels[i] == labels[a]]
    n = [i for i in there if labels[i] != labels[a]]
    if not p or not n:
        return
    # min and max take the first of several.
    if mining == "all":
        yield from ((i, j) for i in p for j in n)
    elif mining == "hard":
        yield max(p, key=lambda i: d[a, i]), min(n, key=lambda j: d[a, j])
    else:
        for i in p:
            farther = [j for j in n if d[a, j] > d[a, i]]
            nearest = min(farther, key=lambda j: d[a, j]) if farther else None
            yield i, max(n, key=lambda j: d[a, j]) if nearest is None else nearest


def written_out(mining: str, x: Any, labels: Any, margin: Any, where: Any) -> Any:
    """The losses, which of them count, and the gradient of each."""
    x, there = double(x), np.flatnonzero(where)
    away = x[:, None] - x
    d = np.sqrt(np.sum(away**2, -1))
    units = away / np.where(d == 0, 1, d)[..., None]
    losses, counts, slopes = np.zeros(6), np.zeros(6), np.zeros((6, *x.shape))
    for a in there:
        triplets = list(mined(mining, d, labels, there, a))
        counts[a] = bool(triplets)
        for p, n in triplets:
            hinge = d[a, p] - d[a, n] + margin
            if hinge < 0:
                continue
            losses[a] += hinge / len(triplets)
            for i, slope in ((p, units[a, p]), (n, -units[a, n])):
                slopes[a, a] += slope / len(triplets)
                slopes[a, i] -= slope / len(triplets)
    return losses, counts, slopes


def stacks(kind: str) -> Any:
    """Batches where no distances tie, or many do; with and without partners."""
    rng = np.random.default_rng(0)
    if kind == "grid":
        # Equal embeddings, equal distances, and hinges of exactly 0.
        x = rng.integers(0, 4, (STACK, 6, 2)).astype(np.float32)
        x[::2, :, 1] = 0
    else:
        x = rng.normal(size=(STACK, 6, 2)).astype(np.float32)
    labels = rng.integers(0, 3, (STACK, 6))
    margin = rng.choice(single([0, 0.5, 1, 2]), STACK)
    where = rng.uniform(size=(STACK, 6)) < np.where(np.arange(STACK) % 2, 1, 0.8)[:, None]
    return x, labels, margin, where


@every
@pytest.mark.parametrize("kind", ["grid", "random"])
def test_all_triplets_written_out(kind: str, mining: str) -> None:
    x, labels, margin, where = stacks(kind)
    weights = np.random.default_rng(1).uniform(0.5, 2, (STACK, 6)).astype(np.float32)
    found = evaluated(mining, x, labels, margin, where, weights)
    counted = active = 0
    for i, (losses, mean, weight, slopes, mean_slopes) in enumerate(zip(*found, strict=True)):
        exact, counts, each = written_out(mining, x[i], labels[i], margin[i], where[i])
        sums = np.sum(weights[i][:, None, None] * each, 0)
        np.testing.assert_allclose(losses, weights[i] * exact, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(slopes, sums, rtol=1e-5, atol=2e-6)
        assert np.all(losses[counts == 0] == 0)
        total = np.sum(weights[i] * counts)
        np.testing.assert_allclose(weight, total, rtol=1e-6)
        expected = np.sum(weights[i] * exact) / total if total else 0
        np.testing.assert_allclose(mean, expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(mean_slopes, sums / (total or 1), rtol=1e-5, atol=2e-6)
        counted += counts.sum()
        active += np.sum(exact > 0)
    # Neither all nor none.
    assert 0 < active < counted < STACK * 6


def test_by_hand() -> None:
    def first(mining: str, margin: float, **options: Any) -> float:
        return one(mining, LINE, margin=margin, **options)[0][0]

    assert first("hard", 1) == 4 - 2 + 1
    np.testing.assert_allclose(first("all", 1), (0 + 0 + 0 + 3 + 2 + 0) / 6, rtol=1e-6)
    np.testing.assert_allclose(first("all", 3), (2 + 1 + 0 + 5 + 4 + 1) / 6, rtol=1e-6)
    np.testing.assert_allclose(first("semi_hard", 3), ((1 - 2 + 3) + (4 - 6 + 3)) / 2, rtol=1e-6)
    # Without the negative at 6, none is farther than 4: the farthest.
    near = np.arange(6) < 5
    few = first("semi_hard", 3, where=near)
    np.testing.assert_allclose(few, ((1 - 2 + 3) + (4 - 3 + 3)) / 2, rtol=1e-6)
    _, slopes = one("hard", LINE, weights=np.eye(6)[0])
    # The anchor follows the positive at 4 and leaves the negative at 2, which are on one side.
    np.testing.assert_allclose(slopes[:, 0], [0, 0, 1, -1, 0, 0], atol=1e-6)


def test_the_default_is_semi_hard_with_a_margin_of_1() -> None:
    losses = batch_triplet_loss(LINE, LABELS)
    np.testing.assert_allclose(losses, one("semi_hard", LINE)[0], rtol=1e-6)
    assert one("all", LINE)[0][1] != one("semi_hard", LINE)[0][1]


@every
def test_a_tie_on_the_margin_trains(mining: str) -> None:
    """A positive at 3, a negative at 4, a margin of 1: slope 1."""
    x = np.array([[0, 0], [3, 0], [9, 9], [0, 4], [9, 9], [9, 9]])
    options = {"where": np.isin(np.arange(6), [0, 1, 3]), "weights": np.eye(6)[0]}
    losses, slopes = one(mining, x, **options)
    assert losses[0] == 0
    expected = np.zeros((6, 2))
    expected[[0, 1, 3]] = [[-1, 1], [1, 0], [0, -1]]
    np.testing.assert_allclose(slopes, expected, atol=1e-6)
    _, off = one(mining, x, margin=0.999, **options)
    assert np.all(off == 0)


@every
def test_equal_embeddings(mining: str) -> None:
    """A collapsed network: each loss is the margin and each slope 0, in all modes and orders."""
    losses, slopes = one(mining, np.full((6, 2), 0.3), margin=0.7)
    np.testing.assert_allclose(losses, [0.7, 0.7, 0.7, 0.7, 0.7, 0], rtol=1e-6)
    assert np.all(slopes == 0)
    # Only the positive is at the anchor: the negative is pushed away.
    x = np.array([[1, 1], [1, 1], [1, 1], [4, 5], [4, 5], [4, 5]])
    losses, slopes = one(mining, x, margin=6, weights=np.eye(6)[0])
    np.testing.assert_allclose(losses[0], 1, rtol=1e-6)
    assert np.all(slopes[1:3] == 0)
    np.testing.assert_allclose(slopes[3:].sum(0), [-0.6, -0.8], rtol=1e-5)


def test_second_order_of_equal_embeddings() -> None:
    x = jnp.ones((6, 2))

    @jax.jit
    def hessians(x: Any) -> Any:
        def total(x: Any, mining: Any) -> Any:
            return batch_triplet_loss(x, LABELS, mining=mining, reduction="sum")

        return [jax.jvp(jax.grad(lambda x, m=m: total(x, m)), (x,), (x,)) for m in MININGS]

    assert all(np.all(np.asarray(h) == 0) for h in jax.tree.leaves(hessians(x)))


def test_hard_is_the_most() -> None:
    x, labels, margin, where = stacks("random")
    ones = np.ones((STACK, 6))
    hard, *others = (
        evaluated(mining, x, labels, margin, where, ones)[0]
        for mining in ("hard", "all", "semi_hard")
    )
    for losses in others:
        assert np.all(losses <= hard * (1 + 1e-6))
        assert np.any(losses < 0.9 * hard)


@every
def test_symmetries(mining: str) -> None:
    x, labels, margin, where = stacks("random")
    ones = np.ones((STACK, 6))
    losses, *_, slopes, _ = evaluated(mining, x, labels, margin, where, ones)
    np.testing.assert_allclose(slopes.sum(1), 0, atol=1e-5)
    order = np.array([3, 0, 5, 1, 4, 2])
    moved = evaluated(mining, x[:, order], labels[:, order], margin, where[:, order], ones)
    np.testing.assert_allclose(moved[0], losses[:, order], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(moved[3], slopes[:, order], atol=1e-5)
    turn = np.array([[0.6, -0.8], [0.8, 0.6]])
    turned = evaluated(mining, x @ turn + 2, labels, margin, where, ones)
    np.testing.assert_allclose(turned[0], losses, rtol=1e-4, atol=2e-6)
    names = np.array([-100, 2**31 - 1, 0])[labels]
    renamed = evaluated(mining, x, names, margin, where, ones)
    np.testing.assert_array_equal(renamed[0], losses)
    # Distances and margin in another unit.
    for unit in (2.0**80, 2.0**-80):
        scaled = evaluated(mining, unit * x, labels, unit * margin, where, ones)
        np.testing.assert_allclose(scaled[0] / unit, losses, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(scaled[3], slopes, atol=1e-5)


@every
def test_perfect_clusters_cost_nothing(mining: str) -> None:
    x = np.array([[0, 0], [0, 0.1], [0.1, 0], [5, 0], [5, 0.1], [0, 5]])
    losses, slopes = one(mining, x)
    assert np.all(losses == 0)
    assert np.all(slopes == 0)


@every
def test_anchors_without_partners(mining: str) -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=(3, 6, 2))
    labels = [np.arange(6), np.zeros(6), LABELS]
    where = np.stack([np.ones(6, bool), np.ones(6, bool), np.zeros(6, bool)])
    results = evaluated(mining, x, labels, np.full(3, 50), where, np.ones((3, 6)))
    assert all(np.all(r == 0) for r in results)


@every
def test_excluded_garbage_and_nan(mining: str) -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(6, 2))
    where = np.array([1, 1, 0, 1, 1, 1], bool)
    expected, _, each = written_out(mining, x, LABELS, 1, where)
    x[2] = np.nan, np.inf
    losses, slopes = one(mining, x, where=where)
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    np.testing.assert_allclose(slopes, each.sum(0), atol=1e-5)
    for dirty in (2, 5):
        x = rng.normal(size=(6, 2))
        x[dirty] = np.nan
        losses, slopes = one(mining, x)
        # Each of these has it among its positives or negatives.
        assert np.all(np.isnan(losses[:5]))
        assert np.all(np.isnan(slopes[:5]))


@every
def test_small_batches(mining: Any) -> None:
    @jax.jit
    def compute(single: Any, none: Any) -> Any:
        def mean(x: Any) -> Any:
            labels = jnp.zeros(len(x), jnp.int32)
            return batch_triplet_loss(x, labels, mining=mining, reduction="mean")

        return jax.value_and_grad(mean)(single), jax.value_and_grad(mean)(none)

    (value, slopes), (nothing, no_slopes) = compute(jnp.ones((1, 2)), jnp.ones((0, 2)))
    assert value == nothing == 0
    assert np.all(np.asarray(slopes) == 0)
    assert no_slopes.shape == (0, 2)


def test_bad_input_is_refused() -> None:
    for mining in ("easy", "Hard", None, 1):
        with pytest.raises(ValueError, match="mining must be one of 'all', 'hard', 'semi_hard'"):
            batch_triplet_loss(LINE, LABELS, mining=mining)  # pyright: ignore
    for labels in (LABELS[:, None], LABELS[:5]):
        with pytest.raises(ValueError, match=r"labels must be of shape \[6\].*embeddings float32"):
            batch_triplet_loss(LINE, labels)
    with pytest.raises(TypeError, match="labels must be integers"):
        batch_triplet_loss(LINE, LABELS.astype(np.float32))
    with pytest.raises(ValueError, match="embeddings float32"):
        batch_triplet_loss(LINE[:, 0], LABELS)
    with pytest.raises(TypeError, match="mining"):
        jax.jit(lambda m: batch_triplet_loss(LINE, LABELS, mining=m))(0)
