"""Two processes of four devices each train what one process of eight does, also after a crash."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tests.laws.public import ROOT
from tests.scale import cluster

STEPS, CRASH = 5, 3
# Seconds: until a lost process is noticed, and more than any run takes on a busy machine.
HEARTBEAT, LIMIT = 10, 120
# Sums of up to 192 words, of which two processes add other parts first.
TOLERANCE = 192 * float(np.finfo(np.float32).eps)


@contextlib.contextmanager
def cluster_of_two(directory: Path, *options: str) -> Iterator[list[subprocess.Popen[str]]]:
    """Two processes that know each other; the options are those of the second."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    flags = re.sub(r"--xla_force_host_platform_device_count=\d+", "", os.environ["XLA_FLAGS"])
    flags += " --xla_force_host_platform_device_count=4"
    environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    shared = ["--processes=2", f"--port={port}", f"--steps={STEPS}", f"--directory={directory}"]
    command = [sys.executable, "-m", "tests.scale.cluster", f"--heartbeat={HEARTBEAT}", *shared]
    pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with contextlib.ExitStack() as stack:
        processes = []
        for number, more in enumerate(([], options)):
            called = [*command, f"--process={number}", *more]
            process = subprocess.Popen(called, cwd=ROOT, env=environment, **pipes)
            processes.append(stack.enter_context(process))
            stack.callback(process.kill)
        yield processes


def read(output: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines() if line.startswith("{")]


def test_a_cluster_trains_as_one_process_does_and_goes_on_after_a_crash(tmp_path: Path) -> None:
    """About 15 seconds of CPU, most of which four processes need to start."""
    *steps, final = cluster.train(STEPS)
    expected = np.array([x["losses"] for x in steps])
    # Of one device, and something is learned: steps differ by more than by rounding.
    args = cluster.parameters(), cluster.batch_of(1)
    first = [float(loss_fn(*args)) for loss_fn in cluster.OF_ROWS + cluster.OF_THE_BATCH]
    np.testing.assert_allclose(expected[0], first, rtol=TOLERANCE)
    assert np.abs(np.diff(expected, axis=0)).min() > 100 * TOLERANCE

    with cluster_of_two(tmp_path, f"--dies-after={CRASH}") as (kept, lost):
        last_words = lost.communicate(timeout=LIMIT)[0]
        died = time.monotonic()
        before, errors = kept.communicate(timeout=2 * HEARTBEAT)
        print(f"a lost process is noticed after {time.monotonic() - died:.1f} s")
    assert lost.returncode == -signal.SIGKILL
    # JAX ends the process, which waits for the lost one inside a collective.
    assert kept.returncode != 0
    assert re.search(r"tasks are unhealthy.*\n1\n", errors)
    assert "another task died" in errors

    with cluster_of_two(tmp_path) as processes:
        printed = [process.communicate(timeout=LIMIT) for process in processes]
    for process, (after, errors), earlier in zip(
        processes, printed, (before, last_words), strict=True
    ):
        assert process.returncode == 0, errors
        *found, last = read(earlier) + read(after)
        assert [x["step"] for x in found] == list(range(1, STEPS + 1))
        losses = np.array([x["losses"] for x in found])
        np.testing.assert_allclose(losses, expected, rtol=TOLERANCE)
        for name, values in final["params"].items():
            error = np.abs(np.array(last["params"][name]) - np.array(values)).max()
            assert error <= TOLERANCE * np.abs(values).max(), name
