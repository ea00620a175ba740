"""Losses that are restated through `elementwise` and `over_axis` keep the laws of ours."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import jax.numpy as jnp
import pytest

import jaxloss
from tests.custom import restated
from tests.laws import rules as laws
from tests.laws import second_order
from tests.laws.accuracy import errors, in_hyper, limit
from tests.laws.case import CLASS, LOGITS, PROBABILITIES, Case
from tests.laws.rows import CASES


def again(loss: Any, **changes: Any) -> Case:
    """The row of a loss of ours, for the same loss restated."""
    row = next(case for case in CASES if case.name == loss.__name__)
    return dataclasses.replace(row, loss=loss, **changes)


BARE: dict[str, Any] = {"options": {}, "variants": (), "outside": ()}
HUBER = again(restated.huber_loss)
LOG_COSH = again(restated.log_cosh)
LOGISTIC = again(restated.sigmoid_binary_cross_entropy, **BARE | {"outside": [(1, -0.1), (1, 1.1)]})
COSINE = again(restated.cosine_distance, **BARE)
SOFT = again(restated.softmax_cross_entropy, **BARE | {"data": (LOGITS, PROBABILITIES)})
HARD = again(
    restated.softmax_cross_entropy_with_integer_labels,
    **BARE
    | {
        "data": (LOGITS, CLASS),
        "options": {"temperature": 0.7},
        "outside": [(1, -1), (1, 3), (1, -100), ("temperature", 0.0)],
    },
)
PAIRS = again(restated.cosine_embedding_loss, entries=False, stated=())
ROWS = [HUBER, LOG_COSH, LOGISTIC, COSINE, SOFT, HARD, PAIRS]
# Of functions; what is an object has laws of its own: test_loss.py.
OTHERS = (laws.ordinary_function,)


def name_of(case: Case) -> str:
    return case.name


@pytest.mark.parametrize("law", [x for x in laws.LAWS if x not in OTHERS], ids=lambda x: x.__name__)
@pytest.mark.parametrize("case", ROWS, ids=name_of)
def test_law(law: Callable[[Case], None], case: Case) -> None:
    law(case)


def refuse(found: Iterable[Any]) -> None:
    assert not list(found)


@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "eager"])
@pytest.mark.parametrize("case", [HUBER, LOG_COSH, LOGISTIC], ids=name_of)
def test_accuracy(case: Case, compiled: bool) -> None:
    """Of formulas that are accurate, with their derivatives, over the whole domain."""
    refuse(x for x in errors(case, compiled) if not x.units <= limit(case, x))


@pytest.mark.parametrize("case", [HUBER, LOG_COSH, LOGISTIC], ids=name_of)
def test_second_order(case: Case) -> None:
    refuse(x for x in second_order.errors(case) if x.units > second_order.LIMIT)
