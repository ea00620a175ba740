"""Ranking: scores and labels are lists over the documents of one list.

A NaN anywhere in a list makes its loss NaN. Without a pair, or without gains, the loss is 0.
"""

from mpmath import mp

from tests.laws.arithmetic import hinge, product, sigmoid, softmax, softplus
from tests.laws.slopes import slopes


def ranking_softmax_loss(logits, labels, document_weights=None):
    if _any_nan(logits):
        return [mp.nan] * len(logits)
    labels = _weighed(labels, document_weights)
    return [product(y, u) for y, u in zip(labels, _surprisals(logits), strict=True)]


def poly1_softmax_loss(scores, labels, document_weights=None, *, epsilon=mp.one):
    if _any_nan([*scores, *labels]):
        return [mp.nan] * len(scores)
    labels = _weighed(labels, document_weights)
    whole = mp.fsum(labels) or mp.one
    _, _, doubts = softmax(scores)
    missed = [epsilon * y * doubt / whole for y, doubt in zip(labels, doubts, strict=True)]
    return [product(y, u) for y, u in zip(labels, _surprisals(scores), strict=True)] + missed


@slopes(constant=(1,))
def pairwise_logistic_loss(scores, labels, pair_weights=None):
    pairs = _ordered_pairs(labels)
    terms = [[softplus(scores[j] - scores[i])] for i, j in pairs]
    return _mean(terms, pairs, pair_weights, [*scores, *labels])


@slopes(constant=(1,))
def pairwise_hinge_loss(scores, labels, pair_weights=None, *, margin=mp.one):
    pairs = _ordered_pairs(labels)
    terms = [hinge(margin, scores[j] - scores[i]) for i, j in pairs]
    return _mean(terms, pairs, pair_weights, [*scores, *labels])


def pairwise_mse_loss(scores, labels, pair_weights=None):
    """The squares e^2, where e = gap of labels - gap of scores, as e times either gap."""
    pairs = [(i, j) for i in range(len(labels)) for j in range(len(labels)) if i != j]
    gaps = [(labels[i] - labels[j], scores[i] - scores[j]) for i, j in pairs]
    terms = [[(wanted - got) * wanted, (got - wanted) * got] for wanted, got in gaps]
    return _mean(terms, pairs, pair_weights, [*scores, *labels])


@slopes(constant=(1,))
def listmle_loss(scores, labels, document_weights=None):
    if _any_nan([*scores, *labels]):
        return [mp.nan] * len(scores)
    order = _descending(labels)
    ranking = [scores[i] for i in order]
    costs = [_surprisals(ranking[i:])[0] for i in range(len(ranking))]
    return _weighed(costs, document_weights and [document_weights[i] for i in order])


def listnet_loss(scores, labels, document_weights=None):
    _, probabilities, _ = softmax(labels) if labels else ([], [], [])
    probabilities = _weighed(probabilities, document_weights)
    return [product(p, u) for p, u in zip(probabilities, _surprisals(scores), strict=True)]


@slopes(constant=(1,))
def neural_sort_loss(scores, labels, *, temperature=mp.one):
    """Of each place the logarithm of a sum, less the two parts of the target's exponent."""
    size = len(scores)
    if _any_nan([*scores, *labels]) or not temperature > 0:
        return [mp.nan]
    if len(set(labels)) < 2:
        return [mp.zero]
    spreads = [mp.fsum(abs(s - t) for t in scores) for s in scores]
    terms = []
    for place in range(1, size + 1):
        factor = size + 1 - 2 * place
        # Less what all have in common, a multiple of the greatest.
        parts = [(factor * (s - max(scores)), -b) for s, b in zip(scores, spreads, strict=True)]
        losses, _, _ = softmax([mp.fsum(x) / temperature for x in parts])
        for (one, two), y, loss in zip(parts, labels, losses, strict=True):
            above, ties = sum(z > y for z in labels), labels.count(y)
            if above < place <= above + ties:
                share = mp.one / (ties * size)
                known = [share * one / temperature, share * two / temperature]
                terms += [*known, share * loss - mp.fsum(known)]
    return terms


def unique_softmax_loss(scores, labels, document_weights=None):
    if _any_nan([*scores, *labels]):
        return [mp.nan] * len(scores)
    gains = _weighed(map(_gain, labels), document_weights)
    documents = list(zip(scores, labels, gains, strict=True))
    return [
        product(gain, _surprisals([s, *(other for other, z, _ in documents if z < y)])[0])
        for s, y, gain in documents
    ]


