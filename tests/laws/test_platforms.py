"""Losses as they are computed on accelerators, run on the CPU.

Where `_numerics/xla.py` has one form for CPUs and another for all other platforms, the other laws
see the first. These see the second.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import jax
import pytest

from jaxloss._numerics import xla
from tests.laws import second_order
from tests.laws.accuracy import errors, limit
from tests.laws.case import Case
from tests.laws.rows import CASES, VARIATIONS

# The pairs of forms that differ in what the compiler is told, and not in what is computed.
SAME_NUMBERS = {"_as_they_are", "_as_it_is", "_disguised"}


@contextlib.contextmanager
def plain_forms(monkeypatch: pytest.MonkeyPatch) -> Iterator[set[str]]:
    """Forms for other platforms in place of those for CPUs; the names of those that were taken."""
    taken: set[str] = set()

    def plain_of(cpu: Any, plain: Any, *args: Any, gpu: Any = None) -> Any:
        del cpu, gpu
        function = plain.func if isinstance(plain, functools.partial) else plain
        taken.add(function.__name__)
        return plain(*args)

    # What is compiled, or traced, is of one form.
    jax.clear_caches()
    with monkeypatch.context() as patched:
        patched.setattr(xla, "either", plain_of)
        yield taken
    jax.clear_caches()


@pytest.mark.parametrize("case", [*CASES, *VARIATIONS], ids=lambda case: case.name)
def test_other_platforms_are_as_accurate(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    with plain_forms(monkeypatch) as taken:
        jax.eval_shape(functools.partial(case.loss, **case.options), *case.draw())
        if taken <= SAME_NUMBERS:
            pytest.skip("computes the same on every platform")
        too_far = [error for error in errors(case) if not error.units <= limit(case, error)]
        assert not too_far, too_far
        far = [error for error in second_order.errors(case) if error.units > second_order.LIMIT]
        assert not far, far
