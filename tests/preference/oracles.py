"""Preferences between two sequences, or about one, from log-probabilities. beta is at least 0."""

from mpmath import mp

from tests.laws.arithmetic import hinge, product, sigmoid, softplus
from tests.laws.slopes import slopes


def bradley_terry_loss(chosen, rejected, *, margin=mp.zero):
    return [softplus(-(chosen - rejected - margin))]


def dpo_loss(
    chosen,
    rejected,
    reference_chosen,
    reference_rejected,
    *,
    beta=0.1,
    kind="sigmoid",
    label_smoothing=mp.zero,
):
    gains = chosen - reference_chosen, rejected - reference_rejected
    return _DPO[kind](*gains, mp.mpf(beta), label_smoothing) if beta >= 0 else [mp.nan]


def simpo_loss(chosen, rejected, chosen_lengths, rejected_lengths, *, beta=2, gamma=mp.one):
    if not (beta >= 0 and chosen_lengths > 0 and rejected_lengths > 0):
        return [mp.nan]
    reward = beta * chosen / chosen_lengths
    return [softplus(-(reward - beta * rejected / rejected_lengths - gamma))]


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


_DPO = {"sigmoid": _dpo_sigmoid, "robust": _dpo_robust, "hinge": _dpo_hinge, "ipo": _dpo_ipo}


def _log_odds(log_probability):
    """log(p / (1 - p))."""
    if log_probability == 0:
        return mp.inf
    return log_probability - mp.log(-mp.expm1(log_probability))
