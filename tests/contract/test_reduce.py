"""Masks, weights and means by themselves, across microbatches and across devices."""

from __future__ import annotations

import functools
import operator
import pickle
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

import jaxloss

LOSSES = np.array([[1.0, 2.0, 4.0], [8.0, 16.0, 32.0]], np.float32)
MASK = np.array([[True, False, True], [False, False, True]])
WEIGHTS = np.array([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]], np.float32)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"reduction": "sum"}, 63),
        ({"reduction": "mean"}, 63 / 6),
        ({"reduction": "sum", "where": MASK}, 1 + 4 + 32),
        ({"reduction": "mean", "where": MASK}, (1 + 4 + 32) / 3),
        ({"reduction": "mean", "where": MASK[1:]}, (4 + 32) / 2),
        ({"reduction": "mean", "where": MASK[:, :1]}, (1 + 2 + 4) / 3),
        ({"reduction": "mean", "where": True}, 63 / 6),
        ({"reduction": "sum", "weights": WEIGHTS}, 1 + 4 + 12 + 8 + 32 + 96),
        ({"reduction": "mean", "weights": WEIGHTS}, (1 + 4 + 12 + 8 + 32 + 96) / 12),
        ({"reduction": "mean", "weights": WEIGHTS[:1]}, (1 + 4 + 12 + 8 + 32 + 96) / 12),
        ({"reduction": "mean", "weights": 7.0}, 63 / 6),
        ({"reduction": "sum", "weights": 2}, 126),
        (
            {"reduction": "mean", "weights": WEIGHTS, "where": MASK},
            (1 * 1 + 3 * 4 + 3 * 32) / (1 + 3 + 3),
        ),
        ({"reduction": "mean", "where": False}, 0),
        ({"reduction": "mean", "weights": 0.0}, 0),
    ],
)
def test_arithmetic(options: dict[str, Any], expected: float) -> None:
    assert jaxloss.reduce(LOSSES, **options) == pytest.approx(expected, rel=3e-7)


def test_unreduced_losses_are_weighed_and_masked() -> None:
    expected = LOSSES * WEIGHTS * MASK
    np.testing.assert_array_equal(jaxloss.reduce(LOSSES, weights=WEIGHTS, where=MASK), expected)
    np.testing.assert_array_equal(jaxloss.reduce(LOSSES), LOSSES)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.int32, jnp.bool_])
def test_sums_in_float32_at_least(dtype: Any) -> None:
    ones = jnp.ones((100, 1000), dtype)
    mean = jaxloss.Mean.of(jaxloss.reduce, ones)
    assert mean.total.dtype == jnp.float32
    assert mean.total == mean.weight == 100_000


def test_counts_beyond_the_integers_of_float32() -> None:
    # A float32 sum of ones stands still at 2**24.
    size = 2**24 + 2**12
    mean = jaxloss.Mean.of(jaxloss.reduce, jnp.zeros(size), where=jnp.ones(size, bool))
    assert mean.weight == size


def test_excluded_losses_and_weights_may_hold_anything() -> None:
    losses = jnp.array([1.0, jnp.nan, 3.0, jnp.inf])
    weights = jnp.array([1.0, jnp.inf, 1.0, jnp.nan])
    mask = jnp.array([True, False, True, False])

    def mean(losses: Any, weights: Any) -> Any:
        return jaxloss.reduce(losses, weights=weights, where=mask, reduction="mean")

    assert mean(losses, weights) == 2
    in_losses, in_weights = jax.grad(mean, (0, 1))(losses, weights)
    np.testing.assert_array_equal(in_losses, [0.5, 0, 0.5, 0])
    np.testing.assert_array_equal(in_weights, [-0.5, 0, 0.5, 0])


def test_means_add() -> None:
    first = jaxloss.Mean(jnp.float32(6.0), jnp.float32(3.0))
    second = jaxloss.Mean(jnp.float32(10.0), jnp.float32(1.0))
    assert (first + second).value() == 4
    assert sum([first, second], jaxloss.Mean.zero()).value() == 4
    from_0: Any = sum([first, second])
    assert from_0.value() == 4
    assert jaxloss.Mean.zero().value() == 0
    assert jax.grad(lambda x: jaxloss.Mean(x, x * 0).value())(1.0) == 0
    with pytest.raises(TypeError):
        _ = first + 1.0  # pyright: ignore[reportOperatorIssue]


MEAN = jaxloss.Mean(jnp.float32(6.0), jnp.float32(4.0))


def test_a_loss_gives_its_mean_in_parts() -> None:
    """Also with arguments bound before, and whatever reduction was among them."""
    whole = functools.partial(jaxloss.smooth_l1_loss, LOSSES, where=MASK, weights=WEIGHTS)
    parts = jaxloss.Mean.of(whole)
    assert parts.value() == whole(reduction="mean")
    assert parts.weight == 7
    of_means = jaxloss.Mean.of(functools.partial(jaxloss.smooth_l1_loss, reduction="mean"), LOSSES)
    assert of_means.weight == 6
    assert jaxloss.Mean.of(jaxloss.reduce, LOSSES, where=MASK).total == 1 + 4 + 32


