"""What devices tell each other for losses whose classes lie on several of them.

Compiled for eight GPUs and sixteen TPUs that are not here: value and gradient of a mean, in meshes
of Auto and of Explicit axes. The collectives stand in the programs, with the bytes they move.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import compilers
from _common import goal, publish, table

HERE = Path(__file__).parent
RESULTS = Path(os.path.relpath(HERE / "MESHES.md"))

EXAMPLES, CLASSES = 8192, 32768
# Devices along examples and along classes.
MESHES = {"8 H100": (1, 8), "16 v5e": (4, 4)}
KINDS = ("Auto", "Explicit")
LOSSES = (
    "softmax_cross_entropy_with_integer_labels",
    "softmax_cross_entropy",
    "softmax_focal_loss",
    "kl_divergence",
    "multiclass_hinge_loss",
)
# How many collectives a program may have, and numbers that a device receives of each example.
COLLECTIVES, NUMBERS = 12, 96


class Found(NamedTuple):
    """What a compiler said of a loss.

    Attributes:
        loss: Its name; that of optax after it, if it is optax's.
        kind: That of the axes of the mesh.
        collectives: How many there are of each kind.
        received: The bytes of all their results, on one device.
        largest: Those of the largest result.
        share: The bytes of a device's share of the scores.
        examples: How many examples a device has a part of.
        temporary: Bytes of temporary memory.
        error: Why there is nothing, if there is nothing.
    """

    loss: str
    kind: str
    collectives: dict[str, int]
    received: float = 0
    largest: float = 0
    share: float = 1
    examples: int = 1
    temporary: int = 0
    error: str = ""


def losses() -> dict[str, tuple[Callable[..., Any], int | None]]:
    """Functions of scores and labels, and which rank the labels lack."""
    import jax.numpy as jnp
    import optax

    import jaxloss

    found: dict[str, tuple[Callable[..., Any], int | None]] = {}
    for name in LOSSES:
        numbers = "integer" in name or "focal" in name or "hinge" in name
        ours = functools.partial(getattr(jaxloss, name), reduction="mean")
        found[name] = ours, 1 if numbers else 0
        if hasattr(optax.losses, name) and "hinge" not in name:
            theirs = getattr(optax.losses, name)
            found[f"{name}, optax"] = (
                lambda *data, theirs=theirs: jnp.mean(theirs(*data)),
                1 if numbers else 0,
            )
    return found


def work(target: str) -> None:
    """Compile all losses for one target, and print what is found, a line each."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
    from programs import Program

    sizes, platforms = MESHES[target], ("cuda",) if target.endswith("H100") else ("tpu",)
    devices = np.array(compilers.devices(target)).reshape(sizes)
    for kind in KINDS:
        mesh = Mesh(devices, ("examples", "classes"), axis_types=(AxisType[kind],) * 2)
        across = NamedSharding(mesh, PartitionSpec("examples", "classes"))
        each = NamedSharding(mesh, PartitionSpec("examples"))
        scores = jax.ShapeDtypeStruct((EXAMPLES, CLASSES), jnp.float32, sharding=across)
        numbers = jax.ShapeDtypeStruct((EXAMPLES,), jnp.int32, sharding=each)
        explicit = kind == "Explicit"
        for name, (loss, lacking) in losses().items():
            labels = numbers if lacking else scores
            try:
                with jax.set_mesh(mesh) if explicit else contextlib.nullcontext():
                    traced = jax.jit(jax.value_and_grad(loss)).trace(scores, labels)
                    # In a mesh of Explicit axes JAX asks its own backends, which are not those.
                    program = traced.lower(lowering_platforms=platforms).compile()
            except Exception as error:
                told = " ".join(f"{type(error).__name__}: {error}".split())[:60]
                found = Found(name, kind, {}, error=told)
            else:
                moved = Program(program.as_text()).collectives
                found = Found(
                    name,
                    kind,
                    dict(Counter(operation for operation, _ in moved)),
                    sum(size for _, size in moved),
                    max((size for _, size in moved), default=0),
                    EXAMPLES * CLASSES * 4 / (sizes[0] * sizes[1]),
                    EXAMPLES // sizes[0],
                    program.memory_analysis().temp_size_in_bytes,
                )
            print("found", json.dumps(found), flush=True)


