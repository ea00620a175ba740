"""What each form for XLA on CPU is worth: the time of the plain form over that of its own.

`jaxloss/_numerics/xla.py` has both; a ratio near 1 says that a form has lost its reason.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from _common import Parser, cases, publish, table
from speed import QUANTILE, _drawn
from tqdm import tqdm

from jaxloss._numerics import xla

# The function for CPUs, and a row that it was written for: its shape, whether with the gradient.
ROWS = (
    ("fenced", "log_cosh", (2**22,), True),
    ("fenced", "welsch_loss", (2**22,), True),
    ("_selected", "hinge_loss", (2**22,), False),
    ("_selected", "squared_logarithmic_error", (2**22,), False),
    ("_at_most_two", "sigmoid_binary_cross_entropy", (2**22,), True),
    ("_score_and_rival_of_bits", "softmax_cross_entropy_with_integer_labels", (4096, 1000), True),
    ("_score_and_rival_of_bits", "multi_margin_loss", (4096, 1000), True),
    ("_grouped_sums", "softmax_cross_entropy", (4096, 1000), True),
    ("_fenced_sums", "softmax_cross_entropy", (65536, 10), True),
    ("in_two_passes", "softmax_cross_entropy_with_integer_labels", (4096, 1000), True),
    ("in_two_passes", "softmax_cross_entropy", (4096, 1000), True),
)
ROUNDS, CALLS = 12, 4


def _name(function: Any) -> str:
    while isinstance(function, functools.partial):
        function = function.func
    return function.__name__


def _choosing(off: str | None) -> Callable[..., Any]:
    """`_either`, with the plain form in place of one for CPUs."""

    def chosen(cpu: Any, plain: Any, *args: Any, gpu: Any = None) -> Any:
        del gpu
        return (plain if _name(cpu) == off else cpu)(*args)

    return chosen


def _compiled(case: Any, data: list[Any], gradient: bool, off: str | None) -> Callable[[], Any]:
    kept, xla.either = xla.either, _choosing(off)
    try:
        jax.clear_caches()

        def mean(*data: Any) -> Any:
            return case.loss(*data, **{**case.options, "reduction": "mean"})

        program = jax.jit(jax.value_and_grad(mean) if gradient else mean).lower(*data).compile()
    finally:
        xla.either = kept
    return lambda: jax.block_until_ready(program(*data))


def main() -> None:
    args = Parser(__doc__).parse_args()
    lines = []
    with tqdm(ROWS) as rows:
        for trick, name, shape, gradient in rows:
            case = next(case for case in cases.CASES if case.name == name)
            data = [jnp.asarray(x) for x in _drawn(case, shape)]
            runs = [_compiled(case, data, gradient, off) for off in (None, trick)]
            seconds: list[list[float]] = [[], []]
            for number in range(ROUNDS * CALLS):
                for i in (0, 1) if number // CALLS % 2 else (1, 0):
                    begin = time.perf_counter()
                    runs[i]()
                    seconds[i].append(time.perf_counter() - begin)
            ours, plain = (float(np.quantile(x, QUANTILE)) for x in seconds)
            kind = "value_and_grad" if gradient else "value"
            shown = f"{1e3 * ours:.2f}", f"{1e3 * plain:.2f}", f"{plain / ours:.2f}"
            lines.append([f"`{trick}`", f"`{name}` {list(shape)} {kind}", *shown])
    publish(table(["form", "row", "ms", "plain ms", "ratio"], lines, words=(0, 1)), args.write)


if __name__ == "__main__":
    main()
