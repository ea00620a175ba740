"""Penalties and constraints on trees: theorems, other people's minimisers, ends, and mistakes."""

from __future__ import annotations

import functools
import pickle
import re
from collections.abc import Callable
from typing import Any

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st
from scipy.optimize import minimize, minimize_scalar

import jaxloss
from jaxloss import prox
from tests.laws.theorems import samples
from tests.laws.values import EPS, single

few = hypothesis.settings(max_examples=25)
steps = st.sampled_from([0.0625, 0.5, 3.0])

PENALTIES: dict[str, Callable[..., prox.Penalty]] = {
    "l1": lambda: prox.l1(0.75),
    "l1 of each": lambda: prox.l1(np.linspace(0, 2, 9, dtype=np.float32)),
    "l2": lambda: prox.l2(0.75),
    "elastic_net": lambda: prox.elastic_net(l1=0.5, l2=0.75),
    "group_lasso": lambda: prox.group_lasso(1.5),
    "non_negative": prox.non_negative,
    "box": lambda: prox.box(-0.5, 2.0),
    "simplex": lambda: prox.simplex(2.0),
    "l1_ball": lambda: prox.l1_ball(3.0),
    "l2_ball": lambda: prox.l2_ball(3.0),
}
SETS = {"non_negative", "box", "simplex", "l1_ball", "l2_ball"}
every_penalty = pytest.mark.parametrize("name", PENALTIES)
X = np.array([-3.0, -1.0, -0.75, -0.25, 0.0, 0.5, 0.75, 1.0, 2.5], np.float32)


@functools.cache
def program(name: str, method: str) -> Any:
    return jax.jit(getattr(PENALTIES[name](), method))


@functools.cache
def slope_of_envelope(name: str) -> Any:
    return jax.jit(jax.grad(PENALTIES[name]().envelope))


def close(actual: Any, expected: Any, largest: float) -> None:
    """Within 32 eps of the largest term: two sums along an axis, each within 16 eps."""
    np.testing.assert_allclose(actual, expected, rtol=0, atol=32 * EPS * largest)


@every_penalty
@few
@hypothesis.given(x=samples(-8, 8), step=steps)
def test_moreau(name: str, x: Any, step: float) -> None:
    """x = prox(x) + step conjugate_prox(x / step), and the latter is the slope of the envelope."""
    p = program(name, "prox")(x, step)
    y = program(name, "conjugate_prox")(x / np.float32(step), 1 / step)
    close(p + step * y, x, 16)
    close(step * slope_of_envelope(name)(x, step), x - p, 16)


@every_penalty
@few
@hypothesis.given(x=samples(-8, 8), y=samples(-8, 8), step=steps)
def test_firmly_non_expansive(name: str, x: Any, y: Any, step: float) -> None:
    """|p - q|^2 <= <p - q, x - y>."""
    p, q = (program(name, "prox")(z, step) for z in (x, y))
    assert np.sum((p - q) ** 2) <= np.sum((p - q) * (x - y)) + 32 * EPS * 9 * 16**2


@every_penalty
@few
@hypothesis.given(x=samples(-8, 8), y=samples(-8, 8), step=steps)
def test_fenchel_young(name: str, x: Any, y: Any, step: float) -> None:
    """f(p) + f*(y) >= <p, y>, with equality at a proximal point and the slope there."""
    value, conjugate = program(name, "__call__"), program(name, "conjugate")
    room = 32 * EPS * 9 * 8**2
    assert value(x) + conjugate(y) >= np.sum(x * y) - room
    p = program(name, "prox")(x, step)
    slope = program(name, "conjugate_prox")(x / np.float32(step), 1 / step)
    room = 32 * EPS * (1 + np.sum(np.abs(p)) * np.max(np.abs(slope)) + np.sum(slope**2))
    np.testing.assert_allclose(value(p) + conjugate(slope), np.sum(p * slope), rtol=0, atol=room)


