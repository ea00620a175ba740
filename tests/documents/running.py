"""Runs the examples of a page as a reader would: with JAX's own defaults."""

from __future__ import annotations

import doctest
from pathlib import Path
from typing import Any

from tests.documents.reading import blocks
from tests.laws.peers import as_jax_ships


def run_examples(path: Path) -> None:
    """The sessions (pycon) of a page, as one: what they print is what the page shows."""
    text = "\n".join(blocks(path, "pycon"))
    assert text, f"{path.name} has no session"
    test = doctest.DocTestParser().get_doctest(text, {}, path.name, str(path), 0)
    report: list[str] = []
    with as_jax_ships():
        doctest.DocTestRunner(verbose=False).run(test, out=report.append)
    assert not report, "".join(report)


def run_code(code: str, name: str, names: dict[str, Any] | None = None) -> dict[str, Any]:
    """A block of code, in the names of those before it; all names there are then."""
    names = {} if names is None else names
    with as_jax_ships():
        exec(compile(code, name, "exec"), names)
    return names
