"""Kinds of argument: how to draw ordinary ones, and where the ends of their domain are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

# Where rounding shows: the smallest and largest numbers, saturation, exponents of 80.
SIZES = (1e-30, 1e-12, 1e-4, 0.3, 1.0, 2.5, 17.0, 80.0, 1e5, 1e12, 1e20, 1e30)


@dataclass(frozen=True, repr=False)
class Kind:
    """A kind of argument: how to draw it, and the ends of its domain.

    The usual ones are there by name: `REAL`, `POSITIVE`, `NON_NEGATIVE`, `COUNT`, `LOGARITHM` of
    a number; `LOGITS`, `PROBABILITIES`, `LOG_PROBABILITIES` of a vector; `LABELS`, `SOFT_LABELS`
    and `SIGNS` of yes or no; `CLASS`, the number of a class.

    Attributes:
        draw: Ordinary arguments of a shape, for the laws.
        edges: The ends of its domain.
        index: Whether it is the number of a class: an integer for each vector, without the
            vector's axis.
        single: Whether it is a floating number for each vector, without the vector's axis.
        whole: Ordinary arguments as integers, where the kind has integers.
        infinite: The infinities that belong to its domain, if they are not among its ends.
        about: What it is, in a sentence.

    Example:
        An angle between -pi and pi:

        >>> import numpy as np
        >>> ANGLE = Kind(lambda rng, shape: rng.uniform(-3, 3, shape), (0.0, -np.pi, np.pi))
        >>> ANGLE.draw(np.random.default_rng(0), (2, 3)).shape
        (2, 3)
    """

    draw: Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]
    edges: Sequence[float] = ()
    index: bool = False
    single: bool = False
    whole: Callable[[np.ndarray], np.ndarray] | None = lambda x: np.round(x) + 1
    infinite: Sequence[float] = ()
    about: str = ""

    def __repr__(self) -> str:
        """What it is, not how it draws."""
        return f"<Kind: {self.about or 'of your own'}>"


REAL = Kind(
    lambda rng, shape: rng.normal(0, 2, shape),
    (0.0, 1e-40, *SIZES, *(-x for x in SIZES)),
    infinite=(np.inf, -np.inf),
    about="Any number, infinite ones among them: a prediction or a target of a regression.",
)
POSITIVE = Kind(
    lambda rng, shape: rng.uniform(0.3, 3, shape),
    SIZES,
    about="A number above 0: a scale, a variance.",
)
ABOVE_MINUS_ONE = Kind(
    lambda rng, shape: rng.uniform(-0.6, 3, shape),
    (0.0, -0.999, -0.5, -1e-4, -1e-30, *SIZES),
    about="A number above -1, of which `log1p` is taken.",
)
# Beyond 88 exp(f) overflows in float32, but not every loss of it.
LOGARITHM = Kind(
    lambda rng, shape: rng.normal(0, 1, shape),
    (0.0, 1e-30, -1e-30, 1e-4, 0.7, -0.7, 12.0, -12.0, 80.0, -80.0, 100.0, -100.0),
    about="The logarithm of a rate or a mean: its exponential may overflow.",
)
COUNT = Kind(
    lambda rng, shape: rng.poisson(3, shape).astype(float),
    (0.0, 1.0, 2.0, 3.0, 7.0, 8.0, 9.0, 100.0, 1e5),
    about="How often something happened: 0, 1, 2, ..., as a float.",
)
NON_NEGATIVE = Kind(
    lambda rng, shape: rng.uniform(0.3, 3, shape),
    (0.0, *SIZES),
    about="A number from 0: a distance, an amount.",
)
MODERATE = Kind(
    lambda rng, shape: rng.uniform(0.3, 3, shape),
    (1e-6, 1e-3, 0.5, 4.0, 100.0),
    about="A positive number of moderate size, from 1e-6 to 100: a shape, a dispersion.",
)

# Of a vector: logits, of which none is so near to another that float32 rounds their difference;
# labels and probabilities that sum to 1; several labels; the number of the label.
LOGITS = Kind(
    lambda rng, shape: rng.normal(0, 2, shape),
    (0.0, 0.5, 1.0, -1.0, 2.25, -17.0, 17.0, 80.0, -80.0, 104.0, -104.0, 1e5, -1e5, 1e30, -1e30),
    about="Scores of classes, a vector of numbers of any size.",
)
PROBABILITIES = Kind(
    lambda rng, shape: rng.dirichlet(np.ones(shape[-1]), shape[:-1]),
    (0.0, 0.0, 1e-30, 1e-6, 0.25, 0.5, 1.0),
    whole=None,
    about="Probabilities of classes, a vector that sums to 1.",
)
LOG_PROBABILITIES = Kind(
    lambda rng, shape: np.log(rng.dirichlet(np.ones(shape[-1]), shape[:-1])),
    (0.0, -1e-6, -0.25, -1.0, -17.0, -80.0, -1e5, -1e30),
    about="Logarithms of probabilities of classes, a vector.",
)
LABELS = Kind(
    lambda rng, shape: (rng.uniform(size=shape) < 0.5).astype(float),
    (0.0, 1.0),
    whole=lambda x: x,
    about="Yes or no: 0 or 1 for each entry, as a float.",
)
SIGNS = Kind(
    lambda rng, shape: np.where(rng.uniform(size=shape) < 0.5, -1.0, 1.0),
    (-1.0, 1.0),
    whole=lambda x: x,
    about="Yes or no: -1 or 1 for each entry.",
)
SIGN = Kind(
    lambda rng, shape: SIGNS.draw(rng, shape[:-1]),
    (-1.0, 1.0),
    single=True,
    whole=lambda x: x,
    about="Yes or no: -1 or 1 for each vector.",
)
SOFT_LABELS = Kind(
    lambda rng, shape: rng.uniform(0, 1, shape),
    (0.0, 1.0, 0.25, 1e-6, 0.9),
    whole=np.round,
    about="How far yes: a number from 0 to 1 for each entry.",
)
CLASS = Kind(
    lambda rng, shape: rng.integers(0, shape[-1], shape[:-1]),
    index=True,
    whole=None,
    about="The number of a class for each vector: an integer from 0.",
)
