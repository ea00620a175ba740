"""Over which plane a loss of vectors or of scores is drawn unless its user says otherwise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import jax.numpy as jnp

from ._line import Arguments, Domain, at, each, vector


@dataclass(frozen=True)
class Plane:
    """What two axes mean for a loss; see `Line`. `against` is the hyperparameter that y is."""

    of: Callable[[Any, Any, Any], Arguments]
    x: str
    y: str
    domain: tuple[Domain, Domain]
    target: Any = 0.0
    given: Mapping[str, Any] = field(default_factory=dict)
    read: Callable[[Any], Any] = jnp.mean
    against: str = ""


def _placed(of: Callable[[Any, Any], Any]) -> Callable[[Any, Any, Any], Arguments]:
    """The arguments of a loss of two vectors, of which one is at a place of the plane."""
    return lambda x, y, target: of(vector(x, y), target)


SQUARE = ((-2.0, 2.0), (-2.0, 2.0))
WIDE = ((-4.0, 4.0), (-4.0, 4.0))


def _planes_of_vectors() -> dict[str, Plane]:
    beside = Plane(
        _placed(lambda v, target: (v, vector(1.0, target))),
        "x of a vector, its target at (1, {target})",
        "y of the vector",
        SQUARE,
    )
    labelled = replace(
        beside,
        of=_placed(lambda v, label: (v, vector(1.0, 0.0), label)),
        x="x of a vector, its partner at (1, 0), for label {target}",
        target=-1.0,
    )
    triplet = Plane(
        _placed(lambda v, target: (vector(0.0, 0.0), vector(target, 0.0), v)),
        "x of the negative; anchor at (0, 0), positive at ({target}, 0)",
        "y of the negative",
        ((-3.0, 3.0), (-3.0, 3.0)),
        1.0,
    )
    amounts = Plane(
        lambda x, y, target: (jnp.log(vector(x, y)), vector(target, 1.0)),
        "predicted amount of A; true: {target}",
        "predicted amount of B; true: 1",
        ((0.2, 2.6), (0.2, 2.6)),
        1.0,
    )
    return {
        **each("convex_kl_divergence generalized_kl_divergence", amounts),
        **each("cosine_distance cosine_similarity byol_loss simsiam_loss", beside),
        **each("contrastive_loss cosine_embedding_loss", labelled),
        **each("triplet_margin_loss triplet_margin_with_distance_loss", triplet),
    }


def _planes_of_scores() -> dict[str, Plane]:
    """Two scores of three."""

    def numbered(x: Any, y: Any, label: Any) -> Arguments:
        return vector(x, y, 0.0), label

    def one_hot(x: Any, y: Any, label: Any) -> Arguments:
        return vector(x, y, 0.0), jnp.where(jnp.arange(3) == label, 1.0, 0.0)

    logits = Plane(
        numbered, "logit of the right class", "logit of another class; a third's is 0", WIDE, 0
    )
    both = Plane(
        lambda x, y, label: (vector(x, y), vector(label, 0.0)),
        "score of a class with label {target}",
        "score of a class with label 0",
        WIDE,
        1.0,
    )
    documents = Plane(
        lambda x, y, label: (vector(x, y, 0.0), vector(label, 1.0, 0.0)),
        "score of the document with label {target}",
        "score of the one with label 1; that of label 0 is 0",
        WIDE,
        2.0,
    )
    # A linear layer of four classes, whose vectors point in four directions.
    layer = 1.5 * jnp.stack([at(20.0), at(100.0), at(190.0), at(290.0)], 1)
    hidden = Plane(
        lambda x, y, label: (vector(x, y), layer, label),
        "first number of a hidden vector, of class {target}",
        "second number",
        WIDE,
        0,
    )
    return {
        "linear_softmax_cross_entropy": hidden,
        "linear_log_probs": replace(hidden, read=lambda found: found.log_prob),
        "linear_token_statistics": replace(hidden, read=lambda found: found.entropy),
        "linear_distillation_loss": replace(
            hidden,
            of=lambda x, y, target: (vector(x, y), layer, vector(target, 0.0), layer),
            x="student's first number; teacher: ({target}, 0)",
            target=1.0,
        ),
        **each("softmax_cross_entropy_with_integer_labels softmax_focal_loss", logits),
        **each("generalized_cross_entropy symmetric_cross_entropy multi_margin_loss", logits),
        **each("multiclass_hinge_loss multiclass_perceptron_loss", logits),
        "multiclass_sparsemax_loss": logits,
        **each("softmax_cross_entropy safe_softmax_cross_entropy", replace(logits, of=one_hot)),
        "poly_loss_cross_entropy": replace(logits, of=one_hot),
        **each("multilabel_margin_loss multilabel_soft_margin_loss zlpr_loss", both),
        **each("listmle_loss listnet_loss ranking_softmax_loss unique_softmax_loss", documents),
        **each("pairwise_hinge_loss pairwise_logistic_loss pairwise_mse_loss", documents),
        **each("approx_mrr_loss approx_ndcg_loss", replace(documents, given={"temperature": 0.5})),
    }


PLANES: dict[str, Plane] = {**_planes_of_vectors(), **_planes_of_scores()}