@every_penalty
@few
@hypothesis.given(x=samples(-8, 8), z=samples(-8, 8), step=steps)
def test_envelope_is_the_minimum(name: str, x: Any, z: Any, step: float) -> None:
    """The objective at the proximal point, and no more than it is anywhere else."""
    p, value = program(name, "prox")(x, step), program(name, "__call__")
    envelope = program(name, "envelope")(x, step)

    def objective(p: Any) -> float:
        return float(value(p)) + float(np.sum((np.asarray(p, np.float64) - x) ** 2)) / (2 * step)

    assert float(envelope) == pytest.approx(objective(p), rel=64 * EPS, abs=64 * EPS * 16)
    # Another point that costs something finite.
    other = program(name, "prox")(z, step)
    assert envelope <= objective(other) * (1 + 64 * EPS) + 64 * EPS * 16


def test_envelope_of_l1_is_huber() -> None:
    ours = prox.l1(0.5).envelope(X, 1.5)
    theirs = jaxloss.huber_loss(X, delta=0.75, reduction="sum") / 1.5
    np.testing.assert_allclose(ours, theirs, rtol=8 * EPS)


def test_other_minimisers() -> None:
    """By scipy: one number at a time, a quadratic programme, and a threshold that it finds."""
    x, step = X.astype(np.float64), 0.8
    l1, l2 = 0.5, 0.75
    for x_i, p in zip(x, prox.elastic_net(l1=l1, l2=l2).prox(X, step), strict=True):
        found: Any = minimize_scalar(
            lambda p, x_i=x_i: l1 * abs(p) + l2 / 2 * p**2 + (p - x_i) ** 2 / (2 * step),
            (-4, 4),
            tol=1e-12,
        )
        assert float(p) == pytest.approx(found.x, abs=1e-6)

    def distance(p):
        return np.sum((p - x) ** 2) / 2

    start = np.full(9, 2 / 9)
    sums = {"type": "eq", "fun": lambda p: np.sum(p) - 2}
    options = {"ftol": 1e-15, "maxiter": 1000}
    found = minimize(
        distance, start, bounds=[(0, None)] * 9, constraints=sums, method="SLSQP", options=options
    )
    np.testing.assert_allclose(prox.simplex(2.0).prox(X), found.x, atol=1e-6)
    # A point of the ball is a difference of two non-negative vectors.
    inside = {"type": "ineq", "fun": lambda z: 3 - np.sum(z)}
    found = minimize(
        lambda z: distance(z[:9] - z[9:]),
        np.full(18, 0.1),
        bounds=[(0, None)] * 18,
        constraints=inside,
        method="SLSQP",
        options=options,
    )
    np.testing.assert_allclose(prox.l1_ball(3.0).prox(X), found.x[:9] - found.x[9:], atol=1e-5)
    # Of a norm only the length changes.
    size = np.linalg.norm(x)
    shrunk: Any = minimize_scalar(
        lambda r: 1.5 * abs(r) * size + (r - 1) ** 2 * size**2 / (2 * step), (0, 1), tol=1e-12
    )
    np.testing.assert_allclose(prox.group_lasso(1.5).prox(X, step), shrunk.x * x, atol=1e-6)


def test_fixed_points_are_minimisers() -> None:
    """Of a quadratic plus a penalty: the gradient step and the proximal step undo each other.

    A convex sum is least where it rises towards every other point that costs something finite.
    """
    rng = np.random.default_rng(0)
    root = rng.standard_normal((9, 9))
    matrix, target = root @ root.T / 9 + np.eye(9), X.astype(np.float64)
    step = 1 / float(np.linalg.norm(matrix, 2))
    others = rng.standard_normal((64, 9)) * 2
    with jax.enable_x64(True):
        for name in PENALTIES:
            penalty = PENALTIES[name]()

            def again(_, x, penalty=penalty):
                return penalty.prox(x - step * (matrix @ x - target), step)

            def total(x, penalty=penalty):
                return x @ matrix @ x / 2 - target @ x + penalty(x)

            @jax.jit
            def values(others, penalty=penalty, again=again, total=total):
                found = jax.lax.fori_loop(0, 400, again, jnp.zeros(9))

                def towards(other):
                    return total(found + 0.01 * (penalty.prox(other) - found))

                return total(found), jax.vmap(towards)(others)

            least, near = values(others)
            assert np.isfinite(least)
            # Rounding of float64 in sums of a few dozen terms below 100.
            assert np.all(near >= least - 1e-12), name


