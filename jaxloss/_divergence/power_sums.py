"""Sums of t (t / p)^a over the entries of a row, with all digits, in two passes or in one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from .._numerics import running
from .._numerics.exact import quotient
from .._numerics.sharding import sharded_like
from .._numerics.special import exp_gap_share, log_quotient, one_if_zero
from .._numerics.xla import unshared_copies, with_slopes_of_two_passes
from .distributions import Axes


class Entries(NamedTuple):
    """What is known of each entry.

    Attributes:
        both: Whether neither t nor p is 0.
        alone: Whether only p is 0.
        ratio: t / p, 1 where t or p is 0.
        lost: What the rounding of the ratio lost, over the ratio.
        log_ratio: Its logarithm.
    """

    both: jax.Array
    alone: jax.Array
    ratio: jax.Array
    lost: jax.Array
    log_ratio: jax.Array

    @staticmethod
    def of(p: jax.Array, t: jax.Array) -> Entries:
        both, alone = (t > 0) & (p > 0), (t > 0) & (p == 0)
        t_held, p_held = jnp.where(both, t, 1), jnp.where(both, p, 1)
        ratio, lost = quotient(t_held, p_held)
        log_ratio = log_quotient(t_held, p_held, t_held - p_held)
        return Entries(both, alone, ratio, lost / ratio, log_ratio)

    def root(self, a: jax.Array, reference: jax.Array) -> jax.Array:
        """(ratio / reference)^(a/2); 0 where t is 0, inf where p alone is and a is positive."""
        scaled, lost = quotient(self.ratio, reference)
        # A power of the ratio, not an exponential of a times the logarithm, which would multiply
        # the rounding of the logarithm by a. And only half of the power: it may underflow as a
        # whole where its product with a large t / p does not.
        flat = jnp.isinf(a)
        root = _power(scaled, 0.5 * jnp.where(flat, 1, a), self.lost + lost / scaled)
        root = jnp.where(flat, jnp.where(self.ratio == reference, 1, 0), root)
        return jnp.where(self.both, root, jnp.where(self.alone & (a > 0), jnp.inf, 0))


def _power(x: jax.Array, a: jax.Array, rest: jax.Array) -> jax.Array:
    """(x (1 + rest))^a, where rest is what roundings lost."""
    power = jnp.power(x, a)
    return power + power * _power_of_rest(a, rest)


def _power_of_rest(a: jax.Array, rest: jax.Array) -> jax.Array:
    """(1 + rest)^a - 1, where rest is what roundings lost, relative to the result."""
    rest = jax.lax.stop_gradient(rest)
    x = jnp.clip(jnp.where(jnp.isfinite(rest), a * rest, 0), -0.5, 0.5)
    return x * (1 + x * exp_gap_share(x))


class _Sums(NamedTuple):
    """What the entries add up to, axes kept.

    Attributes:
        reference: What ratios are divided by: the largest of them where powers would leave the
            range of floats or a is infinite, else 1. A sum near 1 would lose digits by it.
        total: sum t (t / p)^a with a = alpha - 1, the ratios over the reference.
        excess: The sum of t log(t / p) where the terms are small, which is that over a at a = 0.
        gap: The sum less 1, where it is near 1 and the reference is 1.
        missed: Whether p is 0 somewhere where t is not.
        mass: The sum of t there.
        known: Whether nothing is NaN or below 0.
    """

    reference: jax.Array
    total: jax.Array
    excess: jax.Array
    gap: jax.Array
    missed: jax.Array
    mass: jax.Array
    known: jax.Array


def _reference(largest: jax.Array, a: jax.Array) -> jax.Array:
    largest = jax.lax.stop_gradient(one_if_zero(largest))
    size = a * jnp.log(largest)
    far = (a > 0) & ((size < -20) | (size > 60))
    return jnp.where(far | jnp.isinf(a), largest, 1)


def _near_exponent(order: jax.Array) -> jax.Array:
    return jnp.where(order < 0.5, order, order - 1)


def _near_one(
    p: jax.Array, t: jax.Array, order: jax.Array, entries: Entries, root: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Two numbers of each entry: with the exponent e a term is e times the first plus the second.

    Small terms are split into t and t ((t/p)^a - 1), or, for an order near 0, into p and
    p ((t/p)^alpha - 1): the second part is small because its exponent is.
    """
    low = order < 0.5
    exponent = _near_exponent(order)
    base = jnp.where(low, p, t)
    x = exponent * entries.log_ratio
    close = jnp.abs(x) < 0.5
    small = jnp.where(close, x, 0)
    growth = base * entries.log_ratio * (1 + small * exp_gap_share(small))
    parts = jnp.where(close, base, t * root * root)
    both = entries.both
    return jnp.where(both & close, growth, 0), jnp.where(both, parts, 0)


