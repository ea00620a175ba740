"""What a row says of a loss, and the kinds of argument that rows are made of."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from jaxloss.testing.kinds import ABOVE_MINUS_ONE as ABOVE_MINUS_ONE
from jaxloss.testing.kinds import CLASS as CLASS
from jaxloss.testing.kinds import COUNT as COUNT
from jaxloss.testing.kinds import LABELS as LABELS
from jaxloss.testing.kinds import LOG_PROBABILITIES as LOG_PROBABILITIES
from jaxloss.testing.kinds import LOGARITHM as LOGARITHM
from jaxloss.testing.kinds import LOGITS as LOGITS
from jaxloss.testing.kinds import MODERATE as MODERATE
from jaxloss.testing.kinds import NON_NEGATIVE as NON_NEGATIVE
from jaxloss.testing.kinds import POSITIVE as POSITIVE
from jaxloss.testing.kinds import PROBABILITIES as PROBABILITIES
from jaxloss.testing.kinds import REAL as REAL
from jaxloss.testing.kinds import SIGN as SIGN
from jaxloss.testing.kinds import SIGNS as SIGNS
from jaxloss.testing.kinds import SIZES as SIZES
from jaxloss.testing.kinds import SOFT_LABELS as SOFT_LABELS
from jaxloss.testing.kinds import Kind as Kind
from jaxloss.testing.subject import SHAPE as SHAPE
from jaxloss.testing.subject import Options as Options
from jaxloss.testing.subject import Subject
from tests.laws.domains import domains, ends

# In the order of the tables.
FAMILIES = (
    "binary",
    "regression",
    "likelihood",
    "ensemble",
    "survival",
    "ordinal",
    "multiclass",
    "divergence",
    "sequences",
    "segmentation",
    "contrastive",
    "embedding",
    "ranking",
    "preference",
    "policy",
    "boxes",
)


@dataclass(frozen=True)
class Case(Subject):
    """A row: what the laws of `jaxloss.testing` know of a loss, and what ours know besides.

    Attributes:
        stated: The gradient that the docstring states at a point: (arguments, options,
            gradients in predictions and in targets).
        reduction: The default, where optax returns a mean.
        largest: The largest term of the loss, or of its derivative, if not that of the oracle:
            a function of the arguments, options and what is differentiated; None for that one.
        positional: The options that may be given by position, as in optax.
        optional_targets: Whether `targets=None` stands for zeros.
        zero_when_exact: Whether a prediction that equals its target costs nothing, and no
            other prediction costs less.
        no_hessian: Whether second derivatives cannot be held to the law at a point, for a reason
            that stands beside the row.
        gathered: Why a device asks others for whole vectors, if these lie on several devices.
    """

    stated: Sequence[tuple[Sequence[Any], Options, Sequence[Any]]] = ()
    reduction: str = "none"
    largest: Callable[..., float | None] | None = None
    positional: tuple[str, ...] = ()
    optional_targets: bool = True
    zero_when_exact: bool = True
    no_hessian: Callable[..., bool] = lambda *args, **options: False
    gathered: str = ""

    def tried_outside(self) -> list[tuple[int | str, float]]:
        """What the row says, and what is outside the domains of `domains.py`."""
        found = [(k, bad) for k, domain in domains(self).items() for bad in ends(domain)[1]]
        return [*self.outside, *found]

    def numbers(self) -> dict[str, Any]:
        """The options that have a domain, or are tried outside of one, and ordinary numbers."""
        defaults = {name: x.default for name, x in self.parameters.items()}
        names = {where for where, _ in self.outside if isinstance(where, str)}
        names |= domains(self).keys()
        return {name: self.options.get(name, defaults[name]) for name in sorted(names)}


def taking(loss: Callable[..., Any], *names: str) -> Callable[..., Any]:
    """The loss with arrays that go by keyword taken by position, after those that have to."""
    parameters = dict(inspect.signature(loss).parameters)
    places = [
        parameters.pop(name).replace(kind=inspect.Parameter.POSITIONAL_OR_KEYWORD, default=_NONE)
        for name in names
    ]
    data = [x for x in parameters.values() if x.default is _NONE]
    rest = [x for x in parameters.values() if x.default is not _NONE]

    def named(args: tuple[Any, ...]) -> dict[str, Any]:
        return dict(zip(names, args[len(data) :], strict=True))

    @functools.wraps(loss)
    def call(*args: Any, **options: Any) -> Any:
        return loss(*args[: len(data)], **named(args), **options)

    call.__signature__ = inspect.Signature([*data, *places, *rest])  # type: ignore
    body = vars(loss)["__wrapped__"]
    call.__wrapped__ = lambda *args, **options: body(*args[: len(data)], **named(args), **options)
    return call


_NONE = inspect.Parameter.empty


def equal(p: float, t: float, *_: float, **__: Any) -> bool:
    return p == t
