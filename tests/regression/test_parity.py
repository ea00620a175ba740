"""The same numbers as PyTorch, optax, Keras, scikit-learn and SciPy, where those are right.

Every row compares values and derivatives; the tests at the end record where a peer is off, so
that one learns when it no longer is. A peer that is not installed is skipped.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxloss

# Read when Keras is imported.
os.environ["KERAS_BACKEND"] = "jax"

EPS = float(np.finfo(np.float32).eps)
Derivatives = list[np.ndarray]


class Row(NamedTuple):
    """A loss here, the same loss of a peer, and what both are given.

    Each side keeps within a few eps of float32 of the truth, so the two may be 8 apart: relative
    to the result, and to `largest` where one side computes a sum of terms up to that size.
    """

    name: str
    ours: Callable[..., Any]
    theirs: Callable[..., Any]
    inputs: tuple[np.ndarray, ...]
    largest: Any = 0.0


def rows(*table: Row) -> Any:
    return pytest.mark.parametrize("row", table, ids=[row.name for row in table])


def evaluated(loss: Callable[..., Any], *inputs: np.ndarray) -> tuple[np.ndarray, Derivatives]:
    """The losses, and the derivatives of their sum in each input."""

    def summed(*inputs):
        losses = loss(*inputs)
        return jnp.sum(losses), losses

    slopes = jax.grad(summed, tuple(range(len(inputs))), has_aux=True)
    derivatives, losses = slopes(*map(jnp.asarray, inputs))
    return np.asarray(losses), list(map(np.asarray, derivatives))


@contextmanager
def as_jax_ships():
    """JAX without the strictness of these tests, which the peers' code does not keep."""
    with ExitStack() as stack:
        stack.enter_context(jax.numpy_dtype_promotion("standard"))
        stack.enter_context(jax.numpy_rank_promotion("allow"))
        yield


def close(row: Row, ours: Any, theirs: Any) -> None:
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert ours.shape == theirs.shape
    allowed = 8 * EPS * (np.abs(theirs) + row.largest)
    wrong = ~(np.abs(ours - theirs) <= allowed)
    assert not np.any(wrong), (ours[wrong], theirs[wrong])


def compare(row: Row, theirs: tuple[Any, Derivatives]) -> None:
    ours = evaluated(row.ours, *row.inputs)
    close(row, ours[0], theirs[0])
    for mine, other in zip(ours[1], theirs[1], strict=True):
        close(row, mine, other)


def of_torch(loss: Callable[..., Any], *inputs: np.ndarray) -> tuple[np.ndarray, Derivatives]:
    torch = pytest.importorskip("torch")
    tensors = [torch.tensor(x, requires_grad=True) for x in inputs]
    losses = loss(torch.nn.functional, *tensors)
    losses.sum().backward()
    return losses.detach().numpy(), [x.grad.numpy() for x in tensors]


def of_optax(loss: Callable[..., Any], *inputs: np.ndarray) -> tuple[np.ndarray, Derivatives]:
    losses = pytest.importorskip("optax.losses")
    with as_jax_ships():
        return evaluated(lambda *x: loss(losses, *x), *inputs)


def of_keras(loss: Callable[..., Any], *inputs: np.ndarray) -> tuple[np.ndarray, Derivatives]:
    keras = pytest.importorskip("keras")
    with as_jax_ships():
        return evaluated(lambda *x: loss(keras.losses, *x), *inputs)


def float32(*arrays: Any) -> tuple[np.ndarray, ...]:
    return tuple(np.asarray(array, np.float32) for array in arrays)


_RNG = np.random.default_rng(3)
# Errors on both sides of every default, and some that are not binary fractions.
ORDINARY = float32(3 * _RNG.normal(size=32), 2 * _RNG.normal(size=32))
# Errors exactly 0, and exactly at 1/2 and 1, where smooth_l1 and Huber change.
_KINKS = np.array([0.0, 0.0, 0.5, -0.5, 1.0, -1.0, 40.0, -3e4])
_FROM = np.array([0.0, 2.0, 1.0, 1.0, 1.0, -2.0, 1.0, 8.0])
KINKS = float32(_FROM + _KINKS, _FROM)
POINTS = tuple(np.concatenate(pair) for pair in zip(ORDINARY, KINKS, strict=True))
WEIGHTS = float32(_RNG.uniform(size=POINTS[0].shape))[0]
# Logarithms of means, and means, against amounts.
AMOUNTS = float32([0.125, 1.0, 2.0, 3.0, 0.5, 7.0, 20.0, 1.0])[0]
COUNTS = float32([0.0, 1.0, 2.0, 3.0, 0.0, 7.0, 20.0, 1.0])[0]
LOGARITHMS = float32([-3.0, 0.0, 0.7, 1.3, 2.0, 1.5, 3.0, -0.4])[0]
MEANS = float32(np.exp(LOGARITHMS))[0]
# The largest terms of the Poisson likelihood and of its derivatives.
POISSON = MEANS + COUNTS * (1 + np.abs(LOGARITHMS) + 1 / MEANS) + 1
VECTORS = float32(_RNG.normal(size=(6, 5)), _RNG.normal(size=(6, 5)))


