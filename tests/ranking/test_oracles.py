"""The oracles of rankings against hand arithmetic, brute force, rax, PyTorch and scikit-learn."""

from __future__ import annotations

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mpmath import mp

from tests.laws import oracle as oracles
from tests.laws.peers import as_jax_ships
from tests.laws.precise import mpf, same, total
from tests.ranking import oracles as ranking

rax = pytest.importorskip("rax")
torch = pytest.importorskip("torch")
ndcg_score = pytest.importorskip("sklearn.metrics").ndcg_score

SCORES = [1.5, -0.25, 0.75, 2.0, -1.0]
LABELS = [1.0, 2.0, 0.0, 3.0, 0.5]
TIED = [1.0, 2.0, 0.0, 1.0, 2.0]


def gradient(function, x):
    with as_jax_ships(), jax.enable_x64(True):
        return np.asarray(jax.jit(jax.grad(function))(jnp.asarray(x, jnp.float64)))


def rax_value(function, scores, labels, **options):
    with as_jax_ships(), jax.enable_x64(True):
        compiled = jax.jit(functools.partial(function, **options))
        return np.asarray(compiled(jnp.asarray(scores), jnp.asarray(labels)))


PEERS = {
    ranking.ranking_softmax_loss: (rax.softmax_loss, 1),
    ranking.pairwise_logistic_loss: (rax.pairwise_logistic_loss, 1),
    ranking.pairwise_hinge_loss: (rax.pairwise_hinge_loss, 1),
    # rax counts the pairs (i, i).
    ranking.pairwise_mse_loss: (rax.pairwise_mse_loss, len(SCORES) / (len(SCORES) - 1)),
    ranking.listmle_loss: (rax.listmle_loss, 1),
    ranking.unique_softmax_loss: (rax.unique_softmax_loss, 1),
}


@pytest.mark.parametrize("labels", [LABELS, TIED])
@pytest.mark.parametrize(("loss", "peer"), PEERS.items())
def test_ranking_peers(loss, peer, labels):
    if loss is ranking.listmle_loss and labels is TIED:
        pytest.skip("rax leaves the order of ties to its sort")
    function, factor = peer
    ours = total(loss(mpf(SCORES), mpf(labels)))
    same(ours, factor * rax_value(function, SCORES, labels))


@pytest.mark.parametrize("labels", [LABELS, TIED])
@pytest.mark.parametrize(
    ("loss", "peer"),
    [
        (ranking.pairwise_logistic_loss, rax.pairwise_logistic_loss),
        (ranking.pairwise_hinge_loss, rax.pairwise_hinge_loss),
    ],
)
def test_lambda_weights(loss, peer, labels):
    def normalized(scores, labels, **options):
        return rax.dcg_lambdaweight(scores, labels, normalize=True, **options)

    for scores in (SCORES, [0.5, 1.0, 0.5, 0.5, 1.0]):
        weights = ranking.lambda_weights(mpf(scores), mpf(labels))
        ours = [[float(w) for w in row] for row in weights]
        same(np.array(ours) * len(scores), rax_value(normalized, scores, labels).reshape(5, 5))
        weighed = total(loss(mpf(scores), mpf(labels), pair_weights=weights))
        theirs = rax_value(peer, scores, labels, lambdaweight_fn=normalized)
        same(weighed * len(scores), theirs)


def test_lambda_weights_are_changes_of_ndcg():
    def ndcg(order):
        gains = [2 ** LABELS[i] - 1 for i in order]
        ideal = sorted((2**y - 1 for y in LABELS), reverse=True)
        discounts = 1 / np.log2(np.arange(2, len(gains) + 2))
        return gains @ discounts / (ideal @ discounts)

    order = list(np.argsort([-s for s in SCORES], kind="stable"))
    weights = ranking.lambda_weights(mpf(SCORES), mpf(LABELS))
    for a, b in itertools.combinations(range(len(order)), 2):
        swapped = list(order)
        swapped[a], swapped[b] = order[b], order[a]
        change = abs(ndcg(swapped) - ndcg(order))
        same(float(weights[order[a]][order[b]]), change)
        same(float(weights[order[b]][order[a]]), change)


