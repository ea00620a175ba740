"""ORPO and the log-odds of sequences, of models that are certain above all."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import logsumexp, softmax

from jaxloss import orpo_loss, sequence_log_odds, sequence_log_probabilities
from tests.laws.values import EPS, double, evaluated, single

INF = math.inf
DIRECTION = single(np.random.default_rng(1).normal(size=(2, 2, 3)))


def second_order(loss: Callable[[Any], Any]) -> Callable[[Any, Any], list[np.ndarray]]:
    """The gradient, and its derivative in a direction, forward and reverse over reverse."""

    @jax.jit
    def derivatives(at: Any, direction: Any) -> Any:
        gradient = jax.grad(loss)
        slope, forward = jax.jvp(gradient, (at,), (direction,))
        return slope, forward, jax.grad(lambda x: jnp.vdot(gradient(x), direction))(at)

    return lambda at, direction: [double(x) for x in derivatives(single(at), single(direction))]


@functools.cache
def hessians(log_odds: bool, from_log_odds: bool = False) -> Callable[[Any], Any]:
    """Both Hessians of ORPO with beta = 1, in what it takes or in log-odds."""

    def loss(answers: Any) -> Any:
        if from_log_odds:
            answers = -jax.nn.softplus(-answers)
        return orpo_loss(*answers, beta=1.0, log_odds=log_odds)

    slope = jax.grad(loss)
    return jax.jit(lambda x: (slope(x), jax.jacfwd(slope)(x), jax.jacrev(slope)(x)))


def test_at_the_ends() -> None:
    at = functools.partial(evaluated, orpo_loss, wrt=(0, 1), beta=0.5)
    ends: list[tuple[Any, Any, Any]] = [
        ((-1.0, 0.0), INF, (-1 - 0.5 / (1 - math.exp(-1)), 0)),
        ((0.0, 0.0), INF, (-1, 0)),
        ((-1e-30, 0.0), INF, (-1 - 0.5e30, 0)),
        ((0.0, -1.0), 0, (-1 - 0.5 / (math.e - 1), 0)),
        ((0.0, -1e-30), 0, (-1 - 0.5e30, 0)),
        ((0.0, -INF), 0, (-1, 0)),
        ((-1.0, -INF), 1, (-1, 0)),
        ((-INF, -1.0), INF, (-1 - 0.5, 0.5 / (1 - math.exp(-1)))),
        ((-INF, 0.0), INF, (-1 - 0.5, 0)),
        ((-INF, -INF), INF, (-1 - 0.25, 0.25)),
    ]
    for pair, value, slopes in ends:
        found = at(*single(pair))
        np.testing.assert_allclose(found[0], value, rtol=1e-6)
        np.testing.assert_allclose(found[1], slopes, rtol=1e-6)
    for pair in ((1e-3, -1.0), (-1.0, 1e-3), (0.0, 1e-3), (math.nan, 0.0), (0.0, math.nan)):
        assert np.isnan(orpo_loss(*pair))
    # What counts for nothing costs nothing.
    assert orpo_loss(0.0, 0.0, beta=0.0) == 0
    # Small doubts, that 1 - exp(c) and odds would both round away.
    np.testing.assert_allclose(orpo_loss(-1e-30, -1e-30, beta=1.0), math.log(2), rtol=1e-6)
    odds = 1e-30 / (math.e - 1)
    np.testing.assert_allclose(orpo_loss(-1e-30, -1.0, beta=1.0), 1e-30 + odds, rtol=1e-6)


def test_of_log_odds_at_the_ends() -> None:
    at = functools.partial(evaluated, orpo_loss, wrt=(0, 1), beta=0.5, log_odds=True)
    ends: list[tuple[Any, Any, Any]] = [
        ((INF, 1.0), 0, (0, 0)),
        ((1.0, INF), INF, (-1 / (1 + math.e) - 0.5, 0.5)),
        ((INF, INF), INF, (0, 0)),
        ((1.0, -INF), math.log1p(math.exp(-1)), (-1 / (1 + math.e), 0)),
        ((-INF, 1.0), INF, (-1.5, 0.5)),
        ((-INF, -INF), INF, (-1, 0)),
        ((1e30, 1e30), 0.5 * math.log(2), (-0.25, 0.25)),
    ]
    for pair, value, slopes in ends:
        found = at(*single(pair))
        np.testing.assert_allclose(found[0], value, rtol=1e-6)
        np.testing.assert_allclose(found[1], slopes, rtol=1e-6)
    assert np.isnan(orpo_loss(math.nan, INF, log_odds=True))
    assert orpo_loss(INF, INF, beta=0.0, log_odds=True) == 0


@given(st.floats(-80, 80, width=32), st.floats(-80, 80, width=32))
def test_log_odds_are_another_name_of_log_probabilities(c: float, r: float) -> None:
    pair = [-np.logaddexp(0, -x) for x in (c, r)]
    np.testing.assert_allclose(
        orpo_loss(*pair, beta=0.5), orpo_loss(c, r, beta=0.5, log_odds=True), rtol=3e-5
    )


@pytest.mark.parametrize(
    ("pair", "expected"),
    [
        # Odds of 3 and 1/4: the rejected answer wins with probability 1/13.
        (
            (math.log(3 / 4), math.log(1 / 5)),
            (36 / 169, -60 / 169, 5 / 52 * (1 / 4 + 15 / 13)),
        ),
        ((-1e-12, -1e-12), (-2.5e23, -2.5e23, 7.5e23)),
        # Hardly any chance to win, and hardly any to lose.
        ((-80.0, -17.0), (math.exp(-63), -math.exp(-63), math.exp(-17))),
        ((0.0, -1.0), (0.24328029, -0.92067359, 0)),
        # The slope in r is infinite at 0, and held at 0.
        ((-1.0, 0.0), (-0.92067359, -0.92067359, 0)),
        ((0.0, 0.0), (0, 0, 0)),
        ((-INF, 0.0), (0, 0, 0)),
    ],
)
def test_hessians(pair: Any, expected: Any) -> None:
    in_c, mixed, in_r = expected
    _, forward, reverse = hessians(False)(single(pair))
    wanted = np.array([[in_c, mixed], [mixed, in_r]])
    largest = np.abs(wanted).max()
    for found in (forward, reverse):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=64 * EPS * largest)


@pytest.mark.parametrize("d", [20.0, 60.0, 80.0])
def test_certain_answers_train(d: float) -> None:
    """Slopes of 1e35 against those of log-probabilities, which are as small: none overflows."""
    for log_odds in (False, True):
        slope, forward, reverse = hessians(log_odds, not log_odds)(single([d, d]))
        np.testing.assert_allclose(slope, [-0.5, 0.5], rtol=1e-5)
        for found in (forward, reverse):
            np.testing.assert_allclose(found, [[0.25, -0.25], [-0.25, 0.25]], rtol=1e-5)


def test_answers_that_round_to_certain_stay_finite() -> None:
    for pair in itertools.product((0.0, 80.0, 87.0, 90.0, 1e4, 1e30), repeat=2):
        for found in hessians(False, True)(single(pair)):
            assert np.all(np.isfinite(found)), pair


# Two answers of two tokens, of which class 0 is the right one.
PLAIN = single([[[0, 0.5, -0.3], [0.2, -0.1, 0.4]], [[0.1, 0.7, -1], [0.3, 0.2, 0]]])
FIRST = np.zeros((2, 2), np.int32)


def ahead(*gaps: float) -> np.ndarray:
    """Logits of two answers that are certain by these gaps, or certain that they are wrong."""
    logits = PLAIN.copy()
    for answer, gap in zip(logits, gaps, strict=True):
        answer[:, 0] += gap
        if math.isinf(gap):
            answer[:, 0], answer[:, 1:] = 0, -INF
    return logits


def of_log_probabilities(logits: Any) -> Any:
    return orpo_loss(*sequence_log_probabilities(logits, FIRST, normalize=True))


def of_log_odds(logits: Any) -> Any:
    return orpo_loss(*sequence_log_odds(logits, FIRST), log_odds=True)


GAPS = [*itertools.product((0.0, 20.0, 90.0, 1e4, 1e30, -90.0, INF), repeat=2)]


def test_gradients_of_logits_are_finite() -> None:
    slopes = jax.jit(jax.vmap(jax.grad(of_log_probabilities)))
    assert np.all(np.isfinite(slopes(np.stack([ahead(*gaps) for gaps in GAPS]))))


@pytest.mark.parametrize("loss", [of_log_odds, of_log_probabilities])
def test_second_derivatives_of_logits_are_finite(loss: Any) -> None:
    derivatives = second_order(lambda x: jnp.sum(jax.vmap(loss)(x)))
    logits = np.stack([ahead(*gaps) for gaps in GAPS])
    slope, forward, reverse = derivatives(logits, np.broadcast_to(DIRECTION, logits.shape))
    assert np.all(np.isfinite(slope))
    np.testing.assert_allclose(forward, reverse, rtol=0, atol=1e-6)


def test_log_odds_tell_certain_answers_apart() -> None:
    """One is ahead by 90, the other by 100; the log-probabilities of both are 0."""
    logits = ahead(90.0, 100.0)
    others = logsumexp(double(logits)[..., 1:], -1)
    d = double(logits)[..., 0] - others
    odds = -np.log(np.mean(np.exp(-d), -1))
    value, (slope,) = evaluated(of_log_odds, logits)
    np.testing.assert_allclose(value, 0.1 * np.logaddexp(0, odds[1] - odds[0]), rtol=1e-6)
    chance = 1 / (1 + np.exp(odds[0] - odds[1]))
    share = 0.1 * chance * softmax(-d, -1) * [[-1], [1]]
    np.testing.assert_allclose(slope[..., 0], share, rtol=1e-5)
    np.testing.assert_allclose(
        slope[..., 1:], -share[..., None] * softmax(double(logits)[..., 1:], -1), rtol=1e-5
    )


RNG = np.random.default_rng(4)
LOGITS = single(RNG.normal(0, 3, (2, 5, 7)))
TOKENS = RNG.integers(0, 7, (2, 5)).astype(np.int32)
COUNTED = np.array([[True, True, False, True, True], [False, False, True, False, False]])


def by_hand(logits: Any, tokens: Any, counted: Any) -> tuple[np.ndarray, np.ndarray]:
    """The log-odds of sequences and their slopes, in float64."""
    logs = double(logits) - logsumexp(double(logits), -1, keepdims=True)
    each = np.take_along_axis(logs, tokens[..., None], -1)[..., 0]
    counted = np.broadcast_to(counted, each.shape)
    mean = np.sum(each * counted, -1) / counted.sum(-1)
    p = np.exp(mean)
    one_hot = np.arange(logits.shape[-1]) == tokens[..., None]
    in_mean = counted / (counted.sum(-1) * (1 - p))[:, None]
    return mean - np.log1p(-p), in_mean[..., None] * (one_hot - np.exp(logs))


def test_sequence_log_odds() -> None:
    for counted in (None, COUNTED, COUNTED[:1]):
        value, slope = by_hand(LOGITS, TOKENS, True if counted is None else counted)
        found, (in_logits,) = evaluated(sequence_log_odds, LOGITS, TOKENS, where=counted)
        np.testing.assert_allclose(found, value, rtol=2e-6)
        np.testing.assert_allclose(in_logits, slope, atol=2e-6)
    np.testing.assert_array_equal(
        jax.vmap(sequence_log_odds)(LOGITS, TOKENS), sequence_log_odds(LOGITS, TOKENS)
    )


def test_second_derivatives_of_sequence_log_odds() -> None:
    """Against differences of slopes in float64, in a direction that moves all tokens."""
    direction, step = single(RNG.normal(size=LOGITS.shape)), 1e-6
    low, high = (
        by_hand(double(LOGITS) + x * double(direction), TOKENS, COUNTED)[1] for x in (-step, step)
    )
    derivatives = second_order(lambda x: jnp.sum(sequence_log_odds(x, TOKENS, where=COUNTED)))
    for found in derivatives(LOGITS, direction)[1:]:
        np.testing.assert_allclose(found, (high - low) / (2 * step), atol=2e-6)


def test_log_odds_of_one_token_are_its_lead() -> None:
    """By any gap, in first and second order: log-odds are linear in the logit of the token."""
    derivatives = second_order(lambda x: sequence_log_odds(x, FIRST[0, :1]))
    for gap in (0.0, 20.0, 90.0, 1e4, 1e30, -20.0, -1e4):
        logits = single([[gap, 0.5, -0.5]])
        others = softmax(double(logits)[0, 1:])
        expected = gap - np.logaddexp(0.5, -0.5)
        np.testing.assert_allclose(sequence_log_odds(logits, FIRST[0, :1]), expected, rtol=1e-6)
        slope, forward, reverse = derivatives(logits, single([[1.0, 2.0, 3.0]]))
        np.testing.assert_allclose(slope, [[1, *-others]], rtol=1e-6)
        bend = np.prod(others)
        for found in (forward, reverse):
            np.testing.assert_allclose(found, [[0, bend, -bend]], rtol=1e-5, atol=1e-9)


def test_log_odds_at_the_ends() -> None:
    def at(*rows: Any) -> Any:
        logits = single(rows)
        value, (slope,) = evaluated(sequence_log_odds, logits, np.zeros(len(rows), np.int32))
        return value, np.asarray(slope)

    plain, absent, impossible = (0.0, 0.0, 0.0), (1.0, -INF, -INF), (-INF, 0.0, 0.0)
    for certain in (absent, (INF, 0.0, 0.0)):
        value, slope = at(certain)
        assert value == INF
        np.testing.assert_array_equal(slope, np.zeros((1, 3)))
        # The mean surprisal of both tokens is log(3) / 2.
        value, slope = at(certain, plain)
        np.testing.assert_allclose(value, -math.log(math.sqrt(3) - 1), rtol=1e-6)
        np.testing.assert_array_equal(slope[0], np.zeros(3))
        expected = 1 / 3 / (1 - 1 / math.sqrt(3))
        np.testing.assert_allclose(slope[1], [expected, -expected / 2, -expected / 2], rtol=1e-6)
    value, slope = at(impossible, plain)
    assert value == -INF
    np.testing.assert_allclose(slope, [[1 / 2, -1 / 4, -1 / 4], [1 / 3, -1 / 6, -1 / 6]], rtol=1e-6)
    value, slope = at((0.0, INF, 0.0))
    assert value == -INF
    np.testing.assert_array_equal(slope, [[1, -1, 0]])
    for undefined in ((-INF, -INF, -INF), (INF, INF, 0.0), (math.nan, 0.0, 0.0)):
        assert np.isnan(at(undefined)[0])


def test_other_tokens_may_hold_anything() -> None:
    there = COUNTED[..., None]
    dirty = np.where(there, LOGITS, np.float32(np.nan)), np.where(COUNTED, TOKENS, -100)
    clean = evaluated(sequence_log_odds, LOGITS, TOKENS, where=COUNTED)
    for got, want in zip(
        jax.tree.leaves(evaluated(sequence_log_odds, *dirty, where=COUNTED)),
        jax.tree.leaves(clean),
        strict=True,
    ):
        np.testing.assert_array_equal(got, want)
    assert np.all(np.asarray(clean[1][0])[~COUNTED] == 0)
    # One that counts, of no class.
    found, (slope,) = evaluated(sequence_log_odds, LOGITS, np.where(COUNTED, TOKENS, 7))
    assert np.all(np.isnan(found))
    assert np.any(np.isnan(slope))


def test_no_token() -> None:
    """P is 1, as nothing is left to doubt; such a sequence is for `where` of the loss."""
    for logits in (LOGITS, LOGITS * np.float32(np.nan)):
        none = np.zeros((2, 5), bool)
        value, (slope,) = evaluated(sequence_log_odds, logits, TOKENS, where=none)
        np.testing.assert_array_equal(value, [INF, INF])
        np.testing.assert_array_equal(slope, np.zeros_like(LOGITS))
    np.testing.assert_array_equal(sequence_log_odds(LOGITS[:, :0], TOKENS[:, :0]), [INF, INF])


def test_dtypes_and_bad_input() -> None:
    half = jnp.asarray(LOGITS, jnp.bfloat16)
    value, (slope,) = evaluated(sequence_log_odds, half, TOKENS)
    assert (value.dtype, slope.dtype) == (jnp.float32, jnp.bfloat16)
    with pytest.raises(ValueError, match=r"logits must have an axis of tokens.*float32\[7\]"):
        sequence_log_odds(LOGITS[0, 0], TOKENS[0, 0])
