"""Sums over pairs as they are computed on accelerators, against those of the CPU."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxloss
from jaxloss.testing.subject import assert_close
from tests.laws.test_platforms import plain_forms

LISTS, SIZE = 3, 40
OF_PAIRS = [
    jaxloss.pairwise_logistic_loss,
    jaxloss.pairwise_hinge_loss,
    jaxloss.pairwise_mse_loss,
]
OTHERS = [
    jaxloss.listmle_loss,
    jaxloss.unique_softmax_loss,
    jaxloss.approx_ndcg_loss,
    jaxloss.approx_mrr_loss,
]


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("weighed", [False, True])
@pytest.mark.parametrize("loss", [*OF_PAIRS, *OTHERS], ids=lambda loss: loss.__name__)
def test_all_at_once_is_the_sum_of_the_blocks(
    loss: Any, weighed: bool, masked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With ties of labels and of scores, excluded documents, and weights of pairs."""
    if weighed and loss not in OF_PAIRS:
        pytest.skip("has no weights of pairs")
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(LISTS, SIZE)).round(1).astype(np.float32)
    labels = rng.integers(0, 4, (LISTS, SIZE)).astype(np.float32)
    options: dict[str, Any] = {}
    if weighed:
        options["pair_weights"] = rng.uniform(1, 2, (LISTS, SIZE, SIZE)).astype(np.float32)
    if masked:
        options["where"] = rng.random((LISTS, SIZE)) < 0.7

    def evaluated() -> Any:
        def total(scores: Any) -> Any:
            losses = loss(scores, labels, **options)
            return jnp.sum(losses), losses

        return jax.jit(jax.value_and_grad(total, has_aux=True))(scores)

    expected = evaluated()
    with plain_forms(monkeypatch):
        found = evaluated()
    for got, want in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert_close(got, want)
