"""Exact forms of the losses of times to events, in mpmath.

Times and events only select: they have no slope.
"""

from mpmath import mp

from tests.laws.arithmetic import softplus
from tests.laws.slopes import slopes


@slopes(constant=(1, 2, 3))
def cox_partial_likelihood(
    log_hazards, times, events, entry_times=None, *, strata=None, ties="efron"
):
    """A term for each event, from a loop over those at risk."""
    rows = range(len(times))
    entry_times = [-mp.inf] * len(times) if entry_times is None else entry_times
    strata = [0] * len(times) if strata is None else strata
    numbers = [*log_hazards, *times, *entry_times]
    if any(mp.isnan(x) for x in numbers) or any(e not in (0, 1) for e in events):
        return [mp.nan]
    if any(not entry_times[i] < times[i] for i in rows):
        return [mp.nan]
    terms = [mp.zero]
    for i in rows:
        if events[i] != 1:
            continue
        risk = [j for j in rows if strata[j] == strata[i] and entry_times[j] < times[i] <= times[j]]
        tied = [j for j in risk if times[j] == times[i] and events[j] == 1]
        left = mp.one
        if ties == "efron":
            left -= mp.mpf(sum(j < i for j in tied)) / len(tied)
        others = mp.fsum(
            (left if j in tied else 1) * mp.exp(log_hazards[j] - log_hazards[i])
            for j in risk
            if j != i
        )
        terms.append(mp.log1p(others) if left == 1 else mp.log(left + others))
    return terms


@slopes(constant=(1, 2))
def logistic_hazard_loss(logits, durations, events):
    """From the probabilities: those of an interval are 1 / (1 + e^-z) and 1 / (1 + e^z)."""
    if not 0 <= durations < len(logits) or events not in (0, 1):
        return [mp.nan]
    ends = [softplus(-logits[durations]) if events else softplus(logits[durations])]
    return [softplus(z) for z in logits[:durations]] + ends


@slopes(constant=(1, 2))
def pmf_loss(logits, durations, events):
    if not 0 <= durations < len(logits) or events not in (0, 1):
        return [mp.nan]
    sizes = [mp.exp(z) for z in [*logits, mp.zero]]
    if events:
        likely, others = [sizes.pop(durations)], sizes
    else:
        likely, others = sizes[durations + 1 :], sizes[: durations + 1]
    return [mp.log1p(mp.fsum(others) / mp.fsum(likely))]


@slopes(constant=(1, 2))
def deephit_ranking_loss(logits, durations, events, *, temperature):
    """A term for each pair."""
    rows = range(len(durations))
    inside = all(0 <= n < len(logits[0]) for n in durations) and all(e in (0, 1) for e in events)
    if not inside or any(mp.isnan(z) for row in logits for z in row):
        return [mp.nan]

    def until(j, n):
        sizes = [mp.exp(z) for z in [*logits[j], mp.zero]]
        return mp.fsum(sizes[: n + 1]) / mp.fsum(sizes)

    terms = [mp.zero]
    for i in rows:
        for j in rows:
            later = durations[j] > durations[i] or (durations[j] == durations[i] and not events[j])
            if events[i] == 1 and later:
                gap = until(i, durations[i]) - until(j, durations[i])
                terms.append(mp.exp(-gap / temperature))
    return terms


@slopes(constant=(2,))
def aft_nll_loss(predictions, times, events, *, scale=mp.one, kind="weibull"):
    """From densities and survival functions of log t, less log t itself for an event."""
    if not times > 0 or events not in (0, 1) or not scale > 0:
        return [mp.nan]
    z = (mp.log(times) - predictions) / scale
    if events:
        end = {
            "weibull": lambda: [mp.exp(z), -z],
            "log_logistic": lambda: [softplus(z), softplus(-z)],
            "log_normal": lambda: [z * z / 2, mp.log(2 * mp.pi) / 2],
        }
        return [*end[kind](), mp.log(scale), mp.log(times)]
    end = {
        "weibull": lambda: mp.exp(z),
        "log_logistic": lambda: softplus(z),
        "log_normal": lambda: _surprisal_of_tail(z),
    }
    return [end[kind]()]


def _surprisal_of_tail(z):
    """-log(1 - Phi(z)), from the smaller of both tails."""
    tail = mp.erfc(abs(z) / mp.sqrt(2)) / 2
    return -mp.log(tail) if z > 0 else -mp.log1p(-tail)
