"""What the laws say of losses of optax that are known to be wrong somewhere, and of ours.

Each law is named with the input that shows the fault.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax.losses
import pytest
from mpmath import mp

import jaxloss
from jaxloss.testing import CLASS, LOGITS, REAL, Finding, check_loss
from tests.laws.peers import as_jax_ships


@pytest.fixture(autouse=True)
def _defaults_of_jax() -> Iterator[None]:
    with as_jax_ships():
        yield


def said(loss: Callable[..., Any], draw: Any, law: str, **options: Any) -> Finding:
    """What one law says of a loss."""
    report = check_loss(loss, draw, laws=[law], **options)
    (found,) = report.findings
    assert bool(report) == (found.outcome != "failed")
    return found


PAIRS = [
    (optax.losses.log_cosh, jaxloss.log_cosh),
    (optax.losses.huber_loss, jaxloss.huber_loss),
]


@pytest.mark.parametrize(("theirs", "ours"), PAIRS)
def test_a_column_is_broadcast_against_a_row(theirs: Any, ours: Any) -> None:
    law = "data_are_never_broadcast"
    found = said(theirs, (REAL, REAL), law)
    assert found.outcome == "failed"
    assert "predictions of shape (4, 1) against targets of shape (4,)" in found.message
    assert "silently gave losses of shape (4, 4)" in found.message
    assert theirs(jnp.ones((4, 1)), jnp.ones(4)).shape == (4, 4)
    assert said(ours, (REAL, REAL), law).outcome == "passed"


def test_zero_vectors_have_no_cosine() -> None:
    law = "nothing_turns_nan"
    found = said(optax.losses.cosine_distance, (REAL, REAL), law)
    assert found.outcome == "failed"
    assert "the slope in predictions is [nan, nan, nan, nan]" in found.message
    slope = jax.grad(optax.losses.cosine_distance)(jnp.zeros(4), jnp.ones(4))
    assert np.all(np.isnan(slope))
    assert said(jaxloss.cosine_distance, (REAL, REAL), law).outcome == "passed"


def triplet(anchors: Any, positives: Any, negatives: Any, *, norm_degree: Any) -> Any:
    """The formula, of the norm that sums sizes."""

    def distance(a: Any, b: Any) -> Any:
        sizes = [abs(x - y) ** norm_degree for x, y in zip(a, b, strict=True)]
        return (mp.fsum(sizes) + mp.mpf(float(np.float32(1e-6)))) ** (mp.one / norm_degree)

    terms = [1, distance(anchors, positives), -distance(anchors, negatives)]
    return terms if mp.fsum(terms) > 0 else [mp.zero]


def drawn(rng: np.random.Generator, shape: tuple[int, ...]) -> tuple[np.ndarray, ...]:
    return tuple(rng.normal(size=(shape[0], 3)) for _ in range(3))


def test_a_triplet_of_degree_1_subtracts_what_it_should_add() -> None:
    theirs = functools.partial(optax.losses.triplet_margin_loss, norm_degree=1)
    found = said(theirs, drawn, "accurate", oracle=triplet)
    assert found.outcome == "failed"
    assert "the loss is" in found.message
    # The "distance" from 2 to 3 is -1.
    data = jnp.array([2.0]), jnp.array([3.0]), jnp.array([2.0])
    assert theirs(*data) == 0
    ours = functools.partial(jaxloss.triplet_margin_loss, norm_degree=1)
    assert ours(*data) == pytest.approx(2)
    assert said(ours, drawn, "accurate", oracle=triplet).outcome == "passed"


def test_a_label_of_minus_1_is_the_last_class() -> None:
    law = "outside_the_domain_is_nan"
    theirs = optax.losses.softmax_cross_entropy_with_integer_labels
    found = said(theirs, (LOGITS, CLASS), law)
    assert found.outcome == "failed"
    assert "labels=-1 is outside the domain, and should give NaN" in found.message
    logits = jnp.array([[1.0, 2.0, 3.0]])
    assert theirs(logits, jnp.array([-1])) == theirs(logits, jnp.array([2]))
    ours = jaxloss.softmax_cross_entropy_with_integer_labels
    assert said(ours, (LOGITS, CLASS), law).outcome == "passed"


def log_cosh(predictions: Any, targets: Any) -> Any:
    return mp.log(mp.cosh(predictions - targets))


def near_1000th(rng: np.random.Generator, shape: tuple[int, ...]) -> tuple[np.ndarray, ...]:
    targets = rng.normal(size=shape)
    return targets + rng.choice([-1e-3, 1e-3], shape), targets


@pytest.mark.parametrize("oracle", [None, log_cosh], ids=["itself in float64", "its formula"])
@pytest.mark.parametrize("draw", [near_1000th, (REAL, REAL)], ids=["near 1e-3", "everywhere"])
def test_small_errors_have_no_log_cosh(draw: Any, oracle: Any) -> None:
    found = said(optax.losses.log_cosh, draw, "accurate", oracle=oracle)
    assert found.outcome == "failed"
    assert "the loss is" in found.message
    # 5e-7, of which the sum of two logarithms of size 1 keeps no digit.
    value = float(optax.losses.log_cosh(jnp.float32(1e-3), jnp.float32(0)))
    assert abs(value - 5e-7) > 1e-8
    assert said(jaxloss.log_cosh, draw, "accurate", oracle=oracle).outcome == "passed"
