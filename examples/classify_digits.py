"""Which loss survives wrong labels? Handwritten digits, one small network, six ways to train it.

First with the labels as they are, then with most examples of two digits taken away, then with
more and more of the training labels wrong. The test labels are always right, and the figures are
averaged over several random splits of the digits.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import _common as common
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from tqdm import tqdm

import jaxloss

CLASSES, TEST, BATCH = 10, 450, 64  # of the 1797 digits a quarter is the test
RARE, KEPT = (3, 8), 8  # digits that are easily confused, and how many of each are left
LEVELS = (0.0, 0.2, 0.4, 0.6)
UNKNOWN = -1  # the label of an example that is taken away
HOLDS = 0.06  # a loss holds if it loses less accuracy than this

cross_entropy = jaxloss.softmax_cross_entropy_with_integer_labels
LOSSES = {
    "Cross-entropy": cross_entropy,
    "Label smoothing 0.1": partial(cross_entropy, label_smoothing=0.1),
    "Generalized CE": jaxloss.generalized_cross_entropy,
    "Symmetric CE": jaxloss.symmetric_cross_entropy,
}
SHOWN = ("Cross-entropy", "Generalized CE")  # in the picture of the digits
LOOKS = dict(zip(LOSSES, common.LOOKS, strict=False))


class Problem(NamedTuple):
    """A split of the digits. `given` are the labels to learn from, `labels` the true ones."""

    inputs: np.ndarray
    given: np.ndarray
    labels: np.ndarray
    test_inputs: np.ndarray
    test_labels: np.ndarray


class Scores(NamedTuple):
    """How the networks do.

    Attributes:
        accuracy: On the test, after each epoch.
        recall: The part of each digit's test examples that is known in the end, `[..., CLASSES]`.
        learnt: The part of the wrong training labels that it gives back.
        guesses: What it takes the training examples for, `[..., examples]`.
    """

    accuracy: jax.Array
    recall: jax.Array
    learnt: jax.Array
    guesses: jax.Array


@functools.cache
def split_digits(seed: int) -> tuple[np.ndarray, ...]:
    """Training and test inputs, training and test labels: pixels from 0 to 1, labels 0 to 9."""
    inputs, labels = load_digits(return_X_y=True)
    inputs, labels = (inputs / 16).astype(np.float32), labels.astype(np.int32)
    return train_test_split(inputs, labels, test_size=TEST, stratify=labels, random_state=seed)


def mislabelled(split: int, level: float) -> Problem:
    """A part `level` of the training labels is any of the nine wrong ones."""
    inputs, test_inputs, labels, test_labels = split_digits(split)
    random = np.random.default_rng(split)
    order, shift = random.permutation(len(labels)), random.integers(1, CLASSES, len(labels))
    wrong, given = order[: round(level * len(labels))], labels.copy()
    given[wrong] = (labels[wrong] + shift[wrong]) % CLASSES
    return Problem(inputs, given, labels, test_inputs, test_labels)


def imbalanced(split: int) -> Problem:
    """Of the `RARE` digits, only `KEPT` examples each have a label."""
    inputs, test_inputs, labels, test_labels = split_digits(split)
    given = labels.copy()
    for digit in RARE:
        given[np.flatnonzero(labels == digit)[KEPT:]] = UNKNOWN
    return Problem(inputs, given, labels, test_inputs, test_labels)


def balancing(problems: Sequence[Problem]) -> np.ndarray:
    """Weights by which every digit counts the same, `[CLASSES]`."""
    given = np.concatenate([problem.given for problem in problems])
    counts = np.bincount(given[given != UNKNOWN], minlength=CLASSES)
    return (counts.sum() / (CLASSES * counts)).astype(np.float32)


def train(
    loss: Callable, problems: Sequence[Problem], seed: int, epochs: int, hidden: int, bar: tqdm
) -> Scores:
    """Train one network per problem, all of them at once; scores `[..., problems, ...]`."""
    data = Problem(*(jnp.stack(arrays) for arrays in zip(*problems, strict=True)))
    steps = data.given.shape[1] // BATCH

    @nnx.vmap
    def start(key: jax.Array) -> tuple[nnx.Module, nnx.Optimizer]:
        rngs = nnx.Rngs(key)
        layers = nnx.Linear(64, hidden, rngs=rngs), nnx.relu, nnx.Linear(hidden, 10, rngs=rngs)
        model = nnx.Sequential(*layers)
        schedule = optax.cosine_decay_schedule(0.003, epochs * steps)
        return model, nnx.Optimizer(model, optax.adam(schedule), wrt=nnx.Param)

    @nnx.jit
    @nnx.vmap(in_axes=(0, 0, 0, None))
    def epoch(
        model: nnx.Module, optimizer: nnx.Optimizer, data: Problem, key: jax.Array
    ) -> jax.Array:
        @nnx.scan(in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
        def step(networks: tuple, batch: jax.Array) -> tuple:
            model, optimizer = networks
            inputs, given = data.inputs[batch], data.given[batch]

            def objective(model: nnx.Module) -> jax.Array:
                return loss(model(inputs), given, where=given != UNKNOWN, reduction="mean")

            optimizer.update(model, nnx.grad(objective)(model))
            return model, optimizer

        order = jax.random.permutation(key, len(data.given))
        step((model, optimizer), order[: steps * BATCH].reshape(steps, BATCH))

        return jnp.mean(model(data.test_inputs).argmax(-1) == data.test_labels)

    @nnx.jit
    @nnx.vmap
    def judge(model: nnx.Module, data: Problem) -> tuple[jax.Array, ...]:
        right = model(data.test_inputs).argmax(-1) == data.test_labels
        digits = data.test_labels == jnp.arange(CLASSES)[:, None]
        guesses = model(data.inputs).argmax(-1)
        wrong = (data.given != data.labels) & (data.given != UNKNOWN)
        learnt = (wrong & (guesses == data.given)).sum() / jnp.maximum(wrong.sum(), 1)
        return (right & digits).sum(1) / digits.sum(1), learnt, guesses

    first, *keys = jax.random.split(jax.random.key(seed), epochs + 1)
    model, optimizer = start(jax.random.split(first, len(problems)))
    history = []
    for key in keys:
        history.append(epoch(model, optimizer, data, key))
        bar.update()
    return Scores(np.stack(history), *map(np.asarray, judge(model, data)))


def table(scores: dict[str, Scores], levels: Sequence[float], chosen: int) -> str:
    """The last test accuracies at each level, mean and deviation over the splits, in percent."""
    heads = [f"{100 * level:.3g} %" for level in levels]
    lines = [f"{'wrong training labels':<22}" + "".join(f"{head:>13}" for head in heads)]
    lines[0] += f"{'learnt of ' + heads[chosen]:>19}"
    for name, score in scores.items():
        texts = [f"{100 * part.mean():.1f} ± {100 * part.std():.1f}" for part in score.accuracy[-1]]
        learnt = f"{100 * score.learnt[chosen].mean():.1f}"
        lines.append(f"{name:<22}" + "".join(f"{text:>13}" for text in texts) + f"{learnt:>19}")
    return "\n".join(lines)


def verdict(accuracy: dict[str, tuple[float, float]], level: float) -> str:
    """What one sees, in two lines, from the accuracies without and with wrong labels."""

    def says(name: str) -> str:
        clean, noisy = accuracy[name]
        verb = "holds" if clean - noisy < HOLDS else "suffers"
        return f"{name} {verb} ({100 * clean:.1f} to {100 * noisy:.1f} %)"

    parts = [says(name) for name in ("Cross-entropy", "Generalized CE", "Symmetric CE")]
    labels = f"Test accuracy with {100 * level:.3g} % of the training labels wrong"
    return f"{labels}: {parts[0]};\n{parts[1]}; {parts[2]}."


def weighing(plain: float, weighted: float) -> str:
    """What class weights do to the balanced accuracy."""
    verb = "raise" if weighted > plain else "do not raise"
    return (
        f"Class weights {verb} the balanced accuracy: "
        f"{100 * plain:.1f} % without, {100 * weighted:.1f} % with them."
    )


def draw_digits(panel: Axes, problem: Problem, guesses: dict[str, np.ndarray]) -> None:
    """Some training digits, the wrong labels that they came with, and what the networks say."""
    shown = np.flatnonzero(problem.given != problem.labels)[:12]
    answers = {"given": problem.given, **guesses}
    for place, example in enumerate(shown):
        picture = problem.inputs[example].reshape(8, 8)
        panel.imshow(picture, cmap="gray_r", extent=(place, place + 0.9, 0, 0.9), vmin=0, vmax=1)
    for row, (name, labels) in enumerate(answers.items()):
        height = -0.2 - 0.3 * row
        panel.text(-0.1, height, name, ha="right", va="center")
        for place, example in enumerate(shown):
            right = labels[example] == problem.labels[example]
            style = {"color": "#009E73" if right else "#D55E00", "weight": "bold"}
            panel.text(place + 0.45, height, labels[example], ha="center", va="center", **style)
    panel.set(xlim=(-1.6, 12), ylim=(-0.3 * len(answers) - 0.1, 1))
    panel.set_title("(d) Training digits with wrong labels, and what the networks then say")
    panel.axis("off")


def draw(
    scores: dict[str, Scores],
    balance: dict[str, Scores],
    levels: Sequence[float],
    chosen: int,
    title: str,
) -> tuple[Figure, dict]:
    """The picture and its panels by letter; the last, "d", is left free."""
    picture, axes = common.figure(title, "abc;ddd", (15, 7))
    picture.get_layout_engine().set(hspace=0.06)
    for name, score in scores.items():
        look = {**LOOKS[name], "label": name}
        accuracy = 100 * score.accuracy.mean(-1)
        axes["a"].plot(100 * np.array(levels), accuracy[-1], **look)
        epochs = np.arange(1, len(accuracy) + 1)
        every = max(1, len(epochs) // 8)
        axes["b"].plot(epochs, accuracy[:, chosen], **look, markevery=every)
    for place, (name, score) in enumerate(balance.items()):
        recall = 100 * score.recall.mean(0)
        look = {"color": common.LOOKS[(0, 2)[place]]["color"], "label": name}
        axes["c"].bar(np.arange(CLASSES) + 0.4 * (place - 0.5), recall, 0.4, **look)
    percent = f"{100 * levels[chosen]:.3g} % of labels wrong"
    axes["a"].set(title="(a) After training", xlabel="wrong training labels [%]")
    axes["b"].set(title=f"(b) While training, {percent}", xlabel="epoch")
    few = f"(c) Only {KEPT} examples of {RARE[0]} and of {RARE[1]}"
    axes["c"].set(title=few, xlabel="digit", ylabel="recall on test [%]", xticks=range(CLASSES))
    for panel in (axes["a"], axes["b"]):
        panel.set_ylabel("accuracy on right test labels [%]")
    axes["a"].legend(loc="lower left")
    axes["c"].legend(loc="lower right", framealpha=0.95)
    return picture, axes


def main(
    argv: Sequence[str] | None = None,
    *,
    splits: int = 3,
    epochs: int = 60,
    hidden: int = 256,
    levels: Sequence[float] = LEVELS,
) -> None:
    parser = common.Parser(__doc__)
    add = parser.add_argument
    add("--seed", type=common.between(0, 2**32 - 1), default=0, help="of splits and networks")
    add("--noise", type=common.between(0.0, 0.8), default=0.4, help="part of wrong labels, to 0.8")
    add("--out", type=common.picture_path, default="out/classify_digits.png", help="picture")
    options = parser.parse_args(argv)

    seeds = [int(seed) for seed in np.random.SeedSequence(options.seed).generate_state(splits)]
    levels = sorted({*levels, options.noise})
    chosen = levels.index(options.noise)
    noisy = [mislabelled(split, level) for level in levels for split in seeds]
    few = [imbalanced(split) for split in seeds]
    weighted = partial(cross_entropy, class_weights=balancing(few))
    runs = {
        **{name: (loss, noisy) for name, loss in LOSSES.items()},
        "without class weights": (cross_entropy, few),
        "with class weights": (weighted, few),
    }
    scores = {}
    with tqdm(total=epochs * len(runs), unit="epoch") as bar:
        for name, (loss, problems) in runs.items():
            bar.set_description(f"{len(problems)} networks, {name}")
            scores[name] = train(loss, problems, options.seed, epochs, hidden, bar)
    balance = {name: scores.pop(name) for name in list(runs)[-2:]}
    shape = len(levels), splits
    by_level = {
        name: score._replace(
            accuracy=score.accuracy.reshape(-1, *shape), learnt=score.learnt.reshape(shape)
        )
        for name, score in scores.items()
    }

    print(f"Test accuracy in percent, mean ± deviation of {splits} splits")
    print(table(by_level, levels, chosen))
    accuracy = {name: score.accuracy[-1].mean(-1) for name, score in by_level.items()}
    text = verdict({name: (row[0], row[chosen]) for name, row in accuracy.items()}, options.noise)
    print(f"{text}\n")

    rare = " and ".join(map(str, RARE))
    print(f"Cross-entropy with only {KEPT} training examples of {RARE[0]} and of {RARE[1]}")
    print(f"{'':<22}{'balanced accuracy':>19}{'recall of ' + rare:>21}")
    means = {name: score.recall.mean(0) for name, score in balance.items()}
    for name, recall in means.items():
        print(f"{name:<22}{100 * recall.mean():19.1f}{100 * recall[list(RARE)].mean():21.1f}")
    print(weighing(*(recall.mean() for recall in means.values())))

    picture, panels = draw(by_level, balance, levels, chosen, text)
    guesses = {name: scores[name].guesses[chosen * splits] for name in SHOWN}
    draw_digits(panels["d"], noisy[chosen * splits], guesses)
    common.save(picture, options.out)


if __name__ == "__main__":
    main()
