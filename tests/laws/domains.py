"""The numbers that options may take, as their docstrings say.

A square bracket stands beside an end that belongs to the domain, where the loss has its exact
value or a limit; a round one beside an end that does not, where the loss is NaN as it is beyond.
Of infinity a round bracket says nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from tests.laws.case import Case

FROM_0, ABOVE_0, SHARE, ANY = "[0, inf)", "(0, inf)", "[0, 1]", "(-inf, inf)"

# By the name of the option, where it means the same in all losses.
OPTIONS = {
    "base": ANY,
    "c": "(0, inf]",
    "center_rewards_coefficient": FROM_0,
    "clip": SHARE,
    "covariance": ANY,
    "delta": "[0, inf]",
    "eps": FROM_0,
    "epsilon": FROM_0,
    "expectile": SHARE,
    "free_bits": FROM_0,
    "gamma": FROM_0,
    "gamma_negative": FROM_0,
    "gamma_positive": FROM_0,
    "invariance": ANY,
    "label_smoothing": SHARE,
    "log_zero": "(-inf, 0)",
    "logit_bias": ANY,
    "logit_scale": FROM_0,
    "logit_softcap": ABOVE_0,
    "norm_degree": "[1, inf]",
    "off_diagonal": ANY,
    "pos_weight": FROM_0,
    "power": ANY,
    "q": SHARE,
    "quantile": SHARE,
    "reference_point": ANY,
    "reward_shift": ANY,
    "scale": ABOVE_0,
    "smooth": FROM_0,
    "smooth_denominator": ABOVE_0,
    "temperature": ABOVE_0,
    "truncation_lower": ANY,
    "truncation_upper": ANY,
    "variance": ANY,
    "z_loss": ANY,
}
# By the loss, and its kind if that matters.
OF_LOSSES = {
    "bco_loss": {"beta": FROM_0},
    "beta_nll_loss": {"beta": ANY},
    "binary_cross_entropy": {"epsilon": "[0, 0.5]"},
    "crps_ensemble": {"lower": ANY, "upper": ANY},
    "crps_ensemble almost_fair": {"alpha": SHARE, "lower": ANY, "upper": ANY},
    "crps_ensemble biased": {"lower": ANY, "upper": ANY},
    "dice_loss": {"alpha": FROM_0, "beta": FROM_0},
    "dpo_loss": {"beta": FROM_0, "alpha": FROM_0},
    "dpo_loss apo_down": {"beta": FROM_0},
    "dpo_loss apo_zero": {"beta": FROM_0},
    "dpo_loss discopop": {"beta": FROM_0},
    "dpo_loss exo_pair": {"beta": FROM_0, "label_smoothing": "(0, 1)"},
    "dpo_loss hinge": {"beta": FROM_0, "label_smoothing": "[0, 0]"},
    "dpo_loss ipo": {"beta": FROM_0, "label_smoothing": "[0, 0]"},
    "dpo_loss nca_pair": {"beta": FROM_0},
    "dpo_loss robust": {"beta": FROM_0, "label_smoothing": "[0, 0.5)"},
    "energy_score almost_fair": {"alpha": SHARE},
    "dpo_loss sppo_hard": {"beta": FROM_0},
    "focal_tversky_loss": {"alpha": FROM_0, "beta": FROM_0},
    "general_robust_loss": {"alpha": "[-inf, inf]"},
    "interval_score": {"alpha": "(0, 1]"},
    "kto_loss": {"beta": FROM_0},
    "multi_similarity_loss": {"alpha": ABOVE_0, "beta": ABOVE_0},
    "orpo_loss": {"beta": FROM_0},
    "poly1_softmax_loss": {"epsilon": ANY},
    "poly_loss_cross_entropy": {"epsilon": ANY},
    "ppo_loss": {"clip": FROM_0, "clip_high": FROM_0, "dual_clip": "[1, inf)"},
    "ppo_loss ppo": {"clip": FROM_0, "clip_high": FROM_0, "dual_clip": "[1, inf)"},
    "ppo_loss cispo": {"clip": FROM_0, "clip_high": FROM_0},
    "renyi_divergence": {"alpha": "[0, inf]"},
    "sigmoid_focal_loss": {"alpha": SHARE},
    "simpo_loss": {"beta": FROM_0, "gamma": ANY},
    "smooth_l1_loss": {"beta": FROM_0},
    "quantile_huber_loss": {"delta": FROM_0},
    "symmetric_cross_entropy": {"alpha": FROM_0, "beta": FROM_0},
    "reduce_tokens": {"length": ABOVE_0},
    "tversky_loss": {"alpha": FROM_0, "beta": FROM_0},
    "value_loss": {"clip": FROM_0},
}


def domains(case: Case) -> dict[str, str]:
    """Those of the options that a row gives numbers."""
    kind = case.options.get("kind")
    known = OPTIONS | OF_LOSSES.get(f"{case.name} {kind}" if kind else case.name, {})
    names = {name for options in (case.options, *case.variants) for name in options}
    return {name: known[name] for name in sorted(names) if name in known}


def ends(domain: str) -> tuple[list[float], list[float]]:
    """The ends of a domain that belong to it; and what is just outside, far outside, and NaN."""
    inside, outside = [], [np.nan]
    low, high = map(float, domain[1:-1].split(","))
    for end, belongs, away in ((low, domain[0] == "[", -1), (high, domain[-1] == "]", 1)):
        if belongs:
            inside.append(end)
        if np.isfinite(end):
            # Not by a subnormal number, which XLA reads as 0.
            near = end + away * max(1e-30, 2e-7 * abs(end))
            outside += [near, away * np.inf] if belongs else [end, near, away * np.inf]
    return inside, outside
