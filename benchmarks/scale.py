"""Losses that do not fit in memory, and losses on a mesh: time, memory, products, beside peers.

Each row's contenders take turns in one process. What was found is kept in .cache/scale: a run that
was ended goes on where it was.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import accelerators
import compilers
import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from _common import ROOT, at_least, publish, table, writable
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding
from programs import Program
from torch.nn import functional
from tqdm import tqdm

import jaxloss

RESULTS = Path(os.path.relpath(Path(__file__).with_name("RESULTS.md")))
CACHE = ROOT / ".cache" / "scale"
PART = "scale"

# Where a row runs: each has a process of its own, with what JAX must know before it starts.
CPU, MESH = "CPU", "8 simulated devices"
DEVICES = 8
# A contender's turn in a round: as many calls as fit, of which the median counts.
TURN, CALLS = 0.5, 5
# How far apart the contenders' losses and norms of gradients may be: of float32, in sums of
# thousands in any order.
SAME = 1e-3
# Tokens of which the simple scan holds the logits at a time.
CHUNK = 512
SMOOTHING, Z_LOSS = 0.1, 1e-4
# Of the memory mode: `block_size`.
LEAST = 32
# A last tile overlaps the one before: so many more products are no miss.
OVERLAP = 1.01
MEBIBYTE = 2**20

OURS, SMALL, OPTAX, SCAN = "jaxloss", f"jaxloss, block_size={LEAST}", "optax", "scan over tokens"
TORCH, CHUNKED, TOKAMAX = "PyTorch", "PyTorch linear_cross_entropy(options)", "tokamax"
GATHERED, PLAIN, RING = "all_gather", "jax.numpy, all pairs", "jaxloss, ring"
BOTH = "jaxloss, label smoothing and z-loss"
OPTAX_BOTH = "optax, label smoothing and z-loss"


class Unavailable(Exception):
    """A peer that is not installed."""


class Call(NamedTuple):
    """A function to compile.

    Attributes:
        function: Of the arguments.
        arguments: Abstract arrays, with their shardings.
        out: The shardings of the results; None where the compiler chooses.
    """

    function: Callable[..., Any]
    arguments: Sequence[jax.ShapeDtypeStruct]
    out: Any = None


class Eager(NamedTuple):
    """A function of a library that is not compiled: of the arguments as NumPy arrays."""

    function: Callable[..., Any]
    arguments: Sequence[jax.ShapeDtypeStruct]


Build = Callable[[str, tuple[int, ...]], Call | Eager]


@dataclass(frozen=True)
class Row:
    """Contenders for one task.

    Attributes:
        told: What they compute.
        place: Where.
        sizes: Of the arrays.
        short: Of those in the short form; None if it leaves the row out.
        contenders: By name.
        timed: Whether they run, or are compiled alone.
    """

    told: str
    place: str
    sizes: tuple[int, ...]
    short: tuple[int, ...] | None
    contenders: Mapping[str, Build]
    timed: bool = True


# ----- Losses of a linear layer


def _dtype(place: str) -> Any:
    return jnp.bfloat16 if place in accelerators.TARGETS else jnp.float32


def _layer(place: str, sizes: Sequence[int]) -> list[jax.ShapeDtypeStruct]:
    """Hidden vectors, kernel, labels."""
    tokens, width, classes = sizes
    sharding = _on(place)
    dtype = _dtype(place)
    return [
        jax.ShapeDtypeStruct((tokens, width), dtype, sharding=sharding),
        jax.ShapeDtypeStruct((width, classes), dtype, sharding=sharding),
        jax.ShapeDtypeStruct((tokens,), jnp.int32, sharding=sharding),
    ]


@functools.cache
def _on(place: str) -> Any:
    if place in accelerators.TARGETS:
        return SingleDeviceSharding(compilers.devices(place)[0])
    return None


def _ours(**options: Any) -> Callable[..., Any]:
    return functools.partial(
        jaxloss.linear_softmax_cross_entropy, **{"reduction": "mean", **options}
    )


def _logits(h: jax.Array, w: jax.Array) -> jax.Array:
    return (h @ w).astype(jnp.float32)


def _optax_each(h: jax.Array, w: jax.Array, y: jax.Array) -> jax.Array:
    return optax.losses.softmax_cross_entropy_with_integer_labels(_logits(h, w), y)


def _optax(h: jax.Array, w: jax.Array, y: jax.Array) -> jax.Array:
    return jnp.mean(_optax_each(h, w, y))


def _optax_both(h: jax.Array, w: jax.Array, y: jax.Array) -> jax.Array:
    x = _logits(h, w)
    targets = optax.losses.smooth_labels(jax.nn.one_hot(y, x.shape[-1]), SMOOTHING)
    losses = optax.losses.softmax_cross_entropy(x, targets)
    return jnp.mean(losses + Z_LOSS * jax.nn.logsumexp(x, -1) ** 2)


def _scan(h: jax.Array, w: jax.Array, y: jax.Array) -> jax.Array:
    """The form that users write by hand: chunks of tokens, computed again for the gradient."""
    tokens = min(CHUNK, len(y))
    some = jax.checkpoint(lambda h, y: jnp.sum(_optax_each(h, w, y)))
    chunks = h.reshape(-1, tokens, h.shape[-1]), y.reshape(-1, tokens)
    total = jax.lax.scan(lambda total, chunk: (total + some(*chunk), None), jnp.zeros(()), chunks)
    return total[0] / len(y)


def _trained(loss: Callable[..., Any], moved: Any = (0, 1)) -> Build:
    def build(place: str, sizes: tuple[int, ...]) -> Call:
        return Call(jax.value_and_grad(loss, moved), _layer(place, sizes))

    return build


def _evaluated(loss: Callable[..., Any]) -> Build:
    return lambda place, sizes: Call(loss, _layer(place, sizes))


def _weighed(each: Callable[..., Any]) -> Build:
    """A sum that the user makes of the losses of tokens."""

    def build(place: str, sizes: tuple[int, ...]) -> Call:
        layer = _layer(place, sizes)
        weights = jax.ShapeDtypeStruct(sizes[:1], jnp.float32)

        def loss(h: Any, w: Any, y: Any, weights: Any) -> Any:
            return jnp.sum(weights * each(h, w, y))

        return Call(jax.value_and_grad(loss, (0, 1)), [*layer, weights])

    return build


def _torch(chunked: bool) -> Build:
    def build(place: str, sizes: tuple[int, ...]) -> Eager:
        if chunked and not hasattr(torch.nn, "LinearCrossEntropyOptions"):
            raise Unavailable(f"PyTorch {torch.__version__} has no linear_cross_entropy(options)")

        def prepared(h: np.ndarray, w: np.ndarray, y: np.ndarray) -> Callable[[], Any]:
            hidden = torch.tensor(h, requires_grad=True)
            # Classes first, as PyTorch's linear layer has them.
            kernel = torch.tensor(np.ascontiguousarray(w.T), requires_grad=True)
            labels = torch.tensor(y, dtype=torch.int64)

            def run() -> Any:
                if chunked:
                    options = torch.nn.LinearCrossEntropyOptions()
                    loss = functional.linear_cross_entropy(hidden, kernel, labels, options=options)
                else:
                    loss = functional.cross_entropy(functional.linear(hidden, kernel), labels)
                loss.backward()
                found = loss.detach().numpy(), (hidden.grad, kernel.grad)
                hidden.grad = kernel.grad = None
                return found

            return run

        return Eager(prepared, _layer(place, sizes))

    return build


def _tokamax(place: str, sizes: tuple[int, ...]) -> Call:
    try:
        tokamax: Any = importlib.import_module("tokamax")
    except ImportError as error:
        raise Unavailable(f"tokamax: {error}") from None
    loss = functools.partial(tokamax.linear_softmax_cross_entropy_loss, reduction="mean")
    return Call(jax.value_and_grad(lambda h, w, y: loss(h, y, w), (0, 1)), _layer(place, sizes))


# ----- On a mesh


def _mesh() -> Mesh:
    devices = np.array(jax.devices("cpu")[:DEVICES]).reshape(DEVICES, 1)
    return Mesh(devices, ("data", "model"), axis_types=(AxisType.Auto,) * 2)


def _distributed(loss: Callable[..., Any]) -> Build:
    """Tokens on all devices, each with the whole kernel."""

    def build(place: str, sizes: tuple[int, ...]) -> Call:
        mesh = _mesh()
        by_token = NamedSharding(mesh, PartitionSpec("data"))
        whole = NamedSharding(mesh, PartitionSpec())
        layer = [
            jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)
            for x, sharding in zip(_layer(place, sizes), (by_token, whole, by_token), strict=True)
        ]
        return Call(jax.value_and_grad(loss, (0, 1)), layer, (whole, (by_token, whole)))

    return build


def _ours_distributed(h: Any, w: Any, y: Any) -> Any:
    spec = NamedSharding(_mesh(), PartitionSpec("data", "model"))
    return _ours(logits_sharding=spec)(h, w, y)


# ----- Losses of a batch of pairs

SCALE, SHIFT = 10.0, -10.0


def _views(sizes: Sequence[int], sharding: Any = None) -> list[jax.ShapeDtypeStruct]:
    return [jax.ShapeDtypeStruct(tuple(sizes), jnp.float32, sharding=sharding)] * 2


def _directions(x: jax.Array) -> jax.Array:
    return x / jnp.linalg.norm(x, axis=-1, keepdims=True)


def _clip(x: jax.Array, y: jax.Array, all_x: jax.Array, all_y: jax.Array, own: Any) -> jax.Array:
    """Of the pairs that a device has, and the examples of all."""
    of = optax.losses.softmax_cross_entropy_with_integer_labels
    return jnp.mean(0.5 * (of(SCALE * x @ all_y.T, own) + of(SCALE * y @ all_x.T, own)))


def _siglip(x: jax.Array, y: jax.Array, all_x: jax.Array, all_y: jax.Array, own: Any) -> jax.Array:
    logits = SCALE * x @ all_y.T + SHIFT
    signs = 2 * (jnp.arange(len(all_y))[None] == own[:, None]) - 1
    return jnp.mean(jnp.sum(jax.nn.softplus(-signs * logits), -1))


def _own_pairs(name: str, **options: Any) -> Callable[..., Any]:
    loss = {"clip": jaxloss.clip_loss, "siglip": jaxloss.siglip_loss}[name]
    more = {"logit_bias": SHIFT} if name == "siglip" else {}
    return functools.partial(loss, logit_scale=SCALE, reduction="mean", **more, **options)


def _all_pairs(name: str) -> Callable[..., Any]:
    form = {"clip": _clip, "siglip": _siglip}[name]

    def loss(x: jax.Array, y: jax.Array) -> jax.Array:
        x, y = _directions(x), _directions(y)
        return form(x, y, x, y, jnp.arange(len(x)))

    return loss


def _gathered(name: str) -> Callable[..., Any]:
    """OpenCLIP's form: each device has the examples of all, and the pairs that it has a part in."""
    form = {"clip": _clip, "siglip": _siglip}[name]

    def local(x: jax.Array, y: jax.Array) -> jax.Array:
        x, y = _directions(x), _directions(y)
        everywhere = functools.partial(jax.lax.all_gather, axis_name="data", tiled=True)
        own = jax.lax.axis_index("data") * len(x) + jnp.arange(len(x))
        return form(x, y, everywhere(x), everywhere(y), own)

    return local


