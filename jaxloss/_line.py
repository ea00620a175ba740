"""What the horizontal axis of a picture means, and what losses are given along it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax.numpy as jnp
import numpy as np

Arguments = tuple[Any, ...]
Domain = tuple[float, float]


@dataclass(frozen=True)
class Line:
    """What the horizontal axis means for a loss.

    Attributes:
        of: The arguments of the loss at a place on the axis, given the target.
        x: What the axis shows; `{target}` stands for the target.
        domain: From where to where.
        target: The usual target.
        given: Hyperparameters that the loss has no default for, and such as make its shape seen.
        read: What is drawn of the result, which is otherwise one number or a mean.
        y: What is drawn, where it is no loss.
    """

    of: Callable[[Any, Any], Arguments]
    x: str
    domain: Domain
    target: Any = 0.0
    given: Mapping[str, Any] = field(default_factory=dict)
    read: Callable[[Any], Any] = jnp.mean
    y: str = "loss"


def rows(*rows: Any) -> Any:
    return jnp.stack([jnp.stack([jnp.asarray(x, float) for x in row]) for row in rows])


def vector(*numbers: Any) -> Any:
    return jnp.stack([jnp.asarray(x, float) for x in numbers])


def at(degrees: Any) -> Any:
    """The unit vector at an angle."""
    angle = degrees * (np.pi / 180)
    return jnp.stack([jnp.cos(angle), jnp.sin(angle)])


def each(names: str, line: Any) -> dict[str, Any]:
    return dict.fromkeys(names.split(), line)


def pair(x: Any, target: Any) -> Arguments:
    return x, target
