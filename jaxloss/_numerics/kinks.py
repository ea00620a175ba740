"""Functions with a stated derivative, where JAX's own is undefined, unwanted or slow.

At a kink JAX takes whatever its expression happens to give: `jnp.abs` has slope +1 at 0,
`jnp.maximum` 1/2 on a tie, a norm NaN at 0. Here a two-sided kink has slope 0, the subgradient
of least norm, and a hinge has the slope of its active side, so that a tie still trains.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jax.typing import ArrayLike

from .xla import computed_anew

Function = Callable[..., jax.Array]
# Partial derivatives, one for each argument, or a row of second derivatives.
Slopes = tuple[jax.Array, ...]


def closed_form(
    slopes: Callable[..., tuple[ArrayLike, ...]],
    axes: tuple[int, ...] = (),
    second: Callable[..., tuple[Sequence[jax.Array], ...]] | None = None,
) -> Callable[[Function], Function]:
    """Give a function its partial derivatives in closed form.

    The rule is a `custom_jvp`, so forward mode, reverse mode, `jax.hessian` and `vmap` all
    follow from it, and derivatives of higher order are those of `slopes`.

    Args:
        slopes: Takes the function's arguments, which are floating arrays, and returns one
            partial derivative for each, of the argument's shape or of the value's.
        axes: The axes that the function consumes, none if it is elementwise.
        second: The second derivatives of an elementwise function, where JAX's own of `slopes` lose
            digits, overflow or are NaN. Takes the same arguments and returns the lower triangle of
            the Hessian, row by row, without the rows of last arguments that are constants. The
            slopes must have the shape of the value.

    Returns:
        A decorator.
    """
    if second is not None:
        slopes = _with_derivatives(slopes, second)

    def decorate(function: Function) -> Function:
        core = jax.custom_jvp(function)

        def rule(primals: tuple[jax.Array, ...], tangents: tuple[Any, ...]) -> Any:
            value = core(*primals)
            # What a function of an axis shares with its slopes are sums, which are short.
            partials = slopes(*(primals if axes else computed_anew(*primals)))
            total = jnp.zeros_like(value)
            for slope, tangent in zip(partials, tangents, strict=True):
                # An argument that is not differentiated must not be multiplied by its slope:
                # the slope may be infinite, and 0 * inf is NaN.
                if not isinstance(tangent, SymbolicZero):
                    term = slope * tangent
                    total += jnp.sum(term, axes) if jnp.ndim(slope) > value.ndim else term
            return value, total

        core.defjvp(rule, symbolic_zeros=True)
        return functools.wraps(function)(core)

    return decorate


def _with_derivatives(
    slopes: Callable[..., tuple[Any, ...]], second: Callable[..., tuple[Sequence[jax.Array], ...]]
) -> Callable[..., tuple[Any, ...]]:
    """The slopes, with the Hessian that `second` has the lower triangle of."""
    core = jax.custom_jvp(slopes)

    def rule(primals: tuple[jax.Array, ...], tangents: tuple[Any, ...]) -> Any:
        values, rows = core(*primals), second(*primals)
        moved = [jnp.zeros_like(x) for x in values]
        for i in range(len(rows)):
            for j, tangent in enumerate(tangents[: len(rows)]):
                if not isinstance(tangent, SymbolicZero):
                    moved[i] += in_range(rows[max(i, j)][min(i, j)]) * tangent
        return values, tuple(moved)

    core.defjvp(rule, symbolic_zeros=True)
    return core


def in_range(slope: jax.Array) -> jax.Array:
    """A slope that overflows, held at the largest float.

    Of many directions at once most tangents are 0, and 0 * inf would make NaN of what is finite.
    """
    largest = jnp.finfo(slope.dtype).max
    return jnp.clip(slope, -largest, largest)


@jax.custom_jvp
def divide(a: jax.Array, b: jax.Array) -> jax.Array:
    """a / b; JAX's own derivative in b divides by b^2, which overflows or vanishes."""
    return a / b


@divide.defjvp
def _(primals: Any, tangents: Any) -> Any:
    value, b = divide(*primals), primals[1]
    # Not as two slopes: that in b may overflow where its product with the tangent does not.
    change = tangents[0] - in_range(value) * tangents[1]
    return value, change * in_range(divide(jnp.ones_like(b), b))


@closed_form(lambda x: (in_range(1 / x),))
def log(x: jax.Array) -> jax.Array:
    """The logarithm, in slopes: its own slope is finite at 0."""
    return jnp.log(x)


@closed_form(lambda x: (jnp.sign(x),))
def absolute(x: jax.Array) -> jax.Array:
    """|x|, with slope 0 at 0."""
    return jnp.abs(x)


def step(x: jax.Array) -> jax.Array:
    """1 from 0 on, 0 below; NaN is neither. A constant under differentiation."""
    x = jax.lax.stop_gradient(x)
    return jnp.where(x < 0, 0, jnp.where(x >= 0, 1, x)).astype(x.dtype)


@closed_form(lambda x: (step(x),))
def hinge(x: jax.Array) -> jax.Array:
    """max(x, 0), with slope 1 at 0."""
    return jnp.maximum(x, 0)


