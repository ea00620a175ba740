"""What the benchmarks share: the rows of the tests, the command line, the look of the tables."""

from __future__ import annotations

import argparse
import importlib
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

# The peers run on the CPU. Read when JAX is imported.
os.environ["JAX_PLATFORMS"] = "cpu"

ROOT = Path(__file__).resolve().parent.parent

# The rows and the accuracy law are those of the tests.
sys.path.append(str(ROOT))
cases: Any = importlib.import_module("tests.laws.rows")
law: Any = importlib.import_module("tests.laws.accuracy")


# The loss that has a test of its own and no row.
CTC = "ctc_loss"


def title(case: Any) -> str:
    """The name of a row's loss, with the flags that make it another loss than its default."""
    flags = [f"{name}={value}" for name, value in case.options.items() if value is False]
    return case.name + (f"({', '.join(flags)})" if flags else "")


class Parser(argparse.ArgumentParser):
    """A parser that refuses in one line, with exit status 2."""

    def __init__(self, description: str | None) -> None:
        super().__init__(
            description=(description or "").splitlines()[0],
            allow_abbrev=False,
        )
        self.add_argument(
            "--losses", nargs="+", metavar="LOSS", type=_loss, help="measure these alone (all)"
        )
        self.add_argument(
            "--write", metavar="FILE", type=writable, help="a Markdown file (%(default)s)"
        )

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}\n")


def _loss(name: str) -> str:
    known = {CTC, *(case.name for case in cases.CASES)}
    if name not in known:
        raise argparse.ArgumentTypeError(f"no loss {name!r}; there are {', '.join(sorted(known))}")
    return name


def writable(text: str) -> Path:
    """An argument type: a file that can be written, known before minutes are spent on it."""
    path = Path(text)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = not path.exists()
        path.open("a").close()
        if fresh:
            path.unlink()
    except OSError as error:
        raise argparse.ArgumentTypeError(f"cannot write {text!r}: {error.strerror}") from None
    return path


def at_least(low: int) -> Callable[[str], int]:
    """An argument type: a whole number."""

    def number(text: str) -> int:
        value = int(text)
        if value < low:
            raise argparse.ArgumentTypeError(f"must be at least {low}, got {text}")
        return value

    return number


def selected(rows: Iterable[Any], names: Sequence[str] | None) -> list[Any]:
    return [case for case in rows if names is None or case.name in names]


def publish(text: str, path: Path | None, part: str | None = None) -> None:
    """Show a report, and write it where that was asked for.

    Args:
        text: The report.
        path: The file. Of what is in it, parts that others wrote are kept.
        part: The name of a part, if the report is one; else it is what stands around the parts.
    """
    print(text)
    if path is not None:
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        path.write_text(_with(before, text, part), encoding="utf-8")
        print(f"Written: {path}", file=sys.stderr)


def _with(before: str, text: str, part: str | None) -> str:
    """A file's text with a report in it."""
    parts = {
        x[2]: x[1]
        for x in re.finditer(r"(<!-- begin (\w+) -->\n.*?<!-- end \2 -->\n)", before, re.S)
    }
    for x in parts.values():
        before = before.replace(x, "")
    if part is None:
        before = text
    else:
        parts[part] = f"<!-- begin {part} -->\n{text}\n<!-- end {part} -->\n"
    return "\n".join(filter(None, [before.strip() and before.strip() + "\n", *parts.values()]))


def table(head: Sequence[str], rows: Iterable[Sequence[str]], words: Sequence[int] = (0,)) -> str:
    """A Markdown table that reads as well unrendered: words to the left, figures to the right."""
    cells = [list(head), *map(list, rows)]
    widths = [max(3, *(len(row[i]) for row in cells)) for i in range(len(head))]
    left = [i in words for i in range(len(head))]

    def line(row: Sequence[str]) -> str:
        padded = (
            cell.ljust(width) if flush else cell.rjust(width)
            for cell, width, flush in zip(row, widths, left, strict=True)
        )
        return f"| {' | '.join(padded)} |"

    rule = ("-" * (w - 1) + ("-" if flush else ":") for w, flush in zip(widths, left, strict=True))
    return "\n".join([line(cells[0]), f"| {' | '.join(rule)} |", *map(line, cells[1:])])


def goal(text: str, missed: Sequence[str]) -> str:
    """A goal, and where this run missed it."""
    if not missed:
        return f"- {text}: **reached**."
    return f"- {text}: **missed {len(missed)} times**.\n" + "\n".join(f"  - {x}" for x in missed)
