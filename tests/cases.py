"""One row per loss: what it takes, where it is kinked, and where its accuracy is measured.

The laws of `test_contract.py`, the accuracy law and the tables in `benchmarks/` all read these
rows; exact values are those of the function of the same name in `oracles.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import jaxloss

Options = Mapping[str, Any]

# Where rounding shows: the smallest and largest numbers, saturation, exponents of 80.
SIZES = (1e-30, 1e-12, 1e-4, 0.3, 1.0, 2.5, 17.0, 80.0, 1e5, 1e12, 1e20, 1e30)


@dataclass(frozen=True)
class Kind:
    """A kind of argument: where the laws draw it, and the ends of its domain."""

    draw: Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]
    edges: Sequence[float]


REAL = Kind(
    lambda rng, shape: rng.normal(0, 2, shape),
    (0.0, 1e-40, *SIZES, *(-x for x in SIZES)),
)
POSITIVE = Kind(lambda rng, shape: rng.uniform(0.3, 3, shape), SIZES)
ABOVE_MINUS_ONE = Kind(
    lambda rng, shape: rng.uniform(-0.6, 3, shape),
    (0.0, -0.999, -0.5, -1e-4, -1e-30, *SIZES),
)
# Beyond 88 exp(f) overflows in float32, but not every loss of it.
LOGARITHM = Kind(
    lambda rng, shape: rng.normal(0, 1, shape),
    (0.0, 1e-30, -1e-30, 1e-4, 0.7, -0.7, 12.0, -12.0, 80.0, -80.0, 100.0, -100.0),
)
COUNT = Kind(
    lambda rng, shape: rng.poisson(3, shape).astype(float),
    (0.0, 1.0, 2.0, 3.0, 7.0, 8.0, 9.0, 100.0, 1e5),
)
NON_NEGATIVE = Kind(lambda rng, shape: rng.uniform(0.3, 3, shape), (0.0, *SIZES))
MODERATE = Kind(lambda rng, shape: rng.uniform(0.3, 3, shape), (1e-6, 1e-3, 0.5, 4.0, 100.0))


@dataclass(frozen=True)
class Case:
    """A row.

    Attributes:
        loss: The loss.
        data: The kind of each array argument, in order: predictions, targets, what goes with
            each prediction.
        options: The hyperparameters of the laws.
        variants: Further hyperparameters at which the accuracy is measured.
        kink: Whether the loss has no derivative at a point, off which the accuracy of
            gradients is measured.
        stated: The gradient that the docstring states at a point: (arguments, options,
            gradients in predictions and in targets).
        outside: Hyperparameters and arguments out of the domain: a function of valid options
            and arguments to invalid ones, each of which has to give NaN.
        axis: Whether the loss consumes an axis.
        optional_targets: Whether `targets=None` stands for zeros.
        zero_when_exact: Whether a prediction that equals its target costs nothing, and no
            other prediction costs less.
        not_differentiated: Arguments without a derivative, each with the reason.
        not_numerical: Why finite differences do not give the derivative, if they do not.
        edges: How many of the ends of the domain are combined; fewer for slow oracles.
    """

    loss: Callable[..., Any]
    data: Sequence[Kind] = (REAL, REAL)
    options: Options = field(default_factory=dict)
    variants: Sequence[Options] = ()
    kink: Callable[..., bool] = lambda *args, **options: False
    stated: Sequence[tuple[Sequence[float], Options, Sequence[float]]] = ()
    outside: Sequence[tuple[int | str, float]] = ()
    axis: bool = False
    optional_targets: bool = True
    zero_when_exact: bool = True
    not_differentiated: Mapping[str, str] = field(default_factory=dict)
    not_numerical: str = ""
    edges: int = 400

    @property
    def name(self) -> str:
        return self.loss.__name__

    def draw(self, seed: int = 0, shape: tuple[int, ...] = (3, 4)) -> list[np.ndarray]:
        """Valid arguments at ordinary points, in float32."""
        rng = np.random.default_rng(seed)
        return [kind.draw(rng, shape).astype(np.float32) for kind in self.data]


def equal(p: float, t: float, *_: float, **__: Any) -> bool:
    return p == t


CASES = [
    Case(
        jaxloss.l1_loss,
        kink=equal,
        stated=[((2.0, 2.0), {}, (0.0, 0.0)), ((0.0, 0.0), {}, (0.0, 0.0))],
    ),
    Case(jaxloss.squared_error),
    Case(jaxloss.l2_loss),
    Case(
        jaxloss.smooth_l1_loss,
        options={"beta": 0.7},
        variants=[{"beta": b} for b in (0.0, 1.0, 1e-20, 1e20)],
        kink=lambda p, t, beta: beta == 0 and p == t,
        stated=[
            ((2.0, 2.0), {"beta": 0.0}, (0.0, 0.0)),
            ((3.0, 2.0), {"beta": 1.0}, (1.0, -1.0)),
            ((1.5, 2.0), {"beta": 1.0}, (-0.5, 0.5)),
        ],
        outside=[("beta", -1.0)],
    ),
    Case(
        jaxloss.huber_loss,
        options={"delta": 0.7},
        variants=[{"delta": d} for d in (0.0, 1.0, 1e-20, 1e20, np.inf)],
        stated=[
            ((3.0, 2.0), {"delta": 1.0}, (1.0, -1.0)),
            ((9.0, 2.0), {"delta": np.inf}, (7.0, -7.0)),
            ((9.0, 2.0), {"delta": 0.0}, (0.0, 0.0)),
        ],
        outside=[("delta", -1.0)],
    ),
    Case(jaxloss.log_cosh),
    Case(
        jaxloss.pseudo_huber_loss,
        options={"delta": 0.7},
        variants=[{"delta": d} for d in (1.0, 1e-20, 1e20, np.inf)],
        outside=[("delta", -1.0)],
    ),
    *(
        Case(
            loss,
            options={"scale": 0.7},
            variants=[{"scale": s} for s in (1.0, 3.0, 1e-10, 1e10, 1e20)],
            outside=[("scale", 0.0), ("scale", -1.0)],
        )
        for loss in (jaxloss.cauchy_loss, jaxloss.geman_mcclure_loss, jaxloss.welsch_loss)
    ),
    Case(
        jaxloss.tukey_biweight_loss,
        options={"c": 2.3},
        variants=[{"c": np.float32(4.685)}, {"c": 1e10}, {"c": np.inf}],
        stated=[((5.0, 1.0), {"c": 4.0}, (0.0, 0.0)), ((90.0, 1.0), {"c": 4.0}, (0.0, 0.0))],
        outside=[("c", 0.0), ("c", -1.0)],
    ),
    Case(
        jaxloss.general_robust_loss,
        options={"alpha": 0.6, "scale": 0.7},
        variants=[
            *({"alpha": a, "scale": 1.0} for a in (2.0, 1.0, 0.0, -2.0, -np.inf, np.inf)),
            *({"alpha": a, "scale": 1.3} for a in (1.9999999, 2.0000002, 1e-7, -1e-7)),
            *({"alpha": a, "scale": 0.7} for a in (4.0, -20.0, -1e4, 1e3, -1e6)),
        ],
        outside=[("scale", 0.0), ("scale", -1.0)],
        edges=120,
    ),
    Case(
        jaxloss.quantile_loss,
        options={"quantile": 0.3},
        variants=[{"quantile": 0.5}, {"quantile": 0.99}],
        kink=equal,
        stated=[((2.0, 2.0), {"quantile": 0.9}, (0.0, 0.0))],
        outside=[("quantile", -0.1), ("quantile", 1.1)],
    ),
    Case(
        jaxloss.expectile_loss,
        options={"expectile": 0.3},
        variants=[{"expectile": 0.5}, {"expectile": 0.99}],
        outside=[("expectile", -0.1), ("expectile", 1.1)],
    ),
    Case(
        jaxloss.epsilon_insensitive_loss,
        options={"epsilon": 0.5},
        variants=[{"epsilon": 0.0}, {"epsilon": 1e-20}],
        kink=lambda p, t, epsilon: abs(p - t) == epsilon,
        stated=[
            ((2.0, 2.0), {"epsilon": 0.0}, (0.0, 0.0)),
            ((2.5, 2.0), {"epsilon": 0.5}, (1.0, -1.0)),
            ((1.5, 2.0), {"epsilon": 0.5}, (-1.0, 1.0)),
            ((1.6, 2.0), {"epsilon": 0.5}, (0.0, 0.0)),
        ],
        outside=[("epsilon", -1.0)],
    ),
    Case(
        jaxloss.squared_epsilon_insensitive_loss,
        options={"epsilon": 0.5},
        variants=[{"epsilon": 0.0}],
        outside=[("epsilon", -1.0)],
    ),
    Case(
        jaxloss.absolute_percentage_error,
        options={"epsilon": 0.5},
        variants=[{"epsilon": np.float32(1e-7)}],
        kink=lambda p, t, epsilon: p == t or abs(t) == epsilon,
        stated=[((2.0, 2.0), {"epsilon": 0.5}, (0.0, 0.0))],
        outside=[("epsilon", -1.0)],
    ),
    Case(
        jaxloss.squared_logarithmic_error,
        data=(ABOVE_MINUS_ONE, ABOVE_MINUS_ONE),
        outside=[(0, -1.5), (1, -1.5)],
    ),
    Case(
        jaxloss.cosine_similarity,
        axis=True,
        optional_targets=False,
        zero_when_exact=False,
        outside=[("epsilon", -1.0)],
    ),
    Case(
        jaxloss.cosine_distance,
        axis=True,
        optional_targets=False,
        variants=[{"epsilon": 20.0}],
        outside=[("epsilon", -1.0)],
    ),
    Case(
        jaxloss.gaussian_nll_loss,
        data=(REAL, REAL, POSITIVE),
        variants=[{"full": True}],
        optional_targets=False,
        zero_when_exact=False,
        outside=[(2, -1.0)],
    ),
    Case(
        jaxloss.beta_nll_loss,
        data=(REAL, REAL, POSITIVE),
        options={"beta": 0.3},
        variants=[{"beta": 0.5}, {"beta": 1.0}],
        optional_targets=False,
        zero_when_exact=False,
        outside=[(2, -1.0)],
        not_differentiated={"beta": "the paper holds the weight v^beta constant"},
        not_numerical="the paper's gradient holds v^beta constant, a difference does not",
    ),
    Case(
        jaxloss.laplace_nll_loss,
        data=(REAL, REAL, POSITIVE),
        kink=equal,
        stated=[((2.0, 2.0, 0.5), {}, (0.0, 0.0))],
        optional_targets=False,
        zero_when_exact=False,
        outside=[(2, -1.0)],
    ),
    Case(
        jaxloss.student_t_nll_loss,
        data=(REAL, REAL, POSITIVE, MODERATE),
        optional_targets=False,
        zero_when_exact=False,
        outside=[(2, 0.0), (2, -1.0), (3, 0.0), (3, -1.0)],
        edges=60,
    ),
    Case(
        jaxloss.gaussian_crps,
        data=(REAL, REAL, NON_NEGATIVE),
        kink=lambda p, t, scale: scale == 0 and p == t,
        stated=[((2.0, 2.0, 0.0), {}, (0.0, 0.0))],
        optional_targets=False,
        zero_when_exact=False,
        outside=[(2, -1.0)],
    ),
    Case(
        jaxloss.poisson_nll_loss,
        data=(LOGARITHM, COUNT),
        variants=[{"full": True}],
        optional_targets=False,
        zero_when_exact=False,
        outside=[(1, -1.0)],
    ),
    Case(
        jaxloss.gamma_nll_loss,
        data=(LOGARITHM, POSITIVE),
        optional_targets=False,
        zero_when_exact=False,
        outside=[(1, 0.0), (1, -1.0)],
    ),
    Case(
        jaxloss.tweedie_loss,
        data=(LOGARITHM, POSITIVE),
        options={"power": 1.3},
        variants=[{"power": p} for p in (-0.7, 0.0, 0.3, 1.0, 1.5, 1.9, 2.0, 2.6, 3.0)],
        optional_targets=False,
        zero_when_exact=False,
        outside=[(1, -1.0)],
    ),
    Case(
        jaxloss.negative_binomial_nll_loss,
        data=(LOGARITHM, COUNT, MODERATE),
        optional_targets=False,
        zero_when_exact=False,
        outside=[(1, -1.0), (2, -1.0)],
        edges=60,
    ),
]

# The same losses of a mean instead of its logarithm: the laws that differ are those of accuracy.
OF_MEANS = [
    Case(
        jaxloss.poisson_nll_loss,
        data=(NON_NEGATIVE, COUNT),
        options={"log_input": False},
        variants=[{"log_input": False, "eps": 1e-3}],
        outside=[(0, -1.0), (1, -1.0)],
    ),
    Case(
        jaxloss.gamma_nll_loss,
        data=(POSITIVE, POSITIVE),
        options={"log_input": False},
        outside=[(0, -1.0), (1, 0.0), (1, -1.0)],
    ),
    Case(
        jaxloss.tweedie_loss,
        data=(POSITIVE, POSITIVE),
        options={"log_input": False, "power": 1.3},
        variants=[{"log_input": False, "power": p} for p in (-0.7, 0.0, 0.3, 1.0, 1.5, 2.0, 2.6)],
        outside=[(0, -1.0), (1, -1.0)],
    ),
    Case(
        jaxloss.negative_binomial_nll_loss,
        data=(POSITIVE, COUNT, MODERATE),
        options={"log_input": False},
        outside=[(0, -1.0), (1, -1.0), (2, -1.0)],
        edges=60,
    ),
]


def case_id(case: Case) -> str:
    return case.name
