"""Densities of more than one part: inflated counts and amounts, mixtures, vectors, angles."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

import jaxloss
from tests.laws.case import (
    COUNT,
    LOGARITHM,
    LOGITS,
    MODERATE,
    NON_NEGATIVE,
    POSITIVE,
    REAL,
    Case,
    Kind,
    Options,
)


def _often_zero(rng: np.random.Generator, x: np.ndarray) -> np.ndarray:
    return np.where(rng.uniform(size=x.shape) < 0.4, 0, x)


INFLATED_COUNT = dataclasses.replace(
    COUNT, draw=lambda rng, shape: _often_zero(rng, COUNT.draw(rng, shape))
)
INFLATED_AMOUNT = dataclasses.replace(
    NON_NEGATIVE, draw=lambda rng, shape: _often_zero(rng, NON_NEGATIVE.draw(rng, shape))
)
# The square of an error over a scale of 1e-6 does not overflow.
_PLACES = (0.0, 1e-4, 0.3, 1.0, -1.0, 2.5, -17.0, 80.0, -80.0, 1e5)
CENTER = Kind(lambda rng, shape: rng.normal(0, 2, shape), _PLACES)
OBSERVED = Kind(lambda rng, shape: rng.normal(0, 2, shape[:-1]), _PLACES, single=True)
# Infinity is no angle. From 1e8 on float32 has one number for several turns.
_TURNS = (0.5 * np.pi, np.pi, 2 * np.pi, 80.0, 1e5)
ANGLE = Kind(
    lambda rng, shape: rng.uniform(-7, 7, shape),
    (0.0, 1e-30, 1e-4, -1e-4, 0.3, 2.5, *_TURNS, *(-x for x in _TURNS)),
)
# Either side of where the mean of the cosine has another formula too.
CONCENTRATION = dataclasses.replace(
    NON_NEGATIVE, edges=(*NON_NEGATIVE.edges, 8.0, 11.999, 12.0, 12.001, 15.0)
)
SELECTED: dict[str, Any] = {
    "not_differentiated": {"targets": "they only select: a 0 has a formula of its own"},
    "not_numerical": "the loss jumps in targets at 0, where its derivative is 0",
    "optional_targets": False,
    "zero_when_exact": False,
    "edges": 200,
}
FEWER: dict[str, Any] = SELECTED | {"edges": 60}


def _vectors(rng: np.random.Generator, shape: tuple[int, ...]) -> Sequence[np.ndarray]:
    means, targets = rng.normal(0, 2, (2, *shape))
    factor = np.tril(rng.normal(0, 0.5, (*shape, shape[-1])), -1)
    diagonal = np.exp(rng.normal(0, 1, shape))
    return means, targets, factor + diagonal[..., None] * np.eye(shape[-1])


TOGETHER = Case(
    jaxloss.multivariate_gaussian_nll_loss,
    data=(REAL, REAL, Kind(lambda rng, shape: _vectors(rng, shape)[2])),
    together=_vectors,
    gathered="a number of a vector is solved for after those before it",
    axis=True,
    entries=False,
    optional_targets=False,
    zero_when_exact=False,
)


def _terms_of_factors(row: Any, options: Options, wrt: Any) -> float | None:
    """The largest product in a slope in a variance or a factor, sums over two and three places."""
    del options
    if not isinstance(wrt, tuple) or wrt[0] < 2:
        return None
    p, t, v, w = (np.asarray(x, float) for x in row)
    k, *others = wrt[1]
    precision = np.abs(np.linalg.inv(w @ w.T + np.diag(v)))
    through = precision * np.abs(p - t)
    if not others:
        # By the lemma of determinants that of the covariance is a product of the variances and of
        # a small one, whose slope has the other sign.
        return float(max(1 / v[k], precision[k, k], np.max(through[k]) ** 2) / 2)
    (j,) = others
    shared = precision[k] * np.abs(w[:, j])
    pulled = np.max(through[k]) * np.max(np.abs(w[:, j]) * np.max(through, 1))
    return float(max(np.max(shared), pulled))


CASES = [
    Case(
        jaxloss.zero_inflated_poisson_nll_loss,
        data=(LOGARITHM, INFLATED_COUNT, REAL),
        outside=[(1, -1.0)],
        **SELECTED,
    ),
    Case(
        jaxloss.zero_inflated_negative_binomial_nll_loss,
        data=(LOGARITHM, INFLATED_COUNT, MODERATE, REAL),
        outside=[(1, -1.0), (2, -1.0)],
        **FEWER,
    ),
    Case(
        jaxloss.hurdle_poisson_nll_loss,
        data=(LOGARITHM, INFLATED_COUNT, REAL),
        outside=[(1, -1.0), (1, 0.5)],
        **SELECTED,
    ),
    Case(
        jaxloss.zero_inflated_lognormal_nll_loss,
        data=(REAL, INFLATED_AMOUNT, POSITIVE, REAL),
        outside=[(1, -1.0), (2, 0.0), (2, -1.0)],
        **SELECTED,
    ),
    Case(
        jaxloss.gaussian_kl,
        data=(REAL, LOGARITHM, REAL, LOGARITHM),
        variants=[{"free_bits": 0.5}],
        axis=True,
        optional_targets=False,
        zero_when_exact=False,
    ),
    Case(
        jaxloss.mixture_density_nll_loss,
        data=(CENTER, OBSERVED, MODERATE, LOGITS),
        axis=True,
        optional_targets=False,
        zero_when_exact=False,
        outside=[(2, 0.0), (2, -1.0)],
    ),
    TOGETHER,
    Case(
        jaxloss.low_rank_gaussian_nll_loss,
        data=(REAL, REAL, POSITIVE, Kind(lambda rng, shape: rng.normal(0, 1, (*shape, 2)))),
        together=lambda rng, shape: (
            *rng.normal(0, 2, (2, *shape)),
            rng.uniform(0.3, 3, shape),
            rng.normal(0, 1, (*shape, 2)),
        ),
        gathered="a factor is compared with those before it",
        largest=_terms_of_factors,
        axis=True,
        entries=False,
        optional_targets=False,
        zero_when_exact=False,
        outside=[(2, 0.0), (2, -1.0)],
    ),
    Case(
        jaxloss.von_mises_nll_loss,
        data=(ANGLE, ANGLE, CONCENTRATION),
        optional_targets=False,
        zero_when_exact=False,
        outside=[(2, -1.0)],
        edges=250,
    ),
]
VARIATIONS = [dataclasses.replace(TOGETHER, options={"kind": "precision"})]
