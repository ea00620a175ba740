"""The one place where losses meet `jax.jit`."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import jax
import numpy as np

from . import inputs

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
        names = tuple(inspect.signature(loss).parameters)
        frozen = frozenset((*static, "reduction")) & frozenset(names)
        compiled = jax.jit(loss, static_argnames=sorted(frozen))

        def prepared(name: str, value: Any) -> Any:
            if name not in names:
                raise TypeError(f"{loss.__name__}() got an unexpected keyword argument {name!r}")
            if name not in frozen:
                return None if value is None else inputs.as_array(name, value)
            value = tuple(value) if isinstance(value, list) else value
            try:
                hash(value)
            except TypeError:
                kind = type(value).__name__
                raise TypeError(f"{name} must be a hashable Python value, got {kind}") from None
            return value

        @functools.wraps(loss)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            if uncompiled is not None and kwargs.get(uncompiled) is not None:
                return loss(*args, **kwargs)
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
                    except OverflowError:
                        pass  # A Python integer beyond int32.
            # NumPy arrays, lists, and what has to be refused by name.
            positional = [prepared(*item) for item in zip(names, args, strict=False)]
            return compiled(
                *positional,
                *args[len(names) :],
                **{name: prepared(name, value) for name, value in kwargs.items()},
            )

        return call

    return decorate
