"""What proximal operators of losses are by theorem, at the ends of the domain, and to a user."""

from __future__ import annotations

import functools
import pickle
import re
from typing import Any

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st
from mpmath import mp
from scipy.optimize import minimize_scalar

import jaxloss
from jaxloss import prox
from jaxloss.prox import curves
from jaxloss.prox.elementwise import FORMULAS
from tests.laws.theorems import samples
from tests.laws.values import EPS
from tests.prox.oracles import LOSSES, ROWS

# One row of ordinary hyperparameters for each loss.
ORDINARY = list({name: (name, hyper) for name, hyper in reversed(ROWS)}.values())[::-1]
MARGINS = {"hinge_loss", "squared_hinge_loss", "perceptron_loss", "sparsemax_loss"}
every_loss = pytest.mark.parametrize(("name", "hyper"), ORDINARY, ids=[row[0] for row in ORDINARY])
few = hypothesis.settings(max_examples=30)
X = np.array([-3.0, -1.0, -0.75, -0.25, 0.0, 0.5, 0.75, 1.0, 2.5], np.float32)
T = np.array([1, -1, 1, -1, 1, -1, 1, -1, 1], np.float32)
steps = st.sampled_from([0.0625, 0.5, 1.0, 3.0])


@functools.cache
def program(name: str, method: str, **hyper: Any) -> Any:
    return jax.jit(getattr(getattr(prox, name)(**hyper), method))


@functools.cache
def slope_of_envelope(name: str, **hyper: Any) -> Any:
    loss = getattr(prox, name)(**hyper)
    return jax.jit(jax.grad(lambda x, t, step: jnp.sum(loss.envelope(x, t, step))))


def made(name: str, hyper: dict[str, Any]) -> prox.Loss:
    return getattr(prox, name)(**hyper)


def near(actual: Any, expected: Any, largest: Any) -> None:
    """Up to 16 eps of the largest term: two results, each within 8 eps of the truth."""
    assert np.all(np.abs(np.asarray(actual) - expected) <= 16 * EPS * np.asarray(largest))


@every_loss
def test_is_the_loss_of_that_name(name: str, hyper: dict[str, float]) -> None:
    """Values and gradients, those at corners too."""
    ours, theirs = made(name, hyper), functools.partial(getattr(jaxloss, name), **hyper)
    x = np.concatenate([X, T, X])
    t = np.concatenate([T, T, np.zeros_like(T)])

    def summed(f, x):
        losses = f(x, t)
        return jnp.sum(losses), losses

    both = jax.jit(lambda x: [jax.grad(summed, 1, has_aux=True)(f, x) for f in (ours, theirs)])
    (slope, value), (expected_slope, expected) = both(x)
    near(value, expected, np.abs(x) + 2)
    near(slope, expected_slope, np.abs(x) + 2)


@every_loss
def test_oracle_minimises(name: str, hyper: dict[str, float]) -> None:
    """The closed forms of the oracle against a search."""
    oracle = LOSSES[name](**{k: mp.mpf(v) for k, v in hyper.items()})
    for e in (-2.5, -0.6, 0.3, 1.7):
        for step in (0.25, 2.0):

            def objective(p: float, e: float = e, step: float = step) -> float:
                return float(oracle.value(mp.mpf(float(p))) + (p - e) ** 2 / (2 * step))

            found: Any = minimize_scalar(objective, (-4, 4), tol=1e-12)
            assert float(oracle.prox(mp.mpf(e), mp.mpf(step))) == pytest.approx(found.x, abs=1e-6)
            # The supremum of y p - f(p), at a slope that the loss has.
            y = (mp.mpf(e) - oracle.prox(mp.mpf(e), step)) / step
            p = oracle.prox(mp.mpf(e), step)
            # Up to how a number that is rounded at the edge of the domain falls.
            assert (
                abs(oracle.conjugate(y * (1 - mp.mpf(10) ** -12)) - (y * p - oracle.value(p)))
                < 1e-9
            )


