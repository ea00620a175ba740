"""DPO from logits to answers: which way is a list to be sorted? Preferences teach it.

A small causal transformer first learns to sort digits, upwards or downwards by chance. Then it sees
pairs of answers, of which the upward one is preferred. It ends as it should if it sorts upwards,
and still sorts. Reward accuracy and margin are those that trainers of language models print.
"""

from __future__ import annotations

from collections.abc import Sequence

import _common as common
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from tqdm import trange

import jaxloss

# A sequence: up to LONGEST digits, the sign ":", the same digits sorted, the sign ".", padding.
COLON, STOP, PADDING, VOCABULARY = 10, 11, 12, 13
SHORTEST, LONGEST = 3, 5
LENGTH = 2 * LONGEST + 2
BETA = 0.5


class Transformer(nnx.Module):
    """Logits `[batch, tokens, VOCABULARY]`; those at t are of token t + 1."""

    def __init__(self, width: int, rngs: nnx.Rngs) -> None:
        def attention() -> nnx.MultiHeadAttention:
            return nnx.MultiHeadAttention(4, width, decode=False, rngs=rngs)

        def dense() -> nnx.Sequential:
            inner = nnx.Linear(width, 4 * width, rngs=rngs)
            return nnx.Sequential(inner, nnx.gelu, nnx.Linear(4 * width, width, rngs=rngs))

        def norms() -> nnx.List:
            return nnx.List([nnx.LayerNorm(width, rngs=rngs) for _ in range(2)])

        self.tokens = nnx.Embed(VOCABULARY, width, rngs=rngs)
        self.places = nnx.Embed(LENGTH, width, rngs=rngs)
        self.blocks = nnx.List([nnx.List([norms(), attention(), dense()]) for _ in range(2)])
        self.last = nnx.Linear(width, VOCABULARY, rngs=rngs)

    def __call__(self, tokens: jax.Array) -> jax.Array:
        mask = nnx.make_causal_mask(tokens)
        x = self.tokens(tokens) + self.places(jnp.arange(tokens.shape[-1]))
        for (before, between), attention, dense in self.blocks:
            x = x + attention(before(x), mask=mask)
            x = x + dense(between(x))
        return self.last(x)


def answers_and_masks(random: np.random.Generator, count: int) -> tuple[np.ndarray, ...]:
    """Lists sorted upwards, the same downwards, `[count, LENGTH]`, and which tokens answer."""
    up, down = np.full((2, count, LENGTH), PADDING)
    for row in range(count):
        size = random.integers(SHORTEST, LONGEST + 1)
        digits = random.choice(10, size, replace=False)
        for tokens, answer in ((up, sorted(digits)), (down, sorted(digits)[::-1])):
            tokens[row, : 2 * size + 2] = [*digits, COLON, *answer, STOP]
    answering = (np.cumsum(up == COLON, 1) > 0) & (up != COLON) & (up != PADDING)
    return up, down, answering


def log_probabilities(model: Transformer, tokens: jax.Array, answering: jax.Array) -> jax.Array:
    """Of each answer, `[batch]`: the prompt and the padding are left out by `where`."""
    logits = model(tokens)
    return jaxloss.sequence_log_probabilities(logits[:, :-1], tokens[:, 1:], where=answering[:, 1:])


def of_both(model: Transformer, up: jax.Array, down: jax.Array, answering: jax.Array) -> list:
    """The log-probabilities of both answers, in one pass through the model."""
    tokens, masks = jnp.concatenate([up, down]), jnp.concatenate([answering, answering])
    return jnp.split(log_probabilities(model, tokens, masks), 2)


@nnx.jit
def learn_to_sort(model: Transformer, optimizer: nnx.Optimizer, tokens, answering) -> jax.Array:
    def loss(model: Transformer) -> jax.Array:
        return -log_probabilities(model, tokens, answering).mean()

    value, gradients = nnx.value_and_grad(loss)(model)
    optimizer.update(model, gradients)
    return value


@nnx.jit
def learn_preferences(
    model: Transformer, reference: Transformer, optimizer: nnx.Optimizer, up, down, answering
) -> tuple[jax.Array, ...]:
    """One step of DPO: its loss, the accuracy of the rewards, and their means for both answers."""
    # Outside the differentiated function: the reference is held constant.
    reference_up, reference_down = of_both(reference, up, down, answering)

    def loss(model: Transformer) -> tuple[jax.Array, tuple]:
        chosen, rejected = of_both(model, up, down, answering)
        rewards = BETA * (chosen - reference_up), BETA * (rejected - reference_down)
        losses = jaxloss.dpo_loss(chosen, rejected, reference_up, reference_down, beta=BETA)
        return losses.mean(), rewards

    (value, (chosen, rejected)), gradients = nnx.value_and_grad(loss, has_aux=True)(model)
    optimizer.update(model, gradients)
    return value, (chosen > rejected).mean(), chosen.mean(), rejected.mean()


