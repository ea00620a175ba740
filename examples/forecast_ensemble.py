"""A forecast is more than one number: ensembles trained by the CRPS, judged by what came.

A network with noise at its input makes as many forecasts as one likes of how far a patient's
disease goes in a year. In training it makes a few, which are scored as an ensemble, by the fair
CRPS or the biased one, or one by one, by their squared errors. A network that predicts a Gaussian
is trained by the Gaussian's CRPS. How good are 99 forecasts for patients never seen, and do
intervals of 80 % hold 80 % of what came?
"""

from __future__ import annotations

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
from tqdm import tqdm

import jaxloss

TRAINED, JUDGED, NOISE = 300, 99, 4  # patients, members of a judged ensemble, numbers of noise
LEVELS = np.arange(0.1, 1.0, 0.1)  # of the intervals, 80 % among them
MIDDLE = 7


class Network(nnx.Module):
    """Ten measurements and some noise to a forecast, and the logarithm of a deviation."""

    def __init__(self, hidden: int, rngs: nnx.Rngs) -> None:
        self.layers = nnx.Sequential(
            nnx.Linear(10 + NOISE, hidden, rngs=rngs),
            nnx.tanh,
            nnx.Linear(hidden, 2, rngs=rngs),
        )

    def __call__(self, inputs: jax.Array, noise: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Forecasts and deviations `[patients, members]` of noise `[patients, members, NOISE]`."""
        shared = jnp.broadcast_to(inputs[:, None], (*noise.shape[:-1], inputs.shape[-1]))
        outputs = self.layers(jnp.concatenate([shared, noise], -1))
        return outputs[..., 0], jnp.exp(outputs[..., 1])


Model = Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]


def fair(model: Model, inputs: jax.Array, targets: jax.Array, noise: jax.Array) -> jax.Array:
    return jaxloss.crps_ensemble(model(inputs, noise)[0], targets, reduction="mean")


def biased(model: Model, inputs: jax.Array, targets: jax.Array, noise: jax.Array) -> jax.Array:
    members = model(inputs, noise)[0]
    return jaxloss.crps_ensemble(members, targets, kind="biased", reduction="mean")


def squares(model: Model, inputs: jax.Array, targets: jax.Array, noise: jax.Array) -> jax.Array:
    members = model(inputs, noise)[0]
    every = jnp.broadcast_to(targets[:, None], members.shape)
    return jaxloss.squared_error(members, every, reduction="mean")


def gaussian(model: Model, inputs: jax.Array, targets: jax.Array, noise: jax.Array) -> jax.Array:
    mean, deviation = model(inputs, 0 * noise[:, :1])
    return jaxloss.gaussian_crps(mean[:, 0], targets, deviation[:, 0], reduction="mean")


OBJECTIVES = {
    "Fair CRPS": fair,
    "Biased CRPS": biased,
    "Squared error": squares,
    "Gaussian CRPS": gaussian,
}
LOOKS = dict(zip(OBJECTIVES, common.LOOKS, strict=False))


class Split(NamedTuple):
    """Patients to learn from and others, in units of the deviations of the first."""

    inputs: np.ndarray
    targets: np.ndarray
    unseen_inputs: np.ndarray
    unseen_targets: np.ndarray


def split(seed: int) -> Split:
    inputs, targets = common.diabetes()
    order = np.random.default_rng(seed).permutation(len(targets))
    known, unseen = order[:TRAINED], order[TRAINED:]
    x = (inputs - inputs[known].mean(0)) / inputs[known].std(0)
    y = (targets - targets[known].mean()) / targets[known].std()
    return Split(x[known], y[known], x[unseen], y[unseen])


class Scores(NamedTuple):
    """Of the patients never seen, a mean for each split, in the unit of the targets.

    Attributes:
        crps: Of the ensemble.
        weighted: The weighted interval score of all levels.
        interval: The interval score of 80 %.
        held: What intervals of each of `LEVELS` hold, `[splits, levels]`.
        ranks: How many of the 99 members are below the target, `[splits, patients]`.
    """

    crps: jax.Array
    weighted: jax.Array
    interval: jax.Array
    held: jax.Array
    ranks: jax.Array


def judge(members: jax.Array, targets: jax.Array) -> Scores:
    """The scores of ensembles `[patients, members]`, of which the ordered ones are quantiles."""
    alpha = jnp.asarray(1 - LEVELS, members.dtype)
    ends = jnp.concatenate([alpha / 2, jnp.array([0.5]), 1 - alpha / 2])
    found = jnp.quantile(members, ends, axis=-1).T
    low, median, high = found[:, : len(LEVELS)], found[:, len(LEVELS)], found[:, len(LEVELS) + 1 :]
    held = (low <= targets[:, None]) & (targets[:, None] <= high)
    one = low[:, MIDDLE], high[:, MIDDLE], targets
    return Scores(
        jaxloss.crps_ensemble(members, targets, reduction="mean"),
        jaxloss.weighted_interval_score(low, high, median, targets, alpha, reduction="mean"),
        jaxloss.interval_score(*one, alpha=alpha[MIDDLE], reduction="mean"),
        jnp.mean(held, 0),
        jnp.sum(members < targets[:, None], -1),
    )


def train(
    name: str, splits: Sequence[Split], members: int, seed: int, steps: int, hidden: int, bar: tqdm
) -> tuple[Scores, jax.Array]:
    """Train one network per split, all at once, and judge each by 99 forecasts per patient.

    Returns:
        The scores, and the forecasts for unseen patients, `[splits, patients, 99]`.
    """
    data = Split(*(jnp.stack(arrays) for arrays in zip(*splits, strict=True)))
    objective, parts = OBJECTIVES[name], 10

    @nnx.vmap
    def start(key: jax.Array) -> tuple[Network, nnx.Optimizer]:
        model = Network(hidden, nnx.Rngs(key))
        schedule = optax.cosine_decay_schedule(0.01, steps)
        return model, nnx.Optimizer(model, optax.adamw(schedule, weight_decay=0.1), wrt=nnx.Param)

    @nnx.jit
    @nnx.vmap(in_axes=(0, 0, 0, 0))
    def some_steps(model: Network, optimizer: nnx.Optimizer, data: Split, key: jax.Array) -> None:
        @nnx.scan(in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
        def step(networks: tuple, key: jax.Array) -> tuple:
            model, optimizer = networks
            noise = jax.random.normal(key, (TRAINED, members, NOISE))
            gradients = nnx.grad(objective)(model, data.inputs, data.targets, noise)
            optimizer.update(model, gradients)
            return model, optimizer

        step((model, optimizer), jax.random.split(key, steps // parts))

    @nnx.jit
    @nnx.vmap(in_axes=(0, 0, 0))
    def forecast(model: Network, data: Split, key: jax.Array) -> tuple[Scores, jax.Array]:
        shape = len(data.unseen_targets), JUDGED, NOISE
        noise = jax.random.normal(key, shape)
        if objective is gaussian:
            mean, deviation = model(data.unseen_inputs, 0 * noise)
            found = mean + deviation * noise[..., 0]
        else:
            found = model(data.unseen_inputs, noise)[0]
        return judge(found, data.unseen_targets), found

    keys = jax.random.split(jax.random.key(seed), (parts + 2, len(splits)))
    model, optimizer = start(keys[0])
    for key in keys[1:-1]:
        some_steps(model, optimizer, data, key)
        bar.update()
    return forecast(model, data, keys[-1])


def table(scores: dict[str, Scores]) -> str:
    """Means over the splits."""
    lines = [f"{'trained by':<16}{'CRPS':>8}{'weighted':>10}{'of 80 %':>9}{'held by 80 %':>14}"]
    for name, found in scores.items():
        held = f"{100 * found.held[:, MIDDLE].mean():.1f} %"
        numbers = (
            f"{found.crps.mean():8.3f}{found.weighted.mean():10.3f}{found.interval.mean():9.2f}"
        )
        lines.append(f"{name:<16}{numbers}{held:>14}")
    return "\n".join(lines)


def verdict(scores: dict[str, Scores]) -> str:
    """What one sees, in a line."""
    crps = {name: float(found.crps.mean()) for name, found in scores.items()}
    held = {name: 100 * float(found.held[:, MIDDLE].mean()) for name, found in scores.items()}
    best = min(crps, key=crps.__getitem__)
    parts = ", ".join(f"{name} {part:.0f} %" for name, part in held.items())
    return (
        f"Least CRPS on unseen patients: {best}, {crps[best]:.3f}. Intervals of 80 % hold: {parts}."
    )


def forecasts(panel: Axes, members: np.ndarray, targets: np.ndarray, title: str) -> None:
    """The forecasts for some patients, in order of their medians, and what came."""
    order = np.argsort(np.median(members, -1))[:: max(1, len(targets) // 24)]
    place = np.arange(len(order))
    for level, alpha in ((0.9, 0.25), (0.5, 0.5)):
        ends = np.quantile(members[order], (0.5 - level / 2, 0.5 + level / 2), axis=-1)
        panel.vlines(place, *ends, color="#0072B2", alpha=alpha, linewidth=6, label=f"{level:.0%}")
    panel.plot(place, targets[order], "o", color="#D55E00", markersize=5, label="what came")
    panel.set(title=title, xlabel="unseen patients, by their forecast", xticks=[])


def draw(
    scores: dict[str, Scores], members: dict[str, np.ndarray], targets: np.ndarray, title: str
) -> Figure:
    picture, axes = common.figure(title, "ab;cd", (12, 9))
    axes["a"].plot([0, 100], [0, 100], color="gray", linewidth=1)
    for name, found in scores.items():
        axes["a"].plot(100 * LEVELS, 100 * found.held.mean(0), **LOOKS[name], label=name)
    axes["a"].set(title="(a) What intervals hold", xlabel="interval [%]", ylabel="held [%]")
    axes["a"].legend()
    for name, found in scores.items():
        heights, edges = np.histogram(np.ravel(found.ranks), 10, (0, JUDGED + 1), density=True)
        middles = (edges[1:] + edges[:-1]) / 2
        axes["b"].plot(middles, heights * (JUDGED + 1), **LOOKS[name], label=name)
    axes["b"].axhline(1, color="gray", linewidth=1)
    axes["b"].set(title="(b) Where what came lies among the members", ylim=(0, 4))
    axes["b"].set(xlabel="members below it, of 99", ylabel="how often, 1 is even")
    low, high = np.quantile(targets, (0, 1))
    for letter, name in zip("cd", ("Fair CRPS", "Biased CRPS"), strict=True):
        forecasts(axes[letter], members[name], targets, f"({letter}) {name}: intervals")
        axes[letter].set(ylim=(low - 1, high + 1), ylabel="course of the disease [deviations]")
    axes["c"].legend(loc="upper left")
    return picture


def main(
    argv: Sequence[str] | None = None, *, splits: int = 8, steps: int = 120, hidden: int = 8
) -> None:
    parser = common.Parser(__doc__)
    add = parser.add_argument
    add("--seed", type=common.between(0, 2**32 - 1), default=0, help="of splits and networks")
    add("--members", type=common.between(2, 50), default=3, help="of an ensemble in training")
    add("--out", type=common.picture_path, default="out/forecast_ensemble.png", help="picture")
    options = parser.parse_args(argv)

    seeds = [int(seed) for seed in np.random.SeedSequence(options.seed).generate_state(splits)]
    data = [split(seed) for seed in seeds]
    scores, members = {}, {}
    with tqdm(total=10 * len(OBJECTIVES), unit="part") as bar:
        for name in OBJECTIVES:
            bar.set_description(f"{splits} networks, {name}")
            found = train(name, data, options.members, options.seed, steps, hidden, bar)
            scores[name], each = jax.tree.map(np.asarray, found)
            members[name] = each[0]

    unseen = len(data[0].unseen_targets)
    print(f"{unseen} unseen patients, means over {splits} splits; {options.members} members learnt")
    print(table(scores))
    text = verdict(scores)
    print(text)
    title = text.replace(". ", ".\n")
    common.save(draw(scores, members, data[0].unseen_targets, title), options.out)


if __name__ == "__main__":
    main()
