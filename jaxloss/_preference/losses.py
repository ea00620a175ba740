"""Preferences between two answers, or about one, from the log-probabilities of sequences.

In the formulas c is the log-probability of the chosen answer, r that of the rejected one, under the
model that is trained; softplus(x) = log(1 + exp(x)). `sequence_log_probabilities` gives such
numbers from logits and tokens. Those of a reference model are data like any other: compute them
outside the differentiated function, or hold them with `jax.lax.stop_gradient`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Float, Real

from .._contract.inputs import nan_outside, one_of
from .._contract.jit import jit
from .._contract.prepared import Hyper, elementwise, in_unit_interval, non_negative
from .._contract.reduce import Reduction, Request, Weights, Where
from .._numerics.exact import exact_sum, quotient
from .._numerics.kinks import hinge, square
from .._numerics.special import safe_product
from .._numerics.xla import apart
from .logistic import chance, logistic, per_token, surprise, times_rounded
from .odds import odds_surprise

LogProbabilities = Float[ArrayLike, "*batch"] | Sequence[Any]
Lengths = Real[ArrayLike, "*batch"] | Sequence[Any]
Labels = Real[ArrayLike, "*batch"] | Sequence[Any]
Kind = Literal["sigmoid", "hinge", "ipo", "robust"]
# Where the label smoothing of those kinds may lie that have one; that of the others is 0.
_SMOOTHING = {"sigmoid": in_unit_interval, "robust": lambda e: (e >= 0) & (e < 0.5)}


@apart
def _bradley_terry(c: jax.Array, r: jax.Array, margin: jax.Array) -> jax.Array:
    return surprise(*exact_sum(c, -r, -margin))


@jit()
def bradley_terry_loss(
    chosen: LogProbabilities,
    rejected: LogProbabilities,
    *,
    margin: ArrayLike = 0.0,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Bradley-Terry loss, by which reward models are trained on comparisons.

        softplus(-(c - r - m))

    It is -log of the probability that the chosen answer wins against the rejected one.

    Args:
        chosen: c, the reward of the better answer: any real number, not only a log-probability.
        rejected: r, that of the other one; the shape of `chosen`, or a scalar.
        margin: m, by how much the better answer is to be ahead.
        where, weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per comparison.

    Reference:
        Bradley and Terry, "Rank analysis of incomplete block designs: I. The method of paired
        comparisons", 1952, https://doi.org/10.2307/2334029; the margin is that of Touvron et al.,
        "Llama 2: open foundation and fine-tuned chat models", 2023, eq. 2,
        https://arxiv.org/abs/2307.09288.

    Example:
        >>> bradley_terry_loss(jnp.array([1.0, 3.0]), jnp.array([1.0, 5.0]))
        Array([0.6931472, 2.126928 ], dtype=float32)
    """
    request = Request(where, weights, reduction)
    data = {"chosen": chosen, "rejected": rejected}
    given = elementwise(data, request, hyper={"margin": Hyper(margin)})
    return given.reduced(_bradley_terry(*given.arrays))


