"""Penalties that shrink parameters: towards 0, one by one or in groups."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from .._contract.inputs import Axis
from .._contract.prepared import non_negative
from .._numerics.kinks import absolute, closed_form, divide, square
from .._numerics.special import one_if_zero, root
from . import curves
from .curves import Curve, infinite_outside, nothing_of, product
from .penalties import Kind, Penalty, penalty, registered

Array = jax.Array


def _of(x: Array) -> Array:
    return jnp.zeros_like(x)


def _l1_curve(scale: Array) -> Curve:
    return Curve(scale, scale, limit=1.0)


def _l2_curve(scale: Array) -> Curve:
    return Curve(scale, scale, bend=1.0)


_L1 = registered(
    Kind(
        name="l1",
        domains={"scale": non_negative},
        value=lambda x, scale: curves.envelope(x, _of(x), _l1_curve(scale), _of(x)),
        prox=lambda x, step, scale: curves.point(x, _of(x), _l1_curve(scale), step),
        envelope=lambda x, step, scale: curves.envelope(x, _of(x), _l1_curve(scale), step),
        conjugate=lambda y, scale: curves.conjugate(y, _of(y), _l1_curve(scale)),
        conjugate_prox=lambda y, step, scale: curves.conjugate_point(
            y, _of(y), _l1_curve(scale), step
        ),
    )
)

_L2 = registered(
    Kind(
        name="l2",
        domains={"scale": non_negative},
        value=lambda x, scale: curves.envelope(x, _of(x), _l2_curve(scale), _of(x)),
        prox=lambda x, step, scale: curves.point(x, _of(x), _l2_curve(scale), step),
        envelope=lambda x, step, scale: curves.envelope(x, _of(x), _l2_curve(scale), step),
        conjugate=lambda y, scale: curves.conjugate(y, _of(y), _l2_curve(scale)),
        conjugate_prox=lambda y, step, scale: curves.conjugate_point(
            y, _of(y), _l2_curve(scale), step
        ),
    )
)


def l1(scale: Any) -> Penalty:
    """L1 penalty, the lasso: parameters that matter little become exactly 0.

        f(x)      scale sum |x_i|
        prox      0 where |x_i| < scale step, else x_i - scale step sign(x_i)
        envelope  Huber's: sum x_i^2 / (2 step) up to there, then a line
        f*(y)     0 where all |y_i| <= scale, else inf

    At x_i = 0 the gradient of the penalty is 0, the subgradient of least norm. At |x_i| =
    scale step the derivative of `prox` is 1.

    Args:
        scale: At least 0, NaN below; with inf all is 0. One number, or a tree of numbers or arrays;
            see `Penalty`.

    Returns:
        The penalty, a `Penalty`.

    Reference:
        Tibshirani, "Regression shrinkage and selection via the lasso", 1996,
        https://doi.org/10.1111/j.2517-6161.1996.tb02080.x; Donoho, "De-noising by
        soft-thresholding", 1995, https://doi.org/10.1109/18.382009.

    Example:
        >>> l1(0.5).prox(jnp.array([2.0, -0.5, 0.25]))
        Array([1.5, 0. , 0. ], dtype=float32)
    """
    return penalty(_L1, scale=scale)


def l2(scale: Any) -> Penalty:
    """L2 penalty, half the squared norm: ridge, weight decay.

        f(x)      scale / 2 sum x_i^2
        prox      x / (1 + scale step)
        envelope  scale / (2 (1 + scale step)) sum x_i^2
        f*(y)     sum y_i^2 / (2 scale)

    The norm that is not squared is `group_lasso`.

    Args:
        scale: At least 0, NaN below; with inf all is 0. One number, or a tree of numbers or arrays;
            see `Penalty`.

    Returns:
        The penalty, a `Penalty`.

    Reference:
        Hoerl and Kennard, "Ridge regression: biased estimation for nonorthogonal problems", 1970,
        https://doi.org/10.1080/00401706.1970.10488634.

    Example:
        >>> l2(3.0).prox(jnp.array([2.0, -4.0]))
        Array([ 0.5, -1. ], dtype=float32)
    """
    return penalty(_L2, scale=scale)


def _elastic_point(x: Array, step: Array, l1: Array, l2: Array) -> Array:
    shrunk = curves.point(x, _of(x), _l1_curve(l1), step)
    return curves.point(shrunk, _of(x), _l2_curve(l2), step)


def _elastic_envelope(x: Array, step: Array, l1: Array, l2: Array) -> Array:
    # The two add: the square is one of what the threshold leaves.
    left = curves.point(x, _of(x), _l1_curve(l1), step)
    square = curves.envelope(left, _of(x), _l2_curve(l2), step)
    return curves.envelope(x, _of(x), _l1_curve(l1), step) + square


def _slopes_curve(l1: Array, l2: Array) -> Curve:
    """The conjugate's: 0 up to l1, then a square."""
    return Curve(dead=l1, bend=l2)


