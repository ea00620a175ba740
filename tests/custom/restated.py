"""Losses of jaxloss once more, as a user would write them."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

import jaxloss


def _not_negative(x: Any) -> Any:
    return x >= 0


def _in_unit_interval(x: Any) -> Any:
    return (x >= 0) & (x <= 1)


def _huber_slopes(predictions: Any, targets: Any, *, delta: Any) -> Any:
    e = predictions - targets
    size, sign = jnp.abs(e), jnp.sign(e)
    near = (size < delta) | (delta == jnp.inf)
    slope = jnp.where(near, e, delta * sign)
    return slope, -slope, jnp.where(near, 0, size - delta)


@jaxloss.elementwise(derivative=_huber_slopes, domain={"delta": _not_negative})
def huber_loss(predictions: Any, targets: Any = 0.0, *, delta: Any = 1.0) -> Any:
    """Huber's loss."""
    e = predictions - targets
    size = jnp.abs(e)
    near = (size < delta) | (delta == jnp.inf)
    return jnp.where(near, e * e / 2, delta * (size - delta / 2))


def _log_cosh_slopes(predictions: Any, targets: Any) -> Any:
    e = predictions - targets
    # tanh(e), of which JAX's derivative, 1 - tanh(e)^2, loses its digits far from 0.
    size, sign = jnp.where(e < 0, -e, e), jnp.where(e < 0, -1, 1)
    decay = jnp.exp(-2 * size)
    slope = sign * jnp.where(size < 0.5, jnp.tanh(size), (1 - decay) / (1 + decay))
    return slope, -slope


@jaxloss.elementwise(derivative=_log_cosh_slopes)
def log_cosh(predictions: Any, targets: Any = 0.0) -> Any:
    size = jnp.abs(predictions - targets)
    # By sinh near 0, where log(cosh) would lose every digit.
    sine = jnp.sinh(jnp.minimum(size, 1.0))
    near = jnp.log1p(sine * sine) / 2
    return jnp.where(size < 1, near, size + jnp.log1p(jnp.exp(-2 * size)) - jnp.log(2.0))


def _logistic_slopes(logits: Any, labels: Any) -> Any:
    right = logits >= 0
    # Not by the absolute value, whose slope at 0 is not that of this branch.
    decay = jnp.exp(jnp.where(right, -logits, logits))
    yes, no = (1 - labels) - labels * decay, (1 - labels) * decay - labels
    return jnp.where(right, yes, no) / (1 + decay), -logits


@jaxloss.elementwise(derivative=_logistic_slopes, domain={"labels": _in_unit_interval})
def sigmoid_binary_cross_entropy(logits: Any, labels: Any) -> Any:
    """Binary cross-entropy of logits."""
    size = jnp.abs(logits)
    wrong = jnp.where(logits > 0, 1 - labels, labels)
    return jnp.log1p(jnp.exp(-size)) + jnp.where(wrong == 0, 0, wrong * size)


def _length(x: Any) -> Any:
    square = jnp.sum(x * x)
    return jnp.where(square == 0, 0, jnp.sqrt(jnp.where(square == 0, 1, square)))


def _cosine_slopes(predictions: Any, targets: Any, *, where: Any = None) -> Any:
    del where
    a, b = (jnp.where(_length(x) == 0, 1, _length(x)) for x in (predictions, targets))
    u, v = predictions / a, targets / b
    cosine = jnp.sum(u * v)
    return (cosine * u - v) / a, (cosine * v - u) / b


@jaxloss.over_axis(derivative=_cosine_slopes)
def cosine_distance(predictions: Any, targets: Any, *, where: Any = None) -> Any:
    """Entries that are not there read 0, and add nothing."""
    del where
    a, b = _length(predictions), _length(targets)
    u, v = predictions / jnp.where(a == 0, 1, a), targets / jnp.where(b == 0, 1, b)
    # Half the square of the chord: of nearly equal vectors it keeps its digits.
    return jnp.where((a == 0) | (b == 0), 1, jnp.sum((u - v) ** 2) / 2)


@jaxloss.over_axis(per_entry=["class_weights"])
def softmax_cross_entropy(
    logits: Any, labels: Any, *, class_weights: Any = None, where: Any = None
) -> Any:
    surprisal = -jax.nn.log_softmax(logits, where=where)
    weighed = labels if class_weights is None else class_weights * labels
    return jnp.sum(jnp.where(labels == 0, 0, weighed * surprisal))


@jaxloss.over_axis(class_numbers=["labels"], domain={"temperature": lambda x: x > 0})
def softmax_cross_entropy_with_integer_labels(
    logits: Any, labels: Any, *, temperature: Any = 1.0, where: Any = None
) -> Any:
    log_p = jax.nn.log_softmax(logits / temperature, where=where)
    # Selected, not indexed: classes that lie on several devices cannot be.
    return -jnp.sum(jnp.where(jnp.arange(log_p.size, dtype=labels.dtype) == labels, log_p, 0))


def _is_number(x: Any) -> Any:
    return ~jnp.isnan(x)


# A comparison hides a NaN.
@jaxloss.over_axis(per_example=["y"], domain={"y": _is_number, "margin": _is_number})
def cosine_embedding_loss(x1: Any, x2: Any, y: Any, *, margin: Any = 0.0) -> Any:
    size = _length(x1) * _length(x2)
    cosine = jnp.sum(x1 * x2) / jnp.where(size == 0, 1, size)
    return jnp.where(y > 0, 1 - cosine, jnp.maximum(cosine - margin, 0))
