"""A formula of the user's: which of its arguments are data, hyperparameters and settings."""

from __future__ import annotations

import collections.abc
import contextlib
import enum
import functools
import inspect
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from inspect import Parameter
from typing import Any

import jax

from .._contract import inputs

Domain = Mapping[str, Callable[[jax.Array], Any]] | None
_STATIC = (bool, str, tuple, enum.Enum)


@dataclass(frozen=True, eq=False, kw_only=True)
class Formula:
    """What the signature of the user's function says.

    Attributes:
        function: The function.
        name: Its name, for messages.
        data: The parameters that may be given by position.
        hyper: The keyword-only ones that take numbers.
        settings: The other keyword-only ones: Python values.
        selects: Whether it takes a mask of entries, as a keyword-only parameter `where`.
        signature: That of the loss.
        derivative: The user's function for its slopes, if there is one.
        domain: Where its arguments may lie, by name.
    """

    function: Callable[..., Any]
    name: str
    data: tuple[str, ...]
    hyper: tuple[str, ...]
    settings: tuple[str, ...]
    selects: bool
    signature: inspect.Signature
    derivative: Callable[..., Any] | None
    domain: Mapping[str, Callable[..., Any]]

    def bound(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments of a call of the loss, by name, with defaults."""
        try:
            given = self.signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self.name}() is {error}") from None
        given.apply_defaults()
        return given.arguments

    def calling(self, names: Sequence[str], fixed: Mapping[str, Any]) -> Callable[..., Any]:
        """A function that calls another with arrays, of these names, and what is no array."""

        def call(function: Callable[..., Any], arrays: Sequence[jax.Array]) -> Any:
            given = {**fixed, **dict(zip(names, arrays, strict=True))}
            data = [given.pop(name) for name in self.data]
            return function(*data, **given)

        return call

    def returned(self, value: Any, shape: tuple[int, ...], dtype: Any, wanted: str) -> jax.Array:
        """What the formula returned, refused unless it is an array of a shape."""
        array = inputs.real(f"what {self.name} returns", value)
        message = f"{self.name} must return {wanted}; it returned {inputs.kind_of(array)}"
        inputs.check_shape(array, shape, message)
        return array.astype(dtype)

    def slopes(self, found: Any) -> dict[str, Any]:
        """What the user's derivative returned, by the name of what it is the slope in."""
        given = found if isinstance(found, tuple | list) else (found,)
        order = (*self.data, *self.hyper)
        if len(given) > len(order):
            message = f"no more slopes than in {', '.join(order)}, got {len(given)}"
            raise ValueError(f"the derivative of {self.name} must return {message}")
        named = zip(order, given, strict=False)
        return {name: slope for name, slope in named if slope is not None}

    def slope(self, name: str, value: Any, like: Any, *, number: bool = False) -> jax.Array:
        """One slope, refused unless it has the shape of an array, or is a number if one will do."""
        what = f"the derivative of {self.name} in {name}"
        array = inputs.real(what, value)
        if array.shape or not number:
            wanted = f"{what} must have shape {list(like.shape)}"
            inputs.check_shape(array, like.shape, f"{wanted}, got {inputs.kind_of(array)}")
        return array.astype(like.dtype)

    def is_optional(self, name: str) -> bool:
        """Whether None may be given, as it is the default."""
        return self.signature.parameters[name].default is None

    def domain_of(self, name: str) -> Callable[[jax.Array], jax.Array] | None:
        """The test of the numbers of an argument, if there is one."""
        return functools.partial(self.inside, name) if name in self.domain else None

    def inside(self, name: str, array: jax.Array) -> jax.Array:
        """Whether numbers lie in the domain of an argument."""
        inside = inputs.real(f"the domain of {name}", self.domain[name](array))
        if inside.dtype != bool or inside.shape != array.shape:
            wanted = f"the domain of {name} must return booleans of shape {list(array.shape)}"
            raise TypeError(f"{wanted}, got {inputs.kind_of(inside)}")
        return inside


def read(
    maker: str,
    function: Any,
    derivative: Any,
    domain: Domain,
    static: Sequence[str],
    added: Sequence[Parameter],
) -> Formula:
    """Read a formula, and refuse by name what cannot become a loss.

    Args:
        maker: The public function that makes the loss.
        function: The formula.
        derivative: Its slopes, or None.
        domain: Where arguments may lie.
        static: Keyword-only parameters that are settings, whatever they look like.
        added: The parameters that the loss has besides.
    """
    inputs.check_function("fn", function)
    name = name_of(function)
    own = _parameters(maker, function, name)
    selects = maker == "over_axis" and "where" in own
    taken = [x.name for x in added if x.name in own and not (selects and x.name == "where")]
    if taken:
        raise TypeError(f"{maker} adds {taken[0]}: {name} must not have an argument of this name")
    hints = _hints(function)
    keywords = {x.name: x for x in own.values() if x.kind is x.KEYWORD_ONLY}
    data = tuple(x for x in own if x not in keywords)
    if not data or (selects and "where" in data):
        what = "where by keyword only" if data else "predictions by position"
        got = plain(inspect.signature(function))
        raise TypeError(f"{name} must take {what}, got the arguments {got}")
    keywords.pop("where", None)
    for setting in check_names("static", static):
        check_known(f"static: {name}", setting, keywords, "keyword-only argument")
    settings = {x for x in keywords if x in static or is_static(keywords[x], hints.get(x))}
    kept = [x for x in own.values() if x.name != "where"]
    formula = Formula(
        function=function,
        name=name,
        data=data,
        hyper=tuple(x for x in keywords if x not in settings),
        settings=tuple(x for x in keywords if x in settings),
        selects=selects,
        signature=inspect.Signature([*kept, *added], return_annotation=jax.Array),
        derivative=derivative,
        domain=dict(domain or {}),
    )
    for argument, inside in formula.domain.items():
        check_known(f"domain: {name}", argument, (*data, *formula.hyper), "such number")
        inputs.check_function(f"the domain of {argument}", inside)
    if derivative is not None:
        inputs.check_function("derivative", derivative)
        _check_alike(formula, keywords)
    return formula


def name_of(function: Any) -> str:
    inner = getattr(function, "func", function)
    return getattr(inner, "__name__", type(inner).__name__)


def plain(signature: inspect.Signature) -> inspect.Signature:
    """A signature without annotations, to be shown."""
    return inspect.Signature([x.replace(annotation=x.empty) for x in signature.parameters.values()])


def check_names(option: str, names: Any) -> tuple[str, ...]:
    """A sequence of names; one name alone would be read as its letters."""
    if isinstance(names, str):
        raise TypeError(f"{option} must be a sequence of names, got {names!r}; write ({names!r},)")
    return tuple(names)


def check_known(where: str, name: Any, known: Sequence[str] | Mapping[str, Any], what: str) -> None:
    if name not in known:
        has = f"it has {', '.join(known)}" if known else "it has none"
        raise ValueError(f"{where} has no {what} {name!r}; {has}")


def _parameters(maker: str, function: Any, name: str) -> dict[str, Parameter]:
    try:
        found = dict(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        message = f"the arguments of {name} cannot be read; write it as a function of your own"
        raise TypeError(message) from None
    for x in found.values():
        if x.kind in (x.VAR_POSITIONAL, x.VAR_KEYWORD):
            raise TypeError(f"{name} must name each of its arguments for {maker}, got {x}")
    return found


def _hints(function: Any) -> Mapping[str, Any]:
    """The annotations that can be read: some name what only a type checker knows."""
    space, found = getattr(function, "__globals__", {}), {}
    for name, hint in getattr(function, "__annotations__", {}).items():
        with contextlib.suppress(Exception):
            one = types.SimpleNamespace(__annotations__={name: hint})
            found |= typing.get_type_hints(one, space)
    return found


def is_static(parameter: Parameter, hint: Any) -> bool:
    """Whether a keyword takes a Python value that chooses a program, by default or annotation."""
    default = parameter.default
    if default is not parameter.empty and default is not None:
        return isinstance(default, _STATIC) or callable(default)
    union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    return any(map(_is_static_type, typing.get_args(hint) if union else (hint,)))


def _is_static_type(hint: Any) -> bool:
    kind = typing.get_origin(hint) or hint
    if kind in (typing.Literal, collections.abc.Callable):
        return True
    return isinstance(kind, type) and issubclass(kind, _STATIC)


def _check_alike(formula: Formula, keywords: Mapping[str, Parameter]) -> None:
    """Refuse a derivative that cannot be called as the formula is."""
    try:
        signature = inspect.signature(formula.derivative)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return
    named: dict[str, None] = dict.fromkeys(keywords)
    named |= {"where": None} if formula.selects else {}
    try:
        signature.bind(*formula.data, **named)
    except TypeError:
        own, other = plain(inspect.signature(formula.function)), plain(signature)
        message = f"must take the arguments {own} of the formula, got {other}"
        raise TypeError(f"the derivative of {formula.name} {message}") from None
