"""Divergences: values as arithmetic, zeros, infinities, and the theorems that bind them."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxloss
from jaxloss import (
    distillation_loss,
    generalized_kl_divergence,
    hellinger_distance,
    jensen_shannon_divergence,
    kl_divergence,
    kl_divergence_with_log_targets,
    renyi_divergence,
    total_variation_distance,
)
from tests.laws.values import evaluated, single

INF = np.inf
LOG2, LOG3 = np.log(2), np.log(3)


def log(x: Any) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return single(np.log(np.float64(x)))


P = single([0.5, 0.25, 0.25])
T = single([0.5, 0.5, 0.0])

# A loss, and the hyperparameter that it takes after its data.
Divergence = tuple[Callable[..., Any], dict[str, np.ndarray]]


def renyi(alpha: float) -> Divergence:
    return renyi_divergence, {"alpha": single(alpha)}


def distil(temperature: float) -> Divergence:
    return distillation_loss, {"temperature": single(temperature)}


class Modes(NamedTuple):
    """A loss, and its derivatives in both arguments by every mode."""

    value: Any
    gradient: Any
    forward: Any
    hessian: Any
    along_nothing: Any


@functools.cache
def program(loss: Callable[..., Any]) -> Any:
    """Kept for all data and hyperparameters: the vectors below have three entries for that."""

    @jax.jit
    def modes(p: Any, t: Any, options: Any) -> Modes:
        given = functools.partial(loss, **options)
        still = jax.jvp(given, (p, t), (jnp.zeros_like(p), jnp.zeros_like(t)))[1]
        gradient, forward, hessian = (
            derivative(given, (0, 1))(p, t) for derivative in (jax.grad, jax.jacfwd, jax.hessian)
        )
        return Modes(given(p, t), gradient, forward, hessian, still)

    return modes


def every(loss: Any, p: Any, t: Any) -> Modes:
    loss, options = loss if isinstance(loss, tuple) else (loss, {})
    return program(loss)(single(p), single(t), options)


def slope(loss: Any, p: Any, t: Any) -> Any:
    """The gradient in the first argument."""
    return every(loss, p, t).gradient[0]


ROOT_TERM = (np.sqrt(0.5) - 0.5) ** 2 + 0.25
JSD = 0.5 * (0.25 * np.log(2 / 3) + 0.5 * np.log(4 / 3) + 0.25 * LOG2)
HELLINGER = np.sqrt(ROOT_TERM / 2)


@pytest.mark.parametrize(
    ("loss", "p", "t", "value", "in_p", "in_t"),
    [
        (kl_divergence, log(P), T, LOG2 / 2, [-0.5, -0.5, 0], [1, 1 + LOG2, 0]),
        (generalized_kl_divergence, log(P), T, LOG2 / 2, [0, -0.25, 0.25], [0, LOG2, 0]),
        (
            generalized_kl_divergence,
            log(2 * P),
            T,
            1.0 - LOG2 / 2,
            [0.5, 0, 0.5],
            [-LOG2, 0, 0],
        ),
        (
            kl_divergence_with_log_targets,
            log(P),
            log(T),
            LOG2 / 2,
            [-0.5, -0.5, 0],
            [0.5, 0.5 * (1 + LOG2), 0],
        ),
        (
            jensen_shannon_divergence,
            P,
            T,
            JSD,
            [0, np.log(2 / 3) / 2, LOG2 / 2],
            [0, np.log(4 / 3) / 2, 0],
        ),
        (total_variation_distance, P, T, 0.25, [0, -0.5, 0.5], [0, 0.5, -0.5]),
        (
            hellinger_distance,
            P,
            T,
            HELLINGER,
            [0, (1 - np.sqrt(2)) / (4 * HELLINGER), 1 / (4 * HELLINGER)],
            [0, (1 - np.sqrt(0.5)) / (4 * HELLINGER), 0],
        ),
        (renyi(0.0), P, T, -np.log(0.75), [-4 / 3, -4 / 3, 0], [0, 0, 0]),
        (renyi(1.0), P, T, LOG2 / 2, [-1, -2, 0], [1, 1 + LOG2, 0]),
        (renyi(2.0), P, T, np.log(1.5), [-2 / 3, -8 / 3, 0], [4 / 3, 8 / 3, 0]),
        (renyi(INF), P, T, LOG2, [0, -4, 0], [0, 2, 0]),
        (
            distil(2.0),
            log([1.0, 1.0, 0.0]),
            2 * log([1.0, 3.0, 0.0]),
            4 * (0.25 * np.log(0.5) + 0.75 * np.log(1.5)),
            [2 * 0.25, -2 * 0.25, 0],
            [-2 * 3 / 16 * LOG3, 2 * 3 / 16 * LOG3, 0],
        ),
    ],
)
def test_values_and_gradients(
    loss: Any, p: Any, t: Any, value: float, in_p: Any, in_t: Any
) -> None:
    found = every(loss, p, t)
    np.testing.assert_allclose(found.value, value, rtol=2e-6)
    np.testing.assert_allclose(found.gradient[0], in_p, rtol=2e-6, atol=2e-7)
    np.testing.assert_allclose(found.gradient[1], in_t, rtol=2e-6, atol=2e-7)
    for forward, backward in zip(found.forward, found.gradient, strict=True):
        np.testing.assert_allclose(forward, backward, rtol=1e-6, atol=1e-7)


CERTAIN = single([1.0, 0.0, 0.0])
ZERO_AND_ONE = [
    (kl_divergence, log(CERTAIN), CERTAIN),
    (generalized_kl_divergence, log(CERTAIN), CERTAIN),
    (kl_divergence_with_log_targets, log(CERTAIN), log(CERTAIN)),
    (jensen_shannon_divergence, CERTAIN, CERTAIN),
    (total_variation_distance, CERTAIN, CERTAIN),
    (hellinger_distance, CERTAIN, CERTAIN),
    *((renyi(a), CERTAIN, CERTAIN) for a in (0, 0.5, 1, 2, INF)),
    (distil(2.0), 3 + log(CERTAIN), 3 + log(CERTAIN)),
]


@pytest.mark.parametrize(("loss", "p", "t"), ZERO_AND_ONE)
def test_what_both_exclude_costs_nothing(loss: Any, p: Any, t: Any) -> None:
    """And every derivative is finite: no 0 * inf, in no mode."""
    found = every(loss, p, t)
    assert found.value == 0
    assert found.along_nothing == 0
    for derivative in jax.tree.leaves(found):
        assert np.all(np.isfinite(derivative))


@pytest.mark.parametrize(
    ("loss", "value"),
    [
        (jensen_shannon_divergence, LOG2),
        (total_variation_distance, 1.0),
        (hellinger_distance, 1.0),
        *((renyi(a), INF) for a in (0, 0.5, 1, 2, INF)),
    ],
)
def test_distributions_without_a_common_outcome(loss: Any, value: float) -> None:
    found = every(loss, CERTAIN, CERTAIN[[1, 0, 2]])
    np.testing.assert_allclose(found.value, value, rtol=1e-6)
    assert not np.any(np.isnan(found.gradient))


def test_a_model_that_rules_out_what_happens() -> None:
    log_p, t = log(CERTAIN), single([0.5, 0.5, 0.0])
    for loss, target in (
        (kl_divergence, t),
        (generalized_kl_divergence, t),
        (kl_divergence_with_log_targets, log(t)),
        (distil(1.0), log(t)),
    ):
        assert every(loss, log_p, target).value == INF
    np.testing.assert_array_equal(slope(kl_divergence, log_p, t), -t)
    np.testing.assert_array_equal(slope(generalized_kl_divergence, log_p, t), [0.5, -0.5, 0])
    np.testing.assert_array_equal(slope(distil(1.0), log_p, [0, 0, -INF]), [0.5, -0.5, 0])
    np.testing.assert_array_equal(slope(renyi(2.0), CERTAIN, t), [0, -INF, 0])


def test_a_softmax_that_underflowed_is_no_nan() -> None:
    """Where targets are learnt too: the derivative of t log t times that of a softmax is 0."""
    logits, log_p = single([0.0, 200.0]), log([0.5, 0.5])
    for loss in (kl_divergence, generalized_kl_divergence):
        of_logits = jax.jit(jax.grad(lambda x, loss=loss: loss(log_p, jax.nn.softmax(x))))
        np.testing.assert_array_equal(of_logits(logits), [0, 0])


def test_a_target_and_its_distance_may_be_as_small_and_large() -> None:
    log_t, log_p = single([0.0, -100.0, -INF]), single([0.0, -1e30, -INF])
    expected = np.exp(-100.0) * 1e30
    for loss in (kl_divergence_with_log_targets, distil(1.0)):
        np.testing.assert_allclose(every(loss, log_p, log_t).value, expected, rtol=1e-5)


def test_nan_is_seen_at_a_target_of_zero() -> None:
    unknown = single([0.0, np.nan, np.nan])
    for loss in (kl_divergence, generalized_kl_divergence):
        found = every(loss, unknown, CERTAIN)
        assert np.isnan(found.value)
        assert np.all(np.isnan(found.gradient[0]))
        assert np.isnan(every(loss, [0, 0, 0], CERTAIN + unknown).value)
    assert np.isnan(every(kl_divergence_with_log_targets, unknown, log(CERTAIN)).value)


def test_logits_that_have_no_softmax() -> None:
    for bad in ([-INF] * 3, [INF] * 3, [np.nan, 0.0, 0.0]):
        assert np.isnan(every(distil(1.0), bad, [0, 0, 0]).value)
        assert np.isnan(every(distil(1.0), [0, 0, 0], bad).value)


def test_excluded_entries_add_no_mass() -> None:
    """e^0 is not 0: a mask has to take out the model's mass too."""
    log_p, t = log([2.0, 7.0]), single([1.0, 3.0])
    found = generalized_kl_divergence(log_p, t, where=np.array([True, False]))
    np.testing.assert_allclose(found, 1 - LOG2, rtol=1e-6)
    s, z = single([[1.0, 2.0, 9.0], [0.0, 3.0, -9.0]])
    mask = np.array([True, True, False])
    found = distillation_loss(s, z, where=mask)
    np.testing.assert_allclose(found, distillation_loss(s[:2], z[:2]), rtol=1e-6)


