"""Cross-entropies of the softmax, against one class or labels of all, and their derivatives."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from .kinks import closed_form, instantiated
from .softmax import (
    Axes,
    Odds,
    apart,
    below,
    change_of_surprisals,
    mean_less,
    odds_against_top,
    scaled_tangent,
    with_doubt,
)
from .special import safe_product
from .xla import score_and_rival


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

    def scaled(gap: jax.Array, *temperature: jax.Array) -> jax.Array:
        return gap / jnp.expand_dims(temperature[0], axes) if temperature else gap

    def against_rival(
        x: jax.Array, hit: jax.Array, *temperature: jax.Array
    ) -> tuple[jax.Array, ...]:
        """Log-odds and odds against the rival, the most likely of the other classes.

        Those of the class itself are capped at 0 and 1.

        Returns:
            Log-odds and odds; the sum of the odds of the others; the log-odds of the rival
            against the class.
        """
        # In the sum of all odds the class counts for 1 or less and the others, of which the rival
        # has 1, for 1 or more: subtracting the class cancels no digits.
        score, rival = score_and_rival(axes, x, hit)
        gap = below(x, rival, axes, *temperature)
        odds = jnp.exp(gap)
        lead = scaled(rival - score, *temperature)
        # The selection comes last: XLA would hand a bare exponential, together with the sum, to a
        # library that is slow at rows of one number. At a tie the class counts as it does in the
        # sum.
        first = lead < 0
        counted = jnp.where(first, 1, jnp.exp(-jnp.where(first, 0, lead)))
        return gap, odds, jnp.sum(odds, axes, keepdims=True) - counted, lead

    @jax.custom_jvp
    def slope_and_gap(
        x: jax.Array, hit: jax.Array, *temperature: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        gap, odds, others, lead = against_rival(x, hit, *temperature)
        share = 1 / (jnp.exp(-lead) + others)
        # p - 1 at the class itself is minus the sum of the others, which keeps its digits.
        slope = jnp.where(hit, -others, odds) * share
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
        others, lead = (jnp.squeeze(part, axes) for part in parts[2:])
        first = lead <= 0
        less = jnp.exp(jnp.where(first, lead, -lead))
        rest = jnp.where(first, others * less, (others - 1) + less)
        return jnp.where(first, 0, lead) + jnp.log1p(rest)

    return loss(x, hit, *temperature)


class _Sums(NamedTuple):
    """Sums over the classes, with their axes kept.

    Attributes:
        rest, alone: The first two of `Odds.sums`.
        labels: The sum of the labels.
        others: The sum of the labels of all but the most likely classes.
        missed: The sum of labels times gaps.
        beside: The sum of labels times odds of all but the most likely classes; for `misplaced`.
        most: The sum of labels times odds of the most likely classes; for `misplaced`.
    """

    rest: jax.Array
    alone: jax.Array
    labels: jax.Array
    others: jax.Array
    missed: jax.Array
    beside: Any = None
    most: Any = None


def _labelled(parts: Odds, labels: jax.Array, axes: Axes, misplacing: bool) -> _Sums:
    others = jnp.where(parts.most, 0, labels)
    columns = [labels, others, jnp.where(labels == 0, 0, labels * parts.gap)]
    if misplacing:
        columns += [others * parts.odds, jnp.where(parts.most, labels * parts.odds, 0)]
    return _Sums(*parts.sums(axes, *columns))


def cross_entropy(
    x: jax.Array, labels: jax.Array, axes: Axes, *temperature: jax.Array, misplacing: bool = False
) -> jax.Array:
    """The sum over `axes` of labels * -log softmax(x / T).

    Args:
        misplacing: Whether `misplaced` of the same logits and labels is computed too: XLA then
            computes the sums of both in one pass.
    """

    @jax.custom_jvp
    def slopes_and_gap(
        x: jax.Array, labels: jax.Array, *temperature: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        total = _labelled(odds_against_top(x, axes, *temperature), labels, axes, misplacing)
        parts = odds_against_top(x, axes, *temperature, again=True)
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
        parts = odds_against_top(x, axes, *temperature)
        total = _labelled(parts, labels, axes, misplacing)
        infinite = parts.infinite & (total.others != 0)
        missed = jnp.where(infinite, -jnp.inf * jnp.sign(total.others), total.missed)
        return jnp.squeeze(total.labels * jnp.log1p(total.rest) - missed, axes)

    return loss(x, labels, *temperature)


def misplaced(x: jax.Array, labels: jax.Array, axes: Axes) -> jax.Array:
    """The sum over `axes` of labels * (1 - softmax(x))."""

    @jax.custom_jvp
    def slopes(x: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
        total = _labelled(odds_against_top(x, axes), labels, axes, True)
        parts = odds_against_top(x, axes, again=True)
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
        total = _labelled(odds_against_top(x, axes), labels, axes, True)
        share = 1 / (1 + total.rest)
        # No digits cancel: of all but the most likely classes p is 1/2 or less, and what is
        # subtracted is at most half of `others`.
        lost = (total.others - total.beside * share) + total.most * (total.rest * share)
        return jnp.squeeze(lost, axes)

    return value(x, labels)
