"""Ensembles and what was observed: how the members and their targets are prepared."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Float, Real

from .._contract import inputs
from .._contract.prepared import Hyper, Prepared, in_unit_interval, vectors
from .._contract.reduce import Request
from .._numerics.sharding import sharded_like, whole_along
from .._numerics.special import one_if_zero

Members = Float[ArrayLike, "*batch members"] | Sequence[Any]
Targets = Real[ArrayLike, "*batch"] | Sequence[Any]
VectorMembers = Float[ArrayLike, "*batch members features"] | Sequence[Any]
Vectors = Real[ArrayLike, "*batch features"] | Sequence[Any]
Kind = Literal["fair", "almost_fair", "biased"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Ensembles(Prepared):
    """Ensembles of numbers or of vectors, whose batch dimensions are flattened into one.

    Attributes:
        members: `[rows, members]`, or `[rows, members, features]`; finite where the mask excludes.
        targets: `[rows]`, or `[rows, features]`.
        there: Which members are not excluded, `[rows, members]`; None if none is.
        hyper: `[rows]`.
        number: How many members each row has, `[rows]`.
    """

    members: jax.Array
    targets: jax.Array
    there: jax.Array | None
    number: jax.Array

    def reduced(
        self, losses: jax.Array, *, counted: jax.Array | None = None, plain_sum: bool = False
    ) -> jax.Array:
        return super().reduced(losses.reshape(self.shape), counted=counted, plain_sum=plain_sum)


def check_number(kind: Kind, name: str, members: jax.Array, axis: int) -> None:
    """Refuse an unknown kind, and an ensemble that its shape says to be too small for the kind."""
    inputs.one_of("kind", kind, get_args(Kind))
    least = 1 if kind == "biased" else 2
    if members.shape[axis] < least:
        some = "a member" if least == 1 else f"two members, or kind='biased', as kind={kind!r} is"
        rest = "" if least == 1 else " undefined of one"
        got = inputs.described(**{name: members})
        raise ValueError(f"{name} must have at least {some}{rest}, got {got}")


def shares(kind: Kind, alpha: jax.Array | None, number: jax.Array) -> tuple[jax.Array, jax.Array]:
    """What the fair score counts for over M (M - 1), and the biased one over M^2."""
    fair = jnp.full_like(number, kind == "fair") if alpha is None else alpha
    return fair / one_if_zero(number * (number - 1)), (1 - fair) / one_if_zero(number * number)


def share_of_fair(kind: Kind, alpha: ArrayLike) -> dict[str, Hyper]:
    """The hyperparameter alpha of the kind that has it."""
    known = kind == "almost_fair"
    return {"alpha": Hyper(alpha if known else None, in_unit_interval, off=(None,))}


def ensembles(
    predictions: Any, targets: Any, axis: int, kind: Kind, request: Request, **hyper: Hyper
) -> Ensembles:
    """Ensembles along an axis, and a target for each; the members of one meet on one device."""
    x, y = inputs.floating("predictions", predictions), inputs.real("targets", targets)
    (place,) = inputs.consumed((axis,), "predictions", x)
    check_number(kind, "predictions", x, place)
    x = x.astype(inputs.computing_dtype([x, y]))
    given = vectors({"predictions": x}, place, request, hyper=hyper)
    y = given.of_each("targets", y, {"predictions": predictions}, "a target for each ensemble")
    rows, size = math.prod(given.shape), x.shape[place]

    def laid(x: jax.Array) -> jax.Array:
        return jnp.moveaxis(whole_along(x, (place,)), place, -1).reshape(rows, size)

    there = None if given.entries is None else laid(given.entries)
    return _flattened(given, kind, laid(given.data[0]), y.astype(given.dtype).reshape(rows), there)


def _flattened(
    given: Prepared, kind: Kind, members: jax.Array, targets: jax.Array, there: jax.Array | None
) -> Ensembles:
    """The record of what was checked and laid out already."""
    rows = members.shape[0]
    number = jnp.full((rows,), members.shape[1], given.dtype)
    number = sharded_like(number, members, tuple(range(1, members.ndim)))
    if there is not None:
        number = jnp.sum(there, -1, dtype=jnp.int32).astype(given.dtype)
    found = Ensembles(
        request=given.request,
        shape=given.shape,
        dtype=given.dtype,
        where=given.where,
        known=given.known,
        hyper=tuple(None if x is None else x.reshape(rows) for x in given.hyper),
        members=members,
        targets=targets,
        there=there,
        number=number,
    )
    if there is None or kind == "biased":
        return found
    return found.inside((number > 1).reshape(given.shape))


def vector_ensembles(
    predictions: Any, targets: Any, kind: Kind, request: Request, **hyper: Hyper
) -> Ensembles:
    """Ensembles of vectors, `[..., members, features]`, and a target for each, `[..., features]`.

    A mask of the shape `[..., members]` excludes members, one of the rank of the loss ensembles.
    """
    x, y = inputs.floating("predictions", predictions), inputs.real("targets", targets)
    got = inputs.described(predictions=x, targets=y)
    if x.ndim < 2:
        raise ValueError(f"predictions must have an axis of members and one of features, got {got}")
    *outer, size, features = x.shape
    message = (
        f"targets must be a vector for each ensemble, of shape {[*outer, features]}, got {got}"
    )
    inputs.check_shape(y, (*outer, features), message)
    check_number(kind, "predictions", x, -2)
    dtype, rows = inputs.computing_dtype([x, y]), math.prod(outer)
    last = (x.ndim - 2, x.ndim - 1)
    x, y = whole_along(x.astype(dtype), last), whole_along(y.astype(dtype), (y.ndim - 1,))
    selected = there = None
    if request.where is not None:
        given_where = inputs.real("where", request.where)
        if given_where.ndim == x.ndim - 1:
            there = inputs.mask(given_where, x.shape[:-1], "the members", x, (-1,))
            selected = jnp.any(there, -1)
        else:
            selected = inputs.mask(given_where, tuple(outer), "the loss or of the members", x, last)
            there = jnp.broadcast_to(selected[..., None], x.shape[:-1])
            there = sharded_like(there, x, (-1,))
        x = jnp.where(there[..., None], x, 0)
        y = jnp.where(selected[..., None], y, 0)
        there = there.reshape(rows, size)
    given = Prepared(request=request, shape=tuple(outer), dtype=dtype, where=selected)
    given = given.with_hyper(hyper, x, last)
    members, y = x.reshape(rows, size, features), y.reshape(rows, features)
    return _flattened(given, kind, members, y, there)
