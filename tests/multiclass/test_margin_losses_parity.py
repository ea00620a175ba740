"""The losses of margins between classes, live against PyTorch, optax and Keras."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxloss
from tests.laws.peers import (
    alike,
    as_jax_ships,
    evaluated,
    of_keras,
    of_optax,
    of_torch,
    torch_loss,
)
from tests.laws.values import evaluated as kept

_RNG = np.random.default_rng(5)
# Nowhere a tie, nor a class at the margin.
SCORES = _RNG.normal(0, 2, (64, 7)).astype(np.float32)
LABELS = _RNG.integers(0, 7, 64)
WEIGHTS = _RNG.uniform(0.3, 3, 7).astype(np.float32)


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("margin", [1.0, 0.25, 3.0])
@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "weighted"])
def test_torch(p: Any, margin: float, weights: Any) -> None:
    peer = torch_loss("multi_margin_loss", labels=LABELS, p=p, margin=margin, weight=weights)
    theirs = of_torch(peer, SCORES)
    options = {"p": p, "margin": np.array(margin, np.float32), "class_weights": weights}
    ours: Any = kept(jaxloss.multi_margin_loss, SCORES, LABELS, **options)
    alike(ours, theirs, largest=np.abs(theirs[0]).max())


def test_torch_does_not_train_at_the_margin() -> None:
    scores = np.array([[1.0, 0.0, 0.0, -5.0]], np.float32)
    _, (theirs,) = of_torch(torch_loss("multi_margin_loss", labels=np.array([0])), scores)
    np.testing.assert_array_equal(theirs, 0 * scores)
    _, (ours,) = evaluated(lambda x: jaxloss.multi_margin_loss(x, jnp.array([0])), scores)
    np.testing.assert_array_equal(ours, [[-0.5, 0.25, 0.25, 0]])


OF_OPTAX = ["multiclass_hinge_loss", "multiclass_perceptron_loss", "multiclass_sparsemax_loss"]


@pytest.mark.parametrize("name", OF_OPTAX)
def test_optax(name: str) -> None:
    labels = jnp.asarray(LABELS)
    theirs = of_optax(lambda o, x: getattr(o, name)(x, labels), SCORES)
    ours = evaluated(lambda x: getattr(jaxloss, name)(x, labels), SCORES)
    alike(ours, theirs, largest=np.abs(SCORES).max())


@pytest.mark.parametrize("name", OF_OPTAX)
def test_optax_has_a_number_for_a_class_that_is_not_there(name: str) -> None:
    theirs, _ = of_optax(lambda o, x: getattr(o, name)(x, jnp.array([7])), SCORES[:1])
    assert np.all(np.isfinite(theirs))
    losses, slopes = evaluated(lambda x: getattr(jaxloss, name)(x, jnp.array([7])), SCORES[:1])
    assert np.all(np.isnan(losses))
    assert np.all(np.isnan(slopes))


@pytest.mark.parametrize("name", OF_OPTAX[:2])
def test_optax_has_nan_eagerly_beside_a_score_of_minus_infinity(name: str) -> None:
    peer = getattr(pytest.importorskip("optax.losses"), name)
    scores, labels = jnp.array([[0.5, 0.0, -np.inf]], jnp.float32), jnp.array([1])
    with as_jax_ships(), jax.disable_jit():
        assert np.all(np.isnan(peer(scores, labels)))
    ours = vars(getattr(jaxloss, name))["__wrapped__"](scores, labels)
    assert np.all(np.isfinite(ours))


def test_optax_takes_no_single_example_of_sparsemax() -> None:
    losses = pytest.importorskip("optax.losses")
    with as_jax_ships(), pytest.raises(ValueError, match="vmap"):
        losses.multiclass_sparsemax_loss(SCORES[0], LABELS[0])
    one = jaxloss.multiclass_sparsemax_loss(SCORES[0], LABELS[0])
    every = np.asarray(jaxloss.multiclass_sparsemax_loss(SCORES, LABELS))
    np.testing.assert_array_equal(one, every[0])


def test_optax_fenchel_young() -> None:
    function = jax.scipy.special.logsumexp
    targets = np.asarray(jax.nn.softmax(SCORES[::-1].copy()))
    theirs = of_optax(lambda o, *x: o.make_fenchel_young_loss(function)(*x), SCORES, targets)
    ours = evaluated(jaxloss.make_fenchel_young_loss(function), SCORES, targets)
    alike(ours, theirs, largest=np.abs(SCORES).max())


def test_keras() -> None:
    # Keras has a 0 among the scores of the others, so that those must not all be below it.
    scores = SCORES + 20
    hot = jnp.asarray(np.eye(7, dtype=np.float32)[LABELS])
    theirs = of_keras(lambda k, x: k.categorical_hinge(hot, x), scores)
    labels = jnp.asarray(LABELS)
    ours = evaluated(lambda x: jaxloss.multiclass_hinge_loss(x, labels), scores)
    alike(ours, theirs, largest=np.abs(scores).max())
