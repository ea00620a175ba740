"""Distances of all pairs of two sets of vectors, or of one set with itself.

Sets are `[..., vectors, features]`, and results `[..., vectors, vectors]`. No array of all pairs
and all features is stored: value and derivatives add up gaps as they compute them.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from numbers import Real
from typing import Any, Literal

import jax
import jax.numpy as jnp

from .._numerics.devices import axes_of, varying
from .._numerics.kinks import closed_form, sign_of_largest
from .._numerics.special import one_if_zero, reciprocal, rescaled_if_extreme
from .._numerics.xla import along, in_steps

Operation = Callable[..., jax.Array]
# A number is the degree of a norm.
Distance = Literal["euclidean", "squared", "cosine"] | float
Degree = float | Literal["squared"]
# How many features of the value, and how many vectors of the derivatives, one step of a loop takes:
# their terms are added up in registers.
_FEATURES, _VECTORS = 8, 16


def _steps(x: jax.Array, size: int) -> jax.Array:
    """The rows of a matrix, in blocks of `size`; zeros fill the last."""
    x = jnp.pad(x, ((0, -x.shape[0] % size), (0, 0)))
    return x.reshape(x.shape[0] // size, size, x.shape[-1])


def _gap(x: jax.Array, y: jax.Array) -> jax.Array:
    return jnp.abs(x[:, None] - y[None, :])


def _over_features(
    term: Operation, add: Operation, x: jax.Array, y: jax.Array, *scale: jax.Array
) -> jax.Array:
    """For each pair of rows, the terms of the gaps of all features, added up.

    Args:
        term: Takes the gaps of one feature, and `scale` if it is given.
        add: Takes the total so far and a term.
        x, y: Matrices.
        scale: One number for each pair.
    """
    size = max(1, min(_FEATURES, x.shape[-1]))

    def step(total: jax.Array, features: Any) -> Any:
        for i in range(size):
            total = add(total, term(_gap(features[0][i], features[1][i]), *scale))
        return total, None

    start = varying(jnp.zeros((x.shape[0], y.shape[0]), x.dtype), axes_of((x, y, scale)))
    return jax.lax.scan(step, start, (_steps(x.T, size), _steps(y.T, size)))[0]


def _in_loops(degree: Degree, within: bool, x: jax.Array, y: jax.Array) -> jax.Array:
    """The distances between the rows of two matrices.

    Of differences, and not as |x|^2 + |y|^2 - 2 <x, y>, which would cancel.

    Args:
        degree: The degree of the norm, or "squared" for the square of that of degree 2.
        within: Whether the two matrices are one, and each row has the distance 0 from itself.
        x, y: The matrices.
    """
    if degree in (1, math.inf):
        return _over_features(lambda gap: gap, jnp.add if degree == 1 else jnp.maximum, x, y)
    if degree == "squared":
        return _over_features(lambda gap: gap * gap, jnp.add, x, y)

    number = degree

    def scaled(x: jax.Array, y: jax.Array) -> jax.Array:
        largest = _over_features(lambda gap: gap, jnp.maximum, x, y)

        def power(gap: jax.Array, scale: jax.Array) -> jax.Array:
            return _power(number, gap / scale)

        scale = jnp.where(largest == jnp.inf, 1, one_if_zero(largest))
        return largest * _root(number, _over_features(power, jnp.add, x, y, scale))

    if degree != 2:
        return scaled(x, y)
    squares = _over_features(lambda gap: gap * gap, jnp.add, x, y)
    # A vector is at distance 0 from itself, which is no extreme.
    others = jnp.where(jnp.eye(x.shape[0], dtype=bool), 1, squares) if within else squares
    return rescaled_if_extreme([others], lambda *_: jnp.sqrt(squares), scaled, x, y)


def _power(degree: float, share: jax.Array) -> jax.Array:
    return share * share if degree == 2 else share**degree


def _root(degree: float, total: jax.Array) -> jax.Array:
    return jnp.sqrt(total) if degree == 2 else total ** (1 / degree)


def _all_gaps(x: jax.Array, y: jax.Array) -> jax.Array:
    """The gaps of all pairs of rows and all features, in this order of axes, with their signs."""
    return x[:, None] - y[None, :]


def _at_once(degree: Degree, x: jax.Array, y: jax.Array) -> jax.Array:
    """The same distances, of reductions of all gaps, which compute them as they add them up."""
    gaps = jnp.abs(_all_gaps(x, y))
    if degree == 1:
        return jnp.sum(gaps, -1)
    if degree == "squared":
        return jnp.sum(gaps * gaps, -1)
    largest = jnp.max(gaps, -1, initial=0)
    if degree == math.inf:
        # A maximum of NaN need not be NaN: not on every platform.
        return jnp.where(jnp.isnan(jnp.sum(gaps, -1)), jnp.nan, largest)
    # The reciprocal of a larger or smaller number would be subnormal, or infinite.
    end = 2.0 ** (jnp.finfo(x.dtype).maxexp - 2)
    scale = jnp.clip(largest, 1 / end, end)
    return scale * _root(degree, jnp.sum(_power(degree, gaps * (1 / scale)[..., None]), -1))


@closed_form(lambda gap, distance, inverse: (inverse, -(gap * inverse) * inverse, 0))
def _share(gap: jax.Array, distance: jax.Array, inverse: jax.Array) -> jax.Array:
    """gap / distance, whose derivatives are in range where those of 1 / distance are not."""
    del distance  # only the slopes depend on it
    return gap * inverse


def _slopes(
    degree: Degree, axis: int, gap: jax.Array, distance: jax.Array, inverse: jax.Array
) -> jax.Array:
    """The derivatives of distances in gaps, whose features are along an axis."""
    if degree == "squared":
        return 2 * gap
    if degree == 2:
        return _share(gap, distance, inverse)
    if degree == math.inf:
        return sign_of_largest(gap, distance, (axis,))
    share = _share(jnp.abs(gap), distance, inverse)
    power = jnp.where(gap == 0, 0, jnp.where(gap == 0, 1, share) ** (degree - 1))
    return jnp.sign(gap) * (1 if degree == 1 else power)


def _moved_in_loop(
    degree: Degree,
    x: jax.Array,
    y: jax.Array,
    distances: jax.Array,
    inverses: jax.Array,
    tangent: jax.Array,
) -> jax.Array:
    """The tangent of the distances between the rows of x and y, for a tangent of x alone.

    Its loops are laid out for its transpose, which reverse mode runs, so that this adds up vectors
    in registers; forward mode is slower for it. The steps are checkpointed: without it reverse
    mode would store the gaps of all pairs and features.
    """

    @jax.checkpoint
    def step(x: jax.Array, tangent: jax.Array, *rows: jax.Array) -> jax.Array:
        changes = []
        for row, distance, inverse in zip(*rows, strict=True):
            slopes = _slopes(degree, 0, x - row[:, None], distance[None], inverse[None])
            changes.append(jnp.sum(slopes * tangent, 0))
        return jnp.stack(changes)

    number = y.shape[0]
    # Symbolic in an export for batches of any size, which no larger block is known to divide.
    size = max(1, min(_VECTORS, number)) if isinstance(number, int) else 1
    blocks = tuple(_steps(rows, size) for rows in (y, distances.T, inverses.T))
    changes = jax.lax.scan(lambda _, y: (None, step(x.T, tangent.T, *y)), None, blocks)[1]
    return changes.reshape(changes.shape[0] * size, x.shape[0])[:number].T


def _moved_at_once(
    degree: Degree,
    x: jax.Array,
    y: jax.Array,
    distances: jax.Array,
    inverses: jax.Array,
    tangent: jax.Array,
) -> jax.Array:
    """The same in one reduction, and its transpose too.

    The slopes are checkpointed: else a gradient that is taken outside of a compiled loss would
    store those of all pairs and features. In one program no slopes are shared, and what prevents
    that would store reciprocals and their transposes.
    """

    @functools.partial(jax.checkpoint, prevent_cse=False)
    def change(tangent: jax.Array, *at: jax.Array) -> jax.Array:
        x, y, distances, inverses = at
        pairs = distances[..., None], inverses[..., None]
        return jnp.sum(_slopes(degree, -1, _all_gaps(x, y), *pairs) * tangent[:, None], -1)

    return change(tangent, x, y, distances, inverses)


def _moved(
    degree: Degree, x: jax.Array, y: jax.Array, distances: jax.Array, tangent: jax.Array
) -> jax.Array:
    """The tangent of the distances between the rows of x and y, for a tangent of x alone."""
    inverses = jax.lax.stop_gradient(reciprocal(distances))
    forms = along(_moved_in_loop, degree), along(_moved_at_once, degree)

    def change(tangent: jax.Array) -> jax.Array:
        return in_steps(*forms, x, y, distances, inverses, tangent)

    # It is linear, its own derivative. JAX 0.8.2 does not see that of a loop in a rule of
    # `custom_jvp`, and cannot transpose it: it does of the derivative of one.
    return jax.jvp(change, (jnp.zeros_like(tangent),), (tangent,))[1]


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _between(degree: Degree, x: jax.Array, y: jax.Array) -> jax.Array:
    return in_steps(along(_in_loops, degree, False), along(_at_once, degree), x, y)


@_between.defjvp
def _(degree: Degree, primals: Any, tangents: Any) -> Any:
    (x, y), (of_x, of_y) = primals, tangents
    value = _between(degree, x, y)
    return value, (_moved(degree, x, y, value, of_x) + _moved(degree, y, x, value.T, of_y).T)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _within(degree: Degree, x: jax.Array) -> jax.Array:
    return in_steps(along(_in_loops, degree, True), along(_at_once, degree), x, x)


@_within.defjvp
def _(degree: Degree, primals: Any, tangents: Any) -> Any:
    value = _within(degree, *primals)
    half = _moved(degree, primals[0], primals[0], value, tangents[0])
    return value, half + half.T


def degree_of(distance: Distance) -> Degree:
    """What `distances` calls it; one of cosines is none of its own."""
    if distance in ("euclidean", "squared"):
        return 2 if distance == "euclidean" else "squared"
    assert not isinstance(distance, str)
    return float(distance)


def check_distance(distance: Any) -> None:
    """Refuse what is no distance."""
    names = ("euclidean", "squared", "cosine")
    if isinstance(distance, str):
        known = distance in names
    else:
        known = isinstance(distance, Real) and float(distance) >= 1
    if not known:
        listed = ", ".join(map(repr, names))
        raise ValueError(f"distance must be {listed} or a number of at least 1, got {distance!r}")


def distances(x: jax.Array, y: jax.Array | None = None, degree: Degree = 2) -> jax.Array:
    """The distance between each x and each y, or each other x.

    Between equal vectors it is 0, with slope 0. Of degree inf it is the largest gap; "squared" is
    the square of that of degree 2.
    """
    if y is None:
        function, arrays = functools.partial(_within, degree), (x,)
    else:
        function, arrays = functools.partial(_between, degree), (x, y)
    for _ in x.shape[:-2]:
        function = jax.vmap(function)
    return function(*arrays)
