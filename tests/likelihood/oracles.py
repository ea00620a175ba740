"""Negative log-likelihoods and proper scores of a predicted distribution."""

from mpmath import mp

from tests.laws.arithmetic import product, sigmoid, softplus
from tests.laws.slopes import slopes


def _at_the_clamp(args, options, wrt, at):
    """The slope in a variance below eps is that at eps."""
    if wrt != 2:
        return options, at
    free = {name: value for name, value in options.items() if name != "eps"}
    return free, max(at, options.get("eps", mp.zero))


@slopes(at=_at_the_clamp)
def gaussian_nll_loss(predictions, targets, variance, *, full=False, eps=mp.zero):
    e = predictions - targets
    variance = max(variance, eps)
    if variance == 0:
        return [mp.inf if e else -mp.inf]
    terms = [mp.log(variance) / 2, e**2 / (2 * variance)]
    return [*terms, mp.log(2 * mp.pi) / 2] if full else terms


def laplace_nll_loss(predictions, targets, scale):
    e = predictions - targets
    if scale == 0:
        return [mp.inf if e else -mp.inf]
    return [mp.log(2 * scale), abs(e) / scale]


def student_t_nll_loss(predictions, targets, scale, df):
    e = predictions - targets
    if scale == 0:
        return [mp.inf if e else -mp.inf]
    z = (e / scale) ** 2
    if mp.isinf(df):
        return [mp.log(2 * mp.pi) / 2, mp.log(scale), z / 2]
    # One term: its parts grow without bound in df while their sum tends to log(2 pi) / 2.
    normaliser = mp.loggamma(df / 2) - mp.loggamma((df + 1) / 2) + mp.log(df * mp.pi) / 2
    logarithm = mp.log1p(z / df)
    return [normaliser, mp.log(scale), df / 2 * logarithm, logarithm / 2]


def poisson_nll_loss(predictions, targets, *, log_input=True, full=False, eps=mp.zero):
    rate = mp.exp(predictions) if log_input else predictions
    log_rate = predictions if log_input else mp.log(predictions + eps)
    terms = [rate, -product(targets, log_rate)]
    return [*terms, mp.loggamma(targets + 1)] if full else terms


def gamma_nll_loss(predictions, targets, *, log_input=True):
    log_mean, mean = _link(predictions, log_input)
    if mean == 0:
        return [mp.inf if targets else -mp.inf]
    return [log_mean, targets / mean]


@slopes(undefined={"power": (0, 1, 2)})
def tweedie_loss(predictions, targets, *, power, log_input=True):
    if power > 0 and (targets < 0 or (targets == 0 and power >= 2)):
        return [mp.nan, mp.nan]
    if power == 1:
        return poisson_nll_loss(predictions, targets, log_input=log_input)
    if power == 2:
        return gamma_nll_loss(predictions, targets, log_input=log_input)
    log_mean, mean = _link(predictions, log_input)
    if power == 0 and log_input:
        # Expanded, because the rounding of exp(f) alone is an error of this size in the square.
        return [mean**2 / 2, -mean * targets, targets**2 / 2]
    if power == 0:
        return [(mean - targets) ** 2 / 2]
    return [
        mp.exp((2 - power) * log_mean) / (2 - power),
        -product(targets, mp.exp((1 - power) * log_mean)) / (1 - power),
    ]


def negative_binomial_nll_loss(predictions, targets, dispersion, *, log_input=True):
    log_mean, mean = _link(predictions, log_input)
    factorial = mp.loggamma(targets + 1)
    if dispersion == 0:
        return [mp.zero, factorial, mean, -product(targets, log_mean)]
    size = 1 / dispersion
    rising = mp.loggamma(targets + size) - mp.loggamma(size) + targets * mp.log(dispersion)
    return [
        -rising,
        factorial,
        targets * mp.log1p(dispersion * mean),
        size * mp.log1p(dispersion * mean),
        -product(targets, log_mean),
    ]


# Of targets that only select, as a 0 does, the derivative is 0.
@slopes(constant=(1,))
def zero_inflated_poisson_nll_loss(predictions, targets, gate_logits):
    if targets == 0:
        return [_zero(mp.exp(predictions), gate_logits)]
    return [softplus(gate_logits), *poisson_nll_loss(predictions, targets, full=True)]


