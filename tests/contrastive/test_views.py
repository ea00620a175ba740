"""Losses of two views: cross-entropies of matrices written out, invariances, masks, bad input."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxloss import clip_loss, info_nce_loss, n_pairs_loss, siglip_loss
from tests.laws.values import double, single

# A 3-4-5 world.
X = np.array([[2, 0, 0], [3, 4, 0], [0, 5, 0], [0, 0, 1]], np.float32)
Y = np.array([[1, 0, 0], [4, 3, 0], [0, 2, 0], [0, 3, 4]], np.float32)
COSINES = np.array(
    [[1, 4 / 5, 0, 0], [3 / 5, 24 / 25, 4 / 5, 12 / 25], [0, 3 / 5, 1, 3 / 5], [0, 0, 0, 4 / 5]]
)
DOTS = np.array([[2, 8, 0, 0], [3, 24, 8, 12], [0, 15, 10, 15], [0, 0, 0, 4]])
RNG = np.random.default_rng(0)
A, B, NEGATIVES = RNG.normal(size=(3, 4, 3)).astype(np.float32)
LABELS = np.array([0, 0, 1, 2], np.int32)

EPS = float(np.finfo(np.float32).eps)
OPTIONS: dict[Any, dict[str, float]] = {
    n_pairs_loss: {},
    info_nce_loss: {"temperature": 0.5},
    clip_loss: {"logit_scale": 2.0},
    siglip_loss: {"logit_scale": 2.0, "logit_bias": -1.0},
}
LOSSES = list(OPTIONS)
every = pytest.mark.parametrize("loss", LOSSES, ids=lambda f: f.__name__)
of_cosines = pytest.mark.parametrize("loss", LOSSES[1:], ids=lambda f: f.__name__)


class Result(NamedTuple):
    losses: Any
    mean: Any
    slopes: Any  # of the sum, in both views
    knobs: Any  # of the sum, in the hyperparameters


@functools.cache
def compiled(loss: Any, **fixed: Any) -> Callable[..., Result]:
    """Everything at once, with a traced mask, weights and hyperparameters."""

    @jax.jit
    def compute(x: Any, y: Any, where: Any, weights: Any, options: Any, more: Any) -> Result:
        def total(x: Any, y: Any, options: Any) -> Any:
            run = functools.partial(
                loss, x, y, where=where, weights=weights, **options, **fixed, **more
            )
            losses = run(reduction="none")
            return jnp.sum(losses), (losses, run(reduction="mean"))

        (_, aux), slopes = jax.value_and_grad(total, (0, 1, 2), has_aux=True)(x, y, options)
        losses, mean = aux
        return Result(losses, mean, slopes[:2], slopes[2])

    return compute


def evaluated(
    loss: Any,
    x: Any,
    y: Any,
    where: Any = None,
    weights: Any = None,
    more: Any = None,
    fixed: Any = None,
    **options: Any,
) -> Result:
    where = np.ones(4, bool) if where is None else np.asarray(where)
    weights = np.ones(4) if weights is None else weights
    options = {k: np.float32(v) for k, v in (OPTIONS[loss] | options).items()}
    given = single(x), single(y), where, single(weights), options, more or {}
    return jax.tree.map(np.asarray, compiled(loss, **(fixed or {}))(*given))


def cosines(x: Any, y: Any) -> Any:
    x, y = (double(z) / np.linalg.norm(double(z), axis=-1, keepdims=True) for z in (x, y))
    return x @ y.T


def shares(logits: Any) -> Any:
    logits = np.exp(logits - logits.max(-1, keepdims=True))
    return logits / logits.sum(-1, keepdims=True)


def cross_entropy(logits: Any) -> tuple[Any, Any]:
    """Of the diagonal, and the slopes of the sum in the logits."""
    p = shares(logits)
    return -np.log(np.diagonal(p)), p - np.eye(*p.shape)


def plain(loss: Any, between: Any) -> tuple[Any, Any]:
    """The losses of cosines, or dot products, and the slopes of their sum in these."""
    if loss is n_pairs_loss:
        return cross_entropy(between)
    if loss is info_nce_loss:
        losses, slopes = cross_entropy(between / 0.5)
        return losses, slopes / 0.5
    if loss is clip_loss:
        to, back = cross_entropy(2 * between), cross_entropy(2 * between.T)
        return (to[0] + back[0]) / 2, to[1] + back[1].T
    z = 2 * np.eye(len(between)) - 1
    logits = 2 * between - 1
    return np.logaddexp(0, -z * logits).sum(-1), -2 * z / (1 + np.exp(z * logits))


def through_cosines(g: Any, x: Any, y: Any) -> tuple[Any, Any]:
    """What slopes of the cosines are in the embeddings."""
    (m, u), (n, v) = (
        (np.linalg.norm(z, axis=-1, keepdims=True), z / np.linalg.norm(z, axis=-1, keepdims=True))
        for z in (double(x), double(y))
    )
    c = g * (u @ v.T)
    return (g @ v - c.sum(1)[:, None] * u) / m, (g.T @ u - c.sum(0)[:, None] * v) / n


def through_dots(g: Any, x: Any, y: Any) -> tuple[Any, Any]:
    return g @ double(y), g.T @ double(x)


# ---- values and gradients ----


def test_the_matrices_by_hand() -> None:
    np.testing.assert_allclose(cosines(X, Y), COSINES, rtol=1e-12)
    np.testing.assert_array_equal(X @ Y.T, DOTS)


@every
def test_value_and_gradient_by_hand(loss: Any) -> None:
    between = COSINES if loss in LOSSES[1:] else DOTS / 4
    x = X if loss in LOSSES[1:] else X / 4
    losses, g = plain(loss, between)
    result = evaluated(loss, x, Y)
    np.testing.assert_allclose(result.losses, losses, rtol=16 * EPS)
    np.testing.assert_allclose(result.mean, losses.mean(), rtol=16 * EPS)
    through = through_dots if loss is n_pairs_loss else through_cosines
    for got, want in zip(result.slopes, through(g, x, Y), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=2e-6)


def test_one_row_as_arithmetic() -> None:
    odds = np.exp(3 - 24) + np.exp(8 - 24) + np.exp(12 - 24)
    np.testing.assert_allclose(n_pairs_loss(X, Y)[1], np.log1p(odds), rtol=1e-5)
    e = np.exp(np.array([0.6, 0.96, 0.8, 0.48]) / 0.5)
    loss = evaluated(info_nce_loss, X, Y).losses[1]
    np.testing.assert_allclose(loss, np.log(e.sum() / e[1]), rtol=1e-6)
    own, others = 10 * 0.96 - 10, 10 * np.array([0.6, 0.8, 0.48]) - 10
    exact = np.log1p(np.exp(-own)) + np.log1p(np.exp(others)).sum()
    np.testing.assert_allclose(siglip_loss(X, Y)[1], exact, rtol=1e-6)
    to, back = np.array([3, 4, 2.4]) / 5 - 0.96, np.array([4, 3, 0]) / 5 - 0.96
    exact = np.log1p(np.exp(to / 0.07).sum()) / 2 + np.log1p(np.exp(back / 0.07).sum()) / 2
    np.testing.assert_allclose(clip_loss(X, Y)[1], exact, rtol=1e-5)


# ---- theorems ----


def test_siglip_is_a_sum_of_binary_cross_entropies() -> None:
    result = evaluated(siglip_loss, A, B, logit_scale=3.0, logit_bias=-2.0)
    c = cosines(A, B)
    p = 1 / (1 + np.exp(2 - 3 * c))
    exact = -np.where(np.eye(4), np.log(p), np.log(1 - p)).sum(-1)
    np.testing.assert_allclose(result.losses, exact, rtol=1e-5)
    # The slopes of a learnt scale and bias: what a classifier errs.
    errors = p - np.eye(4)
    np.testing.assert_allclose(result.knobs["logit_scale"], np.sum(errors * c), rtol=1e-5)
    np.testing.assert_allclose(result.knobs["logit_bias"], np.sum(errors), rtol=1e-5)


def test_clip_is_symmetric_info_nce() -> None:
    clip = evaluated(clip_loss, A, B)
    both = {"fixed": {"symmetric": True}}
    symmetric = evaluated(info_nce_loss, A, B, **both)
    np.testing.assert_allclose(clip.losses, symmetric.losses, rtol=1e-6)
    for got, want in zip(clip.slopes, symmetric.slopes, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
    swapped = evaluated(clip_loss, B, A)
    np.testing.assert_allclose(swapped.losses, clip.losses, rtol=1e-6)
    np.testing.assert_allclose(swapped.slopes[1], clip.slopes[0], rtol=1e-5, atol=1e-6)
    to, back = (evaluated(info_nce_loss, *views).losses for views in ((A, B), (B, A)))
    np.testing.assert_allclose(clip.losses, (to + back) / 2, rtol=1e-6)
    scale = clip.knobs["logit_scale"]
    # d/dt of each row's log-sum-exp less its own: the expected cosine less the own.
    c = cosines(A, B)
    expected = [np.sum(shares(2 * m) * m) - np.trace(m) for m in (c, c.T)]
    np.testing.assert_allclose(scale, sum(expected) / 2, rtol=1e-4)


@pytest.mark.parametrize("symmetric", [False, True])
def test_extra_negatives(symmetric: bool) -> None:
    more, fixed = {"negatives": NEGATIVES[:2]}, {"symmetric": symmetric}
    result = evaluated(info_nce_loss, A, B, more=more, fixed=fixed)
    logits = np.concatenate([cosines(A, B), cosines(A, NEGATIVES[:2])], 1) / 0.5
    expected = -np.log(np.diagonal(shares(logits)))
    if symmetric:
        expected = (expected + cross_entropy(cosines(B, A) / 0.5)[0]) / 2
    np.testing.assert_allclose(result.losses, expected, rtol=1e-5)
    # Masks are of the pairs: extra negatives stay.
    where = np.array([1, 1, 0, 0], bool)
    masked = evaluated(info_nce_loss, A, B, where=where, more=more, fixed=fixed)
    logits = np.delete(logits, [2, 3], 1)[:2]
    expected = -np.log(np.diagonal(shares(logits)))
    if symmetric:
        expected = (expected + cross_entropy(cosines(B[:2], A[:2]) / 0.5)[0]) / 2
    np.testing.assert_allclose(masked.losses, [*expected, 0, 0], rtol=1e-5)


def test_gradients_reach_the_extra_negatives() -> None:
    def total(n: Any) -> Any:
        return jnp.sum(info_nce_loss(A, B, negatives=n, temperature=0.5))

    slope = jax.jit(jax.grad(total))(NEGATIVES[:2])
    logits = np.concatenate([cosines(A, B), cosines(A, NEGATIVES[:2])], 1) / 0.5
    _, expected = through_cosines(shares(logits)[:, 4:] / 0.5, A, NEGATIVES[:2])
    np.testing.assert_allclose(slope, expected, rtol=1e-5, atol=1e-6)


def test_no_extra_negatives_are_none() -> None:
    none = info_nce_loss(A, B, negatives=NEGATIVES[:0], temperature=0.5)
    np.testing.assert_allclose(none, evaluated(info_nce_loss, A, B).losses, rtol=1e-6)


def test_n_pairs_with_labels() -> None:
    """The second's positive is no negative of the first: it is of the same label."""
    dots = double(A @ B.T)
    result = evaluated(n_pairs_loss, A, B, more={"labels": LABELS})
    for i in range(4):
        others = [dots[i, j] - dots[i, i] for j in range(4) if LABELS[j] != LABELS[i]]
        np.testing.assert_allclose(result.losses[i], np.log1p(np.exp(others).sum()), rtol=1e-5)
    alike = evaluated(n_pairs_loss, A, B, more={"labels": 0 * LABELS})
    assert np.all(alike.losses == 0)
    assert all(np.all(slope == 0) for slope in alike.slopes)
    # No positive is missing: all count.
    assert alike.mean == 0
    np.testing.assert_allclose(result.mean, result.losses.mean(), rtol=1e-6)
    own = evaluated(n_pairs_loss, A, B, more={"labels": np.array([7, -3, 5, 2**31 - 1])})
    np.testing.assert_allclose(own.losses, evaluated(n_pairs_loss, A, B).losses, rtol=1e-6)