@rows(
    Row("l1", jaxloss.l1_loss, lambda F, p, t: F.l1_loss(p, t, reduction="none"), POINTS),
    Row("mse", jaxloss.squared_error, lambda F, p, t: F.mse_loss(p, t, reduction="none"), POINTS),
    *(
        Row(
            f"smooth_l1-{beta}",
            lambda p, t, beta=beta: jaxloss.smooth_l1_loss(p, t, beta=beta),
            lambda F, p, t, beta=beta: F.smooth_l1_loss(p, t, reduction="none", beta=beta),
            POINTS,
        )
        for beta in (0.0, 0.5, 1.0, 3.0)
    ),
    *(
        Row(
            f"huber-{delta}",
            lambda p, t, delta=delta: jaxloss.huber_loss(p, t, delta=delta),
            lambda F, p, t, delta=delta: F.huber_loss(p, t, reduction="none", delta=delta),
            POINTS,
        )
        for delta in (0.5, 1.0, 3.0, float("inf"))
    ),
    Row(
        "l1-weighted-mean",
        lambda p, t: jaxloss.l1_loss(p, t, weights=WEIGHTS, reduction="mean"),
        lambda F, p, t: F.l1_loss(p, t, weight=p.new_tensor(WEIGHTS)),
        POINTS,
    ),
    Row(
        "mse-weighted-mean",
        lambda p, t: jaxloss.squared_error(p, t, weights=WEIGHTS, reduction="mean"),
        lambda F, p, t: F.mse_loss(p, t, weight=p.new_tensor(WEIGHTS)),
        POINTS,
    ),
    Row(
        "poisson",
        jaxloss.poisson_nll_loss,
        lambda F, p, t: F.poisson_nll_loss(p, t, reduction="none"),
        (LOGARITHMS, COUNTS),
        largest=POISSON,
    ),
    Row(
        "poisson-of-means",
        lambda p, t: jaxloss.poisson_nll_loss(p, t, log_input=False, eps=1e-8),
        lambda F, p, t: F.poisson_nll_loss(p, t, log_input=False, reduction="none"),
        (MEANS, COUNTS),
        largest=POISSON,
    ),
    *(
        Row(
            f"gaussian{'-full' * full}",
            lambda p, t, v, full=full: jaxloss.gaussian_nll_loss(p, t, v, full=full, eps=1e-6),
            lambda F, p, t, v, full=full: F.gaussian_nll_loss(p, t, v, full, reduction="none"),
            # The last variance lies below eps.
            (*KINKS, *float32([0.5, 1.0, 2.0, 4.0, 0.1, 3.0, 9.0, 1e-8])),
            largest=2,
        )
        for full in (False, True)
    ),
    Row(
        "cosine_similarity",
        jaxloss.cosine_similarity,
        lambda F, p, t: F.cosine_similarity(p, t, dim=-1),
        VECTORS,
        largest=1,
    ),
)
def test_torch(row):
    compare(row, of_torch(row.theirs, *row.inputs))


ENTRIES = _RNG.uniform(size=(6, 5)) < 0.6
ENTRIES[0] = True