def test_alias_and_axes() -> None:
    assert jaxloss.convex_kl_divergence is generalized_kl_divergence
    p, t = single(np.random.default_rng(0).dirichlet(np.ones(4), (2, 2, 3)))
    log_p = log(p)
    each = kl_divergence(log_p, t)
    assert each.shape == (2, 3)
    turned = kl_divergence(log_p.swapaxes(1, 2), t.swapaxes(1, 2), 1)
    np.testing.assert_allclose(turned, each, rtol=1e-5)

    np.testing.assert_allclose(kl_divergence(log_p, t, (1, 2)), np.sum(each, 1), rtol=1e-5)
    np.testing.assert_allclose(kl_divergence(log_p, t, None), np.sum(each), rtol=1e-5)
    masked = kl_divergence(log_p, t, -1, np.full((1, 1, 4), True))
    np.testing.assert_allclose(masked, each, rtol=1e-6)


def test_a_hyperparameter_for_each_loss() -> None:
    p, t = np.stack([P, P, P]), np.stack([T, T, T])
    orders = single([0.5, 1.0, INF])
    each = [every(renyi(a), P, T).value for a in orders]
    np.testing.assert_allclose(renyi_divergence(p, t, alpha=orders), each, rtol=1e-6)
    heats = single([0.5, 1.0, 20.0])
    each = [every(distil(h), P, T).value for h in heats]
    np.testing.assert_allclose(distillation_loss(p, t, temperature=heats), each, rtol=1e-6)
    with pytest.raises(ValueError, match="alpha must be a scalar"):
        renyi_divergence(p, t, alpha=np.ones((3, 3)))


