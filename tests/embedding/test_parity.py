"""The losses of cosines, pairs and triplets, live against PyTorch, optax and Keras."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxloss
from tests.laws import values
from tests.laws.peers import (
    Evaluated,
    Row,
    alike,
    as_jax_ships,
    compare,
    evaluated,
    float32,
    of_keras,
    of_optax,
    of_torch,
    rows,
    torch_loss,
)
from tests.laws.values import EPS, single

_RNG = np.random.default_rng(5)
# Nowhere a tie, nor a pair at its margin.
NUMBERS = _RNG.normal(0, 2, (2, 64)).astype(np.float32)
VECTORS = _RNG.normal(0, 2, (3, 64, 6)).astype(np.float32)
SIGNS = np.where(_RNG.uniform(size=64) < 0.5, -1, 1).astype(np.float32)
PAIRS = float32(*_RNG.normal(size=(2, 6, 5)))
ENTRIES = _RNG.uniform(size=(6, 5)) < 0.6
ENTRIES[0] = True


@rows(
    Row(
        "cosine_similarity",
        jaxloss.cosine_similarity,
        lambda F, p, t: F.cosine_similarity(p, t, dim=-1),
        PAIRS,
        largest=1,
    ),
)
def test_torch_cosines(row: Row) -> None:
    compare(row, of_torch(row.theirs, *row.inputs))


@rows(
    *(
        Row(
            f"{name}-{label}",
            lambda p, t, name=name, options=options: getattr(jaxloss, name)(p, t, **options),
            lambda o, p, t, name=name, options=options: getattr(o, name)(p, t, **options),
            PAIRS,
            largest=1,
        )
        for name in ("cosine_similarity", "cosine_distance")
        for label, options in {
            "plain": {},
            # Above some of the squared norms and below others.
            "epsilon": {"epsilon": 5.0},
            "axis": {"axis": 0},
            "where": {"where": ENTRIES},
        }.items()
    ),
)
def test_optax_cosines(row: Row) -> None:
    compare(row, of_optax(row.theirs, *row.inputs))


@rows(
    Row(
        "cosine_similarity",
        jaxloss.cosine_similarity,
        lambda k, p, t: -k.cosine_similarity(t, p),
        PAIRS,
        largest=1,
    ),
)
def test_keras_cosines(row: Row) -> None:
    compare(row, of_keras(row.theirs, *row.inputs))


ZERO_AND_UNIT = float32([[0.0, 0.0, 0.0]], [[1.0, 2.0, 2.0]])


def test_peers_have_no_usable_cosine_at_a_zero_vector() -> None:
    losses, (slopes, _) = of_optax(lambda o, a, b: o.cosine_similarity(a, b), *ZERO_AND_UNIT)
    assert np.all(np.isnan(losses))
    assert np.all(np.isnan(slopes))
    _, (slopes, _) = of_keras(lambda k, a, b: -k.cosine_similarity(b, a), *ZERO_AND_UNIT)
    assert np.all(np.isnan(slopes))
    _, (slopes, _) = of_torch(lambda F, a, b: F.cosine_similarity(a, b), *ZERO_AND_UNIT)
    assert np.linalg.norm(slopes) > 1e7


def test_the_cosine_with_a_zero_vector_is_0_here_with_derivative_0() -> None:
    losses, slopes = evaluated(jaxloss.cosine_similarity, *ZERO_AND_UNIT)
    np.testing.assert_array_equal(losses, [0])
    np.testing.assert_array_equal(slopes, np.zeros((2, 1, 3)))


@pytest.mark.parametrize("size", [1e20, 1e-25])
def test_optax_loses_the_cosine_of_large_and_small_vectors(size: float) -> None:
    (vector,) = float32(ZERO_AND_UNIT[1] * size)
    losses, _ = of_optax(lambda o, a: o.cosine_similarity(a, ZERO_AND_UNIT[1]), vector)
    assert losses[0] in (0, np.inf)
    ours = jaxloss.cosine_similarity(vector, ZERO_AND_UNIT[1])
    np.testing.assert_allclose(ours, [1], rtol=8 * EPS)


def test_optax_has_vectors_at_a_negative_distance_from_themselves() -> None:
    vectors = PAIRS[0].repeat(8, axis=0) * np.arange(1, 49, dtype=np.float32)[:, None]
    assert np.any(of_optax(lambda o, a: o.cosine_distance(a, a), vectors)[0] < 0)
    ours = np.asarray(jaxloss.cosine_distance(vectors, vectors))
    assert np.all((ours >= 0) & (ours < EPS))


def test_optax_lets_a_masked_nan_into_the_derivative() -> None:
    dirty = float32([[1.0, 2.0, np.nan]], ZERO_AND_UNIT[1])
    kept = np.array([[True, True, False]])
    _, (slopes, _) = of_optax(lambda o, a, b: o.cosine_similarity(a, b, where=kept), *dirty)
    assert np.any(np.isnan(slopes))
    losses, slopes = evaluated(lambda a, b: jaxloss.cosine_similarity(a, b, where=kept), *dirty)
    np.testing.assert_allclose(losses, [1], rtol=8 * EPS)
    np.testing.assert_allclose(slopes, np.zeros((2, 1, 3)), atol=8 * EPS)


# Of pairs and triplets.


def torchs(name: str, *inputs: Any, labels: Any = None, **options: Any) -> Evaluated:
    return of_torch(torch_loss(name, labels=labels, **options), *inputs)


def of_ours(loss: Any, *inputs: Any, labels: Any = None, **options: Any) -> Evaluated:
    given = () if labels is None else (labels,)
    return evaluated(lambda *x: loss(*x, *given, **options), *inputs)


def near(ours: Evaluated, theirs: Evaluated, units: float = 4) -> None:
    """In units of eps: of each number, and of the largest."""
    alike(ours, theirs, rtol=units * EPS, largest=None)


@pytest.mark.parametrize("margin", [0.0, 0.3, 2.0])
@pytest.mark.parametrize(
    ("name", "inputs"),
    [
        ("margin_ranking_loss", NUMBERS),
        ("hinge_embedding_loss", np.abs(NUMBERS[:1])),
    ],
)
def test_torch_of_numbers(name: str, inputs: Any, margin: float) -> None:
    loss = getattr(jaxloss, name)
    theirs = torchs(name, *inputs, labels=SIGNS, margin=margin)
    near(of_ours(loss, *inputs, labels=SIGNS, margin=margin), theirs)


@pytest.mark.parametrize("margin", [0.0, 0.3, -0.5])
def test_torch_cosine_embedding(margin: float) -> None:
    """PyTorch adds 1e-12 to squares of norms."""
    theirs = torchs("cosine_embedding_loss", *VECTORS[:2], labels=SIGNS, margin=margin)
    ours = of_ours(jaxloss.cosine_embedding_loss, *VECTORS[:2], labels=SIGNS, margin=margin)
    near(ours, theirs, units=8)


def test_torch_pushes_zero_vectors_a_million_times_too_hard() -> None:
    zero, other, label = np.zeros((1, 2), np.float32), np.array([[3, 4]], np.float32), [1.0]
    _, (theirs, _) = torchs("cosine_embedding_loss", zero, other, labels=label)
    assert np.linalg.norm(theirs) > 1e5
    _, (ours, _) = of_ours(
        jaxloss.cosine_embedding_loss, zero, other, labels=np.array(label, np.float32)
    )
    np.testing.assert_array_equal(ours, zero)


def test_torch_loses_small_vectors() -> None:
    tiny, label = np.array([[3e-8, 4e-8]], np.float32), np.array([1.0], np.float32)
    theirs, _ = torchs("cosine_embedding_loss", tiny, tiny, labels=label)
    assert theirs[0] > 0.9
    ours, _ = of_ours(jaxloss.cosine_embedding_loss, tiny, tiny, labels=label)
    assert ours[0] < 1e-12


def test_torch_trains_nothing_with_labels_of_0() -> None:
    """Its hinge has then the loss `margin` and no gradient; here 0 is as good as -1."""
    distances, zeros = np.array([0.25], np.float32), np.zeros(1, np.float32)
    losses, (slope,) = torchs("hinge_embedding_loss", distances, labels=zeros)
    assert (losses[0], slope[0]) == (1, 0)
    losses, (slope,) = of_ours(jaxloss.hinge_embedding_loss, distances, labels=zeros)
    assert (losses[0], slope[0]) == (0.75, -1)


@pytest.mark.parametrize("k", [1, 1.5, 2, 3])
@pytest.mark.parametrize("swap", [False, True])
def test_torch_triplet(k: float, swap: bool) -> None:
    theirs = torchs("triplet_margin_loss", *VECTORS, p=k, eps=0, swap=swap, margin=1.25)
    options = {"norm_degree": k, "eps": 0.0, "swap": swap, "margin": 1.25}
    near(of_ours(jaxloss.triplet_margin_loss, *VECTORS, **options), theirs, units=8)


def test_torch_triplet_adds_eps_to_differences() -> None:
    a, p, n = VECTORS
    theirs = torchs("triplet_margin_loss", a, p, n, eps=0.25)
    shifted = of_ours(jaxloss.triplet_margin_loss, a + np.float32(0.25), p, n, eps=0.0)
    near(shifted, theirs, units=8)


def test_torch_halves_the_slope_of_a_swap_at_a_tie() -> None:
    a, p, n = (np.array([x], np.float32) for x in ([2.0, 0.0], [-2.0, 0.0], [0.0, 0.0]))
    _, (_, _, theirs) = torchs("triplet_margin_loss", a, p, n, eps=0, swap=True)
    np.testing.assert_array_equal(theirs, [[0, 0]])
    _, (_, _, ours) = of_ours(jaxloss.triplet_margin_loss, a, p, n, eps=0.0, swap=True)
    np.testing.assert_array_equal(ours, [[1, 0]])


@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize("own", [False, True])
def test_torch_triplet_with_distance(swap: bool, own: bool) -> None:
    torch = pytest.importorskip("torch")
    name = "triplet_margin_with_distance_loss"
    of = functools.partial(torchs, name, *VECTORS, swap=swap, margin=1.25)
    loss = functools.partial(of_ours, getattr(jaxloss, name), *VECTORS, swap=swap, margin=1.25)
    if own:
        theirs = of(distance_function=lambda u, v: torch.amax(abs(u - v), -1))
        ours = loss(distance_function=lambda u, v: jnp.max(jnp.abs(u - v), -1))
        near(ours, theirs)
    else:
        euclidean = functools.partial(torch.nn.functional.pairwise_distance, eps=0)
        near(loss(), of(distance_function=euclidean), units=8)


@pytest.mark.parametrize("k", [2, 4])
@pytest.mark.parametrize("eps", [1e-6, 0.5])
def test_optax_triplet(k: int, eps: float) -> None:
    """By position, as optax has it."""
    theirs = of_optax(lambda o, *x: o.triplet_margin_loss(*x, -1, k, 1.25, eps), *VECTORS)
    own = jaxloss.triplet_margin_loss
    ours = evaluated(lambda a, p, n: own(a, p, n, -1, k, 1.25, eps), *VECTORS)
    near(ours, theirs, units=8)


def test_optax_triplet_has_its_defaults() -> None:
    theirs = of_optax(lambda o, *x: o.triplet_margin_loss(*x), *VECTORS)
    near(evaluated(jaxloss.triplet_margin_loss, *VECTORS), theirs, units=8)


@pytest.mark.parametrize("k", [1, 1.5, 3])
def test_optax_has_no_absolute_value(k: float) -> None:
    """So that it sums differences that cancel, and takes roots of negative numbers."""
    losses = pytest.importorskip("optax.losses")
    with as_jax_ships():
        theirs = jax.jit(losses.triplet_margin_loss)(*VECTORS, norm_degree=k)
    a, p, n = VECTORS.astype(np.float64)
    short, long = (np.sum(np.abs(a - x) ** k, -1) ** (1 / k) for x in (p, n))
    right = np.maximum(short - long + 1, 0)
    ours = jaxloss.triplet_margin_loss(*VECTORS, norm_degree=k)
    np.testing.assert_allclose(ours, right, rtol=1e-5, atol=1e-5)
    wrong = ~(np.abs(np.asarray(theirs) - right) < 0.1)
    assert np.mean(wrong) > 0.5


def test_optax_has_nan_slopes_at_equal_points_without_eps() -> None:
    losses = pytest.importorskip("optax.losses")
    x, other = single([0.5, -2]), single([0.5, 0])
    with as_jax_ships():
        _, (theirs,) = values.evaluated(losses.triplet_margin_loss, x, x, other, eps=0.0)
    assert np.all(np.isnan(theirs))
    loss = jaxloss.triplet_margin_loss
    _, (ours,) = values.evaluated(loss, x, x, other, eps=0.0, margin=3.0)
    np.testing.assert_allclose(ours, [0, 1], atol=1e-6)
