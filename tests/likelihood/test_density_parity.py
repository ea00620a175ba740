"""Densities of more than one part against those that PyTorch's distributions and SciPy make."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest

import jaxloss
from tests.laws.peers import (
    AMOUNTS,
    COUNTS,
    LOGARITHMS,
    Row,
    alike,
    close,
    evaluated,
    float32,
    of_torch,
    rows,
)

GATES, SCALES = float32(
    [-2.0, 0.5, 1.0, -0.25, 3.0, 0.0, -1.0, 2.0], [0.5, 1.0, 2.0, 4.0, 0.1, 3.0, 9.0, 1.0]
)


def distributions() -> Any:
    return pytest.importorskip("torch").distributions


def _mixed_with_zeros(zero: Any, log_probability: Any, z: Any) -> Any:
    """What peers write of a gate, in terms of a distribution of counts."""
    torch = pytest.importorskip("torch")
    closed, opened = torch.nn.functional.logsigmoid(z), torch.nn.functional.logsigmoid(-z)
    with_zeros = torch.logaddexp(closed, opened + log_probability)
    return -torch.where(zero, with_zeros, opened + log_probability)


def _von_mises(F: Any, m: Any, y: Any, k: Any) -> Any:
    return -distributions().VonMises(m, k).log_prob(y)


def test_torch_von_mises() -> None:
    """Whose own logarithm of the Bessel function is a polynomial, good to 1e-7 of its result."""
    inputs = float32(
        [0.3, -2.0, 1.5, 3.0, -0.2], [0.0, 1.0, 1.0, -3.0, 6.1], [0.5, 1.0, 2.0, 5.0, 3.0]
    )
    losses, slopes = of_torch(_von_mises, *inputs, dtype=np.float64)
    ours = evaluated(jaxloss.von_mises_nll_loss, *inputs)
    alike(ours, (losses, slopes), rtol=4e-7, largest=10)


def test_scipy_von_mises() -> None:
    stats = pytest.importorskip("scipy.stats")
    angles = np.linspace(-3, 3, 7)
    for k in (0.0, 0.7, 20.0, 600.0):
        exact = -stats.vonmises.logpdf(angles, k) if k else np.full(7, np.log(2 * np.pi))
        ours = jaxloss.von_mises_nll_loss(angles.astype(np.float32), 0.0, k)
        close(ours, exact, largest=2 * k + 2)


def _zero_inflated_poisson(F: Any, f: Any, y: Any, z: Any) -> Any:
    return _mixed_with_zeros(y == 0, distributions().Poisson(f.exp()).log_prob(y), z)


def _zero_inflated_negative_binomial(F: Any, f: Any, y: Any, a: Any, z: Any) -> Any:
    count = distributions().NegativeBinomial(1 / a, logits=f + a.log())
    return _mixed_with_zeros(y == 0, count.log_prob(y), z)


def _hurdle_poisson(F: Any, f: Any, y: Any, z: Any) -> Any:
    torch = pytest.importorskip("torch")
    above = distributions().Poisson(f.exp()).log_prob(y) - torch.log1p(-torch.exp(-f.exp()))
    return -torch.where(y == 0, F.logsigmoid(z), F.logsigmoid(-z) + above)


def _zero_inflated_lognormal(F: Any, m: Any, y: Any, s: Any, z: Any) -> Any:
    torch = pytest.importorskip("torch")
    amount = torch.where(y == 0, 1.0, y)
    above = distributions().LogNormal(m, s).log_prob(amount)
    return -torch.where(y == 0, F.logsigmoid(z), F.logsigmoid(-z) + above)


def _normal_kl(F: Any, m: Any, v: Any, m0: Any, v0: Any) -> Any:
    kind = distributions()
    pair = (kind.Normal(x, (0.5 * f).exp()) for x, f in ((m, v), (m0, v0)))
    return kind.kl_divergence(*pair).sum(-1)


def _multivariate(kind: Any) -> Any:
    def loss(F: Any, m: Any, y: Any, factor: Any) -> Any:
        lower = factor.tril()
        given = {"scale_tril": lower}
        if kind == "precision":
            given = {"precision_matrix": lower @ lower.mT}
        return -distributions().MultivariateNormal(m, **given).log_prob(y)

    return loss


@pytest.mark.parametrize("kind", ["covariance", "precision"])
def test_torch_multivariate_normal(kind: Any) -> None:
    rng = np.random.default_rng(7)
    factor = rng.normal(0, 0.4, (5, 4, 4))
    factor[:, range(4), range(4)] = rng.uniform(0.5, 2, (5, 4))
    inputs = float32(rng.normal(size=(5, 4)), rng.normal(size=(5, 4)), factor)
    theirs = of_torch(_multivariate(kind), *inputs, dtype=np.float64)
    loss = functools.partial(jaxloss.multivariate_gaussian_nll_loss, kind=kind)
    # The terms of the solved system are a few times larger than what they add up to.
    alike(evaluated(loss, *inputs), theirs, largest=100)


def _low_rank(F: Any, m: Any, y: Any, v: Any, w: Any) -> Any:
    return -distributions().LowRankMultivariateNormal(m, w, v).log_prob(y)


def test_torch_low_rank_normal() -> None:
    rng = np.random.default_rng(8)
    inputs = float32(
        rng.normal(size=(5, 4)),
        rng.normal(size=(5, 4)),
        rng.uniform(0.5, 2, (5, 4)),
        rng.normal(size=(5, 4, 2)),
    )
    theirs = of_torch(_low_rank, *inputs, dtype=np.float64)
    alike(evaluated(jaxloss.low_rank_gaussian_nll_loss, *inputs), theirs, largest=20)


def _mixture(F: Any, m: Any, y: Any, s: Any, z: Any) -> Any:
    kind = distributions()
    components = kind.Normal(m, s)
    if m.ndim > z.ndim:
        components = kind.Independent(components, 1)
    return -kind.MixtureSameFamily(kind.Categorical(logits=z), components).log_prob(y)


@pytest.mark.parametrize("features", [(), (3,)], ids=["numbers", "vectors"])
def test_torch_mixture(features: tuple[int, ...]) -> None:
    rng = np.random.default_rng(6)
    shapes = [(5, 4, *features), (5, *features), (5, 4, *features), (5, 4)]
    m, y, s, z = float32(*(rng.normal(size=shape) for shape in shapes))
    inputs = m, y, np.exp(0.5 * s), z
    theirs = of_torch(_mixture, *inputs, dtype=np.float64)
    alike(evaluated(jaxloss.mixture_density_nll_loss, *inputs), theirs, largest=10)


def test_torch_kl_of_normals() -> None:
    rng = np.random.default_rng(5)
    inputs = float32(*(rng.normal(size=(6, 4)) for _ in range(4)))
    theirs = of_torch(_normal_kl, *inputs, dtype=np.float64)
    alike(evaluated(jaxloss.gaussian_kl, *inputs), theirs, largest=2)


@rows(
    Row(
        "zero-inflated-poisson",
        jaxloss.zero_inflated_poisson_nll_loss,
        _zero_inflated_poisson,
        (LOGARITHMS, COUNTS, GATES),
        largest=20,
    ),
    Row(
        "zero-inflated-negative-binomial",
        jaxloss.zero_inflated_negative_binomial_nll_loss,
        _zero_inflated_negative_binomial,
        (LOGARITHMS, COUNTS, SCALES, GATES),
        largest=20,
    ),
    Row(
        "hurdle-poisson",
        jaxloss.hurdle_poisson_nll_loss,
        _hurdle_poisson,
        (LOGARITHMS, COUNTS, GATES),
        largest=20,
    ),
    Row(
        "zero-inflated-lognormal",
        jaxloss.zero_inflated_lognormal_nll_loss,
        _zero_inflated_lognormal,
        (LOGARITHMS, np.where(AMOUNTS == 2, 0, AMOUNTS), SCALES, GATES),
        largest=20,
    ),
)
def test_torch_distributions(row: Row) -> None:
    """In float64 there; targets, which only select here, have no derivative to compare."""
    losses, slopes = of_torch(row.theirs, *row.inputs, dtype=np.float64)
    ours, found = evaluated(row.ours, *row.inputs)
    alike(
        (ours, [*found[:1], *found[2:]]), (losses, [*slopes[:1], *slopes[2:]]), largest=row.largest
    )
