"""A policy against an older one, and against another one, from log-probabilities of what was done.

In the formulas r = exp(log_probs - old_log_probs) is the ratio of the probabilities of an action,
or of a token, under the policy that is trained and under the one that acted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Float, Real

from .._contract import inputs
from .._contract.jit import jit
from .._contract.prepared import Hyper, elementwise, non_negative, vectors
from .._contract.reduce import Reduction, Request, Weights, Where
from .._numerics.exact import exact_sum, exp_sum
from .._numerics.kinks import closed_form, square
from .._numerics.special import exp_gap, expm1, safe_product

LogProbabilities = Float[ArrayLike, "*batch"] | Sequence[Any]
Advantages = Real[ArrayLike, "..."] | Sequence[Any]
Kind = Literal["ppo", "cispo"]
Level = Literal["token", "sequence"]
Estimator = Literal["k1", "k2", "k3"]


def _held_and_root(
    d: jax.Array,
    lost: jax.Array,
    advantage: jax.Array,
    low: jax.Array,
    high: jax.Array,
    dual: jax.Array,
) -> tuple[jax.Array, ...]:
    """Where the ratio exp(d + lost) is held below, above, at the dual bound; and its root.

    The bounds are compared with d, and only a ratio that is not held is computed: the exponential
    of 89 is infinite, and 0 times it, of an advantage or of a slope, NaN.
    """
    d, gain = jnp.where(jnp.isnan(advantage), advantage, d), advantage >= 0
    below = ~gain & (d < jnp.log1p(-low))
    above = gain & (d > jnp.log1p(high))
    beyond = ~gain & (d > jnp.log(dual))
    return below, above, beyond, _exp(d, lost, below | above | beyond, 0.5)


def _exp(d: jax.Array, lost: jax.Array, held: jax.Array, part: float = 1.0) -> jax.Array:
    """exp(part (d + lost)) of a difference d and what its rounding lost, and 1 where it is held."""
    # What a difference of 1e20 lost is large; its exponential is 0 or infinite with it or without.
    lost = jnp.where(held | (jnp.abs(d) > 200), 0, lost)
    return exp_sum(part * jnp.where(held, 0, d), part * lost)


def _surrogate_slopes(
    d: jax.Array,
    lost: jax.Array,
    advantage: jax.Array,
    low: jax.Array,
    high: jax.Array,
    dual: jax.Array,
) -> tuple[ArrayLike, ...]:
    below, above, beyond, root = _held_and_root(d, lost, advantage, low, high, dual)
    held = below | above | beyond
    bound = jnp.where(below, 1 - low, jnp.where(above, 1 + high, dual))
    return (
        -jnp.where(held, 0, advantage * root * root),
        0,
        -jnp.where(held, bound, root * root),
        jnp.where(below, advantage, 0),
        -jnp.where(above, advantage, 0),
        -jnp.where(beyond, advantage, 0),
    )


@closed_form(_surrogate_slopes)
def _surrogate(
    d: jax.Array,
    lost: jax.Array,
    advantage: jax.Array,
    low: jax.Array,
    high: jax.Array,
    dual: jax.Array,
) -> jax.Array:
    """-A times the ratio exp(d + lost), which is held at its bounds."""
    below, above, beyond, root = _held_and_root(d, lost, advantage, low, high, dual)
    bound = jnp.where(below, 1 - low, jnp.where(above, 1 + high, dual))
    # In two factors: a large ratio of a small advantage is finite, and a small one not 0.
    free = advantage * root * root
    return -jnp.where(below | above | beyond, advantage * bound, free)


def _held_weight(d: jax.Array, lost: jax.Array, low: jax.Array, high: jax.Array) -> jax.Array:
    """The ratio between its bounds, a constant under differentiation."""
    above, below = d > jnp.log1p(high), d < jnp.log1p(-low)
    ratio = _exp(d, lost, above | below)
    held = jnp.where(above, 1 + high, jnp.where(below, 1 - low, ratio))
    return jax.lax.stop_gradient(held)


@closed_form(lambda weight, advantage, p: (0, -safe_product(weight, p), -weight * advantage))
def _weighted(weight: jax.Array, advantage: jax.Array, p: jax.Array) -> jax.Array:
    """Minus the product, in which the weight is held constant."""
    return -safe_product(weight * advantage, p)


def _per_token(advantages: Any, log_probs: Any) -> jax.Array:
    """Advantages with the rank of the log-probabilities, of which a sequence may have one."""
    x, array = inputs.floating("log_probs", log_probs), inputs.real("advantages", advantages)
    shape, sequences = x.shape, x.shape[:-1]
    if x.ndim and array.shape == sequences:
        return array[..., None]
    if array.shape not in ((), shape, (*sequences, 1)):
        got = inputs.described(log_probs=x, advantages=array)
        raise ValueError(
            "advantages must have the shape of log_probs, or that without its last axis, "
            f"one for each sequence, got {got}"
        )
    return array


@jit("kind", "level")
def ppo_loss(
    log_probs: LogProbabilities,
    old_log_probs: LogProbabilities,
    advantages: Advantages,
    *,
    clip: ArrayLike = 0.2,
    clip_high: ArrayLike | None = None,
    dual_clip: ArrayLike | None = None,
    kind: Kind = "ppo",
    level: Level = "token",
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Clipped surrogate of proximal policy optimization, of actions or of tokens.

        r = exp(log_probs - old_log_probs)
        ppo    -min(r A, clip(r, 1 - low, 1 + high) A)
        cispo  -held(clip(r, 1 - low, 1 + high)) A log_probs

    with advantages A, low = `clip`, and high = `clip_high`. With `dual_clip` c the ratio is held at
    c too where A < 0, so that the loss is at most -c A. With `level="sequence"` r is that of a
    whole sequence, the exponential of the mean over its tokens of the difference, as in GSPO.

    A ratio that is held has no slope: the bound is found from the logarithm, so that neither the
    loss nor its gradient overflows there, and an advantage of 0 costs 0 at any ratio. At a bound
    the slope is that of the free side: a tie still trains, as on the first step with clip=0. At
    A = 0 the slope in A is that of A > 0, the smaller one.

    The mean over tokens is `reduction="mean"`; that over sequences is `reduce_tokens`.
    Derivatives are taken in all arguments: old log-probabilities and advantages that depend on
    the parameters are to be held with `jax.lax.stop_gradient`. "cispo" itself holds the ratio.

    Args:
        log_probs: Log-probabilities of actions or tokens under the policy that is trained, any
            shape; their densities, if actions are continuous. Tokens are on the last axis.
        old_log_probs: Those under the policy that acted; of that shape, or a scalar.
        advantages: A, of the shape of `log_probs`; or one for each sequence, of that shape
            without the last axis, or with a last axis of 1; or a scalar.
        clip: How far the ratio may fall below 1; 0 or more, else NaN. From 1 on there is no bound.
        clip_high: How far it may rise above 1; 0 or more, else NaN. None for `clip`.
        dual_clip: c, 1 or more, else NaN, for "ppo"; None for no such bound. 3 in the paper.
        kind: "ppo" or "cispo".
        level: "token" or "sequence"; the latter for "ppo".
        where, weights, reduction: See `jaxloss.reduce`. With `level="sequence"` a mask of the rank
            of `log_probs` excludes tokens.

    Returns:
        One loss per action or token; one per sequence with `level="sequence"`.

    Raises:
        ValueError: If `kind` or `level` is unknown, if "cispo" is given `dual_clip` or is to be of
            sequences, or if the shapes do not fit.

    Reference:
        Schulman et al., "Proximal policy optimization algorithms", 2017, eq. 7,
        https://arxiv.org/abs/1707.06347. `dual_clip`: Ye et al., "Mastering complex control in
        MOBA games with deep reinforcement learning", 2020, https://arxiv.org/abs/1912.09729.
        `clip_high`: Yu et al., "DAPO: an open-source LLM reinforcement learning system at scale",
        2025, https://arxiv.org/abs/2503.14476. `level="sequence"`: Zheng et al., "Group sequence
        policy optimization", 2025, https://arxiv.org/abs/2507.18071. "cispo": MiniMax,
        "MiniMax-M1: scaling test-time compute efficiently with lightning attention", 2025,
        https://arxiv.org/abs/2506.13585.

    Example:
        >>> old = jnp.log(jnp.array([0.5, 0.5, 0.5]))
        >>> new = jnp.log(jnp.array([0.5, 0.75, 0.25]))
        >>> ppo_loss(new, old, jnp.array([1.0, 1.0, -1.0]), clip=0.25)
        Array([-1.  , -1.25,  0.75], dtype=float32)
    """
    inputs.one_of("kind", kind, get_args(Kind))
    inputs.one_of("level", level, get_args(Level))
    if kind == "cispo" and (dual_clip is not None or level == "sequence"):
        given = "dual_clip" if dual_clip is not None else "level='sequence'"
        raise ValueError(f"{given} is of kind='ppo', got kind='cispo'")
    request = Request(where, weights, reduction)
    data = {"log_probs": log_probs, "old_log_probs": old_log_probs}
    hyper = {
        "clip": Hyper(clip, non_negative),
        "clip_high": Hyper(clip if clip_high is None else clip_high, non_negative),
        "dual_clip": Hyper(jnp.inf if dual_clip is None else dual_clip, lambda c: c >= 1),
    }
    if level == "sequence":
        return _of_sequences(data, advantages, request, hyper)
    fields = {"advantages": _per_token(advantages, log_probs)}
    given = elementwise(data, request, fields=fields, hyper=hyper)
    new, old, advantage, low, high, dual = given.arrays
    d = exact_sum(new, -old)
    if kind == "cispo":
        return given.reduced(_weighted(_held_weight(*d, low, high), advantage, new))
    return given.reduced(_surrogate(*d, advantage, low, high, dual))


