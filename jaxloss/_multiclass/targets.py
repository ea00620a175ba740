"""Label smoothing, class weights, and the sum over the classes of labels times a loss."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from .._contract.prepared import Hyper, in_unit_interval
from .._numerics.cross_entropy import surprisal
from .._numerics.softmax import surprisals
from .labels import Axes, Classes, number_of


def smoothing(label_smoothing: ArrayLike) -> Hyper:
    """The hyperparameter `label_smoothing`: off at its default, 0."""
    return Hyper(label_smoothing, in_unit_interval, off=(0,))


def smoothed(labels: jax.Array, epsilon: jax.Array, there: jax.Array, axes: Axes) -> jax.Array:
    """(1 - epsilon) labels + epsilon / K, where K classes are there."""
    epsilon = jnp.expand_dims(epsilon, axes)
    count = number_of(there, axes).astype(labels.dtype)
    # epsilon stands once: its derivative is then one sum over the classes, where that of the
    # formula above is a difference of two.
    return labels + epsilon * (jnp.where(there, 1 / jnp.maximum(count, 1), 0) - labels)


def targets(given: Classes, epsilon: jax.Array | None = None) -> jax.Array | None:
    """Labels times class weights, smoothed; None where the right class alone has a label.

    In that case the loss of the right class needs `Classes.weighted` only. A class whose logit is
    -inf takes no part in the smoothing.
    """
    if epsilon is None and given.labels.dtype == bool:
        return None
    labels = given.labels.astype(given.dtype)
    if epsilon is not None:
        labels = smoothed(labels, epsilon, given.scores > -jnp.inf, given.axes)
    return labels if given.class_weights is None else given.class_weights * labels


def over_classes(
    given: Classes,
    epsilon: jax.Array | None,
    loss: Callable[..., jax.Array],
    *options: jax.Array,
) -> jax.Array:
    """The sum over the classes of labels times a loss of u = -log softmax(x).

    Args:
        given: The logits x and the labels.
        epsilon: How much of the labels is smoothed; None for nothing.
        loss: Takes u and the options.
        options: Hyperparameters, one number for each example.
    """
    axes, labels = given.axes, targets(given, epsilon)
    if labels is None:
        return given.weighted(loss(surprisal(given.scores, given.labels, axes), *options))
    u = surprisals(given.scores, axes)
    # The loss of an absent class may be infinite, but the label is 0.
    absent = (labels == 0) & (u == jnp.inf)
    losses = loss(jnp.where(absent, 1, u), *(jnp.expand_dims(x, axes) for x in options))
    return jnp.sum(jnp.where(absent, 0, labels * losses), axes)
