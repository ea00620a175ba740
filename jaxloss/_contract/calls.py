"""What a call is told whose arguments do not fit the parameters of a loss."""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from inspect import Parameter
from typing import Any, ParamSpec, TypeVar, get_args

from .inputs import Reduction

P = ParamSpec("P")
R = TypeVar("R")

# Every parameter of every public function: none of these names misspells another.
KNOWN: set[str] = set()

# The names that a parameter has in other libraries or in other losses, and the parameters that may
# be meant, the first one that the loss has. A sentence says what to write if that is not the name.
_MEANT: Mapping[str, Mapping[str, str]] = {
    "T": {"temperature": ""},
    "alpha": {"quantile": "", "expectile": "", "class_weights": ""},
    "beta": {"delta": ""},
    "c": {"scale": ""},
    "cov_coeff": {"covariance": ""},
    "delta": {"beta": ""},
    "dim": {"axis": ""},
    "eps": {"epsilon": ""},
    "epsilon": {"eps": ""},
    "fmt": {"box_format": ""},
    "from_logits": {"apply_softmax": "", "apply_sigmoid": ""},
    "ignore_index": {"where": "write where={labels} != ignore_index"},
    "include_background": {"ignore_background": "its ignore_background is the opposite"},
    "lambd": {"off_diagonal": ""},
    "logit_scale": {"temperature": "its temperature is 1 / logit_scale"},
    "log_target": {"log_predictions": "kl_divergence_with_log_targets takes log-probabilities"},
    "loss_type": {"kind": ""},
    "m": {"margin": ""},
    "mask": {"where": ""},
    "norm_degree": {"p": ""},
    "nu": {"df": ""},
    "p": {"norm_degree": "", "power": ""},
    "q": {"quantile": ""},
    "reduce": {"reduction": 'write reduction="mean" or reduction="none"'},
    "s": {"scale": "", "logit_scale": ""},
    "sample_weight": {"weights": ""},
    "sim_coeff": {"invariance": ""},
    "size_average": {"reduction": 'write reduction="mean" or reduction="sum"'},
    "smoothing": {"label_smoothing": "", "alpha": ""},
    "std_coeff": {"variance": ""},
    "tau": {"temperature": "", "quantile": "", "expectile": ""},
    "weight": {"class_weights": "", "weights": ""},
}
_LABELS = ("labels", "targets", "tokens")
_REDUCTIONS = get_args(Reduction)


def refusing(function: Callable[P, R]) -> Callable[P, R]:
    """A public function that is not compiled, with calls refused as `jit` refuses them."""
    parameters = inspect.signature(function).parameters
    KNOWN.update(parameters)

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        refuse_misfit(function.__name__, parameters, args, kwargs)
        return function(*args, **kwargs)

    return call


def refuse_misfit(
    name: str, parameters: Mapping[str, Parameter], args: Sequence[Any], kwargs: Iterable[str]
) -> None:
    """Refuse a keyword that is none, and an argument by position that is a keyword.

    Args:
        name: That of the loss.
        parameters: Those of the loss.
        args: What is given by position.
        kwargs: The names of what is given by keyword.
    """
    for keyword in kwargs:
        if keyword not in parameters:
            instead = _instead(keyword, parameters)
            raise TypeError(f"{name}() has no argument {keyword!r}; {instead}")
    for value in args:
        if isinstance(value, str) and value in _REDUCTIONS and "reduction" in parameters:
            raise TypeError(f'{name}() takes reduction by keyword only: reduction="{value}"')
    places = [x.name for x in parameters.values() if x.kind is not Parameter.KEYWORD_ONLY]
    if len(args) > len(places):
        some = "one argument" if len(places) == 1 else f"{len(places)} arguments"
        message = f"{name}() takes {some} by position, got {len(args)}"
        # An array is no name of an axis.
        named = {"axis_name"} if hasattr(args[len(places)], "shape") else set()
        for option in parameters:
            if option not in {*places, *kwargs, *named}:
                message += f"; {option} is a keyword: {option}={_written(args[len(places)])}"
                break
        raise TypeError(message)


def _written(value: Any) -> str:
    """A number or a string as the user would write it."""
    if isinstance(value, str):
        return f'"{value}"'
    return repr(value) if isinstance(value, int | float) else "..."


def _instead(keyword: str, parameters: Mapping[str, Parameter]) -> str:
    """What the loss has instead of a keyword that it does not have."""
    for parameter, advice in _MEANT.get(keyword, {}).items():
        if parameter in parameters:
            labels = next((x for x in _LABELS if x in parameters), "labels")
            return advice.format(labels=labels) or f"did you mean {parameter!r}?"
    near = [x for x in parameters if keyword in x.split("_")]
    if not near and len(keyword) > 2:
        near = [x for x in parameters if x.startswith(keyword)]
    if not near and keyword not in KNOWN:
        near = difflib.get_close_matches(keyword, parameters, 1)
    if near:
        return f"did you mean {' or '.join(map(repr, near))}?"
    return f"it takes {', '.join(parameters)}"
