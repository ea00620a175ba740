"""How the tests compile.

Most programs here run once or twice, and to compile them takes most of the time: `conftest.py`
turns XLA's optimisations off, which halves the time of the suite. What they do to the digits is
the matter of the accuracy law and of a few tests that say so: these compile `as_users`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import jax

# Each of XLA's flags with its value here and its default.
OPTIONS = {
    "xla_backend_optimization_level": (0, 3),
    "xla_cpu_use_fusion_emitters": (False, True),
    "xla_cpu_parallel_codegen_split_count": (1, 32),
}
FLAGS = " ".join(f"--{name}={str(value).lower()}" for name, (value, _) in OPTIONS.items())


def without_optimisations() -> None:
    """Before JAX starts, and inherited by the processes of pytest-xdist."""
    given = os.environ.get("XLA_FLAGS", "")
    if FLAGS in given:
        return
    flags = f"{given} {FLAGS}"
    # Another version of XLA ends the process at a flag that it does not know.
    start = [sys.executable, "-c", "import jax; jax.devices()"]
    environment = {**os.environ, "XLA_FLAGS": flags}
    if not subprocess.run(start, env=environment, capture_output=True, check=False).returncode:
        os.environ["XLA_FLAGS"] = flags


def as_users(function: Callable[..., Any]) -> Callable[..., Any]:
    """`jax.jit` with XLA's own choices."""
    turned_off = FLAGS in os.environ.get("XLA_FLAGS", "")
    defaults = {name: default for name, (_, default) in OPTIONS.items()} if turned_off else {}
    return jax.jit(function, compiler_options=defaults)
