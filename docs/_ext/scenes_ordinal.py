"""Scenes of ordered classes; see `picture_scenes.py`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from matplotlib.axes import Axes
from picture_scenes import CURVES, MUTED, Scene

import jaxloss


def levels(name: str) -> list[Scene]:
    """The levels that each of five classes reaches."""
    reached = np.asarray(jaxloss.ordinal_levels(np.arange(5), 5))

    def paint(axes: Axes, small: bool) -> None:
        for label, row in enumerate(reached):
            for level, yes in enumerate(row):
                colour = CURVES[0] if yes else MUTED
                axes.bar(label, 0.86, 0.86, level - 0.43, color=colour, alpha=0.8 if yes else 0.15)
        if not small:
            axes.set(xlabel="class", ylabel="level", xticks=range(5), yticks=range(4))

    return [Scene(paint, "levels that a class has reached")]


SCENES: dict[str, Callable[[str], list[Scene]]] = {"ordinal_levels": levels}