@every_penalty
def test_ends(name: str) -> None:
    penalty = PENALTIES[name]()
    for large in (1e30, 1e-30):
        # Squares of these leave the range of float32.
        p = penalty.prox(X * np.float32(large), 0.5)
        assert np.all(np.isfinite(p))
        assert not np.isnan(penalty(p))
        for z in (p, X * np.float32(large)):
            slope = jax.grad(lambda x: jnp.sum(penalty.prox(x, 0.5)))(z)
            assert np.all(np.isfinite(slope))
    if name not in SETS:
        np.testing.assert_array_equal(penalty.prox(X, 0.0), X)
        np.testing.assert_allclose(penalty.envelope(X, 0.0), penalty(X), rtol=4 * EPS)
        np.testing.assert_allclose(penalty.envelope(X, jnp.inf), 0, atol=0)
    else:
        p = penalty.prox(X, 0.5)
        assert penalty(p) == 0
        assert penalty(p - 4) == np.inf
        np.testing.assert_allclose(penalty.prox(p, 2.0), p, rtol=8 * EPS, atol=8 * EPS)
        assert np.isnan(jax.grad(penalty)(p - 4)).any()
    for method in ("prox", "envelope", "conjugate_prox"):
        assert np.all(np.isnan(getattr(penalty, method)(X, -1.0)))
    for method in ("__call__", "prox", "envelope", "conjugate", "conjugate_prox"):
        out = getattr(penalty, method)(np.where(X == 0.5, np.nan, X).astype(np.float32))
        assert np.isnan(out).any()


@pytest.mark.parametrize(
    "penalty",
    [
        prox.l1(-1.0),
        prox.l2(-1.0),
        prox.elastic_net(-1.0, 1.0),
        prox.elastic_net(1.0, -1.0),
        prox.group_lasso(-1.0),
        prox.box(1.0, -1.0),
        prox.box(np.nan, 1.0),
        prox.simplex(-1.0),
        prox.l1_ball(-1.0),
        prox.l2_ball(-1.0),
    ],
    ids=repr,
)
def test_numbers_out_of_their_domain_are_nan(penalty: prox.Penalty) -> None:
    assert np.all(np.isnan(penalty.prox(X)))
    assert np.isnan(penalty(X))


# Those of the curve of which L1 and L2 are made are the matter of the losses' tests.
@pytest.mark.parametrize("name", [k for k in PENALTIES if k not in ("l1", "l1 of each", "l2")])
def test_derivatives_in_all_modes(name: str) -> None:
    """Forward and reverse agree at corners too, and the second derivatives are symmetric."""
    penalty = PENALTIES[name]()

    def everything(x):
        def prox_of(x):
            return penalty.prox(x, 0.5)

        def envelope(x):
            return penalty.envelope(x, 0.5)

        hessian = jax.jacfwd(jax.grad(envelope))(x)
        back = jax.jacrev(jax.grad(envelope))(x)
        third = jax.jacfwd(jax.hessian(envelope))(x)
        return jax.jacfwd(prox_of)(x), jax.jacrev(prox_of)(x), hessian, back, third

    forward, reverse, hessian, back, third = jax.jit(everything)(X)
    np.testing.assert_allclose(forward, reverse, atol=16 * EPS)
    np.testing.assert_allclose(hessian, back, atol=64 * EPS)
    # The gradient of the envelope is (x - prox(x)) / step.
    np.testing.assert_allclose(hessian, (np.eye(9) - forward) / 0.5, atol=64 * EPS)
    assert np.all(np.isfinite(third))


def test_stated_derivatives_at_corners() -> None:
    def slope(penalty, x, step=0.5):
        return float(jax.grad(lambda x: penalty.prox(x, step))(x))

    assert [slope(prox.l1(1.0), x) for x in (-0.5, 0.0, 0.25, 0.5)] == [1, 0, 0, 1]
    assert [slope(prox.non_negative(), x) for x in (-0.5, 0.0, 0.5)] == [0, 1, 1]
    assert [slope(prox.box(-1, 1), x) for x in (-1.5, -1.0, 1.0, 1.5)] == [0, 1, 1, 0]
    assert [slope(prox.group_lasso(1.0), x) for x in (0.0, 0.25, 0.5, 1.0)] == [0, 0, 1, 1]
    assert [slope(prox.l2_ball(1.0), x) for x in (-1.0, 1.0, 2.0)] == [1, 1, 0]
    # Two entries at the surface.
    inside = jax.jacobian(lambda x: prox.l1_ball(1.0).prox(x))(jnp.array([0.5, 0.5]))
    np.testing.assert_array_equal(inside, np.eye(2))
    for penalty in (prox.l1(1.0), prox.elastic_net(1.0, 1.0), prox.group_lasso(1.0)):
        np.testing.assert_array_equal(jax.grad(penalty)(np.zeros(3, np.float32)), 0)


