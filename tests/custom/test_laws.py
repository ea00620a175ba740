"""Losses that are restated through `elementwise` and `over_axis` keep the laws of ours."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
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


def too_far(case: Case, compiled: bool) -> list[Any]:
    """Without derivatives in a knob: next to it, e = p - t has lost what they depend on."""
    found = errors(case, compiled)
    return [x for x in found if not in_hyper(x) and not x.units <= limit(case, x)]


@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "eager"])
@pytest.mark.parametrize("case", [HUBER, LOG_COSH, LOGISTIC], ids=name_of)
def test_accuracy(case: Case, compiled: bool) -> None:
    """Of formulas that are accurate, with their derivatives, over the whole domain."""
    assert not too_far(case, compiled)


# The line of delta = 0 has a kink at 0, whose derivative in delta the formula does not state.
SMOOTH = dataclasses.replace(HUBER, variants=({"delta": 1.0},))


@pytest.mark.parametrize("case", [SMOOTH, LOG_COSH, LOGISTIC], ids=name_of)
def test_second_order(case: Case) -> None:
    """Of the stated derivatives, by JAX, over the whole domain and of excluded entries."""
    found = second_order.errors(case)
    assert not [x for x in found if x.units > second_order.LIMIT]


@pytest.mark.parametrize("case", ROWS, ids=name_of)
def test_it_is_the_loss_of_ours(case: Case) -> None:
    """Values, gradients and Hessian-vector products at ordinary points, masked and weighted."""
    own, args = getattr(jaxloss, case.name), [jnp.asarray(x) for x in case.draw(7)]
    some = case.shape(len(args[0]))
    where = jnp.arange(math.prod(some)).reshape(some) % 3 > 0

    def derivatives(loss: Any) -> Any:
        def mean(*floats: Any) -> Any:
            given = dict(enumerate(args)) | dict(zip(case.floating, floats, strict=True))
            options = {**case.options, "weights": jnp.where(where, 1.5, jnp.nan)}
            return loss(*given.values(), **options, where=where, reduction="mean")

        at = [args[i] for i in case.floating]
        towards = [jnp.cos(3 * x) for x in at]
        return jax.jvp(jax.value_and_grad(mean, tuple(range(len(at)))), at, towards)

    found, expected = jax.jit(derivatives, static_argnums=0)(case.loss), derivatives(own)
    for got, want in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        # The second derivatives of a cosine add and subtract several products of its size.
        laws.assert_close(got, want, units=second_order.LIMIT)
