"""Bytes of device memory, kernels and compile time of every loss on chips that are not here.

XLA compiles for a GPU and for a TPU without the hardware, and what it says of the program is a fact
that needs no quiet machine.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import math
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import compilers
import jax
import jax.numpy as jnp
import numpy as np
import peers
from _common import CTC, ROOT, Parser, cases, goal, publish, selected, table, title
from jax.sharding import SingleDeviceSharding
from programs import Program
from tqdm import tqdm

import jaxloss

HERE = Path(__file__).parent
RESULTS = Path(os.path.relpath(HERE / "ACCELERATORS.md"))
CACHE = ROOT / ".cache" / "accelerators"
TARGETS = ("H100", "v5e")

# Elements of an elementwise loss: 512 MiB in float32, which no chip keeps on itself.
ELEMENTS = (16384, 8192)
DIMENSION = 256
VECTORS = (2**19, DIMENSION)
CLASSES = ((65536, 1000), (8192, 32768))
IMAGES = (16, 512, 512, 16)
BOXES = (2**25, 4)
LISTS = (256, 1000)
BATCH = (4096, DIMENSION)
# Cohorts and their examples, which are sorted; a sort of TPUs stores what it orders.
COHORTS = (16, 65536)
# Ensembles, members, features.
ENSEMBLES = (4096, 50, 64)
TRIPLETS = (1024, 128)
SEQUENCES = (32, 256, 128, 64)

# Bytes over the floor: of elementwise losses; of losses over an axis, which read it twice; of those
# of classes that read distributions as large as the logits too. Matrices of pairs of a batch, and
# its examples.
CHEAP, TWO_PASSES, OF_DISTRIBUTIONS = 1.10, 1.5, 1.7
MATRICES, EXAMPLES = 8, 10
# Losses over their limit: how far, and why. Beyond that the short form fails.
TWO_INPUTS = "two passes over two inputs and one gradient are 5/3"
# One kernel for the last two, and the softmax in it and in that of the sums, made 2.7 times of dice
# in float32; but they took the H100's compiler four times as long as optax's.
FOUR_PASSES = "totals of the softmax, sums over pixels, sums of a row's slopes, and the gradient"
PAIRS = "a million pairs of classes a row: their arithmetic takes longer than the bytes"
NEWTON = "each step of Newton's method for the threshold, and two that refine it, read the row"
OWN_SCORE = "a TPU, which gathers slowly, reads each row for the score of its right class, too"
SPLIT = "a TPU stores boxes for the gradient, told apart; a mask, the losses of pairs"
PAIRS_OF_GAPS = "distances of gaps, not of products: their slopes are stored, and both transposed"
SORTS = "two sorts of pairs, and three cumulative results between them; four bytes of each pixel"
MEMBERS = "members are sorted once for the value and twice for the slopes; not tuned for chips yet"
THRESHOLDS = "a TPU stores which two logits a label lies between; not tuned for chips yet"
RATIOS = "the loss and its slope read their four arrays apart on the H100; not tuned for chips yet"
RISK_SETS = "scores are sorted by time, and the sums over risk sets run in a loop; not tuned yet"
REASONS: dict[str, tuple[float, str]] = {
    "crps_ensemble": (18.5, MEMBERS),
    "cumulative_link_nll": (2.55, THRESHOLDS),
    "ppo_loss": (2.0, RATIOS),
    "cox_partial_likelihood": (540, RISK_SETS),
    **dict.fromkeys(
        ("cosine_similarity", "cosine_distance", "byol_loss", "simsiam_loss", "contrastive_loss"),
        (1.75, TWO_INPUTS),
    ),
    "zlpr_loss": (1.75, TWO_INPUTS),
    "multi_margin_loss": (2.0, OWN_SCORE),
    "multilabel_margin_loss": (10.0, PAIRS),
    "multiclass_sparsemax_loss": (14.1, NEWTON),
    "cosine_embedding_loss": (1.75, TWO_INPUTS),
    "lifted_structure_loss": (330, PAIRS_OF_GAPS),
    **dict.fromkeys(
        ("triplet_margin_loss", "triplet_margin_with_distance_loss"),
        (1.8, "two passes over three inputs and one gradient are 7/4"),
    ),
    "asymmetric_loss": (
        3.0,
        "in bfloat16 the TPU's compiler stores one float32 array between value and slopes, also "
        "where the two share no operation",
    ),
    "binary_dice_loss": (2.6, TWO_INPUTS + "; a GPU stores which labels lie in [0, 1]"),
    "dice_loss": (3.4, FOUR_PASSES),
    "multiclass_generalized_dice_loss": (4.5, FOUR_PASSES),
    **dict.fromkeys(("tversky_loss", "focal_tversky_loss", "jaccard_loss"), (4.3, FOUR_PASSES)),
    "lovasz_hinge_loss": (30.1, SORTS),
    "lovasz_softmax_loss": (31.0, SORTS),
    **dict.fromkeys(("box_iou", "iou_loss", "giou_loss", "diou_loss", "ciou_loss"), (7.0, SPLIT)),
}
# Kernels.
RANKING_KERNELS, TRIPLET_KERNELS = 30, 40
# Against optax: in bytes, in kernels, in seconds to compile.
AGAINST = {"over": 1.0, "kernels": 1.5, "seconds": 1.5}
# Why a loss moves more bytes than optax's.
MORE_THAN_OPTAX = {
    "ctc_loss": "a state is a mantissa and an exponent, where optax's is a logarithm, which keeps "
    "few digits; both directions are stored",
    "dice_loss": FOUR_PASSES,
    "multiclass_generalized_dice_loss": FOUR_PASSES,
    "ntxent": "a TPU stores the slopes of all pairs in float32, prefetches them and reads them for "
    "two products; optax's of bfloat16 stay on the chip",
}
# What a few numbers for each row, such as its sum and its loss, add to the row itself.
BESIDE = 1.03

# Other forms of a call: of the first elementwise rows of a family, a mask of the first row of any
# family. An array of hyperparameters has the shape of the losses, and goes in place of the first
# number among the options.
MASKED, WEIGHTED, ARRAY, ALL = "masked", "weighted", "array option", "all gradients"
FIRST_ROWS = 3


class Job(NamedTuple):
    """A program to compile."""

    loss: str
    family: str
    shape: tuple[int, ...]
    dtype: str
    form: str
    peer: bool


@dataclass(frozen=True)
class Found:
    """What a compiler said.

    Attributes:
        job: What was asked.
        moved: Bytes of device memory that are read and written.
        floor: The least of these: the inputs and the gradient once.
        kernels: Kernels launched.
        temporary: Bytes of temporary memory.
        seconds: To trace and compile.
        program: A name of the program, by its text before it was compiled.
        error: Why there is nothing, if there is nothing.
    """

    job: Job
    moved: float = 0
    floor: float = 1
    kernels: int = 0
    temporary: int = 0
    seconds: float = 0
    program: str = ""
    error: str = ""

    @property
    def over(self) -> float:
        return self.moved / self.floor


# ----- The rows


def _family_of() -> dict[int, str]:
    return {id(case): family for family, rows in cases.CASES_OF.items() for case in rows}


def _shape(case: Any, family: str) -> list[tuple[int, ...]]:
    if case.name == CTC:
        return [SEQUENCES]
    if family == "boxes":
        return [BOXES]
    if family == "ranking":
        return [LISTS]
    if case.name == "cox_partial_likelihood":
        return [COHORTS]
    if case.name == "energy_score":
        return [ENSEMBLES]
    if case.batch and case.name.startswith("batch_"):
        return [TRIPLETS]
    if case.batch or (len(case.inner) == 2 and "axis" not in case.options):
        return [BATCH]
    if case.inner:
        return [IMAGES]
    if not case.axis:
        return [ELEMENTS]
    if case.data[0] not in cases.OF_CLASSES:
        return [VECTORS]
    both = case.name == "softmax_cross_entropy_with_integer_labels"
    return list(CLASSES if both else CLASSES[:1])


def rows() -> list[Any]:
    """Those of the laws, and the loss that has none."""
    ctc = SimpleNamespace(
        name=CTC, options={}, axis=True, batch=False, inner=(), data=(), loss=None, reduction="none"
    )
    return [*cases.CASES, ctc]


def _forms(case: Any, number: int) -> list[str]:
    """Those of the row of this number in its family: elementwise losses have all of them."""
    if case.name == CTC or number >= FIRST_ROWS:
        return []
    if case.axis:
        return [MASKED] if not number else []
    return [
        MASKED,
        WEIGHTED,
        *([ARRAY] if _option(case) else []),
        *([ALL] if len(case.floating) > 1 else []),
    ]


def _option(case: Any) -> str | None:
    """The hyperparameter that is given as an array."""
    return next((k for k, v in case.options.items() if isinstance(v, float)), None)


def jobs(names: Sequence[str] | None, short: bool) -> list[Job]:
    families, found = _family_of(), []
    rows_of: Counter[str] = Counter()
    for case in selected(rows(), names):
        family = families.get(id(case), "sequences")
        number = rows_of[family]
        rows_of[family] += 1
        if short and number:
            continue
        has_peer = peers.find("optax", case) is not None
        for shape in _shape(case, family)[: 1 if short else None]:
            for dtype in ("float32",) if short else ("float32", "bfloat16"):
                for peer in (False, True) if has_peer and not short else (False,):
                    found.append(Job(title(case), family, shape, dtype, "", peer))
            for form in () if short else _forms(case, number):
                found.append(Job(title(case), family, shape, "float32", form, False))
    return found


# ----- One program


def _arguments(case: Any, job: Job, sharding: Any) -> list[Any]:
    """Shapes and dtypes, as the row's kinds of arguments have them."""

    def abstract(shape: Sequence[int], dtype: Any) -> Any:
        return jax.ShapeDtypeStruct(tuple(shape), dtype, sharding=sharding)

    dtype = jnp.dtype(job.dtype)
    if job.loss == CTC:
        examples, frames, classes, labels = job.shape
        return [
            abstract((examples, frames, classes), dtype),
            abstract((examples, frames), dtype),
            abstract((examples, labels), jnp.int32),
            abstract((examples, labels), dtype),
        ]
    # Drawn at sizes that name their dimension; small ones have a meaning, as the 4 sides of a box.
    sizes = [size if size <= 16 else (19, 23, 29, 31)[i] for i, size in enumerate(job.shape)]
    names = dict(zip(sizes, job.shape, strict=True))
    rng = np.random.default_rng(0)
    drawn = [(kind.draw(rng, tuple(sizes)), kind) for kind in case.data]
    return [
        abstract([names[n] for n in x.shape], jnp.int32 if kind.index else dtype)
        for x, kind in drawn
    ]


