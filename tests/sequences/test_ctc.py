"""CTC against all paths written out, and what padding, masks and impossible labels may do."""

from __future__ import annotations

import functools
import inspect
import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jax.test_util import check_grads

import jaxloss
from tests.laws.compiling import as_users
from tests.laws.values import evaluated

EPS = float(np.finfo(np.float32).eps)
Batch = tuple[Any, Any, Any, Any]


def collapsed(path: tuple[int, ...], blank: int) -> tuple[int, ...]:
    return tuple(k for k, _ in itertools.groupby(path) if k != blank)


def by_enumeration(logits: Any, labels: tuple[int, ...], blank: int = 0) -> Any:
    """-log of the sum over all paths, a differentiable function of the logits of one example."""
    frames, classes = logits.shape
    log_shares = jax.nn.log_softmax(logits)
    paths = itertools.product(range(classes), repeat=frames)
    right = [path for path in paths if collapsed(path, blank) == labels]
    if not right:
        return jnp.inf
    steps = jnp.arange(frames)[None]
    return -jax.nn.logsumexp(jnp.sum(log_shares[steps, jnp.array(right)], 1))


def one(logits: Any, labels: Any, **options: Any) -> Any:
    """The loss of one example without padding."""
    paddings = np.zeros(len(logits), np.float32), np.zeros(len(labels), np.float32)
    return jaxloss.ctc_loss(logits, paddings[0], np.array(labels, np.int32), paddings[1], **options)


