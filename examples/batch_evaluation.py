"""How to evaluate: patient by patient, model by model, over ragged batches with missing targets.

A batch's mean forgets how many samples it stands for. Here the batches are clinics, each treating
the patients of one decade of age: the mean of the clinics' means is wrong, `jaxloss.Mean` is not.
"""

from __future__ import annotations

from collections.abc import Sequence

import _common as common
import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

import jaxloss


def clinics(missing: float, seed: int) -> tuple[np.ndarray, ...]:
    """The patients by decade of age, padded to the largest clinic.

    Returns:
        The decades `[clinics]`, inputs `[clinics, patients, 11]` and targets `[clinics, patients]`
        in points of disease progression; NaN where a target is lost or is padding.
    """
    inputs, targets = common.diabetes()
    ages = inputs[:, 0]
    inputs = (inputs - inputs.mean(0)) / inputs.std(0)
    inputs = np.pad(inputs, ((0, 0), (0, 1)), constant_values=1)  # the intercept
    lost = np.random.default_rng(seed).random(len(targets)) < missing
    targets = np.where(lost, np.float32(np.nan), targets)

    decades, clinic, sizes = np.unique(ages // 10, return_inverse=True, return_counts=True)
    padded_inputs = np.full((len(sizes), max(sizes), 11), np.nan, np.float32)
    padded_targets = np.full((len(sizes), max(sizes)), np.nan, np.float32)
    for i, size in enumerate(sizes):
        padded_inputs[i, :size] = inputs[clinic == i]
        padded_targets[i, :size] = targets[clinic == i]
    return 10 * decades, jnp.array(padded_inputs), jnp.array(padded_targets)


def fit(key: jax.Array, inputs: jax.Array, targets: jax.Array) -> jax.Array:
    """A linear model, by least squares on patients drawn with replacement, `[11]`."""
    rows = jax.random.randint(key, targets.shape, 0, len(targets))
    return jnp.linalg.lstsq(inputs[rows], targets[rows])[0]


def error(model: jax.Array, inputs: jax.Array, targets: jax.Array) -> jaxloss.Mean:
    """The mean absolute error of one model on one batch, or on one patient."""
    # What `where` leaves out may hold anything, NaN too.
    known = jnp.isfinite(targets)
    return jaxloss.Mean.of(jaxloss.l1_loss, inputs @ model, targets, where=known)


def evaluate(model: jax.Array, inputs: jax.Array, targets: jax.Array) -> tuple:
    """One model over all batches: the `Mean` of all patients, and each batch's own."""

    def step(total: jaxloss.Mean, batch: tuple) -> tuple:
        mean = error(model, *batch)
        return total + mean, mean

    return jax.lax.scan(step, jaxloss.Mean.zero(), (inputs, targets))


def draw(ages: list[str], batches: np.ndarray, means: dict[str, np.ndarray], title: str) -> Figure:
    """The error of each clinic, and both kinds of mean of each model."""
    picture, axes = common.figure(title, "ab", (12, 4.5))
    axes["a"].bar(ages, batches, color=common.LOOKS[0]["color"])
    axes["a"].set(title="(a) Clinics", xlabel="age, and patients that count", ylabel="MAE [points]")
    axes["a"].tick_params(axis="x", labelsize=8)
    for (name, mae), look in zip(means.items(), common.LOOKS[1:], strict=False):
        axes["b"].plot(1 + np.arange(len(mae)), mae, **{**look, "linestyle": ""}, label=name)
    axes["b"].set(title="(b) All patients", xlabel="model", ylabel="MAE [points]")
    axes["b"].legend()
    return picture


def main(argv: Sequence[str] | None = None) -> None:
    parser = common.Parser(__doc__)
    add = parser.add_argument
    add("--seed", type=common.between(0, 2**32 - 1), default=0, help="of models and lost targets")
    add("--models", type=common.between(1, 10_000), default=20, help="how many")
    add("--missing", type=common.between(0.0, 0.9), default=0.1, help="fraction of lost targets")
    add("--out", type=common.picture_path, default="out/batch_evaluation.png", help="picture")
    options = parser.parse_args(argv)

    batches = [jnp.array([1.0, 1.0, 1.0]), jnp.array([9.0])]
    first, second = (jaxloss.Mean.of(jaxloss.l1_loss, errors) for errors in batches)
    print("Errors 1, 1, 1 in one batch and 9 in the next:")
    print(f"  mean of means {(first.value() + second.value()) / 2}")
    print(f"  jaxloss.Mean  {(first + second).value()}\n")

    decades, inputs, targets = clinics(options.missing, options.seed)
    known = jnp.isfinite(targets)
    keys = jax.random.split(jax.random.key(options.seed), options.models)
    models = jax.vmap(fit, in_axes=(0, None, None))(keys, inputs[known], targets[known])

    # A `Mean` is a pytree: under vmap it carries an axis of models, or of models and patients.
    totals, means = jax.vmap(evaluate, in_axes=(0, None, None))(models, inputs, targets)
    each_patient = jax.vmap(error, in_axes=(None, 0, 0))
    each = jax.vmap(each_patient, in_axes=(0, None, None))(models, inputs[known], targets[known])

    print(f"Mean absolute error of {options.models} models, in points of disease progression:")
    for decade, count, mae in zip(decades, known.sum(1), means.value().mean(0), strict=True):
        print(f"  age {decade:.0f} to {decade + 9:.0f} {mae:6.1f} on {count} patients")
    hardest = each.value().mean(0).max()
    print(f"  hardest patient {hardest:6.1f}\n")

    exact, naive = totals.value(), means.value().mean(1)
    wrong = 100 * (naive / exact - 1)
    print(f"{'':14}{'all models':>12}{'best model':>18}")
    for name, mae in (("mean of means", naive), ("jaxloss.Mean", exact)):
        best = f"{mae.min():.2f} (no. {mae.argmin()})"
        print(f"{name:14}{mae.mean():12.2f}{best:>18}")
    text = (
        f"Model by model, the mean of means is off by {wrong.min():+.1f} to {wrong.max():+.1f} %."
    )
    print(text)
    ages = [
        f"{decade:.0f} to {decade + 9:.0f}\n({count})"
        for decade, count in zip(decades, known.sum(1), strict=True)
    ]
    both = {"mean of means": naive, "jaxloss.Mean": exact}
    common.save(draw(ages, means.value().mean(0), both, text), options.out)


if __name__ == "__main__":
    main()
