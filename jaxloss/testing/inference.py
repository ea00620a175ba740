"""What kind of loss a function is: seen from what it returns, and to what it answers."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from .._contract.inputs import reason
from .kinds import Kind
from .subject import SHAPE, Subject, arrays, call, knobs_of

Draw: TypeAlias = Sequence[Kind] | Callable[[np.random.Generator, tuple[int, ...]], Sequence[Any]]


def subject_of(loss: Callable[..., Any], draw: Draw) -> Subject:
    """A loss and its arguments as the laws take them."""
    if not callable(loss):
        raise TypeError(f"loss must be a function, got {loss!r}")
    subject = _with_options(_drawn(loss, draw))
    shape, data = _shape_of(subject), subject.draw()[0].shape
    if shape not in (data, data[:1], ()):
        raise ValueError(
            f"{subject.name} must return one loss per element, per example, or one number: "
            f"of data of shape {data} it returns {shape}"
        )
    mixed = shape == () or _reads_batches(subject, shape) or _depends_on_others(subject)
    axis = shape != data and not mixed
    subject = dataclasses.replace(subject, axis=axis, mixed=mixed)
    return dataclasses.replace(subject, **_masks(subject), outside=_wrong_classes(subject))


def _shape_of(subject: Subject) -> tuple[int, ...]:
    """That of the losses."""
    try:
        losses = jax.eval_shape(functools.partial(call, subject), *arrays(subject))
    # Anything that somebody else's loss may raise.
    except Exception as error:
        shapes = ", ".join(f"{x.dtype}{list(x.shape)}" for x in subject.draw())
        raise ValueError(
            f"{subject.name} cannot be called with what is drawn, {shapes}: {reason(error)}"
        ) from None
    if not isinstance(losses, jax.ShapeDtypeStruct):
        raise ValueError(f"{subject.name} must return one array, got {type(losses).__name__}")
    return losses.shape


def _drawn(loss: Callable[..., Any], draw: Draw) -> Subject:
    """The loss with the kinds of its arguments, which of what a function draws are seen."""
    if not callable(draw):
        kinds = tuple(draw)
        if not kinds or not all(isinstance(kind, Kind) for kind in kinds):
            raise TypeError(f"draw must be a function, or one Kind per array, got {draw!r}")
        return Subject(loss, kinds)

    def nothing(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        raise NotImplementedError

    for examples in (2, SHAPE[0]):
        drawn = draw(np.random.default_rng(0), (examples, *SHAPE[1:]))
        if not isinstance(drawn, tuple | list):
            raise TypeError(f"draw must return a tuple of arrays, got {type(drawn).__name__}")
        example = list(map(np.asarray, drawn))
        if not all(x.shape[:1] == (examples,) for x in example):
            shapes = ", ".join(str(x.shape) for x in example)
            raise ValueError(f"draw must return {examples} examples when asked, got {shapes}")
    kinds = tuple(
        Kind(nothing, index=x.dtype.kind in "iu", single=x.ndim < example[0].ndim) for x in example
    )
    return Subject(loss, kinds, together=draw, features=example[0].shape[1:])


def _with_options(subject: Subject) -> Subject:
    """Options of a `functools.partial` apart from its function, if their numbers may be traced."""
    loss = subject.loss
    if not isinstance(loss, functools.partial) or loss.args:
        return subject
    apart = dataclasses.replace(subject, loss=loss.func, options=loss.keywords)
    knobs = {k: jnp.float32(v) for k, v in knobs_of(apart.options).items()}
    try:
        jax.eval_shape(lambda knobs, *args: call(apart, *args, **knobs), knobs, *arrays(apart))
    except jax.errors.ConcretizationTypeError:
        return subject
    except Exception:
        return apart
    return apart


def _depends_on_others(subject: Subject) -> bool:
    """Whether the losses of an example change with the data of others."""
    half = SHAPE[0] // 2
    # Several, as of a batch some losses are 0 whatever the others are.
    for seed in range(7, 10):
        args, others = arrays(subject, seed=seed - 7), arrays(subject, seed=seed)
        mixed = [jnp.concatenate([x[:half], y[half:]]) for x, y in zip(args, others, strict=True)]
        ours, theirs = (np.asarray(call(subject, *data))[:half] for data in (args, mixed))
        if not np.allclose(ours, theirs, rtol=1e-4, atol=1e-6, equal_nan=True):
            return True
    return False


def _reads_batches(subject: Subject, shape: tuple[int, ...]) -> bool:
    """Whether the first axis is that of examples, so that an example alone is read as several."""
    one = [x[0] for x in arrays(subject)]
    try:
        found = jax.eval_shape(functools.partial(call, subject), *one)
    except Exception:
        return False
    return getattr(found, "shape", None) != shape[1:]


def _masks(subject: Subject) -> dict[str, bool]:
    """Which masks a loss over an axis takes: of the rank of the losses, of that of the data."""
    if subject.mixed or not subject.axis or not subject.takes("where"):
        return {}
    args = arrays(subject)

    def taken(mask: np.ndarray) -> bool:
        try:
            found = jax.eval_shape(functools.partial(call, subject, where=mask), *args)
        except Exception:
            return False
        return found.shape == args[0].shape[:1]

    shape = args[0].shape
    return {"examples": taken(np.ones(shape[:1], bool)), "entries": taken(np.ones(shape, bool))}


def _wrong_classes(subject: Subject) -> list[tuple[int | str, float]]:
    """Class numbers that are none."""
    if subject.mixed or not subject.axis:
        return []
    classes = subject.draw(shape=(1, 3))[0].shape[-1]
    return [
        (i, bad)
        for i, kind in enumerate(subject.data)
        if kind.index and not subject.together
        for bad in (-1, classes, -100)
    ]
