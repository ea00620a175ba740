"""`elementwise`: masks, derivatives, domains, kinds of arguments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import jaxloss
from jaxloss import Mean, elementwise
from tests.laws.values import single

NAN = np.float32(np.nan)
KEEP = np.array([True, False, True, False])
CLEAN = np.array([2.0, 3.0, 5.0, 7.0], np.float32)


def in_all_modes(loss: Callable[..., Any], *args: Any) -> list[jax.Array]:
    """Value, first and second derivatives of a sum, in the modes of JAX."""
    every = tuple(range(len(args)))
    ones = tuple(jnp.ones_like(x) for x in args)

    def total(*at: Any) -> Any:
        return jnp.sum(loss(*at))

    def forward(*at: Any) -> Any:
        return jax.jvp(total, at, ones)[1]

    found = [
        total(*args),
        jax.grad(total, every)(*args),
        forward(*args),
        jax.jvp(jax.grad(total, every), args, ones)[1],
        jax.grad(lambda *at: sum(map(jnp.sum, jax.grad(total, every)(*at))), every)(*args),
        jax.jvp(forward, args, ones)[1],
    ]
    return jax.tree.leaves(found)


# Formulas that are infinite, or have infinite slopes, at what excluded entries read.
STEEP: list[Callable[..., Any]] = [
    elementwise(lambda p, t=1.0: jnp.log(p - t)),
    elementwise(lambda p, t=1.0: jnp.sqrt(p - t)),
    elementwise(lambda p, t=1.0: 1 / (p - t)),
    elementwise(lambda p, t=1.0: jnp.sqrt((p - t) ** 2), derivative=lambda p, t: 1 / (p - t)),
]


@pytest.mark.parametrize("loss", STEEP)
def test_what_is_excluded_reaches_no_derivative(loss: Any) -> None:
    """Not as data, not as targets, not as weights."""

    @jax.jit
    def derivatives(p: Any, t: Any, w: Any) -> Any:
        return in_all_modes(lambda p, t, w: loss(p, t, where=KEEP, weights=w), p, t, w)

    expected = derivatives(CLEAN, np.full(4, 0.5, np.float32), CLEAN)
    for garbage in single([np.nan, np.inf, 1.0, -3.0]):
        dirty, t = (np.where(KEEP, x, garbage) for x in (CLEAN, np.float32(0.5)))
        for got, want in zip(derivatives(dirty, t, dirty), expected, strict=True):
            assert np.all(np.isfinite(want))
            np.testing.assert_allclose(got, want, rtol=1e-6)
            if got.ndim:
                assert np.all(np.asarray(got)[~KEEP] == 0)


def test_what_is_excluded_reaches_no_hyperparameter() -> None:
    """Neither one of each element, nor one of all, nor where the mask is a traced array."""
    loss = elementwise(lambda p, *, scale: jnp.log(p / scale - 1))

    @jax.jit
    def slopes(p: Any, scale: Any, where: Any) -> Any:
        return in_all_modes(lambda scale: loss(p, scale=scale, where=where), scale)

    dirty, scales = np.where(KEEP, CLEAN, 1.0), np.where(KEEP, np.float32(1.5), NAN)
    for scale, clean in ((np.float32(1.0), np.float32(1.0)), (scales, np.full(4, np.float32(1.5)))):
        found, expected = slopes(dirty, scale, KEEP), slopes(CLEAN, clean, KEEP)
        for got, want in zip(found, expected, strict=True):
            assert np.all(np.isfinite(got))
            np.testing.assert_allclose(got, want, rtol=1e-6)


def test_reduce_alone_does_not_reach_the_inputs() -> None:
    """What `elementwise` is for."""
    p, keep = jnp.array([2.0, jnp.nan]), jnp.array([True, False])
    late = jax.grad(lambda p: jaxloss.reduce(jnp.log(p), where=keep, reduction="mean"))(p)
    early = jax.grad(lambda p: elementwise(jnp.log)(p, where=keep, reduction="mean"))(p)
    assert np.isnan(late[1])
    np.testing.assert_array_equal(early, [0.5, 0])


def absolute(p: Any, t: Any, *, scale: Any = 1.0) -> Any:
    return jnp.abs(p - t) * scale


def test_a_derivative_in_the_predictions() -> None:
    """The others are JAX's own of the formula, here with its slope of 1 at the kink."""
    loss = elementwise(absolute, derivative=lambda p, t, *, scale: jnp.sign(p - t) * scale)
    for point, expected in (((2.0, 2.0), (0, -1, 0)), ((5.0, 2.0), (3, -3, 3))):
        scale = float(max(1.0, point[0] - point[1]))
        for slopes in (jax.grad, jax.jacfwd):
            found = slopes(lambda p, t, s: loss(p, t, scale=s), (0, 1, 2))(*point, scale)
            np.testing.assert_array_equal(found, expected)