def test_pairwise_by_hand():
    scores, labels, weights = mpf([1, 3, 0]), mpf([2, 1, 1]), [[0, 5, 7], [11, 0, 13], [17, 19, 0]]
    assert total(ranking.pairwise_hinge_loss(scores, labels)) == (3 + 0) / 2
    assert total(ranking.pairwise_hinge_loss(scores, labels, margin=4)) == (6 + 3) / 2
    hinge = ranking.pairwise_hinge_loss(scores, labels, margin=4, pair_weights=weights)
    assert total(hinge) == (6 * 5 + 3 * 7) / 2
    # Errors: labels' gaps 1, 1, 0; scores' gaps -2, 1, 3.
    assert total(ranking.pairwise_mse_loss(scores, labels)) == 2 * (9 + 0 + 9) / 6
    mse = ranking.pairwise_mse_loss(scores, labels, pair_weights=weights)
    assert total(mse) == (9 * (5 + 11) + 9 * (13 + 19)) / 6
    logistic = ranking.pairwise_logistic_loss(scores, labels, pair_weights=weights)
    same(total(logistic), (5 * np.log1p(np.exp(2)) + 7 * np.log1p(np.exp(-1))) / 2)


def test_listmle_is_plackett_luce():
    """The probabilities of all orders sum to 1; ties keep the order of index."""
    probabilities = [
        np.exp(-total(ranking.listmle_loss(mpf(SCORES), mpf(order))))
        for order in itertools.permutations(range(5))
    ]
    same(sum(probabilities), 1)
    tied = ranking.listmle_loss(mpf(SCORES), mpf([1, 2, 1, 1, 2]))
    assert total(tied) == total(ranking.listmle_loss(mpf(SCORES), mpf([2, 5, 1, 0, 4])))
    assert total(tied) != total(ranking.listmle_loss(mpf(SCORES), mpf([2, 4, 1, 0, 5])))
    reverse = ranking.listmle_loss(mpf([0, 0, 0]), mpf([1, 2, 3]))
    same(total(reverse), np.log(6))


def test_listnet():
    p, q = (torch.tensor(x, dtype=torch.float64) for x in (LABELS, SCORES))
    expected = -(p.softmax(-1) * q.log_softmax(-1)).sum().item()
    same(total(ranking.listnet_loss(mpf(SCORES), mpf(LABELS))), expected)


def test_unique_softmax_by_hand():
    terms = ranking.unique_softmax_loss(mpf([1, 2, 3]), mpf([2, 2, 1]))
    expected = [3 * np.log1p(np.exp(3 - 1)), 3 * np.log1p(np.exp(3 - 2)), 0]
    same([float(term) for term in terms], expected)


@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_approximations_against_rax(temperature):
    def soft_ranks(scores, **_):
        return rax.utils.approx_ranks(scores, step_fn=lambda x: jax.nn.sigmoid(x / temperature))

    ndcg = ranking.approx_ndcg_loss(mpf(SCORES), mpf(LABELS), temperature=temperature)
    same(total(ndcg), 1 - rax_value(rax.ndcg_metric, SCORES, LABELS, rank_fn=soft_ranks))
    one = [0.0, 0.0, 1.0, 0.0, 0.0]
    mrr = ranking.approx_mrr_loss(mpf(SCORES), mpf(one), temperature=temperature)
    same(total(mrr), 1 - rax_value(rax.mrr_metric, SCORES, one, rank_fn=soft_ranks))


def test_ndcg_limit_is_sklearn_and_mrr_limit_is_the_mean_reciprocal_rank():
    ndcg = ranking.approx_ndcg_loss(mpf(SCORES), mpf(LABELS), temperature=1e-3)
    gains = [[2**y - 1 for y in LABELS]]
    same(total(ndcg), 1 - ndcg_score(gains, [SCORES], ignore_ties=True))
    assert total(ranking.approx_ndcg_loss(mpf(LABELS), mpf(LABELS), temperature=1e-3)) < 1e-12
    # TF-Ranking's test: ranks 1 and 3 of three.
    mrr = ranking.approx_mrr_loss(mpf([0, 1.8, 10.2]), mpf([1, 0, 1]), temperature=1e-3)
    same(total(mrr), 1 - (1 / 3 + 1) / 2)
    graded = ranking.approx_mrr_loss(mpf([0, 1.8, 10.2]), mpf([3, 0, 1]), temperature=1e-3)
    same(total(graded), 1 - (3 / 3 + 1) / 4)
    # Ties share a rank.
    tied = ranking.approx_mrr_loss(mpf([1, 1, 0]), mpf([1, 0, 0]))
    same(total(tied), 1 - 1 / (1.5 + total([ranking.sigmoid(mp.mpf(-10))])))


