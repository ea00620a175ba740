"""The value and the gradient of a whole batch, from parts of it; on one device and on eight."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jaxloss
from jaxloss import Mean, accumulate_value_and_grad, cached_value_and_grad
from tests.laws.compiling import as_users

ROWS, INPUTS, CLASSES = 32, 3, 5
# In float64 the sums differ by their order alone: by some of its eps, relative to the largest.
EXACT = 1e-13
# The same in float32: the sums are of 32 examples.
SINGLE = 32 * float(np.finfo(np.float32).eps)


def batch(dtype: Any = np.float64, rows: int = ROWS) -> tuple[Any, Any, Any]:
    """Inputs, labels, and a mask of few examples at first and of all in the end.

    The latter are the easier ones, whose logits are small.
    """
    rng, eighth = np.random.default_rng(0), np.arange(rows) // (rows // 8)
    x = rng.normal(size=(rows, INPUTS)) * (8 / (1 + eighth) ** 2)[:, None]
    labels = rng.integers(0, CLASSES, rows)
    where = np.arange(rows) % 4 >= 3 - eighth // 2
    return x.astype(dtype), labels.astype(np.int32), where


def parameters(dtype: Any = np.float64) -> Any:
    rng, shapes = np.random.default_rng(1), {"in": (INPUTS, 6), "out": (6, CLASSES)}
    return {name: rng.normal(size=shape).astype(dtype) for name, shape in shapes.items()}


def network(params: Any, x: Any) -> Any:
    return 3 * jnp.tanh(x @ params["in"]) @ params["out"]


def cross_entropy(params: Any, x: Any, labels: Any, where: Any) -> Mean:
    loss = jaxloss.softmax_cross_entropy_with_integer_labels
    return Mean.of(loss, network(params, x), labels, where=where)


def by_confidence(params: Any, x: Any, labels: Any, where: Any) -> Mean:
    """Weights that depend on the parameters."""
    logits = network(params, x)
    loss = jaxloss.softmax_cross_entropy_with_integer_labels
    weights = jax.nn.sigmoid(logits[:, 0])
    return Mean.of(loss, logits, labels, where=where, weights=weights)


def whole(loss_fn: Callable[..., Mean], **options: Any) -> Callable[..., Any]:
    """What all are compared with."""
    return jax.value_and_grad(lambda *args: loss_fn(*args).value(), **options)


def assert_same(found: Any, expected: Any, tolerance: float) -> None:
    """Relative to the largest entry of each array; also the trees and the dtypes."""
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for got, want in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert got.dtype == want.dtype
        error = np.abs(np.float64(got) - np.float64(want)).max()
        assert error <= tolerance * np.abs(np.float64(want)).max()


@pytest.mark.parametrize("loss_fn", [cross_entropy, by_confidence])
def test_the_whole_batch(loss_fn: Callable[..., Mean]) -> None:
    with jax.enable_x64(True):
        args = parameters(), *batch()
        expected = whole(loss_fn)(*args)
        assert_same(jax.jit(accumulate_value_and_grad(loss_fn, 4))(*args), expected, EXACT)
        # Of microbatches that are split already, whichever examples are in them.
        pieces = [x.reshape(4, ROWS // 4, *x.shape[1:]) for x in args[1:]]
        split = accumulate_value_and_grad(loss_fn, None)
        assert_same(split(args[0], *pieces), expected, EXACT)


def test_second_derivatives() -> None:
    with jax.enable_x64(True):
        args = parameters(), *batch()
        along = jax.tree.map(np.ones_like, args[0])

        def change(value_and_grad: Any) -> Any:
            return jax.jvp(lambda p: value_and_grad(p, *args[1:]), (args[0],), (along,))

        found = change(accumulate_value_and_grad(by_confidence, 4))
        assert_same(found, change(whole(by_confidence)), EXACT)


def test_beside_what_averages_microbatches() -> None:
    """optax.MultiSteps averages the gradients of the microbatches' means."""
    params, data = parameters(np.float32), batch(np.float32)
    expected = whole(cross_entropy)(params, *data)
    found = jax.jit(accumulate_value_and_grad(cross_entropy, None))(
        params, *(x.reshape(8, -1, *x.shape[1:]) for x in data)
    )
    steps = optax.MultiSteps(optax.sgd(1.0), 8)
    state, values, updates = steps.init(params), [], None
    for piece in zip(*(np.split(x, 8) for x in data), strict=True):
        value, slopes = whole(cross_entropy)(params, *piece)
        with jax.numpy_dtype_promotion("standard"):
            updates, state = steps.update(slopes, state, params)
        values.append(float(value))

    def off(value: Any, slopes: Any) -> tuple[float, float]:
        """How far a value and a gradient are from those of the whole batch."""
        difference = jax.tree.map(lambda x, y: x - y, slopes, expected[1])
        norms = [optax.tree.norm(x) for x in (difference, expected[1])]
        return abs(float(value) / float(expected[0]) - 1), float(norms[0] / norms[1])

    theirs = off(np.mean(values), jax.tree.map(lambda x: -x, updates))
    ours = off(*found)
    print(f"off in value and gradient: optax.MultiSteps {theirs}, in parts {ours}")
    assert max(ours) <= SINGLE
    assert min(theirs) > 0.1


