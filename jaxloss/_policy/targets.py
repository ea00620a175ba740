"""Distributions over a grid of numbers, as targets of a cross-entropy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Float, Real

from .._contract import inputs
from .._contract.jit import jit
from .._numerics.intervals import log_interval_normal

Grid = Real[ArrayLike, "atoms"] | Sequence[Any]
Numbers = Float[ArrayLike, "*batch"] | Sequence[Any]
Distribution = Float[jax.Array, "*batch atoms"]


def _grid(name: str, value: Any) -> jax.Array:
    """Numbers in order; NaN of those that are not is the caller's."""
    array = inputs.real(name, value)
    if array.ndim != 1 or array.shape[0] < 2:
        got = inputs.described(**{name: array})
        raise ValueError(f"{name} must be a list of two numbers or more, got {got}")
    return array


def _shares(x: jax.Array, atoms: jax.Array) -> jax.Array:
    """The triangular kernel of each atom at each x, on a new last axis.

    It is 1 at its atom, 0 at its neighbours and straight between. At an atom both sides of the
    kernel are 1: no floor and ceiling that are the same there, and lose or double its mass.
    """
    # NaN, of which no comparison is true, stays NaN.
    atoms = jnp.where(jnp.all(atoms[1:] > atoms[:-1]), atoms, jnp.nan)
    atoms = atoms.reshape((1,) * x.ndim + atoms.shape)
    low, high = atoms[..., :-1], atoms[..., 1:]
    held = jnp.clip(x[..., None], atoms[..., :1], atoms[..., -1:])
    outside = (held < low) | (held > high)
    up, down = (jnp.where(outside, 0, y) / (high - low) for y in (held - low, high - held))
    none = jnp.zeros_like(held)
    # An atom that is met is the end of one interval and the start of another: 1 once, not twice.
    return jnp.maximum(jnp.concatenate([none, up], -1), jnp.concatenate([down, none], -1))


@jit()
def two_hot(values: Numbers, atoms: Grid) -> Distribution:
    """The distribution on two neighbouring atoms that has a number as its mean.

        p_k = (z_{k+1} - x) / (z_{k+1} - z_k)
        p_{k+1} = (x - z_k) / (z_{k+1} - z_k)

    for atoms z_k <= x <= z_{k+1}. A number beyond the first or the last atom is that atom, and a
    number on an atom has all its mass there. A critic that has logits for the atoms is
    trained with `softmax_cross_entropy` towards it, and its value is the mean of the atoms.

    What is returned is constant under differentiation, as a target is.

    Args:
        values: x, any shape.
        atoms: z, in increasing order, else NaN: `[K]`, of two or more. The distances may differ.

    Returns:
        Probabilities `[..., K]`.

    Raises:
        ValueError: If `atoms` is no list of two numbers or more.

    Reference:
        Schrittwieser et al., "Mastering Atari, Go, chess and shogi by planning with a learned
        model", 2020, appendix F, https://arxiv.org/abs/1911.08265; Hafner et al., "Mastering
        diverse domains through world models", 2023, https://arxiv.org/abs/2301.04104.

    Example:
        >>> two_hot(jnp.array([0.25, 1.0, 7.0]), jnp.array([0.0, 1.0, 2.0]))
        Array([[0.75, 0.25, 0.  ],
               [0.  , 1.  , 0.  ],
               [0.  , 0.  , 1.  ]], dtype=float32)
    """
    x, z = inputs.floating("values", values), _grid("atoms", atoms)
    dtype = inputs.computing_dtype([x, z])
    return jax.lax.stop_gradient(_shares(x.astype(dtype), z.astype(dtype)))


