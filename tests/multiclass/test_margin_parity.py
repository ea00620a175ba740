"""The margin losses of several classes, live against PyTorch, optax and Keras.

A peer that is not installed is skipped.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxloss
from tests.regression.test_parity import EPS, as_jax_ships, evaluated

_RNG = np.random.default_rng(5)
# Nowhere a tie, nor a class at the margin.
SCORES = _RNG.normal(0, 2, (64, 7)).astype(np.float32)
LABELS = _RNG.integers(0, 7, 64)
WEIGHTS = _RNG.uniform(0.3, 3, 7).astype(np.float32)


def of_torch(scores: np.ndarray, labels: np.ndarray, **options: Any) -> tuple[Any, Any]:
    torch = pytest.importorskip("torch")
    x = torch.tensor(scores, requires_grad=True)
    if "weight" in options:
        options["weight"] = torch.tensor(options["weight"])
    loss = torch.nn.functional.multi_margin_loss
    losses = loss(x, torch.tensor(labels), reduction="none", **options)
    losses.sum().backward()
    return losses.detach().numpy(), x.grad.numpy()


def of_jax(loss: Callable[..., Any], *inputs: Any) -> tuple[Any, Any]:
    losses, (slopes,) = evaluated(loss, *inputs)
    return losses, slopes


def close(ours: Any, theirs: Any, largest: float) -> None:
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, other, rtol=8 * EPS, atol=8 * EPS * largest)


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("margin", [1.0, 0.25, 3.0])
@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "weighted"])
def test_torch(p: Any, margin: float, weights: Any) -> None:
    given = {} if weights is None else {"weight": weights}
    theirs = of_torch(SCORES, LABELS, p=p, margin=margin, **given)
    options = {"p": p, "margin": margin, "class_weights": weights}
    loss = functools.partial(jaxloss.multi_margin_loss, labels=LABELS, **options)
    close(of_jax(loss, SCORES), theirs, largest=float(np.abs(theirs[0]).max()))


def test_torch_does_not_train_at_the_margin() -> None:
    scores = np.array([[1.0, 0.0, 0.0, -5.0]], np.float32)
    np.testing.assert_array_equal(of_torch(scores, np.array([0]))[1], 0 * scores)
    _, ours = of_jax(lambda x: jaxloss.multi_margin_loss(x, jnp.array([0])), scores)
    np.testing.assert_array_equal(ours, [[-0.5, 0.25, 0.25, 0]])


OF_OPTAX = ["multiclass_hinge_loss", "multiclass_perceptron_loss", "multiclass_sparsemax_loss"]


@pytest.mark.parametrize("name", OF_OPTAX)
def test_optax(name: str) -> None:
    peer = getattr(pytest.importorskip("optax.losses"), name)
    labels = jnp.asarray(LABELS)
    with as_jax_ships():
        theirs = of_jax(lambda x: peer(x, labels), SCORES)
    ours = of_jax(lambda x: getattr(jaxloss, name)(x, labels), SCORES)
    close(ours, theirs, largest=float(np.abs(SCORES).max()))


@pytest.mark.parametrize("name", OF_OPTAX)
def test_optax_has_a_number_for_a_class_that_is_not_there(name: str) -> None:
    peer = getattr(pytest.importorskip("optax.losses"), name)
    with as_jax_ships():
        theirs, _ = of_jax(lambda x: peer(x, jnp.array([7])), SCORES[:1])
    assert np.all(np.isfinite(theirs))
    ours = of_jax(lambda x: getattr(jaxloss, name)(x, jnp.array([7])), SCORES[:1])
    assert all(np.all(np.isnan(x)) for x in ours)


@pytest.mark.parametrize("name", OF_OPTAX[:2])
def test_optax_has_nan_eagerly_beside_a_score_of_minus_infinity(name: str) -> None:
    peer = getattr(pytest.importorskip("optax.losses"), name)
    scores, labels = jnp.array([[0.5, 0.0, -jnp.inf]]), jnp.array([1])
    with as_jax_ships(), jax.disable_jit():
        assert np.all(np.isnan(peer(scores, labels)))
    ours = vars(getattr(jaxloss, name))["__wrapped__"](scores, labels)
    assert np.all(np.isfinite(ours))


def test_optax_takes_no_single_example_of_sparsemax() -> None:
    losses = pytest.importorskip("optax.losses")
    with as_jax_ships(), pytest.raises(ValueError, match="vmap"):
        losses.multiclass_sparsemax_loss(SCORES[0], LABELS[0])
    one = jaxloss.multiclass_sparsemax_loss(SCORES[0], LABELS[0])
    np.testing.assert_array_equal(one, jaxloss.multiclass_sparsemax_loss(SCORES, LABELS)[0])


def test_optax_fenchel_young() -> None:
    losses = pytest.importorskip("optax.losses")
    function = jax.scipy.special.logsumexp
    targets = np.asarray(jax.nn.softmax(SCORES[::-1]))
    with as_jax_ships():
        theirs = evaluated(losses.make_fenchel_young_loss(function), SCORES, targets)
    ours = evaluated(jaxloss.make_fenchel_young_loss(function), SCORES, targets)
    close([ours[0], *ours[1]], [theirs[0], *theirs[1]], largest=float(np.abs(SCORES).max()))


def test_keras() -> None:
    keras = pytest.importorskip("keras")
    # Keras has a 0 among the scores of the others, so that those must not all be below it.
    scores = SCORES + 20
    with as_jax_ships():
        hot = jax.nn.one_hot(LABELS, 7)
        theirs = of_jax(lambda x: keras.losses.categorical_hinge(hot, x), scores)
    labels = jnp.asarray(LABELS)
    ours = of_jax(lambda x: jaxloss.multiclass_hinge_loss(x, labels), scores)
    close(ours, theirs, largest=float(np.abs(scores).max()))
