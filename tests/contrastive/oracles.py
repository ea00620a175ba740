"""Losses of a whole batch of embeddings: `anchor` picks the example.

An anchor that has no loss and does not count in the mean has no terms.
"""

from mpmath import mp

from tests.embedding.oracles import cosine_similarity
from tests.laws.arithmetic import product, softplus
from tests.laws.slopes import slopes


def batch_triplet_loss(
    embeddings,
    labels,
    references=None,
    reference_labels=None,
    *,
    anchor,
    mining="semi_hard",
    margin=mp.one,
    distance="euclidean",
    average="anchors",
):
    met, positives, negatives = _met(embeddings, labels, references, reference_labels, anchor)
    if not positives or not negatives:
        return []
    d = [_distance(embeddings[anchor], v, distance) for v in met]
    if any(mp.isnan(x) for x in d):
        return [mp.nan]
    near, far = [d[p] for p in positives], [d[n] for n in negatives]
    if mining == "hard":
        triplets = [(max(near), min(far))]
    elif mining == "all":
        triplets = [(p, n) for p in near for n in far]
    elif mining == "semi_hard":
        farther = [(p, [n for n in far if n > p]) for p in near]
        triplets = [(p, min(rest) if rest else max(far)) for p, rest in farther]
    else:
        raise ValueError(f"no mining of the name {mining}")
    terms = _soft_hinges(triplets) if margin is None else _hinges(triplets, margin)
    return [term / len(triplets) for term in terms] if average == "anchors" else terms


def batch_contrastive_loss(
    embeddings,
    labels,
    references=None,
    reference_labels=None,
    *,
    anchor,
    pos_margin=mp.zero,
    neg_margin=mp.one,
    distance="euclidean",
    pairs="both",
    average="anchors",
):
    met, positives, negatives = _met(embeddings, labels, references, reference_labels, anchor)
    d = [_distance(embeddings[anchor], v, distance) for v in met]
    terms = []
    for kind, sign, partners, margin in (
        ("positive", 1, positives, pos_margin),
        ("negative", -1, negatives, neg_margin),
    ):
        if partners and pairs in ("both", kind):
            share = mp.one / len(partners) if average == "anchors" else mp.one
            active = [d[i] for i in partners if not sign * (d[i] - margin) <= 0]
            sums = [mp.fsum(active), -product(len(active), margin)]
            terms += [sign * share * x for x in sums]
    return terms


def ntxent(embeddings, labels, references=None, reference_labels=None, *, anchor, temperature=0.07):
    met, positives, negatives = _met(embeddings, labels, references, reference_labels, anchor)
    if not positives:
        return []
    if not temperature > 0:
        return [mp.nan]
    s = _similarities(embeddings[anchor], met, 1 / mp.mpf(temperature))
    return [mp.fsum(_surprisal(s[p], [s[n] for n in negatives]) for p in positives)]


def supervised_contrastive_loss(
    embeddings, labels, references=None, reference_labels=None, *, anchor, temperature=0.1
):
    met, positives, negatives = _met(embeddings, labels, references, reference_labels, anchor)
    if not positives:
        return []
    if not temperature > 0:
        return [mp.nan]
    s = _similarities(embeddings[anchor], met, 1 / mp.mpf(temperature))
    others = {p: [s[i] for i in (*positives, *negatives) if i != p] for p in positives}
    return [_mean([_surprisal(s[p], others[p]) for p in positives])]


def multi_similarity_loss(
    embeddings,
    labels,
    references=None,
    reference_labels=None,
    *,
    anchor,
    alpha=2.0,
    beta=50.0,
    base=0.5,
):
    met, positives, negatives = _met(embeddings, labels, references, reference_labels, anchor)
    if not positives:
        return []
    if not (alpha > 0 and beta > 0):
        return [mp.nan]
    s = _similarities(embeddings[anchor], met)
    pull = mp.fsum(mp.exp(-alpha * (s[p] - base)) for p in positives)
    push = mp.fsum(mp.exp(beta * (s[n] - base)) for n in negatives)
    return [mp.log1p(pull) / alpha + mp.log1p(push) / beta]


