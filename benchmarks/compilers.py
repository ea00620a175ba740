"""The packages that hold XLA's compilers for GPUs and TPUs, of the JAX that is installed.

Run, it prints them as pip takes them: the compilers alone, without a driver or the rest of CUDA.
"""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

# Where `make accelerators` installs them.
FOLDER = Path(__file__).resolve().parent.parent / ".venv" / "compilers"


def packages() -> list[str]:
    """Requirements, each without a space."""
    release = metadata.version("jax")
    wanted = (x.partition(";")[0] for x in metadata.requires("jax") or ())
    libtpu = next(x.strip() for x in wanted if x.startswith("libtpu"))
    cuda = [f"jax-cuda12-{part}=={release}" for part in ("plugin", "pjrt")]
    return [libtpu.replace(" ", ""), *cuda, "nvidia-cuda-nvcc-cu12"]


def version(package: str) -> str:
    """That of a package in the folder, or of one that is installed beside JAX."""
    found = [x.version for x in metadata.distributions(name=package, path=[str(FOLDER)])]
    try:
        return found[0] if found else metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


if __name__ == "__main__":
    print(*packages())
