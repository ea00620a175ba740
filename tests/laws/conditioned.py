"""What the rounding of the terms of dot products amounts to, in losses of them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tests.laws.case import Options

# What changes the length of a vector by less than a digit of a bound.
SMALL = 1e-3


def _length(x: Any) -> Any:
    return jnp.linalg.norm(x, axis=-1, keepdims=True)


def _of_partners(pairs: Any, data: Any) -> list[Any]:
    """The rows of each array of partners: of all arrays but the first, or of the only one."""
    return jnp.split(pairs, np.cumsum([len(x) for x in data[1:-1]]).astype(int))


def conditioned(loss: Callable[..., Any], cosines: bool = True) -> Callable[..., float]:
    """The largest of R and of x dR/dx, for the number R in question and each number x of the call.

    What x contributes is a term of R. A loss of dot products is a sum along the features, of terms
    of either sign, and it stands in an exponent, by which its rounding reaches the derivatives.

    Args:
        loss: One loss for each anchor, or one for all.
        cosines: Whether it is of cosines, whose largest terms then count as such numbers.
    """

    def moved(data: Any, shifts: Any) -> Any:
        """The data with features more, through which each cosine moves by itself."""
        if not cosines:
            return data
        units = [x / _length(x) for x in data]
        beside = [SMALL * jnp.eye(shifts.shape[1]), *_of_partners(shifts / SMALL, data)]
        if len(data) == 1:
            beside = [sum(beside)]
        return [jnp.concatenate(pair, -1) for pair in zip(units, beside, strict=True)]

    @functools.partial(jax.jit, static_argnums=3)
    def bounds(data: Any, knobs: Any, labels: Any, fixed: Any) -> Any:
        def results(data: Any, knobs: Any, shifts: Any) -> Any:
            def total(data: Any, knobs: Any) -> Any:
                losses = loss(*moved(data, shifts), *labels, **knobs, **dict(fixed))
                return jnp.sum(losses), losses

            slopes, losses = jax.grad(total, (0, 1), has_aux=True)(data, knobs)
            return jax.tree.leaves((losses, slopes))

        first, last = (x / _length(x) for x in (data[0], jnp.concatenate(data[1:] or data)))
        terms = jnp.max(jnp.abs(first[:, None] * last), -1)
        given = data, knobs, jnp.zeros_like(terms.T)
        sizes = jax.tree.leaves((data, knobs, terms.T))

        def most(result: Any, changes: Any) -> Any:
            bound = jnp.abs(result)
            for x, change in zip(sizes, jax.tree.leaves(changes), strict=True):
                axes = tuple(range(result.ndim, change.ndim))
                parts = jnp.abs(change * jnp.broadcast_to(x, change.shape))
                bound = jnp.maximum(bound, jnp.max(parts, axes, initial=0))
            return bound

        jacobian = jax.jacfwd(results, (0, 1, 2))(*given)
        found = [most(*x) for x in zip(results(*given), jacobian, strict=True)]
        losses, (slopes, in_knobs) = jax.tree.unflatten(
            jax.tree.structure((0, (data, knobs))), found
        )
        if cosines:
            # The terms of a gradient: of the direction of the partner, times a slope of the cosine.
            by_pair = jax.grad(lambda shifts: jnp.sum(results(data, knobs, shifts)[0]))(given[2])
            sides = [(by_pair.T, last, data[0])]
            sides += [
                (g, first, x) for g, x in zip(_of_partners(by_pair, data), data[1:], strict=False)
            ]
            slopes = [
                jnp.maximum(slope, jnp.max(jnp.abs(g[..., None] * u), 1) / _length(x))
                for slope, (g, u, x) in zip(slopes, sides, strict=True)
            ]
        return losses, (slopes, in_knobs)

    known: dict[Any, Any] = {}

    def largest(row: Any, options: Options, wrt: Any) -> float:
        given = {k: v for k, v in options.items() if k != "anchor"}
        call = (*(x.tobytes() for x in row), *given.items())
        if call not in known:
            knobs = {k: v for k, v in given.items() if isinstance(v, float)}
            fixed = tuple((k, v) for k, v in given.items() if k not in knobs)
            data = [np.float64(x) for x in row if x.dtype.kind == "f"]
            labels = [x for x in row if x.dtype.kind != "f"]
            with jax.enable_x64(True), jax.numpy_rank_promotion("allow"):
                known[call] = jax.tree.map(np.asarray, bounds(data, knobs, labels, fixed))
        losses, (slopes, knob_slopes) = known[call]
        if wrt is None:
            return float(losses[options["anchor"]] if "anchor" in options else losses)
        if isinstance(wrt, str):
            return float(knob_slopes[wrt])
        number = sum(x.dtype.kind == "f" for x in row[: wrt[0]])
        return float(slopes[number][wrt[1]])

    return largest
