"""The code cells of a page of the site, as a plain script: without Jupyter, in one process."""

from __future__ import annotations

import re
from pathlib import Path

CELL = re.compile(r"^```\{code-cell\}[^\n]*\n((?::[^\n]*\n)*)(.*?)^```$", re.MULTILINE | re.DOTALL)


def script(page: Path) -> str:
    """All cells in order, on the lines that they have in the page, so that tracebacks fit."""
    text = page.read_text()
    lines = [""] * (text.count("\n") + 1)
    for cell in CELL.finditer(text):
        first = text.count("\n", 0, cell.start(2))
        lines[first : first + cell[2].count("\n")] = cell[2].splitlines()
    return "\n".join(lines)
