"""Policies, live against TRL's public formulas on PyTorch's autograd, in float64."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import jaxloss
from tests.laws.peers import alike, evaluated, of_torch

RNG = np.random.default_rng(6)
NEW, OLD, ADVANTAGES = (
    RNG.normal(mean, scale, 64).astype(np.float32) for mean, scale in ((-2, 0.4), (-2, 0.4), (0, 1))
)


def compare(ours: Callable[..., Any], theirs: Callable[..., Any], *inputs: np.ndarray) -> None:
    alike(evaluated(ours, *inputs), of_torch(theirs, *inputs, dtype=np.float64), largest=1.0)


def surrogate_of_trl(F: Any, new: Any, old: Any, advantages: Any) -> Any:
    ratio = (new - old).exp()
    held = ratio.clamp(1 - 0.125, 1 + 0.25)
    return -(ratio * advantages).min(held * advantages)


def test_ppo() -> None:
    ours = functools.partial(jaxloss.ppo_loss, clip=0.125, clip_high=0.25)
    compare(ours, surrogate_of_trl, NEW, OLD, ADVANTAGES)


def test_dual_clip() -> None:
    def theirs(F: Any, new: Any, old: Any, advantages: Any) -> Any:
        plain = surrogate_of_trl(F, new, old, advantages)
        return plain.where(advantages > 0, plain.min(-1.5 * advantages))

    ours = functools.partial(jaxloss.ppo_loss, clip=0.125, clip_high=0.25, dual_clip=1.5)
    compare(ours, theirs, NEW, OLD, ADVANTAGES)


def test_gspo() -> None:
    """TRL's `importance_sampling_level="sequence"`."""

    def theirs(F: Any, new: Any, old: Any, advantages: Any) -> Any:
        ratio = (new - old).mean(-1).exp()
        held = ratio.clamp(1 - 0.125, 1 + 0.25)
        return -(ratio * advantages).min(held * advantages)

    ours = functools.partial(jaxloss.ppo_loss, clip=0.125, clip_high=0.25, level="sequence")
    compare(ours, theirs, NEW.reshape(16, 4), OLD.reshape(16, 4), ADVANTAGES[:16])


def test_cispo() -> None:
    """TRL clamps from above alone, at a number that is our 1 + clip_high."""

    def theirs(F: Any, new: Any, old: Any, advantages: Any) -> Any:
        held = (new - old).exp().clamp(max=1.25).detach()
        return -held * advantages * new + 0 * old

    ours = functools.partial(jaxloss.ppo_loss, kind="cispo", clip=1.0, clip_high=0.25)
    compare(ours, theirs, NEW, OLD, ADVANTAGES)


@pytest.mark.parametrize("kind", ["k1", "k2", "k3"])
def test_kl_estimates(kind: Any) -> None:
    def theirs(F: Any, new: Any, reference: Any) -> Any:
        d = reference - new
        return {"k1": -d, "k2": d * d / 2, "k3": d.exp() - d - 1}[kind]

    compare(functools.partial(jaxloss.kl_estimate, kind=kind), theirs, NEW, OLD)


def test_clipped_values() -> None:
    def theirs(F: Any, values: Any, returns: Any, old: Any) -> Any:
        held = old + (values - old).clamp(-0.25, 0.25)
        return 0.5 * ((values - returns) ** 2).max((held - returns) ** 2)

    ours = functools.partial(jaxloss.value_loss, clip=0.25)
    compare(ours, theirs, NEW, ADVANTAGES, OLD)


def test_entropy() -> None:
    torch = pytest.importorskip("torch")

    def theirs(F: Any, logits: Any) -> Any:
        return -torch.distributions.Categorical(logits=logits).entropy()

    compare(jaxloss.entropy_loss, theirs, 3 * RNG.normal(size=(16, 5)).astype(np.float32))


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_group_advantages(scale: Any) -> None:
    """TRL's `scale_rewards`, which adds 1e-4 to PyTorch's standard deviation."""
    torch = pytest.importorskip("torch")
    rewards = RNG.normal(1, 2, (8, 4)).astype(np.float32)
    given = torch.tensor(rewards, dtype=torch.float64)
    expected = given - given.mean(1, keepdim=True)
    if scale != "none":
        spread = given.std(1, keepdim=True) if scale == "group" else given.std()
        expected = expected / (spread + 1e-4)
    found = jaxloss.group_advantages(rewards, scale=scale)
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-5, atol=1e-6)
