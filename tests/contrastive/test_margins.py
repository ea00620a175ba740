"""Pairs and triplets with margins: other distances, the soft margin, and means of what is active.

pytorch-metric-learning, which has these, is not installed: its formulas are written out in NumPy.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxloss import (
    Mean,
    batch_contrastive_loss,
    batch_triplet_loss,
    lifted_structure_loss,
    pairwise_distance,
)
from tests.laws.values import double, single

X = single(np.random.default_rng(0).normal(size=(7, 3)))
BANK = single(np.random.default_rng(1).normal(size=(5, 3)))
# One without a positive.
LABELS = np.array([0, 0, 1, 1, 2, 0, 1], np.int32)
BANK_LABELS = np.array([1, 0, 2, 0, 1], np.int32)
MININGS = ("all", "hard", "semi_hard")
DISTANCES: list[Any] = ["euclidean", "squared", "cosine", 1, 3, np.inf]


def matrix(x: Any, y: Any, distance: Any) -> np.ndarray:
    x, y = double(x), double(y)
    if distance == "cosine":
        unit = functools.partial(np.linalg.norm, axis=-1, keepdims=True)
        return 1 - (x / unit(x)) @ (y / unit(y)).T
    gaps = x[:, None] - y
    if distance == "squared":
        return np.sum(gaps**2, -1)
    return np.linalg.norm(gaps, 2 if distance == "euclidean" else distance, -1)


def partners(a: int, bank: bool) -> tuple[list[int], list[int]]:
    theirs = BANK_LABELS if bank else LABELS
    met = [i for i in range(len(theirs)) if bank or i != a]
    positive = [i for i in met if theirs[i] == LABELS[a]]
    return positive, [i for i in met if theirs[i] != LABELS[a]]


def triplets(mining: str, d: np.ndarray, bank: bool) -> list[list[Any]]:
    """The distances of each anchor's triplets."""
    found: list[list[Any]] = []
    for a in range(len(d)):
        p, n = partners(a, bank)
        near, far = d[a, p], d[a, n]
        if not p or not n:
            found.append([])
        elif mining == "all":
            found.append([(x, y) for x in near for y in far])
        elif mining == "hard":
            found.append([(max(near), min(far))])
        else:
            after = [[y for y in far if y > x] for x in near]
            pairs = zip(near, after, strict=True)
            found.append([(x, min(rest) if rest else max(far)) for x, rest in pairs])
    return found


def given(bank: bool) -> dict[str, Any]:
    return {"references": BANK, "reference_labels": BANK_LABELS} if bank else {}


@pytest.mark.parametrize("mining", MININGS)
@pytest.mark.parametrize("bank", [False, True], ids=["batch", "bank"])
def test_triplets_of_all_kinds(mining: Any, bank: bool) -> None:
    """The soft margin and the mean over active triplets, of three distances."""
    for distance in ("euclidean", "squared", "cosine"):
        y = BANK if bank else X
        found = triplets(mining, matrix(X, y, distance), bank)
        for margin in (0.3, None):

            def cost(pair: Any, margin: Any = margin) -> float:
                gap = pair[0] - pair[1]
                return float(np.log1p(np.exp(gap)) if margin is None else max(gap + margin, 0))

            costs = [[cost(pair) for pair in pairs] for pairs in found]
            run = functools.partial(
                batch_triplet_loss, mining=mining, margin=margin, distance=distance, **given(bank)
            )
            each = [float(np.mean(x)) if x else 0.0 for x in costs]
            np.testing.assert_allclose(run(X, LABELS), each, rtol=2e-5, atol=2e-6)
            sums, every = [sum(x) for x in costs], [x for some in costs for x in some if x > 0]
            active = functools.partial(run, average="active")
            np.testing.assert_allclose(active(X, LABELS), sums, rtol=2e-5, atol=2e-6)
            mean = active(X, LABELS, reduction="mean")
            np.testing.assert_allclose(mean, np.mean(every), rtol=2e-5)
            assert Mean.of(active, X, LABELS).weight == len(every)
            assert margin is None or 0 < len(every) < sum(map(len, costs)) or mining == "hard"


