"""How long values and gradients take, against the least possible and against the peers.

Each loss's mean over float32 elements, compiled, and its gradient in predictions.
"""

from __future__ import annotations

import functools
import itertools
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import peers
from _common import CTC, Parser, at_least, cases, goal, publish, selected, table
from tqdm import tqdm

import jaxloss

COMPILED = ("value", "value_and_grad")
# What code that came from optax says: `loss(x, y).mean()`.
DROP_IN = "drop-in"
# Consecutive calls of a contender in one round: the first follows another library's threads.
CALLS = 4
# Seconds of a race in a round: with fewer calls if they take longer, as a peer's of all pairs do.
TURN = 2.0
# Of the calls of a contender. On a busy machine with two cores, ratios of the first decile came out
# nearer to each other from run to run than ratios of minima, of quartiles or of medians.
QUANTILE = 0.1
# Of each contender, with caches cleared.
FIRST_CALLS = 3
# Elements, and calls that are timed as one, of the eager measurements.
SMALL, EAGER_CALLS = 1000, 200
# The length of a vector of a loss that consumes an axis.
DIMENSION = 256
# Examples and classes, for losses of classes; the first alone where there is no peer.
CLASSES = ((4096, 1000), (512, 32768), (65536, 10))
RANKINGS = (
    "ranking_softmax_loss",
    "listnet_loss",
    "listmle_loss",
    "unique_softmax_loss",
    "pairwise_logistic_loss",
    "pairwise_hinge_loss",
    "pairwise_mse_loss",
    "approx_ndcg_loss",
    "approx_mrr_loss",
)
EMBEDDINGS = (
    "byol_loss",
    "contrastive_loss",
    "cosine_embedding_loss",
    "simsiam_loss",
    "triplet_margin_loss",
    "triplet_margin_with_distance_loss",
)
# Other shapes: a loss of all pairs of classes; lists of documents; embeddings; images, which are
# sorted or softmaxed.
SHAPES = {
    "multilabel_margin_loss": (4096, 100),
    **dict.fromkeys(RANKINGS, (256, 1000)),
    **dict.fromkeys(EMBEDDINGS, (4096, DIMENSION)),
    "crps_ensemble": (16384, 50),
    "energy_score": (256, 50, 64),
}
IMAGES = (8, 128, 128, 4)
# Examples, for losses of a whole batch; the first alone where there is no peer. At the second,
# optax's gradient asks for 32 GiB.
BATCHES = (1024, 4096)
# Of the sequences: examples, frames, classes, labels.
SEQUENCES = (32, 256, 128, 64)

# Goals.
LEVEL = 1.05
FLOOR = 1.5
FLOOR_LOSSES = ("l1_loss", "l2_loss", "smooth_l1_loss", "huber_loss")
EAGER = 3.0
FIRST = 1.3
IMPORT = 0.12
EXTRA = ("temporary", "optax's", "first call s", "optax's")

Run = Callable[[], Any]


@dataclass
class Race:
    """Contenders that take turns, each with the seconds it took, all calls of all rounds."""

    name: str
    kind: str
    contenders: Mapping[str, Run]
    calls: int = CALLS
    inner: int = 1
    temporary: Mapping[str, int] = field(default_factory=dict)
    seconds: dict[str, list[float]] = field(default_factory=dict)

    def round(self, number: int) -> None:
        """Run each contender, another one first each time."""
        names = list(self.contenders)
        start = number % len(names)
        for name in names[start:] + names[:start]:
            run, times = self.contenders[name], self.seconds.setdefault(name, [])
            for _ in range(self.calls):
                begin = time.perf_counter()
                for _ in range(self.inner):
                    result = run()
                times.append((time.perf_counter() - begin) / self.inner)
                del result  # freed outside the measured time

    def settle(self) -> None:
        """Forget the calls until now, and make as many in a round as `TURN` allows."""
        once = self.inner * sum(map(min, self.seconds.values()))
        self.calls = max(1, min(CALLS, int(TURN / once)))
        self.seconds.clear()

    def time(self, name: str, calls: slice = slice(None)) -> float:
        """The seconds of a contender that is not disturbed, nor lucky."""
        return float(np.quantile(self.seconds[name][calls], QUANTILE))

    def ratio(self, name: str, calls: slice = slice(None), own: str = "ours") -> float:
        """How many times longer ours takes than another contender."""
        return self.time(own, calls) / self.time(name, calls)