LISTWISE = [
    ranking.pairwise_logistic_loss,
    ranking.pairwise_hinge_loss,
    ranking.pairwise_mse_loss,
    ranking.listmle_loss,
    ranking.listnet_loss,
    ranking.ranking_softmax_loss,
    ranking.unique_softmax_loss,
    ranking.approx_ndcg_loss,
    ranking.approx_mrr_loss,
]


@pytest.mark.parametrize("loss", LISTWISE)
def test_ranking_at_the_edges(loss):
    assert total(loss([], [])) == 0
    assert mp.isnan(mp.fsum(loss(mpf([1, 2, "nan"]), mpf([0, 0, 0]))))
    assert mp.isnan(mp.fsum(loss(mpf([1, 2, 3]), mpf([0, 1, "nan"]))))
    if loss in LISTWISE[:4]:
        assert total(loss(mpf([2]), mpf([3]))) == 0
    zeros = total(loss(mpf([1, 2, 3]), mpf([0, 0, 0])))
    # Equal labels still order listmle, listnet and the squares.
    assert (zeros != 0) == (loss in LISTWISE[2:5])
    # The most relevant document certain to be the first, the least relevant to be the last.
    certain = loss(mpf(["inf", 2, "-inf"]), mpf([2, 1, 0]))
    finite = (*LISTWISE[:2], *LISTWISE[6:8])
    if loss in (*finite, ranking.listmle_loss):
        same(total(certain), 0)
    for temperature in (0, -1, "nan") if loss in LISTWISE[-2:] else ():
        for labels in ([1, 0], [0, 0]):
            terms = loss(mpf([1, 2]), mpf(labels), temperature=mp.mpf(temperature))
            assert mp.isnan(mp.fsum(terms))


def test_no_lambda_weights_without_gains():
    assert ranking.lambda_weights(mpf([1, 2]), mpf([0, 0])) == [[0, 0], [0, 0]]
    with pytest.raises(ValueError, match="kind"):
        ranking.lambda_weights(mpf([1, 2]), mpf([0, 0]), kind="unknown")


def softly(scores, labels, temperature):
    """1 - soft NDCG in JAX."""
    ranks = 0.5 + jax.nn.sigmoid((scores[None] - scores[:, None]) / temperature).sum(1)
    ideal = ((2 ** jnp.sort(labels)[::-1] - 1) / jnp.log2(jnp.arange(2, 2 + len(labels)))).sum()
    return 1 - ((2**labels - 1) / jnp.log2(1 + ranks)).sum() / ideal


def test_derivatives():
    """The difference quotients of `oracles.derivative` work on these formulas."""
    labels = np.array(LABELS)

    def soft(scores, labels):
        return softly(scores, labels, 0.5)

    def scaled(scores):
        return 1.25 * rax.pairwise_mse_loss(scores, labels)

    rows = [
        ("approx_ndcg_loss", 0, {"temperature": 0.5}, lambda x: soft(x, labels)),
        ("approx_ndcg_loss", 1, {"temperature": 0.5}, lambda y: soft(np.array(SCORES), y)),
        ("pairwise_logistic_loss", 0, {}, lambda x: rax.pairwise_logistic_loss(x, labels)),
        ("pairwise_mse_loss", 0, {}, scaled),
        ("listmle_loss", 0, {}, lambda x: rax.listmle_loss(x, labels)),
    ]
    for name, index, options, peer in rows:
        args = [np.array(SCORES), labels]
        ours = [
            float(oracles.derivative(name, args, options, (index, (i,)))[0])
            for i in range(len(labels))
        ]
        same(ours, gradient(peer, (SCORES, LABELS)[index]))