@of_cosines
def test_only_directions_matter(loss: Any) -> None:
    result = evaluated(loss, A, B)
    sizes = single([1e30, 1e-30, 3, 1])[:, None], single([1e-30, 1, 1e30, 7])[:, None]
    scaled = evaluated(loss, A * sizes[0], B * sizes[1])
    np.testing.assert_allclose(scaled.losses, result.losses, rtol=1e-5)
    for view, got, size, want in zip((A, B), scaled.slopes, sizes, result.slopes, strict=True):
        np.testing.assert_allclose(got * size, want, rtol=1e-4, atol=2e-6)
        np.testing.assert_allclose(np.sum(want * view, -1), 0, atol=2e-6)


@every
def test_symmetries(loss: Any) -> None:
    result = evaluated(loss, A, B)
    order = np.array([2, 0, 3, 1])
    moved = evaluated(loss, A[order], B[order])
    np.testing.assert_allclose(moved.losses, result.losses[order], rtol=1e-5)
    turn, _ = np.linalg.qr(RNG.normal(size=(3, 3)))
    turned = evaluated(loss, A @ turn, B @ turn)
    np.testing.assert_allclose(turned.losses, result.losses, rtol=1e-5)
    for got, moved_slope, want in zip(turned.slopes, moved.slopes, result.slopes, strict=True):
        np.testing.assert_allclose(got, want @ turn, rtol=1e-4, atol=5e-6)
        np.testing.assert_allclose(moved_slope, want[order], rtol=1e-5, atol=2e-6)


