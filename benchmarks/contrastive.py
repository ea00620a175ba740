"""Contrastive losses over the examples of 8 simulated devices: in a ring, or gathered.

Prints temporary bytes of a device and the time of value and gradient, interleaved, beside those of
the gathering form: all examples on each device, and the matrix of its own with all.
"""

from __future__ import annotations

import os

# Read when JAX starts.
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"

import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

import jaxloss

DEVICES, AXIS, SIZE, WIDTH = 8, "batch", 4096, 256
Total = Callable[..., jax.Array]


def _unit(x: jax.Array) -> jax.Array:
    return x / jnp.linalg.norm(x, axis=-1, keepdims=True)


def _all(x: jax.Array) -> jax.Array:
    return jax.lax.all_gather(x, AXIS, tiled=True)


def _own(matrix: jax.Array) -> jax.Array:
    """Whether a column is the partner of a row, which is of this device."""
    first = jax.lax.axis_index(AXIS) * matrix.shape[0]
    rows, columns = (jax.lax.broadcasted_iota(jnp.int32, matrix.shape, i) for i in (0, 1))
    return rows + first == columns


def _one_way(x: jax.Array, y: jax.Array) -> jax.Array:
    scores = _unit(x) @ _all(_unit(y)).T / 0.07
    return -jnp.sum(jnp.where(_own(scores), jax.nn.log_softmax(scores), 0))


def _clip(x: jax.Array, y: jax.Array, _: jax.Array) -> jax.Array:
    return 0.5 * (_one_way(x, y) + _one_way(y, x))


def _siglip(x: jax.Array, y: jax.Array, _: jax.Array) -> jax.Array:
    scores = 10 * (_unit(x) @ _all(_unit(y)).T) - 10
    return jnp.sum(jax.nn.softplus(jnp.where(_own(scores), -scores, scores)))


def _supervised(x: jax.Array, _: jax.Array, labels: jax.Array) -> jax.Array:
    scores = _unit(x) @ _all(_unit(x)).T / 0.1
    own = _own(scores)
    same = (labels[:, None] == _all(labels)[None]) & ~own
    lost = -jax.nn.log_softmax(jnp.where(own, -jnp.inf, scores))
    return jnp.sum(jnp.sum(jnp.where(same, lost, 0), -1) / jnp.maximum(jnp.sum(same, -1), 1))


# The sum of a device's losses, of two views and labels: gathered, and ours.
GATHERED: Mapping[str, Total] = {
    "clip_loss": _clip,
    "siglip_loss": _siglip,
    "info_nce_loss": lambda x, y, _: _one_way(x, y),
    "supervised_contrastive_loss": _supervised,
}
IN_A_RING: Mapping[str, Total] = {
    "clip_loss": lambda x, y, _: jaxloss.clip_loss(x, y, axis_name=AXIS, reduction="sum"),
    "siglip_loss": lambda x, y, _: jaxloss.siglip_loss(x, y, axis_name=AXIS, reduction="sum"),
    "info_nce_loss": lambda x, y, _: jaxloss.info_nce_loss(x, y, axis_name=AXIS, reduction="sum"),
    "supervised_contrastive_loss": lambda x, _, labels: jaxloss.supervised_contrastive_loss(
        x, labels, axis_name=AXIS, reduction="sum"
    ),
}


def mesh() -> Mesh:
    return Mesh(np.array(jax.devices()[:DEVICES]), (AXIS,), axis_types=(AxisType.Auto,))


def program(total: Total, size: int = SIZE, width: int = WIDTH) -> Any:
    """The compiled value and gradients of the sum over all devices."""

    def over_devices(*args: jax.Array) -> jax.Array:
        return jax.lax.psum(total(*args), AXIS)

    mapped = jax.shard_map(over_devices, mesh=mesh(), in_specs=P(AXIS), out_specs=P())
    place = NamedSharding(mesh(), P(AXIS))
    shapes = ((size, width), jnp.float32), ((size, width), jnp.float32), ((size,), jnp.int32)
    args = [jax.ShapeDtypeStruct(*x, sharding=place) for x in shapes]
    return jax.jit(jax.value_and_grad(mapped, (0, 1))).lower(*args).compile()


def temporary_bytes(compiled: Any) -> int:
    return compiled.memory_analysis().temp_size_in_bytes


def seconds(programs: Mapping[Any, Any], args: Any, rounds: int) -> dict[Any, list[float]]:
    """The times of each, of rounds in which each has one turn; the first of all is not counted."""
    found: dict[Any, list[float]] = {name: [] for name in programs}
    for _ in range(rounds + 1):
        for name, compiled in programs.items():
            start = time.perf_counter()
            jax.block_until_ready(compiled(*args))
            found[name].append(time.perf_counter() - start)
    return {name: times[1:] for name, times in found.items()}


def main(rounds: int = 5) -> None:
    rng = np.random.default_rng(0)
    data = (
        *rng.normal(size=(2, SIZE, WIDTH)).astype(np.float32),
        np.arange(SIZE, dtype=np.int32) // 4,
    )
    args = jax.device_put(data, NamedSharding(mesh(), P(AXIS)))
    print(f"{DEVICES} devices, {SIZE} x {WIDTH}, value and gradient; load {os.getloadavg()[0]:.1f}")
    for name in GATHERED:
        forms = {"gathered": program(GATHERED[name]), "ring": program(IN_A_RING[name])}
        sizes = {form: temporary_bytes(x) / 2**20 for form, x in forms.items()}
        times = {form: np.median(x) for form, x in seconds(forms, args, rounds).items()}
        values = [float(x(*args)[0]) for x in forms.values()]
        np.testing.assert_allclose(*values, rtol=1e-5)
        print(
            f"{name}: {sizes['gathered']:.1f} and {sizes['ring']:.1f} MiB, "
            f"1/{sizes['gathered'] / sizes['ring']:.1f}; "
            f"{times['gathered']:.2f} and {times['ring']:.2f} s, "
            f"{times['ring'] / times['gathered']:.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
