"""The site that `make docs` wrote, from its files and in a browser."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

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


def shown(faults: Any) -> str:
    """Faults, one to a line, for a test that fails."""
    found = sorted(set(faults))
    return "\n".join([f"{len(found)} faults", *found[:40]]) if found else ""


def test_links_and_anchors_lead_somewhere(site: Path, read: dict[str, pages.Page]) -> None:
    assert not shown(pages.broken(site, read))


def test_no_page_asks_another_host(read: dict[str, pages.Page]) -> None:
    assert not shown(pages.foreign(read))


def test_each_loss_has_a_picture(read: dict[str, pages.Page]) -> None:
    assert len(LOSSES) > 100
    assert not shown(pages.unpictured(read, LOSSES))


def test_each_public_name_has_a_page(read: dict[str, pages.Page]) -> None:
    assert set(ALL) <= set(PUBLIC)
    assert not shown(pages.unnamed(read, PUBLIC))


def test_no_anchor_is_given_twice(read: dict[str, pages.Page]) -> None:
    assert not shown(pages.twice(read))


def test_pages_are_light(read: dict[str, pages.Page]) -> None:
    assert not shown(pages.heavy(read))


def test_formulas_fit_a_phone(read: dict[str, pages.Page]) -> None:
    formulas = {x for page in read.values() for x in page.formulas}
    assert len(formulas) > 90
    assert not shown(pages.wide_formulas(read))


def test_headers_fit(read: dict[str, pages.Page]) -> None:
    assert not shown(pages.headers(read))


@pytest.mark.parametrize("name", [name for name in PUBLIC if tables.inputs(name)])
def test_examples_of_formats_run(name: str) -> None:
    space = {"jnp": jnp, **{x: getattr(jaxloss, x) for x in ALL}}
    for row in tables.inputs(name):
        call = tables.example(row, name, PUBLIC[name].value).strip("`")
        if call:
            assert call.startswith(name)
            assert jnp.all(jnp.isfinite(jnp.asarray(eval(call, space)))), call


def test_on_a_phone(browser: Any, site: Path, read: dict[str, pages.Page]) -> None:
    """Width, console, failed requests and requests to others, of every page."""
    assert len(read) > 150
    assert not shown(looks.on_a_phone(browser, [page.path for page in read.values()]))


def test_search(browser: Any, site: Path) -> None:
    wanted = {name: f"reference/{name}.html" for name in ("huber_loss", "dice_loss", "ctc_loss")}
    wanted |= {"huber": "reference/huber_loss.html", "installation": "start.html"}
    assert not shown(looks.searched(browser, site, wanted))


@pytest.mark.parametrize("page", ["reference/huber_loss.html", "gallery.html"])
def test_light_and_dark(browser: Any, site: Path, page: str) -> None:
    assert not shown(looks.themes(browser, site / page))
