"""Pictures of transducers, chains and alignments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from picture_scenes import Scene, maps

import jaxloss

ACROSS, DOWN = "entry of y", "entry of x"


def transducer(name: str) -> list[Scene]:
    """What each cell of the grid sends on, and what it should, for two labels in eight frames."""
    logits = np.zeros((8, 3, 4), np.float32)
    for u, (first, last) in enumerate(((0, 2), (2, 5), (5, 8))):
        logits[first:last, u, 0] += 1.2
    logits[2, 0, 1] = logits[5, 1, 2] = 2.0
    rest = np.zeros(8, np.float32), np.array([1, 2]), np.zeros(2, np.float32)
    slopes = jax.grad(lambda x: getattr(jaxloss, name)(x, *rest))(logits)
    blank, label = slopes[..., 0], np.stack([slopes[:, 0, 1], slopes[:, 1, 2]], 1)
    found = (
        ("of the next label; blue: descent raises it", label.T, True),
        ("gradient of the blank", blank.T, True),
    )
    return maps(*found, x="frame", y="labels so far")


def chain(name: str) -> list[Scene]:
    """Scores of three states in eight frames, the shares of all labellings, and the gradient."""
    x = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
    y = np.array([0, 0, 0, 1, 1, 2, 2, 2])
    moves = jnp.asarray([[1.5, 0.0, -jnp.inf], [-jnp.inf, 1.5, 0.0], [-jnp.inf, -jnp.inf, 1.5]])
    slopes = jax.grad(lambda x: getattr(jaxloss, name)(x, y, moves))(x)
    found = (
        ("scores; no state goes back", x.T, True),
        ("share of the labellings", (slopes + jax.nn.one_hot(y, 3)).T, False),
        ("gradient; blue: descent raises it", slopes.T, True),
    )
    return maps(*found, x="frame", y="state")


def alignment(name: str) -> list[Scene]:
    """Two waves, of which one runs faster, and the share of the alignments through each pair."""
    times = np.linspace(0, 1, 24)
    x, y = np.sin(7 * times), np.sin(7 * times**2)
    costs = jnp.asarray((x[:, None] - y[None]) ** 2, jnp.float32)
    given: dict[str, Any] = {"gamma": 0.1}
    shares = jax.grad(lambda c: jaxloss.soft_dtw_from_costs(c, **given))(costs)
    if name == "soft_dtw_divergence":
        first, second = (jnp.asarray(a[:, None], jnp.float32) for a in (x, y))
        slopes = jax.grad(lambda a: jaxloss.soft_dtw_divergence(a, second, **given))(first)
        moved = maps(
            ("gradient; blue: descent raises it", slopes.T, True), x="entry of x", y="feature"
        )
        return maps(("share of the alignments", shares, False), x=ACROSS, y=DOWN) + moved
    found = (("costs", costs, False), ("gradient: share of the alignments", shares, False))
    return maps(*found, x=ACROSS, y=DOWN)


SCENES: dict[str, Callable[[str], list[Scene]]] = {
    "rnnt_loss": transducer,
    "crf_nll_loss": chain,
    **dict.fromkeys(("soft_dtw", "soft_dtw_divergence", "soft_dtw_from_costs"), alignment),
}