@rows(
    Row("squared_error", jaxloss.squared_error, lambda o, p, t: o.squared_error(p, t), POINTS),
    Row("l2_loss", jaxloss.l2_loss, lambda o, p, t: o.l2_loss(p, t), POINTS),
    Row("l2_loss-of-errors", jaxloss.l2_loss, lambda o, p: o.l2_loss(p), POINTS[:1]),
    *(
        Row(
            f"huber_loss-{delta}",
            lambda p, t, delta=delta: jaxloss.huber_loss(p, t, delta=delta),
            lambda o, p, t, delta=delta: o.huber_loss(p, t, delta=delta),
            POINTS,
        )
        for delta in (0.0, 0.5, 1.0, 3.0)
    ),
    # Optax subtracts log 2 from a logarithm.
    Row("log_cosh", jaxloss.log_cosh, lambda o, p, t: o.log_cosh(p, t), POINTS, largest=1),
    *(
        Row(
            f"{name}-{label}",
            lambda p, t, name=name, options=options: getattr(jaxloss, name)(p, t, **options),
            lambda o, p, t, name=name, options=options: getattr(o, name)(p, t, **options),
            VECTORS,
            largest=1,
        )
        for name in ("cosine_similarity", "cosine_distance")
        for label, options in {
            "plain": {},
            # Above some of the squared norms and below others.
            "epsilon": {"epsilon": 5.0},
            "axis": {"axis": 0},
            "where": {"where": ENTRIES},
        }.items()
    ),
)
def test_optax(row):
    compare(row, of_optax(row.theirs, *row.inputs))


# Options of optax that mean something else here.
OTHER_MEANING = {
    ("ctc_loss", "log_epsilon"): "the impossible costs inf by default, not about 1e5",
    ("ctc_loss_with_forward_probs", "log_epsilon"): "the impossible costs inf by default",
    ("dice_loss", "reduction"): "over the batch, as in every loss",
    ("dice_loss", "class_reduction"): "what optax calls reduction",
}


def test_what_optax_takes_is_taken_here():
    theirs = pytest.importorskip("optax.losses")
    shared = [name for name in dir(theirs) if hasattr(jaxloss, name) and not name.startswith("_")]
    regression = {"squared_error", "l2_loss", "huber_loss", "log_cosh"}
    assert regression | {"cosine_similarity", "cosine_distance"} <= set(shared)
    by_position = inspect.Parameter.POSITIONAL_OR_KEYWORD
    for name in shared:

        def alike(function: Any, name: str = name) -> list[inspect.Parameter]:
            parameters = inspect.signature(function).parameters.values()
            return [x for x in parameters if (name, x.name) not in OTHER_MEANING]

        theirs_first, ours = alike(getattr(theirs, name)), alike(getattr(jaxloss, name))
        named = {x.name: x for x in ours}
        for i, asked in enumerate(theirs_first):
            # What goes by keyword alone has no place.
            taken = named[asked.name] if asked.kind is asked.KEYWORD_ONLY else ours[i]
            assert (name, asked.name, asked.default) == (name, taken.name, taken.default)
            assert taken.kind in (asked.kind, by_position), f"{name}: {asked}"
        assert len(ours) >= len(theirs_first)


def _last(x: Any) -> Any:
    """Keras takes the mean over the last axis."""
    return x[..., None]


# Keras has a slope of its own choice where an absolute error is 0.
OFF_ZERO = tuple(x[POINTS[0] != POINTS[1]] for x in POINTS)


@rows(
    Row(
        "mean_squared_error",
        jaxloss.squared_error,
        lambda k, p, t: k.mean_squared_error(_last(t), _last(p)),
        POINTS,
    ),
    Row(
        "mean_absolute_error",
        jaxloss.l1_loss,
        lambda k, p, t: k.mean_absolute_error(_last(t), _last(p)),
        OFF_ZERO,
    ),
    Row(
        "mean_absolute_percentage_error",
        jaxloss.absolute_percentage_error,
        lambda k, p, t: k.mean_absolute_percentage_error(_last(t), _last(p)) / 100,
        OFF_ZERO,
        # Keras's derivative in targets is the difference of 1 / t and e / t^2.
        largest=1 / np.maximum(np.abs(OFF_ZERO[1]), 1e-7),
    ),
    Row(
        "mean_squared_logarithmic_error",
        jaxloss.squared_logarithmic_error,
        lambda k, p, t: k.mean_squared_logarithmic_error(_last(t), _last(p)),
        (MEANS, AMOUNTS),
        # The difference of two logarithms up to 3.
        largest=3,
    ),
    *(
        Row(
            f"huber-{delta}",
            lambda p, t, delta=delta: jaxloss.huber_loss(p, t, delta=delta),
            lambda k, p, t, delta=delta: k.huber(_last(t), _last(p), delta),
            POINTS,
        )
        for delta in (0.5, 1.0, 3.0)
    ),
    Row(
        "log_cosh",
        jaxloss.log_cosh,
        lambda k, p, t: k.log_cosh(_last(t), _last(p)),
        POINTS,
        # e + softplus(-2 e) - log 2, of which the first two cancel below 0.
        largest=10,
    ),
    Row(
        "cosine_similarity",
        jaxloss.cosine_similarity,
        lambda k, p, t: -k.cosine_similarity(t, p),
        VECTORS,
        largest=1,
    ),
    Row(
        "poisson",
        lambda p, t: jaxloss.poisson_nll_loss(p, t, log_input=False, eps=1e-7),
        lambda k, p, t: k.poisson(_last(t), _last(p)),
        (MEANS, COUNTS),
        largest=POISSON,
    ),
)
def test_keras(row):
    compare(row, of_keras(row.theirs, *row.inputs))


