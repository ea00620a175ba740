"""Preferences between two sequences, or about one, from log-probabilities. beta is at least 0."""

from mpmath import mp

from tests.laws.arithmetic import hinge, product, sigmoid, softplus
from tests.laws.slopes import slopes


def bradley_terry_loss(chosen, rejected, *, margin=mp.zero, center_rewards_coefficient=mp.zero):
    """The square of the sum t of both as t times each of them."""
    k = center_rewards_coefficient
    if not k >= 0:
        return [mp.nan]
    both = chosen + rejected
    lost = softplus(-(chosen - rejected - margin))
    if mp.isinf(both):
        return [lost, product(k, mp.inf), mp.zero]
    return [lost, k * both * chosen, k * both * rejected]


def dpo_loss(
    chosen,
    rejected,
    reference_chosen,
    reference_rejected,
    chosen_lengths=mp.one,
    rejected_lengths=mp.one,
    *,
    beta=0.1,
    kind="sigmoid",
    label_smoothing=mp.zero,
    temperature=0.05,
    divergence="reverse_kl",
    alpha=0.5,
):
    if not (beta >= 0 and chosen_lengths > 0 and rejected_lengths > 0):
        return [mp.nan]
    c = (chosen - reference_chosen) / chosen_lengths
    r = (rejected - reference_rejected) / rejected_lengths
    beta = mp.mpf(beta)
    if divergence == "alpha" and not alpha >= 0:
        return [mp.nan]
    gap = _GAPS[divergence](c, r, mp.mpf(alpha))
    if kind in _OF_GAINS:
        return _OF_GAINS[kind](c, r, gap, beta)
    if kind == "discopop":
        return _dpo_discopop(beta * gap, mp.mpf(temperature))
    # Of the two parts of the square of "ipo".
    return _DPO[kind](*((c, r) if divergence == "reverse_kl" else (gap, 0)), beta, label_smoothing)


def simpo_loss(
    chosen,
    rejected,
    chosen_lengths,
    rejected_lengths,
    *,
    beta=2,
    gamma=mp.one,
    label_smoothing=mp.zero,
):
    if not (beta >= 0 and chosen_lengths > 0 and rejected_lengths > 0):
        return [mp.nan]
    if not 0 <= label_smoothing <= 1:
        return [mp.nan]
    z = beta * chosen / chosen_lengths - beta * rejected / rejected_lengths - gamma
    return [product(1 - label_smoothing, softplus(-z)) + product(label_smoothing, softplus(z))]


def orpo_loss(chosen, rejected, *, beta=0.1, log_odds=False):
    if mp.isnan(chosen) or mp.isnan(rejected) or not beta >= 0:
        return [mp.nan]
    if not log_odds:
        if chosen > 0 or rejected > 0:
            return [mp.nan]
        chosen, rejected = _log_odds(chosen), _log_odds(rejected)
    if chosen == -mp.inf or (rejected == mp.inf and beta):
        return [mp.inf]
    return [softplus(-chosen) + product(beta, softplus(rejected - chosen))]


@slopes(constant=(2,))
def kto_loss(
    log_probabilities,
    reference_log_probabilities,
    labels,
    *,
    beta=0.1,
    reference_point=mp.zero,
    desirable_weight=mp.one,
    undesirable_weight=mp.one,
):
    if mp.isnan(labels) or not beta >= 0:
        return [mp.nan]
    reward = beta * (log_probabilities - reference_log_probabilities - reference_point)
    if labels > 0:
        return [product(desirable_weight, sigmoid(-reward))]
    return [product(undesirable_weight, sigmoid(reward))]


@slopes(constant=(2,))
def bco_loss(
    log_probabilities, reference_log_probabilities, labels, *, beta=0.1, reward_shift=mp.zero
):
    if mp.isnan(labels) or not beta >= 0:
        return [mp.nan]
    logit = beta * (log_probabilities - reference_log_probabilities) - reward_shift
    return [softplus(-logit if labels > 0 else logit)]


def _alpha_gap(c, r, alpha):
    return (mp.exp(-alpha * r) - mp.exp(-alpha * c)) / alpha if alpha else c - r


