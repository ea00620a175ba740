"""How far values and gradients are from the truth, over the whole domain of each loss.

The truth is the mpmath oracles' on the same float32 inputs; errors are in eps of float32.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import peers
from _common import Parser, cases, goal, law, publish, selected, table, title
from tqdm import tqdm


class Ours(NamedTuple):
    """The worst errors of a loss here, each compiled and eager.

    Attributes:
        values: Of values.
        gradients: Of derivatives in data.
        hyper: Of derivatives in hyperparameters; None without any.
        limit: That of values and gradients.
        beyond: All errors beyond their limit.
    """

    name: str
    values: tuple[Any, Any]
    gradients: tuple[Any, Any]
    hyper: tuple[Any, Any]
    limit: float
    beyond: Sequence[Any]


class Shared(NamedTuple):
    """The worst errors of a peer, and of the loss here at the same points and options."""

    name: str
    library: str
    options: Any
    theirs: tuple[Any, Any]
    ours: tuple[Any, Any]


def _worst(errors: Sequence[Any]) -> tuple[Any, Any]:
    """The largest error of the values and of the gradients."""
    values = [e for e in errors if e.what == "value"]
    gradients = [e for e in errors if e.what != "value"]
    return max(values, key=_units), max(gradients, key=_units)


def _units(error: Any) -> float:
    return error.units


def _own(case: Any) -> Ours:
    found = [law.errors(case, compiled) for compiled in (True, False)]

    def worst(kept: Callable[[Any], bool]) -> tuple[Any, Any]:
        each = (max(filter(kept, errors), key=_units, default=None) for errors in found)
        return next(each), next(each)

    return Ours(
        title(case),
        worst(lambda e: e.what == "value"),
        worst(lambda e: e.what != "value" and not law.in_hyper(e)),
        worst(law.in_hyper),
        law.LIMIT * (2 if case.axis else 1),
        [e for errors in found for e in errors if not e.units <= law.limit(case, e)],
    )


def _shared(case: Any, library: str, peer: peers.Peer) -> Shared | None:
    """Of gradients those in predictions and in targets, which every peer has."""
    given = peer.options(case.options)
    options = {k: float(np.float32(v)) if law.is_knob(v) else v for k, v in given.items()}
    rows = law.points(case)
    columns = [
        np.asarray(column, np.int32 if kind.index else np.float32)
        for column, kind in zip(zip(*rows, strict=True), case.data, strict=True)
    ]
    losses, slopes = peers.evaluated(library, peer, columns, options)
    if np.ndim(losses) == 0:
        return None  # a loss of the batch has no point to stand at
    found = [law.worst(case, "value", rows, options, losses, None)]
    for index, slope in zip(case.floating, slopes, strict=False):
        if slope is None:
            continue
        found.append(law.worst(case, f"d/d{index}", rows, options, slope, index))
    same = dataclasses.replace(case, options=given, variants=())
    ours = [e for e in law.errors(same) if e.what in ("value", "d/d0", "d/d1")]
    return Shared(title(case), library, given, _worst(found), _worst(ours))


def measure(names: Sequence[str] | None = None) -> tuple[list[Ours], list[Shared]]:
    """The errors of every row, and of the peers that share it."""
    own, shared = [], []
    with tqdm(selected([*cases.CASES, *cases.VARIATIONS], names), "accuracy") as rows:
        for case in rows:
            rows.set_postfix_str(case.name)
            own.append(_own(case))
            # Labels or options of another kind are not those of the peer.
            varied = any(case is row for row in cases.VARIATIONS)
            # Peers take one batch, and the points are several.
            for library in () if varied or case.batch else peers.NAMES:
                peer = peers.find(library, case)
                if peer is not None:
                    shared.append(_shared(case, library, peer))
    return own, [row for row in shared if row is not None]


def goals(own: Sequence[Ours]) -> list[str]:
    missed = [
        f"`{row.name}`: {_figure(error)}, {error.what} at {_place(error)}"
        for row in own
        for error in row.beyond
    ]
    text = (
        f"No error above {law.LIMIT} eps, twice that for losses that consume an axis, "
        f"{law.HYPER_LIMIT} eps in hyperparameters"
    )
    return [goal(text, missed)]


def _figure(error: Any) -> str:
    if error is None:
        return ""
    if not np.isfinite(error.units):
        return "wrong"
    return f"{error.units:.1f}" if error.units < 1000 else f"{error.units:.0e}"


def _place(error: Any) -> str:
    """The point of an error: its numbers, or the norms of its vectors."""
    if not error.point:
        return ""
    if np.ndim(error.point[0]):
        return "norms " + ", ".join(f"{np.linalg.norm(x.astype(float)):.1g}" for x in error.point)
    return ", ".join(f"{x:.5g}" for x in error.point)


def _told(row: Shared) -> str:
    """An error worth telling: of what, where, and what came instead of what."""
    for error in row.theirs:
        if error.units > 2 * law.LIMIT:
            return f"{error.what} at {_place(error)}: {error.got:.5g} for {error.exact:.5g}"
    return ""


def report(own: Sequence[Ours], shared: Sequence[Shared]) -> str:
    """Both tables in Markdown."""
    ours = table(
        ["loss", "value", "eager", "gradients", "eager", "limit", "hyper", "eager", "in"],
        (
            (
                f"`{row.name}`",
                *map(_figure, row.values),
                *map(_figure, row.gradients),
                f"{row.limit}",
                *map(_figure, row.hyper),
                row.hyper[0].what.removeprefix("d/d") if row.hyper[0] else "",
            )
            for row in own
        ),
        words=(0, 8),
    )
    theirs = table(
        ["loss", "peer", "value", "ours", "gradients", "ours", "where the peer is off"],
        (
            (
                f"`{row.name}`",
                row.library,
                _figure(row.theirs[0]),
                _figure(row.ours[0]),
                _figure(row.theirs[1]),
                _figure(row.ours[1]),
                _told(row),
            )
            for row in shared
        ),
        words=(0, 1, 6),
    )
    return f"""\
## Accuracy

The largest error against an mpmath oracle on the same float32 inputs, in eps of float32 (1.2e-7),
relative to the true result, or to its largest term where the formula is a sum of terms of either
sign. The points are ordinary ones, nearly equal ones, and combinations of the ends of the domain:
0, subnormal numbers, 1e-30 to 1e30, saturation. Gradients are those in every array, at several sets
of hyperparameters; "hyper" are the derivatives in hyperparameters, the worst of which is that "in"
the one named; {law.HYPER_LIMIT} eps are allowed there. Eager errors are those at one of the
sets that differ only in numbers that choose no formula, and for losses that consume an axis without
hyperparameters.

{ours}

The same measure of the peers, jitted where they are JAX's, beside ours at the same points, at one
set of hyperparameters and with the peer's epsilon in both; gradients in predictions and in targets.
"wrong" is NaN or inf where there is a finite number, or the reverse; 8e+06 is an error of 100 %.

{theirs}"""


def main() -> None:
    args = Parser(__doc__).parse_args()
    own, shared = measure(args.losses)
    publish("\n\n".join(["\n".join(goals(own)), report(own, shared)]), args.write)


if __name__ == "__main__":
    main()
