"""Exact forms of the losses of times to events, in mpmath.

Times and events only select: they have no slope.
"""

from mpmath import mp

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
