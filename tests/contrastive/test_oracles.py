"""The exact forms of the losses of a batch against hand arithmetic, NumPy and optax."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mpmath import mp
from scipy.special import log_softmax

from tests.contrastive import oracles as batch
from tests.laws import oracle as oracles
from tests.laws.peers import as_jax_ships
from tests.laws.precise import exact, near, near_relative, total

# A 3-4-5 world: the cosines of these with the first are 1, 3/5, 0, -4/5 and 0 for the zero vector.
E: list[Any] = [[1, 0], [3, 4], [0, 2], [-4, 3], [0, 0]]
LABELS = [0, 0, 1, 1, 2, 0, 1]
RNG = np.random.default_rng(0)
X, Y, Z = RNG.normal(size=(3, 7, 4))


def rows(name: str, *args: Any, **options: Any) -> list[float]:
    return [total(getattr(batch, name)(*args, anchor=i, **options)) for i in range(len(args[0]))]


def cosines(x: Any, y: Any) -> Any:
    x, y = (z / np.linalg.norm(z, axis=-1, keepdims=True) for z in (x, y))
    return x @ y.T


def surprisals(logits: Any) -> Any:
    """Of the diagonal: cross-entropy with the labels 0, 1, 2, ..."""
    return np.diagonal(-log_softmax(logits, -1))


@pytest.fixture(autouse=True)
def _precision() -> Any:
    with mp.workprec(300):
        yield


def test_nan_outside_the_domain() -> None:
    e = exact(E)
    nan = [*e, [mp.nan] * 2]
    outside = [
        batch.ntxent(e, [0] * 5, anchor=0, temperature=0),
        batch.supervised_contrastive_loss(e, [0] * 5, anchor=0, temperature=mp.nan),
        batch.info_nce_loss(e, e, anchor=0, temperature=-1),
        batch.multi_similarity_loss(e, [0] * 5, anchor=0, beta=0),
        batch.circle_loss(e, [0, 0, 1, 1, 1], anchor=0, gamma=-1),
        *(
            batch.batch_triplet_loss(nan, [0, 0, 0, 1, 1, 1], anchor=0, mining=mining)
            for mining in ("all", "hard", "semi_hard")
        ),
        batch.barlow_twins_loss(e, e, epsilon=-1),
        batch.vicreg_loss(e[:1], e[:1]),
    ]
    assert all(mp.isnan(mp.fsum(terms)) for terms in outside)


def test_anchors_that_do_not_count() -> None:
    e, alone, all_same = exact(E), [0, 1, 2, 3, 4], [0] * 5
    for name in ("batch_triplet_loss", "circle_loss", "lifted_structure_loss"):
        assert getattr(batch, name)(e, alone, anchor=0) == []
        assert getattr(batch, name)(e, all_same, anchor=0) == []
    for name in ("ntxent", "supervised_contrastive_loss", "multi_similarity_loss"):
        assert getattr(batch, name)(e, alone, anchor=0) == []
        assert len(getattr(batch, name)(e, all_same, anchor=0)) == 1
    assert total(batch.ntxent(e, all_same, anchor=0)) == 0


def test_batch_triplets_by_hand() -> None:
    """Positives at 1 and 4, negatives at 2, 3 and 6 from the anchor, on a line."""
    line = exact([[0], [1], [4], [2], [-3], [6]])
    labels = [0, 0, 0, 1, 1, 2]

    def mined(mining: str, margin: Any = 1) -> float:
        return total(batch.batch_triplet_loss(line, labels, anchor=0, mining=mining, margin=margin))

    assert mined("hard") == 4 - 2 + 1
    assert mined("all") == near((0 + 0 + 0 + 3 + 2 + 0) / 6)
    assert mined("all", 3) == near((2 + 1 + 0 + 5 + 4 + 1) / 6)
    assert mined("semi_hard", 3) == near(((1 - 2 + 3) + (4 - 6 + 3)) / 2)
    few = batch.batch_triplet_loss(line[:5], labels[:5], anchor=0, margin=3)
    assert total(few) == near(((1 - 2 + 3) + (4 - 3 + 3)) / 2)


def test_all_triplets_by_brute_force() -> None:
    d = np.linalg.norm(X[:, None] - X, axis=-1)
    for a, label in enumerate(LABELS):
        hinges = [
            max(d[a, p] - d[a, n] + 1, 0)
            for p in range(7)
            for n in range(7)
            if p != a and LABELS[p] == label != LABELS[n]
        ]
        got = batch.batch_triplet_loss(exact(X), LABELS, anchor=a, mining="all")
        assert total(got) == near(np.mean(hinges) if hinges else 0)


def test_ntxent_is_optaxs_over_the_pairs() -> None:
    losses = pytest.importorskip("optax.losses")
    got = rows("ntxent", exact(X), LABELS, temperature=mp.mpf(0.5))
    pairs = sum(LABELS.count(label) - 1 for label in LABELS)
    with jax.enable_x64(True), as_jax_ships():
        ntxent = jax.jit(functools.partial(losses.ntxent, temperature=0.5))
        want = float(ntxent(jnp.asarray(X), jnp.asarray(LABELS)))
    assert sum(got) / pairs == near(want)


def test_supervised_contrastive_by_softmax() -> None:
    s = cosines(X, X) / 0.25
    np.fill_diagonal(s, -np.inf)
    surprisal = -log_softmax(s, -1)
    got = rows("supervised_contrastive_loss", exact(X), LABELS, temperature=mp.mpf(0.25))
    for a, label in enumerate(LABELS):
        chosen = [surprisal[a, p] for p in range(7) if p != a and LABELS[p] == label]
        assert got[a] == near(np.mean(chosen) if chosen else 0)


def test_multi_similarity_by_hand() -> None:
    got = batch.multi_similarity_loss(exact(E), [0, 0, 1, 1, 2], anchor=0, alpha=2, beta=5)
    pull = np.log1p(np.exp(-2 * (0.6 - 0.5))) / 2
    push = np.log1p(np.exp(-2.5) + np.exp(5 * -1.3) + np.exp(-2.5)) / 5
    assert total(got) == near(pull + push)


def test_circle_loss_and_its_slope_are_the_papers() -> None:
    m, gamma, a = 0.25, 4.0, 2
    labels = np.array(LABELS)
    same = labels == labels[a]
    positive, negative = np.flatnonzero(same & (np.arange(7) != a)), np.flatnonzero(~same)

    def paper(x: Any) -> Any:
        unit = x / jnp.linalg.norm(x, axis=-1, keepdims=True)
        s = unit @ unit[a]
        held = jax.lax.stop_gradient(s)
        pull = -gamma * jax.nn.relu(1 + m - held) * (s - (1 - m))
        push = gamma * jax.nn.relu(held + m) * (s - m)
        logs = jax.nn.logsumexp(pull[positive]) + jax.nn.logsumexp(push[negative])
        return jax.nn.softplus(logs)

    with jax.enable_x64(True):
        loss, slopes = jax.jit(jax.value_and_grad(paper))(jnp.asarray(X))
    options = {"anchor": a, "gamma": mp.mpf(gamma)}
    assert total(batch.circle_loss(exact(X), LABELS, **options)) == near(float(loss))
    weights = batch._circle_weights(exact(X), LABELS, anchor=a, margin=mp.mpf(m))
    for i in range(7):
        for held in ({}, {"weights": weights}):
            at = 0, (i, 1)
            slope, _ = oracles.derivative("circle_loss", (X, labels), {**options, **held}, at)
            assert float(slope) == near(float(slopes[i, 1]))


def test_lifted_structure_by_hand() -> None:
    line = exact([[0], [1], [4], [2], [-3], [60]])
    got = batch.lifted_structure_loss(line, [0, 0, 0, 1, 1, 1], anchor=0)
    want = np.log(np.exp(1) + np.exp(4)) + 1 + np.log(np.exp(-2) + np.exp(-3) + np.exp(-60))
    assert total(got) == near(want)
    assert total(batch.lifted_structure_loss(line, [0, 0, 1, 1, 1, 1], anchor=0, margin=-9)) == 0


def test_n_pairs_is_cross_entropy_of_dot_products() -> None:
    dots = X @ Y.T
    assert rows("n_pairs_loss", exact(X), exact(Y)) == near(list(surprisals(dots)))
    others = [np.exp(dots[0, j] - dots[0, 0]) for j in range(7) if LABELS[j] != LABELS[0]]
    got = batch.n_pairs_loss(exact(X), exact(Y), anchor=0, labels=LABELS)
    assert total(got) == near(np.log1p(sum(others)))


def test_info_nce_and_clip_are_cross_entropies() -> None:
    logits = cosines(X, Y) / 0.5
    loss, back = surprisals(logits), surprisals(logits.T)
    extra = surprisals(np.concatenate([logits, cosines(X, Z) / 0.5], 1))
    x, y, z, half = exact(X), exact(Y), exact(Z), {"temperature": mp.mpf(0.5)}
    assert rows("info_nce_loss", x, y, **half) == near(list(loss))
    assert rows("info_nce_loss", x, y, z, **half) == near(list(extra))
    got = rows("info_nce_loss", x, y, z, symmetric=True, **half)
    assert got == near(list((extra + back) / 2))
    assert rows("clip_loss", x, y, logit_scale=2) == near(list((loss + back) / 2))


def test_siglip_is_the_papers_code() -> None:
    logits = cosines(X, Y) * 10 - 10
    want = np.logaddexp(0, (1 - 2 * np.eye(7)) * logits).sum(-1)
    assert rows("siglip_loss", exact(X), exact(Y)) == near(list(want))


@pytest.mark.parametrize("epsilon", [0.0, 1e-5])
def test_barlow_twins_is_the_authors_code(epsilon: float) -> None:
    x, y = ((z - z.mean(0)) / np.sqrt(z.var(0) + epsilon) for z in (X, Y))
    c = x.T @ y / 7
    on = np.sum((np.diagonal(c) - 1) ** 2)
    off = np.sum(c**2) - np.sum(np.diagonal(c) ** 2)
    got = batch.barlow_twins_loss(exact(X), exact(Y), epsilon=epsilon)
    assert total(got) == near(on + 5e-3 * off)
    assert total(batch.barlow_twins_loss(exact([[1]] * 3), exact([[1], [2], [3]]))) == 1


def test_vicreg_is_the_authors_code() -> None:
    spread = redundancy = 0
    for z in (X, Y):
        spread += np.mean(np.maximum(1 - np.sqrt(z.var(0, ddof=1) + 1e-4), 0)) / 2
        c = np.cov(z.T)
        redundancy += (np.sum(c**2) - np.sum(np.diagonal(c) ** 2)) / 4
    assert spread > 0
    want = 25 * np.mean((X - Y) ** 2) + 25 * spread + redundancy
    assert total(batch.vicreg_loss(exact(X), exact(Y))) == near(want)


def test_digits_at_the_ends() -> None:
    near_one = exact([[1, 0], [1, 1e-30], [-1, 0]])
    with mp.workprec(2000):
        got = batch.ntxent(near_one, [0, 0, 1], anchor=0, temperature=mp.mpf(0.03125))
        assert total(got) == near_relative(np.exp(-64))
        got = batch.siglip_loss(near_one[:1], near_one[:1], anchor=0, logit_scale=500)
        assert total(got) == near_relative(np.exp(-490))
        scaled = exact([[1e30, 0], [3e-30, 4e-30], [-1e200, 0]])
        got = batch.supervised_contrastive_loss(scaled, [0, 0, 1], anchor=0, temperature=1)
        assert total(got) == near_relative(np.log1p(np.exp(-1.6)))
