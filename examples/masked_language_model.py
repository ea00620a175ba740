"""A masked language model: guess the hidden letters of a text from those around them.

15 % of the letters of Python's own manual, which comes with Python, are hidden. The loss is the
cross-entropy of the hidden ones alone: `where` leaves the others out, however many there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from pydoc_data.topics import topics

import _common as common
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from matplotlib.figure import Figure
from tqdm import trange

import jaxloss

LETTERS = "abcdefghijklmnopqrstuvwxyz .,'()-*=\n"
OTHER, MASK, VOCABULARY = len(LETTERS), len(LETTERS) + 1, len(LETTERS) + 2
HIDDEN_PART = 0.15
LENGTH = 64


def manual() -> tuple[np.ndarray, np.ndarray]:
    """The manual as tokens, in rows of LENGTH; the last tenth of it is the test."""
    numbers = {letter: number for number, letter in enumerate(LETTERS)}
    text = " ".join("\n".join(topics.values()).lower().split(" ")).replace("  ", "")
    tokens = np.array([numbers.get(letter, OTHER) for letter in text])
    rows = tokens[: len(tokens) // LENGTH * LENGTH].reshape(-1, LENGTH)
    return np.split(rows, [9 * len(rows) // 10])


class Network(nnx.Module):
    """Convolutions that look to both sides; logits `[batch, LENGTH, VOCABULARY]`."""

    def __init__(self, width: int, rngs: nnx.Rngs) -> None:
        self.tokens = nnx.Embed(VOCABULARY, width, rngs=rngs)
        self.layers = nnx.List([nnx.Conv(width, width, 5, rngs=rngs) for _ in range(3)])
        self.last = nnx.Linear(width, VOCABULARY, rngs=rngs)

    def __call__(self, tokens: jax.Array) -> jax.Array:
        x = self.tokens(tokens)
        for layer in self.layers:
            x = x + nnx.gelu(layer(x))
        return self.last(x)


def hide(key: jax.Array, tokens: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The tokens with some of them hidden, and which."""
    hidden = jax.random.bernoulli(key, HIDDEN_PART, tokens.shape)
    return jnp.where(hidden, MASK, tokens), hidden


def mean_loss(model: Network, tokens: jax.Array, key: jax.Array) -> jaxloss.Mean:
    given, hidden = hide(key, tokens)
    cross_entropy = jaxloss.softmax_cross_entropy_with_integer_labels
    return jaxloss.Mean.of(cross_entropy, model(given), tokens, where=hidden)


@nnx.jit
def train_step(model: Network, optimizer: nnx.Optimizer, tokens, key: jax.Array) -> jax.Array:
    def loss(model: Network) -> jax.Array:
        return mean_loss(model, tokens, key).value()

    value, gradients = nnx.value_and_grad(loss)(model)
    optimizer.update(model, gradients)
    return value


@nnx.jit
def guesses(model: Network, given: jax.Array) -> jax.Array:
    # A letter is neither hidden nor unknown.
    return model(given)[..., :OTHER].argmax(-1)


def draw(losses: list, tests: list, shown: tuple[np.ndarray, ...], title: str) -> Figure:
    """The losses, and lines of the test: the hidden letters in the colour of right or wrong."""
    picture, axes = common.figure(title, "ab", (13, 4.5))
    axes["a"].plot(1 + np.arange(len(losses)), losses, color="0.7", label="of a batch")
    axes["a"].plot(*zip(*tests, strict=True), **common.LOOKS[0], label="of the test")
    axes["a"].set(title="(a) Cross-entropy of hidden letters", xlabel="step")
    axes["a"].legend()
    for row, (tokens, hidden, guess) in enumerate(zip(*shown, strict=True)):
        for column in range(LENGTH):
            right = tokens[column] == guess[column]
            color = ("#009E73" if right else "#D55E00") if hidden[column] else "0.4"
            number = guess[column] if hidden[column] else tokens[column]
            letter = (LETTERS + "~")[number].replace("\n", "¶").replace(" ", "_")
            weight = "bold" if hidden[column] else "normal"
            place = (column + 0.5, row + 0.5)
            axes["b"].text(
                *place,
                letter,
                color=color,
                weight=weight,
                ha="center",
                family="monospace",
                fontsize=8,
            )
    axes["b"].set(title="(b) Hidden letters: guessed right green, wrong red")
    axes["b"].set(xlim=(0, LENGTH), ylim=(len(shown[0]), 0))
    axes["b"].axis("off")
    return picture


def main(argv: Sequence[str] | None = None, *, steps: int = 300, width: int = 64) -> None:
    parser = common.Parser(__doc__)
    add = parser.add_argument
    add("--seed", type=common.between(0, 2**31), default=0, help="of the batches and the network")
    add("--out", type=common.picture_path, default="out/masked_language_model.png", help="picture")
    options = parser.parse_args(argv)

    train, test = manual()
    test = test[:: len(test) // 256]
    print(f"{train.size} letters to learn from, {test.size} to test")
    key = jax.random.key(options.seed)
    random = np.random.default_rng(options.seed)
    model = Network(width, nnx.Rngs(options.seed))
    schedule = optax.cosine_decay_schedule(0.01, steps)
    optimizer = nnx.Optimizer(model, optax.adam(schedule), wrt=nnx.Param)
    test_loss = nnx.jit(lambda model: mean_loss(model, test, key).value())

    losses, tests = [], []
    for step in (bar := trange(steps, unit="step")):
        tokens = train[random.integers(len(train), size=32)]
        losses.append(float(train_step(model, optimizer, tokens, jax.random.fold_in(key, step))))
        if step % 20 == 19:
            tests.append((step + 1, float(test_loss(model))))
            bar.set_description(f"loss {losses[-1]:.3f}, test {tests[-1][1]:.3f}")

    given, hidden = map(np.asarray, hide(key, jnp.array(test)))
    guess = np.asarray(guesses(model, given))
    right = 100 * (guess == test)[hidden].mean()
    common_letter = np.bincount(train.ravel()).argmax()
    base = 100 * (test == common_letter)[hidden].mean()
    print(f"{'':<26}{'cross-entropy':>14}{'right':>10}")
    shares = np.bincount(train.ravel(), minlength=VOCABULARY) / train.size
    entropy = -np.log(shares[test][hidden]).mean()
    print(f"{'by how common they are':<26}{entropy:14.3f}{base:8.1f} %")
    print(f"{'by those around them':<26}{tests[-1][1]:14.3f}{right:8.1f} %")
    text = f"Hidden letters of unseen text: {right:.0f} % guessed; the commonest are {base:.0f} %"
    print(text)
    common.save(draw(losses, tests, (test[:12], hidden[:12], guess[:12]), text), options.out)


if __name__ == "__main__":
    main()
