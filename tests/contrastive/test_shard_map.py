"""A batch on the devices of a `shard_map`: with the name of its axis losses are of all of it."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

import jaxloss
from jaxloss.testing.subject import assert_close

ROWS = 8
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(2, ROWS, 3)).astype(np.float32)
LABELS = np.asarray([0, 1, 0, 2, 1, 2, 0, 3], np.int32)
WHERE = np.arange(ROWS) != 5
WEIGHTS = RNG.uniform(1, 2, ROWS).astype(np.float32)

OF_LABELS = [
    (jaxloss.ntxent, {"temperature": 0.5}),
    (jaxloss.multi_similarity_loss, {"beta": 5.0}),
    (jaxloss.circle_loss, {"gamma": 8.0}),
    (jaxloss.lifted_structure_loss, {}),
    (jaxloss.batch_contrastive_loss, {"neg_margin": 2.0}),
    (jaxloss.batch_triplet_loss, {"mining": "semi_hard"}),
    (jaxloss.batch_triplet_loss, {"mining": "hard"}),
    (jaxloss.batch_triplet_loss, {"mining": "all", "margin": None, "average": "active"}),
]
OF_VIEWS = [
    (jaxloss.barlow_twins_loss, {"off_diagonal": 0.3}),
    (jaxloss.barlow_twins_loss, {"off_diagonal": 0.3, "epsilon": 0.1}),
    (jaxloss.vicreg_loss, {"epsilon": 0.1}),
]


MESH = jax.make_mesh((2, 2), ("first", "second"), axis_types=(AxisType.Auto,) * 2)
BOTH = ("first", "second")
EACH, SAME = PartitionSpec(BOTH), PartitionSpec()


def check(of: Any, out_specs: Any, *args: Any) -> None:
    """That `of(axis_name)` of four devices gives what `of(None)` gives of one."""
    found = jax.jit(jax.shard_map(of(BOTH), mesh=MESH, in_specs=EACH, out_specs=out_specs))(*args)
    expected = jax.jit(of(None))(*args)
    for got, want in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert_close(got, want)


@pytest.mark.parametrize(("loss", "options"), OF_LABELS)
def test_labelled(loss: Any, options: Any) -> None:
    """Losses of the anchors, their gradient, and the mean of all."""

    def of(axis_name: Any) -> Any:
        def compute(x: Any, labels: Any, where: Any, weights: Any) -> Any:
            given = {**options, "axis_name": axis_name, "where": where, "weights": weights}

            def total(x: Any) -> Any:
                losses = loss(x, labels, **given, reduction="none")
                return jnp.sum(losses), losses

            slope, losses = jax.grad(total, has_aux=True)(x)
            mean = jaxloss.Mean.of(loss, x, labels, **given)
            return losses, slope, (mean if axis_name is None else mean.psum(axis_name)).value()

        return compute

    check(of, (EACH, EACH, SAME), X, LABELS, WHERE, WEIGHTS)


def test_pairs() -> None:
    """Losses of the anchors, and the gradients in these and in the positives of all devices."""

    def of(axis_name: Any) -> Any:
        def compute(x: Any, y: Any, labels: Any, where: Any) -> Any:
            options = {"labels": labels, "axis_name": axis_name, "where": where}

            def total(x: Any, y: Any) -> Any:
                losses = jaxloss.n_pairs_loss(x, y, **options)
                return jnp.sum(losses), losses

            slopes, losses = jax.grad(total, (0, 1), has_aux=True)(x, y)
            return losses, *slopes

        return compute

    check(of, (EACH, EACH, EACH), X, Y, LABELS, WHERE)


@pytest.mark.parametrize(("loss", "options"), OF_VIEWS)
def test_redundancy(loss: Any, options: Any) -> None:
    """The loss, the gradients in both views and in a hyperparameter, and a Hessian's product."""
    (name,) = set(options) & {"off_diagonal"} or {"covariance"}

    def of(axis_name: Any) -> Any:
        def compute(x: Any, y: Any, where: Any) -> Any:
            def value(x: Any, y: Any, factor: Any) -> Any:
                given = {**options, name: factor}
                return loss(x, y, **given, axis_name=axis_name, where=where)

            factor = jnp.float32(options.get(name, 1.0))
            at = x, y, factor
            slopes = jax.grad(value, (0, 1, 2))
            moved = jax.jvp(lambda x: slopes(x, y, factor)[0], (x,), (jnp.cos(x),))[1]
            return value(*at), slopes(*at), moved

        return compute

    check(of, (SAME, (EACH, EACH, SAME), EACH), constant(X), Y, WHERE)


def constant(x: np.ndarray) -> np.ndarray:
    """With a feature that is the same in all examples."""
    x = x.copy()
    x[:, 1] = 0.7
    return x


def test_an_example_alone_on_its_device() -> None:
    """Each device by itself has no variance, and no other example."""
    whole = jaxloss.vicreg_loss(X, Y)
    mesh = jax.make_mesh((ROWS,), ("batch",), axis_types=(AxisType.Auto,))
    each = PartitionSpec("batch")
    loss = functools.partial(jaxloss.vicreg_loss, axis_name="batch")
    assert_close(jax.shard_map(loss, mesh=mesh, in_specs=each, out_specs=SAME)(X, Y), whole)


ALL = [*OF_LABELS, *OF_VIEWS]


@pytest.mark.parametrize(("loss", "options"), ALL)
def test_names_that_are_none_are_refused(loss: Any, options: Any) -> None:
    second = LABELS if (loss, options) in OF_LABELS else Y
    with pytest.raises(ValueError, match=r"^axis_name must be an axis .* got str 'other'"):
        loss(X, second, axis_name="other", **options)


@pytest.mark.parametrize(("loss", "options"), ALL)
def test_the_same_batch_on_all_devices_is_refused(loss: Any, options: Any) -> None:
    second = LABELS if (loss, options) in OF_LABELS else Y
    named = functools.partial(loss, axis_name="first", **options)
    same = jax.shard_map(named, mesh=MESH, in_specs=SAME, out_specs=SAME)
    with pytest.raises(ValueError, match="must be a part of the batch for each device"):
        same(X, second)


def test_names_of_vmap() -> None:
    each = jax.vmap(
        functools.partial(jaxloss.ntxent, reduction="none", axis_name="v"), axis_name="v"
    )
    losses = each(X.reshape(4, 2, 3), LABELS.reshape(4, 2))
    assert_close(losses.ravel(), jaxloss.ntxent(X, LABELS, reduction="none"))