def _split(parts: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Numbers that are summed without rounding, and the rest."""
    grid = 2.0**26 if parts.dtype == jnp.float64 else 2.0**11
    small = parts < grid
    # Multiples of 1 / grid are.
    high = jnp.round(jnp.where(small, parts, 0) * grid) / grid
    high = jax.lax.stop_gradient(jnp.where(small, high, parts))
    return high, parts - high


def defect(parts: jax.Array, axes: Axes) -> jax.Array:
    """The sum of the parts, less 1, without rounding: near order 1 it is divided by a small a."""
    high, low = (jnp.sum(x, axes, keepdims=True) for x in _split(parts))
    return (high - 1) + low


def _in_two_passes(axes: Axes, p: jax.Array, t: jax.Array, order: jax.Array) -> _Sums:
    a, entries = order - 1, Entries.of(p, t)
    largest = jnp.where(entries.both, entries.ratio, 0)
    largest = jnp.max(largest, axes, keepdims=True, initial=0)
    reference = _reference(largest, a)
    root = entries.root(a, reference)

    def total(x: jax.Array) -> jax.Array:
        return jnp.sum(x, axes, keepdims=True)

    growth, parts = _near_one(p, t, order, entries, root)
    excess = total(growth)
    return _Sums(
        reference,
        total(jnp.where(t > 0, t * root * root, 0)),
        excess,
        _near_exponent(order) * excess + defect(parts, axes),
        jnp.any(entries.alone, axes, keepdims=True),
        total(jnp.where(entries.alone, t, 0)),
        jnp.all((p >= 0) & (t >= 0), axes, keepdims=True),
    )


def _in_one_pass(axes: Axes, p: jax.Array, t: jax.Array, order: jax.Array) -> _Sums:
    """The same: two parts of a row, each with its own largest ratio, are put together."""
    if running.is_apart(axes, p):
        return _in_two_passes(axes, p, t, order)
    # Only a positive power may leave the range of floats.
    a = order - 1
    power = sharded_like(jnp.broadcast_to(jnp.maximum(a, 0), p.shape), p)
    none = jnp.ones_like(a)

    def ratio(p: jax.Array, t: jax.Array) -> jax.Array:
        entries = Entries.of(p, t)
        return jnp.where(entries.both, entries.ratio, 0)

    def scaled(p: jax.Array, t: jax.Array) -> jax.Array:
        entries = Entries.of(p, t)
        own = jnp.where(jnp.isinf(power), 0, _power_of_rest(power, entries.lost))
        return jnp.where(entries.both, t * (1 + own), 0)

    def plain(p: jax.Array, t: jax.Array) -> jax.Array:
        root = Entries.of(p, t).root(a, none)
        return jnp.where(t > 0, t * root * root, 0)

    def near_one(p: jax.Array, t: jax.Array) -> tuple[jax.Array, jax.Array]:
        entries = Entries.of(p, t)
        return _near_one(p, t, order, entries, entries.root(a, none))

    def mass(p: jax.Array, t: jax.Array) -> jax.Array:
        alone = jnp.where((t > 0) & (p == 0), t, 0)
        return jnp.where((p >= 0) & (t >= 0), alone, jnp.nan)

    columns = (
        ratio,
        scaled,
        lambda *_: power,
        plain,
        lambda *x: near_one(*x)[0],
        lambda *x: _split(near_one(*x)[1])[0],
        lambda *x: _split(near_one(*x)[1])[1],
        mass,
    )
    columns = [f(*x) for f, x in zip(columns, unshared_copies(len(columns), p, t), strict=True)]

    def join(x: Sequence[jax.Array], y: Sequence[jax.Array]) -> tuple[jax.Array, ...]:
        top, low, power = jnp.maximum(x[0], y[0]), jnp.minimum(x[0], y[0]), jnp.maximum(x[2], y[2])
        second = x[0] < y[0]
        lower, higher = jnp.where(second, x[1], y[1]), jnp.where(second, y[1], x[1])
        scaled, lost = quotient(low, one_if_zero(top))
        flat = jnp.isinf(power)
        factor = _power(scaled, 0.5 * jnp.where(flat, 1, power), lost / scaled)
        factor = jnp.where(low == top, 1, jnp.where(flat, 0, factor))
        return top, higher + lower * factor * factor, power, *map(jnp.add, x[3:], y[3:])

    found = running.reduced(columns, [0 for _ in columns], join, axes)
    largest, of_largest, _, of_one, growth, high, low, missing = found
    reference, missed = _reference(largest, a), missing > 0
    total = jnp.where((reference == 1) & ~jnp.isinf(a), of_one, of_largest)
    total = jnp.where(missed & (a > 0), jnp.inf, total)
    gap = _near_exponent(order) * growth + ((high - 1) + low)
    return _Sums(reference, total, growth, gap, missed, missing, ~jnp.isnan(missing))


power_sums = with_slopes_of_two_passes(_in_two_passes, _in_one_pass)
