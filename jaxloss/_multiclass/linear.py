"""Losses of the logits of a linear layer, which are never held whole.

In the formulas h is the hidden vector of a token, W the kernel of the layer, x = h W + bias its
logits, p = softmax(x) and y the class of the token.
"""

from __future__ import annotations

from typing import Any, cast

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from .._contract.inputs import ClassWeights, check_reduction, nan_outside
from .._contract.jit import jit
from .._contract.prepared import Hyper, in_unit_interval
from .._contract.reduce import (
    Mean,
    Reduction,
    Request,
    Weights,
    Where,
    factors_of,
    weight_of,
)
from .._numerics.linear_divergence import divergences
from .._numerics.linear_softmax import Asked, statistics
from .._numerics.linear_sums import Amounts, summed, summed_with_gradients, total
from .._numerics.tiles import Columns, Rows
from .linear_layer import (
    Bias,
    ClassOf,
    Hidden,
    Kernel,
    Tokens,
    check_same_classes,
    of_class,
    tokens,
    unlabelled,
)
from .linear_layout import (
    SETTINGS,
    Layout,
    LogitsSharding,
    Options,
    scaling,
    with_options,
)


def _taken(options: Options, weight: Any, each: Any) -> Amounts:
    """How much a loss takes of the surprisal, of the mean over classes, of the squared normalizer.

    Args:
        options: The hyperparameters.
        weight: The class weights of the tokens; None if all are 1.
        each: What the losses are multiplied with.
    """
    own = each if weight is None else each * weight
    square = None if options.z_loss is None else own * options.z_loss
    if options.epsilon is None:
        return Amounts(own, None, square)
    return Amounts(own * (1 - options.epsilon), each * options.epsilon, square)


