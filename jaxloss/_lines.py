"""Along which line each loss is drawn unless its user says otherwise.

A loss of vectors, batches or maps is drawn along what moves one of them: the score of the right
class, the angle of a vector, the place of a box.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax.numpy as jnp
import numpy as np

from ._density_lines import densities
from ._field_lines import ensemble_lines, ordinal_lines, policy_lines, survival_lines
from ._line import Arguments, Line, at, each, pair, rows, vector

# What a user's loss is drawn along: by the name of its second parameter, if it has one.
ERROR = Line(lambda x, target: (target + x, target), "error: prediction - target", (-3.0, 3.0))
ALONE = Line(lambda x, _: (x,), "x", (-3.0, 3.0))
LOGIT = Line(pair, "score (logit), for label {target}", (-4.0, 4.0), 1.0)


def _regression() -> dict[str, Line]:
    error = ERROR
    robust = replace(error, domain=(-8.0, 8.0))
    return {
        **each("l1_loss l2_loss squared_error huber_loss smooth_l1_loss log_cosh", error),
        **each("pseudo_huber_loss", error),
        **each("cauchy_loss geman_mcclure_loss welsch_loss tukey_biweight_loss", robust),
        **each("epsilon_insensitive_loss squared_epsilon_insensitive_loss", error),
        "general_robust_loss": replace(error, domain=(-5.0, 5.0), given={"alpha": 0.0}),
        "quantile_loss": replace(error, given={"quantile": 0.9}),
        "expectile_loss": replace(error, given={"expectile": 0.9}),
        "absolute_percentage_error": Line(
            pair, "prediction, for the target {target}", (-1.0, 5.0), 2.0
        ),
        "squared_logarithmic_error": Line(
            pair, "prediction, for the target {target}", (-0.9, 6.0), 2.0
        ),
    }


def _likelihood() -> dict[str, Line]:
    error = replace(ERROR, domain=(-4.0, 4.0))
    rate = Line(pair, "log of the predicted mean, for the target {target}", (-1.0, 3.0), 3.0)
    return {
        **each("gaussian_nll_loss beta_nll_loss", replace(error, given={"variance": 1.0})),
        **each("laplace_nll_loss gaussian_crps", replace(error, given={"scale": 1.0})),
        "censored_nll_loss": Line(
            lambda x, width: (x, -0.5 * width, 0.5 * width),
            "location, for an interval of width {target} around 0",
            (-4.0, 4.0),
            1.0,
            {"scale": 1.0},
        ),
        "student_t_nll_loss": replace(error, domain=(-8.0, 8.0), given={"scale": 1.0, "df": 3.0}),
        **each("poisson_nll_loss gamma_nll_loss", rate),
        "tweedie_loss": replace(rate, given={"power": 1.5}),
        "negative_binomial_nll_loss": replace(rate, given={"dispersion": 0.5}),
        **densities(error, rate),
    }


def _binary() -> dict[str, Line]:
    def several(x: Any, label: Any) -> Arguments:
        return vector(x, 0.5, -0.5), vector(label, 1.0, 0.0)

    among = Line(several, "score of one of three classes, for label {target}", (-4.0, 4.0), 1.0)
    return {
        **each("sigmoid_binary_cross_entropy sigmoid_focal_loss asymmetric_loss", LOGIT),
        **each("hinge_loss perceptron_loss soft_margin_loss squared_hinge_loss", LOGIT),
        "sparsemax_loss": LOGIT,
        "binary_cross_entropy": Line(
            pair, "predicted probability, for label {target}", (0.005, 0.995), 1.0
        ),
        **each("multilabel_margin_loss multilabel_soft_margin_loss zlpr_loss", among),
    }


def _multiclass() -> dict[str, Line]:
    def numbered(x: Any, label: Any) -> Arguments:
        return vector(x, 0.5, -0.5), label

    def one_hot(x: Any, label: Any) -> Arguments:
        return vector(x, 0.5, -0.5), jnp.where(jnp.arange(3) == label, 1.0, 0.0)

    logit = Line(numbered, "logit of the right class; the others' are 0.5 and -0.5", (-5.0, 5.0), 0)
    cosine = Line(
        lambda x, label: (vector(x, 0.2, -0.2), label),
        "cosine with the right class",
        (-1.0, 1.0),
        0,
        read=lambda logits: logits[0],
        y="logit of the right class",
    )
    # Of the hidden vector (x, 1) this layer makes the same logits.
    layer = rows([1.0, 0.0, 0.0], [0.0, 0.5, -0.5])
    linear = replace(logit, of=lambda x, label: (vector(x, 1.0), layer, label))
    token = Line(
        lambda x, token: (rows([x, 0.0, 0.0], [1.0, 0.0, 0.0]), jnp.stack([token, 0])),
        "logit of a token",
        (-5.0, 5.0),
        0,
    )
    return {
        **each("softmax_cross_entropy_with_integer_labels softmax_focal_loss", logit),
        **each("generalized_cross_entropy symmetric_cross_entropy multi_margin_loss", logit),
        **each("multiclass_hinge_loss multiclass_perceptron_loss", logit),
        "multiclass_sparsemax_loss": logit,
        **each("softmax_cross_entropy safe_softmax_cross_entropy", replace(logit, of=one_hot)),
        "poly_loss_cross_entropy": replace(logit, of=one_hot),
        "nll_loss": Line(
            lambda x, label: (vector(x, jnp.log(-jnp.expm1(x))), label),
            "log-probability of the right class",
            (-5.0, -0.01),
            0,
        ),
        **each("arcface_logits cosface_logits", cosine),
        "linear_softmax_cross_entropy": linear,
        "linear_log_probs": replace(
            linear, read=lambda found: found.log_prob, y="log-probability of the right class"
        ),
        "linear_token_statistics": replace(
            linear, read=lambda found: found.entropy, y="entropy of the probabilities"
        ),
        "sequence_log_probabilities": replace(token, y="log-probability"),
        "sequence_log_odds": replace(token, y="log-odds"),
        "smooth_labels": Line(
            lambda x, label: (jnp.where(jnp.arange(3) == label, 1.0, 0.0), x),
            "alpha",
            (0.0, 1.0),
            0,
            read=lambda labels: labels[0],
            y="label of the right class, of three",
        ),
    }


def _divergence() -> dict[str, Line]:
    def mass(x: Any) -> Any:
        return vector(x, 1 - x)

    share = Line(
        lambda x, target: (mass(x), mass(target)),
        "predicted probability of an event, whose true one is {target}",
        (0.004, 0.996),
        0.7,
    )

    def logarithms(x: Any, target: Any) -> Arguments:
        return jnp.log(mass(x)), mass(target)

    def both(x: Any, target: Any) -> Arguments:
        return jnp.log(mass(x)), jnp.log(mass(target))

    from_logs = replace(share, of=logarithms)
    # What does not sum to 1 is what it differs in.
    amount = Line(
        lambda x, target: (jnp.log(vector(x, 1.0)), vector(target, 1.0)),
        "predicted amount, for a true one of {target}",
        (0.02, 3.0),
        1.0,
    )
    student = Line(
        lambda x, target: (vector(x, 0.0), vector(target, 0.0)),
        "logit of the student, the teacher's being {target}",
        (-5.0, 7.0),
        1.0,
    )
    # Two classes, of whose logits that of the second is 0.
    layer = rows([1.0, 0.0])
    return {
        **each("jensen_shannon_divergence total_variation_distance hellinger_distance", share),
        "renyi_divergence": replace(share, given={"alpha": 0.5}),
        "kl_divergence": from_logs,
        **each("convex_kl_divergence generalized_kl_divergence", amount),
        "kl_divergence_with_log_targets": replace(share, of=both),
        "distillation_loss": student,
        "linear_distillation_loss": replace(
            student, of=lambda x, target: (vector(x), layer, vector(target), layer)
        ),
    }


def _embedding() -> dict[str, Line]:
    turned = Line(
        lambda x, target: (at(x), at(target)),
        "angle between the vectors, in degrees",
        (-180.0, 180.0),
    )

    def labelled(x: Any, label: Any) -> Arguments:
        return at(x), vector(1.0, 0.0), label

    apart = Line(
        lambda x, label: (vector(x, 0.0), vector(0.0, 0.0), label),
        "distance, for label {target}",
        (-2.5, 2.5),
        -1.0,
    )
    triplet = Line(
        lambda x, target: (vector(0.0, 0.0), vector(target, 0.0), vector(0.0, x)),
        "distance of the negative, the positive's being {target}",
        (0.02, 4.0),
        1.0,
    )
    return {
        **each("cosine_distance byol_loss simsiam_loss", turned),
        "cosine_similarity": replace(turned, y="similarity"),
        "cosine_embedding_loss": replace(turned, of=labelled, target=1.0),
        "contrastive_loss": apart,
        "hinge_embedding_loss": Line(pair, "distance, for label {target}", (0.0, 3.0), -1.0),
        "margin_ranking_loss": Line(
            lambda x, label: (x, 0.0, label),
            "score of the first less that of the second, for label {target}",
            (-3.0, 3.0),
            1.0,
            {"margin": 1.0},
        ),
        **each("triplet_margin_loss triplet_margin_with_distance_loss", triplet),
    }


def _contrastive() -> dict[str, Line]:
    ids = np.array([0, 0, 1, 1])

    def batch(x: Any, target: Any) -> Arguments:
        return jnp.stack([at(x), at(target), at(target + 100.0), at(target + 160.0)]), ids

    def views(x: Any, target: Any) -> Arguments:
        others = [at(target + 120.0), at(target + 240.0)]
        return jnp.stack([at(x), *others]), jnp.stack([at(target), *others])

    def features(x: Any, target: Any) -> Arguments:
        one = np.array([[1.0, 0.5], [-1.0, 1.0], [0.5, -1.5], [-0.5, 0.0]], np.float32)
        turn = jnp.stack([at(x - target), at(x - target + 90.0)])
        return one, one @ turn

    angle = Line(batch, "angle of an embedding to its positive, in degrees", (-180.0, 180.0))
    view = replace(angle, of=views, x="angle of a vector to its partner, in degrees")
    matrix = Line(
        lambda x, target: (rows([x, 1.0]), rows([target, 2.0])),
        "first coordinate of x, that of y being {target}",
        (-3.0, 3.0),
        read=lambda found: found[0, 0],
    )
    return {
        **each("ntxent supervised_contrastive_loss multi_similarity_loss", angle),
        **each("lifted_structure_loss batch_triplet_loss batch_contrastive_loss", angle),
        "circle_loss": replace(angle, given={"gamma": 8.0}),
        **each("clip_loss info_nce_loss siglip_loss n_pairs_loss", view),
        **each(
            "barlow_twins_loss vicreg_loss",
            replace(angle, of=features, x="angle by which one view is turned, in degrees"),
        ),
        "pairwise_distance": replace(matrix, y="distance"),
        "pairwise_similarity": replace(matrix, y="cosine"),
    }


def _ranking() -> dict[str, Line]:
    def documents(x: Any, target: Any) -> Arguments:
        labels = jnp.stack([jnp.asarray(target, float), jnp.asarray(1.0), jnp.asarray(0.0)])
        return vector(x, 0.5, -0.5), labels

    raised = Line(documents, "score of the most relevant of three documents", (-4.0, 4.0), 2.0)
    return {
        **each("listmle_loss listnet_loss ranking_softmax_loss unique_softmax_loss", raised),
        **each("neural_sort_loss poly1_softmax_loss", raised),
        **each("approx_mrr_loss approx_ndcg_loss", replace(raised, given={"temperature": 0.5})),
        **each("pairwise_hinge_loss pairwise_logistic_loss pairwise_mse_loss", raised),
        "lambda_weights": replace(
            raised,
            read=lambda weights: weights[0, 2],
            y="weight of the first and the last",
        ),
    }


def _preference() -> dict[str, Line]:
    def against(x: Any, target: Any) -> Arguments:
        return x, target, 0.0, 0.0

    margin = Line(
        against, "log-ratio of the chosen answer, the rejected one's being {target}", (-40.0, 40.0)
    )
    return {
        "dpo_loss": margin,
        "bradley_terry_loss": Line(
            pair, "reward of the chosen answer, the other's being {target}", (-5.0, 5.0)
        ),
        "simpo_loss": Line(
            lambda x, target: (x, target, 1.0, 1.0),
            "mean log-probability of the chosen answer less the other's",
            (-3.0, 3.0),
        ),
        "orpo_loss": Line(
            pair, "mean log-probability of the chosen answer", (-4.0, -0.02), -1.0, {"beta": 1.0}
        ),
        "bco_loss": Line(
            lambda x, label: (x, 0.0, label), "log-ratio, for label {target}", (-40.0, 40.0), 1.0
        ),
        "kto_loss": Line(
            lambda x, label: (x, 0.0, label), "log-ratio, for label {target}", (-40.0, 40.0), 1.0
        ),
    }


def _boxes() -> dict[str, Line]:
    def slide(x: Any, target: Any) -> Arguments:
        return vector(x - 1.5, -0.5, x + 1.5, 0.5), vector(target - 1, -1.0, target + 1, 1.0)

    moved = Line(slide, "sideways shift of a box 3 wide and 1 high from one of 2 by 2", (-5.0, 5.0))

    def coded(x: Any, target: Any) -> Arguments:
        return vector(x, 0.0, 0.0, 0.0), vector(target - 1, -1.0, target + 1, 1.0)

    return {
        **each("iou_loss giou_loss diou_loss ciou_loss", moved),
        "box_iou": replace(moved, y="IoU"),
        "encode_boxes": replace(
            moved,
            x="sideways shift of a box from its anchor, 2 wide",
            read=lambda codes: codes[0],
            y="first number of the code",
        ),
        "decode_boxes": Line(
            coded,
            "first number of a code, its anchor 2 wide",
            (-2.0, 2.0),
            read=lambda boxes: (boxes[0] + boxes[2]) / 2,
            y="centre of the box",
        ),
    }


def _segmentation() -> dict[str, Line]:
    thing = np.zeros((4, 4), bool)
    thing[1:3, 1:4] = True

    def alone(x: Any, target: Any) -> Arguments:
        found = jnp.where(thing, x, -2.0)[None]
        return found, np.asarray(thing, np.float32)[None] + 0 * target

    def classes(x: Any, target: Any) -> Arguments:
        found = jnp.where(thing, x, -2.0)
        return jnp.stack([jnp.zeros_like(found), found], -1)[None], np.asarray(thing, np.int32)[
            None
        ]

    logit = "logit of the six pixels of an object, -2 elsewhere"
    pixels = Line(classes, logit, (-6.0, 6.0))
    return {
        **each("dice_loss jaccard_loss lovasz_softmax_loss", pixels),
        **each("multiclass_generalized_dice_loss generalized_dice_loss", pixels),
        "matthews_correlation_loss": pixels,
        "tversky_loss": replace(pixels, given={"alpha": 0.3, "beta": 0.7}),
        "focal_tversky_loss": replace(pixels, given={"alpha": 0.3, "beta": 0.7}),
        "binary_dice_loss": replace(pixels, of=alone),
        "lovasz_hinge_loss": replace(pixels, of=alone, domain=(-3.0, 3.0)),
    }


def _sequences() -> dict[str, Line]:
    def spoken(x: Any, target: Any) -> Arguments:
        said = rows([0, x, 0], [0, x, 0], [x, 0, 0], [0, 0, x])
        unpadded = np.zeros(4, np.float32), np.array([1, 2]), np.zeros(2, np.float32)
        return said + 0 * target, *unpadded

    def transduced(x: Any, target: Any) -> Arguments:
        first = jnp.stack([rows([0, x, 0], [x, 0, 0]), rows([0, 0, 0], [x, 0, 0])])
        unpadded = np.zeros(2, np.float32), np.array([1]), np.zeros(1, np.float32)
        return first + 0 * target, *unpadded

    def tagged(x: Any, target: Any) -> Arguments:
        return rows([x, 0], [x, 0]) + 0 * target, np.array([0, 0]), np.eye(2, dtype=np.float32) / 2

    def moved(x: Any, target: Any) -> Arguments:
        first = jnp.stack([vector(target), vector(x)])
        return first, jnp.stack([vector(target), vector(target)])

    def costly(x: Any, target: Any) -> Arguments:
        return (rows([0, x], [1, 0]) + 0 * target,)

    line = Line(spoken, "logits that spell the two labels in four frames", (-5.0, 5.0))
    warped = Line(moved, "second entry of a sequence, beside two of {target}", (-3.0, 3.0))
    return {
        "ctc_loss": line,
        "rnnt_loss": Line(transduced, "logits that say a label in the first frame", (-5.0, 5.0)),
        "crf_nll_loss": Line(tagged, "scores of the labels in two frames", (-5.0, 5.0)),
        **each("soft_dtw soft_dtw_divergence", warped),
        "soft_dtw_from_costs": Line(costly, "cost of the pair beside the diagonal", (-3.0, 3.0)),
        "ctc_loss_with_forward_probs": replace(line, read=lambda found: jnp.mean(found[0])),
    }


LINES: dict[str, Line] = {
    name: line
    for family in (
        _regression,
        _likelihood,
        ensemble_lines,
        _binary,
        _multiclass,
        ordinal_lines,
        survival_lines,
        _divergence,
        _embedding,
        _contrastive,
        _ranking,
        _preference,
        policy_lines,
        _boxes,
        _segmentation,
        _sequences,
    )
    for name, line in family().items()
}