def test_a_derivative_in_all_arguments() -> None:
    """In order, data before hyperparameters; a number will do, and None is JAX's own."""

    def slopes(p: Any, t: Any, *, scale: Any) -> Any:
        return 10.0, None, jnp.abs(p - t) + 100

    loss = elementwise(absolute, derivative=slopes)
    found = jax.grad(lambda *x: jnp.sum(loss(x[0], x[1], scale=x[2])), (0, 1, 2))(
        jnp.array([5.0, 6.0]), jnp.array([2.0, 2.0]), 3.0
    )
    np.testing.assert_array_equal(found[0], [10, 10])
    np.testing.assert_array_equal(found[1], [-3, -3])
    assert found[2] == 207


def test_second_derivatives_are_those_of_the_derivative() -> None:
    loss = elementwise(lambda p: p**2, derivative=lambda p: 3 * p**2)
    assert jax.grad(loss)(2.0) == 12
    for second in (jax.hessian(loss), jax.grad(jax.grad(loss)), jax.jacfwd(jax.jacfwd(loss))):
        assert second(2.0) == 12


def test_an_infinite_slope_meets_no_tangent_that_is_not_there() -> None:
    loss = elementwise(lambda p, t: jnp.sqrt(p) + t, derivative=lambda p, t: (0.5 / jnp.sqrt(p), 1))
    assert jax.grad(loss, 1)(0.0, 2.0) == 1
    assert jax.grad(loss, 0)(0.0, 2.0) == np.inf


@pytest.mark.parametrize("count", [1, 2, 3])
def test_any_number_of_data(count: int) -> None:
    formula = [lambda a: a**2, lambda a, b: a * b, lambda a, b, c: a * b + c][count - 1]
    args = [np.arange(6, dtype=np.float32).reshape(2, 3) + i for i in range(count)]
    loss = elementwise(formula)
    np.testing.assert_allclose(loss(*args), formula(*args))
    with pytest.raises(ValueError, match=r"^expected equal shapes|^where must be a scalar"):
        # As many as there are, the last of another shape.
        loss(*args[:-1], args[-1][:, :1], where=count > 1 or np.ones(3, bool))


def test_kinds_of_arguments() -> None:
    loss = elementwise(lambda p, t, *, scale=1.0: (p - t) * scale)
    assert loss([3.0, 5.0], [1, 2]).dtype == jnp.float32
    np.testing.assert_array_equal(loss([3.0, 5.0], [1, 2]), [2, 3])
    np.testing.assert_array_equal(loss((3.0, 5.0), True), [2, 4])
    # JAX would wrap this one.
    np.testing.assert_array_equal(loss([0.0], np.array([2**40])), [-np.float32(2**40)])
    np.testing.assert_array_equal(loss([3.0, 5.0], 1, scale=[1, 2]), [2, 8])
    each = loss(np.ones((2, 3), np.float32), 0, scale=np.array([[1.0], [2.0]]))
    np.testing.assert_array_equal(each, [[1, 1, 1], [2, 2, 2]])
    np.testing.assert_array_equal(loss(1.0, 0, scale=[1.0, 2.0]), [1, 2])


def test_dtypes() -> None:
    def formula(p: Any, t: Any) -> Any:
        assert p.dtype == t.dtype
        return p - t

    loss = elementwise(formula)
    for half in (jnp.bfloat16, jnp.float16):
        p = jnp.asarray([1.0, 2.0], half)
        assert loss(p, 0.001).dtype == jnp.float32
        np.testing.assert_allclose(loss(p, 0.001), [0.999, 1.999], rtol=1e-6)
        assert jax.grad(lambda p: jnp.sum(loss(p, 0.0)))(p).dtype == half
    # Whatever a formula makes of its numbers, the loss has their dtype.
    right = elementwise(lambda p, t: (p > 0) == (t > 0))
    np.testing.assert_array_equal(right([1.0, -1.0], [1, 1]), [1, 0])
    assert right([1.0], [1]).dtype == jnp.float32
    with jax.enable_x64(True):
        assert loss(np.float64(1), np.float32(2)).dtype == jnp.float64
        wide = elementwise(lambda p: p * jnp.float64(2) if p.dtype == jnp.float64 else p)
        assert wide(np.float32(1)).dtype == jnp.float32


