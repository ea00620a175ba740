"""What a call is told whose arguments do not fit the parameters of a loss."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from inspect import Parameter
from typing import Any

# Every parameter of every compiled function: none of these names misspells another.
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
    "ignore_index": {"where": "write where={labels} != ignore_index"},
    "lambd": {"off_diagonal": ""},
    "logit_scale": {"temperature": "its temperature is 1 / logit_scale"},
    "loss_type": {"kind": ""},
    "m": {"margin": ""},
    "mask": {"where": ""},
    "norm_degree": {"p": ""},
    "nu": {"df": ""},
    "p": {"norm_degree": ""},
    "reduce": {"reduction": 'write reduction="mean" or reduction="none"'},
    "s": {"scale": "", "logit_scale": ""},
    "sample_weight": {"weights": ""},
    "sim_coeff": {"invariance": ""},
    "size_average": {"reduction": 'write reduction="mean" or reduction="sum"'},
    "smoothing": {"label_smoothing": "", "alpha": ""},
    "std_coeff": {"variance": ""},
    "tau": {"temperature": "", "quantile": "", "expectile": ""},
    "temperature": {"logit_scale": "its logit_scale is 1 / temperature"},
    "weight": {"class_weights": "", "weights": ""},
}
_LABELS = ("labels", "targets", "tokens")
_REDUCTIONS = ("none", "sum", "mean", "partial")


def misfit(
    name: str, parameters: Mapping[str, Parameter], args: Sequence[Any], kwargs: Iterable[str]
) -> str:
    """The sentence on a keyword that is none, or on an argument by position that is a keyword.

    Args:
        name: That of the loss.
        parameters: Those of the loss.
        args: What is given by position.
        kwargs: The names of what is given by keyword.
    """
    for keyword in kwargs:
        if keyword not in parameters:
            return f"{name}() has no argument {keyword!r}; {_instead(keyword, parameters)}"
    places = [x.name for x in parameters.values() if x.kind is not Parameter.KEYWORD_ONLY]
    surplus = args[len(places)]
    options = [x for x in parameters if x not in places and x not in kwargs]
    if isinstance(surplus, str) and surplus in _REDUCTIONS and "reduction" in options:
        options = ["reduction"]
    some = "one argument" if len(places) == 1 else f"{len(places)} arguments"
    message = f"{name}() takes {some} by position, got {len(args)}"
    if options:
        value = "..."
        if isinstance(surplus, int | float | str):
            value = f'"{surplus}"' if isinstance(surplus, str) else repr(surplus)
        message += f"; {options[0]} is a keyword: {options[0]}={value}"
    return message


def _instead(keyword: str, parameters: Mapping[str, Parameter]) -> str:
    """What the loss has instead of a keyword that it does not have."""
    for parameter, advice in _MEANT.get(keyword, {}).items():
        if parameter in parameters:
            labels = next((x for x in _LABELS if x in parameters), "labels")
            return advice.format(labels=labels) or f"did you mean {parameter!r}?"
    near = [x for x in parameters if keyword in x.split("_")]
    if len(keyword) > 2:
        near += [x for x in parameters if x.startswith(keyword)]
    if keyword not in KNOWN:
        near += difflib.get_close_matches(keyword, parameters, 1)
    return f"did you mean {near[0]!r}?" if near else f"it takes {', '.join(parameters)}"
