"""What README and the pages of the guide say is run, and names every loss."""

from __future__ import annotations

import re
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

import jaxloss
from tests.documents.reading import DOCS, GUIDE, README, blocks, code_in, table_rows
from tests.documents.running import run_code, run_examples
from tests.laws.public import LOSSES, PUBLIC, ROOT, home

SITE = "https://jaxloss.github.io/jaxloss/stable/"
SOURCE = "https://github.com/jaxloss/jaxloss"


@pytest.mark.parametrize("code", blocks(README, "python"))
def test_snippets_of_readme_run(code: str) -> None:
    names = run_code(code, "README.md")
    assert jnp.isfinite(names["loss"])


def test_sessions_of_readme_print_what_it_shows() -> None:
    run_examples(README)


def test_readme_is_short() -> None:
    assert len(README.read_bytes()) < 9000


def test_links_of_readme_are_absolute() -> None:
    """On a package index nothing else leads anywhere."""
    links = re.findall(r"\]\(([^)]*)\)", README.read_text())
    assert len(links) > 10
    for link in links:
        assert link.startswith((SITE, SOURCE, "https://raw.githubusercontent.com/jaxloss/jaxloss/"))


def test_files_that_readme_links_to_are_there() -> None:
    text = README.read_text()
    files = re.findall(rf"{SOURCE}/(?:blob|tree)/main/([^)\s]*)", text)
    files += re.findall(r"raw\.githubusercontent\.com/jaxloss/jaxloss/main/([^)\s]*)", text)
    assert len(files) > 3
    for file in files:
        assert (ROOT / file).exists(), file


def test_pages_that_readme_links_to_are_made() -> None:
    """From a source of that name; that of the reference is made."""
    pages = set(re.findall(rf"{SITE}([\w/]+)\.html", README.read_text()))
    assert len(pages) > 6
    assert "reference/index.md" in (DOCS / "_ext/reference.py").read_text()
    for page in pages - {"reference/index"}:
        assert (DOCS / f"{page}.md").exists(), page


def test_index_of_readme_has_every_public_name() -> None:
    """Each once, in the line of its family."""
    index = README.read_text().partition("## All losses")[2].partition("\n## ")[0]
    named = re.findall(r"`(\w+)`", index)
    assert sorted(named) == sorted(set(named))
    assert set(named) >= set(PUBLIC)


# Measured figures.


def figures(table: str) -> list[list[str]]:
    lines = [line for line in table.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


RESULTS = (ROOT / "benchmarks/RESULTS.md").read_text()


def test_figures_of_readme_are_those_of_the_benchmarks() -> None:
    text = README.read_text()
    speed = RESULTS.partition("### Value and gradient")[2].partition("\n### ")[0]
    accuracy = RESULTS.partition("The same measure of the peers")[2].partition("\n## ")[0]
    expected: dict[str, list[str]] = {}
    for place, peer in enumerate(("optax", "PyTorch", "Keras", "rax"), 6):
        ratios = [float(row[place].strip("*")) for row in figures(speed) if row[place]]
        off = [
            row
            for row in figures(accuracy)
            if row[1] == peer and any(x == "wrong" or float(x) > 16 for x in (row[2], row[4]))
        ]
        measured = sum(row[1] == peer for row in figures(accuracy))
        expected[peer] = [
            str(len(ratios)),
            f"{np.median(ratios):.2f}",
            str(sum(x < 0.95 for x in ratios)),
            f"{len(off)} of {measured}" if measured else "",
        ]
    times = [f"{float(expected[peer][1]):.1f} times as fast as {peer}" for peer in expected]
    assert f"{times[0]} and {times[1]}" in text
    comparison = text.partition("## How it compares")[2].partition("\n## ")[0]
    shown = {row[0].split()[0]: row[1:] for row in figures(comparison)}
    assert shown == expected
    accelerators = (ROOT / "benchmarks/ACCELERATORS.md").read_text()
    h100 = figures(accelerators.partition("## H100")[2].partition("\n## ")[0])
    (focal,) = [row for row in h100 if row[0] == "`sigmoid_focal_loss` 16384x8192 float32"]
    assert f"move {focal[1]} times the bytes" in text
    assert f"optax's {focal[5]} (" in text
    for row in figures(accuracy):
        assert all(x != "wrong" and float(x) <= 16 for x in (row[3], row[5]))


# The guide.


def test_sessions_of_inputs_print_what_it_shows() -> None:
    """The cells of the other pages are run when the site is made; some hold it to what it says."""
    run_examples(DOCS / "guide/inputs.md")


def test_examples_of_inputs_run() -> None:
    """Each calls a loss of its row."""
    rows = list(table_rows(DOCS / "guide/inputs.md"))
    assert len(rows) > 60
    for row in rows:
        assert list(row.cells) == ["loss", "predictions", "targets", "further arrays", "example"]
        (example,) = code_in(row.cells["example"])
        assert example.partition("(")[0] in code_in(row.cells["loss"])
        losses = eval(example, {**vars(jaxloss), "jnp": jnp})
        assert all(jnp.all(jnp.isfinite(x)) for x in jnp.atleast_1d(losses)), example


def test_inputs_has_every_loss() -> None:
    """But not what makes a function of a formula, or of losses: that takes what those take."""
    named = {x for row in table_rows(DOCS / "guide/inputs.md") for x in code_in(row.cells["loss"])}
    assert named >= {name for name in LOSSES if home(name) not in ("contract", "custom")}


def test_kinks_are_of_losses() -> None:
    named = {
        x.partition("(")[0]
        for row in table_rows(DOCS / "guide/kinks.md")
        for x in code_in(row.cells["loss"])
        if "=" not in x or "(" in x
    }
    assert len(named) > 45
    assert named <= set(LOSSES)


def test_links_between_pages_lead_somewhere() -> None:
    """Those to pages that other pages' authors own are checked where the site is built."""
    for path in (*GUIDE, *sorted((DOCS / "coming_from").glob("*.md"))):
        for link in re.findall(r"\]\(([^)#:]+\.md)", path.read_text()):
            folder = (path.parent / link).resolve().parent
            assert folder.is_relative_to(DOCS), link


def test_a_page_that_lies_is_noticed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```pycon\n>>> 1 + 1\n3\n```\n")
    with pytest.raises(AssertionError, match="Expected"):
        run_examples(page)
