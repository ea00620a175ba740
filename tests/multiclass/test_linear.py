"""The losses of a linear layer against those of its whole logits."""

from __future__ import annotations

import functools
import inspect
import pickle
import re
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jaxloss
from jaxloss import (
    linear_distillation_loss,
    linear_log_probs,
    linear_softmax_cross_entropy,
    linear_token_statistics,
)
from tests.laws.rules import _MOVES

EPS = float(np.finfo(np.float32).eps)
FUNCTIONS = (
    linear_distillation_loss,
    linear_log_probs,
    linear_softmax_cross_entropy,
    linear_token_statistics,
)
# Tokens and classes that no block divides.
TOKENS, WIDTH, CLASSES = (2, 13), 5, 37
# In whole rows, gradients beside the value; in tiles, gradients that compute them again.
BLOCKS = (None, 3)
rng = np.random.default_rng(0)


def drawn(*shape: int, low: float | None = None) -> np.ndarray:
    return rng.normal(size=shape) if low is None else rng.uniform(low, 2, shape)


# In float64, so that only the order of sums differs.
HIDDEN, KERNEL, BIAS = drawn(*TOKENS, WIDTH), 2 * drawn(WIDTH, CLASSES), drawn(CLASSES)
LABELS = rng.integers(0, CLASSES, TOKENS)
WHERE = rng.uniform(size=TOKENS) < 0.7
FIELDS = {
    "class_weights": drawn(CLASSES, low=0.5),
    "label_smoothing": 0.1,
    "z_loss": 0.01,
    "logit_softcap": drawn(*TOKENS, low=1.0),
    "temperature": drawn(*TOKENS, low=0.5),
    "weights": drawn(*TOKENS, low=0.1),
}
OPTIONS = ({}, {"label_smoothing": 0.1, "where": WHERE}, {**FIELDS, "where": WHERE})


@pytest.fixture(autouse=True)
def _same_numbers() -> None:
    """Whichever tests ran before in this process."""
    global rng
    rng = np.random.default_rng(1)


@pytest.fixture
def wide() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def whole(hidden: Any, kernel: Any, bias: Any, labels: Any = LABELS, **options: Any) -> Any:
    logits = hidden @ kernel + jnp.expand_dims(bias, range(hidden.ndim - 1))
    return jaxloss.softmax_cross_entropy_with_integer_labels(logits, labels, **options)


def linear(hidden: Any, kernel: Any, bias: Any, labels: Any = LABELS, **options: Any) -> Any:
    return linear_softmax_cross_entropy(hidden, kernel, labels, bias=bias, **options)


def close(found: Any, expected: Any, tolerance: float = 1e-12) -> None:
    """Of sums in another order, in float64; what is differentiated sums to 1e3 at most."""
    for got, want in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance * 100)


def four_modes(loss: Callable[..., Any], at: Any, by: Any) -> Any:
    """Value, gradient, forward mode, and Hessian-vector products forward and reverse over it."""
    scalar = lambda *args: jnp.sum(loss(*args))  # noqa: E731
    gradient = jax.grad(scalar, tuple(range(len(at))))
    along = lambda *args: sum(map(jnp.vdot, gradient(*args), by))  # noqa: E731
    return (
        loss(*at),
        gradient(*at),
        jax.jvp(scalar, at, by)[1],
        jax.jvp(gradient, at, by)[1],
        jax.grad(along, tuple(range(len(at))))(*at),
    )


def directions(*arrays: Any) -> tuple[Any, ...]:
    draw = np.random.default_rng(1)
    return tuple(jnp.asarray(draw.normal(size=np.shape(x))) for x in arrays)


@pytest.mark.usefixtures("wide")
@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("reduction", ["none", "mean"])
def test_every_derivative_is_that_of_whole_logits(reduction: Any, block: int | None) -> None:
    at = tuple(map(jnp.asarray, (HIDDEN, KERNEL, BIAS)))
    for options in OPTIONS[1:]:
        ours = functools.partial(linear, reduction=reduction, block_size=block, **options)
        theirs = functools.partial(whole, reduction=reduction, **options)
        found, expected = (
            jax.jit(functools.partial(four_modes, loss))(at, directions(*at))
            for loss in (ours, theirs)
        )
        close(found, expected)