TREE = {"kernel": jnp.arange(6.0).reshape(2, 3) - 2, "layers": [jnp.array([0.5, -4.0]), None]}


def test_trees() -> None:
    penalty = prox.l1(0.5)
    found = penalty.prox(TREE, 2.0)
    assert jax.tree.structure(found) == jax.tree.structure(TREE)
    np.testing.assert_array_equal(found["layers"][0], [0, -3])
    assert penalty(TREE) == 0.5 * (9 + 4.5)
    assert penalty({}) == 0
    assert penalty.prox({}) == {}
    # A number for each part, or an array that broadcasts.
    some = prox.l1({"kernel": jnp.array([0.0, 1.0, 2.0]), "layers": 0.5})
    np.testing.assert_array_equal(some.prox(TREE)["kernel"], [[-2, 0, 0], [1, 1, 1]])
    np.testing.assert_array_equal(some.prox(TREE)["layers"][0], [0, -3.5])
    each = penalty.prox(TREE, {"kernel": 0.0, "layers": 2.0})
    np.testing.assert_array_equal(each["kernel"], TREE["kernel"])
    np.testing.assert_array_equal(each["layers"][0], [0, -3])


def test_vectors_lie_along_any_axes() -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, 4)).astype(np.float32) * 2
    makers = (
        lambda axis: prox.simplex(axis=axis),
        lambda axis: prox.l1_ball(1.0, axis=axis),
        lambda axis: prox.l2_ball(1.0, axis=axis),
        lambda axis: prox.group_lasso(0.5, axis=axis),
    )

    def methods(penalty, x):
        points = penalty.prox(x), penalty.conjugate_prox(x)
        return points, (penalty(x), penalty.envelope(x), penalty.conjugate(x))

    whole = prox.group_lasso(0.5, axis=(2, 0, 1)).prox(x)
    np.testing.assert_allclose(prox.group_lasso(0.5).prox(x), whole, atol=8 * EPS)
    for axis in (1, (2, 0)):
        axes = tuple(np.atleast_1d(axis))
        places = range(-len(axes), 0)
        moved = np.moveaxis(x, axes, places)
        rows = moved.reshape(-1, int(np.prod(moved.shape[3 - len(axes) :])))

        @jax.jit
        def both(x, rows, axis=axis):
            of_rows = [jax.vmap(functools.partial(methods, make(-1)))(rows) for make in makers]
            return [methods(make(axis), x) for make in makers], of_rows

        for (points, values), (expected, each) in zip(*both(x, rows), strict=True):
            for found, point in zip(points, expected, strict=True):
                found = np.moveaxis(np.asarray(found), axes, places)
                np.testing.assert_allclose(found, point.reshape(moved.shape), atol=8 * EPS)
            for found, terms in zip(values, each, strict=True):
                np.testing.assert_allclose(found, np.sum(terms), rtol=len(rows) * 8 * EPS)
    # A scale of each group.
    scales = np.array([[0.0], [100.0], [0.5]], np.float32)
    found = prox.group_lasso(scales, axis=(0, 2)).prox(x)
    np.testing.assert_array_equal(found[:, 0], x[:, 0])
    np.testing.assert_array_equal(found[:, 1], 0)
    assert prox.group_lasso(0.5).prox(jnp.float32(2)) == 1.5


def test_masked() -> None:
    for mask in ({"kernel": False, "layers": True}, lambda x: {"kernel": False, "layers": [True]}):
        tree = {**TREE, "layers": [TREE["layers"][0]]}
        penalty = prox.masked(prox.l1(0.5), mask)
        np.testing.assert_array_equal(penalty.prox(tree)["kernel"], tree["kernel"])
        np.testing.assert_array_equal(penalty.prox(tree)["layers"][0], [0, -3.5])
        assert penalty(tree) == 0.5 * 4.5
        assert penalty.conjugate(tree) == np.inf
        free = {**tree, "kernel": 0 * tree["kernel"], "layers": [jnp.array([0.5, -0.5])]}
        assert penalty.conjugate(free) == 0
        np.testing.assert_array_equal(penalty.conjugate_prox(tree)["kernel"], 0)
    twice = prox.masked(penalty, {"kernel": True, "layers": False})
    assert twice(tree) == 0
    assert np.all(np.isnan(penalty.prox(tree, -1.0)["kernel"]))