def approx_ndcg_loss(scores, labels, *, temperature=0.1):
    ranks = _soft_ranks(scores, temperature)
    gains = [_gain(y) * _discount(r) for y, r in zip(labels, ranks, strict=True)]
    return _shortfall(gains, _ideal_dcg(labels))


def approx_mrr_loss(scores, labels, *, temperature=0.1):
    ranks = _soft_ranks(scores, temperature)
    return _shortfall([y / r for y, r in zip(labels, ranks, strict=True)], mp.fsum(labels))


@slopes(constant=(0, 1))
def lambda_weights(scores, labels, *, anchor=None, kind="ndcg", mu=10):
    """No loss: the weights of all pairs, a list of lists, or that of documents 0 and `anchor`.

    "ndcg" is the change of the NDCG when documents i and j swap places; "ndcg2" has the discounts
    of how many places they are apart instead, and "ndcg2++" the sum of the first and mu times the
    second.
    """
    size = len(scores)
    if kind not in ("ndcg", "ndcg2", "ndcg2++"):
        raise ValueError(f"no weights of the kind {kind}")
    if _any_nan([*scores, *labels]):
        return [[mp.nan] * size for _ in range(size)]
    ideal = _ideal_dcg(labels) or mp.one
    ranks = dict(zip(_descending(scores), range(1, size + 1), strict=True))

    def discount(i, j):
        places = abs(ranks[i] - ranks[j])
        swapped = abs(_discount(ranks[i]) - _discount(ranks[j]))
        apart = _discount(places) - _discount(places + 1) if places else mp.zero
        return {"ndcg": swapped, "ndcg2": apart, "ndcg2++": swapped + mu * apart}[kind]

    if anchor is not None:
        signs = (1, -1) if labels[0] > labels[anchor] else (-1, 1)
        gains = _gain(labels[0]), _gain(labels[anchor])
        return [s * g * discount(0, anchor) / ideal for s, g in zip(signs, gains, strict=True)]
    return [
        [abs(_gain(labels[i]) - _gain(labels[j])) * discount(i, j) / ideal for j in range(size)]
        for i in range(size)
    ]


def _weighed(numbers, weights):
    """The numbers, each times the weight of its document."""
    if weights is None:
        return list(numbers)
    return [product(w, x) for w, x in zip(weights, numbers, strict=True)]


def _surprisals(scores):
    """-log softmax, 0 for a single document whatever its score."""
    if len(scores) < 2 and not _any_nan(scores):
        return [mp.zero] * len(scores)
    return softmax(scores)[0]


def _ordered_pairs(labels):
    return [(i, j) for i, y in enumerate(labels) for j, z in enumerate(labels) if y > z]


def _mean(terms, pairs, pair_weights, numbers):
    """The terms of the pairs, weighed and divided by the number of pairs."""
    if _any_nan(numbers):
        return [mp.nan]
    return [
        (term if pair_weights is None else product(pair_weights[i][j], term)) / len(pairs)
        for (i, j), pair_terms in zip(pairs, terms, strict=True)
        for term in pair_terms
    ]


def _shortfall(parts, whole):
    """1 - the sum of the parts / the whole, 0 where the whole is 0."""
    if _any_nan(parts):
        return [mp.nan] * (1 + len(parts))
    if whole == 0:
        return [mp.zero] * (1 + len(parts))
    return [mp.one, *(-part / whole for part in parts)]


def _descending(numbers):
    """Indices from the largest number to the smallest, ties in the order of index."""
    return sorted(range(len(numbers)), key=lambda i: -numbers[i])


def _gain(label):
    return mp.mpf(2) ** label - 1


def _discount(rank):
    return mp.log(2) / mp.log(1 + rank)


def _ideal_dcg(labels):
    ranking = [labels[i] for i in _descending(labels)]
    return mp.fsum(_gain(y) * _discount(r) for r, y in enumerate(ranking, 1))


def _soft_ranks(scores, temperature):
    """1 + the number of better documents, each counted by a sigmoid."""
    if not temperature > 0:
        return [mp.nan] * len(scores)
    return [
        1 + mp.fsum(sigmoid((b - a) / mp.mpf(temperature)) for j, b in enumerate(scores) if j != i)
        for i, a in enumerate(scores)
    ]


def _any_nan(numbers):
    return any(mp.isnan(x) for x in numbers)
