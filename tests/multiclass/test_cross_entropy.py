from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import jaxloss
from jaxloss import (
    generalized_cross_entropy,
    nll_loss,
    poly_loss_cross_entropy,
    safe_softmax_cross_entropy,
    smooth_labels,
    softmax_cross_entropy,
    softmax_cross_entropy_with_integer_labels,
    softmax_focal_loss,
    symmetric_cross_entropy,
)
from tests.laws.compiling import as_users
from tests.laws.values import evaluated, single

# Probabilities 1/2, 1/4, 1/4.
LOGITS = np.log(single([2, 1, 1]))
HOT = single([1, 0, 0])
SOFT = single([0.5, 0.5, 0])
INF = np.inf
LN2 = np.log(2)
# A few roundings of float32.
RTOL = 1e-6

# Loss, labels, options, value, gradient in logits.
ROWS: list[tuple[Any, Any, dict[str, Any], Any, list[Any]]] = [
    (softmax_cross_entropy_with_integer_labels, 0, {}, LN2, [-1 / 2, 1 / 4, 1 / 4]),
    (softmax_cross_entropy_with_integer_labels, 1, {}, 2 * LN2, [1 / 2, -3 / 4, 1 / 4]),
    (softmax_cross_entropy, HOT, {}, LN2, [-1 / 2, 1 / 4, 1 / 4]),
    (softmax_cross_entropy, SOFT, {}, 1.5 * LN2, [0, -1 / 4, 1 / 4]),
    (softmax_cross_entropy, 2 * SOFT, {}, 3 * LN2, [0, -1 / 2, 1 / 2]),
    (
        softmax_cross_entropy_with_integer_labels,
        0,
        {"label_smoothing": 0.3},
        0.8 * LN2 + 0.2 * 2 * LN2,
        [0.5 - 0.8, 0.25 - 0.1, 0.25 - 0.1],
    ),
    (
        softmax_cross_entropy_with_integer_labels,
        0,
        {"class_weights": single([4, 1, 1])},
        4 * LN2,
        [-2, 1, 1],
    ),
    (
        softmax_cross_entropy,
        SOFT,
        {"class_weights": single([4, 2, 1])},
        0.5 * 4 * LN2 + 0.5 * 2 * 2 * LN2,
        [1.5 - 2, 0.75 - 1, 0.75],
    ),
    (
        softmax_cross_entropy_with_integer_labels,
        0,
        {"z_loss": 0.5},
        LN2 + 0.5 * np.log(4) ** 2,
        [np.log(4) / 2 - 0.5, np.log(4) / 4 + 0.25, np.log(4) / 4 + 0.25],
    ),
    (
        softmax_cross_entropy_with_integer_labels,
        1,
        {"temperature": 0.5},  # odds of 4 : 1 : 1
        np.log(6),
        [2 * 4 / 6, 2 * (1 / 6 - 1), 2 / 6],
    ),
    (
        softmax_focal_loss,
        0,
        {"gamma": 2.0},
        LN2 / 4,
        [-(1 + 2 * LN2) / 8, (1 + 2 * LN2) / 16, None],
    ),
    (poly_loss_cross_entropy, 0, {"epsilon": 2.0}, LN2 + 1, [-1.0, 0.5, 0.5]),
    (poly_loss_cross_entropy, HOT, {"epsilon": 2.0}, LN2 + 1, [-1.0, 0.5, 0.5]),
    (generalized_cross_entropy, 0, {"q": 1.0}, 0.5, [-1 / 4, 1 / 8, 1 / 8]),
    (generalized_cross_entropy, 1, {"q": 0.5}, 1.0, [1 / 4, -3 / 8, 1 / 8]),
    (generalized_cross_entropy, HOT, {"q": 0.0}, LN2, [-1 / 2, 1 / 4, 1 / 4]),
    (
        symmetric_cross_entropy,
        0,
        {"alpha": 2.0, "beta": 3.0, "log_zero": -4.0},
        2 * LN2 + 3 * 4 / 2,
        [-1 - 3, 0.5 + 1.5, 0.5 + 1.5],
    ),
    (
        symmetric_cross_entropy,
        SOFT,
        {"alpha": 0.0, "beta": 1.0, "log_zero": -4.0},
        0.75 * LN2 + 0.25 * 4,
        [(LN2 / 4 - 1) / 2, (LN2 / 4 - 1) / 4, (3 - 0.75 * LN2) / 4],
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[0].__name__}{row[2]}")
def test_values(row: Any) -> None:
    loss, labels, options, value, gradient = row
    losses, (slopes,) = evaluated(loss, LOGITS, labels, **options)
    np.testing.assert_allclose(losses, value, rtol=RTOL)
    for got, expected in zip(np.asarray(slopes), gradient, strict=True):
        if expected is not None:
            np.testing.assert_allclose(got, expected, rtol=RTOL, atol=1e-7)


def test_nll_loss() -> None:
    log_p = np.log(single([[0.5, 0.25, 0.25], [0.125, 0.5, 0.375]]))
    labels = np.array([1, 0])
    losses, (slope,) = evaluated(nll_loss, log_p, labels)
    np.testing.assert_allclose(losses, [2 * LN2, 3 * LN2], rtol=RTOL)
    np.testing.assert_array_equal(slope, [[0, -1, 0], [-1, 0, 0]])
    weighed = nll_loss(log_p, labels, class_weights=[3.0, 1.0, 9.0], reduction="mean")
    np.testing.assert_allclose(weighed, (2 * LN2 + 3 * 3 * LN2) / 4, rtol=RTOL)
    images = np.moveaxis(np.broadcast_to(log_p[:, None, None], (2, 4, 5, 3)), -1, 1)
    maps = np.broadcast_to(labels[:, None, None], (2, 4, 5))
    of_maps = np.asarray(nll_loss(images, maps, axis=1))
    np.testing.assert_allclose(of_maps[1], np.full((4, 5), 3 * LN2))


def test_a_margin_keeps_its_digits() -> None:
    """log(1 + exp(-80)): log-softmax rounds it to 0."""
    logits = single([80, 0])
    for loss, label in (
        (softmax_cross_entropy_with_integer_labels, 0),
        (softmax_cross_entropy, single([1, 0])),
    ):
        value, (slope,) = evaluated(loss, logits, label)
        np.testing.assert_allclose(value, np.exp(-80.0), rtol=2e-6)
        np.testing.assert_allclose(slope, [-np.exp(-80.0), np.exp(-80.0)], rtol=2e-6)


@pytest.mark.parametrize("margin", [20.0, 90.0, 1e5])
def test_a_confident_example_has_a_hessian(margin: float) -> None:
    """p (1 - p) of the likely class is about 2 exp(-margin), not 0 and not NaN."""
    x, odds = single([margin, 0, 0]), np.exp(-margin)
    exact = np.array([[2, -1, -1], [-1, 1, -odds], [-1, -odds, 1]]) * odds

    def losses(x: Any) -> list[Any]:
        hot = jnp.asarray(HOT)
        return [
            softmax_cross_entropy_with_integer_labels(x, 0),
            softmax_cross_entropy(x, hot),
            softmax_cross_entropy(x, hot, label_smoothing=0.1),
        ]

    hessians = jax.jit(lambda x: [f(losses)(x) for f in (jax.hessian, _twice_in_reverse)])
    for found in jax.tree.leaves(hessians(x)):
        np.testing.assert_allclose(found, exact, rtol=1e-6, atol=1e-37)


def _twice_in_reverse(function: Any) -> Any:
    return jax.jacrev(jax.jacrev(function))


def test_a_capped_logit_still_moves() -> None:
    """The slope of 5 tanh(x / 5) at 60 is 4 exp(-24), where 1 - tanh^2 is 0."""
    slope = jax.grad(lambda x: _capped(x, 0))(single([60, 0]))
    p = 1 / (1 + np.exp(-5.0))
    np.testing.assert_allclose(slope[0], (p - 1) * 4 * np.exp(-24.0), rtol=1e-5)


def _capped(x: Any, label: int) -> Any:
    return softmax_cross_entropy_with_integer_labels(x, label, logit_softcap=5.0)


def test_a_common_offset_costs_no_digits_that_are_left() -> None:
    x = np.random.default_rng(0).normal(size=(64, 10)).astype(np.float32) * 3
    labels = np.arange(64) % 10
    offset = x + np.float32(1e5)  # rounded to 1/128
    rounded = offset.astype(np.float64) - 1e5
    exact = np.log(np.sum(np.exp(rounded), -1)) - rounded[np.arange(64), labels]
    found = softmax_cross_entropy_with_integer_labels(offset, labels)
    np.testing.assert_allclose(found, exact, rtol=RTOL)


def test_a_hundred_thousand_classes_in_half_precision() -> None:
    logits = jnp.zeros((2, 100_000), jnp.float16)
    labels = jnp.array([0, 99_999])
    losses, (slope,) = evaluated(softmax_cross_entropy_with_integer_labels, logits, labels)
    np.testing.assert_allclose(losses, np.log(1e5), rtol=RTOL)
    assert slope.dtype == jnp.float16
    assert np.asarray(slope)[0, 0] == -1


def test_never_negative_at_a_low_temperature() -> None:
    """XLA's fused multiply-add makes the plain formula negative under `jit`."""
    x = single(np.random.default_rng(0).normal(0, 1e4, (256, 16)))
    labels = np.argmax(x, -1)
    for loss, y in (
        (softmax_cross_entropy_with_integer_labels, labels),
        (softmax_cross_entropy, np.eye(16, dtype=np.float32)[labels]),
    ):
        losses = as_users(functools.partial(loss, temperature=0.07))(x, y)
        assert np.all(np.asarray(losses) >= 0)


@pytest.mark.parametrize("label", [0, 1])
def test_one_hot_and_integer_labels_agree(label: int) -> None:
    rng = np.random.default_rng(1)
    x, y = single(rng.normal(size=(3, 4, 5))), rng.integers(0, 4, (3, 5))
    hot = np.moveaxis(np.eye(4, dtype=np.float32)[y], -1, 1)
    options: dict[str, Any] = {
        "axis": 1,
        "class_weights": single([1, 2, 0.5, 3]),
        "label_smoothing": 0.1 * label,
        "z_loss": 0.01,
        "logit_softcap": 30.0,
        "temperature": 1.5,
        "where": y != 2,
    }
    for reduction in ("none", "mean"):
        one = softmax_cross_entropy(x, hot, reduction=reduction, **options)
        other = softmax_cross_entropy_with_integer_labels(x, y, reduction=reduction, **options)
        np.testing.assert_allclose(one, other, rtol=1e-5)


def test_the_mean_divides_by_the_weights_of_the_labels() -> None:
    """As PyTorch's does for class numbers, with label smoothing too."""
    weights = jnp.array([4.0, 1.0, 1.0])
    logits, labels = jnp.stack([LOGITS, LOGITS]), jnp.array([0, 1])
    mean = softmax_cross_entropy_with_integer_labels(
        logits, labels, class_weights=weights, reduction="mean"
    )
    np.testing.assert_allclose(mean, (4 * LN2 + 2 * LN2) / 5, rtol=RTOL)
    loss = functools.partial(softmax_cross_entropy_with_integer_labels, class_weights=weights)
    part = jaxloss.Mean.of(loss, logits, labels, weights=jnp.array([1.0, 3.0]))
    np.testing.assert_allclose(part.weight, 4 + 3)


def test_absent_classes() -> None:
    """A logit of -inf, and an entry that the mask excludes: the loss of the others alone."""
    short, labels = single([0.3, -1]), single([0.25, 0.75])
    absent, spread = single([0.3, -INF, -1]), single([0.25, 0, 0.75])
    mask = np.array([True, False, True])
    for smoothing in (0.0, 0.2):
        smoothed = functools.partial(evaluated, softmax_cross_entropy, label_smoothing=smoothing)
        expected, (exact,) = smoothed(short, labels)
        value, (found,) = smoothed(absent, spread)
        np.testing.assert_allclose(value, expected, rtol=RTOL)
        wanted = np.insert(np.asarray(exact), 1, 0)
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-7)
    expected = softmax_cross_entropy(short, labels)
    safe = safe_softmax_cross_entropy(absent, spread)
    np.testing.assert_allclose(safe, expected, rtol=RTOL)
    masked = softmax_cross_entropy(single([0.3, np.nan, -1]), spread, where=mask)
    np.testing.assert_allclose(masked, expected)
    tangents = (jnp.ones(3), jnp.zeros(3))
    data = (jnp.asarray(absent), jnp.asarray(spread))
    assert jnp.isfinite(jax.jvp(softmax_cross_entropy, data, tangents)[1])
    # The right class itself is absent.
    assert softmax_cross_entropy_with_integer_labels(absent, 1) == INF
    assert jnp.isnan(softmax_cross_entropy_with_integer_labels(absent, 1, where=mask))


