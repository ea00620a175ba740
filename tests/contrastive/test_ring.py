"""Losses of two views and of labels over tiles, and over the devices of an axis in a ring.

Both compute the numbers of the matrix of all pairs. In float64, of which a few hundred units in the
last place are the tolerance: sums of 20 terms in another order, and slopes of slopes of these.

Half a minute of CPU, most of it JAX tracing: eight calls, each with all its derivatives, as loops
over devices in loops over tiles.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh
from jax.sharding import PartitionSpec as P

import jaxloss
from jaxloss import clip_loss, info_nce_loss, siglip_loss, supervised_contrastive_loss
from jaxloss._contrastive import meeting
from jaxloss._numerics import ring

DEVICES, EACH = 4, 5
ROWS = DEVICES * EACH
RNG = np.random.default_rng(0)
X, Y, MORE = RNG.normal(size=(3, ROWS, 3))
SCALE = RNG.uniform(2, 9, ROWS)
COLD = RNG.uniform(0.1, 0.5, ROWS)
WHERE = np.arange(ROWS) % 7 != 3
WEIGHTS = RNG.uniform(0.5, 2, ROWS)
# Of some the only positive is on another device, and the last has none.
LABELS = np.array([*(np.arange(ROWS - 1) % 6), 99], np.int32)


@pytest.fixture(autouse=True)
def _small_tiles(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Of two rows of a device, so that the last has one that is none, and in float64."""
    monkeypatch.setattr(ring, "_FEWEST", 2 * EACH)
    monkeypatch.setattr(ring, "_MOST", 2 * EACH)
    with jax.enable_x64(True):
        yield


@dataclasses.dataclass(frozen=True)
class Row:
    """A call.

    Attributes:
        loss: The loss.
        floats: Arguments that have derivatives, by name; numbers for all examples, too.
        constants: Those that have none.
        options: Python values.
    """

    loss: Callable[..., Any]
    floats: Mapping[str, Any]
    constants: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def run(self, floats: Any, constants: Any, **options: Any) -> Any:
        """Not compiled by itself: what is compiled with small tiles is not to be used elsewhere."""
        loss = self.loss.__wrapped__  # type: ignore[attr-defined]
        return loss(**floats, **constants, **self.options, **options)


VIEWS = {"images": X, "texts": Y}
KEYS = {"queries": X, "keys": Y}
MASKED = {"where": WHERE}
ROWS_OF = {
    "clip": Row(clip_loss, {**VIEWS, "logit_scale": np.float64(6)}),
    "clip, each": Row(clip_loss, {**VIEWS, "logit_scale": SCALE, "weights": WEIGHTS}, MASKED),
    "siglip": Row(siglip_loss, {**VIEWS, "logit_bias": np.float64(-2)}),
    "siglip, each": Row(
        siglip_loss,
        {**VIEWS, "logit_scale": SCALE, "logit_bias": -SCALE, "weights": WEIGHTS},
        MASKED,
    ),
    "info_nce": Row(info_nce_loss, {**KEYS, "temperature": np.float64(0.2)}),
    "info_nce, each": Row(
        info_nce_loss,
        {**KEYS, "negatives": MORE[:8], "temperature": COLD, "weights": WEIGHTS},
        MASKED,
        {"symmetric": True},
    ),
    "supervised": Row(
        supervised_contrastive_loss,
        {"embeddings": X, "temperature": np.float64(0.2)},
        {"labels": LABELS},
    ),
    "supervised, each": Row(
        supervised_contrastive_loss,
        {"embeddings": X, "temperature": COLD, "weights": WEIGHTS},
        {"labels": LABELS, **MASKED},
    ),
}
# Tracing Hessians is most of what this file costs: of all kinds of sums and of arguments, once.
ORDERS = {"siglip, each": 2, "info_nce, each": 3, "supervised, each": 2}
rows = pytest.mark.parametrize("row", ROWS_OF.values(), ids=ROWS_OF.keys())


