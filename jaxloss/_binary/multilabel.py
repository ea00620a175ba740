"""Losses of several labels at once, one loss for each example.

In the formulas x are the scores or logits of the classes of an example, T those classes that its
labels name and N all others. Labels are multi-hot, of the shape of the scores: above 0 where the
class is in T. `multi_hot` makes them of lists of class numbers. A class that `where` excludes is
in neither.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, Real

from .._contract import inputs
from .._contract.inputs import Axis, ClassWeights, by_class
from .._contract.jit import jit
from .._contract.prepared import Hyper, Vectors, any_number, in_unit_interval, vectors
from .._contract.reduce import Reduction, Request, Weights, Where
from .._numerics.exact import lost_in_difference
from .._numerics.kinks import closed_form
from .._numerics.running import odds_above_zero
from .._numerics.sharding import whole_along
from .._numerics.special import one_if_zero
from .._numerics.xla import all_known, in_domain, in_passes, keep_out_of_sum, nan_as_the_loss
from .class_pairs import margin_costs
from .cross_entropy import logistic
from .labels import EXCLUSIVE, format_hint

Scores = Float[ArrayLike, "*batch classes"] | Sequence[Any]
MultiHot = Real[ArrayLike, "*batch classes"] | Sequence[Any]


@dataclass(frozen=True, eq=False, kw_only=True)
class _Classes(Vectors):
    """Scores and labels of the classes of each example.

    Attributes:
        present: Which classes are there, in the shape of the scores.
        number: How many classes of each example are there.
    """

    present: jax.Array
    number: jax.Array


def _classes(
    name: str,
    scores: Any,
    labels: Any,
    axis: Axis,
    request: Request,
    exclusive: str = EXCLUSIVE,
    **hyper: Hyper,
) -> _Classes:
    """Scores and labels, ready for arithmetic.

    Args:
        name: That of the scores in the public signature.
        scores, labels, axis: As the user gave them.
        request: The user's mask, weights and reduction.
        exclusive: The loss of the same kind for examples of one class each.
        **hyper: Hyperparameters.
    """
    data = {name: scores, "labels": labels}
    hint = format_hint(data, exclusive)
    given = vectors(data, axis, request, hyper=hyper, hint=hint, scalar=False)
    x, y = given.data
    present = jnp.ones_like(x, bool)
    if given.entries is not None and given.where is not None:
        # Excluded examples keep all their classes: their number is a divisor.
        present = given.entries | ~jnp.expand_dims(given.where, given.axes)
    number = jnp.sum(present, given.axes, dtype=jnp.int32).astype(given.dtype)
    classes = _Classes(**vars(given), present=present, number=number)
    # A NaN score or a label outside its domain need not be part of any term of the loss.
    return classes.inside(jnp.all(_known(x, y), given.axes))


def _known(scores: jax.Array, labels: jax.Array) -> jax.Array:
    return in_unit_interval(labels) & ~jnp.isnan(scores)


@jit("axis")
def multilabel_margin_loss(
    scores: Scores,
    labels: MultiHot,
    *,
    margin: ArrayLike = 1.0,
    axis: Axis = -1,
    class_weights: ClassWeights = None,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Multi-label margin loss: each class of the labels is to stand above each other class.

        1 / C * (sum over j in T and i in N of w_j max(0, margin - (x_j - x_i)))

    for C classes: T those with a label above 0, N all others. Exactly at the margin the slope is
    that inside it: a tie still trains. Pairs are met in memory of the size of the scores, whatever
    C is.

    Args:
        scores: x, of any shape.
        labels: Multi-hot, the shape of `scores`. NaN outside [0, 1]. PyTorch's lists of class
            numbers are another format: `multi_hot` reads those.
        margin: How far classes are to stand apart: one number, or one for each example.
        axis: The axis of the classes, or several, or None for all.
        class_weights: w, what each class counts for where the labels name it; 1 if not given.
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
    request = Request(where, weights, reduction)
    apart = Hyper(margin, any_number)
    given = _classes("scores", scores, labels, axis, request, "multi_margin_loss", margin=apart)
    x, labels, margins = given.arrays

    def rows(x: jax.Array) -> jax.Array:
        """The classes along the last axis, the examples along the first."""
        size = math.prod(x.shape[i] for i in given.axes)
        last = range(x.ndim - len(given.axes), x.ndim)
        # Classes meet in pairs: those of an example are gathered on one device.
        x = whole_along(x, given.axes)
        return jnp.moveaxis(x, given.axes, last).reshape(given.number.size, size)

    sides = jnp.where(labels > 0, 1.0, -1.0).astype(x.dtype)
    sides = rows(jnp.where(given.present, sides, 0))
    worth = []
    if class_weights is not None:
        by = jnp.broadcast_to(by_class(class_weights, x, given.axes), x.shape)
        worth = [jnp.where(sides > 0, rows(by), 0)]
    losses = margin_costs(rows(x), sides, margins.ravel(), *worth).reshape(given.shape)
    return given.reduced(losses / given.number)


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
) -> jax.Array:
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
    given = _classes("logits", logits, labels, axis, Request(where, weights, reduction))
    x, labels = given.data
    terms = logistic(x, labels, jnp.ones((), x.dtype), jnp.zeros((), x.dtype))
    known = in_unit_interval(labels)
    terms = inputs.nan_outside(terms, known)
    if class_weights is not None:
        by = jnp.broadcast_to(by_class(class_weights, x, given.axes), x.shape)
        # A weight may be infinite or NaN where its class is not there.
        terms *= jnp.where(given.present, by, 0)
    losses = jnp.sum(keep_out_of_sum(jnp.where(given.present, terms, 0)), given.axes)
    losses = losses / given.number
    # Each class is part of a term here, so that NaN reaches the sum.
    return given.replace(known=all_known(given.axes, losses, known)).reduced(losses)


class _Side(NamedTuple):
    """The classes of one side of a row, and the threshold 0; axes kept.

    Attributes:
        top: The largest of 0 and the numbers.
        odds: The sum of the exponentials of the numbers less that.
    """

    top: jax.Array
    odds: jax.Array


def _sides(
    axes: tuple[int, ...], above: jax.Array, below: jax.Array, *lost: jax.Array
) -> tuple[_Side, _Side]:
    found = in_passes(*_forms(axes), above, below, *lost)
    return _Side(*found[:2]), _Side(*found[2:])


@functools.cache
def _forms(axes: tuple[int, ...]) -> tuple[Callable[..., Any], Callable[..., Any]]:
    return functools.partial(_in_passes, axes), functools.partial(_in_one_pass, axes)


def _in_passes(axes: tuple[int, ...], *arrays: jax.Array) -> list[jax.Array]:
    found = []
    for z, factor in itertools.zip_longest(arrays[:2], arrays[2:]):
        top = jnp.max(z, axes, keepdims=True, initial=0)
        odds = jnp.exp(_gap(z, top))
        found += [top, jnp.sum(odds if factor is None else factor * odds, axes, keepdims=True)]
    return found


def _in_one_pass(axes: tuple[int, ...], *arrays: jax.Array) -> Sequence[jax.Array]:
    return odds_above_zero(axes, arrays[:2], arrays[2:])


def _gap(z: jax.Array, top: jax.Array) -> jax.Array:
    """Each number less the largest: 0 or negative."""
    infinite = jnp.where(z == jnp.inf, 0, -jnp.inf)
    return jnp.where(top == jnp.inf, infinite, z - jnp.where(top == jnp.inf, 0, top))


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _shares(
    axes: tuple[int, ...], z: jax.Array, top: jax.Array, total: jax.Array, *factor: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Each exp(z), and the 1, over 1 + sum of exp(z); what they are made of is held constant.

    `factor` is what rounding took from each exp(z), if z was rounded.
    """
    odds, one = jnp.exp(_gap(z, top)), jnp.exp(-top)
    inverse = 1 / (one + total)
    share = odds * inverse * factor[0] if factor else odds * inverse
    # exp is steep: what the gap lost in rounding shows in it.
    return share + share * lost_in_difference(z, top), one * inverse


