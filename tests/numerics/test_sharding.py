"""Types in a mesh of Explicit axes, and sorts of rows that lie on several devices."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxloss._numerics.order import argsort, descending, number_below, positions
from jaxloss._numerics.sharding import alike, by_rows, sharded_like, whole_along

RNG = np.random.default_rng(0)
X = RNG.integers(-3, 4, (8, 5)).astype(np.float32)


@pytest.fixture(name="mesh")
def _mesh() -> Iterator[Any]:
    mesh = jax.make_mesh((4, 2), ("rows", "columns"), axis_types=(AxisType.Explicit,) * 2)
    with jax.set_mesh(mesh):
        yield mesh


def on(mesh: Any, x: Any, *names: str | None) -> jax.Array:
    return jax.device_put(x, NamedSharding(mesh, P(*names)))


def spec(x: Any) -> tuple[Any, ...]:
    return tuple(jax.typeof(x).sharding.spec)


def test_what_is_made_of_a_shape_takes_the_sharding_of_the_data(mesh: Any) -> None:
    data = on(mesh, np.zeros((8, 3, 2), np.float32), "rows", None, "columns")
    assert spec(sharded_like(jnp.ones((8, 3, 2)), data)) == ("rows", None, "columns")
    assert spec(sharded_like(jnp.ones((3, 2)), data, (0,))) == (None, "columns")
    assert spec(sharded_like(jnp.ones(8), data, (-1, -2))) == ("rows",)
    # What is sharded otherwise moves.
    assert spec(sharded_like(on(mesh, np.ones(8), "columns"), data, (1, 2))) == ("rows",)
    assert spec(whole_along(data, (0, -2))) == (None, None, "columns")
    assert spec(positions(data)) == ("rows", None, "columns")


def test_data_that_are_whole_follow_those_that_are_sharded(mesh: Any) -> None:
    whole, rows, columns = jnp.zeros(8), on(mesh, X[:, 0], "rows"), on(mesh, X[:, 0], "columns")
    assert [spec(x) for x in alike([whole, rows])] == [("rows",)] * 2
    assert [spec(x) for x in alike([rows, whole])] == [("rows",)] * 2
    # It is the user's to say which is right.
    assert [spec(x) for x in alike([rows, columns])] == [("rows",), ("columns",)]
    assert alike([whole, whole])[0] is whole


def test_nothing_is_done_without_a_mesh() -> None:
    x = jnp.asarray(X)
    assert sharded_like(x, x + 1) is x
    assert whole_along(x, (0, 1)) is x
    assert by_rows(lambda x: x, x) is x


def test_rows_stay_on_their_devices(mesh: Any) -> None:
    """Each device sees its own two rows, whichever axis they lie along."""
    given = X, X[:, 0]
    for axis, names in ((0, ("rows",)), (-1, (None, "rows"))):
        data = on(mesh, given[0] if axis == 0 else given[0].T, *names), jnp.asarray(given[1])

        def total(data: Any, axis: int = axis) -> Any:
            x, factor = data
            return len(factor) * jnp.sum(x, 1 if axis == 0 else 0), x

        sums, same = jax.jit(lambda data, axis=axis, f=total: by_rows(f, data, axis))(data)
        np.testing.assert_array_equal(sums, 2 * np.sum(given[0], 1))
        np.testing.assert_array_equal(same, data[0])
        assert spec(sums) == ("rows",)


@pytest.mark.parametrize("names", [(), ("rows",)])
def test_sorts_and_searches(mesh: Any, names: tuple[str, ...]) -> None:
    x = on(mesh, X, *names)
    order = np.argsort(X, axis=1, kind="stable")
    np.testing.assert_array_equal(argsort(x), order)
    np.testing.assert_array_equal(positions(x), np.broadcast_to(np.arange(5), X.shape))
    slope = jax.jit(jax.grad(lambda x: jnp.sum(descending(x) * jnp.arange(5.0)[None])))
    np.testing.assert_array_equal(descending(x), -np.sort(-X, 1))
    # Equal ones in order of index.
    ranks = np.argsort(np.argsort(-X, axis=1, kind="stable"), 1)
    np.testing.assert_array_equal(slope(x), ranks)
    assert spec(slope(x)) == (*names, *[None] * (2 - len(names)))


@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 7, 8, 9])
def test_the_number_of_entries_below_a_key(size: int) -> None:
    keys = RNG.integers(-3, 4, (6, size))
    ordered = np.sort(keys, 1)
    sides: Any = (False, "left"), (True, "right")
    for equal, side in sides:
        found = number_below(jnp.asarray(ordered), jnp.asarray(keys), equal=equal)
        for row, key, count in zip(ordered, keys, np.asarray(found), strict=True):
            np.testing.assert_array_equal(count, np.searchsorted(row, key, side))
