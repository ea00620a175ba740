"""Pairs and triplets: scores, distances or vectors, and labels of which above 0 is positive."""

from __future__ import annotations

import functools
from fractions import Fraction
from typing import Any

import numpy as np

import jaxloss
from tests.laws.case import REAL, SIGN, SIGNS, Case, Options

# Next to a kink rounding decides on which side a sum over a vector is.
NEAR = 1e-5


def cosine_term(case: str, row: Any, options: Options, wrt: Any) -> float:
    """The largest term of a cosine, or of its derivative (v - <u, v> u) / |a|."""
    a, b = (np.asarray(x, np.float64) for x in row)
    least = np.sqrt(options.get("epsilon", 0.0))
    norms = [max(np.linalg.norm(x), least) for x in (a, b)]
    u, v = a / norms[0], b / norms[1]
    if wrt is None:
        return max(float(case == "cosine_distance"), np.abs(u * v).max())
    if wrt == "epsilon":
        clipped = sum(np.linalg.norm(x) < least for x in (a, b))
        return float(0.5 * clipped * np.abs(u * v).max() / options["epsilon"])
    own, component = wrt
    first, second = (u, v) if own == 0 else (v, u)
    along = abs(np.dot(u, v)) * abs(first[component])
    return float(max(abs(second[component]), along) / norms[own])


def cosine_points(seed: int) -> list[tuple[np.ndarray, ...]]:
    """Ordinary vectors, vectors whose squares overflow or vanish, and nearly equal ones."""
    rng = np.random.default_rng(seed)
    pairs = REAL.draw(rng, (24, 2, 4)).astype(np.float32)
    scales = rng.choice([1.0, 1e20, 1e-25, 1e-3], (24, 2, 1))
    close = [(a, a + np.float32(1e-3) * b) for a, b in pairs[:8]]
    return [*((a, b) for a, b in (pairs * scales).astype(np.float32)), *close]


def labelled(points: Any, seed: int) -> list[tuple[np.ndarray, ...]]:
    rng = np.random.default_rng(seed + 1)
    rows = points(seed)
    return [(*row, y) for row, y in zip(rows, SIGN.draw(rng, (len(rows), 1)), strict=True)]


def vector_points(count: int, seed: int) -> list[tuple[np.ndarray, ...]]:
    """Vectors of every size, close ones, equal ones, and vectors of the ends of the domain."""
    rng = np.random.default_rng(seed)
    x = REAL.draw(rng, (24, count, 4)).astype(np.float32)
    scales = rng.choice([1.0, 1e30, 1e20, 1e-25, 1e-3, 1e-30], (24, 1, 1))
    close = x[:8] * np.float32(1e-3) + x[:8, :1]
    equal = x[:4].copy()
    equal[:, 1] = equal[:, 0]
    ends = rng.choice(REAL.edges, (16, count, 4))
    rows = np.concatenate([x, x * scales, close, equal, ends]).astype(np.float32)
    return [tuple(row) for row in rows]


def pair_term(scale: float, row: Any, options: Options, wrt: Any) -> float:
    """The largest term of a multiple of a cosine distance, or of its derivative."""
    margin = options.get("margin", 0.0)
    if wrt in ("margin", 2):
        return 1.0
    largest = cosine_term("cosine_distance", row[:2], {}, wrt)
    return scale * (max(largest, margin) if wrt is None else largest)


def cosine_tie(a: Any, b: Any, y: Any, *, margin: Any = 0.0) -> bool:
    a, b = np.float64(a), np.float64(b)
    norms = np.linalg.norm(a) * np.linalg.norm(b)
    return y <= 0 and (norms == 0 or abs(a @ b / norms - margin) < NEAR)


def ranking_tie(a: Any, b: Any, y: Any, *, margin: Any = 0.0) -> bool:
    if np.isinf(a) or np.isinf(b):
        return False
    a, b, y, margin = (Fraction(float(x)) for x in (a, b, y, margin))
    return margin == (a - b if y > 0 else b - a)


def gaps(a: Any, p: Any, n: Any) -> np.ndarray:
    """Of the entries of anchor and positive, anchor and negative, positive and negative."""
    return np.abs(np.asarray([a, a, p], float) - np.asarray([p, n, n], float))


