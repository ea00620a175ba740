import os

# Eight simulated devices for the sharding tests; read when JAX starts.
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + (
    " --xla_force_host_platform_device_count=8"
)

import gc
import itertools
from collections.abc import Iterator

import hypothesis
import jax
import pytest

from tests.laws import compiling

compiling.without_optimisations()

# Nothing is promoted or broadcast by accident.
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

# Nearly every test compiles programs of its own, and JAX keeps them all: gigabytes in the end,
# through which Python's garbage collector walks again and again.
_KEPT = 150
_tests = itertools.count(1)


@pytest.fixture(autouse=True)
def _forget_programs() -> Iterator[None]:
    yield
    if next(_tests) % _KEPT == 0:
        jax.clear_caches()
        gc.collect()


def pytest_collection_finish() -> None:
    """Spare the garbage collector what stays to the end, and most of its walks."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)


# The same examples each time, however long they take.
hypothesis.settings.register_profile(
    "repeated",
    derandomize=True,
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("repeated")
