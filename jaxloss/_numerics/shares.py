"""Shares of a whole along the last axis, and 1 less each of them, with digits of its own."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from . import running
from .reductions import sums
from .softmax import without_first
from .special import sigmoids
from .xla import apart, in_passes, told_apart, unselected

# A sum over up to this many classes is written out term by term. XLA on CPU hands any other sum to
# a library and stores the array first, which is three times slower for segmentations.
_FEW = 8


def _sharded(x: jax.Array) -> bool:
    """Whether the type of an array says that its classes lie on several devices."""
    return jax.typeof(x).sharding.spec[-1] is not None


def _are_few(x: jax.Array) -> bool:
    return x.shape[-1] <= _FEW and not _sharded(x)


def _split(x: jax.Array) -> list[jax.Array]:
    return [x[..., c] for c in range(x.shape[-1])]


def _class_sums(*terms: jax.Array) -> tuple[jax.Array, ...]:
    if _are_few(terms[0]):
        return tuple(functools.reduce(jnp.add, _split(x)) for x in terms)
    return sums((terms[0].ndim - 1,), *terms)


def _spread(x: jax.Array, classes: int) -> jax.Array:
    """A number of each pixel, repeated for all classes by an operation whose transpose is fast."""
    if classes <= _FEW:
        return jnp.concatenate([x[..., None]] * classes, -1)
    return jnp.tensordot(x[..., None], jnp.ones((1, classes), x.dtype), 1, precision="highest")


def complemented_softmax(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The softmax p over the last axis, and 1 - p, both accurate where they are small.

    NaN at the largest logits if they are infinite and there are several.
    """
    return in_passes(_in_two_passes, _in_one_pass, x)


@apart
def complemented_sigmoid(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The sigmoid of x and that of -x."""
    return unselected(_by_selection, _by_minima, x)


def _by_selection(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    _, low, high = sigmoids(x)
    return high, low


@jax.custom_jvp
def _by_minima(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """One of the two exponentials is 1."""
    ahead, behind = jnp.exp(jnp.minimum(x, 0)), jnp.exp(jnp.minimum(-x, 0))
    larger = 1 / (1 + ahead * behind)
    return ahead * larger, behind * larger


@_by_minima.defjvp
def _(primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> Any:
    odds = jnp.exp(-jnp.abs(primals[0]))
    larger = 1 / (1 + odds)
    moved = odds * larger * larger * tangents[0]
    return _by_minima(*primals), (moved, -moved)


@jax.custom_jvp
def _in_two_passes(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    top = functools.reduce(jnp.maximum, _split(x)) if _are_few(x) else jnp.max(x, -1)
    first = x == top[..., None]
    odds = jnp.exp(jnp.where(first, 0, x - top[..., None]))
    p, q = _normalized(odds, first)
    undefined = first & (jnp.abs(top) == jnp.inf)[..., None] & (p <= 0.5)
    return jnp.where(undefined, jnp.nan, p), jnp.where(undefined, jnp.nan, q)


@_in_two_passes.defjvp
def _(primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> Any:
    p, q = _in_two_passes(*primals)
    moved = _softmax_tangent(p, q, tangents[0], _spread_sum)
    return (p, q), (moved, -moved)


def _in_one_pass(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    return _of_totals(x, *running.top_and_rest((x.ndim - 1,), jax.lax.stop_gradient(x)))


@jax.custom_jvp
def _of_totals(x: jax.Array, top: jax.Array, rest: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The softmax and its complement, from the largest logit and the sum of all other odds."""
    undefined = (jnp.abs(top) == jnp.inf) & (rest >= 1)
    whole = jnp.where(undefined, jnp.nan, 1 + rest)
    odds = jnp.exp(jnp.where(x == top, 0, x - top))
    # The odds against an infinite logit are 0, also where several are.
    p = jnp.where(odds == 0, 0, odds / whole)
    # Above 1/2 is only a class of odds 1, whose p is 1 / whole.
    return p, jnp.where(p > 0.5, rest * p, 1 - p)


@_of_totals.defjvp
def _(primals: tuple[jax.Array, ...], tangents: tuple[jax.Array, ...]) -> Any:
    # The softmax is computed once more for the derivative, and in this once more for the sums of
    # each row, which in a gradient come before the rest: that takes less time than reading it.
    x, *totals = primals
    (x,) = told_apart(x)
    p, q = _of_totals(x, *totals)
    again, _ = _of_totals(*told_apart(x), *totals)
    # See `_softmax_tangent`. The two sums are separate: where a gradient adds one to the other, a
    # TPU reads the row twice for them.
    parts, most = p * tangents[0], p > 0.5
    others, whole = _kept_sum(jnp.where(most, 0, parts)), _kept_sum(parts)
    moved = jnp.where(most, q * parts, parts) - again * jnp.where(again > 0.5, others, whole)
    return _of_totals(*primals), (moved, -moved)


@jax.custom_jvp
def inverse_shares(x: jax.Array) -> jax.Array:
    """1 / x over the sum of 1 / x along the last axis, for x of 0 and more.

    Zeros share all of it. There are derivatives only if they grow alike, as by one epsilon.
    """
    return _of_least(x)


def _of_least(x: jax.Array) -> jax.Array:
    least = jnp.min(x, -1, keepdims=True)
    first = x == least
    odds = jnp.where(first, 1, least / jnp.where(first, 1, x))
    return _normalized(odds, first)[0]


@inverse_shares.defjvp
def _(primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> Any:
    (x,), (moved,) = primals, tangents
    p = inverse_shares(x)
    some = x != 0
    log_odds = jnp.where(some, -moved / jnp.where(some, x, 1), 0)
    most = p > 0.5
    others = jnp.sum(jnp.where(most, 0, p), -1, keepdims=True)
    slope = _softmax_tangent(p, jnp.where(most, others, 1 - p), log_odds, _spread_sum)
    # Beside zeros, all of whose odds are infinite, the odds of another grow with the zeros.
    of_zeros = jax.jvp(_of_least, primals, tangents)[1]
    return p, jnp.where(jnp.min(x, -1, keepdims=True) == 0, of_zeros, slope)


def _normalized(odds: jax.Array, first: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Odds against the most likely ones as probabilities p, and 1 - p."""
    rest, count = _class_sums(*without_first(odds, first))
    rest += count - 1
    share = 1 / (1 + rest)
    p = odds * share[..., None]
    # 1 - p of the most likely class is the sum of the others: computed from p it would lose digits.
    return p, jnp.where(p > 0.5, (rest * share)[..., None], 1 - p)


def _spread_sum(x: jax.Array) -> jax.Array:
    # What is spread is whole on every device, and so would its cotangent be.
    return _kept_sum(x) if _sharded(x) else _spread(jnp.sum(x, -1), x.shape[-1])


def _kept_sum(x: jax.Array) -> jax.Array:
    return jnp.sum(x, -1, keepdims=True)


def _softmax_tangent(
    p: jax.Array, q: jax.Array, log_odds: jax.Array, row_sum: Callable[[jax.Array], jax.Array]
) -> jax.Array:
    """The derivative of p, from that of the logarithms of its odds; `row_sum` is over classes."""
    parts = p * log_odds
    # p times the difference of the log-odds of the class and their mean, weighted by p. The most
    # likely class is taken out of its mean, of which it makes up the most, so that nothing cancels.
    most = p > 0.5
    others = row_sum(jnp.where(most, 0, parts))
    first = row_sum(jnp.where(most, parts, 0))
    return jnp.where(most, q * parts - p * others, parts - p * (others + first))
