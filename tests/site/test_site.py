"""The site that `make docs` wrote, from its files and in a browser."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import jaxloss
from tests.site import looks, pages

# From docs/_ext, where Sphinx finds them.
names: Any = importlib.import_module("names")
tables: Any = importlib.import_module("tables")

ALL = vars(jaxloss)["__all__"]
PUBLIC = names.public()
LOSSES = [name for name, entry in PUBLIC.items() if entry.is_loss]


@pytest.fixture(scope="module")
def read(site: Path) -> dict[str, pages.Page]:
    """Its pages."""
    return pages.read(site)


def none_of(faults: Iterable[str]) -> None:
    """Fail with the faults, one to a line."""
    found = sorted(set(faults))
    if found:
        pytest.fail("\n".join([f"{len(found)} faults", *found[:40]]), pytrace=False)


def test_links_and_anchors_lead_somewhere(site: Path, read: dict[str, pages.Page]) -> None:
    none_of(pages.broken(site, read))


def test_no_page_asks_another_host(read: dict[str, pages.Page]) -> None:
    none_of(pages.foreign(read))


def test_each_loss_has_a_picture(read: dict[str, pages.Page]) -> None:
    assert len(LOSSES) > 100
    none_of(pages.unpictured(read, LOSSES))


def test_each_public_name_has_a_page(read: dict[str, pages.Page]) -> None:
    assert set(ALL) <= set(PUBLIC)
    none_of(pages.unnamed(read, PUBLIC))


def test_no_anchor_is_given_twice(read: dict[str, pages.Page]) -> None:
    none_of(pages.twice(read))


def test_pages_are_light(read: dict[str, pages.Page]) -> None:
    none_of(pages.heavy(read))


def test_formulas_fit_a_phone(read: dict[str, pages.Page]) -> None:
    formulas = {x for page in read.values() for x in page.formulas}
    assert len(formulas) > 90
    none_of(pages.wide_formulas(read))


def test_headers_fit(read: dict[str, pages.Page]) -> None:
    none_of(pages.headers(read))


# Those of the tables themselves are run with the tables.
BORROWED = {
    f"{name}-{number}": call.strip("`")
    for name, entry in PUBLIC.items()
    for number, row in enumerate(tables.inputs(name))
    if (call := tables.example(row, name, entry.value)) and f"`{name}(" not in row.cells[-1]
}


@pytest.mark.parametrize("name", BORROWED)
def test_examples_that_a_loss_borrows_from_another_run(name: str) -> None:
    space = {"jnp": jnp, **{x: getattr(jaxloss, x) for x in ALL}}
    for leaf in jax.tree.leaves(eval(BORROWED[name], space)):
        assert not jnp.any(jnp.isnan(leaf)), BORROWED[name]


def test_on_a_phone(browser: Any, site: Path, read: dict[str, pages.Page]) -> None:
    """Width, console, failed requests and requests to others, of every page."""
    assert len(read) > 150
    none_of(looks.on_a_phone(browser, [page.path for page in read.values()]))


def test_search(browser: Any, site: Path) -> None:
    wanted = {name: f"reference/{name}.html" for name in ("huber_loss", "dice_loss", "ctc_loss")}
    wanted |= {"huber": "reference/huber_loss.html", "installation": "start.html"}
    none_of(looks.searched(browser, site, wanted))


@pytest.mark.parametrize("page", ["reference/huber_loss.html", "gallery.html"])
def test_light_and_dark(browser: Any, site: Path, page: str) -> None:
    none_of(looks.themes(browser, site / page))
