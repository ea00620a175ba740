"""Laws of calls: the same loss however it is called, and no data that do not fit together."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np

from .subject import (
    DoesNotApply,
    Subject,
    arrays,
    assert_close,
    at_entry,
    call,
    evaluated,
    evaluation,
    given,
    knobs_of,
    program,
    total,
)


def compiled_and_mapped_agree(subject: Subject) -> None:
    """`jax.jit`, `jax.vmap` and an eager call give the same losses and slopes."""
    # That slopes are the same eagerly is seen by the accuracy law.
    args = arrays(subject)
    expected, slopes = evaluated(subject, args)
    at = at_entry(subject, args)
    if not subject.mixed:
        want = subject.shape(len(args[0]))
        assert expected.shape == want, f"the losses have the shape {expected.shape}, not {want}"
    assert_close(call(subject, *args), expected, "eagerly and under jax.jit", at)
    single, mapped = arguments_to_map(subject, args)
    found = jax.jit(jax.vmap(evaluation(subject)))(*mapped)
    if subject.mixed:
        expected, slopes = jax.tree.map(lambda *x: np.stack(x), *map(single, range(2)))
    assert_close(found[0], expected, "under jax.vmap and without", at)
    for i, got, slope in zip(subject.floating, found[1], slopes, strict=True):
        told = f"the slope in {subject.names[i]}, under jax.vmap and without"
        assert_close(got, slope, told, at)


def arguments_to_map(subject: Subject, args: Any) -> tuple[Any, Any]:
    """What `jax.vmap` maps over: the examples or, of a loss of all of them, two batches.

    With it, a function from the number of a batch to its losses and slopes.
    """
    if not subject.mixed:
        return None, args
    batches = args, arrays(subject, seed=1)
    return lambda i: evaluated(subject, batches[i]), jax.tree.map(lambda *x: jnp.stack(x), *batches)


def inside_other_transformations(subject: Subject) -> None:
    """Slopes are the same through `jax.lax.scan`, `jax.checkpoint` and `jax.jit` around them."""
    single, args = arguments_to_map(subject, arrays(subject))

    def scanned(*args: Any) -> Any:
        def step(carry: Any, rows: Any) -> Any:
            return carry + jax.checkpoint(total(subject))(*rows), None

        return jax.lax.scan(step, jnp.float32(0), args)[0]

    slopes = jax.jit(jax.grad(scanned, subject.floating))(*args)
    if subject.mixed:
        wanted = jax.tree.map(lambda *x: np.stack(x), *(single(i)[1] for i in range(2)))
    else:
        wanted = evaluated(subject, args)[1]
    for i, got, expected in zip(subject.floating, slopes, wanted, strict=True):
        told = f"the slope in {subject.names[i]}, inside jax.lax.scan and without"
        assert_close(got, expected, told, at_entry(subject, args))


def exported_for_any_batch(subject: Subject) -> None:
    """`jax.export` with a symbolic number of examples, serialised and restored, changes nothing."""
    args, (losses, slopes) = arrays(subject), evaluated(subject, arrays(subject))
    if subject.batch:
        # The examples of one batch, each a partner of the others.
        args, losses, slopes = jax.tree.map(lambda x: x[0], (args, losses, slopes))
    (size,) = jax.export.symbolic_shape("b")
    shapes = [jax.ShapeDtypeStruct((size, *x.shape[1:]), x.dtype) for x in args]
    exported = jax.export.export(program(subject))(*shapes)
    found, moved = jax.export.deserialize(exported.serialize()).call(*args)
    assert_close(found, losses, "the losses, exported and not")
    for i, got, expected in zip(subject.floating, moved, slopes, strict=True):
        told = f"the slope in {subject.names[i]}, exported and not"
        assert_close(got, expected, told)


def pickled_by_name(subject: Subject) -> None:
    """`pickle` brings back the same function."""
    loss = subject.loss
    try:
        same = pickle.loads(pickle.dumps(loss))
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise AssertionError(f"{subject.name} does not pickle: {error}") from None
    assert same is loss or same == loss, f"{subject.name} comes back from pickle as another"


def defaults_written_out_change_nothing(subject: Subject) -> None:
    """An option given at its default gives the same loss as one that is not given."""
    defaults = subject.defaults
    if not defaults:
        raise DoesNotApply(f"{subject.name} has no options with a default")
    options = {k: v for k, v in subject.options.items() if k not in defaults}
    args = arrays(subject)
    written, left_out = subject.loss(*args, **options, **defaults), subject.loss(*args, **options)
    assert_close(written, left_out, "with defaults written out and left out")


def hyperparameters_broadcast_and_trace(subject: Subject) -> None:
    """An array of hyperparameters gives each element its own; tracing one changes nothing."""
    knobs = knobs_of(subject.options)
    if subject.axis or subject.mixed or not knobs:
        raise DoesNotApply("of elementwise losses that are given numbers as options")

    @jax.jit
    def compute(knobs: Any, *args: Any) -> Any:
        found = {}
        for name, values in knobs.items():

            def column(value: Any, *args: Any, name: str = name) -> Any:
                return call(subject, *args, **{name: value})

            mapped = jax.vmap(column, (0, *[1] * len(args)), 1)(values, *args)
            found[name] = call(subject, *args, **{name: values}), mapped
        return found

    args = arrays(subject)
    factors = np.array([1.0, 0.9, 1.1])
    moved = {name: jnp.asarray(value * factors, jnp.float32) for name, value in knobs.items()}
    for name, found in compute(moved, *args).items():
        columns = [
            call(subject, *args, **knobs | {name: float(v)})[:, i]
            for i, v in enumerate(moved[name])
        ]
        for losses, how in zip(found, ("an array of", "jax.vmap over"), strict=True):
            told = f"{how} {name} and one number at a time"
            assert_close(losses, jnp.stack(columns, axis=1), told)


def another_axis_is_the_same_loss(subject: Subject) -> None:
    """Vectors that lie along the first axis, with `axis=0`, give the same losses and slopes."""
    subject.needs("axis")
    if "axis" in subject.layout or "axis" in subject.options or not subject.axis:
        raise DoesNotApply("the axis is given, or the loss consumes none")
    args = arrays(subject)
    moved = [jnp.swapaxes(x, 0, 1) if x.ndim > 1 else x for x in args]
    losses, slopes = jax.jit(evaluation(subject, axis=0))(*moved)
    expected, wanted = evaluated(subject, args)
    at = at_entry(subject, args)
    assert_close(losses, expected, "the losses along axis 0 and along the last", at)
    for i, got, want in zip(subject.floating, slopes, wanted, strict=True):
        told = f"the slope in {subject.names[i]}, along axis 0 and along the last"
        assert_close(got.T, want, told, at)


def data_are_never_broadcast(subject: Subject) -> None:
    """Data of shapes that do not fit are refused, not broadcast: (N,) against (N, 1)."""
    if len(subject.data) < 2:
        raise DoesNotApply(f"{subject.name} is of one array")
    predictions, targets, *rest = arrays(subject, shape=(4, 2) if subject.axis else (4, 1))
    for bad in misfits(subject, targets):
        try:
            losses = call(subject, predictions, bad, *rest)
        # Whatever the loss raises is its refusal.
        except Exception:
            continue
        first, second = subject.names[:2]
        raise AssertionError(
            f"{first} of shape {predictions.shape} against {second} of shape {bad.shape} "
            f"silently gave losses of shape {np.shape(losses)}: "
            f"{given(subject, (predictions, bad, *rest))}"
        )


def misfits(subject: Subject, targets: jax.Array) -> Iterator[jax.Array]:
    """Targets that do not fit: with an axis less, or more for class numbers; and too few."""
    yield targets[:, 0] if targets.ndim > 1 else targets[:, None]
    yield targets[:3]


LAWS = (
    compiled_and_mapped_agree,
    inside_other_transformations,
    exported_for_any_batch,
    pickled_by_name,
    defaults_written_out_change_nothing,
    hyperparameters_broadcast_and_trace,
    another_axis_is_the_same_loss,
    data_are_never_broadcast,
)
