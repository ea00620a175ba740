"""Distillation: a student's distribution, drawn to that of a teacher.

Let s and z be the logits of student and teacher, p = softmax(s / T) and t = softmax(z / T), and

    d = T log(p / t) = (s - z) - T log(sum e^(s/T) / sum e^(z/T))

The formulas below are exact; each is used where its rounding errors are small.

Loss: T^2 sum t log(t / p) is, as p and t both sum to 1, the sum of terms that are never negative:

    T^2 (t log(t / p) + p - t) = T^2 (p - t) - T t d            if |d| >= T
                               = t d^2 g(d / T)                 else

with g(x) = (e^x - 1 - x) / x^2, from p = t e^(d/T).

Derivative in s: T (p - t), which is t T (e^(d/T) - 1) for a small d. Let S be the sum of the odds
of the classes against the likeliest one. Where a class is the likeliest in both, p is 1 / S of the
student and t is 1 / S of the teacher, so p - t comes from the difference of the two S.

Derivative in z: -t (d + L / T). As L / T = -sum t d, a number may be added to all d.

Derivative in T: as L = T^2 f(s / T, z / T) it is (2 L - sum s T (p - t) + sum z t (d + L / T)) / T,
where for a small d the term of the loss stands for T^2 (p - t) - T t d.

Second derivatives: let x° be x less its mean, weighted by p for s and by t for z. In directions s'
and z' the slope in s moves by p s'° - t z'°, and with e = d + L / T the slope in z, -t e, by
t (z' - s')° - (t e z'° - t sum t e z'°) / T. In T the terms in which the logits are large cancel:

    in s and T    p - t - (p s° - t z°) / T
    in z and T    (t e z° - t sum t e z°) / T^2
    in T twice    2 (H(p) - H(t)) + sum (p s°^2 - t z°^2 - t e z°^2 / T) / T^2

with the entropies H.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from .._contract.inputs import Axis
from .._contract.jit import jit
from .._contract.prepared import Hyper
from .._contract.reduce import Reduction, Request, Weights, Where
from .._numerics.kinks import closed_form
from .._numerics.softmax import mean_less
from .._numerics.special import exp_gap_share, log_ratio, small_log1p
from .._numerics.xla import (
    computed_apart,
    keep_out_of_sum,
    nan_by_entry,
    nan_by_row,
)
from .distributions import Axes, Distributions, pairs
from .two_softmaxes import Softmax, against, gap_between, growth, sums_of_both


class _Match(NamedTuple):
    """Student and teacher side by side, axes kept; see the derivation above.

    Attributes:
        student: Its softmax p.
        teacher: Its softmax t.
        apart: s - z, each less the largest of its own; 0 where either is -inf.
        gap: d; 0 where the teacher excludes a class, -inf where the student alone does.
        term: The term of the loss.
        near: Whether |d| < T, so that the term comes from d.
        excess: T (p - t), the derivative in s.
    """

    student: Softmax
    teacher: Softmax
    apart: jax.Array
    gap: jax.Array
    term: jax.Array
    near: jax.Array
    excess: jax.Array


def _match(
    axes: Axes, s: jax.Array, z: jax.Array, temperature: jax.Array, again: bool = False
) -> _Match:
    """Student and teacher side by side.

    Args:
        axes: Those of the classes.
        s: Logits of the student.
        z: Logits of the teacher.
        temperature: T, without the axes.
        again: Whether the program has all but the sums elsewhere too; see `computed_apart`.
    """
    scale = jnp.expand_dims(temperature, axes)
    sums = sums_of_both(axes, s, z, scale)
    if again:
        s, z = computed_apart(s, z)
    student = against(s, sums.top, scale).with_sum(sums.rest)
    teacher = against(z, sums.top_of_teacher, scale).with_sum(sums.rest_of_teacher)
    either = student.absent | teacher.absent
    apart = gap_between(student, teacher)
    odds_t, more = teacher.odds, sums.more
    relative = more * teacher.inverse / scale
    alike = (relative > -0.5) & (relative < 1)
    shift = jnp.where(
        alike,
        small_log1p(jnp.where(alike, relative, 0)),
        log_ratio(student.rest, teacher.rest),
    )
    gap = jnp.where(either, 0, apart - scale * shift)

    near = ~either & (jnp.abs(gap) < scale)
    small = jnp.where(near, gap, 0)
    t = odds_t * teacher.inverse
    difference = scale * (student.odds * student.inverse - t)
    excess = jnp.where(near, t * growth(small, scale), difference)
    # The likeliest class of both has odds of 1.
    likeliest = -more * teacher.inverse * student.inverse
    excess = jnp.where(student.first & teacher.first, likeliest, excess)

    far = scale * (difference - _weighed(teacher, gap))
    term = jnp.where(near, t * small * small * exp_gap_share(small * (1 / scale)), far)
    missed = student.absent & ~teacher.absent
    return _Match(
        student,
        teacher,
        apart,
        jnp.where(missed, -jnp.inf, gap),
        jnp.where(missed, jnp.inf, term),
        near,
        excess,
    )


def _weighed(side: Softmax, x: jax.Array) -> jax.Array:
    """A probability times x, in range also where the probability alone would underflow."""
    return side.root * x * side.root * side.inverse


def _value(axes: Axes, s: jax.Array, z: jax.Array, temperature: jax.Array) -> jax.Array:
    return jnp.sum(keep_out_of_sum(_match(axes, s, z, temperature).term), axes)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _slopes(
    axes: Axes, s: jax.Array, z: jax.Array, temperature: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    loss = _distillation(axes)(s, z, temperature)
    match = _match(axes, s, z, temperature, again=True)
    student, teacher = match.student, match.teacher

    # d + L / T as apart - sum t apart, with apart counted from that of the teacher's likeliest
    # class: where t is 1 for that class alone this is 0.
    first = jnp.sum(jnp.where(teacher.first, match.apart, 0), axes, keepdims=True)
    ties = jnp.sum(jnp.where(teacher.first, 1, 0).astype(s.dtype), axes, keepdims=True)
    beside = jnp.where(teacher.first & (ties == 1), 0, match.apart - first / ties)
    lack = beside - jnp.sum(_weighed(teacher, beside), axes, keepdims=True)
    endless = jnp.isinf(jnp.expand_dims(loss, axes))
    lack = jnp.where(endless, jnp.where(jnp.isinf(match.gap), -jnp.inf, jnp.inf), lack)
    in_teacher = jnp.where(teacher.root == 0, 0, -_weighed(teacher, lack))

    # Of s (p - t) - z t d / T the part s t d / T goes with the second where d is small: together
    # they are t (d / T) (s - z), and s times the term of the loss over T^2 is left.
    scale = jnp.expand_dims(temperature, axes)
    near = match.near
    small = jnp.where(near, match.gap / scale, 0)
    t = teacher.probabilities
    close = t * small * match.apart
    close = close + student.gap / scale * jnp.where(near, match.term / scale, 0)
    far = _weighed(student, student.gap) - _weighed(teacher, student.gap)
    far = far - teacher.gap / scale * _weighed(teacher, match.gap)
    common = teacher.gap / scale * (t * jnp.expand_dims(loss / temperature, axes))
    moved = jnp.where(near, close, far) - common
    in_temperature = 2 * (loss / temperature) - jnp.sum(moved, axes)
    in_teacher = nan_by_entry(
        in_teacher, jnp.where(jnp.isnan(teacher.rest + student.rest), jnp.nan, 1).astype(s.dtype)
    )
    return match.excess, in_teacher, jnp.where(loss == jnp.inf, loss, in_temperature)


def _centred(side: Softmax, x: jax.Array, axes: Axes) -> jax.Array:
    """x less its mean, weighted by a softmax: the tangent of log p for the tangent x of logits."""
    p = side.probabilities
    return -mean_less(x, p, side.rest * side.inverse, p > 0.5, axes)


@_slopes.defjvp
def _(axes: Axes, primals: Any, tangents: Any) -> Any:
    """The tangents of the slopes; see the derivation above."""
    (_, _, temperature), (of_s, of_z, of_temperature) = primals, tangents
    slopes = _slopes(axes, *primals)
    scale, moved = (jnp.expand_dims(x, axes) for x in (temperature, of_temperature))
    match = _match(axes, *primals)
    student, teacher = match.student, match.teacher
    p, t = student.probabilities, teacher.probabilities

    def total(x: jax.Array) -> jax.Array:
        return jnp.sum(x, axes, keepdims=True)

    def through_lack(x: jax.Array) -> jax.Array:
        parts = slopes[1] * x
        return parts - t * total(parts)

    x = t * _centred(teacher, of_z - of_s, axes)
    y = _centred(teacher, of_z, axes)
    of_student = p * _centred(student, of_s, axes) - t * y
    of_teacher = x + through_lack(y) / scale

    log_p, log_t = (_centred(side, side.gap / scale, axes) for side in (student, teacher))
    excess, lack = slopes[0] / scale, slopes[1] / scale
    cross_student = excess - (p * log_p - t * log_t)
    cross_teacher = -through_lack(log_t) / scale
    entropies = (
        jnp.log1p(side.rest) - total(side.probabilities * (side.gap / scale))
        for side in (student, teacher)
    )
    twice = 2 * (next(entropies) - next(entropies))
    twice = twice + total(p * log_p * log_p + (lack - t) * log_t * log_t)
    of_slope = total(cross_student * of_s + cross_teacher * of_z) + twice * moved
    return slopes, (
        of_student + cross_student * moved,
        of_teacher + cross_teacher * moved,
        jnp.squeeze(of_slope, axes),
    )


@functools.cache
def _distillation(axes: Axes):
    return closed_form(functools.partial(_slopes, axes), axes)(functools.partial(_value, axes))


@jit("axis")
def distillation_loss(
    student_logits: Distributions,
    teacher_logits: Distributions,
    *,
    temperature: ArrayLike = 1.0,
    axis: Axis = -1,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Divergence of a student's softened distribution from its teacher's.

        T^2 sum t log(t / p)   with p = softmax(student / T) and t = softmax(teacher / T)

    The factor keeps the size of the gradient, T (p - t), about the same for every temperature.
    It is also differentiated in the teacher: `jax.lax.stop_gradient` holds that still. Never
    negative, and to every digit for a student that is near its teacher. A class of logit -inf
    is excluded; where the student alone excludes it the loss is inf.

    Args:
        student_logits: Any shape.
        teacher_logits: The shape of `student_logits`.
        temperature: T, a number or one for each loss. NaN unless positive and finite.
        axis: The axis of the classes, several, or None for all.
        where: Which losses count, or, of the shape of `student_logits`, which classes; see
            `jaxloss.reduce`.
        weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per pair of distributions: the shape of `student_logits` without `axis`.

    Reference:
        Hinton, Vinyals and Dean, "Distilling the knowledge in a neural network", 2015,
        https://arxiv.org/abs/1503.02531.

    Example:
        >>> student, teacher = jnp.array([1.0, 0.0, 0.0]), jnp.array([3.0, 1.0, 0.0])
        >>> distillation_loss(student, teacher, temperature=2.0)
        Array(0.29661, dtype=float32)
    """
    data = {"student_logits": student_logits, "teacher_logits": teacher_logits}
    request, absent = Request(where, weights, reduction), (-jnp.inf, -jnp.inf)
    softened = Hyper(temperature, lambda x: (x > 0) & (x < jnp.inf))
    given = pairs(data, axis, request, absent=absent, temperature=softened)
    losses = _distillation(given.axes)(*given.arrays)
    return given.reduced(nan_by_row(losses))
