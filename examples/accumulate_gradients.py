"""Gradients of a batch that does not fit in memory: exact, and without its activations.

The gradient of a mean is the sum of the gradients of the totals over the sum of the weights. Both
sums add up over microbatches, however many labels each has; means of microbatches do not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import _common as common
import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from sklearn.datasets import load_digits

import jaxloss

CLASSES = 10
LOST = -1  # the label of a digit whose label is lost
MIB = 2**20

Weights = dict[str, jax.Array]


def network(weights: Weights, images: jax.Array) -> jax.Array:
    hidden = jax.nn.relu(images @ weights["W1"])
    return jax.nn.relu(hidden @ weights["W2"]) @ weights["W3"]


def mean_loss(weights: Weights, images: jax.Array, labels: jax.Array) -> jaxloss.Mean:
    """The mean cross-entropy of the digits whose label is known, as a total and a weight."""
    loss = jaxloss.softmax_cross_entropy_with_integer_labels
    return jaxloss.Mean.of(loss, network(weights, images), labels, where=labels != LOST)


def whole(weights: Weights, images: jax.Array, labels: jax.Array) -> Weights:
    """What the others should give: the gradient over all microbatches as one batch."""
    images, labels = images.reshape(-1, images.shape[-1]), labels.reshape(-1)
    return jax.grad(lambda weights: mean_loss(weights, images, labels).value())(weights)


def accumulated(weights: Weights, images: jax.Array, labels: jax.Array) -> Weights:
    """The same gradient, one microbatch at a time: `[microbatches, size, ...]`."""

    def total(weights: Weights, *batch: jax.Array) -> tuple[jax.Array, jax.Array]:
        mean = mean_loss(weights, *batch)
        return mean.total, mean.weight

    # The gradient is taken inside the scan, so that activations die with their microbatch.
    def step(sums: tuple, batch: tuple) -> tuple:
        gradient, weight = jax.grad(total, has_aux=True)(weights, *batch)
        return jax.tree.map(jnp.add, sums, (gradient, weight)), None

    zeros = jax.tree.map(jnp.zeros_like, (weights, jnp.float32(0)))
    (gradient, weight), _ = jax.lax.scan(step, zeros, (images, labels))
    return jax.tree.map(lambda x: x / weight, gradient)


def grad_of_scan(weights: Weights, images: jax.Array, labels: jax.Array) -> Weights:
    """Exact too, but the activations of all microbatches are kept for the way back."""

    def loss(weights: Weights) -> jax.Array:
        def step(so_far: jaxloss.Mean, batch: tuple) -> tuple:
            return so_far + mean_loss(weights, *batch), None

        return jax.lax.scan(step, jaxloss.Mean.zero(), (images, labels))[0].value()

    return jax.grad(loss)(weights)


def mean_of_means(weights: Weights, images: jax.Array, labels: jax.Array) -> Weights:
    """The usual mistake: a microbatch with few labels counts as much as one with many."""

    def step(so_far: Weights, batch: tuple) -> tuple:
        gradient = jax.grad(lambda weights: mean_loss(weights, *batch).value())(weights)
        return jax.tree.map(jnp.add, so_far, gradient), None

    total, _ = jax.lax.scan(step, jax.tree.map(jnp.zeros_like, weights), (images, labels))
    return jax.tree.map(lambda x: x / len(images), total)


WAYS: dict[str, Callable[[Weights, jax.Array, jax.Array], Weights]] = {
    "whole batch": whole,
    "gradient of the scan": grad_of_scan,
    "accumulated": accumulated,
    "mean of means": mean_of_means,
}


def microbatches(count: int, seed: int) -> tuple[jax.Array, jax.Array]:
    """The digits, padded to `count` equal parts; a part has labels for 10 to 90 % of its digits."""
    images, labels = load_digits(return_X_y=True)
    padding = -len(labels) % count
    images = np.pad(images.astype(np.float32) / 16, ((0, padding), (0, 0)))
    labels = np.pad(labels, (0, padding), constant_values=LOST).reshape(count, -1)
    random = np.random.default_rng(seed)
    lost = random.random(labels.shape) > random.uniform(0.1, 0.9, (count, 1))
    return jnp.array(images.reshape(count, -1, 64)), jnp.array(np.where(lost, LOST, labels))


def draw(rows: dict[str, tuple[float, float]], title: str) -> Figure:
    picture, axes = common.figure(title, "ab", (11, 4))
    errors, memory = zip(*rows.values(), strict=True)
    colors = [look["color"] for look in common.LOOKS[: len(rows)]]
    axes["a"].barh(list(rows), np.maximum(errors, 1e-8), color=colors)
    axes["b"].barh(list(rows), memory, color=colors)
    axes["a"].set(title="(a) Error of the gradient", xscale="log", xlim=(1e-8, 1))
    axes["b"].set(title="(b) Temporary memory [MiB]", yticklabels=[])
    for panel in axes.values():
        panel.invert_yaxis()
    return picture


def main(argv: Sequence[str] | None = None, *, hidden: int = 1024) -> None:
    parser = common.Parser(__doc__)
    add = parser.add_argument
    add("--seed", type=common.between(0, 2**31), default=0, help="of weights and lost labels")
    add("--parts", type=common.between(2, 256), default=16, help="microbatches")
    add("--out", type=common.picture_path, default="out/accumulate_gradients.png", help="picture")
    options = parser.parse_args(argv)

    images, labels = microbatches(options.parts, options.seed)
    keys, make = jax.random.split(jax.random.key(options.seed), 3), jax.nn.initializers.he_normal()
    shapes = {"W1": (64, hidden), "W2": (hidden, hidden), "W3": (hidden, CLASSES)}
    weights = {
        name: make(key, shape) for key, (name, shape) in zip(keys, shapes.items(), strict=True)
    }

    known = (labels != LOST).sum(1)
    print(f"{labels.size} digits in {len(known)} parts, with {known.min()} to {known.max()} labels")
    print(f"{'gradient by':<22}{'relative error':>16}{'temporary MiB':>16}")
    exact, rows = None, {}
    for name, way in WAYS.items():
        program = jax.jit(way).lower(weights, images, labels).compile()
        gradient = jnp.concatenate([x.ravel() for x in program(weights, images, labels).values()])
        exact = gradient if exact is None else exact
        error = float(jnp.linalg.norm(gradient - exact) / jnp.linalg.norm(exact))
        rows[name] = error, program.memory_analysis().temp_size_in_bytes / MIB
        print(f"{name:<22}{rows[name][0]:16.1e}{rows[name][1]:16.1f}")
    error, memory = rows["accumulated"]
    text = (
        f"Accumulated: the gradient of the whole batch to {error:.0e}, in {memory:.0f} MiB "
        f"instead of {rows['whole batch'][1]:.0f};\n"
        f"the mean of means is off by {100 * rows['mean of means'][0]:.0f} %."
    )
    print(text)
    common.save(draw(rows, text), options.out)


if __name__ == "__main__":
    main()
