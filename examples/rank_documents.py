"""Who is to be seen first? Learning to rank patients by how far their disease will go.

One small network, trained to order lists by a softmax, by pairs (RankNet), by pairs that count for
what they change in NDCG (LambdaLoss), and, for comparison, to predict each grade for itself. Judged
by scikit-learn's NDCG of the first ten, on lists of patients that none of them has seen.
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
from sklearn.metrics import ndcg_score
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from tqdm import tqdm

import jaxloss

# A query is a clinic on one day: some patients out of the 442, of whom ten can be seen at once. The
# documents to be ranked are its patients, and the relevance of one is a grade from 0 to 4, the
# fifth of all patients that the progress of the disease in the next year falls into.
GRADES, FIRST = 5, 10
SHORTEST, LONGEST = 12, 40  # patients of a clinic
TEST, CLINICS = 150, 200  # patients that are held out, and clinics made of them
BATCH, STEPS = 16, 10  # clinics of a step, and steps between two evaluations
PLACES = np.arange(1, LONGEST + 1)

Loss = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]


def softmax(scores: jax.Array, grades: jax.Array, there: jax.Array) -> jax.Array:
    gains = 2**grades - 1
    return jaxloss.ranking_softmax_loss(scores, gains, where=there)


def ranknet(scores: jax.Array, grades: jax.Array, there: jax.Array) -> jax.Array:
    return jaxloss.pairwise_logistic_loss(scores, grades, where=there, reduction="mean")


def lambdaloss(scores: jax.Array, grades: jax.Array, there: jax.Array) -> jax.Array:
    weights = jaxloss.lambda_weights(scores, grades, kind="ndcg2++", where=there)
    losses = jaxloss.pairwise_logistic_loss(scores, grades, pair_weights=weights, where=there)
    return losses.mean()


def regression(scores: jax.Array, grades: jax.Array, there: jax.Array) -> jax.Array:
    return jaxloss.squared_error(scores, grades, where=there, reduction="mean")


LOSSES: dict[str, Loss] = {
    "Softmax": softmax,
    "RankNet": ranknet,
    "LambdaLoss": lambdaloss,
    "Squared error": regression,
}
LOOKS = dict(zip(LOSSES, common.LOOKS, strict=False))


class Patients(NamedTuple):
    """A split: measurements, and grades of the progress."""

    inputs: np.ndarray
    grades: np.ndarray
    test_inputs: np.ndarray
    test_grades: np.ndarray


class Clinics(NamedTuple):
    """Which patients a clinic has, `[clinics, LONGEST]`, and which of these places are taken."""

    patients: np.ndarray
    there: np.ndarray


class Results(NamedTuple):
    """How the networks rank.

    Attributes:
        ndcg: Of the first ten, after each evaluation, `[evaluations, splits]`.
        placed: The mean grade of those at each place, `[LONGEST]`.
    """

    ndcg: np.ndarray
    placed: np.ndarray


def split_patients(seed: int) -> Patients:
    inputs, progress = common.diabetes()
    edges = np.quantile(progress, np.arange(1, GRADES) / GRADES)
    grades = np.searchsorted(edges, progress).astype(np.float32)
    train, test, given, wanted = train_test_split(
        inputs, grades, test_size=TEST, stratify=grades, random_state=seed
    )
    scale = StandardScaler().fit(train)
    return Patients(scale.transform(train), given, scale.transform(test), wanted)


def clinics(seed: int, count: int, patients: int) -> Clinics:
    random = np.random.default_rng(seed)
    drawn = np.stack([random.permutation(patients)[:LONGEST] for _ in range(count)])
    sizes = random.integers(SHORTEST, LONGEST + 1, (count, 1))
    return Clinics(drawn, np.arange(LONGEST) < sizes)


def judge(scores: np.ndarray, grades: np.ndarray, days: np.ndarray) -> tuple[float, np.ndarray]:
    """NDCG of the first ten, and the grade at each place: means over full clinics."""
    scores, grades = scores[days], grades[days]
    ndcg = ndcg_score(2**grades - 1, scores, k=FIRST, ignore_ties=True)
    placed = np.take_along_axis(grades, np.argsort(-scores, -1), -1)
    return float(ndcg), placed.mean(0)


def train(loss: Loss, splits: Sequence[Patients], seed: int, rounds: int, bar: tqdm) -> Results:
    """Train a network for each split, all of them at once."""
    data = Patients(*(jnp.stack(arrays) for arrays in zip(*splits, strict=True)))

    @nnx.vmap
    def start(key: jax.Array) -> tuple[nnx.Module, nnx.Optimizer]:
        rngs = nnx.Rngs(key)
        model = nnx.Sequential(
            nnx.Linear(data.inputs.shape[-1], 32, rngs=rngs), nnx.relu, nnx.Linear(32, 1, rngs=rngs)
        )
        return model, nnx.Optimizer(model, optax.adamw(0.003, weight_decay=0.1), wrt=nnx.Param)

    @nnx.jit
    @nnx.vmap(in_axes=(0, 0, 0, None))
    def some_steps(
        model: nnx.Module, optimizer: nnx.Optimizer, data: Patients, days: Clinics
    ) -> jax.Array:
        @nnx.scan(in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
        def step(networks: tuple, day: Clinics) -> tuple:
            model, optimizer = networks
            inputs, grades = data.inputs[day.patients], data.grades[day.patients]

            def objective(model: nnx.Module) -> jax.Array:
                return loss(model(inputs)[..., 0], grades, day.there)

            optimizer.update(model, nnx.grad(objective)(model))
            return model, optimizer

        step((model, optimizer), days)
        return model(data.test_inputs)[..., 0]

    model, optimizer = start(jax.random.split(jax.random.key(seed), len(splits)))
    judged = [clinics(seed + i, CLINICS, TEST).patients for i in range(len(splits))]
    history, placed = [], []
    for number in range(rounds):
        days = clinics(seed + 1000 + number, STEPS * BATCH, data.inputs.shape[1])
        days = Clinics(*(x.reshape(STEPS, BATCH, LONGEST) for x in days))
        scores = np.asarray(some_steps(model, optimizer, data, days))
        found = [
            judge(score, split.test_grades, days)
            for score, split, days in zip(scores, splits, judged, strict=True)
        ]
        history.append([ndcg for ndcg, _ in found])
        placed = [grades for _, grades in found]
        bar.update()
    return Results(np.array(history), np.mean(placed, 0))


def table(results: dict[str, Results], chance: float) -> str:
    """NDCG in percent, mean and deviation over the splits, and how often a loss is the best."""
    last = {name: 100 * result.ndcg[-1] for name, result in results.items()}
    best = np.max(list(last.values()), 0)
    lines = [f"{'trained by':<16}{f'NDCG@{FIRST}':>14}{'best of all in':>18}"]
    for name, ndcg in last.items():
        text = f"{ndcg.mean():.1f} ± {ndcg.std():.1f}"
        lines.append(f"{name:<16}{text:>14}{f'{np.sum(ndcg == best)} of {len(best)}':>18}")
    return "\n".join([*lines, f"{'chance':<16}{100 * chance:7.1f}"])


def verdict(ndcg: dict[str, float], chance: float) -> str:
    """What one sees, from the mean NDCG of each loss."""
    order = sorted(ndcg, key=lambda name: -ndcg[name])
    parts = ", ".join(f"{name} {100 * ndcg[name]:.1f} %" for name in order)
    return f"NDCG@{FIRST} on unseen patients: {parts}; chance {100 * chance:.1f} %"


def draw(results: dict[str, Results], ideal: np.ndarray, mean: float, title: str) -> Figure:
    picture, axes = common.figure(title.replace(": ", ":\n", 1), "ab", (13, 5))
    for name, result in results.items():
        look = {**LOOKS[name], "label": name}
        steps = STEPS * np.arange(1, len(result.ndcg) + 1)
        every = max(1, len(steps) // 8)
        axes["a"].plot(steps, 100 * result.ndcg.mean(1), **look, markevery=every)
        axes["b"].plot(PLACES, result.placed, **look, markevery=3)
    axes["b"].plot(PLACES, ideal, color="0.5", linestyle=":", label="the best")
    axes["b"].axhline(mean, color="0.5", linewidth=1, label="chance")
    axes["a"].set(title="(a) While training", xlabel="step", ylabel=f"NDCG@{FIRST} on test [%]")
    axes["b"].set(title="(b) Who is put where, on test", xlabel="place", ylabel="mean grade")
    for panel in axes.values():
        panel.legend(loc="best", framealpha=0.95)
    return picture


def main(argv: Sequence[str] | None = None, *, splits: int = 10, rounds: int = 20) -> None:
    parser = common.Parser(__doc__)
    add = parser.add_argument
    add("--seed", type=common.between(0, 2**31), default=0, help="of splits, clinics and networks")
    add("--out", type=common.picture_path, default="out/rank_documents.png", help="picture")
    options = parser.parse_args(argv)

    seeds = np.random.SeedSequence(options.seed).generate_state(splits)
    data = [split_patients(int(seed)) for seed in seeds]
    results = {}
    with tqdm(total=rounds * len(LOSSES), unit="evaluation") as bar:
        for name, loss in LOSSES.items():
            bar.set_description(f"{splits} networks, {name}")
            results[name] = train(loss, data, options.seed, rounds, bar)

    random = np.random.default_rng(options.seed)
    days = clinics(options.seed, CLINICS, TEST).patients
    chance, _ = judge(random.normal(size=TEST), data[0].test_grades, days)
    _, ideal = judge(data[0].test_grades, data[0].test_grades, days)
    print(f"NDCG of the first {FIRST} in percent, mean ± deviation of {splits} splits")
    print(table(results, chance))
    means = {name: float(result.ndcg[-1].mean()) for name, result in results.items()}
    text = verdict(means, chance)
    print(text)
    common.save(draw(results, ideal, float(data[0].test_grades.mean()), text), options.out)


if __name__ == "__main__":
    main()
