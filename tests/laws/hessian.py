"""Exact second derivatives of the losses, as `oracle.py` has values and first derivatives."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from mpmath import mp

from tests.laws.oracle import (
    LOSSES,
    entry_of,
    exactly,
    on_the_end,
    replaced,
    spread_of,
    sum_and_largest,
)
from tests.laws.slopes import slopes_of


class Hessian(NamedTuple):
    """What to differentiate in twice.

    Attributes:
        places: What to differentiate in, each as `oracle.derivative` takes it.
        columns: The numbers of those places to differentiate in again.
    """

    places: tuple[Any, ...]
    columns: tuple[int, ...]


# What becomes of a place: its derivatives are 0, they are not known, or they are found by steps.
CONSTANT, UNKNOWN = "constant", "unknown"


def hessian(loss_name: str, args: Any, options: Any, wrt: Hessian) -> list[list[Any]]:
    """The second derivatives of a loss, and the size of the largest term of each.

    Args:
        loss_name: The name of a loss of an `oracles.py`.
        args: Predictions, targets and side data.
        options: Hyperparameters by name.
        wrt: What to differentiate in.

    Returns:
        For each column a list of pairs, one for each place; None where no second derivative
        exists: at a kink of the slope, where it is infinite, and where the formula itself changes.
        At an end of the domain it is that from inside.
    """
    args, options = exactly(args, options)
    places = wrt.places
    spread = spread_of(args, options)
    with mp.workprec(1000 + 10 * spread):
        near = _Neighbourhood(loss_name, args, options, places, spread)
        smooth = [near.entry(i, i) is not None for i in range(len(places))]
        return [
            [near.entry(i, j) if smooth[i] and smooth[j] else None for i in range(len(places))]
            for j in wrt.columns
        ]


class _Neighbourhood:
    """The terms of a loss at a point and around it."""

    def __init__(self, name: str, args: Any, options: Any, places: Any, spread: int) -> None:
        self.formula, self.rules = LOSSES[name], slopes_of(LOSSES[name])
        if self.rules.held:
            options = self.rules.held(*args, **options) | options
        self.args, self.options, self.places, self.spread = args, options, places, spread
        self.found: dict[Any, Any] = {}
        self.kinds = [self.kind(i) for i in range(len(places))]

    def terms(self, moves: Mapping[int, Any]) -> list[Any]:
        """Those where some of the places moved."""
        key = tuple(sorted(moves.items()))
        if key not in self.found:
            args, options = list(self.args), dict(self.options)
            for i, change in moves.items():
                wrt = self.places[i]
                at = entry_of(args, options, wrt) + change
                if isinstance(wrt, str):
                    options[wrt] = at
                else:
                    index, component = wrt if isinstance(wrt, tuple) else (wrt, ())
                    args[index] = replaced(args[index], component, at)
            self.found[key] = self.formula(*args, **options)
        return self.found[key]

    def kind(self, i: int) -> Any:
        """What becomes of a place: `CONSTANT`, `UNKNOWN`, or two steps that stay in the domain."""
        wrt, rules = self.places[i], self.rules
        index = wrt[0] if isinstance(wrt, tuple) else wrt
        at = entry_of(self.args, self.options, wrt)
        if index in rules.constant:
            return CONSTANT
        if mp.isinf(at):
            return UNKNOWN if index in (0, 1) or isinstance(wrt, tuple) else CONSTANT
        # Where one of the rules for first derivatives steps in.
        if (
            (isinstance(wrt, str) and at in rules.undefined.get(wrt, ()))
            or (rules.limit and rules.limit(self.args, self.options, wrt) is not None)
            or (rules.at and rules.at(self.args, self.options, wrt, at)[1] != at)
        ):
            return UNKNOWN
        step = mp.ldexp(1, -250 - 2 * self.spread)
        nearer = mp.ldexp(step, -50)
        if on_the_end(at, index, self.args, self.options) or self.outside({i: -step}):
            return step, nearer
        return (-step, -nearer) if self.outside({i: step}) else (step, -nearer)

    def outside(self, moves: Mapping[int, Any]) -> bool:
        return any(mp.isnan(term) for term in self.terms(moves))

    def entry(self, i: int, j: int) -> tuple[Any, Any] | None:
        """The sum and the largest of the terms of a second derivative, if both steps show it."""
        kinds = self.kinds[i], self.kinds[j]
        if UNKNOWN in kinds:
            return None
        if CONSTANT in kinds:
            return mp.zero, mp.zero
        first, again = (self.quotients(i, j, a, b) for a, b in zip(*kinds, strict=True))
        # What is left of the rounding of a derivative of 0 lies far below this.
        noise = mp.ldexp(1, -250 - 2 * self.spread)
        for x, y in zip(first, again, strict=True):
            if not abs(x - y) <= mp.ldexp(max(abs(x), abs(y), noise), -100):
                return None
        return sum_and_largest(first)

    def quotients(self, i: int, j: int, a: Any, b: Any) -> list[Any]:
        """The second difference quotients of the terms, by steps a and b."""
        far = {i: a, j: b} if i != j else {i: 2 * a}
        corners = (self.terms(moves) for moves in (far, {i: a}, {j: b}, {}))
        return [(w - x - y + z) / (a * b) for w, x, y, z in zip(*corners, strict=True)]


def total(each: Sequence[list[list[Any]]]) -> list[Any]:
    """The entries of a sum of losses, column by column, from those of each."""
    found = []
    for pairs in zip(*(itertools.chain(*columns) for columns in each), strict=True):
        known = [pair for pair in pairs if pair is not None]
        complete = len(known) == len(pairs)
        found.append((mp.fsum(x for x, _ in known), max(x for _, x in known)) if complete else None)
    return found
