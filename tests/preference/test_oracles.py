"""The oracles of preference against TRL's formulas and hand arithmetic."""

import numpy as np
import pytest
from mpmath import mp

from tests.laws import oracle as oracles
from tests.laws.precise import mpf, same, total
from tests.preference import oracles as preference

torch = pytest.importorskip("torch")
F = torch.nn.functional


# Log-probabilities of the chosen and rejected, of the policy and of the reference.
DRAWS = np.random.default_rng(0).normal(-20, 8, (20, 4))


def tensors(row):
    return [torch.tensor(x, dtype=torch.float64) for x in row]


@pytest.mark.parametrize("smoothing", [0.0, 0.125, 0.375])
@pytest.mark.parametrize("kind", ["sigmoid", "robust", "hinge", "ipo"])
def test_dpo_as_in_trl(kind, smoothing):
    beta = 0.25
    for row in DRAWS:
        pi_chosen, pi_rejected, ref_chosen, ref_rejected = tensors(row)
        z = beta * ((pi_chosen - pi_rejected) - (ref_chosen - ref_rejected))
        wins, loses = -F.logsigmoid(z), -F.logsigmoid(-z)
        expected = {
            "sigmoid": (1 - smoothing) * wins + smoothing * loses,
            "robust": ((1 - smoothing) * wins - smoothing * loses) / (1 - 2 * smoothing),
            "hinge": torch.relu(1 - z),
            "ipo": (z / beta - 1 / (2 * beta)) ** 2,
        }[kind]
        options = {"beta": beta, "kind": kind, "label_smoothing": smoothing}
        same(total(preference.dpo_loss(*mpf(row), **options)), expected.item())


def test_dpo_at_the_edges():
    row = mpf([-1, -2, -3, -5])
    for kind, e in [("sigmoid", -0.1), ("sigmoid", 1.1), ("robust", 0.5), ("robust", -0.1)]:
        terms = preference.dpo_loss(*row, kind=kind, label_smoothing=e)
        assert mp.isnan(mp.fsum(terms))
    for kind in ("sigmoid", "robust", "hinge", "ipo"):
        assert mp.isnan(mp.fsum(preference.dpo_loss(*row, kind=kind, beta=-1)))
    same(total(preference.dpo_loss(*row, beta=0)), np.log(2))
    assert total(preference.dpo_loss(*row, beta=0, kind="ipo")) == mp.inf
    assert total(preference.dpo_loss(*row, beta=mp.inf, kind="ipo")) == 1
    for kind in ("sigmoid", "robust", "hinge"):
        won = preference.dpo_loss(mp.mpf(0), -mp.inf, mp.mpf(0), mp.mpf(0), kind=kind)
        lost = preference.dpo_loss(-mp.inf, mp.mpf(0), mp.mpf(0), mp.mpf(0), kind=kind)
        assert (total(won), total(lost)) == (0, mp.inf)


def test_bradley_terry():
    """Wins and losses at margin 0 have the probabilities of a comparison, which sum to 1."""
    a, b = mpf([1.5, 0.25])
    wins, loses = (total(preference.bradley_terry_loss(*pair)) for pair in ((a, b), (b, a)))
    same(np.exp(-wins) + np.exp(-loses), 1)
    same(np.exp(-wins), np.exp(1.5) / (np.exp(1.5) + np.exp(0.25)))
    same(total(preference.bradley_terry_loss(a, b, margin=mp.mpf(2))), np.log1p(np.exp(0.75)))


def test_simpo_as_in_trl():
    for chosen, rejected, *_ in DRAWS:
        c, r = tensors([chosen / 7, rejected / 3])
        expected = -F.logsigmoid(2.5 * ((c - r) - 1.25 / 2.5)).item()
        args = mp.mpf(chosen), mp.mpf(rejected), 7, mp.mpf(3)
        same(total(preference.simpo_loss(*args, beta=mp.mpf(2.5), gamma=1.25)), expected)
    assert mp.isnan(preference.simpo_loss(*mpf([-1, -1, 0, 1]))[0])


def test_orpo_as_in_trl():
    for row in DRAWS:
        c, r = tensors(row[:2] / 20)
        odds = (c - r) - (torch.log1p(-torch.exp(c)) - torch.log1p(-torch.exp(r)))
        expected = (-c - 0.3 * F.logsigmoid(odds)).item()
        same(total(preference.orpo_loss(mp.mpf(c.item()), mp.mpf(r.item()), beta=0.3)), expected)
    # p = 3/4 against 1/5: odds 3 and 1/4, sigmoid(log 12) = 12/13.
    value = total(preference.orpo_loss(mp.log(0.75), mp.log(mp.mpf(1) / 5), beta=1))
    same(value, -np.log(0.75) - np.log(12 / 13))


def test_orpo_at_the_edges():
    def orpo(chosen, rejected, **options):
        return total(preference.orpo_loss(mp.mpf(chosen), mp.mpf(rejected), **options))

    assert orpo(0, -1) == 0
    assert orpo(-1, 0) == mp.inf
    assert orpo(-1, "-inf") == 1
    assert orpo("-inf", -1) == orpo("-inf", "-inf") == orpo(0, 0) == mp.inf
    for bad in ((1, -1), (-1, 1), ("nan", -1), ("-inf", "nan")):
        assert np.isnan(orpo(*bad))
    assert np.isnan(orpo(-1, -1, beta=-1))
    assert orpo(0, 0, beta=0) == 0
    same(orpo(mp.log(3), mp.log(0.25), beta=1, log_odds=True), np.log(4 / 3) + np.log(13 / 12))
    assert orpo("inf", -1, log_odds=True) == 0
    assert orpo(1, "inf", log_odds=True) == orpo("-inf", 1, log_odds=True) == mp.inf
    assert np.isnan(orpo("nan", 1, log_odds=True))


def test_kto_as_in_trl():
    weights = {"desirable_weight": 1.5, "undesirable_weight": 0.5}
    for policy, reference, kl, _ in DRAWS:
        p, r, z = tensors([policy, reference, abs(kl)])
        desired = 1.5 * (1 - torch.sigmoid(0.2 * ((p - r) - z)))
        undesired = 0.5 * (1 - torch.sigmoid(0.2 * (z - (p - r))))
        for label, expected in ((1, desired), (0, undesired), (-1, undesired)):
            args = mp.mpf(policy), mp.mpf(reference), label
            options = {"beta": 0.2, "reference_point": mp.mpf(abs(kl)), **weights}
            same(total(preference.kto_loss(*args, **options)), expected.item())
    assert mp.isnan(preference.kto_loss(*mpf([-1, -1, "nan"]))[0])


def test_derivatives():
    """The difference quotients of `oracles.derivative` work on these formulas."""
    for kind in ("sigmoid", "robust", "hinge", "ipo"):
        options = {"kind": kind, "label_smoothing": 0.25}
        slopes = [oracles.derivative("dpo_loss", DRAWS[0], options, i)[0] for i in range(4)]
        same([float(x) for x in slopes], float(slopes[0]) * np.array([1, -1, -1, 1]))