def _tweedie(power: float, log_input: bool) -> Callable[..., Any]:
    return lambda p, t: jaxloss.tweedie_loss(p, t, power=power, log_input=log_input)


def _tweedie_terms(power: float) -> np.ndarray:
    """mu^(2 - p) and y mu^(1 - p), over what they are divided by, and the amounts."""
    high, low = MEANS ** (2 - power), AMOUNTS * MEANS ** (1 - power)
    return high / (abs(2 - power) or 1) + low / (abs(1 - power) or 1) + POISSON


@rows(
    Row("squared", jaxloss.l2_loss, lambda m: m.HalfSquaredError(), POINTS),
    Row("absolute", jaxloss.l1_loss, lambda m: m.AbsoluteError(), OFF_ZERO),
    *(
        Row(
            f"pinball-{q}",
            lambda p, t, q=q: jaxloss.quantile_loss(p, t, quantile=q),
            lambda m, q=q: m.PinballLoss(quantile=q),
            OFF_ZERO,
        )
        for q in (0.1, 0.5, 0.75)
    ),
    *(
        Row(
            f"huber-{delta}",
            lambda p, t, delta=delta: jaxloss.huber_loss(p, t, delta=delta),
            lambda m, delta=delta: m.HuberLoss(delta=delta),
            POINTS,
        )
        for delta in (0.5, 1.0)
    ),
    Row(
        "poisson",
        jaxloss.poisson_nll_loss,
        lambda m: m.HalfPoissonLoss(),
        (LOGARITHMS, COUNTS),
        largest=POISSON,
    ),
    Row(
        "gamma",
        jaxloss.gamma_nll_loss,
        lambda m: m.HalfGammaLoss(),
        (LOGARITHMS, AMOUNTS),
        largest=np.abs(LOGARITHMS) + AMOUNTS / MEANS,
    ),
    *(
        Row(
            f"tweedie-{power}",
            _tweedie(power, True),
            lambda m, power=power: m.HalfTweedieLoss(power=power),
            (LOGARITHMS, AMOUNTS if power >= 2 else COUNTS),
            largest=_tweedie_terms(power),
        )
        for power in (-1.0, 0.0, 0.5, 1.0, 1.5, 2.0, 3.0)
    ),
)
def test_scikit_learn_losses(row):
    peer = row.theirs(pytest.importorskip("sklearn._loss.loss"))
    predictions, targets = (np.asarray(x, np.float64) for x in row.inputs)
    losses, derivatives = evaluated(row.ours, *row.inputs)
    close(row, losses, peer.loss(targets, predictions))
    close(row, derivatives[0], peer.gradient(targets, predictions))


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 1.5, 2.0, 3.0])
def test_scikit_learn_tweedie_of_means_differs_by_what_targets_alone_decide(power):
    module = pytest.importorskip("sklearn._loss.loss")
    peer = module.HalfTweedieLossIdentity(power=power)
    predictions, targets = MEANS.astype(np.float64), AMOUNTS.astype(np.float64)
    losses, derivatives = evaluated(_tweedie(power, False), MEANS, AMOUNTS)
    at_truth, _ = evaluated(_tweedie(power, False), AMOUNTS, AMOUNTS)
    row = Row("", _tweedie(power, False), peer, (MEANS, AMOUNTS), _tweedie_terms(power))
    # There the loss is half the deviance, which is 0 at the truth.
    close(row, losses - at_truth, peer.loss(targets, predictions))
    close(row, derivatives[0], peer.gradient(targets, predictions))