@pytest.mark.usefixtures("wide")
@pytest.mark.parametrize("block", BLOCKS)
def test_hyperparameters_and_weights_are_differentiated(block: int | None) -> None:
    """Those that the gradients beside the value do not have take the other form."""

    def gradient(loss: Callable[..., Any], **options: Any) -> Any:
        def total(fields: Any) -> Any:
            return loss(HIDDEN, KERNEL, BIAS, reduction="mean", **options, **fields)

        return jax.jit(jax.grad(total))(jax.tree.map(jnp.asarray, FIELDS))

    close(gradient(linear, block_size=block), gradient(whole))


@pytest.mark.usefixtures("wide")
def test_tied_embeddings_are_the_transposed_kernel() -> None:
    def total(kernel: Any, **options: Any) -> Any:
        return jnp.sum(linear(HIDDEN, kernel, BIAS, label_smoothing=0.1, **options))

    for reduction in ("none", "mean"):
        options: Any = {"reduction": reduction}
        tied = functools.partial(total, transposed=True, **options)
        expected = jax.grad(functools.partial(total, **options))(jnp.asarray(KERNEL))
        close(jax.grad(tied)(jnp.asarray(KERNEL.T)).T, expected)


@pytest.mark.usefixtures("wide")
def test_it_runs_in_scan_vmap_and_checkpoint() -> None:
    kernels = jnp.stack([KERNEL, -KERNEL])

    def loss(kernel: Any) -> Any:
        return linear(HIDDEN, kernel, BIAS, reduction="mean")

    one = [jax.value_and_grad(loss)(kernel) for kernel in kernels]
    expected = jax.tree.map(lambda *x: jnp.stack(x), *one)
    close(jax.vmap(jax.value_and_grad(loss))(kernels), expected)
    close(jax.vmap(jax.value_and_grad(jax.checkpoint(loss)))(kernels), expected)
    step = lambda carry, kernel: (carry, jax.value_and_grad(loss)(kernel))  # noqa: E731
    close(jax.lax.scan(step, 0, kernels)[1], expected)


@pytest.mark.parametrize("block", [None, 1])
def test_digits_are_those_of_exact_logits(block: int | None) -> None:
    """The logits themselves, through a kernel of ones on its diagonal, whose products are exact.

    16 eps of the largest term, as the law of accuracy allows a loss over an axis.
    """
    n = 9
    scales = np.array([[1e-3], [1], [30], [1], [1], [1e-30]])
    logits = (rng.normal(size=(6, n)) * scales).astype(np.float32)
    logits[3, 2], logits[4] = 80, logits[4] + 1e5
    labels = np.array([0, 1, 2, 2, 4, 5])
    for options in ({}, {"label_smoothing": 0.125, "z_loss": 0.5}):

        def ours(x: Any, options: Any = options) -> Any:
            eye = jnp.eye(n, dtype=x.dtype)
            return linear_softmax_cross_entropy(x, eye, labels, block_size=block, **options)

        def theirs(x: Any, options: Any = options) -> Any:
            return jaxloss.softmax_cross_entropy_with_integer_labels(x, labels, **options)

        def slope(loss: Callable[..., Any]) -> Callable[..., Any]:
            return jax.grad(lambda logits: jnp.sum(loss(logits)))

        found = [np.asarray(y, float) for y in (ours(logits), slope(ours)(logits))]
        with jax.enable_x64(True):
            at = logits.astype(float)
            exact = [np.asarray(y) for y in (theirs(at), slope(theirs)(at))]
        scale = np.abs(exact[0]) if not options else np.maximum(np.abs(exact[0]), 1)
        # Half an eps of a difference of logits is the relative error of its exponential.
        gap = np.max(np.abs(logits - logits[np.arange(6), labels][:, None]), -1)
        assert np.all(np.abs(found[0] - exact[0]) <= (16 + gap / 2) * EPS * scale)
        large = np.max(np.abs(exact[1]), -1, keepdims=True)
        assert np.all(np.abs(found[1] - exact[1]) <= (16 + gap[:, None] / 2) * EPS * large)


