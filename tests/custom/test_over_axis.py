"""`over_axis`: axes, masks of examples and of entries, what goes with a vector, derivatives."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import jaxloss
from jaxloss import Mean, over_axis
from tests.custom import restated
from tests.laws.values import single

RNG = np.random.default_rng(0)
X, Y = (RNG.normal(size=(2, 3, 4)).astype(np.float32) for _ in range(2))


def largest_error(predictions: Any, targets: Any) -> Any:
    assert predictions.ndim == targets.ndim == 1
    return jnp.max(jnp.abs(predictions - targets))


largest = over_axis(largest_error)


def test_the_axis_is_dropped() -> None:
    error = np.abs(X - Y)
    for axis in (-1, 0, 1, (0, 2), [2, 0], None):
        kept = tuple(axis) if isinstance(axis, list) else axis
        np.testing.assert_array_equal(largest(X, Y, axis=axis), np.max(error, axis=kept))
    np.testing.assert_array_equal(largest(X, Y), np.max(error, -1))
    # Another default, of which a call may take another.
    rows = over_axis(largest_error, axis=(1, 2))
    np.testing.assert_array_equal(rows(X, Y), np.max(error, (1, 2)))
    np.testing.assert_array_equal(rows(X, Y, axis=0), np.max(error, 0))
    np.testing.assert_array_equal(largest(X, 0.0), np.max(np.abs(X), -1))


def test_entries_of_several_axes_lie_in_the_order_of_the_axes() -> None:
    flat = over_axis(lambda x, k: x[k], class_numbers=["k"])
    for axis, arranged in (((0, 2), X), ((2, 0), np.swapaxes(X, 0, 2))):
        for k in (0, 3, 5):
            expected = np.moveaxis(arranged, 1, 0).reshape(3, 8)[:, k]
            np.testing.assert_array_equal(flat(X, k, axis=axis), expected)


def test_masks_of_examples() -> None:
    """Values and gradients of others alone, whatever the excluded ones hold."""
    dirty, where = X.copy(), np.array([[True, False, True], [False, True, True]])
    dirty[~where] = np.nan
    losses, slopes = jax.value_and_grad(lambda x: jnp.sum(largest(x, Y, where=where)))(dirty)
    expected, wanted = jax.value_and_grad(lambda x: jnp.sum(largest(x, Y), where=where))(X)
    np.testing.assert_allclose(losses, expected, rtol=1e-6)
    np.testing.assert_array_equal(slopes, np.where(where[..., None], wanted, 0))
    np.testing.assert_array_equal(largest(dirty, Y, where=where[:, :1]).shape, (2, 3))


def mean_square(x: Any, y: Any, *, weights_of: Any = None, where: Any) -> Any:
    """Of entries that are there, each with a weight."""
    assert where.shape == x.shape
    assert where.dtype == bool
    assert weights_of is None or weights_of.shape == x.shape
    square = (x - y) ** 2 if weights_of is None else weights_of * (x - y) ** 2
    return jnp.sum(square, where=where) / jnp.sum(where.astype(x.dtype))


weighed = over_axis(mean_square, per_entry=["weights_of"])


def test_masks_of_entries() -> None:
    """The formula has the mask; all are there if there is none, or one of examples."""
    dirty, entries = X.copy(), RNG.uniform(size=X.shape) < 0.6
    entries[0, 1] = False
    dirty[~entries] = np.nan
    losses, slopes = jax.value_and_grad(lambda x: jnp.sum(weighed(x, Y, where=entries)))(dirty)
    count = np.maximum(entries.sum(-1), 1)
    expected = np.where(entries, (X - Y) ** 2, 0).sum(-1) / count
    np.testing.assert_allclose(losses, expected.sum(), rtol=1e-6)
    np.testing.assert_allclose(
        slopes, np.where(entries, 2 * (X - Y) / count[..., None], 0), rtol=1e-5
    )
    # A vector without any is no example.
    mean = weighed(dirty, Y, where=entries, reduction="mean")
    np.testing.assert_allclose(mean, expected.sum() / (entries.any(-1).sum()), rtol=1e-6)
    np.testing.assert_allclose(weighed(X, Y), ((X - Y) ** 2).mean(-1), rtol=1e-6)
    np.testing.assert_allclose(weighed(X, Y, where=True), ((X - Y) ** 2).mean(-1), rtol=1e-6)


def test_one_vector_for_all_examples() -> None:
    """Its gradient is the sum over the examples; what it holds at excluded entries is not seen."""
    w, where = single([1, 2, np.nan, 4]), np.broadcast_to([True, True, False, True], X.shape)

    def total(w: Any) -> Any:
        return weighed(X, Y, weights_of=w, where=where, reduction="sum")

    for found in (jax.grad(total)(w), jax.jacfwd(total)(w)):
        expected = np.where(where, (X - Y) ** 2 / 3, 0).sum((0, 1))
        np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert np.all(np.isnan(weighed(X, Y, weights_of=w)))
    # Also where the formula leaves nothing out itself: what is not there reads 0.
    dot = over_axis(lambda x, *, w, where=None: jnp.sum(w * x), per_entry=["w"])
    found = dot(X, w=w, where=where)
    np.testing.assert_allclose(found, (np.where(where, X * w, 0)).sum(-1), rtol=1e-5, atol=1e-6)
    columns = weighed(X, Y, weights_of=np.ones((2, 3)), axis=(0, 1))
    np.testing.assert_allclose(columns, ((X - Y) ** 2).mean((0, 1)), rtol=1e-6)


def test_class_numbers() -> None:
    """Out of range, or of an entry that is not there, NaN; of 64 bits too; excluded, 0."""
    loss = restated.softmax_cross_entropy_with_integer_labels
    x = X[0]
    own = jaxloss.softmax_cross_entropy_with_integer_labels
    np.testing.assert_allclose(loss(x, [0, 3, 1]), own(x, [0, 3, 1]), rtol=1e-6)
    for label in (-1, 4, 2**40, -(2**40)):
        labels = np.array([0, label, 1])
        np.testing.assert_array_equal(np.isnan(loss(x, labels)), [False, True, False])
        kept = loss(x, labels, where=np.array([True, False, True]), reduction="mean")
        np.testing.assert_allclose(kept, own(x, [0, 0, 1])[np.array([0, 2])].mean(), rtol=1e-6)
    there = np.array([True, True, True, False])
    np.testing.assert_array_equal(np.isnan(loss(x, [0, 3, 1], where=there[None])), [0, 1, 0])
    slopes = jax.grad(lambda x: jnp.sum(loss(x, jnp.array([0, 3, 1]), where=there[None])))(x)
    np.testing.assert_array_equal(np.isnan(slopes).any(-1), [False, True, False])


def test_a_number_for_each_example() -> None:
    loss = over_axis(lambda x, y: y * jnp.sum(x), per_example=["y"])
    y = np.arange(6).reshape(2, 3)
    np.testing.assert_allclose(loss(X, y), y * X.sum(-1), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(loss(X, 2), 2 * X.sum(-1), rtol=1e-5, atol=1e-6)
    found = jax.grad(lambda y: loss(X, y, reduction="sum"))(y.astype(np.float32))
    np.testing.assert_allclose(found, X.sum(-1), rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="drop the last axis of y"):
        loss(X, y[..., None])


def test_the_number_of_an_excluded_example_has_no_derivative() -> None:
    """Though that of the formula is infinite there."""
    loss = over_axis(lambda x, y: jnp.sqrt(y) * jnp.sum(x), per_example=["y"])
    for bad in (0.0, -1.0, np.nan):
        y = single([bad, 4, 9])
        found = jax.grad(lambda y: loss(X[0], y, where=y > 1, reduction="sum"))(y)
        np.testing.assert_allclose(found, [0, 0.25, 1 / 6] * X[0].sum(-1), rtol=1e-5)


def test_hyperparameters_are_of_examples() -> None:
    loss = over_axis(lambda x, *, scale=1.0: scale * jnp.sum(x), domain={"scale": lambda s: s > 0})
    scale = single([1, 2, -3])
    np.testing.assert_allclose(loss(X[0], scale=scale)[:2], [1, 2] * X[0, :2].sum(-1), rtol=1e-6)
    assert np.isnan(loss(X[0], scale=scale)[2])
    assert loss(X[0], scale=scale, where=[True, True, False])[2] == 0


def test_the_domain_of_vectors() -> None:
    """One entry outside is enough; not one that is not there."""
    loss = over_axis(
        lambda x, *, where=None: jnp.sum(jnp.log(x), where=where), domain={"x": lambda x: x > 0}
    )
    x, where = jnp.array([[1.0, 2.0], [1.0, -1.0]]), jnp.array([[True, True], [True, False]])
    np.testing.assert_array_equal(np.isnan(loss(x)), [False, True])
    slopes = jax.grad(lambda x: loss(x, where=where, reduction="sum"))(x)
    np.testing.assert_array_equal(slopes, [[1, 0.5], [1, 0]])


def test_derivatives() -> None:
    """Vectors for vectors, numbers for numbers; JAX's own where there is none."""
    dot = over_axis(
        lambda a, b, *, scale=1.0: scale * jnp.sum(a * b),
        derivative=lambda a, b, *, scale: (10 * b, None, 7.0),
    )
    a, b = X[0], Y[0]

    def total(a: Any, b: Any, scale: Any) -> Any:
        return jnp.sum(dot(a, b, scale=scale))

    for slopes in (jax.grad, jax.jacfwd):
        in_a, in_b, in_scale = slopes(total, (0, 1, 2))(a, b, 2.0)
        np.testing.assert_allclose(in_a, 10 * b, rtol=1e-6)
        np.testing.assert_allclose(in_b, 2 * a, rtol=1e-6)
        assert in_scale == 21
    second = jax.jvp(jax.grad(total), (a, b, 2.0), (a, a, 0.0))[1]
    np.testing.assert_allclose(second, 10 * a, rtol=1e-6)
    # Of class numbers and masks there is none.
    picked = over_axis(
        lambda x, k, *, where: jnp.sum(x, where=where) + x[k],
        derivative=lambda x, k, *, where: 3.0 * where.astype(x.dtype),
        class_numbers=["k"],
    )
    found = jax.grad(lambda x: jnp.sum(picked(x, jnp.array([0, 1, 2]), where=X[0] > 0)))(X[0])
    there = (X[0] > 0) & (X[0] > 0)[np.arange(3), np.arange(3), None]
    np.testing.assert_array_equal(found[~np.isnan(found)], 3.0 * (X[0] > 0)[~np.isnan(found)])
    np.testing.assert_array_equal(np.isnan(found).any(-1), ~there.any(-1))


