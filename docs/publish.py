"""Put a built site beside the other versions, in the folder that GitHub Pages serves.

    python docs/publish.py SITE PAGES VERSION

PAGES has a folder for each release, `v1.2`, and `dev`. `stable` is the newest release, or `dev`
until there is one.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

ADDRESS = "https://jaxloss.github.io/jaxloss"
RELEASE = re.compile(r"v(\d+)\.(\d+)")
TO_STABLE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>jaxloss</title>
<meta http-equiv="refresh" content="0; url=stable/index.html">
<link rel="canonical" href="https://jaxloss.github.io/jaxloss/stable/index.html">
</head><body><a href="stable/index.html">jaxloss</a></body></html>
"""


def folder_of(version: str) -> str:
    """The folder of a version: "v1.2" for "v1.2.3", "dev" for anything that is no release."""
    match = RELEASE.match(version)
    return match[0] if match else "dev"


def publish(site: Path, pages: Path, version: str) -> None:
    """Copy a site to its folder, and say which versions there are.

    Args:
        site: What `make docs` built.
        pages: The folder that is served.
        version: A tag, or "dev".
    """
    _copy(site, pages / folder_of(version))
    newest = next(iter(releases(pages)), "dev")
    if (pages / newest).exists():
        _copy(pages / newest, pages / "stable")
    (pages / "switcher.json").write_text(json.dumps(switcher(pages), indent=2) + "\n")
    (pages / "index.html").write_text(TO_STABLE)
    (pages / ".nojekyll").touch()  # folders that begin with an underscore are served too


def releases(pages: Path) -> list[str]:
    """The releases that are there, the newest first."""
    found = {x.name: RELEASE.fullmatch(x.name) for x in pages.iterdir() if x.is_dir()}
    numbers = {name: (int(x[1]), int(x[2])) for name, x in found.items() if x}
    return sorted(numbers, key=lambda name: numbers[name], reverse=True)


def switcher(pages: Path) -> list[dict[str, object]]:
    """What the switcher of versions offers."""
    known = releases(pages)
    offered: list[dict[str, object]] = [
        {"name": name, "version": name, "url": f"{ADDRESS}/{name}/"} for name in known
    ]
    if offered:
        offered[0] |= {"name": f"{known[0]} (stable)", "url": f"{ADDRESS}/stable/"}
        offered[0] |= {"preferred": True}
    if (pages / "dev").exists():
        offered.append({"name": "dev", "version": "dev", "url": f"{ADDRESS}/dev/"})
    return offered


def _copy(source: Path, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)


if __name__ == "__main__":
    publish(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