def test_a_loss_of_ones_own_hands_its_reduction_on() -> None:
    def own(p: Any, *, where: Any = None, reduction: Any = "none") -> jax.Array:
        return jaxloss.reduce(jnp.exp(p), where=where, reduction=reduction)

    mapped = jax.jit(jax.vmap(lambda p: jaxloss.Mean.of(own, p, where=p < 20)))(LOSSES)
    np.testing.assert_array_equal(mapped.weight, [3, 2])
    np.testing.assert_allclose(mapped.total[0], np.sum(np.exp(LOSSES[0])), rtol=1e-6)

    def stubborn(p: Any, reduction: str) -> jax.Array:
        return jnp.sum(p)

    with pytest.raises(TypeError, match=r"^stubborn must hand its reduction on to jaxloss\.reduce"):
        jaxloss.Mean.of(stubborn, LOSSES)  # pyright: ignore[reportCallIssue]
    with pytest.raises(TypeError, match=r"smooth_labels\(\) has no argument 'reduction'"):
        jaxloss.Mean.of(jaxloss.smooth_labels, LOSSES, 0.1)
    for reduction in ("mean", "sum"):
        with pytest.raises(TypeError, match=f"takes no reduction, got '{reduction}'"):
            jaxloss.Mean.of(jaxloss.l1_loss, LOSSES, reduction=reduction)


@pytest.mark.parametrize(
    ("parts", "shown"),
    [
        ((jnp.float32(6), jnp.float32(4)), "value=1.5, total=6.0, weight=4.0"),
        ((np.float32(6), 4), "value=1.5, total=6.0, weight=4"),
        ((jnp.zeros(2), jnp.arange(2.0)), "value=[0. 0.], total=[0. 0.], weight=[0. 1.]"),
        ((jnp.zeros(2), jnp.zeros(3)), "total=[0. 0.], weight=[0. 0. 0.]"),
        ((None, None), "total=None, weight=None"),
        ((jax.ShapeDtypeStruct((), "float32"), 1.0), None),
        ((object(), object()), None),
    ],
)
def test_shows_its_value(parts: Any, shown: str | None) -> None:
    mean = jaxloss.Mean(*parts)
    assert repr(mean) == f"Mean({shown or 'total={}, weight={}'.format(*parts)})"


def test_shows_itself_while_it_is_traced() -> None:
    texts = []

    def seen(mean: jaxloss.Mean) -> jax.Array:
        # Of known numbers the value is known here too.
        texts.append((repr(mean), repr(MEAN), float(MEAN)))
        return mean.total

    jax.jit(seen)(MEAN)
    jax.vmap(seen)(jaxloss.Mean(jnp.ones(2), jnp.ones(2)))
    jax.eval_shape(seen, MEAN)
    for text, known, value in texts:
        assert text.startswith("Mean(total=")
        assert known == "Mean(value=1.5, total=6.0, weight=4.0)"
        assert value == 1.5
    assert str(jax.make_jaxpr(seen)(MEAN)).count("div") == 0


def test_is_a_float() -> None:
    assert float(MEAN) == 1.5
    assert float(jaxloss.Mean.zero()) == 0
    with pytest.raises(TypeError):
        float(jaxloss.Mean(jnp.ones(2), jnp.ones(2)))
    with pytest.raises(jax.errors.ConcretizationTypeError):
        jax.jit(float)(MEAN)


ARITHMETIC = ("sub", "mul", "truediv")
ORDER = ("lt", "le", "gt", "ge")


@pytest.mark.parametrize("name", ["add", *ARITHMETIC, *ORDER, "eq", "ne"])
@pytest.mark.parametrize(
    "number", [2, 2.0, np.float32(2), np.ones(2), jnp.float32(2)], ids=lambda x: type(x).__name__
)
def test_is_no_number(name: str, number: Any) -> None:
    apply = getattr(operator, name)
    for sides in ((MEAN, number), (number, MEAN)):
        with pytest.raises(TypeError, match=r"a Mean .+ a number is not defined: .* \.value\(\)$"):
            apply(*sides)


def test_means_have_no_arithmetic_but_their_sum() -> None:
    for name in ARITHMETIC + ORDER:
        with pytest.raises(TypeError, match=r"a Mean .+ a Mean is not defined"):
            getattr(operator, name)(MEAN, MEAN)
    other = jaxloss.Mean(MEAN.total, MEAN.weight)
    assert MEAN == MEAN
    assert other != MEAN
    assert MEAN in {MEAN}
    assert pickle.loads(pickle.dumps(MEAN)).value() == 1.5