class Measured(NamedTuple):
    """The races of a run, the seconds of first calls, and what they were run under."""

    races: list[Race]
    first: Mapping[str, Mapping[str, float]]
    imported: float
    elements: int
    rounds: int
    load: float


def _means_of(case: Any) -> dict[str, Callable[..., Any]]:
    """The mean in both forms that users write, with options at which the peers have the loss."""
    found = (peers.find(library, case) for library in peers.NAMES)
    shared = [peer.at for peer in found if peer is not None and peer.at is not None]
    options = shared[0] if shared else case.options
    return {
        "ours": lambda *data: case.loss(*data, **{**options, "reduction": "mean"}),
        DROP_IN: lambda *data: jnp.mean(case.loss(*data, **{**options, "reduction": "none"})),
    }


def _touch(*data: jax.Array) -> tuple[jax.Array, list[jax.Array]]:
    """The sum of all that is read, and the sums of the arrays of one shape, element by element."""
    alike: dict[tuple[int, ...], list[jax.Array]] = {}
    for x in data:
        alike.setdefault(x.shape, []).append(x.astype(jnp.float32))
    arrays = [functools.reduce(jnp.add, group) for group in alike.values()]
    return functools.reduce(jnp.add, map(jnp.sum, arrays)), arrays


def _floors(data: list[np.ndarray]) -> tuple[Run, Run]:
    """The least a value costs, and a value with an array of the shape of predictions."""
    arrays = [peers.shared(x, jnp.asarray) for x in data]

    def value(*data: jax.Array) -> jax.Array:
        return _touch(*data)[0]

    def value_and_grad(*data: jax.Array) -> tuple[jax.Array, jax.Array]:
        total, (first, *_) = _touch(*data)
        return total, first

    compiled = [jax.jit(f).lower(*arrays).compile() for f in (value, value_and_grad)]
    return tuple(peers.waiting(f, arrays) for f in compiled)


def _races(case: Any, data: list[np.ndarray]) -> list[Race]:
    contenders = {name: peers.jitted(mean, data) for name, mean in _means_of(case).items()}
    contenders["floor"] = _floors(data)
    for library in peers.NAMES:
        peer = peers.find(library, case)
        too_large = case.batch and library == "optax" and len(data[0]) > BATCHES[0]
        if peer is not None and not too_large:
            contenders[library] = peers.runs(library, peer, data, case.options)
    temporary = {name: runs[2] for name, runs in contenders.items() if len(runs) == 3}
    return [
        Race(
            case.name + (f" {list(data[0].shape)}" if case.axis else ""),
            kind,
            {name: runs[i] for name, runs in contenders.items()},
            temporary=temporary,
        )
        for i, kind in enumerate(COMPILED)
    ]


def spoken() -> list[np.ndarray]:
    """The arguments of CTC losses: random labels without paddings."""
    examples, frames, classes, labels = SEQUENCES
    rng = np.random.default_rng(0)
    return [
        rng.normal(size=(examples, frames, classes)).astype(np.float32),
        np.zeros((examples, frames), np.float32),
        rng.integers(1, classes, (examples, labels)).astype(np.int32),
        np.zeros((examples, labels), np.float32),
    ]


def _ctc_races() -> list[Race]:
    row = SimpleNamespace(name=CTC, loss=jaxloss.ctc_loss, options={}, axis=True, batch=False)
    return _races(row, spoken())


def _eager_races() -> list[Race]:
    """Calls as they are typed, against the same computation in a bare `jax.jit`."""
    rng = np.random.default_rng(0)
    p, t = (jnp.asarray(rng.normal(size=SMALL), jnp.float32) for _ in range(2))
    v = jnp.exp(t)
    kept = p > 0
    vectors = (p.reshape(-1, 10), t.reshape(-1, 10))
    calls = (
        ("l1_loss(p, t)", jaxloss.l1_loss, (p, t), {}),
        ("l1_loss(p, t, reduction='mean')", jaxloss.l1_loss, (p, t), {"reduction": "mean"}),
        ("huber_loss(p, t, delta=0.7)", jaxloss.huber_loss, (p, t), {"delta": 0.7}),
        (
            "huber_loss(p, t, delta=0.7, where=kept, weights=v, reduction='mean')",
            jaxloss.huber_loss,
            (p, t),
            {"delta": 0.7, "where": kept, "weights": v, "reduction": "mean"},
        ),
        ("gaussian_nll_loss(p, t, v)", jaxloss.gaussian_nll_loss, (p, t, v), {}),
        ("cosine_distance(a, b, axis=-1)", jaxloss.cosine_distance, vectors, {"axis": -1}),
    )
    return [
        Race(
            name,
            "eager",
            {"ours": _called(loss, data, options), "bare": _bare(loss, data, options)},
            inner=EAGER_CALLS,
        )
        for name, loss, data, options in calls
    ]


