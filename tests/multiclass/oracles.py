"""Exclusive classes. Logits and soft labels are lists over the classes, a label is an int.

A label outside the classes gives NaN.
"""

from mpmath import mp

from tests.laws.arithmetic import flat, focal, hinge, one_hot, product, smoothed, softmax
from tests.laws.slopes import slopes


def _in_an_absent_class(args, options, wrt):
    """A class whose logit is -inf is not there: no slope in its logit; its label has to be 0."""
    if not isinstance(wrt, tuple) or flat(args[0])[wrt[1][0]] != -mp.inf:
        return None
    if wrt[0] == 1:
        raise ValueError("no derivative in the label of a class that is not there")
    return mp.zero


@slopes(limit=_in_an_absent_class)
def softmax_cross_entropy(
    logits,
    labels,
    *,
    class_weights=None,
    label_smoothing=mp.zero,
    z_loss=mp.zero,
    logit_softcap=None,
    temperature=mp.one,
):
    logits = [x if x == -mp.inf else _capped(x, logit_softcap) / temperature for x in flat(logits)]
    surprisals, _, _ = softmax(logits)
    labels, weights = _weighed(labels, class_weights, len(logits))
    targets = smoothed(labels, label_smoothing, _there(logits))
    # Any class gives logsumexp(x) = x - log p.
    top = logits.index(max(logits))
    normaliser = logits[top] + surprisals[top]
    row_weight = mp.fsum(w * y for w, y in zip(weights, labels, strict=True))
    return [
        *(product(w * y, u) for w, y, u in zip(weights, targets, surprisals, strict=True)),
        product(z_loss * row_weight, normaliser**2),
    ]


safe_softmax_cross_entropy = softmax_cross_entropy


@slopes(limit=_in_an_absent_class)
def softmax_cross_entropy_with_integer_labels(logits, labels, **options):
    return softmax_cross_entropy(logits, labels, **options)


def nll_loss(log_predictions, labels, *, class_weights=None):
    labels, weights = _weighed(labels, class_weights, len(log_predictions))
    return [-product(w * y, x) for w, y, x in zip(weights, labels, log_predictions, strict=True)]


@slopes(limit=_in_an_absent_class)
def softmax_focal_loss(logits, labels, *, gamma=2, class_weights=None, label_smoothing=mp.zero):
    surprisals, _, doubts = softmax(logits)
    labels, weights = _weighed(labels, class_weights, len(logits))
    labels = smoothed(labels, label_smoothing, _there(logits))
    return [
        product(w * y, focal(u, doubt, gamma))
        for w, y, u, doubt in zip(weights, labels, surprisals, doubts, strict=True)
    ]


@slopes(limit=_in_an_absent_class)
def poly_loss_cross_entropy(
    logits, labels, *, epsilon=2, class_weights=None, label_smoothing=mp.zero
):
    surprisals, _, doubts = softmax(logits)
    labels, weights = _weighed(labels, class_weights, len(logits))
    weighed = [
        w * y
        for w, y in zip(weights, smoothed(labels, label_smoothing, _there(logits)), strict=True)
    ]
    return [
        *(product(y, u) for y, u in zip(weighed, surprisals, strict=True)),
        *(epsilon * y * doubt for y, doubt in zip(weighed, doubts, strict=True)),
    ]


@slopes(limit=_in_an_absent_class)
def generalized_cross_entropy(logits, labels, *, q=0.7, class_weights=None):
    if not 0 <= q <= 1:
        return [mp.nan] * len(logits)
    surprisals, _, _ = softmax(logits)
    labels, weights = _weighed(labels, class_weights, len(logits))
    losses = [u if q == 0 else -mp.expm1(-q * u) / q for u in surprisals]
    return [product(w * y, loss) for w, y, loss in zip(weights, labels, losses, strict=True)]


@slopes(limit=_in_an_absent_class)
def symmetric_cross_entropy(
    logits, labels, *, alpha=0.1, beta=mp.one, log_zero=-4, class_weights=None
):
    surprisals, probabilities, _ = softmax(logits)
    labels, weights = _weighed(labels, class_weights, len(logits))
    row_weight = mp.fsum(w * y for w, y in zip(weights, labels, strict=True))
    logarithms = [max(_log(y), log_zero) for y in labels]
    return [
        *(product(alpha * w * y, u) for w, y, u in zip(weights, labels, surprisals, strict=True)),
        *(
            -product(beta * row_weight * p, logarithm)
            for p, logarithm in zip(probabilities, logarithms, strict=True)
        ),
    ]


def smooth_labels(labels, *, alpha, anchor):
    """No loss: the label of the class `anchor`."""
    return [smoothed(labels, alpha)[anchor] if 0 <= alpha <= 1 else mp.nan]


def sequence_log_probabilities(logits, tokens, *, normalize=False):
    """No loss; logits are a list over the tokens of lists over the vocabulary."""
    count = len(tokens) if normalize else 1
    return [
        -term / count
        for x, token in zip(logits, tokens, strict=True)
        for term in nll_loss([-u for u in softmax(x)[0]], token)
    ]


def multi_margin_loss(scores, labels, *, p=1, margin=mp.one, class_weights=None):
    if not 0 <= labels < len(scores):
        return [mp.nan]
    _, weights = _weighed(labels, class_weights, len(scores))
    return [
        product(weights[labels], term) / len(scores)
        for i, score in enumerate(scores)
        if i != labels
        for term in hinge(margin, score - scores[labels], p)
    ]


def multiclass_hinge_loss(scores, labels, *, margin=mp.one, class_weights=None):
    if not 0 <= labels < len(scores):
        return [mp.nan]
    _, weights = _weighed(labels, class_weights, len(scores))
    rival = max((x for j, x in enumerate(scores) if j != labels), default=-mp.inf)
    return [product(weights[labels], term) for term in hinge(margin, rival - scores[labels])]


def multiclass_perceptron_loss(scores, labels, *, class_weights=None):
    return multiclass_hinge_loss(scores, labels, margin=mp.zero, class_weights=class_weights)


def multiclass_sparsemax_loss(scores, labels, *, class_weights=None):
    if not 0 <= labels < len(scores) or not all(x < mp.inf for x in scores):
        return [mp.nan]
    _, weights = _weighed(labels, class_weights, len(scores))
    threshold = _sparsemax_threshold(scores)
    probabilities = [max(x - threshold, mp.zero) for x in scores]
    terms = [(p - (c == labels)) ** 2 / 2 for c, p in enumerate(probabilities)]
    terms.append(max(threshold - scores[labels], mp.zero))
    return [product(weights[labels], term) for term in terms]


def _capped(x, cap):
    return x if cap is None or mp.isinf(cap) else cap * mp.tanh(x / cap)


def _weighed(labels, class_weights, classes):
    """Labels and weights of the classes."""
    weights = [mp.one] * classes if class_weights is None else flat(class_weights)
    return one_hot(labels, classes), weights


def _there(logits):
    return [x != -mp.inf for x in logits]


def _log(label):
    return mp.log(label) if label >= 0 else mp.nan


def _sparsemax_threshold(scores):
    """The number whose excesses sum to 1: that of the most scores that all exceed it."""
    total, threshold = mp.zero, -mp.inf
    for count, x in enumerate(sorted(scores, reverse=True), 1):
        total += x
        if not x > (total - 1) / count:
            break
        threshold = (total - 1) / count
    return threshold