@pytest.mark.parametrize("classes", [127, 128_256, 151_936])
def test_no_class_is_made_up_where_tiles_do_not_fill_the_vocabulary(classes: int) -> None:
    """Logits around -24, beside which columns of zeros would count for all."""
    hidden, kernel = np.float32(drawn(3, 2)), np.float32(0.1 * drawn(2, classes))
    bias = np.full(classes, -24, np.float32)
    labels = np.array([0, classes - 1, classes // 2])
    for block in (None, 2):
        for reduction in ("none", "mean"):
            found = linear(hidden, kernel, bias, labels, block_size=block, reduction=reduction)
            with jax.enable_x64(True):
                wide = [x.astype(float) for x in (hidden, kernel, bias)]
                exact = whole(*wide, labels=labels, reduction=reduction)
            # The logits are rounded to an eps of 24, and so is what is subtracted from them.
            np.testing.assert_allclose(found, exact, rtol=0, atol=48 * EPS)


@pytest.mark.parametrize("block", BLOCKS)
def test_what_is_excluded_may_hold_anything(block: int | None) -> None:
    hidden, labels = HIDDEN.astype(np.float32), LABELS.copy()
    hidden[0, :2], labels[0, :2] = [[np.nan] * WIDTH, [np.inf] * WIDTH], [-100, CLASSES]
    where = np.ones(TOKENS, bool)
    where[0, :2] = False
    clean = np.where(where[..., None], np.float32(HIDDEN), 7)
    kernel, bias = np.float32(KERNEL), np.float32(BIAS)
    for reduction in ("none", "mean"):

        def total(*args: Any, reduction: Any = reduction) -> Any:
            options = {"where": where, "reduction": reduction, "block_size": block}
            return jnp.sum(linear(*args, **options))

        gradient = jax.value_and_grad(total, (0, 1, 2))
        found = gradient(hidden, kernel, bias, labels)
        expected = gradient(clean, kernel, bias, np.where(where, labels, 0))
        jax.tree.map(np.testing.assert_array_equal, found, expected)
        assert not np.any(found[1][0][0, :2])


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_nothing_is_left(reduction: Any, block: int | None) -> None:
    options: Any = {"reduction": reduction, "block_size": block}
    kernel, bias = np.float32(KERNEL), np.float32(BIAS)
    none = linear(np.zeros((0, WIDTH), np.float32), kernel, bias, np.zeros(0, int), **options)
    assert none.shape == ((0,) if reduction == "none" else ())
    assert not np.any(none)
    total = lambda k: jnp.sum(linear(np.float32(HIDDEN), k, bias, where=False, **options))  # noqa: E731
    value, slope = jax.value_and_grad(total)(kernel)
    assert value == 0
    assert not np.any(slope)


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("label", [-1, CLASSES, 2**40])
def test_a_label_that_is_no_class_is_nan(label: int, block: int | None) -> None:
    labels = LABELS.astype(np.int64)
    labels[1, 4] = label
    kernel, bias = np.float32(KERNEL), np.float32(BIAS)
    losses = linear(np.float32(HIDDEN), kernel, bias, labels, block_size=block)
    assert np.array_equal(np.isnan(losses), np.arange(26).reshape(TOKENS) == 17)
    mean = lambda k: linear(np.float32(HIDDEN), k, bias, labels, block_size=block, reduction="mean")  # noqa: E731
    assert all(np.all(np.isnan(x)) for x in jax.value_and_grad(mean)(kernel))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("block", [None, 1, 4])
def test_gradients_of_half_precision_are_rounded_once(dtype: Any, block: int | None) -> None:
    """Whatever the number of blocks: 1.05 times the error of the exact gradient rounded."""
    tokens, width, classes = 96, 16, 512
    hidden, kernel = (
        jnp.asarray(drawn(tokens, width), dtype),
        jnp.asarray(drawn(width, classes), dtype),
    )
    labels = rng.integers(0, classes, tokens)

    def total(h: Any, k: Any) -> Any:
        return linear_softmax_cross_entropy(h, k, labels, block_size=block, reduction="sum")

    found = jax.jit(jax.grad(total, (0, 1)))(hidden, kernel)
    with jax.enable_x64(True):
        arrays = [np.asarray(x, float) for x in (hidden, kernel)]
        loss = lambda h, k: whole(h, k, jnp.zeros(classes), labels, reduction="sum")  # noqa: E731
        exact = jax.grad(loss, (0, 1))(*map(jnp.asarray, arrays))
    for got, want in zip(found, exact, strict=True):
        want = np.asarray(want)
        rounded = np.asarray(jnp.asarray(want.astype(np.float32), dtype), float)
        floor = np.linalg.norm(rounded - want)
        assert got.dtype == dtype
        # What is multiplied for a gradient is rounded too, as in any matrix product of this dtype.
        slopes = np.linalg.norm(want) * float(jnp.finfo(dtype).eps) / 2 / np.sqrt(tokens)
        assert np.linalg.norm(np.asarray(got, float) - want) <= 1.05 * np.hypot(floor, slopes)


def sizes(jaxpr: Any) -> Iterator[int]:
    """Of all arrays that a program computes, those of its loops included."""
    for equation in jaxpr.eqns:
        yield from (x.aval.size for x in equation.outvars if hasattr(x.aval, "size"))
        for value in jax.tree.leaves(equation.params, is_leaf=lambda x: hasattr(x, "eqns")):
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from sizes(inner)


def products(jaxpr: Any) -> int:
    """Matrix products that are computed, those in a loop once."""
    return len(re.findall(r"\bdot_general\[", str(jaxpr)))


@pytest.mark.parametrize("reduction", ["none", "mean"])
@pytest.mark.parametrize("block", [None, 8])
def test_logits_are_never_whole(reduction: Any, block: int | None) -> None:
    tokens, width, classes = 2048, 8, 4096
    hidden, kernel = jnp.ones((tokens, width)), jnp.ones((width, classes))
    labels = jnp.zeros(tokens, int)
    options: Any = {"reduction": reduction, "block_size": block}

    def total(h: Any, k: Any) -> Any:
        return jnp.sum(linear_softmax_cross_entropy(h, k, labels, **options))

    for function in (total, jax.grad(total, (0, 1))):
        program = jax.make_jaxpr(function)(hidden, kernel)
        assert max(sizes(program.jaxpr)) < tokens * classes / 2


@pytest.mark.parametrize("block", BLOCKS)
def test_only_what_is_asked_for_is_computed(block: int | None) -> None:
    def total(h: Any, k: Any) -> Any:
        return linear(h, k, np.float32(BIAS), reduction="mean", block_size=block)

    args = np.float32(HIDDEN), np.float32(KERNEL)
    programs = [total, *(jax.grad(total, which) for which in ((0,), (1,), (0, 1)))]
    counted = []
    for program in programs:
        text = jax.jit(program).lower(*args).as_text()
        counted.append(len(re.findall(r"stablehlo\.dot_general", text)))
    alone, one, other, both = counted
    assert alone == 1
    assert one < both
    assert other < both


def test_statistics_are_those_of_whole_logits() -> None:
    with jax.enable_x64(True):
        options: dict[str, Any] = {"bias": jnp.asarray(BIAS), "block_size": 3, "logit_softcap": 4.0}
        options |= {"temperature": 0.7, "where": WHERE}
        logits = 4 * jnp.tanh((HIDDEN @ KERNEL + BIAS) / 4) / 0.7
        log_p = jax.nn.log_softmax(logits)
        own = jnp.take_along_axis(log_p, LABELS[..., None], -1)[..., 0]
        entropy = -jnp.sum(jnp.exp(log_p) * log_p, -1)

        def kept(x: Any) -> Any:
            return np.where(WHERE, x, 0)

        found = linear_log_probs(HIDDEN, KERNEL, LABELS, **options)
        assert isinstance(found, jaxloss.LogProbs)
        close(found, (kept(own), kept(jax.nn.logsumexp(logits, -1))))
        more = linear_token_statistics(HIDDEN, KERNEL, LABELS, **options)
        assert isinstance(more, jaxloss.TokenStatistics)
        best = np.argmax(logits, -1)
        np.testing.assert_array_equal(more.prediction, np.where(WHERE, best, -1))
        np.testing.assert_array_equal(more.correct, kept(best == LABELS))
        close(more.entropy, kept(entropy))

        def ours(h: Any, k: Any) -> Any:
            given: Any = options | {"where": None}
            probs = linear_log_probs(h, k, LABELS, **given)
            return probs.log_prob + linear_token_statistics(h, k, LABELS, **given).entropy

        def theirs(h: Any, k: Any) -> Any:
            log_p = jax.nn.log_softmax(4 * jnp.tanh((h @ k + BIAS[None, None]) / 4) / 0.7)
            own = jnp.take_along_axis(log_p, LABELS[..., None], -1)[..., 0]
            return own - jnp.sum(jnp.exp(log_p) * log_p, -1)

        at = jnp.asarray(HIDDEN), jnp.asarray(KERNEL)
        by = directions(*at)
        close(jax.jit(functools.partial(four_modes, ours))(at, by), four_modes(theirs, at, by))


def test_of_equal_logits_the_first_is_predicted() -> None:
    hidden, kernel = np.ones((2, 1), np.float32), np.zeros((1, 300), np.float32)
    for block in (None, 1):
        found = linear_token_statistics(hidden, kernel, np.array([0, 299]), block_size=block)
        np.testing.assert_array_equal(found.prediction, [0, 0])
        np.testing.assert_array_equal(found.correct, [1, 0])


def test_distillation_is_that_of_whole_logits() -> None:
    with jax.enable_x64(True):
        other, matrix = jnp.asarray(drawn(*TOKENS, 3)), jnp.asarray(drawn(3, CLASSES))
        at = jnp.asarray(HIDDEN), jnp.asarray(KERNEL), other, matrix
        options: dict[str, Any] = {"temperature": 2.0, "where": WHERE}

        def ours(*args: Any) -> Any:
            bias = {"student_bias": BIAS, "teacher_bias": -BIAS}
            return linear_distillation_loss(*args, **bias, block_size=3, **options)

        def theirs(h: Any, k: Any, g: Any, m: Any) -> Any:
            return jaxloss.distillation_loss(h @ k + BIAS, g @ m - BIAS, **options)

        by = directions(*at)
        with jax.numpy_rank_promotion("allow"):
            expected = jax.jit(functools.partial(four_modes, theirs))(at, by)
        close(jax.jit(functools.partial(four_modes, ours))(at, by), expected, 1e-11)
    hidden, kernel = np.float32(HIDDEN), np.float32(KERNEL)
    near = np.nextafter(kernel, np.float32(9))
    losses = linear_distillation_loss(hidden, kernel, hidden, near)
    assert np.all(losses > 0)
    # A student that is an eps from its teacher: its square, where p log(p / q) would cancel.
    assert np.all(losses < (16 * EPS) ** 2)
    transposed = linear_distillation_loss(hidden, kernel.T, hidden, near.T, transposed=True)
    np.testing.assert_allclose(transposed, losses, rtol=0.1)


MESHES = ((8, 1), (2, 4), (1, 8))


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
@pytest.mark.parametrize("shape", MESHES, ids=str)
@pytest.mark.parametrize("reduction", ["none", "mean"])
def test_on_a_mesh(reduction: Any, shape: tuple[int, int], kind: Any) -> None:
    """The numbers of one device; gradients as their inputs lie; no collective of logits."""
    tokens, width, classes = 64, 4, 128
    arrays = (
        np.float32(drawn(tokens, width)),
        np.float32(drawn(width, classes)),
        np.float32(drawn(classes)),
    )
    labels = rng.integers(0, classes, tokens)
    where = rng.uniform(size=tokens) < 0.7
    specs = P("data", None), P(None, "model"), P("model")
    mesh = jax.make_mesh(shape, ("data", "model"), axis_types=(kind, kind))

    def total(h: Any, k: Any, b: Any, y: Any, w: Any, **options: Any) -> Any:
        options |= {"label_smoothing": 0.1, "where": w, "reduction": reduction}
        return jnp.sum(linear(h, k, b, y, **options))

    gradient = functools.partial(jax.value_and_grad, argnums=(0, 1, 2))
    expected = gradient(total)(*arrays, labels, where)
    for block in (None, 8):
        options: Any = {"block_size": block}
        if kind is AxisType.Auto:
            options["logits_sharding"] = P("data", "model")
        with jax.set_mesh(mesh):
            put = [
                jax.device_put(x, NamedSharding(mesh, spec))
                for x, spec in zip(
                    (*arrays, labels, where), (*specs, P("data"), P("data")), strict=True
                )
            ]
            program = jax.jit(gradient(functools.partial(total, **options))).lower(*put).compile()
            found = program(*put)
        # Sums of float32 in another order: 64 tokens, each to its own eps.
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, 2e-5, 2e-5), found, expected)
        for slope, array, spec in zip(found[1], put, specs, strict=False):
            assert slope.sharding.is_equivalent_to(array.sharding, slope.ndim), spec
        for shapes, operation in _MOVES.findall(program.as_text() or ""):
            assert operation == "all-reduce"
            for dimensions in re.findall(r"\[([0-9,]*)\]", shapes):
                # Gradients, and a few numbers of each token.
                assert np.prod([int(x) for x in dimensions.split(",") if x]) <= width * classes


