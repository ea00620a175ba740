"""The binary and multi-label losses of PyTorch, optax and Keras, where those are right."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import jaxloss
from tests.laws.peers import (
    Row,
    compare,
    evaluated,
    float32,
    of_keras,
    of_optax,
    of_torch,
    rows,
    torch_loss,
)

_RNG = np.random.default_rng(6)
LOGITS = float32(3 * _RNG.normal(size=(12, 5)))
LABELS = _RNG.integers(0, 2, (12, 5))
SIGNS = 2 * LABELS - 1
SOFT = float32(_RNG.uniform(size=(12, 5)))[0]
WEIGHTS = float32(_RNG.uniform(0.2, 2, 5))[0]
# PyTorch's lists of classes, each ended by -1.
LISTS = np.array([[0, 2, -1, 1, 1], [4, -1, 0, 0, 0], [-1, 3, 3, 3, 3], [1, 0, 3, 4, 2]])
SCORES = float32(_RNG.normal(size=(4, 5)))


def row(name: str, ours: Any, theirs: Any, inputs: Any = LOGITS, largest: Any = 1.0) -> Row:
    """Of sums over the classes, or of differences from 1: terms of the size of 1."""
    return Row(name, ours, theirs, inputs, largest)


@rows(
    row(
        "bce-with-logits",
        lambda x: jaxloss.sigmoid_binary_cross_entropy(x, LABELS),
        lambda F, x: F.binary_cross_entropy_with_logits(x, x.new_tensor(LABELS), reduction="none"),
    ),
    row(
        "bce-with-logits-soft-and-pos-weight",
        lambda x, y: jaxloss.sigmoid_binary_cross_entropy(x, y, pos_weight=WEIGHTS),
        lambda F, x, y: F.binary_cross_entropy_with_logits(
            x, y, pos_weight=x.new_tensor(WEIGHTS), reduction="none"
        ),
        (*LOGITS, SOFT),
        largest=10.0,
    ),
    row(
        "bce-with-logits-weighted-mean",
        lambda x: jnp.mean(jaxloss.sigmoid_binary_cross_entropy(x, LABELS, weights=WEIGHTS[None])),
        lambda F, x: F.binary_cross_entropy_with_logits(
            x, x.new_tensor(LABELS), weight=x.new_tensor(WEIGHTS)
        ),
    ),
    row(
        "bce",
        lambda p: jaxloss.binary_cross_entropy(p, SOFT),
        lambda F, p: F.binary_cross_entropy(p, p.new_tensor(SOFT), reduction="none"),
        float32(_RNG.uniform(0.01, 0.99, (12, 5))),
    ),
    row(
        "soft-margin",
        lambda x: jaxloss.soft_margin_loss(x, SIGNS),
        lambda F, x: F.soft_margin_loss(x, x.new_tensor(SIGNS), reduction="none"),
    ),
    row(
        "multilabel-margin",
        lambda x: jaxloss.multilabel_margin_loss(x, jaxloss.multi_hot(LISTS, 5)),
        lambda F, x: F.multilabel_margin_loss(x, x.new_tensor(LISTS).long(), reduction="none"),
        SCORES,
        largest=10.0,
    ),
    row(
        "multilabel-soft-margin",
        lambda x: jaxloss.multilabel_soft_margin_loss(x, LABELS, class_weights=WEIGHTS),
        lambda F, x: F.multilabel_soft_margin_loss(
            x, x.new_tensor(LABELS), weight=x.new_tensor(WEIGHTS), reduction="none"
        ),
        largest=10.0,
    ),
)
def test_torch(row: Row) -> None:
    compare(row, of_torch(row.theirs, *row.inputs))


@rows(
    row(
        "sigmoid-cross-entropy",
        jaxloss.sigmoid_binary_cross_entropy,
        lambda o, x, y: o.sigmoid_binary_cross_entropy(x, y),
        (*LOGITS, SOFT),
        largest=10.0,
    ),
    row(
        "focal",
        lambda x: jaxloss.sigmoid_focal_loss(x, LABELS, alpha=0.25, gamma=2.0),
        lambda o, x: o.sigmoid_focal_loss(x, jnp.asarray(LABELS, x.dtype), alpha=0.25, gamma=2.0),
    ),
    row(
        "hinge",
        lambda x: jaxloss.hinge_loss(x, SIGNS),
        lambda o, x: o.hinge_loss(x, jnp.asarray(SIGNS, x.dtype)),
    ),
    row(
        "perceptron",
        lambda x: jaxloss.perceptron_loss(x, SIGNS),
        lambda o, x: o.perceptron_loss(x, jnp.asarray(SIGNS, x.dtype)),
    ),
    row(
        "sparsemax",
        lambda x: jaxloss.sparsemax_loss(x, LABELS),
        lambda o, x: o.sparsemax_loss(x, jnp.asarray(LABELS, x.dtype)),
    ),
)
def test_optax(row: Row) -> None:
    compare(row, of_optax(row.theirs, *row.inputs))


@rows(
    row(
        "binary-cross-entropy",
        lambda x: jnp.mean(
            jaxloss.sigmoid_binary_cross_entropy(x, LABELS, label_smoothing=0.1), -1
        ),
        lambda k, x: k.binary_crossentropy(
            jnp.asarray(LABELS, x.dtype), x, from_logits=True, label_smoothing=0.1
        ),
    ),
    row(
        "hinge",
        lambda x: jnp.mean(jaxloss.hinge_loss(x, LABELS), -1),
        lambda k, x: k.hinge(jnp.asarray(LABELS, x.dtype), x),
    ),
    row(
        "squared-hinge",
        lambda x: jnp.mean(jaxloss.squared_hinge_loss(x, LABELS), -1),
        lambda k, x: k.squared_hinge(jnp.asarray(LABELS, x.dtype), x),
        largest=10.0,
    ),
    row(
        "focal",
        lambda x: jnp.mean(jaxloss.sigmoid_focal_loss(x, LABELS), -1),
        lambda k, x: k.binary_focal_crossentropy(jnp.asarray(LABELS, x.dtype), x, from_logits=True),
        float32(np.clip(LOGITS[0], -3, 3)),
    ),
    row(
        "focal-of-probabilities",
        lambda p: jnp.mean(
            jaxloss.sigmoid_focal_loss(p, LABELS, alpha=0.25, apply_sigmoid=False), -1
        ),
        lambda k, p: k.binary_focal_crossentropy(jnp.asarray(LABELS, p.dtype), p, True),
        float32(1 / (1 + np.exp(-np.clip(LOGITS[0], -3, 3)))),
    ),
)
def test_keras(row: Row) -> None:
    compare(row, of_keras(row.theirs, *row.inputs))


@pytest.mark.parametrize("name", ["hinge_loss", "perceptron_loss"])
def test_of_bits_optax_trains_half(name: str) -> None:
    """Labels 0 and 1 where -1 and 1 are meant: a negative has no gradient, whatever its score."""
    x, bits = float32([3.0, -3.0], [0.0, 1.0])
    _, (theirs,) = of_optax(lambda o, x: getattr(o, name)(x, bits), x)
    assert theirs[0] == 0
    _, (ours,) = evaluated(lambda x: getattr(jaxloss, name)(x, bits), x)
    np.testing.assert_array_equal(ours, [1, -1])


def test_infinite_logits_are_nan_in_optax_and_torch() -> None:
    x, bits = float32([np.inf, -np.inf], [1, 0])
    theirs, _ = of_optax(lambda o, x: o.sigmoid_binary_cross_entropy(x, bits), x)
    assert np.all(np.isnan(theirs))
    theirs, _ = of_torch(torch_loss("binary_cross_entropy_with_logits", labels=bits), x)
    assert np.all(np.isnan(theirs))
    np.testing.assert_array_equal(jaxloss.sigmoid_binary_cross_entropy(x, [1, 0]), [0, 0])


def test_torch_reads_a_logarithm_below_minus_100_as_minus_100() -> None:
    p, ones = float32([0.0, 1e-44], [1.0, 1.0])
    theirs, _ = of_torch(torch_loss("binary_cross_entropy", labels=ones), p)
    np.testing.assert_array_equal(theirs, [100, 100])
    assert np.all(np.asarray(jaxloss.binary_cross_entropy(p, [1, 1])) > 100)
