"""Losses of a batch with labels: sums over pairs written out, invariances, masks, bad input."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxloss
from jaxloss import (
    circle_loss,
    lifted_structure_loss,
    multi_similarity_loss,
    ntxent,
    supervised_contrastive_loss,
)
from tests.laws.values import double, single

# A 3-4-5 world: the cosines with the first are 3/5, 0, -4/5, 1 and 0, the lengths whole.
E = np.array([[1, 0], [3, 4], [0, 2], [-4, 3], [5, 0], [0, -1]], np.float32)
# From 0: the distances are 5, 2, 5, 5 and 1.
D = np.array([[0, 0], *E[1:]], np.float32)
LABELS = np.array([0, 0, 1, 1, 0, 2], np.int32)
RANDOM = np.random.default_rng(0).normal(size=(6, 2)).astype(np.float32)

EPS = float(np.finfo(np.float32).eps)
OPTIONS: dict[Any, dict[str, float]] = {
    ntxent: {"temperature": 0.5},
    supervised_contrastive_loss: {"temperature": 0.5},
    multi_similarity_loss: {"alpha": 2.0, "beta": 5.0, "base": 0.5},
    circle_loss: {"margin": 0.25, "gamma": 8.0},
    lifted_structure_loss: {"margin": 1.0},
}
LOSSES = list(OPTIONS)
COSINES = LOSSES[:4]
# Without a negative, these have no loss.
BOTH = [circle_loss, lifted_structure_loss]
every = pytest.mark.parametrize("loss", LOSSES, ids=lambda f: f.__name__)
of_cosines = pytest.mark.parametrize("loss", COSINES, ids=lambda f: f.__name__)


class Result(NamedTuple):
    losses: Any
    mean: Any
    weight: Any  # of the mean
    slopes: Any  # of the sum
    mean_slopes: Any


@functools.cache
def compiled(loss: Any) -> Callable[..., Result]:
    """Everything at once: with traced labels, mask, weights and hyperparameters."""

    @jax.jit
    def compute(x: Any, labels: Any, where: Any, weights: Any, options: Any) -> Result:
        def run(x: Any) -> Any:
            given = {"where": where, "weights": weights, **options}
            part = jaxloss.Mean.of(loss, x, labels, **given)
            losses = loss(x, labels, reduction="none", **given)
            return losses, loss(x, labels, reduction="mean", **given), part.weight

        (losses, mean, weight), pull = jax.vjp(run, x)
        ones, one = jnp.ones_like(losses), jnp.ones_like(mean)
        directions = jnp.stack([ones, 0 * ones]), jnp.stack([0 * one, one]), jnp.zeros(2)
        (slopes,) = jax.vmap(pull)(directions)
        return Result(losses, mean, weight, *slopes)

    return compute


def evaluated(
    loss: Any, x: Any, labels: Any = LABELS, where: Any = None, weights: Any = None, **options: Any
) -> Result:
    where = np.ones(6, bool) if where is None else np.asarray(where)
    weights = np.ones(6) if weights is None else weights
    options = {k: np.float32(v) for k, v in (OPTIONS[loss] | options).items()}
    given = single(x), np.int32(labels), where, single(weights)
    return jax.tree.map(np.asarray, compiled(loss)(*given, options))


def of_anchor(loss: Any, x: Any, anchor: int = 0, **options: Any) -> tuple[Any, Any]:
    """The loss of one anchor, and its gradient."""
    result = evaluated(loss, x, weights=np.eye(6)[anchor], **options)
    assert np.all(np.delete(result.losses, anchor) == 0)
    return result.losses[anchor], result.slopes


def softplus(x: Any) -> Any:
    return np.logaddexp(0, x)


# Each from the similarities, or distances, of the positives and of the negatives, in float64.


def plain_ntxent(p: Any, n: Any, temperature: float) -> Any:
    return sum(np.log1p(np.sum(np.exp((n - one) / temperature))) for one in p)


def plain_supervised(p: Any, n: Any, temperature: float) -> Any:
    everyone = np.sum(np.exp(np.concatenate([p, n]) / temperature))
    return np.mean([-np.log(np.exp(one / temperature) / everyone) for one in p])


def plain_multi_similarity(p: Any, n: Any, alpha: float, beta: float, base: float) -> Any:
    pull, push = np.sum(np.exp(-alpha * (p - base))), np.sum(np.exp(beta * (n - base)))
    return np.log(1 + pull) / alpha + np.log(1 + push) / beta


def plain_circle(p: Any, n: Any, margin: float, gamma: float) -> Any:
    push = np.exp(gamma * np.maximum(n + margin, 0) * (n - margin))
    pull = np.exp(-gamma * np.maximum(1 + margin - p, 0) * (p - 1 + margin))
    return np.log(1 + np.sum(push) * np.sum(pull))


def plain_lifted(p: Any, n: Any, margin: float) -> Any:
    return max(np.log(np.sum(np.exp(p))) + np.log(np.sum(np.exp(margin - n))), 0)


PLAIN = dict(
    zip(
        LOSSES,
        (plain_ntxent, plain_supervised, plain_multi_similarity, plain_circle, plain_lifted),
        strict=True,
    )
)


def written_out(loss: Any, x: Any, labels: Any = LABELS, where: Any = None) -> tuple[Any, Any]:
    """The losses, and how often each counts in a mean."""
    x, there = double(x), np.arange(6) if where is None else np.flatnonzero(where)
    losses, counts = np.zeros((2, 6))
    for a in there:
        if loss is lifted_structure_loss:
            between = np.linalg.norm(x - x[a], axis=-1)
        else:
            between = x @ x[a] / np.linalg.norm(x, axis=-1) / np.linalg.norm(x[a])
        p = np.array([between[i] for i in there if i != a and labels[i] == labels[a]])
        n = np.array([between[i] for i in there if labels[i] != labels[a]])
        if len(p) and (len(n) or loss not in BOTH):
            losses[a] = PLAIN[loss](p, n, **OPTIONS[loss])
            counts[a] = len(p) if loss is ntxent else 1
    return losses, counts


# ---- values and gradients ----

BY_HAND = {
    ntxent: np.log1p(2 * np.exp(-1.2) + np.exp(-2.8)) + np.log1p(2 * np.exp(-2) + np.exp(-3.6)),
    supervised_contrastive_loss: np.log(np.exp(1.2) + np.exp(2) + 2 + np.exp(-1.6)) - 1.6,
    multi_similarity_loss: np.log1p(np.exp(-0.2) + np.exp(-1)) / 2
    + np.log1p(2 * np.exp(-2.5) + np.exp(-6.5)) / 5,
    # Weights of 1/4, 0 and 1/4 for the negatives, of 0.65 and 0.25 for the positives.
    circle_loss: np.log1p((2 * np.exp(-0.5) + 1) * (np.exp(0.78) + np.exp(-0.5))),
    lifted_structure_loss: 5 + np.log(2) + np.log(1 + np.exp(-1) + np.exp(-4)),
}


def by_hand(loss: Any) -> np.ndarray:
    """The slopes of the first anchor's loss in its cosines, or distances, with the others."""
    g = np.zeros(6)
    if loss is ntxent:
        for i, p in ((1, 1.2), (4, 2)):
            shares = np.exp([0 - p, -1.6 - p, 0 - p])
            shares /= 1 + shares.sum()
            g[[2, 3, 5]] += 2 * shares
            g[i] -= 2 * shares.sum()
    elif loss is supervised_contrastive_loss:
        shares = np.exp([1.2, 0, -1.6, 2, 0])
        g[1:] = 2 * (shares / shares.sum() - [1 / 2, 0, 0, 1 / 2, 0])
    elif loss is multi_similarity_loss:
        pull, push = np.exp([-0.2, -1]), np.exp([-2.5, -6.5, -2.5])
        g[[1, 4]] = -pull / (1 + pull.sum())
        g[[2, 3, 5]] = push / (1 + push.sum())
    elif loss is circle_loss:
        pull, push = np.exp([0.78, -0.5]), np.exp([-0.5, 0, -0.5])
        odds = pull.sum() * push.sum()
        rate = 8 * odds / (1 + odds)
        g[[1, 4]] = -rate * np.array([0.65, 0.25]) * pull / pull.sum()
        g[[2, 3, 5]] = rate * np.array([0.25, 0, 0.25]) * push / push.sum()
    else:
        push = np.exp([-1, -4, 0])
        g[[1, 4]] = 1 / 2
        g[[2, 3, 5]] = -push / push.sum()
    return g