def mesh(kind: AxisType = AxisType.Auto) -> Mesh:
    return Mesh(np.array(jax.devices("cpu")[:DEVICES]), ("batch",), axis_types=(kind,))


def spec(x: Any) -> P:
    return P("batch") if np.ndim(x) else P()


def over_devices(row: Row) -> Callable[..., Any]:
    """Losses of all rows, of a function that each device calls with its part of the arguments."""
    specs = jax.tree.map(spec, (dict(row.floats), dict(row.constants)))
    run = functools.partial(row.run, axis_name="batch")
    return jax.shard_map(run, mesh=mesh(), in_specs=specs, out_specs=P("batch"))


def directions_of(row: Row, seed: int) -> Any:
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: rng.normal(size=np.shape(x)), dict(row.floats))


def derivatives(row: Row, losses: Callable[..., Any], order: int) -> Any:
    """Values, gradients of a weighted sum and tangents; with Hessian-vector products of both ways.

    Args:
        row: The call.
        losses: Of floats and constants.
        order: 1 for no Hessian, 2 for forward over reverse, 3 for reverse over reverse, too.
    """
    cotangent = np.random.default_rng(1).normal(size=ROWS)

    @jax.jit
    def compute(floats: Any, constants: Any, towards: Any) -> Any:
        def total(floats: Any) -> Any:
            found = losses(floats, constants)
            return jnp.sum(found * cotangent), found

        slope = jax.grad(total, has_aux=True)
        _, tangent = jax.jvp(lambda x: losses(x, constants), (floats,), (towards,))
        if order == 1:
            return slope(floats), tangent
        slopes, along, found = jax.jvp(slope, (floats,), (towards,), has_aux=True)

        def product(floats: Any) -> Any:
            parts = jax.tree.map(lambda x, y: jnp.sum(x * y), slope(floats)[0], towards)
            return sum(jax.tree.leaves(parts))

        twice = jax.grad(product)(floats) if order == 3 else None
        return (slopes, found), tangent, along, twice

    return compute(dict(row.floats), dict(row.constants), directions_of(row, 2))


def assert_same(found: Any, wanted: Any, rtol: float = 1e-13, least: float = 1e-3) -> None:
    """Relative to the largest number of an array, or to `least`."""
    for got, want in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        largest = np.max(np.abs(want), initial=least)
        np.testing.assert_allclose(got, want, rtol=0, atol=rtol * largest)


