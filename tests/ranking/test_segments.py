"""Lists of several lengths in one vector: against each list by itself, and against rax."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxloss
from jaxloss import (
    approx_mrr_loss,
    approx_ndcg_loss,
    lambda_weights,
    listmle_loss,
    listnet_loss,
    neural_sort_loss,
    pairwise_hinge_loss,
    pairwise_logistic_loss,
    pairwise_mse_loss,
    poly1_softmax_loss,
    ranking_softmax_loss,
    unique_softmax_loss,
)
from tests.laws.peers import as_jax_ships
from tests.laws.values import EPS, evaluated, single

LISTWISE = [
    ranking_softmax_loss,
    poly1_softmax_loss,
    listnet_loss,
    listmle_loss,
    unique_softmax_loss,
]
PAIRWISE = [pairwise_logistic_loss, pairwise_hinge_loss, pairwise_mse_loss]
LOSSES = [*LISTWISE, *PAIRWISE, neural_sort_loss, approx_ndcg_loss, approx_mrr_loss]
every = pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.__name__)

# Two vectors of three lists each, whose documents are mixed; list 3 has none.
NUMBERS = np.array([[2, 0, 0, 1, 2, 0, 1, 2], [0, 1, 1, 1, 2, 0, 1, 0]], np.int32)
_RNG = np.random.default_rng(3)
SCORES = single(_RNG.normal(0, 1.5, NUMBERS.shape))
LABELS = single([[3, 1, 0, 2, 0, 2, 1, 1], [0, 1, 3, 0, 2, 1, 2, 4]])
LISTS: dict[str, Any] = {"segments": NUMBERS, "num_segments": 4, "segment_size": 4}


def given(loss: Any) -> dict[str, Any]:
    return {"reduction": "none"} if loss is ranking_softmax_loss else {}


@every
def test_each_list_by_itself(loss: Any) -> None:
    """Values and gradients, and the mean over the lists that there are."""
    value, (slope,) = evaluated(loss, SCORES, LABELS, **LISTS, **given(loss))
    assert value.shape == (2, 4)
    exact, wanted = np.zeros((2, 4)), np.zeros(SCORES.shape)
    for vector, number in np.ndindex(2, 3):
        own = NUMBERS[vector] == number
        alone = evaluated(loss, SCORES[vector, own], LABELS[vector, own], **given(loss))
        exact[vector, number], (wanted[vector, own],) = alone
    np.testing.assert_allclose(value, exact, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(slope, wanted, rtol=1e-5, atol=1e-6)
    # A list of one document has no pair, and does not count in the losses of pairs.
    counted = exact[:, :3].ravel()
    if loss in (*PAIRWISE, unique_softmax_loss, neural_sort_loss):
        counted = np.delete(counted, 5)
    mean = loss(SCORES, LABELS, **LISTS, reduction="mean")
    np.testing.assert_allclose(mean, counted.mean(), rtol=1e-6)


@every
def test_sizes_are_those_of_the_vector_if_not_told(loss: Any) -> None:
    told = loss(SCORES, LABELS, **LISTS, **given(loss))
    losses = loss(SCORES, LABELS, segments=NUMBERS, **given(loss))
    np.testing.assert_allclose(losses[:, :4], told, rtol=1e-6, atol=1e-7)
    assert losses.shape == (2, 8)
    assert np.all(np.asarray(losses)[:, 4:] == 0)


@every
def test_a_list_that_is_too_long_or_has_no_number_is_nan(loss: Any) -> None:
    short = LISTS | {"segment_size": 3}
    np.testing.assert_array_equal(
        np.isnan(loss(SCORES, LABELS, **short, **given(loss))),
        [[False, False, False, False], [False, True, False, False]],
    )
    few = LISTS | {"num_segments": 2}
    assert np.all(np.isnan(loss(SCORES, LABELS, **few, **given(loss))))
    # Documents that are taken out may have any number, score and label.
    there = NUMBERS < 2
    dirty = [np.where(there, x, np.float32(np.nan)) for x in (SCORES, LABELS)]
    numbers = np.where(there, NUMBERS, -7)
    value, (slope,) = evaluated(
        loss, *dirty, **few | {"segments": numbers}, where=there, **given(loss)
    )
    full, (clean,) = evaluated(loss, SCORES, LABELS, **LISTS, where=there, **given(loss))
    np.testing.assert_array_equal(value, np.asarray(full)[:, :2])
    np.testing.assert_array_equal(slope, clean)
    assert np.all(np.asarray(slope)[~there] == 0)


@pytest.mark.parametrize("loss", PAIRWISE)
def test_weights_of_pairs_of_segments(loss: Any) -> None:
    for options in ({}, {"kind": "ndcg2", "topn": 2}):
        weights = lambda_weights(SCORES, LABELS, **LISTS, **options)
        assert weights.shape == (2, 4, 4, 4)
        losses = np.asarray(loss(SCORES, LABELS, **LISTS, pair_weights=weights))
        for vector, number in np.ndindex(2, 3):
            own = NUMBERS[vector] == number
            pair = SCORES[vector, own], LABELS[vector, own]
            alone = loss(*pair, pair_weights=lambda_weights(*pair, **options))
            np.testing.assert_allclose(losses[vector, number], alone, rtol=1e-5, atol=1e-7)


def test_under_transformations() -> None:
    at = functools.partial(pairwise_logistic_loss, num_segments=4, segment_size=4)
    each = jax.vmap(lambda s, y, g: at(s, y, segments=g))(SCORES, LABELS, NUMBERS)
    np.testing.assert_allclose(each, at(SCORES, LABELS, segments=NUMBERS), rtol=1e-6)
    # Weights of lists, and of documents.
    by_list = single(np.arange(8).reshape(2, 4))
    losses = at(SCORES, LABELS, segments=NUMBERS)
    weighed = at(SCORES, LABELS, segments=NUMBERS, weights=by_list)
    np.testing.assert_allclose(weighed, by_list * losses, rtol=1e-6)
    by_document = np.abs(SCORES)
    found = ranking_softmax_loss(
        SCORES, LABELS, **LISTS, document_weights=by_document, reduction="none"
    )
    factors = ranking_softmax_loss(SCORES, LABELS * by_document, **LISTS, reduction="none")
    np.testing.assert_allclose(found, factors, rtol=1e-6)


def test_memory_is_that_of_the_longest_list() -> None:
    """A vector of 65,536 documents, whose pairs would take 16 GiB."""
    row, whole = jax.ShapeDtypeStruct((65536,), jnp.float32), jnp.int32
    numbers = jax.ShapeDtypeStruct((65536,), whole)

    def total(s: Any, y: Any, g: Any) -> Any:
        lists = {"segments": g, "num_segments": 4096, "segment_size": 32}
        return pairwise_logistic_loss(s, y, **lists, reduction="sum")

    both: Any = jax.jit(jax.value_and_grad(total))
    memory = both.lower(row, row, numbers).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 2**26


RAX = {
    "ranking_softmax_loss": "softmax_loss",
    "poly1_softmax_loss": "poly1_softmax_loss",
    "listmle_loss": "listmle_loss",
    "unique_softmax_loss": "unique_softmax_loss",
}


@pytest.mark.parametrize("name", RAX)
@pytest.mark.parametrize("weighed", [False, True])
def test_rax(name: str, weighed: bool) -> None:
    """A loss stands at the first document of its list there, and is repeated at the others."""
    rax = pytest.importorskip("rax")
    if name == "listmle_loss" and weighed:
        pytest.skip("rax has no weights of documents there")
    distinct = single(LABELS + np.linspace(0, 0.5, 8))
    weights = single(np.abs(SCORES) + 0.5)
    ours, theirs = {}, {}
    if weighed:
        ours, theirs = {"document_weights": weights}, {"weights": jnp.asarray(weights)}

    def total_of_rax(s: Any, y: Any, g: Any, **options: Any) -> Any:
        return jax.vmap(
            lambda s, y, g, options: getattr(rax, RAX[name])(
                s, y, segments=g, reduce_fn=jnp.sum, **options
            )
        )(s, y, g, options)

    loss = getattr(jaxloss, name)
    value, (slope,) = evaluated(loss, SCORES, distinct, **LISTS, **ours, **given(loss))
    with as_jax_ships():
        arrays = [jnp.asarray(x) for x in (SCORES, distinct, NUMBERS)]
        expected = total_of_rax(*arrays, **theirs)
        wanted = jax.grad(lambda s: jnp.sum(total_of_rax(s, *arrays[1:], **theirs)))(arrays[0])
    np.testing.assert_allclose(np.sum(value, -1), expected, rtol=32 * EPS)
    np.testing.assert_allclose(slope, wanted, rtol=1e-4, atol=1e-6)


def test_bad_input() -> None:
    at = functools.partial(listnet_loss, SCORES, LABELS)
    with pytest.raises(ValueError, match=r"segments must have the shape of scores.*int32\[8\]"):
        at(segments=NUMBERS[0])
    with pytest.raises(TypeError, match=r"segments must be integers.*segments float32\[2, 8\]"):
        at(segments=SCORES)
    with pytest.raises(ValueError, match="num_segments must be a positive integer, got int 0"):
        at(segments=NUMBERS, num_segments=0)
    with pytest.raises(ValueError, match="segment_size must be a positive integer, got bool True"):
        at(segments=NUMBERS, segment_size=True)
    with pytest.raises(ValueError, match="num_segments needs segments, which are not given"):
        at(num_segments=3)
    with pytest.raises(ValueError, match=r"document_weights must be a scalar or have the rank of"):
        at(document_weights=np.ones(8, np.float32))
    with pytest.raises(TypeError, match="where must be boolean"):
        at(segments=NUMBERS, where=np.ones((2, 8)))