def _paired(loss: Callable[..., Any]) -> Build:
    return lambda place, sizes: Call(jax.value_and_grad(loss, (0, 1)), _views(sizes))


def _paired_on_mesh(local: Callable[..., Any]) -> Build:
    def build(place: str, sizes: tuple[int, ...]) -> Call:
        mesh, spec = _mesh(), PartitionSpec("data")

        def mean(x: jax.Array, y: jax.Array) -> jax.Array:
            return jax.lax.pmean(local(x, y), "data")

        loss = jax.shard_map(mean, mesh=mesh, in_specs=(spec, spec), out_specs=PartitionSpec())
        by_pair, whole = NamedSharding(mesh, spec), NamedSharding(mesh, PartitionSpec())
        views = _views(sizes, by_pair)
        return Call(jax.value_and_grad(loss, (0, 1)), views, (whole, (by_pair, by_pair)))

    return build


# ----- The rows

LAYER, FEW = (8192, 512, 32768), (256, 64, 1024)
HUGE = (8192, 2304, 256000)
BOTH_OPTIONS = {"label_smoothing": SMOOTHING, "z_loss": Z_LOSS}
PEERS = {
    OPTAX: _trained(_optax),
    SCAN: _trained(_scan),
    TORCH: _torch(chunked=False),
    CHUNKED: _torch(chunked=True),
    TOKAMAX: _tokamax,
}
MODES = {OURS: _trained(_ours()), SMALL: _trained(_ours(block_size=LEAST))}

