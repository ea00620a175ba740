"""The rows of docs/coming_from/: what another library computes, and what is written here.

Both sides of a row are evaluated as they stand on the page. The letters stand for the arrays of
`drawn.py` under the heading of the row.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxloss
from tests.documents.drawn import DATA
from tests.documents.reading import DOCS, Row, code_in, table_rows
from tests.laws.peers import as_jax_ships, close
from tests.laws.values import EPS

# A side is within 8 eps of the truth for each loss, and 16 where a loss sums over an axis; the
# mean of some tens of them, which may cancel, adds a few roundings of the largest.
RTOL = 32 * EPS

OURS = {**vars(jaxloss), "jnp": jnp, "jax": jax, "jaxloss": jaxloss}


class Pair(NamedTuple):
    """A call of another library, ours, and where the page has them."""

    heading: str
    theirs: str
    here: str


def pairs(library: str, column: str) -> list[Pair]:
    """All calls of the tables of a page, each with ours beside it."""
    rows = list(table_rows(DOCS / "coming_from" / f"{library}.md"))
    return [pair for row in rows if column in row.cells for pair in _pairs(row, column)]


def _pairs(row: Row, column: str) -> list[Pair]:
    (here,) = code_in(row.cells["here"])
    return [Pair(row.heading, theirs, here) for theirs in code_in(row.cells[column])]


def each(library: str, column: str) -> Any:
    found = pairs(library, column)
    assert found, f"docs/coming_from/{library}.md has no table with a column {column!r}"
    return pytest.mark.parametrize("pair", found, ids=[f"{x.theirs}-{x.here}" for x in found])


def letters_of(pair: Pair) -> list[str]:
    """The letters to differentiate in: those of which both sides make use."""
    words = set(re.findall(r"\w+", pair.theirs)) & set(re.findall(r"\w+", pair.here))
    return [letter for letter in DATA[pair.heading].wrt if letter in words]


# The value, and the derivatives of its sum in each letter.
Sides = tuple[np.ndarray, list[np.ndarray]]


def by_jax(code: str, names: Mapping[str, Any], pair: Pair) -> Sides:
    """A call of functions of JAX."""
    wrt = letters_of(pair)
    data = {k: _as_array(x) for k, x in DATA[pair.heading].letters.items()}

    def summed(traced: dict[str, Any]) -> Any:
        losses = eval(code, {**names, **data, **traced})
        return jnp.sum(losses), losses

    slopes, losses = jax.jit(jax.grad(summed, has_aux=True))({k: data[k] for k in wrt})
    return np.asarray(losses), [np.asarray(slopes[k]) for k in wrt]


def _as_array(x: Any) -> Any:
    return jnp.asarray(x) if isinstance(x, np.ndarray) else x


def ours(pair: Pair, names: Mapping[str, Any] = OURS) -> Sides:
    return by_jax(pair.here, names, pair)


def of_jax(pair: Pair, names: dict[str, Any]) -> Sides:
    """A call of another library on JAX."""
    with as_jax_ships():
        return by_jax(pair.theirs, {"jnp": jnp, "jax": jax, "functools": functools, **names}, pair)


def of_numpy(pair: Pair, names: dict[str, Any]) -> Sides:
    """A call that has no derivatives, in float64."""
    data = DATA[pair.heading].letters
    double = {
        k: x.astype(np.float64) if getattr(x, "dtype", None) == np.float32 else x
        for k, x in data.items()
    }
    return np.asarray(eval(pair.theirs, {"np": np, **names, **double})), []


def agree(
    pair: Pair, theirs: Callable[..., Sides], *names: Any, here: Mapping[str, Any] = OURS
) -> None:
    """Values, and derivatives where the other side has them."""
    value, slopes = theirs(pair, *names)
    mine, own = ours(pair, here)
    # Terms that cancel are of the size of 1.
    close(mine, value, rtol=RTOL, largest=1.0)
    for one, other in zip(own, slopes, strict=bool(slopes)):
        close(one, other, rtol=RTOL, largest=None)