def test_objects() -> None:
    penalty = prox.masked(prox.group_lasso(0.5, axis=1), {"kernel": True, "layers": False})
    text = "masked(group_lasso(scale=0.5, axis=1), {'kernel': True, 'layers': False})"
    assert repr(penalty) == text
    again = pickle.loads(pickle.dumps(penalty))
    np.testing.assert_array_equal(again.prox(TREE)["kernel"], penalty.prox(TREE)["kernel"])
    assert jax.tree.leaves(penalty) == [0.5]
    traced = jax.jit(lambda p, x: p.prox(x))(penalty, TREE)
    np.testing.assert_allclose(traced["kernel"], penalty.prox(TREE)["kernel"], rtol=4 * EPS)
    swept = jax.vmap(lambda scale: prox.l1(scale).prox(X))(jnp.array([0.25, 0.5]))
    np.testing.assert_array_equal(swept[1], prox.l1(0.5).prox(X))
    slope = jax.grad(lambda p: p(TREE))(prox.l1(0.5))
    assert slope.hyper["scale"] == 13.5


def test_dtypes() -> None:
    penalty = prox.group_lasso(0.1)
    for half in (jnp.float16, jnp.bfloat16):
        x = jnp.asarray(X, half)
        assert penalty.prox(x).dtype == penalty.conjugate_prox(x).dtype == half
        assert penalty(x).dtype == penalty.envelope(x).dtype == jnp.float32
        np.testing.assert_array_equal(
            penalty.prox(x), penalty.prox(x.astype(jnp.float32)).astype(half)
        )
    with jax.enable_x64(True):
        mixed = {"a": np.float64(X) / 3, "b": X}
        found = prox.l1(0.1).prox(mixed)
        assert [z.dtype for z in found.values()] == [jnp.float64, jnp.float32]
        np.testing.assert_allclose(found["a"][0], -0.9, rtol=1e-15)
        assert prox.l1(0.1)(mixed).dtype == jnp.float64


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: prox.l1("x"), "scale must be an array or a number, got str 'x'"),
        (lambda: prox.l1(None), "scale must be an array or a number, got None"),
        (
            lambda: prox.l1(1.0).prox({"a": jnp.arange(3)}),
            r"x\['a'\] must be floating-point, got x\['a'\] int32\[3\]",
        ),
        (
            lambda: prox.l1(1.0).prox({"a": "text"}),
            r"x\['a'\] must be an array or a number, got str 'text'",
        ),
        (
            lambda: prox.l1({"b": 1.0}).prox({"a": X}),
            r"scale must be one for all, or a tree of which x has the upper part, got .*",
        ),
        (
            lambda: prox.l1(np.ones(4, np.float32)).prox({"a": X}),
            r"scale must broadcast to \[9\] beside x\['a'\], got .*scale float32\[4\]",
        ),
        (
            lambda: prox.group_lasso(np.ones(9, np.float32)).prox(X),
            r"scale must broadcast to \[1\] beside x, got x float32\[9\], scale float32\[9\]",
        ),
        (lambda: prox.l1(1.0).prox(X, "x"), "step must be an array or a number, got str 'x'"),
        (
            lambda: prox.simplex(axis=2).prox(X),
            r"axis must lie in \[-1, 1\) for x float32\[9\], .*",
        ),
        (lambda: prox.masked(0.5, True), "penalty must be a Penalty, got float 0.5"),  # type: ignore
        (
            lambda: prox.masked(prox.l1(1.0), {"a": 1}),
            "mask must be a tree of True and False, got int 1",
        ),
    ],
)
def test_mistakes_are_named(call: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError)) as error:
        call()
    assert re.fullmatch(message, str(error.value))


@jax.jit
def everything(penalty: prox.Penalty, x: Any) -> Any:
    """Values and slopes of all methods; the penalty is traced, so that a kind compiles once."""
    methods = (penalty, penalty.prox, penalty.envelope, penalty.conjugate_prox)
    return [(f(x), jax.grad(lambda x, f=f: jnp.sum(f(x)))(x)) for f in methods]


