"""What is to be drawn: which curves, along which lines, with which hyperparameters."""

from __future__ import annotations

import functools
import inspect
import itertools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxloss

from ._contract.inputs import reason, shown
from ._curves import Curve, derivatives, traced
from ._line import Domain, Line
from ._lines import ALONE, ERROR, LINES, LOGIT

Loss = Callable[..., Any]


@dataclass(frozen=True)
class Asked:
    """One curve to be drawn.

    Attributes:
        loss: Of which loss.
        line: Along which line, with its domain and target.
        options: Its hyperparameters.
        varied: The names of those that differ from curve to curve.
        label: What the legend says.
        axis: What the axis says.
    """

    loss: Loss
    line: Line
    options: Mapping[str, Any]
    varied: tuple[str, ...]
    label: str
    axis: str


def pair_of_numbers(name: str, value: Any) -> tuple[float, float]:
    try:
        low, high = map(float, value)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be a pair of numbers, got {shown(value)}") from None
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"{name} must go from a number to a greater one, got {shown(value)}")
    return low, high


def _function_of(loss: Loss) -> tuple[Loss, str]:
    """What a partial is of, and its name; "" if there is none to show."""
    bare = loss
    while isinstance(bare, functools.partial) and not bare.args:
        bare = bare.func
    name = getattr(bare, "__name__", type(bare).__name__)
    return bare, "" if name == "<lambda>" else name


def own(loss: Loss) -> str:
    """The name of a loss of ours, else ""."""
    bare, name = _function_of(loss)
    return name if name and getattr(jaxloss, name, None) is bare else ""


def label_of(loss: Loss, options: Mapping[str, Any], varied: str = "") -> str:
    """The name of a loss, with hyperparameters, its own but one among them if it is a partial."""
    held: dict[str, Any] = {}
    while isinstance(loss, functools.partial):
        held = {**loss.keywords, **held}
        loss = loss.func
    held.pop(varied, None)
    return _with(_function_of(loss)[1] or "loss", {**held, **options})


def _short(value: Any) -> str:
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.number):
        return getattr(value, "__name__", str(value))
    return f"{value:g}"


def parameters_of(loss: Loss) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(loss).parameters
    except (TypeError, ValueError):
        return {}


def _takes(loss: Loss, name: str) -> bool:
    parameters = parameters_of(loss)
    anything = any(x.kind is x.VAR_KEYWORD for x in parameters.values())
    return name in parameters or anything or not parameters


def check_options(losses: Sequence[Loss], options: Mapping[str, Any]) -> None:
    for name, value in options.items():
        if not any(_takes(loss, name) for loss in losses):
            which = label_of(losses[0], {}) + " takes" if len(losses) == 1 else "the losses take"
            raise TypeError(f"{which} no {name}")
        if isinstance(value, list) and not value:
            raise ValueError(f"{name} is an empty list: there is nothing to draw")


def line_of(loss: Loss, neighbours: Sequence[Loss]) -> Line:
    """The usual line of a loss: its own, that of its neighbours, or by its parameters' names."""
    name = own(loss)
    if name in LINES:
        return LINES[name]
    if name:
        raise ValueError(f"{name} is no function of a number that a line could show")
    known = [LINES[other] for other in map(own, neighbours) if other in LINES]
    if known:
        return known[0]
    data = [
        x for x in parameters_of(loss).values() if x.kind not in (x.KEYWORD_ONLY, x.VAR_KEYWORD)
    ]
    if len(data) == 1 and data[0].kind is not data[0].VAR_POSITIONAL:
        return ALONE
    second = data[1].name if len(data) > 1 else ""
    # A label of the scores of several classes.
    numbered = LINES["softmax_cross_entropy_with_integer_labels"]
    return {"labels": LOGIT, "label": numbered}.get(second, ERROR)


def curves_of(
    losses: Sequence[Loss],
    of: Callable[[jax.Array], Any] | None,
    target: Any,
    domain: Any,
    names: Sequence[str] | None,
    hyperparameters: Mapping[str, Any],
) -> list[Asked]:
    """All curves: of each loss one for each target and each combination of hyperparameters."""
    check_options(losses, hyperparameters)
    if names is not None and (isinstance(names, str) or len(names) != len(losses)):
        raise ValueError(f"names must be {len(losses)}, one for each loss, got {shown(names)}")
    if of is not None and not callable(of):
        raise TypeError(f"of must be a function, got {shown(of)}")
    if of is not None and target is not None:
        raise TypeError("of says what the arguments are: leave target out")
    lines = [line_of(loss, losses) if of is None else _line_along(of) for loss in losses]
    axes = sorted({line.x for line in lines})
    if len(axes) > 1:
        told = "; ".join(map(_without_target, axes))
        raise ValueError(f"no axis suits all these losses ({told}): draw them apart, or give of=")
    ends = pair_of_numbers("domain", domain) if domain is not None else _widest(lines)
    curves = []
    for loss, line, name in zip(losses, lines, names or [""] * len(losses), strict=True):
        options = {k: v for k, v in hyperparameters.items() if _takes(loss, k)}
        curves += _family(loss, replace(line, domain=ends), name, target, options)
    return curves if names else _told_apart(curves)


def _told_apart(curves: list[Asked]) -> list[Asked]:
    """With labels that differ: by the library of a loss, else by a number."""

    def alike(curve: Asked) -> list[Any]:
        losses = [x.loss for x in curves if x.label == curve.label]
        return [x for i, x in enumerate(losses) if x not in losses[:i]]

    def label(curve: Asked) -> str:
        same = alike(curve)
        if len(same) < 2:
            return curve.label
        libraries = [_library(loss) for loss in same]
        if len(set(libraries)) == len(same):
            return f"{_library(curve.loss)}.{curve.label}"
        name, comma, rest = curve.label.partition(", ")
        return f"{name} {same.index(curve.loss) + 1}{comma}{rest}"

    return [replace(curve, label=label(curve)) for curve in curves]


