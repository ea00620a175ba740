"""The losses that optax, PyTorch and Keras share with jaxloss: one table for each.

An entry takes what the loss here takes, with the name it has in its row of `tests/cases.py`. A
peer's epsilon, where ours has none by default, is given to ours, so that all compute one formula.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from _common import title

# Read when Keras is imported.
os.environ["KERAS_BACKEND"] = "jax"

import jax
import jax.numpy as jnp
import keras
import numpy as np
import optax
import torch
from torch.nn import functional

Loss = Callable[..., Any]
Options = Mapping[str, Any]


@dataclass(frozen=True)
class Peer:
    """A peer's version of a loss.

    Attributes:
        loss: Unreduced; for Keras, reduced over the last axis; for PyTorch, reduced as its
            `reduction` says.
        at: The options at which it is the same loss, where they are not those of the row.
    """

    loss: Loss
    at: Options | None = None


NAMES = ("optax", "PyTorch", "Keras")
VERSIONS = {
    "jax": jax.__version__,
    "optax": optax.__version__,
    "PyTorch": torch.__version__.partition("+")[0],
    "Keras": keras.__version__,
}


def _torch_cosine(p: Any, t: Any, *, epsilon: Any, reduction: str) -> Any:
    del epsilon  # PyTorch's bounds the norms, not their squares
    losses = functional.cosine_similarity(p, t, dim=-1)
    return losses.mean() if reduction == "mean" else losses


_TORCH = {
    "l1_loss": Peer(functional.l1_loss),
    "squared_error": Peer(functional.mse_loss),
    "smooth_l1_loss": Peer(functional.smooth_l1_loss),
    "huber_loss": Peer(functional.huber_loss),
    "gaussian_nll_loss": Peer(functional.gaussian_nll_loss, at={"eps": 1e-6}),
    "poisson_nll_loss": Peer(functional.poisson_nll_loss),
    "poisson_nll_loss(log_input=False)": Peer(
        functional.poisson_nll_loss, at={"log_input": False, "eps": 1e-8}
    ),
    "cosine_similarity": Peer(_torch_cosine, at={"epsilon": 1e-16}),
}

# Keras takes targets first.
_LOSSES = keras.losses
_KERAS = {
    "l1_loss": Peer(lambda p, t: _LOSSES.mean_absolute_error(t, p)),
    "squared_error": Peer(lambda p, t: _LOSSES.mean_squared_error(t, p)),
    "huber_loss": Peer(lambda p, t, *, delta: _LOSSES.huber(t, p, delta)),
    "log_cosh": Peer(lambda p, t: _LOSSES.log_cosh(t, p)),
    "absolute_percentage_error": Peer(
        # In per cent.
        lambda p, t, **_: _LOSSES.mean_absolute_percentage_error(t, p) / 100,
        at={"epsilon": 1e-7},
    ),
    "squared_logarithmic_error": Peer(
        lambda p, t: _LOSSES.mean_squared_logarithmic_error(t, p),
    ),
    "poisson_nll_loss(log_input=False)": Peer(
        lambda p, t, **_: _LOSSES.poisson(t, p), at={"log_input": False, "eps": 1e-7}
    ),
    "cosine_similarity": Peer(
        # Of the other sign.
        lambda p, t, **_: -_LOSSES.cosine_similarity(t, p),
        at={"epsilon": 1e-14},
    ),
}


def find(library: str, case: Any) -> Peer | None:
    """A peer's version of a row, or None where it has none."""
    if library != "optax":
        return {"PyTorch": _TORCH, "Keras": _KERAS}[library].get(title(case))
    # A loss that optax has goes by optax's names here.
    loss = getattr(optax.losses, case.name, None)
    if loss is None or not set(case.options) <= set(inspect.signature(loss).parameters):
        return None
    return Peer(loss)


def runs(library: str, peer: Peer, data: list[np.ndarray], options: Options) -> tuple[Loss, Loss]:
    """The mean loss, and the mean with its gradient in predictions: functions to be timed."""
    options = options if peer.at is None else peer.at
    if library != "PyTorch":
        return jitted(lambda *x: jnp.mean(peer.loss(*x, **options)), data)[:2]
    tensors = [torch.from_numpy(x.copy()) for x in data]
    trained = tensors[0].clone().requires_grad_()

    def value() -> Any:
        with torch.no_grad():
            return peer.loss(*tensors, reduction="mean", **options)

    def value_and_grad() -> Any:
        mean = peer.loss(trained, *tensors[1:], reduction="mean", **options)
        mean.backward()
        # Handed out, so that it is freed outside the measured time, as JAX's is.
        gradient, trained.grad = trained.grad, None
        return mean, gradient

    return value, value_and_grad


def jitted(mean: Loss, data: list[np.ndarray]) -> tuple[Loss, Loss, int]:
    """A compiled mean, the mean with its gradient, and the latter's temporary bytes."""
    arrays = [jnp.asarray(x) for x in data]
    value = jax.jit(mean).lower(*arrays).compile()
    both = jax.jit(jax.value_and_grad(mean)).lower(*arrays).compile()
    memory = both.memory_analysis()
    return waiting(value, arrays), waiting(both, arrays), memory.temp_size_in_bytes


def waiting(compiled: Loss, arrays: list[jax.Array]) -> Loss:
    return lambda: jax.block_until_ready(compiled(*arrays))


def evaluated(library: str, peer: Peer, columns: list[np.ndarray], options: Options) -> Any:
    """Unreduced losses and their gradients in predictions and in targets."""
    if library == "PyTorch":
        tensors = [torch.tensor(x, requires_grad=True) for x in columns]
        losses = peer.loss(*tensors, reduction="none", **options)
        losses.sum().backward()
        return losses.detach().numpy(), [x.grad.numpy() for x in tensors[:2]]
    # Keras consumes the last axis of every loss; of an elementwise one it is given one of size 1.
    single = library == "Keras" and columns[0].ndim == 1

    def total(*columns: jax.Array) -> Any:
        inputs = [x[:, None] if single else x for x in columns]
        losses = peer.loss(*inputs, **options)
        return jnp.sum(losses), losses

    slopes, losses = jax.jit(jax.grad(total, (0, 1), has_aux=True))(*map(jnp.asarray, columns))
    return losses, slopes