@pytest.mark.parametrize("name", ROWS_OF)
def test_all_derivatives(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a ring of devices, and in tiles on one, those of the matrix of all pairs."""
    order, row = ORDERS.get(name, 1), ROWS_OF[name]
    wanted = derivatives(row, row.run, order)
    assert_same(derivatives(row, over_devices(row), order), wanted)
    if "each" in name:
        monkeypatch.setattr(meeting, "_AT_ONCE", 0)
        assert_same(derivatives(row, row.run, order), wanted)


def by_device(x: Any) -> Any:
    return np.reshape(x, (DEVICES, -1, *np.shape(x)[1:])) if np.ndim(x) else x


@pytest.mark.parametrize("name", ["clip, each", "info_nce, each"])
def test_a_vmapped_axis(name: str) -> None:
    row = ROWS_OF[name]
    floats, constants = dict(row.floats), dict(row.constants)

    @jax.jit
    def compute(floats: Any, constants: Any) -> Any:
        run = functools.partial(row.run, axis_name="batch", reduction="sum")
        mapped = jax.vmap(run, axis_name="batch")
        return jax.value_and_grad(lambda x: jnp.sum(mapped(x, constants)))(floats)

    value, slopes = compute(*jax.tree.map(by_device, (floats, constants)))
    total = jax.jit(jax.value_and_grad(functools.partial(row.run, reduction="sum")))
    wanted, gradient = total(floats, constants)
    assert_same(value, wanted)
    assert_same({k: np.reshape(x, np.shape(floats[k])) for k, x in slopes.items()}, gradient)


def mean_of(images: Any, texts: Any, scale: Any, where: Any, **more: Any) -> jaxloss.Mean:
    options = {"logit_scale": scale, "where": where, "weights": 1.5, **more}
    return jaxloss.Mean.of(clip_loss, images, texts, **options)


@pytest.mark.parametrize("check_vma", [True, False])
def test_gradients_inside_of_a_shard_map(check_vma: bool) -> None:
    """Those of the device's own sum, as the docstring says; and the mean of all devices."""
    weight = float(1.5 * np.sum(WHERE))

    def local(images: Any, texts: Any, scale: Any, shift: Any, where: Any) -> Any:
        def total(images: Any, texts: Any, scale: Any, shift: Any) -> Any:
            mean = mean_of(images + shift, texts, scale, where, axis_name="batch")
            return mean.total, mean

        wrt = (0, 1, 2, 3)
        slopes, mean = jax.grad(total, wrt, has_aux=True)(images, texts, scale, shift)
        *own, of_scale, of_shift = slopes
        shared = of_scale, of_shift
        if not check_vma:
            shared = jax.lax.psum(shared, "batch")
        return (*own, *shared), mean.psum("batch").value()

    parts, all_of_it = P("batch"), P()
    mapped = jax.shard_map(
        local,
        mesh=mesh(),
        in_specs=(parts, parts, all_of_it, all_of_it, parts),
        out_specs=((parts, parts, all_of_it, all_of_it), all_of_it),
        check_vma=check_vma,
    )
    args = X, Y, np.float64(6), np.full((1, 3), 0.1), WHERE
    slopes, mean = jax.jit(mapped)(*args)

    def whole(images: Any, texts: Any, scale: Any, shift: Any) -> Any:
        return mean_of(images + shift, texts, scale, WHERE).value()

    value, wanted = jax.jit(jax.value_and_grad(whole, (0, 1, 2, 3)))(*args[:-1])
    assert_same(mean, value)
    assert_same(slopes, jax.tree.map(lambda x: x * weight, wanted))


def test_means_inside_of_a_shard_map() -> None:
    """That of a device's own losses; its parts add up to that of all, whose gradient is exact."""

    def local(images: Any, texts: Any, where: Any) -> Any:
        options = {"where": where, "axis_name": "batch"}
        own = clip_loss(images, texts, reduction="mean", **options)
        losses = clip_loss(images, texts, **options)

        def of_all(images: Any) -> Any:
            return jaxloss.Mean.of(clip_loss, images, texts, **options).psum("batch").value()

        return own[None], losses, jax.grad(of_all)(images)

    mapped = jax.shard_map(local, mesh=mesh(), in_specs=P("batch"), out_specs=P("batch"))
    own, losses, slopes = jax.jit(mapped)(X, Y, WHERE)
    parts = zip(np.split(losses, DEVICES), np.split(WHERE, DEVICES), strict=True)
    assert_same(own, np.array([np.mean(x[there]) for x, there in parts]))
    whole = jax.jit(jax.grad(lambda x: clip_loss(x, Y, where=WHERE, reduction="mean")))
    assert_same(slopes, whole(X))


def test_several_axes_and_leading_dimensions() -> None:
    """Two batches, each of which lies on all devices of a mesh of two axes, Explicit ones."""
    axes = ("data", "more")
    shape = np.array(jax.devices("cpu")[:DEVICES]).reshape(2, 2)
    own = Mesh(shape, axes, axis_types=(AxisType.Explicit,) * 2)
    views = np.stack([X, Y]), np.stack([Y, MORE])

    def total(axis_name: Any, images: Any, texts: Any) -> Any:
        losses = siglip_loss(images, texts, axis_name=axis_name)
        return jnp.sum(losses * jnp.cos(losses)), losses

    def local(images: Any, texts: Any) -> Any:
        run = functools.partial(total, axes)
        slopes, losses = jax.grad(run, (0, 1), has_aux=True)(images, texts)
        return losses, *slopes

    where = P(None, axes)
    with jax.set_mesh(own):
        placed = jax.device_put(views, jax.NamedSharding(own, where))
        found = jax.jit(jax.shard_map(local, in_specs=where, out_specs=where))(*placed)
    whole = jax.jit(jax.grad(functools.partial(total, None), (0, 1), has_aux=True))
    slopes, losses = whole(*views)
    assert_same(found, (losses, *slopes))


def test_examples_alone_on_their_devices() -> None:
    """Whose only partners are elsewhere; one is excluded, and its device's negatives count."""
    x, y, negatives = X[:DEVICES], Y[:DEVICES], MORE[:DEVICES]
    where, labels = np.array([True, False, True, True]), np.array([0, 0, 1, 0], np.int32)
    x = np.where(where[:, None], x, np.nan)

    def run(axis_name: Any, x: Any, y: Any, more: Any, where: Any, labels: Any) -> Any:
        options = {"where": where, "axis_name": axis_name}

        def losses(x: Any) -> Any:
            clip = clip_loss(x, y, **options)
            near = info_nce_loss(x, y, negatives=more, **options)
            none = info_nce_loss(x, y, negatives=more[:0], **options)
            supervised = supervised_contrastive_loss(x, labels, **options)
            return jnp.sum(clip + near + supervised), (clip, near, none, supervised)

        slopes, found = jax.grad(losses, has_aux=True)(x)
        return slopes, *found

    parts = P("batch")
    mapped = jax.shard_map(
        functools.partial(run, "batch"), mesh=mesh(), in_specs=parts, out_specs=parts
    )
    args = x, y, negatives, where, labels
    assert_same(jax.jit(mapped)(*args), jax.jit(functools.partial(run, None))(*args))


def test_nan_of_an_example_without_partners_shows() -> None:
    def run(x: Any, y: Any) -> Any:
        return clip_loss(x, y, axis_name="batch")

    alone = jax.vmap(run, axis_name="batch")(X[None, :1], np.full((1, 1, 3), np.nan))
    assert np.isnan(alone[0, 0])


def test_small_losses_keep_their_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Losses of 1e-6, in float32: as exact as exponents of 14 are, 14 eps times a few roundings."""
    turn, _ = np.linalg.qr(RNG.normal(size=(3, 3)))
    corners = (np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [-1, 0, 0]]) @ turn).astype(np.float32)
    twice, labels = np.concatenate([corners, 3 * corners]), np.arange(8, dtype=np.int32) % 4
    rows = (
        Row(clip_loss, {"images": corners, "texts": 3 * corners}),
        Row(supervised_contrastive_loss, {"embeddings": twice}, {"labels": labels}),
    )
    for row, knob in zip(rows, ({"logit_scale": 14}, {"temperature": 1 / 14}), strict=True):

        def total(floats: Any, row: Row = row, knob: Any = knob) -> Any:
            losses = row.run(floats, dict(row.constants), **knob)
            return jnp.sum(losses), losses

        evaluate = jax.value_and_grad(total, has_aux=True)
        exact = jax.jit(evaluate)({k: x.astype(float) for k, x in row.floats.items()})
        with monkeypatch.context() as patch, jax.enable_x64(False):
            patch.setattr(meeting, "_AT_ONCE", 0)
            found = jax.jit(evaluate)(dict(row.floats))
        assert np.max(exact[0][1]) < 1e-5
        assert_same(found, exact, rtol=1e-5, least=0)


# ---- memory, and bad input ----


def compiled(function: Callable[..., Any], *shapes: tuple[int, ...]) -> Any:
    args = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    return jax.jit(function).lower(*args).compile()


def temporary_bytes(program: Any) -> int:
    return program.memory_analysis().temp_size_in_bytes


def test_large_batches_on_one_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not a matrix of all pairs, which is 4 GiB here and is stored more than once."""
    monkeypatch.undo()

    def mean(images: Any, texts: Any) -> Any:
        return clip_loss(images, texts, reduction="mean")

    size = (32768, 256)
    with jax.enable_x64(False):
        program = compiled(jax.value_and_grad(mean, (0, 1)), size, size)
    assert temporary_bytes(program) <= 512 * 2**20


def test_memory_of_the_ring(monkeypatch: pytest.MonkeyPatch) -> None:
    """At most an eighth of what all texts and images on each device take: see `gathered`."""
    monkeypatch.undo()
    own = Mesh(np.array(jax.devices("cpu")[:8]), ("batch",), axis_types=(AxisType.Auto,))
    places = np.arange(512, dtype=np.int32)

    def gathered(images: Any, texts: Any) -> Any:
        images, texts = (x / jnp.linalg.norm(x, axis=-1, keepdims=True) for x in (images, texts))
        total, first = 0.0, jax.lax.axis_index("batch") * 512
        for x, y in ((images, texts), (texts, images)):
            every = jax.lax.all_gather(y, "batch", tiled=True)
            log = jax.nn.log_softmax(jnp.matmul(x, every.T) / 0.07)
            own = jnp.take_along_axis(log, (places + first)[:, None], -1)
            total -= jnp.sum(own) / 2
        return jax.lax.psum(total, "batch")

    def ring(images: Any, texts: Any) -> Any:
        losses = clip_loss(images, texts, axis_name="batch", reduction="sum")
        return jax.lax.psum(losses, "batch")

    def program(total: Callable[..., Any]) -> Any:
        mapped = jax.shard_map(total, mesh=own, in_specs=P("batch"), out_specs=P())
        return compiled(jax.value_and_grad(mapped, (0, 1)), (4096, 256), (4096, 256))

    with jax.enable_x64(False):
        found, wanted = program(ring), program(gathered)
    assert temporary_bytes(found) <= temporary_bytes(wanted) / 8
    assert "all-gather(" in wanted.as_text()
    assert "all-gather(" not in found.as_text()
    assert "collective-permute(" in found.as_text()


@rows
def test_an_axis_that_is_not_there_is_refused(row: Row) -> None:
    for name in ("batch", ("batch", "more"), 3):
        with pytest.raises(
            ValueError, match=r"axis_name must be an axis of a jax.shard_map, .* got"
        ):
            row.loss(**row.floats, **row.constants, axis_name=name)


def refused(row: Row, whole: str) -> None:
    """With an argument that is not cut."""
    specs = {name: P() if name == whole else spec(x) for name, x in row.floats.items()}
    constants = jax.tree.map(spec, dict(row.constants))
    run = functools.partial(row.run, axis_name="batch")
    mapped = jax.shard_map(run, mesh=mesh(), in_specs=(specs, constants), out_specs=P("batch"))
    mapped(dict(row.floats), dict(row.constants))


def test_examples_that_are_the_same_on_all_devices_are_refused() -> None:
    views = [ROWS_OF[name] for name in ("clip", "siglip", "info_nce")]
    for row in views:
        for name in list(row.floats)[:2]:
            with pytest.raises(ValueError, match=rf"expected equal shapes|{name} must be a part"):
                refused(row, name)
    every = Row(clip_loss, {"images": X, "texts": Y})
    mapped = jax.shard_map(
        lambda x, y: every.run({"images": x, "texts": y}, {}, axis_name="batch"),
        mesh=mesh(),
        in_specs=(P(), P()),
        out_specs=P("batch"),
    )
    with pytest.raises(ValueError, match=r"images must be a part of the batch for each device"):
        mapped(X, Y)
    with pytest.raises(ValueError, match="negatives must be a part of"):
        refused(dataclasses.replace(ROWS_OF["info_nce, each"], constants={}), "negatives")
