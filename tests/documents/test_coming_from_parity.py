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
    """A call of PyTorch or, in its words, of libraries on it, which are no dependencies."""
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
    losses = eval(pair.theirs, {**names, **_metric_learning(torch), **data})
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


def _metric_learning(torch: Any) -> dict[str, Any]:
    """Losses of pytorch-metric-learning, which is no dependency, as its documentation has them."""
    functional = torch.nn.functional

    def cosines(x: Any, r: Any) -> Any:
        return functional.normalize(x) @ functional.normalize(r).T

    def distances(x: Any, r: Any) -> Any:
        # Of an anchor from itself, which is no pair, the square root has no slope.
        squares = ((x[:, None] - r) ** 2).sum(-1)
        return torch.where(squares == 0, 1, squares).sqrt()

    def of_pairs(loss: Any) -> Any:
        """A loss of a matrix, of which pairs are positive, and of which are negative."""

        def call(x: Any, y: Any, ref_emb: Any = None, ref_labels: Any = None) -> Any:
            r, q = (x, y) if ref_emb is None else (ref_emb, ref_labels)
            same = y[:, None] == q
            own = torch.eye(len(x), dtype=torch.bool) if ref_emb is None else same & False
            return loss(x, r, same & ~own, ~same)

        return call

    def mean_of_what_costs(losses: Any) -> Any:
        return losses.sum() / (losses > 0).sum()

    def log_sum(x: Any, there: Any) -> Any:
        return x.masked_fill(~there, -torch.inf).logsumexp(-1)

    def ntxent(temperature: float) -> Any:
        def loss(x: Any, r: Any, positive: Any, negative: Any) -> Any:
            s = cosines(x, r) / temperature
            against = torch.logaddexp(s, log_sum(s, negative)[:, None])
            return (against - s)[positive].mean()

        return of_pairs(loss)

    def supervised(temperature: float) -> Any:
        def loss(x: Any, r: Any, positive: Any, negative: Any) -> Any:
            s = cosines(x, r) / temperature
            surprisals = (log_sum(s, positive | negative)[:, None] - s) * positive
            return mean_of_what_costs(surprisals.sum(-1) / positive.sum(-1))

        return of_pairs(loss)

    def multi_similarity(alpha: float, beta: float, base: float) -> Any:
        def loss(x: Any, r: Any, positive: Any, negative: Any) -> Any:
            s = cosines(x, r) - base
            pull = torch.log1p((torch.exp(-alpha * s) * positive).sum(-1)) / alpha
            return (pull + torch.log1p((torch.exp(beta * s) * negative).sum(-1)) / beta).mean()

        return of_pairs(loss)

    def triplets(margin: float, distance: Any, smooth_loss: bool = False) -> Any:
        def loss(x: Any, r: Any, positive: Any, negative: Any) -> Any:
            d = distance(x, r)
            gaps = d[:, :, None] - d[:, None] + margin
            costs = functional.softplus(gaps) if smooth_loss else torch.relu(gaps)
            return mean_of_what_costs(costs[positive[:, :, None] & negative[:, None]])

        return of_pairs(loss)

    def contrastive(pos_margin: float, neg_margin: float, distance: Any) -> Any:
        def loss(x: Any, r: Any, positive: Any, negative: Any) -> Any:
            d = distance(x, r)
            pull, push = torch.relu(d - pos_margin)[positive], torch.relu(neg_margin - d)[negative]
            return mean_of_what_costs(pull) + mean_of_what_costs(push)

        return of_pairs(loss)

    return {
        "L2": distances,
        "CosineSimilarity": lambda: lambda x, r: -cosines(x, r),
        "NTXentLoss": ntxent,
        "SupConLoss": supervised,
        "MultiSimilarityLoss": multi_similarity,
        "TripletMarginLoss": triplets,
        "ContrastiveLoss": contrastive,
    }


@each("pytorch", "in pytorch-metric-learning")
def test_pytorch_metric_learning(pair: Pair) -> None:
    agree(pair, of_torch)


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