def test_inside_shard_map_and_without_information() -> None:
    tokens, width, classes = 64, 4, 128
    hidden, kernel = np.float32(drawn(tokens, width)), np.float32(drawn(width, classes))
    labels = rng.integers(0, classes, tokens)
    mesh = jax.make_mesh((2, 4), ("data", "model"), axis_types=(AxisType.Auto,) * 2)

    def mean(h: Any, k: Any, y: Any, **options: Any) -> jaxloss.Mean:
        options |= {"weights": h[:, 0] ** 2}
        return jaxloss.Mean.of(linear_softmax_cross_entropy, h, k, y, **options)

    expected = jax.value_and_grad(lambda *x: mean(*x).value(), (0, 1))(hidden, kernel, labels)

    def local(h: Any, k: Any, y: Any) -> Any:
        options: Any = {"class_axis_name": "model", "block_size": 8}
        loss = lambda h, k: mean(h, k, y, **options).psum("data").value()  # noqa: E731
        return jax.value_and_grad(loss, (0, 1))(h, k)

    specs = P("data"), P(None, "model")
    inside = jax.shard_map(local, mesh=mesh, in_specs=(*specs, P("data")), out_specs=(P(), specs))
    placed = [
        jax.device_put(x, NamedSharding(mesh, spec))
        for x, spec in zip((hidden, kernel), specs, strict=True)
    ]
    unaware = jax.jit(jax.value_and_grad(lambda *x: mean(*x).value(), (0, 1)))
    for found in (jax.jit(inside)(hidden, kernel, labels), unaware(*placed, labels)):
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, 2e-5, 1e-6), found, expected)


