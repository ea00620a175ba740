"""Dice and cross-entropy with one mask: which pixel belongs to which digit?

Four handwritten digits in a noisy picture; each pixel is of one of the ten digits or of the paper.
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
    # Over all pictures of the batch at once, as a picture has four of the ten digits at most.
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
    """Convolutions that look farther and farther; logits `[batch, height, width, CLASSES]`."""

    def __init__(self, channels: int, rngs: nnx.Rngs) -> None:
        def layer(dilation: int) -> nnx.Conv:
            return nnx.Conv(channels, channels, (3, 3), kernel_dilation=dilation, rngs=rngs)

        self.first = nnx.Conv(1, channels, (3, 3), rngs=rngs)
        self.layers = nnx.List([layer(dilation) for dilation in (1, 2, 2)])
        self.last = nnx.Linear(channels, CLASSES, rngs=rngs)

    def __call__(self, pictures: jax.Array) -> jax.Array:
        x = nnx.relu(self.first(pictures[..., None]))
        for layer in self.layers:
            x = x + nnx.relu(layer(x))
        return self.last(x)


def pictures(random: np.random.Generator, count: int, test: bool) -> tuple[np.ndarray, np.ndarray]:
    """Pictures of four digits, from 0 to 1 and noise, and their labels, `[count, 16, 16]`."""
    digits = load_digits()
    numbers = np.arange(TEST) if test else np.arange(TEST, len(digits.target))
    drawn = random.choice(numbers, (count, 2, 2))
    grey = digits.images[drawn].swapaxes(2, 3).reshape(count, 16, 16)
    digit = 1 + digits.target[drawn].repeat(8, 1).repeat(8, 2)
    labels = np.where(grey >= INK, digit, np.where(grey <= PAPER, 0, UNKNOWN))
    noise = 0.2 * random.normal(size=grey.shape)
    return (grey / 16 + noise).astype(np.float32), labels


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
    """Three pictures of the test, their labels and what is found; the unknown in grey."""
    picture, axes = common.figure(title, "abcde", (14, 4.2))
    colors = np.array([(1, 1, 1), *colormaps["tab10"].colors, (0.75, 0.75, 0.75)])
    axes["a"].imshow(np.concatenate(inputs), cmap="gray_r")
    for letter, name, shown in zip(
        "bcde", ("the truth", *maps), (labels, *maps.values()), strict=True
    ):
        shown = np.where(labels == UNKNOWN, UNKNOWN, shown)
        axes[letter].imshow(colors[np.concatenate(shown)])
        axes[letter].set_title(f"({letter}) {name}")
    axes["a"].set_title("(a) what it sees")
    for panel in axes.values():
        panel.grid(False)
        panel.set(xticks=[], yticks=[])
    return picture


def main(argv: Sequence[str] | None = None, *, steps: int = 200, channels: int = 16) -> None:
    parser = common.Parser(__doc__)
    add = parser.add_argument
    add("--seed", type=common.between(0, 2**31), default=0, help="of the pictures and the network")
    add("--out", type=common.picture_path, default="out/dice_and_cross_entropy.png", help="picture")
    options = parser.parse_args(argv)

    test, truth = pictures(np.random.default_rng(options.seed), 200, test=True)
    unknown, paper = (100 * (truth == label).mean() for label in (UNKNOWN, 0))
    print(f"Of the pixels {paper:.0f} % are paper and {unknown:.0f} % have no label")
    logits = nnx.jit(lambda model, inputs: model(inputs))
    maps, scores = {}, {}
    with tqdm(total=steps * len(LOSSES), unit="step") as bar:
        for name, loss in LOSSES.items():
            random = np.random.default_rng(options.seed + 1)
            model = Network(channels, nnx.Rngs(options.seed))
            schedule = optax.cosine_decay_schedule(0.01, steps)
            optimizer = nnx.Optimizer(model, optax.adam(schedule), wrt=nnx.Param)
            for _ in range(steps):
                value = train_step(model, optimizer, pictures(random, 16, test=False), loss=loss)
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
    shown = {name: found[:3] for name, found in maps.items()}
    common.save(draw(test[:3], truth[:3], shown, text), options.out)


if __name__ == "__main__":
    main()
