"""Negative log-likelihoods of counts and amounts that are 0 more often than their distribution.

A gate decides first, with log-odds z: in zero-inflated counts between a 0 and a count, which may
be 0 too; in a hurdle and in amounts between a 0 and a number above it. Predictions are
f = log(mu), and y is the target. A target of 0 has a formula of its own, so that targets only
select: the derivative in them is 0. Outside the domain losses are NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from .._contract.jit import jit
from .._contract.prepared import any_number
from .._contract.reduce import Reduction, Request, Weights, Where
from .._numerics.gamma import log_factorial
from .._numerics.kinks import Function, Slopes, closed_form
from .._numerics.special import one_if_zero, polynomial, safe_product, sigmoid, softplus
from .counts import (
    negative_binomial_curvatures,
    negative_binomial_of_log,
    negative_binomial_slopes,
    poisson_curvatures,
    poisson_of_log,
    poisson_slopes,
)
from .observed import Field, Predictions, Targets, observed


def _either(n: jax.Array, z: jax.Array) -> jax.Array:
    """-log(sigmoid(z) + sigmoid(-z) exp(-n)) for n >= 0: a zero of the gate, or of the count."""
    # 1 - q is the probability: near 1 the loss is q, of which the logarithm of a sum has no digit.
    q = -jnp.expm1(-n) * sigmoid(-z)
    near = q < 0.5
    likely = -jnp.log1p(-jnp.where(near, q, 0))
    rare = softplus(z) - jnp.maximum(z, -n) - jnp.log1p(jnp.exp(-jnp.abs(z + n)))
    return jnp.where(near, likely, rare)


def _inflated(
    count: Function, slopes: Callable[..., Slopes], curvatures: Callable[..., tuple[Any, ...]]
) -> Callable[..., jax.Array]:
    """The likelihood of a count or a gate, of f, the shapes of the count, z and y.

    Args:
        count: The likelihood of a count, of f, y and its shapes, log(y!) included.
        slopes: Its derivatives in these.
        curvatures: The lower triangle of its second derivatives.
    """

    def of_count(function: Callable[..., Any], args: Any) -> Any:
        f, *shapes, _, y = args
        return function(f, y, *shapes)

    def shares(*args: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Where y is 0, how likely it is that the gate said so, and the count."""
        *_, z, y = args
        behind = z + of_count(count, args)
        return y == 0, jnp.where(y == 0, sigmoid(behind), 0), sigmoid(-behind)

    def in_gate(zero: jax.Array, gate: jax.Array, n: jax.Array, z: jax.Array) -> jax.Array:
        # sigmoid(z) - sigmoid(z + n), which are near each other where n is small.
        return jnp.where(zero, gate * sigmoid(-z) * jnp.expm1(-n), sigmoid(z))

    def first(*args: jax.Array) -> Slopes:
        zero, gate, rest = shares(*args)
        *_, z, y = args
        in_f, _, *in_shapes = of_count(slopes, args)
        weight = jnp.where(zero, rest, 1)
        # The share of the count vanishes faster than any mean grows.
        moved = [safe_product(weight, slope) for slope in (in_f, *in_shapes)]
        return *moved, in_gate(zero, gate, of_count(count, args), z), jnp.zeros_like(y)

    def second(*args: jax.Array) -> tuple[Slopes, ...]:
        zero, gate, rest = shares(*args)
        *_, z, _ = args
        in_f, _, *in_shapes = of_count(slopes, args)
        (in_ff,), _, *of_shapes = of_count(curvatures, args)
        rows = [(in_ff,), *((first, *others) for first, _, *others in of_shapes)]
        weight, spread = jnp.where(zero, rest, 1), jnp.where(zero, gate * rest, 0)
        moved = [in_f, *in_shapes]
        found = []
        for i, row in enumerate(rows):
            once = safe_product(spread, moved[i])
            found.append(
                tuple(
                    safe_product(weight, x) - safe_product(once, moved[j])
                    for j, x in enumerate(row)
                )
            )
        of_gate = [-safe_product(spread, slope) for slope in moved]
        n = of_count(count, args)
        near = in_gate(zero, gate, n, z)
        # sigmoid'(z) - sigmoid'(z + n) is a product of two such differences, the second with -z.
        both = 2 * z + n
        sides = jnp.where(both > 0, -gate * sigmoid(z), rest * sigmoid(-z))
        turned = jnp.where(zero, -sides * jnp.expm1(-jnp.abs(both)), sigmoid(-z))
        return *found, (*of_gate, near * turned)

    @closed_form(first, second=second)
    def loss(*args: jax.Array) -> jax.Array:
        *_, z, y = args
        n = of_count(count, args)
        return jnp.where(y == 0, _either(jnp.where(y == 0, n, 0), z), softplus(z) + n)

    return loss