def test_it_travels() -> None:
    for function in FUNCTIONS:
        assert pickle.loads(pickle.dumps(function)) is function
        assert list(inspect.signature(function).parameters)[4:] or function is None
    (count,) = jax.export.symbolic_shape("n")
    hidden = jax.ShapeDtypeStruct((count, WIDTH), jnp.float32)
    labels = jax.ShapeDtypeStruct((count,), jnp.int32)
    kernel = np.float32(KERNEL)
    for reduction in ("none", "mean"):
        options: Any = {"reduction": reduction}

        def loss(h: Any, y: Any, options: Any = options) -> Any:
            return linear_softmax_cross_entropy(h, kernel, y, **options)

        found = jax.export.export(jax.jit(loss))(hidden, labels).call(
            np.float32(HIDDEN[0]), np.int32(LABELS[0])
        )
        np.testing.assert_allclose(found, loss(np.float32(HIDDEN[0]), LABELS[0]), rtol=4 * EPS)


def test_dtypes() -> None:
    hidden, kernel = jnp.asarray(HIDDEN, jnp.bfloat16), jnp.asarray(KERNEL, jnp.float32)
    assert linear_softmax_cross_entropy(hidden, kernel, LABELS).dtype == jnp.float32
    both = jax.grad(
        lambda h, k: linear_softmax_cross_entropy(h, k, LABELS, reduction="sum"), (0, 1)
    )
    assert [x.dtype for x in both(hidden, kernel)] == [jnp.bfloat16, jnp.float32]


