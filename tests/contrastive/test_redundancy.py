"""Losses of correlations: their matrices written out, invariances, kinks, masks, bad input."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxloss import barlow_twins_loss, vicreg_loss
from tests.laws.values import double, single

# Three features that do not correlate, with deviations of 1, 1 and 2.
H = np.array([[1, 1, 2], [1, -1, -2], [-1, 1, -2], [-1, -1, 2]], np.float32)
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(2, 4, 3)).astype(np.float32)

EPS = float(np.finfo(np.float32).eps)
OPTIONS: dict[Any, dict[str, float]] = {
    barlow_twins_loss: {"off_diagonal": 0.3, "epsilon": 0.0},
    vicreg_loss: {"invariance": 1.5, "variance": 3.0, "covariance": 0.7, "epsilon": 0.0},
}
LOSSES = list(OPTIONS)
every = pytest.mark.parametrize("loss", LOSSES, ids=lambda f: f.__name__)


class Result(NamedTuple):
    loss: Any
    slopes: Any  # in both views
    knobs: Any  # in the hyperparameters


@functools.cache
def compiled(loss: Any) -> Callable[..., Result]:
    @jax.jit
    def compute(x: Any, y: Any, where: Any, options: Any) -> Result:
        def run(x: Any, y: Any, options: Any) -> Any:
            return loss(x, y, where=where, **options)

        value, slopes = jax.value_and_grad(run, (0, 1, 2))(x, y, options)
        return Result(value, slopes[:2], slopes[2])

    return compute


def evaluated(loss: Any, x: Any, y: Any, where: Any = None, **options: Any) -> Result:
    where = np.ones(4, bool) if where is None else where
    options = {k: np.float32(v) for k, v in (OPTIONS[loss] | options).items()}
    result = compiled(loss)(single(x), single(y), where, options)
    return jax.tree.map(np.asarray, result)


def off(c: Any) -> Any:
    return np.sum(c**2) - np.sum(np.diagonal(c) ** 2)


def barlow(x: Any, y: Any, off_diagonal: float, epsilon: float) -> Any:
    x, y = ((z - z.mean(0)) / np.sqrt(z.var(0) + epsilon) for z in (double(x), double(y)))
    c = x.T @ y / len(x)
    return np.sum((1 - np.diagonal(c)) ** 2) + off_diagonal * off(c)


def vicreg(
    x: Any, y: Any, invariance: float, variance: float, covariance: float, epsilon: float
) -> Any:
    x, y = double(x), double(y)
    total = invariance * np.mean((x - y) ** 2)
    for z in (x, y):
        short = np.maximum(1 - np.sqrt(z.var(0, ddof=1) + epsilon), 0)
        total += variance * short.mean() / 2 + covariance * off(np.cov(z.T)) / z.shape[1]
    return total


PLAIN = {barlow_twins_loss: barlow, vicreg_loss: vicreg}


def differences(plain: Any, z: Any) -> Any:
    """The slopes of a function of a matrix, by differences in float64."""
    z, h = double(z), 1e-6
    slopes = np.zeros_like(z)
    for place in np.ndindex(*z.shape):
        step = np.zeros_like(z)
        step[place] = h
        slopes[place] = (plain(z + step) - plain(z - step)) / (2 * h)
    return slopes


# ---- values and gradients ----


@every
@pytest.mark.parametrize("epsilon", [0.0, 0.1])
def test_written_out(loss: Any, epsilon: float) -> None:
    options = {**OPTIONS[loss], "epsilon": epsilon}
    x, y = 0.6 * X, 0.6 * Y
    result = evaluated(loss, x, y, **options)
    plain = functools.partial(PLAIN[loss], **options)
    np.testing.assert_allclose(result.loss, plain(x, y), rtol=1e-5)
    np.testing.assert_allclose(
        result.slopes[0], differences(lambda z: plain(z, y), x), rtol=1e-4, atol=2e-5
    )
    np.testing.assert_allclose(
        result.slopes[1], differences(lambda z: plain(x, z), y), rtol=1e-4, atol=2e-5
    )
    ends = (plain(x, y, epsilon=epsilon + h) for h in (1e-6, -1e-6))
    np.testing.assert_allclose(result.knobs["epsilon"], (next(ends) - next(ends)) / 2e-6, rtol=1e-4)
    for name in options:
        if name != "epsilon":
            # Linear in each.
            without = PLAIN[loss](x, y, **{**options, name: 0.0})
            slope = (plain(x, y) - without) / options[name]
            np.testing.assert_allclose(result.knobs[name], slope, rtol=1e-4)


def test_barlow_twins_by_hand() -> None:
    result = evaluated(barlow_twins_loss, H, H)
    np.testing.assert_allclose(result.loss, 0, atol=1e-6)
    # Features exchanged: two zeros and two ones off the diagonal.
    exchanged = evaluated(barlow_twins_loss, H, H[:, [1, 0, 2]])
    np.testing.assert_allclose(exchanged.loss, 2 + 0.3 * 2, rtol=1e-6)
    opposite = evaluated(barlow_twins_loss, H, -H)
    np.testing.assert_allclose(opposite.loss, 3 * 4, rtol=1e-6)
    # Half of the second feature is the first: correlations of 1 / sqrt(2).
    mixed = H.copy()
    mixed[:, 1] += H[:, 0]
    result = evaluated(barlow_twins_loss, H, mixed)
    np.testing.assert_allclose(result.loss, (1 - 1 / np.sqrt(2)) ** 2 + 0.3 / 2, rtol=1e-5)
    # An epsilon of 1 makes correlations of 1/2, 1/2 and 4/5.
    np.testing.assert_allclose(
        evaluated(barlow_twins_loss, H, H, epsilon=1).loss, 1 / 4 + 1 / 4 + 1 / 25, rtol=1e-6
    )
    np.testing.assert_allclose(barlow_twins_loss(H, H[:, [1, 0, 2]]), 2 + 5e-3 * 2, rtol=1e-6)


def test_vicreg_by_hand() -> None:
    """Unbiased variances are 4/3, 4/3 and 16/3: those of H / 4 are 1/12, 1/12 and 1/3."""
    assert evaluated(vicreg_loss, H, H).loss == 0
    small = 3 * (2 * (1 - np.sqrt(1 / 12)) + 1 - np.sqrt(1 / 3)) / 3
    result = evaluated(vicreg_loss, H / 4, H / 4)
    np.testing.assert_allclose(result.loss, small, rtol=1e-6)
    apart = evaluated(vicreg_loss, H / 4, H)
    np.testing.assert_allclose(apart.loss, small / 2 + 1.5 * (9 / 16) * (1 + 1 + 4) / 3, rtol=1e-6)
    # The third feature repeats the first: a covariance of 4/3, twice, in one view.
    again = evaluated(vicreg_loss, H[:, [0, 1, 0]], H[:, [0, 1, 0]], invariance=0)
    np.testing.assert_allclose(again.loss, 2 * 0.7 * 2 * (4 / 3) ** 2 / 3, rtol=1e-6)
    defaults = vicreg(X, Y, 25, 25, 1, 1e-4)
    np.testing.assert_allclose(vicreg_loss(X, Y), defaults, rtol=1e-5)


# ---- theorems ----


def test_correlations_have_no_units() -> None:
    result = evaluated(barlow_twins_loss, X, Y)
    units, start = np.array([2.0, 0.01, 300.0]), np.array([5.0, -0.02, 100.0])
    other = evaluated(barlow_twins_loss, X * units + start, Y)
    np.testing.assert_allclose(other.loss, result.loss, rtol=1e-5)
    np.testing.assert_allclose(other.slopes[0] * units, result.slopes[0], rtol=1e-4, atol=1e-5)
    for scale in (1e-30, 1e30):
        extreme = evaluated(barlow_twins_loss, scale * X, Y)
        np.testing.assert_allclose(extreme.loss, result.loss, rtol=1e-5)
        slopes = double(extreme.slopes[0]) * scale
        np.testing.assert_allclose(slopes, result.slopes[0], rtol=1e-4, atol=1e-5)
    for slope, view in zip(result.slopes, (X, Y), strict=True):
        np.testing.assert_allclose(slope.sum(0), 0, atol=1e-5)
        np.testing.assert_allclose(np.sum(slope * view, 0), 0, atol=1e-5)
    signs = np.array([1, -1, -1])
    both = evaluated(barlow_twins_loss, X * signs, Y * signs)
    np.testing.assert_allclose(both.loss, result.loss, rtol=1e-5)


@every
def test_symmetries(loss: Any) -> None:
    result = evaluated(loss, X, Y)
    order, features = np.array([2, 0, 3, 1]), np.array([1, 2, 0])
    for moved in ((X[order], Y[order]), (X[:, features], Y[:, features]), (Y, X)):
        np.testing.assert_allclose(evaluated(loss, *moved).loss, result.loss, rtol=1e-5)
    shift = np.array([1, -2, 0.5])
    shifted = evaluated(loss, X + shift, Y + shift)
    np.testing.assert_allclose(shifted.loss, result.loss, rtol=1e-5)
    np.testing.assert_allclose(shifted.slopes[0], result.slopes[0], rtol=1e-4, atol=1e-5)


def test_collapse_costs_the_whole_variance_term() -> None:
    result = evaluated(vicreg_loss, 0 * X + 3, 0 * Y + 3)
    np.testing.assert_allclose(result.loss, 3, rtol=1e-6)
    eased = evaluated(vicreg_loss, 0 * X + 3, 0 * Y + 3, epsilon=1e-4)
    np.testing.assert_allclose(eased.loss, 3 * (1 - 0.01), rtol=1e-6)
    # A large offset, of which the variance has nothing.
    far = evaluated(vicreg_loss, H / 4 + 4096, H / 4 + 4096)
    np.testing.assert_allclose(far.loss, evaluated(vicreg_loss, H / 4, H / 4).loss, rtol=1e-6)


# ---- kinks ----


def test_a_constant_feature_correlates_with_none() -> None:
    x = X.copy()
    x[:, 1] = 0.1
    result = evaluated(barlow_twins_loss, x, Y)
    rest = [0, 2]
    u, v = ((z - z.mean(0)) / z.std(0) for z in (double(x[:, rest]), double(Y)))
    c = u.T @ v / 4
    on = (1 - c[0, 0]) ** 2 + (1 - c[1, 2]) ** 2 + 1
    exact = on + 0.3 * (np.sum(c**2) - c[0, 0] ** 2 - c[1, 2] ** 2)
    np.testing.assert_allclose(result.loss, exact, rtol=1e-5)
    assert np.all(result.slopes[0][:, 1] == 0)
    assert np.all(np.isfinite(result.slopes))
    nothing = evaluated(barlow_twins_loss, 0 * X + 0.1, 0 * Y)
    assert nothing.loss == 3
    assert np.all(np.asarray(nothing.slopes) == 0)


@pytest.mark.parametrize("number", [3, 7])
def test_the_rounding_of_a_mean_is_no_variance(number: int) -> None:
    """The mean of three times 0.1 is not 0.1: its gaps have a deviation, but mean nothing."""
    where = np.arange(8) < number
    x, y = RNG.normal(size=(2, 8, 3)).astype(np.float32)
    alone = barlow(x[where][:, [0]], y[where][:, [0]], 0.3, 0.0)

    @jax.jit
    def compute(x: Any) -> Any:
        only = {"invariance": 0.0, "covariance": 0.0, "epsilon": 0.0, "where": where}
        losses = (
            lambda x: barlow_twins_loss(x, y, off_diagonal=0.0, where=where),
            lambda x: vicreg_loss(x, x, **only),
        )
        return [jax.value_and_grad(loss)(x) for loss in losses]

    for constant in (0.1, -5.3426847, 8e-5, 4e6, 1e30):
        x[:, 1:] = constant
        (loss, slope), (_, spread_slope) = compute(x)
        np.testing.assert_allclose(loss, alone + 2, rtol=1e-5)
        assert np.all(slope[:, 1:] == 0)
        assert np.all(spread_slope[:, 1:] == 0)


def test_kinks_of_the_deviation() -> None:
    """-1, 0, 1 have an unbiased variance of exactly 1: it still grows. Of 0, it stays."""
    where = np.array([1, 1, 1, 0], bool)
    x = np.array([[-1, 0, 0], [0, 0, 0], [1, 0, 0], [9, 9, 9]])
    result = evaluated(vicreg_loss, x, x, where, variance=3)
    # Two features of three that do not vary.
    np.testing.assert_allclose(result.loss, 3 * 2 / 3, rtol=1e-6)
    expected = np.zeros((4, 3))
    # -3 / (2 views 3 features) times the slope of the deviation, x / 2.
    expected[:3, 0] = -3 / 6 * np.array([-1, 0, 1]) / 2
    for slope in result.slopes:
        np.testing.assert_allclose(slope, expected, atol=1e-6)
    beyond = evaluated(vicreg_loss, 1.001 * x, 1.001 * x, where, variance=3)
    assert np.all(np.asarray(beyond.slopes) == 0)


# ---- masks and bad input ----


@every
def test_an_excluded_example_is_a_smaller_batch(loss: Any) -> None:
    where, kept = np.array([1, 0, 1, 1], bool), [0, 2, 3]
    x, y = X.copy(), Y.copy()
    x[1], y[1] = np.nan, np.inf
    result = evaluated(loss, x, y, where)
    plain = functools.partial(PLAIN[loss], **OPTIONS[loss])
    np.testing.assert_allclose(result.loss, plain(X[kept], Y[kept]), rtol=1e-5)
    for slope, view in zip(result.slopes, (0, 1), strict=True):

        def other(z: Any, view: int = view) -> Any:
            return plain(*((z, Y[kept]) if view == 0 else (X[kept], z)))

        expected = differences(other, (X, Y)[view][kept])
        np.testing.assert_allclose(slope[kept], expected, rtol=1e-4, atol=2e-5)
        assert np.all(slope[1] == 0)
    nothing = evaluated(loss, x, y, np.zeros(4, bool))
    assert all(np.all(leaf == 0) for leaf in jax.tree.leaves(nothing))


@every
def test_one_example(loss: Any) -> None:
    """Nothing varies: no correlation for Barlow Twins, no unbiased variance for VICReg."""
    result = evaluated(loss, X, Y, np.array([0, 1, 0, 0], bool))
    alone = loss(X[:1], Y[:1])
    if loss is vicreg_loss:
        assert np.isnan(result.loss)
        assert np.isnan(alone)
    else:
        assert alone == 3
        assert result.loss == 3
        assert np.all(np.asarray(result.slopes) == 0)


@every
def test_nan_is_not_hidden(loss: Any) -> None:
    x = X.copy()
    x[1, 2] = np.nan
    result = evaluated(loss, x, Y)
    assert np.isnan(result.loss)
    assert np.all(np.isnan(result.slopes[0][:, 2]))


@every
def test_batches_of_batches(loss: Any) -> None:
    x, y = np.stack([X, Y, H]), np.stack([Y, Y, X])
    each = [evaluated(loss, *views).loss for views in zip(x, y, strict=True)]
    np.testing.assert_allclose(loss(x, y, **OPTIONS[loss]), each, rtol=1e-5, atol=1e-6)
    mapped = jax.vmap(functools.partial(loss, **OPTIONS[loss]))(x, y)
    np.testing.assert_allclose(mapped, each, rtol=1e-5, atol=1e-6)
    weights, where = single([1, 2, 0.5]), np.array([True, False, True])
    mean = loss(x, y, weights=weights, where=where, reduction="mean", **OPTIONS[loss])
    np.testing.assert_allclose(mean, (each[0] + 0.5 * each[2]) / 1.5, rtol=1e-5)


@every
def test_empty_batches(loss: Any) -> None:
    @jax.jit
    def compute(x: Any) -> Any:
        return jax.value_and_grad(lambda x: loss(x, x, reduction="mean"))(x)

    value, slope = compute(jnp.ones((0, 3)))
    assert value == 0
    assert slope.shape == (0, 3)


@every
def test_bad_input_is_refused(loss: Any) -> None:
    for other in (Y[:, :2], Y[:3], Y[0], Y[None]):
        with pytest.raises(ValueError, match=r"expected equal shapes, got x float32\[4, 3\], y"):
            loss(X, other)
    with pytest.raises(ValueError, match="examples, features"):
        loss(X[0], Y[0])
    with pytest.raises(TypeError, match="must be floating-point"):
        loss(X.astype(np.int32), Y)
    for where in (np.ones((4, 3), bool), np.ones(3, bool)):
        with pytest.raises(ValueError, match="where must be"):
            loss(X, Y, where=where)
    with pytest.raises(ValueError, match="weights must be"):
        loss(X, Y, weights=np.ones(4, np.float32))
    assert np.isnan(evaluated(loss, X, Y, epsilon=-9).loss)
