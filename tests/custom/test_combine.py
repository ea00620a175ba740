"""Sums of several losses: their weights, derivatives, parts, and what is refused."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, PartitionSpec

import jaxloss
from jaxloss import Mean, combine

# What is refused here is refused by type checkers too.
anyhow: Any = combine


def test_weights_default_to_one() -> None:
    total, terms = combine({"mask": jnp.float32(2.0), "size": 3.0})
    assert (total, terms) == (5, {"mask": 2, "size": 3})
    assert total.dtype == jnp.float32
    total, terms = combine({})
    assert (total, terms) == (0, {})


def test_fixed_weights_multiply() -> None:
    total, terms = combine({"mask": 2.0, "size": 3}, weights={"size": 2, "mask": jnp.float16(0.5)})
    assert (total, terms) == (7, {"mask": 2, "size": 3})


def test_schedules_are_called_with_the_step() -> None:
    """Those of optax, by a step that is traced, beside fixed weights."""
    ramp = optax.linear_schedule(0.0, 1.0, transition_steps=10)
    weights = {"mask": ramp, "size": 2.0}

    @jax.jit
    def total(step: Any) -> Any:
        return combine({"mask": 4.0, "size": 1.0}, weights=weights, step=step)[0]

    for step, expected in ((0, 2.0), (5, 4.0), (30, 6.0)):
        np.testing.assert_allclose(total(step), expected, rtol=1e-6)
        eager, _ = combine({"mask": 4.0, "size": 1.0}, weights=weights, step=step)
        np.testing.assert_allclose(eager, expected, rtol=1e-6)


def test_a_learned_weight_is_the_likelihood_of_the_paper() -> None:
    """A Gaussian of variance exp(s), without its constant, and the best s."""
    errors = jnp.array([1.0, -2.0, 4.0])

    def loss(s: Any) -> Any:
        mean = jaxloss.l2_loss(errors, reduction="mean")
        return combine({"depth": mean}, log_variances={"depth": s})[0]

    for s in (-1.0, 0.0, 0.7):
        constant = 0.5 * np.log(2 * np.pi)
        likelihood = -jax.scipy.stats.norm.logpdf(errors, 0.0, np.exp(0.5 * s))
        np.testing.assert_allclose(loss(s) + constant, jnp.mean(likelihood), rtol=1e-6)
    best = jnp.log(jnp.mean(errors**2))
    np.testing.assert_allclose(jax.grad(loss)(best), 0, atol=1e-6)
    assert jax.grad(jax.grad(loss))(best) > 0


def test_learned_and_fixed_weights_together() -> None:
    terms = {"depth": 2.0, "class": 3.0, "norm": 5.0}
    logs = {"depth": jnp.zeros(()), "class": jnp.log(2.0)}
    total, _ = combine(terms, weights={"norm": 0.1}, log_variances=logs)
    np.testing.assert_allclose(total, 2 + 1.5 + np.log(2) / 2 + 0.5, rtol=1e-6)
    # Without weights the others count once.
    total, _ = combine(terms, log_variances=logs)
    np.testing.assert_allclose(total, 2 + 1.5 + np.log(2) / 2 + 5, rtol=1e-6)


def test_a_step_of_training() -> None:
    """Total and terms of one evaluation, gradients of model and log-variances, under `jit`."""
    x = jnp.linspace(-1, 1, 8)
    truth = {"depth": 3 * x, "class": (x > 0).astype(jnp.float32)}

    def loss(params: Any, step: Any) -> Any:
        fit = params["slope"] * x
        terms = {
            "depth": Mean.of(jaxloss.l2_loss, fit, truth["depth"], where=x > -0.5),
            "class": jaxloss.sigmoid_binary_cross_entropy(fit, truth["class"], reduction="mean"),
        }
        weights = {"depth": lambda step: 1 / (1 + step)}
        return combine(terms, weights=weights, step=step, log_variances=params["logs"])

    evaluate = jax.jit(jax.value_and_grad(loss, has_aux=True))
    params = {"slope": jnp.float32(2.0), "logs": {"class": jnp.float32(0.3)}}
    (total, terms), slopes = evaluate(params, 4)
    depth, kind = terms["depth"].value(), terms["class"]
    np.testing.assert_allclose(total, depth / 5 + np.exp(-0.3) * kind + 0.15, rtol=1e-6)
    np.testing.assert_allclose(slopes["logs"]["class"], 0.5 - np.exp(-0.3) * kind, rtol=1e-5)
    # The sums stay sums, which add to those of another batch.
    doubled = jax.tree.map(lambda x: 2 * x, terms)
    assert (terms["depth"] + terms["depth"]).value() == doubled["depth"].value() == depth


def test_means_of_devices() -> None:
    """Added before they are combined, the sum is that of the whole batch, and its gradient."""
    x = jnp.arange(16.0)
    where = x % 3 > 0
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))

    def loss(scale: Any, x: Any, where: Any, whole: bool) -> Any:
        mean = Mean.of(jaxloss.l2_loss, scale * x, where=where)
        mean = mean if whole else mean.psum("data")
        return combine({"fit": mean}, weights={"fit": 2.0})

    def total(scale: Any) -> Any:
        spec = PartitionSpec("data")
        mapped = jax.shard_map(
            lambda scale, x, where: loss(scale, x, where, False)[0],
            mesh=mesh,
            in_specs=(PartitionSpec(), spec, spec),
            out_specs=PartitionSpec(),
        )
        return mapped(scale, x, where)

    found = jax.jit(jax.value_and_grad(total))(1.5)
    expected = jax.value_and_grad(lambda scale: loss(scale, x, where, True)[0])(1.5)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_a_nan_shows_where_it_comes_from() -> None:
    total, terms = combine({"mask": jnp.nan, "size": 1.0}, weights={"mask": 0.0, "size": 1.0})
    assert np.isnan(total)
    assert [name for name, x in terms.items() if np.isnan(x)] == ["mask"]


def test_dtypes() -> None:
    assert combine({"a": jnp.bfloat16(1.0), "b": 2})[0].dtype == jnp.float32
    # Below half of bfloat16's last digit.
    small = combine({"a": jnp.bfloat16(1.0)}, weights={"a": jnp.float32(1.001)})[0]
    np.testing.assert_allclose(small, 1.001, rtol=1e-6)
    with jax.enable_x64(True):
        assert combine({"a": jnp.float64(1.0), "b": jnp.float32(2.0)})[0].dtype == jnp.float64
        assert combine({"a": jnp.float32(1.0)}, weights={"a": 2.0})[0].dtype == jnp.float32


def test_maps_scans_and_pickles() -> None:
    each = jax.vmap(lambda a, b: combine({"a": a, "b": b}, weights={"a": 2.0, "b": 3.0}))
    totals, terms = each(jnp.arange(3.0), jnp.ones(3))
    np.testing.assert_array_equal(totals, [3, 5, 7])
    np.testing.assert_array_equal(terms["a"], [0, 1, 2])

    def accumulate(carry: Any, x: Any) -> Any:
        total, terms = combine({"a": x, "m": Mean.of(jaxloss.l1_loss, x[None])})
        return carry + total, terms

    total, terms = jax.lax.scan(accumulate, jnp.float32(0), jnp.arange(3.0))
    assert total == 6
    assert terms["m"].weight.shape == (3,)
    assert pickle.loads(pickle.dumps(combine)) is combine


ROWS: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (
        lambda: anyhow([1.0]),
        TypeError,
        "terms must be a mapping by name, got list [1.0]",
    ),
    (
        lambda: anyhow({"a": 1.0}, weights=0.5),
        TypeError,
        "weights must be a mapping by name, got float 0.5",
    ),
    (lambda: anyhow({1: 1.0}), TypeError, "terms must be named by strings, got 1"),
    (
        lambda: anyhow({"mask": jaxloss.dice_loss}),
        TypeError,
        "the term mask must be what a loss returns, not a loss, got function dice_loss",
    ),
    (
        lambda: anyhow({"mask": "high"}),
        TypeError,
        "the term mask must be an array or a number, got str 'high'",
    ),
    (
        lambda: anyhow({"mask": jnp.ones(3)}),
        ValueError,
        'the term mask must be one number, got float32[3]; reduction="mean" makes it one',
    ),
    (
        lambda: anyhow({"mask": 1.0}, weights={"mask": 1.0, "class": 2.0}),
        ValueError,
        "weights names 'class', which is no term; the terms are mask",
    ),
    (
        lambda: anyhow({"mask": 1.0}, log_variances={"class": 2.0}),
        ValueError,
        "log_variances names 'class', which is no term; the terms are mask",
    ),
    (
        lambda: anyhow({"mask": 1.0, "class": 1.0}, weights={"mask": 1.0}),
        ValueError,
        "weights must name the term class, or log_variances",
    ),
    (
        lambda: anyhow({"mask": 1.0}, weights={"mask": 1.0}, log_variances={"mask": 1.0}),
        ValueError,
        "the term mask has a weight and a log-variance; give it one",
    ),
    (
        lambda: anyhow({"mask": 1.0}, weights={"mask": lambda step: step}),
        ValueError,
        "the weight of mask is a schedule: step must be given",
    ),
    (
        lambda: anyhow({"mask": 1.0}, weights={"mask": lambda step: "no"}, step=1),
        TypeError,
        "the weight of mask, by its schedule, must be an array or a number, got str 'no'",
    ),
    (
        lambda: anyhow({"mask": 1.0}, weights={"mask": [1.0, 2.0]}),
        ValueError,
        "the weight of mask must be one number, got float32[2]",
    ),
    (
        lambda: anyhow({"mask": 1.0}, log_variances={"mask": None}),
        TypeError,
        "the log-variance of mask must be an array or a number, got None",
    ),
]


@pytest.mark.parametrize(("call", "kind", "message"), ROWS, ids=[row[2] for row in ROWS])
def test_mistakes_are_named(call: Any, kind: Any, message: str) -> None:
    with pytest.raises(kind) as error:
        call()
    assert str(error.value) == message
    with pytest.raises(kind):
        jax.jit(call)()