def test_class_numbers_are_refused_by_the_loss_that_takes_them() -> None:
    for loss in (kl_divergence, generalized_kl_divergence, total_variation_distance):
        with pytest.raises(ValueError, match="softmax_cross_entropy_with_integer_labels"):
            loss(np.zeros((4, 3)), np.array([0, 1, 2, 0]))


MOST = 40


def draw(seed: int, classes: int, sharpness: float) -> tuple[np.ndarray, np.ndarray]:
    """Distributions over some of `MOST` classes: of one shape, for all to share their programs."""
    logits = np.full((2, 32, MOST), -INF)
    logits[..., :classes] = np.random.default_rng(seed).normal(0, sharpness, (2, 32, classes))
    p, t = single(np.exp(logits) / np.sum(np.exp(logits), -1, keepdims=True))
    # Smaller numbers XLA takes for 0, and NumPy does not.
    tiny = np.finfo(np.float32).tiny
    return np.where(p < tiny, 0, p), np.where(t < tiny, 0, t)


PAIRS = given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([2, 7, MOST]),
    st.sampled_from([1e-4, 0.1, 1.0, 5.0, 20.0]),
)
FEW = settings(max_examples=12)
# What sums of 40 probabilities that are rounded to float32 add.
SLACK = 1e-6


@PAIRS
@FEW
def test_inequalities(seed: int, classes: int, sharpness: float) -> None:
    p, t = draw(seed, classes, sharpness)
    kl = np.asarray(kl_divergence(log(p), t))
    tv = np.asarray(total_variation_distance(p, t))
    js = np.asarray(jensen_shannon_divergence(p, t))
    h = np.asarray(hellinger_distance(p, t))
    assert np.all(2 * tv**2 <= kl + SLACK)  # Pinsker
    assert np.all((js >= 0) & (js <= LOG2 + SLACK))
    assert np.all(js <= tv * LOG2 + SLACK)  # Lin, theorem 3
    assert np.all((h >= 0) & (h <= 1 + SLACK))
    assert np.all((h**2 <= tv + SLACK) & (tv <= h * np.sqrt(2 - np.minimum(h**2, 2)) + SLACK))
    assert np.all((tv >= 0) & (tv <= 1 + SLACK))
    assert np.all(np.exp(-kl / 2) <= 1 - h**2 + SLACK)  # orders 1/2 and 1


