"""Regression: real predictions and real targets of one shape."""

from __future__ import annotations

import numpy as np

import jaxloss
from tests.laws.case import ABOVE_MINUS_ONE, Case, equal


def nowhere(*_: float, **__: float) -> bool:
    return False


def turning(p: float, t: float, *, scale: float, alpha: float = -2.0) -> bool:
    """Near the inflection at z = b / (1 - alpha), z = ((p - t) / scale)^2 and b = |alpha - 2|.

    The second derivative goes as b + (alpha - 1) z there, of which the rounding of z alone is more
    than 64 eps.
    """
    z, b = (np.float64(p - t) / scale) ** 2, abs(alpha - 2)
    return not np.isinf(b) and abs(b + (alpha - 1) * z) < 0.05 * (b + z)


def beyond_measure(p: float, t: float, *, scale: float, alpha: float) -> bool:
    """At infinite errors what is read is the largest float, where small alphas still bend."""
    return bool(np.isinf(p - t)) or turning(p, t, scale=scale, alpha=alpha)


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
            no_hessian=turns,
        )
        for loss, turns in (
            (jaxloss.cauchy_loss, nowhere),
            (jaxloss.geman_mcclure_loss, turning),
            (jaxloss.welsch_loss, nowhere),
        )
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
        no_hessian=beyond_measure,
        branches=("alpha",),
        options={"alpha": 0.6, "scale": 0.7},
        variants=[
            *({"alpha": a, "scale": 1.0} for a in (2.0, 1.0, 0.0, -2.0, -np.inf, np.inf)),
            *({"alpha": a, "scale": 1.3} for a in (1.9999999, 2.0000002, 1e-7, -1e-7)),
            *({"alpha": a, "scale": 0.7} for a in (4.0, -20.0, -1e4, 1e3, -1e6, 1e8, -2e12)),
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
]