# A mask so uneven that the mean of means is far off: 8 batches with 1, 1, ..., and 64 entries.
ROWS, COLUMNS = 8, 64


def uneven() -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(0)
    predictions = rng.normal(size=(ROWS, COLUMNS)).astype(np.float32)
    targets = rng.normal(size=(ROWS, COLUMNS)).astype(np.float32)
    targets[:-1] += 5
    mask = np.zeros((ROWS, COLUMNS), bool)
    mask[:, 0] = True
    mask[-1] = True
    predictions[~mask] = np.nan
    return predictions, targets, mask


def mean(predictions: Any, targets: Any, mask: Any) -> Any:
    return jaxloss.smooth_l1_loss(predictions, targets, where=mask, reduction="mean")


def part(predictions: Any, targets: Any, mask: Any) -> jaxloss.Mean:
    return jaxloss.Mean.of(jaxloss.smooth_l1_loss, predictions, targets, where=mask)


def scanned(predictions: Any, targets: Any, mask: Any) -> Any:
    def step(total: jaxloss.Mean, batch: Any) -> Any:
        return total + part(*batch), None

    return jax.lax.scan(step, jaxloss.Mean.zero(), (predictions, targets, mask))[0].value()


def mesh(kind: AxisType = AxisType.Auto) -> Mesh:
    return Mesh(np.array(jax.devices("cpu")[:8]), ("batch",), axis_types=(kind,))


def sharded(predictions: Any, targets: Any, mask: Any) -> Any:
    def local(*batch: Any) -> Any:
        return part(*batch).psum("batch").value()

    return jax.shard_map(local, mesh=mesh(), in_specs=P("batch"), out_specs=P())(
        predictions, targets, mask
    )


def scanned_on_each(predictions: Any, targets: Any, mask: Any) -> Any:
    """Eight microbatches on each of eight devices."""

    def local(*rows: Any) -> Any:
        def step(total: jaxloss.Mean, batch: Any) -> Any:
            return total + part(*batch), None

        zero = jax.lax.pcast(jaxloss.Mean.zero(), "batch", to="varying")
        batches = tuple(x.reshape(8, -1) for x in rows)
        return jax.lax.scan(step, zero, batches)[0].psum("batch").value()

    return jax.shard_map(local, mesh=mesh(), in_specs=P("batch"), out_specs=P())(
        predictions, targets, mask
    )


@pytest.mark.parametrize("over_batches", [scanned, sharded, scanned_on_each])
def test_the_global_mean_and_its_gradient(over_batches: Any) -> None:
    inputs = tuple(map(jnp.asarray, uneven()))
    expected, slopes = jax.value_and_grad(mean)(*inputs)
    value, gradients = jax.jit(jax.value_and_grad(over_batches))(*inputs)
    np.testing.assert_allclose(value, expected, rtol=1e-6)  # a different order of summation
    np.testing.assert_allclose(gradients, slopes, rtol=1e-6)
    assert np.all(np.asarray(gradients)[~uneven()[2]] == 0)
    of_means = jnp.mean(jax.vmap(mean)(*inputs))
    assert abs(of_means / expected - 1) > 0.1


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
def test_an_ordinary_mean_of_sharded_examples(kind: AxisType) -> None:
    expected, slopes = jax.value_and_grad(mean)(*uneven())
    with jax.set_mesh(mesh(kind)):
        sharding = NamedSharding(mesh(kind), P("batch"))
        value, gradients = jax.jit(jax.value_and_grad(mean))(*jax.device_put(uneven(), sharding))
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    np.testing.assert_allclose(gradients, slopes, rtol=1e-6)
    assert gradients.sharding.is_equivalent_to(sharding, 2)


def test_parts_without_a_mask_psum_in_shard_map() -> None:
    """The weight is a constant on each device, and still has to be added."""
    predictions = np.arange(16, dtype=np.float32)

    def local(x: Any) -> Any:
        return jaxloss.Mean.of(jaxloss.l1_loss, x).psum("batch").value()

    mapped = jax.shard_map(local, mesh=mesh(), in_specs=P("batch"), out_specs=P())
    value, slopes = jax.jit(jax.value_and_grad(mapped))(predictions)
    assert value == 7.5
    np.testing.assert_allclose(np.asarray(slopes)[1:], 1 / 16, rtol=1e-6)


def test_psum_over_a_vmapped_axis() -> None:
    inputs = uneven()
    mapped = jax.vmap(lambda *x: part(*x).psum("i").value(), axis_name="i")
    np.testing.assert_allclose(mapped(*inputs), mean(*inputs), rtol=1e-6)


def test_reduces_a_loss_of_ones_own() -> None:
    own = functools.partial(jaxloss.reduce, reduction="mean")
    assert own(np.array([1.0, 3.0])) == 2
