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


def _distance(a, b):
    return mp.sqrt(mp.fsum((p - q) ** 2 for p, q in zip(a, b, strict=True)))


def energy_score(predictions, targets, *, kind="fair", alpha=0.95):
    x, size = predictions, len(predictions)
    to_target = [_distance(a, targets) for a in x]
    between = [_distance(a, b) for i, a in enumerate(x) for b in x[:i]]
    fair = {"fair": 1, "biased": 0, "almost_fair": alpha}[kind]
    share = fair / mp.mpf(size * (size - 1)) + (1 - fair) / mp.mpf(size**2)
    return [*(d / size for d in to_target), *(-share * d for d in between)]


def _quantile(prediction, target, level):
    d = target - prediction
    return max(level * d, (level - 1) * d)


def interval_score(lower, upper, targets, *, alpha):
    ends = (lower, alpha / 2), (upper, 1 - alpha / 2)
    return [2 / alpha * _quantile(end, targets, level) for end, level in ends]


def weighted_interval_score(lower, upper, median, targets, alpha):
    parts = [abs(targets - median) / 2]
    for low, high, a in zip(lower, upper, alpha, strict=True):
        if not 0 <= a <= 1:
            return [mp.nan] * (1 + 2 * len(lower))
        parts += [_quantile(low, targets, a / 2), _quantile(high, targets, 1 - a / 2)]
    return [part / (len(lower) + mp.mpf("0.5")) for part in parts]
