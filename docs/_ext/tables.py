"""Rows of the tables in Markdown pages: formats of inputs, and what others write."""

from __future__ import annotations

import ast
import functools
import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sphinx.util import logging

DOCS = Path(__file__).parents[1]
LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        header: The headings of the columns.
        cells: What stands below them.
    """

    header: tuple[str, ...]
    cells: tuple[str, ...]


def rows(text: str) -> Iterator[Row]:
    """The rows of all tables of a text in Markdown."""
    header: tuple[str, ...] = ()
    previous: tuple[str, ...] = ()
    for line in text.splitlines():
        if not line.startswith("|"):
            header = previous = ()
            continue
        cells = _cells(line)
        if all(re.fullmatch(r":?-+:?", cell) for cell in cells):
            header = previous
        elif header:
            yield Row(header, cells)
        previous = cells


def _cells(line: str) -> tuple[str, ...]:
    cells = re.split(r"(?<!\\)\|", line.strip().removeprefix("|").removesuffix("|"))
    return tuple(cell.strip().replace(r"\|", "|") for cell in cells)


@functools.cache
def _of(path: Path) -> tuple[Row, ...]:
    return tuple(rows(path.read_text()))


@functools.cache
def pages() -> tuple[Path, list[Path]]:
    """The page on formats, and those on what others write; what is missing is warned of."""
    formats = DOCS / "guide" / "inputs.md"
    others = sorted(x for x in (DOCS / "coming_from").glob("*.md") if x.name != "index.md")
    if not formats.exists():
        LOG.warning("docs/guide/inputs.md is missing: no page says what a loss takes")
    if not others:
        LOG.warning("docs/coming_from is empty: no page says what others write")
    return formats, others


def inputs(name: str) -> list[Row]:
    """What a loss takes: the rows that open with its name."""
    found = []
    formats, _ = pages()
    for row in _of(formats) if formats.exists() else ():
        opening = re.match(r"(?:`[\w.]+`(?:, )?)+", row.cells[0])
        whole = len(row.header) == len(row.cells) and row.header[-1] == "example"
        if whole and opening and f"`{name}`" in opening[0]:
            found.append(row)
    return found


def example(row: Row, name: str, value: Callable[..., Any]) -> str:
    """The example of a row of formats, with the name of the loss that it is shown for.

    A row may speak of several losses, and calls one. Where another takes the same arrays, the
    example calls that, without options that it does not have.

    Args:
        row: A row of formats.
        name: What the loss is called.
        value: The loss.

    Returns:
        A call; "" if the loss takes other arguments.
    """
    code = row.cells[-1].strip("`")
    call = ast.parse(code, mode="eval").body
    if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name)):
        return row.cells[-1]
    if call.func.id != name:
        takes = inspect.signature(value)
        call.keywords = [x for x in call.keywords if x.arg in takes.parameters]
        try:
            takes.bind(*call.args, **{x.arg: None for x in call.keywords if x.arg})
        except TypeError:
            return ""
    call.func.id = name
    return f"`{ast.unparse(call)}`"


@dataclass(frozen=True)
class Elsewhere:
    """What others write for a loss.

    Attributes:
        here: What it is here.
        note: What changes beside the name; may be empty.
        calls: What it is there: libraries and calls.
    """

    here: str
    note: str
    calls: tuple[tuple[str, str], ...]


def elsewhere(name: str) -> list[Elsewhere]:
    """What others write for a loss: the rows whose column `here` calls it."""
    found: list[Elsewhere] = []
    call = re.compile(rf"(?<![\w.])(?:jaxloss\.)?{re.escape(name)}\(")
    for path in pages()[1]:
        for row in _of(path):
            if "here" not in row.header or len(row.cells) != len(row.header):
                continue
            at = row.header.index("here")
            if call.search(row.cells[at]):
                calls = zip(row.header[:at], row.cells[:at], strict=True)
                given = tuple((library.removeprefix("in "), x) for library, x in calls if x)
                note = "; ".join(x for x in row.cells[at + 1 :] if x)
                found.append(Elsewhere(row.cells[at], note, given))
    return _together(found)


def _together(rows: list[Elsewhere]) -> list[Elsewhere]:
    """Rows of several libraries that say the same of what to write here."""
    merged: dict[tuple[str, str], Elsewhere] = {}
    for row in rows:
        same = merged.get((row.here, row.note), Elsewhere(row.here, row.note, ()))
        merged[row.here, row.note] = replace(same, calls=same.calls + row.calls)
    return list(merged.values())
