"""The multiclass losses of PyTorch, optax and Keras, where those are right."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxloss
from tests.laws.peers import Row, compare, float32, of_keras, of_optax, of_torch, rows

_RNG = np.random.default_rng(5)
LOGITS = float32(3 * _RNG.normal(size=(12, 5)))
LABELS = np.arange(12) % 5
HOT = np.eye(5, dtype=np.float32)[LABELS]
SOFT = float32(_RNG.dirichlet(np.ones(5), 12))[0]
WEIGHTS = float32(_RNG.uniform(0.2, 2, 5))[0]
IMAGES = float32(_RNG.normal(size=(2, 3, 4, 5)))
MAPS = _RNG.integers(0, 3, (2, 4, 5))
# Both sides compute differences of logits of this size.
LARGEST = 10.0

integer = jaxloss.softmax_cross_entropy_with_integer_labels


def row(name: str, ours: Any, theirs: Any, inputs: Any = LOGITS) -> Row:
    return Row(name, ours, theirs, inputs, LARGEST)


REDUCTIONS: tuple[Any, ...] = ("none", "mean", "sum")


def torch_labels(x: Any, labels: np.ndarray) -> Any:
    return x.new_tensor(labels).long()


@rows(
    *(
        row(
            f"cross-entropy-{reduction}-{smoothing}-{weights is not None}",
            lambda x, s=smoothing, w=weights, r=reduction: integer(
                x, LABELS, label_smoothing=s, class_weights=w, reduction=r
            ),
            lambda F, x, s=smoothing, w=weights, r=reduction: F.cross_entropy(
                x,
                torch_labels(x, LABELS),
                label_smoothing=s,
                weight=None if w is None else x.new_tensor(w),
                reduction=r,
            ),
        )
        for reduction in REDUCTIONS
        for smoothing in (0.0, 0.1)
        for weights in (None, WEIGHTS)
    ),
    row(
        "cross-entropy-soft",
        lambda x, q: jaxloss.softmax_cross_entropy(x, q, class_weights=WEIGHTS),
        lambda F, x, q: F.cross_entropy(x, q, weight=x.new_tensor(WEIGHTS), reduction="none"),
        (*LOGITS, SOFT),
    ),
    row(
        "cross-entropy-images",
        lambda x: integer(x, MAPS, axis=1),
        lambda F, x: F.cross_entropy(x, torch_labels(x, MAPS), reduction="none"),
        IMAGES,
    ),
    row(
        "nll",
        lambda x: jaxloss.nll_loss(x, MAPS, axis=1, class_weights=WEIGHTS[:3], reduction="mean"),
        lambda F, x: F.nll_loss(x, torch_labels(x, MAPS), weight=x.new_tensor(WEIGHTS[:3])),
        IMAGES,
    ),
)
def test_torch(row: Row) -> None:
    compare(row, of_torch(row.theirs, *row.inputs))


@rows(
    row(
        "integer",
        lambda x: integer(x, LABELS),
        lambda o, x: o.softmax_cross_entropy_with_integer_labels(x, LABELS),
    ),
    row(
        "images",
        lambda x: integer(x, MAPS, 1),
        lambda o, x: o.softmax_cross_entropy_with_integer_labels(x, MAPS, 1),
        IMAGES,
    ),
    row(
        "several axes",
        lambda x: integer(x, MAPS[..., 0], (1, 3)),
        lambda o, x: o.softmax_cross_entropy_with_integer_labels(x, MAPS[..., 0], (1, 3)),
        IMAGES,
    ),
    row(
        "soft",
        jaxloss.softmax_cross_entropy,
        lambda o, x, q: o.softmax_cross_entropy(x, q),
        (*LOGITS, SOFT),
    ),
    row(
        "safe",
        jaxloss.safe_softmax_cross_entropy,
        lambda o, x, q: o.safe_softmax_cross_entropy(x, q),
        (*LOGITS, SOFT),
    ),
    row(
        "masked",
        lambda x: jaxloss.softmax_cross_entropy(x, SOFT, where=SOFT > 0.1),
        lambda o, x: o.softmax_cross_entropy(x, SOFT, where=SOFT > 0.1),
    ),
    row(
        "poly",
        lambda x, q: jaxloss.poly_loss_cross_entropy(x, q, epsilon=1.5),
        lambda o, x, q: o.poly_loss_cross_entropy(x, q, epsilon=1.5),
        (*LOGITS, SOFT),
    ),
    row(
        "smooth_labels",
        lambda q: jaxloss.smooth_labels(q, 0.2),
        lambda o, q: o.smooth_labels(q, 0.2),
        (SOFT,),
    ),
)
def test_optax(row: Row) -> None:
    compare(row, of_optax(row.theirs, *row.inputs))


@rows(
    row(
        "sparse",
        lambda x: integer(x, LABELS),
        lambda k, x: k.sparse_categorical_crossentropy(LABELS, x, from_logits=True),
    ),
    row(
        "smoothed",
        lambda x: jaxloss.softmax_cross_entropy(x, HOT, label_smoothing=0.1),
        lambda k, x: k.categorical_crossentropy(
            jnp.asarray(HOT), x, from_logits=True, label_smoothing=0.1
        ),
    ),
    row(
        "focal",
        lambda x: 0.25 * jaxloss.softmax_focal_loss(x, LABELS),
        lambda k, x: k.categorical_focal_crossentropy(jnp.asarray(HOT), x, from_logits=True),
    ),
    row(
        "generalized",
        lambda x: jaxloss.generalized_cross_entropy(x, LABELS, q=0.5),
        lambda k, x: k.categorical_generalized_cross_entropy(LABELS, jax.nn.softmax(x), 0.5),
        float32(np.clip(LOGITS[0], -3, 3)),
    ),
)
def test_keras(row: Row) -> None:
    # Keras clips probabilities at 1e-7: that is of the size of a rounding of them.
    compare(row._replace(largest=2 * LARGEST), of_keras(row.theirs, *row.inputs))


def test_where_optax_is_off() -> None:
    x = LOGITS[0][:2]
    name = "softmax_cross_entropy_with_integer_labels"
    wrong = jnp.array([-1, 5])
    theirs, (slope,) = of_optax(lambda o, x: getattr(o, name)(x, wrong), x)
    assert np.isfinite(theirs[0])  # the last class
    assert np.all(np.isnan(integer(x, wrong)))
    assert np.all(np.isfinite(slope))  # of a loss that is NaN
    margin, absent, hot = float32([80.0, 0.0], [0.0, -np.inf], [1.0, 0.0])
    assert of_optax(lambda o, x: getattr(o, name)(x, 0), margin)[0] == 0
    np.testing.assert_allclose(integer(margin, 0), np.exp(-80.0), rtol=1e-5)
    assert np.isnan(of_optax(lambda o, x: o.softmax_cross_entropy(x, hot), absent)[0])
    assert jaxloss.softmax_cross_entropy(absent, hot) == 0


def test_a_selection_around_the_loss_hides_a_wrong_label_in_optax() -> None:
    """Here the gradient would be NaN: the mask goes into the loss."""
    x, labels = LOGITS[0][:2], np.array([1, -100])
    name, there = "softmax_cross_entropy_with_integer_labels", labels >= 0

    def around(library: Any, x: Any) -> jax.Array:
        return jnp.where(there, getattr(library, name)(x, labels), 0)

    theirs, (expected,) = of_optax(around, x)
    assert np.all(np.isnan(jax.grad(lambda x: jnp.sum(around(jaxloss, x)))(x)[1]))
    slopes = jax.grad(lambda x: integer(x, labels, where=there, reduction="sum"))(x)
    np.testing.assert_allclose(slopes, expected, atol=1e-6)
    np.testing.assert_allclose(integer(x, labels, where=there), theirs, rtol=1e-6)


def test_where_torch_is_off() -> None:
    """Of one-hot and integer labels with class weights it gives two means."""
    torch = pytest.importorskip("torch")
    x, weight = torch.tensor(LOGITS[0]), torch.tensor(WEIGHTS)
    means = [
        torch.nn.functional.cross_entropy(x, labels, weight=weight)
        for labels in (torch.tensor(LABELS), torch.tensor(HOT))
    ]
    assert abs(means[0] - means[1]) > 0.01
    ours = [
        integer(LOGITS[0], LABELS, class_weights=WEIGHTS, reduction="mean"),
        jaxloss.softmax_cross_entropy(LOGITS[0], HOT, class_weights=WEIGHTS, reduction="mean"),
    ]
    np.testing.assert_allclose(ours, [means[0]] * 2, rtol=1e-6)
