"""Masks, weights and means: the only code that knows them."""

from __future__ import annotations

import contextlib
import numbers
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, ParamSpec, TypeAlias, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Bool, Float, Real

from .._numerics.sharding import sharded_like
from .._numerics.xla import keep_out_of_sum, sum_beside
from . import inputs
from .inputs import Reduction
from .jit import jit

P = ParamSpec("P")

# Public, to annotate a loss or a wrapper of one's own. Masks and weights are of any rank here: a
# name for their dimensions would be bound to those of the arguments beside them.
Where: TypeAlias = Bool[ArrayLike, "..."] | Sequence[Any] | None
Weights: TypeAlias = Real[ArrayLike, "..."] | Bool[ArrayLike, "..."] | Sequence[Any] | None


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False, repr=False)
class Mean:
    """A weighted mean in two parts that add across microbatches and devices.

        value = total / weight

    The mean of per-batch means is not the mean over all examples when masks or weights differ
    from batch to batch; the sum of totals over the sum of weights is. `Mean.of(loss, ...)` asks a
    loss for its mean in this form. A `Mean` is a pytree: it passes through `jit`, `vmap`,
    `lax.scan` and `shard_map`.

    Attributes:
        total: The sum of weight times loss.
        weight: The sum of the weights.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxloss
        >>> first = jaxloss.Mean.of(jaxloss.l1_loss, jnp.array([1.0, 3.0]))
        >>> second = jaxloss.Mean.of(jaxloss.l1_loss, jnp.array([8.0]))
        >>> first + second
        Mean(value=4.0, total=12.0, weight=3.0)
        >>> (first + second).value()
        Array(4., dtype=float32)
    """

    total: Float[Array, "*batch"]
    weight: Float[Array, "*batch"]

    @staticmethod
    def of(loss: Callable[P, jax.Array], /, *args: P.args, **kwargs: P.kwargs) -> Mean:
        """The mean of a loss: `Mean.of(jaxloss.l1_loss, predictions, targets, where=mask)`.

        Its `value()` is what the loss returns with `reduction="mean"`.

        Args:
            loss: A loss of jaxloss, `jaxloss.reduce`, or a loss of your own with a parameter
                `reduction`, which is "partial" here and which it hands on to one of these, whose
                result it returns as it is.
            *args: What the loss is called with.
            **kwargs: What the loss is called with; not `reduction`.

        Returns:
            A `Mean` of scalars; of arrays under `jax.vmap`, which goes around: the loss itself
            cannot be mapped, as its `reduction` is no array.

        Raises:
            TypeError: If `reduction` is given, or the loss does not hand it on.

        Example:
            >>> jaxloss.Mean.of(jaxloss.l1_loss, [1.0, 5.0, 9.0], where=[True, True, False])
            Mean(value=3.0, total=6.0, weight=2.0)
        """
        if "reduction" in kwargs:
            given = kwargs["reduction"]
            raise TypeError(f"Mean.of is always a mean and takes no reduction, got {given!r}")
        mean = cast(Any, loss)(*args, **kwargs, reduction="partial")
        if not isinstance(mean, Mean):
            name = getattr(loss, "__name__", repr(loss))
            raise TypeError(
                f"{name} must hand its reduction on to jaxloss.reduce, or to another loss, "
                "and return the result"
            )
        return mean

    @classmethod
    def zero(cls, shape: tuple[int, ...] = (), dtype: DTypeLike = jnp.float32) -> Mean:
        """The mean of nothing: what a `lax.scan` over microbatches starts from."""
        return cls(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype))

    def __add__(self, other: Mean) -> Mean:
        if not isinstance(other, Mean):
            return _refused("+", other)
        return Mean(self.total + other.total, self.weight + other.weight)

    def __radd__(self, other: object) -> Mean:
        # The 0 that `sum` starts from.
        return self if isinstance(other, int) and other == 0 else _refused("+", other)

    def psum(self, axis_name: Hashable) -> Mean:
        """Add over the devices of one or more mesh axes, or over a `vmap` axis."""
        return jax.lax.psum(self, axis_name)

    def value(self) -> Float[Array, "*batch"]:
        """The mean; 0 with gradient 0 when nothing was selected."""
        some = self.weight != 0
        return jnp.where(some, self.total, 0) / jnp.where(some, self.weight, 1)

    def __float__(self) -> float:
        # Also of numbers that are known while something else is traced.
        with jax.ensure_compile_time_eval():
            return float(self.value())

    def __repr__(self) -> str:
        parts = (self.total, self.weight)
        shown = "total={}, weight={}".format(*parts)
        # JAX also builds a Mean of tracers, of shapes, of None, of any leaves: without a value.
        if all(isinstance(x, _NUMBERS) and not isinstance(x, Tracer) for x in parts):
            with contextlib.suppress(Exception), jax.ensure_compile_time_eval():
                shown = f"value={self.value()}, {shown}"
        return f"Mean({shown})"


_NUMBERS = (jax.Array, np.ndarray, np.generic, numbers.Number)


def _refused(operator: str, other: object) -> Any:
    kind = "number" if isinstance(other, _NUMBERS) else type(other).__name__
    raise TypeError(f"a Mean {operator} a {kind} is not defined: compute with the mean's .value()")


def _refuse(method: str, operator: str) -> None:
    """Set from outside the class: a type checker then says itself that there is no such method."""

    def refuse(self: Mean, other: object) -> Any:
        # Means and what is no number are equal to themselves.
        if operator in ("==", "!=") and not isinstance(other, _NUMBERS):
            return NotImplemented
        return _refused(operator, other)

    refuse.__name__ = f"__{method}__"
    refuse.__doc__ = "Not defined: compute with `value()`."
    setattr(Mean, refuse.__name__, refuse)