def _of_sequences(data: Any, advantages: Any, request: Request, hyper: Any) -> jax.Array:
    given = vectors(data, -1, request, hyper=hyper)
    advantage = given.of_each("advantages", advantages, data, "an advantage for each sequence")
    new, old = given.data
    d, lost = exact_sum(new, -old)
    if given.entries is None:
        count = jnp.full(given.shape, new.shape[-1], given.dtype)
    else:
        # An excluded sequence reads differences of 0, of which it has one.
        count = jnp.maximum(jnp.sum(given.entries, -1), 1).astype(given.dtype)
    mean, lost = jnp.sum(d, -1) / count, jnp.sum(lost, -1) / count
    return given.reduced(_surrogate(mean, lost, advantage.astype(given.dtype), *given.hyper))


def _k3_slopes(d: jax.Array, lost: jax.Array) -> tuple[ArrayLike, ArrayLike]:
    slope = expm1(d)
    return slope + jnp.where(jnp.isinf(slope), 0, (slope + 1) * lost), 0


@closed_form(_k3_slopes)
def _k3(d: jax.Array, lost: jax.Array) -> jax.Array:
    """exp(d + lost) - 1 - d - lost."""
    value = exp_gap(d)
    # The exponential of 80 shows what the rounding of 80 lost.
    return value + jnp.where(jnp.isinf(value), 0, jnp.expm1(d) * lost)


