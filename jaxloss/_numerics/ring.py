"""Rows that meet columns: tile by tile on one device, and in a ring on the devices of a mesh axis.

Each device holds a block of the columns. In a ring it hands its block to the next device, as often
as there are devices: all rows have then met all columns, no device has held them all, and what was
added up for the columns on their way is home again.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable
from typing import Any

import jax
import jax.numpy as jnp

from .devices import all_varying
from .sharding import parts

# A tile has a quarter of a device's rows and all columns of a block, but so many entries at least,
# below which a step costs more than it computes, and at most. Smaller tiles save little: of 512
# rows on each of 8 devices a sixteenth takes 3.6 MiB and a fifth more time, a quarter 3.9, of which
# 3.5 are blocks of 512 vectors.
_FEWEST, _MOST = 2**15, 2**22

# (rows, of rows, columns, of columns) to what is then added up of rows and of columns.
Step = Callable[[Any, Any, Any, Any], tuple[Any, Any]]


def tiles(rows: int, columns: int) -> int:
    """In how many tiles rows meet a block of columns."""
    if not isinstance(rows, int) or not isinstance(columns, int) or not rows * columns:
        return 1
    size = min(max(rows // 4, _FEWEST // columns), _MOST // columns)
    return -(-rows // max(1, min(size, rows)))


def met(
    step: Step,
    rows: Any,
    columns: Any,
    of_rows: Any,
    of_columns: Any,
    *,
    axis_name: Hashable | None = None,
    again: bool = False,
) -> tuple[Any, Any]:
    """What adds up of all rows and columns as they meet.

    Args:
        step: Takes a tile of rows and a block of columns, each with what has been added up so far,
            and returns the sums. A tile may end with rows of zeros that are none.
        rows: A tree of arrays that begin with an axis of the rows.
        columns: A tree of arrays that begin with an axis of the columns.
        of_rows: What the sums of the rows start from, a tree of such arrays.
        of_columns: The same of the columns.
        axis_name: One or more mesh axes, or a `vmap` axis, of whose devices the columns are; None
            for the columns of this device.
        again: Whether reverse mode is to compute again what happens in a step, and to fetch the
            step's block once more, from where it lives: in hops of 1, 2, 4, ... devices, half as
            many on average as their number has bits. Else it would store all pairs, and all
            blocks. What of the columns is differentiated then belongs to `of_columns`, which
            travels from device to device.
    """
    rows, columns, of_rows, of_columns = all_varying((rows, columns, of_rows, of_columns))
    number = jax.tree.leaves(rows)[0].shape[0]
    count = tiles(number, jax.tree.leaves(columns)[0].shape[0])

    def computed_again(function: Callable[..., Any]) -> Callable[..., Any]:
        # In a loop nothing else could share what is computed again.
        return jax.checkpoint(function, prevent_cse=False) if again else function

    tile: Callable[..., Any] = computed_again(step) if count > 1 else step
    rows, of_rows = (_split(x, number, count) for x in (rows, of_rows))

    @computed_again
    def with_block(rows: Any, of_rows: Any, columns: Any, of_columns: Any) -> tuple[Any, Any]:
        if count == 1:
            return tile(rows, of_rows, columns, of_columns)

        def body(of_columns: Any, some: Any) -> tuple[Any, Any]:
            of_rows, of_columns = tile(*some, columns, of_columns)
            return of_columns, of_rows

        of_columns, of_rows = jax.lax.scan(body, of_columns, (rows, of_rows))
        return of_rows, of_columns

    if axis_name is None:
        of_rows, of_columns = with_block(rows, of_rows, columns, of_columns)
        return _joined(of_rows, number, count), of_columns

    size = jax.lax.axis_size(axis_name)

    def handed_on(tree: Any, hops: int = 1) -> Any:
        ring = [(i, (i + hops) % size) for i in range(size)]
        return jax.tree.map(lambda x: jax.lax.ppermute(x, axis_name, ring), tree)

    def block_of(index: jax.Array) -> Any:
        """The block that comes by at a step: by hops of 1, 2, 4, ... devices."""
        found = columns
        for bit in range((size - 1).bit_length()):
            hop = functools.partial(handed_on, hops=2**bit)
            found = jax.lax.cond((index >> bit) & 1 == 1, hop, lambda x: x, found)
        return found

    @computed_again
    def fetched(index: jax.Array, of_rows: Any, of_columns: Any) -> tuple[Any, Any]:
        return with_block(rows, of_rows, block_of(index), of_columns)

    def next_block(carry: Any, index: jax.Array) -> tuple[Any, None]:
        of_rows, block, of_columns = carry
        if again:
            of_rows, of_columns = fetched(index, of_rows, of_columns)
        else:
            of_rows, of_columns = with_block(rows, of_rows, block, of_columns)
        return (of_rows, *handed_on((block, of_columns))), None

    start = of_rows, None if again else columns, of_columns
    (of_rows, _, of_columns), _ = jax.lax.scan(next_block, start, jnp.arange(size))
    return _joined(of_rows, number, count), of_columns


def _split(tree: Any, number: int, count: int) -> Any:
    """Arrays of so many rows in so many tiles, `[count, rows of a tile, ...]`.

    Each tile has some rows of each part of a batch that lies on several devices; see `parts`.
    """
    if count == 1:
        return tree
    split = parts(number)
    each = number // split
    size = -(-each // count)

    def tiled(x: jax.Array) -> jax.Array:
        x = x.reshape(split, each, *x.shape[1:])
        if size * count != each:
            x = jnp.pad(x, [(0, 0), (0, size * count - each), *[(0, 0)] * (x.ndim - 2)])
        x = jnp.moveaxis(x.reshape(split, count, size, *x.shape[2:]), 1, 0)
        return x.reshape(count, split * size, *x.shape[3:])

    return jax.tree.map(tiled, tree)


def _joined(tree: Any, number: int, count: int) -> Any:
    """The rows that were split, in their order."""
    if count == 1:
        return tree
    split = parts(number)
    each = number // split

    def whole(x: jax.Array) -> jax.Array:
        x = jnp.moveaxis(x.reshape(count, split, -1, *x.shape[2:]), 0, 1)
        return x.reshape(split, -1, *x.shape[3:])[:, :each].reshape(number, *x.shape[3:])

    return jax.tree.map(whole, tree)