@pytest.mark.parametrize("copies", [1, 6_100])
def test_long_rows_keep_the_same_digits(copies: int) -> None:
    """Many classes are summed in another way than few, and gradients of many rows in a third way.

    Here are as many, of which few are there.
    """
    x = single([[2, -1, 0.5], [80, 0, -3], [1, 1, 0], [1e30, 0, 5]])
    y = single([[0.7, 0.1, 0.2], [1, 0, 0], [0, 0.5, 0.5], [1, 0, 0]])
    places = np.array([3, 17, 38])
    long_x, long_y = np.full((4, 43), -INF, np.float32), np.zeros((4, 43), np.float32)
    long_x[:, places], long_y[:, places] = x, y
    soft: list[Any] = [
        softmax_cross_entropy,
        functools.partial(softmax_cross_entropy, temperature=0.7, z_loss=0.1, label_smoothing=0.2),
        functools.partial(poly_loss_cross_entropy, epsilon=1.5),
        softmax_focal_loss,
    ]
    for loss in soft:
        derivatives = as_users(functools.partial(evaluated, loss))
        many = derivatives(*(np.tile(x, (copies, 1)) for x in (long_x, long_y)))
        losses, slopes = results = [np.asarray(result) for result in jax.tree.leaves(many)]
        for result in results:
            np.testing.assert_array_equal(result, np.tile(result[:4], (copies, 1)[: result.ndim]))
        losses, slopes = losses[:4], slopes[:4]
        expected, (short,) = derivatives(x, y)
        # Of two results, each within 16 eps.
        np.testing.assert_allclose(losses, expected, rtol=32 * 2.0**-23)
        short = np.asarray(short)
        scale = np.abs(short).max(1, keepdims=True)
        assert np.all(np.abs(slopes[:, places] - short) <= 32 * 2.0**-23 * scale)
        assert np.count_nonzero(slopes) == np.count_nonzero(short)


