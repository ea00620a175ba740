"""What the pages are made with: docstrings, signatures, tables, pictures."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import pytest
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

import jaxloss

docstrings: Any = importlib.import_module("docstrings")
drawn: Any = importlib.import_module("drawn")
names: Any = importlib.import_module("names")
reference: Any = importlib.import_module("reference")
tables: Any = importlib.import_module("tables")

DOCSTRING = """A loss of |e|, `l1_loss` or 2 * e.

    |e| * 2
    x_t     elsewhere

With an alias_ it is the same; `Mean`s add.

Args:
    *args: Of any |shape|.
    where, weights, reduction: See `jaxloss.reduce`.

Example:
    >>> 2 * 3 | 4
    6
"""


def test_a_formula_is_a_block_and_prose_is_no_markup() -> None:
    lines = docstrings.adapted(DOCSTRING.splitlines(), [".. picture:: x", ""])
    assert lines[0] == r"A loss of \|e\|, `l1_loss` or 2 \* e."
    start = lines.index(".. code-block:: text")
    assert lines[start : start + 5] == [
        ".. code-block:: text",
        "   :class: formula",
        "",
        "   |e| * 2",
        "   x_t     elsewhere",
    ]
    long = docstrings.adapted(["A loss.", "", "    e", "    " + "e" * 41, ""])
    assert long[long.index(".. code-block:: text") + 1] == "   :class: formula long"
    assert r"With an alias\_ it is the same; `Mean`\ s add." in lines
    assert lines.index(".. picture:: x") < lines.index("Args:")
    assert r"    *args: Of any \|shape\|." in lines
    assert "    >>> 2 * 3 | 4" in lines


def test_a_docstring_without_sections_ends_with_its_picture() -> None:
    assert docstrings.adapted(["A loss."], [".. picture:: x"])[-1] == ".. picture:: x"


def _function(
    predictions: Float[ArrayLike, "*batch"],
    labels: Int[ArrayLike, "*batch"] | Sequence[int] | None = None,
    *,
    kind: Literal["a", "b"] = "a",
    scale: ArrayLike = float("inf"),
    through: Callable[..., Any] = jnp.mean,
    where: jaxloss.Where = None,
) -> Float[Array, "*batch"]: ...


def test_a_signature_is_readable() -> None:
    function = _function
    function.__annotations__["where"] = "Where"
    arguments, result = docstrings.signature(function)
    assert arguments == (
        "(predictions: ArrayLike, labels: ArrayLike | None = None, *, kind: 'a' | 'b' = 'a', "
        "scale: ArrayLike = inf, through: Callable = jnp.mean, where: Where = None)"
    )
    assert result == "Array"


@pytest.mark.parametrize("name", [x for x, y in names.public().items() if callable(y.value)])
def test_signatures_of_all_public_names_are_readable(name: str) -> None:
    value = names.public()[name].value
    if inspect.isfunction(value) or inspect.isclass(value):
        shown = " ".join(docstrings.signature(value))
        assert not {"<", "~", "jaxtyping", "jaxlib", "ndarray"}.intersection(shown.split()), shown
        assert not any(x in shown for x in ("<", "jaxtyping", "jaxlib", "ndarray")), shown


def test_names_that_code_mentions() -> None:
    assert names.mentioned("huber_loss") == "huber_loss"
    assert names.mentioned("jaxloss.huber_loss") == "huber_loss"
    assert names.mentioned('huber_loss(p, t, reduction="mean")') == "huber_loss"
    assert names.mentioned("Mean.of(jaxloss.l1_loss, x)") == "Mean"
    assert names.mentioned("optax.huber_loss") == ""
    assert names.mentioned("predictions") == ""


def test_each_name_has_one_sentence_and_a_line_of_code() -> None:
    for name, entry in names.public().items():
        assert not re.fullmatch(r"|An? `?[\w.]+`?\.", reference.line_of(entry)), name
        file = names.PACKAGE / (entry.home.replace(".", "/") + ".py")
        if file.exists():
            line = file.read_text().splitlines()[entry.line - 1 : entry.line + 3]
            # An alias stands where the function does that it is another name of.
            function = inspect.unwrap(entry.value) if inspect.isfunction(entry.value) else None
            short = function.__code__.co_name if function else name.rpartition(".")[2]
            assert short in " ".join(line), name


def test_what_is_related_is_of_the_chapter_or_is_mentioned() -> None:
    entry = names.public()["huber_loss"]
    related = [x.name for x in reference.related(entry)]
    assert "l2_loss" in related
    assert "smooth_l1_loss" in related
    assert "huber_loss" not in related
    assert "dice_loss" not in related


def test_rows_of_tables() -> None:
    text = "x\n\n| loss | example |\n|---|---|\n| `a`, `b` | `a([1 \\| 2])` |\n\n| no | head |\n"
    assert [row.cells for row in tables.rows(text)] == [("`a`, `b`", "`a([1 | 2])`")]
    assert [row.header for row in tables.rows(text)] == [("loss", "example")]


def test_an_example_calls_the_loss_that_it_is_shown_for() -> None:
    row = tables.Row(("loss", "example"), ("", "`cauchy_loss([2.5], [3.0], scale=0.5)`"))
    assert "scale=0.5" in tables.example(row, "cauchy_loss", jaxloss.cauchy_loss)
    shown = tables.example(row, "huber_loss", jaxloss.huber_loss)
    assert shown == "`huber_loss([2.5], [3.0])`"
    assert tables.example(row, "ctc_loss", jaxloss.ctc_loss) == ""


def test_pictures_are_lean() -> None:
    start = '<?xml version="1.0"?>\n<svg>\n  <!-- x -->'
    given = '<path d="M 1.2345 2.500\n 3.0"/><text>2.50</text></svg>'
    assert drawn.lean(start + given) == '<svg><path d="M 1.23 2.5 3"/><text>2.50</text></svg>'


def test_the_key_of_pictures_changes_with_the_package(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("1")
    first = drawn.key(tmp_path)
    assert drawn.key(tmp_path) == first
    (tmp_path / "a.py").write_text("2")
    assert drawn.key(tmp_path) != first


def test_links_to_files_beside_the_site_lead_to_github(tmp_path: Path) -> None:
    links: Any = importlib.import_module("links")
    (tmp_path / "docs" / "guide").mkdir(parents=True)
    (tmp_path / "RESULTS.md").write_text("")
    (tmp_path / "docs" / "start.md").write_text("")
    app = type("App", (), {"srcdir": tmp_path / "docs"})()
    content = ["[a](../../RESULTS.md#x) [b](../start.md) [c](../../GONE.md)"]
    links._outside(app, "guide/masks", content)
    there = "https://github.com/jaxloss/jaxloss/blob/main/RESULTS.md#x"
    assert content == [f"[a]({there}) [b](../start.md) [c](../../GONE.md)"]


def test_types_of_jax_have_the_names_that_users_import() -> None:
    assert docstrings.annotation(jax.sharding.PartitionSpec, {}) == "PartitionSpec"
    assert docstrings.annotation(jax.Array, {}) == "Array"
    assert (
        docstrings.annotation("Sequence[int] | int", {"Sequence": Sequence})
        == "Sequence[int] | int"
    )


def test_long_formulas_are_broken_where_they_read_best() -> None:
    line = "1 - (sum over i of g_i / log2(1 + r_i)) / (the same sum in the best order)"
    assert docstrings.wrapped(line) == [
        "1 - (sum over i of g_i / log2(1 + r_i))",
        "    / (the same sum in the best order)",
    ]
    assert docstrings.wrapped("  z / 2" + " " * 40 + "at alpha = 2, which is L2") == [
        "  z / 2" + " " * 40 + "at alpha = 2,",
        "      which is L2",
    ]
    assert docstrings.wrapped("e" * 61) == ["e" * 61]


@pytest.mark.parametrize("name", names.public())
def test_formulas_of_all_public_names_fit_a_phone(name: str) -> None:
    lines = docstrings.adapted((inspect.getdoc(names.public()[name].value) or "").splitlines())
    inside = False
    for line in lines:
        starts = line.startswith(".. code-block:: text")
        inside = starts or (inside and not re.match(r"\S", line))
        assert not inside or len(line.strip()) <= 60, line
