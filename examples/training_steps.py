"""One training step in Flax NNX, Flax linen, Equinox and plain JAX: copy the one that you need.

A network learns to read 1797 handwritten digits, some of whose labels are lost: `where` leaves
them out. The four start from the same weights, see the same batches, and have the same losses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import _common as common
import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from sklearn.datasets import load_digits
from tqdm import tqdm

import jaxloss

PIXELS, HIDDEN, CLASSES = 64, 32, 10
LOST = -1  # the label of a digit whose label is lost
OPTIMIZER = optax.adam(0.01)


def objective(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """The mean cross-entropy of the digits whose label is known."""
    return jaxloss.softmax_cross_entropy_with_integer_labels(
        logits, labels, where=labels != LOST, reduction="mean"
    )


def plain_jax(start: dict, batches: Iterable) -> Iterator[jax.Array]:
    def network(weights: dict, images: jax.Array) -> jax.Array:
        hidden = jax.nn.relu(images @ weights["W1"] + weights["b1"])
        return hidden @ weights["W2"] + weights["b2"]

    @jax.jit
    def step(weights: dict, state: optax.OptState, images: jax.Array, labels: jax.Array) -> tuple:
        def loss(weights: dict) -> jax.Array:
            return objective(network(weights, images), labels)

        value, gradients = jax.value_and_grad(loss)(weights)
        updates, state = OPTIMIZER.update(gradients, state)
        return optax.apply_updates(weights, updates), state, value

    weights, state = start, OPTIMIZER.init(start)
    for images, labels in batches:
        weights, state, value = step(weights, state, images, labels)
        yield value


def flax_nnx(start: dict, batches: Iterable) -> Iterator[jax.Array]:
    rngs = nnx.Rngs(0)
    first, last = nnx.Linear(PIXELS, HIDDEN, rngs=rngs), nnx.Linear(HIDDEN, CLASSES, rngs=rngs)
    first.kernel[...], first.bias[...] = start["W1"], start["b1"]
    last.kernel[...], last.bias[...] = start["W2"], start["b2"]
    model = nnx.Sequential(first, nnx.relu, last)
    optimizer = nnx.Optimizer(model, OPTIMIZER, wrt=nnx.Param)

    @nnx.jit
    def step(model: nnx.Module, optimizer: nnx.Optimizer, images, labels) -> jax.Array:
        def loss(model: nnx.Module) -> jax.Array:
            return objective(model(images), labels)

        value, gradients = nnx.value_and_grad(loss)(model)
        optimizer.update(model, gradients)
        return value

    for images, labels in batches:
        yield step(model, optimizer, images, labels)


def flax_linen(start: dict, batches: Iterable) -> Iterator[jax.Array]:
    model = nn.Sequential([nn.Dense(HIDDEN), nn.relu, nn.Dense(CLASSES)])
    # Usually `model.init(jax.random.key(0), images)`.
    variables = {
        "layers_0": {"kernel": start["W1"], "bias": start["b1"]},
        "layers_2": {"kernel": start["W2"], "bias": start["b2"]},
    }

    @jax.jit
    def step(variables: dict, state: optax.OptState, images, labels) -> tuple:
        def loss(variables: dict) -> jax.Array:
            return objective(model.apply({"params": variables}, images), labels)

        value, gradients = jax.value_and_grad(loss)(variables)
        updates, state = OPTIMIZER.update(gradients, state)
        return optax.apply_updates(variables, updates), state, value

    state = OPTIMIZER.init(variables)
    for images, labels in batches:
        variables, state, value = step(variables, state, images, labels)
        yield value


def equinox(start: dict, batches: Iterable) -> Iterator[jax.Array]:
    model = eqx.nn.MLP(PIXELS, CLASSES, HIDDEN, depth=1, key=jax.random.key(0))
    model = eqx.tree_at(
        lambda m: [m.layers[0].weight, m.layers[0].bias, m.layers[1].weight, m.layers[1].bias],
        model,
        [start["W1"].T, start["b1"], start["W2"].T, start["b2"]],
    )

    @eqx.filter_jit
    def step(model: eqx.Module, state: optax.OptState, images, labels) -> tuple:
        def loss(model: eqx.Module) -> jax.Array:
            return objective(jax.vmap(model)(images), labels)

        value, gradients = eqx.filter_value_and_grad(loss)(model)
        updates, state = OPTIMIZER.update(gradients, state)
        return eqx.apply_updates(model, updates), state, value

    state = OPTIMIZER.init(eqx.filter(model, eqx.is_array))
    for images, labels in batches:
        model, state, value = step(model, state, images, labels)
        yield value


LIBRARIES: dict[str, Callable[[dict, Iterable], Iterator[jax.Array]]] = {
    "plain JAX": plain_jax,
    "Flax NNX": flax_nnx,
    "Flax linen": flax_linen,
    "Equinox": equinox,
}


def first_weights(seed: int) -> dict[str, jax.Array]:
    keys, make = jax.random.split(jax.random.key(seed)), jax.nn.initializers.he_normal()
    return {
        "W1": make(keys[0], (PIXELS, HIDDEN)),
        "b1": jnp.zeros(HIDDEN),
        "W2": make(keys[1], (HIDDEN, CLASSES)),
        "b2": jnp.zeros(CLASSES),
    }


def draw_batches(seed: int, steps: int, size: int = 64) -> list[tuple[np.ndarray, np.ndarray]]:
    """Images `[size, PIXELS]` and labels `[size]`; one label of five is lost."""
    images, labels = load_digits(return_X_y=True)
    random = np.random.default_rng(seed)
    labels = np.where(random.random(len(labels)) < 0.2, LOST, labels)
    rows = random.integers(len(labels), size=(steps, size))
    return [(images[row].astype(np.float32) / 16, labels[row]) for row in rows]


def main(argv: Sequence[str] | None = None, *, steps: int = 100) -> None:
    parser = common.Parser(__doc__)
    add = parser.add_argument
    add("--seed", type=common.between(0, 2**31), default=0, help="of weights and batches")
    add("--out", type=common.picture_path, default="out/training_steps.png", help="picture")
    options = parser.parse_args(argv)

    start, batches = first_weights(options.seed), draw_batches(options.seed, steps)
    curves = {}
    for name, train in LIBRARIES.items():
        bar = tqdm(train(start, batches), name, total=steps, unit="step")
        curves[name] = np.array([float(value) for value in bar])

    print(f"{'loss at step':<14}{'1':>12}{steps // 2:>12}{steps:>12}")
    for name, curve in curves.items():
        print(f"{name:<14}" + "".join(f"{curve[i]:12.6f}" for i in (0, steps // 2 - 1, -1)))
    apart = np.ptp(list(curves.values()), 0).max()
    text = f"Four libraries, one loss curve: they differ by at most {apart:.0e}"
    print(text)

    picture, axes = common.figure(text, "a", (8, 4.5))
    for (name, curve), look, width in zip(curves.items(), common.LOOKS, (9, 6, 3, 1), strict=False):
        look = {**look, "marker": None, "linewidth": width, "linestyle": "-"}
        axes["a"].semilogy(1 + np.arange(steps), curve, **look, label=name)
    axes["a"].set(xlabel="step", ylabel="mean cross-entropy of the batch")
    axes["a"].legend()
    common.save(picture, options.out)


if __name__ == "__main__":
    main()