def _whole_poisson(f: jax.Array, y: jax.Array) -> jax.Array:
    return poisson_of_log(f, y) + log_factorial(y)


_zero_inflated_poisson = _inflated(_whole_poisson, poisson_slopes, poisson_curvatures)
_zero_inflated_negative_binomial = _inflated(
    negative_binomial_of_log, negative_binomial_slopes, negative_binomial_curvatures
)


@jit()
def zero_inflated_poisson_nll_loss(
    predictions: Predictions,
    targets: Targets,
    gate_logits: Field,
    *,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Negative log-likelihood of a Poisson count that a gate sets to 0.

        softplus(z) - log(exp(z) + exp(-mu))    at y = 0
        softplus(z) + mu - y f + log(y!)        above

    with mu = exp(f): 0 by the gate with probability sigmoid(z), else of a Poisson distribution.
    Targets only select: the derivative in them is 0.

    Args:
        predictions: f = log(mu), the mean of what the gate lets pass.
        targets: Counts y, the shape of `predictions`, or a scalar. NaN below 0.
        gate_logits: z, the log-odds that the gate says 0. At -inf it is `poisson_nll_loss`
            with `full`.
        where, weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per element.

    Reference:
        Lambert, "Zero-inflated Poisson regression, with an application to defects in
        manufacturing", 1992, https://doi.org/10.2307/1269547.

    Example:
        >>> zero_inflated_poisson_nll_loss(jnp.zeros(2), jnp.array([0, 3]), jnp.zeros(2))
        Array([0.37989, 3.48491], dtype=float32)
    """
    request = Request(where, weights, reduction)
    given = observed(predictions, targets, request, fields={"gate_logits": gate_logits})
    f, y, z = given.data
    given = given.inside((y >= 0) & any_number(z))
    return given.reduced(_zero_inflated_poisson(f, z, y))


@jit()
def zero_inflated_negative_binomial_nll_loss(
    predictions: Predictions,
    targets: Targets,
    dispersion: Field,
    gate_logits: Field,
    *,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Negative log-likelihood of a negative binomial count that a gate sets to 0.

        softplus(z) - log(exp(z) + exp(-n))   at y = 0
        softplus(z) + n                       above

    with n the loss of `negative_binomial_nll_loss`: at 0 log(1 + a mu) / a. Single-cell counts
    and demand have more zeros than any of the two explains. Targets only select: the derivative
    in them is 0.

    Args:
        predictions: f = log(mu), the mean of what the gate lets pass.
        targets: Counts y, the shape of `predictions`, or a scalar. NaN below 0.
        dispersion: a: the variance of what passes is mu + a mu^2. NaN below 0.
        gate_logits: z, the log-odds that the gate says 0.
        where, weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per element.

    Reference:
        Greene, "Accounting for excess zeros and sample selection in Poisson and negative
        binomial regression models", 1994.

    Example:
        >>> targets = jnp.array([0, 3])
        >>> zero_inflated_negative_binomial_nll_loss(jnp.zeros(2), targets, 0.5, jnp.zeros(2))
        Array([0.32542, 3.41362], dtype=float32)
    """
    request = Request(where, weights, reduction)
    fields = {"dispersion": dispersion, "gate_logits": gate_logits}
    given = observed(predictions, targets, request, fields=fields)
    f, y, a, z = given.data
    given = given.inside((y >= 0) & (a >= 0) & any_number(z))
    return given.reduced(_zero_inflated_negative_binomial(f, a, z, y))


def _gap_ratio(d: jax.Array) -> jax.Array:
    """(exp(d) - 1 - d) / d, which is d / 2 near 0."""
    near = jnp.abs(d) < 1
    small, far = jnp.where(near, d, 0), jnp.where(near, 1, d)
    terms = 18 if d.dtype == jnp.float64 else 10
    series = small * polynomial([1 / math.factorial(k + 2) for k in range(terms)], small)
    return jnp.where(near, series, (jnp.expm1(far) - far) / far)


# From this mean on exp(-mu) is lost beside 1.
_FAR = 40


def _passed(f: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The mean, the same up to `_FAR`, and mu / (1 - exp(-mu)), the mean of counts above 0."""
    mu = jnp.exp(f)
    held = jnp.minimum(mu, _FAR)
    share = jnp.where(mu == 0, 1, held / one_if_zero(-jnp.expm1(-held)))
    return mu, held, share


def _above_zero_slopes(f: jax.Array, y: jax.Array) -> Slopes:
    mu, held, share = _passed(f)
    # share - 1, whose terms cancel where the mean is small.
    excess = jnp.where(mu > _FAR, mu - 1, -share * _gap_ratio(-held))
    return excess - (y - 1), jnp.zeros_like(y)


def _above_zero_curvatures(f: jax.Array, y: jax.Array) -> tuple[Slopes]:
    mu, held, share = _passed(f)
    near = jnp.exp(-held) * _gap_ratio(held) * share * share
    return ((jnp.where(mu > _FAR, mu, near),),)


def _above_zero(f: jax.Array, y: jax.Array) -> jax.Array:
    """The likelihood of a Poisson count that is above 0."""
    mu, held, _ = _passed(f)
    # log((exp(mu) - 1) / mu), which is mu / 2 near 0.
    small = mu < 1
    near = jnp.log1p(_gap_ratio(jnp.where(small, mu, 0)))
    far = mu + jnp.log1p(-jnp.exp(-jnp.where(small, 1, held))) - jnp.where(mu == jnp.inf, 0, f)
    return jnp.where(small, near, far) - safe_product(y - 1, f) + log_factorial(y)


def _hurdle(
    value: Function, slopes: Callable[..., Slopes], curvatures: Callable[..., tuple[Slopes, ...]]
) -> Callable[..., jax.Array]:
    """The likelihood of a 0 by a gate or of what is above it, of parameters, z and y.

    Args:
        value: The likelihood of what is above 0, of its parameters and y.
        slopes: Its derivatives.
        curvatures: The lower triangle of its second derivatives.
    """

    def above(function: Callable[..., Any]) -> Callable[..., Any]:
        # Zeros in value and in slopes: those of a selection would be 0 outside the domain too.
        def masked(*args: jax.Array) -> Any:
            *parameters, y = args
            found = function(*parameters, jnp.where(y == 0, 1, y))
            return jax.tree.map(lambda x: jnp.where(y == 0, 0, x), found)

        return masked

    positive = closed_form(above(slopes), second=above(curvatures))(above(value))

    def loss(*args: jax.Array) -> jax.Array:
        *parameters, z, y = args
        return softplus(jnp.where(y == 0, -z, z)) + positive(*parameters, y)

    return loss


_hurdle_poisson = _hurdle(_above_zero, _above_zero_slopes, _above_zero_curvatures)


@jit()
def hurdle_poisson_nll_loss(
    predictions: Predictions,
    targets: Targets,
    gate_logits: Field,
    *,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Negative log-likelihood of a hurdle: a gate alone says 0, counts above are a Poisson's.

        softplus(-z)                                       at y = 0
        softplus(z) + log(exp(mu) - 1) - y f + log(y!)     above

    with mu = exp(f), the mean of the Poisson distribution before its zeros were taken out. Targets
    only select: the derivative in them is 0.

    Args:
        predictions: f = log(mu).
        targets: Counts y, the shape of `predictions`, or a scalar. NaN below 0 and between 0
            and 1.
        gate_logits: z, the log-odds of a 0.
        where, weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per element.

    Reference:
        Mullahy, "Specification and testing of some modified count data models", 1986,
        https://doi.org/10.1016/0304-4076(86)90002-3.

    Example:
        >>> hurdle_poisson_nll_loss(jnp.zeros(2), jnp.array([0, 3]), jnp.zeros(2))
        Array([0.69315, 3.02623], dtype=float32)
    """
    request = Request(where, weights, reduction)
    given = observed(predictions, targets, request, fields={"gate_logits": gate_logits})
    f, y, z = given.data
    given = given.inside(((y == 0) | (y >= 1)) & any_number(f) & any_number(z))
    return given.reduced(_hurdle_poisson(f, z, y))


def _lognormal_curvatures(m: jax.Array, s: jax.Array, y: jax.Array) -> tuple[Slopes, Slopes]:
    inverse, r = 1 / s, (m - jnp.log(y)) / s
    in_s = (r - math.sqrt(1 / 3)) * inverse * ((r + math.sqrt(1 / 3)) * (3 * inverse))
    return (inverse * inverse,), (-2 * r * inverse * inverse, in_s)


def _lognormal_slopes(m: jax.Array, s: jax.Array, y: jax.Array) -> Slopes:
    inverse, r = 1 / s, (m - jnp.log(y)) / s
    return r * inverse, inverse - r * (r * inverse), jnp.zeros_like(y)


def _lognormal(m: jax.Array, s: jax.Array, y: jax.Array) -> jax.Array:
    r = (m - jnp.log(y)) / s
    return jnp.log(y) + jnp.log(s) + 0.5 * math.log(2 * math.pi) + 0.5 * r * r


_zero_inflated_lognormal = _hurdle(_lognormal, _lognormal_slopes, _lognormal_curvatures)


@jit()
def zero_inflated_lognormal_nll_loss(
    predictions: Predictions,
    targets: Targets,
    scale: Field,
    gate_logits: Field,
    *,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Negative log-likelihood of amounts that are 0 or of a lognormal: what customers will spend.

        softplus(-z)                                   at y = 0
        softplus(z) + log(y) + log(s)
            + (log(y) - m)^2 / (2 s^2) + log(2 pi)/2   above

    The mean of the prediction is sigmoid(-z) exp(m + s^2 / 2). Targets only select: the
    derivative in them is 0.

    Args:
        predictions: m, the mean of log(y) where y is above 0.
        targets: Amounts y, the shape of `predictions`, or a scalar. NaN below 0.
        scale: s, the deviation of log(y), of no unit. NaN unless positive.
        gate_logits: z, the log-odds of a 0: the negative of the first logit of the paper's code,
            which is that of an amount above 0.
        where, weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per element.

    Reference:
        Wang, Liu and Miao, "A deep probabilistic model for customer lifetime value prediction",
        2019, https://arxiv.org/abs/1912.07753.

    Example:
        >>> targets = jnp.array([0.0, 20.0])
        >>> zero_inflated_lognormal_nll_loss(jnp.full(2, 3.0), targets, 1.0, jnp.zeros(2))
        Array([0.69315, 4.60783 ], dtype=float32)
    """
    request = Request(where, weights, reduction)
    fields = {"scale": scale, "gate_logits": gate_logits}
    given = observed(predictions, targets, request, fields=fields)
    m, y, s, z = given.data
    given = given.inside((y >= 0) & (s > 0) & any_number(m) & any_number(z))
    return given.reduced(_zero_inflated_lognormal(m, s, z, y))
