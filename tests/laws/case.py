"""What a row says of a loss, and the kinds of argument that rows are made of."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Options = Mapping[str, Any]

# Of the data of the laws: of one shape, so that what JAX traced for one law serves the others.
SHAPE = (8, 3)

# In the order of the tables.
FAMILIES = (
    "binary",
    "regression",
    "likelihood",
    "multiclass",
    "divergence",
    "sequences",
    "segmentation",
    "contrastive",
    "embedding",
    "ranking",
    "preference",
    "boxes",
)

# Where rounding shows: the smallest and largest numbers, saturation, exponents of 80.
SIZES = (1e-30, 1e-12, 1e-4, 0.3, 1.0, 2.5, 17.0, 80.0, 1e5, 1e12, 1e20, 1e30)


@dataclass(frozen=True)
class Kind:
    """A kind of argument.

    Attributes:
        draw: Ordinary arguments of a shape, for the laws.
        edges: The ends of its domain.
        index: Whether it is the number of a class: an integer for each vector, without the
            vector's axis.
        single: Whether it is a floating number for each vector, without the vector's axis.
        whole: Ordinary arguments as integers, where the kind has integers.
        infinite: The infinities that belong to its domain, if they are not among its ends.
    """

    draw: Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]
    edges: Sequence[float] = ()
    index: bool = False
    single: bool = False
    whole: Callable[[np.ndarray], np.ndarray] | None = lambda x: np.round(x) + 1
    infinite: Sequence[float] = ()


REAL = Kind(
    lambda rng, shape: rng.normal(0, 2, shape),
    (0.0, 1e-40, *SIZES, *(-x for x in SIZES)),
    infinite=(np.inf, -np.inf),
)
POSITIVE = Kind(lambda rng, shape: rng.uniform(0.3, 3, shape), SIZES)
ABOVE_MINUS_ONE = Kind(
    lambda rng, shape: rng.uniform(-0.6, 3, shape),
    (0.0, -0.999, -0.5, -1e-4, -1e-30, *SIZES),
)
# Beyond 88 exp(f) overflows in float32, but not every loss of it.
LOGARITHM = Kind(
    lambda rng, shape: rng.normal(0, 1, shape),
    (0.0, 1e-30, -1e-30, 1e-4, 0.7, -0.7, 12.0, -12.0, 80.0, -80.0, 100.0, -100.0),
)
COUNT = Kind(
    lambda rng, shape: rng.poisson(3, shape).astype(float),
    (0.0, 1.0, 2.0, 3.0, 7.0, 8.0, 9.0, 100.0, 1e5),
)
NON_NEGATIVE = Kind(lambda rng, shape: rng.uniform(0.3, 3, shape), (0.0, *SIZES))
MODERATE = Kind(lambda rng, shape: rng.uniform(0.3, 3, shape), (1e-6, 1e-3, 0.5, 4.0, 100.0))

# Of a vector: logits, of which none is so near to another that float32 rounds their difference;
# labels and probabilities that sum to 1; several labels; the number of the label.
LOGITS = Kind(
    lambda rng, shape: rng.normal(0, 2, shape),
    (0.0, 0.5, 1.0, -1.0, 2.25, -17.0, 17.0, 80.0, -80.0, 104.0, -104.0, 1e5, -1e5, 1e30, -1e30),
)
PROBABILITIES = Kind(
    lambda rng, shape: rng.dirichlet(np.ones(shape[-1]), shape[:-1]),
    (0.0, 0.0, 1e-30, 1e-6, 0.25, 0.5, 1.0),
    whole=None,
)
LOG_PROBABILITIES = Kind(
    lambda rng, shape: np.log(rng.dirichlet(np.ones(shape[-1]), shape[:-1])),
    (0.0, -1e-6, -0.25, -1.0, -17.0, -80.0, -1e5, -1e30),
)
LABELS = Kind(
    lambda rng, shape: (rng.uniform(size=shape) < 0.5).astype(float), (0.0, 1.0), whole=lambda x: x
)
SIGNS = Kind(
    lambda rng, shape: np.where(rng.uniform(size=shape) < 0.5, -1.0, 1.0),
    (-1.0, 1.0),
    whole=lambda x: x,
)
SIGN = Kind(
    lambda rng, shape: SIGNS.draw(rng, shape[:-1]), (-1.0, 1.0), single=True, whole=lambda x: x
)
SOFT_LABELS = Kind(
    lambda rng, shape: rng.uniform(0, 1, shape), (0.0, 1.0, 0.25, 1e-6, 0.9), whole=np.round
)
CLASS = Kind(lambda rng, shape: rng.integers(0, shape[-1], shape[:-1]), index=True, whole=None)


@dataclass(frozen=True)
class Case:
    """A row.

    Attributes:
        loss: The loss.
        data: The kind of each array argument, in order: predictions, targets, what goes with
            each prediction.
        options: The hyperparameters of the laws.
        variants: Further hyperparameters at which the accuracy is measured.
        kink: Whether the loss has no derivative at a point, off which the accuracy of
            gradients is measured.
        stated: The gradient that the docstring states at a point: (arguments, options,
            gradients in predictions and in targets).
        outside: Hyperparameters and arguments out of the domain: a function of valid options
            and arguments to invalid ones, each of which has to give NaN.
        axis: Whether the loss consumes an axis.
        inner: The axes that it consumes, if they are not a single one.
        batch: Whether it is of a whole batch, `inner` being its examples and their features, and
            gives one loss for each example.
        entries: Whether a mask of the rank of the predictions takes entries out of a vector; of a
            batch, whether one of its examples takes them out.
        branches: Options whose number chooses a formula, each of which is measured eagerly too.
        layout: Options that say how arguments are laid out, which an oracle does not take.
        reduction: The default, where optax returns a mean.
        points: Where the accuracy of a loss that consumes an axis is measured, if not at vectors
            of the ends of the domain: a function of a seed.
        largest: The largest term of the loss, or of its derivative, if not that of the oracle:
            a function of the arguments, options and what is differentiated; None for that one.
        positional: The options that may be given by position, as in optax.
        optional_targets: Whether `targets=None` stands for zeros.
        zero_when_exact: Whether a prediction that equals its target costs nothing, and no
            other prediction costs less.
        not_differentiated: Arguments without a derivative, each with the reason.
        no_hessian: Whether second derivatives cannot be held to the law at a point, for a reason
            that stands beside the row.
        not_numerical: Why finite differences do not give the derivative, if they do not.
        edges: How many of the ends of the domain are combined; fewer for slow oracles.
    """

    loss: Callable[..., Any]
    data: Sequence[Kind] = (REAL, REAL)
    options: Options = field(default_factory=dict)
    variants: Sequence[Options] = ()
    kink: Callable[..., bool] = lambda *args, **options: False
    stated: Sequence[tuple[Sequence[Any], Options, Sequence[Any]]] = ()
    outside: Sequence[tuple[int | str, float]] = ()
    axis: bool = False
    inner: tuple[int, ...] = ()
    batch: bool = False
    entries: bool = True
    branches: tuple[str, ...] = ()
    layout: tuple[str, ...] = ()
    reduction: str = "none"
    points: Callable[[int], Sequence[tuple[np.ndarray, ...]]] | None = None
    largest: Callable[..., float | None] | None = None
    positional: tuple[str, ...] = ()
    optional_targets: bool = True
    zero_when_exact: bool = True
    not_differentiated: Mapping[str, str] = field(default_factory=dict)
    no_hessian: Callable[..., bool] = lambda *args, **options: False
    not_numerical: str = ""
    edges: int = 400

    @property
    def name(self) -> str:
        return self.loss.__name__

    @property
    def names(self) -> list[str]:
        """Those of the array arguments."""
        return list(inspect.signature(self.loss).parameters)[: len(self.data)]

    @property
    def floating(self) -> tuple[int, ...]:
        """The positions of the arguments that may be differentiated."""
        return tuple(i for i, kind in enumerate(self.data) if not kind.index)

    def shape(self, rows: int) -> tuple[int, ...]:
        """That of the losses of so many rows."""
        if self.batch:
            return rows, *self.inner[:-1]
        return (rows,) if self.axis else (rows, *SHAPE[1:])

    def draw(self, seed: int = 0, shape: tuple[int, ...] = SHAPE) -> list[np.ndarray]:
        """Valid arguments at ordinary points, in float32 or int32."""
        rng = np.random.default_rng(seed)
        shape = shape[:1] + self.inner if self.inner else shape
        drawn = [(kind.draw(rng, shape), kind) for kind in self.data]
        return [x.astype(np.int32 if kind.index else np.float32) for x, kind in drawn]


def taking(loss: Callable[..., Any], name: str) -> Callable[..., Any]:
    """The loss with an array that goes by keyword taken by position, as its third argument."""
    parameters = dict(inspect.signature(loss).parameters)
    moved = parameters.pop(name)
    first, second, *rest = parameters.values()

    @functools.wraps(loss)
    def call(x: Any, y: Any, third: Any, **options: Any) -> Any:
        return loss(x, y, **{name: third}, **options)

    moved = moved.replace(kind=moved.POSITIONAL_OR_KEYWORD, default=moved.empty)
    call.__signature__ = inspect.Signature([first, second, moved, *rest])  # type: ignore
    body = vars(loss)["__wrapped__"]
    call.__wrapped__ = lambda x, y, third, **options: body(x, y, **{name: third}, **options)
    return call


def equal(p: float, t: float, *_: float, **__: Any) -> bool:
    return p == t
