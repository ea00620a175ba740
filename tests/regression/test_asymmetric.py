from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxloss import (
    epsilon_insensitive_loss,
    expectile_loss,
    l1_loss,
    l2_loss,
    quantile_loss,
    squared_epsilon_insensitive_loss,
    squared_error,
)
from tests.laws.values import Row, check, evaluated, row_id, single

ROWS: list[Row] = [
    (quantile_loss, (1.0, 4.0), {"quantile": 0.9}, 0.9 * 3, -0.9),
    (quantile_loss, (4.0, 1.0), {"quantile": 0.9}, 0.1 * 3, 0.1),
    (quantile_loss, (4.0, 1.0), {"quantile": 0.0}, 3, 1),
    (quantile_loss, (4.0, 1.0), {"quantile": 1.0}, 0, 0),
    (expectile_loss, (1.0, 4.0), {"expectile": 0.9}, 0.9 * 9, -0.9 * 6),
    (expectile_loss, (4.0, 1.0), {"expectile": 0.9}, 0.1 * 9, 0.1 * 6),
    (epsilon_insensitive_loss, (1.0, 4.0), {}, 3 - 0.1, -1),
    (epsilon_insensitive_loss, (1.0, 4.0), {"epsilon": 3.5}, 0, 0),
    (epsilon_insensitive_loss, (1.0, 4.0), {"epsilon": 3.0}, 0, -1),
    (squared_epsilon_insensitive_loss, (4.0, 1.0), {"epsilon": 0.5}, 2.5**2, 2 * 2.5),
    (squared_epsilon_insensitive_loss, (4.0, 1.0), {"epsilon": 3.5}, 0, 0),
]


@pytest.mark.parametrize("row", ROWS, ids=row_id)
def test_values(row: Row) -> None:
    check(row)


ERRORS = jnp.array([-3.0, -0.2, 0.0, 0.4, 5.0])


def test_several_quantiles_at_once() -> None:
    """`[..., Q]` predictions, a quantile each."""
    predictions = jnp.arange(12.0).reshape(4, 3)
    targets = jnp.broadcast_to(jnp.array([5.0]), (4, 3))
    quantiles = jnp.array([0.1, 0.5, 0.9])
    together = quantile_loss(predictions, targets, quantile=quantiles)
    for i, q in enumerate(quantiles):
        alone = quantile_loss(predictions[:, i], targets[:, i], quantile=q)
        np.testing.assert_array_equal(together[:, i], alone)


@pytest.mark.parametrize(
    ("loss", "name"), [(quantile_loss, "quantile"), (expectile_loss, "expectile")]
)
def test_one_target_for_several_levels(loss: Any, name: str) -> None:
    """`[...]` or `[..., 1]`, along the axis of the levels only."""
    rng = np.random.default_rng(0)
    predictions, targets = single(rng.normal(size=(3, 3))), single(rng.normal(size=3))
    options = {name: single([0.1, 0.5, 0.9])}
    repeated = np.repeat(targets[:, None], 3, 1)
    expected, slopes = evaluated(loss, predictions, repeated, wrt=(0, 1), **options)
    for given in (targets, targets[:, None]):
        found, (in_predictions, in_targets) = evaluated(
            loss, predictions, given, wrt=(0, 1), **options
        )
        np.testing.assert_array_equal(found, expected)
        np.testing.assert_array_equal(in_predictions, slopes[0])
        np.testing.assert_allclose(np.ravel(in_targets), np.sum(slopes[1], 1), rtol=1e-6)
    for wrong in (targets[:2], targets[None], targets[:, None][:2]):
        with pytest.raises(ValueError, match="expected equal shapes, got predictions"):
            loss(predictions, wrong, **options)
    # One level for all, or one for each row, is no axis of levels.
    for level in (0.5, single([[0.1], [0.5], [0.9]])):
        with pytest.raises(ValueError, match="expected equal shapes, got predictions"):
            loss(predictions, targets, **{name: level})


def test_the_middle_quantile_is_half_of_l1_and_the_middle_expectile_l2() -> None:
    np.testing.assert_array_equal(2 * quantile_loss(ERRORS, quantile=0.5), l1_loss(ERRORS))
    np.testing.assert_array_equal(expectile_loss(ERRORS, expectile=0.5), l2_loss(ERRORS))


def test_an_empty_tube_is_none() -> None:
    np.testing.assert_array_equal(epsilon_insensitive_loss(ERRORS, epsilon=0.0), l1_loss(ERRORS))
    square = squared_epsilon_insensitive_loss(ERRORS, epsilon=0.0)
    np.testing.assert_array_equal(square, squared_error(ERRORS))

    def slope(x: jax.Array) -> jax.Array:
        return jax.grad(squared_epsilon_insensitive_loss)(x, epsilon=0.0)

    np.testing.assert_array_equal(jax.vmap(jax.grad(slope))(ERRORS), jnp.full(5, 2.0))
