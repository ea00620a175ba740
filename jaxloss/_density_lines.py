"""Along which line densities of more than one part are drawn: inflated ones, mixtures, vectors."""

from __future__ import annotations

from dataclasses import replace

import jax.numpy as jnp

from ._line import Line, each, pair, rows, vector


def densities(error: Line, rate: Line) -> dict[str, Line]:
    """The lines, from those of an error and of a logarithm of a mean."""
    gated = replace(rate, target=0.0, given={"gate_logits": 0.0})
    return {
        **each("zero_inflated_poisson_nll_loss hurdle_poisson_nll_loss", gated),
        "zero_inflated_negative_binomial_nll_loss": replace(
            gated, given={"dispersion": 0.5, "gate_logits": 0.0}
        ),
        "gaussian_kl": Line(
            lambda x, target: (vector(x, target), jnp.zeros(2)),
            "one of two means, the other at {target}",
            (-3.0, 3.0),
        ),
        "mixture_density_nll_loss": Line(
            lambda x, target: (jnp.array([-1.0, 2.0]), x, jnp.array([0.5, 1.0]), jnp.zeros(2)),
            "target, for means of -1 and 2",
            (-4.0, 6.0),
        ),
        "low_rank_gaussian_nll_loss": Line(
            lambda x, target: (
                vector(x, 0.5),
                jnp.zeros(2),
                vector(0.3, 0.3),
                rows((1.0,), (0.8,)),
            ),
            "one of two means, targets of 0",
            (-3.0, 3.0),
        ),
        "multivariate_gaussian_nll_loss": Line(
            lambda x, target: (vector(x, 0.5), jnp.zeros(2), rows((1.0, 0.0), (0.8, 0.6))),
            "one of two means, targets of 0",
            (-3.0, 3.0),
        ),
        "von_mises_nll_loss": replace(
            error, x="error, in radians", domain=(-7.0, 7.0), given={"concentration": 1.0}
        ),
        "zero_inflated_lognormal_nll_loss": Line(
            pair,
            "mean of the logarithm, for the target {target}",
            (-1.0, 5.0),
            8.0,
            given={"scale": 1.0, "gate_logits": 0.0},
        ),
    }
