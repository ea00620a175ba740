"""What a browser sees of a site: width, console, requests, search, light and dark."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

PHONE = {"width": 390, "height": 844}
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND",  # as on a train
)
# WCAG 2.1, success criterion 1.4.11: graphics that are needed to understand a page.
CONTRAST = 3.0


def chromium() -> str | None:
    """Where Chromium is on this machine."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next((found for name in names if (found := shutil.which(name))), None)


@contextlib.contextmanager
def browsing(executable: str) -> Iterator[Any]:
    """A browser, as long as it is needed.

    Args:
        executable: Chromium.
    """
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=list(FLAGS))
        yield browser
        browser.close()


@contextlib.contextmanager
def page_of(browser: Any, faults: list[str], **options: Any) -> Iterator[Any]:
    """A page whose console, requests and failures are written down.

    Args:
        browser: The browser.
        faults: To which faults are added, each behind the page on which it was found.
        **options: Of the context: its size, its colour scheme.
    """
    context = browser.new_context(**options)
    page = context.new_page()

    def note(fault: str) -> None:
        faults.append(f"{page.url.rpartition('/site/')[2] or page.url}: {fault}")

    def asked(request: Any) -> None:
        if not request.url.startswith(("file:", "data:", "blob:")):
            note(f"asks another host for {request.url}")

    def failed(request: Any) -> None:
        # A request that the next page cuts off, that of the favicon, has not failed.
        if request.failure != "net::ERR_ABORTED":
            note(f"{request.url} failed: {request.failure}")

    def said(message: Any) -> None:
        if message.type == "error":
            note(f"the console says {message.text}")

    page.on("request", asked)
    page.on("requestfailed", failed)
    page.on("console", said)
    page.on("pageerror", lambda error: note(f"a script fails: {error}"))
    yield page
    context.close()


# Headings, formulas and what pictures say have to be read whole; code and tables may be scrolled.
CUT = """() => {
  const scrolled = [...document.querySelectorAll("h1, h2, h3, div.formula pre")]
    .filter((x) => x.scrollWidth > x.clientWidth + 1 && x.clientWidth > 0)
    .map((x) => x.textContent.trim().split("\\n")[0]);
  const beyond = [...document.querySelectorAll("figure.picture svg text")]
    .filter((x) => {
      const text = x.getBoundingClientRect();
      const paper = x.ownerSVGElement.getBoundingClientRect();
      return text.left < paper.left - 1 || text.right > paper.right + 1
        || text.top < paper.top - 1 || text.bottom > paper.bottom + 1;
    })
    .map((x) => x.textContent.trim());
  return [...scrolled, ...beyond];
}"""


def on_a_phone(browser: Any, files: Iterable[Path]) -> list[str]:
    """Open pages on a phone: what is too wide, what fails, what asks another host.

    Args:
        browser: The browser.
        files: The pages.
    """
    faults: list[str] = []
    with page_of(browser, faults, viewport=PHONE) as page:
        for file in files:
            page.goto(file.resolve().as_uri())
            width = page.evaluate("document.documentElement.scrollWidth")
            if width > PHONE["width"]:
                faults.append(f"{file.name}: {width} px wide, for {PHONE['width']}")
            for text in page.evaluate(CUT):
                faults.append(f"{file.name}: cut off: {text}")
    return faults


def searched(browser: Any, site: Path, wanted: dict[str, str]) -> list[str]:
    """Search, with no server and no network.

    Args:
        browser: The browser.
        site: Its folder.
        wanted: The page that each question should find among the first three.
    """
    faults: list[str] = []
    with page_of(browser, faults) as page:
        for question, answer in wanted.items():
            page.goto((site / "search.html").resolve().as_uri() + f"?q={question}")
            found = "#search-results li a"
            with contextlib.suppress(Exception):  # then nothing was found, which is said below
                page.wait_for_selector(found, timeout=5_000)
            links = page.eval_on_selector_all(found, "xs => xs.slice(0, 3).map(x => x.href)")
            if not any(answer in link for link in links):
                faults.append(f"search for {question!r} finds {links}, not {answer}")
    return faults


COLOURS = """() => {
  const seen = (element, property) => getComputedStyle(element)[property];
  const root = getComputedStyle(document.documentElement);
  const probe = document.createElement("i");
  document.body.append(probe);
  const curves = [1, 2, 3, 4, 5, 6].map((n) => {
    probe.style.color = root.getPropertyValue(`--curve-${n}`) || "transparent";
    return seen(probe, "color");
  });
  const figure = document.querySelector("figure.picture");
  return {
    paper: seen(document.body, "backgroundColor"),
    text: seen(document.querySelector("article p") || document.body, "color"),
    figure: figure ? seen(figure, "color") : "",
    curves,
  };
}"""


def themes(browser: Any, file: Path) -> list[str]:
    """Light and dark: the paper changes, and text, lines and curves stand out on both.

    Args:
        browser: The browser.
        file: A page with a picture.
    """
    faults: list[str] = []
    papers = {}
    for scheme in ("light", "dark"):
        with page_of(browser, faults, color_scheme=scheme) as page:
            page.goto(file.resolve().as_uri())
            colours = page.evaluate(COLOURS)
        papers[scheme] = luminance(colours["paper"])
        if not colours["figure"]:
            faults.append(f"{file.name}: no picture to look at")
            continue
        drawn = {"text": colours["text"], "lines of pictures": colours["figure"]}
        drawn |= {f"curve {n}": x for n, x in enumerate(colours["curves"], 1)}
        for what, colour in drawn.items():
            stands_out = contrast(luminance(colour), papers[scheme])
            if stands_out < CONTRAST:
                faults.append(f"{scheme}: {what}, a contrast of {stands_out:.1f}, for {CONTRAST}")
    if papers["dark"] >= papers["light"]:
        faults.append(f"{file.name}: no darker in the dark")
    return faults


def luminance(colour: str) -> float:
    """The relative luminance of WCAG of "rgb(1, 2, 3)"; a colour that shows nothing is black."""
    numbers = [float(x) for x in colour.partition("(")[2].rstrip(")").split(",")]
    red, green, blue = (
        x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4
        for x in (number / 255 for number in numbers[:3])
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(first: float, second: float) -> float:
    """The contrast of WCAG of two luminances, from 1 to 21."""
    return (max(first, second) + 0.05) / (min(first, second) + 0.05)