REFUSED: Any = [
    (
        {"kernel": np.ones((4, 9))},
        ValueError,
        r"kernel must be of shape \[5, classes\], got hidden",
    ),
    ({"kernel": np.ones((9, 5))}, ValueError, "for one of the other orientation: transposed=True"),
    ({"kernel": np.ones((5, 9, 1))}, ValueError, "kernel must be of shape"),
    ({"kernel": np.ones((5, 1))}, ValueError, "two classes or more"),
    ({"kernel": np.ones((5, 9), int)}, TypeError, "kernel must be floating-point"),
    ({"hidden": np.float32(1.0)}, ValueError, "hidden must have at least one axis"),
    ({"labels": np.ones(3)}, TypeError, "labels must be integers"),
    ({"labels": np.ones(4, int)}, ValueError, r"labels must be class numbers of shape \[3\]"),
    ({"bias": np.ones(8)}, ValueError, r"bias must have shape \[9\]"),
    ({"class_weights": np.ones(8)}, ValueError, r"class_weights must have shape \[9\]"),
    ({"block_size": 0}, ValueError, "block_size must be positive, got 0"),
    ({"block_size": 2.5}, TypeError, "block_size must be a Python integer or None"),
    ({"transposed": "no"}, TypeError, "transposed must be True or False"),
    ({"class_axis_name": "model"}, ValueError, "no mesh axis of a surrounding shard_map"),
    ({"logits_sharding": P("data")}, ValueError, "logits_sharding needs a mesh"),
    ({"where": np.ones(4, bool)}, ValueError, "where must be"),
]