@slopes(constant=(1,))
def zero_inflated_negative_binomial_nll_loss(predictions, targets, dispersion, gate_logits):
    count = negative_binomial_nll_loss(predictions, targets, dispersion)
    if targets == 0:
        return [_zero(mp.fsum(count), gate_logits)]
    return [softplus(gate_logits), *count]


def _zero(count, gate_logits):
    """Minus the logarithm of the probability that a gate or a count is 0."""
    gate, rest = sigmoid(gate_logits), sigmoid(-gate_logits)
    # Of a probability near 1 what is missing.
    missing = -mp.expm1(-count) * rest
    return -mp.log1p(-missing) if missing < 0.5 else -mp.log(gate + rest * mp.exp(-count))


@slopes(constant=(1,))
def hurdle_poisson_nll_loss(predictions, targets, gate_logits):
    if targets == 0:
        return [softplus(-gate_logits)]
    mean = mp.exp(predictions)
    # The first two terms are one: for a small mean they cancel.
    passed = mp.log(mp.expm1(mean)) - predictions
    others = [-product(targets - 1, predictions), mp.loggamma(targets + 1)]
    return [softplus(gate_logits), passed, *others]


@slopes(constant=(1,))
def zero_inflated_lognormal_nll_loss(predictions, targets, scale, gate_logits):
    if targets == 0:
        return [softplus(-gate_logits)]
    f, m, square = mp.log(targets), predictions, 2 * scale**2
    if mp.isinf(m):
        return [mp.inf]
    # Expanded: the rounding of log(y) alone is an error of the size of these terms.
    error = [m**2 / square, -2 * m * f / square, f**2 / square]
    return [softplus(gate_logits), f, mp.log(scale), *error, mp.log(2 * mp.pi) / 2]


def gaussian_kl(mean, log_variance, prior_mean, prior_log_variance, *, free_bits=mp.zero):
    terms = []
    for m, f, m0, f0 in zip(mean, log_variance, prior_mean, prior_log_variance, strict=True):
        d = f - f0
        parts = [(mp.expm1(d) - d) / 2, (m - m0) ** 2 * mp.exp(-f0) / 2]
        terms += parts if mp.fsum(parts) >= free_bits else [free_bits]
    return terms


def mixture_density_nll_loss(predictions, targets, scale, logits):
    each = []
    for m, s, z in zip(predictions, scale, logits, strict=True):
        each.append([-z, mp.log(s), ((m - targets) / s) ** 2 / 2])
    sums = [mp.fsum(parts) for parts in each]
    best = min(sums)
    # The terms of the likeliest component, and what the others add.
    surprise, *parts = each[sums.index(best)]
    normaliser = surprise + _log_sum(logits)
    return [normaliser, *parts, mp.log(2 * mp.pi) / 2, -_log_sum([best - x for x in sums])]


def _log_sum(exponents):
    top = max(exponents)
    return top + mp.log(mp.fsum(mp.exp(x - top) for x in exponents))


def multivariate_gaussian_nll_loss(predictions, targets, factor, *, kind="covariance"):
    size = range(len(targets))
    e = [p - t for p, t in zip(predictions, targets, strict=True)]
    if kind == "precision":
        scaled = [mp.fsum(factor[j][i] * e[j] for j in size if j >= i) for i in size]
    else:
        scaled = []
        for i in size:
            known = mp.fsum(factor[i][j] * scaled[j] for j in size if j < i)
            scaled.append((e[i] - known) / factor[i][i])
    sign = -1 if kind == "precision" else 1
    logs = [sign * mp.log(factor[i][i]) for i in size]
    return [*(x**2 / 2 for x in scaled), *logs, mp.log(2 * mp.pi) / 2 * len(targets)]


def low_rank_gaussian_nll_loss(predictions, targets, variance, factor):
    rows = mp.matrix(factor)
    covariance = rows * rows.T + mp.diag(variance)
    precision = mp.inverse(covariance)
    e = [p - t for p, t in zip(predictions, targets, strict=True)]
    size = range(len(e))
    # The terms of the quadratic form, which are of either sign.
    distance = [e[i] * precision[i, j] * e[j] / 2 for i in size for j in size]
    log_determinant = mp.log(mp.det(covariance))
    return [*distance, log_determinant / 2, mp.log(2 * mp.pi) / 2 * len(e)]


