"""Data-parallel training: exact means over all devices, by `jit` on a mesh and by `shard_map`.

442 patients do not divide by the devices and some targets are lost, so that each device counts
other patients. A mean of the devices' means is wrong; two sums that add across devices are exact.
Without accelerators it runs on simulated devices.
"""

from __future__ import annotations

import os

# Read when JAX starts; where there are GPUs or TPUs these are used, and this changes nothing.
os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=4")

from collections.abc import Callable, Sequence
from functools import partial

import _common as common
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

import jaxloss

UNIT = 50.0  # points of disease progression
OPTIMIZER = optax.adam(0.03)

Weights = dict[str, jax.Array]
Gradient = Callable[[Weights, jax.Array, jax.Array], tuple[jax.Array, Weights]]


def network(weights: Weights, inputs: jax.Array) -> jax.Array:
    return (jnp.tanh(inputs @ weights["W1"] + weights["b1"]) @ weights["W2"])[:, 0]


def mean_loss(weights: Weights, inputs: jax.Array, targets: jax.Array) -> jaxloss.Mean:
    """The mean over the patients whose targets are known; NaN elsewhere does no harm."""
    known = jnp.isfinite(targets)
    return jaxloss.Mean.of(jaxloss.huber_loss, network(weights, inputs), targets, where=known)


def by_jit(weights: Weights, inputs: jax.Array, targets: jax.Array) -> tuple:
    """As on one device: where the data lie decides, and XLA adds what talks between devices."""
    return jax.value_and_grad(lambda weights: mean_loss(weights, inputs, targets).value())(weights)


def by_shard_map(mesh: Mesh) -> Gradient:
    """The program of one device, written out: the two sums of the mean are summed by `psum`."""

    @partial(jax.shard_map, mesh=mesh, in_specs=(P(), P("data"), P("data")), out_specs=P())
    def loss(weights: Weights, inputs: jax.Array, targets: jax.Array) -> jax.Array:
        return jax.lax.psum(mean_loss(weights, inputs, targets), "data").value()

    return jax.value_and_grad(loss)


def by_mean_of_means(mesh: Mesh) -> Gradient:
    """The usual mistake, which `pmean` invites to."""

    @partial(jax.shard_map, mesh=mesh, in_specs=(P(), P("data"), P("data")), out_specs=P())
    def loss(weights: Weights, inputs: jax.Array, targets: jax.Array) -> jax.Array:
        return jax.lax.pmean(mean_loss(weights, inputs, targets).value(), "data")

    return jax.value_and_grad(loss)


def patients(parts: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and targets, padded to a multiple of `parts`; NaN where a target is lost.

    Sorted by age, as files often are: the older are more often lost.
    """
    inputs, targets = common.diabetes()
    order = np.argsort(inputs[:, 0])
    inputs, targets = inputs[order], (targets[order] - np.median(targets)) / UNIT
    inputs = (inputs - inputs.mean(0)) / inputs.std(0)
    lost = np.random.default_rng(seed).random(len(targets)) < np.linspace(0, 0.8, len(targets))
    padding = (0, -len(targets) % parts)
    inputs = np.pad(inputs, (padding, (0, 0)))
    return inputs, np.pad(
        np.where(lost, np.float32(np.nan), targets), padding, constant_values=np.nan
    )


def train(gradient: Gradient, weights: Weights, data: tuple, steps: int) -> tuple:
    """The first gradient and the losses of all steps."""

    @jax.jit
    def step(weights: Weights, state: optax.OptState, *data: jax.Array) -> tuple:
        value, slopes = gradient(weights, *data)
        updates, state = OPTIMIZER.update(slopes, state)
        return optax.apply_updates(weights, updates), state, value, slopes

    state, first, losses = OPTIMIZER.init(weights), None, []
    for _ in range(steps):
        weights, state, value, slopes = step(weights, state, *data)
        first = slopes if first is None else first
        losses.append(float(value))
    return first, np.array(losses)


def main(argv: Sequence[str] | None = None, *, steps: int = 200) -> None:
    parser = common.Parser(__doc__)
    add = parser.add_argument
    add("--seed", type=common.between(0, 2**31), default=0, help="of weights and lost targets")
    add("--out", type=common.picture_path, default="out/train_on_mesh.png", help="picture")
    options = parser.parse_args(argv)

    mesh = jax.make_mesh((jax.device_count(),), ("data",))
    data = patients(mesh.size, options.seed)
    known = np.isfinite(data[1]).reshape(mesh.size, -1).sum(1)
    print(f"{mesh.size} devices; patients that count on each: {' '.join(map(str, known))}")

    key1, key2 = jax.random.split(jax.random.key(options.seed))
    weights = {
        "W1": jax.random.normal(key1, (10, 16)) / 4,
        "b1": jnp.zeros(16),
        "W2": jax.random.normal(key2, (16, 1)) / 4,
    }
    one_device = jax.tree.map(jnp.array, (weights, data))
    sharded = jax.device_put(data, NamedSharding(mesh, P("data")))
    spread = jax.device_put(weights, NamedSharding(mesh, P())), sharded
    ways = {
        "one device": (by_jit, one_device),
        "jit on a mesh": (by_jit, spread),
        "shard_map, psum": (by_shard_map(mesh), spread),
        "mean of means": (by_mean_of_means(mesh), spread),
    }

    runs = {name: train(way, *arrays, steps) for name, (way, arrays) in ways.items()}
    exact = np.concatenate([np.ravel(x) for x in runs["one device"][0].values()])
    print(f"{'':<17}{'error of first gradient':>25}{'first loss':>14}{'last loss':>14}")
    errors = {}
    for name, (gradient, losses) in runs.items():
        gradient = np.concatenate([np.ravel(x) for x in gradient.values()])
        errors[name] = np.linalg.norm(gradient - exact) / np.linalg.norm(exact)
        print(f"{name:<17}{errors[name]:25.1e}{losses[0]:14.6f}{losses[-1]:14.6f}")
    text = (
        f"On {mesh.size} devices the gradient is that of one, to {errors['jit on a mesh']:.0e} "
        f"by jit and {errors['shard_map, psum']:.0e} by shard_map;\n"
        f"a mean of the devices' means is off by {100 * errors['mean of means']:.0f} %."
    )
    print(text)

    picture, axes = common.figure(text, "ab", (12, 4.5))
    axes["a"].bar(range(mesh.size), known, color=common.LOOKS[0]["color"])
    axes["a"].set(title="(a) Patients that count", xlabel="device", xticks=range(mesh.size))
    for (name, (_, losses)), look, width in zip(
        runs.items(), common.LOOKS, (8, 5, 2, 2), strict=False
    ):
        look = {**look, "marker": None, "linewidth": width}
        axes["b"].plot(1 + np.arange(steps), losses, **look, label=name)
    axes["b"].set(title="(b) What each takes for the loss", xlabel="step", ylabel="mean Huber loss")
    axes["b"].legend()
    common.save(picture, options.out)


if __name__ == "__main__":
    main()