def test_right_matches_cost_nothing_and_keep_their_digits() -> None:
    corners = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [-1, 0, 0]])
    exact = np.log1p(2 * np.exp(-32) + np.exp(-64))
    for loss, options in (
        (info_nce_loss, {"temperature": 1 / 32}),
        (clip_loss, {"logit_scale": 32}),
    ):
        result = evaluated(loss, corners, 5 * corners, **options)
        np.testing.assert_allclose(result.losses[0], exact, rtol=1e-6)
    result = evaluated(n_pairs_loss, corners, 32 * corners)
    np.testing.assert_allclose(result.losses[0], exact, rtol=1e-6)
    result = evaluated(siglip_loss, corners, corners, logit_scale=64, logit_bias=-32)
    exact = 3 * np.exp(-32) + np.exp(-96)
    np.testing.assert_allclose(result.losses[0], exact, rtol=1e-5)
    # Wrong ones cost what the logits differ by.
    result = evaluated(info_nce_loss, corners, -corners, temperature=1e-3)
    np.testing.assert_allclose(result.losses[0], 2000, rtol=1e-6)


@of_cosines
def test_a_zero_embedding_is_similar_to_none(loss: Any) -> None:
    x = A.copy()
    x[1] = 0
    result = evaluated(loss, x, B)
    between = cosines(np.where(x == 0, 1, x), B)
    between[1] = 0
    np.testing.assert_allclose(result.losses, plain(loss, between)[0], rtol=1e-5)
    assert np.all(result.slopes[0][1] == 0)
    nothing = evaluated(loss, 0 * A, 0 * B)
    assert np.all(np.isfinite(nothing.losses))
    assert all(np.all(slope == 0) for slope in nothing.slopes)


