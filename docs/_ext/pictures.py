"""A picture of each public loss and helper, as SVG that takes the colours of the page.

`NAMES` are the names that have one, and `svg(name)` draws it: panels side by side, `small=True` a
single thumbnail. A loss that is a function of one number is drawn with its slope, at several
hyperparameters, and with the slope at its kinks as a dot; one of vectors, batches, lists, maps or
sequences has a scene as well (`picture_scenes.py`). What is drawn is what the functions give.
"""

from __future__ import annotations

import functools
import io
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib
import matplotlib.style
import numpy as np
import picture_scenes as scenes
import scenes_ensemble
import scenes_ordinal
import scenes_policy
import scenes_ranking
import scenes_sequences
import scenes_survival
from jax.scipy.special import logsumexp
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from picture_scenes import CURVES, INK, MUTED, Scene

import jaxloss
from jaxloss._asked import curves_of, measured
from jaxloss._curves import Curve
from jaxloss._drawing import DASHES, draw, limits
from jaxloss._lines import LINES

FAMILIES = (
    scenes_ensemble,
    scenes_ordinal,
    scenes_policy,
    scenes_ranking,
    scenes_sequences,
    scenes_survival,
)
OF_FAMILIES = {name: make for family in FAMILIES for name, make in family.SCENES.items()}
SCENES = scenes.SCENES | OF_FAMILIES
# The hyperparameters, or the targets, of which a curve each is drawn.
VARIED: dict[str, dict[str, Any]] = {
    "huber_loss": {"delta": [0.5, 1.0, 2.0]},
    "smooth_l1_loss": {"beta": [0.0, 1.0, 2.0]},
    "pseudo_huber_loss": {"delta": [0.5, 1.0, 2.0]},
    "cauchy_loss": {"scale": [0.5, 1.0, 2.0]},
    "geman_mcclure_loss": {"scale": [0.5, 1.0, 2.0]},
    "welsch_loss": {"scale": [0.5, 1.0, 2.0]},
    "tukey_biweight_loss": {"c": [2.0, 4.685, 7.0]},
    "general_robust_loss": {"alpha": [2.0, 1.0, 0.0, -2.0]},
    "quantile_loss": {"quantile": [0.1, 0.5, 0.9]},
    "expectile_loss": {"expectile": [0.1, 0.5, 0.9]},
    "epsilon_insensitive_loss": {"epsilon": [0.0, 0.5, 1.0]},
    "squared_epsilon_insensitive_loss": {"epsilon": [0.0, 0.5, 1.0]},
    "absolute_percentage_error": {"target": [1.0, 2.0, 4.0]},
    "squared_logarithmic_error": {"target": [0.0, 1.0, 4.0]},
    "gaussian_nll_loss": {"variance": [0.5, 1.0, 4.0]},
    "beta_nll_loss": {"variance": [0.5, 1.0, 4.0]},
    "laplace_nll_loss": {"scale": [0.5, 1.0, 2.0]},
    "gaussian_crps": {"scale": [0.25, 1.0, 2.0]},
    "student_t_nll_loss": {"df": [1.0, 3.0, 30.0]},
    "crps_ensemble": {"target": [-0.5, 0.5, 2.0]},
    "energy_score": {"target": [0.0, 0.5, 2.0]},
    "interval_score": {"alpha": [0.1, 0.2, 0.5]},
    "censored_nll_loss": {"target": [0.2, 1.0, 5.0]},
    "cumulative_link_nll": {"kind": ["logit", "probit", "cloglog"]},
    "coral_loss": {"target": [0, 1, 3]},
    "corn_loss": {"target": [0, 1, 3]},
    "squared_emd_loss": {"target": [0, 1, 3]},
    "poisson_nll_loss": {"target": [0.0, 3.0, 8.0]},
    "gamma_nll_loss": {"target": [1.0, 3.0, 8.0]},
    "tweedie_loss": {"power": [1.2, 1.5, 1.8]},
    "negative_binomial_nll_loss": {"dispersion": [0.1, 0.5, 2.0]},
    "multivariate_gaussian_nll_loss": {"kind": ["covariance", "precision"]},
    "von_mises_nll_loss": {"concentration": [0.5, 2.0, 8.0]},
    "gaussian_kl": {"free_bits": [0.0, 0.5, 1.0]},
    "zero_inflated_poisson_nll_loss": {"gate_logits": [-3.0, 0.0, 3.0]},
    "zero_inflated_negative_binomial_nll_loss": {"dispersion": [0.1, 0.5, 2.0]},
    "hurdle_poisson_nll_loss": {"target": [0.0, 1.0, 8.0]},
    "zero_inflated_lognormal_nll_loss": {"scale": [0.5, 1.0, 2.0]},
    "sigmoid_binary_cross_entropy": {"target": [1, 0]},
    "binary_cross_entropy": {"target": [1, 0]},
    "sigmoid_focal_loss": {"gamma": [0.0, 1.0, 2.0, 5.0]},
    "asymmetric_loss": {"target": [1, 0]},
    "hinge_loss": {"target": [1, -1]},
    "squared_hinge_loss": {"target": [1, -1]},
    "perceptron_loss": {"target": [1, -1]},
    "soft_margin_loss": {"target": [1, -1]},
    "sparsemax_loss": {"target": [1, 0]},
    "multilabel_margin_loss": {"target": [1, 0]},
    "multilabel_soft_margin_loss": {"target": [1, 0]},
    "zlpr_loss": {"target": [1, 0]},
    "softmax_cross_entropy": {"label_smoothing": [0.0, 0.1, 0.3]},
    "softmax_cross_entropy_with_integer_labels": {"label_smoothing": [0.0, 0.1, 0.3]},
    "safe_softmax_cross_entropy": {"temperature": [0.5, 1.0, 2.0]},
    "linear_softmax_cross_entropy": {"logit_softcap": [1.0, 2.0, 30.0]},
    "linear_distillation_loss": {"temperature": [1.0, 2.0, 4.0]},
    "linear_log_probs": {"temperature": [0.5, 1.0, 2.0]},
    "linear_token_statistics": {"temperature": [0.5, 1.0, 2.0]},
    "softmax_focal_loss": {"gamma": [0.0, 2.0, 5.0]},
    "generalized_cross_entropy": {"q": [0.1, 0.7, 1.0]},
    "symmetric_cross_entropy": {"beta": [0.0, 0.5, 1.0]},
    "poly_loss_cross_entropy": {"epsilon": [-1.0, 0.0, 2.0]},
    "multi_margin_loss": {"p": [1, 2]},
    "multiclass_hinge_loss": {"margin": [0.5, 1.0, 2.0]},
    "arcface_logits": {"margin": [0.0, 0.25, 0.5]},
    "cosface_logits": {"margin": [0.0, 0.35, 0.7]},
    "renyi_divergence": {"alpha": [0.5, 2.0, 10.0]},
    "convex_kl_divergence": {"target": [0.5, 1.0, 2.0]},
    "generalized_kl_divergence": {"target": [0.5, 1.0, 2.0]},
    "distillation_loss": {"temperature": [1.0, 2.0, 4.0]},
    "cosine_embedding_loss": {"target": [1, -1]},
    "contrastive_loss": {"target": [1, -1]},
    "hinge_embedding_loss": {"target": [1, -1]},
    "margin_ranking_loss": {"margin": [0.0, 1.0, 2.0]},
    "triplet_margin_loss": {"margin": [0.5, 1.0, 2.0]},
    "ntxent": {"temperature": [0.1, 0.2, 0.5]},
    "supervised_contrastive_loss": {"temperature": [0.1, 0.2, 0.5]},
    "info_nce_loss": {"temperature": [0.1, 0.2, 0.5]},
    "clip_loss": {"logit_scale": [2.0, 5.0, 14.3]},
    "siglip_loss": {"logit_bias": [-10.0, -5.0, 0.0]},
    "approx_ndcg_loss": {"temperature": [0.1, 0.5, 1.0]},
    "approx_mrr_loss": {"temperature": [0.1, 0.5, 1.0]},
    "pairwise_hinge_loss": {"margin": [0.5, 1.0, 2.0]},
    "dpo_loss": {"beta": [0.05, 0.1, 0.3]},
    "bradley_terry_loss": {"margin": [0.0, 1.0, 2.0]},
    "simpo_loss": {"gamma": [0.0, 1.0, 2.0]},
    "orpo_loss": {"beta": [0.1, 0.5, 1.0]},
    "bco_loss": {"target": [1, -1]},
    "kto_loss": {"target": [1, -1]},
    "ppo_loss": {"target": [1.0, -1.0]},
    "kl_estimate": {"kind": ["k1", "k2", "k3"]},
    "value_loss": {"clip": [0.2, 0.5, 1.0]},
    "quantile_huber_loss": {"delta": [0.1, 1.0, 3.0]},
    "dice_loss": {"smooth": [0.0, 1.0, 10.0]},
    "jaccard_loss": {"smooth": [0.0, 1.0, 10.0]},
    "binary_dice_loss": {"smooth": [0.0, 1.0, 10.0]},
    "tversky_loss": {"beta": [0.3, 0.5, 0.7]},
    "focal_tversky_loss": {"gamma": [0.5, 0.75, 1.5]},
}
# Where thresholds of the slope are looked for too: their second derivatives are cheap to compile.
BENT = {"huber_loss", "smooth_l1_loss", "tukey_biweight_loss", "squared_hinge_loss"} | {
    "squared_epsilon_insensitive_loss",
    "sparsemax_loss",
    "expectile_loss",
}
# Losses that are told best by their scene.
SCENE_FIRST = {"cosine_distance", "cosine_similarity", *scenes.FIRST, *OF_FAMILIES}


