"""The cells of the pages: the ten minutes run by themselves, all others are at least Python."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.documents.cells import CELL, script

ROOT = Path(__file__).parents[2]
PAGES = sorted(page for page in (ROOT / "docs").rglob("*.md") if "{code-cell}" in page.read_text())


def test_ten_minutes_run_by_themselves(tmp_path: Path) -> None:
    """From any folder, without Jupyter, matplotlib or a warning."""
    code = script(ROOT / "docs" / "tutorials" / "ten_minutes.md")
    assert "matplotlib" not in code
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stderr) == (0, "")
    assert "got predictions float32[4], targets float32[4, 1]" in run.stdout
    assert "exact         3.0" in run.stdout
    assert "float32 bfloat16" in run.stdout


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_pages_with_cells_are_run_by_the_site(page: Path) -> None:
    assert page.read_text().startswith("---\nfile_format: mystnb\nkernelspec:\n")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_cells_are_short_python(page: Path) -> None:
    """No cell is wider than a line of code, none has the magic of notebooks."""
    code = script(page)
    ast.parse(code)
    assert max(map(len, code.splitlines())) <= 100


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_pictures_say_what_they_show(page: Path) -> None:
    """To whoever does not see them: an alternative text."""
    cells = [(cell[1], cell[2]) for cell in CELL.finditer(page.read_text())]
    shown = [options for options, code in cells if "\nplt.show()" in code]
    assert [options for options in shown if "{image: {alt: " not in options] == []


def test_cells_keep_their_lines(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    cell = "```{code-cell} python\n:tags: [hide-input]\na = 1\n```\n"
    page.write_text(f"# Title\n\n{cell}\n```text\nx\n```\n")
    assert script(page).splitlines() == ["", "", "", "", "a = 1", "", "", "", "", ""]