# ---- masks and bad input ----


@every
def test_an_excluded_pair_is_a_smaller_batch(loss: Any) -> None:
    where, kept = np.array([1, 0, 1, 1], bool), [0, 2, 3]
    weights = np.array([0.5, 9, 1, 2])
    x, y = A.copy(), B.copy()
    x[1], y[1] = np.nan, np.inf
    result = evaluated(loss, x, y, where, weights)
    between = A @ B.T if loss is n_pairs_loss else cosines(A, B)
    losses, _ = plain(loss, between[np.ix_(kept, kept)])
    assert result.losses[1] == 0
    np.testing.assert_allclose(result.losses[kept], weights[kept] * losses, rtol=1e-5)
    np.testing.assert_allclose(result.mean, weights[kept] @ losses / 3.5, rtol=1e-5)
    for slope in result.slopes:
        assert np.all(slope[1] == 0)
        assert np.all(np.isfinite(slope))
    nothing = evaluated(loss, x, y, np.zeros(4, bool))
    assert all(np.all(leaf == 0) for leaf in jax.tree.leaves(nothing))


@every
def test_nan_reaches_all_who_use_it(loss: Any) -> None:
    y = B.copy()
    y[2] = np.nan
    result = evaluated(loss, A, y)
    assert np.all(np.isnan(result.losses))
    x = A.copy()
    x[2] = np.nan
    result = evaluated(loss, x, B)
    others = result.losses[[0, 1, 3]]
    # A query is used by its own loss, and by the way back.
    assert np.isnan(result.losses[2])
    assert np.all(np.isnan(others) if loss is clip_loss else np.isfinite(others))
    assert np.all(np.isnan(result.slopes[0][2]))


