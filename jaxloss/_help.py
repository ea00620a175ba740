"""What `help(jaxloss)` shows, and what a name that is not here is answered with."""

from __future__ import annotations

import difflib
import importlib.util
import inspect
import sys
from collections.abc import Mapping, Sequence
from typing import Any

# What to write here for losses that PyTorch, Keras, rax, scikit-learn and torchvision name
# otherwise; what optax names is named so here. The tables of docs/coming_from/ have a row for each,
# and tests/documents/ tests that they agree.
CALLED_ELSEWHERE = {
    'l1_loss(predictions, targets, reduction="mean")': (
        "L1Loss MeanAbsoluteError mean_absolute_error"
    ),
    'squared_error(predictions, targets, reduction="mean")': (
        "mse_loss MSELoss MeanSquaredError mean_squared_error pointwise_mse_loss brier_score_loss"
    ),
    'jnp.sqrt(squared_error(predictions, targets, reduction="mean"))': "root_mean_squared_error",
    'smooth_l1_loss(predictions, targets, reduction="mean")': "SmoothL1Loss",
    'huber_loss(predictions, targets, reduction="mean")': "HuberLoss Huber huber",
    'log_cosh(predictions, targets, reduction="mean")': "LogCosh",
    'absolute_percentage_error(predictions, targets, reduction="mean")': (
        "MeanAbsolutePercentageError mean_absolute_percentage_error"
    ),
    'squared_logarithmic_error(predictions, targets, reduction="mean")': (
        "MeanSquaredLogarithmicError mean_squared_logarithmic_error mean_squared_log_error"
    ),
    'quantile_loss(predictions, targets, quantile=0.5, reduction="mean")': "mean_pinball_loss",
    'poisson_nll_loss(predictions, targets, reduction="mean")': "PoissonNLLLoss",
    'poisson_nll_loss(predictions, targets, log_input=False, reduction="mean")': (
        "Poisson poisson mean_poisson_deviance"
    ),
    'gamma_nll_loss(predictions, targets, log_input=False, reduction="mean")': (
        "mean_gamma_deviance"
    ),
    'tweedie_loss(predictions, targets, power=1.5, log_input=False, reduction="mean")': (
        "mean_tweedie_deviance"
    ),
    'gaussian_nll_loss(predictions, targets, variance, reduction="mean")': "GaussianNLLLoss",
    'softmax_cross_entropy_with_integer_labels(logits, labels, reduction="mean")': (
        "cross_entropy CrossEntropyLoss SparseCategoricalCrossentropy "
        "sparse_categorical_crossentropy"
    ),
    'linear_softmax_cross_entropy(hidden, kernel, labels, transposed=True, reduction="mean")': (
        "linear_cross_entropy"
    ),
    'softmax_cross_entropy(logits, labels, reduction="mean")': (
        "cross_entropy CrossEntropyLoss CategoricalCrossentropy categorical_crossentropy"
    ),
    'nll_loss(log_predictions, labels, reduction="mean")': "NLLLoss log_loss",
    'softmax_focal_loss(logits, labels, reduction="mean")': (
        "CategoricalFocalCrossentropy categorical_focal_crossentropy"
    ),
    'generalized_cross_entropy(logits, labels, reduction="mean")': (
        "CategoricalGeneralizedCrossEntropy categorical_generalized_cross_entropy"
    ),
    'multi_margin_loss(scores, labels, reduction="mean")': "MultiMarginLoss",
    'multiclass_hinge_loss(scores, labels, reduction="mean")': "CategoricalHinge categorical_hinge",
    'sigmoid_binary_cross_entropy(logits, labels, reduction="mean")': (
        "binary_cross_entropy_with_logits BCEWithLogitsLoss BinaryCrossentropy binary_crossentropy "
        "pointwise_sigmoid_loss"
    ),
    'binary_cross_entropy(predictions, labels, reduction="mean")': (
        "BCELoss BinaryCrossentropy binary_crossentropy log_loss"
    ),
    'sigmoid_focal_loss(logits, labels, reduction="mean")': (
        "BinaryFocalCrossentropy binary_focal_crossentropy"
    ),
    'hinge_loss(predictor_outputs, targets, reduction="mean")': "Hinge hinge",
    'squared_hinge_loss(predictor_outputs, targets, reduction="mean")': (
        "SquaredHinge squared_hinge"
    ),
    'soft_margin_loss(predictor_outputs, targets, reduction="mean")': "SoftMarginLoss",
    'multilabel_margin_loss(scores, labels, reduction="mean")': "MultiLabelMarginLoss",
    'multilabel_soft_margin_loss(logits, labels, reduction="mean")': "MultiLabelSoftMarginLoss",
    'kl_divergence(log_predictions, targets, reduction="mean")': "kl_div KLDivLoss KLDivergence",
    "ctc_loss(logits, logit_paddings, labels, label_paddings)": "CTCLoss CTC ctc",
    'dice_loss(predictions, targets, reduction="mean")': "Dice dice",
    'tversky_loss(predictions, targets, reduction="mean")': "Tversky tversky",
    "cosine_similarity(predictions, targets)": "CosineSimilarity",
    'cosine_embedding_loss(x1, x2, y, reduction="mean")': "CosineEmbeddingLoss",
    'margin_ranking_loss(x1, x2, y, reduction="mean")': "MarginRankingLoss",
    'hinge_embedding_loss(distances, labels, reduction="mean")': "HingeEmbeddingLoss",
    'triplet_margin_loss(anchors, positives, negatives, reduction="mean")': "TripletMarginLoss",
    'triplet_margin_with_distance_loss(anchors, positives, negatives, reduction="mean")': (
        "TripletMarginWithDistanceLoss"
    ),
    "cosine_distance(predictions, targets)": "paired_cosine_distances",
    "pairwise_distance(x, y)": "cdist euclidean_distances",
    'circle_loss(embeddings, labels, reduction="mean")': "Circle circle",
    "ranking_softmax_loss(logits, labels)": "softmax_loss",
    '1 - approx_ndcg_loss(scores, labels, reduction="mean")': "ndcg_score",
    "giou_loss(boxes1, boxes2)": "generalized_box_iou_loss",
    "diou_loss(boxes1, boxes2)": "distance_box_iou_loss",
    "ciou_loss(boxes1, boxes2)": "complete_box_iou_loss",
    "1 - ciou_loss(boxes1, boxes2)": "compute_ciou",
}