@pytest.mark.parametrize(("bad", "error", "message"), REFUSED)
def test_refusals(bad: dict[str, Any], error: type[Exception], message: str) -> None:
    given: Any = {"hidden": np.ones((3, 5), np.float32), "kernel": np.ones((5, 9), np.float32)}
    given |= {"labels": np.zeros(3, int)} | bad
    first = given.pop("hidden"), given.pop("kernel"), given.pop("labels")
    with pytest.raises(error, match=message):
        linear_softmax_cross_entropy(*first, **given)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (P("rows"), "names 'rows', which is no axis of the mesh"),
        (P("data", "model", None), "an entry for each of the 2 dimensions"),
        (P("data", "model"), "must divide evenly: 3 over the 2 devices of 'data'"),
        (P(None, "model"), "must divide evenly: 9 over the 4 devices of 'model'"),
    ],
)
def test_meshes_that_do_not_fit(spec: Any, message: str) -> None:
    mesh = jax.make_mesh((2, 4), ("data", "model"), axis_types=(AxisType.Auto,) * 2)
    hidden, kernel = np.ones((3, 5), np.float32), np.ones((5, 9), np.float32)
    with jax.set_mesh(mesh), pytest.raises(ValueError, match=message):
        linear_softmax_cross_entropy(hidden, kernel, np.zeros(3, int), logits_sharding=spec)


def test_student_and_teacher_that_do_not_fit() -> None:
    hidden, kernel = np.ones((3, 5), np.float32), np.ones((5, 9), np.float32)
    with pytest.raises(ValueError, match="student_kernel and teacher_kernel must have the same"):
        linear_distillation_loss(hidden, kernel, hidden, kernel[:, :8])
    with pytest.raises(ValueError, match="student_hidden and teacher_hidden must have the same"):
        linear_distillation_loss(hidden, kernel, hidden[:2], kernel)
    with pytest.raises(ValueError, match="teacher_kernel must be of shape"):
        linear_distillation_loss(hidden, kernel, hidden, kernel[:4])
