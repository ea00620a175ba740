"""The softmaxes of a student and of a teacher: sums over a row, in two passes or in one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .._numerics import running
from .._numerics.exact import leading, lost_in_difference
from .._numerics.sharding import sharded_like
from .._numerics.softmax import largest, rest_of_odds
from .._numerics.special import exp_gap_share
from .._numerics.xla import keep_out_of_sum, with_slopes_of_two_passes
from .distributions import Axes


class Softmax(NamedTuple):
    """The softmax of logits over the temperature, from odds against the largest; axes kept.

    Attributes:
        gap: The logit less the largest; 0 for -inf.
        lost: What the rounding of the gap lost.
        absent: Whether the logit is -inf, but not all are.
        first: Whether the logit is the largest.
        root: The root of the odds, which is in range where the odds underflow.
        rest: The sum of the odds, less 1.
        inverse: 1 over the sum of the odds.
    """

    gap: jax.Array
    lost: jax.Array
    absent: jax.Array
    first: jax.Array
    root: jax.Array
    rest: Any = None
    inverse: Any = None

    @property
    def odds(self) -> jax.Array:
        return self.root * self.root

    @property
    def probabilities(self) -> jax.Array:
        return self.odds * self.inverse

    def with_sum(self, rest: jax.Array) -> Softmax:
        return self._replace(rest=rest, inverse=1 / (1 + rest))


def against(x: jax.Array, top: jax.Array, scale: jax.Array) -> Softmax:
    """What is known of each logit without the sum of the odds."""
    absent = (x == -jnp.inf) & (top > -jnp.inf)
    gap = jnp.where(absent, 0, x - top)
    lost = jnp.where(absent, 0, lost_in_difference(x, top))
    root = jnp.where(absent, 0, _root_of_odds(gap, lost, scale))
    return Softmax(gap, lost, absent, x == top, root)


def _root_of_odds(gap: jax.Array, lost: jax.Array, scale: jax.Array) -> jax.Array:
    """exp((gap + lost) / (2 T))."""
    # Shifted before it is scaled, as in `_numerics/softmax.py`; `rest` is what the power lost.
    inverse = 1 / scale
    power = gap * inverse
    high, scale_high = leading(power), leading(scale)
    rest = gap - high * scale_high - high * (scale - scale_high) - (power - high) * scale + lost
    rest = jax.lax.stop_gradient(jnp.where(power > -1e4, 0.5 * rest * inverse, 0))
    root = jnp.exp(0.5 * power)
    return root + rest * root


def growth(gap: jax.Array, scale: jax.Array) -> jax.Array:
    """T (exp(gap / T) - 1) for |gap| <= T."""
    d = gap * (1 / scale)
    return gap * (1 + d * exp_gap_share(d))


class _Sums(NamedTuple):
    """What the odds of student and teacher add up to, axes kept.

    Attributes:
        top: The largest logit of the student.
        rest: The sum of its odds, less 1.
        top_of_teacher: The largest logit of the teacher.
        rest_of_teacher: The sum of its odds, less 1.
        more: T times what the student's sum of odds has more than the teacher's. From the
            differences of near logits it has digits that the two sums do not have.
    """

    top: jax.Array
    rest: jax.Array
    top_of_teacher: jax.Array
    rest_of_teacher: jax.Array
    more: jax.Array


def gap_between(student: Softmax, teacher: Softmax) -> jax.Array:
    """s - z, each less the largest of its own; 0 where either is -inf."""
    apart = student.gap - teacher.gap + (student.lost - teacher.lost)
    return jnp.where(student.absent | teacher.absent, 0, apart)


def _in_two_passes(axes: Axes, s: jax.Array, z: jax.Array, scale: jax.Array) -> _Sums:
    tops = largest(s, axes), largest(z, axes)
    student, teacher = (against(x, top, scale) for x, top in zip((s, z), tops, strict=True))
    rests = (rest_of_odds(side.odds, side.first, axes) for side in (student, teacher))
    apart = gap_between(student, teacher)
    near = ~(student.absent | teacher.absent) & (jnp.abs(apart) < scale)
    more = jnp.where(
        near,
        teacher.odds * growth(jnp.where(near, apart, 0), scale),
        scale * (student.odds - teacher.odds),
    )
    more = jnp.sum(keep_out_of_sum(more), axes, keepdims=True)
    return _Sums(tops[0], next(rests), tops[1], next(rests), more)


def _in_one_pass(axes: Axes, s: jax.Array, z: jax.Array, scale: jax.Array) -> _Sums:
    """The same: two parts of a row, each with its own largest logits, are put together.

    The odds of one part against the largest logit of both are those against its own times a factor
    f, of the student, or g, of the teacher. Its part in T (S - S') for the sums S and S' becomes

        T (f S - g S') = g (T (S - S') + T (f / g - 1) S)
    """
    if running.is_apart(axes, s):
        return _in_two_passes(axes, s, z, scale)

    def side(low: jax.Array, high: jax.Array, scale: jax.Array) -> tuple[jax.Array, ...]:
        """The gap of two largest logits, what its rounding lost, and its odds."""
        gap = jnp.where(low == high, 0, low - high)
        lost = lost_in_difference(low, high)
        root = _root_of_odds(gap, lost, scale)
        return gap, lost, root * root

    def lowered(
        part: Sequence[jax.Array], tops: Sequence[jax.Array], sides: Any, scale: jax.Array
    ) -> jax.Array:
        """A part's T (S - S') against the largest logits of both parts."""
        below = [x < top for x, top in zip(part[:2], tops, strict=True)]
        (gap, lost, f), (gap_t, lost_t, g) = (
            [jnp.where(lower, x, one) for x, one in zip(of_both, (0, 0, 1), strict=True)]
            for lower, of_both in zip(below, sides, strict=True)
        )
        total, total_t = part[2] + 1, part[3] + 1
        apart = gap - gap_t + (lost - lost_t)
        near = jnp.abs(apart) < scale
        grown = growth(jnp.where(near, apart, 0), scale)
        return jnp.where(near, g * (part[4] + grown * total), scale * (f * total - g * total_t))

    def join(a: Sequence[jax.Array], b: Sequence[jax.Array]) -> tuple[jax.Array, ...]:
        scale = jnp.maximum(a[5], b[5])
        # Of empty parts it is 0.
        held = jnp.where(scale == 0, 1, scale)
        tops = [jnp.maximum(x, y) for x, y in zip(a[:2], b[:2], strict=True)]
        sides = [
            side(jnp.minimum(x, y), top, held) for x, y, top in zip(a[:2], b[:2], tops, strict=True)
        ]
        rests = []
        for i, (_, _, odds) in enumerate(sides):
            # The largest logit of the lower part is one of the rest now; of equal ones, one is.
            second = a[i] < b[i]
            lower, higher = (
                jnp.where(second, a[2 + i], b[2 + i]),
                jnp.where(second, b[2 + i], a[2 + i]),
            )
            rests.append(higher + (lower + 1) * odds)
        more = lowered(a, tops, sides, held) + lowered(b, tops, sides, held)
        return *tops, *rests, more, scale

    zero = jnp.zeros_like(s)
    parts = s, z, zero, zero, zero, sharded_like(jnp.broadcast_to(scale, s.shape), s)
    start = -jnp.inf, -jnp.inf, -1, -1, 0, 0
    top, top_t, rest, rest_t, more, _ = running.reduced(parts, start, join, axes)
    rest, rest_t = (jnp.where(jnp.isinf(x), jnp.nan, y) for x, y in ((top, rest), (top_t, rest_t)))
    return _Sums(top, rest, top_t, rest_t, more)


sums_of_both = with_slopes_of_two_passes(_in_two_passes, _in_one_pass)
