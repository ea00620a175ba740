"""Scenes of sampled rankings; see `picture_scenes.py`."""

from __future__ import annotations

from collections.abc import Callable

import jax
import numpy as np
from matplotlib.axes import Axes
from picture_scenes import CURVES, INK, Scene

import jaxloss


def first_places(name: str) -> list[Scene]:
    """How often each of four documents comes first, and how probable that is."""
    scores = np.array([2.0, 1.0, 0.5, 0.0], np.float32)
    sampled = jaxloss.gumbel_scores(scores, jax.random.key(0), samples=200)
    share = np.bincount(np.argmax(np.asarray(sampled), -1), minlength=4) / 200
    probable = np.asarray(jax.nn.softmax(scores))

    def paint(axes: Axes, small: bool) -> None:
        axes.bar(range(4), share, 0.8, color=CURVES[0], alpha=0.8)
        axes.plot(range(4), probable, "o", color=INK, markersize=3 if small else 5)
        if not small:
            axes.set(xlabel="document", ylabel="first in, of all samples", xticks=range(4))

    return [Scene(paint, "how often a document is first, and its softmax")]


SCENES: dict[str, Callable[[str], list[Scene]]] = {"gumbel_scores": first_places}