def _called(loss: Any, data: Sequence[jax.Array], options: Mapping[str, Any]) -> Run:
    return lambda: jax.block_until_ready(loss(*data, **options))


def _bare(loss: Any, data: Sequence[jax.Array], options: Mapping[str, Any]) -> Run:
    """The loss with its options built in: arrays, by position, are all that the call takes."""
    named = [k for k, v in options.items() if isinstance(v, jax.Array)]
    fixed = {k: v for k, v in options.items() if k not in named}
    arrays = (*data, *(options[k] for k in named))

    @jax.jit
    def bare(*arrays: jax.Array) -> jax.Array:
        fields = dict(zip(named, arrays[len(data) :], strict=True))
        return loss.__wrapped__(*arrays[: len(data)], **fields, **fixed)

    return lambda: jax.block_until_ready(bare(*arrays))


def measure(names: Sequence[str] | None, elements: int, rounds: int, seconds: float) -> Measured:
    """All races, in as many rounds as asked for, or as fit into the time."""
    begin, load = time.monotonic(), os.getloadavg()[0]
    races = []
    with tqdm(selected(cases.CASES, names), "compiling") as rows:
        for case in rows:
            rows.set_postfix_str(case.name)
            for shape in _shapes(case, elements):
                races += _races(case, drawn(case, shape))
    if names is None or CTC in names:
        races += _ctc_races()
    races += _eager_races()
    first, imported = _first_calls(names, elements), _import_seconds()
    for race in races:
        race.round(0)
        race.settle()
    # A round is one turn of everything, so that a disturbance of seconds meets each contender
    # of each loss in few of its rounds.
    done = 0
    with tqdm(range(rounds), "timing", unit="round") as bar:
        for number in bar:
            for race in races:
                bar.set_postfix_str(f"{race.name.partition('(')[0]} {race.kind}")
                race.round(number)
            done += 1
            spent = time.monotonic() - begin
            if done > 1 and spent > seconds:
                break
    return Measured(races, first, imported, elements, done, load)


def _import_seconds() -> float:
    """The process time that `import jaxloss` adds after jax, in fresh processes."""
    code = (
        "import time, jax, jax.numpy\n"
        "begin = time.process_time()\n"
        "import jaxloss\n"
        "print(time.process_time() - begin)"
    )
    # With what Python compiled kept, as an installed package has it; the first run makes it.
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    runs = [
        subprocess.run([sys.executable, "-c", code], env=kept, capture_output=True, check=True)
        for _ in range(6)
    ]
    return float(np.median([float(run.stdout) for run in runs[1:]]))


def _first_calls(names: Sequence[str] | None, elements: int) -> dict[str, dict[str, float]]:
    """The seconds to trace and compile value_and_grad: ours and optax's, of one process's time."""
    found = {}
    shared = [case for case in selected(cases.CASES, names) if peers.find("optax", case)]
    with tqdm(shared, "first calls") as rows:
        for case in rows:
            rows.set_postfix_str(case.name)
            peer = peers.find("optax", case)
            options = peer.options(case.options)
            means = {
                "ours": _means_of(case)["ours"],
                "optax": lambda *x, p=peer, o=options: jnp.mean(p.loss(*x, **o)),
            }
            data = [peers.shared(x, jnp.asarray) for x in drawn(case, _shapes(case, elements)[0])]
            seconds = {name: [] for name in means}
            for _ in range(FIRST_CALLS):
                for name, mean in means.items():
                    jax.clear_caches()
                    begin = time.process_time()
                    jax.jit(jax.value_and_grad(mean)).lower(*data).compile()
                    seconds[name].append(time.process_time() - begin)
            found[case.name] = {name: float(np.median(times)) for name, times in seconds.items()}
    return found


