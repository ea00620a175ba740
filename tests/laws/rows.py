"""The rows of all families: what the laws, the accuracy law and the tables of benchmarks run over.

`cases.py` of a family holds its `CASES`, one row per loss, and its `VARIATIONS`: losses again,
under an option that makes another formula of them, for the laws that differ there, and its
`FUNCTIONS`: what is public and no loss, for the laws of accuracy and second order alone. Exact
values are those of the function of the same name in the family's `oracles.py`.
"""

from __future__ import annotations

import importlib
from typing import Any

from tests.laws.case import FAMILIES, LOG_PROBABILITIES, LOGITS, PROBABILITIES, Case


def _rows(kind: str) -> dict[str, list[Case]]:
    modules: dict[str, Any] = {
        family: importlib.import_module(f"tests.{family}.cases") for family in FAMILIES
    }
    return {family: getattr(module, kind, []) for family, module in modules.items()}


CASES_OF = _rows("CASES")
VARIATIONS_OF = _rows("VARIATIONS")
FUNCTIONS_OF = _rows("FUNCTIONS")
ROWS_OF = {
    family: [*CASES_OF[family], *VARIATIONS_OF[family], *FUNCTIONS_OF[family]]
    for family in FAMILIES
}
CASES = [case for rows in CASES_OF.values() for case in rows]
VARIATIONS = [case for rows in VARIATIONS_OF.values() for case in rows]
FUNCTIONS = [case for rows in FUNCTIONS_OF.values() for case in rows]

# The kinds of predictions that have a class axis.
OF_CLASSES = (LOGITS, PROBABILITIES, LOG_PROBABILITIES)
