"""Weights for a sample that is not like the world: inverse propensities, and the exact mean.

A study keeps every patient with cancer and one of five without, as studies do. What learns from it
takes everyone for ill. With weights of one over the chance to be kept, the weighted mean of the
study is that of all patients, and so are the risks that it teaches.
"""

from __future__ import annotations

from collections.abc import Sequence

import _common as common
import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split

import jaxloss

TEXTURE, SMOOTHNESS = 21, 24  # the worst of a patient's cells; the two leave doubt
WAYS = ("all patients", "study", "study, weighted")
LOOKS = dict(zip(WAYS, common.LOOKS, strict=False))

Model = dict[str, jax.Array]


def patients(seed: int) -> list[np.ndarray]:
    """Inputs to learn from, to test, and the diagnoses of both: 1 is cancer."""
    inputs, benign = load_breast_cancer(return_X_y=True)
    inputs = inputs[:, [TEXTURE, SMOOTHNESS]]
    inputs = ((inputs - inputs.mean(0)) / inputs.std(0)).astype(np.float32)
    ill = 1 - benign
    return train_test_split(inputs, ill, test_size=0.4, stratify=ill, random_state=seed)


def logits(model: Model, inputs: jax.Array) -> jax.Array:
    return inputs @ model["slopes"] + model["offset"]


def mean_loss(model: Model, inputs: jax.Array, ill: jax.Array, weights: jax.Array) -> jax.Array:
    """The sum of weight times loss over the sum of weights; not (weights * losses).mean()."""
    return jaxloss.sigmoid_binary_cross_entropy(
        logits(model, inputs), ill, weights=weights, reduction="mean"
    )


@jax.jit
def fit(inputs: jax.Array, ill: jax.Array, weights: jax.Array) -> Model:
    """Logistic regression by L-BFGS."""
    solver = optax.lbfgs()

    def loss(model: Model) -> jax.Array:
        return mean_loss(model, inputs, ill, weights)

    def step(carry: tuple, _: None) -> tuple:
        model, state = carry
        value, slopes = optax.value_and_grad_from_state(loss)(model, state=state)
        updates, state = solver.update(
            slopes, state, model, value=value, grad=slopes, value_fn=loss
        )
        return (optax.apply_updates(model, updates), state), None

    start = {"slopes": jnp.zeros(inputs.shape[1]), "offset": jnp.zeros(())}
    return jax.lax.scan(step, (start, solver.init(start)), length=30)[0][0]


def draw(risks: dict[str, np.ndarray], ill: np.ndarray, title: str) -> Figure:
    picture, axes = common.figure(title, "ab", (12, 4.8))
    for name, risk in risks.items():
        parts = np.array_split(np.argsort(risk), 6)
        predicted, found = zip(
            *((risk[part].mean(), ill[part].mean()) for part in parts), strict=True
        )
        axes["a"].plot(predicted, found, **LOOKS[name], label=name)
        axes["b"].hist(
            risk,
            np.linspace(0, 1, 21),
            histtype="step",
            linewidth=2,
            color=LOOKS[name]["color"],
            label=name,
        )
    axes["a"].plot([0, 1], [0, 1], ":", color="0.5", label="as it is")
    axes["a"].set(
        title="(a) Test patients, in sixths", xlabel="predicted risk", ylabel="part that is ill"
    )
    axes["b"].set(title="(b) Test patients", xlabel="predicted risk", ylabel="patients")
    axes["a"].legend()
    axes["b"].legend()
    return picture


def main(argv: Sequence[str] | None = None) -> None:
    parser = common.Parser(__doc__)
    add = parser.add_argument
    add("--seed", type=common.between(0, 2**31), default=0, help="of the split and the study")
    add("--kept", type=common.between(0.05, 1.0), default=0.2, help="part of the well in the study")
    add("--out", type=common.picture_path, default="out/weigh_samples.png", help="picture")
    options = parser.parse_args(argv)

    inputs, test_inputs, ill, test_ill = patients(options.seed)
    propensity = np.where(ill == 1, 1, options.kept).astype(np.float32)
    kept = np.random.default_rng(options.seed).random(len(ill)) < propensity
    print(
        f"{len(ill)} patients, {ill.mean():.0%} ill; "
        f"{kept.sum()} of them in the study, {ill[kept].mean():.0%} ill"
    )
    # A weight of 0 takes a patient out, so that all fits have the same shapes.
    weights = (np.ones_like(propensity), kept * 1.0, kept / propensity)

    print(f"{'learnt from':<18}{'mean risk':>12}{'are ill':>10}{'cross-entropy of test':>24}")
    risks = {}
    for name, weight in zip(WAYS, weights, strict=True):
        model = fit(inputs, ill, weight.astype(np.float32))
        loss = mean_loss(model, test_inputs, test_ill, jnp.ones(()))
        risks[name] = np.array(jax.nn.sigmoid(logits(model, test_inputs)))
        print(f"{name:<18}{risks[name].mean():12.1%}{test_ill.mean():10.1%}{loss:24.3f}")
    means = {name: f"{100 * risk.mean():.0f} %" for name, risk in risks.items()}
    text = (
        f"{100 * test_ill.mean():.0f} % are ill; by the study the mean risk is {means['study']}, "
        f"with weights {means['study, weighted']}"
    )
    print(text)
    common.save(draw(risks, test_ill, text), options.out)


if __name__ == "__main__":
    main()
