"""What becomes of a formula: a compiled loss."""

from __future__ import annotations

import functools
import inspect
import operator
import sys
from collections.abc import Callable
from inspect import Parameter
from typing import Any

import jax

from .._contract.jit import jit
from .._contract.reduce import Reduction, Weights, Where
from .formula import Formula, plain

_RULED = "`where`, `weights`, `reduction`: see `jaxloss.reduce`."


def keyword(name: str, default: Any, annotation: Any) -> Parameter:
    return Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


# What every loss has besides the arguments of its formula.
RULED = (
    keyword("where", None, Where),
    keyword("weights", None, Weights),
    keyword("reduction", "none", Reduction),
)


class Loss:
    """A loss of a formula. It looks like the function, and is no function so that it pickles.

    Pickles name it, if its module has it under the name of the formula, as after a decorator;
    otherwise they hold how it was made: by which function, of which formula, which they name.
    """

    __name__: str
    __qualname__: str
    __signature__: inspect.Signature
    __wrapped__: Callable[..., jax.Array]

    def __init__(
        self,
        make: Callable[..., Any],
        formula: Formula,
        body: Callable[..., jax.Array],
        *static: str,
    ) -> None:
        """Compile a loss.

        Args:
            make: Makes it again, of the formula's function.
            formula: The formula.
            body: The loss, uncompiled.
            *static: Its settings, besides `reduction` and those of the formula.
        """
        function = formula.function
        for x in (body, self):
            functools.update_wrapper(x, function)
            x.__name__ = formula.name
            x.__signature__ = formula.signature  # type: ignore[attr-defined]
        text = inspect.getdoc(function) if inspect.isroutine(function) else None
        self.__doc__ = f"{text}\n\n{_RULED}" if text else _RULED
        self.__qualname__ = getattr(function, "__qualname__", formula.name)
        self.__wrapped__ = body
        self._made_by = make, (function,)
        self._call = jit(*formula.settings, *static)(body)

    def __call__(self, *args: Any, **kwargs: Any) -> jax.Array:
        return self._call(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<loss {self.__name__}{plain(self.__signature__)}>"

    def __reduce__(self) -> Any:
        try:
            found = operator.attrgetter(self.__qualname__)(sys.modules[self.__module__])
        except (AttributeError, KeyError):
            found = None
        return self.__qualname__ if found is self else self._made_by
