"""The packages that hold XLA's compilers for GPUs and TPUs, of the JAX that is installed.

Run, it prints them as pip takes them: the compilers alone, without a driver or the rest of CUDA.
"""

from __future__ import annotations

import os
from importlib import metadata
from pathlib import Path
from typing import Any

# Where `make accelerators` installs them.
FOLDER = Path(__file__).resolve().parent.parent / ".venv" / "compilers"

# What the compilers know the chips by: a TPU's topology and type, the numbers of GPUs.
TOPOLOGIES = {
    "v5e": ("v5e:2x2", "v5litepod-4"),
    "16 v5e": ("v5e:4x4", "v5litepod-16"),
    "H100": ("1x1x1", ""),
    "8 H100": ("1x1x8", ""),
}


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


def environment(target: str) -> dict[str, str]:
    """What has to be set before JAX starts, to compile for chips that are not here."""
    given = {
        "JAX_PLATFORMS": "cpu",
        "JAX_SKIP_CUDA_CONSTRAINTS_CHECK": "1",
        "TPU_SKIP_MDS_QUERY": "1",
        "TPU_ACCELERATOR_TYPE": TOPOLOGIES[target][1] or "v5litepod-4",
        "TPU_WORKER_HOSTNAMES": "localhost",
        "TPU_WORKER_ID": "0",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        # The compilers themselves are measured.
        "JAX_ENABLE_COMPILATION_CACHE": "false",
    }
    given["PYTHONPATH"] = os.pathsep.join(filter(None, (str(FOLDER), os.environ.get("PYTHONPATH"))))
    if target.endswith("H100"):
        # ptxas and the library of mathematical functions.
        folder = FOLDER / "nvidia" / "cuda_nvcc"
        given["XLA_FLAGS"] = f"--xla_gpu_autotune_level=0 --xla_gpu_cuda_data_dir={folder}"
    return given


def devices(target: str) -> list[Any]:
    """The chips of a target, which are not here."""
    from jax.experimental import topologies

    name, _ = TOPOLOGIES[target]
    if target.endswith("v5e"):
        return list(topologies.get_topology_desc(name, "tpu").devices)
    config = (Path(__file__).parent / "h100.txtpb").read_text()
    described = topologies.get_topology_desc(
        platform="cuda", topology_name=name, topology=name, target_config=config
    )
    return list(described.devices)


if __name__ == "__main__":
    print(*packages())
