"""What the laws know of a loss, and how they call it, compare, and say what they found."""

from __future__ import annotations

import functools
import inspect
import unittest
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .kinds import REAL, Kind

Options = Mapping[str, Any]

# Of the data of the laws: of one shape, so that what JAX traced for one law serves the others.
SHAPE = (8, 3)

EPS = float(np.finfo(np.float32).eps)
# Eps of float32, of the true result or of its largest term; twice that for losses that sum over
# an axis. Derivatives in hyperparameters, which are few and cost little to be wrong, have more.
LIMIT = 8
HYPER_LIMIT = 64


class DoesNotApply(unittest.SkipTest):
    """A law that has nothing to say of a loss, with the reason: a test that runs it is skipped."""


@dataclass(frozen=True)
class Subject:
    """A loss that is judged.

    Attributes:
        loss: The loss.
        data: The kind of each array argument, in order: predictions, targets, what goes with
            each prediction.
        options: The hyperparameters of the laws.
        variants: Further hyperparameters at which the accuracy is measured.
        outside: Hyperparameters and arguments out of the domain: a function of valid options
            and arguments to invalid ones, each of which has to give NaN.
        axis: Whether the loss consumes an axis.
        inner: The axes that it consumes, if they are not a single one.
        batch: Whether it is of a whole batch, `inner` being its examples and their features, and
            gives one loss for each example.
        entries: Whether a mask of the rank of the predictions takes entries out of a vector; of a
            batch, whether one of its examples takes them out.
        examples: Whether a mask of the rank of the losses takes examples out.
        branches: Options whose number chooses a formula, each of which is measured eagerly too.
        kink: Whether the loss has no derivative at a point, off which the accuracy of
            gradients is measured.
        layout: Options that say how arguments are laid out, which an oracle does not take.
        points: Where the accuracy of a loss that consumes an axis is measured, if not at vectors
            of the ends of the domain: a function of a seed.
        not_differentiated: Arguments without a derivative, each with the reason.
        not_numerical: Why finite differences do not give the derivative, if they do not.
        edges: How many of the ends of the domain are combined; fewer for slow oracles.
        features: The shape of an example's predictions, of what is drawn.
        together: Draws all arguments at once, in place of their kinds.
        mixed: Whether one call is of all its rows together: its losses depend on all of them, or
            it returns one number.
    """

    loss: Callable[..., Any]
    data: Sequence[Kind] = (REAL, REAL)
    options: Options = field(default_factory=dict)
    variants: Sequence[Options] = ()
    outside: Sequence[tuple[int | str, float]] = ()
    axis: bool = False
    inner: tuple[int, ...] = ()
    batch: bool = False
    entries: bool = True
    examples: bool = True
    branches: tuple[str, ...] = ()
    kink: Callable[..., bool] = lambda *args, **options: False
    layout: tuple[str, ...] = ()
    points: Callable[[int], Sequence[tuple[np.ndarray, ...]]] | None = None
    not_differentiated: Mapping[str, str] = field(default_factory=dict)
    not_numerical: str = ""
    edges: int = 400
    features: tuple[int, ...] = SHAPE[1:]
    together: Callable[[np.random.Generator, tuple[int, ...]], Sequence[Any]] | None = None
    mixed: bool = False

    @property
    def name(self) -> str:
        """That of the loss."""
        loss = self.loss.func if isinstance(self.loss, functools.partial) else self.loss
        return getattr(loss, "__name__", type(loss).__name__)

    @property
    def parameters(self) -> Mapping[str, inspect.Parameter]:
        """Those of the loss."""
        return inspect.signature(self.loss).parameters

    @property
    def names(self) -> list[str]:
        """Those of the array arguments."""
        found = list(self.parameters)[: len(self.data)]
        # Of a loss that takes `*args`.
        return found + [f"argument {i + 1}" for i in range(len(found), len(self.data))]

    @property
    def floating(self) -> tuple[int, ...]:
        """The positions of the arguments that may be differentiated."""
        return tuple(i for i, kind in enumerate(self.data) if not kind.index)

    @property
    def moved(self) -> list[int]:
        """The positions of those that have a derivative."""
        return [i for i in self.floating if self.names[i] not in self.not_differentiated]

    @property
    def defaults(self) -> dict[str, Any]:
        """The options that have a default."""
        options = list(self.parameters.values())[len(self.data) :]
        return {x.name: x.default for x in options if x.default is not x.empty}

    def takes(self, *names: str) -> bool:
        """Whether the loss has parameters of these names."""
        return set(names) <= set(self.parameters)

    def needs(self, *names: str) -> None:
        """Leave a law that is of parameters which the loss does not have."""
        for name in names:
            if not self.takes(name):
                raise DoesNotApply(f"{self.name} has no parameter {name}")

    def tried_outside(self) -> list[tuple[int | str, float]]:
        """Arguments and options, by position and by name, with numbers outside their domain."""
        return list(self.outside)

    def numbers(self) -> dict[str, Any]:
        """The options that are tried outside their domain, and their ordinary numbers."""
        names = {where for where, _ in self.outside if isinstance(where, str)}
        return {name: self.options.get(name, self.defaults.get(name)) for name in sorted(names)}

    def shape(self, rows: int) -> tuple[int, ...]:
        """That of the losses of so many rows."""
        if self.batch:
            return rows, *self.inner[:-1]
        return (rows,) if self.axis else (rows, *self.features)

    def draw(self, seed: int = 0, shape: tuple[int, ...] = SHAPE) -> list[np.ndarray]:
        """Valid arguments at ordinary points, in float32 or int32."""
        rng = np.random.default_rng(seed)
        shape = shape[:1] + self.inner if self.inner else shape
        if self.together:
            drawn = list(map(np.asarray, self.together(rng, shape)))
        else:
            drawn = [kind.draw(rng, shape) for kind in self.data]
        return [
            x.astype(np.int32 if kind.index else np.float32)
            for x, kind in zip(drawn, self.data, strict=True)
        ]


