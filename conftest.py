"""Finds the doctests of public functions where they are written, though these name `jaxloss`."""

import doctest
import inspect
from typing import Any

_from_module = doctest.DocTestFinder._from_module  # type: ignore[attr-defined]


def _written_in(finder: doctest.DocTestFinder, module: Any, value: Any) -> bool:
    if inspect.isfunction(value) and value.__module__ == "jaxloss":
        return inspect.unwrap(value).__globals__ is vars(module)
    return _from_module(finder, module, value)


doctest.DocTestFinder._from_module = _written_in  # type: ignore[attr-defined]
