"""The same losses of other libraries, and how close ours have to be to them.

The functions `of_...` evaluate a loss of a peer: values and derivatives, as `evaluated` does for a
loss of ours. They skip the test where the peer is not installed.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest

from tests.laws.values import EPS, double, gradients, single

# Read when Keras is imported.
os.environ["KERAS_BACKEND"] = "jax"

# The losses, and the derivatives of their sum in each input.
Evaluated = tuple[np.ndarray, list[np.ndarray]]


class Row(NamedTuple):
    """A loss here, the same loss of a peer, and what both are given.

    Each side keeps within a few eps of float32 of the truth, so the two may be 8 apart: relative
    to the result, and to `largest` where one side computes a sum of terms up to that size.
    """

    name: str
    ours: Callable[..., Any]
    theirs: Callable[..., Any]
    inputs: tuple[np.ndarray, ...]
    largest: Any = 0.0


def rows(*table: Row) -> Any:
    return pytest.mark.parametrize("row", table, ids=[row.name for row in table])


def float32(*arrays: Any) -> tuple[np.ndarray, ...]:
    return tuple(map(single, arrays))


def float64(*arrays: Any) -> tuple[np.ndarray, ...]:
    return tuple(map(double, arrays))


# Both sides.


def evaluated(loss: Callable[..., Any], *inputs: Any) -> Evaluated:
    losses, derivatives = gradients(loss, *inputs)
    return np.asarray(losses), list(map(np.asarray, derivatives))


@contextmanager
def as_jax_ships() -> Iterator[None]:
    """JAX without the strictness of these tests, which the peers' code does not keep."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def of_torch(loss: Callable[..., Any], *inputs: Any, dtype: Any = None) -> Evaluated:
    """`loss` is called with torch.nn.functional and the tensors.

    In the precision of the inputs, or in that of `dtype` where the peer is to be the exact one.
    """
    torch = pytest.importorskip("torch")
    tensors = [torch.tensor(np.asarray(x, dtype), requires_grad=True) for x in inputs]
    losses = loss(torch.nn.functional, *tensors)
    losses.sum().backward()
    return losses.detach().numpy(), [x.grad.numpy() for x in tensors]


def torch_loss(name: str, *, labels: Any = None, **options: Any) -> Callable[..., Any]:
    """A loss of torch.nn.functional by its name, with labels and options without a derivative."""
    torch = pytest.importorskip("torch")
    given = [] if labels is None else [torch.tensor(labels)]
    options = {k: torch.tensor(x) if isinstance(x, np.ndarray) else x for k, x in options.items()}
    return lambda F, *x: getattr(F, name)(*x, *given, reduction="none", **options)


def of_jax(module: str, loss: Callable[..., Any], *inputs: Any) -> Evaluated:
    """`loss` is called with the module and the arrays."""
    peer = pytest.importorskip(module)
    with as_jax_ships():
        return evaluated(functools.partial(loss, peer), *inputs)


of_optax = functools.partial(of_jax, "optax.losses")
of_keras = functools.partial(of_jax, "keras.losses")


def last(x: Any) -> Any:
    """With a last axis of one number, of which Keras then takes the mean."""
    return x[..., None]


def of_scikit_learn(
    loss: Callable[..., Any], predictions: np.ndarray, targets: np.ndarray
) -> Evaluated:
    """In float64, with the derivative in predictions alone; `loss` is called with the module."""
    peer = loss(pytest.importorskip("sklearn._loss.loss"))
    p, t = float64(predictions, targets)
    return peer.loss(t, p), [peer.gradient(t, p)]


# How close they have to be.


def close(ours: Any, theirs: Any, *, rtol: float = 8 * EPS, largest: Any = 0.0) -> None:
    """Relative to the result, and to `largest`: the size of terms that may cancel in the result.

    None stands for the largest number of the result.
    """
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert ours.shape == theirs.shape, (ours.shape, theirs.shape)
    if largest is None:
        largest = np.max(np.abs(theirs))
    wrong = ~(np.abs(ours - theirs) <= rtol * (np.abs(theirs) + largest))
    assert not np.any(wrong), (ours[wrong], theirs[wrong])


def alike(ours: Evaluated, theirs: Evaluated, *, rtol: float = 8 * EPS, largest: Any = 0.0) -> None:
    """Values and derivatives are `close`."""
    for mine, other in zip([ours[0], *ours[1]], [theirs[0], *theirs[1]], strict=True):
        close(mine, other, rtol=rtol, largest=largest)


def compare(row: Row, theirs: Evaluated) -> None:
    alike(evaluated(row.ours, *row.inputs), theirs, largest=row.largest)


# What losses of several families are given.

# Errors exactly 0, and exactly at 1/2 and 1, where smooth_l1 and Huber change.
_ERRORS = np.array([0.0, 0.0, 0.5, -0.5, 1.0, -1.0, 40.0, -3e4])
_TARGETS = np.array([0.0, 2.0, 1.0, 1.0, 1.0, -2.0, 1.0, 8.0])
KINKS = float32(_TARGETS + _ERRORS, _TARGETS)
# Logarithms of means, and means, against amounts.
AMOUNTS = single([0.125, 1.0, 2.0, 3.0, 0.5, 7.0, 20.0, 1.0])
COUNTS = single([0.0, 1.0, 2.0, 3.0, 0.0, 7.0, 20.0, 1.0])
LOGARITHMS = single([-3.0, 0.0, 0.7, 1.3, 2.0, 1.5, 3.0, -0.4])
MEANS = single(np.exp(LOGARITHMS))
