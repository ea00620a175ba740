"""All pairs of a batch: who is whose positive, how similar they are, and how far apart.

A batch is `[..., examples, features]`; what is said of pairs is `[..., examples, examples]`, an
anchor's partners along the last axis. No array has all pairs and all features.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Float, Int

from .._contract import inputs
from .._contract.reduce import Losses, Reduction, Weights, Where, reduced
from .._numerics.softmax import log_normalizer
from .._numerics.special import reciprocal
from .._numerics.xla import keep_out_of_sum

Embeddings = Float[ArrayLike, "*batch examples features"] | Sequence[Any]
Identities = Int[ArrayLike, "*batch examples"] | Sequence[Any]


class Batch(NamedTuple):
    """Arrays of examples, ready for arithmetic.

    Attributes:
        examples: One or more arrays, in one dtype; ones in an excluded example.
        where: The mask of the examples.
        positive: Whether an example is another one of the anchor's label, if there are labels.
        negative: Whether it is of another label.
    """

    examples: list[jax.Array]
    where: jax.Array | None
    positive: jax.Array
    negative: jax.Array

    def option(self, name: str, value: ArrayLike) -> jax.Array:
        """A hyperparameter: one number, or one for each anchor; 1 where that is excluded."""
        examples = self.examples[0]
        return inputs.option(name, value, examples.shape[:-1], examples.dtype, self.where)

    def positives(self) -> jax.Array:
        """How many each anchor has."""
        dtype = self.examples[0].dtype
        return jnp.sum(self.positive, -1, dtype=jnp.int32).astype(dtype)

    def complete(self) -> jax.Array:
        """Whether an anchor has a positive and a negative."""
        return jnp.any(self.positive, -1) & jnp.any(self.negative, -1)

    def reduced(
        self,
        losses: jax.Array,
        weights: Weights,
        reduction: Reduction,
        counts: jax.Array | None = None,
    ) -> Losses:
        """The losses of the anchors that count, 0 of the others.

        Args:
            losses: One for each anchor.
            weights, reduction: The user's.
            counts: What an anchor counts for in a mean: 0 if it lacks the partners that the loss
                is about.
        """
        if counts is not None:
            counts = counts.astype(losses.dtype)
            losses = jnp.where(counts == 0, 0, losses)
        return reduced(losses, self.where, weights, reduction, counts=counts)


def batch(data: Mapping[str, Any], where: Where, labels: Any = None) -> Batch:
    """Examples of one shape, with labels or, without, each an identity of its own.

    Args:
        data: One or more arrays of examples, by name.
        where: The user's mask, of the examples.
        labels: Integers, of which equal ones are positives.
    """
    arrays = of_examples(data)
    shape = arrays[0].shape
    alone = diagonal((*shape[:-1], shape[-2]))
    same = alone
    if labels is not None:
        labels = identities(next(iter(data)), arrays[0], labels)
        same = labels[..., :, None] == labels[..., None, :]
    positive, negative = same & ~alone, ~same
    if where is not None:
        where = inputs.mask(where, shape[:-1], "the loss")
        arrays = [jnp.where(where[..., None], x, 1) for x in arrays]
        both = where[..., :, None] & where[..., None, :]
        positive, negative = positive & both, negative & both
    return Batch(arrays, where, positive, negative)


def diagonal(shape: tuple[int, ...]) -> jax.Array:
    """Whether the two of a pair are the same, in square matrices."""
    return jnp.broadcast_to(jnp.eye(shape[-1], dtype=bool), shape)


def of_examples(data: Mapping[str, Any]) -> list[jax.Array]:
    """Arrays `[..., examples, features]` of one shape, in one dtype."""
    arrays = inputs.same_shape(data, scalar=False)
    if arrays[0].ndim < 2:
        got = inputs.described(**dict(zip(data, arrays, strict=True)))
        raise ValueError(f"expected [..., examples, features], got {got}")
    dtype = inputs.computing_dtype(arrays)
    return [x.astype(dtype) for x in arrays]


def identities(name: str, examples: jax.Array, labels: Any) -> jax.Array:
    """Integer labels, one for each example."""
    labels, shape = inputs.real("labels", labels), examples.shape[:-1]
    got = f"got {inputs.described(**{name: examples, 'labels': labels})}"
    hint = ""
    if labels.shape == (*shape, 1):
        hint = "; drop the last axis of labels: labels[..., 0]"
    elif labels.ndim and labels.shape == shape[:-1]:
        flat = f"{name}.reshape(-1, {examples.shape[-1]})"
        hint = f"; of several views of each make one batch: {flat}, jnp.repeat(labels, {shape[-1]})"
    expected = f"labels must be of shape {list(shape)}, one for each example, {got}{hint}"
    inputs.check_shapes([labels, np.broadcast_to(0, shape)], custom_message=expected)
    expected = f"labels must be integers, of which equal ones belong together, {got}"
    inputs.check_type(labels, int, custom_message=f"{expected}; labels.astype(int) if they do")
    return labels


@jax.custom_jvp
def _directed(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Vectors of length 1, and 1 over the length they had; both 0 for a vector of 0."""
    largest = jnp.max(jnp.abs(x), -1, keepdims=True, initial=0)
    zero = largest == 0
    scaled = x / jnp.where(zero, 1, largest)
    length = jnp.sqrt(jnp.sum(scaled * scaled, -1, keepdims=True))
    length = jnp.where(zero, 1, length)
    return scaled / length, jnp.where(zero, 0, 1 / length / jnp.where(zero, 1, largest))


