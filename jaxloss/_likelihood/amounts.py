"""Negative log-likelihoods of positive amounts, and of amounts that are often 0.

In the formulas mu is the predicted mean and y the target. With `log_input` the predictions are
f = log(mu), any real number, as a network without a last activation gives them; in the code x is
what is given, either of them. Outside the domain losses are NaN.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from .._contract.jit import jit
from .._contract.prepared import Hyper
from .._contract.reduce import Reduction, Request, Weights, Where
from .._numerics.exact import exp_product, root_of_power
from .._numerics.kinks import Slopes, closed_form
from .._numerics.special import one_if_zero, safe_product
from .observed import Predictions, Targets, observed

Factor = jax.Array | int


def _over_mean(y: jax.Array, f: jax.Array) -> jax.Array:
    """y exp(-f), in two factors: exp(-f) may overflow where its product with y does not."""
    root = jnp.exp(-0.5 * f)
    return y * root * root


@closed_form(
    lambda f, y: (1 - _over_mean(y, f), jnp.exp(-f)),
    second=lambda f, y: ((_over_mean(y, f),), (-jnp.exp(-f), jnp.zeros_like(y))),
)
def _gamma_log(f: jax.Array, y: jax.Array) -> jax.Array:
    return f + _over_mean(y, f)


def _gamma_mean_curvatures(mu: jax.Array, y: jax.Array) -> tuple[Slopes, Slopes]:
    inverse = 1 / mu
    in_mu = (2 * (y / mu) - 1) * inverse * inverse
    return (in_mu,), (-inverse * inverse, jnp.zeros_like(y))


@closed_form(lambda mu, y: ((1 - y / mu) / mu, 1 / mu), second=_gamma_mean_curvatures)
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
) -> jax.Array:
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
    request = Request(where, weights, reduction)
    given = observed(predictions, targets, request)
    x, y = given.data
    given = given.inside(y > 0)
    if log_input:
        return given.reduced(_gamma_log(x, y))
    return given.inside(x >= 0).reduced(_gamma_mean(x, y))


class _Tweedie(NamedTuple):
    """What the Tweedie loss is made of.

    The two powers of mu may overflow where their products with other factors do not, so they are
    multiplied by these as two square roots.

    Attributes:
        mu: The mean.
        f: Its logarithm.
        y: The target.
        power: p.
        root_2: The square root of mu^(2 - p).
        root_1: The square root of mu^(1 - p).
    """

    mu: jax.Array
    f: jax.Array
    y: jax.Array
    power: jax.Array
    root_2: jax.Array
    root_1: jax.Array

    def terms(self, a: Factor, b: Factor, factor: Factor = 1) -> jax.Array:
        """a mu^(2 - p) - b y mu^(1 - p), times a factor."""
        # As one product while mu is finite: each of the two terms may overflow. Without a target
        # there is one term, which may be far above the smallest number where mu is below it.
        product = self.root_1 * (factor * safe_product(a * self.mu - b * self.y, self.root_1))
        of_target = safe_product(self.y, self.root_1) * (self.root_1 * b)
        # 0 where mu^(2 - p), from which it is taken, overflows.
        of_target = jnp.where((self.root_2 * self.root_2 == jnp.inf) | (self.y == 0), 0, of_target)
        terms = factor * (self.root_2 * (self.root_2 * a) - of_target)
        return jnp.where((self.mu == jnp.inf) | (self.y == 0), terms, product)


def _tweedie_value(t: _Tweedie) -> jax.Array:
    # The divisors 1 - p and 2 - p, which have a formula of their own where they are 0.
    value = t.terms(1 / one_if_zero(2 - t.power), 1 / one_if_zero(1 - t.power))
    value = jnp.where(t.power == 2, t.f + t.y * t.root_1 * t.root_1, value)
    value = jnp.where(t.power == 1, t.mu - safe_product(t.y, t.f), value)
    return jnp.where(t.power == 0, 0.5 * jnp.square(t.mu - t.y), value)


def _tweedie_slopes(t: _Tweedie) -> Slopes:
    """The derivatives in f, y and power."""
    one, two = t.power == 1, t.power == 2
    to_1, to_2 = 1 / one_if_zero(1 - t.power), 1 / one_if_zero(2 - t.power)
    in_y = -jnp.where(one, t.f, t.root_1 * (t.root_1 * to_1))
    in_y = jnp.where(t.power == 0, t.y - t.mu, in_y)
    in_power = t.terms((to_2 - t.f) * to_2, (to_1 - t.f) * to_1)
    return t.terms(1, 1), in_y, jnp.where(one | two | (t.power == 0), jnp.nan, in_power)


def _tweedie_curvatures(t: _Tweedie) -> tuple[Slopes, Slopes, Slopes]:
    """The second derivatives in f, y and power."""
    jumps = (t.power == 0) | (t.power == 1)
    to_1, to_2 = 1 / one_if_zero(1 - t.power), 1 / one_if_zero(2 - t.power)
    # The second derivative of mu^c / c in c is that of mu^c in f times these.
    in_1, in_2 = (((x - t.f) ** 2 + x * x) * x for x in (to_1, to_2))
    size = jnp.maximum(jnp.abs(in_1), jnp.abs(in_2))
    in_power = t.terms(in_2 / size, in_1 / size, size)
    # A jump is seen in the first derivative, which is NaN.
    constant = jumps | (t.power == 2) | ((t.root_2 == 0) & (t.y == 0))
    in_y_and_power = jnp.where(jumps, 0, t.root_1 * (t.root_1 * (t.f - to_1) * to_1))
    return (
        (t.terms(2 - t.power, 1 - t.power),),
        (-t.root_1 * t.root_1, jnp.where(t.power == 0, jnp.ones_like(t.y), 0)),
        (-t.f * t.terms(1, 1), in_y_and_power, jnp.where(constant, 0, in_power)),
    )


def _tweedie_of_log(f: jax.Array, y: jax.Array, power: jax.Array) -> _Tweedie:
    half = 0.5 * f
    return _Tweedie(
        jnp.exp(f), f, y, power, exp_product(2, power, half), exp_product(1, power, half)
    )


@closed_form(
    lambda f, y, power: _tweedie_slopes(_tweedie_of_log(f, y, power)),
    second=lambda f, y, power: _tweedie_curvatures(_tweedie_of_log(f, y, power)),
)
def _tweedie_log(f: jax.Array, y: jax.Array, power: jax.Array) -> jax.Array:
    return _tweedie_value(_tweedie_of_log(f, y, power))


def _tweedie_of_mean(mu: jax.Array, y: jax.Array, power: jax.Array) -> _Tweedie:
    roots = root_of_power(2, power, mu), root_of_power(1, power, mu)
    return _Tweedie(mu, jnp.log(mu), y, power, *roots)


def _tweedie_in_mean(mu: jax.Array, y: jax.Array, power: jax.Array) -> jax.Array:
    root_0 = root_of_power(0, power, mu)  # the square root of mu^-p
    without_target = jnp.square(root_of_power(1, power, mu))
    in_mu = root_0 * safe_product(mu - y, root_0)
    return jnp.where((y == 0) & (power != 0), without_target, in_mu)


def _tweedie_mean_slopes(mu: jax.Array, y: jax.Array, power: jax.Array) -> Slopes:
    _, *others = _tweedie_slopes(_tweedie_of_mean(mu, y, power))
    return (_tweedie_in_mean(mu, y, power), *others)


def _tweedie_mean_curvatures(
    mu: jax.Array, y: jax.Array, power: jax.Array
) -> tuple[Slopes, Slopes, Slopes]:
    root = root_of_power(-1, power, mu)
    in_mu = safe_product(safe_product((1 - power) * mu + power * y, root), root)
    t = _tweedie_of_mean(mu, y, power)._replace(f=jnp.log(jnp.where(mu > 0, mu, 1)))
    _, (_, in_y), (_, *in_power) = _tweedie_curvatures(t)
    return (
        (jnp.where(power == 0, 1, in_mu),),
        (-jnp.square(root_of_power(0, power, mu)), in_y),
        (-safe_product(t.f, _tweedie_in_mean(mu, y, power)), *in_power),
    )


@closed_form(_tweedie_mean_slopes, second=_tweedie_mean_curvatures)
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
) -> jax.Array:
    """Half the Tweedie deviance: amounts that are often exactly zero, such as rain or claims.

        mu^(2 - p) / (2 - p) - y mu^(1 - p) / (1 - p)
        mu - y log(mu)     at p = 1, as `poisson_nll_loss`
        log(mu) + y / mu   at p = 2, as `gamma_nll_loss`
        (mu - y)^2 / 2     at p = 0, as `l2_loss`

    with mu = exp(f) under `log_input`. As in scikit-learn's `HalfTweedieLoss`, terms that depend on
    targets alone are left out, and differently so at p = 0, 1 and 2: the loss jumps there in p,
    where its derivative in p is NaN. Its derivatives in predictions do not jump. Without
    `log_input` the constants are the same; scikit-learn's `HalfTweedieLossIdentity`, whose minimum
    is 0, keeps those terms.

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
    request = Request(where, weights, reduction)
    given = observed(predictions, targets, request, power=Hyper(power))
    x, y, power = given.arrays
    given = given.inside(jnp.where(power <= 0, True, jnp.where(power < 2, y >= 0, y > 0)))
    if log_input:
        return given.reduced(_tweedie_log(x, y, power))
    return given.inside((x >= 0) | (power == 0)).reduced(_tweedie_mean(x, y, power))
