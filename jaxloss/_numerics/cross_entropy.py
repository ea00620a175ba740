"""Cross-entropies of the softmax, against one class or labels of all, and their derivatives."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from . import running
from .kinks import closed_form, instantiated
from .reductions import score_and_rival_of_bits
from .softmax import (
    Axes,
    apart,
    below,
    change_of_surprisals,
    mean_less,
    odds_against,
    row_sums,
    scaled_tangent,
    with_doubt,
)
from .special import safe_product
from .xla import in_passes


def _slopes_at(
    slope: jax.Array, gap: jax.Array, axes: Axes, *temperature: jax.Array
) -> tuple[jax.Array, ...]:
    """The derivatives in logits and temperature, from `slope`, that in the scaled logits.

    `slope` sums to 0 over the classes. The derivative in the temperature, which multiplies it with
    the scaled logits, can therefore take the gaps instead, which differ from them by a constant.
    """
    if not temperature:
        return (slope,)
    in_logits = slope * (1 / jnp.expand_dims(temperature[0], axes))
    return in_logits, -jnp.sum(safe_product(in_logits, gap), axes)


def surprisal(x: jax.Array, hit: jax.Array, axes: Axes, *temperature: jax.Array) -> jax.Array:
    """-log softmax(x / T) of the one class along `axes` where `hit` is true."""

    def against_rival(
        x: jax.Array, hit: jax.Array, *temperature: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Of the rival, the most likely of the other classes: its score and log-odds.

        Returns:
            The score; the sum of the odds of the others against the rival; the log-odds of the
            rival against the class.
        """
        score, rival, others = in_passes(*_rival_forms(axes), x, hit, *temperature)
        lead = rival - score
        for scale in temperature:
            lead = lead / jnp.expand_dims(scale, axes)
        return rival, others, lead

    @jax.custom_jvp
    def slope_and_gap(
        x: jax.Array, hit: jax.Array, *temperature: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        rival, others, lead = against_rival(x, hit, *temperature)
        gap = below(x, rival, axes, *temperature)
        share = 1 / (jnp.exp(-lead) + others)
        # p - 1 at the class itself is minus the sum of the others, which keeps its digits.
        slope = jnp.where(hit, -others, jnp.exp(gap)) * share
        return slope, jnp.where(hit, -lead, gap)

    def curvature(primals: Any, tangents: Any) -> Any:
        (x, _, *temperature), (in_logits, _, *in_temperature) = primals, tangents
        at, towards = (x, *temperature), (in_logits, *in_temperature)
        slope, gap = slope_and_gap(*primals)
        p, _ = with_doubt(x, axes, *temperature)
        moved = scaled_tangent(towards, gap, axes, *temperature)
        return (slope, gap), (-p * change_of_surprisals(axes, at, towards), moved)

    slope_and_gap.defjvp(curvature, symbolic_zeros=True)

    def slopes(x: jax.Array, hit: jax.Array, *temperature: jax.Array) -> tuple[ArrayLike, ...]:
        slope, gap = slope_and_gap(x, hit, *temperature)
        in_logits, *in_temperature = _slopes_at(slope, gap, axes, *temperature)
        return in_logits, 0, *in_temperature

    @closed_form(slopes, axes)
    def loss(x: jax.Array, hit: jax.Array, *temperature: jax.Array) -> jax.Array:
        parts = against_rival(x, hit, *temperature)
        others, lead = (jnp.squeeze(part, axes) for part in parts[1:])
        first = lead <= 0
        less = jnp.exp(jnp.where(first, lead, -lead))
        rest = jnp.where(first, others * less, (others - 1) + less)
        return jnp.where(first, 0, lead) + jnp.log1p(rest)

    return loss(x, hit, *temperature)


@functools.cache
def _rival_forms(axes: Axes) -> tuple[Callable[..., Any], ...]:
    """Two functions of logits, the label as a mask, and temperature.

    They return the label's score, the largest of the others, and the sum of the odds of the others
    against that, axes kept.
    """

    def in_two_passes(x: jax.Array, hit: jax.Array, *temperature: jax.Array) -> Any:
        # In the sum of all odds, of which those of the class are capped at 1, the class counts for
        # 1 or less and the others, of which the rival has 1, for 1 or more: subtracting the class
        # cancels no digits.
        score, rival = score_and_rival_of_bits(axes, x, hit)
        lead = rival - score
        for scale in temperature:
            lead = lead / jnp.expand_dims(scale, axes)
        # The selection comes last: XLA would hand a bare exponential, together with the sum, to a
        # library that is slow at rows of one number. At a tie the class counts as it does in the
        # sum.
        first = lead < 0
        counted = jnp.where(first, 1, jnp.exp(-jnp.where(first, 0, lead)))
        odds = jnp.exp(below(x, rival, axes, *temperature))
        return score, rival, jnp.sum(odds, axes, keepdims=True) - counted

    def in_one_pass(x: jax.Array, hit: jax.Array, *temperature: jax.Array) -> Any:
        return running.rival_and_others(axes, x, hit, *temperature)

    return in_two_passes, in_one_pass


def cross_entropy(
    x: jax.Array, labels: jax.Array, axes: Axes, *temperature: jax.Array, misplacing: bool = False
) -> jax.Array:
    """The sum over `axes` of labels * -log softmax(x / T).

    Args:
        misplacing: Whether `misplaced` of the same logits and labels is computed too: the sums of
            both are then computed in one pass.
    """

    @jax.custom_jvp
    def slopes_and_gap(
        x: jax.Array, labels: jax.Array, *temperature: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        total = row_sums(x, labels, axes, *temperature, shared=misplacing)
        parts = odds_against(x, total.top, axes, *temperature, again=True)
        share = total.labels * (1 / (1 + total.rest))
        # p - label of the most likely class would cancel; it is minus the sum of the others'.
        first = jnp.where(total.alone, total.others - total.rest * share, 0)
        slope = jnp.where(total.alone & parts.most, first, share * parts.odds - labels)
        u = parts.surprisals(total.rest)
        in_labels = jnp.where((u == jnp.inf) & (labels == 0), 0, u)
        return slope, in_labels, parts.gap

    def curvature(primals: Any, tangents: Any) -> Any:
        (x, labels, *temperature), (in_logits, in_labels, *in_temperature) = primals, tangents
        at, towards = (x, *temperature), (in_logits, *in_temperature)
        slope, u, gap = slopes_and_gap(*primals)
        p, doubt = with_doubt(x, axes, *temperature)
        lost, moved = change_of_surprisals(axes, at, towards), instantiated(in_labels, labels)
        most = p > 0.5
        others, first = apart(moved, most, axes)
        total = others + first
        of_labels = jnp.where(most, others - doubt * total, p * total - moved)
        of_slope = of_labels - jnp.sum(labels, axes, keepdims=True) * p * lost
        of_u = jnp.where((p == 0) & (u == 0), 0, lost)
        return (slope, u, gap), (
            of_slope,
            of_u,
            scaled_tangent(towards, gap, axes, *temperature),
        )

    slopes_and_gap.defjvp(curvature, symbolic_zeros=True)

    def slopes(x: jax.Array, labels: jax.Array, *temperature: jax.Array) -> tuple[jax.Array, ...]:
        slope, in_labels, gap = slopes_and_gap(x, labels, *temperature)
        in_logits, *in_temperature = _slopes_at(slope, gap, axes, *temperature)
        return in_logits, in_labels, *in_temperature

    @closed_form(slopes, axes)
    def loss(x: jax.Array, labels: jax.Array, *temperature: jax.Array) -> jax.Array:
        total = row_sums(x, labels, axes, *temperature, shared=misplacing)
        infinite = (total.top == jnp.inf) & (total.others != 0)
        missed = jnp.where(infinite, -jnp.inf * jnp.sign(total.others), total.missed)
        return jnp.squeeze(total.labels * jnp.log1p(total.rest) - missed, axes)

    return loss(x, labels, *temperature)


def misplaced(x: jax.Array, labels: jax.Array, axes: Axes) -> jax.Array:
    """The sum over `axes` of labels * (1 - softmax(x))."""

    @jax.custom_jvp
    def slopes(x: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
        total = row_sums(x, labels, axes, shared=True)
        parts = odds_against(x, total.top, axes, again=True)
        share = 1 / (1 + total.rest)
        p, most = parts.odds * share, total.alone & parts.most
        lost = jnp.where(most, total.rest * share, 1 - p)
        # The slope in a logit is p (mean label - label of the class). The most likely class, whose
        # p is near 1, makes up most of the mean: its label is subtracted from its part first, or
        # they would cancel.
        mean = (total.beside + total.most) * share
        return p * jnp.where(most, total.beside * share - labels * lost, mean - labels), lost

    @slopes.defjvp
    def _(primals: Any, tangents: Any) -> Any:
        (x, labels), (in_logits, moved) = primals, tangents
        p, doubt = with_doubt(x, axes)
        of_p = -p * change_of_surprisals(axes, (x,), (in_logits,))
        # With the labels less that of the most likely class, which changes no difference.
        most = p > 0.5
        above = labels - jnp.sum(jnp.where(most, labels, 0), axes, keepdims=True)
        mean = jnp.sum(p * above, axes, keepdims=True)
        of_mean = jnp.sum(of_p * above, axes, keepdims=True)
        of_labels = mean_less(moved, p, doubt, most, axes)
        return slopes(x, labels), (of_p * (mean - above) + p * (of_mean + of_labels), -of_p)

    @closed_form(slopes, axes)
    def value(x: jax.Array, labels: jax.Array) -> jax.Array:
        total = row_sums(x, labels, axes, shared=True)
        share = 1 / (1 + total.rest)
        # No digits cancel: of all but the most likely classes p is 1/2 or less, and what is
        # subtracted is at most half of `others`.
        lost = (total.others - total.beside * share) + total.most * (total.rest * share)
        return jnp.squeeze(lost, axes)

    return value(x, labels)
