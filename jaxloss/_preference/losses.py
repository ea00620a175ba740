"""Preferences between two answers, or about one, from the log-probabilities of sequences.

In the formulas c is the log-probability of the chosen answer, r that of the rejected one, under the
model that is trained; softplus(x) = log(1 + exp(x)). `sequence_log_probabilities` gives such
numbers from logits and tokens. Those of a reference model are data like any other: compute them
outside the differentiated function, or hold them with `jax.lax.stop_gradient`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Float, Real

from .._contract.inputs import nan_outside
from .._contract.jit import jit
from .._contract.prepared import Hyper, elementwise, in_unit_interval, non_negative
from .._contract.reduce import Reduction, Request, Weights, Where
from .._numerics.exact import exact_sum, quotient
from .._numerics.kinks import closed_form
from .._numerics.special import safe_product
from .._numerics.xla import apart
from .logistic import chance, logistic, per_token, surprise, times_rounded
from .odds import odds_surprise

LogProbabilities = Float[ArrayLike, "*batch"] | Sequence[Any]
Lengths = Real[ArrayLike, "*batch"] | Sequence[Any]
Labels = Real[ArrayLike, "*batch"] | Sequence[Any]


@closed_form(lambda k, e: (e * e, 2 * (k * e)))
def _centring(k: jax.Array, e: jax.Array) -> jax.Array:
    """k e^2, whose square alone may overflow."""
    return safe_product(safe_product(k, e), e)


@apart
def _bradley_terry(
    c: jax.Array, r: jax.Array, margin: jax.Array, *centring: jax.Array
) -> jax.Array:
    losses = surprise(*exact_sum(c, -r, -margin))
    for k in centring:
        losses += _centring(k, exact_sum(c, r)[0])
    return losses


@jit()
def bradley_terry_loss(
    chosen: LogProbabilities,
    rejected: LogProbabilities,
    *,
    margin: ArrayLike = 0.0,
    center_rewards_coefficient: ArrayLike = 0.0,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Bradley-Terry loss, by which reward models are trained on comparisons.

        softplus(-(c - r - m)) + k (c + r)^2

    The first is -log of the probability that the chosen answer wins against the rejected one. It
    does not say where 0 lies; the second, if k is not 0, keeps rewards near it.

    Args:
        chosen: c, the reward of the better answer: any real number, not only a log-probability.
        rejected: r, that of the other one; the shape of `chosen`, or a scalar.
        margin: m, by how much the better answer is to be ahead.
        center_rewards_coefficient: k, 0 or more, else NaN; TRL recommends 0.01.
        where, weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per comparison.

    Reference:
        Bradley and Terry, "Rank analysis of incomplete block designs: I. The method of paired
        comparisons", 1952, https://doi.org/10.2307/2334029; the margin is that of Touvron et al.,
        "Llama 2: open foundation and fine-tuned chat models", 2023, eq. 2,
        https://arxiv.org/abs/2307.09288, the centre that of Eisenstein et al., "Helping or
        herding? Reward model ensembles mitigate but do not eliminate reward hacking", 2023,
        https://arxiv.org/abs/2312.09244.

    Example:
        >>> bradley_terry_loss(jnp.array([1.0, 3.0]), jnp.array([1.0, 5.0]))
        Array([0.6931472, 2.126928 ], dtype=float32)
    """
    request = Request(where, weights, reduction)
    data = {"chosen": chosen, "rejected": rejected}
    hyper = {
        "margin": Hyper(margin),
        "center_rewards_coefficient": Hyper(center_rewards_coefficient, non_negative, off=(0,)),
    }
    given = elementwise(data, request, hyper=hyper)
    return given.reduced(_bradley_terry(*(x for x in given.arrays if x is not None)))


@apart
def _simpo(
    c: jax.Array,
    r: jax.Array,
    c_length: jax.Array,
    r_length: jax.Array,
    beta: jax.Array,
    gamma: jax.Array,
    *smoothing: jax.Array,
) -> jax.Array:
    (_, c_lost), (_, r_lost) = quotient(c, c_length), quotient(r, r_length)
    better, worse = per_token(c, c_length), per_token(r, r_length)
    ahead = exact_sum(better, -worse, c_lost, -r_lost)
    z, lost = times_rounded(beta, *ahead)
    ahead = exact_sum(z, -gamma, lost)
    return logistic(*ahead, *smoothing) if smoothing else surprise(*ahead)


