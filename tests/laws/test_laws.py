"""Every law on every loss, and every law on a loss with a planted fault."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import pickle
from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxloss
from jaxloss.testing import calls, edges, masks, values
from tests.laws import rules as laws
from tests.laws import second_order
from tests.laws.accuracy import errors, limit
from tests.laws.case import Case
from tests.laws.rows import CASES, FUNCTIONS, VARIATIONS


def name_of(case: Case) -> str:
    return case.name


@pytest.mark.parametrize("law", laws.LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_law(law: Callable[[Case], None], case: Case) -> None:
    law(case)


@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "eager"])
@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_accuracy(case: Case, compiled: bool) -> None:
    """Value and gradients over the whole domain; XLA contracts products and sums when compiled."""
    check_accuracy(case, compiled)


@pytest.mark.parametrize("case", [*VARIATIONS, *FUNCTIONS], ids=name_of)
def test_accuracy_of_variations(case: Case) -> None:
    check_accuracy(case, compiled=True)


@pytest.mark.parametrize("case", [*CASES, *VARIATIONS, *FUNCTIONS], ids=name_of)
def test_second_order(case: Case) -> None:
    """Second derivatives over the whole domain, in three modes, of excluded entries too."""
    check_second_order(case)


def check_second_order(case: Case) -> None:
    too_far = [error for error in second_order.errors(case) if error.units > second_order.LIMIT]
    assert not too_far, too_far


def check_accuracy(case: Case, compiled: bool) -> None:
    too_far = [error for error in errors(case, compiled) if not error.units <= limit(case, error)]
    assert not too_far, too_far


# Of those that another formula may break; each takes half a second of a variation.
OF_VARIATIONS = (
    values.outside_the_domain_is_nan,
    laws.ends_of_the_domain_belong_to_it,
    masks.excluded_entries_are_inert,
    masks.masked_entries_of_a_vector_are_absent,
    values.nan_is_never_hidden,
    values.options_that_are_nan_show,
)


@pytest.mark.parametrize("law", OF_VARIATIONS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("case", VARIATIONS, ids=name_of)
def test_law_of_variations(law: Callable[[Case], None], case: Case) -> None:
    law(case)


L1 = next(case for case in CASES if case.loss is jaxloss.l1_loss)
LOG_COSH = next(case for case in CASES if case.loss is jaxloss.log_cosh)
HUBER = next(case for case in CASES if case.loss is jaxloss.huber_loss)
TRIPLET = next(case for case in CASES if case.loss is jaxloss.triplet_margin_loss)
BYOL = next(case for case in CASES if case.loss is jaxloss.byol_loss)
COSINE = next(case for case in CASES if case.loss is jaxloss.cosine_distance)
SOFT = next(case for case in CASES if case.loss is jaxloss.softmax_cross_entropy)
CLASS_NUMBERS = next(
    case for case in CASES if case.loss is jaxloss.softmax_cross_entropy_with_integer_labels
)


def planted(case: Case, change: Callable[..., Any]) -> Case:
    """The row with `change(loss, *args, **options)` in place of its loss."""

    @functools.wraps(case.loss)
    def faulty(*args: Any, **options: Any) -> Any:
        return change(case.loss, *args, **options)

    faulty.__signature__ = inspect.signature(case.loss)  # type: ignore
    faulty.__wrapped__ = functools.partial(change, case.loss.__wrapped__)  # type: ignore
    return dataclasses.replace(case, loss=faulty)


def biased_by_rows(loss: Callable[..., Any], *args: Any, **options: Any) -> Any:
    losses = loss(*args, **options)
    return losses + (1e-3 if losses.ndim == 1 else 0)


def biased_eagerly(loss: Callable[..., Any], *args: Any, **options: Any) -> Any:
    return loss(*args, **options) * (1 if hasattr(loss, "__wrapped__") else 1 + 2.4e-6)


@jax.custom_jvp
def wrong_slope(x: jax.Array) -> jax.Array:
    return x


wrong_slope.defjvp(lambda primals, tangents: (primals[0], 1.001 * tangents[0]))


def naive_l1(loss: Any, p: Any, t: Any = 0.0, **options: Any) -> Any:
    """What users write by hand."""
    return jaxloss.reduce(jnp.abs(p - t), **options)


def masked_late(loss: Any, *args: Any, where: Any = None, **options: Any) -> Any:
    losses = loss(*args, **{k: v for k, v in options.items() if k != "reduction"})
    if where is not None:
        losses = jnp.where(where if where.ndim == losses.ndim else where[..., 0], losses, 0)
    return jaxloss.reduce(losses, reduction=options.get("reduction", "none"))


def mean_of_all(loss: Any, *args: Any, reduction: str = "none", **options: Any) -> Any:
    losses = loss(*args, **options)
    return jnp.mean(losses) if reduction == "mean" else loss(*args, reduction=reduction, **options)


def mean_of_nothing(
    loss: Any, *args: Any, where: Any = None, reduction: str = "none", **options: Any
) -> Any:
    if reduction == "mean" and where is not None:
        return jnp.sum(loss(*args, where=where, **options)) / jnp.sum(jnp.asarray(where))
    return loss(*args, where=where, reduction=reduction, **options)


def rounded(loss: Any, p: Any, *args: Any, **options: Any) -> Any:
    """In float32, of what was computed in the dtype of the data."""
    return loss(p, *args, **options).astype(jnp.asarray(p).dtype).astype(jnp.float32)


def in_half(loss: Any, *args: Any, **options: Any) -> Any:
    return loss(*(jnp.asarray(x).astype(jnp.bfloat16) for x in args), **options)


def broadcasting(loss: Any, p: Any, t: Any, **options: Any) -> Any:
    return loss(*jnp.broadcast_arrays(jnp.asarray(p), jnp.asarray(t)), **options)


def checked_by_chex(loss: Any, p: Any, t: Any, **options: Any) -> Any:
    chex.assert_equal_shape((jnp.asarray(p), jnp.asarray(t)))
    return broadcasting(loss, p, t, **options)


def first_knob(loss: Any, *args: Any, delta: Any = 1.0, **options: Any) -> Any:
    return loss(*args, delta=jnp.ravel(jnp.asarray(delta))[0], **options)


def reading_all_knobs(loss: Any, *args: Any, delta: Any = 1.0, **options: Any) -> Any:
    return loss(*args, delta=delta, **options) + 0 * jnp.sum(jnp.asarray(delta, jnp.float32))


def doubled_if_given(loss: Any, *args: Any, delta: Any = None, **options: Any) -> Any:
    return loss(*args, **options) if delta is None else 2 * loss(*args, delta=delta, **options)


def hidden_nan(loss: Any, *args: Any, **options: Any) -> Any:
    return jnp.nan_to_num(loss(*args, **options))


def clamped_knob(loss: Any, *args: Any, delta: Any = 1.0, **options: Any) -> Any:
    return loss(*args, delta=jnp.maximum(jnp.asarray(delta), 0.0), **options)


def blind_to_a_small_negative(loss: Any, *args: Any, delta: Any = 1.0, **options: Any) -> Any:
    delta = jnp.asarray(delta)
    return loss(*args, delta=jnp.where(jnp.abs(delta) < 1e-6, jnp.abs(delta), delta), **options)


def above_0(loss: Any, *args: Any, delta: Any = 1.0, **options: Any) -> Any:
    return loss(*args, delta=jnp.where(jnp.asarray(delta) == 0, 1e-3, delta), **options)


def below_infinity(loss: Any, *args: Any, delta: Any = 1.0, **options: Any) -> Any:
    return loss(*args, delta=jnp.where(jnp.isinf(jnp.asarray(delta)), 0.1, delta), **options)


def without_nan(loss: Any, *args: Any, delta: Any = 1.0, **options: Any) -> Any:
    return loss(*args, delta=jnp.where(jnp.isnan(jnp.asarray(delta)), 1.0, delta), **options)


def without_nan_slopes(loss: Any, *args: Any, delta: Any = 1.0, **options: Any) -> Any:
    losses = without_nan(loss, *args, delta=delta, **options)
    return jnp.where(jnp.isnan(jnp.asarray(delta)), jnp.nan, losses)


def reading_all_knobs_late(loss: Any, *args: Any, delta: Any = 1.0, **options: Any) -> Any:
    return loss(*args, delta=delta, **options) + 0 * jnp.asarray(delta, jnp.float32)


def symmetric(loss: Any, p: Any, t: Any, **options: Any) -> Any:
    return 0.5 * (loss(p, t, **options) + loss(t, p, **options))


@jax.custom_jvp
def moving(x: jax.Array) -> jax.Array:
    return 0 * x


moving.defjvp(lambda primals, tangents: (0 * primals[0], 1e-3 * tangents[0]))


def symmetric_forward(loss: Any, p: Any, t: Any, **options: Any) -> Any:
    return loss(p, t, **options) + jnp.sum(moving(jnp.asarray(t)))


def along_the_last(loss: Any, *args: Any, axis: Any = -1, **options: Any) -> Any:
    return loss(*args, **options)


def wrong_by_rows(loss: Any, *args: Any, **options: Any) -> Any:
    losses = loss(*args, **options)
    return wrong_slope(losses) if losses.ndim == 1 else losses


def clamped_labels(loss: Any, x: Any, labels: Any, **options: Any) -> Any:
    return loss(x, jnp.clip(jnp.asarray(labels), 0, x.shape[-1] - 1), **options)


def wrapped_labels(loss: Any, x: Any, labels: Any, **options: Any) -> Any:
    labels = jnp.asarray(labels)
    return loss(x, jnp.where(labels < 0, labels + x.shape[-1], labels), **options)


def weighed_by_numpy(loss: Any, *args: Any, weights: Any = None, **options: Any) -> Any:
    return loss(*args, weights=None if weights is None else np.asarray(weights), **options)


def masked_by_arrays_only(loss: Any, *args: Any, where: Any = None, **options: Any) -> Any:
    return loss(*args, where=None if isinstance(where, list) else where, **options)


def knobs_by_numpy(loss: Any, *args: Any, delta: Any = 1.0, **options: Any) -> Any:
    return loss(*args, delta=np.asarray(delta, np.float32), **options)


def weighed_by_size(loss: Any, p: Any, t: Any, **options: Any) -> Any:
    return loss(p, t, **options) * (1 + 1e-3 * (np.size(t) == 1))


def refused_in_general(loss: Any, x: Any, labels: Any, **options: Any) -> Any:
    if not np.ndim(labels):
        raise ValueError("labels must be an array")
    return loss(x, labels, **options)


def biased_if_sharded(loss: Any, *args: Any, **options: Any) -> Any:
    seen = any(jax.typeof(args[0]).sharding.spec)
    return loss(*args, **options) * (1.001 if seen else 1)


def reversed_rows(loss: Any, *args: Any, **options: Any) -> Any:
    return loss(*(x[::-1] for x in args), **options)[::-1]


def reversed_classes(loss: Any, *args: Any, **options: Any) -> Any:
    return loss(*(x[..., ::-1] for x in args), **options)


def chatty(loss: Any, *args: Any, **options: Any) -> Any:
    """Devices ask each other for one number of a row after the other."""
    sums = [jnp.sum(jnp.cos(n * args[0]), -1) for n in range(laws.TOLD)]
    return loss(*args, **options) + 0 * functools.reduce(jnp.maximum, sums)


def looped(x: Any) -> Any:
    """`x`, from a loop that starts at an array that is whole on every device."""
    return jax.lax.fori_loop(0, 1, lambda _, __: x, jnp.zeros(x.shape, x.dtype))


def looped_masks(loss: Any, *args: Any, where: Any = None, **options: Any) -> Any:
    return loss(*args, where=None if where is None else looped(where), **options)


FAULTS = [
    (calls.compiled_and_mapped_agree, L1, biased_by_rows),
    (values.derivatives_are_those_of_the_value, L1, lambda f, *a, **k: wrong_slope(f(*a, **k))),
    (masks.excluded_entries_are_inert, L1, masked_late),
    (masks.excluded_entries_are_inert, HUBER, reading_all_knobs),
    (masks.masked_entries_of_a_vector_are_absent, COSINE, masked_late),
    (masks.weights_multiply_and_means_divide_by_them, L1, mean_of_all),
    (masks.nothing_selected_gives_zero, L1, mean_of_nothing),
    (masks.empty_batches_are_allowed, L1, mean_of_all),
    (values.half_precision, L1, lambda f, p, *a, **k: f(p, *a, **k).astype(jnp.asarray(p).dtype)),
    (values.half_precision, L1, rounded),
    (values.double_precision, L1, in_half),
    (values.double_precision, L1, lambda f, *a, **k: f(*a, **k).astype(jnp.float32)),
    (laws.arguments_of_every_kind_are_accepted, L1, lambda f, p, *a, **k: f(p + 0.0, *a, **k)),
    # JAX wraps labels of 64 bits.
    (
        laws.arguments_of_every_kind_are_accepted,
        CLASS_NUMBERS,
        lambda f, x, labels, **k: f(x, jnp.asarray(labels), **k),
    ),
    (laws.lists_are_arrays, L1, weighed_by_numpy),
    (laws.lists_are_arrays, L1, masked_by_arrays_only),
    (laws.lists_are_arrays, HUBER, knobs_by_numpy),
    (laws.lists_are_arrays, L1, lambda f, p, *a, **k: f(np.asarray(p), *a, **k)),
    (laws.scalars_are_broadcast_or_refused, L1, weighed_by_size),
    (laws.scalars_are_broadcast_or_refused, CLASS_NUMBERS, refused_in_general),
    (calls.defaults_written_out_change_nothing, HUBER, doubled_if_given),
    (calls.hyperparameters_broadcast_and_trace, HUBER, first_knob),
    (values.outside_the_domain_is_nan, HUBER, clamped_knob),
    (values.outside_the_domain_is_nan, CLASS_NUMBERS, clamped_labels),
    (values.outside_the_domain_is_nan, CLASS_NUMBERS, wrapped_labels),
    (values.outside_the_domain_is_nan, HUBER, blind_to_a_small_negative),
    (laws.ends_of_the_domain_belong_to_it, HUBER, above_0),
    (laws.ends_of_the_domain_belong_to_it, HUBER, below_infinity),
    (laws.what_is_constant_has_no_derivative, BYOL, symmetric),
    (laws.what_is_constant_has_no_derivative, BYOL, symmetric_forward),
    (calls.another_axis_is_the_same_loss, COSINE, along_the_last),
    (values.nan_is_never_hidden, L1, hidden_nan),
    (values.options_that_are_nan_show, HUBER, without_nan),
    (values.options_that_are_nan_show, HUBER, without_nan_slopes),
    (values.options_that_are_nan_show, HUBER, reading_all_knobs_late),
    (laws.stated_subgradients, L1, naive_l1),
    (laws.exact_predictions_cost_nothing, L1, lambda f, *a, **k: f(*a, **k) - 1e-3),
    (calls.pickled_by_name, L1, lambda f, *a, **k: f(*a, **k)),
    # Another default than the row says.
    (
        laws.ordinary_function,
        dataclasses.replace(L1, reduction="mean"),
        lambda f, *a, **k: f(*a, **k),
    ),
    (
        calls.inside_other_transformations,
        L1,
        lambda f, *a, **k: wrong_slope(f(*a, **k)) if f(*a).ndim == 1 else f(*a, **k),
    ),
    (
        calls.exported_for_any_batch,
        L1,
        lambda f, p, *a, **k: f(p, *a, **k) * (np.broadcast_shapes(p.shape) != ()),
    ),
    (laws.examples_may_be_sharded, L1, biased_if_sharded),
    (laws.examples_may_be_sharded, L1, reversed_rows),
    (laws.examples_may_be_sharded, L1, lambda f, p, *a, **k: f(looped(p), *a, **k)),
    (laws.examples_may_be_sharded, L1, looped_masks),
    (laws.classes_may_be_sharded, SOFT, biased_if_sharded),
    (laws.classes_may_be_sharded, SOFT, reversed_classes),
    (laws.classes_may_be_sharded, SOFT, chatty),
    (laws.classes_may_be_sharded, SOFT, looped_masks),
    (laws.inside_a_shard_map, L1, lambda f, p, *a, **k: f(looped(p), *a, **k)),
    (calls.data_are_never_broadcast, L1, broadcasting),
    # 0 * inf where predictions are exact.
    (edges.nothing_turns_nan, L1, lambda f, *a, **k: jnp.sqrt(jnp.square(f(*a, **k)))),
    (laws.shapes_are_refused_by_name, L1, broadcasting),
    (laws.shapes_are_refused_by_name, L1, checked_by_chex),
    # JAX adds a note to what is raised under `jit`.
    (
        laws.shapes_are_refused_by_name,
        L1,
        lambda f, *a, **k: jax.jit(functools.partial(f, **k))(*a),
    ),
]


CAUGHT = (AssertionError, TypeError, ValueError, pickle.PicklingError, pytest.fail.Exception)


@pytest.mark.parametrize(("law", "case", "change"), FAULTS)
def test_law_catches_a_planted_fault(law: Any, case: Case, change: Any) -> None:
    with pytest.raises(CAUGHT):
        law(planted(case, change))


def test_every_law_was_seen_to_fail() -> None:
    assert {law for law, *_ in FAULTS} == set(laws.LAWS)


def test_accuracy_catches_a_planted_fault() -> None:
    # 20 eps of the value, and a gradient that is right.
    biased = planted(L1, lambda f, *a, **k: f(*a, **k) * (1 + 2.4e-6))
    with pytest.raises(AssertionError):
        check_accuracy(biased, compiled=True)
    with pytest.raises(AssertionError):
        check_accuracy(planted(L1, biased_eagerly), compiled=False)
    # A number where the loss is infinite, at points that are not the last.
    bounded = planted(L1, lambda f, *a, **k: jnp.minimum(f(*a, **k), jnp.finfo(jnp.float32).max))
    with pytest.raises(AssertionError):
        check_accuracy(bounded, compiled=True)
    fading = planted(L1, lambda f, *a, **k: wrong_slope(f(*a, **k)))
    with pytest.raises(AssertionError):
        check_accuracy(fading, compiled=True)


@jax.custom_jvp
def bent(x: jax.Array) -> jax.Array:
    """`x`, whose slope is 1 everywhere and has a derivative all the same."""
    return x


@jax.custom_jvp
def one(x: jax.Array) -> jax.Array:
    return jnp.ones_like(x)


bent.defjvp(lambda primals, tangents: (primals[0], one(*primals) * tangents[0]))
one.defjvp(lambda primals, tangents: (one(*primals), 1e-3 * tangents[0]))


@pytest.mark.parametrize(
    ("case", "change"),
    [
        (LOG_COSH, lambda f, *a, **k: bent(f(*a, **k))),
        (LOG_COSH, masked_late),
        # Infinite slopes at a kink.
        (L1, lambda f, *a, **k: jnp.sqrt(f(*a, **k))),
    ],
)
def test_second_order_catches_a_planted_fault(case: Case, change: Any) -> None:
    with pytest.raises(AssertionError):
        check_second_order(planted(case, change))


def test_each_formula_that_a_number_chooses_is_measured_eagerly() -> None:
    def faulty(loss: Any, *args: Any, norm_degree: Any = 2, **options: Any) -> Any:
        losses = loss(*args, norm_degree=norm_degree, **options)
        return losses * jnp.where(jnp.asarray(norm_degree) == 3, 1.001, 1).astype(losses.dtype)

    with pytest.raises(AssertionError):
        check_accuracy(planted(TRIPLET, faulty), compiled=False)
