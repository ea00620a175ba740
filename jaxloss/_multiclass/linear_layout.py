"""Settings and options of the losses of a linear layer: tiles, meshes, what changes the logits."""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

from jax.sharding import NamedSharding, PartitionSpec
from jax.typing import ArrayLike

from .._contract.prepared import Hyper, positive
from .._numerics.sharding import parts
from .._numerics.tiles import Columns, Rows, Tiles

LogitsSharding: TypeAlias = PartitionSpec | NamedSharding | None

# Of the bytes of hidden vectors and kernel, the share that a tile of logits takes if the user says
# nothing: their gradients take as many, so the loss adds little to what is there anyway. In half
# precision a tile adds to all gradients of hidden vectors, in float32: a quarter, for a sixteenth,
# moves a fourth of these bytes.
_SHARE, _SHARE_OF_HALF = 16, 4
# 4 MiB of float32: a smaller tile saves no memory that anybody lacks.
_LEAST = 2**20
# Fewer rows of a product, or a smaller piece of a gradient, keep no processor busy.
_FEW = 128
_PIECE = 2**21


# What the compiled program depends on.
SETTINGS = ("block_size", "transposed", "class_axis_name", "logits_sharding")


def scaling(logit_softcap: ArrayLike | None, temperature: ArrayLike) -> dict[str, Hyper]:
    return {
        "logit_softcap": Hyper(logit_softcap, positive, off=(None,)),
        "temperature": Hyper(temperature, positive, off=(1,)),
    }


class Options(NamedTuple):
    """Numbers of each token, None where they change nothing."""

    cap: Any = None
    temperature: Any = None
    epsilon: Any = None
    z_loss: Any = None


def with_options(rows: Rows, options: Options) -> Rows:
    return rows._replace(cap=options.cap, temperature=options.temperature)


@dataclass(frozen=True)
class Layout:
    """The settings of a call.

    Attributes:
        block_size: How many tokens' logits are held at a time, or a tile as large; None for what
            the sizes suggest.
        transposed: Whether the kernel is `[V, D]`.
        axis_name: The mesh axes of the classes, inside the user's `shard_map`.
        sharding: How the logits would be distributed, in a mesh of Auto axes.
    """

    block_size: int | None = None
    transposed: bool = False
    axis_name: Hashable = None
    sharding: LogitsSharding = None

    @property
    def classes(self) -> int:
        """The axis of the classes in a kernel."""
        return 0 if self.transposed else 1

    def computes_beside(self, rows: Rows) -> bool:
        """Whether the gradients of a sum are computed beside it.

        Not those of half precision, which are added up in float32: of a kernel that would be an
        array twice its size.
        """
        count, block = rows.hidden.shape[0], self.block_size
        large = isinstance(count, int) and (block is None or block >= _FEW)
        return large and rows.hidden.dtype.itemsize >= 4

    def tiles(
        self, rows: Rows, columns: Columns, axis: Hashable, *, with_gradients: bool = False
    ) -> Tiles:
        """How the logits of these tokens and classes are split.

        Args:
            rows: The tokens.
            columns: The classes.
            axis: The mesh axes over which the classes are distributed; None for none.
            with_gradients: Whether gradients are computed beside the value, from whole rows.
        """
        (count, width), kernel = rows.hidden.shape, columns.kernel
        classes, block, apart = kernel.shape[self.classes], self.block_size, False
        if not isinstance(count, int):
            # Of an export for any number of tokens.
            height, breadth = count, block or 1024
        elif with_gradients:
            # Twice as many tokens as hidden vectors have numbers for each class: what a block adds
            # to the gradient of the kernel is then worth reading and writing that.
            usual = 2 * 2 ** math.ceil(math.log2(max(count * width / classes, 1)))
            height, breadth = block or min(max(usual, _FEW), 2**13), max(_PIECE // width, _FEW)
        else:
            half = kernel.dtype.itemsize < 4
            held = (rows.hidden.size + kernel.size) * kernel.dtype.itemsize // 4
            share = held // (_SHARE_OF_HALF if half else _SHARE)
            area = max(share, _LEAST) if block is None else block * classes
            # Where the gradient of hidden vectors is added up in float32, it is an array of its
            # own, larger than a small tile.
            apart = half and block is not None and rows.hidden.size > area
            # Of all rows at once each part of a gradient of half precision is rounded once. Apart,
            # the pieces of gradients that are added to count too: half as high as wide, with
            # 2 h^2 + 2 D h = area. Else a tile is four times as wide as it is high.
            if apart:
                height = (math.isqrt(width**2 + 2 * area) - width) // 2
            else:
                height = count if half else math.isqrt(area // 4)
            height = max(height, 1)
            breadth = 2 * height if apart else max(area // max(min(height, count), 1), 1)
        return Tiles(height, breadth, apart, parts(count), self.transposed, axis)
