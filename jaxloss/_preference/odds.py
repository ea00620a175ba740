"""The ratio of the odds exp(x) / (1 - exp(x)) of two answers, from their log-probabilities x.

The log-odds have the slope 1 / (1 - exp(x)) in x, which reaches 1e38 near x = 0, and there the
slope of x in the logits is as small. Second derivatives hold a product of two such large slopes,
which would overflow: each is multiplied by a tangent first.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .._numerics.exact import exact_sum
from .._numerics.special import reciprocal


class _Parts(NamedTuple):
    """What the ratio odds(r) / odds(c) is made of, without cancellation.

    Attributes:
        behind: Whether the ratio is above 1: r is above c, or it is certain.
        size: |r - c|.
        decay: exp(-|r - c|).
        doubt_c, doubt_r: 1 - exp(c) and 1 - exp(r); 0 for a certain answer.
        small: The smaller of these over the larger; 0 if r is certain. The ratio is decay * small,
            or one over that if `behind`.
    """

    behind: jax.Array
    size: jax.Array
    decay: jax.Array
    doubt_c: jax.Array
    doubt_r: jax.Array
    small: jax.Array


def _parts(c: jax.Array, r: jax.Array) -> _Parts:
    # What is below the smallest normal number is 0 on some platforms. Here it is 0 on each of them,
    # so that the reciprocal of what is left does not overflow.
    tiny = jnp.finfo(c.dtype).tiny
    u, v = (jnp.where(x > -tiny, 0, -jnp.expm1(x)) for x in (c, r))
    behind = (r > c) | (v == 0)
    size, lost = exact_sum(jnp.where(behind, r, c), -jnp.where(behind, c, r))
    size = jnp.where((c == r) & jnp.isinf(c), 0, size)
    decay = jnp.exp(-size)
    small = jnp.where(v == 0, 0, jnp.where(behind, v, u) / jnp.where(behind, u, v))
    return _Parts(behind, size, decay - decay * lost, u, v, small)


@jax.custom_jvp
def odds_surprise(c: jax.Array, r: jax.Array) -> jax.Array:
    """log(1 + odds(r) / odds(c)); inf at r = 0, with slope 0 in r, and in c if that is 0 too."""
    behind, size, decay, _, _, small = _parts(c, r)
    return jnp.log1p(decay * small) + jnp.where(behind, size - jnp.log(small), 0)


@jax.custom_jvp
def _slopes(c: jax.Array, r: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Minus the slope of `odds_surprise` in c, and that in r; both are 0 or more."""
    behind, _, decay, u, v, small = _parts(c, r)
    share = 1 / (1 + decay * small)
    by_c, by_r = reciprocal(u), reciprocal(v)
    in_c = jnp.where(behind, by_c, decay * by_r) * share
    return in_c, jnp.where(behind, 1, decay * small) * by_r * share


@odds_surprise.defjvp
def _(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    in_c, in_r = _slopes(*primals)
    return odds_surprise(*primals), in_r * tangents[1] - in_c * tangents[0]


@_slopes.defjvp
def _(primals: Any, tangents: Any) -> Any:
    """By s = ratio / (1 + ratio), of which the slopes are s / doubt_c and s / doubt_r."""
    in_c, in_r = _slopes(*primals)
    behind, _, decay, u, v, small = _parts(*primals)
    share = 1 / (1 + decay * small)
    by_c, by_r = reciprocal(u), reciprocal(v)
    # (1 - s) / doubt_r, and the odds of r.
    w = jnp.where(behind, decay * by_c, by_r) * share
    odds = jnp.exp(primals[1]) * by_r
    move_c, move_r = tangents
    of_c = in_c * (w * ((1 - 2 * v) * move_c + move_r))
    of_r = in_r * ((odds + w) * move_r) - in_c * (w * move_c)
    return (in_c, in_r), (of_c, of_r)