def test_envelope_of_l1_is_huber() -> None:
    step = np.array([0.25, 1.0, 3.0], np.float32)[:, None]
    x, t = (jnp.broadcast_to(z, (3, 9)) for z in (X, T))

    def ours(x, step):
        return prox.l1_loss().envelope(x, t, step)

    def theirs(x, step):
        return jaxloss.huber_loss(x, t, delta=step) / step

    near(ours(x, step), theirs(x, step), theirs(x, step))

    def slopes(f, x, step):
        return jax.grad(lambda x, s: jnp.sum(f(x, s)))(x, step)

    @jax.jit
    def first_and_second(x, step):
        towards = jnp.ones_like(x), jnp.zeros_like(step)
        return [jax.jvp(functools.partial(slopes, f), (x, step), towards) for f in (ours, theirs)]

    for one, two in zip(*first_and_second(x, step), strict=True):
        near(one, two, 1 / np.minimum(step, 1))


@every_loss
@few
@hypothesis.given(x=samples(-8, 8), t=samples(-4, 4), step=steps)
def test_moreau(name: str, hyper: dict[str, float], x: Any, t: Any, step: float) -> None:
    """x = prox(x) + step conjugate_prox(x / step), and the gradient of the envelope is the latter.

    The two are written as formulas of their own.
    """
    p = program(name, "prox", **hyper)(x, t, step)
    y = program(name, "conjugate_prox", **hyper)(x / np.float32(step), t, 1 / step)
    largest = np.abs(x) + np.abs(t) + 1 + step * np.abs(y)
    near(p + step * y, x, largest)
    near(step * slope_of_envelope(name, **hyper)(x, t, step), x - p, largest)


@every_loss
@few
@hypothesis.given(x=samples(-8, 8), y=samples(-8, 8), t=samples(-4, 4), step=steps)
def test_firmly_non_expansive(
    name: str, hyper: dict[str, float], x: Any, y: Any, t: Any, step: float
) -> None:
    """|p - q|^2 <= (p - q) (x - y), so the points are no farther apart, in the same order."""
    p, q = (program(name, "prox", **hyper)(z, t, step) for z in (x, y))
    room = 16 * EPS * (np.abs(x) + np.abs(y) + np.abs(t) + 1) ** 2
    assert np.all((p - q) ** 2 <= (p - q) * (x - y) + room)


@every_loss
@few
@hypothesis.given(p=samples(-8, 8), y=samples(-8, 8), t=samples(-4, 4), step=steps)
def test_fenchel_young(
    name: str, hyper: dict[str, float], p: Any, y: Any, t: Any, step: float
) -> None:
    """f(p) + f*(y) >= p y, with equality if y is a slope at p, as it is at a proximal point."""
    value, conjugate = program(name, "__call__", **hyper), program(name, "conjugate", **hyper)
    largest = (np.abs(p) + np.abs(y) + np.abs(t) + 2) ** 2
    assert np.all(value(p, t) + conjugate(y, t) >= p * y - 16 * EPS * largest)
    point = program(name, "prox", **hyper)(p, t, step)
    slope = program(name, "conjugate_prox", **hyper)(p / np.float32(step), t, 1 / step)
    largest = (np.abs(point) + np.abs(slope) + np.abs(t) + 2) ** 2
    near(value(point, t) + conjugate(slope, t), point * slope, largest)


@every_loss
def test_fixed_points_are_minimisers(name: str, hyper: dict[str, float]) -> None:
    """And the way of proximal points ends there; at once with an infinite step."""
    loss = made(name, hyper)
    at_once = loss.prox(X, T, jnp.inf)
    near(loss(at_once, T), 0, 0)
    np.testing.assert_array_equal(loss.prox(at_once, T, 3.0), at_once)
    moved = np.asarray(loss.prox(X, T, 0.5)) != X
    np.testing.assert_array_equal(moved, np.asarray(loss(X, T)) > 0)
    x = jax.lax.fori_loop(0, 60, lambda _, x: loss.prox(x, T, 1.0), jnp.asarray(X))
    np.testing.assert_allclose(x, at_once, atol=1e-5)


