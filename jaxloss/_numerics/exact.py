"""Sums, products and quotients together with what their rounding loses."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def leading(x: jax.Array, cleared: int | None = None) -> jax.Array:
    """`x` with the lower half of its bits cleared, or as many as said.

    Products of two halves are exact, and so are differences from a near number. Bits are cleared by
    a mask: XLA removes the addition and subtraction of a large number that usually does it.
    """
    integer, half = (jnp.int64, 27) if x.dtype == jnp.float64 else (jnp.int32, 12)
    cleared = half if cleared is None else cleared
    bits = jax.lax.bitcast_convert_type(x, integer)
    return jax.lax.bitcast_convert_type(bits >> cleared << cleared, x.dtype)


def lost_in_difference(a: jax.Array, b: jax.Array) -> jax.Array:
    """What the rounding of a - b lost, for a loss that is steep in it."""
    e = a - b
    high = leading(e, cleared=2)
    low = e - high
    # The larger number less the difference is exact. In two steps: XLA simplifies a - (a - b) to b.
    larger = jnp.abs(a) >= jnp.abs(b)
    rest = jnp.where(larger, ((a - high) - low) - b, a - ((b + high) + low))
    return finite(rest)


def exact_sum(*terms: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The sum as if it were rounded once, and what that rounding lost."""
    total, lost = terms[0], jnp.zeros_like(terms[0])
    for x in terms[1:]:
        lost = lost + lost_in_difference(total, -x)
        total = total + x
    return total + lost, lost_in_difference(total, -lost)


def exact_product(a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
    """a * b, and what its rounding lost."""
    value = a * b
    a_high, b_high = leading(a), leading(b)
    lost = (a_high * b_high - value) + a_high * (b - b_high) + (a - a_high) * b
    return value, finite(lost)


def finite(lost: jax.Array) -> jax.Array:
    """What a rounding lost, if that is known: nothing of an infinite number."""
    return jax.lax.stop_gradient(jnp.where(jnp.isfinite(lost), lost, 0))


def quotient(a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
    """a / b, and what its rounding lost: nothing, if one of the two is infinite."""
    q = a / b
    q_high, b_high = leading(q), leading(b)
    rest = a - q_high * b_high - q_high * (b - b_high) - (q - q_high) * b
    return q, finite(rest / b)


def square_parts(r: jax.Array, lost: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(r + lost)^2 as an exact number and a small rest."""
    high = leading(r)
    return high * high, (r - high) * (r + high) + 2 * r * lost


def exp_sum(exact: jax.Array, rest: jax.Array) -> jax.Array:
    """exp(exact + rest) for a small rest, whose digits the sum would lose.

    Not a product of two exponentials: XLA makes that the exponential of the sum.
    """
    value = jnp.exp(exact)
    return value + jnp.where(value == jnp.inf, 0, value) * jnp.expm1(rest)


def exp_product(c: int, power: jax.Array, f: jax.Array) -> jax.Array:
    """exp((c - power) f): the exponent is split, so that its rounding costs no digits."""
    power_high = leading(power)
    factor = c - power_high  # exact
    factor_high, f_high = leading(factor), leading(f)
    rest = factor_high * (f - f_high) + (factor - factor_high - (power - power_high)) * f
    return exp_sum(factor_high * f_high, rest)


def root_of_power(c: int, power: jax.Array, x: jax.Array) -> jax.Array:
    """x^((c - power) / 2), with all digits of the exponent; its square may overflow."""
    power_high = leading(power)
    rest = 0.5 * (power - power_high) * jnp.log(jnp.where(x > 0, x, 1))
    return jnp.power(x, 0.5 * (c - power_high)) * jnp.exp(-rest)
