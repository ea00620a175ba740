from __future__ import annotations

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, softmax

from jaxloss import (
    bco_loss,
    bradley_terry_loss,
    dpo_loss,
    kto_loss,
    orpo_loss,
    sequence_log_probabilities,
    simpo_loss,
    softmax_cross_entropy_with_integer_labels,
)
from tests.laws.values import EPS, Row, check, double, evaluated, row_id, single

LOG3 = math.log(3.0)  # of which the sigmoid is 3/4
LIKELY, UNLIKELY = -math.log(3 / 4), -math.log(1 / 4)
# h = (-5 + 7) - (-6 + 7) = 1, and the other way round.
AHEAD, BEHIND = (-5.0, -6.0, -7.0, -7.0), (-6.0, -5.0, -7.0, -7.0)
BY_LOG3: dict[str, Any] = {"beta": LOG3}

ROWS: list[Row] = [
    (bradley_terry_loss, (2.0, 2.0), {}, math.log(2), -1 / 2),
    (bradley_terry_loss, (LOG3, 0.0), {}, LIKELY, -1 / 4),
    (bradley_terry_loss, (0.0, LOG3), {}, UNLIKELY, -3 / 4),
    (bradley_terry_loss, (LOG3, 0.0), {"margin": 2 * LOG3}, UNLIKELY, -3 / 4),
    (bradley_terry_loss, (80.0, 0.0), {}, math.exp(-80), -math.exp(-80)),
    (bradley_terry_loss, (-1e30, 0.0), {}, 1e30, -1),
    (bradley_terry_loss, (0.0, -math.inf), {}, 0, 0),
    (bradley_terry_loss, (-math.inf, 0.0), {}, math.inf, -1),
    (
        bradley_terry_loss,
        (LOG3, 0.0),
        {"center_rewards_coefficient": 0.5},
        LIKELY + LOG3**2 / 2,
        -1 / 4 + LOG3,
    ),
    (bco_loss, (LOG3, 0.0, 1.0), {"beta": 1.0}, LIKELY, -1 / 4),
    (bco_loss, (LOG3, 0.0, 0.0), {"beta": 1.0}, UNLIKELY, 3 / 4),
    (bco_loss, (3.0, 1.0, 1.0), {"beta": LOG3, "reward_shift": LOG3}, LIKELY, -LOG3 / 4),
    (dpo_loss, AHEAD, BY_LOG3, LIKELY, -LOG3 / 4),
    (dpo_loss, BEHIND, BY_LOG3, UNLIKELY, -LOG3 * 3 / 4),
    (
        dpo_loss,
        AHEAD,
        BY_LOG3 | {"label_smoothing": 0.5},
        (LIKELY + UNLIKELY) / 2,
        LOG3 * (3 / 4 - 1 / 4) / 2,
    ),
    (
        dpo_loss,
        AHEAD,
        BY_LOG3 | {"label_smoothing": 0.125, "kind": "robust"},
        (7 * LIKELY - UNLIKELY) / 6,
        -LOG3 * (7 / 4 + 3 / 4) / 6,
    ),
    (dpo_loss, AHEAD, {"beta": 0.25, "kind": "hinge"}, 3 / 4, -1 / 4),
    (dpo_loss, AHEAD, {"beta": 2.0, "kind": "hinge"}, 0, 0),
    (dpo_loss, AHEAD, {"beta": 1.0, "kind": "hinge"}, 0, -1),
    (dpo_loss, AHEAD, {"beta": 0.25, "kind": "ipo"}, (1 - 2) ** 2, 2 * (1 - 2)),
    (dpo_loss, AHEAD, {"beta": 0.0}, math.log(2), 0),
    (simpo_loss, (-6.0, -9.0, 3.0, 3.0), {"beta": LOG3, "gamma": 0.0}, LIKELY, -LOG3 / 4 / 3),
    (simpo_loss, (-6.0, -9.0, 3.0, 3.0), {"beta": LOG3, "gamma": 2 * LOG3}, UNLIKELY, -LOG3 / 4),
    (
        simpo_loss,
        (-6.0, -9.0, 3.0, 3.0),
        {"beta": LOG3, "gamma": 0.0, "label_smoothing": 0.5},
        (LIKELY + UNLIKELY) / 2,
        LOG3 / 3 * (3 / 4 - 1 / 4) / 2,
    ),
    (simpo_loss, (-6.0, -3.0, 6.0, 3.0), {"gamma": 0.0}, math.log(2), -2 / 6 / 2),
    # Odds of 3 against 1/4.
    (
        orpo_loss,
        (math.log(3 / 4), math.log(1 / 5)),
        {"beta": 2.0},
        math.log(4 / 3) + 2 * math.log(13 / 12),
        -1 - 2 * (1 / 13) * 4,
    ),
    (orpo_loss, (0.0, -1.0), {}, 0, -1 - 0.1 / (math.e - 1)),
    (orpo_loss, (-1.0, -math.inf), {}, 1, -1),
    (kto_loss, (LOG3, 0.0, 1.0), {"beta": 1.0}, 1 / 4, -3 / 16),
    (kto_loss, (LOG3, 0.0, -1.0), {"beta": 1.0}, 3 / 4, 3 / 16),
    (kto_loss, (LOG3, 0.0, 0.0), {"beta": 1.0, "undesirable_weight": 2.0}, 3 / 2, 3 / 8),
    (
        kto_loss,
        (3.0, 1.0, 1.0),
        {"beta": LOG3, "reference_point": 1.0, "desirable_weight": 2.0},
        1 / 2,
        -2 * LOG3 * 3 / 16,
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=row_id)
def test_values(row: Row) -> None:
    check(row)


NUMBERS = st.floats(-30, 30, width=32)
near = functools.partial(np.testing.assert_allclose, rtol=3e-6, atol=3e-6)


@given(NUMBERS, NUMBERS)
def test_one_of_two_wins(a: float, b: float) -> None:
    wins, loses = bradley_terry_loss(a, b), bradley_terry_loss(b, a)
    near(np.exp(-wins) + np.exp(-loses), 1)


@given(NUMBERS, st.floats(0, 0.4375, width=32))
def test_robust_is_right_in_the_mean(h: float, e: float) -> None:
    """Over labels that are the wrong way round with probability e (Chowdhury et al., lemma 3.1)."""
    # Two calls that differ in the order of the answers alone.
    robust = functools.partial(dpo_loss, beta=1.0, kind="robust", label_smoothing=e)
    mean = (1 - e) * robust(h, 0.0, 0.0, 0.0) + e * robust(0.0, h, 0.0, 0.0)
    np.testing.assert_allclose(
        mean, dpo_loss(h, 0.0, 0.0, 0.0, beta=1.0), rtol=1e-5, atol=1e-5 * (1 + abs(h))
    )


@given(NUMBERS, NUMBERS, NUMBERS, NUMBERS, st.floats(0, 1, width=32))
def test_dpo_is_bradley_terry_of_implicit_rewards(
    c: float, r: float, c0: float, r0: float, e: float
) -> None:
    beta = 0.25
    rewards = beta * (c - c0), beta * (r - r0)
    wins, loses = bradley_terry_loss(*rewards), bradley_terry_loss(*rewards[::-1])
    near(dpo_loss(c, r, c0, r0, beta=beta), wins)
    smoothed = dpo_loss(c, r, c0, r0, beta=beta, label_smoothing=e)
    near(smoothed, (1 - e) * wins + e * loses)
    # What both answers gain alike is of no account.
    np.testing.assert_array_equal(dpo_loss(c0, r0, c0, r0), np.float32(math.log(2)))


def test_ipo_is_best_at_its_target() -> None:
    at = functools.partial(evaluated, dpo_loss, wrt=(0, 1, 2, 3), kind="ipo", beta=0.25)
    value, slopes = at(2.0, 0.0, 0.0, 0.0)
    assert value == 0
    np.testing.assert_array_equal(slopes, np.zeros(4))
    assert at(3.0, 0.0, 0.0, 0.0)[0] == at(1.0, 0.0, 0.0, 0.0)[0] == 1


def test_simpo_of_single_tokens_is_bradley_terry_with_a_margin() -> None:
    c, r = single([[-1, -3], [-2, -1.5]])
    rewards = 2.5 * c, 2.5 * r
    near(simpo_loss(c, r, 1, 1, beta=2.5, gamma=0.5), bradley_terry_loss(*rewards, margin=0.5))
    lengths = single([[3, 5], [7, 2]])
    near(simpo_loss(c * lengths[0], r * lengths[1], *lengths), simpo_loss(c, r, 1, 1))


@given(NUMBERS, NUMBERS, NUMBERS)
def test_kto_mirrors(p: float, p0: float, z: float) -> None:
    """Of the two labels one has what the other lacks."""
    good, bad = (kto_loss(p, p0, y, reference_point=z, beta=0.5) for y in (1, 0))
    near(good + bad, 1)


@pytest.mark.parametrize(
    "answers",
    [
        (1e12, 1e12, 3.0, 43.5),
        (-1e30, 40.5, -1e30, 0.0),
        (100000.25, 5e-8, 1e5, -80.0),
        (80.3, 0.1, 0.2, 0.4),
    ],
)
def test_digits_survive_large_terms(answers: Any) -> None:
    """Rounding such differences would cost the loss all of its digits."""
    numbers = np.asarray(answers, np.float32)
    c, r, c0, r0 = map(float, numbers)
    h = math.fsum([c, -c0, -r, r0])
    value, (slope,) = evaluated(dpo_loss, *numbers, beta=1.0)
    np.testing.assert_allclose(value, np.logaddexp(0, -h), rtol=5e-7)
    np.testing.assert_allclose(slope, -1 / (1 + np.exp(h)), rtol=5e-7)


def bell(z: Any) -> Any:
    """The slope of the sigmoid."""
    return expit(z) * expit(-z)


E = 0.125
# Losses of z = beta (c - r) with their first and second derivative in z.
OF_Z: dict[str, tuple[Any, Any, Any]] = {
    "dpo": (
        lambda c, r, beta: dpo_loss(c, r, 0.0, 0.0, beta=beta, label_smoothing=E),
        lambda z: E * expit(z) - (1 - E) * expit(-z),
        bell,
    ),
    "robust dpo": (
        lambda c, r, beta: dpo_loss(c, r, 0.0, 0.0, beta=beta, label_smoothing=E, kind="robust"),
        lambda z: -expit(-z) - E / (1 - 2 * E),
        bell,
    ),
    "simpo": (
        lambda c, r, beta: simpo_loss(c, r, 1.0, 1.0, beta=beta, gamma=0.0),
        lambda z: -expit(-z),
        bell,
    ),
    "kto of a good answer": (
        lambda p, p0, beta: kto_loss(p, p0, 1, beta=beta),
        lambda z: -bell(z),
        lambda z: bell(z) * np.tanh(z / 2),
    ),
    "kto of a bad answer": (
        lambda p, p0, beta: kto_loss(p, p0, 0, beta=beta),
        bell,
        lambda z: -bell(z) * np.tanh(z / 2),
    ),
}


@pytest.mark.parametrize("name", OF_Z)
def test_second_order(name: str) -> None:
    """In both answers and in beta, from a tie to differences of 1e30, both ways of JAX."""
    loss, slope, bend = OF_Z[name]
    gradient = jax.grad(loss, (0, 1, 2))
    both = jax.jit(lambda *x: [mode(gradient, (0, 1, 2))(*x) for mode in (jax.jacfwd, jax.jacrev)])
    sizes = (1e-30, 1e-3, 1.5, 20.0, 80.0, 1e4, 1e30)
    beta = float(single(0.7))
    for h in map(float, single([0.0, *sizes, *(-x for x in sizes)])):
        z = beta * h
        mixed = slope(z) + bend(z) * z
        data, knob = bend(z) * beta**2, bend(z) * h * h
        expected = np.array([[data, -data, mixed], [-data, data, -mixed], [mixed, -mixed, knob]])
        for found in both(*single([h, 0.0, beta])):
            for size in (2, 3):
                # Of the answers alone, and with beta, which has larger entries.
                part = np.index_exp[:size, :size]
                bound = 64 * EPS * np.abs(expected[part]).max()
                np.testing.assert_allclose(
                    double(found)[part], expected[part], rtol=0, atol=bound, err_msg=str(h)
                )


def test_hinge_trains_a_tie() -> None:
    at = functools.partial(evaluated, dpo_loss, wrt=(0, 1, 2, 3), kind="hinge", beta=0.5)
    np.testing.assert_array_equal(at(1.0, 0.0, 0.0, 1.0)[1], [-0.5, 0.5, 0.5, -0.5])
    np.testing.assert_array_equal(at(1.5, 0.0, 0.0, 1.0)[1], np.zeros(4))
    # Beyond the margin by less than the sum can show.
    np.testing.assert_array_equal(at(1.0, -1e-12, 0.0, 1.0)[1], np.zeros(4))


def test_an_answer_of_no_token_is_nan_until_excluded() -> None:
    c, r, lengths = single([-1, 0]), single([-2, -2]), np.array([4, 0])
    losses = np.asarray(simpo_loss(c, r, lengths, lengths))
    assert np.isfinite(losses[0])
    assert np.isnan(losses[1])
    value, (slopes,) = evaluated(
        simpo_loss, c, r, lengths, lengths, where=lengths > 0, reduction="mean"
    )
    assert value == losses[0]
    first, second = np.asarray(slopes)
    assert first < 0
    assert second == 0


@pytest.mark.parametrize("kind", ["hinge", "ipo"])
def test_kinds_without_label_smoothing_take_its_default(kind: Any) -> None:
    plain = functools.partial(dpo_loss, 1.0, 2.0, 4.0, 3.0, kind=kind)
    assert plain(label_smoothing=0.0) == plain(label_smoothing=jnp.zeros(())) == plain()
    assert np.isnan(plain(label_smoothing=0.1))


def test_bad_input() -> None:
    pair, one = np.zeros(2, np.float32), np.zeros((2, 1), np.float32)
    for loss, count in ((bradley_terry_loss, 2), (dpo_loss, 4), (simpo_loss, 4), (orpo_loss, 2)):
        for place in range(1, count):
            numbers = [one if i == place else pair for i in range(count)]
            with pytest.raises(ValueError, match=r"float32\[2, 1\]"):
                loss(*numbers)
    with pytest.raises(ValueError, match=r"log_probabilities float32\[2\].*labels float32\[2, 1\]"):
        kto_loss(pair, pair, one)
    with pytest.raises(ValueError, match=r"log_probabilities float32\[2\].*labels float32\[2, 1\]"):
        bco_loss(pair, pair, one)
    assert np.isnan(bco_loss(0.0, 0.0, np.nan))
    with pytest.raises(TypeError, match="chosen must be floating-point"):
        bradley_terry_loss(np.array([1]), np.array([0]))
    assert np.isnan(kto_loss(0.0, 0.0, np.nan))


RNG = np.random.default_rng(4)
LOGITS = RNG.normal(0, 3, (2, 5, 7)).astype(np.float32)
TOKENS = RNG.integers(0, 7, (2, 5)).astype(np.int32)
COUNTED = np.array([[True, True, False, True, True], [False, False, True, False, False]])


def by_hand(logits: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    logits = logits.astype(np.float64)
    logs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    return np.take_along_axis(logs, tokens[..., None], -1)[..., 0]


def test_sequence_log_probabilities() -> None:
    each = by_hand(LOGITS, TOKENS)
    exact = functools.partial(np.testing.assert_allclose, rtol=1e-6)
    exact(sequence_log_probabilities(LOGITS, TOKENS), each.sum(-1))
    exact(sequence_log_probabilities(LOGITS, TOKENS, normalize=True), each.mean(-1))
    masked = sequence_log_probabilities(LOGITS, TOKENS, where=COUNTED)
    exact(masked, (each * COUNTED).sum(-1))
    mean = sequence_log_probabilities(LOGITS, TOKENS, where=COUNTED, normalize=True)
    exact(mean, (each * COUNTED).sum(-1) / COUNTED.sum(-1))
    mapped = jax.vmap(sequence_log_probabilities)(LOGITS, TOKENS)
    exact(mapped, each.sum(-1))
    # One mask for all sequences.
    row = sequence_log_probabilities(LOGITS, TOKENS, where=COUNTED[:1])
    exact(row, (each * COUNTED[:1]).sum(-1))
    losses = softmax_cross_entropy_with_integer_labels(LOGITS, TOKENS)
    exact(sequence_log_probabilities(LOGITS, TOKENS), -losses.sum(-1))


def test_other_tokens_may_hold_anything() -> None:
    there = COUNTED[..., None]
    dirty = np.where(there, LOGITS, np.float32(np.nan)), np.where(COUNTED, TOKENS, -100)
    counted = functools.partial(evaluated, sequence_log_probabilities, where=COUNTED)
    clean_value, (clean_slope,) = counted(LOGITS, TOKENS)
    value, (slope,) = counted(*dirty)
    np.testing.assert_array_equal(value, clean_value)
    np.testing.assert_array_equal(slope, clean_slope)
    assert np.all(np.asarray(slope)[~COUNTED] == 0)
    expected = there * (np.eye(7)[TOKENS] - softmax(np.float64(LOGITS), -1))
    np.testing.assert_allclose(slope, expected, atol=1e-6)


def test_sequences_of_no_token() -> None:
    none = np.zeros((2, 5), bool)
    for normalize in (False, True):
        of = functools.partial(evaluated, sequence_log_probabilities, normalize=normalize)
        empty, _ = of(LOGITS[:, :0], TOKENS[:, :0])
        np.testing.assert_array_equal(empty, np.zeros(2))
        for logits in (LOGITS, LOGITS * np.nan):
            masked, (slope,) = of(logits, TOKENS, where=none)
            np.testing.assert_array_equal(masked, np.zeros(2))
            np.testing.assert_array_equal(slope, 0 * LOGITS)


@pytest.mark.parametrize("token", [-1, 7, 2**31 - 1])
def test_a_token_that_is_none_is_nan(token: int) -> None:
    tokens = TOKENS.copy()
    tokens[0, 1] = token
    found = sequence_log_probabilities(LOGITS, tokens)
    np.testing.assert_array_equal(np.isnan(found), [True, False])
    assert np.all(np.isfinite(sequence_log_probabilities(LOGITS, tokens, where=tokens == TOKENS)))


def test_bad_sequences() -> None:
    with pytest.raises(ValueError, match=r"logits must have an axis of tokens.*float32\[7\]"):
        sequence_log_probabilities(LOGITS[0, 0], TOKENS[0, 0])
    with pytest.raises(ValueError, match=r"tokens must be class numbers of shape \[2, 5\]"):
        sequence_log_probabilities(LOGITS, TOKENS[:, :4])
    with pytest.raises(TypeError, match="tokens must be integers"):
        sequence_log_probabilities(LOGITS, TOKENS.astype(np.float32))
    with pytest.raises(ValueError, match="where must be a scalar"):
        sequence_log_probabilities(LOGITS, TOKENS, where=COUNTED[0])
    with pytest.raises(TypeError, match="where must be boolean"):
        sequence_log_probabilities(LOGITS, TOKENS, where=COUNTED.astype(np.float32))


def test_from_logits_to_a_loss() -> None:
    """The gradient of a whole step is finite, in the dtype of the logits, and 0 at the prompt."""

    @jax.jit
    @jax.grad
    def slopes(logits: Any) -> Any:
        scores = sequence_log_probabilities(logits, TOKENS, where=COUNTED)
        chosen, rejected = scores[:1], scores[1:]
        return dpo_loss(chosen, rejected, chosen - 0.5, rejected + 0.5, reduction="mean")

    slope = np.asarray(slopes(jnp.asarray(LOGITS, jnp.bfloat16)))
    assert slope.dtype == jnp.bfloat16
    assert np.all(np.isfinite(single(slope)))
    assert np.all(single(slope)[~COUNTED] == 0)