def through_cosines(g: np.ndarray, x: np.ndarray) -> np.ndarray:
    """What slopes of the first row's cosines are in the embeddings."""
    lengths = np.linalg.norm(x, axis=-1, keepdims=True)
    u = x / lengths
    c = (u @ u[0])[:, None]
    slopes = g[:, None] * (u[0] - c * u) / lengths
    slopes[0] = g @ (u - c * u[0]) / lengths[0]
    return slopes


def through_distances(g: np.ndarray, x: np.ndarray) -> np.ndarray:
    away = x[1:] - x[0]
    slopes = g[1:, None] * away / np.linalg.norm(away, axis=-1, keepdims=True)
    return np.concatenate([-slopes.sum(0, keepdims=True), slopes])


@every
def test_value_and_gradient_by_hand(loss: Any) -> None:
    x = E if loss in COSINES else D
    value, slopes = of_anchor(loss, x)
    np.testing.assert_allclose(value, BY_HAND[loss], rtol=8 * EPS)
    through = through_cosines if loss in COSINES else through_distances
    np.testing.assert_allclose(slopes, through(by_hand(loss), double(x)), atol=2e-6)


@every
def test_pairs_written_out(loss: Any) -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        x, labels = rng.normal(size=(6, 2)).astype(np.float32), rng.integers(0, 3, 6)
        where, weights = rng.uniform(size=6) < 0.8, rng.uniform(0.5, 2, 6)
        expected, counts = written_out(loss, x, labels, where)
        result = evaluated(loss, x, labels, where, weights)
        np.testing.assert_allclose(result.losses, weights * expected, rtol=2e-5, atol=1e-6)
        assert np.all(result.losses[counts == 0] == 0)
        # Each anchor counts once, in ntxent each pair; weights multiply both.
        weight = np.sum(weights * counts)
        np.testing.assert_allclose(result.weight, weight, rtol=1e-6)
        mean = np.sum(weights * expected) / weight if weight else 0
        np.testing.assert_allclose(result.mean, mean, rtol=2e-5, atol=1e-6)
        slopes = result.slopes / weight if weight else 0 * x
        np.testing.assert_allclose(result.mean_slopes, slopes, rtol=2e-5, atol=1e-5)


