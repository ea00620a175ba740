"""Which loss survives wrong targets? A regression on 442 diabetes patients.

A decimal point slips in a fraction of the training targets: they become ten times too large. The
same small network learns from them under five losses and is judged on patients whose targets are
right, averaged over several random splits of the patients.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

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

# Points of disease progression. The network learns in this unit, which is about the error that
# the best of models makes here: there "beta = 1" means "within the usual error".
UNIT = 50.0
TRAINING = 332  # patients; the other 110 are the test
LEVELS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
TICKS = (50, 100, 200, 400)
HOLDS = 0.25  # a loss holds if the test error grows by less than this

LOSSES = {
    "L1": jaxloss.l1_loss,
    "L2": jaxloss.l2_loss,
    "Smooth L1": jaxloss.smooth_l1_loss,
    "Huber": partial(jaxloss.huber_loss, delta=1.345),  # 95 % efficient on normal errors
    "General robust": partial(jaxloss.general_robust_loss, alpha=-1.0),  # lets go of outliers
}
LOOKS = dict(zip(LOSSES, common.LOOKS, strict=True))


def problem(split: int, level: float) -> tuple[np.ndarray, ...]:
    """Training inputs and targets, test inputs and targets of one split at one corruption."""
    inputs, targets = common.diabetes()
    order = np.random.default_rng(split).permutation(len(targets))
    train, test = order[:TRAINING], order[TRAINING:]
    center, spread = inputs[train].mean(0), inputs[train].std(0)
    noisy = targets[train].copy()
    noisy[: round(level * TRAINING)] *= 10
    # The median hardly feels the corruption, so that every network starts near its target.
    middle = np.median(noisy)
    inputs = (inputs - center) / spread
    return inputs[train], (noisy - middle) / UNIT, inputs[test], (targets[test] - middle) / UNIT


def train(loss: Callable, data: Sequence, keys: jax.Array, epochs: int, bar: tqdm) -> jax.Array:
    """Train one network per problem, all of them at once.

    Args:
        loss: A jaxloss loss.
        data: The four arrays of `problem`, each `[problems, patients, ...]`.
        keys: For the first weights, `[problems]`.
        epochs: Steps of gradient descent, a multiple of 10.
        bar: Advances by `epochs`.

    Returns:
        Training loss, test MAE and test RMSE, `[epochs / 10, 3, problems]`; errors in points.
    """

    @nnx.vmap
    def start(key: jax.Array) -> tuple[nnx.Module, nnx.Optimizer]:
        rngs = nnx.Rngs(key)
        model = nnx.Sequential(nnx.Linear(10, 8, rngs=rngs), nnx.tanh, nnx.Linear(8, 1, rngs=rngs))
        schedule = optax.cosine_decay_schedule(0.01, epochs)
        optimizer = nnx.Optimizer(model, optax.adamw(schedule, weight_decay=1.0), wrt=nnx.Param)
        return model, optimizer

    @nnx.jit
    @nnx.vmap
    def ten_steps(model, optimizer, inputs, targets, test_inputs, test_targets) -> jax.Array:
        @nnx.scan(length=10, in_axes=nnx.Carry, out_axes=(nnx.Carry, 0))
        def step(networks: tuple) -> tuple:
            model, optimizer = networks

            def objective(model: nnx.Module) -> jax.Array:
                return loss(model(inputs)[:, 0], targets, reduction="mean")

            value, gradients = nnx.value_and_grad(objective)(model)
            optimizer.update(model, gradients)
            return (model, optimizer), value

        values = step((model, optimizer))[1]
        predictions = model(test_inputs)[:, 0]
        mae = jaxloss.l1_loss(predictions, test_targets, reduction="mean")
        mse = jaxloss.squared_error(predictions, test_targets, reduction="mean")
        return jnp.stack([values[-1], UNIT * mae, UNIT * jnp.sqrt(mse)])

    model, optimizer = start(keys)
    history = []
    for _ in range(epochs // 10):
        history.append(ten_steps(model, optimizer, *data))
        bar.update(10)
    return jnp.stack(history).transpose(0, 2, 1)


def results(seed: int, levels: Sequence[float], splits: int, epochs: int) -> dict[str, np.ndarray]:
    """The history `[epochs / 10, 3, levels, splits]` of each loss."""
    # Level by level the same splits, the same first weights, and each level's slips and more.
    seeds = np.random.SeedSequence(seed).generate_state(splits)
    problems = [problem(split, level) for level in levels for split in seeds]
    data = [jnp.stack(arrays) for arrays in zip(*problems, strict=True)]
    keys = jnp.tile(jax.random.split(jax.random.key(seed), splits), len(levels))
    histories = {}
    with tqdm(total=epochs * len(LOSSES), unit="epoch") as bar:
        for name, loss in LOSSES.items():
            bar.set_description(f"{len(problems)} networks, {name}")
            history = train(loss, data, keys, epochs, bar)
            histories[name] = np.reshape(history, (-1, 3, len(levels), splits))
    return histories


def table(histories: dict[str, np.ndarray], clean: int, corrupted: int) -> str:
    """The last test errors of each loss, mean and standard deviation over the splits."""
    heads = [f"{score}, {kind}" for kind in ("clean", "corrupted") for score in ("MAE", "RMSE")]
    lines = [f"{'loss':<15}" + "".join(f"{head:>17}" for head in heads)]
    for name, history in histories.items():
        cells = [history[-1, score, level] for level in (clean, corrupted) for score in (1, 2)]
        texts = [f"{cell.mean():.1f} ± {cell.std():4.1f}" for cell in cells]
        lines.append(f"{name:<15}" + "".join(f"{text:>17}" for text in texts))
    return "\n".join(lines)


def verdict(mae: dict[str, tuple[float, float]], corrupt: float) -> str:
    """What one sees, in two lines, from the test MAE of each loss, clean and corrupted."""

    def says(name: str) -> str:
        clean, corrupted = mae[name]
        rise = corrupted / clean - 1
        verb = "holds" if rise < HOLDS else "suffers"
        return f"{name} {verb} ({clean:.1f} to {corrupted:.1f} points, {100 * rise:+.0f} %)"

    slips = f"{round(corrupt * TRAINING)} of {TRAINING} training targets ten times too large"
    return f"Test MAE with {slips}: {says('L2')};\n{says('L1')}; {says('Smooth L1')}."


def draw_losses(values: Axes, slopes: Axes) -> None:
    """L1, L2 and Smooth L1 over the error, and their derivatives."""
    errors = jnp.linspace(-2, 2, 401)
    for name in ("L1", "L2", "Smooth L1"):
        look = {**LOOKS[name], "marker": None, "label": name}
        values.plot(errors, LOSSES[name](errors), **look)
        slopes.plot(errors, jax.vmap(jax.grad(LOSSES[name]))(errors), **look)
    green, inside = LOOKS["Smooth L1"]["color"], errors[jnp.abs(errors) <= 1]
    values.plot(inside, abs(inside) - 0.5, ":", color=green, label="|e| - 0.5 continued")
    values.plot([-1, 1], [0.5, 0.5], "o", color=green, label="square turns into line")
    slopes.plot([-1, 1], [-1, 1], "o", color=green, label="square turns into line")
    slopes.plot(0, 0, "o", color=LOOKS["L1"]["color"], label="L1 at e = 0")
    values.set(title="(a) The losses", ylabel="loss", xlabel="error e")
    slopes.set(title="(a) Their derivatives", ylabel="slope", xlabel="error e")
    values.legend(loc="upper center")
    slopes.legend(loc="upper left")


def draw(histories: dict, levels: Sequence[float], corrupt: float, title: str) -> Figure:
    """The whole picture; (b) at the corruption `corrupt`, (c) over all levels."""
    picture, axes = common.figure(title, "ace;bde", (15, 8.5))
    draw_losses(axes["a"], axes["b"])
    for place, (name, history) in enumerate(histories.items()):
        look = {**LOOKS[name], "label": name}
        epochs = 10 * np.arange(1, len(history) + 1)
        losses, errors = history[:, :2, levels.index(corrupt)].mean(-1).T
        axes["c"].plot(epochs, losses / losses[0], **look, markevery=5)
        axes["d"].plot(epochs, errors, **look, markevery=5)
        mae = history[-1, 1]
        mean = mae.mean(-1)
        bars = [mean - mae.min(-1), mae.max(-1) - mean]
        # Set apart, or the bars would hide one another.
        percent = 100 * np.array(levels) + 0.5 * (place - 2)
        axes["e"].errorbar(percent, mean, bars, **look, elinewidth=1, capsize=2)
    slips = f"{100 * corrupt:.3g} % of targets corrupted"
    axes["c"].set(title=f"(b) Training, {slips}", xlabel="epoch", ylabel="loss / first loss")
    axes["d"].set(title=f"(b) Test, {slips}", xlabel="epoch")
    axes["e"].set(title="(c) Test, mean and range of the splits", xlabel="corrupted targets [%]")
    for panel in (axes["d"], axes["e"]):
        panel.set(yscale="log", ylabel="MAE on clean patients [points]")
        panel.set_yticks(TICKS, TICKS)
        panel.minorticks_off()
    picture.legend(*axes["d"].get_legend_handles_labels(), loc="outside lower center", ncols=5)
    return picture


def main(argv: Sequence[str] | None = None, *, splits: int = 10, epochs: int = 400) -> None:
    parser = common.Parser(__doc__)
    add = parser.add_argument
    add("--seed", type=common.between(0, 2**32 - 1), default=0, help="of splits and networks")
    add("--corrupt", type=common.between(0.0, 0.5), default=0.2, help="part of targets, to 0.5")
    add("--out", type=common.picture_path, default="out/robust_regression.png", help="picture")
    options = parser.parse_args(argv)

    levels = sorted({*LEVELS, options.corrupt})
    chosen = levels.index(options.corrupt)
    histories = results(options.seed, levels, splits, epochs)
    mae = {name: history[-1, 1].mean(-1) for name, history in histories.items()}
    text = verdict({name: (row[0], row[chosen]) for name, row in mae.items()}, options.corrupt)
    print(f"Test error in points of disease progression, mean ± deviation of {splits} splits")
    print(table(histories, 0, chosen))
    print(text)
    common.save(draw(histories, levels, options.corrupt, text), options.out)


if __name__ == "__main__":
    main()
