"""The losses of pairs and triplets, live against PyTorch and optax.

A peer that is not installed is skipped.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxloss
from tests.regression.test_parity import EPS, as_jax_ships, evaluated

_RNG = np.random.default_rng(5)
# Nowhere a tie, nor a pair at its margin.
NUMBERS = _RNG.normal(0, 2, (2, 64)).astype(np.float32)
VECTORS = _RNG.normal(0, 2, (3, 64, 6)).astype(np.float32)
SIGNS = np.where(_RNG.uniform(size=64) < 0.5, -1, 1).astype(np.float32)


def of_torch(name: str, *inputs: Any, labels: Any = None, **options: Any) -> tuple[Any, Any]:
    """The losses, and the derivatives of their sum in each input."""
    torch = pytest.importorskip("torch")
    tensors = [torch.tensor(x, requires_grad=True) for x in inputs]
    given = [] if labels is None else [torch.tensor(labels)]
    loss = getattr(torch.nn.functional, name)
    losses = loss(*tensors, *given, reduction="none", **options)
    losses.sum().backward()
    return losses.detach().numpy(), [x.grad.numpy() for x in tensors]


def of_ours(loss: Any, *inputs: Any, labels: Any = None, **options: Any) -> tuple[Any, Any]:
    given = () if labels is None else (labels,)
    return evaluated(lambda *x: loss(*x, *given, **options), *inputs)


def close(ours: Any, theirs: Any, units: float = 8) -> None:
    """In units of eps of the largest number."""
    for mine, other in zip([ours[0], *ours[1]], [theirs[0], *theirs[1]], strict=True):
        largest = float(np.abs(other).max())
        np.testing.assert_allclose(mine, other, rtol=0, atol=units * EPS * largest)


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
    theirs = of_torch(name, *inputs, labels=SIGNS, margin=margin)
    close(of_ours(loss, *inputs, labels=SIGNS, margin=margin), theirs)


@pytest.mark.parametrize("margin", [0.0, 0.3, -0.5])
def test_torch_cosine_embedding(margin: float) -> None:
    """PyTorch adds 1e-12 to squares of norms."""
    theirs = of_torch("cosine_embedding_loss", *VECTORS[:2], labels=SIGNS, margin=margin)
    ours = of_ours(jaxloss.cosine_embedding_loss, *VECTORS[:2], labels=SIGNS, margin=margin)
    close(ours, theirs, units=16)


def test_torch_pushes_zero_vectors_a_million_times_too_hard() -> None:
    zero, other, label = np.zeros((1, 2), np.float32), np.array([[3, 4]], np.float32), [1.0]
    _, (theirs, _) = of_torch("cosine_embedding_loss", zero, other, labels=label)
    assert np.linalg.norm(theirs) > 1e5
    _, (ours, _) = of_ours(
        jaxloss.cosine_embedding_loss, zero, other, labels=np.array(label, np.float32)
    )
    np.testing.assert_array_equal(ours, zero)


def test_torch_loses_small_vectors() -> None:
    tiny, label = np.array([[3e-8, 4e-8]], np.float32), np.array([1.0], np.float32)
    theirs, _ = of_torch("cosine_embedding_loss", tiny, tiny, labels=label)
    assert theirs[0] > 0.9
    ours, _ = of_ours(jaxloss.cosine_embedding_loss, tiny, tiny, labels=label)
    assert ours[0] < 1e-12


def test_torch_trains_nothing_with_labels_of_0() -> None:
    """Its hinge has then the loss `margin` and no gradient; here 0 is as good as -1."""
    distances, zeros = np.array([0.25], np.float32), np.zeros(1, np.float32)
    losses, (slope,) = of_torch("hinge_embedding_loss", distances, labels=zeros)
    assert (losses[0], slope[0]) == (1, 0)
    losses, (slope,) = of_ours(jaxloss.hinge_embedding_loss, distances, labels=zeros)
    assert (losses[0], slope[0]) == (0.75, -1)


@pytest.mark.parametrize("k", [1, 1.5, 2, 3])
@pytest.mark.parametrize("swap", [False, True])
def test_torch_triplet(k: float, swap: bool) -> None:
    theirs = of_torch("triplet_margin_loss", *VECTORS, p=k, eps=0, swap=swap, margin=1.25)
    options = {"norm_degree": k, "eps": 0.0, "swap": swap, "margin": 1.25}
    close(of_ours(jaxloss.triplet_margin_loss, *VECTORS, **options), theirs, units=16)


def test_torch_triplet_adds_eps_to_differences() -> None:
    a, p, n = VECTORS
    theirs = of_torch("triplet_margin_loss", a, p, n, eps=0.25)
    shifted = of_ours(jaxloss.triplet_margin_loss, a + np.float32(0.25), p, n, eps=0.0)
    close(shifted, theirs, units=16)


def test_torch_halves_the_slope_of_a_swap_at_a_tie() -> None:
    a, p, n = (np.array([x], np.float32) for x in ([2.0, 0.0], [-2.0, 0.0], [0.0, 0.0]))
    _, (_, _, theirs) = of_torch("triplet_margin_loss", a, p, n, eps=0, swap=True)
    np.testing.assert_array_equal(theirs, [[0, 0]])
    _, (_, _, ours) = of_ours(jaxloss.triplet_margin_loss, a, p, n, eps=0.0, swap=True)
    np.testing.assert_array_equal(ours, [[1, 0]])


@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize("own", [False, True])
def test_torch_triplet_with_distance(swap: bool, own: bool) -> None:
    torch = pytest.importorskip("torch")
    name = "triplet_margin_with_distance_loss"
    of = functools.partial(of_torch, name, *VECTORS, swap=swap, margin=1.25)
    loss = functools.partial(of_ours, getattr(jaxloss, name), *VECTORS, swap=swap, margin=1.25)
    if own:
        theirs = of(distance_function=lambda u, v: torch.amax(abs(u - v), -1))
        ours = loss(distance_function=lambda u, v: jnp.max(jnp.abs(u - v), -1))
        close(ours, theirs)
    else:
        euclidean = functools.partial(torch.nn.functional.pairwise_distance, eps=0)
        close(loss(), of(distance_function=euclidean), units=16)


@pytest.mark.parametrize("k", [2, 4])
@pytest.mark.parametrize("eps", [1e-6, 0.5])
def test_optax_triplet(k: int, eps: float) -> None:
    """By position, as optax has it."""
    losses = pytest.importorskip("optax.losses")
    with as_jax_ships():
        of = losses.triplet_margin_loss
        theirs = evaluated(lambda a, p, n: of(a, p, n, -1, k, 1.25, eps), *VECTORS)
    own = jaxloss.triplet_margin_loss
    ours = evaluated(lambda a, p, n: own(a, p, n, -1, k, 1.25, eps), *VECTORS)
    close(ours, theirs, units=16)


def test_optax_triplet_has_its_defaults() -> None:
    losses = pytest.importorskip("optax.losses")
    with as_jax_ships():
        theirs = evaluated(losses.triplet_margin_loss, *VECTORS)
    close(evaluated(jaxloss.triplet_margin_loss, *VECTORS), theirs, units=16)


@pytest.mark.parametrize("k", [1, 1.5, 3])
def test_optax_has_no_absolute_value(k: float) -> None:
    """So that it sums differences that cancel, and takes roots of negative numbers."""
    losses = pytest.importorskip("optax.losses")
    with as_jax_ships():
        theirs = losses.triplet_margin_loss(*VECTORS, norm_degree=k)
    a, p, n = VECTORS.astype(np.float64)
    near, far = (np.sum(np.abs(a - x) ** k, -1) ** (1 / k) for x in (p, n))
    right = np.maximum(near - far + 1, 0)
    ours = jaxloss.triplet_margin_loss(*VECTORS, norm_degree=k)
    np.testing.assert_allclose(ours, right, rtol=1e-5, atol=1e-5)
    wrong = ~(np.abs(np.asarray(theirs) - right) < 0.1)
    assert np.mean(wrong) > 0.5


def test_optax_has_nan_slopes_at_equal_points_without_eps() -> None:
    losses = pytest.importorskip("optax.losses")
    x, other = jnp.array([0.5, -2.0]), jnp.array([0.5, 0.0])
    with as_jax_ships():
        theirs = jax.grad(functools.partial(losses.triplet_margin_loss, eps=0.0))(x, x, other)
    assert np.all(np.isnan(theirs))
    ours = jax.grad(functools.partial(jaxloss.triplet_margin_loss, eps=0.0, margin=3.0))(
        x, x, other
    )
    np.testing.assert_allclose(ours, [0, 1], atol=1e-6)