def test_rows_without_a_class() -> None:
    nothing, labels = single([[-INF] * 3, LOGITS]), np.array([0, 0])
    mean = functools.partial(
        evaluated, softmax_cross_entropy_with_integer_labels, nothing, labels, reduction="mean"
    )
    assert np.isnan(mean()[0])
    value, (slopes,) = mean(where=np.array([False, True]))
    np.testing.assert_allclose(value, LN2, rtol=RTOL)
    np.testing.assert_allclose(np.asarray(slopes)[0], 0)


def test_infinite_logits() -> None:
    certain, both = single([INF, 0, 1]), single([INF, INF])
    of_numbers = functools.partial(evaluated, softmax_cross_entropy_with_integer_labels)
    value, (slopes,) = of_numbers(certain, 0)
    assert value == 0
    np.testing.assert_array_equal(slopes, [0, 0, 0])
    assert of_numbers(certain, 1)[0] == INF
    assert np.isnan(of_numbers(both, 0)[0])
    for loss in (softmax_cross_entropy, poly_loss_cross_entropy):
        for hot, wanted in zip(np.eye(3, dtype=np.float32), (0, INF, INF), strict=True):
            value, (slopes,) = evaluated(loss, certain, hot)
            assert value == wanted
            np.testing.assert_array_equal(slopes, HOT - hot)
        assert np.isnan(evaluated(loss, both, single([1, 0]))[0])