@jit(*SETTINGS)
def linear_softmax_cross_entropy(
    hidden: Hidden,
    kernel: Kernel,
    labels: ClassOf,
    *,
    bias: Bias = None,
    class_weights: ClassWeights = None,
    label_smoothing: ArrayLike = 0.0,
    z_loss: ArrayLike = 0.0,
    logit_softcap: ArrayLike | None = None,
    temperature: ArrayLike = 1.0,
    transposed: bool = False,
    block_size: int | None = None,
    class_axis_name: Any = None,
    logits_sharding: LogitsSharding = None,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Cross-entropy of a linear layer's logits against class numbers, without holding the logits.

        w_y u_y + z_loss w_y log(sum of exp(x))^2
        x = hidden W + bias,   u = -log softmax(x)

    `softmax_cross_entropy_with_integer_labels` of `hidden @ kernel + bias`, in value and in every
    derivative: the options mean what they mean there. The logits are computed in tiles, the sums
    and gradients of half precision in float32. Derivatives compute the tiles again, at a cost of
    four matrix products where whole logits take three; of a sum or a mean in float32 they are
    computed beside the value instead, in three. Only what is differentiated is computed.

    Args:
        hidden: Shape `[..., D]`.
        kernel: W, shape `[D, V]`. If its dtype is not that of `hidden`, both are computed with in
            float32 at least.
        labels: y, integers of the shape of `hidden` without its last axis. NaN outside [0, V).
        bias: Shape `[V]`. A class of bias -inf is not there.
        class_weights: w, a weight for each class. In the mean a token counts for w_y.
        label_smoothing, z_loss, logit_softcap, temperature: See `softmax_cross_entropy`.
        transposed: Whether `kernel` has shape `[V, D]`, as a table of embeddings has.
        block_size: So many tokens' logits are held at a time, or tiles as large. By default the
            more, the larger `hidden` and `kernel` are. Below 128 for least memory: derivatives
            compute the tiles again then, and of bfloat16 and float16 they take five products.
        class_axis_name: Inside `jax.shard_map`: the mesh axis, or axes, along which `kernel`,
            `bias` and `class_weights` hold a part of the classes. Labels are numbers of all.
        logits_sharding: In a mesh of Auto axes: how the logits would be distributed, such as
            `PartitionSpec("data", "model")`. Axes of Explicit type say so themselves.
        where, weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per token, the shape of `labels`. On a mesh reductions are those of all tokens,
        but inside `shard_map` of those that the device has.

    Raises:
        ValueError: If shapes do not fit, `block_size` is not positive, or a mesh axis does not
            exist or does not divide what lies along it.
        TypeError: If `hidden` or `kernel` are not floating, or `labels` not integers.

    Reference:
        See `softmax_cross_entropy`. Without whole logits: Wijmans et al., "Cut your losses in
        large-vocabulary language models", 2025, https://arxiv.org/abs/2411.09009.

    Example:
        >>> hidden, kernel = jnp.eye(2), jnp.array([[2.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
        >>> linear_softmax_cross_entropy(hidden, kernel, jnp.array([0, 1]))
        Array([0.40760595, 1.0986123 ], dtype=float32)
    """
    request = Request(where, weights, reduction)
    layout = Layout(block_size, transposed, class_axis_name, logits_sharding)
    hyper = scaling(logit_softcap, temperature) | {
        "label_smoothing": Hyper(label_smoothing, in_unit_interval, off=(0,)),
        "z_loss": Hyper(z_loss, off=(0,)),
    }
    given = tokens(
        hidden, kernel, labels, request, layout, bias=bias, class_weights=class_weights, hyper=hyper
    )
    options = Options(*given.hyper)
    return _of_each(given, options) if reduction == "none" else _reduced(given, options)


def _of_each(given: Tokens, options: Options) -> jax.Array:
    """The losses of all tokens."""

    def local(axis: Any, rows: Rows, columns: Columns, *fields: Any) -> jax.Array:
        options = Options(*fields)
        rows = with_options(rows, options)
        asked = Asked(spread=options.epsilon is not None)
        found = statistics(given.layout.tiles(rows, columns, axis), asked, rows, columns)
        weight = of_class(columns.weights, rows.labels, axis)
        taken = _taken(options, weight, jnp.ones_like(found.own))
        return total(jax.tree.map(jnp.multiply, taken, taken.of(found)))

    return given.reduced(given.on_devices(local, *options))


def _reduced(given: Tokens, options: Options) -> jax.Array:
    """Their sum or mean, whose gradients may be computed beside it."""
    request, selected, states = given.request, given.where, given.hidden
    check_reduction(request.reduction)
    factors = factors_of(request, selected, states, (-1,))
    each = factors
    if each is None:
        ones = jnp.ones_like(given.number, given.dtype)
        each = ones if selected is None else jnp.where(selected, ones, 0)
    known = each if given.known is None else nan_outside(each, given.known)
    weighs = given.columns.weights is not None

    def local(axis: Any, rows: Rows, columns: Columns, each: Any, known: Any, *fields: Any) -> Any:
        options = Options(*fields)
        rows = with_options(rows, options)
        weight = of_class(columns.weights, rows.labels, axis)
        taken = _taken(options, weight, known)
        beside = given.layout.computes_beside(rows)
        tiles = given.layout.tiles(rows, columns, axis, with_gradients=beside)
        loss = (summed_with_gradients if beside else summed)(tiles, rows, columns, taken)
        return loss, None if weight is None else jnp.sum(each * weight)

    loss, weight = given.on_devices(local, each, known, *options, sums=True)
    if request.reduction == "sum":
        return loss
    if not weighs:
        weight = weight_of(factors, selected, given.number.size, given.dtype)
    mean = Mean(loss, weight)
    # As in `as_requested`: only `Mean.of` asks for the parts.
    return cast(jax.Array, mean) if request.reduction == "partial" else mean.value()


@jit(*SETTINGS)
def linear_distillation_loss(
    student_hidden: Hidden,
    student_kernel: Kernel,
    teacher_hidden: Hidden,
    teacher_kernel: Kernel,
    *,
    temperature: ArrayLike = 1.0,
    student_bias: Bias = None,
    teacher_bias: Bias = None,
    transposed: bool = False,
    block_size: int | None = None,
    class_axis_name: Any = None,
    logits_sharding: LogitsSharding = None,
    where: Where = None,
    weights: Weights = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Divergence of a student from its teacher, of neither of which the logits are held.

        T^2 sum t log(t / p)
        p = softmax(student / T),   t = softmax(teacher / T)

    with the logits student = student_hidden student_kernel + student_bias, and the teacher's
    likewise: `distillation_loss` of them, also in its derivatives. The teacher's hidden vectors may
    be of another width. To hold the teacher still say `jax.lax.stop_gradient` of what it consists
    of: nothing is then computed for it. Never negative, and to every digit for a student that is
    near its teacher.

    Args:
        student_hidden: Shape `[..., D]`.
        student_kernel: Shape `[D, V]`.
        teacher_hidden: Shape `[..., E]`.
        teacher_kernel: Shape `[E, V]`.
        temperature: T, a number or one for each token. NaN unless positive and finite.
        student_bias, teacher_bias: Shape `[V]`. A class of bias -inf is not there; where the
            student alone lacks it the loss is inf.
        transposed: Whether the kernels have the shapes `[V, D]` and `[V, E]`.
        block_size, class_axis_name, logits_sharding: See `linear_softmax_cross_entropy`.
        where, weights, reduction: See `jaxloss.reduce`.

    Returns:
        One loss per token, the shape of `student_hidden` without its last axis.

    Reference:
        Hinton, Vinyals and Dean, "Distilling the knowledge in a neural network", 2015,
        https://arxiv.org/abs/1503.02531.

    Example:
        >>> hidden = jnp.array([[1.0, 2.0]])
        >>> student, teacher = jnp.array([[1.0, 0.0], [0.0, 0.5]]), jnp.eye(2)
        >>> linear_distillation_loss(hidden, student, hidden, teacher)
        Array([0.11094407], dtype=float32)
    """
    request = Request(where, weights, reduction)
    layout = Layout(block_size, transposed, class_axis_name, logits_sharding)
    softened = Hyper(temperature, lambda x: (x > 0) & (x < jnp.inf))
    student = unlabelled(
        "student_", student_hidden, student_kernel, request, layout, student_bias, softened
    )
    teacher = unlabelled(
        "teacher_", teacher_hidden, teacher_kernel, request, layout, teacher_bias, softened
    )
    check_same_classes(student, teacher)
    scale = student.hyper[0]

    def local(
        axis: Any, rows: Rows, columns: Columns, others: Rows, theirs: Columns, scale: jax.Array
    ) -> jax.Array:
        rows, others = (x._replace(temperature=scale) for x in (rows, others))
        tiles = layout.tiles(rows, columns, axis)
        return scale**2 * divergences(tiles, (rows, columns), (others, theirs))

    return student.reduced(student.on_devices(local, scale, beside=(teacher,)))
