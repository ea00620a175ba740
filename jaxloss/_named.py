"""What a name on the command line stands for."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jaxloss

from ._help import instead

MODULES = ("plotting", "prox", "testing")


class Mistake(Exception):
    """What the user asked wrongly, in one line."""


def functions() -> dict[str, Callable[..., Any]]:
    names = vars(jaxloss)["__all__"]
    return {x: getattr(jaxloss, x) for x in names if inspect.isfunction(getattr(jaxloss, x))}


def family_of(function: Callable[..., Any]) -> str:
    """`regression`; that of `reduce` is `contract`."""
    made = function.__init__ if inspect.isclass(function) else function
    return inspect.unwrap(made).__globals__["__name__"].split(".")[1].strip("_")


def summary_of(function: Callable[..., Any]) -> str:
    return (inspect.getdoc(function) or "").partition("\n")[0]


def public(name: str) -> Any:
    """What is called so in jaxloss or in a module of it: `huber_loss`, `Mean`, `prox.l1`."""
    name = name.removeprefix("jaxloss.")
    if name in vars(jaxloss)["__all__"]:
        return getattr(jaxloss, name)
    for place in MODULES:
        module, short = importlib.import_module(f"jaxloss.{place}"), name.removeprefix(f"{place}.")
        if name == place:
            raise Mistake(f"{name} is a module, of {', '.join(module.__all__)}")
        if short in module.__all__:
            return getattr(module, short)
    raise Mistake(f"nothing is called {name!r}{instead(name, vars(jaxloss)['__all__'])}")


def loss_of(text: str) -> Callable[..., Any]:
    """A loss of ours by its name, or anybody's as `module:name` or `file.py:name`."""
    place, colon, name = text.rpartition(":")
    own = "one of your own is written mymodule:my_loss or file.py:my_loss"
    if not colon:
        known, name = functions(), text.removeprefix("jaxloss.")
        if name not in known:
            raise Mistake(f"no loss is called {name!r}{instead(name, list(known)) or f'; {own}'}")
        return known[name]
    if not (place and name):
        raise Mistake(f"{text!r} is half a name; {own}")
    module = module_at(place)
    found = functools.reduce(lambda x, part: getattr(x, part, None), name.split("."), module)
    if not callable(found):
        raise Mistake(f"{place} has no function {name!r}")
    return found


def module_at(place: str) -> Any:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        if not place.endswith(".py"):
            return importlib.import_module(place)
        spec = importlib.util.spec_from_file_location(Path(place).stem, place)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
    except (Exception, SystemExit) as error:
        raise Mistake(f"cannot import {place!r}: {type(error).__name__}: {error}") from None