@_shares.defjvp
def _(axes: tuple[int, ...], primals: Any, tangents: Any) -> Any:
    share, one = _shares(axes, *primals)
    # A share times what the logarithm of its odds gains on the mean. The share above 1/2, if there
    # is one, is taken out of its own mean, of which it makes up the most: nothing cancels.
    parts, most = share * tangents[0], share > 0.5
    others, first = (jnp.sum(jnp.where(x, parts, 0), axes, keepdims=True) for x in (~most, most))
    beside = one + jnp.sum(jnp.where(most, 0, share), axes, keepdims=True)
    moved = jnp.where(most, beside * parts - share * others, parts - share * (others + first))
    return (share, one), (moved, -one * (others + first))


def _rises(
    above: jax.Array, below: jax.Array, axes: tuple[int, ...], factors: tuple[jax.Array, ...] = ()
) -> jax.Array:
    """The sum of log(1 + sum of exp(z)) of both, every digit of it where all are far below 0."""

    def slopes(*args: jax.Array) -> tuple[jax.Array, ...]:
        found = _sides(axes, *map(jax.lax.stop_gradient, args))
        each = itertools.zip_longest(args[:2], found, args[2:])
        shares = [
            _shares(axes, z, *side, *(() if factor is None else (factor,)))[0]
            for z, side, factor in each
        ]
        return *shares, *map(jnp.zeros_like, args[2:])

    @closed_form(slopes, axes)
    def rises(*args: jax.Array) -> jax.Array:
        rises = []
        for side in _sides(axes, *args):
            top, total = (jnp.squeeze(x, axes) for x in side)
            ones = jnp.where(top > 0, jnp.expm1(-top) + total, total)
            rises.append(top + jnp.log1p(ones))
        return rises[0] + rises[1]

    return rises(above, below, *factors)


