"""Logits with a margin, made of the cosines between an embedding and the weights of each class.

Transforms, not losses: what they return goes into `softmax_cross_entropy_with_integer_labels`. In
the formulas c are the cosines and y is the number of the right class.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from .._contract.inputs import floating, nan_outside
from .._contract.jit import jit
from .._contract.prepared import Hyper, positive
from .._contract.reduce import Request, Where
from .._numerics.kinks import closed_form, derivative_only
from .._numerics.special import reciprocal, root
from .labels import Classes, ClassNumbers, Scores, class_numbers


def _beyond(dtype: Any) -> float:
    """How far rounding may put a cosine beyond 1: of both vectors and of their product.

    Of float32 and float64 it is that of products in TF32, which accelerators compute.
    """
    return max(1e-3, 4 * float(jnp.finfo(dtype).eps))


def _labelled_cosines(
    cosines: Scores, labels: ClassNumbers, margin: ArrayLike, scale: ArrayLike, where: Where
) -> Classes:
    """The arguments; a cosine beyond 1 or -1 by no more than rounding reads as that."""
    data = {"cosines": floating("cosines", cosines), "labels": labels}
    given = class_numbers(
        data,
        -1,
        Request(where),
        hyper={"margin": Hyper(margin), "scale": Hyper(scale, positive)},
        hint="; for one-hot labels: jnp.argmax(labels, -1) gives the numbers",
        movable=False,
    )
    c = given.scores
    near = (jnp.abs(c) > 1) & (jnp.abs(c) <= 1 + _beyond(data["cosines"].dtype))
    # With slope 1, so that it still trains.
    return given.replace(scores=jnp.where(near, jnp.sign(c) + derivative_only(c), c))


def _scaled(given: Classes, cosines: jax.Array, scale: jax.Array) -> jax.Array:
    """Cosines with the margin, times the scale; NaN where the given ones are out of range."""
    # -inf is a class that the mask excludes.
    domain = (jnp.abs(given.scores) <= 1) | (given.scores == -jnp.inf)
    return given.nan_outside(nan_outside(scale[..., None] * cosines, domain))


def _sine(c: jax.Array) -> jax.Array:
    """The sine of arccos(c), with slope 0 where it is 0."""
    return root((1 - c) * (1 + c))


def _fits(c: jax.Array, margin: jax.Array) -> jax.Array:
    """Whether arccos(c) + margin <= pi."""
    # c >= -cos(margin), in a form that keeps the digits of small margins.
    return 1 + c >= 2 * jnp.square(jnp.sin(0.5 * margin))


def _turned_slopes(
    c: jax.Array, hit: jax.Array, margin: jax.Array
) -> tuple[jax.Array, ArrayLike, jax.Array]:
    sine, fits = _sine(c), _fits(c, margin)
    in_cosine = jnp.where(fits, jnp.cos(margin) + c * reciprocal(sine) * jnp.sin(margin), 1)
    in_margin = jnp.where(
        fits,
        -(c * jnp.sin(margin) + sine * jnp.cos(margin)),
        -(jnp.sin(margin) + margin * jnp.cos(margin)),
    )
    return jnp.where(hit, in_cosine, 1), 0, jnp.where(hit, in_margin, 0)


@closed_form(_turned_slopes)
def _turned(c: jax.Array, hit: jax.Array, margin: jax.Array) -> jax.Array:
    """cos(theta + margin) at the right class, continued beyond pi; c at the others."""
    target = jnp.where(
        _fits(c, margin),
        c * jnp.cos(margin) - _sine(c) * jnp.sin(margin),
        c - margin * jnp.sin(margin),
    )
    return jnp.where(hit, target, c)


@jit()
def arcface_logits(
    cosines: Scores,
    labels: ClassNumbers,
    *,
    margin: ArrayLike = 0.5,
    scale: ArrayLike = 64.0,
    where: Where = None,
) -> Float[Array, "*batch classes"]:
    """ArcFace: logits whose angle to the right class is larger by a margin.

        scale cos(theta_y + margin)         at the right class, where theta_y + margin <= pi,
        scale (c_y - margin sin(margin))    there, beyond pi,
        scale c_j                           at the others,   with theta = arccos(c)

    The first is scale (c_y cos(margin) - sin(theta_y) sin(margin)). Where c_y is 1 or -1 the sine,
    which is the part of the embedding across the weights of its class, has a kink, and its slope is
    taken as 0: the gradient there is scale cos(margin), or scale beyond pi, never infinite. The
    rounding of vectors and their product may put a cosine beyond 1: up to 1.001 (bfloat16: 1.031,
    float16: 1.0039) it is read as 1, with that slope, and further out any c is NaN. Likewise at -1.

    Args:
        cosines: c, of shape `[..., C]`: embeddings and weights of classes, each divided by its
            length, multiplied, as `pairwise_similarity` does. Up to 1.001 (bfloat16: 1.031,
            float16: 1.0039) it reads as 1, beyond it is NaN; likewise at -1.
        labels: y, integers of shape `[...]`. A row whose label is outside [0, C) is NaN.
        margin: An angle in radians, from 0 to pi, NaN outside: one number, or one for each row.
        scale: By what cosines are multiplied: one number, or one for each row. NaN unless positive.
        where: Which rows count, or which classes, as in the loss that takes the logits; a class
            that does not has logit -inf. What excluded entries hold does not matter.

    Returns:
        Logits of the shape of `cosines`.

    Reference:
        Deng et al., "ArcFace: additive angular margin loss for deep face recognition", 2019, eq. 3,
        https://arxiv.org/abs/1801.07698; beyond pi as in the authors' code.

    Example:
        >>> arcface_logits(jnp.array([[0.8, 0.6]]), jnp.array([0]), margin=jnp.pi / 2, scale=10.0)
        Array([[-6.,  6.]], dtype=float32)
    """
    given = _labelled_cosines(cosines, labels, margin, scale, where)
    angle, factor = given.hyper
    angle = angle[..., None]
    turned = _turned(given.scores, given.labels, angle)
    domain = (angle >= 0) & (angle <= math.pi)
    return _scaled(given, nan_outside(turned, domain | ~given.labels), factor)


@jit()
def cosface_logits(
    cosines: Scores,
    labels: ClassNumbers,
    *,
    margin: ArrayLike = 0.35,
    scale: ArrayLike = 64.0,
    where: Where = None,
) -> Float[Array, "*batch classes"]:
    """CosFace: logits whose cosine with the right class is smaller by a margin.

        scale (c_y - margin)   at the right class
        scale c_j              at the others

    Args:
        cosines: c, of shape `[..., C]`: embeddings and weights of classes, each divided by its
            length, multiplied, as `pairwise_similarity` does. Up to 1.001 (bfloat16: 1.031,
            float16: 1.0039) it reads as 1, beyond it is NaN; likewise at -1.
        labels: y, integers of shape `[...]`. A row whose label is outside [0, C) is NaN.
        margin: What is subtracted at the right class: one number, or one for each row.
        scale: By what cosines are multiplied: one number, or one for each row. NaN unless positive.
        where: Which rows count, or which classes, as in the loss that takes the logits; a class
            that does not has logit -inf. What excluded entries hold does not matter.

    Returns:
        Logits of the shape of `cosines`.

    Reference:
        Wang et al., "CosFace: large margin cosine loss for deep face recognition", 2018, eq. 4,
        https://arxiv.org/abs/1801.09414.

    Example:
        >>> cosface_logits(jnp.array([[0.8, 0.6]]), jnp.array([0]), margin=0.5, scale=10.0)
        Array([[3., 6.]], dtype=float32)
    """
    given = _labelled_cosines(cosines, labels, margin, scale, where)
    distance, factor = given.hyper
    less = jnp.where(given.labels, distance[..., None], 0)
    return _scaled(given, given.scores - less, factor)
