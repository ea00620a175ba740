"""The door: the arguments of a call, checked and converted once, become a record.

Four kinds of argument reach a loss, and each has one rule:

* data (`predictions`, `targets`): of one shape; only a scalar target is broadcast;
* fields (`variance`, `where`, `weights`): a scalar, or of the rank of what they go with, where
  a dimension of size 1 is broadcast;
* hyperparameters (`delta`): of an elementwise loss, broadcast against the data as NumPy does; of
  any other, fields of the loss;
* settings (`axis`, `reduction`): Python values that the compiled program depends on.

Entries that `where` excludes are overwritten before any arithmetic, so that what they hold
reaches neither the value nor a derivative of any order.
"""

from __future__ import annotations

import dataclasses
import functools
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp

from .._numerics.devices import axes_of, varying
from .._numerics.sharding import sharded_like
from . import inputs
from .inputs import Axis
from .reduce import Request, as_requested


def positive(x: jax.Array) -> jax.Array:
    return x > 0


def non_negative(x: jax.Array) -> jax.Array:
    return x >= 0


def any_number(x: jax.Array) -> jax.Array:
    return ~jnp.isnan(x)


def in_unit_interval(*numbers: jax.Array) -> jax.Array:
    """Whether all lie from 0 to 1."""
    return functools.reduce(operator.and_, ((x >= 0) & (x <= 1) for x in numbers))


class Hyper(NamedTuple):
    """A hyperparameter as the user gave it.

    Attributes:
        value: An array or a number.
        domain: Where it may lie; outside, the loss is NaN. None for anywhere.
        off: Python values that turn it off: the loss gets None then, and need not compute what
            would change nothing.
    """

    value: Any
    domain: Callable[[jax.Array], jax.Array] | None = None
    off: tuple[float | None, ...] = ()

    def is_off(self) -> bool:
        return isinstance(self.value, int | float | None) and self.value in self.off


Hypers = Mapping[str, Hyper]


@dataclass(frozen=True, eq=False, kw_only=True)
class Prepared:
    """What every family's record holds.

    Attributes:
        request: The user's weights and reduction.
        shape: That of the losses.
        dtype: Theirs.
        where: Their mask, in their shape; None if all count.
        known: Where the arguments are in the domain of the loss; None for everywhere.
        counts: What each loss counts for in a mean, if not 1: the loss has this factor already.
        hyper: The hyperparameters in order; None for one that is off.
        data: Data in order, in that dtype; empty if a family's record names its arrays itself.
    """

    request: Request
    shape: tuple[int, ...]
    dtype: Any
    where: jax.Array | None = None
    known: jax.Array | None = None
    counts: jax.Array | None = None
    hyper: tuple[Any, ...] = ()
    data: tuple[jax.Array, ...] = ()

    @property
    def arrays(self) -> tuple[jax.Array, ...]:
        """Data and hyperparameters, in order."""
        return (*self.data, *self.hyper)

    def replace(self, **changes: Any) -> Self:
        return dataclasses.replace(self, **changes)

    def inside(self, domain: jax.Array) -> Self:
        """With less in the domain of the loss."""
        return self.replace(known=domain if self.known is None else self.known & domain)

    def with_hyper(self, hyper: Hypers, data: jax.Array, without: tuple[int, ...] = ()) -> Self:
        """With hyperparameters that are fields of the loss; 1 where it is excluded.

        Args:
            hyper: As the user gave them.
            data: An array that has the shape of the loss without some axes.
            without: These axes.
        """
        given = self
        found = []
        for name, x in hyper.items():
            if x.is_off():
                found.append(None)
                continue
            rows = inputs.field(name, x.value, self.shape, "the loss").astype(self.dtype)
            rows = sharded_like(jnp.broadcast_to(rows, self.shape), data, without)
            if self.where is not None:
                rows = jnp.where(self.where, rows, 1)
            found.append(rows)
            if x.domain is not None:
                given = given.inside(x.domain(rows))
        return given.replace(hyper=tuple(found))

    def reduced(
        self, losses: jax.Array, *, counted: jax.Array | None = None, plain_sum: bool = False
    ) -> jax.Array:
        """The losses as the user asked for them, NaN outside the domain.

        Args:
            losses: One for each of `shape`.
            counted: Which losses count, or how often each does in a mean. The others are 0, also
                outside the domain. None for `counts`.
            plain_sum: See `as_requested`.
        """
        # Imported here: to import chex takes 0.1 s, as long as all of jaxloss.
        import chex

        chex.assert_shape(losses, self.shape)
        counts = self.counts
        if self.known is not None:
            # What is excluded reads 1, which may lie outside the domain of a hyperparameter: a NaN
            # factor there would reach derivatives in what no mask replaces, such as class weights.
            known = self.known if self.where is None else self.known | ~self.where
            losses = inputs.nan_outside(losses, known)
        if counted is not None:
            losses = jnp.where(counted.astype(bool), losses, 0)
            counts = counted.astype(losses.dtype)
        return as_requested(losses, self.where, self.request, counts=counts, plain_sum=plain_sum)


@dataclass(frozen=True, eq=False, kw_only=True)
class Elements(Prepared):
    """The arguments of an elementwise loss.

    Attributes:
        data: Data and fields in order, of the shape of the loss.
        hyper: Of that shape too, but for scalars while there is no mask.
    """