ROWS: dict[str, Row] = {
    "linear": Row("Value and gradients", CPU, LAYER, FEW, {**MODES, **PEERS}),
    "linear-options": Row(
        f"With label_smoothing={SMOOTHING}, z_loss={Z_LOSS}",
        CPU,
        LAYER,
        FEW,
        {
            OURS: _trained(_ours()),
            BOTH: _trained(_ours(**BOTH_OPTIONS)),
            OPTAX_BOTH: _trained(_optax_both),
        },
    ),
    "linear-per-token": Row(
        "A loss of each token, weighted by the user",
        CPU,
        LAYER,
        FEW,
        {OURS: _weighed(_ours(reduction="none")), OPTAX: _weighed(_optax_each)},
    ),
    "linear-few-tokens": Row(
        "Few tokens",
        CPU,
        (1024, *LAYER[1:]),
        None,
        {OURS: _trained(_ours()), OPTAX: _trained(_optax)},
    ),
    "linear-value": Row(
        "Value alone",
        CPU,
        LAYER,
        FEW,
        {OURS: _evaluated(_ours()), OPTAX: _evaluated(_optax), SCAN: _evaluated(_scan)},
    ),
    "linear-frozen": Row(
        "Gradient in the hidden vectors alone",
        CPU,
        LAYER,
        None,
        {OURS: _trained(_ours(), 0), OPTAX: _trained(_optax, 0), SCAN: _trained(_scan, 0)},
    ),
    "linear-huge": Row(
        "Compiled alone",
        CPU,
        HUGE,
        None,
        {**MODES, OPTAX: PEERS[OPTAX], SCAN: PEERS[SCAN]},
        timed=False,
    ),
    **{
        f"pairs-{name}": Row(
            f"`{name}_loss` on one device, compiled alone",
            CPU,
            (32768, 256),
            (4096, 32),
            {OURS: _paired(_own_pairs(name)), PLAIN: _paired(_all_pairs(name))},
            timed=False,
        )
        for name in ("clip", "siglip")
    },
    "mesh-linear": Row(
        "Tokens distributed",
        MESH,
        (4096, 256, 8192),
        FEW,
        {
            OURS: _distributed(_ours_distributed),
            OPTAX: _distributed(_optax),
            SCAN: _distributed(_scan),
        },
    ),
    **{
        f"mesh-{name}": Row(
            f"`{name}_loss`, pairs distributed",
            MESH,
            (4096, 256),
            (256, 32),
            {
                RING: _paired_on_mesh(_own_pairs(name, axis_name="data")),
                GATHERED: _paired_on_mesh(_gathered(name)),
            },
        )
        for name in ("clip", "siglip")
    },
    **{
        f"{target}-{sizes[-1]}": Row(
            "Compiled alone, in bfloat16",
            target,
            sizes,
            (1024, 256, 32000) if sizes == HUGE else None,
            {**MODES, OPTAX: PEERS[OPTAX]},
            timed=False,
        )
        for target in accelerators.TARGETS
        for sizes in (HUGE, (8192, 4096, 128256))
    },
}