def asked(target: str) -> list[Found]:
    """What a target's compiler says, in a process of its own."""
    process = subprocess.run(
        [sys.executable, str(Path(__file__)), "--work", target],
        env={**os.environ, **compilers.environment(target)},
        capture_output=True,
        text=True,
        check=False,
    )
    lines = re.findall(r"^found (.*)$", process.stdout, re.MULTILINE)
    if process.returncode:
        print(process.stderr[-2000:], file=sys.stderr)
        lines.append(json.dumps(Found("the compiler", "", {}, error="it ended, see above")))
    return [Found(*json.loads(line)) for line in lines]


def goals(found: dict[str, list[Found]]) -> tuple[list[str], int]:
    """What our losses are to keep, and how often they do not."""
    failed, large, many = [], [], []
    for target, rows in found.items():
        for row in rows:
            told = f"`{row.loss}`, {target}, {row.kind}"
            if "optax" in row.loss:
                continue
            if row.error:
                failed.append(f"{told}: {row.error}")
                continue
            if row.largest >= row.share / 32 or set(row.collectives) - {"all-reduce", "all-gather"}:
                large.append(f"{told}: {row.largest / 2**20:.1f} MiB at once")
            numbers = row.received / 4 / row.examples
            if numbers > NUMBERS or sum(row.collectives.values()) > COLLECTIVES:
                many.append(f"{told}: {numbers:.0f} numbers of each example")
    return [
        goal("Every loss compiles", failed),
        goal("Nothing moves that is as large as a 32nd of a device's scores", large),
        goal(f"At most {COLLECTIVES} collectives, {NUMBERS} numbers of each example", many),
    ], len(failed) + len(large) + len(many)


def report(found: dict[str, list[Found]]) -> str:
    head = ["loss", "axes", "collectives", "numbers of each example", "MiB received"]
    head += ["of a device's scores", "temporary MiB"]
    parts = []
    for target, rows in found.items():
        lines = []
        for row in rows:
            told = ", ".join(f"{count} {name}" for name, count in row.collectives.items())
            cells = [
                f"{row.received / 4 / row.examples:.1f}",
                f"{row.received / 2**20:.2f}",
                f"{row.received / row.share:.2%}",
                f"{row.temporary / 2**20:.1f}",
            ]
            told = row.error.replace("|", "/") or told or "none"
            lines.append([f"`{row.loss}`", row.kind, told, *([""] * 4 if row.error else cells)])
        rows_of, classes = MESHES[target]
        where = f"{target}: examples on {rows_of}, classes on {classes}"
        parts.append(f"## {where}\n\n{table(head, lines, (0, 1, 2))}")
    return "\n\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--targets", nargs="+", choices=MESHES, default=list(MESHES))
    parser.add_argument("--work", choices=MESHES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        work(args.work)
        return
    # Each waits for a compiler in a process of its own.
    with ThreadPoolExecutor() as threads:
        found = dict(zip(args.targets, threads.map(asked, args.targets), strict=True))
    lines, missed = goals(found)
    packages = ("jax", "libtpu", "jax-cuda12-plugin", "optax")
    versions = ", ".join(f"{x} {compilers.version(x)}" for x in packages)
    text = f"""\
# Meshes

Written by `benchmarks/meshes.py`: value_and_grad of each loss's mean, of {EXAMPLES} examples of
{CLASSES} classes in float32, compiled for chips that are not here
({versions}).
Nothing was run: collectives and the bytes of their results, on one device, are read from the
programs.

## Goals

{chr(10).join(lines)}

{report(found)}"""
    publish(text, RESULTS if len(args.targets) == len(MESHES) else None)
    sys.exit(min(100, missed))


if __name__ == "__main__":
    main()
