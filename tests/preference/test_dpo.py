"""The kinds and divergences of DPO: TRL's formulas in float64, the ends, and what is refused.

TRL is not among what the tests install: its public formulas are written again here, in NumPy.
"""

from __future__ import annotations

import functools
import math
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit, log_expit

from jaxloss import bco_loss, dpo_loss
from jaxloss._preference.dpo import Kind
from tests.laws.values import double, evaluated, single

BETA, E, TAU = 0.25, 0.125, 0.05
# Of the chosen and the rejected answer, under the model and under its reference.
NUMBERS = single(np.random.default_rng(6).normal(-20, 4, (4, 64)))
LENGTHS = np.random.default_rng(8).integers(1, 40, (2, 64)).astype(np.float32)
OPTIONS: dict[str, dict[str, Any]] = {
    "exo_pair": {"label_smoothing": E},
    "robust": {"label_smoothing": E},
    "sigmoid": {"label_smoothing": E},
    "discopop": {"temperature": TAU},
}


def of_trl(kind: str, c: Any, r: Any, h: Any) -> Any:
    """The losses, from the scores of both answers and their difference."""
    x = BETA * h
    wins, loses = -log_expit(x), -log_expit(-x)
    if kind == "exo_pair":
        chosen, rejected = expit(x), expit(-x)
        return chosen * (-wins - np.log1p(-E)) + rejected * (-loses - np.log(E))
    if kind == "discopop":
        mixed = expit(x / TAU)
        return wins * (1 - mixed) + np.exp(-x) * mixed
    c, r = BETA * c, BETA * r
    return {
        "sigmoid": (1 - E) * wins + E * loses,
        "robust": ((1 - E) * wins - E * loses) / (1 - 2 * E),
        "hinge": np.maximum(1 - x, 0),
        "ipo": (h - 1 / (2 * BETA)) ** 2,
        "nca_pair": -log_expit(c) - 0.5 * log_expit(-c) - 0.5 * log_expit(-r),
        "sppo_hard": (c / BETA - 0.5 / BETA) ** 2 + (r / BETA + 0.5 / BETA) ** 2,
        "apo_zero": (1 - expit(c)) + expit(r),
        "apo_down": expit(c) + (1 - expit(x)),
    }[kind]


SCORES: dict[str, Any] = {
    "reverse_kl": lambda u: u,
    "forward_kl": lambda u: -np.exp(-u),
    "js": log_expit,
    # TRL's coefficient is 1 - alpha.
    "alpha": lambda u: np.exp((0.7 - 1) * u) / (0.7 - 1),
}
DIVERGENCES = [("reverse_kl", kind) for kind in get_args(Kind)] + [
    (divergence, kind)
    for divergence in ("forward_kl", "js", "alpha")
    for kind in ("sigmoid", "hinge", "ipo", "robust", "exo_pair", "discopop")
]


@pytest.mark.parametrize("of_tokens", [False, True])
@pytest.mark.parametrize(("divergence", "kind"), DIVERGENCES)
def test_as_in_trl(divergence: Any, kind: Any, of_tokens: bool) -> None:
    """Values, and slopes by central differences of TRL's formulas."""
    if of_tokens and (divergence != "reverse_kl" or kind not in ("ipo", "sigmoid", "nca_pair")):
        pytest.skip("lengths act before all else: a few kinds show it")

    def losses(*numbers: Any) -> Any:
        c, r, c0, r0 = numbers
        m, n = double(LENGTHS) if of_tokens else (1.0, 1.0)
        gains = (c - c0) / m, (r - r0) / n
        chosen, rejected = map(SCORES[divergence], gains)
        return of_trl(kind, chosen, rejected, chosen - rejected)

    options = dict(OPTIONS.get(kind, {}))
    if divergence == "alpha":
        options["alpha"] = 0.3
    if of_tokens:
        options |= {"chosen_lengths": LENGTHS[0], "rejected_lengths": LENGTHS[1]}
    at = functools.partial(dpo_loss, beta=BETA, kind=kind, divergence=divergence, **options)
    # Gains of some units, as of a model that has just begun to leave its reference: where a
    # difference of exponentials is z, a loss of e^-z has no more digits than they.
    numbers = NUMBERS.copy()
    numbers[:2] = numbers[2:] + single(np.random.default_rng(7).normal(0, 1.5, (2, 64)))
    value, slopes = evaluated(at, *numbers, wrt=(0, 1, 2, 3))
    exact = losses(*double(numbers))
    np.testing.assert_allclose(value, exact, rtol=3e-5, atol=1e-6)
    step = 1e-5
    for k, slope in enumerate(slopes):
        moved = [double(numbers) for _ in range(2)]
        moved[0][k] -= step
        moved[1][k] += step
        quotient = (losses(*moved[1]) - losses(*moved[0])) / (2 * step)
        np.testing.assert_allclose(slope, quotient, rtol=3e-4, atol=3e-5)