def test_the_default_of_ntxent_is_the_mean_over_pairs() -> None:
    losses, counts = written_out(ntxent, E)
    assert list(counts) == [2, 2, 1, 1, 2, 0]
    np.testing.assert_allclose(ntxent(E, LABELS, 0.5), losses.sum() / 8, rtol=1e-6)
    # Two anchors of three pairs weigh 2 and 1, whatever the loss divides by.
    weights = np.array([1, 0, 1, 0, 0, 1])
    mean = evaluated(ntxent, E, weights=weights).mean
    np.testing.assert_allclose(mean, (losses[0] + losses[2]) / 3, rtol=1e-6)


# ---- theorems ----


@of_cosines
def test_only_directions_matter(loss: Any) -> None:
    plain = evaluated(loss, RANDOM)
    for scale in (np.arange(1, 7.0), np.logspace(-30, 30, 6), np.full(6, 1e-30), np.full(6, 1e30)):
        scale = single(scale)[:, None]
        scaled = evaluated(loss, scale * RANDOM)
        np.testing.assert_allclose(scaled.losses, plain.losses, rtol=1e-5)
        np.testing.assert_allclose(scaled.slopes * scale, plain.slopes, rtol=1e-4, atol=1e-5)
    # No step along an embedding helps.
    np.testing.assert_allclose(np.sum(plain.slopes * RANDOM, -1), 0, atol=1e-5)


