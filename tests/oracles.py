"""Exact values and derivatives of the losses in mpmath, to measure the compiled ones against.

Each loss here is its written formula and carries the name of the loss it judges. It takes mpf
numbers, predictions and targets first, then side data (variance, scale, df, dispersion) by
position and hyperparameters by keyword, and returns the terms whose sum is the loss: several
where the formula adds terms of either sign, so that an error can be measured against the largest
of them, and one where it has to be measured against the result itself. The two cosines take lists
of numbers. Formulas hold inside the domain of a loss and, where a limit exists, on its boundary.

`value` and `derivative` evaluate them with as many bits as the sizes of the arguments ask for.
"""

from typing import Any

from mpmath import mp


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
        return [mp.zero]
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


def cosine_similarity(predictions, targets, *, epsilon=mp.zero):
    # As optax has it, epsilon bounds the squares of the norms.
    squares = [max(mp.fsum(x**2 for x in vector), epsilon) for vector in (predictions, targets)]
    norms = mp.sqrt(squares[0] * squares[1])
    if norms == 0:
        return [mp.zero]
    return [a * b / norms for a, b in zip(predictions, targets, strict=True)]


def cosine_distance(predictions, targets, *, epsilon=mp.zero):
    return [1 - mp.fsum(cosine_similarity(predictions, targets, epsilon=epsilon))]


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
    terms = [rate, -_product(targets, log_rate)]
    return [*terms, mp.loggamma(targets + 1)] if full else terms


def gamma_nll_loss(predictions, targets, *, log_input=True):
    log_mean, mean = _link(predictions, log_input)
    if mean == 0:
        return [mp.inf if targets else -mp.inf]
    return [log_mean, targets / mean]


def tweedie_loss(predictions, targets, *, power, log_input=True):
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
        -_product(targets, mp.exp((1 - power) * log_mean)) / (1 - power),
    ]


def negative_binomial_nll_loss(predictions, targets, dispersion, *, log_input=True):
    log_mean, mean = _link(predictions, log_input)
    factorial = mp.loggamma(targets + 1)
    if dispersion == 0:
        return [mp.zero, factorial, mean, -_product(targets, log_mean)]
    size = 1 / dispersion
    rising = mp.loggamma(targets + size) - mp.loggamma(size) + targets * mp.log(dispersion)
    return [
        -rising,
        factorial,
        targets * mp.log1p(dispersion * mean),
        size * mp.log1p(dispersion * mean),
        -_product(targets, log_mean),
    ]


def beta_nll_loss(predictions, targets, variance, *, beta=0.5, weight=None):
    weight = variance**beta if weight is None else weight
    return [weight * term for term in gaussian_nll_loss(predictions, targets, variance)]


def gaussian_crps(predictions, targets, scale):
    d = targets - predictions
    if scale == 0:
        return [abs(d)]
    w = d / scale
    return [d * mp.erf(w / mp.sqrt(2)), 2 * scale * mp.npdf(w), -scale / mp.sqrt(mp.pi)]


def value(loss_name: str, args, options):
    """The exact loss and the size of its largest term."""
    args, options = _exact(args, options)
    with mp.workprec(500 + 6 * _spread(args, options)):
        return _sum_and_largest(globals()[loss_name](*args, **options))


def derivative(loss_name: str, args, options, wrt):
    """The exact derivative of a loss off its kinks, and the size of the largest term's derivative.

    Args:
        loss_name: the name of a loss above.
        args: predictions, targets and side data.
        options: hyperparameters by name.
        wrt: an index into `args`, a pair (index, component) where that argument is a list, or the
            name of a number in `options`.

    At 0, side data and means given as they are (log_input=False) get the derivative from above. In
    a hyperparameter or side datum that is infinite the derivative is its limit, 0.
    """
    args, options = _exact(args, options)
    index, component = wrt if isinstance(wrt, tuple) else (wrt, None)
    at = options[wrt] if isinstance(wrt, str) else args[index]
    at = at if component is None else at[component]
    if mp.isinf(at):
        if wrt in (0, 1) or component is not None:
            raise ValueError(f"no derivative of {loss_name} in the infinite argument {wrt}")
        return mp.zero, mp.zero
    if loss_name == "tweedie_loss" and wrt == "power" and at in (0, 1, 2):
        raise ValueError(f"tweedie_loss jumps at power {at}: constants are dropped there")
    if loss_name == "general_robust_loss" and wrt == "alpha" and at == 2:
        # The slope in alpha grows like log(1 / |alpha - 2|), which no difference quotient shows.
        slope = mp.zero if args[0] == args[1] else mp.inf
        return slope, slope

    spread = _spread(args, options)
    with mp.workprec(1000 + 10 * spread):
        if loss_name == "beta_nll_loss":
            options = {"weight": args[2] ** options.get("beta", 0.5), **options}

        def terms_at(x):
            moved, named = list(args), dict(options)
            if isinstance(wrt, str):
                named[wrt] = x
            elif component is None:
                moved[index] = x
            else:
                moved[index] = [x if i == component else a for i, a in enumerate(moved[index])]
            return globals()[loss_name](*moved, **named)

        step = mp.ldexp(1, -250 - 2 * spread)
        bounded = [0] if options.get("log_input") is False else []
        on_the_end = at == 0 and index in [*bounded, *range(2, len(args))]
        low, high = at - (0 if on_the_end else step), at + step
        return _sum_and_largest(
            [
                (above - below) / (high - low)
                for below, above in zip(terms_at(low), terms_at(high), strict=True)
            ]
        )


def _product(count, factor):
    """count * factor, 0 for a count of 0 even where the factor is infinite."""
    return count * factor if count else mp.zero


def _link(predictions, log_input):
    """The logarithm of the mean and the mean."""
    if log_input:
        return predictions, mp.exp(predictions)
    return mp.log(predictions), predictions


def _exact(args, options) -> tuple[list[Any], dict[str, Any]]:
    """Arguments as mpf numbers, without rounding; flags as they are."""

    def convert(x):
        if x is None or isinstance(x, bool | mp.mpf):
            return x
        if isinstance(x, list | tuple) or getattr(x, "ndim", 0):
            return [convert(entry) for entry in x]
        return mp.mpf(float(x))

    return [convert(x) for x in args], {name: convert(x) for name, x in options.items()}


def _spread(args, options):
    """How many binary orders of magnitude lie between the numbers of a call, 1 among them."""
    numbers = [0]
    for x in [*args, *options.values()]:
        for entry in x if isinstance(x, list) else [x]:
            if isinstance(entry, mp.mpf) and entry and mp.isfinite(entry):
                numbers.append(mp.mag(entry))
    return max(numbers) - min(numbers)


def _sum_and_largest(terms):
    return mp.fsum(terms), max(abs(term) for term in terms)
