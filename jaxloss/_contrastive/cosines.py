"""Products and cosines of all pairs of two sets of vectors, or of one set with itself.

Sets are `[..., vectors, features]`, and results `[..., vectors, vectors]`.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp

from .._numerics.devices import AxisName, added, greatest
from .._numerics.special import one_if_zero
from .._numerics.xla import stored, symmetric_product


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _directed(axis_name: AxisName, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Vectors of length 1, and 1 over the length they had; both 0 for a vector of 0."""
    largest = greatest(jnp.max(jnp.abs(x), -1, keepdims=True, initial=0), axis_name)
    # Divided by their largest entry first: squares might overflow or vanish.
    scale = one_if_zero(largest)
    scaled = x / scale
    square = added(jnp.sum(scaled * scaled, -1, keepdims=True), axis_name)
    length = one_if_zero(jnp.sqrt(square))
    return scaled / length, jnp.where(largest == 0, 0, 1 / length / scale)


@_directed.defjvp
def _(axis_name: AxisName, primals: Any, tangents: Any) -> Any:
    unit, inverse = _directed(axis_name, *primals)
    moved = tangents[0] * inverse
    along = added(jnp.sum(unit * moved, -1, keepdims=True), axis_name)
    return (unit, inverse), (moved - unit * along, -inverse * along)


def directions(x: jax.Array, axis_name: AxisName = None) -> jax.Array:
    """Vectors of length 1; a vector of 0 stays one, with derivative 0.

    With an axis name each device has some of the entries of all vectors.
    """
    return _directed(axis_name, x)[0]


def products(x: jax.Array, y: jax.Array) -> jax.Array:
    """The dot product of each x with each y."""
    return jnp.matmul(x, jnp.swapaxes(y, -1, -2), precision=jax.lax.Precision.HIGHEST)


@jax.custom_jvp
def gram(x: jax.Array) -> jax.Array:
    """The dot product of each x with each x."""
    return products(x, x)


@gram.defjvp
def _(primals: Any, tangents: Any) -> Any:
    return gram(*primals), symmetric_product(_once, _twice, *tangents, *primals)


def _once(moved: jax.Array, x: jax.Array) -> jax.Array:
    # Of the product rule's two terms one is the transpose of the other, so that one product of
    # matrices is enough, also in reverse mode.
    half = products(moved, x)
    return half + jnp.swapaxes(half, -1, -2)


def _twice(moved: jax.Array, x: jax.Array) -> jax.Array:
    return products(moved, x) + products(x, moved)


def cosines(x: jax.Array) -> jax.Array:
    """The cosine of the angle between each x and each x."""
    return stored(gram(directions(x)))
