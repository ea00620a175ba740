r"""A language model of Python's own source: no logits held, one device or many, resumed at will.

A small transformer guesses the next piece of the standard library, which every machine has. Its
loss takes hidden vectors and the table of embeddings, `linear_softmax_cross_entropy`: logits of all
tokens, `[tokens, vocabulary]`, are never held. That pays for large vocabularies. `--vocabulary 256`
is a model of single bytes, whose logits are no larger than the rest: nothing is saved there.

    python examples/train_language_model.py --checkpoint out/model
    python examples/train_language_model.py --mesh 2,4
    python examples/train_language_model.py --processes 2

The first goes on, if it is stopped and started again, from its last checkpoint, with the same
numbers. The second splits batches in two, and heads, layers and vocabulary in four; without
accelerators it runs on simulated devices. The third is a cluster of two processes on this machine.

On a cluster of several machines the same script is started on each, with the same arguments:

    srun python examples/train_language_model.py --cluster --mesh 16,4 --rows 256 \
        --vocabulary 65536 --checkpoint /shared/model

The mesh has all devices of all machines. JAX finds these by itself under Slurm, Open MPI and
Kubernetes and on Cloud TPU. Elsewhere `--cluster host:port,processes,number` names the first
machine, how many processes there are, and which of them this one is, from 0. All need one version
of Python, whose source is the data, and must see the folder of checkpoints. If a process is lost
the others end: start all again, and they go on.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import lzma
import math
import os
import re
import socket
import subprocess
import sys
import sysconfig
import time
import zlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import _common as common
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
from flax import nnx
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from matplotlib.figure import Figure
from tqdm import tqdm

import jaxloss

BYTES = 256
START = 0  # what comes before a file: a byte that no source has
NONE = -1  # the label of places after the end of a file
LENGTH, MICROBATCHES = 64, 2
HEADS, LAYERS = 4, 2
EVERY = 100  # steps, from one checkpoint and one look at the held-out files to the next
DEVICES = 4  # simulated ones of each process of a local cluster
MIB = 2**20


@dataclasses.dataclass(frozen=True)
class Settings:
    """What decides the numbers. A checkpoint of other settings is not gone on with."""

    vocabulary: int
    dtype: str
    seed: int
    steps: int
    rows: int
    width: int


class Text(NamedTuple):
    """Files in pieces, in rows `[., 2, LENGTH]` of what is given and what is to be guessed."""

    pieces: list[bytes]
    train: np.ndarray
    held_out: np.ndarray
    held_out_files: list[bytes]

    def size(self, labels: np.ndarray) -> int:
        """In bytes."""
        sizes = np.array([len(piece) for piece in self.pieces])
        return int(sizes[labels[labels != NONE]].sum())


def split(file: bytes) -> list[bytes]:
    """Line breaks with the indentation, words with the blank before them, and what is between."""
    return re.findall(rb"\n *| ?\w+| +|[^\w\s]+|.", file, re.DOTALL)


def rows(file: bytes, numbers: dict[bytes, int]) -> np.ndarray:
    """Each piece of a file is guessed once, from those before it in its row."""
    tokens = []
    for piece in split(file):
        # What is no piece of the vocabulary is spelt in bytes, which are their own numbers.
        tokens.extend([numbers[piece]] if piece in numbers else piece)
    labels = np.full(-(-len(tokens) // LENGTH) * LENGTH, NONE, np.int32)
    labels[: len(tokens)] = tokens
    given = np.concatenate([[START], labels])[:-1]
    given[given == NONE] = START
    return np.stack([given, labels]).reshape(2, -1, LENGTH).swapaxes(0, 1)


@functools.cache
def library(vocabulary: int) -> Text:
    """The standard library; a few files of it are held out."""
    folder = Path(sysconfig.get_path("stdlib"))
    files = [path.read_bytes() for path in sorted(folder.glob("[!_]*.py"))]
    held_out, train = files[10::40], [file for i, file in enumerate(files) if i % 40 != 10]
    counts = Counter(piece for file in train for piece in split(file) if len(piece) > 1)
    frequent = [piece for piece, _ in counts.most_common(vocabulary - BYTES)]
    pieces = [bytes([number]) for number in range(BYTES)] + frequent
    numbers = {piece: number for number, piece in enumerate(pieces)}
    learnt, test = (np.concatenate([rows(x, numbers) for x in y]) for y in (train, held_out))
    return Text(pieces, learnt.astype(np.int32), test.astype(np.int32), held_out)


# How layers are split over the devices of the axis "model": by what they give, or what they take.
normal = nnx.initializers.lecun_normal()
BY_OUTPUT = nnx.with_partitioning(normal, (None, "model"))
BY_INPUT = nnx.with_partitioning(normal, ("model", None))
BY_PIECE = nnx.with_partitioning(nnx.initializers.normal(0.02), ("model", None))


class Block(nnx.Module):
    def __init__(self, width: int, dtype: str, rngs: nnx.Rngs) -> None:
        self.norms = nnx.List([nnx.RMSNorm(width, dtype=dtype, rngs=rngs) for _ in range(2)])
        self.attention = nnx.MultiHeadAttention(
            HEADS,
            width,
            dtype=dtype,
            use_bias=False,
            decode=False,
            kernel_init=BY_OUTPUT,
            out_kernel_init=BY_INPUT,
            rngs=rngs,
        )
        linear = functools.partial(nnx.Linear, use_bias=False, dtype=dtype, rngs=rngs)
        self.up = linear(width, 4 * width, kernel_init=BY_OUTPUT)
        self.down = linear(4 * width, width, kernel_init=BY_INPUT)

    def __call__(self, x: jax.Array, mask: jax.Array) -> jax.Array:
        x = x + self.attention(self.norms[0](x), mask=mask)
        return x + self.down(nnx.gelu(self.up(self.norms[1](x))))


class Transformer(nnx.Module):
    """Hidden vectors `[rows, LENGTH, width]`; the table of embeddings makes logits of them."""

    def __init__(self, settings: Settings) -> None:
        width, dtype, rngs = settings.width, settings.dtype, nnx.Rngs(settings.seed)
        embed = functools.partial(nnx.Embed, features=width, dtype=dtype, rngs=rngs)
        self.table = embed(settings.vocabulary, embedding_init=BY_PIECE)
        self.places = embed(LENGTH)
        self.blocks = nnx.List([Block(width, dtype, rngs) for _ in range(LAYERS)])
        self.norm = nnx.RMSNorm(width, dtype=dtype, rngs=rngs)

    def __call__(self, tokens: jax.Array) -> jax.Array:
        x = self.table(tokens) + self.places(jnp.arange(LENGTH))
        mask = nnx.make_causal_mask(tokens)
        for block in self.blocks:
            x = block(x, mask)
        return self.norm(x)


def mean_loss(graph: Any, params: Any, batch: jax.Array, *, dense: bool = False) -> jaxloss.Mean:
    """The mean over the tokens of files, not over what rows are filled up with.

    Args:
        graph: The model without its parameters.
        params: Those, in float32.
        batch: Rows, `[., 2, LENGTH]`.
        dense: Whether to hold the logits, which is what everybody did.
    """
    model, given, labels = nnx.merge(graph, params), batch[:, 0], batch[:, 1]
    hidden, known = model(given), labels != NONE
    kernel = model.table.embedding[...].astype(hidden.dtype)
    if dense:
        loss = jaxloss.softmax_cross_entropy_with_integer_labels
        return jaxloss.Mean.of(loss, hidden @ kernel.T, labels, where=known)
    return jaxloss.Mean.of(
        jaxloss.linear_softmax_cross_entropy,
        hidden,
        kernel,
        labels,
        transposed=True,
        logits_sharding=P("data", None, "model"),
        where=known,
    )


class Programs:
    """The compiled programs of a training on a mesh, within `jax.set_mesh`."""

    def __init__(self, settings: Settings, mesh: Mesh) -> None:
        self.mesh, self.rows, warmup = mesh, settings.rows, min(20, settings.steps // 2)
        schedule = optax.warmup_cosine_decay_schedule(0.0, 1e-2, warmup, settings.steps, 1e-3)
        self.optimizer = optax.chain(
            optax.clip_by_global_norm(1.0), optax.adamw(schedule, b2=0.98, weight_decay=0.1)
        )
        self.graph = nnx.graphdef(nnx.eval_shape(lambda: Transformer(settings)))

        def start() -> Any:
            params = nnx.state(Transformer(settings))
            return {"params": params, "moments": self.optimizer.init(params)}

        abstract = jax.eval_shape(start)
        # Each array lies where its layer says; the moments of Adam lie beside it.
        self.places = jax.tree.map(self._place, nnx.get_partition_spec(abstract))
        self.kinds = jax.tree.map(
            lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place),
            abstract,
            self.places,
        )
        self.start = jax.jit(start, out_shardings=self.places)
        self.judge = jax.jit(functools.partial(mean_loss, self.graph))
        self.step = self.compiled_step()

    def compiled_step(self, *, dense: bool = False) -> jax.stages.Compiled:
        """From a state and a batch to the next state and the loss."""
        loss = functools.partial(mean_loss, self.graph, dense=dense)

        def step(state: Any, batch: jax.Array) -> tuple[Any, jax.Array]:
            params = state["params"]
            gradient = jaxloss.accumulate_value_and_grad(loss, MICROBATCHES)
            value, slopes = gradient(params, batch)
            updates, moments = self.optimizer.update(slopes, state["moments"], params)
            return {"params": optax.apply_updates(params, updates), "moments": moments}, value

        places = self.places, self._place(P())
        batch = jax.ShapeDtypeStruct(
            (self.rows, 2, LENGTH), jnp.int32, sharding=self._place(P("data"))
        )
        program = jax.jit(step, donate_argnums=0, out_shardings=places)
        return program.lower(self.kinds, batch).compile()

    def _place(self, spec: P) -> NamedSharding:
        return NamedSharding(self.mesh, spec)

    def spread(self, batch: np.ndarray) -> jax.Array:
        """Rows that every process has, as an array of all devices."""
        place = self._place(P("data"))
        return jax.make_array_from_callback(batch.shape, place, lambda index: batch[index])


def bits_per_byte(programs: Programs, params: Any, files: Text) -> float:
    """How many bits the held-out files would take, compressed by the model."""
    padding = -len(files.held_out) % programs.rows
    batches = np.pad(files.held_out, ((0, padding), (0, 0), (0, 0)), constant_values=NONE)
    batches[:, 0] = np.maximum(batches[:, 0], START)
    # Each is awaited: programs of several processes that run at once may wait for one another.
    nats = sum(
        float(programs.judge(params, programs.spread(batch)).total)
        for batch in np.split(batches, len(batches) // programs.rows)
    )
    return nats / math.log(2) / files.size(files.held_out[:, 1])


@dataclasses.dataclass
class History:
    """Bits per byte: of the batch of each step, and of the held-out files after some."""

    losses: list[float]
    held_out: list[tuple[int, float]]


class Checkpoints:
    """The last two, in a folder; none if there is no folder."""

    def __init__(self, folder: str | None, settings: Settings) -> None:
        # Another Python has other source.
        source = zlib.crc32(library(settings.vocabulary).train.tobytes())
        self.settings = {**dataclasses.asdict(settings), "source": source}
        self.manager = None
        if folder is not None:
            keep = ocp.CheckpointManagerOptions(max_to_keep=2)
            self.manager = ocp.CheckpointManager(folder, options=keep)

    def _restored(self, **args: Any) -> Any:
        if self.manager is None or (step := self.manager.latest_step()) is None:
            return None
        return self.manager.restore(step, args=ocp.args.Composite(**args))

    def of_others(self) -> list[str]:
        """The settings in which the run that is there differs from this one."""
        found = self._restored(history=ocp.args.JsonRestore())
        if found is None:
            return []
        there = found["history"]["settings"]
        return [name for name, value in self.settings.items() if there[name] != value]

    def last(self, kinds: Any) -> tuple[Any, History] | None:
        found = self._restored(
            state=ocp.args.StandardRestore(kinds), history=ocp.args.JsonRestore()
        )
        if found is None:
            return None
        history = found["history"]
        return found["state"], History(history["losses"], history["held_out"])

    def save(self, state: Any, history: History) -> None:
        if self.manager is not None:
            found = {**dataclasses.asdict(history), "settings": self.settings}
            args = {
                "state": ocp.args.StandardSave(state),
                "history": ocp.args.JsonSave(found),
            }
            self.manager.save(len(history.losses), args=ocp.args.Composite(**args))

    def close(self) -> None:
        if self.manager is not None:
            self.manager.close()


def train(settings: Settings, programs: Programs, checkpoints: Checkpoints) -> tuple:
    """The history, and how many tokens a second were learnt from."""
    files = library(settings.vocabulary)
    state, history = checkpoints.last(programs.kinds) or (programs.start(), History([], []))
    done, seen, seconds = len(history.losses), 0, 0.0
    if done and not jax.process_index():
        print(f"Goes on after step {done}")
    bar = tqdm(total=settings.steps, initial=done, unit="step", disable=jax.process_index() > 0)
    for number in range(done + 1, settings.steps + 1):
        # The batch of a step depends on nothing that came before.
        random = np.random.default_rng((settings.seed, number))
        batch = files.train[random.integers(len(files.train), size=settings.rows)]
        labels = batch[:, 1]
        tokens = int((labels != NONE).sum())
        began = time.perf_counter()
        state, loss = programs.step(state, programs.spread(batch))
        history.losses.append(float(loss) * tokens / math.log(2) / files.size(labels))
        seen, seconds = seen + tokens, seconds + time.perf_counter() - began
        bar.update()
        if number % EVERY == 0 or number == settings.steps:
            found = bits_per_byte(programs, state["params"], files)
            history.held_out.append((number, found))
            bar.set_description(f"{history.losses[-1]:.3f} bits per byte, held out {found:.3f}")
            checkpoints.save(state, history)
    bar.close()
    checkpoints.close()
    return history, seen / seconds if seen else math.nan


def draw(history: History, xz: float, memory: dict[str, float], title: str) -> Figure:
    picture, axes = common.figure(title, "aab", (12, 4.5))
    look, other = common.LOOKS[:2]
    steps = 1 + np.arange(len(history.losses))
    axes["a"].plot(steps, history.losses, color="0.7", label="of a batch")
    axes["a"].plot(*zip(*history.held_out, strict=True), **look, label="of the held-out files")
    axes["a"].axhline(xz, color="k", linestyle=":", label="of these files compressed by xz")
    axes["a"].set(title="(a) Bits per byte", xlabel="step", ylim=(0, None))
    axes["a"].legend()
    axes["b"].bar(list(memory), list(memory.values()), color=[look["color"], other["color"]])
    axes["b"].set(title="(b) Temporary memory of a step [MiB]")
    return picture


def report(files: Text, history: History, memory: dict[str, float], out: Path) -> None:
    held_out = b"".join(files.held_out_files)
    xz = 8 * len(lzma.compress(held_out)) / len(held_out)
    (steps, bits), (less, more) = history.held_out[-1], memory.values()
    print(f"{len(files.held_out_files)} files of {len(held_out)} bytes are held out")
    print(f"{'':<18}{'bits per byte':>15}{'temporary MiB of a step':>26}")
    print(f"{'no logits held':<18}{bits:15.3f}{less:26.1f}")
    print(f"{'logits held':<18}{'':15}{more:26.1f}")
    print(f"{'xz':<18}{xz:15.3f}")
    text = (
        f"{steps} steps: held-out source in {bits:.2f} bits per byte, xz takes {xz:.2f};\n"
        f"a step takes {less:.0f} MiB of temporary memory, {more:.0f} if logits are held"
    )
    print(text)
    common.save(draw(history, xz, memory, text), out)


def mesh_shape(text: str) -> tuple[int, int]:
    """An argument type: devices along the axes "data" and "model"."""
    match = re.fullmatch(r"([1-9]\d{0,3}),([1-9]\d{0,3})", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"must be two numbers such as 2,4, got {text!r}")
    return int(match[1]), int(match[2])


def folder(text: str) -> str:
    """An argument type: a folder, which is made if it is not there, or the address of one."""
    if "://" in text:
        return text
    try:
        os.makedirs(text, exist_ok=True)
    except OSError as error:
        raise argparse.ArgumentTypeError(f"cannot write {text!r}: {error.strerror}") from None
    return os.path.abspath(text)


SIMULATED = "--xla_force_host_platform_device_count="


def simulate(devices: int) -> None:
    """So many devices, if JAX has not started yet, has no GPU or TPU, and nobody said how many."""
    flags = os.environ.get("XLA_FLAGS", "")
    if SIMULATED not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {SIMULATED}{devices}".strip()


def local_cluster(processes: int, devices: int, argv: Sequence[str]) -> int:
    """Runs this script in processes that know each other; one that fails ends the others."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = [sys.executable, __file__, *argv, "--processes=1"]
    flags = re.sub(rf"{SIMULATED}\d+", "", os.environ.get("XLA_FLAGS", ""))
    flags = f"{flags} {SIMULATED}{devices}".strip()
    environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    running = [
        subprocess.Popen([*command, f"--cluster={address},{processes},{number}"], env=environment)
        for number in range(processes)
    ]
    try:
        while not any(codes := [x.poll() for x in running]) and None in codes:
            time.sleep(0.1)
    finally:
        for process in running:
            process.kill()
            process.wait()
    return next((code for code in codes if code), 0)