@every
def test_small_batches(loss: Any) -> None:
    """One pair has nothing to be told from; siglip still asks whether it belongs together."""

    @jax.jit
    def compute(x: Any) -> Any:
        def mean(x: Any) -> Any:
            return loss(x, 2 * x, reduction="mean", **OPTIONS[loss])

        return jax.value_and_grad(mean)(x), jax.value_and_grad(mean)(x[:0])

    (value, slope), (nothing, no_slope) = compute(jnp.ones((1, 3)))
    expected = np.log1p(np.exp(-1)) if loss is siglip_loss else 0
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    np.testing.assert_allclose(slope, 0 * slope, atol=1e-7)
    assert nothing == 0
    assert no_slope.shape == (0, 3)


@every
def test_bad_input_is_refused(loss: Any) -> None:
    for other in (B[:, :2], B[:3], B[0], B[None]):
        with pytest.raises(ValueError, match=r"expected equal shapes, got .* float32\[4, 3\]"):
            loss(A, other)
    with pytest.raises(ValueError, match="examples, features"):
        loss(A[0], B[0])
    with pytest.raises(TypeError, match="must be floating-point"):
        loss(A.astype(np.int32), B)
    for where in (np.ones((4, 4), bool), np.ones(3, bool), np.ones((4, 3), bool)):
        with pytest.raises(ValueError, match="where must be"):
            loss(A, B, where=where)


def test_bad_negatives_and_labels_are_refused() -> None:
    for negatives in (NEGATIVES[:, :2], NEGATIVES[0], NEGATIVES[None]):
        with pytest.raises(ValueError, match=r"negatives must be of shape.*negatives float32"):
            info_nce_loss(A, B, negatives=negatives)
    with pytest.raises(TypeError, match="negatives"):
        info_nce_loss(A, B, negatives=NEGATIVES.astype(np.int32))
    for labels in (LABELS[:, None], LABELS[:3]):
        with pytest.raises(ValueError, match=r"labels must be of shape \[4\]"):
            n_pairs_loss(A, B, labels=labels)
    with pytest.raises(TypeError, match="labels must be integers"):
        n_pairs_loss(A, B, labels=LABELS.astype(np.float32))
    with pytest.raises(TypeError, match="symmetric"):
        jax.jit(lambda s: info_nce_loss(A, B, symmetric=s))(True)


def test_negatives_of_each_batch() -> None:
    x, y, n = (np.stack([z, z[::-1]]) for z in (A, B, NEGATIVES[:2]))
    together = info_nce_loss(x, y, negatives=n, temperature=0.5)
    mapped = jax.vmap(lambda x, y, n: info_nce_loss(x, y, negatives=n, temperature=0.5))(x, y, n)
    np.testing.assert_allclose(together, mapped, rtol=1e-6)
    alone = evaluated(info_nce_loss, A, B, more={"negatives": n[0]}, fixed={"symmetric": False})
    np.testing.assert_allclose(together[0], alone.losses, rtol=1e-6)
    np.testing.assert_allclose(together[1], alone.losses[::-1], rtol=1e-5)
