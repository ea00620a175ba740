"""The losses that optax, PyTorch, Keras and rax share with jaxloss: one table for each.

An entry takes what the loss here takes, with the name it has in its row of the tests. A
peer's epsilon, where ours has none by default, is given to ours, so that all compute one formula.
"""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from _common import title

# Read when Keras is imported.
os.environ["KERAS_BACKEND"] = "jax"

import jax
import jax.numpy as jnp
import keras
import numpy as np
import optax
import rax
import torch
from torch.nn import functional

Loss = Callable[..., Any]
Options = Mapping[str, Any]


@dataclass(frozen=True)
class Peer:
    """A peer's version of a loss.

    Attributes:
        loss: Unreduced; for Keras, reduced over the last axis; for PyTorch, reduced as its
            `reduction` says; for rax, the mean.
        at: The options at which it is the same loss, where they are not those of the row.
    """

    loss: Loss
    at: Options | None = None

    def options(self, given: Options) -> Options:
        """Those at which it is the same loss, of a row with the `given` ones."""
        return given if self.at is None else self.at


NAMES = ("optax", "PyTorch", "Keras", "rax")
VERSIONS = {
    "jax": jax.__version__,
    "optax": optax.__version__,
    "PyTorch": torch.__version__.partition("+")[0],
    "Keras": keras.__version__,
    "rax": metadata.version("rax"),
}


def _torch_cosine(p: Any, t: Any, *, epsilon: Any, reduction: str) -> Any:
    del epsilon  # PyTorch's bounds the norms, not their squares
    losses = functional.cosine_similarity(p, t, dim=-1)
    return losses.mean() if reduction == "mean" else losses


def _numbered(loss: Loss) -> Peer:
    """PyTorch takes class numbers of 64 bits alone."""
    return Peer(lambda x, y, **options: loss(x, y.long(), **options))


def _summed(loss: Loss) -> Peer:
    """What PyTorch leaves for each class, its users sum."""

    def total(x: Any, y: Any, *, reduction: str) -> Any:
        losses = loss(x, y, reduction="none").sum(-1)
        return losses.mean() if reduction == "mean" else losses

    return Peer(total)


def _torch_ctc(x: Any, late: Any, y: Any, spare: Any, *, reduction: str) -> Any:
    frames, labels = ((1 - padding).sum(-1).long() for padding in (late, spare))
    scores = x.log_softmax(-1).transpose(0, 1)
    # Its own mean divides by the number of labels.
    losses = functional.ctc_loss(scores, y.long(), frames, labels, reduction="none")
    return losses.mean() if reduction == "mean" else losses


def _torch_info_nce(q: Any, k: Any, *, temperature: float, reduction: str) -> Any:
    """What PyTorch's users write."""
    logits = functional.normalize(q, dim=-1) @ functional.normalize(k, dim=-1).T / temperature
    return functional.cross_entropy(logits, torch.arange(len(q)), reduction=reduction)


_TORCH = {
    "info_nce_loss": Peer(_torch_info_nce),
    "ctc_loss": Peer(_torch_ctc),
    "softmax_cross_entropy": Peer(functional.cross_entropy),
    "softmax_cross_entropy_with_integer_labels": _numbered(functional.cross_entropy),
    "nll_loss": _numbered(functional.nll_loss),
    "multi_margin_loss": Peer(
        lambda x, y, **options: functional.multi_margin_loss(x, y.long(), **options),
        at={"margin": 1.0},
    ),
    "sigmoid_binary_cross_entropy": Peer(functional.binary_cross_entropy_with_logits, at={}),
    "binary_cross_entropy": Peer(functional.binary_cross_entropy, at={}),
    "soft_margin_loss": Peer(functional.soft_margin_loss),
    "multilabel_soft_margin_loss": Peer(functional.multilabel_soft_margin_loss),
    "kl_divergence": _summed(functional.kl_div),
    "kl_divergence_with_log_targets": _summed(
        lambda x, y, **options: functional.kl_div(x, y, log_target=True, **options)
    ),
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
    "margin_ranking_loss": Peer(functional.margin_ranking_loss),
    "hinge_embedding_loss": Peer(functional.hinge_embedding_loss),
    "cosine_embedding_loss": Peer(functional.cosine_embedding_loss),
    # PyTorch adds its eps to each difference, ours is added to the sum of their powers.
    "triplet_margin_loss": Peer(functional.triplet_margin_loss, at={"margin": 1.0, "eps": 0.0}),
    "triplet_margin_with_distance_loss": Peer(
        functools.partial(
            functional.triplet_margin_with_distance_loss,
            distance_function=functools.partial(functional.pairwise_distance, eps=0.0),
        )
    ),
}