# Beside ordinary data: infinite errors, and NaN.
FAR = np.array([np.inf, -np.inf], np.float32)
SIDES = np.array([1, -1], np.float32)


@every_loss
def test_ends(name: str, hyper: dict[str, float]) -> None:
    x, t = np.concatenate([X, FAR]), np.concatenate([T, SIDES])
    near, far = np.s_[:9], np.s_[9:]

    @jax.jit
    def everything(step, x):
        loss = made(name, hyper)
        slope = jax.grad(lambda x: jnp.sum(loss.envelope(x, t, step)))(x)
        return loss.prox(x, t, step), loss.envelope(x, t, step), slope, loss(x, t)

    points, values, _, losses = everything(0.0, x)
    np.testing.assert_array_equal(points, x)
    np.testing.assert_array_equal(values, losses)
    np.testing.assert_array_equal(everything(jnp.inf, x)[1][near], 0)
    points, values, slopes, losses = everything(0.5, x)
    np.testing.assert_array_equal(points[far], FAR)
    # On its own side a score of any size costs nothing.
    costs = 0 if name in MARGINS else np.inf
    np.testing.assert_array_equal(losses[far], costs)
    np.testing.assert_array_equal(values[far], costs)
    assert not np.any(np.isnan(slopes))
    for step, z in ((-1.0, x), (1.0, x * np.float32(np.nan))):
        assert all(np.all(np.isnan(found)) for found in everything(step, z)[:2])
        assert np.all(np.isnan(program(name, "conjugate_prox", **hyper)(z, t, step)))
    assert np.all(np.isnan(program(name, "conjugate", **hyper)(x * np.float32(np.nan), t)))
    for key in hyper:
        assert np.all(np.isnan(made(name, {key: -1.0}).prox(X, T)))


INFINITE = {
    "huber_loss": "delta",
    "smooth_l1_loss": "beta",
    "epsilon_insensitive_loss": "epsilon",
    "squared_epsilon_insensitive_loss": "epsilon",
}


@pytest.mark.parametrize("name", INFINITE)
def test_infinite_hyperparameters(name: str) -> None:
    """A square that never turns into a line, or one that is flat, or errors that cost nothing.

    Those that cost nothing do so infinitely far out too, and their conjugate is 0 at 0 alone.
    """
    x = np.concatenate([X, FAR])
    t = np.full_like(x, 0.5)

    @jax.jit
    def everything(number):
        loss = made(name, {INFINITE[name]: number})
        methods = (loss, loss.prox, loss.envelope, loss.conjugate_prox, loss.conjugate)
        return [(f(x, t), jax.grad(lambda x, f=f: jnp.sum(f(x, t)))(x)) for f in methods], jax.grad(
            lambda n: jnp.sum(made(name, {INFINITE[name]: n}).prox(X, 0.5))
        )(number)

    found, slope = everything(np.float32(np.inf))
    if name == "huber_loss":
        same = prox.l2_loss()
        for (value, _), f in zip(
            found,
            (same, same.prox, same.envelope, same.conjugate_prox, same.conjugate),
            strict=True,
        ):
            np.testing.assert_array_equal(value, f(x, t))
        assert not np.any(np.isnan([slopes for _, slopes in found]))
    else:
        for (value, slopes), expected in zip(found[:4], (0, x, 0, 0), strict=True):
            np.testing.assert_array_equal(value, np.broadcast_to(expected, x.shape))
            np.testing.assert_array_equal(slopes, float(expected is x))
        value, slopes = found[4]
        np.testing.assert_array_equal(value, np.where(x == 0, 0, np.inf))
        np.testing.assert_array_equal(slopes, np.where(x == 0, 0.5, np.nan))
    assert slope == 0


