"""Relaxed permutations, sampled orders, weights of documents and of the first places; and rax."""

from __future__ import annotations

import functools
import itertools
import math
import types
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax

from jaxloss import (
    gumbel_scores,
    lambda_weights,
    listmle_loss,
    listnet_loss,
    neural_sort_loss,
    poly1_softmax_loss,
    ranking_softmax_loss,
    unique_softmax_loss,
)
from tests.laws.peers import as_jax_ships
from tests.laws.values import EPS, double, evaluated, single

_RNG = np.random.default_rng(6)
SCORES = single(_RNG.normal(0, 1.5, (8, 6)))
LABELS = single(_RNG.integers(0, 4, (8, 6)))
LABELS[:, 0] = 4
THERE = _RNG.uniform(size=SCORES.shape) < 0.7
THERE[:, :2] = True


def in_float64(s: Any, y: Any, temperature: float) -> float:
    """As the paper writes it, one list."""
    s, n = double(s), len(s)
    spread = np.abs(s[:, None] - s).sum(-1)
    place = np.arange(1, n + 1)[:, None]
    log_p = log_softmax(((n + 1 - 2 * place) * s - spread) / temperature, -1)
    orders = [np.eye(n)[list(o)] for o in itertools.permutations(range(n))]
    sorting = [o for o in orders if np.all(np.diff(o @ double(y)) <= 0)]
    return float(-np.sum(np.mean(sorting, 0) * log_p) / n)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 8.0])
def test_neural_sort(temperature: float) -> None:
    """Ties of labels have the mean of all orders that sort them."""
    y = LABELS[:, :5].copy()
    y[0] = [2, 1, 1, 0, 1]
    found = neural_sort_loss(SCORES[:, :5], y, temperature=temperature)
    wanted = [in_float64(*row, temperature) for row in zip(SCORES[:, :5], y, strict=True)]
    np.testing.assert_allclose(found, wanted, rtol=2e-6)


def test_neural_sort_at_its_ends() -> None:
    s, y = single([3, 1, 2, 0]), np.array([3, 1, 2, 0])
    # In the right order nothing is left at a low temperature, and at a high one all is as likely.
    np.testing.assert_allclose(neural_sort_loss(s, y, temperature=0.05), 0, atol=1e-6)
    np.testing.assert_allclose(neural_sort_loss(s, y, temperature=1e6), math.log(4), rtol=1e-5)
    at = functools.partial(neural_sort_loss, temperature=2.0)
    np.testing.assert_allclose(at(s + 1e4, y), at(s, y), rtol=1e-6)
    # Excluded documents have no place, and no distance.
    there = np.array([True, False, True, True])
    value, (slope,) = evaluated(at, single([3, np.nan, 2, 0]), y, where=there)
    alone, (few,) = evaluated(at, s[there], y[there])
    np.testing.assert_allclose(value, alone, rtol=1e-6)
    np.testing.assert_allclose(slope[there], few, rtol=1e-6)
    assert slope[1] == 0
    # Labels that are equal say nothing, and equal scores have no distance.
    value, (slope,) = evaluated(at, s, np.ones(4))
    assert value == 0
    assert not np.any(slope)
    level, (slope,) = evaluated(at, np.zeros(4, np.float32), y)
    np.testing.assert_allclose(level, math.log(4), rtol=1e-6)
    np.testing.assert_allclose(slope, np.array([-3, 1, -1, 3]) / 8, rtol=1e-6)
    # Far apart it stays finite.
    for scores in ([1e30, -1e30, 0, 1], [1e20, 1e20, 0, 1]):
        value, (slope,) = evaluated(at, single(scores), y)
        assert np.isfinite(value)
        assert np.all(np.isfinite(slope))
    assert np.isnan(at(single([np.nan, 1, 2, 3]), y))
    assert np.isnan(neural_sort_loss(s, y, temperature=0.0))


def test_poly1_by_hand() -> None:
    """Of chances 1/4 and 3/4, of relevance 1 and 2."""
    s, y = single([0, math.log(3)]), single([1, 2])
    cost = math.log(4) + 2 * math.log(4 / 3)
    missed = 1 / 3 * 3 / 4 + 2 / 3 * 1 / 4
    for epsilon in (1.0, -0.5):
        found = poly1_softmax_loss(s, y, epsilon=epsilon)
        np.testing.assert_allclose(found, cost + epsilon * missed, rtol=1e-6)
    assert poly1_softmax_loss(s, 0 * y) == 0
    assert np.isnan(poly1_softmax_loss(s, -y))