def _options(case: Any) -> dict[str, Any]:
    """A row's options, those that optax has too if it has the loss."""
    peer = peers.find("optax", case)
    return dict(case.options if peer is None else peer.options(case.options))


def _function(case: Any, job: Job) -> Any:
    if job.loss == CTC:
        if job.peer:
            return lambda *data: jnp.mean(peers.optax.losses.ctc_loss(*data))
        return lambda *data: jaxloss.ctc_loss(*data, reduction="mean")
    options = _options(case)
    if job.peer:
        peer = peers.find("optax", case)
        return lambda *data: jnp.mean(peer.loss(*data, **options))
    options = {**options, "reduction": "mean"}
    last = {MASKED: "where", WEIGHTED: "weights", ARRAY: _option(case)}.get(job.form)
    if last is None:
        return lambda *data: case.loss(*data, **options)
    return lambda *data: case.loss(*data[:-1], **{**options, last: data[-1]})


def lowered(job: Job, sharding: Any) -> tuple[Any, float]:
    """The program of a value and its gradients, and the bytes of its floor.

    The gradient is that in the predictions; in all arguments where the job says so.
    """
    case = next(row for row in rows() if title(row) == job.loss)
    arguments, mean = _arguments(case, job, sharding), _function(case, job)
    moved = tuple(case.floating) if job.form == ALL else 0
    if job.form in (MASKED, WEIGHTED, ARRAY):
        unreduced = functools.partial(case.loss, **{**_options(case), "reduction": "none"})
        shape = jax.eval_shape(unreduced, *arguments).shape
        dtype = jnp.bool_ if job.form == MASKED else jnp.float32
        arguments.append(jax.ShapeDtypeStruct(shape, dtype, sharding=sharding))
    touched = [*arguments, *(arguments[i] for i in np.atleast_1d(moved))]
    floor = sum(np.prod(x.shape) * x.dtype.itemsize for x in touched)
    return jax.jit(jax.value_and_grad(mean, moved)).lower(*arguments), float(floor)


