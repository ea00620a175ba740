"""Counts and amounts that are 0 more often than their distribution says."""

from __future__ import annotations

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from jaxloss import (
    hurdle_poisson_nll_loss,
    poisson_nll_loss,
    zero_inflated_lognormal_nll_loss,
    zero_inflated_negative_binomial_nll_loss,
    zero_inflated_poisson_nll_loss,
)
from tests.laws.values import Row, check, row_id

F = math.log(2.0)
GATE = 0.25  # the probability of a 0 by the gate, of log-odds -log(3)
Z = -math.log(3.0)
NO_GATE = 1 - GATE
# The probability of a count of 0, by its mean of 2 and by its dispersion of 1/2 too.
POISSON_0, BINOMIAL_0 = math.exp(-2), 1 / 4

ROWS: list[Row] = [
    (
        zero_inflated_poisson_nll_loss,
        (F, 0.0, Z),
        {},
        -math.log(GATE + NO_GATE * POISSON_0),
        2 * NO_GATE * POISSON_0 / (GATE + NO_GATE * POISSON_0),
    ),
    (
        zero_inflated_poisson_nll_loss,
        (F, 3.0, Z),
        {},
        -math.log(NO_GATE) - scipy.stats.poisson.logpmf(3, 2),
        2 - 3,
    ),
    (
        zero_inflated_negative_binomial_nll_loss,
        (F, 0.0, 0.5, Z),
        {},
        -math.log(GATE + NO_GATE * BINOMIAL_0),
        2 / (1 + 0.5 * 2) * NO_GATE * BINOMIAL_0 / (GATE + NO_GATE * BINOMIAL_0),
    ),
    (
        zero_inflated_negative_binomial_nll_loss,
        (F, 3.0, 0.5, Z),
        {},
        -math.log(NO_GATE) - scipy.stats.nbinom.logpmf(3, 2, 0.5),
        (2 - 3) / (1 + 0.5 * 2),
    ),
    (hurdle_poisson_nll_loss, (F, 0.0, Z), {}, -math.log(GATE), 0),
    (
        hurdle_poisson_nll_loss,
        (F, 3.0, Z),
        {},
        -math.log(NO_GATE) - scipy.stats.poisson.logpmf(3, 2) + math.log(1 - POISSON_0),
        2 / (1 - POISSON_0) - 3,
    ),
    (zero_inflated_lognormal_nll_loss, (1.0, 0.0, 0.5, Z), {}, -math.log(GATE), 0),
    (
        zero_inflated_lognormal_nll_loss,
        (1.0, 8.0, 0.5, Z),
        {},
        -math.log(NO_GATE) - scipy.stats.lognorm.logpdf(8, 0.5, scale=math.e),
        (1 - math.log(8)) / 0.25,
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=row_id)
def test_values(row: Row) -> None:
    check(row)


@pytest.mark.parametrize(
    "loss",
    [
        zero_inflated_poisson_nll_loss,
        functools.partial(zero_inflated_negative_binomial_nll_loss, dispersion=0.5),
        hurdle_poisson_nll_loss,
    ],
    ids=["poisson", "negative-binomial", "hurdle"],
)
@pytest.mark.parametrize("f", [-3.0, 0.5, 2.0])
def test_probabilities_of_counts_add_up_to_1(loss: Any, f: float) -> None:
    counts = jnp.arange(200.0)
    losses = loss(jnp.full(200, f), counts, gate_logits=-0.7)
    assert jnp.sum(jnp.exp(-losses)) == pytest.approx(1, abs=1e-5)


def test_a_gate_learns_how_many_zeros_are_its_own() -> None:
    """Of half zeros and half threes a hurdle says 1/2, an inflated count less: some are its own."""
    targets = jnp.array([0.0, 3.0])
    slope = jax.grad(lambda z, f, loss: jnp.sum(loss(f, targets, z)))
    f = jnp.full(2, 1.0)
    assert slope(0.0, f, hurdle_poisson_nll_loss) == 0
    of_count = math.exp(-math.e)
    gate = float(scipy.special.logit((0.5 - of_count) / (1 - of_count)))
    assert slope(gate, f, zero_inflated_poisson_nll_loss) == pytest.approx(0, abs=1e-6)
    assert gate < 0


def test_a_gate_that_never_says_zero_is_not_there() -> None:
    f, y = jnp.array([-1.0, 0.5, 3.0]), jnp.array([0, 2, 25])
    open_gate = zero_inflated_poisson_nll_loss(f, y, -jnp.inf)
    np.testing.assert_allclose(open_gate, poisson_nll_loss(f, y, full=True), rtol=1e-6)
    assert zero_inflated_poisson_nll_loss(0.0, 0, jnp.inf) == 0
    assert zero_inflated_poisson_nll_loss(0.0, 2, jnp.inf) == jnp.inf


def test_a_zero_keeps_its_digits_where_it_is_sure() -> None:
    """At a mean of 1e-5 a plain logarithm of the sum is 0 or one unit in the last place of 1."""
    f = math.log(1e-5)
    exact = -math.log1p(NO_GATE * math.expm1(-1e-5))
    plain = -jnp.log(jnp.float32(GATE) + NO_GATE * jnp.exp(-jnp.exp(jnp.float32(f))))
    assert abs(plain - exact) > 1e-3 * exact
    assert zero_inflated_poisson_nll_loss(f, 0, Z) == pytest.approx(exact, rel=1e-6)


def test_means_that_overflow_leave_a_zero_to_the_gate() -> None:
    value, slopes = jax.jit(jax.value_and_grad(zero_inflated_poisson_nll_loss, (0, 2)))(
        100.0, 0.0, Z
    )
    assert value == pytest.approx(-math.log(GATE), rel=1e-6)
    np.testing.assert_allclose(slopes, [0, GATE - 1], rtol=1e-6)


def test_small_means_of_a_hurdle_keep_their_digits() -> None:
    """A count of 1 is then certain: log((exp(mu) - 1) / mu) is mu / 2."""
    for f in (-12.0, -30.0):
        value, slope = jax.value_and_grad(hurdle_poisson_nll_loss)(f, 1, -jnp.inf)
        np.testing.assert_allclose([value, slope], [math.exp(f) / 2] * 2, rtol=1e-5)


def test_the_largest_customers_do_not_overflow() -> None:
    assert jnp.isfinite(zero_inflated_lognormal_nll_loss(3.0, 3e38, 1.0, 0.0))
    slopes = jax.grad(zero_inflated_lognormal_nll_loss, (0, 2, 3))(3.0, 0.0, 1.0, 0.0)
    np.testing.assert_array_equal(slopes, [0, 0, -0.5])


def test_counts_below_0_and_between_0_and_1() -> None:
    for loss in (zero_inflated_poisson_nll_loss, hurdle_poisson_nll_loss):
        assert jnp.isnan(loss(0.0, -1.0, 0.0))
    assert jnp.isnan(hurdle_poisson_nll_loss(0.0, 0.5, 0.0))


@pytest.mark.parametrize(
    ("loss", "name"),
    [
        (zero_inflated_poisson_nll_loss, "gate_logits"),
        (hurdle_poisson_nll_loss, "gate_logits"),
        (functools.partial(zero_inflated_lognormal_nll_loss, scale=1.0), "gate_logits"),
        (functools.partial(zero_inflated_lognormal_nll_loss, gate_logits=0.0), "scale"),
        (
            functools.partial(zero_inflated_negative_binomial_nll_loss, gate_logits=0.0),
            "dispersion",
        ),
    ],
)
def test_what_does_not_fit_is_named(loss: Any, name: str) -> None:
    with pytest.raises(ValueError, match=name):
        loss(jnp.zeros(3), jnp.zeros(3), **{name: jnp.ones((3, 1))})
