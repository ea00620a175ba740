"""Two classes, elementwise, and several labels at once, for which logits and labels are lists.

A label outside [0, 1] gives NaN in the cross-entropies. Labels of margins and signs only select:
above 0 is positive, all others are negative.
"""

from mpmath import mp

from tests.laws.arithmetic import focal, hinge, product, sigmoid, softplus
from tests.laws.slopes import slopes


def sigmoid_binary_cross_entropy(logits, labels, *, pos_weight=mp.one, label_smoothing=mp.zero):
    labels = _smoothed(labels, label_smoothing)
    return [product(pos_weight * labels, softplus(-logits)), product(1 - labels, softplus(logits))]


def _at_the_clamp(args, options, wrt, at):
    """Where epsilon clamps a prediction, the slope is that of the loss at the clamp."""
    if wrt != 0 or not 0 <= at <= 1:
        return options, at
    epsilon = options.get("epsilon", mp.zero)
    free = {name: value for name, value in options.items() if name != "epsilon"}
    return free, min(max(at, epsilon), 1 - epsilon)


@slopes(at=_at_the_clamp)
def binary_cross_entropy(
    predictions, labels, *, pos_weight=mp.one, label_smoothing=mp.zero, epsilon=mp.zero
):
    if not 0 <= predictions <= 1:
        return [mp.nan, mp.nan]
    labels = _smoothed(labels, label_smoothing)
    predictions = min(max(predictions, epsilon), 1 - epsilon)
    return [
        -product(pos_weight * labels, mp.log(predictions)),
        -product(1 - labels, mp.log(1 - predictions)),
    ]


def sigmoid_focal_loss(logits, labels, *, alpha=None, gamma=2, apply_sigmoid=True):
    labels = _smoothed(labels, 0)
    if apply_sigmoid:
        p, q, yes, no = sigmoid(logits), sigmoid(-logits), softplus(-logits), softplus(logits)
    elif 0 <= logits <= 1:
        p, q = logits, 1 - logits
        yes, no = (-mp.log(x) if x else mp.inf for x in (p, q))
    else:
        return [mp.nan, mp.nan]
    doubt = (1 - labels) * p + labels * q
    weight = 1 if alpha is None else alpha * labels + (1 - alpha) * (1 - labels)
    return [
        product(weight * labels, focal(yes, doubt, gamma)),
        product(weight * (1 - labels), focal(no, doubt, gamma)),
    ]


@slopes(constant=(1,))
def soft_margin_loss(predictor_outputs, targets):
    return [softplus(-_sign(targets) * predictor_outputs)]


@slopes(constant=(1,))
def hinge_loss(predictor_outputs, targets):
    return [max(1 - _sign(targets) * predictor_outputs, mp.zero)]


@slopes(constant=(1,))
def squared_hinge_loss(predictor_outputs, targets):
    return [max(1 - _sign(targets) * predictor_outputs, mp.zero) ** 2]


@slopes(constant=(1,))
def perceptron_loss(predictor_outputs, targets):
    return [max(-_sign(targets) * predictor_outputs, mp.zero)]


@slopes(constant=(1,))
def sparsemax_loss(logits, labels):
    z = -_sign(labels) * logits
    if z <= -1:
        return [mp.zero]
    return [z if z >= 1 else (z + 1) ** 2 / 4]


def asymmetric_loss(logits, labels, *, gamma_negative=4, gamma_positive=1, clip=0.05):
    if not 0 <= clip <= 1:
        return [mp.nan, mp.nan]
    labels = _smoothed(labels, 0)
    p, complement = sigmoid(logits), sigmoid(-logits)
    shifted = max(p - clip, mp.zero)
    # 1 - shifted, where it is small, by its own exponential.
    negative = -mp.log1p(-shifted) if shifted < 0.5 else -mp.log(complement + clip)
    return [
        product(labels, focal(softplus(-logits), complement, gamma_positive)),
        product(1 - labels, focal(negative, shifted, gamma_negative)),
    ]


@slopes(constant=(1,))
def multilabel_margin_loss(scores, labels, *, margin=mp.one, class_weights=None):
    positives, negatives = _split(scores, labels)
    weights, _ = _split(class_weights or [mp.one] * len(labels), labels)
    return [
        product(weight, term) / len(scores)
        for a, weight in zip(positives, weights, strict=True)
        for b in negatives
        for term in hinge(margin, b - a)
    ]


def multilabel_soft_margin_loss(logits, labels, *, class_weights=None):
    weights = [mp.one] * len(logits) if class_weights is None else class_weights
    return [
        product(weight, term) / len(logits)
        for x, y, weight in zip(logits, labels, weights, strict=True)
        for term in sigmoid_binary_cross_entropy(x, y)
    ]


@slopes(constant=(1,))
def zlpr_loss(logits, labels, *, class_weights=None):
    positives, negatives = _split(logits, labels)
    above, below = _split(class_weights or [mp.one] * len(labels), labels)
    return [
        mp.log1p(mp.fsum(product(w, mp.exp(x)) for w, x in zip(below, negatives, strict=True))),
        mp.log1p(mp.fsum(product(w, mp.exp(-x)) for w, x in zip(above, positives, strict=True))),
    ]


def _smoothed(label, smoothing):
    return (1 - smoothing) * label + mp.mpf(smoothing) / 2 if 0 <= label <= 1 else mp.nan


def _sign(label):
    return label if mp.isnan(label) else mp.mpf(1 if label > 0 else -1)


def _split(scores, labels):
    """The scores of positive and of negative labels."""
    signs = [_sign(y) for y in labels]
    return [
        [x for x, s in zip(scores, signs, strict=True) if s == sign or mp.isnan(s)]
        for sign in (1, -1)
    ]
