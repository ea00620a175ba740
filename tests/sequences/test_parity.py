"""CTC as PyTorch and optax have it, where they are right."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest

import jaxloss
from tests.laws.peers import Evaluated, as_jax_ships, of_torch
from tests.laws.values import EPS, evaluated

BATCH, FRAMES, CLASSES, LABELS = 6, 40, 12, 9


def batch(scale: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Logits, numbers of frames, labels, numbers of labels; neighbours are often alike."""
    rng = np.random.default_rng(3)
    logits = rng.normal(size=(BATCH, FRAMES, CLASSES)).astype(np.float32) * np.float32(scale)
    labels = rng.integers(1, 4, size=(BATCH, LABELS))
    frames = rng.integers(2 * LABELS, FRAMES + 1, size=BATCH)
    return logits, frames, labels, rng.integers(0, LABELS + 1, size=BATCH)


def paddings(lengths: np.ndarray, size: int) -> np.ndarray:
    return (np.arange(size) >= lengths[:, None]).astype(np.float32)


def both(scale: float, dtype: Any) -> tuple[Any, Evaluated]:
    """Of ours in a precision, and of PyTorch in float64."""
    logits, frames, labels, lengths = batch(scale)
    late, spare = paddings(frames, FRAMES), paddings(lengths, LABELS)

    def torch_ctc(F: Any, x: Any) -> Any:
        counts = (x.new_tensor(numbers).long() for numbers in (labels, frames, lengths))
        return F.ctc_loss(F.log_softmax(x, -1).transpose(0, 1), *counts, reduction="none")

    ours = evaluated(jaxloss.ctc_loss, logits.astype(dtype), late, labels, spare)
    return ours, of_torch(torch_ctc, logits, dtype=np.float64)


@pytest.mark.parametrize("scale", [0.1, 1, 5, 20])
def test_pytorch_in_float64(scale: float) -> None:
    with jax.enable_x64(True):
        (value, (gradient,)), (losses, (slopes,)) = both(scale, np.float64)
    np.testing.assert_allclose(value, losses, rtol=1e-12)
    np.testing.assert_allclose(gradient, slopes, atol=1e-11)


@pytest.mark.parametrize("scale", [0.1, 1, 5, 20])
def test_float32_is_near_pytorch_in_float64(scale: float) -> None:
    (value, (gradient,)), (losses, (slopes,)) = both(scale, np.float32)
    np.testing.assert_allclose(value, losses, rtol=8 * EPS)
    np.testing.assert_allclose(gradient, slopes, atol=(16 + scale) * EPS)


@pytest.mark.parametrize("scale", [0.1, 1, 5])
def test_optax(scale: float) -> None:
    optax = pytest.importorskip("optax")
    logits, frames, labels, lengths = batch(scale)
    inputs = logits, paddings(frames, FRAMES), labels, paddings(lengths, LABELS)
    with as_jax_ships():
        theirs = map(np.asarray, jax.jit(optax.losses.ctc_loss_with_forward_probs)(*inputs))
    mine = map(np.asarray, jaxloss.ctc_loss_with_forward_probs(*inputs))
    np.testing.assert_allclose(next(mine), next(theirs), rtol=64 * EPS)
    for states, logs in zip(mine, theirs, strict=True):
        assert states.shape == logs.shape
        # Beyond the labels, optax follows what their padding holds.
        there = np.arange(states.shape[2]) < (lengths[:, None] + states.shape[2] - LABELS)
        there = np.broadcast_to(there, states.shape) & (logs > -1e4)
        np.testing.assert_allclose(states[there], logs[there], rtol=1e-4, atol=1e-4)
        assert np.all(states[logs < -1e4] == -np.inf)


def test_where_optax_is_negative() -> None:
    """A sequence that is certain: the day this fails, optax has mended it."""
    optax = pytest.importorskip("optax")
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(64, 64, 8)).astype(np.float32)
    labels = np.tile([1, 2], (64, 8))
    for n in range(16):
        loud = np.linspace(10, 40, 64)[:, None]
        logits[:, 4 * n : 4 * n + 2, labels[0, n]] += loud
        logits[:, 4 * n + 2 : 4 * n + 4, 0] += loud
    inputs = logits, np.zeros((64, 64)), labels, np.zeros((64, 16))
    with as_jax_ships():
        assert np.any(jax.jit(optax.losses.ctc_loss)(*inputs) < 0)
    assert np.all(jaxloss.ctc_loss(*inputs) > 0)
