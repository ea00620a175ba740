"""Laws of masks, weights and means, as far as a loss has them, and of batches of nothing."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._contract.reduce import Mean
from .kinds import Kind
from .subject import (
    SHAPE,
    DoesNotApply,
    Subject,
    arrays,
    assert_close,
    at_entry,
    call,
    evaluated,
    evaluation,
    filled,
    given,
    knobs_of,
    shown,
)

GARBAGE = (np.nan, np.inf, -np.inf, 3e38, -100.0, 0.0)
WRONG_CLASSES = (-100, -1, 3, 255, -(2**31), 2**31 - 1)


def dirtied(x: np.ndarray) -> np.ndarray:
    """With a piece of garbage in each of the first rows."""
    kinds = np.asarray(GARBAGE if x.dtype.kind == "f" else WRONG_CLASSES, x.dtype)
    x = x.copy()
    x[: len(kinds)] = kinds.reshape(-1, *[1] * (x.ndim - 1))
    return x


def not_mixed(subject: Subject) -> None:
    """Leave a law that is of one loss for each row."""
    if subject.mixed:
        raise DoesNotApply("of losses whose rows are independent, with one loss for each")


def masks_of(subject: Subject, rows: np.ndarray) -> list[np.ndarray]:
    """Masks that take out rows: of the rank of the losses, and of that of the data."""
    if subject.batch:
        return [~rows[:, None]]
    column = ~rows.reshape(-1, *[1] * len(subject.features))
    entries = [np.broadcast_to(column, (SHAPE[0], *subject.features))]
    if not subject.axis:
        return entries
    return [~rows] * subject.examples + entries * subject.entries


def excluded_entries_are_inert(subject: Subject) -> None:
    """What `where` excludes has loss 0 and slope 0 in every mode, whatever it holds."""
    # Garbage in the data, in the weights, and in hyperparameters of which each loss has its own.
    subject.needs("where")
    not_mixed(subject)
    clean = subject.draw()
    rows = np.arange(SHAPE[0]) < len(GARBAGE)
    dirty = [dirtied(x) for x in clean]
    masks = masks_of(subject, rows)
    fields = fields_of(subject)
    if not subject.axis and not subject.batch and subject.features:
        # A dimension of size 1 is broadcast.
        weights = {k: x for k, x in fields.items() if k == "weights"}
        column = call(subject, *dirty, where=~rows[:, None], **weights)
        assert_close(column, call(subject, *dirty, where=masks[0], **weights), "a mask of a column")
    excluded = rows.reshape(-1, *[1] * (len(subject.shape(SHAPE[0])) - 1))
    dirty_fields = {k: np.where(excluded, np.float32(np.nan), x) for k, x in fields.items()}
    compute = jax.jit(functools.partial(derivatives, subject))
    unmasked = np.asarray(call(subject, *clean, **fields))
    for mask in masks:
        expected = compute(mask, fields, *clean)
        found = compute(mask, dirty_fields, *dirty)
        check_inert(subject, found, expected, rows, dirty)
        # Of a hinge all may be 0 without a mask too.
        left = np.asarray(found["losses"])[~rows]
        assert np.any(left != 0) or np.all(unmasked[~rows] == 0), (
            "the losses that are left are all 0, and are not without a mask"
        )


def fields_of(subject: Subject) -> dict[str, np.ndarray]:
    """Weights and hyperparameters, of each loss its own, as far as they are taken."""
    shape = subject.shape(SHAPE[0])
    if not subject.takes("weights"):
        return {}
    fields = {"weights": np.full(shape, 1.5, np.float32)}
    return fields | {
        name: np.full(shape, value, np.float32) for name, value in knobs_of(subject.options).items()
    }


def derivatives(subject: Subject, mask: Any, fields: Any, *args: Any) -> dict[str, Any]:
    """The losses, their mean, and its derivatives of two orders."""
    reduction = {"reduction": "mean"} if subject.takes("reduction") else {}

    def mean(trained: Any, fields: Any) -> Any:
        data = filled(args, subject.floating, trained)
        return jnp.sum(call(subject, *data, where=mask, **reduction, **fields))

    at = [args[i] for i in subject.floating], fields
    tangents = [jnp.ones_like(x) for x in at[0]], jax.tree.map(jnp.zeros_like, fields)
    both = jax.jvp(jax.value_and_grad(mean, (0, 1)), at, tangents)
    (value, (reverse, in_fields)), (forward, (second, _)) = both
    return {
        "losses": call(subject, *args, where=mask, **fields),
        "mean": value,
        "reverse": reverse,
        "forward": forward,
        "second": second,
        "in fields": in_fields,
    }


WORDS = {
    "losses": "the losses",
    "mean": "their mean or sum",
    "reverse": "the slopes",
    "forward": "the slope in forward mode",
    "second": "the second derivatives",
    "in fields": "the slopes in weights and options",
}


def check_inert(subject: Subject, found: Any, expected: Any, rows: Any, dirty: Any) -> None:
    """The same as without the garbage, and 0 at it."""
    at = at_entry(subject, dirty)
    for name in expected:
        told = f"{WORDS[name]}, with and without garbage in what `where` excludes"
        pairs = zip(jax.tree.leaves(found[name]), jax.tree.leaves(expected[name]), strict=True)
        for got, want in pairs:
            assert_close(got, want, told, at if np.ndim(got) else None)
    for name in ("losses", "reverse", "second", "in fields"):
        for x in map(np.asarray, jax.tree.leaves(found[name])):
            for i in np.flatnonzero(rows):
                assert np.all(x[i] == 0), (
                    f"{WORDS[name]} at what `where` excludes: {shown(x[i])}, and should be 0, at "
                    f"{given(subject, [y[i] for y in dirty])}"
                )


def masked_entries_of_a_vector_are_absent(subject: Subject) -> None:
    """A mask along the consumed axis gives the loss of the shorter vectors, or smaller batches."""
    subject.needs("where")
    not_mixed(subject)
    if subject.batch and subject.entries:
        return smaller_batches(subject)
    if subject.batch or not subject.axis or not subject.entries:
        raise DoesNotApply("of losses over an axis whose mask takes entries out of it")
    short = subject.draw()
    rows, size = short[0].shape
    keep = np.array([True, True, False, True, False, True])[: size + 2]

    def lengthened(x: np.ndarray, kind: Kind) -> np.ndarray:
        if kind.index:
            # Class k is the k-th of those that are kept.
            return np.flatnonzero(keep).astype(np.int32)[x]
        if kind.single:
            return x
        longer = np.full((rows, len(keep)), np.nan, np.float32)
        longer[:, keep] = x
        return longer

    dirty = [lengthened(x, kind) for x, kind in zip(short, subject.data, strict=True)]
    mask = np.broadcast_to(keep, (rows, len(keep)))
    losses, slopes = jax.jit(evaluation(subject, where=mask))(*dirty)
    expected, wanted = evaluated(subject, short)
    at = at_entry(subject, dirty, where=keep)
    told = "with entries that `where` excludes, and of the shorter vectors"
    assert_close(losses, expected, f"the losses {told}", at)
    for i, got, want in zip(subject.floating, slopes, wanted, strict=True):
        words = f"the slopes in {subject.names[i]}, {told}"
        if subject.data[i].single:
            assert_close(got, want, words, at)
        else:
            assert_close(got[:, keep], want, words, at)
            assert np.all(got[:, ~keep] == 0), f"slopes at excluded entries: {shown(got[:, ~keep])}"


def smaller_batches(subject: Subject) -> None:
    """A mask of examples of a batch gives the losses of the smaller batch."""
    keep = np.array([True, True, False, True, False, True])
    short = subject.draw()
    rows = len(short[0])
    dirty = [
        np.full((rows, 6, *x.shape[2:]), np.nan if i in subject.floating else -7).astype(x.dtype)
        for i, x in enumerate(short)
    ]
    for x, y in zip(dirty, short, strict=True):
        x[:, keep] = y
    mask = np.broadcast_to(keep, (rows, 6))
    found, expected = jax.jit(evaluation(subject, where=mask))(*dirty), evaluated(subject, short)
    told = "with examples that `where` excludes, and of the smaller batches"
    for got, want in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert_close(got[:, keep], want, told)
        assert np.all(got[:, ~keep] == 0), "excluded examples have a loss or a slope"


def weights_multiply_and_means_divide_by_them(subject: Subject) -> None:
    """`weights` multiply the losses; a mean is divided by the weights of what is selected."""
    subject.needs("weights", "reduction")
    not_mixed(subject)
    args = arrays(subject)
    losses = np.asarray(call(subject, *args), float)
    rng = np.random.default_rng(3)
    weights = rng.uniform(0.5, 2, losses.shape).astype(np.float32)
    mask = np.ones(losses.shape, bool)
    if subject.takes("where"):
        mask = rng.uniform(size=losses.shape) < 0.6
    if subject.batch:
        # Whole ones: what is left of a batch is another batch.
        mask = np.broadcast_to(mask[:, :1], losses.shape)
    found = jax.jit(functools.partial(weighed, subject))(weights, mask, *args)
    selected = weights * mask
    expected = {
        "none": losses * selected,
        "sum": np.sum(losses * selected),
        "mean": np.sum(losses * selected) / np.sum(selected),
        "plain mean": np.mean(losses),
        "masked mean": np.mean(losses[mask]),
        "twice": 2 * losses,
        "one row": losses * weights[:1],
    }
    for name, want in expected.items():
        assert_close(found[name], want, f"weights and means ({name}), and as NumPy has them")
    if isinstance(parts := found.get("parts"), Mean):
        assert_close(parts.value(), found["mean"], "Mean.of(loss, ...).value() and the mean")
        assert_close(parts.weight, np.sum(selected), "the weight of Mean.of(loss, ...)")


def weighed(subject: Subject, weights: Any, mask: Any, *args: Any) -> dict[str, Any]:
    """The losses and their means, each with other weights."""
    where = {"where": mask} if subject.takes("where") else {}
    results: dict[str, Any] = {
        reduction: call(subject, *args, weights=weights, reduction=reduction, **where)
        for reduction in ("none", "sum", "mean")
    }
    if subject.takes("where"):
        results["parts"] = parts_of(subject, *args, weights=weights, where=mask)
    results["plain mean"] = call(subject, *args, reduction="mean")
    results["masked mean"] = call(subject, *args, reduction="mean", **where)
    results["twice"] = call(subject, *args, weights=2.0)
    results["one row"] = call(subject, *args, weights=weights[:1])
    return results


def parts_of(subject: Subject, *args: Any, **options: Any) -> Any:
    """What `Mean.of` gives; None of a loss that is not ours and knows no such reduction."""
    try:
        return call(subject, *args, reduction="partial", **options)
    except Exception:
        if getattr(subject.loss, "__module__", "") == "jaxloss":
            raise
        return None


def nothing_selected_gives_zero(subject: Subject) -> None:
    """A mean of which `where` excludes everything is 0 with slope 0, whatever is excluded."""
    subject.needs("where", "reduction")
    not_mixed(subject)
    args = [
        np.full_like(x, -100 if kind.index else np.nan)
        for x, kind in zip(subject.draw(), subject.data, strict=True)
    ]
    asked: list[dict[str, Any]] = [{"where": False}]
    if subject.takes("weights"):
        asked.append({"where": False, "weights": 2.0})
    mean = functools.partial(call, subject, reduction="mean")

    @jax.jit
    def excluded(*args: Any) -> Any:
        return [
            jax.value_and_grad(functools.partial(mean, **options), subject.floating)(*args)
            for options in asked
        ]

    for options, found in zip(asked, excluded(*args), strict=True):
        for x in jax.tree.leaves(found):
            told = f"the mean of nothing ({options}), or its slope, is {shown(x)}, and should be 0"
            assert np.all(np.asarray(x) == 0), told


def empty_batches_are_allowed(subject: Subject) -> None:
    """Of no examples there are no losses; their sum and their mean are 0, as are the slopes."""
    not_mixed(subject)
    args = [x[:0] for x in subject.draw()]
    reductions = ("sum", "mean") if subject.takes("reduction") else ()

    @jax.jit
    def without_any(*args: Any) -> Any:
        asked = functools.partial(call, subject)
        losses = asked(*args)
        numbers = [asked(*args, reduction=reduction) for reduction in reductions]
        last = {"reduction": "mean"} if reductions else {}
        whole = jax.grad(lambda *args: jnp.sum(asked(*args, **last)), subject.floating)
        return losses, numbers, whole(*args)

    losses, numbers, slopes = without_any(*args)
    want = subject.shape(0)
    assert losses.shape == want, f"no examples have losses of shape {losses.shape}, not {want}"
    for reduction, number in zip(reductions, numbers, strict=True):
        assert number == 0, f"the {reduction} of no examples is {number}, and should be 0"
    for i, slope in zip(subject.floating, slopes, strict=True):
        want = (0, *args[i].shape[1:])
        assert slope.shape == want, f"the slope in {subject.names[i]} is of shape {slope.shape}"


LAWS = (
    excluded_entries_are_inert,
    masked_entries_of_a_vector_are_absent,
    weights_multiply_and_means_divide_by_them,
    nothing_selected_gives_zero,
    empty_batches_are_allowed,
)