# Each program here runs a few times, and to compile them takes most of the time: a third less so.
QUICK = "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
QUICK += " --xla_cpu_parallel_codegen_split_count=1"


@functools.cache
def compile_quickly() -> None:
    """Start JAX with XLA's optimisations off, if it has not started yet.

    The environment is left as it was: a notebook that is started later compiles as users do.
    """
    before = os.environ.get("XLA_FLAGS")
    flags = {**os.environ, "XLA_FLAGS": f"{before or ''} {QUICK}"}
    # Another version of XLA ends the process at a flag that it does not know.
    start = [sys.executable, "-c", "import jax; jax.devices()"]
    if subprocess.run(start, env=flags, capture_output=True, check=False).returncode:
        return
    os.environ["XLA_FLAGS"] = flags["XLA_FLAGS"]
    try:
        jax.devices()
    finally:
        del os.environ["XLA_FLAGS"]
        if before is not None:
            os.environ["XLA_FLAGS"] = before


def svg(name: str, *, small: bool = False) -> list[str]:
    """The picture of a public name: an SVG for each panel, or one thumbnail.

    Args:
        name: One of `NAMES`.
        small: Whether to draw the thumbnail.
    """
    compile_quickly()
    panels = [*_curves(name), *scenes_of(name)]
    if name in SCENE_FIRST:
        panels = [*scenes_of(name), *_curves(name)]
    if small:
        return [_rendered(name, "small", panels[0], True)]
    return [_rendered(name, str(i), panel, False) for i, panel in enumerate(panels)]