@jax.custom_jvp
def clamped(x: jax.Array, low: jax.Array) -> jax.Array:
    """max(x, low), with slope 1 in x everywhere: a clamped parameter still trains."""
    return jnp.maximum(x, low)


@clamped.defjvp
def _(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    x, low = primals
    # A selection: a slope of 0 in `low` would make NaN of an infinite derivative.
    return clamped(x, low), tangents[0] + jnp.where(x < low, tangents[1], 0)


def derivative_only(x: jax.Array) -> jax.Array:
    """Zero in value, with the derivative of `x`: what is added to a constant that is to have it."""
    return x - jax.lax.stop_gradient(x)


@jax.custom_jvp
def with_slope(value: jax.Array, x: jax.Array, slope: jax.Array) -> jax.Array:
    """`value`, with the derivative `slope` in `x` beside its own."""
    return value


@with_slope.defjvp
def _(primals: Any, tangents: Any) -> Any:
    return with_slope(*primals), tangents[0] + primals[2] * tangents[1]


def sign(targets: jax.Array) -> jax.Array:
    """1 above 0, -1 elsewhere; NaN is neither. A constant under differentiation."""
    signs = jnp.where(targets > 0, 1, jnp.where(targets <= 0, -1, targets))
    return jax.lax.stop_gradient(signs)


def sign_of_largest(e: jax.Array, largest: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    """The slope of `largest`, the maximum of |e| along `axes`, which are kept, in e.

    It is the sign of the largest entry; several have equal parts, the subgradient of least norm.
    """
    level = jnp.abs(e) == largest
    count = jnp.sum(level, axes, keepdims=True, dtype=e.dtype)
    part = jnp.where(level, jnp.sign(e), 0) / jnp.maximum(count, 1)
    return jnp.where(jnp.isnan(largest), largest, part)


Evaluate = Callable[..., tuple[jax.Array, tuple[jax.Array | None, ...]]]


def with_slopes(evaluate: Evaluate) -> Callable[..., jax.Array]:
    """A loss whose value and derivatives come from one evaluation.

    `closed_form` takes the slopes from a second function. This is for losses whose value and
    slopes share costly work, such as a sort or a loop over pairs: a derivative evaluates once,
    with slopes, and a value alone once, without.

    As with `closed_form`, the rule is a `custom_jvp`: all modes follow from it, and derivatives of
    higher order are those of the slopes, as JAX finds them.

    Args:
        evaluate: Called as `evaluate(slopes, *arrays)`, with whether slopes are wanted and with the
            arrays of the call, whose first axes are those of the losses. First come the floating
            arrays that have a derivative; arrays after them, such as indices and masks, are
            constants. An array may be None.

            Returns the losses and a tuple: without slopes it is not read; with slopes it holds, for
            each array that has a derivative, the partial derivatives in the array's shape, or None
            for an array that is None.

    Returns:
        A function of the arrays, which returns the losses.
    """

    @jax.custom_jvp
    def value(*arrays: Any) -> jax.Array:
        return evaluate(False, *arrays)[0]

    @jax.custom_jvp
    def both(*arrays: Any) -> tuple[jax.Array, tuple[jax.Array | None, ...]]:
        return evaluate(True, *arrays)

    def moves(tangent: Any) -> bool:
        return tangent is not None and not isinstance(tangent, SymbolicZero)

    def tangent_of_losses(
        losses: jax.Array, slopes: Sequence[jax.Array | None], tangents: Any
    ) -> jax.Array:
        total = jnp.zeros_like(losses)
        for slope, tangent in zip(slopes, tangents, strict=False):
            if slope is not None and moves(tangent):
                total += jnp.sum(slope * tangent, range(losses.ndim, slope.ndim))
        return total

    def rule(primals: Any, tangents: Any) -> Any:
        losses, slopes = both(*primals)
        return losses, tangent_of_losses(losses, slopes, tangents)

    def rule_of_both(primals: Any, tangents: Any) -> Any:
        # Without slopes: those come with their derivatives, from one evaluation of both.
        losses = value(*primals)
        moved = [i for i, x in enumerate(tangents) if moves(x)]

        def slopes_at(*at: Any) -> Any:
            filled = dict(enumerate(primals)) | dict(zip(moved, at, strict=True))
            return evaluate(True, *filled.values())[1]

        at, towards = ([x[i] for i in moved] for x in (primals, tangents))
        slopes, of_slopes = jax.jvp(slopes_at, at, towards)
        return (losses, slopes), (tangent_of_losses(losses, slopes, tangents), of_slopes)

    value.defjvp(rule, symbolic_zeros=True)
    both.defjvp(rule_of_both, symbolic_zeros=True)
    return value


@closed_form(lambda e: (2 * e,))
def square(e: jax.Array) -> jax.Array:
    return e * e


def instantiated(tangent: Any, primal: jax.Array) -> jax.Array:
    """The tangent of a number as an array, also if it is a symbolic zero."""
    return jnp.zeros_like(primal) if isinstance(tangent, SymbolicZero) else tangent


def present(tree: Any) -> Any:
    """Tangents, None where they are 0."""
    return jax.tree.map(
        lambda x: None if isinstance(x, SymbolicZero) else x,
        tree,
        is_leaf=lambda x: isinstance(x, SymbolicZero),
    )