def test_kinds_by_hand() -> None:
    """Gains of 2 and 1, in units where beta times them are log 9 and log 3."""
    log3 = math.log(3)
    at = functools.partial(dpo_loss, -5.0, -6.0, -7.0, -7.0, beta=log3)
    near = functools.partial(np.testing.assert_allclose, rtol=1e-6)
    # 3/4 against 7/8.
    near(at(kind="exo_pair", label_smoothing=E), 0.75 * math.log(6 / 7) + 0.25 * math.log(2))
    near(at(kind="nca_pair"), math.log(10 / 9) + (math.log(10) + math.log(4)) / 2)
    near(at(kind="sppo_hard"), (2 - 0.5 / log3) ** 2 + (1 + 0.5 / log3) ** 2)
    near(at(kind="apo_zero"), 1 / 10 + 3 / 4)
    near(at(kind="apo_down"), 9 / 10 + 1 / 4)
    near(at(kind="discopop", temperature=0.5), math.log(4 / 3) / 10 + 9 / 10 / 3)
    near(at(divergence="js"), math.log1p(((1 + 1 / math.e**2) / (1 + 1 / math.e)) ** log3))
    gap = math.exp(-1) - math.exp(-2)
    near(at(divergence="forward_kl"), math.log1p(3**-gap))
    near(at(divergence="alpha", alpha=1.0), at(divergence="forward_kl"))
    near(at(divergence="alpha", alpha=0.0), at())
    near(at(kind="ipo", divergence="forward_kl"), (gap - 0.5 / log3) ** 2)


def test_anchors_say_where_both_answers_go() -> None:
    """From the start, c = r = 0: slopes in the gain of the chosen and of the rejected answer."""
    at = functools.partial(evaluated, dpo_loss, 0.0, 0.0, 0.0, 0.0, wrt=(0, 1), beta=1.0)
    np.testing.assert_allclose(at(kind="apo_zero")[1], [-1 / 4, 1 / 4])
    # A pull of both downwards where the chosen one is likelier than it was.
    _, (c, r) = evaluated(dpo_loss, 1.0, 0.9, 0.0, 0.0, wrt=(0, 1), beta=2.0, kind="apo_down")
    assert c > 0 or r > 0
    np.testing.assert_allclose(at(kind="apo_down")[1], [0, 1 / 4], atol=1e-7)


@pytest.mark.parametrize("temperature", [0.05, 0.5, 0.95])
def test_discopop_far_from_0(temperature: float) -> None:
    """TRL's product of an overflow and a 0 is NaN below -89."""
    z = single([-1e30, -1e4, -200, -90, -89, -88, -1, 0, 1, 80, 86, 1e4, 1e30])
    at = functools.partial(dpo_loss, kind="discopop", beta=1.0, temperature=temperature)
    value, (slope,) = evaluated(at, z, 0.0, 0.0, 0.0)
    ahead = double(z)
    with np.errstate(over="ignore", invalid="ignore"):
        blend = -log_expit(ahead) * expit(-ahead / temperature)
        exact = blend + np.exp(-ahead + log_expit(ahead / temperature))
        trl = np.exp(-z) * expit(z / single(temperature))
    assert np.isnan(trl[0])
    np.testing.assert_allclose(value, exact, rtol=2e-6)
    assert np.all(np.isfinite(slope))
    # Far below 0 it is the logistic loss, and far above it the exponential.
    np.testing.assert_allclose(np.asarray(slope)[:3], -1, rtol=1e-3)
    assert np.all(np.asarray(slope)[-2:] == 0)
    curved = jax.vmap(jax.hessian(lambda x: at(x, 0.0, 0.0, 0.0)))(z)
    assert np.all(np.isfinite(curved))