@pytest.mark.parametrize("hinged", [False, True])
def test_derivatives_in_all_modes(hinged: bool) -> None:
    """Forward and reverse agree, at corners too, and so do both orders of second derivatives.

    Of the curve of which all losses are made, in data, steps and, for each loss, along what its
    hyperparameters move of the curve.
    """
    rows = [row for row in ORDINARY if (row[0] in MARGINS) == hinged]

    def curve_numbers(more: float) -> np.ndarray:
        made = [FORMULAS[k].curve(**{h: x + more for h, x in hyper.items()}) for k, hyper in rows]
        return np.array(made, np.float32)

    numbers = curve_numbers(0)
    # They are linear in hyperparameters.
    moves = curve_numbers(1) - np.where(np.isinf(numbers), 0, numbers)
    moves = np.where(np.isinf(moves), 0, moves)
    shape = (len(rows), len(X))
    starts = [0.0 if name == "perceptron_loss" else 1.0 for name, _ in rows]
    begin = np.array(starts, np.float32)[:, None] if hinged else T

    def call(x, t, step, *curve):
        # With factors, so that nothing cancels.
        curve = curves.Curve(*curve)
        point = curves.point(x, t, curve, step, hinged)
        point += 0.625 * curves.conjugate_point(x, t, curve, step)
        return point + 0.75 * curves.envelope(x, t, curve, step, hinged)

    each = (X, begin, np.float32(0.5), *(row[:, None] for row in numbers.T))
    given = tuple(np.broadcast_to(z, shape) for z in each)
    places = tuple(range(len(given)))
    towards = (np.float32(1), np.float32(1.25), np.float32(1.5), *(row[:, None] for row in moves.T))
    directions = tuple(np.broadcast_to(z, shape) for z in towards)
    reverse = jax.grad(lambda *z: jnp.sum(call(*z)), places)

    def along(*z):
        return sum(jnp.sum(d * s) for d, s in zip(directions, reverse(*z), strict=True))

    def everything(*z):
        forward = jax.jvp(call, z, directions)[1]
        return reverse(*z), forward, jax.jvp(reverse, z, directions)[1], jax.grad(along, places)(*z)

    slopes, forward, second, back = jax.jit(everything)(*given)
    expected = sum(d * s for d, s in zip(directions, slopes, strict=True))
    np.testing.assert_allclose(forward, expected, rtol=32 * EPS, atol=32 * EPS)

    def shown(slopes):
        of_curve = sum(d * s for d, s in zip(directions[3:], slopes[3:], strict=True))
        return [*slopes[:3], of_curve]

    for one, two in zip(shown(second), shown(back), strict=True):
        assert np.all(np.isfinite(one))
        np.testing.assert_allclose(one, two, rtol=64 * EPS, atol=64 * EPS)


def test_stated_derivatives_at_corners() -> None:
    """That of the piece farther from the minimiser, also after a shift of either sign."""

    def slope(loss, x, t=0.0, step=0.5):
        return float(jax.grad(lambda x: loss.prox(x, t, step))(x))

    soft = prox.l1_loss()
    assert [slope(soft, x) for x in (-0.5, -0.25, 0.0, 0.25, 0.5)] == [1, 0, 0, 0, 1]
    assert [slope(soft, x, 1.0) for x in (0.5, 1.0, 1.5)] == [1, 0, 1]
    assert slope(soft, 0.0, step=0.0) == 1
    tube = prox.epsilon_insensitive_loss(epsilon=0.5)
    assert [slope(tube, x) for x in (0.0, 0.25, 0.5, 0.75, 1.0)] == [1, 1, 0, 0, 1]
    hinge = prox.hinge_loss()
    assert [slope(hinge, x, 1.0) for x in (0.25, 0.5, 0.75, 1.0, 1.5)] == [1, 1, 0, 0, 1]
    assert [slope(hinge, -x, -1.0) for x in (0.25, 0.5, 0.75, 1.0, 1.5)] == [1, 1, 0, 0, 1]


# One of each kind: without and with a hyperparameter, one that moves both sides, and a margin.
KINDS = ("l1_loss", "huber_loss", "quantile_loss", "sparsemax_loss")