# Keras takes targets first.
_LOSSES = keras.losses
_KERAS = {
    "softmax_cross_entropy": Peer(
        lambda x, y: _LOSSES.categorical_crossentropy(y, x, from_logits=True)
    ),
    "softmax_cross_entropy_with_integer_labels": Peer(
        lambda x, y: _LOSSES.sparse_categorical_crossentropy(y, x, from_logits=True)
    ),
    "sigmoid_binary_cross_entropy": Peer(
        lambda x, y: _LOSSES.binary_crossentropy(y, x, from_logits=True), at={}
    ),
    "binary_cross_entropy": Peer(
        lambda p, y, **_: _LOSSES.binary_crossentropy(y, p), at={"epsilon": 1e-7}
    ),
    "sigmoid_focal_loss": Peer(
        lambda x, y, *, gamma: _LOSSES.binary_focal_crossentropy(
            y, x, gamma=gamma, from_logits=True
        ),
        at={"gamma": 2.0},
    ),
    "hinge_loss": Peer(lambda x, y: _LOSSES.hinge(y, x)),
    "squared_hinge_loss": Peer(lambda x, y: _LOSSES.squared_hinge(y, x)),
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
    "ciou_loss": Peer(lambda a, b: 1 - keras.utils.bounding_boxes.compute_ciou(a, b, "xyxy")),
}


def _approximated(metric: Loss) -> Peer:
    """rax's measure, of ranks that are sums of sigmoids."""
    ranks, cutoff = rax.utils.approx_ranks, rax.utils.approx_cutoff
    loss = functools.partial(metric, rank_fn=ranks, cutoff_fn=cutoff)
    return Peer(lambda s, y, **_: 1 - loss(s, y), at={"temperature": 1.0})


# Means of pairs are over those of all lists.
_RAX = {
    "ranking_softmax_loss": Peer(lambda s, y, **_: rax.softmax_loss(s, y)),
    "listnet_loss": Peer(
        functools.partial(rax.softmax_loss, label_fn=lambda y, where: jax.nn.softmax(y))
    ),
    "listmle_loss": Peer(rax.listmle_loss),
    "unique_softmax_loss": Peer(rax.unique_softmax_loss),
    "pairwise_logistic_loss": Peer(rax.pairwise_logistic_loss),
    "pairwise_hinge_loss": Peer(rax.pairwise_hinge_loss, at={}),
    "pairwise_mse_loss": Peer(rax.pairwise_mse_loss),
    "approx_ndcg_loss": _approximated(rax.ndcg_metric),
    "approx_mrr_loss": _approximated(rax.mrr_metric),
}


# optax's losses that have fewer options, or take fewer forms of labels, than ours of that name.
_OPTAX = {
    "ntxent": Peer(optax.losses.ntxent, at={"temperature": 0.5}),
    "sigmoid_binary_cross_entropy": Peer(optax.losses.sigmoid_binary_cross_entropy, at={}),
    "multiclass_hinge_loss": Peer(optax.losses.multiclass_hinge_loss, at={}),
    "ranking_softmax_loss": Peer(
        lambda s, y, **_: optax.losses.ranking_softmax_loss(s, y, reduce_fn=None)
    ),
    **{
        loss.__name__: Peer(
            lambda x, y, loss=loss: loss(
                x, y if x.ndim == y.ndim else jax.nn.one_hot(y, x.shape[-1])
            ),
            at={},
        )
        for loss in (optax.losses.dice_loss, optax.losses.multiclass_generalized_dice_loss)
    },
}


