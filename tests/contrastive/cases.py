"""Losses of a whole batch of embeddings: with labels, or of two views."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import jaxloss
from tests.laws.case import REAL, Case, Kind, Options, taking
from tests.laws.conditioned import conditioned

# Two examples of each label, so that every anchor of the laws has as many pairs.
PAIRED = Kind(
    lambda rng, shape: rng.permuted(
        np.broadcast_to(np.arange(shape[-2]) // 2, shape[:-1]), axis=-1
    ),
    index=True,
    whole=None,
)
# Of the points: two positives for some anchors, and none for one.
LABELS = (np.array([0, 0, 0, 1, 1], np.int32), np.array([1, 0, 2, 1, 0], np.int32))

Points = Callable[[int], Sequence[tuple[np.ndarray, ...]]]


def batches(sizes: float, *, views: bool = False, norms: float = 2.0, each: bool = True) -> Points:
    """Ordinary batches, some of near examples, some of other sizes.

    Args:
        sizes: Vectors are as long as powers of 10 up to this.
        each: Each by itself; else all of a batch, as far as float32 can tell distances apart.
        views: Two arrays of examples; else one and labels.
        norms: The deviation of the ordinary ones.
    """

    def draw(seed: int) -> list[tuple[np.ndarray, ...]]:
        rng, found = np.random.default_rng(seed), []
        size = 4 if views else 5
        for i in range(6):
            first, second = rng.normal(0, norms, (2, size, 3))
            if i >= 5:
                first, second = first[:1] + 0.01 * first, first[:1] + 0.01 * second
            elif i >= 2:
                scale = 10.0 ** rng.uniform(-sizes, sizes, (2, size if each and i < 4 else 1, 1))
                first, second = scale * (first, second)
            other = second.astype(np.float32) if views else LABELS[i % 2]
            found.append((first.astype(np.float32), other))
        return found

    return draw


def negatives(seed: int) -> list[tuple[np.ndarray, ...]]:
    """Two views, and three vectors that are in neither."""
    rows = batches(8.0, views=True)(seed)
    extra = REAL.draw(np.random.default_rng(seed + 1), (len(rows), 3, 3)).astype(np.float32)
    # Some lie near the anchors, which they would hardly move otherwise.
    return [(a, b, x + 2 * a[:3]) for (a, b), x in zip(rows, extra, strict=True)]


# Of references: two positives for some anchors, and one or none for others.
OTHER_LABELS = (np.array([0, 1, 0, 3], np.int32), np.array([2, 0, 1, 1], np.int32))


def met(sizes: float, each: bool = True) -> Points:
    """Batches, and references that are like them."""

    def draw(seed: int) -> list[tuple[np.ndarray, ...]]:
        rows, found = batches(sizes, each=each)(seed)[::2], []
        rng = np.random.default_rng(seed + 1)
        for i, (x, labels) in enumerate(rows):
            spread = np.std(x) * rng.normal(size=(4, 3))
            references = x[:4] + spread
            found.append((x, labels, references.astype(np.float32), OTHER_LABELS[i % 2]))
        return found

    return draw


def labelled_views(seed: int) -> list[tuple[np.ndarray, ...]]:
    rows = batches(1.0, views=True, norms=1.0)(seed)
    return [(*row, LABELS[i % 2][:4]) for i, row in enumerate(rows)]


# Which pairs belong together: those of one place, and some others.
TARGETS = Kind(
    lambda rng, shape: np.maximum(np.eye(shape[-2]), rng.integers(0, 2, (*shape[:-1], shape[-2]))),
    index=True,
    whole=None,
)
# Of some rows none.
CHOSEN = np.array([[0, 1, 0, 1], [0, 0, 1, 0], [0, 0, 0, 0], [0, 1, 1, 1]], np.int32)


def views_with(third: Any) -> Points:
    """Two views, and an array that says what belongs together."""

    def draw(seed: int) -> list[tuple[np.ndarray, ...]]:
        rows = batches(8.0, views=True)(seed)
        # Some are near, which others of their label would hide otherwise.
        return [(a, b + 2 * a, third) for a, b in rows[::2]]

    return draw


# Why the features of a batch are gathered on one device.
FEATURES = "each feature meets each other one"
LAID_OUT: dict[str, Any] = {
    "axis": True,
    "inner": (4, 3),
    "optional_targets": False,
    "zero_when_exact": False,
}
COLD = [("temperature", 0.0), ("temperature", -1.0)]


def parallel(*data: Any, **_: Any) -> bool:
    """Vectors of nearly one direction.

    The rounding of their cosines, which are near 1, stands in exponents, and their Hessians are
    small differences: by half a unit in the last place of a cosine they change by more than 64 eps.
    """
    vectors = np.asarray(data[0], np.float64)
    sizes = np.linalg.norm(vectors, axis=-1)
    return bool(np.all(vectors @ vectors.T > 0.99 * np.outer(sizes, sizes)))


def of_labels(loss: Any, sizes: float, each: bool = True, **row: Any) -> Case:
    return Case(
        loss,
        data=(REAL, PAIRED),
        batch=True,
        points=batches(sizes, each=each),
        **{**LAID_OUT, **row},
    )


def of_views(
    loss: Any, sizes: float = 8.0, norms: float = 2.0, cosines: bool = True, **row: Any
) -> Case:
    return Case(
        loss,
        batch=True,
        points=batches(sizes, views=True, norms=norms),
        largest=conditioned(loss, cosines),
        **{**LAID_OUT, **row},
    )


def of_references(loss: Any, sizes: float, each: bool = True, **row: Any) -> Case:
    """Anchors against other embeddings, of which a loss of cosines is conditioned."""
    taken = taking(loss, "references", "reference_labels")

    def unreduced(x: Any, references: Any, labels: Any, theirs: Any, **options: Any) -> Any:
        return taken(x, labels, references, theirs, **options)

    if each:
        given = {"reduction": "none"} if "reduction" in row.get("options", {}) else {}
        row["largest"] = conditioned(functools.partial(unreduced, **given))
    return Case(
        taken,
        data=(REAL, PAIRED, REAL, PAIRED),
        batch=True,
        points=met(sizes, each=each),
        entries=False,
        **{**LAID_OUT, **row},
    )


def of_cosines_too(loss: Any) -> Any:
    """The largest term under `distance="cosine"`; of other distances that of the oracle."""
    bound = conditioned(loss)

    def largest(row: Any, options: Options, wrt: Any) -> float | None:
        return bound(row, options, wrt) if options.get("distance") == "cosine" else None

    return largest


TRIPLETS = of_labels(
    jaxloss.batch_triplet_loss,
    12.0,
    each=False,
    options={"margin": 1.5},
    variants=[{"margin": 1.5, "distance": 3}, {"margin": 1.5, "average": "active"}],
)
# Distances whose squares are as large as those of others.
SQUARED = {"margin": 1.5, "mining": "all", "distance": "squared"}

TWINS = conditioned(jaxloss.barlow_twins_loss, cosines=False)


def correlated(row: Any, options: Options, wrt: Any) -> float:
    """The largest term, those of a gradient included: a slope of a correlation times a feature."""
    largest = TWINS(row, options, wrt)
    if wrt is None or isinstance(wrt, str):
        return largest
    features: list[Any] = [(x - x.mean(0)).T for x in np.asarray(row, np.float64)]
    shift = len(row[0]) * options.get("epsilon", 0.0)
    lengths: list[Any] = [np.sqrt(np.sum(f * f, -1) + shift) for f in features]
    u, v = (f / length[:, None] for f, length in zip(features, lengths, strict=True))
    slopes = 2 * options["off_diagonal"] * (u @ v.T)
    np.fill_diagonal(slopes, 2 * (1 - np.diag(u @ v.T)))
    side, (example, feature) = wrt
    weights, other = (slopes, v) if side == 0 else (slopes.T, u)
    terms = np.abs(weights[feature] * other[:, example]) / lengths[side][feature]
    return max(largest, float(terms.max()))


CASES = [
    of_labels(
        jaxloss.ntxent,
        8.0,
        options={"temperature": 0.5, "reduction": "none"},
        variants=[{"temperature": 0.07, "reduction": "none"}],
        largest=conditioned(functools.partial(jaxloss.ntxent, reduction="none")),
        layout=("reduction",),
        reduction="mean",
        positional=("temperature",),
        outside=COLD,
    ),
    of_labels(
        jaxloss.supervised_contrastive_loss,
        8.0,
        options={"temperature": 0.5},
        variants=[{"temperature": 0.1}],
        largest=conditioned(jaxloss.supervised_contrastive_loss),
        outside=COLD,
    ),
    of_labels(
        jaxloss.multi_similarity_loss,
        8.0,
        options={"alpha": 2.0, "beta": 5.0, "base": 0.5},
        variants=[{"beta": 50.0}, {"alpha": 3.5, "beta": 5.0, "base": 0.2}],
        largest=conditioned(jaxloss.multi_similarity_loss),
        outside=[("alpha", 0.0), ("alpha", -1.0), ("beta", 0.0), ("beta", -1.0)],
    ),
    of_labels(
        jaxloss.circle_loss,
        8.0,
        options={"margin": 0.25, "gamma": 8.0},
        variants=[{"gamma": 256.0}, {"margin": 0.4, "gamma": 8.0}],
        largest=conditioned(jaxloss.circle_loss),
        outside=[("gamma", -1.0)],
        not_numerical="the weights of the similarities are held constant",
    ),
    of_labels(
        jaxloss.lifted_structure_loss,
        0.5,
        each=False,
        options={"margin": 1.5},
        variants=[{"margin": 1.5, "distance": "cosine"}],
        largest=of_cosines_too(jaxloss.lifted_structure_loss),
    ),
    of_labels(
        jaxloss.batch_contrastive_loss,
        3.0,
        each=False,
        options={"pos_margin": 0.5, "neg_margin": 2.5},
        variants=[
            {"pos_margin": 0.5, "neg_margin": 2.5, "distance": "squared", "pairs": "positive"},
            {"pos_margin": 0.5, "neg_margin": 2.5, "distance": 1, "average": "active"},
        ],
    ),
    TRIPLETS,
    of_views(jaxloss.n_pairs_loss, sizes=1.0, norms=1.0, cosines=False),
    of_views(
        jaxloss.info_nce_loss,
        options={"temperature": 0.5},
        variants=[{"symmetric": True, "temperature": 0.07}],
        outside=COLD,
    ),
    of_views(
        jaxloss.clip_loss,
        options={"logit_scale": 2.0},
        variants=[{"logit_scale": 30.0}],
        outside=[("logit_scale", -1.0)],
    ),
    of_views(
        jaxloss.siglip_loss,
        options={"logit_scale": 2.0, "logit_bias": -1.0},
        variants=[{"logit_scale": 10.0, "logit_bias": -10.0}],
        outside=[("logit_scale", -1.0)],
    ),
    Case(
        jaxloss.barlow_twins_loss,
        gathered=FEATURES,
        options={"off_diagonal": 0.3},
        variants=[{"off_diagonal": 5e-3, "epsilon": 1e-2}],
        points=batches(0.0, views=True),
        largest=correlated,
        entries=False,
        outside=[("epsilon", -1.0)],
        **LAID_OUT,
    ),
    Case(
        jaxloss.vicreg_loss,
        gathered=FEATURES,
        options={"invariance": 1.5, "variance": 3.0, "covariance": 0.7, "epsilon": 0.1},
        variants=[{}],
        points=batches(0.0, views=True),
        largest=conditioned(jaxloss.vicreg_loss, cosines=False),
        entries=False,
        outside=[("epsilon", -9.0)],
        **LAID_OUT,
    ),
]

# Every other mining is another formula; further arguments that are arrays.
VARIATIONS = [
    *(
        of_labels(
            jaxloss.batch_triplet_loss, 12.0, each=False, options={"margin": 1.5, "mining": mining}
        )
        for mining in ("all", "hard")
    ),
    # The soft margin is another formula, and a square another distance.
    of_labels(
        jaxloss.batch_triplet_loss,
        2.0,
        each=False,
        options={"margin": None, "mining": "all"},
        variants=[{"margin": None, "mining": mining} for mining in ("semi_hard", "hard")],
    ),
    of_labels(
        jaxloss.batch_triplet_loss,
        6.0,
        each=False,
        options=SQUARED,
        variants=[{"margin": 0.5, "mining": "all", "distance": "cosine"}],
        largest=of_cosines_too(jaxloss.batch_triplet_loss),
    ),
    of_references(
        jaxloss.ntxent,
        8.0,
        options={"temperature": 0.5, "reduction": "none"},
        layout=("reduction",),
        reduction="mean",
        outside=COLD,
    ),
    of_references(
        jaxloss.supervised_contrastive_loss, 8.0, options={"temperature": 0.5}, outside=COLD
    ),
    of_references(
        jaxloss.multi_similarity_loss, 8.0, options={"alpha": 2.0, "beta": 5.0, "base": 0.5}
    ),
    of_references(
        jaxloss.circle_loss,
        8.0,
        options={"margin": 0.25, "gamma": 8.0},
        not_numerical="the weights of the similarities are held constant",
    ),
    of_references(jaxloss.lifted_structure_loss, 0.5, each=False, options={"margin": 1.5}),
    of_references(
        jaxloss.batch_contrastive_loss,
        3.0,
        each=False,
        options={"pos_margin": 0.5, "neg_margin": 2.5},
    ),
    of_references(jaxloss.batch_triplet_loss, 12.0, each=False, options={"margin": 1.5}),
    Case(
        taking(jaxloss.info_nce_loss, "negatives"),
        data=(REAL, REAL, REAL),
        batch=True,
        options={"temperature": 0.5},
        variants=[{"temperature": 0.5, "symmetric": True}],
        points=negatives,
        largest=conditioned(taking(jaxloss.info_nce_loss, "negatives")),
        outside=COLD,
        entries=False,
        **LAID_OUT,
    ),
    *(
        Case(
            taking(loss, name),
            data=(REAL, REAL, kind),
            batch=True,
            options=options,
            points=views_with(third),
            largest=conditioned(taking(loss, name)),
            entries=False,
            **LAID_OUT,
        )
        for loss, options in (
            (jaxloss.info_nce_loss, {"logit_scale": 2.0, "symmetric": True}),
            (jaxloss.clip_loss, {"temperature": 0.5}),
            (jaxloss.siglip_loss, {"temperature": 0.5, "logit_bias": -1.0}),
        )
        for name, kind, third in (
            ("labels", PAIRED, LABELS[0][1:]),
            ("targets", TARGETS, CHOSEN),
        )
    ),
    Case(
        taking(jaxloss.n_pairs_loss, "labels"),
        data=(REAL, REAL, PAIRED),
        batch=True,
        points=labelled_views,
        largest=conditioned(taking(jaxloss.n_pairs_loss, "labels"), cosines=False),
        **LAID_OUT,
    ),
]

# Losses with exponents of cosines or of dot products, or with small variances in divisors.
STEEP = (
    jaxloss.ntxent,
    jaxloss.supervised_contrastive_loss,
    jaxloss.circle_loss,
    jaxloss.lifted_structure_loss,
    jaxloss.n_pairs_loss,
    jaxloss.info_nce_loss,
    jaxloss.clip_loss,
    jaxloss.barlow_twins_loss,
)


def measured(case: Case) -> Case:
    steep = any(case.name == loss.__name__ for loss in STEEP)
    return dataclasses.replace(case, no_hessian=parallel) if steep else case


CASES = [measured(case) for case in CASES]
VARIATIONS = [measured(case) for case in VARIATIONS]
