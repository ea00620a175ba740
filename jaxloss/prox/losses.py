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
    farther from the minimiser. Half precision is computed in float32, in which values are
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


def _loss(name: str, **hyper: Any) -> Loss:
    """A loss, whose hyperparameters are numbers."""
    for key, value in hyper.items():
        inputs.real(key, value)
    return Loss(name, hyper)


def l1_loss() -> Loss:
    """L1 loss, the absolute error, whose proximal operator is soft thresholding.

        f(e)   |e|
        prox   0 where |e| < step, else e - step sign(e)
        f*(y)  0 where |y| <= 1, else inf

    of the error e = predictions - targets, to which `prox` adds the targets again. A target
    within a step is hit exactly. The envelope is `jaxloss.huber_loss(delta=step) / step`.

    Returns:
        The loss, a `Loss`.

    Reference:
        Parikh and Boyd, "Proximal algorithms", 2014, section 6.5.2,
        https://doi.org/10.1561/2400000003.

    Example:
        >>> l1_loss().prox(jnp.array([2.0, -0.5, 0.25]), step=0.5)
        Array([1.5, 0. , 0. ], dtype=float32)
    """
    return _loss("l1_loss")


def l2_loss() -> Loss:
    """L2 loss, half the squared error.

        f(e)   e^2 / 2
        prox   e / (1 + step)
        f*(y)  y^2 / 2

    of the error e = predictions - targets. The envelope is e^2 / (2 (1 + step)).

    Returns:
        The loss, a `Loss`.

    Reference:
        Parikh and Boyd, "Proximal algorithms", 2014, section 6.1.1,
        https://doi.org/10.1561/2400000003.

    Example:
        >>> l2_loss().prox(jnp.array([2.0, -4.0]), step=3.0)
        Array([ 0.5, -1. ], dtype=float32)
    """
    return _loss("l2_loss")


def squared_error() -> Loss:
    """Squared error, twice the L2 loss.

        f(e)   e^2
        prox   e / (1 + 2 step)
        f*(y)  y^2 / 4

    of the error e = predictions - targets. The envelope is e^2 / (1 + 2 step).

    Returns:
        The loss, a `Loss`.

    Reference:
        Parikh and Boyd, "Proximal algorithms", 2014, section 6.1.1,
        https://doi.org/10.1561/2400000003.

    Example:
        >>> squared_error().prox(jnp.array([2.0, -4.0]), step=1.5)
        Array([ 0.5, -1. ], dtype=float32)
    """
    return _loss("squared_error")


def huber_loss(*, delta: ArrayLike = 1.0) -> Loss:
    """Huber loss: L2 for small errors, a line for large ones.

        f(e)   e^2 / 2                  where |e| < delta
               delta (|e| - delta / 2)  elsewhere
        prox   e / (1 + step)           where |e| < delta (1 + step)
               e - step delta sign(e)   elsewhere
        f*(y)  y^2 / 2 where |y| <= delta, else inf

    of the error e = predictions - targets. The envelope is the Huber loss of delta (1 + step),
    divided by 1 + step.

    Args:
        delta: Where the square turns into a line, in the unit of the targets. NaN below 0.

    Returns:
        The loss, a `Loss`.

    Reference:
        Beck, "First-order methods in optimization", 2017, example 6.54 and theorem 6.45,
        https://doi.org/10.1137/1.9781611974997.

    Example:
        >>> huber_loss(delta=1.0).prox(jnp.array([1.0, 5.0]), step=1.0)
        Array([0.5, 4. ], dtype=float32)
    """
    return _loss("huber_loss", delta=delta)


def smooth_l1_loss(*, beta: ArrayLike = 1.0) -> Loss:
    """Smooth L1 loss: L1 with its corner rounded off within beta of the target.

        f(e)   e^2 / (2 beta)           where |e| < beta
               |e| - beta / 2           elsewhere
        prox   beta e / (beta + step)   where |e| < beta + step
               e - step sign(e)         elsewhere
        f*(y)  beta y^2 / 2 where |y| <= 1, else inf

    of the error e = predictions - targets. The envelope is the smooth L1 loss of beta + step.

    Args:
        beta: Where the square turns into a line, in the unit of the targets. NaN below 0.

    Returns:
        The loss, a `Loss`.

    Reference:
        Beck, "First-order methods in optimization", 2017, example 6.54,
        https://doi.org/10.1137/1.9781611974997.

    Example:
        >>> smooth_l1_loss(beta=1.0).prox(jnp.array([1.0, 5.0]), step=1.0)
        Array([0.5, 4. ], dtype=float32)
    """
    return _loss("smooth_l1_loss", beta=beta)