def elementwise(
    data: Mapping[str, Any],
    request: Request,
    *,
    fields: Mapping[str, Any] | None = None,
    hyper: Hypers | None = None,
    hint: str = "",
) -> Elements:
    """The arguments of an elementwise loss, ready for arithmetic.

    An excluded entry reads 1, which lies in the domain of every loss, logarithms and
    divisions included.

    Args:
        data: Predictions, then targets.
        request: The user's mask, weights and reduction.
        fields: What goes with each prediction, such as a variance.
        hyper: Hyperparameters.
        hint: What the user may have wanted, if the shapes of the data differ.
    """
    fields, hyper = fields or {}, hyper or {}
    main = inputs.same_shape(data, hint)
    shape, like = main[0].shape, next(iter(data))
    side = [inputs.field(name, value, shape, like) for name, value in fields.items()]
    knobs = {name: inputs.real(name, x.value) for name, x in hyper.items() if not x.is_off()}
    try:
        shape = jnp.broadcast_shapes(shape, *(x.shape for x in knobs.values()))
    except ValueError:
        arrays = dict(zip([*data, *fields], main + side, strict=True)) | knobs
        got = inputs.described(**{name: x for name, x in arrays.items() if x.ndim})
        raise ValueError(f"hyperparameters must broadcast against the data, got {got}") from None
    dtype = inputs.computing_dtype([*main, *side])
    whole, selected = jnp.broadcast_to(main[0], shape), None
    if request.where is not None:
        selected = inputs.mask(request.where, shape, "the loss", whole)

    # In a `shard_map` a hyperparameter is often the same on all devices, as no datum is: rules of
    # derivatives multiply the two, which JAX does not always see to.
    axes = axes_of((main, side, knobs))

    def ready(x: jax.Array, scalar: bool = False) -> jax.Array:
        x = varying(x.astype(dtype), axes)
        if scalar and not x.ndim and selected is None:
            return x
        x = sharded_like(jnp.broadcast_to(x, shape), whole)
        return x if selected is None else jnp.where(selected, x, 1)

    ready_knobs = {name: ready(x, scalar=True) for name, x in knobs.items()}
    given = Elements(
        request=request,
        shape=shape,
        dtype=dtype,
        where=selected,
        hyper=tuple(ready_knobs.get(name) for name in hyper),
        data=tuple(ready(x) for x in (*main, *side)),
    )
    for name, knob in ready_knobs.items():
        domain = hyper[name].domain
        given = given if domain is None else given.inside(domain(knob))
    return given


@dataclass(frozen=True, eq=False, kw_only=True)
class Vectors(Prepared):
    """The arguments of a loss that consumes axes.

    Attributes:
        data: Of one shape; excluded vectors read 1.
        axes: The axes that the loss consumes, as non-negative integers, in the order given.
        entries: The mask of the entries of the data, in their shape; None if all are there.
    """

    axes: tuple[int, ...]
    entries: jax.Array | None = None

    def of_each(
        self, name: str, value: Any, data: Mapping[str, Any], what: str, nothing: int = 1
    ) -> jax.Array:
        """Numbers that go with the vectors, in the shape of the losses.

        Args:
            name: That of the argument.
            value: A number for each vector, or one for all, of any real dtype, which it keeps.
            data: The vectors as the user gave them, for the message.
            what: What it is, such as "a label for each pair of vectors".
            nothing: What an excluded vector has.
        """
        array = inputs.real(name, value)
        if array.ndim:
            arrays = {first: inputs.real(first, x) for first, x in data.items()} | {name: array}
            message = (
                f"{name} must be {what}, of shape {list(self.shape)}, or a scalar, "
                f"got {inputs.described(**arrays)}"
            )
            hint = inputs.spare_axis(name, array.shape, self.shape)
            inputs.check_shape(array, self.shape, message + hint)
        array = sharded_like(jnp.broadcast_to(array, self.shape), self.data[0], self.axes)
        return array if self.where is None else jnp.where(self.where, array, nothing)


def vectors(
    data: Mapping[str, Any],
    axis: Axis,
    request: Request,
    *,
    hyper: Hypers | None = None,
    absent: Sequence[float] | None = None,
    hint: str = "",
    scalar: bool = True,
) -> Vectors:
    """The arguments of a loss that consumes `axis`, ready for arithmetic.

    A mask of the rank of the data excludes entries along the axis, one of the rank of the
    loss, or a scalar, excludes whole vectors. A vector without a selected entry is itself
    excluded.

    Args:
        data: Predictions, then targets.
        axis: One or several axes of the predictions, or None for all of them.
        request: The user's mask, weights and reduction.
        hyper: Hyperparameters.
        absent: What an excluded entry of each array reads; 0 if not given.
        hint: What the user may have wanted, if the shapes differ.
        scalar: Whether a scalar target stands for an array of it.
    """
    arrays = inputs.same_shape(data, hint, scalar)
    name, shape = next(iter(data)), arrays[0].shape
    axes = inputs.consumed(axis, name, arrays[0])
    dtype = inputs.computing_dtype(arrays)
    arrays = [x.astype(dtype) for x in arrays]
    entries = selected = None
    if request.where is not None:
        entries, selected = inputs.selection(request.where, name, arrays[0], axes)
        arrays = [
            inputs.blanked(x, entries, selected, axes, nothing)
            for x, nothing in zip(arrays, absent or [0.0] * len(arrays), strict=True)
        ]
    given = Vectors(
        request=request,
        shape=inputs.outer(shape, axes),
        dtype=dtype,
        where=selected,
        data=tuple(arrays),
        axes=axes,
        entries=entries,
    )
    return given.with_hyper(hyper or {}, arrays[0], axes)