def _elastic_conjugate(y: Array, l1: Array, l2: Array) -> Array:
    value = curves.envelope(y, _of(y), _slopes_curve(l1, l2), _of(y))
    return infinite_outside(value, (absolute(y) <= l1) | (l2 > 0))


_ELASTIC_NET = registered(
    Kind(
        name="elastic_net",
        domains={"l1": non_negative, "l2": non_negative},
        value=lambda x, l1, l2: _elastic_envelope(x, _of(x), l1, l2),
        prox=_elastic_point,
        envelope=_elastic_envelope,
        conjugate=_elastic_conjugate,
        conjugate_prox=lambda y, step, l1, l2: curves.point(y, _of(y), _slopes_curve(l1, l2), step),
    )
)


def elastic_net(l1: Any, l2: Any) -> Penalty:
    """Elastic net: the sum of an L1 and an L2 penalty.

        f(x)      l1 sum |x_i| + l2 / 2 sum x_i^2
        prox      that of `l1`, divided by 1 + l2 step
        f*(y)     sum max(0, |y_i| - l1)^2 / (2 l2)

    scikit-learn's `alpha` and `l1_ratio` are l1 = alpha l1_ratio and l2 = alpha (1 - l1_ratio),
    beside half the mean of the squared errors. At x_i = 0 the gradient is 0.

    Args:
        l1: At least 0, NaN below; with inf all is 0. One number, or a tree of numbers or arrays;
            see `Penalty`.
        l2: Likewise.

    Returns:
        The penalty, a `Penalty`.

    Reference:
        Zou and Hastie, "Regularization and variable selection via the elastic net", 2005,
        https://doi.org/10.1111/j.1467-9868.2005.00503.x; Parikh and Boyd, "Proximal algorithms",
        2014, section 6.5.3, https://doi.org/10.1561/2400000003.

    Example:
        >>> elastic_net(l1=0.5, l2=1.0).prox(jnp.array([2.5, -0.5, 0.25]))
        Array([1., 0., 0.], dtype=float32)
    """
    return penalty(_ELASTIC_NET, l1=l1, l2=l2)


def bounded(x: Array) -> tuple[Array, Array]:
    """Whether a vector along the last axis has infinite entries, and the vectors, 0 for those.

    A vector that has NaN too is as good as NaN.
    """
    infinite = jnp.max(jnp.abs(x), -1, keepdims=True, initial=0) == jnp.inf
    return infinite, jnp.where(infinite, 0, x)


def _bounded_length(x: Array) -> Array:
    largest = jnp.max(jnp.abs(jax.lax.stop_gradient(x)), -1, keepdims=True, initial=0)
    # Divided by the largest entry no square overflows or vanishes.
    scale = jnp.where(largest > 0, largest, 1)
    return scale * root(jnp.sum(square(x / scale), -1, keepdims=True))


def direction(x: Array) -> Array:
    """x / |x|, and 0 for 0.

    One infinite entry leaves the others behind; of several the direction is unknown.
    """
    infinite, finite = bounded(x)
    endless = jnp.isinf(x)
    several = jnp.sum(endless, -1, keepdims=True, dtype=jnp.int32) > 1
    limit = jnp.where(endless, jnp.sign(x), 0) + jnp.where(several, jnp.nan, 0)
    return jnp.where(infinite, limit, divide(finite, one_if_zero(_bounded_length(finite))))


@closed_form(lambda x: (direction(x),), axes=(-1,))
def _length(x: Array) -> Array:
    infinite, finite = bounded(x)
    return jnp.where(infinite, jnp.inf, _bounded_length(finite))[..., 0]


