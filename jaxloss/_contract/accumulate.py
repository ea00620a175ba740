"""Values and gradients of a batch that is too large to be differentiated at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from .._numerics.varying import summed, varying
from . import inputs, parts
from .calls import refusing
from .parts import Batch, Names
from .reduce import Mean


@refusing
def accumulate_value_and_grad(
    loss_fn: Callable[..., Any],
    microbatches: int | None,
    *,
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    total: Callable[..., Any] | None = None,
    axis_name: Names = None,
) -> Callable[..., tuple[Any, Any]]:
    """`jax.value_and_grad` of a batch that is taken in microbatches, one after the other.

        value = T / W,  T = T_1 + ... + T_M,  W = W_1 + ... + W_M
        grad  = (dT_1 - value dW_1) / W + ... + (dT_M - value dW_M) / W

    with the total T_m and the weight W_m of microbatch m. That is the value and the gradient of the
    whole batch, also where masks and weights are uneven, which the average of the microbatches'
    means and gradients is not. No more than one microbatch's activations are kept at a time.

    Each microbatch is evaluated and differentiated once. The weights are added before that: where
    they depend on the parameters, or `total` needs all totals first, each microbatch is evaluated
    twice. Outside of `jax.jit` it always is.

    Args:
        loss_fn: A function of the parameters and of a batch, which returns a `jaxloss.Mean`:
            `Mean.of(loss, ...)`.
        microbatches: M, the number of microbatches; it divides the leading axis of every array of
            the batch. Microbatch m has the examples m, m + M, m + 2 M, ..., so that each device has
            its share of each. None if the leading axis is that of the microbatches already.
        argnums: Which arguments by position to differentiate in, as in `jax.value_and_grad`. All
            others by position are the batch: arrays, or trees of them, such as random keys, one for
            each example. What is given by keyword goes to every microbatch as it is.
        has_aux: Whether `loss_fn` returns a pair of the mean and something else. Of what it returns
            besides, a `Mean` is added up; everything else gets a leading axis of microbatches.
        total: For a `loss_fn` that returns a tree of `Mean`s: a function of their sums over the
            whole batch and of the parameters, which returns one number, such as
            `lambda terms, params: jaxloss.combine(terms)[0]`. It is called once: a penalty of the
            parameters belongs there.
        axis_name: One or more axes of a `jax.shard_map` or of a `jax.vmap`, over which means and
            gradients are added, once for the whole batch. Right with `check_vma` and without;
            without, the parameters must be the same on all devices.

    Returns:
        A function that takes what `loss_fn` takes and returns the value and the gradient, or
        `((value, aux), gradient)`. Gradients are added in float32 at least, and have the dtypes
        of the parameters.

    Raises:
        TypeError: If `loss_fn` does not return what it must, or an argument is no array.
        ValueError: If the arrays of the batch cannot be split, or an axis has no such name.

    Reference:
        `jax.value_and_grad`, which this is for a whole batch at once:
        https://docs.jax.dev/en/latest/_autosummary/jax.value_and_grad.html.

    Example:
        >>> def loss_fn(scale, x, y):
        ...     return jaxloss.Mean.of(jaxloss.l2_loss, scale * x, y, where=y > 0)
        >>> x, y = jnp.array([1.0, 2.0, 3.0, 4.0]), jnp.array([2.0, 0.0, 3.0, 4.0])
        >>> accumulate_value_and_grad(loss_fn, 2)(0.5, x, y)
        (Array(1.4166666, dtype=float32), Array(-4.666667, dtype=float32))
        >>> jax.value_and_grad(lambda *args: loss_fn(*args).value())(0.5, x, y)
        (Array(1.4166666, dtype=float32), Array(-4.666667, dtype=float32, weak_type=True))
    """
    inputs.check_function("loss_fn", loss_fn)
    if total is not None:
        inputs.check_function("total", total)
    number = None if microbatches is None else parts.count("microbatches", microbatches)
    names = parts.axis_names(axis_name)

    def value_and_grad(*args: Any, **whole: Any) -> tuple[Any, Any]:
        parts.check_axes(names)
        places = parts.places_of(argnums, len(args))
        params = tuple(parts.parameters(f"argument {i} of loss_fn", args[i]) for i in places)
        others = {i: x for i, x in enumerate(args) if i not in places}
        batch = parts.split("loss_fn", others, number, "microbatches")

        @jax.jit  # `loss_fn` is traced once, however often it is evaluated.
        def means_of(params: Any, part: Any) -> tuple[Any, Any]:
            given = {**dict(zip(places, params, strict=True)), **part}
            found = loss_fn(*(given[i] for i in range(len(args))), **whole)
            means, aux = parts.pair("loss_fn", found) if has_aux else (found, None)
            return parts.checked_means("loss_fn", means, tree=total is not None), aux

        def value(means: Any, params: Any) -> Any:
            if total is None:
                return means.value()
            return parts.checked_number("total", total(means, params if several else params[0]))

        several = not isinstance(argnums, int)
        own = jax.tree.map(lambda x: varying(x, names), params)
        means = batch.map(lambda part: means_of(own, part)[0])
        slopes = jax.grad(value)(parts.added(means, names), params)
        zeros = jax.tree.map(lambda x: jnp.zeros_like(x, dtype=parts.wide(x.dtype)), own)
        found, means, aux = batch.gradient(means_of, own, lambda m: slopes, zeros)
        means = parts.added(means, names)
        direct = None if total is None else jax.grad(value, 1)(means, params)
        result = value(means, params)
        gradient = parts.finished(found, params, names, direct)
        if has_aux:
            result = result, parts.gathered(aux, names)
        return result, gradient if several else gradient[0]

    return value_and_grad


@refusing
def cached_value_and_grad(
    encode: Callable[..., Any],
    loss_fn: Callable[..., Any],
    chunks: int,
    *,
    has_aux: bool = False,
    axis_name: Names = None,
) -> Callable[..., tuple[Any, Any]]:
    """`jax.value_and_grad` of a loss of a whole batch, such as a contrastive one, by its gradient.

        R = encode(params, batch)         chunk by chunk
        value, dR = value and gradient    of loss_fn(params, R)
        grad = dR_1 dencode_1 + ...       chunk by chunk

    A contrastive loss compares each example with all others and cannot be accumulated over
    microbatches. Its encoders can: R is computed without keeping activations, and each chunk is
    encoded again to be differentiated against its part of dR. That is the value and the gradient of
    the whole batch, for the memory of one chunk, of R, and of the loss, and for one more evaluation
    of the encoders.

    Args:
        encode: A function of the parameters and of some examples, which returns the representations
            of these: an array, or a tree of them such as `(images, texts)`, with the examples on
            the leading axis of each. It may hand on what the loss needs besides, such as labels.
            It must treat an example alike whatever the others are: no batch normalisation.
        loss_fn: A function of the parameters and of the representations of all examples, as
            `encode` returns them. It returns one number or a `jaxloss.Mean`. The parameters are all
            of them, a learned temperature among them.
        chunks: The number of chunks; it divides the leading axis of every array of the batch. A
            chunk has the examples m, m + chunks, m + 2 chunks, ..., so that each device has its
            share of each.
        has_aux: Whether `loss_fn` returns a pair of the loss and something else.
        axis_name: One or more axes of a `jax.shard_map` or of a `jax.vmap`, on each device of which
            are some examples. `loss_fn` then returns the `jaxloss.Mean` of those of its device,
            for which it may talk to the others, as by `jax.lax.all_gather`; means and gradients are
            added. Right with `check_vma` and without; without, the parameters must be the same on
            all devices.

    Returns:
        A function of the parameters, a tree of arrays, and of the batch, by position: arrays, or
        trees of them. What is given by keyword goes to `encode` as it is. It returns the value and
        the gradient in the parameters, or `((value, aux), gradient)`. Gradients are added in
        float32 at least, and have the dtypes of the parameters. Both evaluations of `encode` see
        the same batch: random keys for dropout, one for each example, are part of it.

    Raises:
        TypeError: If a function does not return what it must, or an argument is no array.
        ValueError: If the arrays of the batch cannot be split, or an axis has no such name.

    Reference:
        Gao, Zhang, Han and Callan, "Scaling deep contrastive learning batch size under memory
        limited setup", 2021, https://arxiv.org/abs/2101.06983, section 3.

    Example:
        >>> def encode(params, images, texts):
        ...     return jnp.tanh(images @ params["W"]), texts
        >>> def loss_fn(params, both):
        ...     scale = jnp.exp(params["log_scale"])
        ...     return jaxloss.Mean.of(jaxloss.clip_loss, *both, logit_scale=scale)
        >>> params = {"W": jnp.array([[1.0, 0.5], [0.0, 1.0]]), "log_scale": jnp.array(1.0)}
        >>> value, gradient = cached_value_and_grad(encode, loss_fn, 2)(
        ...     params, jnp.eye(2), jnp.array([[1.0, 0.0], [0.6, 0.8]]))
        >>> value, gradient["log_scale"]
        (Array(0.47011402, dtype=float32), Array(-0.02904998, dtype=float32))
    """
    inputs.check_function("encode", encode)
    inputs.check_function("loss_fn", loss_fn)
    number = parts.count("chunks", chunks)
    names = parts.axis_names(axis_name)

    def value_and_grad(params: Any, *args: Any, **others: Any) -> tuple[Any, Any]:
        parts.check_axes(names)
        params = parts.parameters("params", params)
        batch = parts.split("encode", dict(enumerate(args, 1)), number, "chunks")

        @jax.jit  # `encode` is traced once.
        def encoded(params: Any, part: Any) -> tuple[Any, Any]:
            return parts.apart(encode(params, *part.values(), **others))

        def loss_of(params: Any, representations: Any) -> tuple[Any, Any]:
            found = loss_fn(params, parts.together(representations, rest))
            mean, aux = parts.pair("loss_fn", found) if has_aux else (found, None)
            if not isinstance(mean, Mean) and not names:
                whole = parts.checked_number("loss_fn", mean)
                mean = Mean(whole, jnp.ones_like(whole))
            return parts.checked_means("loss_fn", mean), aux

        own = jax.tree.map(lambda x: varying(x, names), params)
        representations, rest = jax.tree.map(
            parts.joined, batch.map(lambda part: encoded(own, part))
        )
        mean, pull, aux = jax.vjp(loss_of, own, representations, has_aux=True)
        mean_of_all = jax.tree.map(lambda x: summed(x, names), mean)
        slopes = jax.tree.map(parts.as_slope, jax.grad(Mean.value)(mean_of_all), mean)
        direct, slopes = pull(slopes)
        direct = jax.tree.map(lambda x: x.astype(parts.wide(x.dtype)), direct)
        slopes = Batch(jax.tree.map(lambda x: parts.in_parts(x, number), slopes), number, 1)
        found, _, _ = batch.gradient(encoded, own, slopes.part, direct)
        gradient = parts.finished(found, params, names)
        value = mean_of_all.value()
        return ((value, aux) if has_aux else value), gradient

    return value_and_grad
