"""Sums of exponentials relative to the largest term, with derivatives of two orders.

A sum is e^top (lead + rest): e^top lead is the term of the largest exponent, and the rest that of
all others. All three have derivatives. So what the others are beside the largest term is known to
all digits, on which second derivatives depend where one term outweighs the others.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from .._numerics.kinks import Slopes, closed_form
from .._numerics.sharding import sharded_like


class Sum(NamedTuple):
    """e^top (lead + rest); of no terms -inf, 0 and 0."""

    top: jax.Array
    lead: jax.Array
    rest: jax.Array

    @property
    def total(self) -> jax.Array:
        """Relative to e^top."""
        return self.lead + self.rest


_NOTHING = (-jnp.inf, 0.0, 0.0)


def _odds(x: jax.Array, top: jax.Array) -> jax.Array:
    """e^x against e^top; 1 of two that are infinite."""
    return jnp.exp(jnp.where((x == top) & jnp.isinf(top), 0, x - top))


def only(condition: jax.Array, a: Sum) -> Sum:
    """Nothing where the condition does not hold."""
    return Sum(*(jnp.where(condition, x, none) for x, none in zip(a, _NOTHING, strict=True)))


def exponentials(x: jax.Array, present: jax.Array) -> Sum:
    """Sums of one term, or of none."""
    return only(present, Sum(x, jnp.ones_like(x), jnp.zeros_like(x)))


def added(a: Sum, b: Sum) -> Sum:
    first = a.top < b.top
    low = Sum(*(jnp.where(first, x, y) for x, y in zip(a, b, strict=True)))
    high = Sum(*(jnp.where(first, y, x) for x, y in zip(a, b, strict=True)))
    return Sum(high.top, high.lead, high.rest + low.total * _odds(low.top, high.top))


def sum_along(x: jax.Array, weights: jax.Array, axis: int) -> Sum:
    """The sum of weights times e^x along an axis; those of weight 0 may be larger than all others.

    Args:
        x: Exponents.
        weights: From 0 to 1, of the shape of `x`.
        axis: Which is gone from the result.
    """
    present, held = weights > 0, jax.lax.stop_gradient(x)
    number = jax.lax.broadcasted_iota(jnp.int32, x.shape, axis)
    number = sharded_like(number, x)
    size = x.shape[axis]
    largest = jnp.max(jnp.where(present, held, -jnp.inf), axis, keepdims=True, initial=-jnp.inf)
    places = jnp.where(present & (held == largest), number, size)
    first = number == jnp.min(places, axis, keepdims=True, initial=size)
    top = jnp.sum(jnp.where(first, x, 0), axis, keepdims=True)
    lead = jnp.sum(jnp.where(first, weights, 0), axis)
    others = present & ~first
    terms = jnp.where(others, weights * _odds(jnp.where(others, x, top), top), 0)
    found = Sum(jnp.squeeze(top, axis), lead, jnp.sum(terms, axis))
    return only(jnp.any(first, axis), found)


def _parts(gap: jax.Array, total: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Of odds u = e^gap total: u / (1 + u), 1 / (1 + u), and the first of them over the total."""
    ahead = gap > 0
    decay = jnp.exp(jnp.where(ahead, -gap, gap))
    below, above = 1 / (1 + decay * total), 1 / jnp.where(ahead, total + decay, 1)
    share = jnp.where(ahead, above, decay * below)
    return share * total, jnp.where(ahead, decay * above, below), share


def _slopes(gap: jax.Array, total: jax.Array) -> Slopes:
    u, _, share = _parts(gap, total)
    return u, share


def _curvatures(gap: jax.Array, total: jax.Array) -> tuple[Slopes, Slopes]:
    u, left, share = _parts(gap, total)
    return (u * left,), (share * left, -share * share)


@closed_form(_slopes, second=_curvatures)
def _log_one_more(gap: jax.Array, total: jax.Array) -> jax.Array:
    """log(1 + e^gap total)."""
    # exp(30) is far from overflow, and 1 is nothing beside it: neither form cancels.
    moderate = gap <= 30
    near = jnp.log1p(jnp.exp(jnp.where(moderate, gap, 0)) * total)
    far = gap + jnp.log(jnp.where(moderate, 1, total))
    return jnp.where(moderate, near, far)


def log_quotient(others: Sum, own: Sum) -> jax.Array:
    """log((others + own) / own): 1e-30 has all its digits."""
    gap = jnp.where(jnp.isneginf(others.top), -jnp.inf, others.top - own.top)
    return _log_one_more(gap, others.total / own.total)