@pytest.mark.parametrize(("name", "hyper"), [row for row in ORDINARY if row[0] in KINDS], ids=str)
def test_jit_vmap_and_arrays_of_hyperparameters(name: str, hyper: dict[str, float]) -> None:

    def methods(loss, x, t):
        return [f(x, t, 0.5) for f in (loss.prox, loss.envelope, loss.conjugate_prox)]

    loss = made(name, hyper)
    arrays = methods(loss, X, T)
    # The loss itself is traced.
    jitted = jax.jit(methods)(loss, X, T)
    each = jax.vmap(functools.partial(methods, loss))(X, T)
    for found, one, two in zip(arrays, jitted, each, strict=True):
        np.testing.assert_allclose(one, found, rtol=4 * EPS, atol=4 * EPS)
        np.testing.assert_allclose(two, found, rtol=4 * EPS, atol=4 * EPS)
    many = np.array([0.25, 0.5], np.float32)[:, None]
    broad = made(name, dict.fromkeys(hyper, many)).prox(X, T, many)
    assert broad.shape == (2, 9)
    one = made(name, dict.fromkeys(hyper, 0.5)).prox(X, T, 0.5)
    np.testing.assert_allclose(broad[1], one, rtol=4 * EPS)


def test_dtypes() -> None:
    loss = prox.huber_loss(delta=0.1)
    for half in (jnp.float16, jnp.bfloat16):
        x = jnp.asarray(X, half)
        assert loss.prox(x).dtype == loss.conjugate_prox(x).dtype == half
        assert loss(x).dtype == loss.envelope(x).dtype == loss.conjugate(x).dtype == jnp.float32
        assert jax.grad(lambda x: jnp.sum(loss.envelope(x)))(x).dtype == half
        np.testing.assert_array_equal(loss.prox(x), loss.prox(x.astype(jnp.float32)).astype(half))
    with jax.enable_x64(True):
        x = X.astype(np.float64) / 3
        assert loss.prox(x).dtype == jnp.float64
        np.testing.assert_allclose(loss.prox(x)[0], x[0] + 0.1, rtol=1e-15)
    assert loss.prox(3.0).dtype == jnp.float32
    np.testing.assert_allclose(prox.l1_loss().prox([3, 1.0], [1, 1], 0.5), [2.5, 1])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: prox.huber_loss(delta="x"), "delta must be an array or a number, got str 'x'"),  # type: ignore
        (lambda: prox.l1_loss().prox("x"), "predictions must be an array or a number, got str 'x'"),
        (lambda: prox.l1_loss().prox(X, step=None), "step must be an array or a number, got None"),  # type: ignore
        (
            lambda: prox.l1_loss().prox(np.arange(3)),
            r"predictions must be floating-point, got .*\[3\]",
        ),
        (lambda: prox.l1_loss().conjugate(np.arange(3)), "y must be floating-point, got .*"),
        (
            lambda: prox.l1_loss().prox(X, T[:, None]),
            r"expected equal shapes, got predictions float32\[9\], targets float32\[9, 1\].*",
        ),
        (
            lambda: prox.l1_loss().prox(X, T, X[:2]),
            "hyperparameters must broadcast against the data, got .*step.*",
        ),
        (lambda: prox.hinge_loss().prox(X), "hinge_loss needs targets, whose signs say the sides"),
    ],
)
def test_mistakes_are_named(call: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError)) as error:
        call()
    assert re.fullmatch(message, str(error.value))
    assert "\n" not in str(error.value)


def test_objects() -> None:
    loss = prox.quantile_loss(quantile=0.75)
    assert repr(loss) == "quantile_loss(quantile=0.75)"
    assert repr(pickle.loads(pickle.dumps(loss))) == repr(loss)
    assert jax.tree.leaves(loss) == [0.75]
    slope = jax.grad(lambda f: jnp.sum(f.prox(X, T)))(loss)
    np.testing.assert_allclose(slope.hyper["quantile"], np.sum(np.abs(X - T) > 1), atol=9)
    swept = jax.vmap(lambda q: prox.quantile_loss(quantile=q).prox(X, T))(jnp.array([0.25, 0.75]))
    np.testing.assert_array_equal(swept[1], loss.prox(X, T))
