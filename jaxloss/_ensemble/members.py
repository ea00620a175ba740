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
from .._numerics.sharding import whole_along
from .._numerics.special import one_if_zero

Members = Float[ArrayLike, "*batch members"] | Sequence[Any]
Targets = Real[ArrayLike, "*batch"] | Sequence[Any]
Kind = Literal["fair", "almost_fair", "biased"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Ensembles(Prepared):
    """Ensembles of numbers, whose batch dimensions are flattened into one.

    Attributes:
        members: `[rows, members]`; 0 for those that the mask excludes.
        targets: `[rows]`.
        there: Which members are not excluded, in their shape; None if none is.
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

    members, y = laid(given.data[0]), y.astype(given.dtype).reshape(rows)
    there, number = None, jnp.full_like(y, size)
    if given.entries is not None:
        there = laid(given.entries)
        number = jnp.sum(there, -1, dtype=jnp.int32).astype(given.dtype)
    found = Ensembles(
        request=request,
        shape=given.shape,
        dtype=given.dtype,
        where=given.where,
        known=given.known,
        hyper=tuple(None if x is None else x.reshape(rows) for x in given.hyper),
        members=members,
        targets=y,
        there=there,
        number=number,
    )
    if there is None or kind == "biased":
        return found
    return found.inside((number > 1).reshape(given.shape))
