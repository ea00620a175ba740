"""Losses of several labels at once, one loss for each example.

In the formulas x are the scores or logits of the classes of an example, T those classes that its
labels name and N all others. Labels are multi-hot, of the shape of the scores: above 0 where the
class is in T. `multi_hot` makes them of lists of class numbers. A class that `where` excludes is
not there.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, Real

from .._contract import inputs
from .._contract.inputs import Axis, ClassWeights, by_class
from .._contract.jit import jit
from .._contract.reduce import Losses, Reduction, Weights, Where, reduced
from .._numerics.exact import lost_in_difference
from .._numerics.kinks import closed_form
from .._numerics.xla import keep_out_of_sum
from .cross_entropy import logistic
from .questions import instead, probabilities

Scores = Float[ArrayLike, "*batch classes"] | Sequence[Any]
MultiHot = Real[ArrayLike, "*batch classes"] | Sequence[Any]
# Numbers in a block of scores that stays in the cache while each class of it meets all others.
_BLOCK = 2**18


class _Classes(NamedTuple):
    """Scores and labels, ready for arithmetic.

    Attributes:
        scores, labels: Of one shape.
        axes: Those of the classes.
        where: The mask of the loss.
        present: Which classes are there.
        number: How many of an example are.
    """

    scores: jax.Array
    labels: jax.Array
    axes: tuple[int, ...]
    where: jax.Array | None
    present: jax.Array
    number: jax.Array

    def reduced(
        self,
        losses: jax.Array,
        weights: Weights,
        reduction: Reduction,
        known: jax.Array | None = None,
    ) -> Losses:
        if known is None:
            # One of them may meet nothing that it could spoil.
            known = jnp.all(probabilities(self.labels) & ~jnp.isnan(self.scores), self.axes)
        return reduced(inputs.nan_outside(losses, known), self.where, weights, reduction)


def _classes(
    first: str, scores: Any, labels: Any, axis: Axis, where: Where, exclusive: str
) -> _Classes:
    data = {first: scores, "labels": labels}
    (x, y), axes, selected = inputs.vectors(
        data, axis, where, hint=instead(data, exclusive), scalar=False
    )
    present = jnp.ones(x.shape, bool)
    if where is not None and selected is not None:
        entries, _ = inputs.selection(where, first, x.shape, axes)
        present = entries | ~jnp.expand_dims(selected, axes)
    count = jnp.sum(present, axes, dtype=jnp.int32).astype(x.dtype)
    return _Classes(x, y, axes, selected, present, count)


def _by_blocks(function: Callable[..., jax.Array], *arrays: jax.Array) -> jax.Array:
    """A function of columns, applied to as many of them at a time as fit into a block."""
    columns, height = arrays[0].shape[-1], max(len(arrays[0]), 1)
    width = max(_BLOCK // height, 1)
    if columns <= width:
        return function(*arrays)
    blocks = -(-columns // width)

    def split(x: jax.Array) -> jax.Array:
        # A block takes every so many columns, so that a sharded batch stays where it is.
        padded = jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, width * blocks - columns)])
        return jnp.moveaxis(padded.reshape(*x.shape[:-1], width, blocks), -1, 0)

    results = jax.lax.map(lambda block: function(*block), tuple(map(split, arrays)))
    joined = jnp.moveaxis(results, 0, -1)
    return joined.reshape(*joined.shape[:-2], width * blocks)[..., :columns]


def _pair_costs(x: jax.Array, sides: jax.Array, margin: jax.Array) -> jax.Array:
    """The sum of all hinges of each column."""

    def add(total: jax.Array, row: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        score, side = (x[None] for x in row)
        costs = jnp.maximum(margin[None] - (score - x), 0)
        return total + jnp.sum(jnp.where((side > 0) & (sides < 0), costs, 0), 0), None

    return jax.lax.scan(_where_named(add), jnp.zeros_like(margin), (x, sides))[0]


def _pair_slopes(x: jax.Array, sides: jax.Array, margin: jax.Array) -> jax.Array:
    """How many hinges push each score up, less how many push it down."""

    def add(total: jax.Array, row: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        score, side = (x[None] for x in row)
        active = (side > 0) & (sides < 0) & (margin[None] - (score - x) >= 0)
        return total + active.astype(x.dtype), jnp.sum(active, 0, dtype=x.dtype)

    up, down = jax.lax.scan(_where_named(add), jnp.zeros_like(x), (x, sides))
    return up - down


def _where_named(step: Callable[..., Any]) -> Callable[..., Any]:
    """A step of a scan over classes that passes over those which nothing names."""

    def taken(total: jax.Array, row: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, Any]:
        def without(total: jax.Array, row: Any) -> Any:
            shapes = jax.eval_shape(step, total, row)[1]
            return total, jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)

        return jax.lax.cond(jnp.any(row[1] > 0), step, without, total, row)

    return taken


@jit("axis")
def multilabel_margin_loss(
    scores: Scores,
    labels: MultiHot,
    *,
    margin: ArrayLike = 1.0,
    axis: Axis = -1,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> Losses:
    """Multi-label margin loss: each class of the labels is to stand above each other class.

        1 / C * (sum over j in T and i in N of max(0, margin - (x_j - x_i)))

    for C classes: T those with a label above 0, N all others. Exactly at the margin the slope is
    that inside it: a tie still trains. Pairs are met class by class, in memory of the size of the
    scores, whatever C is.

    Args:
        scores: x, of any shape.
        labels: Multi-hot, the shape of `scores`. NaN outside [0, 1]. PyTorch's lists of class
            numbers are another format: `multi_hot` reads those.
        margin: How far classes are to stand apart: one number, or one for each example.
        axis: The axis of the classes, or several, or None for all.
        where: Which losses count, or, of the shape of `scores`, which classes are there; see
            `jaxloss.reduce`.
        weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per example: the shape of `scores` without `axis`.

    Reference:
        Elisseeff and Weston, "A kernel method for multi-labelled classification", 2001.

    Example:
        >>> multilabel_margin_loss(jnp.array([[0.1, 0.2, 0.4, 0.8]]), jnp.array([[1, 0, 0, 1]]))
        Array([0.85], dtype=float32)
    """
    classes = _classes("scores", scores, labels, axis, where, "multi_margin_loss")
    x, axes, rows = classes.scores, classes.axes, classes.number.shape
    margins = inputs.field("margin", margin, rows, "the loss").astype(x.dtype)
    margins = jnp.broadcast_to(margins, rows)
    if classes.where is not None:
        margins = jnp.where(classes.where, margins, 1)

    def columns(x: jax.Array) -> jax.Array:
        front = range(len(axes))
        size = math.prod(x.shape[i] for i in axes)
        return jnp.moveaxis(x, axes, front).reshape(size, classes.number.size)

    sides = jnp.where(classes.labels > 0, 1.0, -1.0).astype(x.dtype)
    sides = columns(jnp.where(classes.present, sides, 0))

    def slopes(x: jax.Array, sides: jax.Array, margin: jax.Array) -> tuple[jax.Array, ...]:
        slope = _by_blocks(_pair_slopes, x, sides, margin)
        return slope, jnp.zeros_like(sides), jnp.sum(jnp.maximum(slope, 0), 0)

    @closed_form(slopes, (0,))
    def costs(x: jax.Array, sides: jax.Array, margin: jax.Array) -> jax.Array:
        return _by_blocks(_pair_costs, x, sides, margin)

    losses = costs(columns(x), sides, margins.ravel()).reshape(rows) / classes.number
    return classes.reduced(losses, weights, reduction)


@jit("axis")
def multilabel_soft_margin_loss(
    logits: Scores,
    labels: MultiHot,
    *,
    axis: Axis = -1,
    class_weights: ClassWeights = None,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> Losses:
    """Multi-label soft margin loss: the mean of the binary cross-entropies of all classes.

        1 / C * (sum over c of w_c (y_c log(1 + exp(-x_c)) + (1 - y_c) log(1 + exp(x_c))))

    for C classes and labels y. Infinite logits cost as in `sigmoid_binary_cross_entropy`.

    Args:
        logits: x, of any shape.
        labels: y, the shape of `logits`: multi-hot, or soft. NaN outside [0, 1].
        axis: The axis of the classes, or several, or None for all.
        class_weights: w, a weight for each class; they need not sum to anything.
        where: Which losses count, or, of the shape of `logits`, which classes are there; see
            `jaxloss.reduce`.
        weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per example: the shape of `logits` without `axis`.

    Reference:
        Zhang and Zhou, "Multilabel neural networks with applications to functional genomics and
        text categorization", 2006, https://doi.org/10.1109/TKDE.2006.162.

    Example:
        >>> multilabel_soft_margin_loss(jnp.array([[0.0, 2.0, -2.0]]), jnp.array([[1, 1, 0]]))
        Array([0.31567], dtype=float32)
    """
    exclusive = "softmax_cross_entropy_with_integer_labels"
    classes = _classes("logits", logits, labels, axis, where, exclusive)
    x, axes = classes.scores, classes.axes
    terms = logistic(x, classes.labels, jnp.ones((), x.dtype), jnp.zeros((), x.dtype))
    terms = inputs.nan_outside(terms, probabilities(classes.labels))
    if class_weights is not None:
        by = jnp.broadcast_to(by_class(class_weights, x, axes), x.shape)
        # A weight may be infinite or NaN where its class is not there.
        terms *= jnp.where(classes.present, by, 0)
    losses = jnp.sum(keep_out_of_sum(jnp.where(classes.present, terms, 0)), axes) / classes.number
    return classes.reduced(losses, weights, reduction, known=~jnp.isnan(losses))


def _rise_slopes(axes: tuple[int, ...], z: jax.Array) -> tuple[jax.Array]:
    top, gap = _below_top(z, axes)
    odds = jnp.exp(gap)
    share = odds * (1 / (jnp.exp(-top) + jnp.sum(odds, axes, keepdims=True)))
    # exp is steep: what the gap lost in rounding shows in it.
    return (share + share * lost_in_difference(z, top),)


def _below_top(z: jax.Array, axes: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
    """The largest of 0 and the numbers, and how far they lie below it."""
    top = jax.lax.stop_gradient(jnp.max(z, axes, keepdims=True, initial=0))
    infinite = jnp.where(z == jnp.inf, 0, -jnp.inf)
    return top, jnp.where(top == jnp.inf, infinite, z - jnp.where(top == jnp.inf, 0, top))


def _rise(z: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    """log(1 + sum of exp(z)), every digit of it where all are far below 0."""

    @closed_form(functools.partial(_rise_slopes, axes), axes)
    def rise(z: jax.Array) -> jax.Array:
        top, gap = _below_top(z, axes)
        top, total = jnp.squeeze(top, axes), jnp.sum(jnp.exp(gap), axes)
        return top + jnp.log1p(jnp.where(top > 0, jnp.expm1(-top) + total, total))

    return rise(z)


@jit("axis")
def zlpr_loss(
    logits: Scores,
    labels: MultiHot,
    *,
    axis: Axis = -1,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> Losses:
    """Zero-bounded log-sum-exp and pairwise rank-based loss: softmax for several labels.

        log(1 + sum over i in N of exp(x_i)) + log(1 + sum over j in T of exp(-x_j))

    for the classes T with a label above 0, which are to stand above 0, and all others, N, which
    are to stand below: 0 is the threshold of a prediction. Infinite logits cost nothing on their
    side, else inf.

    Args:
        logits: x, of any shape.
        labels: Multi-hot, the shape of `logits`. NaN outside [0, 1].
        axis: The axis of the classes, or several, or None for all.
        where: Which losses count, or, of the shape of `logits`, which classes are there; see
            `jaxloss.reduce`.
        weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per example: the shape of `logits` without `axis`.

    Reference:
        Su et al., "ZLPR: a novel loss for multi-label classification", 2022,
        https://arxiv.org/abs/2208.02955.

    Example:
        >>> zlpr_loss(jnp.array([[0.0, 0.0, 0.0]]), jnp.array([[1, 0, 0]]))
        Array([1.79176], dtype=float32)
    """
    exclusive = "softmax_cross_entropy_with_integer_labels"
    classes = _classes("logits", logits, labels, axis, where, exclusive)
    x, positive = classes.scores, classes.labels > 0
    above = jnp.where(~positive & classes.present, x, -jnp.inf)
    below = jnp.where(positive & classes.present, -x, -jnp.inf)
    losses = _rise(above, classes.axes) + _rise(below, classes.axes)
    return classes.reduced(losses, weights, reduction)


@jit("num_classes")
def multi_hot(
    indices: Int[ArrayLike, "*batch list"], num_classes: int
) -> Float[Array, "*batch classes"]:
    """Multi-hot labels from lists of class numbers. Not a loss.

    Each list ends at its first -1, as in PyTorch's `multilabel_margin_loss`; what follows is not
    read. A class that is listed twice counts once. A list with any other number outside
    [0, num_classes) gives a row of NaN, hence a loss of NaN.

    Args:
        indices: Integers, a list along the last axis.
        num_classes: How many classes there are.

    Returns:
        1 for the classes in the list and 0 for all others, `[..., num_classes]` in float32.

    Reference:
        PyTorch, `torch.nn.MultiLabelMarginLoss`, for the format.

    Example:
        >>> multi_hot(jnp.array([[3, 0, -1, 1], [-1, 2, 2, 2]]), 4)
        Array([[1., 0., 0., 1.], [0., 0., 0., 0.]], dtype=float32)
    """
    numbers = inputs.real("indices", indices)
    if not jnp.issubdtype(numbers.dtype, jnp.integer) or numbers.ndim == 0:
        got = inputs.described(indices=numbers)
        raise TypeError(f"indices must be lists of integers, the numbers of classes, got {got}")
    if not isinstance(num_classes, int) or num_classes < 1:
        raise ValueError(f"num_classes must be a positive integer, got {num_classes!r}")
    listed = jnp.cumprod(jnp.asarray(numbers != -1, jnp.int32), -1) == 1
    index, inside = inputs.class_index(numbers, num_classes)
    classes = jax.lax.broadcasted_iota(jnp.int32, (*numbers.shape, num_classes), numbers.ndim)
    hits = (index[..., None] == classes) & (listed & inside)[..., None]
    wrong = jnp.any(listed & ~inside, -1, keepdims=True)
    return jnp.where(wrong, jnp.nan, jnp.any(hits, -2).astype(jnp.float32))