@every
def test_symmetries(loss: Any) -> None:
    plain = evaluated(loss, RANDOM)
    order = np.array([3, 0, 5, 1, 4, 2])
    moved = evaluated(loss, RANDOM[order], LABELS[order])
    np.testing.assert_allclose(moved.losses, plain.losses[order], rtol=1e-5)
    np.testing.assert_allclose(moved.slopes, plain.slopes[order], rtol=1e-4, atol=1e-5)
    # Labels are names: any integers.
    names = np.array([-100, 2**31 - 1, 0])[LABELS]
    renamed = evaluated(loss, RANDOM, names)
    np.testing.assert_array_equal(renamed.losses, plain.losses)
    turn = np.array([[0.6, -0.8], [0.8, 0.6]])
    turned = evaluated(loss, RANDOM @ turn)
    np.testing.assert_allclose(turned.losses, plain.losses, rtol=1e-5)
    np.testing.assert_allclose(turned.slopes, plain.slopes @ turn, rtol=1e-4, atol=1e-5)
    if loss is lifted_structure_loss:
        shifted = evaluated(loss, RANDOM + 8)
        np.testing.assert_allclose(shifted.losses, plain.losses, rtol=1e-5)
        np.testing.assert_allclose(plain.slopes.sum(0), 0, atol=1e-5)


def test_perfect_clusters() -> None:
    corners = np.array([[1, 0], [-1, 0], [0, 1]])[LABELS]
    # The cosines of others are -1 and 0.
    loss, slopes = of_anchor(ntxent, corners, temperature=0.05)
    np.testing.assert_allclose(loss, 2 * (2 * np.exp(-40) + np.exp(-20)), rtol=1e-6)
    assert np.max(np.abs(slopes)) < 100 * np.exp(-20)
    assert np.all(evaluated(ntxent, corners, temperature=0.01).losses < 1e-30)
    # Its positives compete with each other here: log 2 is the least of two.
    loss, _ = of_anchor(supervised_contrastive_loss, corners, temperature=0.05)
    np.testing.assert_allclose(loss, np.log(2), rtol=1e-6)
    assert np.all(evaluated(lifted_structure_loss, 9 * corners).losses == 0)
    # Where positives are opposite and negatives alike.
    wrong = np.array([[1, 0], [-1, 0], [1, 0], [-1, 0], [-1, 0], [1, 0]])
    loss, _ = of_anchor(ntxent, wrong, temperature=0.01)
    np.testing.assert_allclose(loss, 2 * (200 + np.log(2)), rtol=1e-6)


def test_one_loss_bounds_another() -> None:
    for seed in range(10):
        x = np.random.default_rng(seed).normal(size=(6, 2))
        _, counts = written_out(ntxent, x)
        own = evaluated(ntxent, x).losses / np.maximum(counts, 1)
        supervised = evaluated(supervised_contrastive_loss, x).losses
        # Fewer in the denominator; the same ones where there is one positive.
        assert np.all(own <= supervised * (1 + 4 * EPS))
        np.testing.assert_allclose(own[2:4], supervised[2:4], rtol=1e-5)
        # A log-sum-exp is above the maximum: above the hardest triplet.
        d = np.linalg.norm(x[:, None] - x, axis=-1)
        same = LABELS[:, None] == LABELS
        hardest = np.max(np.where(same, d, 0), 1) - np.min(np.where(same, np.inf, d), 1) + 1
        lifted = evaluated(lifted_structure_loss, x).losses
        assert np.all(lifted[:5] >= hardest[:5] * (1 - 4 * EPS))


@every
def test_never_negative_on_clusters(loss: Any) -> None:
    """A loss near 0 keeps its digits: no 1 is added to it on the way."""
    corners = np.array([[1, 0], [-1, 0], [0, 1]])[LABELS]
    sharp = {"temperature": 1 / 64, "gamma": 64.0, "alpha": 64.0, "beta": 64.0}
    options = {k: v for k, v in sharp.items() if k in OPTIONS[loss]}
    result = evaluated(loss, corners, **options)
    assert np.all(result.losses >= 0)
    assert np.all(np.isfinite(result.slopes))
    if loss is ntxent:
        exact = 2 * (np.exp(-64) + 2 * np.exp(-128))
        np.testing.assert_allclose(result.losses[0], exact, rtol=1e-6)


# ---- kinks ----


