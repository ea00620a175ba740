"""Scenes of targets and advantages; see `picture_scenes.py`."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from picture_scenes import CURVES, INK, Scene

import jaxloss


def histogram(name: str) -> list[Scene]:
    """A number, or a distribution on other numbers, as a distribution on a grid."""
    grid = np.arange(-3.0, 4.0, dtype=np.float32)
    edges = np.append(grid - 0.5, np.float32(3.5))
    values, shares = np.array([-1.7, -0.4, 1.3], np.float32), np.array([0.2, 0.5, 0.3], np.float32)
    if name == "categorical_projection":
        found = jaxloss.categorical_projection(shares, values, grid)
    elif name == "two_hot":
        values, shares = np.array([1.3], np.float32), np.array([1.0], np.float32)
        found = jaxloss.two_hot(jnp.float32(1.3), grid)
    else:
        values, shares = np.array([1.3], np.float32), np.array([1.0], np.float32)
        found = jaxloss.hl_gauss(jnp.float32(1.3), edges, sigma=0.75)

    def paint(axes: Axes, small: bool) -> None:
        axes.bar(grid, np.asarray(found), 0.8, color=CURVES[0], alpha=0.7)
        axes.vlines(values, 0, shares, color=CURVES[1], linewidth=1.2 if small else 1.8)
        axes.plot(values, shares, "o", color=CURVES[1], markersize=2 if small else 5)
        if not small:
            axes.set(xlabel="atoms, or bins", ylabel="probability", xticks=grid)

    return [Scene(paint, "given: dots; on the grid: bars")]


def groups(name: str) -> list[Scene]:
    """The answers to three questions, and what they are above the others."""
    rewards = np.array(
        [[0.1, 0.9, 0.4, 0.3], [2.0, 2.6, 1.7, 2.2], [1.2, 1.2, 1.2, 1.2]], np.float32
    )
    found = np.asarray(jaxloss.group_advantages(rewards, scale="none"))

    def paint(axes: Axes, small: bool) -> None:
        for row, (reward, advantage) in enumerate(zip(rewards, found, strict=True)):
            at = row + 0.18 * (np.arange(4) - 1.5)
            mean = (reward - advantage).mean()
            axes.plot([row - 0.42, row + 0.42], [mean, mean], color=INK, linewidth=0.8)
            axes.vlines(at, mean, reward, color=CURVES[0], linewidth=1 if small else 1.6)
            axes.plot(at, reward, "o", color=CURVES[0], markersize=2 if small else 5)
        if not small:
            axes.set(xlabel="group", ylabel="reward", xticks=range(3))

    return [Scene(paint, "rewards, and the means of groups")]


SCENES: dict[str, Callable[[str], list[Scene]]] = {
    "two_hot": histogram,
    "hl_gauss": histogram,
    "categorical_projection": histogram,
    "group_advantages": groups,
}
