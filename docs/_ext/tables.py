"""Rows of the tables in Markdown pages: formats of inputs, and what others write."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).parents[1]
# Until a page of its own has them, README holds both tables.
README = DOCS.parent / "README.md"


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
    return tuple(rows(path.read_text())) if path.exists() else ()


def inputs_page() -> Path:
    """The page that says what predictions and targets must look like."""
    page = DOCS / "guide" / "inputs.md"
    return page if page.exists() else README


def elsewhere_pages() -> list[Path]:
    """The pages that say what to write instead of what others call a loss."""
    pages = sorted(x for x in (DOCS / "coming_from").glob("*.md") if x.name != "index.md")
    return pages or [README]


def inputs(name: str) -> list[Row]:
    """What a loss takes: the rows that open with its name."""
    found = []
    for row in _of(inputs_page()):
        opening = re.match(r"(?:`[\w.]+`(?:, )?)+", row.cells[0])
        formats = len(row.header) == len(row.cells) and row.header[-1] == "example"
        if formats and opening and f"`{name}`" in opening[0]:
            found.append(row)
    return found


def elsewhere(name: str) -> dict[str, dict[str, list[str]]]:
    """What others write for a loss: by what is written here, by library."""
    found: dict[str, dict[str, list[str]]] = {}
    call = re.compile(rf"(?<![\w.])(?:jaxloss\.)?{re.escape(name)}\(")
    for path in elsewhere_pages():
        for row in _of(path):
            if row.header[-1] != "here" or not call.search(row.cells[-1]):
                continue
            for library, written in zip(row.header[:-1], row.cells[:-1], strict=True):
                if written:
                    libraries = found.setdefault(row.cells[-1], {})
                    libraries.setdefault(library.removeprefix("in "), []).append(written)
    return found