_DATA: dict[Any, list[np.ndarray]] = {}


def _shapes(case: Any, elements: int) -> list[tuple[int, ...]]:
    if not case.axis:
        return [(elements,)]
    if case.name in SHAPES:
        return [SHAPES[case.name]]
    shared = any(peers.find(library, case) for library in peers.NAMES)
    if len(case.inner) == 2 and "axis" not in case.options:
        return [(size, DIMENSION) for size in (BATCHES if shared else BATCHES[:1])]
    if case.inner:
        return [IMAGES]
    if case.data[0] not in cases.OF_CLASSES:
        return [(max(1, elements // DIMENSION), DIMENSION)]
    return list(CLASSES if shared else CLASSES[:1])


def drawn(case: Any, shape: tuple[int, ...]) -> list[np.ndarray]:
    """A row's data: rows of the same kinds share theirs."""
    key = (*map(id, case.data), shape)
    if key not in _DATA:
        rng = np.random.default_rng(0)
        _DATA[key] = [
            kind.draw(rng, shape).astype(np.int32 if kind.index else np.float32)
            for kind in case.data
        ]
    return _DATA[key]


def _noise(races: Sequence[Race]) -> float:
    """By what factor, at most, 9 in 10 ratios of one half of the rounds miss the other's."""
    found = []
    for race in races:
        for name in race.contenders:
            half = len(race.seconds["ours"]) // 2
            one, two = race.ratio(name, slice(half)), race.ratio(name, slice(half, None))
            if name not in ("ours", DROP_IN):
                found.append(max(one, two) / min(one, two))
    return float(np.quantile(found, 0.9))


def goals(measured: Measured) -> list[str]:
    races = measured.races
    noise = _noise(races)

    def missed(
        race: Race, name: str, limit: float, told: str, forms: Sequence[str] = ("ours",)
    ) -> list[str]:
        lines = []
        for form in forms:
            ratio = race.ratio(name, own=form)
            if ratio > limit:
                doubt = ", within the noise of this run" if ratio <= limit * noise else ""
                kind = "" if race.kind == "eager" else f" {race.kind}"
                kind += f", {form}" if form == DROP_IN else ""
                lines.append(f"`{race.name}`{kind}: {ratio:.2f} times {told}{doubt}")
        return lines

    compiled = [race for race in races if race.kind in COMPILED]
    slower = [
        missed(race, name, LEVEL, name, ("ours", DROP_IN))
        for race in compiled
        for name in peers.NAMES
        if name in race.contenders
    ]
    above = [
        missed(race, "floor", FLOOR, "the floor", ("ours", DROP_IN))
        for race in compiled
        if race.name in FLOOR_LOSSES and race.kind == "value_and_grad"
    ]
    eager = [
        missed(race, "bare", EAGER, "a bare jitted function")
        for race in races
        if race.kind == "eager"
    ]
    slow = [
        f"`{name}`: {seconds['ours'] / seconds['optax']:.2f} times optax"
        for name, seconds in measured.first.items()
        if seconds["ours"] > FIRST * seconds["optax"]
    ]
    cheap = ", ".join(f"`{name}`" for name in FLOOR_LOSSES)
    found = [
        goal(text, list(itertools.chain(*lists)))
        for text, lists in (
            (
                f"Ahead of every peer on every shared loss or level, within {LEVEL - 1:.0%}, "
                "in value and in value_and_grad, in both forms",
                slower,
            ),
            (f"value_and_grad within {FLOOR} times the floor for {cheap}", above),
            (
                f"An eager call on {SMALL} elements within {EAGER:g} times a bare jitted function",
                eager,
            ),
        )
    ]
    late = [f"{measured.imported:.3f} s"] if measured.imported > IMPORT else []
    return [
        *found,
        goal(f"The first call of value_and_grad within {FIRST} times optax's", slow),
        goal(f"`import jaxloss` adds at most {IMPORT} s of process time after jax", late),
    ]


def _row(race: Race, first: Mapping[str, Mapping[str, float]]) -> list[str]:
    theirs = [
        _against(1 / race.ratio(name)) if name in race.contenders else "" for name in peers.NAMES
    ]
    ours = race.seconds["ours"]
    times = (race.time("ours"), min(ours), np.median(ours))
    own = [*(f"{1e3 * seconds:.2f}" for seconds in times), f"{race.ratio('floor'):.2f}"]
    own.append(f"{race.ratio('ours', own=DROP_IN):.2f}")
    row = [f"`{race.name}`", *own, *theirs]
    if race.kind == "value":
        return row
    told = (race.temporary.get(name) for name in ("ours", "optax"))
    seconds = first.get(race.name.partition(" ")[0], {})
    calls = (f"{seconds[name]:.2f}" if seconds else "" for name in ("ours", "optax"))
    return [*row, *("" if count is None else _bytes(count) for count in told), *calls]


def _against(speedup: float) -> str:
    return f"{speedup:.2f}" if speedup >= 1 else f"**{speedup:.2f}**"


def _bytes(count: int) -> str:
    return f"{count / 2**20:.1f} MiB" if count >= 2**20 else f"{count} B"


def report(measured: Measured) -> str:
    """The tables in Markdown."""
    races, first, imported, elements, rounds, load = measured
    head = [
        "loss",
        "ms",
        "fastest",
        "median",
        "x floor",
        "drop-in / ours",
        *(f"{name} / ours" for name in peers.NAMES),
    ]
    value, both = (
        table(
            [*head, *EXTRA] if kind == "value_and_grad" else head,
            (_row(race, first) for race in races if race.kind == kind),
        )
        for kind in COMPILED
    )
    eager = table(
        ["call", "us", "bare us", "ratio"],
        (
            (
                f"`{race.name}`",
                f"{1e6 * race.time('ours'):.0f}",
                f"{1e6 * race.time('bare'):.0f}",
                f"{race.ratio('bare'):.2f}",
            )
            for race in races
            if race.kind == "eager"
        ),
    )
    versions = ", ".join(f"{name} {version}" for name, version in peers.VERSIONS.items())
    return f"""\
## Speed

{cores()} CPU cores, {versions}.
{elements} float32 elements, or the shape beside the name, `reduction="mean"`, gradients in
predictions. The floor is a compiled kernel that reads the same inputs and writes the same outputs,
with one addition per element. optax and Keras (on JAX) are compiled as ours is; PyTorch runs
eagerly, with its own backward. Everything is timed in one process in {rounds} rounds, in each of
which every contender has its turn of {CALLS} calls, of fewer if those of a row take {TURN:.0f} s.
The load of the machine before was {load:.1f}; where other work takes a core, PyTorch's threads lose
most.

A time is the first decile of the calls: others on the machine only ever add time, and the fastest
call of all is luck. Ratios are of such times. Those of the first half of the rounds and of the
second differ by {100 * (_noise(races) - 1):.0f} % or less in 9 of 10 cases: the noise of this run.
A peer's figure is its time over ours, **bold** where the peer is the faster. "temporary" is the
memory that the compiled value_and_grad asks for besides inputs and outputs, "first call" the
process time to trace and compile it with JAX's caches cleared, the median of {FIRST_CALLS};
"optax's" are optax's. After jax, `import jaxloss` took {imported:.3f} s of it. "drop-in" is
`jnp.mean` of the unreduced loss. The labels of `{CTC}` are {SEQUENCES[-1]} of {SEQUENCES[2]}
classes.

### Value and gradient

{both}

### Value

{value}

### Eager calls on {SMALL} elements

Against the same computation in a bare `jax.jit` that takes nothing but the arrays.

{eager}"""


def cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def arguments(parser: Parser) -> Parser:
    """The options of the measurement."""
    parser.add_argument(
        "--elements", type=at_least(1), default=2**22, help="per array (%(default)s)"
    )
    parser.add_argument("--rounds", type=at_least(2), default=20, help="at most (%(default)s)")
    parser.add_argument(
        "--seconds", type=at_least(1), default=900, help="no further round after (%(default)s)"
    )
    return parser


def main() -> None:
    args = arguments(Parser(__doc__)).parse_args()
    measured = measure(args.losses, args.elements, args.rounds, args.seconds)
    text = "\n".join([*goals(measured), "", report(measured)])
    publish(text, args.write)


if __name__ == "__main__":
    main()
