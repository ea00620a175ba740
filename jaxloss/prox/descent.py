"""Proximal steps in an optax training loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from .._contract import inputs

if TYPE_CHECKING:
    import optax

Rate = ArrayLike | Callable[[Any], Any]


class HasProx(Protocol):
    """A penalty: a `Penalty`, or an object of one's own with this method."""

    def prox(self, x: Any, step: Any) -> Any:
        """The proximal point of a tree of parameters."""
        ...


class StepState(NamedTuple):
    """What `proximal_step` remembers.

    Attributes:
        count: How many steps were taken.
    """

    count: jax.Array  # pyright: ignore[reportIncompatibleMethodOverride]


class AcceleratedState(NamedTuple):
    """What an accelerated `proximal_gradient` remembers.

    Attributes:
        count: How many steps were taken.
        solution: The last proximal point. The parameters lie ahead of it.
        momentum: Nesterov's t.
    """

    count: jax.Array  # pyright: ignore[reportIncompatibleMethodOverride]
    solution: Any
    momentum: jax.Array


def proximal_step(penalty: HasProx, learning_rate: Rate) -> optax.GradientTransformation:
    """Follow the updates of an optimiser by a proximal step: the last link of a chain.

        params + updates  becomes  prox(params + updates, learning_rate)

    `optax.chain(optax.sgd(0.1), proximal_step(l1(0.01), 0.1))` minimises loss + penalty. The loss
    that is differentiated leaves the penalty out. Parameters that are to be 0 are exactly 0, and
    those of a constraint keep it up to rounding.

    The learning rate must be that by which the optimiser scales the gradient, in all: with
    momentum, `optax.sgd(rate, momentum=m)`, it is rate / (1 - m). What scales each
    parameter's gradient by a number of its own, such as Adam, then minimises something else, as the
    step would have to be scaled alike; constraints hold nevertheless.

    Args:
        penalty: A penalty of this module, or an object with a method `prox(params, step)`.
        learning_rate: A number of at least 0, or an optax schedule.

    Returns:
        A transformation for the end of `optax.chain`. Its `update` needs the parameters.

    Raises:
        ImportError: If optax is not installed.

    Reference:
        Combettes and Wajs, "Signal recovery by proximal forward-backward splitting", 2005,
        https://doi.org/10.1137/050626090; Parikh and Boyd, "Proximal algorithms", 2014, section
        4.2, https://doi.org/10.1561/2400000003.

    Example:
        >>> import optax
        >>> from jaxloss import prox
        >>> optimizer = optax.chain(optax.sgd(0.5), prox.proximal_step(prox.l1(1.0), 0.5))
        >>> params = jnp.array([3.0, 0.25])
        >>> state = optimizer.init(params)
        >>> gradient = jax.grad(lambda p: jnp.sum((p - 1.0) ** 2) / 2)(params)
        >>> updates, state = optimizer.update(gradient, state, params)
        >>> optax.apply_updates(params, updates)
        Array([1.5  , 0.125], dtype=float32)
    """
    rate = _checked("proximal_step", penalty, learning_rate)

    def update(updates: Any, state: StepState, params: Any = None) -> tuple[Any, StepState]:
        _check_params("proximal_step", params)
        ahead = jax.tree.map(lambda p, u: _wide(p) + _like(u, _wide(p)), params, updates)
        target = penalty.prox(ahead, rate(state.count))
        return _updates(target, params), StepState(_next(state.count))

    return _transformation(_first, update)


