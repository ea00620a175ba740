"""Losses of a batch as optax has them and as PyTorch composes them: values and gradients."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxloss
from tests.laws import peers
from tests.laws.values import double, single

RNG = np.random.default_rng(11)
X, Y, Z = RNG.normal(size=(3, 7, 4))
# With a label of its own.
LABELS = np.array([0, 0, 1, 1, 2, 0, 1], np.int32)


def alike(loss: Callable[..., Any], theirs: Callable[..., Any], *data: Any) -> None:
    """In float64, to 1e-12 where terms cancel; `theirs` is called with torch and the tensors."""
    torch = pytest.importorskip("torch")
    with jax.enable_x64(True):
        ours = peers.evaluated(jax.jit(loss), *data)
    expected = peers.of_torch(lambda _, *x: theirs(torch, *x), *data)
    peers.alike(ours, expected, rtol=1e-10, largest=0.01)


# ---- optax ----


def test_ntxent_of_optax() -> None:
    labels = jnp.asarray(LABELS)
    for temperature in (0.07, 0.5, 2.0):

        def ntxent(losses: Any, x: Any, temperature: float = temperature) -> Any:
            return losses.ntxent(x, labels, temperature)

        with jax.enable_x64(True):
            ours = peers.evaluated(functools.partial(ntxent, jaxloss), X)
            expected = peers.of_optax(ntxent, X)
        peers.close(ours[0], expected[0], rtol=1e-10)
        peers.close(ours[1], expected[1], rtol=1e-10, largest=0.1)


def test_where_optax_is_nan() -> None:
    """No two of a label: the day this fails, optax has mended it."""
    losses = pytest.importorskip("optax.losses")
    x, alone = single(X), np.arange(7)
    with peers.as_jax_ships():
        assert np.isnan(jax.jit(losses.ntxent)(x, alone))
    assert jaxloss.ntxent(x, alone) == 0


def test_where_optax_loses_a_loss_near_0() -> None:
    """Clusters so clear that the loss is 3e-14, which optax adds to 1: it finds 0."""
    losses = pytest.importorskip("optax.losses")
    labels = np.array([0, 0, 1, 1])
    x = np.eye(3, dtype=np.float32)[labels]
    exact = np.log1p(2 * np.exp(-32))
    with peers.as_jax_ships():
        assert abs(jax.jit(losses.ntxent)(x, labels, 1 / 32) - exact) > 0.5 * exact
    np.testing.assert_allclose(jaxloss.ntxent(x, labels, 1 / 32), exact, rtol=1e-6)


# ---- PyTorch ----


def normal(torch: Any, x: Any) -> Any:
    return torch.nn.functional.normalize(x, dim=-1)


def surprisals(torch: Any, logits: Any) -> Any:
    own = torch.arange(len(logits))
    return torch.nn.functional.cross_entropy(logits, own, reduction="none")


def cosines(torch: Any, x: Any, y: Any) -> Any:
    return normal(torch, x) @ normal(torch, y).T


def test_cross_entropies_of_matrices() -> None:
    def info_nce(torch: Any, q: Any, k: Any, n: Any) -> Any:
        return surprisals(torch, torch.cat([cosines(torch, q, k), cosines(torch, q, n)], 1) / 0.2)

    def clip(torch: Any, x: Any, y: Any) -> Any:
        logits = cosines(torch, x, y) / 0.07
        return (surprisals(torch, logits) + surprisals(torch, logits.T)) / 2

    alike(
        lambda q, k, n: jaxloss.info_nce_loss(q, k, negatives=n, temperature=0.2),
        info_nce,
        X,
        Y,
        Z[:3],
    )
    alike(jaxloss.info_nce_loss, lambda t, q, k: surprisals(t, cosines(t, q, k) / 0.07), X, Y)
    alike(jaxloss.clip_loss, clip, X, Y)
    alike(jaxloss.n_pairs_loss, lambda t, a, p: surprisals(t, a @ p.T), X, Y)


def test_siglip_is_a_sum_of_logsigmoids() -> None:
    def siglip(torch: Any, x: Any, y: Any) -> Any:
        signs = 2 * torch.eye(len(x)) - 1
        logits = 10 * cosines(torch, x, y) - 10
        return -torch.nn.functional.logsigmoid(signs * logits).sum(-1)

    alike(jaxloss.siglip_loss, siglip, X, Y)


@pytest.mark.parametrize("degree", [1, 2, 3])
def test_cdist(degree: int) -> None:
    weights = np.cos(np.arange(49.0)).reshape(7, 7)

    def theirs(torch: Any, x: Any, y: Any) -> Any:
        d = torch.cdist(x, y, p=degree, compute_mode="donot_use_mm_for_euclid_dist")
        return d * torch.tensor(weights)

    alike(lambda x, y: jaxloss.pairwise_distance(x, y, norm_degree=degree) * weights, theirs, X, Y)


def triplets(mining: str) -> list[list[tuple[int, int, int]]]:
    """Of each anchor that has any."""
    d = np.linalg.norm(X[:, None] - X, axis=-1)
    found = []
    for a, label in enumerate(LABELS):
        p = [i for i in range(7) if i != a and LABELS[i] == label]
        n = [i for i in range(7) if LABELS[i] != label]
        if not p:
            continue
        if mining == "all":
            pairs = [(i, j) for i in p for j in n]
        elif mining == "hard":
            pairs = [(max(p, key=lambda i: d[a, i]), min(n, key=lambda j: d[a, j]))]
        else:
            farther = {i: [j for j in n if d[a, j] > d[a, i]] for i in p}
            farthest = max(n, key=lambda j: d[a, j])
            pairs = [(i, min(farther[i], key=lambda j: d[a, j], default=farthest)) for i in p]
        found.append([(a, *pair) for pair in pairs])
    return found


@pytest.mark.parametrize("mining", ["all", "hard", "semi_hard"])
def test_triplets_mined_by_hand(mining: Any) -> None:
    def theirs(torch: Any, x: Any) -> Any:
        each = []
        for chosen in triplets(mining):
            a, p, n = (x[list(place)] for place in zip(*chosen, strict=True))
            each.append(torch.nn.functional.triplet_margin_loss(a, p, n, margin=1.5, eps=0))
        return torch.stack(each).mean()

    ours = functools.partial(
        jaxloss.batch_triplet_loss, labels=LABELS, mining=mining, margin=1.5, reduction="mean"
    )
    alike(ours, theirs, X)


def test_losses_of_labelled_batches() -> None:
    positive = (LABELS[:, None] == LABELS) & ~np.eye(7, dtype=bool)
    negative = LABELS[:, None] != LABELS
    counted = positive.any(1)

    def log_sum(torch: Any, x: Any, mask: Any) -> Any:
        return torch.logsumexp(x.masked_fill(~torch.tensor(mask[counted]), -torch.inf), -1)

    def supervised(torch: Any, x: Any) -> Any:
        s = (cosines(torch, x, x) / 0.1)[counted]
        surprisal = log_sum(torch, s, positive | negative)[:, None] - s
        chosen = torch.tensor(positive[counted])
        return ((surprisal * chosen).sum(-1) / chosen.sum(-1)).mean()

    def multi_similarity(torch: Any, x: Any) -> Any:
        s = cosines(torch, x, x)[counted]
        softplus = torch.nn.functional.softplus
        pull = softplus(log_sum(torch, -2 * (s - 0.5), positive), threshold=700) / 2
        push = softplus(log_sum(torch, 50 * (s - 0.5), negative), threshold=700) / 50
        return (pull + push).mean()

    def circle(torch: Any, x: Any) -> Any:
        s = cosines(torch, x, x)[counted]
        to_pull, to_push = torch.relu(1.25 - s.detach()), torch.relu(s.detach() + 0.25)
        pull = log_sum(torch, -64 * to_pull * (s - 0.75), positive)
        push = log_sum(torch, 64 * to_push * (s - 0.25), negative)
        return torch.nn.functional.softplus(pull + push, threshold=700).mean()

    def lifted(torch: Any, x: Any) -> Any:
        away = (x[:, None] - x)[counted]
        itself = torch.tensor(np.eye(7, dtype=bool)[counted])
        d = torch.linalg.norm(away + itself[..., None], dim=-1)
        near, far = log_sum(torch, d, positive), log_sum(torch, 1 - d, negative)
        return torch.relu(near + far).mean()

    options: dict[Any, Any] = {jaxloss.circle_loss: {"gamma": 64.0}}
    for loss, theirs in (
        (jaxloss.supervised_contrastive_loss, supervised),
        (jaxloss.multi_similarity_loss, multi_similarity),
        (jaxloss.circle_loss, circle),
        (jaxloss.lifted_structure_loss, lifted),
    ):
        more = options.get(loss, {})
        alike(functools.partial(loss, labels=LABELS, reduction="mean", **more), theirs, X)


@pytest.mark.parametrize("epsilon", [0.0, 1e-2])
def test_barlow_twins_of_corrcoef(epsilon: float) -> None:
    def theirs(torch: Any, x: Any, y: Any) -> Any:
        if epsilon:
            x, y = ((z - z.mean(0)) / torch.sqrt(z.var(0, correction=0) + epsilon) for z in (x, y))
            c = x.T @ y / len(x)
        else:
            c = torch.corrcoef(torch.cat([x, y], 1).T)[:4, 4:]
        on = torch.square(c.diagonal() - 1).sum()
        return on + 5e-3 * (torch.square(c).sum() - torch.square(c.diagonal()).sum())

    alike(functools.partial(jaxloss.barlow_twins_loss, epsilon=epsilon), theirs, X, Y)


def test_vicreg_of_cov() -> None:
    def theirs(torch: Any, x: Any, y: Any) -> Any:
        total = 25 * torch.nn.functional.mse_loss(x, y)
        for z in (x, y):
            c = torch.cov(z.T)
            short = torch.relu(1 - torch.sqrt(z.var(0) + 1e-4)).mean()
            assert short > 0
            total = total + 25 * short / 2
            total = total + (torch.square(c).sum() - torch.square(c.diagonal()).sum()) / 4
        return total

    alike(jaxloss.vicreg_loss, theirs, X, Y)


def test_where_cdist_loses_its_digits() -> None:
    """For more than 25 vectors PyTorch takes |x|^2 + |y|^2 - 2 <x, y>, which is 0.7 off here."""
    torch = pytest.importorskip("torch")
    x = single(1000 + RNG.normal(size=(30, 4)))
    exact = np.linalg.norm(double(x)[:, None] - double(x), axis=-1)
    theirs = torch.cdist(torch.tensor(x), torch.tensor(x)).numpy()
    assert np.max(np.abs(theirs - exact)) > 0.1
    np.testing.assert_allclose(jaxloss.pairwise_distance(x), exact, rtol=1e-6)
