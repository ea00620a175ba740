"""Two processes of four devices each train what one process of eight does, also after a crash."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.laws.public import ROOT
from tests.scale import cluster

STEPS, CRASH, HEARTBEAT, START = 5, 3, 5, 45
# Sums of up to 192 words, of which two processes add other parts first.
TOLERANCE = 192 * float(np.finfo(np.float32).eps)


def launched(directory: Path, *options: str) -> list[subprocess.Popen[str]]:
    """Two processes that know each other."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    flags = re.sub(r"--xla_force_host_platform_device_count=\d+", "", os.environ["XLA_FLAGS"])
    flags += " --xla_force_host_platform_device_count=4"
    environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    shared = ["--processes=2", f"--port={port}", f"--steps={STEPS}", f"--directory={directory}"]
    command = [sys.executable, "-m", "tests.scale.cluster", *shared]
    return [
        subprocess.Popen(
            [*command, f"--process={i}", *(options if i else options[:1])],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(2)
    ]


def ended(processes: list[subprocess.Popen[str]], limit: float) -> list[tuple[int, str, str]]:
    """How each of them ended, and what it printed."""
    try:
        found = [process.communicate(timeout=limit) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(x.returncode, *texts) for x, texts in zip(processes, found, strict=True)]


def read(output: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines() if line.startswith("{")]


def test_a_cluster_trains_as_one_process_does_and_goes_on_after_a_crash(tmp_path: Path) -> None:
    pytest.importorskip("orbax.checkpoint")
    *steps, final = cluster.train(STEPS)
    expected = np.array([x["losses"] for x in steps])
    # It learns something: the numbers of different steps differ by more than by rounding.
    assert np.abs(np.diff(expected, axis=0)).min() > 100 * TOLERANCE

    started = time.monotonic()
    processes = launched(tmp_path, f"--heartbeat={HEARTBEAT}", f"--dies-after={CRASH}")
    processes[1].wait(timeout=START)
    died = time.monotonic()
    (code, output, errors), (killed, other, _) = ended(processes, HEARTBEAT + 20)
    print(f"{died - started:.1f} s to the crash, noticed after {time.monotonic() - died:.1f} s")
    assert killed == -9
    # JAX ends the process, which waits for the lost one inside a collective.
    assert code != 0
    assert re.search(r"tasks are unhealthy.*\n?.*\b1\b", errors)
    assert "another task died" in errors

    started = time.monotonic()
    again = ended(launched(tmp_path, "--heartbeat=60"), START)
    print(f"{time.monotonic() - started:.1f} s to go on from step {CRASH}")
    for (code, rest, errors), before in zip(again, (output, other), strict=True):
        assert code == 0, errors
        *resumed, last = read(rest)
        found = [*read(before), *resumed]
        assert [x["step"] for x in found] == list(range(1, STEPS + 1))
        losses = np.array([x["losses"] for x in found])
        np.testing.assert_allclose(losses, expected, rtol=TOLERANCE)
        for name, values in final["params"].items():
            want = np.array(values)
            error = np.abs(np.array(last["params"][name]) - want).max()
            assert error <= TOLERANCE * np.abs(want).max(), name