def _deviance(power: float) -> Callable[..., Any]:
    def deviance(p, t, w):
        half = _tweedie(power, False)(p, t) - _tweedie(power, False)(t, t)
        return jaxloss.reduce(2 * half, weights=w, reduction="mean")

    return deviance


@rows(
    *(
        Row(
            f"mean_pinball_loss-{q}",
            lambda p, t, w, q=q: jaxloss.quantile_loss(
                p, t, quantile=q, weights=w, reduction="mean"
            ),
            lambda m, p, t, w, q=q: m.mean_pinball_loss(t, p, alpha=q, sample_weight=w),
            (*POINTS, WEIGHTS),
        )
        for q in (0.1, 0.5, 0.9)
    ),
    Row(
        "mean_absolute_percentage_error",
        lambda p, t, w: jaxloss.absolute_percentage_error(p, t, weights=w, reduction="mean"),
        lambda m, p, t, w: m.mean_absolute_percentage_error(t, p, sample_weight=w),
        # Where a target is 0 the two read different small numbers instead.
        tuple(x[POINTS[1] != 0] for x in (*POINTS, WEIGHTS)),
    ),
    Row(
        "mean_squared_log_error",
        lambda p, t, w: jaxloss.squared_logarithmic_error(p, t, weights=w, reduction="mean"),
        lambda m, p, t, w: m.mean_squared_log_error(t, p, sample_weight=w),
        (MEANS, COUNTS, WEIGHTS[:8]),
    ),
    *(
        Row(
            f"mean_tweedie_deviance-{power}",
            _deviance(power),
            lambda m, p, t, w, power=power: m.mean_tweedie_deviance(
                t, p, sample_weight=w, power=power
            ),
            (MEANS, AMOUNTS, WEIGHTS[:8]),
            largest=np.max(_tweedie_terms(power)),
        )
        for power in (0, 1, 1.5, 2, 3)
    ),
)
def test_scikit_learn_metrics(row):
    metrics = pytest.importorskip("sklearn.metrics")
    expected = row.theirs(metrics, *(np.asarray(x, np.float64) for x in row.inputs))
    close(row, row.ours(*row.inputs), expected)


SCALES = float32([0.5, 1.0, 2.0, 4.0, 0.1, 3.0, 9.0, 1.0])[0]
DEGREES = float32([1.0, 2.0, 3.5, 5.0, 30.0, 0.5, 1e3, 1e6])[0]
DISPERSIONS = float32([0.5, 1.0, 2.0, 0.1, 3.0, 0.01, 0.25, 7.0])[0]
MOVED = float32([0.3, -2.0, 1.5, 4.0, -0.2, 9.0, -20.0, 2.0], [0.0, 1.0, 1.0, -4.0, 0.3, 1, 5, 6])


@rows(
    Row(
        "norm",
        lambda m, y, s: jaxloss.gaussian_nll_loss(m, y, s * s, full=True),
        lambda stats, m, y, s: stats.norm.logpdf(y, m, s),
        (*MOVED, SCALES),
        largest=5,
    ),
    Row(
        "laplace",
        jaxloss.laplace_nll_loss,
        lambda stats, m, y, s: stats.laplace.logpdf(y, m, s),
        (*MOVED, SCALES),
        largest=5,
    ),
    Row(
        "t",
        jaxloss.student_t_nll_loss,
        lambda stats, m, y, s, df: stats.t.logpdf(y, df, m, s),
        (*MOVED, SCALES, DEGREES),
        # The gamma functions at 500,000 cancel to eps * 6e6 of float64, nothing here.
        largest=5,
    ),
    Row(
        "cauchy",
        lambda m, y, s: jaxloss.student_t_nll_loss(m, y, s, 1.0),
        lambda stats, m, y, s: stats.cauchy.logpdf(y, m, s),
        (*MOVED, SCALES),
        largest=5,
    ),
    Row(
        "poisson",
        lambda m, y: jaxloss.poisson_nll_loss(m, y, log_input=False, full=True),
        lambda stats, m, y: stats.poisson.logpmf(y, m),
        (MEANS, COUNTS),
        largest=POISSON,
    ),
    Row(
        "nbinom",
        lambda m, y, a: jaxloss.negative_binomial_nll_loss(m, y, a, log_input=False),
        lambda stats, m, y, a: stats.nbinom.logpmf(y, 1 / a, 1 / (1 + a * m)),
        (MEANS, COUNTS, DISPERSIONS),
        largest=POISSON,
    ),
)
def test_scipy_log_densities(row):
    stats = pytest.importorskip("scipy.stats")
    exact = [np.asarray(x, np.float64) for x in row.inputs]
    losses, derivatives = evaluated(row.ours, *row.inputs)
    close(row, losses, -row.theirs(stats, *exact))
    for i, derivative in enumerate(derivatives):
        # Counts have no density between them.
        if row.name in ("poisson", "nbinom") and i == 1:
            continue
        # A central difference, good to the square of its relative step: 1e-10.
        step = np.zeros((len(exact), 1)) * exact[0]
        step[i] = 1e-5 * np.where(exact[i] == 0, 0.1, np.abs(exact[i]))
        after = row.theirs(stats, *(x + h for x, h in zip(exact, step, strict=True)))
        before = row.theirs(stats, *(x - h for x, h in zip(exact, step, strict=True)))
        close(row, derivative, (before - after) / (2 * step[i]))


