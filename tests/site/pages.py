"""What can be told of a site from its files: links, anchors, pictures, names, weights."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

# A page that a phone loads over a slow line; the gallery is the heaviest, with all thumbnails: 178
# of 4.8 kB.
HEAVIEST = 900_000
WIDEST_FORMULA = 60
MOST_ENTRIES = 7
# What a browser asks for by itself, unlike a link that a reader follows.
ASKED = {("img", "src"), ("script", "src"), ("source", "src"), ("iframe", "src"), ("video", "src")}
ASKED_LINKS = {"stylesheet", "icon", "preload", "preconnect", "modulepreload", "manifest"}


@dataclass
class Picture:
    """A figure of a page.

    Attributes:
        name: The loss that it shows.
        drawings: How many drawings it has.
        named: How many of them say what they are, to one who does not see them.
        themed: Whether its lines take the colour of the text.
    """

    name: str
    drawings: int = 0
    named: int = 0
    themed: bool = False


@dataclass
class Page(HTMLParser):
    """A page, read once."""

    path: Path
    ids: Counter[str] = field(default_factory=Counter)
    links: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    formulas: list[str] = field(default_factory=list)
    entries: list[str] = field(default_factory=list)
    open: list[str] = field(default_factory=list)
    text: str = ""

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.source = self.path.read_text()
        self.feed(self.source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what a tag says."""
        given = {key: value or "" for key, value in attrs}
        if "id" in given:
            self.ids[given["id"]] += 1
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if tag == "link" and "href" in given:
            asked = ASKED_LINKS.intersection(given.get("rel", "").split())
            (self.asked if asked else self.links).append(given["href"])
        self.asked += [value for key, value in given.items() if (tag, key) in ASKED]
        kind = given.get("class", "").split()
        if tag == "figure" and "picture" in kind:
            self.pictures.append(Picture(given.get("data-name", "")))
        if self.pictures and "figure" in self.open:
            shown = self.pictures[-1]
            shown.drawings += tag == "svg"
            shown.named += tag == "title"
            shown.themed |= "currentColor" in " ".join(given.values())
        if tag == "div" and "formula" in kind:
            self.formulas.append("")
            self.open.append("formula")  # closed with the text in it
        if tag == "ul" and "bd-navbar-elements" in kind and not self.entries:
            self.open.append("header")  # the first of two: the other is a phone's
        elif tag in ("figure", "pre", "ul", "li", "style"):
            self.open.append(tag)
        if tag == "li" and self.open[-2:-1] == ["header"]:
            self.entries.append("")

    def handle_endtag(self, tag: str) -> None:
        """Leave what the tag closes."""
        if self.open and (self.open[-1] == tag or (self.open[-1], tag) == ("header", "ul")):
            self.open.pop()
            if tag == "pre" and self.open[-1:] == ["formula"]:
                self.open.pop()

    def handle_data(self, data: str) -> None:
        """Note a text."""
        if self.pictures and "figure" in self.open and "style" in self.open:
            self.pictures[-1].themed |= "currentColor" in data
        if self.open[-2:] == ["formula", "pre"]:
            self.formulas[-1] += data
        self.text += data


def read(site: Path) -> dict[str, Page]:
    """All pages of a site, by path."""
    files = sorted(x for x in site.rglob("*.html") if x.relative_to(site).parts[0] != "_static")
    return {str(file.relative_to(site)): Page(file) for file in files}


def broken(site: Path, pages: dict[str, Page]) -> Iterator[str]:
    """Links and anchors that lead nowhere, and files that a page asks for in vain."""
    for where, page in pages.items():
        for link in {*page.links, *page.asked}:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            # A path as it is written: one that leaves the site may well be there on this machine.
            path = os.path.normpath(Path(where).parent / unquote(parts.path))
            name = path if parts.path else where
            if name.startswith("..") or not (site / name).is_file():
                yield f"{where}: {link} leads nowhere"
            elif parts.fragment and name in pages and not pages[name].ids[unquote(parts.fragment)]:
                yield f"{where}: {link} has no such anchor"


def foreign(pages: dict[str, Page]) -> Iterator[str]:
    """What a page asks other hosts for."""
    for where, page in pages.items():
        for link in page.asked:
            parts = urlsplit(link)
            if parts.netloc or parts.scheme not in ("", "data"):
                yield f"{where}: asks for {link}"


def unpictured(pages: dict[str, Page], losses: Iterable[str]) -> Iterator[str]:
    """Losses without a picture on their page or in the gallery, or with one that is no good."""
    gallery = {x.name for x in pages["gallery.html"].pictures} if "gallery.html" in pages else set()
    for name in losses:
        page = pages.get(f"reference/{name}.html")
        shown = [x for x in page.pictures if x.name == name and x.drawings] if page else []
        if not shown:
            yield f"{name}: no picture on its page"
        elif not all(x.themed and x.named >= x.drawings for x in shown):
            yield f"{name}: a picture that is not in the colour of the text, or has no title"
        if name not in gallery:
            yield f"{name}: no picture in the gallery"


def unnamed(pages: dict[str, Page], names: Iterable[str]) -> Iterator[str]:
    """Public names without a page, with an unreadable signature, or missing from the index."""
    index = {link.partition("#")[0] for link in pages["reference/index.html"].links}
    for name in names:
        page = pages.get(f"reference/{name}.html")
        if page is None:
            yield f"{name}: no page"
            continue
        if f"{name}.html" not in index:
            yield f"{name}: not in the index of the reference"
        if not page.ids[f"jaxloss.{name}"]:
            yield f"{name}: its page does not describe it"
        if found := re.search(r"<function \w+|<class '|object at 0x|jaxtyping\.", page.text):
            yield f"{name}: its page says {found[0]!r}"


def twice(pages: dict[str, Page]) -> Iterator[str]:
    """Names of anchors that a page gives twice; a drawing would take another's clip or marker."""
    for where, page in pages.items():
        for name, times in page.ids.items():
            if times > 1:
                yield f"{where}: {times} elements are called {name}"


def heavy(pages: dict[str, Page], limit: int = HEAVIEST) -> Iterator[str]:
    """Pages above a number of bytes."""
    for where, page in pages.items():
        size = len(page.source.encode())
        if size > limit:
            yield f"{where}: {size / 1000:.0f} kB, for {limit / 1000:.0f}"


def wide_formulas(pages: dict[str, Page], limit: int = WIDEST_FORMULA) -> Iterator[str]:
    """Lines of formulas above a number of characters."""
    for where, page in pages.items():
        for line in "\n".join(page.formulas).splitlines():
            if len(line) > limit:
                yield f"{where}: a formula of {len(line)} characters, for {limit}: {line}"


def headers(pages: dict[str, Page], most: int = MOST_ENTRIES) -> Iterator[str]:
    """Pages whose header has more entries than fit, or none at all."""
    for where, page in pages.items():
        if not 0 < len(page.entries) <= most:
            yield f"{where}: {len(page.entries)} entries in the header, for 1 to {most}"
