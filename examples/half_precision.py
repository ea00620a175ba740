"""A network in bfloat16 and its loss in float32: what half precision loses, and what it does not.

bfloat16 has three digits. In it a probability of 0.999 is 1, and the gradient of a digit that is
nearly learnt is 0; easy digits forgive it. jaxloss takes the network's logits as they are, computes
in float32, and rounds the gradient once, on its way back. bfloat16 reaches as far down as float32,
so that no loss scaling is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import _common as common
import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from tqdm import tqdm

import jaxloss

CLASSES, HIDDEN = 10, 64
OPTIMIZER = optax.adam(0.01)

Weights = dict[str, jax.Array]
Loss = Callable[[jax.Array, jax.Array], jax.Array]


def in_its_own_dtype(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """What one writes by hand: everything in the dtype of the logits."""
    scores = jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], -1)[:, 0]
    return -scores.mean()


def in_float32(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return jaxloss.softmax_cross_entropy_with_integer_labels(logits, labels, reduction="mean")


WAYS: dict[str, tuple[jnp.dtype, Loss]] = {
    "all float32": (jnp.float32, in_float32),
    "bfloat16, loss by jaxloss": (jnp.bfloat16, in_float32),
    "bfloat16, loss by hand": (jnp.bfloat16, in_its_own_dtype),
}
LOOKS = dict(zip(WAYS, common.LOOKS, strict=False))


def network(weights: Weights, images: jax.Array, dtype: jnp.dtype) -> jax.Array:
    """Computes in `dtype` with weights that stay in float32, where small updates add up."""
    weights = jax.tree.map(lambda x: x.astype(dtype), weights)
    hidden = jax.nn.relu(images.astype(dtype) @ weights["W1"] + weights["b1"])
    return hidden @ weights["W2"] + weights["b2"]


def errors_of_gradients(margins: np.ndarray) -> dict[str, np.ndarray]:
    """The relative error of the gradient at the logit of the right class, by its lead."""
    # Of the nine other logits each is 0, and the lead is one that bfloat16 has.
    leads = jnp.array(margins, jnp.bfloat16)
    logits = jnp.zeros((len(margins), CLASSES), jnp.bfloat16).at[:, 0].set(leads)
    labels = jnp.zeros(len(margins), int)
    lead = np.asarray(leads, np.float64)
    truth = -9 * np.exp(-lead) / (1 + 9 * np.exp(-lead))
    errors = {}
    for name, (_, loss) in list(WAYS.items())[1:]:
        gradients = len(margins) * jax.grad(loss)(logits, labels)[:, 0].astype(jnp.float32)
        errors[name] = np.abs(np.asarray(gradients, np.float64) / truth - 1)
    return errors


def train(way: tuple, seed: int, data: list[np.ndarray], steps: int, bar: tqdm) -> np.ndarray:
    """Loss on the digits to learn from and accuracy on the others, as training goes `[., 2]`."""
    dtype, loss = way
    images, test_images, labels, test_labels = data

    @jax.jit
    def step(weights: Weights, state: optax.OptState, rows: np.ndarray) -> tuple:
        gradients = jax.grad(
            lambda weights: loss(network(weights, images[rows], dtype), labels[rows])
        )(weights)
        updates, state = OPTIMIZER.update(gradients, state)
        return optax.apply_updates(weights, updates), state

    @jax.jit
    def judge(weights: Weights) -> jax.Array:
        test = network(weights, test_images, dtype).argmax(-1) == test_labels
        # Judged by the same loss, whatever it was trained by.
        return jnp.stack([in_float32(network(weights, images, dtype), labels), test.mean()])

    keys, make = jax.random.split(jax.random.key(seed)), jax.nn.initializers.he_normal()
    weights = {
        "W1": make(keys[0], (images.shape[1], HIDDEN)),
        "b1": jnp.zeros(HIDDEN),
        "W2": make(keys[1], (HIDDEN, CLASSES)),
        "b2": jnp.zeros(CLASSES),
    }
    state, random, history = OPTIMIZER.init(weights), np.random.default_rng(seed), []
    for number in range(steps):
        weights, state = step(weights, state, random.integers(len(labels), size=64))
        if number % 20 == 19:
            history.append(judge(weights))
            bar.update(20)
    return np.array(history)


def draw(margins: np.ndarray, errors: dict, histories: dict, title: str) -> Figure:
    picture, axes = common.figure(title, "ab", (12, 4.5))
    for name, error in errors.items():
        axes["a"].semilogy(
            margins, np.maximum(error, 1e-4), **{**LOOKS[name], "marker": None}, label=name
        )
    for name, history in histories.items():
        steps = 20 * np.arange(1, len(history) + 1)
        axes["b"].semilogy(steps, history[:, 0], **{**LOOKS[name], "marker": None}, label=name)
    axes["a"].set(
        title="(a) Error of the gradient",
        xlabel="lead of the right logit",
        ylabel="relative; 1 is all of it",
    )
    axes["b"].set(title="(b) Digits", xlabel="step", ylabel="mean cross-entropy")
    axes["a"].legend()
    axes["b"].legend()
    return picture


def main(argv: Sequence[str] | None = None, *, steps: int = 600) -> None:
    parser = common.Parser(__doc__)
    add = parser.add_argument
    add("--seed", type=common.between(0, 2**31), default=0, help="of weights and batches")
    add("--out", type=common.picture_path, default="out/half_precision.png", help="picture")
    options = parser.parse_args(argv)

    margins = np.linspace(0, 16, 129)
    errors = errors_of_gradients(margins)
    print("Relative error of the gradient in bfloat16, by the lead of the right logit")
    print(f"{'lead':<28}" + "".join(f"{lead:>9}" for lead in (2, 4, 8, 12, 16)))
    for name, error in errors.items():
        print(f"{name:<28}" + "".join(f"{error[8 * lead]:9.1%}" for lead in (2, 4, 8, 12, 16)))

    images, labels = load_digits(return_X_y=True)
    images = images.astype(np.float32) / 16
    data = train_test_split(
        images, labels, test_size=450, stratify=labels, random_state=options.seed
    )
    data = [jnp.array(x) for x in data]
    with tqdm(total=steps * len(WAYS), unit="step") as bar:
        histories = {name: train(way, options.seed, data, steps, bar) for name, way in WAYS.items()}
    print(f"\n{'after ' + str(steps) + ' steps on digits':<28}{'loss':>12}{'test right':>12}")
    for name, history in histories.items():
        loss, right = history[-1]
        print(f"{name:<28}{loss:12.5f}{right:12.1%}")
    at_8 = {name: f"{error[64]:.1%}" for name, error in errors.items()}
    ends = ", ".join(f"{history[-1, 0]:.1e}" for history in histories.values())
    text = (
        "At a lead of 8 the gradient by jaxloss is off by "
        f"{at_8['bfloat16, loss by jaxloss']}, by hand by {at_8['bfloat16, loss by hand']};\n"
        f"the losses end at {ends} (float32, jaxloss, by hand)"
    )
    print(text)
    common.save(draw(margins, errors, histories, text), options.out)


if __name__ == "__main__":
    main()