def length(x: Array) -> Array:
    """The norm along the last axis, which is kept, with slope 0 at 0."""
    return _length(x)[..., None]


def group_point(x: Array, step: Array, scale: Array) -> Array:
    """Vectors along the last axis, shortened by scale step."""
    cut = product(scale, step)
    infinite, finite = bounded(x)
    norm = _bounded_length(finite)
    # Also NaN, so that no entry beside it looks like a number.
    longer = ~(norm < cut) & (norm != 0)
    left = jnp.where(longer, norm - jnp.where(longer, cut, 0), 1)
    # A group that is 0 stays so, with the derivative of its surroundings.
    shrunk = divide(left, jnp.where(longer, norm, 1))
    point = jnp.where(norm < cut, 0, finite * shrunk)
    # What is cut off is nothing of an infinite vector.
    return jnp.where(infinite & (cut < jnp.inf), x, point)


def _group_envelope(x: Array, step: Array, scale: Array) -> Array:
    norm, cut = length(x), product(scale, step)
    near = (norm < cut) | (cut == jnp.inf)
    held = jnp.where(near, x, 0)
    inside = jnp.sum(0.5 * held * divide(held, jnp.where(near, step, 1)), -1, keepdims=True)
    line = product(jnp.where(near, 0, scale), norm - 0.5 * jnp.where(near, 0, cut))
    return jnp.where(near, inside, line)


def in_ball(x: Array, radius: Array) -> Array:
    """The nearest point of the ball around 0."""
    infinite, finite = bounded(x)
    norm = _bounded_length(finite)
    # A ball that is a point has no inside, nor has NaN.
    outside = ~(norm <= radius) | (radius == 0)
    shrunk = divide(jnp.where(outside, radius, 1), jnp.where(outside, one_if_zero(norm), 1))
    far = product(jnp.where(infinite, radius, 0), direction(x))
    return jnp.where(radius == jnp.inf, x, jnp.where(infinite, far, finite * shrunk))


def _group_conjugate(y: Array, scale: Array) -> Array:
    norm = length(y)
    # Slopes that are exactly as long as the scale are so up to rounding.
    tolerance = 4 * jnp.finfo(y.dtype).eps
    return infinite_outside(nothing_of(norm), norm <= scale * (1 + tolerance))


_GROUP_LASSO = registered(
    Kind(
        name="group_lasso",
        domains={"scale": non_negative},
        value=lambda x, scale: product(scale, length(x)),
        prox=group_point,
        envelope=_group_envelope,
        conjugate=_group_conjugate,
        conjugate_prox=lambda y, step, scale: in_ball(y, scale),
        vectors=True,
    )
)


def group_lasso(scale: Any, *, axis: Axis = None) -> Penalty:
    """Group lasso, a sum of norms: whole groups of parameters become exactly 0.

        f(x)      scale sum |x_g|
        prox      x_g max(0, 1 - scale step / |x_g|)
        envelope  sum |x_g|^2 / (2 step) where |x_g| < scale step
                      scale |x_g| - scale^2 step / 2 elsewhere
        f*(y)     0 where all |y_g| <= scale, else inf

    with the Euclidean norm of each group g. At x_g = 0 the gradient of the penalty is 0, the
    subgradient of least norm. Slopes as long as the scale are so up to four roundings. Yuan and
    Lin weigh a group of n parameters with sqrt(n): that is a factor of the scale.

    Args:
        scale: At least 0, NaN below; with inf all is 0. One number, or a tree; an array has size 1
            along `axis`.
        axis: The axes of each array that make up a group, or None for all: each array is a group.
            For a kernel `[inputs, outputs]` the weights of an input are a group along axis 1.

    Returns:
        The penalty, a `Penalty`.

    Reference:
        Yuan and Lin, "Model selection and estimation in regression with grouped variables", 2006,
        https://doi.org/10.1111/j.1467-9868.2005.00532.x; Parikh and Boyd, "Proximal algorithms",
        2014, section 6.5.4, https://doi.org/10.1561/2400000003.

    Example:
        >>> kernel = jnp.array([[3.0, 4.0], [0.3, 0.4]])
        >>> group_lasso(1.0, axis=1).prox(kernel)
        Array([[2.4, 3.2],
               [0. , 0. ]], dtype=float32)
    """
    return penalty(_GROUP_LASSO, axis, scale=scale)
