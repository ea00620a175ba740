"""Loss functions for JAX: pure, compiled, right at the edges.

    loss(predictions, targets, *, <hyperparameters>, where=None, weights=None, reduction="none")

Losses are unreduced unless `reduction` is "sum" or "mean"; `reduce` says what the last three
arguments mean. `Mean.of(loss, ...)` gives the mean in two parts, which add across batches and
devices. `Where`, `Weights` and `Reduction` are the types of these arguments, to annotate a wrapper.
`LogProbs` and `TokenStatistics` are what two functions of linear layers return.
"""

import sys as _sys
import typing as _typing
from importlib import import_module as _import_module
from importlib.metadata import version as _version
from types import FunctionType as _FunctionType

from ._binary.cross_entropy import binary_cross_entropy as binary_cross_entropy
from ._binary.cross_entropy import sigmoid_binary_cross_entropy as sigmoid_binary_cross_entropy
from ._binary.focal import asymmetric_loss as asymmetric_loss
from ._binary.focal import sigmoid_focal_loss as sigmoid_focal_loss
from ._binary.margin import hinge_loss as hinge_loss
from ._binary.margin import perceptron_loss as perceptron_loss
from ._binary.margin import soft_margin_loss as soft_margin_loss
from ._binary.margin import sparsemax_loss as sparsemax_loss
from ._binary.margin import squared_hinge_loss as squared_hinge_loss
from ._binary.multilabel import multi_hot as multi_hot
from ._binary.multilabel import multilabel_margin_loss as multilabel_margin_loss
from ._binary.multilabel import multilabel_soft_margin_loss as multilabel_soft_margin_loss
from ._binary.multilabel import zlpr_loss as zlpr_loss
from ._boxes.coding import decode_boxes as decode_boxes
from ._boxes.coding import encode_boxes as encode_boxes
from ._boxes.losses import box_iou as box_iou
from ._boxes.losses import ciou_loss as ciou_loss
from ._boxes.losses import diou_loss as diou_loss
from ._boxes.losses import giou_loss as giou_loss
from ._boxes.losses import iou_loss as iou_loss
from ._contract.accumulate import accumulate_value_and_grad as accumulate_value_and_grad
from ._contract.accumulate import cached_value_and_grad as cached_value_and_grad
from ._contract.reduce import Mean as Mean
from ._contract.reduce import Reduction as Reduction
from ._contract.reduce import Weights as Weights
from ._contract.reduce import Where as Where
from ._contract.reduce import reduce as reduce
from ._contrastive.labelled import multi_similarity_loss as multi_similarity_loss
from ._contrastive.labelled import ntxent as ntxent
from ._contrastive.labelled import supervised_contrastive_loss as supervised_contrastive_loss
from ._contrastive.margins import batch_contrastive_loss as batch_contrastive_loss
from ._contrastive.margins import circle_loss as circle_loss
from ._contrastive.margins import lifted_structure_loss as lifted_structure_loss
from ._contrastive.mining import batch_triplet_loss as batch_triplet_loss
from ._contrastive.pairwise import pairwise_distance as pairwise_distance
from ._contrastive.pairwise import pairwise_similarity as pairwise_similarity
from ._contrastive.redundancy import barlow_twins_loss as barlow_twins_loss
from ._contrastive.redundancy import vicreg_loss as vicreg_loss
from ._contrastive.views import clip_loss as clip_loss
from ._contrastive.views import info_nce_loss as info_nce_loss
from ._contrastive.views import n_pairs_loss as n_pairs_loss
from ._contrastive.views import siglip_loss as siglip_loss
from ._custom.combine import combine as combine
from ._custom.elementwise import elementwise as elementwise
from ._custom.over_axis import over_axis as over_axis
from ._divergence.distillation import distillation_loss as distillation_loss
from ._divergence.kullback_leibler import convex_kl_divergence as convex_kl_divergence
from ._divergence.kullback_leibler import generalized_kl_divergence as generalized_kl_divergence
from ._divergence.kullback_leibler import kl_divergence as kl_divergence
from ._divergence.kullback_leibler import (
    kl_divergence_with_log_targets as kl_divergence_with_log_targets,
)
from ._divergence.renyi import renyi_divergence as renyi_divergence
from ._divergence.symmetric import hellinger_distance as hellinger_distance
from ._divergence.symmetric import jensen_shannon_divergence as jensen_shannon_divergence
from ._divergence.symmetric import total_variation_distance as total_variation_distance
from ._embedding.cosine import byol_loss as byol_loss
from ._embedding.cosine import cosine_distance as cosine_distance
from ._embedding.cosine import cosine_similarity as cosine_similarity
from ._embedding.cosine import simsiam_loss as simsiam_loss
from ._embedding.pairs import contrastive_loss as contrastive_loss
from ._embedding.pairs import cosine_embedding_loss as cosine_embedding_loss
from ._embedding.pairs import hinge_embedding_loss as hinge_embedding_loss
from ._embedding.pairs import margin_ranking_loss as margin_ranking_loss
from ._embedding.triplet import triplet_margin_loss as triplet_margin_loss
from ._embedding.triplet import (
    triplet_margin_with_distance_loss as triplet_margin_with_distance_loss,
)
from ._ensemble.intervals import interval_score as interval_score
from ._ensemble.intervals import weighted_interval_score as weighted_interval_score
from ._ensemble.samples import crps_ensemble as crps_ensemble
from ._ensemble.samples import energy_score as energy_score
from ._help import contents as _contents
from ._help import missing as _missing
from ._likelihood.amounts import gamma_nll_loss as gamma_nll_loss
from ._likelihood.amounts import tweedie_loss as tweedie_loss
from ._likelihood.angles import von_mises_nll_loss as von_mises_nll_loss
from ._likelihood.censored import censored_nll_loss as censored_nll_loss
from ._likelihood.counts import negative_binomial_nll_loss as negative_binomial_nll_loss
from ._likelihood.counts import poisson_nll_loss as poisson_nll_loss
from ._likelihood.inflated import hurdle_poisson_nll_loss as hurdle_poisson_nll_loss
from ._likelihood.inflated import (
    zero_inflated_lognormal_nll_loss as zero_inflated_lognormal_nll_loss,
)
from ._likelihood.inflated import (
    zero_inflated_negative_binomial_nll_loss as zero_inflated_negative_binomial_nll_loss,
)
from ._likelihood.inflated import zero_inflated_poisson_nll_loss as zero_inflated_poisson_nll_loss
from ._likelihood.latent import gaussian_kl as gaussian_kl
from ._likelihood.mixture import mixture_density_nll_loss as mixture_density_nll_loss
from ._likelihood.multivariate import low_rank_gaussian_nll_loss as low_rank_gaussian_nll_loss
from ._likelihood.multivariate import (
    multivariate_gaussian_nll_loss as multivariate_gaussian_nll_loss,
)
from ._likelihood.real import beta_nll_loss as beta_nll_loss
from ._likelihood.real import gaussian_crps as gaussian_crps
from ._likelihood.real import gaussian_nll_loss as gaussian_nll_loss
from ._likelihood.real import laplace_nll_loss as laplace_nll_loss
from ._likelihood.real import student_t_nll_loss as student_t_nll_loss
from ._multiclass.cross_entropy import nll_loss as nll_loss
from ._multiclass.cross_entropy import poly_loss_cross_entropy as poly_loss_cross_entropy
from ._multiclass.cross_entropy import safe_softmax_cross_entropy as safe_softmax_cross_entropy
from ._multiclass.cross_entropy import smooth_labels as smooth_labels
from ._multiclass.cross_entropy import softmax_cross_entropy as softmax_cross_entropy
from ._multiclass.cross_entropy import (
    softmax_cross_entropy_with_integer_labels as softmax_cross_entropy_with_integer_labels,
)
from ._multiclass.fenchel_young import make_fenchel_young_loss as make_fenchel_young_loss
from ._multiclass.fenchel_young import multiclass_sparsemax_loss as multiclass_sparsemax_loss
from ._multiclass.focal import softmax_focal_loss as softmax_focal_loss
from ._multiclass.linear import linear_distillation_loss as linear_distillation_loss
from ._multiclass.linear import linear_softmax_cross_entropy as linear_softmax_cross_entropy
from ._multiclass.linear_tokens import LogProbs as LogProbs
from ._multiclass.linear_tokens import TokenStatistics as TokenStatistics
from ._multiclass.linear_tokens import linear_log_probs as linear_log_probs
from ._multiclass.linear_tokens import linear_token_statistics as linear_token_statistics
from ._multiclass.margin import multi_margin_loss as multi_margin_loss
from ._multiclass.margin import multiclass_hinge_loss as multiclass_hinge_loss
from ._multiclass.margin import multiclass_perceptron_loss as multiclass_perceptron_loss
from ._multiclass.margin_logits import arcface_logits as arcface_logits
from ._multiclass.margin_logits import cosface_logits as cosface_logits
from ._multiclass.noisy_labels import generalized_cross_entropy as generalized_cross_entropy
from ._multiclass.noisy_labels import symmetric_cross_entropy as symmetric_cross_entropy
from ._multiclass.tokens import sequence_log_odds as sequence_log_odds
from ._multiclass.tokens import sequence_log_probabilities as sequence_log_probabilities
from ._ordinal.distances import squared_emd_loss as squared_emd_loss
from ._ordinal.levels import ordinal_levels as ordinal_levels
from ._ordinal.thresholds import coral_loss as coral_loss
from ._ordinal.thresholds import corn_loss as corn_loss
from ._ordinal.thresholds import cumulative_link_nll as cumulative_link_nll
from ._policy.advantages import group_advantages as group_advantages
from ._policy.ratios import kl_estimate as kl_estimate
from ._policy.ratios import ppo_loss as ppo_loss
from ._policy.targets import categorical_projection as categorical_projection
from ._policy.targets import hl_gauss as hl_gauss
from ._policy.targets import two_hot as two_hot
from ._policy.tokens import reduce_tokens as reduce_tokens
from ._policy.values import entropy_loss as entropy_loss
from ._policy.values import quantile_huber_loss as quantile_huber_loss
from ._policy.values import value_loss as value_loss
from ._preference.dpo import dpo_loss as dpo_loss
from ._preference.losses import bco_loss as bco_loss
from ._preference.losses import bradley_terry_loss as bradley_terry_loss
from ._preference.losses import kto_loss as kto_loss
from ._preference.losses import orpo_loss as orpo_loss
from ._preference.losses import simpo_loss as simpo_loss
from ._ranking.listwise import listmle_loss as listmle_loss
from ._ranking.listwise import unique_softmax_loss as unique_softmax_loss
from ._ranking.ndcg import approx_mrr_loss as approx_mrr_loss
from ._ranking.ndcg import approx_ndcg_loss as approx_ndcg_loss
from ._ranking.ndcg import lambda_weights as lambda_weights
from ._ranking.pairwise import pairwise_hinge_loss as pairwise_hinge_loss
from ._ranking.pairwise import pairwise_logistic_loss as pairwise_logistic_loss
from ._ranking.pairwise import pairwise_mse_loss as pairwise_mse_loss
from ._ranking.permutations import gumbel_scores as gumbel_scores
from ._ranking.permutations import neural_sort_loss as neural_sort_loss
from ._ranking.softmax import listnet_loss as listnet_loss
from ._ranking.softmax import poly1_softmax_loss as poly1_softmax_loss
from ._ranking.softmax import ranking_softmax_loss as ranking_softmax_loss
from ._regression.asymmetric import epsilon_insensitive_loss as epsilon_insensitive_loss
from ._regression.asymmetric import expectile_loss as expectile_loss
from ._regression.asymmetric import quantile_loss as quantile_loss
from ._regression.asymmetric import (
    squared_epsilon_insensitive_loss as squared_epsilon_insensitive_loss,
)
from ._regression.general import general_robust_loss as general_robust_loss
from ._regression.relative import absolute_percentage_error as absolute_percentage_error
from ._regression.relative import squared_logarithmic_error as squared_logarithmic_error
from ._regression.robust import cauchy_loss as cauchy_loss
from ._regression.robust import geman_mcclure_loss as geman_mcclure_loss
from ._regression.robust import pseudo_huber_loss as pseudo_huber_loss
from ._regression.robust import tukey_biweight_loss as tukey_biweight_loss
from ._regression.robust import welsch_loss as welsch_loss
from ._regression.simple import huber_loss as huber_loss
from ._regression.simple import l1_loss as l1_loss
from ._regression.simple import l2_loss as l2_loss
from ._regression.simple import log_cosh as log_cosh
from ._regression.simple import smooth_l1_loss as smooth_l1_loss
from ._regression.simple import squared_error as squared_error
from ._segmentation.correlation import matthews_correlation_loss as matthews_correlation_loss
from ._segmentation.generalized import generalized_dice_loss as generalized_dice_loss
from ._segmentation.generalized import (
    multiclass_generalized_dice_loss as multiclass_generalized_dice_loss,
)
from ._segmentation.lovasz import lovasz_hinge_loss as lovasz_hinge_loss
from ._segmentation.lovasz import lovasz_softmax_loss as lovasz_softmax_loss
from ._segmentation.overlap import binary_dice_loss as binary_dice_loss
from ._segmentation.overlap import dice_loss as dice_loss
from ._segmentation.overlap import focal_tversky_loss as focal_tversky_loss
from ._segmentation.overlap import jaccard_loss as jaccard_loss
from ._segmentation.overlap import tversky_loss as tversky_loss
from ._sequences.crf import crf_nll_loss as crf_nll_loss
from ._sequences.ctc import ctc_loss as ctc_loss
from ._sequences.ctc import ctc_loss_with_forward_probs as ctc_loss_with_forward_probs
from ._sequences.rnnt import rnnt_loss as rnnt_loss
from ._sequences.soft_dtw import soft_dtw as soft_dtw
from ._sequences.soft_dtw import soft_dtw_divergence as soft_dtw_divergence
from ._sequences.soft_dtw import soft_dtw_from_costs as soft_dtw_from_costs
from ._survival.accelerated import aft_nll_loss as aft_nll_loss
from ._survival.cox import cox_partial_likelihood as cox_partial_likelihood
from ._survival.intervals import logistic_hazard_loss as logistic_hazard_loss
from ._survival.intervals import pmf_loss as pmf_loss
from ._survival.pairs import deephit_ranking_loss as deephit_ranking_loss

__version__ = _version("jaxloss")

# Public modules, imported when they are first asked for: they are no part of a training step.
_SUBMODULES = ("plotting", "prox", "testing")
if _typing.TYPE_CHECKING:
    from . import plotting as plotting
    from . import prox as prox
    from . import testing as testing

# Type checkers read the imports above. What follows they could not read, and by `__getattr__` they
# would take every name for one of ours.
if not _typing.TYPE_CHECKING:
    __all__ = sorted(name for name in globals() if not name.startswith("_"))

    if __doc__:  # not under python -OO
        __doc__ += "\n" + _contents({name: globals()[name] for name in __all__}) + "\n"

    # Pickles, tracebacks and `help` name the public path, not the file.
    for _name in __all__:
        if isinstance(globals()[_name], _FunctionType | type):
            globals()[_name].__module__ = __name__

    def __dir__() -> list[str]:
        dunder = (name for name in globals() if name.startswith("__"))
        return [*__all__, *_SUBMODULES, *dunder]

    def __getattr__(name: str) -> _typing.Any:
        if name in _SUBMODULES:
            return _import_module(f"{__name__}.{name}")
        importing = _sys._getframe(1).f_code.co_name == "_handle_fromlist"
        raise _missing(name, __all__, importing)
