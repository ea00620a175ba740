"""The pages that are made: one for each public name, one for each family, the gallery.

They are written before Sphinx reads its sources, and only where they change, so that a second build
reads again what is new. What they say comes from docstrings, from the tables of the guide and from
the pictures.
"""

from __future__ import annotations

import ast
import inspect
import os
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import drawn
import names
import tables
from names import Entry
from sphinx.application import Sphinx

SOURCE = "https://github.com/jaxloss/jaxloss/blob/"
# What has no docstring of its own: the types of arguments, and other values.
VALUES = {"testing.LAWS": "All laws by name, in the order of a report."}
TYPES = {
    "Where": "The type of `where`, to annotate a loss or a wrapper of your own.",
    "Weights": "The type of `weights`, to annotate a loss or a wrapper of your own.",
    "Reduction": "The type of `reduction`, to annotate a loss or a wrapper of your own.",
}


def write_pages(docs: Path, pictured: frozenset[str]) -> None:
    """Write all pages, and remove those of names that are gone.

    Args:
        docs: The folder of the sources.
        pictured: The names that have a picture.
    """
    entries = list(names.public().values())
    families = [x for x in names.FAMILIES if any(entry.family is x for entry in entries)]
    made = {"reference/index.md": index(families, entries)}
    made["gallery.md"] = gallery(families, entries, pictured)
    for family in families:
        made[f"reference/{family.slug}.md"] = family_page(family, entries, pictured)
    for entry in entries:
        made[f"reference/{entry.name}.rst"] = page(entry)
    (docs / "reference").mkdir(exist_ok=True)
    for old in (docs / "reference").iterdir():
        if f"reference/{old.name}" not in made:
            old.unlink()
    for path, text in made.items():
        file = docs / path
        if not file.exists() or file.read_text() != text:
            file.write_text(text)


def index(families: list[names.Family], entries: list[Entry]) -> str:
    """The front page of the reference: all names, each with its first sentence."""
    written = [
        "# Reference",
        "",
        "All public names, `jaxloss.<name>`. Every loss takes `where`, `weights` and `reduction`,",
        "which `reduce` describes once; the rest stands on the page of each.",
        "",
        "```{toctree}",
        ":hidden:",
        "",
        *(family.slug for family in families),
        "```",
        "",
    ]
    for family in families:
        written += [f"## [{family.title}]({family.slug}.md)", "", family.lead, ""]
        written += [
            "```{list-table}",
            ":class: names",
            ":widths: auto",
            "",
            *(line for entry in entries if entry.family is family for line in _row(entry)),
            "```",
            "",
        ]
    return "\n".join(written)


def _row(entry: Entry) -> list[str]:
    return [f"* - `{entry.name}`", f"  - {_markdown(entry)}"]


def _markdown(entry: Entry) -> str:
    """The first sentence of an entry, with stars and bars as they are."""
    pieces = re.split(r"(`[^`]*`)", line_of(entry))
    return "".join(x if x.startswith("`") else re.sub(r"([*_|<\[])", r"\\\1", x) for x in pieces)


def family_page(family: names.Family, entries: list[Entry], pictured: frozenset[str]) -> str:
    """The page of a family: its losses as cards, each with its thumbnail."""
    members = [entry for entry in entries if entry.family is family]
    toctree = ["```{toctree}", ":hidden:", "", *(entry.name for entry in members), "```", ""]
    cards = _cards(members, "", pictured)
    return "\n".join([f"# {family.title}", "", family.lead, "", *toctree, *cards, ""])


def gallery(families: list[names.Family], entries: list[Entry], pictured: frozenset[str]) -> str:
    """The gallery: a thumbnail for each name that draws, family by family."""
    written = [
        "# Gallery",
        "",
        "Every loss at a glance; the page of each has its gradient too, and says what axes are.",
        "All are drawn from the functions themselves when this site is built.",
        "",
    ]
    for family in families:
        members = [x for x in entries if x.family is family and (x.is_loss or x.name in pictured)]
        if members:
            written += [f"## {family.title}", "", *_cards(members, "reference/", pictured), ""]
    return "\n".join(written)


def _cards(members: list[Entry], folder: str, pictured: frozenset[str]) -> Iterator[str]:
    yield from ("`````{grid} 1 2 2 3", ":gutter: 3", ":class-container: cards", "")
    for entry in members:
        yield from (f"````{{grid-item-card}} {entry.name}", f":link: {folder}{entry.name}")
        yield from (":link-type: doc", ":class-title: name", "")
        if entry.name in pictured:
            yield from (f"```{{picture}} {entry.name}", ":small:", "```")
        yield from ("```{card-footer}", _markdown(entry).replace("`", ""), "```", "````")
    yield "`````"


def page(entry: Entry) -> str:
    """The page of a name in reStructuredText."""
    title = entry.name
    written = [title, "=" * len(title), ""]
    written += [".. meta::", f"   :description: {line_of(entry)}", ""]
    module, _, name = f"jaxloss.{entry.name}".rpartition(".")
    written += [f".. py:currentmodule:: {module}", ""]
    if inspect.isfunction(entry.value):
        written += [f".. autofunction:: {module}.{name}", ""]
    elif inspect.isclass(entry.value):
        written += [f".. autoclass:: {module}.{name}", "   :members:", ""]
        written += ["   :member-order: bysource", ""]
    else:
        written += _alias(entry)
    written += [*_inputs(entry), *_elsewhere(entry), *_related(entry)]
    return "\n".join(written)


