"""Scenes of the scores of ensembles and intervals; see `picture_scenes.py`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from matplotlib.axes import Axes
from picture_scenes import CURVES, MUTED, Scene, _arrow, _bare

import jaxloss


def members(name: str) -> list[Scene]:
    """An ensemble on a line, and where three kinds of score take its members."""
    places = np.array([-2.6, -1.3, -0.9, 0.4, 0.8, 2.9], np.float32)
    target = np.float32(1.3)
    kinds = ("biased", "almost_fair", "fair")

    def slopes(x: Any) -> list[Any]:
        scores = [functools.partial(jaxloss.crps_ensemble, kind=k, alpha=0.5) for k in kinds]
        return [jax.grad(score)(x, target) for score in scores]

    def paint(axes: Axes, small: bool) -> None:
        axes.plot([target, target], [-0.5, 2.5], color=CURVES[1], linewidth=1.2)
        for height, (kind, slope) in enumerate(zip(kinds, slopes(places), strict=True)):
            axes.plot([-4.2, 4.2], [height, height], color=MUTED, linewidth=0.5, alpha=0.5)
            axes.plot(
                places, 0 * places + height, "o", color=CURVES[0], markersize=3 + 3 * (not small)
            )
            for place, step in zip(places, np.asarray(slope), strict=True):
                _arrow(axes, (place, height), (-3.5 * step, 0.0), small=small)
            if not small:
                axes.text(-4.2, height + 0.2, kind)
        axes.set(xlim=(-4.4, 4.4), ylim=(-0.6, 2.7))
        _bare(axes)

    return [Scene(paint, "members, and the target as a line; arrows: downhill")]


SCENES: dict[str, Callable[[str], list[Scene]]] = {"crps_ensemble": members}
