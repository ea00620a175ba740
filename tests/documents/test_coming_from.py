"""The tables and examples of the pages on optax and scikit-learn, and which names they have."""

from __future__ import annotations

import re
from typing import Any

import optax.losses
import pytest
import sklearn.metrics
import sklearn.metrics.pairwise

from jaxloss._help import CALLED_ELSEWHERE
from tests.documents.elsewhere import agree, each, of_jax, of_numpy, pairs
from tests.documents.reading import DOCS
from tests.documents.running import run_examples

COLUMNS = {
    "pytorch": "in PyTorch",
    "optax": "in optax",
    "keras": "in Keras",
    "scikit_learn": "in scikit-learn",
    "rax": "in rax",
}


# optax's convex_kl_divergence says that it goes.
@pytest.mark.filterwarnings("ignore:The function convex_kl:DeprecationWarning")
@each("optax", "in optax")
def test_optax(pair: Any) -> None:
    agree(pair, of_jax, vars(optax.losses))


@each("scikit_learn", "in scikit-learn")
def test_scikit_learn(pair: Any) -> None:
    paired = {**vars(sklearn.metrics), **vars(sklearn.metrics.pairwise)}
    agree(pair, of_numpy, paired)


@pytest.mark.parametrize("page", ["index", "optax", "scikit_learn"])
def test_examples(page: str) -> None:
    run_examples(DOCS / "coming_from" / f"{page}.md")


def test_every_name_of_optax_has_a_row() -> None:
    rows = " ".join(pair.theirs for pair in pairs("optax", "in optax"))
    names = {name for name in vars(optax.losses) if callable(getattr(optax.losses, name))}
    public = {name for name in names if not name.startswith("_")}
    assert public <= set(re.findall(r"\w+", rows))


def test_every_page_is_listed() -> None:
    index = (DOCS / "coming_from" / "index.md").read_text()
    pages = {path.stem for path in (DOCS / "coming_from").glob("*.md")} - {"index"}
    assert pages == {*COLUMNS, "scale"}
    for page in pages:
        assert f"({page}.md)" in index
        assert re.search(rf"^{page}$", index, re.M)


def test_names_that_the_package_answers_stand_in_a_row() -> None:
    """What `jaxloss.MSELoss` is answered with is what the row of `nn.MSELoss` has."""
    rows = [x for page, column in COLUMNS.items() for x in pairs(page, column)]
    for call, names in CALLED_ELSEWHERE.items():
        loss = re.findall(r"(\w+)\(", call)[-1]
        for name in names.split():
            assert any(
                re.search(rf"\b{name}\(", pair.theirs) and re.search(rf"\b{loss}\(", pair.here)
                for pair in rows
            ), (name, call)


# What rows make of these has a name here, which they do not mean by themselves.
COMPOSED = {
    "SparseCategoricalCrossentropy": {"nll_loss"},
    "cross_entropy": {"info_nce_loss"},
    "d2_absolute_error_score": {"l1_loss"},
    "diag": {"box_iou"},
    "cosine_similarity": {"cosine_distance", "pairwise_similarity"},
    "f1_score": {"binary_dice_loss"},
    "matthews_corrcoef": {"matthews_correlation_loss"},
    "hinge_loss": {"multiclass_hinge_loss"},
    "huber_loss": {"smooth_l1_loss"},
    "kl_div": {"distillation_loss", "linear_distillation_loss", "kl_divergence_with_log_targets"},
    "log_softmax": {"linear_log_probs"},
    "logsigmoid": {"bradley_terry_loss"},
    "max_error": {"l1_loss"},
    "maximum": {"quantile_loss"},
    "mse_loss": {"l2_loss"},
    "mrr_metric": {"approx_mrr_loss"},
    "ndcg_metric": {"approx_ndcg_loss"},
    "r2_score": {"squared_error"},
    "root_mean_squared_log_error": {"squared_logarithmic_error"},
}


def test_names_of_rows_are_answered_by_the_package() -> None:
    """The reverse: a name that a row begins with is ours, or one that the package answers."""
    known: dict[str, str] = {}
    for call, names in CALLED_ELSEWHERE.items():
        for name in names.split():
            known[name] = known.get(name, "") + call
    seen = 0
    for page, column in COLUMNS.items():
        for pair in pairs(page, column):
            called = re.match(r"-?(?:\d [+-] )?(?:F\.|nn\.|torch\.)?(\w+)\(", pair.theirs)
            assert called, pair
            name, losses = called[1], set(re.findall(r"\w+(?=\()", pair.here))
            if name in losses or losses & COMPOSED.get(name, set()):
                continue
            assert any(f"{loss}(" in known.get(name, "") for loss in losses), pair
            seen += 1
    assert seen > 60


def test_a_row_that_is_wrong_is_noticed() -> None:
    """The comparison sees another loss, another mean and another slope."""
    (pair,) = [x for x in pairs("optax", "in optax") if x.theirs == "huber_loss(p, t, delta=d)"]
    for wrong in ("l2_loss(p, t)", "huber_loss(p, t, delta=d) * (1 + 1e-5)"):
        with pytest.raises(AssertionError):
            agree(pair._replace(here=wrong), of_jax, vars(optax.losses))
    constant = "huber_loss(jax.lax.stop_gradient(p), t, delta=d)"
    with pytest.raises(AssertionError):
        agree(pair._replace(here=constant), of_jax, vars(optax.losses))