@pytest.mark.parametrize("dtype", [jnp.int8, jnp.uint8, jnp.int32])
def test_wrong_class_numbers_are_nan(dtype: Any) -> None:
    x = np.zeros((3, 300), np.float32)
    labels = np.array([0, 3, 127], dtype)
    losses, (slope,) = evaluated(softmax_cross_entropy_with_integer_labels, x[:, :3], labels)
    np.testing.assert_array_equal(np.isnan(losses), [False, True, True])
    np.testing.assert_array_equal(np.isnan(slope).all(-1), [False, True, True])
    # More classes than the type holds numbers.
    losses = softmax_cross_entropy_with_integer_labels(x, labels)
    np.testing.assert_allclose(losses, np.full(3, np.log(300)), rtol=RTOL)


def test_labels_of_several_axes_count_through_the_last_first() -> None:
    x = single(np.random.default_rng(3).normal(size=(2, 3, 4, 5)))
    labels = np.array([[0, 7], [14, 3]]).repeat(2, 1)  # of 3 x 5 classes
    flat = np.moveaxis(x, 2, 1).reshape(2, 4, 15)
    expected = softmax_cross_entropy_with_integer_labels(flat, labels)
    found = softmax_cross_entropy_with_integer_labels(x, labels, axis=(1, 3))
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    turned = np.transpose(x, (0, 2, 3, 1)).reshape(2, 4, 15)
    found = softmax_cross_entropy_with_integer_labels(x, labels, axis=(3, 1))
    expected = softmax_cross_entropy_with_integer_labels(turned, labels)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert softmax_cross_entropy_with_integer_labels(x, 7, axis=None).shape == ()