def find(library: str, case: Any) -> Peer | None:
    """A peer's version of a row, or None where it has none."""
    if library != "optax":
        return {"PyTorch": _TORCH, "Keras": _KERAS, "rax": _RAX}[library].get(title(case))
    # A loss that optax has goes by optax's names here.
    loss = _OPTAX.get(case.name) or getattr(optax.losses, case.name, None)
    if isinstance(loss, Peer):
        return loss
    if loss is None or not set(case.options) <= set(inspect.signature(loss).parameters):
        return None
    return Peer(loss)


def runs(
    library: str, peer: Peer, data: list[np.ndarray], options: Options
) -> tuple[Loss, Loss, int]:
    """The mean loss, and the mean with its gradient in predictions: functions to be timed.

    And the latter's temporary bytes, of which PyTorch does not tell.
    """
    options = peer.options(options)
    if library != "PyTorch":
        return jitted(lambda *x: jnp.mean(peer.loss(*x, **options)), data)
    tensors = [shared(x, _tensor) for x in data]
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

    return value, value_and_grad, 0


_SHARED: dict[tuple[int, Any], tuple[np.ndarray, Any]] = {}


def shared(x: np.ndarray, convert: Callable[[np.ndarray], Any]) -> Any:
    """A library's copy of an array, one for all rows: with one for each a run took 24 GB."""
    key = id(x), convert
    if key not in _SHARED:
        _SHARED[key] = x, convert(x)
    return _SHARED[key][1]


def _tensor(x: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.array(x))


def jitted(mean: Loss, data: list[np.ndarray]) -> tuple[Loss, Loss, int]:
    """A compiled mean, the mean with its gradient, and the latter's temporary bytes."""
    arrays = [shared(x, jnp.asarray) for x in data]
    value = jax.jit(mean).lower(*arrays).compile()
    both = jax.jit(jax.value_and_grad(mean)).lower(*arrays).compile()
    memory = both.memory_analysis()
    return waiting(value, arrays), waiting(both, arrays), memory.temp_size_in_bytes


def waiting(compiled: Loss, arrays: list[jax.Array]) -> Loss:
    return lambda: jax.block_until_ready(compiled(*arrays))


def evaluated(library: str, peer: Peer, columns: list[np.ndarray], options: Options) -> Any:
    """Unreduced losses and their gradients in predictions and in targets."""
    numbers = [i for i, x in enumerate(columns[:2]) if x.dtype.kind == "f"]
    if library == "PyTorch":
        tensors = [torch.tensor(x, requires_grad=x.dtype.kind == "f") for x in columns]
        try:
            losses = peer.loss(*tensors, reduction="none", **options)
        except RuntimeError:  # not differentiable in the targets
            tensors[1].requires_grad_(False)
            losses = peer.loss(*tensors, reduction="none", **options)
        losses.sum().backward()
        slopes = [tensors[i].grad for i in numbers]
        # A target that the peer holds constant has no gradient.
        return losses.detach().numpy(), [None if x is None else x.numpy() for x in slopes]
    # Keras consumes the last axis of every loss; of an elementwise one it is given one of size 1.
    single = library == "Keras" and columns[0].ndim == 1

    def total(trained: list[jax.Array]) -> Any:
        filled = [jnp.asarray(x) for x in columns]
        for i, x in zip(numbers, trained, strict=True):
            filled[i] = x
        losses = peer.loss(*(x[:, None] if single else x for x in filled), **options)
        return jnp.sum(losses), losses

    slopes, losses = jax.jit(jax.grad(total, has_aux=True))(
        [jnp.asarray(columns[i]) for i in numbers]
    )
    return losses, slopes
