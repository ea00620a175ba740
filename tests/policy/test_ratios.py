"""PPO's surrogate, of tokens and of sequences, CISPO, and estimates of divergences."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxloss import kl_divergence, kl_estimate, ppo_loss
from tests.laws.case import equal

EPS = float(np.finfo(np.float32).eps)


def slopes(*args: Any, **options: Any) -> Any:
    return jax.grad(lambda *args: jnp.sum(ppo_loss(*args, **options)), (0, 1, 2))(*args)


@pytest.mark.parametrize("ratio", [100.0, -80.0, 300.0, np.inf])
def test_no_ratio_that_is_held_overflows(ratio: float) -> None:
    """exp(100) is inf in float32, and 0 * inf NaN: of the loss, its slopes, and of their slopes."""
    new, old = jnp.full(3, ratio), jnp.zeros(3)
    advantages = jnp.array([0.0, 2.0, 0.5])
    losses = ppo_loss(new, old, advantages, clip=0.25)
    gained = 1.25 if ratio > 0 else np.exp(ratio)
    np.testing.assert_allclose(losses, -gained * advantages, rtol=4 * EPS, atol=0)
    in_new, in_old, in_advantages = slopes(new, old, advantages, clip=0.25)
    np.testing.assert_allclose(in_new, 0 if ratio > 0 else losses, rtol=4 * EPS)
    np.testing.assert_array_equal(in_new, -in_old)
    np.testing.assert_allclose(in_advantages, np.full(3, -gained), rtol=4 * EPS)
    # A ratio that falls is held where the advantage is negative; one that rises, by the dual clip.
    losses, (in_new, *_) = (
        f(new, old, jnp.full(3, -2.0), clip=0.25, dual_clip=3.0) for f in (ppo_loss, slopes)
    )
    np.testing.assert_array_equal(losses, [6.0 if ratio > 0 else 1.5] * 3)
    np.testing.assert_array_equal(in_new, 0)


def test_without_dual_clip_a_bad_action_costs_without_bound() -> None:
    assert ppo_loss([100.0], [0.0], [-1.0])[0] == np.inf
    # In two factors: exp(100) times 1e-30.
    np.testing.assert_allclose(ppo_loss([100.0], [0.0], [-1e-30])[0], 2.6881171e13, rtol=4 * EPS)


def test_at_a_bound_the_free_side_trains() -> None:
    """The ratio is 1, and so are the bounds."""
    for advantage in (2.0, -2.0):
        in_new, _, _ = slopes(jnp.zeros(1), jnp.zeros(1), jnp.full(1, advantage), clip=0.0)
        assert in_new == -advantage
    in_new, _, _ = slopes(jnp.zeros(1), jnp.zeros(1), jnp.full(1, -2.0), dual_clip=1.0)
    assert in_new == 2


def test_clips_of_both_sides() -> None:
    ratios = np.array([0.5, 0.8, 1.0, 1.25, 2.0], np.float32)
    for advantage, expected in (
        (1.0, [-0.5, -0.8, -1.0, -1.25, -1.5]),
        (-1.0, [0.75, 0.8, 1.0, 1.25, 2.0]),
    ):
        losses = ppo_loss(
            np.log(ratios), np.zeros(5), np.full(5, advantage), clip=0.25, clip_high=0.5
        )
        np.testing.assert_allclose(losses, expected, rtol=4 * EPS)


def test_advantages_of_sequences_and_of_tokens() -> None:
    """By rank, also where there are as many sequences as tokens."""
    rng = np.random.default_rng(0)
    new, old = rng.normal(-2, 0.3, (2, 3, 3)).astype(np.float32)
    each = rng.normal(size=3).astype(np.float32)
    expected = ppo_loss(new, old, np.repeat(each[:, None], 3, 1))
    np.testing.assert_array_equal(ppo_loss(new, old, each), expected)
    np.testing.assert_array_equal(ppo_loss(new, old, each[:, None]), expected)
    for bad in (each[None], each[None, :, None], each[:2], np.ones((3, 2), np.float32)):
        with pytest.raises(ValueError, match=r"^advantages must have .*log_probs float32\[3, 3\]"):
            ppo_loss(new, old, bad)
    with pytest.raises(ValueError, match=r"^advantages must be an advantage for each sequence"):
        ppo_loss(new, old, np.ones((3, 3), np.float32), level="sequence")


def test_a_sequence_has_the_geometric_mean_of_its_ratios() -> None:
    """In NumPy, with ragged lists of tokens."""
    rng = np.random.default_rng(1)
    new, old = rng.normal(-2, 0.3, (2, 4, 5)).astype(np.float32)
    advantages = rng.normal(size=4).astype(np.float32)
    lengths = [5, 1, 3, 2]
    mask = np.arange(5) < np.array(lengths)[:, None]
    expected = []
    for p, q, advantage, n in zip(new, old, advantages, lengths, strict=True):
        ratio = np.exp(np.mean(np.float64(p[:n]) - np.float64(q[:n])))
        clipped = np.clip(ratio, 0.9, 1.2)
        expected.append(-min(ratio * advantage, clipped * advantage))
    run = functools.partial(
        ppo_loss, clip=0.1, clip_high=0.2, level="sequence", where=jnp.asarray(mask)
    )
    dirty = jnp.where(mask, new, jnp.nan)
    np.testing.assert_allclose(run(dirty, old, advantages), expected, rtol=8 * EPS)
    slope = jax.grad(lambda p: jnp.sum(run(p, old, advantages)))(dirty)
    np.testing.assert_array_equal(slope[~mask], 0)


def test_one_token_is_a_sequence() -> None:
    new, old, advantages = np.random.default_rng(2).normal(size=(3, 8)).astype(np.float32)
    of_tokens = ppo_loss(new, old, advantages)
    of_sequences = ppo_loss(new[:, None], old[:, None], advantages, level="sequence")
    np.testing.assert_allclose(of_sequences, of_tokens, rtol=4 * EPS)


def test_cispo_trains_what_ppo_has_clipped() -> None:
    new, old = jnp.log(jnp.array([0.8, 0.4])), jnp.log(jnp.array([0.4, 0.8]))
    losses = ppo_loss(new, old, jnp.array([1.0, -1.0]), kind="cispo", clip=0.25)
    np.testing.assert_allclose(losses, [-1.25 * new[0], 0.75 * new[1]], rtol=4 * EPS)
    in_new, in_old, _ = slopes(new, old, jnp.array([1.0, -1.0]), kind="cispo", clip=0.25)
    np.testing.assert_allclose(in_new, [-1.25, 0.75], rtol=4 * EPS)
    np.testing.assert_array_equal(in_old, 0)


def test_what_is_refused() -> None:
    data = np.zeros((3, 2, 4), np.float32)
    with pytest.raises(ValueError, match=r"^kind must be one of 'ppo', 'cispo', got 'grpo'"):
        ppo_loss(*data, kind="grpo")  # type: ignore
    with pytest.raises(ValueError, match=r"^level must be one of 'token', 'sequence', got 'word'"):
        ppo_loss(*data, level="word")  # type: ignore
    with pytest.raises(ValueError, match=r"^dual_clip is of kind='ppo'"):
        ppo_loss(*data, kind="cispo", dual_clip=3.0)
    with pytest.raises(ValueError, match=r"^level='sequence' is of kind='ppo'"):
        ppo_loss(data[0], data[1], data[0, :, 0], kind="cispo", level="sequence")
    with pytest.raises(ValueError, match=r"^kind must be one of 'k1', 'k2', 'k3', got 'k4'"):
        kl_estimate(*data[:2], kind="k4")  # type: ignore
    # Numbers are not looked at, as in a trace they cannot be.
    for options in ({"clip": -0.1}, {"clip_high": -0.1}, {"dual_clip": 0.9}):
        assert np.all(np.isnan(ppo_loss(*data, **options)))


def test_k3_keeps_its_digits_near_and_far() -> None:
    d = np.array([1e-8, -1e-4, 1e-3, 0.7, -3.0, 20.0, 85.0], np.float32)
    exact = np.expm1(np.float64(d)) - d
    exact[:3] = np.float64(d[:3]) ** 2 / 2 * (1 + np.float64(d[:3]) / 3)
    losses = kl_estimate(np.zeros(7, np.float32), d)
    np.testing.assert_allclose(losses, exact, rtol=4 * EPS)
    slope = jax.grad(lambda p: jnp.sum(kl_estimate(p, d)))(jnp.zeros(7))
    np.testing.assert_allclose(slope, -np.expm1(np.float64(d)), rtol=4 * EPS)


def test_what_estimators_estimate() -> None:
    """In expectation over a small policy: the value of k1 and k3, and the gradients of all."""
    logits, other = jnp.array([0.3, -1.0, 0.8]), jnp.array([-0.5, 0.2, 0.1])
    p, q = jax.nn.log_softmax(logits), jax.nn.log_softmax(other)
    forward = float(jnp.sum(jnp.exp(p) * (p - q)))

    def expected(logits: jax.Array, kind: Any) -> jax.Array:
        return jnp.sum(jnp.exp(p) * kl_estimate(jax.nn.log_softmax(logits), q, kind=kind))

    for kind in ("k1", "k3"):
        assert equal(round(float(expected(logits, kind)), 5), round(forward, 5))
    shares = jnp.exp(p)
    gradients = {
        "k1": jnp.zeros(3),
        "k2": shares * (p - q - forward),
        "k3": shares - jnp.exp(q),
    }
    for kind, gradient in gradients.items():
        # Sums of numbers of size 1.
        np.testing.assert_allclose(jax.grad(expected)(logits, kind), gradient, atol=8 * EPS)


@pytest.mark.parametrize("kind", ["k1", "k3"])
def test_weighed_by_the_ratio_an_estimate_has_the_right_gradient(kind: Any) -> None:
    """Of actions drawn from an older policy, in expectation."""
    logits, older, other = np.random.default_rng(3).normal(size=(3, 4)).astype(np.float32)
    acted, q = jax.nn.log_softmax(older), jax.nn.log_softmax(other)

    def estimated(logits: jax.Array) -> jax.Array:
        p = jax.nn.log_softmax(logits)
        return jnp.sum(jnp.exp(acted) * jnp.exp(p - acted) * kl_estimate(p, q, kind=kind))

    def exact(logits: jax.Array) -> jax.Array:
        return kl_divergence(q, jax.nn.softmax(logits))

    found, expected = (jax.value_and_grad(f)(jnp.asarray(logits)) for f in (estimated, exact))
    for x, y in zip(found, expected, strict=True):
        # Sums of numbers of size 1.
        np.testing.assert_allclose(x, y, atol=8 * EPS)