def ask(job: Job, sharding: Any, known: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """What the compiler says of a job, if that of the same program was not counted before."""
    jax.clear_caches()
    begin = time.perf_counter()
    program, floor = lowered(job, sharding)
    text = program.as_text()
    counter = (HERE / "programs.py").read_text()
    name = hashlib.sha256(f"{_versions()} {counter} {text}".encode()).hexdigest()[:16]
    if name not in known:
        compiled = program.compile()
        seconds = time.perf_counter() - begin
        cost = Program(compiled.as_text()).cost
        known[name] = {
            "moved": cost.moved,
            "kernels": cost.kernels,
            "temporary": compiled.memory_analysis().temp_size_in_bytes,
            "seconds": seconds,
        }
    return {"program": name, "floor": floor, **known[name]}


# ----- A process for each target: one that fails takes no other with it


def device(target: str) -> Any:
    """A sharding on one chip that is not here."""
    return SingleDeviceSharding(compilers.devices(target)[0])


def work(target: str, path: Path) -> None:
    """Compile what comes in, a job a line, and answer with what is found, also of what fails."""
    # What is printed on the way is no answer.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    lines = path.read_text().splitlines() if path.exists() else []
    known = {kept.pop("program"): kept for kept in map(json.loads, lines)}
    sharding = device(target)
    for line in sys.stdin:
        before = set(known)
        try:
            found = ask(_job(line), sharding, known)
        except Exception as error:
            found = {"error": _short(f"{type(error).__name__}: {error}")}
        for name in known.keys() - before:
            with path.open("a") as out:
                out.write(json.dumps({"program": name, **known[name]}) + "\n")
        answers.write(json.dumps(found) + "\n")
        answers.flush()


def _job(line: str) -> Job:
    loss, family, shape, *rest = json.loads(line)
    return Job(loss, family, tuple(shape), *rest)


def _short(text: str) -> str:
    return " ".join(text.split())[:60]


def _versions() -> str:
    packages = ("jax", "libtpu", "jax-cuda12-plugin", "optax")
    return ", ".join(f"{package} {compilers.version(package)}" for package in packages)


def _worker(target: str, path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(Path(__file__)), "--work", target, "--out", str(path)],
        env={**os.environ, **compilers.environment(target)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=path.with_suffix(".log").open("a"),
        text=True,
    )


def asked(target: str, wanted: Sequence[Job]) -> Iterator[Found]:
    """What a target's compiler says of each job; a program that is known is not compiled again."""
    CACHE.mkdir(parents=True, exist_ok=True)
    path = CACHE / f"{target}.jsonl"
    worker, failures = None, 0
    for job in wanted:
        if failures > 2:
            yield Found(job, error=f"the compiler does not start, see {path.stem}.log")
            continue
        worker = worker or _worker(target, path)
        answer = _answer(worker, job)
        if answer is None:
            # A crash, or a lock that another process holds: the next job has a process of its own.
            code, worker, failures = worker.wait(), None, failures + 1
            yield Found(job, error=f"the compiler ended with status {code}")
        else:
            failures = 0
            yield Found(job, **answer)
    if worker is not None and worker.stdin is not None:
        worker.stdin.close()
        worker.wait()


def _answer(worker: subprocess.Popen[str], job: Job) -> dict[str, Any] | None:
    """None of a process that has ended."""
    assert worker.stdin is not None
    assert worker.stdout is not None
    try:
        worker.stdin.write(json.dumps(job) + "\n")
        worker.stdin.flush()
    except BrokenPipeError:
        return None
    line = worker.stdout.readline()
    return json.loads(line) if line else None


# ----- The table


def limits(found: Found) -> dict[str, float]:
    """What a program of ours may take: bytes over the floor, kernels."""
    job = found.job
    name, family = job.loss, job.family
    if family == "ranking":
        return {"kernels": RANKING_KERNELS}
    if name.startswith("batch_"):
        return {"kernels": TRIPLET_KERNELS}
    if name == CTC:
        return {}
    if job.shape == BATCH:
        # Beside the matrices of pairs the examples are read and written a few times, to normalise.
        return {"over": MATRICES * 4 * BATCH[0] ** 2 / found.floor + EXAMPLES}
    if job.shape == ELEMENTS:
        return {"over": CHEAP}
    if family == "boxes":
        return {"over": 1.0}
    if name.startswith("kl_divergence"):
        return {"over": 1.0}
    array = math.prod(job.shape) * np.dtype(jnp.dtype(job.dtype)).itemsize
    soft = family in ("multiclass", "divergence") and found.floor > 2.5 * array
    return {"over": OF_DISTRIBUTIONS if soft else TWO_PASSES}


def _reason(job: Job) -> tuple[float, str]:
    """How far over its limit a program may be, and why."""
    if job.form == WEIGHTED and job.shape == ELEMENTS:
        return 1.25, "the gradient of a mean waits for the sum of all weights: they are read twice"
    return REASONS.get(job.loss, (0, ""))


def _is_beyond(found: Found) -> bool:
    """Whether a program of ours takes more than its limit, or more than is known and explained."""
    known, _ = _reason(found.job)
    most = {what: max(most, known) for what, most in limits(found).items()}
    return not found.job.peer and any(getattr(found, k) > v * BESIDE for k, v in most.items())


def _label(job: Job) -> str:
    size = "x".join(map(str, job.shape))
    return f"`{job.loss}` {size} {job.dtype} {job.form}".rstrip()


Results = Mapping[str, Mapping[Job, Found]]


def goals(found: Results, wanted: Sequence[Job]) -> list[str]:
    texts = []
    own, against = [], []
    for job in wanted:
        if job.peer:
            continue
        for target in found:
            ours = found[target][job]
            theirs = found[target].get(job._replace(peer=True))
            if ours.error:
                continue
            for what, most in limits(ours).items():
                value = getattr(ours, what)
                if value > most * BESIDE:
                    told = "times the floor" if what == "over" else what
                    _, why = _reason(job)
                    line = f"{_label(job)}, {target}: {value:.4g} {told}, for {most:.4g}"
                    own.append(f"{line}; {why}" if why and what == "over" else line)
            if theirs is None or theirs.error:
                continue
            for what, most in AGAINST.items():
                value, other = getattr(ours, what), getattr(theirs, what)
                if value > most * other * BESIDE:
                    told = {"over": "bytes"}.get(what, what)
                    why = MORE_THAN_OPTAX.get(job.loss, "") if what == "over" else ""
                    line = f"{_label(job)}, {target}: {value / other:.2f} times in {told}"
                    against.append(f"{line}; {why}" if why else line)
    texts.append(goal("Bytes and kernels of each kind of loss within their limits", own))
    texts.append(
        goal(
            "Of the losses that optax has: no more bytes, kernels within 1.5 times and seconds "
            "to compile within 1.5 times optax's",
            against,
        )
    )
    return texts


def _cells(found: Found | None) -> list[str]:
    if found is None:
        return ["", "", "", ""]
    if found.error:
        return [found.error.replace("|", "/"), "", "", ""]
    return [
        f"{found.over:.2f}",
        str(found.kernels),
        f"{found.temporary / 2**20:.1f}",
        f"{found.seconds:.1f}",
    ]


def report(found: Results, wanted: Sequence[Job]) -> str:
    head = ["loss", "x floor", "kernels", "temporary MiB", "s to compile"]
    head += [f"optax's {x}" for x in ("x floor", "kernels", "temporary MiB", "s")]
    parts = []
    for target, results in found.items():
        lines = [
            [_label(job), *_cells(results[job]), *_cells(results.get(job._replace(peer=True)))]
            for job in wanted
            if not job.peer
        ]
        parts.append(f"## {target}\n\n{table(head, lines)}")
    return "\n\n".join(parts)


def text_of(found: Results, wanted: Sequence[Job]) -> str:
    goal_lines = "\n".join(goals(found, wanted))
    return f"""\
# Accelerators

Written by `make accelerators`: value_and_grad of each loss's mean, compiled for chips that are not
here ({_versions()}). The floor is the
inputs and the gradient, read and written once. Nothing was run: bytes and kernels are read from the
programs.

## Goals

{goal_lines}

{report(found, wanted)}"""


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("--targets", nargs="+", choices=TARGETS, default=TARGETS, metavar="TARGET")
    parser.add_argument("--short", action="store_true", help="one row of each family")
    parser.add_argument("--work", choices=TARGETS, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        work(args.work, args.out)
        return
    wanted = jobs(args.losses, args.short)

    def of_target(target: str) -> dict[Job, Found]:
        answers = asked(target, wanted)
        bar = tqdm(answers, target, len(wanted), position=args.targets.index(target))
        return {answer.job: answer for answer in bar}

    # Each waits for a compiler in a process of its own.
    with ThreadPoolExecutor() as threads:
        found = dict(zip(args.targets, threads.map(of_target, args.targets), strict=True))
    whole = not (args.short or args.losses) and len(args.targets) == len(TARGETS)
    publish(text_of(found, wanted), args.write or (RESULTS if whole else None))
    failed = [x for results in found.values() for x in results.values() if x.error]
    for x in failed:
        print(f"{x.job.loss}: {x.error}", file=sys.stderr)
    missed = sum(_is_beyond(x) for results in found.values() for x in results.values())
    missed = missed if args.short else 0
    sys.exit(min(100, len(failed) + missed))


if __name__ == "__main__":
    main()
