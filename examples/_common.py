"""What the examples share: the data, the command line, the look of the pictures."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from sklearn.datasets import load_diabetes

FORMATS = (".png", ".pdf", ".svg", ".jpg")

# Okabe and Ito's palette, which colour-blind readers tell apart.
LOOKS = (
    {"color": "#0072B2", "marker": "o"},
    {"color": "#D55E00", "marker": "s"},
    {"color": "#009E73", "marker": "^", "linestyle": "--"},
    {"color": "#CC79A7", "marker": "v", "linestyle": "-."},
    {"color": "#000000", "marker": "D", "linestyle": ":"},
)
matplotlib.rcParams.update(
    {
        "axes.grid": True,
        "axes.spines.right": False,
        "axes.spines.top": False,
        "axes.titlesize": 11,
        "axes.titleweight": "bold",
        "grid.alpha": 0.25,
        "legend.fontsize": 9,
        "lines.linewidth": 2,
    }
)


@functools.cache
def diabetes() -> tuple[np.ndarray, np.ndarray]:
    """Ten measurements of 442 patients, and how far their disease went in a year (25 to 346)."""
    inputs, targets = load_diabetes(return_X_y=True, scaled=False)
    return inputs.astype(np.float32), targets.astype(np.float32)


class Parser(argparse.ArgumentParser):
    """A parser that refuses in one line, with exit status 2."""

    def __init__(self, description: str | None) -> None:
        super().__init__(
            description=description,
            allow_abbrev=False,
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        )

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}\n")


def between(low: float, high: float) -> Callable[[str], float]:
    """An argument type: a number from `low` to `high`, whole if they are."""

    def number(text: str) -> float:
        value = type(low)(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"must be between {low} and {high}, got {text}")
        return value

    return number


def picture_path(text: str) -> Path:
    """An argument type: a picture that can be written. Makes the folder that it will lie in."""
    path = Path(text)
    if path.suffix.lower() not in FORMATS:
        raise argparse.ArgumentTypeError(f"{text!r} must end in one of {' '.join(FORMATS)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = not path.exists()
        path.open("ab").close()
        if fresh:
            path.unlink(missing_ok=True)  # Of several processes one may be first.
    except OSError as error:
        raise argparse.ArgumentTypeError(f"cannot write {text!r}: {error.strerror}") from None
    return path


def figure(title: str, panels: str, size: tuple[float, float]) -> tuple[Figure, dict]:
    """A picture and its panels by letter, `size` in inches. Without pyplot no window opens."""
    picture = Figure(figsize=size, dpi=120, layout="constrained")
    picture.suptitle(title, fontsize=14, fontweight="bold")
    return picture, picture.subplot_mosaic(panels)


def save(picture: Figure, path: Path) -> None:
    picture.savefig(path)
    print(f"Picture: {path}")
