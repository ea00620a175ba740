"""Likelihoods: a predicted distribution and what was observed."""

from __future__ import annotations

import dataclasses

import numpy as np

import jaxloss
from tests.laws.case import COUNT, LOGARITHM, MODERATE, NON_NEGATIVE, POSITIVE, REAL, Case, equal
from tests.likelihood import density_cases

DEGREES = dataclasses.replace(MODERATE, infinite=(np.inf,))

CASES = [
    Case(
        jaxloss.gaussian_nll_loss,
        data=(REAL, REAL, POSITIVE),
        variants=[{"full": True}, {"eps": 0.5}],
        optional_targets=False,
        zero_when_exact=False,
        outside=[(2, -1.0), ("eps", -1.0)],
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
        data=(REAL, REAL, POSITIVE, DEGREES),
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
        branches=("power",),
        data=(LOGARITHM, NON_NEGATIVE),
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
    *density_cases.CASES,
]

# The same losses of a mean instead of its logarithm: the laws that differ are those of accuracy.
VARIATIONS = [
    *density_cases.VARIATIONS,
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
        branches=("power",),
        data=(POSITIVE, NON_NEGATIVE),
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