INF, NAN = np.inf, np.nan


@pytest.mark.parametrize(
    ("penalty", "value", "point", "envelope", "conjugate_point"),
    [
        # Each of value and slopes, at inf, 2 and -1, with a step of 1. A scale of 0 costs nothing.
        *(
            (nothing, (0, [0, 0, 0]), ([INF, 2, -1], [1, 1, 1]), (0, [0] * 3), ([0] * 3, [0] * 3))
            for nothing in (
                prox.l1(0.0),
                prox.l2(0.0),
                prox.elastic_net(0.0, 0.0),
                prox.group_lasso(0.0),
                prox.box(-INF, INF),
                prox.l1_ball(INF),
                prox.l2_ball(INF),
            )
        ),
        # An infinite one is the constraint that all is 0.
        *(
            (
                rigid,
                (INF, None),
                ([0] * 3, [0] * 3),
                (INF, [INF, 2, -1]),
                ([INF, 2, -1], [1] * 3),
            )
            for rigid in (
                prox.l1(INF),
                prox.l2(INF),
                prox.elastic_net(INF, 0.0),
                prox.elastic_net(0.0, INF),
                prox.group_lasso(INF),
                prox.box(0.0, 0.0),
                prox.simplex(0.0),
                prox.l1_ball(0.0),
                prox.l2_ball(0.0),
            )
        ),
        (
            prox.l1(0.5),
            (INF, [0.5, 0.5, -0.5]),
            ([INF, 1.5, -0.5], [1] * 3),
            (INF, [0.5, 0.5, -0.5]),
            ([0.5, 0.5, -0.5], [0] * 3),
        ),
        (
            prox.l2(1.0),
            (INF, [INF, 2, -1]),
            ([INF, 1, -0.5], [0.5] * 3),
            (INF, [INF, 1, -0.5]),
            ([INF, 1, -0.5], [0.5] * 3),
        ),
        (
            prox.elastic_net(1.0, 0.0),
            (INF, [1, 1, -1]),
            ([INF, 1, 0], [1, 1, 1]),
            (INF, [1, 1, -1]),
            ([1, 1, -1], [0] * 3),
        ),
        # All of an infinite vector points along its only infinite entry.
        (
            prox.group_lasso(1.5),
            (INF, [1.5, 0, 0]),
            ([INF, 2, -1], [1] * 3),
            (INF, [1.5, 0, 0]),
            ([1.5, 0, 0], [0] * 3),
        ),
        *(
            (
                within,
                (INF, [NAN] * 3),
                ([3, 0, 0], [0] * 3),
                (INF, [INF, 2, -1]),
                ([INF, 2, -1], [1] * 3),
            )
            for within in (prox.simplex(3.0), prox.l1_ball(3.0), prox.l2_ball(3.0))
        ),
        *(
            (
                above,
                (INF, [0, 0, NAN]),
                ([INF, 2, 0], [1, 1, 0]),
                (0.5, [0, 0, -1]),
                ([0, 0, -1], [0, 0, 1]),
            )
            for above in (prox.non_negative(), prox.box(0.0, INF))
        ),
    ],
    ids=repr,
)
def test_infinite_points(
    penalty: prox.Penalty, value: Any, point: Any, envelope: Any, conjugate_point: Any
) -> None:
    """The limits, of a scale of 0 or inf first."""
    found = everything(penalty, single([INF, 2, -1]))
    for one, two in zip(found, (value, point, envelope, conjugate_point), strict=True):
        np.testing.assert_array_equal(one[0], two[0])
        if two[1] is not None:
            np.testing.assert_array_equal(one[1], two[1])


def test_sets_that_are_points() -> None:
    """Nothing moves in them, at the point itself either: they have no inside."""
    for point in (prox.box(0.0, 0.0), prox.simplex(0.0), prox.l1_ball(0.0), prox.l2_ball(0.0)):
        found = everything(point, np.zeros(3, np.float32))
        for (value, slopes), slope in zip(found[1:], (0, 0, 1), strict=True):
            np.testing.assert_array_equal(value, np.zeros_like(value))
            np.testing.assert_array_equal(slopes, np.full(3, slope))