_GAPS = {
    "reverse_kl": lambda c, r, alpha: c - r,
    "forward_kl": lambda c, r, alpha: _alpha_gap(c, r, mp.one),
    "js": lambda c, r, alpha: softplus(-r) - softplus(-c),
    "alpha": _alpha_gap,
}


def _dpo_exo_pair(chosen_gain, rejected_gain, beta, smoothing):
    """sum over both of p log(p / q), as the logarithms of p and of q."""
    if not 0 < smoothing < 1:
        return [mp.nan]
    z = beta * (chosen_gain - rejected_gain)
    win, lose = sigmoid(z), sigmoid(-z)
    return [
        -product(win, softplus(-z)),
        -product(lose, softplus(z)),
        -product(win, mp.log1p(-smoothing)),
        -product(lose, mp.log(smoothing)),
    ]


def _dpo_nca_pair(c, r, gap, beta):
    return [softplus(-beta * c), softplus(beta * c) / 2, softplus(beta * r) / 2]


def _dpo_sppo_hard(c, r, gap, beta):
    target = 1 / (2 * beta) if beta else mp.inf
    errors = c - target, r + target
    if any(map(mp.isinf, errors)):
        return [mp.inf, mp.zero, mp.zero, mp.zero]
    one, two = errors
    return [one * c, -one * target, two * r, two * target]


def _dpo_discopop(z, temperature):
    if not temperature > 0:
        return [mp.nan]
    # Of -inf the limits: e^(-z) is nothing to e^(z / temperature) below 1.
    if mp.isinf(z):
        grows = temperature > 1 and z < 0
        return [max(-z, mp.zero), mp.inf if grows else mp.mpf(z < 0 and temperature == 1)]
    u = z / temperature
    return [product(sigmoid(-u), softplus(-z)), mp.exp(-z - softplus(-u))]


_OF_GAINS = {
    "nca_pair": _dpo_nca_pair,
    "sppo_hard": _dpo_sppo_hard,
    "apo_zero": lambda c, r, gap, beta: [sigmoid(-beta * c), sigmoid(beta * r)],
    "apo_down": lambda c, r, gap, beta: [sigmoid(beta * c), sigmoid(-beta * gap)],
}


def _dpo_sigmoid(chosen_gain, rejected_gain, beta, smoothing):
    if not 0 <= smoothing <= 1:
        return [mp.nan]
    z = beta * (chosen_gain - rejected_gain)
    return [product(1 - smoothing, softplus(-z)) + product(smoothing, softplus(z))]


def _dpo_robust(chosen_gain, rejected_gain, beta, smoothing):
    """((1 - e) softplus(-z) - e softplus(z)) / (1 - 2 e), by softplus(z) = softplus(-z) + z."""
    if not 0 <= smoothing < 0.5:
        return [mp.nan, mp.nan]
    z = beta * (chosen_gain - rejected_gain)
    return [softplus(-z), -product(smoothing, z) / (1 - 2 * smoothing)]


def _dpo_hinge(chosen_gain, rejected_gain, beta, smoothing):
    return hinge(mp.one, -beta * (chosen_gain - rejected_gain))


def _dpo_ipo(chosen_gain, rejected_gain, beta, smoothing):
    """The square of e = chosen gain - rejected gain - 1 / (2 beta), as e times each of them."""
    target = 1 / (2 * beta) if beta else mp.inf
    error = chosen_gain - rejected_gain - target
    if mp.isinf(error):
        return [mp.inf, mp.zero, mp.zero]
    return [error * chosen_gain, -error * rejected_gain, -error * target]


_DPO = {
    "sigmoid": _dpo_sigmoid,
    "robust": _dpo_robust,
    "hinge": _dpo_hinge,
    "ipo": _dpo_ipo,
    "exo_pair": _dpo_exo_pair,
}


def _log_odds(log_probability):
    """log(p / (1 - p))."""
    if log_probability == 0:
        return mp.inf
    return log_probability - mp.log(-mp.expm1(log_probability))