def distances(a: Any, p: Any, n: Any, *, norm_degree: Any = 2, eps: Any = 0, **_: Any) -> Any:
    k, e = float(norm_degree), gaps(a, p, n)
    if k == np.inf:
        return np.max(np.abs(e), -1)
    parts = np.column_stack([e, np.full(3, float(eps) ** (1 / k))])
    scale = np.maximum(np.max(parts, -1, keepdims=True), 1e-30)
    return scale[:, 0] * np.sum((parts / scale) ** k, -1) ** (1 / k)


def on_margin(a: Any, p: Any, n: Any, **options: Any) -> bool:
    near, far, other = distances(a, p, n, **options)
    far = min(far, other) if options.get("swap") else far
    margin = float(options.get("margin", 1.0))
    return bool(abs(near - far + margin) <= NEAR * max(near, far, margin))


def level(a: Any, p: Any, n: Any) -> bool:
    """Whether two entries are the largest of a gap."""
    first, second = np.sort(np.abs(gaps(a, p, n)[:2]), -1)[:, [-1, -2]].T
    return bool(np.any(second >= (1 - NEAR) * first))


def triplet_tie(a: Any, p: Any, n: Any, **options: Any) -> bool:
    """Next to the margin or to a swap, at an equal entry or at equal vectors."""
    swap = options.get("swap", False)
    _, far, other = distances(a, p, n, **options)
    same = gaps(a, p, n)[: 3 if swap else 2] == 0
    return bool(
        on_margin(a, p, n, **options)
        or (swap and abs(other - far) <= NEAR * far)
        or (options.get("norm_degree") == 1 and np.any(same))
        or (options.get("norm_degree") == np.inf and level(a, p, n))
        or (options.get("eps", 0) == 0 and np.any(np.all(same, -1)))
    )


def triplet_points(seed: int) -> list[tuple[np.ndarray, ...]]:
    """None next to the margin, where the loss is 0 and the terms of its sum are not."""
    tried = [{"norm_degree": k, "swap": swap} for k in (1, 1.5, 2, 3) for swap in (False, True)]
    rows = vector_points(3, seed)
    return [row for row in rows if not any(on_margin(*row, **options) for options in tried)]


OF_VECTORS: dict[str, Any] = {
    "axis": True,
    "optional_targets": False,
    "zero_when_exact": False,
}

TRIPLET: dict[str, Any] = {
    "data": (REAL, REAL, REAL),
    "points": triplet_points,
    "kink": triplet_tie,
    **OF_VECTORS,
}
SAME, ZERO = (1.0, 2.0), (0.0, 0.0)
# On the margin; and where all three are equal.
TIES: list[Any] = [
    ((ZERO, (5.0, 0.0), (0.0, 6.0)), ((-1.0, 1.0), (1.0, 0.0), (0.0, -1.0))),
    ((SAME, SAME, SAME), (ZERO, ZERO, ZERO)),
    ((SAME, SAME, (1.0, 2.5)), ((0.0, 1.0), ZERO, (0.0, -1.0))),
]

