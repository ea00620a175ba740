"""Scores of answers by how much likelier the model makes them, of divergences other than KL.

With the gain u of an answer, its log-ratio to the reference model, direct preference optimization
scores it by f'(e^u), where f makes the divergence that holds the model near its reference. It is
the difference of two scores that counts.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from .._numerics.exact import exact_product, exact_sum, exp_sum, finite
from .._numerics.kinks import closed_form
from .._numerics.special import log_quotient, one_if_zero, polynomial
from .logistic import chance, parts

# The terms of a series of alternating signs up to w = 1, where the next is below 1e-9.
_TERMS = 12
_FACTORIALS = [1.0]
for _k in range(1, _TERMS + 2):
    _FACTORIALS.append(_FACTORIALS[-1] * _k)
# A slope beyond this is held there: 0 times infinity, where the loss is flat, would be NaN.
_STEEPEST = 1e35


def _js_slopes(
    c: jax.Array, c_lost: jax.Array, r: jax.Array, r_lost: jax.Array
) -> tuple[ArrayLike, ...]:
    return chance(-c, -c_lost), 0, -chance(-r, -r_lost), 0


@closed_form(_js_slopes)
def _js_gap(c: jax.Array, c_lost: jax.Array, r: jax.Array, r_lost: jax.Array) -> jax.Array:
    return _js_parts(c, c_lost, r, r_lost)[0]


def _js_parts(
    c: jax.Array, c_lost: jax.Array, r: jax.Array, r_lost: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """softplus(-r) - softplus(-c), as max(-r, 0) - max(-c, 0) and a logarithm of a quotient."""
    (c_right, c_size, c_decay), (r_right, r_size, r_decay) = (
        parts(c, c_lost),
        parts(r, r_lost),
    )
    signed = jnp.where(c_right, -c_lost, c_lost), jnp.where(r_right, r_lost, -r_lost)
    ahead, _ = exact_sum(r_size, -c_size, *signed)
    # The larger exponential times 1 - e^-|gap|: they may agree in all but their last digits.
    larger = jnp.where(ahead > 0, -c_decay, r_decay)
    apart = jnp.where(larger == 0, 0, larger * -jnp.expm1(-jnp.abs(ahead)))
    small = log_quotient(1 + r_decay, 1 + c_decay, apart)
    tops = jnp.where(r_right, 0, -r), jnp.where(c_right, 0, c)
    rest = jnp.where(r_right, 0, -r_lost), jnp.where(c_right, 0, c_lost)
    return exact_sum(*tops, small, *rest)


def js_gap(
    c: jax.Array, c_lost: jax.Array, r: jax.Array, r_lost: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """log sigmoid(c) - log sigmoid(r), and what its rounding lost: of the JS divergence."""
    gains = c, c_lost, r, r_lost
    return _js_gap(*gains), finite(_js_parts(*gains)[1])


def _power(alpha: jax.Array, u: jax.Array, lost: jax.Array) -> jax.Array:
    """e^(-alpha u)."""
    exponent, rounding = exact_product(alpha, u)
    exponent = jnp.where(alpha == 0, 0, exponent)
    return exp_sum(-exponent, -finite(rounding + alpha * lost))


def _alpha_parts(
    c: jax.Array, c_lost: jax.Array, r: jax.Array, r_lost: jax.Array, alpha: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """The lesser gain, the gap, alpha |gap|, and e^(-alpha lesser)."""
    gap, _ = exact_sum(c, -r, c_lost, -r_lost)
    behind = gap < 0
    least, lost = jnp.where(behind, c, r), jnp.where(behind, c_lost, r_lost)
    wide = jnp.where(alpha == 0, 0, alpha * jnp.abs(gap))
    return least, gap, wide, _power(alpha, least, lost)


def _alpha_slopes(
    c: jax.Array, c_lost: jax.Array, r: jax.Array, r_lost: jax.Array, alpha: jax.Array
) -> tuple[ArrayLike, ...]:
    least, gap, wide, power = _alpha_parts(c, c_lost, r, r_lost, alpha)
    value = alpha_gap(c, c_lost, r, r_lost, alpha)
    small = wide < 1
    near, far = jnp.where(small, wide, 0), jnp.where(small, 1, wide)
    # The derivative of (1 - e^-w) / w, whose terms cancel for small w.
    series = [(-1) ** k * k / _FACTORIALS[k + 1] for k in range(1, _TERMS)]
    bend = jnp.where(small, polynomial(series, near), (jnp.exp(-far) * (1 + far) - 1) / (far * far))
    powers = _power(alpha, c, c_lost), _power(alpha, r, r_lost)
    in_alpha = gap * jnp.abs(gap) * bend * power - least * value
    held = (jnp.clip(x, -_STEEPEST, _STEEPEST) for x in (in_alpha, *powers))
    in_alpha, in_c, in_r = held
    return in_c, 0, -in_r, 0, in_alpha


@closed_form(_alpha_slopes)
def alpha_gap(
    c: jax.Array, c_lost: jax.Array, r: jax.Array, r_lost: jax.Array, alpha: jax.Array
) -> jax.Array:
    """(e^(-alpha r) - e^(-alpha c)) / alpha, and c - r where alpha is 0: of alpha divergences."""
    _, gap, wide, power = _alpha_parts(c, c_lost, r, r_lost, alpha)
    # As a product: where the exponentials are near each other their difference has no digits.
    share = jnp.where(wide == 0, 1, -jnp.expm1(-wide) / one_if_zero(wide))
    return jnp.where(gap == 0, 0, gap * share * power)
