"""What each form for XLA on CPU is worth: the time of the plain form over that of its own.

`jaxloss/_numerics/xla.py` and `reductions.py` have both; a ratio near 1 says that a form has lost
its reason. Written to TRICKS.md.
"""

from __future__ import annotations

import ast
import datetime
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from _common import CTC, ROOT, Parser, cases, publish, table
from speed import DIMENSION, IMAGES, QUANTILE, cores, drawn, spoken
from tqdm import tqdm

import jaxloss
from jaxloss._numerics import xla

RESULTS = Path(os.path.relpath(Path(__file__).with_name("TRICKS.md")))
ELEMENTWISE, CLASSES, FEW = (2**22,), (4096, 1000), (65536, 10)
VECTORS, LISTS = (4096, DIMENSION), (256, 1000)

# The functions that have a form for CPUs, and rows that they were written for: a shape, and whether
# with the gradient.
ROWS = (
    ("computed_anew", "log_cosh", ELEMENTWISE, True),
    ("computed_anew", "welsch_loss", ELEMENTWISE, True),
    ("keep_out_of_sum", "hinge_loss", ELEMENTWISE, False),
    ("keep_out_of_sum", "squared_logarithmic_error", ELEMENTWISE, False),
    ("fuse_into_users", "sigmoid_binary_cross_entropy", ELEMENTWISE, True),
    ("all_on_cpu", "sigmoid_focal_loss", ELEMENTWISE, True),
    ("score_and_rival", "softmax_cross_entropy_with_integer_labels", CLASSES, True),
    ("score_and_rival", "multi_margin_loss", CLASSES, True),
    ("sums", "softmax_cross_entropy", CLASSES, True),
    ("sums", "softmax_cross_entropy", FEW, True),
    ("sums", "multi_margin_loss", CLASSES, True),
    ("in_passes", "softmax_cross_entropy_with_integer_labels", CLASSES, True),
    ("in_passes", "softmax_cross_entropy", CLASSES, True),
    ("in_domain", "poly_loss_cross_entropy", CLASSES, True),
    ("nan_as_the_loss", "zlpr_loss", CLASSES, True),
    ("all_known", "multilabel_soft_margin_loss", CLASSES, True),
    ("nan_by_row", "kl_divergence", CLASSES, True),
    ("nan_by_entry", "kl_divergence", CLASSES, True),
    ("shared_or_apart", "jensen_shannon_divergence", CLASSES, True),
    ("sum_of_terms", "kl_divergence_with_log_targets", (512, 32768), False),
    ("unselected", "binary_dice_loss", IMAGES, True),
    ("sums_of_pixels", "dice_loss", IMAGES, True),
    ("at_once_or_again", "triplet_margin_loss", VECTORS, True),
    ("difference_again", "triplet_margin_loss", VECTORS, True),
    ("in_rows", "giou_loss", IMAGES, True),
    ("over_power", "giou_loss", IMAGES, True),
    ("in_steps", "multilabel_margin_loss", (512, 100), True),
    ("looped", "pairwise_logistic_loss", (32, 1000), True),
    ("sorted_alone", "listmle_loss", LISTS, True),
    ("sorted_alone", "lovasz_hinge_loss", (64, 1000), True),
    ("in_turn", CTC, (), True),
)
# Those whose form for a GPU or a TPU is another, and that for a CPU is the plain one.
ELSEWHERE = {"beside_value", "computed_apart", "last_index", "symmetric_product", "unshared_copies"}
ROUNDS, CALLS, SECONDS = 12, 4, 20.0


def functions() -> set[str]:
    """Those with a form of their own for some platform."""
    found = set()
    for name in ("xla", "reductions"):
        tree = ast.parse((ROOT / "jaxloss" / "_numerics" / f"{name}.py").read_text())
        for function in (x for x in tree.body if isinstance(x, ast.FunctionDef)):
            called = [x.func for x in ast.walk(function) if isinstance(x, ast.Call)]
            names = {x.id if isinstance(x, ast.Name) else getattr(x, "attr", "") for x in called}
            found |= {function.name} if "either" in names else set()
    return found


def _choosing(off: str | None) -> Callable[..., Any]:
    """`either`, with the plain form in place of that for CPUs in one function."""

    def chosen(cpu: Any, plain: Any, *args: Any, gpu: Any = None) -> Any:
        del gpu
        return (plain if sys._getframe(1).f_code.co_name == off else cpu)(*args)

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


def _seconds(runs: list[Callable[[], Any]]) -> tuple[float, float]:
    """Of both, called in turn."""
    seconds: list[list[float]] = [[], []]
    start = time.perf_counter()
    for number in range(ROUNDS * CALLS):
        for i in (0, 1) if number // CALLS % 2 else (1, 0):
            begin = time.perf_counter()
            runs[i]()
            seconds[i].append(time.perf_counter() - begin)
        if number > 1 and time.perf_counter() - start > SECONDS:
            break
    own, plain = (float(np.quantile(x, QUANTILE)) for x in seconds)
    return own, plain


def main() -> None:
    parser = Parser(__doc__)
    parser.set_defaults(write=RESULTS)
    args = parser.parse_args()
    missing = functions() - ELSEWHERE - {row[0] for row in ROWS}
    assert not missing, f"no row measures {sorted(missing)}"
    by_name = {case.name: case for case in cases.CASES}
    by_name[CTC] = SimpleNamespace(loss=jaxloss.ctc_loss, options={})
    lines = []
    with tqdm(ROWS) as rows:
        for function, name, shape, gradient in rows:
            rows.set_postfix_str(function)
            case = by_name[name]
            data = [jnp.asarray(x) for x in (spoken() if name == CTC else drawn(case, shape))]
            own, plain = _seconds([_compiled(case, data, gradient, x) for x in (None, function)])
            kind = "value_and_grad" if gradient else "value"
            shown = f"{1e3 * own:.2f}", f"{1e3 * plain:.2f}", f"{plain / own:.2f}"
            lines.append([f"`{function}`", f"`{name}` {list(data[0].shape)} {kind}", *shown])
    text = f"""\
# Forms for XLA on CPU

Written by `benchmarks/tricks.py` on {datetime.date.today()}, {cores()} CPU cores, jax
{jax.__version__}: the time of each form for CPUs in `jaxloss/_numerics/xla.py` and
`reductions.py`, and of the plain form in its place, both in one process and in turn.

{table(["function", "row", "ms", "plain ms", "ratio"], lines, words=(0, 1))}"""
    publish(text, args.write)


if __name__ == "__main__":
    main()
