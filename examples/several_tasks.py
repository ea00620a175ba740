"""One network, three tasks: `jaxloss.combine` weighs their losses, by hand, by schedule or learned.

From age, weight and blood of 442 patients: how far their disease will go in points, the sugar of
their blood, and their sex. The losses are of sizes from 1 to 3000, each task lacks other labels,
and each is a mean of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import _common as common
import jax
import jax.numpy as jnp
import numpy as np
import optax
from tqdm import tqdm

import jaxloss

SEX, SUGAR = 1, 9  # columns that are predicted
TASKS = ("progression", "sugar", "sex")
TRAINING, HIDDEN = 300, 4
LOST = 0.2  # part of each task's labels

Weights = dict[str, jax.Array]


def by_hand(step: jax.Array, model: Weights) -> dict:
    # About the inverse of what each loss is when nothing is learned.
    return {"weights": {"progression": 1 / 3000, "sugar": 1 / 60, "sex": 1.0}}


def by_schedule(step: jax.Array, model: Weights) -> dict:
    """The easy tasks first; a weight may be any schedule of optax."""
    later = optax.linear_schedule(0.0, 1 / 3000, 300)
    return {"weights": {"progression": later, "sugar": 1 / 60, "sex": 1.0}, "step": step}


def learned(step: jax.Array, model: Weights) -> dict:
    """Uncertain tasks count less, by log-variances that are trained with the network."""
    return {"log_variances": {task: model["log_variances"][i] for i, task in enumerate(TASKS)}}


WAYS: dict[str, Callable[[jax.Array, Weights], dict]] = {
    "1 each": lambda step, model: {},
    "by hand": by_hand,
    "by schedule": by_schedule,
    "learned": learned,
}


def patients(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs `[442, 8]`, standardised, and labels `[442, tasks]`, of which none is lost yet."""
    inputs, progression = common.diabetes()
    order = np.random.default_rng(seed).permutation(len(inputs))
    labels = np.stack([progression, inputs[:, SUGAR], inputs[:, SEX] - 1], 1)
    labels[:, :2] -= labels[:, :2].mean(0)
    inputs = np.delete(inputs, (SEX, SUGAR), 1)
    return ((inputs - inputs.mean(0)) / inputs.std(0))[order], labels[order]


def predict(model: Weights, inputs: jax.Array) -> jax.Array:
    hidden = jnp.tanh(inputs @ model["W1"] + model["b1"])
    return hidden @ model["W2"] + model["b2"]


def task_losses(model: Weights, inputs: jax.Array, labels: jax.Array) -> dict[str, jax.Array]:
    """The mean loss of each task over the patients whose label is known."""
    known = jnp.isfinite(labels)
    outputs = predict(model, inputs)
    losses = (jaxloss.l2_loss, jaxloss.l2_loss, jaxloss.sigmoid_binary_cross_entropy)
    return {
        task: loss(outputs[:, i], labels[:, i], where=known[:, i], reduction="mean")
        for i, (task, loss) in enumerate(zip(TASKS, losses, strict=True))
    }


def train(way: Callable, model: Weights, data: tuple, steps: int, bar: tqdm) -> tuple:
    """The trained model, and the loss of each task after each step, `[steps, tasks]`."""
    # A short memory: the first gradients of a log-variance are thousands of times the later ones.
    optimizer = optax.adam(optax.cosine_decay_schedule(0.1, steps), b2=0.95)

    @jax.jit
    def step(model: Weights, state: optax.OptState, count: jax.Array) -> tuple:
        def loss(model: Weights) -> tuple[jax.Array, dict]:
            return jaxloss.combine(task_losses(model, *data), **way(count, model))

        (_, terms), gradients = jax.value_and_grad(loss, has_aux=True)(model)
        updates, state = optimizer.update(gradients, state)
        return optax.apply_updates(model, updates), state, terms

    state, history = optimizer.init(model), []
    for count in range(steps):
        model, state, terms = step(model, state, count)
        history.append([float(terms[task]) for task in TASKS])
        bar.update()
    return model, np.array(history)


def main(argv: Sequence[str] | None = None, *, steps: int = 600) -> None:
    parser = common.Parser(__doc__)
    add = parser.add_argument
    add("--seed", type=common.between(0, 2**31), default=0, help="of weights and lost labels")
    add("--out", type=common.picture_path, default="out/several_tasks.png", help="picture")
    options = parser.parse_args(argv)

    inputs, labels = patients(options.seed)
    lost = np.random.default_rng(options.seed).random((TRAINING, len(TASKS))) < LOST
    given = np.where(lost, np.float32(np.nan), labels[:TRAINING])
    keys = jax.random.split(jax.random.key(options.seed))
    start = {
        "W1": jax.random.normal(keys[0], (inputs.shape[1], HIDDEN)) / 3,
        "b1": jnp.zeros(HIDDEN),
        "W2": jax.random.normal(keys[1], (HIDDEN, len(TASKS))) / 3,
        "b2": jnp.zeros(len(TASKS)),
        "log_variances": jnp.zeros(len(TASKS)),
    }

    models, histories = {}, {}
    with tqdm(total=steps * len(WAYS), unit="step") as bar:
        for name, way in WAYS.items():
            bar.set_description(name)
            data = inputs[:TRAINING], given
            models[name], histories[name] = train(way, start, data, steps, bar)

    print(f"On {len(labels) - TRAINING} patients that none has seen")
    print(f"{'weights':<14}{'progression RMSE':>18}{'sugar RMSE':>13}{'sex right':>12}")
    for name, model in models.items():
        outputs, truth = np.array(predict(model, inputs[TRAINING:])), labels[TRAINING:]
        rmse = np.sqrt(np.square(outputs - truth).mean(0))
        right = ((outputs[:, 2] > 0) == truth[:, 2]).mean()
        print(f"{name:<14}{rmse[0]:18.1f}{rmse[1]:13.2f}{right:12.1%}")
    # The best log-variance of a squared error is the logarithm of its mean.
    deviations = np.exp(np.asarray(models["learned"]["log_variances"][:2]) / 2)
    left = np.sqrt(2 * histories["learned"][-1, :2])
    text = (
        f"Learned deviations {deviations[0]:.1f} of progression and {deviations[1]:.2f} of sugar; "
        f"the errors that are left in training are {left[0]:.1f} and {left[1]:.2f}"
    )
    print(text)

    picture, axes = common.figure(text.replace("; ", ";\n"), "abc", (13, 4.5))
    for i, (letter, task) in enumerate(zip("abc", TASKS, strict=True)):
        for (name, history), look in zip(histories.items(), common.LOOKS, strict=False):
            axes[letter].plot(
                1 + np.arange(steps), history[:, i], **{**look, "marker": None}, label=name
            )
        axes[letter].set(title=f"({letter}) {task}", xlabel="step", yscale="log")
    axes["a"].set(ylabel="loss in training")
    axes["c"].legend()
    common.save(picture, options.out)


if __name__ == "__main__":
    main()