def test_several_terms_and_what_is_learned_beside_them() -> None:
    def terms(params: Any, x: Any, labels: Any, where: Any) -> Any:
        size = Mean.of(jaxloss.l2_loss, network(params, x), where=where[:, None])
        return {"size": size, "kind": by_confidence(params, x, labels, where)}

    def total(terms: Any, params: Any) -> Any:
        logs = {"size": params["s"], "kind": 2 * params["s"]}
        value, _ = jaxloss.combine(terms, log_variances=logs)
        return value**2 + jnp.sum(params["in"] ** 2)

    with jax.enable_x64(True):
        args = parameters() | {"s": np.float64(0.3)}, *batch()
        expected = jax.value_and_grad(lambda *args: total(terms(*args), args[0]))(*args)
        in_parts = accumulate_value_and_grad(terms, 4, total=total)
        assert_same(jax.jit(in_parts)(*args), expected, EXACT)
        # Which parameters: those that are differentiated in.
        both = accumulate_value_and_grad(
            lambda data, p: terms(p, *data), 4, argnums=(1,), total=lambda x, p: total(x, p[0])
        )
        assert_same(both(args[1:], args[0]), (expected[0], expected[1:]), EXACT)


def test_arguments_are_those_of_value_and_grad() -> None:
    def loss_fn(x: Any, scale: Any, labels: Any, shift: Any, *, power: int, known: Any) -> Any:
        errors = jaxloss.squared_error(scale * x**power + shift, jnp.asarray(known)[labels])
        aux = {"rows": len(x), "errors": errors, "size": Mean.of(jaxloss.l1_loss, x)}
        return Mean.of(jaxloss.reduce, errors, weights=x**2), aux

    with jax.enable_x64(True):
        x, labels, _ = batch()
        x = x[:, 0]
        args = x, np.float64(2), labels, np.float64(1)
        given = {"power": 2, "known": np.arange(5.0)}
        for argnums in (1, (1, 3), [-1, -3]):
            options: Any = {"argnums": argnums, "has_aux": True}
            if argnums == 1:
                *args, given["shift"] = args
            elif "shift" in given:
                args = *args, given.pop("shift")

            def plain(*args: Any, **given: Any) -> Any:
                mean, aux = loss_fn(*args, **given)
                return mean.value(), aux

            (value, aux), expected = jax.value_and_grad(plain, **options)(*args, **given)
            found = accumulate_value_and_grad(loss_fn, 4, **options)(*args, **given)
            assert_same(
                (found[0][0], found[1]), (value, jax.tree.map(jnp.asarray, expected)), EXACT
            )
            assert_same(found[0][1]["size"], aux["size"], EXACT)
            np.testing.assert_array_equal(found[0][1]["rows"], [ROWS // 4] * 4)
            np.testing.assert_allclose(found[0][1]["errors"], aux["errors"].reshape(8, 4).T)


def test_nothing_selected() -> None:
    params, (x, labels, _) = parameters(np.float32), batch(np.float32)
    none = np.zeros(ROWS, bool)
    found = jax.jit(accumulate_value_and_grad(cross_entropy, 4))(params, x, labels, none)
    assert_same(found, jax.tree.map(jnp.zeros_like, (jnp.float32(0), params)), 0)


def test_random_keys_of_examples() -> None:
    """A key for each: the whole batch has the same dropout."""
    x, labels, where = batch(np.float32)
    keys = jax.random.split(jax.random.key(0), ROWS)

    def dropped(params: Any, x: Any, labels: Any, where: Any, keys: Any) -> Mean:
        kept = jax.vmap(lambda key: jax.random.bernoulli(key, 0.5, (INPUTS,)))(keys)
        return cross_entropy(params, jnp.where(kept, x, 0), labels, where)

    args = parameters(np.float32), x, labels, where, keys
    assert_same(accumulate_value_and_grad(dropped, 4)(*args), whole(dropped)(*args), SINGLE)


def test_gradients_of_half_precision_are_added_in_float32() -> None:
    """In bfloat16 a sum of 2**-10 stands still at 1/4."""

    def loss_fn(scale: Any, x: Any) -> Mean:
        losses = jaxloss.reduce(scale * x, reduction="sum")
        return Mean(losses, jnp.ones(()))

    ones = jnp.ones(1024, jnp.bfloat16)
    value, slope = accumulate_value_and_grad(loss_fn, 1024)(jnp.bfloat16(1), ones)
    assert float(value) == float(slope) == 1
    assert (value.dtype, slope.dtype) == (jnp.float32, jnp.bfloat16)


def temporaries(function: Callable[..., Any], *args: Any) -> tuple[int, str]:
    """The temporary bytes of a compiled program, and its text."""
    compiled = as_users(function).lower(*args).compile()
    return compiled.memory_analysis().temp_size_in_bytes, compiled.as_text()


def test_no_activations_are_kept_and_nothing_is_evaluated_twice() -> None:
    params, rows = parameters(np.float32), 256
    found, kept = [], []
    for microbatches in (2, 16):
        args = params, *batch(np.float32, microbatches * rows)
        found.append(temporaries(accumulate_value_and_grad(cross_entropy, microbatches), *args)[0])
        kept.append(temporaries(whole(cross_entropy), *args)[0])
    # The numbers T_m and W_m of each microbatch are kept.
    assert found[1] - found[0] <= 14 * 2 * 4 + 64
    assert kept[1] > 7 * kept[0] > 10 * found[0]
    # Two matrix products forward, and three back: there is no gradient in x.
    data = batch(np.float32)
    for loss_fn, products in ((cross_entropy, 5), (by_confidence, 7)):
        text = temporaries(accumulate_value_and_grad(loss_fn, 4), params, *data)[1]
        assert text.count(" dot(") == products


def test_the_loss_is_traced_once() -> None:
    calls = []

    def loss_fn(scale: Any, x: Any) -> Mean:
        calls.append(x.shape)
        return Mean.of(jaxloss.l2_loss, scale * x)

    jax.jit(accumulate_value_and_grad(loss_fn, 4))(2.0, np.ones(8))
    assert calls == [(2,)]


MESHES = {kind: jax.make_mesh((8,), ("data",), axis_types=(kind,)) for kind in AxisType}
MESH = MESHES[AxisType.Auto]


@pytest.mark.parametrize("check_vma", [True, False])
@pytest.mark.parametrize("loss_fn", [cross_entropy, by_confidence])
def test_across_devices_and_microbatches(loss_fn: Any, check_vma: bool) -> None:
    """Eight devices with four microbatches of one example each; means are added once."""
    args = parameters(np.float32), *batch(np.float32)
    expected = whole(loss_fn)(*args)
    specs = (P(), *[P("data")] * 3)

    def mapped(function: Any) -> Any:
        options: Any = {"in_specs": specs, "out_specs": P(), "check_vma": check_vma}
        return jax.jit(jax.shard_map(function, mesh=MESH, **options))

    in_parts = mapped(accumulate_value_and_grad(loss_fn, 4, axis_name="data"))
    assert_same(in_parts(*args), expected, SINGLE)
    text = in_parts.lower(*args).compile().as_text()
    # Weights first; then totals and gradients, in one or several.
    loops = [x for x in text.split("\n\n") if " all-reduce(" in x and "ENTRY" not in x]
    assert not loops


def test_parameters_of_which_each_device_has_its_own() -> None:
    """The rows of a matrix, which are gathered to be used: their gradients are their own."""
    rng, data = np.random.default_rng(2), batch(np.float32)
    params, x = (rng.normal(size=(n, k)).astype(np.float32) for n, k in ((8, CLASSES), (ROWS, 8)))

    def loss_fn(rows: Any, x: Any, labels: Any, where: Any) -> Mean:
        logits = x @ jax.lax.all_gather(rows, "data", tiled=True)
        loss = jaxloss.softmax_cross_entropy_with_integer_labels
        return Mean.of(loss, logits, labels, where=where)

    def dense(params: Any, x: Any, labels: Any, where: Any) -> Mean:
        loss = jaxloss.softmax_cross_entropy_with_integer_labels
        return Mean.of(loss, x @ params, labels, where=where)

    args = params, x, *data[1:]
    found = jax.shard_map(
        accumulate_value_and_grad(loss_fn, 4, axis_name=("data",)),
        mesh=MESH,
        in_specs=P("data"),
        out_specs=(P(), P("data")),
    )
    assert_same(jax.jit(found)(*args), whole(dense)(*args), SINGLE)


def test_across_a_mapped_axis() -> None:
    with jax.enable_x64(True):
        args = parameters(), *batch()
        in_parts = accumulate_value_and_grad(by_confidence, 2, axis_name="i")
        mapped = jax.vmap(in_parts, (None, 0, 0, 0), axis_name="i")
        found = mapped(args[0], *(x.reshape(4, 8, *x.shape[1:]) for x in args[1:]))
        first = jax.tree.map(lambda x: x[0], found)
        assert_same(first, whole(by_confidence)(*args), EXACT)


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
def test_examples_on_several_devices(kind: AxisType) -> None:
    """Each device has its share of each microbatch: no example goes to another."""
    args = parameters(np.float32), *batch(np.float32)
    expected = whole(cross_entropy)(*args)
    mesh = MESHES[kind]
    with jax.set_mesh(mesh):
        params = jax.device_put(args[0], NamedSharding(mesh, P()))
        data = jax.device_put(args[1:], NamedSharding(mesh, P("data")))
        program = jax.jit(accumulate_value_and_grad(cross_entropy, 4))
        assert_same(program(params, *data), expected, SINGLE)
        text = program.lower(params, *data).compile().as_text()
    for moved in ("all-gather", "all-to-all", "collective-permute"):
        assert f" {moved}(" not in text


PAIRS = 16


def pairs(dtype: Any = np.float64) -> tuple[Any, Any, Any]:
    """Images, texts of other sizes, and which pairs are there."""
    rng = np.random.default_rng(0)
    images, texts = rng.normal(size=(PAIRS, 4)), rng.normal(size=(PAIRS, 2, 3))
    return images.astype(dtype), texts.astype(dtype), np.arange(PAIRS) % 5 != 2


def encoders(dtype: Any = np.float64) -> Any:
    rng, shapes = np.random.default_rng(1), {"image": (4, 8), "text": (3, 8)}
    params = {name: rng.normal(size=shape).astype(dtype) for name, shape in shapes.items()}
    return params | {"log_scale": np.asarray(0.7, dtype)}


def encode(params: Any, images: Any, texts: Any, where: Any) -> Any:
    image = jnp.tanh(images @ params["image"])
    text = jnp.tanh(texts @ params["text"]).mean(1)
    return {"image": image, "text": text, "where": where}


def contrastive(params: Any, both: Any) -> Mean:
    scale = jnp.exp(params["log_scale"])
    images, texts, where = both["image"], both["text"], both["where"]
    return Mean.of(jaxloss.clip_loss, images, texts, logit_scale=scale, where=where)


def of_pairs(params: Any, *data: Any) -> Mean:
    return contrastive(params, encode(params, *data))


def test_a_contrastive_loss_of_the_whole_batch() -> None:
    with jax.enable_x64(True):
        args = encoders(), *pairs()
        expected = whole(of_pairs)(*args)
        cached = cached_value_and_grad(encode, contrastive, 4)
        assert_same(jax.jit(cached)(*args), expected, EXACT)

        def number(params: Any, both: Any) -> Any:
            return contrastive(params, both).value(), {"rows": len(both["where"])}

        (value, aux), slopes = cached_value_and_grad(encode, number, 8, has_aux=True)(*args)
        assert_same((value, slopes), expected, EXACT)
        assert aux == {"rows": PAIRS}
        # Of parts of the batch it is another loss.
        parts = accumulate_value_and_grad(of_pairs, 4)(*args)[0]
        assert abs(parts / expected[0] - 1) > 0.05


def test_dropout_is_the_same_in_both_evaluations() -> None:
    keys = jax.random.split(jax.random.key(0), PAIRS)

    def dropped(params: Any, keys: Any, *data: Any, rate: float) -> Any:
        both = encode(params, *data)
        kept = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - rate, (8,)))(keys)
        return both | {"image": jnp.where(kept, both["image"], 0)}

    args = encoders(np.float32), keys, *pairs(np.float32)
    found = cached_value_and_grad(dropped, contrastive, 4)(*args, rate=0.25)
    expected = whole(lambda *args: contrastive(args[0], dropped(*args, rate=0.25)))(*args)
    assert_same(found, expected, SINGLE)


