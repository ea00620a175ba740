r"""Trains a small model on all devices of all processes, and goes on from its last checkpoint.

    python -m tests.scale.cluster --process 0 --processes 2 --port 12345 --steps 5 \
        --heartbeat 10 --directory checkpoints

The same program in every process, each with its own number; alone it is a program of one process.
What is printed is a line of JSON for each step, and one for the parameters in the end.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

import jaxloss
from jaxloss import Mean

ROWS, LENGTH, WORDS, WIDTH, PIXELS = 16, 12, 24, 8, 5
OPTIMIZER = optax.sgd(0.5, momentum=0.9)  # Of Adam rounding decides steps where a slope is 0.


def hidden(params: Any, batch: Any) -> jax.Array:
    return jnp.tanh(params["embedding"][batch["words"]] @ params["layer"])


def of_next_words(params: Any, batch: Any) -> Mean:
    loss, states = jaxloss.linear_softmax_cross_entropy, hidden(params, batch)
    return Mean.of(loss, states, params["kernel"], batch["next"], where=batch["known"])


def of_images(params: Any, batch: Any) -> Mean:
    texts, images = hidden(params, batch).mean(1), batch["images"] @ params["image"]
    scale = jnp.exp(params["log_scale"])
    return Mean.of(jaxloss.clip_loss, images, texts, logit_scale=scale, where=batch["pictured"])


# Losses of a row: each device adds up those of its own, in microbatches.
OF_ROWS = [of_next_words]
# Losses of a whole batch, an array of all processes.
OF_THE_BATCH = [of_images]


def parameters() -> Any:
    shapes = {
        "embedding": (WORDS, WIDTH),
        "layer": (WIDTH, WIDTH),
        "kernel": (WIDTH, WORDS),
        "image": (PIXELS, WIDTH),
        "log_scale": (),
    }
    rng = np.random.default_rng(0)
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def batch_of(step: int) -> dict[str, np.ndarray]:
    """Rows of 1 known word at first and of all 12 in the end, so that each device has others."""
    rng = np.random.default_rng((1, step))
    words = rng.integers(0, WORDS, (ROWS, LENGTH + 1)).astype(np.int32)
    known = np.arange(LENGTH) <= (np.arange(ROWS) * LENGTH // ROWS)[:, None]
    return {
        "words": words[:, :-1],
        "next": np.where(known, words[:, 1:], -100),
        "known": known,
        "images": rng.normal(size=(ROWS, PIXELS)).astype(np.float32),
        "pictured": np.arange(ROWS) % 5 != 3,
    }


def spread(mesh: Mesh, tree: Any, spec: P) -> Any:
    """Arrays of all processes, each of which has them whole."""

    def of_one(x: Any) -> jax.Array:
        x = np.asarray(x)
        return jax.make_array_from_callback(x.shape, NamedSharding(mesh, spec), lambda i: x[i])

    return jax.tree.map(of_one, tree)


def stepping(mesh: Mesh) -> Any:
    """The training step: from the state and a batch to the next state and the losses."""

    def by_rows(loss_fn: Any) -> Any:
        function = jaxloss.accumulate_value_and_grad(loss_fn, 2, axis_name="data")
        return jax.shard_map(function, mesh=mesh, in_specs=(P(), P("data")), out_specs=P())

    def whole(loss_fn: Any) -> Any:
        return jax.value_and_grad(lambda params, batch: loss_fn(params, batch).value())

    functions = [*map(by_rows, OF_ROWS), *map(whole, OF_THE_BATCH)]

    @jax.jit
    def step(state: Any, batch: Any) -> Any:
        losses, slopes = zip(*(f(state["params"], batch) for f in functions), strict=True)
        gradient = jax.tree.map(lambda *x: sum(x), *slopes)
        updates, moments = OPTIMIZER.update(gradient, state["moments"])
        params = optax.apply_updates(state["params"], updates)
        return {"params": params, "moments": moments}, jnp.stack(losses)

    return step


def train(steps: int, directory: str | None = None, dies_after: int = 0) -> Iterator[dict]:
    """What each step found, and the parameters in the end.

    Args:
        steps: The number of the last one, counted from 1.
        directory: Where checkpoints are: after each step there is one.
        dies_after: The step after which this process is killed.
    """
    mesh = jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))
    params = parameters()
    state = spread(mesh, {"params": params, "moments": OPTIMIZER.init(params)}, P())
    manager, first = None, 1
    if directory is not None:
        manager = ocp.CheckpointManager(directory, options=ocp.CheckpointManagerOptions(1))
        last = manager.latest_step()
        if last is not None:
            state = manager.restore(last, args=ocp.args.StandardRestore(state))
            first = last + 1
    step = stepping(mesh)
    for number in range(first, steps + 1):
        state, losses = step(state, spread(mesh, batch_of(number), P("data")))
        yield {"step": number, "losses": np.asarray(losses).tolist()}
        if manager is not None:
            manager.save(number, args=ocp.args.StandardSave(state))
            manager.wait_until_finished()
        if number == dies_after:
            os.kill(os.getpid(), signal.SIGKILL)
    if manager is not None:
        manager.close()
    yield {"params": jax.tree.map(lambda x: np.asarray(x).tolist(), state["params"])}


def main() -> None:
    parser = argparse.ArgumentParser()
    for option in ("process", "processes", "port", "steps"):
        parser.add_argument(f"--{option}", type=int, required=True)
    parser.add_argument("--directory", required=True)
    parser.add_argument("--dies-after", type=int, default=0)
    parser.add_argument("--heartbeat", type=int, required=True, help="seconds")
    given = parser.parse_args()
    # A process that is lost is noticed after `heartbeat`, JAX's default being 100 seconds; the
    # others then end by themselves.
    jax.distributed.initialize(
        f"127.0.0.1:{given.port}",
        num_processes=given.processes,
        process_id=given.process,
        initialization_timeout=60,
        heartbeat_timeout_seconds=given.heartbeat,
        shutdown_timeout_seconds=30,
    )
    for found in train(given.steps, given.directory, given.dies_after):
        print(json.dumps(found), flush=True)
    jax.distributed.shutdown()


if __name__ == "__main__":
    main()
