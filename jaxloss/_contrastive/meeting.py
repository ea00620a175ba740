"""Sums over each example's partners without a matrix of all pairs, also of several devices.

The scores of a pair are z = scale <x, y> + bias, with the scale and the bias of the example whose
sum it is: of a row for the sums of rows, of a column for those of columns.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .._numerics.devices import all_varying
from .._numerics.kinks import present
from .._numerics.ring import met
from .._numerics.special import expm1, finite_top, sigmoid, softplus
from .cosines import products


class Examples(NamedTuple):
    """Rows or columns of the matrix of all pairs.

    Attributes:
        vectors: `[examples, features]`.
        scale, bias: A number for each; a bias of None is 0.
        number: The place in the batch: an example is no partner of that of its own place. If rows
            have been given some, those of the columns that they do not meet.
        there: Whether an example is there at all.
        labels: Integers, if there are some.
    """

    vectors: jax.Array
    scale: jax.Array | None = None
    bias: jax.Array | None = None
    number: jax.Array | None = None
    there: jax.Array | None = None
    labels: jax.Array | None = None


class Pairs(NamedTuple):
    """The pairs of a tile, as seen by one side.

    Attributes:
        scores: z.
        present: Which pairs there are.
        positive: Which of them are of one label, if there are labels.
        axis: That of the partners.
    """

    scores: jax.Array
    present: jax.Array
    positive: jax.Array | None
    axis: int

    def of_each(self, x: jax.Array) -> jax.Array:
        """A number of each example, at all its pairs."""
        return jnp.expand_dims(x, self.axis)

    def summed(self, x: jax.Array) -> jax.Array:
        return jnp.sum(x, self.axis)


class Kind(NamedTuple):
    """A sum over partners.

    Attributes:
        start: What its totals start from.
        added: Takes totals and the pairs of a tile to the totals of both.
        results: Of totals.
        moves: Which of the results have a derivative; the others are held constant.
        slopes: The derivatives of these in the scores of a tile, of which all results are the last
            arguments.
    """

    start: tuple[float, ...]
    added: Callable[..., tuple[jax.Array, ...]]
    results: Callable[..., tuple[jax.Array, ...]]
    moves: tuple[bool, ...]
    slopes: Callable[..., tuple[jax.Array, ...]]


def _log_sum_added(totals: Any, pairs: Pairs) -> tuple[jax.Array, jax.Array]:
    top, total = totals
    scores = jnp.where(pairs.present, pairs.scores, -jnp.inf)
    highest = jnp.maximum(top, jnp.max(scores, pairs.axis, initial=-jnp.inf))
    base = finite_top(highest)
    odds = jnp.exp(scores - pairs.of_each(base))
    return highest, total * jnp.exp(top - base) + pairs.summed(odds)


def _log_sum_results(top: jax.Array, total: jax.Array) -> tuple[jax.Array, jax.Array]:
    return top, jnp.log(jnp.where(total == 0, 1, total))


def _shares(pairs: Pairs, top: jax.Array, log: jax.Array) -> jax.Array:
    """Those of the partners in the sum of exponentials exp(top + log)."""
    gap = (pairs.scores - pairs.of_each(top)) - pairs.of_each(log)
    return jnp.exp(jnp.where(pairs.present, gap, -jnp.inf))


# log of the sum of exp(z): the largest z, and the logarithm of the sum relative to it. The largest
# is -inf of no partner, and held constant: the other has the derivative of both.
LOG_SUM = Kind(
    (-jnp.inf, 0.0),
    _log_sum_added,
    _log_sum_results,
    (False, True),
    lambda pairs, top, log: (_shares(pairs, top, log),),
)

# The sum of log(1 + exp(z)).
SOFTPLUS_SUM = Kind(
    (0.0,),
    lambda totals, pairs: (
        totals[0] + pairs.summed(jnp.where(pairs.present, softplus(pairs.scores), 0)),
    ),
    lambda total: (total,),
    (True,),
    lambda pairs, _: (jnp.where(pairs.present, sigmoid(pairs.scores), 0),),
)


def _signed(pairs: Pairs) -> jax.Array:
    assert pairs.positive is not None
    return jnp.where(pairs.positive, -pairs.scores, pairs.scores)


def _signed_slopes(pairs: Pairs, _: jax.Array) -> tuple[jax.Array]:
    assert pairs.positive is not None
    slope = sigmoid(_signed(pairs))
    return (jnp.where(pairs.present, jnp.where(pairs.positive, -slope, slope), 0),)


# The sum of log(1 + exp(-z)) of positives and of log(1 + exp(z)) of all others.
SIGNED_SUM = Kind(
    (0.0,),
    lambda totals, pairs: (
        totals[0] + pairs.summed(jnp.where(pairs.present, softplus(_signed(pairs)), 0)),
    ),
    lambda total: (total,),
    (True,),
    _signed_slopes,
)


def _attraction_added(totals: Any, pairs: Pairs) -> tuple[jax.Array, ...]:
    top, rest, lag, count = totals
    scores = jnp.where(pairs.present, pairs.scores, -jnp.inf)
    highest = jnp.max(scores, pairs.axis, initial=-jnp.inf)
    new = jnp.maximum(top, highest)
    base = finite_top(new)
    # Of all partners but one with the largest score, of odds 1, which would hide small odds.
    first = scores == pairs.of_each(highest)
    odds = jnp.where(first, 0, jnp.exp(scores - pairs.of_each(base)))
    level = pairs.summed(first.astype(odds.dtype)) - 1
    kept, joined = jnp.exp(top - base), jnp.exp(highest - base)
    beside = pairs.summed(odds) + level * joined
    # Where two parts meet, the larger of their largest scores is that of both.
    rest = rest * kept + jnp.where(highest == -jnp.inf, 0, beside)
    rest = rest + jnp.where(highest > top, kept, joined)
    positive = pairs.positive
    assert positive is not None
    # The gap of the largest score is one of stored numbers: a fused multiply-add, which does not
    # round the product that a score is, would not give 0.
    gaps = jnp.where(first, pairs.of_each(base - highest), pairs.of_each(base) - pairs.scores)
    raised = jnp.where(top == -jnp.inf, 0, base - top)
    number = pairs.summed(positive.astype(odds.dtype))
    lag = lag + count * raised + pairs.summed(jnp.where(positive, gaps, 0))
    return new, rest, lag, count + number


def _attraction_results(
    top: jax.Array, rest: jax.Array, lag: jax.Array, count: jax.Array
) -> tuple[jax.Array, ...]:
    log = jnp.log1p(rest)
    return top, log, count, jnp.where(count > 0, log + lag / jnp.maximum(count, 1), 0)


def _attraction_slopes(
    pairs: Pairs, top: jax.Array, log: jax.Array, count: jax.Array, _: jax.Array
) -> tuple[jax.Array, jax.Array]:
    share = _shares(pairs, top, log)
    positive = pairs.positive
    assert positive is not None
    part = positive.astype(share.dtype) / pairs.of_each(jnp.maximum(count, 1))
    # Of the largest score p is near 1, and 1 - p is to keep its digits: its gap is 0, which scores
    # computed once more might miss by their rounding.
    most = share > 0.5
    gap = jnp.where(most, pairs.scores - pairs.of_each(top), 0)
    doubt = -expm1((gap - jax.lax.stop_gradient(gap)) - pairs.of_each(log))
    slope = jnp.where(most, (1 - part) - doubt, share - part)
    return share, jnp.where(pairs.of_each(count) > 0, slope, 0)


# The largest z and the logarithm of the sum of exp(z) relative to it, the number of positives, and
# the mean over these of -log softmax(z).
ATTRACTION = Kind(
    (-jnp.inf, 0.0, 0.0, 0.0),
    _attraction_added,
    _attraction_results,
    (False, True, False, True),
    _attraction_slopes,
)


class Plan(NamedTuple):
    """What is computed.

    Attributes:
        kind: The sum over partners.
        columns: Whether of the columns too.
        axis_name: See `met`.
    """

    kind: Kind
    columns: bool = False
    axis_name: Hashable | None = None


def _pairs(rows: Examples, columns: Examples, products: jax.Array, axis: int) -> Pairs:
    """The pairs as the rows see them, whose partners are along axis 1, or the columns, along 0."""
    own = rows if axis == 1 else columns
    assert own.scale is not None
    scores = jnp.expand_dims(own.scale, axis) * products
    if own.bias is not None:
        scores = scores + jnp.expand_dims(own.bias, axis)

    def compared(operator: Callable[..., jax.Array], name: str) -> jax.Array:
        return operator(getattr(rows, name)[:, None], getattr(columns, name)[None, :])

    present = compared(jnp.logical_and, "there") & compared(jnp.not_equal, "number")
    positive = None if rows.labels is None else present & compared(jnp.equal, "labels")
    return Pairs(scores, present, positive, axis)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def results(plan: Plan, rows: Examples, columns: Examples) -> tuple[Any, Any]:
    """The results of the rows, and of the columns if they are wanted, else ()."""

    def step(rows: Any, totals: Any, columns: Any, column_totals: Any) -> tuple[Any, Any]:
        between = products(rows.vectors, columns.vectors)
        totals = plan.kind.added(totals, _pairs(rows, columns, between, 1))
        if plan.columns:
            pairs = _pairs(rows, columns, between, 0)
            column_totals = plan.kind.added(column_totals, pairs)
        return totals, column_totals

    start, column_start = (
        tuple(jnp.full_like(side.vectors[:, 0], value) for value in plan.kind.start)
        if wanted
        else ()
        for side, wanted in ((rows, True), (columns, plan.columns))
    )
    totals, column_totals = met(step, rows, columns, start, column_start, axis_name=plan.axis_name)
    return plan.kind.results(*totals), plan.kind.results(*column_totals) if plan.columns else ()


def _moved(tangents: Examples) -> Examples:
    """Tangents of examples; None for what does not move."""
    return Examples(*present((tangents.vectors, tangents.scale, tangents.bias)))


def _tangents(plan: Plan, primals: Any, tangents: Any) -> Any:
    """The tangents of the results, whose transpose JAX finds.

    What a result changes by is the sum of its slopes times the changes of the scores; the slopes
    are computed from the results, which are known, in one more round of the columns. In that of
    reverse mode the gradients of the columns travel.
    """
    (rows, columns), (row_tangents, column_tangents) = primals, map(_moved, tangents)
    found = results(plan, rows, columns)

    def step(row: Any, moved: Any, column: Any, travelling: Any) -> tuple[Any, Any]:
        rows, of_rows, row_tangents = row
        columns, of_columns = column
        column_tangents, column_moved = travelling
        between = products(rows.vectors, columns.vectors)
        change = None
        if row_tangents.vectors is not None:
            change = products(row_tangents.vectors, columns.vectors)
        if column_tangents.vectors is not None:
            more = products(rows.vectors, column_tangents.vectors)
            change = more if change is None else change + more

        def added(moved: Any, of: Any, own: Examples, tangents: Examples, axis: int) -> Any:
            pairs = _pairs(rows, columns, between, axis)
            terms = []
            if change is not None:
                assert own.scale is not None
                terms.append(pairs.of_each(own.scale) * change)
            if tangents.scale is not None:
                terms.append(pairs.of_each(tangents.scale) * between)
            if tangents.bias is not None:
                terms.append(jnp.broadcast_to(pairs.of_each(tangents.bias), between.shape))
            if not terms:
                return moved
            in_scores = functools.reduce(jnp.add, terms)
            slopes = plan.kind.slopes(pairs, *of)
            return [
                x + pairs.summed(slope * in_scores) for x, slope in zip(moved, slopes, strict=True)
            ]

        moved = added(moved, of_rows, rows, row_tangents, 1)
        if plan.columns:
            column_moved = added(column_moved, of_columns, columns, column_tangents, 0)
        return moved, (column_tangents, column_moved)

    def zeros(of: Any) -> list[jax.Array]:
        return [jnp.zeros_like(x) for x, moves in zip(of, plan.kind.moves, strict=False) if moves]

    moved, (_, column_moved) = met(
        step,
        (rows, found[0], row_tangents),
        (columns, found[1]),
        zeros(found[0]),
        (column_tangents, zeros(found[1])),
        axis_name=plan.axis_name,
        again=True,
    )

    def with_constants(of: Any, moved: list[jax.Array]) -> tuple[jax.Array, ...]:
        left, pairs = iter(moved), zip(of, plan.kind.moves, strict=False)
        return tuple(next(left) if moves else jnp.zeros_like(x) for x, moves in pairs)

    return found, tuple(map(with_constants, found, (moved, column_moved)))


results.defjvp(_tangents, symbolic_zeros=True)


def sums(
    kind: Kind,
    rows: Examples,
    columns: Examples,
    *,
    of_columns: bool = False,
    further: bool = False,
    axis_name: Hashable | None = None,
) -> tuple[Any, Any]:
    """The results of the rows, and of the columns if they are wanted, else ().

    Args:
        kind: The sum.
        rows: Of batches of any leading dimensions; those that have no places are at their own.
        columns: Those that they meet, without places.
        of_columns: Whether the columns have results.
        further: Whether the columns are other examples than the rows; else a row is no partner of
            the column at its own place.
        axis_name: See `met`.
    """
    plan = Plan(kind, of_columns, axis_name)

    def of_batch(rows: Examples, columns: Examples) -> tuple[Any, Any]:
        def placed(side: Examples, nowhere: bool) -> Examples:
            size, place = side.vectors.shape[0], side.number
            if place is None:
                first = 0 if axis_name is None else jax.lax.axis_index(axis_name) * size
                place = jnp.arange(size, dtype=jnp.int32) + first
            there = jnp.ones(size, bool) if side.there is None else side.there
            return side._replace(number=jnp.where(nowhere, -1, place), there=there)

        return results(plan, *all_varying((placed(rows, False), placed(columns, further))))

    for _ in rows.vectors.shape[:-2]:
        of_batch = jax.vmap(of_batch)
    return of_batch(rows, columns)


def lead(top_and_log: tuple[jax.Array, jax.Array], own: jax.Array) -> jax.Array:
    """log of the sum of exp(z) over an example's partners, less the score of its own pair.

    The largest z is subtracted from first: the difference of scores near each other is exact.
    """
    top, log = top_and_log
    return (top - own) + log


def log_of_both(x: jax.Array, y: jax.Array) -> jax.Array:
    """log(exp(x) + exp(y)), with finite derivatives also where both are -inf."""
    none = jnp.maximum(x, y) == -jnp.inf
    return jnp.where(none, x, jnp.logaddexp(*(jnp.where(none, 0, z) for z in (x, y))))


# The most pairs of which a matrix is computed on one device. Of 2,048 by 2,048 value and gradient
# of the losses here store 22 to 42 MiB, in tiles 13 to 18 and in about the same time; of half as
# many examples tiles save less than half, and take up to 1.5 times as long.
_AT_ONCE = 2**22


def is_met_in_tiles(axis_name: Hashable | None, rows: Any, columns: Any) -> bool:
    """Whether rows meet columns in tiles: on several devices, or if their matrix is large."""
    # Sizes that are symbolic, as in an export for batches of any size, are taken as small.
    known = isinstance(rows, int) and isinstance(columns, int)
    return axis_name is not None or (known and rows * columns > _AT_ONCE)