def test_options_may_differ_from_row_to_row() -> None:
    x, labels = np.stack([LOGITS] * 3), np.array([0, 1, 2])
    gammas = single([0, 1, 2])
    each = [softmax_focal_loss(LOGITS, y, gamma=g) for y, g in zip(labels, gammas, strict=True)]
    np.testing.assert_allclose(softmax_focal_loss(x, labels, gamma=gammas), each, rtol=RTOL)
    with pytest.raises(ValueError, match="gamma must be a scalar or have the rank of the loss"):
        softmax_focal_loss(x, labels, gamma=gammas[None])


def test_no_gather_and_no_scatter() -> None:
    """A class axis that is sharded, and a deterministic gradient on every device."""
    labels = jnp.array([0, 1])
    for loss in (softmax_cross_entropy_with_integer_labels, softmax_focal_loss, nll_loss):
        gradient = jax.grad(lambda x, loss=loss: loss(x, labels, reduction="sum"))
        program = jax.jit(gradient).lower(jnp.zeros((2, 3))).compile().as_text()
        assert program
        # `nll_loss` reads its score by index: where that is NaN the gradient is too.
        assert loss is nll_loss or " gather(" not in program
        assert " scatter(" not in program


def test_sharded_classes_are_not_gathered() -> None:
    """The score of `nll_loss` is read by index, by the device that has it."""
    mesh = jax.make_mesh((8,), ("classes",), axis_types=(AxisType.Auto,))
    scores = jax.device_put(
        jnp.arange(32.0).reshape(4, 8), NamedSharding(mesh, PartitionSpec(None, "classes"))
    )
    labels = jnp.array([0, 7, 3, 4])
    both = jax.jit(jax.value_and_grad(lambda x: nll_loss(x, labels, reduction="sum")))
    program = both.lower(scores).compile()
    assert "all-gather" not in (program.as_text() or "")
    value, gradient = program(scores)
    np.testing.assert_array_equal(value, -(0 + 15 + 19 + 28))
    np.testing.assert_array_equal(gradient, -jax.nn.one_hot(labels, 8))