def von_mises_nll_loss(predictions, targets, concentration):
    k = concentration
    return [mp.log(2 * mp.pi), _log_bessel(k), 2 * k * mp.sin((predictions - targets) / 2) ** 2]


def _log_bessel(k):
    """log(I0(k) exp(-k)), whose product overflows; by its asymptotic series for k beyond 1e4."""
    if k < 10**4:
        return mp.log(mp.besseli(0, k)) - k
    term, total = mp.one, mp.one
    for n in range(1, 60):
        term *= mp.mpf((2 * n - 1) ** 2) / (8 * n * k)
        total += term
    return mp.log(total) - mp.log(2 * mp.pi * k) / 2


@slopes(held=lambda p, t, variance, *, beta=0.5, **_: {"weight": variance**beta})
def beta_nll_loss(predictions, targets, variance, *, beta=0.5, weight=None):
    weight = variance**beta if weight is None else weight
    return [weight * term for term in gaussian_nll_loss(predictions, targets, variance)]


def gaussian_crps(predictions, targets, scale):
    d = targets - predictions
    if scale == 0:
        return [abs(d)]
    w = d / scale
    return [d * mp.erf(w / mp.sqrt(2)), 2 * scale * mp.npdf(w), -scale / mp.sqrt(mp.pi)]


def _normal_mass(a, b):
    """In the tail where the distribution function has all its digits."""
    return mp.ncdf(-a) - mp.ncdf(-b) if a > 0 else mp.ncdf(b) - mp.ncdf(a)


def _sigmoid(x):
    return mp.zero if x == -mp.inf else 1 / (1 + mp.exp(-x))


def _gumbel_mass(a, b):
    if a == -mp.inf:
        return -mp.expm1(-mp.exp(b))
    return mp.exp(-mp.exp(a)) - (mp.zero if b == mp.inf else mp.exp(-mp.exp(b)))


def _logistic_terms(a, b):
    """Of sigmoid(b) (1 - sigmoid(a)) (1 - exp(a - b))."""
    ends = [mp.log1p(mp.exp(x)) for x in (a, -b) if x != -mp.inf]
    return [*ends, *([] if mp.isinf(b - a) else [-mp.log(-mp.expm1(a - b))])]


# The terms of -log(F(b) - F(a)).
_INTERVALS = {
    "normal": lambda a, b: [-mp.log(_normal_mass(a, b))],
    "logistic": _logistic_terms,
    "gumbel": lambda a, b: [-mp.log(_gumbel_mass(a, b))],
}
_DENSITIES = {
    "normal": lambda z: [z * z / 2, mp.log(2 * mp.pi) / 2],
    "logistic": lambda z: [-mp.log(_sigmoid(z) * _sigmoid(-z))],
    "gumbel": lambda z: [mp.exp(z), -z],
}


def _zero_in_an_infinite_bound(args, options, wrt):
    at = options[wrt] if isinstance(wrt, str) else args[wrt]
    if not mp.isinf(at):
        return None
    outside = any(mp.isnan(term) for term in censored_nll_loss(*args, **options))
    return mp.nan if outside else mp.zero


@slopes(limit=_zero_in_an_infinite_bound)
def censored_nll_loss(
    predictions,
    lower,
    upper,
    scale,
    *,
    kind="normal",
    truncation_lower=-mp.inf,
    truncation_upper=mp.inf,
):
    def standardised(bound):
        return bound if mp.isinf(bound) else (bound - predictions) / scale

    def interval(a, b):
        return _INTERVALS[kind](standardised(a), standardised(b))

    low, high = truncation_lower, truncation_upper
    if lower > upper or upper <= low or lower >= high or low >= high:
        return [mp.nan, mp.nan]
    if lower == upper:
        terms = [mp.log(scale), *_DENSITIES[kind](standardised(lower))]
    else:
        terms = interval(max(lower, low), min(upper, high))
    if mp.isinf(low) and mp.isinf(high):
        return terms
    return [*terms, *(-term for term in interval(low, high))]


def _link(predictions, log_input):
    """The logarithm of the mean and the mean."""
    if log_input:
        return predictions, mp.exp(predictions)
    return mp.log(predictions), predictions