def test_a_mean_over_active_triplets_adds_over_halves_of_a_bank() -> None:
    """Each microbatch has other anchors: the mean of both is that of all their triplets."""
    run = functools.partial(
        batch_triplet_loss, mining="all", margin=0.3, average="active", **given(True)
    )
    parts = Mean.of(run, X[:3], LABELS[:3]) + Mean.of(run, X[3:], LABELS[3:])
    np.testing.assert_allclose(parts.value(), run(X, LABELS, reduction="mean"), rtol=1e-6)


def test_triplets_on_the_margin_count_as_active() -> None:
    line = np.array([[0.0], [1.0], [2.0]], np.float32)
    options: dict[str, Any] = {"mining": "all", "margin": 1.0, "where": [True, True, True]}
    run = functools.partial(batch_triplet_loss, average="active", **options)
    # Of the first the hinge is 1 - 2 + 1, of the second 1 - 1 + 1.
    np.testing.assert_array_equal(run(line, np.array([0, 0, 1])), [0, 1, 0])
    assert Mean.of(run, line, np.array([0, 0, 1])).weight == 2


def test_a_soft_margin_of_a_collapsed_network() -> None:
    """Where all are equal each triplet costs log 2, and distances have slope 0; squares a bend."""
    x = np.full((4, 2), 0.3, np.float32)
    labels = np.array([0, 0, 1, 1])
    for mining in MININGS:

        def mean(x: Any, distance: Any = "euclidean", mining: Any = mining) -> Any:
            options = {"mining": mining, "margin": None, "distance": distance}
            return batch_triplet_loss(x, labels, reduction="mean", **options)

        value, slope = jax.value_and_grad(mean)(x)
        np.testing.assert_allclose(value, np.log(2), rtol=1e-6)
        assert np.all(slope == 0)
        bend = jax.hessian(functools.partial(mean, distance="squared"))(x)
        assert np.all(np.isfinite(bend))
        assert np.any(bend != 0)


def test_the_soft_margin_bends_as_it_does() -> None:
    """Second derivatives against those of the triplets written out, which JAX finds by itself."""
    chosen = [
        (a, p, n) for a in range(7) for p in partners(a, False)[0] for n in partners(a, False)[1]
    ]
    a, p, n = (np.array(place) for place in zip(*chosen, strict=True))

    def written_out(x: Any) -> Any:
        far = jnp.sqrt(jnp.sum((x[a] - x[n]) ** 2, -1))
        return jnp.sum(jnp.log1p(jnp.exp(jnp.sqrt(jnp.sum((x[a] - x[p]) ** 2, -1)) - far)))

    def ours(x: Any) -> Any:
        losses = batch_triplet_loss(x, LABELS, mining="all", margin=None, average="active")
        return jnp.sum(losses)

    with jax.enable_x64(True):
        x = double(X)
        np.testing.assert_allclose(ours(x), written_out(x), rtol=1e-12)
        for modes in (jax.hessian, lambda f: jax.jacrev(jax.grad(f))):
            np.testing.assert_allclose(modes(ours)(x), modes(written_out)(x), atol=1e-11)


@pytest.mark.parametrize("distance", DISTANCES)
def test_all_distances(distance: Any) -> None:
    """In the losses that have them; those that are norms are the public ones."""
    d = matrix(X, X, distance)
    if isinstance(distance, int | float):
        np.testing.assert_allclose(pairwise_distance(X, norm_degree=distance), d, rtol=1e-5)
    hardest = [max(p - n + 0.5 for p, n in x) if x else 0 for x in triplets("hard", d, False)]
    run = functools.partial(batch_triplet_loss, mining="hard", margin=0.5, distance=distance)
    np.testing.assert_allclose(run(X, LABELS), np.maximum(hardest, 0), rtol=1e-5, atol=2e-6)
    lifted, contrastive = [], []
    for a in range(len(X)):
        p, n = partners(a, False)
        near, far = np.log(np.sum(np.exp(d[a, p]))) if p else 0, np.log(np.sum(np.exp(-d[a, n])))
        lifted.append(max(near + far + 0.5, 0) if p else 0)
        pull = np.mean(np.maximum(d[a, p] - 0.2, 0)) if p else 0
        contrastive.append(pull + np.mean(np.maximum(1.5 - d[a, n], 0)))
    found = lifted_structure_loss(X, LABELS, margin=0.5, distance=distance)
    np.testing.assert_allclose(found, lifted, rtol=1e-5, atol=2e-6)
    found = batch_contrastive_loss(X, LABELS, pos_margin=0.2, neg_margin=1.5, distance=distance)
    np.testing.assert_allclose(found, contrastive, rtol=1e-5, atol=2e-6)