def test_weights_of_documents() -> None:
    """A weight of 2 is the cost of a document twice, and one of 0 leaves it a rival."""
    w = single(_RNG.integers(0, 3, SCORES.shape))
    for loss in (ranking_softmax_loss, listnet_loss, listmle_loss, unique_softmax_loss):
        at = functools.partial(loss, SCORES, LABELS, reduction="none")
        parts = [at(document_weights=np.eye(6, dtype=np.float32)[[k]]) for k in range(6)]
        np.testing.assert_allclose(np.sum(parts, 0), at(), rtol=1e-5)
        found = at(document_weights=w)
        np.testing.assert_allclose(found, np.sum(w.T * np.stack(parts), 0), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(at(document_weights=2.0), 2 * at(), rtol=1e-6)
        dirty = np.where(THERE, w, np.float32(np.nan))
        masked = at(document_weights=dirty, where=THERE)
        np.testing.assert_allclose(masked, at(document_weights=w * THERE, where=THERE), rtol=1e-6)


def test_gumbel_scores() -> None:
    s, key = single([1.0, 0.0, 0.5]), jax.random.key(3)
    sampled = np.asarray(gumbel_scores(s, key, samples=20000))
    assert sampled.shape == (20000, 3)
    # Orders have the probabilities of Plackett and Luce.
    orders = np.argsort(-sampled, -1)
    for order in itertools.permutations(range(3)):
        share = np.mean(np.all(orders == order, -1))
        labels = np.argsort(np.argsort(np.array(order)[::-1])).astype(np.float32)
        labels[list(order)] = [2, 1, 0]
        chance = math.exp(-float(listmle_loss(s, labels)))
        # Five standard deviations of a share.
        assert abs(share - chance) < 5 * math.sqrt(chance / 20000)
    np.testing.assert_array_equal(gumbel_scores(s, key, samples=2, scale=0.0), np.stack([s, s]))
    slope = jax.grad(lambda s: jnp.sum(gumbel_scores(s, key, samples=5)))(s)
    np.testing.assert_array_equal(slope, np.full(3, 5))
    with pytest.raises(ValueError, match="samples must be a positive integer, got int 0"):
        gumbel_scores(s, key, samples=0)
    with pytest.raises(ValueError, match="scores must have at least one axis"):
        gumbel_scores(1.0, key)


def test_rax_samples_the_same_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    rax = pytest.importorskip("rax")
    if not hasattr(jax, "util"):
        # rax copies names and docstrings by a function that JAX no longer has.
        copies = types.SimpleNamespace(wraps=lambda *_, **__: lambda function: function)
        monkeypatch.setattr(jax, "util", copies, raising=False)
    key = jax.random.key(7)
    with as_jax_ships():
        theirs = rax.gumbel_t12n(rax.softmax_loss, samples=5, beta=0.5)
        wanted = theirs(jnp.asarray(SCORES), jnp.asarray(LABELS), key=key)
    sampled = gumbel_scores(SCORES, key, samples=5, scale=0.5)
    labels = np.broadcast_to(LABELS, sampled.shape)
    np.testing.assert_allclose(ranking_softmax_loss(sampled, labels), wanted, rtol=16 * EPS)


@pytest.mark.parametrize("kind", ["ndcg", "ndcg2"])
@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("topn", [None, 3])
def test_rax_lambda_weights(kind: Any, normalize: bool, own: bool, topn: int | None) -> None:
    rax = pytest.importorskip("rax")
    theirs = {"ndcg": rax.dcg_lambdaweight, "ndcg2": rax.dcg2_lambdaweight}[kind]
    options: dict[str, Any] = {"normalize": normalize, "topn": topn}
    if own:
        options |= {"gain_fn": lambda y: y * y, "discount_fn": lambda rank: 0.5**rank}
    weights = lambda_weights(SCORES, LABELS, kind=kind, **options)
    if normalize and topn and own:
        # rax sorts the gains of its ideal by gains of gains: the same order of these.
        options["normalize"] = False
        best = -np.sort(-(double(LABELS) ** 2))[:, :topn] @ 0.5 ** np.arange(1, topn + 1)
        weights = weights * single(best)[:, None, None]
    with as_jax_ships():
        # Times the length of the list, and flat.
        flat = theirs(jnp.asarray(SCORES), jnp.asarray(LABELS), **options)
    np.testing.assert_allclose(weights, np.reshape(flat, weights.shape) / 6, rtol=1e-4, atol=1e-6)


def test_lambda_weights_of_the_first_places() -> None:
    """By how much the measure changes, if two documents change places."""
    s, y = single([4, 3, 2, 1]), np.array([1, 0, 2, 1])
    gain, discount = 2.0**y - 1, np.array([1, 1 / np.log2(3), 0, 0])
    ideal = -np.sort(-gain) @ discount
    weights = lambda_weights(s, y, topn=2)
    for i, j in itertools.combinations(range(4), 2):
        order = np.arange(4)
        order[[i, j]] = order[[j, i]]
        change = abs(gain[order] @ discount - gain @ discount)
        np.testing.assert_allclose(weights[i, j], change / ideal, rtol=1e-5, atol=1e-7)
        plain = lambda_weights(s, y, topn=2, normalize=False)[i, j]
        np.testing.assert_allclose(plain, change, rtol=1e-5, atol=1e-7)
    both = lambda_weights(s, y, topn=2, kind="ndcg2++", mu=3.0)
    parts = [lambda_weights(s, y, topn=2, kind=kind) for kind in ("ndcg", "ndcg2")]
    np.testing.assert_allclose(both, parts[0] + 3 * parts[1], rtol=1e-6)


def test_bad_lambda_weights() -> None:
    s, y = SCORES[0], LABELS[0]
    with pytest.raises(ValueError, match="topn must be a positive integer, got int 0"):
        lambda_weights(s, y, topn=0)
    with pytest.raises(TypeError, match="gain_fn must be a function"):
        lambda_weights(s, y, gain_fn=2)  # type: ignore
    with pytest.raises(ValueError, match=r"gain_fn must return an array \[1, 6\], got.*\[\]"):
        lambda_weights(s, y, gain_fn=jnp.sum)
    with pytest.raises(ValueError, match=r"discount_fn must return an array \[1, 6\]"):
        lambda_weights(s, y, discount_fn=jnp.sum)
