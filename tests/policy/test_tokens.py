"""Means over tokens and sequences: the parts of any batches add up to the whole."""

from __future__ import annotations

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxloss import Mean, reduce_tokens

EPS = float(np.finfo(np.float32).eps)
LENGTHS = [5, 1, 0, 3, 7, 2, 7, 4]
KINDS: list[dict[str, Any]] = [
    {"normalizer": "token"},
    {"normalizer": "sequence"},
    {"normalizer": "constant", "length": 9.0},
]


def ragged() -> tuple[np.ndarray, np.ndarray]:
    losses = np.random.default_rng(0).normal(size=(len(LENGTHS), 7)).astype(np.float32)
    mask = np.arange(7) < np.array(LENGTHS)[:, None]
    return np.where(mask, losses, np.nan), mask


def by_hand(normalizer: str, length: float = 0.0) -> float:
    """From lists of tokens, in float64; a list without one does not count."""
    losses, _ = ragged()
    rows = [np.float64(x[:n]) for x, n in zip(losses, LENGTHS, strict=True) if n]
    if normalizer == "token":
        return float(np.concatenate(rows).mean())
    if normalizer == "sequence":
        return float(np.mean([x.mean() for x in rows]))
    return float(sum(x.sum() for x in rows) / (len(rows) * length))


@pytest.mark.parametrize("options", KINDS, ids=lambda x: x["normalizer"])
def test_any_split_adds_up_to_the_whole(options: dict[str, Any]) -> None:
    losses, mask = ragged()
    whole = Mean.of(reduce_tokens, losses, where=mask, **options)
    np.testing.assert_allclose(whole.value(), by_hand(**options), rtol=8 * EPS)
    mean = reduce_tokens(losses, where=mask, reduction="mean", **options)
    np.testing.assert_array_equal(mean, whole.value())
    for ends in ([0, 1, 8], [0, 3, 8], [0, 2, 3, 6, 8], [0, 4, 8]):
        # Each batch is as wide as its longest answer: padding of others is not there.
        parts, means = [], []
        for a, b in itertools.pairwise(ends):
            width = max(LENGTHS[a:b])
            batch = losses[a:b, :width], mask[a:b, :width]
            parts.append(Mean.of(reduce_tokens, batch[0], where=batch[1], **options))
            means.append(float(parts[-1].value()))
        total = sum(parts)
        assert isinstance(total, Mean)
        # 26 numbers of size 1.
        np.testing.assert_allclose(total.value(), whole.value(), rtol=0, atol=8 * EPS)
        # The mean of means is another number, but for equal parts.
        assert abs(np.mean(means) - whole.value()) > 1e-3


@pytest.mark.parametrize("options", KINDS, ids=lambda x: x["normalizer"])
def test_devices_add_up_to_the_whole(options: dict[str, Any]) -> None:
    losses, mask = ragged()

    def one(losses: jax.Array, mask: jax.Array) -> Mean:
        return Mean.of(reduce_tokens, losses, where=mask, **options).psum("devices")

    parts = jnp.asarray(losses.reshape(4, 2, 7)), jnp.asarray(mask.reshape(4, 2, 7))
    found = jax.vmap(one, axis_name="devices")(*parts).value()
    np.testing.assert_allclose(found, np.full(4, by_hand(**options)), rtol=8 * EPS, atol=8 * EPS)


@pytest.mark.parametrize("options", KINDS, ids=lambda x: x["normalizer"])
def test_masks_of_tokens_and_of_sequences(options: dict[str, Any]) -> None:
    losses, mask = ragged()
    assert reduce_tokens(losses, where=mask, **options)[2] == 0
    slope = jax.grad(lambda x: jnp.sum(reduce_tokens(x, where=mask, **options)))(losses)
    np.testing.assert_array_equal(slope[~mask], 0)
    some = np.arange(8) < 3
    kept = reduce_tokens(np.where(mask, losses, 0), where=some, **options)
    np.testing.assert_array_equal(kept[3:], 0)
    assert kept[0] != 0


def test_weights_are_of_sequences() -> None:
    """Such as of questions, of which some have more answers than others."""
    losses, mask = ragged()
    weights = np.array([1, 1, 1, 1, 0.5, 0.5, 0, 2], np.float32)
    rows = [np.float64(x[:n]).mean() if n else 0.0 for x, n in zip(losses, LENGTHS, strict=True)]
    counted = weights * (np.array(LENGTHS) > 0)
    mean = reduce_tokens(losses, where=mask, weights=weights, reduction="mean")
    np.testing.assert_allclose(mean, (rows * counted).sum() / counted.sum(), rtol=8 * EPS)


def test_what_is_refused() -> None:
    losses = np.ones((2, 3), np.float32)
    with pytest.raises(ValueError, match=r"^normalizer must be one of 'token', 'sequence', 'const"):
        reduce_tokens(losses, normalizer="batch")  # type: ignore
    with pytest.raises(ValueError, match=r"^length is of normalizer='constant', which needs it"):
        reduce_tokens(losses, normalizer="constant")
    with pytest.raises(ValueError, match=r"^length is of normalizer='constant', which needs it"):
        reduce_tokens(losses, normalizer="token", length=4.0)
    with pytest.raises(ValueError, match=r"^losses must have at least one axis"):
        reduce_tokens(np.float32(1.0))
    assert np.all(np.isnan(reduce_tokens(losses, normalizer="constant", length=0.0)))