def test_keras_pushes_an_exact_prediction_where_torch_does_not():
    """JAX's own slope of |x| at 0 is 1."""
    exact = float32([0.0, 2.0], [0.0, 2.0])
    _, (slopes, _) = of_keras(lambda k, p, t: k.mean_absolute_error(_last(t), _last(p)), *exact)
    np.testing.assert_array_equal(np.abs(slopes), [1, 1])
    for derivative in evaluated(jaxloss.l1_loss, *exact)[1]:
        np.testing.assert_array_equal(derivative, [0, 0])


def test_scikit_learn_pushes_an_exact_prediction():
    module = pytest.importorskip("sklearn._loss.loss")
    exact = np.zeros(1)
    assert module.AbsoluteError().gradient(exact, exact) == -1
    assert module.PinballLoss(quantile=0.9).gradient(exact, exact) == -0.9
    for loss in (jaxloss.l1_loss, lambda p, t: jaxloss.quantile_loss(p, t, quantile=0.9)):
        _, slopes = evaluated(loss, *float32(exact, exact))
        np.testing.assert_array_equal(slopes, np.zeros((2, 1)))


@pytest.mark.parametrize(
    ("peer", "loss"),
    [
        (of_optax, lambda o, e: o.log_cosh(e)),
        (of_keras, lambda k, e: k.log_cosh(_last(jnp.zeros_like(e)), _last(e))),
    ],
    ids=["optax", "keras"],
)
def test_the_log_cosh_of_peers_is_7_percent_off_at_a_thousandth(peer, loss):
    (errors,) = float32([1e-4, 1e-3, -1e-3])
    truth = np.log1p(2 * np.sinh(np.float64(errors) / 2) ** 2)
    wrong = peer(loss, errors)[0] / truth - 1
    assert np.all(np.abs(wrong) > 0.05)
    np.testing.assert_allclose(jaxloss.log_cosh(errors), truth, rtol=8 * EPS)


ROW_AND_COLUMN = np.zeros(4, np.float32), np.zeros((4, 1), np.float32)


def _torch_warns(loss: Callable[..., Any]) -> np.ndarray:
    pytest.importorskip("torch")
    with pytest.warns(UserWarning, match="broadcasting"):
        return of_torch(loss, *ROW_AND_COLUMN)[0]


@pytest.mark.parametrize(
    "broadcast",
    [
        lambda: of_optax(lambda o, p, t: o.huber_loss(p, t), *ROW_AND_COLUMN)[0],
        lambda: of_optax(lambda o, p, t: o.log_cosh(p, t), *ROW_AND_COLUMN)[0],
        lambda: _torch_warns(lambda F, p, t: F.mse_loss(p, t, reduction="none")),
        lambda: of_torch(
            lambda F, p, t: F.poisson_nll_loss(p, t, reduction="none"), *ROW_AND_COLUMN
        )[0],
    ],
    ids=["optax-huber", "optax-log_cosh", "torch-mse", "torch-poisson"],
)
def test_peers_make_a_matrix_of_a_row_and_a_column(broadcast):
    assert broadcast().shape == (4, 4)


def test_keras_and_optax_stretch_one_target_over_a_vector():
    column, matrix = np.ones((4, 1), np.float32), np.ones((4, 3), np.float32)
    assert of_keras(lambda k, p, t: k.mean_squared_error(t, p), matrix, column)[0].shape == (4,)
    assert of_optax(lambda o, p, t: o.cosine_distance(p, t), matrix, column)[0].shape == (4,)
    for loss in (jaxloss.squared_error, jaxloss.cosine_distance):
        with pytest.raises(ValueError, match=r"float32\[4, 3\], targets float32\[4, 1\]"):
            loss(matrix, column)


