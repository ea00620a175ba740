"""Where is the digit? One small network learns boxes, by Smooth L1 on codes and by GIoU on boxes.

A handwritten digit lies somewhere on a piece of a photograph, large or small. The network gives
four numbers, the code of a box relative to an anchor in the middle. Smooth L1 compares codes, as
Fast R-CNN does; GIoU compares the boxes that they mean. Digits and pieces of the test were not
trained on.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import _common as common
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from sklearn.datasets import load_digits, load_sample_image
from sklearn.model_selection import train_test_split
from tqdm import tqdm

import jaxloss

SIZE, BATCH = 32, 64  # pixels of a side of an image, images in a step
SCALES = (1.25, 3.5)  # how many pixels wide a pixel of a digit, of which there are 8 x 8, becomes
INK = 4  # of 16, from which on a pixel belongs to the digit
DIM = 0.4  # the brightness of a photograph beside the digits
ANCHOR = SIZE * np.array([0.25, 0.25, 0.75, 0.75], np.float32)
WEIGHTS = (10.0, 10.0, 5.0, 5.0)  # of codes, as in Fast R-CNN
LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
GOOD = 0.75  # the IoU from which on a box is good
TRUTH = "#009E73"


class Scenes(NamedTuple):
    """Images `[..., SIZE, SIZE]` from 0 to 1, and the boxes of their digits, "xyxy" in pixels."""

    images: jax.Array
    boxes: jax.Array


def smooth_l1(codes: jax.Array, anchors: jax.Array, boxes: jax.Array) -> jax.Array:
    targets = jaxloss.encode_boxes(boxes, anchors, weights=WEIGHTS)
    return jaxloss.smooth_l1_loss(codes, targets, reduction="mean")


def giou(codes: jax.Array, anchors: jax.Array, boxes: jax.Array) -> jax.Array:
    return jaxloss.giou_loss(decoded(codes, anchors), boxes, reduction="mean")


LOSSES = {"Smooth L1 on codes": smooth_l1, "GIoU on boxes": giou}
LOOKS = dict(zip(LOSSES, common.LOOKS, strict=False))


def decoded(codes: jax.Array, anchors: jax.Array) -> jax.Array:
    """The boxes, at most e^2 times as long as the anchor."""
    return jaxloss.decode_boxes(codes, anchors, weights=WEIGHTS, max_log_scale=2.0)


@jax.jit
@jax.vmap
def painted(digit: jax.Array, piece: jax.Array, scale: jax.Array, shift: jax.Array) -> jax.Array:
    """A digit on a piece of a photograph, both of brightness 0 to 1."""
    shape = (SIZE, SIZE)
    ink = jax.image.scale_and_translate(digit, shape, (0, 1), scale, shift, "linear")
    return DIM * piece * (1 - ink) + ink


def scenes(digits: np.ndarray, photograph: np.ndarray, seed: int) -> Scenes:
    """Each digit at a place and in a size of its own, on a piece of the photograph."""
    rng = np.random.default_rng(seed)
    count = len(digits)
    scales = rng.uniform(np.log(SCALES[0]), np.log(SCALES[1]), (count, 1))
    scales = np.exp(scales + rng.normal(0, 0.1, (count, 2)))  # of rows and of columns
    scales = np.minimum(scales, SIZE / 8)
    ink = digits >= INK
    ends = []
    for axis in (2, 1):  # whether a row has ink, whether a column has
        there = ink.any(axis)
        ends.append((there.argmax(1), 8 - there[:, ::-1].argmax(1)))
    first, last = (np.stack(x, 1) for x in zip(*ends, strict=True))
    sides = (last - first) * scales
    corners = rng.uniform(0, SIZE - sides)
    height, width = photograph.shape
    starts = rng.integers(0, (height - SIZE, width - SIZE), (count, 2))
    pieces = np.stack([photograph[i : i + SIZE, j : j + SIZE] for i, j in starts])

    arrays = digits / 16, pieces, scales, corners - first * scales
    images = painted(*(jnp.asarray(x, jnp.float32) for x in arrays))
    boxes = np.concatenate([corners[:, ::-1], (corners + sides)[:, ::-1]], 1)
    return Scenes(images, jnp.asarray(boxes, jnp.float32))


def data(seed: int, epochs: int) -> tuple[list[Scenes], Scenes]:
    """Each training digit in a new scene for each epoch; and the test scenes."""
    train, test = train_test_split(load_digits().images, test_size=450, random_state=seed)
    photograph = load_sample_image("china.jpg").astype(np.float32) / 255 @ LUMINANCE
    left, right = np.split(photograph, 2, 1)
    last, *seeds = np.random.SeedSequence(seed).generate_state(epochs + 1)
    return [scenes(train, left, each) for each in seeds], scenes(test, right, last)


class Network(nnx.Module):
    """Convolutions that halve the image three times; codes `[batch, 4]`."""

    def __init__(self, channels: int, rngs: nnx.Rngs) -> None:
        wide = [1, channels, 2 * channels, 4 * channels]
        self.layers = nnx.List(
            [
                nnx.Conv(before, after, (3, 3), strides=2, rngs=rngs)
                for before, after in itertools.pairwise(wide)
            ]
        )
        self.hidden = nnx.Linear(wide[-1] * (SIZE // 8) ** 2, 128, rngs=rngs)
        self.last = nnx.Linear(128, 4, rngs=rngs)

    def __call__(self, images: jax.Array) -> jax.Array:
        x = images[..., None] - 0.5
        for layer in self.layers:
            x = nnx.relu(layer(x))
        return self.last(nnx.relu(self.hidden(x.reshape(len(x), -1))))


@nnx.jit
def predicted(model: Network, images: jax.Array) -> jax.Array:
    return decoded(model(images), jnp.broadcast_to(ANCHOR, (len(images), 4)))


def train(
    loss: Callable, learn: Sequence[Scenes], test: Scenes, seed: int, channels: int, bar: tqdm
) -> tuple[np.ndarray, np.ndarray]:
    """Train a network; its boxes on the test, and the mean IoU there after each epoch."""
    steps = len(learn[0].images) // BATCH
    model = Network(channels, nnx.Rngs(seed))
    schedule = optax.cosine_decay_schedule(0.002, len(learn) * steps)
    optimizer = nnx.Optimizer(model, optax.adam(schedule), wrt=nnx.Param)
    anchors = jnp.broadcast_to(ANCHOR, (BATCH, 4))

    @nnx.jit
    def step(model: Network, optimizer: nnx.Optimizer, batch: Scenes) -> None:
        def objective(model: Network) -> jax.Array:
            return loss(model(batch.images), anchors, batch.boxes)

        optimizer.update(model, nnx.grad(objective)(model))

    rng, history = np.random.default_rng(seed), []
    for epoch in learn:
        order = rng.permutation(len(epoch.images))
        for batch in order[: steps * BATCH].reshape(steps, BATCH):
            step(model, optimizer, Scenes(*(x[batch] for x in epoch)))
        history.append(jaxloss.box_iou(predicted(model, test.images), test.boxes).mean())
        bar.update()
    return np.asarray(predicted(model, test.images)), np.array(history)


def summary(ious: np.ndarray, sides: np.ndarray) -> list[float]:
    """The mean IoU, that of the smaller and of the larger half, and the part of good boxes."""
    small = sides <= np.median(sides)
    return [ious.mean(), ious[small].mean(), ious[~small].mean(), (ious >= GOOD).mean()]


def verdict(scores: dict[str, list[float]]) -> str:
    """What one sees, from the figures of `summary`."""
    codes, boxes = scores.values()
    better = "better" if boxes[0] > codes[0] else "no better"
    gains = [b - a for a, b in zip(codes, boxes, strict=True)]
    most = "small" if abs(gains[1]) > abs(gains[2]) else "large"
    return (
        f"Trained by GIoU, boxes are {better} than by Smooth L1 on codes: "
        f"mean IoU {boxes[0]:.2f} against {codes[0]:.2f};\n"
        f"the difference is greater for {most} digits "
        f"({gains[1]:+.2f} for the smaller half, {gains[2]:+.2f} for the larger)."
    )


def draw(
    test: Scenes,
    boxes: dict[str, np.ndarray],
    ious: dict[str, np.ndarray],
    histories: dict[str, np.ndarray],
    title: str,
) -> Figure:
    """Test images of all sizes with their boxes, and how good boxes are by epoch and by size."""
    picture, axes = common.figure(title, "abcdef;ghijkl;mmmnnn", (14, 9))
    truth = np.asarray(test.boxes)
    sides = np.sqrt(np.prod(truth[:, 2:] - truth[:, :2], 1))
    order = np.argsort(sides)
    shown = order[np.linspace(0, len(order) - 1, 12).astype(int)]
    for letter, place in zip("abcdefghijkl", shown, strict=True):
        panel = axes[letter]
        panel.imshow(test.images[place], cmap="gray", vmin=0, vmax=1, extent=(0, SIZE, SIZE, 0))
        found = {name: box[place] for name, box in boxes.items()}
        for name, (x1, y1, x2, y2) in {"truth": truth[place], **found}.items():
            colour = LOOKS[name]["color"] if name in LOOKS else TRUTH
            style = {"edgecolor": colour, "fill": False, "linewidth": 2, "label": name}
            panel.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, **style))
        panel.set(xlim=(0, SIZE), ylim=(SIZE, 0))
        numbers = ", ".join(f"{iou[place]:.2f}" for iou in ious.values())
        panel.set_title(f"IoU {numbers}", fontweight="normal", fontsize=10)
        panel.axis("off")
    edges = np.quantile(sides, np.linspace(0, 1, 7))
    for name, look in LOOKS.items():
        epochs = np.arange(1, len(histories[name]) + 1)
        every = max(1, len(epochs) // 8)
        axes["m"].plot(epochs, histories[name], **look, markevery=every, label=name)
        group = np.clip(np.searchsorted(edges, sides, side="right") - 1, 0, 5)
        means = [[x[group == i].mean() for i in range(6)] for x in (sides, ious[name])]
        axes["n"].plot(*means, **look, label=name)
    axes["m"].set(title="While training", xlabel="epoch", ylabel="mean IoU on test")
    axes["n"].set(title="By size", xlabel="side of the digit [pixels]", ylabel="mean IoU on test")
    axes["m"].legend(loc="lower right")
    marks = axes["a"].patches
    picture.legend(marks, [mark.get_label() for mark in marks], loc="outside lower center", ncols=3)
    return picture


def main(argv: Sequence[str] | None = None, *, epochs: int = 40, channels: int = 16) -> None:
    parser = common.Parser(__doc__)
    add = parser.add_argument
    add("--seed", type=common.between(0, 2**32 - 1), default=0, help="of scenes and networks")
    add("--out", type=common.picture_path, default="out/box_regression.png", help="picture")
    options = parser.parse_args(argv)

    learn, test = data(options.seed, epochs)
    count = len(learn[0].images)
    print(
        f"{count} digits to learn from, in {epochs} scenes each; {len(test.images)} others to test"
    )
    boxes, histories = {}, {}
    with tqdm(total=epochs * len(LOSSES), unit="epoch") as bar:
        for name, loss in LOSSES.items():
            bar.set_description(name)
            found = train(loss, learn, test, options.seed, channels, bar)
            boxes[name], histories[name] = found
    ious = {name: np.asarray(jaxloss.box_iou(box, test.boxes)) for name, box in boxes.items()}
    sides = np.sqrt(np.prod(np.asarray(test.boxes[:, 2:] - test.boxes[:, :2]), 1))
    scores = {name: summary(iou, sides) for name, iou in ious.items()}

    heads = ("mean IoU", "smaller half", "larger half", f"IoU over {GOOD}")
    print(f"{'on the test':<20}" + "".join(f"{head:>14}" for head in heads))
    for name, row in scores.items():
        print(f"{name:<20}" + "".join(f"{number:14.3f}" for number in row))
    text = verdict(scores)
    print(text)
    common.save(draw(test, boxes, ious, histories, text), options.out)


if __name__ == "__main__":
    main()
