"""The one place where losses meet `jax.jit`."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import jax
import numpy as np
from jax.core import Tracer

from . import inputs
from .calls import KNOWN, refuse_misfit

P = ParamSpec("P")
R = TypeVar("R")
# What `jax.jit` takes as it is, traced and static; `int` covers `bool`.
# NumPy's integers are not among them: JAX would wrap those of 64 bits.
_TRACED = (jax.Array, np.inexact, np.bool_, int, float, complex, type(None))
_STATIC = (str, int, tuple, type(None))


def jit(*static: str, uncompiled: str | None = None) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Compile a loss and leave it an ordinary function.

    `help`, `inspect.signature`, type checkers and `pickle` see the function itself, which
    stays reachable, uncompiled, as `__wrapped__`.

    Args:
        *static: The parameters besides `reduction` whose values the compiled code depends on.
            Every other argument may be traced.
        uncompiled: A parameter that takes a function. A call that gives one is not compiled: what
            such a function reads besides its arguments may change from call to call.

    Returns:
        A decorator.
    """

    def decorate(loss: Callable[P, R]) -> Callable[P, R]:
        parameters = inspect.signature(loss).parameters
        names = tuple(parameters)
        places = sum(x.kind is not x.KEYWORD_ONLY for x in parameters.values())
        KNOWN.update(names)
        frozen = frozenset((*static, "reduction")) & frozenset(names)
        flags = [x for x in names if x in frozen and isinstance(parameters[x].default, bool)]

        @functools.wraps(loss)
        def checked(*args: P.args, **kwargs: P.kwargs) -> R:
            for name in flags:
                if kwargs.get(name, False) not in (False, True):
                    got = inputs.shown(kwargs[name])
                    raise TypeError(f"{name} must be True or False, got {got}")
            return loss(*args, **kwargs)

        body = checked if flags else loss

        @functools.wraps(loss)
        def traced(*args: P.args, **kwargs: P.kwargs) -> R:
            # JAX differentiates in a mesh, if only an empty one, which does not equal none: what
            # was traced without would be traced again, an eighth of the first call's time or more.
            with jax.sharding.use_abstract_mesh(jax.sharding.get_abstract_mesh()):
                return body(*args, **kwargs)

        compiled = jax.jit(traced, static_argnames=sorted(frozen))

        def check_call(args: Any, kwargs: Any) -> None:
            fits = len(args) <= places and kwargs.keys() <= parameters.keys()
            # No argument by position is a string, but a reduction is often given as one.
            if not fits or any(isinstance(x, str) for x in args):
                refuse_misfit(loss.__name__, parameters, args, kwargs)

        def prepared(name: str, value: Any) -> Any:
            if name not in frozen:
                return None if value is None else inputs.as_array(name, value)
            value = tuple(value) if isinstance(value, list) else value
            try:
                hash(value)
            except TypeError:
                message = f"{name} must be a hashable Python value, got {inputs.shown(value)}"
                if isinstance(value, Tracer):
                    message += "; static_argnames of jax.jit keeps it one"
                raise TypeError(message) from None
            return value

        @functools.wraps(loss)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            if uncompiled is not None and kwargs.get(uncompiled) is not None:
                check_call(args, kwargs)
                return body(*args, **kwargs)
            # Arrays and numbers go straight on: this loop is most of what an eager call costs
            # over a bare jitted function.
            for value in args:
                if not isinstance(value, _TRACED):
                    break
            else:
                for name, value in kwargs.items():
                    if not isinstance(value, _STATIC if name in frozen else _TRACED):
                        break
                else:
                    try:
                        return compiled(*args, **kwargs)
                    except (OverflowError, TypeError, ValueError):
                        # A Python integer beyond int32, or a call that is refused: it is made
                        # again below, where its arguments are checked.
                        pass
            # NumPy arrays, lists, and what has to be refused by name.
            check_call(args, kwargs)
            positional = [prepared(*item) for item in zip(names, args, strict=False)]
            named = {name: prepared(name, value) for name, value in kwargs.items()}
            try:
                return compiled(*positional, **named)
            except (TypeError, ValueError) as error:
                # JAX adds a note on the frames that it hides: the sentence is to stand alone.
                vars(error).pop("__notes__", None)
                raise

        return call

    return decorate
