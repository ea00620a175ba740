"""Softmax and its logarithm to the last bits, for every loss that is built on them.

Logits are shifted by the largest of them before anything else: differences of logits are all that
a softmax knows, and they are exact for logits that are near each other. A logit of -inf is a class
that is not there.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jax.typing import ArrayLike

from ._kinks import closed_form
from ._own import own_and_best

Axes = tuple[int, ...]


class _Parts(NamedTuple):
    """All with the axes of the classes kept.

    Attributes:
        gap: The logarithm of the odds of each class against the most likely: 0 or less.
        odds: Its exponential.
        rest: The sum of the odds of all classes but the most likely.
        alone: Whether no other class is as likely as that one.
    """

    gap: jax.Array
    odds: jax.Array
    rest: jax.Array
    alone: jax.Array


@closed_form(lambda x, top: (jnp.where(x > top, 0, 1).astype(x.dtype), 0))
def _held(x: jax.Array, top: jax.Array) -> jax.Array:
    """min(x, top), with slope 1 in x at `top`, which is held constant."""
    return jnp.minimum(x, top)


def _below(x: jax.Array, top: jax.Array, axes: Axes, *temperature: jax.Array) -> jax.Array:
    """min(x, top) - top, over the temperature; 0 at x = top even if that is infinite."""
    # Shifted before it is scaled: XLA would contract x / T - top / T to a fused multiply-add,
    # which rounds one of the two.
    largest = jnp.finfo(x.dtype).max
    top = jax.lax.stop_gradient(jnp.clip(top, -largest, largest))
    gap = _held(x, top) - top
    for scale in temperature:
        gap = gap / jnp.expand_dims(scale, axes)
    return gap


def _parts(x: jax.Array, axes: Axes, *temperature: jax.Array) -> _Parts:
    top = jnp.max(x, axes, keepdims=True, initial=-jnp.inf)
    # Below an infinite logit all others lie infinitely far.
    far = jnp.where(top == jnp.inf, 2.0 ** (jnp.finfo(x.dtype).maxexp - 1), 1).astype(x.dtype)
    gap = _below(x, top, axes, *temperature) * far
    odds = jnp.exp(gap)
    others = _others(odds)
    rest = jnp.expand_dims(_sum_of(odds, others, axes), axes)
    first = jnp.sum(1 - others, axes, keepdims=True)
    # No logit but -inf, and several of inf, have no softmax.
    undefined = (first < 1) | ((top == jnp.inf) & (first > 1))
    rest = jnp.where(undefined, jnp.nan, rest + (first - 1))
    return _Parts(gap, odds, rest, first == 1)


def _others(odds: jax.Array) -> jax.Array:
    """1 for each class but the most likely, where it is 0.

    In arithmetic: XLA on CPU writes what is selected to memory before it sums it.
    """
    return jnp.minimum(1, (1 - jax.lax.stop_gradient(odds)) * 2.0**60)


def _sum_of(odds: jax.Array, others: jax.Array, axes: Axes) -> jax.Array:
    """The sum over the others, with the derivative of that over all: the most likely moves too."""
    summed = closed_form(lambda odds, others: (jnp.ones_like(odds), 0), axes)
    return summed(lambda odds, others: jnp.sum(odds * others, axes))(odds, others)


def _but(odds: jax.Array, rest: jax.Array) -> jax.Array:
    """`rest` beside the most likely class, whose odds of 1 have a derivative that is not its."""
    return rest - (odds - jax.lax.stop_gradient(odds))


def _slopes_at(
    slope: jax.Array, gap: jax.Array, axes: Axes, *temperature: jax.Array
) -> tuple[jax.Array, ...]:
    """The derivatives in logits and temperature, from that in the scaled logits.

    That one sums to 0 over the classes, so the shift of the logits does not matter.
    """
    if not temperature:
        return (slope,)
    own = slope * (1 / jnp.expand_dims(temperature[0], axes))
    return own, -jnp.sum(jnp.where(slope == 0, 0, own * gap), axes)


def surprisal(x: jax.Array, hit: jax.Array, axes: Axes, *temperature: jax.Array) -> jax.Array:
    """-log softmax(x / T) of the one class along `axes` where `hit` is true."""

    def scaled(gap: jax.Array, *temperature: jax.Array) -> jax.Array:
        return gap / jnp.expand_dims(temperature[0], axes) if temperature else gap

    def sums(x: jax.Array, hit: jax.Array, *temperature: jax.Array) -> tuple[jax.Array, ...]:
        # Against the most likely of the other classes: with the odds held at its 1, the class
        # itself counts for 1 or less, and what it leaves for 1 or more. Nothing cancels.
        own, top = own_and_best(axes, x, hit)
        gap = _below(x, top, axes, *temperature)
        odds = jnp.exp(gap)
        ahead = scaled(top - own, *temperature)
        # Selected last, or the exponential joins the sum, in a library that is slow at rows of
        # one number. At a tie the class counts, as it does in the sum.
        first = ahead < 0
        counted = jnp.where(first, 1, jnp.exp(-jnp.where(first, 0, ahead)))
        return gap, odds, jnp.sum(odds, axes, keepdims=True) - counted, ahead

    def slopes(x: jax.Array, hit: jax.Array, *temperature: jax.Array) -> tuple[ArrayLike, ...]:
        gap, odds, others, ahead = sums(x, hit, *temperature)
        share = 1 / (jnp.exp(-ahead) + others)
        # At the class itself p - 1, without the difference.
        slope = jnp.where(hit, -others, odds) * share
        if temperature:
            gap = jnp.where(hit, -ahead, gap)
        own, *turned = _slopes_at(slope, gap, axes, *temperature)
        return own, 0, *turned

    @closed_form(slopes, axes)
    def loss(x: jax.Array, hit: jax.Array, *temperature: jax.Array) -> jax.Array:
        others, ahead = (jnp.squeeze(part, axes) for part in sums(x, hit, *temperature)[2:])
        behind = ahead <= 0
        less = jnp.exp(jnp.where(behind, ahead, -ahead))
        rest = jnp.where(behind, others * less, (others - 1) + less)
        return jnp.where(behind, 0, ahead) + jnp.log1p(rest)

    return loss(x, hit, *temperature)


def cross_entropy(
    x: jax.Array, labels: jax.Array, axes: Axes, *temperature: jax.Array
) -> jax.Array:
    """The sum over `axes` of labels * -log softmax(x / T)."""

    def slopes(x: jax.Array, labels: jax.Array, *temperature: jax.Array) -> tuple[jax.Array, ...]:
        gap, odds, rest, alone = _parts(x, axes, *temperature)
        share = 1 / (1 + rest)
        mass = jnp.sum(labels, axes, keepdims=True)
        # For the most likely class p - label would cancel: the others have what it lacks.
        lack = jnp.sum(labels * _others(odds), axes, keepdims=True)
        slope = jnp.where(
            alone & (odds == 1),
            lack - mass * _but(odds, rest) * share,
            mass * share * odds - labels,
        )
        absent = (gap == -jnp.inf) & (labels == 0)
        in_labels = jnp.where(absent, 0, jnp.log1p(rest) - gap)
        own, *turned = _slopes_at(slope, gap, axes, *temperature)
        return own, in_labels, *turned

    @closed_form(slopes, axes)
    def loss(x: jax.Array, labels: jax.Array, *temperature: jax.Array) -> jax.Array:
        gap, _, rest, _ = _parts(x, axes, *temperature)
        # A label of 0 times a gap of -inf is 0: the gap is held at 0 for such a label and at
        # -inf for others, in arithmetic that XLA does not fold to an infinite factor.
        large = 2.0 ** (jnp.finfo(x.dtype).maxexp - 1)
        least = jnp.minimum(labels * large, large) * -large
        below = jnp.sum(labels * jnp.maximum(gap, least), axes)
        return jnp.sum(labels, axes) * jnp.squeeze(jnp.log1p(rest), axes) - below

    return loss(x, labels, *temperature)


def misplaced(x: jax.Array, labels: jax.Array, axes: Axes) -> jax.Array:
    """The sum over `axes` of labels * (1 - softmax(x))."""

    def slopes(x: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
        _, odds, rest, alone = _parts(x, axes)
        others, share = _others(odds), 1 / (1 + rest)
        p, most = odds * share, alone & (odds == 1)
        missed = jnp.where(most, _but(odds, rest) * share, 1 - p)
        # p times the mean label less the class's own: of the most likely class in two parts,
        # as its p, all but 1, would cancel.
        mean = jnp.sum(labels * odds, axes, keepdims=True) * share
        beside = jnp.sum(labels * odds * others, axes, keepdims=True) * share
        return p * jnp.where(most, beside - labels * missed, mean - labels), missed

    @closed_form(slopes, axes)
    def sum_of(x: jax.Array, labels: jax.Array) -> jax.Array:
        _, odds, rest, _ = _parts(x, axes)
        others, share = _others(odds), 1 / (1 + rest)
        missed = jnp.sum(labels * others * (1 - odds * share), axes)
        first = jnp.sum(labels * (1 - others), axes)
        return missed + first * jnp.squeeze(rest * share, axes)

    return sum_of(x, labels)


def surprisals(x: jax.Array, axes: Axes, *temperature: jax.Array) -> jax.Array:
    """-log softmax(x / T) of every class: 0 or more, with the digits of probabilities near 1."""

    @jax.custom_jvp
    def every(x: jax.Array, *temperature: jax.Array) -> jax.Array:
        gap, _, rest, _ = _parts(x, axes, *temperature)
        return jnp.log1p(rest) - gap

    def rule(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
        gap, odds, rest, alone = _parts(primals[0], axes, *primals[1:])
        share = 1 / (1 + rest)
        # Of the gap of every class.
        turned = jnp.zeros_like(gap)
        if not isinstance(tangents[0], SymbolicZero):
            turned = tangents[0]
        if len(primals) > 1:
            scale = 1 / jnp.expand_dims(primals[1], axes)
            turned = turned * scale
            if not isinstance(tangents[1], SymbolicZero):
                there = jnp.where(gap == -jnp.inf, 0, gap)
                turned = turned - there * scale * jnp.expand_dims(tangents[1], axes)
        # The mean of all tangents less a class's own. Of the most likely class only the others'
        # part remains, whose digits the whole mean would lose.
        most = alone & (odds == 1)
        parts = odds * share * turned
        others = jnp.sum(jnp.where(most, 0, parts), axes, keepdims=True)
        first = jnp.sum(jnp.where(most, parts, 0), axes, keepdims=True)
        return every(*primals), others + jnp.where(
            most, -_but(odds, rest) * share * turned, first - turned
        )

    every.defjvp(rule, symbolic_zeros=True)
    return every(x, *temperature)


def log_normalizer(x: jax.Array, axes: Axes, *temperature: jax.Array) -> jax.Array:
    """log of the sum over `axes` of exp(x / T)."""

    def slopes(x: jax.Array, *temperature: jax.Array) -> tuple[jax.Array, ...]:
        gap, odds, rest, _ = _parts(x, axes, *temperature)
        share = odds * (1 / (1 + rest))
        if not temperature:
            return (share,)
        (scale,) = temperature
        top = jax.lax.stop_gradient(jnp.max(x, axes))
        mean = top / scale + jnp.sum(jnp.where(share == 0, 0, share * gap), axes)
        return share * (1 / jnp.expand_dims(scale, axes)), -mean / scale

    @closed_form(slopes, axes)
    def value(x: jax.Array, *temperature: jax.Array) -> jax.Array:
        top = jnp.max(x, axes)
        for scale in temperature:
            top = top / scale
        return top + jnp.log1p(jnp.squeeze(_parts(x, axes, *temperature).rest, axes))

    return value(x, *temperature)