def test_smooth_labels() -> None:
    np.testing.assert_allclose(smooth_labels(HOT, 0.3), [0.8, 0.1, 0.1], rtol=RTOL)
    mask = np.array([True, True, False])
    np.testing.assert_allclose(smooth_labels(HOT, 0.3, where=mask), [0.85, 0.15, 0.0], rtol=RTOL)
    np.testing.assert_array_equal(smooth_labels(HOT, 0.3, where=~mask & mask), [0, 0, 0])
    assert np.all(np.isnan(smooth_labels(HOT, 1.5)))
    columns = smooth_labels(np.stack([HOT, HOT], 1), 0.3, axis=0)
    np.testing.assert_allclose(np.asarray(columns)[:, 1], [0.8, 0.1, 0.1], rtol=RTOL)


@pytest.mark.parametrize("one_hot", [False, True])
def test_excluded_examples_do_not_reach_the_gradient_of_class_weights(one_hot: bool) -> None:
    """They read 1, which is outside the domain of `log_zero`."""
    x, y = single([[2, 0, 1], [0.5, 1, -1]]), np.array([0, 2])
    labels = np.eye(3, dtype=np.float32)[y] if one_hot else y

    def mean(weights: jax.Array) -> jax.Array:
        return symmetric_cross_entropy(
            x, labels, class_weights=weights, where=np.array([True, False]), reduction="mean"
        )

    @jax.jit
    def slopes(weights: jax.Array, ones: jax.Array) -> Any:
        weighed = jax.grad(lambda w: mean(w) * jnp.sum(w))
        return jax.grad(mean)(weights), weighed(ones)

    alone, weighed = slopes(single([1, 2, 3]), np.ones(3, np.float32))
    assert np.all(np.isfinite(alone))
    assert np.any(np.asarray(weighed) != 0)


@pytest.mark.parametrize(
    "options", [{}, {"class_weights": single([1, 2, 0.5, 3])}, {"temperature": 0.3}]
)
def test_linear_in_labels_of_either_sign(options: Any) -> None:
    """Of advantages, or of the difference of two distributions; optax's are the same."""
    rng = np.random.default_rng(0)
    x = single(rng.normal(0, 3, (20, 4)))
    first, second = single(rng.dirichlet(np.ones(4), (2, 20)))
    both = functools.partial(evaluated, softmax_cross_entropy, x, wrt=(0, 1), **options)
    (a, slopes_a), (b, slopes_b) = both(first), both(second)
    found, slopes = both(first - 2 * second)
    np.testing.assert_allclose(found, a - 2 * b, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(slopes[0], slopes_a[0] - 2 * slopes_b[0], rtol=1e-5, atol=1e-5)
    # The slope in the labels does not depend on them.
    np.testing.assert_array_equal(slopes[1], slopes_a[1])


def test_negative_labels_at_infinite_logits() -> None:
    x = single([[INF, 0, 1], [INF, 0, 1], [-INF, 0, 1], [-INF, 0, 1]])
    labels = single([[1, -1, 0], [1, 1, 0], [-1, 0, 0], [0, -1, 1]])
    found, (slopes,) = evaluated(softmax_cross_entropy, x, labels)
    np.testing.assert_allclose(found, [-INF, INF, -INF, -1], rtol=RTOL)
    np.testing.assert_allclose(slopes[3], [0, 1, -1], rtol=RTOL)
    assert np.all(np.isnan(evaluated(softmax_cross_entropy, x, labels * np.float32(np.nan))[0]))
