"""The data that the letters of the pages on other libraries stand for, heading by heading."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from tests.laws.values import single

_RNG = np.random.default_rng(16)


class Data(NamedTuple):
    """Arrays and numbers by their letters, and the letters to differentiate in."""

    letters: dict[str, Any]
    wrt: str


def normal(*shape: int) -> np.ndarray:
    return single(_RNG.normal(size=shape))


def uniform(low: float, high: float, *shape: int) -> np.ndarray:
    return single(_RNG.uniform(low, high, shape))


def softmax(x: np.ndarray) -> np.ndarray:
    powers = np.exp(x.astype(np.float64))
    return powers / powers.sum(-1, keepdims=True)


def one_hot(y: np.ndarray, classes: int) -> np.ndarray:
    return single(y[..., None] == np.arange(classes))


def _numbers() -> Data:
    counts = single(_RNG.poisson(2.0, (6, 4)))
    letters = {
        "p": normal(6, 4),
        "t": normal(6, 4),
        "w": uniform(0.5, 2, 6, 4),
        "u": uniform(0.5, 2, 6),
        "v": uniform(0.5, 2, 6, 4),
        "f": uniform(-1, 1, 6, 4),
        "m": uniform(0.5, 3, 6, 4),
        "a": uniform(0.5, 3, 6, 4),
        "c": counts,
        "b": 0.5,
        "d": 0.75,
        "k": 0.3,
    }
    return Data(letters, "pfm")


def _classes() -> Data:
    # Every class has an example.
    x, y = 1.5 * normal(8, 5), _RNG.permutation(np.arange(8) % 5)
    # Keras's hinge of classes has a 0 among the scores of the others.
    x[np.arange(8), (y + 1) % 5] = np.abs(x[np.arange(8), (y + 1) % 5]) + single(0.1)
    ignored = np.where(np.arange(8) % 3 == 0, -100, y)
    letters = {
        "x": x,
        "y": y,
        "h": one_hot(y, 5),
        "q": single(softmax(normal(8, 5))),
        "i": ignored,
        "l": single(np.log(softmax(normal(8, 5)))),
        "r": single(softmax(x)),
        "w": uniform(0.5, 2, 5),
        "e": 0.1,
        "g": 1.5,
        "X": normal(2, 5, 3, 4),
        "Y": _RNG.integers(0, 5, (2, 3, 4)),
    }
    return Data(letters, "xlX")


def _yes_or_no() -> Data:
    y = single(_RNG.uniform(size=(8, 5)) < 0.4)
    lists = np.array([[0, 2, -1, 1, 1], [3, -1, 0, 0, 0], [4, 1, 0, -1, -1], [2, -1, -1, -1, -1]])
    letters = {
        "x": 1.5 * normal(8, 5),
        "y": y,
        "s": 2 * y - 1,
        "p": uniform(0.1, 0.9, 8, 5),
        "w": uniform(0.5, 2, 5),
        "e": 0.1,
        "a": 0.25,
        "g": 1.5,
        "lists": np.concatenate([lists, lists[::-1]]),
    }
    return Data(letters, "xp")


def _distributions() -> Data:
    letters = {
        "l": single(np.log(softmax(normal(8, 5)))),
        "q": single(softmax(normal(8, 5))),
        "n": single(np.log(softmax(normal(8, 5)))),
        "x": normal(8, 5),
        "z": normal(8, 5),
        "T": 2.0,
    }
    return Data(letters, "lx")


def _vectors() -> Data:
    a, b, c, e = (normal(8, 4) for _ in range(4))
    letters = {
        "a": a,
        "b": b,
        "c": c,
        "e": e / np.linalg.norm(e, axis=1, keepdims=True),
        "s": single(np.where(np.arange(8) % 3 == 0, -1, 1)),
        "y": np.arange(8) % 3,
        "u": normal(8),
        "v": normal(8),
        "d": uniform(0.1, 2, 8),
        "k": 3.0,
        "m": 0.25,
        "t": 0.5,
    }
    return Data(letters, "aud")


def _pixels() -> Data:
    y = _RNG.integers(0, 3, (2, 4, 5))
    x = normal(2, 4, 5, 3)
    yes = single(y > 0)
    letters = {"x": x, "y": y, "h": one_hot(y, 3), "r": single(softmax(x))}
    return Data({**letters, "z": x[..., 0], "b": yes, "o": single(x[..., 1] > 0)}, "xrz")


def _lists() -> Data:
    graded = single([3, 0, 1, 2, 0, 1])
    letters = {
        "s": normal(6),
        "y": graded,
        "o": single([3, 0, 1, 2, 0.5, 1.5]),
        "h": one_hot(np.asarray(2), 6),
        "z": single(graded > 1),
        "there": np.array([True, True, True, False, True, True]),
        "n": 6,
        "w": single([1, 0.5, 2, 0, 1.5, 1]),
        "g": np.array([0, 1, 0, 0, 1, 1], np.int32),
        "S": normal(4, 6),
        "Y": single(_RNG.integers(0, 4, (4, 6)) * (np.arange(6) > 0) + (np.arange(6) == 0)),
    }
    return Data(letters, "sS")


def _boxes() -> Data:
    ends = np.sort(_RNG.uniform(0, 90, (8, 2, 2, 2)), -2)
    a, b = np.moveaxis(single(ends).reshape(8, 2, 4), 1, 0)
    return Data({"a": a, "b": b}, "a")


def _sequences() -> Data:
    frames, sizes = np.array([12, 9, 11]), np.array([4, 2, 3])
    letters = {
        "x": normal(3, 12, 6),
        "y": _RNG.integers(1, 6, (3, 4)),
        "frames": frames,
        "sizes": sizes,
        "xpad": single(np.arange(12) >= frames[:, None]),
        "ypad": single(np.arange(4) >= sizes[:, None]),
        "none": single(np.zeros((3, 12))),
        "full": single(np.zeros((3, 4))),
    }
    return Data(letters, "x")


def _preferences() -> Data:
    return Data({"c": normal(8), "r": normal(8)}, "cr")


def _linear_layers() -> Data:
    y = np.arange(8) % 5
    letters = {
        "h": normal(8, 6),
        "K": normal(5, 6),
        "b": normal(5),
        "y": y,
        "i": np.where(np.arange(8) % 3 == 0, -100, y),
        "w": uniform(0.5, 2, 5),
        "e": 0.1,
        "z": 0.01,
        "c": 2.0,
        "g": normal(8, 3),
        "L": normal(5, 3),
        "T": 2.0,
    }
    return Data(letters, "hKbgL")


def _batches_over_devices() -> Data:
    return Data({"a": normal(8, 4), "b": normal(8, 4), "s": 5.0, "c": -2.0}, "ab")


def _batches_of_embeddings() -> Data:
    vectors = {"x": normal(8, 4), "r": normal(6, 4), "a": normal(8, 4), "b": normal(8, 4)}
    labels = {
        "y": np.array([0, 1, 0, 2, 1, 2, 0, 1], np.int32),
        "q": np.array([1, 0, 2, 2, 1, 0], np.int32),
    }
    return Data({**vectors, **labels, "m": 1.5, "o": 0.5, "t": 0.4}, "xrab")


DATA = {
    "Numbers": _numbers(),
    "Classes": _classes(),
    "Yes or no": _yes_or_no(),
    "Distributions": _distributions(),
    "Vectors": _vectors(),
    "Pixels": _pixels(),
    "Lists": _lists(),
    "Boxes": _boxes(),
    "Sequences": _sequences(),
    "Preferences": _preferences(),
    "Linear layers": _linear_layers(),
    "Batches over devices": _batches_over_devices(),
    "Batches of embeddings": _batches_of_embeddings(),
}