def batch(seed: int = 0, size: int = 8, frames: int = 7, count: int = 3, classes: int = 5) -> Batch:
    """Examples of all lengths, with padding."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(size, frames, classes)).astype(np.float32) * 2
    labels = rng.integers(1, classes, size=(size, count))
    late = np.arange(frames)[None] >= rng.integers(frames - 1, frames + 1, size=(size, 1))
    spare = np.arange(count)[None] >= rng.integers(0, count + 1, size=(size, 1))
    return logits, late.astype(np.float32), labels.astype(np.int32), spare.astype(np.float32)


def total(logits: Any, *rest: Any, **options: Any) -> Any:
    return jaxloss.ctc_loss(logits, *rest, reduction="sum", **options)


LABELS = [(), (1,), (2, 1), (1, 1), (1, 2, 1), (2, 2, 2), (1, 2, 2)]


def short(blank: int = 0) -> tuple[Batch, Any]:
    """All of `LABELS` over five frames, and their losses by enumeration."""
    labels = [tuple(0 if k == blank else k for k in each) for each in LABELS]
    logits = np.random.default_rng(blank).normal(size=(len(labels), 5, 3))
    codes = np.array([[*each, -1, -1, -1][:3] for each in labels])
    inputs = jnp.asarray(logits), np.zeros((len(labels), 5)), codes, codes < 0

    def truth(logits: Any) -> Any:
        pairs = zip(logits, labels, strict=True)
        return jnp.stack([by_enumeration(each, label, blank) for each, label in pairs])

    return inputs, truth


@pytest.mark.parametrize("blank", [0, 2])
def test_all_paths_written_out(blank: int) -> None:
    with jax.enable_x64(True):
        (logits, *rest), truth = short(blank)

        def ours(logits: Any) -> Any:
            return jaxloss.ctc_loss(logits, *rest, blank_id=blank)

        def all_of(loss: Any) -> Any:
            """Reverse mode, forward mode, and forward over reverse."""
            tangent = jnp.sin(jnp.arange(logits.size, dtype=logits.dtype)).reshape(logits.shape)

            def summed(logits: Any) -> Any:
                return jnp.sum(loss(logits) ** 2)

            curvature = jax.jvp(jax.grad(summed), (logits,), (tangent,))
            return loss(logits), jax.jvp(loss, (logits,), (tangent,)), curvature

        results = jax.jit(all_of, static_argnums=0)
        jax.tree.map(
            functools.partial(np.testing.assert_allclose, rtol=1e-11, atol=1e-13),
            results(ours),
            results(truth),
        )


def test_second_order_in_reverse_mode() -> None:
    with jax.enable_x64(True):
        (logits, *rest), truth = short()
        ours = jax.jit(jax.hessian(lambda x: total(x, *rest)))
        backward = jax.jit(jax.jacrev(jax.grad(lambda x: total(x, *rest))))
        expected = jax.jit(jax.hessian(lambda x: jnp.sum(truth(x))))(logits)
        np.testing.assert_allclose(ours(logits), expected, rtol=1e-10, atol=1e-13)
        np.testing.assert_allclose(backward(logits), expected, rtol=1e-10, atol=1e-13)


def test_derivatives_are_those_of_the_values() -> None:
    with jax.enable_x64(True):
        logits, *rest = batch(size=3, frames=5)
        logits = logits.astype(np.float64)
        check_grads(jax.jit(lambda x: total(x, *rest)), (logits,), order=2)
        sums = jax.jit(functools.partial(forward_sums, rest=rest))
        check_grads(sums, (logits,), order=1, modes=("rev",))


def forward_sums(logits: Any, rest: Any) -> Any:
    loss, blanks, labels = jaxloss.ctc_loss_with_forward_probs(logits, *rest)
    return jnp.sum(loss**2) + jnp.sum(jnp.exp(blanks)) + jnp.sum(jnp.exp(labels) ** 2)


def forward_backward(logits: np.ndarray, labels: np.ndarray) -> tuple[float, np.ndarray]:
    """The textbook's recursions in logarithms and float64."""
    with np.errstate(divide="ignore"):
        frames, classes = logits.shape
        codes = np.zeros(2 * len(labels) + 1, int)
        codes[1::2] = labels
        top = logits.max(1, keepdims=True)
        shares = logits - top - np.log(np.exp(logits - top).sum(1, keepdims=True))
        jump = np.full(len(codes), -np.inf)
        jump[3::2] = np.where(codes[3::2] != codes[1:-2:2], 0, -np.inf)

        def run(shares: np.ndarray, codes: np.ndarray, jump: np.ndarray) -> np.ndarray:
            state = np.full(len(codes), -np.inf)
            state[:2] = 0
            seen = []
            for t in range(frames):
                seen.append(state)
                state = state + shares[t, codes]
                one = np.concatenate([[-np.inf], state[:-1]])
                two = np.concatenate([[-np.inf] * 2, state[:-2]])[: len(codes)] + jump
                state = np.logaddexp(np.logaddexp(state, one), two)
            return np.stack(seen)

        back = np.concatenate([[-np.inf] * 2, jump[:1:-1]])[: len(codes)]
        before = run(shares, codes, jump)
        after = run(shares[::-1], codes[::-1], back)[::-1, ::-1]
        paths = before + after + shares[:, codes]
        loss = -np.logaddexp.reduce(paths[0])
        wanted = np.zeros((frames, classes))
        for s, code in enumerate(codes):
            wanted[:, code] += np.exp(paths[:, s] + loss)
        return loss, np.exp(shares) - wanted


