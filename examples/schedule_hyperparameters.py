"""A hyperparameter that changes while one trains, without compiling anew: graduated non-convexity.

A loss that lets go of outliers has many minima: a bad start takes the good points for the outliers.
With a scale that shrinks, all points pull at first, and the patients' line is found from anywhere.
Every number of a loss may be traced so: `delta`, `alpha`, `label_smoothing`, `temperature`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import _common as common
import jax
import jax.numpy as jnp
import numpy as np
import optax
from tqdm import trange

import jaxloss

UNIT = 50.0  # points of disease progression
SLIPS = 0.3  # the part of the targets that is ten times too large
WIDE, NARROW = 30.0, 1.0  # in UNIT: more than any error, and the usual one

SCHEDULES: dict[str, Callable[[int], Callable]] = {
    "wide": lambda steps: optax.constant_schedule(WIDE),
    "narrow": lambda steps: optax.constant_schedule(NARROW),
    "wide to narrow": lambda steps: optax.exponential_decay(
        WIDE, steps // 2, NARROW / WIDE, end_value=NARROW
    ),
}
LOOKS = dict(zip(SCHEDULES, common.LOOKS, strict=False))


def patients(seed: int) -> tuple[np.ndarray, ...]:
    """Body mass index, standardised; progression with slips and without, in UNIT."""
    inputs, targets = common.diabetes()
    mass = (inputs[:, 2] - inputs[:, 2].mean()) / inputs[:, 2].std()
    slipped = np.random.default_rng(seed).random(len(targets)) < SLIPS
    return mass, np.where(slipped, 10 * targets, targets) / UNIT, targets / UNIT


def train(schedule: Callable, starts: jax.Array, data: tuple, steps: int) -> tuple:
    """Lines `[starts, 2]` from many starts at once, and how often the step was compiled."""
    mass, targets, _ = data
    optimizer = optax.adam(0.1)
    traced = []

    @jax.jit
    def step(lines: jax.Array, state: optax.OptState, scale: jax.Array) -> tuple:
        traced.append(scale)  # Python runs this once for each compilation

        def loss(lines: jax.Array) -> jax.Array:
            errors = lines[:, :1] + lines[:, 1:] * mass - targets
            losses = jaxloss.general_robust_loss(errors, alpha=-2.0, scale=scale)
            return losses.mean(1).sum()

        updates, state = optimizer.update(jax.grad(loss)(lines), state)
        return optax.apply_updates(lines, updates), state

    lines, state = starts, optimizer.init(starts)
    for count in trange(steps, unit="step"):
        lines, state = step(lines, state, jnp.float32(schedule(count)))
    return lines, len(traced)


def main(argv: Sequence[str] | None = None, *, steps: int = 600) -> None:
    parser = common.Parser(__doc__)
    add = parser.add_argument
    add("--seed", type=common.between(0, 2**31), default=0, help="of the starts and the slips")
    add("--starts", type=common.between(1, 10_000), default=100, help="lines to begin with")
    default = "out/schedule_hyperparameters.png"
    add("--out", type=common.picture_path, default=default, help="picture")
    options = parser.parse_args(argv)

    data = patients(options.seed)
    starts = 15 * jax.random.normal(jax.random.key(options.seed), (options.starts, 2))
    print(f"{options.starts} starts each; error on the true targets in points of progression")
    print(f"{'scale of the loss':<20}{'median MAE':>12}{'worst MAE':>12}{'compilations':>15}")
    found, worst = {}, {}
    for name, schedule in SCHEDULES.items():
        lines, compiled = train(schedule(steps), starts, data, steps)
        found[name] = np.array(lines)
        predictions = found[name][:, :1] + found[name][:, 1:] * data[0]
        mae = UNIT * np.abs(predictions - data[2]).mean(1)
        worst[name] = mae.max()
        print(f"{name:<20}{np.median(mae):12.1f}{mae.max():12.1f}{compiled:15}")
    parts = ", ".join(f"{name} {points:.0f}" for name, points in worst.items())
    text = f"Error of the worst start, in points of progression: {parts}"
    print(text)

    picture, axes = common.figure(text, "abc", (14, 4.5))
    ends = np.array([data[0].min(), data[0].max()])
    for letter, (name, lines) in zip("abc", found.items(), strict=True):
        axes[letter].plot(data[0], UNIT * data[1], ".", color="0.6", markersize=3)
        for offset, slope in lines[:50]:
            axes[letter].plot(
                ends,
                UNIT * (offset + slope * ends),
                color=LOOKS[name]["color"],
                linewidth=1,
                alpha=0.5,
            )
        axes[letter].set(
            title=f"({letter}) {name}", xlabel="body mass, standardised", ylim=(-500, 3500)
        )
    axes["a"].set(ylabel="progression [points]")
    common.save(picture, options.out)


if __name__ == "__main__":
    main()
