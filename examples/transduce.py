"""Which digits pass by, and when? A small transducer reads strips of handwriting as they come.

Handwritten digits pass a reader column by column, like symbols in speech: some twice as slow as
others, with gaps between them. It hears only what has passed, and has to say the digits in order;
nobody tells it where one ends. Three ways to train it: CTC, which says at most one digit in a frame
and does not know what it said before; RNN-T, `rnnt_loss`, which does; and RNN-T with FastEmit
(`--haste`), which is to say digits as soon as they are known. How many are wrong, and how late?
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
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from tqdm import tqdm

import jaxloss

COLUMNS, MOST, STRIDE = 60, 3, 2  # of a strip; digits in it; columns in a frame
BLANK, SYMBOLS = 0, 11  # digit d is symbol d + 1
BATCH, WIDTH, AT_ONCE = 32, 64, 2  # strips, features of the network, symbols in a frame
CTC, RNNT, EARLY = "CTC", "RNN-T", "RNN-T, FastEmit"
LOOKS = dict(zip((CTC, RNNT, EARLY), common.LOOKS, strict=False))


class Strips(NamedTuple):
    """Columns of ink `[strips, COLUMNS, 8]`, symbols, where each ends, and both paddings."""

    ink: np.ndarray
    symbols: np.ndarray
    ends: np.ndarray
    late: np.ndarray
    spare: np.ndarray


def strips(count: int, images: np.ndarray, digits: np.ndarray, rng: np.random.Generator) -> Strips:
    """Strips of two or three digits, each as wide as it is or twice, and gaps."""
    ink = rng.normal(0, 0.05, (count, COLUMNS, 8)).astype(np.float32)
    symbols, ends = np.zeros((2, count, MOST), np.int32)
    late, spare = (
        np.ones((count, COLUMNS // STRIDE), np.float32),
        np.ones((count, MOST), np.float32),
    )
    for i in range(count):
        at = 0
        for n in range(rng.integers(2, MOST + 1)):
            at += rng.integers(0, 3)
            chosen = rng.integers(len(images))
            glyph = np.repeat(images[chosen].T, rng.integers(1, 3), axis=0)
            ink[i, at : at + len(glyph)] += glyph
            at += len(glyph)
            symbols[i, n], ends[i, n], spare[i, n] = digits[chosen] + 1, at, 0
        late[i, : -(-(at + 6) // STRIDE)] = 0
    return Strips(ink, symbols, ends, late, spare)


class Reader(nnx.Module):
    """What has passed, as features of each frame; and logits of those and of the last symbol."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        def layer(inputs: int, stride: int = 1) -> nnx.Conv:
            return nnx.Conv(inputs, WIDTH, 5, strides=stride, padding="CAUSAL", rngs=rngs)

        def norm() -> nnx.LayerNorm:
            return nnx.LayerNorm(WIDTH, rngs=rngs)

        self.layers = nnx.Sequential(
            *(layer(8), norm(), nnx.relu),
            *(layer(WIDTH, STRIDE), norm(), nnx.relu),
            *(layer(WIDTH), norm()),
        )
        self.said = nnx.Embed(SYMBOLS, WIDTH, rngs=rngs)
        self.logits = nnx.Linear(WIDTH, SYMBOLS, rngs=rngs)

    def of_frames(self, ink: jax.Array) -> jax.Array:
        return self.layers(ink)

    def joined(self, frame: jax.Array, before: jax.Array) -> jax.Array:
        """Logits after a symbol; the blank stands for none."""
        return self.logits(jnp.tanh(frame + self.said(before)))


def ctc(model: Reader, data: Strips) -> jax.Array:
    frames = model.of_frames(data.ink)
    logits = model.joined(frames, jnp.zeros(frames.shape[:2], jnp.int32))
    return jaxloss.ctc_loss(logits, data.late, data.symbols, data.spare, reduction="mean")


