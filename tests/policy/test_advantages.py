"""Advantages over others of a group."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxloss import group_advantages

EPS = float(np.finfo(np.float32).eps)
REWARDS = np.random.default_rng(0).normal(1, 2, (3, 4)).astype(np.float32)


def by_hand(rewards: np.ndarray, scale: str, out: bool, ddof: int, eps: float) -> np.ndarray:
    x = rewards.astype(np.float64)
    n = x.shape[-1]
    away = x - x.mean(-1, keepdims=True)
    found = x - (x.sum(-1, keepdims=True) - x) / (n - 1) if out else away
    if scale == "group":
        found = found / (x.std(-1, ddof=ddof, keepdims=True) + eps)
    return found / (x.std(ddof=ddof) + eps) if scale == "batch" else found


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
@pytest.mark.parametrize("out", [False, True])
@pytest.mark.parametrize("ddof", [0, 1])
def test_formula(scale: str, out: bool, ddof: int) -> None:
    expected = by_hand(REWARDS, scale, out, ddof, 0.25)
    options = {"scale": scale, "leave_one_out": out, "ddof": ddof, "eps": 0.25}
    found = group_advantages(REWARDS, **options)  # type: ignore
    # Differences of numbers of size 5.
    np.testing.assert_allclose(found, expected, atol=16 * EPS)
    # As one list, in another order.
    order = np.random.default_rng(1).permutation(12)
    groups = np.repeat([7, 0, 3], 4)[order]
    listed = group_advantages(REWARDS.ravel()[order], groups, **options)  # type: ignore
    np.testing.assert_allclose(listed, expected.ravel()[order], atol=16 * EPS)


@pytest.mark.parametrize("eps", [0.0, 1e-6, 1e-4])
def test_equal_rewards_have_no_advantage(eps: float) -> None:
    """The mean of eight numbers 0.1 is not 0.1 in float32: over 1e-6 that would be -0.007."""
    for reward in (0.1, -3.3, 1e30, 0.0):
        rewards = jnp.full((2, 8), reward)
        for found in (
            group_advantages(rewards, eps=eps),
            group_advantages(rewards, scale="batch", leave_one_out=True, eps=eps),
            group_advantages(rewards[0], [0, 0, 0, 1, 1, 1, 1, 5], eps=eps),
        ):
            np.testing.assert_array_equal(found, 0)


def test_groups_of_different_sizes_and_of_one() -> None:
    rewards = jnp.array([3.0, 1.0, 5.0, 2.0, 2.0, 8.0])
    found = group_advantages(rewards, [0, 1, 0, 2, 2, 2], scale="none")
    np.testing.assert_array_equal(found, [-1, 0, 1, -2, -2, 4])
    found = group_advantages(rewards, [0, 1, 0, 2, 2, 2], scale="none", leave_one_out=True)
    np.testing.assert_array_equal(found, [-2, 0, 2, -3, -3, 6])
    np.testing.assert_array_equal(group_advantages(jnp.array([[4.0], [5.0]]), eps=0.0), 0)


def test_masked_rewards_do_not_count() -> None:
    rewards = jnp.array([[1.0, 3.0, jnp.nan, 5.0], [jnp.inf, 1.0, 7.0, 4.0]])
    mask = jnp.isfinite(rewards)
    found = group_advantages(rewards, scale="none", where=mask)
    np.testing.assert_array_equal(found, [[-2, 0, 0, 2], [0, -3, 3, 0]])
    numbers = jnp.array([0, 0, 9, 0, 1, 1, 1, 1])
    listed = group_advantages(rewards.ravel(), numbers, scale="none", where=mask.ravel())
    np.testing.assert_array_equal(listed, found.ravel())
    scaled = group_advantages(rewards, eps=0.0, where=mask)
    np.testing.assert_allclose(scaled, [[-1, 0, 0, 1], [0, -1, 1, 0]], rtol=4 * EPS)


def test_squares_do_not_overflow_and_nothing_has_a_derivative() -> None:
    np.testing.assert_allclose(
        group_advantages(jnp.array([-1e30, 1e30]), eps=0.0), [-(0.5**0.5), 0.5**0.5], rtol=4 * EPS
    )
    slope = jax.grad(lambda x: jnp.sum(jnp.square(group_advantages(x))))(REWARDS)
    np.testing.assert_array_equal(slope, 0)


def test_numbers_of_no_group_are_nan() -> None:
    found = group_advantages(jnp.array([1.0, 2.0, 3.0]), [0, 0, 3], scale="none")
    np.testing.assert_array_equal(found, [-0.5, 0.5, np.nan])


def test_what_is_refused() -> None:
    with pytest.raises(TypeError, match=r"^rewards must be .* in rows of one length"):
        group_advantages([[1.0, 2.0], [3.0]])  # type: ignore
    with pytest.raises(ValueError, match=r"^rewards and groups must be of one shape"):
        group_advantages(REWARDS, [0, 1, 2])
    with pytest.raises(ValueError, match=r"^rewards and groups must be of one shape"):
        group_advantages(REWARDS[0], [0, 1, 2])
    with pytest.raises(TypeError, match=r"^groups must be integers"):
        group_advantages(REWARDS[0], [0.0, 1.0, 2.0, 3.0])  # type: ignore
    with pytest.raises(ValueError, match=r"^scale must be one of"):
        group_advantages(REWARDS, scale="std")  # type: ignore
    with pytest.raises(ValueError, match=r"^ddof must be one of 0, 1, got 2"):
        group_advantages(REWARDS, ddof=2)