def _alias(entry: Entry) -> list[str]:
    _, statement = names.definition(entry.name)
    short = entry.name.rpartition(".")[2]
    given: Any = getattr(statement, "value", statement)
    if isinstance(given, ast.Call):
        # What it is stands above.
        keywords = [x for x in given.keywords if x.arg != "about"]
        given = ast.Call(given.func, given.args, keywords)
    value = f"{short} = {ast.unparse(given)}"
    shown = [f"      {line}" for line in textwrap.wrap(value, 60, subsequent_indent="    ")]
    return [
        f".. py:data:: {short}",
        "",
        f"   {_rst(line_of(entry))}",
        "",
        "   .. code-block:: python",
        "",
        *shown,
        "",
    ]


def line_of(entry: Entry) -> str:
    """One line on a name: the first sentence of its docstring, or what kind of value it is."""
    said = entry.sentence or getattr(entry.value, "about", "")
    if said := said or {**TYPES, **VALUES}.get(entry.name, ""):
        return said
    raise LookupError(f"docs/_ext/reference.py: {entry.name} says nowhere what it is")


def _section(title: str) -> list[str]:
    return [title, "-" * len(title), ""]


def _inputs(entry: Entry) -> list[str]:
    found = tables.inputs(entry.name)
    if not found:
        return []
    written = _section("Predictions and targets")
    for row in found:
        cells = [(a, b) for a, b in zip(row.header, row.cells, strict=True) if b]
        alternative = row.cells[0].startswith(f"`{entry.name}`, `") and "=" in row.cells[0]
        shown = cells if alternative else cells[1:]
        written += [".. list-table::", "   :class: inputs", "   :stub-columns: 1", ""]
        example = tables.example(row, entry.name, entry.value)
        shown = [*shown[:-1], *([("example", example)] if example else [])]
        for heading, cell in shown:
            written += [f"   * - {_rst(heading)}", f"     - {_rst(cell)}"]
        written.append("")
    return written


def _elsewhere(entry: Entry) -> list[str]:
    found = tables.elsewhere(entry.name)
    if not found:
        return []
    written = _section("Elsewhere")
    written += ["What others write, and what it is here:", ""]
    written += [".. list-table::", "   :class: elsewhere", "   :header-rows: 1", ""]
    written += ["   * - elsewhere", "     - here"]
    for row in found:
        lines = [f"| {library}: {_rst(call)}" for library, call in row.calls]
        written += [f"   * - {lines[0]}", *(f"       {line}" for line in lines[1:])]
        note = [f"       | {_rst(row.note)}"] if row.note else []
        written += [f"     - | {_rst(row.here)}", *note]
    return [*written, ""]


def related(entry: Entry) -> list[Entry]:
    """The names of the chapter of an entry, and those that its docstring mentions."""
    if not (inspect.isfunction(entry.value) or inspect.isclass(entry.value)):
        kind = f"{entry.name.rpartition('.')[0]}.{type(entry.value).__name__}".removeprefix(".")
        wanted = ("reduce", "Mean") if entry.name in TYPES else (kind,)
        return [x for x in names.public().values() if x.name in wanted]
    text = inspect.getdoc(entry.value) or ""
    module = entry.name.rpartition(".")[0]
    spoken = {names.mentioned(code, module) for code in re.findall(r"`([^`]+)`", text)}
    everywhere = {"reduce", "Mean"} if entry.is_loss else set()
    return [
        other
        for other in names.public().values()
        if other.name != entry.name
        and other.name not in everywhere
        and (other.home == entry.home or other.name in spoken)
    ]


def _related(entry: Entry) -> list[str]:
    found = related(entry)
    if not found:
        return []
    written = _section("Related")
    written += [".. list-table::", "   :class: names", "   :widths: auto", ""]
    for other in found:
        written += [f"   * - `{other.name}`", f"     - {_rst(line_of(other))}"]
    return [*written, ""]


def _rst(cell: str) -> str:
    """A cell of Markdown in reStructuredText: code, links, and text without markup."""
    pieces = re.split(r"(`[^`]*`)", re.sub(r"\[([^\]`]+)\]\([^)]*\)", r"\1", cell))
    return "".join(
        re.sub(r"\\", r"\\\\", x)
        if x.startswith("`")
        else re.sub(r"([*|\\]|(?<=\w)_(?!\w))", r"\\\1", x)
        for x in pieces
    )


def source(domain: str, info: dict[str, str]) -> str | None:
    """Where on GitHub a name is written; for sphinx.ext.linkcode."""
    name = f"{info['module']}.{info['fullname']}".removeprefix("jaxloss.")
    entry = names.public().get(name)
    if entry is None:
        return None
    branch = os.environ.get("JAXLOSS_DOCS_REF", "main")
    path = names.PACKAGE / entry.home.replace(".", "/")
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return f"{SOURCE}{branch}/jaxloss/{file.relative_to(names.PACKAGE)}#L{entry.line}"


def _prepare(app: Sphinx) -> None:
    drawing = drawn.Drawing(Path(app.config.pictures_folder), names.PACKAGE)
    app.connect("write-started", drawing.wait)
    app.connect("build-finished", drawing.wait)
    write_pages(Path(app.srcdir), drawn.names_drawn())


def setup(app: Sphinx) -> dict[str, Any]:
    """Write the pages before any is read."""
    app.connect("builder-inited", _prepare)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
