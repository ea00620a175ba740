"""The page on Liger, Cut Cross-Entropy, OpenCLIP and optax.MultiSteps.

The first three are no dependencies: two need a GPU, one a process for each device. They are
restated from their documentation, in PyTorch's words and in JAX's.
"""

from __future__ import annotations

import functools
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec as P

import jaxloss
from tests.documents.drawn import DATA
from tests.documents.elsewhere import OURS, Pair, Sides, agree, each, letters_of, of_jax, pairs
from tests.documents.reading import DOCS
from tests.documents.running import run_examples
from tests.laws.peers import as_jax_ships
from tests.laws.values import EPS

DEVICES = 4


# ------------------------------------------------------------------------------- linear layers


def linear_in_torch(names: Any, pair: Pair) -> Sides:
    """A call of a restated loss, and its derivatives."""
    torch = pytest.importorskip("torch")
    wrt, data = letters_of(pair), {}
    for letter, x in DATA[pair.heading].letters.items():
        data[letter] = torch.tensor(x) if isinstance(x, np.ndarray) else x
    for letter in wrt:
        data[letter].requires_grad_()
    losses = eval(pair.theirs, {**names(torch), **data})
    losses.sum().backward()
    return losses.detach().numpy(), [data[k].grad.numpy() for k in wrt]


def restated(torch: Any) -> tuple[Any, Any]:
    """The logits, capped, and their losses, of which those of -100 are 0, with their number."""
    functional = torch.nn.functional

    def logits(h: Any, kernel: Any, bias: Any, cap: float | None) -> Any:
        x = functional.linear(h, kernel, bias)
        return x if cap is None else cap * torch.tanh(x / cap)

    def reduced(losses: Any, target: Any, reduction: str, weight: Any = None) -> Any:
        counts = (target != -100).to(losses.dtype)
        if weight is not None:
            counts = counts * weight[target.clamp(min=0)]
        return losses if reduction == "none" else losses.sum() / counts.sum()

    return logits, reduced


def of_liger(torch: Any) -> dict[str, Any]:
    logits, reduced = restated(torch)

    def make(
        ce_weight: Any = None,
        lse_square_scale: float = 0.0,
        label_smoothing: float = 0.0,
        reduction: str = "mean",
        softcap: float | None = None,
    ) -> Any:
        def loss(kernel: Any, h: Any, target: Any, bias: Any = None) -> Any:
            x = logits(h, kernel, bias, softcap)
            options = {"weight": ce_weight, "label_smoothing": label_smoothing}
            losses = torch.nn.functional.cross_entropy(x, target, reduction="none", **options)
            square = lse_square_scale * torch.logsumexp(x, -1) ** 2 * (target != -100)
            return reduced(losses + square, target, reduction, ce_weight)

        return loss

    return {"LigerFusedLinearCrossEntropyLoss": make}


def of_cce(torch: Any) -> dict[str, Any]:
    logits, reduced = restated(torch)

    def linear_cross_entropy(
        e: Any,
        c: Any,
        targets: Any,
        bias: Any = None,
        softcap: float | None = None,
        reduction: str = "mean",
        shift: int = 0,
        return_lse: bool = False,
    ) -> Any:
        e, targets = e[: len(e) - shift], targets[shift:]
        x = logits(e, c, bias, softcap)
        losses = torch.nn.functional.cross_entropy(x, targets, reduction="none")
        found = reduced(losses, targets, reduction)
        return (found, torch.logsumexp(x, -1)) if return_lse else found

    return {"linear_cross_entropy": linear_cross_entropy}


@each("scale", "in Liger")
def test_liger(pair: Pair) -> None:
    agree(pair, functools.partial(linear_in_torch, of_liger))


@each("scale", "in Cut Cross-Entropy")
def test_cut_cross_entropy(pair: Pair) -> None:
    agree(pair, functools.partial(linear_in_torch, of_cce))


# ------------------------------------------------------------------------ batches over devices


def clip(local_loss: bool = False, gather_with_grad: bool = False) -> Any:
    """OpenCLIP's loss of each process, and the mean over these, as their gradients are averaged."""

    def of_process(a: Any, b: Any, s: Any, rank: int) -> Any:
        size = len(a) // DEVICES
        own = slice(rank * size, (rank + 1) * size)

        def gathered(x: Any) -> Any:
            if gather_with_grad:
                return x
            constant = jax.lax.stop_gradient(x)
            return constant if local_loss else constant.at[own].set(x[own])

        everyone = gathered(a), gathered(b)
        rows = (a[own], b[own]) if local_loss else everyone
        labels = jnp.arange(len(a))[own if local_loss else slice(None)]
        both = (s * rows[0] @ everyone[1].T, s * rows[1] @ everyone[0].T)
        losses = [
            optax.losses.softmax_cross_entropy_with_integer_labels(x, labels).mean() for x in both
        ]
        return sum(losses) / 2

    return lambda a, b, s: sum(of_process(a, b, s, rank) for rank in range(DEVICES)) / DEVICES


