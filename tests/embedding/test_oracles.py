"""The oracles of pairs and triplets against hand arithmetic, PyTorch and optax."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest
from mpmath import mp

from tests.embedding import oracles as pairs
from tests.laws.peers import of_torch, torch_loss
from tests.laws.precise import exact, near, near_relative, total

# A 3-4-5 world: the cosines of these with the first are 1, 3/5, 0, -4/5 and 0 for the zero vector.
E: list[Any] = [[1, 0], [3, 4], [0, 2], [-4, 3], [0, 0]]
X, Y, Z = np.random.default_rng(0).normal(size=(3, 7, 4))


def torchs(name: str, *inputs: Any, **options: Any) -> Any:
    return of_torch(torch_loss(name, **options), *inputs)[0]


@pytest.fixture(autouse=True)
def _precision():
    with mp.workprec(300):
        yield


def test_pairs_as_written() -> None:
    assert total(pairs.margin_ranking_loss(mp.mpf(1), mp.mpf(3), 1, margin=0.5)) == 2.5
    assert total(pairs.margin_ranking_loss(mp.mpf(1), mp.mpf(3), 0, margin=0.5)) == 0
    assert total(pairs.margin_ranking_loss(mp.mpf(3), mp.mpf(1), 0, margin=0.5)) == 2.5
    assert total(pairs.hinge_embedding_loss(mp.mpf("0.25"), 0)) == 0.75
    assert total(pairs.hinge_embedding_loss(mp.mpf("0.25"), 1)) == 0.25
    e = exact(E)
    assert total(pairs.cosine_embedding_loss(e[0], e[1], 1)) == near(0.4)
    assert total(pairs.cosine_embedding_loss(e[0], e[1], 0, margin=mp.mpf(0.5))) == near(0.1)
    assert total(pairs.cosine_embedding_loss(e[0], e[4], 1)) == 1
    assert total(pairs.cosine_embedding_loss(e[0], e[3], 0)) == 0
    assert total(pairs.contrastive_loss(e[4], e[1], 1)) == 12.5
    assert total(pairs.contrastive_loss(e[4], e[1], 0, margin=mp.mpf(7))) == 2
    assert total(pairs.contrastive_loss(e[4], e[1], 0)) == 0


def test_triplets_as_written() -> None:
    e = exact(E)
    assert total(pairs.triplet_margin_loss(e[4], e[1], e[2], eps=0)) == 4
    assert total(pairs.triplet_margin_loss(e[4], e[1], e[2], norm_degree=1, eps=0)) == 6
    assert total(pairs.triplet_margin_loss(e[4], e[2], e[1], eps=0)) == 0
    same = pairs.triplet_margin_loss(e[0], e[0], e[0])
    assert [float(term) for term in same] == near([1e-3, -1e-3, 1])
    swapped = near(13**0.5 - 5**0.5 + 1)
    assert total(pairs.triplet_margin_loss(e[1], e[2], e[0], eps=0, swap=True)) == swapped
    got = pairs.triplet_margin_with_distance_loss(e[1], e[2], e[0], swap=True)
    assert total(got) == swapped


@pytest.mark.parametrize("y", [1, -1])
def test_pairs_are_torchs(y: int) -> None:
    for a, b in zip(X[0], Y[0], strict=True):
        got = pairs.margin_ranking_loss(mp.mpf(a), mp.mpf(b), y, margin=0.5)
        assert total(got) == near(torchs("margin_ranking_loss", a, b, labels=y, margin=0.5))
        got = pairs.hinge_embedding_loss(mp.mpf(abs(a)), y, margin=mp.mpf(0.75))
        assert total(got) == near(torchs("hinge_embedding_loss", abs(a), labels=y, margin=0.75))
    for a, b in zip(X, Y, strict=True):
        got = pairs.cosine_embedding_loss(exact(a), exact(b), y, margin=mp.mpf(0.125))
        assert total(got) == near(torchs("cosine_embedding_loss", a, b, labels=y, margin=0.125))


@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize("k", [1, 2, 3, 1.5])
def test_triplets_are_torchs_but_for_eps(k: float, swap: bool) -> None:
    want = torchs("triplet_margin_loss", X, Y, Z, p=k, eps=0, swap=swap)
    shifted = torchs("triplet_margin_loss", X, Y, Z, p=k, swap=swap)
    for i, (a, p, n) in enumerate(zip(exact(X), exact(Y), exact(Z), strict=True)):
        options: Any = {"norm_degree": mp.mpf(k), "swap": swap}
        assert total(pairs.triplet_margin_loss(a, p, n, eps=0, **options)) == near(want[i])
        got = total(pairs.triplet_margin_loss(a, p, n, **options))
        assert got == pytest.approx(shifted[i], abs=1e-5)
        if k == 2:
            got = total(pairs.triplet_margin_with_distance_loss(a, p, n, swap=swap))
            assert got == near(want[i])


def test_triplets_are_optaxs() -> None:
    losses = pytest.importorskip("optax.losses")
    with jax.enable_x64(True):
        want = losses.triplet_margin_loss(X, Y, Z, norm_degree=4, eps=0.125)
    for i, (a, p, n) in enumerate(zip(exact(X), exact(Y), exact(Z), strict=True)):
        got = pairs.triplet_margin_loss(a, p, n, norm_degree=4, eps=0.125)
        assert total(got) == near(float(want[i]))


def test_nan_outside_the_domain() -> None:
    e, low = exact(E), mp.mpf(0.5)
    outside: Any = [
        pairs.margin_ranking_loss(mp.one, mp.one, mp.nan),
        pairs.hinge_embedding_loss(mp.one, mp.nan),
        pairs.cosine_embedding_loss(e[0], e[1], mp.nan),
        pairs.contrastive_loss(e[0], e[1], mp.nan),
        pairs.triplet_margin_loss(e[0], e[1], [mp.nan, mp.zero]),
        pairs.triplet_margin_loss(e[0], e[1], e[2], norm_degree=low),
        pairs.arcface_logits([mp.mpf("1.5"), mp.zero], 0, anchor=0),
        pairs.cosface_logits([mp.one, mp.zero], -1, anchor=0),
    ]
    assert all(mp.isnan(mp.fsum(terms)) for terms in outside)


def test_byol_and_simsiam() -> None:
    e = exact(E)
    assert total(pairs.byol_loss(e[0], e[1])) == near(0.8)
    assert total(pairs.simsiam_loss(e[0], e[3])) == near(1.8)
    assert total(pairs.byol_loss(e[0], e[4])) == 2


@pytest.mark.parametrize("label", range(5))
def test_margin_logits_are_insightfaces(label: int) -> None:
    c = [-1, -0.95, 0.3, 0.9, 1]
    for got, margin, other in (
        (pairs.arcface_logits, 0.5, lambda x: np.cos(np.arccos(x) + 0.5)),
        (pairs.cosface_logits, 0.35, lambda x: x - 0.35),
    ):
        want = np.array(c, dtype=float)
        want[label] = other(want[label])
        if margin == 0.5 and c[label] <= np.cos(np.pi - 0.5):
            want[label] = c[label] - np.sin(np.pi - 0.5) * 0.5
        logits = [total(got(exact(c), label, anchor=j)) for j in range(5)]
        assert logits == near(list(64 * want))


def test_digits_at_the_ends() -> None:
    near_one = exact([[1, 0], [1, 1e-30], [-1, 0]])
    with mp.workprec(2000):
        assert total(pairs.simsiam_loss(near_one[0], near_one[1])) == near_relative(5e-61)