@slopes(held=lambda *args, **options: {"weights": _circle_weights(*args, **options)})
def circle_loss(
    embeddings,
    labels,
    references=None,
    reference_labels=None,
    *,
    anchor,
    margin=0.25,
    gamma=256.0,
    weights=None,
):
    """`weights`, held constant for derivatives: those of `_circle_weights`, if not given."""
    data = embeddings, labels, references, reference_labels
    met, positives, negatives = _met(*data, anchor)
    if not positives or not negatives:
        return []
    if not gamma >= 0:
        return [mp.nan]
    if weights is None:
        weights = _circle_weights(*data, anchor=anchor, margin=margin)
    s = _similarities(embeddings[anchor], met)
    push = [gamma * weights[n] * (s[n] - margin) for n in negatives]
    pull = [-gamma * weights[p] * (s[p] - 1 + margin) for p in positives]
    return [softplus(_logsumexp(push) + _logsumexp(pull))]


def lifted_structure_loss(
    embeddings,
    labels,
    references=None,
    reference_labels=None,
    *,
    anchor,
    margin=mp.one,
    distance="euclidean",
):
    met, positives, negatives = _met(embeddings, labels, references, reference_labels, anchor)
    if not positives or not negatives:
        return []
    d = [_distance(embeddings[anchor], v, distance) for v in met]
    near, far = _logsumexp([d[p] for p in positives]), _logsumexp([-d[n] for n in negatives])
    terms = [near, far, margin]
    return [mp.zero] * 3 if mp.fsum(terms) <= 0 else terms


def n_pairs_loss(anchors, positives, labels=None, *, anchor):
    labels = range(len(anchors)) if labels is None else labels
    s = [mp.fdot(anchors[anchor], p) for p in positives]
    others = [s[j] for j, label in enumerate(labels) if label != labels[anchor]]
    return [_surprisal(s[anchor], others)]


def info_nce_loss(
    queries,
    keys,
    given=None,
    *,
    anchor,
    temperature=None,
    logit_scale=None,
    symmetric=False,
):
    """`given`: labels, targets as whole numbers, or extra negatives."""
    scale = _scale(temperature, logit_scale, 1 / mp.mpf(0.07))
    if scale is None:
        return [mp.nan]
    rows = _shares(len(queries), given)
    extra = given if given and isinstance(given[0], list) and not _are_targets(given) else []
    loss = _matching(queries, keys, anchor, scale, rows, extra)
    if symmetric:
        columns = [list(column) for column in zip(*rows, strict=True)]
        loss = (loss + _matching(keys, queries, anchor, scale, columns)) / 2
    return [loss]


def clip_loss(images, texts, given=None, *, anchor, logit_scale=None, temperature=None):
    """`given`: labels, or targets as whole numbers."""
    scale = _scale(temperature, logit_scale, 1 / mp.mpf(0.07))
    if scale is None:
        return [mp.nan]
    rows = _shares(len(images), given)
    columns = [list(column) for column in zip(*rows, strict=True)]
    loss = _matching(images, texts, anchor, scale, rows)
    return [(loss + _matching(texts, images, anchor, scale, columns)) / 2]


def siglip_loss(
    images,
    texts,
    given=None,
    *,
    anchor,
    logit_scale=None,
    temperature=None,
    logit_bias=-10.0,
):
    """`given`: labels, or targets as whole numbers."""
    scale = _scale(temperature, logit_scale, mp.mpf(10))
    if scale is None:
        return [mp.nan]
    logits = [s + logit_bias for s in _similarities(images[anchor], texts, scale)]
    shares = _shares(len(images), given)[anchor]
    terms = [t * softplus(-x) + (1 - t) * softplus(x) for x, t in zip(logits, shares, strict=True)]
    return [mp.fsum(terms)]


def barlow_twins_loss(x, y, *, off_diagonal=5e-3, epsilon=mp.zero):
    """A feature that is constant over the batch correlates with none: 0."""
    if not epsilon >= 0:
        return [mp.nan]
    x, y = ([_standardised(f, epsilon) for f in _centred_features(batch)] for batch in (x, y))
    c = [[mp.fdot(u, v) / len(u) for v in y] for u in x]
    on = mp.fsum((1 - row[i]) ** 2 for i, row in enumerate(c))
    return [on + off_diagonal * _off_diagonal_squares(c)]


def vicreg_loss(x, y, *, invariance=25.0, variance=25.0, covariance=mp.one, epsilon=1e-4):
    """A batch of one example, which has no unbiased variance, is NaN."""
    if not epsilon >= 0 or len(x) == 1:
        return [mp.nan]
    errors = [(a - b) ** 2 for u, v in zip(x, y, strict=True) for a, b in zip(u, v, strict=True)]
    spreads, redundancies = [], []
    for features in (_centred_features(x), _centred_features(y)):
        c = [[mp.fdot(u, v) / (len(x) - 1) for v in features] for u in features]
        spreads += [mp.sqrt(row[i] + epsilon) for i, row in enumerate(c)]
        redundancies.append(_off_diagonal_squares(c) / len(c))
    short = [spread for spread in spreads if not spread >= 1]
    return [
        invariance * _mean(errors),
        variance * mp.mpf(len(short)) / len(spreads),
        -variance * mp.fsum(short) / len(spreads),
        covariance * mp.fsum(redundancies),
    ]


