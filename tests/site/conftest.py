"""The gate of the site runs where `make docs-check` says which site: JAXLOSS_SITE."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SITE = os.environ.get("JAXLOSS_SITE", "")
# Without a site there is nothing to look at, and its libraries need not be installed.
collect_ignore_glob = [] if SITE else ["*.py"]
sys.path.insert(0, str(ROOT / "docs" / "_ext"))


@pytest.fixture(scope="session")
def site() -> Path:
    """The folder that `make docs` wrote."""
    folder = (ROOT / SITE).resolve()
    if not (folder / "index.html").exists():
        pytest.fail(f"no site in {folder}: make docs")
    return folder


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Debian's Chromium, driven by playwright."""
    from tests.site import looks

    found = looks.chromium()
    if found is None and os.environ.get("JAXLOSS_BROWSER") == "none":
        pytest.skip(
            "no Chromium: width, console, requests, search and dark mode were not looked at"
        )
    if found is None:
        pytest.fail(
            "Chromium is missing: apt-get install chromium, or JAXLOSS_BROWSER=none to leave out "
            "what needs it",
            pytrace=False,
        )
    with looks.browsing(found) as driven:
        yield driven