@pytest.mark.parametrize("name", ["huber_loss", "log_cosh", "squared_error", "poisson_nll_loss"])
def test_a_row_and_a_column_are_refused_here(name):
    with pytest.raises(ValueError, match=r"predictions float32\[4\], targets float32\[4, 1\]"):
        getattr(jaxloss, name)(*ROW_AND_COLUMN)


def test_torch_adds_an_approximation_of_log_factorials():
    """Stirling's, and nothing at all for a count of 1 or less."""
    special = pytest.importorskip("scipy.special")
    inputs = float32([0.0, 0.0, 0.0], [2.0, 3.0, 5.0])
    truth = 1 + special.gammaln(np.float64(inputs[1]) + 1)
    losses, _ = of_torch(
        lambda F, p, t: F.poisson_nll_loss(p, t, full=True, reduction="none"), *inputs
    )
    assert np.all(truth - losses > 0.01)
    np.testing.assert_allclose(jaxloss.poisson_nll_loss(*inputs, full=True), truth, rtol=8 * EPS)


def test_optax_huber_is_nan_at_an_infinite_delta_and_negative_at_a_negative_one():
    (errors,) = float32([1.0, -2.0])
    losses, (slopes,) = of_optax(lambda o, e: o.huber_loss(e, delta=jnp.inf), errors)
    assert np.all(np.isnan(losses) & np.isnan(slopes))
    assert np.all(of_optax(lambda o, e: o.huber_loss(e, delta=-1.0), errors)[0] < 0)
    losses, (slopes,) = evaluated(lambda e: jaxloss.huber_loss(e, delta=jnp.inf), errors)
    np.testing.assert_array_equal(losses, [0.5, 2])
    np.testing.assert_array_equal(slopes, errors)
    losses, (slopes,) = evaluated(lambda e: jaxloss.huber_loss(e, delta=-1.0), errors)
    assert np.all(np.isnan(losses) & np.isnan(slopes))


def test_keras_huber_has_no_derivative_at_an_infinite_error():
    (errors,) = float32([np.inf, -np.inf])
    _, (slopes,) = of_keras(lambda k, p: k.huber(_last(jnp.zeros_like(p)), _last(p)), errors)
    assert np.all(np.isnan(slopes))
    losses, (slopes,) = evaluated(jaxloss.huber_loss, errors)
    np.testing.assert_array_equal(losses, [np.inf, np.inf])
    np.testing.assert_array_equal(slopes, [1, -1])


ZERO_AND_UNIT = float32([[0.0, 0.0, 0.0]], [[1.0, 2.0, 2.0]])


def test_peers_have_no_usable_cosine_at_a_zero_vector():
    losses, (slopes, _) = of_optax(lambda o, a, b: o.cosine_similarity(a, b), *ZERO_AND_UNIT)
    assert np.all(np.isnan(losses))
    assert np.all(np.isnan(slopes))
    _, (slopes, _) = of_keras(lambda k, a, b: -k.cosine_similarity(b, a), *ZERO_AND_UNIT)
    assert np.all(np.isnan(slopes))
    _, (slopes, _) = of_torch(lambda F, a, b: F.cosine_similarity(a, b), *ZERO_AND_UNIT)
    assert np.linalg.norm(slopes) > 1e7


def test_the_cosine_with_a_zero_vector_is_0_here_with_derivative_0():
    losses, slopes = evaluated(jaxloss.cosine_similarity, *ZERO_AND_UNIT)
    np.testing.assert_array_equal(losses, [0])
    np.testing.assert_array_equal(slopes, np.zeros((2, 1, 3)))


@pytest.mark.parametrize("size", [1e20, 1e-25])
def test_optax_loses_the_cosine_of_large_and_small_vectors(size):
    (vector,) = float32(ZERO_AND_UNIT[1] * size)
    losses, _ = of_optax(lambda o, a: o.cosine_similarity(a, ZERO_AND_UNIT[1]), vector)
    assert losses[0] in (0, np.inf)
    ours = jaxloss.cosine_similarity(vector, ZERO_AND_UNIT[1])
    np.testing.assert_allclose(ours, [1], rtol=8 * EPS)


