"""What all tests share: devices, compilation, strictness, and the doctests of public functions."""

import os

# Eight simulated devices for the sharding tests; read when JAX starts.
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + (
    " --xla_force_host_platform_device_count=8"
)

import doctest
import gc
import inspect
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import jax
import jax.numpy as jnp
import pytest

import jaxloss
from tests.laws import compiling

compiling.without_optimisations()

# What was compiled once is read the next time: the laws of the regression losses took 124 seconds
# of CPU at first and 86 then; the rest is tracing. Whoever sets JAX_COMPILATION_CACHE_DIR has said
# where.
if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
    ROOT = Path(__file__).parent
    jax.config.update("jax_compilation_cache_dir", str(ROOT / ".cache" / "jax"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)

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


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--family", help="of the laws, run those of one family: boxes, ranking, ...")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the laws of other families than the one asked for."""
    family = config.getoption("--family")
    if not family:
        return
    from tests.laws.public import home

    def kept(item: pytest.Item) -> bool:
        given = getattr(item, "callspec", None)
        case = given.params.get("case") if given else None
        others = given.params.get("family", family) if given else family
        return others == family and (case is None or home(case.name) == family)

    items[:] = [item for item in items if kept(item)]


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


# Public functions name `jaxloss` as their module; their examples are run where they are written.
_from_module = doctest.DocTestFinder._from_module  # type: ignore[attr-defined]


def _written_in(finder: doctest.DocTestFinder, module: Any, value: Any) -> bool:
    if inspect.isfunction(value) and value.__module__ == "jaxloss":
        return inspect.unwrap(value).__globals__ is vars(module)
    if value is jaxloss.Mean:
        return module.__name__ == "jaxloss._contract.reduce"
    return _from_module(finder, module, value)


doctest.DocTestFinder._from_module = _written_in  # type: ignore[attr-defined]


@pytest.fixture(autouse=True)
def _names_of_examples(doctest_namespace: dict[str, Any]) -> None:
    """What a reader of an example has imported."""
    doctest_namespace.update(jax=jax, jnp=jnp, jaxloss=jaxloss)