@pytest.mark.parametrize("check_vma", [True, False])
def test_a_contrastive_loss_across_devices(check_vma: bool) -> None:
    """Each device has two pairs, in two chunks, and asks the others for their texts."""

    def info_nce(images: Any, texts: Any, params: Any, first: Any) -> Mean:
        logits = jnp.exp(params["log_scale"]) * images @ texts.T
        labels = first + jnp.arange(len(images))
        return Mean.of(jaxloss.softmax_cross_entropy_with_integer_labels, logits, labels)

    def local(params: Any, both: Any) -> Any:
        texts = jax.lax.all_gather(both["text"], "data", tiled=True)
        first = jax.lax.axis_index("data") * len(both["image"])
        return info_nce(both["image"], texts, params, first), both["image"]

    def dense(params: Any, *data: Any) -> Mean:
        both = encode(params, *data)
        return info_nce(both["image"], both["text"], params, 0)

    args = encoders(np.float32), *pairs(np.float32)
    cached = jax.shard_map(
        cached_value_and_grad(encode, local, 2, has_aux=True, axis_name="data"),
        mesh=MESH,
        in_specs=(P(), *[P("data")] * 3),
        out_specs=((P(), P("data")), P()),
        check_vma=check_vma,
    )
    (value, images), slopes = jax.jit(cached)(*args)
    assert_same((value, slopes), whole(dense)(*args), SINGLE)
    assert_same(images, encode(*args)["image"], SINGLE)