def cluster(text: str) -> tuple:
    """An argument type: the address of the first process, how many there are, and which this is."""
    match = re.fullmatch(r"(.+:\d+),([1-9]\d*),(\d+)", text)
    if match is None or int(match[3]) >= int(match[2]):
        raise argparse.ArgumentTypeError(f"must be host:port,processes,number, got {text!r}")
    return match[1], int(match[2]), int(match[3])


class Help(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    pass


def main(argv: Sequence[str] | None = None, *, width: int = 128) -> None:
    parser = common.Parser(__doc__)
    parser.formatter_class = Help
    add = parser.add_argument
    add("--vocabulary", type=common.between(256, 65536), default=4096, help="pieces; 256: bytes")
    add("--dtype", choices=("bfloat16", "float32"), default="bfloat16", help="of the layers")
    add("--steps", type=common.between(1, 10**6), default=300, help="of training")
    add("--rows", type=common.between(2, 10**6), default=16, help="of a batch, in two microbatches")
    add("--seed", type=common.between(0, 2**31), default=0, help="of the batches and the network")
    add(
        "--checkpoint",
        type=folder,
        metavar="FOLDER",
        help="go on from its last one, and keep new ones there",
    )
    add("--mesh", type=mesh_shape, help="devices for data,model, such as 2,4; all for data if none")
    add("--processes", type=common.between(1, 8), default=1, help="of a cluster on this machine")
    add("--cluster", type=cluster, nargs="?", const=(), help="be one of a cluster; see above")
    add("--out", type=common.picture_path, default="out/train_language_model.png", help="picture")
    options = parser.parse_args(argv)

    if options.processes > 1:
        devices = math.prod(options.mesh or (options.processes, DEVICES))
        if devices % options.processes:
            parser.error(
                f"--mesh: {devices} devices do not divide by {options.processes} processes"
            )
        given = sys.argv[1:] if argv is None else argv
        sys.exit(local_cluster(options.processes, devices // options.processes, given))
    if options.cluster is not None:
        jax.distributed.initialize(*options.cluster)
    elif options.mesh:
        simulate(math.prod(options.mesh))
    there = jax.device_count()
    data, model = options.mesh or (there, 1)
    if data * model > there or (data * model != there and jax.process_count() > 1):
        parser.error(f"--mesh: there are {there} devices, got {data},{model}")
    if options.rows % (MICROBATCHES * data):
        parser.error(
            f"--rows: {options.rows} do not split into {MICROBATCHES} parts for {data} devices"
        )
    if HEADS % model or options.vocabulary % model:
        parser.error(
            f"--mesh: {model} devices do not divide {HEADS} heads and {options.vocabulary} pieces"
        )
    given = (options.vocabulary, options.dtype, options.seed, options.steps, options.rows)
    settings = Settings(*given, width)
    files, checkpoints = library(settings.vocabulary), Checkpoints(options.checkpoint, settings)
    if others := checkpoints.of_others():
        parser.error(f"--checkpoint: the run that is there has other {', '.join(others)}")

    kind, devices = (AxisType.Auto, AxisType.Auto), jax.devices()[: data * model]
    mesh = jax.make_mesh((data, model), ("data", "model"), axis_types=kind, devices=devices)
    with jax.set_mesh(mesh):
        programs = Programs(settings, mesh)
        dense = programs.compiled_step(dense=True)
        history, speed = train(settings, programs, checkpoints)
    if not jax.process_index():
        memory = {
            name: step.memory_analysis().temp_size_in_bytes / MIB
            for name, step in (("no logits held", programs.step), ("logits held", dense))
        }
        if not math.isnan(speed):
            print(f"Devices: {mesh.size}; tokens per second: {speed:.0f}")
        report(files, history, memory, options.out)


if __name__ == "__main__":
    main()