@_directed.defjvp
def _(primals: Any, tangents: Any) -> Any:
    unit, inverse = _directed(*primals)
    moved = tangents[0] * inverse
    along = jnp.sum(unit * moved, -1, keepdims=True)
    return (unit, inverse), (moved - unit * along, -inverse * along)


def directions(x: jax.Array) -> jax.Array:
    """Vectors of length 1; a vector of 0 stays one, with derivative 0."""
    return _directed(x)[0]


def products(x: jax.Array, y: jax.Array) -> jax.Array:
    """The dot product of each x with each y."""
    return jnp.matmul(x, jnp.swapaxes(y, -1, -2), precision=jax.lax.Precision.HIGHEST)


@jax.custom_jvp
def gram(x: jax.Array) -> jax.Array:
    """The dot product of each x with each x."""
    return products(x, x)


@gram.defjvp
def _(primals: Any, tangents: Any) -> Any:
    # The product rule's two terms are one and its transpose: one multiplication less, also in
    # reverse mode.
    half = products(*tangents, *primals)
    return gram(*primals), half + jnp.swapaxes(half, -1, -2)


def cosines(x: jax.Array) -> jax.Array:
    """The cosine of the angle between each x and each x."""
    return gram(directions(x))


# How many features, and how many examples, a step of a loop takes: they are added up in registers.
_FEATURES, _EXAMPLES = 8, 16


