"""Does a network that learnt some digits tell others apart? Three losses that place embeddings.

A small network learns to embed six of the ten handwritten digits so that those of one kind lie
together, whatever light falls on them. Then it embeds the other four, of which it has never seen
one: how often is the nearest neighbour of such a digit one of its kind (recall@1)? Averaged over
several choices of the four. Under even light (`--light 0`) the pixels themselves tell.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import _common as common
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from tqdm import tqdm

import jaxloss

SEEN, UNSEEN, EACH = 6, 4, 174  # kinds of digits, and examples of each: the rarest has 174
BATCH, WIDTH = 116, 16  # examples in a batch, features of an embedding
PIXELS = "Pixels"


class Network(nnx.Module):
    """64 pixels to an embedding of a fixed length, and a direction for each of the seen kinds."""

    def __init__(self, hidden: int, rngs: nnx.Rngs) -> None:
        self.layers = nnx.Sequential(
            nnx.Linear(64, hidden, rngs=rngs),
            nnx.relu,
            nnx.Linear(hidden, WIDTH, rngs=rngs),
            nnx.RMSNorm(WIDTH, use_scale=False, rngs=rngs),
        )
        self.kinds = nnx.Param(rngs.normal((SEEN, WIDTH)))

    def __call__(self, inputs: jax.Array) -> jax.Array:
        return self.layers(inputs)


def triplet(model: Network, inputs: jax.Array, labels: jax.Array) -> jax.Array:
    return jaxloss.batch_triplet_loss(model(inputs), labels, mining="semi_hard", reduction="mean")


def supervised_contrastive(model: Network, inputs: jax.Array, labels: jax.Array) -> jax.Array:
    return jaxloss.supervised_contrastive_loss(model(inputs), labels, reduction="mean")


def arcface(model: Network, inputs: jax.Array, labels: jax.Array) -> jax.Array:
    cosines = jaxloss.pairwise_similarity(model(inputs), model.kinds[...])
    logits = jaxloss.arcface_logits(cosines, labels, margin=0.3, scale=16.0)
    return jaxloss.softmax_cross_entropy_with_integer_labels(logits, labels, reduction="mean")


OBJECTIVES = {
    "Triplet, semi-hard": triplet,
    "Supervised contrastive": supervised_contrastive,
    "ArcFace": arcface,
}
LOOKS = dict(zip(OBJECTIVES, common.LOOKS, strict=False))


class Split(NamedTuple):
    """Digits to learn from, numbered 0 to 5, and lit ones to be told apart, by their names."""

    inputs: np.ndarray
    labels: np.ndarray
    unseen_inputs: np.ndarray
    unseen_labels: np.ndarray


@functools.cache
def digits() -> np.ndarray:
    """As many of each kind, pixels from 0 to 1, `[10, EACH, 64]`."""
    inputs, labels = load_digits(return_X_y=True)
    return np.stack([inputs[labels == kind][:EACH] / 16 for kind in range(10)]).astype(np.float32)


@functools.cache
def lights() -> np.ndarray:
    """A glow over the whole picture, one from the side and one from above, `[3, 64]`."""
    ramp = np.linspace(-1, 1, 8, dtype=np.float32)
    across, down = np.meshgrid(ramp, ramp)
    return np.stack([np.ones(64, np.float32), across.ravel(), down.ravel()])


def split(seed: int, light: float) -> Split:
    """Four of the ten digits are unseen."""
    random = np.random.default_rng(seed)
    kinds = random.permutation(10)
    seen, unseen = digits()[kinds[:SEEN]], np.sort(kinds[SEEN:])
    others = digits()[unseen].reshape(-1, 64)
    return Split(
        seen.reshape(-1, 64),
        np.repeat(np.arange(SEEN, dtype=np.int32), EACH),
        others + light * random.standard_normal((len(others), 3), np.float32) @ lights(),
        np.repeat(unseen.astype(np.int32), EACH),
    )


def recall(embeddings: jax.Array, labels: jax.Array) -> jax.Array:
    """The part of the examples whose nearest neighbour, by angle, is of their kind."""
    similarity = jaxloss.pairwise_similarity(embeddings)
    itself = jnp.eye(len(labels), dtype=bool)
    return jnp.mean(labels[jnp.where(itself, -jnp.inf, similarity).argmax(-1)] == labels)


def train(
    objective: Callable,
    splits: Sequence[Split],
    light: float,
    seed: int,
    epochs: int,
    hidden: int,
    bar: tqdm,
) -> tuple[np.ndarray, np.ndarray]:
    """Train one network per split, all at once, on pictures that are lit anew each time.

    Returns:
        The recall@1 after each epoch, `[epochs, splits]`, and in the end the embeddings of the
        unseen digits, `[splits, examples, WIDTH]`.
    """
    data = Split(*(jnp.stack(arrays) for arrays in zip(*splits, strict=True)))
    steps = data.labels.shape[1] // BATCH

    @nnx.vmap
    def start(key: jax.Array) -> tuple[Network, nnx.Optimizer]:
        model = Network(hidden, nnx.Rngs(key))
        schedule = optax.cosine_decay_schedule(0.003, epochs * steps)
        return model, nnx.Optimizer(model, optax.adam(schedule), wrt=nnx.Param)

    @nnx.jit
    @nnx.vmap(in_axes=(0, 0, 0, None))
    def epoch(
        model: Network, optimizer: nnx.Optimizer, data: Split, key: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        @nnx.scan(in_axes=(nnx.Carry, 0, 0), out_axes=nnx.Carry)
        def step(networks: tuple, batch: jax.Array, key: jax.Array) -> tuple:
            model, optimizer = networks
            inputs = data.inputs[batch] + light * jax.random.normal(key, (BATCH, 3)) @ lights()
            gradients = nnx.grad(objective)(model, inputs, data.labels[batch])
            optimizer.update(model, gradients)
            return model, optimizer

        first, *keys = jax.random.split(key, steps + 1)
        order = jax.random.permutation(first, len(data.labels))[: steps * BATCH]
        step((model, optimizer), order.reshape(steps, BATCH), jnp.stack(keys))

        embeddings = model(data.unseen_inputs)
        return recall(embeddings, data.unseen_labels), embeddings

    first, *keys = jax.random.split(jax.random.key(seed), epochs + 1)
    model, optimizer = start(jax.random.split(first, len(splits)))
    history, embeddings = [], jnp.zeros(())
    for key in keys:
        found, embeddings = epoch(model, optimizer, data, key)
        history.append(found)
        bar.update()
    return np.stack(history), np.asarray(embeddings)


def table(recalls: dict[str, np.ndarray]) -> str:
    """The mean and the deviation over the splits, in percent."""
    lines = [f"{'':<26}{'recall@1 on unseen digits':>28}"]
    for name, found in recalls.items():
        text = f"{100 * found.mean():.1f} ± {100 * found.std():.1f} %"
        lines.append(f"{name:<26}{text:>28}")
    return "\n".join(lines)


def verdict(recalls: dict[str, np.ndarray]) -> str:
    """What one sees, in a line."""
    means = {name: found.mean() for name, found in recalls.items()}
    best = max(means, key=means.__getitem__)
    if best == PIXELS:
        return f"No loss beats the pixels ({100 * means[PIXELS]:.1f} %)."
    return (
        f"Best on digits never seen: {best}, {100 * means[best]:.1f} %; "
        f"the pixels as they are, {100 * means[PIXELS]:.1f} %."
    )


def scatter(panel: Axes, name: str, embeddings: np.ndarray, labels: np.ndarray) -> None:
    """The two directions in which the embeddings spread most, a digit for each example."""
    flat = PCA(2, random_state=0).fit_transform(
        embeddings / np.linalg.norm(embeddings, axis=-1, keepdims=True)
    )
    for kind, look in zip(np.unique(labels), common.LOOKS, strict=False):
        points = flat[labels == kind]
        panel.scatter(*points.T, s=14, alpha=0.6, label=str(kind), color=look["color"])
    panel.set(title=name, xticks=[], yticks=[])


def draw(
    history: dict[str, np.ndarray],
    pixels: float,
    embeddings: dict[str, np.ndarray],
    labels: np.ndarray,
    title: str,
) -> Figure:
    picture, axes = common.figure(title, "aabc;aade", (15, 7))
    for name, found in history.items():
        every = max(1, len(found) // 8)
        epochs = np.arange(1, len(found) + 1)
        axes["a"].plot(epochs, 100 * found.mean(1), **LOOKS[name], label=name, markevery=every)
    axes["a"].axhline(100 * pixels, color="gray", linestyle=":", label=PIXELS)
    axes["a"].set(title="(a) While training", xlabel="epoch")
    axes["a"].set_ylabel("recall@1 on unseen digits [%]")
    axes["a"].legend(loc="lower right")
    for letter, (name, found) in zip("bcde", embeddings.items(), strict=False):
        scatter(axes[letter], f"({letter}) {name}", found, labels)
    axes["b"].legend(title="unseen digit", loc="lower left", ncols=2, framealpha=0.95)
    return picture


def main(
    argv: Sequence[str] | None = None, *, splits: int = 5, epochs: int = 40, hidden: int = 128
) -> None:
    parser = common.Parser(__doc__)
    add = parser.add_argument
    add("--seed", type=common.between(0, 2**32 - 1), default=0, help="of splits and networks")
    add("--light", type=common.between(0.0, 5.0), default=1.0, help="deviation of the light")
    add("--out", type=common.picture_path, default="out/metric_learning.png", help="picture")
    options = parser.parse_args(argv)

    seeds = [int(seed) for seed in np.random.SeedSequence(options.seed).generate_state(splits)]
    data = [split(seed, options.light) for seed in seeds]
    pixels = np.array([recall(jnp.asarray(x.unseen_inputs), x.unseen_labels) for x in data])
    history, embeddings = {}, {PIXELS: data[0].unseen_inputs}
    with tqdm(total=epochs * len(OBJECTIVES), unit="epoch") as bar:
        for name, objective in OBJECTIVES.items():
            bar.set_description(f"{splits} networks, {name}")
            history[name], found = train(
                objective, data, options.light, options.seed, epochs, hidden, bar
            )
            embeddings[name] = found[0]

    recalls = {PIXELS: pixels, **{name: found[-1] for name, found in history.items()}}
    print(f"Mean ± deviation over {splits} choices of {UNSEEN} unseen digits")
    print(table(recalls))
    text = verdict(recalls)
    print(text)
    common.save(draw(history, pixels.mean(), embeddings, data[0].unseen_labels, text), options.out)


if __name__ == "__main__":
    main()