def _weighed(z: jax.Array, weights: jax.Array) -> tuple[jax.Array, jax.Array]:
    """z + log w, and what rounding took from its exponential; -inf for a weight of 0."""
    none = (weights == 0) | (z == -jnp.inf)
    moved = jnp.where(none, -jnp.inf, z + jnp.log(one_if_zero(weights)))
    # w exp(-log w), with the logarithm as the sum had it.
    lost = weights * jnp.exp(jnp.where(jnp.isfinite(moved), z - moved, 0))
    lost = jnp.where(jnp.isfinite(moved), lost, 1)
    return moved, jax.lax.stop_gradient(lost)


@jit("axis")
def zlpr_loss(
    logits: Scores,
    labels: MultiHot,
    *,
    axis: Axis = -1,
    class_weights: ClassWeights = None,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Zero-bounded log-sum-exp and pairwise rank-based loss: softmax for several labels.

        log(1 + sum over i in N of w_i exp(x_i))
          + log(1 + sum over j in T of w_j exp(-x_j))

    for the classes T with a label above 0, which are to stand above 0, and all others, N, which
    are to stand below: 0 is the threshold of a prediction. Infinite logits cost nothing on their
    side, else inf.

    Args:
        logits: x, of any shape.
        labels: Multi-hot, the shape of `logits`. NaN outside [0, 1].
        axis: The axis of the classes, or several, or None for all.
        class_weights: w, what each class counts for in its sum, 0 or more, else NaN; 1 if not
            given. One of 0 is left out.
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
    given = _classes("logits", logits, labels, axis, Request(where, weights, reduction))
    x, labels = given.data
    assert given.known is not None
    x, known = in_domain(x, _known(x, labels), given.known)
    given = given.replace(known=known)
    positive = labels > 0
    above = jnp.where(~positive & given.present, x, -jnp.inf)
    below = jnp.where(positive & given.present, -x, -jnp.inf)
    factors = ()
    if class_weights is not None:
        by = jnp.broadcast_to(by_class(class_weights, x, given.axes), x.shape)
        by = jnp.where(given.present, by, 0)
        given = given.inside(jnp.all(by >= 0, given.axes))
        (above, *of_above), (below, *of_below) = _weighed(above, by), _weighed(below, by)
        factors = (*of_above, *of_below)
    return given.reduced(nan_as_the_loss(_rises(above, below, given.axes, factors)))


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
    numbers = inputs.real("indices", indices, numbers=True)
    if not jnp.issubdtype(numbers.dtype, jnp.integer) or numbers.ndim == 0:
        got = inputs.described(indices=numbers)
        raise TypeError(f"indices must be lists of integers, the numbers of classes, got {got}")
    if not isinstance(num_classes, int | np.integer) or num_classes < 1:
        raise ValueError(f"num_classes must be a positive integer, got {num_classes!r}")
    listed = jnp.cumprod(jnp.asarray(numbers != -1, jnp.int32), -1) == 1
    index, inside = inputs.class_index(numbers, num_classes)
    classes = jax.lax.broadcasted_iota(jnp.int32, (*numbers.shape, num_classes), numbers.ndim)
    hits = (index[..., None] == classes) & (listed & inside)[..., None]
    wrong = jnp.any(listed & ~inside, -1, keepdims=True)
    return jnp.where(wrong, jnp.nan, jnp.any(hits, -2).astype(jnp.float32))
