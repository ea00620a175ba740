"""One image: lists of pixels, however nested, of lists over the classes.

Targets are of that shape, or a map of the numbers of the classes; with a single class a map holds
the targets themselves. Only the generalised Dice couples the images of a batch, and takes one.
"""

from mpmath import mp

from tests.laws.arithmetic import flat, one_hot, product, sigmoid, softmax
from tests.laws.slopes import slopes


def dice_loss(predictions, targets, **options):
    return _tversky(predictions, targets, **options)


def tversky_loss(predictions, targets, **options):
    return _tversky(predictions, targets, **options)


def focal_tversky_loss(predictions, targets, *, gamma=0.75, **options):
    return _tversky(predictions, targets, gamma=gamma, **options)


def jaccard_loss(predictions, targets, **options):
    return _tversky(predictions, targets, alpha=1, beta=1, **options)


def binary_dice_loss(predictions, targets, *, smooth=mp.one, apply_sigmoid=True):
    p, t = flat(predictions), flat(targets)
    return [_overlap_loss([sigmoid(x) for x in p] if apply_sigmoid else p, t, smooth, 0.5, 0.5)]


def multiclass_generalized_dice_loss(
    predictions,
    targets,
    *,
    smooth=mp.one,
    apply_softmax=True,
    ignore_background=False,
    epsilon=1e-7,
):
    """A batch of images, or one image given as a list of pixels."""
    if not isinstance(predictions[0][0], list):
        predictions, targets = [predictions], [targets]
    # Weights 1 / (frequency^2 + epsilon) over the batch, of mean 1.
    maps = [_one_hot(t, p) for p, t in zip(predictions, targets, strict=True)]
    frequencies = [mp.fsum(column) for column in _columns([row for t in maps for row in t])]
    weights = [1 / (frequency**2 + epsilon) for frequency in frequencies]
    mean = mp.fsum(weights) / len(weights)
    return [
        term / len(predictions)
        for p, t in zip(predictions, targets, strict=True)
        for term in _tversky(
            p,
            t,
            class_weights=[weight / mean for weight in weights],
            smooth=smooth,
            apply_softmax=apply_softmax,
            ignore_background=ignore_background,
        )
    ]


@slopes(constant=(1,))
def lovasz_hinge_loss(logits, labels):
    positive = [t > 0 for t in flat(labels)]
    margins = [1 - x if t else 1 + x for x, t in zip(flat(logits), positive, strict=True)]
    return _lovasz([max(m, mp.zero) for m in margins], positive)


@slopes(constant=(1,))
def lovasz_softmax_loss(
    predictions, labels, *, apply_softmax=True, classes="present", class_weights=None
):
    probabilities = _probabilities(predictions, apply_softmax)
    targets = _one_hot(labels, predictions)
    if any(mp.isnan(t) for t in flat(targets)):
        return [mp.nan]
    losses = []
    columns = _columns(probabilities), _columns(targets)
    weights = [mp.one] * len(columns[0]) if class_weights is None else class_weights
    for p, t, weight in zip(*columns, weights, strict=True):
        positive = [x > 0 for x in t]
        if classes == "all" or any(positive):
            errors = [1 - x if y else x for x, y in zip(p, positive, strict=True)]
            losses.append([product(weight, term) for term in _lovasz(errors, positive)])
    return [term / len(losses) for terms in losses for term in terms]


def _tversky(
    predictions,
    targets,
    *,
    class_weights=None,
    smooth=mp.one,
    alpha=0.5,
    beta=0.5,
    gamma=mp.one,
    apply_softmax=True,
    class_reduction="mean",
    ignore_background=False,
):
    if class_reduction not in ("mean", "sum"):
        raise ValueError(f"no single number with class_reduction={class_reduction}")
    probabilities = _probabilities(predictions, apply_softmax)
    targets = _one_hot(targets, predictions)
    losses = [
        _overlap_loss(p, t, smooth, alpha, beta) ** gamma
        for p, t in zip(_columns(probabilities), _columns(targets), strict=True)
    ]
    if class_weights is not None:
        losses = [product(w, loss) for w, loss in zip(class_weights, losses, strict=True)]
    if ignore_background and len(losses) > 1:
        losses = losses[1:]
    return [loss / len(losses) if class_reduction == "mean" else loss for loss in losses]


def _overlap_loss(p, t, smooth, alpha, beta):
    """1 - (I + s) / (I + alpha FP + beta FN + s), as one fraction."""
    both = mp.fsum(a * b for a, b in zip(p, t, strict=True))
    misses = alpha * (mp.fsum(p) - both) + beta * (mp.fsum(t) - both)
    return misses / (both + misses + smooth)


def _lovasz(errors, positive):
    """Each error times the step of the Jaccard loss as it is included, the largest first."""
    terms, before = [mp.zero] * len(errors), mp.zero
    positives = sum(positive)
    hits, extra = positives, 0
    for i in sorted(range(len(errors)), key=lambda i: errors[i], reverse=True):
        hits, extra = hits - positive[i], extra + (not positive[i])
        after = 1 - mp.mpf(hits) / (positives + extra)
        terms[i] = product(after - before, errors[i])
        before = after
    return terms


def _probabilities(predictions, from_logits):
    rows = _rows(predictions)
    if not from_logits:
        return rows
    return [[sigmoid(*row)] if len(row) == 1 else softmax(row)[1] for row in rows]


def _one_hot(targets, predictions):
    rows = _rows(predictions)
    if _depth(targets) == _depth(predictions):
        return _rows(targets)
    if len(rows[0]) == 1:
        return [[mp.mpf(t)] for t in flat(targets)]
    return [one_hot(t, len(rows[0])) for t in flat(targets)]


def _rows(x):
    """The innermost lists."""
    return [row for part in x for row in _rows(part)] if isinstance(x[0], list) else [x]


def _columns(rows):
    return [list(column) for column in zip(*rows, strict=True)]


def _depth(x):
    return 1 + _depth(x[0]) if isinstance(x, list) else 0
