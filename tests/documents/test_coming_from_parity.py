"""The tables and examples of the pages on PyTorch, Keras and rax, live against them."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.boxes.test_parity import torchvision
from tests.documents.drawn import DATA
from tests.documents.elsewhere import Pair, Sides, agree, each, letters_of, of_jax
from tests.documents.reading import DOCS
from tests.documents.running import run_examples


def of_torch(pair: Pair) -> Sides:
    """A call of PyTorch or, in its words, of torchvision, which is no dependency."""
    torch = pytest.importorskip("torch")
    wrt = letters_of(pair)
    data = {k: _as_tensor(torch, x) for k, x in DATA[pair.heading].letters.items()}
    for letter in wrt:
        data[letter].requires_grad_()
    boxes = {
        f"{name}_box_iou_loss": functools.partial(torchvision, loss, torch.nn.functional)
        for name, loss in (
            ("generalized", "giou_loss"),
            ("distance", "diou_loss"),
            ("complete", "ciou_loss"),
        )
    }
    names = {"torch": torch, "nn": torch.nn, "F": torch.nn.functional, **boxes}
    names |= {"sigmoid_focal_loss": _focal, "box_iou": _all_with_all}
    losses = eval(pair.theirs, {**names, **data})
    losses.sum().backward()
    return losses.detach().numpy(), [data[k].grad.numpy() for k in wrt]


def _as_tensor(torch: Any, x: Any) -> Any:
    return torch.tensor(x) if isinstance(x, np.ndarray) else x


def _focal(x: Any, y: Any, alpha: float, gamma: float, reduction: str) -> Any:
    """torchvision's sigmoid_focal_loss, of which the mean is asked."""
    assert reduction == "mean"
    p = x.sigmoid()
    losses = -(y * p.log() * (1 - p) ** gamma * alpha)
    return (losses - (1 - y) * (1 - p).log() * p**gamma * (1 - alpha)).mean()


def _all_with_all(a: Any, b: Any) -> Any:
    """torchvision's box_iou, without an epsilon."""
    from torch.nn import functional as F

    n = len(a)
    pairs = a.repeat_interleave(n, 0), b.repeat(n, 1)
    return 1 - torchvision("iou_loss", F, *pairs).reshape(n, n)


@each("pytorch", "in PyTorch")
def test_pytorch(pair: Pair) -> None:
    agree(pair, of_torch)


# What only their derivatives differ in, as the page says.
OTHER_SLOPES = ("compute_ciou",)


@each("keras", "in Keras")
def test_keras(pair: Pair) -> None:
    keras = pytest.importorskip("keras")
    names = {**vars(keras.losses), "compute_ciou": keras.utils.bounding_boxes.compute_ciou}
    if not pair.theirs.startswith(OTHER_SLOPES):
        return agree(pair, of_jax, names)
    agree(pair, lambda *given: (of_jax(*given)[0], []), names)
    with pytest.raises(AssertionError):
        agree(pair, of_jax, names)


@each("rax", "in rax")
def test_rax(pair: Pair) -> None:
    rax = pytest.importorskip("rax")
    agree(pair, of_jax, {**vars(rax), "jnp": jnp, "jax": jax})


@pytest.mark.parametrize(("page", "library"), [("pytorch", "torch"), ("keras", "keras")])
def test_examples(page: str, library: str) -> None:
    pytest.importorskip(library)
    run_examples(DOCS / "coming_from" / f"{page}.md")


def test_examples_of_rax() -> None:
    pytest.importorskip("rax")
    run_examples(DOCS / "coming_from" / "rax.md")
