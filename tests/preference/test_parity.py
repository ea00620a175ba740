"""The losses of preference, live against TRL's public formulas on PyTorch's logsigmoid, in float64.

A peer that is not installed is skipped.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import jaxloss
from tests.regression.test_parity import EPS, evaluated

torch: Any = pytest.importorskip("torch")
log_sigmoid = torch.nn.functional.logsigmoid

# Of the chosen and the rejected answer, under the model and under its reference.
NUMBERS = np.random.default_rng(6).normal(-20, 8, (4, 64)).astype(np.float32)
MEANS = NUMBERS[:2] / 20 - 1.5
LENGTHS = np.random.default_rng(8).integers(1, 40, (2, 64)).astype(np.float32)
LABELS = (np.arange(64) % 3 == 0).astype(np.float32)


def of_torch(loss: Callable[..., Any], *inputs: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    tensors = [torch.tensor(np.float64(x), requires_grad=True) for x in inputs]
    losses = loss(*tensors)
    losses.sum().backward()
    return losses.detach().numpy(), [x.grad.numpy() for x in tensors]


def compare(ours: Callable[..., Any], theirs: Callable[..., Any], *inputs: np.ndarray) -> None:
    mine, other = evaluated(ours, *inputs), of_torch(theirs, *inputs)
    for x, y in zip([mine[0], *mine[1]], [other[0], *other[1]], strict=True):
        np.testing.assert_allclose(x, y, rtol=8 * EPS, atol=1e-30)


def dpo_of_trl(kind: str, e: float, c: Any, r: Any, c0: Any, r0: Any) -> Any:
    beta = 0.25
    logits = (c - r) - (c0 - r0)
    wins, loses = -log_sigmoid(beta * logits), -log_sigmoid(-beta * logits)
    return {
        "sigmoid": lambda: (1 - e) * wins + e * loses,
        "robust": lambda: ((1 - e) * wins - e * loses) / (1 - 2 * e),
        "hinge": lambda: torch.relu(1 - beta * logits),
        "ipo": lambda: (logits - 1 / (2 * beta)) ** 2,
    }[kind]()


@pytest.mark.parametrize(
    ("kind", "smoothing"),
    [("sigmoid", 0.0), ("sigmoid", 0.125), ("hinge", 0.0), ("ipo", 0.0)],
)
def test_dpo(kind: Any, smoothing: float) -> None:
    options: dict[str, Any] = {"label_smoothing": smoothing} if smoothing else {}
    ours = functools.partial(jaxloss.dpo_loss, beta=0.25, kind=kind, **options)
    compare(ours, functools.partial(dpo_of_trl, kind, smoothing), *NUMBERS)


def test_robust_dpo() -> None:
    ours = functools.partial(jaxloss.dpo_loss, beta=0.25, kind="robust", label_smoothing=0.125)
    mine, other = (
        evaluated(ours, *NUMBERS),
        of_torch(functools.partial(dpo_of_trl, "robust", 0.125), *NUMBERS),
    )
    # A difference of two losses.
    np.testing.assert_allclose(mine[0], other[0], rtol=8 * EPS, atol=8 * EPS * 10)
    for x, y in zip(mine[1], other[1], strict=True):
        np.testing.assert_allclose(x, y, rtol=8 * EPS)


def test_bradley_terry() -> None:
    ours = functools.partial(jaxloss.bradley_terry_loss, margin=0.5)
    compare(ours, lambda c, r: -log_sigmoid(c - r - 0.5), *NUMBERS[:2])


def test_simpo() -> None:
    def theirs(c: Any, r: Any, m: Any, n: Any) -> Any:
        return -log_sigmoid(2.5 * ((c / m - r / n) - 1.25 / 2.5))

    ours = functools.partial(jaxloss.simpo_loss, beta=2.5, gamma=1.25)
    compare(ours, theirs, *NUMBERS[:2], *LENGTHS)


def orpo_of_trl(c: Any, r: Any) -> Any:
    odds = (c - r) - (torch.log1p(-torch.exp(c)) - torch.log1p(-torch.exp(r)))
    return -c - 0.5 * log_sigmoid(odds)


def test_orpo() -> None:
    assert MEANS.max() < 0
    compare(functools.partial(jaxloss.orpo_loss, beta=0.5), orpo_of_trl, *MEANS)


def test_kto() -> None:
    def theirs(p: Any, p0: Any) -> Any:
        good = 1.5 * (1 - torch.sigmoid(0.25 * (p - p0 - 0.5)))
        bad = 0.75 * (1 - torch.sigmoid(0.25 * (0.5 - (p - p0))))
        return torch.where(torch.tensor(LABELS) > 0, good, bad)

    options = {"reference_point": 0.5, "desirable_weight": 1.5, "undesirable_weight": 0.75}
    ours = functools.partial(jaxloss.kto_loss, labels=LABELS, beta=0.25, **options)
    # 1 - sigmoid, of which digits are lost near 1.
    mine, other = evaluated(ours, *NUMBERS[:2]), of_torch(theirs, *NUMBERS[:2])
    for x, y in zip([mine[0], *mine[1]], [other[0], *other[1]], strict=True):
        np.testing.assert_allclose(x, y, rtol=8 * EPS, atol=1e-15)


def test_trl_cannot_be_sure_in_float32() -> None:
    """1 - exp(c) is 0 for an answer that is nearly certain: no number, and no gradient."""
    c, r = (torch.tensor([x], requires_grad=True) for x in (-1e-9, -1.0))
    loss = orpo_of_trl(c, r)
    loss.sum().backward()
    assert np.isnan(c.grad.numpy())
    pair = np.array([[-1e-9], [-1.0]], np.float32)
    value, (slope, _) = evaluated(jaxloss.orpo_loss, *pair)
    assert value > 0
    assert np.all(np.isfinite(slope))
