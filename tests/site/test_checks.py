"""Each check of the gate, on a site of one fault and on one without."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from tests.site import looks, pages

HEADER = '<ul class="bd-navbar-elements"><li><a href="a.html">A</a></li></ul>'
GOOD = f"""<html><head><title>A</title><link rel="icon" href="icon.svg"></head><body>
{HEADER}<article><p id="top">text <a href="#top">up</a></p></article>
<a href="reference/index.html">all</a></body></html>"""
FIGURE = (
    '<figure class="picture" data-name="x_loss"><svg><title>x</title>'
    '<path stroke="currentColor"/></svg></figure>'
)
REFERENCE = f"""<html><body>{HEADER.replace("a.html", "../a.html")}
<div id="jaxloss.x_loss">x_loss(predictions)</div>{FIGURE}
<div class="formula"><pre>e^2 / 2</pre></div><pre>{">>> " * 20}</pre></body></html>"""
INDEX = (
    f'<html><body>{HEADER.replace("a.html", "../a.html")}<a href="x_loss.html">x</a></body></html>'
)
ICON = '<svg xmlns="http://www.w3.org/2000/svg"/>'


def site_of(folder: Path, **changed: str) -> dict[str, pages.Page]:
    """A small site that has no fault, but for files that are given otherwise.

    Args:
        folder: Where it is written.
        **changed: What stands in a file, by its name without suffix.
    """
    site = {
        "a.html": changed.get("a", GOOD),
        "gallery.html": changed.get("gallery", f"<html><body>{HEADER}{FIGURE}</body></html>"),
        "reference/index.html": changed.get("index", INDEX),
        "reference/x_loss.html": changed.get("x_loss", REFERENCE),
        "icon.svg": ICON,
    }
    (folder / "reference").mkdir(parents=True)
    (folder / "_static").mkdir()
    (folder / "_static" / "template.html").write_text('<a href="{{ a }}">of the theme</a>')
    for name, text in site.items():
        (folder / name).write_text(text)
    return pages.read(folder)


def faults(folder: Path, read: dict[str, pages.Page]) -> list[str]:
    """What all checks of files find."""
    found: list[Iterable[str]] = [
        pages.broken(folder, read),
        pages.foreign(read),
        pages.unpictured(read, ["x_loss"]),
        pages.unnamed(read, ["x_loss"]),
        pages.twice(read),
        pages.heavy(read, limit=2000),
        pages.wide_formulas(read),
        pages.headers(read, most=2),
    ]
    return [fault for check in found for fault in check]


def test_a_good_site_has_no_fault(tmp_path: Path) -> None:
    assert faults(tmp_path / "site", site_of(tmp_path / "site")) == []


PLANTED = {
    "a.html: b.html leads nowhere": {"a": GOOD.replace("#top", "b.html")},
    "a.html: ../../etc.html leads nowhere": {"a": GOOD.replace("#top", "../../etc.html")},
    "a.html: #left has no such anchor": {"a": GOOD.replace("#top", "#left")},
    "a.html: reference/index.html#x has no such anchor": {
        "a": GOOD.replace("index.html", "index.html#x")
    },
    "a.html: gone.svg leads nowhere": {"a": GOOD.replace("icon.svg", "gone.svg")},
    "a.html: asks for https://x.invalid/a.js": {
        "a": GOOD + '<script src="https://x.invalid/a.js"></script>'
    },
    "a.html: asks for //x.invalid/a.css": {
        "a": GOOD + '<link rel="stylesheet" href="//x.invalid/a.css">'
    },
    "x_loss: no picture on its page": {"x_loss": REFERENCE.replace(FIGURE, "")},
    "x_loss: a picture that is not in the colour of the text, or has no title": {
        "x_loss": REFERENCE.replace("currentColor", "#000")
    },
    "x_loss: no picture in the gallery": {"gallery": f"<html><body>{HEADER}</body></html>"},
    "x_loss: not in the index of the reference": {"index": INDEX.replace("x_loss.html", "")},
    "x_loss: its page does not describe it": {"x_loss": REFERENCE.replace("jaxloss.", "")},
    "x_loss: its page says '<function mean'": {
        "x_loss": REFERENCE.replace("(predictions)", "(fn=&lt;function mean at 1&gt;)")
    },
    "a.html: 2 elements are called top": {"a": GOOD + '<p id="top"></p>'},
    "a.html: 2 kB, for 2": {"a": GOOD + "x" * 2000},
    "reference/x_loss.html: a formula of 61 characters, for 60: " + "e" * 61: {
        "x_loss": REFERENCE.replace("e^2 / 2", "e" * 61)
    },
    "a.html: 3 entries in the header, for 1 to 2": {
        "a": GOOD.replace("<li>", "<li></li><li></li><li>")
    },
    "a.html: 0 entries in the header, for 1 to 2": {"a": GOOD.replace(HEADER, "")},
}


@pytest.mark.parametrize("fault", PLANTED)
def test_a_planted_fault_is_found(tmp_path: Path, fault: str) -> None:
    folder = tmp_path / "site"
    assert fault in faults(folder, site_of(folder, **PLANTED[fault]))


def test_a_page_that_is_missing(tmp_path: Path) -> None:
    read = site_of(tmp_path / "site")
    assert "y_loss: no page" in list(pages.unnamed(read, ["y_loss"]))
    assert "y_loss: no picture on its page" in list(pages.unpictured(read, ["y_loss"]))


# In the browser.

SEEN = {
    "a.html: 500 px wide, for 390": '<div style="width: 500px">x</div>',
    "a.html: cut off: e + e": (
        '<div class="formula"><pre style="width: 9px; overflow: auto">e + e</pre></div>'
    ),
    "a.html: cut off: x_x_x_x": '<h1 style="width: 9px; overflow: hidden">x_x_x_x</h1>',
    "a.html: cut off: a label": (
        '<figure class="picture"><svg viewBox="0 0 90 90" width="90"><text x="60" y="50">a label'
        "</text></svg></figure>"
    ),
    "a.html: the console says no": "<script>console.error('no')</script>",
    "a.html: a script fails: no": "<script>throw Error('no')</script>",
    "a.html: asks another host for https://x.invalid/a.png": (
        '<img src="https://x.invalid/a.png">'
    ),
    "gone.js failed: net::ERR_FILE_NOT_FOUND": '<script src="gone.js"></script>',
}


@pytest.mark.parametrize("fault", SEEN)
def test_a_browser_sees_a_planted_fault(browser: Any, tmp_path: Path, fault: str) -> None:
    page = (
        "<html><head><link rel='icon' href='data:,'></head><body style='margin: 0'>{}</body></html>"
    )
    file = tmp_path / "site" / "a.html"
    file.parent.mkdir()
    file.write_text(page.format(""))
    assert looks.on_a_phone(browser, [file]) == []
    file.write_text(page.format(SEEN[fault]))
    assert any(fault in found for found in looks.on_a_phone(browser, [file]))


def test_a_browser_sees_that_nothing_is_found(browser: Any, tmp_path: Path) -> None:
    found = '<div id="search-results"><ul><li><a href="x_loss.html">x</a></li></ul></div>'
    (tmp_path / "search.html").write_text(f"<html><body>{found}</body></html>")
    assert looks.searched(browser, tmp_path, {"x": "x_loss.html"}) == []
    assert "not y_loss.html" in looks.searched(browser, tmp_path, {"y": "y_loss.html"})[0]


THEMED = """<html><head><style>
:root {{ color-scheme: light dark; {curves} }}
body {{ background: #fff; color: #222; }}
@media (prefers-color-scheme: dark) {{ body {{ background: {dark}; color: {ink}; }} }}
</style></head><body><article><p>text</p></article>
<figure class="picture"></figure></body></html>"""
CURVES = " ".join(f"--curve-{n}: #808080;" for n in range(1, 7))


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({}, ""),
        ({"dark": "#fff", "ink": "#222"}, "a.html: no darker in the dark"),
        ({"ink": "#222"}, "dark: text, a contrast of 1."),
        ({"ink": "#222"}, "dark: lines of pictures, a contrast of 1."),
        ({"curves": CURVES.replace("#808080", "#eee", 1)}, "light: curve 1, a contrast of 1.2"),
    ],
)
def test_a_browser_sees_colours(
    browser: Any, tmp_path: Path, changed: dict[str, str], fault: str
) -> None:
    file = tmp_path / "a.html"
    file.write_text(THEMED.format(**{"dark": "#111", "ink": "#eee", "curves": CURVES, **changed}))
    found = looks.themes(browser, file)
    assert any(fault in x for x in found) if fault else found == []
