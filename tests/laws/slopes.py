"""What the formula of an oracle does not say of its derivatives."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Slopes:
    """How `oracle.derivative` differentiates a formula.

    Attributes:
        constant: The positions of arguments without a slope: those that only select, such as signs
            and sets of labels or paddings, and targets that are held constant.
        held: From arguments and options, the options that the formula takes for what is held
            constant under differentiation.
        undefined: Numbers of an option at which the loss jumps or its slope has no limit.
        at: From arguments, options and the argument to differentiate in, what to differentiate
            instead: the options and the point.
        limit: From arguments, options and the argument to differentiate in, a slope that no
            difference quotient shows; None for those that one does.
    """

    constant: tuple[int, ...] = ()
    held: Callable[..., dict[str, Any]] | None = None
    undefined: dict[str, tuple[float, ...]] = field(default_factory=dict)
    at: Callable[..., tuple[dict[str, Any], Any]] | None = None
    limit: Callable[..., Any] | None = None


def slopes(**rules: Any) -> Callable[[Callable], Callable]:
    """Say of a formula how it is differentiated; see `Slopes`."""

    def decorate(formula: Callable) -> Callable:
        vars(formula)["slopes"] = Slopes(**rules)
        return formula

    return decorate


def slopes_of(formula: Callable) -> Slopes:
    return vars(formula).get("slopes", Slopes())
