"""Numbers beyond the range of floats: m 2^e, a float m near 1 and a whole exponent of its own.

Sums and products of them keep all bits of m. Logarithms of such numbers do not: of one in the
hundreds a float has few digits behind the point. And a sum of numbers that are given by logarithms
takes exponentials and a logarithm, which cost more than the shifts of exponents here.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp

Tree = TypeVar("Tree")
# The exponent of zero, below any sum of exponents of other numbers; its mantissa is 0.
NOTHING = -1e34
# A class whose logit lies this far below the largest of its frame is impossible.
IMPOSSIBLE = -1e30


class Scaled(NamedTuple):
    """Numbers m 2^e. The exponent is a whole number, stored as a float, without a derivative."""

    m: jax.Array
    e: jax.Array


def _format(dtype: Any) -> tuple[Any, int, int]:
    """The integers of the size of a float, the bits of its fraction, the bias of its exponent."""
    info = jnp.finfo(dtype)
    return (jnp.int64 if info.bits == 64 else jnp.int32), info.nmant, info.maxexp - 1


def power(e: jax.Array) -> jax.Array:
    """2^e for whole e, but not below 2^28 times the smallest normal number: e is clipped there."""
    integer, fraction, bias = _format(e.dtype)
    # The sum's last bits are the integer e + bias. This is faster than a conversion to integers.
    shifted = jnp.maximum(e, 28 - bias) + (1.5 * 2**fraction + bias)
    bits = jax.lax.bitcast_convert_type(shifted, integer)
    return jax.lax.bitcast_convert_type(bits << fraction, e.dtype)


def normal(x: Scaled) -> Scaled:
    """The same numbers with 1 <= m < 2, or 0."""
    integer, fraction, bias = _format(x.m.dtype)
    # A zero keeps its exponent: if it were scaled up, so would be its cotangent, in each step.
    bits = jax.lax.bitcast_convert_type(x.m, integer)
    e = jnp.where(bits == 0, 0, (bits >> fraction) - bias)
    inverse = jax.lax.bitcast_convert_type((bias - e) << fraction, x.m.dtype)
    return Scaled(x.m * inverse, x.e + e.astype(x.e.dtype))


def exp(x: jax.Array) -> Scaled:
    """The exponential of x, 0 where x is `IMPOSSIBLE` or less."""
    possible = x > IMPOSSIBLE
    x = jnp.where(possible, x, 0)
    e = jax.lax.stop_gradient(jnp.round(x * (1 / math.log(2))))
    # log 2 in two parts. The first has few bits, so that its product with e is exact.
    high = 355 / 512
    rest = jnp.clip((x - e * high) - e * (math.log(2) - high), -0.36, 0.36)
    return Scaled(jnp.where(possible, jnp.exp(rest), 0), jnp.where(possible, e, NOTHING))


def log(x: Scaled) -> jax.Array:
    positive = x.m > 0
    value = jnp.log(jnp.where(positive, x.m, 1)) + x.e * math.log(2)
    return jnp.where(positive, value, -jnp.inf)


def plain(x: Scaled) -> jax.Array:
    return x.m * power(x.e)


def product(a: Scaled, b: Scaled) -> Scaled:
    return Scaled(a.m * b.m, a.e + b.e)


def add(*terms: Scaled) -> Scaled:
    # Not below the exponent of zero: products of zeros would sink by it in each step.
    e = jnp.maximum(functools.reduce(jnp.maximum, [x.e for x in terms]), NOTHING)
    parts = [x.m * power(x.e - e) for x in terms]
    return Scaled(functools.reduce(jnp.add, parts), e)


def where(condition: jax.Array, a: Tree, b: Tree) -> Tree:
    """A choice between numbers, or between tuples of them."""
    return jax.tree.map(lambda x, y: jnp.where(condition, x, y), a, b)


def one_where(condition: jax.Array, other: Scaled) -> Scaled:
    return Scaled(jnp.where(condition, 1, other.m), jnp.where(condition, 0, other.e))


def zeros_like(x: Scaled) -> Scaled:
    return Scaled(jnp.zeros_like(x.m), jnp.full_like(x.e, NOTHING))


def cut(x: Scaled, start: int | None, stop: int | None) -> Scaled:
    """Some of the states, the last axis but one."""
    return jax.tree.map(lambda part: part[..., start:stop, :], x)


def shifted(x: Scaled) -> Scaled:
    """Each number moved to the next state; zero for the first."""
    width = ((0, 0),) * (x.m.ndim - 2) + ((1, 0), (0, 0))
    moved = Scaled(jnp.pad(x.m, width), jnp.pad(x.e, width, constant_values=NOTHING))
    return cut(moved, None, -1)


def total(x: Scaled, axis: int) -> Scaled:
    """The sum along an axis."""
    e = jnp.maximum(jnp.max(x.e, axis, keepdims=True), NOTHING)
    return Scaled(jnp.sum(x.m * power(x.e - e), axis), jnp.squeeze(e, axis))


def wide_power(e: jax.Array) -> jax.Array:
    """2^e for whole e, also below the range of `power`: to 0, in factors that are in that range."""
    half = jnp.floor(e / 2)
    return power(half) * power(e - half)


def log1p(x: Scaled) -> jax.Array:
    """log(1 + x), to the last digits of a small x."""
    large = x.e > 60
    small = x.m * wide_power(jnp.where(large, 0, x.e))
    return jnp.where(large, log(x), jnp.log1p(jnp.where(large, 0, small)))
