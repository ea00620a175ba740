"""What losses of overlap share: sums over the pixels of each class, and means over the classes."""

from __future__ import annotations

from typing import Literal, get_args

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from .._contract import inputs
from .._contract.inputs import ClassWeights
from .._contract.prepared import Hyper, in_unit_interval, non_negative, positive
from .._numerics.reductions import sums_of_pixels
from .._numerics.sharding import whole_along
from .images import Images

ClassReduction = Literal["mean", "present", "sum", "none"]


def overlap_hypers(
    smooth: ArrayLike,
    alpha: ArrayLike,
    beta: ArrayLike,
    smooth_denominator: ArrayLike | None = None,
    **others: ArrayLike,
) -> dict[str, Hyper]:
    """Those of `overlaps` and others, all of which are 0 or more."""
    values = {"smooth": smooth, "alpha": alpha, "beta": beta, **others}
    hypers = {name: Hyper(value, non_negative) for name, value in values.items()}
    return hypers | {"smooth_denominator": Hyper(smooth_denominator, positive, off=(None,))}


def _or_nan(x: jax.Array) -> jax.Array:
    """Numbers in [0, 1]; any other makes the sums that it is in NaN."""
    return x + jnp.where(in_unit_interval(x), 0, jnp.nan).astype(x.dtype)


def in_domain(image: Images) -> Images:
    """With NaN for what is no probability."""
    hits = _or_nan(image.hits) if image.soft else image.hits
    return image.replace(hits=hits, p=_or_nan(image.p) if image.given else image.p)


def summed(image: Images, *terms: jax.Array) -> tuple[Images, tuple[jax.Array, ...]]:
    """The sums over the pixels, and the images without those where the first sum is NaN."""
    sums = sums_of_pixels(image.axes, *terms)
    if image.soft or image.given:
        image = image.inside(~jnp.any(jnp.isnan(sums[0]), -1))
    return image, sums


def overlaps(
    image: Images, squared: bool = False, smoothed: bool = True
) -> tuple[Images, jax.Array, jax.Array]:
    """The images, with what lies outside the domain, and both parts of each class.

    A loss is the share of the first, alpha FP + beta FN, in the sum of it and the second, I +
    smooth. Neither is a difference.

    Args:
        image: With the hyperparameters of `overlap_hypers`.
        squared: Whether FP is p^2 - p t and FN is t^2 - p t, in place of p - p t and t - p t.
        smoothed: Whether the second part is I + smooth, not I.
    """
    smooth, denominator = jnp.expand_dims(image.hyper[0], -1), image.hyper[-1]
    alpha, beta = (jnp.expand_dims(x, (*image.axes, image.p.ndim - 1)) for x in image.hyper[1:3])
    image = in_domain(image)
    p, q, hits, others = image.p, image.q, image.hits, image.others
    extra, lacking = p * others, q * hits
    if squared:
        # p - t, of which p^2 - p t and t^2 - p t are multiples. alpha p - beta t in its terms.
        error = extra - lacking
        wrong = error * (alpha * error + (alpha - beta) * hits)
    else:
        wrong = alpha * extra + beta * lacking
    image, (found, wrong) = summed(image, p * hits, wrong)
    if denominator is not None:
        wrong = wrong + (jnp.expand_dims(denominator, -1) - smooth)
    return image, wrong, found + smooth if smoothed else found


def over_classes(
    image: Images,
    losses: jax.Array,
    class_weights: ClassWeights = None,
    ignore_background: bool = False,
    class_reduction: ClassReduction = "mean",
) -> jax.Array:
    """The losses of the classes of each image as one loss, and those as the user asked for them."""
    inputs.one_of("class_reduction", class_reduction, get_args(ClassReduction))
    there = jnp.any(image.hits > 0, image.axes) if class_reduction == "present" else None
    if class_weights is not None:
        losses = inputs.by_class(class_weights, losses, (losses.ndim - 1,)) * losses
    if ignore_background and image.classes > 1:
        losses = whole_along(losses, (-1,))[..., 1:]
        there = None if there is None else whole_along(there, (-1,))[..., 1:]
    if there is not None:
        count = jnp.sum(there, -1, dtype=jnp.int32).astype(losses.dtype)
        losses = jnp.sum(jnp.where(there, losses, 0), -1)
        return image.reduced(losses / jnp.maximum(count, 1))
    if class_reduction != "none":
        count = losses.shape[-1] if class_reduction == "mean" else 1
        return image.reduced(jnp.sum(losses, -1) / count)
    known, where = (
        None if x is None else jnp.broadcast_to(jnp.expand_dims(x, -1), losses.shape)
        for x in (image.known, image.where)
    )
    return image.replace(shape=losses.shape, known=known, where=where).reduced(losses)