# ----- What is found


@dataclass
class Found:
    """What a row's contenders took.

    Attributes:
        facts: What the compiler says of each: `temporary` bytes; of accelerators also bytes
            `moved`, `kernels`, and `multiplied` in matrix products.
        rounds: The seconds of each, round by round.
        absent: Why a peer is not there.
        load: Of the machine, before.
        error: Why there is nothing, if there is nothing.
    """

    facts: dict[str, dict[str, float]] = field(default_factory=dict)
    rounds: list[dict[str, float]] = field(default_factory=list)
    absent: dict[str, str] = field(default_factory=dict)
    load: float = 0
    error: str = ""

    def temporary(self, name: str) -> float:
        return self.facts[name]["temporary"]

    def seconds(self, name: str) -> float:
        """The median; NaN if it was not measured."""
        return float(np.median([x[name] for x in self.rounds if name in x] or [np.nan]))

    def add(self, line: Mapping[str, Any]) -> None:
        self.facts |= line.get("facts", {})
        self.absent |= line.get("absent", {})
        self.rounds += line.get("rounds", [])
        self.load = max(self.load, line.get("load", 0))
        self.error = line.get("error", "")


# ----- A process for each place


def environment(place: str) -> dict[str, str]:
    """What has to be set before JAX starts."""
    if place in accelerators.TARGETS:
        return compilers.environment(place)
    given = {"JAX_PLATFORMS": "cpu", "JAX_ENABLE_COMPILATION_CACHE": "false"}
    if place == MESH:
        given["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={DEVICES}"
    return given


def work(place: str) -> None:
    """Measure the rows that come in, a line each, and answer with what is found, line by line."""
    # What is printed on the way is no answer.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    for line in sys.stdin:
        name, short, rounds = json.loads(line)
        try:
            for found in _measured(ROWS[name], short, rounds):
                print(json.dumps(found), file=answers, flush=True)
            last: dict[str, Any] = {"done": True}
        except Exception as error:
            text = " ".join(f"{type(error).__name__}: {error}".split())
            last = {"done": True, "error": text[:300]}
        print(json.dumps(last), file=answers, flush=True)
        jax.clear_caches()


def _measured(row: Row, short: bool, rounds: int) -> Iterator[dict[str, Any]]:
    yield {"load": os.getloadavg()[0]}
    sizes = row.sizes
    if short:
        assert row.short is not None
        sizes = row.short
    runs: dict[str, Callable[[], Any]] = {}
    for name, build in row.contenders.items():
        try:
            call = build(row.place, sizes)
        except Unavailable as reason:
            yield {"absent": {name: str(reason)}}
            continue
        facts, run = _prepared(call, row.timed and rounds > 0)
        if run is not None:
            runs[name] = run
        yield {"facts": {name: facts}}
    if not runs:
        return
    _check_same({name: run() for name, run in runs.items()})
    for number in range(rounds):
        names = list(runs)
        first = number % len(names)
        turns = {name: _turn(runs[name]) for name in names[first:] + names[:first]}
        yield {"rounds": [turns]}


def _prepared(call: Call | Eager, runs: bool) -> tuple[dict[str, float], Any]:
    """What the compiler says, and the compiled function of its arguments."""
    if isinstance(call, Eager):
        return {}, call.function(*_drawn(call.arguments)) if runs else None
    given = {} if call.out is None else {"out_shardings": call.out}
    compiled = jax.jit(call.function, **given).lower(*call.arguments).compile()
    memory, text = compiled.memory_analysis(), compiled.as_text()
    assert memory is not None
    assert text is not None
    facts = {"temporary": memory.temp_size_in_bytes}
    on = call.arguments[0].sharding
    if on is not None and next(iter(on.device_set)).platform != "cpu":
        facts |= Program(text).cost._asdict()
    if not runs:
        return facts, None
    data = [
        jax.device_put(x, like.sharding)
        for x, like in zip(_drawn(call.arguments), call.arguments, strict=True)
    ]
    return facts, lambda: jax.block_until_ready(compiled(*data))


def _drawn(like: Sequence[jax.ShapeDtypeStruct]) -> list[np.ndarray]:
    """The same for all contenders of a row: logits of size 1, any class, weights of a mean."""
    rng = np.random.default_rng(0)
    width, classes = like[0].shape[-1], like[1].shape[-1]

    def draw(x: jax.ShapeDtypeStruct) -> np.ndarray:
        if x.dtype == jnp.int32:
            return rng.integers(0, classes, x.shape).astype(np.int32)
        if x.ndim == 1:
            return (rng.uniform(0.5, 1.5, x.shape) / x.size).astype(np.float32)
        return rng.standard_normal(x.shape, np.float32) / np.float32(width**0.25)

    return [draw(x) for x in like]


def _check_same(results: Mapping[str, Any]) -> None:
    """That they compute the same: the loss, and the norms of gradients.

    But those with other options.
    """
    norms = {
        name: [float(np.linalg.norm(np.asarray(x))) for x in jax.tree.leaves(result)]
        for name, result in results.items()
    }
    for group in ({BOTH, OPTAX_BOTH}, norms.keys() - {BOTH, OPTAX_BOTH}):
        some = {name: norms[name] for name in norms if name in group}
        for name, found in some.items():
            first = next(iter(some.values()))
            if not np.allclose(found, first, rtol=SAME, atol=0):
                raise ValueError(f"{name} computes {found}, {next(iter(some))} {first}")


def _turn(run: Callable[[], Any]) -> float:
    """The seconds of a call."""
    times: list[float] = []
    while len(times) < CALLS and sum(times) < TURN:
        begin = time.perf_counter()
        result = run()
        times.append(time.perf_counter() - begin)
        del result  # freed outside the measured time
    return float(np.median(times))


# ----- The process that asks


class Asker:
    """Asks a place's process, started when it is needed; a crash ends one row alone."""

    def __init__(self, place: str) -> None:
        self._place = place
        self._worker: subprocess.Popen[str] | None = None

    def _started(self) -> subprocess.Popen[str]:
        if self._worker is None or self._worker.poll() is not None:
            CACHE.mkdir(parents=True, exist_ok=True)
            log = CACHE / f"{self._place.split()[0]}.log"
            self._worker = subprocess.Popen(
                [sys.executable, str(Path(__file__)), "--work", self._place],
                env={**os.environ, **environment(self._place)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log.open("a"),
                text=True,
            )
        return self._worker

    def ask(self, name: str, short: bool, rounds: int) -> Iterator[dict[str, Any]]:
        worker = self._started()
        assert worker.stdin is not None
        assert worker.stdout is not None
        worker.stdin.write(json.dumps([name, short, rounds]) + "\n")
        worker.stdin.flush()
        for line in worker.stdout:
            found = json.loads(line)
            yield found
            if found.get("done"):
                return
        yield {"error": f"the process ended with status {worker.wait()}"}

    def end(self) -> None:
        if self._worker is not None and self._worker.stdin is not None:
            self._worker.stdin.close()
            self._worker.wait()


def _key() -> str:
    """What a figure depends on: the library's code, this file, the versions."""
    files = [*sorted((ROOT / "jaxloss").rglob("*.py")), Path(__file__)]
    text = b"".join(path.read_bytes() for path in files) + versions().encode()
    return hashlib.sha256(text).hexdigest()[:16]


def versions() -> str:
    packages = ("jax", "optax", "torch", "libtpu", "jax-cuda12-plugin")
    return ", ".join(f"{package} {compilers.version(package)}" for package in packages)


def _kept(path: Path, key: str) -> Found:
    """What was found before, of the same code."""
    found = Found()
    lines = path.read_text().splitlines() if path.exists() else []
    if not lines or json.loads(lines[0]).get("key") != key:
        path.write_text(json.dumps({"key": key}) + "\n")
        return found
    for line in lines[1:]:
        found.add(json.loads(line))
    return found


def measure(names: Sequence[str], short: bool, rounds: int) -> dict[str, Found]:
    """The rows, each as often as asked for; what was found before counts."""
    CACHE.mkdir(parents=True, exist_ok=True)
    key, results = _key(), {}
    askers = {ROWS[name].place: Asker(ROWS[name].place) for name in names}
    steps = {name: len(ROWS[name].contenders) + rounds * ROWS[name].timed for name in names}
    with tqdm(total=sum(steps.values()), unit="step") as bar:
        for name in names:
            bar.set_postfix_str(name)
            row = ROWS[name]
            path = CACHE / f"{name}{'-short' if short else ''}.jsonl"
            found = results[name] = _kept(path, key)
            missing = (rounds - len(found.rounds)) * row.timed
            known = found.facts.keys() | found.absent.keys()
            done = len(found.rounds)
            bar.update(min(done, rounds) * row.timed)
            if missing <= 0 and known >= row.contenders.keys():
                bar.update(len(row.contenders))
                continue
            for line in askers[row.place].ask(name, short, max(missing, 0)):
                found.add(line)
                bar.update(len(line.keys() & {"facts", "absent", "rounds"}))
                if not line.get("error"):
                    with path.open("a") as out:
                        out.write(json.dumps(line) + "\n")
    for asker in askers.values():
        asker.end()
    return results


# ----- Goals and tables


class Goal(NamedTuple):
    """A claim.

    Attributes:
        row: Of which.
        told: In words.
        figure: What is claimed to be at most `most`.
        most: The limit.
    """

    row: str
    told: str
    figure: Callable[[Found], float]
    most: float


def _bytes(own: str, other: str) -> Callable[[Found], float]:
    return lambda found: found.temporary(own) / found.temporary(other)


def _time(own: str, other: str) -> Callable[[Found], float]:
    return lambda found: found.seconds(own) / found.seconds(other)


def _mebibytes(name: str) -> Callable[[Found], float]:
    return lambda found: found.temporary(name) / MEBIBYTE


def _products(own: str, other: str) -> Callable[[Found], float]:
    return lambda found: found.facts[own]["multiplied"] / found.facts[other]["multiplied"]


GOALS = (
    Goal("linear", "temporary bytes, to optax's", _bytes(OURS, OPTAX), 1 / 30),
    Goal("linear", "time, to optax's", _time(OURS, OPTAX), 0.60),
    Goal("linear", "memory mode: temporary bytes, to optax's", _bytes(SMALL, OPTAX), 1 / 150),
    Goal("linear", "memory mode: time, to optax's", _time(SMALL, OPTAX), 0.75),
    Goal("linear", "time, to PyTorch's", _time(OURS, TORCH), 1),
    Goal("linear", "time, to PyTorch's in chunks", _time(OURS, CHUNKED), 1),
    Goal("linear-options", "time, to that without the options", _time(BOTH, OURS), 1.05),
    Goal("linear-per-token", "temporary bytes, to optax's", _bytes(OURS, OPTAX), 1 / 100),
    Goal("linear-per-token", "time, to optax's", _time(OURS, OPTAX), 0.8),
    Goal("linear-few-tokens", "time, to optax's", _time(OURS, OPTAX), 1.05),
    Goal("linear-huge", "memory mode: temporary bytes, to optax's", _bytes(SMALL, OPTAX), 1 / 300),
    *(Goal(f"pairs-{name}", "temporary MiB", _mebibytes(OURS), 512) for name in ("clip", "siglip")),
    Goal("mesh-linear", "time, to optax's", _time(OURS, OPTAX), 1),
    Goal("mesh-linear", "time, to the scan's", _time(OURS, SCAN), 1 / 5),
    *(
        goal
        for name in ("mesh-clip", "mesh-siglip")
        for goal in (
            Goal(name, "temporary bytes, to all_gather's", _bytes(RING, GATHERED), 1 / 8),
            Goal(name, "time, to all_gather's", _time(RING, GATHERED), 1),
        )
    ),
    *(
        goal
        for name, row in ROWS.items()
        if row.place in accelerators.TARGETS
        for goal in (
            Goal(name, "temporary MiB", _mebibytes(OURS), 768),
            Goal(name, "memory mode: temporary MiB", _mebibytes(SMALL), 64),
            Goal(
                name,
                f"matrix products, to optax's ({OVERLAP - 1:.0%} more for tiles that overlap)",
                _products(OURS, OPTAX),
                4 / 3,
            ),
        )
    ),
)


def _told(figure: float) -> str:
    if figure < 0.15:
        return f"1/{1 / figure:.{1 if figure > 0.01 else 0}f}"
    return f"{figure:.2f}" if figure < 10 else f"{figure:.0f}"


def goals(results: Mapping[str, Found]) -> list[str]:
    lines = []
    for goal in GOALS:
        if goal.row not in results or results[goal.row].error:
            continue
        found = results[goal.row]
        try:
            figure = goal.figure(found)
        except KeyError as peer:
            lines.append(f"- {goal.row}: {goal.told}; no {peer}.")
            continue
        slack = OVERLAP if "products" in goal.told else 1
        verdict = "reached" if figure <= goal.most * slack else "missed"
        verdict = "not measured" if np.isnan(figure) else f"{_told(figure)}: **{verdict}**"
        lines.append(f"- {goal.row}: {goal.told}, at most {_told(goal.most)}; {verdict}.")
    return lines


def _table(row: Row, found: Found) -> str:
    base = next((x for x in (OPTAX, OPTAX_BOTH, GATHERED, PLAIN) if x in row.contenders), "")
    head = ["form", "temporary MiB", "of theirs"]
    head += ["ms", "of theirs"] if row.timed else []
    chip = row.place in accelerators.TARGETS
    head += ["products", "GiB moved", "kernels"] if chip else []
    lines = []
    for name in row.contenders:
        if name in found.absent:
            continue
        facts = found.facts[name]
        cells = [name + (" (theirs)" if name == base else ""), "", ""]
        if "temporary" in facts:
            cells[1] = f"{facts['temporary'] / MEBIBYTE:.1f}"
            cells[2] = _told(_bytes(name, base)(found))
        if row.timed:
            timed = bool(found.rounds)
            cells += [f"{1e3 * found.seconds(name):.1f}" if timed else ""]
            cells += [_told(_time(name, base)(found)) if timed else ""]
        if chip:
            cells += [f"{3 * _products(name, base)(found):.2f}"]
            cells += [f"{facts['moved'] / 2**30:.1f}", f"{facts['kernels']:.0f}"]
        lines.append(cells)
    return table(head, lines)


def _section(name: str, found: Found, short: bool) -> str:
    row = ROWS[name]
    sizes = "x".join(map(str, (row.short if short else row.sizes) or ()))
    text = f"### {name}\n\n{row.told}; {sizes}, {row.place}"
    if row.timed and found.rounds:
        text += f"; {len(found.rounds)} rounds, load of the machine before {found.load:.1f}"
    parts = [text + "."]
    parts += [f"No {reason}." for reason in found.absent.values()]
    parts.append(f"Failed: {found.error}." if found.error else _table(row, found))
    return "\n\n".join(parts)


def report(results: Mapping[str, Found], short: bool) -> str:
    goal_lines = ["Of small sizes no goals are set."] if short else goals(results)
    return "\n\n".join(
        [
            "## Scale",
            f"""\
Written by `make bench-scale`: losses that do not fit in memory, and losses on a mesh
({versions()}).
Sizes are tokens x width x classes, or pairs x width; float32 but on accelerators. The contenders of
a row take turns in one process; times are medians. Temporary bytes and products are facts of the
compiled programs, each of one device; three products are those of whole logits.""",
            "\n".join(goal_lines),
            *(_section(name, found, short) for name, found in results.items()),
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").splitlines()[0], allow_abbrev=False
    )
    add = parser.add_argument
    add("--rows", nargs="+", choices=ROWS, metavar="ROW", help=f"of {', '.join(ROWS)} (all)")
    add("--rounds", type=at_least(0), default=7, help="0 compiles alone (%(default)s)")
    add("--short", action="store_true", help="small sizes, some of the rows")
    add("--write", metavar="FILE", type=writable, help=f"a Markdown file ({RESULTS} of all rows)")
    add("--work", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        work(args.work)
        return
    names = args.rows or list(ROWS)
    if args.short:
        names = [name for name in names if ROWS[name].short is not None]
    results = measure(names, args.short, args.rounds)
    whole = not (args.short or args.rows) and args.rounds > 0
    publish(report(results, args.short), args.write or (RESULTS if whole else None), PART)
    failed = {name: found.error for name, found in results.items() if found.error}
    for name, error in failed.items():
        print(f"{name}: {error}", file=sys.stderr)
    sys.exit(min(100, len(failed)))


if __name__ == "__main__":
    main()
