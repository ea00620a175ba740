"""Bad input is refused by name, at once, whatever transformation it comes through."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxloss

X = np.ones(4, np.float32)
VECTORS = np.ones((4, 3), np.float32)
CLASSES = np.array([0, 1, 2, 0], np.int32)
HOT = np.eye(3, dtype=np.float32)[CLASSES]
# What is refused here is refused by type checkers too.
l1: Any = jaxloss.l1_loss
huber: Any = jaxloss.huber_loss
cosine: Any = jaxloss.cosine_distance
gaussian: Any = jaxloss.gaussian_nll_loss
cross_entropy: Any = jaxloss.softmax_cross_entropy
numbers: Any = jaxloss.softmax_cross_entropy_with_integer_labels
focal: Any = jaxloss.softmax_focal_loss
nll: Any = jaxloss.nll_loss
margins: Any = jaxloss.multi_margin_loss
binary: Any = jaxloss.sigmoid_binary_cross_entropy
kl: Any = jaxloss.kl_divergence
dice: Any = jaxloss.dice_loss
reduce: Any = jaxloss.reduce

# What is called, the error, and what its message has to say.
ROWS: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (
        lambda: l1(X, X[:, None]),
        ValueError,
        "expected equal shapes, got predictions float32[4], targets float32[4, 1]",
    ),
    (lambda: l1(X, X[:3]), ValueError, "predictions float32[4], targets float32[3]"),
    (lambda: l1(X[0], X), ValueError, "predictions float32[], targets float32[4]"),
    (lambda: l1(X.astype(int)), TypeError, "predictions must be floating-point"),
    (lambda: l1(1, 2), TypeError, "predictions must be floating-point"),
    (lambda: l1(X > 0), TypeError, "predictions must be floating-point"),
    (lambda: l1(X + 1j), TypeError, "predictions must be real, got predictions complex64[4]"),
    (lambda: l1(X, X + 1j), TypeError, "targets must be real, got targets complex64[4]"),
    (lambda: l1("1.0"), TypeError, "predictions must be an array or a number, got str '1.0'"),
    (lambda: l1(["a"]), TypeError, "predictions must be an array or a number, got list"),
    (lambda: l1(np.array(["a"])), TypeError, "predictions must be an array or a number"),
    (lambda: l1([[1.0], [1.0, 2.0]]), TypeError, "predictions must be an array or a number"),
    (lambda: l1(None), TypeError, "predictions must be an array or a number, got None"),
    (lambda: gaussian(X, None, X), TypeError, "targets must be an array or a number, got None"),
    (lambda: gaussian(X, X, None), TypeError, "variance must be an array or a number"),
    (lambda: l1(object()), TypeError, "predictions must be an array or a number, got object"),
    (
        lambda: l1(X, reduction="avg"),
        ValueError,
        "reduction must be one of 'none', 'sum', 'mean', got 'avg'",
    ),
    (lambda: l1(X, reduction=None), ValueError, "reduction must be one of"),
    (lambda: l1(X, reduction={"mean"}), TypeError, "reduction must be a hashable"),
    (lambda: cosine(VECTORS, VECTORS, axis=2), ValueError, "axis must lie in [-2, 2) for"),
    (lambda: cosine(VECTORS, VECTORS, axis=-3), ValueError, "predictions float32[4, 3], got -3"),
    (lambda: cosine(VECTORS, VECTORS, axis=(0, 0)), ValueError, "must not name an axis twice"),
    (lambda: cosine(VECTORS, VECTORS, axis=0.5), TypeError, "axis must be an integer"),
    (lambda: cosine(VECTORS, VECTORS[0]), ValueError, "targets float32[3]"),
    (lambda: cosine(1.0, 1.0), ValueError, "predictions must have at least one axis"),
    (
        lambda: l1(X, weights=X[:, None]),
        ValueError,
        "weights must be a scalar or have the rank of the loss, with its sizes or 1; "
        "expected [4], got weights float32[4, 1]",
    ),
    (lambda: l1(X, weights=X[:3]), ValueError, "expected [4], got weights float32[3]"),
    (lambda: l1(VECTORS, weights=X), ValueError, "expected [4, 3], got weights float32[4]"),
    (lambda: l1(X, weights=X + 1j), TypeError, "weights must be real"),
    (lambda: l1(X, weights="all"), TypeError, "weights must be an array or a number"),
    (lambda: l1(X, where=X[:, None] > 0), ValueError, "where must be a scalar or have the rank"),
    (lambda: l1(X, where=X[:2] > 0), ValueError, "got where bool[2]"),
    (lambda: l1(X, where=X), TypeError, "where must be boolean, got where float32[4]"),
    (lambda: l1(X, where=1), TypeError, "where must be boolean"),
    (lambda: cosine(VECTORS, VECTORS, where=np.ones(3, bool)), ValueError, "got where bool[3]"),
    (lambda: gaussian(X, X, X[:, None]), ValueError, "variance must be a scalar or have the rank"),
    (lambda: gaussian(X, X, X[:2]), ValueError, "got variance float32[2]"),
    (lambda: gaussian(VECTORS, VECTORS, X[:3]), ValueError, "got variance float32[3]"),
    (
        lambda: huber(X, delta=X[:3]),
        ValueError,
        "hyperparameters must broadcast against the data, got predictions float32[4]",
    ),
    (lambda: huber(X, delta=None), TypeError, "delta must be an array or a number"),
    (lambda: huber(X, delta="1"), TypeError, "delta must be an array or a number"),
    (lambda: huber(X, delta=1j), TypeError, "delta must be real"),
    (
        lambda: l1(X[:, None], X),
        ValueError,
        "; drop the last axis of predictions: predictions[..., 0]",
    ),
    # Labels of another format, with the loss that takes them.
    (
        lambda: numbers(VECTORS, HOT),
        ValueError,
        "labels must be class numbers of shape [4], got logits float32[4, 3], labels float32[4, 3]"
        "; for one-hot or soft labels: softmax_cross_entropy"
        "; for one logit per example: sigmoid_binary_cross_entropy",
    ),
    (
        lambda: cross_entropy(VECTORS, CLASSES),
        ValueError,
        "expected equal shapes, got logits float32[4, 3], labels int32[4]"
        "; for class numbers: softmax_cross_entropy_with_integer_labels",
    ),
    # As many examples as classes: NumPy would broadcast.
    (lambda: cross_entropy(VECTORS[:3], CLASSES[:3]), ValueError, "for class numbers: softmax_"),
    (lambda: cross_entropy(VECTORS, 1.0), ValueError, "labels float32[]"),
    (lambda: numbers(VECTORS, CLASSES[:, None]), ValueError, "labels int32[4, 1]"),
    (lambda: numbers(VECTORS, CLASSES.astype(float)), TypeError, "labels must be integers"),
    (lambda: numbers(VECTORS, CLASSES > 0), TypeError, "labels must be integers"),
    (lambda: numbers(VECTORS, CLASSES[:3]), ValueError, "of shape [4]"),
    (lambda: numbers(X, CLASSES), ValueError, "one logit per example: sigmoid_binary_cross_en"),
    (
        lambda: numbers(X[:, None], CLASSES),
        ValueError,
        "there must be two classes or more along axis [1], got logits float32[4, 1]"
        "; for one logit per example: sigmoid_binary_cross_entropy",
    ),
    (lambda: cross_entropy(X[:, None], X[:, None]), ValueError, "two classes or more"),
    (lambda: numbers(VECTORS.astype(int), CLASSES), TypeError, "logits must be floating-point"),
    (
        lambda: numbers(VECTORS, CLASSES, class_weights=X),
        ValueError,
        "class_weights must have shape [3], a weight for each class, got class_weights float32[4]",
    ),
    (lambda: numbers(VECTORS, CLASSES, class_weights=2.0), ValueError, "class_weights must have"),
    (lambda: numbers(VECTORS, CLASSES, axis=2), ValueError, "axis must lie in [-2, 2)"),
    (lambda: numbers(VECTORS, CLASSES, temperature=X[:, None]), ValueError, "temperature must be"),
    (lambda: numbers(VECTORS, CLASSES, label_smoothing=None), TypeError, "label_smoothing must"),
    (lambda: focal(VECTORS, HOT[:, :2]), ValueError, "labels float32[4, 2]"),
    (lambda: focal(VECTORS, X), TypeError, "labels must be integers"),
    (
        lambda: numbers(VECTORS, CLASSES.astype(float)),
        TypeError,
        "if they are, whatever their dtype: labels.astype(int)",
    ),
    (lambda: numbers(VECTORS, CLASSES[:, None]), ValueError, "labels[..., 0]"),
    (
        lambda: numbers(np.zeros((2, 5, 4, 3)), np.zeros((2, 4, 3), int)),
        ValueError,
        "for classes along another axis: axis=1",
    ),
    (lambda: nll(VECTORS, HOT), ValueError, "for one-hot or soft labels: kl_divergence"),
    (lambda: margins(VECTORS, HOT), ValueError, "labels must be class numbers of shape [4]"),
    (lambda: margins(VECTORS, CLASSES, p=3), ValueError, "p must be"),
    (
        lambda: binary(VECTORS, CLASSES),
        ValueError,
        "softmax_cross_entropy_with_integer_labels",
    ),
    (lambda: binary(X, X[:, None]), ValueError, "labels float32[4, 1]"),
    (lambda: kl(VECTORS, CLASSES), ValueError, "targets int32[4]"),
    (lambda: dice(VECTORS[None], HOT[None, :, :2]), ValueError, "targets float32[1, 4, 2]"),
    (lambda: reduce("abc"), TypeError, "losses must be an array or a number"),
    (lambda: reduce(X, reduction="avg"), ValueError, "reduction must be one of"),
    (lambda: l1(), TypeError, "missing 1 required positional argument: 'predictions'"),
]


@pytest.mark.parametrize(("bad", "error", "message"), ROWS)
def test_refused_by_name(bad: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        bad()
    assert message in str(caught.value)


@pytest.mark.parametrize("transform", [jax.jit, jax.vmap, jax.grad])
@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        (lambda x: l1(x, X), ValueError, "predictions float32[], targets float32[4]"),
        (lambda x: l1(x.astype(int)), TypeError, "predictions must be floating-point"),
        (lambda x: l1(x, x.astype(complex)), TypeError, "targets must be real"),
        (lambda x: l1(x, "x"), TypeError, "targets must be an array or a number, got str"),
        (lambda x: l1(x, reduction="avg"), ValueError, "reduction must be one of"),
        (lambda x: l1(x, weights=X), ValueError, "weights must be a scalar"),
        (lambda x: l1(x, where=X > 0), ValueError, "where must be a scalar"),
        (lambda x: cosine(x, x, axis=0), ValueError, "predictions must have at least one axis"),
        (lambda x: l1(x, reduction=x), TypeError, "reduction must be a hashable"),
    ],
)
def test_refused_when_traced(transform: Any, bad: Any, error: Any, message: str) -> None:
    """Under `jit`, under `vmap`, where an example is a scalar, and under `grad`."""
    x = jnp.ones(4) if transform is jax.vmap else jnp.float32(1.0)
    with pytest.raises(error) as caught:
        transform(bad)(x)
    assert message in str(caught.value)


def test_lists_of_traced_numbers_are_arrays() -> None:
    assert jax.jit(lambda a, b: l1([a, b], reduction="sum"))(1.0, -2.0) == 3


def test_objects_that_are_arrays() -> None:
    class Wrapped:
        def __jax_array__(self) -> jax.Array:
            return jnp.array([1.0, -2.0])

    np.testing.assert_array_equal(l1(Wrapped()), [1, 2])


def test_a_scalar_target_is_the_only_data_that_broadcasts() -> None:
    np.testing.assert_array_equal(l1(X, 3), [2, 2, 2, 2])
    np.testing.assert_array_equal(l1(X, jnp.float32(3)), [2, 2, 2, 2])


def test_hyperparameters_enlarge_the_loss_fields_do_not() -> None:
    quantiles = np.array([0.1, 0.5, 0.9], np.float32)
    losses = jaxloss.quantile_loss(X[:, None], 2 * X[:, None], quantile=quantiles)
    np.testing.assert_allclose(losses, np.tile(quantiles, (4, 1)), rtol=1e-6)
    variance = np.array([[1.0], [2.0], [3.0], [4.0]], np.float32)
    spread = gaussian(VECTORS, VECTORS, variance)
    np.testing.assert_allclose(spread, np.tile(np.log(variance) / 2, 3), rtol=1e-6)


def test_python_numbers_do_not_widen() -> None:
    with jax.enable_x64(True):
        assert l1(X, 0.0).dtype == jnp.float32
        assert huber(X, delta=np.float64(1.0)).dtype == jnp.float32
        assert l1(1.0, 2.0).dtype == jnp.float64


def test_large_integer_targets_stay_exact_in_float64() -> None:
    with jax.enable_x64(True):
        assert l1(np.array([2.0**40]), np.array([2**40 + 1])) == 1


FAR = 2**40


@pytest.mark.parametrize(
    "targets",
    [[FAR], np.array([FAR]), np.array([FAR], np.uint64), FAR, np.int64(FAR)],
    ids=["list", "int64", "uint64", "int", "np.int64"],
)
def test_integers_of_64_bits_keep_their_value(targets: Any) -> None:
    """JAX, its 64-bit types off, makes 0 of 2**40 without a word."""
    expected = np.float32(FAR) - 1
    np.testing.assert_array_equal(l1(X[:1], targets), expected)
    np.testing.assert_array_equal(jax.jit(lambda x: l1(x, targets))(X[:1]), expected)
    np.testing.assert_array_equal(l1(X[:1], 0, weights=targets), FAR)
    assert float(reduce(targets, reduction="sum")) == FAR
    assert huber(3 * np.float32(FAR), 0.0, delta=targets) == 2.5 * np.float32(FAR) ** 2


@pytest.mark.parametrize("wrong", [2**32 + 1, -(2**32) + 1, 2**63 - 1])
def test_no_class_has_a_number_of_64_bits(wrong: int) -> None:
    for labels in ([wrong, 1], np.array([wrong, 1])):
        losses, slopes = jax.value_and_grad(lambda x, y=labels: numbers(x, y).sum())(VECTORS[:2])
        assert np.isnan(losses)
        np.testing.assert_array_equal(np.isnan(slopes), [[True] * 3, [False] * 3])
        assert np.all(np.isnan(dice(VECTORS[:2], labels, axis=())[0]))
    assert np.all(np.isnan(jaxloss.multi_hot(np.array([[wrong, 1]]), 3)))


def test_identities_of_64_bits_are_refused_or_told_apart() -> None:
    labels = np.array([0, 2**32, 0, 2**32])
    with pytest.raises(ValueError, match=r"int32 cannot tell apart.* or enable jax_enable_x64"):
        jaxloss.supervised_contrastive_loss(VECTORS, labels)
    renumbered = np.unique(labels, return_inverse=True)[1]
    vectors = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    expected = jaxloss.supervised_contrastive_loss(vectors, renumbered)
    with jax.enable_x64(True):
        np.testing.assert_allclose(jaxloss.supervised_contrastive_loss(vectors, labels), expected)


def test_a_number_that_no_type_holds_is_refused_by_name() -> None:
    with pytest.raises(TypeError, match="targets must be an array or a number"):
        l1(X, 2**70)