def test_infinite_points_without_a_limit() -> None:
    """NaN, with values of sets that are far from all of them infinite."""
    both = single([INF, INF, 1])
    for penalty in (prox.simplex(3.0), prox.l1_ball(3.0), prox.l2_ball(3.0)):
        assert np.all(np.isnan(penalty.prox(both)))
        assert penalty(both) == INF
    # A direction is needed for the slope alone.
    assert prox.group_lasso(1.0)(both) == INF
    assert np.all(np.isnan(jax.grad(prox.group_lasso(1.0))(both)))
    np.testing.assert_array_equal(prox.group_lasso(1.0).prox(both), both)
    # What is excluded by -inf is 0, as of scores that are masked.
    np.testing.assert_array_equal(prox.simplex().prox(single([-INF, 0.25, 0.25])), [0, 0.5, 0.5])
    # NaN is not lost beside them.
    for penalty in (prox.simplex(3.0), prox.l1_ball(3.0), prox.l2_ball(3.0), prox.group_lasso(1.0)):
        assert np.all(np.isnan(penalty.prox(single([INF, NAN, 1]))))
        assert np.isnan(penalty(single([INF, NAN, 1])))
    assert np.all(np.isnan(prox.simplex(INF).prox(X)))


def test_infinite_slopes() -> None:
    """A conjugate is inf with slope NaN where slopes are steeper than the penalty."""
    y = single([INF, 0, -1])
    for penalty in (
        *(prox.l1(0.5), prox.group_lasso(0.5), prox.elastic_net(0.5, 0.0), prox.non_negative()),
        *(prox.box(0.0, INF), prox.l1_ball(INF), prox.l2_ball(INF)),
    ):
        assert penalty.conjugate(y) == INF
        assert np.isnan(jax.grad(penalty.conjugate)(y)[0])
        assert penalty.conjugate(np.zeros(3, np.float32)) == 0
    for pinned in (prox.l1(INF), prox.l2(INF), prox.group_lasso(INF), prox.l1_ball(0.0)):
        assert pinned.conjugate(y) == 0
    assert prox.box(0.0, 1.0).conjugate(-y) == 1


def test_nothing_overflows_before_the_penalty_does() -> None:
    """Products of a tiny scale or a long step with huge parameters."""
    x = np.float32(1e30)
    slope = jax.grad(lambda z: prox.l2(1e-30)(z))
    assert float(prox.l2(1e-30)(x)) == pytest.approx(5e29, rel=8 * EPS)
    assert float(slope(x)) == pytest.approx(1, rel=8 * EPS)
    assert float(jax.grad(slope)(x)) == pytest.approx(1e-30, rel=8 * EPS)
    # 1 + scale step overflows, the envelope is x^2 / (2 step).
    envelope = prox.l2(1e30).envelope
    assert float(envelope(x, 1e30)) == pytest.approx(5e29, rel=8 * EPS)
    assert float(jax.grad(envelope)(x, 1e30)) == pytest.approx(1, rel=8 * EPS)
    elastic = prox.elastic_net(0.0, 1e-30)
    assert float(elastic(x)) == pytest.approx(5e29, rel=8 * EPS)


def test_ties() -> None:
    """Entries that are equal stay so; those at the threshold are 0, with derivative 0."""

    @jax.jit
    def simplex(x):
        return prox.simplex().prox(x), jax.jacobian(prox.simplex().prox)(x)

    half = [[0.5, -0.5, 0], [-0.5, 0.5, 0], [0] * 3]
    for x, point, slopes in (
        ([2, 2, 0], [0.5, 0.5, 0], half),
        ([1, 1, 0.5], [0.5, 0.5, 0], half),
        ([1, 0, 0], [1, 0, 0], np.zeros((3, 3))),
        ([0.25, 0.25, 0.5], [0.25, 0.25, 0.5], np.eye(3) - 1 / 3),
    ):
        found, jacobian = simplex(single(x))
        np.testing.assert_array_equal(found, point)
        np.testing.assert_allclose(jacobian, slopes, atol=4 * EPS)
    # An entry at the threshold of the ball is 0 too.
    ball = jax.jacobian(prox.l1_ball(1.0).prox)(single([2, -1, 0]))
    np.testing.assert_array_equal(ball, np.zeros((3, 3)))