@functools.cache
def scenes_of(name: str) -> list[Scene]:
    """The scenes of a name; both of its sizes share what was computed."""
    return SCENES[name](name) if name in SCENES else []


@functools.cache
def _measured(name: str) -> tuple[list[Curve], list[str], str, str]:
    """The curves of a name, the legend, and what both axes say."""
    if name in MADE:
        made = MADE[name]()
        losses = list(made.losses.values())
        curves = curves_of(losses, made.of, None, made.domain, list(made.losses), {})
        return measured(curves, 2, 201), _short(list(made.losses)), made.x, "loss"
    options = dict(VARIED.get(name, {}))
    target = options.pop("target", None)
    asked = curves_of([getattr(jaxloss, name)], None, target, None, None, options)
    curves = measured(asked, 3 if name in BENT else 2, 201)
    labels = _short([curve.label.partition(", ")[2] for curve in asked])
    y = LINES[name].y
    return curves, labels if len(curves) > 1 else [], asked[0].axis, y


def _short(labels: list[str]) -> list[str]:
    """The first label as it is, of the others the number alone: delta = 0.5, 1, 2."""
    first, *others = labels
    return [first, *(label.rpartition(" = ")[2] for label in others)]


@dataclass(frozen=True)
class Made:
    """What is drawn of a function that makes losses.

    Attributes:
        losses: Losses that it makes, by what the legend says.
        of: Their arguments at a place on the axis.
        domain: From where to where.
        x: What the axis shows.
    """

    losses: dict[str, Callable[..., Any]]
    of: Callable[[Any], Any]
    domain: tuple[float, float]
    x: str