def quantile_loss(*, quantile: ArrayLike) -> Loss:
    """Quantile (pinball) loss: soft thresholding with a threshold of its own on either side.

        f(e)   (1 - q) e where e > 0, else -q e
        prox   e - step (1 - q)  where e > step (1 - q)
               e + step q        where e < -step q
               0                 between
        f*(y)  0 where -q <= y <= 1 - q, else inf

    of the error e = predictions - targets.

    Args:
        quantile: q, from 0 to 1 and NaN outside. An array broadcasts against the data.

    Returns:
        The loss, a `Loss`.

    Reference:
        Koenker and Bassett, "Regression quantiles", 1978, https://doi.org/10.2307/1913643;
        Gu, Fan, Kong, Ma and Zou, "ADMM for high-dimensional sparse penalized quantile
        regression", 2018, https://doi.org/10.1080/00401706.2017.1345703.

    Example:
        >>> quantile_loss(quantile=0.75).prox(jnp.array([2.0, -2.0, 0.1]), step=1.0)
        Array([ 1.75, -1.25,  0.  ], dtype=float32)
    """
    return _loss("quantile_loss", quantile=quantile)


def expectile_loss(*, expectile: ArrayLike) -> Loss:
    """Expectile loss: a square with a factor of its own on either side.

        f(e)   c e^2 with c = 1 - q where e > 0, else q
        prox   e / (1 + 2 c step)
        f*(y)  y^2 / (4 c) with c = 1 - q where y > 0, else q

    of the error e = predictions - targets.

    Args:
        expectile: q, from 0 to 1 and NaN outside. An array broadcasts against the data.

    Returns:
        The loss, a `Loss`.

    Reference:
        Newey and Powell, "Asymmetric least squares estimation and testing", 1987,
        https://doi.org/10.2307/1911031.

    Example:
        >>> expectile_loss(expectile=0.75).prox(jnp.array([3.0, -5.0]), step=1.0)
        Array([ 2., -2.], dtype=float32)
    """
    return _loss("expectile_loss", expectile=expectile)


def epsilon_insensitive_loss(*, epsilon: ArrayLike = 0.1) -> Loss:
    """Epsilon-insensitive loss of support vector regression.

        f(e)   max(0, |e| - epsilon)
        prox   e                     where |e| <= epsilon
               epsilon sign(e)       where |e| <= epsilon + step
               e - step sign(e)      elsewhere
        f*(y)  epsilon |y| where |y| <= 1, else inf

    of the error e = predictions - targets.

    Args:
        epsilon: The error that costs nothing, in the unit of the targets. NaN below 0.

    Returns:
        The loss, a `Loss`.

    Reference:
        Vapnik, "The Nature of Statistical Learning Theory", 1995, section 6.1.

    Example:
        >>> loss = epsilon_insensitive_loss(epsilon=0.5)
        >>> loss.prox(jnp.array([0.25, 1.0, -3.0]), step=1.0)
        Array([ 0.25,  0.5 , -2.  ], dtype=float32)
    """
    return _loss("epsilon_insensitive_loss", epsilon=epsilon)


def squared_epsilon_insensitive_loss(*, epsilon: ArrayLike = 0.1) -> Loss:
    """Squared epsilon-insensitive loss of support vector regression.

        f(e)   max(0, |e| - epsilon)^2
        prox   e                      where |e| <= epsilon
               (e + 2 step epsilon sign(e)) / (1 + 2 step)
        f*(y)  epsilon |y| + y^2 / 4

    of the error e = predictions - targets.

    Args:
        epsilon: The error that costs nothing, in the unit of the targets. NaN below 0.

    Returns:
        The loss, a `Loss`.

    Reference:
        Lee, Hsieh and Huang, "epsilon-SSVR: a smooth support vector machine for
        epsilon-insensitive regression", 2005, https://doi.org/10.1109/TKDE.2005.77.

    Example:
        >>> loss = squared_epsilon_insensitive_loss(epsilon=0.5)
        >>> loss.prox(jnp.array([0.25, 2.0, -3.5]), step=0.5)
        Array([ 0.25,  1.25, -2.  ], dtype=float32)
    """
    return _loss("squared_epsilon_insensitive_loss", epsilon=epsilon)


