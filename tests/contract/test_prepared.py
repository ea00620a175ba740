"""The door: what a record holds of the arguments of a call."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from jaxloss._contract.prepared import Hyper, elementwise, non_negative, positive, vectors
from jaxloss._contract.reduce import Request

X = np.arange(6, dtype=np.float32).reshape(2, 3)
MASK = np.array([[True, False, True], [True, True, False]])


def test_elementwise_hyperparameters_are_broadcast_and_masked() -> None:
    data = {"predictions": X, "targets": np.float16(2)}
    delta = Hyper(np.array([1.0, -1.0, 3.0]), non_negative)
    given = elementwise(data, Request(MASK), hyper={"delta": delta})
    predictions, targets, found = given.arrays
    np.testing.assert_array_equal(predictions, np.where(MASK, X, 1))
    np.testing.assert_array_equal(targets, np.where(MASK, 2, 1))
    np.testing.assert_array_equal(found, np.where(MASK, [[1, -1, 3]], 1))
    np.testing.assert_array_equal(given.known, [[True, True, True], [True, False, True]])
    assert {x.dtype for x in given.arrays} == {jnp.dtype("float32")}


def test_a_scalar_stays_one_without_a_mask() -> None:
    given = elementwise({"predictions": X}, Request(), hyper={"delta": Hyper(0.5, positive)})
    assert given.hyper[0].shape == ()
    assert given.known is not None
    assert given.known.shape == ()


@pytest.mark.parametrize(("where", "shape"), [(None, (2,)), (MASK, (2,)), (MASK[:, 0], (2,))])
def test_hyperparameters_of_vectors_are_fields_of_the_loss(where: Any, shape: Any) -> None:
    hyper = {"margin": Hyper(2.0), "scale": Hyper(np.array([1.0, -1.0]), positive)}
    given = vectors({"predictions": X}, -1, Request(where), hyper=hyper)
    assert [x.shape for x in given.hyper] == [shape, shape]
    np.testing.assert_array_equal(given.known, [True, False])


@pytest.mark.parametrize("door", ["elementwise", "vectors"])
def test_an_option_that_is_off_is_none(door: str) -> None:
    """Only as a Python value, which is known before the program is traced."""

    def given(value: Any) -> Any:
        hyper = {"first": Hyper(2.0), "smoothing": Hyper(value, positive, off=(0, None))}
        if door == "vectors":
            return vectors({"predictions": X}, -1, Request(), hyper=hyper)
        return elementwise({"predictions": X}, Request(), hyper=hyper)

    for off in (0, 0.0, None):
        assert given(off).hyper[1] is None
        assert given(off).known is None
    assert given(0.25).hyper[1] is not None
    assert given(jnp.zeros(())).hyper[1] is not None


def test_what_is_excluded_is_inside_every_domain() -> None:
    given = elementwise({"predictions": X}, Request(MASK), hyper={"x": Hyper(1.0, lambda x: x > 1)})
    losses = given.reduced(given.data[0])
    np.testing.assert_array_equal(np.isnan(losses), MASK)
    np.testing.assert_array_equal(np.asarray(losses)[~MASK], 0)


def test_losses_that_do_not_count() -> None:
    given = vectors({"predictions": X}, -1, Request(reduction="mean"))
    counted = jnp.array([True, False])
    assert given.reduced(jnp.array([3.0, 5.0]), counted=counted) == 3
    assert given.inside(~counted).reduced(jnp.array([3.0, 5.0]), counted=~counted) == 5