CASES = [
    Case(
        jaxloss.cosine_similarity,
        axis=True,
        points=cosine_points,
        largest=functools.partial(cosine_term, "cosine_similarity"),
        optional_targets=False,
        zero_when_exact=False,
        variants=[{"epsilon": 20.0}],
        outside=[("epsilon", -1.0)],
    ),
    Case(
        jaxloss.cosine_distance,
        axis=True,
        points=cosine_points,
        largest=functools.partial(cosine_term, "cosine_distance"),
        optional_targets=False,
        variants=[{"epsilon": 20.0}],
        outside=[("epsilon", -1.0)],
    ),
    Case(
        jaxloss.margin_ranking_loss,
        data=(REAL, REAL, SIGNS),
        options={"margin": 0.7},
        variants=[{"margin": 0.0}, {"margin": -1.5}, {"margin": 1e20}],
        kink=ranking_tie,
        stated=[
            ((2.0, 2.0, 1.0), {"margin": 0.0}, (-1.0, 1.0, 0.0)),
            ((2.0, 2.0, -1.0), {"margin": 0.0}, (1.0, -1.0, 0.0)),
            ((2.0, 2.0, 0.0), {"margin": 0.0}, (1.0, -1.0, 0.0)),
            ((3.0, 2.0, 0.5), {"margin": 1.0}, (-1.0, 1.0, 0.0)),
            ((3.5, 2.0, 1.0), {"margin": 1.0}, (0.0, 0.0, 0.0)),
            # 1 + 1e-30 is beyond the margin, though not in float32.
            ((1.0, -1e-30, 1.0), {"margin": 1.0}, (0.0, 0.0, 0.0)),
        ],
        optional_targets=False,
        zero_when_exact=False,
    ),
    Case(
        jaxloss.hinge_embedding_loss,
        data=(REAL, SIGNS),
        options={"margin": 0.7},
        variants=[{"margin": 1.0}, {"margin": 1e20}],
        kink=lambda d, y, margin: y <= 0 and d == margin,
        stated=[
            ((1.0, -1.0), {"margin": 1.0}, (-1.0, 0.0)),
            ((1.0, 0.0), {"margin": 1.0}, (-1.0, 0.0)),
            ((1.5, -1.0), {"margin": 1.0}, (0.0, 0.0)),
            ((1.5, 1.0), {"margin": 1.0}, (1.0, 0.0)),
        ],
        optional_targets=False,
        zero_when_exact=False,
    ),
    Case(
        jaxloss.cosine_embedding_loss,
        data=(REAL, REAL, SIGN),
        points=functools.partial(labelled, cosine_points),
        options={"margin": 0.25},
        variants=[{"margin": 0.0}, {"margin": -0.5}],
        kink=cosine_tie,
        largest=functools.partial(pair_term, 1),
        stated=[
            (((1.0, 0.0), (0.0, 2.0), -1.0), {"margin": 0.0}, ((0.0, 1.0), (0.5, 0.0), 0.0)),
            (((1.0, 0.0), (0.0, 2.0), 1.0), {"margin": 0.0}, ((0.0, -1.0), (-0.5, 0.0), 0.0)),
            ((ZERO, (0.0, 2.0), 1.0), {}, (ZERO, ZERO, 0.0)),
            ((ZERO, (0.0, 2.0), -1.0), {"margin": -0.5}, (ZERO, ZERO, 0.0)),
        ],
        **OF_VECTORS,
    ),
    Case(
        jaxloss.contrastive_loss,
        data=(REAL, REAL, SIGN),
        points=functools.partial(labelled, functools.partial(vector_points, 2)),
        options={"margin": 2.5},
        variants=[{"margin": 1.0}, {"margin": 1e15}],
        kink=lambda a, b, y, margin: y <= 0 and np.array_equal(a, b),
        stated=[
            ((SAME, SAME, -1.0), {"margin": 1.0}, (ZERO, ZERO, 0.0)),
            ((SAME, SAME, 1.0), {"margin": 1.0}, (ZERO, ZERO, 0.0)),
            ((ZERO, (3.0, 4.0), 0.0), {"margin": 5.0}, (ZERO, ZERO, 0.0)),
            ((ZERO, (0.0, 4.0), 0.0), {"margin": 5.0}, ((0.0, 1.0), (0.0, -1.0), 0.0)),
        ],
        **OF_VECTORS,
    ),
    Case(
        jaxloss.triplet_margin_loss,
        branches=("norm_degree",),
        options={"margin": 3.7, "eps": 0.25},
        variants=[
            {"margin": 1.0, "eps": 1e-6},
            *(
                {"margin": 0.7, "eps": eps, "norm_degree": k}
                for k, eps in ((1.0, 0.0), (2.0, 0.0), (1.5, 0.25), (3.0, 0.0), (10.0, 0.25))
            ),
            {"margin": 0.7, "eps": 0.0, "norm_degree": 3.0, "swap": True},
            {"margin": 0.7, "eps": 0.25, "norm_degree": np.inf},
        ],
        stated=[(point, {"margin": 1.0, "eps": 0.0}, slopes) for point, slopes in TIES],
        outside=[
            ("eps", -1.0),
            ("norm_degree", 0.5),
            ("norm_degree", np.nan),
        ],
        not_differentiated={"norm_degree": "held constant"},
        positional=("axis", "norm_degree", "margin", "eps"),
        **TRIPLET,
    ),
    Case(
        jaxloss.triplet_margin_with_distance_loss,
        options={"margin": 3.7},
        variants=[{"margin": 0.7, "swap": True}],
        stated=[(point, {"margin": 1.0}, slopes) for point, slopes in TIES],
        entries=False,
        **TRIPLET,
    ),
    *(
        Case(
            loss,
            axis=True,
            points=cosine_points,
            largest=functools.partial(pair_term, scale),
            optional_targets=False,
            not_differentiated={"targets": "held constant"},
            stated=[((ZERO, (0.0, 2.0)), {}, (ZERO, ZERO)), (((1.0, 0.0), ZERO), {}, (ZERO, ZERO))],
        )
        for loss, scale in ((jaxloss.byol_loss, 2), (jaxloss.simsiam_loss, 1))
    ),
]
