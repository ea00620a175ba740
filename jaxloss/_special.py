"""Special functions to the last bits, where XLA has none or the plain formula loses digits."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from ._kinks import closed_form


def leading(x: jax.Array) -> jax.Array:
    """`x` with the lower half of its digits cleared: products of two such are exact.

    A mask, not an addition and a subtraction, which a compiler may contract.
    """
    integer, cleared = (jnp.int64, 27) if x.dtype == jnp.float64 else (jnp.int32, 12)
    bits = jax.lax.bitcast_convert_type(x, integer)
    return jax.lax.bitcast_convert_type(bits >> cleared << cleared, x.dtype)


def quotient(a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
    """a / b, and what its rounding lost."""
    q = a / b
    q_high, b_high = leading(q), leading(b)
    rest = a - q_high * b_high - q_high * (b - b_high) - (q - q_high) * b
    return q, rest / b


def _kernel_slopes(e: jax.Array, scale: jax.Array) -> tuple[jax.Array, jax.Array]:
    kernel = gaussian_kernel(e, scale)
    r = jnp.where(kernel == 0, 0, e / scale)
    return -(r / scale) * kernel, (r * r / scale) * kernel


@closed_form(_kernel_slopes)
def gaussian_kernel(e: jax.Array, scale: jax.Array) -> jax.Array:
    """exp(-(e / scale)^2 / 2), in its tails too.

    There the exponent reaches -87, and its rounding, 2^-24 of it, would cost 40 units in the
    last place of the kernel. So the exponent is split into a part that is exact and a rest.
    """
    far = jnp.abs(e) > 64 * scale  # 0 in float32 and in float64
    r, lost = quotient(jnp.where(far, 0, e), scale)
    high = leading(r)
    rest = 0.5 * (r - high) * (r + high) + r * lost
    return jnp.where(far, 0, jnp.exp(-0.5 * high * high) * jnp.exp(-rest))
