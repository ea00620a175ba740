"""How long until the price falls by a fifth? Times of which some are only known to be longer.

An investor who buys a share waits, and wants to know how soon it will have lost a fifth of what it
cost. Some shares have not when the record ends: those times are censored. One small network, by
Cox's partial likelihood and by the hazard of each quarter, judged by concordance: how often, of two
purchases of which one is known to have lost first, the network takes that for the riskier one.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import _common as common
import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import optax
from flax import nnx
from matplotlib.figure import Figure
from tqdm import tqdm

import jaxloss

# Monthly prices from 1990 to 2022, of eight companies and two indices, which come with matplotlib.
PRICES = Path(matplotlib.get_data_path()) / "sample_data" / "Stocks.csv"
INDICES = ("^GSPC", "^IXIC")
# What is bought from 2008 on is for the test, and nobody knows of later prices while training.
SPLIT = "2008-01-01"
YEAR, LOSS = 12, 0.2  # months of history behind each purchase, and what is lost in the end
HORIZON, QUARTER = 60, 3  # after so many months nobody looks any more; months of an interval
ENDS = np.arange(QUARTER, HORIZON + 1, QUARTER)
STEPS = 10  # between two evaluations


class Purchases(NamedTuple):
    """Shares that are bought.

    Attributes:
        inputs: What is known then.
        times: Months until the loss, or as long as it is known not to have come.
        events: Whether it came.
        quarters: That of the loss, or the last one that a share is known to have got through.
    """

    inputs: np.ndarray
    times: np.ndarray
    events: np.ndarray
    quarters: np.ndarray


class Results(NamedTuple):
    """How the networks do, `[evaluations, networks]`; and their last scores, `[networks, N]`."""

    losses: np.ndarray
    concordance: np.ndarray
    scores: np.ndarray


def prices() -> tuple[list[str], list[str], np.ndarray]:
    """The names of the columns, the months, and the prices `[months, columns]`."""
    lines = PRICES.read_text().splitlines()
    names, *rows = csv.reader(line for line in lines if not line.startswith("#"))
    # The record has further days, on which a dividend was paid: those rows are empty.
    rows = [row for row in rows if row[0].endswith("-01")]
    found = np.array([[float(x or "nan") for x in row[1:]] for row in rows])
    return names[1:], [row[0] for row in rows], found


def history(log_prices: np.ndarray) -> np.ndarray:
    """Of a year: its gain, that of its last quarter, how far below its top, and how it varied."""
    steps = np.diff(log_prices)
    last = log_prices[-1]
    gains = last - log_prices[0], last - log_prices[-1 - QUARTER]
    return np.array([*gains, last - log_prices.max(), steps.std(), steps[-6:].std()])


def until_loss(later: np.ndarray) -> tuple[int, bool]:
    """Months until the price is a fifth below the first, and whether it ever is."""
    (below,) = np.nonzero(later[1:] <= (1 - LOSS) * later[0])
    lasted = min(len(later) - 1, HORIZON)
    return (int(below[0]) + 1, True) if below.size and below[0] < lasted else (lasted, False)


def quarters(times: np.ndarray, events: np.ndarray) -> np.ndarray:
    """The interval of a loss; of what is censored the last whole one, -1 if there is none."""
    whole = np.searchsorted(ENDS, times, side="right") - 1
    return np.where(events, np.searchsorted(ENDS, times), whole)


def purchases(first: str, last: str) -> Purchases:
    """One of each share in each month, with prices up to a month: what came later is censored."""
    names, months, table = prices()
    stop = sum(month <= last for month in months)
    market = names.index(INDICES[0])
    found = []
    for column, name in enumerate(names):
        for month in range(YEAR, stop - 1):
            year = slice(month - YEAR, month + 1)
            known = table[year, column]
            if name in INDICES or months[month] < first or np.isnan(known).any():
                continue
            seen = [history(np.log(x)) for x in (known, table[year, market])]
            found.append((np.concatenate(seen), *until_loss(table[month:stop, column])))
    inputs, times, events = map(np.array, zip(*found, strict=True))
    return Purchases(
        inputs.astype(np.float32), times.astype(np.float32), events, quarters(times, events)
    )


def cox(outputs: jax.Array, data: Purchases) -> jax.Array:
    # The times are months, and many are equal.
    return jaxloss.cox_partial_likelihood(
        outputs[..., 0], data.times, data.events, ties="efron", reduction="mean"
    )


def hazards(outputs: jax.Array, data: Purchases) -> jax.Array:
    # Less than a whole quarter says nothing of a hazard.
    return jaxloss.logistic_hazard_loss(
        outputs, data.quarters, data.events, where=data.quarters >= 0, reduction="mean"
    )


def survival(logits: np.ndarray) -> np.ndarray:
    """The probability to get through each quarter, from the hazards of all up to it."""
    return np.exp(-np.cumsum(np.logaddexp(0, logits), -1))


class Model(NamedTuple):
    """A loss, how many outputs it takes, and which number of theirs is the risk."""

    loss: Callable[[jax.Array, Purchases], jax.Array]
    outputs: int
    risk: Callable[[np.ndarray], np.ndarray]


MODELS = {
    "Cox": Model(cox, 1, lambda outputs: outputs[..., 0]),
    "Hazards of quarters": Model(hazards, len(ENDS), lambda z: -survival(z).sum(-1)),
}
LOOKS = dict(zip(MODELS, common.LOOKS, strict=False))


def concordance(risk: np.ndarray, times: np.ndarray, events: np.ndarray) -> float:
    """How often the one that is known to have lost first has the higher risk; a tie is a half."""
    before = events[:, None] & (times[:, None] < times)
    ahead = np.sign(risk[:, None] - risk)
    return float(0.5 + 0.5 * ahead[before].mean())


def kaplan_meier(times: np.ndarray, events: np.ndarray) -> np.ndarray:
    """The share that gets through each month, from those who were still watched."""
    months = np.arange(1, HORIZON + 1)
    lost = np.array([(events & (times == month)).sum() for month in months])
    watched = np.array([(times >= month).sum() for month in months])
    return np.concatenate([[1.0], np.cumprod(1 - lost / np.maximum(watched, 1))])


def train(
    model: Model, data: Purchases, test: Purchases, seed: int, networks: int, rounds: int, bar: tqdm
) -> Results:
    """Train networks from several starts, all of them at once, on all purchases in each step."""
    shift, scale = data.inputs.mean(0), data.inputs.std(0)
    inputs, unseen = (jnp.asarray((x.inputs - shift) / scale) for x in (data, test))
    given = jax.tree.map(jnp.asarray, data._replace(inputs=inputs))

    @nnx.vmap
    def start(key: jax.Array) -> tuple[nnx.Module, nnx.Optimizer]:
        rngs = nnx.Rngs(key)
        network = nnx.Sequential(
            nnx.Linear(inputs.shape[-1], 16, rngs=rngs),
            nnx.tanh,
            nnx.Linear(16, model.outputs, rngs=rngs),
        )
        return network, nnx.Optimizer(network, optax.adamw(0.003, weight_decay=0.1), wrt=nnx.Param)

    @nnx.jit
    @nnx.vmap(in_axes=(0, 0, None))
    def some_steps(network: nnx.Module, optimizer: nnx.Optimizer, given: Purchases) -> jax.Array:
        @nnx.scan(length=STEPS, in_axes=(nnx.Carry,), out_axes=nnx.Carry)
        def step(both: tuple) -> tuple:
            network, optimizer = both
            objective = lambda network: model.loss(network(given.inputs), given)  # noqa: E731
            optimizer.update(network, nnx.grad(objective)(network))
            return network, optimizer

        step((network, optimizer))
        return network(unseen)

    network, optimizer = start(jax.random.split(jax.random.key(seed), networks))
    judge = jax.jit(jax.vmap(model.loss, in_axes=(0, None)))
    losses, found, outputs = [], [], np.zeros(0)
    for _ in range(rounds):
        outputs = np.asarray(some_steps(network, optimizer, given))
        losses.append(np.asarray(judge(outputs, test)))
        found.append([concordance(x, test.times, test.events) for x in model.risk(outputs)])
        bar.update()
    return Results(np.array(losses), np.array(found), outputs)


def table(results: dict[str, Results], simple: float) -> str:
    lines = [f"{'trained by':<24}{'test loss':>16}{'concordance [%]':>20}"]
    for name, result in results.items():
        loss, found = result.losses[-1], 100 * result.concordance[-1]
        numbers = f"{loss.mean():.3f} ± {loss.std():.3f}", f"{found.mean():.1f} ± {found.std():.1f}"
        lines.append(f"{name:<24}{numbers[0]:>16}{numbers[1]:>20}")
    return "\n".join([*lines, f"{'variation of a year':<24}{'':>16}{f'{100 * simple:.1f}':>13}"])


def verdict(found: dict[str, float], simple: float) -> str:
    """What one sees, from the mean concordance of each model."""
    best = max(found, key=lambda name: found[name])
    text = (
        f"Of the networks {best} tells best who loses first, in {100 * found[best]:.1f} % of pairs"
    )
    word = "more" if found[best] > simple else "no more"
    return f"{text}: {word} than how much the price varied in a year ({100 * simple:.1f} %)."


def draw(results: dict[str, Results], test: Purchases, simple: float, title: str) -> Figure:
    picture, axes = common.figure(title.replace(": ", ":\n", 1), "ab", (13, 5))
    for name, result in results.items():
        steps = STEPS * np.arange(1, len(result.losses) + 1)
        every = max(1, len(steps) // 8)
        means = 100 * result.concordance.mean(1)
        axes["a"].plot(steps, means, **LOOKS[name], label=name, markevery=every)
    axes["a"].axhline(100 * simple, color="0.5", linestyle=":", label="variation of a year")
    axes["a"].axhline(50, color="0.5", linewidth=1, label="chance")
    axes["a"].set(title="(a) While training", xlabel="step", ylabel="concordance on test [%]")
    # Thirds by the risk of one model, and what it says of them beside what came.
    predicted = survival(results["Hazards of quarters"].scores.mean(0))
    order = np.argsort(predicted.sum(-1))
    thirds = np.array_split(order, 3)
    for third, look, name in zip(
        thirds, common.LOOKS, ("riskiest", "middle", "safest"), strict=False
    ):
        came = kaplan_meier(test.times[third], test.events[third])
        axes["b"].step(
            range(HORIZON + 1), 100 * came, color=look["color"], where="post", label=f"{name} third"
        )
        means = np.concatenate([[1.0], predicted[third].mean(0)])
        axes["b"].plot([0, *ENDS], 100 * means, color=look["color"], linestyle=":")
    axes["b"].set(
        title="(b) What came, and what the hazards said (dots)",
        xlabel="months after the purchase",
        ylabel="not a fifth lost yet [%]",
        ylim=(0, 102),
    )
    for panel in axes.values():
        panel.legend(loc="best", framealpha=0.95)
    return picture


def main(argv: Sequence[str] | None = None, *, networks: int = 8, rounds: int = 30) -> None:
    parser = common.Parser(__doc__)
    add = parser.add_argument
    add("--seed", type=common.between(0, 2**31), default=0, help="of the networks")
    add("--out", type=common.picture_path, default="out/survive.png", help="picture")
    options = parser.parse_args(argv)

    data, test = purchases("", SPLIT), purchases(SPLIT, "9999")
    for name, part in (("train", data), ("test", test)):
        print(
            f"{name}: {len(part.times)} purchases, {100 * part.events.mean():.0f} % lose a fifth "
            f"within {HORIZON // 12} years while they are watched, the others are censored"
        )
    results = {}
    with tqdm(total=rounds * len(MODELS), unit="evaluation") as bar:
        for name, model in MODELS.items():
            bar.set_description(f"{networks} networks, {name}")
            results[name] = train(model, data, test, options.seed, networks, rounds, bar)

    simple = concordance(test.inputs[:, 3], test.times, test.events)
    print(f"Purchases from {SPLIT[:4]} on, mean ± deviation of {networks} networks")
    print(table(results, simple))
    found = {name: float(result.concordance[-1].mean()) for name, result in results.items()}
    text = verdict(found, simple)
    print(text)
    common.save(draw(results, test, simple, text), options.out)


if __name__ == "__main__":
    main()
