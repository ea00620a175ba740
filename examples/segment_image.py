"""Find the flower: one half of a photograph teaches a small network to segment the other half.

The network sees the photograph of a dahlia in grey and with noise. The truth comes from the
colours, which it does not see: a pixel is flower where the photograph is much redder than blue.
Pixels on the rim, part flower and part not, have no label and are left out by `where`.
"""

from __future__ import annotations

from collections.abc import Sequence

import _common as common
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from sklearn.datasets import load_sample_image
from tqdm import tqdm

import jaxloss

SIZE = 4  # a pixel here is a block of SIZE x SIZE pixels of the photograph
REDDER = 0.15  # red less blue, from which on a pixel of the photograph is flower
SURE = 0.9  # the part of a block that must agree for it to have a label
UNKNOWN = -1
LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
FOUND, MISTAKEN, MISSED, IGNORED = "#F0E442", "#D55E00", "#0072B2", "#999999"


def blocks(image: np.ndarray) -> np.ndarray:
    """The means of blocks of SIZE x SIZE pixels; what is left over at the edges is cut off."""
    height, width = (length // SIZE for length in image.shape)
    image = image[: height * SIZE, : width * SIZE]
    return image.reshape(height, SIZE, width, SIZE).mean((1, 3))


def photograph() -> tuple[np.ndarray, np.ndarray]:
    """The left and the right half of the photograph, and their labels, `[2, height, width]`.

    Returns:
        The brightness, from 0 to 1, and the labels: 1 for flower, 0 for none, or UNKNOWN.
    """
    colours = load_sample_image("flower.jpg").astype(np.float32) / 255
    brightness = blocks(colours @ LUMINANCE)
    covered = blocks((colours[..., 0] - colours[..., 2] > REDDER).astype(np.float32))
    labels = np.where(covered >= SURE, 1, np.where(covered <= 1 - SURE, 0, UNKNOWN))
    return np.stack(np.split(brightness, 2, 1)), np.stack(np.split(labels, 2, 1))


class Network(nnx.Module):
    """Convolutions that look farther and farther; logits `[batch, height, width]`."""

    def __init__(self, channels: int, rngs: nnx.Rngs) -> None:
        def layer(dilation: int) -> nnx.Conv:
            return nnx.Conv(channels, channels, (3, 3), kernel_dilation=dilation, rngs=rngs)

        self.first = nnx.Conv(1, channels, (3, 3), rngs=rngs)
        self.layers = nnx.List([layer(dilation) for dilation in (1, 2, 4, 8)])
        self.last = nnx.Conv(channels, 1, (1, 1), rngs=rngs)

    def __call__(self, images: jax.Array) -> jax.Array:
        x = nnx.relu(self.first(images[..., None]))
        for layer in self.layers:
            x = x + nnx.relu(layer(x))
        return self.last(x)[..., 0]


def dice_and_focal(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Dice sees the flower as a whole, focal loss each pixel, the doubtful ones most."""
    known = labels != UNKNOWN
    dice = jaxloss.binary_dice_loss(logits, labels, where=known, reduction="mean")
    return dice + jaxloss.sigmoid_focal_loss(logits, labels, where=known, reduction="mean")


def train(model: Network, image: jax.Array, labels: jax.Array, steps: int, seed: int) -> None:
    """Train on one image, `[height, width]`, for `steps` steps, a multiple of 10."""
    schedule = optax.cosine_decay_schedule(0.01, steps)
    optimizer = nnx.Optimizer(model, optax.adam(schedule), wrt=nnx.Param)

    def flipped(array: jax.Array, flips: jax.Array) -> jax.Array:
        array = jnp.where(flips[0], array[::-1], array)
        return jnp.where(flips[1], array[:, ::-1], array)[None]

    @nnx.jit
    def ten_steps(model: Network, optimizer: nnx.Optimizer, flips: jax.Array) -> jax.Array:
        @nnx.scan(in_axes=(nnx.Carry, 0), out_axes=(nnx.Carry, 0))
        def step(networks: tuple, flips: jax.Array) -> tuple:
            model, optimizer = networks

            def objective(model: Network) -> jax.Array:
                return dice_and_focal(model(flipped(image, flips)), flipped(labels, flips))

            value, gradients = nnx.value_and_grad(objective)(model)
            optimizer.update(model, gradients)
            return (model, optimizer), value

        return step((model, optimizer), flips)[1]

    flips = jax.random.bernoulli(jax.random.key(seed), shape=(steps // 10, 10, 2))
    with tqdm(total=steps, unit="step") as bar:
        for ten in flips:
            losses = ten_steps(model, optimizer, ten)
            bar.set_description(f"loss {losses[-1]:.3f}")
            bar.update(10)


def overlap(flower: np.ndarray, labels: np.ndarray) -> float:
    """Intersection over union of what is taken for flower and what is, where labels are known."""
    found = (flower & (labels == 1)).sum()
    return found / max(1, (flower & (labels == 0)).sum() + (labels == 1).sum())


def brighter(image: np.ndarray, labels: np.ndarray) -> float:
    """The brightness from which on everything is best taken for flower."""
    thresholds = np.quantile(image, np.linspace(0, 1, 101))
    return max(thresholds, key=lambda threshold: overlap(image >= threshold, labels))


def verdict(before: float, threshold: float, after: float) -> str:
    """What one sees, from the overlaps on the half that was not trained on."""
    verb = "raises" if after > before else "does not raise"
    better = "better" if after > threshold else "no better"
    return (
        f"Training {verb} the IoU on the unseen half ({before:.2f} to {after:.2f});\n"
        f"the network is {better} than the best threshold of brightness ({threshold:.2f})."
    )


def draw(images: np.ndarray, labels: np.ndarray, maps: dict[str, np.ndarray], title: str) -> Figure:
    """The image, its labels, and two maps of what is taken for flower."""
    picture, axes = common.figure(title, "ab;cd", (12, 9))

    def painted(*layers: tuple[np.ndarray, str]) -> np.ndarray:
        colours = np.zeros((*labels.shape, 3))
        for mask, colour in layers:
            colours[mask] = to_rgb(colour)
        return colours

    unknown = (labels == UNKNOWN, IGNORED)
    panels = {
        "What the network sees": np.repeat(images.clip(0, 1)[..., None], 3, -1),
        "The truth, from the colours": painted((labels == 1, FOUND), unknown),
    }
    for name, flower in maps.items():
        wrong, missed = flower & (labels == 0), ~flower & (labels == 1)
        right = (labels == 1, FOUND)
        panels[name] = painted(right, (wrong, MISTAKEN), (missed, MISSED), unknown)
    for letter, (name, halves) in zip("abcd", panels.items(), strict=True):
        panel, width = axes[letter], labels.shape[-1]
        panel.imshow(np.concatenate(halves, 1))
        panel.axvline(width - 0.5, color="white", linewidth=1.5, linestyle="--")
        for place, side in ((0, "trained on"), (width, "unseen")):
            panel.text(place + 2, 2, side, color="white", va="top")
        panel.set_title(f"({letter}) {name}")
        panel.axis("off")
    meanings = {"flower": FOUND, "wrongly flower": MISTAKEN, "missed": MISSED, "ignored": IGNORED}
    patches = [Patch(color=colour, label=name) for name, colour in meanings.items()]
    picture.legend(handles=patches, loc="outside lower center", ncols=4)
    return picture


def main(argv: Sequence[str] | None = None, *, steps: int = 100, channels: int = 8) -> None:
    parser = common.Parser(__doc__)
    add = parser.add_argument
    add("--seed", type=common.between(0, 2**32 - 1), default=0, help="of the noise, the network")
    add("--noise", type=common.between(0.0, 0.5), default=0.2, help="its deviation; white is 1")
    add("--out", type=common.picture_path, default="out/segment_image.png", help="picture")
    options = parser.parse_args(argv)

    clean, labels = photograph()
    noise = np.random.default_rng(options.seed).normal(size=clean.shape).astype(np.float32)
    images = clean + np.float32(options.noise) * noise
    learn = labels[0]
    print(
        f"{learn.size} pixels to learn from: {(learn == 1).mean():.0%} flower, "
        f"{(learn == UNKNOWN).mean():.1%} on its rim and ignored"
    )

    model = Network(channels, nnx.Rngs(options.seed))
    # Each half on its own, so that the network never looks from one into the other.
    logits = nnx.jit(lambda model, image: model(image[None])[0])

    def prediction() -> np.ndarray:
        return np.stack([logits(model, image) > 0 for image in images])

    maps = {"untrained": prediction()}
    maps["threshold of brightness"] = images >= brighter(images[0], learn)
    train(model, images[0], jnp.array(learn), steps, options.seed)
    maps["trained"] = prediction()

    scores = {
        name: [overlap(*half) for half in zip(flower, labels, strict=True)]
        for name, flower in maps.items()
    }
    print(f"{'IoU of the flower':<26}{'trained half':>14}{'unseen half':>14}")
    for name, (left, right) in scores.items():
        print(f"{name:<26}{left:14.3f}{right:14.3f}")
    text = verdict(*(right for _, right in scores.values()))
    print(text)
    shown = {"Before training": maps["untrained"], "After training": maps["trained"]}
    common.save(draw(images, labels, shown, text), options.out)


if __name__ == "__main__":
    main()
