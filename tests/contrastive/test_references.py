"""Anchors that meet other embeddings than their batch: a memory bank, or a gathered batch.

Of an anchor's partners only positives and negatives matter: what a batch does to its first examples
is known, and so references have to do the same where they are the rest of that batch.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

import jaxloss
from jaxloss._contrastive import meeting
from jaxloss.testing.subject import assert_close

RNG = np.random.default_rng(0)
X = RNG.normal(size=(8, 3)).astype(np.float32)
BANK = RNG.normal(size=(12, 3)).astype(np.float32)
LABELS = np.array([0, 1, 2, 0, 1, 2, 0, 5], np.int32)
BANK_LABELS = np.array([0, 1, 2, 3, 0, 1, 2, 3, 1, 1, 0, 2], np.int32)

LOSSES: list[tuple[Any, dict[str, Any]]] = [
    (jaxloss.ntxent, {"temperature": 0.5, "reduction": "none"}),
    (jaxloss.supervised_contrastive_loss, {"temperature": 0.5}),
    (jaxloss.multi_similarity_loss, {"beta": 5.0}),
    (jaxloss.circle_loss, {"gamma": 8.0}),
    (jaxloss.lifted_structure_loss, {"distance": "squared"}),
    (jaxloss.batch_contrastive_loss, {"neg_margin": 2.0}),
    (jaxloss.batch_triplet_loss, {"mining": "all", "margin": None}),
    (jaxloss.batch_triplet_loss, {"mining": "semi_hard", "distance": "cosine"}),
]
every = pytest.mark.parametrize(
    ("loss", "options"), LOSSES, ids=[f"{f.__name__}{i}" for i, (f, _) in enumerate(LOSSES)]
)
GIVEN = {"references": BANK, "reference_labels": BANK_LABELS}


def derivatives(run: Any, *args: Any) -> Any:
    """Losses, and the gradients of a sum of them in which none can hide."""

    def total(*args: Any) -> Any:
        losses = run(*args)
        return jnp.sum(jnp.arange(1.0, 1 + len(losses)) * losses), losses

    return jax.jit(jax.grad(total, tuple(range(len(args))), has_aux=True))(*args)


@every
def test_the_rest_of_a_batch_is_what_its_first_example_meets(loss: Any, options: Any) -> None:
    """Each anchor by itself, first in a batch of the references."""

    def one(x: Any, bank: Any) -> Any:
        def alone(anchor: Any, label: Any) -> Any:
            batch = jnp.concatenate([anchor[None], bank])
            labels = jnp.concatenate([label[None], BANK_LABELS])
            return loss(batch, labels, **options)[0]

        return jax.vmap(alone)(x, jnp.asarray(LABELS))

    def references(x: Any, bank: Any) -> Any:
        return loss(x, LABELS, references=bank, reference_labels=BANK_LABELS, **options)

    found, expected = derivatives(references, X, BANK), derivatives(one, X, BANK)
    for got, want in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert_close(got, want, units=32)
    # The last has no positive.
    losses = found[1]
    assert losses[-1] == 0 or loss is jaxloss.batch_contrastive_loss
    assert np.all(losses[:-1] != 0)


@every
def test_own_copies_are_left_out(loss: Any, options: Any) -> None:
    """A bank that holds the batch, in another order: the losses of the batch in itself."""
    order = np.array([3, 0, 7, 1, 6, 2, 5, 4])
    places = np.argsort(order).astype(np.int32)
    copies = {"references": X[order], "reference_labels": LABELS[order]}
    expected = loss(X, LABELS, **options)
    assert_close(loss(X, LABELS, **copies, own_reference=places, **options), expected, units=64)
    # A place that is none leaves all there, and a copy is a positive then, at no distance.
    outside = np.where(np.arange(8) < 4, -1, 8).astype(np.int32)
    kept = loss(X, LABELS, **copies, **options)
    assert_close(loss(X, LABELS, **copies, own_reference=outside, **options), kept)
    assert np.any(np.abs(kept - expected) > 1e-3)


@every
def test_what_is_not_there_may_hold_anything(loss: Any, options: Any) -> None:
    there = np.arange(12) % 3 != 1
    dirty = np.where(there[:, None], BANK, np.nan), np.where(there, BANK_LABELS, -7)
    where = np.arange(8) != 2

    def of(bank: Any, labels: Any, **more: Any) -> Any:
        def run(x: Any, bank: Any) -> Any:
            given = {"references": bank, "reference_labels": labels, "where": where, **more}
            return loss(x, LABELS, **given, **options)

        return derivatives(run, X, bank)

    (of_x, of_bank), losses = of(*dirty, reference_where=there)
    (in_x, in_bank), expected = of(BANK[there], BANK_LABELS[there])
    assert_close(losses, expected)
    assert_close(of_x, in_x)
    assert_close(of_bank[there], in_bank)
    assert np.all(of_bank[~there] == 0)
    assert losses[2] == 0
    # Of one batch none may be there.
    assert np.all(loss(X, LABELS, **GIVEN, reference_where=False, **options) == 0)


def test_bad_references_do_not_reach_a_batch_that_has_no_anchor() -> None:
    bank = np.stack([BANK, np.full_like(BANK, np.nan)])

    def mean(bank: Any) -> Any:
        return jaxloss.ntxent(
            np.stack([X, X]),
            np.stack([LABELS, LABELS]),
            references=bank,
            reference_labels=np.stack([BANK_LABELS] * 2),
            where=np.array([[True], [False]]),
        )

    value, slope = jax.value_and_grad(mean)(bank)
    assert_close(value, jaxloss.ntxent(X, LABELS, **GIVEN))
    assert np.all(slope[1] == 0)
    assert np.all(np.isfinite(slope))


def test_labels_of_two_types() -> None:
    expected = jaxloss.ntxent(X, LABELS, **GIVEN)
    for kinds in ((np.uint8, np.int32), (np.int32, np.uint8), (np.int8, np.uint8)):
        ours, theirs = LABELS.astype(kinds[0]), BANK_LABELS.astype(kinds[1])
        given = {"references": BANK, "reference_labels": theirs}
        assert_close(jaxloss.ntxent(X, ours, **given), expected)
    given = {"references": BANK, "reference_labels": BANK_LABELS.astype(np.uint32)}
    with pytest.raises(TypeError, match=r"^labels and reference_labels must be of one dtype, got"):
        jaxloss.ntxent(X, LABELS, **given)


BOTH = ("first", "second")
MESH = jax.make_mesh((2, 2), BOTH, axis_types=(AxisType.Auto,) * 2)
EACH = PartitionSpec(BOTH)


@every
def test_references_of_all_devices(loss: Any, options: Any) -> None:
    """Each device has some anchors and some references; places count through all of these."""
    data = np.concatenate([BANK[:8], X]), np.concatenate([BANK_LABELS[:8], LABELS])
    there = np.arange(16) % 5 != 1
    places = np.where(np.arange(8) == 3, -1, 8 + np.arange(8)).astype(np.int32)

    def of(axis_name: Any) -> Any:
        def compute(x: Any, labels: Any, bank: Any, theirs: Any, there: Any, own: Any) -> Any:
            def total(x: Any, bank: Any) -> Any:
                losses = loss(
                    x,
                    labels,
                    references=bank,
                    reference_labels=theirs,
                    reference_where=there,
                    own_reference=own,
                    axis_name=axis_name,
                    **options,
                )
                return jnp.sum(losses), losses

            return jax.grad(total, (0, 1), has_aux=True)(x, bank)

        return compute

    args = X, LABELS, *data, there, places
    found = jax.jit(jax.shard_map(of(BOTH), mesh=MESH, in_specs=EACH, out_specs=EACH))(*args)
    expected = jax.jit(of(None))(*args)
    for got, want in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert_close(got, want, units=64)


def test_a_bank_that_is_the_same_on_all_devices_is_refused_with_their_name() -> None:
    """Without it anchors of each device meet the whole bank, which is right."""

    def compute(x: Any, labels: Any, bank: Any, axis_name: Any = None) -> Any:
        given = {"references": bank, "reference_labels": BANK_LABELS, "axis_name": axis_name}
        return jaxloss.ntxent(x, labels, reduction="none", **given)

    specs = EACH, EACH, PartitionSpec()
    found = jax.shard_map(compute, mesh=MESH, in_specs=specs, out_specs=EACH)(X, LABELS, BANK)
    assert_close(found, jaxloss.ntxent(X, LABELS, reduction="none", **GIVEN))
    named = functools.partial(compute, axis_name="first")
    with pytest.raises(
        ValueError, match=r"^references must be a part of the batch for each device"
    ):
        jax.shard_map(named, mesh=MESH, in_specs=specs, out_specs=EACH)(X, LABELS, BANK)


def test_tiles_of_a_large_bank(monkeypatch: pytest.MonkeyPatch) -> None:
    places = np.where(np.arange(8) < 4, np.arange(8), -1).astype(np.int32)
    loss = jaxloss.supervised_contrastive_loss.__wrapped__  # type: ignore[attr-defined]

    def run(x: Any, bank: Any) -> Any:
        given = {"references": bank, "reference_labels": BANK_LABELS, "own_reference": places}
        return loss(x, LABELS, where=np.arange(8) != 5, **given)

    expected = derivatives(run, X, BANK)
    monkeypatch.setattr(meeting, "_AT_ONCE", 0)
    found = derivatives(lambda *args: run(*args), X, BANK)
    for got, want in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert_close(got, want, units=64)


def test_exported_for_any_bank() -> None:
    """A bank of any size; steps over its positives are then as many as it has references."""
    loss = functools.partial(jaxloss.batch_triplet_loss, margin=None, mining="all")

    def run(x: Any, bank: Any, labels: Any) -> Any:
        def total(x: Any) -> Any:
            return jnp.sum(loss(x, LABELS, references=bank, reference_labels=labels))

        return jax.value_and_grad(total)(x)

    (size,) = jax.export.symbolic_shape("m")
    shapes = (
        jax.ShapeDtypeStruct(X.shape, X.dtype),
        jax.ShapeDtypeStruct((size, 3), X.dtype),
        jax.ShapeDtypeStruct((size,), np.int32),
    )
    exported = jax.export.export(jax.jit(run))(*shapes)
    for got, want in zip(
        exported.call(X, BANK, BANK_LABELS), run(X, BANK, BANK_LABELS), strict=True
    ):
        assert_close(got, want)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"reference_labels": BANK_LABELS}, ValueError, "^reference_labels goes with references"),
        ({"own_reference": LABELS}, ValueError, "^own_reference goes with references, which"),
        ({"reference_where": True}, ValueError, "^reference_where goes with references, which"),
        ({"references": BANK}, ValueError, "^references go with reference_labels, integers"),
        (
            {"references": BANK[:, :2]},
            ValueError,
            r"^references must be of shape \[any number, 3\]",
        ),
        ({"references": BANK[0]}, ValueError, r"^references must be of shape \[any number, 3\]"),
        ({"references": BANK.astype(int)}, TypeError, "^references must be floating-point, got"),
        (
            {**GIVEN, "reference_labels": BANK_LABELS[:5]},
            ValueError,
            r"^reference_labels must be of shape \[12\], one for each example, got references",
        ),
        (
            {**GIVEN, "reference_labels": BANK_LABELS * 1.0},
            TypeError,
            "^reference_labels must be integers, of which equal ones belong together",
        ),
        (
            {**GIVEN, "reference_where": np.ones(12)},
            TypeError,
            "^reference_where must be boolean, got",
        ),
        (
            {**GIVEN, "reference_where": np.ones(8, bool)},
            ValueError,
            "^reference_where must be a scalar or have the rank of reference_labels",
        ),
        (
            {**GIVEN, "own_reference": np.arange(12)},
            ValueError,
            r"^own_reference must be of shape \[8\], a place for each anchor",
        ),
        (
            {**GIVEN, "own_reference": np.arange(8.0)},
            TypeError,
            "^own_reference must be integers, -1 for none",
        ),
    ],
)
def test_bad_input(options: Any, error: Any, message: str) -> None:
    for loss in (jaxloss.ntxent, jaxloss.batch_triplet_loss):
        with pytest.raises(error, match=message):
            loss(X, LABELS, **options)
