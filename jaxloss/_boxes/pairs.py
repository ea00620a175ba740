"""Pairs of boxes, or of codes and boxes: how their data are prepared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, get_args

from jax.typing import ArrayLike
from jaxtyping import Float

from .._contract import inputs
from .._contract.prepared import Hypers, Vectors, vectors
from .._contract.reduce import Request
from .spans import Format

Boxes = Float[ArrayLike, "*batch 4"] | Sequence[Any]


def box_pairs(
    data: Mapping[str, Any],
    box_format: Format,
    request: Request | None = None,
    *,
    hyper: Hypers | None = None,
) -> Vectors:
    """Two arrays with four numbers along the last axis, which the loss consumes.

    A mask is of pairs: one of single coordinates is refused. It is for the loss to replace what is
    excluded; see `gradients.py`.
    """
    inputs.one_of("box_format", box_format, get_args(Format))
    name = next(iter(data))
    first = inputs.floating(name, data[name])
    if not first.ndim or first.shape[-1] != 4:
        got = inputs.described(**{name: first})
        raise ValueError(f"the last axis of {name} must have the 4 numbers of a box, got {got}")
    both = all(inputs.real(key, x).shape[-1:] == (4,) for key, x in data.items())
    hint = "; for all pairs of two sets of boxes: jax.vmap, twice" if both else ""
    given = vectors(data, -1, Request(), hint=hint, scalar=False)
    given = given.replace(request=request or Request())
    if given.request.where is not None:
        selected = inputs.mask(given.request.where, given.shape, "the loss", given.data[0], (-1,))
        given = given.replace(where=selected)
    return given.with_hyper(hyper or {}, given.data[0], (-1,))
