"""The same numbers as optax and Keras, values and gradients; and where a peer is wrong."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxloss

# Read when Keras is imported.
os.environ["KERAS_BACKEND"] = "jax"

RNG = np.random.default_rng(5)
X = jnp.asarray(RNG.normal(0, 2, (3, 6, 5, 4)), jnp.float32)
MAP = jnp.asarray(RNG.integers(0, 4, (3, 6, 5)), jnp.int32)
T = jax.nn.one_hot(MAP, 4)
P = jax.nn.softmax(X)
BINARY = (MAP > 1).astype(jnp.float32)


@contextmanager
def as_jax_ships():
    """JAX without the strictness of these tests, which the peers' code does not keep."""
    with ExitStack() as stack:
        stack.enter_context(jax.numpy_dtype_promotion("standard"))
        stack.enter_context(jax.numpy_rank_promotion("allow"))
        yield


def evaluated(loss: Callable[[Any], Any], x: jax.Array) -> tuple[np.ndarray, np.ndarray]:
    return np.asarray(loss(x)), np.asarray(jax.grad(lambda x: jnp.sum(loss(x)))(x))


def alike(ours: Callable[[Any], Any], theirs: Callable[[Any], Any], x: jax.Array) -> None:
    with as_jax_ships():
        expected = evaluated(theirs, x)
    got = evaluated(ours, x)
    assert got[0].shape == expected[0].shape
    # They take a difference from 1, and of the softmax the whole sum: 1e-7 of the largest.
    np.testing.assert_allclose(got[0], expected[0], rtol=1e-6, atol=3e-7)
    scale = np.abs(expected[1]).max()
    np.testing.assert_allclose(got[1], expected[1], rtol=1e-5, atol=2e-6 * scale)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"smooth": 0.1, "alpha": 0.3, "beta": 0.7},
        {"class_weights": np.arange(1, 5, dtype=np.float32)},
        {"ignore_background": True},
        {"axis": (0, 1, 2)},
        {"axis": 1},
    ],
    ids=str,
)
@pytest.mark.parametrize("over_classes", ["mean", "sum", "none"])
def test_dice_of_optax(options: Any, over_classes: Any) -> None:
    losses = pytest.importorskip("optax.losses")
    alike(
        lambda x: jaxloss.dice_loss(x, MAP, class_reduction=over_classes, **options),
        lambda x: losses.dice_loss(x, T, reduction=over_classes, **options),
        X,
    )


@pytest.mark.parametrize("smooth", [1.0, 0.1])
def test_other_dices_of_optax(smooth: float) -> None:
    losses = pytest.importorskip("optax.losses")
    for background in (False, True):
        options: dict[str, Any] = {"smooth": smooth, "ignore_background": background}
        alike(
            lambda x, options=options: jaxloss.multiclass_generalized_dice_loss(x, T, **options),
            lambda x, options=options: losses.multiclass_generalized_dice_loss(x, T, **options),
            X,
        )
    for x, t in ((X[..., 0], BINARY), (X[..., :1], BINARY[..., None])):
        alike(
            lambda x, t=t: jaxloss.binary_dice_loss(x, t, smooth=smooth),
            lambda x, t=t: losses.binary_dice_loss(x, t, smooth=smooth),
            x,
        )
    # Ranks that differ by the axis of a single class.
    alike(
        lambda x: jaxloss.dice_loss(x, BINARY),
        lambda x: losses.dice_loss(x, BINARY),
        X[..., :1],
    )
    alike(
        lambda x: jaxloss.dice_loss(x, BINARY[..., None]),
        lambda x: losses.dice_loss(x, BINARY[..., None]),
        X[..., 0],
    )


def test_dice_and_tversky_of_keras() -> None:
    keras = pytest.importorskip("keras")
    options: dict[str, Any] = {"smooth": 0.0, "apply_softmax": False, "class_reduction": "none"}
    alike(
        lambda p: jaxloss.dice_loss(p, MAP, **options),
        lambda p: keras.losses.dice(T, p, axis=(1, 2)),
        P,
    )
    # Keras 3.15 gives alpha to the false negatives, against its documentation.
    alike(
        lambda p: jaxloss.tversky_loss(p, MAP, alpha=0.7, beta=0.3, **options),
        lambda p: keras.losses.tversky(T, p, alpha=0.3, beta=0.7, axis=(1, 2)),
        P,
    )


def torch_lovasz(torch: Any, errors: Any, positive: Any) -> Any:
    """The sum of sorted errors times the differences of the Jaccard losses, as published."""
    errors, order = torch.sort(errors, descending=True)
    hits = torch.cumsum(positive[order], 0)
    extra = torch.cumsum(1 - positive[order], 0)
    total = positive.sum()
    losses = 1 - (total - hits) / (total + extra)
    return errors @ torch.diff(losses, prepend=losses.new_zeros(1))


def test_lovasz_by_the_autograd_of_torch() -> None:
    torch = pytest.importorskip("torch")
    x, labels = (torch.tensor(np.asarray(a)) for a in (X.reshape(3, 30, 4), MAP.reshape(3, 30)))
    x = x.double().requires_grad_()
    p = torch.softmax(x, -1)
    hinge, soft = [], []
    for i in range(3):
        positive = (labels[i] > 1).double()
        margins = torch.relu(1 - (2 * positive - 1) * x[i, :, 0])
        hinge.append(torch_lovasz(torch, margins, positive))
        rows = [(labels[i] == c).double() for c in range(4)]
        each = [
            torch_lovasz(torch, (t - p[i, :, c]).abs(), t) for c, t in enumerate(rows) if t.any()
        ]
        soft.append(torch.stack(each).mean())
    ours = (
        lambda x: jaxloss.lovasz_hinge_loss(x[..., 0], BINARY),
        lambda x: jaxloss.lovasz_softmax_loss(x, MAP),
    )
    for loss, theirs in zip(ours, (hinge, soft), strict=True):
        (slope,) = torch.autograd.grad(torch.stack(theirs).sum(), x, retain_graph=True)
        got = evaluated(loss, X)
        np.testing.assert_allclose(got[0], [y.item() for y in theirs], rtol=2e-6)
        np.testing.assert_allclose(got[1].reshape(slope.shape), slope, rtol=1e-4, atol=1e-7)


def test_optax_cannot_compile_probabilities() -> None:
    losses = pytest.importorskip("optax.losses")
    with as_jax_ships(), pytest.raises(jax.errors.TracerBoolConversionError):
        jax.jit(lambda p: losses.dice_loss(p, T, apply_softmax=False))(P)
    with as_jax_ships(), pytest.raises(ValueError, match="valid"):
        losses.binary_dice_loss(P[..., 0], BINARY, apply_sigmoid=False)
    ours = jax.jit(lambda p: jaxloss.dice_loss(p, T, apply_softmax=False))(P)
    np.testing.assert_allclose(ours, jaxloss.dice_loss(X, T), rtol=1e-5)


def test_optax_is_nan_for_an_absent_class_without_smoothing() -> None:
    losses = pytest.importorskip("optax.losses")
    x = X.at[..., 3].set(-jnp.inf)
    t = jax.nn.one_hot(jnp.minimum(MAP, 2), 4)
    with as_jax_ships():
        assert np.all(np.isnan(losses.dice_loss(x, t, smooth=0.0)))
    ours = jaxloss.dice_loss(x, t, smooth=0.0)
    three = jaxloss.dice_loss(x[..., :3], t[..., :3], smooth=0.0)
    np.testing.assert_allclose(ours, 0.75 * three, rtol=1e-6)