def _fenchel_young() -> Made:
    """Of three functions: what makes a maximum smooth makes a loss smooth."""
    functions = {"logsumexp": logsumexp, "max": jnp.max, "half a square": _half_square}
    made = {name: jaxloss.make_fenchel_young_loss(f) for name, f in functions.items()}
    label = np.array([1.0, 0.0, 0.0], np.float32)
    x = LINES["multi_margin_loss"].x
    return Made(made, lambda x: (jnp.stack([x, 0.5, -0.5]), label), (-4.0, 4.0), x)


def _half_square(x: Any) -> Any:
    return jnp.sum(x**2) / 2


def _elementwise() -> Made:
    """An absolute error, with the slope of `jnp.abs` at 0 and with one of its own."""

    def absolute(predictions: Any, targets: Any) -> Any:
        return jnp.abs(predictions - targets)

    def sign(predictions: Any, targets: Any) -> Any:
        return jnp.sign(predictions - targets)

    make = vars(jaxloss)["elementwise"]
    losses = {"of jnp.abs": make(absolute), "and a derivative": make(absolute, derivative=sign)}
    return Made(losses, lambda x: (x, 0.0), (-3.0, 3.0), LINES["l1_loss"].x)


def _over_axis() -> Made:
    """A cross-entropy, and the square of what it misses."""

    def entropy(logits: Any, label: Any) -> Any:
        return -jax.nn.log_softmax(logits)[label]

    def brier(logits: Any, label: Any) -> Any:
        return jnp.sum((jax.nn.softmax(logits) - (jnp.arange(3) == label)) ** 2)

    make = functools.partial(vars(jaxloss)["over_axis"], class_numbers=["label"])
    losses = {"cross-entropy": make(entropy), "Brier score": make(brier)}
    x = LINES["multi_margin_loss"].x
    return Made(losses, lambda x: (jnp.stack([x, 0.5, -0.5]), 0), (-5.0, 5.0), x)


def _combine() -> Made:
    """What a term of a size pays for its log-variance."""

    def paid(size: float) -> Callable[..., Any]:
        combine = vars(jaxloss)["combine"]
        return lambda s: combine({"term": size}, log_variances={"term": s})[0]

    losses = {f"term = {size:g}": paid(size) for size in (0.2, 1.0, 3.0)}
    return Made(losses, lambda s: (s,), (-1.0, 4.0), "log-variance of the term")


MADE = {
    name: make
    for name, make in {
        "combine": _combine,
        "elementwise": _elementwise,
        "make_fenchel_young_loss": _fenchel_young,
        "over_axis": _over_axis,
    }.items()
    if hasattr(jaxloss, name)
}
NAMES = frozenset({*LINES, *SCENES, *MADE})


def _curves(name: str) -> list[Scene]:
    """Two panels: the value and the slope."""
    if name not in LINES and name not in MADE:
        return []
    y = LINES[name].y if name in LINES else "loss"
    titles = (y, "gradient" if y == "loss" else "derivative")
    return [Scene(functools.partial(_paint, name, i), titles[i]) for i in (0, 1)]


def _paint(name: str, order: int, axes: Axes, small: bool) -> None:
    curves, labels, x, _ = _measured(name)
    for i, curve in enumerate(curves):
        look = {"color": CURVES[i], "linestyle": DASHES[i] if len(curves) > 1 else "-"}
        draw(axes, order, curve, look, labels[i] if labels else None)
    found = limits([curve.orders[order] for curve in curves])
    heights = np.concatenate([curve.orders[order] for curve in curves])
    if found:
        axes.set_ylim(*found)
    elif np.nanmax(heights) - np.nanmin(heights) < 1e-3 * np.nanmax(np.abs(heights)):
        # A constant is seen as such from 0.
        axes.set_ylim(*sorted((0.0, 1.25 * float(np.nanmean(heights)))))
    if small:
        return
    axes.grid(color=INK, alpha=0.12, linewidth=0.6)
    axes.set_xlabel("\n".join(textwrap.wrap(x, 44)))
    if labels and order == 0:
        axes.legend(
            loc="lower left",
            bbox_to_anchor=(-0.1, 1.0),
            ncols=len(labels),
            frameon=False,
            handlelength=1.7,
            handletextpad=0.5,
            columnspacing=1.0,
            borderpad=0,
        )