def test_an_optional_argument_is_none_in_the_formula() -> None:
    @elementwise(derivative=lambda p, t, *, cap: 1.0 if t is None else 2.0)
    def optional(p: Any, t: Any = None, *, cap: Any = None) -> Any:
        p = p if t is None else 2 * p - t
        return p if cap is None else jnp.minimum(p, cap)

    assert optional(3.0) == optional(3.0, None) == 3
    assert optional(3.0, 1.0) == 5
    assert optional(3.0, 1.0, cap=4.0) == 4
    np.testing.assert_array_equal(optional([3.0, 9.0], cap=[1.0, 20.0]), [1, 9])
    np.testing.assert_array_equal(optional([3.0, 9.0], where=[True, False]), [3, 0])
    assert jax.grad(optional)(3.0) == 1
    assert jax.grad(optional)(3.0, 1.0) == 2


def test_out_of_the_domain_it_is_nan() -> None:
    """In value and gradient, of data and hyperparameters; what is excluded lies in it."""

    @elementwise(domain={"t": lambda t: t < 0, "scale": lambda scale: scale > 5})
    def bounded(p: Any, t: Any, *, scale: Any) -> Any:
        return p * t + scale

    def mean(p: Any, t: Any, scale: Any, where: Any = None) -> Any:
        return bounded(p, t, scale=scale, where=where, reduction="mean")

    slopes = jax.value_and_grad(mean, (0, 1, 2))
    for found in jax.tree.leaves(slopes(2.0, -1.0, 6.0)):
        assert np.isfinite(found)
    for t, scale in ((1.0, 6.0), (-1.0, 5.0), (np.nan, 6.0), (-1.0, np.nan)):
        for found in jax.tree.leaves(slopes(2.0, t, scale)):
            assert np.isnan(found)
    t, scale = jnp.array([-1.0, 1.0]), jnp.array([6.0, 2.0])
    found = slopes(jnp.ones(2), t, scale, jnp.array([True, False]))
    for got in jax.tree.leaves(found):
        assert np.all(np.isfinite(got))
        assert got.shape == () or got[1] == 0


def test_means_add() -> None:
    loss = elementwise(lambda p, t: (p - t) ** 2)
    p = np.arange(8, dtype=np.float32).reshape(4, 2)
    where = p % 3 > 0

    def add(mean: Any, rows: Any) -> Any:
        return mean + Mean.of(loss, rows[0], 1.0, where=rows[1], weights=2.0), None

    mean, _ = jax.jit(lambda: jax.lax.scan(add, Mean.zero(), (p, where)))()
    np.testing.assert_allclose(mean.value(), loss(p, 1.0, where=where, reduction="mean"), rtol=1e-6)
    assert float(mean.weight) == 2 * where.sum()


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
def test_on_many_devices(kind: Any) -> None:
    """In a mesh of either kind, and in `shard_map`; also where a formula makes an array itself."""

    @elementwise(derivative=lambda p, t, *, scale: (2 * (p - t) / scale**2, None))
    def errors(p: Any, t: Any, *, scale: Any = 1.0) -> Any:
        return ((p - t) / scale) ** 2

    constant = elementwise(lambda p: jnp.ones(p.shape))
    rng = np.random.default_rng(0)
    p, t = (rng.normal(size=(8, 3)).astype(np.float32) for _ in range(2))
    mesh = jax.make_mesh((8,), ("data",), axis_types=(kind,))
    sharding = NamedSharding(mesh, PartitionSpec("data"))

    def total(p: Any, t: Any) -> Any:
        mean = errors(p, t, scale=[1.0, 2.0, 3.0], where=p > -1, weights=2.0, reduction="mean")
        return mean + constant(p, where=p > 0, reduction="sum")

    expected = jax.value_and_grad(total)(p, t)
    with jax.set_mesh(mesh):
        placed = jax.device_put((p, t), sharding)
        found = jax.jit(jax.value_and_grad(total))(*placed)
        plain = jax.jit(constant)(placed[0])
        spec = PartitionSpec("data")

        def local(p: Any, t: Any) -> Any:
            mean = Mean.of(errors, p, t, scale=[1.0, 2.0, 3.0], where=p > -1, weights=2.0)
            return mean.psum("data").value()

        mapped = jax.shard_map(local, in_specs=(spec, spec), out_specs=PartitionSpec())
        whole = jax.jit(mapped)(*placed)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-6)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-5, atol=1e-7)
    assert found[1].sharding.is_equivalent_to(sharding, 2)
    assert kind is AxisType.Auto or plain.sharding.is_equivalent_to(sharding, 2)
    np.testing.assert_allclose(float(whole) + np.sum(p > 0), expected[0], rtol=1e-6)


def test_a_setting_that_looks_like_a_number() -> None:
    @elementwise(static=["order"])
    def power(x: Any, *, order: int = 2) -> Any:
        assert isinstance(order, int)
        return x**order

    assert power(2.0) == 4
    assert power(2.0, order=5) == 32
    with pytest.raises(TypeError, match="order must be a hashable Python value"):
        jax.jit(lambda order: power(2.0, order=order))(3)