def test_one_vector_and_none() -> None:
    assert largest(X[0, 0], Y[0, 0]).shape == ()
    assert largest(X[:0], Y[:0]).shape == (0, 3)
    assert largest(X[:0], Y[:0], reduction="mean") == 0
    with pytest.raises(ValueError, match="predictions must have at least one axis"):
        largest(1.0, 2.0)


def test_an_optional_vector() -> None:
    loss = over_axis(lambda x, y=None: jnp.sum(x if y is None else x - y))
    np.testing.assert_allclose(loss(X), X.sum(-1), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(loss(X, X), 0 * X.sum(-1))


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
def test_on_many_devices(kind: Any) -> None:
    """Several axes, masks, vectors for all examples and numbers of each; meshes of both kinds."""
    rng = np.random.default_rng(1)
    x, y = (rng.normal(size=(8, 3, 2)).astype(np.float32) for _ in range(2))
    labels, where = np.arange(8) % 6, rng.uniform(size=x.shape) < 0.8
    mesh = jax.make_mesh((8,), ("data",), axis_types=(kind,))
    sharding = NamedSharding(mesh, PartitionSpec("data"))
    entropy = restated.softmax_cross_entropy_with_integer_labels

    def total(x: Any, y: Any, labels: Any, where: Any) -> Any:
        options: dict[str, Any] = {"axis": (1, 2), "reduction": "mean"}
        weights = np.linspace(1, 2, 6).reshape(3, 2)
        loss = weighed(x, y, weights_of=weights, where=where, **options)
        loss += restated.cosine_distance(x, y, where=where, **options)
        return loss + entropy(x, labels, temperature=np.linspace(1, 2, 8), **options)

    args = x, y, labels, where
    expected = jax.value_and_grad(total)(*args)
    with jax.set_mesh(mesh):
        found = jax.jit(jax.value_and_grad(total))(*jax.device_put(args, sharding))
        spec = PartitionSpec("data")

        def local(x: Any, y: Any) -> Any:
            return Mean.of(weighed, x, y, axis=(1, 2)).psum("data").value()

        mapped = jax.shard_map(local, in_specs=(spec, spec), out_specs=PartitionSpec())
        whole = jax.jit(mapped)(*jax.device_put((x, y), sharding))
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-6)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-5, atol=1e-7)
    assert found[1].sharding.is_equivalent_to(sharding, 3)
    np.testing.assert_allclose(whole, ((x - y) ** 2).mean(), rtol=1e-6)


def test_a_setting_that_looks_like_a_number() -> None:
    @over_axis(static=["order"])
    def of_order(x: Any, *, order: int = 2) -> Any:
        return jnp.linalg.norm(x, ord=order)

    x = single([3.0, -4.0])
    assert [float(of_order(x)), float(of_order(x, order=1))] == [5, 7]