def _circle_weights(
    embeddings, labels, references=None, reference_labels=None, *, anchor, margin=0.25, **_
):
    """Of each partner, by whether it is a positive or a negative of the anchor."""
    met = embeddings if references is None else references
    theirs = labels if references is None else reference_labels
    s = _similarities(embeddings[anchor], met)
    same = [label == labels[anchor] for label in theirs]  # type: ignore
    lengths = [1 - x + margin if p else x + margin for x, p in zip(s, same, strict=True)]
    return [max(length, mp.zero) for length in lengths]


def _met(embeddings, labels, references, reference_labels, anchor):
    """Whom the anchor meets, and the indices of its positives and of its negatives among them."""
    if references is None:
        met, theirs = embeddings, labels
        others = [i for i in range(len(labels)) if i != anchor]
    else:
        met, theirs, others = references, reference_labels, range(len(references))
    same = [i for i in others if theirs[i] == labels[anchor]]
    return met, same, [i for i in others if i not in same]


def _similarities(u, vectors, scale=mp.one):
    return [scale * mp.fsum(cosine_similarity(u, v)) for v in vectors]


def _distance(u, v, distance):
    if distance == "cosine":
        return 1 - mp.fsum(cosine_similarity(u, v))
    gaps = [a - b for a, b in zip(u, v, strict=True)]
    if distance == "squared":
        return mp.fsum(gap**2 for gap in gaps)
    return mp.norm(gaps, 2 if distance == "euclidean" else distance)


def _mean(x):
    return mp.fsum(x) / len(x)


def _hinges(triplets, margin):
    """The sum of max(0, near - far + margin), as its three terms."""
    active = [(near, far) for near, far in triplets if not near - far + margin <= 0]
    near, far = mp.fsum(d for d, _ in active), mp.fsum(d for _, d in active)
    return [near, -far, product(len(active), margin)]


def _soft_hinges(triplets):
    """The sum of log(1 + exp(near - far)), as what each distance has in it, and the rest."""
    terms = []
    for near, far in triplets:
        share = 1 / (1 + mp.exp(far - near))
        terms += [share * near, -share * far, softplus(near - far) - share * (near - far)]
    return terms


def _surprisal(own, others):
    """-log(e^own / (e^own + sum e^others))."""
    return mp.log1p(mp.fsum(mp.exp(x - own) for x in others))


def _matching(queries, keys, i, scale, shares, extra=()):
    """The mean surprisal of the keys that belong to query i, by their shares, among all keys."""
    s = _similarities(queries[i], [*keys, *extra], scale)
    terms = [t * _surprisal(s[j], s[:j] + s[j + 1 :]) for j, t in enumerate(shares[i]) if t != 0]
    return mp.fsum(terms) / mp.fsum(shares[i]) if terms else mp.zero


def _are_targets(given):
    return isinstance(given[0], list) and isinstance(given[0][0], int)


def _shares(size, given):
    """How far each pair belongs together: by labels, by targets, or those of one place."""
    if given and _are_targets(given):
        return [list(map(mp.mpf, row)) for row in given]
    labels = given if given and isinstance(given[0], int) else range(size)
    return [[mp.mpf(one == other) for other in labels] for one in labels]


def _scale(temperature, logit_scale, otherwise):
    """What cosines are multiplied by; None outside the domain."""
    if temperature is not None:
        return 1 / mp.mpf(temperature) if temperature > 0 else None
    if logit_scale is None:
        return otherwise
    return logit_scale if logit_scale >= 0 else None


def _logsumexp(x):
    top = max(x)
    return top + mp.log(mp.fsum(mp.exp(entry - top) for entry in x))


def _centred_features(batch):
    columns = [list(column) for column in zip(*batch, strict=True)]
    return [[entry - _mean(column) for entry in column] for column in columns]


def _standardised(centred, epsilon):
    deviation = mp.sqrt(_mean([entry**2 for entry in centred]) + epsilon)
    return [entry / deviation if deviation else mp.zero for entry in centred]


def _off_diagonal_squares(matrix):
    return mp.fsum(x**2 for i, row in enumerate(matrix) for j, x in enumerate(row) if i != j)