@jit()
def simpo_loss(
    chosen: LogProbabilities,
    rejected: LogProbabilities,
    chosen_lengths: Lengths,
    rejected_lengths: Lengths,
    *,
    beta: ArrayLike = 2.0,
    gamma: ArrayLike = 1.0,
    label_smoothing: ArrayLike = 0.0,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Simple preference optimization: no reference model, and no reward for longer answers.

        (1 - e) softplus(-z) + e softplus(z)
        z = beta c / |c| - beta r / |r| - gamma

    with the lengths |c| and |r|, in tokens. `label_smoothing` e is the part of the comparisons that
    is taken to be the wrong way round.

    Args:
        chosen: c, the log-probabilities of the preferred answers, summed over their tokens.
        rejected: r, those of the others; the shape of `chosen`, or a scalar.
        chosen_lengths: |c|, as many as `chosen`, or a scalar. NaN unless positive: an answer of no
            token is to be excluded by `where`.
        rejected_lengths: |r|, likewise.
        beta: What a reward counts for; 0 or more, else NaN.
        gamma: By how much the preferred answer is to be ahead: beta times TRL's
            `gamma_beta_ratio`.
        label_smoothing: e, from 0 to 1, else NaN.
        where, weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per comparison.

    Reference:
        Meng, Xia and Chen, "SimPO: simple preference optimization with a reference-free reward",
        2024, eq. 6, https://arxiv.org/abs/2405.14734.

    Example:
        >>> lengths = jnp.array([10, 10]), jnp.array([8, 10])
        >>> simpo_loss(jnp.array([-5.0, -5.0]), jnp.array([-8.0, -5.0]), *lengths)
        Array([0.6931472, 1.3132617], dtype=float32)
    """
    request = Request(where, weights, reduction)
    data = {
        "chosen": chosen,
        "rejected": rejected,
        "chosen_lengths": chosen_lengths,
        "rejected_lengths": rejected_lengths,
    }
    hyper = {
        "beta": Hyper(beta, non_negative),
        "gamma": Hyper(gamma),
        "label_smoothing": Hyper(label_smoothing, in_unit_interval, off=(0,)),
    }
    given = elementwise(data, request, hyper=hyper)
    _, _, c_length, r_length = given.data
    given = given.inside((c_length > 0) & (r_length > 0))
    return given.reduced(_simpo(*(x for x in given.arrays if x is not None)))


@apart
def _orpo(c: jax.Array, r: jax.Array, beta: jax.Array) -> jax.Array:
    return safe_product(beta, odds_surprise(c, r)) - c


@apart
def _orpo_of_log_odds(c: jax.Array, r: jax.Array, beta: jax.Array) -> jax.Array:
    # Of two infinite log-odds there is no difference, but r = inf costs inf.
    ahead, lost = exact_sum(c, -r)
    ahead = jnp.where((c == r) & jnp.isinf(c), -jnp.inf, ahead)
    return surprise(c, jnp.zeros_like(c)) + safe_product(beta, surprise(ahead, lost))


@jit("log_odds")
def orpo_loss(
    chosen: LogProbabilities,
    rejected: LogProbabilities,
    *,
    beta: ArrayLike = 0.1,
    log_odds: bool = False,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Odds ratio preference optimization: fine-tuning and preference in one loss.

        -c + beta log(1 + odds(r) / odds(c))   with odds(x) = exp(x) / (1 - exp(x))

    c and r are means over the tokens of an answer: `sequence_log_probabilities` with
    `normalize=True`. An answer without any token, of which the mean is 0, must be left out by
    `where`.

    A certain answer has odds of inf: c = 0 costs nothing, r = 0 costs inf, even if c is 0 too. The
    slopes are their limits, but for those that would be infinite: at r = 0 the slope in r is 0, and
    if c is 0 too, that in c is -1, as if beta were 0. A float32 log-probability above -1e-38 is 0,
    and does not say how certain the answer is. Log-odds do: with `log_odds=True` the loss is

        softplus(-c) + beta softplus(r - c)

    of the log-odds c and r, log(p / (1 - p)), that `sequence_log_odds` gives. It is the same loss,
    with all its digits at any certainty.

    Args:
        chosen: c, the mean log-probability of a token of the preferred answer; 0 or less, else NaN.
        rejected: r, that of the other one; the shape of `chosen`, or a scalar.
        beta: What the preference counts for; 0 or more, else NaN. In the paper it is lambda.
        log_odds: Whether `chosen` and `rejected` are log-odds, which may be any real numbers.
        where, weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per comparison.

    Reference:
        Hong, Lee and Thorne, "ORPO: monolithic preference optimization without reference model",
        2024, eq. 6 and 7, https://arxiv.org/abs/2403.07691.

    Example:
        >>> orpo_loss(jnp.log(jnp.array([0.5, 0.75])), jnp.log(jnp.array([0.5, 0.2])), beta=1.0)
        Array([1.3862944 , 0.36772478], dtype=float32)
        >>> orpo_loss(jnp.array([90.0, 80.0]), jnp.array([80.0, 90.0]), beta=1.0, log_odds=True)
        Array([4.5398901e-05, 1.0000046e+01], dtype=float32)
    """
    request = Request(where, weights, reduction)
    data = {"chosen": chosen, "rejected": rejected}
    given = elementwise(data, request, hyper={"beta": Hyper(beta, non_negative)})
    if log_odds:
        return given.reduced(_orpo_of_log_odds(*given.arrays))
    c, r = given.data
    return given.inside((c <= 0) & (r <= 0)).reduced(_orpo(*given.arrays))


@apart
def _kto(
    p: jax.Array,
    p0: jax.Array,
    labels: jax.Array,
    beta: jax.Array,
    point: jax.Array,
    if_desirable: jax.Array,
    if_undesirable: jax.Array,
) -> jax.Array:
    reward, lost = times_rounded(beta, *exact_sum(p, -p0, -point))
    desirable = labels > 0
    sign = jnp.where(desirable, -1, 1).astype(p.dtype)
    losses = chance(sign * reward, sign * lost)
    # Here, and not of the losses: which labels are NaN would be stored for the slopes.
    return nan_outside(
        jnp.where(desirable, if_desirable, if_undesirable) * losses, ~jnp.isnan(labels)
    )


@jit()
def kto_loss(
    log_probabilities: LogProbabilities,
    reference_log_probabilities: LogProbabilities,
    labels: Labels,
    *,
    beta: ArrayLike = 0.1,
    reference_point: ArrayLike = 0.0,
    desirable_weight: ArrayLike = 1.0,
    undesirable_weight: ArrayLike = 1.0,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Kahneman-Tversky optimization: answers that are good or bad by themselves, without pairs.

        w (1 - sigmoid(beta (h - z)))   if desirable
        w (1 - sigmoid(beta (z - h)))   if not

    with h = log-probability - reference log-probability, the point of reference z, and the weight
    w of the label.

    Args:
        log_probabilities: Of the answers, under the model that is trained; any shape.
        reference_log_probabilities: Under the reference model; of that shape, or a scalar.
        labels: Desirable above 0, else undesirable; of that shape, or a scalar.
        beta: How closely the model is to stay to its reference; 0 or more, else NaN.
        reference_point: z, the divergence of the model from its reference; hold it constant. TRL's
            estimate is the mean of h over answers to other prompts, and 0 where that is negative.
        desirable_weight: w of desirable answers.
        undesirable_weight: w of undesirable answers.
        where, weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per answer.

    Reference:
        Ethayarajh et al., "KTO: model alignment as prospect theoretic optimization", 2024, eq. 8,
        https://arxiv.org/abs/2402.01306.

    Example:
        >>> kto_loss(jnp.array([-5.0, -5.0]), jnp.array([-7.0, -7.0]), jnp.array([1, 0]), beta=0.5)
        Array([0.26894143, 0.7310586 ], dtype=float32)
    """
    request = Request(where, weights, reduction)
    data = {
        "log_probabilities": log_probabilities,
        "reference_log_probabilities": reference_log_probabilities,
        "labels": labels,
    }
    hyper = {
        "beta": Hyper(beta, non_negative),
        "reference_point": Hyper(reference_point),
        "desirable_weight": Hyper(desirable_weight),
        "undesirable_weight": Hyper(undesirable_weight),
    }
    given = elementwise(data, request, hyper=hyper)
    return given.reduced(_kto(*given.arrays))


@apart
def _bco(
    p: jax.Array, p0: jax.Array, labels: jax.Array, beta: jax.Array, shift: jax.Array
) -> jax.Array:
    z, lost = times_rounded(beta, *exact_sum(p, -p0))
    reward, lost = exact_sum(z, -shift, lost)
    sign = jnp.where(labels > 0, 1, -1).astype(p.dtype)
    # Here, and not of the losses: which labels are NaN would be stored for the slopes.
    return nan_outside(surprise(sign * reward, sign * lost), ~jnp.isnan(labels))


@jit()
def bco_loss(
    log_probabilities: LogProbabilities,
    reference_log_probabilities: LogProbabilities,
    labels: Labels,
    *,
    beta: ArrayLike = 0.1,
    reward_shift: ArrayLike = 0.0,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Binary classifier optimization: rewards tell good answers from bad ones, without pairs.

        softplus(-(beta h - d))   if desirable
        softplus(beta h - d)      if not

    with h = log-probability - reference log-probability and the shift d: the binary cross-entropy
    of a classifier whose logit is the reward beta h - d.

    Args:
        log_probabilities: Of the answers, under the model that is trained; any shape.
        reference_log_probabilities: Under the reference model; of that shape, or a scalar.
        labels: Desirable above 0, else undesirable; of that shape, or a scalar.
        beta: How closely the model is to stay to its reference; 0 or more, else NaN.
        reward_shift: d, in units of the reward; hold it constant. In the paper it is the mean of
            that of both labels, (mean beta h of the desirable + that of the others) / 2, and in TRL
            a running mean of beta h.
        where, weights, reduction: See `jaxloss.reduce`. The weights of the paper, which make two
            sets of prompts alike, are given as `weights`.

    Returns:
        One loss per answer.

    Reference:
        Jung et al., "Binary classifier optimization for large language model alignment", 2024,
        https://arxiv.org/abs/2404.04656.

    Example:
        >>> bco_loss(jnp.array([-5.0, -5.0]), jnp.array([-7.0, -7.0]), jnp.array([1, 0]), beta=0.5)
        Array([0.31326172, 1.3132617 ], dtype=float32)
    """
    request = Request(where, weights, reduction)
    data = {
        "log_probabilities": log_probabilities,
        "reference_log_probabilities": reference_log_probabilities,
        "labels": labels,
    }
    hyper = {"beta": Hyper(beta, non_negative), "reward_shift": Hyper(reward_shift)}
    given = elementwise(data, request, hyper=hyper)
    return given.reduced(_bco(*given.arrays))