def test_contrastive_by_hand() -> None:
    line, labels = np.array([[0.0], [1.0], [1.5], [3.0]], np.float32), np.array([0, 0, 1, 1])
    np.testing.assert_allclose(batch_contrastive_loss(line, labels), [1, 1.25, 1.75, 1.5])
    one = functools.partial(batch_contrastive_loss, line, labels, pos_margin=0.5, neg_margin=2.0)
    positive, negative = np.array([0.5, 0.5, 1, 1]), np.array([0.25, 0.75, 1, 0])
    np.testing.assert_allclose(one(pairs="positive"), positive)
    np.testing.assert_allclose(one(pairs="negative"), negative)
    np.testing.assert_allclose(one(), positive + negative)
    # Of 8 ordered pairs of two labels 4 are nearer than 2; the last is 2 away from the second.
    np.testing.assert_allclose(one(pairs="negative", average="active"), [0.5, 1.5, 2, 0])
    weight = Mean.of(
        functools.partial(one.func, **one.keywords, average="active"), line, labels
    ).weight
    assert weight == 4 + 4
    alone = np.arange(4)
    assert np.all(one.func(line, alone, pairs="positive", reduction="mean") == 0)


def test_ties_on_both_margins_train() -> None:
    x, labels = jnp.array([[0.0], [1.0], [3.0]]), np.array([0, 0, 1])

    def first(x: Any) -> Any:
        return batch_contrastive_loss(x, labels, pos_margin=1.0, neg_margin=3.0)[0]

    value, slope = jax.value_and_grad(first)(x)
    assert value == 0
    # The positive is drawn with slope 1, the negative pushed, with slope 1.
    np.testing.assert_allclose(slope[:, 0], [-1 + 1, 1, -1])


def test_contrastive_of_nan_is_nan() -> None:
    x = X.copy()
    x[3, 1] = np.nan
    for average in ("anchors", "active"):
        losses = batch_contrastive_loss(x, LABELS, average=average)
        # All meet it, near or far.
        assert np.all(np.isnan(losses))


def test_contrastive_as_in_pytorch_metric_learning() -> None:
    """The mean over positives that cost something, plus that over negatives; its defaults."""
    for bank in (False, True):
        d = matrix(X, BANK if bank else X, "euclidean")
        costs: Any = {"positive": [], "negative": []}
        for a in range(len(X)):
            p, n = partners(a, bank)
            costs["positive"] += list(np.maximum(d[a, p], 0))
            costs["negative"] += list(np.maximum(1 - d[a, n], 0))
        means = {kind: np.mean([x for x in all_ if x > 0]) for kind, all_ in costs.items()}
        for pairs in ("positive", "negative"):
            found = batch_contrastive_loss(
                X, LABELS, pairs=pairs, average="active", reduction="mean", **given(bank)
            )
            np.testing.assert_allclose(found, means[pairs], rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"distance": "manhattan"},
            ValueError,
            "^distance must be 'euclidean', 'squared', 'cosine'",
        ),
        ({"distance": 0.5}, ValueError, "^distance must be .* or a number of at least 1, got 0.5"),
        (
            {"distance": np.nan},
            ValueError,
            "^distance must be .* or a number of at least 1, got nan",
        ),
        (
            {"distance": None},
            ValueError,
            "^distance must be .* or a number of at least 1, got None",
        ),
    ],
)
def test_bad_distances(options: Any, error: Any, message: str) -> None:
    for loss in (batch_triplet_loss, batch_contrastive_loss, lifted_structure_loss):
        with pytest.raises(error, match=message):
            loss(X, LABELS, **options)


def test_bad_settings() -> None:
    for loss in (batch_triplet_loss, batch_contrastive_loss):
        with pytest.raises(
            ValueError, match=r"^average must be one of 'anchors', 'active', got 'all"
        ):
            loss(X, LABELS, average="all")  # type: ignore[arg-type]
    with pytest.raises(
        ValueError, match=r"^pairs must be one of 'both', 'positive', 'negative', got"
    ):
        batch_contrastive_loss(X, LABELS, pairs="all")  # type: ignore[arg-type]
