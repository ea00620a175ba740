"""Advantages of answers over others to the same question."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Float, Int, Real

from .._contract import inputs
from .._contract.jit import jit
from .._contract.reduce import Where
from .._numerics.special import one_if_zero

Numbers = Int[ArrayLike, "rewards"] | Sequence[int] | None
Scale = Literal["group", "batch", "none"]


class _Groups(NamedTuple):
    """Sums and maxima over the group of each reward, for each of its members."""

    total: Callable[[jax.Array], jax.Array]
    largest: Callable[[jax.Array], jax.Array]


def _of_the_last_axis() -> _Groups:
    return _Groups(
        lambda x: jnp.sum(x, -1, keepdims=True),
        lambda x: jnp.max(x, -1, keepdims=True, initial=-jnp.inf),
    )


def _of_numbers(groups: jax.Array, size: int) -> _Groups:
    return _Groups(
        lambda x: jax.ops.segment_sum(x, groups, size)[groups],
        lambda x: jax.ops.segment_max(x, groups, size)[groups],
    )


def _all() -> _Groups:
    return _Groups(jnp.sum, lambda x: jnp.max(x, initial=-jnp.inf))


def _centred(x: jax.Array, counts: jax.Array, groups: _Groups) -> tuple[jax.Array, jax.Array]:
    """What each is above the mean of its group, 0 if it does not count; and the size of the group.

    The largest is subtracted first: of equal rewards the mean, rounded, is not the reward, and a
    standard deviation of 1e-9 would make advantages of that.
    """
    size = jnp.maximum(groups.total(counts.astype(x.dtype)), 1)
    top = groups.largest(jnp.where(counts, x, -jnp.inf))
    below = jnp.where(counts, x - top, 0)
    return jnp.where(counts, below - groups.total(below) / size, 0), size


def _deviation(away: jax.Array, size: jax.Array, ddof: int, groups: _Groups) -> jax.Array:
    """The standard deviation, of numbers whose squares may overflow or vanish."""
    scale = one_if_zero(groups.largest(jnp.abs(away)))
    squares = groups.total(jnp.square(away / scale))
    return scale * jnp.sqrt(squares / jnp.maximum(size - ddof, 1))


@jit("scale", "leave_one_out", "ddof")
def group_advantages(
    rewards: Float[ArrayLike, "*batch group"] | Sequence[Any],
    groups: Numbers = None,
    *,
    scale: Scale = "group",
    leave_one_out: bool = False,
    ddof: int = 1,
    eps: ArrayLike = 1e-4,
    where: Where = None,
) -> Real[jax.Array, "*batch group"]:
    """How much better than others of its group an answer is: the advantages of GRPO and RLOO.

        (R - mean of the group) / (standard deviation + eps)

    With `scale="none"` there is no division, as in Dr. GRPO; with "batch" the deviation is that of
    all rewards. With `leave_one_out` the mean is that of the other members, as in RLOO.

    Equal rewards have advantages of exactly 0, with eps=0 too, and so has a group of one. What
    is returned is constant under differentiation.

    Args:
        rewards: `[..., group]`: groups of one size, on the last axis; with `groups`, `[N]`.
        groups: The number of the group of each reward, from 0 to below N, in any order; NaN of any
            other number. Groups may be of different sizes then.
        scale: "group", "batch" or "none".
        leave_one_out: Whether the mean is that of the others.
        ddof: What is subtracted from the size of a group in its variance: 1 as in PyTorch's `std`
            and TRL, or 0 as in NumPy's.
        eps: Added to the deviation; 0 or more.
        where: Which rewards count; the others have an advantage of 0 and are not in the mean. Of
            the rank of `rewards`, or a scalar.

    Returns:
        One advantage per reward, in their shape.

    Raises:
        TypeError: If `rewards` are lists of different lengths, which are to be given by `groups`,
            or `groups` are no integers.
        ValueError: If `scale` is none of the three, `ddof` is neither 0 nor 1, or the shapes do not
            fit.

    Reference:
        Shao et al., "DeepSeekMath: pushing the limits of mathematical reasoning in open language
        models", 2024, section 4.1, https://arxiv.org/abs/2402.03300; Ahmadian et al., "Back to
        basics: revisiting REINFORCE style optimization for learning from human feedback in LLMs",
        2024, https://arxiv.org/abs/2402.14740 (leave one out).

    Example:
        >>> rewards = jnp.array([[0.0, 1.0, 1.0, 2.0], [0.1, 0.1, 0.1, 0.1]])
        >>> group_advantages(rewards, scale="none")
        Array([[-1.,  0.,  0.,  1.],
               [ 0.,  0.,  0.,  0.]], dtype=float32)
        >>> group_advantages([3.0, 1.0, 5.0], [0, 1, 0], scale="none")
        Array([-1.,  0.,  1.], dtype=float32)
    """
    inputs.one_of("scale", scale, get_args(Scale))
    inputs.one_of("ddof", ddof, (0, 1))
    x = inputs.floating("rewards", rewards)
    x = x.astype(inputs.computing_dtype([x]))
    if not x.ndim:
        raise ValueError(f"rewards must have an axis of groups, got {inputs.kind_of(x)}")
    known, over = jnp.ones((), bool), _of_the_last_axis()
    if groups is not None:
        numbers = inputs.real("groups", groups, numbers=True)
        got = inputs.described(rewards=x, groups=numbers)
        inputs.check_integers(numbers, f"groups must be integers, got {got}")
        message = f"rewards and groups must be of one shape [N], got {got}"
        inputs.check_shape(numbers, x.shape[:1], message)
        inputs.check_shape(x, x.shape[:1], message)
        numbers, known = inputs.class_index(numbers, x.shape[0])
        over = _of_numbers(numbers, x.shape[0])
    counts = jnp.broadcast_to(known, x.shape)
    if where is not None:
        counts = counts & inputs.mask(where, x.shape, "rewards", x)
    away, size = _centred(x, counts, over)
    found = away
    if leave_one_out:
        found = away * (size / jnp.maximum(size - 1, 1))
    if scale != "none":
        among = over if scale == "group" else _all()
        spread = (away, size) if scale == "group" else _centred(x, counts, among)
        deviation = _deviation(*spread, ddof, among) + inputs.number("eps", eps).astype(x.dtype)
        found = jnp.where(away == 0, 0, found / jnp.where(away == 0, 1, deviation))
    excluded = False if where is None else ~inputs.mask(where, x.shape, "rewards", x)
    found = jnp.where(known | excluded, found, jnp.nan)
    return jax.lax.stop_gradient(found)
