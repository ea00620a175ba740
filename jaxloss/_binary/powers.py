"""Powers of numbers from 0 on, by the fastest way that their exponents allow."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from .._numerics.kinks import closed_form, divide
from .._numerics.special import one_if_zero
from .._numerics.xla import all_on_cpu

Power = Callable[[jax.Array, jax.Array], jax.Array]


# The focal losses state their first derivatives: those of powers are for higher orders.


def _whole_power_slopes(x: jax.Array, n: jax.Array) -> tuple[jax.Array, jax.Array]:
    return n * _whole_power(x, jnp.maximum(n - 1, 0)), _whole_power(x, n) * jnp.log(one_if_zero(x))


@closed_form(_whole_power_slopes)
def _whole_power(x: jax.Array, n: jax.Array) -> jax.Array:
    """x^n for n in 0, 1, ..., 7."""
    n = n.astype(jnp.int32)
    total = jnp.where(n & 1 == 1, x, 1)
    total *= jnp.where(n & 2 == 2, x * x, 1)
    return total * jnp.where(n & 4 == 4, (x * x) * (x * x), 1)


def _any_power_slopes(x: jax.Array, n: jax.Array) -> tuple[jax.Array, jax.Array]:
    result, base = _any_power(x, n), one_if_zero(x)
    return n * divide(result, base), result * jnp.log(base)


@closed_form(_any_power_slopes)
def _any_power(x: jax.Array, n: jax.Array) -> jax.Array:
    """x^n, of slope 0 at x = 0."""
    return jnp.power(x, n)


def _is_whole(n: jax.Array) -> jax.Array:
    return (n >= 0) & (n <= 7) & (n == jnp.floor(n))


def power(x: jax.Array, n: jax.Array) -> jax.Array:
    """x^n for any n from 0 on."""
    return jnp.where(_is_whole(n), _whole_power(x, n), _any_power(x, n))


def by_powers(function: Callable[..., Any], *exponents: int) -> Callable[..., Any]:
    """A function that takes a power first, given the fastest that its exponents allow.

    `jnp.power` takes longer than all the rest of a loss, and the usual exponents are whole.

    Args:
        function: Takes a power and arrays.
        *exponents: Which of the arrays are exponents.
    """
    of_whole, of_any = (functools.partial(function, x) for x in (_whole_power, power))

    def chosen(*args: jax.Array) -> Any:
        whole = jnp.asarray(True)
        for i in exponents:
            whole &= all_on_cpu(_is_whole(args[i]))
        return jax.lax.cond(whole, of_whole, of_any, *args)

    return chosen