def test_no_activations_of_the_encoders_are_kept() -> None:
    """A wide encoder: its activations are 64 times its representations."""
    params = {"up": jnp.ones((8, 256)), "down": jnp.ones((256, 4))}

    def wide(params: Any, x: Any) -> Any:
        return jnp.sin(jnp.sin(x @ params["up"])) @ params["down"]

    def loss_fn(params: Any, x: Any) -> Mean:
        return Mean.of(jaxloss.l2_loss, x - x.mean(0, keepdims=True))

    x = jnp.ones((2048, 8))
    cached, _ = temporaries(cached_value_and_grad(wide, loss_fn, 16), params, x)
    kept, _ = temporaries(whole(lambda params, x: loss_fn(params, wide(params, x))), params, x)
    assert kept > 8 * cached


X = np.ones((8, 3), np.float32)


def mean_of(scale: Any, x: Any, *_: Any) -> Mean:
    return Mean.of(jaxloss.l2_loss, scale * x)


def identity(params: Any, x: Any, *_: Any) -> Any:
    return params * x


def accumulated(
    loss_fn: Any = mean_of, microbatches: Any = 4, /, *args: Any, **options: Any
) -> Any:
    return lambda: accumulate_value_and_grad(loss_fn, microbatches, **options)(*(args or (2.0, X)))