Law = Callable[[Subject], None]


def call(subject: Subject, *args: Any, **options: Any) -> Any:
    """What the loss returns, with its options."""
    return subject.loss(*args, **{**subject.options, **options})


def arrays(subject: Subject, seed: int = 0, shape: tuple[int, ...] = SHAPE) -> list[jax.Array]:
    """What is drawn, as arrays of JAX."""
    return [jnp.asarray(x) for x in subject.draw(seed, shape)]


def floats(subject: Subject, args: Any, change: Callable[[Any], Any]) -> list[Any]:
    """The arguments, with those that may be differentiated changed."""
    return [change(x) if i in subject.floating else x for i, x in enumerate(args)]


def filled(args: Any, places: Iterable[int], values: Any) -> list[Any]:
    """The arguments, with others in these places."""
    return list((dict(enumerate(args)) | dict(zip(places, values, strict=True))).values())


def total(subject: Subject, **options: Any) -> Callable[..., jax.Array]:
    """The sum of the losses."""
    return lambda *args: jnp.sum(call(subject, *args, **options))


def evaluation(
    subject: Subject, **options: Any
) -> Callable[..., tuple[jax.Array, list[jax.Array]]]:
    """Of arguments, the losses and the derivatives of their sum."""

    def of(*args: Any) -> Any:
        losses = call(subject, *args, **options)
        return jnp.sum(losses), losses

    slopes = jax.grad(of, subject.floating, has_aux=True)
    return lambda *args: slopes(*args)[::-1]


_PROGRAMS: dict[int, tuple[Subject, Any]] = {}


def program(subject: Subject) -> Any:
    """The losses and their derivatives, compiled for all laws of a loss."""
    if id(subject) not in _PROGRAMS:
        # Of one loss at a time: its laws come one after another.
        _PROGRAMS.clear()
        _PROGRAMS[id(subject)] = subject, jax.jit(evaluation(subject))
    return _PROGRAMS[id(subject)][1]


def evaluated(subject: Subject, args: Any) -> Any:
    """What `program` gives, as arrays of NumPy."""
    return jax.tree.map(np.asarray, program(subject)(*args))


def is_knob(value: Any) -> bool:
    """Whether an option is a number to differentiate in, neither a setting nor an array."""
    return isinstance(value, float | np.floating)


def knobs_of(options: Options) -> dict[str, Any]:
    """The options that are numbers."""
    return {name: value for name, value in options.items() if is_knob(value)}


def assert_close(
    got: Any, expected: Any, told: str = "", at: Any = None, units: float = 2 * LIMIT
) -> None:
    """Equal up to `units` eps of the largest entry: two results, each within the accuracy law.

    Args:
        got: An array.
        expected: An array of its shape.
        told: What `got` is and what it should equal, for the message.
        at: A function of the place of an entry that shows what was given there.
        units: How many eps of float32.
    """
    got, expected = np.asarray(got, float), np.asarray(expected, float)
    told = told or "two results that should be the same"
    same = got.shape == expected.shape
    assert same, f"{told}: the shape is {got.shape}, and should be {expected.shape}"
    scale = max(1.0, np.abs(expected).max(initial=0.0))
    with np.errstate(invalid="ignore"):
        far = np.abs(got - expected) / (EPS * scale)
    far = np.where(np.isfinite(got) & np.isfinite(expected), far, np.inf)
    if np.all(far <= units):
        return
    place = np.unravel_index(np.argmax(far), far.shape)
    size = f"{far[place]:.3g} eps of {scale:.3g} apart" if np.isfinite(far[place]) else "not finite"
    where = f" at {at(place)}" if at else ""
    raise AssertionError(
        f"{told}: {shown(got[place])} and {shown(expected[place])}{where} "
        f"(entry {list(map(int, place))}, {size}; {units:g} are allowed)"
    )


def shown(x: Any) -> str:
    """A number or a small array, in as many digits as float32 has."""
    x = np.asarray(x)
    if x.dtype.kind == "f":
        text = np.array2string(
            x, formatter={"float_kind": lambda x: f"{x:.9g}"}, separator=", ", threshold=12
        )
    else:
        text = np.array2string(x, separator=", ", threshold=12)
    return " ".join(text.split())


def given(subject: Subject, args: Any, **options: Any) -> str:
    """The arguments of a call, by name."""
    named = dict(zip(subject.names, args, strict=True)) | {**subject.options, **options}
    return ", ".join(f"{k}={shown(v) if np.ndim(v) or is_knob(v) else v}" for k, v in named.items())


def at_entry(subject: Subject, args: Any, **options: Any) -> Callable[[Any], str]:
    """Of the place of a loss, or of a slope, the arguments that it depends on."""

    def told(place: Any) -> str:
        rows = [
            x if subject.mixed else np.asarray(x)[place[: min(_depth(subject), np.ndim(x))]]
            for x in args
        ]
        return given(subject, rows, **options)

    return told


def _depth(subject: Subject) -> int:
    return 1 if subject.axis or subject.batch else 1 + len(subject.features)