def rnnt(haste: float) -> Callable[[Reader, Strips], jax.Array]:
    def loss(model: Reader, data: Strips) -> jax.Array:
        before = jnp.pad(data.symbols, ((0, 0), (1, 0)))
        frames = model.of_frames(data.ink)
        logits = model.joined(frames[:, :, None], before[:, None])
        return jaxloss.rnnt_loss(
            logits,
            data.late,
            data.symbols,
            data.spare,
            fastemit_lambda=haste,
            reduction="mean",
        )

    return loss


@nnx.jit(static_argnames="transducer")
def read(model: Reader, ink: jax.Array, transducer: bool) -> jax.Array:
    """The likeliest step at a time: symbols `[strips, frames, AT_ONCE]`, blanks among them."""
    frames = model.of_frames(ink).swapaxes(0, 1)
    first = jnp.zeros(len(ink), jnp.int32)

    def of_transducer(before: jax.Array, frame: jax.Array) -> tuple[jax.Array, jax.Array]:
        said = []
        for _ in range(AT_ONCE):
            best = jnp.argmax(model.joined(frame, before), -1)
            if said:  # After a blank the frame is over.
                best = jnp.where(said[-1] == BLANK, BLANK, best)
            before = jnp.where(best == BLANK, before, best)
            said.append(best)
        return before, jnp.stack(said, -1)

    def of_ctc(before: jax.Array, frame: jax.Array) -> tuple[jax.Array, jax.Array]:
        best = jnp.argmax(model.joined(frame, jnp.zeros_like(first)), -1)
        said = jnp.where(best == before, BLANK, best)
        return best, jnp.stack([said, jnp.full_like(said, BLANK)], -1)

    return jax.lax.scan(of_transducer if transducer else of_ctc, first, frames)[1].swapaxes(0, 1)


def edits(said: Sequence[int], wanted: Sequence[int]) -> int:
    """How many symbols are to be changed, left out or put in."""
    row = list(range(len(wanted) + 1))
    for i, a in enumerate(said, 1):
        last, row[0] = row[0], i
        for j, b in enumerate(wanted, 1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (a != b))
    return row[-1]


class Score(NamedTuple):
    """Wrong symbols in a hundred, and how many columns after a digit's end it is said."""

    wrong: float
    delay: float


def score(said: np.ndarray, data: Strips) -> Score:
    """Delays are those of strips that are read right."""
    wrong, delays = 0, []
    for found, symbols, spare, late, ends in zip(
        said, data.symbols, data.spare, data.late, data.ends, strict=True
    ):
        frames, places = np.nonzero(found * (late == 0)[:, None])
        heard, wanted = found[frames, places].tolist(), symbols[spare == 0].tolist()
        wrong += edits(heard, wanted)
        if heard == wanted:
            delays += (STRIDE * (frames + 1) - ends[spare == 0]).tolist()
    delay = float(np.mean(delays)) if delays else np.nan
    return Score(100 * wrong / float((data.spare == 0).sum()), delay)


def train(
    objective: Callable[[Reader, Strips], jax.Array],
    transducer: bool,
    training: Strips,
    unseen: Strips,
    seed: int,
    epochs: int,
    bar: tqdm,
) -> tuple[list[Score], np.ndarray]:
    """The scores after each epoch, and what is said in the end."""
    steps = len(training.ink) // BATCH
    model = Reader(nnx.Rngs(seed))
    schedule = optax.cosine_decay_schedule(0.006, epochs * steps)
    optimizer = nnx.Optimizer(model, optax.adam(schedule), wrt=nnx.Param)

    @nnx.jit
    def step(model: Reader, optimizer: nnx.Optimizer, batch: Strips) -> None:
        optimizer.update(model, nnx.grad(objective)(model, batch))

    rng, scores = np.random.default_rng(seed), []
    said = np.zeros(())
    for _ in range(epochs):
        for rows in rng.permutation(len(training.ink))[: steps * BATCH].reshape(steps, BATCH):
            step(model, optimizer, Strips(*(x[rows] for x in training)))
        said = np.asarray(read(model, unseen.ink, transducer))
        scores.append(score(said, unseen))
        bar.update()
    return scores, said


def table(scores: dict[str, Score]) -> str:
    lines = [f"{'':<18}{'wrong digits':>14}{'said after the end':>22}"]
    for name, found in scores.items():
        lines.append(f"{name:<18}{found.wrong:>12.1f} %{found.delay:>14.1f} columns")
    return "\n".join(lines)