def hinge_loss() -> Loss:
    """Hinge loss of a support vector machine.

        f(z)   max(0, 1 - z)
        prox   z + step  where z < 1 - step
               1         where 1 - step <= z <= 1
               z         elsewhere
        f*(y)  y where -1 <= y <= 0, else inf

    of the margin z = s x: s is 1 where the target is above 0 and -1 elsewhere. In terms of the
    scores x the point is s prox(s x), and the conjugate f*(s y).

    Returns:
        The loss, a `Loss`.

    Reference:
        Cortes and Vapnik, "Support-vector networks", 1995, https://doi.org/10.1007/BF00994018.

    Example:
        >>> hinge_loss().prox(jnp.array([0.75, 0.75, 3.0]), jnp.array([1, -1, 1]), step=0.5)
        Array([1.  , 0.25, 3.  ], dtype=float32)
    """
    return _loss("hinge_loss")


def squared_hinge_loss() -> Loss:
    """Squared hinge loss.

        f(z)   max(0, 1 - z)^2
        prox   (z + 2 step) / (1 + 2 step) where z < 1, else z
        f*(y)  y + y^2 / 4 where y <= 0, else inf

    of the margin z = s x: s is 1 where the target is above 0 and -1 elsewhere.

    Returns:
        The loss, a `Loss`.

    Reference:
        Chang, Hsieh and Lin, "Coordinate descent method for large-scale L2-loss linear support
        vector machines", 2008, https://www.jmlr.org/papers/v9/chang08a.html.

    Example:
        >>> squared_hinge_loss().prox(jnp.array([-1.0, 3.0]), jnp.array([1, 1]), step=0.5)
        Array([0., 3.], dtype=float32)
    """
    return _loss("squared_hinge_loss")


def perceptron_loss() -> Loss:
    """Perceptron loss: a hinge at 0.

        f(z)   max(0, -z)
        prox   z + step  where z < -step
               0         where -step <= z <= 0
               z         elsewhere
        f*(y)  0 where -1 <= y <= 0, else inf

    of the margin z = s x: s is 1 where the target is above 0 and -1 elsewhere.

    Returns:
        The loss, a `Loss`.

    Reference:
        Rosenblatt, "The perceptron: a probabilistic model for information storage and
        organization in the brain", 1958, https://doi.org/10.1037/h0042519.

    Example:
        >>> perceptron_loss().prox(jnp.array([-0.25, -2.0, 3.0]), jnp.array([1, 1, 1]), step=0.5)
        Array([ 0. , -1.5,  3. ], dtype=float32)
    """
    return _loss("perceptron_loss")


def sparsemax_loss() -> Loss:
    """Binary sparsemax loss: a hinge whose corner is rounded off by a parabola.

        f(z)   0                          where z >= 1
               (1 - z)^2 / 4              between
               -z                         where z <= -1
        prox   z                          where z >= 1
               (2 z + step) / (2 + step)  between
               z + step                   where z <= -1 - step
        f*(y)  y + y^2 where -1 <= y <= 0, else inf

    of the margin z = s x: s is 1 where the target is above 0 and -1 elsewhere.

    Returns:
        The loss, a `Loss`.

    Reference:
        Blondel, Martins and Niculae, "Learning with Fenchel-Young losses", 2020, section 4.4,
        https://www.jmlr.org/papers/v21/19-021.html.

    Example:
        >>> sparsemax_loss().prox(jnp.array([0.0, -4.0, 3.0]), jnp.array([1, 1, 1]), step=2.0)
        Array([ 0.5, -2. ,  3. ], dtype=float32)
    """
    return _loss("sparsemax_loss")
