"""Grids whose cells are entered from below and from the left, one anti-diagonal after another.

Cell (t, u) lies on the diagonal n = t + u. The cells of a diagonal do not depend on each other:
a loop takes as many steps as there are diagonals, not as there are cells. Inside, a grid is
`[diagonals, columns, batch]`; place u of diagonal n holds the cell (n - u, u).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from . import scaled
from .scaled import Scaled


def skewed(x: jax.Array, outside: float) -> jax.Array:
    """A grid `[batch, rows, columns]` by its diagonals, as many as rows and columns together.

    Args:
        x: The grid.
        outside: What places hold that are no cells.
    """
    rows, columns = x.shape[1:]
    length = rows + columns - 1
    # Each column has one place more than there are diagonals, which moves the next by one.
    x = jnp.pad(x.transpose(2, 1, 0), ((0, 0), (0, columns), (0, 0)), constant_values=outside)
    x = x.reshape(columns * (length + 1), x.shape[2])[: columns * length]
    return x.reshape(columns, length, x.shape[1]).swapaxes(0, 1)


def upright(x: jax.Array, rows: int) -> jax.Array:
    """The grid `[batch, rows, columns]` of its diagonals, of which there may be more."""
    columns, length = x.shape[1], x.shape[1] + rows - 1
    x = x[:length].swapaxes(0, 1).reshape(columns * length, x.shape[2])
    x = jnp.pad(x, ((0, columns), (0, 0))).reshape(columns, length + 1, x.shape[1])
    return x[:, :rows].transpose(2, 1, 0)


def passing(begun: Scaled, ending: Scaled, total: Scaled) -> jax.Array:
    """The share of all paths that are begun and end so; 0 if there are none."""
    leading = tuple(range(begun.m.ndim - total.m.ndim))
    total = jax.tree.map(lambda x: jnp.expand_dims(x, leading), total)
    possible = total.m > 0
    inverse = jnp.where(possible, 1 / jnp.where(possible, total.m, 1), 0)
    exponent = begun.e + ending.e - jnp.where(possible, total.e, 0)
    return begun.m * (ending.m * inverse) * scaled.wide_power(exponent)


def ahead(x: Scaled) -> Scaled:
    """Each number moved to the place before; zero for the last."""
    width = ((0, 0),) * (x.m.ndim - 2) + ((0, 1), (0, 0))
    moved = Scaled(jnp.pad(x.m, width), jnp.pad(x.e, width, constant_values=scaled.NOTHING))
    return scaled.cut(moved, 1, None)
