"""Direct preference optimization, in all its kinds.

In the formulas c is the gain of the chosen answer, its log-probability less that under the
reference model, and r that of the rejected one.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from .._contract.inputs import described, one_of, real
from .._contract.jit import jit
from .._contract.prepared import Hyper, elementwise, in_unit_interval, non_negative, positive
from .._contract.reduce import Reduction, Request, Weights, Where
from .._numerics.exact import exact_sum
from .._numerics.kinks import hinge, square
from .._numerics.special import safe_product
from .._numerics.xla import apart
from .logistic import (
    chance,
    discovered,
    divergence_to,
    logistic,
    mean_rounded,
    surprise,
    times_rounded,
)
from .losses import Lengths, LogProbabilities
from .scores import alpha_gap, js_gap

Kind = Literal[
    "sigmoid",
    "hinge",
    "ipo",
    "robust",
    "exo_pair",
    "nca_pair",
    "sppo_hard",
    "apo_zero",
    "apo_down",
    "discopop",
]
Divergence = Literal["reverse_kl", "forward_kl", "js", "alpha"]
# Where the label smoothing of those kinds may lie that have one; that of the others is 0.
_SMOOTHING = {
    "sigmoid": in_unit_interval,
    "robust": lambda e: (e >= 0) & (e < 0.5),
    "exo_pair": lambda e: (e > 0) & (e < 1),
}
# A number, and what its rounding lost.
Rounded = tuple[jax.Array, jax.Array]


class _Answers(NamedTuple):
    """The log-probabilities of two answers, and how gains of them are compared.

    Attributes:
        c, r: Of the chosen and of the rejected answer.
        c0, r0: Under the reference model.
        c_length, r_length: Which gains are divided by; None for 1.
        gap: Takes both gains and returns the difference of their scores; None for that of the
            gains.
    """

    c: jax.Array
    r: jax.Array
    c0: jax.Array
    r0: jax.Array
    c_length: jax.Array | None = None
    r_length: jax.Array | None = None
    gap: Callable[..., Rounded] | None = None

    def gains(self) -> tuple[Rounded, Rounded]:
        c, r = exact_sum(self.c, -self.c0), exact_sum(self.r, -self.r0)
        if self.c_length is None or self.r_length is None:
            return c, r
        return mean_rounded(*c, self.c_length), mean_rounded(*r, self.r_length)

    def rewards(self, beta: jax.Array) -> tuple[Rounded, Rounded]:
        """The gains, times beta."""
        c, r = self.gains()
        return times_rounded(beta, *c), times_rounded(beta, *r)

    def difference(self) -> Rounded:
        """By how much the chosen answer gains more."""
        if self.gap is None and self.c_length is None:
            return exact_sum(self.c, -self.c0, -self.r, self.r0)
        (c, c_lost), (r, r_lost) = self.gains()
        if self.gap is None:
            return exact_sum(c, -r, c_lost, -r_lost)
        return self.gap(c, c_lost, r, r_lost)

    def ahead(self, beta: jax.Array) -> Rounded:
        """The difference, times beta."""
        return times_rounded(beta, *self.difference())


def _sigmoid(answers: _Answers, beta: jax.Array, e: jax.Array) -> jax.Array:
    return logistic(*answers.ahead(beta), e)


def _hinge(answers: _Answers, beta: jax.Array, e: jax.Array) -> jax.Array:
    z, lost = answers.ahead(beta)
    # Rounded once, so that it is on the same side of the kink as the exact sum.
    return hinge(exact_sum(jnp.ones_like(z), -z, -lost)[0])


def _ipo(answers: _Answers, beta: jax.Array, e: jax.Array) -> jax.Array:
    return square(answers.difference()[0] - 0.5 / beta)


def _robust(answers: _Answers, beta: jax.Array, e: jax.Array) -> jax.Array:
    z, lost = answers.ahead(beta)
    return surprise(z, lost) - safe_product(e / (1 - 2 * e), z)


def _exo_pair(answers: _Answers, beta: jax.Array, e: jax.Array) -> jax.Array:
    z, lost = answers.ahead(beta)
    return divergence_to(z, e, lost)


def _nca_pair(answers: _Answers, beta: jax.Array, e: jax.Array) -> jax.Array:
    (c, c_lost), (r, r_lost) = answers.rewards(beta)
    against = surprise(-c, -c_lost) + surprise(-r, -r_lost)
    return surprise(c, c_lost) + 0.5 * against


def _sppo_hard(answers: _Answers, beta: jax.Array, e: jax.Array) -> jax.Array:
    (c, _), (r, _) = answers.gains()
    half = 0.5 / beta
    # At beta = 0 the loss is infinite, whatever the gains are: inf - inf would be NaN.
    c, r = (jnp.where(jnp.isinf(x) & jnp.isinf(half), 0, x) for x in (c, r))
    return square(c - half) + square(r + half)


def _apo_zero(answers: _Answers, beta: jax.Array, e: jax.Array) -> jax.Array:
    (c, c_lost), (r, r_lost) = answers.rewards(beta)
    return chance(-c, -c_lost) + chance(r, r_lost)


def _apo_down(answers: _Answers, beta: jax.Array, e: jax.Array) -> jax.Array:
    z, lost = answers.ahead(beta)
    return chance(*answers.rewards(beta)[0]) + chance(-z, -lost)


def _discopop(
    answers: _Answers, beta: jax.Array, e: jax.Array, temperature: jax.Array
) -> jax.Array:
    z, lost = answers.ahead(beta)
    return discovered(z, temperature, lost)


_KINDS: dict[str, Callable[..., jax.Array]] = {
    "sigmoid": _sigmoid,
    "hinge": _hinge,
    "ipo": _ipo,
    "robust": _robust,
    "exo_pair": _exo_pair,
    "nca_pair": _nca_pair,
    "sppo_hard": _sppo_hard,
    "apo_zero": _apo_zero,
    "apo_down": _apo_down,
    "discopop": _discopop,
}
# The kinds that are of the difference of two scores, which a divergence gives.
_OF_DIFFERENCE = ("sigmoid", "hinge", "ipo", "robust", "exo_pair", "discopop")


@functools.cache
def _formula(kind: str, divergence: str, data: int) -> Callable[..., jax.Array]:
    """The losses, of as many arrays of data, and then of hyperparameters."""

    @apart
    def losses(*arrays: jax.Array) -> jax.Array:
        (c, r, c0, r0, *lengths), knobs = arrays[:data], list(arrays[data:])
        answers = _Answers(c, r, c0, r0)
        if lengths:
            answers = answers._replace(c_length=lengths[0], r_length=lengths[1])
        if divergence == "js":
            answers = answers._replace(gap=js_gap)
        elif divergence in ("alpha", "forward_kl"):
            alpha = knobs.pop() if divergence == "alpha" else jnp.ones_like(answers.c)

            def gap(*gains: jax.Array) -> Rounded:
                value = alpha_gap(*gains, alpha)
                return value, jnp.zeros_like(value)

            answers = answers._replace(gap=gap)
        return _KINDS[kind](answers, *knobs)

    return losses


@jit("kind", "divergence")
def dpo_loss(
    chosen: LogProbabilities,
    rejected: LogProbabilities,
    reference_chosen: LogProbabilities,
    reference_rejected: LogProbabilities,
    *,
    beta: ArrayLike = 0.1,
    kind: Kind = "sigmoid",
    label_smoothing: ArrayLike = 0.0,
    temperature: ArrayLike = 0.05,
    divergence: Divergence = "reverse_kl",
    alpha: ArrayLike = 0.5,
    chosen_lengths: Lengths | None = None,
    rejected_lengths: Lengths | None = None,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Direct preference optimization: comparisons train a language model without a reward model.

        c = chosen - reference chosen
        r = rejected - reference rejected
        h = c - r,  z = beta h,  s(x) = 1 / (1 + exp(-x))

        sigmoid    (1 - e) softplus(-z) + e softplus(z)
        robust     ((1 - e) softplus(-z) - e softplus(z))
                   / (1 - 2 e)
        hinge      max(0, 1 - z)
        ipo        (h - 1 / (2 beta))^2
        exo_pair   s(z) log(s(z) / (1 - e))
                   + s(-z) log(s(-z) / e)
        nca_pair   softplus(-beta c)
                   + (softplus(beta c) + softplus(beta r)) / 2
        sppo_hard  (c - 1 / (2 beta))^2
                   + (r + 1 / (2 beta))^2
        apo_zero   s(-beta c) + s(beta r)
        apo_down   s(beta c) + s(-z)
        discopop   s(-z / temperature) softplus(-z)
                   + s(z / temperature) exp(-z)

    for `label_smoothing` e, the part of the comparisons that is taken to be the wrong way round:
    "sigmoid" with e > 0 is the conservative loss, "robust" the one whose mean under such errors is
    that of "sigmoid" without them; it may be negative. "apo_zero" raises the chosen answer and
    lowers the rejected one, "apo_down" lowers both. The hinge has the slope of its active side at
    z = 1: a tie still trains.

    `divergence` says what holds the model near its reference. Of another one than the reverse KL
    divergence, h is the difference of the scores of both answers,

        forward_kl  exp(-r) - exp(-c)
        js          softplus(-r) - softplus(-c)
        alpha       (exp(-alpha r) - exp(-alpha c)) / alpha

    where alpha = 0 is the reverse KL divergence again and alpha = 1 the forward one. With
    `chosen_lengths` and `rejected_lengths` c and r are means over tokens: they are divided by them.

    Args:
        chosen: The log-probabilities of the preferred answers.
        rejected: Those of the others; the shape of `chosen`, or a scalar.
        reference_chosen: Those of the preferred answers under the reference model.
        reference_rejected: Those of the others under the reference model.
        beta: How closely the model is to stay to its reference; 0 or more, else NaN.
        kind: One of the ten above.
        label_smoothing: e, for "sigmoid" from 0 to 1, for "robust" from 0 to below 1/2 and for
            "exo_pair" from above 0 to below 1 (the paper takes 0.001), else NaN. The others have
            none: NaN unless 0.
        temperature: Of "discopop" alone, positive, else NaN: over which z the exponential takes
            over from the logistic loss.
        divergence: "reverse_kl"; or, for the kinds that are of h alone, "forward_kl", "js" or
            "alpha".
        alpha: Of the divergence "alpha" alone; 0 or more, else NaN.
        chosen_lengths: The tokens of the preferred answers, the shape of `chosen`, or a scalar;
            NaN unless positive. None for log-probabilities that are not divided.
        rejected_lengths: Those of the others, likewise.
        where, weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per comparison.

    Raises:
        ValueError: If `kind` or `divergence` is none of those, if a kind has only the reverse KL
            divergence, or if the lengths of one of both answers alone are given.

    Reference:
        Rafailov et al., "Direct preference optimization: your language model is secretly a reward
        model", 2023, eq. 7, https://arxiv.org/abs/2305.18290. "sigmoid" with e > 0: Mitchell, "A
        note on DPO with noisy preferences and relationship to IPO", 2023. "robust": Chowdhury,
        Kini and Natarajan, "Provably robust DPO: aligning language models with noisy feedback",
        2024, https://arxiv.org/abs/2403.00409. "hinge": Zhao et al., "SLiC-HF: sequence likelihood
        calibration with human feedback", 2023, https://arxiv.org/abs/2305.10425. "ipo": Azar et
        al., "A general theoretical paradigm to understand learning from human preferences", 2023,
        https://arxiv.org/abs/2310.12036. "exo_pair": Ji et al., "Towards efficient exact
        optimization of language model alignment", 2024, eq. 16, https://arxiv.org/abs/2402.00856.
        "nca_pair": Chen et al., "Noise contrastive alignment of language models with explicit
        rewards", 2024, https://arxiv.org/abs/2402.05369. "sppo_hard": Wu et al., "Self-play
        preference optimization for language model alignment", 2024, eq. 4.7,
        https://arxiv.org/abs/2405.00675. "apo_zero", "apo_down": D'Oosterlinck et al., "Anchored
        preference optimization and contrastive revisions: addressing underspecification in
        alignment", 2024, eq. 7 and 8, https://arxiv.org/abs/2408.06266. "discopop": Lu et al.,
        "Discovering preference optimization algorithms with and for large language models", 2024,
        eq. 5, https://arxiv.org/abs/2406.08414. Divergences: Wang et al., "Beyond reverse KL:
        generalizing direct preference optimization with diverse divergence constraints", 2023,
        https://arxiv.org/abs/2309.16240.

    Example:
        >>> policy = jnp.array([-10.0, -12.0]), jnp.array([-10.0, -8.0])
        >>> dpo_loss(*policy, jnp.full(2, -10.0), jnp.full(2, -10.0), beta=0.5)
        Array([0.6931472, 2.126928 ], dtype=float32)
    """
    one_of("kind", kind, get_args(Kind))
    one_of("divergence", divergence, get_args(Divergence))
    if divergence != "reverse_kl" and kind not in _OF_DIFFERENCE:
        kinds = ", ".join(map(repr, _OF_DIFFERENCE))
        raise ValueError(f"divergence {divergence!r} needs a kind of {kinds}, got {kind!r}")
    request = Request(where, weights, reduction)
    data = {
        "chosen": chosen,
        "rejected": rejected,
        "reference_chosen": reference_chosen,
        "reference_rejected": reference_rejected,
    }
    lengths = {"chosen_lengths": chosen_lengths, "rejected_lengths": rejected_lengths}
    given_lengths = {name: x for name, x in lengths.items() if x is not None}
    if len(given_lengths) == 1:
        ((name, x),) = given_lengths.items()
        (missing,) = lengths.keys() - given_lengths.keys()
        raise ValueError(f"{missing} must go with {described(**{name: real(name, x)})}")
    data |= given_lengths
    smoothing = Hyper(label_smoothing, _SMOOTHING.get(kind, lambda e: e == 0))
    hyper = {"beta": Hyper(beta, non_negative), "label_smoothing": smoothing}
    if kind == "discopop":
        hyper["temperature"] = Hyper(temperature, positive)
    if divergence == "alpha":
        hyper["alpha"] = Hyper(alpha, non_negative)
    given = elementwise(data, request, hyper=hyper)
    if kind not in _OF_DIFFERENCE:
        # The gain of one answer alone is in each term: a NaN in the other shows in its slope too.
        given = given.inside(~functools.reduce(operator.or_, map(jnp.isnan, given.data)))
    if given_lengths:
        *_, c_length, r_length = given.data
        given = given.inside((c_length > 0) & (r_length > 0))
    return given.reduced(_formula(kind, divergence, len(given.data))(*given.arrays))
