"""Lovász extensions: exact for hard predictions, stated slopes at ties."""

from __future__ import annotations

import functools
import itertools
from typing import Any

import jax
import numpy as np
import pytest

from jaxloss import lovasz_hinge_loss, lovasz_softmax_loss
from tests.laws.values import evaluated, single


def jaccard(predicted: np.ndarray, true: np.ndarray) -> float:
    union = np.sum(predicted | true)
    return 1 - np.sum(predicted & true) / union if union else 0.0


def plain(errors: np.ndarray, positive: np.ndarray) -> float:
    """Each level of the errors makes the pixels above it wrong."""
    total, levels = 0.0, [*sorted({0.0, *np.maximum(errors, 0)})]
    for low, high in itertools.pairwise(levels):
        total += (high - low) * jaccard((errors >= high) ^ positive, positive)
    return total


@pytest.mark.parametrize("bits", range(16))
def test_hard_predictions_cost_their_jaccard_loss(bits: int) -> None:
    true = np.array([bits >> i & 1 for i in range(4)], bool)
    for guess in itertools.product([False, True], repeat=4):
        predicted = np.array(guess)
        p = single(np.stack([~predicted, predicted], -1))
        labels = true.astype(np.int32)
        loss = lovasz_softmax_loss(p[None], labels[None], apply_softmax=False, classes="all")
        both = (jaccard(predicted, true) + jaccard(~predicted, ~true)) / 2
        np.testing.assert_allclose(loss, [both], rtol=1e-6)
        # Hinges are 0 or 2 there.
        hinge = lovasz_hinge_loss(single(2 * predicted - 1)[None], labels[None])
        np.testing.assert_allclose(hinge, [2 * jaccard(predicted, true)], rtol=1e-6)


def test_values() -> None:
    # Errors 2, 1.5, 0.5 and none; positives the second and third: J = 1/3, 2/3, 1.
    x, t = single([[1.0, -0.5, 0.5, -3.0]]), np.array([[0, 1, 1, 0]])
    losses, (slope,) = evaluated(lovasz_hinge_loss, x, t)
    np.testing.assert_allclose(losses, [2 / 3 + 1.5 / 3 + 0.5 / 3], rtol=1e-6)
    np.testing.assert_allclose(slope, [[1 / 3, -1 / 3, -1 / 3, 0]], rtol=1e-6)
    for other in (2 * t - 1, t > 0, single(t)):
        np.testing.assert_array_equal(lovasz_hinge_loss(x, other), lovasz_hinge_loss(x, t))
    # Without a positive the worst pixel; with none that errs, nothing.
    np.testing.assert_allclose(lovasz_hinge_loss(x, 0 * t), [2.0])
    assert lovasz_hinge_loss(single([[9, -9, 9, -9]]), np.array([[1, 0, 1, 0]])) == 0


def test_against_levels() -> None:
    rng = np.random.default_rng(0)
    for size in (1, 2, 5, 40):
        x = np.round(rng.normal(0, 1.5, (6, size)), 1).astype(np.float32)
        t = rng.uniform(size=x.shape) < 0.4
        errors = 1 - np.where(t, 1, -1) * np.float64(x)
        expected = [plain(e, y) for e, y in zip(errors, t, strict=True)]
        np.testing.assert_allclose(lovasz_hinge_loss(x, t), expected, rtol=2e-6, atol=1e-6)


def test_classes_present() -> None:
    p = single([[[0.75, 0.125, 0.125], [0.5, 0.25, 0.25]]])
    labels = np.array([[0, 1]])
    # Class 0: errors 0.25 (of the class) and 0.5; class 1: 0.75 and 0.125; class 2 is absent.
    each = np.array([0.5 / 2 + 0.25 / 2, 0.75, 0.25])
    loss = functools.partial(lovasz_softmax_loss, p, labels, apply_softmax=False)
    np.testing.assert_allclose(loss(), [each[:2].mean()], rtol=1e-6)
    np.testing.assert_allclose(loss(classes="all"), [each.mean()], rtol=1e-6)
    weighted = loss(class_weights=[2.0, 3.0, 9.0])
    np.testing.assert_allclose(weighted, [(2 * each[0] + 3 * each[1]) / 2], rtol=1e-6)
    with pytest.raises(ValueError, match="classes must be one of 'present', 'all', got 'some'"):
        loss(classes="some")  # type: ignore
    soft = lovasz_softmax_loss(p, np.full_like(p, 0.5), apply_softmax=False)
    assert np.isnan(soft)


