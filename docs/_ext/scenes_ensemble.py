"""Scenes of the scores of ensembles and intervals; see `picture_scenes.py`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
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

    return [Scene(paint, "members, target; arrows: downhill")]


def vectors(name: str) -> list[Scene]:
    """An ensemble in a plane, and where its score takes the members."""
    rng = np.random.default_rng(1)
    places = (rng.normal(size=(9, 2)) * (1.0, 0.6)).astype(np.float32)
    target = np.array([1.3, 0.5], np.float32)
    steps = -np.asarray(jax.grad(jaxloss.energy_score)(places, target))

    def paint(axes: Axes, small: bool) -> None:
        for place, step in zip(places, steps, strict=True):
            _arrow(axes, place, 5 * step, small=small)
        axes.plot(*places.T, "o", color=CURVES[0], markersize=3 if small else 6)
        axes.plot(*target, "s", color=CURVES[1], markersize=4 if small else 7)
        axes.set(xlim=(-2.2, 2.2), ylim=(-2.0, 2.0))
        _bare(axes)

    return [Scene(paint, "members, target; arrows: downhill", square=True)]


def intervals(name: str) -> list[Scene]:
    """Intervals of 80 % of a standard normal distribution and of others, by their mean score."""
    rng = np.random.default_rng(0)
    targets = rng.normal(size=2000).astype(np.float32)
    ends = np.linspace(0.1, 3.0, 30).astype(np.float32)
    alphas = (0.1, 0.2, 0.5)

    @jax.jit
    def mean(end: Any, alpha: Any) -> Any:
        low, high = -end * jnp.ones_like(targets), end * jnp.ones_like(targets)
        if name == "interval_score":
            score = jaxloss.interval_score(low, high, targets, alpha=alpha)
        else:
            several = low[:, None], high[:, None], 0.0, targets, alpha
            score = jaxloss.weighted_interval_score(*several)
        return jnp.mean(score)

    def paint(axes: Axes, small: bool) -> None:
        for i, alpha in enumerate(alphas):
            heights = np.asarray(jax.vmap(mean, (0, None))(ends, np.float32(alpha)))
            axes.plot(ends, heights, color=CURVES[i], label=f"alpha = {alpha:g}")
            best = heights.argmin()
            axes.plot(ends[best], heights[best], "o", color=CURVES[i], markersize=3 if small else 5)
        if not small:
            axes.set(xlabel="half of the width of all intervals", ylabel="mean score")
            axes.legend(frameon=False)

    return [Scene(paint, "normal targets: least at their quantiles")]


SCENES: dict[str, Callable[[str], list[Scene]]] = {
    "crps_ensemble": members,
    "energy_score": vectors,
    "interval_score": intervals,
    "weighted_interval_score": intervals,
}
