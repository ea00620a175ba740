"""Pairs and triplets of vectors, each a list of numbers; a label y > 0 marks a positive pair.

Of logits with a margin that of one class, the anchor.
"""

from mpmath import mp

from tests.laws.arithmetic import hinge
from tests.laws.slopes import slopes


def cosine_similarity(predictions, targets, *, epsilon=mp.zero):
    # As optax has it, epsilon bounds the squares of the norms.
    squares = [max(mp.fsum(x**2 for x in vector), epsilon) for vector in (predictions, targets)]
    norms = mp.sqrt(squares[0] * squares[1])
    if norms == 0:
        return [mp.zero]
    return [a * b / norms for a, b in zip(predictions, targets, strict=True)]


def cosine_distance(predictions, targets, *, epsilon=mp.zero):
    return [1 - mp.fsum(cosine_similarity(predictions, targets, epsilon=epsilon))]


@slopes(constant=(2,))
def margin_ranking_loss(x1, x2, y, *, margin=mp.zero):
    if mp.isnan(y):
        return [mp.nan]
    return hinge(margin, x2 - x1 if y > 0 else x1 - x2)


@slopes(constant=(1,))
def hinge_embedding_loss(distances, labels, *, margin=mp.one):
    if mp.isnan(labels):
        return [mp.nan]
    return [distances] if labels > 0 else hinge(margin, -distances)


@slopes(constant=(2,))
def cosine_embedding_loss(x1, x2, y, *, margin=mp.zero):
    if mp.isnan(y):
        return [mp.nan]
    cosine = _cosine_terms(x1, x2)
    return [1 - mp.fsum(cosine)] if y > 0 else _positive_part([*cosine, -margin])


@slopes(constant=(2,))
def contrastive_loss(x1, x2, y, *, margin=mp.one):
    if mp.isnan(y):
        return [mp.nan]
    d = _distance(x1, x2, 2, 0)
    return [d**2 / 2] if y > 0 else [term / 2 for term in hinge(margin, -d, power=2)]


def triplet_margin_loss(
    anchors,
    positives,
    negatives,
    *,
    norm_degree=2,
    margin=mp.one,
    eps=1e-6,
    swap=False,
):
    if not (norm_degree >= 1 and eps >= 0):
        return [mp.nan]
    near = _distance(anchors, positives, norm_degree, eps)
    far = _distance(anchors, negatives, norm_degree, eps)
    if swap:
        far = min(far, _distance(positives, negatives, norm_degree, eps))
    return _positive_part([near, -far, margin])


def triplet_margin_with_distance_loss(anchors, positives, negatives, *, margin=mp.one, swap=False):
    return triplet_margin_loss(anchors, positives, negatives, margin=margin, eps=0, swap=swap)


@slopes(constant=(1,))
def byol_loss(predictions, targets):
    """The targets are held constant for derivatives."""
    return [2 * term for term in cosine_distance(predictions, targets)]


@slopes(constant=(1,))
def simsiam_loss(predictions, targets):
    """The targets are held constant for derivatives."""
    return cosine_distance(predictions, targets)


@slopes(constant=(1,))
def arcface_logits(cosines, labels, *, anchor, margin=0.5, scale=64.0):
    cosine = cosines[anchor]
    if not 0 <= labels < len(cosines) or (anchor == labels and not -1 <= cosine <= 1):
        return [mp.nan]
    if anchor != labels:
        return [scale * cosine]
    if mp.acos(cosine) + margin > mp.pi:
        return [scale * cosine, -scale * mp.sin(margin) * margin]
    sine = mp.sqrt((1 - cosine) * (1 + cosine))
    return [scale * cosine * mp.cos(margin), -scale * sine * mp.sin(margin)]


@slopes(constant=(1,))
def cosface_logits(cosines, labels, *, anchor, margin=0.35, scale=64.0):
    if not 0 <= labels < len(cosines):
        return [mp.nan]
    return [scale * cosines[anchor], -mp.mpf(scale) * margin if anchor == labels else mp.zero]


def _positive_part(terms):
    """The terms of max(0, their sum); NaN is kept."""
    return [mp.zero] * len(terms) if mp.fsum(terms) <= 0 else terms


def _distance(u, v, degree, eps):
    if degree == mp.inf:
        return max(abs(a - b) for a, b in zip(u, v, strict=True))
    powers = [abs(a - b) ** degree for a, b in zip(u, v, strict=True)]
    return (mp.fsum(powers) + eps) ** (1 / mp.mpf(degree))


def _cosine_terms(u, v):
    norms = mp.norm(u) * mp.norm(v)
    return [a * b / norms if norms else mp.zero for a, b in zip(u, v, strict=True)]
