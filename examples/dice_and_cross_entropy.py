"""Dice and cross-entropy with one mask: which pixel belongs to which digit?

A handwritten digit in a noisy picture; each pixel is of one of the ten digits or of the paper.
Pixels that are half ink have no label. One mask leaves them out of both losses: the cross-entropy
counts pixels, of which most are paper, and the Dice loss counts digits, however small.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import _common as common
import jax
import numpy as np
import optax
from flax import nnx
from matplotlib import colormaps
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from tqdm import tqdm

import jaxloss

CLASSES = 11  # the paper, 0, and the digits, 1 to 10
UNKNOWN = -1
PAPER, INK = 4, 8  # grey values, of 16, up to which a pixel is paper and from which it is ink
TEST = 400  # of the 1797 digits


def cross_entropy(logits: jax.Array, labels: jax.Array, known: jax.Array) -> jax.Array:
    return jaxloss.softmax_cross_entropy_with_integer_labels(
        logits, labels, where=known, reduction="mean"
    )


def dice(logits: jax.Array, labels: jax.Array, known: jax.Array) -> jax.Array:
    # Over all pictures of the batch at once, as a picture has one of the ten digits.
    return jaxloss.dice_loss(
        logits, labels, where=known, axis=(0, 1, 2), ignore_background=True, reduction="mean"
    )


def both(logits: jax.Array, labels: jax.Array, known: jax.Array) -> jax.Array:
    return cross_entropy(logits, labels, known) + dice(logits, labels, known)


LOSSES: dict[str, Callable[[jax.Array, jax.Array, jax.Array], jax.Array]] = {
    "cross-entropy": cross_entropy,
    "Dice": dice,
    "both": both,
}


class Network(nnx.Module):
    """Two layers that see the whole picture; logits `[batch, 8, 8, CLASSES]`."""

    def __init__(self, hidden: int, rngs: nnx.Rngs) -> None:
        self.first = nnx.Linear(64, hidden, rngs=rngs)
        self.last = nnx.Linear(hidden, 64 * CLASSES, rngs=rngs)

    def __call__(self, pictures: jax.Array) -> jax.Array:
        x = nnx.relu(self.first(pictures.reshape(-1, 64)))
        return self.last(x).reshape(-1, 8, 8, CLASSES)


def pictures(random: np.random.Generator, rows: slice) -> tuple[np.ndarray, np.ndarray]:
    """Some of the digits, from 0 to 1, with noise, and their labels, `[count, 8, 8]`."""
    digits = load_digits()
    grey, digit = digits.images[rows], 1 + digits.target[rows, None, None]
    labels = np.where(grey >= INK, digit, np.where(grey <= PAPER, 0, UNKNOWN))
    return (grey / 16 + 0.2 * random.normal(size=grey.shape)).astype(np.float32), labels


@nnx.jit(static_argnames="loss")
def train_step(model: Network, optimizer: nnx.Optimizer, batch: tuple, loss: Callable) -> jax.Array:
    inputs, labels = batch

    def objective(model: Network) -> jax.Array:
        return loss(model(inputs), labels, labels != UNKNOWN)

    value, gradients = nnx.value_and_grad(objective)(model)
    optimizer.update(model, gradients)
    return value


def overlaps(found: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Intersection over union of each digit, where labels are known, `[10]`."""
    found = np.where(labels == UNKNOWN, UNKNOWN, found)
    pairs = [(found == digit, labels == digit) for digit in range(1, CLASSES)]
    return np.array([(a & b).sum() / max(1, (a | b).sum()) for a, b in pairs])


def draw(inputs: np.ndarray, labels: np.ndarray, maps: dict, title: str) -> Figure:
    """Pictures of the test, their labels and what is found; the unknown in grey."""

    def tiled(x: np.ndarray) -> np.ndarray:
        return np.concatenate(np.concatenate(x[:20].reshape(5, 4, 8, 8), 1), 1)

    picture, axes = common.figure(title, "abcde", (14, 4.2))
    colors = np.array([(1, 1, 1), *colormaps["tab10"].colors, (0.75, 0.75, 0.75)])
    axes["a"].imshow(tiled(inputs), cmap="gray_r")
    for letter, name, shown in zip(
        "bcde", ("the truth", *maps), (labels, *maps.values()), strict=True
    ):
        shown = np.where(labels == UNKNOWN, UNKNOWN, shown)
        axes[letter].imshow(colors[tiled(shown)])
        axes[letter].set_title(f"({letter}) {name}")
    axes["a"].set_title("(a) what it sees")
    for panel in axes.values():
        panel.grid(False)
        panel.set(xticks=[], yticks=[])
    return picture


def main(argv: Sequence[str] | None = None, *, steps: int = 400, hidden: int = 128) -> None:
    parser = common.Parser(__doc__)
    add = parser.add_argument
    add("--seed", type=common.between(0, 2**31), default=0, help="of the pictures and the network")
    add("--out", type=common.picture_path, default="out/dice_and_cross_entropy.png", help="picture")
    options = parser.parse_args(argv)

    random = np.random.default_rng(options.seed)
    test, truth = pictures(random, slice(TEST))
    inputs, labels = pictures(random, slice(TEST, None))
    unknown, paper = (100 * (truth == label).mean() for label in (UNKNOWN, 0))
    print(f"Of the pixels {paper:.0f} % are paper and {unknown:.0f} % have no label")
    logits = nnx.jit(lambda model, inputs: model(inputs))
    maps, scores = {}, {}
    with tqdm(total=steps * len(LOSSES), unit="step") as bar:
        for name, loss in LOSSES.items():
            random = np.random.default_rng(options.seed)
            model = Network(hidden, nnx.Rngs(options.seed))
            schedule = optax.cosine_decay_schedule(0.01, steps)
            optimizer = nnx.Optimizer(model, optax.adam(schedule), wrt=nnx.Param)
            for _ in range(steps):
                drawn = random.integers(len(labels), size=128)
                batch = inputs[drawn], labels[drawn]
                value = train_step(model, optimizer, batch, loss=loss)
                bar.set_description(f"{name} {value:.3f}")
                bar.update()
            maps[name] = np.asarray(logits(model, test)).argmax(-1)
            scores[name] = overlaps(maps[name], truth)

    print(f"{'trained by':<16}{'mean IoU':>10}{'worst digit':>14}")
    for name, score in scores.items():
        print(f"{name:<16}{score.mean():10.3f}{score.min():14.3f}")
    parts = ", ".join(f"{name} {score.mean():.2f}" for name, score in scores.items())
    text = f"Mean IoU of the ten digits on unseen pictures: {parts}"
    print(text)
    common.save(draw(test, truth, maps, text), options.out)


if __name__ == "__main__":
    main()