def cached(encode: Any = identity, loss_fn: Any = mean_of, chunks: Any = 4, **options: Any) -> Any:
    return lambda: cached_value_and_grad(encode, loss_fn, chunks, **options)(2.0, X)


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        (accumulated(None), TypeError, "loss_fn must be a function, got None"),
        (accumulated(mean_of, 0), ValueError, "microbatches must be a positive integer, got int 0"),
        (
            accumulated(mean_of, 2.0),
            TypeError,
            "microbatches must be a positive integer, got float 2.0",
        ),
        (
            accumulated(mean_of, True),
            TypeError,
            "microbatches must be a positive integer, got bool True",
        ),
        (
            accumulated(mean_of, 3),
            ValueError,
            "microbatches must divide the leading axis of argument 1 of loss_fn, got 3 and "
            "float32[8, 3]; fill up with examples that where excludes",
        ),
        (
            accumulated(mean_of, 4, 2.0, {"x": X, "rate": 0.5}),
            ValueError,
            "argument 1 of loss_fn['rate'] must have a leading axis of examples, got float32[]; "
            "what is the same for all goes by keyword",
        ),
        (
            accumulated(mean_of, None, 2.0, X, X[:4]),
            ValueError,
            "argument 2 of loss_fn must have a leading axis of 8 microbatches, got float32[4, 3]",
        ),
        (
            accumulated(mean_of, 4, 2.0, "text"),
            TypeError,
            "argument 1 of loss_fn must be an array or a number, got str 'text'",
        ),
        (
            accumulated(mean_of, 4, 2.0),
            ValueError,
            "loss_fn must be given a batch by position, after its parameters",
        ),
        (
            accumulated(mean_of, 4, {"a": 2}, X),
            TypeError,
            "argument 0 of loss_fn['a'] must be floating-point to be differentiated in, got "
            "int32[]",
        ),
        (
            accumulated(mean_of, 4, argnums=2),
            ValueError,
            "argnums names argument 2, which is not there: got 2 by position",
        ),
        (
            accumulated(lambda scale, x: jnp.sum(scale * x)),
            TypeError,
            "loss_fn must return a jaxloss.Mean, got traced array float32[]; Mean.of(loss, ...) "
            "makes one",
        ),
        (
            accumulated(lambda scale, x: Mean(scale * x, x)),
            TypeError,
            "loss_fn must return a Mean of numbers, got total float32[2, 3], weight float32[2, 3]",
        ),
        (
            accumulated(mean_of, 4, has_aux=True),
            TypeError,
            "loss_fn must return a pair, as has_aux says, got Mean",
        ),
        (
            accumulated(mean_of, 4, total=lambda means, scale: scale * jnp.ones(2)),
            ValueError,
            "total must return one number, got float32[2]",
        ),
        (accumulated(mean_of, 4, total=1.0), TypeError, "total must be a function, got float 1.0"),
        (
            accumulated(lambda scale, x: {"a": scale}, 4, total=lambda means, scale: scale),
            TypeError,
            "loss_fn must return a tree of jaxloss.Mean, got traced array float32[]; "
            "Mean.of(loss, ...) makes one",
        ),
        (
            accumulated(mean_of, 4, axis_name="data"),
            ValueError,
            "axis_name 'data' is no axis of a jax.shard_map or a jax.vmap around this call",
        ),
        (cached(None), TypeError, "encode must be a function, got None"),
        (cached(identity, 1), TypeError, "loss_fn must be a function, got int 1"),
        (
            cached(chunks=None),
            TypeError,
            "chunks must be a positive integer, got None",
        ),
        (
            cached(chunks=5),
            ValueError,
            "chunks must divide the leading axis of argument 1 of encode, got 5 and "
            "float32[8, 3]; fill up with examples that where excludes",
        ),
        (
            cached(lambda params, x: jnp.sum(params * x)),
            ValueError,
            "encode must return arrays with a leading axis of examples, got float32[]",
        ),
        (
            cached(identity, lambda params, x: x),
            ValueError,
            "loss_fn must return one number, got float32[8, 3]",
        ),
        (
            cached(axis_name=["rows"]),
            ValueError,
            "axis_name 'rows' is no axis of a jax.shard_map or a jax.vmap around this call",
        ),
    ],
)
def test_refused(bad: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        bad()
    assert str(caught.value).split(" Mean(")[0] == message


def test_a_number_of_each_device_is_no_mean() -> None:
    """What a loss that adds over devices itself returns has another derivative without checks."""
    cached = cached_value_and_grad(identity, lambda p, x: jnp.sum(p * x), 1, axis_name="i")
    with pytest.raises(TypeError, match=r"^loss_fn must return a jaxloss\.Mean, got traced"):
        jax.vmap(cached, (None, 0), axis_name="i")(2.0, X)


def test_rows_that_do_not_divide_by_the_devices() -> None:
    mesh = MESHES[AxisType.Explicit]
    with jax.set_mesh(mesh):
        x = jax.device_put(np.ones((16, 3), np.float32), NamedSharding(mesh, P("data")))
        with pytest.raises(
            ValueError, match=r"^a part of argument 1 of loss_fn must divide by the 8"
        ):
            accumulate_value_and_grad(mean_of, 4)(2.0, x)