def test_equal_errors_of_one_label_share_their_steps() -> None:
    def slope(x: Any, t: Any) -> Any:
        return evaluated(lovasz_hinge_loss, single([x]), np.array([t]))[1][0][0]

    # Two positives, then two negatives: J = 1/2, 1, 1, 1.
    np.testing.assert_allclose(slope([0, 0, 0, 0], [0, 1, 0, 1]), [0, -0.5, 0, -0.5])
    # Two negatives with an error of 1, before the only positive: 2/3 for both together.
    found = slope([0, 2, 0, -9], [0, 1, 0, 0])
    np.testing.assert_allclose(found, [1 / 3, 0, 1 / 3, 0], rtol=1e-6)
    # No positive: the worst pixels share the loss. At the margin the active side trains.
    np.testing.assert_allclose(slope([0, 0, 0, 0], [0, 0, 0, 0]), [0.25] * 4)
    np.testing.assert_allclose(slope([-1], [0]), [1])


def test_errors_near_1_keep_their_order() -> None:
    """In float32 1 - p is 1 for both negatives, but the second is the worse."""
    x = single([[[0.0, 18.0], [0.0, 19.0], [18.5, 0.0]]])
    _, (slope,) = evaluated(lovasz_softmax_loss, x, np.array([[0, 0, 0]]))
    # All three are of class 0, each with a step of 1/3.
    expected = np.exp(-np.array([18.0, 19.0, 18.5])) / 3
    np.testing.assert_allclose(slope[0, :, 1], expected, rtol=1e-5)
    _, (wrong,) = evaluated(lovasz_softmax_loss, -x, np.array([[1, 1, 0]]))
    assert np.all(np.isfinite(wrong))


@pytest.mark.parametrize("wide", [False, True])
def test_derivatives_of_every_mode_are_finite(wide: bool) -> None:
    t = np.array([[0, 1, 0, 0, 1]])

    @jax.jit
    def all_of(x: Any) -> Any:
        loss: Any = lambda x: lovasz_hinge_loss(x, t)[0]  # noqa: E731
        return loss(x), *(of(loss)(x) for of in (jax.grad, jax.jacfwd, jax.hessian))

    with jax.enable_x64(wide):
        loss, *derivatives = all_of(np.array([[2.0, 0.0, 0.0, -np.inf, 3.0]]))
        assert loss.dtype == (np.float64 if wide else np.float32)
    for derivative in derivatives:
        assert np.all(np.isfinite(derivative))
    np.testing.assert_allclose(loss, plain(1 - np.array([-2, 0, 0, 9, 3.0]), t[0] > 0))


def test_excluded_pixels_add_nothing() -> None:
    x, t = single([[1.0, np.nan, -0.5, 0.5]]), np.array([[0, 1, 1, 1]])
    mask = np.array([[True, False, True, True]])
    losses, (slope,) = evaluated(lovasz_hinge_loss, x, t, where=mask)
    assert losses == lovasz_hinge_loss(x[mask][None], t[mask][None])
    assert slope[0, 1] == 0
    np.testing.assert_allclose(slope, [[1 / 3, 0, -1 / 3, -1 / 3]], rtol=1e-6)


def test_chosen_classes() -> None:
    """The mean over the classes of a list, present or not, and without the first one."""
    rng = np.random.default_rng(3)
    p = single(rng.dirichlet(np.ones(4), (2, 5)))
    labels = rng.integers(0, 2, (2, 5))
    call = functools.partial(lovasz_softmax_loss, p, labels, apply_softmax=False)
    each = np.stack([call(classes=[c]) for c in range(4)], -1)
    np.testing.assert_allclose(call(classes="all"), each.mean(-1), rtol=1e-6)
    for chosen in ((2, 1), [0, 1, 2, 3]):
        np.testing.assert_allclose(call(classes=chosen), each[:, list(chosen)].mean(-1), rtol=1e-6)
    np.testing.assert_allclose(call(classes="all", ignore_background=True), each[:, 1:].mean(-1))
    np.testing.assert_allclose(call(ignore_background=True), each[:, 1], rtol=1e-6)
    weights = np.array([1.0, 2.0, 3.0, 4.0], np.float32)
    found = call(classes=[1, 3], class_weights=weights)
    np.testing.assert_allclose(found, (each[:, [1, 3]] * [2, 4]).mean(-1), rtol=1e-6)


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ("some", "classes must be one of 'present', 'all', got 'some'"),
        ([], 'classes must be "present", "all" or different numbers'),
        ([1, 1], 'classes must be "present", "all" or different numbers'),
        ([1.0], 'classes must be "present", "all" or different numbers'),
        (3, 'classes must be "present", "all" or different numbers'),
        ([0, 3], r"classes must lie in \[0, 3\)"),
    ],
)
def test_classes_that_are_none(classes: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        lovasz_softmax_loss(np.zeros((2, 5, 3), np.float32), np.zeros((2, 5), int), classes=classes)
