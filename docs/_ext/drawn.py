"""Pictures of losses in pages: the directive `picture`, and the cache behind it.

`pictures.py` draws. What it drew is kept under a hash of the package and of what draws, so that a
second build draws nothing. Called by itself this file draws some names in a process of its own:

    python drawn.py FOLDER KEY NAME...
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import traceback
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from tests.laws import compiling

HERE = Path(__file__).parent
# The file that pages with pictures depend on: it says of which package the pictures are.
KEY = "key"
# Our own files beside the one that draws: they decide nothing about a picture.
BESIDE = ("docstrings.py", "drawn.py", "links.py", "names.py", "reference.py", "tables.py")
LOG = logging.getLogger(__name__)


def key(package: Path) -> str:
    """A hash of all that decides how a picture looks.

    Args:
        package: The folder of jaxloss.
    """
    files = [*package.rglob("*.py"), *(x for x in HERE.rglob("*.py") if x.name not in BESIDE)]
    digest = hashlib.sha256(lean(LEAN_PROBE).encode())
    for file in sorted(files):
        digest.update(f"{file.name}\0".encode() + file.read_bytes())
    for library in ("jax", "matplotlib"):
        try:
            digest.update(version(library).encode())
        except PackageNotFoundError:
            continue
    return digest.hexdigest()


def names_drawn() -> frozenset[str]:
    """The names that have a picture; none while nothing draws."""
    if find_spec("pictures") is None:
        return frozenset()
    import pictures

    return pictures.NAMES


class Drawing:
    """Pictures that are being drawn, in processes of their own, while Sphinx reads pages.

    A page takes its pictures from the cache when it is written.
    """

    def __init__(self, folder: Path, package: Path) -> None:
        """Begin with what the cache lacks.

        Args:
            folder: Of the cache.
            package: The folder of jaxloss.
        """
        self.running: list[subprocess.Popen[bytes]] = []
        if find_spec("pictures") is None:
            LOG.warning("docs/_ext/pictures.py is missing: no loss has a picture")
            return
        folder.mkdir(parents=True, exist_ok=True)
        now = key(package)
        if not (folder / KEY).exists() or (folder / KEY).read_text() != now:
            (folder / KEY).write_text(now)
        stale = sorted(name for name in names_drawn() if _kept(folder, name).get("key") != now)
        if not stale:
            return
        count = min(4, os.cpu_count() or 1, len(stale))
        LOG.info("drawing %d pictures in %d processes", len(stale), count)
        command = [sys.executable, str(Path(__file__)), str(folder), now]
        paths = os.pathsep.join(x for x in (str(package.parent), *sys.path) if x)
        environment = {**_environment(), "PYTHONPATH": paths, "JAX_PLATFORMS": "cpu"}
        for i in range(count):
            drawing = [*command, *stale[i::count]]
            self.running.append(subprocess.Popen(drawing, env=environment, stderr=subprocess.PIPE))

    def wait(self, *_: Any) -> None:
        """Wait until all are drawn, and say what could not be."""
        while self.running:
            process = self.running.pop()
            _, said = process.communicate()
            if process.returncode:
                LOG.warning("a picture could not be drawn:\n%s", said.decode())


def _environment() -> dict[str, str]:
    """The environment, but that XLA does not optimise: most programs here run once.

    That takes a third of the time off. Pages that are executed compile as users do.
    """
    before = dict(os.environ)
    compiling.without_optimisations()
    inside = dict(os.environ)
    os.environ.clear()
    os.environ.update(before)
    return inside


def svg(folder: Path, name: str, small: bool) -> list[str]:
    """The picture of a loss from the cache; an empty list if it has none."""
    return _kept(folder, name).get("small" if small else "full", [])


def _kept(folder: Path, name: str) -> dict[str, Any]:
    file = folder / f"{name}.json"
    return json.loads(file.read_text()) if file.exists() else {}


LEAN_PROBE = '<svg>\n  <!-- x --><path d="M 12.3456 -0.0400"/></svg>'


def lean(picture: str) -> str:
    """An SVG without what a browser does not need: comments, white space, digits beyond 0.01."""
    picture = re.sub(r"<\?xml.*?\?>|<!DOCTYPE.*?>|<!--.*?-->", "", picture, flags=re.S)
    picture = re.sub(r"<metadata>.*?</metadata>", "", picture, flags=re.S)
    picture = re.sub(r"<[^>]+>", lambda tag: _short(tag[0]), picture)
    return re.sub(r">\s+<", "><", picture).strip()


def _short(tag: str) -> str:
    tag = re.sub(r"\s+", " ", tag)
    tag = re.sub(r"\d+\.\d{3,}", lambda x: f"{float(x[0]):.2f}", tag)
    return re.sub(r"(\.\d*?)0+(?!\d)", lambda x: x[1].rstrip("."), tag)


class picture(nodes.General, nodes.Element):
    """A drawing in a page. No text of it goes into the index of the search."""


class Picture(SphinxDirective):
    """`.. picture:: huber_loss`, and `:small:` for its thumbnail."""

    required_arguments = 1
    has_content = False
    option_spec: ClassVar = {"small": directives.flag}

    def run(self) -> list[nodes.Node]:
        """The picture, or a warning if there is none."""
        name = self.arguments[0]
        self.env.note_dependency(str(Path(self.config.pictures_folder) / KEY))
        if name not in names_drawn():
            LOG.warning("no picture of %s", name, location=self.get_location())
            return []
        return [picture(name=name, small="small" in self.options)]


def _visit(self: Any, node: picture) -> None:
    name, small = node["name"], node["small"]
    drawings = svg(Path(self.builder.config.pictures_folder), name, small)
    if not drawings:
        LOG.warning("the picture of %s is missing", name, location=self.builder.current_docname)
    kind = "picture small" if small else "picture"
    shown = "".join(drawings)
    self.body.append(f'<figure class="{kind}" data-name="{name}">{shown}</figure>\n')
    raise nodes.SkipNode


def _skip(self: Any, node: picture) -> None:
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive."""
    app.add_config_value("pictures_folder", "", "env")
    app.add_node(picture, html=(_visit, None), text=(_skip, None), latex=(_skip, None))
    app.add_directive("picture", Picture)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def main(folder: str, now: str, *names: str) -> int:
    """Draw names, and say of each that fails why."""
    import pictures

    failed = 0
    for name in names:
        try:
            kept = {
                "key": now,
                "full": [lean(x) for x in pictures.svg(name)],
                "small": [lean(x) for x in pictures.svg(name, small=True)],
            }
        except Exception:
            failed = 1
            print(f"{name}:\n{traceback.format_exc(limit=-4)}", file=sys.stderr)
            continue
        (Path(folder) / f"{name}.json").write_text(json.dumps(kept))
    return failed


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