def _library(loss: Loss) -> str:
    return (getattr(_function_of(loss)[0], "__module__", None) or "").partition(".")[0]


def _family(
    loss: Loss, line: Line, name: str, target: Any, options: Mapping[str, Any]
) -> list[Asked]:
    """The curves of one loss."""
    targets = listed(line.target if target is None else target)
    if isinstance(line.target, float):
        targets = [_number("target", aim) for aim in targets]
    several = len(targets) > 1
    varied = tuple(k for k, v in options.items() if isinstance(v, list))
    curves = []
    for aim, *combination in itertools.product(targets, *map(listed, options.values())):
        given = dict(zip(options, combination, strict=True))
        told = {
            k: v for k, v in given.items() if np.ndim(v) == 0 and not (name and k not in varied)
        }
        told |= {"target": aim} if several else {}
        label = _with(name, told) if name else label_of(loss, told)
        axis = _without_target(line.x) if several else with_target(line.x, aim)
        curves.append(Asked(loss, replace(line, target=aim), given, varied, label, axis))
    return curves


def _number(name: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ValueError(
            f"{name} must be a number, or a list of some, got {shown(value)}"
        ) from None


def listed(value: Any) -> list[Any]:
    """A list as it is, anything else as a list of one."""
    return value if isinstance(value, list) else [value]


def _with(name: str, options: Mapping[str, Any]) -> str:
    return ", ".join([name, *(f"{k} = {_short(v)}" for k, v in options.items())])


def _line_along(of: Callable[[jax.Array], Any]) -> Line:
    def arguments(x: jax.Array, _: Any) -> tuple[Any, ...]:
        found = of(x)
        return found if isinstance(found, tuple) else (found,)

    return Line(arguments, "x", (-3.0, 3.0))


def _widest(lines: Sequence[Line]) -> Domain:
    return min(line.domain[0] for line in lines), max(line.domain[1] for line in lines)


def _without_target(text: str) -> str:
    """What an axis shows, whatever the target: `score`, of `score, for label {target}`."""
    return re.sub(r", [^,]*\{target\}$", "", text)


def with_target(text: str, target: Any) -> str:
    return text.replace("{target}", _short(target))


def measured(curves: Sequence[Asked], orders: int, points: int) -> list[Curve]:
    """The curves; those of one loss that differ in numbers alone are compiled once."""
    programs: dict[Any, Callable[..., np.ndarray]] = {}
    found = []
    for curve in curves:
        numbers = [k for k in curve.varied if isinstance(curve.options[k], float)]
        fixed = {k: v for k, v in curve.options.items() if k not in numbers}
        aim = curve.line.target
        whole = "" if isinstance(aim, float) else repr(aim)
        key = id(curve.loss), whole, tuple(sorted((k, repr(v)) for k, v in fixed.items()))
        given = [jnp.asarray(curve.options[k], float) for k in numbers]
        given += [] if whole else [jnp.asarray(aim, float)]
        try:
            if key not in programs:
                programs[key] = derivatives(_along(curve, fixed, tuple(numbers)), orders)
            found.append(_traced(curve, programs[key], given, points))
        except ValueError:
            if not numbers:
                raise
            # A hyperparameter that is to be a Python number.
            alone = derivatives(_along(curve, curve.options, ()), orders)
            found.append(_traced(curve, alone, given[len(numbers) :], points))
    return found


def _along(curve: Asked, fixed: Mapping[str, Any], numbers: tuple[str, ...]) -> Callable[..., Any]:
    """The curve's height, of the place, the numbers, and the target if that is a number too."""
    line = curve.line
    usually = usual(curve.loss, line.given)

    def value(x: jax.Array, *given: jax.Array) -> jax.Array:
        aim = given[len(numbers)] if len(given) > len(numbers) else line.target
        options = {**usually, **fixed, **dict(zip(numbers, given, strict=False))}
        data = line.of(x, aim)
        return line.read(one(curve.loss(*data, **options), data))

    return value


def one(found: Any, data: Sequence[Any]) -> Any:
    """What a loss returned, refused if it is not one number for numbers."""
    if not any(map(np.ndim, data)):
        if not isinstance(found, jax.Array | np.ndarray | np.number | int | float):
            raise TypeError(f"it must return a number, got {shown(found)}")
        if np.ndim(found):
            shape = list(np.shape(found))
            message = f"it must return one number for one, and not {shape} of them"
            raise ValueError(f"{message}; of a hyperparameter, a list draws a curve for each value")
    return found


def usual(loss: Loss, given: Mapping[str, Any]) -> dict[str, Any]:
    """The hyperparameters of a line that its loss takes, and that a partial does not hold."""
    held = loss.keywords if isinstance(loss, functools.partial) else {}
    return {k: v for k, v in given.items() if k in parameters_of(loss) and k not in held}


def _traced(
    curve: Asked, program: Callable[..., np.ndarray], given: Sequence[Any], points: int
) -> Curve:
    try:
        return traced(lambda x: program(x, *given), curve.line.domain, points)
    except Exception as error:
        raise refusal(curve.loss, curve.axis, error) from None


def refusal(loss: Loss, axis: str, error: Exception) -> ValueError:
    said = f"{label_of(loss, {})} cannot be drawn along {axis!r}: {reason(error)}"
    # A guess may have been wrong.
    guessed = not own(loss) and axis.startswith((ERROR.x, LOGIT.x.partition(",")[0], "prediction,"))
    return ValueError(said + "; of= of plot_loss says what else to draw it along" * guessed)
