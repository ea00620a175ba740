"""Several losses in one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from .._contract import inputs
from .._contract.calls import refusing
from .._contract.reduce import Mean

Schedule = Callable[[Any], Any]


@refusing
def combine(
    terms: Mapping[str, ArrayLike | Mean],
    *,
    weights: Mapping[str, ArrayLike | Schedule] | None = None,
    step: ArrayLike | None = None,
    log_variances: Mapping[str, ArrayLike] | None = None,
) -> tuple[jax.Array, dict[str, Any]]:
    """Several losses as one, with what each of them is.

        sum of  w l                 for a weight w
                exp(-s) l + s / 2   for a log-variance s

    over the terms l. It takes what the losses returned, not the losses, as each has inputs of its
    own. What it returns is what `jax.value_and_grad(..., has_aux=True)` takes.

    A log-variance is learned: a parameter of the model, which starts at 0 and is trained with it.
    For a term that is the mean of `l2_loss`, e^2 / 2, or of a cross-entropy the sum is the negative
    log-likelihood of the paper, eq. 7 and 10, where s = log(sigma^2); the best s of the former is
    the logarithm of the mean squared error. No term may be negative: s would go to -inf.

    Args:
        terms: Losses by name: numbers, or a `jaxloss.Mean`, which counts as its value. Add those of
            microbatches or devices first: `Mean.psum`.
        weights: By name: a number, an array of one, or a schedule, as optax has them: a function of
            `step`. Every term without a log-variance needs one; None for 1 each. A weight of 0
            times a term of NaN is NaN: leave out of `terms` what is to have no part.
        step: What schedules are called with; may be traced.
        log_variances: By name, of some terms or of all: s, a number or an array of one.

    Returns:
        The sum, in float32 at least, and a dictionary of the terms as they were, unweighted: one
        that is NaN makes the sum NaN, and is seen there. A `Mean` is one still, and adds to others.

    Raises:
        TypeError: If an argument is not what it must be; for instance if a term is a loss itself.
        ValueError: If a term is not one number, if names do not fit, or a schedule has no `step`.

    Reference:
        Kendall, Gal and Cipolla, "Multi-task learning using uncertainty to weigh losses for scene
        geometry and semantics", 2018, https://arxiv.org/abs/1705.07115.

    Example:
        >>> size = jaxloss.Mean.of(jaxloss.l2_loss, [1.0, 3.0])
        >>> kind = jaxloss.sigmoid_binary_cross_entropy([0.0], [1.0], reduction="mean")
        >>> weights = {"size": lambda step: 1 / (1 + step), "kind": 2.0}
        >>> total, terms = combine({"size": size, "kind": kind}, weights=weights, step=4)
        >>> total, terms["kind"]
        (Array(1.8862944, dtype=float32), Array(0.6931472, dtype=float32))
        >>> combine({"size": size}, log_variances={"size": jnp.log(5.0)})[0]
        Array(1.304719, dtype=float32)
    """
    values = {name: _term(name, x) for name, x in _mapping("terms", terms).items()}
    learned = {} if log_variances is None else _mapping("log_variances", log_variances)
    fixed = _mapping("weights", weights) if weights is not None else None
    if fixed is None:
        fixed = dict.fromkeys([name for name in values if name not in learned], 1.0)
    _check_names(values, fixed, learned)
    numbers = {name: _weight(name, x, step) for name, x in fixed.items()}
    logs = {name: _scalar(f"the log-variance of {name}", x) for name, x in learned.items()}
    dtype = inputs.computing_dtype([*values.values(), *numbers.values(), *logs.values()])
    total = jnp.zeros((), dtype)
    for name, value in values.items():
        if name in logs:
            s = logs[name].astype(dtype)
            total += jnp.exp(-s) * value.astype(dtype) + s / 2
        else:
            total += numbers[name].astype(dtype) * value.astype(dtype)
    return total, dict(terms)


def _mapping(argument: str, given: Any) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        raise TypeError(f"{argument} must be a mapping by name, got {inputs.shown(given)}")
    for name in given:
        if not isinstance(name, str):
            raise TypeError(f"{argument} must be named by strings, got {name!r}")
    return dict(given)


def _term(name: str, term: Any) -> jax.Array:
    if callable(term):
        got = f"got {inputs.shown(term)}"
        raise TypeError(f"the term {name} must be what a loss returns, not a loss, {got}")
    value = term.value() if isinstance(term, Mean) else term
    return _scalar(f"the term {name}", value, '; reduction="mean" makes it one')


def _scalar(what: str, value: Any, advice: str = "") -> jax.Array:
    array = inputs.real(what, value)
    message = f"{what} must be one number, got {inputs.kind_of(array)}{advice}"
    inputs.check_shape(array, (), message)
    return array


def _check_names(terms: Mapping[str, Any], fixed: Mapping[str, Any], learned: Any) -> None:
    """Refuse names of no term, and terms that have no weight, or two."""
    for option, names in (("weights", fixed), ("log_variances", learned)):
        for name in names:
            if name not in terms:
                has = ", ".join(terms) or "none"
                raise ValueError(f"{option} names {name!r}, which is no term; the terms are {has}")
    for name in terms:
        if name in fixed and name in learned:
            raise ValueError(f"the term {name} has a weight and a log-variance; give it one")
        if name not in fixed and name not in learned:
            raise ValueError(f"weights must name the term {name}, or log_variances")


def _weight(name: str, weight: Any, step: Any) -> jax.Array:
    what = f"the weight of {name}"
    if callable(weight):
        if step is None:
            raise ValueError(f"{what} is a schedule: step must be given")
        what, weight = f"{what}, by its schedule,", weight(step)
    return _scalar(what, weight)