@jit()
def hl_gauss(values: Numbers, edges: Grid, *, sigma: ArrayLike | None = None) -> Distribution:
    """A normal distribution around a number, as a histogram: the HL-Gauss target.

        p_k = (F(e_{k+1}) - F(e_k)) / (F(e_K) - F(e_0))

    with the distribution function F of the normal distribution around x with standard deviation
    sigma. The probabilities are computed from their logarithms, so that a number outside the bins
    by many sigma has a distribution too, on the bins at that end: 0 / 0 is what the formula gives
    from 6 sigma on in float32. A number is taken to be at most 1000 sigma outside.

    What is returned is constant under differentiation, as a target is.

    Args:
        values: x, any shape.
        edges: Those of the bins, in increasing order, else NaN: `[K + 1]`.
        sigma: In the unit of values; positive, else NaN. None for 3/4 of the mean width of a bin,
            the ratio of the paper.

    Returns:
        Probabilities of the bins, `[..., K]`.

    Raises:
        ValueError: If `edges` is no list of two numbers or more, or `sigma` is no number.

    Reference:
        Imani and White, "Improving regression performance with distributional losses", 2018,
        https://arxiv.org/abs/1806.04613; Farebrother et al., "Stop regressing: training value
        functions via classification for scalable deep RL", 2024, section 3.1,
        https://arxiv.org/abs/2403.03950.

    Example:
        >>> hl_gauss(jnp.array([0.0, 100.0]), jnp.array([-1.5, -0.5, 0.5, 1.5]))
        Array([[0.24069403, 0.5186119 , 0.24069403],
               [0.        , 0.        , 1.        ]], dtype=float32)
    """
    x, e = inputs.floating("values", values), _grid("edges", edges)
    dtype = inputs.computing_dtype([x, e])
    x, e = x.astype(dtype), e.astype(dtype)
    if sigma is None:
        scale = 0.75 * (e[-1] - e[0]) / (e.shape[0] - 1)
    else:
        scale = inputs.number("sigma", sigma).astype(dtype)
    known = (scale > 0) & jnp.all(e[1:] > e[:-1])
    held = jnp.clip(x, e[0] - 1000 * scale, e[-1] + 1000 * scale)[..., None]
    e = e.reshape((1,) * x.ndim + e.shape)
    bounds, gap = (e - held) / scale, (e[..., 1:] - e[..., :-1]) / scale
    gap = jnp.broadcast_to(gap, bounds[..., 1:].shape)
    logs = log_interval_normal(bounds[..., :-1], bounds[..., 1:], gap)
    odds = jnp.exp(logs - jnp.max(logs, -1, keepdims=True))
    p = odds / jnp.sum(odds, -1, keepdims=True)
    return jax.lax.stop_gradient(jnp.where(known, p, jnp.nan))


@jit()
def categorical_projection(
    probabilities: Float[ArrayLike, "*batch samples"] | Sequence[Any],
    values: Real[ArrayLike, "*batch samples"] | Sequence[Any],
    atoms: Grid,
) -> Distribution:
    """A distribution on any numbers, moved to a grid of atoms: the target of categorical critics.

        p_k = sum over j of p_j h_k(clip(x_j, z_1, z_K))

    with the triangular kernel h_k, which is 1 at the atom z_k and 0 at its neighbours: each number
    is shared by the two atoms beside it, as `two_hot` has it. The sum of the probabilities is kept,
    and the mean too if all numbers lie between the first atom and the last. For C51 the numbers
    are r + discount z, of the atoms and probabilities of the next state.

    What is returned is constant under differentiation, as a target is.

    Args:
        probabilities: p_j of the numbers: `[..., J]`.
        values: x_j: `[..., J]`, or `[J]` for all.
        atoms: z, in increasing order, else NaN: `[K]`, of two or more.

    Returns:
        Probabilities of the atoms, `[..., K]`.

    Raises:
        ValueError: If the shapes do not fit.

    Reference:
        Bellemare, Dabney and Munos, "A distributional perspective on reinforcement learning", 2017,
        eq. 7, https://arxiv.org/abs/1707.06887.

    Example:
        >>> atoms = jnp.array([0.0, 1.0, 2.0])
        >>> categorical_projection(jnp.array([0.5, 0.5]), jnp.array([1.0, 1.5]), atoms)
        Array([0.  , 0.75, 0.25], dtype=float32)
    """
    p, x = inputs.floating("probabilities", probabilities), inputs.real("values", values)
    z = _grid("atoms", atoms)
    if not p.ndim or x.shape not in (p.shape, p.shape[-1:]):
        got = inputs.described(probabilities=p, values=x)
        raise ValueError(
            f"values must have the shape of probabilities, or that of its last axis, got {got}"
        )
    dtype = inputs.computing_dtype([p, x, z])
    p, x, z = (y.astype(dtype) for y in (p, x, z))
    # Not a product of matrices, whose factors may be rounded.
    shares = _shares(jnp.broadcast_to(x, p.shape), z)
    return jax.lax.stop_gradient(jnp.sum(p[..., None] * shares, -2))