def test_optax_has_vectors_at_a_negative_distance_from_themselves():
    vectors = VECTORS[0].repeat(8, axis=0) * np.arange(1, 49, dtype=np.float32)[:, None]
    assert np.any(of_optax(lambda o, a: o.cosine_distance(a, a), vectors)[0] < 0)
    ours = np.asarray(jaxloss.cosine_distance(vectors, vectors))
    assert np.all((ours >= 0) & (ours < EPS))


def test_optax_lets_a_masked_nan_into_the_derivative():
    dirty = float32([[1.0, 2.0, np.nan]], ZERO_AND_UNIT[1])
    kept = np.array([[True, True, False]])
    _, (slopes, _) = of_optax(lambda o, a, b: o.cosine_similarity(a, b, where=kept), *dirty)
    assert np.any(np.isnan(slopes))
    losses, slopes = evaluated(lambda a, b: jaxloss.cosine_similarity(a, b, where=kept), *dirty)
    np.testing.assert_allclose(losses, [1], rtol=8 * EPS)
    np.testing.assert_allclose(slopes, np.zeros((2, 1, 3)), atol=8 * EPS)


def test_keras_lets_a_nan_of_weight_0_into_the_mean():
    keras = pytest.importorskip("keras")
    (errors,) = float32([np.nan, 1.0])
    with as_jax_ships():
        loss = keras.losses.MeanSquaredError()
        value = loss(jnp.zeros((2, 1)), errors[:, None], sample_weight=jnp.array([0.0, 1.0]))
    assert np.isnan(value)
    assert jaxloss.squared_error(errors, where=np.array([False, True]), reduction="mean") == 1


def test_keras_leaves_predictions_below_0_without_derivative_in_the_logarithmic_error():
    inputs = float32([-0.5, -0.5], [1.0, 0.25])
    losses, (slopes, _) = of_keras(
        lambda k, p, t: k.mean_squared_logarithmic_error(_last(t), _last(p)), *inputs
    )
    np.testing.assert_array_equal(slopes, [0, 0])
    truth = (np.log(0.5) - np.log1p(np.float64(inputs[1]))) ** 2
    assert np.all(truth - losses > 0.5)
    losses, (slopes, _) = evaluated(jaxloss.squared_logarithmic_error, *inputs)
    np.testing.assert_allclose(losses, truth, rtol=8 * EPS)
    np.testing.assert_allclose(slopes, -2 * np.sqrt(truth) / 0.5, rtol=8 * EPS)


def test_torch_huber_and_keras_divide_a_weighted_mean_by_the_count():
    """PyTorch's own l1 and mse divide by the sum of the weights."""
    errors, weights = float32([1.0, 1.0], [1.0, 3.0])
    losses, _ = of_torch(lambda F, e: F.huber_loss(e, 0 * e, weight=e.new_tensor(weights)), errors)
    assert losses == 1
    keras = pytest.importorskip("keras")
    with as_jax_ships():
        theirs = keras.losses.Huber()(jnp.zeros((2, 1)), errors[:, None], sample_weight=weights)
    assert theirs == 1
    assert jaxloss.huber_loss(errors, weights=weights, reduction="mean") == 0.5


def test_torch_hides_a_nan_error_from_the_derivative_of_l1():
    (errors,) = float32([np.nan, 1.0])
    _, (slopes,) = of_torch(lambda F, e: F.l1_loss(e, 0 * e.detach(), reduction="none"), errors)
    np.testing.assert_array_equal(slopes, [0, 1])
    np.testing.assert_array_equal(evaluated(jaxloss.l1_loss, errors)[1], [[np.nan, 1]])


def test_torch_has_no_mean_of_nothing():
    (nothing,) = float32([])
    assert np.isnan(of_torch(lambda F, e: F.l1_loss(e, 0 * e), nothing)[0])
    assert jaxloss.l1_loss(nothing, reduction="mean") == 0


def test_peers_hide_an_impossible_count_behind_an_epsilon():
    """A rate of 0 cannot bring forth a count of 1."""
    impossible = float32([0.0], [1.0])
    losses, _ = of_torch(lambda F, p, t: F.poisson_nll_loss(p, t, log_input=False), *impossible)
    assert losses < 20
    losses, _ = of_keras(lambda k, p, t: k.poisson(_last(t), _last(p)), *impossible)
    assert losses < 20
    assert np.isposinf(jaxloss.poisson_nll_loss(*impossible, log_input=False))