def verdict(scores: dict[str, Score]) -> str:
    """What one sees, in a line."""
    plain, early = scores[RNNT], scores[EARLY]
    best = min(scores, key=lambda name: scores[name].wrong)
    gain = plain.delay - early.delay
    says = f"{abs(gain):.1f} columns {'earlier' if gain > 0 else 'later'}"
    return (
        f"Fewest wrong: {best}, {scores[best].wrong:.1f} % of the digits. "
        f"With FastEmit digits are said {says}, {early.wrong:.1f} % wrong for {plain.wrong:.1f} %."
    )


def draw(
    history: dict[str, list[Score]], said: dict[str, np.ndarray], unseen: Strips, title: str
) -> Figure:
    picture, axes = common.figure(title, "ab;cc", (13, 7))
    for name, found in history.items():
        epochs = np.arange(1, len(found) + 1)
        axes["a"].plot(epochs, [x.wrong for x in found], **LOOKS[name], label=name)
        axes["b"].plot(epochs, [x.delay for x in found], **LOOKS[name], label=name)
    axes["a"].set(title="(a) Wrong digits", xlabel="epoch", ylabel="wrong, of 100", ylim=(0, None))
    axes["b"].set(title="(b) Delay, of strips that are read right", xlabel="epoch")
    axes["b"].set_ylabel("columns after the digit's end")
    axes["a"].legend()
    longest = int(np.argmax(unseen.ends.max(1)))
    strip, heights = axes["c"], {name: 8.8 + 1.6 * i for i, name in enumerate(said)}
    strip.imshow(unseen.ink[longest].T, cmap="Greys", extent=(0, COLUMNS, 8, 0), aspect="auto")
    for end in unseen.ends[longest][unseen.spare[longest] == 0]:
        strip.axvline(end, color="gray", linestyle=":", linewidth=1)
    for name, found in said.items():
        frames, places = np.nonzero(found[longest] * (unseen.late[longest] == 0)[:, None])
        for frame, place in zip(frames, places, strict=True):
            text = str(found[longest, frame, place] - 1)
            at = STRIDE * (frame + 1), heights[name]
            strip.text(
                *at, text, color=LOOKS[name]["color"], ha="center", va="center", weight="bold"
            )
    strip.set(title="(c) A strip, and when its digits are said", xlabel="column", ylim=(12.9, 0))
    strip.set_yticks(list(heights.values()), list(heights))
    strip.grid(visible=False)
    return picture


def main(
    argv: Sequence[str] | None = None, *, count: int = 3200, tested: int = 300, epochs: int = 9
) -> None:
    parser = common.Parser(__doc__)
    add = parser.add_argument
    add("--seed", type=common.between(0, 2**32 - 1), default=0, help="of strips and networks")
    add("--haste", type=common.between(0.0, 1.0), default=0.05, help="FastEmit's weight")
    add("--out", type=common.picture_path, default="out/transduce.png", help="picture")
    options = parser.parse_args(argv)

    inks, digits = load_digits(return_X_y=True)
    images = inks.reshape(-1, 8, 8) / 16
    seen = train_test_split(images, digits, test_size=0.3, random_state=0)
    rng = np.random.default_rng(options.seed)
    training, unseen = strips(count, seen[0], seen[2], rng), strips(tested, seen[1], seen[3], rng)
    ways = {CTC: ctc, RNNT: rnnt(0.0), EARLY: rnnt(options.haste)}
    history, said = {}, {}
    with tqdm(total=epochs * len(ways), unit="epoch") as bar:
        for name, objective in ways.items():
            bar.set_description(name)
            found = train(objective, name != CTC, training, unseen, options.seed, epochs, bar)
            history[name], said[name] = found

    scores = {name: found[-1] for name, found in history.items()}
    print(f"{tested} strips of digits by hands that were not seen in training")
    print(table(scores))
    text = verdict(scores)
    print(text)
    common.save(draw(history, said, unseen, text), options.out)


if __name__ == "__main__":
    main()
