"""Scenes of the losses of times to events; see `picture_scenes.py`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from picture_scenes import CURVES, INK, Scene, _arrow, heat

import jaxloss

TIMES = np.array([1.0, 2.0, 2.0, 3.0, 4.5, 6.0], np.float32)
EVENTS = np.array([True, True, True, False, True, False])


def cohort(name: str) -> list[Scene]:
    """Examples by their times, with log hazards that the loss takes up and down."""
    scores = np.array([0.2, -0.6, 1.0, 0.9, -0.3, 0.5], np.float32)
    steps = -np.asarray(jax.grad(jaxloss.cox_partial_likelihood)(scores, TIMES, EVENTS))
    # Two of them have their events at one time.
    places = TIMES + np.array([0.0, -0.2, 0.2, 0.0, 0.0, 0.0])

    def paint(axes: Axes, small: bool) -> None:
        for place, score, step, event in zip(places, scores, steps, EVENTS, strict=True):
            look: dict[str, Any] = {"color": CURVES[0], "fillstyle": "full" if event else "none"}
            axes.plot(place, score, "o", markersize=4 if small else 8, **look)
            _arrow(axes, (place, score), (0, step), CURVES[1], small)
        axes.set(xlim=(0.3, 6.7), ylim=(-1.9, 2.2))
        if not small:
            axes.set(xlabel="time; open: censored", ylabel="log hazard")

    return [Scene(paint, "six examples; arrows: downhill")]


def in_intervals(name: str) -> list[Scene]:
    """Logits of intervals, and where the loss takes them, of an event and without one."""
    logits = np.array([-1.0, 0.3, -0.4, 0.6, -0.8, 0.1], np.float32)

    def scene(event: bool, title: str) -> Scene:
        steps = -np.asarray(jax.grad(getattr(jaxloss, name))(logits, jnp.asarray(3), event))

        def paint(axes: Axes, small: bool) -> None:
            axes.bar(range(6), logits + 2.2, bottom=-2.2, color=CURVES[0], alpha=0.4)
            axes.axvline(3, color=INK, linestyle="-" if event else ":", linewidth=0.8)
            for i, (z, step) in enumerate(zip(logits, steps, strict=True)):
                _arrow(axes, (i, z), (0, 1.2 * step), CURVES[1], small)
            axes.set(xlim=(-0.6, 5.6), ylim=(-2.3, 2.3))
            if not small:
                axes.set(xlabel="interval", ylabel="logit", xticks=range(6))

        return Scene(paint, title)

    return [
        scene(True, "an event in interval 3; arrows: downhill"),
        scene(False, "censored after interval 3"),
    ]


def pairs(name: str) -> list[Scene]:
    """The gradient in the logits of five examples, in the order of their events."""
    rng = np.random.default_rng(2)
    logits = rng.normal(0, 0.7, (5, 6)).astype(np.float32)
    durations, events = np.array([0, 1, 2, 4, 5]), np.array([True, True, False, True, False])
    loss = functools.partial(jaxloss.deephit_ranking_loss, temperature=0.5)
    slopes = np.asarray(jax.grad(loss)(logits, durations, events))

    def paint(axes: Axes, small: bool) -> None:
        heat(axes, slopes, small, "interval", "example, by time", signed=True)
        for i, (place, event) in enumerate(zip(durations, events, strict=True)):
            look: dict[str, Any] = {"color": INK, "fillstyle": "full" if event else "none"}
            axes.plot(place, i, "o", markersize=3 if small else 6, **look)

    return [Scene(paint, "gradient in the logits; dots: times", square=True)]


def locations(name: str) -> list[Scene]:
    """The loss of a location, of an event and without one, for each distribution."""
    mu = np.linspace(-2.5, 4.0, 80, dtype=np.float32)
    kinds: tuple[Any, ...] = ("weibull", "log_logistic", "log_normal")

    def scene(event: bool, title: str) -> Scene:
        curves = {kind: jaxloss.aft_nll_loss(mu, 1.0, event, kind=kind) for kind in kinds}

        def paint(axes: Axes, small: bool) -> None:
            for i, (kind, losses) in enumerate(curves.items()):
                axes.plot(mu, losses, color=CURVES[i], label=kind)
            axes.set(xlim=(-2.5, 4.0), ylim=(-0.1, 5.0))
            if not small:
                axes.set(xlabel="location of the logarithm of the time", ylabel="loss")
                axes.legend(frameon=False)

        return Scene(paint, title)

    return [scene(True, "an event at time 1"), scene(False, "censored at time 1")]


SCENES: dict[str, Callable[[str], list[Scene]]] = {
    "aft_nll_loss": locations,
    "cox_partial_likelihood": cohort,
    "logistic_hazard_loss": in_intervals,
    "pmf_loss": in_intervals,
    "deephit_ranking_loss": pairs,
}