STYLE = {
    "svg.fonttype": "none",
    "font.size": 8.5,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.facecolor": "none",
    "axes.linewidth": 0.7,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "legend.fontsize": 8.5,
    "legend.labelcolor": INK,
    "path.simplify_threshold": 0.2,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
# In points: of a panel, and of a thumbnail.
LARGE, SMALL = (252.0, 190.0), (120.0, 78.0)


def _rendered(name: str, place: str, panel: Scene, small: bool) -> str:
    size = SMALL if small else LARGE
    # From Matplotlib's defaults: a page that is run in the same process may have set others.
    look = {**STYLE, "svg.hashsalt": name + place}
    with matplotlib.style.context("default"), matplotlib.rc_context(look):
        figure = Figure(figsize=(size[0] / 72, size[1] / 72))
        box = (0.05, 0.06, 0.9, 0.88) if small else (0.17, 0.21, 0.8, 0.6)
        if panel.square and not small:
            box = (0.12, 0.2, 0.86, 0.68)
        axes = figure.add_axes(box)
        panel.paint(axes, small)
        if panel.square:
            axes.set_aspect("equal")
        if small:
            axes.set(xticks=[], yticks=[], xlabel="", ylabel="")
        else:
            figure.text(0.02, 0.965, panel.title, va="top", fontsize=9.5, fontweight="bold")
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    title = f"{name}: {panel.title}" if not small else name
    return themed(file.getvalue(), f"{name}-{place}", title)


def themed(picture: str, prefix: str, title: str) -> str:
    """An SVG of matplotlib as a part of a page: its colours, its letters, its ids.

    Args:
        picture: What matplotlib wrote, in the colours that stand for those of the page.
        prefix: What makes its ids its own.
        title: What it shows, for those who do not see it.
    """
    body = picture[picture.index("<svg") :]
    _, _, body = body.partition(">")
    width, height = re.findall(r'(?:width|height)="([\d.]+)pt"', picture)[:2]
    body = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", body, flags=re.S)
    # A rule for `*` would reach the whole page.
    body = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", body, flags=re.S)
    body = _coloured(body)
    body = re.sub(r"font: ((?:bold |italic |\d+ )*)([\d.]+)px [^;\"]+", _font, body)
    body = _identified(body, prefix)
    body = re.sub(r"<[^>]+>", lambda tag: _rounded(tag[0]), body)
    body = re.sub(r">\s+<", "><", body)
    while re.search(r"<g>\s*</g>", body):
        body = re.sub(r"<g>\s*</g>", "", body)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'role="img" class="jaxloss-picture" viewBox="0 0 {float(width):g} {float(height):g}" '
        f'width="{float(width) * 4 / 3:.0f}" height="{float(height) * 4 / 3:.0f}" '
        f'style="max-width:100%;height:auto" stroke-linejoin="round">'
    )
    return f"{head}<title>{title}</title>{body.strip()}"


def _coloured(body: str) -> str:
    for i, colour in enumerate(CURVES, 1):
        body = body.replace(colour, f"var(--curve-{i})")
    return body.replace(INK, "currentColor").replace(MUTED, "currentColor")


def _font(found: re.Match[str]) -> str:
    weight = ";font-weight:bold" if "bold" in found[1] or "700" in found[1] else ""
    return f"font-size:{float(found[2]):g}px;font-family:inherit{weight}"


def _identified(body: str, prefix: str) -> str:
    """Ids that are referred to keep one, of their own; all others go."""
    used = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', body))
    short = {old: f"{prefix}-{i}" for i, old in enumerate(sorted(used, key=body.index))}
    body = re.sub(
        r' id="([^"]+)"',
        lambda found: f' id="{short[found[1]]}"' if found[1] in used else "",
        body,
    )
    return re.sub(r'(url\(#|href="#)([^)"]+)', lambda found: found[1] + short[found[2]], body)


def _rounded(tag: str) -> str:
    tag = re.sub(r"\s+", " ", tag)
    tag = re.sub(r"-?\d+\.\d{2,}", lambda found: f"{round(float(found[0]), 1) + 0.0:g}", tag)
    return tag.replace(" L ", "L").replace("M ", "M").replace(" z", "z").replace("; ", ";")