for _method, _operator in {
    **{"sub": "-", "rsub": "-", "mul": "*", "rmul": "*", "truediv": "/", "rtruediv": "/"},
    **{"lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!="},
}.items():
    _refuse(_method, _operator)


class Request(NamedTuple):
    """The last three arguments of a call, as the user gave them; see `reduce`."""

    where: Where = None
    weights: Weights = None
    reduction: Reduction | Literal["partial"] = "none"


def factors_of(
    request: Request, selected: jax.Array | None, like: jax.Array, without: tuple[int, ...] = ()
) -> jax.Array | None:
    """The user's weights in the shape of the losses, 0 for those that are excluded; None for none.

    Args:
        request: The user's weights.
        selected: The mask of the losses, in their shape; None if all count.
        like: The losses, or what has their shape without some axes, in their dtype at most.
        without: These axes.
    """
    if request.weights is None:
        return None
    shape = inputs.outer(like.shape, tuple(i % like.ndim for i in without))
    dtype = inputs.computing_dtype([like])
    factors = inputs.field("weights", request.weights, shape, "the loss").astype(dtype)
    factors = sharded_like(jnp.broadcast_to(factors, shape), like, without)
    return factors if selected is None else jnp.where(selected, factors, 0)


def weight_of(
    counts: jax.Array | None, selected: jax.Array | None, size: int, dtype: Any
) -> jax.Array:
    """What so many losses of that dtype count for in their mean, together."""
    if counts is not None:
        return jnp.sum(counts)
    if selected is not None:
        # Counted as integers: a float32 sum of ones stands still at 2**24.
        return jnp.sum(selected, dtype=jnp.int32).astype(dtype)
    return jnp.full((), size, dtype)


def as_requested(
    losses: jax.Array,
    selected: jax.Array | None,
    request: Request,
    *,
    counts: jax.Array | None = None,
    plain_sum: bool = False,
) -> jax.Array:
    """What `reduce` does, for use inside a loss that is compiled already.

    Args:
        losses: One loss per example.
        selected: The mask of the losses, in their shape; None if all count.
        request: The user's weights and reduction.
        counts: What each loss counts for in a mean, if not 1: the loss has this factor already.
        plain_sum: Whether the losses go into their sum as they are; see `keep_out_of_sum`. Faster
            for a loss of few operations without a selection. The sum may also be the user's own, of
            unreduced losses in the same program.
    """
    inputs.check_reduction(request.reduction)
    factors = factors_of(request, selected, losses)
    if selected is not None:
        # Each factor by itself, or a NaN in one would reach the derivative of the other.
        losses = jnp.where(selected, losses, 0)
        counts = None if counts is None else jnp.where(selected, counts, 0)
    if factors is not None:
        losses = losses * factors
        counts = factors if counts is None else counts * factors
    losses = losses if plain_sum else keep_out_of_sum(losses)
    if request.reduction == "none":
        return losses
    if request.reduction == "sum":
        return jnp.sum(losses)
    weight = weight_of(counts, selected, losses.size, losses.dtype)
    beside = counts is not None and request.reduction == "mean"
    mean = Mean(sum_beside(losses, weight) if beside else jnp.sum(losses), weight)
    # To a type checker every loss returns an array: only `Mean.of` asks for the parts.
    return cast(jax.Array, mean) if request.reduction == "partial" else mean.value()


@jit()
def reduce(
    losses: Real[ArrayLike, "*batch"] | Sequence[Any],
    *,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Mask, weigh and reduce unreduced losses, by the rule that every loss here keeps.

        none  w m l
        sum   sum(w m l)
        mean  sum(w m l) / sum(w m), and 0 with gradient 0 when nothing is selected

    with losses l, weights w (1 if absent) and mask m (true if absent). Every loss takes the
    same three arguments, and `jaxloss.Mean.of(loss, ...)` gives sum(w m l) and sum(w m), to be
    added across batches and devices. In a loss `where` also reaches the inputs, so that an
    excluded entry may hold anything; here it can only hide what a loss of your own has already
    computed, and a NaN in that loss's derivative would survive.

    Args:
        losses: One loss per example, of any real dtype.
        where: True where a loss counts. A scalar, or of the rank of `losses`, where a
            dimension of size 1 is broadcast.
        weights: What each loss counts for; shaped as `where`. No mask: a weight of 0 times a loss
            of NaN is NaN, and to exclude a loss is what `where` is for.
        reduction: "none", "sum" or "mean". "partial", with which `Mean.of` calls a loss, gives
            its two sums as a `Mean`.

    Returns:
        An array of the shape of `losses` for "none", a scalar for "sum" and "mean"; in float32 at
        least.

    Raises:
        TypeError: If `losses` or `weights` are not real, or `where` is not boolean.
        ValueError: If `where` or `weights` do not fit `losses`, or `reduction` is unknown.

    Example:
        >>> losses = jnp.array([1.0, 2.0, jnp.nan])
        >>> reduce(losses, where=jnp.isfinite(losses), reduction="mean")
        Array(1.5, dtype=float32)
    """
    losses = inputs.real("losses", losses)
    losses = losses.astype(inputs.computing_dtype([losses]))
    selected = None if where is None else inputs.mask(where, losses.shape, "the loss", losses)
    return as_requested(losses, selected, Request(where, weights, reduction))
