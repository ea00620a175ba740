"""Errors of values and gradients against exact ones, over the whole domain of a loss.

As `jaxloss.testing` measures them; what is exact say the oracles of the families.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from jaxloss.testing import accuracy
from jaxloss.testing.accuracy import FLUSHED as FLUSHED
from jaxloss.testing.accuracy import LARGEST as LARGEST
from jaxloss.testing.accuracy import TINY as TINY
from jaxloss.testing.accuracy import Error as Error
from jaxloss.testing.accuracy import Point as Point
from jaxloss.testing.accuracy import flushed as flushed
from jaxloss.testing.accuracy import in_hyper as in_hyper
from jaxloss.testing.accuracy import limit as limit
from jaxloss.testing.accuracy import points as points
from jaxloss.testing.accuracy import settings as settings
from jaxloss.testing.accuracy import units_of as units_of
from jaxloss.testing.subject import EPS as EPS
from jaxloss.testing.subject import HYPER_LIMIT as HYPER_LIMIT
from jaxloss.testing.subject import LIMIT as LIMIT
from jaxloss.testing.subject import is_knob as is_knob
from tests.laws.case import Case, Options
from tests.laws.compiling import as_users
from tests.laws.truths import anchored, question, truths


def errors(case: Case, compiled: bool = True) -> list[Error]:
    """The worst error of the value and of each derivative, for each set of hyperparameters."""
    largest = _largest_of(case)
    return accuracy.errors(case, truths, compiled=compiled, jit=as_users, largest=largest)


def worst(case: Case, what: str, rows: list[Point], options: Options, got: Any, wrt: Any) -> Error:
    """The largest error of numbers that come from elsewhere, such as those of a peer."""
    given = case, truths, _largest_of(case), rows, options, what, got, wrt
    return accuracy.worst(accuracy.differences(*given), what, options)


class Ask(NamedTuple):
    """What `errors` asks the truths of a row at once: the arguments of `truths.truths`."""

    case: Case
    rows: list[Point]
    options: Options
    wrt: Any
    shape: tuple[int, ...]

    def question(self) -> str:
        return question(self.case.name, self.rows, self.options, self.wrt)


def asks(case: Case) -> list[Ask]:
    rows = [tuple(map(flushed, row)) for row in points(case)]
    found = []
    for options in settings(case):
        numbers = {k: v for k, v in options.items() if k not in case.layout}
        found.append(Ask(case, rows, numbers, None, (len(rows[0][0]),) if case.batch else ()))
        found += [Ask(case, rows, numbers, i, np.shape(rows[0][i])) for i in case.floating]
        knobs = [k for k, v in numbers.items() if is_knob(v) and k not in case.not_differentiated]
        found += [Ask(case, rows, numbers, k, ()) for k in knobs]
    return found


def _largest_of(case: Case) -> Callable[..., float] | None:
    return functools.partial(_largest, case, case.largest) if case.largest else None


def _largest(
    case: Case,
    largest: Callable[..., float | None],
    row: Point,
    options: Options,
    wrt: Any,
    component: tuple[int, ...],
    term: float,
) -> float:
    """What an error is measured against: the largest term that the row tells, or the oracle."""
    at, place = anchored(case, row, options, wrt, component)
    told = [largest(row, given, place) for given in at]
    return max(term if x is None else float(x) for x in told)