@jit("kind")
def kl_estimate(
    log_probs: LogProbabilities,
    reference_log_probs: LogProbabilities,
    *,
    kind: Estimator = "k3",
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Estimate of the divergence KL(policy, reference), from actions drawn from the policy.

        d = reference_log_probs - log_probs
        k1  -d
        k2  d^2 / 2
        k3  exp(d) - 1 - d

    The mean of k1 over actions of the policy is the divergence, and so is that of k3, of which no
    term is negative; k2 is near both if the policies are. Of a whole distribution, such as all
    logits, `kl_divergence` is exact.

    An estimator of the value is not one of the gradient. Differentiated in `log_probs` alone, as
    a penalty in a loss is, k1 has a gradient of mean 0, k2 that of KL(policy, reference), and k3
    that of the reverse, KL(reference, policy). Of actions drawn from an older policy the
    unreduced estimate times exp(log_probs - old_log_probs), differentiated in both factors, is
    unbiased in value, and in the gradient too for k1 and k3.

    k3 keeps its digits where d is small, as it is in training, and its gradient where it is large.

    Args:
        log_probs: Log-probabilities of actions or tokens under the policy, any shape.
        reference_log_probs: Those under the reference; of that shape, or a scalar.
        kind: "k1", "k2" or "k3".
        where, weights, reduction: See `jaxloss.reduce`.

    Returns:
        One estimate per action or token.

    Raises:
        ValueError: If `kind` is none of the three.

    Reference:
        Schulman, "Approximating KL divergence", 2020, http://joschu.net/blog/kl-approx.html; k3 is
        the penalty of Shao et al., "DeepSeekMath: pushing the limits of mathematical reasoning in
        open language models", 2024, eq. 4, https://arxiv.org/abs/2402.03300.

    Example:
        >>> policy, reference = jnp.log(jnp.array([0.5, 0.5])), jnp.log(jnp.array([0.5, 0.25]))
        >>> kl_estimate(policy, reference)
        Array([0.        , 0.19314718], dtype=float32)
    """
    inputs.one_of("kind", kind, get_args(Estimator))
    data = {"log_probs": log_probs, "reference_log_probs": reference_log_probs}
    given = elementwise(data, Request(where, weights, reduction))
    new, reference = given.arrays
    if kind == "k3":
        return given.reduced(_k3(*exact_sum(reference, -new)))
    d = reference - new
    return given.reduced(-d if kind == "k1" else 0.5 * square(d))
