"""What is public, and where it lives."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jaxloss

ROOT = Path(__file__).parents[2]
# Not `jaxloss.__all__`: type checkers read the imports of the module instead.
PUBLIC: list[str] = vars(jaxloss)["__all__"]
TYPES = {"LogProbs", "Mean", "Reduction", "TokenStatistics", "Where", "Weights"}
# Public modules, which are imported by themselves.
SUBMODULES = set(vars(jaxloss)["_SUBMODULES"])
# All functions but `reduce`.
LOSSES = sorted(
    name
    for name, value in vars(jaxloss).items()
    if inspect.isfunction(value) and name != "reduce" and not name.startswith("_")
)


def module_of(function: Callable[..., Any]) -> str:
    """Where a public function is written: `jaxloss._boxes.losses`."""
    return inspect.unwrap(function).__globals__["__name__"]


def home(name: str) -> str:
    """The family that a loss lives in."""
    return module_of(getattr(jaxloss, name)).split(".")[1].strip("_")


def modules() -> Iterator[Any]:
    """All modules of the package."""
    for found in pkgutil.walk_packages(jaxloss.__path__, "jaxloss."):
        yield importlib.import_module(found.name)


def written() -> dict[str, Any]:
    """All functions that the contract decorates under a public name, by that name."""
    return {
        name: value
        for module in modules()
        for name, value in vars(module).items()
        if inspect.isfunction(value)
        and hasattr(value, "__wrapped__")
        and not name.startswith("_")
        and module_of(value) == module.__name__
        and value.__name__ == name
    }
