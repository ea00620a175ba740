"""What Markdown pages hold: sections, tables, blocks of code."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.laws.public import ROOT

DOCS = ROOT / "docs"
GUIDE = [DOCS / f"guide/{name}.md" for name in ("masks", "kinks", "inputs", "contract")]
README = ROOT / "README.md"


class Row(NamedTuple):
    """A row of a table, with the heading above it."""

    heading: str
    cells: dict[str, str]  # by the words of the table's header


def sections(text: str) -> Iterator[tuple[str, str]]:
    """The headings of the second level, and what is below each."""
    for part in re.split(r"^## ", text, flags=re.M)[1:]:
        heading, _, below = part.partition("\n")
        yield heading.strip(), below


def table_rows(path: Path) -> Iterator[Row]:
    """All rows of all tables below headings of the second level."""
    for heading, below in sections(path.read_text()):
        for table in re.findall(r"(?:^\|.*\n)+", below + "\n", re.M):
            header, _, *lines = (split(line) for line in table.splitlines())
            for cells in lines:
                yield Row(heading, dict(zip(header, cells, strict=True)))


def split(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().removeprefix("|").removesuffix("|").split("|")]


def code_in(cell: str) -> list[str]:
    """What stands between backticks."""
    return re.findall(r"`([^`]+)`", cell)


def blocks(path: Path, language: str) -> list[str]:
    """The blocks of code of a language, python or pycon; for code cells see `cells.py`."""
    return re.findall(rf"^```{language}\n(.*?)^```$", path.read_text(), re.M | re.S)
