"""One row per loss: what it takes, where it is kinked, and where its accuracy is measured.

The laws of `test_contract.py`, the accuracy law and the tables in `benchmarks/` all read these
rows; exact values are those of the function of the same name in `oracles`.
"""

from __future__ import annotations

from tests.laws.rows import (
    binary,
    boxes,
    contrastive,
    divergence,
    embedding,
    likelihood,
    multiclass,
    multiclass_margin,
    preference,
    ranking,
    regression,
    segmentation,
)
from tests.laws.case import LOG_PROBABILITIES, LOGITS, PROBABILITIES
from tests.laws.case import Case as Case
from tests.laws.case import Options as Options

CASES = [
    *binary.CASES,
    *regression.CASES,
    *likelihood.CASES,
    *multiclass.CASES,
    *multiclass_margin.CASES,
    *divergence.CASES,
    *segmentation.CASES,
    *contrastive.CASES,
    *embedding.CASES,
    *ranking.CASES,
    *preference.CASES,
    *boxes.CASES,
]

# The kinds of predictions that have a class axis.
OF_CLASSES = (LOGITS, PROBABILITIES, LOG_PROBABILITIES)

# Losses again under an option that makes another formula of them: the laws that differ are those
# of accuracy.
VARIATIONS = [
    *likelihood.OF_MEANS,
    *multiclass.OTHER_LABELS,
    *multiclass_margin.SQUARES,
    *segmentation.OF_PROBABILITIES,
    *contrastive.OTHER_MININGS,
    *preference.OTHER_KINDS,
    *boxes.IN_OTHER_FORMATS,
]


def case_id(case: Case) -> str:
    return case.name