def _steps(x: jax.Array, size: int) -> jax.Array:
    """The rows, in steps of `size`; zeros fill the last."""
    x = jnp.pad(x, ((0, -len(x) % size), (0, 0)))
    return x.reshape(len(x) // size, size, x.shape[-1])


def _gap(x: jax.Array, y: jax.Array) -> jax.Array:
    return jnp.abs(x[:, None] - y[None, :])


def _over_features(term: Any, add: Any, x: jax.Array, y: jax.Array, *fixed: jax.Array) -> jax.Array:
    """For each pair, the terms of the gaps of all features, added up."""
    size = max(1, min(_FEATURES, x.shape[-1]))

    def step(total: jax.Array, features: Any) -> Any:
        for i in range(size):
            total = add(total, term(_gap(features[0][i], features[1][i]), *fixed))
        return total, None

    start = jnp.zeros((len(x), len(y)), x.dtype)
    return jax.lax.scan(step, start, (_steps(x.T, size), _steps(y.T, size)))[0]


def _distances(degree: float, within: bool, x: jax.Array, y: jax.Array) -> jax.Array:
    """Of two matrices. The difference comes first: |x|^2 + |y|^2 - 2 <x, y> would cancel."""
    if degree == 1:
        return _over_features(lambda gap: gap, jnp.add, x, y)

    def root(x: jax.Array) -> jax.Array:
        return jnp.sqrt(x) if degree == 2 else x ** (1 / degree)

    def scaled(x: jax.Array, y: jax.Array) -> jax.Array:
        largest = _over_features(lambda gap: gap, jnp.maximum, x, y)
        safe = jnp.where((largest == 0) | (largest == jnp.inf), 1, largest)

        def term(gap: jax.Array, safe: jax.Array) -> jax.Array:
            share = gap / safe
            return share * share if degree == 2 else share**degree

        return largest * root(_over_features(term, jnp.add, x, y, safe))

    if degree != 2:
        return scaled(x, y)
    squares = _over_features(lambda gap: gap * gap, jnp.add, x, y)
    # Only where squares might overflow or vanish are gaps divided by the largest.
    ordinary = (squares > 1e-24) & (squares < 1e37)
    if within:
        ordinary |= jnp.eye(len(x), dtype=bool)
    return jax.lax.cond(jnp.all(ordinary), lambda *_: jnp.sqrt(squares), scaled, x, y)


def _moved(
    degree: float, x: jax.Array, y: jax.Array, distances: jax.Array, tangent: jax.Array
) -> jax.Array:
    """What the distances change by when x moves.

    Written so that its transpose, which reverse mode runs, adds up examples in registers; forward
    mode pays for that. Checkpointed, or the gaps of all pairs would be kept for it.
    """
    slope = reciprocal(distances) if degree == 2 else jnp.ones_like(distances)

    @jax.checkpoint
    def step(x: jax.Array, tangent: jax.Array, rows: jax.Array, distances: jax.Array) -> jax.Array:
        changes = []
        for row, distance in zip(rows, distances, strict=True):
            gap = x - row[:, None]
            if degree != 2:
                share = jnp.abs(gap) / jnp.where(distance == 0, 1, distance)[None, :]
                power = jnp.where(gap == 0, 0, jnp.where(gap == 0, 1, share) ** (degree - 1))
                gap = jnp.sign(gap) * (1 if degree == 1 else power)
            changes.append(jnp.sum(gap * tangent, 0))
        return jnp.stack(changes)

    size = max(1, min(_EXAMPLES, len(y)))
    blocks = _steps(y, size), _steps(distances.T, size)
    _, changes = jax.lax.scan(lambda _, block: (None, step(x.T, tangent.T, *block)), None, blocks)
    return changes.reshape(changes.shape[0] * size, len(x))[: len(y)].T * slope


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _between(degree: float, x: jax.Array, y: jax.Array) -> jax.Array:
    return _distances(degree, False, x, y)


@_between.defjvp
def _(degree: float, primals: Any, tangents: Any) -> Any:
    (x, y), (of_x, of_y) = primals, tangents
    value = _between(degree, x, y)
    return value, (_moved(degree, x, y, value, of_x) + _moved(degree, y, x, value.T, of_y).T)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _within(degree: float, x: jax.Array) -> jax.Array:
    return _distances(degree, True, x, x)


@_within.defjvp
def _(degree: float, primals: Any, tangents: Any) -> Any:
    value = _within(degree, *primals)
    half = _moved(degree, primals[0], primals[0], value, tangents[0])
    return value, half + half.T


def distances(x: jax.Array, y: jax.Array | None = None, degree: float = 2) -> jax.Array:
    """The distance between each x and each y, or each x; 0, with slope 0, between equal ones."""
    if y is None:
        function, arrays = functools.partial(_within, degree), (x,)
    else:
        function, arrays = functools.partial(_between, degree), (x, y)
    for _ in x.shape[:-2]:
        function = jax.vmap(function)
    return function(*arrays)


def log_sum(x: jax.Array, present: jax.Array) -> jax.Array:
    """log of the sum of exp(x) where `present`; -inf, with slope 0, where nothing is."""
    some = jnp.any(present, -1)
    x = jnp.where(present, x, -jnp.inf)
    total = log_normalizer(jnp.where(some[..., None], x, 0), (x.ndim - 1,))
    return jnp.where(some, total, -jnp.inf)


def total(x: jax.Array, present: jax.Array) -> jax.Array:
    """The sum of x where `present`."""
    return jnp.sum(keep_out_of_sum(jnp.where(present, x, 0)), -1)