@PAIRS
@FEW
def test_symmetries_and_sums(seed: int, classes: int, sharpness: float) -> None:
    p, t = draw(seed, classes, sharpness)
    for loss in (jensen_shannon_divergence, total_variation_distance, hellinger_distance):
        np.testing.assert_allclose(loss(p, t), loss(t, p), rtol=1e-6)
        np.testing.assert_array_equal(loss(p, p), 0)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=SLACK)
    log_p, log_t = log(p), log(t)
    close(kl_divergence_with_log_targets(log_p, log_t), kl_divergence(log_p, t))
    close(generalized_kl_divergence(log_p, t), kl_divergence(log_p, t))
    # In float64: XLA takes half of the smallest numbers for 0.
    middle = log(np.float64(p) / 2 + np.float64(t) / 2)
    halves = [kl_divergence(middle, x) for x in (p, t)]
    close(jensen_shannon_divergence(p, t), 0.5 * (halves[0] + halves[1]))
    close(distillation_loss(log_p, log_t), kl_divergence(log_p, t))


@PAIRS
@FEW
def test_renyi_divergences_grow_with_their_order(seed: int, classes: int, sharpness: float) -> None:
    p, t = draw(seed, classes, sharpness)
    orders = [0.0, 0.3, 0.5, 0.9, 1.0, 1.1, 2.0, 8.0, 100.0, INF]
    values = [np.asarray(renyi_divergence(p, t, alpha=a)) for a in orders]
    for low, high in itertools.pairwise(values):
        assert np.all(low <= high * (1 + 1e-6) + 20 * SLACK)
    np.testing.assert_allclose(values[4], kl_divergence(log(p), t), rtol=1e-5, atol=SLACK)
    h = np.asarray(hellinger_distance(p, t), float)
    bhattacharyya = np.asarray(renyi_divergence(p, t, alpha=0.5))
    np.testing.assert_allclose(np.exp(-bhattacharyya / 2), 1 - h**2, atol=SLACK)
    # Skew symmetry: (1 - a) D_a(t, p) = a D_(1 - a)(p, t).
    mirrored = renyi_divergence(t, p, alpha=0.7)
    np.testing.assert_allclose(0.7 * values[1], 0.3 * mirrored, rtol=1e-4, atol=SLACK)


@jax.jit
def in_order(alpha: Any, p: Any, t: Any) -> Any:
    return jax.value_and_grad(lambda alpha: renyi_divergence(p, t, alpha=alpha))(alpha)


@pytest.mark.parametrize("alpha", [1 - 1e-3, 1 + 1e-3, 1 - 2**-10, 1 + 2**-12])
def test_order_one_is_a_limit(alpha: float) -> None:
    # Of eighths and sixteenths, whose sums are 1 without rounding.
    p, t = single([1, 3, 2, 2]) / 8, single([5, 1, 8, 2]) / 16
    value, slope = in_order(alpha, p, t)
    at_one, slope_at_one = in_order(1.0, p, t)
    ratio = np.log(np.asarray(t, float) / np.asarray(p, float))
    mean = np.sum(t * ratio)
    np.testing.assert_allclose(at_one, mean, rtol=1e-6)
    np.testing.assert_allclose(slope_at_one, np.sum(t * (ratio - mean) ** 2) / 2, rtol=1e-6)
    step = float(np.float32(alpha)) - 1
    np.testing.assert_allclose(value, at_one + step * slope_at_one, rtol=3e-6)
    np.testing.assert_allclose(slope, slope_at_one, rtol=3e-3)