def siglip() -> Any:
    """Each process adds up all its pairs, over the number of its images; then the mean."""

    def loss(a: Any, b: Any, s: Any, c: Any) -> Any:
        signs = 2 * jnp.eye(len(a)) - 1
        return -jax.nn.log_sigmoid(signs * (s * a @ b.T + c)).sum() / len(a)

    return loss


def unit(x: Any) -> Any:
    return x / jnp.linalg.norm(x, axis=-1, keepdims=True)


OPEN_CLIP = {"ClipLoss": clip, "SigLipLoss": siglip, "F": SimpleNamespace(normalize=unit)}


def over_devices(loss: Any) -> Any:
    """A loss of ours inside `shard_map`, and the mean over its devices."""

    def whole(a: Any, b: Any, **options: Any) -> Any:
        def local(a: Any, b: Any) -> Any:
            return jax.lax.pmean(loss(a, b, **options), "data")

        mesh = jax.sharding.Mesh(np.array(jax.devices()[:DEVICES]), ("data",))
        specs = (P("data"), P("data"))
        return jax.shard_map(local, mesh=mesh, in_specs=specs, out_specs=P())(a, b)

    return whole


HERE = {**OURS, **{name: over_devices(OURS[name]) for name in ("clip_loss", "siglip_loss")}}
# Whose derivatives differ, and how, as the page says.
OTHER_SLOPES = ("ClipLoss()", "ClipLoss(local_loss=True)(")


@each("scale", "in OpenCLIP")
def test_open_clip(pair: Pair) -> None:
    if not pair.theirs.startswith(OTHER_SLOPES):
        return agree(pair, of_jax, OPEN_CLIP, here=HERE)
    agree(pair, lambda *given: (of_jax(*given)[0], []), OPEN_CLIP, here=HERE)
    with pytest.raises(AssertionError):
        agree(pair, of_jax, OPEN_CLIP, here=HERE)
    if pair.theirs.startswith("ClipLoss()"):

        def scaled(*given: Any) -> Sides:
            value, slopes = of_jax(*given)
            return value, [DEVICES * x for x in slopes]

        agree(pair, scaled, OPEN_CLIP, here=HERE)


def test_negatives_of_one_device_are_noticed() -> None:
    (pair, *_) = pairs("scale", "in OpenCLIP")
    alone = pair._replace(here=pair.here.replace(', axis_name="data"', ""))
    with pytest.raises(AssertionError):
        agree(alone, of_jax, OPEN_CLIP, here=HERE)


# ------------------------------------------------------------------------------- microbatches


@each("scale", "in optax")
@pytest.mark.parametrize("even", [True, False])
def test_multi_steps(pair: Pair, even: bool) -> None:
    """One step of the whole batch here, and the last of M steps there."""
    parts, rng = 4, np.random.default_rng(1)
    x, y = jnp.asarray(rng.normal(size=(2, 16, 3)), jnp.float32)
    known = jnp.arange(16) % parts <= (3 if even else jnp.arange(16) // 4)

    def loss_fn(scale: Any, x: Any, y: Any, known: Any) -> jaxloss.Mean:
        return jaxloss.Mean.of(jaxloss.l2_loss, (x - y) @ scale, 0.0, where=known)

    def mean(scale: Any, *batch: Any) -> Any:
        return loss_fn(scale, *batch).value()

    optimizer, start = optax.sgd(0.1), jnp.ones(3)
    names = {"optax": optax, "optimizer": optimizer, "loss_fn": loss_fn, "M": parts}
    several, step = eval(pair.theirs, names), eval(pair.here, {**OURS, **names})

    state, updates = several.init(start), None
    with as_jax_ships():
        for i in range(parts):
            batch = (x[i::parts], y[i::parts], known[i::parts])
            updates, state = several.update(jax.grad(mean)(start, *batch), state)
    _, gradient = step(start, x, y, known)
    found, _ = optimizer.update(gradient, optimizer.init(start))
    whole, _ = optimizer.update(jax.grad(mean)(start, x, y, known), optimizer.init(start))
    updates, found, whole = (np.asarray(x) for x in (updates, found, whole))
    # Sums of 16 terms, in another order.
    np.testing.assert_allclose(found, whole, rtol=16 * EPS)
    off = np.abs(updates - whole).max() / np.abs(whole).max()
    assert off < 16 * EPS if even else off > 0.05


def test_examples() -> None:
    run_examples(DOCS / "coming_from" / "scale.md")