def spoken(boost: float, rng: np.random.Generator, frames: int = 256, classes: int = 32) -> Batch:
    """An example whose logits say its labels, `boost` loudly."""
    labels = rng.integers(1, classes, size=frames // 4)
    logits = rng.normal(size=(frames, classes)).astype(np.float32)
    for n, label in enumerate(labels):
        logits[4 * n : 4 * n + 2, label] += boost
        logits[4 * n + 2 : 4 * n + 4, 0] += boost
    return logits, np.zeros(frames), labels, np.zeros(len(labels))


value_and_slopes = as_users(jax.value_and_grad(jaxloss.ctc_loss))


@pytest.mark.parametrize("scale", [1, 10, 100])
@pytest.mark.parametrize("boost", [0, 2, 5, 10, 20, 40])
def test_accuracy_in_float32(boost: float, scale: float) -> None:
    logits, late, labels, spare = spoken(boost, np.random.default_rng(1))
    logits = logits * np.float32(scale)
    loss, slopes = forward_backward(logits.astype(np.float64), labels)
    value, gradient = value_and_slopes(jnp.asarray(logits), late, labels, spare)
    # The loss is a sum over frames, of logits and of logarithms of their sums; the textbook's
    # has no digits left, and no sign, where it is small.
    np.testing.assert_allclose(value, loss, rtol=100 * EPS, atol=1e-10)
    assert value >= 0
    # A logit itself has an error of eps / 2 times its size, which is one of its share.
    np.testing.assert_allclose(gradient, slopes, atol=(16 + scale) * EPS, rtol=0)
    np.testing.assert_allclose(jnp.sum(gradient, 1), 0, atol=4 * EPS)


@pytest.mark.parametrize("scale", [5, 10, 20, 40])
def test_small_losses_to_the_last_digits(scale: float) -> None:
    """The labels are nearly certain: their loss is the sum of all other paths."""
    confident = np.array([0, 1, 1, 0, 2, 0])
    noise = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    logits = noise + np.float32(scale) * (np.arange(3) == confident[:, None]).astype(np.float32)
    wide = logits.astype(np.float64)
    shares = np.exp(wide) / np.exp(wide).sum(1, keepdims=True)
    paths = itertools.product(range(3), repeat=6)
    wrong = [path for path in paths if collapsed(path, 0) != (1, 2)]
    missing = sum(np.prod(shares[np.arange(6), path]) for path in wrong)
    np.testing.assert_allclose(one(logits, [1, 2]), -np.log1p(-missing), rtol=32 * EPS)


@pytest.mark.parametrize("gap", [-30.0, 1.0, 30.0])
def test_derivatives_of_a_confident_frame(gap: float) -> None:
    """One frame of two classes has the loss softplus(-gap): no difference of shares near 1."""

    def loss(gap: Any) -> Any:
        return one(jnp.stack([jnp.zeros_like(gap), gap])[None], [1])

    x, rtol = np.float32(gap), 16 * EPS
    np.testing.assert_allclose(jax.grad(loss)(x), -1 / (1 + np.exp(gap)), rtol=rtol)
    curved = 1 / (1 + np.exp(gap)) / (1 + np.exp(-gap))
    np.testing.assert_allclose(jax.hessian(loss)(x), curved, rtol=rtol)
    np.testing.assert_allclose(jax.grad(jax.grad(loss))(x), curved, rtol=rtol)


def test_never_negative() -> None:
    compiled = as_users(jaxloss.ctc_loss)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        rows = [spoken(boost, rng, frames=64, classes=8) for boost in np.linspace(5, 60, 32)]
        losses = compiled(*map(np.stack, zip(*rows, strict=True)))
        assert np.all(np.asarray(losses) >= 0)
        assert np.all(np.asarray(losses) < 10)


def test_beyond_the_range_of_exponentials() -> None:
    logits = np.zeros((4, 3), np.float32)
    logits[:, 1] = -1e20
    np.testing.assert_allclose(one(logits, [1]), 1e20, rtol=4 * EPS)
    np.testing.assert_allclose(one(logits + 1e5, [2]), one(logits, [2]), rtol=4 * EPS)


@pytest.mark.parametrize("infinity", [np.inf, 0])
def test_impossible_labels(infinity: float) -> None:
    """More labels than frames, and too few frames for a blank between equal labels."""
    labels = np.array([[1, 2, 3, 4], [1, 1, -1, -1], [3, 3, 3, -1]])
    rest = np.array([[0, 0, 0], [0, 1, 1], [0, 0, 0]]), labels, labels < 0
    loss = functools.partial(jaxloss.ctc_loss, zero_infinity=infinity == 0)

    def all_of(logits: Any) -> Any:
        slopes = jax.grad(lambda x: jnp.sum(loss(x, *rest)))
        return loss(logits, *rest), jax.jvp(slopes, (logits,), (logits,))

    def tangent(logits: Any) -> Any:
        return jax.jvp(lambda x: loss(x, *rest), (logits,), (logits,))[1]

    logits = np.ones((3, 3, 5), np.float32)
    losses, derivatives = jax.jit(all_of)(logits)
    np.testing.assert_array_equal(losses, np.full(3, infinity))
    for derivative in (*derivatives, jax.jit(tangent)(logits)):
        np.testing.assert_array_equal(derivative, np.zeros_like(derivative))


def test_nothing_to_say() -> None:
    assert one(np.zeros((0, 5)), []) == 0
    assert one(np.zeros((0, 5)), [1]) == np.inf
    assert one(np.zeros((1, 1)), []) == 0
    assert one(np.zeros((3, 4)), []) == pytest.approx(3 * np.log(4), rel=2 * EPS)
    labels = np.zeros((0, 2), np.int32)
    empty = functools.partial(jaxloss.ctc_loss, np.zeros((0, 4, 3)), np.zeros((0, 4)))
    assert empty(labels, labels).shape == (0,)
    assert empty(labels, labels, reduction="mean") == 0


def test_ruled_out_classes() -> None:
    """A logit of -inf is a class that is not there."""
    logits, *rest = batch(classes=4)
    more = np.concatenate([logits, np.full_like(logits[..., :2], -np.inf)], -1)
    losses, (slopes,) = evaluated(jaxloss.ctc_loss, logits, *rest)
    wide, (more_slopes,) = evaluated(jaxloss.ctc_loss, more, *rest)
    assert np.sum(wide) == pytest.approx(np.sum(losses), rel=2 * EPS)
    np.testing.assert_allclose(more_slopes[..., :4], slopes, atol=2 * EPS)
    np.testing.assert_array_equal(more_slopes[..., 4:], 0)
    none = logits.copy()
    none[..., rest[1][0, 0]] = none[0, 2] = -np.inf
    rest[2] = np.zeros_like(rest[2])
    losses, (slopes,) = evaluated(jaxloss.ctc_loss, none, *rest)
    assert losses[0] == np.inf
    np.testing.assert_array_equal(slopes[0], 0)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_logits_that_are_no_numbers(bad: float) -> None:
    """One of them makes NaN of the loss and of all slopes of its example, and of no other."""
    logits, *rest = batch()
    rest[0] = np.zeros_like(rest[0])
    logits[1, 2, 3] = bad
    losses, (slopes,) = evaluated(jaxloss.ctc_loss, logits, *rest)
    np.testing.assert_array_equal(np.isnan(losses), np.arange(len(losses)) == 1)
    assert np.all(np.isnan(slopes[1]))
    assert np.all(np.isfinite(np.delete(slopes, 1, 0)))


def test_padding_is_inert() -> None:
    """Whatever it holds, in values and derivatives; a padded frame may stand anywhere."""
    logits, late, labels, spare = batch()
    late[:, 2] = 1
    padded = np.broadcast_to(late[:, :, None] == 1, logits.shape)
    tangents = np.ones_like(logits), np.cos(np.arange(logits.size, dtype=np.float32))

    @jax.jit
    def all_of(logits: Any, labels: Any) -> Any:
        loss = functools.partial(total, logit_paddings=late, labels=labels, label_paddings=spare)
        slopes, curvature = jax.jvp(jax.grad(loss), (logits,), (tangents[0],))
        value, tangent = jax.jvp(loss, (logits,), (tangents[1].reshape(padded.shape),))
        return value, tangent, slopes, curvature

    def dirty(garbage: float, label: int) -> Any:
        spoiled = np.where(padded, np.float32(garbage), logits)
        return all_of(spoiled, np.where(spare == 1, np.int32(label), labels))

    clean = dirty(0, 0)
    for garbage in (np.nan, np.inf, -np.inf, 1e38):
        for label in (-1, 99, labels[0, 0]):
            jax.tree.map(np.testing.assert_array_equal, dirty(garbage, label), clean)
    losses = jaxloss.ctc_loss(logits, late, labels, spare)
    for x, left_out, codes, unused, loss in zip(logits, late, labels, spare, losses, strict=True):
        alone = x[left_out == 0].astype(np.float64), codes[unused == 0]
        np.testing.assert_allclose(loss, forward_backward(*alone)[0], rtol=4 * EPS)


@pytest.mark.parametrize("kind", [bool, np.int32, np.float16])
def test_paddings_of_any_kind(kind: Any) -> None:
    logits, late, labels, spare = batch()
    ours = jaxloss.ctc_loss(logits, late.astype(kind), labels, spare.astype(kind))
    np.testing.assert_array_equal(ours, jaxloss.ctc_loss(logits, late, labels, spare))


def test_one_example_a_batch_and_vmap_agree() -> None:
    inputs = batch()
    losses, (slopes,) = evaluated(jaxloss.ctc_loss, *inputs)
    rows = [jaxloss.ctc_loss(*(x[i] for x in inputs)) for i in range(len(losses))]
    np.testing.assert_allclose(rows, losses, rtol=4 * EPS)
    np.testing.assert_allclose(jax.jit(jax.vmap(jaxloss.ctc_loss))(*inputs), losses, rtol=4 * EPS)
    mapped = jax.jit(jax.vmap(jax.grad(total)))
    np.testing.assert_allclose(mapped(*inputs), slopes, atol=4 * EPS)
    eager = inspect.unwrap(jaxloss.ctc_loss)(*inputs)
    np.testing.assert_allclose(eager, losses, rtol=4 * EPS)


def test_masks_weights_and_reductions() -> None:
    logits, late, labels, spare = batch()
    losses = jaxloss.ctc_loss(logits, late, labels, spare)
    where = np.arange(8) % 3 > 0
    weights = np.arange(8, dtype=np.float32)
    data = (
        np.where(where[:, None, None], logits, np.float32(np.nan)),
        np.where(where[:, None], late, np.float32(np.nan)),
        np.where(where[:, None], labels, np.int32(99)),
        spare,
    )
    kept = np.where(where, losses * weights, 0)
    found, (slopes,) = evaluated(jaxloss.ctc_loss, *data, where=where, weights=weights)
    np.testing.assert_array_equal(found, kept)
    assert np.all(np.isfinite(slopes))
    np.testing.assert_array_equal(slopes[~where], 0)
    loss = functools.partial(jaxloss.ctc_loss, *data, where=where, weights=weights)
    mean = loss(reduction="mean")
    np.testing.assert_allclose(mean, np.sum(kept) / np.sum(weights[where]), rtol=4 * EPS)
    np.testing.assert_array_equal(jaxloss.Mean.of(loss).value(), mean)
    np.testing.assert_allclose(loss(reduction="sum"), np.sum(kept), rtol=4 * EPS)
    assert jaxloss.ctc_loss(*data, where=False, reduction="mean") == 0


OUTSIDE = [
    ({"labels": [1, 5]}, "label too large"),
    ({"labels": [1, -1]}, "label negative"),
    ({"labels": [0, 1]}, "label is the blank"),
    ({"labels": np.array([1, 2**32 + 1])}, "label beyond int32"),
    ({"label_paddings": [1.0, 0.0]}, "padding in front"),
    ({"label_paddings": [0.0, 0.5]}, "half a padding"),
    ({"logit_paddings": [0.0, 0, 0, 2]}, "two paddings"),
    ({"logit_paddings": [0.0, 0, 0, np.nan]}, "unknown padding"),
    ({"blank_id": 5}, "blank too large"),
    ({"blank_id": -1}, "blank negative"),
    ({"log_epsilon": 1.0}, "epsilon above 1"),
    ({"log_epsilon": np.nan}, "epsilon unknown"),
    ({"logits": np.array([[0, 1, 2, np.nan, 4]] * 4, np.float32)}, "unknown logit"),
    ({"logits": np.array([[0, 1, 2, np.inf, 4]] * 4, np.float32)}, "infinite logit"),
]


@pytest.mark.parametrize("change", [c for c, _ in OUTSIDE], ids=[name for _, name in OUTSIDE])
def test_outside_the_domain(change: dict[str, Any]) -> None:
    given: dict[str, Any] = {
        "logits": np.ones((4, 5), np.float32),
        "logit_paddings": [0.0, 0, 0, 0],
        "labels": [1, 2],
        "label_paddings": [0.0, 0],
        "blank_id": 0,
        "log_epsilon": -math.inf,
    } | change
    with jax.enable_x64(isinstance(given["labels"], np.ndarray)):
        parts = jaxloss.ctc_loss_with_forward_probs(**given)
        arrays = {name: jnp.asarray(x) for name, x in given.items()}
        value, slopes = value_and_slopes(arrays.pop("logits"), **arrays)
    assert np.isnan(value)
    assert np.all(np.isnan(slopes))
    assert all(np.all(np.isnan(x)) for x in parts)


@pytest.mark.parametrize(
    ("shapes", "error"),
    [
        (((4, 5), (4,), (2,), (3,)), ValueError),
        (((4, 5), (3,), (2,), (2,)), ValueError),
        (((5,), (), (2,), (2,)), ValueError),
        (((2, 4, 5), (2, 4), (3, 2), (3, 2)), ValueError),
        (((2, 4, 5), (2, 4), (2,), (2,)), ValueError),
        (((2, 4, 5), (2, 4, 5), (2, 2), (2, 2)), ValueError),
        (((1, 2, 4, 5), (1, 2, 4), (1, 2, 2), (1, 2, 2)), ValueError),
    ],
)
def test_shapes_are_refused_by_name(shapes: Any, error: Any) -> None:
    logits, late, labels, spare = map(np.zeros, shapes)
    with pytest.raises(error, match=r"logits float.*logit_paddings .*labels int.*label_paddings"):
        jaxloss.ctc_loss(logits, late, labels.astype(np.int32), spare)


def test_kinds_are_refused_by_name() -> None:
    logits, late, labels, spare = np.zeros((4, 5)), np.zeros(4), np.ones(2, np.int32), np.zeros(2)
    with pytest.raises(TypeError, match=r"logits must be floating-point, got logits int"):
        jaxloss.ctc_loss(logits.astype(np.int32), late, labels, spare)
    with pytest.raises(TypeError, match=r"labels must be integers, got labels float"):
        jaxloss.ctc_loss(logits, late, labels * 1.0, spare)
    with pytest.raises(TypeError, match=r"blank_id must be integers, got blank_id float"):
        jaxloss.ctc_loss(logits, late, labels, spare, blank_id=0.0)
    with pytest.raises(ValueError, match=r"where must be a scalar or have the rank of the loss"):
        jaxloss.ctc_loss(logits, late, labels, spare, where=np.ones(4, bool))


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_half_precision_is_computed_in_float32(dtype: Any) -> None:
    logits, *rest = batch()
    logits = logits.astype(dtype)
    losses = jaxloss.ctc_loss(logits, *rest)
    assert losses.dtype == jnp.float32
    np.testing.assert_array_equal(losses, jaxloss.ctc_loss(logits.astype(np.float32), *rest))
    assert jax.eval_shape(jax.grad(total), logits, *rest).dtype == dtype


def test_finite_log_epsilon() -> None:
    """Labels that do not fit cost about as much as optax makes them."""
    logits, *rest = batch()
    np.testing.assert_array_equal(
        jaxloss.ctc_loss(logits, *rest, log_epsilon=-1e5), jaxloss.ctc_loss(logits, *rest)
    )
    logits, labels = np.zeros((2, 5), np.float32), np.array([1, 1])
    data = logits, np.zeros(2), labels, np.zeros(2)
    value, (slopes,) = evaluated(jaxloss.ctc_loss, *data, log_epsilon=-1e5)
    assert value == pytest.approx(1e5, rel=1e-4)
    assert np.all(np.isfinite(slopes))
    assert np.any(slopes)


def test_forward_probabilities() -> None:
    """The sum over states and classes of the beginnings of paths, written out."""
    logits = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    late, labels, spare = np.array([0, 0, 1, 0]), np.array([2, 1, 7]), np.array([0, 0, 1])
    loss, blanks, last = jaxloss.ctc_loss_with_forward_probs(logits, late, labels, spare)
    assert loss == one(logits[[0, 1, 3]], [2, 1])
    shares = np.asarray(jax.nn.softmax(jnp.asarray(logits)), np.float64)
    seen = [[0], [0, 1], [0, 1], [0, 1, 3]]
    for t, frames in enumerate(seen):
        for n in range(4):
            begun: dict[bool, Any] = {True: 0.0, False: 0.0}
            for path in itertools.product(range(3), repeat=len(frames)):
                if collapsed(path, 0) == (2, 1, 7)[:n]:
                    begun[path[-1] == 0] += np.prod(shares[frames, path])
            closed = begun[True] + begun[False] * (t == 3)
            np.testing.assert_allclose(np.exp(blanks[t, n]), closed, rtol=8 * EPS)
            if n:
                np.testing.assert_allclose(np.exp(last[t, n - 1]), begun[False], rtol=8 * EPS)
    batched = jaxloss.ctc_loss_with_forward_probs(*(x[None] for x in (logits, late, labels, spare)))
    assert [x.shape for x in batched] == [(1,), (4, 1, 4), (4, 1, 3)]
    np.testing.assert_array_equal(batched[1][:, 0], blanks)


def test_sharded_batch() -> None:
    inputs = batch()
    losses, (slopes,) = evaluated(jaxloss.ctc_loss, *inputs)
    expected = np.sum(losses)
    devices = np.array(jax.devices("cpu")[:8])

    def local(*inputs: Any) -> Any:
        part = jaxloss.Mean.of(jaxloss.ctc_loss, *inputs).psum("batch")
        return part.total

    mesh = Mesh(devices, ("batch",))
    mapped = jax.shard_map(local, mesh=mesh, in_specs=P("batch"), out_specs=P())
    value, gradient = jax.jit(jax.value_and_grad(mapped))(*inputs)
    np.testing.assert_allclose(value, expected, rtol=4 * EPS)
    np.testing.assert_allclose(gradient, slopes, atol=4 * EPS)

    for kind in (AxisType.Auto, AxisType.Explicit):
        mesh = Mesh(devices, ("batch",), axis_types=(kind,))
        with jax.set_mesh(mesh):
            placed = [jax.device_put(x, NamedSharding(mesh, P("batch"))) for x in inputs]
            value, gradient = jax.jit(jax.value_and_grad(total))(*placed)
            losses, blanks, _ = jax.jit(jaxloss.ctc_loss_with_forward_probs)(*placed)
            curved = jax.jit(jax.grad(lambda x, *rest: jnp.sum(jax.grad(total)(x, *rest) ** 2)))
            assert np.all(np.isfinite(curved(*placed)))
        assert gradient.sharding.spec[0] == losses.sharding.spec[0] == "batch"
        assert blanks.sharding.spec[1] == "batch"
        np.testing.assert_allclose(value, expected, rtol=4 * EPS)
        np.testing.assert_allclose(gradient, slopes, atol=4 * EPS)
