"""Masks, weights and means: the only code that knows them."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Bool, Float

from .._numerics.sharding import sharded_like
from .._numerics.xla import keep_out_of_sum
from . import inputs
from .jit import jit

Reduction = Literal["none", "sum", "mean", "partial"]
Where = Bool[ArrayLike, "*#batch"] | None
Weights = Float[ArrayLike, "*#batch"] | None
# What a loss returns: an array, but a `Mean` for reduction="partial". No annotation says that of a
# keyword without two more signatures for each loss, and a union would have callers of the one
# check for the other.
Losses = Any


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Mean:
    """A weighted mean in two parts that add across microbatches and devices.

        value = total / weight

    The mean of per-batch means is not the mean over all examples when masks or weights differ
    from batch to batch; the sum of totals over the sum of weights is. A `Mean` is a pytree: it
    passes through `jit`, `vmap`, `lax.scan` and `shard_map`.

    Attributes:
        total: The sum of weight times loss.
        weight: The sum of the weights.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxloss
        >>> first = jaxloss.l1_loss(jnp.array([1.0, 3.0]), reduction="partial")
        >>> second = jaxloss.l1_loss(jnp.array([8.0]), reduction="partial")
        >>> (first + second).value()
        Array(4., dtype=float32)
    """

    total: Float[Array, "*batch"]
    weight: Float[Array, "*batch"]

    @classmethod
    def zero(cls, shape: tuple[int, ...] = (), dtype: DTypeLike = jnp.float32) -> Mean:
        """The mean of nothing: what a `lax.scan` over microbatches starts from."""
        return cls(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype))

    def __add__(self, other: Mean) -> Mean:
        if not isinstance(other, Mean):
            return NotImplemented
        return Mean(self.total + other.total, self.weight + other.weight)

    def __radd__(self, other: object) -> Mean:
        # The 0 that `sum` starts from.
        return self if isinstance(other, int) and other == 0 else NotImplemented

    def psum(self, axis_name: Hashable) -> Mean:
        """Add over the devices of one or more mesh axes, or over a `vmap` axis."""
        return jax.lax.psum(self, axis_name)

    def value(self) -> Float[Array, "*batch"]:
        """The mean; 0 with gradient 0 when nothing was selected."""
        some = self.weight != 0
        return jnp.where(some, self.total, 0) / jnp.where(some, self.weight, 1)


class Request(NamedTuple):
    """The last three arguments of a call, as the user gave them; see `reduce`."""

    where: Where = None
    weights: Weights = None
    reduction: Reduction = "none"


def as_requested(
    losses: jax.Array,
    selected: jax.Array | None,
    request: Request,
    *,
    counts: jax.Array | None = None,
    plain_sum: bool = False,
) -> Losses:
    """What `reduce` does, for use inside a loss that is compiled already.

    Args:
        losses: One loss per example.
        selected: The mask of the losses, in their shape; None if all count.
        request: The user's weights and reduction.
        counts: What each loss counts for in a mean, if not 1: the loss has this factor already.
        plain_sum: Whether the losses go into their sum as they are; see `keep_out_of_sum`. Faster
            for a loss of few operations without a selection.
    """
    inputs.one_of("reduction", request.reduction, get_args(Reduction))
    shape, dtype = losses.shape, losses.dtype
    factors = None
    if request.weights is not None:
        factors = inputs.field("weights", request.weights, shape, "the loss").astype(dtype)
        factors = sharded_like(jnp.broadcast_to(factors, shape), losses)
    if selected is not None:
        # Each factor by itself, or a NaN in one would reach the derivative of the other.
        losses = jnp.where(selected, losses, 0)
        factors = None if factors is None else jnp.where(selected, factors, 0)
        counts = None if counts is None else jnp.where(selected, counts, 0)
    if factors is not None:
        losses = losses * factors
        counts = factors if counts is None else counts * factors
    if request.reduction == "none":
        return losses
    total = jnp.sum(losses if plain_sum else keep_out_of_sum(losses))
    if request.reduction == "sum":
        return total
    if counts is not None:
        weight = jnp.sum(counts)
    elif selected is not None:
        # Counted as integers: a float32 sum of ones stands still at 2**24.
        weight = jnp.sum(selected, dtype=jnp.int32).astype(dtype)
    else:
        weight = jnp.full((), losses.size, dtype)
    mean = Mean(total, weight)
    return mean if request.reduction == "partial" else mean.value()


@jit()
def reduce(
    losses: Float[ArrayLike, "*batch"],
    *,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> Losses:
    """Mask, weigh and reduce unreduced losses, by the rule that every loss here keeps.

        none     w m l
        sum      sum(w m l)
        mean     sum(w m l) / sum(w m), and 0 with gradient 0 when nothing is selected
        partial  `Mean(sum(w m l), sum(w m))`, to be added across batches and devices

    with losses l, weights w (1 if absent) and mask m (true if absent). Every loss takes the
    same three arguments. There `where` also reaches the inputs, so that an excluded entry may
    hold anything; here it can only hide what a loss of your own has already computed, and a
    NaN in that loss's derivative would survive.

    Args:
        losses: One loss per example, of any real dtype.
        where: True where a loss counts. A scalar, or of the rank of `losses`, where a
            dimension of size 1 is broadcast.
        weights: What each loss counts for; shaped as `where`.
        reduction: "none", "sum", "mean" or "partial".

    Returns:
        An array of the shape of `losses` for "none", a scalar for "sum" and "mean", a `Mean`
        for "partial"; in float32 at least.

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
