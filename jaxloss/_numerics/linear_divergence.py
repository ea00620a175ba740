"""The divergence of two linear layers' softmaxes, neither of whose logits is held; see `tiles`."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .devices import added, varying_like
from .kinks import present
from .linear_logits import (
    tangent_sums,
    tile_of,
)
from .linear_softmax import Asked, statistics
from .special import finite_top, log1p_gap
from .tiles import (
    Columns,
    RowLoop,
    Rows,
    Tiles,
    columns_at,
    piece_at,
    pieces,
    scanned,
    width_of,
)

Head = tuple[Rows, Columns]


class _Normalizer(NamedTuple):
    """log(sum of exp(x)) of each row, in two parts: what is subtracted first keeps the digits."""

    top: jax.Array
    above: jax.Array

    def log_of(self, x: jax.Array) -> jax.Array:
        """The logarithms of the probabilities."""
        return (x - self.top[:, None]) - self.above[:, None]


_Both = tuple[_Normalizer, _Normalizer]


class _Classes(NamedTuple):
    """Of the classes of a tile, with s and t their probabilities for student and teacher.

    Attributes:
        student: s.
        teacher: t.
        ahead: log(t / s), 0 if both are 0.
        change: (s - t) / t, of classes that are `near`.
        near: Whether t is from s / 2 to 2 s.
    """

    student: jax.Array
    teacher: jax.Array
    ahead: jax.Array
    change: jax.Array
    near: jax.Array

    @classmethod
    def of(cls, of_student: jax.Array, of_teacher: jax.Array, lse: _Both) -> _Classes:
        logs, logt = lse[0].log_of(of_student), lse[1].log_of(of_teacher)
        both = (of_student == -jnp.inf) & (of_teacher == -jnp.inf)
        ahead = jnp.where(both, 0, logt - logs)
        # log 2 and a bit less, so that what `log1p_gap` takes is above -1/2.
        near = jnp.abs(ahead) < 0.6875
        change = jnp.expm1(-jnp.where(near, ahead, 0))
        return cls(jnp.exp(logs), jnp.exp(logt), ahead, change, near)

    def divergences(self) -> jax.Array:
        """t log(t / s) - t + s, which is never negative, and t log(t / s) when summed."""
        near = self.teacher * self.change**2 * log1p_gap(self.change)
        cost = jnp.where(self.teacher == 0, 0, self.teacher * self.ahead)
        return jnp.where(self.near, near, cost + (self.student - self.teacher))

    def differences(self) -> jax.Array:
        """s - t."""
        return jnp.where(self.near, self.teacher * self.change, self.student - self.teacher)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def divergences(tiles: Tiles, student: Head, teacher: Head) -> jax.Array:
    """sum of t log(t / s) of each row, with softmaxes s of the student and t of the teacher.

    Both layers have the same number of rows and of columns; labels are not read.
    """
    lse = _normalizers(tiles, student, teacher)
    loop, width = RowLoop.of(tiles, student[0]), width_of(tiles, student[1])
    count, size = pieces(width, tiles.columns)
    columns = student[1], teacher[1]

    def of(data: Any) -> jax.Array:
        rows, lse = data

        def step(total: jax.Array, j: Any) -> jax.Array:
            piece = piece_at(j, width, size)
            x = [
                tile_of(tiles, some, columns_at(tiles, those, piece), 0, piece).x
                for some, those in zip(rows, columns, strict=True)
            ]
            return total + jnp.sum(_Classes.of(x[0], x[1], lse).divergences(), -1)

        start = varying_like(jnp.zeros_like(lse[0].top), rows, columns)
        return scanned(step, start, count)

    rows = student[0], teacher[0]
    return added(loop.each_piece(of, (rows, lse), (rows, columns)), tiles.axis)


def _normalizers(tiles: Tiles, student: Head, teacher: Head) -> _Both:
    def of(head: Head) -> _Normalizer:
        found = statistics(tiles, Asked(), *head)
        return _Normalizer(finite_top(found.top), found.above)

    return of(student), of(teacher)


@functools.partial(divergences.defjvp, symbolic_zeros=True)
def _(tiles: Tiles, primals: Any, tangents: Any) -> Any:
    student, teacher = primals
    again: Any = divergences
    value = again(tiles, student, teacher)
    found = _normalizers(tiles, student, teacher), value

    def change(pair: Any, moves: Any, found: Any, *_: Any) -> jax.Array:
        lse, value = found
        classes = _Classes.of(pair[0].x, pair[1].x, lse)
        student = classes.differences() * moves[0]
        slope = classes.teacher * (classes.ahead - value[:, None])
        teacher = jnp.where(classes.teacher == 0, 0, slope) * moves[1]
        absent = pair[0].x == -jnp.inf, pair[1].x == -jnp.inf
        parts = (jnp.where(x, 0, y) for x, y in zip(absent, (student, teacher), strict=True))
        return jnp.sum(sum(parts, jnp.zeros_like(student)), -1)

    by = [(present(rows), present(columns)) for rows, columns in tangents]
    moved = tangent_sums(tiles, primals, by, found, change, True)
    return value, added(moved, tiles.axis)