@of_cosines
def test_a_zero_embedding_is_similar_to_none(loss: Any) -> None:
    x = RANDOM.copy()
    x[1] = 0
    result = evaluated(loss, x)
    assert np.all(result.slopes[1] == 0)
    assert np.all(np.isfinite(result.slopes))
    between = np.zeros((6, 6))
    unit = np.delete(x, 1, 0) / np.linalg.norm(np.delete(x, 1, 0), axis=-1, keepdims=True)
    rest = np.array([0, 2, 3, 4, 5])
    between[np.ix_(rest, rest)] = unit @ unit.T
    for a in range(5):
        p = np.array([between[a, i] for i in range(6) if i != a and LABELS[i] == LABELS[a]])
        n = between[a, LABELS[a] != LABELS]
        np.testing.assert_allclose(
            result.losses[a], PLAIN[loss](p, n, **OPTIONS[loss]), rtol=2e-5, atol=1e-6
        )
    everything = evaluated(loss, 0 * x)
    assert np.all(np.isfinite(everything.losses))
    assert np.all(everything.slopes == 0)


def test_lifted_structure_trains_on_the_margin() -> None:
    """A positive at 3, a negative at 4, and a margin of 1."""
    x = np.array([[0, 0], [3, 0], [0, 4], [9, 9], [9, 9], [9, 9]])
    where = np.array([1, 1, 1, 0, 0, 0], bool)
    result = evaluated(lifted_structure_loss, x, where=where, weights=np.eye(6)[0])
    assert result.losses[0] == 0
    expected = np.zeros((6, 2))
    expected[:3] = [[-1, 1], [1, 0], [0, -1]]
    np.testing.assert_allclose(result.slopes, expected, atol=1e-6)
    off = evaluated(lifted_structure_loss, x, where=where, weights=np.eye(6)[0], margin=0.999)
    assert np.all(off.slopes == 0)


def test_lifted_structure_of_equal_embeddings() -> None:
    """Two positives and a negative at the anchor: their distances are 0 and have slope 0."""
    x = np.array([[1, 1], [1, 1], [1, 1], [7, 9], [1, 1], [9, 9]])
    value, slopes = of_anchor(lifted_structure_loss, x)
    exact = np.log(2) + 1 + np.log(1 + np.exp(-10) + np.exp(-np.sqrt(128)))
    np.testing.assert_allclose(value, exact, rtol=1e-6)
    assert np.all(slopes[[1, 2, 4]] == 0)
    share = np.exp(-10) / (1 + np.exp(-10) + np.exp(-np.sqrt(128)))
    np.testing.assert_allclose(slopes[3], -share * np.array([0.6, 0.8]), rtol=1e-5)


def test_circle_holds_its_weights() -> None:
    """A negative opposite enough weighs nothing, and its embedding is not moved."""
    x = np.array([[1, 0], [0, 1], [-1, 0], [-1, 0], [0, 1], [-1, 0]])
    _, slopes = of_anchor(circle_loss, x)
    assert np.all(slopes[[2, 3, 5]] == 0)
    assert np.any(slopes[1] != 0)


# ---- masks and bad input ----


@every
def test_anchors_without_partners(loss: Any) -> None:
    alone = evaluated(loss, RANDOM, labels=np.arange(6))
    assert all(np.all(x == 0) for x in alone)
    same = evaluated(loss, RANDOM, labels=np.zeros(6))
    expected, counts = written_out(loss, RANDOM, np.zeros(6))
    np.testing.assert_allclose(same.losses, expected, rtol=1e-5)
    assert same.weight == counts.sum()
    if loss in (ntxent, *BOTH):
        assert np.all(same.losses == 0)
        assert np.all(same.slopes == 0)
        assert same.mean == 0
    # The others of its label are excluded: no loss, no slope, not in the mean.
    where = np.array([0, 0, 1, 1, 1, 1], bool)
    result = evaluated(loss, RANDOM, where=where)
    assert np.all(result.losses[[0, 1, 4, 5]] == 0)
    assert result.weight == 2
    assert all(np.all(x == 0) for x in evaluated(loss, RANDOM, where=np.zeros(6, bool)))


@every
def test_excluded_garbage(loss: Any) -> None:
    x = np.concatenate([RANDOM[:4], [[np.nan, np.inf], [0, 0]]])
    where = np.arange(6) < 4
    result = evaluated(loss, x, where=where)
    expected, _ = written_out(loss, RANDOM, LABELS, where)
    np.testing.assert_allclose(result.losses, expected, rtol=1e-5)
    assert np.all(result.slopes[4:] == 0)
    assert np.all(np.isfinite(result.slopes))


