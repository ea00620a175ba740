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
    gap = atoms[1:] - atoms[:-1]
    # NaN, of which no comparison is true, stays NaN.
    gap = jnp.where(jnp.all(gap > 0), gap, jnp.nan)
    held = jnp.clip(x, atoms[0], atoms[-1])[..., None]
    inside = (held >= atoms[:-1]) & (held <= atoms[1:]) | jnp.isnan(held + gap)
    up = jnp.where(inside, (held - atoms[:-1]) / gap, 0)
    down = jnp.where(inside, (atoms[1:] - held) / gap, 0)
    # An inner atom that is met lies in two intervals, of which one gives its share.
    met = held == atoms
    none = jnp.zeros_like(held)
    shares = jnp.concatenate([none, up], -1) + jnp.concatenate([down, none], -1)
    return jnp.where(met & ~jnp.isnan(shares), 1, shares)


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
    # Not a product of matrices, whose factors a TPU rounds.
    shares = _shares(jnp.broadcast_to(x, p.shape), z)
    return jax.lax.stop_gradient(jnp.sum(p[..., None] * shares, -2))