def _ahead(
    c: jax.Array, r: jax.Array, c0: jax.Array, r0: jax.Array, beta: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """beta h, and what its rounding lost."""
    return times_rounded(beta, *exact_sum(c, -c0, -r, r0))


@apart
def _dpo_sigmoid(*arrays: jax.Array) -> jax.Array:
    *ahead, e = arrays
    return logistic(*_ahead(*ahead), e)


@apart
def _dpo_hinge(*arrays: jax.Array) -> jax.Array:
    z, lost = _ahead(*arrays[:-1])
    # Rounded once, so that it is on the same side of the kink as the exact sum.
    return hinge(exact_sum(jnp.ones_like(z), -z, -lost)[0])


@apart
def _dpo_ipo(*arrays: jax.Array) -> jax.Array:
    c, r, c0, r0, beta, _ = arrays
    return square(exact_sum(c, -c0, -r, r0)[0] - 0.5 / beta)


@apart
def _dpo_robust(*arrays: jax.Array) -> jax.Array:
    *ahead, e = arrays
    z, lost = _ahead(*ahead)
    return surprise(z, lost) - safe_product(e / (1 - 2 * e), z)


_DPO = {"sigmoid": _dpo_sigmoid, "hinge": _dpo_hinge, "ipo": _dpo_ipo, "robust": _dpo_robust}


@jit("kind")
def dpo_loss(
    chosen: LogProbabilities,
    rejected: LogProbabilities,
    reference_chosen: LogProbabilities,
    reference_rejected: LogProbabilities,
    *,
    beta: ArrayLike = 0.1,
    kind: Kind = "sigmoid",
    label_smoothing: ArrayLike = 0.0,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Direct preference optimization: comparisons train a language model without a reward model.

        h = (c - reference c) - (r - reference r)
        sigmoid   (1 - e) softplus(-beta h) + e softplus(beta h)
        robust    ((1 - e) softplus(-beta h) - e softplus(beta h)) / (1 - 2 e)
        hinge     max(0, 1 - beta h)
        ipo       (h - 1 / (2 beta))^2

    for `label_smoothing` e, the part of the comparisons that is taken to be the wrong way round:
    "sigmoid" with e > 0 is the conservative loss, "robust" the one whose mean under such errors is
    that of "sigmoid" without them; it may be negative. The hinge has the slope of its active side
    at beta h = 1: a tie still trains.

    Args:
        chosen: c, the log-probabilities of the preferred answers.
        rejected: r, those of the others; the shape of `chosen`, or a scalar.
        reference_chosen: Those of the preferred answers under the reference model.
        reference_rejected: Those of the others under the reference model.
        beta: How closely the model is to stay to its reference; 0 or more, else NaN.
        kind: "sigmoid", "robust", "hinge" or "ipo".
        label_smoothing: e, for "sigmoid" from 0 to 1 and for "robust" from 0 to below 1/2, else
            NaN. The others have none: NaN unless 0.
        where, weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per comparison.

    Raises:
        ValueError: If `kind` is none of the four.

    Reference:
        Rafailov et al., "Direct preference optimization: your language model is secretly a reward
        model", 2023, eq. 7, https://arxiv.org/abs/2305.18290. "sigmoid" with e > 0: Mitchell, "A
        note on DPO with noisy preferences and relationship to IPO", 2023. "robust": Chowdhury,
        Kini and Natarajan, "Provably robust DPO: aligning language models with noisy feedback",
        2024, https://arxiv.org/abs/2403.00409. "hinge": Zhao et al., "SLiC-HF: sequence likelihood
        calibration with human feedback", 2023, https://arxiv.org/abs/2305.10425. "ipo": Azar et
        al., "A general theoretical paradigm to understand learning from human preferences", 2023,
        https://arxiv.org/abs/2310.12036.

    Example:
        >>> policy = jnp.array([-10.0, -12.0]), jnp.array([-10.0, -8.0])
        >>> dpo_loss(*policy, jnp.full(2, -10.0), jnp.full(2, -10.0), beta=0.5)
        Array([0.6931472, 2.126928 ], dtype=float32)
    """
    one_of("kind", kind, get_args(Kind))
    request = Request(where, weights, reduction)
    data = {
        "chosen": chosen,
        "rejected": rejected,
        "reference_chosen": reference_chosen,
        "reference_rejected": reference_rejected,
    }
    smoothing = Hyper(label_smoothing, _SMOOTHING.get(kind, lambda e: e == 0))
    hyper = {"beta": Hyper(beta, non_negative), "label_smoothing": smoothing}
    given = elementwise(data, request, hyper=hyper)
    return given.reduced(_DPO[kind](*given.arrays))


@apart
def _simpo(
    c: jax.Array,
    r: jax.Array,
    c_length: jax.Array,
    r_length: jax.Array,
    beta: jax.Array,
    gamma: jax.Array,
) -> jax.Array:
    (_, c_lost), (_, r_lost) = quotient(c, c_length), quotient(r, r_length)
    better, worse = per_token(c, c_length), per_token(r, r_length)
    ahead = exact_sum(better, -worse, c_lost, -r_lost)
    z, lost = times_rounded(beta, *ahead)
    return surprise(*exact_sum(z, -gamma, lost))


@jit()
def simpo_loss(
    chosen: LogProbabilities,
    rejected: LogProbabilities,
    chosen_lengths: Lengths,
    rejected_lengths: Lengths,
    *,
    beta: ArrayLike = 2.0,
    gamma: ArrayLike = 1.0,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Simple preference optimization: no reference model, and no reward for longer answers.

        softplus(-(beta c / |c| - beta r / |r| - gamma))

    with the lengths |c| and |r|, in tokens.

    Args:
        chosen: c, the log-probabilities of the preferred answers, summed over their tokens.
        rejected: r, those of the others; the shape of `chosen`, or a scalar.
        chosen_lengths: |c|, as many as `chosen`, or a scalar. NaN unless positive: an answer of no
            token is to be excluded by `where`.
        rejected_lengths: |r|, likewise.
        beta: What a reward counts for; 0 or more, else NaN.
        gamma: By how much the preferred answer is to be ahead: beta times TRL's
            `gamma_beta_ratio`.
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
    hyper = {"beta": Hyper(beta, non_negative), "gamma": Hyper(gamma)}
    given = elementwise(data, request, hyper=hyper)
    _, _, c_length, r_length = given.data
    return given.inside((c_length > 0) & (r_length > 0)).reduced(_simpo(*given.arrays))


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