@nnx.jit
def logits_at(model: Transformer, tokens: jax.Array, place: jax.Array) -> jax.Array:
    return model(tokens)[:, place]


def answer(model: Transformer, tokens: np.ndarray, seed: int) -> np.ndarray:
    """The tokens with the answers that the model draws, one token after another."""
    prompt = np.cumsum(tokens == COLON, 1) - (tokens == COLON) == 0
    written = np.where(prompt, tokens, PADDING)
    for place, key in enumerate(jax.random.split(jax.random.key(seed), LENGTH - 1)):
        drawn = jax.random.categorical(key, logits_at(model, jnp.array(written), place))
        written[:, place + 1] = np.where(prompt, tokens, drawn[:, None])[:, place + 1]
    stopped = np.cumsum(written == STOP, 1) - (written == STOP) > 0
    return np.where(stopped, PADDING, written)


def main(
    argv: Sequence[str] | None = None, *, sorting: int = 300, steps: int = 40, width: int = 32
) -> None:
    parser = common.Parser(__doc__)
    add = parser.add_argument
    add("--seed", type=common.between(0, 2**31), default=0, help="of the digits and the model")
    add("--out", type=common.picture_path, default="out/align_preferences.png", help="picture")
    options = parser.parse_args(argv)

    random = np.random.default_rng(options.seed)
    test_up, test_down, _ = answers_and_masks(random, 500)
    model = Transformer(width, nnx.Rngs(options.seed))

    def ask(when: str) -> str:
        written = answer(model, test_up, options.seed)
        shares = [100 * (written == right).all(1).mean() for right in (test_up, test_down)]
        print(f"{when:<22}{shares[0]:8.1f} % upwards{shares[1]:8.1f} % downwards")
        return f"{shares[0]:.0f} %"

    schedule = optax.cosine_decay_schedule(0.006, sorting)
    optimizer = nnx.Optimizer(model, optax.adam(schedule), wrt=nnx.Param)
    for _ in (bar := trange(sorting, unit="step")):
        up, down, answering = answers_and_masks(random, 64)
        tokens = np.where(random.random((64, 1)) < 0.5, up, down)
        value = learn_to_sort(model, optimizer, tokens, answering)
        bar.set_description(f"sorting, loss {value:.3f}")
    before = ask("Before preferences")

    reference = nnx.clone(model)
    optimizer = nnx.Optimizer(model, optax.adam(1e-4), wrt=nnx.Param)
    history = []
    for _ in (bar := trange(steps, unit="step")):
        pair = answers_and_masks(random, 64)
        history.append([float(x) for x in learn_preferences(model, reference, optimizer, *pair)])
        bar.set_description("loss {:.3f}, accuracy {:.2f}".format(*history[-1]))
    after = ask("After preferences")

    print(f"{'step':>6}{'DPO loss':>12}{'reward accuracy':>18}{'reward margin':>16}")
    for step in sorted({0, steps // 4, steps // 2, steps - 1}):
        loss, accuracy, chosen, rejected = history[step]
        print(f"{step + 1:6}{loss:12.4f}{accuracy:18.3f}{chosen - rejected:16.3f}")
    text = f"Answers sorted upwards, as preferred: {before} before DPO, {after} after"
    print(text)

    picture, axes = common.figure(text, "abc", (12, 4))
    losses, accuracies, *rewards = zip(*history, strict=True)
    axes["a"].plot(1 + np.arange(steps), losses, color="black")
    axes["b"].plot(1 + np.arange(steps), accuracies, color="black")
    for curve, name, look in zip(rewards, ("upwards", "downwards"), common.LOOKS, strict=False):
        axes["c"].plot(1 + np.arange(steps), curve, color=look["color"], label=name)
    for letter, title in zip("abc", ("DPO loss", "Reward accuracy", "Mean reward"), strict=True):
        axes[letter].set(title=f"({letter}) {title}", xlabel="step")
    axes["c"].legend()
    common.save(picture, options.out)


if __name__ == "__main__":
    main()
