"""Exact values and derivatives of all rows, kept on disk: `truths.npz` of each family.

The oracles take minutes for what the accuracy law asks them. Their answers are kept beside them,
under a hash of their source; answers under another hash are not read, nor are those for other
points or options. `make truths` asks anew for what is missing; a test says when that is due.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from mpmath import mp

from tests.laws import hessian, oracle
from tests.laws.case import FAMILIES, Case, Options
from tests.laws.hessian import Hessian

TESTS = Path(__file__).parents[1]
SHARED = [
    TESTS / "laws" / name for name in ("oracle.py", "hessian.py", "arithmetic.py", "slopes.py")
]


NO_TRUTH = -1.0


class Truths(NamedTuple):
    """The answers to one question about all points of a row.

    Attributes:
        exact: The exact numbers, one for each point and component; NaN outside the domain.
        largest: The size of the largest term of each; `NO_TRUTH` where no exact number exists.
    """

    exact: np.ndarray
    largest: np.ndarray


def source(family: str) -> str:
    """A hash of the oracles of a family: of their code, not of its layout and comments."""
    paths = [*SHARED, TESTS / family / "oracles.py"]
    code = repr([spelled(ast.parse(path.read_text())) for path in paths])
    return hashlib.sha256(code.encode()).hexdigest()


def spelled(node: Any) -> Any:
    """A syntax tree, alike in all versions of Python: fields that hold nothing are left out.

    `ast.dump` spells them, and differs: 3.12 gave functions an empty list of type parameters, and
    3.13 leaves empty lists out.
    """
    if isinstance(node, ast.AST):
        fields = [(name, spelled(value)) for name, value in ast.iter_fields(node)]
        return type(node).__name__, [field for field in fields if field[1] not in (None, [])]
    return [spelled(item) for item in node] if isinstance(node, list) else node


def path_of(family: str) -> Path:
    return TESTS / family / "truths.npz"


def family_of(name: str) -> str:
    return oracle.LOSSES[name].__module__.split(".")[1]


def question(name: str, rows: Sequence[Any], options: Options, wrt: Any) -> str:
    """A name for one question about all points."""
    text = repr((name, sorted(options.items()), wrt))
    points = b"".join(np.asarray(x, np.float64).tobytes() for row in rows for x in row)
    return hashlib.blake2b(text.encode() + points, digest_size=12).hexdigest()


class Store:
    """The answers of one family, of which those asked for the first time are kept in memory.

    Attributes:
        answers: By question.
        fresh: Whether the file was written by the oracles as they are.
        asked: The questions that the file did not answer.
    """

    def __init__(self, family: str) -> None:
        self.family = family
        self.answers: dict[str, Truths] = {}
        self.asked: set[str] = set()
        self.fresh = False
        if path_of(family).exists():
            with np.load(path_of(family)) as file:
                self.fresh = str(file["source"]) == source(family)
                if self.fresh and len(file["questions"]):
                    cuts = np.cumsum(file["sizes"])[:-1]
                    parts = (np.split(file[name], cuts) for name in ("exact", "largest"))
                    self.answers = {
                        str(key): Truths(*pair)
                        for key, *pair in zip(file["questions"], *parts, strict=True)
                    }

    def save(self, questions: set[str]) -> None:
        """Write the answers to these questions."""
        kept = {key: self.answers[key] for key in sorted(questions)}
        np.savez_compressed(
            path_of(self.family),
            source=np.array(source(self.family)),
            questions=np.array(list(kept)),
            sizes=np.array([len(x.exact) for x in kept.values()], np.int64),
            exact=np.concatenate([np.ravel(x.exact) for x in kept.values()] or [np.zeros(0)]),
            largest=np.concatenate([np.ravel(x.largest) for x in kept.values()] or [np.zeros(0)]),
        )


_STORES: dict[str, Store] = {}


def store(family: str) -> Store:
    if family not in _STORES:
        _STORES[family] = Store(family)
    return _STORES[family]


def truths(case: Case, rows: Sequence[Any], options: Options, wrt: Any, shape: Any) -> Truths:
    """The exact numbers at all points.

    Args:
        case: The row.
        rows: The points, as the loss reads them.
        options: The options that the oracle takes.
        wrt: What to differentiate in: the position of an argument or the name of an option; None
            for the value, a `Hessian` for second derivatives.
        shape: That of the result at a point, of an argument that has components or of a batch.
    """
    kept = store(family_of(case.name))
    key = question(case.name, rows, options, wrt)
    if key not in kept.answers:
        kept.answers[key] = _asked(case, rows, options, wrt, shape)
        kept.asked.add(key)
    exact, largest = kept.answers[key]
    return Truths(exact.reshape(len(rows), *shape), largest.reshape(len(rows), *shape))


def ask_again(
    case: Case, rows: Sequence[Any], options: Options, wrt: Any, shape: Any, place: int
) -> tuple[Truths, Truths]:
    """The numbers at one point as they are kept, and as the oracle says them now."""
    kept = truths(case, rows, options, wrt, shape)
    now = _asked(case, rows[place : place + 1], options, wrt, shape)
    return Truths(*(x[place].ravel() for x in kept)), now


def _asked(case: Case, rows: Sequence[Any], options: Options, wrt: Any, shape: Any) -> Truths:
    if isinstance(wrt, Hessian):
        found = [pair for row in rows for pair in _second(case, row, options, wrt)]
        exact, largest = np.array(found, float).reshape(-1, 2).T
        return Truths(exact, largest)
    found = [
        _answer(case, row, options, wrt, component)
        for row in rows
        for component in np.ndindex(shape)
    ]
    exact, largest = np.array(found, float).reshape(-1, 2).T
    return Truths(exact, largest)


def _answer(
    case: Case, row: Any, options: Options, wrt: Any, component: tuple[int, ...]
) -> tuple[float, float]:
    at, place = anchored(case, row, options, wrt, component)
    try:
        if wrt is None:
            found = [oracle.value(case.name, row, given) for given in at]
        else:
            found = [oracle.derivative(case.name, row, given, place) for given in at]
    except (ZeroDivisionError, ValueError):
        return np.nan, NO_TRUTH
    exact = mp.fsum(x for x, _ in found) if len(found) > 1 else found[0][0]
    # Infinite on one side only: the difference quotient leaves the domain.
    missing = wrt is not None and not mp.isfinite(exact)
    return float(exact), NO_TRUTH if missing else float(max(x for _, x in found))


def _second(case: Case, row: Any, options: Options, wrt: Hessian) -> list[tuple[float, float]]:
    at, _ = anchored(case, row, options, 0, ())
    try:
        found = hessian.total([hessian.hessian(case.name, row, given, wrt) for given in at])
    except (ZeroDivisionError, ValueError):
        found = [None] * (len(wrt.places) * len(wrt.columns))
    return [(np.nan, NO_TRUTH) if x is None else (float(x[0]), float(x[1])) for x in found]


def anchored(
    case: Case, row: Any, options: Options, wrt: Any, component: tuple[int, ...]
) -> tuple[list[Options], Any]:
    """The calls of an oracle that one number of a row is the sum of, and what to differentiate in.

    Of a batch a value is one of its losses, and a derivative that of the sum of all.
    """
    if not case.batch:
        return [options], (wrt, component) if component else wrt
    if wrt is None:
        return [{**options, "anchor": i} for i in component], None
    anchors = range(len(row[0]))
    return [{**options, "anchor": i} for i in anchors], (wrt, component) if component else wrt


def main() -> None:
    """Ask for all that the accuracy law wants to know, and write the files anew."""
    from concurrent.futures import ProcessPoolExecutor

    from tqdm import tqdm

    with ProcessPoolExecutor() as pool:
        for _ in tqdm(pool.map(renew, FAMILIES), "families", total=len(FAMILIES)):
            pass


def renew(family: str) -> None:
    from tests.laws import second_order

    wanted = set()
    for ask in second_order.all_asks(family):
        truths(*ask)
        wanted.add(ask.question())
    store(family).save(wanted)


if __name__ == "__main__":
    main()
