"""The transducer against all paths written out, and against the textbook's grid in float64."""

from __future__ import annotations

import functools
import inspect
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

import jaxloss
from tests.laws.compiling import as_users
from tests.laws.values import evaluated

EPS = float(np.finfo(np.float32).eps)


def by_enumeration(logits: Any, labels: tuple[int, ...], blank: int = 0) -> Any:
    """-log of the sum over all paths, a differentiable function of the logits of one example."""
    log_shares, frames = jax.nn.log_softmax(logits), len(logits)
    if not frames:
        return jnp.inf if labels else 0.0
    sums = []
    for places in itertools.combinations(range(frames - 1 + len(labels)), len(labels)):
        t, u, total = 0, 0, jnp.zeros(())
        for step in range(frames + len(labels)):
            if step in places:
                total, u = total + log_shares[t, u, labels[u]], u + 1
            else:
                total, t = total + log_shares[t, u, blank], t + 1
        sums.append(total)
    return -jax.nn.logsumexp(jnp.stack(sums))


def one(logits: Any, labels: Any, **options: Any) -> Any:
    """The loss of one example without padding."""
    codes = np.array(labels, np.int32)
    paddings = np.zeros(len(logits), np.float32), np.zeros(len(codes), np.float32)
    return jaxloss.rnnt_loss(logits, paddings[0], codes, paddings[1], **options)


def batch(seed: int = 0, size: int = 8, frames: int = 5, count: int = 3, classes: int = 4) -> Any:
    """Examples of all lengths, with padding."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(size, frames, count + 1, classes)).astype(np.float32) * 2
    labels = rng.integers(1, classes, size=(size, count))
    late = np.arange(frames)[None] >= rng.integers(frames - 2, frames + 1, size=(size, 1))
    spare = np.arange(count)[None] >= rng.integers(0, count + 1, size=(size, 1))
    return logits, late.astype(np.float32), labels.astype(np.int32), spare.astype(np.float32)


def total(logits: Any, *rest: Any, **options: Any) -> Any:
    return jaxloss.rnnt_loss(logits, *rest, reduction="sum", **options)


def test_all_paths_written_out() -> None:
    """Values, both modes, and second derivatives; another blank, and all numbers of labels."""
    cases = [(), (1,), (2, 1), (1, 1, 1)]
    with jax.enable_x64(True):
        logits = jnp.asarray(np.random.default_rng(0).normal(size=(4, 3, 4, 4)) * 2)
        labels = np.array([[*each, -1, -1, -1][:3] for each in cases])
        rest = np.zeros((4, 3)), labels, labels < 0

        def ours(logits: Any) -> Any:
            return jaxloss.rnnt_loss(logits, *rest, blank_id=3)

        def truth(logits: Any) -> Any:
            pairs = zip(logits, cases, strict=True)
            return jnp.stack([by_enumeration(x, each, 3) for x, each in pairs])

        def all_of(loss: Any) -> Any:
            tangent = jnp.sin(jnp.arange(logits.size, dtype=logits.dtype)).reshape(logits.shape)

            def summed(logits: Any) -> Any:
                return jnp.sum(loss(logits) ** 2)

            def along(logits: Any) -> Any:
                return jnp.sum(jax.grad(summed)(logits) * tangent)

            slopes, forward = jax.jvp(jax.grad(summed), (logits,), (tangent,))
            moved = jax.jvp(loss, (logits,), (tangent,))
            return moved, slopes, forward, jax.grad(along)(logits)

        compare = functools.partial(np.testing.assert_allclose, rtol=1e-11, atol=1e-12)
        results = jax.jit(all_of, static_argnums=0)
        jax.tree.map(compare, results(ours), results(truth))


def textbook(logits: np.ndarray, labels: np.ndarray) -> tuple[float, np.ndarray]:
    """Graves' grid in logarithms and float64, of one example: the loss and its gradient."""
    frames, columns, _ = logits.shape
    with np.errstate(divide="ignore"):
        top = logits.max(-1, keepdims=True)
        logs = logits - top - np.log(np.exp(logits - top).sum(-1, keepdims=True))
    nothing = np.full((frames + 1, columns + 1), -np.inf)
    before, after = nothing.copy(), nothing.copy()
    before[0, 0] = after[frames, columns - 1] = 0
    blank, said = logs[..., 0], np.full((frames, columns), -np.inf)
    said[:, :-1] = logs[:, np.arange(columns - 1), labels]
    for t, u in np.ndindex(frames, columns):
        if t:
            before[t, u] = np.logaddexp(before[t, u], before[t - 1, u] + blank[t - 1, u])
        if u:
            before[t, u] = np.logaddexp(before[t, u], before[t, u - 1] + said[t, u - 1])
    for t, u in reversed(list(np.ndindex(frames, columns))):
        after[t, u] = np.logaddexp(after[t + 1, u] + blank[t, u], after[t, u + 1] + said[t, u])
    loss = -after[0, 0]
    down = np.exp(before[:-1, :-1] + blank + after[1:, :-1] + loss)
    across = np.exp(before[:-1, :-1] + said + after[:-1, 1:] + loss)
    slopes = np.exp(logs) * (down + across)[..., None]
    slopes[..., 0] -= down
    for u, label in enumerate(labels):
        slopes[:, u, label] -= across[:, u]
    return loss, slopes


