"""Exact forms of the losses of ensembles and intervals, in mpmath."""

from mpmath import mp


def _scores(to_target, between):
    """The fair and the biased score of distances to the target and between members i < j."""
    size = len(to_target)
    mean = mp.fsum(to_target) / size
    fair = mean - mp.fsum(between) / (size * (size - 1))
    return fair, mean - mp.fsum(between) / size**2


def _of_kind(to_target, between, kind, alpha):
    fair, biased = _scores(to_target, between)
    return {
        "fair": [fair],
        "biased": [biased],
        "almost_fair": [alpha * fair, (1 - alpha) * biased],
    }[kind]


def crps_ensemble(predictions, targets, *, kind="fair", alpha=0.95, lower=-mp.inf, upper=mp.inf):
    lower = -mp.inf if lower is None else lower
    upper = mp.inf if upper is None else upper
    *x, y = (min(max(z, lower), upper) for z in (*predictions, targets))
    between = [abs(a - b) for i, a in enumerate(x) for b in x[:i]]
    return _of_kind([abs(a - y) for a in x], between, kind, alpha)
