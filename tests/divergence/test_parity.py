"""The same divergences as PyTorch, optax, Keras and SciPy have, where those are right."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxloss
from tests.laws.peers import Row, as_jax_ships, compare, float32, of_keras, of_optax, of_torch, rows

_RNG = np.random.default_rng(3)
LOGITS = float32(_RNG.normal(0, 2, (6, 5)), _RNG.normal(0, 2, (6, 5)))
P, T = float32(*(np.exp(x) / np.sum(np.exp(x), -1, keepdims=True) for x in LOGITS))
LOG_P, LOG_T = float32(np.log(P), np.log(T))
# Sums of terms of either sign, which are at most about 10.
LARGEST = 10.0


def torch_kl(F: Any, log_p: Any, t: Any, **options: Any) -> Any:
    return F.kl_div(log_p, t, reduction="none", **options).sum(-1)


def torch_distillation(F: Any, s: Any, z: Any, temperature: float) -> Any:
    log_p, log_t = (F.log_softmax(x / temperature, -1) for x in (s, z))
    return temperature**2 * torch_kl(F, log_p, log_t, log_target=True)


DISTILLATION = [
    Row(
        f"distillation-{temperature}",
        functools.partial(jaxloss.distillation_loss, temperature=temperature),
        functools.partial(torch_distillation, temperature=temperature),
        LOGITS,
        LARGEST * temperature,
    )
    for temperature in (1.0, 2.0, 5.0)
]


@rows(
    Row("kl", jaxloss.kl_divergence, torch_kl, (LOG_P, T), LARGEST),
    Row(
        "kl-log",
        jaxloss.kl_divergence_with_log_targets,
        functools.partial(torch_kl, log_target=True),
        (LOG_P, LOG_T),
        LARGEST,
    ),
    *DISTILLATION,
)
def test_torch(row: Row) -> None:
    compare(row, of_torch(row.theirs, *row.inputs))


@rows(
    *(
        Row(
            name,
            getattr(jaxloss, name),
            lambda losses, p, t, name=name: getattr(losses, name)(p, t),
            (LOG_P, targets),
            LARGEST,
        )
        for name, targets in (
            ("kl_divergence", T),
            ("kl_divergence_with_log_targets", LOG_T),
            ("generalized_kl_divergence", T),
        )
    )
)
def test_optax(row: Row) -> None:
    compare(row, of_optax(row.theirs, *row.inputs))


@rows(
    Row(
        "kl",
        lambda p, t: jaxloss.kl_divergence(jnp.log(p), t),
        lambda losses, p, t: losses.kl_divergence(t, p),
        (P, T),
        # The gradient in p is t / p.
        LARGEST / P.min(),
    )
)
def test_keras(row: Row) -> None:
    compare(row, of_keras(row.theirs, *row.inputs))


def test_scipy() -> None:
    special = pytest.importorskip("scipy.special")
    distance = pytest.importorskip("scipy.spatial.distance")
    p, t = P.astype(float), T.astype(float)
    close = functools.partial(np.testing.assert_allclose, rtol=2e-6)
    close(jaxloss.kl_divergence(np.log(P), T), np.sum(special.rel_entr(t, p), -1))
    close(jaxloss.renyi_divergence(P, T, alpha=1.0), np.sum(special.rel_entr(t, p), -1))
    close(jaxloss.generalized_kl_divergence(np.log(P), T), np.sum(special.kl_div(t, p), -1))
    # SciPy's is the metric: the root.
    squared = [distance.jensenshannon(a, b) ** 2 for a, b in zip(p, t, strict=True)]
    close(jaxloss.jensen_shannon_divergence(P, T), squared)
    halved = [distance.cityblock(a, b) / 2 for a, b in zip(p, t, strict=True)]
    close(jaxloss.total_variation_distance(P, T), halved)


ONE_HOT = jnp.array([1.0, 0.0])
EXCLUDED = jnp.array([0.0, -np.inf])


def test_optax_at_zero() -> None:
    """NaN in the targets' gradient at 0, and in the value where log p or log t is -inf."""
    losses = pytest.importorskip("optax.losses")
    log_p = jnp.log(jnp.array([0.5, 0.5]))
    with as_jax_ships():
        assert np.isnan(jax.grad(losses.kl_divergence, 1)(log_p, ONE_HOT)[1])
        assert np.isnan(losses.kl_divergence(EXCLUDED, ONE_HOT))
        assert np.isnan(losses.kl_divergence_with_log_targets(log_p, EXCLUDED))
        assert np.isnan(losses.generalized_kl_divergence(EXCLUDED, ONE_HOT))
    assert jax.grad(jaxloss.kl_divergence, 1)(log_p, ONE_HOT)[1] == 0
    assert jaxloss.kl_divergence(EXCLUDED, ONE_HOT) == 0
    found = jaxloss.kl_divergence_with_log_targets(log_p, EXCLUDED)
    np.testing.assert_allclose(found, np.log(2), rtol=1e-6)
    assert jaxloss.generalized_kl_divergence(EXCLUDED, ONE_HOT) == 0


def test_torch_at_zero() -> None:
    torch = pytest.importorskip("torch")
    kl = torch.nn.functional.kl_div
    excluded, one_hot = torch.tensor([0.0, -np.inf]), torch.tensor([1.0, 0.0])
    assert torch.isnan(kl(excluded, one_hot, reduction="sum"))
    assert torch.isnan(kl(excluded, excluded, reduction="sum", log_target=True))
    assert jaxloss.kl_divergence_with_log_targets(EXCLUDED, EXCLUDED) == 0


def test_keras_clips() -> None:
    """Both arguments to [1e-7, 1]: what the model rules out costs 16 nats instead of inf."""
    losses = pytest.importorskip("keras").losses
    with as_jax_ships():
        clipped = losses.kl_divergence(ONE_HOT[::-1], ONE_HOT)
    assert 15 < clipped < 17
    assert jaxloss.kl_divergence(EXCLUDED, ONE_HOT[::-1]) == np.inf


def test_distillation_by_torch_is_negative_for_a_student_near_its_teacher() -> None:
    torch = pytest.importorskip("torch")
    z = np.random.default_rng(0).normal(size=(64, 100)).astype(np.float32)
    s = z + np.float32(1e-5) * np.random.default_rng(1).normal(size=z.shape).astype(np.float32)
    theirs = torch_distillation(torch.nn.functional, torch.tensor(s), torch.tensor(z), 2.0)
    assert torch.any(theirs < 0)
    assert np.all(np.asarray(jaxloss.distillation_loss(s, z, temperature=2.0)) > 0)
