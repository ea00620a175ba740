"""Which folder a version goes to, and what the switcher offers."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def _load() -> Any:
    spec = importlib.util.spec_from_file_location("publish", ROOT / "docs" / "publish.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


publish = _load()


def put(folder: Path, version: str) -> list[tuple[str, str, bool]]:
    """Publish a site that says which version it is of; what the switcher offers then."""
    built = folder / "built"
    built.mkdir(parents=True, exist_ok=True)
    (built / "index.html").write_text(version)
    pages = folder / "pages"
    pages.mkdir(exist_ok=True)
    publish.publish(built, pages, version)
    offered = json.loads((pages / "switcher.json").read_text())
    assert all(x["url"].startswith("https://jaxloss.github.io/jaxloss/") for x in offered)
    ends = {x["version"]: x["url"].split("/")[-2] for x in offered}
    return [(x["name"], ends[x["version"]], x.get("preferred", False)) for x in offered]


def said(folder: Path, version: str) -> str:
    return (folder / "pages" / version / "index.html").read_text()


def test_dev_is_stable_until_there_is_a_release(tmp_path: Path) -> None:
    assert put(tmp_path, "dev") == [("dev", "dev", False)]
    assert said(tmp_path, "stable") == "dev"
    assert "stable/index.html" in (tmp_path / "pages" / "index.html").read_text()
    assert (tmp_path / "pages" / ".nojekyll").exists()


def test_the_newest_release_is_stable(tmp_path: Path) -> None:
    put(tmp_path, "dev")
    put(tmp_path, "v0.9.0")
    offered = put(tmp_path, "v0.10.1")
    assert offered == [
        ("v0.10 (stable)", "stable", True),
        ("v0.9", "v0.9", False),
        ("dev", "dev", False),
    ]
    assert said(tmp_path, "stable") == said(tmp_path, "v0.10") == "v0.10.1"


def test_a_repair_of_an_old_release_leaves_the_newest(tmp_path: Path) -> None:
    put(tmp_path, "v0.10.0")
    put(tmp_path, "v0.9.3")
    put(tmp_path, "main")
    assert said(tmp_path, "stable") == "v0.10.0"
    assert said(tmp_path, "v0.9") == "v0.9.3"
    assert said(tmp_path, "dev") == "main"