def proximal_gradient(
    penalty: HasProx, learning_rate: Rate, *, accelerated: bool = False
) -> optax.GradientTransformation:
    """Proximal gradient descent (ISTA), or its accelerated form (FISTA), as an optimiser.

        x = prox(y - learning_rate grad(y), learning_rate)

    minimises loss + penalty for a smooth loss, whose gradient is taken without the penalty. It
    converges if the learning rate is at most 1 / L (for the plain form below 2 / L), where L is the
    largest eigenvalue of the loss's Hessian. Parameters that are to be 0 are exactly 0.

    The plain form is `optax.chain(optax.sgd(rate), proximal_step(penalty, rate))`, where y is the
    last x. The accelerated form takes the gradient ahead, at y = x + b (x - last x), with
    Nesterov's b, and starts its momentum anew whenever that runs uphill. The parameters of the
    training loop are y then, and `state.solution` is x.

    Args:
        penalty: A penalty of this module, or an object with a method `prox(params, step)`.
        learning_rate: A number of at least 0, or an optax schedule.
        accelerated: Whether to use momentum. For full gradients: the noise of small batches it
            amplifies.

    Returns:
        An optimiser. Its `update` needs the parameters.

    Raises:
        ImportError: If optax is not installed.

    Reference:
        Beck and Teboulle, "A fast iterative shrinkage-thresholding algorithm for linear inverse
        problems", 2009, https://doi.org/10.1137/080716542; O'Donoghue and Candès, "Adaptive
        restart for accelerated gradient schemes", 2015, https://doi.org/10.1007/s10208-013-9150-3.

    Example:
        >>> import optax
        >>> from jaxloss import prox
        >>> optimizer = prox.proximal_gradient(prox.l1(1.0), 0.5, accelerated=True)
        >>> params = jnp.array([3.0, 0.25])
        >>> state = optimizer.init(params)
        >>> for _ in range(20):
        ...     gradient = params - jnp.array([3.0, 0.5])
        ...     updates, state = optimizer.update(gradient, state, params)
        ...     params = optax.apply_updates(params, updates)
        >>> state.solution
        Array([2., 0.], dtype=float32)
    """
    if accelerated not in (False, True):
        raise TypeError(f"accelerated must be True or False, got {inputs.shown(accelerated)}")
    rate = _checked("proximal_gradient", penalty, learning_rate)

    def descended(gradients: Any, count: jax.Array, params: Any) -> Any:
        _check_params("proximal_gradient", params)
        step = rate(count)

        def down(p: Any, g: Any) -> jax.Array:
            p = _wide(p)
            return p - _like(step, p) * _like(g, p)

        return penalty.prox(jax.tree.map(down, params, gradients), step)

    def plain(gradients: Any, state: StepState, params: Any = None) -> tuple[Any, StepState]:
        target = descended(gradients, state.count, params)
        return _updates(target, params), StepState(_next(state.count))

    def ahead(
        gradients: Any, state: AcceleratedState, params: Any = None
    ) -> tuple[Any, AcceleratedState]:
        found = descended(gradients, state.count, params)
        last = state.solution
        moved = jax.tree.map(lambda x, old: _wide(x) - _wide(old), found, last)
        turned = jax.tree.map(
            lambda p, x, m: jnp.sum((_wide(p) - _wide(x)) * m), params, found, moved
        )
        uphill = sum(x.astype(jnp.float32) for x in jax.tree.leaves(turned)) > 0
        momentum = 0.5 + jnp.sqrt(0.25 + jnp.square(state.momentum))
        share = jnp.where(uphill, 0, (state.momentum - 1) / momentum)
        target = jax.tree.map(lambda x, m: _wide(x) + _like(share, m) * m, found, moved)
        solution = jax.tree.map(lambda x, old: x.astype(old.dtype), found, last)
        state = AcceleratedState(_next(state.count), solution, jnp.where(uphill, 1, momentum))
        return _updates(target, params), state

    return _transformation(_first_ahead, ahead) if accelerated else _transformation(_first, plain)


def _first(params: Any) -> StepState:
    del params
    return StepState(jnp.zeros((), jnp.int32))


def _first_ahead(params: Any) -> AcceleratedState:
    solution = jax.tree.map(jnp.asarray, params)
    return AcceleratedState(jnp.zeros((), jnp.int32), solution, jnp.ones((), jnp.float32))


def _next(count: jax.Array) -> jax.Array:
    """One more, up to the largest integer."""
    return jnp.where(count < jnp.iinfo(count.dtype).max, count + 1, count)


def _wide(x: Any) -> jax.Array:
    """In the dtype in which it is computed."""
    x = jnp.asarray(x)
    return x.astype(inputs.computing_dtype([x]))


def _like(x: Any, other: jax.Array) -> jax.Array:
    return jnp.asarray(x).astype(other.dtype)


def _updates(target: Any, params: Any) -> Any:
    """What leads from the parameters to a target: added to them it is 0 where that is 0."""
    return jax.tree.map(
        lambda x, p: (_wide(x) - _wide(p)).astype(jnp.asarray(p).dtype), target, params
    )


def _check_params(name: str, params: Any) -> None:
    if params is None:
        raise ValueError(f"{name} needs the parameters: update(updates, state, params)")


def _checked(name: str, penalty: Any, learning_rate: Any) -> Callable[[jax.Array], Any]:
    """The learning rate as a schedule."""
    if not callable(getattr(penalty, "prox", None)):
        got = inputs.shown(penalty)
        raise TypeError(f"penalty must have a method prox, as prox.l1(0.1) has, got {got}")
    if hasattr(learning_rate, "prox"):
        got = inputs.shown(learning_rate)
        order = f"{name}(penalty, learning_rate)"
        raise TypeError(f"learning_rate must be a number or a schedule, got {got}; {order}")
    if callable(learning_rate):
        return learning_rate
    inputs.number("learning_rate", learning_rate)
    return lambda count: learning_rate


def _transformation(init: Any, update: Any) -> optax.GradientTransformation:
    try:
        import optax
    except ImportError:
        message = "proximal steps as transformations need optax: pip install optax"
        raise ImportError(message, name="optax") from None
    return optax.GradientTransformation(init, update)
