"""The door: what a record holds of the arguments of a call."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import jaxloss
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


@pytest.mark.parametrize("where", [None, True, np.arange(8) % 2 == 0])
def test_what_is_whole_on_every_device_goes_with_sharded_data(where: Any) -> None:
    """Of Explicit axes: a scalar target, a mask, weights and hyperparameters made anywhere."""
    x = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
    each = np.linspace(0.5, 2, 8, dtype=np.float32)
    scores, labels = jnp.asarray(x), jnp.asarray(np.arange(8) % 3)

    @jax.jit
    def losses(x: Any) -> Any:
        options = {"where": where, "weights": each, "reduction": "mean"}
        wide = {"where": None if where is None else np.reshape(where, (-1, 1)), "weights": 2.0}
        return (
            jaxloss.huber_loss(x, 0.5, delta=each[:, None], **wide),
            jaxloss.gaussian_nll_loss(x, scores, 0.5, **wide),
            jaxloss.softmax_focal_loss(x, labels, gamma=each, **options),
            jaxloss.renyi_divergence(jax.nn.softmax(x), jax.nn.softmax(scores), alpha=each),
            jaxloss.pairwise_hinge_loss(x, scores, margin=each, **options),
            jaxloss.giou_loss(jnp.abs(x[:, [0, 1, 2, 0]]), jnp.ones((8, 4)), **options),
        )

    expected = losses(scores)
    mesh = jax.make_mesh((8,), ("examples",), axis_types=(AxisType.Explicit,))
    with jax.set_mesh(mesh):
        found = losses(jax.device_put(x, NamedSharding(mesh, PartitionSpec("examples"))))
    for got, want in zip(found, expected, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-6)
