"""Regression, robust and quantile losses."""

from mpmath import mp

from tests.laws.slopes import slopes


def l1_loss(predictions, targets):
    return [abs(predictions - targets)]


def squared_error(predictions, targets):
    return [(predictions - targets) ** 2]


def l2_loss(predictions, targets):
    return [(predictions - targets) ** 2 / 2]


def smooth_l1_loss(predictions, targets, *, beta=mp.one):
    size = abs(predictions - targets)
    return [size**2 / (2 * beta) if size < beta else size - beta / 2]


def huber_loss(predictions, targets, *, delta=mp.one):
    size = abs(predictions - targets)
    if delta < 0:
        return [mp.nan]
    return [size**2 / 2 if size <= delta else delta * (size - delta / 2)]


def log_cosh(predictions, targets):
    return [mp.log(mp.cosh(predictions - targets))]


def pseudo_huber_loss(predictions, targets, *, delta=mp.one):
    e = predictions - targets
    if delta == 0:
        return [delta * e]
    if mp.isinf(delta):
        return [e**2 / 2]
    return [delta**2 * (mp.sqrt(1 + (e / delta) ** 2) - 1)]


def cauchy_loss(predictions, targets, *, scale=mp.one):
    z = ((predictions - targets) / scale) ** 2
    return [mp.log1p(z / 2)]


def geman_mcclure_loss(predictions, targets, *, scale=mp.one):
    z = ((predictions - targets) / scale) ** 2
    return [mp.mpf(2) if mp.isinf(z) else 2 * z / (z + 4)]


def welsch_loss(predictions, targets, *, scale=mp.one):
    z = ((predictions - targets) / scale) ** 2
    return [-mp.expm1(-z / 2)]


def tukey_biweight_loss(predictions, targets, *, c=4.685):
    e, c = predictions - targets, mp.mpf(c)
    if mp.isinf(c):
        return [e**2 / 2]
    if abs(e) < c:
        return [c**2 / 6 * (1 - (1 - (e / c) ** 2) ** 3)]
    return [c**2 / 6]


def _in_alpha_at_2(args, options, wrt):
    """The slope in alpha grows like log(1 / |alpha - 2|), which no difference quotient shows."""
    if wrt != "alpha" or options["alpha"] != 2:
        return None
    return mp.zero if args[0] == args[1] else mp.inf


@slopes(limit=_in_alpha_at_2)
def general_robust_loss(predictions, targets, *, alpha, scale=mp.one):
    z = ((predictions - targets) / scale) ** 2
    if alpha == 2:
        return [z / 2]
    if alpha == 0:
        return [mp.log1p(z / 2)]
    if mp.isinf(alpha):
        return [mp.expm1(z / 2) if alpha > 0 else -mp.expm1(-z / 2)]
    b = abs(alpha - 2)
    return [b / alpha * ((z / b + 1) ** (alpha / 2) - 1)]


def quantile_loss(predictions, targets, *, quantile):
    d = targets - predictions
    return [quantile * d if d >= 0 else (quantile - 1) * d]


def expectile_loss(predictions, targets, *, expectile):
    d = targets - predictions
    return [abs(expectile - (d < 0)) * d**2]


def epsilon_insensitive_loss(predictions, targets, *, epsilon):
    size = abs(predictions - targets)
    return [size, -epsilon] if size > epsilon else [mp.zero]


def squared_epsilon_insensitive_loss(predictions, targets, *, epsilon):
    size = abs(predictions - targets)
    return [(size - epsilon) ** 2 if size > epsilon else mp.zero]


def absolute_percentage_error(predictions, targets, *, epsilon):
    return [abs(predictions - targets) / max(abs(targets), epsilon)]


def squared_logarithmic_error(predictions, targets):
    return [(mp.log1p(predictions) - mp.log1p(targets)) ** 2]