def test_infinite_gains() -> None:
    """Certain of the chosen answer, or that it is impossible."""
    for kind, won, lost in (
        ("exo_pair", -math.log1p(-E), -math.log(E)),
        ("discopop", 0, math.inf),
        ("nca_pair", math.inf, math.inf),
        ("apo_zero", 0.5, 1.5),
        ("apo_down", 1, 1),
        ("sppo_hard", math.inf, math.inf),
    ):
        at = functools.partial(dpo_loss, kind=kind, beta=0.5, **OPTIONS.get(kind, {}))  # type: ignore
        value, (slope, _) = evaluated(at, single([math.inf, -math.inf]), 0.0, 0.0, 0.0, wrt=(0, 1))
        np.testing.assert_allclose(value, [won, lost], rtol=1e-6)
        assert not np.any(np.isnan(slope)), kind
    # An exponential out of range is infinite, and is not held at a plausible number.
    worst, (slope,) = evaluated(dpo_loss, -100.0, 0.0, 0.0, 0.0, divergence="forward_kl")
    assert worst == math.inf
    assert slope < -1e30
    best, (slope,) = evaluated(dpo_loss, 0.0, -100.0, 0.0, 0.0, divergence="forward_kl")
    assert best == slope == 0


def test_pairs_of_bco() -> None:
    """TRL's "bco_pair", of a chosen answer that is good and a rejected one that is bad."""
    c, r, c0, r0 = double(NUMBERS)
    delta = 0.3
    good, bad = BETA * (c - c0) - delta, BETA * (r - r0) - delta
    at = functools.partial(bco_loss, beta=BETA, reward_shift=delta)
    found = at(NUMBERS[0], NUMBERS[2], 1.0) + at(NUMBERS[1], NUMBERS[3], 0.0)
    np.testing.assert_allclose(found, -log_expit(good) - log_expit(-bad), rtol=1e-5)


def test_bad_input() -> None:
    at = functools.partial(dpo_loss, 0.0, 0.0, 0.0, 0.0)
    with pytest.raises(ValueError, match="kind must be one of 'sigmoid', 'hinge', 'ipo', 'robust'"):
        at(kind="logistic")  # type: ignore
    with pytest.raises(ValueError, match="divergence must be one of 'reverse_kl', 'forward_kl'"):
        at(divergence="kl")  # type: ignore
    with pytest.raises(ValueError, match=r"divergence 'js' needs a kind of 'sigmoid',.*'apo_zero'"):
        at(divergence="js", kind="apo_zero")
    with pytest.raises(ValueError, match=r"rejected_lengths must go with chosen_lengths int32\[\]"):
        at(chosen_lengths=jnp.int32(3))
    two = np.zeros(2, np.float32)
    lengths: dict[str, Any] = {"chosen_lengths": two, "rejected_lengths": np.ones(3, np.float32)}
    with pytest.raises(ValueError, match=r"chosen float32\[2\].*rejected_lengths float32\[3\]"):
        dpo_loss(two, two, two, two, **lengths)
    # Without smoothing the divergence of "exo_pair" is infinite.
    assert np.isnan(at(kind="exo_pair"))
    assert np.isnan(at(kind="nca_pair", label_smoothing=0.1))
    assert np.isnan(at(chosen_lengths=0.0, rejected_lengths=1.0))