@pytest.mark.parametrize("boost", [0.0, 4.0])
def test_accuracy_in_float32(boost: float) -> None:
    """200 frames and 60 labels: in logarithms of float32 occupancies have 12,700 eps."""
    rng = np.random.default_rng(1)
    labels = rng.integers(1, 8, 60).astype(np.int32)
    logits = rng.normal(size=(200, 61, 8)).astype(np.float32) * np.float32(2)
    for t in range(200):
        u = t * 60 // 200
        logits[t, u, labels[u] if t * 60 % 200 < 60 else 0] += np.float32(boost)
    loss, slopes = textbook(logits.astype(np.float64), labels)
    data = jnp.asarray(logits), np.zeros(200, np.float32), labels, np.zeros(60, np.float32)
    value, gradient = as_users(jax.value_and_grad(jaxloss.rnnt_loss))(*data)
    np.testing.assert_allclose(value, loss, rtol=4 * EPS)
    # Products of 260 rounded factors: 16 eps, which is the square root of that.
    np.testing.assert_allclose(gradient, slopes, atol=16 * EPS, rtol=0)


@pytest.mark.parametrize("scale", [5, 20, 40])
def test_small_losses_to_the_last_digits(scale: float) -> None:
    """The labels are nearly certain: their loss is the sum of all that goes astray."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(3, 3, 3)).astype(np.float32)
    for (t, u), step in {(0, 0): 0, (1, 0): 1, (1, 1): 2, (1, 2): 0, (2, 2): 0}.items():
        logits[t, u, step] += np.float32(scale)
    wide = logits.astype(np.float64)
    shares = np.exp(wide) / np.exp(wide).sum(-1, keepdims=True)
    # 1 less what comes to the end: the astray of each cell times what comes to it.
    begun, lost = np.zeros((4, 4)), 0.0
    begun[0, 0] = 1
    for t, u in np.ndindex(3, 3):
        allowed = [0] if u == 2 else [0, (1, 2)[u]]
        lost += begun[t, u] * np.delete(shares[t, u], allowed).sum()
        begun[t + 1, u] += begun[t, u] * shares[t, u, 0]
        if u < 2:
            begun[t, u + 1] += begun[t, u] * shares[t, u, (1, 2)[u]]
    lost += begun[3, :2].sum()
    np.testing.assert_allclose(one(logits, [1, 2]), -np.log1p(-lost), rtol=32 * EPS)


def test_without_labels_the_blanks_are_counted() -> None:
    logits = np.random.default_rng(0).normal(size=(4, 1, 5)).astype(np.float32)
    blanks = -jax.nn.log_softmax(jnp.asarray(logits))[:, 0, 0]
    np.testing.assert_allclose(one(logits, []), np.sum(blanks), rtol=4 * EPS)
    assert one(np.zeros((0, 1, 5)), []) == 0
    assert one(np.zeros((0, 2, 5)), [1]) == np.inf
    none = np.zeros((0, 2), np.int32)
    empty = functools.partial(jaxloss.rnnt_loss, np.zeros((0, 4, 3, 5)), np.zeros((0, 4)))
    assert empty(none, none).shape == (0,)
    assert empty(none, none, reduction="mean") == 0


def test_more_labels_than_frames() -> None:
    """All in one frame: the product of the shares of the labels and of the blank."""
    logits = np.random.default_rng(0).normal(size=(1, 4, 3)).astype(np.float32)
    logs = np.asarray(jax.nn.log_softmax(jnp.asarray(logits)))[0]
    expected = -(logs[0, 1] + logs[1, 2] + logs[2, 1] + logs[3, 0])
    np.testing.assert_allclose(one(logits, [1, 2, 1]), expected, rtol=4 * EPS)


def test_ruled_out_classes() -> None:
    logits, *rest = batch()
    more = np.concatenate([logits, np.full_like(logits[..., :2], -np.inf)], -1)
    losses, (slopes,) = evaluated(jaxloss.rnnt_loss, logits, *rest)
    wide, (more_slopes,) = evaluated(jaxloss.rnnt_loss, more, *rest)
    np.testing.assert_allclose(wide, losses, rtol=2 * EPS)
    np.testing.assert_allclose(more_slopes[..., :4], slopes, atol=2 * EPS)
    np.testing.assert_array_equal(more_slopes[..., 4:], 0)
    # Without a way to say the first label, or to end.
    none, free = logits.copy(), np.zeros_like(rest[2])
    none[0, :, 0, rest[1][0, 0]] = none[1, 0, :, :] = none[2, ..., 0] = -np.inf
    losses, (slopes,) = evaluated(jaxloss.rnnt_loss, none, rest[0], rest[1], free)
    np.testing.assert_array_equal(losses[:3], np.inf)
    assert np.all(np.isfinite(losses[3:]))
    np.testing.assert_array_equal(slopes[:3], 0)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_logits_that_are_no_numbers(bad: float) -> None:
    logits, late, labels, spare = batch()
    logits[1, 2, 0, 3] = bad
    losses, (slopes,) = evaluated(jaxloss.rnnt_loss, logits, late, labels, spare)
    np.testing.assert_array_equal(np.isnan(losses), np.arange(len(losses)) == 1)
    assert np.any(np.isnan(slopes[1]))
    assert np.all(np.isfinite(np.delete(slopes, 1, 0)))


def test_padding_is_inert() -> None:
    """Whatever it holds, in values and derivatives; a padded frame may stand anywhere."""
    logits, late, labels, spare = batch()
    late[:, 1] = 1
    after = np.arange(4)[None] > (1 - spare).sum(1)[:, None]
    padded = np.broadcast_to((late == 1)[:, :, None] | after[:, None], logits.shape[:3])[..., None]
    tangent = np.ones_like(logits)

    @jax.jit
    def all_of(logits: Any, labels: Any) -> Any:
        loss = functools.partial(total, logit_paddings=late, labels=labels, label_paddings=spare)
        slopes, curvature = jax.jvp(jax.grad(loss), (logits,), (tangent,))
        return loss(logits), slopes, curvature

    def dirty(garbage: float, label: int) -> Any:
        spoiled = np.where(padded, np.float32(garbage), logits)
        return all_of(spoiled, np.where(spare == 1, np.int32(label), labels))

    clean = dirty(0, 0)
    for garbage, label in ((np.nan, -1), (np.inf, 99), (-np.inf, 0), (1e38, 2)):
        jax.tree.map(np.testing.assert_array_equal, dirty(garbage, label), clean)
    losses = jaxloss.rnnt_loss(logits, late, labels, spare)
    for x, left_out, codes, unused, loss in zip(logits, late, labels, spare, losses, strict=True):
        codes = codes[unused == 0]
        alone = x[left_out == 0][:, : len(codes) + 1].astype(np.float64)
        np.testing.assert_allclose(loss, textbook(alone, codes)[0], rtol=4 * EPS)


def test_one_example_a_batch_and_vmap_agree() -> None:
    data = batch()
    losses, (slopes,) = evaluated(jaxloss.rnnt_loss, *data)
    rows = [jaxloss.rnnt_loss(*(x[i] for x in data)) for i in range(3)]
    np.testing.assert_allclose(rows, losses[:3], rtol=4 * EPS)
    mapped = jax.jit(jax.vmap(jax.value_and_grad(total)))(*data)
    np.testing.assert_allclose(mapped[0], losses, rtol=4 * EPS)
    np.testing.assert_allclose(mapped[1], slopes, atol=4 * EPS)
    eager = inspect.unwrap(jaxloss.rnnt_loss)(*data)
    np.testing.assert_allclose(eager, losses, rtol=4 * EPS)


def test_masks_weights_and_reductions() -> None:
    logits, late, labels, spare = batch()
    losses = jaxloss.rnnt_loss(logits, late, labels, spare)
    where, weights = np.arange(8) % 3 > 0, np.arange(8, dtype=np.float32)
    data = (
        np.where(where[:, None, None, None], logits, np.float32(np.nan)),
        np.where(where[:, None], late, np.float32(np.nan)),
        np.where(where[:, None], labels, np.int32(99)),
        spare,
    )
    kept = np.where(where, losses * weights, 0)
    found, (slopes,) = evaluated(jaxloss.rnnt_loss, *data, where=where, weights=weights)
    np.testing.assert_allclose(found, kept, rtol=4 * EPS)
    assert np.all(np.isfinite(slopes))
    np.testing.assert_array_equal(slopes[~where], 0)
    loss = functools.partial(jaxloss.rnnt_loss, *data, where=where, weights=weights)
    mean = loss(reduction="mean")
    np.testing.assert_allclose(mean, np.sum(kept) / np.sum(weights[where]), rtol=4 * EPS)
    np.testing.assert_array_equal(jaxloss.Mean.of(loss).value(), mean)
    assert jaxloss.rnnt_loss(*data, where=False, reduction="mean") == 0


def test_fastemit_pulls_at_labels() -> None:
    """The value is that without; the gradient has each label 1 + lambda times."""
    logits = np.random.default_rng(0).normal(size=(3, 3, 4)).astype(np.float32)

    def of_labels(logits: Any) -> Any:
        """What labels have of the gradient: by a factor of their shares, in enumeration."""
        logs, held = jax.nn.log_softmax(logits), jax.lax.stop_gradient
        only = (
            held(logs)
            .at[:, jnp.arange(2), jnp.array([1, 2])]
            .set(logs[:, jnp.arange(2), jnp.array([1, 2])])
        )
        sums = []
        for places in itertools.combinations(range(4), 2):
            t, u, path = 0, 0, jnp.zeros(())
            for step in range(5):
                if step in places:
                    path, u = path + only[t, u, (1, 2)[u]], u + 1
                else:
                    path, t = path + only[t, u, 0], t + 1
            sums.append(path)
        return -jax.nn.logsumexp(jnp.stack(sums))

    data = logits, np.zeros(3, np.float32), np.array([1, 2]), np.zeros(2, np.float32)
    plain, (slopes,) = evaluated(jaxloss.rnnt_loss, *data)
    early, (hasty,) = evaluated(jaxloss.rnnt_loss, *data, fastemit_lambda=0.5)
    np.testing.assert_array_equal(early, plain)
    extra = jax.jit(jax.grad(of_labels))(logits)
    np.testing.assert_allclose(hasty - slopes, 0.5 * extra, atol=4 * EPS)


OUTSIDE = [
    {"labels": [1, 5]},
    {"labels": [1, -1]},
    {"labels": [0, 1]},
    {"labels": np.array([1, 2**32 + 1])},
    {"label_paddings": [1.0, 0.0]},
    {"label_paddings": [0.0, 0.5]},
    {"logit_paddings": [0.0, 0, 2]},
    {"logit_paddings": [0.0, 0, np.nan]},
    {"blank_id": 5},
    {"blank_id": -1},
    {"fastemit_lambda": -0.1},
    {"fastemit_lambda": np.nan},
]


@pytest.mark.parametrize("change", OUTSIDE, ids=str)
def test_outside_the_domain(change: dict[str, Any]) -> None:
    given: dict[str, Any] = {
        "logits": np.ones((3, 3, 5), np.float32),
        "logit_paddings": [0.0, 0, 0],
        "labels": [1, 2],
        "label_paddings": [0.0, 0],
        "blank_id": 0,
        "fastemit_lambda": 0.0,
    } | change
    with jax.enable_x64(isinstance(given["labels"], np.ndarray)):
        arrays = {name: jnp.asarray(x) for name, x in given.items()}
        value, slopes = jax.value_and_grad(jaxloss.rnnt_loss)(arrays.pop("logits"), **arrays)
    assert np.isnan(value)
    assert np.all(np.isnan(slopes))


@pytest.mark.parametrize(
    "shapes",
    [
        ((4, 3, 5), (4,), (2,), (3,)),
        ((4, 3, 5), (3,), (2,), (2,)),
        # Labels that do not fit the logits.
        ((4, 2, 5), (4,), (2,), (2,)),
        ((4, 4, 5), (4,), (2,), (2,)),
        ((4, 5), (4,), (2,), (2,)),
        ((2, 4, 3, 5), (2, 4), (2,), (2,)),
    ],
)
def test_shapes_are_refused_by_name(shapes: Any) -> None:
    logits, late, labels, spare = map(np.zeros, shapes)
    message = r"labels \+ 1, classes\].* got logits float.*logit_paddings .*labels int"
    with pytest.raises(ValueError, match=message):
        jaxloss.rnnt_loss(logits, late, labels.astype(np.int32), spare)


def test_kinds_are_refused_by_name() -> None:
    logits, *rest = np.zeros((4, 3, 5)), np.zeros(4), np.ones(2, np.int32), np.zeros(2)
    with pytest.raises(TypeError, match=r"logits must be floating-point, got logits int"):
        jaxloss.rnnt_loss(logits.astype(np.int32), *rest)
    with pytest.raises(TypeError, match=r"labels must be integers, got labels float"):
        jaxloss.rnnt_loss(logits, rest[0], rest[1] * 1.0, rest[2])
    with pytest.raises(ValueError, match=r"fastemit_lambda must be a scalar or have the rank"):
        jaxloss.rnnt_loss(logits, *rest, fastemit_lambda=np.ones(4))


def test_half_precision_is_computed_in_float32() -> None:
    logits, *rest = batch()
    narrow = logits.astype(jnp.bfloat16)
    losses = jaxloss.rnnt_loss(narrow, *rest)
    assert losses.dtype == jnp.float32
    np.testing.assert_array_equal(losses, jaxloss.rnnt_loss(narrow.astype(np.float32), *rest))
    assert jax.eval_shape(jax.grad(total), narrow, *rest).dtype == jnp.bfloat16


def test_no_array_of_the_size_of_the_logits() -> None:
    """A value and a gradient take a part of the logits' memory beside the gradient itself."""
    shapes = (4, 50, 21, 500), (4, 50), (4, 20), (4, 20)
    kinds = jnp.float32, jnp.float32, jnp.int32, jnp.float32
    data = [jax.ShapeDtypeStruct(x, kind) for x, kind in zip(shapes, kinds, strict=True)]
    size = 4 * np.prod(shapes[0])
    for function in (total, jax.value_and_grad(total)):
        program: Any = as_users(function)
        found = program.lower(*data).compile().memory_analysis()
        assert found.temp_size_in_bytes < size / 8


def test_sharded_batch() -> None:
    data = batch()
    losses, (slopes,) = evaluated(jaxloss.rnnt_loss, *data)
    expected, devices = np.sum(losses), np.array(jax.devices("cpu")[:8])

    def local(*data: Any) -> Any:
        return jaxloss.Mean.of(jaxloss.rnnt_loss, *data).psum("batch").total

    mapped = jax.shard_map(
        local, mesh=Mesh(devices, ("batch",)), in_specs=P("batch"), out_specs=P()
    )
    found = [jax.jit(jax.value_and_grad(mapped))(*data)]
    for kind in (AxisType.Auto, AxisType.Explicit):
        mesh = Mesh(devices, ("batch",), axis_types=(kind,))
        with jax.set_mesh(mesh):
            placed = [jax.device_put(x, NamedSharding(mesh, P("batch"))) for x in data]
            found.append(jax.jit(jax.value_and_grad(total))(*placed))
        assert found[-1][1].sharding.spec[0] == "batch"
    for value, gradient in found:
        np.testing.assert_allclose(value, expected, rtol=4 * EPS)
        np.testing.assert_allclose(gradient, slopes, atol=4 * EPS)