def contents(public: Mapping[str, Any]) -> str:
    """The first lines of the docstrings of functions, family by family, with that of the family.

    Args:
        public: What is public, by name.
    """
    families: dict[str, list[str]] = {}
    for name, value in public.items():
        if inspect.isfunction(value):
            module = inspect.unwrap(value).__globals__["__name__"]
            line = f"    {name:27}  {_first_line(value)}"
            families.setdefault(module.rpartition(".")[0], []).append(line)
    last = ("jaxloss._custom", "jaxloss._contract")
    order = sorted(families, key=lambda family: (family in last, family not in last[:1], family))
    titles = {family: _first_line(sys.modules[family]).partition(";")[0] for family in order}
    return "\n\n".join("\n".join([titles[x].rstrip("."), *families[x]]) for x in order)


def _first_line(documented: Any) -> str:
    return (documented.__doc__ or "").partition("\n")[0]


def missing(name: str, public: Sequence[str], importing: bool) -> AttributeError | ImportError:
    """What to raise for a name that is not public, with what to write instead.

    Args:
        name: The name.
        public: Those that are public.
        importing: Whether `from jaxloss import name` asks. It drops what an AttributeError says, as
            it then looks for a submodule.
    """
    answer = "" if name.startswith("_") else instead(name, public)
    if importing and answer and importlib.util.find_spec(f"jaxloss.{name}") is None:
        return ImportError(f"cannot import name {name!r} from 'jaxloss'{answer}", name="jaxloss")
    # Without `obj`, from which Python would add a guess of its own.
    return AttributeError(f"module 'jaxloss' has no attribute {name!r}{answer}", name=name)


def instead(name: str, public: Sequence[str]) -> str:
    calls: dict[str, list[str]] = {}
    for call, names in CALLED_ELSEWHERE.items():
        for other in names.split():
            calls.setdefault(other, []).append(call)
    near = [name] if name in calls else difflib.get_close_matches(name, [*public, *calls], n=1)
    if not near:
        return ""
    if near[0] in calls:
        return f"; here it is {' or '.join(calls[near[0]])}"
    return f"; did you mean {near[0]!r}?"
