"""How pictures of losses look. Of the package, this module alone needs matplotlib."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ._curves import Curve

# Of Okabe and Ito's colours, which colour-blind readers tell apart, those that stand out from
# white, from dark to light: in print without colours they are greys of their own.
COLOURS = ("#000000", "#0072B2", "#D55E00", "#CC79A7", "#56B4E9", "#E69F00")
DASHES = ("-", (0, (5, 1.5)), (0, (1, 1.2)), (0, (6, 1.5, 1, 1.5)), (0, (3, 1)), (0, (8, 2)))
# Those of so many curves, as far from each other as may be.
CHOICES = {1: (1,), 2: (1, 5), 3: (0, 2, 5), 4: (0, 1, 3, 5), 5: (0, 1, 2, 3, 5)}


class Picture(Figure):
    """A figure that a notebook shows, whether or not pyplot was imported, and once only."""

    def _repr_png_(self) -> bytes:
        file = io.BytesIO()
        self.savefig(file, format="png", bbox_inches="tight")
        return file.getvalue()


def looks(count: int) -> list[dict[str, Any]]:
    """Colours and dashes of so many curves."""
    chosen = CHOICES.get(count, range(len(COLOURS)))
    colours = [COLOURS[i] for i in chosen]
    return [
        {"color": colours[i % len(colours)], "linestyle": DASHES[i % len(DASHES)]}
        for i in range(count)
    ]


def figure(panels: int, width: float = 4.0, height: float = 3.2) -> tuple[Figure, list[Axes]]:
    """A figure with axes side by side."""
    picture = Picture(figsize=(width * panels, height), dpi=120, layout="constrained")
    return picture, list(np.ravel(picture.subplots(1, panels, squeeze=False)))


def draw(axes: Axes, order: int, curve: Curve, look: dict[str, Any], label: str | None) -> None:
    """One curve on the axes of one order: the value, the slope or the curvature.

    A dot is the height exactly at a place where this order jumps, such as the slope at a kink. A
    short bar on a curve marks where it bends: a kink of the value, a threshold of the slope.
    """
    axes.plot(curve.x, curve.orders[order], label=label, linewidth=1.8, **look)
    marker = {"color": look["color"], "linestyle": "none", "zorder": 5}
    dots = [(b.x, b.heights[order]) for b in curve.breaks if b.order == order]
    bars = [(b.x, b.heights[order]) for b in curve.breaks if b.order == order + 1]
    for points, symbol, size in ((dots, "o", 5.5), (bars, "|", 9)):
        if points:
            axes.plot(*np.transpose(points), marker=symbol, markersize=size, **marker)


def furnish(axes: Axes, title: str, x: str, heights: Sequence[np.ndarray]) -> None:
    """Title, label, grid, and limits that a pole does not spoil."""
    axes.set_title(title, loc="left", fontsize=10)
    # A label is not to be longer than its panel.
    axes.set_xlabel(textwrap.fill(x, 50))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    found = limits(heights)
    if found:
        axes.set_ylim(*found)


def limits(heights: Sequence[np.ndarray]) -> tuple[float, float] | None:
    """From where to where a panel shows, if all of it would show nothing else but a pole."""
    finite = np.concatenate([x[np.isfinite(x)] for x in heights] or [np.zeros(0)])
    if len(finite) < 10:
        return None
    low, inner_low, inner_high, high = np.quantile(finite, [0, 0.04, 0.96, 1])
    inner = max(inner_high - inner_low, 1e-30)
    if high - low <= 4 * inner:
        return None
    ends = max(low, inner_low - 0.5 * inner), min(high, inner_high + 0.5 * inner)
    room = 0.05 * (ends[1] - ends[0])
    return ends[0] - room, ends[1] + room


def shade(axes: Axes, grid: tuple[np.ndarray, np.ndarray], heights: np.ndarray, levels: int) -> Any:
    """Filled contours, from dark to light in grey too."""
    shown = np.ma.masked_invalid(heights)
    found = limits([heights])
    if found:
        shown = np.ma.masked_invalid(np.clip(heights, *found))
    if shown.count() and np.ptp(shown.compressed()) > 0:
        drawn = axes.contourf(*grid, shown, levels=levels, cmap="cividis")
        axes.contour(*grid, shown, levels=drawn.levels, colors="white", linewidths=0.3)
        axes.figure.colorbar(drawn, ax=axes, shrink=0.9)


def arrows(
    axes: Axes, x: np.ndarray, y: np.ndarray, slope_x: np.ndarray, slope_y: np.ndarray
) -> None:
    """Where a step of gradient descent goes: down the slopes, the steepest for the longest."""
    finite = np.isfinite(slope_x) & np.isfinite(slope_y)
    across, along = np.where(finite, -slope_x, 0), np.where(finite, -slope_y, 0)
    # On the page: axes need not have one scale.
    across, along = across / np.ptp(x), along / np.ptp(y)
    lengths = np.hypot(across, along)
    longest = np.max(lengths)
    if not longest > 0:
        return
    seen = lengths > 0.03 * longest
    axes.quiver(
        x[seen],
        y[seen],
        across[seen] / longest,
        along[seen] / longest,
        color="white",
        edgecolor="black",
        linewidth=0.5,
        scale=len(np.unique(x)) * 1.1,
        width=0.006,
        pivot="mid",
    )