@pytest.mark.parametrize("gap", [1e-1, 1e-3, 1e-5])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0, 1e6])
def test_a_student_near_its_teacher(gap: float, temperature: float) -> None:
    """Its loss is of the size of the squared gap, and still known to its last digits."""
    z = np.random.default_rng(0).normal(0, 2, (8, 100)).astype(np.float32)
    s = (z + gap * np.random.default_rng(1).normal(size=z.shape)).astype(np.float32)
    a, b = s.astype(np.longdouble) / temperature, z.astype(np.longdouble) / temperature
    log_p = a - np.log(np.sum(np.exp(a), -1, keepdims=True))
    log_t = b - np.log(np.sum(np.exp(b), -1, keepdims=True))
    t, d = np.exp(log_t), log_p - log_t
    expected = temperature**2 * np.sum(t * (np.expm1(d) - d), -1)
    found, (slope,) = evaluated(distillation_loss, s, z, temperature=single(temperature))
    np.testing.assert_allclose(found, expected.astype(float), rtol=3e-6)
    exact = (temperature * t * np.expm1(d)).astype(float)
    np.testing.assert_allclose(slope, exact, rtol=0, atol=1e-6 * np.abs(exact).max())


def test_no_offset_of_the_logits_matters() -> None:
    s, z = single([[[1.0, 0.5, -2.0]], [[0.25, 3.0, 1.0]]])
    plain = distillation_loss(s, z, temperature=3.0)
    far = distillation_loss(s + 65536.0, z - 4096.0, temperature=3.0)
    np.testing.assert_array_equal(far, plain)


def test_near_distributions_keep_their_digits() -> None:
    p = np.random.default_rng(0).dirichlet(np.ones(50), 8).astype(np.float32)
    t = (p * (1 + 1e-4 * np.random.default_rng(1).normal(size=p.shape))).astype(np.float32)
    a, b = p.astype(np.longdouble), t.astype(np.longdouble)
    m = (a + b) / 2
    exact = np.sum(a * np.log(a / m) + b * np.log(b / m), -1) / 2
    found = jensen_shannon_divergence(p, t)
    np.testing.assert_allclose(found, exact.astype(float), rtol=1e-5)
    exact = np.sqrt(np.sum((np.sqrt(a) - np.sqrt(b)) ** 2, -1) / 2)
    np.testing.assert_allclose(hellinger_distance(p, t), exact.astype(float), rtol=1e-6)


def test_distillation_gradients_sum_to_zero() -> None:
    s, z = single(np.random.default_rng(0).normal(0, 5, (2, 16, 30)))
    _, slopes = evaluated(distillation_loss, s, z, wrt=(0, 1), temperature=single(2.5))
    for slope in slopes:
        np.testing.assert_allclose(np.sum(slope, -1), 0, atol=1e-5)


def test_equal_vectors_have_gradient_zero() -> None:
    for loss in (hellinger_distance, total_variation_distance, jensen_shannon_divergence):
        found = every(loss, P, P)
        np.testing.assert_array_equal(found.gradient, np.zeros((2, 3)))
        assert np.all(np.isfinite(found.hessian[0][0]))


def test_second_derivatives_by_hand() -> None:
    # sum t^2 / p = 2 with the second derivative 2 / p in an absent target.
    of_order_2 = jax.hessian(lambda t: renyi_divergence(jnp.full(2, 0.5), t, alpha=2.0))
    assert of_order_2(jnp.array([0.0, 1.0]))[0, 0] == pytest.approx(2 / 0.5 / 2)
    # log(p / m) has the slope t / (p (p + t)), near zero too.
    p, t = jnp.array([1e-30, 1.0]), jnp.array([1e-30, 1.0])
    of_js = jax.hessian(jensen_shannon_divergence)(p, t)
    assert float(of_js[0, 0]) == pytest.approx(0.25e30, rel=1e-6)
    # A student far from its teacher costs T^2 (1e5 / T - log 2), of which 1e5 T has none in T.
    student, teacher = jnp.array([1e5, 0.0, 0.0]), jnp.array([-1e5, 0.0, 0.0])
    in_temperature = jax.hessian(lambda x: distillation_loss(student, teacher, temperature=x))
    assert float(in_temperature(1.7)) == pytest.approx(-2 * np.log(2), rel=1e-6)
