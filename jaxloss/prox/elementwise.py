"""Losses as objects that know their proximal operators: of each element by itself.

Their names are those of the losses of `jaxloss`, which they are when they are called.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Float, Real

from .._contract import inputs
from .._contract.prepared import Elements, Hyper, elementwise, in_unit_interval, non_negative
from .._contract.reduce import Request
from .._numerics.kinks import sign
from . import curves
from .curves import Curve

Predictions = Float[ArrayLike, "*batch"] | Sequence[Any]
Targets = Real[ArrayLike, "*batch"] | Sequence[Any] | None
Domain = Callable[[jax.Array], jax.Array]


class Formula(NamedTuple):
    """What a loss is made of.

    Attributes:
        curve: That of the error, from the hyperparameters.
        domains: Where the hyperparameters may lie.
        margin: Of a loss of the margin, where it begins; None for a loss of the error. A margin is
            the score times the sign of the target, and the curve that of margin - `margin`.
    """

    curve: Callable[..., Curve]
    domains: Mapping[str, Domain] = {}
    margin: float | None = None


FORMULAS = {
    "l1_loss": Formula(lambda: Curve(limit=1.0)),
    "l2_loss": Formula(lambda: Curve(bend=1.0)),
    "squared_error": Formula(lambda: Curve(2.0, 2.0, bend=1.0)),
    "huber_loss": Formula(
        lambda delta: Curve(bend=1.0, limit=delta),
        {"delta": non_negative},
    ),
    "smooth_l1_loss": Formula(
        lambda beta: Curve(bend=beta, limit=1.0),
        {"beta": non_negative},
    ),
    "quantile_loss": Formula(
        lambda quantile: Curve(1 - quantile, quantile, limit=1.0),
        {"quantile": in_unit_interval},
    ),
    "expectile_loss": Formula(
        lambda expectile: Curve(2 * (1 - expectile), 2 * expectile, bend=1.0),
        {"expectile": in_unit_interval},
    ),
    "epsilon_insensitive_loss": Formula(
        lambda epsilon: Curve(dead=epsilon, limit=1.0),
        {"epsilon": non_negative},
    ),
    "squared_epsilon_insensitive_loss": Formula(
        lambda epsilon: Curve(2.0, 2.0, dead=epsilon, bend=1.0),
        {"epsilon": non_negative},
    ),
    "hinge_loss": Formula(lambda: Curve(0.0, 1.0, limit=1.0), margin=1.0),
    "squared_hinge_loss": Formula(lambda: Curve(0.0, 2.0, bend=1.0), margin=1.0),
    "perceptron_loss": Formula(lambda: Curve(0.0, 1.0, limit=1.0), margin=0.0),
    "sparsemax_loss": Formula(lambda: Curve(0.0, 1.0, bend=2.0, limit=1.0), margin=1.0),
}


class _Given(NamedTuple):
    """The arguments of a call.

    Attributes:
        record: As the contract prepares them.
        x: The points, times the sign of their targets for a loss of the margin.
        t: The targets, or where the margin begins.
        curve: The curve of x - t.
        sign: What the points were multiplied by.
        step: The length of the step.
    """

    record: Elements
    x: jax.Array
    t: jax.Array
    curve: Curve
    sign: jax.Array | float
    step: jax.Array


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False, repr=False)
class Loss:
    """A loss with its hyperparameters, its proximal operator, envelope and conjugate.

    The functions of this module make one: `huber_loss(delta=0.5)`. It is a pytree of its
    hyperparameters, which may be arrays that broadcast against the data, and differentiable in
    them. All methods work element by element. With f the loss as a function of predictions p:

        prox(x)      the p that minimises f(p) + (p - x)^2 / (2 step)
        envelope(x)  that minimum
        conjugate(y) the largest value of y p - f(p)

    All are differentiable, in both modes and twice. The gradient of the envelope is
    (x - prox(x)) / step. Where two pieces of `prox` meet, its derivative is that of the piece
    farther from the minimiser. Of infinite errors all are limits; with an infinite `beta` or
    `epsilon` no error costs anything. Half precision is computed in float32, in which values are
    returned; points have the dtype of the predictions.

    Attributes:
        name: That of the loss in `jaxloss`.
        hyper: Its hyperparameters by name.

    Reference:
        Moreau, "Proximité et dualité dans un espace hilbertien", 1965,
        https://doi.org/10.24033/bsmf.1625; Parikh and Boyd, "Proximal algorithms", 2014,
        https://doi.org/10.1561/2400000003.

    Example:
        >>> from jaxloss import prox
        >>> loss = prox.l1_loss()
        >>> loss.prox(jnp.array([3.0, 1.2, 0.9]), jnp.array([1.0, 1.0, 1.0]), step=0.5)
        Array([2.5, 1. , 1. ], dtype=float32)
    """

    name: str = field(metadata={"static": True})
    hyper: dict[str, Any]

    def __call__(self, predictions: Predictions, targets: Targets = None) -> jax.Array:
        """The loss itself, as `jaxloss` has it.

        Args:
            predictions: Any shape.
            targets: The shape of `predictions`, a scalar, or None for zeros.

        Returns:
            One loss per element.
        """
        given = self._given({"predictions": predictions}, targets, 0.0)
        return self._checked(given, self._envelope(given))

    def prox(
        self, predictions: Predictions, targets: Targets = None, step: ArrayLike = 1.0
    ) -> jax.Array:
        """The proximal point: a step towards the target that never overshoots.

            argmin over p of  f(p) + (p - x)^2 / (2 step)

        Args:
            predictions: x, of any shape.
            targets: The shape of `predictions`, a scalar, or None for zeros.
            step: How far to go, at least 0 and NaN below. An array broadcasts against the data, so
                that a weight of each example is a factor of its step. With inf the nearest
                minimiser is reached.

        Returns:
            The points, in the dtype of `predictions`.
        """
        given = self._given({"predictions": predictions}, targets, step)
        found = curves.point(given.x, given.t, given.curve, given.step, self._hinged)
        return self._as_given(given, found, predictions)

    def envelope(
        self, predictions: Predictions, targets: Targets = None, step: ArrayLike = 1.0
    ) -> jax.Array:
        """The Moreau envelope: the loss with its corners rounded off, and the same minimisers.

            min over p of  f(p) + (p - x)^2 / (2 step)

        Args:
            predictions: x, of any shape.
            targets: The shape of `predictions`, a scalar, or None for zeros.
            step: At least 0, NaN below. With 0 it is the loss.

        Returns:
            One value per element.
        """
        given = self._given({"predictions": predictions}, targets, step)
        return self._checked(given, self._envelope(given))

    def conjugate(self, y: Predictions, targets: Targets = None) -> jax.Array:
        """The convex conjugate, the supremum of y p - f(p) over all p.

        Args:
            y: Slopes, of any shape.
            targets: The shape of `y`, a scalar, or None for zeros.

        Returns:
            One value per element; inf, with a derivative of NaN, where the supremum is.
        """
        given = self._given({"y": y}, targets, 0.0)
        return self._checked(given, curves.conjugate(given.x, given.t, given.curve))

    def conjugate_prox(
        self, y: Predictions, targets: Targets = None, step: ArrayLike = 1.0
    ) -> jax.Array:
        """The proximal point under the conjugate, of which primal-dual methods are made.

            argmin over z of  f*(z) + (z - y)^2 / (2 step)

        By Moreau's decomposition it is y - step prox(y / step) with a step of 1 / step.

        Args:
            y: Slopes, of any shape.
            targets: The shape of `y`, a scalar, or None for zeros.
            step: At least 0, NaN below.

        Returns:
            The points, in the dtype of `y`. They are slopes that the loss has.
        """
        given = self._given({"y": y}, targets, step)
        found = curves.conjugate_point(given.x, given.t, given.curve, given.step)
        return self._as_given(given, found, y)

    def __repr__(self) -> str:
        """The call that makes it."""
        return f"{self.name}({', '.join(f'{k}={v}' for k, v in self.hyper.items())})"

    @property
    def _formula(self) -> Formula:
        return FORMULAS[self.name]

    @property
    def _hinged(self) -> bool:
        return self._formula.margin is not None

    def _given(self, point: dict[str, Any], targets: Any, step: Any) -> _Given:
        if targets is None and self._hinged:
            raise TypeError(f"{self.name} needs targets, whose signs say the sides")
        domains = self._formula.domains
        hyper = {key: Hyper(value, domains[key]) for key, value in self.hyper.items()}
        hyper["step"] = Hyper(step, non_negative)
        data = point if targets is None else {**point, "targets": targets}
        record = elementwise(data, Request(), hyper=hyper)
        x, *given = record.data
        t = given[0] if given else jnp.zeros_like(x)
        *numbers, step = record.hyper
        curve = self._formula.curve(*numbers)
        if self._formula.margin is None:
            return _Given(record, x, t, curve, 1.0, step)
        side = sign(t)
        return _Given(record, side * x, jnp.full_like(t, self._formula.margin), curve, side, step)

    def _envelope(self, given: _Given) -> jax.Array:
        return curves.envelope(given.x, given.t, given.curve, given.step, self._hinged)

    def _as_given(self, given: _Given, found: jax.Array, points: Any) -> jax.Array:
        dtype = inputs.floating("predictions", points).dtype
        return self._checked(given, given.sign * found).astype(dtype)

    @staticmethod
    def _checked(given: _Given, found: jax.Array) -> jax.Array:
        """NaN where a hyperparameter is out of its domain."""
        known = given.record.known
        return found if known is None else inputs.nan_outside(found, known)


def loss_of(name: str, **hyper: Any) -> Loss:
    """A loss, whose hyperparameters are numbers."""
    for key, value in hyper.items():
        inputs.real(key, value)
    return Loss(name, hyper)
