"""Negative log-likelihoods of counts and of positive amounts.

In the formulas mu is the predicted mean and y the target. With `log_input` the predictions are
f = log(mu), any real number, as a network without a last activation gives them; x is either.
Outside the domain losses are NaN.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from .._contract import inputs
from .._contract.jit import jit
from .._contract.reduce import Losses, Reduction, Weights, Where, reduced
from .._numerics.exact import exp_product, root_of_power
from .._numerics.kinks import closed_form
from .._numerics.special import log1p_gap, log_factorial, log_rising
from .observed import Field, Predictions, Targets, observed

Slopes = tuple[jax.Array, ...]


def _times(y: jax.Array, x: jax.Array) -> jax.Array:
    """The product of y and x, 0 where y is 0: a count of 0 meets log(0) or exp(inf) unharmed."""
    return jnp.where(y == 0, 0, y * jnp.where(y == 0, 1, x))


@closed_form(lambda f, y: (jnp.exp(f) - y, -f))
def _poisson_log(f: jax.Array, y: jax.Array) -> jax.Array:
    return jnp.where(f == jnp.inf, f, jnp.exp(f) - _times(y, f))


def _log_of_sum(mu: jax.Array, eps: jax.Array) -> jax.Array:
    """log(mu + eps), with what mu + eps would round away."""
    larger, smaller = jnp.maximum(mu, eps), jnp.minimum(mu, eps)
    return jnp.log(larger) + jnp.log1p(smaller / jnp.where(larger > 0, larger, 1))


@closed_form(
    lambda mu, y, eps: (
        1 - _times(y, 1 / (mu + eps)),
        -_log_of_sum(mu, eps),
        -_times(y, 1 / (mu + eps)),
    )
)
def _poisson_mean(mu: jax.Array, y: jax.Array, eps: jax.Array) -> jax.Array:
    return mu - _times(y, _log_of_sum(mu, eps))


@jit("log_input", "full")
def poisson_nll_loss(
    predictions: Predictions,
    targets: Targets,
    *,
    log_input: bool = True,
    full: bool = False,
    eps: ArrayLike = 0.0,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> Losses:
    """Negative log-likelihood of a Poisson distribution, for counts.

        exp(f) - y f            with log_input
        mu - y log(mu + eps)    without
        + log(y!)               with full

    `full` adds log(y!) itself, where PyTorch adds Stirling's approximation of it.

    Args:
        predictions: f = log(mu), or the mean mu, NaN below 0, without `log_input`.
        targets: Counts y, the shape of `predictions`, or a scalar; fractions are taken as they
            are. NaN below 0.
        log_input: Whether predictions are logarithms.
        full: Whether to add the term that depends on targets alone.
        eps: Added to mu inside the logarithm, unless `log_input`; 1e-8 in PyTorch. With 0 a
            mean of 0 has loss 0 at count 0 and inf at any other.
        where, weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per element.

    Reference:
        McCullagh and Nelder, "Generalized Linear Models", 1989, section 6.2.

    Example:
        >>> poisson_nll_loss(jnp.array([0.0, 0.0]), jnp.array([0, 3]), full=True)
        Array([1.       , 2.79176], dtype=float32)
    """
    x, y, eps = observed(predictions, targets, where, {"eps": eps})
    if log_input:
        losses = inputs.nan_outside(_poisson_log(x, y), y >= 0)
    else:
        inside = (y >= 0) & (x >= 0) & (eps >= 0)
        losses = inputs.nan_outside(_poisson_mean(x, y, eps), inside)
    if full:
        losses = losses + log_factorial(y)
    return reduced(losses, where, weights, reduction)


def _over_mean(y: jax.Array, f: jax.Array) -> jax.Array:
    """y exp(-f), in two factors: exp(-f) may overflow where its product with y does not."""
    root = jnp.exp(-0.5 * f)
    return y * root * root


@closed_form(lambda f, y: (1 - _over_mean(y, f), jnp.exp(-f)))
def _gamma_log(f: jax.Array, y: jax.Array) -> jax.Array:
    return f + _over_mean(y, f)


@closed_form(lambda mu, y: ((1 - y / mu) / mu, 1 / mu))
def _gamma_mean(mu: jax.Array, y: jax.Array) -> jax.Array:
    return jnp.log(mu) + y / mu


@jit("log_input")
def gamma_nll_loss(
    predictions: Predictions,
    targets: Targets,
    *,
    log_input: bool = True,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> Losses:
    """Negative log-likelihood of a gamma distribution of fixed shape, for positive amounts.

        f + y exp(-f)      with log_input
        log(mu) + y / mu   without

    Half the gamma deviance, less the terms that depend on targets alone.

    Args:
        predictions: f = log(mu), or the mean mu, NaN below 0, without `log_input`.
        targets: Amounts y, the shape of `predictions`, or a scalar. NaN unless positive.
        log_input: Whether predictions are logarithms.
        where, weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per element.

    Reference:
        McCullagh and Nelder, "Generalized Linear Models", 1989, section 8.3.

    Example:
        >>> gamma_nll_loss(jnp.array([0.0, 0.0]), jnp.array([1.0, 3.0]))
        Array([1., 3.], dtype=float32)
    """
    x, y = observed(predictions, targets, where)
    if log_input:
        losses = inputs.nan_outside(_gamma_log(x, y), y > 0)
    else:
        losses = inputs.nan_outside(_gamma_mean(x, y), (y > 0) & (x >= 0))
    return reduced(losses, where, weights, reduction)


class _Tweedie(NamedTuple):
    """What the Tweedie loss is made of.

    Attributes:
        mu: The mean.
        f: Its logarithm.
        y: The target.
        power: The power p.
        high: The root of mu^(2 - p): powers may be out of range where what they are multiplied
            with brings them back.
        low: The root of mu^(1 - p).
    """

    mu: jax.Array
    f: jax.Array
    y: jax.Array
    power: jax.Array
    high: jax.Array
    low: jax.Array


def _second(t: _Tweedie, factor: ArrayLike) -> jax.Array:
    """The term y mu^(1 - p) times a factor; 0 where the other, larger there, overflows."""
    term = _times(t.y, t.low) * (t.low * factor)
    return jnp.where(t.high * t.high == jnp.inf, 0, term)


def _tweedie_value(t: _Tweedie) -> jax.Array:
    one, two = t.power == 1, t.power == 2
    to_one, to_two = jnp.where(one, 1, 1 - t.power), jnp.where(two, 1, 2 - t.power)
    # Together while mu is finite: apart both terms may overflow.
    together = t.low * _times(t.mu / to_two - t.y / to_one, t.low)
    apart = t.high * (t.high / to_two) - _second(t, 1 / to_one)
    value = jnp.where(t.mu == jnp.inf, apart, together)
    value = jnp.where((t.mu == 0) & (t.y == 0), 0, value)
    value = jnp.where(two, t.f + t.y * t.low * t.low, value)
    value = jnp.where(one, t.mu - _times(t.y, t.f), value)
    return jnp.where(t.power == 0, 0.5 * jnp.square(t.mu - t.y), value)


def _tweedie_slopes(t: _Tweedie) -> Slopes:
    """The derivatives in f, y and power."""
    one, two = t.power == 1, t.power == 2
    special = one | two | (t.power == 0)
    to_one, to_two = jnp.where(one, 1, 1 - t.power), jnp.where(two, 1, 2 - t.power)
    far = t.mu == jnp.inf
    apart = t.high * t.high - _second(t, 1)
    in_f = jnp.where(far, apart, t.low * _times(t.mu - t.y, t.low))
    in_y = jnp.where(t.power == 0, t.y - t.mu, -jnp.where(one, t.f, t.low * (t.low / to_one)))
    in_high, in_low = (1 / to_two - t.f) / to_two, (1 / to_one - t.f) / to_one
    apart = t.high * (t.high * in_high) - _second(t, in_low)
    in_power = jnp.where(far, apart, t.low * (t.low * (t.mu * in_high - t.y * in_low)))
    return in_f, in_y, jnp.where(special, jnp.nan, in_power)


def _tweedie_of_log(f: jax.Array, y: jax.Array, power: jax.Array) -> _Tweedie:
    half = 0.5 * f
    high, low = exp_product(2, power, half), exp_product(1, power, half)
    return _Tweedie(jnp.exp(f), f, y, power, high, low)


@closed_form(lambda f, y, power: _tweedie_slopes(_tweedie_of_log(f, y, power)))
def _tweedie_log(f: jax.Array, y: jax.Array, power: jax.Array) -> jax.Array:
    return _tweedie_value(_tweedie_of_log(f, y, power))


def _tweedie_of_mean(mu: jax.Array, y: jax.Array, power: jax.Array) -> _Tweedie:
    high, low = root_of_power(2, power, mu), root_of_power(1, power, mu)
    return _Tweedie(mu, jnp.log(mu), y, power, high, low)


def _tweedie_mean_slopes(mu: jax.Array, y: jax.Array, power: jax.Array) -> Slopes:
    root = root_of_power(0, power, mu)
    limit = jnp.square(root_of_power(1, power, mu))
    _, *others = _tweedie_slopes(_tweedie_of_mean(mu, y, power))
    in_mu = jnp.where((y == 0) & (power != 0), limit, root * _times(mu - y, root))
    return (in_mu, *others)


@closed_form(_tweedie_mean_slopes)
def _tweedie_mean(mu: jax.Array, y: jax.Array, power: jax.Array) -> jax.Array:
    return _tweedie_value(_tweedie_of_mean(mu, y, power))


@jit("log_input")
def tweedie_loss(
    predictions: Predictions,
    targets: Targets,
    *,
    power: ArrayLike = 1.5,
    log_input: bool = True,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> Losses:
    """Half the Tweedie deviance: amounts that are often exactly zero, such as rain or claims.

        mu^(2 - p) / (2 - p) - y mu^(1 - p) / (1 - p)
        mu - y log(mu)     at p = 1, as `poisson_nll_loss`
        log(mu) + y / mu   at p = 2, as `gamma_nll_loss`
        (mu - y)^2 / 2     at p = 0, as `l2_loss`

    with mu = exp(f) under `log_input`. As in scikit-learn, terms that depend on targets alone
    are left out, and differently so at p = 0, 1 and 2: the loss jumps there in p, where its
    derivative in p is NaN. Its derivatives in predictions do not jump.

    Args:
        predictions: f = log(mu), or the mean mu, NaN below 0 unless p = 0, without
            `log_input`.
        targets: Amounts y, the shape of `predictions`, or a scalar. NaN below 0 for
            0 < p < 2, and unless positive for p >= 2.
        power: p: the variance is proportional to mu^p. Any real number; between 1 and 2 the
            distribution has an atom at 0.
        log_input: Whether predictions are logarithms.
        where, weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per element.

    Reference:
        Jørgensen, "Exponential dispersion models", 1987.

    Example:
        >>> tweedie_loss(jnp.array([0.0, 0.0]), jnp.array([0.0, 3.0]), power=1.5)
        Array([2., 8.], dtype=float32)
    """
    x, y, power = observed(predictions, targets, where, {"power": power})
    inside = jnp.where(power <= 0, True, jnp.where(power < 2, y >= 0, y > 0))
    if log_input:
        losses = inputs.nan_outside(_tweedie_log(x, y, power), inside)
    else:
        inside &= (x >= 0) | (power == 0)
        losses = inputs.nan_outside(_tweedie_mean(x, y, power), inside)
    return reduced(losses, where, weights, reduction)


def _spread(mu: jax.Array, f: jax.Array, dispersion: jax.Array) -> jax.Array:
    """log(1 + dispersion mu), also where the product overflows."""
    u = dispersion * mu
    far = u > 1e30
    return jnp.where(far, f + jnp.log(jnp.where(far, dispersion, 1)), jnp.log1p(u))


def _dispersed_mean(mu: jax.Array, f: jax.Array, dispersion: jax.Array) -> jax.Array:
    """log(1 + dispersion mu) / dispersion, mu at dispersion 0."""
    u = dispersion * mu
    near = u < 1
    held = jnp.where(near, u, 0)
    spread = _spread(mu, f, dispersion) / jnp.where(near, 1, dispersion)
    return jnp.where(near, mu * (1 - held * log1p_gap(held)), spread)


def _negative_binomial_value(
    mu: jax.Array, f: jax.Array, y: jax.Array, dispersion: jax.Array
) -> jax.Array:
    total = _dispersed_mean(mu, f, dispersion) + y * _spread(mu, f, dispersion) - _times(y, f)
    return total - log_rising(y, dispersion) + log_factorial(y)


def _negative_binomial_slopes(
    mu: jax.Array, f: jax.Array, y: jax.Array, dispersion: jax.Array
) -> Slopes:
    """The derivatives in f, in y and in the dispersion."""
    large = mu > 1
    inverse = 1 / jnp.where(large, mu, 1)
    in_f = jnp.where(
        large,
        (1 - y * inverse) / (inverse + dispersion),
        (mu - y) / (1 + dispersion * jnp.where(large, 1, mu)),
    )
    ones = jnp.ones_like(y)
    in_y = jax.jvp(lambda y: log_factorial(y) - log_rising(y, dispersion), (y,), (ones,))[1]
    rising = jax.jvp(lambda a: log_rising(y, a), (dispersion,), (ones,))[1]
    u = dispersion * mu
    near = u < 1
    held = jnp.where(near, u, 0)
    a = jnp.where(near, 1, dispersion)
    share = jnp.where(near, mu / (1 + held), 1 / (a + 1 / mu))  # mu / (1 + dispersion mu)
    in_mean = jnp.where(
        near,
        -mu * (mu * (1 / (1 + held) - log1p_gap(held))),
        (share - _spread(mu, f, dispersion) / a) / a,
    )
    return in_f, in_y + _spread(mu, f, dispersion) - f, in_mean + y * share - rising


@closed_form(lambda f, y, a: _negative_binomial_slopes(jnp.exp(f), f, y, a))
def _negative_binomial_log(f: jax.Array, y: jax.Array, dispersion: jax.Array) -> jax.Array:
    return _negative_binomial_value(jnp.exp(f), f, y, dispersion)


def _negative_binomial_mean_slopes(mu: jax.Array, y: jax.Array, dispersion: jax.Array) -> Slopes:
    _, *others = _negative_binomial_slopes(mu, jnp.log(mu), y, dispersion)
    in_mu = (1 - _times(y, 1 / mu)) / (1 + dispersion * mu)
    return (in_mu, *others)


@closed_form(_negative_binomial_mean_slopes)
def _negative_binomial_mean(mu: jax.Array, y: jax.Array, dispersion: jax.Array) -> jax.Array:
    return _negative_binomial_value(mu, jnp.log(mu), y, dispersion)


@jit("log_input")
def negative_binomial_nll_loss(
    predictions: Predictions,
    targets: Targets,
    dispersion: Field,
    *,
    log_input: bool = True,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> Losses:
    """Negative log-likelihood of a negative binomial, for counts that vary more than Poisson's.

        (y + 1/a) log(1 + a mu) - y log(mu) + log(y!)
            - log gamma(y + 1/a) + log gamma(1/a) - y log(a)

    with mu = exp(f) under `log_input`. Its variance is mu + a mu^2. At a = 0 it is exactly
    `poisson_nll_loss` with `full`.

    Args:
        predictions: f = log(mu), or the mean mu, NaN below 0, without `log_input`.
        targets: Counts y, the shape of `predictions`, or a scalar. NaN below 0.
        dispersion: a. NaN below 0.
        log_input: Whether predictions are logarithms.
        where, weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per element.

    Reference:
        Cameron and Trivedi, "Regression Analysis of Count Data", 1998, section 3.3.

    Example:
        >>> negative_binomial_nll_loss(jnp.array([0.0, 0.0]), jnp.array([0, 3]), 0.5)
        Array([0.81093, 2.72047 ], dtype=float32)
    """
    x, y, dispersion = observed(predictions, targets, where, dispersion=dispersion)
    inside = (y >= 0) & (dispersion >= 0)
    if log_input:
        losses = inputs.nan_outside(_negative_binomial_log(x, y, dispersion), inside)
    else:
        losses = _negative_binomial_mean(x, y, dispersion)
        losses = inputs.nan_outside(losses, inside & (x >= 0))
    return reduced(losses, where, weights, reduction)