@every
def test_nan_reaches_all_who_use_it(loss: Any) -> None:
    x = RANDOM.copy()
    for dirty in (1, 5):
        x[dirty] = np.nan
        result = evaluated(loss, x)
        assert np.all(np.isnan(result.losses[:5]))
        assert np.isnan(result.mean)
        assert np.all(np.isnan(result.slopes[:5]))
        x = RANDOM.copy()


@every
def test_small_batches(loss: Any) -> None:
    options = {**OPTIONS[loss], "reduction": "mean"}

    @jax.jit
    def compute(one: Any, none: Any) -> Any:
        def mean(x: Any) -> Any:
            return loss(x, jnp.zeros(len(x), jnp.int32), **options)

        return jax.value_and_grad(mean)(one), jax.value_and_grad(mean)(none)

    (value, slopes), (nothing, no_slopes) = compute(jnp.ones((1, 2)), jnp.ones((0, 2)))
    assert value == nothing == 0
    assert np.all(np.asarray(slopes) == 0)
    assert no_slopes.shape == (0, 2)


@every
def test_bad_input_is_refused(loss: Any) -> None:
    for labels in (LABELS[:, None], LABELS[:5], np.int32(0), LABELS[None]):
        with pytest.raises(ValueError, match=r"labels must be of shape \[6\].*embeddings float32"):
            loss(E, labels)
    for labels in (LABELS.astype(np.float32), LABELS > 0):
        with pytest.raises(TypeError, match=f"labels must be integers.*labels {labels.dtype}"):
            loss(E, labels)
    with pytest.raises(TypeError, match="embeddings must be floating-point"):
        loss(E.astype(np.int32), LABELS)
    with pytest.raises(ValueError, match="embeddings float32"):
        loss(E[0], LABELS[0])
    with pytest.raises(ValueError, match="where must be"):
        loss(E, LABELS, where=np.ones((6, 1), bool))
    with pytest.raises(ValueError, match="where must be"):
        loss(E, LABELS, where=np.ones(5, bool))
    with pytest.raises(TypeError, match="where"):
        loss(E, LABELS, where=np.ones(6, np.float32))
    with pytest.raises(ValueError, match="weights must be"):
        loss(E, LABELS, weights=np.ones((6, 2), np.float32))
    with pytest.raises(ValueError, match="reduction"):
        loss(E, LABELS, reduction="median")


@every
def test_batches_are_mapped(loss: Any) -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(3, 6, 2)).astype(np.float32)
    labels = rng.integers(0, 3, (3, 6)).astype(np.int32)
    where = rng.uniform(size=(3, 6)) < 0.9
    mapped = jax.vmap(lambda *args: compiled(loss)(*args, np.ones(6, np.float32), OPTIONS[loss]))
    result = mapped(x, labels, where)
    expected = [evaluated(loss, *each) for each in zip(x, labels, where, strict=True)]
    for got, want in zip(result, zip(*expected, strict=True), strict=True):
        np.testing.assert_allclose(got, np.stack(want), rtol=1e-4, atol=1e-5)


def test_a_temperature_for_each_anchor() -> None:
    temperatures = single([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    each = np.asarray(ntxent(E, LABELS, temperatures, reduction="none"))
    alone = [evaluated(ntxent, E, temperature=t).losses[i] for i, t in enumerate(temperatures)]
    np.testing.assert_allclose(each, alone, rtol=1e-6)


def test_views_beside_the_examples() -> None:
    """`[B, V, D]` with one label for the V views of an example, as SupCon's authors have it."""
    views, labels = single([[[1.0, 0.0], [0.8, 0.6]], [[0.0, 1.0], [0.6, 0.8]]]), jnp.array([0, 1])
    with pytest.raises(ValueError, match=r"reshape\(-1, 2\), jnp.repeat\(labels, 2\)"):
        supervised_contrastive_loss(views, labels)
    losses = supervised_contrastive_loss(views.reshape(-1, 2), jnp.repeat(labels, 2))
    assert losses.shape == (4,)
    assert np.all(np.asarray(losses) > 0)
